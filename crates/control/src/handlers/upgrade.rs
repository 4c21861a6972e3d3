//! Having another process take over.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;

use crate::api::UpgradeBegun;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::router::Control;

/// `POST /api/v1/upgrade`. A process that cannot be prepared changes nothing.
pub(crate) async fn begin(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<(StatusCode, Json<UpgradeBegun>), ApiError> {
    control.record(&who, "upgrade the node to the installed binary")?;
    match (control.deps.upgrade)().await {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(UpgradeBegun { from: std::process::id() }))),
        Err(why) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "upgrade_failed", why)),
    }
}
