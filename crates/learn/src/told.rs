//! What nodes tell each other beside counts: signals, incidents, and what operators ruled about incidents.
//!
//! Each message is read whole or not at all, within limits. A detector that this version does not know is left out, so that nodes of two
//! versions understand each other as far as they can.
//!
//! Nodes are numbers in memory and names on the way: numbers are each node's own.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

use phalanx_model::Confidence;

use crate::correlate::{EVIDENCE_MAX, FINDINGS_MAX, Finding, Incident};
use crate::detect::{Detector, Signal};
use crate::event::{Subject, SubjectKind};
use crate::link::{Entity, Link};
use crate::share::Summary;
use crate::sketch::wire::{Reader, Writer};
pub use kept::Kept;

/// Signals of one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SignalsTold {
    /// Names of nodes; those of signals are places in it.
    pub names: Vec<String>,
    /// The signals, each with the request that completed it, where the node served one.
    pub signals: Vec<(Signal, Option<u128>)>,
}

/// Incidents, or parts of incidents, as one node knows them.
#[derive(Debug, Clone, Default)]
pub struct IncidentsTold {
    /// The token of the lease to name incidents, of the node that holds it; 0 of others.
    pub token: u64,
    /// Names of nodes; those of incidents are places in it.
    pub names: Vec<String>,
    /// The parts; those of one incident are told apart where they are many, and merge.
    pub incidents: Vec<Incident>,
}

/// What an operator ruled about an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// The incident's id.
    pub id: u64,
    /// When it was closed, in Unix milliseconds.
    pub closed_ms: Option<u64>,
    /// When what was done because of it was undone, in Unix milliseconds.
    pub undone_ms: Option<u64>,
}

impl Summary {
    /// In as many messages as it takes, each below [`MESSAGE_BYTES_MAX`].
    pub fn to_messages(&self) -> Vec<Vec<u8>> {
        let (mut rows, mut seen) = (self.rows.chunks(ROWS_AT_ONCE), self.seen.chunks(SEEN_AT_ONCE));
        let messages = std::iter::from_fn(|| match (rows.next(), seen.next()) {
            (None, None) => None,
            (rows, seen) => Some(Self {
                served: self.served.clone(),
                rows: rows.unwrap_or_default().to_vec(),
                seen: seen.unwrap_or_default().to_vec(),
            }),
        });
        messages.map(|message| message.to_bytes()).collect()
    }
}

impl SignalsTold {
    /// The compact form. What is too much is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(SIGNALS);
        write_names(&mut out, &self.names);
        let count = self.signals.len().min(SIGNALS_AT_ONCE);
        out.length(count);
        for (signal, evidence) in self.signals.iter().take(count) {
            out.number(signal.at_ms);
            out.text(signal.detector.name());
            write_subject(&mut out, signal.subject);
            out.byte(signal.confidence as u8);
            out.byte(u8::from(signal.decisive));
            out.text(cut(&signal.reason));
            out.number(signal.events);
            write_nodes(&mut out, signal.nodes.iter().copied());
            out.length(signal.links.len().min(LINKS_MAX));
            for link in signal.links.iter().take(LINKS_MAX) {
                out.number(link.entity.bits());
                out.number(per_mille(link.weight));
            }
            write_requests(&mut out, evidence.as_slice());
        }
        out.finish()
    }

    /// Reads the compact form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(SIGNALS, bytes)?;
        let names = read_names(&mut input)?;
        let mut signals = Vec::new();
        for _ in 0..input.length(SIGNALS_AT_ONCE)? {
            let at_ms = input.number()?;
            let detector = Detector::named(input.text(NAME_BYTES_MAX)?);
            let (subject, confidence) = (read_subject(&mut input)?, read_confidence(&mut input)?);
            let decisive = read_flag(&mut input)?;
            let reason = input.text(REASON_BYTES_MAX)?.to_owned();
            let events = input.number()?;
            let nodes = read_nodes(&mut input, names.len())?.into_iter().collect();
            let mut links = Vec::new();
            for _ in 0..input.length(LINKS_MAX)? {
                let entity = Entity::from_bits(input.number()?);
                links.push(Link { entity, weight: read_weight(&mut input)? });
            }
            let evidence = read_requests(&mut input, 1)?.pop();
            let Some(detector) = detector else { continue };
            let signal =
                Signal { at_ms, detector, subject, confidence, decisive, reason, events, nodes, links };
            signals.push((signal, evidence));
        }
        input.end()?;
        Some(Self { names, signals })
    }
}

