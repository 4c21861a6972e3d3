//! What an operator orders nodes to do: cordon, drain, evict.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::*;

fn member(folder: &Path, app: &App, nats: &str, site: &str) -> Node {
    let args = ["--trust-forwarded", "127.0.0.1/32", "--fleet", nats, "--site", site, "--node", "a"];
    Node::up_in(&folder.join(site), &app.url, &args)
}

fn see_each_other(nodes: &[&Node]) {
    for node in nodes {
        until("all members are online", || {
            let status = node.cli_json(&["status"]);
            let online = |member: &serde_json::Value| member["online"] == true;
            status["fleet"]["members"]
                .as_array()
                .is_some_and(|m| m.len() == nodes.len() && m.iter().all(online))
        });
    }
}

/// What a node says about the duty of another.
fn duty(node: &Node, site: &str) -> String {
    let status = node.cli_json(&["fleet", "status"]);
    let members = status["members"].as_array().unwrap();
    let of_site = members.iter().find(|member| member["site"] == site);
    of_site.map(|member| member["duty"].as_str().unwrap().to_owned()).unwrap_or_default()
}

fn orders(node: &Node, args: &[&str]) {
    let done = node.cli(&[&["fleet"], args].concat());
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn readiness(node: &Node) -> (u16, String) {
    let reply = get(node.admin, "/readyz", &[]);
    let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let reasons = told["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap());
    (reply.status, reasons.collect::<Vec<_>>().join(", "))
}

#[test]
fn a_drained_node_ends_its_connections_says_so_and_comes_back_when_told() {
    let Some(nats) = Nats::start() else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let fra = member(folder.path(), &app, &nats.url(), "fra");
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    see_each_other(&[&fra, &syd]);
    assert_eq!(readiness(&syd), (200, String::new()));

    let mut idle = BufReader::new(connect(syd.listen));
    let asks = format!("GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: t\r\nAccept: */*\r\n\r\n", syd.listen);
    idle.get_mut().write_all(asks.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut idle).status, 200);
    // A request that is under way: its body has not been sent yet.
    let mut busy = BufReader::new(connect(syd.listen));
    let head = format!(
        "POST /form HTTP/1.1\r\nHost: {}\r\nUser-Agent: t\r\nAccept: */*\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhel",
        syd.listen
    );
    busy.get_mut().write_all(head.as_bytes()).unwrap();

    let ordered = Instant::now();
    orders(&fra, &["drain", "syd/a", "--reason", "new kernel"]);
    until("the other node sees it", || duty(&syd, "syd") == "draining");
    println!("a drain ordered on one node was in another's `fleet status` after {:?}", ordered.elapsed());
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "the idle connection is closed");
    assert_eq!(readiness(&syd), (503, "draining".into()));
    assert_eq!(duty(&fra, "syd"), "draining", "a request is under way");
    busy.get_mut().write_all(b"lo").unwrap();
    let reply = read_reply(&mut busy);
    assert_eq!((reply.status, reply.fields["connection"].as_str()), (200, "close"));
    drop(busy);
    until("it is drained", || duty(&fra, "syd") == "drained");
    assert_eq!(readiness(&syd), (503, "drained".into()));
    assert_eq!(syd.get("/").status, 200, "who comes nevertheless is served");
    let told = String::from_utf8(fra.cli(&["fleet", "status"]).stdout).unwrap();
    assert!(told.contains("drained (new kernel)"), "{told}");
    let told = String::from_utf8(syd.cli(&["status"]).stdout).unwrap();
    assert!(told.contains("drained by order of operator at fra/a"), "{told}");

    syd.stop();
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    assert_eq!(readiness(&syd).0, 503, "the order outlives a restart");
    see_each_other(&[&fra, &syd]);
    orders(&syd, &["drain", "syd/a", "--undo"]);
    assert_eq!(readiness(&syd), (200, String::new()));
    until("the other node sees it serve", || duty(&fra, "syd") == "serving");
}

#[test]
fn an_order_reaches_a_node_that_was_away_when_it_was_given() {
    let Some(nats) = Nats::start() else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let fra = member(folder.path(), &app, &nats.url(), "fra");
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    see_each_other(&[&fra, &syd]);
    syd.kill();
    orders(&fra, &["cordon", "syd/a"]);
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    until("the node has the order", || readiness(&syd) == (503, "cordoned".into()));
    let mut kept = BufReader::new(connect(syd.listen));
    let asks = format!("GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: t\r\nAccept: */*\r\n\r\n", syd.listen);
    for _ in 0..2 {
        kept.get_mut().write_all(asks.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut kept).status, 200, "a cordoned node serves on, and keeps connections");
    }
    orders(&fra, &["cordon", "syd/a", "--undo"]);
    until("the node is ready", || readiness(&syd).0 == 200);
    let unknown = fra.cli(&["fleet", "cordon", "iad/a"]);
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && told.contains("no node iad/a is known here"), "{told}");
}

