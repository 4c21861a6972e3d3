//! Who is there: signed heartbeats once a second, and what they say about lag and clocks.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::FLEET_NODES_MAX;
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{NodeRecord, Refusal, SignedRecord, TrustRoots};
use serde::{Deserialize, Serialize};

use crate::clocks::{Ahead, CLOCK_OFFSET_MAX_MS, MAJORITY};
use crate::digests::Digests;
use crate::orders::Duty;
use crate::policy::PolicyBeat;

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
    /// What it says of policy; none of a version that says nothing.
    pub policy: Option<PolicyBeat>,
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
    /// Whether its attacks on itself are refused; `None` of one that does not say, or made none yet.
    pub self_test: Option<bool>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<PolicyBeat>,
    #[serde(default)]
    pub(crate) held: usize,
    /// What the node adds to its clock's time: it knows that it is wrong.
    #[serde(default)]
    pub(crate) correction_ms: i64,
    /// Rises from heartbeat to heartbeat, whatever the clock does; 0 from a node that does not number them.
    #[serde(default)]
    pub(crate) number: u64,
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
    /// Whether the node's attacks on itself are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) self_test: Option<bool>,
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
        if heartbeat.version.len() > 64 || heartbeat.policy.as_ref().is_some_and(|policy| !policy.fits()) {
            return Err(Refusal::Unreadable("version or policy too long".into()));
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
    last_number: u64,
}

