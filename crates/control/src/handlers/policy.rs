//! Loading the policy again.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;

use crate::api::{Diagnostic, PolicyReloaded};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::router::Control;

/// `POST /api/v1/policy/reload`. The running plan stays when the new one is refused.
pub(crate) async fn reload(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<PolicyReloaded>, ApiError> {
    let _one_at_a_time = control.reloading.lock().await;
    control.record(&who, "reload the policy")?;
    match (control.deps.policy)().await {
        Ok(reloaded) => Ok(Json(PolicyReloaded { from: reloaded.from, to: reloaded.to })),
        Err(faults) => {
            let diagnostics: Vec<Diagnostic> = faults.iter().map(Diagnostic::from).collect();
            let message = "the policy was refused; the running one stays in force";
            let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "policy_refused", message);
            Err(error.with_diagnostics(diagnostics))
        }
    }
}
