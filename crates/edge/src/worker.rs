//! One worker: a thread with its own runtime, listeners, connections and upstream pool. A request never leaves it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_decide::standing;
use phalanx_model::counters::{LimitReached, ProxyFailure, WorkerCounters};
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, Identities, PrefixSet, RequestId, Swap, View};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};

use crate::client::Client;
use crate::compress::Encoders;
use crate::connection;
use crate::control::{Activity, Connections, Control, Cut};
use crate::crawlers;
use crate::http2;
use crate::leaving::{Drain, Leaving};
use crate::overload;
use crate::places::{Place, Places};
use crate::plan::{EdgePlan, LocalPlan};
use crate::recording::Sampler;
use crate::settings::EdgeSettings;
use crate::stages::InspectScratch;
use crate::tables::{ConnectionCounts, Counted, NodeTables};
use crate::tls::{Material, handshake};
use crate::upstream::Pool;

/// What all workers of a node are given.
#[derive(Clone)]
pub(crate) struct WorkerShared {
    pub(crate) settings: Arc<EdgeSettings>,
    pub(crate) plan: Arc<Swap<EdgePlan>>,
    pub(crate) view: Arc<Swap<View>>,
    pub(crate) places: Arc<Swap<Places>>,
    pub(crate) material: Arc<Swap<Material>>,
    pub(crate) lanes: Lanes,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tables: Arc<NodeTables>,
    /// How the node drains; `None` while it serves.
    pub(crate) drain: Arc<watch::Sender<Option<Drain>>>,
    /// Whether connections end with the request under way, while new ones are served.
    pub(crate) retire: Arc<watch::Sender<bool>>,
}

/// A worker's own state.
pub(crate) struct Worker {
    pub(crate) shared: WorkerShared,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) pool: Pool,
    /// HTTP/2 connections to upstreams.
    pub(crate) calls: http2::Pool,
    pub(crate) connections: Connections,
    pub(crate) inspect_scratch: InspectScratch,
    pub(crate) encoders: Encoders,
    /// What it keeps of requests for replay, where the node does.
    pub(crate) sampler: Option<Arc<Sampler>>,
    /// Which connections end.
    pub(crate) leaving: Leaving,
    scratch: RefCell<Box<[u8]>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    plan: RefCell<LocalPlan>,
    started: Instant,
    now_ms: Cell<u64>,
    random: Cell<u64>,
    closed: Notify,
    /// Whose handshake may compute: one at a time, in the order in which they came, so that between two of them whatever else is
    /// ready gets its turn.
    pub(crate) handshake_turn: Semaphore,
}

