//! Who the client is, and what stands against it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use phalanx_model::Reason;

use crate::support::{Client, Node, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_ends_open_connections_at_once() {
    let mut node = Node::plain().await;
    let mut idle = node.connect().await;
    assert_eq!(idle.get("/").await.head.status, 200);
    let mut tunnel = node.connect().await;
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(tunnel.head_only().await.status, 101);
    let mut waiting = node.connect().await;
    waiting.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let state = Arc::clone(&node.upstream.state);
    eventually("the request waits", || state.waiting.load(Ordering::SeqCst) == 1).await;

    let banned_at = Instant::now();
    node.ban("127.0.0.1");
    assert!(idle.is_closed().await && tunnel.is_closed().await && waiting.is_closed().await);
    let took = banned_at.elapsed();
    assert!(took < Duration::from_secs(1), "connections closed after {took:?}");

    let mut late = node.connect().await;
    let answer = late.get("/").await;
    assert_eq!(answer.head.status, 403);
    assert!(answer.text().contains(&answer.header("x-request-id").unwrap()));
    assert!(late.is_closed().await);
    let (event, ..) = node.security_request().await;
    assert!(matches!(event.verdict.reason, Reason::Decision { .. }), "{:?}", event.verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_is_about_the_client_behind_a_trusted_forwarder() {
    let node =
        Node::start(|_, app| app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect())
            .await;
    let mut forwarder = node.connect().await;
    node.ban("203.0.113.9");
    node.ban("127.0.0.1");
    let status = async |client: &mut Client, forwarded: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n")).await;
        client.answer().await.head.status
    };
    assert_eq!(status(&mut forwarder, "198.51.100.1").await, 200);
    assert_eq!(status(&mut forwarder, "203.0.113.9").await, 403);
    let mut forwarder = node.connect().await;
    assert_eq!(status(&mut forwarder, "203.0.113.9, 198.51.100.1").await, 200);
    assert_eq!(forwarder.get("/").await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_fields_are_believed_only_from_trusted_networks() {
    let ask =
        "GET /head HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n";
    let mut stranger = Node::plain().await;
    let mut client = stranger.connect().await;
    client.send(ask).await;
    let text = client.answer().await.text();
    assert!(
        text.contains("X-Forwarded-For: 127.0.0.1\r\n") && text.contains("X-Forwarded-Proto: http\r\n"),
        "{text}"
    );
    assert_eq!(stranger.access().await.client.to_string(), "127.0.0.1");

    let mut trusted =
        Node::start(|_, app| app.trust_forwarded = ["127.0.0.1/32".parse().unwrap()].into_iter().collect())
            .await;
    let mut client = trusted.connect().await;
    client.send(ask).await;
    let text = client.answer().await.text();
    assert!(text.contains("X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n"), "{text}");
    assert!(text.contains("X-Forwarded-Proto: https\r\n"), "{text}");
    let event = trusted.access().await;
    assert_eq!(
        (event.client.to_string(), event.peer.to_string()),
        ("203.0.113.9".into(), "127.0.0.1".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_recorded() {
    let mut node = Node::plain().await;
    let mut client = node.connect().await;
    client
        .send(
            "GET /login?user=a&password=hunter2 HTTP/1.1\r\nHost: a\r\nReferer: http://a/?token=abc\r\n\
               Authorization: Basic c2VjcmV0\r\nCookie: session=c2VjcmV0\r\n\r\n",
        )
        .await;
    client.answer().await;
    let event = format!("{:?}", node.access().await);
    for secret in ["hunter2", "abc", "c2VjcmV0"] {
        assert!(!event.contains(secret), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_claims_in_a_forwarders_name_is_a_finding_and_no_more() {
    let mut node =
        Node::start(|_, app| app.trust_forwarded = ["192.0.2.0/24".parse().unwrap()].into_iter().collect())
            .await;
    let mut client = node.connect().await;
    client.send("GET /head HTTP/1.1\r\nHost: a\r\nX-Real-IP: 203.0.113.9\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200);
    assert!(!answer.text().contains("203.0.113.9"));
    let (event, signals, faults) = node.security_request().await;
    assert_eq!((event.client.to_string(), event.verdict.reason), ("127.0.0.1".to_owned(), Reason::Clean));
    assert_eq!((signals.len(), faults.len()), (1, 0));
    let found = &signals[0].matches[0];
    assert_eq!(
        (found.variable.as_str(), found.fragment.as_str()),
        ("REQUEST_HEADERS:X-Real-IP", "203.0.113.9")
    );
    assert_eq!(node.count(|counters| &counters.strikes), 0);
    client.get("/").await;
    assert_eq!(node.access().await.status, 200);
}
