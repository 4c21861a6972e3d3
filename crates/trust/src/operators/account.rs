//! One account as all control nodes keep it: what it is, and how two of its states become one.
//!
//! Each part is of a kind whose merge commutes, associates and may be repeated: counters grow, what is gone stays gone, and of two
//! values that were set apart one is the greater by a rule that looks at nothing but the two. So the order in which nodes hear of each
//! other decides nothing, no clock does, and an old state that is told again changes nothing.
//!
//! INVARIANT: what takes rights away wins over what was done at the same time elsewhere: a removal over all else, keeping somebody out over
//! a change, a reset over a new credential, the end of a passkey or token over its use.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_model::limits::{OPERATOR_APPS_MAX, OPERATOR_TOKENS_MAX, PASSKEYS_MAX};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Operator, OperatorFault, OperatorToken, Passkey, Role};
use crate::passkey::PasskeyPublic;
use crate::{PasswordHash, TotpSecret, sha256, valid_name};

/// An account with all that is secret of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Random, for ever its own.
    pub(super) id: String,
    pub(super) born: Born,
    /// For ever: nothing else of it is kept.
    pub(super) removed: bool,
    /// Odd while its owner is kept out.
    pub(super) shut: u64,
    pub(super) role: (u64, Role),
    pub(super) apps: (u64, Vec<String>),
    pub(super) credentials: Credentials,
}

/// What never changes about an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Born {
    pub(super) at_ms: u64,
    pub(super) name: String,
    pub(super) by: String,
    /// The node, as `SITE/NODE`; empty if it was made before nodes said so.
    #[serde(default)]
    pub(super) on: String,
}

/// What its owner proves himself with. A reset begins the next, and what is left of an earlier one is dropped.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Credentials {
    pub(super) resets: u64,
    /// How often the password was set or made void, and what it is.
    pub(super) password: (u64, Option<Password>),
    /// By their names.
    pub(super) passkeys: BTreeMap<String, Key>,
    /// Short hashes of the names of those that are gone.
    pub(super) gone_passkeys: BTreeSet<String>,
    /// By their hashes.
    pub(super) tokens: BTreeMap<String, OperatorToken>,
    /// Hashes of those that are gone, and when they would have ended.
    pub(super) gone_tokens: BTreeMap<String, u64>,
}

/// A password with the app for one-time codes that goes with it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Password {
    pub(super) hash: PasswordHash,
    pub(super) totp: TotpSecret,
    /// The last step whose code was spent.
    pub(super) step: u64,
    /// Hashes of recovery codes that are left.
    pub(super) recovery: BTreeSet<String>,
    /// When it was set, in Unix milliseconds.
    pub(super) set_at_ms: u64,
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.step == other.step && self.recovery == other.recovery
    }
}

impl Eq for Password {}

/// A passkey.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) created_at_ms: u64,
    pub(super) label: String,
    pub(super) host: String,
    pub(super) public: PasskeyPublic,
    /// How often it has signed.
    pub(super) signed: u32,
    pub(super) used_at_ms: u64,
}

impl Account {
    /// A new one, without credentials.
    pub(super) fn new(id: String, born: Born, role: Role, apps: Vec<String>) -> Self {
        let credentials = Credentials::default();
        Self { id, born, removed: false, shut: 0, role: (0, role), apps: (0, apps), credentials }
    }

    /// Its name for ever.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What two nodes compare to know whether they have the same.
    pub fn digest(&self) -> [u8; 32] {
        // Sets and maps are written in order, so that equal accounts have equal bytes.
        sha256(&self.written())
    }

