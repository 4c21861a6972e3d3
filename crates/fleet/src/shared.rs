//! What the handle and its tasks share: the merged state, the keys believed, and how a change takes effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use phalanx_model::lanes::Lanes;
use phalanx_model::{
    ActorKey, Author, AuthorRole, Base, Clock, CountBatch, LedgerEntry, LedgerKind, Recall, Retired, Swap,
    View,
};
use phalanx_trust::{
    Admission, Admitted, Announcement, FleetSecret, Membership, NodeRecord, Pinned, Refusal, Revocation,
    SignedRecord, SigningKey, Statement, TrustError, TrustRoots, Validity,
};
use serde::Serialize;
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::blocklists::LoadedLists;
use crate::compact::Packing;
use crate::digests::Differences;
use crate::engine::Put;
use crate::handle::FleetKeys;
use crate::held::Holding;
use crate::hybrid_clock::HybridClock;
use crate::inquiry::Inquiries;
use crate::members::Members;
use crate::orders::Orders;
use crate::policy::follow::Policies;
use crate::registers::{Outcome, Registers, no_shorter};
use crate::settle::GoodPort;
use crate::store::{Kept, Store};
use crate::trail::Trail;
use crate::{Change, Fleet, FleetError, Speed, Topic, subject};

/// How the fleet is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetStatus {
    /// `local` or `nats`.
    pub kind: &'static str,
    /// Whether other nodes can be reached. Always true for a fleet of one.
    pub connected: bool,
    /// What does not work as it should, in plain words. Nothing in it stops enforcement.
    pub degraded: Vec<String>,
    /// Own records that wait to be shared.
    pub queue: usize,
    /// When own records were last compared with the engine's, in Unix milliseconds.
    pub audited_at_ms: Option<u64>,
    /// Records of others that were refused since the start.
    pub refused: u64,
    /// Decisions in force.
    pub decisions: usize,
    /// What waits for an operator: held decisions and blocklists, and ranges that are proposed.
    pub held: usize,
    /// The revision of the view.
    pub revision: u64,
    /// When this node's certificates end, in Unix milliseconds; none in a fleet without an authority.
    pub certificate_expires_at_ms: Option<u64>,
}

pub(crate) struct Shared {
    pub(crate) me: NodeRecord,
    pub(crate) keys: FleetKeys,
    pub(crate) secret: Option<FleetSecret>,
    pub(crate) membership: Option<Arc<Membership>>,
    /// Those in force, for who cuts the links of the revoked.
    pub(crate) revocations: watch::Sender<Vec<Revocation>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lanes: Lanes,
    pub(crate) store: Arc<Store>,
    pub(crate) engine: Arc<dyn Fleet>,
    pub(crate) view: Arc<Swap<View>>,
    pub(crate) core: Mutex<Core>,
    /// Taken by whoever packs the view, for as long as that takes.
    pub(crate) packing: Mutex<Packing>,
    /// So much has changed that the view wants packing.
    pub(crate) crowded: Notify,
    /// Held for as long as content is fetched and compiled.
    pub(crate) lists: tokio::sync::Mutex<LoadedLists>,
    /// The records say something new about blocklists.
    pub(crate) lists_changed: Notify,
    pub(crate) policies: Policies,
    /// By what it is measured whom orders would hit; not there until the data plane is.
    pub(crate) good: std::sync::OnceLock<GoodPort>,
    pub(crate) roots: RwLock<TrustRoots>,
    pub(crate) members: Mutex<Members>,
    pub(crate) differences: Mutex<Differences>,
    pub(crate) orders: Orders,
    /// What heartbeats say of the node's attacks on itself.
    pub(crate) self_test: Mutex<Option<bool>>,
    /// The others should not wait a second for this node's next heartbeat.
    pub(crate) news: Notify,
    /// Since when, and how many, own heartbeats were sent that did not come back.
    pub(crate) unheard: Mutex<Option<(std::time::Instant, u32)>>,
    pub(crate) inquiries: Inquiries,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) counts: broadcast::Sender<Arc<CountBatch>>,
    /// Somebody is back who missed what this node counted, or this node's link is.
    pub(crate) back: Notify,
    pub(crate) outbox: mpsc::Sender<Change>,
    /// The outbox was full: what was left out is in the registers and must be sent from there.
    pub(crate) outbox_overflowed: AtomicBool,
    /// Changes in the outbox that the engine does not know of yet.
    pub(crate) unsent: AtomicUsize,
    pub(crate) refused: AtomicU64,
    pub(crate) faults: Mutex<BTreeMap<String, String>>,
}

