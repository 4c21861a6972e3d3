//! One request with its upstream: the head and body out, the response head back, bodies streamed both ways at once.
//!
//! Everything runs in the client's own task. Memory is bounded: nothing more is read from one side before what was
//! read has been written to the other.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::{BodyFraming, FramingFault, HttpVersion, Reason, Verdict};

use crate::balance;
use crate::balance::group::Endpoint;
use crate::balance::retry::{Tries, Went};
use crate::balance::slot::Slot;
use crate::client::Client;
use crate::control::Cut;
use crate::forward::{Forwarded, requested_upgrade, write_request_head};
use crate::http1::{
    BodyDecoder, FieldKind, ResponseError, ResponseFraming, ResponseHead, encode, read_response_head,
};
use crate::pipeline::reserve;
use crate::reply::Reply;
use crate::request::Request;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::upstream::{self, ConnectError};

/// A request that its upstream is answering.
pub(crate) struct Exchange {
    slot: Slot,
    pub(crate) upstream: Socket,
    pub(crate) response: ResponseHead,
    /// Where the response's body stands.
    pub(crate) body: BodyDecoder,
    sending: Sending,
    /// The response's body ended before it was complete.
    truncated: bool,
}

/// What is held of a response's body.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) body: Vec<u8>,
    /// That is all of it.
    pub(crate) complete: bool,
    /// There was no memory for more: the limit that stands against it.
    pub(crate) limit: Option<&'static str>,
}

/// Where the request's way to the upstream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// More of the body is to come from the client.
    Body { chunked: bool },
    /// All is written, or waits in the output buffer.
    Done,
    /// The upstream takes no more; its answer may still come.
    Failed,
}

/// What went wrong with an upstream.
#[derive(Debug)]
enum Failure {
    Stop(Stop),
    Connect(ConnectError),
    Io(io::Error),
    Closed,
    Response(ResponseError),
}

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Self {
        Self::Stop(cut.into())
    }
}

/// A try that did not lead to a response.
struct Failed {
    slot: Slot,
    failure: Failure,
    /// Some of the request was sent.
    sent: bool,
    /// Some of a response has arrived.
    answered: bool,
}

/// Sends a request with its held body, and waits for the response head; where that fails and [`Tries`] allow it, once more elsewhere.
pub(crate) async fn ask(client: &mut Client, request: &mut Request, held: &Bytes) -> Result<Exchange, Stop> {
    let complete = client.body.is_done();
    let mut tries = Tries::new(complete && is_idempotent(request.head.method()));
    let total_ms = request.app().limits.upstream_total_ms;
    client.control.set_limit(client.worker.after_ms(total_ms));
    let mut slot = balance::slot::choose(client, request).await?;
    loop {
        let tried = try_one(client, request, held, complete, slot).await;
        let (failed_at, went) = match &tried {
            Ok(exchange) => (&exchange.slot.endpoint, Went::Answered(exchange.response.status)),
            Err(failed) => (&failed.slot.endpoint, failed.went(client)),
        };
        let next = tries.next(client, request, failed_at, went);
        match (next, tried) {
            (Some(next), _) => {
                client.control.clear_timeout();
                slot = next;
            }
            (None, Ok(exchange)) => return Ok(exchange),
            (None, Err(failed)) => return Err(ask_failed(client, request, failed)),
        }
    }
}

