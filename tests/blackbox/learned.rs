//! What a node learned outlives it: incidents, what is usual. And what only databases of addresses tell.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clocks::{faked, library};
use crate::incidents::app;
use crate::mmdb::{Value as Entry, database};
use crate::support::*;
use crate::upgrade::end_of;

const ACT: &str = "[detection]\nmode = \"act\"\n";

/// A node that is alone, of a folder that may have been another's.
fn start(folder: &Path, upstream: &str, detection: &str, sections: &str) -> Node {
    start_by(folder, upstream, (detection, sections), |_| ())
}

fn start_by(
    folder: &Path,
    upstream: &str,
    (detection, sections): (&str, &str),
    more: impl FnOnce(&mut Command),
) -> Node {
    let policy = format!(
        "{detection}[[apps]]\nname = \"shop\"\nupstream = \"{upstream}\"\ntrust_forwarded = [\"127.0.0.1\"]\n"
    );
    fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = format!(
        "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\nsite = \"fra\"\nname = \"a\"\n{sections}"
    );
    fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    more(&mut command);
    Node::start(command)
}

/// One address looks for what is not there until it is refused. The incident's id.
fn scanned(node: &Node, client: &str) -> String {
    for page in 0..24 {
        node.get_from(client, &format!("/old/{page}.php"));
    }
    until("the scanner is refused", || node.get_from(client, "/").status == 403);
    let mut id = String::new();
    until("an incident says so", || {
        let all = node.cli_json(&["incidents"]);
        id = all[0]["id"].as_str().unwrap_or_default().to_owned();
        all[0]["decisions_live"].as_u64() > Some(0)
    });
    id
}

/// What stays the same of an incident.
fn told(node: &Node, id: &str) -> Value {
    let mut one = node.cli_json(&["incident", "show", id]);
    // Who is refused goes on to knock; and what a node orders itself alone about many is a few minutes' and chosen anew.
    for changing in ["changed_at_ms", "summary", "decisions", "decisions_live"] {
        one.as_object_mut().unwrap().remove(changing);
    }
    one
}

fn undone(node: &Node, id: &str, client: &str) {
    let text = String::from_utf8(node.cli(&["incident", "undo", id]).stdout).unwrap();
    assert!(text.contains(client), "{text}");
    until("it is served again", || node.get_from(client, "/").status == 404);
}

#[test]
fn a_node_alone_knows_its_incidents_after_a_restart_and_can_undo_them() {
    let (folder, app, client) = (tempfile::tempdir().unwrap(), app("404 Not Found"), "192.0.2.66");
    let node = start(folder.path(), &app, ACT, "");
    let id = scanned(&node, client);
    let before = told(&node, &id);
    node.stop();
    let node = start(folder.path(), &app, ACT, "");
    assert_eq!(told(&node, &id), before);
    assert!(before["nodes"] == serde_json::json!(["fra/a"]) && before["state"] == "open", "{before}");
    assert_eq!(node.get_from(client, "/").status, 403);
    undone(&node, &id, client);
    // What was ruled outlives a power cut, once it is on the disk.
    let kept = node.state.join("learned/incidents");
    let at = || fs::metadata(&kept).and_then(|of| of.modified()).ok();
    let written = at();
    until("it is kept", || at() != written);
    node.kill();
    let node = start(folder.path(), &app, ACT, "");
    assert!(node.cli_json(&["incident", "show", &id])["undone_at_ms"].is_u64());
    // The same attacker goes on, and an operator has said that it may.
    let learned = || node.cli_json(&["status"])["learning"]["events"].as_u64().unwrap();
    for page in 0..24 {
        assert_eq!(node.get_from(client, &format!("/older/{page}.php")).status, 404);
    }
    until("all was learned from", || learned() >= 24);
    assert_eq!(node.get_from(client, "/").status, 404);
}

#[test]
fn incidents_outlive_an_upgrade() {
    let (folder, app, client) = (tempfile::tempdir().unwrap(), app("404 Not Found"), "192.0.2.67");
    let node = start(folder.path(), &app, ACT, "");
    let id = scanned(&node, client);
    let before = told(&node, &id);
    let process = || node.cli_json(&["status"])["process"]["id"].as_u64();
    let first = process();
    let upgraded = node.cli(&["upgrade"]);
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    assert_ne!(process(), first);
    assert_eq!(told(&node, &id), before);
    undone(&node, &id, client);
    end_of(&node.state);
}

const LOG: &str = "[log]\naccess = \"log/access.log\"\n";

fn usual(node: &Node) -> Value {
    node.cli_json(&["status"])["learning"]["usual"].clone()
}

/// Writes a log of two hours of requests as a node writes them, which that node has no chance to learn from. Where it is.
fn write_history(folder: &Path, app: &str) -> PathBuf {
    let log = folder.join("log");
    fs::DirBuilder::new().mode(0o700).create(&log).unwrap();
    let log = log.join("access.log");
    let node = start(folder, app, "", LOG);
    node.get_from("192.0.2.1", "/");
    let mut line = String::new();
    until("the request is in the log", || {
        line = fs::read_to_string(&log).unwrap_or_default();
        line.ends_with('\n')
    });
    until("it is learned from", || usual(&node)["all"] == 2);
    assert_eq!((&usual(&node)["known"], &usual(&node)["minutes_left"]), (&0.into(), &60.into()));
    node.kill();
    let line: Value = serde_json::from_str(&line).unwrap();
    let at_ms = line["at_ms"].as_u64().unwrap();
    let lines: String = (0..120 * 40)
        .map(|n| {
            let mut line = line.clone();
            line["at_ms"] = (at_ms - 7_200_000 + n * 1_500).into();
            format!("{line}\n")
        })
        .collect();
    fs::write(&log, lines).unwrap();
    log
}

