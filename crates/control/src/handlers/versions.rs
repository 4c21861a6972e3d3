//! Versions of the policy: where each comes from, what it holds, what another would change.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use phalanx_fleet::policy::{BundleRef, PolicyRecord};
use phalanx_model::limits::POLICY_CHAIN_MAX;
use serde::Deserialize;

use crate::api::{
    Diagnostic, PolicyChecked, PolicyCompare, PolicyContent, PolicyDiffered, PolicyFiles, PolicyVersionRow,
};
use crate::error::ApiError;
use crate::handlers::bundles::decoded;
use crate::handlers::policy_base::{Policed, compare, parse, running, version};
use crate::router::Control;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionsQuery {
    limit: Option<usize>,
    before: Option<u64>,
}

/// `GET /api/v1/policy/versions`: those that are remembered, the newest first.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    query: Result<Query<VersionsQuery>, QueryRejection>,
) -> Result<Json<Vec<PolicyVersionRow>>, ApiError> {
    let Query(query) = query?;
    let Some(record) = control.deps.fleet.policy_state().record else { return Ok(Json(Vec::new())) };
    let links =
        record.chain.iter().rev().filter(|link| query.before.is_none_or(|before| link.version < before));
    let limit = query.limit.unwrap_or(POLICY_CHAIN_MAX).clamp(1, POLICY_CHAIN_MAX);
    Ok(Json(links.take(limit).map(|link| row(&record, link)).collect()))
}

fn row(record: &PolicyRecord, link: &BundleRef) -> PolicyVersionRow {
    let origin = record.origin(link.version);
    let result = origin.map_or("unknown", |origin| origin.result.word());
    PolicyVersionRow {
        version: link.version,
        hash: link.hash.clone(),
        previous: link.previous.clone(),
        bytes: link.bytes,
        author: origin.map(|origin| origin.author.clone()),
        node: origin.map(|origin| origin.node.clone()),
        approved_by: origin.and_then(|origin| origin.approved_by.clone()),
        reason: origin.map(|origin| origin.reason.clone()).unwrap_or_default(),
        source: origin.map(|origin| origin.source.clone()).unwrap_or_default(),
        at_ms: origin.map(|origin| origin.at_ms),
        result: result.replace(' ', "_"),
        result_reason: origin.map(|origin| origin.result_reason.clone()).unwrap_or_default(),
        result_at_ms: origin.map(|origin| origin.result_at_ms),
        stable: record.stable.version == link.version,
    }
}

/// `GET /api/v1/policy/versions/{version}`: a version's number, or `running`.
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Path(which): Path<String>,
) -> Result<Json<PolicyContent>, ApiError> {
    let Policed { version, hash, entry, files, policy } = named(&control, &which).await?;
    let Some(entry) = entry else {
        let message = "this node's policy is of its command line: there is no file of it to change; write one, and `phalanx policy push FILE` gives it to all nodes";
        return Err(ApiError::new(StatusCode::CONFLICT, "no_file", message));
    };
    let (secret, open): (BTreeMap<_, _>, BTreeMap<_, _>) =
        files.into_iter().partition(|(_, bytes)| holds_a_key(bytes));
    Ok(Json(PolicyContent {
        version: if hash.is_empty() { policy.elsewhere.version } else { version },
        hash: (!hash.is_empty()).then_some(hash),
        entry,
        files: open.into_iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))).collect(),
        withheld: secret.into_keys().collect(),
    }))
}

async fn named(control: &Control, which: &str) -> Result<Policed, ApiError> {
    if which == "running" {
        return Ok(running(control));
    }
    let number = which.parse().map_err(|_| ApiError::bad_request("a version is a number, or `running`"))?;
    version(control, number).await
}

/// Nothing that policy names should be a private key; one that is there by mistake is for nobody to read.
fn holds_a_key(bytes: &[u8]) -> bool {
    bytes.windows(KEY.len()).any(|window| window == KEY)
}

/// `POST /api/v1/policy/check`. Nothing is put into force.
pub(crate) async fn check(
    State(control): State<Arc<Control>>,
    body: Result<Json<PolicyFiles>, JsonRejection>,
) -> Result<Json<PolicyChecked>, ApiError> {
    let Json(order) = body?;
    let files = decoded(order.files)?;
    let entry = order.entry;
    let due = parse(&entry, &files).map(|policy| policy.due(&entry, control.now_ms())).unwrap_or_default();
    let _one_at_a_time = control.reloading.lock().await;
    let (ok, mut problems) = match (control.deps.bundles)(files, entry).await {
        Ok(tried) => (true, tried.warnings),
        Err(faults) => (false, faults),
    };
    problems.extend(due);
    Ok(Json(PolicyChecked { ok, problems: problems.iter().map(Diagnostic::from).collect() }))
}

/// `POST /api/v1/policy/diff`
pub(crate) async fn differences(
    State(control): State<Arc<Control>>,
    body: Result<Json<PolicyCompare>, JsonRejection>,
) -> Result<Json<PolicyDiffered>, ApiError> {
    let Json(order) = body?;
    let files = decoded(order.files)?;
    let policy = parse(&order.entry, &files)?;
    let before = named(&control, &order.against).await?;
    Ok(Json(compare(&before, &order.entry, &files, &policy, control.now_ms())))
}

const KEY: &[u8] = b"PRIVATE KEY-----";