/// One try, at the endpoint of `slot`.
async fn try_one(
    client: &mut Client,
    request: &mut Request,
    held: &Bytes,
    complete: bool,
    slot: Slot,
) -> Result<Exchange, Failed> {
    slot.begins();
    request.upstream = Some(Arc::clone(&slot.endpoint.key));
    let replayable = complete && is_idempotent(request.head.method());
    let mut fresh = false;
    loop {
        let connected = upstream::connect(client, request.app(), &slot.endpoint, fresh).await;
        let (mut upstream, reused) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let failure = Failure::Connect(error);
                return Err(Failed::note(client, request, slot, failure, (false, false)));
            }
        };
        // What an earlier request sent on this connection does not count.
        let _ = upstream.has_sent();
        let sending = begin(client, request, &slot.endpoint, &mut upstream.output, held, complete);
        client.control.set_deadline(client.worker.after_ms(request.app().limits.upstream_head_ms));
        let mut asking = Asking { upstream, sending, sent: false, answered: false };
        match asking.response_head(client, request).await {
            Ok(response) => {
                request.upstream_answered(client);
                slot.answered(request.app(), response.status);
                let body = match response.framing {
                    ResponseFraming::None => BodyDecoder::length(0),
                    ResponseFraming::Length(bytes) => BodyDecoder::length(bytes),
                    ResponseFraming::Chunked => BodyDecoder::chunked(),
                    ResponseFraming::UntilClose => BodyDecoder::until_close(),
                };
                let Asking { upstream, sending, .. } = asking;
                return Ok(Exchange { slot, upstream, response, body, sending, truncated: false });
            }
            // The upstream closed an idle connection just as we used it, which is no failure of its. What is safe to repeat is sent
            // once more, over a new connection (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
            Err(Failure::Io(_) | Failure::Closed)
                if reused && (replayable || !asking.sent) && !asking.answered =>
            {
                fresh = true;
            }
            Err(failure) => {
                let how_far = (asking.sent, asking.answered);
                return Err(Failed::note(client, request, slot, failure, how_far));
            }
        }
    }
}

impl Failed {
    /// Takes note of a try that failed, on the upstream's account if it is its fault.
    fn note(
        client: &Client,
        request: &Request,
        slot: Slot,
        failure: Failure,
        (sent, answered): (bool, bool),
    ) -> Self {
        let failed = Self { slot, failure, sent, answered };
        if failed.is_upstreams_fault(client) {
            failed.slot.failed(request.app(), failed.why());
        }
        failed
    }

    /// Neither a client that goes away or sends no body, nor a drain or ban, is the upstream's fault.
    fn is_upstreams_fault(&self, client: &Client) -> bool {
        match &self.failure {
            Failure::Stop(Stop::Cut(Cut::Timeout)) => client.body.is_done(),
            Failure::Connect(ConnectError::Cut(cut)) => *cut == Cut::Timeout,
            Failure::Stop(_) => false,
            Failure::Connect(_) | Failure::Io(_) | Failure::Closed | Failure::Response(_) => true,
        }
    }

    fn went(&self, client: &Client) -> Went {
        match &self.failure {
            Failure::Connect(ConnectError::Cut(Cut::Timeout) | ConnectError::Failed(_)) => Went::Unsent,
            // A client that does not send its body is no upstream's fault.
            Failure::Stop(Stop::Cut(Cut::Timeout)) if client.body.is_done() && !self.answered => {
                Went::TimedOut
            }
            Failure::Stop(_) | Failure::Connect(_) => Went::Otherwise,
            _ if self.answered => Went::Otherwise,
            Failure::Io(_) | Failure::Closed | Failure::Response(_) if !self.sent => Went::Unsent,
            Failure::Io(_) | Failure::Closed | Failure::Response(_) => Went::Unanswered,
        }
    }

    fn why(&self) -> &'static str {
        match &self.failure {
            Failure::Connect(_) => "connecting fails",
            Failure::Stop(_) => "it does not answer in time",
            Failure::Io(_) | Failure::Closed => "it closes without an answer",
            Failure::Response(_) => "its answers are malformed",
        }
    }
}

