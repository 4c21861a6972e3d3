//! From signals to incidents: what has much in common belongs together.
//!
//! Signals and incidents are joined by *entities*: addresses, networks, kinds of software, sessions, accounts, targets, shapes of payloads. Each
//! link weighs as much as it says; weights fade by half in half an hour. A signal joins the open incident with which it shares at
//! least a half; if there are several, it shows that they are one. What many share (popular software, a route, a network) weighs too
//! little to join anything alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use phalanx_model::Confidence;

use crate::detect::{Detector, Signal, Stage};
use crate::event::{Event, Subject, SubjectKind};
use crate::link::{Entity, Link};
use crate::sketch::{alike, mix};

/// How bad an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are words")]
pub enum Gravity {
    Low,
    Medium,
    High,
    Critical,
}

/// Signals that belong together.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Made of its first signal, so that nodes that hear the same signals give it the same; it begins with when that came.
    pub id: u64,
    /// When its first signal came, in Unix milliseconds.
    pub opened_ms: u64,
    /// When its last one came.
    pub changed_ms: u64,
    /// What was found, by detector and subject; at most [`FINDINGS_MAX`].
    pub findings: BTreeMap<(Detector, Subject), Finding>,
    /// The same, as far as this node found it itself: what is done is decided by these alone, so that nobody can have somebody refused elsewhere by
    /// telling of what he made up.
    pub own: BTreeMap<(Detector, Subject), Finding>,
    /// Nodes that saw it.
    pub nodes: BTreeSet<u16>,
    /// Incidents that turned out to be this one.
    pub absorbed: Vec<u64>,
    /// Requests that completed its signals, the latest at the end; at most [`EVIDENCE_MAX`].
    pub evidence: Vec<u128>,
    /// Entities with weight and time.
    pub(crate) entities: BTreeMap<Entity, (f32, u64)>,
}

/// What one detector found of one subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// First told, in Unix milliseconds.
    pub first_ms: u64,
    /// Last told.
    pub last_ms: u64,
    /// Most events that were told at once; several nodes tell of the same ones.
    pub events: u64,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether it may be acted on.
    pub decisive: bool,
    /// Why, in plain words.
    pub reason: String,
}

impl Incident {
    /// The farthest stage that was seen.
    pub fn stage(&self) -> Stage {
        self.findings.keys().map(|(detector, _)| detector.stage()).max().unwrap_or(Stage::Trouble)
    }

    /// Techniques of ATT&CK that were seen, each once.
    pub fn techniques(&self) -> BTreeSet<&'static str> {
        self.findings.keys().filter_map(|(detector, _)| detector.technique()).collect()
    }

    /// How bad it is: trouble and hearsay are low, several stages of one campaign are worse than any alone.
    pub fn gravity(&self) -> Gravity {
        gravity(&self.findings)
    }

    /// The same by what this node found itself.
    pub fn own_gravity(&self) -> Gravity {
        gravity(&self.own)
    }

    /// Whether a request is of one of its actors: an address, a session, an account, software that hardly anybody else uses, or an
    /// attempt with a password that is tried on many; or asks a route for which its network is part of it.
    pub fn covers(&self, event: &Event) -> bool {
        let of = |kind, id: Option<u64>| id.map(|id| Subject::new(kind, id));
        let subjects = [
            Some(Subject::address(event.ip)),
            of(SubjectKind::Session, event.session),
            of(SubjectKind::Account, event.account),
            of(SubjectKind::Software, event.software),
            event.password(),
        ];
        let weight = |entity| self.entities.get(&entity).map_or(0.0, |(weight, _)| *weight);
        let detectors: BTreeSet<Detector> = self.findings.keys().map(|(detector, _)| *detector).collect();
        let mut deeds =
            detectors.into_iter().map(|detector| Entity::deed(detector, event.route, event.network()));
        subjects.into_iter().flatten().any(|subject| weight(Entity::of(subject)) >= JOIN)
            || deeds.any(|deed| weight(deed) >= JOIN)
    }

    /// Whether requests to this route, see [`Event::route`], are part of it.
    pub fn is_about_route(&self, route: u64) -> bool {
        self.entities.contains_key(&Entity::of(Subject::new(SubjectKind::Route, route)))
    }

    fn at(opened_ms: u64, changed_ms: u64) -> Self {
        Self {
            id: 0,
            opened_ms,
            changed_ms,
            findings: BTreeMap::new(),
            own: BTreeMap::new(),
            nodes: BTreeSet::new(),
            absorbed: Vec::new(),
            evidence: Vec::new(),
            entities: BTreeMap::new(),
        }
    }

    /// Differs where something is known that was not, beyond how much entities weigh.
    fn stamp(&self) -> (usize, usize, usize, u64, u64) {
        let findings = self.findings.values();
        let told = findings.map(|finding| finding.events.wrapping_add(finding.last_ms));
        let sum = told.fold(self.changed_ms, u64::wrapping_add);
        let evidence = self.evidence.last().map_or(0, |id| u64::try_from(id >> 64).unwrap_or_default());
        (self.findings.len(), self.nodes.len(), self.absorbed.len(), sum, evidence)
    }

    /// A request that shows what happened.
    pub(crate) fn note_evidence(&mut self, request: u128) {
        if self.evidence.contains(&request) {
            return;
        }
        // Ids sort by time: the latest stay, in whatever order they come.
        let at = self.evidence.partition_point(|known| *known < request);
        self.evidence.insert(at, request);
        if self.evidence.len() > EVIDENCE_MAX {
            self.evidence.remove(0);
        }
    }

    fn take(&mut self, signal: &Signal, is_own: bool) {
        self.changed_ms = self.changed_ms.max(signal.at_ms);
        self.nodes.extend(&signal.nodes);
        note_finding(&mut self.findings, signal);
        if is_own {
            note_finding(&mut self.own, signal);
        }
    }

    fn weight(&self, entity: Entity, now_ms: u64) -> f32 {
        self.entities.get(&entity).map_or(0.0, |&(weight, at_ms)| weight * fade(now_ms.saturating_sub(at_ms)))
    }
}

