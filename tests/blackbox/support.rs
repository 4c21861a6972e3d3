//! Real nodes, a real upstream and a plain HTTP/1.1 client: nothing here knows the product's insides.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A path that every app of these tests serves, with an attack in it. `n` makes the payload distinct.
pub(crate) fn attack(n: usize) -> String {
    format!("/?q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D{n}--%20")
}

/// A running node; it is stopped when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) tls_listen: Option<SocketAddr>,
    /// Where connections are carried as they are.
    pub(crate) tcp_listen: Vec<SocketAddr>,
    /// Where other proxies ask.
    pub(crate) check_listen: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) console: String,
    pub(crate) state: PathBuf,
    _folder: Option<TempDir>,
}

impl Node {
    /// `phalanx up --to UPSTREAM ARGS` on free ports with state of its own.
    pub(crate) fn up(upstream: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Self::up_in(folder.path(), upstream, args);
        node._folder = Some(folder);
        node
    }

    /// The same, with state that outlives the node.
    pub(crate) fn up_in(state: &Path, upstream: &str, args: &[&str]) -> Self {
        let fixed = [
            "up",
            "--to",
            upstream,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--json",
            "--state",
        ];
        let mut command = phalanx(&fixed);
        command.arg(state).args(args);
        Self::start(command)
    }

