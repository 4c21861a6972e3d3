//! Whose keys are believed: certified by the fleet's authority, or else pinned on first use and never changed silently.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use phalanx_model::limits::FLEET_NODES_MAX;
use phalanx_model::{Author, AuthorRole};
use serde::{Deserialize, Serialize};

use crate::announce::{Admitted, Validity};
use crate::certificate::CLOCK_ALLOWANCE_MS;
use crate::{KeyId, NodeRecord, Refusal, Revocation, SignedRecord, VerifyingKey};

/// The keys of a fleet's authors.
#[derive(Debug, Clone)]
pub struct TrustRoots {
    fleet_id: Arc<str>,
    keys: HashMap<Author, VerifyingKey>,
    nodes: HashMap<Name, NodeRecord>,
    /// How long the certificates of nodes hold, where there are any.
    validities: HashMap<Name, Validity>,
    /// Up to when certificates of these names do not count.
    revoked: HashMap<Name, u64>,
    /// Up to when delegations to these names do not count.
    ended: HashMap<Name, u64>,
    /// Keys of revoked nodes: no certificate for them counts, whenever it was made.
    revoked_keys: HashSet<KeyId>,
    /// Nodes that had the control role at some time, also those that are known no more, and the keys with which they had it.
    control: HashMap<Name, Vec<HadKey>>,
    /// Pinned keys that an operator dropped, and when: what was announced with them before may still lie in a stream.
    dropped_keys: HashMap<KeyId, u64>,
}

type Name = (Arc<str>, Arc<str>);

/// An operator key that a name was known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HadKey {
    /// The names of the operator key and of the node's own with it.
    keys: [[u8; 8]; 2],
    /// When the first certificate for it was made that came here.
    issued_at_ms: u64,
}

/// What pinning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// A node that was not known.
    New,
    /// A known node that has started again.
    Restarted,
    /// A known node with fresh certificates.
    Renewed,
    /// Nothing that was not known.
    Known,
}

impl TrustRoots {
    /// Roots of a fleet that knows nobody yet.
    pub fn new(fleet_id: Arc<str>) -> Self {
        Self {
            fleet_id,
            keys: HashMap::new(),
            nodes: HashMap::new(),
            validities: HashMap::new(),
            revoked: HashMap::new(),
            ended: HashMap::new(),
            revoked_keys: HashSet::new(),
            dropped_keys: HashMap::new(),
            control: HashMap::new(),
        }
    }

    /// The fleet.
    pub fn fleet_id(&self) -> &Arc<str> {
        &self.fleet_id
    }

    /// Pins a node's keys, or checks that they are the ones pinned. A node that first came without an operator key does not
    /// get one later: who steals an edge node's key must not be able to announce itself an operator.
    pub fn pin(&mut self, node: &NodeRecord) -> Result<Pinned, Refusal> {
        let name = (Arc::clone(&node.site), Arc::clone(&node.node));
        if node.operator_key.is_some() {
            self.note_control(&node.site, &node.node, &[]);
        }
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
        if self.dropped_keys.get(&node.node_key.id()).is_some_and(|at_ms| node.started_at_ms <= *at_ms) {
            return Err(Refusal::NotAllowed(
                "an operator dropped this key; a node that still has it counts when it starts again",
            ));
        }
        self.keys.insert(node.author(AuthorRole::Node), node.node_key);
        if let Some(key) = node.operator_key {
            self.keys.insert(node.author(AuthorRole::Operator), key);
        }
        self.nodes.insert(name, node.clone());
        Ok(Pinned::New)
    }

