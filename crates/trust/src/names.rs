//! The key with which a fleet hashes names of accounts and sessions: the same on all of its nodes, in all sites.
//!
//! The authority makes it of a key of its own and hands it out with each membership. It does not change: hashes of today and tomorrow
//! are of one account. A node that was stolen knows it, and can try names against the hashes that it holds.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A fleet's key for names; a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct NamesKey([u8; 16]);

impl NamesKey {
    /// The one that belongs to a secret that never changes. Who knows it does not know the secret.
    pub fn derived(secret: &[u8]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), CONTEXT);
        Self(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// For whoever hashes.
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for NamesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NamesKey(..)")
    }
}

impl Serialize for NamesKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for NamesKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).ok();
        let key = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        key.map(Self).ok_or_else(|| serde::de::Error::custom("no key for names"))
    }
}

const CONTEXT: &[u8] = b"phalanx names of accounts and sessions";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_and_read_and_shows_itself_nowhere_else() {
        let key = NamesKey::derived(b"secret");
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<NamesKey>(&json).unwrap(), key);
        assert_eq!(format!("{key:?}"), "NamesKey(..)");
        assert_ne!(NamesKey::derived(b"other"), key);
        assert!(serde_json::from_str::<NamesKey>("\"c2hvcnQ=\"").is_err());
    }
}
