//! What whoever restarts or balances is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok`: the process answers.
    pub status: String,
}

/// `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether visitors should be sent to this node.
    pub ready: bool,
    /// Why not: `cordoned`, `draining`, `drained`, or what the node is still at.
    pub reasons: Vec<String>,
    /// What fails without keeping the node from serving: parts of the record, `fleet`. The status says more.
    pub degraded: Vec<String>,
}