    /// Takes in a node that [`crate::Announcement::open`] admitted. Without certificates its keys are pinned. With them, a newer
    /// certificate replaces the keys: the authority has seen to it that the name is the same node's, or another's in its place.
    pub fn admit(&mut self, admitted: &Admitted) -> Result<Pinned, Refusal> {
        let node = &admitted.node;
        let Some(validity) = &admitted.validity else { return self.pin(node) };
        let name = (Arc::clone(&node.site), Arc::clone(&node.node));
        if self.revoked.get(&name).is_some_and(|up_to_ms| validity.issued_at_ms <= *up_to_ms)
            || self.revoked_keys.contains(&node.node_key.id())
        {
            return Err(Refusal::Revoked(format!("{}/{}", node.site, node.node)));
        }
        self.may_be_by_delegate(&name, validity)?;
        let known = self.validities.get(&name);
        let newer = known.is_none_or(|known| validity.issued_at_ms > known.issued_at_ms);
        let other = self.nodes.get(&name).is_some_and(|known| !same_keys(known, node));
        // Of two nodes of one name the authority's counts, whichever was there first, and a delegate's is refused while it does.
        let fresh = match known.filter(|_| other).map(|known| (&known.by, &validity.by)) {
            Some((None, Some(_)))
                if known.is_some_and(|known| validity.issued_at_ms < known.expires_at_ms) =>
            {
                return Err(Refusal::WrongKey(format!("{}/{}", node.site, node.node)));
            }
            Some((Some(_), None)) => true,
            _ => newer,
        };
        if fresh && other {
            self.forget(&node.site, &node.node);
        }
        let pinned = self.pin(node)?;
        if !fresh {
            return Ok(pinned);
        }
        if let Some(key) = node.operator_key {
            let keys = [key.id().0, node.node_key.id().0];
            self.note_control(
                &node.site,
                &node.node,
                &[HadKey { keys, issued_at_ms: validity.issued_at_ms }],
            );
        }
        self.validities.insert(name, validity.clone());
        Ok(if pinned == Pinned::Known { Pinned::Renewed } else { pinned })
    }

    /// How long a node's certificates hold.
    pub fn validity(&self, site: &str, node: &str) -> Option<Validity> {
        self.validities.get(&(Arc::from(site), Arc::from(node))).cloned()
    }

    /// Whether a node may be known by what a delegate of its site signed.
    fn may_be_by_delegate(&self, name: &Name, validity: &Validity) -> Result<(), Refusal> {
        let Some(by) = &validity.by else { return Ok(()) };
        let delegate = (Arc::clone(&name.0), Arc::clone(&by.node));
        if self.ended.get(&delegate).is_some_and(|up_to_ms| by.delegated_at_ms <= *up_to_ms) {
            return Err(Refusal::Revoked(format!("the delegate {}/{}", delegate.0, delegate.1)));
        }
        let admitted = |(known, validity): (&Name, &Validity)| known.0 == name.0 && validity.by.is_some();
        let full = self.validities.iter().filter(|known| admitted(*known)).count() >= DELEGATED_MAX;
        match full && !self.validities.contains_key(name) {
            true => Err(Refusal::TooManyNodes(DELEGATED_MAX)),
            false => Ok(()),
        }
    }

    /// Ends the belief in everything that a node signed as its site's delegate with a delegation of up to a time. The nodes that were
    /// believed by it, which count again with certificates of the authority's; `None` if that was known.
    pub fn end_delegation(&mut self, revocation: &Revocation) -> Option<Vec<(Arc<str>, Arc<str>)>> {
        let name = (Arc::clone(&revocation.site), Arc::clone(&revocation.node));
        let up_to_ms = revocation.delegated_up_to_ms();
        let known = self.ended.get(&name).copied().unwrap_or_default();
        if known >= up_to_ms {
            return None;
        }
        if let Some(unknown) = self.to_make_room(&self.ended, &name).ok()? {
            self.ended.remove(&unknown);
        }
        self.ended.insert(name, up_to_ms);
        let theirs = |(name, validity): (&Name, &Validity)| {
            let by = validity.by.as_ref()?;
            revocation.ends_delegation(&name.0, by).then(|| name.clone())
        };
        let gone: Vec<Name> = self.validities.iter().filter_map(theirs).collect();
        for (site, node) in &gone {
            self.forget(site, node);
        }
        Some(gone)
    }

