//! What the edge is told about its node: addresses, workers, limits.

use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;

use phalanx_decide::rate::Pace;
use phalanx_model::{CheckKind, NameKey, PrefixSet, TraceId, limits};
use phalanx_trust::PassKeys;

use crate::http1::HeadLimits;
use crate::tls::Identities;

/// Settings of a node's data plane; checked by whoever reads them.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Where to listen. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where to listen for TLS; `Material` has an answer for each, in this order.
    pub tls_listen: Vec<SocketAddr>,
    /// Where other proxies ask about requests that they carry themselves.
    pub check_listen: Vec<CheckListen>,
    /// Where connections are carried for apps as they are.
    pub tcp_listen: Vec<TcpListen>,
    /// Whose connections each listener takes, each with a PROXY header before all else; in the order of `listen` and then
    /// `tls_listen`. `None`, or nothing there: everybody's, without one.
    pub proxied: Vec<Option<PrefixSet>>,
    /// Worker threads; 0 takes one per core.
    pub workers: usize,
    /// The node's tag in request ids.
    pub node_tag: u16,
    /// Limits that hold before an app is known.
    pub limits: EdgeLimits,
    /// What keys of rate limits are hashed with; the same on all nodes of a fleet, and unknown to clients.
    pub rate_hash_key: [u8; 16],
    /// Clients may speak HTTP/2 without TLS, if they begin with it: those behind a load balancer of the site's own.
    pub h2c: bool,
    /// The node has an audit log: requests that are for it carry their header fields.
    pub audit: bool,
    /// Where requests are kept for replay; `None`: nowhere.
    pub recording: Option<std::sync::Arc<crate::recording::Recording>>,
    /// Addresses that no request may go to, whatever policy or a name says: the node's own management.
    pub never_upstream: Vec<SocketAddr>,
    /// What is done with trace contexts.
    pub trace: TraceSettings,
    /// Whom to ask where named upstreams are; the system's if empty.
    pub nameservers: Vec<SocketAddr>,
    /// The node's certificates for upstreams that ask for one.
    pub identities: Identities,
    /// What cookies that keep clients with their upstreams are made with; the same on all nodes of a fleet, and unknown to clients.
    pub sticky_key: [u8; 16],
    /// What challenges and passes are signed with.
    pub pass_keys: PassKeys,
    /// What names of accounts and sessions are hashed with; the same on all nodes of a fleet, and unknown to all others.
    pub names: NameKey,
    /// What the node calls itself in `Via`: distinct from all others, and nothing about where it is.
    pub pseudonym: String,
}

/// A listener at which other proxies ask.
#[derive(Debug, Clone)]
pub struct CheckListen {
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// How they ask.
    pub kind: CheckKind,
    /// Who may ask; nobody else gets an answer. What these say of their clients is believed.
    pub from: PrefixSet,
    /// With TLS, its place among those that `Material` has an answer for.
    pub tls: Option<usize>,
    /// Of forward-auth: the status of every refusal, for proxies that take no other.
    pub refuse_with: Option<u16>,
}

/// A listener whose connections are carried to one app's upstreams, whatever is spoken on them.
#[derive(Debug, Clone)]
pub struct TcpListen {
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// The app, by its name; connections are closed while policy has none of that name that carries TCP.
    pub app: String,
    /// Whose connections it takes, each with a PROXY header; `None`: everybody's, without one.
    pub proxied: Option<PrefixSet>,
    /// Longest silence of both sides; `None` for that of all tunnels.
    pub idle_ms: Option<u64>,
}

impl EdgeSettings {
    /// Settings with default limits, of a node that counts rates for itself alone.
    pub fn new(listen: Vec<SocketAddr>, workers: usize, node_tag: u16) -> Self {
        let limits = EdgeLimits::default();
        Self {
            listen,
            tls_listen: Vec::new(),
            check_listen: Vec::new(),
            tcp_listen: Vec::new(),
            proxied: Vec::new(),
            workers,
            node_tag,
            limits,
            rate_hash_key: random_key(),
            h2c: false,
            audit: false,
            recording: None,
            never_upstream: Vec::new(),
            trace: TraceSettings::default(),
            nameservers: Vec::new(),
            identities: Identities::default(),
            sticky_key: random_key(),
            pass_keys: PassKeys::random(),
            names: NameKey::new(random_key()),
            pseudonym: format!("phalanx-{:016x}", std::hash::RandomState::new().build_hasher().finish()),
        }
    }
}

/// What is done with W3C trace contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// Whether this hop takes part.
    pub mode: TraceMode,
    /// Which of the traces that begin here are to be recorded.
    pub sample: Sample,
}

/// Whether this hop takes part in traces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceMode {
    /// Contexts are not looked at and go on as they are.
    Off,
    /// Valid ones are noted and go on as they are, others end here. None begins.
    #[default]
    Pass,
    /// This hop is a part of each trace, and one begins where none came.
    Continue,
    /// The same, but only forwarders that are trusted are believed.
    Restart,
}

