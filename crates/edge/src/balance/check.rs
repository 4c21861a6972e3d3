//! One question to an upstream about how it is.

use std::future::poll_fn;

use phalanx_model::limits::UPSTREAM_CHECK_BYTES_MAX;
use phalanx_policy::balance::Check;

use super::group::Endpoint;
use crate::http1::read_response_head;
use crate::http2;
use crate::settings::EdgeSettings;
use crate::upstream::{Offer, dial};

/// Asks over a connection of its own; `Err` says why the endpoint does not work. The caller limits the time.
pub(crate) async fn ask(endpoint: &Endpoint, check: &Check, settings: &EdgeSettings) -> Result<(), String> {
    let failed = |error| format!("connecting failed: {error}");
    let dialled = dial(endpoint, settings, Offer::to(endpoint, false), None).await.map_err(failed)?;
    // Ends with the question.
    let calls = http2::Pool::default();
    let mut socket = dialled.ready(endpoint, &calls, 0).await.map_err(failed)?;
    let host = check.host.as_deref().unwrap_or(&endpoint.server.host);
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: phalanx-check\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        check.path
    );
    socket.output.extend_from_slice(head.as_bytes());
    if !socket.request_written(true) {
        return Err("it cannot be asked for this over HTTP/2".into());
    }
    let mut progress = false;
    let sent = poll_fn(|cx| socket.poll_flush(cx, &mut progress)).await;
    sent.map_err(|error| format!("asking failed: {error}"))?;
    let mut scratch = vec![0; SCRATCH_BYTES];
    let (least, most) = check.status;
    loop {
        match read_response_head(&mut socket.input, false) {
            Ok(Some(head)) if (100..200).contains(&head.status) => continue,
            Ok(Some(head)) if (least..=most).contains(&head.status) => return Ok(()),
            Ok(Some(head)) => return Err(format!("it answers {}", head.status)),
            Ok(None) if socket.input.len() > UPSTREAM_CHECK_BYTES_MAX => {
                return Err("its answer is too long".into());
            }
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        match poll_fn(|cx| socket.poll_fill(cx, &mut scratch)).await {
            Ok(0) => return Err("it closes without an answer".into()),
            Ok(_) => {}
            Err(error) => return Err(format!("no answer: {error}")),
        }
    }
}

const SCRATCH_BYTES: usize = 4 * 1024;
