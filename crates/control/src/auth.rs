//! Who is asking, and from where. Three ways in: the node's own socket (its file mode is the check), the admin token,
//! a console session that a one-time ticket opened.
//!
//! A browser is an attacker's tool too: a page elsewhere may send requests here, and DNS may point its name at this
//! address. So on TCP the Host must be an address or name of this node, and a request that changes something, or opens
//! the stream, must come from this origin.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use parking_lot::Mutex;

use crate::error::ApiError;
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

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A process of the node's own user, over the socket.
    Socket,
    /// A bearer of the token.
    Token,
    /// A console session, by its id.
    Session(Arc<str>),
}

impl Principal {
    /// The name under which actions are recorded.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Socket => "local socket",
            Self::Token => "admin token",
            Self::Session(_) => "console",
        }
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
pub(crate) async fn require(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    match identify(&control, &request) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn identify(control: &Control, request: &Request) -> Result<Principal, ApiError> {
    if channel(request) == Channel::Socket {
        return Ok(Principal::Socket);
    }
    let headers = request.headers();
    check_origin(request)?;
    let now_ms = control.now_ms();
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        let token = authorization.to_str().ok().and_then(bearer);
        // A missing token is compared too, so that both take the same time.
        if control.deps.token.matches(token.unwrap_or_default()) {
            return Ok(Principal::Token);
        }
        return Err(control.failures.refuse(now_ms));
    }
    match cookie(headers, &control.cookie_name) {
        Some(id) if control.deps.sessions.is_open(id, now_ms) => {
            if *request.method() != Method::GET && !proves_same_origin(headers) {
                let message = "a change needs an Origin header";
                return Err(ApiError::new(StatusCode::FORBIDDEN, "origin", message));
            }
            Ok(Principal::Session(id.into()))
        }
        // An ended session is no attempt at guessing; it must not use up what is kept for those.
        _ => Err(ApiError::unauthorized()),
    }
}

/// Refuses what a page of another origin made a browser send.
fn check_origin(request: &Request) -> Result<(), ApiError> {
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
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(&host)) {
        Ok(())
    } else {
        Err(refused())
    }
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

/// Whether a Host names this node. An address literal cannot be rebound by DNS, so on a listener for all addresses each
/// one is taken; a name must be `localhost` or configured.
pub(crate) fn host_is_ours(host: &str, listen: Option<IpAddr>, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host
            .rsplit_once(':')
            .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }),
    };
    if let Ok(ip) = name.parse::<IpAddr>() {
        return ip.is_loopback() || listen.is_none_or(|listen| listen.is_unspecified() || listen == ip);
    }
    name.eq_ignore_ascii_case("localhost") || names.iter().any(|known| known.eq_ignore_ascii_case(name))
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
            return ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many failed attempts",
            );
        }
        ApiError::unauthorized()
    }

    /// Counts a failed attempt, and logs it unless there are too many this minute; whether it was logged.
    pub(crate) fn note(&self, now_ms: u64, what: &str) -> bool {
        let count = {
            let mut window = self.0.lock();
            if now_ms.saturating_sub(window.0) >= 60_000 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_nodes_names_are_hosts() {
        let names = [String::from("waf.internal")];
        let loopback = "127.0.0.1".parse().ok();
        let any = "0.0.0.0".parse().ok();
        let check = |host: &str, listen: Option<IpAddr>| host_is_ours(host, listen, &names);
        for host in
            ["127.0.0.1:8900", "localhost:8900", "LOCALHOST", "[::1]:8900", "waf.internal", "localhost:9"]
        {
            assert!(check(host, loopback), "{host}");
        }
        for host in
            ["evil.example:8900", "192.0.2.1:8900", "localhost.evil.example", "127.0.0.1.nip.io", "", "x:y"]
        {
            assert!(!check(host, loopback), "{host}");
        }
        assert!(check("192.0.2.1:8900", any) && !check("evil.example", any));
    }

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
