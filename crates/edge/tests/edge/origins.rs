//! Upstreams with TLS and with HTTP/2: who is believed, what is spoken, what is carried, what is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use phalanx_decide::DecidePlan;
use phalanx_edge::tls::origin::Trust;
use phalanx_edge::{AppPlan, EdgeSettings, OriginPlan, UpstreamGroup, UpstreamPlan};
use phalanx_model::Reason as Why;
use phalanx_policy::balance::Check;
use phalanx_policy::{OriginTls, Protocol};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::http2::{Http2, answer, request};
use crate::support::{Node, Upstream, UpstreamState, eventually, pattern, serve};
use crate::tls::Authority;

/// An application behind TLS.
struct Secure {
    upstream: Upstream,
    authority: Authority,
    pin: [u8; 32],
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    resumed: AtomicU64,
    certificates: AtomicU64,
    streams: AtomicU64,
}

impl Secure {
    /// One with a certificate for these names. `asks`: for a certificate of clients, signed by its own authority.
    async fn start(names: &[&str], protocols: &[&str], asks: bool) -> Self {
        let authority = Authority::new();
        let (chain, key) = authority.issue(names);
        let pin = ParsedCertificate::try_from(&chain[0]).unwrap().subject_public_key_info();
        let pin = digest(&SHA256, &pin).as_ref().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = match asks {
            true => WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::clone(&provider))
                .build()
                .unwrap(),
            false => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream =
            Upstream { address: listener.local_addr().unwrap(), state: Arc::<UpstreamState>::default() };
        let (state, seen) = (Arc::clone(&upstream.state), Arc::<Seen>::default());
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state, seen) = (acceptor.clone(), Arc::clone(&state), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let session = stream.get_ref().1;
                    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                    seen.resumed.fetch_add(u64::from(resumed), Ordering::SeqCst);
                    let shown = session.peer_certificates().map_or(0, <[_]>::len);
                    seen.certificates.fetch_add(u64::from(shown > 0), Ordering::SeqCst);
                    match session.alpn_protocol() == Some(b"h2") {
                        true => serve_streams(stream, seen).await,
                        false => serve(stream, state).await,
                    }
                });
            }
        });
        Self { upstream, authority, pin, seen }
    }

    fn trust(&self) -> Trust {
        Trust::Roots(self.authority.roots())
    }

    /// A node in front of it that speaks TLS as these say.
    fn node(&self, tls: &OriginTls, trust: Trust, protocol: Protocol) -> Node {
        self.node_with(tls, trust, protocol, |_, _| ())
    }

    fn node_with(
        &self,
        tls: &OriginTls,
        trust: Trust,
        protocol: Protocol,
        change: impl FnOnce(&mut EdgeSettings, &mut AppPlan),
    ) -> Node {
        let tls = Some(Arc::new(OriginPlan::new(tls, trust).unwrap()));
        let server = UpstreamPlan { tls, protocol, ..self.upstream.plan() };
        let upstream = Upstream { address: self.upstream.address, state: Arc::clone(&self.upstream.state) };
        Node::before(
            upstream,
            |settings, app| {
                settings.h2c = true;
                app.upstreams = UpstreamGroup::new(vec![server]);
                change(settings, app);
            },
            DecidePlan::default(),
        )
    }
}

/// Serves streams as an application does.
async fn serve_streams(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: Arc<Seen>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let count = seen.streams.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(serve_stream(request, respond, count));
    }
}