impl IncidentsTold {
    /// In as many messages as it takes, each below [`MESSAGE_BYTES_MAX`]; at least one, which tells that this node names incidents.
    pub fn to_messages(&self) -> Vec<Vec<u8>> {
        let names: usize = self.names.iter().map(|name| name.len() + 1).sum();
        let mut messages = Vec::new();
        let mut rest = self.incidents.iter().flat_map(parts).peekable();
        loop {
            let (mut some, mut bytes) = (Vec::new(), names);
            while let Some(part) =
                rest.next_if(|part| some.is_empty() || bytes + size(part) <= MESSAGE_BYTES_MAX)
            {
                bytes += size(&part);
                some.push(part);
            }
            let message = Self { token: self.token, names: self.names.clone(), incidents: some };
            messages.push(message.to_bytes());
            if rest.peek().is_none() {
                return messages;
            }
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(INCIDENTS);
        out.number(self.token);
        write_names(&mut out, &self.names);
        out.length(self.incidents.len());
        self.incidents.iter().for_each(|incident| write_incident(&mut out, incident));
        out.finish()
    }

    /// Reads the compact form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(INCIDENTS, bytes)?;
        let token = input.number()?;
        let names = read_names(&mut input)?;
        let mut incidents = Vec::new();
        for _ in 0..input.length(PARTS_MAX)? {
            incidents.push(read_incident(&mut input, names.len())?);
        }
        input.end()?;
        Some(Self { token, names, incidents })
    }
}

impl Ruling {
    /// The compact form of some.
    pub fn to_bytes(rulings: &[Self]) -> Vec<u8> {
        let mut out = Writer::new(RULINGS);
        out.length(rulings.len().min(RULINGS_AT_ONCE));
        for ruling in rulings.iter().take(RULINGS_AT_ONCE) {
            out.number(ruling.id);
            [ruling.closed_ms, ruling.undone_ms].into_iter().for_each(|at| out.number(at.unwrap_or(0)));
        }
        out.finish()
    }

    /// Reads the compact form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Vec<Self>> {
        let mut input = Reader::new(RULINGS, bytes)?;
        let mut rulings = Vec::new();
        for _ in 0..input.length(RULINGS_AT_ONCE)? {
            let id = input.number()?;
            let mut at = || Some(Some(input.number()?).filter(|at_ms| *at_ms > 0));
            rulings.push(Self { id, closed_ms: at()?, undone_ms: at()? });
        }
        input.end()?;
        Some(rulings)
    }

    /// What both say.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.closed_ms = self.closed_ms.max(other.closed_ms);
        self.undone_ms = self.undone_ms.max(other.undone_ms);
    }
}

/// How much of a message it takes.
fn size(part: &Incident) -> usize {
    let mut out = Writer::new(INCIDENTS);
    write_incident(&mut out, part);
    out.len()
}

/// An incident in parts of bounded size.
fn parts(incident: &Incident) -> impl Iterator<Item = Incident> + '_ {
    let findings: Vec<_> = incident.findings.iter().collect();
    let chunks: Vec<BTreeMap<_, _>> = findings
        .chunks(FINDINGS_AT_ONCE)
        .map(|chunk| chunk.iter().map(|(key, finding)| (**key, (*finding).clone())).collect())
        .collect();
    let first = chunks.is_empty().then(BTreeMap::new);
    first.into_iter().chain(chunks).map(|findings| Incident { findings, ..incident.clone() })
}

