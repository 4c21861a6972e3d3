//! Changes of policy by operators: what takes protection away waits for another one, and there is no way round.

use axum::body::Body;
use data_encoding::BASE64;
use http::{StatusCode, header};
use phalanx_model::limits::CHANGE_LIFE_MS;
use serde_json::{Value, json};

use crate::operators::{Browser, HOST, enrol};
use crate::support::*;

/// The node's own policy with more said of its app.
fn policy(more: &str) -> Value {
    let text = format!("{OWN_POLICY}{more}\n");
    json!({ "entry": "policy.toml", "files": { "policy.toml": BASE64.encode(text.as_bytes()) }, "reason": "a test" })
}

const OFF: &str = "mode = \"off\"";
const MORE: &str = "paranoia = 2";

const CHANGES: &str = "/api/v1/policy/changes";

fn path(change: &Value, what: &str) -> String {
    format!("{CHANGES}/{}/{what}", change["id"].as_str().unwrap())
}

fn of(change: &Value) -> Option<Value> {
    Some(json!({ "hash": change["hash"], "reason": "seen" }))
}

async fn version(node: &Node) -> u64 {
    node.get("/api/v1/policy").await.json()["version"].as_u64().unwrap()
}

#[tokio::test]
async fn what_takes_protection_away_needs_two_different_operators() {
    let mut node = Node::start().await;
    {
        let mut ann = enrol(&node, "ann", "editor", &[]).await;
        let mut bob = enrol(&node, "bob", "editor", &[]).await;
        let mut eve = enrol(&node, "eve", "viewer", &[]).await;
        let answer = ann.browser.send("POST", CHANGES, Some(policy(OFF))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let change = answer.json();
        assert_eq!((&change["state"], &change["needs_second"]), (&json!("waiting"), &json!(true)));
        assert_eq!(change["dangers"][0]["words"], "app shop: no rules look at requests");
        assert_eq!(change["diff"][0]["words"], "app shop: mode: block -> off");
        assert_eq!(version(&node).await, 0, "nothing is published");
        let approve = path(&change, "approve");
        let own = ann.browser.send("POST", &approve, of(&change)).await;
        assert_eq!((own.status, own.code().as_str()), (StatusCode::FORBIDDEN, "own_change"));
        let viewer = eve.browser.send("POST", &approve, of(&change)).await;
        assert_eq!(viewer.code(), "role");
        let token = json!({ "name": "ci", "role": "editor", "for_ms": 60_000 });
        let token = ann.browser.send("POST", "/api/v1/me/tokens", Some(token)).await.json();
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let request =
            http::Request::post(&approve).header(header::HOST, HOST).header(header::AUTHORIZATION, bearer);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let by_token = node.send(request.body(Body::from(of(&change).unwrap().to_string())).unwrap()).await;
        assert_eq!(by_token.code(), "fresh_factor", "his own token is no second operator");
        let mut link = Browser::new(&node);
        let url =
            node.call("POST", "/api/v1/login-links", None).await.json()["url"].as_str().unwrap().to_owned();
        let at = url.find("/login").unwrap();
        assert_eq!(link.get(url.get(at..).unwrap()).await.status, StatusCode::SEE_OTHER);
        let nameless = link.send("POST", &approve, of(&change)).await;
        assert_eq!(nameless.code(), "nameless", "whoever opened the session may be the author");
        let other = json!({ "hash": "0".repeat(64) });
        let altered = bob.browser.send("POST", &approve, Some(other)).await;
        assert_eq!(altered.code(), "altered", "he approves what he saw");
        assert_eq!(version(&node).await, 0);
        let approved = bob.browser.send("POST", &approve, of(&change)).await;
        assert_eq!(approved.status, StatusCode::OK, "{}", approved.text);
        let approved = approved.json();
        assert_eq!((&approved["state"], &approved["version"]), (&json!("published"), &json!(1)));
        let replayed = bob.browser.send("POST", &approve, of(&change)).await;
        assert_eq!(replayed.code(), "decided", "an approval counts once");
        let versions = node.get("/api/v1/policy/versions").await.json();
        let first = &versions[0];
        assert_eq!((&first["author"], &first["approved_by"]), (&json!("ann"), &json!("bob")));
        assert_eq!((&first["reason"], &first["result"]), (&json!("a test"), &json!("published")));
        assert_eq!(
            (&first["node"], &first["source"], &first["stable"]),
            (&json!("fra/a"), &json!("files"), &json!(true))
        );
    }
    let ledger = node.ledger().join("\n");
    for entry in [
        "ask for a change of policy that another operator must approve: a test (by operator ann)",
        "publish a policy to all nodes, after version 0, approving the change",
        "of ann, with 1 changes, of which 1 take protection away: a test (by operator bob)",
    ] {
        assert!(ledger.contains(entry), "{entry}: {ledger}");
    }
}

#[tokio::test]
async fn an_approval_is_for_the_policy_that_was_looked_at() {
    let node = Node::start().await;
    let mut ann = enrol(&node, "ann", "editor", &[]).await;
    let mut bob = enrol(&node, "bob", "owner", &[]).await;
    let change = ann.browser.send("POST", CHANGES, Some(policy(OFF))).await.json();
    let meanwhile = bob.browser.send("POST", CHANGES, Some(policy(MORE))).await.json();
    assert_eq!(
        (&meanwhile["state"], &meanwhile["needs_second"]),
        (&json!("published"), &json!(false)),
        "{meanwhile}"
    );
    let moved = bob.browser.send("POST", &path(&change, "approve"), of(&change)).await;
    assert_eq!((moved.status, moved.code().as_str()), (StatusCode::CONFLICT, "base_moved"), "{}", moved.text);
    let again = bob.browser.send("POST", &path(&change, "approve"), of(&change)).await;
    assert_eq!(again.code(), "expired", "it must be ordered anew");
    assert_eq!(version(&node).await, meanwhile["version"]);
    // A node's own policy has no version, and moves all the same.
    let alone = Node::start().await;
    let mut cid = enrol(&alone, "cid", "editor", &[]).await;
    let waits = cid.browser.send("POST", CHANGES, Some(policy(OFF))).await.json();
    alone.own_policy.lock().unwrap().push_str("paranoia = 3\n");
    let moved = alone.call("POST", &path(&waits, "approve"), of(&waits)).await;
    assert_eq!(moved.code(), "base_moved");
    // A change waits as long as its author may change policy.
    let change = ann.browser.send("POST", CHANGES, Some(policy(OFF))).await.json();
    let edit = json!({ "role": "responder" });
    let edited = bob.browser.send("PATCH", "/api/v1/operators/ann", Some(edit)).await;
    assert_eq!(edited.status, StatusCode::OK, "{}", edited.text);
    let gone = bob.browser.send("POST", &path(&change, "approve"), of(&change)).await;
    assert_eq!(gone.code(), "author_gone");
}

#[tokio::test]
async fn what_ends_an_authors_sessions_ends_what_he_ordered() {
    let node = Node::start().await;
    let mut bob = enrol(&node, "bob", "owner", &[]).await;
    let ends: [(&str, &str, &str, &[Option<Value>]); 4] = [
        ("ann", "POST", "/api/v1/operators/ann/reset", &[None]),
        ("cid", "DELETE", "/api/v1/operators/cid", &[None]),
        (
            "dan",
            "PATCH",
            "/api/v1/operators/dan",
            &[Some(json!({ "disabled": true })), Some(json!({ "disabled": false }))],
        ),
        (
            "eve",
            "PATCH",
            "/api/v1/operators/eve",
            &[Some(json!({ "role": "viewer" })), Some(json!({ "role": "editor" }))],
        ),
    ];
    for (name, method, path_of, bodies) in ends {
        let mut author = enrol(&node, name, "editor", &[]).await;
        let [seen, unseen] = [
            author.browser.send("POST", CHANGES, Some(policy(OFF))).await.json(),
            author.browser.send("POST", CHANGES, Some(policy(OFF))).await.json(),
        ];
        let waits = node.get(path(&seen, "").trim_end_matches('/')).await.json();
        assert_eq!(waits["state"], "waiting", "{name}: {waits}");
        for body in bodies {
            let done = node.call(method, path_of, body.clone()).await;
            assert!(done.status.is_success(), "{name}: {}", done.text);
        }
        let refused = bob.browser.send("POST", &path(&unseen, "approve"), of(&unseen)).await;
        assert_eq!(refused.code(), "author_gone", "{name}: {}", refused.text);
        let listed = node.get(CHANGES).await.json();
        let states: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
        assert!(states.iter().all(|state| *state == "expired"), "{name}: {listed}");
        let again = node.call("POST", &path(&seen, "approve"), of(&seen)).await;
        assert_eq!(again.code(), "expired", "{name}: who has the node cannot apply it either");
    }
    assert_eq!(version(&node).await, 0);
}

#[tokio::test]
async fn a_change_that_nobody_approves_in_time_expires() {
    let node = Node::start().await;
    let mut ann = enrol(&node, "ann", "editor", &[]).await;
    let change = ann.browser.send("POST", CHANGES, Some(policy(OFF))).await.json();
    let rejected = ann.browser.send("POST", CHANGES, Some(policy("mode = \"observe\""))).await.json();
    let no =
        ann.browser.send("POST", &path(&rejected, "reject"), Some(json!({ "reason": "erred" }))).await.json();
    assert_eq!((&no["state"], &no["decided_reason"]), (&json!("rejected"), &json!("rejected by ann: erred")));
    let late = node.call("POST", &path(&rejected, "approve"), of(&rejected)).await;
    assert_eq!(late.code(), "decided");
    node.later(CHANGE_LIFE_MS + 1);
    let late = node.call("POST", &path(&change, "approve"), of(&change)).await;
    assert_eq!(late.code(), "expired");
    assert_eq!(version(&node).await, 0);
}

#[tokio::test]
async fn there_is_no_way_round_the_second_operator_but_to_have_the_node() {
    let node = Node::start().await;
    let mut ann = enrol(&node, "ann", "owner", &[]).await;
    let pushed = ann.browser.send("POST", "/api/v1/policy/bundles", Some(policy(OFF))).await;
    assert_eq!(
        (pushed.status, pushed.code().as_str()),
        (StatusCode::FORBIDDEN, "second_operator"),
        "{}",
        pushed.text
    );
    // Nodes would read the second, and the gate the first.
    let mut two = policy(MORE);
    two["files"]["z/../policy.toml"] = policy(OFF)["files"]["policy.toml"].clone();
    for endpoint in [CHANGES, "/api/v1/policy/bundles"] {
        let refused = ann.browser.send("POST", endpoint, Some(two.clone())).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(refused.text.contains("z/../policy.toml"), "{}", refused.text);
    }
    // Who has the node has the key.
    let pushed = node.call("POST", "/api/v1/policy/bundles", Some(policy(OFF))).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
    let better = ann.browser.send("POST", "/api/v1/policy/bundles", Some(policy(MORE))).await;
    assert_eq!(better.json()["version"], 2, "{}", better.text);
    for back in [json!({ "reason": "a test" }), json!({ "to": 1, "reason": "a test" })] {
        let back = ann.browser.send("POST", "/api/v1/policy/rollback", Some(back)).await;
        assert_eq!(back.code(), "second_operator", "{}", back.text);
    }
    let again = json!({ "content_of": 1, "reason": "a test" });
    let waits = ann.browser.send("POST", CHANGES, Some(again)).await.json();
    assert_eq!((&waits["state"], &waits["source"]), (&json!("waiting"), &json!("version 1")));
    let published = node.call("POST", &path(&waits, "approve"), of(&waits)).await.json();
    assert_eq!((&published["version"], &published["approved_by"]), (&json!(3), &json!("the admin token")));
    let versions = node.get("/api/v1/policy/versions?limit=2").await.json();
    let told = |n: usize, key: &str| versions[n][key].as_str().unwrap().to_owned();
    assert_eq!((told(0, "source"), told(0, "author")), ("version 1".into(), "ann".into()));
    assert_eq!(
        (told(1, "result"), told(1, "result_reason")),
        ("rolled_back".into(), "an operator rolled it back: a test".into())
    );
    // Back to what protects more is nobody else's business.
    let back = ann
        .browser
        .send("POST", "/api/v1/policy/rollback", Some(json!({ "to": 2, "reason": "a test" })))
        .await;
    assert_eq!(back.json()["version"], 4, "{}", back.text);
}

#[tokio::test]
async fn no_policy_is_changed_without_a_reason_and_none_is_made_twice() {
    let node = Node::start().await;
    for reason in [json!(""), json!("  "), json!("\u{202e}")] {
        let mut order = policy(MORE);
        order["reason"] = reason.clone();
        let back = json!({ "reason": reason });
        for (path, order) in [("bundles", &order), ("changes", &order), ("rollback", &back)] {
            let refused = node.call("POST", &format!("/api/v1/policy/{path}"), Some(order.clone())).await;
            let told = (refused.status, refused.code());
            assert_eq!(
                told,
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid".into()),
                "{path}: {}",
                refused.text
            );
        }
    }
    let push = async || node.call("POST", "/api/v1/policy/bundles", Some(policy(MORE))).await;
    assert_eq!(push().await.status, StatusCode::CREATED);
    let again = push().await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    assert_eq!((&again.json()["version"], &again.json()["unchanged"]), (&json!(1), &json!(true)));
    assert_eq!(version(&node).await, 1);
}

#[tokio::test]
async fn versions_and_what_runs_are_shown_checked_and_compared() {
    let node = Node::start().await;
    let own = node.get("/api/v1/policy/versions/running").await.json();
    assert_eq!((&own["entry"], &own["hash"]), (&json!("policy.toml"), &Value::Null));
    assert_eq!(own["files"]["policy.toml"], BASE64.encode(OWN_POLICY.as_bytes()));
    assert_eq!(node.get("/api/v1/policy/versions").await.json(), json!([]));
    let mut pushed = policy(MORE);
    pushed["files"]["key.data"] = BASE64.encode(b"-----BEGIN PRIVATE KEY-----\n").into();
    assert_eq!(node.call("POST", "/api/v1/policy/bundles", Some(pushed)).await.status, StatusCode::CREATED);
    let first = node.get("/api/v1/policy/versions/1").await.json();
    assert_eq!((&first["withheld"], &first["files"]["key.data"]), (&json!(["key.data"]), &Value::Null));
    assert_eq!(node.get("/api/v1/policy/versions/7").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(node.get("/api/v1/policy/versions/x").await.status, StatusCode::BAD_REQUEST);
    let mut compare = policy(OFF);
    compare.as_object_mut().unwrap().remove("reason");
    let check = node.call("POST", "/api/v1/policy/check", Some(compare.clone())).await.json();
    assert_eq!(check["ok"], true);
    let bad = json!({ "entry": "gone.toml", "files": {} });
    let bad = node.call("POST", "/api/v1/policy/check", Some(bad)).await.json();
    assert_eq!((&bad["ok"], &bad["problems"][0]["line"]), (&json!(false), &json!(3)));
    for (against, changes) in [("running", 1), ("1", 3)] {
        compare["against"] = against.into();
        let differs = node.call("POST", "/api/v1/policy/diff", Some(compare.clone())).await.json();
        assert_eq!(differs["changes"].as_array().unwrap().len(), changes, "{against}: {differs}");
        assert_eq!(differs["dangers"][0]["app"], "shop");
    }
}
