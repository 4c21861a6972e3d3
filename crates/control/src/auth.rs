//! Who is asking, and from where. Four ways in: the node's own socket (its file mode is the check), the admin token, an operator's
//! API token, and a console session, which a one-time ticket, a passkey, or a password with a code opened.
//!
//! Then what he may do, by the table in `access`: a role, the apps that he is limited to, a fresh second factor.
//!
//! A browser is an attacker's tool too: a page elsewhere may send requests here, and DNS may point its name at this
//! address. So on TCP the Host must be an address or name of this node, and a request that changes something, or opens
//! the stream, must come from this origin.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use parking_lot::Mutex;
use phalanx_model::limits::FRESH_FACTOR_MS;
use phalanx_trust::operators::TOKEN_PREFIX;
use phalanx_trust::{AccountAt, Browser, Operator, OperatorToken, Role, Session};

use crate::access::{self, Needs, Rule};
use crate::body;
use crate::error::ApiError;
use crate::host::port_is_ours;
use crate::limits::FAILURES_PER_MINUTE_MAX;
use crate::router::Control;

/// How a connection came in. [`crate::serve()`] sets it; a request without it is treated as [`Channel::Tcp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Over TCP: everybody who can reach the address.
    Tcp,
    /// Over the node's own socket: whoever may open the file.
    Socket,
}

/// The address that a TCP connection came from. [`crate::serve()`] sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Who is asking.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    /// A process of the node's own user, over the socket.
    Socket,
    /// A bearer of the admin token.
    Token,
    /// A browser that a login link opened a session for, without an account.
    Link(Held),
    /// An operator in a console session.
    Operator(Arc<Operator>, Held),
    /// A program with a token of an operator's.
    ApiToken(Arc<(Operator, OperatorToken)>),
}

/// A session, and the id by which its browser holds it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: Arc<str>,
    pub(crate) session: Session,
}

