//! Operators of a fleet: an account made at one node counts at all, ends at all, and outlives the node; and a console with a name.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use phalanx_model::{Clock, SystemClock};
use phalanx_trust::TotpSecret;
use phalanx_trust::totp::STEP_MS;
use serde_json::{Value, json};

use crate::support::*;
use crate::tls::{absent, certificate};

const PASSWORD: &str = "correct horse battery";

/// A browser at a node's console.
struct Browser {
    to: SocketAddr,
    cookie: Option<String>,
}

impl Browser {
    fn at(node: &Node) -> Self {
        Self { to: node.admin, cookie: None }
    }

    fn send(&mut self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let (origin, cookie) = (format!("http://{}", self.to), self.cookie.clone().unwrap_or_default());
        let fields = [("Origin", origin.as_str()), ("Cookie", &cookie), ("Content-Type", "application/json")];
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let reply = request(self.to, method, path, &fields, body.as_bytes());
        if let Some(set) = reply.fields.get("set-cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        reply
    }

    fn log_in(&mut self, name: &str, code: &str) -> Reply {
        let body = json!({ "name": name, "password": PASSWORD, "code": code });
        self.send("POST", "/api/v1/login/password", Some(body))
    }

    fn is_in(&mut self) -> bool {
        self.send("GET", "/api/v1/me", None).status == 200
    }

    /// Follows the link of `operator add` and gives the account a password with an app.
    fn enrol(&mut self, link: &str) -> (TotpSecret, Vec<String>) {
        let path = &link[link.find("/login").unwrap()..];
        assert_eq!(self.send("GET", path, None).status, 303);
        let offer: Value = serde_json::from_slice(&self.send("POST", "/api/v1/me/totp", None).body).unwrap();
        let secret =
            data_encoding::BASE32_NOPAD.decode(offer["secret"].as_str().unwrap().as_bytes()).unwrap();
        let app: TotpSecret = serde_json::from_value(json!(secret)).unwrap();
        let body = json!({ "password": PASSWORD, "code": app.code(step() - 1) });
        let set = self.send("POST", "/api/v1/me/password", Some(body));
        assert_eq!(set.status, 200, "{}", set.text());
        let set: Value = serde_json::from_slice(&set.body).unwrap();
        (app, serde_json::from_value(set["codes"].clone()).unwrap())
    }
}

fn step() -> u64 {
    SystemClock.now_ms() / STEP_MS
}

fn member<'a>(nats: &'a str, secret: &'a str, site: &'a str) -> Vec<&'a str> {
    vec!["--fleet", nats, "--fleet-secret", secret, "--site", site, "--node", "a"]
}

fn names(node: &Node) -> Vec<String> {
    let listed = node.cli_json(&["operator", "list"]);
    listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// How long it takes until this holds.
fn takes(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    until(what, condition);
    started.elapsed()
}

#[test]
fn an_account_of_one_node_counts_and_ends_at_all_and_outlives_the_node() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret of the fleet, of some length").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (url, secret) = (nats.url(), secret.display().to_string());
    let up = |site: &str| Node::up(&app.url, &member(&url, &secret, site));
    let (fra, syd, iad) = (up("fra"), up("syd"), up("iad"));
    // Before the nodes know each other, an account travels when they do.
    let added = fra.cli_json(&["operator", "add", "alice", "--role", "owner"]);
    let (codes, _) = Browser::at(&fra).enrol(added["url"].as_str().unwrap());
    let knows = |node: &Node| {
        let listed = node.cli_json(&["operator", "list"]);
        listed[0]["password"] == true && listed[0]["made_on"] == "fra/a"
    };
    until("all know her", || knows(&syd) && knows(&iad));
    // Logged in at another node than the account was made at; the code does not count a second time at a third.
    let (mut at_syd, present) = (Browser::at(&syd), codes.code(step()));
    let opened = at_syd.log_in("alice", &present);
    assert_eq!(opened.status, 200, "{}", opened.text());
    let disabled = iad.cli(&["operator", "disable", "alice"]);
    assert!(disabled.status.success(), "{}", String::from_utf8_lossy(&disabled.stderr));
    let took = takes("her session has ended", || !at_syd.is_in());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(iad.cli(&["operator", "enable", "alice"]).status.success());
    until("she may log in again", || fra.cli_json(&["operator", "list"])[0]["disabled"] == false);
    assert_eq!(
        Browser::at(&fra).log_in("alice", &present).status,
        401,
        "that code was spent at another node"
    );
    assert_eq!(
        Browser::at(&iad).log_in("alice", &present).status,
        401,
        "that code was spent at another node"
    );
    // The node where she was made is gone for good; the others go on, and one that restarts still knows her.
    fra.kill();
    let next = codes.code(step() + 1);
    let opened = Browser::at(&iad).log_in("alice", &next);
    assert_eq!(opened.status, 200, "{}", opened.text());
    assert!(syd.cli(&["operator", "add", "bob", "--role", "viewer"]).status.success());
    let took = takes("the other knows of bob", || names(&iad).len() == 2);
    assert!(took < Duration::from_secs(2), "{took:?}, with the commands that ask");
    assert!(iad.cli(&["operator", "remove", "alice"]).status.success());
    until("she is gone", || names(&syd) == ["bob"]);
}