    /// Any command that prints one ready line.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("the node did not start: {errors}");
        };
        // Nobody reads what it logs from here on; a thread drains it so that the node never blocks on it.
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let text = |key: &str| ready[key].as_str().unwrap_or_else(|| panic!("{key} in {ready}")).to_owned();
        let address =
            |key: &str| text(key).trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        // A node of an earlier version says nothing of what it has not.
        let addresses = |key: &str| {
            let told: Option<Vec<SocketAddr>> = serde_json::from_value(ready[key].clone()).unwrap();
            told.unwrap_or_default()
        };
        Self {
            listen: address("listen"),
            tls_listen: ready["tls_listen"].as_str().map(|address| address.parse().unwrap()),
            tcp_listen: addresses("tcp_listen"),
            check_listen: addresses("check_listen"),
            admin: address("admin"),
            console: text("console"),
            state: PathBuf::from(text("state")),
            child,
            _folder: None,
        }
    }

    /// GET through the node.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.get_as(path, &[])
    }

    /// GET through the node with header fields.
    pub(crate) fn get_as(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        get(self.listen, path, fields)
    }

    /// GET in the name of a client behind the trusted forwarder 127.0.0.1.
    pub(crate) fn get_from(&self, client: &str, path: &str) -> Reply {
        self.get_as(path, &[("X-Forwarded-For", client)])
    }

    /// A `phalanx` command that talks to this node.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        phalanx(args).arg("--state").arg(&self.state).output().unwrap()
    }

    /// The same, with `--json`, parsed.
    pub(crate) fn cli_json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The actors of live decisions.
    pub(crate) fn banned(&self) -> Vec<String> {
        let list = self.cli_json(&["decision", "list"]);
        list.as_array().unwrap().iter().map(|d| actor(&d["actor"])).collect()
    }

    /// GET on the admin listener with the node's token. Who waits until something is so asks faster than he may: he asks again.
    pub(crate) fn admin_get(&self, path: &str) -> Reply {
        let token = std::fs::read_to_string(self.state.join("admin.token")).unwrap();
        let bearer = format!("Bearer {}", token.trim());
        let start = Instant::now();
        loop {
            let reply = get(self.admin, path, &[("Authorization", &bearer)]);
            if reply.status != 429 || start.elapsed() > DEADLINE {
                return reply;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Ends it as a service manager would, and waits.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the node ended with {status}");
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of an actor as the API writes it, or its text.
fn actor(value: &Value) -> String {
    match &value["value"] {
        Value::String(text) => text.clone(),
        Value::Null => value.as_str().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

/// The product's binary: the one built with the tests, or the one that `PHALANX_BIN` names.
pub(crate) fn binary() -> String {
    std::env::var("PHALANX_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_phalanx").to_owned())
}

/// The product's binary with these arguments.
pub(crate) fn phalanx(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    command
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The request's id.
    pub(crate) fn id(&self) -> &str {
        self.fields.get("x-request-id").unwrap_or_else(|| panic!("no id in {self:?}"))
    }
}

/// One GET on a connection of its own.
pub(crate) fn get(to: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Reply {
    request(to, "GET", path, fields, b"")
}

/// One request on a connection of its own.
pub(crate) fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nUser-Agent: blackbox\r\nAccept: */*\r\n"
    );
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    raw(to, &[head.as_bytes(), body].concat())
}

/// Sends bytes as they are and reads one reply.
pub(crate) fn raw(to: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(to);
    // The peer may refuse and close before it has read everything.
    let _ = stream.write_all(bytes);
    read_reply(&mut BufReader::new(stream))
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads one reply, by length, chunks or to the end. A ban cuts connections: what was cut has status 0, or a short body.
pub(crate) fn read_reply(stream: &mut impl BufRead) -> Reply {
    let mut line = String::new();
    if stream.read_line(&mut line).unwrap_or(0) == 0 {
        return Reply { status: 0, fields: HashMap::new(), body: Vec::new() };
    }
    let status =
        line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no reply: {line:?}"));
    let mut fields = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = fields.get("content-length") {
        let _ = stream.take(length.parse().unwrap()).read_to_end(&mut body);
    } else if fields.get("transfer-encoding").is_some_and(|te| te == "chunked") {
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else if status >= 200 && status != 204 && status != 304 {
        stream.read_to_end(&mut body).unwrap();
    }
    Reply { status, fields, body }
}

/// An app that answers every request with its head and body as text.
pub(crate) struct App {
    pub(crate) url: String,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl App {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(stream, &count));
            }
        });
        Self { url, requests }
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        let mut length = 0;
        let mut chunked = false;
        loop {
            let start = head.len();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            let line = head[start..].trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= line == "transfer-encoding: chunked";
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        while chunked {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..size]);
            chunked = size > 0;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let answer = [head.as_bytes(), &body].concat();
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        // In one piece: the second of two would wait for the acknowledgement of the first, which is delayed by 40 ms.
        if reader.get_mut().write_all(&[reply.as_bytes(), &answer].concat()).is_err() {
            return;
        }
    }
}

/// A NATS server of its own, with JetStream; `None` (and one line) where there is no binary.
pub(crate) struct Nats {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Nats {
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Self::spawn(port, folder.path())?;
        Some(Self { child, port, folder })
    }

    /// A server with the configuration that a command, told the server's port and a folder, wrote into that folder.
    pub(crate) fn start_configured(write: impl FnOnce(u16, &Path)) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        write(port, folder.path());
        let mut command = Command::new(Self::binary());
        command.arg("-c").arg(folder.path().join("nats-server.conf"));
        let child = Self::run(command, port)?;
        Some(Self { child, port, folder })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it and starts it again on the same port and store.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = Self::spawn(self.port, self.folder.path()).unwrap();
    }

    fn binary() -> String {
        std::env::var("PHALANX_NATS_SERVER").unwrap_or_else(|_| "nats-server".into())
    }

    fn spawn(port: u16, store: &Path) -> Option<Child> {
        let mut command = Command::new(Self::binary());
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(store);
        Self::run(command, port)
    }

    fn run(mut command: Command, port: u16) -> Option<Child> {
        let child = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(_) => {
                assert!(std::env::var("CI").is_err(), "CI has no nats-server");
                eprintln!("skipped: nats-server not installed");
                return None;
            }
        };
        until("nats-server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(child)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that is ended with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, without a word of its.
pub(crate) fn start(mut command: Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// Whether a program is missing, told once; not in CI.
pub(crate) fn absent(program: &str) -> bool {
    let missing = Command::new(program).arg("-v").output().is_err();
    if missing {
        assert!(std::env::var("CI").is_err(), "CI has no {program}");
        eprintln!("skipped: {program} not installed");
    }
    missing
}

/// A free port below those that the system gives to connections, one of which could else take it before a server listens there.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 6_000).unwrap();
    let next = || 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(12_000).find(is_free).unwrap()
}

/// Waits until the condition holds; fails after [`DEADLINE`].
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "in vain waited until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
