//! Servers that people have, as upstreams: what they answer through a node is what they answer to whoever asks them directly, in all the
//! ways that HTTP has. curl asks, both times.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::origins::{absent, certificate, node};
use crate::support::*;

/// A server, how it is spoken to, and what it can.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    tls: bool,
    http2: bool,
    /// What is behind it: nothing, or an application whose answers it passes on.
    app: bool,
    trailers: Option<&'static str>,
    hints: bool,
    /// Whether it takes bodies without a length.
    chunked: bool,
    websocket: bool,
    /// A path that says which connection a request came on.
    peer: Option<&'static str>,
}

const NGINX: Kind = Kind {
    name: "nginx",
    tls: false,
    http2: false,
    app: true,
    trailers: Some("/trailers/page.txt"),
    hints: false,
    chunked: true,
    websocket: true,
    peer: Some("/connection"),
};
const CADDY: Kind =
    Kind { name: "caddy", trailers: Some("/app/trailers"), hints: true, peer: Some("/connection"), ..NGINX };
const NODE: Kind = Kind { name: "node", peer: Some("/app/peer"), ..CADDY };
const NGHTTPX: Kind = Kind { name: "nghttpx", http2: true, websocket: false, peer: None, ..CADDY };
// Over HTTP/2 curl reads no trailers behind a body whose length it knows; nghttpd and nginx have no others.
const NGHTTPD: Kind = Kind { name: "nghttpd", app: false, trailers: None, hints: false, ..NGHTTPX };
const GUNICORN: Kind = Kind {
    name: "gunicorn",
    trailers: None,
    hints: false,
    websocket: false,
    peer: Some("/app/peer"),
    ..NGINX
};

/// A server that runs, with a folder of its own.
struct Server {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    /// Where the application behind it is.
    behind: Option<(Child, u16)>,
    child: Option<Child>,
}

