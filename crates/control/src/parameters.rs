//! Query parameters that an endpoint does not know are refused: by what the API's document says, so that it cannot say less.

use axum::extract::{MatchedPath, Query, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;

use crate::error::ApiError;
use crate::openapi;

/// Lets requests pass whose query has documented parameters only.
pub(crate) async fn known(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(request: &Request) -> Result<(), ApiError> {
    if request.uri().query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
    let method = if *request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let known = openapi::endpoints()
        .find(|one| one.path == path.as_str() && one.method.eq_ignore_ascii_case(method.as_str()));
    // What is no endpoint is answered as that.
    let Some(known) = known else { return Ok(()) };
    let given = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let Query(given) = given?;
    for (name, _) in given {
        if !known.query().any(|one| one == name) {
            let takes: Vec<&str> = known.query().collect();
            let takes = match takes.is_empty() {
                true => "it takes none".to_owned(),
                false => format!("it takes {}", takes.join(", ")),
            };
            return Err(ApiError::bad_request(format!(
                "unknown parameter `{}`: {takes}",
                name.escape_debug()
            )));
        }
    }
    Ok(())
}
