//! Properties and cases of the merge core.

use super::model::Model;
use super::*;
use phalanx_model::limits::{BLOCKLIST_NAMES_MAX, RECALLS_PER_AUTHOR_MAX};
use phalanx_model::{Actor, DecisionKind, Identities, ListContent, View};
use proptest::prelude::*;

const NOW: u64 = 1_000;

fn author(node: u8, role: AuthorRole) -> Author {
    Author { site: "fra".into(), node: format!("n{node}").into(), role }
}

/// From 200 on, kinds of clients at the address 192.0.2.1; 100 and on, what is no address.
fn whom(actor: u8) -> Actor {
    match actor {
        100 => Actor::Asn(64_500),
        101 => Actor::Country("NL".parse().unwrap()),
        102 => Actor::Session(7),
        200.. => Actor::client([192, 0, 2, 1].into(), u64::from(actor)),
        _ => Actor::ip([192, 0, 2, actor].into()),
    }
}

fn decision(author: Author, actor: u8, kind: DecisionKind, version: u64, expires_at_ms: u64) -> Change {
    Change::Decided(Arc::new(Decision {
        id: DecisionId::from_parts(version, 1, u64::from(actor)),
        actor: whom(actor),
        kind,
        author,
        reason: format!("version {version}"),
        evidence: None,
        confidence_percent: 90,
        created_at_ms: 0,
        expires_at_ms,
        version,
    }))
}

fn ban(node: u8, actor: u8, version: u64, expires_at_ms: u64) -> Change {
    decision(author(node, AuthorRole::Node), actor, DecisionKind::Ban, version, expires_at_ms)
}

fn withdrawal(author: Author, actor: u8, up_to_version: u64) -> Change {
    Change::Withdrawn(Arc::new(Withdrawal {
        id: DecisionId::from_parts(up_to_version, 2, u64::from(actor)),
        actor: whom(actor),
        author,
        up_to_version,
        reason: "undo".into(),
        created_at_ms: 0,
        expires_at_ms: 1_000_000,
    }))
}

fn recall(by: u8, target: Author, up_to_version: u64) -> Change {
    Change::Recalled(Arc::new(Recall {
        id: DecisionId::from_parts(up_to_version, 3, u64::from(by)),
        target,
        author: author(by, AuthorRole::Operator),
        up_to_version,
        reason: "broken into".into(),
        created_at_ms: 0,
        expires_at_ms: 1_000_000,
    }))
}

fn list(by: Author, name: u8, version: u64, prefixes: Option<u32>) -> Change {
    Change::Listed(Arc::new(Blocklist {
        id: DecisionId::from_parts(version, 4, u64::from(name)),
        name: format!("list{name}").into(),
        author: by,
        kind: DecisionKind::Ban,
        reason: "test".into(),
        content: prefixes.map(|prefixes| ListContent { hash: format!("{prefixes}"), prefixes }),
        approved: false,
        created_at_ms: 0,
        until_ms: 2_000,
        expires_at_ms: 1_000_000,
        version,
    }))
}

/// What the state says, in an order of its own.
fn picture(registers: &Registers) -> Vec<String> {
    let mut lines: Vec<String> = registers.decisions().map(|decision| format!("{decision:?}")).collect();
    lines.extend(registers.withdrawals.values().flatten().map(|withdrawal| format!("{withdrawal:?}")));
    lines.extend(registers.lists().map(|list| format!("{list:?} {}", registers.is_list_recalled(list))));
    lines.extend(registers.recalls().map(|recall| format!("{recall:?}")));
    lines.sort();
    lines
}

fn merged(changes: impl IntoIterator<Item = Change>) -> Registers {
    let mut registers = Registers::default();
    for change in changes {
        registers.apply(&change, NOW);
    }
    registers
}

