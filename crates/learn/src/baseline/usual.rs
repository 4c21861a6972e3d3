//! What is usual: of all minutes lately, of an hour of the day, of an hour of the week.
//!
//! A minute teaches a little, and never more than twice the spread beyond the mean: what is usual of an hour of the week moves by a
//! third of its spread in a week at most, of an hour of the day by a seventh in a day. Whoever wants what they do to be usual needs
//! months. The spread itself grows by a half of what a minute teaches at most.

use super::window::{TRAITS, Trait};
use crate::sketch::wire::{Reader, Writer};

/// Means and mean distances from them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Usual {
    mean: [f32; TRAITS],
    spread: [f32; TRAITS],
    /// Minutes that it was learned from, no more than [`MINUTES_MAX`].
    minutes: u16,
}

/// How far one trait is from the usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Distance {
    pub(super) of: Trait,
    /// In spreads.
    pub(super) spreads: f32,
    pub(super) now: f32,
    pub(super) usual: f32,
}

impl Usual {
    pub(super) fn new() -> Self {
        Self { mean: [0.0; TRAITS], spread: [0.0; TRAITS], minutes: 0 }
    }

    /// Learns from a minute; a later one weighs one in `memory`.
    pub(super) fn learn(&mut self, now: &[f32; TRAITS], memory: u16) {
        self.minutes = self.minutes.saturating_add(1).min(MINUTES_MAX);
        let weight = 1.0 / f32::from(self.minutes.min(memory));
        let is_known = self.minutes > WARM_MINUTES;
        for ((mean, spread), (now, of)) in
            self.mean.iter_mut().zip(&mut self.spread).zip(now.iter().zip(Trait::ALL))
        {
            let least = least_spread(of);
            let wide = spread.max(least);
            let step = if is_known { (now - *mean).clamp(-2.0 * wide, 2.0 * wide) } else { now - *mean };
            let distance = if is_known { step.abs().min(1.5 * wide) } else { step.abs() };
            *mean += weight * step;
            *spread += weight * (distance - *spread);
        }
    }

    /// Whether enough minutes taught it.
    pub(super) fn is_useful(&self, minutes: u16) -> bool {
        self.minutes >= minutes
    }

    /// How many taught it.
    pub(super) fn minutes(&self) -> u16 {
        self.minutes
    }

    /// How far a minute with so many requests is from it.
    pub(super) fn distances(&self, now: &[f32; TRAITS], requests: u32) -> impl Iterator<Item = Distance> {
        let noise = 1.0 / f32::from(u16::try_from(requests).unwrap_or(u16::MAX).max(1)).sqrt();
        let all = self.mean.iter().zip(&self.spread).zip(now.iter().zip(Trait::ALL));
        all.map(move |((&usual, spread), (&now, of))| {
            // Of few requests shares and means are chance.
            let chance = if of.is_share() {
                noise * (usual.max(0.05) * (1.0 - usual.min(0.95))).sqrt()
            } else {
                noise
            };
            let spread = spread.max(least_spread(of)).max(chance);
            let change = (now - usual).abs();
            let is_much = change >= if of.is_share() { 0.1 } else { 1.0 };
            Distance { of, spreads: if is_much { change / spread } else { 0.0 }, now, usual }
        })
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.number(u64::from(self.minutes));
        self.mean.iter().chain(&self.spread).for_each(|number| out.number(fixed(*number)));
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<Self> {
        let mut usual = Self::new();
        usual.minutes = u16::try_from(input.number()?).ok().filter(|of| (1..=MINUTES_MAX).contains(of))?;
        for number in usual.mean.iter_mut().chain(&mut usual.spread) {
            let fixed = u32::try_from(input.number()?).ok().filter(|of| *of <= FIXED_MAX)?;
            #[expect(clippy::cast_precision_loss, reason = "below 2^20, which a float holds")]
            let float = fixed as f32;
            *number = float / FIXED;
        }
        Some(usual)
    }
}

fn fixed(number: f32) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and FIXED_MAX")]
    let number = (number * FIXED).round().max(0.0) as u32;
    u64::from(number.min(FIXED_MAX))
}

/// What is nearer than this is the same.
fn least_spread(of: Trait) -> f32 {
    if of.is_share() { 0.015 } else { 0.2 }
}

/// Minutes after which one alone does not teach much.
const WARM_MINUTES: u16 = 30;
const MINUTES_MAX: u16 = 10_000;
/// Fractions in the compact form, and its greatest number: 64.
const FIXED: f32 = 16_384.0;
const FIXED_MAX: u32 = 1 << 20;
