//! How a node tells the others who it is: a record signed with its own new key, proven with the fleet's secret if there is one.

use std::sync::Arc;

use phalanx_model::{Author, AuthorRole};
use serde::{Deserialize, Serialize};

use crate::record::base64_bytes;
use crate::{FleetSecret, Refusal, SignedRecord, SigningKey, Statement, TrustError, VerifyingKey};

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its site.
    pub site: Arc<str>,
    /// Its name within the site.
    pub node: Arc<str>,
    /// The product version it runs.
    pub version: String,
    /// The key that signs what it says on its own.
    pub node_key: VerifyingKey,
    /// The key that signs what operators say through it, if it has the control role.
    pub operator_key: Option<VerifyingKey>,
    /// What it does: `edge`, `control`.
    pub roles: Vec<String>,
    /// When it started, in Unix milliseconds.
    pub started_at_ms: u64,
}

impl NodeRecord {
    /// The node as an author in this role.
    pub fn author(&self, role: AuthorRole) -> Author {
        Author { site: Arc::clone(&self.site), node: Arc::clone(&self.node), role }
    }
}

/// A node record as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The signed [`NodeRecord`].
    pub record: SignedRecord,
    /// HMAC-SHA256 of the record's signing bytes and signature under the fleet's secret; empty without one.
    #[serde(with = "base64_bytes", default)]
    pub proof: Vec<u8>,
}

impl Announcement {
    /// Announces `node`, signed with its key. The record itself does not expire; a restart replaces it.
    pub fn make(
        fleet_id: &str,
        subject: &str,
        node: &NodeRecord,
        key: &SigningKey,
        secret: Option<&FleetSecret>,
    ) -> Result<Self, TrustError> {
        let body = serde_json::to_vec(node).map_err(|_| TrustError::Crypto("writing a node record"))?;
        let author = node.author(AuthorRole::Node);
        let statement = Statement {
            fleet_id,
            subject,
            author: &author,
            version: node.started_at_ms,
            expires_at_ms: u64::MAX,
            body: &body,
        };
        let record = SignedRecord::sign(key, statement);
        let proof = secret.map(|secret| secret.prove(&proven_bytes(&record)).to_vec()).unwrap_or_default();
        Ok(Self { record, proof })
    }

    /// The form on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        serde_json::to_vec(self).map_err(|_| TrustError::Crypto("writing an announcement"))
    }

    /// Reads and checks an announcement that came under `subject`: fleet, form, proof and that the announced key signed it.
    /// Whether that key is the one pinned earlier is for [`crate::TrustRoots::pin`].
    pub fn open(
        bytes: &[u8],
        fleet_id: &str,
        subject: &str,
        secret: Option<&FleetSecret>,
    ) -> Result<NodeRecord, Refusal> {
        if bytes.len() > crate::record::RECORD_BYTES_MAX {
            return Err(Refusal::Unreadable("announcement too large".into()));
        }
        let announcement: Self =
            serde_json::from_slice(bytes).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let record = &announcement.record;
        if *record.fleet_id != *fleet_id {
            return Err(Refusal::WrongFleet);
        }
        if *record.subject != *subject {
            return Err(Refusal::WrongSubject);
        }
        if let Some(secret) = secret
            && !secret.accepts(&proven_bytes(record), &announcement.proof)
        {
            return Err(Refusal::NoProof);
        }
        let node: NodeRecord =
            serde_json::from_slice(&record.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if !valid_name(&node.site) || !valid_name(&node.node) || node.version.len() > VERSION_BYTES_MAX {
            return Err(Refusal::Unreadable("site, node or version is no name".into()));
        }
        if record.author != node.author(AuthorRole::Node) || record.key_id != node.node_key.id() {
            return Err(Refusal::WrongKey(record.author.to_string()));
        }
        if !node.node_key.verify(&record.signing_bytes(), &record.signature) {
            return Err(Refusal::BadSignature);
        }
        Ok(node)
    }
}

/// Whether a site or node may have this name: 1 to 63 of `a-z 0-9 - _`, because names are parts of subjects and file names.
pub fn valid_name(name: &str) -> bool {
    let ordinary =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&name.len()) && name.bytes().all(ordinary)
}

fn proven_bytes(record: &SignedRecord) -> Vec<u8> {
    let mut bytes = record.signing_bytes();
    bytes.extend_from_slice(&record.signature);
    bytes
}

const VERSION_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "phx.node.fra.a";

    fn node(key: &SigningKey) -> NodeRecord {
        NodeRecord {
            site: "fra".into(),
            node: "a".into(),
            version: "0.1.0".into(),
            node_key: key.verifying(),
            operator_key: None,
            roles: vec!["edge".into()],
            started_at_ms: 5,
        }
    }

    #[test]
    fn an_announcement_with_the_secret_is_accepted() {
        let key = SigningKey::generate().unwrap();
        let secret = FleetSecret::from_bytes(b"0123456789abcdef");
        let bytes = Announcement::make("fleet", SUBJECT, &node(&key), &key, Some(&secret))
            .unwrap()
            .to_bytes()
            .unwrap();
        assert_eq!(Announcement::open(&bytes, "fleet", SUBJECT, Some(&secret)), Ok(node(&key)));
        assert_eq!(Announcement::open(&bytes, "fleet", SUBJECT, None), Ok(node(&key)));
        assert_eq!(Announcement::open(&bytes, "other", SUBJECT, None), Err(Refusal::WrongFleet));
        let elsewhere = Announcement::open(&bytes, "fleet", "phx.node.fra.b", None);
        assert_eq!(elsewhere, Err(Refusal::WrongSubject));
    }

    #[test]
    fn an_announcement_without_the_secret_is_refused() {
        let key = SigningKey::generate().unwrap();
        let secret = FleetSecret::from_bytes(b"0123456789abcdef");
        for theirs in [None, Some(FleetSecret::from_bytes(b"another secret!!"))] {
            let bytes = Announcement::make("fleet", SUBJECT, &node(&key), &key, theirs.as_ref()).unwrap();
            let opened = Announcement::open(&bytes.to_bytes().unwrap(), "fleet", SUBJECT, Some(&secret));
            assert_eq!(opened, Err(Refusal::NoProof));
        }
    }

    #[test]
    fn a_key_that_did_not_sign_cannot_be_announced() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let bytes =
            Announcement::make("fleet", SUBJECT, &node(&other), &key, None).unwrap().to_bytes().unwrap();
        let opened = Announcement::open(&bytes, "fleet", SUBJECT, None);
        assert_eq!(opened, Err(Refusal::WrongKey("fra/a".into())));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_announcement_or_a_refusal(bytes: Vec<u8>, json in "[{\\[\\]}:,\"a-z0-9=]{0,60}") {
            let _ = Announcement::open(&bytes, "fleet", SUBJECT, None);
            let _ = Announcement::open(json.as_bytes(), "fleet", SUBJECT, None);
        }
    }

    #[test]
    fn names_that_would_break_subjects_are_refused() {
        for name in ["", "a.b", "*", ">", "A", "ü", "a b", &"a".repeat(64)] {
            assert!(!valid_name(name), "{name}");
        }
        assert!(valid_name("fra-1_b"));
    }
}