fn any_change() -> impl Strategy<Value = Change> {
    let role = prop_oneof![Just(AuthorRole::Node), Just(AuthorRole::Operator)];
    let kind = prop_oneof![Just(DecisionKind::Ban), Just(DecisionKind::Allow), Just(DecisionKind::Throttle)];
    let expiry = prop_oneof![Just(900u64), Just(2_000), Just(3_000)];
    let actor = prop_oneof![0u8..3, 100u8..103, 200u8..202];
    (0u8..3, role, actor, kind, 1u64..6, expiry, 0u8..8).prop_map(
        |(node, role, actor, kind, version, expires_at_ms, what)| {
            let author = author(node, role);
            match what {
                0..3 => withdrawal(author, actor, version),
                3 => recall(actor % 3, author, version),
                4 => list(author, actor % 3, version, (actor > 100).then_some(u32::from(node))),
                _ => decision(author, actor, kind, version, expires_at_ms),
            }
        },
    )
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_give_the_same_state(
        changes in proptest::collection::vec(any_change(), 0..40),
        shuffle in proptest::collection::vec(any::<prop::sample::Index>(), 0..120),
    ) {
        let straight = merged(changes.clone());
        let repeated = shuffle.iter().filter(|_| !changes.is_empty()).map(|index| index.get(&changes).clone());
        let mixed = merged(repeated.chain(changes.iter().rev().cloned()));
        prop_assert_eq!(picture(&straight), picture(&mixed));
        prop_assert_eq!(straight.decisions_len(), straight.decisions().count());
        prop_assert_eq!(mixed.decisions_len(), mixed.decisions().count());
    }

    #[test]
    fn the_view_built_step_by_step_is_the_view_of_the_whole(changes in proptest::collection::vec(any_change(), 0..40)) {
        let mut registers = Registers::default();
        let mut view = View::default();
        for change in &changes {
            let news = registers.is_news(change);
            let outcome = registers.apply(change, NOW);
            if let Outcome::Applied { touched, .. } = &outcome {
                for key in touched {
                    view = view.with_key(*key, registers.decisions_of(key));
                }
            }
            prop_assert!(registers.decisions().all(|decision| !registers.is_recalled(&decision)));
            let applied = matches!(outcome, Outcome::Applied { .. } | Outcome::Expired);
            prop_assert!(applied || !news, "{:?}", outcome);
        }
        let whole = View::from_decisions(registers.decisions());
        for actor in 0..3u8 {
            let who = Identities { asn: Some(64_500), session: Some(7), ..Identities::of([192, 0, 2, actor].into()) };
            for now_ms in [NOW, 2_500, 4_000] {
                let found = |view: &View| view.lookup(&who, now_ms).map(|found| format!("{:?}", found.decision()));
                prop_assert_eq!(found(&view), found(&whole));
                let live = |view: &View| {
                    let mut ids: Vec<_> = view.live(now_ms).map(|decision| format!("{decision:?}")).collect();
                    ids.sort();
                    ids
                };
                prop_assert_eq!(live(&view), live(&whole));
            }
        }
    }

    #[test]
    fn what_was_replaced_does_not_come_back_when_its_successor_is_over(
        made in proptest::collection::vec((1u64..2_000, 0u64..500), 1..8),
        heard in proptest::collection::vec(any::<bool>(), 8),
        rest in 0u64..3_000,
    ) {
        let (mut author, mut now_ms, mut changes) = (Registers::default(), NOW, Vec::new());
        for (version, (for_ms, later_ms)) in (1..).zip(made) {
            now_ms += later_ms;
            author.sweep(now_ms);
            let change = ban(1, 1, version, now_ms + for_ms);
            let change = no_shorter(change.clone(), &author.decisions_of(&change.key().unwrap()), now_ms);
            author.apply(&change, now_ms);
            changes.push(change);
        }
        let mut away = merged(changes.iter().zip(heard).filter(|(_, heard)| *heard).map(|(change, _)| change.clone()));
        now_ms += rest;
        for registers in [&mut author, &mut away] {
            registers.sweep(now_ms);
            // Everything arrives once more, the oldest last.
            for change in changes.iter().rev() {
                registers.apply(change, now_ms);
            }
        }
        let live = changes.last().filter(|last| last.expires_at_ms() > now_ms).cloned();
        prop_assert_eq!(picture(&author), picture(&merged(live)));
        prop_assert_eq!(picture(&away), picture(&author));
    }

    #[test]
    fn nothing_expired_is_kept_and_a_sweep_leaves_nothing_behind(changes in proptest::collection::vec(any_change(), 0..40)) {
        let mut registers = merged(changes);
        prop_assert!(registers.decisions().all(|decision| decision.is_live(NOW)));
        registers.sweep(2_000);
        prop_assert!(registers.decisions().all(|decision| decision.is_live(2_000)));
        registers.sweep(1_000_000);
        prop_assert_eq!(registers.decisions_len(), 0);
        prop_assert!(registers.withdrawals.is_empty() && registers.tombstones.is_empty());
        prop_assert_eq!(registers.table.authors().count(), 0);
        prop_assert_eq!((registers.recalls().count(), registers.lists().count()), (0, 0));
    }
}

