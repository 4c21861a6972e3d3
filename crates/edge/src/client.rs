//! A client: an HTTP/1 connection, heads and bodies in, replies out; or one stream of an HTTP/2 connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use phalanx_model::counters::LimitReached;
use phalanx_model::limits::LINGER_MAX_MS;
use phalanx_model::{BodyFraming, FramingFault, RequestHead};
use tokio::net::TcpStream;

use crate::check::{self, Asked};
use crate::client_certificate::OpenedBy;
use crate::control::{Activity, Control, Cut};
use crate::http1::{BodyDecoder, HeadReader, trailers};
use crate::http2::{PREFACE, Stream};
use crate::introduced::Kept;
use crate::pace::Pace;
use crate::plan::AppPlan;
use crate::proxied::Proxied;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::tables::Admission;
use crate::tls::handshake::Agreed;
use crate::worker::{TICK_MS, Worker};

/// A connection from a client, or one stream of it.
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) control: Rc<Control>,
    pub(crate) socket: Socket,
    /// Where the current request's body stands.
    pub(crate) body: BodyDecoder,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) awaits_continue: bool,
    /// The peer was banned when it connected.
    pub(crate) peer_is_banned: bool,
    /// It is the node itself, which attacks itself; see [`crate::selftest`].
    pub(crate) tests_itself: bool,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Which TLS listener it came to, if to one.
    pub(crate) tls_listener: Option<usize>,
    /// What its handshake told, once there was one.
    pub(crate) tls: Option<Agreed>,
    /// By which rule of an app's its handshake went, if by one.
    pub(crate) opened: Option<Rc<OpenedBy>>,
    /// How long connecting to upstreams took for the current request, in microseconds.
    connect_us: Cell<u64>,
    /// Which listener for questions of other proxies it came to, if to one.
    pub(crate) check: Option<usize>,
    /// Which listener for TCP it came to, if to one.
    pub(crate) tcp: Option<usize>,
    /// Who asked, where it stands for a client of another proxy.
    pub(crate) asked: Option<Asked>,
    /// A PROXY header comes before all else.
    pub(crate) awaits_proxy_header: bool,
    /// By whom the connection was passed on, once such a header was read.
    pub(crate) proxied: Option<Proxied>,
    /// How the client writes HTTP, once that was seen.
    pub(crate) http_print: Option<Arc<str>>,
    /// A connection to an upstream that was told whose it is, between two requests.
    pub(crate) kept: Cell<Option<Box<Kept>>>,
    /// The peer as an actor; `None` for a trusted forwarder.
    actor: Option<IpAddr>,
    heads: HeadReader,
    slot: usize,
    /// Heads that have been read.
    served: u64,
    /// What is left of the time to send the body, and to take the reply.
    reading: Pace,
    writing: Pace,
    /// A connection's place among all; its streams have none of their own.
    admission: Option<Admission>,
}

/// A head, and when its first byte was there.
pub(crate) struct Arrived {
    pub(crate) head: RequestHead,
    pub(crate) started: Instant,
    /// Microseconds until its last byte was there, where that was later.
    pub(crate) head_us: u64,
}

impl Client {
    /// Takes charge of an accepted connection.
    pub(crate) fn open(
        worker: &Rc<Worker>,
        (stream, peer): (TcpStream, SocketAddr),
        tls_listener: Option<usize>,
        actor: Option<IpAddr>,
        admission: Admission,
    ) -> Self {
        let local = stream.local_addr().unwrap_or(peer);
        let mut client = Self::over(worker, Socket::new(stream), peer, local, actor);
        client.admission = Some(admission);
        client.tls_listener = tls_listener;
        client
    }

