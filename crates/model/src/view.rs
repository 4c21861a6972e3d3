//! The merged fleet state as the data plane reads it: one immutable value, swapped whole.
//!
//! A large shared base and a small overlay: a new decision copies the overlay only (microseconds), and the
//! overlay is folded into a new base when it has grown. Addresses are probed by hash, once per prefix length in use.
//!
//! INVARIANT: a lookup never returns a decision that has expired at `now_ms`, whatever the tables still hold.

use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::net::canonical;
use crate::{AuthorRole, Decision, DecisionKind, Prefix};

/// The fleet's decisions, merged. Withdrawn and superseded ones are already gone.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Counts the changes since the node started.
    pub revision: u64,
    base: Arc<Table>,
    overlay: Table,
}

impl View {
    /// A view of exactly these decisions.
    pub fn from_decisions(decisions: impl IntoIterator<Item = Arc<Decision>>) -> Self {
        let mut base = Table::default();
        for decision in decisions {
            base.insert(decision);
        }
        Self { revision: 0, base: Arc::new(base), overlay: Table::default() }
    }

    /// The view in which `range` has exactly these decisions. An empty list removes the range.
    pub fn with_range(&self, range: Prefix, decisions: Vec<Arc<Decision>>) -> Self {
        self.with_ranges([(range, decisions)])
    }

    /// The view in which each of these ranges has exactly these decisions: one copy of the overlay for all of them.
    pub fn with_ranges(&self, changes: impl IntoIterator<Item = (Prefix, Vec<Arc<Decision>>)>) -> Self {
        let mut overlay = self.overlay.clone();
        for (range, decisions) in changes {
            overlay.replace(range, decisions);
        }
        let mut next = Self { revision: self.revision + 1, base: Arc::clone(&self.base), overlay };
        if next.overlay.ranges.len() > OVERLAY_RANGES_MAX.max(next.base.ranges.len() / 16) {
            next.compact();
        }
        next
    }

    /// The decision in force about this address: an operator's allow first, then the strongest live one, the
    /// longest-lasting among equals. Decisions about one kind of client are left out; see [`View::lookup_client`].
    pub fn lookup(&self, ip: IpAddr, now_ms: u64) -> Option<&Arc<Decision>> {
        self.find(ip, None, now_ms)
    }

    /// As [`View::lookup`], with decisions about this kind of client at this address.
    pub fn lookup_client(&self, ip: IpAddr, agent: u64, now_ms: u64) -> Option<&Arc<Decision>> {
        self.find(ip, Some(agent), now_ms)
    }

    fn find(&self, ip: IpAddr, agent: Option<u64>, now_ms: u64) -> Option<&Arc<Decision>> {
        let ip = canonical(ip);
        let lengths = self.base.lengths(ip) | self.overlay.lengths(ip);
        let mut best: Option<&Arc<Decision>> = None;
        let mut left = lengths;
        while left != 0 {
            let bits = u8::try_from(127 - left.leading_zeros()).unwrap_or_default();
            left &= !(1u128 << bits);
            for decision in self.at(ip, bits + 1) {
                let applies = decision.is_live(now_ms) && decision.actor.covers_agent(agent);
                if applies && best.is_none_or(|b| rank(decision) > rank(b)) {
                    best = Some(decision);
                }
            }
        }
        best
    }

