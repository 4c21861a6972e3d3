//! Incidents as the API shows them.

use std::collections::BTreeSet;

use phalanx_control::api::{Affected, Finding, Incident, IncidentRow};
use phalanx_learn::event::{Subject, SubjectKind};
use phalanx_learn::{Detector, IncidentId, Standing, correlate};
use phalanx_model::RequestId;

use super::peers::Peers;
use super::tee::Tee;

/// In one row; and the ids that it is known by.
pub(super) fn row(
    incident: &correlate::Incident,
    standing: Standing,
    (peers, tee): (&Peers, &Tee),
) -> (IncidentRow, Vec<u64>) {
    let mut detectors: Vec<String> =
        incident.findings.keys().map(|(detector, _)| detector.name().to_owned()).collect();
    detectors.dedup();
    let says_most = incident.findings.iter().max_by_key(|((detector, _), finding)| {
        (finding.decisive, detector.stage(), finding.confidence, finding.events)
    });
    let row = IncidentRow {
        id: IncidentId(incident.id).to_string(),
        state: if standing.is_closed { "closed" } else { "open" }.to_owned(),
        severity: format!("{:?}", incident.gravity()).to_lowercase(),
        stage: stage(incident),
        techniques: incident.techniques().into_iter().map(str::to_owned).collect(),
        detectors,
        title: says_most.map(|((detector, _), _)| title(*detector, incident, tee)).unwrap_or_default(),
        summary: says_most.map(|(_, finding)| finding.reason.clone()).unwrap_or_default(),
        opened_at_ms: incident.opened_ms,
        changed_at_ms: incident.changed_ms,
        closed_at_ms: standing.closed_ms,
        undone_at_ms: standing.undone_ms,
        nodes: incident.nodes.iter().filter_map(|node| peers.name(*node)).map(str::to_owned).collect(),
        findings_count: u64::try_from(incident.findings.len()).unwrap_or(u64::MAX),
        decisions_live: 0,
    };
    (row, incident.absorbed.iter().copied().chain([incident.id]).collect())
}

/// With all that is known of it.
pub(super) fn whole(
    incident: &correlate::Incident,
    standing: Standing,
    (peers, tee): (&Peers, &Tee),
) -> (Incident, Vec<u64>) {
    let (mut row, ids) = row(incident, standing, (peers, tee));
    row.nodes.sort();
    let mut findings: Vec<Finding> = incident
        .findings
        .iter()
        .map(|((detector, subject), finding)| found(*detector, *subject, finding, tee))
        .collect();
    findings.sort_by_key(|finding| finding.first_at_ms);
    let parts = incident.absorbed.iter().map(|id| IncidentId(*id).to_string()).collect();
    let evidence = incident.evidence.iter().map(|bits| RequestId::from_bits(*bits)).collect();
    let targets = tee.targets(incident);
    (Incident { row, parts, targets, findings, evidence, decisions: Vec::new(), playbooks: Vec::new() }, ids)
}

fn found(detector: Detector, subject: Subject, finding: &correlate::Finding, tee: &Tee) -> Finding {
    Finding {
        detector: detector.name().to_owned(),
        technique: detector.technique().map(str::to_owned),
        subject: affected(subject, tee),
        reason: finding.reason.clone(),
        events: finding.events,
        confidence: finding.confidence,
        decisive: finding.decisive,
        first_at_ms: finding.first_ms,
        last_at_ms: finding.last_ms,
    }
}

pub(super) fn affected(subject: Subject, tee: &Tee) -> Affected {
    let of_addresses = matches!(subject.kind, SubjectKind::Address | SubjectKind::Prefix);
    let actor = subject.actor().filter(|_| of_addresses);
    Affected {
        kind: format!("{:?}", subject.kind).to_lowercase(),
        value: actor.map_or_else(|| format!("{:016x}", subject.id), |actor| actor.to_string()),
        name: tee.name(subject.id).filter(|_| !of_addresses),
    }
}

/// What it is, what it is after and whom it comes from: `Credential stuffing on shop/login from 192.0.2.7`.
fn title(detector: Detector, incident: &correlate::Incident, tee: &Tee) -> String {
    let mut title = detector.name().replace('-', " ");
    title.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
    match tee.targets(incident).as_slice() {
        [] => {}
        [one] => title.push_str(&format!(" on {one}")),
        [first, rest @ ..] => title.push_str(&format!(" on {first} and {} more", rest.len())),
    }
    let from = |kind: SubjectKind| -> BTreeSet<Subject> {
        incident.findings.keys().map(|(_, subject)| *subject).filter(|one| one.kind == kind).collect()
    };
    // The narrowest that is known: who is behind addresses of one network are these addresses.
    let known = [
        (SubjectKind::Address, "addresses"),
        (SubjectKind::Prefix, "networks"),
        (SubjectKind::System, "networks"),
    ];
    let mut known = known.into_iter().map(|(kind, words)| (from(kind), words));
    if let Some((from, words)) = known.find(|(from, _)| !from.is_empty()) {
        match (from.first().and_then(|one| one.actor()), from.len()) {
            (Some(actor), 1) => title.push_str(&format!(" from {actor}")),
            (_, several) => title.push_str(&format!(" from {several} {words}")),
        }
    }
    title
}

fn stage(incident: &correlate::Incident) -> String {
    use phalanx_learn::detect::Stage;
    let word = match incident.stage() {
        Stage::Trouble => "trouble",
        Stage::Reconnaissance => "reconnaissance",
        Stage::CredentialAccess => "credential-access",
        Stage::InitialAccess => "initial-access",
        Stage::Collection => "collection",
        Stage::Exfiltration => "exfiltration",
        Stage::Impact => "impact",
    };
    word.to_owned()
}
