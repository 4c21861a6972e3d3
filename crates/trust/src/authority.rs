//! What an author may say. A node alone bans narrowly and briefly; only an operator allows, withdraws others' and orders about ranges.

use phalanx_model::actor::is_asn;
use phalanx_model::limits::{
    BAN_AUTOMATIC_MAX_MS, BLOCKLIST_PREFIXES_MAX, DECISION_MAX_MS, PREFIX_V4_BITS_MIN, PREFIX_V6_BITS_MIN,
    REASON_BYTES_MAX, RECORD_FUTURE_MAX_MS,
};
use phalanx_model::{
    Actor, ActorKey, AuthorRole, Blocklist, Decision, DecisionKind, Prefix, Recall, Withdrawal,
};

use crate::{Refusal, valid_name};

/// Whether `decision` is within its author's authority at `now_ms`.
pub fn may_decide(decision: &Decision, now_ms: u64) -> Result<(), Refusal> {
    if !decision.is_live(now_ms) {
        return Err(Refusal::Expired);
    }
    if decision.created_at_ms > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
        return Err(Refusal::FromTheFuture);
    }
    if decision.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::NotAllowed("the reason is too long"));
    }
    check_actor(&decision.actor)?;
    if !decision.kind.suits(&decision.actor) {
        return Err(Refusal::NotAllowed(
            "paranoia is raised of an app's rules, and nothing else is ordered about them",
        ));
    }
    let for_ms = decision.expires_at_ms.saturating_sub(decision.created_at_ms);
    match decision.author.role {
        AuthorRole::Operator if for_ms > DECISION_MAX_MS => Err(Refusal::NotAllowed("it lasts too long")),
        AuthorRole::Operator => Ok(()),
        AuthorRole::Node if decision.kind == DecisionKind::Allow => {
            Err(Refusal::NotAllowed("a node alone cannot allow"))
        }
        AuthorRole::Node if !is_narrow(&decision.actor) => Err(Refusal::NotAllowed(
            "a node alone decides about one address (IPv6: one /64), session or account",
        )),
        AuthorRole::Node if for_ms > BAN_AUTOMATIC_MAX_MS => {
            Err(Refusal::NotAllowed("a node alone decides for a day at most"))
        }
        AuthorRole::Node => Ok(()),
    }
}

/// Whether `withdrawal` is within its author's authority at `now_ms`. `up_to_ms` is the time in its version.
pub fn may_withdraw(withdrawal: &Withdrawal, up_to_ms: u64, now_ms: u64) -> Result<(), Refusal> {
    check_actor(&withdrawal.actor)?;
    let (created_at_ms, expires_at_ms) = (withdrawal.created_at_ms, withdrawal.expires_at_ms);
    check_end(Times { created_at_ms, expires_at_ms, up_to_ms }, &withdrawal.reason, now_ms)
}

/// Whether `recall` is within its author's authority at `now_ms`. `up_to_ms` is the time in its version.
pub fn may_recall(recall: &Recall, up_to_ms: u64, now_ms: u64) -> Result<(), Refusal> {
    if recall.author.role != AuthorRole::Operator {
        return Err(Refusal::NotAllowed("a node alone cannot end what others decided"));
    }
    let (created_at_ms, expires_at_ms) = (recall.created_at_ms, recall.expires_at_ms);
    check_end(Times { created_at_ms, expires_at_ms, up_to_ms }, &recall.reason, now_ms)
}

/// Whether the record of a blocklist is within its author's authority at `now_ms`. What its content may hold is checked where it is
/// read: no range that is [`too_wide`].
pub fn may_list(list: &Blocklist, now_ms: u64) -> Result<(), Refusal> {
    if list.author.role != AuthorRole::Operator {
        return Err(Refusal::NotAllowed("a node alone cannot list"));
    }
    if list.expires_at_ms <= now_ms {
        return Err(Refusal::Expired);
    }
    if list.created_at_ms > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
        return Err(Refusal::FromTheFuture);
    }
    if !valid_name(&list.name) {
        return Err(Refusal::NotAllowed("a list's name is 1 to 63 of a-z, 0-9, - and _"));
    }
    if !matches!(list.kind, DecisionKind::Ban | DecisionKind::Challenge) {
        return Err(Refusal::NotAllowed("a list bans or challenges"));
    }
    if list.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::NotAllowed("the reason is too long"));
    }
    if list.until_ms.saturating_sub(list.created_at_ms) > DECISION_MAX_MS {
        return Err(Refusal::NotAllowed("it lasts too long"));
    }
    let prefixes = list.content.as_ref().map(|content| usize::try_from(content.prefixes));
    if prefixes
        .is_some_and(|prefixes| prefixes.is_ok_and(|count| count == 0 || count > BLOCKLIST_PREFIXES_MAX))
    {
        return Err(Refusal::NotAllowed("a list holds from one to a million prefixes"));
    }
    Ok(())
}

