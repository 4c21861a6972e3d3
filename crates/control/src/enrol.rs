//! Where nodes join the fleet and renew: a listener of its own, with TLS by the fleet's authority, or at a site's delegate.
//!
//! Anybody may connect, so everything is small and short: one request per connection, few connections, few attempts per address.
//! A token of 256 random bits or a signature of an enrolled key is all that counts.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, LedgerEntry, LedgerKind};
use phalanx_trust::certificate::{Der, fingerprint};
use phalanx_trust::delegation::{DelegationGrant, DelegationRequest};
use phalanx_trust::join::ders;
use phalanx_trust::{
    EnrolRequest, FleetAuthority, Grant, JoinRefusal, Membership, RenewRequest, ServerGrant, ServerRenewal,
    ServerRequest, SigningKey, SiteDelegate, TrustError, tls,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::open::{Open, subscriber};

/// Who decides behind the listener.
#[derive(Clone)]
pub enum Desk {
    /// The fleet's authority.
    Authority {
        /// It.
        authority: Arc<Mutex<FleetAuthority>>,
        /// Told when servers must learn something new of the authority.
        changed: Arc<Notify>,
    },
    /// The delegate of a site.
    Delegate {
        /// It.
        delegate: Arc<Mutex<SiteDelegate>>,
        /// Its node's membership, by which joiners know it.
        membership: Arc<Membership>,
        /// Its node's key.
        key: Arc<SigningKey>,
        /// Told when the authority should hear of a node.
        changed: Arc<Notify>,
    },
}

/// What the listener needs.
#[derive(Clone)]
pub struct EnrolDeps {
    /// Who decides.
    pub desk: Desk,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For the ledger: who joined.
    pub lanes: Lanes,
    /// Where members reach NATS.
    pub nats_url: String,
    /// Where members find the authority.
    pub addresses: Vec<String>,
}

/// Serves until `stop` becomes true, or its sender is gone.
pub async fn serve(listener: TcpListener, deps: EnrolDeps, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (mut attempts, mut open) = (Attempts::default(), Open::default());
    let mut server: Option<Server> = None;
    let router = router(deps.clone());
    let mut connections = JoinSet::new();
    loop {
        let (accepted, permit) = tokio::select! {
            accepted = async { (listener.accept().await, Arc::clone(&room).acquire_owned().await.ok()) } => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while let Some(ended) = connections.try_join_next() {
            ended.ok().into_iter().for_each(|peer| open.leave(&peer));
        }
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, most likely; accepting at once would only spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let now_ms = deps.clock.now_ms();
        let peer = subscriber(peer.ip());
        if !attempts.admits(peer, now_ms) {
            continue;
        }
        server = match renewed(&deps, server.take(), now_ms).await {
            Ok(server) => Some(server),
            Err(error) => {
                tracing::error!(%error, "no certificate for the enrolment listener");
                None
            }
        };
        let Some(Server { acceptor, .. }) = &server else { continue };
        if !open.enter(peer, PER_ADDRESS_OPEN_MAX) {
            continue;
        }
        let served = connection(stream, acceptor.clone(), router.clone());
        connections.spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, served).await;
            drop(permit);
            peer
        });
    }
    connections.shutdown().await;
}

/// The TLS server of the moment.
struct Server {
    acceptor: TlsAcceptor,
    /// The root that signed its certificate, or of a delegate its certificate.
    shown: String,
    fresh_until_ms: u64,
}

/// The same server while its certificate is fresh and its root the one that signs, else a new one.
async fn renewed(deps: &EnrolDeps, known: Option<Server>, now_ms: u64) -> Result<Server, TrustError> {
    let desk = deps.desk.clone();
    let made = tokio::task::spawn_blocking(move || match desk {
        Desk::Authority { authority, .. } => {
            let mut authority = authority.lock();
            let root = authority.root_fingerprint()?;
            if let Some(known) = known.filter(|known| now_ms < known.fresh_until_ms && known.shown == root) {
                return Ok(known);
            }
            let identity = authority.server("enrol", &[], CERTIFICATE_MS, now_ms)?;
            let fresh_until_ms = now_ms.saturating_add(CERTIFICATE_MS / 2);
            Ok(Server { acceptor: acceptor(&identity.chain, &identity.key)?, shown: root, fresh_until_ms })
        }
        Desk::Delegate { membership, key, .. } => {
            let grant = &membership.held().grant;
            let shown = grant.chain.first().map(|leaf| fingerprint(&leaf.0)).unwrap_or_default();
            if let Some(known) = known.filter(|known| known.shown == shown) {
                return Ok(known);
            }
            // As the authority does: a joiner finds the root of its token in the chain.
            let chain = ders(&[&grant.chain[..], &grant.roots].concat());
            Ok(Server { acceptor: acceptor(&chain, &key)?, shown, fresh_until_ms: u64::MAX })
        }
    });
    made.await.map_err(|_| TrustError::Crypto("making a certificate"))?
}

