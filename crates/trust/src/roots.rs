//! Whose keys are believed: pinned on first use, never changed silently.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::FLEET_NODES_MAX;
use phalanx_model::{Author, AuthorRole};

use crate::{NodeRecord, Refusal, SignedRecord, VerifyingKey};

/// The keys of a fleet's authors.
#[derive(Debug, Clone)]
pub struct TrustRoots {
    fleet_id: Arc<str>,
    keys: HashMap<Author, VerifyingKey>,
    nodes: HashMap<(Arc<str>, Arc<str>), NodeRecord>,
}

/// What pinning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// A node that was not known.
    New,
    /// A known node that has started again.
    Restarted,
    /// Nothing that was not known.
    Known,
}

impl TrustRoots {
    /// Roots of a fleet that knows nobody yet.
    pub fn new(fleet_id: Arc<str>) -> Self {
        Self { fleet_id, keys: HashMap::new(), nodes: HashMap::new() }
    }

    /// The fleet.
    pub fn fleet_id(&self) -> &Arc<str> {
        &self.fleet_id
    }

    /// Pins a node's keys, or checks that they are the ones pinned. A node that first came without an operator key does not
    /// get one later: who steals an edge node's key must not be able to announce itself an operator.
    pub fn pin(&mut self, node: &NodeRecord) -> Result<Pinned, Refusal> {
        let name = (Arc::clone(&node.site), Arc::clone(&node.node));
        if let Some(known) = self.nodes.get_mut(&name) {
            // A node may come back without the control role; its operator key stays pinned for what it signed.
            let operator_changed = node.operator_key.is_some() && known.operator_key != node.operator_key;
            if known.node_key != node.node_key || operator_changed {
                return Err(Refusal::WrongKey(format!("{}/{}", node.site, node.node)));
            }
            if node.started_at_ms <= known.started_at_ms {
                return Ok(Pinned::Known);
            }
            let operator_key = known.operator_key;
            *known = NodeRecord { operator_key, ..node.clone() };
            return Ok(Pinned::Restarted);
        }
        if self.nodes.len() >= FLEET_NODES_MAX {
            return Err(Refusal::TooManyNodes(FLEET_NODES_MAX));
        }
        self.keys.insert(node.author(AuthorRole::Node), node.node_key);
        if let Some(key) = node.operator_key {
            self.keys.insert(node.author(AuthorRole::Operator), key);
        }
        self.nodes.insert(name, node.clone());
        Ok(Pinned::New)
    }

    /// Forgets a node, so that its next announcement is pinned afresh. Whether it was known.
    pub fn forget(&mut self, site: &str, node: &str) -> bool {
        self.keys.retain(|author, _| *author.site != *site || *author.node != *node);
        self.nodes.remove(&(Arc::from(site), Arc::from(node))).is_some()
    }

    /// The nodes known, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// Whether a node is known.
    pub fn knows(&self, site: &str, node: &str) -> bool {
        self.nodes.contains_key(&(Arc::from(site), Arc::from(node)))
    }

    /// Checks that a record that came under `subject` is of this fleet, for this subject, in time, and signed by its author.
    /// What the author may say is for [`crate::authority`].
    pub fn verify(&self, record: &SignedRecord, subject: &str, now_ms: u64) -> Result<(), Refusal> {
        if *record.fleet_id != *self.fleet_id {
            return Err(Refusal::WrongFleet);
        }
        if *record.subject != *subject {
            return Err(Refusal::WrongSubject);
        }
        if record.expires_at_ms <= now_ms {
            return Err(Refusal::Expired);
        }
        let key =
            self.keys.get(&record.author).ok_or_else(|| Refusal::UnknownAuthor(record.author.to_string()))?;
        if key.id() != record.key_id {
            return Err(Refusal::WrongKey(record.author.to_string()));
        }
        if !key.verify(&record.signing_bytes(), &record.signature) {
            return Err(Refusal::BadSignature);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningKey, Statement};

    fn node(name: &str, key: &SigningKey, operator: Option<&SigningKey>) -> NodeRecord {
        NodeRecord {
            site: "fra".into(),
            node: name.into(),
            version: "0.1.0".into(),
            node_key: key.verifying(),
            operator_key: operator.map(SigningKey::verifying),
            roles: vec![],
            started_at_ms: 1,
        }
    }

    fn record(key: &SigningKey, author: &Author) -> SignedRecord {
        let statement =
            Statement { fleet_id: "fleet", subject: "s", author, version: 1, expires_at_ms: 100, body: b"" };
        SignedRecord::sign(key, statement)
    }

    #[test]
    fn only_the_authors_own_key_counts() {
        let (key, operator, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let mut roots = TrustRoots::new("fleet".into());
        let a = node("a", &key, Some(&operator));
        assert_eq!(roots.pin(&a), Ok(Pinned::New));
        let as_node = a.author(AuthorRole::Node);
        let as_operator = a.author(AuthorRole::Operator);
        assert_eq!(roots.verify(&record(&key, &as_node), "s", 0), Ok(()));
        assert_eq!(roots.verify(&record(&operator, &as_operator), "s", 0), Ok(()));
        let wrong = |author: &Author| Err(Refusal::WrongKey(author.to_string()));
        assert_eq!(roots.verify(&record(&other, &as_node), "s", 0), wrong(&as_node));
        assert_eq!(roots.verify(&record(&key, &as_operator), "s", 0), wrong(&as_operator));
        let mut forged = record(&other, &as_node);
        forged.key_id = key.verifying().id();
        assert_eq!(roots.verify(&forged, "s", 0), Err(Refusal::BadSignature));
        let stranger = node("b", &key, None).author(AuthorRole::Node);
        let unknown = Err(Refusal::UnknownAuthor("fra/b".into()));
        assert_eq!(roots.verify(&record(&key, &stranger), "s", 0), unknown);
    }

    #[test]
    fn a_record_counts_for_its_fleet_subject_and_time_only() {
        let key = SigningKey::generate().unwrap();
        let mut roots = TrustRoots::new("fleet".into());
        let mut others = TrustRoots::new("others".into());
        let a = node("a", &key, None);
        roots.pin(&a).unwrap();
        others.pin(&a).unwrap();
        let record = record(&key, &a.author(AuthorRole::Node));
        assert_eq!(others.verify(&record, "s", 0), Err(Refusal::WrongFleet));
        assert_eq!(roots.verify(&record, "t", 0), Err(Refusal::WrongSubject));
        assert_eq!(roots.verify(&record, "s", 99), Ok(()));
        assert_eq!(roots.verify(&record, "s", 100), Err(Refusal::Expired));
    }

    #[test]
    fn a_changed_key_is_refused_until_the_node_is_forgotten() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut roots = TrustRoots::new("fleet".into());
        roots.pin(&node("a", &key, None)).unwrap();
        assert_eq!(roots.pin(&node("a", &key, None)), Ok(Pinned::Known));
        let again = NodeRecord { started_at_ms: 2, ..node("a", &key, None) };
        assert_eq!(roots.pin(&again), Ok(Pinned::Restarted));
        let refused = Err(Refusal::WrongKey("fra/a".into()));
        assert_eq!(roots.pin(&node("a", &other, None)), refused);
        assert_eq!(
            roots.pin(&node("a", &key, Some(&other))),
            refused,
            "an edge key cannot make itself operator"
        );
        assert!(roots.forget("fra", "a"));
        assert_eq!(roots.pin(&node("a", &other, None)), Ok(Pinned::New));
    }
}
