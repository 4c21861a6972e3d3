//! Accounts after a control node was stolen: what it knew and what came by it counts no more, whatever it said and whenever who hears of it,
//! and what it raised to the end does not stay there.

use super::merge_tests::{NOW, Node, meet, node, two};
use super::*;
use crate::passkey::PasskeyPublic;

const PASSWORD: &str = "correct horse battery";

fn revoked(node: &Node, up_to_ms: u64) -> Vec<RevokedNode> {
    let (successors, control, lapsing) = (Vec::new(), true, false);
    vec![RevokedNode { node: node.name.clone(), up_to_ms, successors, control, lapsing }]
}

fn set_up(at: &Node, id: &str) -> TotpSecret {
    let totp = TotpSecret::fresh();
    at.password(id, &PasswordHash::of(PASSWORD).unwrap(), &totp);
    totp
}

/// The accounts that a node tells, with something else in them.
fn forged(at: &Node, forge: impl Fn(&mut Account)) -> Vec<Account> {
    let mut accounts = at.operators.accounts(NOW);
    accounts.iter_mut().for_each(forge);
    let read = accounts.iter().map(|one| Account::from_bytes(&one.to_bytes()).unwrap());
    read.map(|one| one.told_by(&at.name, "its key")).collect()
}

#[test]
fn passwords_that_a_revoked_node_had_are_void_and_those_set_in_knowledge_of_it_are_not() {
    let (a, b, id) = two();
    let thief = node();
    let totp = set_up(&a, &id);
    let token = a.token(&id, "ci");
    meet(&[&a, &b, &thief]);
    assert!(a.operators.heed(&[]).passwords.is_empty());
    let gone = revoked(&thief, NOW);
    assert_eq!(a.operators.heed(&gone).passwords, ["alice"]);
    assert!(a.operators.heed(&gone).passwords.is_empty(), "nothing the next time");
    // One that was set where the revocation was not heard of: the thief may have been told it.
    set_up(&b, &id);
    meet(&[&a, &b]);
    assert!(!a.now(&id).password && !b.now(&id).password);
    assert!(b.operators.by_password("alice", PASSWORD, &totp.code(NOW / 30_000), NOW).is_none());
    assert!(b.operators.by_token(&token, NOW).is_some(), "256 random bits cannot be found from their hash");
    // One that was set in knowledge of it counts also where it is heard of later, and after a restart.
    set_up(&a, &id);
    meet(&[&a, &b]);
    assert!(b.operators.heed(&gone).passwords.is_empty());
    let b = b.restart();
    assert!(b.operators.heed(&gone).passwords.is_empty() && b.now(&id).password);
    // Once more under the same name.
    assert_eq!(b.operators.heed(&revoked(&thief, NOW + 1)).passwords, ["alice"]);
}

#[test]
fn a_node_that_stopped_between_hearing_and_writing_voids_at_the_next_start() {
    let (a, _, id) = two();
    let thief = node();
    set_up(&a, &id);
    let file = std::fs::read(&a.path).unwrap();
    assert_eq!(a.operators.heed(&revoked(&thief, NOW)).passwords, ["alice"]);
    crate::private_file::replace(&a.path, &file).unwrap();
    let a = a.restart();
    assert_eq!(a.operators.heed(&revoked(&thief, NOW)).passwords, ["alice"]);
    assert!(!a.restart().now(&id).password);
}

#[test]
fn what_is_heeded_is_in_force_even_if_it_cannot_be_written() {
    let (a, _, id) = two();
    let thief = node();
    set_up(&a, &id);
    std::fs::remove_dir_all(a.path.parent().unwrap()).unwrap();
    let heeded = a.operators.heed(&revoked(&thief, NOW));
    assert!(heeded.unwritten.is_some() && !a.now(&id).password);
}