/// The merged state. Locked for microseconds; never across an await.
#[derive(Default)]
pub(crate) struct Core {
    pub(crate) registers: Registers,
    pub(crate) clock: HybridClock,
    /// The records are being read, or are lost: the view may show decisions that the registers do not know.
    pub(crate) restoring: bool,
    /// The records are being read.
    pub(crate) reading: bool,
    /// The streams of decisions have been read once since the start.
    pub(crate) streams_read: bool,
    /// The view began with what a control node packed, and the streams are being read.
    pub(crate) primed: bool,
    /// Views that a request may still read.
    pub(crate) retired: Retired<View>,
    pub(crate) trail: Trail,
    pub(crate) holding: Holding,
}

impl Core {
    /// Before the records are read, with this in force. Versions that this node makes from here on follow all in it.
    pub(crate) fn remembering(base: &Base) -> Self {
        let mut core = Self { restoring: true, reading: true, ..Self::default() };
        core.clock.observe(base.version_max());
        core
    }
}

impl Shared {
    /// Makes a change in this node's name, puts it into force here, and hands it to the outbox.
    pub(crate) fn author(
        &self,
        role: AuthorRole,
        make: impl FnOnce(Author, u64, u64) -> Change,
    ) -> Result<Change, FleetError> {
        self.key(role)?;
        let now_ms = self.clock.now_ms();
        let mut core = self.core.lock();
        let version = core.clock.tick(now_ms);
        let change = make(self.me.author(role), version, now_ms);
        // The view and not the registers: it knows what is remembered before the records are read.
        let mut known = change.key().map(|key| self.view.load_full().decisions_of(&key)).unwrap_or_default();
        known.extend(change.key().map(|key| core.holding.about(change.author(), &key)).unwrap_or_default());
        let change = no_shorter(change, &known, now_ms);
        self.put_out(core, change.clone(), now_ms)?;
        Ok(change)
    }

