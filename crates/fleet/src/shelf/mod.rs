//! Shelves: secrets that the nodes of one site share, as keys of session tickets and certificates with their keys.
//!
//! One node holds the shelf's lease and writes; what it has is what the site has. Each node says, signed, what it has and to which key
//! it wants the rest sealed. That key lives in its memory; the holder seals each secret to each node that it believes at that moment.
//! Nothing of it is kept by the engine, nothing leaves the site, and a record says nothing to anybody but the one it is for.
//!
//! INVARIANT: a secret is sealed to a node only while its key is believed: what is written after a revocation, the revoked node
//! cannot read.
//! INVARIANT: only a node that may act for operators writes; what others send is refused.

mod items;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_model::limits::RECORD_FUTURE_MAX_MS;
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{KeyId, OpeningKey, Refusal, SignedRecord, seal_to, valid_name};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use zeroize::Zeroizing;

use self::items::{Item, Items};
use self::wire::{Given, Wanted};
use crate::hybrid_clock::version_ms;
use crate::shared::Shared;
use crate::store::Kept;
use crate::{Delivery, FleetError, FleetHandle, Put, Singleton, Speed, Topic, subject};

/// A set of secrets of this node's site. Cheap to clone; all clones are the same shelf.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    name: &'static str,
    keeps: Keeps,
    shared: Arc<Shared>,
    /// What is sealed to this node is sealed to this key.
    key: OpeningKey,
    /// There is nobody to share with: the node writes for itself, without a lease.
    alone: bool,
    writes: OnceLock<Singleton>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    in_step: watch::Sender<bool>,
    /// This node has something to say before its next turn.
    news: Notify,
    /// Somebody else said what it has.
    heard: watch::Sender<u64>,
}

/// What becomes of a shelf when the node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// It lies in the node's state, sealed.
    OnDisk,
    /// It is gone: for secrets that shall be in no copy of a disk.
    InMemory,
}

#[derive(Default)]
struct State {
    items: Items,
    readers: HashMap<Arc<str>, Reader>,
    /// The version of the last record that was taken in.
    given: u64,
}

/// Another node of the site, as it told.
struct Reader {
    key: Vec<u8>,
    signed_by: KeyId,
    version: u64,
    digest: [u8; 32],
    heard_at: Instant,
    given_at: Option<Instant>,
    /// The version of the last record that it was sent, and of the last that it has told to have.
    sent: u64,
    has: Option<u64>,
}

impl Reader {
    /// Whether it has told that it has all of this and nothing else.
    fn has_all(&self, digest: &[u8; 32]) -> bool {
        self.digest == *digest && self.has.is_none_or(|has| has >= self.sent)
    }
}

impl FleetHandle {
    /// Takes part in sharing a shelf. It has what the node kept of it when this returns; the rest follows from who holds it. With
    /// `writes`, a node that may act for operators may become its holder.
    pub async fn shelf(&self, name: &'static str, keeps: Keeps, writes: bool) -> Result<Shelf, FleetError> {
        let shared = Arc::clone(&self.shared);
        let alone = !self.shares_secrets();
        let prefix = subject::of_shelf_kept(&shared.me.site, name, "");
        let items = match keeps {
            Keeps::InMemory => Items::default(),
            Keeps::OnDisk => {
                let store = Arc::clone(&shared.store);
                crate::local::blocking(move || Ok(Items::of_kept(store.records(&prefix)?.0))).await?
            }
        };
        let inner = Inner {
            name,
            keeps,
            key: OpeningKey::generate()?,
            alone,
            writes: OnceLock::new(),
            state: Mutex::new(State { items, ..State::default() }),
            changed: watch::Sender::new(0),
            in_step: watch::Sender::new(alone),
            news: Notify::new(),
            heard: watch::Sender::new(0),
            shared,
        };
        let inner = Arc::new(inner);
        if !alone {
            let told = self.shared.engine.subscribe(Topic::Shelves);
            self.spawn(run(Arc::clone(&inner), told));
            if writes && self.shared.keys.operator.is_some() {
                self.spawn(take_part(Arc::clone(&inner), Self::clone_without_tasks(self)));
            }
        }
        Ok(Shelf(inner))
    }

