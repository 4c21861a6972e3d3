//! Ed25519 keys: a node's own and its operators', and the public halves of everyone else's.

use std::fmt;
use std::path::Path;

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Sealer, TrustError, private_file, random_bytes};

/// A secret signing key, kept sealed on disk.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifying: VerifyingKey,
}

impl SigningKey {
    /// Opens the sealed key in this file (mode 0600), or makes a new one.
    pub fn load_or_create(path: &Path, sealer: &Sealer) -> Result<Self, TrustError> {
        let Some(sealed) = private_file::read(path, SEALED_BYTES_MAX)? else {
            let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
            private_file::create(path, &sealer.seal(SEAL_CONTEXT, seed.as_slice())?)?;
            return Self::from_seed(&seed);
        };
        let fix = "restore it together with the key that seals it, or remove it to make a new identity";
        let seed = sealer
            .open(SEAL_CONTEXT, &sealed)
            .map(Zeroizing::new)
            .map_err(|_| TrustError::file(path, "was altered or sealed under another key", fix))?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(
            <[u8; 32]>::try_from(seed.as_slice())
                .map_err(|_| TrustError::file(path, "holds no signing key", fix))?,
        );
        Self::from_seed(&seed)
    }

    /// A new key that is not stored.
    pub fn generate() -> Result<Self, TrustError> {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
        Self::from_seed(&seed)
    }

    /// The signature of these bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let mut signature = [0u8; 64];
        for (place, byte) in signature.iter_mut().zip(self.pair.sign(bytes).as_ref()) {
            *place = *byte;
        }
        signature
    }

    /// The public half.
    pub fn verifying(&self) -> VerifyingKey {
        self.verifying
    }

    /// The key in PKCS #8, for TLS.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TrustError> {
        let seed = self.seed()?;
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(seed.as_slice());
        Ok(pkcs8)
    }

    pub(crate) fn public_bytes(&self) -> &[u8] {
        &self.verifying.0
    }

    /// The secret from which the key is made, to be sealed.
    pub(crate) fn seed(&self) -> Result<Zeroizing<[u8; 32]>, TrustError> {
        let seed = self.pair.seed().map_err(|_| TrustError::Crypto("reading a key"))?;
        let bytes: aws_lc_rs::encoding::Curve25519SeedBin<'_> =
            seed.as_be_bytes().map_err(|_| TrustError::Crypto("reading a key"))?;
        <[u8; 32]>::try_from(bytes.as_ref())
            .map(Zeroizing::new)
            .map_err(|_| TrustError::Crypto("reading a key"))
    }

    pub(crate) fn from_seed(seed: &[u8; 32]) -> Result<Self, TrustError> {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| TrustError::Crypto("reading a key"))?;
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref())
            .map_err(|_| TrustError::Crypto("deriving a public key"))?;
        Ok(Self { pair, verifying: VerifyingKey(public) })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying.id())
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// The key of these 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        <[u8; 32]>::try_from(bytes).ok().map(Self)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` is this key's of `bytes`.
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, signature).is_ok()
    }

    /// The key's short name.
    pub fn id(&self) -> KeyId {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0);
        let mut id = [0u8; 8];
        for (place, byte) in id.iter_mut().zip(digest.as_ref()) {
            *place = *byte;
        }
        KeyId(id)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.id())
    }
}

impl Serialize for VerifyingKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for VerifyingKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a public key has 32 bytes in base64url"))
    }
}

/// The first 64 bits of a public key's SHA-256: names a key, proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a key id has 16 hexadecimal digits"))
    }
}

/// What precedes an Ed25519 seed in PKCS #8 (RFC 8410 section 7): a sequence of version 0, the algorithm, the key.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const SEAL_CONTEXT: &str = "signing key";
const SEALED_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_a_restart_and_is_sealed_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let sealer = Sealer::ephemeral().unwrap();
        let first = SigningKey::load_or_create(&path, &sealer).unwrap();
        let second = SigningKey::load_or_create(&path, &sealer).unwrap();
        assert_eq!(first.verifying(), second.verifying());
        assert!(second.verifying().verify(b"text", &first.sign(b"text")));
        let error = SigningKey::load_or_create(&path, &Sealer::ephemeral().unwrap()).unwrap_err().to_string();
        assert!(error.contains("sealed under another key"), "{error}");
    }

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_only() {
        let key = SigningKey::generate().unwrap();
        let signature = key.sign(b"text");
        assert!(key.verifying().verify(b"text", &signature));
        assert!(!key.verifying().verify(b"texT", &signature));
        assert!(!SigningKey::generate().unwrap().verifying().verify(b"text", &signature));
        assert!(!key.verifying().verify(b"text", b"short"));
    }

    #[test]
    fn debug_shows_the_key_id_only() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.verifying().id()));
    }
}
