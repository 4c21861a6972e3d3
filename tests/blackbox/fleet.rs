//! Three nodes of three sites over one nats-server: what one learns, all enforce.

use crate::support::*;

fn member<'a>(nats: &'a str, site: &'a str) -> Vec<&'a str> {
    vec!["--trust-forwarded", "127.0.0.1/32", "--fleet", nats, "--site", site, "--node", "a"]
}

/// Every node answers the client with this status.
fn all_answer(nodes: &[Node], client: &str, status: u16) {
    for (n, node) in nodes.iter().enumerate() {
        until(&format!("node {n} answers {client} with {status}"), || {
            node.get_from(client, "/").status == status
        });
    }
}

fn ban(node: &Node, client: &str) {
    for n in 0..3 {
        assert_eq!(node.get_from(client, &attack(n)).status, 403);
    }
}

fn see_each_other(nodes: &[Node]) {
    for node in nodes {
        until("all members are seen", || {
            node.cli_json(&["status"])["fleet"]["members"].as_array().is_some_and(|m| m.len() == nodes.len())
        });
    }
}

#[test]
fn a_ban_on_one_node_is_enforced_by_all_and_undone_by_any() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let nodes: Vec<Node> =
        ["syd", "fra", "iad"].iter().map(|site| Node::up(&app.url, &member(&url, site))).collect();
    see_each_other(&nodes);
    ban(&nodes[0], "192.0.2.7");
    all_answer(&nodes, "192.0.2.7", 403);
    all_answer(&nodes, "192.0.2.8", 200);

    let id = nodes[2].cli_json(&["decision", "list"])[0]["id"].as_str().unwrap().to_owned();
    let deleted = nodes[2].cli(&["decision", "delete", &id]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    all_answer(&nodes, "192.0.2.7", 200);

    for client in ["198.51.100.1", "198.51.100.2"] {
        ban(&nodes[0], client);
        all_answer(&nodes, client, 403);
    }
    let withdrawn =
        nodes[1].cli(&["fleet", "withdraw", "--author", "syd/a", "--reason", "a rule that erred"]);
    assert!(withdrawn.status.success(), "{}", String::from_utf8_lossy(&withdrawn.stderr));
    for client in ["198.51.100.1", "198.51.100.2"] {
        all_answer(&nodes, client, 200);
    }
    let listed = nodes[2].cli(&["decision", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("everything that syd/a decided until"), "{listed}");
    assert!(!nodes[1].cli(&["fleet", "withdraw", "--author", "syd", "--reason", "x"]).status.success());
}

#[test]
fn a_ban_survives_the_restart_of_nodes_and_of_nats() {
    let Some(mut nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let sites = ["syd", "fra"];
    let start = |n: usize| Node::up_in(folders[n].path(), &app.url, &member(&url, sites[n]));
    let mut nodes = vec![start(0), start(1)];
    see_each_other(&nodes);
    ban(&nodes[0], "192.0.2.7");
    all_answer(&nodes, "192.0.2.7", 403);

    nats.restart();
    all_answer(&nodes, "192.0.2.7", 403);
    nodes.pop().unwrap().kill();
    nodes.push(start(1));
    assert_eq!(nodes[1].get_from("192.0.2.7", "/").status, 403, "enforced from its own state at once");
    nodes.remove(0).stop();
    nodes.insert(0, start(0));
    assert_eq!(nodes[0].get_from("192.0.2.7", "/").status, 403, "the author remembers");
    // And what is learned after the restarts still spreads.
    see_each_other(&nodes);
    ban(&nodes[1], "198.51.100.9");
    all_answer(&nodes, "198.51.100.9", 403);
}

#[test]
fn a_node_that_lost_its_state_is_heard_again_once_it_is_forgotten() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let fra = Node::up(&app.url, &member(&url, "fra"));
    let first = Node::up(&app.url, &member(&url, "syd"));
    let knows = |word: &str| fra.cli_json(&["status"])["fleet"].to_string().contains(word);
    until("fra knows syd", || knows("\"syd\""));
    first.kill();
    let syd = Node::up(&app.url, &member(&url, "syd"));
    until("fra refuses the new key", || knows("another key"));
    ban(&syd, "192.0.2.7");
    until("syd itself bans", || syd.get_from("192.0.2.7", "/").status == 403);
    assert_eq!(fra.get_from("192.0.2.7", "/").status, 200, "an impostor's ban does not count");
    let forgotten = fra.cli(&["fleet", "forget", "--site", "syd", "--node", "a"]);
    assert!(forgotten.status.success(), "{}", String::from_utf8_lossy(&forgotten.stderr));
    until("the ban counts", || fra.get_from("192.0.2.7", "/").status == 403);
    assert!(!fra.cli(&["fleet", "forget", "--site", "fra", "--node", "a"]).status.success());
}

#[test]
fn without_nats_a_node_starts_enforces_and_shares_later() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let other = Node::up(&app.url, &member(&url, "fra"));
    drop(nats);
    let node = Node::up(&app.url, &member(&url, "syd"));
    ban(&node, "192.0.2.7");
    until("the lone node bans", || node.get_from("192.0.2.7", "/").status == 403);
    let status = node.cli_json(&["status"]);
    assert_eq!(status["fleet"]["connected"], false);
    assert!(!status["fleet"]["degraded"].as_array().unwrap().is_empty(), "{status}");
    assert_eq!(other.get_from("192.0.2.7", "/").status, 200);
}