    /// Puts a change of this node's own into force here, and hands it to the outbox.
    pub(crate) fn put_out(
        &self,
        mut core: MutexGuard<'_, Core>,
        change: Change,
        now_ms: u64,
    ) -> Result<(), FleetError> {
        change.check_own(now_ms)?;
        if !core.registers.has_room_for(&change) {
            return Err(FleetError::Limit("this node has written as many decisions as it may"));
        }
        // The ledger comes first: what it cannot record does not happen.
        self.lanes.ledger(LedgerEntry { at_ms: now_ms, kind: ledger_kind(&change) })?;
        // Counted before anybody sees it in force: a queue of nothing means that all of that is written.
        self.unsent.fetch_add(1, Ordering::AcqRel);
        self.merge(&mut core, std::slice::from_ref(&change), now_ms);
        drop(core);
        if self.outbox.try_send(change).is_err() {
            self.unsent.fetch_sub(1, Ordering::AcqRel);
            self.outbox_overflowed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Merges checked changes and swaps the view once. Returns those that were news.
    pub(crate) fn merge(&self, core: &mut Core, changes: &[Change], now_ms: u64) -> Vec<Change> {
        let mut touched_all = Vec::new();
        let mut applied = Vec::new();
        for change in changes {
            core.clock.observe(change.version());
            if let Outcome::Applied { gone, touched } = core.registers.apply(change, now_ms) {
                core.trail.note(change, &gone);
                self.end_here(core, change);
                self.weigh(core, change, &gone, now_ms);
                self.forget(gone);
                touched_all.extend(touched);
                if let Change::Recalled(recall) = change
                    && core.restoring
                {
                    touched_all.extend(self.remembered_of(recall, now_ms));
                }
                applied.push(change.clone());
            }
        }
        self.swap_view(core, touched_all);
        if applied.iter().any(|change| matches!(change, Change::Listed(_) | Change::Recalled(_))) {
            self.lists_changed.notify_one();
        }
        for change in &applied {
            if matches!(change, Change::Decided(decision) if core.holding.holds(decision)) {
                continue;
            }
            // Nobody listening is no failure.
            let _ = self.changes.send(change.clone());
        }
        applied
    }

    /// Drops what has expired from memory and disk. The view stopped enforcing it when its time came.
    pub(crate) fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        let mut core = self.core.lock();
        let (gone, touched) = core.registers.sweep(now_ms);
        core.trail.note_gone(&gone);
        self.let_go(&mut core, &gone);
        self.swap_view(&mut core, touched);
        self.sweep_here(&mut core, now_ms);
        core.retired.drop_unused();
        drop(core);
        self.forget(gone);
    }

    /// Keeps a record of a change on disk.
    pub(crate) fn keep_soon(&self, change: &Change, bytes: Vec<u8>) {
        self.store.keep_soon(self.kept(change, bytes));
    }

    /// A change as it is kept.
    pub(crate) fn kept(&self, change: &Change, bytes: Vec<u8>) -> Kept {
        Kept {
            subject: change.subject(),
            version: change.version(),
            expires_at_ms: change.expires_at_ms(),
            own: self.is_me(change.author()),
            bytes,
        }
    }

    /// The signed record of one of this node's own changes.
    pub(crate) fn sign(&self, change: &Change) -> Result<Put, FleetError> {
        let body = serde_json::to_vec(change).map_err(|_| TrustError::Crypto("writing a change"))?;
        let (role, subject) = (change.author().role, change.subject());
        let (version, expires_at_ms) = (change.version(), change.expires_at_ms());
        let bytes = self.signed(role, &subject, version, expires_at_ms, &body)?;
        Ok(Put { topic: Topic::Decisions, subject, version, expires_at_ms, bytes, speed: Speed::Both })
    }

    /// A record of this node's in one of its roles, as it travels.
    pub(crate) fn signed(
        &self,
        role: AuthorRole,
        subject: &str,
        version: u64,
        expires_at_ms: u64,
        body: &[u8],
    ) -> Result<Bytes, FleetError> {
        let (author, fleet_id) = (self.me.author(role), self.fleet_id());
        let statement =
            Statement { fleet_id: &fleet_id, subject, author: &author, version, expires_at_ms, body };
        Ok(SignedRecord::sign(self.key(role)?, statement).to_bytes()?.into())
    }

    /// Signs, as this node, what is sent at once and kept nowhere. It counts for so long.
    pub(crate) fn sign_fast(
        &self,
        topic: Topic,
        subject: String,
        body: &[u8],
        for_ms: u64,
    ) -> Result<Put, FleetError> {
        self.sign_fast_as(AuthorRole::Node, topic, subject, body, for_ms)
    }

    /// The same in another role, if this node has it.
    pub(crate) fn sign_fast_as(
        &self,
        role: AuthorRole,
        topic: Topic,
        subject: String,
        body: &[u8],
        for_ms: u64,
    ) -> Result<Put, FleetError> {
        let now_ms = self.clock.now_ms();
        let expires_at_ms = now_ms.saturating_add(for_ms);
        let bytes = self.signed(role, &subject, now_ms, expires_at_ms, body)?;
        Ok(Put { topic, subject, version: now_ms, expires_at_ms, bytes, speed: Speed::Fast })
    }

    /// This node's announcement.
    pub(crate) fn announcement(&self, speed: Speed) -> Result<Put, FleetError> {
        let subject = subject::of_node(&self.me.site, &self.me.node);
        let fleet_id = self.fleet_id();
        let announcement =
            Announcement::make(&fleet_id, &subject, &self.me, &self.keys.node, self.secret.as_ref())?;
        let held = self.membership.as_ref().map(|membership| membership.held());
        let (announcement, issued_at_ms) = match &held {
            None => (announcement, 0),
            Some(held) => {
                let grant = &held.grant;
                (announcement.certified(&grant.chain, &grant.operator_chain), grant.issued_at_ms)
            }
        };
        let (version, bytes) = (self.me.started_at_ms.max(issued_at_ms), announcement.to_bytes()?.into());
        Ok(Put { topic: Topic::Nodes, subject, version, expires_at_ms: u64::MAX, bytes, speed })
    }

    /// Checks the announcement of a node and takes it in.
    pub(crate) fn admit(&self, subject: &str, bytes: &[u8]) -> Result<(Admitted, Pinned), Refusal> {
        let held = self.membership.as_ref().map(|membership| membership.held());
        let admission = match (&held, &self.secret) {
            (Some(held), _) => Admission::Certified(&held.bundle, self.clock.now_ms()),
            (None, Some(secret)) => Admission::Secret(secret),
            (None, None) => Admission::FirstSeen,
        };
        let admitted = Announcement::open(bytes, &self.fleet_id(), subject, admission)?;
        let pinned = self.roots.write().admit(&admitted)?;
        Ok((admitted, pinned))
    }

    /// Takes note of this node's own renewed certificates.
    pub(crate) fn admit_myself(&self) {
        let _ = self.roots.write().admit(&admitted(&self.me, self.membership.as_deref()));
    }

    /// The key for a role, if this node has it.
    pub(crate) fn key(&self, role: AuthorRole) -> Result<&SigningKey, FleetError> {
        match role {
            AuthorRole::Node => Ok(&self.keys.node),
            AuthorRole::Operator => self.keys.operator.as_ref().ok_or(FleetError::NotOperator),
        }
    }

    pub(crate) fn fleet_id(&self) -> Arc<str> {
        Arc::clone(self.roots.read().fleet_id())
    }

    pub(crate) fn is_me(&self, author: &Author) -> bool {
        author.site == self.me.site && author.node == self.me.node
    }

    /// Counts a refusal, and names it in `status` if an operator should know.
    pub(crate) fn refuse(&self, subject: &str, refusal: &Refusal) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(subject, %refusal, "record refused");
        let fault = match refusal {
            Refusal::WrongKey(name) if *name == format!("{}/{}", self.me.site, self.me.node) => {
                Some(format!(
                    "another node announces itself under this node's name {name}: give one of them another name"
                ))
            }
            Refusal::WrongKey(name) => Some(format!(
                "{name} has another key than the one pinned; its records are refused until an operator forgets the node"
            )),
            Refusal::NoProof => Some("a node without the fleet secret asked to join and was refused".into()),
            Refusal::Certificate(_) if subject.starts_with(subject::NODES) => {
                Some("a node without a valid certificate of this fleet asked to join and was refused".into())
            }
            Refusal::TooManyNodes(_) => Some(format!("a node was refused: {refusal}")),
            _ => None,
        };
        if let Some(fault) = fault {
            self.fault(fault.clone(), fault);
        }
    }