#[test]
fn a_node_that_forgot_a_revocation_sets_passwords_that_count_where_it_lapses() {
    let (a, b, id) = two();
    let thief = node();
    let lapsing = |lapsing| {
        revoked(&thief, NOW).into_iter().map(|one| RevokedNode { lapsing, ..one }).collect::<Vec<_>>()
    };
    a.operators.heed(&lapsing(true));
    b.operators.heed(&lapsing(false));
    set_up(&a, &id);
    meet(&[&a, &b]);
    assert!(b.now(&id).password, "who knows of it says so until the end");
    a.operators.heed(&[]);
    b.operators.heed(&lapsing(true));
    set_up(&a, &id);
    meet(&[&a, &b]);
    assert!(b.now(&id).password);
}

#[test]
fn passkeys_tokens_and_rights_that_came_by_a_revoked_node_are_gone_and_others_stay() {
    let (a, b, id) = two();
    let (c, thief) = (node(), node());
    let bob = a.add("bob", NOW).id;
    a.change(&bob, OperatorChange { role: Some(Role::Viewer), ..OperatorChange::default() });
    let own = a.passkey(&id, b"own");
    meet(&[&a, &b, &c, &thief]);
    let planted = thief.passkey(&id, b"planted");
    let token = thief.token(&id, "planted");
    thief.change(&bob, OperatorChange { role: Some(Role::Owner), ..OperatorChange::default() });
    let mallory = thief.add("mallory", NOW).id;
    thief.passkey(&mallory, b"mallory's");
    // It says that others said so, and an honest node tells it on.
    let say = |one: &mut Account| *one = one.clone().told_by(&a.name, "its key");
    b.operators.merge(forged(&thief, say), NOW);
    b.tell(&c);
    for at in [&b, &c] {
        assert!(
            at.operators.by_token(&token, NOW).is_some()
                && at.operators.passkey(&planted, "localhost").is_some()
        );
    }
    let gone = revoked(&thief, NOW);
    let before = b.now(&id).generation;
    let mut others = b.operators.heed(&gone).others;
    assert_ne!(b.now(&id).generation, before, "a session that was opened with a planted passkey ends");
    others.sort();
    assert_eq!(others, ["alice", "bob", "mallory"]);
    // One that has not heard of it brings nothing back.
    c.tell(&b);
    c.operators.heed(&gone);
    meet(&[&a, &b, &c]);
    for at in [&b, &c] {
        assert!(at.operators.by_token(&token, NOW).is_none(), "{}", at.name);
        assert!(at.operators.passkey(&planted, "localhost").is_none());
        assert!(at.operators.passkey(&own, "localhost").is_some());
        let mallory = at.now(&mallory);
        assert!(mallory.disabled && !mallory.is_enrolled());
        assert!(
            at.now(&bob).disabled || at.now(&bob).role == Role::Viewer,
            "who changed it last was a thief"
        );
    }
    // Whoever lets him in stands for what is shown.
    b.change(&bob, OperatorChange { role: Some(Role::Viewer), ..OperatorChange::default() });
    meet(&[&a, &b, &c]);
    assert!([&a, &b, &c].iter().all(|at| !at.now(&bob).disabled && at.now(&bob).role == Role::Viewer));
}

#[test]
fn what_a_node_only_has_by_a_revoked_one_comes_again_from_who_made_it() {
    let (a, thief, id) = two();
    let key = a.passkey(&id, b"own");
    a.change(&id, OperatorChange { apps: Some(vec!["shop".into()]), ..OperatorChange::default() });
    a.tell(&thief);
    let late = node();
    thief.tell(&late);
    late.operators.heed(&revoked(&thief, NOW));
    assert!(late.now(&id).disabled && late.operators.passkey(&key, "localhost").is_none());
    a.tell(&late);
    assert!(!late.now(&id).disabled && late.operators.passkey(&key, "localhost").is_some());
    late.tell(&a);
    assert!(!a.now(&id).disabled, "who knows better is not told otherwise");
    assert!(late.operators.heed(&revoked(&thief, NOW)).others.is_empty());
}

