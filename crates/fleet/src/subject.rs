//! Names under which records are kept and sent. A record counts under one subject only, which follows from what it says.

use phalanx_model::{Actor, Author, AuthorRole, DecisionKind};
use phalanx_trust::Revocation;

use crate::Change;

/// `phx.dec.<site>.<node>.<kind>.<hash>`: one subject per register, so that a stream that keeps the last message per subject
/// keeps exactly the registers.
pub fn of_change(change: &Change) -> String {
    let author = change.author();
    let kind = match change {
        Change::Decided(decision) => of_decisions(author.role, decision.kind),
        Change::Withdrawn(_) => of_withdrawals(author.role),
        // Only an operator's counts; a node's would be refused under whatever name.
        Change::Recalled(_) => RECALL,
        Change::Listed(_) => LIST,
    };
    let about = match change {
        Change::Decided(decision) => actor_hash(&decision.actor),
        Change::Withdrawn(withdrawal) => actor_hash(&withdrawal.actor),
        Change::Recalled(recall) => hash(&author_name(&recall.target)),
        Change::Listed(list) => hash(&format!("list {}", list.name)),
    };
    format!("{DECISIONS}.{}.{}.{kind}.{about}", author.site, author.node)
}

/// The subject of a node's announcement.
pub fn of_node(site: &str, node: &str) -> String {
    format!("{NODES}.{site}.{node}")
}

/// The subject under which an author revokes a node.
pub fn of_revocation(author: &Author, revocation: &Revocation) -> String {
    format!("{REVOCATIONS}.{}.{}.{}.{}", author.site, author.node, revocation.site, revocation.node)
}

/// The subject of the fleet's policy, at its home. The one tenant there is has the name `default`.
pub fn of_policy(home: &str) -> String {
    format!("{POLICY}.{home}.default")
}

/// The subject under which an author orders a node.
pub fn of_order(author: &Author, site: &str, node: &str) -> String {
    format!("{ORDERS}.{}.{}.{site}.{node}", author.site, author.node)
}

/// The subject of a node's heartbeat.
pub fn of_heartbeat(site: &str, node: &str) -> String {
    format!("{HEARTBEATS}.{site}.{node}")
}

/// The subject of a node's counts of rate limits.
pub fn of_counts(site: &str, node: &str) -> String {
    format!("{COUNTS}.{site}.{node}")
}

/// The subject under which a node tells what it learns, of a kind.
pub fn of_sketch(site: &str, node: &str, kind: &str) -> String {
    format!("{SKETCHES}.{site}.{node}.{kind}")
}

/// The subject of a node's counts for the node of its site that sums.
pub fn of_counts_to_sum(site: &str, node: &str) -> String {
    format!("{COUNTS_TO_SUM}.{site}.{node}")
}

/// The subject under which a node says what it has of a shelf.
pub fn of_shelf_want(site: &str, node: &str, shelf: &str) -> String {
    format!("{SHELVES}.{site}.{node}.{shelf}")
}

/// The subject under which a node gives another what lies on a shelf.
pub fn of_shelf_gift(site: &str, node: &str, shelf: &str, to: &str) -> String {
    format!("{SHELVES}.{site}.{node}.{shelf}.{to}")
}

/// Who speaks under a subject about this shelf of a site, and to whom, if to one node.
pub(crate) fn of_shelf<'a>(subject: &'a str, site: &str, shelf: &str) -> Option<(&'a str, Option<&'a str>)> {
    let mut words = subject.strip_prefix(SHELVES)?.strip_prefix('.')?.split('.');
    let (of_site, node, of_shelf, to) = (words.next()?, words.next()?, words.next()?, words.next());
    (of_site == site && of_shelf == shelf && words.next().is_none()).then_some((node, to))
}

/// The name under which a node keeps what lies on a shelf, in its own state only; without `name`, what all of them begin with.
pub(crate) fn of_shelf_kept(site: &str, shelf: &str, name: &str) -> String {
    match name {
        "" => format!("{SHELVES}.{site}.{shelf}."),
        name => format!("{SHELVES}.{site}.{shelf}.{}", hash(name)),
    }
}

/// The subject under which a control node says what it has of operators' accounts.
pub fn of_operators(site: &str, node: &str) -> String {
    format!("{OPERATORS}.{site}.{node}")
}

