//! The data plane of a node: binds the listeners, starts the workers, drains them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, NameKey, Swap, View};
use tokio::sync::watch;

use crate::balance::keeper;
use crate::leaving::{Drain, Gently};
use crate::listen::{GivenListener, listeners};
use crate::places::Places;
use crate::plan::EdgePlan;
use crate::settings::{EdgeLimits, EdgeSettings};
use crate::tables::{NodeTables, RateCounting};
use crate::tls::Material;
use crate::worker::{self, Listener, WorkerShared};

/// What the edge reads and writes: immutable snapshots in, events out.
#[derive(Clone)]
pub struct EdgeShared {
    /// The compiled plan.
    pub plan: Arc<Swap<EdgePlan>>,
    /// The fleet's decisions.
    pub view: Arc<Swap<View>>,
    /// Where addresses are.
    pub places: Arc<Swap<Places>>,
    /// Certificates and keys, for the TLS listeners of the settings.
    pub material: Arc<Swap<Material>>,
    /// Where events go.
    pub lanes: Lanes,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A bound, not yet serving edge.
pub struct Edge {
    handle: EdgeHandle,
    listeners: Vec<Vec<Listener>>,
    shared: WorkerShared,
}

/// The edge as the rest of the node holds it; cheap to clone.
#[derive(Debug, Clone)]
pub struct EdgeHandle {
    /// Those without TLS first, then those for TLS, for questions, for TCP.
    addresses: Arc<[SocketAddr]>,
    tls_addresses_from: usize,
    check_addresses_from: usize,
    tcp_addresses_from: usize,
    counters: Arc<[Arc<WorkerCounters>]>,
    tables: Arc<NodeTables>,
    settings: Arc<EdgeSettings>,
    drain: Arc<watch::Sender<Option<Drain>>>,
    retire: Arc<watch::Sender<bool>>,
    /// Each listening socket once more, for a process that takes over; none once the node drains, so that the last to close is a worker.
    sockets: Arc<Mutex<Vec<GivenListener>>>,
    /// Workers that still run.
    running: watch::Receiver<usize>,
    stopped: Arc<watch::Sender<usize>>,
}

impl Edge {
    /// Binds every address once per worker, so that the kernel spreads connections over them (`SO_REUSEPORT`). What was `given` for an
    /// address, by the service manager or by the process that is taken over from, is used instead.
    pub fn bind(
        mut settings: EdgeSettings,
        shared: EdgeShared,
        given: Vec<GivenListener>,
    ) -> io::Result<Self> {
        if settings.workers == 0 {
            settings.workers = thread::available_parallelism().map_or(1, usize::from);
        }
        let workers = settings.workers;
        let (listeners, sockets) = listeners(&settings, given)?;
        let addresses: Vec<_> = listeners.addresses;
        let listeners: Vec<Vec<Listener>> = listeners.of_workers;
        let rates = RateCounting::new(settings.rate_hash_key);
        let tables = Arc::new(NodeTables { rates, ..NodeTables::default() });
        let drain = Arc::new(watch::Sender::new(None));
        let retire = Arc::new(watch::Sender::new(false));
        let (stopped, running) = watch::channel(workers);
        let settings = Arc::new(settings);
        let handle = EdgeHandle {
            addresses: addresses.into(),
            tls_addresses_from: settings.listen.len(),
            check_addresses_from: settings.listen.len() + settings.tls_listen.len(),
            tcp_addresses_from: settings.listen.len()
                + settings.tls_listen.len()
                + settings.check_listen.len(),
            counters: (0..workers).map(|_| Arc::default()).collect(),
            tables: Arc::clone(&tables),
            settings: Arc::clone(&settings),
            drain: Arc::clone(&drain),
            retire: Arc::clone(&retire),
            sockets: Arc::new(Mutex::new(sockets)),
            running,
            stopped: Arc::new(stopped),
        };
        let EdgeShared { plan, view, places, material, lanes, clock } = shared;
        let shared =
            WorkerShared { settings, plan, view, places, material, lanes, clock, tables, drain, retire };
        Ok(Self { handle, listeners, shared })
    }

    /// The addresses listened on, ports as chosen, in the order of the settings, then those for TLS, for questions, for TCP.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.handle.addresses
    }

    /// A handle for the rest of the node.
    pub fn handle(&self) -> EdgeHandle {
        self.handle.clone()
    }

