//! Accounts: what opens them, how often, and what is left on disk.

use super::*;

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
    let new =
        NewOperator { name: "alice".into(), role: Role::Owner, apps: Vec::new(), by: "local socket".into() };
    store.operators.add(new, NOW).unwrap().id
}

/// Alice with a password: her id, her app and her recovery codes.
fn enrolled(store: &Store) -> (String, TotpSecret, Vec<String>) {
    let id = alice(store);
    let totp = TotpSecret::fresh();
    let hash = PasswordHash::of(PASSWORD).unwrap();
    let codes = store.operators.set_password(&id, &hash, (&totp, 0)).unwrap();
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
    assert_eq!(try_in("alice", PASSWORD, &code).as_deref(), Some(id.as_str()));
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
    let token = OperatorToken {
        name: "ci".into(),
        role: Role::Viewer,
        apps: Vec::new(),
        created_at_ms: NOW,
        expires_at_ms: NOW + 10,
    };
    let text = store.operators.add_token(&id, token).unwrap();
    assert!(store.operators.by_token(&text, NOW + 9).is_some());
    assert!(store.operators.by_token(&text, NOW + 10).is_none(), "expired");
    let disable = |disabled| OperatorChange { disabled: Some(disabled), ..OperatorChange::default() };
    store.operators.change(&id, disable(true)).unwrap();
    assert!(store.operators.by_token(&text, NOW).is_none());
    assert!(store.operators.by_password("alice", PASSWORD, &code(0), NOW).is_none());
    store.operators.change(&id, disable(false)).unwrap();
    assert!(store.operators.by_password("alice", PASSWORD, &code(0), NOW).is_some());
    store.operators.reset(&id).unwrap();
    let after = store.operators.get(&id).unwrap();
    assert!(!after.is_enrolled() && after.tokens.is_empty() && after.role == Role::Owner);
    assert!(store.operators.by_token(&text, NOW).is_none());
    assert!(store.operators.by_password("alice", PASSWORD, &code(1), NOW).is_none());
    store.operators.remove(&id).unwrap();
    assert!(matches!(store.operators.remove(&id), Err(OperatorFault::Unknown)));
}

#[test]
fn accounts_outlive_a_restart_and_the_file_tells_nothing() {
    let store = store();
    let (id, totp, _) = enrolled(&store);
    let made = MadePasskey { id: b"key".to_vec(), public: PasskeyPublic::EdDsa(vec![1; 32]), signed: 3 };
    store.operators.add_passkey(&id, made.clone(), ("laptop".into(), "localhost".into()), NOW).unwrap();
    let again = store.operators.add_passkey(&id, made, ("laptop".into(), "localhost".into()), NOW);
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
        let added = store.operators.add_passkey(&id, made, (String::new(), "localhost".into()), NOW);
        assert_eq!(matches!(added, Err(OperatorFault::TooMany)), n == PASSKEYS_MAX);
    }
    let keys = store.operators.get(&id).unwrap().passkeys;
    for (n, key) in keys.iter().enumerate() {
        let deleted = store.operators.delete_passkey(&id, &key.id);
        assert_eq!(matches!(deleted, Err(OperatorFault::Last)), n == PASSKEYS_MAX - 1);
    }
    for n in 1..OPERATORS_MAX {
        let new =
            NewOperator { name: format!("o{n}"), role: Role::Viewer, apps: Vec::new(), by: String::new() };
        store.operators.add(new, NOW).unwrap();
    }
    let new = NewOperator { name: "more".into(), role: Role::Viewer, apps: Vec::new(), by: String::new() };
    assert!(matches!(store.operators.add(new, NOW), Err(OperatorFault::TooMany)));
}
