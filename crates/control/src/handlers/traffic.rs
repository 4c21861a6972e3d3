//! Requests over time, and the clients refused most: of this node, or of all, which are asked.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use phalanx_fleet::Link;
use phalanx_record::{By, History, Traffic, TrafficQuery, TrafficSeries};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::copied_traffic::{self, Heard};
use super::events::ask;
use super::inquiry::ask_all;
use crate::api::{ActorsSeen, NodeName, TrafficSeen};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::inquiry::{ACTORS_MAX, Asked, SERIES_TOLD_MAX, There, add_clients, most_refused};
use crate::router::Control;

/// Texts, so that each mistake gets an answer of its own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrafficParameters {
    from_ms: Option<String>,
    to_ms: Option<String>,
    by: Option<String>,
    app: Option<String>,
    count: Option<String>,
    points: Option<String>,
    fleet: Option<String>,
}

/// `GET /api/v1/traffic`
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<TrafficParameters>, QueryRejection>,
) -> Result<Json<TrafficSeen>, ApiError> {
    let Query(parameters) = query?;
    let mut seen = seen(&control, &who, &parameters).await?;
    if parameters.by.as_deref() == Some("rule") {
        let apps = apps(&who, parameters.app);
        seen.traffic.series = with_words(&control, seen.traffic.series, apps).await?;
    }
    Ok(Json(seen))
}

/// What was counted, here or by all nodes.
async fn seen(
    control: &Control,
    who: &Principal,
    parameters: &TrafficParameters,
) -> Result<TrafficSeen, ApiError> {
    let fleet = flag("fleet", parameters.fleet.as_deref())?;
    let mut query = asked(control, who, parameters, fleet)?;
    let series_max = std::mem::replace(&mut query.series_max, SERIES_TOLD_MAX);
    let by = query.by;
    if by == By::Site {
        // Nodes of earlier versions know no sites, and the name is put on here.
        query.by = By::Node;
    }
    let (asked, copies) = (query.clone(), control.deps.copies.history().filter(|_| fleet));
    let own = ask(control, move |history| {
        There::of(history.traffic(&asked)?, history, copies.as_ref(), asked.from_ms)
    });
    let (me, mut heard) = (me(control), Heard::default());
    let traffic = named(heard.note(control, &me, own.await?), by, &me);
    let mut seen = TrafficSeen { traffic, answered: vec![me], ..TrafficSeen::default() };
    if fleet {
        let question = Asked::Traffic(query.clone());
        for (name, bytes) in ask_all(control, &question, |member| member.link == Link::Up).await?.answers {
            let Ok(there) = serde_json::from_slice::<There<Traffic>>(&bytes) else { continue };
            let fits = |traffic: &Traffic| traffic.series.len() <= SERIES_TOLD_MAX;
            let theirs = named(there.counted.clone(), by, &name);
            if fits(&theirs) && seen.traffic.add(&theirs) {
                heard.note(control, &name, there);
                seen.answered.push(name);
            }
        }
        seen.answered.sort();
        seen.silent = not_heard(control, &seen.answered);
        let asked = query.clone();
        let own = move |copies: &History, told: &[u64]| copies.copied_traffic(&asked, told);
        let told =
            copied_traffic::asked(control, heard, own, |of| Asked::CopiedTraffic { query, of }).await?;
        copied_traffic::settle(told, (&mut seen.silent, &mut seen.copied), |at, traffic: Traffic| {
            traffic.series.len() <= SERIES_TOLD_MAX
                && seen.traffic.add(&copied_traffic::named(traffic, by, at))
        });
    }
    seen.traffic.keep_largest(series_max);
    Ok(seen)
}

/// The other nodes that did not answer, also those that were not waited for because they are away.
pub(super) fn not_heard(control: &Control, answered: &[NodeName]) -> Vec<NodeName> {
    let others = control.deps.fleet.members().into_iter().filter(|member| !member.me);
    let names = others.map(|one| NodeName { site: one.site.to_string(), node: one.node.to_string() });
    names.filter(|name| !answered.contains(name)).collect()
}

/// Numbers of rules say little: what each said last, on this node. Others are not asked, for it may quote a request.
async fn with_words(
    control: &Control,
    mut series: Vec<TrafficSeries>,
    apps: Option<Vec<String>>,
) -> Result<Vec<TrafficSeries>, ApiError> {
    ask(control, move |history| {
        for one in &mut series {
            // What no rule found has the number 0.
            let Some(rule) = one.key.parse().ok().filter(|rule| *rule != 0) else { continue };
            one.words = history.rule_words(rule, apps.as_deref())?;
        }
        Ok(series)
    })
    .await
}

/// `GET /api/v1/traffic/actors`
pub(crate) async fn actors(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<TrafficParameters>, QueryRejection>,
) -> Result<Json<ActorsSeen>, ApiError> {
    let Query(parameters) = query?;
    if parameters.by.is_some() || parameters.count.is_some() {
        return Err(ApiError::bad_request("actors have no `by` and `count`"));
    }
    refused_most(&control, &who, &parameters).await.map(Json)
}

