//! Delegates of sites, as the API's JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Enrolled, OpenInvitation};

/// An order that a control node may admit and renew edge nodes of its own site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDelegation {
    /// The node's site.
    pub site: String,
    /// The node's name.
    pub node: String,
    /// How long each of its certificates is good, in milliseconds: an hour to seven days; renewed at half of that.
    pub for_ms: u64,
}

/// A node to which the authority has delegated its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delegation {
    /// The site.
    pub site: String,
    /// The node.
    pub node: String,
    /// When what it holds ends, in Unix milliseconds; none until it has asked.
    pub expires_at_ms: Option<u64>,
}

/// This node as the delegate of its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delegate {
    /// The fleet's id.
    pub fleet: String,
    /// The site.
    pub site: String,
    /// When the delegation ends, in Unix milliseconds; none while it holds none.
    pub expires_at_ms: Option<u64>,
    /// The nodes of the site that it knows.
    pub nodes: Vec<Enrolled>,
    /// How many of them it admitted or renewed without the authority's having heard of it yet.
    pub untold: usize,
    /// Invitations that can still be used.
    pub invitations: Vec<OpenInvitation>,
}
