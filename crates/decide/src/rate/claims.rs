//! What other nodes say that they admitted: each request counted once, and none that the node cannot have served.
//!
//! Counts are cumulative, so a message that is lost is made up for by the next, and one that comes twice or late says nothing new.
//! A node enforces the limit itself; so it can have admitted no more than the burst and the rate's worth since. What it claims
//! beyond that is left out: a stolen node cannot use up a limit faster than by asking itself.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::{FLEET_NODES_MAX, RATE_KEYS_OF_AUTHOR_MAX};
use phalanx_model::{Author, KeyCount};

use super::Pace;

/// The claims of all others.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<(Arc<str>, Arc<str>), Claimed>);

/// The claims of one node.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    epoch: u64,
    heard_ns: u64,
    /// By limit and key.
    keys: HashMap<(u32, u64), Claim>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    /// The count it is about; `None` before the first of this epoch.
    since: Option<u32>,
    count: u32,
    /// When the author's next request would be even, by its own count.
    next_ns: u64,
    heard_ns: u64,
}

impl Claims {
    /// The claims of the author of a batch; `None` if a process tells that is over, or if there are too many authors.
    pub(super) fn of(&mut self, author: &Author, epoch: u64, now_ns: u64) -> Option<&mut Claimed> {
        let name = (Arc::clone(&author.site), Arc::clone(&author.node));
        if !self.0.contains_key(&name) && self.0.len() >= FLEET_NODES_MAX {
            self.0.retain(|_, claimed| now_ns.saturating_sub(claimed.heard_ns) < FORGET_NS);
            if self.0.len() >= FLEET_NODES_MAX {
                return None;
            }
        }
        let claimed = self.0.entry(name).or_default();
        // A node whose clock was put back starts in an earlier epoch: it is heard once the later one has fallen silent.
        if epoch < claimed.epoch && now_ns.saturating_sub(claimed.heard_ns) < FORGET_NS {
            return None;
        }
        if epoch != claimed.epoch {
            claimed.epoch = epoch;
            // What it claimed before stays counted; what it may claim goes on from there.
            claimed.keys.values_mut().for_each(|claim| (claim.since, claim.count) = (None, 0));
        }
        claimed.heard_ns = now_ns;
        Some(claimed)
    }
}

impl Claimed {
    /// Whether a count goes on from one that is known.
    pub(super) fn knows(&self, told: &KeyCount) -> bool {
        self.keys.get(&(told.limit, told.key)).is_some_and(|claim| claim.since == Some(told.since))
    }

    /// How many requests a count adds to what is counted already.
    pub(super) fn admitted(&mut self, told: &KeyCount, pace: Pace, now_ns: u64) -> u32 {
        let key = (told.limit, told.key);
        if !self.keys.contains_key(&key) && self.keys.len() >= RATE_KEYS_OF_AUTHOR_MAX {
            // Not before its claims are used up: to forget them would be to grant them anew.
            self.keys.retain(|_, claim| {
                claim.next_ns > now_ns || now_ns.saturating_sub(claim.heard_ns) < FORGET_NS
            });
            if self.keys.len() >= RATE_KEYS_OF_AUTHOR_MAX {
                return 0;
            }
        }
        let claim = self.keys.entry(key).or_default();
        let silent = now_ns.saturating_sub(claim.heard_ns) >= FORGET_NS;
        claim.heard_ns = now_ns;
        let more = match claim.since {
            Some(since) if since == told.since => told.count.saturating_sub(claim.count),
            Some(since) if !silent && !is_later(told.since, since) => 0,
            Some(_) | None => told.count,
        };
        if more == 0 {
            return 0;
        }
        (claim.since, claim.count) = (Some(told.since), told.count);
        let most_ns = now_ns.saturating_add(pace.full_ns()).saturating_add(NEWS_NS.max(pace.interval_ns));
        let room = most_ns.saturating_sub(claim.next_ns.max(now_ns)) / pace.interval_ns;
        let admitted = more.min(u32::try_from(room).unwrap_or(u32::MAX));
        claim.next_ns = pace.after(claim.next_ns, admitted, now_ns);
        admitted
    }
}

/// Whether one number follows another; numbers start over after the last (RFC 1982).
fn is_later(one: u32, other: u32) -> bool {
    (1..=u32::MAX / 2).contains(&one.wrapping_sub(other))
}

