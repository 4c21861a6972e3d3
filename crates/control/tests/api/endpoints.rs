//! What each endpoint does.

use std::sync::atomic::Ordering;

use axum::body::Body;
use http::{StatusCode, header};
use phalanx_model::{LedgerEntry, LedgerKind, RequestId};
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn status_tells_node_plan_fleet_and_counters() {
    let node = Node::start().await;
    node.counters.requests.store(9, Ordering::Relaxed);
    node.counters.requests_denied.store(4, Ordering::Relaxed);
    node.counters.requests_challenged.store(2, Ordering::Relaxed);
    let status = node.get("/api/v1/status").await.json();
    assert_eq!((status["site"].as_str(), status["node"].as_str()), (Some("fra"), Some("a")));
    assert_eq!(status["plan"]["apps"][0]["rule_count"], 100);
    let counted = |name: &str| status["counters"][name].as_u64();
    assert_eq!((counted("requests"), counted("denied"), counted("challenged")), (Some(9), Some(4), Some(2)));
    assert_eq!((&status["fleet"]["kind"], &status["fleet"]["connected"]), (&json!("local"), &json!(true)));
    assert_eq!(status["fleet"]["degraded"], json!([]));
    let mut nodes = node.get("/api/v1/nodes").await.json();
    // Of itself a node hears at the moment it is asked.
    nodes[0]["last_seen_ms"] = status["fleet"]["members"][0]["last_seen_ms"].clone();
    assert_eq!(nodes, status["fleet"]["members"]);
    assert_eq!((&nodes[0]["me"], &nodes[0]["online"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn an_order_about_somebody_whom_policy_exempts_says_that_it_has_no_effect() {
    let node = Node::start().await;
    *node.exempt.lock().unwrap() = vec!["127.0.0.0/8".parse().unwrap()];
    for (order, exempt) in [
        (json!({ "ip": "127.0.0.1", "for_ms": 60_000, "reason": "test" }), json!("127.0.0.0/8")),
        (
            json!({ "prefix": "127.1.0.0/16", "kind": "throttle", "for_ms": 60_000, "reason": "test" }),
            json!("127.0.0.0/8"),
        ),
        (json!({ "prefix": "126.0.0.0/7", "for_ms": 60_000, "reason": "test" }), json!(null)),
        (json!({ "ip": "127.0.0.1", "kind": "allow", "for_ms": 60_000, "reason": "test" }), json!(null)),
    ] {
        let made = node.call("POST", "/api/v1/decisions", Some(order.clone())).await;
        assert_eq!(made.json()["exempt"], exempt, "{order}: {}", made.text);
    }
}

#[tokio::test]
async fn what_was_announced_and_not_done_is_told_by_the_ledger() {
    let mut node = Node::start().await;
    let order = |role: &str| json!({ "name": "bob", "role": role });
    let added = node.call("POST", "/api/v1/operators", Some(order("viewer"))).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    let again = node.call("POST", "/api/v1/operators", Some(order("owner"))).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    let ledger = node.ledger();
    let told: Vec<&String> = ledger.iter().filter(|entry| entry.contains("operator bob")).collect();
    assert_eq!(told.len(), 3, "{ledger:?}");
    assert!(told[0].contains("add operator bob as Viewer") && !told[0].contains("not done"), "{told:?}");
    assert!(told[1].contains("add operator bob as Owner"), "{told:?}");
    assert!(
        told[2].contains("not done: add operator bob as Owner of all apps: there is one of that name"),
        "{told:?}"
    );
}

#[tokio::test]
async fn decisions_are_added_listed_and_undone() {
    let mut node = Node::start().await;
    let order = json!({ "ip": "192.0.2.9", "for_ms": 60_000, "reason": "test" });
    let added = node.call("POST", "/api/v1/decisions", Some(order)).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    let added = added.json();
    assert_eq!(added["actor"], json!({ "kind": "ip", "value": "192.0.2.9" }));
    assert_eq!((&added["kind"], &added["author"]["role"]), (&json!("ban"), &json!("operator")));
    let order = json!({ "prefix": "198.51.100.7/24", "kind": "allow", "for_ms": 1_000, "reason": "test" });
    let wide = node.call("POST", "/api/v1/decisions", Some(order)).await.json();
    assert_eq!(wide["actor"]["value"], "198.51.100.0/24");
    assert_eq!(node.get("/api/v1/decisions?limit=1").await.json().as_array().unwrap().len(), 1);
    assert_eq!(node.get("/api/v1/status").await.json()["decisions_live"], 2);

    let path = format!("/api/v1/decisions/{}?reason=false%20alarm", added["id"].as_str().unwrap());
    let withdrawal = node.call("DELETE", &path, None).await;
    assert_eq!(withdrawal.status, StatusCode::OK, "{}", withdrawal.text);
    assert_eq!(withdrawal.json()["reason"], "false alarm");
    assert_eq!(node.get("/api/v1/decisions").await.json(), json!([wide]));
    assert_eq!(node.call("DELETE", &path, None).await.status, StatusCode::NOT_FOUND);

    let ledger = node.ledger();
    let actions: Vec<&String> = ledger.iter().filter(|entry| entry.contains("operator_action")).collect();
    assert_eq!(actions.len(), 3, "{ledger:?}");
    assert!(actions[0].contains("ban 192.0.2.9 for 60 s: test (by admin token)"), "{}", actions[0]);
    let position = |text: &str| ledger.iter().position(|entry| entry.contains(text)).unwrap();
    assert!(position("operator_action") < position("decided"), "recorded before it takes effect");
}

#[tokio::test]
async fn all_that_an_author_decided_is_ended_with_one_call() {
    let mut node = Node::start().await;
    for last in 1..4 {
        let order = json!({ "ip": format!("192.0.2.{last}"), "for_ms": 60_000, "reason": "test" });
        assert_eq!(node.call("POST", "/api/v1/decisions", Some(order)).await.status, StatusCode::CREATED);
    }
    let path = "/api/v1/nodes/fra/a/decisions";
    for (path, status, word) in [
        (path.to_owned(), StatusCode::BAD_REQUEST, "needs a reason"),
        (format!("{path}?reason=x&role=king"), StatusCode::BAD_REQUEST, "king"),
        (format!("{path}?reason={}", "x".repeat(600)), StatusCode::BAD_REQUEST, "512 bytes"),
        (
            "/api/v1/nodes/fra/z/decisions?reason=x".to_owned(),
            StatusCode::NOT_FOUND,
            "no node fra/z is known",
        ),
    ] {
        let answer = node.call("DELETE", &path, None).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(answer.text.contains(word), "{path}: {}", answer.text);
    }
    let of_node = node.call("DELETE", &format!("{path}?reason=erred"), None).await;
    assert_eq!(of_node.json()["target"]["role"], "node", "{}", of_node.text);
    assert_eq!(node.get("/api/v1/decisions").await.json().as_array().unwrap().len(), 3);
    let all = node.call("DELETE", &format!("{path}?role=operator&reason=stolen"), None).await.json();
    assert_eq!(node.get("/api/v1/decisions").await.json(), json!([]));
    assert_eq!(node.get("/api/v1/recalls").await.json(), json!([all, of_node.json()]));
    let ledger = node.ledger().join("\n");
    assert!(ledger.contains("withdraw everything decided by operator at fra/a: stolen (by"), "{ledger}");
    assert!(ledger.contains("\"entry\":\"recalled\""), "{ledger}");
}

#[tokio::test]
async fn a_blocklist_is_imported_shown_replaced_and_removed() {
    let mut node = Node::start().await;
    let path = "/api/v1/blocklists/scanners?for_ms=60000&reason=test";
    let put = async |path: &str, text: &str| {
        let call = request("PUT", path).header(header::AUTHORIZATION, format!("Bearer {}", node.token));
        node.send(call.body(Body::from(text.to_owned())).unwrap()).await
    };
    let made = put(path, "192.0.2.7\n192.0.2.0/24 # all of it\n2001:db8::1").await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    assert_eq!((&made["prefixes"], &made["kind"]), (&json!(2), &json!("ban")));
    assert_eq!(made["version"], made["version_in_force"]);
    assert_eq!(node.get("/api/v1/blocklists").await.json(), json!([made]));
    let shown = node.get("/api/v1/blocklists/scanners?limit=1").await.json();
    assert_eq!((&shown["first"], &shown["id"]), (&json!(["192.0.2.0/24"]), &made["id"]));

    for (path, text, status, word) in [
        (path, "192.0.2.7\nnonsense", StatusCode::UNPROCESSABLE_ENTITY, "\"line\":2"),
        (path, "10.0.0.0/7", StatusCode::UNPROCESSABLE_ENTITY, "too wide"),
        (path, "# nothing", StatusCode::UNPROCESSABLE_ENTITY, "no address"),
        ("/api/v1/blocklists/x?reason=test", "192.0.2.1", StatusCode::BAD_REQUEST, "for_ms"),
        ("/api/v1/blocklists/x?for_ms=0&reason=test", "192.0.2.1", StatusCode::BAD_REQUEST, "for_ms"),
        ("/api/v1/blocklists/x?for_ms=1&reason=", "192.0.2.1", StatusCode::BAD_REQUEST, "needs a reason"),
        (
            "/api/v1/blocklists/x?for_ms=1&reason=y&kind=allow",
            "192.0.2.1",
            StatusCode::BAD_REQUEST,
            "challenge",
        ),
        ("/api/v1/blocklists/X?for_ms=1&reason=y", "192.0.2.1", StatusCode::UNPROCESSABLE_ENTITY, "1 to 63"),
    ] {
        let answer = put(path, text).await;
        assert_eq!(answer.status, status, "{path} {text}: {}", answer.text);
        assert!(answer.text.contains(word), "{path} {text}: {}", answer.text);
    }
    assert_eq!(node.get("/api/v1/blocklists").await.json(), json!([made]), "what is refused has no effect");
    let long = "192.0.2.7\n".repeat(20_000);
    assert_eq!(put(path, &long).await.status, StatusCode::CREATED, "longer than other bodies may be");
    let name = "/api/v1/blocklists/scanners";
    assert_eq!(node.call("DELETE", name, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(node.call("DELETE", name, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.get(name).await.status, StatusCode::NOT_FOUND);
    let ledger = node.ledger().join("\n");
    assert!(ledger.contains("import blocklist scanners of 2 prefixes: test (by admin token)"), "{ledger}");
    assert!(ledger.contains("\"entry\":\"listed\""), "{ledger}");
}

#[tokio::test]
async fn what_is_refused_is_told_as_a_problem() {
    let node = Node::start().await;
    let answer = node.get("/api/v1/nowhere").await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(
        answer.json(),
        json!({
            "type": "urn:phalanx:api:not_found", "title": "Not found", "status": 404, "code": "not_found",
            "detail": "no such path; /api/v1/openapi.json lists them"
        })
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_body_has_a_code_of_its_own_and_names_no_type_of_ours() {
    let node = Node::start().await;
    let missing = StatusCode::UNPROCESSABLE_ENTITY;
    for (kind, body, status, code, says) in [
        ("application/json", "{", StatusCode::BAD_REQUEST, "bad_request", "the body is no JSON: EOF"),
        ("text/plain", "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Content-Type"),
        ("application/json", "{}", missing, "invalid", "document says: missing field `for_ms`"),
        ("application/json", "[]", missing, "invalid", "expected an object"),
        ("application/json", "7", missing, "invalid", "expected an object"),
        ("application/json", r#"{"for_ms":"x"}"#, missing, "invalid", "for_ms: invalid type: string"),
    ] {
        let call = request("POST", "/api/v1/decisions")
            .header(header::AUTHORIZATION, format!("Bearer {}", node.token))
            .header(header::CONTENT_TYPE, kind);
        let answer = node.send(call.body(Body::from(body)).unwrap()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
        assert!(answer.text.contains(says) && !answer.text.contains("struct"), "{body}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_call_with_a_key_is_done_once() {
    let node = Node::start().await;
    let call = async |path: &str, key: &str, body: Value| {
        let call = request("POST", path)
            .header(header::AUTHORIZATION, format!("Bearer {}", node.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key);
        node.send(call.body(Body::from(body.to_string())).unwrap()).await
    };
    let order = |ip: &str| json!({ "ip": ip, "for_ms": 60_000, "reason": "test" });
    let first = call("/api/v1/decisions", "\"a\"", order("192.0.2.1")).await;
    let again = call("/api/v1/decisions", "a", order("192.0.2.1")).await;
    assert_eq!((first.status, &first.text), (StatusCode::CREATED, &again.text));
    assert_eq!(
        (again.status, &again.headers["idempotency-replayed"]),
        (StatusCode::CREATED, &"true".parse().unwrap())
    );
    assert_eq!(again.headers[header::CONTENT_TYPE], "application/json");
    let other = call("/api/v1/decisions", "a", order("192.0.2.2")).await;
    assert_eq!((other.status, other.code()), (StatusCode::UNPROCESSABLE_ENTITY, "key_reused".into()));
    assert_eq!(node.get("/api/v1/decisions").await.json().as_array().unwrap().len(), 1);
    // What was refused made nothing: the same key serves once the cause is gone.
    for status in [StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST] {
        assert_eq!(call("/api/v1/bouncers", "b", json!({ "name": "No" })).await.status, status);
    }
    // A key that was made is shown once.
    assert_eq!(call("/api/v1/bouncers", "c", json!({ "name": "fw" })).await.status, StatusCode::CREATED);
    let again = call("/api/v1/bouncers", "c", json!({ "name": "fw" })).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "done_before".into()));
    assert_eq!(call("/api/v1/decisions", "a b", order("192.0.2.3")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn calls_with_one_key_are_not_done_at_once() {
    let node = Node::start().await;
    let replay = || {
        let call = request("POST", "/api/v1/policy/replay")
            .header(header::AUTHORIZATION, format!("Bearer {}", node.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k");
        let body = json!({ "files": { "policy.toml": "" }, "entry": "policy.toml", "last_ms": 60_000 });
        node.send(call.body(Body::from(body.to_string())).unwrap())
    };
    tokio::select! {
        answer = replay() => panic!("{}", answer.text),
        begun = node.replays.begun.acquire() => begun.unwrap().forget(),
    }
    // Whoever asked is gone, and it goes on; then, as nothing was made, the key is free.
    assert_eq!(replay().await.code(), "under_way");
    node.replays.may_end.add_permits(2);
    let mut again = replay().await;
    while ["under_way", "busy"].contains(&again.code().as_str()) {
        tokio::task::yield_now().await;
        // As often as it takes.
        node.later(20);
        again = replay().await;
    }
    assert_eq!(again.code(), "recording");
}

#[tokio::test]
async fn lists_come_in_pages_and_unknown_parameters_are_refused() {
    let node = Node::start().await;
    for name in ["a", "b", "c"] {
        node.call("POST", "/api/v1/bouncers", Some(json!({ "name": name }))).await;
        let order =
            json!({ "ip": format!("192.0.2.{}", name.as_bytes()[0]), "for_ms": 60_000, "reason": "test" });
        assert_eq!(node.call("POST", "/api/v1/decisions", Some(order)).await.status, StatusCode::CREATED);
    }
    let names = async |query: &str| -> Vec<String> {
        let answer = node.get(&format!("/api/v1/bouncers?{query}")).await.json();
        let rows = answer["bouncers"].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (names("limit=2").await, names("limit=2&before=b").await),
        (vec!["a".into(), "b".into()], vec!["c".into()])
    );
    let ids = async |query: String| -> Vec<String> {
        let answer = node.get(&format!("/api/v1/decisions?{query}")).await.json();
        answer.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids(String::new()).await;
    assert_eq!((all.len(), ids(format!("before={}&limit=1", all[0])).await), (3, vec![all[1].clone()]));
    for (path, words) in [
        ("/api/v1/decisions?limit=0", "write a number"),
        ("/api/v1/decisions?before=x", "before"),
        ("/api/v1/bouncers?before=x", "not in the list any more"),
        ("/api/v1/status?x=1", "unknown parameter `x`: it takes none"),
        ("/api/v1/nodes?app=1", "it takes limit, before"),
    ] {
        let answer = node.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(words), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_list_comes_in_pages() {
    let node = Node::start().await;
    let document = node.get("/api/v1/openapi.json").await.json();
    let mut lists = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let answer = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if answer["type"] != "array" || path.contains('{') || path.contains("/login/") {
            continue;
        }
        lists += 1;
        let full = node.get(&format!("{path}?limit=1")).await;
        assert_eq!(full.status, StatusCode::OK, "{path}: {}", full.text);
        assert!(full.json().as_array().unwrap().len() <= 1, "{path}");
        let wrong = node.get(&format!("{path}?limit=none")).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{path}: {}", wrong.text);
    }
    assert!(lists > 10, "{lists}");
}

#[tokio::test]
async fn the_self_test_is_shown_and_run_and_recorded() {
    let mut node = Node::start().await;
    let before = node.get("/api/v1/selftest").await.json();
    assert_eq!(
        before,
        json!({ "state": "unknown", "every_ms": null, "last": null, "failing_since_ms": null })
    );
    assert_eq!(node.call("POST", "/api/v1/selftest", None).await.json()["state"], "ok");
    assert!(node.ledger().join("\n").contains("run the self-test (by admin token)"));
    assert_eq!(node.get("/api/v1/status").await.json()["selftest"], "unknown");
}

#[tokio::test]
async fn malformed_orders_are_refused_with_the_reason() {
    let node = Node::start().await;
    for (order, word) in [
        (json!({ "for_ms": 1, "reason": "x" }), "exactly one"),
        (json!({ "ip": "192.0.2.1", "prefix": "192.0.2.0/24", "for_ms": 1, "reason": "x" }), "exactly one"),
        (json!({ "ip": "nowhere", "for_ms": 1, "reason": "x" }), "ip"),
        (json!({ "prefix": "192.0.2.0/99", "for_ms": 1, "reason": "x" }), "192.0.2.0/24"),
        (json!({ "asn": 0, "for_ms": 1, "reason": "x" }), "asn 0: it is no AS number; write 64500"),
        (json!({ "country": "Holland", "for_ms": 1, "reason": "x" }), "two letters"),
        (json!({ "ja4": "t13d", "for_ms": 1, "reason": "x" }), "all three parts"),
        (json!({ "session": "secret", "for_ms": 1, "reason": "x" }), "16 hexadecimal digits"),
        (json!({ "account": "alice", "for_ms": 1, "reason": "x" }), "16 hexadecimal digits"),
        (json!({ "ip": "192.0.2.1", "for_ms": 0, "reason": "x" }), "for_ms"),
        (json!({ "ip": "192.0.2.1", "for_ms": u64::MAX, "reason": "x" }), "for_ms"),
        (json!({ "ip": "192.0.2.1", "for_ms": 1, "reason": " " }), "reason"),
        (json!({ "ip": "192.0.2.1", "for_ms": 1, "reason": "x".repeat(600) }), "reason"),
        (json!({ "ip": "192.0.2.1", "for_ms": 1, "reason": "x", "role": "operator" }), "role"),
        (json!({ "ip": "192.0.2.1", "for_ms": 1, "reason": "x", "kind": "execute" }), "kind"),
        (json!([]), ""),
    ] {
        let answer = node.call("POST", "/api/v1/decisions", Some(order.clone())).await;
        assert!(answer.status.is_client_error(), "{order}: {}", answer.status);
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{order}: {}", answer.text);
    }
    let text =
        request("POST", "/api/v1/decisions").header(header::AUTHORIZATION, format!("Bearer {}", node.token));
    let answer = node.send(text.body(Body::from("{}")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "a form of another page cannot send JSON");
    let big = json!({ "ip": "192.0.2.1", "for_ms": 1, "reason": "x".repeat(100_000) });
    assert_eq!(node.call("POST", "/api/v1/decisions", Some(big)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(node.call("DELETE", "/api/v1/decisions/nonsense", None).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(node.get("/api/v1/decisions").await.json(), json!([]));
}

#[tokio::test]
async fn what_needs_a_fresh_factor_is_read_first_and_a_snapshot_may_be_long() {
    let node = Node::start().await;
    let long = json!("x".repeat(100_000));
    for (path, status) in [
        ("/api/v1/fleet/restore?dry_run=true", StatusCode::UNPROCESSABLE_ENTITY),
        ("/api/v1/operators", StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = node.call("POST", path, Some(long.clone())).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn without_room_in_the_ledger_actions_are_refused() {
    let node = Node::start().await;
    let entry = || LedgerEntry { at_ms: 1, kind: LedgerKind::Node { state: "started".into() } };
    while node.lanes.ledger(entry()).is_ok() {}
    let order = json!({ "ip": "192.0.2.9", "for_ms": 60_000, "reason": "test" });
    for (method, path, body) in [
        ("POST", "/api/v1/decisions", Some(order)),
        ("POST", "/api/v1/policy/reload", None),
        ("POST", "/api/v1/login-links", None),
    ] {
        let answer = node.call(method, path, body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "ledger_full"),
            "{path}"
        );
    }
    assert_eq!(node.get("/api/v1/decisions").await.json(), json!([]), "what is refused has no effect");
}

#[tokio::test]
async fn events_are_listed_by_filter_and_explained() {
    let node = Node::start().await;
    let mut other = access(3);
    other.client = "2001:db8::7".parse().unwrap();
    node.refuse([access(1), access(2), other]).await;
    let ids = |answer: Answer| -> Vec<String> {
        let rows = answer.json();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids(node.get("/api/v1/events").await);
    assert_eq!(all, [id(3).to_string(), id(2).to_string(), id(1).to_string()]);
    for (query, expected) in [
        ("limit=1".to_owned(), &all[..1]),
        (format!("before={}", id(2)), &all[2..]),
        (format!("before={}", id(2).at_ms()), &all[2..]),
        (format!("since_ms={}", id(2).at_ms()), &all[..2]),
        ("client=2001:db8::7".to_owned(), &all[..1]),
        ("action=deny&rule=942100&limit=2".to_owned(), &all[..2]),
        ("action=observe".to_owned(), &[]),
        ("rule=1".to_owned(), &[]),
    ] {
        assert_eq!(ids(node.get(&format!("/api/v1/events?{query}")).await), expected, "{query}");
    }
    let row = &node.get("/api/v1/events?limit=1").await.json()[0];
    assert_eq!(row["reason"], json!({ "kind": "rule", "rule": 942_100 }));
    let top = json!({ "rule": 942_100, "message": "SQL injection", "variable": "ARGS:q", "fragment": "1' or '1'='1",
        "file": "sqli.conf", "line": 45 });
    assert_eq!((&row["top"], &row["rule_ids"]), (&top, &json!([942_100])));

    let explanation = node.get(&format!("/api/v1/events/{}", id(1))).await.json();
    assert_eq!(explanation["plan_version"], 7);
    assert_eq!(explanation["signals"][0]["matches"][0]["transformations"], json!(["urlDecodeUni"]));
    assert!(explanation["summary"][1].as_str().unwrap().contains("942100"));
}

#[tokio::test]
async fn queries_that_cannot_be_meant_are_refused() {
    let node = Node::start().await;
    for query in [
        "limit=many",
        "limit=-1",
        "before=yesterday",
        "client=example.com",
        "action=explode",
        "rule=x",
        "clinet=1",
    ] {
        let answer = node.get(&format!("/api/v1/events?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.text);
    }
    assert_eq!(
        node.get("/api/v1/events?limit=99999").await.status,
        StatusCode::OK,
        "too many is cut, not refused"
    );
    assert_eq!(node.get("/api/v1/events/nonsense").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(node.get(&format!("/api/v1/events/{}", id(77))).await.code(), "not_found");
    let elsewhere = RequestId::from_parts(1, 1, 1);
    let answer = node.get(&format!("/api/v1/events/{elsewhere}")).await;
    assert!(
        answer.status == StatusCode::NOT_FOUND && answer.text.contains("another node"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_refused_policy_is_explained_and_changes_nothing() {
    let node = Node::start().await;
    let good = node.call("POST", "/api/v1/policy/reload", None).await;
    assert_eq!((good.status, good.json()), (StatusCode::OK, json!({ "from": 1, "to": 2 })));
    node.policy_is_good.store(false, Ordering::SeqCst);
    let bad = node.call("POST", "/api/v1/policy/reload", None).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    let fault = &bad.json()["diagnostics"][0];
    assert_eq!(
        (&fault["file"], &fault["line"], &fault["level"]),
        (&json!("policy.toml"), &json!(3), &json!("error"))
    );
}

#[tokio::test]
async fn a_replay_keeps_its_turn_when_whoever_asked_hangs_up() {
    let node = Node::start().await;
    let order = json!({ "files": { "policy.toml": "" }, "entry": "policy.toml", "last_ms": 60_000 });
    let replay = || node.call("POST", "/api/v1/policy/replay", Some(order.clone()));
    tokio::select! {
        biased;
        answer = replay() => panic!("{}", answer.text),
        begun = node.replays.begun.acquire() => begun.unwrap().forget(),
    }
    // What asked for it is gone.
    assert_eq!(replay().await.code(), "busy");
    node.replays.may_end.add_permits(2);
    let mut again = replay().await;
    while again.status == StatusCode::CONFLICT {
        tokio::task::yield_now().await;
        again = replay().await;
    }
    assert_eq!(again.code(), "recording");
}

#[tokio::test]
async fn metrics_are_in_openmetrics_form() {
    let node = Node::start().await;
    let answer = node.get("/metrics").await;
    assert!(
        answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text")
    );
    assert!(answer.text.contains("phalanx_requests_total 0") && answer.text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_document_is_the_api() {
    let node = Node::start().await;
    node.call("POST", "/api/v1/bouncers", Some(json!({ "name": "fw-1" }))).await;
    let document = node.get("/api/v1/openapi.json").await.json();
    insta::assert_snapshot!("openapi", serde_json::to_string_pretty(&document).unwrap());
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|_| path != "/api/v1/stream") {
            let path = path.replace("{id}", "x").replace("{site}", "fra").replace("{node}", "a");
            let path = path.replace("{name}", "none");
            let answer = node.call(&method.to_uppercase(), &path, None).await;
            let missing = answer.text.contains("no such path");
            assert!(
                !missing && answer.status != StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn only_other_known_nodes_can_be_forgotten() {
    let node = Node::start().await;
    let delete = async |path: &str| node.call("DELETE", path, None).await.status;
    assert_eq!(delete("/api/v1/nodes/fra/a").await, StatusCode::BAD_REQUEST);
    assert_eq!(delete("/api/v1/nodes/syd/a").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn console_paths_lead_to_its_first_page() {
    let node = Node::start().await;
    for path in ["/", "/index.html", "/requests/some-place"] {
        let answer = node.send(bare("GET", path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
    }
    for path in ["/assets/missing.js", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/api/v2/status"] {
        assert_eq!(node.send(bare("GET", path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(node.send(bare("POST", "/")).await.status, StatusCode::NOT_FOUND);
}
