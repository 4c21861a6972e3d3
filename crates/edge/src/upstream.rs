//! Connections to upstreams: a pool per worker, last in first out, and making new ones.
//!
//! An upstream connection is driven by the task of the client it serves. Nothing polls an idle one: it is looked at
//! when it is taken out, and dropped when it has been idle for too long.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use hashbrown::HashMap;
use phalanx_model::counters::WorkerCounters;
use tokio::net::{TcpStream, UnixStream};

use crate::balance::group::{Address, Endpoint};
use crate::client::Client;
use crate::control::Cut;
use crate::plan::AppPlan;
use crate::socket::Socket;
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

/// A connection to an upstream, and whether it has served before.
pub(crate) async fn connect(
    client: &Client,
    app: &AppPlan,
    endpoint: &Endpoint,
    fresh: bool,
) -> Result<(Socket, bool), ConnectError> {
    let worker = &client.worker;
    if !fresh && let Some(mut socket) = worker.pool.take(&endpoint.key, worker.now_ms()).await {
        WorkerCounters::add_one(&worker.counters.upstream_reuses);
        socket.output = worker.take_buffer();
        return Ok((socket, true));
    }
    WorkerCounters::add_one(&worker.counters.upstream_connects);
    client.control.set_deadline(worker.after_ms(app.limits.upstream_connect_ms));
    let began = Instant::now();
    let mut connecting = pin!(dial(endpoint, &worker.shared.settings.never_upstream));
    let connected = client.control.run(|cx| connecting.as_mut().poll(cx).map_err(ConnectError::Failed)).await;
    let mut socket = connected?;
    client.note_connect(began.elapsed());
    socket.output = worker.take_buffer();
    Ok((socket, false))
}

/// Connects to an endpoint, unless it is among the addresses that no request may go to.
pub(crate) async fn dial(endpoint: &Endpoint, never: &[SocketAddr]) -> io::Result<Socket> {
    match &endpoint.address {
        Address::Tcp(address) if is_never_upstream(*address, never) => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is this node's own management"))
        }
        Address::Tcp(address) => TcpStream::connect(address).await.map(Socket::new),
        Address::Unix(path) => UnixStream::connect(path).await.map(|it| Socket::of_wire(Wire::Unix(it))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