/// A share of all traces, by their ids, so that every hop that knows the share chooses the same ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// The highest lower half of an id that is taken; none is.
    up_to: Option<u64>,
}

impl Sample {
    /// No trace.
    pub const NONE: Self = Self { up_to: None };
    /// Every trace.
    pub const ALL: Self = Self { up_to: Some(u64::MAX) };

    /// So many of a million; `None` for more than all.
    pub fn of_million(count: u32) -> Option<Self> {
        match count {
            0 => Some(Self::NONE),
            1..=999_999 => Some(Self { up_to: Some(u64::MAX / 1_000_000 * u64::from(count)) }),
            1_000_000 => Some(Self::ALL),
            _ => None,
        }
    }

    /// Whether a trace is among them.
    pub fn takes(self, id: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = id.to_bits().to_be_bytes();
        self.up_to.is_some_and(|up_to| u64::from_be_bytes([a, b, c, d, e, f, g, h]) <= up_to)
    }
}

fn random_key() -> [u8; 16] {
    // The standard library seeds this from the operating system.
    let random = || std::hash::RandomState::new().build_hasher().finish().to_le_bytes();
    let mut key = [0; 16];
    for (place, byte) in key.iter_mut().zip(random().into_iter().chain(random())) {
        *place = byte;
    }
    key
}

/// Limits of connections and heads. Reasons for the defaults stand in [`phalanx_model::limits`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it; model::limits documents them")]
pub struct EdgeLimits {
    pub connections: usize,
    pub connections_per_actor: usize,
    pub handshakes: usize,
    pub handshakes_per_actor: usize,
    /// How often an actor may begin one.
    pub handshake_pace: Pace,
    pub handshake_ms: u64,
    pub held_bytes: usize,
    pub held_bytes_per_actor: usize,
    pub head: HeadLimits,
    pub head_ms: u64,
    pub idle_ms: u64,
    pub body_gap_ms: u64,
    pub body_rate: u64,
    pub write_gap_ms: u64,
    pub write_rate: u64,
    pub requests_per_connection: u64,
    pub h2_streams: u32,
    pub h2_given_up: u64,
    pub h2_control_frames: u32,
    /// Memory of the process beyond which load is shed; 0 for no such limit.
    pub memory_bytes: u64,
    /// Files that the process may open; 0 for no such limit.
    pub files: usize,
    pub upstream_idle: usize,
    pub upstream_idle_ms: u64,
    pub tunnel_idle_ms: u64,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            connections_per_actor: limits::CONNECTIONS_PER_ACTOR_MAX,
            handshakes: limits::TLS_HANDSHAKES_MAX,
            handshakes_per_actor: limits::TLS_HANDSHAKES_PER_ACTOR_MAX,
            handshake_pace: Pace::new(limits::TLS_HANDSHAKES_PER_SECOND, 1_000, limits::TLS_HANDSHAKES_BURST),
            handshake_ms: limits::TLS_HANDSHAKE_TIME_MAX_MS,
            held_bytes: limits::HELD_BYTES_MAX,
            held_bytes_per_actor: limits::HELD_BYTES_PER_ACTOR_MAX,
            head: HeadLimits::default(),
            head_ms: limits::HEAD_TIME_MAX_MS,
            idle_ms: limits::IDLE_TIME_MAX_MS,
            body_gap_ms: limits::BODY_READ_GAP_MAX_MS,
            body_rate: limits::BODY_RATE_LEAST,
            write_gap_ms: limits::WRITE_GAP_MAX_MS,
            write_rate: limits::WRITE_RATE_LEAST,
            requests_per_connection: limits::REQUESTS_PER_CONNECTION_MAX,
            h2_streams: limits::H2_STREAMS_MAX,
            h2_given_up: limits::H2_GIVEN_UP_MAX,
            h2_control_frames: limits::H2_CONTROL_FRAMES_MAX,
            memory_bytes: 0,
            files: 0,
            upstream_idle: limits::UPSTREAM_IDLE_MAX,
            upstream_idle_ms: limits::UPSTREAM_IDLE_TIME_MAX_MS,
            tunnel_idle_ms: limits::TUNNEL_IDLE_MAX_MS,
        }
    }
}

impl EdgeLimits {
    /// These limits in a process that may open `files` files: a client takes one, and with an upstream two, so that no more than
    /// three quarters of what is not reserved are for clients.
    #[must_use]
    pub fn within_files(mut self, files: usize) -> Self {
        self.files = files;
        let for_clients = files.saturating_sub(limits::FILES_RESERVED.min(files / 4)) / 4 * 3;
        self.connections = self.connections.min(for_clients.max(1));
        self
    }
}