/// Whether nobody may order about the whole of this range: a slip of an operator's finger must not ban a continent.
pub fn too_wide(range: Prefix) -> bool {
    match range {
        Prefix::V4(range) => range.prefix_len() < PREFIX_V4_BITS_MIN,
        Prefix::V6(range) => range.prefix_len() < PREFIX_V6_BITS_MIN,
    }
}

/// Whether a node alone may order about an actor: about what is one subscriber, client, session or account. An AS, a country
/// and all clients with one TLS greeting are many people.
pub fn is_narrow(actor: &Actor) -> bool {
    match actor.key() {
        ActorKey::Range(range) => narrow(range),
        ActorKey::Session(_) | ActorKey::Account(_) => true,
        ActorKey::Asn(_) | ActorKey::Country(_) | ActorKey::Ja4(_) => false,
        ActorKey::Software(_) | ActorKey::Route(_) | ActorKey::App(_) | ActorKey::Rules(_) => false,
    }
}

/// The times of an order that ends others.
struct Times {
    created_at_ms: u64,
    expires_at_ms: u64,
    up_to_ms: u64,
}

fn check_end(times: Times, reason: &str, now_ms: u64) -> Result<(), Refusal> {
    if times.expires_at_ms <= now_ms {
        return Err(Refusal::Expired);
    }
    // Up to a far future version, it would forbid bans that nobody has thought of yet.
    if times.created_at_ms.max(times.up_to_ms) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
        return Err(Refusal::FromTheFuture);
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::NotAllowed("the reason is too long"));
    }
    if times.expires_at_ms.saturating_sub(times.created_at_ms) > DECISION_MAX_MS + 2 * RECORD_FUTURE_MAX_MS {
        return Err(Refusal::NotAllowed("it lasts too long"));
    }
    Ok(())
}

fn check_actor(actor: &Actor) -> Result<(), Refusal> {
    match actor.key() {
        ActorKey::Range(range) if too_wide(range) => {
            Err(Refusal::NotAllowed("the range is too wide for anyone"))
        }
        ActorKey::Asn(number) if !is_asn(number) => Err(Refusal::NotAllowed("that is no autonomous system")),
        _ => Ok(()),
    }
}

