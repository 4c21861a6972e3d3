//! Accounts of several nodes that changed them apart: whatever the order in which they hear of each other, all end alike, and nobody
//! gets back what was taken from him.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::shut::Shut;
use super::*;
use crate::passkey::PasskeyPublic;

pub(super) const NOW: u64 = 1_800_000_000_000;

pub(super) struct Node {
    pub(super) name: String,
    pub(super) operators: Operators,
    pub(super) path: PathBuf,
    pub(super) sealer: Arc<Sealer>,
    _folder: tempfile::TempDir,
}

pub(super) fn node() -> Node {
    static NODES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("fra/n{}", NODES.fetch_add(1, Ordering::Relaxed));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operators.sealed");
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let operators = Operators::load(&path, Arc::clone(&sealer)).unwrap();
    operators.name_node(&name);
    Node { name, operators, path, sealer, _folder: folder }
}

impl Node {
    pub(super) fn add(&self, name: &str, now_ms: u64) -> Operator {
        let new = NewOperator {
            name: name.into(),
            role: Role::Owner,
            apps: Vec::new(),
            by: "local socket".into(),
            on: "fra/a".into(),
        };
        self.operators.add(new, now_ms).unwrap()
    }

    /// All accounts, as they travel to others.
    pub(super) fn told(&self) -> Vec<Account> {
        let accounts = self.operators.accounts(NOW);
        let told = accounts.iter().map(|one| Account::from_bytes(&one.to_bytes()).unwrap());
        told.map(|one| one.told_by(&self.name, "its key")).collect()
    }

    /// The same file, read by the next process.
    pub(super) fn restart(self) -> Self {
        let operators = Operators::load(&self.path, Arc::clone(&self.sealer)).unwrap();
        operators.name_node(&self.name);
        Self { operators, ..self }
    }

    /// Tells another all accounts, as they travel.
    pub(super) fn tell(&self, other: &Node) -> Merged {
        other.operators.merge(self.told(), NOW)
    }

    pub(super) fn now(&self, id: &str) -> Operator {
        self.operators.get(id).unwrap()
    }

    pub(super) fn disable(&self, id: &str, disabled: bool) {
        self.change(id, OperatorChange { disabled: Some(disabled), ..OperatorChange::default() });
    }

    pub(super) fn change(&self, id: &str, change: OperatorChange) {
        self.operators.change(id, change, By::Node).unwrap();
    }

    pub(super) fn passkey(&self, id: &str, name: &[u8]) -> String {
        let made = MadePasskey { id: name.to_vec(), public: PasskeyPublic::EdDsa(vec![1; 32]), signed: 0 };
        let place = ("laptop".into(), "localhost".into());
        self.operators.add_passkey(&self.now(id), made, place, NOW).unwrap();
        crate::passkey::base64url(name)
    }

    pub(super) fn token(&self, id: &str, name: &str) -> Zeroizing<String> {
        let (role, apps) = (Role::Viewer, Vec::new());
        let token =
            OperatorToken { name: name.into(), role, apps, created_at_ms: NOW, expires_at_ms: NOW + 10_000 };
        self.operators.add_token(&self.now(id), token).unwrap()
    }

    pub(super) fn password(&self, id: &str, hash: &PasswordHash, totp: &TotpSecret) -> Vec<String> {
        self.operators.set_password(&self.now(id), hash, (totp, 0)).unwrap().1
    }
}

/// Two nodes that know alice.
pub(super) fn two() -> (Node, Node, String) {
    let (a, b) = (node(), node());
    let id = a.add("alice", NOW).id;
    a.tell(&b);
    (a, b, id)
}

/// All tell all, in both directions.
pub(super) fn meet(nodes: &[&Node]) {
    for _ in 0..2 {
        for from in nodes {
            nodes.iter().for_each(|to| drop(from.tell(to)));
        }
    }
    let all: Vec<_> = nodes.iter().map(|node| digests(node)).collect();
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "all have the same");
}

