//! What those whom an incident is about have in common, and who follows them: so that an attacker who comes back as somebody else is met at once.
//!
//! A detector names whoever did enough. Who is refused then, and goes on from the next address, with the software that everybody has, slower, does
//! not do enough again for a long time. But he still does the same, on the same route, from the same provider or one of the same machines: of an open incident
//! that is enough to be asked for a proof. Nobody is refused because of a trail, only asked (`docs/adr/0040`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use phalanx_model::net::actor_ip;
use phalanx_model::{Actor, Confidence};

use super::{Candidate, Known, Suspect, Target};
use crate::correlate::{Finding, Incident};
use crate::detect::{Detector, Signal, Stage};
use crate::event::{Event, Outcome, Step, Subject, SubjectKind};
use crate::link::Entity;
use crate::sketch::{low32, mix};

/// The trails of open incidents, one for each detector that found something in it. Bounded.
#[derive(Debug, Default)]
pub struct Trails {
    of: BTreeMap<(u64, Detector), Trail>,
    /// Which means are left out; see [`Without`].
    without: Without,
}

/// Means that are not used, to see what each is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Without {
    /// All are used.
    #[default]
    Nothing,
    /// Nobody is met for what others did.
    Trails,
    /// Providers are not asked as a whole.
    Systems,
    /// Routes are not either.
    Routes,
}

/// What a node knows of whom it would order about.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Who comes with good traffic.
    pub known: &'a Known,
    /// Whether nothing is ever ordered about it.
    pub is_exempt: &'a dyn Fn(&Actor) -> bool,
}

#[derive(Debug, Default)]
struct Trail {
    opened_ms: u64,
    changed_ms: u64,
    routes: Vec<u64>,
    /// Hashes of addresses from which it was done before it was a case.
    addresses: BTreeSet<u32>,
    /// Software that hardly anybody else has.
    tools: Vec<u64>,
    members: BTreeMap<IpAddr, Member>,
    /// Autonomous systems, with their machines.
    systems: BTreeMap<u32, System>,
    asked: Asked,
}

#[derive(Debug, Clone, Copy, Default)]
struct Member {
    software: u64,
    agent: Option<u64>,
    asn: Option<u32>,
    /// When it did it last and was not refused.
    last_ms: u64,
}

#[derive(Debug, Default)]
struct System {
    machines: BTreeSet<IpAddr>,
    last_ms: u64,
}

/// How attempts of whoever is not on the trail go on its routes, in this minute and the one before: of how many accounts or cards, since one password
/// that is out of date fails as often as it is tried.
#[derive(Debug, Default)]
struct Asked {
    minute: u64,
    failed: [BTreeSet<u32>; 2],
    all: [BTreeSet<u32>; 2],
    last_ms: u64,
}

impl Trails {
    /// Without some means.
    #[must_use]
    pub fn without(mut self, means: Without) -> Self {
        self.without = means;
        self
    }

    /// A signal of an incident, and the request that completed it, where one did.
    pub fn note(&mut self, incident: &Incident, signal: &Signal, event: Option<&Event>) {
        if !signal.decisive || signal.confidence == Confidence::Low || !leaves_one(signal.detector) {
            return;
        }
        let key = (incident.id, signal.detector);
        if self.of.len() >= TRAILS_MAX && !self.of.contains_key(&key) {
            let oldest = self.of.iter().min_by_key(|(_, trail)| trail.changed_ms).map(|(key, _)| *key);
            oldest.inspect(|key| _ = self.of.remove(key));
        }
        let trail =
            self.of.entry(key).or_insert_with(|| Trail { opened_ms: incident.opened_ms, ..Trail::default() });
        trail.opened_ms = trail.opened_ms.min(incident.opened_ms);
        trail.changed_ms = trail.changed_ms.max(signal.at_ms);
        for link in signal.links.iter().filter(|link| link.weight >= OWN_WEIGHT) {
            if link.entity == Entity::of(signal.subject)
                && signal.subject.kind == SubjectKind::Software
                && trail.tools.len() < TOOLS_MAX
                && !trail.tools.contains(&signal.subject.id)
            {
                trail.tools.push(signal.subject.id);
            }
            if let Some(hash) = link.entity.address().filter(|_| trail.addresses.len() < MEMBERS_MAX) {
                trail.addresses.insert(hash);
            }
        }
        if let Some(event) = event {
            if trail.routes.len() < ROUTES_MAX && !trail.routes.contains(&event.route) {
                trail.routes.push(event.route);
            }
            trail.join(event, false);
        }
    }

