//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling): one point in time per key says all.
//!
//! The theoretical arrival time is when the next request would come, were they evenly spaced. A request conforms when it is not
//! earlier than that by more than the tolerance, which is what a burst takes.

/// How often requests are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between two requests that come evenly, in nanoseconds; at least 1.
    pub interval_ns: u64,
    /// Requests that may come at once; at least 1.
    pub burst: u32,
}

impl Pace {
    /// `count` requests in `period_ms`, `burst` of them at once.
    pub fn new(count: u32, period_ms: u64, burst: u32) -> Self {
        let interval_ns = period_ms.saturating_mul(1_000_000) / u64::from(count.max(1));
        Self { interval_ns: interval_ns.max(1), burst: burst.max(1) }
    }

    /// How much earlier than its time a request may come.
    pub fn tolerance_ns(self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst.saturating_sub(1)))
    }

    /// How far ahead of now the time of the next request may be for this one to conform with nothing left.
    pub fn full_ns(self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst))
    }

    /// This part of it, in millionths; the burst stays at least 1.
    pub fn part(self, millionths: u32) -> Self {
        let part = u64::from(millionths.clamp(1, WHOLE));
        let burst = u64::from(self.burst).saturating_mul(part) / u64::from(WHOLE);
        Self {
            interval_ns: self.interval_ns.saturating_mul(u64::from(WHOLE)) / part,
            burst: u32::try_from(burst).unwrap_or(u32::MAX).max(1),
        }
    }

    /// So many nodes at this pace.
    pub fn times(self, nodes: u16) -> Self {
        let nodes = nodes.max(1);
        Self {
            interval_ns: (self.interval_ns / u64::from(nodes)).max(1),
            burst: self.burst.saturating_mul(u32::from(nodes)),
        }
    }

    /// How long a request must wait, given the time at which the next one would be even; 0 if it conforms.
    pub fn wait_ns(self, next_ns: u64, now_ns: u64) -> u64 {
        next_ns.saturating_sub(now_ns.saturating_add(self.tolerance_ns()))
    }

    /// How many requests would conform at once.
    pub fn left(self, next_ns: u64, now_ns: u64) -> u32 {
        let spare = self.full_ns().saturating_sub(next_ns.saturating_sub(now_ns));
        u32::try_from(spare / self.interval_ns.max(1)).unwrap_or(u32::MAX)
    }

    /// The time of the next request after `count` more.
    pub fn after(self, next_ns: u64, count: u32, now_ns: u64) -> u64 {
        next_ns.max(now_ns).saturating_add(self.interval_ns.saturating_mul(u64::from(count)))
    }
}

/// Millionths in a whole.
pub const WHOLE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any stretch of time no more than the burst and the rate's worth, and never less when there was demand.
        #[test]
        fn any_stretch_of_time_admits_the_burst_and_the_rate(
            count in 1u32..50, period_ms in 10u64..5_000, burst in 1u32..50,
            gaps in prop::collection::vec(0u64..400_000_000, 1..200),
        ) {
            let pace = Pace::new(count, period_ms, burst.min(count));
            let (mut now_ns, mut next_ns) = (1_000_000_000, 0);
            let mut admitted: Vec<u64> = Vec::new();
            for gap in gaps {
                now_ns += gap;
                if pace.wait_ns(next_ns, now_ns) == 0 {
                    next_ns = pace.after(next_ns, 1, now_ns);
                    admitted.push(now_ns);
                }
            }
            for (first, &from) in admitted.iter().enumerate() {
                for (last, &to) in admitted.iter().enumerate().skip(first) {
                    let most = u64::from(pace.burst) + (to - from) / pace.interval_ns;
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }
    }

    #[test]
    fn what_is_left_is_what_would_be_admitted() {
        let pace = Pace::new(10, 60_000, 5);
        let now_ns = 1_000_000_000_000;
        let mut next_ns = 0;
        for left in [5, 4, 3, 2, 1] {
            assert_eq!((pace.left(next_ns, now_ns), pace.wait_ns(next_ns, now_ns)), (left, 0));
            next_ns = pace.after(next_ns, 1, now_ns);
        }
        assert_eq!(pace.left(next_ns, now_ns), 0);
        assert!(pace.wait_ns(next_ns, now_ns) > 0);
        assert_eq!(pace.left(next_ns, now_ns + 6_000_000_000), 1);
    }

    #[test]
    fn a_part_keeps_one_request() {
        let pace = Pace::new(100, 10_000, 10);
        assert_eq!(pace.part(WHOLE), pace);
        assert_eq!(pace.part(WHOLE / 2), Pace { interval_ns: 200_000_000, burst: 5 });
        assert_eq!(pace.part(WHOLE / 50).burst, 1);
    }
}
