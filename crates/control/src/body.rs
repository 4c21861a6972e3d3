//! How long the body of a request may take to arrive.
//!
//! Who asks is settled when the head is here. Without an end, what he may do then he could do hours later, by keeping the last byte
//! back; and a connection would be his for as long as he likes.

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use http::StatusCode;
use http_body_util::LengthLimitError;
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;
use crate::handlers::bundles::PUSH_BYTES_MAX;
use crate::limits::{BODY_BYTES_MAX, BODY_TIME_MAX, SNAPSHOT_FILE_BYTES_MAX, UPLOAD_TIME_MAX};

/// Gives the body of each request a time to be here. For every path.
pub(crate) async fn in_time(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let upload = UPLOADS.iter().any(|prefix| path.starts_with(prefix));
    let end = Instant::now() + if upload { UPLOAD_TIME_MAX } else { BODY_TIME_MAX };
    next.run(request.map(|body| until(body, end))).await
}

/// The request with its whole body here, so that nothing is waited for any more.
pub(crate) async fn whole(request: Request) -> Result<Request, ApiError> {
    // The path itself has lost its beginning where a router stands in another.
    let max = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some(RESTORE) => SNAPSHOT_FILE_BYTES_MAX,
        Some(BUNDLES | REPLAY | CHANGES | CHECK | DIFF) => PUSH_BYTES_MAX,
        _ => BODY_BYTES_MAX,
    };
    let (head, body) = request.into_parts();
    let fault = |error: axum::Error| {
        if error.into_inner().is::<LengthLimitError>() {
            let message = format!("the body is longer than {max} bytes");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_request", message);
        }
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "bad_request", "the body did not arrive whole in time")
    };
    let bytes = to_bytes(body, max).await.map_err(fault)?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

fn until(body: Body, end: Instant) -> Body {
    Body::from_stream(unfold(Some(body.into_data_stream()), move |stream| async move {
        let mut stream = stream?;
        match timeout_at(end, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(stream))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Err(late) => Some((Err(axum::Error::new(late)), None)),
        }
    }))
}

const RESTORE: &str = "/api/v1/fleet/restore";
const BUNDLES: &str = "/api/v1/policy/bundles";
const REPLAY: &str = "/api/v1/policy/replay";
const CHANGES: &str = "/api/v1/policy/changes";
const CHECK: &str = "/api/v1/policy/check";
const DIFF: &str = "/api/v1/policy/diff";
/// What takes files: all that begins so.
const UPLOADS: [&str; 7] = ["/api/v1/blocklists/", BUNDLES, CHANGES, CHECK, DIFF, REPLAY, RESTORE];

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use futures_util::stream::{once, pending};

    use super::*;

    #[tokio::test]
    async fn a_body_that_keeps_its_last_byte_back_ends_with_an_error() {
        let most = once(ready(Ok::<_, std::io::Error>("{")));
        let slow =
            until(Body::from_stream(most.chain(pending())), Instant::now() + Duration::from_millis(20));
        let refused = whole(Request::post("/api/v1/operators").body(slow).unwrap()).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_in_time_is_what_was_sent_unless_it_is_too_long() {
        for (bytes, taken) in [(BODY_BYTES_MAX, true), (BODY_BYTES_MAX + 1, false)] {
            let body = until(Body::from(vec![b'x'; bytes]), Instant::now() + BODY_TIME_MAX);
            match whole(Request::post("/").body(body).unwrap()).await {
                Ok(whole) => {
                    let read = to_bytes(whole.into_body(), bytes).await.unwrap();
                    assert!(taken && read.len() == bytes);
                }
                Err(refused) => assert!(!taken && refused.status == StatusCode::PAYLOAD_TOO_LARGE),
            }
        }
    }
}
