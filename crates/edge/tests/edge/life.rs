//! Plans swapped, hosts found, workers started and drained.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use phalanx_decide::DecidePlan;
use phalanx_edge::{AppPlan, EdgePlan, Gently};
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, Upstream, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_swap_drops_nothing_and_holds_for_the_next_request() {
    let node = Node::plain().await;
    let other = Upstream::start().await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.text(), "hello");
    let mut waiting = node.connect().await;
    waiting.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let state = Arc::clone(&node.upstream.state);
    eventually("the request waits", || state.waiting.load(Ordering::SeqCst) == 1).await;
    let app = AppPlan::forwarding("other", other.plan());
    node.plan.store(Arc::new(EdgePlan::new(2, DecidePlan::default(), vec![app])));
    assert_eq!(client.get("/").await.text(), "hello");
    assert_eq!(other.state.requests.load(Ordering::Relaxed), 1);
    state.gate.notify_one();
    assert_eq!(waiting.answer().await.text(), "through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_requests_and_closes_idle_connections() {
    let node = Node::plain().await;
    let mut idle = node.connect().await;
    assert_eq!(idle.get("/").await.head.status, 200);
    let mut waiting = node.connect().await;
    waiting.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let state = Arc::clone(&node.upstream.state);
    eventually("the request waits", || state.waiting.load(Ordering::SeqCst) == 1).await;
    let edge = node.edge.clone();
    let draining = tokio::spawn(async move { edge.drain(PATIENCE).await });
    assert!(idle.is_closed().await);
    state.gate.notify_one();
    let answer = waiting.answer().await;
    assert_eq!((answer.text().as_str(), answer.header("connection").as_deref()), ("through", Some("close")));
    timeout(PATIENCE, draining).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(node.address()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gentle_drain_lets_an_idle_connection_ask_once_more_and_says_that_it_was_the_last_time() {
    let node = Node::plain().await;
    let (mut asks, mut rests) = (node.connect().await, node.connect().await);
    assert_eq!(asks.get("/").await.head.status, 200);
    assert_eq!(rests.get("/").await.head.status, 200);
    let gently = Gently { told_within: Duration::ZERO, idle: Duration::from_millis(300) };
    let edge = node.edge.clone();
    let draining = tokio::spawn(async move { edge.drain_gently(PATIENCE, gently).await });
    eventually("it drains", || node.edge.sockets().unwrap().is_empty()).await;
    let answer = asks.get("/").await;
    assert_eq!((answer.text().as_str(), answer.header("connection").as_deref()), ("hello", Some("close")));
    assert!(asks.is_closed().await);
    assert!(rests.is_closed().await, "who does not ask is let go after a while");
    timeout(PATIENCE, draining).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_deadline() {
    let node = Node::plain().await;
    let mut waiting = node.connect().await;
    waiting.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let state = Arc::clone(&node.upstream.state);
    eventually("the request is there", || state.requests.load(Ordering::Relaxed) == 1).await;
    timeout(PATIENCE, node.edge.drain(Duration::from_millis(100))).await.unwrap();
    assert!(waiting.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_no_app_claims_is_misdirected() {
    let node = Node::start(|_, app| app.hosts = vec!["shop.test".into()]).await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.text(), "hello");
    client.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_share_a_port_that_the_kernel_chose() {
    let node = Node::start(|settings, _| {
        settings.workers = 3;
        settings.listen.push("[::1]:0".parse().unwrap());
    })
    .await;
    assert_eq!(node.edge.local_addrs().len(), 2);
    let mut clients = Vec::new();
    for n in 0..60 {
        let mut client = node.connect().await;
        if n % 2 == 1 {
            client.stream = tokio::net::TcpStream::connect(node.edge.local_addrs()[1]).await.unwrap();
        }
        assert_eq!(client.get("/").await.text(), "hello");
        clients.push(client);
    }
    for counters in node.edge.counters() {
        assert!(counters.requests.load(Ordering::Relaxed) > 0, "a worker got nothing");
    }
}
