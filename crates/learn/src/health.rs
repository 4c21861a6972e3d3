//! Whether what goes wrong does so for everybody: a broken release, an outage. Then it is held against nobody.
//!
//! Only people's software is asked: what a tool that hardly anybody else has runs into is its own doing. An attacker who wants to
//! hide behind an outage has to be half of the addresses that people's software comes from, or to make one.

use crate::sketch::Distinct;

/// How the clients of an app fare, by bucket.
#[derive(Debug, Default)]
pub(crate) struct Health {
    all: Distinct,
    hurt: Distinct,
    /// Clients that were turned down since anybody got in.
    turned_down: Distinct,
    pruned: u32,
    /// When it was told last, in Unix milliseconds.
    pub(crate) told_ms: u64,
}

/// What one request says of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fare {
    /// A page was missing or the server failed.
    pub(crate) is_hurt: bool,
    /// It logged in within a session.
    pub(crate) got_in: bool,
    /// It tried to, and was turned down.
    pub(crate) turned_down: bool,
}

impl Health {
    /// Notes how a client fared.
    pub(crate) fn note(&mut self, client: u32, fare: Fare, bucket: u32) {
        if bucket != self.pruned {
            self.pruned = bucket;
            let from = bucket.saturating_sub(LOOKS_BACK);
            self.all.forget(from);
            self.hurt.forget(from);
            self.turned_down.forget(bucket.saturating_sub(RUN_BUCKETS));
        }
        self.all.insert(client, bucket);
        if fare.is_hurt {
            self.hurt.insert(client, bucket);
        }
        if fare.got_in {
            self.turned_down = Distinct::default();
        } else if fare.turned_down {
            self.turned_down.insert(client, bucket);
        }
    }

    /// Clients that met missing pages and failures, and all clients, if those are most.
    pub(crate) fn hurts_everybody(&self, bucket: u32) -> Option<(u64, u64)> {
        let from = bucket.saturating_sub(LOOKS_BACK);
        let (hurt, all) = (self.hurt.since(from), self.all.since(from));
        (hurt >= CLIENTS_LEAST && hurt * 2 >= all).then_some((hurt, all))
    }

    /// Whether nobody gets in.
    pub(crate) fn turns_everybody_down(&self, bucket: u32) -> bool {
        self.turned_down.since(bucket.saturating_sub(RUN_BUCKETS)) >= RUN_LEAST
    }
}

/// Buckets: half a minute and the current one.
const LOOKS_BACK: u32 = 3;
/// One of ten mistypes, so that so many clients in a row are no chance,
const RUN_LEAST: u64 = 5;
/// within three minutes.
const RUN_BUCKETS: u32 = 18;
/// Fewer clients are not everybody.
const CLIENTS_LEAST: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_most_of_several_clients_at_one_time() {
        let mut health = Health::default();
        let hurt = Fare { is_hurt: true, turned_down: true, got_in: false };
        let clients = |n: u32| n * 77_777_777;
        (0..20).for_each(|n| health.note(clients(n), Fare { got_in: true, ..Fare::default() }, 100));
        (0..4).for_each(|n| health.note(clients(n), hurt, 100));
        assert!(health.hurts_everybody(100).is_none() && !health.turns_everybody_down(100));
        (4..14).for_each(|n| health.note(clients(n), hurt, 100));
        assert_eq!(health.hurts_everybody(100), Some((14, 20)));
        assert!(health.turns_everybody_down(100));
        health.note(clients(1), Fare { got_in: true, ..Fare::default() }, 100);
        assert!(health.hurts_everybody(104).is_none() && !health.turns_everybody_down(100));
    }
}
