//! What bouncers are told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use phalanx_fleet::NewDecision;
use phalanx_model::{Actor, DecisionKind, Prefix};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::*;

const FIREWALL: &str = "crowdsec-firewall-bouncer/v0.0.25";
const OTHER: &str = "crowdsec-nginx-bouncer/v1.0.5";

struct Asked {
    status: StatusCode,
    text: String,
}

async fn ask(node: &Node, key: &str, agent: &str, method: &str, path: &str) -> Asked {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("X-Api-Key", key).header("User-Agent", agent).body(Body::empty()).unwrap();
    let response = node.lapi.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Asked { status, text }
}

async fn pull(node: &Node, key: &str, agent: &str, query: &str) -> Value {
    let asked = ask(node, key, agent, "GET", &format!("/v1/decisions/stream?{query}")).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    serde_json::from_str(&asked.text).unwrap_or_else(|_| panic!("{}", asked.text))
}

async fn key(node: &Node, name: &str) -> String {
    let made = node.call("POST", "/api/v1/bouncers", Some(json!({ "name": name }))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json()["key"].as_str().unwrap().to_owned()
}

fn actor(text: &str) -> Actor {
    match text.parse::<Prefix>() {
        Ok(prefix) => Actor::prefix(prefix),
        Err(_) => Actor::ip(text.parse::<IpAddr>().unwrap()),
    }
}

fn order(node: &Node, kind: DecisionKind, text: &str, for_ms: u64) {
    let order =
        NewDecision { actor: actor(text), kind, for_ms, reason: format!("about {text}"), evidence: None };
    node.fleet.add(order).unwrap();
}

fn ban(node: &Node, text: &str) {
    order(node, DecisionKind::Ban, text, 3_600_000);
}

/// The values of a list, in no order.
fn values(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|decision| decision["value"].as_str().unwrap()).collect()
}

fn set<const N: usize>(values: [&str; N]) -> BTreeSet<&str> {
    values.into_iter().collect()
}