fn digests(node: &Node) -> BTreeMap<String, [u8; 32]> {
    node.operators.accounts(NOW).iter().map(|one| (one.id().to_owned(), one.digest())).collect()
}

#[test]
fn keeping_somebody_out_wins_over_what_was_done_elsewhere_meanwhile() {
    let (a, b, id) = two();
    a.disable(&id, true);
    for role in [Role::Viewer, Role::Editor, Role::Owner] {
        b.change(&id, OperatorChange { role: Some(role), ..OperatorChange::default() });
    }
    b.disable(&id, false);
    let token = b.token(&id, "ci");
    meet(&[&a, &b]);
    assert!(b.now(&id).disabled && b.operators.by_token(&token, NOW).is_none());
    assert_eq!(b.now(&id).role, Role::Owner, "the rest of the change is there");
    // Once more at one node, while another lets him in.
    a.disable(&id, true);
    b.disable(&id, false);
    meet(&[&a, &b]);
    assert!(a.now(&id).disabled);
    b.disable(&id, false);
    meet(&[&a, &b]);
    assert!(!a.now(&id).disabled, "who knew of it lets him in");
}

#[test]
fn keeping_out_wins_over_who_kept_out_and_let_in_on_the_other_side_of_a_cut() {
    let (a, b, id) = two();
    a.disable(&id, true);
    for out in [true, false, true, true, false] {
        b.disable(&id, out);
    }
    meet(&[&a, &b]);
    assert!(a.now(&id).disabled && b.now(&id).disabled);
    b.disable(&id, false);
    meet(&[&a, &b]);
    assert!(!a.now(&id).disabled);
}

#[test]
fn a_removal_wins_for_ever_and_a_node_that_was_away_brings_nobody_back() {
    let (a, b, id) = two();
    b.passkey(&id, b"one");
    b.disable(&id, false);
    a.operators.remove(&id, By::Node, NOW).unwrap();
    meet(&[&a, &b]);
    assert!(b.operators.list().is_empty() && b.operators.passkey("b25l", "localhost").is_none());
    assert!(matches!(b.operators.remove(&id, By::Node, NOW), Err(OperatorFault::Unknown)));
    let again = a.add("alice", NOW + 1);
    meet(&[&a, &b]);
    assert_eq!(b.operators.list().len(), 1);
    assert_eq!((b.now(&again.id).name.as_str(), again.id == id), ("alice", false));
}

#[test]
fn a_file_rolled_back_or_an_old_record_gives_nobody_back_what_he_lost() {
    let (a, b, id) = two();
    let hash = PasswordHash::of("correct horse battery").unwrap();
    let totp = TotpSecret::fresh();
    let codes = a.password(&id, &hash, &totp);
    let key = a.passkey(&id, b"one");
    let spare = a.passkey(&id, b"two");
    let token = a.token(&id, "ci");
    meet(&[&a, &b]);
    let (file, records) = (std::fs::read(&b.path).unwrap(), b.operators.accounts(NOW));
    assert!(b.operators.proves(&id, &totp.code(NOW / 30_000), NOW));
    assert!(b.operators.by_password("alice", "correct horse battery", &codes[0], NOW).is_some());
    b.operators.delete_passkey(&b.now(&id), &key).unwrap();
    b.operators.delete_token(&id, "ci").unwrap();
    b.change(&id, OperatorChange { role: Some(Role::Viewer), ..OperatorChange::default() });
    meet(&[&a, &b]);
    let holds = |node: &Node| {
        assert!(!node.operators.proves(&id, &totp.code(NOW / 30_000), NOW), "the code again");
        assert!(node.operators.by_password("alice", "correct horse battery", &codes[0], NOW).is_none());
        assert!(node.operators.passkey(&key, "localhost").is_none());
        assert!(node.operators.passkey(&spare, "localhost").is_some());
        assert!(node.operators.by_token(&token, NOW).is_none());
        assert_eq!(node.now(&id).role, Role::Viewer);
    };
    let told = a.operators.merge(records, NOW);
    assert!(told.changed.is_empty(), "an old record, told again");
    holds(&a);
    crate::private_file::replace(&b.path, &file).unwrap();
    let back = b.restart();
    meet(&[&back, &a]);
    holds(&back);
    holds(&a);
}

