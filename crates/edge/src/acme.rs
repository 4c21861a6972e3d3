//! Answers a certificate authority that looks whether a host is ours (RFC 8555 section 8.3): before bans, limits and rules, and
//! for tokens that are known only. All else below the path is the app's.

use phalanx_model::RequestHead;
use phalanx_model::text::push_decimal;

use crate::client::Client;
use crate::http1::encode;
use crate::request::Request;
use crate::stop::Stop;

/// Whether a request is for the place where such answers are looked for.
pub(crate) fn asks(head: &RequestHead) -> bool {
    head.target().starts_with(PLACE)
}

/// Answers, if the token is known; false if the request is for the app. One with a fault is refused like any other.
pub(crate) async fn answer(client: &mut Client, request: &mut Request) -> Result<bool, Stop> {
    let head = &request.head;
    let asks = head.faults.is_empty() && matches!(head.method(), b"GET" | b"HEAD");
    let token = head.path().strip_prefix(PLACE).filter(|_| asks);
    let material = client.worker.shared.material.load_full();
    let Some(answer) = token.and_then(|token| material.http_challenge(token)) else { return Ok(false) };
    client.begin_body(request.head.framing);
    if !client.body.is_done() {
        request.keep_alive = false;
    }
    let (only_head, close) = (request.is_head(), !request.keep_alive);
    let out = client.output();
    let before = out.len();
    encode::status_line(out, 200, b"");
    encode::field(out, b"Content-Type", b"application/octet-stream");
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, answer.len() as u64);
    out.extend_from_slice(b"\r\n");
    encode::field(out, b"Cache-Control", b"no-store");
    if close {
        encode::field(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !only_head {
        out.extend_from_slice(&answer);
    }
    request.response_bytes = (out.len() - before) as u64;
    request.status = 200;
    request.replied = true;
    let sent = client.socket.head_written(before, only_head);
    client.socket.end_written(Vec::new());
    sent.map_err(|_| Stop::ClientGone)?;
    client.flush().await?;
    Ok(true)
}

const PLACE: &[u8] = b"/.well-known/acme-challenge/";