#[test]
fn a_node_enrolled_afresh_under_a_revoked_name_is_another_one() {
    let (a, again, id) = two();
    again.passkey(&id, b"own");
    let accounts = again.operators.accounts(NOW);
    let by = |key: &str| accounts.iter().map(|one| one.clone().told_by(&again.name, key)).collect::<Vec<_>>();
    let successors = vec!["newest".to_owned(), "new".to_owned()];
    let gone =
        revoked(&again, NOW).into_iter().map(|one| RevokedNode { successors: successors.clone(), ..one });
    a.operators.heed(&gone.collect::<Vec<_>>());
    a.operators.merge(by("old"), NOW);
    assert!(a.now(&id).passkeys.is_empty());
    a.operators.merge(by("new"), NOW);
    assert_eq!(a.now(&id).passkeys.len(), 1);
}

#[test]
fn a_key_or_token_told_otherwise_than_it_is_counts_neither_way() {
    let (a, b, id) = two();
    let (key, token) = (a.passkey(&id, b"own"), a.token(&id, "ci"));
    let spare = a.passkey(&id, b"spare");
    meet(&[&a, &b]);
    let swapped = key.clone();
    let told = forged(&b, move |one| {
        one.credentials.tokens.values_mut().for_each(|token| token.role = Role::Owner);
        let known = one.credentials.passkeys.get_mut(&swapped).unwrap();
        (known.public, known.created_at_ms) = (PasskeyPublic::EdDsa(vec![6; 32]), 1);
    });
    a.operators.merge(told, NOW);
    assert!(a.operators.passkey(&key, "localhost").is_none() && a.operators.by_token(&token, NOW).is_none());
    assert!(a.operators.passkey(&spare, "localhost").is_some());
}

#[test]
fn an_account_is_born_once() {
    let (a, b, id) = two();
    let mut account = b.operators.accounts(NOW).remove(0);
    account.born.at_ms = 1;
    assert!(Account::from_bytes(&account.to_bytes()).is_err(), "its id says otherwise");
    account.born.salt.clear();
    account.born.name = "root".into();
    let told = Account::from_bytes(&account.to_bytes()).unwrap();
    a.operators.merge(vec![told], NOW);
    assert_eq!((a.now(&id).name.as_str(), a.now(&id).created_at_ms), ("alice", NOW));
    // Where it is heard of first by who made that up, who knows better puts it right.
    let late = node();
    late.operators.merge(vec![account], NOW);
    assert_eq!(late.now(&id).name, "root");
    meet(&[&a, &late]);
    assert_eq!((late.now(&id).name.as_str(), a.now(&id).name.as_str()), ("alice", "alice"));
}

#[test]
fn a_count_that_a_thief_raised_to_the_end_is_soon_one_that_others_can_raise() {
    const DAY_MS: u64 = 24 * 60 * 60_000;
    let (a, b, id) = two();
    let thief = node();
    a.tell(&thief);
    let raise = |to: u64| {
        forged(&thief, move |one| {
            (one.role, one.apps.0, one.credentials.resets, one.credentials.password.0) =
                ((to, Role::Viewer), to, to, to);
        })
    };
    for beyond in [NOW + DAY_MS + 1, u64::MAX] {
        assert_eq!(a.operators.merge(raise(beyond), NOW).refused.len(), 1);
    }
    assert!(a.operators.merge(raise(NOW + DAY_MS), NOW).refused.is_empty());
    assert_eq!(a.now(&id).role, Role::Viewer);
    a.change(&id, OperatorChange { role: Some(Role::Editor), ..OperatorChange::default() });
    a.operators.reset(&id, By::Node).unwrap();
    a.disable(&id, true);
    assert_eq!(b.operators.merge(a.told(), NOW).refused.len(), 1, "within the same millisecond");
    assert!(b.operators.merge(a.told(), NOW + 2).refused.is_empty());
    assert!(b.now(&id).disabled && b.now(&id).role == Role::Editor);
    a.operators.remove(&id, By::Node, NOW).unwrap();
    assert!(b.operators.merge(a.told(), NOW).refused.is_empty(), "a removal always counts");
}