    /// Ends the belief in every certificate of a name that was made up to a time. False if that was known.
    pub fn revoke(&mut self, revocation: &Revocation) -> Result<bool, Refusal> {
        let name = (Arc::clone(&revocation.site), Arc::clone(&revocation.node));
        if let Some(unknown) = self.to_make_room(&self.revoked, &name)? {
            self.revoked.remove(&unknown);
        }
        let mut news = false;
        if let Some(key) = revocation.node_key {
            let its_own = self.nodes.get(&name).is_some_and(|known| known.node_key == key);
            news = (its_own || self.revoked_keys.len() < REVOKED_MAX) && self.revoked_keys.insert(key.id());
            // It may have renewed meanwhile, with a clock of the authority's that is ahead of the one who revoked it.
            if its_own {
                self.forget(&revocation.site, &revocation.node);
            }
        }
        let up_to_ms = self.revoked.entry(name.clone()).or_default();
        if *up_to_ms >= revocation.up_to_ms {
            return Ok(news);
        }
        *up_to_ms = revocation.up_to_ms;
        if self.validities.get(&name).is_none_or(|validity| validity.issued_at_ms <= revocation.up_to_ms) {
            self.forget(&revocation.site, &revocation.node);
        }
        Ok(true)
    }

    /// Whether another's revocation of a name finds room: always, if the name is known. A stolen control node that makes up names must
    /// not fill the place that its own needs.
    pub fn may_be_revoked(&self, revocation: &Revocation) -> bool {
        let name = (Arc::clone(&revocation.site), Arc::clone(&revocation.node));
        let unknown = || self.revoked.keys().filter(|name| !self.is_or_was(name)).count();
        self.is_or_was(&name) || self.revoked.contains_key(&name) || unknown() < UNKNOWN_REVOKED_MAX
    }

    fn is_or_was(&self, name: &Name) -> bool {
        self.nodes.contains_key(name) || self.control.contains_key(name)
    }

    /// Which name must go so that another one finds room, if any: one that nobody knows, for one that is known.
    fn to_make_room(&self, of: &HashMap<Name, u64>, name: &Name) -> Result<Option<Name>, Refusal> {
        if of.len() < REVOKED_MAX || of.contains_key(name) {
            return Ok(None);
        }
        let unknown = of.keys().filter(|_| self.is_or_was(name)).find(|other| !self.is_or_was(other));
        unknown.cloned().map(Some).ok_or(Refusal::TooManyNodes(REVOKED_MAX))
    }

    /// Forgets a node, so that its next announcement is pinned afresh. Whether it was known.
    fn forget(&mut self, site: &str, node: &str) -> bool {
        self.keys.retain(|author, _| *author.site != *site || *author.node != *node);
        self.validities.remove(&(Arc::from(site), Arc::from(node)));
        self.nodes.remove(&(Arc::from(site), Arc::from(node))).is_some()
    }

    /// Forgets a node and the key it is known by, so that an announcement under another one is pinned afresh, and one from before under
    /// the same one is not. Whether it was known.
    pub fn drop_key(&mut self, site: &str, node: &str, now_ms: u64) -> bool {
        if let Some(key) = self.node_key(site, node)
            && (self.dropped_keys.len() < REVOKED_MAX || self.dropped_keys.contains_key(&key.id()))
        {
            self.dropped_keys.insert(key.id(), now_ms);
        }
        self.forget(site, node)
    }

    /// The nodes known, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// The key that a node signs with, if the node is known.
    pub fn node_key(&self, site: &str, node: &str) -> Option<VerifyingKey> {
        self.nodes.get(&(Arc::from(site), Arc::from(node))).map(|known| known.node_key)
    }

    /// The key that a node signs with for operators, if the node is known and may.
    pub fn operator_key(&self, site: &str, node: &str) -> Option<VerifyingKey> {
        self.nodes.get(&(Arc::from(site), Arc::from(node))).and_then(|known| known.operator_key)
    }

