//! What waits for an operator, through the API.

use http::StatusCode;
use phalanx_fleet::{GoodPort, NewDecision};
use phalanx_model::{Actor, DecisionKind, GoodClients, HoldLimits};
use serde_json::{Value, json};

use crate::support::*;

fn client(n: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(0x0a00_0001 | n << 8).into()
}

/// A node that served a hundred clients well, and bans all of them on another system's word.
async fn crowded() -> Node {
    let node = Node::start().await;
    let good: GoodClients = (0..100).map(client).collect();
    let port = GoodPort { clients: Box::new(move |_| good.clone()), place: Box::new(|_| (None, None)) };
    node.fleet.measure_by(HoldLimits::default(), port).await;
    for n in 0..100 {
        let (actor, reason) = (Actor::ip(client(n)), "on a list".to_owned());
        let order = NewDecision { actor, kind: DecisionKind::Ban, for_ms: 60_000, reason, evidence: None };
        node.fleet.pass_on(order).unwrap();
    }
    node
}

fn first(held: &Value) -> &str {
    held["held"][0]["id"].as_str().unwrap()
}

#[tokio::test]
async fn what_is_held_is_listed_approved_and_rejected() {
    let mut node = crowded().await;
    let held = node.get("/api/v1/held").await.json();
    assert_eq!((&held["total"], held["held"].as_array().unwrap().len()), (&json!(91), 91));
    let one = &held["held"][0];
    assert_eq!(
        (&one["what"], &one["kind"], &one["reason"]),
        (&json!("decision"), &json!("ban"), &json!("on a list"))
    );
    let text = one["text"].as_str().unwrap();
    assert!(
        text.starts_with("held: would refuse ")
            && text.ends_with(" of 100 clients served well in the last ten minutes")
    );
    let status = node.get("/api/v1/status").await.json();
    assert_eq!((&status["held"], &status["decisions_live"]), (&json!(91), &json!(9)));
    assert!(status["fleet"]["degraded"][0].as_str().unwrap().starts_with("held: 91 decisions of fra/a"));

    let path = format!("/api/v1/held/{}", first(&held));
    let approved = node.call("POST", &path, None).await;
    assert_eq!(approved.status, StatusCode::OK, "{}", approved.text);
    let approved = approved.json();
    assert_eq!(
        (&approved["decision"]["author"]["role"], &approved["decision"]["reason"]),
        (&json!("operator"), &json!("approved: on a list"))
    );
    assert_eq!(
        node.call("POST", &path, None).await.status,
        StatusCode::OK,
        "in force now, and approved once more"
    );

    let held = node.get("/api/v1/held").await.json();
    let path = format!("/api/v1/held/{}?reason=our%20partner", first(&held));
    let rejected = node.call("DELETE", &path, None).await.json();
    assert_eq!(rejected["withdrawal"]["reason"], "our partner");
    assert_eq!(node.call("DELETE", &path, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.get("/api/v1/status").await.json()["held"], 89);
    assert_eq!(node.call("POST", "/api/v1/held/nothing", None).await.status, StatusCode::BAD_REQUEST);
    let ledger = node.ledger().join("\n");
    assert!(
        ledger.contains("approve ")
            && ledger.contains("a decision about 10.0.")
            && ledger.contains("our partner (by"),
        "{ledger}"
    );
}

#[tokio::test]
async fn an_order_that_would_refuse_many_is_asked_for_twice() {
    let node = crowded().await;
    let order = json!({ "prefix": "10.0.0.0/17", "for_ms": 60_000, "reason": "test" });
    let refused = node.call("POST", "/api/v1/decisions", Some(order.clone())).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (StatusCode::CONFLICT, &json!("would_refuse_many"))
    );
    assert!(refused.text.contains("would refuse 100 of 100 clients served well"), "{}", refused.text);
    let mut forced = order;
    forced["force"] = json!(true);
    let made = node.call("POST", "/api/v1/decisions", Some(forced)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.json()["refuses"], json!({ "clients": 100, "of": 100 }));
    // What refuses few, or allows, is ordered at once.
    let few = json!({ "ip": "10.0.7.1", "for_ms": 60_000, "reason": "test" });
    let made = node.call("POST", "/api/v1/decisions", Some(few)).await.json();
    assert_eq!(made["refuses"], json!({ "clients": 1, "of": 100 }));
    let allow = json!({ "prefix": "10.0.0.0/16", "kind": "allow", "for_ms": 60_000, "reason": "test" });
    let made = node.call("POST", "/api/v1/decisions", Some(allow)).await;
    assert_eq!((made.status, made.json().get("refuses").cloned()), (StatusCode::CREATED, None));
}
