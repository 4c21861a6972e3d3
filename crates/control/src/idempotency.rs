//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): who repeats a POST because its answer got lost has it done once.
//!
//! Kept in this node's memory: a restart forgets, and another node knows nothing of it. Bounded in number, bytes and time, for each
//! caller and in all; whoever sends more keys pushes out his own oldest ones first.
//!
//! INVARIANT: only answers of [`KEPT`] are kept. Of all others, which may hold a token or a link, it is kept that they were given.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use phalanx_trust::sha256;

use crate::auth::Principal;
use crate::body;
use crate::error::ApiError;
use crate::limits::{
    IDEMPOTENCY_ANSWER_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX,
    IDEMPOTENCY_KEYS_PER_CALLER_MAX, IDEMPOTENCY_MS,
};
use crate::router::Control;

/// The header field.
pub(crate) const FIELD: &str = "idempotency-key";
/// Stands on an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";

/// Calls whose answers hold no secret, and are kept.
pub(crate) const KEPT: &[&str] = &[
    "/api/v1/decisions",
    "/api/v1/held/{id}",
    "/api/v1/incidents/{id}/close",
    "/api/v1/incidents/{id}/undo",
    "/api/v1/incidents/{id}/answer",
    "/api/v1/playbooks/{name}/run",
    "/api/v1/exclusions",
    "/api/v1/policy/changes",
    "/api/v1/policy/changes/{id}/approve",
    "/api/v1/policy/changes/{id}/reject",
    "/api/v1/policy/bundles",
    "/api/v1/policy/promote",
    "/api/v1/policy/rollback",
    "/api/v1/policy/home",
    "/api/v1/policy/reload",
    "/api/v1/fleet/restore",
    "/api/v1/fleet/delegations",
    "/api/v1/fleet/revocations",
    "/api/v1/fleet/orders",
    "/api/v1/fleet/root",
    "/api/v1/upgrade",
    "/api/v1/selftest",
];

/// What was asked with keys, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<VecDeque<Entry>>);

#[derive(Debug)]
struct Entry {
    /// Of the caller's name.
    caller: [u8; 32],
    /// Of the key.
    key: [u8; 32],
    /// Of all that was asked.
    what: [u8; 32],
    since_ms: u64,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    UnderWay,
    /// Done; `None`: its answer is not kept.
    Done(Option<Arc<Kept>>),
}

#[derive(Debug)]
struct Kept {
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

/// One use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    caller: [u8; 32],
    key: [u8; 32],
    what: [u8; 32],
}

/// Has each POST with a key done once.
pub(crate) async fn once(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    if *request.method() != Method::POST || !request.headers().contains_key(FIELD) {
        return next.run(request).await;
    }
    try_once(control, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn try_once(control: Arc<Control>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (used, request) = read(request).await?;
    if let Some(before) = control.asked.begin(used, control.now_ms())? {
        return Ok(before.answer());
    }
    let path = request.extensions().get::<MatchedPath>();
    let keeps = path.is_some_and(|path| KEPT.contains(&path.as_str()));
    // On a task of its own: when the caller hangs up it goes on, and he who asks again gets its answer.
    let work = tokio::spawn(async move {
        // Should the call panic, its key is free again.
        let under_way = UnderWay { control, used, over: false };
        let answer = next.run(request).await;
        under_way.end(answer, keeps).await
    });
    work.await.map_err(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the call failed; the node's log says why")
    })
}

/// The key, and the request with its whole body here.
async fn read(request: Request) -> Result<(Use, Request), ApiError> {
    let key = key(request.headers())?;
    let caller = request.extensions().get::<Principal>().map(Principal::identity).unwrap_or_default();
    let (head, body) = body::whole(request).await?.into_parts();
    // It is whole already.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut all = Vec::with_capacity(64 + bytes.len());
    for part in [head.uri.to_string().as_bytes(), kind, &bytes] {
        all.extend_from_slice(&sha256(part));
    }
    let used = Use { caller: sha256(caller.as_bytes()), key: sha256(key.as_bytes()), what: sha256(&all) };
    Ok((used, Request::from_parts(head, Body::from(bytes))))
}

/// The key: a string in quotes, as the draft says, or without them.
fn key(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut fields = headers.get_all(FIELD).iter();
    let text = fields.next().filter(|_| fields.next().is_none()).and_then(|field| field.to_str().ok());
    let key = text.map(|text| text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text));
    let is_good = |key: &&str| {
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
    };
    key.filter(is_good).map(str::to_owned).ok_or_else(|| {
        ApiError::bad_request(format!(
            "Idempotency-Key: one string of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible characters, such as a UUID"
        ))
    })
}

impl Asked {
    /// Begins what was asked, or says what it was answered before.
    fn begin(&self, used: Use, now_ms: u64) -> Result<Option<Before>, ApiError> {
        let mut entries = self.0.lock();
        entries.retain(|entry| now_ms < entry.since_ms.saturating_add(IDEMPOTENCY_MS));
        let known = entries.iter().find(|entry| entry.caller == used.caller && entry.key == used.key);
        if let Some(known) = known {
            return match &known.stage {
                _ if known.what != used.what => Err(ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "key_reused",
                    "this Idempotency-Key was sent with another call; use a new one for each",
                )),
                Stage::UnderWay => Err(ApiError::new(
                    StatusCode::CONFLICT,
                    "under_way",
                    "a call with this Idempotency-Key is under way; ask again in a moment",
                )),
                Stage::Done(kept) => Ok(Some(Before(kept.clone()))),
            };
        }
        make_room(&mut entries, &used.caller)?;
        let Use { caller, key, what } = used;
        entries.push_back(Entry { caller, key, what, since_ms: now_ms, stage: Stage::UnderWay });
        Ok(None)
    }

    /// It was done; or nothing was done, and the key is free again.
    fn end(&self, used: Use, done: Option<Stage>) {
        let mut entries = self.0.lock();
        let place = entries.iter().position(|entry| entry.caller == used.caller && entry.key == used.key);
        match (place, done) {
            (Some(place), None) => _ = entries.remove(place),
            (Some(place), Some(stage)) => {
                entries.get_mut(place).into_iter().for_each(|entry| entry.stage = stage.clone())
            }
            (None, _) => {}
        }
    }
}

