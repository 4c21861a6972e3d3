//! Secrets sealed to one node: HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM, as rustls has it.
//!
//! The key to open them is made when a node starts and lives in its memory only. What was recorded of the wire is of no use to who
//! takes the disk or the node's signing key later.

use std::fmt;

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use crate::TrustError;

/// The key to what is sealed to this process.
pub struct OpeningKey {
    public: Vec<u8>,
    private: HpkePrivateKey,
}

impl OpeningKey {
    /// A new key.
    pub fn generate() -> Result<Self, TrustError> {
        let made = SUITE.generate_key_pair().map_err(|_| TrustError::Crypto("making a key"))?;
        let (HpkePublicKey(public), private) = made;
        Ok(Self { public, private })
    }

    /// What others seal to.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens what [`seal_to`] made for this key and context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (encapsulated, ciphertext) = sealed.split_at_checked(ENCAPSULATED_BYTES)?;
        let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
        let opened = SUITE.open(&encapsulated, INFO, context.as_bytes(), ciphertext, &self.private);
        opened.ok().map(Zeroizing::new)
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpeningKey(..)")
    }
}

/// Seals `plain` for whoever has the key to `public`; it opens only under the same context.
pub fn seal_to(public: &[u8], context: &str, plain: &[u8]) -> Result<Vec<u8>, TrustError> {
    let fault = |_| TrustError::Crypto("sealing to a node");
    if public.len() != ENCAPSULATED_BYTES {
        return Err(TrustError::Crypto("reading a key to seal to"));
    }
    let key = HpkePublicKey(public.to_vec());
    let (EncapsulatedSecret(mut sealed), ciphertext) =
        SUITE.seal(INFO, context.as_bytes(), plain, &key).map_err(fault)?;
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

const SUITE: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_256;
const INFO: &[u8] = b"phalanx secret of a site 1";
/// Of X25519, as is a public key.
const ENCAPSULATED_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn only_its_key_opens_what_is_sealed_and_under_its_context(plain: Vec<u8>, at: usize, flip in 1u8..) {
            let (own, other) = (OpeningKey::generate().unwrap(), OpeningKey::generate().unwrap());
            let mut sealed = seal_to(own.public(), "here", &plain).unwrap();
            let opened = own.open("here", &sealed).map(|opened| opened.to_vec());
            prop_assert_eq!(opened, Some(plain));
            prop_assert!(own.open("there", &sealed).is_none());
            prop_assert!(other.open("here", &sealed).is_none());
            let at = at % sealed.len();
            sealed[at] ^= flip;
            prop_assert!(own.open("here", &sealed).is_none());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(OpeningKey::generate().unwrap().open("here", &bytes).is_none());
            let _ = seal_to(&bytes, "here", b"plain");
        }
    }

    #[test]
    fn the_same_is_never_sealed_to_the_same_bytes() {
        let key = OpeningKey::generate().unwrap();
        assert_ne!(seal_to(key.public(), "", b"x").unwrap(), seal_to(key.public(), "", b"x").unwrap());
        assert_eq!(format!("{key:?}"), "OpeningKey(..)");
    }
}
