//! The fleet's policy as this node learns it: records checked and ranked, the bundle for this node fetched and offered to the binary,
//! and what became of it told to the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phalanx_model::limits::{FLEET_NODES_MAX, POLICY_BUNDLES_KEPT};
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{Refusal, SignedRecord};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::kept::KeptPolicy;
use super::record::{BundleRef, PolicyRecord};
use crate::local::blocking;
use crate::shared::Shared;
use crate::{BlobHash, FleetHandle, subject};

/// What is known of policy.
#[derive(Debug, Clone, Default)]
pub struct PolicyNews {
    /// The fleet's record; none before the first push.
    pub record: Option<Arc<PolicyRecord>>,
    /// The bundle that this node should run, once it is here.
    pub offer: Option<Arc<Offer>>,
}

/// A bundle for this node. Its bytes are as the record's hash says; nothing else about them has been checked.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The record that names it.
    pub record: Arc<PolicyRecord>,
    /// Which of the record's bundles it is.
    pub reference: BundleRef,
    /// The bundle.
    pub bytes: Bytes,
}

/// What a node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The version of the bundle; of a node's own policy file its version.
    pub version: u64,
    /// The start of the bundle's hash; empty for a node's own policy file.
    pub hash: String,
    /// The epoch of the record that it came by.
    pub epoch: u64,
}

impl Running {
    /// A bundle of a record.
    pub fn of(record: &PolicyRecord, reference: &BundleRef) -> Self {
        Self { version: reference.version, hash: short(&reference.hash), epoch: record.epoch }
    }
}

/// A bundle that a node does not run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRefused {
    /// Its version.
    pub version: u64,
    /// Why, in words.
    pub reason: String,
}

/// How clients fare at a node while a bundle is tried somewhere. Clients count, not requests, and only those that were served well
/// shortly before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyHealth {
    /// The version that is tried.
    pub trial: u64,
    /// Since when it is counted, in Unix milliseconds.
    pub since_ms: u64,
    /// Clients that came.
    pub clients: u32,
    /// Of these, those that the policy refused. Where the trial runs: and that the policy before would not have refused.
    pub refused: u32,
    /// Of these, those that got an error of the server's.
    pub erred: u32,
}

/// What a heartbeat says of policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyBeat {
    /// What runs.
    #[serde(flatten)]
    pub running: Running,
    /// What does not, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<PolicyRefused>,
    /// How clients fare, while something is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<PolicyHealth>,
}

impl PolicyBeat {
    /// Whether a heartbeat may say this.
    pub(crate) fn fits(&self) -> bool {
        let reason = self.refused.as_ref().map_or(0, |refused| refused.reason.len());
        self.running.hash.len() <= HASH_SHOWN && reason <= REASON_TOLD_MAX
    }
}

/// The node's knowledge of policy.
pub(crate) struct Policies {
    pub(crate) news: watch::Sender<PolicyNews>,
    inner: parking_lot::Mutex<Inner>,
    changed: Notify,
    /// Something about what this node runs has changed: the others hear of it at once.
    pub(crate) beat: Notify,
}

#[derive(Default)]
struct Inner {
    /// The record in force, as it was signed; none for one that was kept from the run before.
    signed: Option<Bytes>,
    /// Records that do not count yet because their author is not known, by subject.
    waiting: BTreeMap<Arc<str>, Bytes>,
    /// Versions below it are refused.
    floor: u64,
    told: PolicyBeat,
}

impl Policies {
    pub(crate) fn new(floor: u64) -> Self {
        let inner = Inner { floor, ..Inner::default() };
        Self {
            news: watch::Sender::new(PolicyNews::default()),
            inner: parking_lot::Mutex::new(inner),
            changed: Notify::new(),
            beat: Notify::new(),
        }
    }

    /// What the next heartbeat says.
    pub(crate) fn told(&self) -> PolicyBeat {
        self.inner.lock().told.clone()
    }

    pub(crate) fn record(&self) -> Option<Arc<PolicyRecord>> {
        self.news.borrow().record.clone()
    }

    pub(crate) fn signed(&self) -> Option<Bytes> {
        self.inner.lock().signed.clone()
    }

    pub(crate) fn floor(&self) -> u64 {
        self.inner.lock().floor
    }

    fn told_anew(&self, change: impl FnOnce(&mut PolicyBeat)) {
        let mut inner = self.inner.lock();
        let before = inner.told.clone();
        change(&mut inner.told);
        if inner.told != before {
            self.beat.notify_one();
        }
    }
}

impl FleetHandle {
    /// Policy as it is known, now and whenever it changes.
    pub fn policy(&self) -> watch::Receiver<PolicyNews> {
        self.shared.policies.news.subscribe()
    }

