//! A connection that a load balancer passes on: the header of the PROXY protocol comes before TLS and HTTP, and says who the
//! client is. Limits and bans of connections are that client's from then on.
//!
//! Failure direction: without a whole header in time the connection is closed; nothing is ever guessed from how it begins.

use std::net::IpAddr;
use std::rc::Rc;

use phalanx_model::counters::ProxyFailure;
use phalanx_model::limits::PROXY_HEADER_TIME_MAX_MS;

use crate::client::Client;
use crate::control::{Activity, Cut};
use crate::proxy_protocol::{self, Addresses, NotProxy};
use crate::stop::Stop;

/// By whom a connection was passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxied {
    /// The balancer.
    pub(crate) by: IpAddr,
    /// It speaks for itself, or does not say for whom: what comes of that counts against nobody.
    pub(crate) for_nobody: bool,
}

/// Takes a connection through its header; false if it ends here.
pub(crate) async fn accept(client: &mut Client) -> bool {
    client.control.activity.set(Activity::Busy);
    client.control.set_deadline(client.worker.after_ms(PROXY_HEADER_TIME_MAX_MS));
    let introduced = read(client).await.and_then(|addresses| introduce(client, addresses));
    client.control.activity.set(Activity::Idle);
    if let Err(failure) = introduced {
        client.worker.counters.count_proxy_failure(failure);
        tracing::debug!(peer = %client.peer, failure = failure.name(), "no PROXY header");
    }
    introduced.is_ok()
}

async fn read(client: &mut Client) -> Result<Option<Addresses>, ProxyFailure> {
    loop {
        match proxy_protocol::read(&client.socket.input) {
            Ok(Some(header)) => {
                client.socket.consume(header.bytes);
                client.release_memory();
                return Ok(header.addresses);
            }
            Ok(None) => {}
            Err(NotProxy::Malformed | NotProxy::TooLarge) => return Err(ProxyFailure::Malformed),
            Err(NotProxy::Checksum) => return Err(ProxyFailure::Checksum),
        }
        match client.fill().await {
            Ok(1..) => {}
            Err(Stop::Cut(Cut::Timeout)) => return Err(ProxyFailure::Timeout),
            Ok(0) | Err(_) => return Err(ProxyFailure::Closed),
        }
    }
}

/// The connection is the client's from here on.
fn introduce(client: &mut Client, addresses: Option<Addresses>) -> Result<(), ProxyFailure> {
    let by = client.peer.ip().to_canonical();
    client.proxied = Some(Proxied { by, for_nobody: addresses.is_none() });
    let Some(Addresses { source, destination }) = addresses else { return Ok(()) };
    client.peer = source;
    client.local = destination;
    let worker = Rc::clone(&client.worker);
    let ip = source.ip().to_canonical();
    let actor = (!worker.plan().decide.forwarders.contains(ip)).then_some(ip);
    let per_actor = worker.shared.settings.limits.connections_per_actor;
    client.assign(actor, per_actor).map_err(|_| ProxyFailure::Limit)
}
