//! Passkeys (W3C Web Authentication, level 2): what a browser's authenticator says, checked.
//!
//! Only what is needed: no attestation, ES256 and EdDSA, user verification always. The public key stands in the authenticator's
//! data in the canonical CBOR form of CTAP2, so it is compared with the two forms there are, and no CBOR is parsed.
//!
//! INVARIANT: a challenge counts once, for one purpose, for five minutes; a key counts for the host it was made for.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{random_bytes, sha256};

/// A public key of an authenticator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasskeyPublic {
    /// ECDSA on P-256 with SHA-256: the point, uncompressed.
    Es256(Vec<u8>),
    /// Ed25519.
    EdDsa(Vec<u8>),
}

/// A key that an authenticator made for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadePasskey {
    /// The authenticator's name for it.
    pub id: Vec<u8>,
    /// The key.
    pub public: PasskeyPublic,
    /// How often it has signed, as the authenticator counts; 0 of one that does not.
    pub signed: u32,
}

/// Why what a browser said does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyFault {
    /// The browser's data is malformed, or for another origin or purpose.
    #[error("the browser's data is malformed, or made for another page")]
    ClientData,
    /// The challenge is over, spent, or none of ours.
    #[error("the challenge is over or was used; begin again")]
    Challenge,
    /// The authenticator's data is malformed or made for another host.
    #[error("the authenticator's data is malformed, or made for another host")]
    Authenticator,
    /// The authenticator did not verify who used it.
    #[error("the authenticator did not ask for a PIN, a finger or a face; use one that does")]
    Unverified,
    /// The key is of a kind that is not taken.
    #[error("the authenticator's key is neither ES256 nor EdDSA")]
    Algorithm,
    /// The signature is not of this key, or a copy of the authenticator made it.
    #[error("the signature does not hold")]
    Signature,
}

/// Where and for what a browser answers.
#[derive(Debug, Clone, Copy)]
pub struct Ceremony<'a> {
    /// The page's origin: scheme, host and port.
    pub origin: &'a str,
    /// What the challenge was made for.
    pub purpose: &'a str,
    /// When, in Unix milliseconds.
    pub now_ms: u64,
}

impl Ceremony<'_> {
    /// The host that keys are bound to (the relying party's id): that of the origin, without its port.
    pub fn host(&self) -> &str {
        let authority = self.origin.split_once("://").map_or(self.origin, |(_, authority)| authority);
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    }
}

/// Challenges: signed and kept nowhere until they are used, so that asking for many costs nothing and pushes out nobody's.
pub struct PasskeyChallenges {
    key: hmac::Key,
    used: Mutex<Vec<(u64, [u8; NONCE_BYTES])>>,
}

impl Default for PasskeyChallenges {
    fn default() -> Self {
        let secret: [u8; 32] = random_bytes();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), used: Mutex::default() }
    }
}

impl std::fmt::Debug for PasskeyChallenges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasskeyChallenges(..)")
    }
}

impl PasskeyChallenges {
    /// A challenge for a purpose, as base64url.
    pub fn issue(&self, purpose: &str, now_ms: u64) -> String {
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let until = now_ms.saturating_add(CHALLENGE_MS);
        let mut challenge = nonce.to_vec();
        challenge.extend_from_slice(&until.to_be_bytes());
        challenge.extend_from_slice(&self.tag(&nonce, until, purpose));
        base64url(&challenge)
    }

    /// Checks what `navigator.credentials.create` answered: authenticator data and client data. The challenge is spent.
    pub fn made(
        &self,
        ceremony: Ceremony<'_>,
        authenticator: &[u8],
        client: &[u8],
    ) -> Result<MadePasskey, PasskeyFault> {
        let nonce = self.check_client(ceremony, "webauthn.create", client)?;
        let (flags, signed, rest) = read_authenticator(ceremony, authenticator)?;
        if flags & ATTESTED == 0 {
            return Err(PasskeyFault::Authenticator);
        }
        let made = read_key(rest, signed)?;
        self.spend(nonce)?;
        Ok(made)
    }

