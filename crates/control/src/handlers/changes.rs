//! Changes of policy by operators: what takes protection away waits for another one; all else is published at once.
//!
//! Flow in names: order -> compiled and compared with what all nodes run ([`Considered`]) -> published, or kept in [`Changes`] -> another
//! operator names the hash of what he saw -> the same again, if what it is based on is still the newest -> published.
//!
//! Who has the node (its socket, its admin token) has the key that signs policy, and could do without this: he publishes at once, and may
//! approve. INVARIANT: nobody else publishes what is dangerous alone, by whatever endpoint: `bundles` asks here, too.
//!
//! [`Changes`]: crate::changes::Changes

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_fleet::policy::Maker;
use phalanx_fleet::policy::origin::FILES;
use phalanx_fleet::{NewBundle, Stage};
use phalanx_model::limits::ORIGIN_WORD_BYTES_MAX;
use phalanx_trust::{OperatorToken, Role};

use crate::api::{
    NewPolicyChange, PolicyApproval, PolicyChange, PolicyChangeState, PolicyDiffered, PolicyRejection,
    PolicyVersionRow,
};
use crate::auth::Principal;
use crate::changes::{Kept, NotDone, Wanted, shown};
use crate::error::ApiError;
use crate::handlers::bundles::{check_reason, decoded, needed_reason, stage};
use crate::handlers::policy_base::{Policed, compare, parse, refused, stable, version};
use crate::paging::Page;
use crate::router::{Control, TriedBundle};

/// An order, looked at: what it does and to what.
struct Considered {
    order: NewPolicyChange,
    stage: Option<Stage>,
    /// The newest version when it was looked at: it is published on no other.
    newest: u64,
    /// What all nodes run, by version and hash; see [`Policed::identity`].
    base: (u64, String),
    /// It is what all nodes run already, to the byte.
    is_same: bool,
    content: Content,
    differs: PolicyDiffered,
}

struct Content {
    entry: String,
    files: BTreeMap<String, Vec<u8>>,
    tried: TriedBundle,
}

/// `GET /api/v1/policy/changes`: of this node, the newest first.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<PolicyChange>>, ApiError> {
    look_for_gone(&control);
    Ok(Json(page.of(control.deps.changes.list(control.now_ms()), |change| change.id.clone())?))
}

/// `GET /api/v1/policy/changes/{id}`
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<PolicyChange>, ApiError> {
    look_for_gone(&control);
    Ok(Json(kept(&control, &id)?.change))
}

/// `POST /api/v1/policy/changes`
pub(crate) async fn add(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewPolicyChange>, JsonRejection>,
) -> Result<(StatusCode, Json<PolicyChange>), ApiError> {
    let Json(mut order) = body?;
    order.source = claimed(order.source)?;
    let change = propose(&control, &who, order).await?;
    Ok((StatusCode::CREATED, Json(change)))
}

/// Publishes what somebody orders, or has it wait for somebody else.
pub(crate) async fn propose(
    control: &Control,
    who: &Principal,
    order: NewPolicyChange,
) -> Result<PolicyChange, ApiError> {
    needed_reason(&order.reason)?;
    let _one_at_a_time = control.reloading.lock().await;
    let considered = look_at(control, who, order).await?;
    if considered.differs.dangers.is_empty() || has_the_node(who) {
        let version = publish(control, who, &considered, None).await?;
        return Ok(control.deps.changes.published(considered.wanted(who), version, control.now_ms()));
    }
    let what =
        format!("ask for a change of policy that another operator must approve: {}", considered.order.reason);
    control.record(who, &what)?;
    end_of_gone(control);
    control.deps.changes.wait(considered.wanted(who), control.now_ms()).map_err(not_done)
}

/// Publishes what somebody orders, if he may do that alone; whether it was not in force already.
pub(crate) async fn publish_alone(
    control: &Control,
    who: &Principal,
    order: NewPolicyChange,
) -> Result<bool, ApiError> {
    needed_reason(&order.reason)?;
    let _one_at_a_time = control.reloading.lock().await;
    let considered = look_at(control, who, order).await?;
    let is_tried = control.deps.fleet.policy_state().record.is_some_and(|record| record.trial.is_some());
    if considered.is_same && considered.stage.is_none() && !is_tried {
        return Ok(false);
    }
    refuse_dangers(who, &considered.differs)?;
    let version = publish(control, who, &considered, None).await?;
    control.deps.changes.published(considered.wanted(who), version, control.now_ms());
    Ok(true)
}

