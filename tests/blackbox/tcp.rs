//! TCP that is carried as it is: Redis and its own client, HAProxy before a node, and a process that takes over meanwhile.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// A Redis at a port and at a Unix socket.
fn redis(folder: &Path) -> (Running, u16) {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
    command.arg("--unixsocket").arg(folder.join("redis.sock"));
    let running = start(command);
    until("redis listens", || {
        folder.join("redis.sock").exists() && TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (running, port)
}

/// A node that carries connections to an upstream; `more` is said of its listener.
fn node(folder: &Path, upstream: &str, more: &str) -> Node {
    // Operators' networks, this machine if nothing else is said, are never banned.
    let policy = format!(
        "operator_networks = [\"192.0.2.1\"]\n[[apps]]\nname = \"cache\"\ntcp = true\nupstream = {upstream}\n"
    );
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = format!(
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\nworkers = 1\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
         admin = \"127.0.0.1:0\"\n[[listen.tcp]]\naddress = \"127.0.0.1:0\"\napp = \"cache\"\n{more}"
    );
    let file = folder.join("phalanx.toml");
    std::fs::write(&file, settings).unwrap();
    Node::start(phalanx(&["run", "--json", "-c", file.to_str().unwrap()]))
}

fn redis_cli(to: SocketAddr, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", &to.ip().to_string(), "-p", &to.port().to_string()]).args(words);
    String::from_utf8_lossy(&command.output().unwrap().stdout).trim().to_owned()
}

/// The lines of the access log, once there are so many.
fn logged(node: &Node, least: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    until("connections are in the access log", || {
        let log = std::fs::read_to_string(node.state.join("record/access.log")).unwrap_or_default();
        lines = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.len() >= least
    });
    lines
}

/// One conversation with Redis on a connection that stays.
struct Session(BufReader<TcpStream>);

impl Session {
    fn to(address: SocketAddr) -> Self {
        Self(BufReader::new(connect(address)))
    }

    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn is_cut(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(read) => read == 0,
            // Silence until the deadline is none.
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn redis_is_served_counted_and_explained() {
    if absent("redis-server") || absent("redis-cli") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_redis, port) = redis(folder.path());
    // The first of the two is not there.
    let upstreams = format!("[\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:{port}\"]");
    let node = node(folder.path(), &upstreams, "");
    let at = node.tcp_listen[0];
    assert_eq!(redis_cli(at, &["set", "color", "blue"]), "OK");
    for _ in 0..4 {
        assert_eq!(redis_cli(at, &["get", "color"]), "blue");
    }
    // More than the buffers on the way hold, and back.
    let large = "x".repeat(100_000);
    assert_eq!(redis_cli(at, &["set", "large", &large]), "OK");
    assert_eq!(redis_cli(at, &["get", "large"]), large);
    let lines = logged(&node, 7);
    let last = &lines[6];
    assert_eq!(
        (&last["app"], &last["protocol"], &last["status"]),
        (&"cache".into(), &"TCP".into(), &200.into())
    );
    assert!(last["response_bytes"].as_u64().unwrap() > 100_000, "{last}");
    // Like requests, connections are explained that were refused; the others are in the access log.
    let ban = node.cli(&["decision", "add", "--ip", "127.0.0.1", "--for", "1h", "--reason", "test"]);
    assert!(ban.status.success(), "{}", String::from_utf8_lossy(&ban.stderr));
    assert_eq!(redis_cli(at, &["get", "color"]), "");
    let lines = logged(&node, 8);
    assert_eq!(lines[7]["status"], 403, "{}", lines[7]);
    let told = node.cli(&["explain", lines[7]["id"].as_str().unwrap()]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metrics = node.admin_get("/metrics").text();
    assert!(metrics.lines().any(|line| line.contains("app=\"cache\"")), "{metrics}");
}

#[test]
fn a_ban_cuts_a_session_behind_haproxy_and_no_other() {
    if absent("redis-server") || absent("haproxy") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_redis, _) = redis(folder.path());
    let upstream = format!("\"unix:{}\"", folder.path().join("redis.sock").display());
    let node = node(folder.path(), &upstream, "proxy_protocol = [\"127.0.0.0/8\"]\n");
    let port = free_port();
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         listen redis\n bind 127.0.0.1:{port}\n bind [::1]:{port}\n server node {} send-proxy-v2\n",
        node.tcp_listen[0]
    );
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let _haproxy = start(command);
    let [four, six] = ["127.0.0.1", "[::1]"].map(|ip| format!("{ip}:{port}").parse::<SocketAddr>().unwrap());
    until("haproxy listens", || TcpStream::connect(six).is_ok());
    let (mut four, mut six) = (Session::to(four), Session::to(six));
    assert_eq!((four.ask("PING"), six.ask("PING")), ("+PONG".to_owned(), "+PONG".to_owned()));
    let ban = node.cli(&["decision", "add", "--ip", "::1", "--for", "1h", "--reason", "test"]);
    assert!(ban.status.success(), "{}", String::from_utf8_lossy(&ban.stderr));
    assert!(six.is_cut());
    assert_eq!(four.ask("PING"), "+PONG");
}

#[test]
fn sessions_outlast_the_process_that_is_taken_over_from() {
    if absent("redis-server") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_redis, port) = redis(folder.path());
    let node = node(folder.path(), &format!("\"tcp://127.0.0.1:{port}\""), "");
    let process = || node.cli_json(&["status"])["process"]["id"].as_u64().unwrap();
    let (at, before) = (node.tcp_listen[0], process());
    let mut session = Session::to(at);
    assert_eq!(session.ask("SET color blue"), "+OK");
    let upgraded = node.cli(&["upgrade"]);
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    let after = process();
    assert_ne!(before, after);
    // The old process serves what it has, the new one what comes; at the same address.
    assert_eq!(session.ask("STRLEN color"), ":4");
    assert_eq!(Session::to(at).ask("PING"), "+PONG");
    let _ = Command::new("kill").args(["-KILL", &after.to_string()]).status();
}

#[test]
fn check_tells_of_a_listener_without_its_app() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("policy.toml"),
        "[[apps]]\nname = \"cache\"\ntcp = true\nhosts = [\"a.test\"]\nrules = \"baseline\"\nupstream = \"http://127.0.0.1:1\"\n",
    )
    .unwrap();
    let file = folder.path().join("phalanx.toml");
    let settings = "policy = \"policy.toml\"\n[[listen.tcp]]\naddress = \"127.0.0.1:0\"\napp = \"cash\"\n";
    std::fs::write(&file, settings).unwrap();
    let check = || {
        let output = phalanx(&["check", "-c", file.to_str().unwrap()]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = check();
    for fault in [
        "policy.toml:4: connections of a TCP listener name no host",
        "policy.toml:5: `rules` is about requests",
        "policy.toml:6: an app with `passthrough` or `tcp` speaks no HTTP to its upstream",
    ] {
        assert!(told.contains(fault), "{told}");
    }
    let policy = "[[apps]]\nname = \"cache\"\ntcp = true\nupstream = \"tcp://127.0.0.1:1\"\n";
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let told = check();
    assert!(told.contains("phalanx.toml:4: the policy has no app `cash` with `tcp = true`"), "{told}");
    assert!(told.contains("help: add `[[apps]]` with `name = \"cash\"`"), "{told}");
}
