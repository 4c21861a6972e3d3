//! What identity providers sign (OpenID Connect): their keys, and what an ID token says once it is believed.
//!
//! No clock and no IO: bytes and the time come in, claims or a fault go out. A signature is checked by `jsonwebtoken` on aws-lc-rs; what a
//! token must say is checked here, because time and nonce are ours to know.
//!
//! INVARIANT: four algorithms count, each with keys of its own kind. Neither `none` nor a shared secret is one of them, so that a public
//! key cannot be taken for a secret.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

/// Why keys or a token are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is larger than any is.
    #[error("the token is too large")]
    Size,
    /// It is no token, or its claims are not of the kinds that they must be.
    #[error("the token cannot be understood")]
    Form,
    /// It is signed in a way that does not count.
    #[error("the token is signed by an algorithm other than RS256, PS256, ES256 and EdDSA")]
    Algorithm,
    /// No key of the provider's has its name.
    #[error("the token is signed by a key that the provider does not publish")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Somebody else issued it.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another client")]
    Audience,
    /// It is not of this login.
    #[error("the token is not of this login: its nonce is another")]
    Nonce,
    /// Its time is over.
    #[error("the token's time is over, or this machine's clock is ahead")]
    Expired,
    /// Its time has not come.
    #[error("the token's time has not come, or this machine's clock is behind")]
    Early,
    /// It does not say who it is about.
    #[error("the token does not say who it is about")]
    Subject,
    /// The set of keys cannot be read.
    #[error("the provider's keys cannot be understood")]
    Keys,
    /// The set holds none that could be used.
    #[error("the provider publishes no key for RS256, PS256, ES256 or EdDSA")]
    NoKeys,
}

/// The keys that a provider signs with.
pub struct KeySet(Vec<Key>);

struct Key {
    name: Option<String>,
    /// What it may have signed.
    signs: Vec<Algorithm>,
    key: DecodingKey,
}

/// What a token must be to count.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The provider, as the settings name it.
    pub issuer: &'a str,
    /// Whom the token must be for.
    pub client: &'a str,
    /// What this login alone has asked with.
    pub nonce: &'a str,
    /// The time.
    pub now_ms: u64,
}

/// What an ID token says, once it is believed.
#[derive(Debug, Clone, PartialEq)]
pub struct IdToken {
    /// Who it is about: never given to another by this issuer.
    pub subject: String,
    /// When he proved himself to the provider, in Unix milliseconds; none if it does not say.
    pub proved_at_ms: Option<u64>,
    /// All that it says.
    pub claims: Map<String, Value>,
}

impl KeySet {
    /// Reads a JWK set (RFC 7517). Keys for other uses and of other kinds are passed over.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenFault> {
        if bytes.len() > KEYS_BYTES_MAX {
            return Err(TokenFault::Size);
        }
        let set: RawSet = serde_json::from_slice(bytes).map_err(|_| TokenFault::Keys)?;
        if set.keys.len() > KEYS_MAX {
            return Err(TokenFault::Keys);
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err(TokenFault::NoKeys) } else { Ok(Self(keys)) }
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Believes a token, or says why not.
    pub fn believe(&self, token: &str, expected: Expected<'_>) -> Result<IdToken, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::Size);
        }
        check_claims(self.signed(token)?, expected)
    }

    /// The claims of a token that one of the keys has signed.
    fn signed(&self, token: &str) -> Result<Map<String, Value>, TokenFault> {
        // A head that names another algorithm than those that the library knows is none that it can read.
        let head = decode_header(token).map_err(|_| match algorithm_of(token) {
            Some(_) => TokenFault::Algorithm,
            None => TokenFault::Form,
        })?;
        if !ALGORITHMS.contains(&head.alg) {
            return Err(TokenFault::Algorithm);
        }
        // An extension that must be understood is not (RFC 7515 section 4.1.11).
        if head.crit.is_some() {
            return Err(TokenFault::Form);
        }
        let mut fitting = self.0.iter().filter(|key| key.signs.contains(&head.alg));
        let key = match &head.kid {
            Some(name) => fitting.find(|key| key.name.as_ref() == Some(name)),
            // Without a name there must be no choice.
            None => fitting.next().filter(|_| fitting.next().is_none()),
        };
        let key = key.ok_or(TokenFault::UnknownKey)?;
        // Times and audience are checked by `check_claims`: the library would ask its own clock.
        let mut only = Validation::new(head.alg);
        only.required_spec_claims.clear();
        (only.validate_exp, only.validate_nbf, only.validate_aud) = (false, false, false);
        let read = decode::<Map<String, Value>>(token, &key.key, &only);
        read.map(|read| read.claims).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::Json(_) => TokenFault::Form,
            _ => TokenFault::Signature,
        })
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({})", self.0.len())
    }
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let raw: RawKey = serde_json::from_value(value).ok()?;
        if raw.r#use.as_deref().is_some_and(|used| used != "sig") {
            return None;
        }
        let (key, signs) = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => {
                let key = DecodingKey::from_rsa_components(raw.n.as_deref()?, raw.e.as_deref()?);
                (key, vec![Algorithm::RS256, Algorithm::PS256])
            }
            ("EC", Some("P-256")) => {
                let key = DecodingKey::from_ec_components(raw.x.as_deref()?, raw.y.as_deref()?);
                (key, vec![Algorithm::ES256])
            }
            ("OKP", Some("Ed25519")) => {
                (DecodingKey::from_ed_components(raw.x.as_deref()?), vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        // A key that says what it is for is for nothing else.
        let signs: Vec<Algorithm> = match raw.alg {
            Some(said) => signs.into_iter().filter(|one| format!("{one:?}") == said).collect(),
            None => signs,
        };
        (!signs.is_empty()).then_some(Self { name: raw.kid, signs, key: key.ok()? })
    }
}

