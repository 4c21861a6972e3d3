//! A client's HTTP/2 connection: streams are accepted, counted, and served side by side.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request as Message;
use phalanx_model::counters::LimitReached;
use phalanx_model::limits::LINGER_MAX_MS;
use phalanx_model::{BodyFraming, CheckKind, FramingFault, HttpVersion, RequestHead, Span, Verdict};

use super::head::request_head;
use super::meter::{Meter, Metered};
use super::stream::Stream;
use super::watch::{Watch, Watched};
use crate::check::{self, Asked, grpc};
use crate::client::{Arrived, Client};
use crate::client_certificate::OpenedBy;
use crate::control::{Activity, Control};
use crate::events;
use crate::pipeline;
use crate::proxied::Proxied;
use crate::request::Request;
use crate::settings::EdgeLimits;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::tls::handshake::Agreed;
use crate::worker::Worker;

/// What a client that speaks HTTP/2 begins with (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(crate) async fn serve(mut client: Client) {
    // Apart from the client, of whom something may be told while the codec has its bytes.
    let mut socket = client.socket.take();
    serve_streams(&client, &mut socket).await;
    client.socket = socket;
    client.linger().await;
}

async fn serve_streams(client: &Client, socket: &mut Socket) {
    let streams = Rc::new(Streams::new(client));
    let worker = Rc::clone(&client.worker);
    let control = Rc::clone(&client.control);
    let limits = &worker.shared.settings.limits;
    control.set_deadline(worker.after_ms(limits.head_ms));
    let meter = Rc::new(Meter::new(limits.h2_control_frames, worker.now_ms()));
    let socket = Watched::new(Metered::new(socket, &worker, &meter), &streams.watch);
    // In a box, which is gone when the connection is there.
    let shaken = Box::pin(shake(socket, &streams, &meter)).await;
    let Ok(mut connection) = shaken else { return };
    streams.rest();
    loop {
        match next(&mut connection, client, &streams, &meter).await {
            Ok(Some((message, respond))) => streams.begin(message, respond),
            Ok(None) => return,
            Err(stop) => {
                // Says which streams were seen, so that a client can send again what was not (RFC 9113 section 6.8).
                if matches!(stop, Stop::Cut(_)) {
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    // Written as far as it goes at once; whoever does not read it gets no more time.
                    let _ = poll_fn(|cx| Poll::Ready(connection.poll_closed(cx))).await;
                }
                return control.clear_timeout();
            }
        }
        if streams.are_abused() {
            worker.counters.count_limit(LimitReached::H2Resets);
            tracing::debug!(peer = %streams.peer, "streams are opened and given up, connection ended");
            streams.hurry();
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }
}

/// Reads the preface and sends settings.
async fn shake<'a>(
    socket: Watched<'a>,
    streams: &Streams,
    meter: &Meter,
) -> Result<Connection<Watched<'a>, Bytes>, Stop> {
    let worker = &streams.worker;
    let mut handshake =
        pin!(builder(&worker.shared.settings.limits, streams.check.is_some()).handshake(socket));
    let shaken = streams.control.run(|cx| {
        meter.begin_turn(worker.now_ms());
        handshake.as_mut().poll(cx).map_err(|_| Stop::ClientGone)
    });
    shaken.await
}

type Accepted = (Message<RecvStream>, SendResponse<Bytes>);

/// The next stream; none when no more comes.
async fn next(
    connection: &mut Connection<Watched<'_>, Bytes>,
    client: &Client,
    streams: &Streams,
    meter: &Meter,
) -> Result<Option<Accepted>, Stop> {
    let worker = &streams.worker;
    streams
        .control
        .run(|cx| {
            meter.begin_turn(worker.now_ms());
            if streams.end() {
                connection.graceful_shutdown();
            }
            loop {
                let accepted = connection.poll_accept(cx);
                if !matches!(accepted, Poll::Ready(Some(Ok(_)))) {
                    // All that were accepted have begun: what else was reset is known to nobody.
                    streams.record_refused(client);
                }
                if let Some(reason) = meter.tells_fault() {
                    match reason {
                        Reason::ENHANCE_YOUR_CALM => worker.counters.count_limit(LimitReached::H2ControlFrames),
                        _ => record_refusal(client, FramingFault::BadStream),
                    }
                    tracing::debug!(peer = %streams.peer, %reason, "frames as they may not be, connection ended");
                    streams.hurry();
                    connection.abrupt_shutdown(reason);
                    continue;
                }
                return Poll::Ready(ready!(accepted).transpose().map_err(|error| ended(client, &error)));
            }
        })
        .await
}

