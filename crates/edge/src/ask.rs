//! A request on its way to a response: over which connection it is sent, at which upstream, and when once more elsewhere.
//!
//! Flow in names: `balance` (which upstream) -> [`upstream::connect`] -> head and held body out -> response head in -> [`Exchange`];
//! or a failure, and [`Tries`] say whether there is a next one.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::{BodyFraming, FramingFault, HttpVersion, Reason};

use crate::balance;
use crate::balance::group::Endpoint;
use crate::balance::retry::{Tries, Went};
use crate::balance::slot::Slot;
use crate::client::Client;
use crate::compress::Choice;
use crate::control::Cut;
use crate::exchange::{Exchange, Sending, faulty, poll_request_body, poll_upstream, write_response_fields};
use crate::forward::{Forwarded, requested_upgrade, write_request_head};
use crate::http1::{ResponseError, ResponseHead, encode, read_response_head};
use crate::http2::Call;
use crate::reply::Reply;
use crate::request::Request;
use crate::route::act;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::upstream::{self, ConnectError};

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

/// A connection of its own to one of the app's upstreams, for what is no request of HTTP.
pub(crate) async fn reach(client: &mut Client, request: &mut Request) -> Result<(Slot, Socket), Stop> {
    let mut tries = Tries::new(true);
    let mut slot = balance::slot::choose(client, request).await?;
    loop {
        slot.begins();
        request.upstream = Some(Arc::clone(&slot.endpoint.key));
        let connected = upstream::connect(client, request, &slot.endpoint, (true, true)).await;
        let failed = match connected {
            Ok((socket, _)) => {
                slot.answered(request.app(), 200);
                return Ok((slot, socket));
            }
            Err(error) => Failed::note(client, request, slot, Failure::Connect(error), (false, false)),
        };
        let went = failed.went(client);
        match tries.next(client, request, &failed.slot.endpoint, went) {
            Some(next) => {
                client.control.clear_timeout();
                slot = next;
            }
            None => return Err(ask_failed(client, request, failed)),
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
        let upgrades = requested_upgrade(&request.head, &request.known).is_some();
        let connected = upstream::connect(client, request, &slot.endpoint, (fresh, upgrades)).await;
        let (mut upstream, reused) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let failure = Failure::Connect(error);
                return Err(Failed::note(client, request, slot, failure, (false, false)));
            }
        };
        // What an earlier request sent on this connection does not count.
        let _ = upstream.has_sent();
        let before = request.request_bytes;
        let Some(sending) = begin(client, request, &slot.endpoint, &mut upstream, held, complete) else {
            client.worker.give_buffer(upstream.take_output());
            return Err(Failed::note(client, request, slot, Failure::Unsayable, (false, false)));
        };
        client.control.set_deadline(client.worker.after_ms(request.app().limits.upstream_head_ms));
        let mut asking = Asking { upstream, sending, sent: false, answered: false };
        match asking.response_head(client, request).await {
            Ok(response) => {
                request.upstream_answered(client);
                slot.answered(request.app(), response.status);
                let Asking { upstream, sending, .. } = asking;
                return Ok(Exchange::begin(slot, upstream, response, sending));
            }
            // The upstream closed an idle connection just as we used it, which is no failure of its. What is safe to repeat is sent
            // once more, over a new connection (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
            Err(Failure::Io(_) | Failure::Closed)
                if reused && (replayable || !asking.sent) && !asking.answered =>
            {
                fresh = true;
            }
            // What the upstream did not look at may go out again, whatever it is, as long as it is all here.
            Err(Failure::Refused(_)) if reused && request.request_bytes == before => fresh = true,
            Err(failure) => {
                let unseen = matches!(failure, Failure::Refused(_)) && request.request_bytes == before;
                let how_far = (asking.sent && !unseen, asking.answered);
                asking.distrust(&failure);
                return Err(Failed::note(client, request, slot, failure, how_far));
            }
        }
    }
}

