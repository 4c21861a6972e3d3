//! Revocations: an operator ends a node's membership, and every node refuses what it says from then on.
//!
//! INVARIANT: a revocation takes effect here before it is sent anywhere, and what it ended does not come back with a restart, a
//! returning node or an old stream.

use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::AuthorRole;
use phalanx_model::limits::{FLEET_NODES_MAX, REASON_BYTES_MAX};
use phalanx_trust::{Refusal, Revocation, RevokedNode, SignedRecord, TrustError, valid_name};

use crate::hybrid_clock::{version_at, version_ms};
use crate::shared::Shared;
use crate::store::Kept;
use crate::{FleetError, FleetHandle, Put, Speed, Topic, subject};

impl FleetHandle {
    /// Ends a node's membership everywhere, as an operator. `withdraw`: also what it decided so far; what it decides later ends in
    /// any case.
    pub async fn revoke(
        &self,
        site: &str,
        node: &str,
        withdraw: bool,
        reason: &str,
    ) -> Result<Revocation, FleetError> {
        let shared = &self.shared;
        shared.may_revoke(site, node, reason)?;
        if *site == *shared.me.site && *node == *shared.me.node {
            return Err(FleetError::Impossible(
                "a node cannot revoke itself; do it on another node with the control role",
            ));
        }
        let now_ms = shared.clock.now_ms();
        let version = shared.core.lock().clock.tick(now_ms);
        let revocation = Revocation {
            site: site.into(),
            node: node.into(),
            up_to_ms: now_ms.max(version_ms(version)),
            delegation_up_to_ms: 0,
            node_key: shared.roots.read().node_key(site, node),
            control: shared.may_have_had_control(site, node),
            withdraw,
            reason: reason.to_owned(),
        };
        shared.apply_revocation(&revocation)?;
        let put = shared.sign_revocation(&revocation, version)?;
        shared.engine.publish(put).await?;
        // What stays must be for those to check who come later, too.
        if let Err(error) = shared.take_over(site, node) {
            let text = format!(
                "not all that {site}/{node} had decided could be taken over when it was revoked: {error}"
            );
            shared.fault(format!("{site}/{node} inheritance"), text);
        }
        Ok(revocation)
    }

    /// Ends what a node may do as its site's delegate, everywhere, as an operator: nothing counts that it signed, whenever it did. The
    /// node itself goes on.
    pub async fn end_delegation(
        &self,
        site: &str,
        node: &str,
        reason: &str,
    ) -> Result<Revocation, FleetError> {
        let shared = &self.shared;
        shared.may_revoke(site, node, reason)?;
        let now_ms = shared.clock.now_ms();
        let version = shared.core.lock().clock.tick(now_ms);
        // One record of this operator's about the node takes the place of another: what that said must stand in it, too.
        let known =
            shared.revocations.borrow().iter().find(|one| *one.site == *site && *one.node == *node).cloned();
        let revocation = Revocation {
            delegation_up_to_ms: now_ms.max(version_ms(version)),
            ..known.unwrap_or_else(|| Revocation {
                site: site.into(),
                node: node.into(),
                up_to_ms: 0,
                delegation_up_to_ms: 0,
                node_key: None,
                control: false,
                withdraw: false,
                reason: reason.to_owned(),
            })
        };
        shared.apply_revocation(&revocation)?;
        let put = shared.sign_revocation(&revocation, version)?;
        shared.engine.publish(put).await?;
        Ok(revocation)
    }

    /// Nodes of this one's site at which others can renew should they be its delegate: names and addresses. What such a node gives is
    /// checked like anything else.
    pub fn delegates(&self) -> Vec<(Arc<str>, Vec<String>)> {
        let (roots, me) = (self.shared.roots.read(), &self.shared.me);
        let others = roots.nodes().filter(|node| node.site == me.site && node.node != me.node);
        let could = others.filter(|node| node.operator_key.is_some() && !node.enrol.is_empty());
        could.map(|node| (Arc::clone(&node.node), node.enrol.clone())).collect()
    }

    /// The revocations known, and a wake-up for each new one.
    pub fn revocations(&self) -> tokio::sync::watch::Receiver<Vec<Revocation>> {
        self.shared.revocations.subscribe()
    }
}

impl Shared {
    fn may_revoke(&self, site: &str, node: &str, reason: &str) -> Result<(), FleetError> {
        self.key(AuthorRole::Operator)?;
        if self.membership.is_none() {
            return Err(FleetError::Impossible(
                "this fleet has no authority, so nothing can be revoked; make one with `phalanx fleet init`, or drop a node's \
                 keys with `phalanx fleet forget`",
            ));
        }
        if !valid_name(site) || !valid_name(node) {
            return Err(FleetError::Impossible("site or node is no name; use 1 to 63 of a-z, 0-9, - and _"));
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(FleetError::Limit("the reason is too long"));
        }
        Ok(())
    }

    /// Whether a node knew operators' accounts, as far as that can be known: one that is known no more may have.
    fn may_have_had_control(&self, site: &str, node: &str) -> bool {
        let roots = self.roots.read();
        roots.had_control(site, node) || !roots.knows(site, node)
    }