    /// Checks what `navigator.credentials.get` answered: how often the key has signed now. The challenge is spent.
    pub fn signed(
        &self,
        ceremony: Ceremony<'_>,
        public: &PasskeyPublic,
        signed_before: u32,
        (authenticator, client, signature): (&[u8], &[u8], &[u8]),
    ) -> Result<u32, PasskeyFault> {
        let nonce = self.check_client(ceremony, "webauthn.get", client)?;
        let (_, signed, _) = read_authenticator(ceremony, authenticator)?;
        let message = [authenticator, &sha256(client)].concat();
        let holds = match public {
            PasskeyPublic::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(&message, signature)
            }
            PasskeyPublic::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(&message, signature),
        };
        holds.map_err(|_| PasskeyFault::Signature)?;
        if !counts_on(signed_before, signed) {
            return Err(PasskeyFault::Signature);
        }
        self.spend(nonce)?;
        Ok(signed)
    }

    fn check_client(
        &self,
        ceremony: Ceremony<'_>,
        kind: &str,
        client: &[u8],
    ) -> Result<(u64, [u8; NONCE_BYTES]), PasskeyFault> {
        let said: ClientData = serde_json::from_slice(client).map_err(|_| PasskeyFault::ClientData)?;
        if said.kind != kind || said.origin != ceremony.origin || said.cross_origin {
            return Err(PasskeyFault::ClientData);
        }
        let challenge = from_base64url(&said.challenge).ok_or(PasskeyFault::Challenge)?;
        let fault = PasskeyFault::Challenge;
        let (nonce, rest) = challenge.split_first_chunk::<NONCE_BYTES>().ok_or(fault)?;
        let (until, tag) = rest.split_first_chunk::<8>().ok_or(fault)?;
        let until = u64::from_be_bytes(*until);
        let ours = bool::from(self.tag(nonce, until, ceremony.purpose).as_slice().ct_eq(tag));
        if ours && ceremony.now_ms < until { Ok((until, *nonce)) } else { Err(fault) }
    }

    /// Notes a challenge that was answered well. Nobody fills this table who has no key.
    fn spend(&self, (until, nonce): (u64, [u8; NONCE_BYTES])) -> Result<(), PasskeyFault> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|(other, _)| other.saturating_add(CHALLENGE_MS) > until);
        if used.len() >= USED_MAX || used.iter().any(|(_, other)| *other == nonce) {
            return Err(PasskeyFault::Challenge);
        }
        used.push((until, nonce));
        Ok(())
    }

    fn tag(&self, nonce: &[u8], until: u64, purpose: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [nonce, &until.to_be_bytes(), purpose.as_bytes()] {
            context.update(part);
        }
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// Whether a signature counts after the one before: a copy of the authenticator lags behind (section 6.1.1); those that do not
/// count always say 0.
pub(crate) fn counts_on(before: u32, now: u32) -> bool {
    now > before || (now == 0 && before == 0)
}

/// Bytes as browsers write them.
pub fn base64url(bytes: &[u8]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(bytes)
}

/// Bytes as browsers write them, read.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}

#[derive(Debug, Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

/// Flags, count and the rest of authenticator data (section 6.1) for this host, of one who was present and verified.
fn read_authenticator<'a>(
    ceremony: Ceremony<'_>,
    data: &'a [u8],
) -> Result<(u8, u32, &'a [u8]), PasskeyFault> {
    let fault = PasskeyFault::Authenticator;
    let (host, rest) = data.split_first_chunk::<32>().ok_or(fault)?;
    let (&flags, rest) = rest.split_first().ok_or(fault)?;
    let (signed, rest) = rest.split_first_chunk::<4>().ok_or(fault)?;
    if *host != sha256(ceremony.host().as_bytes()) {
        return Err(fault);
    }
    if flags & PRESENT == 0 || flags & VERIFIED == 0 {
        return Err(PasskeyFault::Unverified);
    }
    Ok((flags, u32::from_be_bytes(*signed), rest))
}

/// The attested credential data (section 6.5.1).
fn read_key(data: &[u8], signed: u32) -> Result<MadePasskey, PasskeyFault> {
    let fault = PasskeyFault::Authenticator;
    let (_model, rest) = data.split_first_chunk::<16>().ok_or(fault)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(fault)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > PASSKEY_ID_BYTES_MAX {
        return Err(fault);
    }
    let (id, cose) = rest.split_at_checked(length).ok_or(fault)?;
    // Extensions may follow the key; they were not asked for and say nothing to us.
    let public = es256(cose).or_else(|| ed25519(cose)).ok_or(PasskeyFault::Algorithm)?;
    Ok(MadePasskey { id: id.to_vec(), public, signed })
}

/// `{1: 2, 3: -7, -1: 1, -2: x, -3: y}` in canonical form.
fn es256(cose: &[u8]) -> Option<PasskeyPublic> {
    let (x, rest) = cose.strip_prefix(ES256_X)?.split_first_chunk::<32>()?;
    let y = rest.strip_prefix(ES256_Y)?.first_chunk::<32>()?;
    Some(PasskeyPublic::Es256([&[0x04][..], x, y].concat()))
}

/// `{1: 1, 3: -8, -1: 6, -2: x}` in canonical form.
fn ed25519(cose: &[u8]) -> Option<PasskeyPublic> {
    cose.strip_prefix(ED25519_X)?.first_chunk::<32>().map(|x| PasskeyPublic::EdDsa(x.to_vec()))
}

const ES256_X: &[u8] = &[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
const ES256_Y: &[u8] = &[0x22, 0x58, 0x20];
const ED25519_X: &[u8] = &[0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;
const NONCE_BYTES: usize = 16;
/// How long a challenge may be answered.
pub const CHALLENGE_MS: u64 = 5 * 60_000;
/// Challenges answered well that are remembered: far more than all operators sign in in five minutes.
const USED_MAX: usize = 4_096;
/// The longest name of a key (section 4).
const PASSKEY_ID_BYTES_MAX: usize = 1_023;

#[cfg(test)]
mod tests;