    /// Every live decision, in no order.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = &Arc<Decision>> {
        let base = self.base.ranges.iter().filter(|(range, _)| !self.overlay.ranges.contains_key(*range));
        base.chain(self.overlay.ranges.iter())
            .flat_map(|(_, decisions)| decisions)
            .filter(move |decision| decision.is_live(now_ms))
    }

    /// How many ranges have decisions, live or not yet swept.
    pub fn ranges_len(&self) -> usize {
        self.base.ranges.len() + self.overlay.ranges.len()
    }

    fn at(&self, ip: IpAddr, bits: u8) -> &[Arc<Decision>] {
        let Ok(range) = Prefix::new(ip, bits).map(|p| p.trunc()) else {
            return &[];
        };
        match self.overlay.ranges.get(&range) {
            Some(decisions) => decisions,
            None => self.base.ranges.get(&range).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    fn compact(&mut self) {
        let mut base = Table::default();
        let overlay = std::mem::take(&mut self.overlay);
        for (range, decisions) in &self.base.ranges {
            if !overlay.ranges.contains_key(range) {
                base.replace(*range, decisions.clone());
            }
        }
        for (range, decisions) in overlay.ranges {
            if !decisions.is_empty() {
                base.replace(range, decisions);
            }
        }
        self.base = Arc::new(base);
    }
}

/// Ranges with their decisions, and which prefix lengths occur (bit n stands for length n + 1).
#[derive(Debug, Clone, Default)]
struct Table {
    ranges: HashMap<Prefix, Vec<Arc<Decision>>, FixedState>,
    lengths_v4: u128,
    lengths_v6: u128,
}

impl Table {
    fn insert(&mut self, decision: Arc<Decision>) {
        let range = decision.actor.range();
        self.note_length(range);
        self.ranges.entry(range).or_default().push(decision);
    }

    fn replace(&mut self, range: Prefix, decisions: Vec<Arc<Decision>>) {
        self.note_length(range);
        self.ranges.insert(range, decisions);
    }

    fn note_length(&mut self, range: Prefix) {
        let bit = 1u128 << range.prefix_len().saturating_sub(1);
        match range {
            Prefix::V4(_) => self.lengths_v4 |= bit,
            Prefix::V6(_) => self.lengths_v6 |= bit,
        }
    }

    fn lengths(&self, ip: IpAddr) -> u128 {
        match ip {
            IpAddr::V4(_) => self.lengths_v4,
            IpAddr::V6(_) => self.lengths_v6,
        }
    }
}

/// Orders decisions about one address: operator's allow, operator's other orders and nodes' by kind, then by expiry.
fn rank(decision: &Decision) -> (bool, DecisionKind, u64) {
    let allow = decision.kind == DecisionKind::Allow && decision.author.role == AuthorRole::Operator;
    (allow, decision.kind, decision.expires_at_ms)
}

/// Below this many changed ranges the overlay is never folded: copying it costs less than 50 us.
const OVERLAY_RANGES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Author, DecisionId};

    fn decision(actor: Actor, kind: DecisionKind, role: AuthorRole, expires_at_ms: u64) -> Arc<Decision> {
        Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, expires_at_ms),
            actor,
            kind,
            author: Author { site: "fra".into(), node: "a".into(), role },
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms,
            version: 1,
        })
    }

    fn ban(text: &str, expires_at_ms: u64) -> Arc<Decision> {
        let actor = match text.parse::<Prefix>() {
            Ok(prefix) => Actor::prefix(prefix),
            Err(_) => Actor::ip(text.parse().unwrap()),
        };
        decision(actor, DecisionKind::Ban, AuthorRole::Node, expires_at_ms)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_prefixes_are_found() {
        let view = View::from_decisions([
            ban("192.0.2.1", 10),
            ban("2001:db8::/32", 10),
            ban("198.51.100.0/24", 10),
        ]);
        assert!(view.lookup(ip("192.0.2.1"), 0).is_some());
        assert!(view.lookup(ip("::ffff:192.0.2.1"), 0).is_some());
        assert!(view.lookup(ip("192.0.2.2"), 0).is_none());
        assert!(view.lookup(ip("2001:db8:9::1"), 0).is_some());
        assert!(view.lookup(ip("198.51.100.200"), 0).is_some());
    }

    #[test]
    fn ipv6_neighbours_share_a_fate() {
        let view = View::from_decisions([ban("2001:db8:1:2::9", 10)]);
        assert!(view.lookup(ip("2001:db8:1:2:ffff::1"), 0).is_some());
        assert!(view.lookup(ip("2001:db8:1:3::9"), 0).is_none());
    }

    #[test]
    fn a_narrow_decision_spares_the_neighbours_behind_the_same_address() {
        let actor = Actor::client(ip("192.0.2.1"), 7);
        let view = View::from_decisions([decision(actor, DecisionKind::Ban, AuthorRole::Node, 10)]);
        assert!(view.lookup_client(ip("192.0.2.1"), 7, 0).is_some());
        assert!(view.lookup_client(ip("192.0.2.1"), 8, 0).is_none());
        assert!(view.lookup(ip("192.0.2.1"), 0).is_none());
    }

    #[test]
    fn an_expired_decision_is_never_found() {
        let view = View::from_decisions([ban("192.0.2.1", 10)]);
        assert!(view.lookup(ip("192.0.2.1"), 9).is_some());
        assert!(view.lookup(ip("192.0.2.1"), 10).is_none());
    }

    #[test]
    fn an_operators_allow_beats_a_ban() {
        let allow = decision(Actor::ip(ip("192.0.2.1")), DecisionKind::Allow, AuthorRole::Operator, 10);
        let view = View::from_decisions([ban("192.0.2.0/24", 10), allow]);
        assert_eq!(view.lookup(ip("192.0.2.1"), 0).unwrap().kind, DecisionKind::Allow);
    }

    #[test]
    fn changes_survive_compaction() {
        let mut view = View::from_decisions([ban("192.0.2.1", 10)]);
        for n in 0..3_000u32 {
            let address = format!("10.0.{}.{}", n / 256, n % 256);
            let one = ban(&address, 10);
            view = view.with_range(one.actor.range(), vec![one]);
        }
        view = view.with_range(ban("10.0.0.7", 10).actor.range(), vec![]);
        assert!(view.lookup(ip("192.0.2.1"), 0).is_some());
        assert!(view.lookup(ip("10.0.11.183"), 0).is_some());
        assert!(view.lookup(ip("10.0.0.7"), 0).is_none());
        assert_eq!(view.live(0).count(), 3_000);
    }
}