    /// As it travels, sealed. Of one that is too large, what keeps its owner out: nobody makes an account too large to be ended.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let bytes = self.written();
        if bytes.len() <= ACCOUNT_BYTES_MAX { bytes } else { self.bare().written() }
    }

    fn written(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The account as if it had no credentials. Merged with it, that changes none.
    pub(super) fn bare(&self) -> Self {
        let credentials = Credentials { resets: self.credentials.resets, ..Credentials::default() };
        Self { credentials, ..self.clone() }
    }

    /// Whether it may grow to this at one node.
    pub(super) fn is_small(&self) -> bool {
        self.written().len() <= GROWN_BYTES_MAX
    }

    /// Whether it may become this by what others tell.
    pub(super) fn is_bounded(&self) -> bool {
        self.written().len() <= MERGED_BYTES_MAX
    }

    /// Reads what another node told. Whatever could not have been written by one is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > ACCOUNT_BYTES_MAX {
            return Err("an account is too large");
        }
        let account: Self = serde_json::from_slice(bytes).map_err(|_| "an account cannot be understood")?;
        account.check()?;
        Ok(account)
    }

    fn check(&self) -> Result<(), &'static str> {
        let Credentials { resets, password, passkeys, gone_passkeys, tokens, gone_tokens } =
            &self.credentials;
        let counters = [self.shut, self.role.0, self.apps.0, *resets, password.0];
        if counters.iter().any(|count| *count > COUNT_MAX) {
            return Err("an account was changed more often than can be");
        }
        let hex = |text: &String, chars: usize| {
            text.len() == chars && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !hex(&self.id, 32) || !valid_name(&self.born.name) || self.born.by.len() + self.born.on.len() > 512
        {
            return Err("an account has no name that could be one");
        }
        let parts = [passkeys.len(), tokens.len(), gone_passkeys.len(), gone_tokens.len()];
        if parts.iter().any(|count| *count > 4 * PARTS_MAX) || self.apps.1.len() > OPERATOR_APPS_MAX {
            return Err("an account has more than it may have");
        }
        let recovery = password.1.iter().flat_map(|password| &password.recovery);
        let hashes = tokens.keys().chain(gone_tokens.keys()).chain(recovery).all(|hash| hex(hash, 64));
        let named = tokens.values().all(|token| valid_name(&token.name));
        if !hashes || !named || !gone_passkeys.iter().all(|hash| hex(hash, 32)) {
            return Err("an account has a credential that could not be one");
        }
        Ok(())
    }

    /// Makes this account what both are together. `other` is the same account elsewhere.
    pub(super) fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.id, other.id, "one account");
        if other.born < self.born {
            self.born = other.born.clone();
        }
        self.shut = self.shut.max(other.shut);
        let rights = |(count, role): &(u64, Role)| (*count, std::cmp::Reverse(*role));
        if rights(&other.role) > rights(&self.role) {
            self.role = other.role;
        }
        if narrower(&other.apps, &self.apps) {
            self.apps = other.apps.clone();
        }
        self.credentials.merge(&other.credentials);
        if self.removed || other.removed {
            self.remove();
        }
    }

    /// All is gone but that it was there, or it would come back from a node that did not hear of its end.
    pub(super) fn remove(&mut self) {
        let (id, born) = (std::mem::take(&mut self.id), self.born.clone());
        *self = Self { removed: true, ..Self::new(id, born, Role::Viewer, Vec::new()) };
    }

    /// Keeps its owner out, or lets him in again.
    pub(super) fn shut(&mut self, out: bool) {
        // Who is kept out once more stays out, whoever lets him in meanwhile.
        self.shut = self.shut.saturating_add(match (self.is_shut(), out) {
            (true, true) => 2,
            (false, false) => 0,
            _ => 1,
        });
    }

    pub(super) fn is_shut(&self) -> bool {
        self.removed || self.shut % 2 == 1
    }

    /// The account without what is secret, under the name that it is shown by.
    pub(super) fn facts(&self, name: &str) -> Operator {
        let passkey = |(id, key): (&String, &Key)| Passkey {
            id: id.clone(),
            label: key.label.clone(),
            host: key.host.clone(),
            created_at_ms: key.created_at_ms,
            used_at_ms: key.used_at_ms,
        };
        let mut passkeys: Vec<Passkey> = self.credentials.passkeys.iter().map(passkey).collect();
        passkeys.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        let mut tokens: Vec<OperatorToken> = self.credentials.tokens.values().cloned().collect();
        tokens.sort_by(|a, b| (a.created_at_ms, &a.name).cmp(&(b.created_at_ms, &b.name)));
        let password = self.credentials.password.1.as_ref();
        Operator {
            id: self.id.clone(),
            name: name.to_owned(),
            role: self.role.1,
            apps: self.apps.1.clone(),
            created_at_ms: self.born.at_ms,
            created_by: self.born.by.clone(),
            made_on: self.born.on.clone(),
            disabled: self.is_shut(),
            generation: self.generation(),
            passkeys,
            tokens,
            password: password.is_some(),
            recovery_codes: password.map_or(0, |password| password.recovery.len()),
        }
    }

    /// Another whenever a session must end: with each change of rights, each reset, a new password, the end of a passkey. It says nothing
    /// of how often, so that two nodes which changed an account apart do not take one change for the other.
    fn generation(&self) -> u64 {
        let Credentials { resets, password, gone_passkeys, .. } = &self.credentials;
        let password = (password.0, password.1.as_ref().map(|password| &password.hash));
        let all = (self.removed, self.shut, &self.role, &self.apps, resets, password, gone_passkeys);
        let bytes = serde_json::to_vec(&all).unwrap_or_default();
        sha256(&bytes).first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// Whether it is an owner of everything who can get in, whoever else is away.
    pub(super) fn rules(&self) -> bool {
        let credentials = &self.credentials;
        let enrolled = credentials.password.1.is_some() || !credentials.passkeys.is_empty();
        self.role.1 == Role::Owner
            && self.apps.1.is_empty()
            && !self.is_shut()
            && enrolled
            && !self.is_provided()
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({}, {})", self.id, self.born.name)
    }
}

