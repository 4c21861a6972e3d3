//! Requests through the API: searched, counted over time, and who was refused most.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use phalanx_learn::IncidentId;
use phalanx_model::lanes::Lanes;
use phalanx_model::{AccessEvent, Action, Clock, LedgerEntry, LedgerKind, Reason, SystemClock, Verdict};
use phalanx_record::{By, Copies, History, RecordSettings, Recorder, TrafficQuery};
use phalanx_trust::Sealer;
use serde_json::{Value, json};

use crate::support::*;

fn of(app: &str, n: u64, change: impl FnOnce(&mut AccessEvent)) -> AccessEvent {
    let mut event = AccessEvent { app: app.into(), at_ms: SystemClock.now_ms(), ..access(n) };
    change(&mut event);
    event
}

async fn searched() -> Node {
    let node = Node::start().await;
    node.refuse([
        of("shop", 1, |_| {}),
        of("shop", 2, |event| event.method = "POST".into()),
        of("blog", 3, |event| event.status = 429),
        of("blog", 4, |event| event.target = "/Posts/ünlike?x=%22".into()),
        of("shop", 5, |event| event.verdict.action = Action::Observe),
    ])
    .await;
    node
}

fn ids(rows: &Value) -> Vec<Value> {
    rows.as_array().unwrap().iter().map(|row| row["id"].clone()).collect()
}

