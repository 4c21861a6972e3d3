//! Delegates of sites: named and ended where the authority is, seen and asked for invitations where they are.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_trust::{Invitation, TrustError, delegation};

use super::fleet::{ADDRESSES_MAX, port, with_authority};
use crate::api::{Delegate, Delegation, Enrolled, Invited, NewDelegation, NewInvitation, OpenInvitation};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::router::{Control, DelegatePort};

/// `GET /api/v1/fleet/delegate`
pub(crate) async fn overview(State(control): State<Arc<Control>>) -> Result<Json<Delegate>, ApiError> {
    let message =
        "this node cannot be a site's delegate; that is a node with the control role and --enroll ADDR";
    let none = || ApiError::new(StatusCode::CONFLICT, "no_delegate", message);
    let port = control.deps.delegate.as_ref().ok_or_else(none)?;
    let overview = port.delegate.lock().overview(control.now_ms());
    let site = overview.site;
    let nodes = overview.nodes.into_iter().map(|node| Enrolled {
        site: site.clone(),
        node: node.node,
        control: node.control,
        expires_at_ms: node.expires_at_ms,
        revoked_at_ms: node.revoked_at_ms,
    });
    let open = overview.invitations.into_iter().map(|(id, expires_at_ms)| OpenInvitation {
        id,
        site: site.clone(),
        control: false,
        expires_at_ms,
    });
    Ok(Json(Delegate {
        fleet: overview.fleet,
        expires_at_ms: overview.expires_at_ms,
        nodes: nodes.collect(),
        untold: overview.untold,
        invitations: open.collect(),
        site,
    }))
}

/// `POST /api/v1/fleet/delegations`
pub(crate) async fn delegate(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewDelegation>, JsonRejection>,
) -> Result<(StatusCode, Json<Delegation>), ApiError> {
    let Json(order) = body?;
    port(&control)?;
    control.record(&who, &format!("delegate site {} to {}", order.site, order.node))?;
    let delegated =
        with_authority(&control, move |authority| authority.delegate(&order.site, &order.node, order.for_ms));
    Ok((StatusCode::CREATED, Json(shown(delegated.await?))))
}

/// `DELETE /api/v1/fleet/delegations/{site}/{node}`. May be asked again: the order to all nodes is given each time.
pub(crate) async fn end(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path((site, node)): Path<(String, String)>,
) -> Result<Json<Delegation>, ApiError> {
    let port = port(&control)?;
    control.record(&who, &format!("end the delegation of site {site} to {node}"))?;
    let (of_site, of_node, now_ms) = (site.clone(), node.clone(), control.now_ms());
    // First here: else it would be renewed after the order.
    with_authority(&control, move |authority| authority.end_delegation(&of_site, &of_node, now_ms)).await?;
    port.changed.notify_one();
    control.deps.fleet.end_delegation(&site, &node, "").await?;
    Ok(Json(Delegation { site, node, expires_at_ms: None }))
}

/// A token that the delegate makes.
pub(super) async fn invite(
    control: &Control,
    port: &DelegatePort,
    who: &Principal,
    order: NewInvitation,
) -> Result<(StatusCode, Json<Invited>), ApiError> {
    if order.server || order.policy_version_min > 0 {
        return Err(ApiError::bad_request(
            "a site's delegate invites edge nodes of its own site; ask the node on which `phalanx fleet init` was run",
        ));
    }
    let addresses = if order.addresses.is_empty() { port.addresses.clone() } else { order.addresses };
    if addresses.len() > ADDRESSES_MAX {
        return Err(ApiError::bad_request("too many addresses"));
    }
    control.record(who, &format!("invite a node to site {}", order.site))?;
    let invitation = Invitation { site: order.site, control: order.control, addresses, for_ms: order.for_ms };
    let (delegate, now_ms) = (Arc::clone(&port.delegate), control.now_ms());
    let made = tokio::task::spawn_blocking(move || {
        let token = delegate.lock().invite(&invitation, now_ms)?;
        Ok::<_, TrustError>(Invited {
            token: token.to_text()?,
            id: token.id,
            expires_at_ms: token.expires_at_ms,
        })
    });
    let failed = |message: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "delegate", message);
    let made = made.await.map_err(|_| failed("it was cut off".into()))?;
    Ok((StatusCode::CREATED, Json(made.map_err(|error| failed(error.to_string()))?)))
}

pub(super) fn shown(delegation: delegation::Delegation) -> Delegation {
    Delegation { site: delegation.site, node: delegation.node, expires_at_ms: delegation.expires_at_ms }
}