impl Principal {
    /// The name under which actions are recorded.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Socket => "local socket".to_owned(),
            Self::Token => "admin token".to_owned(),
            Self::Link(_) => "console".to_owned(),
            Self::Operator(operator, _) => format!("operator {}", operator.name),
            Self::ApiToken(both) => format!("token {} of operator {}", both.1.name, both.0.name),
        }
    }

    /// The name under which what he makes is known to all nodes.
    pub(crate) fn author(&self) -> String {
        match self {
            Self::Socket => "the node's own user".to_owned(),
            Self::Token => "the admin token".to_owned(),
            Self::Link(_) => "a login link".to_owned(),
            Self::Operator(operator, _) => operator.name.clone(),
            Self::ApiToken(both) => format!("{} (token {})", both.0.name, both.1.name),
        }
    }

    /// Who he is, for what is kept of him: names change hands, ids do not.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Socket | Self::Token | Self::Link(_) => self.name(),
            Self::Operator(operator, _) => format!("operator {}", operator.id),
            Self::ApiToken(both) => {
                let (operator, token) = both.as_ref();
                format!("token {} of operator {}, made at {}", token.name, operator.id, token.created_at_ms)
            }
        }
    }

    /// The operator that he is, or acts for.
    pub(crate) fn operator(&self) -> Option<&Operator> {
        match self {
            Self::Socket | Self::Token | Self::Link(_) => None,
            Self::Operator(operator, _) => Some(operator),
            Self::ApiToken(both) => Some(&both.0),
        }
    }

    /// The API token that he shows.
    pub(crate) fn token(&self) -> Option<&OperatorToken> {
        match self {
            Self::ApiToken(both) => Some(&both.1),
            Self::Socket | Self::Token | Self::Link(_) | Self::Operator(..) => None,
        }
    }

    /// What he may do. Whoever has the socket, the admin token or a link that was made with one of them has the node.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Socket | Self::Token | Self::Link(_) => Role::Owner,
            Self::Operator(operator, _) => operator.role,
            Self::ApiToken(both) => both.0.role.min(both.1.role),
        }
    }

    /// The only apps that he may see and act on; `None` for all. A token's are those that its owner has too.
    pub(crate) fn apps(&self) -> Option<Vec<String>> {
        let some = |apps: &Vec<String>| (!apps.is_empty()).then(|| apps.clone());
        match self {
            Self::Socket | Self::Token | Self::Link(_) => None,
            Self::Operator(operator, _) => some(&operator.apps),
            Self::ApiToken(both) => match (some(&both.0.apps), some(&both.1.apps)) {
                (Some(his), Some(its)) => Some(its.into_iter().filter(|app| his.contains(app)).collect()),
                (his, its) => his.or(its),
            },
        }
    }

    /// The session that he holds.
    pub(crate) fn held(&self) -> Option<&Held> {
        match self {
            Self::Link(held) | Self::Operator(_, held) => Some(held),
            Self::Socket | Self::Token | Self::ApiToken(_) => None,
        }
    }

    /// Until when he may do what needs a fresh second factor; `None` if he needs none.
    pub(crate) fn fresh_until_ms(&self) -> Option<u64> {
        match self {
            Self::Socket | Self::Token => None,
            Self::Link(held) | Self::Operator(_, held) => {
                Some(held.session.proved_at_ms.saturating_add(FRESH_FACTOR_MS))
            }
            Self::ApiToken(_) => Some(0),
        }
    }

    /// Whether what let him in still does: the session is open, the token has not ended, the account is what it was.
    pub(crate) fn is_still(&self, control: &Control) -> bool {
        let (deps, now_ms) = (&control.deps, control.now_ms());
        match self {
            Self::Link(held) => deps.sessions.is_open(&held.id, now_ms),
            Self::Operator(operator, held) => {
                current(control, &operator.as_ref().into()).is_some()
                    && deps.sessions.is_open(&held.id, now_ms)
            }
            Self::ApiToken(both) => {
                let (operator, token) = both.as_ref();
                let now = current(control, &operator.into());
                now.is_some_and(|now| now.tokens.contains(token)) && now_ms < token.expires_at_ms
            }
            Self::Socket | Self::Token => true,
        }
    }

    /// Whether he may do what this rule is about.
    fn permitted(&self, rule: Option<Rule>, now_ms: u64) -> Result<(), ApiError> {
        if matches!(self, Self::Socket | Self::Token) {
            return Ok(());
        }
        // Fails closed: an endpoint without a rule is there for nobody else.
        let rule =
            rule.ok_or_else(|| ApiError::not_found("no such path; /api/v1/openapi.json lists them"))?;
        let forbidden = |code: &str, message: String| ApiError::new(StatusCode::FORBIDDEN, code, message);
        if self.held().is_some_and(|held| held.session.enrolling) && rule.needs != Needs::Account {
            return Err(forbidden("enrolling", "first add a passkey, or a password with an app".into()));
        }
        match rule.needs {
            Needs::Nothing | Needs::Account => {}
            Needs::Role(role) if self.role() >= role => {}
            Needs::Role(role) => {
                let message = format!("this needs the role {}", format!("{role:?}").to_lowercase());
                return Err(forbidden("role", message));
            }
            Needs::Node => {
                let message = "only the node's own user may do this, or who has its admin token";
                return Err(forbidden("role", message.into()));
            }
        }
        if !rule.heeds_apps && self.apps().is_some() {
            let message = "this is about more than the apps that this account is limited to";
            return Err(forbidden("apps", message.into()));
        }
        if rule.fresh && self.fresh_until_ms().is_some_and(|until| now_ms >= until) {
            let message = match self {
                Self::ApiToken(_) => "no API token may do this; log in",
                Self::Link(_) => "this needs a login of the last five minutes; run `phalanx login` again",
                _ => "this needs a second factor of the last five minutes; prove yourself again",
            };
            return Err(forbidden("fresh_factor", message.into()));
        }
        Ok(())
    }
}

/// Lets only requests to this node's names through, and nothing from other origins. For every path.
pub(crate) async fn check_host(
    State(control): State<Arc<Control>>,
    request: Request,
    next: Next,
) -> Response {
    if channel(&request) == Channel::Socket {
        return next.run(request).await;
    }
    match host_of(request.headers(), request.uri()) {
        Some(host) if control.knows_host(&host) => next.run(request).await,
        _ => {
            let message = "the Host of this request is no address or name of this node";
            ApiError::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message).into_response()
        }
    }
}

