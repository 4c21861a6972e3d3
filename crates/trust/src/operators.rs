//! Operators: who may act on a node, in what role, and how each proves who he is.
//!
//! One sealed file that each change replaces whole. What leaves this module as [`Operator`] holds no secret; what leaves it as [`Account`]
//! is all of one, for other control nodes: each has all accounts, and merges what the others tell.
//!
//! Whoever asks waits for no disk: changes are made in turn to a copy, which is put into force whole.
//!
//! INVARIANT: nothing here says yes to a password alone, and no one-time code, recovery code or signature counts twice at one node.

mod account;
mod distrust;
mod facts;
mod file;
mod provided;
mod shut;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use phalanx_model::limits::OPERATORS_MAX;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use self::account::Account;
use self::account::{Born, COUNTS_AHEAD, Key, Password, hex, is_hex, recovery_hash};
pub use self::distrust::RevokedNode;
use self::distrust::{Distrust, brief};
pub use self::facts::{
    By, Heeded, Merged, NewOperator, Operator, OperatorChange, OperatorFault, OperatorToken, Passkey,
    PresentedPasskey, Role,
};
pub use self::provided::Provided;
use crate::passkey::{MadePasskey, counts_on};
use crate::{PasswordHash, Sealer, TotpSecret, TrustError, random_bytes, sha256};

/// The operators of a node, or of all control nodes of its fleet.
pub struct Operators {
    path: PathBuf,
    sealer: Arc<Sealer>,
    /// Never held while something is written.
    table: Mutex<Table>,
    /// Held by whoever changes the table, until that is on disk.
    turn: Mutex<()>,
    distrust: Mutex<Arc<Distrust>>,
    /// Stands for this node where it keeps somebody out.
    here: OnceLock<String>,
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
            turn: Mutex::new(()),
            distrust: Mutex::default(),
            here: OnceLock::new(),
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

    /// Whether none was made before this one.
    pub fn is_first(&self, operator: &Operator) -> bool {
        let table = self.locked();
        let known = table.names.keys().filter_map(|id| table.accounts.get(id));
        let first = known.map(|account| (account.born.at_ms, &account.id)).min();
        first.is_some_and(|(_, id)| *id == operator.id)
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.locked().names.is_empty()
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
        let table = self.locked();
        let mut accounts: Vec<Account> =
            table.accounts.values().filter(|account| !account.is_over(now_ms)).cloned().collect();
        drop(table);
        accounts.iter_mut().for_each(|account| account.credentials.trim(now_ms));
        accounts
    }

    /// Takes in what another control node told. That is in force even if it cannot be written: it may keep somebody out.
    pub fn merge(&self, told: Vec<Account>, now_ms: u64) -> Merged {
        let _turn = self.turn();
        let (before, distrust) = (self.locked().accounts.clone(), self.distrust());
        let (mut next, mut merged) = (before.clone(), Merged::default());
        for other in told {
            merged.refused.extend(take(&mut next, other, &distrust, now_ms).err());
        }
        if next != before {
            merged.changed = self.enforce(next.clone());
            merged.unwritten = file::write(&self.path, &self.sealer, &next).err();
        }
        merged
    }

    /// Writes what is in force, after it could not be written.
    pub fn write_again(&self) -> Result<(), OperatorFault> {
        let _turn = self.turn();
        let accounts = self.locked().accounts.clone();
        file::write(&self.path, &self.sealer, &accounts)
    }

    /// Names the node, as `SITE/NODE`: what two nodes do apart is told apart by it.
    pub fn name_node(&self, node: &str) {
        let _ = self.here.set(brief(node));
    }

