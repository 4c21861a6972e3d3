//! Who is told: the list, and a message that says that it is a test.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_trust::random_bytes;
use serde_json::json;

use crate::api::{ReceiverRow, ReceiverTested};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::paging::Page;
use crate::router::Control;

/// `GET /api/v1/receivers`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<ReceiverRow>>, ApiError> {
    let row = |(name, receiver): (&String, &crate::receiver::Receiver)| ReceiverRow {
        name: name.clone(),
        kind: receiver.kind().to_owned(),
    };
    let rows = control.deps.receivers.iter().map(row).collect();
    Ok(Json(page.of(rows, |row: &ReceiverRow| row.name.clone())?))
}

/// `POST /api/v1/receivers/{name}/test`
pub(crate) async fn test(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Json<ReceiverTested>, ApiError> {
    let Some(receiver) = control.deps.receivers.get(&name) else {
        return Err(ApiError::not_found(format!(
            "this node's settings have no receiver `{}`",
            name.escape_debug()
        )));
    };
    let Ok(_permit) = control.telling.try_acquire() else {
        let message = "other receivers are being told; try again when they answered";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "busy", message));
    };
    control.record(&who, &format!("tell receiver {name} that this is a test"))?;
    let node = format!("{}/{}", control.deps.site, control.deps.node);
    // Each test is a wish of its own.
    let wish: [u8; 8] = random_bytes();
    let key = format!("test/{:016x}", u64::from_be_bytes(wish));
    let message = json!({
        "kind": "test",
        "key": key,
        "text": format!("A test by an operator of Phalanx, from node {node}: nothing happened."),
        "node": node,
        "at_ms": control.now_ms(),
    });
    let told = receiver.tell(&key, &message, || control.now_ms()).await;
    let error = told.err().map(|why| why.to_string());
    Ok(Json(ReceiverTested { ok: error.is_none(), error }))
}
