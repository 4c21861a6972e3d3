//! An app's upstreams as a plan holds them, and the state of each that outlives plans.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::Mutex;
use phalanx_model::Swap;
use phalanx_model::limits::UPSTREAM_ADDRESSES_MAX;
use phalanx_policy::balance::{Balance, Health, Queue, Retries};
use tokio::sync::Notify;

use super::retry::Budget;
use crate::plan::{UpstreamPlan, UpstreamTarget};

/// The upstreams of one app.
#[derive(Debug, Clone)]
pub struct UpstreamGroup {
    /// How one of them is chosen.
    pub balance: Balance,
    /// How it is found out which work.
    pub health: Health,
    /// When a request is sent again.
    pub retries: Retries,
    /// Where requests wait.
    pub queue: Queue,
    /// The cookie that keeps a client with its upstream; none sets none.
    pub sticky: Option<Arc<str>>,
    servers: Arc<[Arc<UpstreamPlan>]>,
    endpoints: Endpoints,
    shared: Arc<GroupState>,
}

/// The addresses behind the servers.
#[derive(Debug, Clone)]
enum Endpoints {
    /// One, that never changes: the plain case, which costs nothing.
    Only(Arc<Endpoint>),
    /// Several, or such as a resolver names.
    Several(Arc<Swap<Vec<Arc<Endpoint>>>>),
}

/// One address that requests can go to.
#[derive(Debug)]
pub struct Endpoint {
    /// `host:port` or `unix:/path`: its name in reports, and what its state is known by.
    pub(crate) key: Arc<str>,
    /// The key of its idle connections: apart for each setting of TLS, and of what is said before it.
    pub(crate) pool_key: Arc<str>,
    pub(crate) address: Address,
    /// An address of the same server that is of the other family, tried where this one does not answer.
    pub(crate) other: Option<SocketAddr>,
    pub(crate) server: Arc<UpstreamPlan>,
    /// Tells endpoints apart for hashing; the same on every node.
    pub(crate) seed: u64,
    pub(crate) state: Arc<EndpointState>,
    pub(crate) group: Arc<GroupState>,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

/// What is known of an endpoint. All of it is approximate but `in_flight`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct EndpointState {
    pub(crate) in_flight: AtomicU32,
    /// Why it gets no requests; 0 while it does.
    pub(crate) down: AtomicU8,
    /// Failures since the last success.
    pub(crate) failures_in_row: AtomicU32,
    /// Requests sent to it since the start.
    pub(crate) requests: AtomicU64,
    /// Of these, those that it did not answer, or with 502, 503 or 504.
    pub(crate) failures: AtomicU64,
    /// Of these, those with any status from 500 on, failures included.
    pub(crate) errors: AtomicU64,
    /// Ejections that still count towards the length of the next.
    pub(crate) ejections: AtomicU32,
    /// When the ejection ends, in the group's time.
    pub(crate) ejected_until_ms: AtomicU64,
    /// When it came back; 0 when that was long ago.
    pub(crate) back_at_ms: AtomicU64,
    /// The keeper's own.
    pub(crate) watched: Mutex<super::keeper::Watched>,
}

/// What the workers share about a group.
#[derive(Debug)]
pub(crate) struct GroupState {
    started: Instant,
    pub(crate) turn: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    /// Wakes one who waits for a place.
    pub(crate) freed: Notify,
    /// Held while an ejection is decided on, so that no two together pass the limit.
    pub(crate) ejecting: Mutex<()>,
    pub(crate) budget: Mutex<Budget>,
    pub(crate) retries: AtomicU64,
    pub(crate) retries_refused: AtomicU64,
    pub(crate) queue_refused: AtomicU64,
    pub(crate) names: Mutex<HashMap<Arc<str>, super::names::Known>>,
}

/// Bits of [`EndpointState::down`].
pub(crate) const EJECTED: u8 = 1;
/// It fails its checks.
pub(crate) const FAILS_CHECKS: u8 = 2;

impl UpstreamGroup {
    /// Servers with the default rules.
    pub fn new(servers: Vec<UpstreamPlan>) -> Self {
        let servers: Arc<[_]> = servers.into_iter().map(Arc::new).collect();
        let shared = Arc::<GroupState>::default();
        let literal = |server: &Arc<UpstreamPlan>| Endpoint::literal(server, &shared);
        let endpoints = match &*servers {
            [server] if let Some(only) = literal(server) => Endpoints::Only(only),
            _ => Endpoints::Several(Arc::new(Swap::new(servers.iter().filter_map(literal).collect()))),
        };
        Self {
            balance: Balance::default(),
            health: Health::default(),
            retries: Retries::default(),
            queue: Queue::default(),
            sticky: None,
            servers,
            endpoints,
            shared,
        }
    }

