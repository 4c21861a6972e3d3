//! Logging in as an operator: by a passkey, or by name, password and code at once.
//!
//! INVARIANT: every failed login has one answer, and costs one password hash where a password was shown, so that nothing tells
//! which names there are. A login always opens a new session; one that the browser showed before ends.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use phalanx_trust::passkey::from_base64url;
use phalanx_trust::{AccountAt, Browser, Ceremony, Operator, PasskeyFault};

use crate::api::{PasskeyChallenge, PasskeySigned, PasswordLogin};
use crate::auth::{Held, Principal, browser, cookie, current, peer};
use crate::error::ApiError;
use crate::handlers::account::me;
use crate::handlers::blocking;
use crate::handlers::session::set_cookie;
use crate::limits::{HASH_WAIT, LOGINS_PER_ACCOUNT_MAX, LOGINS_PER_NETWORK_MAX, PASSKEYS_PER_NETWORK_MAX};
use crate::router::Control;
use crate::throttle::Of;

/// `POST /api/v1/login/password`
pub(crate) async fn by_password(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (from, PasswordLogin { name, password, code }) = read(&control, request).await?;
    let tries = Tries::charge(&control, &from, &name)?;
    let (operators, now_ms) = (Arc::clone(&control.deps.operators), control.now_ms());
    let operator = hash(&control, move || operators.by_password(&name, &password, &code, now_ms)).await?;
    let operator = operator.ok_or_else(|| failed(&control))?;
    tries.refund(&control);
    open(&control, &from, operator, "password and code")
}

/// Hashes a password in its turn.
pub(crate) async fn hash<T: Send + 'static>(
    control: &Control,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let busy = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many log in at once");
    let turn = tokio::time::timeout(HASH_WAIT, Arc::clone(&control.hashing).acquire_owned()).await;
    let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
    blocking(turn, work).await.map_err(|_| busy())
}

/// `POST /api/v1/login/challenge`: the same for everybody. Which account it will be, the authenticator says.
pub(crate) async fn challenge(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
) -> Json<PasskeyChallenge> {
    let origin = origin(&headers);
    let at = Ceremony { origin: &origin, purpose: LOG_IN, now_ms: control.now_ms() };
    let challenge = control.challenges.issue(LOG_IN, at.now_ms);
    Json(PasskeyChallenge { challenge, host: at.host().to_owned(), user: None, keys: Vec::new() })
}

/// `POST /api/v1/login/passkey`
pub(crate) async fn by_passkey(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (from, signed): (Arrival, PasskeySigned) = read(&control, request).await?;
    // Not given back: each login that holds spends a challenge, of which only so many are remembered.
    let of = Of::Other(format!("passkeys of network {}", from.network));
    control.throttle.charge(&of, PASSKEYS_PER_NETWORK_MAX, control.now_ms())?;
    let at = Ceremony { origin: &from.origin, purpose: LOG_IN, now_ms: control.now_ms() };
    let operator = check_passkey(&control, at, signed).await.map_err(|_| failed(&control))?;
    open(&control, &from, operator, "passkey")
}

/// Whose passkey signed this, of those that may get in, as his account is then. The signature is used up.
pub(crate) async fn check_passkey(
    control: &Arc<Control>,
    at: Ceremony<'_>,
    signed: PasskeySigned,
) -> Result<Operator, PasskeyFault> {
    let read = |text: &str| from_base64url(text).ok_or(PasskeyFault::Authenticator);
    let data = read(&signed.authenticator_data)?;
    let (client, signature) = (read(&signed.client_data)?, read(&signed.signature)?);
    let key = control.deps.operators.passkey(&signed.id, at.host()).ok_or(PasskeyFault::Signature)?;
    let count = control.challenges.signed(at, &key.public, key.signed, (&data, &client, &signature))?;
    let (operators, whose) = (Arc::clone(&control.deps.operators), key.operator);
    let now_ms = at.now_ms;
    let noted =
        tokio::task::spawn_blocking(move || operators.passkey_signed(&whose, &signed.id, count, now_ms));
    noted.await.ok().and_then(Result::ok).ok_or(PasskeyFault::Signature)
}

