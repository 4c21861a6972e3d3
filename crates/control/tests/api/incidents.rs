//! Incidents through the API: what was decided because of one is found and undone, and nothing else is.

use http::StatusCode;
use phalanx_fleet::NewDecision;
use phalanx_learn::IncidentId;
use phalanx_model::event::Proposal;
use phalanx_model::{Actor, DecisionKind};
use serde_json::json;

use crate::support::*;

fn propose(node: &Node, host: u8, reason: String) {
    let proposal = Proposal {
        actor: Actor::ip([192, 0, 2, host].into()),
        kind: DecisionKind::Ban,
        reason,
        evidence: id(1),
        confidence_percent: 90,
        at_ms: 0,
        for_ms: 60_000,
    };
    node.fleet.propose(proposal).unwrap();
}

#[tokio::test]
async fn undoing_an_incident_ends_what_was_decided_because_of_it_and_of_its_parts() {
    let mut node = Node::start().await;
    let path = format!("/api/v1/incidents/{}", IncidentId(7));
    propose(&node, 1, IncidentId(7).reason("scanning: 20 pages"));
    propose(&node, 2, IncidentId(3).reason("scanning: 20 pages"));
    propose(&node, 3, IncidentId(9).reason("scanning: 20 pages"));
    propose(&node, 4, "three strikes".into());
    // An operator ordered the same by himself: that is not the incident's to undo.
    propose(&node, 5, IncidentId(7).reason("scanning: 20 pages"));
    let actor = Actor::ip([192, 0, 2, 5].into());
    let order =
        NewDecision { actor, kind: DecisionKind::Ban, for_ms: 60_000, reason: "mine".into(), evidence: None };
    node.fleet.add(order).unwrap();

    assert_eq!(node.get("/api/v1/incidents").await.json()[0]["decisions_live"], 3);
    let shown = node.get(&path).await.json();
    assert_eq!((&shown["state"], shown["decisions"].as_array().unwrap().len()), (&json!("open"), 3));

    let undone = node.call("POST", &format!("{path}/undo"), None).await;
    assert_eq!(undone.status, StatusCode::OK, "{}", undone.text);
    let undone = undone.json();
    let values = |key: &str| {
        let mut all: Vec<_> =
            undone[key].as_array().unwrap().iter().map(|one| one["value"].clone()).collect();
        all.sort_by_key(ToString::to_string);
        all
    };
    assert_eq!(values("withdrawn"), [json!("192.0.2.1"), json!("192.0.2.2")]);
    assert_eq!(values("left"), [json!("192.0.2.5")]);
    let left = node.get("/api/v1/decisions").await.json();
    let mut left: Vec<_> = left.as_array().unwrap().iter().map(|one| one["actor"]["value"].clone()).collect();
    left.sort_by_key(ToString::to_string);
    left.dedup();
    assert_eq!(left, [json!("192.0.2.3"), json!("192.0.2.4"), json!("192.0.2.5")]);
    assert!(node.ledger().iter().any(|line| line.contains("undo incident")));
    // What is known of an incident goes sooner than what was done because of it.
    let forgotten = format!("/api/v1/incidents/{}", IncidentId(9));
    assert_eq!(node.get(&forgotten).await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.call("POST", &format!("{forgotten}/undo"), None).await.status, StatusCode::OK);
    assert_eq!(node.call("POST", &format!("{forgotten}/undo"), None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn closing_is_an_operators_action() {
    let mut node = Node::start().await;
    let path = |id: &str| format!("/api/v1/incidents/{id}/close");
    let closed = node.call("POST", &path(&IncidentId(3).to_string()), None).await;
    assert_eq!(closed.status, StatusCode::NO_CONTENT, "{}", closed.text);
    // The part's whole is closed.
    let line = format!("close incident {}", IncidentId(7));
    assert!(node.ledger().iter().any(|entry| entry.contains(&line)));
    assert_eq!(node.call("POST", &path("7"), None).await.code(), "bad_request");
    assert_eq!(
        node.call("POST", &path(&IncidentId(8).to_string()), None).await.status,
        StatusCode::NOT_FOUND
    );
}