fn write_incident(out: &mut Writer, incident: &Incident) {
    [incident.id, incident.opened_ms, incident.changed_ms].into_iter().for_each(|part| out.number(part));
    out.length(incident.findings.len());
    for ((detector, subject), finding) in &incident.findings {
        out.text(detector.name());
        write_subject(out, *subject);
        [finding.first_ms, finding.last_ms, finding.events].into_iter().for_each(|part| out.number(part));
        out.byte(finding.confidence as u8);
        out.byte(u8::from(finding.decisive));
        out.text(cut(&finding.reason));
    }
    write_nodes(out, incident.nodes.iter().copied());
    out.length(incident.absorbed.len().min(FINDINGS_MAX));
    incident.absorbed.iter().take(FINDINGS_MAX).for_each(|id| out.number(*id));
    write_requests(out, &incident.evidence);
    out.length(incident.entities.len().min(ENTITIES_MAX));
    for (entity, (weight, at_ms)) in incident.entities.iter().take(ENTITIES_MAX) {
        out.number(entity.bits());
        out.number(per_mille(*weight));
        out.number(*at_ms);
    }
}

fn read_incident(input: &mut Reader<'_>, names: usize) -> Option<Incident> {
    let (id, opened_ms, changed_ms) = (input.number()?, input.number()?, input.number()?);
    let mut findings = BTreeMap::new();
    for _ in 0..input.length(FINDINGS_AT_ONCE)? {
        let detector = Detector::named(input.text(NAME_BYTES_MAX)?);
        let subject = read_subject(input)?;
        let finding = Finding {
            first_ms: input.number()?,
            last_ms: input.number()?,
            events: input.number()?,
            confidence: read_confidence(input)?,
            decisive: read_flag(input)?,
            reason: input.text(REASON_BYTES_MAX)?.to_owned(),
        };
        detector.and_then(|detector| findings.insert((detector, subject), finding));
    }
    let nodes = read_nodes(input, names)?;
    let mut absorbed = Vec::new();
    for _ in 0..input.length(FINDINGS_MAX)? {
        absorbed.push(input.number()?);
    }
    let evidence = read_requests(input, EVIDENCE_MAX)?;
    let mut entities = BTreeMap::new();
    for _ in 0..input.length(ENTITIES_MAX)? {
        let entity = Entity::from_bits(input.number()?);
        entities.insert(entity, (read_weight(input)?, input.number()?));
    }
    let own = BTreeMap::new();
    Some(Incident { id, opened_ms, changed_ms, findings, own, nodes, absorbed, evidence, entities })
}

fn write_names(out: &mut Writer, names: &[String]) {
    out.length(names.len().min(NAMES_MAX));
    names.iter().take(NAMES_MAX).for_each(|name| out.text(name));
}

fn read_names(input: &mut Reader<'_>) -> Option<Vec<String>> {
    let count = input.length(NAMES_MAX)?;
    (0..count).map(|_| input.text(NODE_BYTES_MAX).map(str::to_owned)).collect()
}

fn write_nodes(out: &mut Writer, nodes: impl Iterator<Item = u16>) {
    let nodes: BTreeSet<u16> = nodes.filter(|node| usize::from(*node) < NAMES_MAX).collect();
    out.length(nodes.len());
    nodes.into_iter().for_each(|node| out.number(u64::from(node)));
}

fn read_nodes(input: &mut Reader<'_>, names: usize) -> Option<BTreeSet<u16>> {
    let count = input.length(names)?;
    let node = |input: &mut Reader<'_>| u16::try_from(input.number()?).ok();
    (0..count).map(|_| node(input).filter(|node| usize::from(*node) < names)).collect()
}

/// Evidence: 128 bits in two numbers each.
fn write_requests(out: &mut Writer, requests: &[u128]) {
    out.length(requests.len());
    for request in requests {
        out.number(u64::try_from(request >> 64).unwrap_or_default());
        out.number(u64::try_from(request & u128::from(u64::MAX)).unwrap_or_default());
    }
}

fn read_requests(input: &mut Reader<'_>, most: usize) -> Option<Vec<u128>> {
    let count = input.length(most)?;
    (0..count).map(|_| Some(u128::from(input.number()?) << 64 | u128::from(input.number()?))).collect()
}

fn write_subject(out: &mut Writer, subject: Subject) {
    out.byte(subject.kind as u8);
    out.number(subject.id);
}