/// Opens a new session of an operator, in place of the one that the browser showed.
/// `operator` is the account as it was when he proved who he is: if it is something else by now, the session ends with its first request.
pub(crate) fn open(
    control: &Control,
    from: &Arrival,
    operator: Operator,
    by: &str,
) -> Result<Response, ApiError> {
    // Whoever leaves there would get in by what he has here.
    if operator.provider().is_some() {
        return Err(failed(control));
    }
    let (who, cookie) = open_session(control, from, operator, by, control.now_ms())?;
    Ok(([(header::SET_COOKIE, cookie)], Json(me(control, &who))).into_response())
}

/// A session of an operator who proved himself at that time, and its cookie.
pub(crate) fn open_session(
    control: &Control,
    from: &Arrival,
    operator: Operator,
    by: &str,
    proved_at_ms: u64,
) -> Result<(Principal, String), ApiError> {
    let now_ms = control.now_ms();
    let account = AccountAt::from(&operator);
    let operator = current(control, &account).ok_or_else(|| failed(control))?;
    let sessions = &control.deps.sessions;
    let name = operator.name.clone();
    control.record_as(&format!("operator {name}"), &format!("log in by {by}"))?;
    if let Some(before) = &from.session {
        sessions.close(before);
    }
    let session = sessions.open(Some(account), false, from.browser, now_ms);
    sessions.prove(&session, proved_at_ms);
    let facts = sessions.enter(&session, from.browser, now_ms).ok_or_else(|| failed(control))?;
    let cookie = set_cookie(control, &session, control.deps.tls || from.origin.starts_with("https://"));
    let held = Held { id: session.as_str().into(), session: facts };
    Ok((Principal::Operator(Arc::new(operator), held), cookie))
}

/// A browser before it is known who uses it.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) origin: String,
    pub(crate) browser: Browser,
    /// The id of a session that it showed, whether there is one or not.
    pub(crate) session: Option<String>,
    pub(crate) network: String,
}

impl Arrival {
    /// Read off a request.
    pub(crate) fn of(control: &Control, request: &Request) -> Self {
        let headers = request.headers();
        Self {
            origin: origin(headers),
            browser: browser(request),
            session: cookie(headers, &control.cookie_name).map(str::to_owned),
            network: peer(request).map(|ip| network(ip.to_canonical())).unwrap_or_default(),
        }
    }
}

/// The origin that a browser names; `from_here` has seen that it is ours.
pub(crate) fn origin(headers: &HeaderMap) -> String {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.unwrap_or_default().to_owned()
}

/// A try to log in with a password, counted.
struct Tries([Of; 2]);

impl Tries {
    fn charge(control: &Control, from: &Arrival, name: &str) -> Result<Self, ApiError> {
        let now_ms = control.now_ms();
        let network = Of::Other(format!("network {}", from.network));
        control.throttle.charge(&network, LOGINS_PER_NETWORK_MAX, now_ms)?;
        // A name that nobody has is counted as any other, or the limit would tell which there are.
        let account = match control.deps.operators.named(name) {
            Some(operator) => Of::Account(format!("login {}", operator.id)),
            None => Of::Other(format!("account {name}")),
        };
        control.throttle.charge(&account, LOGINS_PER_ACCOUNT_MAX, now_ms)?;
        Ok(Self([network, account]))
    }

    fn refund(&self, control: &Control) {
        self.0.iter().for_each(|of| control.throttle.refund(of));
    }
}

/// The one answer to every login that fails.
fn failed(control: &Control) -> ApiError {
    control.failures.note(control.now_ms(), "a login failed");
    let message = "that is not right; name, password and code must all be, or the passkey one of this node's";
    ApiError::new(StatusCode::UNAUTHORIZED, "login_failed", message)
}

async fn read<T: serde::de::DeserializeOwned>(
    control: &Control,
    request: Request,
) -> Result<(Arrival, T), ApiError> {
    let from = Arrival::of(control, &request);
    Ok((from, body(request).await?))
}

/// The body of a request with credentials; what is wrong with it is not repeated.
pub(crate) async fn body<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    let read: Result<Json<T>, JsonRejection> = Json::from_request(request, &()).await;
    let wrong = |error: JsonRejection| {
        ApiError::new(error.status(), "bad_request", "the body is not as the API's document says")
    };
    read.map(|Json(body)| body).map_err(wrong)
}

fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x?}", ip.octets().first_chunk::<8>()),
    }
}

/// What a challenge to log in is for.
const LOG_IN: &str = "log in";
