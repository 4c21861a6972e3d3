//! A source of decisions: what is taken over from a CrowdSec local API, and when it ends.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::{HeaderMap, StatusCode, Uri};
use phalanx_control::{ImportSettings, Importer};
use phalanx_fleet::NewDecision;
use phalanx_model::{Actor, DecisionKind, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::*;

/// A local API that says what it is told to, each answer once, and nothing new after it.
#[derive(Clone, Default)]
struct Source {
    answers: Arc<Mutex<Vec<(StatusCode, Value)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Source {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/decisions/stream", get(answer)).with_state(self.clone());
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(async move {
            let listeners = phalanx_control::Listeners { tcp: Some(listener), tls: None, socket: None };
            phalanx_control::serve(router, listeners, stopping).await;
            drop(stop);
        });
        url
    }

    fn say(&self, status: StatusCode, answer: Value) {
        self.answers.lock().unwrap().push((status, answer));
    }
}

async fn answer(State(source): State<Source>, headers: HeaderMap, uri: Uri) -> (StatusCode, String) {
    if headers.get("x-api-key").is_none_or(|key| key != "sesame") {
        return (StatusCode::FORBIDDEN, String::new());
    }
    source.asked.lock().unwrap().push(uri.query().unwrap_or_default().to_owned());
    let mut answers = source.answers.lock().unwrap();
    let next = if answers.is_empty() { None } else { Some(answers.remove(0)) };
    let (status, answer) = next.unwrap_or((StatusCode::OK, json!({ "new": null, "deleted": null })));
    (status, answer.to_string())
}

fn ban(id: u64, value: &str, duration: &str) -> Value {
    json!({ "id": id, "origin": "cscli", "scenario": "manual", "scope": "Ip", "type": "ban", "value": value, "duration": duration })
}

struct Running {
    importer: Arc<Importer>,
    _stop: watch::Sender<bool>,
}

fn import(node: &Node, url: &str, key: &str) -> Running {
    let key_file = node.dir.path().join(format!("{key}.key"));
    if !key_file.exists() {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&key_file).unwrap();
        writeln!(file, "{key}").unwrap();
    }
    let settings = ImportSettings {
        url: url.parse().unwrap(),
        key_file,
        ca_file: None,
        every: Duration::from_millis(10),
        origins: vec!["cscli".into(), "crowdsec".into()],
        limit: 3,
    };
    let importer = Arc::new(Importer::new(settings, node.fleet.clone(), Arc::new(SystemClock)).unwrap());
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(Arc::clone(&importer).run(stopping));
    Running { importer, _stop: stop }
}

fn banned(node: &Node) -> BTreeSet<String> {
    node.fleet.list(now_ms(), usize::MAX).iter().map(|decision| decision.actor.to_string()).collect()
}

fn now_ms() -> u64 {
    phalanx_model::Clock::now_ms(&SystemClock)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        tokio::task::yield_now().await;
    }
}