fn gravity(findings: &BTreeMap<(Detector, Subject), Finding>) -> Gravity {
    let sure = findings.iter().filter(|(_, finding)| finding.decisive);
    let stages: BTreeSet<Stage> = sure.map(|((detector, _), _)| detector.stage()).collect();
    match (stages.len(), stages.last()) {
        (0, _) | (1, Some(Stage::Trouble)) => Gravity::Low,
        (1, Some(Stage::Reconnaissance)) => Gravity::Medium,
        (3.., Some(Stage::Exfiltration | Stage::Impact)) => Gravity::Critical,
        _ => Gravity::High,
    }
}

fn note_finding(findings: &mut BTreeMap<(Detector, Subject), Finding>, signal: &Signal) {
    let key = (signal.detector, signal.subject);
    if findings.len() >= FINDINGS_MAX && !findings.contains_key(&key) {
        return;
    }
    let finding = findings.entry(key).or_insert_with(|| Finding {
        first_ms: signal.at_ms,
        last_ms: signal.at_ms,
        events: 0,
        confidence: signal.confidence,
        decisive: false,
        reason: String::new(),
    });
    finding.last_ms = finding.last_ms.max(signal.at_ms);
    finding.events = finding.events.max(signal.events);
    finding.confidence = finding.confidence.max(signal.confidence);
    finding.decisive |= signal.decisive;
    finding.reason.clone_from(&signal.reason);
}

fn merge_findings(
    own: &mut BTreeMap<(Detector, Subject), Finding>,
    others: &BTreeMap<(Detector, Subject), Finding>,
) {
    for (key, finding) in others {
        let known = own.len();
        match own.get_mut(key) {
            Some(own) => own.merge(finding),
            None if known < FINDINGS_MAX => _ = own.insert(*key, finding.clone()),
            None => {}
        }
    }
}

impl Finding {
    fn merge(&mut self, other: &Self) {
        if (other.last_ms, &other.reason) > (self.last_ms, &self.reason) {
            self.reason.clone_from(&other.reason);
        }
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.events = self.events.max(other.events);
        self.confidence = self.confidence.max(other.confidence);
        self.decisive |= other.decisive;
    }
}

/// The open incidents of a fleet.
#[derive(Debug, Default)]
pub struct Correlator {
    open: BTreeMap<u64, Incident>,
    index: HashMap<Entity, Vec<u64>>,
    /// Those of the index that are shapes of payloads; further ones join by equality only.
    shapes: Vec<Entity>,
    closed: Vec<Incident>,
}

