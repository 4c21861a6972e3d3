//! A minute of an app or a route, and what it amounts to.

use crate::event::{Event, Method, Subject};
use crate::sketch::Hll;
use phalanx_model::Country;

/// What is compared with the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trait {
    Requests,
    Clients,
    Refused,
    Failed,
    Writes,
    RareMethods,
    Size,
    LargeSize,
    Latency,
    HighLatency,
    Strangers,
}

impl Trait {
    pub(super) const ALL: [Self; TRAITS] = [
        Self::Requests,
        Self::Clients,
        Self::Refused,
        Self::Failed,
        Self::Writes,
        Self::RareMethods,
        Self::Size,
        Self::LargeSize,
        Self::Latency,
        Self::HighLatency,
        Self::Strangers,
    ];

    /// Whether it is a part of all requests; else it is a logarithm to the base of two.
    pub(super) fn is_share(self) -> bool {
        matches!(self, Self::Refused | Self::Failed | Self::Writes | Self::RareMethods | Self::Strangers)
    }

    /// What now is, beside what is usual, in plain words.
    pub(super) fn says(self, now: f32, usual: f32) -> String {
        let percent = |share: f32| format!("{:.0} %", share * 100.0);
        let number = |power: f32| format!("{:.0}", (power.exp2() - 1.0).max(0.0));
        let (now_is, usually) = match self {
            Self::Requests => (format!("{} requests in a minute", number(now)), number(usual)),
            Self::Clients => (format!("{} clients in a minute", number(now)), number(usual)),
            Self::Refused => (format!("{} missing or refused", percent(now)), percent(usual)),
            Self::Failed => (format!("{} failed", percent(now)), percent(usual)),
            Self::Writes => (format!("{} change something", percent(now)), percent(usual)),
            Self::RareMethods => (format!("{} with rare methods", percent(now)), percent(usual)),
            Self::Size => (format!("half of the answers beyond {} bytes", number(now)), number(usual)),
            Self::LargeSize => (format!("one answer of twenty beyond {} bytes", number(now)), number(usual)),
            Self::Latency => (format!("half of the answers later than {} us", number(now)), number(usual)),
            Self::HighLatency => {
                (format!("one answer of twenty later than {} us", number(now)), number(usual))
            }
            Self::Strangers => {
                (format!("{} from countries that hardly anybody comes from", percent(now)), percent(usual))
            }
        };
        format!("{now_is} (usually {usually})")
    }
}

/// How many things are compared.
pub(super) const TRAITS: usize = 11;

/// A minute.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    pub(super) minute: u64,
    requests: u32,
    refused: u32,
    failed: u32,
    writes: u32,
    rare_methods: u32,
    strangers: u32,
    clients: Hll,
    sizes: Powers,
    latencies: Powers,
    /// Countries of the minute; further ones are nobody's.
    pub(super) countries: Vec<(Country, u32)>,
}

impl Window {
    /// A minute of which nothing came yet.
    pub(super) fn of(minute: u64) -> Self {
        Self { minute, ..Self::default() }
    }

    /// Counts a request; whoever keeps what is usual says whether it is a stranger's.
    pub(super) fn add(&mut self, event: &Event, is_stranger: bool) {
        let more = |count: &mut u32, is_so: bool| *count = count.saturating_add(u32::from(is_so));
        more(&mut self.requests, true);
        more(&mut self.refused, (400..500).contains(&event.status));
        more(&mut self.failed, event.status >= 500);
        more(&mut self.writes, !matches!(event.method, Method::Get | Method::Head | Method::Options));
        more(&mut self.rare_methods, !matches!(event.method, Method::Get | Method::Head | Method::Post));
        more(&mut self.strangers, is_stranger);
        self.clients.insert(Subject::address(event.ip).id);
        self.sizes.add(event.response_bytes);
        self.latencies.add(event.latency_us);
        let Some(country) = event.country else { return };
        if let Some((_, count)) = self.countries.iter_mut().find(|(known, _)| *known == country) {
            *count = count.saturating_add(1);
        } else if self.countries.len() < COUNTRIES_MAX {
            self.countries.push((country, 1));
        }
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// What it amounts to.
    pub(super) fn traits(&self) -> [f32; TRAITS] {
        let share = |count: u32| ratio(count, self.requests);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no more than requests")]
        let clients = self.clients.estimate().round() as u64;
        [
            power(u64::from(self.requests)),
            power(clients),
            share(self.refused),
            share(self.failed),
            share(self.writes),
            share(self.rare_methods),
            self.sizes.quantile(50),
            self.sizes.quantile(95),
            self.latencies.quantile(50),
            self.latencies.quantile(95),
            share(self.strangers),
        ]
    }
}

/// Numbers by half powers of two: what is compared need not be known better.
#[derive(Debug, Clone)]
struct Powers([u16; POWERS]);

impl Default for Powers {
    fn default() -> Self {
        Self([0; POWERS])
    }
}

impl Powers {
    fn add(&mut self, number: u64) {
        let number = number.saturating_add(1);
        let whole = number.ilog2();
        let half = if whole > 0 { number >> (whole - 1) & 1 } else { 0 };
        let place = usize::try_from(2 * u64::from(whole) + half).unwrap_or(POWERS);
        if let Some(count) = self.0.get_mut(place.min(POWERS - 1)) {
            *count = count.saturating_add(1);
        }
    }

    /// The power of two that so many of a hundred are not beyond.
    fn quantile(&self, percent: u64) -> f32 {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let rank = all.saturating_sub(1) * percent / 100;
        let mut before = 0;
        let place = self.0.iter().position(|count| {
            before += u64::from(*count);
            before > rank
        });
        place.and_then(|place| u16::try_from(place).ok()).map_or(0.0, |place| f32::from(place) / 2.0)
    }
}

/// The logarithm to the base of two, of a number and one.
#[expect(clippy::cast_precision_loss, reason = "the error lies far below what is compared")]
fn power(number: u64) -> f32 {
    (number as f32 + 1.0).log2()
}

#[expect(clippy::cast_precision_loss, reason = "the error lies far below what is compared")]
pub(super) fn ratio(part: u32, all: u32) -> f32 {
    part as f32 / all.max(1) as f32
}

const POWERS: usize = 96;
const COUNTRIES_MAX: usize = 32;