#[test]
fn a_removal_is_remembered_for_a_year_and_then_makes_room() {
    const YEAR_MS: u64 = 400 * 24 * 60 * 60_000;
    let (a, b, id) = two();
    for n in 1..REMEMBERED_MAX {
        let born = Born {
            at_ms: 1,
            name: "gone".into(),
            by: String::new(),
            on: String::new(),
            salt: n.to_string(),
            subject: String::new(),
        };
        let mut account = Account::new(born.id(), born, Role::Viewer, Vec::new());
        account.remove(NOW);
        assert!(
            take(&mut a.operators.table.lock().unwrap().accounts, account, &Distrust::default(), NOW).is_ok()
        );
    }
    a.operators.remove(&id, By::Node, NOW).unwrap();
    let new = |now_ms| {
        let (name, role, apps, by, on) =
            ("bob".to_owned(), Role::Viewer, vec![], String::new(), String::new());
        a.operators.add(NewOperator { name, role, apps, by, on }, now_ms)
    };
    assert!(matches!(new(NOW + YEAR_MS), Err(OperatorFault::TooMany)));
    let still = a.operators.accounts(NOW + YEAR_MS).len();
    let bob = new(NOW + YEAR_MS + 1).unwrap();
    assert_eq!((still, a.operators.accounts(NOW + YEAR_MS + 1).len()), (REMEMBERED_MAX, 1));
    // Who remembers for longer fills nobody with it.
    b.operators.remove(&id, By::Node, NOW).unwrap();
    a.operators.merge(b.operators.accounts(NOW), NOW + YEAR_MS + 1);
    assert_eq!(a.operators.accounts(NOW).len(), 1);
    assert!(a.operators.get(&bob.id).is_some());
}

#[test]
fn removals_that_a_revoked_node_made_up_take_no_room_for_ever() {
    let (a, thief) = (node(), node());
    let gone = thief.add("gone", NOW).id;
    thief.operators.remove(&gone, By::Node, NOW).unwrap();
    thief.tell(&a);
    thief.tell(&a);
    assert_eq!(a.operators.accounts(NOW).len(), 1);
    a.operators.heed(&revoked(&thief, NOW));
    assert!(a.operators.accounts(NOW).is_empty());
    thief.tell(&a);
    assert!(a.operators.accounts(NOW).is_empty());
}

#[test]
fn who_does_not_know_that_a_revoked_node_had_the_control_role_sets_passwords_that_count() {
    let (a, b, id) = two();
    let thief = node();
    let unknowing: Vec<_> =
        revoked(&thief, NOW).into_iter().map(|one| RevokedNode { control: false, ..one }).collect();
    set_up(&a, &id);
    assert!(a.operators.heed(&unknowing).passwords.is_empty());
    b.operators.heed(&revoked(&thief, NOW));
    set_up(&a, &id);
    meet(&[&a, &b]);
    assert!(a.now(&id).password && b.now(&id).password);
}

#[test]
fn however_many_revocations_are_in_force_a_password_can_be_set_and_counts_at_other_nodes() {
    let (a, b, id) = two();
    let thief = node();
    let mut gone = revoked(&thief, NOW + 2_000);
    gone.extend((0..1_500).map(|n| {
        let (node, successors, control) = (format!("fra/made-up{n}"), Vec::new(), true);
        RevokedNode { node, up_to_ms: NOW + n, successors, control, lapsing: false }
    }));
    set_up(&a, &id);
    assert_eq!(a.operators.heed(&gone).passwords, ["alice"]);
    gone.reverse();
    b.operators.heed(&gone);
    set_up(&a, &id);
    meet(&[&a, &b]);
    assert!(b.now(&id).password);
}