impl Credentials {
    fn merge(&mut self, other: &Self) {
        if other.resets != self.resets {
            if other.resets > self.resets {
                *self = other.clone();
            }
            return;
        }
        merge_passwords(&mut self.password, &other.password);
        self.gone_passkeys.extend(other.gone_passkeys.iter().cloned());
        for (id, key) in &other.passkeys {
            let known = self.passkeys.entry(id.clone()).or_insert_with(|| key.clone());
            let (signed, used_at_ms) = (known.signed.max(key.signed), known.used_at_ms.max(key.used_at_ms));
            let fixed = |key: &Key| Key { signed, used_at_ms, ..key.clone() };
            *known = fixed(known).min(fixed(key));
        }
        let gone = &self.gone_passkeys;
        self.passkeys.retain(|id, _| !gone.contains(&short(id)));
        for (hash, ends) in &other.gone_tokens {
            let known = self.gone_tokens.entry(hash.clone()).or_insert(*ends);
            *known = (*known).max(*ends);
        }
        for (hash, token) in &other.tokens {
            let known = self.tokens.entry(hash.clone()).or_insert_with(|| token.clone());
            if token < known {
                *known = token.clone();
            }
        }
        let gone = &self.gone_tokens;
        self.tokens.retain(|hash, _| !gone.contains_key(hash));
    }

    /// Begins anew, with nothing.
    pub(super) fn reset(&mut self) {
        *self = Self { resets: self.resets.saturating_add(1), ..Self::default() };
    }

    /// Takes the password with its app in place of what was there, if anything.
    pub(super) fn set_password(&mut self, password: Option<Password>) {
        self.password = (self.password.0.saturating_add(1), password);
    }

    /// Drops what has long ended. A day later than it does, so that clocks may differ.
    pub(super) fn trim(&mut self, now_ms: u64) {
        let stays = |ends: u64| now_ms < ends.saturating_add(TRIMMED_AFTER_MS);
        self.tokens.retain(|_, token| stays(token.expires_at_ms));
        self.gone_tokens.retain(|_, ends| stays(*ends));
    }

    /// Keeps a passkey.
    pub(super) fn add_passkey(&mut self, id: String, key: Key) -> Result<(), OperatorFault> {
        // What is gone is remembered, so it counts too: else the account would grow for ever.
        let made = self.passkeys.len() + self.gone_passkeys.len();
        if self.passkeys.len() >= PASSKEYS_MAX
            || made >= PARTS_MAX
            || self.gone_passkeys.contains(&short(&id))
        {
            return Err(OperatorFault::TooMany);
        }
        self.passkeys.insert(id, key);
        Ok(())
    }

    pub(super) fn end_passkey(&mut self, id: &str) -> Result<(), OperatorFault> {
        if !self.passkeys.contains_key(id) {
            return Err(OperatorFault::Unknown);
        }
        if self.passkeys.len() == 1 && self.password.1.is_none() {
            return Err(OperatorFault::Last);
        }
        self.passkeys.remove(id);
        self.gone_passkeys.insert(short(id));
        Ok(())
    }