    /// Whether nodes of this one's site share secrets: not where there are no others, nor where anybody may join.
    pub fn shares_secrets(&self) -> bool {
        let shared = &self.shared;
        shared.engine.kind() != "local" && (shared.membership.is_some() || shared.secret.is_some())
    }

    /// Up to when a node of this one's site was revoked, in Unix milliseconds; 0 if none was. Secrets from before are known to who was.
    pub fn site_revoked_up_to_ms(&self) -> u64 {
        let (revocations, site) = (self.shared.revocations.borrow(), &self.shared.me.site);
        let ours = revocations.iter().filter(|one| one.site == *site);
        ours.map(|one| one.up_to_ms).max().unwrap_or_default()
    }
}

impl Shelf {
    /// The secret of this name.
    pub fn get(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let now_ms = self.0.shared.clock.now_ms();
        self.0.state.lock().items.get(name, now_ms).cloned()
    }

    /// The secrets whose names begin so, in order.
    pub fn all(&self, prefix: &str) -> Vec<(String, Zeroizing<Vec<u8>>)> {
        let now_ms = self.0.shared.clock.now_ms();
        let state = self.0.state.lock();
        state.items.all(prefix, now_ms).map(|(name, bytes)| (name.to_owned(), bytes.clone())).collect()
    }

    /// Resolves with each change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Whether this node may write now. To be asked right before each act.
    pub fn may_write(&self) -> bool {
        self.0.may_write()
    }

    /// Whether this node has what the holder has, as far as it knows.
    pub fn is_in_step(&self) -> bool {
        *self.0.in_step.borrow()
    }

    /// Puts a secret there, for this node at once and for the others as fast as they are told.
    pub async fn put(&self, name: &str, bytes: &[u8], expires_at_ms: u64) -> Result<(), FleetError> {
        let item = Item { bytes: Zeroizing::new(bytes.to_vec()), expires_at_ms };
        self.0.write(|items| items.put(name, item.clone()))?;
        self.0.keep(name, &item);
        self.0.give_to_all(&[name]).await;
        Ok(())
    }

    /// Takes a secret away.
    pub async fn remove(&self, name: &str) -> Result<(), FleetError> {
        self.0.write(|items| {
            items.remove(name);
            Ok(())
        })?;
        self.0.forget(name);
        self.0.give_to_all(&[]).await;
        Ok(())
    }

