//! The data plane: listen, TLS, HTTP/1, the stages of a request, upstreams, replies.
//!
//! Flow in names: `Edge` -> `Worker` (one thread, one runtime) -> `Client` (a connection) -> `Request` -> `pipeline`
//! (inspect, decide, act) -> `balance` (which
//! upstream) -> `ask` -> `Exchange` (with it) -> reply; `events` out.
//!
//! A worker shares nothing with another but immutable snapshots ([`EdgePlan`], `View`), the bounded [`NodeTables`] and
//! the event lanes; a request never leaves the thread that accepted it. Sketch of a plain GET: one read, one write to
//! the upstream, one read, one write back; the head is parsed in place and goes on byte for byte, so it is copied twice
//! and nothing else is allocated but the head's field list, the request and its event.
//!
//! INVARIANT: this crate cannot name what records, shares or manages. It serves on when all of that is gone.

pub mod edge;
pub mod settings;

pub mod rehearsal;

mod listen;
mod worker;

mod connection;
mod pipeline;
mod proxied;

pub mod accounts;
mod acme;
mod ask;
mod audit;
pub mod challenge;
pub mod client_address;
mod crawlers;
mod events;
mod exchange;
mod hosts;
mod outgoing;
mod passthrough;
mod prints;
mod rates;
pub mod recording;
pub mod replay;
pub mod selftest;
mod stages;
pub mod trial;
mod tunnel;
mod wide;

mod request;

pub mod route;

mod client;
pub mod client_certificate;
mod introduced;
mod origins;
mod upstream;

pub mod balance;

pub mod check;

mod compress;
mod finding;
mod forward;
mod grpc;
mod language;
mod mask;
mod page;
mod reply;
mod trace;

mod socket;
mod stop;
mod wire;

pub mod proxy_protocol;
pub mod tls;

mod control;
mod leaving;
mod pace;

pub mod compile;
pub mod overload;
pub mod places;
pub mod plan;
pub mod tables;

pub mod http1;
pub mod http2;

pub use balance::group::{EndpointReport, GroupReport, UpstreamGroup, UpstreamState};
pub use client_address::{AddressField, AddressSource};
pub use client_certificate::{AskedOfClients, CertificateRule};
pub use compile::Compiled;
pub use edge::{Edge, EdgeHandle, EdgeShared};
pub use leaving::Gently;
pub use listen::{GivenListener, Serves, bind};
pub use overload::{Level, Usage};
pub use places::Places;
pub use plan::{AppLimits, AppPlan, EdgePlan, NetworkSets, RaisedRules, UpstreamPlan, UpstreamTarget};
pub use recording::{Recording, Taker};
pub use replay::{Judged, Replay};
pub use route::explain::{MetReport, request_head};
pub use route::{Handling, RouteRule};
pub use settings::{CheckListen, EdgeLimits, EdgeSettings, Sample, TcpListen, TraceMode, TraceSettings};
pub use tables::NodeTables;
pub use tls::{Challenges, Identities, Material, OriginPlan, Served, TlsListener};
pub use trial::{Before, Fares, TrialCounts};
pub use upstream::is_never_upstream;
