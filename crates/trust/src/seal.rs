//! Envelope encryption of what lies on disk: AES-256-GCM under data keys, which are wrapped by a key-encryption key.
//!
//! A data key lives for one run of the process and at most [`SEALS_PER_DATA_KEY`] seals; every sealed record carries it
//! wrapped, so that records stand alone and the key-encryption key can move (file now, a vault later) without touching them.
//!
//! Layout: `1 | wrap nonce 12 | wrapped data key 48 | nonce 12 | ciphertext | tag 16`. The context and the data key's
//! envelope are authenticated with the ciphertext, so a sealed value cannot be moved to another place.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{TrustError, private_file, random_bytes};

/// Seals and opens state at rest. Shared by reference; every method takes `&self`.
pub struct Sealer {
    key_encryption: LessSafeKey,
    state: Mutex<State>,
}

impl Sealer {
    /// Reads the key-encryption key from its file (mode 0600), or makes a new one.
    pub fn load_or_create(path: &Path) -> Result<Self, TrustError> {
        let key = match private_file::read(path, KEY_LEN)? {
            Some(bytes) => bytes,
            None => {
                let fresh: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(random_bytes());
                private_file::create(path, fresh.as_slice())?;
                Zeroizing::new(fresh.to_vec())
            }
        };
        if key.len() != KEY_LEN {
            let cause = format!("is no key: it has {} bytes instead of {KEY_LEN}", key.len());
            return Err(TrustError::file(
                path,
                cause,
                "restore it from a backup; without it, sealed state is lost",
            ));
        }
        Self::from_key(&key)
    }

    /// A sealer under a random key that is never stored: for tests and for a node without a state directory.
    pub fn ephemeral() -> Result<Self, TrustError> {
        let key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(random_bytes());
        Self::from_key(key.as_slice())
    }

    /// Seals `plain` for `context`; it opens only under the same context.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, TrustError> {
        let (envelope, key) = self.data_key()?;
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut sealed = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
        sealed.push(LAYOUT);
        sealed.extend_from_slice(&envelope);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let aad = associated(context, &envelope);
        let (_, body) = sealed.split_at_mut(HEADER_LEN);
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
            .map_err(|_| TrustError::Crypto("sealing"))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made for the same context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, TrustError> {
        let fault = || TrustError::Sealed { context: context.to_owned() };
        let (&layout, rest) = sealed.split_first().ok_or_else(fault)?;
        let (envelope, rest) = rest.split_first_chunk::<ENVELOPE_LEN>().ok_or_else(fault)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(fault)?;
        if layout != LAYOUT {
            return Err(fault());
        }
        let key = self.unwrap(envelope).ok_or_else(fault)?;
        let mut plain = body.to_vec();
        let aad = associated(context, envelope);
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut plain)
            .map_err(|_| fault())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn from_key(bytes: &[u8]) -> Result<Self, TrustError> {
        let key_encryption = aes_key(bytes).ok_or(TrustError::Crypto("reading a key"))?;
        Ok(Self { key_encryption, state: Mutex::default() })
    }

