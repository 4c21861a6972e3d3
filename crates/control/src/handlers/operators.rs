//! Accounts of operators: list, add, change, remove, give anew.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_model::limits::ENROL_TICKET_MS;
use phalanx_trust::{By, Operator, OperatorChange, OperatorFault, Operators, valid_name};

use crate::api::{ApiTokenMade, NewApiToken, NewOperator, OperatorEdit, OperatorInvited, OperatorRow};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::account::{check_apps, make_token};
use crate::host::login_url;
use crate::paging::Page;
use crate::router::Control;

/// `GET /api/v1/operators`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<OperatorRow>>, ApiError> {
    let numbered = control.deps.operators.list().into_iter().enumerate();
    let rows = numbered.map(|(at, operator)| OperatorRow::of(operator, at == 0)).collect();
    Ok(Json(page.of(rows, |row: &OperatorRow| row.name.clone())?))
}

/// `POST /api/v1/operators`: an account, and the link by which its owner gives it credentials.
pub(crate) async fn add(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewOperator>, JsonRejection>,
) -> Result<(StatusCode, Json<OperatorInvited>), ApiError> {
    let Json(new) = body?;
    if !valid_name(&new.name) {
        return Err(ApiError::bad_request("an operator's name has 1 to 63 characters of a-z, 0-9, - and _"));
    }
    check_apps(&new.apps)?;
    let scope = scope(&new.apps);
    control.record(&who, &format!("add operator {} as {:?} of {scope}", new.name, new.role))?;
    let (name, role) = (new.name, new.role.into());
    let on = format!("{}/{}", control.deps.site, control.deps.node);
    let new = phalanx_trust::NewOperator { name, role, apps: new.apps, by: who.name(), on };
    let (operators, now_ms) = (Arc::clone(&control.deps.operators), control.now_ms());
    let operator = on_disk(move || operators.add(new, now_ms)).await?.map_err(fault)?;
    Ok((StatusCode::CREATED, Json(invited(&control, operator))))
}

/// `PATCH /api/v1/operators/{name}`: role, apps, or whether he is kept out. His sessions end.
pub(crate) async fn edit(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    body: Result<Json<OperatorEdit>, JsonRejection>,
) -> Result<Json<OperatorRow>, ApiError> {
    let Json(edit) = body?;
    let id = named(&control, &name)?.id;
    check_apps(edit.apps.as_deref().unwrap_or_default())?;
    let mut what = Vec::new();
    what.extend(edit.role.map(|role| format!("role {role:?}")));
    what.extend(edit.apps.as_deref().map(scope));
    what.extend(edit.disabled.map(|disabled| if disabled { "disabled" } else { "enabled" }.to_owned()));
    if what.is_empty() {
        return Err(ApiError::bad_request("name what to change: role, apps or disabled"));
    }
    control.record(&who, &format!("change operator {name}: {}", what.join(", ")))?;
    let OperatorEdit { role, apps, disabled } = edit;
    let change = OperatorChange { role: role.map(Into::into), apps, disabled };
    throwing_out(&control, id, move |operators, id| operators.change(id, change, by(&who))).await?;
    Ok(Json(row(&control, named(&control, &name)?)))
}