impl Worker {
    pub(crate) fn new(shared: WorkerShared, counters: Arc<WorkerCounters>) -> Self {
        let plan = RefCell::new(Rc::new(shared.plan.load_full()));
        let limits = &shared.settings.limits;
        Self {
            calls: http2::Pool::default(),
            pool: Pool::new(limits.upstream_idle, limits.upstream_idle_ms),
            connections: Connections::default(),
            inspect_scratch: InspectScratch::default(),
            encoders: Encoders::default(),
            sampler: shared.settings.recording.as_ref().map(|recording| recording.join()),
            leaving: Leaving::default(),
            scratch: RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()),
            buffers: RefCell::default(),
            plan,
            started: Instant::now(),
            now_ms: Cell::new(0),
            random: Cell::new(random_seed()),
            closed: Notify::new(),
            handshake_turn: Semaphore::new(1),
            counters,
            shared,
        }
    }

    /// The plan in force. Cloned within the worker, so that cores do not share its reference count.
    pub(crate) fn plan(&self) -> LocalPlan {
        let current = self.shared.plan.load();
        let mut cached = self.plan.borrow_mut();
        if !Arc::ptr_eq(&current, &cached) {
            *cached = Rc::new(Arc::clone(&current));
        }
        Rc::clone(&cached)
    }

    /// A moment `in_ms` from now in the worker's time, which moves by [`TICK_MS`].
    pub(crate) fn after_ms(&self, in_ms: u64) -> u64 {
        self.now_ms.get().saturating_add(in_ms).saturating_add(TICK_MS)
    }

    /// The worker's time, as of its last tick.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// A new request's id.
    pub(crate) fn new_request_id(&self, at_ms: u64) -> RequestId {
        RequestId::from_parts(at_ms, self.shared.settings.node_tag, self.next_random())
    }

    /// Lends the read buffer for one read.
    pub(crate) fn with_scratch<T>(&self, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
        use_it(&mut self.scratch.borrow_mut())
    }

    /// An empty output buffer.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Gives an output buffer back for the next request.
    pub(crate) fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffer.capacity() > 0 && buffer.capacity() <= READ_BYTES_MAX && buffers.len() < BUFFERS_KEPT {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// SplitMix64 (Steele et al. 2014): ids need to be distinct, not secret.
    pub(crate) fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// What is known of a client. Where it is, is looked up once per connection and client, and only if a decision asks for it.
    pub(crate) fn identities(
        &self,
        view: &View,
        control: &Control,
        client: IpAddr,
        agent: Option<u64>,
    ) -> Identities {
        let ja4 = control.ja4.get();
        if !view.asks_for_asns() && !view.asks_for_countries() {
            return Identities { agent, ja4, ..Identities::of(client) };
        }
        let place = self.place(control, client);
        Identities { agent, ja4, asn: place.asn, country: place.country, ..Identities::of(client) }
    }

    /// Where a client is, looked up once per connection and client.
    pub(crate) fn place(&self, control: &Control, client: IpAddr) -> Place {
        match control.place.get() {
            Some((of, place)) if of == client => place,
            _ => {
                let place = self.shared.places.load().of(client.to_canonical());
                control.place.set(Some((client, place)));
                place
            }
        }
    }

    /// Called when a connection is gone.
    pub(crate) fn connection_closed(&self) {
        WorkerCounters::add_one(&self.counters.connections_closed);
        if self.leaving.draining.get() && self.connections.len() == 0 {
            self.closed.notify_one();
        }
    }

    fn tick(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now_ms.set(now_ms);
        self.connections.for_each(|control| control.check_deadline(now_ms));
        self.pool.drop_expired(now_ms);
        overload::close_idle(self);
        self.calls.drop_expired(now_ms, self.shared.settings.limits.upstream_idle_ms);
    }

    /// Lets go of the connections whose turn it is.
    fn let_go(&self, drain: &Drain) {
        let due = self.leaving.go_on(drain.shares(Instant::now()));
        self.connections.for_each_slot(|slot, control| match due(slot) {
            (_, true) if control.activity.get() == Activity::Idle => control.cut(Cut::Drained),
            // Who speaks HTTP/2 says now that no stream is to come.
            (true, _) if drain.is_gentle() => control.wake(),
            _ => {}
        });
    }

    fn cut_idle(&self) {
        self.connections.for_each(|control| {
            if control.activity.get() == Activity::Idle {
                control.cut(Cut::Drained);
            }
        });
    }

    /// Ends the connections of clients that the view now bans.
    fn enforce_bans(&self) {
        let plan = self.plan();
        if !plan.enforces() {
            return;
        }
        let view = self.shared.view.load();
        let now_ms = self.shared.clock.now_ms();
        self.connections.for_each(|control| {
            let Some(client) = control.client.get() else {
                return;
            };
            let who = self.identities(&view, control, client, control.agent.get());
            let standing = standing(&plan.decide, &view, &who, now_ms);
            let Some(banned) = standing.filter(phalanx_model::Verdict::refuses) else { return };
            let of_claims = (&*self.shared.tables, &*plan.decide.crawlers);
            if crawlers::spares_connection(of_claims, control, (client, &banned), now_ms) {
                return;
            }
            match control.activity.get() {
                _ if control.spared.get() => {}
                Activity::Refusing => control.ends.set(true),
                Activity::Idle | Activity::Busy => control.cut(Cut::Banned),
            }
        });
    }
}

