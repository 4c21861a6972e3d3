//! The shapes of a replay: recorded requests through another policy.

use std::collections::BTreeMap;

use phalanx_model::RequestId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/policy/replay`: a policy to try on what this node recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyReplay {
    /// The name of the policy file among `files`.
    pub entry: String,
    /// The policy file and all that it names, in base64.
    pub files: BTreeMap<String, String>,
    /// How far back, in milliseconds.
    pub last_ms: u64,
}

/// What another policy would have decided about recorded requests, where that differs from the policy in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// Requests that were replayed.
    pub requests: u64,
    /// Requests that there were meanwhile, of which these are a sample.
    pub seen: u64,
    /// Whether that was all; else requests or time ran out.
    pub complete: bool,
    /// Requests that the policy in force lets pass and the other refuses.
    pub newly_refused: u64,
    /// Requests that the policy in force refuses and the other lets pass.
    pub newly_passed: u64,
    /// The same by what they have in common, the most requests first.
    pub groups: Vec<ReplayGroup>,
    /// More groups than are listed.
    pub groups_left_out: u64,
    /// Requests of which rules of either policy would read more of the body than is recorded.
    pub lacks_body: u64,
    /// Requests that a rule refused when they came, and that neither policy refuses as recorded: what it looked at was masked or is not
    /// recorded, or the policy has changed since.
    pub not_reproduced: u64,
    /// Some of those.
    pub not_reproduced_examples: Vec<ReplayExample>,
    /// Parts of the recording that could not be read to their end.
    pub damaged: u64,
}

/// Requests about which both policies differ in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayGroup {
    /// What becomes of them.
    pub change: ReplayChange,
    /// The app.
    pub app: String,
    /// The route.
    pub route: Option<String>,
    /// What refuses them, in one policy or the other: `rule 942100`, `rate limit login`, `networks`.
    pub why: String,
    /// Rules that matched in all of them, under the policy that refuses.
    pub rules: Vec<u64>,
    /// How many requests.
    pub requests: u64,
    /// From how many addresses, as far as they were counted.
    pub clients: u64,
    /// Some of them.
    pub examples: Vec<ReplayExample>,
}

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayChange {
    /// They would newly be refused.
    Refused,
    /// They would newly pass.
    Passed,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayExample {
    /// Its id.
    pub id: RequestId,
    /// Its request line without the version, secrets masked; as written by a stranger.
    pub request: String,
}
