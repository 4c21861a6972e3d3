//! What a process knows that lies in no file, for the one that follows: strikes, who was served well, whose sessions are, keys of session tickets.
//!
//! Without it an attacker would have its strikes struck off by each upgrade, whoever shares an address with one would lose the standing that keeps
//! it apart, and every client would shake hands in full. What a version does not know of it is left aside, as all of it is by one from before.
//!
//! INVARIANT: it is of use, never needed: a process that is given none of it serves as one that starts.

use std::net::IpAddr;

use phalanx_decide::{GoodActor, StruckActor};
use phalanx_edge::NodeTables;
use phalanx_trust::TicketKeys;
use serde::{Deserialize, Serialize};

use super::takeover::ToSuccessor;

/// Keys of session tickets on their way. They are in the memory of two processes of one node, and in no file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Tickets(Vec<u8>);

impl Tickets {
    pub(crate) fn of(keys: &TicketKeys) -> Self {
        Self(keys.to_bytes().to_vec())
    }

    /// None if they are in a form of another version, or were not sent.
    pub(super) fn keys(&self) -> Option<TicketKeys> {
        TicketKeys::from_bytes(&self.0).filter(|keys| !keys.is_empty())
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Drop for Tickets {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// An actor, its strikes, its bans, when it was touched.
pub(super) type Struck = (IpAddr, Vec<(u64, u64)>, u32, u64);
/// An address, a half of the memory, what was seen in it and before, when it was served, when attacked.
pub(super) type Good = (IpAddr, u64, (u64, u64), u64, u64);

/// All of it, in messages of a size that the channel takes.
pub(super) fn of(tables: &NodeTables, now_ms: u64) -> impl Iterator<Item = ToSuccessor> + use<> {
    let struck = tables.strikes.remembered().into_iter().map(|one| {
        let StruckActor { actor, strikes, bans, touched_ms } = one;
        (actor, strikes, bans, touched_ms)
    });
    let good = tables.good.remembered(now_ms).into_iter().map(|one| {
        let GoodActor { actor, half, seen, served_ms, attacked_ms } = one;
        (actor, half, seen, served_ms, attacked_ms)
    });
    let (struck, good): (Vec<Struck>, Vec<Good>) = (struck.collect(), good.collect());
    let struck = chunks(struck).map(ToSuccessor::Struck);
    let owners = chunks(tables.accounts.owners()).map(ToSuccessor::Owners);
    struck.chain(chunks(good).map(ToSuccessor::Good)).chain(owners)
}

fn chunks<T>(all: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let some: Vec<T> = all.by_ref().take(ACTORS_AT_ONCE).collect();
        (!some.is_empty()).then_some(some)
    })
}

/// Takes in what was struck.
pub(super) fn strike(tables: &NodeTables, struck: Vec<Struck>) {
    for (actor, strikes, bans, touched_ms) in struck {
        tables.strikes.remember(StruckActor { actor, strikes, bans, touched_ms });
    }
}

/// Takes in who was served well.
pub(super) fn trust(tables: &NodeTables, good: Vec<Good>) {
    for (actor, half, seen, served_ms, attacked_ms) in good {
        tables.good.remember(GoodActor { actor, half, seen, served_ms, attacked_ms });
    }
}

/// With eight strikes each some 90 KB of text; the kernel takes 200.
const ACTORS_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_actors_arrive_in_messages_that_the_channel_takes() {
        let (old, new) = (NodeTables::default(), NodeTables::default());
        let now_ms = u64::from(u32::MAX) * 1_000;
        for n in 0..5_000_u32 {
            let actor = IpAddr::from(std::net::Ipv6Addr::from_bits(u128::from(n) << 80 | 0xfe80 << 112));
            let strikes = (0..8).map(|strike| (now_ms, u64::MAX - strike)).collect();
            old.strikes.remember(StruckActor { actor, strikes, bans: u32::MAX, touched_ms: now_ms });
            old.good.note(actor, n.into(), now_ms);
            old.accounts.remember((u64::MAX - u64::from(n), u64::MAX, u32::MAX));
        }
        for message in of(&old, now_ms) {
            let text = serde_json::to_vec(&message).unwrap();
            assert!(text.len() < 200_000, "{}", text.len());
            match serde_json::from_slice(&text).unwrap() {
                ToSuccessor::Struck(struck) => strike(&new, struck),
                ToSuccessor::Good(good) => trust(&new, good),
                ToSuccessor::Owners(owners) => {
                    owners.into_iter().for_each(|owner| new.accounts.remember(owner));
                }
                other => panic!("{other:?}"),
            }
        }
        // Who meets eight others in a bucket of the other table may be missing.
        assert!(new.strikes.actors_len() >= old.strikes.actors_len() * 99 / 100);
        assert_eq!(new.accounts.owners().len(), old.accounts.owners().len());
        assert!(new.good.clients(now_ms).len() >= old.good.clients(now_ms).len() * 9 / 10);
    }

    #[test]
    fn keys_of_tickets_are_shown_to_nobody_and_are_none_in_another_form() {
        let keys = TicketKeys::fresh(1);
        let tickets = Tickets::of(&keys);
        assert!(tickets.keys().unwrap().begins_as(&keys));
        assert_eq!(format!("{tickets:?}"), "Tickets");
        assert!(Tickets::default().keys().is_none());
        assert!(Tickets(vec![1; 57]).keys().is_none());
    }
}
