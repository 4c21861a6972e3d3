//! One account as all control nodes keep it: what it is, and how two of its states become one.
//!
//! Each part is of a kind whose merge commutes, associates and may be repeated: counters grow, what is gone stays gone, and of two
//! values that were set apart one is the greater by a rule that looks at nothing but the two, or neither counts. So the order in which
//! nodes hear of each other decides nothing, no clock does, and an old state that is told again changes nothing.
//!
//! INVARIANT: what takes rights away wins over what was done at the same time elsewhere: a removal over all else, keeping somebody out over
//! a change, a reset over a new credential, the end of a passkey or token over its use.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_model::limits::{OPERATOR_APPS_MAX, OPERATOR_TOKENS_MAX, PASSKEYS_MAX};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::distrust::{APPS, BORN, PASSWORD, ROLE, SHUT, Via, passkey_part, shut_part, token_part};
use super::provided::PROVIDER;
use super::shut::Shut;
use super::{Operator, OperatorFault, OperatorToken, Passkey, Role};
use crate::passkey::PasskeyPublic;
use crate::{PasswordHash, TotpSecret, sha256, valid_name};

/// An account with all that is secret of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// For ever its own: what it was born with, hashed.
    pub(super) id: String,
    pub(super) born: Born,
    /// Nothing else of it is kept then.
    pub(super) removed: bool,
    /// When that was, in Unix milliseconds; 0 if it was before nodes said so.
    #[serde(default)]
    pub(super) removed_at_ms: u64,
    pub(super) shut: Shut,
    pub(super) role: (u64, Role),
    /// By the word of a node that was revoked: its owner is kept out until somebody says what he may do.
    #[serde(default)]
    pub(super) role_lost: bool,
    pub(super) apps: (u64, Vec<String>),
    /// The same.
    #[serde(default)]
    pub(super) apps_lost: bool,
    pub(super) credentials: Credentials,
    /// What each node knows for itself, and no two have alike.
    #[serde(default)]
    pub(super) via: Via,
    /// How often something was taken from it because of who had told it: a session that was opened by that ends. Each node's own, too.
    #[serde(default)]
    pub(super) doubts: u64,
    /// That there is such an account only a revoked node said: it takes nobody's name or room. Each node's own, too.
    #[serde(default)]
    pub(super) doubtful: bool,
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
    /// Random, so that no two are born alike; empty of accounts whose id is random itself.
    #[serde(default)]
    pub(super) salt: String,
    /// Of somebody whom a provider vouches for: who that is, hashed. He is born at each node where he comes first, and is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) subject: String,
}

impl Born {
    /// Whether the id says that it is so.
    fn is_proven(&self) -> bool {
        !(self.salt.is_empty() && self.subject.is_empty())
    }

    /// The id of an account that was born so: nobody gives it another birth, but as to what somebody of a provider is called.
    pub(super) fn id(&self) -> String {
        match self.subject.as_str() {
            "" => short_id(&serde_json::to_vec(self).unwrap_or_default()),
            subject => id_of_subject(subject),
        }
    }
}

/// The id of whoever a provider vouches for.
pub(super) fn id_of_subject(hashed: &str) -> String {
    short_id(format!("provided {hashed}").as_bytes())
}

fn short_id(of: &[u8]) -> String {
    hex(sha256(of).first_chunk::<16>().map_or(&[], |short| short.as_slice()))
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
    /// The revocations of control nodes that who set it knew of.
    #[serde(default)]
    pub(super) heeds: BTreeSet<String>,
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.totp == other.totp
            && self.step == other.step
            && self.recovery == other.recovery
            && self.heeds == other.heeds
    }
}

impl Eq for Password {}