#[tokio::test]
async fn only_a_bouncer_with_a_key_is_answered() {
    let node = Node::start().await;
    let good = key(&node, "fw-1").await;
    for wrong in ["", "x", good.get(1..).unwrap(), &format!("{good}0"), &node.token] {
        for path in ["/v1/decisions", "/v1/decisions/stream?startup=true"] {
            let asked = ask(&node, wrong, OTHER, "GET", path).await;
            assert_eq!(
                (asked.status, asked.text.as_str()),
                (StatusCode::FORBIDDEN, r#"{"message":"access forbidden"}"#)
            );
        }
    }
    assert_eq!(pull(&node, &good, OTHER, "startup=true").await, json!({ "deleted": null, "new": null }));
    // It opens nothing else, and writes nothing.
    for (method, path) in
        [("POST", "/v1/decisions"), ("DELETE", "/v1/decisions"), ("POST", "/v1/decisions/stream")]
    {
        assert_eq!(
            ask(&node, &good, OTHER, method, path).await.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{path}"
        );
    }
    assert_eq!(ask(&node, &good, OTHER, "POST", "/v1/watchers/login").await.status, StatusCode::NOT_FOUND);
    let deleted = node.call("DELETE", "/api/v1/bouncers/fw-1", None).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(ask(&node, &good, OTHER, "GET", "/v1/decisions").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn keys_are_shown_once_and_visits_are_told() {
    let node = Node::start().await;
    let good = key(&node, "fw-1").await;
    let again = node.call("POST", "/api/v1/bouncers", Some(json!({ "name": "fw-1" }))).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let bad = node.call("POST", "/api/v1/bouncers", Some(json!({ "name": "F W" }))).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let list = node.get("/api/v1/bouncers").await;
    assert!(!list.text.contains(&good));
    let bouncer = &list.json()["bouncers"][0];
    assert_eq!((&bouncer["name"], &bouncer["seen_at_ms"]), (&json!("fw-1"), &Value::Null));
    pull(&node, &good, FIREWALL, "startup=true").await;
    let status = node.get("/api/v1/status").await.json();
    let bouncer = &status["bouncers"][0];
    assert_eq!(bouncer["agent"], FIREWALL);
    assert!(bouncer["seen_at_ms"].is_u64() && bouncer["pulled_at_ms"].is_u64(), "{bouncer}");
    assert_eq!(node.call("DELETE", "/api/v1/bouncers/none", None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stream_tells_everything_and_then_what_changed() {
    let node = Node::start().await;
    let (one, two) = (key(&node, "one").await, key(&node, "two").await);
    ban(&node, "192.0.2.1");
    ban(&node, "198.51.100.0/24");
    ban(&node, "2001:db8::1");
    let all = set(["192.0.2.1", "198.51.100.0/24", "2001:db8::/64"]);
    let first = pull(&node, &one, OTHER, "startup=true").await;
    assert_eq!((values(&first["new"]), &first["deleted"]), (all.clone(), &Value::Null));
    let decision = &first["new"].as_array().unwrap().iter().find(|d| d["value"] == "192.0.2.1").unwrap();
    assert_eq!(
        (&decision["type"], &decision["scope"], &decision["origin"]),
        (&json!("ban"), &json!("Ip"), &json!("phalanx"))
    );
    assert_eq!(decision["scenario"], "about 192.0.2.1");
    let duration = decision["duration"].as_str().unwrap();
    assert!(duration.starts_with("59m59") || duration == "1h0m0s", "{decision}");

    assert_eq!(pull(&node, &one, OTHER, "startup=false").await, json!({ "deleted": null, "new": null }));
    ban(&node, "203.0.113.9");
    node.fleet.withdraw(actor("192.0.2.1"), "test").unwrap();
    let next = pull(&node, &one, OTHER, "startup=false").await;
    assert_eq!((values(&next["new"]), values(&next["deleted"])), (set(["203.0.113.9"]), set(["192.0.2.1"])));
    assert_eq!(next["deleted"][0]["id"], decision["id"]);
    assert_eq!(pull(&node, &one, OTHER, "").await, json!({ "deleted": null, "new": null }));

    // The other has read nothing yet: everything, and what it may have heard of in an earlier life of the node.
    let other = pull(&node, &two, OTHER, "startup=false").await;
    assert_eq!(values(&other["new"]), set(["198.51.100.0/24", "2001:db8::/64", "203.0.113.9"]));
    assert_eq!(values(&other["deleted"]), set(["192.0.2.1"]));
}

#[tokio::test]
async fn an_expired_order_is_told_as_deleted() {
    let node = Node::start().await;
    let key = key(&node, "fw").await;
    order(&node, DecisionKind::Ban, "192.0.2.1", 300);
    assert_eq!(values(&pull(&node, &key, OTHER, "startup=true").await["new"]), set(["192.0.2.1"]));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let next = pull(&node, &key, OTHER, "startup=false").await;
        assert_eq!(next["new"], Value::Null);
        if next["deleted"] != Value::Null {
            assert_eq!(values(&next["deleted"]), set(["192.0.2.1"]));
            break;
        }
        assert!(std::time::Instant::now() < deadline, "in vain waited for the end");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_allowed_or_exempt_is_never_ordered() {
    let node = Node::start().await;
    let key = key(&node, "fw").await;
    ban(&node, "192.0.2.1");
    ban(&node, "198.51.100.0/24");
    ban(&node, "203.0.113.9");
    let all = set(["192.0.2.1", "198.51.100.0/24", "203.0.113.9"]);
    assert_eq!(values(&pull(&node, &key, OTHER, "startup=true").await["new"]), all);

    order(&node, DecisionKind::Allow, "198.51.100.7", 3_600_000);
    let next = pull(&node, &key, OTHER, "startup=false").await;
    assert_eq!(
        values(&next["deleted"]),
        set(["198.51.100.0/24"]),
        "a firewall knows no exception within a range"
    );
    order(&node, DecisionKind::Allow, "192.0.0.0/16", 3_600_000);
    let next = pull(&node, &key, OTHER, "startup=false").await;
    assert!(values(&next["deleted"]).contains("192.0.2.1"), "{next}");
    node.exempt.lock().unwrap().push("203.0.113.0/24".parse().unwrap());
    let next = pull(&node, &key, OTHER, "startup=false").await;
    assert_eq!((values(&next["deleted"]), &next["new"]), (all.clone(), &Value::Null));
    ban(&node, "203.0.113.10");
    assert_eq!(pull(&node, &key, OTHER, "startup=false").await["new"], Value::Null);

    // And back: what was withheld is ordered again.
    node.exempt.lock().unwrap().clear();
    node.fleet.withdraw(actor("198.51.100.7"), "test").unwrap();
    let next = pull(&node, &key, OTHER, "startup=false").await;
    assert_eq!(values(&next["new"]), set(["198.51.100.0/24", "203.0.113.9", "203.0.113.10"]));
}

#[tokio::test]
async fn one_kind_of_client_is_never_told() {
    let node = Node::start().await;
    let key = key(&node, "fw").await;
    pull(&node, &key, OTHER, "startup=true").await;
    let actor = Actor::client("192.0.2.1".parse().unwrap(), 7);
    let order =
        NewDecision { actor, kind: DecisionKind::Ban, for_ms: 60_000, reason: "x".into(), evidence: None };
    node.fleet.add(order).unwrap();
    for query in ["startup=false", "startup=true"] {
        assert_eq!(pull(&node, &key, OTHER, query).await["new"], Value::Null);
    }
    assert_eq!(ask(&node, &key, OTHER, "GET", "/v1/decisions?ip=192.0.2.1").await.text, "null");
}

#[tokio::test]
async fn a_longer_ban_replaces_the_shorter_in_a_firewall_too() {
    let node = Node::start().await;
    let (firewall, other) = (key(&node, "fw").await, key(&node, "nginx").await);
    ban(&node, "192.0.2.1");
    pull(&node, &firewall, FIREWALL, "startup=true").await;
    pull(&node, &other, OTHER, "startup=true").await;
    order(&node, DecisionKind::Ban, "192.0.2.1", 7_200_000);
    let next = pull(&node, &firewall, FIREWALL, "startup=false").await;
    assert_eq!((values(&next["deleted"]), values(&next["new"])), (set(["192.0.2.1"]), set(["192.0.2.1"])));
    let duration = next["new"][0]["duration"].as_str().unwrap();
    assert!(duration.starts_with("1h59m") || duration == "2h0m0s", "{duration}");
    // A cache that learns of ends after orders would lose it.
    let next = pull(&node, &other, OTHER, "startup=false").await;
    assert_eq!((values(&next["deleted"]), values(&next["new"])), (set([]), set(["192.0.2.1"])));
}

#[tokio::test]
async fn questions_about_addresses_are_answered_as_a_node_would_act() {
    let node = Node::start().await;
    let key = key(&node, "fw").await;
    ban(&node, "192.0.2.1");
    ban(&node, "198.51.100.0/24");
    order(&node, DecisionKind::Challenge, "203.0.113.9", 60_000);
    order(&node, DecisionKind::Allow, "198.51.100.7", 60_000);
    for (query, expected) in [
        ("ip=192.0.2.1", set(["192.0.2.1"])),
        ("ip=192.0.2.2", set([])),
        ("ip=198.51.100.8", set(["198.51.100.0/24"])),
        ("ip=198.51.100.7", set([])),
        ("range=192.0.2.0/24&contains=false", set(["192.0.2.1"])),
        ("range=192.0.2.0/24", set([])),
        ("scope=ip&value=192.0.2.1", set(["192.0.2.1"])),
        ("type=captcha", set(["203.0.113.9"])),
        ("scenarios_containing=192.0", set(["192.0.2.1"])),
        ("origins=cscli", set([])),
        ("", set(["192.0.2.1", "203.0.113.9"])),
    ] {
        let asked = ask(&node, &key, OTHER, "GET", &format!("/v1/decisions?{query}")).await;
        let answer: Value = serde_json::from_str(&asked.text).unwrap();
        assert_eq!(values(&answer), expected, "{query}: {}", asked.text);
        assert_eq!(answer.is_null(), expected.is_empty(), "{query}");
    }
    let asked = ask(&node, &key, OTHER, "GET", "/v1/decisions?ip=bogus").await;
    assert_eq!(
        (asked.status, asked.text.as_str()),
        (StatusCode::BAD_REQUEST, r#"{"message":"`bogus` is no address"}"#)
    );
    // A HEAD says that the key is good, and moves nothing.
    pull(&node, &key, OTHER, "startup=true").await;
    ban(&node, "192.0.2.77");
    let head = ask(&node, &key, OTHER, "HEAD", "/v1/decisions/stream?startup=false").await;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(values(&pull(&node, &key, OTHER, "startup=false").await["new"]), set(["192.0.2.77"]));
}

#[tokio::test]
async fn filters_hold_for_what_is_new_and_what_has_ended() {
    let node = Node::start().await;
    let key = key(&node, "fw").await;
    pull(&node, &key, OTHER, "startup=true").await;
    ban(&node, "192.0.2.1");
    ban(&node, "198.51.100.0/24");
    let next = pull(&node, &key, OTHER, "startup=false&scopes=range").await;
    assert_eq!(values(&next["new"]), set(["198.51.100.0/24"]));
    node.fleet.withdraw(actor("192.0.2.1"), "test").unwrap();
    assert_eq!(pull(&node, &key, OTHER, "scopes=range").await["deleted"], Value::Null);
}

#[tokio::test]
async fn systems_and_countries_are_told_to_bouncers_that_ask_for_them() {
    let node = Node::start().await;
    let (plain, broad) = (key(&node, "plain").await, key(&node, "broad").await);
    let ban = |actor| {
        let reason = "by hand".to_owned();
        NewDecision { actor, kind: DecisionKind::Ban, for_ms: 3_600_000, reason, evidence: None }
    };
    let country = Actor::Country("NL".parse().unwrap());
    for actor in [actor("192.0.2.1"), Actor::Asn(64_500), country.clone(), Actor::Session(7)] {
        node.fleet.add(ban(actor)).unwrap();
    }
    let every = "startup=true&scopes=ip,range,as,country";
    assert_eq!(values(&pull(&node, &plain, OTHER, "startup=true").await["new"]), set(["192.0.2.1"]));
    let all = pull(&node, &broad, OTHER, every).await;
    assert_eq!(values(&all["new"]), set(["192.0.2.1", "64500", "NL"]));
    node.fleet.withdraw(country, "test").unwrap();
    let next = pull(&node, &broad, OTHER, "scopes=ip,range,as,country").await;
    assert_eq!((values(&next["deleted"]), &next["new"]), (set(["NL"]), &Value::Null));

    // An address that is allowed may belong to the system.
    order(&node, DecisionKind::Allow, "198.51.100.7", 3_600_000);
    let next = pull(&node, &broad, OTHER, "scopes=ip,range,as,country").await;
    assert!(values(&next["deleted"]).contains("64500"), "{next}");
    assert_eq!(values(&next["new"]), set(["192.0.2.1"]));
}
