//! A node's edge, an upstream and a client, all over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use phalanx_decide::DecidePlan;
use phalanx_edge::http1::{BodyDecoder, ResponseFraming, ResponseHead, parse_head, read_response_head};
use phalanx_edge::{
    AppPlan, Edge, EdgeHandle, EdgePlan, EdgeSettings, EdgeShared, Material, Places, UpstreamPlan,
};
use phalanx_model::counters::LimitReached;
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::{
    AccessEvent, Actor, Author, AuthorRole, BodyFraming, Decision, DecisionId, DecisionKind, FramingFault,
    SecurityEvent, Signal, Swap, SystemClock, View,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) edge: EdgeHandle,
    pub(crate) plan: Arc<Swap<EdgePlan>>,
    pub(crate) view: Arc<Swap<View>>,
    pub(crate) places: Arc<Swap<Places>>,
    pub(crate) material: Arc<Swap<Material>>,
    pub(crate) readers: LaneReaders,
    pub(crate) upstream: Upstream,
}

impl Node {
    /// A node in front of a fresh upstream; `change` edits its settings and its one app.
    pub(crate) async fn start(change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> Self {
        let upstream = Upstream::start().await;
        Self::before(upstream, change, DecidePlan::default())
    }

    pub(crate) async fn plain() -> Self {
        Self::start(|_, _| ()).await
    }

    pub(crate) fn before(
        upstream: Upstream,
        change: impl FnOnce(&mut EdgeSettings, &mut AppPlan),
        decide: DecidePlan,
    ) -> Self {
        let mut settings = EdgeSettings::new(vec!["127.0.0.1:0".parse().unwrap()], 2, 7);
        let mut app = AppPlan::forwarding("shop", upstream.plan());
        change(&mut settings, &mut app);
        let plan = Arc::new(Swap::new(EdgePlan::new(1, decide, vec![app])));
        let view = Arc::new(Swap::new(View::default()));
        let places = Arc::new(Swap::new(Places::default()));
        let material = Arc::new(Swap::new(Material::default()));
        let (lanes, readers) = Lanes::new();
        let shared = EdgeShared {
            plan: Arc::clone(&plan),
            view: Arc::clone(&view),
            places: Arc::clone(&places),
            material: Arc::clone(&material),
            lanes,
            clock: Arc::new(SystemClock),
        };
        let edge = Edge::bind(settings, shared, Vec::new()).unwrap();
        let handle = edge.handle();
        edge.run().unwrap();
        Self { edge: handle, plan, view, places, material, readers, upstream }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.edge.local_addrs()[0]
    }

    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address()).await.unwrap(), input: BytesMut::new() }
    }

    /// The next event of the security lane that is about a request.
    pub(crate) async fn security_request(&mut self) -> (AccessEvent, Vec<Signal>, Vec<FramingFault>) {
        loop {
            let event = timeout(PATIENCE, self.readers.security.recv()).await.unwrap().unwrap();
            if let SecurityEvent::Request { access, signals, faults } = event {
                return (*access, signals, faults);
            }
        }
    }

    pub(crate) async fn access(&mut self) -> AccessEvent {
        *timeout(PATIENCE, self.readers.access.recv()).await.unwrap().unwrap()
    }

    pub(crate) fn ban(&self, ip: &str) {
        self.ban_actor(Actor::ip(ip.parse().unwrap()));
    }

    pub(crate) fn ban_actor(&self, actor: Actor) {
        self.order(DecisionKind::Ban, actor);
    }

    /// Puts an order into force, in the place of those about the same actor.
    pub(crate) fn order(&self, kind: DecisionKind, actor: Actor) {
        let decision = Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, 1),
            actor,
            kind,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node },
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms: u64::MAX,
            version: 1,
        });
        let key = decision.actor.key();
        self.view.store(Arc::new(self.view.load().with_key(key, vec![decision])));
    }

    pub(crate) fn count(&self, of: impl Fn(&phalanx_model::counters::WorkerCounters) -> &AtomicU64) -> u64 {
        self.edge.counters().iter().map(|counters| of(counters).load(Ordering::Relaxed)).sum()
    }

    /// How often clients met a limit.
    pub(crate) fn reached(&self, limit: LimitReached) -> u64 {
        self.count(|counters| &counters.limits_reached[limit as usize])
    }
}

