//! The gRPC service that Envoy asks, on streams of HTTP/2: one message in, one out, and the status in trailers.
//!
//! Failure direction: what lies in the described request is answered with a denial (see [`super::envoy`]). Errors of the call are for what
//! only the proxy's settings bring about (a method that there is not, compression) and for a proxy that gives up; what it does then is
//! `failure_mode_allow`.

use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http::{Response, StatusCode, request};
use phalanx_model::FramingFault;

use super::question::{BODY_BYTES_MAX, Body};
use super::{Question, envoy, examine};
use crate::client::Client;
use crate::control::Cut;
use crate::http2::request_head;
use crate::tables::HeldBytes;

/// Serves a call. `client` stands for whom it will be about; until then for the proxy.
pub(crate) async fn serve(
    mut client: Client,
    parts: request::Parts,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let started = Instant::now();
    let is_grpc = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC));
    if !is_grpc {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let _ = respond.send_response(response, true);
        return;
    }
    match parts.uri.path() {
        CHECK => {
            let question = match read_message(&mut client, &mut body).await {
                Ok(message) => {
                    envoy::read(message, client.worker.shared.settings.limits.head).map_err(Unread::Fault)
                }
                Err(unread) => Err(unread),
            };
            let asker = client.peer;
            let refused = |fault| {
                let head = request_head(&parts, false, client.worker.shared.settings.limits.head);
                Question::refused(head, fault, asker)
            };
            let question = match question {
                Ok(question) => question,
                Err(Unread::Fault(fault)) => refused(fault),
                Err(Unread::NoMemory(limit)) => {
                    Question { body: Body::unheld(limit), ..refused(FramingFault::BodyTooLarge) }
                }
                Err(Unread::Failed(status)) => return fail(respond, status),
                Err(Unread::Gone) => return,
            };
            let answer = examine(client, question, started).await;
            send(respond, &envoy::write(&answer));
        }
        HEALTH => {
            // A `HealthCheckResponse`. Where another process has followed, it is the node that serves, and the next connection gets there.
            let leaving = &client.worker.leaving;
            let out = leaving.begun() && !leaving.followed.get();
            let serves = if out { NOT_SERVING } else { SERVING };
            send(respond, &[0x08, serves]);
        }
        _ => fail(respond, UNIMPLEMENTED),
    }
}

/// Why there is no message.
enum Unread {
    /// A denial says it.
    Fault(FramingFault),
    NoMemory(&'static str),
    /// An error of the call.
    Failed(&'static str),
    /// The proxy is gone.
    Gone,
}

impl From<Cut> for Unread {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Timeout => Self::Failed(DEADLINE_EXCEEDED),
            Cut::Banned | Cut::Drained => Self::Failed(UNAVAILABLE),
        }
    }
}

/// Reads the one message of a call.
async fn read_message(client: &mut Client, body: &mut RecvStream) -> Result<Bytes, Unread> {
    let worker = Rc::clone(&client.worker);
    let control = Rc::clone(&client.control);
    let limits = &worker.shared.settings.limits;
    let mut account = HeldBytes::of_proxy(&worker.shared.tables, client.peer.ip(), limits);
    let mut all = BytesMut::new();
    loop {
        control.set_deadline(worker.after_ms(limits.body_gap_ms));
        let more = control.run(|cx| {
            let data = ready!(body.poll_data(cx)).transpose();
            Poll::Ready(data.map_err(|_| Unread::Gone))
        });
        let Some(data) = more.await? else { break };
        let _ = body.flow_control().release_capacity(data.len());
        if all.len() + data.len() > MESSAGE_BYTES_MAX {
            return Err(Unread::Fault(FramingFault::BodyTooLarge));
        }
        all.extend_from_slice(&data);
        account.grow_to(all.capacity()).map_err(Unread::NoMemory)?;
    }
    let mut frame = all.freeze();
    if frame.len() < FRAME_HEAD_BYTES {
        return Err(Unread::Fault(FramingFault::BadQuestion));
    }
    let (compressed, bytes) = (frame.get_u8(), frame.get_u32());
    match compressed {
        0 if usize::try_from(bytes).is_ok_and(|bytes| bytes == frame.len()) => Ok(frame),
        0 => Err(Unread::Fault(FramingFault::BadQuestion)),
        _ => Err(Unread::Failed(UNIMPLEMENTED)),
    }
}

/// Sends the one message of an answer.
fn send(mut respond: SendResponse<Bytes>, message: &[u8]) {
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + message.len());
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    // Whoever is gone needs no answer. Frames wait with the codec until there is room: a message is a few kilobytes.
    let _ = respond.send_response(response, false).and_then(|mut stream: SendStream<Bytes>| {
        stream.send_data(frame.into(), false)?;
        stream.send_trailers(status("0"))
    });
}

/// Answers with an error of the call.
fn fail(mut respond: SendResponse<Bytes>, code: &'static str) {
    let mut response = Response::new(());
    *response.headers_mut() = status(code);
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    let _ = respond.send_response(response, true);
}

fn status(code: &'static str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(code));
    fields
}

const GRPC: &[u8] = b"application/grpc";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;
// Of gRPC's statuses.
const DEADLINE_EXCEEDED: &str = "4";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";
/// A flag and a length stand before each message.
const FRAME_HEAD_BYTES: usize = 5;
/// The body, and twice a head: fields may stand there in two forms.
const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX + 256 * 1024;
