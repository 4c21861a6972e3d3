//! Liveness and readiness, for whoever restarts or balances: no token, no detail.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use crate::api::STOPPING;
use crate::handlers::operations::out_of_service;
use crate::router::Control;

/// `GET /healthz`
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`. An operator's order is told in one word; the whole reason stands in the status, behind the token.
pub(crate) async fn readyz(State(control): State<Arc<Control>>) -> (StatusCode, String) {
    match (control.deps.node_status)().not_ready.as_deref() {
        None => {}
        Some(STOPPING) => return (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {STOPPING}\n")),
        Some(_) => return (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
    }
    match out_of_service(&control) {
        None => (StatusCode::OK, "ready\n".into()),
        Some(order) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", order.state)),
    }
}
