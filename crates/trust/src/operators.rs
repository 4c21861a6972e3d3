//! Operators: who may act on a node, in what role, and how each proves who he is.
//!
//! One sealed file that each change replaces whole. What leaves this module as [`Operator`] holds no secret.
//!
//! INVARIANT: nothing here says yes to a password alone, and no one-time code, recovery code or signature counts twice.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_model::limits::{OPERATOR_TOKENS_MAX, OPERATORS_MAX, PASSKEYS_MAX};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::passkey::{MadePasskey, PasskeyPublic, counts_on};
use crate::{PasswordHash, Sealer, TotpSecret, TrustError, private_file, random_bytes, sha256};

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
    /// Grows with each change of what he may do and each loss of his credentials, so that what was begun before is not ended after.
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
    /// Whether he can get in by himself.
    pub fn is_enrolled(&self) -> bool {
        self.password || !self.passkeys.is_empty()
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] TrustError),
}

/// The operators of a node.
pub struct Operators {
    path: PathBuf,
    sealer: Arc<Sealer>,
    table: Mutex<Vec<Kept>>,
    nobody: PasswordHash,
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operators({})", self.locked().len())
    }
}

impl Operators {
    /// Reads them; without a file there are none.
    pub fn load(path: &Path, sealer: Arc<Sealer>) -> Result<Self, TrustError> {
        let table = match private_file::read(path, FILE_BYTES_MAX)? {
            None => Vec::new(),
            Some(sealed) => {
                let plain = Zeroizing::new(sealer.open(CONTEXT, &sealed)?);
                let fix = "restore it from a backup, or remove it and add the operators anew";
                let file: File = serde_json::from_slice(&plain)
                    .map_err(|error| TrustError::file(path, format!("cannot be understood: {error}"), fix))?;
                if file.version != VERSION {
                    return Err(TrustError::file(path, "has an unknown version", fix));
                }
                file.operators
            }
        };
        let nobody = PasswordHash::of_nobody();
        Ok(Self { path: path.to_owned(), sealer, table: Mutex::new(table), nobody })
    }

    /// All, in the order in which they were added.
    pub fn list(&self) -> Vec<Operator> {
        self.locked().iter().map(Kept::facts).collect()
    }

    /// One by his id.
    pub fn get(&self, id: &str) -> Option<Operator> {
        self.locked().iter().find(|one| one.operator.id == id).map(Kept::facts)
    }

    /// One by his name.
    pub fn named(&self, name: &str) -> Option<Operator> {
        self.locked().iter().find(|one| one.operator.name == name).map(Kept::facts)
    }

    /// Adds one, without credentials.
    pub fn add(&self, new: NewOperator, now_ms: u64) -> Result<Operator, OperatorFault> {
        let operator = Operator {
            id: data_encoding::HEXLOWER.encode(&random_bytes::<16>()),
            name: new.name,
            role: new.role,
            apps: new.apps,
            created_at_ms: now_ms,
            created_by: new.by,
            disabled: false,
            generation: 0,
            passkeys: Vec::new(),
            tokens: Vec::new(),
            password: false,
            recovery_codes: 0,
        };
        let added = operator.clone();
        self.write_with(|table| {
            if table.iter().any(|one| one.operator.name == operator.name) {
                return Err(OperatorFault::Exists);
            }
            if table.len() >= OPERATORS_MAX {
                return Err(OperatorFault::TooMany);
            }
            table.push(Kept { operator, ..Kept::default() });
            Ok(())
        })?;
        Ok(added)
    }

