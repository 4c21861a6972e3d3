//! Operators: who may act on a node, in what role, and how each proves who he is.
//!
//! One sealed file that each change replaces whole. What leaves this module as [`Operator`] holds no secret; what leaves it as [`Account`]
//! is all of one, for other control nodes: each has all accounts, and merges what the others tell.
//!
//! INVARIANT: nothing here says yes to a password alone, and no one-time code, recovery code or signature counts twice at one node.

mod account;
mod file;
mod provided;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_model::limits::OPERATORS_MAX;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use self::account::Account;
use self::account::{Born, Key, Password, hex, recovery_hash};
pub use self::provided::Provided;
use crate::passkey::{MadePasskey, PasskeyPublic, counts_on};
use crate::{PasswordHash, Sealer, TotpSecret, TrustError, random_bytes, sha256};

/// What an operator may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Order and undo decisions, answer incidents.
    Responder,
    /// Change policy and who reads decisions.
    Editor,
    /// Change operators, keys and nodes.
    Owner,
}

/// An operator without his secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Random, for ever his.
    pub id: String,
    /// His name.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The only apps that he may see and act on; all if there is none.
    pub apps: Vec<String>,
    /// When he was added, in Unix milliseconds.
    pub created_at_ms: u64,
    /// By whom.
    pub created_by: String,
    /// He gets in no more.
    pub disabled: bool,
    /// The node on which he was added, as `SITE/NODE`; empty if that was before nodes said so.
    #[serde(default)]
    pub made_on: String,
    /// Another with each change of what he may do, each loss of a credential and each new password: what was begun before is not ended
    /// after, and a session of before ends.
    #[serde(default)]
    pub generation: u64,
    /// His passkeys.
    pub passkeys: Vec<Passkey>,
    /// Tokens that act for him.
    pub tokens: Vec<OperatorToken>,
    /// Whether he has a password and an app for one-time codes.
    #[serde(default)]
    pub password: bool,
    /// Recovery codes that he has left.
    #[serde(default)]
    pub recovery_codes: usize,
}

impl Operator {
    /// Whether he can get in by himself, without a provider.
    pub fn is_enrolled(&self) -> bool {
        self.provider().is_none() && (self.password || !self.passkeys.is_empty())
    }
}

/// A passkey without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// The authenticator's name for it, in base64url.
    pub id: String,
    /// What its owner calls it.
    pub label: String,
    /// The host that it is for.
    pub host: String,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it last signed, in Unix milliseconds; 0 if never.
    pub used_at_ms: u64,
}

/// A token without the token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperatorToken {
    /// Its name among its owner's.
    pub name: String,
    /// What it may do at most; never more than its owner.
    pub role: Role,
    /// The only apps that it may act on; all of its owner's if there is none.
    pub apps: Vec<String>,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// Somebody to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperator {
    /// His name.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The only apps that he may see and act on; all if there is none.
    pub apps: Vec<String>,
    /// Who adds him.
    pub by: String,
    /// On which node, as `SITE/NODE`.
    pub on: String,
}

/// What to change about an operator; nothing stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperatorChange {
    /// What he may do.
    pub role: Option<Role>,
    /// The only apps that he may see and act on.
    pub apps: Option<Vec<String>>,
    /// Whether he is kept out.
    pub disabled: Option<bool>,
}

/// Who changes an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Whoever has the node. He gets in without any owner.
    Node,
    /// An operator. He must leave an owner who can get in.
    Operator,
}

/// A passkey that a browser signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedPasskey {
    /// Whose it is.
    pub operator: Arc<str>,
    /// The key.
    pub public: PasskeyPublic,
    /// How often it had signed.
    pub signed: u32,
}

/// Why a change was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum OperatorFault {
    /// There is one of that name.
    #[error("there is one of that name already")]
    Exists,
    /// There is none.
    #[error("there is none of that name")]
    Unknown,
    /// There are as many as there may be.
    #[error("there are as many as are kept")]
    TooMany,
    /// He would be left without any credential.
    #[error("this is the last one; add another first")]
    Last,
    /// Nobody would be left who may change operators.
    #[error("this is the last owner who can get in; make another first, or do it on the node")]
    LastOwner,
    /// The account is not what it was when its owner was asked who he is.
    #[error("the account was changed meanwhile; log in again")]
    Changed,
    /// He was removed, or is kept out.
    #[error("the account was removed, or is kept out")]
    Shut,
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] TrustError),
}

