//! Listeners at which other proxies ask about requests that they carry themselves.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use phalanx_decide::rate::{Pace, RateKeyPart, RateRule};
use phalanx_edge::{AppPlan, CheckListen, EdgeSettings};
use phalanx_model::{Action, CheckKind, FramingFault, Reason};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Client, Node, PATIENCE};

fn listen(kind: CheckKind, from: &str, refuse_with: Option<u16>) -> CheckListen {
    let from = [from.parse().unwrap()].into_iter().collect();
    CheckListen { address: "127.0.0.1:0".parse().unwrap(), kind, from, tls: None, refuse_with }
}

/// A node with one such listener; its app takes two requests of a client.
async fn node(kind: CheckKind, change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> Node {
    Node::start(|settings, app| {
        settings.workers = 1;
        settings.check_listen = vec![listen(kind, "127.0.0.1/32", None)];
        app.hosts = vec!["shop.test".to_owned()];
        change(settings, app);
    })
    .await
}

async fn connect(node: &Node) -> Client {
    let stream = TcpStream::connect(node.edge.check_addrs()[0]).await.unwrap();
    Client { stream, input: BytesMut::new() }
}

/// A question about a request of a client.
fn question(method: &str, uri: &str, client: &str, more: &str) -> String {
    format!(
        "GET /ask HTTP/1.1\r\nHost: phalanx\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Uri: {uri}\r\n\
         X-Forwarded-Host: shop.test\r\nX-Forwarded-For: {client}\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_told_and_goes_nowhere() {
    let mut node = node(CheckKind::ForwardAuth, |_, _| ()).await;
    let mut proxy = connect(&node).await;
    proxy.send(question("POST", "/a?b=c", "192.0.2.1", "User-Agent: x\r\n")).await;
    let answer = proxy.answer().await;
    assert_eq!((answer.head.status, answer.body.len()), (200, 0));
    let event = node.access().await;
    assert_eq!(answer.header("x-request-id"), Some(event.id.to_string()));
    assert_eq!(
        (event.method.as_str(), event.target.as_str(), event.host.as_str()),
        ("POST", "/a?b=c", "shop.test")
    );
    assert_eq!((event.client, event.peer), ("192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()));
    assert_eq!((event.check, event.status, event.upstream_us), (Some(CheckKind::ForwardAuth), 200, 0));
    // The connection serves the next question.
    proxy.send(question("GET", "/", "192.0.2.1", "")).await;
    assert_eq!(proxy.answer().await.head.status, 200);
    assert_eq!(node.upstream.state.requests.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_one_of_a_node_in_between() {
    let node = node(CheckKind::ForwardAuth, |_, _| ()).await;
    node.ban("192.0.2.7");
    let mut proxy = connect(&node).await;
    for method in ["GET", "HEAD"] {
        proxy.send(question(method, "/", "192.0.2.7", "Accept: application/json\r\n")).await;
        let answer = proxy.answer().await;
        assert_eq!((answer.head.status, answer.head.keep_alive), (403, true), "the proxy's connection stays");
        assert_eq!(answer.text().starts_with("{\"error\":\"refused\""), method == "GET");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    // Nobody is banned with it who comes by the same proxy.
    proxy.send(question("GET", "/", "192.0.2.8", "")).await;
    assert_eq!(proxy.answer().await.head.status, 200);
    let elsewhere = question("GET", "/", "192.0.2.8", "").replace("shop.test", "other.test");
    proxy.send(elsewhere).await;
    assert_eq!(proxy.answer().await.head.status, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_the_client_and_say_when_to_come_back() {
    let limit = RateRule::new("shop", "all", Pace::new(1, 3_600_000, 1)).by([RateKeyPart::Ip]);
    let node = node(CheckKind::ForwardAuth, |settings, app| {
        app.rates = vec![limit];
        settings.check_listen.push(listen(CheckKind::ForwardAuth, "127.0.0.1/32", Some(403)));
    })
    .await;
    let mut proxy = connect(&node).await;
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        proxy.send(question("GET", "/", client, "")).await;
        let answer = proxy.answer().await;
        assert_eq!(answer.head.status, status, "{client}");
        assert_eq!(answer.header("retry-after").is_some(), status == 429);
    }
    let stream = TcpStream::connect(node.edge.check_addrs()[1]).await.unwrap();
    let mut nginx = Client { stream, input: BytesMut::new() };
    nginx.send(question("GET", "/", "192.0.2.1", "")).await;
    let answer = nginx.answer().await;
    assert_eq!((answer.head.status, answer.header("x-phalanx-status").as_deref()), (403, Some("429")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused_and_recorded() {
    let mut node = node(CheckKind::ForwardAuth, |_, _| ()).await;
    for (asked, fault) in [
        ("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_owned(), FramingFault::BadQuestion),
        (question("GET", "/", "192.0.2.1", "X-Forwarded-Uri: /other\r\n"), FramingFault::BadQuestion),
        (question("GET", "/", "192.0.2.1", "X : y\r\n"), FramingFault::BadHeaderLine),
        (question("GET", "/#", "192.0.2.1", ""), FramingFault::BadTarget),
    ] {
        let mut proxy = connect(&node).await;
        proxy.send(&asked).await;
        assert_eq!(proxy.answer().await.head.status, 400, "{asked}");
        let (event, _, faults) = node.security_request().await;
        assert_eq!((faults[0], event.check), (fault, Some(CheckKind::ForwardAuth)), "{asked}");
        assert_eq!(event.verdict.action, Action::Deny);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_not_ask() {
    let node = node(CheckKind::ForwardAuth, |settings, _| {
        settings.check_listen = vec![listen(CheckKind::ForwardAuth, "192.0.2.0/24", None)];
    })
    .await;
    let mut stranger = connect(&node).await;
    assert!(stranger.is_closed().await);
    assert_eq!(node.count(|counters| &counters.connections_refused), 1);
}

/// A client of gRPC.
struct Grpc(h2::client::SendRequest<Bytes>);

/// What a call came to: the status of HTTP, the messages, the trailers.
type Called = (u16, Vec<u8>, HeaderMap);

impl Grpc {
    async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(requests)
    }

    async fn call(&mut self, path: &str, kind: &str, body: impl Into<Bytes>) -> Called {
        let request = Request::post(format!("http://phalanx{path}")).header("content-type", kind);
        let request = request.header("te", "trailers").body(()).unwrap();
        let ready = timeout(PATIENCE, self.0.clone().ready()).await.unwrap();
        let (response, mut stream) = ready.unwrap().send_request(request, false).unwrap();
        let body = body.into();
        let sending = async {
            // Whoever refuses it may not read it all.
            let _ = stream.send_data(body, true);
        };
        let (response, ()) = tokio::join!(timeout(PATIENCE, response), sending);
        let (head, mut body) = response.unwrap().unwrap().into_parts();
        let mut read = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
        (head.status.as_u16(), read, trailers)
    }

    async fn check(&mut self, message: &[u8]) -> Called {
        self.call(CHECK, "application/grpc", frame(0, message)).await
    }
}

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

fn frame(flag: u8, message: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(message);
    frame
}

/// A field of a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut out = vec![number << 3 | 2];
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(content);
    out
}

/// A `CheckRequest` about a request from 192.0.2.1.
fn check_request(http: &[Vec<u8>]) -> Vec<u8> {
    let source = field(1, &field(1, &field(1, &field(2, b"192.0.2.1"))));
    field(1, &[source, field(4, &field(2, &http.concat()))].concat())
}

fn get(path: &str) -> Vec<Vec<u8>> {
    vec![field(2, b"GET"), field(4, path.as_bytes()), field(5, b"shop.test")]
}

fn contains(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_is_answered_in_its_own_messages() {
    let mut node = node(CheckKind::ExtAuthz, |_, _| ()).await;
    let mut envoy = Grpc::to(node.edge.check_addrs()[0]).await;
    let (status, message, trailers) = envoy.check(&check_request(&get("/a"))).await;
    assert_eq!((status, &trailers["grpc-status"]), (200, &"0".parse().unwrap()));
    let event = node.access().await;
    assert_eq!((event.check, event.target.as_str()), (Some(CheckKind::ExtAuthz), "/a"));
    assert_eq!(event.client.to_string(), "192.0.2.1");
    // An empty status is OK; the id goes both ways.
    assert!(message[5..].starts_with(&field(1, b"")), "{message:?}");
    assert!(contains(&message, &event.id.to_string()) && contains(&message, "x-request-id"));
    node.ban("192.0.2.1");
    let (_, message, trailers) = envoy.check(&check_request(&get("/a"))).await;
    assert_eq!(&trailers["grpc-status"], "0");
    assert!(message[5..].starts_with(&field(1, &[0x08, 7])), "{message:?}");
    assert!(contains(&message, "Request refused") && contains(&message, "no-store"));
    let (event, ..) = node.security_request().await;
    assert!(matches!(event.verdict.reason, Reason::Decision { .. }) && event.status == 403, "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_can_make_malformed_is_denied_and_no_error() {
    let mut node = node(CheckKind::ExtAuthz, |_, _| ()).await;
    let mut envoy = Grpc::to(node.edge.check_addrs()[0]).await;
    let mut with_line_end = get("/ HTTP/1.1\r\nx: y");
    with_line_end.push(field(12, b"body"));
    for (message, fault) in [
        (b"\x0a\x7f".to_vec(), FramingFault::BadQuestion),
        (Vec::new(), FramingFault::BadQuestion),
        (check_request(&with_line_end), FramingFault::ControlByte),
        (check_request(&get("nonsense")), FramingFault::BadTarget),
    ] {
        let (_, answer, trailers) = envoy.check(&message).await;
        assert_eq!(&trailers["grpc-status"], "0", "{fault:?}");
        assert!(contains(&answer, "Bad request"), "{fault:?}: {answer:?}");
        let (event, _, faults) = node.security_request().await;
        assert_eq!((faults[0], event.status), (fault, 400));
    }
    let large = frame(0, &vec![b'x'; 17 * 1024 * 1024]);
    let (_, answer, trailers) = envoy.call(CHECK, "application/grpc", large).await;
    assert_eq!(&trailers["grpc-status"], "0");
    assert!(contains(&answer, "Request body too large"));
    let (event, ..) = node.security_request().await;
    assert_eq!(event.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_settings_bring_about_is_an_error_of_the_call() {
    let node = node(CheckKind::ExtAuthz, |_, _| ()).await;
    let mut envoy = Grpc::to(node.edge.check_addrs()[0]).await;
    for (path, flag, status) in [("/other.Service/Call", 0, "12"), (CHECK, 1, "12")] {
        let (_, message, trailers) = envoy.call(path, "application/grpc", frame(flag, b"x")).await;
        assert_eq!((message.len(), &trailers["grpc-status"]), (0, &status.parse().unwrap()), "{path}");
    }
    assert_eq!(envoy.call(CHECK, "application/json", frame(0, b"x")).await.0, 415);
    let (_, message, trailers) =
        envoy.call("/grpc.health.v1.Health/Check", "application/grpc", frame(0, b"")).await;
    assert_eq!((&message[5..], &trailers["grpc-status"]), (&b"\x08\x01"[..], &"0".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_ask_over_http2_too_and_envoy_not_without_grpc() {
    let node = node(CheckKind::ForwardAuth, |settings, _| {
        settings.check_listen.push(listen(CheckKind::ExtAuthz, "127.0.0.1/32", None));
    })
    .await;
    node.ban("192.0.2.7");
    let stream = TcpStream::connect(node.edge.check_addrs()[0]).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.7", 403)] {
        let request = Request::get("http://phalanx/")
            .header("x-forwarded-method", "GET")
            .header("x-forwarded-uri", "/a")
            .header("x-forwarded-host", "shop.test")
            .header("x-forwarded-for", client);
        let (response, _) = requests.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), status, "{client}");
    }
    let stream = TcpStream::connect(node.edge.check_addrs()[1]).await.unwrap();
    let mut proxy = Client { stream, input: BytesMut::new() };
    proxy.send(question("GET", "/", "192.0.2.1", "")).await;
    assert_eq!(proxy.answer().await.head.status, 400);
}
