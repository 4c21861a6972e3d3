//! Exclusions of the policy in force: those there are, and one more for a request that was refused by mistake.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use phalanx_policy::edit::with_exclusions;
use phalanx_policy::exclusion::{DAYS_LEAST, Exclusion};
use phalanx_record::rfc3339;

use crate::api::{ExclusionRow, ExclusionState, NewExclusion, NewPolicyChange, PolicyChange};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::changes::propose;
use crate::handlers::policy_base::{running, stable};
use crate::handlers::suggestion::{DAYS_MAX, line, suggestion};
use crate::paging::Page;
use crate::router::Control;
use crate::suggest::Paperwork;

/// `GET /api/v1/exclusions`: of all apps, in the order of the file.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<ExclusionRow>>, ApiError> {
    let running = running(&control);
    let file = running.entry.unwrap_or_default();
    let now_ms = control.now_ms();
    let rows = running
        .policy
        .at(&control.deps.site)
        .apps
        .iter()
        .flat_map(|app| app.exclusions.iter().map(|exclusion| row(&app.name, exclusion, &file, now_ms)));
    // A line of a template is one of several apps.
    Ok(Json(page.of(rows.collect(), |row: &ExclusionRow| format!("{}/{}", row.app, row.line))?))
}

fn row(app: &str, exclusion: &Exclusion, file: &str, now_ms: u64) -> ExclusionRow {
    let expires_ms =
        exclusion.until.map(|until| u64::try_from(until.at_s).unwrap_or_default().saturating_mul(1_000));
    let soon_ms = u64::try_from(DAYS_LEAST).unwrap_or_default() * DAY_MS;
    let state = match expires_ms {
        Some(end_ms) if end_ms <= now_ms => ExclusionState::Expired,
        Some(end_ms) if end_ms <= now_ms.saturating_add(soon_ms) => ExclusionState::EndsSoon,
        _ => ExclusionState::InForce,
    };
    ExclusionRow {
        app: app.to_owned(),
        route: exclusion.path.clone(),
        methods: exclusion.methods.clone(),
        rules: exclusion.rules.iter().map(u64::to_string).chain(exclusion.tags.iter().cloned()).collect(),
        target: exclusion.target.clone(),
        owner: exclusion.owner.clone(),
        reason: exclusion.reason.clone(),
        expires_ms,
        file: file.to_owned(),
        line: exclusion.line,
        state,
    }
}

/// `POST /api/v1/exclusions`: a change of the policy that all nodes run.
pub(crate) async fn add(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<NewExclusion>, JsonRejection>,
) -> Result<(StatusCode, Json<PolicyChange>), ApiError> {
    let Json(order) = body?;
    let now_ms = control.now_ms();
    if !(now_ms + 1_000..=now_ms.saturating_add(DAYS_MAX * DAY_MS)).contains(&order.expires_ms) {
        return Err(ApiError::bad_request(format!(
            "an exclusion ends within {DAYS_MAX} days, and not before now"
        )));
    }
    let paperwork = Paperwork {
        owner: line("owner", order.owner)?,
        reason: line("reason", order.reason)?,
        until: rfc3339(order.expires_ms / 1_000 * 1_000),
    };
    let reason = format!("exclusion for request {}: {}", order.request, paperwork.reason);
    let suggestion = suggestion(&control, order.request, paperwork).await?;
    // Before its content is asked for: what is published meanwhile must not be undone.
    let newest = control.deps.fleet.policy_state().record.map_or(0, |record| record.newest().version);
    let mut base = stable(&control).await?;
    if suggestion.shown_on(&base.identity()) != order.shown {
        let message = "shown otherwise: the suggestion, or the policy that it is added to, is another by now than the one that was shown: look at it again";
        return Err(ApiError::new(StatusCode::CONFLICT, "shown_otherwise", message));
    }
    if !suggestion.passes && !order.although_not_enough {
        let message =
            "the request would still be refused: look at `phalanx waf suggest`, or say although_not_enough";
        return Err(ApiError::new(StatusCode::CONFLICT, "not_enough", message));
    }
    let Some(entry) = base.entry else {
        let message = "this node's policy is of its command line: write a policy file first, `phalanx policy push` gives it to all nodes";
        return Err(ApiError::new(StatusCode::CONFLICT, "no_file", message));
    };
    let text =
        base.files.get(&entry).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let edited = with_exclusions(&text, &suggestion.app, &suggestion.toml)
        .map_err(|fault| ApiError::new(StatusCode::CONFLICT, "no_place", format!("{entry}: {fault}")))?;
    base.files.insert(entry.clone(), edited.into_bytes());
    let change = NewPolicyChange {
        entry,
        files: base.files.into_iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))).collect(),
        base: Some(newest),
        reason,
        source: Some(format!("exclusion for request {}", order.request)),
        canary_site: order.canary_site,
        canary_node: order.canary_node,
        bake_ms: order.bake_ms,
        content_of: None,
    };
    let change = propose(&control, &who, change).await?;
    Ok((StatusCode::CREATED, Json(change)))
}

const DAY_MS: u64 = 86_400_000;
