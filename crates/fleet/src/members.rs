//! Who is there: signed heartbeats once a second, and what they say about lag and clocks.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::{FLEET_NODES_MAX, RECORD_FUTURE_MAX_MS};
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{NodeRecord, Refusal, SignedRecord, TrustRoots};
use serde::{Deserialize, Serialize};

use crate::digests::Digests;
use crate::orders::Duty;

/// A node of the fleet as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its site.
    pub site: Arc<str>,
    /// Its name.
    pub node: Arc<str>,
    /// The product version it runs.
    pub version: String,
    /// How long its last heartbeat travelled, in milliseconds; with clocks that differ, by that much more or less.
    pub lag_ms: u64,
    /// When it was last heard, in Unix milliseconds; 0 for never since this node started.
    pub last_seen_ms: u64,
    /// Decisions in force there.
    pub decisions: usize,
    /// Decisions and lists that it holds for an operator.
    pub held: usize,
    /// The revision of its view.
    pub revision: u64,
    /// Whether it is this node.
    pub me: bool,
    /// Whether it can be heard.
    pub link: Link,
    /// What an operator has ordered it to do.
    pub duty: Duty,
    /// Whether it says that nothing is left of what was under way when it was told to drain.
    pub drained: bool,
    /// Why it was ordered to.
    pub order_reason: String,
}

/// Whether a member can be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Heard within the last [`SILENCE_MAX_MS`].
    Up,
    /// Not heard for longer.
    Down,
}

/// What a node says once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) version: String,
    pub(crate) revision: u64,
    pub(crate) decisions: usize,
    pub(crate) sent_at_ms: u64,
    #[serde(default)]
    pub(crate) held: usize,
    /// What the node's own records come to; with some heartbeats only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digests: Option<Digests>,
    /// Nodes whose records differ here from what they say although they were read again: their streams may lack some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lacks: Vec<String>,
    /// Nothing is left of what was under way when it was told to drain.
    #[serde(default)]
    pub(crate) drained: bool,
    /// For how long the node heard nobody until its link came back just now, in milliseconds; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) away_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Heartbeat {
    /// Reads and checks a heartbeat.
    pub(crate) fn open(
        bytes: &[u8],
        subject: &str,
        roots: &TrustRoots,
        now_ms: u64,
    ) -> Result<(Author, Self), Refusal> {
        let record = SignedRecord::from_bytes(bytes)?;
        if record.author.role != AuthorRole::Node
            || crate::subject::of_heartbeat(&record.author.site, &record.author.node) != *subject
        {
            return Err(Refusal::WrongSubject);
        }
        // Heartbeats never expire on arrival: one from a node with a slow clock must be heard, to show it.
        roots.verify(&record, subject, now_ms.min(record.expires_at_ms.saturating_sub(1)))?;
        let heartbeat: Self =
            serde_json::from_slice(&record.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if heartbeat.version.len() > 64 {
            return Err(Refusal::Unreadable("version too long".into()));
        }
        if heartbeat.sent_at_ms.abs_diff(now_ms) > HEARTBEAT_OFFSET_MAX_MS {
            return Err(Refusal::Expired);
        }
        Ok((record.author, heartbeat))
    }
}

/// The members heard so far.
#[derive(Debug, Default)]
pub(crate) struct Members {
    heard: HashMap<(Arc<str>, Arc<str>), Heard>,
    asked_for_nodes_at_ms: u64,
    /// Since when nodes are gone that an operator took out, until they are heard again.
    evicted: HashMap<(Arc<str>, Arc<str>), u64>,
}

impl Members {
    /// Takes note of a checked heartbeat, without its digests. One that is older than the last is a replay and ignored; whether it
    /// was taken.
    pub(crate) fn hear(&mut self, author: &Author, heartbeat: &Heartbeat, now_ms: u64) -> bool {
        let name = (Arc::clone(&author.site), Arc::clone(&author.node));
        let last = self.heard.get(&name).map_or(0, |heard| heard.heartbeat.sent_at_ms);
        let full = self.heard.len() >= FLEET_NODES_MAX && !self.heard.contains_key(&name);
        let taken = !full && heartbeat.sent_at_ms > last;
        if taken {
            self.evicted.remove(&name);
            let heartbeat = Heartbeat { digests: None, lacks: Vec::new(), ..heartbeat.clone() };
            self.heard.insert(name, Heard { heartbeat, at_ms: now_ms });
        }
        taken
    }

    /// Forgets a member.
    pub(crate) fn forget(&mut self, site: &str, node: &str) {
        self.heard.remove(&(Arc::from(site), Arc::from(node)));
    }

    /// Counts a dead node no more, unless it was heard after `at_ms`.
    pub(crate) fn evict(&mut self, site: &str, node: &str, at_ms: u64) {
        if self.last_seen_ms(site, node) <= at_ms && self.evicted.len() < FLEET_NODES_MAX {
            self.forget(site, node);
            self.evicted.insert((Arc::from(site), Arc::from(node)), at_ms);
        }
    }

    /// When a member was last heard, in Unix milliseconds; 0 for never.
    pub(crate) fn last_seen_ms(&self, site: &str, node: &str) -> u64 {
        self.heard.get(&(Arc::from(site), Arc::from(node))).map_or(0, |heard| heard.at_ms)
    }

