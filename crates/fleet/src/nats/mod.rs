//! The engine of many nodes: NATS for speed, JetStream for memory, redb for everything this node wrote.
//!
//! One publish serves both paths: listeners get it from the server's core at once, the stream keeps it and confirms.
//! Until it is confirmed a record is queued, on disk; the audit compares own records with the stream and repairs, so that a
//! wiped, restored or rolled-back stream heals.
//!
//! INVARIANT: nothing here waits for the server where a caller waits: no link means `QueuedLocal`, at once.

mod again;
mod audit;
mod audited;
mod blob;
mod bucket;
pub mod claims;
mod follow;
pub mod keeper;
mod lease;
mod login;
mod streams;
mod swap;
mod way;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, jetstream};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join};
use parking_lot::Mutex;
use phalanx_model::{Author, Clock, Swap};
use phalanx_trust::{Membership, nats_login};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::audited::Audited;
use crate::engine::{LinkState, SUBSCRIPTION_QUEUE};
use crate::store::{Kept, Store};
use crate::{BlobHash, Delivery, Fleet, FleetError, Lease, Put, Receipt, Speed, Topic};

/// Where the server is and how to log in.
#[derive(Clone)]
pub struct NatsSettings {
    /// One or more `nats://HOST:PORT`, separated by commas; may hold user and password.
    pub url: String,
    /// A credentials file of the server's (`.creds`).
    pub credentials: Option<PathBuf>,
    /// Certificates to trust, in PEM.
    pub root_certificates: Option<PathBuf>,
    /// This node's certificate and key, in PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Copies of each stream: 1, or 3 in a cluster of three.
    pub replicas: usize,
    /// The node's membership of an enrolled fleet: its login, its certificate and whom it believes. Goes before the rest.
    pub membership: Option<Arc<Membership>>,
    /// How often own records are compared with the stream: every minute, but in tests.
    pub audit_every: Duration,
    /// The sites whose streams this node makes, asked at each audit; only where the fleet's authority is.
    pub stewarded: Option<Sites>,
}

/// Tells the sites of a fleet.
pub type Sites = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

