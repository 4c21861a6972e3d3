//! Logging in by an identity provider, and proving oneself anew by it.
//!
//! A page of this node begins (`begin`, `prove`), the browser goes to the provider, and comes back with a code (`callback`).
//!
//! INVARIANT: only the browser that began comes back, once; who it is says a token that was checked, and what he may do the settings.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderValue, Method, StatusCode, header};
use phalanx_model::limits::SESSION_MS;
use phalanx_trust::oidc::{IdToken, LEEWAY_MS};
use phalanx_trust::{Ceremony, Operator, OperatorFault, Provided};
use serde::Deserialize;

use crate::api::{LoginProvider, ProviderLogin, ProviderRow};
use crate::auth::{Principal, cookie, current};
use crate::console;
use crate::error::ApiError;
use crate::handlers::login::{Arrival, open_session};
use crate::handlers::operators::{on_disk, scope};
use crate::limits::{
    LOGINS_PER_NETWORK_MAX, PASSKEYS_PER_NETWORK_MAX, PROVIDER_LOGIN_MS, PROVIDER_TESTS_MAX,
};
use crate::oidc::{Flow, FlowFault, FreshFor, NotRedeemed, Person, Provider};
use crate::paging::Page;
use crate::router::Control;
use crate::throttle::Of;

/// `GET /api/v1/login/oidc`: for everybody, so no more than a button needs.
pub(crate) async fn list(State(control): State<Arc<Control>>) -> Json<Vec<LoginProvider>> {
    let row = |provider: &Arc<Provider>| LoginProvider {
        name: provider.settings().name.clone(),
        title: provider.settings().title.clone(),
        works: provider.health().fault.is_none(),
    };
    Json(control.deps.providers.all().map(row).collect())
}