#[test]
fn a_dead_node_that_is_evicted_is_gone_until_it_is_heard_again() {
    let Some(nats) = Nats::start() else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let fra = member(folder.path(), &app, &nats.url(), "fra");
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    see_each_other(&[&fra, &syd]);
    assert_eq!(syd.get_from("192.0.2.7", &attack(0)).status, 403);
    let refused = fra.cli(&["fleet", "evict", "syd/a"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("that node is alive"), "{told}");
    let added = syd.cli(&["decision", "add", "--ip", "192.0.2.7", "--for", "1h", "--reason", "test"]);
    assert!(added.status.success());
    until("its ban is everywhere", || fra.get_from("192.0.2.7", "/").status == 403);
    syd.kill();
    until("it is dead", || fra.cli(&["fleet", "evict", "syd/a"]).status.success());
    assert_eq!(duty(&fra, "syd"), "");
    assert_eq!(fra.get_from("192.0.2.7", "/").status, 403, "what it decided stays");
    let fra = {
        fra.stop();
        member(folder.path(), &app, &nats.url(), "fra")
    };
    assert_eq!(duty(&fra, "syd"), "", "also after a restart");
    let back = Instant::now();
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    see_each_other(&[&fra, &syd]);
    assert!(back.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_snapshot_brings_back_what_a_node_lost_and_nothing_that_was_undone() {
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let args = ["--trust-forwarded", "127.0.0.1/32"];
    let node = Node::up_in(&folder.path().join("first"), &app.url, &args);
    for client in ["192.0.2.7", "192.0.2.8"] {
        let added = node.cli(&["decision", "add", "--ip", client, "--for", "1h", "--reason", "test"]);
        assert!(added.status.success());
        assert_eq!(node.get_from(client, "/").status, 403);
    }
    let file = folder.path().join("fleet.snapshot");
    let file = file.to_str().unwrap();
    orders(&node, &["snapshot", file]);
    let sealed = std::fs::read(file).unwrap();
    assert!(!sealed.windows(9).any(|part| part == b"192.0.2.7"), "a snapshot is sealed");
    node.kill();

    let node = Node::up_in(&folder.path().join("second"), &app.url, &args);
    let would = node.cli_json(&["fleet", "restore", file, "--dry-run"]);
    assert_eq!((&would["dry_run"], &would["decisions"]["restored"]), (&true.into(), &2.into()), "{would}");
    assert_eq!(node.get_from("192.0.2.7", "/").status, 200, "nothing was changed");
    orders(&node, &["restore", file]);
    assert_eq!(node.get_from("192.0.2.7", "/").status, 403);
    let list = node.cli_json(&["decision", "list"]);
    let of_first = list.as_array().unwrap().iter().find(|one| one["actor"]["value"] == "192.0.2.7").unwrap();
    assert!(node.cli(&["decision", "delete", of_first["id"].as_str().unwrap()]).status.success());
    let again = node.cli_json(&["fleet", "restore", file]);
    assert_eq!(
        (&again["decisions"]["ended"], &again["decisions"]["known"]),
        (&1.into(), &1.into()),
        "{again}"
    );
    assert_eq!(node.get_from("192.0.2.7", "/").status, 200, "what was undone stays undone");
    assert_eq!(node.get_from("192.0.2.8", "/").status, 403);

    let mut broken = sealed;
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(file, broken).unwrap();
    let refused = node.cli(&["fleet", "restore", file]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("is damaged"), "{told}");
}

#[test]
fn a_single_node_becomes_a_member_of_a_fleet_and_leaves_it_with_all_it_knew() {
    let Some(nats) = Nats::start() else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let state = folder.path().join("fra");
    let alone = || {
        Node::up_in(&state, &app.url, &["--trust-forwarded", "127.0.0.1/32", "--site", "fra", "--node", "a"])
    };
    let ban = |node: &Node, client: &str| {
        for n in 0..3 {
            assert_eq!(node.get_from(client, &attack(n)).status, 403);
        }
        until("the node bans", || node.get_from(client, "/").status == 403);
    };
    let node = alone();
    ban(&node, "192.0.2.7");
    let added =
        node.cli(&["decision", "add", "--prefix", "198.51.100.0/24", "--for", "1h", "--reason", "test"]);
    assert!(added.status.success());
    node.stop();

    let syd = member(folder.path(), &app, &nats.url(), "syd");
    let node = member(folder.path(), &app, &nats.url(), "fra");
    assert_eq!(node.get_from("192.0.2.7", "/").status, 403, "at once, from its own state");
    see_each_other(&[&node, &syd]);
    for client in ["192.0.2.7", "198.51.100.7"] {
        until("the other node enforces what the single one knew", || syd.get_from(client, "/").status == 403);
    }
    ban(&syd, "192.0.2.9");
    until("the member learns from the other", || node.get_from("192.0.2.9", "/").status == 403);
    node.stop();

    let node = alone();
    for client in ["192.0.2.7", "198.51.100.7", "192.0.2.9"] {
        assert_eq!(node.get_from(client, "/").status, 403, "{client}: alone again, with all it knew");
    }
    assert_eq!(node.cli_json(&["status"])["fleet"]["kind"], "local");
    assert_eq!(node.banned().len(), 3);
}
