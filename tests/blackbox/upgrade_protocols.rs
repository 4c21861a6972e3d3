//! Everything that a node speaks goes on while another process takes over: HTTP/2, what lasts for hours, and questions of other proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::*;
use crate::tls::absent;
use crate::upgrade::{Asks, Changing, ask, node, over_tls, over_tls_as, runs, tls_of};

/// An app whose answers to `/slow` wait for a gate, that tells of events, and echoes after a switch of protocols.
fn app_that_lasts() -> (App, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut app = App::start();
    app.url = format!("http://{}", listener.local_addr().unwrap());
    let (gate, is_open) = watch::channel(false);
    let count = Arc::clone(&app.requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let is_open = is_open.clone();
            let count = Arc::clone(&count);
            std::thread::spawn(move || answer_slowly(stream, &is_open, &count));
        }
    });
    (app, gate)
}

fn answer_slowly(stream: TcpStream, gate: &watch::Receiver<bool>, count: &AtomicUsize) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (stream.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if path == "/slow" {
            until("the gate is open", || *gate.borrow());
        }
        let mut out = stream.get_ref();
        match path.as_str() {
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                out.write_all(head.as_bytes()).ok()?;
                for number in 0..10_000 {
                    let event = format!("data: {number}\n\n");
                    write!(out, "{:x}\r\n{event}\r\n", event.len()).ok()?;
                    std::thread::park_timeout(Duration::from_millis(5));
                }
            }
            "/chat" => {
                let switch =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
                out.write_all(switch.as_bytes()).ok()?;
                return echo(&mut stream);
            }
            path => {
                let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
                out.write_all(reply.as_bytes()).ok()?;
            }
        }
    }
}

fn echo<S: Read + Write>(stream: &mut BufReader<S>) -> Option<()> {
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).ok()?;
        stream.get_mut().write_all(&byte).ok()?;
    }
}