/// `GET /api/v1/oidc`
pub(crate) async fn rows(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<ProviderRow>>, ApiError> {
    let rows = control.deps.providers.all().map(|provider| row(&control, provider)).collect();
    Ok(Json(page.of(rows, |row: &ProviderRow| row.name.clone())?))
}

/// `POST /api/v1/oidc/{name}/test`
pub(crate) async fn test(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Json<ProviderRow>, ApiError> {
    let provider = named(&control, &name)?;
    // The provider sees one client, and would keep out who logs in for what a script asks.
    let tests = Of::Account(format!("tests of provider {name}"));
    control.throttle.charge(&tests, PROVIDER_TESTS_MAX, control.now_ms()).map_err(|refused| {
        let message = "this provider was tested too often; its row says what came of it, and a quarter of an hour later it is asked again";
        refused.said("too_many_tests", message)
    })?;
    control.record(&who, &format!("test the identity provider {name}"))?;
    // What came of it is in the row.
    let _ = provider.read_again(control.now_ms()).await;
    Ok(Json(row(&control, provider)))
}

/// `POST /api/v1/login/oidc/{name}`
pub(crate) async fn begin(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let from = Arrival::of(&control, &request);
    leave(&control, named(&control, &name)?, &from, None).await
}

/// `POST /api/v1/me/prove/oidc`: by the provider that opened the session, whatever it was called when the account was made. One that has a passkey proves more with that.
pub(crate) async fn prove(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let Principal::Operator(operator, held) = &who else {
        return Err(ApiError::not_found("this is for operators in a console session"));
    };
    let provider = held.session.provider.as_deref().ok_or_else(|| {
        ApiError::not_found(
            "this account has credentials of its own: prove yourself with a passkey or a code",
        )
    })?;
    let from = Arrival::of(&control, &request);
    if has_passkey(operator, &from.origin) {
        let message = "this account has a passkey, and only that proves who you are";
        return Err(ApiError::new(StatusCode::CONFLICT, "passkey", message));
    }
    let fresh_for = FreshFor { operator: operator.id.clone() };
    leave(&control, named(&control, provider)?, &from, Some(fresh_for)).await
}

/// What a browser comes back with.
#[derive(Debug, Deserialize)]
pub(crate) struct Back {
    #[serde(default)]
    state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// `GET /login/oidc/{name}/callback`
pub(crate) async fn callback(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    query: Result<Query<Back>, QueryRejection>,
    request: Request,
) -> Response {
    let headers = request.headers();
    // Nothing within another page, and no preview, may use a login up.
    let place = headers.get("sec-fetch-dest").map(HeaderValue::as_bytes);
    let whole_page = *request.method() == Method::GET && matches!(place, None | Some(b"document"));
    let came = Came::of(&control, &request);
    let finished = match query {
        Ok(Query(back)) if whole_page => finish(&control, &name, back, came).await,
        _ => Err(Refused::new(StatusCode::BAD_REQUEST, "this is no answer to a login")),
    };
    let mut response = match finished {
        Ok(session) => {
            let away = [(header::LOCATION, "/"), (header::CACHE_CONTROL, "no-store")];
            let mut response = (StatusCode::SEE_OTHER, away).into_response();
            response.headers_mut().extend(
                session.and_then(|cookie| cookie.parse().ok()).map(|cookie| (header::SET_COOKIE, cookie)),
            );
            response
        }
        Err(refused) => {
            control
                .failures
                .note(control.now_ms(), &format!("a login by a provider failed: {}", refused.why));
            console::no_entry(refused.status, refused.page)
        }
    };
    if let Ok(over) = flow_cookie(&control, "", control.deps.tls, 0).parse() {
        response.headers_mut().append(header::SET_COOKIE, over);
    }
    response
}

/// A browser that comes back.
struct Came {
    host: String,
    /// The login that it began.
    sealed: Option<String>,
    from: Arrival,
}

impl Came {
    fn of(control: &Control, request: &Request) -> Self {
        let headers = request.headers();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Self {
            host: host.unwrap_or_default().to_owned(),
            sealed: cookie(headers, &flow_cookie_name(control)).map(str::to_owned),
            from: Arrival::of(control, request),
        }
    }
}

/// Why nobody got in: for the log, and for whoever looks at the page.
struct Refused {
    status: StatusCode,
    why: String,
    page: &'static str,
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let page = match status {
            StatusCode::BAD_REQUEST => {
                "This login was not begun in this browser just now, or was finished before. Begin again."
            }
            StatusCode::UNAUTHORIZED => {
                "The identity provider did not let you in, or what it said does not hold."
            }
            StatusCode::FORBIDDEN => {
                "The identity provider knows you, but this console does not let you in. Ask who runs it."
            }
            StatusCode::NOT_FOUND => "There is no identity provider of that name.",
            StatusCode::TOO_MANY_REQUESTS => "Too many tries. Wait a quarter of an hour.",
            _ => {
                "The identity provider cannot be asked just now. Accounts with a passkey or password get in."
            }
        };
        Self { status, why: why.into(), page }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::new(error.status, error.status.to_string())
    }
}

impl From<FlowFault> for Refused {
    fn from(fault: FlowFault) -> Self {
        let status = match fault {
            FlowFault::Foreign | FlowFault::Late | FlowFault::Spent => StatusCode::BAD_REQUEST,
            FlowFault::Full => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, fault.to_string())
    }
}

/// Sends a browser to a provider.
async fn leave(
    control: &Control,
    provider: &Provider,
    from: &Arrival,
    fresh_for: Option<FreshFor>,
) -> Result<Response, ApiError> {
    let now_ms = control.now_ms();
    let of = Of::Other(format!("providers of network {}", from.network));
    control.throttle.charge(&of, PASSKEYS_PER_NETWORK_MAX, now_ms)?;
    let secure = leads_back(control, &from.origin)?;
    let name = &provider.settings().name;
    let known = provider.known(now_ms).await.map_err(|fault| {
        control.failures.note(now_ms, &format!("provider {name}: {fault}"));
        away()
    })?;
    let flow = Flow::begin(name, from.origin.clone(), from.session.clone(), now_ms);
    let anew = fresh_for.is_some();
    let flow = Flow { fresh_for, ..flow };
    let sealed = control.deps.providers.flows.seal(&flow).ok_or_else(away)?;
    let url = provider.authorize(&known, &flow, &redirect(&flow.origin, name), anew);
    let cookie = flow_cookie(control, &sealed, secure, PROVIDER_LOGIN_MS / 1_000);
    Ok(([(header::SET_COOKIE, cookie)], Json(ProviderLogin { url })).into_response())
}

/// What became of a browser that came back: the cookie of its session, unless it had one and has proved itself.
async fn finish(
    control: &Arc<Control>,
    name: &str,
    back: Back,
    came: Came,
) -> Result<Option<String>, Refused> {
    let now_ms = control.now_ms();
    let provider = control.deps.providers.get(name);
    let provider =
        provider.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "there is no such provider"))?;
    let flow = control.deps.providers.flows.open(came.sealed.as_deref(), (name, &back.state), now_ms)?;
    if flow.origin.split_once("://").is_none_or(|(_, host)| !host.eq_ignore_ascii_case(&came.host)) {
        return Err(FlowFault::Foreign.into());
    }
    // The session's own cookie does not come along from another site, and there is no `Origin`.
    let from = Arrival { origin: flow.origin.clone(), session: flow.session.clone(), ..came.from };
    // Not counted with passwords: a provider that breaks must not keep out who gets in without it.
    let tries = Of::Other(format!("answers of providers to network {}", from.network));
    control.throttle.charge(&tries, LOGINS_PER_NETWORK_MAX, now_ms)?;
    let token = redeem(control, provider, (&flow, &from), back).await?;
    let operator = admit(control, provider, &token).await?;
    control.throttle.refund(&tries);
    match &flow.fresh_for {
        Some(wanted) => fresh(control, &from, &flow, (wanted, &operator, &token)).map(|()| None),
        None => {
            // What the account's own passkey proves, the provider does not.
            let proved_at_ms = match has_passkey(&operator, &from.origin) {
                false => token.proved_at_ms.unwrap_or_default().min(now_ms),
                true => 0,
            };
            let by = format!("provider {name}");
            let (who, cookie) = open_session(control, &from, operator, &by, proved_at_ms)?;
            if let Principal::Operator(_, held) = &who {
                control.deps.sessions.opened_by(&held.id, name);
            }
            Ok(Some(cookie))
        }
    }
}

