//! One-time links into the console, and the sessions that are open.
//!
//! A link that `phalanx login` printed opens a session without an account: the way in at first, and when all else is lost. One that
//! `phalanx operator add` printed opens an account that has no credentials yet, to give it some.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, Method, StatusCode, header};
use phalanx_model::limits::{LOGIN_TICKET_MS, SESSION_MS};
use phalanx_trust::{LoginFor, Role};
use serde::Deserialize;

use crate::api::{LoginLink, SessionRow};
use crate::auth::{Principal, browser, cookie};
use crate::console;
use crate::error::ApiError;
use crate::paging::Page;
use crate::router::Control;

#[derive(Debug, Deserialize)]
pub(crate) struct LoginQuery {
    ticket: String,
}

/// `GET /login?ticket=...`: spends the ticket, opens a session, leads to the console.
pub(crate) async fn login(
    State(control): State<Arc<Control>>,
    query: Result<Query<LoginQuery>, QueryRejection>,
    request: Request,
) -> Response {
    let now_ms = control.now_ms();
    // HEAD comes from link checkers and previews, which must not spend the ticket.
    let ticket = query.ok().filter(|_| *request.method() == Method::GET);
    let Some(Query(LoginQuery { ticket })) = ticket else {
        return console::no_login(StatusCode::BAD_REQUEST);
    };
    let deps = &control.deps;
    let (who, operator) = match deps.tickets.redeem(&ticket, now_ms) {
        Some(LoginFor::Node) => ("console".to_owned(), None),
        Some(LoginFor::Enrolment(id)) => match deps.operators.get(&id).filter(|one| !one.disabled) {
            Some(operator) => (format!("operator {}", operator.name), Some(id)),
            None => return console::no_login(StatusCode::UNAUTHORIZED),
        },
        None => return console::no_login(control.failures.refuse(now_ms).status),
    };
    if let Err(error) = control.record_as(&who, "log in to the console by a link") {
        return error.into_response();
    }
    if let Some(before) = cookie(request.headers(), &control.cookie_name) {
        deps.sessions.close(before);
    }
    let enrolling = operator.is_some();
    let session = deps.sessions.open(operator, enrolling, browser(&request), now_ms);
    let cookie = set_cookie(&control, &session, came_by_tls(request.headers()));
    let headers =
        [(header::SET_COOKIE, cookie.as_str()), (header::LOCATION, "/"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Whether a proxy says that the browser speaks TLS with it. Whoever makes that up gets a cookie that he cannot use.
fn came_by_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// The cookie that holds a session; `secure` of a page that came by TLS.
pub(crate) fn set_cookie(control: &Control, session: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let seconds = SESSION_MS / 1_000;
    format!("{}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", control.cookie_name)
}

/// `GET /api/v1/sessions`: one's own; an owner's are all.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    page: Page,
) -> Result<Json<Vec<SessionRow>>, ApiError> {
    Ok(Json(page.of(seen(&control, &who), |row| row.id.clone())?))
}

/// `DELETE /api/v1/sessions/{id}`: one that `list` shows. There is no difference between another's and none.
pub(crate) async fn end(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if !seen(&control, &who).iter().any(|row| row.id == id) {
        return Err(ApiError::not_found("there is no such session"));
    }
    control.record(&who, &format!("end session {id}"))?;
    control.deps.sessions.close_named(&id);
    control.look_again();
    Ok(StatusCode::NO_CONTENT)
}

/// The sessions that he may see and end.
fn seen(control: &Control, who: &Principal) -> Vec<SessionRow> {
    let mine = match who {
        Principal::Operator(operator, _) => Some(operator.id.as_str()),
        Principal::ApiToken(both) => Some(both.0.id.as_str()),
        Principal::Socket | Principal::Token | Principal::Link(_) => None,
    };
    let name = who.held().map(|held| held.session.name.clone());
    let all = who.role() == Role::Owner && who.apps().is_none();
    let sessions = control.deps.sessions.list(control.now_ms());
    let visible = sessions.into_iter().filter(|session| all || session.operator.as_deref() == mine);
    let rows = visible.map(|session| {
        let of = session.operator.as_ref().and_then(|id| control.deps.operators.get(id));
        let me = name.as_ref() == Some(&session.name);
        SessionRow::new(session, of.map(|operator| operator.name), me)
    });
    rows.collect()
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
    if let Some(held) = who.held() {
        control.deps.sessions.close(&held.id);
        control.look_again();
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

/// The same link by a name where there is one: no browser makes passkeys for an address.
pub(crate) fn named_login_url(listen: std::net::SocketAddr, ticket: &str) -> String {
    if listen.ip().is_loopback() || listen.ip().is_unspecified() {
        return format!("http://localhost:{}/login?ticket={ticket}", listen.port());
    }
    login_url(listen, ticket)
}