    /// Names a fault until it is cleared.
    pub(crate) fn fault(&self, key: impl Into<String>, text: impl Into<String>) {
        let (key, text) = (key.into(), text.into());
        let mut faults = self.faults.lock();
        // Names in faults come from the network; their number is limited.
        if faults.len() < FAULTS_MAX || faults.contains_key(&key) {
            faults.insert(key, text);
        }
    }

    pub(crate) fn clear_fault(&self, key: &str) {
        self.faults.lock().remove(key);
    }

    pub(crate) fn status(&self) -> FleetStatus {
        let link = self.engine.link().borrow().clone();
        let view = self.view.load();
        let mut degraded = self.store.faults();
        degraded.extend(link.fault);
        degraded.extend(self.faults.lock().values().cloned());
        let (held, sentences) = {
            let core = self.core.lock();
            (self.held_len(&core), core.holding.sentences())
        };
        degraded.extend(sentences);
        let now_ms = self.clock.now_ms();
        for (name, ms) in
            self.members.lock().wrong_clocks(now_ms, self.correction_ms()).into_iter().take(FAULTS_MAX)
        {
            let direction = if ms > 0 { "ahead of" } else { "behind" };
            let seconds = crate::clocks::seconds(ms);
            degraded.push(format!("the clock of {name} is {seconds} s {direction} the others"));
        }
        let certificate_expires_at_ms =
            self.membership.as_ref().map(|membership| membership.held().grant.expires_at_ms);
        if certificate_expires_at_ms.is_some_and(|ends| ends <= now_ms) {
            degraded.push(EXPIRED.into());
        }
        FleetStatus {
            kind: self.engine.kind(),
            connected: link.connected,
            degraded,
            queue: self.unsent.load(Ordering::Acquire) + self.engine.queue_len(),
            audited_at_ms: link.audited_at_ms,
            refused: self.refused.load(Ordering::Relaxed),
            decisions: view.live_len(now_ms),
            held,
            revision: view.revision,
            certificate_expires_at_ms,
        }
    }

