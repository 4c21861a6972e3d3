//! Connections to upstreams: a pool per worker, last in first out, and making new ones, with TLS or without.
//!
//! An upstream connection is driven by the task of the client it serves. Nothing polls an idle one: it is looked at
//! when it is taken out, and dropped when it has been idle for too long. HTTP/2 connections have a pool of their own, because
//! several requests go over one ([`crate::http2::Pool`]).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use phalanx_model::counters::WorkerCounters;
use phalanx_policy::Protocol;
use tokio::net::{TcpStream, UnixStream};

use crate::balance::group::{Address, Endpoint};
use crate::client::Client;
use crate::control::Cut;
use crate::http1::response::UPSTREAM_HEAD_BYTES_MAX;
use crate::http2::{self, Connecting};
use crate::introduced;
use crate::proxy_protocol::{self, Addresses};
use crate::request::Request;
use crate::settings::EdgeSettings;
use crate::socket::Socket;
use crate::tls::material::HTTP2;
use crate::tls::session::SessionError;
use crate::wire::Wire;

/// A worker's idle upstream connections.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Arc<str>, Vec<Idle>>>,
    count: Cell<usize>,
    count_max: usize,
    idle_max_ms: u64,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    expires_ms: u64,
}

impl Pool {
    pub(crate) fn new(count_max: usize, idle_max_ms: u64) -> Self {
        Self { idle: RefCell::default(), count: Cell::new(0), count_max, idle_max_ms }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn give(&self, key: &Arc<str>, socket: Socket, now_ms: u64) {
        if self.count.get() >= self.count_max || self.idle_max_ms == 0 {
            return;
        }
        let idle = Idle { socket, expires_ms: now_ms.saturating_add(self.idle_max_ms) };
        let mut pool = self.idle.borrow_mut();
        match pool.get_mut(key) {
            Some(connections) => connections.push(idle),
            None => {
                pool.insert(Arc::clone(key), vec![idle]);
            }
        }
        self.count.set(self.count.get() + 1);
    }

    /// The most recently used connection that is still good.
    async fn take(&self, key: &str, now_ms: u64) -> Option<Socket> {
        loop {
            let mut idle = self.idle.borrow_mut().get_mut(key)?.pop()?;
            self.count.set(self.count.get().saturating_sub(1));
            let quiet = poll_fn(|cx| Poll::Ready(idle.socket.is_quiet(cx))).await;
            if quiet && now_ms < idle.expires_ms {
                return Some(idle.socket);
            }
        }
    }

    /// Closes connections that were idle for too long; the oldest lie in front.
    pub(crate) fn drop_expired(&self, now_ms: u64) {
        if self.count.get() == 0 {
            return;
        }
        let mut left = 0;
        self.idle.borrow_mut().retain(|_, connections| {
            let expired = connections.iter().take_while(|idle| now_ms >= idle.expires_ms).count();
            connections.drain(..expired);
            left += connections.len();
            !connections.is_empty()
        });
        self.count.set(left);
    }
}

/// Why there is no connection to an upstream.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// It could not be made.
    Failed(io::Error),
    /// The wait for it ended.
    Cut(Cut),
}

impl From<Cut> for ConnectError {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

/// What is offered to an upstream to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Http1,
    Http2,
    Either,
}

impl Offer {
    /// What policy says to offer. `upgrades`: the connection is to become one of another protocol, which HTTP/1.1 alone can.
    pub(crate) fn to(endpoint: &Endpoint, upgrades: bool) -> Self {
        match endpoint.server.protocol {
            Protocol::Http1 => Self::Http1,
            Protocol::Http2 => Self::Http2,
            // Without TLS there is no agreeing on it.
            Protocol::Auto if upgrades || endpoint.server.tls.is_none() => Self::Http1,
            Protocol::Auto => Self::Either,
        }
    }
}