/// What went wrong with an upstream.
#[derive(Debug)]
enum Failure {
    Stop(Stop),
    Connect(ConnectError),
    Io(io::Error),
    Closed,
    Response(ResponseError),
    /// The upstream says that it did nothing about the request.
    Refused(io::Error),
    /// The upstream's version of HTTP has no way to say what the client asks.
    Unsayable,
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
            // It is well, and has as many as it wants.
            Failure::Refused(_) | Failure::Unsayable => false,
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
            Failure::Stop(_) | Failure::Connect(_) | Failure::Unsayable => Went::Otherwise,
            _ if self.answered => Went::Otherwise,
            Failure::Io(_) | Failure::Closed | Failure::Response(_) | Failure::Refused(_) if !self.sent => {
                Went::Unsent
            }
            Failure::Io(_) | Failure::Closed | Failure::Response(_) | Failure::Refused(_) => Went::Unanswered,
        }
    }

    fn why(&self) -> &'static str {
        match &self.failure {
            Failure::Connect(_) => "connecting fails",
            Failure::Stop(_) => "it does not answer in time",
            Failure::Io(_) | Failure::Closed => "it closes without an answer",
            Failure::Response(_) => "its answers are malformed",
            Failure::Refused(_) | Failure::Unsayable => "it does not take the request",
        }
    }
}

/// Writes head and held body into the output; `None` if the upstream's version of HTTP cannot say it.
fn begin(
    client: &Client,
    request: &Request,
    endpoint: &Endpoint,
    upstream: &mut Socket,
    held: &Bytes,
    complete: bool,
) -> Option<Sending> {
    let in_call = upstream.call().is_some();
    let trailers = if complete { client.trailers(request.app()) } else { Vec::new() };
    // A chunked body that is here already goes on with its length, which more applications take.
    let framing = match request.head.framing {
        BodyFraming::Chunked if complete && trailers.is_empty() => BodyFraming::Length(held.len() as u64),
        framing => framing,
    };
    let app = request.app();
    let peer = client.peer.ip();
    let treatment = act::treatment(client, request, &endpoint.server.host);
    let forwarded = Forwarded {
        treatment: treatment.as_ref(),
        head: &request.head,
        known: &request.known,
        framing,
        peer,
        tls: client.tls.is_some(),
        peer_trusted: request.peer_trusted,
        source: &app.client_address,
        asked: app.client_certificate.as_deref(),
        shown: client.opened.as_deref().and_then(|opened| opened.shown.as_ref()),
        client: request.client,
        request_id: &request.id.to_text(),
        trace: &request.trace,
        path_prefix: &endpoint.server.path_prefix,
        upstream_host: endpoint.server.host.as_bytes(),
        pseudonym: &client.worker.shared.settings.pseudonym,
        upgrade: requested_upgrade(&request.head, &request.known),
    };
    write_request_head(&mut upstream.output, &forwarded);
    if !upstream.request_written(complete && held.is_empty() && trailers.is_empty()) {
        return None;
    }
    let chunked = framing == BodyFraming::Chunked && !in_call;
    if chunked {
        encode::chunk(&mut upstream.output, held);
    } else {
        upstream.output.extend_from_slice(held);
    }
    if !complete {
        return Some(Sending::Body { chunked });
    }
    if chunked {
        encode::last_chunk_with(&mut upstream.output, &trailers);
    }
    upstream.end_written(trailers);
    Some(Sending::Done)
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
    /// A connection that a request got no answer on may be dead, which would show as slowly with every other.
    fn distrust(&self, failure: &Failure) {
        if let (Some(call), Failure::Stop(Stop::Cut(Cut::Timeout))) = (self.upstream.call(), failure) {
            call.distrust();
        }
    }

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
                    let asked = requested_upgrade(&request.head, &request.known).is_some()
                        && self.upstream.call().is_none();
                    let malformed = Failure::Response(ResponseError::Malformed);
                    return Poll::Ready(if asked { Ok(head) } else { Err(malformed) });
                }
                Some(head) => pass_interim(client, request, &head, cx),
                None => {
                    if client.socket.poll_given_up(cx).is_ready() {
                        return Poll::Ready(Err(Failure::Stop(Stop::ClientGone)));
                    }
                    let filled = poll_upstream(client, &mut self.upstream, cx);
                    let refused = || self.upstream.call().is_some_and(Call::was_refused);
                    let failed = |error| if refused() { Failure::Refused(error) } else { Failure::Io(error) };
                    match ready!(filled).map_err(failed)? {
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
    write_response_fields(out, head, Choice::default());
    out.extend_from_slice(b"\r\n");
    let _ = client.socket.head_written(from, false);
    // What cannot be written now goes out with the final response. The upstream is what is waited for.
    let _ = client.socket.poll_flush(cx, &mut false);
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
        Failure::Unsayable => return faulty(request, FramingFault::BadTarget),
        Failure::Refused(error) => (Reply::UNAVAILABLE, format!("{key} does not take it: {error}")),
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

/// Interim responses waiting for a slow client; more are dropped.
const INTERIM_BYTES_MAX: usize = 16 * 1024;
