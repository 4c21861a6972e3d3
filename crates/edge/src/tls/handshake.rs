//! The handshake of a connection: bounded in number and time, counted whatever becomes of it, and over before anything of
//! HTTP is read.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use phalanx_decide::Arrival;
use phalanx_model::Ja4;
use phalanx_model::counters::{KeyExchange, LimitReached, TlsFailure, WorkerCounters};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use super::challenges::ACME_TLS;
use super::hello::{self, ClientHello, NotHello};
use super::ja4::ja4;
use super::material::HTTP2;
use super::session::{Session, SessionError};
use crate::client::Client;
use crate::client_certificate::CertificateRule;
use crate::control::{Activity, Cut};
use crate::passthrough::Passed;
use crate::plan::EdgePlan;
use crate::stop::Stop;
use crate::tables::{ConnectionCounts, Counted};
use crate::worker::Worker;

/// What is known of a client from its handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agreed {
    /// The protocol's name, as `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The protocol above it is HTTP/2.
    pub(crate) http2: bool,
    pub(crate) ja4: Option<Ja4>,
    /// How keys were agreed on, where they were.
    pub(crate) group: Option<KeyExchange>,
    /// The client has shown a certificate that the listener, or the rule that it was opened by, believes.
    pub(crate) certified: bool,
}

/// What became of a handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shaken {
    /// HTTP may begin.
    Agreed,
    /// There is nothing to go on with.
    Failed,
    /// The client was told something in plain text, and needs time to read it.
    Answered,
    /// It asks for a host whose TLS is opened elsewhere.
    Passed(Passed),
}

/// Whether a connection is refused because its actor begins handshakes too often. `None`: a trusted forwarder, whose visitors' they are.
/// Operators and the allow-list may: what is behind them is known.
pub(crate) fn comes_too_often(worker: &Worker, plan: &EdgePlan, actor: Option<IpAddr>) -> bool {
    let Some(ip) = actor else { return false };
    let tables = &worker.shared.tables;
    let pace = worker.shared.settings.limits.handshake_pace;
    let Arrival::TooEarly { told } = tables.greetings.admit(ip, pace, tables.rates.now_ns()) else {
        return false;
    };
    if plan.decide.is_exempt(ip, worker.shared.clock.now_ms()) {
        return false;
    }
    worker.counters.count_limit(LimitReached::HandshakeRate);
    if told {
        tracing::warn!(client = %ip, "TLS handshakes come too often, connections are closed");
    }
    true
}

/// Takes a connection through its handshake.
pub(crate) async fn accept(client: &mut Client, listener: usize) -> Shaken {
    let worker = Rc::clone(&client.worker);
    // Who the client is of a connection that was passed on, nobody knew before.
    if client.proxied.is_some() && comes_too_often(&worker, &worker.plan(), client.control.client.get()) {
        return Shaken::Failed;
    }
    let edge_limits = &worker.shared.settings.limits;
    let (total, per_actor) = (edge_limits.handshakes, edge_limits.handshakes_per_actor);
    let tables = &worker.shared.tables;
    let admitted =
        ConnectionCounts::admit(tables, Counted::Handshakes, client.control.client.get(), (total, per_actor));
    let Ok(_admission) = admitted else {
        worker.counters.count_tls_failure(TlsFailure::Limit);
        return Shaken::Failed;
    };
    // A node that drains lets it end; what follows is as with any connection.
    client.control.activity.set(Activity::Busy);
    client.control.set_deadline(worker.after_ms(edge_limits.handshake_ms));
    let shaken = match read_hello(client).await {
        Ok(hello) => match passed(client, &hello) {
            Some(passed) => return Shaken::Passed(passed),
            None => shake(client, listener, hello).await,
        },
        Err(failure) => Err(failure),
    };
    client.control.rests(worker.now_ms());
    match shaken {
        Ok(agreed) => {
            let is_forwarder = client.control.client.get().is_none();
            client.control.ja4.set(agreed.ja4.filter(|_| !is_forwarder));
            client.tls = Some(agreed);
            // A client may wait for long with its first request.
            client.release_memory();
            Shaken::Agreed
        }
        Err(failure) => {
            worker.counters.count_tls_failure(failure);
            tracing::debug!(peer = %client.peer, failure = failure.name(), "no TLS session");
            if failure == TlsFailure::PlainHttp { Shaken::Answered } else { Shaken::Failed }
        }
    }
}

