//! Incidents: list, show, close, undo.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use phalanx_fleet::Change;
use phalanx_learn::{IncidentId, Ruling};
use phalanx_model::{Actor, AuthorRole, Decision};

use crate::api::{Incident, IncidentRow, Undone};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::decisions::kept;
use crate::paging::Page;
use crate::router::{Control, WithIds};

/// `GET /api/v1/incidents`: open ones first, the newest first.
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<IncidentRow>>, ApiError> {
    let rows = all(&control).await?;
    Ok(Json(page.of(rows, |row: &IncidentRow| row.id.clone())?))
}

/// All that this node knows, open ones first, the newest first.
pub(super) async fn all(control: &Control) -> Result<Vec<IncidentRow>, ApiError> {
    let mut rows = (control.deps.incidents.list)(()).await.ok_or_else(stopped)?;
    let made = made(control);
    for (row, parts) in &mut rows {
        let ids = parts.iter().map(|id| made.get(id).map_or(0, Vec::len));
        row.decisions_live = u64::try_from(ids.sum::<usize>()).unwrap_or(u64::MAX);
    }
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}

/// `GET /api/v1/incidents/{id}`
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<Incident>, ApiError> {
    let id = asked(&id)?;
    let (mut incident, parts) = find(&control, id).await?;
    incident.decisions = made_for(&control, &parts);
    incident.playbooks = (control.deps.playbooks.runs)(&parts);
    incident.row.decisions_live = u64::try_from(incident.decisions.len()).unwrap_or(u64::MAX);
    Ok(Json(incident))
}

/// `POST /api/v1/incidents/{id}/close`: nothing more is expected of it. What is done because of it goes on until it expires.
pub(crate) async fn close(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = asked(&id)?;
    may_rule(&control)?;
    let (incident, _) = find(&control, id).await?;
    let id: IncidentId = incident.row.id.parse().unwrap_or(id);
    control.record(&who, &format!("close incident {id}"))?;
    rule(&control, Ruling { id: id.0, closed_ms: Some(control.now_ms()), undone_ms: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/incidents/{id}/undo`: ends, on all nodes, all decisions that were made because of it, and makes no further ones.
pub(crate) async fn undo(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Undone>, ApiError> {
    let asked = asked(&id)?;
    may_rule(&control)?;
    // Decisions outlive what nodes remember of incidents.
    let (id, parts) = match find(&control, asked).await {
        Ok((incident, parts)) => (incident.row.id.parse().unwrap_or(asked), parts),
        Err(_) if !made_for(&control, &[asked.0]).is_empty() => (asked, vec![asked.0]),
        Err(error) => return Err(error),
    };
    control.ledger_room().await;
    control.record(&who, &format!("undo incident {id}"))?;
    // First, so that nobody makes new ones meanwhile.
    rule(&control, Ruling { id: id.0, closed_ms: None, undone_ms: Some(control.now_ms()) }).await?;
    let mut undone = Undone { id: id.to_string(), withdrawn: Vec::new(), left: Vec::new() };
    let mut actors: Vec<Actor> = Vec::new();
    for decision in made_for(&control, &parts) {
        // What ends decisions about an address ends those about its clients: they are not named one by one.
        if actors.iter().all(|known| !covers(known, &decision.actor)) {
            actors.retain(|known| !covers(&decision.actor, known));
            actors.push(decision.actor.clone());
        }
    }
    for actor in actors {
        let about = control.deps.fleet.about(&actor.key());
        let is_persons = |one: &Decision| {
            one.author.role == AuthorRole::Operator && IncidentId::of_decision(one).is_none()
        };
        let is_ordered = |one: &Arc<Decision>| is_persons(one) && one.is_live(control.now_ms());
        if about.iter().any(is_ordered) {
            undone.left.push(actor);
            continue;
        }
        control.ledger_room().await;
        let withdrawal = control.deps.fleet.withdraw(actor.clone(), &format!("incident {id} was undone"))?;
        kept(&control, Change::Withdrawn(withdrawal)).await?;
        undone.withdrawn.push(actor);
    }
    Ok(Json(undone))
}

/// Whether what ends decisions about one actor ends those about another.
fn covers(one: &Actor, other: &Actor) -> bool {
    one.key() == other.key() && one.agent().is_none_or(|agent| other.agent() == Some(agent))
}

pub(super) fn asked(id: &str) -> Result<IncidentId, ApiError> {
    id.parse().map_err(|error| ApiError::bad_request(format!("{error}")))
}

pub(super) fn may_rule(control: &Control) -> Result<(), ApiError> {
    match control.deps.fleet.acts_for_operators() {
        true => Ok(()),
        false => Err(phalanx_fleet::FleetError::NotOperator.into()),
    }
}

pub(super) async fn find(control: &Control, id: IncidentId) -> Result<WithIds<Incident>, ApiError> {
    let found = (control.deps.incidents.show)(id.0).await;
    found.ok_or_else(|| {
        ApiError::not_found(format!("this node knows no incident {id}; it remembers 256 closed ones"))
    })
}

async fn rule(control: &Control, ruling: Ruling) -> Result<(), ApiError> {
    match (control.deps.incidents.rule)(ruling).await {
        true => Ok(()),
        false => Err(stopped()),
    }
}

fn stopped() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_learning", "this node's learner is not running")
}

/// Decisions in force that nodes and playbooks made because of incidents.
fn made(control: &Control) -> BTreeMap<u64, Vec<Arc<Decision>>> {
    let mut made: BTreeMap<u64, Vec<Arc<Decision>>> = BTreeMap::new();
    let view = control.deps.fleet.view().load_full();
    for decision in view.live(control.now_ms()) {
        if let Some(id) = IncidentId::of_decision(&decision) {
            made.entry(id.0).or_default().push(decision);
        }
    }
    made
}

fn made_for(control: &Control, ids: &[u64]) -> Vec<Arc<Decision>> {
    let made = made(control);
    let mut decisions: Vec<_> = ids.iter().filter_map(|id| made.get(id)).flatten().cloned().collect();
    decisions.sort_by_key(|decision| (decision.created_at_ms, decision.id));
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_an_address_ends_its_clients_and_not_the_other_way_round() {
        let ip = "192.0.2.66".parse().unwrap();
        let (address, client, other) = (Actor::ip(ip), Actor::client(ip, 1), Actor::client(ip, 2));
        assert!(covers(&address, &client) && covers(&address, &address) && covers(&client, &client));
        assert!(!covers(&client, &address) && !covers(&client, &other));
        assert!(!covers(&address, &Actor::ip("192.0.2.67".parse().unwrap())));
    }
}
