//! How fast one who is known may ask: a bucket of tokens for each, so that a program that runs wild slows itself and no operator beside it.
//!
//! The node's own user is not counted, over its socket: he must get in while others are too fast. A stream takes one token, when it is opened.
//!
//! INVARIANT: no more than [`CALLERS_PACED_MAX`] buckets. One that is full again is as good as none, and goes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use crate::auth::Principal;
use crate::error::ApiError;
use crate::limits::{CALLERS_PACED_MAX, REQUESTS_AT_ONCE_MAX, REQUESTS_PER_SECOND_MAX};
use crate::router::Control;

/// The buckets, by who asks.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<BTreeMap<String, Bucket>>);

/// A thousand parts are a token, so that a millisecond fills it by a whole number.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    parts: u64,
    at_ms: u64,
}

impl Bucket {
    /// What is in it now. A clock that was set back fills nothing.
    fn filled(self, now_ms: u64) -> Self {
        let more = now_ms.saturating_sub(self.at_ms).saturating_mul(REQUESTS_PER_SECOND_MAX);
        Self { parts: self.parts.saturating_add(more).min(FULL), at_ms: now_ms }
    }
}

impl Pace {
    /// Takes a token; without one, after how many seconds there is one.
    pub(crate) fn take(&self, caller: String, now_ms: u64) -> Result<(), u64> {
        let mut buckets = self.0.lock();
        if buckets.len() >= CALLERS_PACED_MAX && !buckets.contains_key(&caller) {
            buckets.retain(|_, bucket| bucket.filled(now_ms).parts < FULL);
        }
        if buckets.len() >= CALLERS_PACED_MAX && !buckets.contains_key(&caller) {
            // The fullest is missed least.
            let fullest = buckets.iter().max_by_key(|(_, one)| one.filled(now_ms).parts);
            let fullest = fullest.map(|(caller, _)| caller.clone());
            if let Some(fullest) = fullest {
                buckets.remove(&fullest);
            }
        }
        let bucket = buckets.entry(caller).or_insert(Bucket { parts: FULL, at_ms: now_ms });
        *bucket = bucket.filled(now_ms);
        match bucket.parts.checked_sub(TOKEN) {
            Some(rest) => {
                bucket.parts = rest;
                Ok(())
            }
            None => {
                let missing = TOKEN - bucket.parts;
                Err(missing.div_ceil(REQUESTS_PER_SECOND_MAX).div_ceil(1_000).max(1))
            }
        }
    }
}

/// Answers 429 to who asks faster than he may. Behind `require`, which knows who asks.
pub(crate) async fn keep(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let who = request.extensions().get::<Principal>();
    let paced = who.filter(|who| !matches!(who, Principal::Socket));
    let takes = |who: &Principal| control.pace.take(bucket(who, &request), control.now_ms());
    let Some(Err(seconds)) = paced.map(takes) else {
        return next.run(request).await;
    };
    let message = format!(
        "more than {REQUESTS_PER_SECOND_MAX} requests a second; wait {seconds} s, and read lists in larger pages or listen to the stream"
    );
    ApiError::too_many("too_many_requests", message, seconds).into_response()
}

/// Whose bucket a request takes from. What scrapes metrics has one beside that of who asks with the same token, so that neither starves the other.
fn bucket(who: &Principal, request: &Request) -> String {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    match path {
        Some(METRICS) => format!("metrics of {}", who.identity()),
        _ => who.identity(),
    }
}

const METRICS: &str = "/metrics";
const TOKEN: u64 = 1_000;
const FULL: u64 = REQUESTS_AT_ONCE_MAX * TOKEN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_fast_waits_and_nobody_else_does() {
        let pace = Pace::default();
        let ask = |who: &str, now_ms| pace.take(who.to_owned(), now_ms);
        for _ in 0..REQUESTS_AT_ONCE_MAX {
            assert_eq!(ask("a program", 0), Ok(()));
        }
        assert_eq!(ask("a program", 0), Err(1));
        assert_eq!(ask("an operator", 0), Ok(()));
        // A second gives as many as there are each second, and no more.
        for _ in 0..REQUESTS_PER_SECOND_MAX {
            assert_eq!(ask("a program", 1_000), Ok(()));
        }
        assert_eq!(ask("a program", 1_000), Err(1));
        assert_eq!(ask("a program", 0), Err(1), "a clock that was set back gives nothing");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_asks_least() {
        let pace = Pace::default();
        for _ in 0..REQUESTS_AT_ONCE_MAX {
            pace.take("a program".into(), 0).unwrap();
        }
        for n in 0..2 * CALLERS_PACED_MAX {
            pace.take(format!("caller {n}"), 0).unwrap();
        }
        assert!(pace.0.lock().len() <= CALLERS_PACED_MAX);
        assert_eq!(pace.take("a program".into(), 0), Err(1));
    }
}