/// Refuses to go back to a version (else to the one before) where that takes protection away and he who asks may not do so alone.
/// The version that he leaves.
pub(crate) async fn may_go_back(
    control: &Control,
    who: &Principal,
    to: Option<u64>,
) -> Result<Option<u64>, ApiError> {
    let Some(record) = control.deps.fleet.policy_state().record.filter(|_| !has_the_node(who)) else {
        return Ok(None);
    };
    let newest = record.newest().version;
    let target = match to {
        None if record.trial.is_some() => record.stable.version,
        None => record.chain.iter().rev().nth(1).map_or(newest, |before| before.version),
        Some(to) => to,
    };
    // Whoever ends a trial gives the few what all others run.
    if target != record.stable.version {
        let order = NewPolicyChange { content_of: Some(target), ..NewPolicyChange::default() };
        refuse_dangers(who, &look_at(control, who, order).await?.differs)?;
    }
    Ok(Some(newest))
}

fn refuse_dangers(who: &Principal, differs: &PolicyDiffered) -> Result<(), ApiError> {
    match differs.dangers.first() {
        Some(danger) if !has_the_node(who) => {
            let message = format!(
                "this takes protection away ({}), so another operator must approve: order it as a change, \
                 with `phalanx policy apply` or in the console",
                danger.words
            );
            Err(ApiError::new(StatusCode::FORBIDDEN, "second_operator", message))
        }
        _ => Ok(()),
    }
}

/// `POST /api/v1/policy/changes/{id}/approve`
pub(crate) async fn approve(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Result<Json<PolicyApproval>, JsonRejection>,
) -> Result<Json<PolicyChange>, ApiError> {
    let Json(approval) = body?;
    check_reason(&approval.reason)?;
    let _one_at_a_time = control.reloading.lock().await;
    let waits = kept(&control, &id)?;
    may_approve(&control, &who, &waits)?;
    let order = control.deps.changes.order(&id).map_err(not_done)?;
    if approval.hash != waits.change.hash {
        let message = "the hash is another than that of the change: look at it again";
        return Err(conflict("altered", message));
    }
    // What it is compared with now, and published on, must be what it was compared with then.
    let considered = look_at(&control, &who, NewPolicyChange { base: None, ..order }).await?;
    if considered.base != (waits.change.base, waits.base_hash.clone()) {
        let why = format!("the policy is version {} by now, not {}", considered.base.0, waits.change.base);
        expire(&control, &id, &why)?;
        let message = format!("{why}: what the change does must be looked at anew, so order it again");
        return Err(conflict("base_moved", &message));
    }
    // A program of another version may know more of what takes protection away than it was shown.
    let now = shown(considered.differs.dangers.clone());
    if now.iter().any(|danger| !waits.change.dangers.contains(danger)) {
        let why = "this node knows of more that it takes away than was shown when it was ordered";
        expire(&control, &id, why)?;
        return Err(conflict("altered", &format!("{why}: order it again, and look at it anew")));
    }
    let version = publish(&control, &who, &considered, Some(&waits.change)).await?;
    let ended = control.deps.changes.end(&id, control.now_ms(), |change| {
        change.state = PolicyChangeState::Published;
        change.approved_by = Some(who.author());
        change.decided_reason = approval.reason;
        change.version = Some(version);
    });
    ended.map(Json).map_err(not_done)
}

/// `POST /api/v1/policy/changes/{id}/reject`
pub(crate) async fn reject(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Result<Json<PolicyRejection>, JsonRejection>,
) -> Result<Json<PolicyChange>, ApiError> {
    let Json(rejection) = body?;
    check_reason(&rejection.reason)?;
    let _one_at_a_time = control.reloading.lock().await;
    let waits = kept(&control, &id)?;
    if waits.change.state != PolicyChangeState::Waiting {
        return Err(not_done(NotDone::Over(waits.change.state)));
    }
    control.record(&who, &format!("reject the change {id} of policy: {}", rejection.reason))?;
    let reason = match rejection.reason.as_str() {
        "" => format!("rejected by {}", who.author()),
        reason => format!("rejected by {}: {reason}", who.author()),
    };
    let ended = control.deps.changes.end(&id, control.now_ms(), |change| {
        change.state = PolicyChangeState::Rejected;
        change.decided_reason = reason;
    });
    ended.map(Json).map_err(not_done)
}

/// Of what something was made, as whoever orders it says: told apart from what the node knows itself, as `files` and `version 12`.
pub(crate) fn claimed(source: Option<String>) -> Result<Option<String>, ApiError> {
    let most = ORIGIN_WORD_BYTES_MAX.saturating_sub(PolicyVersionRow::CLAIMED.len());
    if source.as_ref().is_some_and(|source| source.len() > most || source.chars().any(char::is_control)) {
        return Err(ApiError::bad_request(format!("a source is one line of {most} bytes at most")));
    }
    Ok(source.map(|source| source + PolicyVersionRow::CLAIMED))
}