    /// Remembers that a node had the control role, and with which keys.
    pub fn note_control(&mut self, site: &str, node: &str, keys: &[HadKey]) {
        let name = (Arc::from(site), Arc::from(node));
        if self.control.len() >= REVOKED_MAX && !self.control.contains_key(&name) {
            return;
        }
        let had = self.control.entry(name).or_default();
        for key in keys {
            match had.iter_mut().find(|known| known.keys == key.keys) {
                Some(known) => known.issued_at_ms = known.issued_at_ms.min(key.issued_at_ms),
                None => had.push(*key),
            }
        }
        had.sort_by_key(|key| std::cmp::Reverse(key.issued_at_ms));
        had.truncate(HAD_KEYS_MAX);
    }

    /// The operator keys that a name is remembered to have had.
    pub fn had_keys(&self, site: &str, node: &str) -> &[HadKey] {
        self.control.get(&(Arc::from(site), Arc::from(node))).map_or(&[], Vec::as_slice)
    }

    /// Those that a name got after a time, of nodes that were enrolled afresh under it.
    pub fn operator_keys_since(&self, site: &str, node: &str, up_to_ms: u64) -> Vec<KeyId> {
        let had = self.had_keys(site, node).iter();
        let since =
            had.filter(|had| had.issued_at_ms > up_to_ms && !self.revoked_keys.contains(&KeyId(had.keys[1])));
        since.map(|had| KeyId(had.keys[0])).collect()
    }

    /// Whether a node has the control role, or had it at some time that is remembered.
    pub fn had_control(&self, site: &str, node: &str) -> bool {
        self.control.contains_key(&(Arc::from(site), Arc::from(node)))
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
        let name = (Arc::clone(&record.author.site), Arc::clone(&record.author.node));
        let key = self.keys.get(&record.author).ok_or_else(|| match self.revoked.contains_key(&name) {
            true => Refusal::Revoked(record.author.to_string()),
            false => Refusal::UnknownAuthor(record.author.to_string()),
        })?;
        let validity = self.validities.get(&name);
        if validity
            .is_some_and(|validity| validity.expires_at_ms.saturating_add(CLOCK_ALLOWANCE_MS) <= now_ms)
        {
            return Err(Refusal::CertificateExpired(record.author.to_string()));
        }
        if key.id() != record.key_id {
            return Err(Refusal::WrongKey(record.author.to_string()));
        }
        if !key.verify(&record.signing_bytes(), &record.signature) {
            return Err(Refusal::BadSignature);
        }
        Ok(())
    }
}

/// A node may come back without the control role.
/// Of certified nodes: an operator's key that is no longer announced has no certificate, and does not count.
fn same_keys(known: &NodeRecord, node: &NodeRecord) -> bool {
    known.node_key == node.node_key && known.operator_key == node.operator_key
}

