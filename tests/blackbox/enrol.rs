//! A fleet with an authority of its own: made, joined with tokens, and left by revocation. A real nats-server, JWT and mutual TLS.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

/// The authority's node `fra/a`, its server, and what it needs to live.
pub(crate) struct Fleet {
    nats: Nats,
    app: App,
    pub(crate) a: Node,
    _state: tempfile::TempDir,
}

impl Fleet {
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, its node with these words besides.
    pub(crate) fn start_with(more: &[&str]) -> Option<Self> {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().to_str().unwrap();
        let made = succeeded(
            phalanx(&["fleet", "init", "--fleet-id", "shops", "--json", "--state", folder]).output(),
        );
        assert_eq!(made["fleet"], "shops");
        assert_eq!(made["root"].as_str().unwrap().len(), 64);
        let nats = Nats::start_configured(|port, out| {
            let listen = format!("127.0.0.1:{port}");
            let out = out.to_str().unwrap();
            let words = ["fleet", "nats", "--state", folder, "--out", out, "--listen", &listen, "--json"];
            succeeded(phalanx(&words).output());
        })?;
        let app = App::start();
        let url = nats.url();
        let words = [
            "--site",
            "fra",
            "--node",
            "a",
            "--fleet",
            &url,
            "--enroll",
            "127.0.0.1:0",
            "--trust-forwarded",
            "127.0.0.1/32",
        ];
        let a = Node::up_in(state.path(), &app.url, &[words.as_slice(), more].concat());
        until("the authority's node is linked", || a.cli_json(&["status"])["fleet"]["connected"] == true);
        Some(Self { nats, app, a, _state: state })
    }

    /// A node that joins with a token, with these words besides.
    pub(crate) fn joins(&self, state: &Path, site: &str, node: &str, more: &[&str]) -> Node {
        let token = self.invite(site);
        Node::up_in(state, &self.app.url, &[member(site, node, Some(&token)).as_slice(), more].concat())
    }

    fn invite(&self, site: &str) -> String {
        self.a.cli_json(&["fleet", "invite", "--site", site])["token"].as_str().unwrap().to_owned()
    }

    /// The node joins with a token, or comes back without one.
    fn node(&self, state: &Path, site: &str, node: &str, token: Option<&str>) -> Node {
        Node::up_in(state, &self.app.url, &member(site, node, token))
    }

    /// What a node says that may not join.
    fn refused(&self, site: &str, node: &str, token: &str) -> String {
        let state = tempfile::tempdir().unwrap();
        let mut command = phalanx(&[
            "up",
            "--to",
            &self.app.url,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--state",
        ]);
        command.arg(state.path()).args(member(site, node, Some(token)));
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn member<'a>(site: &'a str, node: &'a str, token: Option<&'a str>) -> Vec<&'a str> {
    let mut words = vec!["--site", site, "--node", node, "--trust-forwarded", "127.0.0.1/32"];
    words.extend(token.iter().flat_map(|token| ["--join", token]));
    words
}