    /// What the packed file remembers of a recall's target. Reads the whole view, which for a million decisions takes a good part of a
    /// second; but only a recall that comes while the records are read, or after they were lost, asks for it.
    fn remembered_of(&self, recall: &Recall, now_ms: u64) -> Vec<ActorKey> {
        let view = self.view.load_full();
        let ended = view.live(now_ms).filter(|decision| recall.ends(decision));
        ended.map(|decision| decision.actor.key()).collect()
    }

    pub(crate) fn forget(&self, gone: Vec<Change>) {
        for change in gone {
            self.engine.forget(&change.subject(), change.version());
        }
    }

    pub(crate) fn swap_view(&self, core: &mut Core, touched: Vec<ActorKey>) {
        if touched.is_empty() {
            return;
        }
        let view = self.view.load_full();
        let changed = touched.into_iter().map(|key| {
            let mut decisions = core.registers.decisions_of(&key);
            decisions.retain(|decision| !core.holding.holds(decision));
            if core.restoring {
                // What the packed file remembers stands, unless something that is known by now ends or replaces it.
                let remembered = view.decisions_of(&key).into_iter();
                let stands = |old: &Arc<phalanx_model::Decision>| {
                    core.registers.is_news(&Change::Decided(Arc::clone(old)))
                        && !core.registers.is_expelled(old)
                };
                decisions.extend(remembered.filter(stands));
            }
            (key, decisions)
        });
        let next = view.with_keys(changed);
        if next.wants_compaction() {
            self.crowded.notify_one();
        }
        self.show(core, view, next);
    }

    /// Puts `next` into force in place of `view`, which is dropped when no request reads it any more.
    pub(crate) fn show(&self, core: &mut Core, view: Arc<View>, next: View) {
        self.view.store(Arc::new(next));
        core.retired.put(view);
        core.retired.drop_unused();
    }
}

fn ledger_kind(change: &Change) -> LedgerKind {
    match change {
        Change::Decided(decision) => LedgerKind::Decided { decision: Arc::clone(decision) },
        Change::Withdrawn(withdrawal) => LedgerKind::Withdrawn { withdrawal: Arc::clone(withdrawal) },
        Change::Recalled(recall) => LedgerKind::Recalled { recall: Arc::clone(recall) },
        Change::Listed(list) => LedgerKind::Listed { list: Arc::clone(list) },
    }
}

/// The node itself, as it would be admitted.
pub(crate) fn admitted(me: &NodeRecord, membership: Option<&Membership>) -> Admitted {
    let validity = membership.map(|membership| {
        let held = membership.held();
        let (issued_at_ms, expires_at_ms) = (held.grant.issued_at_ms, held.grant.expires_at_ms);
        // Whoever signed it: a node goes on with what is its own, also when others do not listen to it.
        Validity { issued_at_ms, expires_at_ms, by: None }
    });
    Admitted { node: me.clone(), validity }
}

const EXPIRED: &str = "this node's certificate has expired: the others refuse what it says until it is renewed; what it knows \
     stays in force here";
/// Faults named at once.
const FAULTS_MAX: usize = 32;
