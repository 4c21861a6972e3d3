//! Incidents, as the API's JSON.

use std::sync::Arc;

use phalanx_model::{Actor, Confidence, Decision, RequestId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlaybookRun;

/// `GET /api/v1/incidents`: signals that belong together, as this node knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentRow {
    /// Its id. The ids of incidents that turned out to be this one lead to it.
    pub id: String,
    /// `open` or `closed`.
    pub state: String,
    /// `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// How far the attack is, a tactic of MITRE ATT&CK; `trouble` is nobody's attack.
    pub stage: String,
    /// Techniques of MITRE ATT&CK that were seen.
    pub techniques: Vec<String>,
    /// Detectors that found something.
    pub detectors: Vec<String>,
    /// What it is, what it is after and whom it comes from, in a few words: `Credential stuffing on shop/login from 192.0.2.7`.
    #[serde(default)]
    pub title: String,
    /// The finding that says most, in plain words.
    pub summary: String,
    /// When its first signal came, in Unix milliseconds.
    pub opened_at_ms: u64,
    /// When its last one came.
    pub changed_at_ms: u64,
    /// When an operator closed it; others close a quarter of an hour after their last signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at_ms: Option<u64>,
    /// When what was done because of it was undone. Nothing more is done because of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_at_ms: Option<u64>,
    /// Nodes that saw it, `SITE/NODE`.
    pub nodes: Vec<String>,
    /// How many findings there are.
    pub findings_count: u64,
    /// Decisions in force that were made because of it.
    pub decisions_live: u64,
}

impl IncidentRow {
    /// Its title with the finding that says most, for where there is one line; nodes of earlier versions tell no title.
    pub fn told(&self) -> String {
        if self.title.is_empty() { self.summary.clone() } else { format!("{}: {}", self.title, self.summary) }
    }
}

/// `GET /api/v1/incidents/{id}`: one incident with all that is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// As in the list.
    #[serde(flatten)]
    pub row: IncidentRow,
    /// Ids of incidents that turned out to be this one.
    pub parts: Vec<String>,
    /// What was attacked, as this node's policy names it: `APP` or `APP/ROUTE`.
    #[serde(default)]
    pub targets: Vec<String>,
    /// What was found, the first first.
    pub findings: Vec<Finding>,
    /// Requests that completed findings; `GET /api/v1/fleet/events/{id}` tells of them.
    pub evidence: Vec<RequestId>,
    /// What is done because of it, and until when: decisions in force.
    pub decisions: Vec<Arc<Decision>>,
    /// Playbooks that run for it, or ran, with each step.
    #[serde(default)]
    pub playbooks: Vec<PlaybookRun>,
}

/// What one detector found of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The detector.
    pub detector: String,
    /// Its technique of MITRE ATT&CK; none for trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<String>,
    /// About whom or what.
    pub subject: Affected,
    /// Why, in plain words.
    pub reason: String,
    /// Most events that were told at once.
    pub events: u64,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether something may be done because of it: it holds without what any one other node alone claims.
    pub decisive: bool,
    /// First told, in Unix milliseconds.
    pub first_at_ms: u64,
    /// Last told.
    pub last_at_ms: u64,
}

/// Who or what is affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Affected {
    /// `address`, `prefix`, `software`, `session`, `account`, `secret`, `route` or `app`.
    pub kind: String,
    /// The address or network; of all else a keyed hash of 16 hexadecimal digits.
    pub value: String,
    /// What this node knows it by: app and route, or the JA4 fingerprint of a software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What came of undoing an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Undone {
    /// The incident.
    pub id: String,
    /// Whose decisions were ended, on all nodes.
    pub withdrawn: Vec<Actor>,
    /// Whose stand, because an operator ordered something about the same actor.
    pub left: Vec<Actor>,
}

/// How this node learns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Learning {
    /// `off`, `observe` or `act`; empty on a node of an earlier version.
    pub mode: String,
    /// Requests that were learned from.
    pub events: u64,
    /// Requests that were not, because the learner was behind.
    pub events_dropped: u64,
    /// Addresses, sessions and accounts that are known.
    pub actors: u64,
    /// Memory that this takes.
    pub bytes: u64,
    /// Nodes that told something in the last minute.
    pub peers_heard: u64,
    /// Rows and messages of other nodes that were refused: they told of more than can have been, or too often.
    pub refused: u64,
    /// Signals of this node's detectors.
    pub signals: u64,
    /// Open incidents.
    pub incidents_open: u64,
    /// The node that names incidents for the fleet; none while none is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_by: Option<String>,
    /// What it knows of what is usual.
    #[serde(default)]
    pub usual: Usual,
}

/// What a node knows of what is usual: signals of what is not can only be about apps and routes of which it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usual {
    /// Apps and routes that were seen.
    pub all: u64,
    /// Those of which it is known.
    pub known: u64,
    /// Those of which it is known for this hour of the day.
    pub by_hour_of_day: u64,
    /// Those of which it is known for this hour of the week.
    pub by_hour_of_week: u64,
    /// Minutes with requests until the next one is known; none where all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes_left: Option<u64>,
    /// Requests of the access log that taught it when the node started; 0 where it was kept from before, or there was no log.
    pub from_history: u64,
}