/// Takes note of why the codec ends a connection, where it is the client's fault.
fn ended(client: &Client, error: &h2::Error) -> Stop {
    match error.reason().filter(|_| error.is_library()) {
        Some(Reason::ENHANCE_YOUR_CALM) => client.worker.counters.count_limit(LimitReached::H2Codec),
        Some(Reason::NO_ERROR) | None => {}
        Some(_) => record_refusal(client, FramingFault::BadStream),
    }
    Stop::ClientGone
}

/// What the codec refused is a request all the same, if one whose head nobody has seen.
fn record_refusal(client: &Client, fault: FramingFault) {
    let head = RequestHead {
        raw: Bytes::new(),
        method: Span::default(),
        target: Span::default(),
        version: HttpVersion::Http2,
        fields: Vec::new(),
        framing: BodyFraming::None,
        faults: vec![fault],
    };
    let mut request = Box::new(Request::begin(client, Arrived { head, started: Instant::now(), head_us: 0 }));
    request.verdict = Verdict::deny(phalanx_model::Reason::Framing { fault }, 400);
    events::record(client, &mut request);
}

fn builder(limits: &EdgeLimits, asks: bool) -> Builder {
    let head = if asks { check::head_limits(limits.head) } else { limits.head };
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(head.bytes).unwrap_or(u32::MAX))
        .header_table_size(HEADER_TABLE_BYTES)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX));
    builder
}

/// What the streams of a connection share.
pub(crate) struct Streams {
    worker: Rc<Worker>,
    /// The connection's.
    control: Rc<Control>,
    peer: SocketAddr,
    local: SocketAddr,
    /// What the connection's handshake told, if there was one.
    tls: Option<Agreed>,
    /// By which rule of an app's it went, if by one.
    opened: Option<Rc<OpenedBy>>,
    /// The connection's place among the worker's.
    slot: usize,
    actor: Option<IpAddr>,
    /// Which listener for questions of other proxies the connection came to, if to one.
    check: Option<usize>,
    idle_ms: Cell<u64>,
    open: Cell<u32>,
    begun: Cell<u64>,
    given_up: Cell<u64>,
    ending: Cell<bool>,
    proxied: Option<Proxied>,
    /// What was seen of the connection's bytes.
    watch: Rc<Watch>,
    /// The streams that were served last.
    served: RefCell<VecDeque<u32>>,
}

impl Streams {
    fn new(client: &Client) -> Self {
        Self {
            worker: Rc::clone(&client.worker),
            control: Rc::clone(&client.control),
            peer: client.peer,
            local: client.local,
            tls: client.tls,
            opened: client.opened.clone(),
            slot: client.slot(),
            actor: client.control.client.get(),
            check: client.check,
            idle_ms: Cell::new(client.idle_ms()),
            open: Cell::new(0),
            begun: Cell::new(0),
            given_up: Cell::new(0),
            ending: Cell::new(false),
            proxied: client.proxied,
            watch: Rc::default(),
            served: RefCell::default(),
        }
    }

    /// Records the streams that the codec refused without telling of them. What is reset in the middle of a request is in that
    /// request's own event.
    fn record_refused(&self, client: &Client) {
        for refused in self.watch.take_refused() {
            if self.served.borrow().contains(&refused.stream) {
                continue;
            }
            self.remember(refused.stream);
            let fault = if refused.answered { FramingFault::HeadTooLarge } else { FramingFault::BadStream };
            record_refusal(client, fault);
        }
    }

    /// Takes note that of this stream there is an event, or will be one. What the codec still sends of it is sent while it is among
    /// the last.
    fn remember(&self, stream: u32) {
        let mut served = self.served.borrow_mut();
        if served.len() >= SERVED_KEPT {
            served.pop_front();
        }
        served.push_back(stream);
    }