#[test]
fn a_code_shown_at_two_nodes_at_once_counts_at_each_once_at_most_and_nowhere_afterwards() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret of the fleet, of some length").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (url, secret) = (nats.url(), secret.display().to_string());
    let nodes = ["fra", "syd"].map(|site| Node::up(&app.url, &member(&url, &secret, site)));
    let added = nodes[0].cli_json(&["operator", "add", "alice", "--role", "owner"]);
    let (codes, recovery) = Browser::at(&nodes[0]).enrol(added["url"].as_str().unwrap());
    until("both know her", || {
        nodes.iter().all(|node| node.cli_json(&["operator", "list"])[0]["password"] == true)
    });
    for shown in [codes.code(step()), recovery[0].clone()] {
        let at_once: Vec<u16> = std::thread::scope(|scope| {
            let each = (0..8).map(|n| {
                let (node, shown) = (&nodes[n % 2], shown.clone());
                scope.spawn(move || (n % 2, Browser::at(node).log_in("alice", &shown).status))
            });
            let each: Vec<_> = each.collect();
            let answers: Vec<_> = each.into_iter().map(|one| one.join().unwrap()).collect();
            let of = |at: usize| answers.iter().filter(|one| **one == (at, 200)).count();
            assert!(of(0) <= 1 && of(1) <= 1 && of(0) + of(1) >= 1, "{answers:?}");
            answers.into_iter().map(|(_, status)| status).collect()
        });
        assert!(at_once.iter().all(|status| [200, 401].contains(status)), "{at_once:?}");
        // A right login gives its try back: a wrong one tells that the other node's use has arrived, or that it was refused before.
        for node in &nodes {
            assert_eq!(Browser::at(node).log_in("alice", &shown).status, 401);
        }
    }
}

/// Settings of a node whose console has a name.
fn settings(folder: &Path, upstream: &str, admin: &str) -> Command {
    let policy = format!("[[apps]]\nname = \"shop\"\nhosts = [\"shop.test\"]\nupstream = \"{upstream}\"\n");
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = format!(
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
         admin = \"0.0.0.0:0\"\n{admin}"
    );
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    command
}

fn curl(node: &Node, folder: &Path, args: &[&str]) -> String {
    let resolve = format!("console.test:{}:127.0.0.1", node.admin.port());
    let mut command = Command::new("curl");
    command.args(["-s", "--resolve", &resolve, "-w", "\n%{http_code}", "--cacert"]);
    let output = command.arg(folder.join("console.pem")).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_console_beyond_loopback_has_a_name_and_tls_and_another_certificate_after_a_reload() {
    if absent() {
        return;
    }
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let folder = folder.path();
    let refused = settings(folder, &app.url, "").output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("the console has no TLS and must be on loopback"),
        "{told}"
    );
    certificate(folder, "console", "console.test", 90);
    let admin = "[admin]\nnames = [\"console.test\"]\ncert = \"console.pem\"\nkey = \"console.key\"\n";
    let node = Node::start(settings(folder, &app.url, admin));
    let origin = format!("https://console.test:{}", node.admin.port());
    assert!(node.console.starts_with(&format!("{origin}/login?ticket=")), "{}", node.console);
    let opened = curl(&node, folder, &["-i", &node.console]);
    assert!(opened.contains("303") && opened.contains("__Host-phalanx_session_"), "{opened}");
    let plain = curl(&node, folder, &[&node.console.replace("https:", "http:")]);
    assert!(plain.ends_with("000"), "nothing without TLS: {plain}");
    let challenge = format!("{origin}/api/v1/login/challenge");
    let from =
        |origin: &str| curl(&node, folder, &["-X", "POST", "-H", &format!("Origin: {origin}"), &challenge]);
    let own = from(&origin);
    assert!(own.contains("\"host\":\"console.test\"") && own.ends_with("200"), "{own}");
    for other in [format!("http://console.test:{}", node.admin.port()), "https://console.test".to_owned()] {
        assert!(from(&other).ends_with("403"), "{other}");
    }
    let link = node.cli_json(&["operator", "add", "alice", "--role", "owner"]);
    assert!(link["url"].as_str().unwrap().starts_with(&origin), "{link}");
    // A new certificate is shown after a reload; a broken one leaves it.
    std::fs::copy(folder.join("console.pem"), folder.join("before.pem")).unwrap();
    certificate(folder, "console", "console.test", 60);
    let status = format!("{origin}/");
    assert!(!curl(&node, folder, &[&status]).ends_with("200"), "the old one is not what this file says");
    assert!(node.cli(&["reload"]).status.success());
    assert!(curl(&node, folder, &[&status]).ends_with("200"));
    std::fs::write(folder.join("console.key"), "no key").unwrap();
    let reloaded = node.cli(&["reload"]);
    assert!(!reloaded.status.success(), "it says so");
    assert!(curl(&node, folder, &[&status]).ends_with("200"), "the one before stays");
}