    /// Goes on from what was in force in the run before: nothing lower counts.
    pub fn remember_policy(&self, kept: &KeptPolicy) {
        let shared = &self.shared;
        if *kept.fleet != *shared.fleet_id() {
            return;
        }
        shared.policies.news.send_if_modified(|news| {
            let later = news.record.as_ref().is_none_or(|known| kept.record.rank() > known.rank());
            if later {
                news.record = Some(Arc::clone(&kept.record));
            }
            later
        });
    }

    /// Tells the others what this node runs from now on.
    pub fn policy_runs(&self, running: Running) {
        self.shared.policies.told_anew(|told| {
            told.running = running;
            told.refused = None;
        });
    }

    /// Tells the others what this node does not run, and why.
    pub fn policy_refused(&self, version: u64, reason: &str) {
        let mut end = reason.len().min(REASON_TOLD_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default().to_owned();
        self.shared.policies.told_anew(|told| told.refused = Some(PolicyRefused { version, reason }));
    }

    /// Tells the others, with the next heartbeat, how clients fare.
    pub fn policy_health(&self, health: Option<PolicyHealth>) {
        self.shared.policies.inner.lock().told.health = health;
    }
}

/// Fetches what is for this node, for as long as it runs.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shared.policies.changed.notified() => {}
            _ = seconds.tick() => shared.try_waiting_policies(),
        }
        shared.fetch_policy().await;
    }
}

impl Shared {
    /// Takes in a record that the engine delivered.
    pub(crate) fn receive_policy(&self, subject: &Arc<str>, bytes: &Bytes) {
        if self.policies.inner.lock().signed.as_ref() == Some(bytes) {
            return;
        }
        let result = self.check_policy(subject, bytes);
        let mut inner = self.policies.inner.lock();
        match result {
            Ok(Some(record)) => {
                inner.waiting.remove(subject);
                inner.signed = Some(bytes.clone());
                let record = Arc::new(record);
                // Before others may see the signature: for who has it, the record is known.
                self.policies.news.send_modify(|news| news.record = Some(record));
                drop(inner);
                self.store.pin(PIN, bytes);
                self.clear_fault(FAULT);
                self.policies.changed.notify_one();
            }
            Ok(None) => drop(inner.waiting.remove(subject)),
            Err(Refusal::UnknownAuthor(_)) => {
                if inner.waiting.len() < FLEET_NODES_MAX || inner.waiting.contains_key(subject) {
                    inner.waiting.insert(Arc::clone(subject), bytes.clone());
                }
            }
            Err(refusal) => {
                inner.waiting.remove(subject);
                drop(inner);
                self.fault(FAULT, format!("a policy record was refused, what was in force stays: {refusal}"));
                self.refuse(subject, &refusal);
            }
        }
    }

    /// The record, if it is news and everything about it is in order.
    pub(crate) fn check_policy(&self, subject: &str, bytes: &[u8]) -> Result<Option<PolicyRecord>, Refusal> {
        let (author, record) = open_record(bytes, subject)?;
        let now_ms = self.clock.now_ms();
        let signed = SignedRecord::from_bytes(bytes)?;
        self.roots.read().verify(&signed, subject, now_ms)?;
        if author.role != AuthorRole::Operator {
            return Err(Refusal::NotAllowed("a node alone makes no policy"));
        }
        record.check(now_ms)?;
        if record.newest().version < self.policies.floor() {
            return Err(Refusal::Unusable(format!(
                "policy version {} is lower than {}, the lowest that this node may run",
                record.newest().version,
                self.policies.floor()
            )));
        }
        let Some(known) = self.policies.record() else { return Ok(Some(record)) };
        match record.follows(&known) {
            Ok(true) => Ok(Some(record)),
            Ok(false) if record.epoch < known.epoch && record.changed_at_ms > known.changed_at_ms => {
                Err(Refusal::Unusable(format!(
                    "it is of the earlier home {}; the home of policy is {} since",
                    record.home, known.home
                )))
            }
            Ok(false) => {
                self.sign_for_known(&record, &known, bytes);
                Ok(None)
            }
            Err(cause) => Err(Refusal::Unusable(cause)),
        }
    }

    /// Knows again the record that was in force when the node stopped, as it was signed. Its home may have lost it meanwhile, and of
    /// those that are left this node may be the only one that heard of it.
    pub(crate) async fn remember_policy_record(self: &Arc<Self>) {
        let store = Arc::clone(&self.store);
        let pinned = blocking(move || Ok(store.pins()?.into_iter().find(|(name, _)| name == PIN)));
        let Ok(Some((_, bytes))) = pinned.await else { return };
        let bytes = Bytes::from(bytes);
        let Some(subject) = subject_of(&bytes) else { return };
        // One that does not count any more is no fault: what is in force stays, as it is kept elsewhere.
        if matches!(self.check_policy(&subject, &bytes), Ok(Some(_))) {
            self.receive_policy(&subject.into(), &bytes);
        }
    }