/// Writes head and held body into the output.
fn begin(
    client: &Client,
    request: &Request,
    endpoint: &Endpoint,
    out: &mut Vec<u8>,
    held: &Bytes,
    complete: bool,
) -> Sending {
    // A chunked body that is here already goes on with its length, which more applications take.
    let framing = match request.head.framing {
        BodyFraming::Chunked if complete => BodyFraming::Length(held.len() as u64),
        framing => framing,
    };
    let app = request.app();
    let peer = client.peer.ip();
    let forwarded = Forwarded {
        head: &request.head,
        known: &request.known,
        framing,
        peer,
        tls: client.tls.is_some(),
        peer_trusted: app.trust_forwarded.contains(peer),
        request_id: &request.id.to_text(),
        trace: &request.trace,
        path_prefix: &endpoint.server.path_prefix,
        upstream_host: endpoint.server.host.as_bytes(),
        upgrade: requested_upgrade(&request.head, &request.known),
    };
    write_request_head(out, &forwarded);
    let chunked = framing == BodyFraming::Chunked;
    if chunked {
        encode::chunk(out, held);
    } else {
        out.extend_from_slice(held);
    }
    if complete { Sending::Done } else { Sending::Body { chunked } }
}

/// A request on its way, before its response head.
struct Asking {
    upstream: Socket,
    sending: Sending,
    /// Some of the request was sent.
    sent: bool,
    /// Some of a response has arrived.
    answered: bool,
}

impl Asking {
    async fn response_head(
        &mut self,
        client: &mut Client,
        request: &mut Request,
    ) -> Result<ResponseHead, Failure> {
        let control = Rc::clone(&client.control);
        control.run(|cx| self.poll_response_head(client, request, cx)).await
    }

    fn poll_response_head(
        &mut self,
        client: &mut Client,
        request: &mut Request,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        let sent = poll_request_body(&mut self.upstream, &mut self.sending, client, request, cx);
        self.sent |= self.upstream.has_sent();
        if let Poll::Ready(Err(stop)) = sent {
            return Poll::Ready(Err(Failure::Stop(stop)));
        }
        loop {
            let head =
                read_response_head(&mut self.upstream.input, request.is_head()).map_err(Failure::Response)?;
            match head {
                Some(head) if head.status >= 200 => return Poll::Ready(Ok(head)),
                Some(head) if head.status == 101 => {
                    let asked = requested_upgrade(&request.head, &request.known).is_some();
                    let malformed = Failure::Response(ResponseError::Malformed);
                    return Poll::Ready(if asked { Ok(head) } else { Err(malformed) });
                }
                Some(head) => pass_interim(client, request, &head, cx),
                None => {
                    if client.socket.poll_given_up(cx).is_ready() {
                        return Poll::Ready(Err(Failure::Stop(Stop::ClientGone)));
                    }
                    let upstream = &mut self.upstream;
                    let filled = client.worker.with_scratch(|scratch| upstream.poll_fill(cx, scratch));
                    match ready!(filled).map_err(Failure::Io)? {
                        0 => return Poll::Ready(Err(Failure::Closed)),
                        _ => self.answered = true,
                    }
                }
            }
        }
    }
}

/// Passes an interim response on (RFC 9110 section 15.2). `100 Continue` has been sent by ourselves where it was due.
fn pass_interim(client: &mut Client, request: &Request, head: &ResponseHead, cx: &mut Context<'_>) {
    let bounded = client.socket.output.len() < INTERIM_BYTES_MAX;
    if head.status == 100 || request.head.version == HttpVersion::Http10 || !bounded {
        return;
    }
    let out = client.output();
    let from = out.len();
    encode::status_line(out, head.status, head.bytes(head.reason));
    write_response_fields(out, head);
    out.extend_from_slice(b"\r\n");
    let _ = client.socket.head_written(from, false);
    // What cannot be written now goes out with the final response.
    let _ = client.poll_flush(cx);
}

