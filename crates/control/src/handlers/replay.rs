//! What another policy would have decided about recorded requests.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use http::StatusCode;

use crate::api::{Diagnostic, PolicyReplay, Replayed};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::bundles::decoded;
use crate::router::{Control, NotReplayed};

/// `POST /api/v1/policy/replay`. Nothing is put into force. One at a time: each inspects requests by the thousand.
pub(crate) async fn replay(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<PolicyReplay>, JsonRejection>,
) -> Result<Json<Replayed>, ApiError> {
    let Json(order) = body?;
    let Some(replays) = &control.deps.replays else {
        let message = "this node records no requests; it does without `enabled = false` in [recording]";
        return Err(ApiError::new(StatusCode::CONFLICT, "not_recorded", message));
    };
    let files = decoded(order.files)?;
    let Ok(one_at_a_time) = Arc::clone(&control.replaying).try_acquire_owned() else {
        let message = "another replay is under way; it takes a minute at most";
        return Err(ApiError::new(StatusCode::CONFLICT, "busy", message));
    };
    // Whoever tries policies on recorded requests learns something of them.
    control.record(&who, "replay recorded requests through a policy")?;
    let since_ms = control.now_ms().saturating_sub(order.last_ms);
    let replaying = replays(files, order.entry, since_ms);
    // It goes on if whoever asked hangs up, and so does its turn.
    let replaying = tokio::spawn(async move {
        let replayed = replaying.await;
        drop(one_at_a_time);
        replayed
    });
    let replayed = replaying.await.unwrap_or_else(|error| Err(NotReplayed::Recording(error.to_string())));
    replayed.map(Json).map_err(|not| match not {
        NotReplayed::Policy(faults) => {
            let diagnostics: Vec<Diagnostic> = faults.iter().map(Diagnostic::from).collect();
            let message = "the policy was refused; nothing was replayed";
            let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "policy_refused", message);
            error.with_diagnostics(diagnostics)
        }
        NotReplayed::Recording(error) => {
            tracing::error!(%error, "the recording could not be read");
            let message = "the recording cannot be read; the log of the node says why";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "recording", message)
        }
    })
}
