//! Connections that are passed on unopened, and of which no request is ever seen: TLS, to the app whose host the client asks for (SNI,
//! RFC 6066 section 3), and whatever comes to a listener for TCP, to the app that it names.
//!
//! Such a connection is one request of its app, and goes the way of one: written down as a `CONNECT`, judged by standing decisions and
//! rate limits, carried to one of the app's upstreams, and told in one event when it ends.
//!
//! Failure direction: a connection that is refused, or for which no upstream is there, is closed. There is nobody to tell why: the
//! client waits for a greeting that only its server could write. A listener whose app is not in the policy serves nobody.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use phalanx_model::counters::WorkerCounters;

use crate::ask;
use crate::client::{Arrived, Client};
use crate::control::Activity;
use crate::events;
use crate::http1::parse_head;
use crate::pipeline;
use crate::rates;
use crate::request::Request;
use crate::stop::Stop;
use crate::tunnel;

/// A connection that is not ours to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The app, in the plan of the moment.
    pub(crate) app: usize,
    /// The host that the client asked for, or the address that it came to.
    pub(crate) host: Vec<u8>,
}

/// Takes a connection of a listener for TCP to its end.
pub(crate) async fn serve_listener(client: &mut Client, listener: usize) {
    let worker = Rc::clone(&client.worker);
    let Some(listener) = worker.shared.settings.tcp_listen.get(listener) else { return };
    let Some(app) = worker.plan().find_carried(&listener.app) else {
        WorkerCounters::add_one(&worker.counters.connections_refused);
        return tracing::warn!(
            app = listener.app,
            "connection closed: the policy has no such app with `tcp`"
        );
    };
    let host = match client.local.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    serve(client, &Passed { app, host: host.into_bytes() }).await;
}

/// Takes such a connection to its end. What the client has sent so far is still in its input.
pub(crate) async fn serve(client: &mut Client, passed: &Passed) {
    let Some(mut request) = written_down(client, passed) else { return };
    client.control.activity.set(Activity::Busy);
    client.control.client.set(Some(request.client));
    client.control.spared.set(false);
    if let Err(Stop::Answered(reply)) = carry(client, &mut request).await {
        request.verdict.status = reply.status;
    }
    if request.status == 0 {
        request.status = request.verdict.status;
    }
    events::record(client, &mut request);
}

/// The connection as a request.
fn written_down(client: &Client, passed: &Passed) -> Option<Box<Request>> {
    let port = client.local.port().to_string();
    let authority = [&passed.host, b":".as_slice(), port.as_bytes()].concat();
    let text = [b"CONNECT ", authority.as_slice(), b" HTTP/1.1\r\nHost: ", authority.as_slice(), b"\r\n\r\n"]
        .concat();
    let mut head = parse_head(&text).ok()?;
    // To be asked to connect to elsewhere is a fault; this is what we do.
    head.faults.clear();
    let mut request = Box::new(Request::begin(client, Arrived { head, head_us: 0, started: Instant::now() }));
    request.app = Some(passed.app);
    request.passed = Some(if client.tcp.is_some() { "TCP" } else { "TLS" });
    request.keep_alive = false;
    Some(request)
}

async fn carry(client: &mut Client, request: &mut Request) -> Result<(), Stop> {
    pipeline::check_standing(client, request)?;
    rates::check(client, request)?;
    let (_slot, mut upstream) = ask::reach(client, request).await?;
    request.upstream_us = request.elapsed_us();
    request.status = CONNECTED;
    request.replied = true;
    let (carried, result) = tunnel::carry(client, &mut upstream).await;
    request.request_bytes += carried.up;
    request.response_bytes += carried.down;
    result
}

/// What a `CONNECT` that leads somewhere is answered with.
const CONNECTED: u16 = 200;