    /// The connection turned out to be this actor's, whose connections are counted; `None` for a trusted forwarder's.
    pub(crate) fn assign(&mut self, actor: Option<IpAddr>, per_actor: usize) -> Result<(), &'static str> {
        self.actor = actor;
        self.control.client.set(actor);
        match (&mut self.admission, actor) {
            (Some(admission), Some(actor)) => admission.assign(actor, per_actor),
            _ => Ok(()),
        }
    }

    /// Whether a balancer speaks for itself here, or does not say for whom.
    pub(crate) fn is_for_nobody(&self) -> bool {
        self.proxied.is_some_and(|proxied| proxied.for_nobody)
    }

    /// Takes charge of a stream of an HTTP/2 connection between these addresses.
    pub(crate) fn of_stream(
        worker: &Rc<Worker>,
        stream: Stream,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Self {
        let client = Self::over(worker, Socket::of_stream(stream), peer, local, None);
        client.control.activity.set(Activity::Busy);
        client.control.spared.set(false);
        client
    }

    /// Stands for whoever sent another proxy a request that it asks about: with no connection, and until it is known who it is in the
    /// proxy's own name.
    pub(crate) fn of_question(worker: &Rc<Worker>, asked: Asked, local: SocketAddr) -> Self {
        let mut client = Self::over(worker, Socket::of_memory(), asked.by, local, None);
        client.control.activity.set(Activity::Busy);
        client.asked = Some(asked);
        client
    }

    /// Stands for a client that is only thought of, at `peer`.
    pub(crate) fn of_rehearsal(worker: &Rc<Worker>, peer: SocketAddr, local: SocketAddr) -> Self {
        let client = Self::over(worker, Socket::of_memory(), peer, local, Some(peer.ip()));
        client.control.activity.set(Activity::Busy);
        client
    }

    fn over(
        worker: &Rc<Worker>,
        socket: Socket,
        peer: SocketAddr,
        local: SocketAddr,
        actor: Option<IpAddr>,
    ) -> Self {
        let control = Rc::new(Control::new(actor));
        let slot = worker.connections.insert(Rc::clone(&control));
        let limits = &worker.shared.settings.limits;
        Self {
            worker: Rc::clone(worker),
            control,
            socket,
            body: BodyDecoder::length(0),
            awaits_continue: false,
            peer_is_banned: false,
            tests_itself: false,
            peer,
            local,
            tls_listener: None,
            tls: None,
            opened: None,
            connect_us: Cell::new(0),
            check: None,
            tcp: None,
            asked: None,
            awaits_proxy_header: false,
            proxied: None,
            http_print: None,
            kept: Cell::new(None),
            actor,
            heads: HeadReader::default(),
            slot,
            served: 0,
            reading: Pace::new(limits.body_gap_ms),
            writing: Pace::new(limits.write_gap_ms),
            admission: None,
        }
    }

    /// The next request's head; `None` when no more comes. A head that does not arrive in time comes with that fault.
    pub(crate) async fn next_head(&mut self) -> Option<Arrived> {
        let limits = &self.worker.shared.settings.limits;
        let head_limits = self.check.map_or(limits.head, |_| check::head_limits(limits.head));
        let head_ms = limits.head_ms;
        // A connection that came while the node is out of service still gets its one answer: whoever sent it may not know yet.
        let leaving = &self.worker.leaving;
        let over = match leaving.draining.get() {
            // Who was not told that the last reply was the last may be asking already, while another process takes over.
            true => leaving.hurries(self.slot),
            false => self.lets_go() && self.served > 0,
        };
        if self.control.ends.get() || over && self.socket.input.is_empty() {
            return None;
        }
        self.control.rests(self.worker.now_ms());
        self.control.client.set(self.actor);
        self.control.set_deadline(self.worker.after_ms(self.idle_ms()));
        let (mut started, mut waited) = (None, false);
        loop {
            if !self.socket.input.is_empty() && started.is_none() {
                started = Some(Instant::now());
                self.control.activity.set(Activity::Busy);
                self.control.set_deadline(self.worker.after_ms(head_ms));
            }
            if let Some(started) = started
                && let Some(head) = self.heads.read(&mut self.socket.input, head_limits)
            {
                self.served += 1;
                // A head that came at once took no time worth a look at the clock.
                let head_us = if waited { micros(started.elapsed()) } else { 0 };
                return Some(Arrived { head, started, head_us });
            }
            waited = started.is_some();
            match self.fill().await {
                Ok(1..) => {}
                Ok(0) => return None,
                Err(Stop::Cut(Cut::Timeout)) => {
                    self.control.clear_timeout();
                    if started.is_some() {
                        self.worker.counters.count_limit(LimitReached::HeadTime);
                    }
                    let head = self.heads.give_up(&mut self.socket.input, head_limits);
                    return started.map(|started| Arrived {
                        head,
                        started,
                        head_us: micros(started.elapsed()),
                    });
                }
                Err(_) => return None,
            }
        }
    }

    /// Adds to the time that connecting took.
    pub(crate) fn note_connect(&self, took: Duration) {
        // Never 0: a connection was made.
        self.connect_us.set(self.connect_us.get().saturating_add(micros(took).max(1)));
    }

    /// How long connecting took for this request, in microseconds.
    pub(crate) fn connect_us(&self) -> u64 {
        self.connect_us.get()
    }

    /// Whether the connection has served as many requests as one may; the reply to the last says so.
    pub(crate) fn is_spent(&self) -> bool {
        let spent = self.served >= self.worker.shared.settings.limits.requests_per_connection;
        if spent {
            self.worker.counters.count_limit(LimitReached::RequestsPerConnection);
        }
        spent
    }

    /// Whether the connection ends with the request under way, as the node has it.
    pub(crate) fn lets_go(&self) -> bool {
        self.worker.leaving.lets_go(self.slot)
    }

    /// Its place among the worker's.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// How long the client may take until it asks for something.
    pub(crate) fn idle_ms(&self) -> u64 {
        let idle_ms = self.worker.shared.settings.limits.idle_ms;
        if self.peer_is_banned { BANNED_IDLE_MS.min(idle_ms) } else { idle_ms }
    }

    /// How long nobody may say anything on a connection that is carried.
    pub(crate) fn silence_ms(&self) -> u64 {
        let settings = &self.worker.shared.settings;
        let listener = self.tcp.and_then(|place| settings.tcp_listen.get(place));
        listener.and_then(|listener| listener.idle_ms).unwrap_or(settings.limits.tunnel_idle_ms)
    }

    /// Whether the client begins as one that speaks HTTP/2 without having agreed on it (RFC 9113 section 3.3).
    pub(crate) async fn begins_with_http2(&mut self) -> bool {
        self.control.rests(self.worker.now_ms());
        self.control.set_deadline(self.worker.after_ms(self.idle_ms()));
        loop {
            let known = self.socket.input.len().min(PREFACE.len());
            if self.socket.input.get(..known) != PREFACE.get(..known) {
                return false;
            }
            // `P` may begin a POST, `PR` a PROPFIND.
            if known == PREFACE.len() {
                return true;
            }
            match self.fill().await {
                Ok(1..) => {}
                // Whatever it is, it is no whole preface: as a head it gets its answer.
                Ok(0) | Err(_) => {
                    self.control.clear_timeout();
                    return false;
                }
            }
        }
    }

    /// Starts on a request's body.
    pub(crate) fn begin_body(&mut self, framing: BodyFraming) {
        self.connect_us.set(0);
        let limits = &self.worker.shared.settings.limits;
        self.reading = Pace::new(limits.body_gap_ms);
        self.writing = Pace::new(limits.write_gap_ms);
        self.body = match framing {
            BodyFraming::None => BodyDecoder::length(0),
            BodyFraming::Length(bytes) => BodyDecoder::length(bytes),
            BodyFraming::Chunked if self.socket.is_stream() => BodyDecoder::until_close(),
            BodyFraming::Chunked => BodyDecoder::chunked(),
        };
    }

    /// Reads more of a request's body, which may turn out to be whole. `replied`: the reply has begun, so that the body may be one half
    /// of a conversation, in which a client pauses as long as it keeps to the longest pause.
    pub(crate) fn poll_more_body(&mut self, cx: &mut Context<'_>, replied: bool) -> Poll<Result<(), Stop>> {
        let now_ms = self.worker.now_ms();
        let until_ms = self.reading.wait(now_ms);
        self.control.set_deadline(until_ms.saturating_add(TICK_MS));
        let read = ready!(self.poll_fill(cx))?;
        let limits = &self.worker.shared.settings.limits;
        let rate = if replied { 0 } else { limits.body_rate };
        self.reading.moved(read, rate, limits.body_gap_ms, now_ms);
        Poll::Ready(match read {
            1.. => Ok(()),
            0 if self.body.ends_with_connection() => {
                self.body = BodyDecoder::length(0);
                Ok(())
            }
            0 => Err(Stop::ClientGone),
        })
    }

    /// The field lines behind the request's body that may pass; there once the body is whole. None tells of the client there.
    pub(crate) fn trailers(&self, app: &AppPlan) -> Vec<u8> {
        let tells = |name: &[u8]| {
            app.client_address.is_named(name)
                || app.client_certificate.as_ref().is_some_and(|asked| asked.takes(name))
        };
        match (self.body.trailers(), self.socket.trailers()) {
            ([], []) => Vec::new(),
            ([], lines) | (lines, _) => trailers::passed(lines, tells),
        }
    }

    /// Reads more of a request's body.
    pub(crate) async fn more_body(&mut self) -> Result<(), Stop> {
        let control = Rc::clone(&self.control);
        control.run(|cx| self.poll_more_body(cx, false)).await
    }

    /// The same, but that a pause is no fault; false where nothing came for so long.
    pub(crate) async fn more_body_within(&mut self, pause_ms: u64) -> Result<bool, Stop> {
        let control = Rc::clone(&self.control);
        let until_ms = self.worker.after_ms(pause_ms);
        let more = control.run(|cx| {
            let polled = self.poll_more_body(cx, false);
            self.control.set_deadline(until_ms);
            polled
        });
        match more.await {
            Err(Stop::Cut(Cut::Timeout)) => {
                self.control.clear_timeout();
                Ok(false)
            }
            more => more.map(|()| true),
        }
    }

    /// Takes the next stretch of body out of the input, at most `max` bytes of it; gives it to `take`. False: there is
    /// no more input, or the body is complete.
    pub(crate) fn next_body(
        &mut self,
        max: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<bool, FramingFault> {
        let input = self.socket.input.get(..max.min(self.socket.input.len())).unwrap_or_default();
        let step = self.body.step(input)?;
        let data = input.get(step.data).unwrap_or_default();
        if !data.is_empty() {
            take(data);
        }
        self.socket.consume(step.consumed);
        Ok(step.consumed > 0 && !self.body.is_done())
    }

    /// Tells a waiting client to send its body (RFC 9110 section 10.1.1).
    pub(crate) async fn send_continue(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.awaits_continue) && self.socket.input.is_empty() {
            self.output().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.socket.head_written(0, false)?;
            self.flush().await?;
        }
        Ok(())
    }

    /// The output buffer.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        if self.socket.output.capacity() == 0 {
            self.socket.output = self.worker.take_buffer();
        }
        let worker = &self.worker;
        self.socket.borrow_buffer(|| worker.take_buffer());
        &mut self.socket.output
    }

    /// Reads once; 0 at the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Stop>> {
        let socket = &mut self.socket;
        self.worker.with_scratch(|scratch| socket.poll_fill(cx, scratch)).map_err(Stop::from)
    }

    /// Writes all output; what the client takes of it earns it more time.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        if !self.socket.has_output() {
            return Poll::Ready(Ok(()));
        }
        let mut progress = false;
        let before = self.socket.unwritten();
        let flushed = self.socket.poll_flush(cx, &mut progress);
        if progress {
            let limits = &self.worker.shared.settings.limits;
            let taken = before.saturating_sub(self.socket.unwritten());
            self.writing.moved(taken, limits.write_rate, limits.write_gap_ms, self.worker.now_ms());
        }
        if flushed.is_pending() {
            self.allow_write_time();
        }
        Poll::Ready(Ok(ready!(flushed)?))
    }

    /// Writes all output.
    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        self.allow_write_time();
        let control = Rc::clone(&self.control);
        control.run(|cx| self.poll_flush(cx)).await
    }

    /// Sets the deadline for a client that has to take some of a reply.
    pub(crate) fn allow_write_time(&mut self) {
        let until_ms = self.writing.wait(self.worker.now_ms());
        self.control.set_deadline(until_ms.saturating_add(TICK_MS));
    }

    /// Most bytes of a response that are read at once, and kept while the client takes none of them: an HTTP/2 connection has a hundred
    /// streams, and each may wait for its window with that.
    pub(crate) fn read_bytes_max(&self) -> usize {
        if self.socket.is_stream() { STREAM_READ_BYTES_MAX } else { usize::MAX }
    }

    /// Reads once; 0 at the end of the stream.
    pub(crate) async fn fill(&mut self) -> Result<usize, Stop> {
        let control = Rc::clone(&self.control);
        control.run(|cx| self.poll_fill(cx)).await
    }

    /// Gives back what an idle connection does not need.
    pub(crate) fn release_memory(&mut self) {
        self.give_buffers();
        if self.socket.input.is_empty() {
            self.socket.input = BytesMut::new();
        }
    }

    fn give_buffers(&mut self) {
        self.worker.give_buffer(self.socket.take_output());
        self.worker.give_buffer(self.socket.return_buffer());
    }

    /// Ends the connection after what was written is with the client. With TLS the client is told that this is all:
    /// without that it cannot tell a reply that ends with its connection from one that was cut.
    pub(crate) async fn close(mut self) {
        if self.socket.session().is_none() {
            return;
        }
        let control = Rc::clone(&self.control);
        let socket = &mut self.socket;
        // Also where the connection is cut: it costs no wait.
        let at_once = poll_fn(|cx| Poll::Ready(socket.poll_shutdown(cx))).await;
        if at_once.is_pending() {
            self.allow_write_time();
            let socket = &mut self.socket;
            let _: Result<(), Stop> = control.run(|cx| socket.poll_shutdown(cx).map_err(Stop::from)).await;
        }
    }

    /// Closes the sending side and reads on for a while: a reset for unread input would reach the client before the
    /// reply does (RFC 9112 section 9.6).
    pub(crate) async fn linger(mut self) {
        self.control.set_deadline(self.worker.after_ms(LINGER_MAX_MS));
        let control = Rc::clone(&self.control);
        let socket = &mut self.socket;
        let shut: Result<(), Stop> = control.run(|cx| socket.poll_shutdown(cx).map_err(Stop::from)).await;
        if shut.is_err() {
            return;
        }
        let mut left = LINGER_BYTES_MAX;
        loop {
            self.socket.input.clear();
            match self.fill().await {
                Ok(0) | Err(_) => return,
                Ok(read) if read > left => return,
                Ok(read) => left -= read,
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.give_buffers();
        self.worker.connections.remove(self.slot);
        if self.admission.is_some() {
            self.worker.connection_closed();
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A record of TLS, should it come that way, and some.
const STREAM_READ_BYTES_MAX: usize = 20 * 1024;
/// How long a banned client may wait with its first request.
const BANNED_IDLE_MS: u64 = 2_000;
/// Most bytes read from a client that is told to stop; an upload of this size is not cut by the reset.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;
