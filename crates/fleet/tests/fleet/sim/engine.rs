//! `SimFleet`: an engine on the simulated world, which does for it what `NatsFleet` does for a NATS server: sends first, keeps what
//! it sent until a stream confirms it, follows core and streams, and compares its own records with the stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use phalanx_fleet::engine::LinkState;
use phalanx_fleet::store::{Kept, Store};
use phalanx_fleet::{BlobHash, Delivery, Fleet, FleetError, Lease, Put, Receipt, Speed, Topic, subject};
use phalanx_model::{Author, Clock};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::world::{World, stream_of};

/// A mistake put into the engine on purpose, to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// What the broker confirmed at once is not kept here.
    ConfirmedIsNotKept,
    /// Withdrawals are forgotten as soon as they have been sent.
    WithdrawalsAreForgotten,
    /// Own records are never compared with the stream.
    NoAudit,
    /// Streams are followed from where the reader is, and never read again, whatever digests tell.
    ReadOnce,
    /// A record is swapped whatever is in its place by now.
    SwapsAreNotCompared,
    /// What a writer of policy says counts before the stream has taken it.
    PolicyIsBelievedByHearsay,
    /// What a node runs is not kept for its next start.
    PolicyIsNotKept,
    /// A blob that could not be had once is not asked for again.
    BlobsAreAskedForOnce,
    /// A node puts the halves of two versions of a list into force.
    ListsAreMixed,
    /// Recalls are forgotten as soon as they have been sent.
    RecallsAreForgotten,
    /// Nodes are not told whom they served well.
    NobodyIsServedWell,
    /// What is held is not held after a restart.
    HeldIsForgotten,
}

/// An engine of a simulated node.
pub(crate) struct SimFleet {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

struct Inner {
    world: Arc<World>,
    seat: usize,
    author: Author,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    bug: Bug,
    link: watch::Sender<LinkState>,
    session: watch::Sender<u64>,
    resync: watch::Sender<HashMap<&'static str, u64>>,
    rereads: broadcast::Sender<String>,
    unconfirmed: Mutex<BTreeMap<String, u64>>,
    sent: AtomicU64,
    /// Blobs that were not to be had.
    missed: Mutex<BTreeSet<String>>,
}

impl SimFleet {
    pub(crate) fn start(
        world: Arc<World>,
        author: Author,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        bug: Bug,
    ) -> Self {
        let plug = watch::Sender::new(false);
        let plugged = plug.subscribe();
        let seat = world.sit_down(&author.site, plug);
        let inner = Arc::new(Inner {
            world,
            seat,
            author,
            store,
            clock,
            bug,
            link: watch::Sender::new(LinkState::default()),
            session: watch::Sender::new(0),
            resync: watch::Sender::new(HashMap::new()),
            rereads: broadcast::Sender::new(64),
            unconfirmed: Mutex::default(),
            sent: AtomicU64::new(0),
            missed: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_plug(Arc::clone(&inner), plugged));
        if bug != Bug::NoAudit {
            tasks.spawn(audit(Arc::clone(&inner)));
        } else {
            tasks.spawn(only_make_streams(Arc::clone(&inner)));
        }
        Self { inner, tasks: Mutex::new(tasks) }
    }

    /// Its place in the world.
    pub(crate) fn seat(&self) -> usize {
        self.inner.seat
    }
}

impl Fleet for SimFleet {
    fn kind(&self) -> &'static str {
        "sim"
    }

    fn publish(&self, put: Put) -> BoxFuture<'_, Result<Receipt, FleetError>> {
        Box::pin(async move {
            let inner = &self.inner;
            if put.speed == Speed::Fast {
                if !inner.connected() {
                    return Err(FleetError::Unreachable("no link".into()));
                }
                drop(inner.world.send(inner.seat, &put.subject, put.bytes, None));
                return Ok(Receipt::Sent);
            }
            inner.send_and_keep(put).await
        })
    }

    fn forget(&self, subject: &str, version: u64) {
        self.inner.confirm(subject, version);
        self.inner.store.forget_soon(subject.to_owned(), version);
    }