    /// Takes away what does not count since these control nodes were revoked, which are all whose revocation is in force: passwords that
    /// were set without knowledge of it, and what came by them. Says what it took, which is nothing the next time. It is in force even
    /// if it cannot be written, and computed again at the next start.
    pub fn heed(&self, revoked: &[RevokedNode]) -> Heeded {
        let _turn = self.turn();
        let distrust = Arc::new(Distrust::of(revoked));
        *self.distrust.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&distrust);
        let before = self.locked().accounts.clone();
        let (mut next, mut heeded) = (before.clone(), Heeded::default());
        next.retain(|_, account| !account.is_hearsay(&distrust));
        for account in next.values_mut() {
            let (taken, out) = (account.distrust(&distrust), account.keep_out(&distrust));
            let name = &account.born.name;
            heeded.passwords.extend(taken.password.then(|| name.clone()));
            heeded.others.extend((taken.other || out).then(|| name.clone()));
        }
        if next != before {
            self.enforce(next.clone());
            heeded.unwritten = file::write(&self.path, &self.sealer, &next).err();
        }
        heeded
    }

    /// Adds one, without credentials.
    pub fn add(&self, new: NewOperator, now_ms: u64) -> Result<Operator, OperatorFault> {
        let NewOperator { name, role, apps, by, on } = new;
        let salt = hex(&random_bytes::<16>());
        let born = Born { at_ms: now_ms, name, by, on, salt, subject: String::new() };
        let id = born.id();
        self.write(|table| {
            table.accounts.retain(|_, account| !account.is_over(now_ms));
            if table.names.values().any(|known| *known == born.name) {
                return Err(OperatorFault::Exists);
            }
            if table.is_full() {
                return Err(OperatorFault::TooMany);
            }
            table.accounts.insert(id.clone(), Account::new(id.clone(), born, role, apps));
            Ok(())
        })?;
        self.get(&id).ok_or(OperatorFault::Unknown)
    }

    /// Changes role, scope or whether he is kept out.
    pub fn change(&self, id: &str, change: OperatorChange, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |accounts| {
            let account = find(accounts, id)?;
            let OperatorChange { role, apps, disabled } = change;
            let grows = apps.is_some();
            account.change(role, apps, disabled, self.here());
            if grows && !account.is_small() { Err(OperatorFault::TooMany) } else { Ok(()) }
        })
    }

    /// Takes all credentials and tokens away.
    pub fn reset(&self, id: &str, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |accounts| {
            find(accounts, id)?.reset();
            Ok(())
        })
    }

    /// Takes all credentials and tokens of all away. Whose they were: all who have an account, in the order in which they were added.
    pub fn reset_all(&self) -> Result<Vec<Operator>, OperatorFault> {
        self.write(|table| {
            let there = table.accounts.values_mut().filter(|account| !account.removed);
            there.for_each(Account::reset);
            Ok(())
        })?;
        Ok(self.list())
    }

    /// Removes him.
    pub fn remove(&self, id: &str, by: By, now_ms: u64) -> Result<(), OperatorFault> {
        self.rule_over(by, |accounts| {
            let account = find(accounts, id)?;
            account.remove(now_ms);
            // This end is no hearsay, whoever said that there was such an account.
            account.via.clear();
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
    ) -> Result<(Operator, Vec<String>), OperatorFault> {
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let recovery = codes.iter().map(|code| recovery_hash(code)).collect();
        let (hash, totp) = (password.clone(), totp.clone());
        let operator = self.change_same(whose, |accounts| {
            let heeds = self.distrust().known();
            find(accounts, &whose.id)?.set_password(Password { hash, totp, step, recovery, heeds });
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

    /// Ends a passkey of his, unless he has nothing else to get in with; answers with the account as it is then. `whose` is the account
    /// as it was when he proved who he is.
    pub fn delete_passkey(&self, whose: &Operator, passkey: &str) -> Result<Operator, OperatorFault> {
        self.change_same(whose, |accounts| {
            let account = find(accounts, &whose.id)?;
            let only_way = !account.is_provided();
            account.credentials.end_passkey(passkey, only_way)
        })
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
        // Of somebody of a provider there should be none, whoever made it: he would get in when he has left there.
        let may = |account: &&Account| !account.is_shut() && !account.is_provided();
        for account in table.accounts.values().filter(may) {
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

    fn distrust(&self) -> Arc<Distrust> {
        Arc::clone(&self.distrust.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn here(&self) -> &str {
        self.here.get().map_or("", String::as_str)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an account; as it is then.
    fn change_one(
        &self,
        id: &str,
        change: impl FnOnce(&mut Account) -> Result<(), OperatorFault>,
    ) -> Result<Operator, OperatorFault> {
        self.write(|table| change(find(&mut table.accounts, id)?))?;
        self.get(id).ok_or(OperatorFault::Unknown)
    }

    /// Changes the account of somebody, if it is what it was; as it is then.
    fn change_same(
        &self,
        whose: &Operator,
        change: impl FnOnce(&mut Accounts) -> Result<(), OperatorFault>,
    ) -> Result<Operator, OperatorFault> {
        self.write(|table| {
            let now = table.get(&whose.id).ok_or(OperatorFault::Unknown)?;
            if now.generation != whose.generation || now.disabled {
                return Err(OperatorFault::Changed);
            }
            change(&mut table.accounts)?;
            if find(&mut table.accounts, &whose.id)?.is_small() {
                Ok(())
            } else {
                Err(OperatorFault::TooMany)
            }
        })?;
        self.get(&whose.id).ok_or(OperatorFault::Unknown)
    }

    /// Changes what operators may do; one of them must leave an owner who can get in.
    fn rule_over(
        &self,
        by: By,
        change: impl FnOnce(&mut Accounts) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        self.write(|Table { accounts, .. }| {
            let before = accounts.values().any(Account::rules);
            change(accounts)?;
            let lost = before && !accounts.values().any(Account::rules);
            if lost && by == By::Operator { Err(OperatorFault::LastOwner) } else { Ok(()) }
        })
    }

    /// Changes a copy, writes it, and puts it into force: a change that is not on disk has not been made.
    fn write(
        &self,
        change: impl FnOnce(&mut Table) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        let _turn = self.turn();
        let mut next = self.locked().clone();
        change(&mut next)?;
        file::write(&self.path, &self.sealer, &next.accounts)?;
        self.enforce(next.accounts);
        Ok(())
    }

    /// Puts accounts into force; those that are now what they were not.
    fn enforce(&self, accounts: Accounts) -> Vec<Operator> {
        let next = Table::new(accounts);
        let mut table = self.locked();
        let news = next.facts().filter(|one| table.get(&one.id).as_ref() != Some(one)).collect();
        *table = next;
        drop(table);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        news
    }
}

/// Begins every token that acts for an operator, so that scanners find one that was published.
pub const TOKEN_PREFIX: &str = "phalanx_";

type Accounts = BTreeMap<String, Account>;

/// The accounts, and the names that those are shown by which are there.
#[derive(Clone)]
struct Table {
    accounts: Accounts,
    names: BTreeMap<String, String>,
}

impl Table {
    /// Two nodes may each have given a name before they met. The account that is older keeps it; another is shown and known by that name
    /// with a part of its id. Which one that is, all nodes find alike.
    fn new(accounts: Accounts) -> Self {
        let mut there: Vec<&Account> = there(&accounts).collect();
        there.sort_by(|a, b| (a.doubtful, &a.born, &a.id).cmp(&(b.doubtful, &b.born, &b.id)));
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

    /// Whether nobody can be added. Accounts that a revoked node made up take no room.
    fn is_full(&self) -> bool {
        there(&self.accounts).filter(|account| !account.doubtful).count() >= OPERATORS_MAX
            || self.accounts.len() >= REMEMBERED_MAX
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

/// Those that were not removed.
fn there(accounts: &Accounts) -> impl Iterator<Item = &Account> {
    accounts.values().filter(|account| !account.removed)
}

/// An account that is there.
fn find<'a>(accounts: &'a mut Accounts, id: &str) -> Result<&'a mut Account, OperatorFault> {
    accounts.get_mut(id).filter(|account| !account.removed).ok_or(OperatorFault::Unknown)
}

/// Merges what was told of one account.
fn take(
    accounts: &mut Accounts,
    mut other: Account,
    distrust: &Distrust,
    now_ms: u64,
) -> Result<(), &'static str> {
    other.credentials.trim(now_ms);
    other.credentials.end_what_is_gone();
    // Of an account that was removed nothing is wanted but that, and nobody has it remembered for ever.
    if other.removed {
        other.remove(other.removed_at_ms.min(now_ms.saturating_add(COUNTS_AHEAD)));
    }
    if !other.counts_could_be(now_ms) {
        return Err("another node has changed an account more often than can be");
    }
    other.distrust(distrust);
    provided::check(accounts, &mut other)?;
    let Some(own) = accounts.get_mut(&other.id) else {
        if other.is_over(now_ms) || other.is_hearsay(distrust) {
            return Ok(());
        }
        let all = there(accounts).count();
        let sure = there(accounts).filter(|account| !account.doubtful).count();
        // Ends are taken where accounts are not: they are small, and each is of an account that was taken somewhere.
        let live = all < 2 * OPERATORS_MAX && (other.doubtful || sure < OPERATORS_MAX);
        let room = accounts.len() < 2 * REMEMBERED_MAX && (other.removed || live);
        if !room || !other.is_bounded() {
            return Err("another node has accounts for which there is no room here");
        }
        other.keep_out(distrust);
        accounts.insert(other.id.clone(), other);
        return Ok(());
    };
    own.credentials.trim(now_ms);
    own.vouch(&other, distrust);
    let mut next = own.clone();
    next.merge(&other);
    // What another node made up may be among them.
    next.distrust(distrust);
    next.keep_out(distrust);
    if next.is_bounded() {
        *own = next;
        return Ok(());
    }
    let mut next = own.clone();
    next.merge(&other.bare());
    next.distrust(distrust);
    next.keep_out(distrust);
    if next.is_bounded() {
        *own = next;
    } else if other.is_shut() && !own.is_shut() {
        own.shut.shut_again();
    }
    Err("an account would become too large; reset it")
}

/// 80 random bits in four groups.
fn recovery_code() -> String {
    let text = data_encoding::BASE32_NOPAD.encode(&random_bytes::<10>()).to_lowercase();
    let groups: Vec<&str> = (0..4).filter_map(|n| text.get(n * 4..n * 4 + 4)).collect();
    groups.join("-")
}

const RECOVERY_CODES: usize = 10;
/// Accounts that were added. Those that were removed are remembered for a year and more, or a node that was away would bring them back.
const REMEMBERED_MAX: usize = 4_096;
/// Of an account's id, in the name that it is shown by where an older one has its name.
const NAME_ID_CHARS: usize = 6;
/// Of its own name before that: both together are no longer than a name may be.
const NAME_START_CHARS: usize = 56;

#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod stolen_tests;
#[cfg(test)]
mod tests;
