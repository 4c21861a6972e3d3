//! The process that a node is, and its successor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The process that a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its id; another one after an upgrade.
    pub id: u32,
    /// As whom it runs and what it may touch, one plain sentence each.
    pub confinement: Vec<String>,
}

/// `POST /api/v1/upgrade`: a process of the installed binary is prepared, and takes over in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeBegun {
    /// The process that is followed.
    pub from: u32,
}
