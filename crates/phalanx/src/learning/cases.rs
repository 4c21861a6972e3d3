//! Incidents as whoever runs playbooks sees them.

use phalanx_control::playbook::Facts;
use phalanx_learn::correlate::{Gravity, Incident};
use phalanx_learn::event::Subject;
use phalanx_learn::{Docket, IncidentId, Standing};
use phalanx_model::{Confidence, RequestId};
use phalanx_policy::playbook::{ConfidenceWord, GravityWord};

use super::peers::Peers;
use super::shown;
use super::tee::Tee;

/// An incident.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) id: IncidentId,
    /// Incidents that turned out to be this one.
    pub(crate) absorbed: Vec<IncidentId>,
    pub(crate) facts: Facts,
    pub(crate) opened_ms: u64,
    pub(crate) is_closed: bool,
    pub(crate) is_undone: bool,
    /// Whom something may be done about, the surest first.
    pub(crate) suspects: Vec<CaseSuspect>,
    /// The apps that it is about and whose paranoia can be raised, as decisions call them.
    pub(crate) raisable: Vec<u64>,
    /// The last request that completed a finding.
    pub(crate) evidence: Option<RequestId>,
}

/// A finding that something may be done because of.
#[derive(Debug, Clone)]
pub(crate) struct CaseSuspect {
    pub(crate) subject: Subject,
    pub(crate) confidence: Confidence,
}

impl Case {
    /// Whether it is known by this id.
    pub(crate) fn is(&self, id: &str) -> bool {
        id.parse().is_ok_and(|id: IncidentId| self.id == id || self.absorbed.contains(&id))
    }
}

pub(super) fn all(docket: &Docket, (peers, tee): (&Peers, &Tee)) -> Vec<Case> {
    docket.incidents().map(|(incident, standing)| case(incident, standing, (peers, tee))).collect()
}

fn case(incident: &Incident, standing: Standing, (peers, tee): (&Peers, &Tee)) -> Case {
    let (row, _) = shown::row(incident, standing, (peers, tee));
    let confidence = incident.findings.values().map(|finding| finding.confidence).max();
    let decisive = incident.findings.iter().filter(|(_, finding)| finding.decisive);
    let mut suspects: Vec<CaseSuspect> = decisive
        .map(|((_, subject), finding)| CaseSuspect { subject: *subject, confidence: finding.confidence })
        .collect();
    suspects.sort_by_key(|suspect| std::cmp::Reverse(suspect.confidence));
    Case {
        id: IncidentId(incident.id),
        absorbed: incident.absorbed.iter().map(|id| IncidentId(*id)).collect(),
        facts: Facts {
            detectors: row.detectors,
            gravity: match incident.gravity() {
                Gravity::Low => GravityWord::Low,
                Gravity::Medium => GravityWord::Medium,
                Gravity::High => GravityWord::High,
                Gravity::Critical => GravityWord::Critical,
            },
            confidence: match confidence.unwrap_or(Confidence::Low) {
                Confidence::Low => ConfidenceWord::Low,
                Confidence::Medium => ConfidenceWord::Medium,
                Confidence::High => ConfidenceWord::High,
            },
            title: row.title,
            summary: row.summary,
            nodes: row.nodes,
            last_ms: incident.changed_ms,
        },
        opened_ms: incident.opened_ms,
        is_closed: standing.is_closed,
        is_undone: standing.undone_ms.is_some(),
        suspects,
        raisable: tee.raisable(incident),
        evidence: incident.evidence.last().map(|bits| RequestId::from_bits(*bits)),
    }
}