/// The clients refused most, here or at all nodes.
async fn refused_most(
    control: &Control,
    who: &Principal,
    parameters: &TrafficParameters,
) -> Result<ActorsSeen, ApiError> {
    let fleet = flag("fleet", parameters.fleet.as_deref())?;
    let query = asked(control, who, parameters, fleet)?;
    let TrafficQuery { from_ms, to_ms, step_ms, .. } = query;
    let points = query.points();
    let question = Asked::Actors { from_ms, to_ms, step_ms, apps: query.apps.clone() };
    let own = ask(control, move |history| history.refused_clients(&query, ACTORS_MAX)).await?;
    let mut seen = ActorsSeen { from_ms, to_ms, step_ms, clients: own, ..ActorsSeen::default() };
    seen.answered.push(me(control));
    if fleet {
        let others = ask_all(control, &question, |member| member.link == Link::Up).await?;
        seen.silent = others.silent;
        for (name, bytes) in others.answers {
            add_clients(&mut seen.clients, serde_json::from_slice(&bytes).unwrap_or_default(), points);
            seen.answered.push(name);
        }
        seen.answered.sort();
        most_refused(&mut seen.clients);
    }
    Ok(seen)
}

pub(super) fn me(control: &Control) -> NodeName {
    NodeName { site: control.deps.site.to_string(), node: control.deps.node.to_string() }
}

/// A node counts itself as one series, which gets its name, or that of its site, where it is told from others.
fn named(mut traffic: Traffic, by: By, node: &NodeName) -> Traffic {
    let name = match by {
        By::Node => node.to_string(),
        By::Site => node.site.clone(),
        _ => return traffic,
    };
    traffic.series.iter_mut().for_each(|one| one.key.clone_from(&name));
    traffic
}

fn asked(
    control: &Control,
    who: &Principal,
    parameters: &TrafficParameters,
    fleet: bool,
) -> Result<TrafficQuery, ApiError> {
    let by = match parameters.by.as_deref() {
        None => By::Action,
        Some(text) => {
            let name: StrDeserializer<'_, ValueError> = text.into_deserializer();
            By::deserialize(name).map_err(|_| {
                ApiError::bad_request(format!(
                    "by={text:?} is none of action, app, rule, class, country, status, node, site; clients are at traffic/actors"
                ))
            })?
        }
    };
    let refused = match parameters.count.as_deref() {
        None | Some("all") => false,
        Some("refused") => true,
        Some(other) => {
            return Err(ApiError::bad_request(format!("count={other:?} is neither all nor refused")));
        }
    };
    let most = if fleet { FLEET_POINTS_MAX } else { phalanx_model::limits::TRAFFIC_POINTS_MAX };
    let points = number("points", parameters.points.as_deref())?.unwrap_or(POINTS_DEFAULT);
    let points = usize::try_from(points).unwrap_or(usize::MAX).clamp(1, most);
    let (from_ms, to_ms) = time(control, parameters)?;
    let query = TrafficQuery::new(from_ms, to_ms, points, control.now_ms(), by);
    Ok(TrafficQuery { refused, apps: apps(who, parameters.app.clone()), ..query })
}

/// From when to when: the last hour if nothing is said.
fn time(control: &Control, parameters: &TrafficParameters) -> Result<(u64, u64), ApiError> {
    let (from_ms, to_ms) = (parameters.from_ms.as_deref(), parameters.to_ms.as_deref());
    time_of(from_ms, to_ms, control.now_ms(), 60 * 60_000)
}

/// From when to when: until now, and as long as that, if nothing is said.
pub(super) fn time_of(
    from_ms: Option<&str>,
    to_ms: Option<&str>,
    now_ms: u64,
    length_ms: u64,
) -> Result<(u64, u64), ApiError> {
    let to_ms = number("to_ms", to_ms)?.unwrap_or(now_ms);
    let from_ms = number("from_ms", from_ms)?.unwrap_or_else(|| to_ms.saturating_sub(length_ms));
    if from_ms >= to_ms || to_ms >= 1 << 48 {
        return Err(ApiError::bad_request(format!("from_ms={from_ms} is not before to_ms={to_ms}")));
    }
    Ok((from_ms, to_ms))
}

/// The apps that are asked for, among those that who asks may see.
pub(super) fn apps(who: &Principal, app: Option<String>) -> Option<Vec<String>> {
    match (who.apps(), app) {
        (None, None) => None,
        (None, Some(app)) => Some(vec![app]),
        (Some(own), None) => Some(own),
        (Some(own), Some(app)) => Some(own.into_iter().filter(|one| *one == app).collect()),
    }
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let wrong = |text: &str| ApiError::bad_request(format!("{name}={text:?} is no number"));
    text.map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

pub(super) fn flag(name: &str, text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(ApiError::bad_request(format!("{name}={other:?} is neither true nor false"))),
    }
}

const POINTS_DEFAULT: u64 = 120;
/// Points of an answer of all nodes: each must fit into one message.
const FLEET_POINTS_MAX: usize = 120;
