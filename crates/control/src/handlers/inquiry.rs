//! Refused and flagged requests of all nodes: asked of each, redacted by each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use phalanx_fleet::{Link, Member};
use phalanx_model::RequestId;
use phalanx_model::id::node_tag;
use tokio::time::{Instant, timeout_at};

use super::events::{EventQuery, filter};
use crate::error::ApiError;
use crate::inquiry::{Asked, FleetEvents, LATEST_MAX, RedactedRequest};
use crate::router::Control;

/// `GET /api/v1/fleet/events`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<FleetEvents>, ApiError> {
    let Query(query) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let filter = filter(&query)?;
    let asked = Asked::Latest {
        client: filter.client,
        action: filter.action,
        rule: filter.rule,
        before: filter.before,
        since_ms: filter.since_ms,
        limit: filter.limit.min(LATEST_MAX),
    };
    ask(&control, &asked, |member| member.link == Link::Up).await.map(Json)
}

/// `GET /api/v1/fleet/events/{id}`
pub(crate) async fn explain(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<RedactedRequest>, ApiError> {
    let id: RequestId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    // The id tells which node served it; also one that is hard to hear is waited for.
    let served = |member: &Member| node_tag(&member.site, &member.node) == id.node_tag();
    let found = ask(&control, &Asked::Request(id), served).await?;
    found.requests.into_iter().find(|request| request.id == id).map(Json).ok_or_else(|| {
        ApiError::not_found(format!(
            "no other node that answers has a refused or flagged request {id} in its history"
        ))
    })
}

/// Asks all others, and waits until all that are waited for have answered, or the time is over.
async fn ask(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
) -> Result<FleetEvents, ApiError> {
    let fleet = &control.deps.fleet;
    let members = fleet.members();
    let mut silent: BTreeSet<String> = members
        .iter()
        .filter(|member| !member.me && waits_for(member))
        .map(|member| format!("{}/{}", member.site, member.node))
        .collect();
    let question = serde_json::to_vec(asked).unwrap_or_default();
    let mut answers = fleet.ask(&question).await?;
    let (mut requests, mut answered) = (Vec::new(), Vec::new());
    let until = Instant::now() + WAIT;
    while !silent.is_empty() {
        let Ok(Some(answer)) = timeout_at(until, answers.recv()).await else { break };
        let name = format!("{}/{}", answer.site, answer.node);
        if !silent.remove(&name) {
            continue;
        }
        // A node speaks of what it served itself.
        let said: Vec<RedactedRequest> = serde_json::from_slice(&answer.bytes).unwrap_or_default();
        let own = said.into_iter().filter(|one| one.site == answer.site && one.node == answer.node);
        requests.extend(own.take(LATEST_MAX));
        answered.push(name);
    }
    requests.sort_by_key(|request| std::cmp::Reverse(request.id));
    Ok(FleetEvents { requests, answered, silent: silent.into_iter().collect() })
}

/// For a search in a history and a way around the world.
const WAIT: Duration = Duration::from_secs(2);
