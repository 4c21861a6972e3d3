//! Accounts: what opens them, how often, and what is left on disk.

use phalanx_model::limits::PASSKEYS_MAX;

use super::*;
use crate::passkey::PasskeyPublic;

const NOW: u64 = 1_800_000_000_000;
const PASSWORD: &str = "correct horse battery";

struct Store {
    operators: Operators,
    path: PathBuf,
    sealer: Arc<Sealer>,
    _folder: tempfile::TempDir,
}

fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operators.sealed");
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let operators = Operators::load(&path, Arc::clone(&sealer)).unwrap();
    Store { operators, path, sealer, _folder: folder }
}

fn alice(store: &Store) -> String {
    store.operators.add(new("alice", Role::Owner), NOW).unwrap().id
}

fn new(name: &str, role: Role) -> NewOperator {
    NewOperator { name: name.into(), role, apps: Vec::new(), by: "local socket".into(), on: "fra/a".into() }
}

/// The account as it is now.
fn now(store: &Store, id: &str) -> Operator {
    store.operators.get(id).unwrap()
}

fn token(name: &str) -> OperatorToken {
    let (role, apps) = (Role::Viewer, Vec::new());
    OperatorToken { name: name.into(), role, apps, created_at_ms: NOW, expires_at_ms: NOW + 10 }
}

/// Alice with a password: her id, her app and her recovery codes.
fn enrolled(store: &Store) -> (String, TotpSecret, Vec<String>) {
    let id = alice(store);
    let totp = TotpSecret::fresh();
    let hash = PasswordHash::of(PASSWORD).unwrap();
    let (_, codes) = store.operators.set_password(&now(store, &id), &hash, (&totp, 0)).unwrap();
    (id, totp, codes)
}

#[test]
fn a_password_opens_nothing_without_a_code_that_counts_once() {
    let store = store();
    let (id, totp, codes) = enrolled(&store);
    let code = totp.code(NOW / 30_000);
    let try_in =
        |name: &str, password: &str, code: &str| store.operators.by_password(name, password, code, NOW);
    for (name, password, code) in [
        ("alice", PASSWORD, ""),
        ("alice", PASSWORD, "000000x"),
        ("alice", "wrong horse battery", code.as_str()),
        ("bob", PASSWORD, code.as_str()),
        ("", "", ""),
    ] {
        assert_eq!(try_in(name, password, code), None, "{name} {password} {code}");
    }
    assert_eq!(try_in("alice", PASSWORD, &code).unwrap().id, id);
    assert_eq!(try_in("alice", PASSWORD, &code), None, "the code again");
    let recovery = codes.first().unwrap();
    assert!(try_in("alice", PASSWORD, &recovery.to_uppercase().replace('-', " ")).is_some());
    assert_eq!(try_in("alice", PASSWORD, recovery), None, "the recovery code again");
    assert_eq!(store.operators.get(&id).unwrap().recovery_codes, 9);
}

#[test]
fn who_is_disabled_reset_or_removed_gets_in_no_more() {
    let store = store();
    let (id, totp, _) = enrolled(&store);
    let code = |step: u64| totp.code(NOW / 30_000 + step);
    let text = store.operators.add_token(&now(&store, &id), token("ci")).unwrap();
    assert!(store.operators.by_token(&text, NOW + 9).is_some());
    assert!(store.operators.by_token(&text, NOW + 10).is_none(), "expired");
    let disable = |disabled| OperatorChange { disabled: Some(disabled), ..OperatorChange::default() };
    store.operators.change(&id, disable(true), By::Node).unwrap();
    assert!(store.operators.by_token(&text, NOW).is_none());
    assert!(store.operators.by_password("alice", PASSWORD, &code(0), NOW).is_none());
    store.operators.change(&id, disable(false), By::Node).unwrap();
    assert!(store.operators.by_password("alice", PASSWORD, &code(0), NOW).is_some());
    store.operators.reset(&id, By::Node).unwrap();
    let after = store.operators.get(&id).unwrap();
    assert!(!after.is_enrolled() && after.tokens.is_empty() && after.role == Role::Owner);
    assert!(store.operators.by_token(&text, NOW).is_none());
    assert!(store.operators.by_password("alice", PASSWORD, &code(1), NOW).is_none());
    store.operators.remove(&id, By::Node, NOW).unwrap();
    assert!(matches!(store.operators.remove(&id, By::Node, NOW), Err(OperatorFault::Unknown)));
}

