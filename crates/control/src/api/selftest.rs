//! The node's attacks on itself, and what became of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/selftest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfTest {
    /// How it stands.
    pub state: SelfTestState,
    /// How often the node attacks itself; `None`: not by itself.
    pub every_ms: Option<u64>,
    /// The last run; `None` before the first.
    pub last: Option<SelfTestRun>,
    /// Since when two runs in a row had something that is not as it should be, in Unix milliseconds.
    pub failing_since_ms: Option<u64>,
}

/// How the node's attacks on itself stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelfTestState {
    /// What should be refused is refused, and what should pass passes.
    Ok,
    /// Two runs in a row had something that is not so.
    Failing,
    /// Nothing is known yet, or the node does not say.
    #[default]
    Unknown,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfTestRun {
    /// When it began, in Unix milliseconds.
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Nothing failed.
    pub ok: bool,
    /// What was sent: for each listener, then for each app there. Of many apps each run has some, and of the others this is what an
    /// earlier one came to.
    pub cases: Vec<SelfTestCase>,
}

/// One request that the node sent itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfTestCase {
    /// The app that it was for; empty for what no app is needed to refuse.
    pub app: String,
    /// The listener, as it is bound.
    pub listener: String,
    /// What was sent.
    pub name: String,
    /// What should become of it: `refused` or `passed`.
    pub expected: String,
    /// What became of it: `refused`, `passed`, `observed`, `uninspected`, or what else was answered.
    pub got: String,
    /// Whether there is nothing to be alarmed about.
    pub ok: bool,
    /// Whether it says that something is protected.
    pub outcome: SelfTestOutcome,
    /// What that means, or why it could not be tried.
    pub detail: String,
}

/// What a case says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelfTestOutcome {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// The policy has it so: the app only observes, or has no rules.
    NotProtected,
    /// It could not be tried, and that is no fault.
    Skipped,
}