    /// A request that was answered: whoever does what an incident is about, and has something in common with it, is of it.
    pub fn see(&mut self, event: &Event, known: &Known) {
        if event.exempt {
            return;
        }
        for ((_, detector), trail) in &mut self.of {
            if trail.is_over(event.at_ms) {
                continue;
            }
            let is_deed = trail.is_deed(*detector, event);
            if is_deed && (trail.has(event) || trail.is_of_system(event, known)) {
                trail.join(event, true);
            } else if (is_deed || is_attempt(*detector, event)) && trail.routes.contains(&event.route) {
                trail.asked.count(event, is_deed);
            }
        }
    }

    /// A request that an order of an incident met, in vain for whoever sent it: he is of it, though he gets nowhere.
    pub fn met(&mut self, incident: u64, detector: Detector, event: &Event) {
        if let Some(trail) = self.of.get_mut(&(incident, detector)) {
            trail.join(event, false);
        }
    }

    /// An incident turned out to be another.
    pub fn merge(&mut self, from: u64, into: u64) {
        if from == into {
            return;
        }
        let keys: Vec<(u64, Detector)> = self.of.keys().filter(|(id, _)| *id == from).copied().collect();
        for key in keys {
            let Some(gone) = self.of.remove(&key) else { continue };
            self.of.entry((into, key.1)).or_default().absorb(gone);
        }
    }

    /// Forgets what is long over.
    pub fn tick(&mut self, now_ms: u64) {
        self.of.retain(|_, trail| !trail.is_over(now_ms));
    }

    /// Everybody who is suspected in an incident: whom detectors named, who follows them, and what they have in common.
    pub fn suspects(&self, incident: &Incident, ground: &Ground<'_>, now_ms: u64) -> Vec<Suspect> {
        let named = incident.own.iter().map(|((detector, subject), finding)| {
            let candidates = self.candidates(incident, (*detector, *subject), ground, now_ms);
            let Finding { confidence, decisive, last_ms, .. } = *finding;
            Suspect { subject: *subject, detector: *detector, confidence, decisive, last_ms, candidates }
        });
        named.chain(self.kin(incident, ground, now_ms)).collect()
    }

    /// Whom an order could be about to meet somebody whom a detector named, narrowest first, and who else is there.
    pub fn candidates(
        &self,
        incident: &Incident,
        (detector, subject): (Detector, Subject),
        ground: &Ground<'_>,
        now_ms: u64,
    ) -> Vec<Candidate> {
        let of = Asking { detector, ground, opened_ms: incident.opened_ms, now_ms };
        match (subject.kind, subject.actor()) {
            (SubjectKind::Address, Some(Actor::Ip(ip))) => {
                let trail = self.of.get(&(incident.id, detector));
                let address = of.candidate(Target::Actor(Actor::ip(ip)));
                // Where nobody else is known, whatever he comes with next is his as well.
                let is_shared = address.honest.is_some_and(|honest| honest.actors > 0);
                let client =
                    trail.filter(|_| is_shared).and_then(|of_it| of.client(ip, of_it.members.get(&ip)?));
                let prefix = Subject::prefix(ip).actor().map(|actor| of.candidate(Target::Actor(actor)));
                client.into_iter().chain([address]).chain(prefix).collect()
            }
            (SubjectKind::Prefix | SubjectKind::Session | SubjectKind::Account, Some(actor)) => {
                vec![of.candidate(Target::Actor(actor))]
            }
            (SubjectKind::Software, _) => vec![of.candidate(Target::Software { id: subject.id, ja4: None })],
            _ => Vec::new(),
        }
    }

    /// Those whom no detector named: who follows them, and what they have in common. Nobody of them is met by more than a challenge.
    pub fn kin(&self, incident: &Incident, ground: &Ground<'_>, now_ms: u64) -> Vec<Suspect> {
        let uses = |means: Without| ![Without::Trails, means].contains(&self.without);
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        for ((_, detector), trail) in self.of.range((incident.id, FIRST)..=(incident.id, LAST)) {
            let of = Asking { detector: *detector, ground, opened_ms: incident.opened_ms, now_ms };
            wide.extend(trail.route(&of).filter(|_| uses(Without::Routes)));
            wide.extend(trail.systems(&of).into_iter().filter(|_| uses(Without::Systems)));
            narrow.extend(trail.followers(&of).into_iter().filter(|_| uses(Without::Trails)));
        }
        wide.append(&mut narrow);
        wide
    }
}

/// Of which detector's trail, and what is known.
struct Asking<'a> {
    detector: Detector,
    ground: &'a Ground<'a>,
    opened_ms: u64,
    now_ms: u64,
}

