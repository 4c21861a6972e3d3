//! Blocklists: list, show, import, remove.

use std::sync::Arc;

use axum::extract::rejection::{QueryRejection, StringRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_fleet::{BlocklistState, NewBlocklist, list_text};
use phalanx_model::DecisionKind;
use phalanx_model::limits::{DECISION_MAX_MS, REASON_BYTES_MAX};
use serde::Deserialize;

use crate::api::{Blocklist, BlocklistContent, Diagnostic};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::paging::Page;
use crate::reason;
use crate::router::Control;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportQuery {
    #[serde(default = "ban")]
    kind: DecisionKind,
    for_ms: u64,
    reason: String,
}

fn ban() -> DecisionKind {
    DecisionKind::Ban
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowQuery {
    limit: Option<usize>,
}

/// `GET /api/v1/blocklists`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<Blocklist>>, ApiError> {
    let rows = control.deps.fleet.blocklists().await.iter().map(row).collect();
    Ok(Json(page.of(rows, |row: &Blocklist| row.name.clone())?))
}

/// `GET /api/v1/blocklists/{name}`
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Json<BlocklistContent>, ApiError> {
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
    let fleet = &control.deps.fleet;
    let known = fleet.blocklists().await;
    let Some(list) = known.iter().find(|list| *list.newest.name == *name) else {
        return Err(phalanx_fleet::FleetError::NoSuchBlocklist(name).into());
    };
    let prefixes = fleet.blocklist_prefixes(&name).await;
    let first = prefixes.iter().flat_map(|all| all.iter().take(limit)).map(|prefix| prefix.to_string());
    Ok(Json(BlocklistContent { list: row(list), first: first.collect() }))
}

/// `PUT /api/v1/blocklists/{name}`: the text of the list is the body.
pub(crate) async fn import(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    query: Result<Query<ImportQuery>, QueryRejection>,
    body: Result<String, StringRejection>,
) -> Result<(StatusCode, Json<Blocklist>), ApiError> {
    let Query(query) = query?;
    check(&query)?;
    // A text in memory takes up to 48 MiB, and reading it a second: one at a time.
    let Ok(_turn) = control.importing.try_acquire() else {
        let message = "another blocklist is being imported; try again when that is done";
        return Err(ApiError::new(StatusCode::CONFLICT, "busy", message));
    };
    let text = body.map_err(|e| ApiError::new(e.status(), "bad_request", e.body_text()))?;
    let read = tokio::task::spawn_blocking(move || list_text::parse(&text)).await;
    let read = read.map_err(|_| ApiError::bad_request("reading the list was cut off"))?;
    let prefixes = read.map_err(|faults| refused(&name, faults))?;
    let count = prefixes.len();
    control.record(&who, &format!("import blocklist {name} of {count} prefixes: {}", query.reason))?;
    let ImportQuery { kind, for_ms, reason } = query;
    let new = NewBlocklist { name: name.clone(), kind, for_ms, reason, prefixes };
    control.deps.fleet.import_blocklist(new).await?;
    let now = control.deps.fleet.blocklists().await;
    match now.iter().find(|list| *list.newest.name == *name) {
        Some(list) => Ok((StatusCode::CREATED, Json(row(list)))),
        None => Err(phalanx_fleet::FleetError::NoSuchBlocklist(name).into()),
    }
}

/// `DELETE /api/v1/blocklists/{name}`
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    query: Result<Query<RemoveQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(query) = query?;
    let reason = if query.reason.is_empty() { "removed by an operator" } else { &query.reason };
    reason::check(reason, REASON_BYTES_MAX)?;
    control.record(&who, &format!("remove blocklist {name}: {reason}"))?;
    control.deps.fleet.remove_blocklist(&name, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check(query: &ImportQuery) -> Result<(), ApiError> {
    if !matches!(query.kind, DecisionKind::Ban | DecisionKind::Challenge) {
        return Err(ApiError::bad_request("a list bans or challenges: kind is `ban` or `challenge`"));
    }
    if query.for_ms == 0 || query.for_ms > DECISION_MAX_MS {
        return Err(ApiError::bad_request(format!("for_ms must be from 1 to {DECISION_MAX_MS}")));
    }
    if query.reason.trim().is_empty() {
        return Err(ApiError::bad_request("a blocklist needs a reason"));
    }
    reason::check(&query.reason, REASON_BYTES_MAX)
}

fn refused(name: &str, faults: Vec<list_text::LineFault>) -> ApiError {
    let one = |fault: list_text::LineFault| Diagnostic {
        level: "error".to_owned(),
        file: name.to_owned(),
        line: fault.line,
        message: fault.message,
        help: Some(fault.help.to_owned()),
    };
    let message = "the list was refused whole; what was in force stays";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "list_refused", message)
        .with_diagnostics(faults.into_iter().map(one).collect())
}

fn row(state: &BlocklistState) -> Blocklist {
    let list = &state.newest;
    Blocklist {
        id: list.id,
        name: list.name.to_string(),
        version: list.version,
        version_in_force: state.in_force.as_ref().map(|list| list.version),
        held: state.held,
        kind: list.kind,
        author: list.author.clone(),
        reason: list.reason.clone(),
        prefixes: list.content.as_ref().map(|content| content.prefixes).unwrap_or_default(),
        created_at_ms: list.created_at_ms,
        until_ms: list.until_ms,
    }
}
