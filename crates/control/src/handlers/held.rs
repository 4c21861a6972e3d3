//! What waits for an operator: list, approve, reject.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use phalanx_fleet::{Change, HeldKind, HeldOrder};
use phalanx_model::limits::REASON_BYTES_MAX;
use phalanx_model::{DecisionId, DecisionKind};
use serde::Deserialize;

use crate::api::{Held, HeldThing, HeldWhat, Settled};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::decisions::kept;
use crate::paging::Page;
use crate::reason;
use crate::router::Control;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

/// `GET /api/v1/held`: the latest first.
pub(crate) async fn list(State(control): State<Arc<Control>>, page: Page) -> Result<Json<Held>, ApiError> {
    let (held, total) = control.deps.fleet.held();
    let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    let measured_by = count(control.deps.fleet.good_clients().len());
    let held = page.of(held.into_iter().map(thing).collect(), |thing: &HeldThing| thing.id.to_string())?;
    Ok(Json(Held { held, total: count(total), measured_by }))
}

/// `POST /api/v1/held/{id}`: makes it the operator's own order, in force everywhere.
pub(crate) async fn approve(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    query: Result<Query<ReasonQuery>, QueryRejection>,
) -> Result<Json<Settled>, ApiError> {
    let (id, reason) = asked(&id, query)?;
    let what = named(&control.deps.fleet.meant(id)?);
    control.ledger_room().await;
    control.record(&who, &format!("approve {id}, {what}: {reason}"))?;
    let settled = control.deps.fleet.approve(id, &reason).await?;
    Ok(Json(answer(&control, settled).await?))
}

/// `DELETE /api/v1/held/{id}`: ends it everywhere.
pub(crate) async fn reject(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    query: Result<Query<ReasonQuery>, QueryRejection>,
) -> Result<Json<Settled>, ApiError> {
    let (id, reason) = asked(&id, query)?;
    let reason = if reason.is_empty() { "rejected by an operator" } else { &reason };
    let what = named(&control.deps.fleet.meant(id)?);
    control.ledger_room().await;
    control.record(&who, &format!("reject {id}, {what}: {reason}"))?;
    let settled = control.deps.fleet.reject(id, reason).await?;
    Ok(Json(answer(&control, settled).await?))
}

fn asked(
    id: &str,
    query: Result<Query<ReasonQuery>, QueryRejection>,
) -> Result<(DecisionId, String), ApiError> {
    let Query(query) = query?;
    let id: DecisionId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    reason::check(&query.reason, REASON_BYTES_MAX)?;
    Ok((id, query.reason))
}

fn named(what: &HeldKind) -> String {
    match what {
        HeldKind::Decision(decision) => format!("a decision about {}", decision.actor),
        HeldKind::Blocklist(list) => format!("blocklist {}, version {}", list.name, list.version),
        HeldKind::Range(proposal, _) => format!("a ban of {}", proposal.range),
    }
}

async fn answer(control: &Control, settled: phalanx_fleet::Settled) -> Result<Settled, ApiError> {
    let (change, answer) = match settled {
        phalanx_fleet::Settled::Ordered(decision) => {
            let answer = Settled { decision: Some(Arc::clone(&decision)), ..Settled::default() };
            (Change::Decided(decision), answer)
        }
        phalanx_fleet::Settled::Withdrawn(order) => {
            let answer = Settled { withdrawal: Some(Arc::clone(&order)), ..Settled::default() };
            (Change::Withdrawn(order), answer)
        }
        phalanx_fleet::Settled::Listed(list) => {
            let answer = Settled { blocklist: Some(list.name.to_string()), ..Settled::default() };
            (Change::Listed(list), answer)
        }
    };
    kept(control, change).await?;
    Ok(answer)
}

fn thing(held: HeldOrder) -> HeldThing {
    let HeldOrder { id, what, share, since_ms } = held;
    let text = match &what {
        HeldKind::Range(..) => format!("proposed: would refuse {share}"),
        HeldKind::Decision(_) | HeldKind::Blocklist(_) => format!("held: would refuse {share}"),
    };
    match what {
        HeldKind::Decision(decision) => HeldThing {
            id,
            what: HeldWhat::Decision,
            actor: Some(decision.actor.clone()),
            blocklist: None,
            addresses: None,
            kind: decision.kind,
            author: decision.author.clone(),
            reason: decision.reason.clone(),
            share,
            text,
            since_ms,
            expires_at_ms: Some(decision.expires_at_ms),
        },
        HeldKind::Blocklist(list) => HeldThing {
            id,
            what: HeldWhat::Blocklist,
            actor: None,
            blocklist: Some(list.name.to_string()),
            addresses: list.content.as_ref().map(|content| content.prefixes),
            kind: list.kind,
            author: list.author.clone(),
            reason: list.reason.clone(),
            share,
            text,
            since_ms,
            expires_at_ms: Some(list.until_ms),
        },
        HeldKind::Range(proposal, banned) => HeldThing {
            id,
            what: HeldWhat::Range,
            actor: Some(proposal.actor()),
            blocklist: None,
            addresses: Some(banned),
            kind: DecisionKind::Ban,
            reason: format!("{banned} of its addresses are banned by {}", proposal.author),
            author: proposal.author,
            share,
            text,
            since_ms,
            expires_at_ms: None,
        },
    }
}
