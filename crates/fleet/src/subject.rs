//! Names under which records are kept and sent. A record counts under one subject only, which follows from what it says.

use phalanx_model::{Actor, Author, AuthorRole, DecisionKind};

use crate::Change;

/// `phx.dec.<site>.<node>.<kind>.<hash>`: one subject per register, so that a stream that keeps the last message per subject
/// keeps exactly the registers.
pub fn of_change(change: &Change) -> String {
    let author = change.author();
    let kind = match (change, author.role) {
        (Change::Decided(decision), AuthorRole::Node) => kind_word(decision.kind).to_owned(),
        (Change::Decided(decision), AuthorRole::Operator) => format!("op-{}", kind_word(decision.kind)),
        (Change::Withdrawn(_), AuthorRole::Node) => "withdraw".to_owned(),
        (Change::Withdrawn(_), AuthorRole::Operator) => "op-withdraw".to_owned(),
    };
    format!("{DECISIONS}.{}.{}.{kind}.{}", author.site, author.node, actor_hash(change.actor()))
}

/// The subject of a node's announcement.
pub fn of_node(site: &str, node: &str) -> String {
    format!("{NODES}.{site}.{node}")
}

/// The subject of a node's heartbeat.
pub fn of_heartbeat(site: &str, node: &str) -> String {
    format!("{HEARTBEATS}.{site}.{node}")
}

/// The subject of a node's counts of rate limits.
pub fn of_counts(site: &str, node: &str) -> String {
    format!("{COUNTS}.{site}.{node}")
}

/// The subject that belongs to an author in a topic, with all below it: `phx.dec.fra.a.>`.
pub fn own(prefix: &str, author: &Author) -> String {
    format!("{prefix}.{}.{}", author.site, author.node)
}

fn kind_word(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Throttle => "throttle",
        DecisionKind::Challenge => "challenge",
        DecisionKind::Ban => "ban",
        DecisionKind::Allow => "allow",
    }
}

/// 120 bits of the SHA-256 of what tells actors apart: an address has characters that subjects do not allow.
fn actor_hash(actor: &Actor) -> String {
    let range = actor.range();
    let name = match actor.agent() {
        Some(agent) => format!("{range} client {agent:016x}"),
        None => range.to_string(),
    };
    let digest = phalanx_trust::sha256(name.as_bytes());
    let short: Vec<u8> = digest.into_iter().take(15).collect();
    data_encoding::BASE32_NOPAD.encode(&short)
}

/// Decisions and withdrawals.
pub const DECISIONS: &str = "phx.dec";
/// Announcements of nodes.
pub const NODES: &str = "phx.node";
/// Heartbeats.
pub const HEARTBEATS: &str = "phx.hb";
/// Counts of rate limits.
pub const COUNTS: &str = "phx.ctr";