/// Waits until something is so; fails when it never gets so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < until, "{what} never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[derive(Debug)]
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) input: BytesMut,
}

pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut fields = self.head.headers();
        let (_, value) = fields.find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a GET and reads its answer.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to(false).await
    }

    /// Reads an answer; `to_head`: to a HEAD request.
    pub(crate) async fn answer_to(&mut self, to_head: bool) -> Answer {
        timeout(PATIENCE, self.read_answer(to_head))
            .await
            .expect("no answer in time")
            .expect("no whole answer")
    }

    pub(crate) async fn head_only(&mut self) -> ResponseHead {
        loop {
            if let Some(head) = read_response_head(&mut self.input, false).unwrap() {
                return head;
            }
            assert!(self.fill().await > 0, "closed before a head");
        }
    }

    pub(crate) async fn read_answer(&mut self, to_head: bool) -> Option<Answer> {
        let head = loop {
            if let Some(head) = read_response_head(&mut self.input, to_head).unwrap() {
                break head;
            }
            if self.fill().await == 0 {
                return None;
            }
        };
        let mut decoder = match head.framing {
            ResponseFraming::None => BodyDecoder::length(0),
            ResponseFraming::Length(bytes) => BodyDecoder::length(bytes),
            ResponseFraming::Chunked => BodyDecoder::chunked(),
            ResponseFraming::UntilClose => BodyDecoder::until_close(),
        };
        let mut body = Vec::new();
        while !decoder.is_done() {
            let step = decoder.step(&self.input).unwrap();
            body.extend_from_slice(&self.input[step.data]);
            let consumed = step.consumed;
            let _ = self.input.split_to(consumed);
            if consumed == 0 && self.fill().await == 0 {
                return decoder.ends_with_connection().then_some(Answer { head, body });
            }
        }
        Some(Answer { head, body })
    }

    /// Whether the other end has closed, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0; 1];
        let read = timeout(PATIENCE, self.stream.read(&mut byte)).await.expect("the connection stays open");
        matches!(read, Ok(0) | Err(_))
    }

    pub(crate) async fn fill(&mut self) -> usize {
        self.stream.read_buf(&mut self.input).await.unwrap_or(0)
    }
}

/// A small application.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<UpstreamState>,
}

#[derive(Default)]
pub(crate) struct UpstreamState {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    /// Opens the gate that `/gate` waits at.
    pub(crate) gate: Notify,
    /// Requests that wait at the gate.
    pub(crate) waiting: AtomicU64,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<UpstreamState>::default();
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn plan(&self) -> UpstreamPlan {
        UpstreamPlan::new(&self.address.ip().to_string(), self.address.port(), "")
    }
}

pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<UpstreamState>) {
    let mut client = Client { stream, input: BytesMut::new() };
    let mut served = 0;
    loop {
        let head = loop {
            if let Ok(head) = parse_head(&client.input) {
                let _ = client.input.split_to(head.raw.len());
                break head;
            }
            if client.fill().await == 0 {
                return;
            }
        };
        state.requests.fetch_add(1, Ordering::Relaxed);
        served += 1;
        assert!(head.faults.is_empty(), "faulty request to the upstream: {:?}", head.raw);
        let target = String::from_utf8_lossy(head.target()).into_owned();
        let mut decoder = match head.framing {
            BodyFraming::None => BodyDecoder::length(0),
            BodyFraming::Length(bytes) => BodyDecoder::length(bytes),
            BodyFraming::Chunked => BodyDecoder::chunked(),
        };
        let path = target.split('?').next().unwrap_or_default();
        if path == "/stream-echo" {
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        }
        let mut body = Vec::new();
        while !decoder.is_done() {
            let step = decoder.step(&client.input).unwrap();
            let data = client.input[step.data].to_vec();
            let consumed = step.consumed;
            let _ = client.input.split_to(consumed);
            if path == "/stream-echo" && !data.is_empty() {
                let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
                if client.stream.write_all(&chunk).await.is_err() {
                    return;
                }
            } else {
                body.extend_from_slice(&data);
            }
            if consumed == 0 && client.fill().await == 0 {
                return;
            }
        }
        let plain = |body: &[u8]| {
            [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
        };
        let text = |body: &[u8]| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        };
        let answer = match path {
            _ if let Some(said) = head.header("x-answer") => {
                // Status and fields, as the test wants them.
                let said = String::from_utf8_lossy(said).replacen('|', " X\r\n", 1).replace('|', "\r\n");
                let status = if said.contains("\r\n") { said } else { format!("{said} X") };
                format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n")
                    .replace(" 204 X\r\nContent-Type: text/html\r\nContent-Length: 0", " 204 X")
                    .into_bytes()
            }
            "/stream-echo" => b"0\r\n\r\n".to_vec(),
            "/echo" => plain(&body),
            "/head" => plain(&head.raw),
            "/large-length" => plain(&pattern(10 << 20)),
            "/large-chunked" => {
                let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for part in pattern(10 << 20).chunks(100_000) {
                    out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                    out.extend_from_slice(part);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
                out
            }
            "/trailers" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\nHost: x\r\n\r\n".to_vec(),
            "/request-trailers" => plain(decoder.trailers()),
            "/until-close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_vec(),
            "/truncated" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec(),
            "/truncated-chunks" => {
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()
            }
            "/hints" => {
                let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".to_vec();
                [hints, plain(b"hinted")].concat()
            }
            "/hop" => {
                b"HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-Request-Id: theirs\r\n\
                  ETag: \"a\"\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            }
            "/leak-head" => b"HTTP/1.1 200 OK\r\nX-Leak: leak\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "/leak-body" => text(b"a secret"),
            "/large-text" => text(&pattern(16 << 20)),
            "/plain-text" => text(b"nothing to hide"),
            "/sql-error" => page(SQL_ERROR, false),
            "/sql-error-gzip" => page(SQL_ERROR, true),
            "/page-gzip" => page("<html>nothing to hide</html>", true),
            "/not-modified" => b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec(),
            "/no-content" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "/for-head" => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
            "/ambiguous" => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                    .to_vec()
            }
            "/nonsense" => b"220 mail.test ESMTP\r\n\r\n".to_vec(),
            // A server that closes an idle connection just as the next request comes.
            "/once" if served > 1 => return,
            "/once" => plain(b"once"),
            "/silent" => {
                client.is_closed().await;
                return;
            }
            "/gate" => {
                state.waiting.fetch_add(1, Ordering::SeqCst);
                state.gate.notified().await;
                plain(b"through")
            }
            "/ws" => {
                let upgraded =
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                client.send(upgraded).await;
                return echo(client).await;
            }
            "/truncated-text" => {
                let head =
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\n".to_vec();
                [head, b"half".repeat(500)].concat()
            }
            "/slow-text" => {
                client
                    .send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                    .await;
                state.gate.notified().await;
                b"6\r\nsecond\r\n0\r\n\r\n".to_vec()
            }
            "/events" => {
                client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
                state.gate.notified().await;
                client.send("data: 2\n\n").await;
                return;
            }
            _ => plain(b"hello"),
        };
        if client.stream.write_all(&answer).await.is_err() {
            return;
        }
        if matches!(
            path,
            "/until-close" | "/truncated" | "/truncated-text" | "/truncated-chunks" | "/nonsense"
        ) {
            return;
        }
    }
}

/// A page that shows a database's error.
pub(crate) const SQL_ERROR: &str = "<html>You have an error in your SQL syntax; check the manual that corresponds to your \
     MySQL server version for the right syntax to use</html>";

fn page(text: &str, compressed: bool) -> Vec<u8> {
    let (body, coding) = match compressed {
        true => (gzip(text.as_bytes()), "Content-Encoding: gzip\r\n"),
        false => (text.as_bytes().to_vec(), ""),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{coding}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body].concat()
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut client: Client<S>) {
    loop {
        if !client.input.is_empty() {
            let bytes = client.input.split();
            client.send(&bytes).await;
        }
        if client.fill().await == 0 {
            client.send("bye").await;
            return;
        }
    }
}

/// Bytes in which a shift or a gap shows.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
}