/// The algorithm that a token's head names, whatever it is.
fn algorithm_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        alg: String,
    }
    let head = token.split('.').next()?;
    let bytes = data_encoding::BASE64URL_NOPAD.decode(head.as_bytes()).ok()?;
    serde_json::from_slice::<Head>(&bytes).ok().map(|head| head.alg)
}

/// OpenID Connect Core, section 3.1.3.7, and stricter where it leaves a choice.
fn check_claims(claims: Map<String, Value>, expected: Expected<'_>) -> Result<IdToken, TokenFault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenFault::Issuer);
    }
    let (ours, others) = match claims.get("aud") {
        Some(Value::String(one)) => (one == expected.client, false),
        Some(Value::Array(some)) => {
            (some.iter().any(|one| one.as_str() == Some(expected.client)), some.len() > 1)
        }
        _ => return Err(TokenFault::Audience),
    };
    // Whom it was made for: said where there is a choice, and ours wherever it is said.
    let party = match claims.get("azp") {
        None => !others,
        Some(party) => party.as_str() == Some(expected.client),
    };
    if !ours || !party {
        return Err(TokenFault::Audience);
    }
    let nonce = text("nonce").unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) || expected.nonce.is_empty() {
        return Err(TokenFault::Nonce);
    }
    check_times(&claims, expected.now_ms)?;
    let proved_at_ms = match claims.get("auth_time") {
        None | Some(Value::Null) => None,
        Some(_) => Some(time_ms(&claims, "auth_time").ok_or(TokenFault::Form)?),
    };
    // It would be a fresh second factor for as long as it is ahead.
    if proved_at_ms.is_some_and(|at_ms| at_ms > expected.now_ms.saturating_add(LEEWAY_MS)) {
        return Err(TokenFault::Early);
    }
    let subject = text("sub").filter(|subject| (1..=SUBJECT_BYTES_MAX).contains(&subject.len()));
    let subject = subject.ok_or(TokenFault::Subject)?.to_owned();
    Ok(IdToken { subject, proved_at_ms, claims })
}

fn check_times(claims: &Map<String, Value>, now_ms: u64) -> Result<(), TokenFault> {
    let ends_ms = time_ms(claims, "exp").ok_or(TokenFault::Form)?;
    let made_ms = time_ms(claims, "iat").ok_or(TokenFault::Form)?;
    if now_ms >= ends_ms.saturating_add(LEEWAY_MS) || now_ms >= made_ms.saturating_add(AGE_MAX_MS + LEEWAY_MS)
    {
        return Err(TokenFault::Expired);
    }
    let not_before_ms = match claims.get("nbf") {
        None => 0,
        Some(_) => time_ms(claims, "nbf").ok_or(TokenFault::Form)?,
    };
    if made_ms.max(not_before_ms) > now_ms.saturating_add(LEEWAY_MS) {
        return Err(TokenFault::Early);
    }
    Ok(())
}

/// A time in whole seconds, as milliseconds.
fn time_ms(claims: &Map<String, Value>, name: &str) -> Option<u64> {
    claims.get(name)?.as_u64()?.checked_mul(1_000)
}

/// What counts. Shared secrets do not, nor does `none`.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
/// Largest set of keys: a dozen with their certificates has 40 KiB.
pub const KEYS_BYTES_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 64;
/// Largest ID token: one with 200 groups has 10 KiB.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// OpenID Connect Core, section 2.
const SUBJECT_BYTES_MAX: usize = 255;
/// How far the clocks of provider and node may differ.
pub const LEEWAY_MS: u64 = 60_000;
/// How old a token may be that was asked for just now.
const AGE_MAX_MS: u64 = 10 * 60_000;

#[cfg(test)]
mod tests;
