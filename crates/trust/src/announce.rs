//! How a node tells the others who it is: a record signed with its own new key, proven with the fleet's secret if there is one.

use std::sync::Arc;

use phalanx_model::{Author, AuthorRole};
use serde::{Deserialize, Serialize};

use crate::certificate::{Certified, CertifiedBy};
use crate::join::{DerText, ders};
use crate::record::base64_bytes;
use crate::{
    FleetSecret, Named, Refusal, SignedRecord, SigningKey, Statement, TrustBundle, TrustError, VerifyingKey,
};

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
    /// Where nodes of its site can renew should it be the site's delegate: `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enrol: Vec<String>,
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
    /// The certificate of the node's key and what leads to the fleet's root; empty in a fleet without an authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<DerText>,
    /// The same for the operator key, if the node announces one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operator_chain: Vec<DerText>,
}

/// What admits a node to the fleet.
#[derive(Debug, Clone, Copy)]
pub enum Admission<'a> {
    /// Nothing: whoever comes first under a name.
    FirstSeen,
    /// Knowledge of a secret.
    Secret(&'a FleetSecret),
    /// A certificate of the fleet's authority, valid at this Unix millisecond.
    Certified(&'a TrustBundle, u64),
}

/// When a node's certificates were made and when they end, in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// When they were made.
    pub issued_at_ms: u64,
    /// When the first of them ends.
    pub expires_at_ms: u64,
    /// The delegate of the node's site that made them; none if the authority itself did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<CertifiedBy>,
}

