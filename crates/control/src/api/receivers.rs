//! Who is told, as the API's JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One who can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiverRow {
    /// The name in the node's settings.
    pub name: String,
    /// `webhook`, `slack`, `teams`, `pagerduty` or `mail`.
    pub kind: String,
}

/// `POST /api/v1/receivers/{name}/test`: whether it took a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiverTested {
    /// Whether it took it.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
