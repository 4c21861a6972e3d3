//! What detectors found, and incidents: Detection Finding and Incident Finding.

use std::net::IpAddr;

use phalanx_model::{Confidence, Proposal};
use serde::Serialize;

use super::http::{confidence_caption, confidence_id};
use super::parts::{Endpoint, Head, Metadata, Observable, severity};
use super::{Class, Writer};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub enum Grade {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Grade {
    fn id(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
            Self::Critical => 5,
        }
    }
}

/// What a detector found about somebody, in words that need no knowledge of the detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// What this finding is called for ever: the same finding, told again, has the same.
    pub uid: String,
    /// When it was told, in Unix milliseconds.
    pub at_ms: u64,
    /// The detector.
    pub detector: String,
    /// What it finds, in plain words.
    pub title: String,
    /// Why it was found this time, in plain words; may quote strangers.
    pub reason: String,
    /// About whom or what, as commands name it.
    pub subject: String,
    /// The address, if the subject is one.
    pub ip: Option<IpAddr>,
    /// The app, where it is about one.
    pub app: Option<String>,
    /// How bad it is.
    pub grade: Grade,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether it may be acted on.
    pub decisive: bool,
    /// Events that it is made of.
    pub events: u64,
    /// The first of them, in Unix milliseconds.
    pub first_ms: u64,
    /// The last.
    pub last_ms: u64,
    /// The technique of MITRE ATT&CK, as `T1110.004`.
    pub technique: Option<String>,
    /// Nodes that saw it.
    pub nodes: Vec<String>,
    /// Requests that show it, by id.
    pub evidence: Vec<String>,
    /// The incident that it belongs to.
    pub incident: Option<String>,
}

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are words")]
pub enum Change {
    Opened,
    Changed,
    Closed,
}

/// An incident as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentReport {
    /// What it is called.
    pub uid: String,
    /// What happened to it.
    pub change: Change,
    /// When that happened, in Unix milliseconds.
    pub at_ms: u64,
    /// When its first signal came.
    pub opened_ms: u64,
    /// When its last one came.
    pub changed_ms: u64,
    /// How bad it is.
    pub grade: Grade,
    /// How sure the surest of its findings is.
    pub confidence: Confidence,
    /// The farthest stage of an attack that was seen.
    pub stage: String,
    /// What happened, in a sentence.
    pub summary: String,
    /// What was found; at most 32 are told.
    pub findings: Vec<Detection>,
    /// Nodes that saw it.
    pub nodes: Vec<String>,
    /// What is done about it, in plain words.
    pub countermeasures: Vec<String>,
    /// Who closed it, or what changed; empty where nobody said anything.
    pub comment: String,
}

impl Detection {
    /// What a node concludes should be ordered about an actor.
    pub(super) fn of_proposal(proposal: &Proposal) -> Self {
        let kind = proposal.kind.name();
        let subject = proposal.actor.key().to_string();
        let range = proposal.actor.range();
        let confidence = match proposal.confidence_percent {
            0..50 => Confidence::Low,
            50..90 => Confidence::Medium,
            _ => Confidence::High,
        };
        Self {
            uid: format!("{}/{subject}", proposal.evidence),
            at_ms: proposal.at_ms,
            detector: "strikes".into(),
            title: format!("a {kind} is proposed"),
            reason: proposal.reason.clone(),
            subject,
            ip: range.map(|range| range.addr()),
            app: None,
            grade: Grade::Medium,
            confidence,
            decisive: true,
            events: 1,
            first_ms: proposal.at_ms,
            last_ms: proposal.at_ms,
            technique: None,
            nodes: Vec::new(),
            evidence: vec![proposal.evidence.to_string()],
            incident: None,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct DetectionFinding<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    status_id: u8,
    status: &'static str,
    is_alert: bool,
    confidence_id: u8,
    confidence: &'static str,
    count: u64,
    start_time: u64,
    end_time: u64,
    finding_info: FindingInfo<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidences: Vec<Evidence<'a>>,
    observables: Vec<Observable<'a>>,
    unmapped: UnmappedDetection<'a>,
}

#[derive(Debug, Serialize)]
struct FindingInfo<'a> {
    uid: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    desc: &'a str,
    analytic: Analytic<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attacks: Vec<Attack<'a>>,
    created_time: u64,
    first_seen_time: u64,
    last_seen_time: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_events: Vec<RelatedEvent<'a>>,
    related_events_count: u64,
}

#[derive(Debug, Serialize)]
struct RelatedEvent<'a> {
    uid: &'a str,
    type_uid: u64,
}