fn narrow(range: Prefix) -> bool {
    match range {
        Prefix::V4(range) => range.prefix_len() == 32,
        Prefix::V6(range) => range.prefix_len() >= 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{Author, DecisionId, ListContent};

    const NOW: u64 = 1_000_000_000;

    fn decision(role: AuthorRole, kind: DecisionKind, actor: &str, for_ms: u64) -> Decision {
        let actor = match actor.parse::<Prefix>() {
            Ok(prefix) => Actor::prefix(prefix),
            Err(_) => Actor::ip(actor.parse().unwrap()),
        };
        Decision {
            id: DecisionId::from_parts(NOW, 1, 1),
            actor,
            kind,
            author: Author { site: "fra".into(), node: "a".into(), role },
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: NOW,
            expires_at_ms: NOW + for_ms,
            version: 1,
        }
    }

    #[test]
    fn authority_of_nodes_and_operators() {
        use AuthorRole::{Node, Operator};
        use DecisionKind::{Allow, Ban};
        let day = BAN_AUTOMATIC_MAX_MS;
        let cases = [
            (Node, Ban, "192.0.2.1", day, true),
            (Node, Ban, "192.0.2.1", day + 1, false),
            (Node, Ban, "192.0.2.0/31", day, false),
            (Node, Ban, "192.0.2.1/32", day, true),
            (Node, Ban, "2001:db8::1", day, true),
            (Node, Ban, "2001:db8::/64", day, true),
            (Node, Ban, "2001:db8::/63", day, false),
            (Node, Allow, "192.0.2.1", 1, false),
            (Operator, Allow, "192.0.2.1", 1, true),
            (Operator, Ban, "192.0.0.0/8", day * 30, true),
            (Operator, Ban, "192.0.0.0/7", 1, false),
            (Operator, Ban, "0.0.0.0/0", 1, false),
            (Operator, Allow, "::/0", 1, false),
            (Operator, Ban, "192.0.2.1", DECISION_MAX_MS, true),
            (Operator, Ban, "192.0.2.1", DECISION_MAX_MS + 1, false),
            (Operator, Ban, "192.0.2.1", 0, false),
        ];
        for (role, kind, actor, for_ms, allowed) in cases {
            let result = may_decide(&decision(role, kind, actor, for_ms), NOW);
            assert_eq!(result.is_ok(), allowed, "{role:?} {kind:?} {actor} {for_ms}: {result:?}");
        }
    }

    #[test]
    fn scopes_of_many_people_are_for_operators() {
        let cases = [
            (Actor::client([192, 0, 2, 1].into(), 7), true, true),
            (Actor::Session(7), true, true),
            (Actor::Account(7), true, true),
            (Actor::Asn(64_500), false, true),
            (Actor::Country("NL".parse().unwrap()), false, true),
            (Actor::Ja4("t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap()), false, true),
            (Actor::Software(7), false, true),
            (Actor::Route(7), false, true),
            (Actor::App(7), false, true),
            (Actor::Asn(0), false, false),
        ];
        for (actor, node, operator) in cases {
            let about =
                |role| Decision { actor: actor.clone(), ..decision(role, DecisionKind::Ban, "192.0.2.1", 1) };
            assert_eq!(may_decide(&about(AuthorRole::Node), NOW).is_ok(), node, "{actor}");
            assert_eq!(may_decide(&about(AuthorRole::Operator), NOW).is_ok(), operator, "{actor}");
        }
    }

    #[test]
    fn what_comes_from_the_future_is_refused() {
        let future = NOW + RECORD_FUTURE_MAX_MS + 1;
        let mut early = decision(AuthorRole::Node, DecisionKind::Ban, "192.0.2.1", 1_000_000);
        early.created_at_ms = future;
        assert_eq!(may_decide(&early, NOW), Err(Refusal::FromTheFuture));
        let withdrawal = |created_at_ms| Withdrawal {
            id: DecisionId::from_parts(NOW, 1, 1),
            actor: Actor::ip("192.0.2.1".parse().unwrap()),
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            up_to_version: 1,
            reason: String::new(),
            created_at_ms,
            expires_at_ms: created_at_ms + 1_000_000,
        };
        assert_eq!(may_withdraw(&withdrawal(NOW), NOW, NOW), Ok(()));
        assert_eq!(may_withdraw(&withdrawal(future), NOW, NOW), Err(Refusal::FromTheFuture));
        assert_eq!(may_withdraw(&withdrawal(NOW), future, NOW), Err(Refusal::FromTheFuture));
    }

    #[test]
    fn only_an_operator_lists_within_the_limits() {
        let good = Blocklist {
            id: DecisionId::from_parts(NOW, 1, 1),
            name: "scanners".into(),
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            kind: DecisionKind::Ban,
            reason: String::new(),
            content: Some(ListContent { hash: String::new(), prefixes: 1 }),
            approved: false,
            created_at_ms: NOW,
            until_ms: NOW + DECISION_MAX_MS,
            expires_at_ms: u64::MAX,
            version: 1,
        };
        assert_eq!(may_list(&good, NOW), Ok(()));
        type Harm = fn(&mut Blocklist);
        let harms: [Harm; 8] = [
            |list| list.author.role = AuthorRole::Node,
            |list| list.kind = DecisionKind::Allow,
            |list| list.name = "a b".into(),
            |list| list.reason = "x".repeat(REASON_BYTES_MAX + 1),
            |list| list.until_ms += 1,
            |list| list.created_at_ms += RECORD_FUTURE_MAX_MS + 1,
            |list| list.expires_at_ms = NOW,
            |list| list.content = Some(ListContent { hash: String::new(), prefixes: 1_000_001 }),
        ];
        for (number, harm) in harms.iter().enumerate() {
            let mut list = good.clone();
            harm(&mut list);
            assert!(may_list(&list, NOW).is_err(), "harm {number}");
        }
    }

    #[test]
    fn only_an_operator_ends_all_that_an_author_decided() {
        let recall = |role, created_at_ms| Recall {
            id: DecisionId::from_parts(NOW, 1, 1),
            target: Author { site: "fra".into(), node: "b".into(), role: AuthorRole::Node },
            author: Author { site: "fra".into(), node: "a".into(), role },
            up_to_version: 1,
            reason: String::new(),
            created_at_ms,
            expires_at_ms: created_at_ms + 1_000_000,
        };
        let future = NOW + RECORD_FUTURE_MAX_MS + 1;
        assert_eq!(may_recall(&recall(AuthorRole::Operator, NOW), NOW, NOW), Ok(()));
        assert!(matches!(may_recall(&recall(AuthorRole::Node, NOW), NOW, NOW), Err(Refusal::NotAllowed(_))));
        assert_eq!(may_recall(&recall(AuthorRole::Operator, NOW), future, NOW), Err(Refusal::FromTheFuture));
        assert_eq!(may_recall(&recall(AuthorRole::Operator, 0), 0, NOW), Err(Refusal::Expired));
    }
}
