//! Findings: which rule matched what, and how much that says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How sure a detection is that the request is an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Suspicious; ordinary traffic does it too.
    Low,
    /// Probably an attack.
    Medium,
    /// An attack; it counts as a strike.
    High,
}

/// What kind of rule made a signal. Only high-confidence detections strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "class", content = "confidence")]
pub enum RuleClass {
    /// The rule looks for an attack.
    Detection(Confidence),
    /// The rule states what is allowed here (methods, content types, sizes).
    Policy,
    /// The rule checks protocol form, or reports what could not be parsed.
    Protocol,
}

/// ModSecurity's severities, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are syslog's")]
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

/// What a rule says of itself; one per rule, shared by its signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleInfo {
    /// The rule's id; 0 for a finding that no rule made.
    pub id: u64,
    /// The file the rule stands in.
    pub file: Arc<str>,
    /// The line it starts on.
    pub line: u32,
    /// Class and confidence.
    pub class: RuleClass,
    /// Severity, where the rule has one.
    pub severity: Option<Severity>,
    /// The rule's tags.
    pub tags: Vec<Arc<str>>,
}

/// One value that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleMatch {
    /// The variable with its selector, e.g. `ARGS:q`. May hold bytes from strangers: escape it where it is shown.
    pub variable: String,
    /// The part of the (transformed) value that matched, at most [`crate::limits::FRAGMENT_BYTES_MAX`] bytes, lossy UTF-8.
    /// Values of secret headers and fields are replaced before they get here.
    pub fragment: String,
    /// A hash of the variable's whole original value: tells distinct payloads apart without keeping them.
    pub value_hash: u64,
    /// The transformations that led to the value, in order.
    pub transformations: Vec<Arc<str>>,
}

/// A finding about one request: a rule that matched, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Signal {
    /// The rule.
    pub rule: Arc<RuleInfo>,
    /// SecLang phase, 1 to 5.
    pub phase: u8,
    /// The rule's message with macros expanded.
    pub message: String,
    /// The rule's log data with macros expanded.
    pub data: String,
    /// Values that matched, one per chain link at least.
    pub matches: Vec<RuleMatch>,
    /// What this match added to the inbound or outbound anomaly score.
    pub score: i32,
}