/// The subject under which a control node gives another operators' accounts.
pub fn of_account(site: &str, node: &str, to_site: &str, to_node: &str) -> String {
    format!("{OPERATORS}.{site}.{node}.{to_site}.{to_node}")
}

/// A node's site and name.
pub(crate) type NamedNode<'a> = (&'a str, &'a str);

/// Who speaks under a subject about operators, and to whom, if to one node.
pub(crate) fn of_operators_said(subject: &str) -> Option<(NamedNode<'_>, Option<NamedNode<'_>>)> {
    let mut words = subject.strip_prefix(OPERATORS)?.strip_prefix('.')?.split('.');
    let from = (words.next()?, words.next()?);
    let to = match words.next() {
        None => None,
        Some(site) => Some((site, words.next()?)),
    };
    words.next().is_none().then_some((from, to))
}

/// The subject under which a node of a site sends another history, or says what it has of it.
pub fn of_history(site: &str, node: &str, to: &str) -> String {
    format!("{HISTORIES}.{site}.{node}.{to}")
}

/// All of these subjects under which a node is sent something.
pub(crate) fn of_histories_to(site: &str, node: &str) -> String {
    format!("{HISTORIES}.{site}.*.{node}")
}

/// Who speaks under such a subject, if it is to this node.
pub(crate) fn of_history_to<'a>(subject: &'a str, site: &str, node: &str) -> Option<&'a str> {
    let mut words = subject.strip_prefix(HISTORIES)?.strip_prefix('.')?.split('.');
    let (of_site, from, to) = (words.next()?, words.next()?, words.next()?);
    (of_site == site && to == node && words.next().is_none()).then_some(from)
}

/// The subject under which a node asks.
pub fn of_question(site: &str, node: &str) -> String {
    format!("{QUESTIONS}.{site}.{node}")
}

/// The subject under which a node answers another.
pub fn of_answer(asker: &Author, site: &str, node: &str) -> String {
    format!("{ANSWERS}.{}.{}.{site}.{node}", asker.site, asker.node)
}

/// The subject that belongs to an author in a topic, with all below it: `phx.dec.fra.a.>`.
pub fn own(prefix: &str, author: &Author) -> String {
    format!("{prefix}.{}.{}", author.site, author.node)
}

/// The kind in subjects of decisions.
pub(crate) fn of_decisions(role: AuthorRole, kind: DecisionKind) -> &'static str {
    match (role, kind) {
        (AuthorRole::Node, DecisionKind::RaiseParanoia) => "raise-paranoia",
        (AuthorRole::Node, DecisionKind::Throttle) => "throttle",
        (AuthorRole::Node, DecisionKind::Challenge) => "challenge",
        (AuthorRole::Node, DecisionKind::Ban) => "ban",
        (AuthorRole::Node, DecisionKind::Allow) => "allow",
        (AuthorRole::Operator, DecisionKind::RaiseParanoia) => "op-raise-paranoia",
        (AuthorRole::Operator, DecisionKind::Throttle) => "op-throttle",
        (AuthorRole::Operator, DecisionKind::Challenge) => "op-challenge",
        (AuthorRole::Operator, DecisionKind::Ban) => "op-ban",
        (AuthorRole::Operator, DecisionKind::Allow) => "op-allow",
    }
}

/// The kind in subjects of withdrawals.
pub(crate) fn of_withdrawals(role: AuthorRole) -> &'static str {
    match role {
        AuthorRole::Node => "withdraw",
        AuthorRole::Operator => "op-withdraw",
    }
}

/// The kind in subjects of recalls.
pub(crate) const RECALL: &str = "op-recall";
/// The kind in subjects of blocklists.
pub(crate) const LIST: &str = "op-list";
/// Kinds of records that end others.
pub(crate) const ENDS: [&str; 3] = ["op-recall", "op-withdraw", "withdraw"];
/// Every kind in subjects of decisions.
pub(crate) const KINDS: [&str; 14] = [
    "raise-paranoia",
    "throttle",
    "challenge",
    "ban",
    "allow",
    "withdraw",
    "op-raise-paranoia",
    "op-throttle",
    "op-challenge",
    "op-ban",
    "op-allow",
    "op-withdraw",
    RECALL,
    LIST,
];