/// One of a worker's listening sockets.
pub(crate) struct Listener {
    pub(crate) socket: std::net::TcpListener,
    pub(crate) begins: Begins,
}

/// How connections of a listener begin.
#[derive(Clone, Default)]
pub(crate) struct Begins {
    /// Its place among the TLS listeners, if it is one.
    pub(crate) tls: Option<usize>,
    /// Its place among those at which other proxies ask, if it is one.
    pub(crate) check: Option<usize>,
    /// Its place among those whose connections are carried as they are, if it is one.
    pub(crate) tcp: Option<usize>,
    /// Whose connections it takes, each with a PROXY header; `None`: everybody's, without one.
    pub(crate) proxied: Option<Arc<PrefixSet>>,
}

/// Runs a worker on the current thread until the node has drained.
pub(crate) fn run(
    shared: WorkerShared,
    counters: Arc<WorkerCounters>,
    listeners: Vec<Listener>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let mut drain = shared.drain.subscribe();
        let worker = Rc::new(Worker::new(shared, counters));
        let mut accepting = Vec::new();
        for Listener { socket, begins } in listeners {
            let listener = TcpListener::from_std(socket)?;
            accepting.push(tokio::task::spawn_local(accept(Rc::clone(&worker), listener, begins)));
        }
        tokio::task::spawn_local(watch_bans(Rc::clone(&worker)));
        tokio::task::spawn_local(watch_retirement(Rc::clone(&worker)));
        let ticker = tokio::task::spawn_local(keep_ticking(Rc::clone(&worker)));
        let asked = drain.wait_for(Option::is_some).await.ok().and_then(|drain| *drain);
        // The sender lives as long as the worker: the wait cannot fail.
        let drain = asked.unwrap_or_else(|| Drain::at_once(Duration::ZERO));
        worker.leaving.draining.set(true);
        worker.leaving.followed.set(drain.is_gentle());
        for listener in accepting {
            let _ = listener.await;
        }
        finish(&worker, drain).await;
        ticker.abort();
        Ok(())
    })
}

/// Lets requests in flight end, then cuts what is left.
async fn finish(worker: &Rc<Worker>, drain: Drain) {
    worker.let_go(&drain);
    while worker.connections.len() > 0 && !worker.leaving.hurries_all() {
        let _ = tokio::time::timeout(Duration::from_millis(TICK_MS), worker.closed.notified()).await;
        worker.let_go(&drain);
    }
    if worker.connections.len() > 0 {
        let in_time = tokio::time::timeout_at(drain.until.into(), worker.closed.notified()).await;
        if in_time.is_err() {
            worker.connections.for_each(|control| control.cut(Cut::Drained));
            // What was cut ends on its next poll; connections that hang in a write get no more time than a tick.
            let _ = tokio::time::timeout(Duration::from_millis(TICK_MS), worker.closed.notified()).await;
        }
    }
}