#[derive(Debug, Serialize)]
struct Analytic<'a> {
    uid: &'a str,
    name: &'a str,
    type_id: u8,
    r#type: &'static str,
}

#[derive(Debug, Serialize)]
struct Attack<'a> {
    technique: Technique<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_technique: Option<Technique<'a>>,
}

#[derive(Debug, Serialize)]
struct Technique<'a> {
    uid: &'a str,
}

#[derive(Debug, Serialize)]
struct Evidence<'a> {
    src_endpoint: Endpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_endpoint: Option<Endpoint<'a>>,
}

#[derive(Debug, Serialize)]
struct UnmappedDetection<'a> {
    site: &'a str,
    node: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nodes: &'a [String],
}

impl DetectionFinding<'_> {
    pub(super) fn severity(&self) -> u8 {
        self.head.severity_id
    }
}

pub(super) fn detection<'a>(writer: Writer<'a>, found: &'a Detection) -> DetectionFinding<'a> {
    let metadata = Metadata::new(writer, Class::DetectionFinding, event_uid(&found.uid, found.at_ms), &[])
        .belonging_to(found.incident.as_deref());
    let message = format!("{}: {}", found.subject, found.reason);
    let endpoint = found.ip.map(|ip| Endpoint { ip: Some(ip), ..Endpoint::default() });
    let app = found.app.as_deref();
    DetectionFinding {
        head: Head::new(
            Class::DetectionFinding,
            (1, "Create".into()),
            found.at_ms,
            found.grade.id(),
            message,
            metadata,
        ),
        status_id: 1,
        status: "New",
        is_alert: found.decisive,
        confidence_id: confidence_id(found.confidence),
        confidence: confidence_caption(found.confidence),
        count: found.events.max(1),
        start_time: found.first_ms,
        end_time: found.last_ms,
        finding_info: info(found),
        evidences: endpoint
            .map(|src_endpoint| Evidence {
                src_endpoint,
                dst_endpoint: app.map(|app| Endpoint { svc_name: Some(app), ..Endpoint::default() }),
            })
            .into_iter()
            .collect(),
        observables: vec![observable(found)],
        unmapped: UnmappedDetection {
            site: writer.site,
            node: writer.node,
            subject: &found.subject,
            app,
            nodes: &found.nodes,
        },
    }
}

fn observable(found: &Detection) -> Observable<'_> {
    match found.ip {
        Some(ip) => Observable::ip("evidences.src_endpoint.ip", ip),
        None => Observable::other("unmapped.subject", &found.subject),
    }
}

fn info(found: &Detection) -> FindingInfo<'_> {
    let attacks = found.technique.as_deref().map(|whole| match whole.split_once('.') {
        Some((technique, _)) => {
            Attack { technique: Technique { uid: technique }, sub_technique: Some(Technique { uid: whole }) }
        }
        None => Attack { technique: Technique { uid: whole }, sub_technique: None },
    });
    FindingInfo {
        uid: &found.uid,
        title: &found.title,
        desc: &found.reason,
        analytic: Analytic { uid: &found.detector, name: &found.detector, type_id: 2, r#type: "Behavioral" },
        attacks: attacks.into_iter().collect(),
        created_time: found.at_ms,
        first_seen_time: found.first_ms,
        last_seen_time: found.last_ms,
        related_events: found
            .evidence
            .iter()
            .take(EVIDENCE_MAX)
            .map(|uid| RelatedEvent { uid, type_uid: u64::from(Class::HttpActivity.uid()) * 100 })
            .collect(),
        related_events_count: found.events,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct IncidentFinding<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    status_id: u8,
    status: &'static str,
    confidence_id: u8,
    confidence: &'static str,
    priority_id: u8,
    priority: &'static str,
    desc: &'a str,
    start_time: u64,
    end_time: u64,
    count: u64,
    assignee_group: Group,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attacks: Vec<Attack<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'a str,
    finding_info_list: Vec<FindingInfo<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observables: Vec<Observable<'a>>,
    unmapped: UnmappedIncident<'a>,
}

/// One of assignee and group is required; Phalanx knows of no person.
#[derive(Debug, Serialize)]
struct Group {
    name: &'static str,
}

#[derive(Debug, Serialize)]
struct UnmappedIncident<'a> {
    site: &'a str,
    node: &'a str,
    stage: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nodes: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    countermeasures: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    findings_left_out: usize,
}