/// A passkey.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        Self {
            id,
            born,
            removed: false,
            removed_at_ms: 0,
            shut: Shut::default(),
            role: (0, role),
            role_lost: false,
            apps: (0, apps),
            apps_lost: false,
            credentials: Credentials::default(),
            via: Via::new(),
            doubts: 0,
            doubtful: false,
        }
    }

    /// Its name for ever.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What two nodes compare to know whether they have the same.
    pub fn digest(&self) -> [u8; 32] {
        // Sets and maps are written in order, so that equal accounts have equal bytes.
        sha256(&self.without_ways())
    }

    /// What two nodes have alike of it, written.
    fn without_ways(&self) -> Zeroizing<Vec<u8>> {
        Self { via: Via::new(), doubts: 0, doubtful: false, ..self.clone() }.written()
    }

    /// As it travels, sealed. Of one that is too large, what keeps its owner out: nobody makes an account too large to be ended.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let bytes = self.written();
        if bytes.len() <= TOLD_BYTES_MAX { bytes } else { self.bare().written() }
    }

    fn written(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The account as if it had no credentials. Merged with it, that changes none.
    pub(super) fn bare(&self) -> Self {
        let credentials = Credentials { resets: self.credentials.resets, ..Credentials::default() };
        let mut bare = Self { credentials, ..self.clone() };
        bare.forget_ways();
        bare
    }

    /// Whether it may grow to this at one node.
    pub(super) fn is_small(&self) -> bool {
        // What a password must name is not what somebody added.
        let named = self.credentials.password.1.as_ref().map_or(0, |password| password.heeds.len());
        self.without_ways().len() <= GROWN_BYTES_MAX + named * HEEDED_BYTES
    }

    /// Whether it may become this by what others tell.
    pub(super) fn is_bounded(&self) -> bool {
        self.without_ways().len() <= ACCOUNT_BYTES_MAX && self.shut.could_be()
    }

    /// Reads what another node told. Whatever could not have been written by one is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > TOLD_BYTES_MAX {
            return Err("an account is too large");
        }
        let account: Self = serde_json::from_slice(bytes).map_err(|_| "an account cannot be understood")?;
        account.check()?;
        Ok(account)
    }

    fn check(&self) -> Result<(), &'static str> {
        let Credentials { password, passkeys, gone_passkeys, tokens, gone_tokens, .. } = &self.credentials;
        let hex = |text: &String, chars: usize| is_hex(text, chars);
        let Born { at_ms: _, name, by, on, salt, subject } = &self.born;
        let texts = by.len() + on.len() + salt.len() + subject.len();
        let plain = [by, on, salt, subject].iter().all(|text| !text.contains(char::is_control));
        if !hex(&self.id, 32) || !valid_name(name) || texts > BORN_BYTES_MAX || !plain {
            return Err("an account has no name that could be one");
        }
        // Nodes of before drop the subject of somebody of a provider; of whom it is, is known where he is.
        let provided = !subject.is_empty() || (salt.is_empty() && by.starts_with(PROVIDER));
        if self.born.is_proven() && self.born.id() != self.id || provided != by.starts_with(PROVIDER) {
            return Err("an account was born otherwise");
        }
        if !self.via.values().flatten().all(|teller| hex(teller, 32)) {
            return Err("an account came by ways that cannot be");
        }
        if !self.shut.could_be() {
            return Err("an account was kept out by more nodes than there can be");
        }
        let parts = [passkeys.len(), tokens.len(), gone_passkeys.len(), gone_tokens.len()];
        let apps = self.apps.1.len() <= OPERATOR_APPS_MAX
            && self.apps.1.iter().all(|app| app.len() <= APP_BYTES_MAX);
        if parts.iter().any(|count| *count > 4 * PARTS_MAX) || !apps {
            return Err("an account has more than it may have");
        }
        let recovery = password.1.iter().flat_map(|password| &password.recovery);
        let heeds = password.1.iter().flat_map(|password| &password.heeds);
        let hashes = tokens.keys().chain(gone_tokens.keys()).chain(recovery).all(|hash| hex(hash, 64));
        let named = tokens.values().all(|token| valid_name(&token.name));
        let heeded = heeds.clone().all(|id| hex(id, 16)) && heeds.count() <= HEEDED_MAX;
        if !hashes || !named || !heeded || !gone_passkeys.iter().all(|hash| hex(hash, 32)) {
            return Err("an account has a credential that could not be one");
        }
        Ok(())
    }

    /// Whether it was changed no more often than once in each millisecond until now, by a clock that may be a day behind. A count that a
    /// thief raised to the end is soon one that others can raise again.
    pub(super) fn counts_could_be(&self, now_ms: u64) -> bool {
        let Credentials { resets, password, .. } = &self.credentials;
        let most = now_ms.saturating_add(COUNTS_AHEAD);
        [self.shut.most(), self.role.0, self.apps.0, *resets, password.0].iter().all(|count| *count <= most)
    }

    /// Makes this account what both are together. `other` is the same account elsewhere.
    pub(super) fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.id, other.id, "one account");
        // A birth that the id proves comes before one that anybody may have made up; of two alike in that all keep the same.
        let birth = |one: &Self| (!one.born.is_proven(), one.born.clone());
        if birth(other) < birth(self) {
            self.born = other.born.clone();
        }
        if self.removed {
            self.removed_at_ms = self.removed_at_ms.max(other.removed_at_ms);
            return;
        }
        if other.removed {
            return self.remove(other.removed_at_ms);
        }
        self.merge_shut(other);
        let rights = |one: &Self| (!one.role_lost, one.role.0, std::cmp::Reverse(one.role.1));
        if rights(other) > rights(self) {
            (self.role, self.role_lost) = (other.role, other.role_lost);
            self.came(ROLE, other);
        }
        // Of two that were set apart some apps over all.
        let narrower = |one: &Self| (!one.apps_lost, one.apps.0, !one.apps.1.is_empty());
        if (narrower(other), &other.apps.1) > (narrower(self), &self.apps.1) {
            (self.apps, self.apps_lost) = (other.apps.clone(), other.apps_lost);
            self.came(APPS, other);
        }
        self.merge_credentials(other);
    }

    /// Who let its owner in is remembered for each place that had kept him out.
    fn merge_shut(&mut self, other: &Self) {
        let before: BTreeMap<String, u64> =
            self.shut.answered().map(|(place, upto)| (place.to_owned(), upto)).collect();
        self.shut.merge(&other.shut);
        let after = self.shut.answered();
        let news = after.filter(|(place, upto)| before.get(*place).is_none_or(|before| before < upto));
        let came: Vec<String> = news.map(|(place, _)| shut_part(place)).collect();
        came.iter().for_each(|part| self.came(part, other));
    }

    fn merge_credentials(&mut self, other: &Self) {
        let (own, theirs) = (&self.credentials, &other.credentials);
        let anew = theirs.resets > own.resets;
        let mut came = Vec::new();
        if own.resets <= theirs.resets {
            let passkeys = theirs.passkeys.keys().filter(|id| anew || !own.passkeys.contains_key(*id));
            came.extend(passkeys.map(|id| passkey_part(id)));
            let tokens = theirs.tokens.keys().filter(|hash| anew || !own.tokens.contains_key(*hash));
            came.extend(tokens.map(|hash| token_part(hash)));
            let password = anew || theirs.password.0 > own.password.0;
            came.extend(password.then(|| PASSWORD.to_owned()));
        }
        self.credentials.merge(theirs);
        came.iter().for_each(|part| self.came(part, other));
        self.forget_ways();
    }

    /// All is gone but that it was there, or it would come back from a node that did not hear of its end.
    pub(super) fn remove(&mut self, at_ms: u64) {
        let (id, born) = (std::mem::take(&mut self.id), self.born.clone());
        let gone = Self::new(id, born, Role::Viewer, Vec::new());
        // By whose word there was such an account stays: an end that was made up is forgotten with who made it up.
        let via = self.via.remove_entry(BORN).into_iter().collect();
        *self = Self { removed: true, removed_at_ms: at_ms, via, ..gone };
    }

    /// Whether it was removed so long ago that no node comes back that did not hear of it. Somebody of a provider comes back whenever.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        let over = self.removed_at_ms > 0 && now_ms > self.removed_at_ms.saturating_add(REMOVED_MS);
        self.removed && over && !self.is_provided()
    }

    /// Changes what its owner may do, as somebody says who sees what it is.
    pub(super) fn change(
        &mut self,
        role: Option<Role>,
        apps: Option<Vec<String>>,
        out: Option<bool>,
        here: &str,
    ) {
        match out {
            Some(true) => self.shut.shut(here),
            Some(false) => {
                self.shut.open();
                self.via.retain(|part, _| !part.starts_with(SHUT));
            }
            None => {}
        }
        // Whoever lets him in stands for the rest as it is shown; who says one thing of him, for that.
        let confirms = out == Some(false);
        if confirms || (out.is_none() && (role.is_some() || apps.is_some())) {
            self.via.remove(BORN);
            self.doubtful = false;
        }
        if let Some(role) = role.or_else(|| (confirms && self.role_lost).then_some(self.role.1)) {
            (self.role, self.role_lost) = ((self.role.0.saturating_add(1), role), false);
            self.via.remove(ROLE);
        }
        if let Some(apps) = apps.or_else(|| (confirms && self.apps_lost).then(|| self.apps.1.clone())) {
            (self.apps, self.apps_lost) = ((self.apps.0.saturating_add(1), apps), false);
            self.via.remove(APPS);
        }
    }

    /// Begins anew, without any credential.
    pub(super) fn reset(&mut self) {
        self.credentials.reset();
        self.forget_ways();
    }

    /// Takes the password with its app in place of what was there.
    pub(super) fn set_password(&mut self, password: Password) {
        self.credentials.set_password(password);
        self.via.remove(PASSWORD);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.removed || self.shut.is_out() || self.role_lost || self.apps_lost
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
            given_name: self.born.name.clone(),
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
        let rights = (self.removed, &self.shut, &self.role, self.role_lost, &self.apps, self.apps_lost);
        let all = (rights, resets, password, gone_passkeys, self.doubts);
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

impl Key {
    /// Whether it is the same key, used more or less.
    fn is_like(&self, other: &Self) -> bool {
        *self == Self { signed: self.signed, used_at_ms: self.used_at_ms, ..other.clone() }
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
            (known.signed, known.used_at_ms) =
                (known.signed.max(key.signed), known.used_at_ms.max(key.used_at_ms));
            if !known.is_like(key) {
                // Two of one name, of which one was made up: neither counts.
                self.gone_passkeys.insert(short(id));
            }
        }
        for (hash, ends) in &other.gone_tokens {
            let known = self.gone_tokens.entry(hash.clone()).or_insert(*ends);
            *known = (*known).max(*ends);
        }
        for (hash, token) in &other.tokens {
            let known = self.tokens.entry(hash.clone()).or_insert_with(|| token.clone());
            if token != known {
                let ends = self.gone_tokens.entry(hash.clone()).or_default();
                *ends = (*ends).max(known.expires_at_ms).max(token.expires_at_ms);
            }
        }
        self.end_what_is_gone();
    }

    /// What is gone is not there as well.
    pub(super) fn end_what_is_gone(&mut self) {
        let Self { passkeys, gone_passkeys, tokens, gone_tokens, .. } = self;
        passkeys.retain(|id, _| !gone_passkeys.contains(&short(id)));
        tokens.retain(|hash, _| !gone_tokens.contains_key(hash));
    }

    fn reset(&mut self) {
        *self = Self { resets: self.resets.saturating_add(1), ..Self::default() };
    }

    fn set_password(&mut self, password: Password) {
        self.password = (self.password.0.saturating_add(1), Some(password));
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

    /// Ends a passkey. `only_way`: its owner needs a credential to get in.
    pub(super) fn end_passkey(&mut self, id: &str, only_way: bool) -> Result<(), OperatorFault> {
        if !self.passkeys.contains_key(id) {
            return Err(OperatorFault::Unknown);
        }
        if only_way && self.passkeys.len() == 1 && self.password.1.is_none() {
            return Err(OperatorFault::Last);
        }
        self.passkeys.remove(id);
        self.gone_passkeys.insert(short(id));
        Ok(())
    }

    pub(super) fn add_token(&mut self, hash: [u8; 32], token: OperatorToken) -> Result<(), OperatorFault> {
        // Those whose time is over make room, and give back their names.
        let now_ms = token.created_at_ms;
        self.trim(now_ms);
        let over = self.tokens.extract_if(.., |_, other| other.expires_at_ms <= now_ms);
        self.gone_tokens.extend(over.map(|(hash, other)| (hash, other.expires_at_ms)));
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

/// Of two the one that was set later in the account's own count. Of two that were set apart neither, as if one was made void. What was
/// spent of one password stays spent.
fn merge_passwords(own: &mut (u64, Option<Password>), other: &(u64, Option<Password>)) {
    match other.0.cmp(&own.0) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Greater => *own = other.clone(),
        std::cmp::Ordering::Equal => match (&mut own.1, &other.1) {
            (Some(own), Some(other)) if own.hash == other.hash && own.totp == other.totp => {
                own.step = own.step.max(other.step);
                own.recovery.retain(|code| other.recovery.contains(code));
                own.heeds.retain(|id| other.heeds.contains(id));
            }
            _ => own.1 = None,
        },
    }
}

/// What stands for the name of a passkey that is gone.
pub(super) fn short(id: &str) -> String {
    let digest = sha256(id.as_bytes());
    hex(digest.first_chunk::<16>().map_or(&[], |short| short.as_slice()))
}

/// Whether a text is so many digits.
pub(super) fn is_hex(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// The hash of a recovery code, however it was typed.
pub(super) fn recovery_hash(code: &str) -> String {
    let normal: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    hex(&sha256(normal.to_lowercase().as_bytes()))
}

/// Largest account that is told and taken, with the ways that its parts came: in base64, sealed and signed, it is smaller than the largest
/// record.
const TOLD_BYTES_MAX: usize = 46 * 1024;
/// Largest account that is kept, without these ways: they take less than the rest up to there, so that it is told whole.
const ACCOUNT_BYTES_MAX: usize = 38 * 1024;
/// Longest name of an app.
const APP_BYTES_MAX: usize = 128;
/// Up to where an account may grow at one node. Those that grew apart can be more together.
const GROWN_BYTES_MAX: usize = 24 * 1024;
/// Passkeys, and tokens, that an account has and remembers, since its last reset. What nodes made apart can be more.
const PARTS_MAX: usize = 128;
/// How an account was born, without its name.
const BORN_BYTES_MAX: usize = 384;
/// A day: clocks of nodes differ by less, or they do not believe each other.
pub(super) const COUNTS_AHEAD: u64 = 24 * 60 * 60_000;
/// Revocations that a password names at most: of as many nodes as a fleet has, and of as many that nobody knows. That is 10 KiB.
pub(super) const HEEDED_MAX: usize = 512;
/// One of them, written.
const HEEDED_BYTES: usize = 19;
/// How long a removal is remembered: certificates of nodes end long before.
const REMOVED_MS: u64 = 400 * 24 * 60 * 60_000;
const TRIMMED_AFTER_MS: u64 = 24 * 60 * 60_000;
