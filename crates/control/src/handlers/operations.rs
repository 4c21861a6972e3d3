//! Operating a fleet: cordon, drain, set to work again and evict nodes; snapshots.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use http::{StatusCode, header};
use phalanx_fleet::{Duty, Standing};
use phalanx_model::limits::REASON_BYTES_MAX;
use serde::Deserialize;

use crate::api::{NewNodeOrder, NodeDuty, NodeOrder, Restored, RestoredCount};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::reason;
use crate::router::Control;

/// `POST /api/v1/fleet/orders`
pub(crate) async fn order(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewNodeOrder>, JsonRejection>,
) -> Result<(StatusCode, Json<NodeOrder>), ApiError> {
    let Json(order) = body?;
    reason::check(&order.reason, REASON_BYTES_MAX)?;
    let duty = match order.duty {
        NodeDuty::Serve => Duty::Serve,
        NodeDuty::Cordon => Duty::Cordon,
        NodeDuty::Drain => Duty::Drain,
        NodeDuty::Evict => Duty::Evict,
    };
    control.record(&who, &format!("order node {}/{}: {}", order.site, order.node, duty.word()))?;
    let standing = control.deps.fleet.order_node(&order.site, &order.node, duty, &order.reason).await?;
    Ok((StatusCode::CREATED, Json(shown(&standing))))
}

/// `GET /api/v1/fleet/snapshot`. Signed, not sealed: whoever asks keeps it safe.
pub(crate) async fn snapshot(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<impl IntoResponse, ApiError> {
    let _one = control.importing.try_acquire().map_err(|_| busy())?;
    control.record(&who, "take a snapshot of the fleet")?;
    let policy_version = (control.deps.node_status)().plan.version;
    let bytes = control.deps.fleet.snapshot(policy_version).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes))
}

/// `POST /api/v1/fleet/restore`
pub(crate) async fn restore(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Query(options): Query<RestoreOptions>,
    body: Bytes,
) -> Result<Json<Restored>, ApiError> {
    let _one = control.importing.try_acquire().map_err(|_| busy())?;
    if !options.dry_run {
        control.record(&who, &format!("restore a snapshot of {} bytes", body.len()))?;
    }
    let done = control.deps.fleet.restore_snapshot(body, options.dry_run).await?;
    Ok(Json(Restored {
        dry_run: options.dry_run,
        made_at_ms: done.made_at_ms,
        made_by: done.made_by.to_string(),
        policy_version: done.policy_version,
        members: done.members as u64,
        decisions: count(done.decisions),
        withdrawals: count(done.withdrawals),
        lists: count(done.lists),
        revocations: count(done.revocations),
    }))
}

/// How to restore.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestoreOptions {
    #[serde(default)]
    dry_run: bool,
}

fn busy() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "busy", "a snapshot or an import is under way; try again in a moment")
}

fn count(tally: phalanx_fleet::Tally) -> RestoredCount {
    RestoredCount {
        restored: tally.restored as u64,
        known: tally.known as u64,
        expired: tally.expired as u64,
        ended: tally.ended as u64,
        refused: tally.refused as u64,
    }
}

/// Why the node wants no visitors, in words for people; `None` while it does.
pub(crate) fn out_of_service(control: &Control) -> Option<OutOfService> {
    let standing = control.deps.fleet.duty().borrow().clone()?;
    let state = match standing.order.duty {
        Duty::Serve | Duty::Evict => return None,
        Duty::Drain if control.deps.fleet.is_drained() => "drained",
        duty => duty.word(),
    };
    Some(OutOfService { state, by: standing.author.to_string(), reason: standing.order.reason })
}

/// What an operator's order makes of this node.
pub(crate) struct OutOfService {
    /// One word: `cordoned`, `draining`, `drained`.
    pub(crate) state: &'static str,
    by: String,
    reason: String,
}

impl OutOfService {
    /// The whole reason.
    pub(crate) fn words(&self) -> String {
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{} by order of {}{why}", self.state, self.by)
    }
}

fn shown(standing: &Standing) -> NodeOrder {
    NodeOrder {
        site: standing.order.site.to_string(),
        node: standing.order.node.to_string(),
        duty: match standing.order.duty {
            Duty::Serve => NodeDuty::Serve,
            Duty::Cordon => NodeDuty::Cordon,
            Duty::Drain => NodeDuty::Drain,
            Duty::Evict => NodeDuty::Evict,
        },
        reason: standing.order.reason.clone(),
        by: standing.author.to_string(),
        given_at_ms: standing.given_at_ms(),
    }
}