impl NatsSettings {
    /// Settings with a URL alone.
    pub fn at(url: impl Into<String>) -> Self {
        let url = url.into();
        Self {
            url,
            credentials: None,
            root_certificates: None,
            client_certificate: None,
            replicas: 1,
            membership: None,
            audit_every: AUDIT_EVERY,
            stewarded: None,
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("NatsSettings").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}

/// A connection to the server. Its tasks end when nobody holds it any more.
struct Connection {
    client: Client,
    jetstream: jetstream::Context,
    /// Tells its events from those of the connections before it.
    number: u64,
}

/// An event of the connection of this number.
type Heard = (u64, Event);

/// A node's link to NATS.
pub struct NatsFleet {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

/// A part of a stream to read once.
#[derive(Debug, Clone)]
struct Part {
    /// What is under this subject.
    subject: String,
    /// And came after this sequence.
    after: u64,
}

struct Inner {
    connection: Swap<Connection>,
    author: Author,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    replicas: usize,
    stewarded: Option<Sites>,
    makes_streams: bool,
    link: watch::Sender<LinkState>,
    /// Counts connections; a new one starts everything that depends on the server anew.
    session: watch::Sender<u64>,
    /// Counts requests to deliver everything once more, per topic.
    resync: HashMap<Topic, watch::Sender<u64>>,
    /// Own records sent or queued, by subject, until the stream confirms their version.
    unconfirmed: Mutex<HashMap<String, u64>>,
    /// The oldest version that some peer has missed, to be said again.
    missed_since: Mutex<Option<u64>>,
    missed: Notify,
    /// Parts of streams that subscriptions to decisions are to deliver once more.
    rereads: broadcast::Sender<Part>,
    audited: Mutex<Audited>,
    /// Somebody found less in the stream than should be there.
    doubted: Notify,
    audit_every: Duration,
    /// Records that audits read from streams since the start.
    audit_reads: AtomicU64,
    /// Records that the audit is sending again at this moment.
    resending: AtomicUsize,
}

impl NatsFleet {
    /// Starts the link. Fails on settings that can never work; a server that cannot be reached is tried for ever.
    pub async fn start(
        settings: NatsSettings,
        author: Author,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FleetError> {
        let (events, heard) = mpsc::channel(EVENTS_QUEUE);
        let addresses = addresses(&settings.url)?;
        let first = options(&settings, &author, 0, events.clone()).await?.retry_on_initial_connect();
        let client = first.connect(addresses).await.map_err(|error| {
            FleetError::setting("fleet.nats", error.to_string(), "check the address and the credentials")
        })?;
        let topics = [
            Topic::Decisions,
            Topic::Nodes,
            Topic::Revocations,
            Topic::Policy,
            Topic::Orders,
            Topic::Heartbeats,
            Topic::Counts,
            Topic::CountsToSum,
            Topic::Questions,
            Topic::Answers,
            Topic::Shelves,
            Topic::Sketches,
            Topic::Operators,
            Topic::Histories,
        ];
        let inner = Inner {
            connection: Swap::new(Connection::new(client, 0)),
            author,
            store,
            clock,
            replicas: settings.replicas.max(1),
            makes_streams: settings.membership.is_none() || settings.stewarded.is_some(),
            stewarded: settings.stewarded.clone(),
            link: watch::Sender::new(LinkState { fault: Some(LINK_DOWN.into()), ..LinkState::default() }),
            session: watch::Sender::new(0),
            resync: topics.into_iter().map(|topic| (topic, watch::Sender::new(0))).collect(),
            unconfirmed: Mutex::default(),
            missed_since: Mutex::default(),
            missed: Notify::new(),
            rereads: broadcast::Sender::new(REREADS_QUEUE),
            audited: Mutex::default(),
            doubted: Notify::new(),
            audit_every: settings.audit_every,
            audit_reads: AtomicU64::new(0),
            resending: AtomicUsize::new(0),
        };
        let inner = Arc::new(inner);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_link(Arc::clone(&inner), heard));
        tasks.spawn(audit::run(Arc::clone(&inner)));
        if let Some(membership) = settings.membership.clone() {
            tasks.spawn(login::again_when_renewed(Arc::clone(&inner), settings, membership, events));
        }
        Ok(Self { inner, tasks: Mutex::new(tasks) })
    }

    /// How many records were read from streams to compare them with this node's own, since the start.
    pub fn audit_reads(&self) -> u64 {
        self.inner.audit_reads.load(Ordering::Relaxed)
    }
}

impl Fleet for NatsFleet {
    fn kind(&self) -> &'static str {
        "nats"
    }

    fn publish(&self, put: Put) -> BoxFuture<'_, Result<Receipt, FleetError>> {
        Box::pin(async move {
            match put.speed {
                Speed::Fast => self.inner.send_fast(put).await,
                Speed::Both => self.inner.send_and_keep(put).await,
            }
        })
    }

    fn forget(&self, subject: &str, version: u64) {
        self.inner.confirm(subject, version);
        self.inner.store.forget_soon(subject.to_owned(), version);
    }

    fn subscribe(&self, topic: Topic) -> mpsc::Receiver<Delivery> {
        let (to, receiver) = mpsc::channel(SUBSCRIPTION_QUEUE);
        self.tasks.lock().spawn(follow::run(Arc::clone(&self.inner), topic, to));
        receiver
    }

    fn resync(&self, topic: Topic) {
        self.inner.ask_resync(topic);
    }

    fn reread(&self, subject: &str) {
        // Nobody follows before the handle has started.
        let _ = self.inner.rereads.send(Part { subject: subject.to_owned(), after: 0 });
    }

    fn read_after(&self, site: &str, sequence: u64) {
        let subject = format!("{}.{site}", Topic::Decisions.prefix());
        let _ = self.inner.rereads.send(Part { subject, after: sequence });
    }

    fn positions(&self) -> BoxFuture<'_, Result<BTreeMap<String, u64>, FleetError>> {
        Box::pin(streams::positions(Arc::clone(&self.inner)))
    }

