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
    (reply.status, reply.text())
}

#[test]
fn a_drained_node_ends_its_connections_says_so_and_comes_back_when_told() {
    let Some(nats) = Nats::start() else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let fra = member(folder.path(), &app, &nats.url(), "fra");
    let syd = member(folder.path(), &app, &nats.url(), "syd");
    see_each_other(&[&fra, &syd]);
    assert_eq!(readiness(&syd), (200, "ready\n".into()));

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
    assert_eq!(readiness(&syd), (503, "not ready: draining\n".into()));
    assert_eq!(duty(&fra, "syd"), "draining", "a request is under way");
    busy.get_mut().write_all(b"lo").unwrap();
    let reply = read_reply(&mut busy);
    assert_eq!((reply.status, reply.fields["connection"].as_str()), (200, "close"));
    drop(busy);
    until("it is drained", || duty(&fra, "syd") == "drained");
    assert_eq!(readiness(&syd), (503, "not ready: drained\n".into()));
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
    assert_eq!(readiness(&syd), (200, "ready\n".into()));
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
    until("the node has the order", || readiness(&syd) == (503, "not ready: cordoned\n".into()));
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
