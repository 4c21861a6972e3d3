//! Findings: which rule matched what, and how much that says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How sure a detection is that the request is an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

impl RuleClass {
    /// Every class with every confidence, in the order of [`RuleClass::index`].
    pub const ALL: [Self; 5] = [
        Self::Detection(Confidence::High),
        Self::Detection(Confidence::Medium),
        Self::Detection(Confidence::Low),
        Self::Protocol,
        Self::Policy,
    ];

    /// The place in [`RuleClass::ALL`]: what speaks most for an attack comes first.
    pub fn index(self) -> usize {
        match self {
            Self::Detection(Confidence::High) => 0,
            Self::Detection(Confidence::Medium) => 1,
            Self::Detection(Confidence::Low) => 2,
            Self::Protocol => 3,
            Self::Policy => 4,
        }
    }

    /// The class's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detection(_) => "detection",
            Self::Protocol => "protocol",
            Self::Policy => "policy",
        }
    }

    /// How sure a detection is; the other classes have no confidence.
    pub fn confidence(self) -> Option<Confidence> {
        match self {
            Self::Detection(confidence) => Some(confidence),
            Self::Protocol | Self::Policy => None,
        }
    }
}

impl Confidence {
    /// The confidence in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl std::fmt::Display for RuleClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        match self.confidence() {
            Some(confidence) => write!(f, ", {} confidence", confidence.name()),
            None => Ok(()),
        }
    }
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
    /// Which edition of the rule it is.
    #[serde(default, skip_serializing_if = "Edition::is_empty")]
    pub edition: Edition,
    /// Its matches are not for the audit log (`noauditlog`). Stays in memory.
    #[serde(skip)]
    pub unaudited: bool,
    /// The rule as it is written, a line for each link of its chain, for the audit log. Stays in memory.
    #[serde(skip)]
    pub source: Arc<str>,
}

/// What a rule says of its edition and quality (`ver`, `rev`, `maturity`, `accuracy`); empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the SecLang actions")]
pub struct Edition {
    pub ver: Arc<str>,
    pub rev: Arc<str>,
    pub maturity: Arc<str>,
    pub accuracy: Arc<str>,
}

impl Edition {
    /// Whether the rule says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One transformation on the way to the value that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// The transformation, as rules write it.
    pub name: Arc<str>,
    /// The beginning of the value after it, at most [`crate::limits::FRAGMENT_BYTES_MAX`] bytes, lossy UTF-8, secrets
    /// masked; `None` where it changed nothing, or where there was no room for more text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether it changed the value.
    pub changed: bool,
}

/// The inbound anomaly score around one match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScoreChange {
    /// Before the rule matched.
    pub before: i32,
    /// After it.
    pub after: i32,
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
    /// The beginning of the value as it was received, masked and bounded as `fragment`; `None` in records of older versions
    /// and where there was no room for more text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The same transformations with the value after each; empty in records of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
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
    /// The message stands so in the rule: nothing of the request is in it. False in records of older versions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verbatim: bool,
    /// The rule's log data with macros expanded.
    pub data: String,
    /// Values that matched, one per chain link at least.
    pub matches: Vec<RuleMatch>,
    /// What this match added to the inbound or outbound anomaly score.
    pub score: i32,
    /// The inbound anomaly score around this match; `None` in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<ScoreChange>,
    /// The app only observes rules of this class: the match neither scored nor refused, and never strikes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
}
