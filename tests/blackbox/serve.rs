//! `phalanx fleet serve`: sites whose nats-server an operator never sees.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::*;

/// A running `fleet serve` with what it said so far. Killed when dropped.
pub(crate) struct Serve {
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
    state: PathBuf,
}

impl Serve {
    pub(crate) fn start(state: &Path, args: &[&str]) -> Self {
        let mut command = phalanx(&["fleet", "serve", "--json", "--nats-server", &nats(), "--state"]);
        command.arg(state).args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, heard) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, said, state: state.to_owned() }
    }

    #[track_caller]
    pub(crate) fn says(&self, state: &str, text: &str) {
        until(&format!("it says {state}: {text}"), || {
            let said = self.said.lock().unwrap();
            said.last()
                .is_some_and(|one| one["state"] == state && one["text"].as_str().unwrap().contains(text))
        });
    }

    fn has_said(&self, state: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|one| one["state"] == state).count()
    }

    /// The process id of its nats-server.
    fn server(&self) -> String {
        std::fs::read_to_string(self.state.join("nats/nats.pid")).unwrap().trim().to_owned()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nats() -> String {
    std::env::var("PHALANX_NATS_SERVER").unwrap_or_else(|_| "/usr/bin/nats-server".into())
}

pub(crate) fn has_nats() -> bool {
    let found = Path::new(&nats()).is_file();
    assert!(found || std::env::var("CI").is_err(), "CI has no nats-server");
    if !found {
        eprintln!("skipped: nats-server not installed");
    }
    found
}

pub(crate) fn free() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap().success());
}