impl Server {
    fn start(kind: Kind, folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("static")).unwrap();
        std::fs::create_dir_all(folder.join("trailers")).unwrap();
        for place in ["static/page.txt", "trailers/page.txt"] {
            std::fs::write(folder.join(place), "0123456789".repeat(200)).unwrap();
        }
        let proxies = kind.app && !matches!(kind.name, "node" | "gunicorn");
        let behind = proxies.then(|| {
            let mut child = quiet(catalogue(0, "http", None)).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            (child, line.trim().parse().unwrap())
        });
        let mut server = Self { kind, folder: folder.to_owned(), port: free_port(), behind, child: None };
        server.again();
        server
    }

    /// Starts it, once more if it runs.
    fn again(&mut self) {
        if let Some(mut child) = self.child.take() {
            // As its service manager would, so that all of its processes end.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            child.wait().unwrap();
        }
        let mut command = self.command();
        self.child = Some(quiet_all(&mut command).spawn().unwrap());
        let port = self.port;
        until(&format!("{} listens", self.kind.name), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    fn command(&self) -> Command {
        let (kind, port, at) = (self.kind, self.port, self.folder.display());
        let behind = self.behind.as_ref().map_or(0, |(_, port)| *port);
        let (pem, key) = (self.folder.join("../origin.pem"), self.folder.join("../origin.key"));
        let write = |name: &str, text: String| {
            std::fs::write(self.folder.join(name), text).unwrap();
            self.folder.join(name)
        };
        let mut command = Command::new(kind.name);
        match kind.name {
            "nginx" => {
                let ssl = if kind.http2 {
                    " ssl http2"
                } else if kind.tls {
                    " ssl"
                } else {
                    ""
                };
                let text = NGINX_CONF.replace("LISTEN", &format!("127.0.0.1:{port}{ssl}"));
                let text = text.replace("FOLDER", &at.to_string()).replace("BEHIND", &behind.to_string());
                command.arg("-p").arg(&self.folder).arg("-c").arg(write("nginx.conf", text));
            }
            "caddy" => {
                let scheme = if kind.tls { "https" } else { "http" };
                let tls = format!("tls {} {}", pem.display(), key.display());
                let text = CADDYFILE.replace("ADDRESS", &format!("{scheme}://:{port}"));
                let text = text.replace("TLS", if kind.tls { &tls } else { "" });
                let text = text.replace("FOLDER", &at.to_string()).replace("BEHIND", &behind.to_string());
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(write("Caddyfile", text));
                command.env("HOME", &self.folder).env("XDG_DATA_HOME", &self.folder);
            }
            "nghttpx" => {
                let front = if kind.tls { "" } else { ";no-tls" };
                command.arg(format!("-f127.0.0.1,{port}{front}")).arg(format!("-b127.0.0.1,{behind}"));
                command.args(["--conf=/dev/null", "--workers=1", "--no-via", "--log-level=FATAL"]);
                if kind.tls {
                    command.arg(key).arg(pem);
                }
            }
            "nghttpd" => {
                command.args(["-a", "127.0.0.1", "--echo-upload", "--trailer", "x-sum: 42", "-d"]);
                command.arg(&self.folder);
                if kind.tls {
                    command.arg(port.to_string()).arg(key).arg(pem);
                } else {
                    command.arg("--no-tls").arg(port.to_string());
                }
            }
            "gunicorn" => {
                command.arg("--chdir").arg(peers()).arg("--bind").arg(format!("127.0.0.1:{port}"));
                command.args(["--worker-class", "gthread", "--threads", "8", "--keep-alive", "30"]);
                command.arg("catalogue:app").env("PYTHONDONTWRITEBYTECODE", "1");
            }
            _ => {
                let protocol = match (kind.tls, kind.http2) {
                    (false, false) => "http",
                    (false, true) => "h2c",
                    (true, false) => "https",
                    (true, true) => "h2",
                };
                return catalogue(port, protocol, kind.tls.then_some((pem, key)));
            }
        }
        command
    }

    fn url(&self) -> String {
        match self.kind.tls {
            true => format!("https://origin.test:{}", self.port),
            false => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// curl that asks it directly.
    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.arg("--cacert").arg(self.folder.join("../ca.pem"));
        curl.args(["--resolve", &format!("origin.test:{}:127.0.0.1", self.port)]);
        curl.arg(match (self.kind.http2, self.kind.tls) {
            (true, true) => "--http2",
            (true, false) => "--http2-prior-knowledge",
            (false, _) => "--http1.1",
        });
        curl
    }

    /// A node before it.
    fn node(&self) -> Node {
        let protocol = match (self.kind.http2, self.kind.tls) {
            (true, true) => "auto",
            (true, false) => "http2",
            (false, _) => "http1",
        };
        let scheme = if self.kind.tls { "https" } else { "http" };
        let tls = "upstream_tls = { server_name = \"origin.test\", ca_file = \"../ca.pem\" }\n";
        let policy = format!(
            "upstream = \"{scheme}://127.0.0.1:{}\"\nupstream_protocol = \"{protocol}\"\n{}",
            self.port,
            if self.kind.tls { tls } else { "" }
        );
        node(&self.folder, &policy)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.behind.as_mut().map(|(child, _)| child).into_iter().chain(&mut self.child) {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

fn catalogue(port: u16, protocol: &str, tls: Option<(PathBuf, PathBuf)>) -> Command {
    let mut command = Command::new("node");
    command.arg(peers().join("catalogue.js")).arg(port.to_string()).arg(protocol);
    if let Some((pem, key)) = tls {
        command.arg(pem).arg(key);
    }
    command
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/blackbox/peers")
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn quiet_all(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// What an answer was, without what belongs to the hop or to the moment.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Heads in order, each with its fields; the last may be trailers.
    heads: Vec<Vec<String>>,
    body: String,
    whole: bool,
}

impl Answer {
    fn fields(&self) -> Vec<&str> {
        self.heads.iter().flatten().map(String::as_str).collect()
    }
}

/// What belongs to a hop, to a moment, or to a node.
const OF_THE_HOP: [&str; 11] = [
    "date",
    "via",
    "x-request-id",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "x-connection",
    "alt-svc",
    "last-modified",
    "trailer",
    "server",
];

fn ask(mut curl: Command, url: &str, args: &[&str], folder: &Path) -> Answer {
    let (heads, body) = (folder.join("heads"), folder.join("body"));
    let _ = std::fs::remove_file(&body);
    curl.args(["-s", "--max-time", "20", "-H", "Host: shop.test", "-D"]).arg(&heads).arg("-o").arg(&body);
    let status = curl.args(args).arg(url).stdin(Stdio::null()).status().unwrap();
    let heads = std::fs::read_to_string(&heads).unwrap_or_default();
    let heads = heads.split("\r\n\r\n").filter(|head| !head.trim().is_empty()).map(|head| {
        let mut lines: Vec<String> = head.trim().lines().map(line_of_head).collect();
        lines.retain(|line| !line.is_empty());
        lines.sort();
        lines
    });
    // curl writes a head there where there is nothing else.
    if args.contains(&"--head") {
        std::fs::write(&body, "").unwrap();
    }
    Answer {
        heads: heads.filter(|head| *head != ["HTTP 100"] && !head.is_empty()).collect(),
        body: String::from_utf8_lossy(&std::fs::read(&body).unwrap_or_default()).into_owned(),
        whole: status.success(),
    }
}

/// Versions and reasons are of the hop; what is not to be compared is empty.
fn line_of_head(line: &str) -> String {
    if line.starts_with("HTTP/") {
        return format!("HTTP {}", line.split(' ').nth(1).unwrap_or_default());
    }
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let name = name.to_ascii_lowercase();
    if OF_THE_HOP.contains(&name.as_str()) { String::new() } else { format!("{name}: {}", value.trim()) }
}

/// The requests that a server of this kind is asked, and a word that has to be in the answer.
fn cases(kind: Kind, upload: &str) -> Vec<(&'static str, Vec<String>, &'static str)> {
    let page = "/static/page.txt";
    let owned = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
    let mut cases = vec![
        (page, owned(&[]), "HTTP 200"),
        (page, owned(&["--head"]), "HTTP 200"),
        ("/nowhere", owned(&[]), "HTTP 404"),
    ];
    if !matches!(kind.name, "nghttpd" | "gunicorn") {
        cases.push((page, owned(&["-H", "Range: bytes=5-14"]), "content-range: bytes 5-14/2000"));
        cases.push((page, owned(&["-H", "Range: bytes=-5"]), "content-range: bytes 1995-1999/2000"));
        cases.push((page, owned(&["-H", "Range: bytes=5000-"]), "HTTP 416"));
    }
    let file = format!("@{upload}");
    let echo = if kind.app { "/app/echo" } else { "/echo" };
    let octets = ["-H", "Content-Type: application/octet-stream"];
    let posted = owned(&[octets[0], octets[1], "--data-binary", &file]);
    // curl asks with `Expect: 100-continue` where a body is as large as this.
    cases.push((echo, posted.clone(), "HTTP 200"));
    cases.push((echo, [posted.clone(), owned(&["-H", "Expect:"])].concat(), "HTTP 200"));
    if kind.chunked {
        let chunks =
            owned(&["-X", "POST", "-H", "Transfer-Encoding: chunked", octets[0], octets[1], "-T", upload]);
        cases.push((echo, chunks, "HTTP 200"));
    }
    if kind.app {
        cases.push(("/app/chunked", owned(&[]), "HTTP 200"));
        cases.push(("/app/chunked", owned(&["--head"]), "HTTP 200"));
    }
    if let Some(path) = kind.trailers {
        cases.push((path, owned(&["-H", "TE: trailers", "-H", "Connection: TE"]), "x-sum: 42"));
    }
    if kind.hints {
        cases.push(("/app/hints", owned(&[]), "HTTP 103"));
    }
    cases
}

/// Asks directly and through a node, with either version.
fn same_answers(server: &Server, node: &Node) {
    let upload = server.folder.join("upload");
    std::fs::write(&upload, vec![b'u'; 1_000_000]).unwrap();
    let through = format!("http://{}", node.listen);
    let asked = |curl: Command, url: &str, args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        ask(curl, url, &args, &server.folder)
    };
    let versions = ["--http1.1", "--http2-prior-knowledge"];
    let both = |path: &str, args: &[String]| {
        let direct = asked(server.curl(), &format!("{}{path}", server.url()), args);
        let ours = versions.map(|version| {
            let mut curl = Command::new("curl");
            curl.arg(version);
            asked(curl, &format!("{through}{path}"), args)
        });
        (direct, ours)
    };
    let kind = server.kind;
    for (path, args, has) in cases(kind, &upload.display().to_string()) {
        let (direct, ours) = both(path, &args);
        assert!(direct.whole && direct.fields().contains(&has), "{} {path} {args:?}: {direct:?}", kind.name);
        for (version, answer) in versions.iter().zip(ours) {
            assert_eq!(answer, direct, "{} {path} {args:?} by {version}", kind.name);
        }
    }
    // What a browser has already is not sent again.
    let (first, _) = both("/static/page.txt", &[]);
    if let Some(etag) = first.fields().iter().find_map(|field| field.strip_prefix("etag: ")) {
        let (direct, ours) = both("/static/page.txt", &["-H".to_owned(), format!("If-None-Match: {etag}")]);
        assert!(direct.fields().contains(&"HTTP 304"), "{direct:?}");
        ours.iter().for_each(|answer| assert_eq!(*answer, direct, "{}", kind.name));
    }
    // What breaks off is told as that, to every client.
    for path in ["/app/cut", "/app/cut-chunked"].iter().filter(|_| kind.app) {
        let (direct, ours) = both(path, &[]);
        assert!(!direct.whole, "{} {path}: {direct:?}", kind.name);
        for (version, answer) in versions.iter().zip(ours) {
            assert!(!answer.whole, "{} {path} by {version} is told to be whole: {answer:?}", kind.name);
        }
    }
}

/// Events are passed on as they come, not when there are enough of them.
fn events_come_at_once(node: &Node) {
    let mut stream = connect(node.listen);
    stream.write_all(b"GET /app/events HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nUser-Agent: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut said = BufReader::new(stream);
    let mut line = String::new();
    while !line.contains("data: 1") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before the first event");
    }
    assert_eq!(node.get("/app/release").text(), "released");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: 2"), "{rest}");
}

/// A client that waits for leave to send its body gets it, and then its answer.
fn leave_is_given(node: &Node) {
    let mut stream = connect(node.listen);
    let head = "POST /app/echo HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nUser-Agent: x\r\nConnection: close\r\n\
                Content-Type: application/octet-stream\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = BufReader::new(stream);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    said.read_line(&mut line).unwrap();
    said.get_mut().write_all(b"abc").unwrap();
    let reply = read_reply(&mut said);
    assert_eq!(reply.status, 200);
    assert!(reply.text().starts_with("POST 3 ba7816bf"), "{}", reply.text());
}

/// A WebSocket's bytes go both ways.
fn websocket_echoes(node: &Node) {
    let mut stream = connect(node.listen);
    let head = "GET /app/socket HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nUser-Agent: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "{head}");
        head += &line;
    }
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // A frame of text, masked with zeros.
    let frame = b"\x81\x85\x00\x00\x00\x00hello";
    for _ in 0..2 {
        said.get_mut().write_all(frame).unwrap();
        let mut back = [0; 11];
        said.read_exact(&mut back).unwrap();
        assert_eq!(&back, frame);
    }
}

/// A server that is started again under a node costs no request.
fn a_restart_is_not_noticed(server: &mut Server, node: &Node) {
    let page = || node.get("/static/page.txt").status;
    let echo = if server.kind.app { "/app/echo" } else { "/echo" };
    let post = || request(node.listen, "POST", echo, &[("Content-Type", "image/png")], b"abc").status;
    assert_eq!((page(), post()), (200, 200));
    server.again();
    // It may not have noticed yet that what it has open is closed.
    let after: Vec<_> = (0..4).map(|_| page()).collect();
    assert_eq!(after, [200; 4], "{} after its restart", server.kind.name);
    assert_eq!((post(), post()), (200, 200), "{} after its restart", server.kind.name);
}

fn check(kind: Kind) {
    for (program, words) in [("curl", "--version"), ("openssl", "version"), ("node", "--version")] {
        if absent(program, &[words]) {
            return;
        }
    }
    let words = match kind.name {
        "nginx" => "-v",
        "caddy" => "version",
        _ => "--version",
    };
    if absent(kind.name, &[words]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let mut server = Server::start(kind, &folder.path().join("server"));
    let node = server.node();
    same_answers(&server, &node);
    if kind.app {
        events_come_at_once(&node);
        leave_is_given(&node);
    }
    if kind.websocket {
        websocket_echoes(&node);
    }
    if let Some(path) = kind.peer {
        // Each worker has connections of its own, and takes again the one that it used last.
        let peers: HashSet<_> = (0..20).map(|_| node.get(path).text()).collect();
        let workers = std::thread::available_parallelism().unwrap().get();
        assert!(!peers.contains("") && peers.len() <= workers, "{}: {peers:?}", kind.name);
    }
    a_restart_is_not_noticed(&mut server, &node);
}

#[test]
fn nginx_answers_as_it_does_directly() {
    check(NGINX);
    check(Kind { tls: true, ..NGINX });
    check(Kind { tls: true, http2: true, trailers: None, ..NGINX });
}

#[test]
fn caddy_answers_as_it_does_directly() {
    check(CADDY);
    // What becomes a WebSocket is asked for over HTTP/1.1, which is not spoken here.
    check(Kind { http2: true, websocket: false, ..CADDY });
    check(Kind { tls: true, http2: true, ..CADDY });
}

#[test]
fn nghttp2_answers_as_it_does_directly() {
    check(NGHTTPD);
    check(Kind { tls: true, ..NGHTTPD });
    check(NGHTTPX);
    check(Kind { tls: true, ..NGHTTPX });
}

#[test]
fn node_answers_as_it_does_directly() {
    check(NODE);
    check(Kind { tls: true, ..NODE });
    check(Kind { http2: true, websocket: false, ..NODE });
    check(Kind { tls: true, http2: true, ..NODE });
}

#[test]
fn gunicorn_answers_as_it_does_directly() {
    check(GUNICORN);
}

const NGINX_CONF: &str = "daemon off; pid FOLDER/pid; error_log FOLDER/error.log; worker_processes 1; events {}
http {
    access_log off; client_max_body_size 10m; default_type text/plain;
    client_body_temp_path FOLDER/b; proxy_temp_path FOLDER/p; fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
    map $http_upgrade $upgraded { default upgrade; '' ''; }
    server {
        listen LISTEN; ssl_certificate FOLDER/../origin.pem; ssl_certificate_key FOLDER/../origin.key;
        root FOLDER;
        location /trailers/ { add_trailer x-sum 42; }
        location /connection { return 200 $connection; }
        location /app/ {
            proxy_pass http://127.0.0.1:BEHIND; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded;
        }
    }
}
";

const CADDYFILE: &str = "{
    admin off
    auto_https disable_redirects
    servers {
        protocols h1 h2 h2c
    }
}
ADDRESS {
    bind 127.0.0.1
    TLS
    respond /connection {http.request.remote.port}
    reverse_proxy /app/* 127.0.0.1:BEHIND {
        flush_interval -1
    }
    root * FOLDER
    file_server
}
";
