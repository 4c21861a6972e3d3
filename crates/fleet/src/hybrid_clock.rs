//! Versions of registers: hybrid logical time, 48 bits of Unix milliseconds and 16 bits that count within one.
//!
//! A version made after another was seen is higher than it, whatever the wall clocks say; so an order that follows an
//! operator's withdrawal is never swallowed by it, and a withdrawal ends all that its author knew of.

/// Makes versions. Fed with every version seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// The next version: above all seen, and not before `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> u64 {
        self.last = version_at(now_ms).max(self.last.saturating_add(1));
        self.last
    }

    /// Takes note of a version made elsewhere. The caller has refused those from the far future.
    pub fn observe(&mut self, version: u64) {
        self.last = self.last.max(version);
    }
}

/// The lowest version of a millisecond.
pub fn version_at(at_ms: u64) -> u64 {
    (at_ms & 0xffff_ffff_ffff) << 16
}

/// The wall time in a version, in Unix milliseconds.
pub fn version_ms(version: u64) -> u64 {
    version >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_rise_whatever_the_wall_clock_does(times in proptest::collection::vec(0u64..1 << 47, 1..50)) {
            let mut clock = HybridClock::default();
            let mut last = 0;
            for now_ms in times {
                let version = clock.tick(now_ms);
                prop_assert!(version > last);
                prop_assert!(version_ms(version) >= now_ms);
                last = version;
            }
        }

        #[test]
        fn a_version_follows_what_was_seen(seen: u64, now_ms in 0u64..1 << 47) {
            let mut clock = HybridClock::default();
            clock.observe(seen.min(u64::MAX - 1));
            prop_assert!(clock.tick(now_ms) > seen.min(u64::MAX - 1));
        }
    }
}
