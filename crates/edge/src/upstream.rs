//! Connections to upstreams: a pool per worker, last in first out, and making new ones.
//!
//! An upstream connection is driven by the task of the client it serves. Nothing polls an idle one: it is looked at
//! when it is taken out, and dropped when it has been idle for too long.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hashbrown::HashMap;
use phalanx_model::counters::WorkerCounters;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::control::Cut;
use crate::plan::{AppPlan, UpstreamTarget};
use crate::socket::Socket;

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

/// A connection to the upstream, and whether it has served before.
pub(crate) async fn connect(
    client: &Client,
    app: &AppPlan,
    fresh: bool,
) -> Result<(Socket, bool), ConnectError> {
    let worker = &client.worker;
    if !fresh && let Some(mut socket) = worker.pool.take(&app.upstream.key, worker.now_ms()).await {
        WorkerCounters::add_one(&worker.counters.upstream_reuses);
        socket.output = worker.take_buffer();
        return Ok((socket, true));
    }
    WorkerCounters::add_one(&worker.counters.upstream_connects);
    client.control.set_deadline(worker.after_ms(app.limits.upstream_connect_ms));
    let mut connecting = pin!(dial(&app.upstream.target));
    let connected = client.control.run(|cx| connecting.as_mut().poll(cx).map_err(ConnectError::Failed)).await;
    let mut socket = Socket::new(connected?);
    socket.output = worker.take_buffer();
    Ok((socket, false))
}

async fn dial(target: &UpstreamTarget) -> io::Result<TcpStream> {
    match target {
        UpstreamTarget::Address(address) => TcpStream::connect(address).await,
        UpstreamTarget::Name(host, port) => TcpStream::connect((host.as_ref(), *port)).await,
    }
}
