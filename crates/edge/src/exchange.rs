//! A request that its upstream is answering: bodies streamed both ways at once.
//!
//! Everything runs in the client's own task. Memory is bounded: nothing more is read from one side before what was
//! read has been written to the other.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use phalanx_model::counters::WorkerCounters;
use phalanx_model::{FramingFault, HttpVersion, Reason, Verdict};

use crate::balance::slot::Slot;
use crate::balance::sticky;
use crate::client::Client;
use crate::compress::Choice;
use crate::control::Cut;
use crate::http1::{BodyDecoder, FieldKind, ResponseFraming, ResponseHead, encode, trailers};
use crate::introduced;
use crate::outgoing::{Outgoing, Transfer};
use crate::pipeline::reserve;
use crate::reply::Reply;
use crate::request::Request;
use crate::route::act;
use crate::socket::Socket;
use crate::stop::Stop;

/// A request that its upstream is answering.
pub(crate) struct Exchange {
    pub(crate) slot: Slot,
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
pub(crate) enum Sending {
    /// More of the body is to come from the client.
    Body { chunked: bool },
    /// All is written, or waits in the output buffer.
    Done,
    /// The upstream takes no more; its answer may still come.
    Failed,
}

/// Moves request body from the client to the upstream; ready when there is no more to move.
pub(crate) fn poll_request_body(
    upstream: &mut Socket,
    sending: &mut Sending,
    client: &mut Client,
    request: &mut Request,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Stop>> {
    let upstream_head_ms = request.app().limits.upstream_head_ms;
    loop {
        if upstream.has_output() {
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
        } else if !upstream.has_output() {
            ready!(client.poll_more_body(cx, request.replied))?;
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
    if client.body.is_done() {
        let trailers = client.trailers(request.app());
        if chunked {
            encode::last_chunk_with(&mut upstream.output, &trailers);
        }
        upstream.end_written(trailers);
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
    /// The response's head is there; bodies follow.
    pub(crate) fn begin(slot: Slot, upstream: Socket, response: ResponseHead, sending: Sending) -> Self {
        let body = match response.framing {
            // Where it ends, its stream says, and behind it there may be trailers.
            framing if let Some(call) = upstream.call() => match framing {
                ResponseFraming::None => BodyDecoder::length(0),
                _ if call.is_over() => BodyDecoder::length(0),
                _ => BodyDecoder::until_close(),
            },
            ResponseFraming::None => BodyDecoder::length(0),
            ResponseFraming::Length(bytes) => BodyDecoder::length(bytes),
            ResponseFraming::Chunked => BodyDecoder::chunked(),
            ResponseFraming::UntilClose => BodyDecoder::until_close(),
        };
        Self { slot, upstream, response, body, sending, truncated: false }
    }

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
        let is_empty = self.is_over() && !self.truncated && held.is_empty();
        let mut outgoing = Outgoing::of(client, request, &self.response, is_empty);
        if outgoing.transfer == Transfer::UntilClose || client.lets_go() {
            request.keep_alive = false;
        }
        self.write_head(client, request, &outgoing);
        client.socket.head_written(0, is_empty && self.trailers().is_empty())?;
        request.replied = true;
        request.status = self.response.status;
        request.response_bytes += outgoing.write(client.output(), held) as u64;
        let control = Rc::clone(&client.control);
        let mut waits_for = WaitsFor::Neither;
        control.run(|cx| self.poll_respond(client, request, &mut outgoing, &mut waits_for, cx)).await?;
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
        write_response_fields(out, &self.response, Choice::default());
        encode::field(out, b"X-Request-Id", &request.id.to_text());
        encode::field(out, b"Connection", b"Upgrade");
        encode::field(out, b"Upgrade", protocol.map_or(b"websocket".as_slice(), |(_, value)| value));
        out.extend_from_slice(b"\r\n");
    }

    /// Gives the upstream's connection back to the pool if it can serve again.
    pub(crate) fn recycle(mut self, client: &Client, request: &Request) {
        let worker = &client.worker;
        // An upstream may answer before it has read the whole request. What it has not read it would take for the next
        // request: such a connection serves no other.
        let sent = self.sending == Sending::Done && self.upstream.output.is_empty();
        let clean = sent && self.body.is_done() && self.upstream.input.is_empty();
        worker.give_buffer(self.upstream.take_output());
        worker.give_buffer(self.upstream.return_buffer());
        let clean = clean && self.upstream.call().is_none();
        if clean && self.response.keep_alive && !client.lets_go() {
            self.upstream.input = bytes::BytesMut::new();
            let endpoint = &self.slot.endpoint;
            match endpoint.server.proxy {
                None => worker.pool.give(&endpoint.pool_key, self.upstream, worker.now_ms()),
                Some(_) => introduced::keep(client, endpoint, request.client, self.upstream),
            }
        }
    }

    fn poll_respond(
        &mut self,
        client: &mut Client,
        request: &mut Request,
        outgoing: &mut Outgoing,
        waits_for: &mut WaitsFor,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        let sent = poll_request_body(&mut self.upstream, &mut self.sending, client, request, cx);
        if let Poll::Ready(Err(stop)) = sent {
            return Poll::Ready(Err(stop));
        }
        if sent.is_pending() && *waits_for != WaitsFor::Client && is_call(&self.response) {
            // Both sides may be silent for long, and say something at any time.
            client.control.set_deadline(client.worker.after_ms(self.silence_max_ms(client, request)));
        }
        let mut ended = false;
        let output_max = OUTPUT_BYTES_MAX.min(client.read_bytes_max());
        loop {
            let out = client.output();
            let room = output_max.saturating_sub(out.len());
            let mut bytes = 0;
            self.take_body(room, |data| bytes += outgoing.write(out, data));
            if self.is_over() && !ended {
                ended = true;
                if !self.truncated {
                    let trailers = self.trailers_for(client, request, outgoing);
                    match outgoing.end(client.output(), &trailers) {
                        Some(last) => bytes += last,
                        None => self.truncated = true,
                    }
                    if !self.truncated {
                        client.socket.end_written(trailers);
                    }
                }
            }
            request.response_bytes += bytes as u64;
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
                let bytes = outgoing.pause(client.output());
                if bytes > 0 {
                    request.response_bytes += bytes as u64;
                    continue;
                }
                return self.poll_client_gone(client, cx);
            }
            *waits_for = WaitsFor::Neither;
        }
    }

    /// The trailers that the client gets. What they may say of the body is not true of one that is compressed here.
    fn trailers_for(&self, client: &Client, request: &Request, outgoing: &Outgoing) -> Vec<u8> {
        let lines = self.trailers();
        // HTTP/2 has a place for them that every client knows.
        let takes = client.socket.is_stream() || request.known.takes_trailers(&request.head);
        if lines.is_empty() || !takes || outgoing.choice.coding.is_some() {
            return Vec::new();
        }
        trailers::passed(lines, |_| false)
    }

    /// The field lines behind the body, as they came.
    fn trailers(&self) -> &[u8] {
        match self.body.trailers() {
            [] => self.upstream.trailers(),
            lines => lines,
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
        let filled = poll_upstream(client, upstream, cx);
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

    /// How long the upstream may be silent within its body. Event streams may be for long.
    fn silence_max_ms(&self, client: &Client, request: &Request) -> u64 {
        if is_event_stream(&self.response) || is_call(&self.response) {
            client.worker.shared.settings.limits.tunnel_idle_ms
        } else {
            request.app().limits.upstream_gap_ms
        }
    }

    fn write_head(&self, client: &mut Client, request: &Request, outgoing: &Outgoing) {
        let worker = Rc::clone(&client.worker);
        let secure = client.tls.is_some();
        let id = request.id.to_text();
        let edits = request.handling().and_then(|handling| handling.parts.responses.as_ref());
        let edits = edits.map(|edits| (edits, act::said(client, request, &id)));
        let out = client.output();
        encode::status_line(out, self.response.status, self.response.bytes(self.response.reason));
        match edits {
            None => write_response_fields(out, &self.response, outgoing.choice),
            Some((edits, said)) => edits.write_fields(out, &said, &self.response, outgoing.choice),
        }
        outgoing.choice.write_own(out, &self.response);
        encode::field(out, b"X-Request-Id", &id);
        out.extend_from_slice(&request.rate_fields);
        sticky::write(out, request, &self.slot.endpoint, (&worker.shared.settings.sticky_key, secure));
        if outgoing.transfer == Transfer::Chunked {
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

/// Reads more of what an upstream sends; 0 at its end.
pub(crate) fn poll_upstream(
    client: &Client,
    upstream: &mut Socket,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    client.worker.with_scratch(|scratch| {
        let room = client.read_bytes_max().min(scratch.len());
        upstream.poll_fill(cx, scratch.get_mut(..room).unwrap_or_default())
    })
}

/// Appends an upstream's header fields that do not end at this hop.
pub(crate) fn write_response_fields(out: &mut Vec<u8>, response: &ResponseHead, choice: Choice) {
    pass_response_fields(out, response, choice, |_| false, encode::field);
}

/// The same with those left out that are `gone`; `pass` appends the others.
pub(crate) fn pass_response_fields(
    out: &mut Vec<u8>,
    response: &ResponseHead,
    choice: Choice,
    gone: impl Fn(&[u8]) -> bool,
    mut pass: impl FnMut(&mut Vec<u8>, &[u8], &[u8]),
) {
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
            | FieldKind::Te
            | FieldKind::TransferEncoding
            | FieldKind::XRequestId => {}
            _ if gone(name) => {}
            _ if choice.changes_fields() && choice.writes(out, name, value) => {}
            // RFC 9110 section 8.6: none of these has a length.
            FieldKind::ContentLength if response.status < 200 || response.status == 204 => {}
            FieldKind::ContentLength => pass(out, name, value),
            _ if names_fields && crate::forward::is_named_by_connection(response.headers(), name) => {}
            _ => pass(out, name, value),
        }
    }
}

/// Whether a response is a stream of events.
pub(crate) fn is_event_stream(response: &ResponseHead) -> bool {
    has_content_type(response, b"text/event-stream")
}

/// Whether a response is that of a call of gRPC.
fn is_call(response: &ResponseHead) -> bool {
    has_content_type(response, b"application/grpc")
}

/// Whether a response is a stream, which is never held: its end may never come, or only after the client's next message.
pub(crate) fn is_stream(response: &ResponseHead) -> bool {
    is_event_stream(response) || is_call(response) || has_content_type(response, b"multipart/x-mixed-replace")
}

fn has_content_type(response: &ResponseHead, begin: &[u8]) -> bool {
    let field = response.headers().find(|(name, _)| FieldKind::of(name) == FieldKind::ContentType);
    field.is_some_and(|(_, value)| {
        value.get(..begin.len()).is_some_and(|value| value.eq_ignore_ascii_case(begin))
    })
}

/// For whom a response waits, so that each wait sets its deadline once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Neither,
    Client,
    Upstream,
}

/// Output above which no more of a body is taken before it is written.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
