//! A worker's HTTP/2 connections to upstreams. Each carries several requests at once, and is driven by a task of its own that ends when
//! nobody holds it any more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hashbrown::HashMap;
use tokio::sync::Notify;

use super::call::Call;
use crate::socket::Socket;

/// Connections by upstream.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    peers: RefCell<HashMap<Arc<str>, Rc<Peer>>>,
}

/// What there is for one upstream.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// One is being made, and those who need one wait for it.
    connecting: Cell<bool>,
    changed: Notify,
}

/// One connection.
struct Connection {
    sender: SendRequest<Bytes>,
    https: bool,
    open: Cell<usize>,
    /// It gets no more requests.
    closing: Rc<Cell<bool>>,
    used_ms: Cell<u64>,
}

/// A request's place on a connection; dropping it gives the place back.
pub(crate) struct Place(Rc<Connection>);

impl Pool {
    /// A place on a connection that has one.
    pub(crate) async fn take(&self, key: &str, now_ms: u64) -> Option<Socket> {
        let peer = Rc::clone(self.peers.borrow().get(key)?);
        loop {
            let connection = {
                let mut connections = peer.connections.borrow_mut();
                connections.retain(|connection| !connection.closing.get());
                // The oldest with room, so that those which are not needed become idle.
                Rc::clone(connections.iter().find(|connection| connection.has_room())?)
            };
            let place = Place::take(&connection, now_ms);
            let mut sender = connection.sender.clone();
            // Fails where the connection has; does not wait while there is room.
            match poll_fn(|cx| sender.poll_ready(cx)).await {
                Ok(()) => return Some(Socket::of_call(Call::new(sender, place, connection.https))),
                Err(_) => place.close(),
            }
        }
    }

    /// What there is for an upstream, and is known of it.
    pub(crate) fn peer(&self, key: &Arc<str>) -> Rc<Peer> {
        let mut peers = self.peers.borrow_mut();
        if let Some(peer) = peers.get(key) {
            return Rc::clone(peer);
        }
        let peer = Rc::<Peer>::default();
        peers.insert(Arc::clone(key), Rc::clone(&peer));
        peer
    }

    /// Whether an upstream is known to speak HTTP/2.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.peers.borrow().contains_key(key)
    }

    /// Begins to speak HTTP/2 on a new connection, and takes the first place on it.
    pub(crate) async fn begin(
        &self,
        key: &Arc<str>,
        socket: Socket,
        (https, head_bytes_max): (bool, u32),
        now_ms: u64,
    ) -> io::Result<Socket> {
        let handshake = builder(head_bytes_max).handshake(socket).await;
        let (sender, driven) = handshake.map_err(io::Error::other)?;
        let closing = Rc::<Cell<bool>>::default();
        let ends = Rc::clone(&closing);
        tokio::task::spawn_local(async move {
            // Its requests learn of its failure by themselves.
            let _ = driven.await;
            ends.set(true);
        });
        let mut first = sender.clone();
        poll_fn(|cx| first.poll_ready(cx)).await.map_err(io::Error::other)?;
        let connection =
            Rc::new(Connection { sender, https, open: Cell::default(), closing, used_ms: Cell::new(now_ms) });
        let place = Place::take(&connection, now_ms);
        let peer = self.peer(key);
        peer.connections.borrow_mut().push(connection);
        peer.changed.notify_waiters();
        Ok(Socket::of_call(Call::new(first, place, https)))
    }

    /// Lets go of connections that nobody has used for a while.
    pub(crate) fn drop_expired(&self, now_ms: u64, idle_max_ms: u64) {
        if self.peers.borrow().is_empty() {
            return;
        }
        self.peers.borrow_mut().retain(|_, peer| {
            let mut connections = peer.connections.borrow_mut();
            connections.retain(|connection| {
                let idle = connection.open.get() == 0
                    && now_ms >= connection.used_ms.get().saturating_add(idle_max_ms);
                !idle && !connection.closing.get()
            });
            !connections.is_empty() || Rc::strong_count(peer) > 1
        });
    }
}

impl Peer {
    /// Whether one is being made.
    pub(crate) fn is_connecting(&self) -> bool {
        self.connecting.get()
    }

    /// Resolves when it was made, or not.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Notes that one is being made, until what is returned is dropped.
    pub(crate) fn connecting(self: &Rc<Self>) -> Connecting {
        self.connecting.set(true);
        Connecting(Rc::clone(self))
    }
}

/// A connection is being made.
pub(crate) struct Connecting(Rc<Peer>);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.changed.notify_waiters();
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(STREAMS_MAX);
        !self.closing.get() && self.open.get() < most
    }
}

impl Place {
    fn take(connection: &Rc<Connection>, now_ms: u64) -> Self {
        connection.open.set(connection.open.get() + 1);
        connection.used_ms.set(now_ms);
        Self(Rc::clone(connection))
    }

    /// Nobody else gets a place on this connection.
    pub(super) fn close(&self) {
        self.0.closing.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("open", &self.open).finish_non_exhaustive()
    }
}

fn builder(head_bytes_max: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_concurrent_streams(0)
        .max_header_list_size(head_bytes_max)
        .header_table_size(HEADER_TABLE_BYTES)
        .initial_max_send_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// Requests at once on one connection, where the upstream allows as many.
const STREAMS_MAX: usize = 64;
/// What an upstream may send of a response before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// As much as all of a connection's streams may: were it less, a few slow clients would hold up all others.
const CONNECTION_WINDOW_BYTES: u32 = 64 * STREAM_WINDOW_BYTES;
/// What header compression may remember.
const HEADER_TABLE_BYTES: u32 = 4_096;
/// Of a request that waits for the upstream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