/// What became of accounts that another node told.
#[derive(Debug, Default)]
pub struct Merged {
    /// Those that are now what they were not, without their secrets.
    pub changed: Vec<Operator>,
    /// Why some, or parts of some, were not taken.
    pub refused: Vec<&'static str>,
    /// Why they are in force and not on disk.
    pub unwritten: Option<OperatorFault>,
}

/// The operators of a node, or of all control nodes of its fleet.
pub struct Operators {
    path: PathBuf,
    sealer: Arc<Sealer>,
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    nobody: PasswordHash,
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operators({})", self.locked().names.len())
    }
}

impl Operators {
    /// Reads them; without a file there are none.
    pub fn load(path: &Path, sealer: Arc<Sealer>) -> Result<Self, TrustError> {
        let table = Table::new(file::read(path, &sealer)?);
        let nobody = PasswordHash::of_nobody();
        Ok(Self {
            path: path.to_owned(),
            sealer,
            table: Mutex::new(table),
            changed: watch::Sender::new(0),
            nobody,
        })
    }

    /// All, in the order in which they were added.
    pub fn list(&self) -> Vec<Operator> {
        let table = self.locked();
        let mut all: Vec<Operator> = table.facts().collect();
        all.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        all
    }

    /// One by his id.
    pub fn get(&self, id: &str) -> Option<Operator> {
        self.locked().get(id)
    }

    /// One by his name.
    pub fn named(&self, name: &str) -> Option<Operator> {
        self.locked().facts().find(|one| one.name == name)
    }

    /// Resolves with each change, whoever made it.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All accounts with their secrets, for other control nodes; those that were removed too.
    pub fn accounts(&self, now_ms: u64) -> Vec<Account> {
        let mut accounts: Vec<Account> = self.locked().accounts.values().cloned().collect();
        accounts.iter_mut().for_each(|account| account.credentials.trim(now_ms));
        accounts
    }

    /// Takes in what another control node told. That is in force even if it cannot be written: it may keep somebody out.
    pub fn merge(&self, told: Vec<Account>, now_ms: u64) -> Merged {
        let mut table = self.locked();
        let (mut next, mut merged) = (table.accounts.clone(), Merged::default());
        for other in told {
            merged.refused.extend(take(&mut next, other, now_ms).err());
        }
        if next != table.accounts {
            let before = std::mem::replace(&mut *table, Table::new(next));
            let news = table.facts().filter(|one| before.get(&one.id).as_ref() != Some(one));
            merged.changed = news.collect();
            merged.unwritten = file::write(&self.path, &self.sealer, &table.accounts).err();
            drop(table);
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        merged
    }

    /// Writes what is in force, after it could not be written.
    pub fn write_again(&self) -> Result<(), OperatorFault> {
        file::write(&self.path, &self.sealer, &self.locked().accounts)
    }

    /// Makes void every password that was set up to a moment, with its app and recovery codes: a node that is trusted no more had them.
    /// Whose they were.
    pub fn void_passwords(&self, up_to_ms: u64) -> Result<Vec<String>, OperatorFault> {
        let mut whose = Vec::new();
        self.write_with(|accounts| {
            for account in accounts.values_mut() {
                let credentials = &mut account.credentials;
                if credentials.password.1.as_ref().is_some_and(|password| password.set_at_ms <= up_to_ms) {
                    credentials.set_password(None);
                    whose.push(account.born.name.clone());
                }
            }
            if whose.is_empty() { Err(OperatorFault::Unknown) } else { Ok(()) }
        })
        .or_else(|fault| if matches!(fault, OperatorFault::Unknown) { Ok(()) } else { Err(fault) })?;
        Ok(whose)
    }

    /// Adds one, without credentials.
    pub fn add(&self, new: NewOperator, now_ms: u64) -> Result<Operator, OperatorFault> {
        let NewOperator { name, role, apps, by, on } = new;
        let id = hex(&random_bytes::<16>());
        let mut table = self.locked();
        if table.names.values().any(|known| *known == name) {
            return Err(OperatorFault::Exists);
        }
        if table.names.len() >= OPERATORS_MAX || table.accounts.len() >= REMEMBERED_MAX {
            return Err(OperatorFault::TooMany);
        }
        let account = Account::new(id.clone(), Born { at_ms: now_ms, name, by, on }, role, apps);
        self.write(&mut table, |accounts| {
            accounts.insert(id.clone(), account);
            Ok(())
        })?;
        table.get(&id).ok_or(OperatorFault::Unknown)
    }

    /// Changes role, scope or whether he is kept out.
    pub fn change(&self, id: &str, change: OperatorChange, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |accounts| {
            let account = find(accounts, id)?;
            if let Some(role) = change.role {
                account.role = (account.role.0.saturating_add(1), role);
            }
            if let Some(apps) = change.apps {
                account.apps = (account.apps.0.saturating_add(1), apps);
                if !account.is_small() {
                    return Err(OperatorFault::TooMany);
                }
            }
            change.disabled.into_iter().for_each(|out| account.shut(out));
            Ok(())
        })
    }

