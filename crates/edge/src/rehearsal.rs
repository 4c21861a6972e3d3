//! Requests that are only thought of: they go through the pipeline in process, as far as an upstream, and time stands where it is put.
//!
//! Flow in names: `EdgePlan` -> [`Rehearsal`] -> `pipeline::rehearse` for each [`Imagined`] -> [`Rehearsed`], made of the event that the
//! request leaves behind.
//!
//! INVARIANT: no socket is opened and no clock is read that a verdict depends on: the same requests at the same times end in the same
//! verdicts. Orders of a fleet are none of it: the view is empty, and a client that is struck is not banned.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::{
    AccessEvent, Clock, FramingFault, ManualClock, RequestHead, SecurityEvent, Signal, Swap, View,
};
use tokio::sync::watch;

use crate::check::Body;
use crate::client::{Arrived, Client};
use crate::http1::parse_head;
use crate::pipeline;
use crate::places::Places;
use crate::plan::EdgePlan;
use crate::request::Request;
use crate::settings::EdgeSettings;
use crate::tables::{NodeTables, RateCounting};
use crate::tls::Material;
use crate::tls::handshake::Agreed;
use crate::worker::{Worker, WorkerShared};

/// A node that is only thought of. What it remembers of clients goes from request to request.
pub struct Rehearsal {
    worker: Rc<Worker>,
    clock: Arc<ManualClock>,
    events: LaneReaders,
}

/// A request that is only thought of.
#[derive(Debug, Clone)]
pub struct Imagined {
    /// Its head, as it came; faults of its framing are judged like those of any other.
    pub head: RequestHead,
    /// Its body.
    pub body: Bytes,
    /// Who sent it.
    pub peer: IpAddr,
    /// It came over TLS. An app that asks its clients for certificates takes the connection as one that showed what it must.
    pub secure: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Rehearsed {
    /// As it would stand in the access log.
    pub access: Box<AccessEvent>,
    /// What rules found.
    pub signals: Vec<Signal>,
    /// Departures from strict HTTP.
    pub faults: Vec<FramingFault>,
    /// Where it might go on to; `None` where the node answers by itself.
    pub upstreams: Option<Vec<Arc<str>>>,
}

impl Rehearsal {
    /// A node with this plan that has just started, at a time in Unix milliseconds.
    pub fn new(plan: &Arc<Swap<EdgePlan>>, now_ms: u64) -> Self {
        let (lanes, events) = Lanes::new();
        let clock = Arc::new(ManualClock::at(now_ms));
        let tables = NodeTables { rates: RateCounting::standing(), ..NodeTables::default() };
        let shared = WorkerShared {
            settings: Arc::new(EdgeSettings::new(Vec::new(), 1, 0)),
            plan: Arc::clone(plan),
            view: Arc::new(Swap::new(View::default())),
            places: Arc::new(Swap::new(Places::default())),
            material: Arc::new(Swap::new(Material::default())),
            lanes,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            tables: Arc::new(tables),
            drain: Arc::new(watch::Sender::new(None)),
            retire: Arc::new(watch::Sender::new(false)),
        };
        Self { worker: Rc::new(Worker::new(shared, Arc::default())), clock, events }
    }

    /// Time passes.
    pub fn advance(&self, by_ms: u64) {
        self.clock.advance(by_ms);
        self.worker.shared.tables.rates.advance(by_ms.saturating_mul(1_000_000));
    }

    /// Takes a request through the pipeline. `None` if it left no event, which no request does.
    pub fn ask(&mut self, imagined: Imagined) -> Option<Rehearsed> {
        let peer = SocketAddr::new(imagined.peer.to_canonical(), PEER_PORT);
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), if imagined.secure { 443 } else { 80 });
        let mut client = Client::of_rehearsal(&self.worker, peer, local);
        if imagined.secure {
            let version = "TLSv1.3";
            client.tls = Some(Agreed { version, http2: false, ja4: None, group: None, certified: false });
            let plan = self.worker.plan();
            let asked = plan.asked_of_clients(imagined.head.header("host").unwrap_or_default());
            client.opened = asked.map(|asked| Rc::new(asked.rule.taken_as_opened()));
        }
        let arrived = Arrived { head: imagined.head, started: Instant::now(), head_us: 0 };
        let mut request = Box::new(Request::begin(&client, arrived));
        let body = Body::seen(imagined.body, true);
        // Nothing is waited for: what is written stays in memory.
        let goes_on = pipeline::rehearse(&mut client, &mut request, &body).now_or_never()?;
        let servers =
            || request.app().upstreams.servers().iter().map(|server| Arc::clone(&server.key)).collect();
        let upstreams = goes_on.then(servers);
        let (access, signals, faults) = self.event()?;
        Some(Rehearsed { access, signals, faults, upstreams })
    }

    /// The event of the request that is over; strikes and proposals that came with it are left out.
    fn event(&mut self) -> Option<(Box<AccessEvent>, Vec<Signal>, Vec<FramingFault>)> {
        let mut found = self.events.access.try_recv().ok().map(|access| (access, Vec::new(), Vec::new()));
        while let Ok(event) = self.events.security.try_recv() {
            if let SecurityEvent::Request { access, signals, faults } = event {
                found = Some((access, signals, faults));
            }
        }
        found
    }
}

/// The head of a request with these fields, which say how long its body is; its framing may be faulty. `None` if it cannot be read at all.
pub fn imagined_head(
    (method, target): (&str, &str),
    host: &str,
    fields: &[String],
    body_bytes: usize,
) -> Option<RequestHead> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = if body_bytes > 0 { format!("Content-Length: {body_bytes}\r\n") } else { String::new() };
    let raw = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n");
    parse_head(raw.as_bytes()).ok()
}

/// A port such as clients have.
const PEER_PORT: u16 = 50_000;