    fn blob_share(&self, bytes: Bytes) -> BoxFuture<'_, Result<BlobHash, FleetError>> {
        Box::pin(blob::share(Arc::clone(&self.inner), bytes))
    }

    fn blob_fetch(&self, hash: BlobHash) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(blob::fetch(Arc::clone(&self.inner), hash))
    }

    fn blob_is_shared(&self, hash: BlobHash) -> BoxFuture<'_, Result<bool, FleetError>> {
        Box::pin(blob::is_shared(Arc::clone(&self.inner), hash))
    }

    fn blob_unshare(&self, hash: BlobHash) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(blob::unshare(Arc::clone(&self.inner), hash))
    }

    fn mark_put(&self, site: &str, node: &str, bytes: Bytes) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(blob::mark_put(Arc::clone(&self.inner), format!("{site}.{node}"), bytes))
    }

    fn mark_get(&self, site: &str, node: &str) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(blob::mark_get(Arc::clone(&self.inner), format!("{site}.{node}")))
    }

    fn doubt_stream(&self) {
        if self.inner.audited.lock().doubt(Instant::now()) {
            self.inner.doubted.notify_one();
        }
    }

    fn link_anew(&self) {
        let client = self.inner.client();
        tokio::spawn(async move { client.force_reconnect().await });
    }

    fn say_again(&self, version: u64) {
        let mut since = self.inner.missed_since.lock();
        *since = Some(since.map_or(version, |known| known.min(version)));
        self.inner.missed.notify_one();
    }

    fn blob_put(&self, bytes: Bytes) -> BoxFuture<'_, Result<BlobHash, FleetError>> {
        Box::pin(blob::put(Arc::clone(&self.inner), bytes))
    }

    fn blob_get(&self, hash: BlobHash) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(blob::get(Arc::clone(&self.inner), hash))
    }

    fn blob_forget(&self, hash: BlobHash) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(blob::forget(Arc::clone(&self.inner), hash))
    }

    fn last(&self, topic: Topic, subject: &str) -> BoxFuture<'_, Result<(u64, Option<Bytes>), FleetError>> {
        Box::pin(swap::last(Arc::clone(&self.inner), topic, subject.to_owned()))
    }

    fn put_after(&self, put: Put, revision: u64) -> BoxFuture<'_, Result<bool, FleetError>> {
        Box::pin(swap::put_after(Arc::clone(&self.inner), put, revision))
    }

    fn lease(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>, FleetError>> {
        Box::pin(lease::take(Arc::clone(&self.inner), name.to_owned(), ttl))
    }

    fn link(&self) -> watch::Receiver<LinkState> {
        self.inner.link.subscribe()
    }

    fn queue_len(&self) -> usize {
        self.inner.unconfirmed.lock().len() + self.inner.resending.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.tasks.lock().abort_all();
    }
}

impl Connection {
    fn new(client: Client, number: u64) -> Self {
        let jetstream = ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .max_ack_inflight(ACKS_IN_FLIGHT_MAX)
            .build(client.clone());
        Self { client, jetstream, number }
    }
}

impl Inner {
    fn client(&self) -> Client {
        self.connection.load().client.clone()
    }

    fn jetstream(&self) -> jetstream::Context {
        self.connection.load().jetstream.clone()
    }

    /// Where sites have servers of their own, these servers' keepers make the streams.
    fn makes_streams(&self) -> bool {
        self.makes_streams && self.client().server_info().domain.is_none()
    }

    fn connected(&self) -> bool {
        self.link.borrow().connected
    }

    async fn send_fast(&self, put: Put) -> Result<Receipt, FleetError> {
        if !self.connected() {
            return Err(FleetError::Unreachable("no link".into()));
        }
        let client = self.client();
        let sending = client.publish(put.subject, put.bytes);
        match tokio::time::timeout(REQUEST_TIMEOUT, sending).await {
            Ok(Ok(())) => Ok(Receipt::Sent),
            Ok(Err(error)) => Err(FleetError::Unreachable(error.to_string())),
            Err(_) => Err(FleetError::Unreachable("the link does not take more".into())),
        }
    }