/// Lets only those through who prove who they are, and notes who it is. For every path with data.
///
/// What needs a fresh second factor is looked at twice: when the head is here, so that no stranger's body is read, and when the body
/// is, because whoever asks may have been shut out while it came.
pub(crate) async fn require(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    let rule = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|path| access::rule(request.method(), path.as_str()));
    let permitted = |request: &Request| {
        let principal = identify(&control, request)?;
        principal.permitted(rule, control.now_ms())?;
        Ok::<_, ApiError>(principal)
    };
    let mut principal = match permitted(&request) {
        Ok(principal) => principal,
        Err(error) => return error.into_response(),
    };
    if rule.is_some_and(|rule| rule.fresh) {
        let read = body::whole(request).await.and_then(|whole| Ok((permitted(&whole)?, whole)));
        (principal, request) = match read {
            Ok(read) => read,
            Err(error) => return error.into_response(),
        };
    }
    request.extensions_mut().insert(principal.clone());
    let shown = is_shown(&request);
    let answer = next.run(request).await;
    // What was done is done, and its answer says so. What is only shown is not shown to who was shut out while it was looked up.
    if shown && !principal.is_still(&control) {
        return ApiError::unauthorized().into_response();
    }
    answer
}

/// Whether a request changes nothing, however long its answer takes.
fn is_shown(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    [Method::GET, Method::HEAD].contains(request.method()) || path.is_some_and(|path| SHOWN.contains(&path))
}

/// What is asked with files, and changes nothing.
const SHOWN: &[&str] = &["/api/v1/policy/check", "/api/v1/policy/diff", "/api/v1/policy/replay"];

/// Lets only pages of this node log somebody in, or anybody would be logged in as somebody else without noticing.
pub(crate) async fn from_here(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    // What is asked in another way is answered as that.
    if *request.method() != Method::POST {
        return next.run(request).await;
    }
    let here = proves_same_origin(request.headers()) && request.headers().contains_key(header::ORIGIN);
    match check_origin(&control, &request) {
        Ok(()) if here => next.run(request).await,
        Ok(()) => {
            ApiError::new(StatusCode::FORBIDDEN, "origin", "a login needs an Origin header").into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn identify(control: &Control, request: &Request) -> Result<Principal, ApiError> {
    if channel(request) == Channel::Socket {
        return Ok(Principal::Socket);
    }
    let headers = request.headers();
    check_origin(control, request)?;
    let now_ms = control.now_ms();
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let token = authorization.to_str().ok().and_then(bearer);
        if let Some(token) = token.filter(|token| token.starts_with(TOKEN_PREFIX)) {
            let found = control.deps.operators.by_token(token, now_ms);
            return found
                .map(|both| Principal::ApiToken(Arc::new(both)))
                .ok_or_else(|| control.failures.refuse(now_ms));
        }
        // A missing token is compared too, so that both take the same time.
        if control.deps.token.matches(token.unwrap_or_default()) {
            return Ok(Principal::Token);
        }
        return Err(control.failures.refuse(now_ms));
    }
    // An ended session is no attempt at guessing; it must not use up what is kept for those.
    let id = cookie(headers, &control.cookie_name).ok_or_else(ApiError::unauthorized)?;
    let session = control.deps.sessions.enter(id, browser(request), now_ms);
    let session = session.ok_or_else(ApiError::unauthorized)?;
    if *request.method() != Method::GET && !proves_same_origin(headers) {
        let message = "a change needs an Origin header";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "origin", message));
    }
    let account = session.account.clone();
    let held = Held { id: id.into(), session };
    let Some(account) = account else { return Ok(Principal::Link(held)) };
    // Asked each time: who was kept out, reset or given another role, at whatever node, is so at once. The session is not closed: its
    // holder may be about to set a password in it, after which it goes on.
    let operator = current(control, &account).ok_or_else(ApiError::unauthorized)?;
    Ok(Principal::Operator(Arc::new(operator), held))
}

