//! The fleet's authority and its members: invite, revoke, change the root.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_model::limits::REASON_BYTES_MAX;
use phalanx_trust::{FleetAuthority, Invitation, TrustError, valid_name};

use crate::api::{Authority, Enrolled, Invited, NewInvitation, NewRevocation, OpenInvitation, Revoked};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::reason;
use crate::router::{AuthorityPort, Control};

/// `GET /api/v1/fleet`
pub(crate) async fn overview(State(control): State<Arc<Control>>) -> Result<Json<Authority>, ApiError> {
    let now_ms = control.now_ms();
    with_authority(&control, move |authority| describe(authority, now_ms)).await.map(Json)
}

/// `POST /api/v1/fleet/invitations`. The token is in the answer and nowhere else.
pub(crate) async fn invite(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewInvitation>, JsonRejection>,
) -> Result<(StatusCode, Json<Invited>), ApiError> {
    let Json(order) = body?;
    if let (None, Some(port)) = (&control.deps.authority, &control.deps.delegate) {
        return super::delegation::invite(&control, port, &who, order).await;
    }
    let port = port(&control)?;
    if !valid_name(&order.site) {
        return Err(ApiError::bad_request("a site has 1 to 63 characters of a-z, 0-9, - and _"));
    }
    let addresses = if order.addresses.is_empty() { port.addresses.clone() } else { order.addresses };
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        let message =
            "nothing listens for nodes that join: start this node with --enroll ADDR, or name an address";
        return Err(ApiError::bad_request(message));
    }
    let what = if order.server { "server" } else { "node" };
    control.record(&who, &format!("invite a {what} to site {}", order.site))?;
    let for_server = order.server;
    let invitation = Invitation { site: order.site, control: order.control, addresses, for_ms: order.for_ms };
    let (now_ms, policy_version_min) = (control.now_ms(), order.policy_version_min);
    let invited = with_authority(&control, move |authority| {
        authority.raise_policy_version_min(policy_version_min)?;
        let token = match for_server {
            true => authority.invite_server(&invitation, now_ms)?,
            false => authority.invite(&invitation, now_ms)?,
        };
        Ok(Invited { token: token.to_text()?, id: token.id, expires_at_ms: token.expires_at_ms })
    });
    Ok((StatusCode::CREATED, Json(invited.await?)))
}

/// `POST /api/v1/fleet/revocations`
pub(crate) async fn revoke(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewRevocation>, JsonRejection>,
) -> Result<(StatusCode, Json<Revoked>), ApiError> {
    let Json(order) = body?;
    reason::check(&order.reason, REASON_BYTES_MAX)?;
    control.record(&who, &format!("revoke node {}/{}", order.site, order.node))?;
    let revoked = control.deps.fleet.revoke(&order.site, &order.node, order.withdraw, &order.reason).await?;
    let revoked = Revoked {
        site: revoked.site.to_string(),
        node: revoked.node.to_string(),
        up_to_ms: revoked.up_to_ms,
    };
    Ok((StatusCode::CREATED, Json(revoked)))
}

/// `POST /api/v1/fleet/root`
pub(crate) async fn change_root(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<Authority>, ApiError> {
    port(&control)?;
    control.record(&who, "begin to sign with a new root")?;
    let now_ms = control.now_ms();
    let changed = with_authority(&control, move |authority| {
        authority.change_root(now_ms)?;
        describe(authority, now_ms)
    });
    changed.await.map(Json)
}

/// `DELETE /api/v1/fleet/root`
pub(crate) async fn finish_root_change(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<Authority>, ApiError> {
    port(&control)?;
    control.record(&who, "believe the newest root only")?;
    let now_ms = control.now_ms();
    let finished = with_authority(&control, move |authority| {
        let changed = authority.finish_root_change()?;
        describe(authority, now_ms).map(|authority| (authority, changed))
    });
    match finished.await? {
        (authority, true) => Ok(Json(authority)),
        (_, false) => Err(ApiError::new(StatusCode::CONFLICT, "no_change", "no change of root is under way")),
    }
}

pub(super) fn port(control: &Control) -> Result<&AuthorityPort, ApiError> {
    let message =
        "this node does not hold the fleet's authority; ask the node on which `phalanx fleet init` was run";
    let elsewhere = || ApiError::new(StatusCode::CONFLICT, "no_authority", message);
    control.deps.authority.as_ref().ok_or_else(elsewhere)
}

/// Runs work that waits for the disk away from the async threads.
pub(super) async fn with_authority<T: Send + 'static>(
    control: &Control,
    work: impl FnOnce(&mut FleetAuthority) -> Result<T, TrustError> + Send + 'static,
) -> Result<T, ApiError> {
    let authority = Arc::clone(&port(control)?.authority);
    let done = tokio::task::spawn_blocking(move || work(&mut authority.lock())).await;
    let failed = |message: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "authority", message);
    done.map_err(|_| failed("it was cut off".into()))?.map_err(|error| failed(error.to_string()))
}

fn describe(authority: &mut FleetAuthority, now_ms: u64) -> Result<Authority, TrustError> {
    let overview = authority.overview(now_ms)?;
    let nodes = overview.nodes.into_iter().map(|node| Enrolled {
        site: node.site,
        node: node.node,
        control: node.control,
        expires_at_ms: node.expires_at_ms,
        revoked_at_ms: node.revoked_at_ms,
    });
    let invitations = overview.invitations.into_iter().map(|invitation| OpenInvitation {
        id: invitation.id,
        site: invitation.site,
        control: invitation.control,
        expires_at_ms: invitation.expires_at_ms,
    });
    Ok(Authority {
        fleet: overview.fleet,
        root: overview.root,
        root_expires_at_ms: overview.root_expires_at_ms,
        changing_root: overview.changing_root,
        sites: overview.sites,
        nodes: nodes.collect(),
        invitations: invitations.collect(),
        delegations: authority.delegations().into_iter().map(super::delegation::shown).collect(),
    })
}

pub(super) const ADDRESSES_MAX: usize = 8;