    /// Changes role, scope or whether he is kept out.
    pub fn change(&self, id: &str, change: OperatorChange, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |table| {
            let operator = &mut find(table, id)?.operator;
            operator.generation = operator.generation.wrapping_add(1);
            operator.role = change.role.unwrap_or(operator.role);
            operator.disabled = change.disabled.unwrap_or(operator.disabled);
            if let Some(apps) = change.apps {
                operator.apps = apps;
            }
            Ok(())
        })
    }

    /// Takes all credentials and tokens away.
    pub fn reset(&self, id: &str, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |table| {
            let one = find(table, id)?;
            let mut operator = std::mem::take(one).operator;
            operator.passkeys.clear();
            operator.tokens.clear();
            operator.generation = operator.generation.wrapping_add(1);
            one.operator = operator;
            Ok(())
        })
    }

    /// Removes him.
    pub fn remove(&self, id: &str, by: By) -> Result<(), OperatorFault> {
        self.rule_over(by, |table| {
            let place = table.iter().position(|one| one.operator.id == id).ok_or(OperatorFault::Unknown)?;
            table.remove(place);
            Ok(())
        })
    }

    /// Gives him a password with an app for one-time codes, in place of those before; answers with his recovery codes, which are
    /// told once. `whose` is the account as it was when he proved who he is.
    pub fn set_password(
        &self,
        whose: &Operator,
        password: &PasswordHash,
        (totp, step): (&TotpSecret, u64),
    ) -> Result<Vec<String>, OperatorFault> {
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        self.write_with(|table| {
            let one = find_same(table, whose)?;
            one.password = Some((password.clone(), totp.clone()));
            one.totp_step = step;
            one.recovery = codes.iter().map(|code| sha256(normal(code).as_bytes())).collect();
            Ok(())
        })?;
        Ok(codes)
    }

    /// Who has this name and password and this one-time or recovery code. Hashes once whatever the name; for a thread that may
    /// take its time.
    pub fn by_password(&self, name: &str, password: &str, code: &str, now_ms: u64) -> Option<Arc<str>> {
        let found =
            self.locked().iter().find(|one| one.operator.name == name && !one.operator.disabled).cloned();
        let kept = found.as_ref().and_then(|one| one.password.as_ref().map(|(hash, _)| hash.clone()));
        let fits = kept.as_ref().unwrap_or(&self.nobody).matches(password);
        let (hash, one) = (kept?, found?);
        if !fits {
            return None;
        }
        let id: Arc<str> = one.operator.id.as_str().into();
        let spent = self.change_one(&id, |one| {
            // Whoever was reset or kept out while his password was hashed does not get in by what he had.
            let current = one.password.as_ref().is_some_and(|(now, _)| *now == hash);
            if !current || one.operator.disabled {
                return Err(OperatorFault::Unknown);
            }
            one.spend_code(code, now_ms).or_else(|_| one.spend_recovery(code))
        });
        said(spent).then_some(id)
    }

    /// Whether this is his one-time code; it counts once.
    pub fn proves(&self, id: &str, code: &str, now_ms: u64) -> bool {
        said(self.change_one(id, |one| one.spend_code(code, now_ms)))
    }

    /// Keeps a passkey for him. `whose` is the account as it was when he proved who he is.
    pub fn add_passkey(
        &self,
        whose: &Operator,
        made: MadePasskey,
        passkey: (String, String),
        now_ms: u64,
    ) -> Result<(), OperatorFault> {
        let name = crate::passkey::base64url(&made.id);
        self.write_with(|table| {
            if table.iter().any(|one| one.operator.passkeys.iter().any(|key| key.id == name)) {
                return Err(OperatorFault::Exists);
            }
            let one = find_same(table, whose)?;
            if one.operator.passkeys.len() >= PASSKEYS_MAX {
                return Err(OperatorFault::TooMany);
            }
            let (label, host) = passkey;
            let created_at_ms = now_ms;
            one.operator.passkeys.push(Passkey { id: name, label, host, created_at_ms, used_at_ms: 0 });
            one.keys.push((made.public, made.signed));
            Ok(())
        })
    }

    /// Ends a passkey of his, unless he has nothing else to get in with.
    pub fn delete_passkey(&self, id: &str, passkey: &str) -> Result<(), OperatorFault> {
        self.change_one(id, |one| {
            let keys = &one.operator.passkeys;
            let place = keys.iter().position(|key| key.id == passkey).ok_or(OperatorFault::Unknown)?;
            if keys.len() == 1 && one.password.is_none() {
                return Err(OperatorFault::Last);
            }
            one.operator.passkeys.remove(place);
            one.keys.remove(place);
            Ok(())
        })
    }

    /// The key of this name, of somebody who may get in.
    pub fn passkey(&self, passkey: &str, host: &str) -> Option<PresentedPasskey> {
        self.locked().iter().filter(|one| !one.operator.disabled).find_map(|one| {
            let place = one.operator.passkeys.iter().position(|key| key.id == passkey && key.host == host)?;
            let (public, signed) = one.keys.get(place)?.clone();
            Some(PresentedPasskey { operator: one.operator.id.as_str().into(), public, signed })
        })
    }

    /// Notes that a passkey of his has signed, unless it is gone meanwhile.
    pub fn passkey_signed(
        &self,
        id: &str,
        passkey: &str,
        signed: u32,
        now_ms: u64,
    ) -> Result<(), OperatorFault> {
        self.change_one(id, |one| {
            if one.operator.disabled {
                return Err(OperatorFault::Unknown);
            }
            let mut pairs = one.operator.passkeys.iter_mut().zip(one.keys.iter_mut());
            let (facts, (_, count)) =
                pairs.find(|(facts, _)| facts.id == passkey).ok_or(OperatorFault::Unknown)?;
            // Another signature may have been noted since this one was looked at.
            if !counts_on(*count, signed) {
                return Err(OperatorFault::Unknown);
            }
            facts.used_at_ms = now_ms;
            *count = signed;
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
        self.write_with(|table| {
            let one = find_same(table, whose)?;
            let (operator, hashes) = (&mut one.operator, &mut one.token_hashes);
            if operator.tokens.iter().any(|other| other.name == token.name) {
                return Err(OperatorFault::Exists);
            }
            if operator.tokens.len() >= OPERATOR_TOKENS_MAX {
                return Err(OperatorFault::TooMany);
            }
            operator.tokens.push(token);
            hashes.push(sha256(text.as_bytes()));
            Ok(())
        })?;
        Ok(text)
    }

    /// Ends a token of his.
    pub fn delete_token(&self, id: &str, name: &str) -> Result<(), OperatorFault> {
        self.change_one(id, |one| {
            let tokens = &one.operator.tokens;
            let place = tokens.iter().position(|token| token.name == name).ok_or(OperatorFault::Unknown)?;
            one.operator.tokens.remove(place);
            one.token_hashes.remove(place);
            Ok(())
        })
    }

    /// Whom this token acts for, and what it is. All are compared, each in constant time.
    pub fn by_token(&self, presented: &str, now_ms: u64) -> Option<(Operator, OperatorToken)> {
        let hash = sha256(presented.as_bytes());
        let table = self.locked();
        let mut found = None;
        for one in table.iter() {
            for (token, kept) in one.operator.tokens.iter().zip(&one.token_hashes) {
                if bool::from(kept.ct_eq(&hash)) && now_ms < token.expires_at_ms && !one.operator.disabled {
                    found = Some((one.facts(), token.clone()));
                }
            }
        }
        found
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_one(
        &self,
        id: &str,
        change: impl FnOnce(&mut Kept) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        self.write_with(|table| change(find(table, id)?))
    }

    /// Changes what operators may do; one of them must leave an owner who can get in.
    fn rule_over(
        &self,
        by: By,
        change: impl FnOnce(&mut Vec<Kept>) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        self.write_with(|table| {
            let before = table.iter().any(Kept::rules);
            change(table)?;
            let lost = before && !table.iter().any(Kept::rules);
            if lost && by == By::Operator { Err(OperatorFault::LastOwner) } else { Ok(()) }
        })
    }

    /// Changes a copy, writes it, and puts it into force: a change that is not on disk has not been made.
    fn write_with(
        &self,
        change: impl FnOnce(&mut Vec<Kept>) -> Result<(), OperatorFault>,
    ) -> Result<(), OperatorFault> {
        let mut table = self.locked();
        let mut next = table.clone();
        change(&mut next)?;
        let file = File { version: VERSION, operators: next };
        let plain = serde_json::to_vec(&file).map_err(|_| TrustError::Crypto("writing operators"))?;
        let sealed = self.sealer.seal(CONTEXT, &Zeroizing::new(plain))?;
        // What could not be read again must not be written: the node would not start.
        if sealed.len() > FILE_BYTES_MAX {
            return Err(OperatorFault::TooMany);
        }
        private_file::replace(&self.path, &sealed)?;
        *table = file.operators;
        Ok(())
    }
}

/// Begins every token that acts for an operator, so that scanners find one that was published.
pub const TOKEN_PREFIX: &str = "phalanx_";

/// One operator with what is secret. Keys and hashes stand in the order of the facts about them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    operator: Operator,
    password: Option<(PasswordHash, TotpSecret)>,
    totp_step: u64,
    recovery: Vec<[u8; 32]>,
    keys: Vec<(PasskeyPublic, u32)>,
    token_hashes: Vec<[u8; 32]>,
}

impl Kept {
    fn facts(&self) -> Operator {
        let (password, recovery_codes) = (self.password.is_some(), self.recovery.len());
        Operator { password, recovery_codes, ..self.operator.clone() }
    }

    /// Whether he is an owner of everything who can get in.
    fn rules(&self) -> bool {
        let operator = self.facts();
        operator.role == Role::Owner
            && operator.apps.is_empty()
            && !operator.disabled
            && operator.is_enrolled()
    }

    fn spend_code(&mut self, code: &str, now_ms: u64) -> Result<(), OperatorFault> {
        let step = self.password.as_ref().and_then(|(_, totp)| totp.step_of(code, now_ms, self.totp_step));
        self.totp_step = step.ok_or(OperatorFault::Unknown)?;
        Ok(())
    }

    fn spend_recovery(&mut self, code: &str) -> Result<(), OperatorFault> {
        let hash = sha256(normal(code).as_bytes());
        let place = self.recovery.iter().position(|kept| kept.ct_eq(&hash).into());
        self.recovery.remove(place.ok_or(OperatorFault::Unknown)?);
        Ok(())
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            role: Role::Viewer,
            apps: Vec::new(),
            created_at_ms: 0,
            created_by: String::new(),
            disabled: true,
            generation: 0,
            passkeys: Vec::new(),
            tokens: Vec::new(),
            password: false,
            recovery_codes: 0,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    operators: Vec<Kept>,
}

fn find<'a>(table: &'a mut [Kept], id: &str) -> Result<&'a mut Kept, OperatorFault> {
    table.iter_mut().find(|one| one.operator.id == id).ok_or(OperatorFault::Unknown)
}

/// The account, unless it was disabled, reset or changed since it was as in `whose`.
fn find_same<'a>(table: &'a mut [Kept], whose: &Operator) -> Result<&'a mut Kept, OperatorFault> {
    let one = find(table, &whose.id)?;
    let same = one.operator.generation == whose.generation && !one.operator.disabled;
    if same { Ok(one) } else { Err(OperatorFault::Changed) }
}

/// Whether a code was spent. One that cannot be written as spent does not count.
fn said(spent: Result<(), OperatorFault>) -> bool {
    spent.is_ok()
}

/// 80 random bits in four groups.
fn recovery_code() -> String {
    let text = data_encoding::BASE32_NOPAD.encode(&random_bytes::<10>()).to_lowercase();
    let groups: Vec<&str> = (0..4).filter_map(|n| text.get(n * 4..n * 4 + 4)).collect();
    groups.join("-")
}

/// A recovery code however it was typed.
fn normal(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).take(64).collect::<String>().to_lowercase()
}

const CONTEXT: &str = "operators 1";
const VERSION: u32 = 1;
const RECOVERY_CODES: usize = 10;
/// Operators with keys, tokens and a few apps each are a quarter of this; what would be more is refused.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
