//! Refused and flagged requests: the list, and why.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use phalanx_fleet::Member;
use phalanx_model::id::node_tag;
use phalanx_model::limits::{HISTORY_PAGE_MAX, HISTORY_TEXT_BYTES_MAX};
use phalanx_model::{Action, RequestId};
use phalanx_record::{Explanation, Filter, History, RecordError, RecordedRequest};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::api::EventRow;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::traffic::apps;
use crate::handlers::{blocking, incidents};
use crate::router::Control;
use crate::url::encoded;

/// Texts, so that each mistake gets an answer of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    pub(super) incident: Option<String>,
    limit: Option<String>,
    before: Option<String>,
    since_ms: Option<String>,
    until_ms: Option<String>,
    client: Option<String>,
    action: Option<String>,
    rule: Option<String>,
    app: Option<String>,
    status: Option<String>,
    country: Option<String>,
    method: Option<String>,
    q: Option<String>,
}

/// `GET /api/v1/events`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<(HeaderMap, Json<Vec<EventRow>>), ApiError> {
    let Query(query) = query?;
    let mut filter = filter(&query)?;
    filter.apps = apps(&who, query.app.clone());
    filter.ids = evidence(&control, &who, query.incident.as_deref()).await?;
    let found = ask(&control, move |history| history.search(&filter)).await?;
    let rows = found.requests.iter().map(EventRow::from).collect();
    Ok((next_page(&query, found.next), Json(rows)))
}

/// Requests that are evidence of an incident. What it is about may be of other apps than an operator sees.
pub(super) async fn evidence(
    control: &Control,
    who: &Principal,
    incident: Option<&str>,
) -> Result<Option<Vec<RequestId>>, ApiError> {
    let Some(incident) = incident else { return Ok(None) };
    if who.apps().is_some() {
        return Err(ApiError::bad_request(
            "incidents are about more than the apps that this account is limited to",
        ));
    }
    let (shown, _) = incidents::find(control, incidents::asked(incident)?).await?;
    Ok(Some(shown.evidence))
}

/// Where a search goes on, as RFC 8288 has it; nothing where there is nothing older.
fn next_page(query: &EventQuery, next: Option<RequestId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(next) = next else { return headers };
    let before = Some(next.to_string());
    let pairs = [
        ("limit", &query.limit),
        ("since_ms", &query.since_ms),
        ("until_ms", &query.until_ms),
        ("client", &query.client),
        ("action", &query.action),
        ("rule", &query.rule),
        ("app", &query.app),
        ("status", &query.status),
        ("country", &query.country),
        ("method", &query.method),
        ("q", &query.q),
        ("incident", &query.incident),
        ("before", &before),
    ];
    let given =
        pairs.iter().filter_map(|(name, text)| text.as_ref().map(|text| format!("{name}={}", encoded(text))));
    let link = format!("</api/v1/events?{}>; rel=\"next\"", given.collect::<Vec<_>>().join("&"));
    headers.extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
    headers
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
    let explained = move |history: &History| match history.request(id)?.filter(&sees) {
        Some(record) => Ok::<_, RecordError>(Some(Explanation::new(record, history.consequences(id)?))),
        None => Ok(None),
    };
    // A control node has the history of its site's other nodes, too.
    let copies = control.deps.copies.history();
    let found = ask(&control, move |history| match (explained(history), copies) {
        // Copies that cannot be read are named by the status; the node that served it can still be asked.
        (own @ (Ok(None) | Err(_)), Some(copies)) => match explained(&copies) {
            Ok(Some(copied)) => Ok(Some(copied)),
            _ => own,
        },
        (own, _) => own,
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

/// What a query asks for, as far as it says so itself.
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
    let texts = [("app", &query.app), ("method", &query.method), ("q", &query.q)];
    for (name, text) in texts {
        let length = text.as_ref().map_or(1, String::len);
        if !(1..=HISTORY_TEXT_BYTES_MAX).contains(&length) {
            return Err(ApiError::bad_request(format!("{name} has 1 to {HISTORY_TEXT_BYTES_MAX} bytes")));
        }
    }
    let status = query.status.as_ref().map(|text| {
        text.parse()
            .map_err(|()| ApiError::bad_request(format!("status={text:?} is neither like 404 nor like 4xx")))
    });
    let country = query.country.as_ref().map(|text| {
        text.parse().map_err(|_| ApiError::bad_request(format!("country={text:?} is no country; write NL")))
    });
    Ok(Filter {
        before: query.before.as_deref().map(before).transpose()?,
        since_ms: number("since_ms", &query.since_ms)?,
        until_ms: number("until_ms", &query.until_ms)?,
        status: status.transpose()?,
        country: country.transpose()?,
        apps: query.app.clone().map(|app| vec![app]),
        method: query.method.clone(),
        text: query.q.clone(),
        ids: None,
        node_tags: None,
        client: client.transpose()?,
        action: action.transpose()?,
        rule: number("rule", &query.rule)?,
        limit: number("limit", &query.limit)?.unwrap_or(50).clamp(1, HISTORY_PAGE_MAX),
    })
}

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
            self_test: None,
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