    fn data_key(&self) -> Result<(Envelope, Arc<LessSafeKey>), TrustError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &mut state.current
            && current.seals < SEALS_PER_DATA_KEY
        {
            current.seals += 1;
            return Ok((current.envelope, Arc::clone(&current.key)));
        }
        let (envelope, key) = self.wrap_fresh()?;
        state.current = Some(Current { envelope, key: Arc::clone(&key), seals: 1 });
        Ok((envelope, key))
    }

    fn wrap_fresh(&self) -> Result<(Envelope, Arc<LessSafeKey>), TrustError> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut secret: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(random_bytes());
        let key = aes_key(secret.as_slice()).ok_or(TrustError::Crypto("making a data key"))?;
        let tag = self
            .key_encryption
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(WRAP_CONTEXT),
                secret.as_mut_slice(),
            )
            .map_err(|_| TrustError::Crypto("wrapping a data key"))?;
        let mut envelope = [0u8; ENVELOPE_LEN];
        let parts = nonce.iter().chain(secret.iter()).chain(tag.as_ref());
        for (place, byte) in envelope.iter_mut().zip(parts) {
            *place = *byte;
        }
        Ok((envelope, Arc::new(key)))
    }

    fn unwrap(&self, envelope: &Envelope) -> Option<Arc<LessSafeKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &state.current
            && current.envelope == *envelope
        {
            return Some(Arc::clone(&current.key));
        }
        if let Some(key) = state.opened.get(envelope) {
            return Some(Arc::clone(key));
        }
        let (nonce, wrapped) = envelope.split_first_chunk::<NONCE_LEN>()?;
        let mut secret = Zeroizing::new(wrapped.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened =
            self.key_encryption.open_in_place(nonce, Aad::from(WRAP_CONTEXT), secret.as_mut_slice()).ok()?;
        let key = Arc::new(aes_key(opened)?);
        if state.opened.len() >= DATA_KEYS_OPENED_MAX {
            state.opened.clear();
        }
        state.opened.insert(*envelope, Arc::clone(&key));
        Some(key)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// Data keys of earlier runs, so that reading a table unwraps each once.
    opened: HashMap<Envelope, Arc<LessSafeKey>>,
}

struct Current {
    envelope: Envelope,
    key: Arc<LessSafeKey>,
    seals: u64,
}

type Envelope = [u8; ENVELOPE_LEN];

fn aes_key(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new)
}

fn associated(context: &str, envelope: &Envelope) -> Vec<u8> {
    let mut aad = Vec::with_capacity(context.len() + ENVELOPE_LEN + 1);
    aad.push(LAYOUT);
    aad.extend_from_slice(envelope);
    aad.extend_from_slice(context.as_bytes());
    aad
}

const LAYOUT: u8 = 1;
const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;
const ENVELOPE_LEN: usize = NONCE_LEN + KEY_LEN + TAG_LEN;
const HEADER_LEN: usize = 1 + ENVELOPE_LEN + NONCE_LEN;
const WRAP_CONTEXT: &[u8] = b"phalanx data key 1";
/// Far below the 2^32 random nonces that NIST SP 800-38D section 8.3 allows under one key.
const SEALS_PER_DATA_KEY: u64 = 1 << 24;
/// Data keys of earlier runs kept open; a node that restarted more often unwraps again.
const DATA_KEYS_OPENED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_sealed_opens_under_its_context_only(plain: Vec<u8>, context in ".{0,20}", other in ".{0,20}") {
            let sealer = Sealer::ephemeral().unwrap();
            let sealed = sealer.seal(&context, &plain).unwrap();
            prop_assert_eq!(sealer.open(&context, &sealed).unwrap(), plain);
            prop_assert_eq!(sealer.open(&other, &sealed).is_ok(), other == context);
        }

        #[test]
        fn any_altered_byte_is_noticed(at in 0usize..100, flip in 1u8..) {
            let sealer = Sealer::ephemeral().unwrap();
            let mut sealed = sealer.seal("here", b"eleven bytes and more").unwrap();
            let at = at % sealed.len();
            sealed[at] ^= flip;
            prop_assert!(sealer.open("here", &sealed).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(Sealer::ephemeral().unwrap().open("here", &bytes).is_err());
        }
    }

    #[test]
    fn state_opens_after_a_restart_and_not_under_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let sealed = Sealer::load_or_create(&path).unwrap().seal("here", b"plain").unwrap();
        assert_eq!(Sealer::load_or_create(&path).unwrap().open("here", &sealed).unwrap(), b"plain");
        let other = Sealer::load_or_create(&folder.path().join("other")).unwrap();
        assert!(other.open("here", &sealed).is_err());
        assert!(!sealed.windows(5).any(|window| window == b"plain"));
    }

    #[test]
    fn a_truncated_key_file_stops_the_start_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        private_file::create(&path, b"short").unwrap();
        let error = Sealer::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("5 bytes instead of 32"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }
}
