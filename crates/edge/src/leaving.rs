//! How a worker lets go of its connections: all at once when the node stops, one after the other when another process serves already.
//!
//! Ten thousand clients that are told in one moment that their connection ends shake hands anew in the next one, and whoever visits the site
//! waits behind them. So each connection has a share, by its slot, and the shares are let go in turn.
//!
//! INVARIANT: what is let go stays so; a drain ends at its deadline, whatever the shares.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How the connections of a node are let go that another process has followed.
#[derive(Debug, Clone, Copy)]
pub struct Gently {
    /// The last of them is told within this that it ends.
    pub told_within: Duration,
    /// How long an idle one may still ask once after its turn to be told.
    pub idle: Duration,
}

/// When a drain is over, and how it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    from: Instant,
    pub(crate) until: Instant,
    gently: Option<Gently>,
}

impl Drain {
    /// Every connection ends with what is under way.
    pub(crate) fn at_once(timeout: Duration) -> Self {
        let from = Instant::now();
        Self { from, until: from + timeout, gently: None }
    }

    /// One after the other, and no idle one before it could ask once more; within half of the time there is.
    pub(crate) fn gently(timeout: Duration, gently: Gently) -> Self {
        let half = timeout / 2;
        let gently = Gently { told_within: gently.told_within.min(half), idle: gently.idle.min(half) };
        Self { gently: Some(gently), ..Self::at_once(timeout) }
    }

    /// Whether another process serves.
    pub(crate) fn is_gentle(&self) -> bool {
        self.gently.is_some()
    }

    /// How many shares are told that they end, and how many are no longer waited for.
    pub(crate) fn shares(&self, now: Instant) -> (u16, u16) {
        let Some(Gently { told_within, idle }) = self.gently else { return (SHARES, SHARES) };
        let since = now.saturating_duration_since(self.from);
        let told = shares(since, told_within);
        (told, since.checked_sub(idle).map_or(0, |since| shares(since, told_within)))
    }
}

/// Of those that are let go within `all`, how many are by now. The first is at once.
fn shares(since: Duration, all: Duration) -> u16 {
    let parts = since.as_micros().saturating_mul(u128::from(SHARES)).checked_div(all.as_micros());
    let parts = parts.and_then(|parts| u16::try_from(parts).ok()).unwrap_or(SHARES);
    parts.saturating_add(1).min(SHARES)
}

/// What a worker lets go of.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// The node drains.
    pub(crate) draining: Cell<bool>,
    /// It drains, and another process serves on the same sockets.
    pub(crate) followed: Cell<bool>,
    /// It is out of service.
    pub(crate) retiring: Cell<bool>,
    told: Cell<u16>,
    hurried: Cell<u16>,
}

impl Leaving {
    /// Whether the connection in this slot ends with the request under way.
    pub(crate) fn lets_go(&self, slot: usize) -> bool {
        self.retiring.get() || self.draining.get() && share(slot) < self.told.get()
    }

    /// Whether any does.
    pub(crate) fn begun(&self) -> bool {
        self.retiring.get() || self.draining.get()
    }

    /// Whether an idle connection in this slot is no longer waited for.
    pub(crate) fn hurries(&self, slot: usize) -> bool {
        share(slot) < self.hurried.get()
    }

    /// Goes on to these many shares; whether the connection in a slot is told now, and whether it is waited for no longer since now.
    pub(crate) fn go_on(&self, (told, hurried): (u16, u16)) -> impl Fn(usize) -> (bool, bool) + use<> {
        let told_before = self.told.replace(told.max(self.told.get()));
        let hurried_before = self.hurried.replace(hurried.max(self.hurried.get()));
        move |slot| {
            let share = share(slot);
            ((told_before..told).contains(&share), (hurried_before..hurried).contains(&share))
        }
    }

    /// Whether no idle connection is waited for any more.
    pub(crate) fn hurries_all(&self) -> bool {
        self.hurried.get() >= SHARES
    }
}

/// Neighbours have shares far apart, so that few connections are spread as many are (Knuth's multiplicative hashing).
fn share(slot: usize) -> u16 {
    let mixed = u32::try_from(slot).unwrap_or(u32::MAX).wrapping_mul(0x9e37_79b1);
    u16::try_from(mixed >> 24).unwrap_or_default()
}

const SHARES: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_let_go_evenly_over_the_time_and_none_twice() {
        let seconds = Duration::from_secs;
        let drain = Drain::gently(seconds(600), Gently { told_within: seconds(5), idle: seconds(10) });
        let leaving = Leaving::default();
        leaving.draining.set(true);
        let (mut told, mut hurried, mut most) = (0, 0, 0);
        for tick in 0..=160 {
            let due = leaving.go_on(drain.shares(drain.from + Duration::from_millis(100) * tick));
            let now: Vec<_> = (0..10_000).map(due).collect();
            let count = now.iter().filter(|(told, _)| *told).count();
            (told, most) = (told + count, most.max(count));
            hurried += now.iter().filter(|(_, hurried)| *hurried).count();
            assert_eq!(hurried > 0, tick >= 100, "at {tick}");
        }
        assert_eq!((told, hurried), (10_000, 10_000));
        assert!(most <= 300, "{most} in a tenth of a second");
        assert!(leaving.hurries_all() && (0..10_000).all(|slot| leaving.lets_go(slot)));
    }

    #[test]
    fn a_stop_lets_go_of_all_at_once_and_a_short_time_is_kept() {
        let now = Instant::now();
        assert_eq!(Drain::at_once(Duration::from_secs(10)).shares(now), (SHARES, SHARES));
        let long = Gently { told_within: Duration::from_secs(5), idle: Duration::from_secs(10) };
        let drain = Drain::gently(Duration::from_secs(2), long);
        assert_eq!(drain.shares(drain.until), (SHARES, SHARES));
        let none = Gently { told_within: Duration::ZERO, idle: Duration::ZERO };
        assert_eq!(
            Drain::gently(Duration::ZERO, none).shares(now + Duration::from_secs(1)),
            (SHARES, SHARES)
        );
    }
}