/// Moves request body from the client to the upstream; ready when there is no more to move.
fn poll_request_body(
    upstream: &mut Socket,
    sending: &mut Sending,
    client: &mut Client,
    request: &mut Request,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Stop>> {
    let body_gap_ms = client.worker.shared.settings.limits.body_gap_ms;
    let upstream_head_ms = request.app().limits.upstream_head_ms;
    loop {
        if !upstream.output.is_empty() {
            let mut progress = false;
            match upstream.poll_flush(cx, &mut progress) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    drop(upstream.take_output());
                    *sending = Sending::Failed;
                }
            }
        }
        let Sending::Body { chunked } = *sending else {
            return Poll::Ready(Ok(()));
        };
        move_body(upstream, chunked, client, request)?;
        if client.body.is_done() {
            *sending = Sending::Done;
            client.control.set_deadline(client.worker.after_ms(upstream_head_ms));
        } else if upstream.output.is_empty() {
            client.control.set_deadline(client.worker.after_ms(body_gap_ms));
            ready!(client.poll_more_body(cx))?;
        }
    }
}

/// Moves what has arrived of the body into the upstream's output.
fn move_body(
    upstream: &mut Socket,
    chunked: bool,
    client: &mut Client,
    request: &mut Request,
) -> Result<(), Stop> {
    let out = &mut upstream.output;
    let mut bytes = 0;
    loop {
        let more = client.next_body(usize::MAX, |data| {
            bytes += data.len();
            match chunked {
                true => encode::chunk(out, data),
                false => out.extend_from_slice(data),
            }
        });
        match more {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => return Err(faulty(request, fault)),
        }
    }
    count_body(client, request, bytes)?;
    if client.body.is_done() && chunked {
        encode::last_chunk(out);
    }
    Ok(())
}

/// Counts body bytes read, up to the app's limit.
pub(crate) fn count_body(client: &Client, request: &mut Request, bytes: usize) -> Result<(), Stop> {
    request.request_bytes += bytes as u64;
    let counted = &client.worker.counters.request_body_bytes;
    counted.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
    if request.request_bytes > request.app().limits.body_bytes {
        return Err(faulty(request, FramingFault::BodyTooLarge));
    }
    Ok(())
}

/// Records a fault found after the head; the request is answered with it.
pub(crate) fn faulty(request: &mut Request, fault: FramingFault) -> Stop {
    let reply = Reply::to_fault(&request.head, fault);
    request.head.faults.push(fault);
    request.verdict =
        Verdict { score: request.verdict.score, ..Verdict::deny(Reason::Framing { fault }, reply.status) };
    Stop::Answered(reply)
}

impl Exchange {
    /// Holds response body for inspection, at most `max` bytes of it and as far as there is memory, `before` being what
    /// the request takes without it.
    pub(crate) async fn hold_body(
        &mut self,
        client: &mut Client,
        request: &mut Request,
        max: usize,
        before: usize,
    ) -> Result<Held, Stop> {
        let (mut held, mut limit) = (Vec::new(), None);
        let control = Rc::clone(&client.control);
        control.set_deadline(client.worker.after_ms(request.app().limits.upstream_head_ms));
        let all = control
            .run(|cx| {
                if let Poll::Ready(Err(stop)) =
                    poll_request_body(&mut self.upstream, &mut self.sending, client, request, cx)
                {
                    return Poll::Ready(Err(stop));
                }
                loop {
                    let room = max.saturating_sub(held.len());
                    self.take_body(room, |data| held.extend_from_slice(data));
                    limit = reserve(client, request, before.saturating_add(held.capacity())).err();
                    if self.is_over() || held.len() >= max || limit.is_some() {
                        return Poll::Ready(Ok(()));
                    }
                    if client.socket.poll_given_up(cx).is_ready() {
                        return Poll::Ready(Err(Stop::ClientGone));
                    }
                    ready!(self.poll_more(client, cx));
                }
            })
            .await;
        match all {
            // A slow answer is no fault of the client's: what there is of it is inspected, and the rest streams.
            Err(Stop::Cut(Cut::Timeout)) => control.clear_timeout(),
            other => other?,
        }
        let complete = self.body.is_done() && !self.truncated;
        Ok(Held { body: held, complete, limit })
    }

