//! Requests over time, as the API's JSON.

use phalanx_record::{RefusedClient, Traffic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/traffic`: requests over time, of this node or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSeen {
    /// What was counted.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The nodes whose counts are in it.
    pub answered: Vec<NodeName>,
    /// The nodes that did not answer in time or are away: without a copy their counts are missing.
    pub silent: Vec<NodeName>,
    /// The nodes of whose counts a control node of their site has a copy, which is in it: silent ones, those that are no more, and of nodes that lost
    /// their disk what they had counted before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<NodeName>,
}

impl TrafficSeen {
    /// The nodes whose counts are missing.
    pub fn missing(&self) -> Vec<&NodeName> {
        missing(&self.silent, &self.copied)
    }
}

/// Those that did not answer and of which no copy did.
pub(crate) fn missing<'n>(silent: &'n [NodeName], copied: &[NodeName]) -> Vec<&'n NodeName> {
    silent.iter().filter(|one| !copied.contains(one)).collect()
}

/// `GET /api/v1/traffic/actors`: the clients refused most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActorsSeen {
    /// From here on, in Unix milliseconds.
    #[serde(default)]
    pub from_ms: u64,
    /// Until here, exclusive.
    #[serde(default)]
    pub to_ms: u64,
    /// The time between two points.
    #[serde(default)]
    pub step_ms: u64,
    /// The most refused first.
    pub clients: Vec<RefusedClient>,
    /// The nodes whose clients are in it.
    pub answered: Vec<NodeName>,
    /// The nodes that did not answer in time.
    pub silent: Vec<NodeName>,
}

/// A node of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NodeName {
    /// Its site.
    pub site: String,
    /// Its name.
    pub node: String,
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.site, self.node)
    }
}
