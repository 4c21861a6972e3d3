//! HTTP/2 from clients: the same requests, the same answers, side by side on one connection.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use phalanx_edge::{AppPlan, EdgeSettings};
use phalanx_model::FramingFault;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, eventually, pattern};

pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    /// How the connection ended.
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Result<Vec<u8>, h2::Error>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body.as_ref().unwrap()).into_owned()
    }
}

impl Http2 {
    pub(crate) async fn to(node: &Node) -> Self {
        Self::over(TcpStream::connect(node.address()).await.unwrap()).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        Self { requests, ended: tokio::spawn(connection) }
    }

    /// Begins a request; its body goes into the stream, unless it `ends` here.
    pub(crate) async fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let ready = timeout(PATIENCE, self.requests.clone().ready()).await.expect("no room for a stream");
        ready.unwrap().send_request(request, ends).unwrap()
    }

    /// Asks without a body, with a field more.
    pub(crate) async fn get_with(&mut self, path: &str, name: &'static str, value: &'static str) -> Answer {
        let mut asked = request("GET", path);
        asked.headers_mut().insert(name, http::HeaderValue::from_static(value));
        let (response, _) = self.begin(asked, true).await;
        answer(response).await.unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let (response, _) = self.begin(request("GET", path), true).await;
        answer(response).await.unwrap()
    }

    /// Sends a body and reads the answer.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Answer {
        let (response, mut stream) = self.begin(request("POST", path), body.is_empty()).await;
        let sending = send(&mut stream, body);
        let (answer, ()) = tokio::join!(answer(response), sending);
        answer.unwrap()
    }

    pub(crate) async fn end(self) -> Result<(), h2::Error> {
        drop(self.requests);
        timeout(PATIENCE, self.ended).await.expect("the connection stays open").unwrap()
    }
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://shop.test{path}")).body(()).unwrap()
}

pub(crate) async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, body) = timeout(PATIENCE, response).await.expect("no answer in time")?.into_parts();
    let mut body = body;
    let bytes = read(&mut body).await;
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    Ok(Answer { status: head.status, fields: head.headers, trailers, body: bytes })
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("no data in time") {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Sends as the window allows.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
        let room = timeout(PATIENCE, room).await.expect("no room in time").unwrap().unwrap();
        let last = room >= bytes.len();
        stream.send_data(bytes.split_to(room.min(bytes.len())), last).unwrap();
    }
}

