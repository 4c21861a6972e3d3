//! How long a client may keep us waiting: a stock of time that waiting uses up and bytes earn back.
//!
//! So a pause of the full stock is forgiven once, a client that goes on at the least rate is never cut, and one that sends or takes
//! a byte now and then is cut when the stock is gone, however regular it is.

/// What is left of the time for one body or one reply.
#[derive(Debug)]
pub(crate) struct Pace {
    left_us: u64,
    /// Since when we wait for the client, in the worker's time; none while we do not.
    waits_since_ms: Option<u64>,
}

impl Pace {
    /// With the full stock.
    pub(crate) fn new(stock_ms: u64) -> Self {
        Self { left_us: stock_ms.saturating_mul(1_000), waits_since_ms: None }
    }

    /// The wait begins, or goes on: when it must end.
    pub(crate) fn wait(&mut self, now_ms: u64) -> u64 {
        let since_ms = *self.waits_since_ms.get_or_insert(now_ms);
        since_ms.saturating_add(self.left_us / 1_000)
    }

    /// The client moved `bytes`, so that the wait is over. At `rate` bytes a second they earn the time that they took, up to the
    /// full stock; with a rate of 0 any of them earns it all.
    pub(crate) fn moved(&mut self, bytes: usize, rate: u64, stock_ms: u64, now_ms: u64) {
        let stock_us = stock_ms.saturating_mul(1_000);
        let waited_ms = self.waits_since_ms.take().map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        let earned_us = match (bytes as u64).saturating_mul(1_000_000).checked_div(rate) {
            Some(earned_us) => earned_us,
            None if bytes > 0 => stock_us,
            None => 0,
        };
        let left_us = self.left_us.saturating_sub(waited_ms.saturating_mul(1_000));
        self.left_us = left_us.saturating_add(earned_us).min(stock_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a client is cut that moves `bytes` every `every_ms`, of at most an hour.
    fn cut_at(bytes: usize, every_ms: u64, rate: u64) -> Option<u64> {
        let mut pace = Pace::new(30_000);
        let mut now_ms = 0;
        while now_ms < 3_600_000 {
            let until_ms = pace.wait(now_ms);
            if until_ms < now_ms + every_ms {
                return Some(until_ms);
            }
            now_ms += every_ms;
            pace.moved(bytes, rate, 30_000, now_ms);
        }
        None
    }

    #[test]
    fn a_byte_now_and_then_is_no_progress_and_the_least_rate_is() {
        for (bytes, every_ms, rate, expected) in [
            (1, 29_000, 500, Some(30_002)),
            (1, 1_000, 500, Some(30_060)),
            (499, 1_000, 500, None),
            (500, 1_000, 500, None),
            (5_000, 10_000, 500, None),
            (100, 1_000, 500, Some(37_400)),
            (1, 29_000, 0, None),
            (1, 31_000, 0, Some(30_000)),
            (1_000_000, 31_000, 500, Some(30_000)),
        ] {
            assert_eq!(
                cut_at(bytes, every_ms, rate),
                expected,
                "{bytes} bytes every {every_ms} ms at {rate}"
            );
        }
    }

    #[test]
    fn time_in_which_we_do_not_wait_does_not_count() {
        let mut pace = Pace::new(30_000);
        assert_eq!(pace.wait(1_000), 31_000);
        assert_eq!(pace.wait(5_000), 31_000, "asking again gives no more time");
        pace.moved(1, 500, 30_000, 11_000);
        assert_eq!(pace.wait(1_000_000), 1_020_002);
    }
}