/// Whom the provider vouches for.
async fn redeem(
    control: &Control,
    provider: &Provider,
    (flow, from): (&Flow, &Arrival),
    back: Back,
) -> Result<IdToken, Refused> {
    let now_ms = control.now_ms();
    let unreachable = |fault: String| Refused::new(StatusCode::SERVICE_UNAVAILABLE, fault);
    let known = provider.known(now_ms).await.map_err(unreachable)?;
    let refused = |why: String| Refused::new(StatusCode::UNAUTHORIZED, why);
    if !provider.is_of(&known, back.iss.as_deref()) {
        return Err(refused("the answer is of another provider, or does not say of which".to_owned()));
    }
    if let Some(error) = back.error {
        let said = ERRORS.iter().find(|one| **one == error).unwrap_or(&"another reason");
        return Err(refused(format!("the provider gives no code: {said}")));
    }
    let code = back.code.ok_or_else(|| refused("the provider's answer has no code".to_owned()))?;
    // Not before: what brings no code of this provider takes no room from whoever does.
    control.deps.providers.flows.spend(flow, &from.network, now_ms)?;
    let back_to = redirect(&flow.origin, &flow.provider);
    let redeemed = provider.redeem(&known, (&code, &back_to), flow, now_ms).await;
    let token = redeemed.map_err(|fault| match fault {
        NotRedeemed::Away(why) => unreachable(why),
        fault => refused(fault.to_string()),
    })?;
    // It was asked for one that is no older than a session may be.
    if token.proved_at_ms.is_some_and(|at_ms| now_ms >= at_ms.saturating_add(SESSION_MS + LEEWAY_MS)) {
        return Err(refused("he proved himself to the provider too long ago".to_owned()));
    }
    Ok(token)
}

