//! The latest changes of decisions about whole addresses, autonomous systems and countries, for readers that keep a copy elsewhere (a firewall) and ask from
//! time to time what is new. A bounded ring: who comes too late reads everything.

use std::collections::VecDeque;

use phalanx_model::limits::FLEET_TRAIL_MAX;
use phalanx_model::{Actor, ActorKey, Decision, DecisionKind};

use crate::Change;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Whom it is about: addresses, all of a system's or all of a country's.
    pub key: ActorKey,
    /// What is ordered, or was.
    pub kind: DecisionKind,
    /// Whether a decision is gone: ended, expired, replaced or evicted. Another may have come in its place.
    pub gone: bool,
}

/// What a reader is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailReading {
    /// Where to go on reading.
    pub position: u64,
    /// Counts changes of allow decisions since the start: they bear on what lies within them and around them.
    pub allows: u64,
    /// The changes since the reader's position; `None` if some of them are forgotten.
    pub traces: Option<Vec<Trace>>,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    traces: VecDeque<Trace>,
    position: u64,
    allows: u64,
}

impl Trail {
    /// Notes an applied change and what it replaced.
    pub(crate) fn note(&mut self, change: &Change, gone: &[Change]) {
        self.note_gone(gone);
        if let Change::Decided(decision) = change {
            self.push(decision, false);
        }
    }

    /// Notes what is no longer.
    pub(crate) fn note_gone(&mut self, gone: &[Change]) {
        for change in gone {
            if let Change::Decided(decision) = change {
                self.push(decision, true);
            }
        }
    }

    /// Lets every reader read everything again: so much has changed at once.
    pub(crate) fn forget(&mut self) {
        self.traces.clear();
        self.position += 1;
        self.allows += 1;
    }

    /// What changed since `position`; without one, where the trail ends.
    pub(crate) fn read(&self, position: Option<u64>) -> TrailReading {
        let skip = position.and_then(|position| {
            let behind = usize::try_from(self.position.checked_sub(position)?).ok()?;
            self.traces.len().checked_sub(behind)
        });
        TrailReading {
            position: self.position,
            allows: self.allows,
            traces: skip.map(|skip| self.traces.iter().skip(skip).copied().collect()),
        }
    }

    fn push(&mut self, decision: &Decision, gone: bool) {
        self.allows += u64::from(decision.kind == DecisionKind::Allow);
        let Some(key) = whole_key(&decision.actor) else { return };
        if self.traces.len() >= FLEET_TRAIL_MAX {
            self.traces.pop_front();
        }
        self.traces.push_back(Trace { key, kind: decision.kind, gone });
        self.position += 1;
    }
}

/// The key of an actor that is all of some addresses. One that is narrower (one kind of client, a session) has none: whoever
/// can tell apart nothing but addresses must not act on it.
pub fn whole_key(actor: &Actor) -> Option<ActorKey> {
    let key = actor.key();
    match key {
        ActorKey::Range(_) => actor.agent().is_none().then_some(key),
        ActorKey::Asn(_) | ActorKey::Country(_) => Some(key),
        ActorKey::Ja4(_) | ActorKey::Session(_) | ActorKey::Account(_) => None,
        ActorKey::Software(_) | ActorKey::Route(_) | ActorKey::App(_) | ActorKey::Rules(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{Author, AuthorRole, DecisionId};
    use std::sync::Arc;

    fn ban(actor: Actor) -> Change {
        Change::Decided(Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, 1),
            actor,
            kind: DecisionKind::Ban,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node },
            reason: String::new(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms: 10,
            version: 1,
        }))
    }

    fn ip(n: u32) -> Actor {
        Actor::ip(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_reader_gets_what_changed_since_it_last_read() {
        let mut trail = Trail::default();
        trail.note(&ban(ip(1)), &[]);
        let start = trail.read(None);
        assert_eq!((start.position, start.traces), (1, None));
        trail.note(&ban(ip(2)), &[ban(ip(1))]);
        let read = trail.read(Some(1));
        let traces = read.traces.unwrap();
        assert_eq!(traces.iter().map(|t| t.gone).collect::<Vec<_>>(), [true, false]);
        assert_eq!(trail.read(Some(read.position)).traces.unwrap(), []);
        assert_eq!(trail.read(Some(9)).traces, None, "a position of another life");
    }

    #[test]
    fn what_is_narrower_than_addresses_leaves_no_trace() {
        let mut trail = Trail::default();
        for actor in [Actor::client("192.0.2.1".parse().unwrap(), 7), Actor::Session(7), Actor::Account(7)] {
            trail.note(&ban(actor), &[]);
        }
        assert_eq!(trail.read(None).position, 0);
        trail.note(&ban(Actor::Asn(64_500)), &[]);
        assert_eq!(trail.read(None).position, 1);
    }

    #[test]
    fn who_comes_too_late_is_told_so() {
        let mut trail = Trail::default();
        for n in 0..=u32::try_from(FLEET_TRAIL_MAX).unwrap() {
            trail.note(&ban(ip(n)), &[]);
        }
        assert_eq!(trail.read(Some(0)).traces, None);
        assert_eq!(trail.read(Some(1)).traces.unwrap().len(), FLEET_TRAIL_MAX);
    }

    #[test]
    fn who_read_before_all_changed_is_told_to_read_everything() {
        let mut trail = Trail::default();
        trail.note(&ban(ip(1)), &[]);
        let before = trail.read(None);
        trail.forget();
        let after = trail.read(Some(before.position));
        assert_eq!(after.traces, None);
        assert_ne!(after.allows, before.allows);
        assert_eq!(trail.read(Some(after.position)).traces.unwrap(), []);
    }
}
