//! The shapes of a policy's life cycle: versions with where they come from, checks, differences, changes that wait, exclusions.

use std::collections::BTreeMap;

use phalanx_model::RequestId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Diagnostic;

/// One version of the fleet's policy, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersionRow {
    /// Its version.
    pub version: u64,
    /// The SHA-256 of its bytes.
    pub hash: String,
    /// The hash of the one before.
    pub previous: Option<String>,
    /// How many bytes it has.
    pub bytes: u64,
    /// Who made it: an operator's name, or whoever has the node; not given where it is not known.
    pub author: Option<String>,
    /// The node that he asked: `fra/a`.
    pub node: Option<String>,
    /// Who else approved, where that was needed.
    pub approved_by: Option<String>,
    /// Why, as its author said; empty if he did not.
    pub reason: String,
    /// Of what it was made: `files`, `version 12`; or what its author said, as in `commit ..., says its author`.
    pub source: String,
    /// When it was made, in Unix milliseconds.
    pub at_ms: Option<u64>,
    /// What became of it: `on_trial`, `published`, `promoted`, `rolled_back` or `unknown`.
    pub result: String,
    /// Why that.
    pub result_reason: String,
    /// Since when, in Unix milliseconds.
    pub result_at_ms: Option<u64>,
    /// Whether all nodes are to run it.
    pub stable: bool,
}

impl PolicyVersionRow {
    /// What ends a source that is its author's word and nothing that the node knows.
    pub const CLAIMED: &str = ", says its author";
}

/// `GET /api/v1/policy/versions/{version}`: a policy with all files that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyContent {
    /// Its version.
    pub version: u64,
    /// The hash of its bundle; not given for a node's own policy file.
    pub hash: Option<String>,
    /// The name of the policy file among them.
    pub entry: String,
    /// Its files in base64, by the name under which the policy refers to them.
    pub files: BTreeMap<String, String>,
    /// Files that are not given out, for they hold a private key.
    pub withheld: Vec<String>,
}

/// `POST /api/v1/policy/check`: a policy with all files that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// The name of the policy file among them.
    pub entry: String,
    /// Its files in base64, by the name under which the policy refers to them.
    pub files: BTreeMap<String, String>,
}

/// What there is to say of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyChecked {
    /// Whether this node would run it.
    pub ok: bool,
    /// Faults and warnings.
    pub problems: Vec<Diagnostic>,
}

/// `POST /api/v1/policy/diff`: a policy, and what to compare it with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyCompare {
    /// The name of the policy file among them.
    pub entry: String,
    /// Its files in base64, by the name under which the policy refers to them.
    pub files: BTreeMap<String, String>,
    /// A version, or `running`: what this node runs.
    #[serde(default = "running")]
    pub against: String,
}

fn running() -> String {
    "running".to_owned()
}

/// What differs between two policies, by what it means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyDiffered {
    /// Nothing does.
    pub same: bool,
    /// What changes.
    pub changes: Vec<PolicyDifference>,
    /// What of it takes protection away.
    pub dangers: Vec<PolicyDifference>,
}

/// One thing that changes, or one danger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyDifference {
    /// In words, with names and values as the policy's author wrote them.
    pub words: String,
    /// The app that it is about.
    pub app: Option<String>,
    /// The route of that app.
    pub route: Option<String>,
}

/// `POST /api/v1/policy/changes`: a policy for all nodes, or for some that try it first. Either files, or the content of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicyChange {
    /// The name of the policy file among `files`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entry: String,
    /// Its files in base64, by the name under which the policy refers to them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Instead of files: the version whose content is wanted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_of: Option<u64>,
    /// The version on which it is based; refused if another is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Of what it was made, as its author says: `commit ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The site that tries it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_site: Option<String>,
    /// The node of that site that tries it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_node: Option<String>,
    /// For how long it is tried before all nodes get it, in milliseconds; without it, until an operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_ms: Option<u64>,
}

/// A change of policy that somebody asked for at this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyChange {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub state: PolicyChangeState,
    /// Who asked for it.
    pub author: String,
    /// Why, as he says; empty if he does not.
    pub reason: String,
    /// Of what it was made.
    pub source: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Until when it waits, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// The hash of all that would be done. Who approves names it, so that he approves what he saw.
    pub hash: String,
    /// The version on which it is based; 0 for a node's own policy file.
    pub base: u64,
    /// Who tries it first: `node fra/a` or `site fra`; not given: all nodes get it at once.
    pub stage: Option<String>,
    /// Whether another operator must approve.
    pub needs_second: bool,
    /// What of it takes protection away.
    pub dangers: Vec<PolicyDifference>,
    /// What changes.
    pub diff: Vec<PolicyDifference>,
    /// More changes than are listed.
    pub diff_left_out: u64,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// What was said to its end: why it was approved or rejected, or why it ended.
    pub decided_reason: String,
    /// When it ended, in Unix milliseconds.
    pub decided_at_ms: Option<u64>,
    /// The version that it became.
    pub version: Option<u64>,
}

/// How a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyChangeState {
    /// For another operator.
    Waiting,
    /// It is the fleet's, or on trial.
    Published,
    /// Somebody said no.
    Rejected,
    /// Nobody said anything in time, or the policy is another by now.
    Expired,
}

/// `POST /api/v1/policy/changes/{id}/approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyApproval {
    /// The hash of what was looked at.
    pub hash: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/v1/policy/changes/{id}/reject`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRejection {
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What rules do not look at, in the policy that a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExclusionRow {
    /// The app.
    pub app: String,
    /// The path and below; not given: everywhere.
    pub route: Option<String>,
    /// With these methods; empty for all.
    pub methods: Vec<String>,
    /// Ids and tags of rules.
    pub rules: Vec<String>,
    /// What they do not look at; not given: they are not run.
    pub target: Option<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends, in Unix milliseconds; not given: never.
    pub expires_ms: Option<u64>,
    /// The file.
    pub file: String,
    /// Where it begins there.
    pub line: u32,
    /// Whether it counts.
    pub state: ExclusionState,
}

/// Whether an exclusion counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExclusionState {
    /// It does.
    InForce,
    /// It does, and ends within two weeks.
    EndsSoon,
    /// It ended: its rules look at everything again.
    Expired,
}

/// `POST /api/v1/exclusions`: add the narrowest exclusion that would have let a request pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExclusion {
    /// The request's id.
    pub request: RequestId,
    /// The hash of what was looked at: `shown` of the suggestion. If that would be another by now, nothing is done.
    pub shown: String,
    /// When the exclusion ends, in Unix milliseconds.
    pub expires_ms: u64,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Add it although the request would still be refused, or nobody knows that it would not.
    #[serde(default)]
    pub although_not_enough: bool,
    /// The site that tries it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_site: Option<String>,
    /// The node of that site that tries it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_node: Option<String>,
    /// For how long it is tried before all nodes get it, in milliseconds; without it, until an operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_ms: Option<u64>,
}