    fn subscribe(&self, topic: Topic) -> mpsc::Receiver<Delivery> {
        let (to, receiver) = mpsc::channel(1_024);
        let core = self.inner.world.listen(self.inner.seat, topic.prefix());
        let inner = Arc::clone(&self.inner);
        self.tasks.lock().spawn(async move {
            tokio::select! {
                biased;
                () = to.closed() => {}
                () = follow_core(&inner, topic, core, &to) => {}
                () = follow_sessions(&inner, topic, &to) => {}
            }
        });
        receiver
    }

    fn resync(&self, topic: Topic) {
        self.inner.resync(topic);
    }

    fn reread(&self, subject: &str) {
        if self.inner.bug != Bug::ReadOnce {
            self.inner.world.tell(&format!("{} reads {subject} again", self.inner.author.node));
            let _ = self.inner.rereads.send(subject.to_owned());
        }
    }

    fn blob_put(&self, bytes: Bytes) -> BoxFuture<'_, Result<BlobHash, FleetError>> {
        Box::pin(async move {
            let hash = BlobHash::of(&bytes);
            self.inner.store.blob_put(hash.as_str(), &bytes)?;
            match self.inner.world.blob_put(self.inner.seat, hash.as_str(), bytes) {
                true => Ok(hash),
                false => Err(FleetError::Unreachable("no link".into())),
            }
        })
    }

    fn blob_get(&self, hash: BlobHash) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(async move {
            let (inner, name) = (&self.inner, hash.as_str());
            if let Some(bytes) = inner.store.blob_get(name)? {
                return Ok(Some(bytes.into()));
            }
            if inner.bug == Bug::BlobsAreAskedForOnce && inner.missed.lock().contains(name) {
                return Ok(None);
            }
            let found = inner.world.blob_get(inner.seat, name);
            let found = found.ok_or_else(|| FleetError::Unreachable("no link".into()))?;
            match &found {
                Some(bytes) => inner.store.blob_put(name, bytes)?,
                None => drop(inner.missed.lock().insert(name.to_owned())),
            }
            Ok(found)
        })
    }

    fn blob_is_shared(&self, hash: BlobHash) -> BoxFuture<'_, Result<bool, FleetError>> {
        let found = self.inner.world.blob_get(self.inner.seat, hash.as_str());
        let found = found.ok_or_else(|| FleetError::Unreachable("no link".into()));
        Box::pin(std::future::ready(found.map(|found| found.is_some())))
    }

    fn blob_forget(&self, hash: BlobHash) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(async move {
            self.inner.store.blob_forget(hash.as_str())?;
            match self.inner.world.blob_forget(self.inner.seat, hash.as_str()) {
                true => Ok(()),
                false => Err(FleetError::Unreachable("no link".into())),
            }
        })
    }

    fn last(&self, _topic: Topic, subject: &str) -> BoxFuture<'_, Result<(u64, Option<Bytes>), FleetError>> {
        let last = self.inner.world.last(self.inner.seat, subject);
        let last = last.ok_or_else(|| FleetError::Unreachable("the stream does not answer".into()));
        Box::pin(std::future::ready(last))
    }

    fn put_after(&self, put: Put, revision: u64) -> BoxFuture<'_, Result<bool, FleetError>> {
        Box::pin(async move {
            let inner = &self.inner;
            let expected = (inner.bug != Bug::SwapsAreNotCompared).then_some(revision);
            let answer = inner.world.swap(inner.seat, &put.subject, put.bytes, expected);
            match timeout(ACK_TIMEOUT, answer).await {
                Ok(Ok(taken)) => Ok(taken),
                Ok(Err(_)) | Err(_) => Err(FleetError::Unreachable("the stream does not answer".into())),
            }
        })
    }

    fn lease(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>, FleetError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let inner = &self.inner;
            let until_ms = inner.clock.now_ms() + u64::try_from(ttl.as_millis()).unwrap();
            let holder = format!("{}/{}", inner.author.site, inner.author.node);
            let taken = inner.world.lease(inner.seat, &name, &holder, ttl);
            let token = taken.ok_or_else(|| FleetError::Unreachable("no link".into()))?;
            Ok(token.map(|token| Lease { token, until_ms }))
        })
    }

    fn link(&self) -> watch::Receiver<LinkState> {
        self.inner.link.subscribe()
    }

    fn queue_len(&self) -> usize {
        self.inner.unconfirmed.lock().len()
    }

    fn close(&self) {
        self.tasks.lock().abort_all();
        self.inner.world.leave(self.inner.seat);
    }
}