/// His account, with the rights that the provider's word gives him. Who does not get in is in the ledger.
async fn admit(control: &Arc<Control>, provider: &Provider, token: &IdToken) -> Result<Operator, Refused> {
    let settings = provider.settings();
    let subject: String = token.subject.escape_debug().take(SUBJECT_CHARS_MAX).collect();
    let refuse = |why: String| {
        let who = format!("provider {}", settings.name);
        // Refused it is in any case.
        let _ = control.record_as(&who, &format!("keep out subject {subject}: {why}"));
        Refused::new(StatusCode::FORBIDDEN, format!("subject {subject}: {why}"))
    };
    let person = match settings.person(token) {
        Ok(person) => person,
        Err(fault) => {
            if fault.is_without_rights() {
                withdraw(control, provider, token).await?;
            }
            return Err(refuse(fault.to_string()));
        }
    };
    let Person { name, role, apps } = person;
    let who = Provided {
        provider: settings.name.clone(),
        issuer: settings.issuer.clone(),
        subject: token.subject.clone(),
        name,
        role,
        apps,
        on: format!("{}/{}", control.deps.site, control.deps.node),
    };
    let known = control.deps.operators.get(&who.id());
    if known.is_none_or(|known| (known.role, &known.apps) != (who.role, &who.apps)) {
        let what = format!(
            "give subject {subject}, as {}, the role {:?} of {}",
            who.name,
            who.role,
            scope(&who.apps)
        );
        control.record_as(&format!("provider {}", settings.name), &what)?;
    }
    let (node, now_ms) = (Arc::clone(control), control.now_ms());
    let provided = on_disk(move || node.deps.operators.provide(&who, now_ms)).await?;
    provided.map_err(|fault| match fault {
        OperatorFault::File(error) => {
            tracing::error!(%error, "the operators could not be written");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the account could not be written")
        }
        fault => refuse(fault.to_string()),
    })
}

/// Ends the sessions of somebody whom the provider gives no rights any more, at all nodes.
async fn withdraw(control: &Arc<Control>, provider: &Provider, token: &IdToken) -> Result<(), Refused> {
    let (node, issuer, subject) =
        (Arc::clone(control), provider.settings().issuer.clone(), token.subject.clone());
    let withdrawn = on_disk(move || node.deps.operators.withdraw(&issuer, &subject)).await?;
    let withdrawn = withdrawn.map_err(|error| {
        tracing::error!(%error, "the operators could not be written");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the account could not be written")
    })?;
    if let Some(id) = withdrawn {
        control.deps.sessions.close_of(&id);
        control.look_again();
    }
    Ok(())
}

/// Notes that the holder of the session that began this has proved himself, to the provider and just now.
fn fresh(
    control: &Control,
    from: &Arrival,
    flow: &Flow,
    (wanted, operator, token): (&FreshFor, &Operator, &IdToken),
) -> Result<(), Refused> {
    let now_ms = control.now_ms();
    let refused = |why: &str| Refused::new(StatusCode::UNAUTHORIZED, why);
    if wanted.operator != operator.id {
        return Err(refused("somebody else proved himself"));
    }
    if has_passkey(operator, &from.origin) {
        return Err(refused("his account has a passkey by now, and only that proves who he is"));
    }
    // The provider was asked not to go by what it knows. That it did so, this alone says.
    let proved = token.proved_at_ms.filter(|at_ms| at_ms.saturating_add(LEEWAY_MS) >= flow.begun_at_ms);
    let proved_at_ms =
        proved.ok_or_else(|| refused("the provider does not say that he proved himself anew"))?;
    let sessions = &control.deps.sessions;
    let session =
        from.session.as_deref().and_then(|id| Some((id, sessions.enter(id, from.browser, now_ms)?)));
    let (id, session) = session.ok_or_else(|| refused("his session has ended meanwhile"))?;
    let account = session.account.filter(|account| *account.operator == *operator.id);
    if account.and_then(|account| current(control, &account)).is_none() {
        return Err(refused("his account was changed meanwhile"));
    }
    control.record_as(&format!("operator {}", operator.name), "prove oneself anew by the provider")?;
    sessions.prove(id, proved_at_ms.min(now_ms));
    Ok(())
}