    pub(super) fn add_token(&mut self, hash: [u8; 32], token: OperatorToken) -> Result<(), OperatorFault> {
        if self.tokens.values().any(|other| other.name == token.name) {
            return Err(OperatorFault::Exists);
        }
        let made = self.tokens.len() + self.gone_tokens.len();
        if self.tokens.len() >= OPERATOR_TOKENS_MAX || made >= PARTS_MAX {
            return Err(OperatorFault::TooMany);
        }
        self.tokens.insert(hex(&hash), token);
        Ok(())
    }

    /// Ends all tokens of this name: two nodes may have made one each.
    pub(super) fn end_token(&mut self, name: &str) -> Result<(), OperatorFault> {
        let ended: Vec<(String, u64)> = self
            .tokens
            .iter()
            .filter(|(_, token)| token.name == name)
            .map(|(hash, token)| (hash.clone(), token.expires_at_ms))
            .collect();
        if ended.is_empty() {
            return Err(OperatorFault::Unknown);
        }
        self.tokens.retain(|_, token| token.name != name);
        self.gone_tokens.extend(ended);
        Ok(())
    }

    pub(super) fn spend_code(&mut self, code: &str, now_ms: u64) -> Result<(), OperatorFault> {
        let password = self.password.1.as_mut().ok_or(OperatorFault::Unknown)?;
        let step = password.totp.step_of(code, now_ms, password.step);
        password.step = step.ok_or(OperatorFault::Unknown)?;
        Ok(())
    }

    pub(super) fn spend_recovery(&mut self, code: &str) -> Result<(), OperatorFault> {
        let password = self.password.1.as_mut().ok_or(OperatorFault::Unknown)?;
        let hash = recovery_hash(code);
        let found =
            password.recovery.iter().find(|kept| kept.as_bytes().ct_eq(hash.as_bytes()).into()).cloned();
        password.recovery.remove(&found.ok_or(OperatorFault::Unknown)?);
        Ok(())
    }
}

/// Of two the one that was set later in the account's own count. Of two that were set apart none, if one was made void, else the one with
/// the greater hash: it is enough that all nodes take the same. What was spent of one password stays spent.
fn merge_passwords(own: &mut (u64, Option<Password>), other: &(u64, Option<Password>)) {
    let order = |one: &(u64, Option<Password>)| {
        let hash = one.1.as_ref().map(|password| password.hash.bytes());
        (one.0, hash.is_none(), hash)
    };
    match order(other).cmp(&order(own)) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Greater => *own = other.clone(),
        std::cmp::Ordering::Equal => {
            if let (Some(own), Some(other)) = (&mut own.1, &other.1) {
                own.step = own.step.max(other.step);
                own.recovery.retain(|code| other.recovery.contains(code));
            }
        }
    }
}

/// Whether a scope was set later, or of two that were set apart is the one that wins: some apps over all.
fn narrower(one: &(u64, Vec<String>), than: &(u64, Vec<String>)) -> bool {
    let order = |(count, apps): &(u64, Vec<String>)| (*count, !apps.is_empty());
    (order(one), &than.1) > (order(than), &one.1)
}

/// What stands for the name of a passkey that is gone.
fn short(id: &str) -> String {
    let digest = sha256(id.as_bytes());
    hex(digest.first_chunk::<16>().map_or(&[], |short| short.as_slice()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// The hash of a recovery code, however it was typed.
pub(super) fn recovery_hash(code: &str) -> String {
    let normal: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    hex(&sha256(normal.to_lowercase().as_bytes()))
}

/// Largest account that is told and taken: in base64, sealed and signed, it is smaller than the largest record.
const ACCOUNT_BYTES_MAX: usize = 40 * 1024;
/// Up to where an account may grow at one node. Those that grew apart can be more together.
const GROWN_BYTES_MAX: usize = 24 * 1024;
/// Largest account that is kept.
const MERGED_BYTES_MAX: usize = 64 * 1024;
/// Passkeys, and tokens, that an account has and remembers, since its last reset. What nodes made apart can be more.
const PARTS_MAX: usize = 128;
/// More often than once in a millisecond for as long as there are computers; less than where a counter ends.
const COUNT_MAX: u64 = 1 << 48;
const TRIMMED_AFTER_MS: u64 = 24 * 60 * 60_000;
