//! Logging in and out of the console. There is no password: a one-time link, printed on the node, opens a session.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Method, StatusCode, header};
use phalanx_model::limits::{LOGIN_TICKET_MS, SESSION_MS};
use serde::Deserialize;

use crate::api::LoginLink;
use crate::auth::Principal;
use crate::console;
use crate::error::ApiError;
use crate::router::Control;

#[derive(Debug, Deserialize)]
pub(crate) struct LoginQuery {
    ticket: String,
}

/// `GET /login?ticket=...`: spends the ticket, opens a session, leads to the console.
pub(crate) async fn login(
    State(control): State<Arc<Control>>,
    method: Method,
    query: Result<Query<LoginQuery>, QueryRejection>,
) -> Response {
    let now_ms = control.now_ms();
    // HEAD comes from link checkers and previews, which must not spend the ticket.
    let ticket = query.ok().filter(|_| method == Method::GET);
    let Some(Query(LoginQuery { ticket })) = ticket else {
        return console::no_login(StatusCode::BAD_REQUEST);
    };
    if !control.deps.tickets.redeem(&ticket, now_ms) {
        return console::no_login(control.failures.refuse(now_ms).status);
    }
    if let Err(error) = control.record(&Principal::Session("".into()), "log in to the console") {
        return error.into_response();
    }
    let session = control.deps.sessions.open(now_ms);
    let cookie = format!(
        "{}={session}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict",
        control.cookie_name,
        SESSION_MS / 1_000
    );
    let headers =
        [(header::SET_COOKIE, cookie.as_str()), (header::LOCATION, "/"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// `POST /api/v1/login-links`: a new link, for whoever has the token or the socket.
pub(crate) async fn link(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<(StatusCode, Json<LoginLink>), ApiError> {
    let Some(listen) = control.deps.listen else {
        return Err(ApiError::not_found("this node has no TCP listener for the console"));
    };
    control.record(&who, "make a console login link")?;
    let now_ms = control.now_ms();
    let ticket = control.deps.tickets.issue(now_ms);
    let url = login_url(listen, &ticket);
    Ok((StatusCode::CREATED, Json(LoginLink { url, expires_at_ms: now_ms + LOGIN_TICKET_MS })))
}

/// `POST /api/v1/logout`: ends the session that asks; others are not affected.
pub(crate) async fn logout(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Response {
    if let Principal::Session(id) = &who {
        control.deps.sessions.close(id);
        control.logouts.send_modify(|count| *count = count.wrapping_add(1));
    }
    let cookie = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", control.cookie_name);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// The link that spends `ticket`, for a browser on the node's machine when it listens on all addresses.
pub(crate) fn login_url(listen: std::net::SocketAddr, ticket: &str) -> String {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(if listen.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{address}/login?ticket={ticket}")
}
