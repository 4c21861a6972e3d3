//! Refused and flagged requests: the list, and why.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_fleet::Member;
use phalanx_model::id::node_tag;
use phalanx_model::limits::HISTORY_PAGE_MAX;
use phalanx_model::{Action, RequestId};
use phalanx_record::{Explanation, Filter, History, RecordError, RecordedRequest};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::api::EventRow;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::blocking;
use crate::router::Control;

/// Texts, so that each mistake gets an answer of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    limit: Option<String>,
    before: Option<String>,
    since_ms: Option<String>,
    client: Option<String>,
    action: Option<String>,
    rule: Option<String>,
}

/// `GET /api/v1/events`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<Vec<EventRow>>, ApiError> {
    let Query(query) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let filter = filter(&query)?;
    let apps = who.apps();
    let records = ask(&control, move |history| match apps {
        None => history.recent(&filter),
        Some(apps) => recent_of(history, filter, &apps),
    });
    let records = records.await?;
    Ok(Json(records.iter().map(EventRow::from).collect()))
}

/// The most recent of these apps: as many as are asked for, among the last [`PAGES_LOOKED_THROUGH`] pages of all.
fn recent_of(
    history: &History,
    mut filter: Filter,
    apps: &[String],
) -> Result<Vec<RecordedRequest>, RecordError> {
    let wanted = std::mem::replace(&mut filter.limit, HISTORY_PAGE_MAX);
    let mut found = Vec::new();
    for _ in 0..PAGES_LOOKED_THROUGH {
        let page = history.recent(&filter)?;
        let Some(last) = page.last().map(|record| record.access.id) else { break };
        filter.before = Some(last);
        found.extend(page.into_iter().filter(|record| is_of(record, apps)));
        if found.len() >= wanted {
            found.truncate(wanted);
            break;
        }
    }
    Ok(found)
}

fn is_of(record: &RecordedRequest, apps: &[String]) -> bool {
    apps.iter().any(|app| **app == *record.access.app)
}

/// `GET /api/v1/events/{id}`
pub(crate) async fn explain(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Explanation>, ApiError> {
    let id: RequestId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    let apps = who.apps();
    // A request of an app that he does not see is answered as one that is not there.
    let sees = move |record: &RecordedRequest| apps.as_ref().is_none_or(|apps| is_of(record, apps));
    let found = ask(&control, move |history| match history.request(id)?.filter(sees) {
        Some(record) => Ok(Some(Explanation::new(record, history.consequences(id)?))),
        None => Ok(None),
    });
    found.await?.map(Json).ok_or_else(|| not_here(&control, id))
}

/// An id tells which node's history holds the request; the answer names it.
pub(super) fn not_here(control: &Control, id: RequestId) -> ApiError {
    let deps = &control.deps;
    if id.node_tag() == node_tag(&deps.site, &deps.node) {
        return ApiError::not_found(format!(
            "this node has no request {id}: neither in its history, where refused and flagged ones are, nor, passed, in its access log of JSON"
        ));
    }
    elsewhere(&deps.fleet.members(), id)
}

fn elsewhere(members: &[Member], id: RequestId) -> ApiError {
    let served = |member: &&Member| !member.me && node_tag(&member.site, &member.node) == id.node_tag();
    match members.iter().find(served) {
        Some(there) => {
            let message =
                format!("request {id} was served by node {}/{}; ask that node", there.site, there.node);
            ApiError::new(StatusCode::NOT_FOUND, "elsewhere", message).at(&there.site, &there.node)
        }
        None => {
            ApiError::not_found(format!("request {id} was served by another node, which is not known here"))
        }
    }
}

/// Asks the history on a thread that may block.
pub(super) async fn ask<T: Send + 'static>(
    control: &Control,
    question: impl FnOnce(&History) -> Result<T, RecordError> + Send + 'static,
) -> Result<T, ApiError> {
    let closed = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the node is stopping");
    let permit = Arc::clone(&control.history_queries).acquire_owned().await.map_err(closed)?;
    let history = control.deps.history.clone();
    match blocking(permit, move || question(&history)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "history", "the query failed")),
    }
}

pub(super) fn filter(query: &EventQuery) -> Result<Filter, ApiError> {
    fn number<T: std::str::FromStr>(name: &str, text: &Option<String>) -> Result<Option<T>, ApiError> {
        let wrong = |text: &String| ApiError::bad_request(format!("{name}={text:?} is no number"));
        text.as_ref().map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }
    let client = query.client.as_ref().map(|text| {
        text.parse().map_err(|_| ApiError::bad_request(format!("client={text:?} is no address")))
    });
    let action = query.action.as_ref().map(|text| {
        let name: StrDeserializer<'_, ValueError> = text.as_str().into_deserializer();
        Action::deserialize(name).map_err(|_| {
            ApiError::bad_request(format!(
                "action={text:?} is none of allow, observe, challenge, throttle, tarpit, deny"
            ))
        })
    });
    Ok(Filter {
        before: query.before.as_deref().map(before).transpose()?,
        since_ms: number("since_ms", &query.since_ms)?,
        client: client.transpose()?,
        action: action.transpose()?,
        rule: number("rule", &query.rule)?,
        limit: number("limit", &query.limit)?.unwrap_or(50).clamp(1, HISTORY_PAGE_MAX),
    })
}

/// How far back the requests of an operator's apps are looked for at once.
const PAGES_LOOKED_THROUGH: usize = 16;

/// A request's id, or a time in Unix milliseconds.
fn before(text: &str) -> Result<RequestId, ApiError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let wrong =
        |_| ApiError::bad_request(format!("before={text:?} is neither an id nor a time in milliseconds"));
    text.parse().map(|at_ms| RequestId::from_parts(at_ms, 0, 0)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_node_names_that_node() {
        let member = |node: &str, me| Member {
            site: "syd".into(),
            node: node.into(),
            version: String::new(),
            lag_ms: 0,
            last_seen_ms: 0,
            decisions: 0,
            held: 0,
            revision: 0,
            policy: None,
            me,
            link: phalanx_fleet::Link::Up,
            duty: phalanx_fleet::Duty::Serve,
            drained: false,
            order_reason: String::new(),
        };
        let members = [member("a", true), member("b", false)];
        let asked = |tag| {
            serde_json::to_value(elsewhere(&members, RequestId::from_parts(1, tag, 1)).problem()).unwrap()
        };
        let there = asked(node_tag("syd", "b"));
        assert_eq!((&there["code"], &there["node"]), (&"elsewhere".into(), &"b".into()));
        assert_eq!(asked(node_tag("syd", "c"))["code"], "not_found");
    }
}