/// What is known of a connection that is not ours to open, if it is none of ours.
fn passed(client: &Client, hello: &ClientHello) -> Option<Passed> {
    let plan = client.worker.plan();
    let app = plan.find_passed(&hello.server_name)?;
    let is_forwarder = client.control.client.get().is_none();
    client.control.ja4.set(ja4(hello).filter(|_| !is_forwarder));
    Some(Passed { app, host: hello.server_name.clone() })
}

async fn shake(client: &mut Client, listener: usize, hello: ClientHello) -> Result<Agreed, TlsFailure> {
    let rule = rule_of(client, &hello);
    let material = client.worker.shared.material.load_full();
    let Some(config) = material.answer(listener, &hello, rule.as_deref()) else {
        alert(client, INSUFFICIENT_SECURITY).await;
        return Err(TlsFailure::NotPostQuantum);
    };
    drop(material);
    let received = std::mem::take(&mut client.socket.input).into();
    let session = Session::new(config, received).map_err(|_| TlsFailure::Malformed)?;
    client.socket.start_tls(session);
    let worker = Rc::clone(&client.worker);
    let control = Rc::clone(&client.control);
    let mut turn = pin!(worker.handshake_turn.acquire());
    let turn = control.run(|cx| turn.as_mut().poll(cx).map(Ok::<_, Cut>)).await.map_err(of_cut)?;
    let socket = &mut client.socket;
    let mut step = |cx: &mut Context<'_>| {
        worker.with_scratch(|scratch| socket.poll_handshake(cx, scratch)).map_err(Failed::Session)
    };
    // Keys are agreed on and signed with the first flight; what follows is cheap.
    let first = poll_fn(|cx| Poll::Ready(step(cx))).await;
    tokio::task::yield_now().await;
    drop(turn);
    let shaken = match first {
        Poll::Ready(shaken) => shaken,
        Poll::Pending => control.run(step).await,
    };
    let failure = match shaken {
        // What it came for is in the handshake; nothing follows (RFC 8737 section 3).
        Ok(()) if is_challenge(client) => return Err(TlsFailure::AcmeChallenge),
        Ok(()) => {
            open(client, rule.as_deref()).map_err(|error| of_error(&error))?;
            return agreed(client, &hello).ok_or(TlsFailure::Malformed);
        }
        Err(Failed::Cut(cut)) => of_cut(cut),
        Err(Failed::Session(SessionError::Io(_))) => TlsFailure::Closed,
        Err(Failed::Session(SessionError::Tls(error))) => of_error(&error),
    };
    // The alert that says why.
    let socket = &mut client.socket;
    let _ = control.run(|cx| socket.poll_flush(cx, &mut false).map_err(Stop::from)).await;
    Err(failure)
}

/// Reads the greeting. What is none is answered as well as can be.
async fn read_hello(client: &mut Client) -> Result<ClientHello, TlsFailure> {
    loop {
        match hello::read(&client.socket.input) {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => {}
            Err(NotHello::PlainHttp) => {
                answer_plainly(client).await;
                return Err(TlsFailure::PlainHttp);
            }
            Err(NotHello::Malformed) => {
                alert(client, DECODE_ERROR).await;
                return Err(TlsFailure::Malformed);
            }
            Err(NotHello::TooLarge) => {
                alert(client, ILLEGAL_PARAMETER).await;
                return Err(TlsFailure::Malformed);
            }
        }
        match client.fill().await {
            Ok(1..) => {}
            Ok(0) | Err(Stop::ClientGone) => return Err(TlsFailure::Closed),
            Err(Stop::Cut(cut)) => return Err(of_cut(cut)),
            Err(Stop::Refused | Stop::Answered(_) | Stop::Routed | Stop::Challenged) => {
                return Err(TlsFailure::Malformed);
            }
        }
    }
}

