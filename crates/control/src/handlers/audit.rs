//! What was decided and done on this node: its ledger.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use phalanx_model::limits::HISTORY_PAGE_MAX;
use phalanx_record::ledger::{AuditPage, KINDS, LedgerFilter};
use serde::Deserialize;

use super::blocking;
use crate::error::ApiError;
use crate::router::Control;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    limit: Option<usize>,
    before: Option<u64>,
    kind: Option<String>,
    by: Option<String>,
}

/// `GET /api/v1/audit`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    let Query(query) = query?;
    if let Some(kind) = query.kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(ApiError::bad_request(format!("kind={kind:?} is none of {}", KINDS.join(", "))));
    }
    let limit = query.limit.unwrap_or(50).clamp(1, HISTORY_PAGE_MAX);
    let filter = LedgerFilter { before: query.before, kind: query.kind, by: query.by, limit };
    let stopping = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the node is stopping");
    let permit = Arc::clone(&control.history_queries).acquire_owned().await.map_err(stopping)?;
    let ledger = control.deps.ledger.clone();
    let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "ledger", "the ledger cannot be read");
    Ok(Json(blocking(permit, move || ledger.page(&filter)).await.map_err(failed)??))
}