#[test]
fn what_is_usual_is_learned_from_the_access_log_and_outlives_node_and_log() {
    let (folder, app) = (tempfile::tempdir().unwrap(), app("404 Not Found"));
    let log = write_history(folder.path(), &app);
    let node = start(folder.path(), &app, "", LOG);
    until("history has taught it", || usual(&node)["from_history"] == 4_800);
    until("it is known", || usual(&node)["known"] == 2);
    let status = String::from_utf8(node.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("usual: known of 2 of 2 apps and routes"), "{status}");
    assert!(node.admin_get("/metrics").text().contains("\nphalanx_learn_usual_known 2\n"));
    node.stop();

    fs::remove_file(log).unwrap();
    let node = start(folder.path(), &app, "", LOG);
    until("it is known still", || usual(&node)["known"] == 2);
    assert_eq!(usual(&node)["from_history"], 0);
    let kept = node.state.join("learned/usual");
    node.stop();

    // A damaged file is put aside, and learning begins anew.
    let mut bytes = fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kept, bytes).unwrap();
    let node = start(folder.path(), &app, "", LOG);
    assert!(kept.with_extension("refused").exists());
    node.get_from("192.0.2.1", "/");
    until("it is learned anew", || usual(&node)["minutes_left"] == 60);
}

#[test]
fn two_minutes_unlike_what_is_usual_are_an_incident_that_names_the_three_strongest_traits() {
    let Some(library) = library() else { return };
    let (folder, app) = (tempfile::tempdir().unwrap(), app("200 OK"));
    write_history(folder.path(), &app);
    // A minute of its clock takes two seconds.
    let node = start_by(folder.path(), &app, ("", LOG), |command| {
        faked(&library)(command);
        command.env("FAKETIME", "+0 x30");
    });
    until("it is known what is usual", || usual(&node)["known"] == 2);
    // Usually one client asks forty times a minute. Now many change something, and more of them.
    let mut client = 0_u32;
    let mut summary = String::new();
    until("it is unusual", || {
        for _ in 0..50 {
            client = (client + 1) % 400;
            let from = format!("198.51.{}.{}", client / 200, client % 200);
            request(node.listen, "POST", "/", &[("X-Forwarded-For", &from)], b"");
        }
        // With what else belongs to it.
        let all = node.cli_json(&["incidents"]);
        let ids = all.as_array().unwrap().iter().filter_map(|one| one["id"].as_str());
        let found = ids.flat_map(|id| {
            let one = node.cli_json(&["incident", "show", id]);
            one["findings"].as_array().unwrap().clone()
        });
        let unusual = found.into_iter().find(|finding| finding["detector"] == "unusual-traffic");
        summary = unusual.map_or_else(String::new, |finding| finding["reason"].as_str().unwrap().to_owned());
        !summary.is_empty()
    });
    assert_eq!(summary.split("; ").count(), 3, "{summary}");
    for word in ["clients in a minute (usually 1)", "100 % change something (usually 0 %)"] {
        assert!(summary.contains(word), "{summary}");
    }
}

/// One logs in from an address; whether it goes through is the app's to say.
fn log_in(node: &Node, client: &str, account: &str, agent: &str) -> Reply {
    let fields = [
        ("X-Forwarded-For", client),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("User-Agent", agent),
    ];
    let body = format!("username={account}&password=correct");
    let reply = request(node.listen, "POST", "/login", &fields, body.as_bytes());
    assert_eq!(reply.status, 303);
    reply
}

#[test]
fn an_account_that_logs_in_from_two_far_places_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let app = app("303 See Other\r\nLocation: /account\r\nSet-Cookie: shop_session=0123456789abcdef");
    let at = |latitude, longitude, country| {
        let spot = vec![("latitude", Entry::Double(latitude)), ("longitude", Entry::Double(longitude))];
        let country = Entry::Map(vec![("iso_code", Entry::Text(country))]);
        vec![("country", country), ("location", Entry::Map(spot))]
    };
    let cities = [
        ("192.0.2.0/24", at(48.86, 2.35, "FR")),
        ("198.51.100.0/24", at(35.68, 139.69, "JP")),
        ("203.0.113.0/24", at(50.85, 4.35, "BE")),
    ];
    fs::write(folder.path().join("cities.mmdb"), database(&cities)).unwrap();
    let log = folder.path().join("access.log");
    let sections = "[geo]\ndatabase = [\"cities.mmdb\"]\n[log]\naccess = \"access.log\"\n";
    let node = start(folder.path(), &app, "", sections);
    // Many log in, some from here and there nearby; one of them is in Paris and in Tokyo.
    for person in 0..20 {
        log_in(&node, &format!("192.0.2.{person}"), &format!("user{person}"), "Mozilla/5.0");
        log_in(&node, &format!("203.0.113.{person}"), &format!("user{person}"), "Mozilla/5.0");
    }
    let reply = log_in(&node, "198.51.100.7", "user7", "curl/8");
    let begun = Instant::now();
    let mut incidents = Vec::new();
    until("it is an incident", || {
        incidents = node.cli_json(&["incidents"]).as_array().unwrap().clone();
        !incidents.is_empty()
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((incidents.len(), &incidents[0]["detectors"]), (1, &serde_json::json!(["impossible-travel"])));
    let shown = node.cli_json(&["incident", "show", incidents[0]["id"].as_str().unwrap()]);
    let mut account = Value::Null;
    until("the login is in the log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let line = text.lines().find(|line| line.contains(reply.id()));
        account = line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        account.is_object()
    });
    let subject = &shown["findings"][0]["subject"];
    assert_eq!(
        (&subject["kind"], &subject["value"]),
        (&"account".into(), &account["deed"]["account"]),
        "{shown}"
    );
}