/// Says to a client that took the port for one without TLS what it is.
async fn answer_plainly(client: &mut Client) {
    client.output().extend_from_slice(PLAIN_ANSWER);
    let _ = client.flush().await;
}

/// Writes an alert before there are keys (RFC 8446 section 6).
async fn alert(client: &mut Client, description: u8) {
    client.output().extend_from_slice(&[21, 3, 3, 0, 2, 2, description]);
    let _ = client.flush().await;
}

/// What the app whose host is asked for has clients show; `None`: what the listener says.
fn rule_of(client: &Client, hello: &ClientHello) -> Option<Arc<CertificateRule>> {
    // Where other proxies ask, it is they who show certificates, whatever host they name.
    if client.check.is_some() {
        return None;
    }
    let plan = client.worker.plan();
    plan.asked_of_clients(&hello.server_name).map(|asked| Arc::clone(&asked.rule))
}

/// Keeps by which rule a handshake went. Without a rule there is nothing to keep.
fn open(client: &mut Client, rule: Option<&CertificateRule>) -> Result<(), rustls::Error> {
    if let (Some(rule), Some(session)) = (rule, client.socket.session()) {
        let opened = rule.open(session.connection(), client.worker.shared.clock.now_ms())?;
        client.opened = Some(Rc::new(opened));
    }
    Ok(())
}

/// Whether it was a certificate authority that looks whether the host is ours.
fn is_challenge(client: &Client) -> bool {
    client.socket.session().is_some_and(|session| session.connection().alpn_protocol() == Some(ACME_TLS))
}

/// What was agreed on, counted.
fn agreed(client: &Client, hello: &ClientHello) -> Option<Agreed> {
    let connection = client.socket.session()?.connection();
    let counters = &client.worker.counters;
    let version = match connection.protocol_version()? {
        ProtocolVersion::TLSv1_3 => {
            WorkerCounters::add_one(&counters.tls13_handshakes);
            "TLSv1.3"
        }
        _ => {
            WorkerCounters::add_one(&counters.tls12_handshakes);
            "TLSv1.2"
        }
    };
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        WorkerCounters::add_one(&counters.tls_resumed);
    }
    // A session of TLS 1.2 that is resumed exchanges no keys.
    let group = connection.negotiated_key_exchange_group().map(|group| match group.name() {
        NamedGroup::X25519MLKEM768 => KeyExchange::X25519Mlkem768,
        NamedGroup::X25519 => KeyExchange::X25519,
        NamedGroup::secp256r1 => KeyExchange::Secp256r1,
        _ => KeyExchange::Secp384r1,
    });
    group.into_iter().for_each(|group| counters.count_key_exchange(group));
    let http2 = connection.alpn_protocol() == Some(HTTP2);
    let certified = connection.peer_certificates().is_some_and(|chain| !chain.is_empty());
    Some(Agreed { version, http2, ja4: ja4(hello), certified, group })
}

fn of_cut(cut: Cut) -> TlsFailure {
    match cut {
        Cut::Timeout => TlsFailure::Timeout,
        Cut::Banned | Cut::Drained => TlsFailure::Closed,
    }
}

fn of_error(error: &rustls::Error) -> TlsFailure {
    match error {
        rustls::Error::PeerIncompatible(_) => TlsFailure::Incompatible,
        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
            TlsFailure::ClientCertificate
        }
        rustls::Error::AlertReceived(_) => TlsFailure::Refused,
        // rustls has no word of its own for it.
        rustls::Error::General(why) if why.contains("no server certificate") => TlsFailure::NoCertificate,
        _ => TlsFailure::Malformed,
    }
}

/// What ends the wait for a handshake.
enum Failed {
    Cut(Cut),
    Session(SessionError),
}

impl From<Cut> for Failed {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

// RFC 8446 section 6.2.
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const INSUFFICIENT_SECURITY: u8 = 71;

const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 60\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n\
    This port speaks HTTPS. Please use https:// in the address.\n";