    /// Takes over what is known of upstreams from the plan before: requests in flight, health, addresses of names.
    pub(crate) fn keep(&mut self, before: &Self) {
        let known: HashMap<Arc<str>, Arc<EndpointState>> = before
            .endpoints()
            .iter()
            .map(|endpoint| (Arc::clone(&endpoint.key), Arc::clone(&endpoint.state)))
            .collect();
        self.shared = Arc::clone(&before.shared);
        let kept = |server: &Arc<UpstreamPlan>, address: Address, other: Option<SocketAddr>| {
            let key = address.key();
            let state = known.get(&key).map(Arc::clone).unwrap_or_default();
            if self.health.check.is_none() {
                state.down.fetch_and(!FAILS_CHECKS, Ordering::Relaxed);
            }
            Endpoint::new(server, key, (address, other), state, &self.shared)
        };
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for server in self.servers.iter() {
            match &server.target {
                UpstreamTarget::Address(address) => {
                    endpoints.push(kept(server, Address::Tcp(*address), None))
                }
                UpstreamTarget::Socket(path) => {
                    endpoints.push(kept(server, Address::Unix(Arc::clone(path)), None))
                }
                UpstreamTarget::Name(..) => {
                    let names = self.shared.names.lock();
                    let Some(known) = names.get(&server.key) else { continue };
                    for (place, ip) in known.addresses.iter().enumerate() {
                        let other = known.others.get(place % known.others.len().max(1));
                        let other = other.map(|ip| server.at(*ip));
                        endpoints.push(kept(server, Address::Tcp(server.at(*ip)), other));
                    }
                }
            }
        }
        self.shared.names.lock().retain(|name, _| self.servers.iter().any(|server| server.key == *name));
        if let [only] = endpoints.as_slice() {
            // Nobody is ejected where there is no other.
            only.state.down.fetch_and(!EJECTED, Ordering::Relaxed);
        }
        self.endpoints = match (&self.endpoints, endpoints.pop()) {
            (Endpoints::Only(_), Some(only)) => Endpoints::Only(only),
            (_, last) => {
                endpoints.extend(last);
                Endpoints::Several(Arc::new(Swap::new(endpoints)))
            }
        };
    }

    /// Says where a named server is: the addresses in use, and for each one of the other family, to be tried where it does not answer.
    pub(crate) fn set_addresses(&self, server: &Arc<UpstreamPlan>, addresses: &[IpAddr], others: &[IpAddr]) {
        let Endpoints::Several(current) = &self.endpoints else { return };
        let before = current.load_full();
        let of_others = before.iter().filter(|endpoint| !Arc::ptr_eq(&endpoint.server, server));
        let mut endpoints: Vec<Arc<Endpoint>> = of_others.map(Arc::clone).collect();
        for (place, ip) in addresses.iter().enumerate().take(UPSTREAM_ADDRESSES_MAX) {
            let address = Address::Tcp(server.at(*ip));
            let other = others.get(place % others.len().max(1)).map(|ip| server.at(*ip));
            let key = address.key();
            let known =
                |endpoint: &&Arc<Endpoint>| endpoint.key == key && Arc::ptr_eq(&endpoint.server, server);
            let endpoint = match before.iter().find(known) {
                Some(endpoint) if endpoint.other == other => Arc::clone(endpoint),
                known => {
                    let state = known.map(|endpoint| Arc::clone(&endpoint.state)).unwrap_or_default();
                    Endpoint::new(server, key, (address, other), state, &self.shared)
                }
            };
            endpoints.push(endpoint);
        }
        current.store(Arc::new(endpoints));
        self.shared.freed.notify_waiters();
    }

    /// The addresses in use of a named server.
    pub(crate) fn addresses_of(&self, server: &Arc<UpstreamPlan>) -> Vec<IpAddr> {
        let of_server = |endpoint: &&Arc<Endpoint>| Arc::ptr_eq(&endpoint.server, server);
        let ip = |endpoint: &Arc<Endpoint>| match &endpoint.address {
            Address::Tcp(address) => Some(address.ip()),
            Address::Unix(_) => None,
        };
        self.with_endpoints(|endpoints| endpoints.iter().filter(of_server).filter_map(ip).collect())
    }

    /// The servers, as policy names them.
    pub fn servers(&self) -> &[Arc<UpstreamPlan>] {
        &self.servers
    }

    /// The one endpoint, where there is one and will be.
    pub(crate) fn only(&self) -> Option<&Arc<Endpoint>> {
        match &self.endpoints {
            Endpoints::Only(endpoint) => Some(endpoint),
            Endpoints::Several(_) => None,
        }
    }

    /// Calls `with` with the endpoints that there are now.
    pub(crate) fn with_endpoints<T>(&self, with: impl FnOnce(&[Arc<Endpoint>]) -> T) -> T {
        match &self.endpoints {
            Endpoints::Only(only) => with(std::slice::from_ref(only)),
            Endpoints::Several(endpoints) => with(&endpoints.load()),
        }
    }