    async fn send_and_keep(&self, put: Put) -> Result<Receipt, FleetError> {
        self.await_confirmation(&put.subject, put.version);
        let kept = self.store.keep(Kept {
            subject: put.subject.clone(),
            version: put.version,
            expires_at_ms: put.expires_at_ms,
            own: true,
            bytes: put.bytes.to_vec(),
        });
        if !self.connected() {
            kept.await?;
            if !self.connected() {
                return Ok(Receipt::QueuedLocal);
            }
            // The link came up meanwhile, and what waited for it may have been sent before this was on disk.
            let sent = self.send_to_stream(&put.subject, put.version, put.expires_at_ms, put.bytes).await;
            return Ok(sent.map_or(Receipt::QueuedLocal, Receipt::Committed));
        }
        // Sent first: the others need not wait for our disk. If we die in between, we learn it back from the stream.
        let (sent, kept) =
            join(self.send_to_stream(&put.subject, put.version, put.expires_at_ms, put.bytes), kept).await;
        match (sent, kept) {
            (Some(revision), _) => Ok(Receipt::Committed(revision)),
            (None, Ok(())) => Ok(Receipt::QueuedLocal),
            (None, Err(error)) => Err(error),
        }
    }

    /// Publishes to the stream of the record's subject. The revision if the stream confirmed it.
    async fn send_to_stream(
        &self,
        subject: &str,
        version: u64,
        expires_at_ms: u64,
        bytes: Bytes,
    ) -> Option<u64> {
        let mut message = PublishMessage::build().payload(bytes);
        if expires_at_ms != u64::MAX {
            message = message.ttl(ttl_to(expires_at_ms, self.clock.now_ms()));
        }
        let confirmed = async {
            let ack = self.jetstream().send_publish(subject.to_owned(), message).await?;
            ack.await
        };
        match confirmed.await {
            Ok(ack) => {
                if subject.starts_with(Topic::Decisions.prefix()) {
                    self.audited.lock().confirm(subject, version);
                }
                self.confirm(subject, version);
                Some(ack.sequence)
            }
            Err(error) => {
                tracing::debug!(subject, %error, "stream did not confirm a record; it stays queued");
                None
            }
        }
    }

    /// Notes that a record is on its way. Only for what is about to be kept: whoever forgets it later takes the note away.
    fn await_confirmation(&self, subject: &str, version: u64) {
        let mut unconfirmed = self.unconfirmed.lock();
        let waiting = unconfirmed.entry(subject.to_owned()).or_default();
        *waiting = version.max(*waiting);
    }

    fn confirm(&self, subject: &str, version: u64) {
        let mut unconfirmed = self.unconfirmed.lock();
        if unconfirmed.get(subject).is_some_and(|waiting| *waiting <= version) {
            unconfirmed.remove(subject);
        }
    }