impl Members {
    /// Takes note of a checked heartbeat, without its digests. `steady_ms`: this node's wall clock, for comparison with the other's.
    /// Returns for how long nothing was heard of the member that was not held up on its way, 0 if this one was, too; `None` if it is older
    /// than the last, a replay, which is ignored.
    pub(crate) fn hear(
        &mut self,
        author: &Author,
        heartbeat: &Heartbeat,
        now_ms: u64,
        steady_ms: i64,
    ) -> Option<u64> {
        let name = (Arc::clone(&author.site), Arc::clone(&author.node));
        let known = self.heard.get(&name);
        let order = |one: &Heartbeat| if one.number == 0 { one.sent_at_ms } else { one.number };
        let last = known.map_or(0, |heard| order(&heard.heartbeat));
        let full = self.heard.len() >= FLEET_NODES_MAX && !self.heard.contains_key(&name);
        if full || order(heartbeat) <= last {
            return None;
        }
        let mut offsets = known.map_or_else(Offsets::default, |heard| heard.offsets);
        let last_prompt_at_ms = known.map_or(0, |heard| heard.prompt_at_ms);
        let prompt = offsets.measure(steady_ms.saturating_sub(signed(heartbeat.sent_at_ms)), steady_ms);
        let prompt_at_ms = if prompt { now_ms } else { last_prompt_at_ms };
        // Packets of before a cut may arrive after it, and before their author does: it says itself when it is back.
        let returns = |heard: &Heard| heartbeat.away_ms > 0 && heard.heartbeat.away_ms == 0;
        let stayed =
            known.filter(|heard| heard.is_up(now_ms) && heard.back_ms != NOT_BACK && !returns(heard));
        let back_ms = stayed.map_or(now_ms, |heard| heard.back_ms);
        self.evicted.remove(&name);
        let heartbeat = Heartbeat { digests: None, lacks: Vec::new(), ..heartbeat.clone() };
        self.heard.insert(name, Heard { heartbeat, at_ms: now_ms, prompt_at_ms, back_ms, offsets });
        Some(prompt_at_ms.saturating_sub(last_prompt_at_ms))
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

    /// When anybody was last heard without delay, in Unix milliseconds.
    pub(crate) fn last_heard_ms(&self) -> Option<u64> {
        self.heard.values().map(|heard| heard.prompt_at_ms).max()
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

    /// How many others were heard within `gone_ms`, and how many of them can be heard now, and could be for `settled_ms`.
    pub(crate) fn heard_within(&self, gone_ms: u64, settled_ms: u64, now_ms: u64) -> (usize, usize) {
        let within = |one: &&Heard| now_ms.saturating_sub(one.at_ms) <= gone_ms;
        let settled = |one: &&Heard| one.is_up(now_ms) && now_ms.saturating_sub(one.back_ms) >= settled_ms;
        (self.heard.values().filter(within).count(), self.heard.values().filter(settled).count())
    }

    /// This node's link is lost: whoever is heard next was not heard in between.
    pub(crate) fn link_lost(&mut self) {
        self.heard.values_mut().for_each(|heard| heard.back_ms = NOT_BACK);
    }

    /// How many others of a site can be heard now.
    pub(crate) fn heard_of_site(&self, site: &str, now_ms: u64) -> usize {
        self.heard.iter().filter(|((of, _), heard)| **of == *site && heard.is_up(now_ms)).count()
    }

    /// Whether to ask the engine for announcements once more, because a stranger was heard; at most every few seconds.
    pub(crate) fn may_ask_for_nodes(&mut self, now_ms: u64) -> bool {
        let may = now_ms.saturating_sub(self.asked_for_nodes_at_ms) >= ASK_FOR_NODES_MS;
        if may {
            self.asked_for_nodes_at_ms = now_ms;
        }
        may
    }

    /// The number of this node's next heartbeat, not below `now_ms`.
    pub(crate) fn number(&mut self, now_ms: u64) -> u64 {
        self.last_number = now_ms.max(self.last_number.saturating_add(1));
        self.last_number
    }

    /// How far this node's wall clock is ahead of the median of all clocks, its own among them; of the other, if there is one only.
    pub(crate) fn clock_offset(&self, now_ms: u64) -> Option<Ahead> {
        let heard = self.heard.values().filter(|heard| heard.is_up(now_ms));
        let mut offsets: Vec<i64> = heard.map(Heard::offset_ms).collect();
        let clocks = offsets.len() + 1;
        if clocks >= MAJORITY {
            offsets.push(0);
        }
        offsets.sort_unstable();
        Some(Ahead { ms: offsets.get(offsets.len() / 2).copied()?, clocks })
    }

    /// This node's wall clock has stepped: what was measured by it before is measured by it now.
    pub(crate) fn own_clock_stepped(&mut self, step_ms: i64) {
        for offset in self.heard.values_mut().flat_map(|heard| &mut heard.offsets.ms) {
            if *offset != i64::MAX {
                *offset = offset.saturating_add(step_ms);
            }
        }
    }

    /// The time was corrected: members were heard as long ago as before.
    pub(crate) fn time_moved(&mut self, by_ms: i64) {
        for heard in self.heard.values_mut() {
            heard.at_ms = heard.at_ms.saturating_add_signed(by_ms);
            heard.prompt_at_ms = heard.prompt_at_ms.saturating_add_signed(by_ms);
            if heard.back_ms != NOT_BACK {
                heard.back_ms = heard.back_ms.saturating_add_signed(by_ms);
            }
        }
    }

    /// Clocks that are wrong, by name: how far each is ahead of what most say. `correction_ms`: what this node adds to its own.
    pub(crate) fn wrong_clocks(&self, now_ms: u64, correction_ms: i64) -> Vec<(String, i64)> {
        let up: Vec<_> = self.heard.iter().filter(|(_, heard)| heard.is_up(now_ms)).collect();
        if up.len() + 1 < MAJORITY {
            return Vec::new();
        }
        let ahead = up
            .into_iter()
            .map(|((site, node), heard)| (format!("{site}/{node}"), heard.ahead_ms(correction_ms)));
        let mut wrong: Vec<_> = ahead.filter(|(_, ms)| ms.abs() > CLOCK_OFFSET_MAX_MS).collect();
        wrong.sort_unstable();
        wrong
    }

    fn describe(&self, node: &NodeRecord, now_ms: u64) -> Member {
        let heard = self.heard.get(&(Arc::clone(&node.site), Arc::clone(&node.node)));
        let last_seen_ms = heard.map_or(0, |heard| heard.at_ms);
        let up = heard.is_some() && now_ms.saturating_sub(last_seen_ms) <= SILENCE_MAX_MS;
        Member {
            site: Arc::clone(&node.site),
            node: Arc::clone(&node.node),
            version: heard.map_or_else(|| node.version.clone(), |heard| heard.heartbeat.version.clone()),
            lag_ms: heard.map_or(0, Heard::lag_ms),
            last_seen_ms,
            decisions: heard.map_or(0, |heard| heard.heartbeat.decisions),
            held: heard.map_or(0, |heard| heard.heartbeat.held),
            revision: heard.map_or(0, |heard| heard.heartbeat.revision),
            policy: heard.and_then(|heard| heard.heartbeat.policy.clone()),
            me: false,
            link: if up { Link::Up } else { Link::Down },
            duty: Duty::Serve,
            drained: heard.is_some_and(|heard| heard.heartbeat.drained),
            order_reason: String::new(),
            self_test: heard.and_then(|heard| heard.heartbeat.self_test),
        }
    }
}

#[derive(Debug)]
struct Heard {
    heartbeat: Heartbeat,
    at_ms: u64,
    /// When the last one came that was not held up on its way.
    prompt_at_ms: u64,
    /// When it was heard again after a silence, or for the first time; [`NOT_BACK`] from when this node's link is lost.
    back_ms: u64,
    offsets: Offsets,
}

/// This node's wall clock less another's, as the last heartbeats told.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    ms: [i64; OFFSETS],
    /// When the last of them was begun, by this node's wall clock.
    last_at_ms: i64,
}

impl Default for Offsets {
    fn default() -> Self {
        Self { ms: [i64::MAX; OFFSETS], last_at_ms: i64::MIN }
    }
}

impl Offsets {
    /// Heartbeats that come at once were held up together, by a link that hung: all of them count for one, or the few that are
    /// remembered would all be late ones. Whether this one was not held up.
    fn measure(&mut self, offset_ms: i64, at_ms: i64) -> bool {
        if at_ms.abs_diff(self.last_at_ms) >= AT_ONCE_MS {
            self.ms.rotate_left(1);
            self.last_at_ms = at_ms;
            if let Some(last) = self.ms.last_mut() {
                *last = i64::MAX;
            }
        }
        if let Some(last) = self.ms.last_mut() {
            *last = offset_ms.min(*last);
        }
        offset_ms.saturating_sub(self.least_ms()) <= HELD_UP_MS
    }

