//! What an operator does about his own account: credentials, a fresh second factor, API tokens.
//!
//! Whose account it is, the session says and no parameter: nobody can name another's.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, header};
use phalanx_model::limits::{OPERATOR_APPS_MAX, OPERATOR_TOKEN_MS_MAX};
use phalanx_trust::passkey::{base64url, from_base64url};
use phalanx_trust::{
    Ceremony, Operator, OperatorToken, PasswordHash, Role, TotpSecret, password_fault, valid_name,
};

use crate::api::{
    APP_BYTES_MAX, ApiTokenMade, Me, NewApiToken, NewPasskey, NewPassword, PasskeyChallenge, Proof,
    RecoveryCodes, TotpOffer, is_app_name,
};
use crate::auth::{Held, Principal};
use crate::error::ApiError;
use crate::handlers::login::{self, Arrival};
use crate::handlers::operators::{fault, on_disk, row};
use crate::limits::LOGINS_PER_ACCOUNT_MAX;
use crate::router::Control;
use crate::throttle::Of;

/// `GET /api/v1/me`
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Json<Me> {
    Json(me(&control, &who))
}

/// Who asks, as he is told.
pub(crate) fn me(control: &Control, who: &Principal) -> Me {
    let account = match who {
        Principal::Operator(operator, _) => Some(row(control, Operator::clone(operator))),
        Principal::ApiToken(both) => Some(row(control, both.0.clone())),
        Principal::Socket | Principal::Token | Principal::Link(_) => None,
    };
    Me {
        name: who.name(),
        author: who.author(),
        role: who.role().into(),
        apps: who.apps(),
        account,
        enrolling: who.held().is_some_and(|held| held.session.enrolling),
        fresh_until_ms: who.fresh_until_ms(),
        operators: !control.deps.operators.is_empty(),
        session: who.held().map(|held| held.session.name.clone()),
    }
}

