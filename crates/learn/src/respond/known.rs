//! Who comes with good traffic: counted by what an order could be about, so that its cost is known before it is given, and one by one, so that it is
//! known whom it turns away.
//!
//! An actor is a session, or a client without one (an address with its kind). It counts from when it first got an ordinary answer, and speaks
//! only against orders of incidents that began later: whoever attacks does not shield himself by what he asks for meanwhile.
//!
//! Failure direction: in the first minutes nobody knows who comes with good traffic. What an order about many would cost is not known then; at one
//! address everybody counts who was served well until now, the attacker with them.

use std::net::IpAddr;

use phalanx_model::Actor;

use super::{Honest, Target};
use crate::event::{Event, Outcome, Step, Subject, SubjectKind};
use crate::learner::seconds;
use crate::sketch::{Distinct, low32, mix};
use crate::table::Table;

/// Good traffic of a day. Bounded: 16,384 targets of 0.5 KiB at most and as many visitors of 24 bytes; of who finds no room nothing is known, which is
/// as good as nobody.
#[derive(Debug)]
pub struct Known {
    of: Table<Crowd>,
    all: Crowd,
    visitors: Table<Visitor>,
    /// When the first request was seen.
    since_ms: Option<u64>,
}

/// A session, or an address without one, that was served well.
#[derive(Debug, Default)]
struct Visitor {
    first_s: u32,
    last_s: u32,
}

#[derive(Debug, Default)]
struct Crowd {
    /// Actors, with the minute in which each came first.
    first: Distinct,
    pruned: u32,
}

impl Known {
    /// `seed` is random and the node's own.
    pub fn new(seed: u64) -> Self {
        Self {
            of: Table::new(TARGETS_MAX, mix(seed ^ 0x6b6e)),
            all: Crowd::default(),
            visitors: Table::new(VISITORS_MAX, mix(seed ^ 0x7673)),
            since_ms: None,
        }
    }

    /// Notes an answered request, if it went well.
    pub fn note(&mut self, event: &Event) {
        self.since_ms.get_or_insert(event.at_ms);
        if !is_good(event) {
            return;
        }
        let (actor, now_s) = (actor(event), seconds(event.at_ms));
        if let Some(entry) = self.visitors.entry(visitor(event), now_s) {
            let visitor = entry.value;
            if now_s.saturating_sub(visitor.last_s) >= RECENT_S {
                visitor.first_s = now_s;
            }
            visitor.last_s = visitor.last_s.max(now_s);
        }
        let who = low32(mix(actor));
        let minute = minute(event.at_ms);
        self.all.note(who, minute);
        let software = event.software.map(|id| Subject::new(SubjectKind::Software, id));
        let keys = [
            Some(Subject::address(event.ip)),
            Some(Subject::prefix(event.ip)),
            Some(Subject::new(SubjectKind::Route, event.route)),
            Some(Subject::new(SubjectKind::App, event.app)),
            software,
            event.asn.map(Subject::system),
        ];
        let client = kind(event).map(|kind| client(event.ip, kind));
        let has_account = event.session.is_some() && event.account.is_some();
        let spared = software.filter(|_| has_account).map(with_account);
        for key in keys.into_iter().flatten().map(Subject::hash).chain(client).chain(spared) {
            if let Some(entry) = self.of.entry(key, now_s) {
                entry.value.note(who, minute);
            }
        }
    }

    /// The visitor that a request is of, if it came regularly before an incident began: it was served well over a minute or more, first before the
    /// incident, and lately. Neither what a flood is served before it is found nor what it is served afterwards makes one of it.
    pub fn regular(&self, event: &Event, opened_ms: u64) -> Option<u64> {
        let (who, now_s) = (visitor(event), seconds(event.at_ms));
        let visitor = self.visitors.peek(who)?;
        let is_recent = now_s.saturating_sub(visitor.last_s) < RECENT_S;
        let came_before = visitor.first_s < seconds(opened_ms);
        let is_regular = visitor.last_s.saturating_sub(visitor.first_s) >= REGULAR_S;
        (is_recent && came_before && is_regular).then_some(who)
    }

    /// Whether it was known who comes when an incident began.
    pub fn is_informed(&self, opened_ms: u64) -> bool {
        self.since_ms.is_some_and(|since_ms| opened_ms >= since_ms.saturating_add(INFORMED_MS))
    }