    /// Takes all credentials and tokens away.
    pub fn reset(&self, id: &str, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |accounts| {
            find(accounts, id)?.credentials.reset();
            Ok(())
        })
    }

    /// Removes him.
    pub fn remove(&self, id: &str, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |accounts| {
            find(accounts, id)?.remove();
            Ok(())
        })
    }

    /// Gives him a password with an app for one-time codes, in place of those before; answers with the account as it is then and with his
    /// recovery codes, which are told once. `whose` is the account as it was when he proved who he is.
    pub fn set_password(
        &self,
        whose: &Operator,
        password: &PasswordHash,
        (totp, step): (&TotpSecret, u64),
        now_ms: u64,
    ) -> Result<(Operator, Vec<String>), OperatorFault> {
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let recovery = codes.iter().map(|code| recovery_hash(code)).collect();
        let (hash, totp) = (password.clone(), totp.clone());
        let operator = self.change_same(whose, |accounts| {
            let set = Password { hash, totp, step, recovery, set_at_ms: now_ms };
            find(accounts, &whose.id)?.credentials.set_password(Some(set));
            Ok(())
        })?;
        Ok((operator, codes))
    }

    /// Who has this name and password and this one-time or recovery code. Hashes once whatever the name; for a thread that may
    /// take its time.
    pub fn by_password(&self, name: &str, password: &str, code: &str, now_ms: u64) -> Option<Operator> {
        let found = self.locked().password_of(name);
        let fits = found.as_ref().map_or(&self.nobody, |(_, hash)| hash).matches(password);
        let (id, hash) = found.filter(|_| fits)?;
        let spent = self.change_one(&id, |account| {
            // Whoever was reset or kept out while his password was hashed does not get in by what he had.
            let current = account.credentials.password.1.as_ref().is_some_and(|now| now.hash == hash);
            if !current || account.is_shut() {
                return Err(OperatorFault::Unknown);
            }
            let credentials = &mut account.credentials;
            credentials.spend_code(code, now_ms).or_else(|_| credentials.spend_recovery(code))
        });
        // A code that cannot be written as spent does not count.
        spent.ok()
    }

    /// Whether this is his one-time code; it counts once.
    pub fn proves(&self, id: &str, code: &str, now_ms: u64) -> bool {
        self.change_one(id, |account| account.credentials.spend_code(code, now_ms)).is_ok()
    }

    /// Keeps a passkey for him; answers with the account as it is then. `whose` is the account as it was when he proved who he is.
    pub fn add_passkey(
        &self,
        whose: &Operator,
        made: MadePasskey,
        (label, host): (String, String),
        now_ms: u64,
    ) -> Result<Operator, OperatorFault> {
        let id = crate::passkey::base64url(&made.id);
        let MadePasskey { public, signed, .. } = made;
        let key = Key { created_at_ms: now_ms, label, host, public, signed, used_at_ms: 0 };
        self.change_same(whose, |accounts| {
            if accounts.values().any(|one| one.credentials.passkeys.contains_key(&id)) {
                return Err(OperatorFault::Exists);
            }
            find(accounts, &whose.id)?.credentials.add_passkey(id, key)
        })
    }

    /// Ends a passkey of his, unless he has nothing else to get in with; answers with the account as it is then.
    pub fn delete_passkey(&self, id: &str, passkey: &str) -> Result<Operator, OperatorFault> {
        self.change_one(id, |account| account.credentials.end_passkey(passkey))
    }

    /// The key of this name, of somebody who may get in.
    pub fn passkey(&self, passkey: &str, host: &str) -> Option<PresentedPasskey> {
        self.locked().accounts.values().filter(|one| !one.is_shut()).find_map(|one| {
            let key = one.credentials.passkeys.get(passkey).filter(|key| key.host == host)?;
            let operator = one.id.as_str().into();
            Some(PresentedPasskey { operator, public: key.public.clone(), signed: key.signed })
        })
    }

    /// Notes that a passkey of his has signed, unless it is gone meanwhile; answers with the account as it is then.
    pub fn passkey_signed(
        &self,
        id: &str,
        passkey: &str,
        signed: u32,
        now_ms: u64,
    ) -> Result<Operator, OperatorFault> {
        self.change_one(id, |account| {
            if account.is_shut() {
                return Err(OperatorFault::Unknown);
            }
            let key = account.credentials.passkeys.get_mut(passkey).ok_or(OperatorFault::Unknown)?;
            // Another signature may have been noted since this one was looked at.
            if !counts_on(key.signed, signed) {
                return Err(OperatorFault::Unknown);
            }
            (key.used_at_ms, key.signed) = (now_ms, signed);
            Ok(())
        })
    }

    /// Makes a token that acts for him. It is returned here and nowhere else. `whose` is the account as it was when he proved who
    /// he is.
    pub fn add_token(
        &self,
        whose: &Operator,
        token: OperatorToken,
    ) -> Result<Zeroizing<String>, OperatorFault> {
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
        let text = Zeroizing::new(format!("{TOKEN_PREFIX}{}", data_encoding::HEXLOWER.encode(&*secret)));
        let hash = sha256(text.as_bytes());
        self.change_same(whose, |accounts| find(accounts, &whose.id)?.credentials.add_token(hash, token))?;
        Ok(text)
    }

    /// Ends a token of his.
    pub fn delete_token(&self, id: &str, name: &str) -> Result<(), OperatorFault> {
        self.change_one(id, |account| account.credentials.end_token(name)).map(drop)
    }

    /// Whom this token acts for, and what it is. All are compared, each in constant time.
    pub fn by_token(&self, presented: &str, now_ms: u64) -> Option<(Operator, OperatorToken)> {
        let hash = hex(&sha256(presented.as_bytes()));
        let table = self.locked();
        let mut found = None;
        for account in table.accounts.values().filter(|account| !account.is_shut()) {
            for (kept, token) in &account.credentials.tokens {
                if bool::from(kept.as_bytes().ct_eq(hash.as_bytes())) && now_ms < token.expires_at_ms {
                    found = Some((account.id.clone(), token.clone()));
                }
            }
        }
        let (id, token) = found?;
        Some((table.get(&id)?, token))
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an account; as it is then.
    fn change_one(
        &self,
        id: &str,
        change: impl FnOnce(&mut Account) -> Result<(), OperatorFault>,
    ) -> Result<Operator, OperatorFault> {
        let mut table = self.locked();
        self.write(&mut table, |accounts| change(find(accounts, id)?))?;
        table.get(id).ok_or(OperatorFault::Unknown)
    }

    /// Changes the account of somebody, if it is what it was; as it is then.
    fn change_same(
        &self,
        whose: &Operator,
        change: impl FnOnce(&mut Accounts) -> Result<(), OperatorFault>,
    ) -> Result<Operator, OperatorFault> {
        let mut table = self.locked();
        let now = table.get(&whose.id).ok_or(OperatorFault::Unknown)?;
        if now.generation != whose.generation || now.disabled {
            return Err(OperatorFault::Changed);
        }
        self.write(&mut table, |accounts| {
            change(accounts)?;
            if find(accounts, &whose.id)?.is_small() { Ok(()) } else { Err(OperatorFault::TooMany) }
        })?;
        table.get(&whose.id).ok_or(OperatorFault::Unknown)
    }

    /// Changes what operators may do; one of them must leave an owner who can get in.
    fn rule_over(
        &self,
        by: By,
        change: impl FnOnce(&mut Accounts) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        self.write_with(|accounts| {
            let before = accounts.values().any(Account::rules);
            change(accounts)?;
            let lost = before && !accounts.values().any(Account::rules);
            if lost && by == By::Operator { Err(OperatorFault::LastOwner) } else { Ok(()) }
        })
    }

    fn write_with(
        &self,
        change: impl FnOnce(&mut Accounts) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        self.write(&mut self.locked(), change)
    }

    /// Changes a copy, writes it, and puts it into force: a change that is not on disk has not been made.
    fn write(
        &self,
        table: &mut Table,
        change: impl FnOnce(&mut Accounts) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        let mut next = table.accounts.clone();
        change(&mut next)?;
        file::write(&self.path, &self.sealer, &next)?;
        *table = Table::new(next);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }
}