/// A connection to an upstream, and whether it has served before. `upgrades`: it is to become one of another protocol, which takes one
/// of its own.
pub(crate) async fn connect(
    client: &Client,
    request: &Request,
    endpoint: &Endpoint,
    (fresh, upgrades): (bool, bool),
) -> Result<(Socket, bool), ConnectError> {
    let worker = &client.worker;
    let offer = Offer::to(endpoint, upgrades);
    client.control.set_deadline(worker.after_ms(request.app().limits.upstream_connect_ms));
    let mut making = None;
    if offer != Offer::Http1 {
        // In a box: the plain path has no room for it.
        match Box::pin(take_place(client, endpoint, (offer, fresh))).await? {
            Place::Taken(socket) => return Ok((reused(client, socket), true)),
            Place::Make(connecting) => making = connecting,
        }
    }
    let of_this_client = endpoint.server.proxy.is_some();
    if offer != Offer::Http2 && !fresh {
        let kept = match of_this_client {
            false => worker.pool.take(&endpoint.pool_key, worker.now_ms()).await,
            true => introduced::take(client, endpoint, request.client).await,
        };
        if let Some(socket) = kept {
            return Ok((reused(client, socket), true));
        }
    }
    let named = if of_this_client { introduced::named(client, request.client) } else { None };
    WorkerCounters::add_one(&worker.counters.upstream_connects);
    let began = Instant::now();
    let mut connecting = pin!(make(client, endpoint, offer, named));
    let connected = client.control.run(|cx| connecting.as_mut().poll(cx).map_err(ConnectError::Failed)).await;
    drop(making);
    let mut socket = connected?;
    client.note_connect(began.elapsed());
    socket.output = worker.take_buffer();
    socket.borrow_buffer(|| worker.take_buffer());
    Ok((socket, false))
}

fn reused(client: &Client, mut socket: Socket) -> Socket {
    let worker = &client.worker;
    WorkerCounters::add_one(&worker.counters.upstream_reuses);
    socket.output = worker.take_buffer();
    socket.borrow_buffer(|| worker.take_buffer());
    socket
}

/// What came of the wish for a place on an HTTP/2 connection.
enum Place {
    Taken(Socket),
    /// There is none: one is to be made, for which others may wait.
    Make(Option<Connecting>),
}

/// A place on an HTTP/2 connection that there is, or that another request is making.
async fn take_place(
    client: &Client,
    endpoint: &Endpoint,
    (offer, fresh): (Offer, bool),
) -> Result<Place, ConnectError> {
    let worker = &client.worker;
    let key = &endpoint.pool_key;
    // Where it may turn out to be HTTP/1.1, of which each request needs one, nobody waits for another's.
    let shared = offer == Offer::Http2 || worker.calls.knows(key);
    if fresh || !shared {
        return Ok(Place::Make(None));
    }
    let peer = worker.calls.peer(key);
    loop {
        let mut changed = pin!(peer.changed());
        changed.as_mut().enable();
        if let Some(socket) = worker.calls.take(key, worker.now_ms()).await {
            return Ok(Place::Taken(socket));
        }
        if !peer.is_connecting() {
            return Ok(Place::Make(Some(peer.connecting())));
        }
        client.control.run(|cx| changed.as_mut().poll(cx).map(Ok::<_, Cut>)).await?;
    }
}

/// Makes a connection that is ready for a request.
async fn make(
    client: &Client,
    endpoint: &Endpoint,
    offer: Offer,
    named: Option<Addresses>,
) -> io::Result<Socket> {
    let worker = &client.worker;
    let dialled = dial(endpoint, &worker.shared.settings, offer, named).await?;
    dialled.ready(endpoint, &worker.calls, worker.now_ms()).await
}

/// A new connection, and what is spoken on it.
pub(crate) struct Dialled {
    socket: Socket,
    http2: bool,
}

impl Dialled {
    /// The connection as it takes a request: itself, or the first place on it.
    pub(crate) async fn ready(
        self,
        endpoint: &Endpoint,
        calls: &http2::Pool,
        now_ms: u64,
    ) -> io::Result<Socket> {
        let Self { socket, http2 } = self;
        if !http2 {
            return Ok(socket);
        }
        let https = endpoint.server.tls.is_some();
        let head_bytes_max = u32::try_from(UPSTREAM_HEAD_BYTES_MAX).unwrap_or(u32::MAX);
        Box::pin(calls.begin(&endpoint.pool_key, socket, (https, head_bytes_max), now_ms)).await
    }
}