#[test]
fn clocks_that_differ_by_days_decide_nothing() {
    const DAY_MS: u64 = 24 * 60 * 60_000;
    let (a, b, id) = two();
    let (old, new) = (
        PasswordHash::of("correct horse battery").unwrap(),
        PasswordHash::of("another horse battery").unwrap(),
    );
    // The node whose clock is ahead adds somebody first, and the one whose clock is behind says later.
    let bob = b.add("bob", NOW + DAY_MS).id;
    let totp = TotpSecret::fresh();
    b.operators.set_password(&b.now(&id), &old, (&totp, 0)).unwrap();
    meet(&[&a, &b]);
    a.operators.set_password(&a.now(&id), &new, (&totp, 0)).unwrap();
    a.disable(&id, true);
    a.operators.remove(&bob, By::Node, NOW - DAY_MS).unwrap();
    meet(&[&a, &b]);
    assert!(b.now(&id).disabled && b.operators.get(&bob).is_none());
    a.disable(&id, false);
    meet(&[&a, &b]);
    let code = totp.code(NOW / 30_000);
    assert!(b.operators.by_password("alice", "correct horse battery", &code, NOW).is_none());
    assert!(b.operators.by_password("alice", "another horse battery", &code, NOW).is_some());
}

#[test]
fn a_reset_takes_what_was_added_elsewhere_meanwhile() {
    let (a, b, id) = two();
    let before = b.now(&id);
    let key = b.passkey(&id, b"thief's");
    let token = b.token(&id, "ci");
    a.operators.reset(&id, By::Node).unwrap();
    let own = a.passkey(&id, b"own");
    meet(&[&a, &b]);
    assert!(b.operators.passkey(&key, "localhost").is_none() && b.operators.by_token(&token, NOW).is_none());
    assert!(b.operators.passkey(&own, "localhost").is_some());
    assert_ne!(b.now(&id).generation, before.generation, "sessions end");
}

#[test]
fn a_session_ends_with_each_change_that_another_node_made_and_lives_on_with_a_use() {
    let totp = TotpSecret::fresh();
    let hash = PasswordHash::of("correct horse battery").unwrap();
    type Step = Box<dyn Fn(&Node, &str)>;
    let steps: [(&str, bool, Step); 8] = [
        ("disabled", true, Box::new(|node, id| node.disable(id, true))),
        (
            "disabled and enabled",
            true,
            Box::new(|node, id| [true, false].iter().for_each(|out| node.disable(id, *out))),
        ),
        (
            "role",
            true,
            Box::new(|node, id| {
                node.change(id, OperatorChange { role: Some(Role::Viewer), ..OperatorChange::default() })
            }),
        ),
        ("reset", true, Box::new(|node, id| node.operators.reset(id, By::Node).unwrap())),
        (
            "passkey deleted",
            true,
            Box::new(|node, id| drop(node.operators.delete_passkey(&node.now(id), "b25l").unwrap())),
        ),
        (
            "password",
            true,
            Box::new({
                let totp = totp.clone();
                move |node, id| drop(node.password(id, &hash, &totp))
            }),
        ),
        (
            "passkey used",
            false,
            Box::new(|node, id| drop(node.operators.passkey_signed(id, "b25l", 1, NOW).unwrap())),
        ),
        ("passkey added", false, Box::new(|node, id| drop(node.passkey(id, b"three")))),
    ];
    for (what, ends, step) in steps {
        let (a, b, id) = two();
        a.passkey(&id, b"one");
        a.passkey(&id, b"two");
        meet(&[&a, &b]);
        let before = b.now(&id).generation;
        step(&a, &id);
        meet(&[&a, &b]);
        assert_eq!(b.now(&id).generation != before, ends, "{what}");
    }
}