/// What happens to registers.
#[derive(Debug, Clone)]
enum Step {
    Apply(Change),
    Sweep(u64),
    Expel(u8, u64),
}

/// Decisions as nodes make them, which the table packs; any_change() makes odd ones.
fn usual_decision() -> impl Strategy<Value = Change> {
    let about = prop_oneof![
        (0u8..6).prop_map(whom),
        (200u8..203).prop_map(whom),
        (0u8..3).prop_map(|n| Actor::client(format!("2001:db8:{n}::1").parse().unwrap(), 9)),
        (0u8..3).prop_map(|n| Actor::ip(format!("2001:db8:{n}::1").parse().unwrap())),
        (22u8..=32).prop_map(|bits| Actor::prefix(format!("192.0.2.1/{bits}").parse().unwrap())),
        (60u8..70).prop_map(|bits| Actor::prefix(format!("2001:db8::1/{bits}").parse().unwrap())),
        Just(Actor::Ja4("t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap())),
        Just(Actor::Account(u64::MAX)),
    ];
    let times = (0u64..3, 1u64..5, 0u64..4, proptest::option::of(0u64..9));
    (any_change(), about, times, any::<bool>()).prop_map(|(other, actor, times, longest)| {
        let (created, lasts, counted, evidence) = times;
        let Change::Decided(odd) = other else { return other };
        let created_at_ms = NOW - created;
        Change::Decided(Arc::new(Decision {
            id: DecisionId::from_parts(created_at_ms, 1, counted),
            actor,
            evidence: evidence.map(|at_ms| DecisionId::from_parts(at_ms, 7, at_ms)),
            created_at_ms,
            expires_at_ms: if longest { NOW + (u64::from(u32::MAX) << 2) } else { NOW + 500 * lasts },
            version: crate::hybrid_clock::version_at(created_at_ms) + counted,
            ..(*odd).clone()
        }))
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_change().prop_map(Step::Apply),
        8 => usual_decision().prop_map(Step::Apply),
        1 => (NOW..4_000).prop_map(Step::Sweep),
        1 => (0u8..3, prop_oneof![0u64..6, Just(crate::hybrid_clock::version_at(NOW - 1))]).prop_map(|(node, above)| Step::Expel(node, above)),
    ]
}

fn sorted<T: std::fmt::Debug>(things: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut lines: Vec<String> = things.into_iter().map(|thing| format!("{thing:?}")).collect();
    lines.sort();
    lines
}

/// What was done, in an order of its own.
fn told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Applied { gone, touched } => format!("{:?} {:?}", sorted(gone), sorted(touched)),
        other => format!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn packed_registers_do_what_plain_ones_do(
        steps in proptest::collection::vec(any_step(), 0..40),
        quota in prop_oneof![0usize..5, Just(100)],
    ) {
        let (mut packed, mut plain, mut now_ms) = (Registers::with_quota(quota), Model::with_quota(quota), NOW);
        for step in steps {
            match step {
                Step::Apply(change) => {
                    prop_assert_eq!(packed.is_news(&change), plain.is_news(&change), "{:?}", change);
                    prop_assert_eq!(packed.has_room_for(&change), plain.has_room_for(&change), "{:?}", change);
                    let (one, other) = (packed.apply(&change, now_ms), plain.apply(&change, now_ms));
                    prop_assert_eq!(told(one), told(other), "{:?}", change);
                    prop_assert_eq!(packed.holds(&change), plain.holds(&change));
                    if let Some(key) = change.key() {
                        let (one, other) = (packed.decisions_of(&key), plain.decisions_of(&key));
                        prop_assert_eq!(sorted(one), sorted(other));
                        prop_assert_eq!(packed.forgiven_at_ms(&key), plain.forgiven_at_ms(&key));
                    }
                }
                Step::Sweep(at_ms) => {
                    now_ms = now_ms.max(at_ms);
                    let (one, other) = (packed.sweep(now_ms), plain.sweep(now_ms));
                    prop_assert_eq!((sorted(one.0), sorted(one.1)), (sorted(other.0), sorted(other.1)));
                }
                Step::Expel(node, above) => {
                    let node = format!("n{node}");
                    let (one, other) = (packed.expel("fra", &node, above), plain.expel("fra", &node, above));
                    prop_assert_eq!((sorted(one.0), sorted(one.1)), (sorted(other.0), sorted(other.1)));
                }
            }
            prop_assert_eq!(picture(&packed), plain.picture());
            prop_assert_eq!(packed.decisions_len(), packed.decisions().count());
            prop_assert_eq!(sorted(packed.withdrawn()), sorted(plain.withdrawn()));
            for node in ["n0", "n1", "n2"] {
                prop_assert_eq!(sorted(packed.written_by("fra", node)), sorted(plain.written_by("fra", node)));
            }
            let mut paged = Vec::new();
            let mut from = 0;
            while let Some((groups, next)) = packed.keys(from, 3) {
                for (key, decisions) in groups {
                    prop_assert!(!decisions.is_empty() && decisions.iter().all(|of| of.actor.key() == key));
                    paged.extend(decisions);
                }
                from = next;
            }
            prop_assert_eq!(sorted(paged), sorted(packed.decisions()));
        }
    }
}

#[test]
fn an_operators_withdrawal_ends_anyones_and_a_nodes_only_its_own() {
    let own =
        merged([ban(1, 1, 3, 2_000), ban(2, 1, 3, 2_000), withdrawal(author(1, AuthorRole::Node), 1, 3)]);
    assert_eq!(own.decisions().map(|d| d.author.node.to_string()).collect::<Vec<_>>(), ["n2"]);
    let all =
        merged([ban(1, 1, 3, 2_000), ban(2, 1, 3, 2_000), withdrawal(author(9, AuthorRole::Operator), 1, 3)]);
    assert_eq!(all.decisions_len(), 0);
}

#[test]
fn a_ban_after_the_withdrawal_holds_and_one_before_it_is_not_resurrected() {
    let mut registers = merged([ban(1, 1, 3, 2_000), withdrawal(author(9, AuthorRole::Operator), 1, 5)]);
    assert_eq!(registers.apply(&ban(1, 1, 3, 2_000), NOW), Outcome::Withdrawn);
    assert_eq!(registers.apply(&ban(2, 1, 5, 2_000), NOW), Outcome::Withdrawn);
    assert!(matches!(registers.apply(&ban(1, 1, 6, 2_000), NOW), Outcome::Applied { .. }));
}

#[test]
fn a_recall_ends_what_its_target_decided_and_nothing_else() {
    let target = || author(1, AuthorRole::Node);
    let mut registers = merged([
        ban(1, 1, 3, 2_000),
        ban(1, 2, 4, 2_000),
        ban(2, 1, 3, 2_000),
        decision(author(1, AuthorRole::Operator), 1, DecisionKind::Ban, 3, 2_000),
        ban(1, 0, 6, 2_000),
    ]);
    let Outcome::Applied { gone, touched } = registers.apply(&recall(9, target(), 5), NOW) else {
        panic!("a recall is applied")
    };
    assert_eq!((gone.len(), touched.len(), registers.decisions_len()), (2, 2, 3));
    assert_eq!(registers.apply(&ban(1, 7, 5, 2_000), NOW), Outcome::Withdrawn, "it comes late");
    assert!(!registers.is_news(&ban(1, 7, 5, 2_000)));
    assert!(matches!(registers.apply(&ban(1, 7, 6, 2_000), NOW), Outcome::Applied { .. }));
    assert_eq!(registers.apply(&recall(9, target(), 4), NOW), Outcome::Known, "an older one changes nothing");
    assert!(matches!(registers.apply(&recall(8, target(), 4), NOW), Outcome::Applied { .. }));
    assert_eq!(registers.recalls().count(), 2, "each operator has its own");
}

#[test]
fn what_was_recalled_does_not_rise_while_the_recall_is_kept() {
    let mut registers = merged([ban(1, 1, 3, 999_999), recall(9, author(1, AuthorRole::Node), 5)]);
    registers.sweep(999_998);
    assert_eq!(registers.apply(&ban(1, 1, 3, 999_999), 999_998), Outcome::Withdrawn);
}

#[test]
fn an_operator_cannot_fill_memory_with_recalls() {
    let of = |n: usize| Author { site: "fra".into(), node: format!("n{n}").into(), role: AuthorRole::Node };
    let all = || (0..RECALLS_PER_AUTHOR_MAX + 10).map(|n| recall(9, of(n), 5 + n as u64));
    let (forwards, backwards) = (merged(all()), merged(all().rev()));
    assert_eq!(forwards.recalls().count(), RECALLS_PER_AUTHOR_MAX);
    assert_eq!(picture(&forwards), picture(&backwards));
}

#[test]
fn of_a_list_the_highest_version_counts_whoever_wrote_it() {
    let operator = |node| author(node, AuthorRole::Operator);
    let mut registers = merged([list(operator(1), 0, 3, Some(3)), list(operator(2), 1, 9, Some(9))]);
    let newest = |registers: &Registers| {
        let mut all: Vec<_> = registers.lists().map(|list| (list.name.to_string(), list.version)).collect();
        all.sort();
        all
    };
    let Outcome::Applied { gone, touched } = registers.apply(&list(operator(2), 0, 5, Some(5)), NOW) else {
        panic!("a newer version is applied")
    };
    assert_eq!((gone, touched), (vec![list(operator(1), 0, 3, Some(3))], vec![]));
    assert_eq!(
        registers.apply(&list(operator(1), 0, 4, Some(4)), NOW),
        Outcome::Known,
        "a lower one is refused"
    );
    assert_eq!(newest(&registers), [("list0".to_owned(), 5), ("list1".to_owned(), 9)]);
    registers.apply(&list(operator(1), 0, 6, None), NOW);
    assert_eq!(
        registers.apply(&list(operator(2), 0, 5, Some(5)), NOW),
        Outcome::Known,
        "removed stays removed"
    );
    registers.apply(&recall(9, operator(2), 9), NOW);
    let recalled: Vec<bool> = registers.lists().map(|list| registers.is_list_recalled(list)).collect();
    assert_eq!(recalled.iter().filter(|is| **is).count(), 1);
}

#[test]
fn names_of_lists_are_limited_in_any_order() {
    let one = |n: usize| {
        let Change::Listed(of) = list(author(1, AuthorRole::Operator), 0, 5 + n as u64, Some(1)) else {
            panic!()
        };
        Change::Listed(Arc::new(Blocklist { name: format!("n{n}").into(), ..(*of).clone() }))
    };
    let all = || (0..BLOCKLIST_NAMES_MAX + 10).map(one);
    let (forwards, backwards) = (merged(all()), merged(all().rev()));
    assert_eq!(forwards.lists().count(), BLOCKLIST_NAMES_MAX);
    assert_eq!(picture(&forwards), picture(&backwards));
}

#[test]
fn kinds_of_clients_at_one_address_are_told_apart() {
    let both = [ban(1, 200, 3, 2_000), ban(1, 201, 3, 2_000), ban(1, 1, 3, 2_000)];
    let operator = || author(9, AuthorRole::Operator);
    assert_eq!(merged(both.clone()).decisions_len(), 3);
    let one_undone = merged(both.clone().into_iter().chain([withdrawal(operator(), 200, 5)]));
    assert_eq!(one_undone.decisions_len(), 2);
    let address_undone = merged(both.into_iter().chain([withdrawal(operator(), 1, 5)]));
    assert_eq!(address_undone.decisions_len(), 0);
}

#[test]
fn an_author_cannot_crowd_one_key() {
    let clients: Vec<Change> = (0..100u64)
        .map(|agent| {
            let Change::Decided(decision) = ban(1, 1, 1, 2_000 + agent) else { panic!("a ban decides") };
            let actor = Actor::client([192, 0, 2, 1].into(), agent);
            Change::Decided(Arc::new(Decision { actor, ..(*decision).clone() }))
        })
        .collect();
    let forwards = merged(clients.clone());
    assert_eq!(forwards.decisions_len(), PER_KEY_MAX);
    assert_eq!(picture(&forwards), picture(&merged(clients.into_iter().rev())));
    assert_eq!(forwards.table.of_author(&author(1, AuthorRole::Node)).len(), PER_KEY_MAX);
}

#[test]
fn an_older_version_replayed_changes_nothing() {
    let mut registers = merged([ban(1, 1, 5, 2_000)]);
    assert_eq!(registers.apply(&ban(1, 1, 4, 3_000), NOW), Outcome::Known);
    assert_eq!(registers.apply(&ban(1, 1, 5, 2_000), NOW), Outcome::Known);
    assert_eq!(registers.apply(&ban(1, 2, 1, NOW), NOW), Outcome::Expired);
}

#[test]
fn an_author_over_its_quota_keeps_what_lasts_longest_in_any_order() {
    let changes: Vec<Change> =
        (0..20).map(|n| ban(1, n, 1, 2_000 + u64::from(n % 7) * 100 + u64::from(n))).collect();
    let keep = |order: Vec<Change>| {
        let mut registers = Registers::with_quota(5);
        for change in &order {
            registers.apply(change, NOW);
        }
        assert_eq!(registers.decisions_len(), 5);
        picture(&registers)
    };
    let mut backwards = changes.clone();
    backwards.reverse();
    assert_eq!(keep(changes.clone()), keep(backwards));
    let mut others = Registers::with_quota(5);
    changes.iter().for_each(|change| drop(others.apply(change, NOW)));
    assert!(
        matches!(others.apply(&ban(2, 99, 1, 2_000), NOW), Outcome::Applied { .. }),
        "quotas are per author"
    );
}

#[test]
fn a_node_that_is_taken_out_takes_what_it_ordered_with_it() {
    let operator = |node| author(node, AuthorRole::Operator);
    let mut registers = Registers::default();
    let list = |node: u8, version| {
        Change::Listed(Arc::new(Blocklist {
            id: DecisionId::from_parts(version, 4, u64::from(node)),
            author: operator(node),
            kind: DecisionKind::Ban,
            name: format!("list{node}").into(),
            version,
            content: None,
            approved: false,
            until_ms: 1_000_000,
            reason: "list".into(),
            created_at_ms: 0,
            expires_at_ms: 1_000_000,
        }))
    };
    let theirs = [
        ban(1, 1, 10, 9_000),
        withdrawal(operator(1), 2, 11),
        recall(1, author(3, AuthorRole::Node), 12),
        list(1, 13),
    ];
    let others = [ban(2, 3, 10, 9_000), withdrawal(operator(2), 4, 11), list(2, 13)];
    for change in theirs.iter().chain(&others) {
        assert!(matches!(registers.apply(change, NOW), Outcome::Applied { .. }), "{change:?}");
    }
    let (gone, touched) = registers.expel("fra", "n1", 0);
    assert_eq!(gone.len(), theirs.len(), "{gone:?}");
    assert_eq!(touched, [whom(1).key()]);
    assert_eq!(registers.written_by("fra", "n1").count(), 0);
    assert_eq!(registers.written_by("fra", "n2").count(), others.len());
    assert!(
        matches!(registers.apply(&ban(3, 5, 9, 9_000), NOW), Outcome::Applied { .. }),
        "it is recalled no more"
    );
}
