//! What would let a refused request pass.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use phalanx_model::RequestId;
use phalanx_model::limits::HISTORY_PAGE_MAX;
use phalanx_record::{Filter, History, RecordError, RecordedRequest, rfc3339};
use serde::Deserialize;

use super::events::{ask, not_here};
use crate::error::ApiError;
use crate::router::Control;
use crate::suggest::{Draft, Paperwork, Suggestion};

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
    let Query(query) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let paperwork = paperwork(&control, id, query)?;
    suggestion(&control, id, paperwork).await.map(Json)
}

/// The narrowest exclusion that would have let a request of this node pass, and what else it would let pass.
pub(crate) async fn suggestion(
    control: &Control,
    id: RequestId,
    paperwork: Paperwork,
) -> Result<Suggestion, ApiError> {
    let record = ask(control, move |history| history.request(id)).await?;
    let record = record.ok_or_else(|| not_here(control, id))?;
    let draft = Draft::new(record, paperwork)
        .map_err(|no_use| ApiError::new(StatusCode::CONFLICT, "no_exclusion", no_use))?;
    let (suggestion, record) = replayed(control, draft).await.finish();
    ask(control, move |history| judged(history, &record, suggestion)).await
}

/// The draft, widened by what the recording says. Where that cannot be asked, the findings have to do.
async fn replayed(control: &Control, draft: Draft) -> Draft {
    let Some(suggestions) = &control.deps.suggestions else { return draft };
    let Ok(_one_at_a_time) = control.replaying.acquire().await else { return draft };
    match suggestions(draft.clone()).await {
        Ok(widened) => widened,
        Err(error) => {
            tracing::warn!(?error, "a suggestion could not be tried on the recording");
            draft
        }
    }
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
    if text.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!("{name} is one line")));
    }
    Ok(text)
}

/// Judges what this node remembers of the same rules.
fn judged(
    history: &History,
    record: &RecordedRequest,
    mut suggestion: Suggestion,
) -> Result<Suggestion, RecordError> {
    let mut others: Vec<RecordedRequest> = Vec::new();
    for rule in suggestion.rules().into_iter().take(RULES_MAX) {
        let filter = Filter { rule: Some(rule), limit: HISTORY_PAGE_MAX, ..Filter::default() };
        others.extend(history.recent(&filter)?);
    }
    others.sort_by_key(|other| std::cmp::Reverse(other.id()));
    others.dedup_by_key(|other| other.id());
    suggestion.judge(record, &others);
    Ok(suggestion)
}

/// Days until an exclusion ends, if nobody says.
const DAYS: &str = "30";
pub(crate) const DAYS_MAX: u64 = 365;
const TEXT_BYTES_MAX: usize = 200;
/// Rules whose requests are looked at: each is a search in the history.
const RULES_MAX: usize = 8;
