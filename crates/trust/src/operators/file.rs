//! The file of accounts: sealed, replaced whole, and read in the form of before as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::account::{Account, Born, Credentials, Key, Password, hex};
use super::{OperatorFault, OperatorToken, Role};
use crate::passkey::PasskeyPublic;
use crate::{PasswordHash, Sealer, TotpSecret, TrustError, private_file};

/// Reads the accounts; without a file there are none.
pub(super) fn read(path: &Path, sealer: &Sealer) -> Result<BTreeMap<String, Account>, TrustError> {
    let Some(sealed) = private_file::read(path, FILE_BYTES_MAX)? else { return Ok(BTreeMap::new()) };
    let plain = Zeroizing::new(sealer.open(CONTEXT, &sealed)?);
    let fix = "restore it from a backup, or remove it and add the operators anew";
    let unreadable =
        |error: serde_json::Error| TrustError::file(path, format!("cannot be understood: {error}"), fix);
    let Version { version } = serde_json::from_slice(&plain).map_err(unreadable)?;
    let accounts: Vec<Account> = match version {
        1 => {
            let file: FileOne = serde_json::from_slice(&plain).map_err(unreadable)?;
            file.operators.into_iter().map(Account::from).collect()
        }
        2 | VERSION => serde_json::from_slice::<File>(&plain).map_err(unreadable)?.accounts,
        _ => return Err(TrustError::file(path, "has an unknown version", fix)),
    };
    Ok(accounts.into_iter().map(|account| (account.id.clone(), account)).collect())
}

/// Writes them.
pub(super) fn write(
    path: &Path,
    sealer: &Sealer,
    accounts: &BTreeMap<String, Account>,
) -> Result<(), OperatorFault> {
    let file = Written { version: VERSION, accounts: accounts.values().collect() };
    let plain = serde_json::to_vec(&file).map_err(|_| TrustError::Crypto("writing operators"))?;
    let sealed = sealer.seal(CONTEXT, &Zeroizing::new(plain))?;
    // What could not be read again must not be written: the node would not start.
    if sealed.len() > FILE_BYTES_MAX {
        return Err(OperatorFault::TooMany);
    }
    Ok(private_file::replace(path, &sealed)?)
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct File {
    accounts: Vec<Account>,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    accounts: Vec<&'a Account>,
}

/// The file of nodes that shared no accounts.
#[derive(Deserialize)]
struct FileOne {
    operators: Vec<KeptOne>,
}

/// One operator of such a file. Keys and hashes stand in the order of the facts about them.
#[derive(Deserialize)]
struct KeptOne {
    operator: OperatorOne,
    password: Option<(PasswordHash, TotpSecret)>,
    totp_step: u64,
    recovery: Vec<[u8; 32]>,
    keys: Vec<(PasskeyPublic, u32)>,
    token_hashes: Vec<[u8; 32]>,
}

#[derive(Deserialize)]
struct OperatorOne {
    id: String,
    name: String,
    role: Role,
    apps: Vec<String>,
    created_at_ms: u64,
    created_by: String,
    disabled: bool,
    #[serde(default)]
    generation: u64,
    passkeys: Vec<super::Passkey>,
    tokens: Vec<OperatorToken>,
}

/// The same of the same file at every node: copies of one file are one account.
impl From<KeptOne> for Account {
    fn from(kept: KeptOne) -> Self {
        let KeptOne { operator, password, totp_step, recovery, keys, token_hashes } = kept;
        let recovery: BTreeSet<String> = recovery.iter().map(|hash| hex(hash)).collect();
        let password = password.map(|(hash, totp)| Password {
            hash,
            totp,
            step: totp_step,
            recovery,
            heeds: BTreeSet::new(),
        });
        let passkeys = operator.passkeys.into_iter().zip(keys).map(|(facts, (public, signed))| {
            let super::Passkey { id, label, host, created_at_ms, used_at_ms } = facts;
            (id, Key { created_at_ms, label, host, public, signed, used_at_ms })
        });
        let tokens = token_hashes.iter().map(|hash| hex(hash)).zip(operator.tokens);
        let credentials = Credentials {
            password: (u64::from(password.is_some()), password),
            passkeys: passkeys.collect(),
            tokens: tokens.collect(),
            ..Credentials::default()
        };
        let born = Born {
            at_ms: operator.created_at_ms,
            name: operator.name,
            by: operator.created_by,
            on: String::new(),
            salt: String::new(),
            subject: String::new(),
        };
        let mut account = Self::new(operator.id, born, operator.role, operator.apps);
        account.role.0 = operator.generation;
        if operator.disabled {
            account.shut.shut("");
        }
        account.credentials = credentials;
        account
    }
}

const CONTEXT: &str = "operators 1";
/// 2 did not have everything by whose word it came.
const VERSION: u32 = 3;
/// All accounts and ends that are taken from others, each as large as it may be, are less; what would be more is refused.
pub(super) const FILE_BYTES_MAX: usize = 48 * 1024 * 1024;
