//! How far automatic countermeasures may go.

use super::ladder::{Measure, Scope};
use crate::correlate::Gravity;
use crate::detect::Detector;

/// The bounds of a [`super::Responder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Pain that one order may cause, in millionths of the good traffic, by the gravity of its incident: low, medium, high, critical. What a false alarm
    /// may cost is what the attack could: a scan is worth one visitor in ten thousand, a campaign that takes data one in a hundred.
    pub order_pain_ppm: [u64; 4],
    /// What it costs a stranger to be asked for a proof once on a route, per cent of a visit: a moment, and nobody is turned away.
    pub asked_pain_percent: u64,
    /// How many times the pain of another order asking on a route may cause: where an attack goes on from everywhere, nothing else stops it.
    pub asked_times: u64,
    /// Pain that all orders together may cause.
    pub total_pain_ppm: u64,
    /// Pain that an order against a flood may cause that turns nobody away: what a flood costs, if it is let be, is everybody's visit.
    pub flood_pain_ppm: u64,
    /// Pain that raising an app's paranoia may cause from an incident of medium gravity on. It is a guess beforehand, and seen at once when it is
    /// in force: three regular visitors who are refused end it.
    pub raised_pain_ppm: u64,
    /// Honest actors that an order may turn away. One or two share an address with somebody by chance; more are a network of many.
    pub refused_actors_max: u32,
    /// Honest actors of one address that may be slowed down or asked for a proof, whatever their share is: where few people come, each is a large part.
    pub bothered_actors_max: u32,
    /// Orders in force.
    pub orders_max: usize,
    /// Orders of one incident.
    pub orders_per_case_max: usize,
    /// Orders about more than an address.
    pub wide_orders_max: usize,
    /// The widest prefix: IPv4, IPv6.
    pub prefix_bits_min: (u8, u8),
    /// How long a suspect's first order holds; each further one twice as long,
    pub first_ms: u64,
    /// up to this.
    pub longest_ms: u64,
    /// An order has taken hold everywhere after this time; what is seen later went around it.
    pub settle_ms: u64,
    /// A flood is over when nothing was seen of it for so long.
    pub flood_over_ms: u64,
    /// Known-good actors that were refused under an order from which it hurts,
    pub toll_actors: u32,
    /// and their share of those who came, per cent.
    pub toll_percent: u32,
    /// How long a rung that hurt is not tried again.
    pub barred_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            order_pain_ppm: [0, 100, 1_000, 10_000],
            asked_pain_percent: 1,
            asked_times: 5,
            total_pain_ppm: 20_000,
            flood_pain_ppm: 100_000,
            raised_pain_ppm: 10_000,
            refused_actors_max: 2,
            bothered_actors_max: 64,
            orders_max: 1_024,
            orders_per_case_max: 512,
            wide_orders_max: 16,
            prefix_bits_min: (24, 48),
            first_ms: 10 * 60_000,
            longest_ms: 4 * 60 * 60_000,
            settle_ms: 5_000,
            flood_over_ms: 60_000,
            toll_actors: 3,
            toll_percent: 2,
            barred_ms: 60 * 60_000,
        }
    }
}

impl Limits {
    /// What one order may cost, and all orders together: against what a detector found in an incident of this gravity, by this rung.
    pub(super) fn pain_of(&self, gravity: Gravity, detector: Detector, rung: (Measure, Scope)) -> (u64, u64) {
        let most_ppm = match rung {
            (Measure::Challenge, Scope::Route) => self.asked_ppm(gravity),
            (Measure::RaiseParanoia, _) if gravity >= Gravity::Medium => self.raised_pain_ppm,
            _ => self.pain_ppm(gravity),
        };
        if detector == Detector::Flood && !rung.0.refuses() {
            return (most_ppm.max(self.flood_pain_ppm), self.total_pain_ppm.max(self.flood_pain_ppm));
        }
        (most_ppm, self.total_pain_ppm)
    }

    /// What one order may cost in an incident of this gravity.
    pub fn pain_ppm(&self, gravity: Gravity) -> u64 {
        let [low, medium, high, critical] = self.order_pain_ppm;
        match gravity {
            Gravity::Low => low,
            Gravity::Medium => medium,
            Gravity::High => high,
            Gravity::Critical => critical,
        }
    }

    /// What asking strangers on a route may cost in an incident of this gravity.
    pub fn asked_ppm(&self, gravity: Gravity) -> u64 {
        self.pain_ppm(gravity).saturating_mul(self.asked_times)
    }
}