    /// Waits until all nodes of the site that share in it have what this one has, but no longer than `within`. Whether they do.
    pub async fn everybody_has(&self, within: Duration) -> bool {
        let mut heard = self.0.heard.subscribe();
        let all = async {
            while !self.0.all_in_step() {
                if heard.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Inner {
    fn may_write(&self) -> bool {
        self.alone || self.writes.get().is_some_and(|lease| lease.token().is_some())
    }

    fn write(&self, change: impl FnOnce(&mut Items) -> Result<(), FleetError>) -> Result<(), FleetError> {
        if !self.may_write() {
            return Err(FleetError::Impossible("another node of the site holds what is shared"));
        }
        change(&mut self.state.lock().items)?;
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn all_in_step(&self) -> bool {
        let mut state = self.state.lock();
        let digest = state.items.digest();
        let listens = |(node, reader): &(&Arc<str>, &Reader)| {
            reader.heard_at.elapsed() < GONE && self.believes(node, reader)
        };
        state.readers.iter().filter(listens).all(|(_, reader)| reader.has_all(&digest))
    }

    /// Keeps a secret in the node's state, where it is sealed.
    fn keep(&self, name: &str, item: &Item) {
        let now_ms = self.shared.clock.now_ms();
        if let (Keeps::OnDisk, Some(bytes)) = (self.keeps, item.to_kept(name)) {
            self.shared.store.keep_soon(Kept {
                subject: subject::of_shelf_kept(&self.shared.me.site, self.name, name),
                version: self.shared.core.lock().clock.tick(now_ms),
                expires_at_ms: item.expires_at_ms,
                own: false,
                bytes: bytes.to_vec(),
            });
        }
    }

    fn forget(&self, name: &str) {
        if self.keeps == Keeps::OnDisk {
            let subject = subject::of_shelf_kept(&self.shared.me.site, self.name, name);
            self.shared.store.forget_soon(subject, u64::MAX);
        }
    }

    /// Says what this node has, and to which key it wants the rest sealed.
    async fn ask(&self) {
        // Of two within a millisecond the second counts too, which the wall clock alone would not tell.
        let now_ms = self.shared.clock.now_ms();
        let version = self.shared.core.lock().clock.tick(now_ms);
        let (digest, given) = {
            let mut state = self.state.lock();
            (state.items.digest(), state.given)
        };
        let wanted = Wanted {
            key: self.key.public().to_vec(),
            digest: digest.to_vec(),
            in_step: *self.in_step.borrow(),
            given: Some(given),
        };
        let me = &self.shared.me;
        let subject = subject::of_shelf_want(&me.site, &me.node, self.name);
        let Some(body) = wanted.to_bytes() else { return };
        let expires_at_ms = now_ms.saturating_add(COUNTS_FOR_MS);
        let signed = self.shared.signed(AuthorRole::Node, &subject, version, expires_at_ms, &body);
        let Ok(bytes) = signed else { return };
        let put = Put { topic: Topic::Shelves, subject, version, expires_at_ms, bytes, speed: Speed::Fast };
        let _ = self.shared.engine.publish(put).await;
    }

    /// Gives these secrets, and the names of all, to every node that listens.
    async fn give_to_all(&self, names: &[&str]) {
        let readers: Vec<Arc<str>> = {
            let state = self.state.lock();
            let listens = |(node, reader): (&Arc<str>, &Reader)| {
                (reader.heard_at.elapsed() < GONE).then(|| Arc::clone(node))
            };
            state.readers.iter().filter_map(listens).collect()
        };
        for reader in readers {
            self.give(&reader, Some(names)).await;
        }
    }

    /// Gives a node these secrets, or all, and the names of all there are.
    async fn give(&self, to: &str, names: Option<&[&str]>) {
        let now_ms = self.shared.clock.now_ms();
        for (version, one) in self.gifts(to, names, now_ms) {
            // Asked for each: a revocation may have come meanwhile, or the lease may be another's.
            let Some(key) = self.believed(to).filter(|_| self.may_write()) else { return };
            let me = &self.shared.me;
            let subject = subject::of_shelf_gift(&me.site, &me.node, self.name, to);
            let expires_at_ms = now_ms.saturating_add(COUNTS_FOR_MS);
            let sealed = one.to_bytes().and_then(|plain| seal_to(&key, &self.context(&subject), &plain).ok());
            let signed = sealed.and_then(|body| {
                self.shared.signed(AuthorRole::Operator, &subject, version, expires_at_ms, &body).ok()
            });
            let Some(bytes) = signed else { return };
            let put =
                Put { topic: Topic::Shelves, subject, version, expires_at_ms, bytes, speed: Speed::Fast };
            if self.shared.engine.publish(put).await.is_err() {
                return;
            }
        }
    }

    /// What a node is to be given, with versions that follow each other as the states of the shelf do: two who give at once, of which one
    /// read the shelf before a change, cannot take the change back.
    fn gifts(&self, to: &str, names: Option<&[&str]>, now_ms: u64) -> Vec<(u64, Given)> {
        let mut state = self.state.lock();
        let wanted = |name: &str| names.is_none_or(|names| names.contains(&name));
        let items = state.items.iter().filter(|(name, _)| wanted(name));
        let mut given: Vec<_> = items.map(|(name, item)| Given::put(name, item)).collect();
        given
            .push(Given::All { names: state.items.iter().map(|(name, _)| items::name_hash(name)).collect() });
        let mut core = self.shared.core.lock();
        let given: Vec<_> = given.into_iter().map(|one| (core.clock.tick(now_ms), one)).collect();
        drop(core);
        if let (Some(reader), Some((version, _))) = (state.readers.get_mut(to), given.last()) {
            reader.sent = *version;
            reader.given_at = Some(Instant::now());
        }
        given
    }

    /// Who lacks something although the last that it was given has had its time to arrive.
    fn lacking(&self) -> Vec<Arc<str>> {
        if !self.may_write() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let digest = state.items.digest();
        let lacks = |reader: &Reader| {
            let lately = reader.given_at.is_some_and(|at| at.elapsed() < GIVEN_LATELY);
            !lately && reader.heard_at.elapsed() < GONE && !reader.has_all(&digest)
        };
        state.readers.iter().filter(|(_, reader)| lacks(reader)).map(|(node, _)| Arc::clone(node)).collect()
    }

    /// The key to seal to a node with: one that it signed with a key that is believed now.
    fn believed(&self, node: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let reader = state.readers.get(node)?;
        self.believes(node, reader).then(|| reader.key.clone())
    }

    fn believes(&self, node: &str, reader: &Reader) -> bool {
        let signs = self.shared.roots.read().node_key(&self.shared.me.site, node);
        signs.is_some_and(|signs| signs.id() == reader.signed_by)
    }

    /// What a sealed secret belongs to: it counts nowhere else.
    fn context(&self, subject: &str) -> String {
        format!("{} {subject}", self.shared.fleet_id())
    }

    /// Takes in what another node said. Who is to be given all, if somebody is.
    fn hear(&self, subject: &str, bytes: &[u8]) -> Result<Option<Arc<str>>, Refusal> {
        let me = &self.shared.me;
        let Some((node, to)) = subject::of_shelf(subject, &me.site, self.name) else { return Ok(None) };
        if *node == *me.node || to.is_some_and(|to| *to != *me.node) {
            return Ok(None);
        }
        let record = SignedRecord::from_bytes(bytes)?;
        let now_ms = self.shared.clock.now_ms();
        let role = if to.is_some() { AuthorRole::Operator } else { AuthorRole::Node };
        if record.author != (Author { site: Arc::clone(&me.site), node: node.into(), role }) {
            return Err(Refusal::NotAllowed("only who may act for operators gives a site its secrets"));
        }
        self.shared.roots.read().verify(&record, subject, now_ms)?;
        if version_ms(record.version) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        match to {
            None => self.note_reader(node.into(), &record),
            Some(_) => self.take(subject, &record).map(|()| None),
        }
    }

    /// A node has said what it has; who is to be given all, if it is this one's to give.
    fn note_reader(&self, node: Arc<str>, record: &SignedRecord) -> Result<Option<Arc<str>>, Refusal> {
        let unreadable = || Refusal::Unreadable("it does not say what a node has of a shelf".into());
        let wanted = Wanted::from_bytes(&record.body).ok_or_else(unreadable)?;
        let digest = <[u8; 32]>::try_from(wanted.digest.as_slice()).map_err(|_| unreadable())?;
        let may_write = self.may_write();
        let mut state = self.state.lock();
        if state.readers.len() >= READERS_MAX && !state.readers.contains_key(&node) {
            state.readers.retain(|_, reader| reader.heard_at.elapsed() < GONE);
            if state.readers.len() >= READERS_MAX {
                return Err(Refusal::TooManyNodes(READERS_MAX));
            }
        }
        let before = state.readers.get(&node);
        if before.is_some_and(|before| before.version >= record.version) {
            return Ok(None);
        }
        let lately = before.and_then(|before| before.given_at).filter(|at| at.elapsed() < GIVEN_LATELY);
        let reader = Reader {
            key: wanted.key,
            signed_by: record.key_id,
            version: record.version,
            digest,
            heard_at: Instant::now(),
            given_at: lately,
            sent: before.map_or(0, |before| before.sent),
            has: wanted.given,
        };
        let lacks = !wanted.in_step || !reader.has_all(&state.items.digest());
        let gives = lacks && may_write && lately.is_none();
        state.readers.insert(Arc::clone(&node), reader);
        drop(state);
        self.heard.send_modify(|count| *count += 1);
        Ok(gives.then_some(node))
    }

    /// Takes in a secret, or which there are.
    fn take(&self, subject: &str, record: &SignedRecord) -> Result<(), Refusal> {
        // Sealed to the process before this one, or altered.
        let opened = self.key.open(&self.context(subject), &record.body);
        let opened = opened.ok_or_else(|| Refusal::Unusable("a secret of the site does not open".into()))?;
        let unreadable =
            || Refusal::Unreadable("a secret of the site in a form that is not known here".into());
        let given = Given::from_bytes(&opened).ok_or_else(unreadable)?;
        self.shared.core.lock().clock.observe(record.version);
        let mut state = self.state.lock();
        if record.version <= state.given {
            return Ok(());
        }
        state.given = record.version;
        match given {
            Given::Put { name, item } => {
                let changed = state.items.put(&name, item.clone()).is_ok();
                drop(state);
                if changed {
                    self.keep(&name, &item);
                }
            }
            Given::All { names } => {
                let gone = state.items.retain(&names);
                // A secret that was lost on the way is asked for.
                let whole = state.items.len() == names.len();
                drop(state);
                gone.iter().for_each(|name| self.forget(name));
                self.in_step.send_if_modified(|in_step| std::mem::replace(in_step, whole) != whole);
                self.changed.send_modify(|count| *count += 1);
                self.news.notify_one();
            }
        }
        Ok(())
    }
}

/// Says what this node has, and takes in what others say, until the topic closes.
async fn run(inner: Arc<Inner>, mut told: mpsc::Receiver<Delivery>) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut link = inner.shared.engine.link();
    let mut asked_at: Option<Instant> = None;
    loop {
        let asks = tokio::select! {
            delivery = told.recv() => {
                let Some(delivery) = delivery else { return };
                let Delivery::Put { subject, bytes } = delivery else { continue };
                match inner.hear(&subject, &bytes) {
                    Ok(Some(node)) => inner.give(&node, None).await,
                    // Its announcement is on its way, and it asks again.
                    Ok(None) | Err(Refusal::UnknownAuthor(_)) => {}
                    Err(refusal) => inner.shared.refuse(&subject, &refusal),
                }
                continue;
            }
            _ = turns.tick() => {
                for node in inner.lacking() {
                    inner.give(&node, None).await;
                }
                !*inner.in_step.borrow() || asked_at.is_none_or(|at| at.elapsed() >= ASKED_EVERY)
            }
            Ok(()) = link.changed() => link.borrow_and_update().connected,
            () = inner.news.notified() => true,
        };
        if asks {
            asked_at = Some(Instant::now());
            inner.ask().await;
        }
    }
}

/// Becomes the shelf's holder when there is none, once it has what the one before had. A site whose nodes all start at once has none.
async fn take_part(inner: Arc<Inner>, fleet: FleetHandle) {
    let mut link = inner.shared.engine.link();
    if link.wait_for(|link| link.connected).await.is_err() {
        return;
    }
    let mut in_step = inner.in_step.subscribe();
    let _ = tokio::time::timeout(SETTLES_WITHIN, in_step.wait_for(|in_step| *in_step)).await;
    let name = lease_name(&inner.shared.me.site, inner.name);
    debug_assert!(valid_name(&name), "leases have names");
    let _ = inner.writes.set(fleet.singleton(&name));
    // Who holds it need ask nobody. The lease ends with the value, and the value with the shelf.
    loop {
        tokio::time::sleep(TURN).await;
        if inner.may_write() {
            inner.in_step.send_if_modified(|in_step| !std::mem::replace(in_step, true));
        }
    }
}

/// A name has 63 characters, and so has a site's.
fn lease_name(site: &str, shelf: &str) -> String {
    let digest = phalanx_trust::sha256(site.as_bytes());
    let short: Vec<u8> = digest.into_iter().take(8).collect();
    format!("{shelf}-{}", data_encoding::HEXLOWER.encode(&short))
}

/// How long what is said counts: clocks may differ a little.
const COUNTS_FOR_MS: u64 = 60_000;
/// How often a node that is not in step says what it has.
const TURN: Duration = Duration::from_millis(500);
/// How often one that is does.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// A node that was not heard for this long does not share any more.
const GONE: Duration = Duration::from_secs(12);
/// A node is not given all again before this: what it said may have crossed what it was given.
const GIVEN_LATELY: Duration = Duration::from_millis(300);
/// How long a node that starts waits for a holder before it may become one.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);
/// Nodes of one site.
const READERS_MAX: usize = phalanx_model::limits::FLEET_NODES_MAX;
