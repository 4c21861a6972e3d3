//! How an app's requests are spread over its upstreams, and what is done when some of them fail.

use phalanx_model::limits;
use serde::Serialize;

use crate::origin_tls::{OriginTls, Protocol, ProxyProtocol};
use crate::upstream::{Scheme, Upstream};

/// Everything about an app's upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstreams {
    /// The servers, in the order written; at least one.
    pub servers: Vec<Server>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// How it is found out which of them work.
    pub health: Health,
    /// When a request is sent once more.
    pub retries: Retries,
    /// Where requests wait when all servers are busy.
    pub queue: Queue,
    /// The cookie that keeps a client with its server, set by ourselves; `None` sets none.
    pub sticky: Option<String>,
}

/// One server of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Where it is.
    pub upstream: Upstream,
    /// Its share of the requests, in relation to the others' weights; 1 to 1000.
    pub weight: u16,
    /// It gets requests only when no other server works.
    pub backup: bool,
    /// Requests in flight that it gets from this node at most; `None` without a limit.
    pub requests_max: Option<u32>,
    /// The version of HTTP that it is spoken to in.
    pub protocol: Protocol,
    /// How TLS with it goes; `None` without TLS.
    pub tls: Option<OriginTls>,
    /// How it is told whose connection it is, before all else; `None`: not at all.
    pub proxy: Option<ProxyProtocol>,
}

/// How a server is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Of two servers, drawn by weight, the one with fewer requests in flight.
    #[default]
    LeastRequests,
    /// One after the other.
    RoundRobin,
    /// The same client address, the same server.
    HashClient,
    /// The same value of this cookie, the same server; without the cookie as [`Balance::LeastRequests`].
    HashCookie(String),
}

impl Balance {
    /// Reads `least_requests`, `round_robin`, `hash_client` or `hash_cookie:NAME`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "least_requests" => Ok(Self::LeastRequests),
            "round_robin" => Ok(Self::RoundRobin),
            "hash_client" => Ok(Self::HashClient),
            _ => match text.strip_prefix("hash_cookie:") {
                Some(name) if crate::rate_limit::is_token(name) => Ok(Self::HashCookie(name.to_owned())),
                Some(name) => Err(format!("`{name}` is no name of a cookie")),
                None => Err(format!("there is no balance `{text}`")),
            },
        }
    }
}

/// How it is found out which servers work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Failures in a row that eject a server; 0 never does.
    pub failures: u32,
    /// How long the first ejection lasts, in milliseconds; each further one lasts longer by as much.
    pub eject_ms: u64,
    /// The longest ejection, in milliseconds.
    pub eject_max_ms: u64,
    /// The part of the servers that may be ejected at once, in per cent.
    pub ejected_max_percent: u8,
    /// The part of a server's requests that must fail within ten seconds to eject it, in per cent; `None` ejects nobody for it.
    pub error_rate_percent: Option<u8>,
    /// How long a server that is back gets less than its share, in milliseconds; 0 gives it all at once.
    pub slow_start_ms: u64,
    /// Asked of each server from time to time; `None` asks nothing.
    pub check: Option<Check>,
    /// What becomes of requests when no server works.
    pub when_all_down: WhenAllDown,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures: 5,
            eject_ms: 10_000,
            eject_max_ms: 300_000,
            ejected_max_percent: 50,
            error_rate_percent: None,
            slow_start_ms: 10_000,
            check: None,
            when_all_down: WhenAllDown::Try,
        }
    }
}

/// A question that a working server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The path, with a query if it needs one.
    pub path: String,
    /// What `Host` says; `None` for the server's own.
    pub host: Option<String>,
    /// How often, in milliseconds.
    pub interval_ms: u64,
    /// How long the answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// The least and the greatest status of a server that works.
    pub status: (u16, u16),
    /// Failed checks in a row after which a server counts as down.
    pub down_after: u32,
    /// Passed checks in a row after which it counts as up again.
    pub up_after: u32,
}

/// What becomes of requests when no server works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllDown {
    /// They are tried on all servers: what says that nothing works may be wrong.
    #[default]
    Try,
    /// They are answered with 503.
    Refuse,
}

/// When a request is sent once more, to another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// How often one request may be sent again; 0 never.
    pub attempts: u8,
    /// The part of an app's requests that retries may add, in per cent.
    pub budget_percent: u8,
    /// Retries per second that are always there.
    pub budget_least_per_s: u32,
    /// An answer that does not come in time is a reason.
    pub on_timeout: bool,
    /// Statuses that are a reason; of 500 to 599.
    pub on_statuses: Vec<u16>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget_percent: 20,
            budget_least_per_s: 3,
            on_timeout: false,
            on_statuses: Vec::new(),
        }
    }
}

/// Where requests wait when all servers have as many as they may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Requests that wait; more are answered with 503.
    pub requests_max: usize,
    /// How long one waits, in milliseconds.
    pub wait_max_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            requests_max: limits::UPSTREAM_QUEUE_REQUESTS,
            wait_max_ms: limits::UPSTREAM_QUEUE_WAIT_MAX_MS,
        }
    }
}

impl Server {
    /// A server without a limit, of the usual weight.
    pub fn at(upstream: Upstream) -> Self {
        let tls = (upstream.scheme == Scheme::Https).then(OriginTls::default);
        Self {
            upstream,
            weight: 1,
            backup: false,
            requests_max: None,
            protocol: Protocol::default(),
            tls,
            proxy: None,
        }
    }
}

impl Upstreams {
    /// One server, with all else as it is by default.
    pub fn one(upstream: Upstream) -> Self {
        Self {
            servers: vec![Server::at(upstream)],
            balance: Balance::default(),
            health: Health::default(),
            retries: Retries::default(),
            queue: Queue::default(),
            sticky: None,
        }
    }
}

impl std::fmt::Display for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, server) in self.servers.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}", server.upstream)?;
        }
        Ok(())
    }
}
