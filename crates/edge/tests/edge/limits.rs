//! Time and number of what a client or an upstream may take.

use std::time::{Duration, Instant};

use phalanx_model::FramingFault;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_silent_is_a_504() {
    let node = Node::start(|_, app| app.limits.upstream_head_ms = 200).await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/silent").await.head.status, 504);
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_is_cut_although_bytes_keep_coming() {
    let mut node = Node::start(|settings, _| settings.limits.head_ms = 400).await;
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let started = Instant::now();
    let answer = loop {
        tokio::select! {
            answer = client.read_answer(false) => break answer.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        client.send("X: 1\r\n").await;
    };
    assert_eq!(answer.head.status, 408);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let (event, _, faults) = node.security_request().await;
    assert_eq!((event.status, faults), (408, vec![FramingFault::HeadTimeout]));
    // A connection that says nothing at all ends without a reply.
    let node = Node::start(|settings, _| settings.limits.idle_ms = 200).await;
    assert!(node.connect().await.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut() {
    let node = Node::start(|settings, _| settings.limits.write_gap_ms = 300).await;
    let mut client = node.connect().await;
    client.send("GET /large-length HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the connection is closed", || node.count(|counters| &counters.connections_closed) == 1).await;
    assert!(timeout(PATIENCE, client.read_answer(false)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_has_a_limited_number_of_connections() {
    let node = Node::start(|settings, _| settings.limits.connections_per_actor = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = node.connect().await;
        assert_eq!(client.get("/").await.head.status, 200);
        held.push(client);
    }
    assert!(node.connect().await.is_closed().await);
    drop(held);
    eventually("places are given back", || node.edge.tables().connections.total() == 0).await;
    assert_eq!(node.connect().await.get("/").await.head.status, 200);
}