    /// Everyone pinned, this node first.
    pub(crate) fn list<'a>(
        &self,
        me: Member,
        known: impl Iterator<Item = &'a NodeRecord>,
        now_ms: u64,
    ) -> Vec<Member> {
        let mut members: Vec<Member> = known
            .filter(|node| node.site != me.site || node.node != me.node)
            .filter(|node| !self.evicted.contains_key(&(Arc::clone(&node.site), Arc::clone(&node.node))))
            .map(|node| self.describe(node, now_ms))
            .collect();
        members.sort_by(|a, b| (&a.site, &a.node).cmp(&(&b.site, &b.node)));
        members.insert(0, me);
        members
    }

    /// How many others were heard within `gone_ms`, and how many of them can be heard now.
    pub(crate) fn heard_within(&self, gone_ms: u64, now_ms: u64) -> (usize, usize) {
        let within =
            |ms: u64| self.heard.values().filter(|one| now_ms.saturating_sub(one.at_ms) <= ms).count();
        (within(gone_ms), within(SILENCE_MAX_MS))
    }

    /// Whether to ask the engine for announcements once more, because a stranger was heard; at most every few seconds.
    pub(crate) fn may_ask_for_nodes(&mut self, now_ms: u64) -> bool {
        let may = now_ms.saturating_sub(self.asked_for_nodes_at_ms) >= ASK_FOR_NODES_MS;
        if may {
            self.asked_for_nodes_at_ms = now_ms;
        }
        may
    }

    /// How far this clock is from the median of the clocks heard, in milliseconds: positive when this one is ahead.
    pub(crate) fn clock_offset_ms(&self, now_ms: u64) -> Option<i64> {
        let mut offsets: Vec<i64> = self
            .heard
            .values()
            .filter(|heard| now_ms.saturating_sub(heard.at_ms) <= SILENCE_MAX_MS)
            .map(|heard| signed(heard.at_ms).saturating_sub(signed(heard.heartbeat.sent_at_ms)))
            .collect();
        offsets.sort_unstable();
        offsets.get(offsets.len() / 2).copied()
    }

    fn describe(&self, node: &NodeRecord, now_ms: u64) -> Member {
        let heard = self.heard.get(&(Arc::clone(&node.site), Arc::clone(&node.node)));
        let last_seen_ms = heard.map_or(0, |heard| heard.at_ms);
        let up = heard.is_some() && now_ms.saturating_sub(last_seen_ms) <= SILENCE_MAX_MS;
        Member {
            site: Arc::clone(&node.site),
            node: Arc::clone(&node.node),
            version: heard.map_or_else(|| node.version.clone(), |heard| heard.heartbeat.version.clone()),
            lag_ms: heard.map_or(0, |heard| heard.at_ms.saturating_sub(heard.heartbeat.sent_at_ms)),
            last_seen_ms,
            decisions: heard.map_or(0, |heard| heard.heartbeat.decisions),
            held: heard.map_or(0, |heard| heard.heartbeat.held),
            revision: heard.map_or(0, |heard| heard.heartbeat.revision),
            me: false,
            link: if up { Link::Up } else { Link::Down },
            duty: Duty::Serve,
            drained: heard.is_some_and(|heard| heard.heartbeat.drained),
            order_reason: String::new(),
        }
    }
}

#[derive(Debug)]
struct Heard {
    heartbeat: Heartbeat,
    at_ms: u64,
}

fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

/// A member not heard for this long is down: three heartbeats.
pub const SILENCE_MAX_MS: u64 = 3_500;
/// Clocks that differ by more are reported. Well below [`RECORD_FUTURE_MAX_MS`], at which records are refused.
pub(crate) const CLOCK_OFFSET_MAX_MS: i64 = 5_000;
/// Heartbeats further from our clock are taken for replays: nobody runs with a clock a quarter of an hour wrong unnoticed.
const HEARTBEAT_OFFSET_MAX_MS: u64 = 15 * 60_000;
const ASK_FOR_NODES_MS: u64 = 5_000;
const _: () = assert!(RECORD_FUTURE_MAX_MS > 2 * CLOCK_OFFSET_MAX_MS.unsigned_abs());

#[cfg(test)]
mod tests {
    use super::*;

    fn author(node: &str) -> Author {
        Author { site: "fra".into(), node: node.into(), role: AuthorRole::Node }
    }

    fn heartbeat(sent_at_ms: u64) -> Heartbeat {
        let (digests, lacks) = Default::default();
        let (revision, decisions, drained, away_ms) = (2, 3, false, 0);
        Heartbeat {
            version: "1".into(),
            revision,
            decisions,
            sent_at_ms,
            held: 0,
            drained,
            away_ms,
            digests,
            lacks,
        }
    }

    #[test]
    fn the_clock_is_compared_with_the_median_of_the_peers() {
        let mut members = Members::default();
        assert_eq!(members.clock_offset_ms(100_000), None);
        members.hear(&author("a"), &heartbeat(99_990), 100_000);
        members.hear(&author("b"), &heartbeat(99_980), 100_000);
        members.hear(&author("c"), &heartbeat(1), 100_000);
        assert_eq!(members.clock_offset_ms(100_000), Some(20), "one wild clock does not move the median");
        assert_eq!(members.clock_offset_ms(200_000), None, "silent peers do not count");
    }

    #[test]
    fn a_replayed_heartbeat_does_not_keep_a_member_alive() {
        let mut members = Members::default();
        members.hear(&author("a"), &heartbeat(100), 100);
        members.hear(&author("a"), &heartbeat(100), 90_000);
        assert_eq!(members.heard.values().next().unwrap().at_ms, 100);
    }
}
