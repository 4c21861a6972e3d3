//! Liveness and readiness, for whoever restarts or balances: no token, no detail.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use crate::router::Control;

/// `GET /healthz`
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`. The reason stands in the status, behind the token.
pub(crate) async fn readyz(State(control): State<Arc<Control>>) -> (StatusCode, &'static str) {
    match (control.deps.node_status)().not_ready {
        None => (StatusCode::OK, "ready\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}
