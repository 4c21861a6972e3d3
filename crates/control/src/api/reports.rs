//! Reports that are sent by themselves, as the API's JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A report that is sent by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportScheduleRow {
    /// The name in the node's settings.
    pub name: String,
    /// When, in words.
    pub when: String,
    /// The app that it is about; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Receivers, by name.
    pub to: Vec<String>,
    /// When it is due next, in Unix milliseconds.
    pub next_ms: u64,
    /// The last one; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ReportLast>,
}

/// The last report of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportLast {
    /// `sent`, `sending` (some did not get it yet), or `failed`.
    pub state: String,
    /// When it was due.
    pub due_ms: u64,
    /// What it is about: from here on,
    pub from_ms: u64,
    /// until here, exclusive.
    pub to_ms: u64,
    /// When it was tried last.
    pub at_ms: u64,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `POST /api/v1/reports/{name}/send`: who took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportSent {
    /// What it is about: from here on,
    pub from_ms: u64,
    /// until here, exclusive.
    pub to_ms: u64,
    /// Each receiver.
    pub told: Vec<ReportTold>,
}

/// Whether a receiver took a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportTold {
    /// Its name.
    pub to: String,
    /// Whether it took it.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