impl Correlator {
    /// Adds a signal that this node made; says which incident it belongs to.
    pub fn add(&mut self, signal: &Signal) -> u64 {
        self.put(signal, true)
    }

    /// Adds one that another node told of: it is shown, and nothing is done because of it.
    pub fn add_told(&mut self, signal: &Signal) -> u64 {
        self.put(signal, false)
    }

    fn put(&mut self, signal: &Signal, is_own: bool) -> u64 {
        let mut near: Vec<(u64, f32)> = Vec::new();
        for link in &signal.links {
            let like = self.alike(link.entity);
            for entity in std::iter::once(link.entity).chain(like) {
                for id in self.index.get(&entity).into_iter().flatten() {
                    let Some(incident) = self.open.get(id) else { continue };
                    let weight = incident.weight(entity, signal.at_ms).min(link.weight);
                    match near.iter_mut().find(|(known, _)| known == id) {
                        Some((_, sum)) => *sum += weight,
                        None => near.push((*id, weight)),
                    }
                }
            }
        }
        near.retain(|(_, weight)| *weight >= JOIN);
        // The oldest stays: its number may be in a ticket already.
        near.sort_unstable_by_key(|(id, _)| *id);
        let id = near.first().map_or_else(|| self.open(signal), |(id, _)| *id);
        for (other, _) in near.into_iter().skip(1) {
            self.absorb(id, other);
        }
        if let Some(incident) = self.open.get_mut(&id) {
            incident.take(signal, is_own);
        }
        signal.links.iter().for_each(|link| self.link(id, *link, signal.at_ms));
        id
    }

    /// A request that an incident's countermeasure met, in vain for whoever sent it, is part of the incident: so it grows while its
    /// actors, who are refused, do nothing that a detector sees.
    pub fn met(&mut self, id: u64, event: &Event) {
        if let Some(incident) = self.open.get_mut(&id) {
            incident.changed_ms = incident.changed_ms.max(event.at_ms);
            let address = Link::of_subject(Subject::address(event.ip), false);
            // One that is known to be shared stays so.
            let known = incident.entities.get(&address.entity);
            let has_room = known.is_some() || incident.entities.len() < ENTITIES_MAX - ENTITIES_FOUND;
            if has_room && known.is_none_or(|(weight, _)| *weight >= JOIN) {
                self.link(id, address, event.at_ms);
            }
        }
    }

