//! What passes between client and upstream, and how.

use std::sync::atomic::Ordering;

use phalanx_edge::{UpstreamGroup, UpstreamPlan};
use phalanx_model::{Action, Reason};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_forwarded_and_its_connections_are_reused() {
    let mut node = Node::plain().await;
    let mut client = node.connect().await;
    for _ in 0..20 {
        let answer = client.get("/").await;
        assert_eq!((answer.head.status, answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.header("x-request-id").unwrap().len(), 26);
    }
    assert_eq!(node.upstream.state.connections.load(Ordering::Relaxed), 1);
    let event = node.access().await;
    assert_eq!((event.method.as_str(), event.target.as_str(), event.status), ("GET", "/", 200));
    assert_eq!((event.verdict.action, event.response_bytes), (Action::Allow, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_go_through_in_both_framings() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    let body = pattern(10 << 20);
    assert!(client.get("/large-length").await.body == body);
    assert!(client.get("/large-chunked").await.body == body);

    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send([head.as_bytes(), &body].concat()).await;
    assert!(client.answer().await.body == body);

    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for part in body.chunks(77_777) {
        client.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()).await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.answer().await.body == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_stream_at_once() {
    let node = Node::plain().await;
    let body = pattern(10 << 20);
    let client = node.connect().await;
    let (read, mut write) = client.stream.into_split();
    let sent = body.clone();
    let sending = tokio::spawn(async move {
        let head = format!("POST /stream-echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len());
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut echoed = Vec::new();
    let mut reader = tokio::io::BufReader::new(read);
    timeout(PATIENCE, async {
        use tokio::io::{AsyncBufReadExt, AsyncReadExt};
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).await.unwrap();
        }
        loop {
            line.clear();
            reader.read_line(&mut line).await.unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).await.unwrap();
            echoed.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    })
    .await
    .unwrap();
    sending.await.unwrap();
    assert!(echoed == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    let mut wire = String::new();
    for n in 0..10 {
        wire.push_str(&format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{n}"));
    }
    client.send(wire).await;
    for n in 0..10 {
        assert_eq!(client.answer().await.text(), n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_body_leave_the_connection_usable() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("HEAD /for-head HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.answer_to(true).await;
    assert_eq!(answer.header("content-length").unwrap(), "1234");
    assert_eq!(client.get("/not-modified").await.head.status, 304);
    assert_eq!(client.get("/no-content").await.head.status, 204);
    assert_eq!(client.get("/").await.text(), "hello");
    // Of the upstream's, the one whose HEAD was answered serves nothing else.
    assert_eq!(node.upstream.state.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_are_passed_on() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hints = client.head_only().await;
    assert_eq!(hints.status, 103);
    assert!(hints.headers().any(|(name, value)| name == b"Link" && value == b"</a.css>"));
    assert_eq!(client.answer().await.text(), "hinted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_is_told_to_continue() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.head_only().await.status, 100);
    client.send("body").await;
    assert_eq!(client.answer().await.text(), "body");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 417);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http10_client_gets_a_body_that_ends_with_the_connection() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("GET /large-chunked HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.body == pattern(10 << 20));

    let mut client = node.connect().await;
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(client.answer().await.header("connection").unwrap(), "keep-alive");
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_the_upstreams_connection_is_chunked() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    let answer = client.get("/until-close").await;
    assert_eq!(
        (answer.text().as_str(), answer.header("transfer-encoding").as_deref()),
        ("until the end", Some("chunked"))
    );
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_response_is_seen_as_truncated() {
    let node = Node::plain().await;
    for path in ["/truncated", "/truncated-chunks"] {
        let mut client = node.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(timeout(PATIENCE, client.read_answer(false)).await.unwrap().is_none(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_one_hop_do_not_pass() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    let answer = client.get("/hop").await;
    assert_eq!(answer.header("x-hop"), None);
    assert_ne!(answer.header("x-request-id").unwrap(), "theirs");
    assert_eq!(answer.header("etag").unwrap(), "\"a\"");
    client
        .send("GET /head HTTP/1.1\r\nHost: a\r\nConnection: X-Mine\r\nX-Mine: 1\r\nx-kept: 2\r\n\r\n")
        .await;
    let seen = client.answer().await;
    let text = seen.text();
    assert!(!text.contains("X-Mine") && text.contains("x-kept: 2\r\n"), "{text}");
    assert!(text.contains(&format!("X-Request-Id: {}\r\n", seen.header("x-request-id").unwrap())), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_upstream_is_a_502_with_an_id() {
    // A port that was free a moment ago may be another test's node by now; nobody listens here.
    let mut node = Node::start(|_, app| {
        app.upstreams = UpstreamGroup::new(vec![UpstreamPlan::new("127.0.0.1", 1, "")]);
    })
    .await;
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    let answer = client.answer().await;
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(answer.head.status, 502);
    let expected = format!(
        "{{\"error\":\"upstream_unavailable\",\"request_id\":\"{id}\",\"type\":\"urn:phalanx:upstream_unavailable\",\
         \"title\":\"Service unavailable\",\"status\":502}}\n"
    );
    assert_eq!(answer.text(), expected);
    let event = node.access().await;
    assert_eq!((event.id.to_string(), event.status), (id, 502));
    assert!(matches!(event.verdict.reason, Reason::Upstream { .. }));
    // The connection is still good.
    assert_eq!(client.get("/").await.head.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_answers_badly_is_a_502() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    for path in ["/ambiguous", "/nonsense"] {
        assert_eq!(client.get(path).await.head.status, 502, "{path}");
    }
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_connection_is_replaced_where_repeating_is_safe() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/once").await.text(), "once");
    // The upstream reads this on the old connection and closes without an answer.
    assert_eq!(client.get("/once").await.text(), "once");
    assert_eq!(node.upstream.state.connections.load(Ordering::Relaxed), 2);
    client.send("POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_carried_and_each_side_closes_on_its_own() {
    let mut node = Node::plain().await;
    let mut client = node.connect().await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";
    client.send(upgrade).await;
    let head = client.head_only().await;
    assert_eq!(head.status, 101);
    assert!(head.headers().any(|(name, value)| name == b"Upgrade" && value == b"websocket"));
    client.send(" and late").await;
    while client.input.len() < "early and late".len() {
        assert!(client.fill().await > 0);
    }
    assert_eq!(&client.input[..], b"early and late");
    client.stream.shutdown().await.unwrap();
    while client.fill().await > 0 {}
    assert_eq!(&client.input[..], b"early and latebye");
    let event = node.access().await;
    assert_eq!((event.status, event.request_bytes, event.response_bytes), (101, 14, 17));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_as_they_come() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while !client.input.windows(9).any(|w| w == b"data: 1\n\n") {
        assert!(timeout(PATIENCE, client.fill()).await.unwrap() > 0);
    }
    node.upstream.state.gate.notify_one();
    let answer = client.answer().await;
    assert_eq!(answer.text(), "data: 1\n\ndata: 2\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_stream_of_events_is_noticed() {
    let mut node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head_only().await.status, 200);
    drop(client);
    assert_eq!(node.access().await.target, "/events");
}
