//! Upstreams that we did not write: gRPC's own server and client, nginx and Node with TLS and HTTP/2, and servers that die under load.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::*;

/// A program that ends with the test.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    /// Starts a program that prints the port it listens on.
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        Self { child, port }
    }

    /// An application on Node; with a certificate from its folder it has TLS.
    fn node(name: &str, tls: Option<&Path>) -> Self {
        let mut command = Command::new("node");
        command.arg(peer("origin.js")).arg(name);
        if let Some(folder) = tls {
            command.arg(folder.join("origin.pem")).arg(folder.join("origin.key"));
        }
        Self::start(command)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/blackbox/peers").join(file)
}

/// Whether a program is missing, with a line that says so.
pub(crate) fn absent(name: &str, args: &[&str]) -> bool {
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let missing = !command.status().is_ok_and(|status| status.success());
    if missing {
        assert!(std::env::var("CI").is_err(), "CI has no {name} for {args:?}");
        eprintln!("skipped: {name} not installed");
    }
    missing
}

/// A certificate for `origin.test` and the authority that signed it: `origin.pem`, `origin.key`, `ca.pem`. Returns the pin of its key.
pub(crate) fn certificate(folder: &Path) -> String {
    let script = "set -e
        new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $new -days 30 -subj /CN=ca -keyout ca.key -out ca.pem
        openssl req $new -subj /CN=origin.test -keyout origin.key -out origin.csr
        echo subjectAltName=DNS:origin.test > names
        openssl x509 -req -in origin.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out origin.pem";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pem = folder.join("origin.pem");
    let pipe = format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64",
        pem.display()
    );
    let output = Command::new("sh").args(["-c", &pipe]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A node with this policy, beside the files of a folder.
pub(crate) fn node(folder: &Path, policy: &str) -> Node {
    let settings = format!(
        "policy = \"policy.toml\"\n[node]\nname = \"a\"\nstate = {:?}\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nh2c = true\n",
        folder.join("state")
    );
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    std::fs::write(folder.join("policy.toml"), format!("[[apps]]\nname = \"shop\"\n{policy}")).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

/// Python with gRPC.
fn grpc() -> Option<Command> {
    let mut command = Command::new("python3");
    if let Ok(folder) = std::env::var("PHALANX_GRPC") {
        command.env("PYTHONPATH", folder);
    }
    let found = command.args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").is_err(), "CI has no grpcio");
        eprintln!("skipped: Python's grpcio not installed");
        return None;
    }
    let mut command = Command::new("python3");
    if let Ok(folder) = std::env::var("PHALANX_GRPC") {
        command.env("PYTHONPATH", folder);
    }
    command.arg(peer("grpc_peer.py"));
    Some(command)
}

fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn grpc_goes_through_in_all_its_kinds() {
    let (Some(mut server), Some(mut client), Some(mut late)) = (grpc(), grpc(), grpc()) else { return };
    server.arg("serve");
    let server = Peer::start(server);
    let folder = tempfile::tempdir().unwrap();
    // What is wrong with the head, as Accept for one, is none of these clients' habits.
    let upstream =
        format!("upstream = \"http://127.0.0.1:{}\"\nupstream_protocol = \"http2\"\n", server.port);
    let node = node(folder.path(), &upstream);
    client.args(["call", &node.listen.port().to_string()]);
    let text = said(client);
    let expected = "unary True yes 1 b'\\x00\\xff'\n\
         fails NOT_FOUND no such thing: ü 2\n\
         server [4, 4, 4, 4, 4]\n\
         client 11\n\
         both ['ONE', 'TWO', 'THREE'] end\n\
         attack PERMISSION_DENIED Request refused\n";
    assert_eq!(text, expected);
    drop(server);
    late.args(["dead", &node.listen.port().to_string()]);
    assert_eq!(said(late), "dead UNAVAILABLE Service unavailable\n");
    let blocked = node.cli_json(&["events", "--action", "deny"]);
    assert_eq!(blocked[0]["status"], 403, "{blocked}");
}

#[test]
fn a_node_application_is_reached_over_tls_and_http2() {
    if absent("node", &["--version"]) || absent("openssl", &["version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pin = certificate(folder.path());
    let origin = Peer::node("a", Some(folder.path()));
    let url = format!("upstream = \"https://127.0.0.1:{}\"\n", origin.port);
    let by_file = "server_name = \"origin.test\", ca_file = \"ca.pem\"";
    for (protocol, tls, version) in [
        ("http1", by_file.to_owned(), "1.1"),
        ("http2", by_file.to_owned(), "2.0"),
        ("auto", format!("pins = [\"{pin}\"]"), "2.0"),
        ("auto", "verify = false".to_owned(), "2.0"),
    ] {
        let policy = format!("{url}upstream_protocol = \"{protocol}\"\nupstream_tls = {{ {tls} }}\n");
        let node = node(folder.path(), &policy);
        let reply = node.get("/a?b=c");
        assert_eq!((reply.status, reply.text().as_str()), (200, "/a?b=c 0"), "{protocol} {tls}");
        assert_eq!(reply.fields["x-version"], version, "{protocol}");
        let body = vec![b'x'; 300_000];
        assert_eq!(
            request(node.listen, "POST", "/b", &[("Content-Type", "image/png")], &body).text(),
            "/b 300000"
        );
        assert_eq!(request(node.listen, "HEAD", "/b", &[], b"").status, 200);
        assert_eq!(node.get("/events").text(), "data: 1\n\ndata: 2\n\n");
        if version == "2.0" {
            let raw =
                "GET /hints HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nUser-Agent: x\r\nConnection: close\r\n\r\n";
            assert_eq!(raw_lines(&node, raw).first().map(String::as_str), Some("HTTP/1.1 103 Early Hints"));
            let raw = "GET /trailers HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nUser-Agent: x\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n";
            let lines = raw_lines(&node, raw);
            assert_eq!(lines[lines.len() - 3..], ["0", "x-sum: 1", ""], "{lines:?}");
        }
    }
    // Whom nobody vouches for gets nothing, and the record says why.
    let node = node(folder.path(), &url);
    let reply = node.get("/");
    assert_eq!(reply.status, 502);
    let log = node.state.join("record/access.log");
    until("it is recorded", || {
        std::fs::read_to_string(&log)
            .is_ok_and(|text| text.contains("TLS: invalid peer certificate: UnknownIssuer"))
    });
}

fn raw_lines(node: &Node, text: &str) -> Vec<String> {
    use std::io::{Read, Write};
    let mut stream = connect(node.listen);
    stream.write_all(text.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    // What is behind the last line end.
    lines.pop();
    lines
}

#[test]
fn nginx_is_reached_over_tls_where_policy_says_whom_to_believe() {
    if absent("nginx", &["-v"]) || absent("openssl", &["version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let port = free_port();
    let at = folder.path().display();
    let configuration = format!(
        "daemon off; pid {at}/nginx.pid; error_log {at}/error.log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {at}/origin.pem; ssl_certificate_key {at}/origin.key;\n\
         location / {{ default_type text/plain; return 200 \"$server_protocol $ssl_server_name $ssl_session_reused $host\"; }} }} }}\n"
    );
    std::fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.path().join("nginx.conf")).arg("-p").arg(folder.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _nginx = Peer { child, port };
    until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let tls = "upstream_tls = { server_name = \"origin.test\", ca_file = \"ca.pem\" }\n";
    for (protocol, spoken) in [("http1", "HTTP/1.1"), ("auto", "HTTP/2.0")] {
        let policy =
            format!("upstream = \"https://127.0.0.1:{port}\"\nupstream_protocol = \"{protocol}\"\n{tls}");
        let node = node(folder.path(), &policy);
        let asked =
            "GET / HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        let text = raw(node.listen, asked.as_bytes()).text();
        assert!(
            text.starts_with(&format!("{spoken} origin.test ")) && text.ends_with(" shop.test"),
            "{text}"
        );
    }
    // `--to` believes whom the system does, which is not this one.
    let node = Node::up(&format!("https://127.0.0.1:{port}"), &[]);
    assert_eq!(node.get("/").status, 502);
}

#[test]
fn one_of_two_servers_dies_under_load_and_no_request_fails() {
    if absent("node", &["--version"]) {
        return;
    }
    let (mut first, second) = (Peer::node("first", None), Peer::node("second", None));
    let folder = tempfile::tempdir().unwrap();
    let policy = format!(
        "upstreams = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\"]\n[apps.retries]\nbudget_least = 100\n",
        first.port, second.port
    );
    let node = node(folder.path(), &policy);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let listen = node.listen;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let reply = get(listen, "/", &[]);
                    if reply.status != 200 {
                        failed.push(reply.status);
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                }
                failed
            })
        })
        .collect();
    let more = |count: usize| {
        let from = served.load(Ordering::SeqCst);
        until("more requests are served", || served.load(Ordering::SeqCst) >= from + count);
    };
    more(500);
    first.child.kill().unwrap();
    more(1_000);
    stop.store(true, Ordering::SeqCst);
    let failed: Vec<u16> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(failed, [0_u16; 0], "of {}", served.load(Ordering::SeqCst));
    assert_eq!(get(listen, "/", &[]).fields["x-name"], "second");
}
