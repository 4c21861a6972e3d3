//! Decisions: list, add, undo.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_fleet::Change;
use phalanx_model::actor::{ActorError, is_asn, parse_hash};
use phalanx_model::limits::{DECISION_MAX_MS, REASON_BYTES_MAX};
use phalanx_model::{
    Actor, Author, AuthorRole, Decision, DecisionId, DecisionKind, GoodShare, Prefix, Recall, Withdrawal,
    names,
};
use serde::Deserialize;

use crate::api::{DecisionMade, NewDecision};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::paging::Page;
use crate::reason;
use crate::router::Control;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WithdrawQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecallQuery {
    #[serde(default = "node")]
    role: AuthorRole,
    #[serde(default)]
    reason: String,
}

fn node() -> AuthorRole {
    AuthorRole::Node
}

/// `GET /api/v1/decisions`: those in force, newest first.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<Arc<Decision>>>, ApiError> {
    let before = page.before.as_deref().map(str::parse).transpose();
    let before = before.map_err(|error| ApiError::bad_request(format!("before: {error}")))?;
    Ok(Json(control.deps.fleet.list_before(before, control.now_ms(), page.limit)))
}

/// `POST /api/v1/decisions`
pub(crate) async fn add(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewDecision>, JsonRejection>,
) -> Result<(StatusCode, Json<DecisionMade>), ApiError> {
    let Json(new) = body?;
    let actor = actor(&new)?;
    check(&new)?;
    check_scope(&who, &actor)?;
    let refuses = measured(&control, &new, &actor).await?;
    control.ledger_room().await;
    control
        .record(&who, &format!("{} {actor} for {} s: {}", new.kind.name(), new.for_ms / 1_000, new.reason))?;
    let order = phalanx_fleet::NewDecision {
        actor,
        kind: new.kind,
        for_ms: new.for_ms,
        reason: new.reason,
        evidence: None,
    };
    let decision = control.deps.fleet.add(order)?;
    kept(&control, Change::Decided(Arc::clone(&decision))).await?;
    let exempt = exempt(&control, new.kind, &decision.actor);
    Ok((StatusCode::CREATED, Json(DecisionMade { decision, refuses, exempt })))
}

/// The range that is exempt from an order against all of an actor. It stands all the same: policy may change, and other nodes' may differ.
fn exempt(control: &Control, kind: DecisionKind, actor: &Actor) -> Option<Prefix> {
    if matches!(kind, DecisionKind::Allow | DecisionKind::RaiseParanoia) {
        return None;
    }
    let network = match actor {
        Actor::Ip(ip) | Actor::Client { ip, .. } => Prefix::from(*ip),
        Actor::Prefix(prefix) => *prefix,
        _ => return None,
    };
    (control.deps.exempt)().into_iter().find(|exempt| exempt.contains(&network))
}

/// How many of the clients served well an order would refuse. Over the limit that holds for nodes and lists it must be said twice.
async fn measured(
    control: &Control,
    new: &NewDecision,
    actor: &Actor,
) -> Result<Option<GoodShare>, ApiError> {
    if new.kind != DecisionKind::Ban {
        return Ok(None);
    }
    let Some((share, over)) = control.deps.fleet.would_refuse(actor).await else { return Ok(None) };
    if over && !new.force {
        let message = format!(
            "{actor}: nothing is ordered yet, because it would refuse {share} here; if that is meant, order it with --force"
        );
        return Err(ApiError::new(StatusCode::CONFLICT, "would_refuse_many", message));
    }
    Ok((share.clients > 0).then_some(share))
}

/// `DELETE /api/v1/decisions/{id}`: ends it, and all others about the same actor, on all nodes.
pub(crate) async fn withdraw(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    query: Result<Query<WithdrawQuery>, QueryRejection>,
) -> Result<Json<Arc<Withdrawal>>, ApiError> {
    let Query(query) = query?;
    let id: DecisionId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    reason::check(&query.reason, REASON_BYTES_MAX)?;
    // One of other apps is none for him, or the answer would tell that it is there.
    let found = control.deps.fleet.find(id).filter(|found| check_scope(&who, &found.actor).is_ok());
    let Some(decision) = found else {
        return Err(ApiError::not_found(format!("no decision {id} is in force")));
    };
    let reason = if query.reason.is_empty() { "withdrawn by an operator" } else { &query.reason };
    control.ledger_room().await;
    control.record(&who, &format!("withdraw decision {id} about {}: {reason}", decision.actor))?;
    let withdrawal = control.deps.fleet.delete(id, reason)?;
    kept(&control, Change::Withdrawn(Arc::clone(&withdrawal))).await?;
    Ok(Json(withdrawal))
}