#[test]
fn an_account_that_was_made_up_and_then_ended_is_forgotten_and_one_that_was_there_stays_ended() {
    let (a, thief, id) = two();
    let gone = thief.add("gone", NOW).id;
    thief.tell(&a);
    thief.operators.remove(&gone, By::Node, NOW).unwrap();
    thief.operators.remove(&id, By::Node, NOW).unwrap();
    let for_ever = forged(&thief, |one| one.removed_at_ms = u64::MAX);
    a.operators.merge(for_ever, NOW);
    assert_eq!(a.operators.accounts(NOW).len(), 2);
    a.operators.heed(&revoked(&thief, NOW));
    let left = a.operators.accounts(NOW);
    assert_eq!(left.iter().map(Account::id).collect::<Vec<_>>(), [id.as_str()]);
    assert!(left[0].removed && left[0].is_over(NOW + 402 * 24 * 60 * 60_000));
}

#[test]
fn an_account_that_was_made_up_and_that_an_operator_removed_comes_back_from_nowhere() {
    let (a, b, _) = two();
    let (away, thief) = (node(), node());
    let mallory = thief.add("mallory", NOW).id;
    [&a, &b, &away].iter().for_each(|at| drop(thief.tell(at)));
    let gone = revoked(&thief, NOW);
    [&a, &b].iter().for_each(|at| drop(at.operators.heed(&gone)));
    a.operators.remove(&mallory, By::Node, NOW).unwrap();
    meet(&[&a, &b]);
    [&a, &b, &away].iter().for_each(|at| drop(at.operators.heed(&gone)));
    meet(&[&a, &b, &away]);
    assert!([&a, &b, &away].iter().all(|at| at.operators.get(&mallory).is_none()));
}

#[test]
fn accounts_that_a_revoked_node_made_up_have_nobodys_name_and_take_no_room() {
    let (a, thief, id) = two();
    let late = node();
    for n in 1..OPERATORS_MAX {
        thief.add(&format!("a{n}"), NOW);
    }
    let (name, role, apps, by, on) = ("bob".to_owned(), Role::Viewer, vec![], String::new(), String::new());
    let bob = NewOperator { name, role, apps, by, on };
    thief.tell(&a);
    thief.tell(&late);
    let first = Born { name: "alice".into(), at_ms: 0, ..a.operators.accounts(NOW)[0].born.clone() };
    let first = Account::new(first.id(), first, Role::Owner, Vec::new()).told_by(&thief.name, "its key");
    late.operators.remove(&late.operators.named("a1").unwrap().id, By::Node, NOW).unwrap();
    late.operators.merge(vec![first], NOW);
    assert_ne!(late.operators.named("alice").unwrap().id, id);
    assert!(matches!(a.operators.add(bob.clone(), NOW), Err(OperatorFault::TooMany)));
    let gone = revoked(&thief, NOW);
    [&a, &late].iter().for_each(|at| drop(at.operators.heed(&gone)));
    a.operators.add(bob, NOW).unwrap();
    a.tell(&late);
    for at in [&a, &late] {
        assert_eq!((at.now(&id).name.as_str(), at.now(&id).disabled), ("alice", false));
        assert!(
            at.operators.named("bob").is_some() && at.now(&at.operators.named("a2").unwrap().id).disabled
        );
    }
}

#[test]
fn who_was_let_in_by_a_revoked_node_is_kept_out_until_somebody_else_lets_him_in() {
    let (a, b, id) = two();
    let (thief, honest) = (node(), a.add("bob", NOW).id);
    [&id, &honest].iter().for_each(|id| a.disable(id, true));
    meet(&[&a, &b, &thief]);
    b.disable(&honest, false);
    thief.disable(&id, false);
    meet(&[&a, &b, &thief]);
    assert!(!a.now(&id).disabled && !b.now(&id).disabled);
    let gone = revoked(&thief, NOW);
    assert_eq!(a.operators.heed(&gone).others, ["alice"]);
    assert!(a.operators.heed(&gone).others.is_empty());
    assert_eq!(b.operators.heed(&gone).others, ["alice"]);
    meet(&[&a, &b]);
    assert!(a.now(&id).disabled && !a.now(&honest).disabled);
    b.disable(&id, false);
    meet(&[&a, &b]);
    thief.tell(&a);
    assert!(!a.now(&id).disabled && !b.now(&id).disabled, "once for all nodes");
}

