//! What another control node tells of an operator's account: read whole or not at all, told again as it was, and merged alike from both sides.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use phalanx_trust::operators::Account;
use phalanx_trust::{Operators, RevokedNode, Sealer};

/// A file that cannot be written: what was told is in force without.
static NOWHERE: LazyLock<std::path::PathBuf> = LazyLock::new(|| "/proc/none/operators.sealed".into());
static SEALER: LazyLock<Arc<Sealer>> =
    LazyLock::new(|| Arc::new(Sealer::ephemeral().expect("there is entropy")));

const NOW_MS: u64 = 1_800_000_000_000;

/// The accounts of a node that was told these in this order, by two others.
fn told(accounts: &[Account]) -> Operators {
    let operators = Operators::load(&NOWHERE, Arc::clone(&SEALER)).expect("there is no file");
    for (n, account) in accounts.iter().enumerate() {
        let account = account.clone().told_by(["fra/a", "fra/b"][n % 2], "a key");
        operators.merge(vec![account], NOW_MS);
    }
    operators
}

fn digests(operators: &Operators) -> Vec<[u8; 32]> {
    operators.accounts(NOW_MS).iter().map(Account::digest).collect()
}

fuzz_target!(|data: &[u8]| {
    let parts = data.split(|byte| *byte == b'\n').take(3);
    let read: Vec<Account> = parts.filter_map(|part| Account::from_bytes(part).ok()).collect();
    for account in &read {
        let again = Account::from_bytes(&account.to_bytes()).expect("what is told can be read");
        assert_eq!(Account::from_bytes(&again.to_bytes()).map(|one| one.digest()), Ok(again.digest()));
    }
    let operators = told(&read);
    // Told again, it is no news.
    let again = read.iter().map(|account| account.clone().told_by("fra/b", "a key")).collect();
    assert!(read.len() != 1 || operators.merge(again, NOW_MS).changed.is_empty());
    let gone = |node: &str| {
        let (successors, control, lapsing) = (Vec::new(), true, false);
        RevokedNode { node: node.into(), up_to_ms: 1, successors, control, lapsing }
    };
    operators.heed(&[gone("fra/a"), gone("fra/b")]);
    let before = digests(&operators);
    let heeded = operators.heed(&[gone("fra/a"), gone("fra/b")]);
    assert!(heeded.passwords.is_empty() && heeded.others.is_empty() && digests(&operators) == before);
    for operator in operators.list() {
        assert!(!operator.is_enrolled() && operator.tokens.is_empty() && operator.disabled);
    }
});