/// Nodes of one site that are known by its delegate's word: a stolen one must not fill the fleet with names.
const DELEGATED_MAX: usize = FLEET_NODES_MAX / 4;
/// Names that are revoked at once: only operators add to them.
const REVOKED_MAX: usize = 4 * FLEET_NODES_MAX;
/// Those of them that no node here is known by, by the word of others: fewer than a password can name, so that one of a node that is known
/// is always among them.
const UNKNOWN_REVOKED_MAX: usize = FLEET_NODES_MAX + FLEET_NODES_MAX / 2;
/// Operator keys of one name that are remembered, the last ones.
const HAD_KEYS_MAX: usize = 16;

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
            enrol: vec![],
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

    fn certified(key: &SigningKey, issued_at_ms: u64) -> Admitted {
        let validity = Validity { issued_at_ms, expires_at_ms: issued_at_ms + 1_000_000, by: None };
        Admitted { node: node("a", key, None), validity: Some(validity) }
    }

    #[test]
    fn a_newer_certificate_replaces_keys_and_an_older_one_does_not() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut roots = TrustRoots::new("fleet".into());
        assert_eq!(roots.admit(&certified(&key, 10)), Ok(Pinned::New));
        assert_eq!(roots.admit(&certified(&key, 10)), Ok(Pinned::Known));
        assert_eq!(roots.admit(&certified(&key, 20)), Ok(Pinned::Renewed));
        assert_eq!(roots.admit(&certified(&other, 15)), Err(Refusal::WrongKey("fra/a".into())));
        assert_eq!(roots.admit(&certified(&other, 30)), Ok(Pinned::New));
    }

    #[test]
    fn what_an_author_says_after_its_certificates_end_is_refused() {
        let key = SigningKey::generate().unwrap();
        let mut roots = TrustRoots::new("fleet".into());
        let admitted = certified(&key, 10);
        roots.admit(&admitted).unwrap();
        let author = admitted.node.author(AuthorRole::Node);
        let statement = Statement {
            fleet_id: "fleet",
            subject: "s",
            author: &author,
            version: 1,
            expires_at_ms: u64::MAX,
            body: b"",
        };
        let record = SignedRecord::sign(&key, statement);
        let ends = 1_000_010 + CLOCK_ALLOWANCE_MS;
        assert_eq!(roots.verify(&record, "s", ends - 1), Ok(()));
        assert_eq!(roots.verify(&record, "s", ends), Err(Refusal::CertificateExpired("fra/a".into())));
        roots.admit(&certified(&key, 2_000_000)).unwrap();
        assert_eq!(roots.verify(&record, "s", ends), Ok(()));
    }

    #[test]
    fn a_revoked_key_does_not_count_whenever_its_certificate_was_made() {
        let key = SigningKey::generate().unwrap();
        let mut roots = TrustRoots::new("fleet".into());
        // The authority's clock is ahead of the one who revokes.
        let admitted = certified(&key, 60);
        roots.admit(&admitted).unwrap();
        let revocation = Revocation {
            node_key: Some(key.verifying()),
            site: "fra".into(),
            node: "a".into(),
            up_to_ms: 50,
            delegation_up_to_ms: 0,
            control: false,
            withdraw: true,
            reason: String::new(),
        };
        assert_eq!(roots.revoke(&revocation), Ok(true));
        assert!(!roots.knows("fra", "a"));
        assert_eq!(roots.admit(&certified(&key, 1_000)), Err(Refusal::Revoked("fra/a".into())));
        assert_eq!(roots.admit(&certified(&SigningKey::generate().unwrap(), 51)), Ok(Pinned::New));
    }

    #[test]
    fn an_operator_key_that_is_no_longer_certified_does_not_count() {
        let (key, operator) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut roots = TrustRoots::new("fleet".into());
        let mut admitted = certified(&key, 10);
        admitted.node.operator_key = Some(operator.verifying());
        roots.admit(&admitted).unwrap();
        let author = admitted.node.author(AuthorRole::Operator);
        assert_eq!(roots.verify(&record(&operator, &author), "s", 0), Ok(()));
        roots.admit(&certified(&key, 20)).unwrap();
        assert!(roots.verify(&record(&operator, &author), "s", 0).is_err());
    }

    fn revocation(name: &str, up_to_ms: u64, node_key: Option<VerifyingKey>) -> Revocation {
        Revocation {
            node_key,
            site: "fra".into(),
            node: name.into(),
            up_to_ms,
            delegation_up_to_ms: 0,
            control: true,
            withdraw: false,
            reason: String::new(),
        }
    }

    #[test]
    fn revocations_of_names_that_nobody_knows_take_no_room_from_one_of_a_node_that_is_known() {
        let key = SigningKey::generate().unwrap();
        let mut roots = TrustRoots::new("fleet".into());
        roots.admit(&certified(&key, 10)).unwrap();
        let mut taken = 0;
        for n in 0..2 * REVOKED_MAX {
            let made_up = revocation(&format!("n{n}"), 50, Some(SigningKey::generate().unwrap().verifying()));
            taken += usize::from(roots.may_be_revoked(&made_up) && roots.revoke(&made_up).is_ok());
            roots.end_delegation(&made_up);
        }
        assert_eq!(taken, UNKNOWN_REVOKED_MAX);
        // Those that were known once may be as many as there is room.
        for n in 0..REVOKED_MAX {
            let _ = roots.revoke(&revocation(&format!("m{n}"), 50, None));
        }
        let own = revocation("a", 50, Some(key.verifying()));
        assert!(roots.may_be_revoked(&own) && roots.end_delegation(&own).is_some());
        assert_eq!(roots.revoke(&own), Ok(true));
        assert_eq!(roots.admit(&certified(&key, 10)), Err(Refusal::Revoked("fra/a".into())));
        assert_eq!(roots.revoked.len(), REVOKED_MAX);
    }

    #[test]
    fn the_keys_of_nodes_enrolled_afresh_under_a_revoked_name_are_remembered_when_they_go() {
        let keys: Vec<SigningKey> = (0..6).map(|_| SigningKey::generate().unwrap()).collect();
        let mut roots = TrustRoots::new("fleet".into());
        let with_role = |node: &SigningKey, operator: &SigningKey, issued_at_ms: u64| {
            let mut admitted = certified(node, issued_at_ms);
            admitted.node.operator_key = Some(operator.verifying());
            admitted
        };
        roots.admit(&with_role(&keys[0], &keys[1], 10)).unwrap();
        // The authority's clock is ahead of the one who revokes.
        roots.admit(&with_role(&keys[0], &keys[2], 60)).unwrap();
        assert_eq!(roots.revoke(&revocation("a", 50, Some(keys[0].verifying()))), Ok(true));
        roots.admit(&with_role(&keys[3], &keys[4], 70)).unwrap();
        roots.admit(&with_role(&keys[3], &keys[4], 80)).unwrap();
        roots.admit(&certified(&keys[5], 90)).unwrap();
        roots.drop_key("fra", "a", 95);
        let good = [keys[4].verifying().id()];
        assert_eq!(roots.operator_keys_since("fra", "a", 50), good);
        let mut again = TrustRoots::new("fleet".into());
        again.note_control("fra", "a", roots.had_keys("fra", "a"));
        assert_eq!(again.revoke(&revocation("a", 50, Some(keys[0].verifying()))), Ok(true));
        assert_eq!(again.operator_keys_since("fra", "a", 50), good);
        assert!(again.operator_keys_since("fra", "a", 70).is_empty(), "by its first certificate");
    }

    #[test]
    fn who_had_the_control_role_once_is_remembered_whatever_became_of_it() {
        let (key, operator) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut roots = TrustRoots::new("fleet".into());
        let mut admitted = certified(&key, 10);
        admitted.node.operator_key = Some(operator.verifying());
        roots.admit(&admitted).unwrap();
        roots.admit(&certified(&key, 20)).unwrap();
        assert!(roots.operator_key("fra", "a").is_none() && roots.had_control("fra", "a"));
        roots.drop_key("fra", "a", 30);
        assert!(!roots.knows("fra", "a") && roots.had_control("fra", "a"));
        assert!(!roots.had_control("fra", "b"));
    }

    #[test]
    fn a_revoked_author_is_refused_until_it_is_enrolled_afresh() {
        let key = SigningKey::generate().unwrap();
        let mut roots = TrustRoots::new("fleet".into());
        let admitted = certified(&key, 10);
        roots.admit(&admitted).unwrap();
        let revocation = Revocation {
            node_key: None,
            site: "fra".into(),
            node: "a".into(),
            up_to_ms: 50,
            delegation_up_to_ms: 0,
            control: false,
            withdraw: false,
            reason: String::new(),
        };
        assert_eq!(roots.revoke(&revocation), Ok(true));
        assert_eq!(roots.revoke(&revocation), Ok(false));
        let author = admitted.node.author(AuthorRole::Node);
        assert_eq!(roots.verify(&record(&key, &author), "s", 0), Err(Refusal::Revoked("fra/a".into())));
        for issued_at_ms in [10, 50] {
            assert_eq!(roots.admit(&certified(&key, issued_at_ms)), Err(Refusal::Revoked("fra/a".into())));
        }
        assert_eq!(roots.admit(&certified(&SigningKey::generate().unwrap(), 51)), Ok(Pinned::New));
    }
}