    /// The endpoints that there are now.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.with_endpoints(<[Arc<Endpoint>]>::to_vec)
    }

    pub(crate) fn shared(&self) -> &Arc<GroupState> {
        &self.shared
    }

    /// Whether the last question about one of its names failed.
    pub fn is_failing_to_resolve(&self) -> bool {
        self.shared.names.lock().values().any(super::names::Known::is_failing)
    }

    /// How the group does.
    pub fn report(&self) -> GroupReport {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut endpoints: Vec<EndpointReport> = self.endpoints().iter().map(|e| e.report()).collect();
        for server in self.servers.iter() {
            let known = |endpoint: &EndpointReport| endpoint.server == server.key;
            if !endpoints.iter().any(known) {
                endpoints
                    .push(EndpointReport { state: UpstreamState::Unresolved, ..EndpointReport::of(server) });
            }
        }
        GroupReport {
            endpoints,
            waiting: self.shared.waiting.load(Ordering::Relaxed),
            retries: read(&self.shared.retries),
            retries_refused: read(&self.shared.retries_refused),
            queue_refused: read(&self.shared.queue_refused),
        }
    }
}

/// How an app's upstreams do.
#[derive(Debug, Clone, Default)]
pub struct GroupReport {
    /// Each address, and names of which none is known.
    pub endpoints: Vec<EndpointReport>,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that were not, because the budget was used up.
    pub retries_refused: u64,
    /// Requests for which there was no room in the queue, or none in time.
    pub queue_refused: u64,
}

/// How one upstream does.
#[derive(Debug, Clone)]
pub struct EndpointReport {
    /// The server as policy names it: `host:port` or `unix:/path`.
    pub server: Arc<str>,
    /// The address in use.
    pub address: Arc<str>,
    /// Whether it gets requests.
    pub state: UpstreamState,
    /// Requests that it is answering.
    pub in_flight: u32,
    /// Requests since the start.
    pub requests: u64,
    /// Of these, those that failed.
    pub failures: u64,
    /// Its weight.
    pub weight: u16,
    /// It is a backup.
    pub backup: bool,
}

/// Whether an upstream gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// It does.
    Up,
    /// It failed too often.
    Ejected,
    /// It fails its checks.
    FailsChecks,
    /// No address of it is known.
    Unresolved,
}

impl UpstreamState {
    /// The state in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ejected => "ejected",
            Self::FailsChecks => "fails_checks",
            Self::Unresolved => "unresolved",
        }
    }
}

impl EndpointReport {
    fn of(server: &UpstreamPlan) -> Self {
        Self {
            server: Arc::clone(&server.key),
            address: Arc::clone(&server.key),
            state: UpstreamState::Up,
            in_flight: 0,
            requests: 0,
            failures: 0,
            weight: server.weight,
            backup: server.backup,
        }
    }
}

impl Endpoint {
    fn new(
        server: &Arc<UpstreamPlan>,
        key: Arc<str>,
        (address, other): (Address, Option<SocketAddr>),
        state: Arc<EndpointState>,
        group: &Arc<GroupState>,
    ) -> Arc<Self> {
        let seed = super::pick::hash(key.as_bytes());
        let pool_key = match (&server.tls, server.proxy) {
            (None, None) => Arc::clone(&key),
            (Some(tls), None) => format!("{key} tls {}", tls.id).into(),
            (tls, Some(version)) => {
                format!("{key} tls {:?} {version:?}", tls.as_ref().map(|tls| tls.id)).into()
            }
        };
        Arc::new(Self {
            key,
            pool_key,
            address,
            other,
            server: Arc::clone(server),
            seed,
            state,
            group: Arc::clone(group),
        })
    }

    fn literal(server: &Arc<UpstreamPlan>, group: &Arc<GroupState>) -> Option<Arc<Self>> {
        let address = match &server.target {
            UpstreamTarget::Address(address) => Address::Tcp(*address),
            UpstreamTarget::Socket(path) => Address::Unix(Arc::clone(path)),
            UpstreamTarget::Name(..) => return None,
        };
        Some(Self::new(server, address.key(), (address, None), Arc::default(), group))
    }

    /// Whether it gets requests.
    pub(crate) fn is_up(&self) -> bool {
        self.state.down.load(Ordering::Relaxed) == 0
    }

    /// Whether it may get one more request.
    pub(crate) fn has_room(&self) -> bool {
        self.state.in_flight.load(Ordering::Relaxed) < self.server.requests_max
    }

    fn report(&self) -> EndpointReport {
        let down = self.state.down.load(Ordering::Relaxed);
        EndpointReport {
            address: Arc::clone(&self.key),
            state: match down {
                0 => UpstreamState::Up,
                down if down & FAILS_CHECKS != 0 => UpstreamState::FailsChecks,
                _ => UpstreamState::Ejected,
            },
            in_flight: self.state.in_flight.load(Ordering::Relaxed),
            requests: self.state.requests.load(Ordering::Relaxed),
            failures: self.state.failures.load(Ordering::Relaxed),
            ..EndpointReport::of(&self.server)
        }
    }
}

impl Address {
    fn key(&self) -> Arc<str> {
        match self {
            Self::Tcp(address) => address.to_string().into(),
            Self::Unix(path) => format!("unix:{}", path.display()).into(),
        }
    }
}

impl GroupState {
    /// The group's time, which only goes forward; never 0.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Default for GroupState {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            ejecting: Mutex::new(()),
            budget: Mutex::default(),
            retries: AtomicU64::new(0),
            retries_refused: AtomicU64::new(0),
            queue_refused: AtomicU64::new(0),
            names: Mutex::default(),
        }
    }
}
