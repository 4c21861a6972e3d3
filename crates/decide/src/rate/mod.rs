//! Rate limits: how often a client may ask, counted by each node for itself or by a fleet together.
//!
//! Flow in names: request -> [`judge`] (every [`RateRule`] that is about it, [`RateTable`]) -> admitted, observed, or an
//! [`Over`] that says why not; counts of others -> [`RateTable::hear`]; own counts -> [`RateTable::tell`].
//!
//! A fleet's limit is two counts of each key at each node. The *joint* count has what this node admitted and what it heard
//! that others did; the *own* count has this node's alone, at its share of the rate. A request passes when either has room.
//! So a node that hears the others uses the whole limit, whoever of them gets the requests; nobody's claims take more from a
//! node than what is beyond its share; and a node that hears nobody counts on its share alone, because the joint count then
//! runs at it, too.
//!
//! INVARIANT: no I/O and no clock: time is an argument, in nanoseconds of any steady clock of this node.
//!
//! Failure direction: with no room in the table a request is admitted and counted as untracked: a limit that cannot count must
//! not become an outage. Keys beyond their limit never make room for others.

mod claims;
mod pace;
pub mod path;
mod rule;
mod sharing;
#[cfg(test)]
mod sharing_tests;
mod table;
#[cfg(test)]
mod tests;

pub use pace::{Pace, WHOLE};
pub use rule::{Asked, Quota, RateCounts, RateKeyPart, RateRule, RateScope};
pub use sharing::{SUM_FROM_NODES, Sharing, Tell};
pub use table::{Left, RateTable, Reach};

use std::sync::atomic::Ordering;

use phalanx_model::RateExcess;
use phalanx_model::limits::RATE_LIMITS_PER_APP_MAX;

use table::Taken;

/// A request beyond a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// The limit, and how it came to be exceeded.
    pub excess: RateExcess,
    /// Whether the limit refuses, or only observes.
    pub refuses: bool,
}

/// Counts a request under every rule that is about it. A request that one of them refuses takes nothing from the others.
/// `enforces`: whether a rule may refuse at all; an app that only observes counts what would have been refused. `tell` hears what is left
/// under each rule that may refuse and tells clients.
pub fn judge(
    rules: &[RateRule],
    table: &RateTable,
    asked: &Asked<'_>,
    enforces: bool,
    now_ns: u64,
    mut tell: impl FnMut(&RateRule, Quota, Left),
) -> Option<Over> {
    let mut keys = [None; RATE_LIMITS_PER_APP_MAX];
    let mut observed = None;
    for (rule, slot) in rules.iter().zip(&mut keys) {
        let Some(key) = rule.key(table, asked) else { continue };
        match table.look(rule, key, now_ns) {
            Taken::Over(excess) => {
                let over =
                    Over { excess: rule.excess(asked, key, excess), refuses: enforces && !rule.observes };
                let count = if over.refuses { &rule.counts.refused } else { &rule.counts.observed };
                count.fetch_add(1, Ordering::Relaxed);
                if over.refuses {
                    if let Some(quota) = rule.quota {
                        tell(rule, quota, Left { requests: 0, restored_s: over.excess.retry_after_s });
                    }
                    return Some(over);
                }
                observed.get_or_insert(over);
            }
            Taken::Admitted => *slot = Some(key),
        }
    }
    for (rule, key) in rules.iter().zip(keys) {
        if let Some(key) = key {
            // Another worker may have been faster since the look: one request more, which the next ones pay for.
            table.take(rule, key, now_ns);
            rule.counts.admitted.fetch_add(1, Ordering::Relaxed);
            if let Some(quota) = rule.quota.filter(|_| enforces && !rule.observes) {
                tell(rule, quota, table.left(rule, key, now_ns));
            }
        }
    }
    observed
}
