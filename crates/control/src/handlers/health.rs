//! Liveness and readiness, for whoever restarts or balances: no token, and so no more than words of our own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::{Health, Readiness};
use crate::handlers::operations::out_of_service;
use crate::router::Control;

/// `GET /healthz`
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// `GET /readyz`. An operator's order is told in one word; the whole reason stands in the status, behind the token.
pub(crate) async fn readyz(State(control): State<Arc<Control>>) -> (StatusCode, Json<Readiness>) {
    let deps = &control.deps;
    let order = out_of_service(&control).map(|order| order.state.to_owned());
    let reasons: Vec<String> = (deps.node_status)().not_ready.into_iter().chain(order).collect();
    let failing = deps.recorder.report().parts.into_iter().filter(|part| part.error.is_some());
    let mut degraded: Vec<String> = failing.map(|part| part.part.label().to_owned()).collect();
    if !deps.fleet.status().connected {
        degraded.push("fleet".to_owned());
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons, degraded }))
}
