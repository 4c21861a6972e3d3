//! Behind the balancers that people have: HAProxy and nginx pass connections on with PROXY headers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// Whether a program is missing, told once; not in CI.
fn absent(program: &str) -> bool {
    let missing = Command::new(program).arg("-v").output().is_err();
    if missing {
        assert!(std::env::var("CI").is_err(), "CI has no {program}");
        eprintln!("skipped: {program} not installed");
    }
    missing
}

/// A node whose only listener takes connections of balancers on this machine.
fn node(folder: &Path, app: &App) -> Node {
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\nmode = \"off\"\n", app.url);
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 1\n[listen]\n\
                    admin = \"127.0.0.1:0\"\n[[listen.http]]\naddress = \"127.0.0.1:0\"\n\
                    proxy_protocol = [\"127.0.0.0/8\"]\n";
    let file = folder.join("phalanx.toml");
    std::fs::write(&file, settings).unwrap();
    Node::start(phalanx(&["run", "--json", "-c", file.to_str().unwrap()]))
}

/// What the access log says of the last request for a path: client, peer and balancer.
fn last(node: &Node, path: &str) -> Option<[String; 3]> {
    let log = std::fs::read_to_string(node.state.join("record/access.log")).ok()?;
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.rfind(|line| line["target"] == path)?;
    Some(["client", "peer", "balancer"].map(|key| line[key].as_str().unwrap_or_default().to_owned()))
}

/// Asks through a balancer from an address of its own, until the balancer is there; what the node has recorded of it.
fn through(node: &Node, port: u16, from: &str, path: &str) -> (u16, [String; 3]) {
    let url = format!("http://127.0.0.1:{port}{path}");
    let mut status = 0;
    until(&format!("{path} is answered"), || {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", from, &url]);
        let said = curl.output().unwrap();
        status = String::from_utf8_lossy(&said.stdout).parse().unwrap_or(0);
        status == 200 || status == 403
    });
    let mut seen = None;
    until(&format!("{path} is recorded"), || {
        seen = last(node, path);
        seen.is_some()
    });
    (status, seen.unwrap())
}

#[test]
fn haproxy_names_clients_in_both_versions_and_its_checks_are_served() {
    if absent("haproxy") || absent("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let app = App::start();
    let node = node(folder.path(), &app);
    let (text, binary) = (free_port(), free_port());
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n\
         listen text\n bind 127.0.0.1:{text}\n server node {node} send-proxy\n\
         listen binary\n bind 127.0.0.1:{binary}\n option httpchk GET /check\n\
         server node {node} send-proxy-v2 proxy-v2-options crc32c,unique-id check check-send-proxy inter 100ms\n",
        node = node.listen
    );
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let _haproxy = start(command);
    for (port, path) in [(text, "/text"), (binary, "/binary")] {
        let (status, seen) = through(&node, port, "127.9.9.9", path);
        assert_eq!((status, seen), (200, ["127.9.9.9", "127.9.9.9", "127.0.0.1"].map(str::to_owned)));
    }
    // HAProxy's own checks say that they are its own.
    until("a check is recorded", || last(&node, "/check").is_some());
    let seen = last(&node, "/check").unwrap();
    assert_eq!(seen, ["127.0.0.1", "127.0.0.1", "127.0.0.1"].map(str::to_owned));
    // Without a header nobody is served.
    assert!(no_answer(node.listen));
}

#[test]
fn nginx_names_clients() {
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if absent("nginx") || absent("curl") {
        return;
    }
    if !module.exists() {
        assert!(std::env::var("CI").is_err(), "CI has no libnginx-mod-stream");
        return eprintln!("skipped: libnginx-mod-stream not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let app = App::start();
    let node = node(folder.path(), &app);
    let port = free_port();
    let config = format!(
        "load_module {module};\ndaemon off;\npid nginx.pid;\nerror_log error.log;\nevents {{ }}\nstream {{\n\
         server {{ listen 127.0.0.1:{port}; proxy_pass {node}; proxy_protocol on; }}\n}}\n",
        module = module.display(),
        node = node.listen
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    let _nginx = start(command);
    let (status, seen) = through(&node, port, "127.9.9.8", "/text");
    assert_eq!((status, seen), (200, ["127.9.9.8", "127.9.9.8", "127.0.0.1"].map(str::to_owned)));
}

/// Whether a request without a header is closed without a byte.
fn no_answer(to: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.is_empty()
}