    /// Who was known behind a target before an incident began; none where that is not known.
    pub fn honest(&self, target: &Target, opened_ms: u64, now_ms: u64) -> Option<Honest> {
        let (subject, is_narrow) = match target {
            Target::Actor(Actor::Ip(ip)) => (Subject::address(*ip), true),
            Target::Actor(Actor::Prefix(range)) => (Subject::prefix(range.addr()), false),
            Target::Actor(Actor::Asn(number)) => (Subject::system(*number), false),
            Target::Software { id, .. } => (Subject::new(SubjectKind::Software, *id), false),
            Target::Route(id) => (Subject::new(SubjectKind::Route, *id), false),
            Target::App(id) => (Subject::new(SubjectKind::App, *id), false),
            // Of one's own session and account nobody else is hurt.
            Target::Actor(Actor::Session(_) | Actor::Account(_)) => return Some(Honest::default()),
            _ => return None,
        };
        if !is_narrow && !self.is_informed(opened_ms) {
            return None;
        }
        let before_ms = self.before(opened_ms, now_ms);
        let mut actors = self.actors(subject.hash(), before_ms);
        if subject.kind == SubjectKind::Software {
            // Whoever has an account is spared.
            actors = actors.saturating_sub(self.actors(with_account(subject), before_ms));
        }
        Some(self.share(actors, before_ms))
    }

    /// The same of one kind of client at an address: its software, and by what decisions name it. Of software that many have nobody knows whose it is
    /// there: it is everybody's who is.
    pub fn honest_client(
        &self,
        ip: IpAddr,
        (software, agent): (u64, Option<u64>),
        (opened_ms, now_ms): (u64, u64),
    ) -> Honest {
        let before_ms = self.before(opened_ms, now_ms);
        let has = Subject::new(SubjectKind::Software, software);
        let having = self.share(self.actors(has.hash(), before_ms), before_ms);
        let is_popular = having.actors >= POPULAR_LEAST && having.share_ppm >= POPULAR_PPM;
        let key = match is_popular {
            true => Subject::address(ip).hash(),
            false => client(ip, agent.unwrap_or(software)),
        };
        self.share(self.actors(key, before_ms), before_ms)
    }

    /// Until when somebody must have come to speak against what is ordered. Five minutes before an incident; where a node has not watched for so long,
    /// one; and where it knows nobody yet, until now.
    fn before(&self, opened_ms: u64, now_ms: u64) -> u64 {
        let watched_ms = self.since_ms.map_or(0, |since_ms| opened_ms.saturating_sub(since_ms));
        match watched_ms {
            ..INFORMED_MS => now_ms.saturating_add(MINUTE_MS),
            INFORMED_MS..LONG_MS => opened_ms.saturating_sub(MINUTE_MS),
            LONG_MS.. => opened_ms.saturating_sub(BEFORE_MS),
        }
    }

    fn actors(&self, key: u64, before_ms: u64) -> u64 {
        self.of.peek(key).map_or(0, |crowd| crowd.before(before_ms))
    }

    fn share(&self, actors: u64, before_ms: u64) -> Honest {
        let all = self.all.before(before_ms).max(1);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Honest { actors: small(actors), share_ppm: small((actors * 1_000_000 / all).min(1_000_000)) }
    }
}

impl Crowd {
    fn note(&mut self, who: u32, minute: u32) {
        if self.pruned != minute {
            self.pruned = minute;
            self.first.forget(minute.saturating_sub(MINUTES_KEPT));
        }
        if !self.first.contains(who) {
            self.first.insert(who, minute);
        }
    }

    fn before(&self, before_ms: u64) -> u64 {
        let until = minute(before_ms);
        self.first.since(0).saturating_sub(self.first.since(until))
    }
}

/// Whether a request went well: it got what it asked for, and that is nothing that attackers get as well.
fn is_good(event: &Event) -> bool {
    let is_deed = matches!(
        event.step,
        Step::Login(Outcome::Failed | Outcome::Unknown)
            | Step::Payment(Outcome::Failed | Outcome::Unknown)
            | Step::Lookup
    );
    !event.exempt && event.attack.is_none() && (200..400).contains(&event.status) && !is_deed
}

/// Who asks: the session, or the client.
pub fn actor(event: &Event) -> u64 {
    event.session.unwrap_or_else(|| client(event.ip, kind(event).unwrap_or(0)))
}

/// Who comes regularly: a session, or an address without one, so that whoever updates his browser is known by it.
fn visitor(event: &Event) -> u64 {
    event.session.unwrap_or_else(|| Subject::address(event.ip).hash())
}

/// What kind of client asks, as decisions name it where that is known.
fn kind(event: &Event) -> Option<u64> {
    event.agent.or(event.software)
}

/// Those of a kind of software whose session belongs to an account.
fn with_account(software: Subject) -> u64 {
    mix(software.hash() ^ 0x6163_6374)
}

fn client(ip: IpAddr, kind: u64) -> u64 {
    mix(Subject::address(ip).hash() ^ kind.rotate_left(17))
}

fn minute(at_ms: u64) -> u32 {
    u32::try_from(at_ms / MINUTE_MS).unwrap_or(u32::MAX)
}