impl Inner {
    fn connected(&self) -> bool {
        self.link.borrow().connected
    }

    fn resync(&self, topic: Topic) {
        self.resync.send_modify(|counts| *counts.entry(topic.prefix()).or_default() += 1);
    }

    async fn send_and_keep(&self, put: Put) -> Result<Receipt, FleetError> {
        {
            let mut unconfirmed = self.unconfirmed.lock();
            let waiting = unconfirmed.entry(put.subject.clone()).or_default();
            *waiting = put.version.max(*waiting);
        }
        let kept = Kept {
            subject: put.subject.clone(),
            version: put.version,
            expires_at_ms: put.expires_at_ms,
            own: true,
            bytes: put.bytes.to_vec(),
        };
        if !self.connected() {
            self.store.keep(kept).await?;
            return Ok(Receipt::QueuedLocal);
        }
        let sent = self.send_to_stream(&put.subject, put.version, put.expires_at_ms, put.bytes);
        if self.bug == Bug::ConfirmedIsNotKept {
            return match sent.await {
                Some(revision) => Ok(Receipt::Committed(revision)),
                None => self.store.keep(kept).await.map(|()| Receipt::QueuedLocal),
            };
        }
        let (sent, kept) = join(sent, self.store.keep(kept)).await;
        let forgotten = match self.bug {
            Bug::WithdrawalsAreForgotten => put.subject.contains("withdraw"),
            Bug::RecallsAreForgotten => put.subject.contains("op-recall"),
            _ => false,
        };
        if forgotten {
            self.store.forget_soon(put.subject, put.version);
        }
        match (sent, kept) {
            (Some(revision), _) => Ok(Receipt::Committed(revision)),
            (None, Ok(())) => Ok(Receipt::QueuedLocal),
            (None, Err(error)) => Err(error),
        }
    }

    async fn send_to_stream(
        &self,
        subject: &str,
        version: u64,
        expires_at_ms: u64,
        bytes: Bytes,
    ) -> Option<u64> {
        let ttl = (expires_at_ms != u64::MAX).then(|| {
            let left_ms = expires_at_ms.saturating_sub(self.clock.now_ms());
            Duration::from_secs(left_ms.div_ceil(1_000).max(1))
        });
        self.sent.fetch_add(1, Ordering::Relaxed);
        let ack: oneshot::Receiver<u64> = self.world.send(self.seat, subject, bytes, Some(ttl));
        // No ack and a lost one look the same: the time is up.
        let number = match timeout(ACK_TIMEOUT, ack).await {
            Ok(Ok(number)) => number,
            Ok(Err(_)) | Err(_) => return None,
        };
        self.confirm(subject, version);
        Some(number)
    }

    fn confirm(&self, subject: &str, version: u64) {
        let mut unconfirmed = self.unconfirmed.lock();
        if unconfirmed.get(subject).is_some_and(|waiting| *waiting <= version) {
            unconfirmed.remove(subject);
        }
    }
}

