//! Reports that are sent by themselves: the list, and one that is sent now.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_trust::random_u64;

use crate::api::{ReportScheduleRow, ReportSent};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::paging::Page;
use crate::reporting;
use crate::router::Control;

/// `GET /api/v1/reports`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<ReportScheduleRow>>, ApiError> {
    Ok(Json(page.of(control.deps.reporting.rows(control.now_ms()), |row| row.name.clone())?))
}

/// `POST /api/v1/reports/{name}/send`
pub(crate) async fn send(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Json<ReportSent>, ApiError> {
    let Some(schedule) = control.deps.reporting.schedule(&name) else {
        let message = format!("this node's settings have no report `{}`", name.escape_debug());
        return Err(ApiError::not_found(message));
    };
    let Ok(_permit) = control.telling.try_acquire() else {
        let message = "other receivers are being told; try again when they answered";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "busy", message));
    };
    control.record(&who, &format!("send the report {name} now"))?;
    // Each is a wish of its own.
    Ok(Json(reporting::send_now(&control, &name, schedule, random_u64()).await))
}