#[tokio::test]
async fn requests_are_searched_by_all_that_they_are_known_by() {
    let node = searched().await;
    let (at, incident) = (id(3).at_ms(), IncidentId(7));
    for (query, expected) in [
        ("app=blog".to_owned(), vec![4, 3]),
        ("app=none".to_owned(), vec![]),
        ("status=429".to_owned(), vec![3]),
        ("status=4xx&app=blog".to_owned(), vec![4, 3]),
        ("method=POST".to_owned(), vec![2]),
        ("country=NL".to_owned(), vec![]),
        ("q=POSTS%2F%C3%BCnlike".to_owned(), vec![4]),
        ("q=shop.EXAMPLE&app=shop&action=observe".to_owned(), vec![5]),
        // A secret is masked before it is kept, and so cannot be found.
        ("q=hunter2secret".to_owned(), vec![]),
        (format!("until_ms={at}"), vec![2, 1]),
        (format!("since_ms={at}&until_ms={}", at + 1), vec![3]),
        (format!("incident={incident}"), vec![2]),
        (format!("incident={incident}&app=blog"), vec![]),
    ] {
        let answer = node.get(&format!("/api/v1/events?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text);
        let expected: Vec<Value> = expected.into_iter().map(|n| json!(id(n).to_string())).collect();
        assert_eq!(ids(&answer.json()), expected, "{query}");
    }
    for (query, word) in [
        ("status=4x", "neither like 404"),
        ("country=Holland", "write NL"),
        ("q=", "1 to 256 bytes"),
        ("until_ms=soon", "no number"),
    ] {
        let answer = node.get(&format!("/api/v1/events?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text.contains(word), "{query}: {}", answer.text);
    }
    let unknown = node.get(&format!("/api/v1/events?incident={}", IncidentId(8))).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_next_page_is_linked_until_there_is_none() {
    let node = searched().await;
    let mut path = String::from("/api/v1/events?limit=2&q=%2Fsearch");
    let mut seen = Vec::new();
    loop {
        let page = node.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        seen.extend(ids(&page.json()));
        let Some(link) = page.headers.get(header::LINK) else { break };
        let link = link.to_str().unwrap();
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    let expected: Vec<Value> = [5, 3, 2, 1].map(|n| json!(id(n).to_string())).into();
    assert_eq!(seen, expected);
}

/// What is answered once so many requests are counted.
async fn counted(node: &Node, path: &str, requests: u64) -> Value {
    let counted = async {
        loop {
            let answer = node.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
            let seen = answer.json();
            if seen["totals"]["requests"] == requests {
                break seen;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.unwrap_or_else(|_| panic!("{path}"))
}

#[tokio::test]
async fn all_requests_are_counted_over_time() {
    let node = searched().await;
    for n in 10..14 {
        let verdict = Verdict::allow(Reason::Clean);
        let passed = of("shop", n, |event| {
            (event.verdict, event.status) = (verdict, 200 + 100 * u16::try_from(n % 4).unwrap())
        });
        node.events.access(Box::new(passed));
    }
    // What is too old is not kept, so these came just now.
    let now = SystemClock.now_ms();
    let time = format!("from_ms={}&to_ms={}", now - 300_000, now + 300_000);
    let seen = counted(&node, &format!("/api/v1/traffic?{time}&points=1"), 9).await;
    assert_eq!(
        seen["totals"],
        json!({ "requests": 9, "refused": 4, "challenged": 0, "throttled": 0, "observed": 1, "errors": 1, "dropped": 0 })
    );
    let keys = |seen: &Value| -> Vec<(String, u64)> {
        let series = seen["series"].as_array().unwrap().iter();
        series.map(|one| (one["key"].as_str().unwrap().to_owned(), one["total"].as_u64().unwrap())).collect()
    };
    let pairs = |pairs: &[(&str, u64)]| -> Vec<(String, u64)> {
        pairs.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect()
    };
    assert_eq!(keys(&seen), pairs(&[("allow", 4), ("deny", 4), ("observe", 1)]));
    assert_eq!(seen["answered"], json!([{ "site": "fra", "node": "a" }]));
    for (query, expected) in [
        ("by=app", pairs(&[("shop", 7), ("blog", 2)])),
        ("by=app&count=refused", pairs(&[("blog", 2), ("shop", 2)])),
        ("by=rule", pairs(&[("942100", 5)])),
        ("by=class", pairs(&[("detection_high", 5)])),
        ("by=country", pairs(&[("unknown", 9)])),
        ("by=node&fleet=true", pairs(&[("fra/a", 9)])),
        ("by=site&fleet=true", pairs(&[("fra", 9)])),
    ] {
        assert_eq!(
            keys(&counted(&node, &format!("/api/v1/traffic?{time}&{query}"), 9).await),
            expected,
            "{query}"
        );
    }
    let rules = counted(&node, &format!("/api/v1/traffic?{time}&by=rule"), 9).await;
    assert_eq!(rules["series"][0]["words"], json!("SQL injection"), "a number says little");
    let begins_ms = rules["begins_ms"].as_u64().unwrap();
    assert!(begins_ms.is_multiple_of(60_000) && (now - 180_000..=now).contains(&begins_ms), "{begins_ms}");
    let blog = counted(&node, &format!("/api/v1/traffic?{time}&by=status&app=blog"), 2).await;
    assert_eq!(keys(&blog), pairs(&[("4xx", 2)]));
    for (query, word) in [
        ("by=weather", "none of action"),
        ("count=some", "neither all nor refused"),
        ("fleet=1", "neither true nor false"),
        ("from_ms=2&to_ms=1", "not before"),
        ("points=many", "no number"),
    ] {
        let answer = node.get(&format!("/api/v1/traffic?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text.contains(word), "{query}: {}", answer.text);
    }
}

/// Another node of the site, which counted so many requests.
async fn other(name: &str, requests: u64) -> (Recorder, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let (lanes, readers) = Lanes::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut settings = RecordSettings::new(&dir.path().join("record"), "fra", name, sealer, clock);
    settings.traffic_every_ms = 5;
    let recorder = Recorder::open(settings, readers).unwrap();
    (0..requests).for_each(|n| lanes.access(Box::new(of("blog", n, |_| {}))));
    let (now, history) = (SystemClock.now_ms(), recorder.history());
    let query = TrafficQuery::new(now - 300_000, now + 300_000, 1, now, By::Node);
    let all = async {
        while history.traffic(&query).map_or(0, |traffic| traffic.totals.requests) != requests {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    (recorder, dir)
}

/// Copies all that a history has counted, under a name.
fn copy(history: &History, copies: &Copies, name: &str) {
    while let Some(batch) = history.counts_after(&copies.counts_mark(name, None).unwrap(), 40_000).unwrap() {
        copies.take_counts(name, None, &batch).unwrap();
    }
}

#[tokio::test]
async fn counts_of_a_node_that_is_gone_are_told_from_a_copy_and_never_twice() {
    let node = searched().await;
    let now = SystemClock.now_ms();
    let time = format!("from_ms={}&to_ms={}", now - 300_000, now + 300_000);
    counted(&node, &format!("/api/v1/traffic?{time}"), 5).await;
    for lost in [3, 4] {
        // It lost its disk, came back under its name, and is lost again.
        let (recorder, dir) = other("b", lost).await;
        copy(&recorder.history(), &node.copies, "b");
        copy(&recorder.history(), &node.copies, "b-as-it-was-called-before");
        drop((recorder, dir));
    }
    copy(&node.recorder.history(), &node.copies, "a-as-it-was-called-before");
    let alone = counted(&node, &format!("/api/v1/traffic?{time}"), 5).await;
    assert_eq!(alone.get("copied"), None);
    let all = counted(&node, &format!("/api/v1/traffic?{time}&fleet=true&by=app"), 12).await;
    let series = |seen: &Value| -> Vec<(Value, Value)> {
        let series = seen["series"].as_array().unwrap().iter();
        series.map(|one| (one["key"].clone(), one["total"].clone())).collect()
    };
    assert_eq!(series(&all), [(json!("blog"), json!(9)), (json!("shop"), json!(3))]);
    let b = json!([{ "site": "fra", "node": "b" }]);
    assert_eq!((&all["copied"], &all["silent"]), (&b, &json!([])));
    let nodes = counted(&node, &format!("/api/v1/traffic?{time}&fleet=true&by=node"), 12).await;
    assert_eq!(series(&nodes), [(json!("fra/b"), json!(7)), (json!("fra/a"), json!(5))]);
    let sites = counted(&node, &format!("/api/v1/traffic?{time}&fleet=true&by=site"), 12).await;
    assert_eq!(series(&sites), [(json!("fra"), json!(12))]);
    counted(&node, &format!("/api/v1/traffic?{time}&fleet=true&app=shop"), 3).await;
    let report = node.get(&format!("/api/v1/report?{time}&fleet=true")).await.json();
    assert_eq!((&report["totals"]["requests"], &report["copied"]), (&json!(12), &b));
    let steps = report["over_time"].as_array().unwrap().iter();
    assert_eq!(steps.map(|step| step["requests"].as_u64().unwrap()).sum::<u64>(), 12);
    let csv = node.get(&format!("/api/v1/report?{time}&fleet=true&format=csv")).await.text;
    assert!(csv.contains(r#""fra/b","told from a copy""#), "{csv}");
}

#[tokio::test]
async fn the_clients_refused_most_come_first() {
    let node = searched().await;
    node.refuse([of("blog", 20, |event| event.client = "2001:db8::7".parse().unwrap())]).await;
    let time = format!("from_ms={}&to_ms={}&points=1", id(0).at_ms(), id(0).at_ms() + 60_000);
    let seen = node.get(&format!("/api/v1/traffic/actors?{time}")).await.json();
    let steps = (seen["to_ms"].as_u64().unwrap() - seen["from_ms"].as_u64().unwrap())
        / seen["step_ms"].as_u64().unwrap();
    let client = |client: &str, refused: u64, last: u64| {
        let mut points = vec![0; usize::try_from(steps).unwrap()];
        points[0] = refused;
        json!({ "client": client, "refused": refused, "points": points, "last_ms": id(last).at_ms(), "rules": [942_100] })
    };
    assert_eq!(seen["clients"], json!([client("203.0.113.9", 4, 4), client("2001:db8::7", 1, 20)]));
    let blog = node.get(&format!("/api/v1/traffic/actors?{time}&app=blog")).await.json();
    assert_eq!(blog["clients"][0], client("203.0.113.9", 2, 4));
    let wrong = node.get("/api/v1/traffic/actors?by=app").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_worth_doing_is_ranked_with_why_and_how() {
    let node = searched().await;
    let fixes = node.get("/api/v1/fixes").await;
    assert_eq!(fixes.status, StatusCode::OK, "{}", fixes.text);
    let fixes = fixes.json();
    let fixes = fixes.as_array().unwrap();
    assert!(fixes.is_sorted_by_key(|fix| std::cmp::Reverse(fix["weight"].as_u64())), "{fixes:?}");
    let accounts = fixes.iter().find(|fix| fix["id"] == "no-operators").unwrap();
    assert_eq!(accounts["command"], "phalanx operator add NAME --role owner");
    assert!(accounts["why"].as_str().unwrap().contains("the audit cannot tell who it was"));
}

#[tokio::test]
async fn the_audit_tells_what_the_ledger_holds() {
    let node = Node::start().await;
    for (n, by) in [(1, Some("operator ann")), (2, None)] {
        let by = by.map(str::to_owned);
        let kind = LedgerKind::OperatorAction {
            action: format!("action {n} (by {})", by.as_deref().unwrap_or("bob")),
            by,
        };
        node.events.ledger(LedgerEntry { at_ms: n, kind }).unwrap();
    }
    let mut changed = node.recorder.status().subscribe();
    let page = loop {
        let page = node.get("/api/v1/audit").await.json();
        if page["chain"]["length"] == 2 {
            break page;
        }
        changed.changed().await.unwrap();
    };
    let told: Vec<_> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["seq"], &one["by"], &one["words"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(2), &json!("bob"), &json!("action 2")),
            (&json!(1), &json!("operator ann"), &json!("action 1"))
        ]
    );
    assert_eq!((&page["chain"]["ok"], &page["chain"]["head"]), (&json!(true), &page["entries"][0]["hash"]));
    let ann = node.get("/api/v1/audit?by=ann&kind=operator_action").await.json();
    assert_eq!(ann["entries"].as_array().unwrap().len(), 1);
    assert_eq!(node.get("/api/v1/audit?before=2").await.json()["entries"][0]["seq"], 1);
    for query in ["kind=gossip", "before=x", "page=2"] {
        assert_eq!(node.get(&format!("/api/v1/audit?{query}")).await.status, StatusCode::BAD_REQUEST);
    }
}