fn set<const N: usize>(values: [&str; N]) -> BTreeSet<String> {
    values.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn bans_of_a_source_become_ours_and_end_with_it() {
    let node = Node::start().await;
    let source = Source::default();
    let url = source.listen().await;
    let range = json!({ "id": 9, "origin": "cscli", "scenario": "m", "scope": "Range", "type": "ban", "value": "198.51.100.0/24", "duration": "4h" });
    source.say(StatusCode::OK, json!({ "new": [ban(1, "192.0.2.1", "4h0m0s"), ban(2, "2001:db8::7", "720h"), range], "deleted": null }));
    let running = import(&node, &url, "sesame");
    until("both are banned", || banned(&node) == set(["192.0.2.1", "2001:db8::/64"])).await;
    let list = node.fleet.list(now_ms(), usize::MAX);
    let one = list.iter().find(|decision| decision.actor.to_string() == "192.0.2.1").unwrap();
    assert!(one.reason.starts_with("crowdsec:cscli/manual via 127.0.0.1:"), "{}", one.reason);
    assert_eq!(one.author.to_string(), "fra/a", "a source is no operator");
    let long = list.iter().find(|decision| decision.actor.to_string() != "192.0.2.1").unwrap();
    assert_eq!(long.expires_at_ms - long.created_at_ms, 24 * 3_600_000, "a day at most");

    source.say(StatusCode::OK, json!({ "new": null, "deleted": [ban(1, "192.0.2.1", "-1s")] }));
    until("the one is let go", || banned(&node) == set(["2001:db8::/64"])).await;
    until("it is told", || running.importer.status().decisions == 1).await;
    assert_eq!(running.importer.status().skipped.as_deref(), Some("1 not about single addresses"));
    let asked = source.asked.lock().unwrap().clone();
    assert_eq!(asked[0], "startup=true&scopes=ip,range&origins=cscli,crowdsec");
    assert!(asked[1..].iter().all(|query| query.starts_with("startup=false")), "{asked:?}");
}

#[tokio::test]
async fn a_source_that_fails_is_told_and_read_whole_when_it_is_back() {
    let node = Node::start().await;
    let source = Source::default();
    let url = source.listen().await;
    source.say(
        StatusCode::OK,
        json!({ "new": [ban(1, "192.0.2.1", "4h"), ban(2, "192.0.2.2", "4h")], "deleted": null }),
    );
    let running = import(&node, &url, "sesame");
    until("both are banned", || banned(&node).len() == 2).await;
    for _ in 0..20 {
        source.say(StatusCode::INTERNAL_SERVER_ERROR, Value::Null);
    }
    until("the fault is told", || running.importer.status().fault.is_some()).await;
    assert_eq!(banned(&node).len(), 2, "what it ordered stays");
    source.say(
        StatusCode::OK,
        json!({ "new": [ban(2, "192.0.2.2", "3h59m58s"), ban(3, "192.0.2.3", "4h")], "deleted": null }),
    );
    until("it is compared", || banned(&node) == set(["192.0.2.2", "192.0.2.3"])).await;
    until("the fault is over", || running.importer.status().fault.is_none()).await;

    let wrong = import(&node, &url, "guess");
    until("a wrong key is told", || {
        wrong.importer.status().fault.as_deref() == Some("the API key is refused")
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_withdrew_does_not_come_back_with_a_restart() {
    let node = Node::start().await;
    let source = Source::default();
    let url = source.listen().await;
    let all = json!({ "new": [ban(1, "192.0.2.1", "4h"), ban(2, "192.0.2.2", "4h"), ban(3, "192.0.2.3", "4h")], "deleted": null });
    source.say(StatusCode::OK, all);
    let running = import(&node, &url, "sesame");
    until("all are banned", || banned(&node).len() == 3).await;
    until("it is told", || running.importer.status().decisions == 3).await;
    drop(running);
    let one = node
        .fleet
        .list(now_ms(), usize::MAX)
        .into_iter()
        .find(|d| d.actor.to_string() == "192.0.2.1")
        .unwrap();
    node.fleet.withdraw(one.actor.clone(), "ours").unwrap();

    // Meanwhile the source has let the third one go. The second is ours already.
    let kept: Vec<_> = node
        .fleet
        .list(now_ms(), usize::MAX)
        .into_iter()
        .filter(|d| d.actor.to_string() == "192.0.2.2")
        .collect();
    let all = json!({ "new": [ban(1, "192.0.2.1", "4h"), ban(2, "192.0.2.2", "4h")], "deleted": null });
    source.say(StatusCode::OK, all);
    let running = import(&node, &url, "sesame");
    until("it was read", || running.importer.status().read_at_ms.is_some()).await;
    assert_eq!(node.fleet.list(now_ms(), usize::MAX), kept);
    assert_eq!(running.importer.status().skipped.as_deref(), Some("1 withdrawn or refused here"));
    // A new order of the source is another matter.
    source.say(StatusCode::OK, json!({ "new": [ban(7, "192.0.2.1", "8h")], "deleted": null }));
    until("it is banned again", || banned(&node) == set(["192.0.2.1", "192.0.2.2"])).await;
}

#[tokio::test]
async fn what_was_passed_on_before_a_restart_is_not_written_anew() {
    let node = Node::start().await;
    let source = Source::default();
    let url = source.listen().await;
    let reason =
        format!("crowdsec:cscli/manual via {}", url.trim_start_matches("http://").trim_end_matches('/'));
    let before = |text: &str, hours: u64| {
        let (actor, kind) = (Actor::ip(text.parse().unwrap()), DecisionKind::Ban);
        let order =
            NewDecision { actor, kind, for_ms: hours * 3_600_000, reason: reason.clone(), evidence: None };
        node.fleet.pass_on(order).unwrap()
    };
    let (young, old) = (before("192.0.2.1", 13), before("192.0.2.2", 11));
    source.say(
        StatusCode::OK,
        json!({ "new": [ban(1, "192.0.2.1", "168h"), ban(2, "192.0.2.2", "168h")], "deleted": null }),
    );
    let running = import(&node, &url, "sesame");
    until("both are taken over", || running.importer.status().decisions == 2).await;
    assert_eq!(node.fleet.find(young.id), Some(young), "renewed in its time");
    assert_eq!(node.fleet.find(old.id), None, "renewed now");
    assert_eq!(banned(&node), set(["192.0.2.1", "192.0.2.2"]));
}

#[tokio::test]
async fn there_are_no_more_than_the_limit_and_none_of_our_own() {
    let node = Node::start().await;
    let source = Source::default();
    let url = source.listen().await;
    let mut own = ban(9, "203.0.113.1", "4h");
    own["origin"] = json!("phalanx");
    let many: Vec<Value> =
        std::iter::once(own).chain((1..=5).map(|n| ban(n, &format!("192.0.2.{n}"), "4h"))).collect();
    source.say(StatusCode::OK, json!({ "new": many, "deleted": null }));
    let running = import(&node, &url, "sesame");
    until("it was read", || running.importer.status().read_at_ms.is_some()).await;
    assert_eq!(banned(&node), set(["192.0.2.1", "192.0.2.2", "192.0.2.3"]));
    assert_eq!(running.importer.status().skipped.as_deref(), Some("2 over the limit, 1 made by Phalanx"));
}
