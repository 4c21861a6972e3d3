//! Requests whose framing is not strict HTTP.

use std::sync::atomic::Ordering;

use phalanx_model::FramingFault;

use crate::support::{Node, eventually, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_recorded_and_never_forwarded() {
    let mut node = Node::plain().await;
    let cases: &[(&str, u16, FramingFault)] = &[
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            FramingFault::LengthAndTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
            400,
            FramingFault::RepeatedLength,
        ),
        ("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400, FramingFault::BareLineFeed),
        ("GET / HTTP/1.1\r\n\r\n", 400, FramingFault::MissingHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, FramingFault::RepeatedHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400, FramingFault::FoldedHeader),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, FramingFault::BadVersion),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400, FramingFault::BadVersion),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            FramingFault::BadTransferEncoding,
        ),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 400, FramingFault::BadTarget),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", 400, FramingFault::ControlByte),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n",
            413,
            FramingFault::BodyTooLarge,
        ),
    ];
    for (wire, status, fault) in cases {
        let mut client = node.connect().await;
        client.send(wire).await;
        let answer = client.answer().await;
        assert_eq!(answer.head.status, *status, "{wire:?}");
        assert_eq!(answer.header("connection").as_deref(), Some("close"), "{wire:?}");
        assert!(client.is_closed().await, "{wire:?}");
        let (event, _, faults) = node.security_request().await;
        assert_eq!((event.status, faults.first()), (*status, Some(fault)), "{wire:?}");
        assert_eq!(Some(event.id.to_string()), answer.header("x-request-id"));
    }
    let large = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(40_000));
    let mut client = node.connect().await;
    client.send(large).await;
    assert_eq!(client.answer().await.head.status, 431);
    assert_eq!(node.upstream.state.requests.load(Ordering::Relaxed), 0);
    let malformed = || node.count(|counters| &counters.requests_malformed);
    eventually("all are counted", || malformed() == cases.len() as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_chunk_ends_the_request() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        .await;
    assert_eq!(client.answer().await.head.status, 400);
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_while_it_streams() {
    let node = Node::start(|_, app| app.limits.body_bytes = 100_000).await;
    let mut client = node.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = [b"c350\r\n", pattern(50_000).as_slice(), b"\r\n"].concat();
    for _ in 0..3 {
        client.send(&chunk).await;
    }
    assert_eq!(client.answer().await.head.status, 413);
}