/// `POST /api/v1/me/challenge`: to make a passkey, or to prove oneself with one. Good in this session only.
pub(crate) async fn challenge(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Json<PasskeyChallenge>, ApiError> {
    let (operator, held) = account(&who)?;
    let (origin, purpose) = (login::origin(&headers), purpose(held));
    let at = Ceremony { origin: &origin, purpose: &purpose, now_ms: control.now_ms() };
    Ok(Json(PasskeyChallenge {
        challenge: control.challenges.issue(&purpose, at.now_ms),
        host: at.host().to_owned(),
        user: Some((base64url(operator.id.as_bytes()), operator.name.clone())),
        keys: operator.passkeys.iter().map(|key| key.id.clone()).collect(),
    }))
}

/// `POST /api/v1/me/prove`: a fresh second factor.
pub(crate) async fn prove(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    body: Result<Json<Proof>, JsonRejection>,
) -> Result<Json<Me>, ApiError> {
    let (operator, held) = account(&who)?;
    let Json(proof) = body?;
    let (now_ms, tries) = (control.now_ms(), Of::Account(format!("proof {}", operator.id)));
    control.throttle.charge(&tries, LOGINS_PER_ACCOUNT_MAX, now_ms)?;
    let by_code = proof.passkey.is_none();
    let holds = match proof {
        Proof { code: Some(code), passkey: None } => {
            let (operators, id) = (Arc::clone(&control.deps.operators), operator.id.clone());
            on_disk(move || operators.proves(&id, &code, now_ms)).await?
        }
        Proof { code: None, passkey: Some(signed) } => {
            let (origin, purpose) = (login::origin(&headers), purpose(held));
            let at = Ceremony { origin: &origin, purpose: &purpose, now_ms };
            let signer = login::check_passkey(&control, at, signed).await;
            signer.is_ok_and(|signer| signer.id == operator.id)
        }
        _ => return Err(ApiError::bad_request("a proof is a code or a passkey's signature, one of the two")),
    };
    if !holds {
        control.failures.note(now_ms, "a second factor was wrong");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_proved", "that code or passkey is not right"));
    }
    // A passkey's proof is not given back: it spends a challenge, of which only so many are remembered.
    if by_code {
        control.throttle.refund(&tries);
    }
    control.deps.sessions.prove(&held.id, now_ms);
    let mut session = held.session.clone();
    session.proved_at_ms = now_ms;
    let now = Principal::Operator(Arc::clone(operator), Held { id: Arc::clone(&held.id), session });
    Ok(Json(me(&control, &now)))
}

/// `POST /api/v1/me/totp`
pub(crate) async fn offer_totp(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<TotpOffer>, ApiError> {
    let (operator, held) = account(&who)?;
    of_its_own(operator)?;
    let secret = TotpSecret::fresh();
    let offer = TotpOffer {
        secret: secret.base32().to_string(),
        uri: secret.uri(&control.deps.site, &operator.name).to_string(),
    };
    control.deps.sessions.offer_totp(&held.id, secret);
    Ok(Json(offer))
}

/// `POST /api/v1/me/password`: taken with a code of the app, so that there is never a password without one.
pub(crate) async fn set_password(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let (operator, held) = account(&who)?;
    of_its_own(operator)?;
    let from = Arrival::of(&control, &request);
    let NewPassword { password, code } = login::body(request).await?;
    if let Some(fault) = password_fault(&password, &operator.name) {
        return Err(ApiError::bad_request(fault));
    }
    let offered = control.deps.sessions.offered_totp(&held.id);
    let totp =
        offered.ok_or_else(|| ApiError::bad_request("first ask for a secret: POST /api/v1/me/totp"))?;
    let tries = Of::Account(format!("proof {}", operator.id));
    control.throttle.charge(&tries, LOGINS_PER_ACCOUNT_MAX, control.now_ms())?;
    let step = totp.step_of(&code, control.now_ms(), 0);
    let step = step.ok_or_else(|| ApiError::bad_request("that is not the app's present code"))?;
    control.record(&who, "set a password and an app for codes")?;
    let (node, whose, session) = (Arc::clone(&control), Arc::clone(operator), Arc::clone(&held.id));
    let set = login::hash(&control, move || {
        let hash = PasswordHash::of(&password)?;
        let (now, codes) = node.deps.operators.set_password(&whose, &hash, (&totp, step))?;
        end_others(&node, &now, &session);
        Ok((now, codes))
    });
    let (now, codes) = set.await?.map_err(fault)?;
    control.throttle.refund(&tries);
    enrolled(&control, &from, (now, held), Json(RecoveryCodes { codes }).into_response())
}

/// `POST /api/v1/me/passkeys`
pub(crate) async fn add_passkey(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let (operator, held) = account(&who)?;
    let from = Arrival::of(&control, &request);
    let NewPasskey { label, authenticator_data, client_data } = login::body(request).await?;
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control) {
        return Err(ApiError::bad_request("a passkey's label has 1 to 64 bytes of visible text"));
    }
    let read = |text: &str| {
        from_base64url(text)
            .ok_or_else(|| ApiError::bad_request("a passkey's bytes are written in base64url"))
    };
    let (data, client) = (read(&authenticator_data)?, read(&client_data)?);
    let purpose = purpose(held);
    let at = Ceremony { origin: &from.origin, purpose: &purpose, now_ms: control.now_ms() };
    // Not given back, as in `prove`.
    let tries = Of::Account(format!("proof {}", operator.id));
    control.throttle.charge(&tries, LOGINS_PER_ACCOUNT_MAX, at.now_ms)?;
    let made = control.challenges.made(at, &data, &client);
    let made = made.map_err(|fault| ApiError::bad_request(fault.to_string()))?;
    control.record(&who, &format!("add passkey {label}"))?;
    let (operators, whose) = (Arc::clone(&control.deps.operators), Arc::clone(operator));
    let (place, now_ms) = ((label, at.host().to_owned()), at.now_ms);
    let now = on_disk(move || operators.add_passkey(&whose, made, place, now_ms)).await?.map_err(fault)?;
    enrolled(&control, &from, (now, held), StatusCode::CREATED.into_response())
}

/// `DELETE /api/v1/me/passkeys/{id}`
pub(crate) async fn delete_passkey(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(passkey): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (operator, held) = account(&who)?;
    let Some(known) = operator.passkeys.iter().find(|key| key.id == passkey) else {
        return Err(ApiError::not_found("you have no such passkey"));
    };
    control.record(&who, &format!("delete passkey {}", known.label))?;
    let (node, whose, session) = (Arc::clone(&control), Arc::clone(operator), Arc::clone(&held.id));
    let deleted = on_disk(move || {
        let now = node.deps.operators.delete_passkey(&whose, &passkey)?;
        end_others(&node, &now, &session);
        Ok(())
    });
    deleted.await?.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/me/tokens`: a token is never more than who makes it.
pub(crate) async fn add_token(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewApiToken>, JsonRejection>,
) -> Result<(StatusCode, Json<ApiTokenMade>), ApiError> {
    let (operator, _) = account(&who)?;
    let Json(new) = body?;
    Ok((StatusCode::CREATED, Json(make_token(&control, &who, Arc::clone(operator), new).await?)))
}

/// Makes a token of an operator's, in the name of who asks.
pub(crate) async fn make_token(
    control: &Arc<Control>,
    who: &Principal,
    operator: Arc<Operator>,
    new: NewApiToken,
) -> Result<ApiTokenMade, ApiError> {
    of_its_own(&operator)?;
    let NewApiToken { name, role, apps, for_ms } = new;
    if !valid_name(&name) {
        return Err(ApiError::bad_request("a token's name has 1 to 63 characters of a-z, 0-9, - and _"));
    }
    if for_ms == 0 || for_ms > OPERATOR_TOKEN_MS_MAX {
        return Err(ApiError::bad_request(format!(
            "a token ends within 366 days: for_ms goes from 1 to {OPERATOR_TOKEN_MS_MAX}"
        )));
    }
    check_apps(&apps)?;
    let more = !operator.apps.is_empty() && apps.iter().any(|app| !operator.apps.contains(app));
    if Role::from(role) > operator.role || more {
        let message = "a token may do no more than its owner";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "role", message));
    }
    let created_at_ms = control.now_ms();
    let expires_at_ms = created_at_ms.saturating_add(for_ms);
    control.record(who, &format!("make API token {name} of operator {}", operator.name))?;
    let token = OperatorToken { name: name.clone(), role: role.into(), apps, created_at_ms, expires_at_ms };
    let operators = Arc::clone(&control.deps.operators);
    let made = on_disk(move || operators.add_token(&operator, token)).await?.map_err(fault)?;
    Ok(ApiTokenMade { name, token: made.to_string(), expires_at_ms })
}

/// `DELETE /api/v1/me/tokens/{name}`
pub(crate) async fn delete_token(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (operator, _) = account(&who)?;
    if !operator.tokens.iter().any(|token| token.name == name) {
        return Err(ApiError::not_found("you have no such token"));
    }
    control.record(&who, &format!("delete API token {name}"))?;
    let (node, id) = (Arc::clone(&control), operator.id.clone());
    let deleted = on_disk(move || {
        node.deps.operators.delete_token(&id, &name)?;
        node.look_again();
        Ok(())
    });
    deleted.await?.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether an account may have what lets its owner in: of one by a provider it would go on doing so when he has left there.
fn of_its_own(operator: &Operator) -> Result<(), ApiError> {
    let Some(provider) = operator.provider() else { return Ok(()) };
    let message =
        format!("this account logs in by {provider} alone: it has neither a password nor API tokens");
    Err(ApiError::new(StatusCode::CONFLICT, "provider", message))
}

/// Whether these can be names of apps.
pub(crate) fn check_apps(apps: &[String]) -> Result<(), ApiError> {
    if apps.len() > OPERATOR_APPS_MAX || !apps.iter().all(|app| is_app_name(app)) {
        return Err(ApiError::bad_request(format!(
            "at most {OPERATOR_APPS_MAX} apps can be named, with 1 to {APP_BYTES_MAX} bytes of visible text each"
        )));
    }
    Ok(())
}

/// The account and session of who asks; only a session has what credentials are changed with.
fn account(who: &Principal) -> Result<(&Arc<Operator>, &Held), ApiError> {
    match who {
        Principal::Operator(operator, held) => Ok((operator, held)),
        _ => Err(ApiError::not_found("this is for operators in a console session; there is no account here")),
    }
}

/// Ends the sessions in which others may sit who knew the credential that was changed; not the one in which it was. Those at other nodes
/// end because the account is another now.
fn end_others(control: &Control, operator: &Operator, session: &str) {
    control.deps.sessions.follow(session, operator.into());
    control.deps.sessions.close_others(&operator.id, session);
    control.look_again();
}

/// Challenges are for one session: what another was given does not count here.
fn purpose(held: &Held) -> String {
    format!("session {}", held.session.name)
}

/// After the first credential, the session that could only give it ends, and one with all rights begins.
fn enrolled(
    control: &Control,
    from: &Arrival,
    (operator, held): (Operator, &Held),
    answer: Response,
) -> Result<Response, ApiError> {
    if !held.session.enrolling {
        return Ok(answer);
    }
    control.deps.sessions.close_of(&operator.id);
    let opened = login::open(control, from, operator, "enrolment")?;
    let mut answer = answer;
    if let Some(cookie) = opened.headers().get(header::SET_COOKIE) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie.clone());
    }
    Ok(answer)
}

const LABEL_BYTES_MAX: usize = 64;