#[test]
fn a_decision_ends_at_its_expiry_on_every_node() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let nodes: Vec<Node> =
        ["syd", "fra"].iter().map(|site| Node::up(&app.url, &member(&url, site))).collect();
    see_each_other(&nodes);
    let added =
        nodes[0].cli(&["decision", "add", "--prefix", "203.0.113.0/24", "--for", "3s", "--reason", "test"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    all_answer(&nodes, "203.0.113.77", 403);
    all_answer(&nodes, "203.0.113.77", 200);
}

#[test]
fn a_blocklist_imported_on_one_node_is_enforced_by_both_and_outlives_nats() {
    let Some(nats) = Nats::start() else { return };
    let app = App::start();
    let url = nats.url();
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let sites = ["syd", "fra"];
    let start = |n: usize| Node::up_in(folders[n].path(), &app.url, &member(&url, sites[n]));
    let mut nodes = vec![start(0), start(1)];
    see_each_other(&nodes);
    let file = folders[0].path().join("drop.txt");
    let file = file.to_str().unwrap();
    let import = |node: &Node| node.cli(&["blocklist", "import", "drop", file, "--for", "1h"]);
    std::fs::write(file, "# of today\n192.0.2.0/24\n198.51.100.300\n").unwrap();
    let refused = import(&nodes[0]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("drop:3: \"198.51.100.300\" is no address"), "{told}");

    std::fs::write(file, "# of today\n192.0.2.0/24\n198.51.100.3\n").unwrap();
    let imported = import(&nodes[0]);
    let told = String::from_utf8_lossy(&imported.stdout).into_owned();
    assert!(told.contains("blocklist drop is in force for 1 h 0 min: 2 prefixes"), "{told}");
    all_answer(&nodes, "192.0.2.7", 403);
    all_answer(&nodes, "198.51.100.3", 403);
    all_answer(&nodes, "198.51.100.4", 200);
    let listed = nodes[1].cli(&["blocklist", "list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("in force"), "{listed:?}");

    let refusal = nodes[1].get_from("192.0.2.9", "/");
    let id = refusal.id().to_owned();
    until("the request is in the history", || nodes[1].cli(&["explain", &id]).status.success());
    let explained = String::from_utf8(nodes[1].cli(&["explain", &id]).stdout).unwrap();
    assert!(explained.contains("on blocklist drop, version") && explained.contains("syd/a"), "{explained}");
    let allow =
        ["decision", "add", "--ip", "192.0.2.9", "--kind", "allow", "--for", "1h", "--reason", "partner"];
    assert!(nodes[0].cli(&allow).status.success());
    all_answer(&nodes, "192.0.2.9", 200);

    drop(nats);
    nodes.pop().unwrap().kill();
    nodes.push(start(1));
    assert_eq!(nodes[1].get_from("192.0.2.7", "/").status, 403, "from its own disk");
    assert!(nodes[1].cli(&["blocklist", "remove", "drop"]).status.success());
    until("it is over here at once", || nodes[1].get_from("192.0.2.7", "/").status == 200);
}