/// A node that may be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Who it is.
    #[serde(flatten)]
    pub node: NodeRecord,
    /// How long its certificates hold; none in a fleet without an authority.
    #[serde(default)]
    pub validity: Option<Validity>,
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
        Ok(Self { record, proof, chain: Vec::new(), operator_chain: Vec::new() })
    }

    /// The same with the certificates that prove it.
    pub fn certified(self, chain: &[DerText], operator_chain: &[DerText]) -> Self {
        Self { chain: chain.to_vec(), operator_chain: operator_chain.to_vec(), ..self }
    }

    /// The form on the wire.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        serde_json::to_vec(self).map_err(|_| TrustError::Crypto("writing an announcement"))
    }

    /// Reads and checks an announcement that came under `subject`: fleet, form, what admits it, and that the announced key signed
    /// it. Whether it agrees with what was known is for [`crate::TrustRoots::admit`].
    pub fn open(
        bytes: &[u8],
        fleet_id: &str,
        subject: &str,
        admission: Admission<'_>,
    ) -> Result<Admitted, Refusal> {
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
        if let Admission::Secret(secret) = admission
            && !secret.accepts(&proven_bytes(record), &announcement.proof)
        {
            return Err(Refusal::NoProof);
        }
        let node: NodeRecord =
            serde_json::from_slice(&record.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if !valid_name(&node.site)
            || !valid_name(&node.node)
            || node.version.len() > VERSION_BYTES_MAX
            || node.enrol.len() > crate::join::ADDRESSES_MAX
        {
            return Err(Refusal::Unreadable("site, node or version is no name".into()));
        }
        if record.author != node.author(AuthorRole::Node) || record.key_id != node.node_key.id() {
            return Err(Refusal::WrongKey(record.author.to_string()));
        }
        if !node.node_key.verify(&record.signing_bytes(), &record.signature) {
            return Err(Refusal::BadSignature);
        }
        let validity = match admission {
            Admission::FirstSeen | Admission::Secret(_) => None,
            Admission::Certified(bundle, now_ms) => Some(announcement.validity(&node, bundle, now_ms)?),
        };
        Ok(Admitted { node, validity })
    }

    /// Checks that the fleet's authority vouches for each key that is announced, under this very name.
    fn validity(&self, node: &NodeRecord, bundle: &TrustBundle, now_ms: u64) -> Result<Validity, Refusal> {
        let certified = |chain: &[DerText], key: VerifyingKey, what: Named| {
            let certified = bundle.verify(&ders(chain), now_ms)?;
            if certified.id.what != what || certified.key != key {
                return Err(Refusal::Certificate(format!("{} is for another name or key", certified.id)));
            }
            let Certified { issued_at_ms, expires_at_ms, by, .. } = certified;
            Ok(Validity { issued_at_ms, expires_at_ms, by })
        };
        let (site, name) = (Arc::clone(&node.site), Arc::clone(&node.node));
        let of_node =
            certified(&self.chain, node.node_key, Named::Node { site: site.clone(), node: name.clone() })?;
        let Some(key) = node.operator_key else { return Ok(of_node) };
        let of_operator = certified(&self.operator_chain, key, Named::Operator { site, node: name })?;
        Ok(Validity {
            issued_at_ms: of_node.issued_at_ms.min(of_operator.issued_at_ms),
            expires_at_ms: of_node.expires_at_ms.min(of_operator.expires_at_ms),
            by: of_node.by,
        })
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
            enrol: vec![],
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
        let admitted = Ok(Admitted { node: node(&key), validity: None });
        assert_eq!(
            Announcement::open(&bytes, "fleet", SUBJECT, Admission::Secret(&secret)),
            admitted.clone()
        );
        assert_eq!(Announcement::open(&bytes, "fleet", SUBJECT, Admission::FirstSeen), admitted);
        assert_eq!(
            Announcement::open(&bytes, "other", SUBJECT, Admission::FirstSeen),
            Err(Refusal::WrongFleet)
        );
        let elsewhere = Announcement::open(&bytes, "fleet", "phx.node.fra.b", Admission::FirstSeen);
        assert_eq!(elsewhere, Err(Refusal::WrongSubject));
    }

    #[test]
    fn an_announcement_without_the_secret_is_refused() {
        let key = SigningKey::generate().unwrap();
        let secret = FleetSecret::from_bytes(b"0123456789abcdef");
        for theirs in [None, Some(FleetSecret::from_bytes(b"another secret!!"))] {
            let bytes = Announcement::make("fleet", SUBJECT, &node(&key), &key, theirs.as_ref()).unwrap();
            let opened =
                Announcement::open(&bytes.to_bytes().unwrap(), "fleet", SUBJECT, Admission::Secret(&secret));
            assert_eq!(opened, Err(Refusal::NoProof));
        }
    }

    #[test]
    fn a_key_that_did_not_sign_cannot_be_announced() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let bytes =
            Announcement::make("fleet", SUBJECT, &node(&other), &key, None).unwrap().to_bytes().unwrap();
        let opened = Announcement::open(&bytes, "fleet", SUBJECT, Admission::FirstSeen);
        assert_eq!(opened, Err(Refusal::WrongKey("fra/a".into())));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_announcement_or_a_refusal(bytes: Vec<u8>, json in "[{\\[\\]}:,\"a-z0-9=]{0,60}") {
            let _ = Announcement::open(&bytes, "fleet", SUBJECT, Admission::FirstSeen);
            let _ = Announcement::open(json.as_bytes(), "fleet", SUBJECT, Admission::FirstSeen);
        }
    }

    #[test]
    fn names_that_would_break_subjects_are_refused() {
        for name in ["", "a.b", "*", ">", "A", "ü", "a b", &"a".repeat(64)] {
            assert!(!valid_name(name), "{name}");
        }
        assert!(valid_name("fra-1_b"));
    }

    #[test]
    fn an_enrolled_fleet_admits_certified_keys_and_names_only() {
        const NOW: u64 = 1_800_000_000_000;
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(crate::Sealer::ephemeral().unwrap());
        let mut authority = crate::FleetAuthority::create(folder.path(), sealer, Some("fleet"), NOW).unwrap();
        let (key, operator, nats) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let mut grant = |site: &str, name: &str| {
            let keys = crate::NodeKeys { node: &key, operator: Some(&operator), nats: &nats };
            authority.enrol_self(site, name, &keys, NOW).unwrap()
        };
        let (own, other) = (grant("fra", "a"), grant("fra", "b"));
        let bundle = authority.bundle().unwrap();
        let open = |record: &NodeRecord, chain: &[DerText], operator_chain: &[DerText], at_ms| {
            let made = Announcement::make("fleet", SUBJECT, record, &key, None).unwrap();
            let bytes = made.certified(chain, operator_chain).to_bytes().unwrap();
            Announcement::open(&bytes, "fleet", SUBJECT, Admission::Certified(&bundle, at_ms))
        };
        let edge = node(&key);
        let control = NodeRecord { operator_key: Some(operator.verifying()), ..node(&key) };
        let day = Some(Validity { issued_at_ms: NOW, expires_at_ms: own.expires_at_ms, by: None });
        assert_eq!(open(&edge, &own.chain, &[], NOW).unwrap().validity, day);
        assert_eq!(open(&control, &own.chain, &own.operator_chain, NOW).unwrap().validity, day);
        let expired = open(&edge, &own.chain, &[], own.expires_at_ms + 1000);
        assert!(matches!(expired, Err(Refusal::CertificateExpired(_))), "{expired:?}");
        let stranger = SigningKey::generate().unwrap().verifying();
        let refused = [
            ("no certificate", open(&edge, &[], &[], NOW)),
            ("another node's certificate", open(&edge, &other.chain, &[], NOW)),
            ("an operator without a certificate", open(&control, &own.chain, &[], NOW)),
            ("a node's certificate for an operator", open(&control, &own.chain, &own.chain, NOW)),
            (
                "another operator key",
                open(
                    &NodeRecord { operator_key: Some(stranger), ..node(&key) },
                    &own.chain,
                    &own.operator_chain,
                    NOW,
                ),
            ),
        ];
        for (what, refused) in refused {
            assert!(matches!(refused, Err(Refusal::Certificate(_))), "{what}: {refused:?}");
        }
    }
}
