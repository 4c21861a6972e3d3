//! What would let a refused request pass.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use phalanx_fleet::Member;
use phalanx_model::RequestId;
use phalanx_model::id::node_tag;
use phalanx_model::limits::SUGGEST_TIME_MAX_MS;
use phalanx_record::rfc3339;
use serde::Deserialize;

use super::events::not_here;
use super::inquiry::ask_patiently;
use crate::error::ApiError;
use crate::excluded::standing;
use crate::handlers::policy_base::stable;
use crate::inquiry::Asked;
use crate::reason;
use crate::router::Control;
use crate::suggest::{Paperwork, Suggestion};
use crate::suggesting::{Suggested, Suggester};

/// Texts, so that each mistake gets an answer of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuggestionQuery {
    owner: Option<String>,
    reason: Option<String>,
    days: Option<String>,
}

/// `GET /api/v1/events/{id}/suggestion`
pub(crate) async fn suggest(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    query: Result<Query<SuggestionQuery>, QueryRejection>,
) -> Result<Json<Suggestion>, ApiError> {
    let id: RequestId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    let Query(query) = query?;
    let paperwork = paperwork(&control, id, query)?;
    let mut suggestion = suggestion(&control, id, paperwork).await?;
    // Where what all nodes run cannot be had, there is nothing to add it to: it can be read, and not ordered.
    suggestion.shown = match stable(&control).await {
        Ok(base) => suggestion.shown_on(&base.identity()),
        Err(_) => String::new(),
    };
    Ok(Json(suggestion))
}

/// The narrowest exclusion that would have let a request pass, and what else it would let pass: of the node that served it.
pub(crate) async fn suggestion(
    control: &Control,
    id: RequestId,
    paperwork: Paperwork,
) -> Result<Suggestion, ApiError> {
    let suggester = Suggester {
        history: control.deps.history.clone(),
        recording: control.deps.suggestions.clone(),
        queries: Arc::clone(&control.history_queries),
        trials: Arc::clone(&control.replaying),
    };
    let suggestion = match suggester.suggest(id, Some(paperwork.clone())).await? {
        Suggested::This(suggestion) => *suggestion,
        Suggested::NoUse(why) => return Err(no_exclusion(why)),
        Suggested::NotHere | Suggested::Busy => of_another(control, id, &paperwork).await?,
    };
    is_new(control, suggestion)
}

/// Refuses to say again what the policy that this node runs says already.
fn is_new(control: &Control, suggestion: Suggestion) -> Result<Suggestion, ApiError> {
    let running = (control.deps.running)();
    let now_s = i64::try_from(control.now_ms() / 1_000).unwrap_or(i64::MAX);
    let apps = running.policy.apps.iter().filter(|app| *app.name == *suggestion.app);
    let Some(there) = apps.flat_map(|app| standing(&app.exclusions, &suggestion, now_s)).next() else {
        return Ok(suggestion);
    };
    let (file, line, owner) = (running.entry.unwrap_or_default(), there.line, &there.owner);
    let until = there.until.and_then(|until| u64::try_from(until.at_s).ok());
    let until =
        until.map_or_else(String::new, |at_s| format!(", until {}", rfc3339(at_s.saturating_mul(1_000))));
    let id = suggestion.id;
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "excluded_already",
        format!(
            "what refused request {id} is excluded already: {file}:{line}, by {owner}{until}. If such a request is refused still, \
             ask with its own id: another rule refused it"
        ),
    ))
}

/// Asks the node whose tag the id bears.
async fn of_another(control: &Control, id: RequestId, paperwork: &Paperwork) -> Result<Suggestion, ApiError> {
    let members = control.deps.fleet.members();
    let served = |member: &Member| node_tag(&member.site, &member.node) == id.node_tag();
    let Some(there) = members.iter().find(|member| !member.me && served(member)) else {
        return Err(not_here(control, id));
    };
    let name = format!("{}/{}", there.site, there.node);
    let refused = |code: &'static str, why: &str| {
        ApiError::new(StatusCode::CONFLICT, code, format!("node {name} served request {id}: {why}"))
            .at(&there.site, &there.node)
    };
    let answered = ask_patiently(control, &Asked::Suggest(id), served, WAIT).await?.answers.pop();
    let Some((_, bytes)) = answered else {
        return Err(refused("silent", "it does not answer. Ask again when it does"));
    };
    match serde_json::from_slice(&bytes) {
        Ok(Suggested::This(suggestion)) => {
            suggestion.of_another(id, paperwork).map_err(|why| refused("no_exclusion", why))
        }
        Ok(Suggested::NoUse(_)) => {
            Err(refused("no_exclusion", "no rule that an exclusion can name decided about it"))
        }
        Ok(Suggested::NotHere) => Err(not_here(control, id)),
        Ok(Suggested::Busy) => {
            Err(refused("busy", "it tries another suggestion already. Ask again in a moment"))
        }
        Err(_) => Err(refused("silent", "its answer cannot be read")),
    }
}

fn no_exclusion(why: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "no_exclusion", why)
}

fn paperwork(control: &Control, id: RequestId, query: SuggestionQuery) -> Result<Paperwork, ApiError> {
    let days = query.days.as_deref().unwrap_or(DAYS);
    let days = days.parse().ok().filter(|days| (1..=DAYS_MAX).contains(days));
    let days: u64 =
        days.ok_or_else(|| ApiError::bad_request(format!("days is a whole number from 1 to {DAYS_MAX}")))?;
    let end = rfc3339(control.deps.clock.now_ms().saturating_add(days * 86_400_000));
    Ok(Paperwork {
        owner: line("owner", query.owner.unwrap_or_else(|| "operator".to_owned()))?,
        reason: line(
            "reason",
            query.reason.unwrap_or_else(|| format!("request {id} was refused by mistake")),
        )?,
        until: end.split('T').next().unwrap_or_default().to_owned(),
    })
}

/// A text of one line, not empty.
pub(crate) fn line(name: &str, text: String) -> Result<String, ApiError> {
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::bad_request(format!("{name} has 1 to {TEXT_BYTES_MAX} bytes")));
    }
    reason::check(&text, TEXT_BYTES_MAX)?;
    Ok(text)
}

/// Days until an exclusion ends, if nobody says.
const DAYS: &str = "30";
pub(crate) const DAYS_MAX: u64 = 365;
const TEXT_BYTES_MAX: usize = 200;
/// Longer than a node takes for it, which has its own limit of time.
const WAIT: Duration = Duration::from_millis(SUGGEST_TIME_MAX_MS + 10_000);