/// Begins every token that acts for an operator, so that scanners find one that was published.
pub const TOKEN_PREFIX: &str = "phalanx_";

type Accounts = BTreeMap<String, Account>;

/// The accounts, and the names that those are shown by which are there.
struct Table {
    accounts: Accounts,
    names: BTreeMap<String, String>,
}

impl Table {
    /// Two nodes may each have given a name before they met. The account that is older keeps it; another is shown and known by that name
    /// with a part of its id. Which one that is, all nodes find alike.
    fn new(accounts: Accounts) -> Self {
        let mut there: Vec<&Account> = accounts.values().filter(|account| !account.removed).collect();
        there.sort_by(|a, b| (&a.born, &a.id).cmp(&(&b.born, &b.id)));
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for account in there {
            let name = &account.born.name;
            let (start, short) =
                (name.get(..NAME_START_CHARS).unwrap_or(name), account.id.get(..NAME_ID_CHARS));
            let other = format!("{start}-{}", short.unwrap_or_default());
            let free = [name.clone(), other].into_iter().find(|name| !taken.contains_key(name));
            taken.insert(free.unwrap_or_else(|| account.id.clone()), account.id.clone());
        }
        let names = taken.into_iter().map(|(name, id)| (id, name)).collect();
        Self { accounts, names }
    }