/// Connects to an endpoint, unless it is among the addresses that no request may go to, tells it whose the connection is, if it wants to know,
/// and goes through its handshake.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    settings: &EdgeSettings,
    offer: Offer,
    named: Option<Addresses>,
) -> io::Result<Dialled> {
    let mut socket = match &endpoint.address {
        Address::Tcp(address) => Socket::new(connect_to(*address, endpoint.other, settings).await?),
        Address::Unix(path) => Socket::of_wire(Wire::Unix(UnixStream::connect(path).await?)),
    };
    if let Some(version) = endpoint.server.proxy {
        // In a box: most connections have no room for it.
        Box::pin(async {
            socket.output = proxy_protocol::write(version, named);
            poll_fn(|cx| socket.poll_flush(cx, &mut false)).await
        })
        .await?;
        socket.take_output();
    }
    let Some(tls) = &endpoint.server.tls else {
        return Ok(Dialled { socket, http2: offer == Offer::Http2 });
    };
    let offered = (offer != Offer::Http1, offer != Offer::Http2);
    let session = tls.session(&endpoint.server.host, &settings.identities, offered);
    socket.start_tls(session.map_err(io::Error::other)?);
    // In a box: connections without TLS have no room for it.
    Box::pin(socket.shake_hands()).await.map_err(|error| match error {
        SessionError::Io(error) => io::Error::new(error.kind(), format!("TLS: {error}")),
        SessionError::Tls(error) => io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}")),
    })?;
    let http2 = socket.session().is_some_and(|session| session.connection().alpn_protocol() == Some(HTTP2));
    if offer == Offer::Http2 && !http2 {
        let why = "the upstream does not agree on HTTP/2";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Dialled { socket, http2 })
}

/// Connects to an address, or to another of the same server where it does not answer soon: one of the other family, which may be the
/// only one that can be reached just now (as RFC 8305 has it).
async fn connect_to(
    address: SocketAddr,
    other: Option<SocketAddr>,
    settings: &EdgeSettings,
) -> io::Result<TcpStream> {
    if is_never_upstream(address, &settings.never_upstream) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is this node's own management"));
    }
    let Some(other) = other.filter(|other| !is_never_upstream(*other, &settings.never_upstream)) else {
        return TcpStream::connect(address).await;
    };
    // In a box: most servers have one address only.
    Box::pin(async move {
        let mut first = pin!(TcpStream::connect(address));
        let failed = match tokio::time::timeout(OTHER_FAMILY_AFTER, first.as_mut()).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let mut second = pin!(TcpStream::connect(other));
        match failed {
            Some(error) => second.await.map_err(|_| error),
            None => tokio::select! {
                Ok(stream) = first.as_mut() => Ok(stream),
                Ok(stream) = second.as_mut() => Ok(stream),
                else => Err(io::ErrorKind::ConnectionRefused.into()),
            },
        }
    })
    .await
}

/// Whether an address is one of those, however it is written: every address leads to a listener on all addresses, and the unspecified
/// one leads to this machine.
pub fn is_never_upstream(address: SocketAddr, never: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    never.iter().any(|own| {
        let own_ip = own.ip().to_canonical();
        let here = ip.is_loopback() || ip.is_unspecified();
        let reaches = own_ip == ip || own_ip.is_unspecified() || here && own_ip.is_loopback();
        own.port() == address.port() && reaches
    })
}

/// After how long an address of the other family is tried beside the first (RFC 8305 section 5).
const OTHER_FAMILY_AFTER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_other_family_is_tried_where_the_first_does_not_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
        let other = listener.local_addr().unwrap();
        let nobody = SocketAddr::new("127.0.0.3".parse().unwrap(), other.port());
        let mut settings = EdgeSettings::new(Vec::new(), 1, 1);
        let reached = connect_to(nobody, Some(other), &settings).await.unwrap();
        assert_eq!(reached.peer_addr().unwrap(), other);
        assert_eq!(
            connect_to(nobody, None, &settings).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        settings.never_upstream = vec![other];
        assert!(connect_to(nobody, Some(other), &settings).await.is_err());
    }

    #[test]
    fn own_addresses_are_known_in_every_form() {
        for (address, own, expected) in [
            ("127.0.0.1:8900", "127.0.0.1:8900", true),
            ("127.0.0.1:8901", "127.0.0.1:8900", false),
            ("[::ffff:127.0.0.1]:8900", "127.0.0.1:8900", true),
            ("0.0.0.0:8900", "127.0.0.1:8900", true),
            ("127.0.0.2:8900", "127.0.0.1:8900", true),
            ("10.0.0.1:8900", "0.0.0.0:8900", true),
            ("10.0.0.1:8900", "127.0.0.1:8900", false),
            ("10.0.0.1:8900", "10.0.0.1:8900", true),
        ] {
            let never = [own.parse().unwrap()];
            assert_eq!(is_never_upstream(address.parse().unwrap(), &never), expected, "{address} {own}");
        }
    }
}