#[test]
fn of_two_accounts_of_one_name_the_older_keeps_it_at_every_node() {
    let (a, b) = (node(), node());
    let (older, younger) = (b.add("alice", NOW), a.add("alice", NOW + 1));
    let token = a.token(&younger.id, "ci");
    meet(&[&a, &b]);
    let shown = format!("alice-{}", younger.id.get(..6).unwrap());
    for node in [&a, &b] {
        assert_eq!(node.operators.named("alice").unwrap().id, older.id);
        assert_eq!(node.operators.named(&shown).unwrap().id, younger.id);
        assert_eq!(node.operators.by_token(&token, NOW).unwrap().0.id, younger.id, "his rights are his own");
        let taken = NewOperator {
            name: shown.clone(),
            role: Role::Viewer,
            apps: vec![],
            by: String::new(),
            on: String::new(),
        };
        assert!(matches!(node.operators.add(taken, NOW), Err(OperatorFault::Exists)));
    }
    b.operators.remove(&older.id, By::Node, NOW).unwrap();
    meet(&[&a, &b]);
    assert_eq!(a.operators.named("alice").unwrap().id, younger.id);
}

#[test]
fn an_account_travels_whole_however_much_was_added_apart_and_a_reset_makes_room() {
    let (a, b, id) = two();
    let nodes: Vec<Node> = (0..4).map(|_| node()).collect();
    nodes.iter().for_each(|other| drop(a.tell(other)));
    let mut refused = 0;
    for (n, other) in nodes.iter().enumerate() {
        for place in 0..OPERATOR_TOKENS {
            let token = OperatorToken {
                name: format!("t{n}-{place}"),
                role: Role::Viewer,
                apps: vec!["x".repeat(1_000)],
                created_at_ms: NOW,
                expires_at_ms: NOW + 10_000,
            };
            other.operators.add_token(&other.now(&id), token).unwrap();
        }
        refused += other.tell(&a).refused.len();
    }
    let tokens = a.now(&id).tokens.len();
    assert!(refused > 0 && tokens > OPERATOR_TOKENS, "more together than any may make, and not all");
    a.disable(&id, true);
    assert!(a.tell(&b).refused.is_empty());
    assert_eq!((b.now(&id).disabled, b.now(&id).tokens.len()), (true, tokens), "credentials and all");
    a.operators.reset(&id, By::Node).unwrap();
    assert!(nodes.iter().all(|other| a.tell(other).refused.is_empty() && other.now(&id).tokens.is_empty()));
}

#[test]
fn what_no_node_could_have_written_is_refused() {
    let (a, _, id) = two();
    let account = a.operators.accounts(NOW).remove(0);
    let text = String::from_utf8(account.to_bytes().to_vec()).unwrap();
    assert!(Account::from_bytes(text.as_bytes()).is_ok());
    for (from, to) in [
        (id.as_str(), "../../etc/passwd"),
        ("\"alice\"", "\"\""),
        ("\"alice\"", "\"a b\\u0000\""),
        ("\"alice\"", "\"mallory\""),
        ("\"at_ms\":1800000000000", "\"at_ms\":1"),
        ("\"shut\":{}", "\"shut\":{\"here\":[1,0]}"),
        (
            "\"tokens\":{}",
            "\"tokens\":{\"00\":{\"name\":\"a\",\"role\":\"owner\",\"apps\":[],\"created_at_ms\":0,\"expires_at_ms\":9}}",
        ),
        ("\"gone_passkeys\":[]", "\"gone_passkeys\":[\"xyz\"]"),
    ] {
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text, "{from} is there");
        assert!(Account::from_bytes(forged.as_bytes()).is_err(), "{to}");
    }
    assert!(Account::from_bytes(&vec![b' '; 47 * 1024]).is_err());
}

