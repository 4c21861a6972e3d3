//! The edge over real sockets, between a client and an upstream.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use phalanx_decide::DecidePlan;
use phalanx_edge::{AppPlan, EdgePlan, UpstreamPlan};
use phalanx_model::{Action, FramingFault, Reason};
use support::{Node, PATIENCE, Upstream, eventually, pattern};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

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
    assert_eq!(node.upstream.state.connections.load(Ordering::Relaxed), 1);
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
    let nowhere: SocketAddr = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut node =
        Node::start(|_, app| app.upstream = UpstreamPlan::new("127.0.0.1", nowhere.port(), "")).await;
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    let answer = client.answer().await;
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(answer.head.status, 502);
    assert_eq!(answer.text(), format!("{{\"error\":\"upstream_unavailable\",\"request_id\":\"{id}\"}}\n"));
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
async fn an_upstream_that_is_silent_is_a_504() {
    let node = Node::start(|_, app| app.limits.upstream_head_ms = 200).await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/silent").await.head.status, 504);
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
    let status = async |client: &mut support::Client, forwarded: &str| {
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
    assert_eq!(node.count(|counters| &counters.requests_malformed), cases.len() as u64 + 1);
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