/// `DELETE /api/v1/operators/{name}`
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = named(&control, &name)?.id;
    control.record(&who, &format!("remove operator {name}"))?;
    let now_ms = control.now_ms();
    throwing_out(&control, id, move |operators, id| operators.remove(id, by(&who), now_ms)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/operators/{name}/reset`: without credentials and tokens, with a new link to give it some.
pub(crate) async fn reset(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Json<OperatorInvited>, ApiError> {
    let id = named(&control, &name)?.id;
    control.record(&who, &format!("take all credentials of operator {name}"))?;
    throwing_out(&control, id, move |operators, id| operators.reset(id, by(&who))).await?;
    Ok(Json(invited(&control, named(&control, &name)?)))
}

/// `POST /api/v1/operator-resets`: the same for all of them, after a control node was stolen.
pub(crate) async fn reset_all(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<Vec<OperatorInvited>>, ApiError> {
    control.record(&who, "take all credentials of all operators")?;
    let node = Arc::clone(&control);
    let reset = on_disk(move || {
        let all = node.deps.operators.reset_all()?;
        for operator in &all {
            node.deps.sessions.close_of(&operator.id);
            node.deps.tickets.withdraw(&operator.id);
        }
        node.look_again();
        Ok(all)
    });
    let all = reset.await?.map_err(fault)?;
    Ok(Json(all.into_iter().map(|operator| invited(&control, operator)).collect()))
}

/// `POST /api/v1/operators/{name}/tokens`: for a program, without a browser.
pub(crate) async fn add_token(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(name): Path<String>,
    body: Result<Json<NewApiToken>, JsonRejection>,
) -> Result<(StatusCode, Json<ApiTokenMade>), ApiError> {
    let Json(new) = body?;
    let operator = Arc::new(named(&control, &name)?);
    Ok((StatusCode::CREATED, Json(make_token(&control, &who, operator, new).await?)))
}

/// `DELETE /api/v1/operators/{name}/tokens/{token}`: one that got about, without a reset.
pub(crate) async fn delete_token(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path((name, token)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let operator = named(&control, &name)?;
    if !operator.tokens.iter().any(|known| known.name == token) {
        return Err(ApiError::not_found("he has no token of that name"));
    }
    control.record(&who, &format!("end API token {token} of operator {name}"))?;
    let operators = Arc::clone(&control.deps.operators);
    on_disk(move || operators.delete_token(&operator.id, &token)).await?.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What became of a change that was not made.
pub(crate) fn fault(fault: OperatorFault) -> ApiError {
    let (status, code) = match &fault {
        OperatorFault::Exists => (StatusCode::CONFLICT, "exists"),
        OperatorFault::Unknown => (StatusCode::NOT_FOUND, "not_found"),
        OperatorFault::TooMany => (StatusCode::UNPROCESSABLE_ENTITY, "limit"),
        OperatorFault::Last | OperatorFault::LastOwner => (StatusCode::CONFLICT, "last"),
        OperatorFault::Changed => (StatusCode::CONFLICT, "changed"),
        OperatorFault::Shut => (StatusCode::FORBIDDEN, "shut"),
        OperatorFault::File(error) => {
            tracing::error!(%error, "the operators could not be written");
            let message = "nothing was changed: the operators could not be written; the node's log says why";
            return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "state", message);
        }
    };
    ApiError::new(status, code, fault.to_string())
}

/// Works, and waits for the disk, on a thread that may.
pub(crate) async fn on_disk<T: Send + 'static>(
    write: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let cut_off = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "state", "the node is stopping");
    tokio::task::spawn_blocking(write).await.map_err(cut_off)
}

fn named(control: &Control, name: &str) -> Result<Operator, ApiError> {
    control.deps.operators.named(name).ok_or_else(|| ApiError::not_found("there is no operator of that name"))
}

/// Changes an account and ends its sessions, streams and links: both, even if whoever asked hangs up while it is written.
async fn throwing_out(
    control: &Arc<Control>,
    id: String,
    change: impl FnOnce(&Operators, &str) -> Result<(), OperatorFault> + Send + 'static,
) -> Result<(), ApiError> {
    let node = Arc::clone(control);
    let changed = on_disk(move || {
        change(&node.deps.operators, &id)?;
        node.deps.sessions.close_of(&id);
        node.deps.tickets.withdraw(&id);
        node.look_again();
        Ok(())
    });
    changed.await?.map_err(fault)
}

/// Whether an owner must be left: whoever has the node gets in without.
fn by(who: &Principal) -> By {
    match who {
        Principal::Socket | Principal::Token | Principal::Link(_) => By::Node,
        Principal::Operator(..) | Principal::ApiToken(_) => By::Operator,
    }
}

fn invited(control: &Control, operator: Operator) -> OperatorInvited {
    let now_ms = control.now_ms();
    let console = (control.deps.host_names.as_slice(), control.deps.tls);
    // Who logs in by a provider is given nothing by which he could get in without.
    let listen = control.deps.listen.filter(|_| operator.provider().is_none());
    let url = listen.map(|listen| {
        let ticket = control.deps.tickets.issue_enrolment((&operator).into(), now_ms);
        login_url(listen, console, true, &ticket)
    });
    OperatorInvited { operator: row(control, operator), url, expires_at_ms: now_ms + ENROL_TICKET_MS }
}

/// As others see him.
pub(crate) fn row(control: &Control, operator: Operator) -> OperatorRow {
    let first = control.deps.operators.is_first(&operator);
    OperatorRow::of(operator, first)
}

pub(crate) fn scope(apps: &[String]) -> String {
    if apps.is_empty() { "all apps".to_owned() } else { format!("apps {}", apps.join(", ")) }
}