#[test]
fn accounts_beyond_what_is_kept_are_refused_and_ends_are_not() {
    let (a, b) = (node(), node());
    for n in 0..OPERATORS_MAX {
        a.add(&format!("a{n}"), NOW);
    }
    let theirs = b.add("bob", NOW).id;
    let told = b.tell(&a);
    assert_eq!((told.refused.len(), a.operators.list().len()), (1, OPERATORS_MAX));
    b.operators.remove(&theirs, By::Node, NOW).unwrap();
    assert!(b.tell(&a).refused.is_empty());
}

#[test]
fn what_others_told_is_in_force_even_if_it_cannot_be_written() {
    let (a, b, id) = two();
    a.disable(&id, true);
    let folder = b._folder.path().to_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    let merged = a.tell(&b);
    assert!(merged.unwritten.is_some() && b.now(&id).disabled);
    std::fs::create_dir(&folder).unwrap();
    b.operators.write_again().unwrap();
    assert!(Operators::load(&b.path, Arc::clone(&b.sealer)).unwrap().get(&id).unwrap().disabled);
}

#[test]
fn a_file_of_a_node_that_shared_nothing_is_taken_over() {
    let hash = serde_json::to_value(PasswordHash::of("correct horse battery").unwrap()).unwrap();
    let totp = TotpSecret::fresh();
    let zeros = vec![0; 32];
    let one = serde_json::json!({"version": 1, "operators": [{
        "operator": {
            "id": "0".repeat(32), "name": "alice", "role": "owner", "apps": ["shop"], "created_at_ms": 5,
            "created_by": "local socket", "disabled": false, "generation": 3,
            "passkeys": [{"id": "b25l", "label": "l", "host": "localhost", "created_at_ms": 6, "used_at_ms": 7}],
            "tokens": [{"name": "ci", "role": "viewer", "apps": [], "created_at_ms": 8, "expires_at_ms": 9}],
        },
        "password": [hash, totp], "totp_step": 4, "recovery": [zeros],
        "keys": [[{"ed_dsa": zeros}, 2]], "token_hashes": [zeros],
    }]});
    let (a, b) = (node(), node());
    let plain = serde_json::to_vec(&one).unwrap();
    crate::private_file::replace(&a.path, &a.sealer.seal("operators 1", &plain).unwrap()).unwrap();
    let read = Operators::load(&a.path, Arc::clone(&a.sealer)).unwrap();
    let alice = read.named("alice").unwrap();
    assert_eq!((alice.role, alice.apps.len(), alice.passkeys[0].used_at_ms), (Role::Owner, 1, 7));
    assert_eq!((alice.tokens[0].name.as_str(), alice.recovery_codes, alice.password), ("ci", 1, true));
    assert_eq!(read.passkey("b25l", "localhost").unwrap().signed, 2);
    let code = totp.code(NOW / 30_000);
    assert!(read.by_password("alice", "correct horse battery", &code, NOW).is_some());
    b.operators.merge(read.accounts(0), NOW);
    assert_eq!(b.operators.named("alice").unwrap().apps, ["shop"]);
    let again = Operators::load(&a.path, Arc::clone(&a.sealer)).unwrap();
    assert_eq!(again.list(), read.list(), "written anew when the code was spent");
}

#[test]
fn of_one_password_with_two_apps_neither_counts() {
    let (a, b, id) = two();
    let hash = PasswordHash::of_nobody();
    [&a, &b].iter().for_each(|at| drop(at.password(&id, &hash, &TotpSecret::fresh())));
    meet(&[&a, &b]);
    assert!(!a.now(&id).password && !b.now(&id).password);
}

#[test]
fn who_says_one_thing_of_somebody_confirms_nothing_else() {
    let (a, _, id) = two();
    let change = |change: OperatorChange| {
        let mut account = a.operators.accounts(NOW).remove(0);
        (account.role_lost, account.apps_lost) = (true, true);
        account.change(change.role, change.apps, change.disabled, "");
        (account.role_lost, account.apps_lost)
    };
    let none = OperatorChange::default();
    assert_eq!(change(OperatorChange { role: Some(Role::Viewer), ..none.clone() }), (false, true));
    assert_eq!(change(OperatorChange { apps: Some(Vec::new()), ..none.clone() }), (true, false));
    assert_eq!(change(OperatorChange { disabled: Some(true), ..none.clone() }), (true, true));
    assert_eq!(change(OperatorChange { disabled: Some(false), ..none }), (false, false));
    assert!(a.operators.get(&id).is_some());
}

