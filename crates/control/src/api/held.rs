//! What waits for an operator, as the API's JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/held`: what waits for an operator on this node. Other nodes may hold other things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Ranges that are proposed, then what is held, the latest first; a thousand at most.
    pub held: Vec<HeldThing>,
    /// How much there is.
    pub total: u64,
    /// How many clients this node served well in the last ten minutes: by these it is measured. With none nothing is held.
    #[serde(default)]
    pub measured_by: u64,
}

/// Something that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldThing {
    /// Its id.
    pub id: phalanx_model::DecisionId,
    /// What it is.
    pub what: HeldWhat,
    /// Whom it is about; of a decision or a range.
    pub actor: Option<phalanx_model::Actor>,
    /// The name of the list.
    pub blocklist: Option<String>,
    /// How many prefixes the list holds, or addresses of the range are banned.
    pub addresses: Option<u32>,
    /// What it orders, or would.
    pub kind: phalanx_model::DecisionKind,
    /// Whose it is.
    pub author: phalanx_model::Author,
    /// Why it was ordered; may quote strangers.
    pub reason: String,
    /// What it would refuse. Of a decision: with all that its author ordered, when it came; of a range: now.
    pub share: phalanx_model::GoodShare,
    /// The same in words.
    pub text: String,
    /// Since when it is held, in Unix milliseconds; a range is proposed for as long as its bans last.
    pub since_ms: Option<u64>,
    /// When it ends by itself, in Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

/// What can wait for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldWhat {
    /// A decision of a node.
    Decision,
    /// A version of a blocklist; the one before stays in force.
    Blocklist,
    /// A range of which one author bans so many addresses that it is proposed to ban it whole.
    Range,
}

/// What came of what was held: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    /// The operator's own order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Arc<phalanx_model::Decision>>,
    /// The order that ends everything about the actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Arc<phalanx_model::Withdrawal>>,
    /// The list whose content is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocklist: Option<String>,
}