impl IncidentFinding<'_> {
    pub(super) fn severity(&self) -> u8 {
        self.head.severity_id
    }
}

pub(super) fn incident<'a>(writer: Writer<'a>, report: &'a IncidentReport) -> IncidentFinding<'a> {
    let (activity, (status_id, status)) = match report.change {
        Change::Opened => ((1, "Create"), (1, "New")),
        Change::Changed => ((2, "Update"), (2, "In Progress")),
        Change::Closed => ((3, "Close"), (5, "Closed")),
    };
    let metadata = Metadata::new(writer, Class::IncidentFinding, event_uid(&report.uid, report.at_ms), &[])
        .belonging_to(Some(&report.uid));
    let told = report.findings.iter().take(FINDINGS_MAX);
    let mut infos: Vec<FindingInfo<'_>> = told.clone().map(info).collect();
    let mut attacks: Vec<Attack<'_>> = told.clone().flat_map(|found| info(found).attacks).collect();
    attacks.sort_by_key(|attack| (attack.technique.uid, attack.sub_technique.as_ref().map(|one| one.uid)));
    attacks.dedup_by_key(|attack| (attack.technique.uid, attack.sub_technique.as_ref().map(|one| one.uid)));
    if infos.is_empty() {
        infos.push(FindingInfo {
            uid: &report.uid,
            title: &report.summary,
            desc: "",
            analytic: Analytic { uid: "correlator", name: "correlator", type_id: 2, r#type: "Behavioral" },
            attacks: Vec::new(),
            created_time: report.opened_ms,
            first_seen_time: report.opened_ms,
            last_seen_time: report.changed_ms,
            related_events: Vec::new(),
            related_events_count: 0,
        });
    }
    // The captions of priorities are those of severities; there is none for what only informs.
    let priority_id = report.grade.id().saturating_sub(1);
    IncidentFinding {
        head: Head::new(
            Class::IncidentFinding,
            (activity.0, activity.1.into()),
            report.at_ms,
            report.grade.id(),
            report.summary.clone(),
            metadata,
        ),
        status_id,
        status,
        confidence_id: confidence_id(report.confidence),
        confidence: confidence_caption(report.confidence),
        priority_id,
        priority: if priority_id == 0 { "Unknown" } else { severity(priority_id + 1) },
        desc: &report.summary,
        start_time: report.opened_ms,
        end_time: report.changed_ms,
        count: report.findings.iter().map(|found| found.events).fold(0, u64::saturating_add).max(1),
        assignee_group: Group { name: "operators" },
        attacks,
        comment: &report.comment,
        finding_info_list: infos,
        observables: told.map(observable).collect(),
        unmapped: UnmappedIncident {
            site: writer.site,
            node: writer.node,
            stage: &report.stage,
            nodes: &report.nodes,
            countermeasures: &report.countermeasures,
            findings_left_out: report.findings.len().saturating_sub(FINDINGS_MAX),
        },
    }
}

/// Of one event about it; the finding's own stays the same.
fn event_uid(uid: &str, at_ms: u64) -> String {
    format!("{uid}@{at_ms}")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Findings of one incident that are told with it; each is an event of its own too.
pub(super) const FINDINGS_MAX: usize = 32;
/// Requests that a finding names.
const EVIDENCE_MAX: usize = 16;