async fn watch_plug(inner: Arc<Inner>, mut plugged: watch::Receiver<bool>) {
    loop {
        let connected = *plugged.borrow_and_update();
        if connected != inner.connected() {
            inner.link.send_modify(|link| *link = LinkState { connected, ..LinkState::default() });
            if connected {
                inner.session.send_modify(|count| *count += 1);
            }
        }
        if plugged.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_core(
    inner: &Inner,
    topic: Topic,
    mut core: mpsc::Receiver<(Arc<str>, Bytes)>,
    to: &mpsc::Sender<Delivery>,
) {
    while let Some((subject, bytes)) = core.recv().await {
        // What counts is what the stream keeps: time to look there.
        if topic == Topic::Policy && inner.bug != Bug::PolicyIsBelievedByHearsay {
            inner.resync(topic);
            continue;
        }
        if to.send(Delivery::Put { subject, bytes }).await.is_err() {
            return;
        }
    }
}

async fn follow_sessions(inner: &Inner, topic: Topic, to: &mpsc::Sender<Delivery>) {
    let mut session = inner.session.subscribe();
    let mut link = inner.link.subscribe();
    let mut resync = inner.resync.subscribe();
    loop {
        if link.wait_for(|link| link.connected).await.is_err() {
            return;
        }
        session.mark_unchanged();
        let asked = resync.borrow_and_update().get(topic.prefix()).copied();
        let state = link.borrow_and_update().clone();
        if to.send(Delivery::Link(state)).await.is_err() {
            return;
        }
        let ended = tokio::select! {
            biased;
            _ = session.changed() => Delivery::Link(inner.link.borrow().clone()),
            _ = async { link.wait_for(|link| !link.connected).await.map(drop) } => {
                Delivery::Link(inner.link.borrow().clone())
            }
            _ = resync.wait_for(|counts| counts.get(topic.prefix()).copied() != asked) => Delivery::Gap,
            () = follow_streams(inner, topic, to) => return,
        };
        if to.send(ended).await.is_err() {
            return;
        }
    }
}

/// Looks for streams from time to time, and reads each from its start, then on, and after a minute from its start again.
async fn follow_streams(inner: &Inner, topic: Topic, to: &mpsc::Sender<Delivery>) {
    if topic == Topic::Heartbeats {
        let _ = to.send(Delivery::Synced).await;
        return std::future::pending().await;
    }
    let mut followed: BTreeMap<String, Place> = BTreeMap::new();
    let (mut changes, mut rereads) = (inner.world.changes(), inner.rereads.subscribe());
    let mut synced = false;
    let mut next_look = Instant::now();
    loop {
        if Instant::now() >= next_look {
            next_look += match look(inner, topic, &mut followed) {
                true => LOOK_FOR_STREAMS,
                false => LOOK_AGAIN,
            };
        }
        let mut all_read = !followed.is_empty() || Instant::now() < next_look;
        for (name, place) in &mut followed {
            let Some(reading) = inner.world.read(inner.seat, name, place.read_to) else {
                all_read = false;
                continue;
            };
            if reading.made != place.made {
                continue;
            }
            let pause = if topic == Topic::Decisions { READ_DECISIONS_AGAIN } else { READ_AGAIN };
            place.read_again_at.get_or_insert(Instant::now() + pause);
            place.read_to = place.read_to.max(reading.last);
            for (subject, bytes) in reading.records {
                if to.send(Delivery::Put { subject, bytes }).await.is_err() {
                    return;
                }
            }
        }
        if all_read && !synced {
            synced = true;
            if to.send(Delivery::Synced).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            _ = changes.changed() => sleep(STREAM_LAG).await,
            () = sleep_until(next_look) => {}
            Ok(subject) = rereads.recv(), if topic == Topic::Decisions => {
                let reading = inner.world.read(inner.seat, &stream_of(&format!("{subject}.")), 0);
                let records = reading.map(|reading| reading.records).unwrap_or_default();
                for (subject, bytes) in records.into_iter().filter(|(of, _)| of.starts_with(&subject)) {
                    if to.send(Delivery::Put { subject, bytes }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

struct Place {
    made: u64,
    read_to: u64,
    read_again_at: Option<Instant>,
}

/// Starts to follow streams that are new, were made anew, or are to be read again.
fn look(inner: &Inner, topic: Topic, followed: &mut BTreeMap<String, Place>) -> bool {
    let Some(streams) = inner.world.streams(inner.seat, topic.prefix()) else { return false };
    for (name, made, _) in streams {
        let fresh = Place { made, read_to: 0, read_again_at: None };
        let Some(place) = followed.get_mut(&name) else {
            followed.insert(name, fresh);
            continue;
        };
        let again = place.read_again_at.is_some_and(|at| at <= Instant::now()) && inner.bug != Bug::ReadOnce;
        if place.made != made || again {
            *place = fresh;
        }
    }
    true
}

/// Compares own records with the stream on every connection and once a minute.
async fn audit(inner: Arc<Inner>) {
    let mut link = inner.link.subscribe();
    let mut session = inner.session.subscribe();
    loop {
        if link.wait_for(|link| link.connected).await.is_err() {
            return;
        }
        session.mark_unchanged();
        tokio::select! {
            biased;
            _ = session.changed() => {}
            _ = async { link.wait_for(|link| !link.connected).await.map(drop) } => {}
            () = during_session(&inner) => {}
        }
    }
}

async fn during_session(inner: &Inner) {
    send_waiting(inner);
    loop {
        let started = Instant::now();
        let passed = audit_all(inner).await;
        if passed {
            let now_ms = inner.clock.now_ms();
            inner.link.send_modify(|link| link.audited_at_ms = Some(now_ms));
        }
        let next = started + if passed { AUDIT_EVERY } else { AFTER_FAILURE };
        loop {
            tokio::select! {
                biased;
                () = sleep_until(next) => break,
                () = sleep(UNCONFIRMED_EVERY) => {
                    let before = inner.unconfirmed.lock().clone();
                    if before.is_empty() {
                        continue;
                    }
                    sleep(UNCONFIRMED_EVERY).await;
                    let now = inner.unconfirmed.lock().clone();
                    if before.iter().any(|(subject, version)| now.get(subject) == Some(version)) {
                        break;
                    }
                }
            }
        }
    }
}

async fn only_make_streams(inner: Arc<Inner>) {
    loop {
        for prefix in KEPT {
            inner.world.ensure(inner.seat, &format!("{prefix}/{}", inner.author.site));
        }
        let now_ms = inner.clock.now_ms();
        inner.link.send_modify(|link| link.audited_at_ms = link.connected.then_some(now_ms));
        sleep(AFTER_FAILURE).await;
    }
}

fn send_waiting(inner: &Inner) {
    let (kept, _) = inner.store.records("phx.").unwrap_or_default();
    let announcement = subject::of_node(&inner.author.site, &inner.author.node);
    let now_ms = inner.clock.now_ms();
    for record in kept {
        let waits = record.subject == announcement || inner.unconfirmed.lock().contains_key(&record.subject);
        if record.own && waits && record.expires_at_ms > now_ms {
            drop(inner.world.send(inner.seat, &record.subject, record.bytes.into(), None));
        }
    }
}

async fn audit_all(inner: &Inner) -> bool {
    let mut passed = true;
    for prefix in KEPT {
        passed = passed && inner.world.ensure(inner.seat, &format!("{prefix}/{}", inner.author.site));
    }
    for prefix in [subject::NODES, subject::DECISIONS] {
        passed = passed && audit_one(inner, &subject::own(prefix, &inner.author)).await;
    }
    passed
}

async fn audit_one(inner: &Inner, own: &str) -> bool {
    let mine = |subject: &str| {
        subject.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let Ok((kept, _)) = inner.store.records(own) else { return false };
    let Some(reading) = inner.world.read(inner.seat, &stream_of(&format!("{own}.")), 0) else {
        return false;
    };
    let in_stream: HashMap<Arc<str>, Bytes> = reading.records.into_iter().collect();
    let now_ms = inner.clock.now_ms();
    let mut missing = Vec::new();
    for record in kept.into_iter().filter(|record| mine(&record.subject)) {
        if in_stream.get(record.subject.as_str()).is_some_and(|bytes| **bytes == *record.bytes) {
            inner.confirm(&record.subject, record.version);
        } else if record.own && record.expires_at_ms > now_ms {
            missing.push(record);
        }
    }
    let sending = missing.into_iter().map(|record| async move {
        let (version, expires_at_ms) = (record.version, record.expires_at_ms);
        inner.send_to_stream(&record.subject, version, expires_at_ms, record.bytes.into()).await.is_some()
    });
    join_all(sending).await.into_iter().all(|sent| sent)
}

/// The streams that a node makes for its site.
const KEPT: [&str; 3] = [subject::NODES, subject::DECISIONS, subject::POLICY];
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_FOR_STREAMS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const READ_AGAIN: Duration = Duration::from_secs(60);
/// As in the real engine: what digests do not tell of within the time of a run stays lost.
const READ_DECISIONS_AGAIN: Duration = Duration::from_secs(60 * 60);
const STREAM_LAG: Duration = Duration::from_millis(3);
const AUDIT_EVERY: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const UNCONFIRMED_EVERY: Duration = Duration::from_secs(3);