fn acceptor(chain: &[Der], key: &SigningKey) -> Result<TlsAcceptor, TrustError> {
    Ok(TlsAcceptor::from(Arc::new(tls::server(chain, key)?)))
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) -> io::Result<()> {
    let stream = acceptor.accept(stream).await?;
    let service = router.map_request(|request: http::Request<Incoming>| request.map(Body::new));
    let service = TowerToHyperService::new(service);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    Ok(())
}

fn router(deps: EnrolDeps) -> Router {
    Router::new()
        .route("/enrol", post(enrol))
        .route("/renew", post(renew))
        .route("/enrol-server", post(enrol_server))
        .route("/renew-server", post(renew_server))
        .route("/delegation", post(delegation))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(deps)
}

async fn enrol(
    State(deps): State<EnrolDeps>,
    body: Result<Json<EnrolRequest>, JsonRejection>,
) -> Result<Json<Grant>, Refused> {
    let Json(request) = body.map_err(malformed)?;
    let (site, node, token) = (request.site.clone(), request.node.clone(), request.token.clone());
    let now_ms = deps.clock.now_ms();
    let granted = grant(&deps, request, now_ms, FleetAuthority::enrol, SiteDelegate::enrol).await;
    note(&deps, "node", (&site, &node, &token), granted.as_ref().err(), now_ms);
    granted.map(Json)
}

async fn enrol_server(
    State(deps): State<EnrolDeps>,
    body: Result<Json<ServerRequest>, JsonRejection>,
) -> Result<Json<ServerGrant>, Refused> {
    let Json(request) = body.map_err(malformed)?;
    let (site, server, token) =
        (request.place.site.clone(), request.place.server.clone(), request.token.clone());
    let now_ms = deps.clock.now_ms();
    let granted = with_authority(&deps, move |authority| authority.enrol_server(&request, now_ms)).await;
    note(&deps, "server", (&site, &server, &token), granted.as_ref().err(), now_ms);
    Ok(Json(ServerGrant { enrol: deps.addresses.clone(), ..granted? }))
}

async fn renew_server(
    State(deps): State<EnrolDeps>,
    body: Result<Json<ServerRenewal>, JsonRejection>,
) -> Result<Json<ServerGrant>, Refused> {
    let Json(request) = body.map_err(malformed)?;
    let now_ms = deps.clock.now_ms();
    let granted = with_authority(&deps, move |authority| authority.renew_server(&request, now_ms)).await?;
    Ok(Json(ServerGrant { enrol: deps.addresses.clone(), ..granted }))
}

/// Tells the log and the ledger who joined, and the log who was refused.
fn note(
    deps: &EnrolDeps,
    what: &str,
    (site, name, token): (&str, &str, &str),
    refused: Option<&Refused>,
    now_ms: u64,
) {
    if let Some(Refused(refusal)) = refused {
        tracing::warn!(site = site.escape_debug().to_string(), %refusal, "a {what} was refused");
        return;
    }
    tracing::info!(site, name, "{what} joined the fleet");
    let action = format!("{what} {site}/{name} joined with invitation {token}");
    let kind = LedgerKind::OperatorAction { action, by: None };
    if deps.lanes.ledger(LedgerEntry { at_ms: now_ms, kind }).is_err() {
        tracing::warn!("the ledger has no room for a {what} that joined");
    }
}

async fn renew(
    State(deps): State<EnrolDeps>,
    body: Result<Json<RenewRequest>, JsonRejection>,
) -> Result<Json<Grant>, Refused> {
    let Json(request) = body.map_err(malformed)?;
    let now_ms = deps.clock.now_ms();
    grant(&deps, request, now_ms, FleetAuthority::renew, SiteDelegate::renew).await.map(Json)
}

/// What a site's delegate asks for.
async fn delegation(
    State(deps): State<EnrolDeps>,
    body: Result<Json<DelegationRequest>, JsonRejection>,
) -> Result<Json<DelegationGrant>, Refused> {
    let Json(request) = body.map_err(malformed)?;
    let now_ms = deps.clock.now_ms();
    let granted = with_authority(&deps, move |authority| {
        let before = authority.delegations();
        let granted = authority.grant_delegation(&request, now_ms)?;
        Ok((granted, authority.delegations() != before))
    });
    let (granted, is_news) = granted.await?;
    if let (true, Desk::Authority { changed, .. }) = (is_news, &deps.desk) {
        changed.notify_one();
    }
    Ok(Json(granted))
}

