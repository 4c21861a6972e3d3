//! Standing orders about actors, and the orders that end them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Actor, DecisionId, RequestId};

/// What a decision orders, weakest first; an allow wins over all others when an operator wrote it.
///
/// INVARIANT: [`DecisionKind::RaiseParanoia`] is ordered about [`Actor::Rules`], and nothing else is; see [`DecisionKind::suits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Inspect by the stricter rules that policy has ready for the app.
    RaiseParanoia,
    /// Answer 429 beyond a low rate.
    Throttle,
    /// Ask for some work, or patience, first.
    Challenge,
    /// Refuse.
    Ban,
    /// Never refuse.
    Allow,
}

impl DecisionKind {
    /// Its name, as people read and write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RaiseParanoia => "raise-paranoia",
            Self::Throttle => "throttle",
            Self::Challenge => "challenge",
            Self::Ban => "ban",
            Self::Allow => "allow",
        }
    }

    /// Whether it can be ordered about an actor: of an app's rules paranoia is raised, and nothing else.
    pub fn suits(self, actor: &Actor) -> bool {
        (self == Self::RaiseParanoia) == matches!(actor, Actor::Rules(_))
    }
}

/// In what role an author speaks; its key proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuthorRole {
    /// A node, on its own: may ban narrowly and briefly.
    Node,
    /// An operator, through a node that holds an operator key.
    Operator,
}

/// Who wrote a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Author {
    /// The site of the node that signed.
    pub site: Arc<str>,
    /// The node that signed.
    pub node: Arc<str>,
    /// In what role.
    pub role: AuthorRole,
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            AuthorRole::Node => write!(f, "{}/{}", self.site, self.node),
            AuthorRole::Operator => write!(f, "operator at {}/{}", self.site, self.node),
        }
    }
}

/// A standing order about an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// Whom it is about.
    pub actor: Actor,
    /// What it orders.
    pub kind: DecisionKind,
    /// Who wrote it.
    pub author: Author,
    /// Why, in plain words; may quote strangers.
    pub reason: String,
    /// The request that led to it, if one did.
    pub evidence: Option<RequestId>,
    /// How sure the author is, in per cent.
    pub confidence_percent: u8,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ends, in Unix milliseconds; it is never enforced from then on.
    pub expires_at_ms: u64,
    /// The author's version of this register (hybrid logical time); a higher one replaces a lower one.
    pub version: u64,
}

impl Decision {
    /// Whether it is in force at `now_ms`.
    pub fn is_live(&self, now_ms: u64) -> bool {
        now_ms < self.expires_at_ms
    }
}

/// An order that ends decisions: of one actor by any author, up to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Withdrawal {
    /// Its id.
    pub id: DecisionId,
    /// The actor whose decisions end.
    pub actor: Actor,
    /// Who wrote it. An operator's withdrawal ends anyone's decisions, a node's only its own.
    pub author: Author,
    /// Decisions of this actor with a version up to this one end.
    pub up_to_version: u64,
    /// Why.
    pub reason: String,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it may be forgotten, in Unix milliseconds: not before every decision it ends has expired.
    pub expires_at_ms: u64,
}

/// An operator's order that ends everything one author decided up to a version: for a node that was broken into, or erred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Recall {
    /// Its id.
    pub id: DecisionId,
    /// Whose decisions end.
    pub target: Author,
    /// Who wrote it; only operators may.
    pub author: Author,
    /// Decisions of the target with a version up to this one end, also those that arrive later.
    pub up_to_version: u64,
    /// Why.
    pub reason: String,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it may be forgotten, in Unix milliseconds: not before every decision it ends has expired.
    pub expires_at_ms: u64,
}

impl Recall {
    /// Whether it ends a decision.
    pub fn ends(&self, decision: &Decision) -> bool {
        self.covers(&decision.author, decision.version)
    }

    /// Whether it ends what `author` wrote with this version.
    pub fn covers(&self, author: &Author, version: u64) -> bool {
        self.target == *author && version <= self.up_to_version
    }
}