fn succeeded(output: std::io::Result<Output>) -> Value {
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn members(node: &Node) -> Vec<String> {
    let status = node.cli_json(&["status"]);
    let members = status["fleet"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|m| format!("{}/{}", m["site"].as_str().unwrap(), m["node"].as_str().unwrap()))
        .collect()
}

fn ban(node: &Node, client: &str) {
    for n in 0..3 {
        assert_eq!(node.get_from(client, &attack(n)).status, 403);
    }
    until("the node itself bans", || node.get_from(client, "/").status == 403);
}

#[test]
fn a_node_joins_with_a_token_shares_and_is_revoked() {
    let Some(fleet) = Fleet::start() else { return };
    let (state_b, state_c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = fleet.invite("syd");
    let b = fleet.node(state_b.path(), "syd", "b", Some(&token));
    let control = fleet.a.cli_json(&["fleet", "invite", "--site", "fra", "--control"]);
    let c = fleet.node(state_c.path(), "fra", "c", control["token"].as_str());
    for node in [&fleet.a, &b, &c] {
        until("all members are seen", || members(node).len() == 3);
        let status = node.cli_json(&["status"]);
        assert!(
            status["fleet"]["certificate_expires_at_ms"].as_u64().unwrap()
                > status["now_ms"].as_u64().unwrap()
        );
    }
    ban(&b, "192.0.2.7");
    for node in [&fleet.a, &c] {
        until("the ban is enforced elsewhere", || node.get_from("192.0.2.7", "/").status == 403);
    }
    let edge = b.cli(&["decision", "add", "--ip", "192.0.2.9", "--for", "1h", "--reason", "test"]);
    assert!(String::from_utf8_lossy(&edge.stderr).contains("control role"), "an edge node gives no orders");

    // Policy is for operators: a control node's word counts everywhere, an edge node has none.
    let policy = tempfile::tempdir().unwrap();
    let file = crate::policy::write_policy(policy.path(), &fleet.app, "enrolled");
    // With the rules that the rest of this test wants.
    let own = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, own.replace("rules = [\"rules\"]", "extra_rules = [\"rules/own.conf\"]")).unwrap();
    let edge = b.cli(&["policy", "push", &file, "--reason", "a test"]);
    assert!(String::from_utf8_lossy(&edge.stderr).contains("control role"), "an edge node makes no policy");
    let pushed = c.cli(&["policy", "push", &file, "--reason", "a test"]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    for node in [&fleet.a, &b, &c] {
        until("the policy is in force", || node.get("/?q=enrolled").status == 403);
    }

    // It comes back without the token.
    b.stop();
    let b = fleet.node(state_b.path(), "syd", "b", None);
    until("it is back", || b.cli_json(&["status"])["fleet"]["connected"] == true);

    // Any control node revokes; the one with the authority does the rest.
    let revoked = c.cli(&["fleet", "revoke", "syd/b", "--reason", "stolen"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    let started = Instant::now();
    until("the other node knows", || !members(&fleet.a).contains(&"syd/b".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    until("the revoked node says so", || {
        b.cli_json(&["status"])["fleet"].to_string().contains("revoked this node (stolen)")
    });
    until("its link is cut", || b.cli_json(&["status"])["fleet"]["connected"] == false);
    ban(&b, "198.51.100.9");
    assert_eq!(c.get_from("192.0.2.7", "/").status, 403, "what it decided before stays");
    // What a node that belongs says arrives after that, and nothing of the revoked one has.
    ban(&c, "203.0.113.5");
    until("the fleet goes on", || fleet.a.get_from("203.0.113.5", "/").status == 403);
    for node in [&fleet.a, &c] {
        assert_eq!(node.get_from("198.51.100.9", "/").status, 200);
    }
    let status = String::from_utf8(fleet.a.cli(&["fleet", "status"]).stdout).unwrap();
    assert!(status.contains("REVOKED") && status.contains("shops"), "{status}");
    drop(fleet.nats);
}

#[test]
fn a_token_that_is_used_foreign_or_for_another_site_is_refused_with_the_reason() {
    let Some(fleet) = Fleet::start() else { return };
    let state = tempfile::tempdir().unwrap();
    let token = fleet.invite("syd");
    for (token, told) in
        [("rubbish", "this is no join token"), (fleet.invite("fra").as_str(), "the token is for site fra")]
    {
        let error = fleet.refused("syd", "b", token);
        assert!(error.contains(told), "{error}");
    }
    let b = fleet.node(state.path(), "syd", "b", Some(&token));
    let error = fleet.refused("syd", "c", &token);
    assert!(error.contains("the token has been used, by syd/b"), "{error}");
    let error = fleet.refused("syd", "b", &fleet.invite("syd"));
    assert!(error.contains("syd/b is enrolled with another key"), "{error}");

    let expired = fleet.a.cli_json(&["fleet", "invite", "--site", "syd", "--for", "1s"]);
    until("it has expired", || {
        fleet.a.cli_json(&["fleet", "status"])["invitations"]
            .as_array()
            .is_some_and(|open| open.iter().all(|one| one["id"] != expired["id"]))
    });
    let error = fleet.refused("syd", "d", expired["token"].as_str().unwrap());
    assert!(error.contains("the token has expired"), "{error}");

    // Another fleet's authority does not even get to see it: its certificate is not the one that the token names.
    let Some(other) = Fleet::start() else { return };
    let foreign = other.invite("syd");
    drop(other);
    let error = fleet.refused("syd", "e", &foreign);
    assert!(error.contains("cannot be reached"), "{error}");
    drop(b);
}

#[test]
fn a_second_authority_and_orders_without_one_are_refused_with_the_fix() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    succeeded(phalanx(&["fleet", "init", "--json", "--state", folder]).output());
    let again = phalanx(&["fleet", "init", "--state", folder]).output().unwrap();
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && error.contains("already") && error.contains("phalanx fleet status"),
        "{error}"
    );

    let app = App::start();
    let alone = Node::up(&app.url, &[]);
    for (words, told) in [
        (&["fleet", "invite", "--site", "fra"][..], "phalanx fleet init"),
        (&["fleet", "revoke", "fra/b"], "this fleet has no authority"),
        (&["fleet", "rollover"], "phalanx fleet init"),
    ] {
        let output = alone.cli(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(told), "{words:?}: {error}");
    }
}
