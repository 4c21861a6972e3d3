//! A secret shared by all nodes of a fleet. Until nodes enrol with certificates, knowing it is what admits a newcomer.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;

use crate::{TrustError, private_file};

/// Proves and checks membership with HMAC-SHA256.
#[derive(Clone)]
pub struct FleetSecret(hmac::Key);

impl FleetSecret {
    /// Reads the secret from a file (mode 0600). Spaces and line ends around it do not count.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let fix = "write at least 16 random characters into it, e.g. with: openssl rand -hex 32";
        let bytes = private_file::read(path, SECRET_BYTES_MAX)?
            .ok_or_else(|| TrustError::file(path, "does not exist", fix))?;
        let secret = bytes.trim_ascii();
        if secret.len() < SECRET_BYTES_MIN {
            let cause = format!("holds fewer than {SECRET_BYTES_MIN} characters");
            return Err(TrustError::file(path, cause, fix));
        }
        Ok(Self::from_bytes(secret))
    }

    /// The secret made of these bytes.
    pub fn from_bytes(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The proof for these bytes.
    pub fn prove(&self, bytes: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, bytes);
        let mut proof = [0u8; 32];
        for (place, byte) in proof.iter_mut().zip(tag.as_ref()) {
            *place = *byte;
        }
        proof
    }

    /// Whether `proof` is the one for these bytes; takes the same time for every wrong one.
    pub fn accepts(&self, bytes: &[u8], proof: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, proof).is_ok()
    }
}

impl fmt::Debug for FleetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetSecret(..)")
    }
}

const SECRET_BYTES_MIN: usize = 16;
const SECRET_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_bytes_and_secret_only() {
        let secret = FleetSecret::from_bytes(b"0123456789abcdef");
        let proof = secret.prove(b"hello");
        assert!(secret.accepts(b"hello", &proof));
        assert!(!secret.accepts(b"hellO", &proof));
        assert!(!FleetSecret::from_bytes(b"0123456789abcdeF").accepts(b"hello", &proof));
        assert_eq!(format!("{secret:?}"), "FleetSecret(..)");
    }

    #[test]
    fn a_short_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        private_file::create(&path, b"  hunter2 \n").unwrap();
        assert!(FleetSecret::load(&path).unwrap_err().to_string().contains("fewer than 16"));
        assert!(FleetSecret::load(&folder.path().join("none")).is_err());
    }
}
