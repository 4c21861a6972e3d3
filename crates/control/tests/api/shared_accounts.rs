//! Accounts that another node changed, and a console with a name and TLS of its own: what becomes of sessions, links and cookies here.

use std::sync::Arc;

use axum::body::Body;
use http::{StatusCode, header};
use phalanx_control::HostName;
use phalanx_model::{Clock, SystemClock};
use phalanx_trust::operators::Account;
use phalanx_trust::{By, OperatorChange, Operators, Role, Sealer};
use serde_json::json;

use crate::operators::{Browser, enrol, invite};
use crate::support::*;

/// The same accounts at another node.
struct Elsewhere {
    operators: Operators,
    _folder: tempfile::TempDir,
}

impl Elsewhere {
    fn like(node: &Node) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let operators = Operators::load(&folder.path().join("operators.sealed"), sealer).unwrap();
        operators.merge(travelled(&node.operators), SystemClock.now_ms());
        Self { operators, _folder: folder }
    }

    fn id(&self, name: &str) -> String {
        self.operators.named(name).unwrap().id
    }

    fn tell(&self, node: &Node) {
        let merged = node.operators.merge(travelled(&self.operators), SystemClock.now_ms());
        assert!(merged.refused.is_empty() && merged.unwritten.is_none());
    }
}

fn travelled(operators: &Operators) -> Vec<Account> {
    let accounts = operators.accounts(SystemClock.now_ms());
    accounts.iter().map(|one| Account::from_bytes(&one.to_bytes()).unwrap()).collect()
}

#[tokio::test]
async fn a_session_ends_when_another_node_changes_the_account() {
    type Change = fn(&Operators, &str);
    let changes: [(&str, Change); 4] = [
        ("disabled", |all, id| {
            all.change(id, OperatorChange { disabled: Some(true), ..OperatorChange::default() }, By::Node)
                .unwrap();
        }),
        ("role", |all, id| {
            all.change(
                id,
                OperatorChange { role: Some(Role::Editor), ..OperatorChange::default() },
                By::Node,
            )
            .unwrap();
        }),
        ("reset", |all, id| all.reset(id, By::Node).unwrap()),
        ("removed", |all, id| all.remove(id, By::Node, SystemClock.now_ms()).unwrap()),
    ];
    for (what, change) in changes {
        let node = Node::start().await;
        let (mut alice, mut bob) =
            (enrol(&node, "alice", "owner", &[]).await, enrol(&node, "bob", "owner", &[]).await);
        let elsewhere = Elsewhere::like(&node);
        change(&elsewhere.operators, &elsewhere.id("alice"));
        assert_eq!(
            alice.browser.get("/api/v1/me").await.status,
            StatusCode::OK,
            "{what}: not known here yet"
        );
        elsewhere.tell(&node);
        let listed = bob.browser.get("/api/v1/sessions").await.json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{what}: {listed}");
        assert_eq!(alice.browser.get("/api/v1/me").await.status, StatusCode::UNAUTHORIZED, "{what}");
        assert_eq!(bob.browser.get("/api/v1/me").await.status, StatusCode::OK, "{what}");
    }
}

#[tokio::test]
async fn a_link_to_give_credentials_is_worth_nothing_once_another_node_has_reset_the_account() {
    let node = Node::start().await;
    let url = invite(&node, "alice", "owner", &[]).await;
    let elsewhere = Elsewhere::like(&node);
    elsewhere.operators.reset(&elsewhere.id("alice"), By::Node).unwrap();
    elsewhere.tell(&node);
    let path = url.strip_prefix("http://localhost:8900").unwrap().to_owned();
    assert_eq!(Browser::new(&node).get(&path).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_changes_his_own_password_stays_and_his_other_sessions_end_here_and_elsewhere() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let present = crate::operators::code(&alice.app);
    let mut other = Browser::new(&node);
    assert_eq!(other.log_in("alice", crate::operators::PASSWORD, &present).await.status, StatusCode::OK);
    let elsewhere = Elsewhere::like(&node);
    let before = elsewhere.operators.named("alice").unwrap().generation;
    crate::operators::set_password(&mut alice.browser).await;
    assert_eq!(alice.browser.get("/api/v1/me").await.status, StatusCode::OK);
    assert_eq!(other.get("/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
    elsewhere.operators.merge(travelled(&node.operators), SystemClock.now_ms());
    assert_ne!(elsewhere.operators.named("alice").unwrap().generation, before);
}

#[tokio::test]
async fn a_console_with_tls_takes_no_page_without_and_has_cookies_of_its_host_alone() {
    let node = Node::named(vec![HostName::parse("console.example").unwrap()], true).await;
    let host = "console.example:8900";
    let url = invite(&node, "alice", "owner", &[]).await;
    let path = url.strip_prefix("https://console.example:8900").unwrap().to_owned();
    let request = |method: &str, path: &str, host: &str| {
        http::Request::builder().method(method).uri(path).header(header::HOST, host)
    };
    let opened = node.send(request("GET", &path, host).body(Body::empty()).unwrap()).await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER, "{}", opened.text);
    let set = opened.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-phalanx_session_8900=") && set.contains("; Secure"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    for (host, origin, status) in [
        (host, "https://console.example:8900", StatusCode::OK),
        (host, "http://console.example:8900", StatusCode::FORBIDDEN),
        (host, "https://evil.example", StatusCode::FORBIDDEN),
        (host, "https://console.example", StatusCode::FORBIDDEN),
        ("console.example", "https://console.example", StatusCode::FORBIDDEN),
        ("console.example:8443", "https://console.example:8443", StatusCode::FORBIDDEN),
        ("evil.example:8900", "https://evil.example:8900", StatusCode::MISDIRECTED_REQUEST),
    ] {
        let asked = request("POST", "/api/v1/me/challenge", host)
            .header(header::ORIGIN, origin)
            .header(header::COOKIE, &cookie)
            .body(Body::empty())
            .unwrap();
        let answer = node.send(asked).await;
        assert_eq!(answer.status, status, "{host} {origin}: {}", answer.text);
        if status == StatusCode::OK {
            assert_eq!(answer.json()["host"], json!("console.example"), "what a passkey is for");
        }
    }
}

#[tokio::test]
async fn after_a_theft_everybody_begins_anew_by_order_of_who_has_the_node() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let mut bob = enrol(&node, "bob", "viewer", &[]).await;
    let refused = alice.browser.send("POST", "/api/v1/operator-resets", None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "nobody would be left who can get in");
    let answer = node.call("POST", "/api/v1/operator-resets", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for (n, (name, old)) in [("alice", &mut alice), ("bob", &mut bob)].into_iter().enumerate() {
        assert_eq!(old.browser.get("/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
        let reset = &answer.json()[n];
        assert_eq!(
            (&reset["operator"]["name"], &reset["operator"]["password"]),
            (&json!(name), &json!(false))
        );
        let mut anew = Browser::new(&node);
        anew.open(reset["url"].as_str().unwrap()).await;
        assert_eq!(anew.get("/api/v1/me").await.json()["enrolling"], true);
    }
}
