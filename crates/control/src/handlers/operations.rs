//! Operating the nodes of a fleet: cordon, drain, set to work again, evict.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_fleet::{Duty, Standing};

use crate::api::{NewNodeOrder, NodeDuty, NodeOrder};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::router::Control;

/// `POST /api/v1/fleet/orders`
pub(crate) async fn order(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewNodeOrder>, JsonRejection>,
) -> Result<(StatusCode, Json<NodeOrder>), ApiError> {
    let Json(order) = body.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
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