/// Compiles what an order is about and compares it with what all nodes run.
async fn look_at(control: &Control, who: &Principal, order: NewPolicyChange) -> Result<Considered, ApiError> {
    check_reason(&order.reason)?;
    let stage = stage(&order.canary_site, &order.canary_node, order.bake_ms)?;
    let newest = control.deps.fleet.policy_state().record.map_or(0, |record| record.newest().version);
    if let Some(expected) = order.base.filter(|expected| *expected != newest) {
        let message =
            format!("the newest policy is version {newest}, not {expected}; look at it and try again");
        return Err(conflict("conflict", &message));
    }
    let (entry, files) = match order.content_of {
        Some(_) if !order.files.is_empty() => {
            return Err(ApiError::bad_request("either files or content_of, not both"));
        }
        Some(of) => {
            let Policed { entry, files, .. } = version(control, of).await?;
            (entry.unwrap_or_default(), files)
        }
        None => (order.entry.clone(), decoded(order.files.clone())?),
    };
    let tried =
        (control.deps.bundles)(files.clone(), entry.clone()).await.map_err(|faults| refused(&faults))?;
    let policy = parse(&entry, &files)?;
    let (base, is_same, differs) = match stable(control).await {
        Ok(base) => {
            let differs = compare(&base, &entry, &files, &policy, control.now_ms());
            // A node's own policy is none of the fleet's yet; what came while this was looked at is somebody else's, who was first.
            let is_same = base.version == newest
                && !base.hash.is_empty()
                && base.entry.as_ref() == Some(&entry)
                && base.files == files;
            (base.identity(), is_same, differs)
        }
        // What is in force may be lost or unreadable: then a new policy is the way out, for who has the node.
        Err(_) if has_the_node(who) => ((newest, String::new()), false, PolicyDiffered::default()),
        Err(error) => return Err(error),
    };
    Ok(Considered { order, stage, newest, base, is_same, content: Content { entry, files, tried }, differs })
}

/// Makes it the fleet's, or has some try it; `approved`: the change that somebody else ordered and `who` approves. It is in the ledger
/// before.
async fn publish(
    control: &Control,
    who: &Principal,
    considered: &Considered,
    approved: Option<&PolicyChange>,
) -> Result<u64, ApiError> {
    let Considered { order, stage, newest, content, differs, .. } = considered;
    let to = stage.as_ref().map_or_else(|| "all nodes".to_owned(), ToString::to_string);
    let of = approved.map(|change| format!(", approving the change {} of {}", change.id, change.author));
    let why = if order.reason.is_empty() { String::new() } else { format!(": {}", order.reason) };
    let what = format!(
        "publish a policy to {to}, after version {newest}{}, with {} changes, of which {} take protection away{why}",
        of.unwrap_or_default(),
        differs.changes.len(),
        differs.dangers.len(),
    );
    control.record(who, &what)?;
    let maker = Maker {
        author: approved.map_or_else(|| who.author(), |change| change.author.clone()),
        approved_by: approved.map(|_| who.author()),
        source: considered.source(),
    };
    let fleet = &control.deps.fleet;
    let record = match order.content_of {
        Some(to) if stage.is_none() => {
            let why = rolled_back(&order.reason);
            fleet.roll_policy_back(Some(to), Some(*newest), maker, &why).await?
        }
        _ => {
            let new = NewBundle {
                files: content.files.clone(),
                entry: content.entry.clone(),
                version: content.tried.version,
                expect: Some(*newest),
                requires: content.tried.requires.clone(),
                stage: stage.clone(),
                bake_ms: order.bake_ms,
                reason: order.reason.clone(),
                maker,
            };
            fleet.push_policy(new).await?
        }
    };
    Ok(record.newest().version)
}

/// Why a version was left, as the record tells it.
pub(crate) fn rolled_back(reason: &str) -> String {
    match reason {
        "" => "an operator rolled it back".to_owned(),
        reason => format!("an operator rolled it back: {reason}"),
    }
}

impl Considered {
    fn source(&self) -> String {
        match (&self.order.source, self.order.content_of) {
            (_, Some(of)) => format!("version {of}"),
            (Some(source), None) => source.clone(),
            (None, None) => FILES.to_owned(),
        }
    }

    fn wanted(self, who: &Principal) -> Wanted {
        Wanted {
            source: self.source(),
            author: who.author(),
            operator: who.operator().map(|operator| operator.id.clone()),
            generation: who.operator().map(|operator| operator.generation),
            token: who.token().cloned(),
            stage: self.stage.as_ref().map(ToString::to_string),
            base: self.base,
            differs: self.differs,
            order: self.order,
        }
    }
}