impl Asking<'_> {
    fn suspect(&self, subject: Subject, last_ms: u64, candidates: Vec<Candidate>) -> Suspect {
        // It is only likely: nobody is turned away for what he has in common with others.
        let confidence = Confidence::Medium;
        Suspect { subject, detector: self.detector, confidence, decisive: true, last_ms, candidates }
    }

    fn candidate(&self, target: Target) -> Candidate {
        let exempt = match &target {
            Target::Actor(actor) => (self.ground.is_exempt)(actor),
            _ => false,
        };
        Candidate { honest: self.ground.known.honest(&target, self.opened_ms, self.now_ms), target, exempt }
    }

    /// What a machine comes with, where decisions have a name for it.
    fn client(&self, ip: IpAddr, member: &Member) -> Option<Candidate> {
        let actor = Actor::client(ip, member.agent?);
        let when = (self.opened_ms, self.now_ms);
        let honest = Some(self.ground.known.honest_client(ip, (member.software, member.agent), when));
        let exempt = (self.ground.is_exempt)(&actor);
        Some(Candidate { target: Target::Actor(actor), honest, exempt })
    }
}

impl Trail {
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.changed_ms.saturating_add(KEPT_MS)
    }

    /// Whether a request does what the detector is about.
    fn is_deed(&self, detector: Detector, event: &Event) -> bool {
        let is_on_route = || self.routes.contains(&event.route);
        match detector {
            Detector::Stuffing | Detector::Spraying => event.step == Step::Login(Outcome::Failed),
            Detector::Enumeration => event.step == Step::Lookup,
            Detector::Carding => event.step == Step::Payment(Outcome::Failed),
            Detector::Scanning => {
                event.step == Step::Page && matches!(event.status, 403..=405) && event.attack.is_none()
            }
            Detector::Exploiting => event.attack == Some(Confidence::High),
            Detector::ObjectWalk => event.step == Step::Page && event.object.is_some() && is_on_route(),
            Detector::Scraping => {
                event.step == Step::Page && (200..300).contains(&event.status) && event.session.is_none()
            }
            Detector::Exfiltration => event.response_bytes >= LARGE_BYTES && is_on_route(),
            _ => false,
        }
    }

    /// Whether whoever asks has a machine or a tool of it.
    fn has(&self, event: &Event) -> bool {
        let ip = actor_ip(event.ip);
        self.members.contains_key(&ip)
            || self.addresses.contains(&low32(mix(Subject::address(ip).id)))
            || event.software.is_some_and(|software| self.tools.contains(&software))
    }

    /// Whether it is done from a provider of which nobody good ever came.
    fn is_of_system(&self, event: &Event, known: &Known) -> bool {
        let asn = event.asn.filter(|asn| self.systems.contains_key(asn));
        asn.is_some_and(|asn| {
            let honest = known.honest(&Target::Actor(Actor::Asn(asn)), self.opened_ms, event.at_ms);
            honest.is_some_and(|honest| honest.actors == 0)
        })
    }

    fn join(&mut self, event: &Event, goes_on: bool) {
        self.changed_ms = self.changed_ms.max(event.at_ms);
        let ip = actor_ip(event.ip);
        if self.members.len() >= MEMBERS_MAX && !self.members.contains_key(&ip) {
            let oldest = self.members.iter().min_by_key(|(_, member)| member.last_ms).map(|(ip, _)| *ip);
            oldest.inspect(|ip| _ = self.members.remove(ip));
        }
        let member = self.members.entry(ip).or_default();
        (member.software, member.agent) = (event.software.unwrap_or(0), event.agent);
        member.asn = event.asn;
        if goes_on {
            member.last_ms = event.at_ms;
        }
        let Some(asn) = event.asn else { return };
        if self.systems.len() < SYSTEMS_MAX || self.systems.contains_key(&asn) {
            let system = self.systems.entry(asn).or_default();
            if system.machines.len() < MACHINES_COUNTED {
                system.machines.insert(ip);
            }
            system.last_ms = system.last_ms.max(event.at_ms);
        }
    }

    /// Members that went on, each with its client and its address.
    fn followers(&self, of: &Asking<'_>) -> Vec<Suspect> {
        let went_on = self.members.iter().filter(|(_, member)| member.last_ms > 0);
        went_on
            .map(|(ip, member)| {
                let address = of.candidate(Target::Actor(Actor::ip(*ip)));
                let candidates = of.client(*ip, member).into_iter().chain([address]).collect();
                of.suspect(Subject::address(*ip), member.last_ms, candidates)
            })
            .collect()
    }

    /// Providers from which several machines do it and nobody good ever came, before it began.
    fn systems(&self, of: &Asking<'_>) -> Vec<Suspect> {
        let theirs = self.systems.iter().filter(|(_, system)| system.machines.len() >= MACHINES_LEAST);
        theirs
            .map(|(asn, system)| (asn, system, of.candidate(Target::Actor(Actor::Asn(*asn)))))
            .filter(|(.., candidate)| candidate.honest.is_some_and(|honest| honest.actors == 0))
            .map(|(asn, system, candidate)| {
                of.suspect(Subject::system(*asn), system.last_ms, vec![candidate])
            })
            .collect()
    }

    /// The route where it is done, when more attempts fail there than people's do and nothing narrower meets them.
    fn route(&self, of: &Asking<'_>) -> Option<Suspect> {
        let [failed, all] =
            [&self.asked.failed, &self.asked.all].map(|[now, before]| now.union(before).count());
        let is_lately = of.now_ms < self.asked.last_ms.saturating_add(2 * MINUTE_MS);
        if !is_lately || failed < STRANGERS_LEAST || failed * 100 < all * STRANGERS_PERCENT {
            return None;
        }
        let route = self.routes.first()?;
        let candidates = vec![of.candidate(Target::Route(*route))];
        Some(of.suspect(Subject::new(SubjectKind::Route, *route), self.asked.last_ms, candidates))
    }

    fn absorb(&mut self, other: Self) {
        self.opened_ms = self.opened_ms.min(other.opened_ms);
        self.changed_ms = self.changed_ms.max(other.changed_ms);
        let room = MEMBERS_MAX.saturating_sub(self.members.len());
        self.members.extend(other.members.into_iter().take(room));
        let room = MEMBERS_MAX.saturating_sub(self.addresses.len());
        self.addresses.extend(other.addresses.into_iter().take(room));
        let room = SYSTEMS_MAX.saturating_sub(self.systems.len());
        for (asn, system) in other.systems.into_iter().take(room) {
            let own = self.systems.entry(asn).or_default();
            own.machines.extend(system.machines);
            own.last_ms = own.last_ms.max(system.last_ms);
        }
        for (own, others, most) in
            [(&mut self.routes, other.routes, ROUTES_MAX), (&mut self.tools, other.tools, TOOLS_MAX)]
        {
            others.into_iter().for_each(|one| {
                if own.len() < most && !own.contains(&one) {
                    own.push(one);
                }
            });
        }
    }
}