    /// What a heartbeat waits on its way only adds.
    fn least_ms(&self) -> i64 {
        self.ms.into_iter().min().unwrap_or_default()
    }
}

impl Heard {
    fn is_up(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) <= SILENCE_MAX_MS
    }

    fn offset_ms(&self) -> i64 {
        self.offsets.least_ms()
    }

    /// How far the member's wall clock is ahead of the time.
    fn ahead_ms(&self, correction_ms: i64) -> i64 {
        self.offset_ms().saturating_add(correction_ms).saturating_neg()
    }

    /// How long the last heartbeat travelled, each clock corrected as its node does.
    fn lag_ms(&self) -> u64 {
        self.at_ms
            .saturating_sub(self.heartbeat.sent_at_ms.saturating_add_signed(self.heartbeat.correction_ms))
    }
}

fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX)
}

/// A member not heard for this long is down: three heartbeats.
pub const SILENCE_MAX_MS: u64 = 3_500;
/// Heartbeats further from our clock are taken for replays: nobody runs with a clock a quarter of an hour wrong unnoticed.
const HEARTBEAT_OFFSET_MAX_MS: u64 = 15 * 60_000;
/// Of a member that was not heard since this node lost its link: it was never back for long.
const NOT_BACK: u64 = u64::MAX;
const ASK_FOR_NODES_MS: u64 = 5_000;
/// Heartbeats by which clocks are compared: one that waited on its way does not move them.
const OFFSETS: usize = 4;
/// Half the time from one heartbeat to the next.
const AT_ONCE_MS: u64 = 500;
/// Longer than a busy machine takes.
const HELD_UP_MS: i64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn author(node: &str) -> Author {
        Author { site: "fra".into(), node: node.into(), role: AuthorRole::Node }
    }

    fn heartbeat(sent_at_ms: u64) -> Heartbeat {
        Heartbeat {
            version: "1".into(),
            revision: 2,
            decisions: 3,
            sent_at_ms,
            policy: None,
            held: 0,
            correction_ms: 0,
            number: 0,
            digests: None,
            lacks: Vec::new(),
            drained: false,
            away_ms: 0,
            self_test: None,
        }
    }

    fn ahead(ms: i64, clocks: usize) -> Option<Ahead> {
        Some(Ahead { ms, clocks })
    }

    #[test]
    fn the_clock_is_compared_with_the_median_of_all() {
        let mut members = Members::default();
        assert_eq!(members.clock_offset(100_000), None);
        members.hear(&author("a"), &heartbeat(99_980), 100_000, 100_000);
        assert_eq!(members.clock_offset(100_000), ahead(20, 2));
        members.hear(&author("c"), &heartbeat(1), 100_000, 100_000);
        assert_eq!(members.clock_offset(100_000), ahead(20, 3), "one wild clock does not move the median");
        members.hear(&author("b"), &heartbeat(400_000), 100_000, 100_000);
        members.hear(&author("c"), &heartbeat(99_990), 100_000, 100_000);
        assert_eq!(members.clock_offset(200_000), None, "silent peers do not count");
    }

    #[test]
    fn of_one_fast_and_one_slow_clock_the_third_is_right_and_all_three_know() {
        let wall = |node: &str| match node {
            "fast" => 1_300_000u64,
            "slow" => 700_000,
            _ => 1_000_000,
        };
        for (me, off_ms) in [("right", 0), ("fast", 300_000), ("slow", -300_000)] {
            let mut members = Members::default();
            for other in ["right", "fast", "slow"].into_iter().filter(|other| *other != me) {
                members.hear(&author(other), &heartbeat(wall(other)), wall(me), signed(wall(me)));
            }
            assert_eq!(members.clock_offset(wall(me)), ahead(off_ms, 3), "{me}");
            let wrong: Vec<_> = [("fra/fast", 300_000), ("fra/slow", -300_000)]
                .into_iter()
                .filter(|(name, _)| !name.ends_with(me))
                .map(|(name, ms)| (name.to_owned(), ms))
                .collect();
            assert_eq!(members.wrong_clocks(wall(me), -off_ms), wrong, "{me}");
        }
    }

    #[test]
    fn a_heartbeat_that_waited_on_its_way_does_not_move_the_clock() {
        let mut members = Members::default();
        for (n, delay) in [0, 0, 30_000, 29_000].into_iter().enumerate() {
            let sent = 100_000 + 1_000 * n as u64;
            for node in ["a", "b"] {
                members.hear(&author(node), &heartbeat(sent), sent + delay, signed(sent + delay));
            }
            assert_eq!(members.clock_offset(sent + delay), ahead(0, 3));
        }
        members.own_clock_stepped(300_000);
        assert_eq!(members.clock_offset(132_000), ahead(300_000, 3), "a step of its own is known at once");
    }

    #[test]
    fn heartbeats_that_a_link_held_up_together_do_not_move_the_clock() {
        let mut members = Members::default();
        let mut number = 0;
        let mut hear = |sent, at| {
            number += 1;
            for node in ["a", "b", "c"] {
                members.hear(&author(node), &Heartbeat { number, ..heartbeat(sent) }, at, signed(at));
            }
            members.clock_offset(at)
        };
        for sent in [100_000, 101_000, 102_000, 103_000] {
            assert_eq!(hear(sent, sent), ahead(0, 4));
        }
        // The link hangs; what its first seconds held arrives at last, and only then what was said since.
        for sent in [104_000, 105_000, 106_000, 107_000, 108_000] {
            assert_eq!(hear(sent, 111_000), ahead(0, 4), "{sent}");
        }
        for sent in [112_000, 113_000] {
            assert_eq!(hear(sent, sent), ahead(0, 4));
        }
        // Clocks that were set back are followed all the same.
        let found: Vec<_> = (114..118).map(|second| hear(second * 1_000 - 60_000, second * 1_000)).collect();
        assert_eq!(found.last(), Some(&ahead(60_000, 4)));
    }

    #[test]
    fn a_member_is_silent_until_it_is_heard_without_delay() {
        let mut members = Members::default();
        let mut hear = |sent: u64, at: u64| members.hear(&author("a"), &heartbeat(sent), at, signed(at));
        assert_eq!(hear(100_000, 100_000), Some(100_000), "never heard before");
        assert_eq!(hear(101_000, 101_400), Some(1_400), "a busy machine");
        assert_eq!(hear(101_000, 101_500), None, "a replay");
        // What a link held up is no sign that it carries anything now.
        for sent in [102_000, 103_000, 104_000] {
            assert_eq!(hear(sent, 109_000), Some(0), "{sent}");
        }
        assert_eq!(hear(111_000, 111_100), Some(9_700));
        assert_eq!(hear(112_000, 112_000), Some(900));
    }

    #[test]
    fn a_member_whose_clock_is_set_back_is_still_heard() {
        let mut members = Members::default();
        let numbered = |number, sent_at_ms| Heartbeat { number, ..heartbeat(sent_at_ms) };
        members.hear(&author("a"), &numbered(10, 500_000), 100_000, 100_000);
        members.hear(&author("a"), &numbered(11, 100_000), 101_000, 101_000);
        assert_eq!(members.last_seen_ms("fra", "a"), 101_000);
        members.hear(&author("a"), &numbered(11, 100_000), 102_000, 102_000);
        assert_eq!(members.last_seen_ms("fra", "a"), 101_000, "a replay is not");
        let mut mine = Members::default();
        assert_eq!((mine.number(7), mine.number(3), mine.number(20)), (7, 8, 20));
    }

    #[test]
    fn who_was_silent_or_missed_counts_as_heard_when_it_is_back_for_a_while() {
        let mut members = Members::default();
        let mut at = 100_000;
        let mut beats = |members: &mut Members, after_ms: u64| {
            at += after_ms;
            members.hear(&author("a"), &heartbeat(at), at, signed(at));
            at
        };
        let settled = |members: &Members, now_ms: u64| members.heard_within(60_000, 300, now_ms);
        let first = beats(&mut members, 0);
        assert_eq!((settled(&members, first), settled(&members, first + 300)), ((1, 0), (1, 1)));
        let on_time = beats(&mut members, 1_000);
        assert_eq!(settled(&members, on_time), (1, 1));
        let late = beats(&mut members, SILENCE_MAX_MS + 1);
        assert_eq!((settled(&members, late - 1), settled(&members, late)), ((1, 0), (1, 0)));
        assert_eq!(settled(&members, late + 300), (1, 1));
        members.link_lost();
        assert_eq!(settled(&members, late + 400), (1, 0), "what it said meanwhile is lost");
        let back = beats(&mut members, 1_000);
        assert_eq!((settled(&members, back), settled(&members, back + 300)), ((1, 0), (1, 1)));
        let away = Heartbeat { away_ms: 9_000, ..heartbeat(back + 400) };
        members.hear(&author("a"), &away, back + 400, 0);
        assert_eq!(settled(&members, back + 400), (1, 0), "what was heard before was on its way for long");
        members.hear(&author("a"), &Heartbeat { sent_at_ms: back + 800, ..away }, back + 800, 0);
        assert_eq!(settled(&members, back + 800), (1, 1), "said twice");
        members.time_moved(300_000);
        assert_eq!(settled(&members, back + 300_800), (1, 1));
    }

    #[test]
    fn a_replayed_heartbeat_does_not_keep_a_member_alive() {
        let mut members = Members::default();
        members.hear(&author("a"), &heartbeat(100), 100, 100);
        members.hear(&author("a"), &heartbeat(100), 90_000, 90_000);
        assert_eq!(members.heard.values().next().unwrap().at_ms, 100);
    }
}
