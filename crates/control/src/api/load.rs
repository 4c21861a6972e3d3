//! How short a node runs of what it needs, as the API tells it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a node uses of the limits beyond which it sheds load. A limit of 0 is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Load {
    /// `calm`, or what is refused, in plain words.
    pub level: String,
    /// 0 for calm, to 4.
    pub level_number: u8,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    pub files: u64,
    pub files_limit: u64,
    pub connections: u64,
    pub connections_limit: u64,
    /// Limits that clients met since the start; those that nobody met are left out.
    pub limits_reached: Vec<LimitCount>,
}

/// How often clients met a limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub struct LimitCount {
    pub limit: String,
    pub count: u64,
}