/// What is done at one of three nodes, or which two meet.
#[derive(Debug, Clone, Copy)]
enum Op {
    Role(usize, Role),
    Apps(usize, usize),
    Shut(usize, bool),
    Reset(usize),
    Remove(usize),
    Passkey(usize, u8),
    EndPasskey(usize, u8),
    Used(usize, u8),
    Password(usize),
    Code(usize),
    Tell(usize, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let roles = prop_oneof![Just(Role::Viewer), Just(Role::Editor), Just(Role::Owner)];
    let op = prop_oneof![
        (0..3usize, roles).prop_map(|(at, role)| Op::Role(at, role)),
        (0..3usize, 0..3usize).prop_map(|(at, apps)| Op::Apps(at, apps)),
        (0..3usize, any::<bool>()).prop_map(|(at, out)| Op::Shut(at, out)),
        (0..3usize).prop_map(Op::Reset),
        (0..12usize).prop_map(|at| if at < 3 { Op::Remove(at) } else { Op::Tell(at % 3, (at + 1) % 3) }),
        (0..3usize, 0..4u8).prop_map(|(at, key)| Op::Passkey(at, key)),
        (0..3usize, 0..4u8).prop_map(|(at, key)| Op::EndPasskey(at, key)),
        (0..3usize, 0..4u8).prop_map(|(at, key)| Op::Used(at, key)),
        (0..3usize).prop_map(Op::Password),
        (0..3usize).prop_map(Op::Code),
        (0..3usize, 0..3usize).prop_map(|(from, to)| Op::Tell(from, to)),
    ];
    proptest::collection::vec(op, 1..24)
}

fn shut_ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..3usize, any::<bool>()).prop_map(|(at, out)| Op::Shut(at, out)),
        (0..3usize, 0..3usize).prop_map(|(from, to)| Op::Tell(from, to)),
    ];
    proptest::collection::vec(op, 1..32)
}

fn apply(nodes: &mut [BTreeMap<String, Account>], op: Op, seq: u64) {
    let key = |key: u8| format!("key{key}");
    let at = match op {
        Op::Tell(from, to) => {
            for account in nodes[from].clone().into_values() {
                take(&mut nodes[to], account, &Distrust::default(), NOW).unwrap();
            }
            return;
        }
        Op::Role(at, _) | Op::Apps(at, _) | Op::Shut(at, _) | Op::Reset(at) | Op::Remove(at) => at,
        Op::Passkey(at, _) | Op::EndPasskey(at, _) | Op::Used(at, _) | Op::Password(at) | Op::Code(at) => at,
    };
    let Ok(account) = find(&mut nodes[at], ID) else { return };
    let credentials = &mut account.credentials;
    match op {
        Op::Role(_, role) => account.role = (account.role.0 + 1, role),
        Op::Apps(_, n) => account.apps = (account.apps.0 + 1, (0..n).map(|n| n.to_string()).collect()),
        Op::Shut(at, out) => account.change(None, None, Some(out), &brief(&at.to_string())),
        Op::Reset(_) => account.reset(),
        Op::Remove(_) => account.remove(seq),
        Op::Passkey(_, n) => {
            let public = PasskeyPublic::EdDsa(vec![n; 32]);
            let made = Key {
                created_at_ms: seq,
                label: at.to_string(),
                host: String::new(),
                public,
                signed: 0,
                used_at_ms: 0,
            };
            let _ = credentials.add_passkey(key(n), made);
        }
        Op::EndPasskey(_, n) => drop(credentials.end_passkey(&key(n), true)),
        Op::Used(_, n) => {
            credentials.passkeys.get_mut(&key(n)).into_iter().for_each(|key| key.signed += 1);
        }
        Op::Password(_) => account.set_password(Password {
            hash: PasswordHash::of_nobody(),
            totp: TotpSecret::fresh(),
            step: 0,
            recovery: (0..3).map(|n| recovery_hash(&format!("{seq}{n}"))).collect(),
            heeds: (0..at).map(|n| brief(&n.to_string())).collect(),
        }),
        Op::Code(_) => {
            if let Some(password) = &mut credentials.password.1 {
                password.step += 1;
                password.recovery.pop_first();
            }
        }
        Op::Tell(..) => {}
    }
}

