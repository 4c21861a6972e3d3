//! Playbooks: which there are; an operator's answers, and runs that an operator starts.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;

use super::incidents::{asked, find, may_rule};
use crate::api::{PlaybookAnswer, PlaybookRow, PlaybookRun, PlaybookStart};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::paging::Page;
use crate::playbook::told::Asked;
use crate::router::{Control, NotAsked};

/// `GET /api/v1/playbooks`: those that the node's policy uses.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<PlaybookRow>>, ApiError> {
    Ok(Json(page.of((control.deps.playbooks.list)(), |row| row.name.clone())?))
}

/// `POST /api/v1/incidents/{id}/answer`: an answer to what a playbook asks.
pub(crate) async fn answer(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Result<Json<PlaybookAnswer>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(PlaybookAnswer { step, yes }) = body?;
    let id = asked(&id)?;
    may_rule(&control)?;
    // Runs outlive what nodes remember of incidents.
    let parts = find(&control, id).await.map_or_else(|_| vec![id.0], |(_, parts)| parts);
    let runs = (control.deps.playbooks.runs)(&parts);
    let asks = |run: &&PlaybookRun| run.asks.as_ref().is_some_and(|asks| asks.step == step);
    let Some(run) = runs.iter().find(asks) else {
        let open: Vec<&str> =
            runs.iter().filter_map(|run| run.asks.as_ref()).map(|asks| asks.step.as_str()).collect();
        let message = match open.is_empty() {
            true => format!("no playbook of incident {id} asks anything now"),
            false => format!("nothing is asked by a step `{step}`; {} asks", open.join(", ")),
        };
        return Err(ApiError::not_found(message));
    };
    control.ledger_room().await;
    let word = if yes { "yes" } else { "no" };
    control.record(&who, &format!("answer {word} to step {step} of {}", run.run))?;
    let by = who.name();
    ask(&control, Asked::Answer { run: run.run.clone(), step, yes, by }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/playbooks/{name}/run`: runs a playbook for an incident, whatever its trigger says.
pub(crate) async fn run(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(playbook): Path<String>,
    body: Result<Json<PlaybookStart>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(PlaybookStart { incident }) = body?;
    let id = asked(&incident)?;
    may_rule(&control)?;
    let known = (control.deps.playbooks.list)();
    if !known.iter().any(|row| row.name == playbook) {
        let names: Vec<&str> = known.iter().map(|row| row.name.as_str()).collect();
        let message = match names.is_empty() {
            true => "the policy uses no playbooks; name them under `[playbooks]`".to_owned(),
            false => format!("the policy uses no playbook `{playbook}`; it uses {}", names.join(", ")),
        };
        return Err(ApiError::not_found(message));
    }
    let (incident, _) = find(&control, id).await?;
    control.ledger_room().await;
    control.record(&who, &format!("run playbook {playbook} for incident {}", incident.row.id))?;
    ask(&control, Asked::Start { playbook, incident: incident.row.id }).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn ask(control: &Control, asked: Asked) -> Result<(), ApiError> {
    (control.deps.playbooks.ask)(asked).await.map_err(|why| match why {
        NotAsked::Unknown(why) => ApiError::not_found(why),
        NotAsked::Conflict(why) => ApiError::new(StatusCode::CONFLICT, "not_again", why),
        NotAsked::Unheard(why) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_heard", why),
    })
}