    /// Sends the response head, what was held of its body, and the rest as it comes.
    pub(crate) async fn respond(
        &mut self,
        client: &mut Client,
        request: &mut Request,
        held: &[u8],
    ) -> Result<(), Stop> {
        let coding = self.coding(request);
        if coding == Coding::UntilClose || client.worker.lets_go() {
            request.keep_alive = false;
        }
        self.write_head(client, request, coding);
        client.socket.head_written(0, self.is_over() && !self.truncated && held.is_empty())?;
        request.replied = true;
        request.status = self.response.status;
        coding.write(client.output(), held);
        request.response_bytes += held.len() as u64;
        let control = Rc::clone(&client.control);
        let mut waits_for = WaitsFor::Neither;
        control.run(|cx| self.poll_respond(client, request, coding, &mut waits_for, cx)).await?;
        let counted = &client.worker.counters.response_body_bytes;
        counted.fetch_add(request.response_bytes, std::sync::atomic::Ordering::Relaxed);
        if self.truncated {
            // The client must see that the body is not whole: its connection ends without the final chunk or byte.
            WorkerCounters::add_one(&client.worker.counters.upstream_errors);
            self.slot.failed(request.app(), "its answers break off");
            request.keep_alive = false;
            return Err(Stop::ClientGone);
        }
        Ok(())
    }

    /// Writes the head that switches protocols (RFC 9110 section 7.8); what follows is the tunnel's.
    pub(crate) fn write_upgrade_head(&self, client: &mut Client, request: &Request) {
        let protocol = self.response.headers().find(|(name, _)| FieldKind::of(name) == FieldKind::Upgrade);
        let out = client.output();
        encode::status_line(out, self.response.status, self.response.bytes(self.response.reason));
        write_response_fields(out, &self.response);
        encode::field(out, b"X-Request-Id", &request.id.to_text());
        encode::field(out, b"Connection", b"Upgrade");
        encode::field(out, b"Upgrade", protocol.map_or(b"websocket".as_slice(), |(_, value)| value));
        out.extend_from_slice(b"\r\n");
    }

    /// Gives the upstream's connection back to the pool if it can serve again.
    pub(crate) fn recycle(mut self, client: &Client) {
        let worker = &client.worker;
        // An upstream may answer before it has read the whole request. What it has not read it would take for the next
        // request: such a connection serves no other.
        let sent = self.sending == Sending::Done && self.upstream.output.is_empty();
        let clean = sent && self.body.is_done() && self.upstream.input.is_empty();
        worker.give_buffer(self.upstream.take_output());
        if clean && self.response.keep_alive && !worker.lets_go() {
            self.upstream.input = bytes::BytesMut::new();
            worker.pool.give(&self.slot.endpoint.key, self.upstream, worker.now_ms());
        }
    }

    fn poll_respond(
        &mut self,
        client: &mut Client,
        request: &mut Request,
        coding: Coding,
        waits_for: &mut WaitsFor,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        let sent = poll_request_body(&mut self.upstream, &mut self.sending, client, request, cx);
        if let Poll::Ready(Err(stop)) = sent {
            return Poll::Ready(Err(stop));
        }
        let mut ended = false;
        loop {
            let out = client.output();
            let room = OUTPUT_BYTES_MAX.saturating_sub(out.len());
            let mut bytes = 0;
            self.take_body(room, |data| {
                bytes += data.len();
                coding.write(out, data);
            });
            request.response_bytes += bytes as u64;
            if self.is_over() && !ended {
                ended = true;
                if coding == Coding::Chunked && !self.truncated {
                    encode::last_chunk(client.output());
                }
                if !self.truncated {
                    client.socket.response_written();
                }
            }
            if client.socket.has_output() {
                if *waits_for != WaitsFor::Client {
                    *waits_for = WaitsFor::Client;
                    client.allow_write_time();
                }
                ready!(client.poll_flush(cx))?;
                continue;
            }
            if ended {
                return Poll::Ready(Ok(()));
            }
            if *waits_for != WaitsFor::Upstream {
                *waits_for = WaitsFor::Upstream;
                client.control.set_deadline(client.worker.after_ms(self.silence_max_ms(client, request)));
            }
            if self.poll_more(client, cx).is_pending() {
                return self.poll_client_gone(client, cx);
            }
            *waits_for = WaitsFor::Neither;
        }
    }