fn lives(pid: &str) -> bool {
    // A process that nobody has waited for yet has no command line any more.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

pub(crate) fn init(state: &Path) {
    let made = phalanx(&["fleet", "init", "--fleet-id", "shops", "--state"]).arg(state).output().unwrap();
    assert!(made.status.success());
}

#[test]
fn two_sites_are_served_and_share_and_a_server_joins_with_a_token() {
    if !has_nats() {
        return;
    }
    let [home, far, state_b] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    init(home.path());
    let (listen, leaf, far_listen) = (free(), free(), free());
    let fra = Serve::start(home.path(), &["--site", "fra", "--listen", &listen, "--leaf-listen", &leaf]);
    fra.says("serving", "no other site");
    let app = App::start();
    let forward = ["--trust-forwarded", "127.0.0.1/32"];
    let url = format!("tls://{listen}");
    let words = ["--site", "fra", "--node", "a", "--fleet", &url, "--enroll", "127.0.0.1:0"];
    let a = Node::up_in(home.path(), &app.url, &[&words[..], &forward].concat());
    until("the first node is linked", || a.cli_json(&["status"])["fleet"]["connected"] == true);

    let for_node = a.cli_json(&["fleet", "invite", "--site", "syd"]);
    let hub = format!("tls://{leaf}");
    let serve_far = |token: &str| {
        let site = ["--site", "syd", "--listen", &far_listen, "--hub", &hub, "--join", token];
        Serve::start(far.path(), &site)
    };
    let mut wrong = serve_far(for_node["token"].as_str().unwrap());
    assert!(!wrong.child.wait().unwrap().success(), "a node's token admits no server");
    let token = a.cli_json(&["fleet", "invite", "--server", "--site", "syd"]);
    let token = token["token"].as_str().unwrap();
    let syd = serve_far(token);
    syd.says("serving", "hears fra");
    fra.says("serving", "hears syd");

    // A node of the new site is told where its own site's server is.
    let words = ["--site", "syd", "--node", "b", "--join", for_node["token"].as_str().unwrap()];
    let b = Node::up_in(state_b.path(), &app.url, &[&words[..], &forward].concat());
    for node in [&a, &b] {
        until("both are seen", || {
            node.cli_json(&["status"])["fleet"]["members"].as_array().is_some_and(|all| all.len() == 2)
        });
    }
    for n in 0..3 {
        assert_eq!(b.get_from("192.0.2.7", &attack(n)).status, 403);
    }
    until("a ban of one site is enforced in the other", || a.get_from("192.0.2.7", "/").status == 403);
    asked_from_the_other_site(&a, &b);
    let healthy =
        |node: &Node| node.cli_json(&["status"])["fleet"]["degraded"].as_array().is_some_and(Vec::is_empty);
    until("nothing is degraded", || healthy(&a) && healthy(&b));

    // It comes back without the token, and with the authority's node gone.
    drop(syd);
    a.stop();
    let syd = Serve::start(far.path(), &["--site", "syd", "--listen", &far_listen, "--hub", &hub]);
    syd.says("serving", "hears fra");
    until("its node is linked again", || b.cli_json(&["status"])["fleet"]["connected"] == true);

    // A server that is revoked is cut off from the others.
    let words = ["--site", "fra", "--node", "a", "--fleet", &url, "--enroll", "127.0.0.1:0"];
    let a = Node::up_in(home.path(), &app.url, &words);
    until("the authority's node is linked", || a.cli_json(&["status"])["fleet"]["connected"] == true);
    let revoked = a.cli(&["fleet", "revoke", "syd/nats-1"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    syd.says("serving", "no other site");
    fra.says("serving", "no other site");
}

/// An operator at `a` learns what `b` served, and nothing that must not leave it.
fn asked_from_the_other_site(a: &Node, b: &Node) {
    let reply = b.get_from("198.51.100.77", &attack(9));
    let id = reply.id().to_owned();
    until("b has it in its history", || b.cli(&["explain", &id]).status.success());
    let told = a.cli_json(&["explain", &id]);
    assert_eq!(
        (&told["id"], &told["node"], &told["network"]),
        (&id.as_str().into(), &"b".into(), &"198.51.100.0/24".into())
    );
    assert!(told["reason"].as_str().unwrap().starts_with("rule "), "{told}");
    let search = || a.cli_json(&["events", "--fleet", "--client", "198.51.100.77"]);
    until("b is heard, and answers", || search()["answered"] == serde_json::json!(["syd/b"]));
    let found = search();
    assert_eq!(found["requests"].as_array().map(Vec::len), Some(1));
    for shown in [told.to_string(), found.to_string()] {
        for secret in ["UNION", "password", "198.51.100.77", "blackbox"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    let edge = b.cli(&["events", "--fleet"]);
    assert!(!edge.status.success(), "an edge node asks nobody");
}

#[test]
fn three_servers_of_a_site_go_on_without_one_of_them() {
    if !has_nats() {
        return;
    }
    let states = [(); 3].map(|()| tempfile::tempdir().unwrap());
    init(states[0].path());
    let (listens, routes) = ([(); 3].map(|()| free()), [(); 3].map(|()| free()));
    let peers = routes.join(",");
    let serve = |n: usize, token: Option<&str>| {
        let name = format!("nats-{}", n + 1);
        let mut words = vec!["--site", "fra", "--server", &name, "--listen", &listens[n]];
        words.extend(["--peers", &peers, "--peer-listen", &routes[n]]);
        words.extend(token.iter().flat_map(|token| ["--join", token]));
        Serve::start(states[n].path(), &words)
    };
    let first = serve(0, None);
    let app = App::start();
    let url = listens.iter().map(|listen| format!("tls://{listen}")).collect::<Vec<_>>().join(",");
    let forward = ["--trust-forwarded", "127.0.0.1/32"];
    let words = ["--site", "fra", "--node", "a", "--fleet", &url, "--enroll", "127.0.0.1:0"];
    let a = Node::up_in(states[0].path(), &app.url, &[&words[..], &forward].concat());
    let token = || {
        let token = a.cli_json(&["fleet", "invite", "--server", "--site", "fra"]);
        token["token"].as_str().unwrap().to_owned()
    };
    let second = serve(1, Some(&token()));
    let third = serve(2, Some(&token()));
    for server in [&first, &second, &third] {
        server.says("serving", "no other site");
    }
    let state_b = tempfile::tempdir().unwrap();
    let join = a.cli_json(&["fleet", "invite", "--site", "fra"]);
    let words = ["--site", "fra", "--node", "b", "--join", join["token"].as_str().unwrap()];
    let b = Node::up_in(state_b.path(), &app.url, &[&words[..], &forward].concat());
    let settled = |node: &Node| {
        let fleet = &node.cli_json(&["status"])["fleet"];
        fleet["connected"] == true
            && fleet["queue"] == 0
            && fleet["degraded"].as_array().is_some_and(Vec::is_empty)
    };
    until("both are settled", || settled(&a) && settled(&b));
    drop(second);
    for n in 0..3 {
        assert_eq!(b.get_from("192.0.2.7", &attack(n)).status, 403);
    }
    until("two servers carry a ban", || a.get_from("192.0.2.7", "/").status == 403);
    until("and keep it", || settled(&a) && settled(&b));
}

#[test]
fn a_server_that_dies_is_started_again_and_none_outlives_who_serves() {
    if !has_nats() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    init(state.path());
    let listen = free();
    let words = ["--site", "fra", "--listen", &listen];
    let mut serve = Serve::start(state.path(), &words);
    serve.says("serving", "no other site");
    let first = serve.server();
    signal("KILL", &first);
    until("it is started again", || serve.has_said("starting") == 2 && serve.server() != first);
    serve.says("serving", "no other site");

    // A second one is refused, and says why.
    let second = phalanx(&[
        "fleet",
        "serve",
        "--site",
        "fra",
        "--listen",
        &free(),
        "--nats-server",
        &nats(),
        "--state",
    ])
    .arg(state.path())
    .output()
    .unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && told.contains("another `phalanx fleet serve` runs"), "{told}");

    let server = serve.server();
    serve.kill();
    until("the server ends with who started it", || !lives(&server));
    let mut again = Serve::start(state.path(), &words);
    again.says("serving", "no other site");
    let server = again.server();
    signal("TERM", &again.child.id().to_string());
    assert!(again.child.wait().unwrap().success(), "a stop that was asked for is no failure");
    assert!(!lives(&server));
}

#[test]
fn a_server_that_cannot_serve_is_given_up_with_a_failure() {
    if !has_nats() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    init(state.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut serve = Serve::start(state.path(), &["--site", "fra", "--listen", &listen]);
    assert!(!serve.child.wait().unwrap().success());
    serve.says("failed", "it never served");
}