fn policy(node: &Changing, text: &str) {
    let path = node.path().join("policy.toml");
    let known = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{known}{text}")).unwrap();
    let output = node.first.cli(&["reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

type Ended = tokio::task::JoinHandle<Result<(), h2::Error>>;

/// A connection of HTTP/2; how it ended tells its task.
async fn http2(to: SocketAddr) -> (SendRequest<Bytes>, Ended) {
    let tcp = tokio::net::TcpStream::connect(to).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls_of(&[b"h2"]));
    let tls = connector.connect("shop.test".try_into().unwrap(), tcp).await.unwrap();
    over_http2(tls).await
}

async fn over_http2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> (SendRequest<Bytes>, Ended) {
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

fn get_over_http2(path: &str) -> Request<()> {
    let request = Request::get(format!("https://shop.test{path}"));
    request.header("user-agent", "load").header("accept", "*/*").body(()).unwrap()
}

async fn text_of(response: ResponseFuture) -> Result<(u16, Vec<u8>), h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    Ok((head.status.as_u16(), text))
}

/// Whether a stream is behind the last that the node says it has seen: whoever is told so asks again (RFC 9113 section 6.8), as a client does that
/// hears of the end with requests not yet sent.
fn was_not_begun(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// One client of HTTP/2 that asks for the same all the time, several at once; on another connection when it is told that one takes no more. Whatever
/// was begun must be answered.
async fn ask_over_http2(to: SocketAddr, stop: watch::Receiver<bool>, served: Arc<AtomicU64>) -> Vec<String> {
    let mut failed = Vec::new();
    while !*stop.borrow() {
        let (mut requests, ended) = http2(to).await;
        while !*stop.borrow() {
            let mut responses = Vec::new();
            while responses.len() < 4 {
                let Ok(ready) = requests.clone().ready().await else { break };
                requests = ready;
                match requests.send_request(get_over_http2("/some"), true) {
                    Ok((response, _)) => responses.push(response),
                    Err(_) => break,
                }
            }
            let told = responses.len() < 4;
            for response in responses {
                match text_of(response).await {
                    Ok((200, text)) if text == b"/some" => drop(served.fetch_add(1, Ordering::SeqCst)),
                    Err(error) if was_not_begun(&error) => {}
                    other => failed.push(format!("{other:?}")),
                }
            }
            if told {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(requests);
        match ended.await.unwrap() {
            Ok(()) => {}
            Err(error) => failed.push(format!("the connection ended with {error}")),
        }
    }
    failed
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn streams_of_http2_end_in_their_time_and_every_request_is_answered() {
    if absent() {
        return;
    }
    let (app, gate) = app_that_lasts();
    let node = Changing::start(&app, &node("workers = 2\n"));
    let (tls, runtime) = (node.first.tls_listen.unwrap(), runtime());
    let (stop, stops) = watch::channel(false);
    let served = Arc::new(AtomicU64::new(0));
    let load = (0..4).map(|_| runtime.spawn(ask_over_http2(tls, stops.clone(), Arc::clone(&served))));
    let load: Vec<_> = load.collect();
    let more = |requests: u64| {
        let before = served.load(Ordering::SeqCst);
        until("requests are served", || served.load(Ordering::SeqCst) >= before + requests);
    };
    more(100);
    let (mut slow, slow_ended) = runtime.block_on(http2(tls));
    let (response, _) = slow.send_request(get_over_http2("/slow"), true).unwrap();
    let (idle, idle_ended) = runtime.block_on(http2(tls));
    let old = node.process();
    node.upgrade();
    more(100);
    // It is told that no more streams are to come; the one under way goes on.
    runtime.block_on(async {
        assert!(idle_ended.await.unwrap().is_ok(), "an idle connection ends in good order");
    });
    drop(idle);
    assert!(runs(old), "a stream is under way there");
    until("no stream more is taken", || runtime.block_on(slow.clone().ready()).is_err());
    gate.send_replace(true);
    runtime.block_on(async {
        assert_eq!(text_of(response).await.unwrap(), (200, b"/slow".to_vec()));
        drop(slow);
        assert!(slow_ended.await.unwrap().is_ok(), "and then its connection ends in good order");
    });
    until("the old process ends", || !runs(old));
    node.upgrade();
    more(100);
    stop.send_replace(true);
    let failed: Vec<_> = load.into_iter().flat_map(|one| runtime.block_on(one).unwrap()).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    let served = served.load(Ordering::SeqCst);
    assert_eq!(app.count() as u64, served + 1, "what was not answered was not begun");
    println!("2 upgrades: 0 of {served} requests over HTTP/2 failed");
}

#[test]
fn curl_downloads_over_http2_through_an_upgrade() {
    if absent() {
        return;
    }
    let app = App::start();
    let node = Changing::start(&app, &node(""));
    let url = format!("https://{}/a?[1-400]", node.first.tls_listen.unwrap());
    let mut curl = Command::new("curl");
    curl.args(["-sk", "--http2", "--parallel", "--parallel-max", "8", "--rate", "400/s"]);
    curl.args(["-o", "/dev/null", "-w", "%{http_code} %{http_version}\n", &url]);
    let curl = curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it has begun", || app.count() > 20);
    node.upgrade();
    let output = curl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let good = said.lines().filter(|line| *line == "200 2").count();
    assert_eq!((output.status.success(), good), (true, 400), "{said}");
}

#[test]
fn events_and_websockets_last() {
    if absent() {
        return;
    }
    let (app, _gate) = app_that_lasts();
    let node = Changing::start(&app, &node(""));
    let tls = node.first.tls_listen.unwrap();
    let head = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: long\r\nAccept: */*\r\n{more}\r\n")
    };
    let mut events = BufReader::new(over_tls(tls).unwrap());
    events.get_mut().write_all(head("/events", "").as_bytes()).unwrap();
    let mut next = 0;
    let mut more_events = |count: u32| {
        let wanted = next + count;
        while next < wanted {
            let mut line = String::new();
            assert!(events.read_line(&mut line).unwrap() > 0, "the events end after {next}");
            if let Some(number) = line.strip_prefix("data: ") {
                assert_eq!(number.trim_end().parse(), Ok(next));
                next += 1;
            }
        }
    };
    let mut chat = BufReader::new(over_tls(tls).unwrap());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    chat.get_mut().write_all(head("/chat", upgrade).as_bytes()).unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(chat.read_line(&mut line).unwrap() > 0);
    }
    let mut talk = || {
        for byte in 0..10_u8 {
            chat.get_mut().write_all(&[byte]).unwrap();
            let mut back = [0xff];
            chat.read_exact(&mut back).unwrap();
            assert_eq!(back, [byte]);
        }
    };
    more_events(20);
    talk();
    let old = node.process();
    for _ in 0..2 {
        node.upgrade();
        more_events(50);
        talk();
    }
    assert!(runs(old), "what lasts is carried by who began it");
}

#[test]
fn a_ban_ends_what_lasts_at_the_process_that_was_followed() {
    if absent() {
        return;
    }
    let (app, _gate) = app_that_lasts();
    let node = Changing::start(&app, &node(""));
    let listen = || {
        let mut events = BufReader::new(connect(node.first.listen));
        let head = "GET /events HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: long\r\nAccept: */*\r\n\
                    X-Forwarded-For: 192.0.2.77\r\n\r\n";
        events.get_mut().write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        assert!(events.read_line(&mut line).unwrap() > 0 && line.contains("200"), "{line}");
        events
    };
    let mut events = listen();
    let old = node.process();
    node.upgrade();
    let mut line = String::new();
    assert!(events.read_line(&mut line).unwrap() > 0);
    let order = ["decision", "add", "--ip", "192.0.2.77", "--for", "1h", "--reason", "test"];
    assert!(node.first.cli(&order).status.success());
    until("it is cut", || {
        line.clear();
        !matches!(events.read_line(&mut line), Ok(1..))
    });
    until("the old process ends", || !runs(old));
}

/// An app that speaks HTTP/2 and answers each message of a call with the same.
async fn grpc_app() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        let head = http::Response::builder().header("content-type", "application/grpc");
                        let mut out = respond.send_response(head.body(()).unwrap(), false).unwrap();
                        while let Some(Ok(data)) = body.data().await {
                            body.flow_control().release_capacity(data.len()).unwrap();
                            out.send_data(data, false).unwrap();
                        }
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                        out.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

fn message(text: &[u8]) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text].concat().into()
}

#[test]
fn a_call_of_grpc_goes_on_in_both_directions_and_ends_with_its_trailers() {
    if absent() {
        return;
    }
    let (app, runtime) = (App::start(), runtime());
    let upstream = runtime.block_on(grpc_app());
    let node = Changing::start(&app, &node(""));
    let grpc = "upstream_protocol = \"http2\"\nmode = \"off\"\nhosts = [\"grpc.test\"]";
    policy(&node, &format!("[[apps]]\nname = \"grpc\"\nupstream = \"http://{upstream}\"\n{grpc}\n"));
    let (mut requests, ended) = runtime.block_on(http2(node.first.tls_listen.unwrap()));
    let request =
        Request::post("https://grpc.test/echo.Echo/Talk").header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(()).unwrap();
    let (response, mut out) = requests.send_request(request, false).unwrap();
    out.send_data(message(b"first"), false).unwrap();
    let mut body = runtime.block_on(response).unwrap().into_body();
    let mut echoes = |out: &mut h2::SendStream<Bytes>, text: &[u8], sent: bool| {
        if !sent {
            out.send_data(message(text), false).unwrap();
        }
        let mut got = Vec::new();
        runtime.block_on(async {
            while got.len() < text.len() + 5 {
                let data = body.data().await.expect("the call ends").unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
            }
        });
        assert_eq!(got, message(text));
    };
    echoes(&mut out, b"first", true);
    let old = node.process();
    node.upgrade();
    for _ in 0..10 {
        echoes(&mut out, b"and on", false);
    }
    assert!(runs(old));
    out.send_data(Bytes::new(), true).unwrap();
    drop(requests);
    runtime.block_on(async {
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(ended.await.unwrap().is_ok());
    });
    until("the old process ends", || !runs(old));
}

/// What opens TLS itself, and gives back what it gets.
fn tls_echo(folder: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let chain = vec![CertificateDer::from_pem_file(folder.join("shop.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("shop.key")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            std::thread::spawn(move || echo(&mut BufReader::new(StreamOwned::new(connection, stream))));
        }
    });
    address
}

#[test]
fn tls_that_is_not_opened_is_passed_on_by_either_process() {
    if absent() {
        return;
    }
    let app = App::start();
    let node = Changing::start(&app, &node(""));
    let upstream = tls_echo(node.path());
    let hosts = "hosts = [\"db.test\"]\npassthrough = true";
    policy(&node, &format!("[[apps]]\nname = \"db\"\nupstream = \"tcp://{upstream}\"\n{hosts}\n"));
    let tls = node.first.tls_listen.unwrap();
    let talk = |stream: &mut StreamOwned<_, TcpStream>| {
        for byte in 0..10_u8 {
            stream.write_all(&[byte]).unwrap();
            let mut back = [0xff];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, [byte]);
        }
    };
    let mut open = over_tls_as("db.test", tls).unwrap();
    talk(&mut open);
    let old = node.process();
    node.upgrade();
    talk(&mut open);
    talk(&mut over_tls_as("db.test", tls).unwrap());
    assert!(runs(old));
    drop(open);
    until("the old process ends", || !runs(old));
}

#[test]
fn balancers_and_proxies_that_ask_notice_nothing() {
    if absent() {
        return;
    }
    let (app, port) = (App::start(), free_port());
    let check = |kind: &str, more: &str| {
        format!(
            "[[listen.check]]\nkind = \"{kind}\"\naddress = \"127.0.0.1:0\"\nfrom = [\"127.0.0.1\"]\n{more}\n"
        )
    };
    let sections = [
        format!(
            "[[listen.http]]\naddress = \"127.0.0.1:{port}\"\nproxy_protocol = [\"127.0.0.0/8\"]\n{}",
            check("forward-auth", "")
        ),
        check("forward-auth", "tls = true"),
        check("ext-authz", ""),
        check("ext-authz", "tls = true"),
        node("workers = 2\n"),
    ]
    .concat();
    let node = Changing::start(&app, &sections);
    let [forward, forward_tls, envoy, envoy_tls] = node.first.check_listen[..] else { panic!("four") };
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    let proxied = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")?;
        Ok(stream)
    };
    let question = Asks {
        head: "GET /ask HTTP/1.1\r\nHost: auth.test\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
               X-Forwarded-Host: shop.test\r\nX-Forwarded-Uri: /some\r\nX-Forwarded-For: 192.0.2.7\r\nUser-Agent: load\r\n\
               Accept: */*\r\n\r\n",
        text: "",
    };
    for (asks, connect) in [(Asks::default(), None), (question, Some(false)), (question, Some(true))] {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        clients.push(std::thread::spawn(move || match connect {
            None => ask(&stop, &served, (true, &asks), proxied),
            Some(false) => ask(&stop, &served, (true, &asks), || TcpStream::connect(forward)),
            Some(true) => ask(&stop, &served, (true, &asks), || over_tls(forward_tls)),
        }));
    }
    let runtime = runtime();
    let calls: Vec<_> = [(envoy, false), (envoy_tls, true)]
        .map(|(to, tls)| runtime.spawn(ask_as_envoy(to, tls, Arc::clone(&stop), Arc::clone(&served))))
        .into();
    let more = || {
        let before = served.load(Ordering::SeqCst);
        until("requests are served", || served.load(Ordering::SeqCst) >= before + 200);
    };
    more();
    for _ in 0..2 {
        node.upgrade();
        more();
    }
    stop.store(true, Ordering::SeqCst);
    let mut failed: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    failed.extend(calls.into_iter().flat_map(|call| runtime.block_on(call).unwrap()));
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    println!("2 upgrades: 0 of {} questions and balanced requests failed", served.load(Ordering::SeqCst));
}

/// Asks as Envoy does about a request, and after the node's health, all the time.
async fn ask_as_envoy(
    to: SocketAddr,
    tls: bool,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let (requests, ended) = match tls {
            true => http2(to).await,
            false => over_http2(tokio::net::TcpStream::connect(to).await.unwrap()).await,
        };
        while !stop.load(Ordering::SeqCst) {
            let Ok(mut ready) = requests.clone().ready().await else { break };
            let check = Request::post("http://phalanx/envoy.service.auth.v3.Authorization/Check");
            let health = Request::post("http://phalanx/grpc.health.v1.Health/Check");
            let mut told = false;
            // An empty status, and a status of serving.
            for (request, body, begins) in
                [(check, check_request(), &[0x0a, 0x00][..]), (health, Vec::new(), &[0x08, 0x01])]
            {
                let request = request.header("content-type", "application/grpc").header("te", "trailers");
                let Ok((response, mut out)) = ready.send_request(request.body(()).unwrap(), false) else {
                    told = true;
                    break;
                };
                let _ = out.send_data(message(&body), true);
                match text_of(response).await {
                    Ok((200, text)) if text.get(5..7) == Some(begins) => {
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) if was_not_begun(&error) => {}
                    other => failed.push(format!("{other:?}")),
                }
                match ready.ready().await {
                    Ok(next) => ready = next,
                    Err(_) => {
                        told = true;
                        break;
                    }
                }
            }
            if told {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(requests);
        if let Err(error) = ended.await.unwrap() {
            failed.push(format!("the connection ended with {error}"));
        }
    }
    failed
}

/// A field of a message of protocol buffers, shorter than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A `CheckRequest` about a request from 192.0.2.1.
fn check_request() -> Vec<u8> {
    let http = [field(2, b"GET"), field(4, b"/some"), field(5, b"shop.test")].concat();
    let source = field(1, &field(1, &field(1, &field(2, b"192.0.2.1"))));
    field(1, &[source, field(4, &field(2, &http))].concat())
}

#[test]
fn sockets_of_a_service_manager_are_there_after_an_upgrade() {
    if absent() {
        return;
    }
    let app = App::start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let script = "import os, sys\n\
                  os.dup2(0, 3)\n\
                  os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='shop.socket', LISTEN_PID=str(os.getpid()))\n\
                  os.execv(sys.argv[1], sys.argv[1:])\n";
    let sections = format!("[[listen.http]]\naddress = \"{address}\"\n{}", node("workers = 2\n"));
    let node = Changing::start_by(&app, &sections, |program| {
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(program);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap())));
        command
    });
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = std::thread::spawn({
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        move || ask(&stop, &served, (false, &Asks::default()), || TcpStream::connect(address))
    });
    for _ in 0..2 {
        let before = served.load(Ordering::SeqCst);
        node.upgrade();
        until("requests are served", || served.load(Ordering::SeqCst) >= before + 50);
    }
    // The manager's own copy is not the one that serves.
    drop(socket);
    assert_eq!(get(address, "/", &[]).status, 200);
    stop.store(true, Ordering::SeqCst);
    assert_eq!(load.join().unwrap(), [] as [String; 0]);
}
