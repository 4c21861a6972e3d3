//! Rate limits in front of an app.

use std::sync::atomic::Ordering;

use phalanx_decide::rate::{Pace, RateKeyPart, RateRule};
use phalanx_decide::{DecidePlan, Mode};
use phalanx_edge::AppPlan;
use phalanx_model::{Action, Reason};

use crate::support::{Node, Upstream};

fn limit(name: &str, burst: u32) -> RateRule {
    RateRule::new("shop", name, Pace::new(burst, 3_600_000, burst)).by([RateKeyPart::Ip])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_beyond_the_limit_gets_429_and_when_to_come_back() {
    let mut node = Node::start(|_, app| app.rates = vec![limit("all", 2)]).await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.head.status, 200);
    assert_eq!(client.get("/").await.head.status, 200);
    let refused = client.get("/").await;
    assert_eq!(refused.head.status, 429);
    assert_eq!(refused.header("retry-after").as_deref(), Some("1800"));
    assert_eq!(refused.header("cache-control").as_deref(), Some("no-store"));
    assert!(refused.text().contains(&refused.header("x-request-id").unwrap()));
    let (event, ..) = node.security_request().await;
    let Reason::RateLimit(excess) = &event.verdict.reason else { panic!("{:?}", event.verdict) };
    assert_eq!((event.status, event.verdict.action, event.upstream_us), (429, Action::Deny, 0));
    assert_eq!((&*excess.limit, excess.key.as_str(), excess.here), ("all", "ip 127.0.0.1", 2));
    assert_eq!(client.get("/").await.head.status, 429, "the connection stays");
    let counts = node.plan.load().apps()[0].rates[0].counts.clone();
    assert_eq!((counts.admitted.load(Ordering::Relaxed), counts.refused.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_who_does_not_stop_does_not_fill_the_history() {
    let mut node = Node::start(|_, app| app.rates = vec![limit("all", 1)]).await;
    let mut client = node.connect().await;
    for _ in 0..201 {
        client.get("/").await;
    }
    let mut kept = Vec::new();
    while kept.last() != Some(&128) {
        let (event, ..) = node.security_request().await;
        let Reason::RateLimit(excess) = &event.verdict.reason else { panic!("{:?}", event.verdict) };
        kept.push(excess.over);
    }
    let expected: Vec<u32> = (1..=16).chain([32, 64, 128]).collect();
    assert_eq!(kept, expected);
    assert_eq!(node.access().await.status, 200);
    for _ in 0..200 - 19 {
        let repeated = node.access().await;
        assert_eq!((repeated.status, repeated.verdict.action), (429, Action::Deny));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_count_together() {
    let node = Node::start(|_, app| app.rates = vec![limit("all", 5)]).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(node.connect().await.get("/").await.head.status);
    }
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 5, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_about_its_paths_however_they_are_written() {
    let node = Node::start(|_, app| {
        app.rates = vec![limit("login", 1).about(["/login"], ["POST"])];
    })
    .await;
    let mut client = node.connect().await;
    let mut post = async |path: &str| {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        client.answer().await.head.status
    };
    assert_ne!(post("/login").await, 429);
    for path in ["/login", "/%6cogin", "/x/..//login?a=b", "/login/", "http://a/login"] {
        assert_eq!(post(path).await, 429, "{path}");
    }
    assert_ne!(post("/other").await, 429);
    assert_ne!(client.get("/login").await.head.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_passes_on_and_records() {
    let check = async |change: fn(&mut AppPlan)| {
        let mut node = Node::start(|_, app| {
            app.rates = vec![limit("all", 1)];
            change(app);
        })
        .await;
        let mut client = node.connect().await;
        assert_eq!(client.get("/").await.head.status, 200);
        assert_eq!(client.get("/").await.head.status, 200);
        let (event, ..) = node.security_request().await;
        assert_eq!((event.verdict.action, event.status), (Action::Observe, 200));
        assert!(matches!(event.verdict.reason, Reason::RateLimit(_)));
    };
    check(|app| app.rates[0].observes = true).await;
    check(|app| app.mode = Mode::Observe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_allow_list_is_not_counted_and_clients_behind_a_forwarder_are_told_apart() {
    let decide = DecidePlan {
        allow: ["203.0.113.7/32".parse().unwrap()].into_iter().collect(),
        ..DecidePlan::default()
    };
    let upstream = Upstream::start().await;
    let change = |app: &mut AppPlan| {
        app.rates = vec![limit("all", 1)];
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    };
    let node = Node::before(upstream, |_, app| change(app), decide);
    let mut client = node.connect().await;
    let mut status = async |from: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n")).await;
        client.answer().await.head.status
    };
    assert_eq!((status("203.0.113.7").await, status("203.0.113.7").await), (200, 200));
    assert_eq!((status("203.0.113.8").await, status("203.0.113.8").await), (200, 429));
    assert_eq!(status("203.0.113.9").await, 200);
}