/// The operator of an account, if that is still what it was.
pub(crate) fn current(control: &Control, account: &AccountAt) -> Option<Operator> {
    let operator = control.deps.operators.get(&account.operator)?;
    (operator.generation == account.generation && !operator.disabled).then_some(operator)
}

/// The browser that sent this, loosely.
pub(crate) fn browser(request: &Request) -> Browser {
    let agent = request.headers().get(header::USER_AGENT).map(|agent| agent.as_bytes());
    Browser::new(agent.unwrap_or_default(), peer(request))
}

/// Where this came from.
pub(crate) fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Peer>().map(|peer| peer.0)
}

/// Refuses what a page of another origin made a browser send, or what a page of another port passes on as if it were ours.
fn check_origin(control: &Control, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let refused =
        || ApiError::new(StatusCode::FORBIDDEN, "origin", "requests from other origins are refused");
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(refused());
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = host_of(headers, request.uri()).unwrap_or_default();
    let origin = origin.to_str().map_err(|_| refused())?;
    let (authority, default_port) = match origin.strip_prefix("http://") {
        Some(authority) => (authority, 80),
        None => (origin.strip_prefix("https://").ok_or_else(refused)?, 443),
    };
    if !authority.eq_ignore_ascii_case(&host) {
        return Err(refused());
    }
    let listen = control.deps.listen.filter(|_| channel(request) == Channel::Tcp);
    let Some(port) = listen.map(|listen| listen.port()) else { return Ok(()) };
    // A page that came without TLS may be anybody's who sits on the way.
    if control.deps.tls && default_port == 80 {
        return Err(refused());
    }
    if !port_is_ours(&host, (port, default_port), &control.deps.host_names, control.deps.tls) {
        let message =
            format!("open the console at port {port}, on which it listens; a tunnel must use the same");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "origin", message));
    }
    Ok(())
}

/// Whether a browser says that its own page sent this. `check_origin` has refused the contrary already.
fn proves_same_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin")
}

/// The channel of a request.
pub(crate) fn channel(request: &Request) -> Channel {
    request.extensions().get::<Channel>().copied().unwrap_or(Channel::Tcp)
}

/// The one Host of a request; `None` when there is none, or more than one.
fn host_of(headers: &HeaderMap, uri: &http::Uri) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    if hosts.next().is_some() || uri.authority().is_some_and(|a| !a.as_str().eq_ignore_ascii_case(host)) {
        return None;
    }
    Some(host.to_owned())
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
        value.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        })
    })
}

/// Counts failed attempts, so that guessing is neither fast nor able to fill the log.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<(u64, u32)>);

impl Failures {
    /// The answer to a failed attempt.
    pub(crate) fn refuse(&self, now_ms: u64) -> ApiError {
        if !self.note(now_ms, "a wrong token or login ticket was presented") {
            let wait_ms = self.0.lock().0.saturating_add(FAILURES_WINDOW_MS).saturating_sub(now_ms);
            return ApiError::too_many(
                "too_many_failures",
                "too many failed attempts",
                wait_ms.div_ceil(1_000),
            );
        }
        ApiError::unauthorized()
    }

    /// Counts a failed attempt, and logs it unless there are too many this minute; whether it was logged.
    pub(crate) fn note(&self, now_ms: u64, what: &str) -> bool {
        let count = {
            let mut window = self.0.lock();
            if now_ms.saturating_sub(window.0) >= FAILURES_WINDOW_MS {
                *window = (now_ms, 0);
            }
            window.1 = window.1.saturating_add(1);
            window.1
        };
        let few = count <= FAILURES_PER_MINUTE_MAX;
        if few {
            tracing::warn!(failures = count, "{what}");
        }
        few
    }
}

const FAILURES_WINDOW_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_answered_only_so_often() {
        let failures = Failures::default();
        let status = |now_ms| failures.refuse(now_ms).status;
        for _ in 0..FAILURES_PER_MINUTE_MAX {
            assert_eq!(status(100_000), StatusCode::UNAUTHORIZED);
        }
        assert_eq!(status(159_999), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(status(160_000), StatusCode::UNAUTHORIZED);
    }
}