    /// A record that was kept from the run before has its signature again when the engine delivers it.
    fn sign_for_known(&self, record: &PolicyRecord, known: &PolicyRecord, bytes: &[u8]) {
        if record.means(known) {
            self.policies.inner.lock().signed = Some(Bytes::copy_from_slice(bytes));
        }
    }

    fn try_waiting_policies(&self) {
        let waiting = self.policies.inner.lock().waiting.clone();
        for (subject, bytes) in waiting {
            self.receive_policy(&subject, &bytes);
        }
    }

    /// Offers the bundle that is for this node, as soon as it can be had.
    async fn fetch_policy(&self) {
        let Some(record) = self.policies.record() else { return };
        let reference = record.for_node(&self.me.site, &self.me.node).clone();
        let offered = self.policies.news.borrow().offer.clone();
        if offered.as_ref().is_some_and(|offer| offer.record == record) {
            return;
        }
        // The same bundle in another stage needs no second fetch.
        let known = offered.filter(|offer| offer.reference == reference).map(|offer| offer.bytes.clone());
        let fetched = match known {
            Some(bytes) => Ok(bytes),
            None => self.fetch_bundle(&reference).await,
        };
        match fetched {
            Ok(bytes) => {
                self.clear_fault(MISSING);
                let offer = Arc::new(Offer { record: Arc::clone(&record), reference, bytes });
                self.policies.news.send_if_modified(|news| {
                    // A later record has come meanwhile: its own turn follows.
                    let current = news.record.as_ref() == Some(&record);
                    if current {
                        news.offer = Some(offer);
                    }
                    current
                });
                self.forget_old_copies(&record);
            }
            Err(cause) => {
                let version = reference.version;
                self.fault(
                    MISSING,
                    format!("policy version {version} cannot be had, what was in force stays: {cause}"),
                );
            }
        }
    }

    /// This node's own copies of bundles to which nobody goes back. The store holds only so many.
    fn forget_old_copies(&self, record: &Arc<PolicyRecord>) {
        let (store, record) = (Arc::clone(&self.store), Arc::clone(record));
        tokio::task::spawn_blocking(move || {
            let old =
                record.chain.iter().rev().skip(POLICY_BUNDLES_KEPT).filter(|link| **link != record.stable);
            for link in old {
                if matches!(store.blob_get(&link.hash), Ok(Some(_))) {
                    let _ = store.blob_forget(&link.hash);
                }
            }
        });
    }

    pub(crate) async fn fetch_bundle(&self, reference: &BundleRef) -> Result<Bytes, String> {
        let Some(hash) = BlobHash::parse(&reference.hash) else {
            return Err("its record names no content".into());
        };
        match tokio::time::timeout(FETCH_TIME_MAX, self.engine.blob_get(hash)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(CONTENT_GONE.into()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("its content comes too slowly".into()),
        }
    }
}

/// The record in an envelope that agrees with it. Says nothing about the signature.
pub(crate) fn open_record(bytes: &[u8], subject: &str) -> Result<(Author, PolicyRecord), Refusal> {
    let signed = SignedRecord::from_bytes(bytes)?;
    let record: PolicyRecord =
        serde_json::from_slice(&signed.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if record.serial != signed.version {
        return Err(Refusal::Unreadable("envelope and body disagree".into()));
    }
    if subject::of_policy(&record.home) != *subject {
        return Err(Refusal::WrongSubject);
    }
    Ok((signed.author, record))
}

/// Under what a record is kept, by what it says of itself.
fn subject_of(bytes: &[u8]) -> Option<String> {
    let signed = SignedRecord::from_bytes(bytes).ok()?;
    let record: PolicyRecord = serde_json::from_slice(&signed.body).ok()?;
    Some(subject::of_policy(&record.home))
}

/// As much of a hash as people are shown.
pub(crate) fn short(hash: &str) -> String {
    hash.chars().take(HASH_SHOWN).collect()
}

const HASH_SHOWN: usize = 12;
const REASON_TOLD_MAX: usize = 300;
const FETCH_TIME_MAX: Duration = Duration::from_secs(30);
/// Under what the record is pinned. Nodes are pinned as `site/node`, which hold no space.
const PIN: &str = "policy record";
const FAULT: &str = "policy record";
const MISSING: &str = "policy bundle";
/// What the engine says of a version that was deleted from the store.
pub(super) const CONTENT_GONE: &str = "nobody has its content";