#[test]
fn accounts_outlive_a_restart_and_the_file_tells_nothing() {
    let store = store();
    let (id, totp, _) = enrolled(&store);
    let made = MadePasskey { id: b"key".to_vec(), public: PasskeyPublic::EdDsa(vec![1; 32]), signed: 3 };
    store
        .operators
        .add_passkey(&now(&store, &id), made.clone(), ("laptop".into(), "localhost".into()), NOW)
        .unwrap();
    let again =
        store.operators.add_passkey(&now(&store, &id), made, ("laptop".into(), "localhost".into()), NOW);
    assert!(matches!(again, Err(OperatorFault::Exists)));
    let bytes = std::fs::read(&store.path).unwrap();
    for secret in ["alice", totp.base32().as_str(), "laptop"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let read = Operators::load(&store.path, Arc::clone(&store.sealer)).unwrap();
    assert_eq!(read.list(), store.operators.list());
    let key = read.passkey("a2V5", "localhost").unwrap();
    assert_eq!((&*key.operator, key.signed), (id.as_str(), 3));
    assert!(read.passkey("a2V5", "waf.example").is_none(), "a key is for its host");
    read.passkey_signed(&id, "a2V5", 4, NOW).unwrap();
    assert_eq!(read.passkey("a2V5", "localhost").unwrap().signed, 4);
    assert!(read.passkey_signed(&id, "a2V5", 4, NOW).is_err(), "two signatures looked at together");
    assert!(read.proves(&id, &totp.code(NOW / 30_000), NOW));
    assert!(!read.proves(&id, &totp.code(NOW / 30_000), NOW));
    let other = Arc::new(Sealer::ephemeral().unwrap());
    assert!(Operators::load(&store.path, other).is_err());
}

#[test]
fn the_last_credential_stays_and_the_number_of_all_is_limited() {
    let store = store();
    let id = alice(&store);
    for n in 0..=PASSKEYS_MAX {
        let made = MadePasskey {
            id: vec![u8::try_from(n).unwrap()],
            public: PasskeyPublic::EdDsa(vec![0; 32]),
            signed: 0,
        };
        let added =
            store.operators.add_passkey(&now(&store, &id), made, (String::new(), "localhost".into()), NOW);
        assert_eq!(matches!(added, Err(OperatorFault::TooMany)), n == PASSKEYS_MAX);
    }
    let keys = store.operators.get(&id).unwrap().passkeys;
    for (n, key) in keys.iter().enumerate() {
        let deleted = store.operators.delete_passkey(&now(&store, &id), &key.id);
        assert_eq!(matches!(deleted, Err(OperatorFault::Last)), n == PASSKEYS_MAX - 1);
    }
    for n in 1..OPERATORS_MAX {
        store.operators.add(new(&format!("o{n}"), Role::Viewer), NOW).unwrap();
    }
    assert!(matches!(store.operators.add(new("more", Role::Viewer), NOW), Err(OperatorFault::TooMany)));
}

#[test]
fn what_an_account_began_before_it_was_changed_gives_it_no_credential_after() {
    let hash = PasswordHash::of(PASSWORD).unwrap();
    let to = |role, disabled| OperatorChange { role, disabled, apps: None };
    for what in ["nothing", "reset", "role", "disabled", "disabled and enabled"] {
        let store = store();
        let (id, totp, _) = enrolled(&store);
        let made =
            |id: &[u8]| MadePasskey { id: id.into(), public: PasskeyPublic::EdDsa(vec![1; 32]), signed: 0 };
        let place = || ("laptop".into(), "localhost".into());
        store.operators.add_passkey(&now(&store, &id), made(b"old"), place(), NOW).unwrap();
        let before = now(&store, &id);
        let change = |change| store.operators.change(&id, change, By::Node).unwrap();
        match what {
            "reset" => store.operators.reset(&id, By::Node).unwrap(),
            "role" => change(to(Some(Role::Viewer), None)),
            "disabled" => change(to(None, Some(true))),
            "disabled and enabled" => [true, false].into_iter().for_each(|d| change(to(None, Some(d)))),
            _ => {}
        }
        let done = [
            store.operators.add_passkey(&before, made(b"key"), place(), NOW).map(drop),
            store.operators.add_token(&before, token("ci")).map(drop),
            store.operators.set_password(&before, &hash, (&totp, 0)).map(drop),
            store
                .operators
                .delete_passkey(&if what == "nothing" { now(&store, &id) } else { before }, "b2xk")
                .map(drop),
        ];
        for done in done {
            match (what, done) {
                ("nothing", Ok(())) => {}
                (_, Err(OperatorFault::Changed)) if what != "nothing" => {}
                (_, done) => panic!("{what}: {done:?}"),
            }
        }
    }
}

#[test]
fn accounts_that_could_not_be_read_again_are_not_written() {
    let store = store();
    let id = alice(&store);
    let before = store.operators.list();
    let apps = Some(vec!["x".repeat(file::FILE_BYTES_MAX)]);
    let grown =
        store.operators.change(&id, OperatorChange { apps, ..OperatorChange::default() }, By::Operator);
    assert!(matches!(grown, Err(OperatorFault::TooMany)), "{grown:?}");
    assert_eq!(store.operators.list(), before);
    assert_eq!(Operators::load(&store.path, Arc::clone(&store.sealer)).unwrap().list(), before);
}

#[test]
fn an_operator_leaves_an_owner_who_can_get_in_and_the_node_need_not() {
    let store = store();
    let (id, ..) = enrolled(&store);
    let bob = store.operators.add(new("bob", Role::Owner), NOW).unwrap();
    let role = OperatorChange { role: Some(Role::Editor), ..OperatorChange::default() };
    let apps = OperatorChange { apps: Some(vec!["shop".into()]), ..OperatorChange::default() };
    let disabled = OperatorChange { disabled: Some(true), ..OperatorChange::default() };
    let take = |by: By| {
        let change = |change: &OperatorChange| store.operators.change(&id, change.clone(), by);
        [change(&role), change(&apps), change(&disabled), store.operators.reset(&id, by)]
    };
    for refused in take(By::Operator) {
        assert!(matches!(refused, Err(OperatorFault::LastOwner)), "bob has no credential: {refused:?}");
    }
    assert!(matches!(store.operators.remove(&id, By::Operator, NOW), Err(OperatorFault::LastOwner)));
    let hash = PasswordHash::of(PASSWORD).unwrap();
    store.operators.set_password(&bob, &hash, (&TotpSecret::fresh(), 0)).unwrap();
    store.operators.remove(&id, By::Operator, NOW).unwrap();
    store.operators.remove(&bob.id, By::Node, NOW).unwrap();
    assert!(store.operators.list().is_empty());
}

#[test]
fn who_asks_waits_for_no_disk() {
    let store = store();
    let (id, ..) = enrolled(&store);
    let text = store.operators.add_token(&now(&store, &id), token("ci")).unwrap();
    // As if a change were being written for as long as this test takes.
    let _turn = store.operators.turn();
    assert!(store.operators.get(&id).is_some() && store.operators.named("alice").is_some());
    assert!(store.operators.by_token(&text, NOW).is_some() && store.operators.passkey("none", "").is_none());
    assert_eq!(store.operators.list().len(), store.operators.accounts(NOW).len());
}