/// Empties the worker of connections when the node is taken out of service, and serves as ever when it comes back.
async fn watch_retirement(worker: Rc<Worker>) {
    let mut retire = worker.shared.retire.subscribe();
    loop {
        let retires = *retire.borrow_and_update();
        worker.leaving.retiring.set(retires);
        if retires {
            worker.cut_idle();
        }
        if retire.changed().await.is_err() {
            return;
        }
    }
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, begins: Begins) {
    let mut drain = worker.shared.drain.subscribe();
    let mut in_a_row = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.wait_for(Option::is_some) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                admit(&worker, accepted, &begins);
                in_a_row += 1;
                if in_a_row >= ACCEPTS_IN_A_ROW {
                    // A flood of connections leaves every other one its turn.
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: accepting again at once would only spin.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections that the kernel has already completed are served, not reset, when the listener closes.
    for _ in 0..ACCEPTED_LAST {
        let accepted = tokio::task::unconstrained(listener.accept());
        let Some(Ok(accepted)) = futures_util::FutureExt::now_or_never(accepted) else { return };
        admit(&worker, accepted, &begins);
    }
}

/// Counts a connection and serves it, or closes it at once when a limit is reached.
fn admit(worker: &Rc<Worker>, (stream, peer): (TcpStream, SocketAddr), begins: &Begins) {
    let settings = &worker.shared.settings;
    let limits = &settings.limits;
    let plan = worker.plan();
    let ip = peer.ip().to_canonical();
    let check = begins.check.and_then(|place| settings.check_listen.get(place));
    let actor = match (&begins.proxied, check) {
        (_, Some(check)) if !check.from.contains(ip) => {
            WorkerCounters::add_one(&worker.counters.connections_refused);
            return tracing::debug!(%peer, "connection closed: it may not ask about requests");
        }
        (Some(balancers), _) if !balancers.contains(ip) => {
            worker.counters.count_proxy_failure(ProxyFailure::Stranger);
            return tracing::debug!(%peer, "connection closed: it is from none of the balancers");
        }
        // Whose it is, its header says, or each question.
        (Some(_), _) | (_, Some(_)) => None,
        (None, None) => (!plan.decide.forwarders.contains(ip)).then_some(ip),
    };
    if overload::refuses_connection(worker, &plan, actor) {
        return WorkerCounters::add_one(&worker.counters.connections_refused);
    }
    // The cheapest place there is: nothing was read, and nothing is kept of it.
    if begins.tls.is_some() && handshake::comes_too_often(worker, &plan, actor) {
        return WorkerCounters::add_one(&worker.counters.connections_refused);
    }
    let admitted = ConnectionCounts::admit(
        &worker.shared.tables,
        Counted::Connections,
        actor,
        (limits.connections, limits.connections_per_actor),
    );
    match admitted {
        Ok(admission) => {
            WorkerCounters::add_one(&worker.counters.connections_accepted);
            let mut client = Client::open(worker, (stream, peer), begins.tls, actor, admission);
            client.awaits_proxy_header = begins.proxied.is_some();
            client.check = begins.check;
            client.tcp = begins.tcp;
            tokio::task::spawn_local(connection::serve(client));
        }
        Err(limit) => {
            WorkerCounters::add_one(&worker.counters.connections_refused);
            worker.counters.count_limit(match limit {
                "connections" => LimitReached::Connections,
                _ => LimitReached::ConnectionsPerAddress,
            });
            tracing::debug!(%peer, limit, "connection refused");
        }
    }
}

async fn watch_bans(worker: Rc<Worker>) {
    let mut swaps = worker.shared.view.subscribe();
    while swaps.changed().await.is_ok() {
        let started = Instant::now();
        worker.enforce_bans();
        // Many bans in a row may cost a tenth of the worker's time, no more.
        let spent = started.elapsed();
        if spent > Duration::from_micros(100) {
            tokio::time::sleep(spent * 9).await;
        }
    }
}

async fn keep_ticking(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.tick();
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds this from the operating system.
    std::hash::RandomState::new().build_hasher().finish()
}

/// Resolution of deadlines.
pub(crate) const TICK_MS: u64 = 100;
/// Most bytes one read takes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// First size of an output buffer: most heads with a small body.
const BUFFER_BYTES: usize = 4 * 1024;
/// Output buffers kept for reuse.
const BUFFERS_KEPT: usize = 256;
/// Connections taken when a listener closes: those that wait, not those that keep coming where another process listens too.
const ACCEPTED_LAST: usize = 4_096;
/// Connections accepted before others get a turn.
const ACCEPTS_IN_A_ROW: u32 = 32;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
