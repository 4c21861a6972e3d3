//! Listeners behind balancers: whom a PROXY header names is the client, from the first byte after it.

use phalanx_edge::EdgeSettings;
use phalanx_model::counters::ProxyFailure;
use phalanx_model::{PrefixSet, Reason};

use crate::support::{Client, Node, eventually};

fn networks(text: &str) -> PrefixSet {
    [text.parse().unwrap()].into_iter().collect()
}

async fn behind(balancers: &str, change: impl FnOnce(&mut EdgeSettings)) -> Node {
    Node::start(|settings, _| {
        settings.proxied = vec![Some(networks(balancers))];
        settings.h2c = true;
        change(settings);
    })
    .await
}

async fn introduced(node: &Node, header: &[u8]) -> Client {
    let mut client = node.connect().await;
    client.send(header).await;
    client
}

fn named(ip: &str) -> Vec<u8> {
    format!("PROXY TCP4 {ip} 192.0.2.1 4711 443\r\n").into_bytes()
}

/// A header of version 2 for a client at `203.0.113.last`.
fn binary(command: u8, last: u8) -> Vec<u8> {
    let body = [203, 0, 113, last, 192, 0, 2, 1, 0x12, 0x34, 1, 0xbb];
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 12][..], &body].concat()
}

fn failures(node: &Node, failure: ProxyFailure) -> u64 {
    node.count(|counters| &counters.proxy_failures[failure as usize])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_whom_the_header_names() {
    let mut node = behind("127.0.0.0/8", |_| ()).await;
    for (header, expected) in [
        (named("203.0.113.9"), "203.0.113.9"),
        (binary(0x21, 7), "203.0.113.7"),
        (binary(0x20, 7), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n".to_vec(), "2001:db8::9"),
    ] {
        let mut client = introduced(&node, &header).await;
        for _ in 0..2 {
            let text = client.get("/head").await.text();
            assert!(text.contains(&format!("X-Forwarded-For: {expected}\r\n")), "{text}");
            let event = node.access().await;
            let said =
                (event.client.to_string(), event.peer.to_string(), event.balancer.unwrap().to_string());
            assert_eq!(said, (expected.to_owned(), expected.to_owned(), "127.0.0.1".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_pieces_and_a_request_in_its_last_one_are_read() {
    let node = behind("127.0.0.0/8", |_| ()).await;
    let mut client = node.connect().await;
    let bytes = [binary(0x21, 7), b"GET /head HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()].concat();
    for piece in bytes.chunks(9) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert!(client.answer().await.text().contains("X-Forwarded-For: 203.0.113.7\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_nobody_is_served() {
    let node = behind("127.0.0.0/8", |_| ()).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        let mut client = node.connect().await;
        client.send(bytes).await;
        assert!(client.is_closed().await);
    }
    eventually("they are counted", || failures(&node, ProxyFailure::Malformed) == 4).await;
    drop(introduced(&node, b"PROXY TCP4 1.1.1.1 ").await);
    eventually("it is counted", || failures(&node, ProxyFailure::Closed) == 1).await;
    assert_eq!(node.upstream.state.requests.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_balancers_are_listened_to() {
    let node = behind("192.0.2.0/24", |_| ()).await;
    let mut client = node.connect().await;
    assert!(client.is_closed().await);
    eventually("it is counted", || failures(&node, ProxyFailure::Stranger) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_balancer_a_header_is_no_request() {
    let mut node = Node::plain().await;
    let mut client = introduced(&node, &named("203.0.113.9")).await;
    client.send("Host: a\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 400);
    let (event, ..) = node.security_request().await;
    assert_eq!((event.client.to_string(), event.balancer), ("127.0.0.1".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_and_limits_are_the_clients() {
    let mut node = behind("127.0.0.0/8", |settings| settings.limits.connections_per_actor = 2).await;
    node.ban("203.0.113.9");
    node.ban("127.0.0.1");
    let mut banned = introduced(&node, &named("203.0.113.9")).await;
    assert_eq!(banned.get("/").await.head.status, 403);
    let (event, ..) = node.security_request().await;
    assert!(matches!(event.verdict.reason, Reason::Decision { .. }), "{:?}", event.verdict);
    // The balancer's own checks are served, whatever stands against its address.
    let mut check = introduced(&node, &binary(0x20, 0)).await;
    assert_eq!(check.get("/").await.head.status, 200);

    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = introduced(&node, &named("198.51.100.1")).await;
        assert_eq!(client.get("/").await.head.status, 200);
        open.push(client);
    }
    assert!(introduced(&node, &named("198.51.100.1")).await.is_closed().await);
    eventually("it is counted", || failures(&node, ProxyFailure::Limit) == 1).await;
    let mut other = introduced(&node, &named("198.51.100.2")).await;
    assert_eq!(other.get("/").await.head.status, 200);
    drop(open.pop());
    // Its place is free again, once the node has noticed.
    loop {
        let mut client = introduced(&node, &named("198.51.100.1")).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        if client.read_answer(false).await.is_some() {
            break;
        }
    }
    let mut idle = introduced(&node, &named("198.51.100.3")).await;
    assert_eq!(idle.get("/").await.head.status, 200);
    node.ban("198.51.100.3");
    assert!(idle.is_closed().await);
}
