//! The shapes of what the API says of policy bundles.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/policy`: the fleet's policy and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// The newest version that was pushed; 0 before the first.
    pub version: u64,
    /// The version that all nodes run that try nothing.
    pub stable: Option<PolicyVersion>,
    /// What is on trial.
    pub trial: Option<PolicyTrial>,
    /// Versions that are remembered, the newest last.
    pub chain: Vec<PolicyVersion>,
    /// The home of policy: the site where changes are put in order.
    pub home: String,
    /// Raised with each move of the home.
    pub epoch: u64,
    /// Counts the changes since.
    pub serial: u64,
    /// What happened last.
    pub note: String,
    /// When that was, in Unix milliseconds.
    pub changed_at_ms: u64,
    /// What each node runs, this one first.
    pub nodes: Vec<PolicyNode>,
    /// Whether what this node runs stands in a file. Of a command line there is nothing to change, to diff or to exclude from.
    #[serde(default)]
    pub has_file: bool,
    /// What was pushed is in force already, as the newest version: no other was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
}

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersion {
    /// Its version.
    pub version: u64,
    /// The SHA-256 of its bytes.
    pub hash: String,
    /// The hash of the one before.
    pub previous: Option<String>,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A bundle that some nodes try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyTrial {
    /// The bundle.
    #[serde(flatten)]
    pub version: PolicyVersion,
    /// Where: `node fra/a` or `site fra`.
    pub stage: String,
    /// Since when, in Unix milliseconds.
    pub started_at_ms: u64,
    /// For how long it is judged, in milliseconds; without it, until an operator says so.
    pub bake_ms: Option<u64>,
    /// How it stands, in words.
    pub judgement: String,
}

/// What one node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyNode {
    /// Its site.
    pub site: String,
    /// Its name.
    pub node: String,
    /// Whether it was heard of lately.
    pub online: bool,
    /// What it says of policy.
    pub policy: Option<MemberPolicy>,
}

/// What a node says of policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberPolicy {
    /// The version in force there.
    pub version: u64,
    /// The start of the bundle's hash; empty for a node's own policy file.
    pub hash: String,
    /// The version that it refused.
    #[serde(default)]
    pub refused_version: Option<u64>,
    /// Why.
    #[serde(default)]
    pub refused: Option<String>,
    /// Clients that came during the trial and were served well before.
    #[serde(default)]
    pub trial_clients: Option<u32>,
    /// Of these, those that the policy refused; where the trial runs, and the version before would not have.
    #[serde(default)]
    pub trial_refused: Option<u32>,
    /// Of these, those that got an error of the server's.
    #[serde(default)]
    pub trial_erred: Option<u32>,
}

/// `POST /api/v1/policy/bundles`: a policy with all files that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyPush {
    /// The name of the policy file among them.
    pub entry: String,
    /// Its files in base64, by the name under which the policy refers to them.
    pub files: BTreeMap<String, String>,
    /// The version that is expected to be the newest now; refused if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// The site that tries it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_site: Option<String>,
    /// The node of that site that tries it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_node: Option<String>,
    /// For how long it is tried before all nodes get it, in milliseconds; without it, until an operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_ms: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Of what it was made, as whoever pushes says: `commit ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `POST /api/v1/policy/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// The version whose content is wanted; without it that of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/v1/policy/home`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyHome {
    /// The site that becomes the home of policy.
    pub site: String,
}