    /// A client that turns away from a stream of events is noticed at once, not with the next event. Elsewhere the end of
    /// its input may be a half-close by a client that still reads.
    fn poll_client_gone(&self, client: &mut Client, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        if client.socket.is_stream() {
            return client.socket.poll_given_up(cx).map(|()| Err(Stop::ClientGone));
        }
        if !is_event_stream(&self.response) || !client.body.is_done() {
            return Poll::Pending;
        }
        while client.socket.input.len() < OUTPUT_BYTES_MAX {
            if ready!(client.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(Stop::ClientGone));
            }
        }
        Poll::Pending
    }

    /// Takes body out of the upstream's input, at most about `max` bytes.
    fn take_body(&mut self, max: usize, mut take: impl FnMut(&[u8])) {
        let mut left = max;
        while left > 0 && !self.body.is_done() && !self.upstream.input.is_empty() {
            let input = self.upstream.input.get(..left.min(self.upstream.input.len())).unwrap_or_default();
            let Ok(step) = self.body.step(input) else {
                self.truncated = true;
                return;
            };
            let data = input.get(step.data).unwrap_or_default();
            take(data);
            left = left.saturating_sub(step.consumed);
            self.upstream.consume(step.consumed);
        }
    }

    /// Reads more of the response; its end or failure is noted in `self`.
    fn poll_more(&mut self, client: &Client, cx: &mut Context<'_>) -> Poll<()> {
        let upstream = &mut self.upstream;
        let filled = client.worker.with_scratch(|scratch| upstream.poll_fill(cx, scratch));
        match ready!(filled) {
            Ok(1..) => {}
            Ok(0) if self.body.ends_with_connection() => self.body = BodyDecoder::length(0),
            Ok(0) | Err(_) => self.truncated = true,
        }
        Poll::Ready(())
    }

    fn is_over(&self) -> bool {
        self.body.is_done() || self.truncated
    }

    /// How the body goes to the client.
    fn coding(&self, request: &Request) -> Coding {
        match self.response.framing {
            ResponseFraming::None => Coding::None,
            ResponseFraming::Length(_) => Coding::Plain,
            _ => match request.head.version {
                HttpVersion::Http10 => Coding::UntilClose,
                HttpVersion::Http11 => Coding::Chunked,
                HttpVersion::Http2 => Coding::Plain,
            },
        }
    }

    /// How long the upstream may be silent within its body. Event streams may be for long.
    fn silence_max_ms(&self, client: &Client, request: &Request) -> u64 {
        if is_event_stream(&self.response) {
            client.worker.shared.settings.limits.tunnel_idle_ms
        } else {
            request.app().limits.upstream_gap_ms
        }
    }

    fn write_head(&self, client: &mut Client, request: &Request, coding: Coding) {
        let out = client.output();
        encode::status_line(out, self.response.status, self.response.bytes(self.response.reason));
        write_response_fields(out, &self.response);
        encode::field(out, b"X-Request-Id", &request.id.to_text());
        out.extend_from_slice(&request.rate_fields);
        if coding == Coding::Chunked {
            encode::field(out, b"Transfer-Encoding", b"chunked");
        }
        if !request.keep_alive {
            encode::field(out, b"Connection", b"close");
        } else if request.head.version == HttpVersion::Http10 {
            encode::field(out, b"Connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends an upstream's header fields that do not end at this hop.
pub(crate) fn write_response_fields(out: &mut Vec<u8>, response: &ResponseHead) {
    let mut names_fields = false;
    for (name, value) in response.headers() {
        if FieldKind::of(name) == FieldKind::Connection {
            names_fields |=
                !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close");
        }
    }
    for (name, value) in response.headers() {
        match FieldKind::of(name) {
            FieldKind::Connection
            | FieldKind::Upgrade
            | FieldKind::HopByHop
            | FieldKind::TransferEncoding
            | FieldKind::XRequestId => {}
            // RFC 9110 section 8.6: none of these has a length.
            FieldKind::ContentLength if response.status < 200 || response.status == 204 => {}
            FieldKind::ContentLength => encode::field(out, name, value),
            _ if names_fields && crate::forward::is_named_by_connection(response.headers(), name) => {}
            _ => encode::field(out, name, value),
        }
    }
}

/// Whether a response is a stream of events.
pub(crate) fn is_event_stream(response: &ResponseHead) -> bool {
    has_content_type(response, b"text/event-stream")
}

/// Whether a response is a stream, which is never held: its end may never come, or only after the client's next message.
pub(crate) fn is_stream(response: &ResponseHead) -> bool {
    is_event_stream(response)
        || has_content_type(response, b"application/grpc")
        || has_content_type(response, b"multipart/x-mixed-replace")
}

fn has_content_type(response: &ResponseHead, begin: &[u8]) -> bool {
    let field = response.headers().find(|(name, _)| FieldKind::of(name) == FieldKind::ContentType);
    field.is_some_and(|(_, value)| {
        value.get(..begin.len()).is_some_and(|value| value.eq_ignore_ascii_case(begin))
    })
}

/// How a response's body is written to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Plain,
    Chunked,
    UntilClose,
}

impl Coding {
    fn write(self, out: &mut Vec<u8>, data: &[u8]) {
        match self {
            Self::None => {}
            Self::Plain | Self::UntilClose => out.extend_from_slice(data),
            Self::Chunked => encode::chunk(out, data),
        }
    }
}

/// For whom a response waits, so that each wait sets its deadline once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Neither,
    Client,
    Upstream,
}

fn ask_failed(client: &Client, request: &mut Request, failed: Failed) -> Stop {
    let key = &failed.slot.endpoint.key;
    let (reply, error) = match failed.failure {
        Failure::Connect(ConnectError::Cut(Cut::Timeout)) => {
            client.control.clear_timeout();
            (Reply::TIMED_OUT, format!("connecting to {key} took too long"))
        }
        Failure::Connect(ConnectError::Cut(cut)) => return Stop::Cut(cut),
        Failure::Connect(ConnectError::Failed(error)) => {
            (Reply::UNAVAILABLE, format!("connecting to {key} failed: {error}"))
        }
        Failure::Stop(Stop::Cut(Cut::Timeout)) => {
            client.control.clear_timeout();
            if !client.body.is_done() {
                return faulty(request, FramingFault::HeadTimeout);
            }
            (Reply::TIMED_OUT, format!("no response of {key} in time"))
        }
        Failure::Stop(stop) => return stop,
        Failure::Io(error) => (Reply::UNAVAILABLE, format!("the connection to {key} failed: {error}")),
        Failure::Closed => (Reply::UNAVAILABLE, format!("{key} closed before a response")),
        Failure::Response(error) => (Reply::UNAVAILABLE, format!("{key}: {error}")),
    };
    upstream_failed(client, request, reply, error)
}

/// Records an upstream's failure; the request is answered with `reply`.
fn upstream_failed(client: &Client, request: &mut Request, reply: Reply, error: String) -> Stop {
    WorkerCounters::add_one(&client.worker.counters.upstream_errors);
    request.verdict.reason = Reason::Upstream { error };
    request.verdict.status = reply.status;
    Stop::Answered(reply)
}

/// Methods that may be repeated without asking (RFC 9110 section 9.2.2).
fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
}

/// Output above which no more of a body is taken before it is written.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Interim responses waiting for a slow client; more are dropped.
const INTERIM_BYTES_MAX: usize = 16 * 1024;