async fn serve_stream(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, count: u64) {
    let (head, mut body) = request.into_parts();
    let ok = || Response::builder().status(200);
    let lines: String =
        head.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    match head.uri.path() {
        "/refuse" if count == 1 => respond.send_reset(Reason::REFUSED_STREAM),
        "/break" => {
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            stream.send_data("half".into(), false).unwrap();
            tokio::task::yield_now().await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "/only" => {
            let only = ok().header("content-type", "application/grpc").header("grpc-status", "5");
            respond.send_response(only.body(()).unwrap(), true).unwrap();
        }
        "/hints" => {
            let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
            respond.send_informational(hints).unwrap();
            respond.send_response(ok().body(()).unwrap(), true).unwrap();
        }
        "/head" => {
            let said = format!("{} {}\n{lines}", head.method, head.uri);
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            stream.send_data(said.into(), true).unwrap();
        }
        "/large" => {
            let mut stream = respond.send_response(ok().body(()).unwrap(), false).unwrap();
            let mut bytes = Bytes::from(pattern(4 << 20));
            while !bytes.is_empty() {
                stream.reserve_capacity(bytes.len());
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                let last = room >= bytes.len();
                stream.send_data(bytes.split_to(room.min(bytes.len())), last).unwrap();
            }
        }
        _ => {
            // Back as it comes, trailers with it.
            let mut stream = respond
                .send_response(ok().header("content-type", "application/grpc").body(()).unwrap(), false)
                .unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            let mut trailers = body.trailers().await.ok().flatten().unwrap_or_default();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("host", "evil.test".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_upstream_is_served_from_and_its_connection_kept() {
    let secure = Secure::start(&["127.0.0.1"], &[], false).await;
    let node = secure.node(&OriginTls::default(), secure.trust(), Protocol::Http1);
    let mut client = node.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    assert_eq!(client.get("/large-length").await.body, pattern(10 << 20));
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 300_000)).await;
    client.send(pattern(300_000)).await;
    assert_eq!(client.answer().await.body, pattern(300_000));
    assert_eq!(secure.upstream.state.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nobody_vouches_for_gets_no_request() {
    let secure = Secure::start(&["origin.test"], &[], false).await;
    let named = |name: &str| OriginTls { server_name: Some(name.into()), ..OriginTls::default() };
    let pinned = |pin| OriginTls { pins: vec![pin], ..named("origin.test") };
    let other = Authority::new();
    for (what, tls, trust, expected) in [
        ("its authority and name", named("origin.test"), secure.trust(), 200),
        ("another name", named("other.test"), secure.trust(), 502),
        ("the address, which is not in it", OriginTls::default(), secure.trust(), 502),
        ("another authority", named("origin.test"), Trust::Roots(other.roots()), 502),
        ("the key alone", pinned(secure.pin), Trust::PinsAlone, 200),
        ("another key", pinned([7; 32]), Trust::PinsAlone, 502),
        ("authority and key", pinned(secure.pin), secure.trust(), 200),
        ("authority and another key", pinned([7; 32]), secure.trust(), 502),
        ("key and another authority", pinned(secure.pin), Trust::Roots(other.roots()), 502),
        ("nothing", OriginTls::default(), Trust::Unverified, 200),
    ] {
        let mut node = secure.node(&tls, trust, Protocol::Http1);
        let answered = node.connect().await.get("/").await;
        assert_eq!(answered.head.status, expected, "{what}");
        if expected == 502 {
            let Why::Upstream { error } = node.access().await.verdict.reason else { panic!("{what}") };
            assert!(error.contains("TLS: invalid peer certificate"), "{what}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_its_own_certificate_where_policy_names_it() {
    let secure = Secure::start(&["127.0.0.1"], &[], true).await;
    let tls = OriginTls { client_certificate: Some("shop".into()), ..OriginTls::default() };
    let mut identities = None;
    let mut node = secure.node_with(&tls, secure.trust(), Protocol::Http1, |settings, _| {
        identities = Some(settings.identities.clone());
    });
    assert_eq!(node.connect().await.get("/").await.head.status, 502);
    let Why::Upstream { error } = node.access().await.verdict.reason else { panic!() };
    assert!(error.contains("this node has no certificate `shop`"), "{error}");
    let (chain, key) = secure.authority.issue(&["node.test"]);
    let key = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).unwrap();
    identities.unwrap().store([("shop".to_owned(), Arc::new(key))].into());
    assert_eq!(node.connect().await.get("/").await.text(), "hello");
    assert_eq!(secure.seen.certificates.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed_and_checks_go_the_same_way() {
    let secure = Secure::start(&["127.0.0.1"], &[], false).await;
    let node = secure.node_with(&OriginTls::default(), secure.trust(), Protocol::Http1, |_, app| {
        app.upstreams.health.check = Some(Check {
            path: "/".into(),
            host: None,
            interval_ms: 50,
            timeout_ms: 5_000,
            status: (200, 200),
            down_after: 1,
            up_after: 1,
        });
    });
    eventually("a resumed session", || secure.seen.resumed.load(Ordering::SeqCst) > 1).await;
    assert_eq!(node.plan.load().apps()[0].upstreams.report().endpoints[0].state.as_str(), "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_agreed_on_and_several_requests_share_a_connection() {
    let secure = Secure::start(&["127.0.0.1"], &["h2", "http/1.1"], false).await;
    let node = secure
        .node_with(&OriginTls::default(), secure.trust(), Protocol::Auto, |settings, _| settings.workers = 1);
    let mut client = node.connect().await;
    client.send("GET /head?a=b HTTP/1.1\r\nHost: Shop.test\r\nX-Custom: 1\r\nCookie: a=b\r\n\r\n").await;
    let text = client.answer().await.text();
    assert!(
        text.starts_with("GET https://shop.test/head?a=b\n")
            || text.starts_with("GET https://Shop.test/head?a=b\n"),
        "{text}"
    );
    for (field, expected) in [
        ("x-custom: 1", true),
        ("cookie: a=b", true),
        ("via: 1.1 phalanx-", true),
        ("connection", false),
        ("\nhost", false),
    ] {
        assert_eq!(text.contains(field), expected, "{field} in {text}");
    }
    let mut many = Vec::new();
    for _ in 0..20 {
        let mut client = node.connect().await;
        many.push(tokio::spawn(async move { client.get("/large").await.body.len() }));
    }
    for one in many {
        assert_eq!(one.await.unwrap(), 4 << 20);
    }
    assert_eq!(secure.upstream.state.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_agreed_on_may_be_http1_and_websockets_need_it() {
    let secure = Secure::start(&["127.0.0.1"], &["http/1.1"], false).await;
    let node = secure.node(&OriginTls::default(), secure.trust(), Protocol::Auto);
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.text(), "hello");
    let both = Secure::start(&["127.0.0.1"], &["h2", "http/1.1"], false).await;
    let node = both.node(&OriginTls::default(), both.trust(), Protocol::Auto);
    let mut client = node.connect().await;
    assert_eq!(client.get("/large").await.body.len(), 4 << 20);
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        .await;
    assert_eq!(client.head_only().await.status, 101);
    while client.input.len() < 5 {
        assert!(client.fill().await > 0);
    }
    assert_eq!(&client.input[..], b"hello");
    let only = secure.node(&OriginTls::default(), secure.trust(), Protocol::Http2);
    assert_eq!(only.connect().await.get("/").await.head.status, 502);
}

/// A node in front of an application that speaks HTTP/2 without TLS.
async fn prior_knowledge(change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> (Node, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream { address: listener.local_addr().unwrap(), state: Arc::default() };
    let (seen, state) = (Arc::<Seen>::default(), Arc::clone(&upstream.state));
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            state.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve_streams(stream, Arc::clone(&noted)));
        }
    });
    let server = UpstreamPlan { protocol: Protocol::Http2, ..upstream.plan() };
    let node = Node::before(
        upstream,
        |settings, app| {
            settings.h2c = true;
            settings.workers = 1;
            app.upstreams = UpstreamGroup::new(vec![server]);
            change(settings, app);
        },
        DecidePlan::default(),
    );
    (node, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_through_with_its_trailers() {
    let (node, _) = prior_knowledge(|_, _| ()).await;
    let mut client = Http2::to(&node).await;
    let mut asked = request("POST", "/call");
    asked.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    asked.headers_mut().insert("te", "trailers".parse().unwrap());
    let (response, mut stream) = client.begin(asked, false).await;
    // Each message is answered before the next one is sent.
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!(head.headers["content-type"], "application/grpc");
    for message in ["one", "two", "three"] {
        stream.send_data(message.into(), false).unwrap();
        let data = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        assert_eq!(data, message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    trailers.insert("authorization", "x".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    let fields: Vec<_> =
        trailers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(fields, ["x-sum: 3", "grpc-status: 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_only_a_head_stays_one() {
    let (node, _) = prior_knowledge(|_, _| ()).await;
    let mut client = Http2::to(&node).await;
    let (response, _) = client.begin(request("POST", "/only"), true).await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.body().is_end_stream());
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_clients_get_trailers_if_they_take_them() {
    let (node, _) = prior_knowledge(|_, _| ()).await;
    let mut client = node.connect().await;
    for (te, expected) in [("TE: trailers\r\nConnection: TE\r\n", "x-sum: 3\r\ngrpc-status: 0\r\n"), ("", "")]
    {
        let request = format!(
            "POST /call HTTP/1.1\r\nHost: a\r\n{te}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 3\r\nHost: b\r\n\r\n"
        );
        client.send(request).await;
        let head = client.head_only().await;
        assert_eq!(head.status, 200);
        while !client.input.ends_with(format!("0\r\n{expected}\r\n").as_bytes()) {
            assert!(client.fill().await > 0, "{:?}", client.input);
        }
        client.input.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_upstreams_send_and_get_trailers_too() {
    let node = Node::start(|settings, _| settings.h2c = true).await;
    let mut client = Http2::to(&node).await;
    let answered = client.get("/trailers").await;
    assert_eq!((answered.text().as_str(), answered.trailers.len()), ("body", 1));
    assert_eq!(answered.trailers["x-sum"], "1");
    let (response, mut stream) = client.begin(request("POST", "/request-trailers"), false).await;
    stream.send_data("body".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    assert_eq!(answer(response).await.unwrap().text(), "x-sum: 3\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_and_heads_pass() {
    let (node, _) = prior_knowledge(|_, _| ()).await;
    let mut client = node.connect().await;
    client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hints = client.head_only().await;
    assert_eq!((hints.status, hints.headers().next().unwrap()), (103, (&b"link"[..], &b"</a.css>"[..])));
    assert_eq!(client.answer().await.head.status, 200);
    client.send("HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer_to(true).await.head.status, 200);
    assert_eq!(client.get("/large").await.body.len(), 4 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_refuses_is_sent_again() {
    let (node, seen) = prior_knowledge(|_, _| ()).await;
    // So that there is a connection that served before.
    let (response, _) = Http2::to(&node).await.begin(request("POST", "/only"), true).await;
    response.await.unwrap();
    seen.streams.store(0, Ordering::SeqCst);
    let mut client = node.connect().await;
    client.send("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 200);
    assert_eq!(node.upstream.state.connections.load(Ordering::SeqCst), 2);
}

/// Answers the first request on each connection, and says of the second that it did not look at it.
async fn leave_after_one(mut stream: tokio::net::TcpStream) {
    let mut input = vec![0; 24];
    stream.read_exact(&mut input).await.unwrap();
    // SETTINGS, empty.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut heads = 0;
    let mut frame = [0; 9];
    while stream.read_exact(&mut frame).await.is_ok() {
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if frame[3] != 1 {
            continue;
        }
        heads += 1;
        let answer = match heads {
            // HEADERS with `:status: 200`, and the end of the stream.
            1 => [&[0, 0, 1, 1, 5], &frame[5..9], &[0x88]].concat(),
            // GOAWAY, the first stream being the last that was looked at.
            _ => vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        };
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_that_leaves_did_not_look_at_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream { address: listener.local_addr().unwrap(), state: Arc::default() };
    let state = Arc::clone(&upstream.state);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            state.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(leave_after_one(stream));
        }
    });
    let server = UpstreamPlan { protocol: Protocol::Http2, ..upstream.plan() };
    let change = |settings: &mut EdgeSettings, app: &mut AppPlan| {
        settings.workers = 1;
        app.upstreams = UpstreamGroup::new(vec![server]);
    };
    let node = Node::before(upstream, change, DecidePlan::default());
    let mut client = node.connect().await;
    for _ in 0..4 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.answer().await.head.status, 200);
    }
    assert_eq!(node.upstream.state.connections.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_shows() {
    let (node, _) = prior_knowledge(|_, _| ()).await;
    let mut client = node.connect().await;
    client.send("GET /break HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.read_answer(false).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_http2_cannot_say_is_no_fault_of_the_upstream() {
    let (node, seen) = prior_knowledge(|_, app| app.upstreams.health.failures = 1).await;
    let mut client = node.connect().await;
    client.send("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 400);
    let report = node.plan.load().apps()[0].upstreams.report();
    assert_eq!((report.endpoints[0].failures, seen.streams.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_of_a_dead_upstream_in_its_own_words() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut node = Node::start(|settings, app| {
        settings.h2c = true;
        let server = UpstreamPlan::new("127.0.0.1", nobody.port(), "");
        app.upstreams = UpstreamGroup::new(vec![UpstreamPlan { protocol: Protocol::Http2, ..server }]);
    })
    .await;
    let mut client = Http2::to(&node).await;
    let mut asked = request("POST", "/call");
    asked.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    let (response, _) = client.begin(asked, true).await;
    let response = response.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"14".parse().unwrap())
    );
    assert!(response.body().is_end_stream());
    assert_eq!(node.access().await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_back_is_refused() {
    let mut own = String::new();
    let node = Node::start(|settings, _| own.clone_from(&settings.pseudonym)).await;
    let mut client = node.connect().await;
    for (via, expected) in [("1.1 other", 200), (own.as_str(), 200), (&format!("1.0 x, 1.1 {own}"), 508)] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n")).await;
        assert_eq!(client.answer().await.head.status, expected, "{via}");
    }
}