    /// Serves a stream in a task of its own.
    fn begin(self: &Rc<Self>, message: Message<RecvStream>, mut respond: SendResponse<Bytes>) {
        // Streams that the client gave up do not count for the codec, and their tasks may not have noticed yet.
        self.remember(respond.stream_id().as_u32());
        let limits = &self.worker.shared.settings.limits;
        if self.open.get() >= limits.h2_streams {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        self.begun.set(self.begun.get() + 1);
        let (parts, body) = message.into_parts();
        let opened = Opened::count(self);
        if self.asks_with_grpc() {
            let asked = Asked { kind: CheckKind::ExtAuthz, by: self.peer };
            let client = Client::of_question(&self.worker, asked, self.local);
            tokio::task::spawn_local(async move {
                grpc::serve(client, parts, body, respond).await;
                drop(opened);
            });
            return;
        }
        let head_limits = self.check.map_or(limits.head, |_| check::head_limits(limits.head));
        let head = request_head(&parts, body.is_end_stream(), head_limits);
        let arrived = Arrived { head, started: Instant::now(), head_us: 0 };
        let mut client = Client::of_stream(&self.worker, Stream::new(body, respond), self.peer, self.local);
        client.tls = self.tls;
        client.opened.clone_from(&self.opened);
        client.check = self.check;
        client.proxied = self.proxied;
        client.http_print = self.watch.print();
        client.control.ja4.set(self.control.ja4.get());
        client.control.place.set(self.control.place.get());
        tokio::task::spawn_local(serve_stream(client, arrived, opened));
    }

    /// Whether its streams are calls of Envoy's.
    fn asks_with_grpc(&self) -> bool {
        let listeners = &self.worker.shared.settings.check_listen;
        self.check.and_then(|place| listeners.get(place)).is_some_and(|one| one.kind == CheckKind::ExtAuthz)
    }

    /// No stream is open: the connection may be cut, and is when it stays so for too long.
    fn rest(&self) {
        self.control.rests(self.worker.now_ms());
        self.control.client.set(self.actor);
        self.control.set_deadline(self.worker.after_ms(self.idle_ms.get()));
    }

    /// The connection ends, whether its client reads why or not.
    fn hurry(&self) {
        self.idle_ms.set(LINGER_MAX_MS);
        if self.open.get() == 0 {
            self.rest();
        }
    }

    /// Streams have deadlines of their own; a ban cuts them, and the connection ends after what is told to the client.
    fn work(&self) {
        self.control.activity.set(Activity::Refusing);
        self.control.set_deadline(u64::MAX);
    }

    /// Whether no more streams are to come, the first time that it is so.
    fn end(&self) -> bool {
        let spent = self.begun.get() >= self.worker.shared.settings.limits.requests_per_connection;
        let ends = self.control.ends.get() || spent || self.worker.leaving.lets_go(self.slot);
        let first = ends && !self.ending.replace(true);
        if first && spent {
            self.worker.counters.count_limit(LimitReached::RequestsPerConnection);
        }
        first
    }

    /// Whether the client opens streams only to give them up (CVE-2023-44487).
    fn are_abused(&self) -> bool {
        let given_up = self.given_up.get();
        given_up >= self.worker.shared.settings.limits.h2_given_up
            && given_up.saturating_mul(2) > self.begun.get()
    }
}

/// An open stream's place in its connection.
struct Opened(Rc<Streams>);

impl Opened {
    fn count(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        streams.work();
        Self(Rc::clone(streams))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        if self.0.open.get() == 0 {
            self.0.rest();
        }
    }
}

async fn serve_stream(mut client: Client, arrived: Arrived, opened: Opened) {
    if client.check.is_some() {
        // A proxy gives streams up when its clients leave: that is no abuse of it.
        check::answer(&mut client, arrived).await;
        return drop(client);
    }
    let mut request = Box::new(Request::begin(&client, arrived));
    pipeline::serve(&mut client, &mut request).await;
    let streams = &opened.0;
    if client.socket.was_given_up() {
        streams.given_up.set(streams.given_up.get() + 1);
    } else if !request.keep_alive && request.verdict.refuses() {
        // As an HTTP/1 connection ends after such a refusal.
        streams.control.ends.set(true);
    }
    // Before the place, so that the connection does not rest while the stream is there.
    drop(client);
}

/// Streams that are known to have been served: more than there can be at once.
const SERVED_KEPT: usize = 256;
/// What header compression may remember.
const HEADER_TABLE_BYTES: u32 = 4_096;
/// What a client may send of a stream before it is read. With the connection's: the memory that unread bodies take.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// Of a response that waits for the client.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Streams that the codec resets because of errors, until it ends the connection.
const LOCAL_RESETS_MAX: usize = 100;
