//! Chance that a seed decides.

use phalanx_learn::sketch::mix;

/// A row of numbers that follows from its seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x51ed_270b))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True `of_thousand` times in a thousand.
    pub(crate) fn chance(&mut self, of_thousand: u64) -> bool {
        self.below(1_000) < of_thousand
    }

    pub(crate) fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        from.get(self.place(from.len())).copied().unwrap_or_default()
    }

    /// One of so many places.
    pub(crate) fn place(&mut self, places: usize) -> usize {
        usize::try_from(self.below(u64::try_from(places).unwrap_or(1))).unwrap_or(0)
    }

    /// How many of a rate per hour fall into a second.
    pub(crate) fn in_a_second(&mut self, per_hour: u64) -> u64 {
        per_hour / 3_600 + u64::from(self.below(3_600) < per_hour % 3_600)
    }
}