/// Forgets the caller's oldest answer where he has as many as he may, else the oldest of all; none that is under way.
fn make_room(entries: &mut VecDeque<Entry>, caller: &[u8; 32]) -> Result<(), ApiError> {
    let own = entries.iter().filter(|entry| entry.caller == *caller).count();
    let crowds = own >= IDEMPOTENCY_KEYS_PER_CALLER_MAX;
    if !crowds && entries.len() < IDEMPOTENCY_KEYS_MAX {
        return Ok(());
    }
    let goes = |entry: &Entry| matches!(entry.stage, Stage::Done(_)) && (!crowds || entry.caller == *caller);
    let oldest = entries.iter().position(goes).ok_or_else(|| {
        let message = "too many calls with an Idempotency-Key are under way; ask again in a moment";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    })?;
    entries.remove(oldest);
    Ok(())
}

/// What was done before.
#[derive(Debug)]
struct Before(Option<Arc<Kept>>);

impl Before {
    fn answer(self) -> Response {
        let mut answer = match self.0 {
            Some(kept) => {
                let mut answer = (kept.status, kept.body.clone()).into_response();
                answer.headers_mut().remove(header::CONTENT_TYPE);
                if let Some(kind) = &kept.kind {
                    answer.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
                }
                answer
            }
            None => ApiError::new(
                StatusCode::CONFLICT,
                "done_before",
                "this was done already, and its answer, which may hold a secret, is not kept; end what it made and make it anew",
            )
            .into_response(),
        };
        answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        answer
    }
}

/// A call that holds its key.
struct UnderWay {
    control: Arc<Control>,
    used: Use,
    over: bool,
}

impl UnderWay {
    /// Keeps what succeeded. What failed made nothing, and may be asked again with the same key.
    async fn end(mut self, answer: Response, keeps: bool) -> Response {
        if !answer.status().is_success() {
            return answer;
        }
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let fits = keeps && body.len() <= IDEMPOTENCY_ANSWER_BYTES_MAX;
        let kept = fits.then(|| {
            let kind = head.headers.get(header::CONTENT_TYPE).cloned();
            Arc::new(Kept { status: head.status, kind, body: body.clone() })
        });
        self.over = true;
        self.control.asked.end(self.used, Some(Stage::Done(kept)));
        Response::from_parts(head, Body::from(body))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.over {
            self.control.asked.end(self.used, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::endpoints;

    fn used(caller: u8, key: usize) -> Use {
        Use { caller: [caller; 32], key: sha256(&key.to_le_bytes()), what: [7; 32] }
    }

    fn done(asked: &Asked, used: Use, now_ms: u64) {
        assert!(asked.begin(used, now_ms).unwrap().is_none());
        asked.end(used, Some(Stage::Done(None)));
    }

    #[test]
    fn keys_are_kept_for_a_day_and_each_caller_has_his_own() {
        let asked = Asked::default();
        done(&asked, used(1, 1), 0);
        assert!(asked.begin(used(1, 1), IDEMPOTENCY_MS - 1).unwrap().is_some());
        done(&asked, used(2, 1), 1);
        done(&asked, used(1, 1), IDEMPOTENCY_MS);
        let other = Use { what: [8; 32], ..used(2, 1) };
        assert_eq!(asked.begin(other, 2).unwrap_err().problem().code, "key_reused");
    }

    #[test]
    fn who_sends_many_keys_pushes_out_his_own_and_none_that_is_under_way() {
        let asked = Asked::default();
        done(&asked, used(2, 0), 0);
        assert!(asked.begin(used(1, 0), 0).unwrap().is_none());
        for key in 1..4 * IDEMPOTENCY_KEYS_PER_CALLER_MAX {
            done(&asked, used(1, key), 0);
        }
        assert!(asked.begin(used(2, 0), 0).unwrap().is_some());
        assert_eq!(asked.begin(used(1, 0), 0).unwrap_err().problem().code, "under_way");
        assert!(asked.0.lock().len() <= 1 + IDEMPOTENCY_KEYS_PER_CALLER_MAX);
        for caller in 3..60 {
            (0..IDEMPOTENCY_KEYS_PER_CALLER_MAX).for_each(|key| done(&asked, used(caller, key), 0));
        }
        assert!(asked.0.lock().len() <= IDEMPOTENCY_KEYS_MAX);
    }

    #[test]
    fn keys_are_one_string_of_visible_characters() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FIELD, value.parse().unwrap());
            }
            key(&headers).ok()
        };
        assert_eq!(read(&["\"8e03978e-40d5\""]), read(&["8e03978e-40d5"]));
        assert_eq!(read(&["a"]).as_deref(), Some("a"));
        for values in [&["a", "b"][..], &["\"\""], &[""], &["a b"], &["a\"b"], &["x".repeat(129).as_str()]] {
            assert_eq!(read(values), None, "{values:?}");
        }
    }

    #[test]
    fn what_is_kept_are_answers_of_endpoints() {
        for path in KEPT {
            assert!(endpoints().any(|one| one.path == *path && one.method == "post"), "{path}");
        }
    }
}
