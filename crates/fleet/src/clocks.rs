//! What time it is: the node's own clock, corrected by the median of all clocks that it hears, its own among them.
//!
//! From three clocks on there is a majority, and a node follows it: what it enforces ends by it, and what it writes is dated by it. Of two
//! clocks nobody can say which is wrong; that they differ is reported. A heartbeat tells the wall clock as it is, so that all can name the
//! one that is wrong. Between two looks a clock that was verified is not followed where it steps.
//!
//! Cut off from the others, a node believes the later of what its clock says and of what passed since: no decision is enforced for longer
//! than it was made for.

use phalanx_model::{Clock, CorrectedClock};

use crate::Topic;
use crate::shared::Shared;

impl Shared {
    /// Once a second: looks at the clock and at those of the others, corrects, and says what is wrong.
    pub(crate) fn compare_clocks(&self) {
        let before_ms = self.clock.now_ms();
        let step_ms = self.clock.corrected().map_or(0, CorrectedClock::look);
        let mut members = self.members.lock();
        members.own_clock_stepped(step_ms);
        let ahead = members.clock_offset(self.clock.now_ms());
        if let Some(clock) = self.clock.corrected() {
            let verdict = correction(ahead, clock.correction_ms(), step_ms);
            clock.correct(verdict);
            if ahead.is_some_and(|ahead| ahead.clocks >= MAJORITY) {
                clock.verify();
            }
        }
        let moved_ms = signed(self.clock.now_ms()).saturating_sub(signed(before_ms));
        let jumped = moved_ms.abs() > CORRECTED_MIN_MS;
        if jumped {
            members.time_moved(moved_ms);
        }
        drop(members);
        if jumped {
            tracing::warn!(moved_ms, "the time was corrected");
            // What was refused as expired, or as from the future, may be neither.
            self.engine.resync(Topic::Decisions);
        }
        self.name_own_clock(ahead);
    }

    /// What is added to the wall clock's time.
    pub(crate) fn correction_ms(&self) -> i64 {
        self.clock.corrected().map_or(0, CorrectedClock::correction_ms)
    }

    /// The wall clock as it is.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.corrected().map_or_else(|| self.clock.now_ms(), CorrectedClock::wall_ms)
    }

    /// The wall clock as it would be if it had not stepped since the last look: what offsets are measured by.
    pub(crate) fn steady_ms(&self) -> i64 {
        self.clock.corrected().map_or_else(|| signed(self.clock.now_ms()), CorrectedClock::steady_ms)
    }

    fn name_own_clock(&self, ahead: Option<Ahead>) {
        let Some(ahead) = ahead.filter(|ahead| ahead.ms.abs() > CLOCK_OFFSET_MAX_MS) else {
            return self.clear_fault("clock");
        };
        let direction = if ahead.ms > 0 { "ahead of" } else { "behind" };
        let seconds = seconds(ahead.ms);
        let consequence = match (ahead.clocks >= MAJORITY, self.clock.corrected()) {
            (true, Some(_)) => "; decisions are made and ended by theirs: set it right",
            _ => "; set the wrong one right",
        };
        self.fault(
            "clock",
            format!("this node's clock is {seconds} s {direction} its peers' median{consequence}"),
        );
    }
}

/// How far this node's wall clock is ahead of what most clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) ms: i64,
    /// How many clocks were compared, this one included.
    pub(crate) clocks: usize,
}

/// What is to be added to the wall clock's time from now on. `present_ms`: what is added since the clock was looked at, which makes up
/// for a step of `step_ms` that it found.
fn correction(ahead: Option<Ahead>, present_ms: i64, step_ms: i64) -> i64 {
    match ahead {
        Some(Ahead { ms, clocks }) if clocks >= MAJORITY => match ms.abs() > CORRECTED_MIN_MS {
            true if ms.saturating_add(present_ms).abs() < NOISE_MS => present_ms,
            true => -ms,
            false => 0,
        },
        // Nobody to ask: the later time ends decisions no later than they should. An unverified clock has followed its step by itself.
        _ if step_ms > 0 && present_ms < 0 => present_ms.saturating_add(step_ms),
        _ => present_ms,
    }
}

/// To the nearest second: what a heartbeat travelled must not make 299 s of five minutes.
pub(crate) fn seconds(ms: i64) -> u64 {
    ms.unsigned_abs().saturating_add(500) / 1000
}

fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

/// With fewer clocks nobody can say which is wrong.
pub(crate) const MAJORITY: usize = 3;
/// Clocks that differ by more are reported. Well below the limit at which records are refused as from the future.
pub(crate) const CLOCK_OFFSET_MAX_MS: i64 = 5_000;
/// A clock that is off by more is corrected: more than what a heartbeat travels, less than anybody bans for.
const CORRECTED_MIN_MS: i64 = 2_000;
/// What measurements of one offset differ by.
const NOISE_MS: i64 = 500;
const _: () = assert!(phalanx_model::limits::RECORD_FUTURE_MAX_MS > 2 * CLOCK_OFFSET_MAX_MS.unsigned_abs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_corrected_by_a_majority_and_by_nobody_else() {
        let ahead = |ms, clocks| Some(Ahead { ms, clocks });
        for (measured, present_ms, step_ms, expected) in [
            (ahead(300_000, 3), 0, 0, -300_000),
            (ahead(-300_000, 3), 0, 0, 300_000),
            (ahead(1_500, 3), 0, 0, 0),
            (ahead(300_100, 3), -300_000, 0, -300_000),
            (ahead(10, 3), -300_000, 300_000, 0),
            (ahead(300_000, 2), 0, 0, 0),
            (None, -300_000, 0, -300_000),
            // Cut off: the clock was set forward, which the correction makes up for, then back.
            (None, -300_000, 300_000, 0),
            (None, 300_000, -300_000, 300_000),
        ] {
            assert_eq!(
                correction(measured, present_ms, step_ms),
                expected,
                "{measured:?} {present_ms} {step_ms}"
            );
        }
    }
}