fn read_subject(input: &mut Reader<'_>) -> Option<Subject> {
    let kind: SubjectKind = *SubjectKind::ALL.get(usize::from(input.byte()?))?;
    Some(Subject::new(kind, input.number()?))
}

fn read_confidence(input: &mut Reader<'_>) -> Option<Confidence> {
    let all = [Confidence::Low, Confidence::Medium, Confidence::High];
    all.get(usize::from(input.byte()?)).copied()
}

fn read_flag(input: &mut Reader<'_>) -> Option<bool> {
    match input.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number between 0 and 1000")]
fn per_mille(weight: f32) -> u64 {
    (weight.clamp(0.0, 1.0) * 1_000.0).round() as u64
}

fn read_weight(input: &mut Reader<'_>) -> Option<f32> {
    let per_mille = u16::try_from(input.number()?).ok().filter(|per_mille| *per_mille <= 1_000)?;
    Some(f32::from(per_mille) / 1_000.0)
}

fn cut(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default()
}

const SIGNALS: u8 = 0x62;
const INCIDENTS: u8 = 0x63;
const RULINGS: u8 = 0x64;
/// What fits into a signed record, in base64 and with what else that has.
pub const MESSAGE_BYTES_MAX: usize = 44 * 1024;
/// Rows of a message: each has at most 700 bytes.
const ROWS_AT_ONCE: usize = 40;
/// Each has at most 40 bytes.
const SEEN_AT_ONCE: usize = 300;
/// Each has at most some 900 bytes.
const SIGNALS_AT_ONCE: usize = 32;
/// Findings of a part of an incident: each has at most some 350 bytes.
const FINDINGS_AT_ONCE: usize = 32;
/// Parts of one message.
const PARTS_MAX: usize = 1_024;
const RULINGS_AT_ONCE: usize = 256;
/// As many entities as an incident has.
const ENTITIES_MAX: usize = 256;
const LINKS_MAX: usize = 32;
/// Names of nodes in a message: five times what a fleet is made for.
pub const NAMES_MAX: usize = 256;
/// Site and name of a node, with what parts them.
const NODE_BYTES_MAX: usize = 127;
/// A detector's name.
const NAME_BYTES_MAX: usize = 64;
/// A reason is a sentence.
const REASON_BYTES_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(n: u64) -> Signal {
        Signal {
            at_ms: 1_767_571_200_000 + n,
            detector: Detector::Scanning,
            subject: Subject::new(SubjectKind::Session, n),
            confidence: Confidence::High,
            decisive: true,
            reason: "ä".repeat(200),
            events: 20,
            nodes: vec![0, 2],
            links: (0..40)
                .map(|link| Link { entity: Entity::from_bits(u64::MAX - link), weight: 0.7 })
                .collect(),
        }
    }

    fn names() -> Vec<String> {
        ["fra/a", "fra/b", "syd/a"].map(str::to_owned).to_vec()
    }

    #[test]
    fn signals_come_back_as_they_were_told_within_limits() {
        let told =
            SignalsTold { names: names(), signals: (0..40).map(|n| (signal(n), Some(u128::MAX))).collect() };
        let bytes = told.to_bytes();
        assert!(bytes.len() <= MESSAGE_BYTES_MAX, "{}", bytes.len());
        let read = SignalsTold::from_bytes(&bytes).unwrap();
        assert_eq!((read.names.clone(), read.signals.len()), (names(), SIGNALS_AT_ONCE));
        let (first, evidence) = &read.signals[0];
        assert_eq!(
            (first.subject, first.nodes.clone(), *evidence),
            (signal(0).subject, vec![0, 2], Some(u128::MAX))
        );
        assert_eq!((first.links.len(), first.links[0].weight), (LINKS_MAX, 0.7));
        assert_eq!(SignalsTold::from_bytes(&read.to_bytes()), Some(read));
    }

    #[test]
    fn a_detector_of_a_newer_version_is_left_out() {
        let told = SignalsTold { names: names(), signals: vec![(signal(1), None), (signal(2), None)] };
        let mut bytes = told.to_bytes();
        let at = bytes.windows(8).position(|part| part == b"scanning").unwrap();
        bytes[at..at + 8].copy_from_slice(b"novelity");
        let read = SignalsTold::from_bytes(&bytes).unwrap();
        assert_eq!(read.signals.iter().map(|(signal, _)| signal.subject.id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn the_largest_incident_is_told_in_messages_that_fit_and_comes_back_whole() {
        let mut all = crate::Correlator::default();
        for n in 0..400 {
            let mut signal = signal(n);
            signal.links = vec![
                Link { entity: Entity::from_bits(1), weight: 0.7 },
                Link { entity: Entity::from_bits(n << 32), weight: 0.5 },
            ];
            all.add(&signal);
        }
        let incident = all.incidents().next().unwrap().clone();
        let told = IncidentsTold { token: 9, names: names(), incidents: vec![incident.clone(); 3] };
        let messages = told.to_messages();
        assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
        let mut other = crate::Correlator::default();
        for message in &messages {
            let read = IncidentsTold::from_bytes(message).unwrap();
            assert_eq!((read.token, read.names.clone()), (9, names()));
            read.incidents.iter().for_each(|part| _ = other.merge(part));
        }
        let read: Vec<&Incident> = other.incidents().collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].id, read[0].findings.len()), (incident.id, incident.findings.len()));
        assert_eq!(read[0].nodes, incident.nodes);
        let alive = IncidentsTold { token: 9, names: Vec::new(), incidents: Vec::new() };
        assert_eq!(alive.to_messages().len(), 1);
    }

    #[test]
    fn rulings_come_back() {
        let rulings = [Ruling { id: 7, closed_ms: Some(1), undone_ms: None }];
        assert_eq!(Ruling::from_bytes(&Ruling::to_bytes(&rulings)).unwrap(), rulings);
    }

    #[test]
    fn a_large_summary_is_told_in_messages_that_fit() {
        assert!(Summary::default().to_messages().is_empty());
        let mut told = crate::evidence::Contribution::default();
        (0..7).for_each(|bucket| told.counts.add(u32::MAX - bucket, u32::MAX));
        (0..32).for_each(|hash| told.what.insert(u32::MAX - hash, u32::MAX));
        told.from = told.what.clone();
        let row = |n| crate::share::Row {
            key: crate::evidence::SeriesKey {
                subject: Subject::new(SubjectKind::Session, u64::MAX - n),
                feature: crate::evidence::Feature::Missing,
            },
            told: told.clone(),
        };
        let seen = crate::share::Seen {
            subject: Subject::new(SubjectKind::Session, u64::MAX),
            at_s: u32::MAX,
            software: u32::MAX,
            network: u32::MAX,
            place: Some(crate::event::Place { latitude: 90, longitude: 180 }),
        };
        let summary = Summary {
            served: told.counts.clone(),
            rows: (0..100).map(row).collect(),
            seen: vec![seen; 1_000],
        };
        let messages = summary.to_messages();
        assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
        let read: Vec<Summary> =
            messages.iter().map(|message| Summary::from_bytes(message).unwrap()).collect();
        assert!(read.iter().all(|part| part.served == summary.served));
        let rows: Vec<_> = read.iter().flat_map(|part| part.rows.clone()).collect();
        assert_eq!(
            (rows == summary.rows, read.iter().map(|part| part.seen.len()).sum::<usize>()),
            (true, 1_000)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(
            kind in 0x62_u8..0x65,
            mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300),
        ) {
            bytes[0] = kind;
            if let Some(told) = SignalsTold::from_bytes(&bytes) {
                proptest::prop_assert_eq!(SignalsTold::from_bytes(&told.to_bytes()), Some(told));
            }
            if let Some(told) = IncidentsTold::from_bytes(&bytes) {
                let again = told.to_messages();
                proptest::prop_assert!(again.iter().all(|message| IncidentsTold::from_bytes(message).is_some()));
            }
            if let Some(rulings) = Ruling::from_bytes(&bytes) {
                proptest::prop_assert_eq!(Ruling::from_bytes(&Ruling::to_bytes(&rulings)), Some(rulings));
            }
        }
    }
}