async fn node(change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> Node {
    Node::start(|settings, app| {
        settings.h2c = true;
        change(settings, app);
    })
    .await
}

async fn plain() -> Node {
    node(|_, _| ()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_a_request_like_any_other() {
    let mut node = plain().await;
    let mut client = Http2::to(&node).await;
    let mut asked = request("GET", "/head?q=1");
    asked.headers_mut().append("cookie", "a=1".parse().unwrap());
    asked.headers_mut().append("cookie", "b=2".parse().unwrap());
    asked.headers_mut().append("x-forwarded-for", "192.0.2.1".parse().unwrap());
    asked.headers_mut().append("te", "trailers".parse().unwrap());
    let (response, _) = client.begin(asked, true).await;
    let answer = answer(response).await.unwrap();
    assert_eq!(answer.status, 200);
    let head = answer.text();
    assert!(head.starts_with("GET /head?q=1 HTTP/1.1\r\nhost: shop.test\r\ncookie: a=1; b=2\r\n"), "{head}");
    for (line, is_there) in [
        ("Via: 2.0 phalanx", true),
        ("X-Forwarded-For: 127.0.0.1", true),
        ("te:", false),
        ("192.0.2.1", false),
    ] {
        assert_eq!(head.contains(line), is_there, "{line} in {head}");
    }
    assert_eq!(answer.fields.get("x-request-id").unwrap().len(), 26);
    let event = node.access().await;
    assert_eq!((event.protocol.as_str(), event.status, event.host.as_str()), ("HTTP/2.0", 200, "shop.test"));
    assert_eq!(event.id.to_string(), answer.fields.get("x-request-id").unwrap().to_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_go_both_ways() {
    let node = plain().await;
    let mut client = Http2::to(&node).await;
    for (path, bytes) in [("/echo", 0), ("/echo", 1), ("/echo", 200_000), ("/stream-echo", 3 << 20)] {
        let sent = Bytes::from(pattern(bytes));
        let answer = client.post(path, sent.clone()).await;
        assert!(answer.status == 200 && answer.body.unwrap() == sent, "{path} {bytes}");
    }
    for path in ["/large-length", "/large-chunked"] {
        let answer = client.get(path).await;
        assert!(!answer.fields.contains_key("transfer-encoding"));
        assert!(answer.body.unwrap() == pattern(10 << 20), "{path}");
    }
    assert_eq!(client.get("/until-close").await.text(), "until the end");
    for (path, method, status) in
        [("/no-content", "GET", 204), ("/not-modified", "GET", 304), ("/for-head", "HEAD", 200)]
    {
        let (response, _) = client.begin(request(method, path), true).await;
        let answer = answer(response).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, ""), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_wait_for_each_other() {
    let node = plain().await;
    let mut client = Http2::to(&node).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(client.begin(request("GET", "/gate"), true).await.0);
    }
    eventually("all wait", || node.upstream.state.waiting.load(std::sync::atomic::Ordering::SeqCst) == 50)
        .await;
    assert_eq!(client.get("/").await.text(), "hello");
    for _ in 0..50 {
        node.upstream.state.gate.notify_one();
    }
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().text(), "through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_cut_off_does_not_look_whole() {
    let node = plain().await;
    let mut client = Http2::to(&node).await;
    for path in ["/truncated", "/truncated-chunks"] {
        let (response, _) = client.begin(request("GET", path), true).await;
        let error = answer(response).await.and_then(|answer| answer.body).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
    }
    assert_eq!(client.get("/").await.text(), "hello", "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_are_passed_on_and_continue_is_told() {
    let node = plain().await;
    let mut client = Http2::to(&node).await;
    assert_eq!(client.get("/hints").await.text(), "hinted");
    let mut asked = request("POST", "/echo");
    asked.headers_mut().append("expect", "100-continue".parse().unwrap());
    let (mut response, mut stream) = client.begin(asked, false).await;
    let told = std::future::poll_fn(|cx| response.poll_informational(cx));
    let told = timeout(PATIENCE, told).await.expect("nobody says continue").unwrap().unwrap();
    assert_eq!(told.status(), 100);
    send(&mut stream, Bytes::from_static(b"now")).await;
    assert_eq!(answer(response).await.unwrap().text(), "now");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_answered_and_the_connection_of_who_is_banned_ends() {
    let mut node = node(|_, app| app.limits.body_bytes = 10).await;
    let mut client = Http2::to(&node).await;
    let mut asked = request("POST", "/echo");
    asked.headers_mut().append("content-length", "11".parse().unwrap());
    let (response, _stream) = client.begin(asked, false).await;
    assert_eq!(answer(response).await.unwrap().status, 413);
    let (_, _, faults) = node.security_request().await;
    assert_eq!(faults, [FramingFault::BodyTooLarge]);
    let mut asked = request("GET", "/");
    asked.headers_mut().append("host", "other.test".parse().unwrap());
    let (response, _) = client.begin(asked, true).await;
    assert_eq!(answer(response).await.unwrap().status, 400);
    assert_eq!(client.get("/").await.text(), "hello", "other streams are not touched");
    node.ban("127.0.0.1");
    // Cut off, as it is idle.
    let _ = client.end().await;
    let mut client = Http2::to(&node).await;
    assert_eq!(client.get("/").await.status, 403);
    client.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_gives_up_is_given_up_at_the_upstream() {
    let node = plain().await;
    let mut client = Http2::to(&node).await;
    let (response, mut stream) = client.begin(request("GET", "/silent"), true).await;
    eventually("the upstream has it", || {
        node.upstream.state.requests.load(std::sync::atomic::Ordering::Relaxed) == 1
    })
    .await;
    stream.send_reset(Reason::CANCEL);
    assert!(answer(response).await.is_err());
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_streams_only_to_give_them_up_is_cut_off() {
    let node = plain().await;
    let client = Http2::to(&node).await;
    let mut begun = 0;
    while let Ok(mut requests) = client.requests.clone().ready().await {
        let Ok((_response, mut stream)) = requests.send_request(request("GET", "/silent"), true) else {
            break;
        };
        stream.send_reset(Reason::CANCEL);
        begun += 1;
        assert!(begun < 5_000, "nothing stops it");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ended = client.end().await.unwrap_err();
    assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{ended}");
    let mut honest = Http2::to(&node).await;
    assert_eq!(honest.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_draining_connections_end_and_streams_are_answered_before() {
    let node = node(|settings, _| settings.limits.idle_ms = 300).await;
    let client = Http2::to(&node).await;
    let open = client.requests.clone();
    timeout(PATIENCE, client.ended).await.expect("an idle connection stays open").unwrap().unwrap();
    drop(open);
    let node = plain().await;
    let mut client = Http2::to(&node).await;
    let (response, _) = client.begin(request("GET", "/gate"), true).await;
    eventually("it waits", || node.upstream.state.waiting.load(std::sync::atomic::Ordering::SeqCst) == 1)
        .await;
    let draining = tokio::spawn({
        let edge = node.edge.clone();
        async move { edge.drain(Duration::from_secs(10)).await }
    });
    eventually("it drains", || std::net::TcpStream::connect(node.address()).is_err()).await;
    node.upstream.state.gate.notify_one();
    assert_eq!(answer(response).await.unwrap().text(), "through");
    client.end().await.unwrap();
    timeout(PATIENCE, draining).await.expect("the drain does not end").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_the_preface_is_a_request_of_a_version_that_is_not_served() {
    let node = Node::plain().await;
    let mut client = node.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 505);
    let node = plain().await;
    let mut client = node.connect().await;
    client.send("P").await;
    client.send("OST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.text(), "hi");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field of a head, written out.
fn field(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0][..], &part(name), &part(value)].concat()
}

fn head_of(fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/")];
    let left = pseudo.into_iter().filter(|(name, _)| fields.iter().all(|(other, _)| other != name));
    let (own, others): (Vec<_>, Vec<_>) = fields.iter().copied().partition(|(name, _)| name.starts_with(':'));
    left.chain(own).chain(others).flat_map(|(name, value)| field(name, value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_codec_refuses_is_an_event_too() {
    let mut node = plain().await;
    let begin = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    // Some end the connection, too: what cannot be decompressed may have changed the table of both sides.
    for fields in [("x", "a\r\nb: c"), ("Upper", "case"), (":unknown", "x")] {
        let head = head_of(&[fields]);
        let mut client = node.connect().await;
        client.send([begin.clone(), frame(1, 5, 1, &head)].concat()).await;
        let (event, _, faults) = node.security_request().await;
        assert_eq!(
            (event.protocol.as_str(), faults.as_slice()),
            ("HTTP/2.0", &[FramingFault::BadStream][..])
        );
    }
    let mut client = node.connect().await;
    client.send(&begin).await;
    let mut stream = 1;
    for fields in
        [(":path", "/<script>"), ("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip")]
    {
        client.send(frame(1, 5, stream, &head_of(&[fields]))).await;
        let (event, _, faults) = node.security_request().await;
        assert_eq!(
            (event.method.as_str(), faults.as_slice()),
            ("", &[FramingFault::BadStream][..]),
            "{fields:?}"
        );
        stream += 2;
    }
    // A body that is not as long as its head says is in its own request's event.
    client.send(frame(1, 4, stream, &head_of(&[(":method", "POST"), ("content-length", "9")]))).await;
    client.send(frame(0, 1, stream, b"short")).await;
    let (event, _, faults) = node.security_request().await;
    assert_eq!((event.method.as_str(), faults.as_slice()), ("POST", &[FramingFault::BadStream][..]));
    // The connection goes on; and the same is not told twice.
    client.send(frame(1, 5, stream + 2, &head_of(&[]))).await;
    assert_eq!(node.access().await.status, 200);
    assert!(node.readers.security.try_recv().is_err());
    // What breaks the connection is told, too.
    client.send(frame(1, 5, 2, &head_of(&[]))).await;
    let (.., faults) = node.security_request().await;
    assert_eq!(faults, [FramingFault::BadStream]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_client_begins_is_recorded() {
    let mut node = plain().await;
    let mut client = Http2::to(&node).await;
    assert_eq!(client.get("/").await.status, 200);
    let print = node.access().await.http_print.unwrap();
    assert_eq!(print.as_ref(), "|00|0|m,s,a,p");
    let mut client = node.connect().await;
    client.get("/").await;
    let one = node.access().await.http_print.unwrap();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.answer().await;
    assert_eq!(node.access().await.http_print.unwrap(), one, "made of a connection's first request");
    assert!(one.starts_with("h11_01_"), "{one}");
}