    /// Counts, one set per worker.
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        &self.handle.counters
    }

    /// Starts the workers. They serve until the handle drains them.
    pub fn run(self) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for (number, listeners) in self.listeners.into_iter().enumerate() {
            let (shared, stopped) = (self.shared.clone(), Arc::clone(&self.handle.stopped));
            let counters = self.handle.counters.get(number).map(Arc::clone).unwrap_or_default();
            let worker = move || {
                if let Err(error) = worker::run(shared, counters, listeners) {
                    tracing::error!(%error, worker = number, "worker stopped");
                }
                stopped.send_modify(|running| *running = running.saturating_sub(1));
            };
            threads.push(thread::Builder::new().name(format!("edge-{number}")).spawn(worker)?);
        }
        let shared = self.shared;
        let keeper = move || {
            if let Err(error) =
                keeper::run(&shared.plan, &shared.settings, (&shared.tables, &shared.clock), &shared.drain)
            {
                tracing::error!(%error, "nobody watches the upstreams");
            }
        };
        threads.push(thread::Builder::new().name("edge-upstreams".into()).spawn(keeper)?);
        Ok(threads)
    }
}

impl EdgeHandle {
    /// The addresses listened on: without TLS, for TLS, for questions of other proxies, for TCP.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses listened on without TLS.
    pub fn plain_addrs(&self) -> &[SocketAddr] {
        self.addresses.get(..self.tls_addresses_from).unwrap_or_default()
    }

    /// The addresses listened on for TLS.
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        self.addresses.get(self.tls_addresses_from..self.check_addresses_from).unwrap_or_default()
    }

    /// The addresses at which other proxies ask.
    pub fn check_addrs(&self) -> &[SocketAddr] {
        self.addresses.get(self.check_addresses_from..self.tcp_addresses_from).unwrap_or_default()
    }

    /// The addresses whose connections are carried as they are.
    pub fn tcp_addrs(&self) -> &[SocketAddr] {
        self.addresses.get(self.tcp_addresses_from..).unwrap_or_default()
    }

    /// Counts, one set per worker.
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        &self.counters
    }

    /// The limits in force.
    pub fn limits(&self) -> &EdgeLimits {
        &self.settings.limits
    }

    /// What makes hashes of names of accounts and sessions.
    pub fn names(&self) -> &NameKey {
        &self.settings.names
    }

    /// Where requests are kept for replay; `None`: nowhere.
    pub fn recording(&self) -> Option<Arc<crate::recording::Recording>> {
        self.settings.recording.clone()
    }

    /// The tables that workers share: for forgiving strikes, and for reports.
    pub fn tables(&self) -> &Arc<NodeTables> {
        &self.tables
    }

    /// Takes the node out of service or back: connections end with the request under way and idle ones at once, while those that
    /// still come are served, one request each.
    pub fn retire(&self, retires: bool) {
        self.retire.send_if_modified(|known| std::mem::replace(known, retires) != retires);
    }

    /// Whether connections are taken, and go on after a request: the node neither drains nor is it out of service.
    pub fn serves(&self) -> bool {
        self.drain.borrow().is_none() && !*self.retire.borrow()
    }

    /// Client connections that are open.
    pub fn open_connections(&self) -> u64 {
        let sum = |of: fn(&WorkerCounters) -> u64| self.counters.iter().map(|one| of(one)).sum::<u64>();
        let closed = sum(|one| one.connections_closed.load(std::sync::atomic::Ordering::Relaxed));
        sum(|one| one.connections_accepted.load(std::sync::atomic::Ordering::Relaxed)).saturating_sub(closed)
    }

    /// Every listening socket once more, for a process that takes over. None once the node drains.
    pub fn sockets(&self) -> io::Result<Vec<GivenListener>> {
        self.sockets.lock().iter().map(GivenListener::try_clone).collect()
    }

    /// Whether all workers run: one that failed is reason to start the node anew.
    pub fn all_workers_run(&self) -> bool {
        *self.running.borrow() == self.counters.len()
    }

    /// Stops accepting, lets requests in flight end, closes idle connections; after `timeout` it cuts what is left.
    /// Returns when all workers have stopped.
    pub async fn drain(&self, timeout: Duration) {
        self.drain_as(Drain::at_once(timeout)).await;
    }

    /// The same, for who is followed by another process on the same sockets. Connections are let go one after the other, so that not all of
    /// them are made anew in the same moment; and each may then still ask once, and is told that this was the last time: closing an idle one
    /// at once could cross a request that is on its way.
    pub async fn drain_gently(&self, timeout: Duration, gently: Gently) {
        self.drain_as(Drain::gently(timeout, gently)).await;
    }

    async fn drain_as(&self, drain: Drain) {
        self.sockets.lock().clear();
        self.drain.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(drain);
            }
            first
        });
        let mut running = self.running.clone();
        // The sender lives in this handle: waiting cannot fail.
        let _ = running.wait_for(|running| *running == 0).await;
    }
}
