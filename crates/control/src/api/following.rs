//! How those do who keep a git branch and the fleet's policy in step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/policy/followers`: what `phalanx policy follow` says of itself after each look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFollowing {
    /// What it follows: `main of /srv/git/policy.git`.
    pub name: String,
    /// How often it looks, in milliseconds; not given: this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// How it stands.
    pub state: PolicyFollowState,
    /// What it did last, or what hinders it, in words.
    pub words: String,
    /// The branch's newest commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The newest version that the branch has; 0: none.
    #[serde(default)]
    pub version: u64,
    /// Versions of the fleet that the branch has not.
    #[serde(default)]
    pub behind: u64,
}

/// How a follower stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyFollowState {
    /// Branch and fleet say the same.
    InStep,
    /// It wrote or applied something.
    Moved,
    /// A commit waits for a second operator.
    Waiting,
    /// A commit was rejected: another must follow.
    Refused,
    /// The newest commit changes the policy, and nobody who may signed it.
    Unsigned,
    /// Branch and fleet both moved: a person decides.
    Conflict,
    /// Something else hinders it.
    Failed,
}

impl PolicyFollowState {
    /// Whether there is nothing for a person to look at.
    pub fn is_well(self) -> bool {
        matches!(self, Self::InStep | Self::Moved | Self::Waiting)
    }

    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::InStep => "in step",
            Self::Moved => "moved",
            Self::Waiting => "waits for a second operator",
            Self::Refused => "refused",
            Self::Unsigned => "not signed",
            Self::Conflict => "both moved",
            Self::Failed => "failed",
        }
    }
}

/// `GET /api/v1/policy/followers`: one that this node heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyFollower {
    /// Whose token or socket it uses.
    pub by: String,
    /// What it said.
    pub said: PolicyFollowing,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// When it last had nothing to complain of, in Unix milliseconds.
    pub well_at_ms: Option<u64>,
    /// It should have been heard by now.
    pub silent: bool,
}

impl PolicyFollower {
    /// What of it a person should look at.
    pub fn complaint(&self) -> Option<String> {
        let PolicyFollowing { name, state, words, .. } = &self.said;
        if self.silent {
            return Some(format!("`phalanx policy follow`, {name}: is not heard any more; is it running?"));
        }
        let first = words.lines().next().unwrap_or_default();
        (!state.is_well()).then(|| format!("`phalanx policy follow`, {name}: {}: {first}", state.words()))
    }
}