/// Whether an account has a passkey that can be shown on a page of this origin.
fn has_passkey(operator: &Operator, origin: &str) -> bool {
    let at = Ceremony { origin, purpose: "", now_ms: 0 };
    operator.passkeys.iter().any(|key| key.host == at.host())
}

/// Whether a provider can lead a browser back to this origin, and whether that is by TLS. `from_here` and `require` have seen that it is
/// this node's.
fn leads_back(control: &Control, origin: &str) -> Result<bool, ApiError> {
    let fault = |message: &str| Err(ApiError::bad_request(message));
    let (secure, host) = match origin.split_once("://") {
        Some(("https", host)) => (true, host),
        Some(("http", host)) => (false, host),
        _ => return fault("a login by a provider begins on a page of the console"),
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if control.deps.host_names.iter().any(|known| known.to_string().eq_ignore_ascii_case(name)) {
        return match secure {
            true => Ok(true),
            false => {
                fault("open the console over TLS: what the provider answers with could be read on its way")
            }
        };
    }
    match name.eq_ignore_ascii_case("localhost") {
        true => Ok(secure),
        false => fault("open the console by its name: providers lead back to names"),
    }
}

/// Where the provider sends browsers back to. Each has a place of its own: an answer of one is none of another.
fn redirect(origin: &str, provider: &str) -> String {
    format!("{origin}/login/oidc/{provider}/callback")
}

/// The cookie that holds a login under way. The browser comes back from another site, which `Strict` would not survive.
fn flow_cookie(control: &Control, value: &str, secure: bool, seconds: u64) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let name = flow_cookie_name(control);
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

fn flow_cookie_name(control: &Control) -> String {
    format!("{}_oidc", control.cookie_name)
}

fn row(control: &Control, provider: &Provider) -> ProviderRow {
    let (settings, health) = (provider.settings(), provider.health());
    let names = control.deps.host_names.iter();
    let port = control.deps.listen.map_or(0, |listen| listen.port());
    let mut origins: Vec<String> = names.map(|name| name.origin(port, control.deps.tls)).collect();
    if origins.is_empty() {
        origins.push(format!("http{}://localhost:{port}", if control.deps.tls { "s" } else { "" }));
    }
    ProviderRow {
        name: settings.name.clone(),
        title: settings.title.clone(),
        issuer: settings.issuer.clone(),
        client_id: settings.client_id.clone(),
        redirects: origins.iter().map(|origin| redirect(origin, &settings.name)).collect(),
        asked_at_ms: health.asked_at_ms,
        fault: health.fault,
        keys: provider.keys(),
        ahead_ms: health.ahead_ms,
    }
}

fn named<'a>(control: &'a Control, name: &str) -> Result<&'a Arc<Provider>, ApiError> {
    let none = || ApiError::not_found("this node's settings have no identity provider of that name");
    control.deps.providers.get(name).ok_or_else(none)
}

fn away() -> ApiError {
    let message =
        "the identity provider cannot be asked just now; accounts with a passkey or password get in";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "provider", message)
}

/// What a provider may say instead of giving a code (RFC 6749, section 4.1.2.1; OpenID Connect Core, section 3.1.2.6).
const ERRORS: [&str; 10] = [
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_response_type",
    "login_required",
    "interaction_required",
    "consent_required",
];
/// Of a subject, in the ledger.
const SUBJECT_CHARS_MAX: usize = 64;