/// What news of a site takes at most: an honest node's requests of that time may come at once.
const NEWS_NS: u64 = 250_000_000;
/// After this silence a key is forgotten: longer than a count goes on without being told.
const FORGET_NS: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::AuthorRole;
    use proptest::prelude::*;

    fn author(node: &str) -> Author {
        Author { site: "fra".into(), node: node.into(), role: AuthorRole::Node }
    }

    fn told(key: u64, since: u32, count: u32) -> KeyCount {
        KeyCount { limit: 1, key, since, count }
    }

    const WIDE: Pace = Pace { interval_ns: 1, burst: u32::MAX };

    proptest! {
        /// Whatever is lost, repeated or overtaken: when the last count is there, each request is counted once.
        #[test]
        fn each_request_is_counted_once(
            told_counts in prop::collection::vec((0u64..4, 1u32..100), 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
        ) {
            let mut claimed = Claimed::default();
            let mut counted = HashMap::<u64, u32>::new();
            let mut say = |key: u64, count: u32| {
                *counted.entry(key).or_default() += claimed.admitted(&told(key, 1, count), WIDE, 1);
            };
            for place in order {
                let (key, count) = told_counts[place.index(told_counts.len())];
                say(key, count);
            }
            let mut last = HashMap::<u64, u32>::new();
            for (key, count) in told_counts {
                let highest = last.entry(key).or_default();
                *highest = count.max(*highest);
            }
            for (key, count) in &last {
                say(*key, *count);
            }
            prop_assert_eq!(counted, last);
        }

        /// Over counts that start anew and processes that start anew, never more than there were.
        #[test]
        fn no_request_is_counted_twice(
            said in prop::collection::vec((0u64..3, 1u32..4, 1u32..50), 1..60),
        ) {
            let mut claims = Claims::default();
            let mut highest = HashMap::<(u64, u32), u32>::new();
            let mut counted = 0u32;
            for (epoch, since, count) in said {
                let most = highest.entry((epoch, since)).or_default();
                *most = count.max(*most);
                if let Some(claimed) = claims.of(&author("a"), epoch, 1) {
                    counted += claimed.admitted(&told(7, since, count), WIDE, 1);
                }
            }
            prop_assert!(counted <= highest.values().sum::<u32>());
        }
    }

    #[test]
    fn a_restarted_node_starts_counting_anew_and_its_past_is_over() {
        let mut claims = Claims::default();
        assert_eq!(claims.of(&author("a"), 1, 1).unwrap().admitted(&told(7, 9, 5), WIDE, 1), 5);
        assert_eq!(claims.of(&author("a"), 2, 1).unwrap().admitted(&told(7, 1, 3), WIDE, 1), 3);
        assert!(claims.of(&author("a"), 1, 1).is_none());
        assert_eq!(claims.of(&author("b"), 1, 1).unwrap().admitted(&told(7, 9, 5), WIDE, 1), 5);
    }

    #[test]
    fn counts_go_on_after_the_last_number_and_after_a_clock_was_put_back() {
        let mut claims = Claims::default();
        let mut say = |epoch, since, now_ns| {
            claims.of(&author("a"), epoch, now_ns).map(|one| one.admitted(&told(7, since, 3), WIDE, now_ns))
        };
        assert_eq!(say(9, u32::MAX, 1), Some(3));
        assert_eq!(say(9, 0, 1), Some(3));
        assert_eq!(say(9, u32::MAX, 1), Some(0), "late");
        assert_eq!(say(9, u32::MAX, 1 + FORGET_NS), Some(3));
        assert_eq!(say(5, 1, 2 + FORGET_NS), None);
        assert_eq!(say(5, 1, 2 + 2 * FORGET_NS), Some(3));
    }

    #[test]
    fn no_node_claims_more_than_it_can_have_served() {
        let pace = Pace::new(100, 10_000, 10);
        let mut claims = Claims::default();
        let mut sum = 0;
        for n in 0..1_000u32 {
            // Ten seconds of absurd claims, with every trick to have them counted anew.
            let (epoch, now_ns) = (u64::from(n / 100), u64::from(n) * 10_000_000);
            let claimed = claims.of(&author("a"), epoch, now_ns).unwrap();
            sum += claimed.admitted(&told(7, n, u32::MAX - n), pace, now_ns);
        }
        assert!((100..=113).contains(&sum), "{sum}");
    }

    #[test]
    fn memory_of_one_author_is_bounded_and_freed() {
        let mut claimed = Claimed::default();
        for key in 0..2 * RATE_KEYS_OF_AUTHOR_MAX as u64 {
            claimed.admitted(&told(key, 1, 1), WIDE, 1);
        }
        assert_eq!(claimed.keys.len(), RATE_KEYS_OF_AUTHOR_MAX);
        assert_eq!(claimed.admitted(&told(u64::MAX, 1, 1), WIDE, 1), 0);
        assert_eq!(claimed.admitted(&told(u64::MAX, 1, 1), WIDE, FORGET_NS + 1), 1);
    }
}
