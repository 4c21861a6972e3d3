//! Beside another proxy: requests that it carries itself are described to us, examined as if they had come here, and answered with
//! whether it may go on.
//!
//! Flow in names: a connection of the proxy -> [`forwarded`] (an HTTP request whose fields describe another one) or `grpc` and [`envoy`]
//! (Envoy's `CheckRequest`) -> [`Question`] -> the pipeline's stages before the upstream -> `Answer` -> back to the proxy.
//!
//! INVARIANT: a described request is written down as an HTTP/1 head and read by the one codec, so that it means here what it means
//! when it comes by itself; nothing on these listeners is ever passed on; and what cannot be understood is refused, never let pass.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use phalanx_model::limits::QUESTION_HEAD_EXTRA_BYTES;
use phalanx_model::{BodyFraming, CheckKind, FramingFault};

use crate::client::{Arrived, Client};
use crate::http1::HeadLimits;
use crate::http1::fields::KnownFields;
use crate::http2;
use crate::pipeline;
use crate::request::{Request, keeps_alive};
use crate::settings::CheckListen;
use crate::stop::Stop;
use crate::tables::HeldBytes;

pub mod envoy;
pub mod forwarded;
pub mod question;

mod answer;
pub(crate) mod grpc;
mod protobuf;

pub use question::{Body, Question};

use answer::Answer;

/// Who asked about a request, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) kind: CheckKind,
    pub(crate) by: std::net::SocketAddr,
}

/// Serves a connection of a proxy that asks.
pub(crate) async fn serve(mut client: Client) {
    let http2 = match &client.tls {
        Some(agreed) => agreed.http2,
        None => client.begins_with_http2().await,
    };
    if http2 {
        return http2::serve(client).await;
    }
    while let Some(arrived) = client.next_head().await {
        if !answer(&mut client, arrived).await {
            return client.linger().await;
        }
        if client.socket.input.is_empty() {
            client.release_memory();
        }
    }
    client.close().await;
}

/// Limits of a question's own head: the proxy adds fields to those of a head that is within ours.
pub(crate) fn head_limits(limits: HeadLimits) -> HeadLimits {
    HeadLimits {
        bytes: limits.bytes.saturating_add(QUESTION_HEAD_EXTRA_BYTES),
        fields: limits.fields.saturating_add(QUESTION_FIELDS_EXTRA).min(crate::http1::head::FIELDS_CAPACITY),
    }
}

/// Answers a question that is an HTTP request; false if no other can follow on its connection.
pub(crate) async fn answer(client: &mut Client, arrived: Arrived) -> bool {
    let Arrived { head: asked, started, .. } = arrived;
    let Some(listen) = listen(client) else { return false };
    let (kind, refuse_with) = (listen.kind, listen.refuse_with);
    client.begin_body(asked.framing);
    let held = match asked.faults.is_empty() {
        true => hold_body(client, asked.framing != BodyFraming::None).await,
        false => Ok(Body::unseen()),
    };
    let Ok(body) = held else { return false };
    let whole = client.body.is_done() && asked.faults.is_empty();
    let persists = keeps_alive(&asked, &KnownFields::of(&asked)) && !client.is_spent();
    let keep_alive = whole && persists && !client.lets_go();
    let form = answer::Form { refuse_with, keep_alive, to: &asked };
    let limits = client.worker.shared.settings.limits.head;
    let question = match kind {
        CheckKind::ForwardAuth => forwarded::read(&asked, body, limits),
        // It is asked over HTTP/2, with gRPC.
        CheckKind::ExtAuthz => Err(FramingFault::BadQuestion),
    };
    let local = client.local;
    let question = question.unwrap_or_else(|fault| Question::refused(asked.clone(), fault, client.peer));
    let asker = Client::of_question(&client.worker, Asked { kind, by: client.peer }, local);
    let answer = examine(asker, question, started).await;
    let output = client.output();
    let from = output.len();
    answer.write(output, &form);
    let head_only = answer.is_bare(&form);
    let sent = client.socket.head_written(from, head_only);
    client.socket.end_written(Vec::new());
    sent.is_ok() && client.flush().await.is_ok() && keep_alive
}

/// Takes a described request through the stages before an upstream.
pub(crate) async fn examine(mut client: Client, question: Question, started: Instant) -> Answer {
    client.peer = question.peer;
    let mut request = Box::new(Request::begin(&client, Arrived { head: question.head, started, head_us: 0 }));
    pipeline::check(&mut client, &mut request, &question.body).await;
    Answer::of(client.socket.take_output(), &request)
}

/// The body that comes with a question, as far as it is held.
async fn hold_body(client: &mut Client, announced: bool) -> Result<Body, Stop> {
    if !announced {
        return Ok(Body::unseen());
    }
    let worker = Rc::clone(&client.worker);
    let limits = &worker.shared.settings.limits;
    let mut account = HeldBytes::of_proxy(&worker.shared.tables, client.peer.ip(), limits);
    let mut held = Vec::new();
    while !client.body.is_done() && held.len() < question::BODY_BYTES_MAX {
        let room = question::BODY_BYTES_MAX - held.len();
        let more =
            client.next_body(room, |data| held.extend_from_slice(data)).map_err(|_| Stop::ClientGone)?;
        if let Err(limit) = account.grow_to(held.capacity()) {
            return Ok(Body::unheld(limit));
        }
        if !more && !client.body.is_done() {
            client.control.set_deadline(worker.after_ms(limits.body_gap_ms));
            client.more_body().await?;
        }
    }
    Ok(Body::seen(Bytes::from(held), client.body.is_done()))
}

/// What the listener that a connection came to is set to.
fn listen(client: &Client) -> Option<&CheckListen> {
    client.worker.shared.settings.check_listen.get(client.check?)
}

/// Fields that a proxy adds to those of the request that it asks about.
const QUESTION_FIELDS_EXTRA: usize = 16;