    fn get(&self, id: &str) -> Option<Operator> {
        Some(self.accounts.get(id)?.facts(self.names.get(id)?))
    }

    /// Whose name this is, if he may get in, and the hash of his password.
    fn password_of(&self, name: &str) -> Option<(String, PasswordHash)> {
        let (id, _) = self.names.iter().find(|(_, known)| *known == name)?;
        let account = self.accounts.get(id).filter(|account| !account.is_shut())?;
        Some((id.clone(), account.credentials.password.1.as_ref()?.hash.clone()))
    }

    fn facts(&self) -> impl Iterator<Item = Operator> {
        self.names.iter().filter_map(|(id, name)| Some(self.accounts.get(id)?.facts(name)))
    }
}

/// An account that is there.
fn find<'a>(accounts: &'a mut Accounts, id: &str) -> Result<&'a mut Account, OperatorFault> {
    accounts.get_mut(id).filter(|account| !account.removed).ok_or(OperatorFault::Unknown)
}

/// Merges what was told of one account.
fn take(accounts: &mut Accounts, mut other: Account, now_ms: u64) -> Result<(), &'static str> {
    other.credentials.trim(now_ms);
    // Of an account that was removed nothing is wanted but that.
    if other.removed {
        other.remove();
    }
    let Some(own) = accounts.get_mut(&other.id) else {
        let there = accounts.values().filter(|account| !account.removed).count();
        // Ends are taken where accounts are not: they are small, and each is of an account that was taken somewhere.
        let room = if other.removed { accounts.len() < 2 * REMEMBERED_MAX } else { there < OPERATORS_MAX };
        if !room {
            return Err("another node has accounts for which there is no room here");
        }
        accounts.insert(other.id.clone(), other);
        return Ok(());
    };
    let mut next = own.clone();
    next.merge(&other);
    if next.is_bounded() {
        *own = next;
        return Ok(());
    }
    own.merge(&other.bare());
    Err("an account would become too large; reset it")
}

/// 80 random bits in four groups.
fn recovery_code() -> String {
    let text = data_encoding::BASE32_NOPAD.encode(&random_bytes::<10>()).to_lowercase();
    let groups: Vec<&str> = (0..4).filter_map(|n| text.get(n * 4..n * 4 + 4)).collect();
    groups.join("-")
}

const RECOVERY_CODES: usize = 10;
/// Accounts that were ever added. Those that were removed are remembered, or a node that was away would bring them back.
const REMEMBERED_MAX: usize = 4_096;
/// Of an account's id, in the name that it is shown by where an older one has its name.
const NAME_ID_CHARS: usize = 6;
/// Of its own name before that: both together are no longer than a name may be.
const NAME_START_CHARS: usize = 56;

#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod tests;
