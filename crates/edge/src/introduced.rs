//! Upstreams that want to know whose connection they get: a PROXY header goes before all else, and what follows is of one client alone.
//!
//! INVARIANT: such a connection is kept with the client's own and serves it again at most; it is never in the pool that clients share.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;

use crate::balance::group::Endpoint;
use crate::client::Client;
use crate::proxy_protocol::Addresses;
use crate::socket::Socket;

/// A connection that waits for the same client's next request.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Which upstream's, and how it is spoken to.
    key: Arc<str>,
    /// Whose it was said to be.
    named: Option<Addresses>,
    socket: Socket,
    expires_ms: u64,
}

/// Whom an upstream is told of: `ip`, whose the request is, and where its connection came to. `None` where a balancer speaks for itself.
pub(crate) fn named(client: &Client, ip: IpAddr) -> Option<Addresses> {
    if client.is_for_nobody() {
        return None;
    }
    // Of whom a forwarder names, no port is known.
    let port = if client.peer.ip().to_canonical() == ip { client.peer.port() } else { 0 };
    Some(Addresses { source: SocketAddr::new(ip, port), destination: client.local })
}

/// Keeps a connection for the client's next request.
pub(crate) fn keep(client: &Client, endpoint: &Endpoint, ip: IpAddr, socket: Socket) {
    let idle_ms = client.worker.shared.settings.limits.upstream_idle_ms;
    let expires_ms = client.worker.now_ms().saturating_add(idle_ms);
    let key = Arc::clone(&endpoint.pool_key);
    client.kept.set(Some(Box::new(Kept { key, named: named(client, ip), socket, expires_ms })));
}

/// The connection that was kept, if it is still good, to this upstream, and was said to be this client's.
pub(crate) async fn take(client: &Client, endpoint: &Endpoint, ip: IpAddr) -> Option<Socket> {
    let mut kept = client.kept.take()?;
    let same = kept.key == endpoint.pool_key && kept.named == named(client, ip);
    if !same || client.worker.now_ms() >= kept.expires_ms {
        return None;
    }
    let quiet = poll_fn(|cx| Poll::Ready(kept.socket.is_quiet(cx))).await;
    quiet.then_some(kept.socket)
}