/// Whether he could sign policy without us. A login link is made by such a one, but what holds it is a browser.
fn has_the_node(who: &Principal) -> bool {
    matches!(who, Principal::Socket | Principal::Token)
}

/// Whether somebody may approve a change: another operator, or who has the node. By the endpoint's rule he is an editor who has just
/// proved himself, and no API token.
fn may_approve(control: &Control, who: &Principal, waits: &Kept) -> Result<(), ApiError> {
    let forbidden = |code: &str, message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    if waits.change.state != PolicyChangeState::Waiting {
        return Err(not_done(NotDone::Over(waits.change.state)));
    }
    if matches!(who, Principal::Link(_)) {
        return forbidden(
            "nameless",
            "a session of `phalanx login` has no name to approve with: log in as an operator",
        );
    }
    let Some(author) = &waits.operator else { return Ok(()) };
    if who.operator().is_some_and(|operator| operator.id == *author) {
        return forbidden("own_change", "this change is your own: another operator must approve it");
    }
    if let Some(why) = gone(control, waits) {
        expire(control, &waits.change.id, why)?;
        return Err(conflict("author_gone", why));
    }
    // Of an account of the fleet, of one of a provider and of those of two nodes that met, the name is all that says whose they are.
    let named = control.deps.operators.get(author).map(|author| author.given_name);
    if who.operator().is_some_and(|operator| Some(&operator.given_name) == named.as_ref()) {
        return forbidden(
            "own_name",
            "an account of the same name ordered this change, which may be yours: somebody of another name must approve it",
        );
    }
    Ok(())
}

/// Why the word of a change's author does not count any more. Whatever ends his sessions ends what he asked for, at whatever node it was
/// done: a reset says that somebody else may have had his account. What a token ordered ends with the token, which may have got about.
fn gone(control: &Control, waits: &Kept) -> Option<&'static str> {
    let still = control.deps.operators.get(waits.operator.as_ref()?);
    let may = |operator: &phalanx_trust::Operator| {
        !operator.disabled && operator.role >= Role::Editor && operator.apps.is_empty()
    };
    match still.filter(may) {
        None => Some("its author may not change policy any more"),
        Some(now) if waits.generation.is_some_and(|then| then != now.generation) => {
            Some("its author's account was reset or changed since he ordered it")
        }
        Some(now) => {
            let is_over = |token: &OperatorToken| {
                !now.tokens.contains(token) || control.now_ms() >= token.expires_at_ms
            };
            let over = waits.token.as_ref().is_some_and(is_over);
            over.then_some("the API token that ordered it has ended")
        }
    }
}

/// Ends what waits of authors whose word does not count any more. For who holds `reloading`: nothing is published meanwhile.
fn end_of_gone(control: &Control) {
    for waits in control.deps.changes.waiting() {
        let Some(why) = gone(control, &waits) else { continue };
        if let Err(error) = expire(control, &waits.change.id, why) {
            tracing::warn!(id = waits.change.id, ?error, "the end of a change of policy is not kept");
        }
    }
}

/// The same before somebody is shown changes, unless one is being published, which looks for itself.
fn look_for_gone(control: &Control) {
    if let Ok(_one_at_a_time) = control.reloading.try_lock() {
        end_of_gone(control);
    }
}

fn expire(control: &Control, id: &str, why: &str) -> Result<(), ApiError> {
    let ended = control.deps.changes.end(id, control.now_ms(), |change| {
        change.state = PolicyChangeState::Expired;
        why.clone_into(&mut change.decided_reason);
    });
    ended.map(|_| ()).map_err(not_done)
}

fn kept(control: &Control, id: &str) -> Result<Kept, ApiError> {
    control.deps.changes.get(id, control.now_ms()).ok_or_else(|| not_done(NotDone::Unknown))
}

fn conflict(code: &str, message: &str) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, code, message)
}

fn not_done(why: NotDone) -> ApiError {
    match why {
        NotDone::Full(message) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "limit", message),
        NotDone::Unknown => ApiError::not_found(
            "this node knows no such change; a change waits at the node where it was made",
        ),
        NotDone::Over(PolicyChangeState::Expired) => {
            conflict("expired", "the change has expired; order it again")
        }
        NotDone::Over(_) => conflict("decided", "the change was published or rejected before"),
        NotDone::Disk(cause) => {
            tracing::error!(cause, "a change of policy cannot be kept or read");
            let message = "the change cannot be kept or read; the log of the node says why";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "change", message)
        }
    }
}
