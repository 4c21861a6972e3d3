//! Bouncers: list, add, delete.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_trust::{ApiKeyError, valid_name};

use crate::api::{BouncerKey, Bouncers, NewBouncer};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::paging::Page;
use crate::router::Control;

/// `GET /api/v1/bouncers`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Bouncers>, ApiError> {
    Ok(Json(Bouncers {
        listen: control.deps.lapi_listen.map(|listen| listen.to_string()),
        bouncers: page.of(control.deps.bouncers.list(), |bouncer| bouncer.name.clone())?,
    }))
}

/// `POST /api/v1/bouncers`: a key, which is shown in this answer only.
pub(crate) async fn add(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewBouncer>, JsonRejection>,
) -> Result<(StatusCode, Json<BouncerKey>), ApiError> {
    let Json(new) = body?;
    if !valid_name(&new.name) {
        return Err(ApiError::bad_request("a bouncer's name has 1 to 63 characters of a-z, 0-9, - and _"));
    }
    control.record(&who, &format!("add bouncer {}", new.name))?;
    let now_ms = control.now_ms();
    let (bouncers, name) = (Arc::clone(&control.deps.bouncers), new.name.clone());
    match on_disk(move || bouncers.keys.add(&name, now_ms)).await? {
        Ok(key) => Ok((StatusCode::CREATED, Json(BouncerKey { name: new.name, key: key.to_string() }))),
        Err(error @ ApiKeyError::Exists) => {
            Err(ApiError::new(StatusCode::CONFLICT, "exists", error.to_string()))
        }
        Err(error @ ApiKeyError::TooMany) => {
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "limit", error.to_string()))
        }
        Err(ApiKeyError::File(error)) => Err(file_failed(&error)),
    }
}

/// `DELETE /api/v1/bouncers/{name}`: its key opens nothing from now on.
pub(crate) async fn delete(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let bouncers = &control.deps.bouncers;
    if !bouncers.keys.list().iter().any(|key| key.name == name) {
        return Err(ApiError::not_found("there is no bouncer of that name"));
    }
    control.record(&who, &format!("delete bouncer {name}"))?;
    let (keys, gone) = (Arc::clone(bouncers), name.clone());
    on_disk(move || keys.keys.delete(&gone)).await?.map_err(|error| file_failed(&error))?;
    bouncers.forget(&name);
    Ok(StatusCode::NO_CONTENT)
}

/// Writes a small file and waits for the disk, on a thread that may.
async fn on_disk<T: Send + 'static>(write: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let cut_off = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "state", "the node is stopping");
    tokio::task::spawn_blocking(write).await.map_err(cut_off)
}

fn file_failed(error: &phalanx_trust::TrustError) -> ApiError {
    tracing::error!(%error, "the bouncers' keys could not be written");
    let message = "the keys could not be written; the node's log says why";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "state", message)
}