/// Has the authority or the delegate grant what is asked for.
async fn grant<Q: Send + 'static>(
    deps: &EnrolDeps,
    request: Q,
    now_ms: u64,
    by_authority: fn(&mut FleetAuthority, &Q, u64) -> Result<Grant, JoinRefusal>,
    by_delegate: fn(&mut SiteDelegate, &Q, u64) -> Result<Grant, JoinRefusal>,
) -> Result<Grant, Refused> {
    let grant = match &deps.desk {
        Desk::Authority { .. } => {
            let granted = with_authority(deps, move |authority| {
                let grant = by_authority(authority, &request, now_ms)?;
                // A site with servers of its own has its nodes there.
                let nats_url = authority.clients_of(&grant.site).join(",");
                Ok(Grant { nats_url, ..grant })
            });
            granted.await?
        }
        Desk::Delegate { delegate, membership, changed, .. } => {
            let delegate = Arc::clone(delegate);
            let granted = waiting(move || by_delegate(&mut delegate.lock(), &request, now_ms)).await?;
            changed.notify_one();
            Grant { names_key: membership.held().grant.names_key.clone(), ..granted }
        }
    };
    let nats_url = if grant.nats_url.is_empty() { deps.nats_url.clone() } else { grant.nats_url };
    Ok(Grant { nats_url, enrol: deps.addresses.clone(), ..grant })
}

async fn with_authority<T: Send + 'static>(
    deps: &EnrolDeps,
    work: impl FnOnce(&mut FleetAuthority) -> Result<T, JoinRefusal> + Send + 'static,
) -> Result<T, Refused> {
    let Desk::Authority { authority, .. } = &deps.desk else {
        return Err(Refused(JoinRefusal::Unavailable("this is a site's delegate".into())));
    };
    let authority = Arc::clone(authority);
    waiting(move || work(&mut authority.lock())).await
}

/// Work that waits for the disk.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JoinRefusal> + Send + 'static,
) -> Result<T, Refused> {
    let granted = tokio::task::spawn_blocking(work).await;
    granted.unwrap_or_else(|_| Err(JoinRefusal::Unavailable("it was cut off".into()))).map_err(Refused)
}

fn malformed(rejection: JsonRejection) -> Refused {
    Refused(JoinRefusal::Malformed(rejection.body_text()))
}

/// A refusal as it is answered.
struct Refused(JoinRefusal);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            JoinRefusal::Malformed(_) => StatusCode::BAD_REQUEST,
            JoinRefusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::FORBIDDEN,
        };
        (status, Json(self.0)).into_response()
    }
}

/// Connections per address in this minute. Guessing a token is hopeless; this keeps one address from keeping the signer busy.
#[derive(Debug, Default)]
struct Attempts {
    minute: u64,
    counts: HashMap<IpAddr, u32>,
}

impl Attempts {
    fn admits(&mut self, peer: IpAddr, now_ms: u64) -> bool {
        if self.minute != now_ms / 60_000 {
            self.minute = now_ms / 60_000;
            self.counts.clear();
        }
        if self.counts.len() >= ADDRESSES_MAX && !self.counts.contains_key(&peer) {
            return false;
        }
        let count = self.counts.entry(peer).or_default();
        *count = count.saturating_add(1);
        *count <= PER_ADDRESS_MAX
    }
}

/// Enough for a fleet that starts at once.
const CONNECTIONS_MAX: usize = 64;
/// Nodes behind one address that join or renew within a minute.
const PER_ADDRESS_MAX: u32 = 120;
/// A quarter of the room. One exchange takes milliseconds, so that many nodes behind one address hardly meet.
const PER_ADDRESS_OPEN_MAX: u32 = 16;
const ADDRESSES_MAX: usize = 4096;
/// Handshake, request, signature, answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Three certificate requests and a few names.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The key lives as long as the process; its certificate is made anew at half of this.
const CERTIFICATE_MS: u64 = 30 * 24 * 60 * 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_keep_the_listener_busy() {
        let mut attempts = Attempts::default();
        let (one, same, other): (IpAddr, IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let (one, same) = (subscriber(one), subscriber(same));
        for _ in 0..PER_ADDRESS_MAX / 2 {
            assert!(attempts.admits(one, 0) && attempts.admits(same, 0));
        }
        assert!(!attempts.admits(one, 59_999) && !attempts.admits(same, 59_999));
        assert!(attempts.admits(other, 59_999));
        assert!(attempts.admits(one, 60_000));
    }
}