    fn ask_resync(&self, topic: Topic) {
        if let Some(resync) = self.resync.get(&topic) {
            resync.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn stream_fault(&self, fault: Option<String>) {
        self.link.send_if_modified(|link| {
            let changed = link.connected && link.fault != fault;
            if changed {
                link.fault = fault;
            }
            changed
        });
    }
}

/// Turns the client's events into the link's state.
async fn watch_link(inner: Arc<Inner>, mut events: mpsc::Receiver<Heard>) {
    while let Some((number, event)) = events.recv().await {
        // A connection that was replaced ends as it should.
        if number != inner.connection.load().number {
            continue;
        }
        match event {
            Event::Connected => {
                tracing::info!("linked to nats");
                inner.link.send_modify(|link| *link = LinkState { connected: true, ..LinkState::default() });
                inner.session.send_modify(|count| *count = count.wrapping_add(1));
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!("link to nats lost");
                let fault = Some(LINK_DOWN.into());
                inner.link.send_modify(|link| *link = LinkState { fault, ..LinkState::default() });
            }
            // Messages were dropped because we were slow: what the streams have is delivered once more.
            Event::SlowConsumer(_) => {
                inner.ask_resync(Topic::Decisions);
                inner.ask_resync(Topic::Nodes);
                inner.ask_resync(Topic::Revocations);
                inner.ask_resync(Topic::Policy);
                inner.ask_resync(Topic::Orders);
            }
            Event::ServerError(error) => {
                tracing::warn!(%error, "nats reports an error");
                inner.link.send_modify(|link| link.fault = Some(format!("the NATS server says: {error}")));
            }
            Event::ClientError(error) => tracing::debug!(%error, "nats client error"),
            Event::LameDuckMode | Event::Draining => {}
        }
    }
}

fn addresses(url: &str) -> Result<Vec<ServerAddr>, FleetError> {
    let fix = "write nats://HOST:PORT, several separated by commas";
    let parsed: Result<Vec<ServerAddr>, _> =
        url.split(',').map(|one| one.trim().parse::<ServerAddr>()).collect();
    parsed.map_err(|error| FleetError::setting("fleet.nats", error.to_string(), fix))
}

async fn options(
    settings: &NatsSettings,
    author: &Author,
    number: u64,
    events: mpsc::Sender<Heard>,
) -> Result<ConnectOptions, FleetError> {
    let start = match &settings.membership {
        Some(membership) => login::options(membership)?,
        None => ConnectOptions::new(),
    };
    let mut options = start
        .name(format!("phalanx {}/{}", author.site, author.node))
        .custom_inbox_prefix(nats_login::inbox(&author.site, &author.node))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .reconnect_to_server_callback({
            let events = events.clone();
            move |servers, _| way::find(servers, events.clone())
        })
        .connection_timeout(Duration::from_secs(3))
        .request_timeout(Some(REQUEST_TIMEOUT))
        // A dead server is noticed after two missed pings.
        .ping_interval(Duration::from_secs(1))
        .subscription_capacity(CORE_QUEUE)
        .event_callback(move |event| {
            let events = events.clone();
            async move {
                let _ = events.send((number, event)).await;
            }
        });
    if let Some(file) = &settings.credentials {
        options = options.credentials_file(file).await.map_err(|error| {
            let cause = format!("{}: {error}", file.display());
            FleetError::setting("fleet.credentials", cause, "name a readable .creds file")
        })?;
    }
    if let Some(file) = &settings.root_certificates {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = &settings.client_certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

/// When a server greets, at once for the first times, then after 50 ms, doubled up to 2 s: what fails then is not the way, and a server
/// that refuses is not pressed.
fn reconnect_delay(attempt: usize) -> Duration {
    if attempt <= SERVERS_AT_ONCE {
        return AT_ONCE;
    }
    let doublings = u32::try_from(attempt - SERVERS_AT_ONCE - 1).unwrap_or(u32::MAX).min(6);
    Duration::from_millis(50).saturating_mul(1 << doublings).min(Duration::from_secs(2))
}

/// The servers of a site.
const SERVERS_AT_ONCE: usize = 3;
const AT_ONCE: Duration = Duration::from_millis(5);

/// The server's time-to-live has whole seconds; rounded up, because local expiry decides and this only collects garbage.
fn ttl_to(expires_at_ms: u64, now_ms: u64) -> Duration {
    Duration::from_secs(expires_at_ms.saturating_sub(now_ms).div_ceil(1000).max(1))
}

const AUDIT_EVERY: Duration = Duration::from_secs(60);
const LINK_DOWN: &str =
    "the NATS server cannot be reached: decisions hold here, and are shared when it is back";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const ACKS_IN_FLIGHT_MAX: usize = 8192;
const EVENTS_QUEUE: usize = 256;
/// Parts that wait to be read once more; what finds no room is asked for again.
const REREADS_QUEUE: usize = 64;
/// Messages that the client holds for a slow subscription, about 1 KiB each; more are dropped and asked for again.
const CORE_QUEUE: usize = 4_096;
