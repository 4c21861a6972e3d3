//! Three sites, one of which is destroyed with the home of policy, and in another a control node: the third goes on for all.
//!
//! And one site, of which a control node and an edge node are destroyed: all that was counted is still told.
//!
//! `PHALANX_OLDER_BIN` names a binary of an earlier version for one of the nodes; without it all are of one version.

use std::time::Instant;

use crate::policy::write_policy;
use crate::serve::{Serve, free, has_nats, init};
use crate::support::*;

const FORWARD: [&str; 2] = ["--trust-forwarded", "127.0.0.1/32"];

#[track_caller]
fn done(node: &Node, words: &[&str]) -> String {
    let output = node.cli(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn invited(at: &Node, words: &[&str]) -> String {
    at.cli_json(&[&["fleet", "invite"], words].concat())["token"].as_str().unwrap().to_owned()
}

fn joins(state: &std::path::Path, app: &App, (site, node): (&str, &str), token: &str) -> Node {
    Node::up_in(state, &app.url, &[&["--site", site, "--node", node, "--join", token][..], &FORWARD].concat())
}

/// The same, of an earlier version where there is one.
fn joins_older(state: &std::path::Path, app: &App, (site, node): (&str, &str), token: &str) -> Node {
    let Some(older) = std::env::var_os("PHALANX_OLDER_BIN") else {
        println!("skipped: no node of an earlier version; set PHALANX_OLDER_BIN");
        return joins(state, app, (site, node), token);
    };
    let mut command = std::process::Command::new(older);
    command.stdin(std::process::Stdio::null());
    command.args(["up", "--to", &app.url, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json"]);
    command.args(["--site", site, "--node", node, "--join", token]).args(FORWARD).arg("--state").arg(state);
    Node::start(command)
}

fn rows_of(node: &Node, of: &str) -> u64 {
    let status = node.cli_json(&["status"]);
    let copies = status["history"]["copies_of"].as_array().unwrap();
    copies.iter().find(|one| one["node"] == of).and_then(|one| one["rows"].as_u64()).unwrap_or_default()
}

/// One request of a node that is gone, at its site and from afar.
fn explains(c: &Node, d: &Node, refused: &[String]) {
    let id = &refused[0];
    let there = done(c, &["explain", id]);
    assert!(there.contains("UNION") && there.contains("192.0.2.7"), "all of it: {there}");
    let told = done(d, &["explain", id]);
    assert!(told.contains("syd/b served it and does not answer; syd/c has a copy"), "{told}");
    assert!(told.contains("192.0.2.0/24") && !told.contains("UNION"), "what may leave the site: {told}");
    assert!(told.contains(" decided: ") && told.contains(" matched ARGS:"), "why, in words: {told}");
    let listed = d.cli_json(&["events", "--fleet"]);
    assert!(listed["copied"].as_array().unwrap().contains(&"syd/b".into()), "{listed}");
    let ids: Vec<_> = listed["requests"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    for id in refused {
        assert_eq!(ids.iter().filter(|one| *one == id.as_str()).count(), 1, "{id} in {listed}");
    }
}

/// A ban of the node that is gone.
fn undoes(d: &Node, nodes: &[&Node]) {
    let bans = d.cli_json(&["decision", "list"]);
    let ban = bans.as_array().unwrap().iter().find(|one| one["author"]["node"] == "b").unwrap();
    done(d, &["decision", "delete", ban["id"].as_str().unwrap()]);
    for node in nodes {
        until("the ban is undone everywhere", || node.get_from("192.0.2.7", "/").status == 200);
    }
}

/// A policy where its home is gone.
fn publishes(d: &Node, nodes: &[&Node], policies: &std::path::Path, app: &App) {
    let second = write_policy(policies, app, "second");
    let output = d.cli(&["policy", "push", &second, "--reason", "a test"]);
    assert!(!output.status.success(), "its home is gone");
    done(d, &["policy", "move-home", "--site", "iad"]);
    done(d, &["policy", "push", &second, "--reason", "life goes on"]);
    for node in nodes {
        until("the new policy is in force everywhere", || node.get("/?q=second").status == 403);
        assert_eq!(node.get("/?q=first").status, 200);
    }
}

#[test]
fn with_the_home_of_policy_and_a_control_node_destroyed_another_site_explains_undoes_and_publishes() {
    if !has_nats() {
        return;
    }
    let [home, syd_state, iad_state, of_b, of_c, of_e, of_d, policies] =
        [(); 8].map(|()| tempfile::tempdir().unwrap());
    init(home.path());
    let [listen, leaf, syd_listen, syd_leaf, iad_listen] = [(); 5].map(|()| free());
    let app = App::start();
    let fra = Serve::start(home.path(), &["--site", "fra", "--listen", &listen, "--leaf-listen", &leaf]);
    fra.says("serving", "no other site");
    let url = format!("tls://{listen}");
    let words = ["--site", "fra", "--node", "a", "--fleet", &url, "--enroll", "127.0.0.1:0"];
    let a = Node::up_in(home.path(), &app.url, &[&words[..], &FORWARD].concat());
    until("the authority's node is linked", || a.cli_json(&["status"])["fleet"]["connected"] == true);
    let (at_fra, at_syd) = (format!("tls://{leaf}"), format!("tls://{syd_leaf}"));
    let token = invited(&a, &["--server", "--site", "syd"]);
    let words = ["--site", "syd", "--listen", &syd_listen, "--leaf-listen", &syd_leaf, "--hub", &at_fra];
    let syd = Serve::start(syd_state.path(), &[&words[..], &["--join", &token]].concat());
    syd.says("serving", "hears fra");
    let token = invited(&a, &["--server", "--site", "iad"]);
    let words =
        ["--site", "iad", "--listen", &iad_listen, "--hub", &at_fra, "--hub", &at_syd, "--join", &token];
    let iad = Serve::start(iad_state.path(), &words);
    iad.says("serving", "fra");
    let control = |site: &str| invited(&a, &["--site", site, "--control"]);
    let b = joins(of_b.path(), &app, ("syd", "b"), &control("syd"));
    let c = joins(of_c.path(), &app, ("syd", "c"), &control("syd"));
    let e = joins_older(of_e.path(), &app, ("syd", "e"), &invited(&a, &["--site", "syd"]));
    let d = joins(of_d.path(), &app, ("iad", "d"), &control("iad"));
    let members = |node: &Node| node.cli_json(&["fleet", "status"])["members"].as_array().map(Vec::len);
    until("all know each other", || [&a, &b, &c, &d, &e].iter().all(|node| members(node) == Some(5)));

    // Somebody is refused and banned at a control node, and the fleet has a policy.
    let refused: Vec<String> = (0..3).map(|n| b.get_from("192.0.2.7", &attack(n)).id().to_owned()).collect();
    for node in [&a, &b, &c, &d, &e] {
        until("the ban is in force everywhere", || node.get_from("192.0.2.7", "/").status == 403);
    }
    let first = write_policy(policies.path(), &app, "first");
    done(&a, &["policy", "push", &first, "--reason", "the beginning"]);
    for node in [&a, &c, &d, &e] {
        until("the policy is in force", || node.get("/?q=first").status == 403);
    }
    until("its history is at the other control node", || rows_of(&c, "b") >= 3);

    // The first site and the control node of the second are gone, with all that was on their disks.
    a.kill();
    drop(fra);
    b.kill();
    for lost in [home.path(), of_b.path()] {
        std::fs::remove_dir_all(lost).unwrap();
    }
    let began = Instant::now();
    iad.says("serving", "hears syd");
    until("who is left hear each other", || {
        let status = d.cli_json(&["status"]);
        let members = status["fleet"]["members"].as_array().unwrap();
        members.iter().filter(|one| one["online"] == true).count() == 3
    });

    explains(&c, &d, &refused);
    undoes(&d, &[&c, &d, &e]);
    publishes(&d, &[&c, &d, &e], policies.path(), &app);
    println!("explained, undone and published by another site {:?} after the loss", began.elapsed());
    drop((syd, iad));
}

/// What a node tells of all: how many requests in all, of each node, and which nodes' are of a copy.
fn told(at: &Node) -> (u64, Vec<(String, u64)>, Vec<String>) {
    let seen = at.cli_json(&["traffic", "--fleet", "--by", "node"]);
    let series = seen["series"].as_array().unwrap().iter();
    let mut nodes: Vec<_> =
        series.map(|one| (one["key"].as_str().unwrap().to_owned(), one["total"].as_u64().unwrap())).collect();
    nodes.sort();
    let copied = seen["copied"].as_array().into_iter().flatten();
    let copied =
        copied.map(|one| format!("{}/{}", one["site"].as_str().unwrap(), one["node"].as_str().unwrap()));
    (seen["totals"]["requests"].as_u64().unwrap(), nodes, copied.collect())
}

/// Serves so many requests, of which every other one is refused.
fn serve(node: &Node, count: usize) {
    for n in 0..count {
        let path = if n % 2 == 0 { attack(n) } else { "/".to_owned() };
        node.get_from(&format!("198.51.100.{}", 10 * n), &path);
    }
}

#[test]
fn what_a_destroyed_edge_node_and_a_destroyed_control_node_counted_is_told_by_who_is_left() {
    if !has_nats() {
        return;
    }
    let [home, of_c, of_d, of_e, of_f, of_e_again] = [(); 6].map(|()| tempfile::tempdir().unwrap());
    init(home.path());
    let (listen, app) = (free(), App::start());
    let fra = Serve::start(home.path(), &["--site", "fra", "--listen", &listen]);
    fra.says("serving", "no other site");
    let url = format!("tls://{listen}");
    let words = ["--site", "fra", "--node", "a", "--fleet", &url, "--enroll", "127.0.0.1:0"];
    let a = Node::up_in(home.path(), &app.url, &[&words[..], &FORWARD].concat());
    until("the authority's node is linked", || a.cli_json(&["status"])["fleet"]["connected"] == true);
    let control = || invited(&a, &["--site", "fra", "--control"]);
    let edge = || invited(&a, &["--site", "fra"]);
    let c = joins(of_c.path(), &app, ("fra", "c"), &control());
    let e = joins(of_e.path(), &app, ("fra", "e"), &edge());
    let f = joins(of_f.path(), &app, ("fra", "f"), &edge());
    for (node, count) in [(&a, 1), (&c, 3), (&e, 6), (&f, 2)] {
        serve(node, count);
    }
    let each = |counts: [u64; 4]| -> Vec<_> {
        ["fra/a", "fra/c", "fra/e", "fra/f"].map(String::from).into_iter().zip(counts).collect()
    };
    until("all tell what they counted", || told(&a) == (12, each([1, 3, 6, 2]), vec![]));
    // One after the other hangs: what is told of it then is a copy.
    for (silent, name) in [(&e, "fra/e"), (&c, "fra/c")] {
        until("a copy tells all of it", || {
            silent.signal("STOP");
            let seen = told(&a);
            silent.signal("CONT");
            seen == (12, each([1, 3, 6, 2]), vec![name.to_owned()])
        });
    }

    c.kill();
    e.kill();
    for lost in [of_c.path(), of_e.path()] {
        std::fs::remove_dir_all(lost).unwrap();
    }
    let lost = vec!["fra/c".to_owned(), "fra/e".to_owned()];
    assert_eq!(told(&a), (12, each([1, 3, 6, 2]), lost.clone()));
    let words = done(&a, &["traffic", "--fleet"]);
    assert!(words.contains("12 requests: 7 refused"), "{words}");
    assert!(words.contains("told by a control node of its site, of its copy: fra/c, fra/e"), "{words}");
    assert!(!words.contains("NOT in it"), "{words}");
    let report = a.cli_json(&["report", "--fleet"]);
    assert_eq!((&report["totals"]["requests"], &report["totals"]["refused"]), (&12.into(), &7.into()));
    let words = done(&a, &["report", "--fleet"]);
    assert!(words.contains("of its copy: fra/c, fra/e") && !words.contains("MISSING"), "{words}");

    // A new control node has it from the one that is left, and the edge node comes back with an empty disk.
    let d = joins(of_d.path(), &app, ("fra", "d"), &control());
    until("the new control node has it", || {
        let status = d.cli_json(&["status"]);
        let copies = status["history"]["copies_of"].as_array().unwrap();
        let has =
            |name: &str| copies.iter().any(|one| one["node"] == name && one["counts"].as_u64() > Some(0));
        ["a", "c", "e", "f"].iter().all(|name| has(name))
    });
    done(&a, &["fleet", "revoke", "fra/e"]);
    let e = joins(of_e_again.path(), &app, ("fra", "e"), &edge());
    serve(&e, 2);
    for at in [&a, &d] {
        until("what it counts now is beside what it counted before", || {
            told(at) == (14, each([1, 3, 8, 2]), lost.clone())
        });
    }
    drop((f, fra));
}