#[test]
fn an_account_too_large_to_be_merged_stays_within_bounds_and_is_ended_all_the_same() {
    let (a, b, id) = two();
    let thief = node();
    for n in 0..24 {
        let token = OperatorToken {
            name: format!("t{n}"),
            role: Role::Viewer,
            apps: vec!["x".repeat(900)],
            created_at_ms: NOW,
            expires_at_ms: NOW + 10_000,
        };
        if a.operators.add_token(&a.now(&id), token).is_err() {
            break;
        }
    }
    meet(&[&a, &b, &thief]);
    for n in 0..8 {
        let told = forged(&thief, |one| {
            for place in 0..200 {
                one.shut.shut(&format!("{:016x}", n * 1_000 + place));
            }
            one.shut.open();
            one.apps = (NOW, vec!["y".repeat(120); 64]);
        });
        a.operators.merge(told, NOW);
        assert!(a.operators.accounts(NOW)[0].is_bounded());
    }
    a.disable(&id, true);
    a.tell(&b);
    assert!(b.now(&id).disabled);
    a.operators.reset(&id, By::Node).unwrap();
    a.tell(&b);
    assert!(b.now(&id).tokens.is_empty());
}

#[test]
fn tokens_whose_time_is_over_give_back_their_name_and_their_room() {
    let (a, _, id) = two();
    let token = |name: &str, now_ms: u64| OperatorToken {
        name: name.into(),
        role: Role::Viewer,
        apps: Vec::new(),
        created_at_ms: now_ms,
        expires_at_ms: now_ms + 10,
    };
    for hour in 0..400 {
        let now_ms = NOW + hour * 60 * 60_000;
        a.operators.add_token(&a.now(&id), token("ci", now_ms)).unwrap();
        assert!(matches!(
            a.operators.add_token(&a.now(&id), token("ci", now_ms)),
            Err(OperatorFault::Exists)
        ));
    }
    assert_eq!(a.now(&id).tokens.len(), 1);
}

/// What the fuzz target starts from.
#[test]
fn whatever_is_told_is_merged_alike_again_and_goes_with_who_told_it() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/account");
    let mut read = 0;
    for file in std::fs::read_dir(seeds).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let (a, thief) = (node(), node());
        for line in bytes.split(|byte| *byte == b'\n') {
            let account = Account::from_bytes(line).unwrap().told_by(&thief.name, "its key");
            a.operators.merge(vec![account.clone()], NOW);
            assert!(a.operators.merge(vec![account], NOW).changed.is_empty());
            read += 1;
        }
        let gone = revoked(&thief, NOW);
        a.operators.heed(&gone);
        let heeded = a.operators.heed(&gone);
        assert!(heeded.passwords.is_empty() && heeded.others.is_empty());
        let none = |one: &Operator| one.disabled && !one.is_enrolled() && one.tokens.is_empty();
        assert!(a.operators.list().iter().all(none));
    }
    assert!(read >= 6);
}

#[test]
fn what_is_told_as_there_and_gone_is_gone() {
    let (a, b, id) = two();
    let key = b.passkey(&id, b"own");
    b.passkey(&id, b"spare");
    let known = b.operators.accounts(NOW).remove(0).credentials.passkeys[&key].clone();
    b.operators.delete_passkey(&b.now(&id), &key).unwrap();
    let back = forged(&b, |one| drop(one.credentials.passkeys.insert(key.clone(), known.clone())));
    let late = node();
    for at in [&a, &late] {
        at.operators.merge(back.clone(), NOW);
        assert!(at.operators.passkey(&key, "localhost").is_none() && at.now(&id).passkeys.len() == 1);
    }
}