/// 120 bits of the SHA-256 of what tells actors apart: an address has characters that subjects do not allow.
fn actor_hash(actor: &Actor) -> String {
    let key = actor.key();
    let name = match actor.agent() {
        Some(agent) => format!("{key} client {agent:016x}"),
        None => key.to_string(),
    };
    hash(&name)
}

/// What tells authors apart. Names hold no space.
fn author_name(author: &Author) -> String {
    let role = match author.role {
        AuthorRole::Node => "node",
        AuthorRole::Operator => "operator",
    };
    format!("author {} {} {role}", author.site, author.node)
}

fn hash(name: &str) -> String {
    let digest = phalanx_trust::sha256(name.as_bytes());
    let short: Vec<u8> = digest.into_iter().take(15).collect();
    data_encoding::BASE32_NOPAD.encode(&short)
}

/// Decisions and withdrawals.
pub const DECISIONS: &str = "phx.dec";
/// Announcements of nodes.
pub const NODES: &str = "phx.node";
/// Revocations of nodes.
pub const REVOCATIONS: &str = "phx.rev";
/// The fleet's policy.
pub const POLICY: &str = "phx.pol";
/// Orders about nodes.
pub const ORDERS: &str = "phx.ord";
/// Heartbeats.
pub const HEARTBEATS: &str = "phx.hb";
/// Questions about what nodes have served.
pub const QUESTIONS: &str = "phx.q";
/// Answers to them.
pub const ANSWERS: &str = "phx.a";
/// Counts of rate limits.
pub const COUNTS: &str = "phx.ctr";
/// What nodes learn of requests.
pub const SKETCHES: &str = "phx.sk";
/// Secrets that the nodes of a site share.
pub const SHELVES: &str = "phx.shelf";
/// Accounts of operators, between control nodes.
pub const OPERATORS: &str = "phx.opr";
/// What nodes recorded: it stays in its site.
pub const HISTORIES: &str = "phx.raw";
/// Counts of rate limits, for the node that sums them for a site.
pub const COUNTS_TO_SUM: &str = "phx.cta";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use phalanx_model::{Decision, DecisionId, Recall};

    #[track_caller]
    fn check(actor: Actor, expected: &str) {
        let decision = Decision {
            id: DecisionId::from_parts(1, 1, 1),
            actor,
            kind: DecisionKind::Ban,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            reason: String::new(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 1,
            expires_at_ms: 2,
            version: 1,
        };
        assert_eq!(
            of_change(&Change::Decided(Arc::new(decision))),
            format!("phx.dec.fra.a.op-ban.{expected}")
        );
    }

    /// Streams keep the last record under each: a name that changed would leave the old record in force beside the new.
    #[test]
    fn subjects_stay_as_they_are() {
        check(Actor::ip([192, 0, 2, 1].into()), "RHYKLPVILKNJ7QMFLGR4NU4X");
        let recall = |node: &str, role| {
            Change::Recalled(Arc::new(Recall {
                id: DecisionId::from_parts(1, 1, 1),
                target: Author { site: "fra".into(), node: node.into(), role },
                author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
                up_to_version: 1,
                reason: String::new(),
                created_at_ms: 1,
                expires_at_ms: 2,
            }))
        };
        let of_node = of_change(&recall("b", AuthorRole::Node));
        assert_eq!(of_node, "phx.dec.fra.a.op-recall.SVNH5LLWDNZ3YB3OCYMD7JH6");
        assert_ne!(of_node, of_change(&recall("b", AuthorRole::Operator)));
        check(Actor::ip("2001:db8::1".parse().unwrap()), "WIXJCILC7AYZLQQEHR3622UV");
        check(Actor::client([192, 0, 2, 1].into(), 7), "DMUNC3FLLPC4X7ZA77IUVU3R");
        check(Actor::prefix("192.0.2.0/24".parse().unwrap()), "4M3JCX7RPH2TNSHI774EQCSS");
        check(Actor::Asn(64_500), "4OH742OZ5TU7C7CAICJUZRH6");
        check(Actor::Country("NL".parse().unwrap()), "KHJJBILB77TTIRA7NZJB54BR");
        check(
            Actor::Ja4("t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap()),
            "ABWFRTSVP4MTW65OJQZOYIXN",
        );
        check(Actor::Session(7), "MYN4Q3BJVTDC2M5ORJ3IAC6E");
        check(Actor::Account(7), "FMUMVBEY6TR5HVSJK4AKMYAN");
    }
}