proptest! {
    #[test]
    fn merging_commutes_associates_and_repeats(ops in ops(), born in [1..3u64, 1..3u64, 1..3u64]) {
        let mut nodes = vec![start(); 3];
        for (node, at_ms) in nodes.iter_mut().zip(born) {
            node.values_mut().for_each(|account| account.born.at_ms = at_ms);
        }
        for (seq, op) in ops.into_iter().enumerate() {
            apply(&mut nodes, op, u64::try_from(seq).unwrap());
        }
        let [a, b, c] = [0, 1, 2].map(|n: usize| nodes[n][ID].clone());
        let merged = |one: &Account, other: &Account| {
            let mut both = one.clone();
            both.merge(other);
            both
        };
        prop_assert_eq!(merged(&a, &b).digest(), merged(&b, &a).digest());
        prop_assert_eq!(merged(&merged(&a, &b), &c).digest(), merged(&a, &merged(&b, &c)).digest());
        prop_assert_eq!(merged(&a, &a).digest(), a.digest());
        prop_assert_eq!(merged(&merged(&a, &b), &b).digest(), merged(&a, &b).digest());
        let all = merged(&merged(&a, &b), &c);
        prop_assert_eq!(Account::from_bytes(&all.to_bytes()).unwrap().digest(), all.digest());
        let removed = [&a, &b, &c].iter().any(|one| one.removed);
        prop_assert_eq!(all.removed, removed);
    }

    /// Somebody is in if each keeping out was answered by somebody who knew of it, and in no other case.
    #[test]
    fn only_who_knew_that_somebody_was_kept_out_lets_him_in(ops in shut_ops()) {
        let mut nodes = [(); 3].map(|()| (Shut::default(), BTreeSet::new(), BTreeSet::new()));
        for (seq, op) in ops.into_iter().enumerate() {
            match op {
                Op::Shut(at, true) => {
                    nodes[at].0.shut(&at.to_string());
                    nodes[at].1.insert(seq);
                }
                Op::Shut(at, false) => {
                    nodes[at].0.open();
                    let known = nodes[at].1.clone();
                    nodes[at].2.extend(known);
                }
                Op::Tell(from, to) => {
                    let (shut, out, answered) = nodes[from].clone();
                    nodes[to].0.merge(&shut);
                    nodes[to].1.extend(out);
                    nodes[to].2.extend(answered);
                }
                _ => {}
            }
            for (shut, out, answered) in &nodes {
                prop_assert_eq!(shut.is_out(), !out.is_subset(answered));
            }
        }
        let [a, b, c] = nodes.map(|(shut, ..)| shut);
        let merged = |one: &Shut, other: &Shut| {
            let mut both = one.clone();
            both.merge(other);
            both
        };
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&c, &b)));
    }

    #[test]
    fn any_bytes_are_an_account_or_none(bytes: Vec<u8>) {
        let _ = Account::from_bytes(&bytes);
    }
}

/// One account, as every node has it at first.
fn start() -> BTreeMap<String, Account> {
    let born = Born {
        at_ms: 1,
        name: "alice".into(),
        by: String::new(),
        on: String::new(),
        salt: String::new(),
        subject: String::new(),
    };
    [(ID.to_owned(), Account::new(ID.into(), born, Role::Owner, Vec::new()))].into()
}

const ID: &str = "00112233445566778899aabbccddeeff";
const OPERATOR_TOKENS: usize = phalanx_model::limits::OPERATOR_TOKENS_MAX;