    /// Closes what nothing was heard of for a quarter of an hour; hands out what was closed since.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Incident> {
        let ids: Vec<u64> = self
            .open
            .values()
            .filter(|incident| Self::is_idle(incident, now_ms))
            .map(|incident| incident.id)
            .collect();
        ids.into_iter().for_each(|id| self.close(id));
        std::mem::take(&mut self.closed)
    }

    /// The open incidents, the oldest first.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.open.values()
    }

    /// The known payload that is nearest to one, if one is near and it is not known itself.
    fn alike(&self, entity: Entity) -> Option<Entity> {
        let shape = entity.shape().filter(|_| !self.index.contains_key(&entity))?;
        let near = self.shapes.iter().filter(|known| known.shape().is_some_and(|known| alike(known, shape)));
        near.min_by_key(|known| known.shape().map(|known| (known ^ shape).count_ones())).copied()
    }

    /// Whether nothing was heard of it for so long that it is over.
    pub fn is_idle(incident: &Incident, now_ms: u64) -> bool {
        incident.changed_ms.saturating_add(IDLE_MS) <= now_ms
    }

    /// Whether an open incident has this id.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    /// Names a request that shows what an open incident is about.
    pub(crate) fn note_evidence(&mut self, id: u64, request: u128) {
        if let Some(incident) = self.open.get_mut(&id) {
            incident.note_evidence(request);
        }
    }

    /// The open incident of this id, also where it is part of another by now.
    pub fn find(&self, id: u64) -> Option<&Incident> {
        let part = || self.open.values().find(|incident| incident.absorbed.contains(&id));
        self.open.get(&id).or_else(part)
    }

    /// Takes in what another node knows of an incident; says of which of this node's it is part, and whether that was news. Merging commutes, associates and
    /// repeats without effect, as far as there is room.
    ///
    /// What shows that two incidents are one is stricter than for signals: an actor that weighs enough in both, since weak links of two large
    /// incidents add up to anything.
    pub fn merge(&mut self, told: &Incident) -> (u64, bool) {
        let mut same = BTreeSet::new();
        let names = |incident: &Incident, id: u64| incident.id == id || incident.absorbed.contains(&id);
        same.extend(
            self.open.values().filter(|own| names(own, told.id) || names(told, own.id)).map(|own| own.id),
        );
        for (entity, &(weight, at_ms)) in &told.entities {
            for id in self.index.get(entity).into_iter().flatten() {
                let Some(own) = self.open.get(id) else { continue };
                let now_ms = own.changed_ms.max(told.changed_ms);
                let theirs = weight * fade(now_ms.saturating_sub(at_ms));
                if own.weight(*entity, now_ms).min(theirs) >= JOIN {
                    same.insert(*id);
                }
            }
        }
        let id = same.first().map_or(told.id, |first| told.id.min(*first));
        let before = self.open.get(&id).map(Incident::stamp);
        if before.is_none() {
            self.insert(Incident { id, ..Incident::at(told.opened_ms, told.changed_ms) });
        }
        same.into_iter().filter(|other| *other != id).for_each(|other| self.absorb(id, other));
        self.take_in(id, told);
        (id, self.open.get(&id).map(Incident::stamp) != before)
    }

    fn open(&mut self, signal: &Signal) -> u64 {
        let mut id = id_of(signal);
        while self.open.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        self.insert(Incident { id, ..Incident::at(signal.at_ms, signal.at_ms) });
        id
    }

    fn insert(&mut self, incident: Incident) {
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.values().min_by_key(|incident| (incident.changed_ms, incident.id));
            if let Some(id) = oldest.map(|incident| incident.id) {
                self.close(id);
            }
        }
        self.open.insert(incident.id, incident);
    }

    /// Ends an incident; [`Correlator::tick`] hands it out.
    pub fn close(&mut self, id: u64) {
        let Some(incident) = self.open.remove(&id) else { return };
        incident.entities.keys().for_each(|entity| self.unlink(id, *entity));
        if self.closed.len() < OPEN_MAX {
            self.closed.push(incident);
        }
    }

    fn absorb(&mut self, id: u64, other: u64) {
        let Some(gone) = self.open.remove(&other) else { return };
        gone.entities.keys().for_each(|entity| self.unlink(other, *entity));
        self.take_in(id, &gone);
        if let Some(incident) = self.open.get_mut(&id) {
            merge_findings(&mut incident.own, &gone.own);
        }
    }

    fn take_in(&mut self, id: u64, other: &Incident) {
        for (&entity, &(weight, at_ms)) in &other.entities {
            self.link(id, Link { entity, weight }, at_ms);
        }
        let Some(incident) = self.open.get_mut(&id) else { return };
        incident.opened_ms = incident.opened_ms.min(other.opened_ms);
        incident.changed_ms = incident.changed_ms.max(other.changed_ms);
        incident.nodes.extend(&other.nodes);
        merge_findings(&mut incident.findings, &other.findings);
        other.evidence.iter().for_each(|request| incident.note_evidence(*request));
        let parts = other.absorbed.iter().copied().chain([other.id]);
        let news: Vec<u64> = parts.filter(|part| *part != id && !incident.absorbed.contains(part)).collect();
        incident.absorbed.extend(news);
        incident.absorbed.truncate(FINDINGS_MAX);
    }

    fn link(&mut self, id: u64, link: Link, at_ms: u64) {
        let Some(incident) = self.open.get_mut(&id) else { return };
        let before = incident.entities.get(&link.entity).copied();
        let is_new = before.is_none();
        let kept = match before {
            // What was seen before and weighs no more than that would by now says nothing.
            Some((weight, seen_ms)) if seen_ms >= at_ms => {
                (weight.max(link.weight * fade(seen_ms.saturating_sub(at_ms))), seen_ms)
            }
            Some((weight, seen_ms)) => (link.weight.max(weight * fade(at_ms.saturating_sub(seen_ms))), at_ms),
            None => (link.weight, at_ms),
        };
        incident.entities.insert(link.entity, kept);
        if !is_new {
            return;
        }
        let mut pushed = None;
        if incident.entities.len() > ENTITIES_MAX {
            let lightest =
                incident.entities.iter().min_by(|a, b| a.1.1.cmp(&b.1.1).then(a.1.0.total_cmp(&b.1.0)));
            pushed = lightest.map(|(entity, _)| *entity);
        }
        pushed.inspect(|entity| _ = incident.entities.remove(entity));
        let ids = self.index.entry(link.entity).or_default();
        if ids.is_empty() && link.entity.shape().is_some() && self.shapes.len() < SHAPES_MAX {
            self.shapes.push(link.entity);
        }
        // What is part of many incidents tells nothing of any.
        if ids.len() < INCIDENTS_PER_ENTITY_MAX {
            ids.push(id);
        }
        if let Some(entity) = pushed {
            self.unlink(id, entity);
        }
    }

    fn unlink(&mut self, id: u64, entity: Entity) {
        if let Some(ids) = self.index.get_mut(&entity) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.index.remove(&entity);
                if entity.shape().is_some() {
                    self.shapes.retain(|known| *known != entity);
                }
            }
        }
    }
}

