//! A request on its way to a response: over which connection it is sent, at which upstream, and when once more elsewhere.
//!
//! Flow in names: `balance` (which upstream) -> [`upstream::connect`] -> head and held body out -> response head in -> [`Exchange`];
//! or a failure, and [`Tries`] say whether there is a next one.

use std::io;
use std::rc::Rc;
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
use crate::reply::Reply;
use crate::request::Request;
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

/// One try, at the endpoint of `slot`.
async fn try_one(
    client: &mut Client,
    request: &mut Request,
    held: &Bytes,
    complete: bool,
    slot: Slot,
) -> Result<Exchange, Failed> {
    slot.begins();
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
                request.upstream_us = request.elapsed_us();
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
            Err(failure) => {
                let how_far = (asking.sent, asking.answered);
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
        peer_trusted: request.peer_trusted,
        source: &app.client_address,
        client: request.client,
        request_id: &request.id.to_text(),
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
                    let filled = poll_upstream(client, &mut self.upstream, cx);
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