impl Asked {
    fn count(&mut self, event: &Event, is_deed: bool) {
        let minute = event.at_ms / MINUTE_MS;
        let passed = minute.saturating_sub(self.minute);
        let what = event.account.or(event.secret.map(u64::from)).unwrap_or(event.target);
        for (seen, counts) in [(&mut self.failed, is_deed), (&mut self.all, true)] {
            let [now, before] = seen;
            if passed > 0 {
                *before = if passed == 1 { std::mem::take(now) } else { BTreeSet::new() };
                now.clear();
            }
            if counts && now.len() < STRANGERS_COUNTED {
                now.insert(low32(mix(what)));
            }
        }
        self.minute = self.minute.max(minute);
        if is_deed {
            self.last_ms = self.last_ms.max(event.at_ms);
        }
    }
}

/// Whether who does it can be known by more than himself. Floods have their software; a stolen session is one.
fn leaves_one(detector: Detector) -> bool {
    detector.stage() > Stage::Trouble
        && !matches!(
            detector,
            Detector::Flood | Detector::ImpossibleTravel | Detector::SessionTheft | Detector::NewEndpoint
        )
}

/// Whether a request is an attempt of the kind of which the detector counts those that fail.
fn is_attempt(detector: Detector, event: &Event) -> bool {
    match detector {
        Detector::Stuffing | Detector::Spraying => matches!(event.step, Step::Login(_)),
        Detector::Carding => matches!(event.step, Step::Payment(_)),
        _ => false,
    }
}

const FIRST: Detector = Detector::Stuffing;
const LAST: Detector = Detector::Unusual;
const MINUTE_MS: u64 = 60_000;
/// What a link weighs that is of the attacker and not of the place where he is.
const OWN_WEIGHT: f32 = 0.5;
/// A trail is known for so long after what was last seen on it: an attacker who pauses is known when he is back.
const KEPT_MS: u64 = 60 * MINUTE_MS;
const TRAILS_MAX: usize = 256;
const MEMBERS_MAX: usize = 256;
const ROUTES_MAX: usize = 4;
const TOOLS_MAX: usize = 8;
const SYSTEMS_MAX: usize = 16;
/// Machines of a provider are counted up to this.
const MACHINES_COUNTED: usize = 8;
/// One machine is itself, two are their provider's.
const MACHINES_LEAST: usize = 2;
/// Accounts for which strangers fail on a route in two minutes from which that is the attack's, and
const STRANGERS_LEAST: usize = 10;
/// their part of all that are tried, per cent: of people's, one of ten is entered wrongly.
const STRANGERS_PERCENT: usize = 30;
/// They are counted up to this in a minute.
const STRANGERS_COUNTED: usize = 512;
/// An answer that is worth taking.
const LARGE_BYTES: u64 = 512 << 10;

#[cfg(test)]
mod tests;
