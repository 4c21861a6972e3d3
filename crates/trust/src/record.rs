//! A record that carries its author's signature through any transport.
//!
//! The signature covers schema, fleet, subject, author, key, version, expiry and body, each with its length, so that no
//! two different records share signing bytes. On the wire a record is JSON; readers ignore fields they do not know,
//! so that a newer node can add some, and take the body as bytes, so that what is inside may grow under the signature.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use phalanx_model::{Author, AuthorRole};
use serde::{Deserialize, Serialize};

use crate::{KeyId, Refusal, SigningKey, TrustError};

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The fleet it is for.
    pub fleet_id: &'a str,
    /// The name under which it is kept and sent.
    pub subject: &'a str,
    /// Who says it.
    pub author: &'a Author,
    /// Its version; a higher one replaces a lower one under the same subject.
    pub version: u64,
    /// When it stops to count, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// What is said.
    pub body: &'a [u8],
}

/// A signed record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRecord {
    /// The schema it was written with.
    pub schema: u16,
    /// The fleet it is for.
    pub fleet_id: Arc<str>,
    /// The name under which it is kept and sent.
    pub subject: Arc<str>,
    /// Who says it.
    pub author: Author,
    /// The key that signed.
    pub key_id: KeyId,
    /// Its version.
    pub version: u64,
    /// When it stops to count, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// What is said.
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
    /// The signature.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

impl SignedRecord {
    /// Signs a statement.
    pub fn sign(key: &SigningKey, statement: Statement<'_>) -> Self {
        let mut record = Self {
            schema: SCHEMA,
            fleet_id: statement.fleet_id.into(),
            subject: statement.subject.into(),
            author: statement.author.clone(),
            key_id: key.verifying().id(),
            version: statement.version,
            expires_at_ms: statement.expires_at_ms,
            body: statement.body.to_vec(),
            signature: Vec::new(),
        };
        record.signature = key.sign(&record.signing_bytes()).to_vec();
        record
    }

    /// The bytes that the signature covers.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 + self.body.len());
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&self.schema.to_be_bytes());
        part(&mut bytes, self.fleet_id.as_bytes());
        part(&mut bytes, self.subject.as_bytes());
        part(&mut bytes, self.author.site.as_bytes());
        part(&mut bytes, self.author.node.as_bytes());
        bytes.push(match self.author.role {
            AuthorRole::Node => 1,
            AuthorRole::Operator => 2,
        });
        part(&mut bytes, &self.key_id.0);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.expires_at_ms.to_be_bytes());
        part(&mut bytes, &self.body);
        bytes
    }

    /// The form on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        let bytes = serde_json::to_vec(self).map_err(|_| TrustError::Crypto("writing a record"))?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(TrustError::TooLarge { bytes: bytes.len(), max: RECORD_BYTES_MAX });
        }
        Ok(bytes)
    }

    /// Reads the form on the wire. Says nothing about the signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Refusal::Unreadable(format!("over {RECORD_BYTES_MAX} bytes")));
        }
        let record: Self =
            serde_json::from_slice(bytes).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if record.schema == 0 {
            return Err(Refusal::Unreadable("schema 0".into()));
        }
        Ok(record)
    }
}

fn part(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

pub(crate) mod base64_bytes {
    use super::{Engine, STANDARD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// The schema this version writes. It names the meaning of the fields above; new optional fields do not change it.
pub const SCHEMA: u16 = 1;
/// Largest record any reader accepts, in bytes. A decision takes about 1 KiB; what is larger travels as a blob.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
const DOMAIN: &[u8] = b"phalanx signed record\0";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn author() -> Author {
        Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node }
    }

    fn record(body: &[u8]) -> (SigningKey, SignedRecord) {
        let key = SigningKey::generate().unwrap();
        let author = author();
        let statement = Statement {
            fleet_id: "fleet",
            subject: "phx.dec.fra.a.ban.1",
            author: &author,
            version: 7,
            expires_at_ms: 9,
            body,
        };
        let record = SignedRecord::sign(&key, statement);
        (key, record)
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_its_signature_still_holds(body: Vec<u8>) {
            let (key, record) = record(&body);
            let read = SignedRecord::from_bytes(&record.to_bytes().unwrap()).unwrap();
            prop_assert!(key.verifying().verify(&read.signing_bytes(), &read.signature));
            prop_assert_eq!(read, record);
        }

        #[test]
        fn any_bytes_are_a_record_or_a_refusal(bytes: Vec<u8>) {
            let _ = SignedRecord::from_bytes(&bytes);
        }
    }

    #[test]
    fn every_field_is_under_the_signature() {
        let (key, record) = record(b"body");
        let mut changed: Vec<SignedRecord> = vec![record.clone(); 9];
        changed[0].schema += 1;
        changed[1].fleet_id = "fleet2".into();
        changed[2].subject = "phx.dec.fra.a.ban.2".into();
        changed[3].author.site = "fraa".into();
        changed[4].author.node = "b".into();
        changed[5].author.role = AuthorRole::Operator;
        changed[6].version += 1;
        changed[7].expires_at_ms += 1;
        changed[8].body.push(0);
        for record in changed {
            assert!(!key.verifying().verify(&record.signing_bytes(), &record.signature), "{record:?}");
        }
    }

    #[test]
    fn text_moved_between_fields_changes_the_signing_bytes() {
        let (_, mut one) = record(b"");
        let mut other = one.clone();
        (one.author.site, one.author.node) = ("ab".into(), "c".into());
        (other.author.site, other.author.node) = ("a".into(), "bc".into());
        assert_ne!(one.signing_bytes(), other.signing_bytes());
    }

    #[test]
    fn fields_of_a_newer_node_are_ignored() {
        let (key, record) = record(b"body");
        let mut json: serde_json::Value = serde_json::from_slice(&record.to_bytes().unwrap()).unwrap();
        json["added_later"] = serde_json::json!({"x": 1});
        let read = SignedRecord::from_bytes(&serde_json::to_vec(&json).unwrap()).unwrap();
        assert!(key.verifying().verify(&read.signing_bytes(), &read.signature));
    }

    #[test]
    fn a_huge_record_is_refused_by_writer_and_reader() {
        let (_, record) = record(&vec![0; RECORD_BYTES_MAX]);
        assert!(record.to_bytes().is_err());
        assert!(SignedRecord::from_bytes(&vec![b' '; RECORD_BYTES_MAX + 1]).is_err());
    }
}