/// Actors with one kind of software, and their share, from which it is one that people have.
const POPULAR_LEAST: u32 = 5;
const POPULAR_PPM: u32 = 20_000;
const TARGETS_MAX: usize = 16_384;
const VISITORS_MAX: usize = 16_384;
/// From when on somebody comes regularly: longer than it takes to find an attack.
const REGULAR_S: u32 = 60;
/// Who was not seen for so long comes anew.
const RECENT_S: u32 = 600;
const MINUTE_MS: u64 = 60_000;
/// Twice that, from the first request on: until then nobody is regular, however many come.
const INFORMED_MS: u64 = 2 * MINUTE_MS;
/// Only who was good so long before an incident speaks for a target: what it began with may have looked good.
const BEFORE_MS: u64 = 5 * MINUTE_MS;
/// For that a node has to have watched for longer, so that there was time for people to come.
const LONG_MS: u64 = BEFORE_MS + INFORMED_MS;
const MINUTES_KEPT: u32 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::plain;

    const NOW: u64 = 1_767_571_200_000;
    const SOFTWARE: u64 = 7;
    const FLOOD: u64 = 8;

    fn visit(second: u64, ip: &str, software: u64) -> Event {
        Event { at_ms: NOW + second * 1_000, software: Some(software), ..plain(ip.parse().unwrap()) }
    }

    fn having(known: &Known, software: u64, second: u64) -> Option<u32> {
        let target = Target::Software { id: software, ja4: None };
        let at_ms = NOW + second * 1_000;
        known.honest(&target, at_ms, at_ms).map(|honest| honest.actors)
    }

    #[test]
    fn who_came_for_a_minute_is_regular_and_what_a_flood_was_served_is_not() {
        let mut known = Known::new(7);
        [0, 30, 60].into_iter().for_each(|second| known.note(&visit(second, "192.0.2.1", SOFTWARE)));
        (0..200).for_each(|n| known.note(&visit(150, &format!("198.51.100.{n}"), FLOOD)));
        let regular = |known: &Known, event: &Event| known.regular(event, event.at_ms).is_some();
        assert!(regular(&known, &visit(62, "192.0.2.1", SOFTWARE)));
        assert!(!regular(&known, &visit(152, "198.51.100.1", FLOOD)));
        assert!(!regular(&known, &visit(700, "192.0.2.1", SOFTWARE)), "forgotten");
        let ten_minutes_on = visit(700, "192.0.2.1", SOFTWARE);
        known.note(&ten_minutes_on);
        assert!(!regular(&known, &ten_minutes_on), "who comes back begins anew");
    }

    #[test]
    fn who_was_served_well_only_since_an_incident_began_is_not_regular_to_it() {
        let mut known = Known::new(7);
        for second in [0, 60, 120, 180] {
            known.note(&visit(second, "192.0.2.1", SOFTWARE));
            if second >= 60 {
                known.note(&visit(second, "198.51.100.1", FLOOD));
            }
        }
        let is_regular =
            |ip, opened_s: u64| known.regular(&visit(181, ip, FLOOD), NOW + opened_s * 1_000).is_some();
        assert_eq!((is_regular("192.0.2.1", 60), is_regular("198.51.100.1", 60)), (true, false));
        // An incident that began later is another matter.
        assert!(is_regular("198.51.100.1", 170));
    }

    #[test]
    fn before_a_node_has_watched_nobody_knows_what_an_order_about_many_costs() {
        let mut known = Known::new(7);
        assert_eq!(having(&known, SOFTWARE, 0), None);
        known.note(&visit(0, "192.0.2.1", SOFTWARE));
        assert_eq!(having(&known, SOFTWARE, 60), None, "it is too early to tell");
        (0..200).for_each(|n| known.note(&visit(150, &format!("198.51.100.{n}"), FLOOD)));
        assert_eq!((having(&known, SOFTWARE, 180), having(&known, FLOOD, 180)), (Some(1), Some(0)));
        assert_eq!(having(&known, FLOOD, 430), Some(0), "it is no better while it goes on");
        // At one address everybody counts meanwhile.
        let at = Target::Actor(Actor::ip("192.0.2.1".parse().unwrap()));
        assert_eq!(known.honest(&at, NOW, NOW).map(|honest| honest.actors), Some(1));
    }

    #[test]
    fn whoever_has_an_account_is_no_cost_of_an_order_about_software() {
        let mut known = Known::new(7);
        for n in 0..20 {
            let event = Event { session: Some(n), ..visit(n, "192.0.2.1", SOFTWARE) };
            known.note(&event);
            if n < 15 {
                known.note(&Event { account: Some(n), ..event });
            }
        }
        assert_eq!(having(&known, SOFTWARE, 900), Some(5));
    }

    #[test]
    fn a_flood_of_addresses_pushes_no_regular_visitor_out() {
        let mut known = Known::new(7);
        [0, 70].into_iter().for_each(|second| known.note(&visit(second, "192.0.2.1", SOFTWARE)));
        for n in 0..40_000_u32 {
            known.note(&visit(71, &std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).to_string(), FLOOD));
        }
        assert!(known.visitors.len() <= VISITORS_MAX + VISITORS_MAX / 4);
        assert!(known.regular(&visit(72, "192.0.2.1", SOFTWARE), NOW + 72_000).is_some());
    }
}
