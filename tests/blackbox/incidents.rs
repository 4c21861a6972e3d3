//! Incidents: what no node sees alone is seen together, named once, and outlives whoever named it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::relay::Relay;
use crate::support::*;

/// An app that has no pages.
fn no_pages() -> String {
    app("404 Not Found")
}

/// An app that answers all in one way.
pub(crate) fn app(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap_or(0) > 0 {
                    if line == "\r\n" {
                        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                        if reader.get_mut().write_all(reply.as_bytes()).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    url
}

/// A node of a site of its own; without `nats` one that is alone.
pub(crate) fn start(folder: &Path, upstream: &str, site: &str, nats: Option<&str>, detection: &str) -> Node {
    Node::start(node(folder, upstream, site, nats, detection))
}

/// The command that starts it.
pub(crate) fn node(
    folder: &Path,
    upstream: &str,
    site: &str,
    nats: Option<&str>,
    detection: &str,
) -> Command {
    let folder = folder.join(site);
    fs::create_dir_all(&folder).unwrap();
    let policy = format!(
        "{detection}[[apps]]\nname = \"shop\"\nupstream = \"{upstream}\"\ntrust_forwarded = [\"127.0.0.1\"]\n"
    );
    fs::write(folder.join("policy.toml"), policy).unwrap();
    let fleet = nats.map(|url| format!("[fleet]\nurl = \"{url}\"\n")).unwrap_or_default();
    let settings = format!(
        "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\nsite = \"{site}\"\nname = \"a\"\n{fleet}"
    );
    fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    command
}

pub(crate) const SITES: [&str; 3] = ["fra", "iad", "syd"];

fn fleet(folder: &Path, nats: &Nats, detection: &str) -> Vec<Node> {
    fleet_before(&no_pages(), folder, nats, detection)
}

pub(crate) fn fleet_before(app: &str, folder: &Path, nats: &Nats, detection: &str) -> Vec<Node> {
    let url = nats.url();
    let nodes: Vec<Node> = SITES.iter().map(|site| start(folder, app, site, Some(&url), detection)).collect();
    until_together(&nodes);
    nodes
}

fn until_together(nodes: &[Node]) {
    for node in nodes {
        until("all members are heard", || {
            let status = node.cli_json(&["status"]);
            let online = |member: &Value| member["online"] == true;
            status["fleet"]["members"].as_array().is_some_and(|m| m.len() == 3 && m.iter().all(online))
        });
        until("somebody names incidents", || node.cli_json(&["status"])["learning"]["named_by"].is_string());
    }
}

fn incidents(node: &Node) -> Vec<Value> {
    node.cli_json(&["incidents"]).as_array().unwrap().clone()
}

/// The one incident that a node knows of, once it has been seen by these nodes.
fn incident_of(node: &Node, seen_by: &[&str]) -> Value {
    let mut found = Value::Null;
    until("one incident names those who saw it", || {
        let all = incidents(node);
        let names = |one: &Value| {
            let nodes = one["nodes"].as_array().unwrap();
            seen_by.iter().all(|site| nodes.iter().any(|node| *node == format!("{site}/a")))
        };
        found = all.first().cloned().unwrap_or_default();
        all.len() == 1 && names(&all[0])
    });
    found
}

/// One address looks for what is not there, a few pages at each node.
fn scan(nodes: &[&Node], client: &str, pages: usize, round: usize) {
    for page in 0..pages {
        for (place, node) in nodes.iter().enumerate() {
            let path = format!("/old/{round}-{page}-{place}.php");
            assert_eq!(node.get_from(client, &path).status, 404);
        }
    }
}

#[test]
fn a_scan_too_thin_for_each_node_is_one_incident_that_names_all_and_outlives_who_named_it() {
    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = fleet(folder.path(), &nats, "");
    // A node alone needs twenty pages in a minute.
    scan(&nodes.iter().collect::<Vec<_>>(), "192.0.2.66", 8, 0);
    let seen = nodes.iter().map(|node| incident_of(node, &SITES)).collect::<Vec<_>>();
    assert_eq!((&seen[0]["severity"], &seen[0]["stage"]), (&"medium".into(), &"reconnaissance".into()));
    let mut id = String::new();
    until("all call it by one name", || {
        let ids: Vec<Value> = nodes.iter().map(|node| incident_of(node, &SITES)["id"].clone()).collect();
        id = ids[0].as_str().unwrap().to_owned();
        ids.iter().all(|one| *one == ids[0])
    });
    let text = String::from_utf8(nodes[1].cli(&["incident", "show", &id]).stdout).unwrap();
    for word in
        ["scanning T1595.003", "address 192.0.2.66", "fra/a, iad/a, syd/a", "evidence", "done\n  nothing"]
    {
        assert!(text.contains(word), "{word} in:\n{text}");
    }
    assert!(text.contains("\ntargets    shop\n"), "{text}");
    // What shows it was passed on, and is told of by each node: its own is in the access log, what others served they are asked for.
    let shown = nodes[0].cli_json(&["incident", "show", &id]);
    for request in shown["evidence"].as_array().unwrap() {
        let explain =
            || String::from_utf8(nodes[0].cli(&["explain", request.as_str().unwrap()]).stdout).unwrap();
        until("the evidence is explained", || explain().contains("/old/"));
    }
    until("metrics count it", || {
        nodes[0].admin_get("/metrics").text().contains("\nphalanx_incidents_open 1\n")
    });

    let named_by = |node: &Node| node.cli_json(&["status"])["learning"]["named_by"].clone();
    let names = named_by(&nodes[0]);
    let place = SITES.iter().position(|site| names == format!("{site}/a")).unwrap();
    nodes.remove(place).kill();
    until("another names incidents", || {
        let next = named_by(&nodes[0]);
        next.is_string() && next != names && next == named_by(&nodes[1])
    });
    // The attack goes on: it is the same incident still.
    scan(&nodes.iter().collect::<Vec<_>>(), "192.0.2.66", 24, 1);
    for node in &nodes {
        until("it went on", || {
            let one = incident_of(node, &SITES);
            one["id"] == id.as_str() && one["changed_at_ms"].as_u64() > seen[0]["changed_at_ms"].as_u64()
        });
    }
}

#[test]
fn a_few_failed_logins_at_each_node_are_one_incident_of_stolen_passwords() {
    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let nodes = fleet_before(&app("401 Unauthorized"), folder.path(), &nats, "");
    for round in 0..4 {
        for (place, node) in nodes.iter().enumerate() {
            // Each from another network, with another password of another account.
            let client = format!("203.0.{}.7", 10 * round + place);
            let fields =
                [("X-Forwarded-For", client.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
            let body = format!("username=user{round}{place}&password=secret{round}{place}");
            let reply = request(node.listen, "POST", "/login", &fields, body.as_bytes());
            assert_eq!(reply.status, 401);
        }
    }
    for node in &nodes {
        let incident = incident_of(node, &SITES);
        assert_eq!(incident["detectors"], serde_json::json!(["credential-stuffing"]), "{incident}");
        assert_eq!(incident["stage"], "credential-access");
    }
}

#[test]
fn a_site_that_is_cut_off_goes_on_correlating_and_both_have_one_incident_afterwards() {
    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (url, relay) = (nats.url(), Relay::start(&nats.url(), Duration::ZERO));
    let urls = [url.clone(), url, relay.url()];
    let sites = SITES.iter().zip(&urls);
    let nodes: Vec<Node> =
        sites.map(|(site, url)| start(folder.path(), &no_pages(), site, Some(url), "")).collect();
    until_together(&nodes);
    let client = "192.0.2.88";
    relay.cut();
    until("the site is cut off", || {
        let members = nodes[0].cli_json(&["status"])["fleet"]["members"].clone();
        members.as_array().unwrap().iter().any(|member| member["online"] == false)
    });
    // Each side sees enough by itself.
    scan(&[&nodes[0]], client, 24, 0);
    scan(&[&nodes[2]], client, 24, 1);
    let others = incident_of(&nodes[0], &["fra"]);
    let own = incident_of(&nodes[2], &["syd"]);
    // Who hears of enough finds it as well as who is asked: on the other side that may be both.
    assert_eq!(own["nodes"], serde_json::json!(["syd/a"]));
    assert!(!others["nodes"].as_array().unwrap().contains(&"syd/a".into()), "{others}");
    assert_ne!(own["id"], others["id"]);
    relay.heal();
    for node in &nodes {
        let one = incident_of(node, &["fra", "syd"]);
        // The older name stays, and the other leads to it.
        assert_eq!(one["id"], others["id"]);
        until("the other leads to it", || {
            let shown = node.cli(&["incident", "show", own["id"].as_str().unwrap(), "--json"]);
            let shown = serde_json::from_slice::<Value>(&shown.stdout).unwrap_or_default();
            shown["id"] == others["id"]
        });
    }
}

#[test]
fn what_is_not_shared_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let app = no_pages();
    let nodes: Vec<Node> = SITES.iter().map(|site| start(folder.path(), &app, site, None, "")).collect();
    scan(&nodes.iter().collect::<Vec<_>>(), "192.0.2.66", 8, 0);
    for node in &nodes {
        until("all was learned from", || node.cli_json(&["status"])["learning"]["events"] == 8);
        assert!(incidents(node).is_empty());
    }
    // Enough for one.
    scan(&[&nodes[0]], "192.0.2.66", 20, 1);
    incident_of(&nodes[0], &["fra"]);
    assert!(incidents(&nodes[1]).is_empty());
}

const ACT: &str = "[detection]\nmode = \"act\"\n";

#[test]
fn undoing_an_incident_lifts_its_bans_on_all_nodes_and_keeps_them_lifted() {
    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let nodes = fleet(folder.path(), &nats, ACT);
    let client = "192.0.2.77";
    scan(&nodes.iter().collect::<Vec<_>>(), client, 8, 0);
    for node in &nodes {
        until("the scanner is refused", || node.get_from(client, "/").status == 403);
        assert_eq!(node.get_from("192.0.2.78", "/").status, 404, "others are served");
    }
    let mut id = String::new();
    until("all call it by one name", || {
        let ids: Vec<Value> = nodes.iter().map(|node| incident_of(node, &SITES)["id"].clone()).collect();
        id = ids[0].as_str().unwrap().to_owned();
        ids.iter().all(|one| *one == ids[0])
    });
    let shown = nodes[2].cli_json(&["incident", "show", &id]);
    let decisions = shown["decisions"].as_array().unwrap();
    assert!(!decisions.is_empty() && decisions.iter().all(|one| one["actor"]["value"] == client), "{shown}");
    assert!(!shown["evidence"].as_array().unwrap().is_empty());

    let text = String::from_utf8(nodes[0].cli(&["incident", "undo", &id]).stdout).unwrap();
    assert!(text.contains(client), "{text}");
    for node in &nodes {
        until("it is served again", || node.get_from(client, "/").status == 404);
        until("all know that it was undone", || {
            node.cli_json(&["incident", "show", &id])["undone_at_ms"].is_u64()
        });
    }
    // It goes on, and an operator has said that it may.
    let learned = |node: &Node| node.cli_json(&["status"])["learning"]["events"].as_u64().unwrap();
    let before = learned(&nodes[0]);
    scan(&[&nodes[0]], client, 24, 1);
    until("all was learned from", || learned(&nodes[0]) >= before + 24);
    assert_eq!(nodes[0].get_from(client, "/").status, 404);

    assert!(nodes[1].cli(&["incident", "close", &id]).status.success());
    for node in &nodes {
        until("it is closed", || node.cli_json(&["incident", "show", &id])["state"] == "closed");
    }
}

/// What a node tells that counted 60 missing pages of one address, and that it served one request.
fn impossible(now_ms: u64) -> Vec<u8> {
    use phalanx_learn::{Detectors, Event, Learner, Method, Step};
    let mut learner = Learner::new(Detectors::default(), Default::default(), 7);
    for target in 0..60 {
        let event = Event {
            at_ms: now_ms,
            ip: "192.0.2.99".parse().unwrap(),
            app: 1,
            route: 2,
            target,
            object: None,
            software: Some(3),
            agent: None,
            session: None,
            account: None,
            secret: None,
            place: None,
            asn: None,
            step: Step::Page,
            status: 404,
            response_bytes: 0,
            method: Method::Get,
            endpoint: 4,
            latency_us: 0,
            country: None,
            shape: 0,
            attack: None,
            exempt: false,
        };
        learner.observe(&event, &mut Vec::new());
    }
    let mut message = learner.summary(now_ms).to_messages().remove(0);
    // Kind, one bucket, its number in four bytes, and how many requests were served in it.
    assert_eq!((message[1], message[6]), (1, 60));
    message[6] = 1;
    message
}

#[test]
fn a_node_that_tells_of_more_than_it_served_is_refused_and_counted() {
    use phalanx_fleet::{FleetHandle, FleetKeys, FleetSettings, LearnedKind, NatsSettings};
    use phalanx_model::lanes::Lanes;
    use phalanx_model::{Clock, SystemClock};
    use std::sync::Arc;

    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path(), &no_pages(), "fra", Some(&nats.url()), "");
    let state = folder.path().join("evil");
    fs::create_dir_all(&state).unwrap();
    let settings = FleetSettings {
        fleet_id: "default".into(),
        site: "syd".into(),
        node: "evil".into(),
        version: "0.1.0".into(),
        roles: vec!["edge".into()],
        state_dir: state.clone(),
        nats: Some(NatsSettings::at(nats.url())),
        secret: None,
        membership: None,
        enrol: Vec::new(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let evil = runtime.block_on(async {
        let sealer = Arc::new(phalanx_trust::Sealer::ephemeral().unwrap());
        let keys = FleetKeys::load_or_create(&state, &sealer, false).unwrap();
        let (lanes, readers) = Lanes::new();
        // Its ledger is nobody's concern.
        std::mem::forget(readers);
        FleetHandle::start(settings, sealer, keys, lanes, Arc::new(SystemClock)).await.unwrap()
    });
    let refused = || node.cli_json(&["status"])["learning"]["refused"].as_u64().unwrap();
    until("what cannot be is refused", || {
        let message = impossible(SystemClock.now_ms());
        runtime.block_on(evil.tell_learned(LearnedKind::Counts, &message)).is_ok() && refused() > 0
    });
    let before = refused();
    runtime.block_on(evil.tell_learned(LearnedKind::Signals, b"rubbish")).unwrap();
    until("what cannot be read is refused", || refused() > before);
    assert!(incidents(&node).is_empty());
    let metrics = node.admin_get("/metrics").text();
    assert!(metrics.lines().any(|line| line.starts_with("phalanx_learn_refused_total ")), "{metrics}");
    // It is no operator: it may say nothing about incidents.
    assert!(runtime.block_on(evil.tell_learned(LearnedKind::Rulings, b"")).is_err());
    runtime.block_on(evil.shutdown());
}