/// `GET /api/v1/recalls`: orders that ended everything an author had decided, newest first.
pub(crate) async fn recalls(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<Arc<Recall>>>, ApiError> {
    Ok(Json(page.of(control.deps.fleet.recalls(), |recall| recall.id.to_string())?))
}

/// `DELETE /api/v1/nodes/{site}/{node}/decisions`: ends, on all nodes, everything that the author has decided so far.
pub(crate) async fn recall(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path((site, node)): Path<(String, String)>,
    query: Result<Query<RecallQuery>, QueryRejection>,
) -> Result<Json<Arc<Recall>>, ApiError> {
    let Query(query) = query?;
    if query.reason.trim().is_empty() {
        return Err(ApiError::bad_request("withdrawing all that an author decided needs a reason"));
    }
    reason::check(&query.reason, REASON_BYTES_MAX)?;
    let target = Author { site: site.into(), node: node.into(), role: query.role };
    control.ledger_room().await;
    control.record(&who, &format!("withdraw everything decided by {target}: {}", query.reason))?;
    let recall = control.deps.fleet.recall(target, &query.reason)?;
    kept(&control, Change::Recalled(Arc::clone(&recall))).await?;
    Ok(Json(recall))
}

/// An order is answered when it is on disk. One that cannot be is in force all the same, and the answer says so.
pub(crate) async fn kept(control: &Control, change: Change) -> Result<(), ApiError> {
    control.deps.fleet.kept(change).await.map_err(|error| {
        let message = format!("the order is in force and was sent, but this node would forget it: {error}");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_kept", message)
    })
}

fn actor(new: &NewDecision) -> Result<Actor, ApiError> {
    let prefix = |text: &String| {
        let wrong = |_| ApiError::bad_request(format!("{text:?} is no address range; write 192.0.2.0/24"));
        Ok(Actor::prefix(text.parse::<Prefix>().map_err(wrong)?))
    };
    let read = |name: &str, text: &String, read: fn(&str) -> Result<Actor, ActorError>| {
        read(text).map_err(|error| ApiError::bad_request(format!("{name} {text:?}: {error}")))
    };
    let asn = |number: u32| match is_asn(number) {
        true => Ok(Actor::Asn(number)),
        false => Err(ApiError::bad_request(format!("asn {number}: {}", ActorError::Asn))),
    };
    let named = [
        new.ip.map(|ip| Ok(Actor::ip(ip))),
        new.prefix.as_ref().map(prefix),
        new.asn.map(asn),
        new.country.as_ref().map(|text| read("country", text, |text| text.parse().map(Actor::Country))),
        new.ja4.as_ref().map(|text| read("ja4", text, |text| text.parse().map(Actor::Ja4))),
        new.session.as_ref().map(|text| read("session", text, |text| parse_hash(text).map(Actor::Session))),
        new.account.as_ref().map(|text| read("account", text, |text| parse_hash(text).map(Actor::Account))),
        new.software
            .as_ref()
            .map(|text| read("software", text, |text| parse_hash(text).map(Actor::Software))),
        new.place.as_deref().map(|place| place_of(place, new.kind)),
    ];
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (Some(Ok(actor)), None) if !new.kind.suits(&actor) => {
            Err(ApiError::bad_request("paranoia is raised of an app: name it as `place`"))
        }
        (Some(actor), None) => actor,
        _ => {
            let fault = "a decision needs exactly one of ip, prefix, asn, country, ja4, session, account, software and place";
            Err(ApiError::bad_request(fault))
        }
    }
}

/// Whoever is limited to some apps decides about these as a whole: everybody else is a matter of all apps.
fn check_scope(who: &Principal, actor: &Actor) -> Result<(), ApiError> {
    let is_about = |app: &String| {
        let app = names::app(app);
        [Actor::App(app), Actor::Rules(app)].contains(actor)
    };
    match who.apps() {
        Some(apps) if !apps.iter().any(is_about) => {
            let message = "this is about more than the apps that this account is limited to";
            Err(ApiError::new(StatusCode::FORBIDDEN, "apps", message))
        }
        _ => Ok(()),
    }
}

/// An app, or `APP/ROUTE`. Nodes need not know it yet: policy may come later.
fn place_of(place: &str, kind: DecisionKind) -> Result<Actor, ApiError> {
    let raises = kind == DecisionKind::RaiseParanoia;
    match place.split_once('/') {
        Some(_) if raises => Err(ApiError::bad_request(format!(
            "paranoia is raised of whole apps: give the app of {place:?} without a route"
        ))),
        None if raises => Ok(Actor::Rules(names::app(place))),
        Some((app, route)) => Ok(Actor::Route(names::route(app, route))),
        None => Ok(Actor::App(names::app(place))),
    }
}

fn check(new: &NewDecision) -> Result<(), ApiError> {
    if new.for_ms == 0 || new.for_ms > DECISION_MAX_MS {
        return Err(ApiError::bad_request(format!("for_ms must be from 1 to {DECISION_MAX_MS}")));
    }
    if new.reason.trim().is_empty() {
        return Err(ApiError::bad_request("a decision needs a reason"));
    }
    reason::check(&new.reason, REASON_BYTES_MAX)
}
