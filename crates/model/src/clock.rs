//! Time as an argument. Everything below the binary takes `now_ms` or a [`Clock`]; only [`SystemClock`] reads the wall clock.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// A source of wall-clock time, in milliseconds since the Unix epoch.
pub trait Clock: Send + Sync {
    /// The current time, in Unix milliseconds.
    fn now_ms(&self) -> u64;

    /// The same clock, if it can be corrected.
    fn corrected(&self) -> Option<&CorrectedClock> {
        None
    }
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_ms(&self) -> u64 {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A wall clock and what it is known to be wrong by.
///
/// Whoever compares it with others ([`Self::look`], [`Self::correct`]) decides what to believe. In between, once the clock was
/// verified, a step of the wall clock is not followed: the time goes on as it did until the next look.
pub struct CorrectedClock {
    wall: Box<dyn Clock>,
    /// Milliseconds that passed since some moment, whatever the wall clock does.
    elapsed_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    /// The wall clock's time at that moment, as of the last look.
    base_ms: AtomicI64,
    /// The time that is believed, at that moment. Apart from the above, so that a reader sees a step and its correction in one.
    true_base_ms: AtomicI64,
    verified: AtomicBool,
}

impl CorrectedClock {
    /// Corrects this clock; the time that passes is measured by the operating system's monotonic clock.
    pub fn new(wall: impl Clock + 'static) -> Self {
        let start = Instant::now();
        Self::with_elapsed(wall, move || i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// As [`Self::new`], with another measure of the time that passes: for tests.
    pub fn with_elapsed(
        wall: impl Clock + 'static,
        elapsed_ms: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self {
        let base_ms = signed(wall.now_ms()).saturating_sub(elapsed_ms());
        Self {
            wall: Box::new(wall),
            elapsed_ms: Box::new(elapsed_ms),
            base_ms: base_ms.into(),
            true_base_ms: base_ms.into(),
            verified: false.into(),
        }
    }

    /// The wall clock's time, wrong as it may be.
    pub fn wall_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// The wall clock's time if it had not stepped since the last look.
    pub fn steady_ms(&self) -> i64 {
        self.base_ms.load(Ordering::Acquire).saturating_add((self.elapsed_ms)())
    }

    /// What is added to the wall clock's time, in milliseconds.
    pub fn correction_ms(&self) -> i64 {
        self.true_base_ms.load(Ordering::Acquire).saturating_sub(self.base_ms.load(Ordering::Acquire))
    }

    /// Takes note of where the wall clock stands. Returns by how much it has stepped since the last look; 0 for what clocks drift.
    /// A step is followed if the clock was never verified; else the correction makes up for it until [`Self::correct`] says otherwise.
    pub fn look(&self) -> i64 {
        let step_ms = signed(self.wall.now_ms()).saturating_sub(self.steady_ms());
        let drift = step_ms.abs() <= STEP_MS;
        self.base_ms.fetch_add(step_ms, Ordering::AcqRel);
        if drift || !self.verified.load(Ordering::Acquire) {
            self.true_base_ms.fetch_add(step_ms, Ordering::AcqRel);
        }
        if drift { 0 } else { step_ms }
    }

    /// Sets what is added to the wall clock's time.
    pub fn correct(&self, correction_ms: i64) {
        let base_ms = self.base_ms.load(Ordering::Acquire);
        self.true_base_ms.store(base_ms.saturating_add(correction_ms), Ordering::Release);
    }

    /// Notes that the time was compared with others: steps of the wall clock are not followed any more.
    pub fn verify(&self) {
        self.verified.store(true, Ordering::Release);
    }
}

impl Clock for CorrectedClock {
    fn now_ms(&self) -> u64 {
        let elapsed_ms = (self.elapsed_ms)();
        let steady_ms = self.base_ms.load(Ordering::Acquire).saturating_add(elapsed_ms);
        let mut off_ms = signed(self.wall.now_ms()).saturating_sub(steady_ms);
        if off_ms.abs() > STEP_MS && self.verified.load(Ordering::Acquire) {
            off_ms = 0;
        }
        let now_ms =
            self.true_base_ms.load(Ordering::Acquire).saturating_add(elapsed_ms).saturating_add(off_ms);
        u64::try_from(now_ms).unwrap_or_default()
    }

    fn corrected(&self) -> Option<&CorrectedClock> {
        Some(self)
    }
}

fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

/// A wall clock that moves by more between two looks, beside the time that passed, was set. Slewing moves it by a two-thousandth.
const STEP_MS: i64 = 1_000;

/// A clock that moves only when told to: for tests and the simulator.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn at(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves the clock forward by `by_ms` milliseconds.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now_ms(&self) -> u64 {
        (**self).now_ms()
    }

    fn corrected(&self) -> Option<&CorrectedClock> {
        (**self).corrected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// A wall clock that can be set, and the time that passes.
    fn clock() -> (Arc<AtomicI64>, Arc<AtomicI64>, CorrectedClock) {
        struct Wall(Arc<AtomicI64>);
        impl Clock for Wall {
            fn now_ms(&self) -> u64 {
                u64::try_from(self.0.load(Ordering::SeqCst)).unwrap()
            }
        }
        let (wall, elapsed) = (Arc::new(AtomicI64::new(1_000_000)), Arc::new(AtomicI64::new(50)));
        let read = Arc::clone(&elapsed);
        let clock =
            CorrectedClock::with_elapsed(Wall(Arc::clone(&wall)), move || read.load(Ordering::SeqCst));
        (wall, elapsed, clock)
    }

    #[test]
    fn a_clock_that_nobody_confirmed_follows_the_wall() {
        let (wall, _, clock) = clock();
        wall.fetch_add(300_000, Ordering::SeqCst);
        assert_eq!(clock.now_ms(), 1_300_000);
    }

    #[test]
    fn a_step_is_not_followed_until_somebody_looks() {
        let (wall, elapsed, clock) = clock();
        clock.verify();
        for (step, seen) in [(300_000, 300_000), (-700_000, -700_000), (400, 0)] {
            wall.fetch_add(step + 100, Ordering::SeqCst);
            elapsed.fetch_add(100, Ordering::SeqCst);
            let before = clock.now_ms();
            assert_eq!(clock.now_ms().abs_diff(before), 0);
            assert_eq!(clock.look(), seen);
            assert!(clock.now_ms().abs_diff(before) <= 400, "the time goes on: {before}");
        }
        assert_eq!(clock.now_ms(), 1_000_700, "drift is followed");
    }

    #[test]
    fn a_correction_is_added() {
        let (_, _, clock) = clock();
        clock.correct(-5_000);
        assert_eq!((clock.now_ms(), clock.wall_ms()), (995_000, 1_000_000));
    }
}