    /// The nodes whose revocation is in force, and which of them had the control role.
    pub(crate) fn revoked_nodes(&self) -> Vec<RevokedNode> {
        let (now_ms, roots) = (self.clock.now_ms(), self.roots.read());
        let revoked = self.revocations.borrow();
        let ends_ms = |one: &Revocation| one.up_to_ms.saturating_add(REVOCATION_MS);
        let counts = |one: &&Revocation| one.up_to_ms > 0 && now_ms < ends_ms(one);
        let of = |one: &Revocation| {
            let since = roots.operator_keys_since(&one.site, &one.node, one.up_to_ms);
            RevokedNode {
                node: format!("{}/{}", one.site, one.node),
                up_to_ms: one.up_to_ms,
                successors: since.iter().map(ToString::to_string).collect(),
                control: one.control || roots.had_control(&one.site, &one.node),
                lapsing: now_ms.saturating_add(LAPSING_MS) >= ends_ms(one),
            }
        };
        revoked.iter().filter(counts).map(of).collect()
    }

    /// Puts a revocation that an operator once gave into force again, in the name of this node's operator.
    pub(crate) async fn revoke_again(&self, revocation: &Revocation) -> Result<(), FleetError> {
        let version = self.core.lock().clock.tick(self.clock.now_ms());
        self.apply_revocation(revocation)?;
        let put = self.sign_revocation(revocation, version)?;
        self.engine.publish(put).await.map(drop)
    }

    /// Checks a revocation that came under `subject`, and puts it into force.
    pub(crate) fn receive_revocation(&self, subject: &str, bytes: &[u8]) -> Result<(), Refusal> {
        if self.membership.is_none() {
            return Err(Refusal::NotAllowed("this fleet has no authority"));
        }
        let now_ms = self.clock.now_ms();
        let record = SignedRecord::from_bytes(bytes)?;
        let revocation = Revocation::of(&record, now_ms)?;
        if subject::of_revocation(&record.author, &revocation) != *subject {
            return Err(Refusal::WrongSubject);
        }
        if record.expires_at_ms <= now_ms {
            return Err(Refusal::Expired);
        }
        // Judged by the time it was written: it must not lapse because the operator who wrote it went home.
        let written_ms = version_ms(record.version).min(now_ms);
        let roots = self.roots.read();
        roots.verify(&record, subject, written_ms)?;
        if !roots.may_be_revoked(&revocation) {
            return Err(Refusal::TooManyNodes(FLEET_NODES_MAX));
        }
        drop(roots);
        if self.apply_revocation(&revocation)? {
            let (site, node) = (&revocation.site, &revocation.node);
            tracing::warn!(%site, %node, by = %record.author, "node revoked");
            self.store.keep_soon(Kept {
                subject: subject.to_owned(),
                version: record.version,
                expires_at_ms: record.expires_at_ms,
                own: self.is_me(&record.author),
                bytes: bytes.to_vec(),
            });
        }
        Ok(())
    }

    /// Puts into force what this node remembers. The seal proves that it was checked.
    pub(crate) fn restore_revocations(&self) -> Result<(), FleetError> {
        for kept in self.store.records(&format!("{}.", subject::REVOCATIONS))?.0 {
            let record = SignedRecord::from_bytes(&kept.bytes).ok();
            let revocation =
                record.and_then(|record| serde_json::from_slice::<Revocation>(&record.body).ok());
            if let Some(revocation) = revocation.filter(|_| kept.expires_at_ms > self.clock.now_ms()) {
                // Whatever does not find room must not keep the node from starting.
                if let Err(refusal) = self.apply_revocation(&revocation) {
                    self.refuse(&kept.subject, &refusal);
                }
            } else {
                self.engine.forget(&kept.subject, kept.version);
            }
        }
        Ok(())
    }

    /// Whether it was news.
    fn apply_revocation(&self, revocation: &Revocation) -> Result<bool, Refusal> {
        let (site, node) = (&*revocation.site, &*revocation.node);
        let ended = self.apply_end_of_delegation(revocation);
        let revoked = match () {
            () if revocation.up_to_ms == 0 => Ok(ended),
            () if *site == *self.me.site && *node == *self.me.node => Ok(self.was_revoked(revocation)),
            () => self.apply_end_of_node(revocation).map(|news| news || ended),
        };
        // After it is in force: whoever is woken by it makes new secrets for the nodes that are believed then.
        if ended || matches!(revoked, Ok(true)) {
            self.note_revocation(revocation);
        }
        revoked
    }

