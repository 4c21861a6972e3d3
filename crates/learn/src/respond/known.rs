//! Who comes with good traffic, counted by what an order could be about: so that its cost is known before it is given.
//!
//! An actor is a session, or a client without one (an address with its software). It counts from when it first got an ordinary answer, and speaks
//! only against orders of incidents that began later: whoever attacks does not shield himself by what he asks for meanwhile.

use phalanx_model::Actor;

use super::{Honest, Target};
use crate::event::{Event, Outcome, Step, Subject, SubjectKind};
use crate::learner::seconds;
use crate::sketch::{Distinct, low32, mix};
use crate::table::Table;

/// Good traffic of a day. Bounded: 16,384 targets of 0.5 KiB at most; of who finds no room nothing is known, which is as good as nobody.
#[derive(Debug)]
pub struct Known {
    of: Table<Crowd>,
    all: Crowd,
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
        Self { of: Table::new(TARGETS_MAX, mix(seed ^ 0x6b6e)), all: Crowd::default() }
    }

    /// Notes an answered request, if it went well.
    pub fn note(&mut self, event: &Event) {
        if !is_good(event) {
            return;
        }
        let who = low32(mix(actor(event)));
        let minute = minute(event.at_ms);
        self.all.note(who, minute);
        let keys = [
            Some(Subject::address(event.ip)),
            Some(Subject::prefix(event.ip)),
            Some(Subject::new(SubjectKind::Route, event.route)),
            event.software.map(|id| Subject::new(SubjectKind::Software, id)),
            event.asn.map(Subject::system),
        ];
        let client = event.software.map(|software| client(event.ip, software));
        for key in keys.into_iter().flatten().map(Subject::hash).chain(client) {
            if let Some(entry) = self.of.entry(key, seconds(event.at_ms)) {
                entry.value.note(who, minute);
            }
        }
    }

    /// Who was known behind a target before a time; none for what nothing is counted of.
    pub fn honest(&self, target: &Target, before_ms: u64) -> Option<Honest> {
        let key = match target {
            Target::Actor(Actor::Ip(ip)) => Subject::address(*ip).hash(),
            Target::Actor(Actor::Prefix(range)) => Subject::prefix(range.addr()).hash(),
            Target::Actor(Actor::Asn(number)) => Subject::system(*number).hash(),
            Target::Software { id, .. } => Subject::new(SubjectKind::Software, *id).hash(),
            Target::Route(id) => Subject::new(SubjectKind::Route, *id).hash(),
            // Of one's own session and account nobody else is hurt.
            Target::Actor(Actor::Session(_) | Actor::Account(_)) => return Some(Honest::default()),
            _ => return None,
        };
        Some(self.counted(key, before_ms))
    }

    /// The same of one kind of software at an address. Of software that many have nobody knows whose it is there: it is everybody's who is.
    pub fn honest_client(&self, ip: std::net::IpAddr, software: u64, before_ms: u64) -> Honest {
        let has = Subject::new(SubjectKind::Software, software);
        let having = self.counted(has.hash(), before_ms);
        if having.actors >= POPULAR_LEAST && having.share_ppm >= POPULAR_PPM {
            return self.counted(Subject::address(ip).hash(), before_ms);
        }
        self.counted(client(ip, software), before_ms)
    }

    fn counted(&self, key: u64, before_ms: u64) -> Honest {
        let actors = self.of.peek(key).map_or(0, |crowd| crowd.before(before_ms));
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
    event.session.unwrap_or_else(|| client(event.ip, event.software.unwrap_or(0)))
}

fn client(ip: std::net::IpAddr, software: u64) -> u64 {
    mix(Subject::address(ip).hash() ^ software.rotate_left(17))
}

fn minute(at_ms: u64) -> u32 {
    u32::try_from(at_ms / 60_000).unwrap_or(u32::MAX)
}

/// Actors with one kind of software, and their share, from which it is one that people have.
const POPULAR_LEAST: u32 = 5;
const POPULAR_PPM: u32 = 20_000;
const TARGETS_MAX: usize = 16_384;
const MINUTES_KEPT: u32 = 24 * 60;
