//! Listening: TCP for consoles and tools, a Unix socket for the node's own user. Each has connections of its own, so
//! that a flood on one leaves the other free.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower::ServiceExt;

use crate::auth::{Channel, Peer};
use crate::limits::{
    HEAD_BYTES_MAX, HEAD_TIME_MAX_MS, SOCKET_CONNECTIONS_MAX, TCP_CONNECTIONS_FROM_ELSEWHERE_MAX,
    TCP_CONNECTIONS_MAX, TCP_CONNECTIONS_PER_ADDRESS_MAX, TCP_CONNECTIONS_PER_NETWORK_MAX, WRITE_STALL_MAX,
};
use crate::open::{Guests, Most};
use crate::patient::Patient;
use crate::router::for_channel;

/// What to listen on. At least one.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For consoles and tools.
    pub tcp: Option<TcpListener>,
    /// What the TCP listener shows as TLS, of the moment; it speaks without TLS if there is none.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// For the node's own user.
    pub socket: Option<UnixListener>,
}

/// Serves until `stop` becomes true (or its sender is gone). Answers under way get [`DRAIN`] to end; streams are cut.
pub async fn serve(router: Router, listeners: Listeners, stop: watch::Receiver<bool>) {
    let mut accepting = JoinSet::new();
    if let Some(tcp) = listeners.tcp {
        let router = for_channel(&router, Channel::Tcp);
        let room = (TCP_CONNECTIONS_MAX, listeners.tls);
        accepting.spawn(accept(stop.clone(), room, router, async move || {
            let (stream, peer) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            Ok((stream, Some(Peer(peer.ip()))))
        }));
    }
    if let Some(socket) = listeners.socket {
        let router = for_channel(&router, Channel::Socket);
        accepting.spawn(accept(stop, (SOCKET_CONNECTIONS_MAX, None), router, async move || {
            let (stream, _) = socket.accept().await?;
            Ok((stream, None))
        }));
    }
    drop(router);
    accepting.join_all().await;
}

/// Binds the node's socket: mode 0600 in a directory of mode 0700. A socket that a dead node left behind is replaced; one
/// that a living node answers on is an error.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
    {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        if fs::metadata(parent)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o700))?;
        }
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            let message = format!(
                "{}: another node answers on this socket; stop it or use another --state",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts until told to stop, then lets open connections end.
async fn accept<S, F>(
    mut stop: watch::Receiver<bool>,
    (connections_max, tls): (usize, Option<watch::Receiver<Arc<ServerConfig>>>),
    router: Router,
    next: F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: AsyncFn() -> io::Result<(S, Option<Peer>)>,
{
    let room = Arc::new(Semaphore::new(connections_max));
    let (mut connections, mut guests) = (JoinSet::new(), Guests::at_most(GUESTS));
    loop {
        // A connection beyond the limit waits in the kernel's backlog.
        let (accepted, permit) = tokio::select! {
            accepted = async { (next().await, Arc::clone(&room).acquire_owned().await.ok()) } => accepted,
            () = stopped(&mut stop) => break,
        };
        while let Some(ended) = connections.try_join_next() {
            ended.ok().flatten().into_iter().for_each(|guest| guests.leave(guest));
        }
        match accepted {
            Ok((stream, peer)) => {
                // What comes from this machine may be a tunnel or a proxy, and stand for many.
                let elsewhere = peer.map(|Peer(ip)| ip.to_canonical()).filter(|ip| !ip.is_loopback());
                let guest = match elsewhere.map(|ip| guests.enter(ip)) {
                    Some(None) => continue,
                    entered => entered.flatten(),
                };
                let (router, stop) = (router.clone(), stop.clone());
                let tls = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, peer, router, stop).await,
                        Some(tls) => {
                            // Who does not speak TLS, or not in time, is no more than a closed connection.
                            let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
                            if let Ok(Ok(stream)) = shaken {
                                connection(stream, peer, router, stop).await;
                            }
                        }
                    }
                    drop(permit);
                    guest
                });
            }
            Err(error) => {
                // Out of descriptors, most likely; accepting at once would only spin.
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

async fn connection<S>(stream: S, peer: Option<Peer>, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request
    });
    let service = TowerToHyperService::new(service.map_err(|never: Infallible| never));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_TIME_MAX_MS))
        .max_buf_size(HEAD_BYTES_MAX);
    let stream = Patient::of(stream, WRITE_STALL_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

const GUESTS: Most = Most {
    of_client: TCP_CONNECTIONS_PER_ADDRESS_MAX,
    of_network: TCP_CONNECTIONS_PER_NETWORK_MAX,
    of_all: TCP_CONNECTIONS_FROM_ELSEWHERE_MAX,
};
/// How long answers under way may take after the stop.
pub const DRAIN: Duration = Duration::from_secs(2);
/// How long a TLS handshake may take: as long as a head.
const HANDSHAKE: Duration = Duration::from_millis(HEAD_TIME_MAX_MS);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