/// When the signal came, in 42 bits of milliseconds, then what it is about.
fn id_of(signal: &Signal) -> u64 {
    let about = mix(signal.subject.hash() ^ mix(signal.detector as u64));
    signal.at_ms << ABOUT_BITS | about >> (64 - ABOUT_BITS)
}

fn fade(age_ms: u64) -> f32 {
    let halvings = u16::try_from(age_ms / 60_000).unwrap_or(u16::MAX);
    (-f32::from(halvings) / 30.0).exp2()
}

/// What a signal must share with an incident to belong to it.
const JOIN: f32 = 0.5;
const IDLE_MS: u64 = 15 * 60_000;
/// Open incidents; with this many the one that is quiet longest is closed.
const OPEN_MAX: usize = 1_024;
/// Entities of one incident; the one seen longest ago makes room.
const ENTITIES_MAX: usize = 256;
/// Of them, so many are left to what detectors find: who is refused in vain does not push it out.
const ENTITIES_FOUND: usize = 64;
/// Findings of one incident; further ones only renew it.
pub const FINDINGS_MAX: usize = 256;
/// Requests that are named as evidence of one incident.
pub const EVIDENCE_MAX: usize = 16;
const ABOUT_BITS: u32 = 22;
const INCIDENTS_PER_ENTITY_MAX: usize = 8;
/// Shapes of payloads that others are compared with, one by one.
const SHAPES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(at_ms: u64, detector: Detector, links: &[(u64, f32)]) -> Signal {
        Signal {
            at_ms,
            detector,
            subject: Subject::new(SubjectKind::Session, links[0].0),
            confidence: Confidence::High,
            decisive: true,
            reason: String::new(),
            events: 1,
            nodes: vec![Signal::OWN],
            links: links
                .iter()
                .map(|&(entity, weight)| Link {
                    entity: Entity::address_hash(u32::try_from(entity % 0xffff_fff1).unwrap()),
                    weight,
                })
                .collect(),
        }
    }

    #[test]
    fn what_shares_an_actor_is_one_and_what_shares_a_network_is_not() {
        let mut all = Correlator::default();
        let one = all.add(&signal(0, Detector::Scanning, &[(1, 0.7), (9, 0.25), (8, 0.1)]));
        let other = all.add(&signal(1, Detector::Scanning, &[(2, 0.7), (9, 0.25), (8, 0.1)]));
        assert_ne!(one, other);
        assert_eq!(all.add(&signal(2, Detector::Stuffing, &[(1, 0.7)])), one);
        // Now it shows that both are one.
        assert_eq!(all.add(&signal(3, Detector::Stuffing, &[(1, 0.7), (2, 0.7)])), one);
        assert_eq!(all.incidents().count(), 1);
        assert_eq!(all.add(&signal(4, Detector::Exfiltration, &[(2, 0.7)])), one);
        let incident = all.incidents().next().unwrap();
        assert_eq!((incident.absorbed.clone(), incident.gravity()), (vec![other], Gravity::Critical));
    }

    #[test]
    fn payloads_that_are_alike_and_a_network_in_common_join() {
        let event = |host: u32, shape: u64| Event {
            shape,
            ..crate::event::tests::plain(std::net::Ipv4Addr::from_bits(0x2d00_0000 + host).into())
        };
        let of = |event: &Event| {
            let subject = Subject::address(event.ip);
            let links = Link::of_event(event, subject, Detector::Exploiting, true);
            Signal { subject, links, ..signal(0, Detector::Exploiting, &[(1, 0.7)]) }
        };
        let shape = 0x0123_4567_89ab_cdef;
        let mut all = Correlator::default();
        let one = all.add(&of(&event(1, shape)));
        assert_eq!(all.add(&of(&event(2, shape ^ 0b101))), one, "two bits apart, in one /24");
        assert_ne!(all.add(&of(&event(3 << 20, !shape))), one, "neither");
        assert_ne!(all.add(&of(&event(5 << 20, shape))), one, "a payload alone joins nothing");
    }

    #[test]
    fn links_fade_and_incidents_close() {
        let mut all = Correlator::default();
        let one = all.add(&signal(0, Detector::Scanning, &[(1, 0.7)]));
        assert!(all.tick(IDLE_MS - 1).is_empty());
        assert_ne!(all.add(&signal(40 * 60_000, Detector::Scanning, &[(1, 0.7)])), one);
        let closed = all.tick(40 * 60_000);
        assert_eq!(closed.iter().map(|incident| incident.id).collect::<Vec<_>>(), [one]);
        assert_eq!(all.incidents().count(), 1);
    }

    #[test]
    fn nodes_that_hear_the_same_name_it_alike_and_merge_in_any_order() {
        let signals: Vec<Signal> =
            (0..6).map(|n| signal(n * 700, Detector::Scanning, &[(n / 2, 0.7), (9, 0.25)])).collect();
        let mut nodes = [Correlator::default(), Correlator::default()];
        // A cut: each hears another half. One of them also hears what shows that two are one.
        let (first, second) = signals.split_at(3);
        first.iter().for_each(|signal| _ = nodes[0].add(signal));
        second.iter().for_each(|signal| _ = nodes[1].add(signal));
        let bridge = signal(5_000, Detector::Stuffing, &[(0, 0.7), (1, 0.7)]);
        nodes[0].add(&bridge);
        let told: Vec<Vec<Incident>> = nodes.iter().map(|node| node.incidents().cloned().collect()).collect();
        for _ in 0..2 {
            told[1].iter().rev().for_each(|incident| _ = nodes[0].merge(incident));
            told[0].iter().for_each(|incident| _ = nodes[1].merge(incident));
        }
        let ids = |node: &Correlator| node.incidents().map(|incident| incident.id).collect::<Vec<_>>();
        assert_eq!(ids(&nodes[0]), ids(&nodes[1]));
        assert_eq!(ids(&nodes[0]).len(), 2);
        let of = |node: &Correlator| node.incidents().map(|one| one.findings.clone()).collect::<Vec<_>>();
        assert_eq!(of(&nodes[0]), of(&nodes[1]));
        // The oldest id stays, and the others lead to it.
        let oldest = ids(&nodes[0])[0];
        assert_eq!(oldest >> ABOUT_BITS, 0);
        for incident in told.iter().flatten() {
            assert!(nodes.iter().all(|node| node.find(incident.id).is_some()));
        }
    }

    #[test]
    fn large_incidents_are_not_joined_by_what_everybody_shares() {
        let weak: Vec<(u64, f32)> = (100..120).map(|route| (route, 0.1)).collect();
        let mut nodes = [Correlator::default(), Correlator::default()];
        for (node, actor) in [(0, 1), (1, 2)] {
            nodes[node].add(&signal(0, Detector::Scanning, &[&[(actor, 0.7)], &weak[..]].concat()));
        }
        let other = nodes[1].incidents().next().unwrap().clone();
        nodes[0].merge(&other);
        assert_eq!(nodes[0].incidents().count(), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let mut all = Correlator::default();
        for id in 0..5_000 {
            all.add(&signal(id, Detector::Scanning, &[(id, 0.7), (1 << 40, 0.1)]));
            all.add(&signal(id, Detector::Scanning, &[(1 << 41, 0.7), (1 << 42 | id, 0.7)]));
        }
        assert!(all.open.len() <= OPEN_MAX && all.closed.len() <= OPEN_MAX);
        assert!(all.open.values().all(|incident| incident.entities.len() <= ENTITIES_MAX));
        assert!(all.index.len() <= OPEN_MAX * 2 + ENTITIES_MAX);
    }
}
