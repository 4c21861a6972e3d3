//! What is found, for the log of events: signals as this node's learner makes them, incidents as the node tells them that names them.

use std::collections::BTreeMap;

use phalanx_learn::correlate::{Gravity, Incident};
use phalanx_learn::{IncidentId, Signal, Standing};
use phalanx_model::{Actor, Confidence, RequestId};
use phalanx_record::ocsf::{Change, Detection, Grade, IncidentReport};
use phalanx_record::{Report, Reports};

use super::peers::Peers;
use super::shown;
use super::tee::Tee;

/// What was told of each incident.
pub(super) struct Told {
    to: Reports,
    known: BTreeMap<u64, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    gravity: Gravity,
    findings: usize,
    told_ms: u64,
    is_closed: bool,
}

impl Told {
    pub(super) fn new(to: Reports) -> Self {
        Self { to, known: BTreeMap::new() }
    }

    /// What was told before a restart is no news.
    pub(super) fn recall<'a>(&mut self, all: impl Iterator<Item = (&'a Incident, Standing)>, now_ms: u64) {
        self.known =
            all.map(|(incident, standing)| (incident.id, known(incident, standing, now_ms))).collect();
    }

    /// A signal of this node.
    pub(super) fn signal(
        &self,
        signal: &Signal,
        incident: &Incident,
        request: Option<RequestId>,
        (peers, tee): (&Peers, &Tee),
    ) {
        let subject = shown::affected(signal.subject, tee);
        let id = IncidentId(incident.id).to_string();
        self.to.send(Report::Detection(Detection {
            uid: format!("{id}/{}/{} {}", signal.detector.name(), subject.kind, subject.value),
            at_ms: signal.at_ms,
            detector: signal.detector.name().to_owned(),
            title: signal.detector.says().to_owned(),
            reason: signal.reason.clone(),
            subject: format!("{} {}", subject.kind, subject.value),
            ip: match signal.subject.actor() {
                Some(Actor::Ip(ip)) => Some(ip),
                _ => None,
            },
            app: None,
            grade: grade(incident.gravity()),
            confidence: signal.confidence,
            decisive: signal.decisive,
            events: signal.events,
            first_ms: signal.at_ms,
            last_ms: signal.at_ms,
            technique: signal.detector.technique().map(str::to_owned),
            nodes: names(signal.nodes.iter(), peers),
            evidence: request.map(|request| request.to_string()).into_iter().collect(),
            incident: Some(id),
        }));
    }

    /// Incidents that are new, grew or ended since; each grows in the log every ten seconds at most.
    pub(super) fn incidents<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a Incident, Standing)>,
        (peers, tee): (&Peers, &Tee),
        now_ms: u64,
    ) {
        let mut all_known = BTreeMap::new();
        for (incident, standing) in all {
            let now = known(incident, standing, now_ms);
            let change = match self.known.get(&incident.id) {
                None if standing.is_closed => None,
                None => Some(Change::Opened),
                Some(then) if standing.is_closed && !then.is_closed => Some(Change::Closed),
                Some(then) => {
                    let grew = then.gravity != now.gravity || then.findings != now.findings;
                    let is_time = then.told_ms.saturating_add(AGAIN_MS) <= now_ms;
                    (grew && is_time && !standing.is_closed).then_some(Change::Changed)
                }
            };
            let kept = self.known.get(&incident.id).copied().filter(|_| change.is_none()).unwrap_or(now);
            all_known.insert(incident.id, kept);
            if let Some(change) = change {
                self.to.send(Report::Incident(report(incident, standing, change, (peers, tee), now_ms)));
            }
        }
        self.known = all_known;
    }
}

fn known(incident: &Incident, standing: Standing, now_ms: u64) -> Known {
    Known {
        gravity: incident.gravity(),
        findings: incident.findings.len(),
        told_ms: now_ms,
        is_closed: standing.is_closed,
    }
}

fn report(
    incident: &Incident,
    standing: Standing,
    change: Change,
    (peers, tee): (&Peers, &Tee),
    now_ms: u64,
) -> IncidentReport {
    let (row, _) = shown::row(incident, standing, (peers, tee));
    let findings = incident.findings.iter().map(|((detector, subject), finding)| {
        let about = shown::affected(*subject, tee);
        Detection {
            uid: format!("{}/{}/{} {}", row.id, detector.name(), about.kind, about.value),
            at_ms: finding.last_ms,
            detector: detector.name().to_owned(),
            title: detector.says().to_owned(),
            reason: finding.reason.clone(),
            subject: format!("{} {}", about.kind, about.value),
            ip: match subject.actor() {
                Some(Actor::Ip(ip)) => Some(ip),
                _ => None,
            },
            app: None,
            grade: grade(incident.gravity()),
            confidence: finding.confidence,
            decisive: finding.decisive,
            events: finding.events,
            first_ms: finding.first_ms,
            last_ms: finding.last_ms,
            technique: detector.technique().map(str::to_owned),
            nodes: Vec::new(),
            evidence: Vec::new(),
            incident: Some(row.id.clone()),
        }
    });
    let summary = row.told();
    let surest = incident.findings.values().map(|finding| finding.confidence).max();
    IncidentReport {
        findings: findings.collect(),
        uid: row.id,
        change,
        at_ms: now_ms,
        opened_ms: incident.opened_ms,
        changed_ms: incident.changed_ms,
        grade: grade(incident.gravity()),
        confidence: surest.unwrap_or(Confidence::Low),
        stage: row.stage,
        summary,
        nodes: row.nodes,
        countermeasures: Vec::new(),
        comment: standing
            .undone_ms
            .map(|_| "what was done because of it was undone".to_owned())
            .unwrap_or_default(),
    }
}

fn names<'a>(nodes: impl Iterator<Item = &'a u16>, peers: &Peers) -> Vec<String> {
    nodes.filter_map(|node| peers.name(*node)).map(str::to_owned).collect()
}

fn grade(gravity: Gravity) -> Grade {
    match gravity {
        Gravity::Low => Grade::Low,
        Gravity::Medium => Grade::Medium,
        Gravity::High => Grade::High,
        Gravity::Critical => Grade::Critical,
    }
}

const AGAIN_MS: u64 = 10_000;
