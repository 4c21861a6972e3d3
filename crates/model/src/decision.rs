//! Standing orders about actors, and the orders that end them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::net::{actor_ip, canonical_prefix};
use crate::{DecisionId, Prefix, RequestId};

/// Whom a decision is about. More scopes (ASN, country, JA4, session, account) follow; readers refuse kinds they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Actor {
    /// One address; for IPv6 the /64 it lies in. Always made by [`Actor::ip`].
    Ip(IpAddr),
    /// One kind of client at one address: narrower than the address, for networks that many people share.
    Client {
        /// The address, as in [`Actor::Ip`].
        ip: IpAddr,
        /// A hash of what the client says of itself (User-Agent and the order of its header fields).
        /// 16 hexadecimal digits in JSON, whose numbers have 53 bits only in browsers.
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        agent: u64,
    },
    /// An address range, host bits cleared. Always made by [`Actor::prefix`].
    Prefix(#[cfg_attr(feature = "schema", schemars(with = "String"))] Prefix),
}

impl Actor {
    /// The actor behind an address.
    pub fn ip(ip: IpAddr) -> Self {
        Self::Ip(actor_ip(ip))
    }

    /// One kind of client at an address.
    pub fn client(ip: IpAddr, agent: u64) -> Self {
        Self::Client { ip: actor_ip(ip), agent }
    }

    /// All addresses of a range.
    pub fn prefix(prefix: Prefix) -> Self {
        Self::Prefix(canonical_prefix(prefix))
    }

    /// The client that the actor is, if it is narrower than its addresses.
    pub fn agent(&self) -> Option<u64> {
        match self {
            Self::Client { agent, .. } => Some(*agent),
            Self::Ip(_) | Self::Prefix(_) => None,
        }
    }

    /// Whether the actor is the client with this `agent` hash, given that the address is in its range. Without a hash
    /// (a connection on which nothing was said yet) only actors that are whole addresses match.
    pub fn covers_agent(&self, agent: Option<u64>) -> bool {
        match self {
            Self::Client { agent: banned, .. } => agent == Some(*banned),
            Self::Ip(_) | Self::Prefix(_) => true,
        }
    }

    /// The range of addresses that the actor stands for.
    pub fn range(&self) -> Prefix {
        match self {
            Self::Prefix(prefix) => canonical_prefix(*prefix),
            Self::Ip(ip) | Self::Client { ip, .. } => {
                let ip = actor_ip(*ip);
                let bits = if ip.is_ipv4() { 32 } else { 64 };
                Prefix::new(ip, bits).unwrap_or_else(|_| Prefix::from(ip))
            }
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip @ IpAddr::V4(_)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(_)) => self.range().fmt(f),
            Self::Client { ip, agent } => write!(f, "{ip} client {agent:016x}"),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

/// What a decision orders, weakest first; an allow wins over all others when an operator wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Answer 429 beyond a low rate.
    Throttle,
    /// Ask for a proof first.
    Challenge,
    /// Refuse.
    Ban,
    /// Never refuse.
    Allow,
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

/// 64 bits as 16 hexadecimal digits.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{bits:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}
