//! Refused and flagged requests of all nodes: asked of each, redacted by each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use phalanx_fleet::{Link, Member};
use phalanx_model::RequestId;
use phalanx_model::id::node_tag;
use phalanx_record::Filter;
use tokio::time::{Instant, timeout_at};

use super::events::{EventQuery, evidence, filter};
use crate::api::NodeName;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::inquiry::{Asked, FleetEvents, FoundThere, LATEST_MAX, RedactedRequest};
use crate::router::Control;

/// `GET /api/v1/fleet/events`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<FleetEvents>, ApiError> {
    let Query(query) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let mut filter = filter(&query)?;
    filter.ids = evidence(&control, &who, query.incident.as_deref()).await?;
    if let Some(ids) = &mut filter.ids {
        // The newest: the question must fit into one message.
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        ids.truncate(IDS_ASKED_MAX);
    }
    let asked = question(filter);
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

/// The question of a filter; one that nodes of the version before understand, where they know all that it filters by.
fn question(mut filter: Filter) -> Asked {
    filter.limit = filter.limit.min(LATEST_MAX);
    let Filter { client, action, rule, before, since_ms, limit, .. } = filter;
    let known = Filter { client, action, rule, before, since_ms, limit, ..Filter::default() };
    match known == filter {
        true => Asked::Latest { client, action, rule, before, since_ms, limit },
        false => Asked::Search(Box::new(filter)),
    }
}

/// What others said to a question about requests, each node of its own.
async fn ask(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
) -> Result<FleetEvents, ApiError> {
    let others = ask_all(control, asked, waits_for).await?;
    let mut found = FleetEvents {
        silent: others.silent.iter().map(NodeName::to_string).collect(),
        ..FleetEvents::default()
    };
    for (name, bytes) in others.answers {
        let there = match asked {
            Asked::Search(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
            _ => FoundThere { requests: serde_json::from_slice(&bytes).unwrap_or_default(), next: None },
        };
        let full = matches!(asked, Asked::Latest { limit, .. } if there.requests.len() >= *limit);
        let next = there.next.or_else(|| there.requests.last().filter(|_| full).map(|last| last.id));
        // A node speaks of what it served itself.
        let own = there.requests.into_iter().filter(|one| *one.site == *name.site && *one.node == *name.node);
        found.requests.extend(own.take(LATEST_MAX));
        found.next = found.next.max(next);
        found.answered.push(name.to_string());
    }
    // Until where all have looked; what is older is on the next page, with what the others have there.
    if let Some(next) = found.next {
        found.requests.retain(|request| request.id >= next);
    }
    found.requests.sort_by_key(|request| std::cmp::Reverse(request.id));
    Ok(found)
}

/// What others answered, and who did not.
pub(super) struct Others {
    pub(super) answers: Vec<(NodeName, Vec<u8>)>,
    pub(super) silent: Vec<NodeName>,
}

/// Asks all others, and waits until all that are waited for have answered, or the time is over.
pub(super) async fn ask_all(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
) -> Result<Others, ApiError> {
    ask_patiently(control, asked, waits_for, WAIT).await
}

/// The same, for as long as is said.
pub(super) async fn ask_patiently(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
    wait: Duration,
) -> Result<Others, ApiError> {
    let fleet = &control.deps.fleet;
    let name = |site: &str, node: &str| NodeName { site: site.to_owned(), node: node.to_owned() };
    let members = fleet.members();
    let waited = members.iter().filter(|member| !member.me && waits_for(member));
    let mut silent: BTreeSet<NodeName> = waited.map(|member| name(&member.site, &member.node)).collect();
    let question = serde_json::to_vec(asked).unwrap_or_default();
    let mut replies = fleet.ask(&question).await?;
    let mut answers = Vec::new();
    let until = Instant::now() + wait;
    while !silent.is_empty() {
        let Ok(Some(answer)) = timeout_at(until, replies.recv()).await else { break };
        let from = name(&answer.site, &answer.node);
        if silent.remove(&from) {
            answers.push((from, answer.bytes));
        }
    }
    Ok(Others { answers, silent: silent.into_iter().collect() })
}

/// Requests that others are asked for at once.
const IDS_ASKED_MAX: usize = 24;
/// For a search in a history and a way around the world.
const WAIT: Duration = Duration::from_secs(2);
