//! The node's attacks on itself: what became of them, and another run.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;

use crate::api::SelfTest;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::router::Control;

/// `GET /api/v1/selftest`
pub(crate) async fn show(State(control): State<Arc<Control>>) -> Json<SelfTest> {
    Json((control.deps.self_test.report)())
}

/// `POST /api/v1/selftest`: runs it now, and answers with what came of it.
pub(crate) async fn run(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<SelfTest>, ApiError> {
    control.record(&who, "run the self-test")?;
    let test = (control.deps.self_test.run)(()).await;
    test.map(Json).ok_or_else(|| {
        let message = "the node is out of service, and does not attack itself";
        ApiError::new(StatusCode::CONFLICT, "out_of_service", message)
    })
}