    /// Whether it was news that a node is not believed any more. What it said goes, too.
    fn apply_end_of_node(&self, revocation: &Revocation) -> Result<bool, Refusal> {
        let (site, node) = (&*revocation.site, &*revocation.node);
        let news = self.roots.write().revoke(revocation)?;
        let known = self.roots.read().knows(site, node);
        if news && !known {
            self.members.lock().forget(site, node);
            self.store.unpin(&format!("{site}/{node}"));
        }
        // Also when it is known: a record that was checked just before is merged by now.
        if !known {
            let above =
                if revocation.withdraw { 0 } else { version_at(revocation.up_to_ms.saturating_add(1)) };
            self.expel_orders(site, node, above);
            let mut core = self.core.lock();
            let (gone, mut touched) = core.registers.expel(site, node, above);
            if core.restoring {
                let view = self.view.load_full();
                let theirs = view.live(self.clock.now_ms()).filter(|one| core.registers.is_expelled(one));
                touched.extend(theirs.map(|decision| decision.actor.key()));
            }
            core.trail.note_gone(&gone);
            self.let_go(&mut core, &gone);
            self.swap_view(&mut core, touched);
            drop(core);
            self.lists_changed.notify_one();
            self.forget(gone);
        }
        Ok(news)
    }

    /// Whether it was news that a node's delegation has ended.
    fn apply_end_of_delegation(&self, revocation: &Revocation) -> bool {
        let Some(gone) = self.roots.write().end_delegation(revocation) else { return false };
        for (site, node) in gone {
            self.members.lock().forget(&site, &node);
            self.store.unpin(&format!("{site}/{node}"));
        }
        true
    }

    /// One of each node: what ends the node itself stays when later only its delegation ends.
    fn note_revocation(&self, revocation: &Revocation) {
        self.revocations.send_modify(|known| {
            let same = |one: &Revocation| one.site == revocation.site && one.node == revocation.node;
            let before = known.iter().find(|one| same(one)).cloned();
            known.retain(|one| !same(one));
            let newer = before.as_ref().filter(|before| before.up_to_ms > revocation.up_to_ms);
            let delegation_up_to_ms = before.as_ref().map_or(0, |before| before.delegation_up_to_ms);
            let control = before.as_ref().is_some_and(|before| before.control);
            known.push(Revocation {
                delegation_up_to_ms: delegation_up_to_ms.max(revocation.delegation_up_to_ms),
                control: control || revocation.control,
                ..newer.unwrap_or(revocation).clone()
            });
        });
    }

    /// This very node was revoked: it goes on enforcing what it knows, and says why nobody listens to it.
    fn was_revoked(&self, revocation: &Revocation) -> bool {
        let issued_at_ms = self.membership.as_ref().map_or(0, |held| held.held().grant.issued_at_ms);
        if issued_at_ms > revocation.up_to_ms {
            return false;
        }
        let news = !self.faults.lock().contains_key(FAULT);
        let why = match revocation.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({})", reason.escape_debug()),
        };
        self.fault(
            FAULT,
            format!(
                "an operator has revoked this node{why}: the others refuse what it says; it goes on protecting with what it knows. \
                 To bring it back, remove its state and join it again with a new token"
            ),
        );
        news
    }

    fn sign_revocation(&self, revocation: &Revocation, version: u64) -> Result<Put, FleetError> {
        let subject = subject::of_revocation(&self.me.author(AuthorRole::Operator), revocation);
        let body = serde_json::to_vec(revocation).map_err(|_| TrustError::Crypto("writing a revocation"))?;
        let expires_at_ms = version_ms(version).saturating_add(REVOCATION_MS);
        let bytes = self.signed(AuthorRole::Operator, &subject, version, expires_at_ms, &body)?;
        Ok(Put { topic: Topic::Revocations, subject, version, expires_at_ms, bytes, speed: Speed::Both })
    }
}

/// Records of operators whose author has not been announced yet; the last ones, few, because only operators write any.
#[derive(Debug)]
pub(crate) struct Unheard {
    waiting: Vec<(Arc<str>, Bytes)>,
    take: Take,
}

/// Checks a record that came under a subject, and puts it into force.
type Take = fn(&Shared, &str, &[u8]) -> Result<(), Refusal>;

impl Unheard {
    /// Records that `take` takes into force.
    pub(crate) fn of(take: Take) -> Self {
        Self { waiting: Vec::new(), take }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a record into force, or keeps it until its author is known.
    pub(crate) fn receive(&mut self, shared: &Shared, subject: Arc<str>, bytes: Bytes) {
        match (self.take)(shared, &subject, &bytes) {
            Ok(()) | Err(Refusal::Expired) => {}
            Err(Refusal::UnknownAuthor(_)) => {
                if self.waiting.len() >= UNHEARD_MAX {
                    self.waiting.remove(0);
                }
                self.waiting.push((subject, bytes));
            }
            Err(refusal) => shared.refuse(&subject, &refusal),
        }
    }

    /// Tries again those that wait.
    pub(crate) fn again(&mut self, shared: &Shared) {
        for (subject, bytes) in std::mem::take(&mut self.waiting) {
            self.receive(shared, subject, bytes);
        }
    }
}

/// Longer than anything that it ends can be renewed: 30 days after the end of a certificate.
const REVOCATION_MS: u64 = 60 * 24 * 60 * 60_000;
/// Clocks differ: what one node has forgotten already, another must not ask for.
const LAPSING_MS: u64 = 24 * 60 * 60_000;
const UNHEARD_MAX: usize = 64;
const FAULT: &str = "revoked";
