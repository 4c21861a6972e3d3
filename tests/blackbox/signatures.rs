//! Attacks that have nothing in common but the software they are made with, and places that are closed: refused on all nodes, known visitors let
//! in, and taken back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::clocks::library;
use crate::incidents::{SITES, app, fleet_before, node, start};
use crate::support::*;

const ACT: &str = "[detection]\nmode = \"act\"\n[strikes]\nfirst_ban = \"20s\"\n";
/// How the attackers' tool writes HTTP.
const TOOL: (&str, &str) = ("X-Tool", "1");

fn fleet(folder: &Path, nats: &Nats) -> Vec<Node> {
    fleet_before(&app("401 Unauthorized"), folder, nats, ACT)
}

fn log_in(node: &Node, client: &str, name: &str, tool: bool) -> u16 {
    let mut fields = vec![("X-Forwarded-For", client), ("Content-Type", "application/x-www-form-urlencoded")];
    fields.extend(tool.then_some(TOOL));
    let body = format!("username={name}&password=secret-of-{name}");
    request(node.listen, "POST", "/login", &fields, body.as_bytes()).status
}

fn ask_with_tool(node: &Node, client: &str) -> u16 {
    node.get_as("/", &[("X-Forwarded-For", client), TOOL]).status
}

/// Logins with the tool, each from another network, with another account.
fn attack(node: &Node, round: u8) {
    (0..16).for_each(|n| _ = log_in(node, &format!("203.{round}.{n}.7"), &format!("user{round}-{n}"), true));
}

fn namer(nodes: &[Node]) -> usize {
    let named_by = nodes[0].cli_json(&["status"])["learning"]["named_by"].clone();
    SITES.iter().position(|site| named_by == format!("{site}/a")).unwrap()
}

fn decisions(node: &Node) -> Vec<Value> {
    node.cli_json(&["decision", "list"]).as_array().unwrap().clone()
}

fn about_software(node: &Node) -> Vec<Value> {
    decisions(node).into_iter().filter(|one| one["actor"]["kind"] == "software").collect()
}

#[test]
fn an_attack_that_shares_a_way_of_writing_http_is_refused_on_all_nodes_until_it_is_undone() {
    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let nodes = fleet(folder.path(), &nats);
    let namer = namer(&nodes);
    attack(&nodes[namer], 0);
    for node in &nodes {
        until("the tool is refused, from addresses that were never seen", || {
            ask_with_tool(node, "203.99.1.7") == 403
        });
        assert_eq!(node.get_from("203.99.1.7", "/").status, 401, "others are served, also from there");
        assert_eq!(log_in(node, "203.99.1.8", "ann", false), 401);
    }
    let orders = about_software(&nodes[(namer + 1) % 3]);
    assert!(orders.iter().any(|one| one["author"]["role"] == "operator"), "{orders:?}");
    // A fleet that has just started does not know who else has it.
    assert!(orders.iter().all(|one| one["kind"] == "challenge"), "{orders:?}");
    let left_ms =
        |one: &Value| one["expires_at_ms"].as_u64().unwrap() - one["created_at_ms"].as_u64().unwrap();
    assert!(orders.iter().all(|one| left_ms(one) <= 15 * 60_000), "{orders:?}");

    let reason = orders[0]["reason"].as_str().unwrap();
    let id = reason.strip_prefix("incident ").unwrap().split(':').next().unwrap().to_owned();
    let shown = nodes[namer].cli_json(&["incident", "show", &id]);
    assert!(
        shown["decisions"].as_array().unwrap().iter().any(|one| one["actor"]["kind"] == "software"),
        "{shown}"
    );
    let undone = nodes[(namer + 1) % 3].cli(&["incident", "undo", &id]);
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    for node in &nodes {
        until("it is served again", || ask_with_tool(node, "203.99.2.7") == 401);
        assert!(about_software(node).is_empty());
    }
    // It goes on, and an operator has said that it may.
    let learned = |node: &Node| node.cli_json(&["status"])["learning"]["events"].as_u64().unwrap();
    let before = learned(&nodes[namer]);
    attack(&nodes[namer], 1);
    until("all was learned from", || learned(&nodes[namer]) >= before + 16);
    assert_eq!(ask_with_tool(&nodes[namer], "203.99.3.7"), 401);
}

#[test]
fn a_node_that_does_not_name_incidents_orders_itself_alone_and_what_it_ordered_ends() {
    let Some(nats) = Nats::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let nodes = fleet(folder.path(), &nats);
    let namer = namer(&nodes);
    let alone = &nodes[(namer + 1) % 3];
    attack(alone, 0);
    until("it refuses the tool", || ask_with_tool(alone, "203.99.1.7") == 403);
    let own = about_software(alone);
    assert!(own.len() == 1 && own[0]["author"]["role"] == "node", "{own:?}");
    let explained = alone.get_as("/", &[("X-Forwarded-For", "203.99.1.9"), TOOL]);
    let text = String::from_utf8(alone.cli(&["explain", explained.id()]).stdout).unwrap();
    assert!(text.contains("software ") && text.contains("credential-stuffing"), "{text}");
    for (place, node) in nodes.iter().enumerate() {
        if place != (namer + 1) % 3 {
            assert_eq!(ask_with_tool(node, "203.99.1.7"), 401, "what one node says moves no other");
            assert!(about_software(node).is_empty());
        }
    }
    until("it is over", || ask_with_tool(alone, "203.99.1.7") == 401);
    assert!(about_software(alone).is_empty());
}

#[test]
fn a_place_that_is_closed_stays_open_to_who_has_an_account_there() {
    let folder = tempfile::tempdir().unwrap();
    let url = app("302 Found\r\nSet-Cookie: sessionid=s1\r\nLocation: /");
    let node = start(folder.path(), &url, "fra", None, "");
    assert_eq!(log_in(&node, "192.0.2.1", "ann", false), 302);
    let member = || node.get_as("/", &[("X-Forwarded-For", "192.0.2.1"), ("Cookie", "sessionid=s1")]).status;
    let added = node.cli(&["decision", "add", "--place", "shop", "--for", "5m", "--reason", "under attack"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    assert_eq!(node.get_from("192.0.2.7", "/").status, 403, "nobody knows it");
    assert_eq!(member(), 302);
    let list = decisions(&node);
    assert_eq!(list[0]["actor"]["kind"], "app", "{list:?}");
    let id = list[0]["id"].as_str().unwrap();
    assert!(node.cli(&["decision", "delete", id, "--reason", "over"]).status.success());
    assert_eq!(node.get_from("192.0.2.7", "/").status, 302);
}

const FLOODED: &str = "[detection]\nmode = \"act\"\nflood_requests = 300\n";

/// A node whose wall clock is ahead by what a file says.
fn with_clock(folder: &Path, url: &str, library: &Path) -> (Node, impl Fn(u32) + use<>) {
    let state = folder.join("fra/state");
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let file = state.join("clock");
    let set = move |ahead_s: u32| {
        let new = file.with_extension("new");
        fs::write(&new, format!("+{ahead_s}\n")).unwrap();
        fs::rename(new, &file).unwrap();
    };
    set(0);
    let mut command = node(folder, url, "fra", None, FLOODED);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", state.join("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (Node::start(command), set)
}

/// Minutes of ordinary visitors, then a flood from ever other addresses: what the learner promises, of a real node.
#[test]
fn a_flood_from_rotating_addresses_is_refused_by_how_it_is_written_and_the_order_goes_a_minute_after_it() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (node, set) = with_clock(folder.path(), &app("200 OK"), &library);
    let visitors = || (0..21).map(|n| format!("192.0.2.{n}"));
    for minutes in 0..=6 {
        set(minutes * 110);
        for visitor in visitors().cycle().take(210) {
            assert_eq!(node.get_from(&visitor, "/").status, 200);
        }
    }
    let mut refused_after = None;
    for n in 0..3_000_u32 {
        if ask_with_tool(&node, &format!("10.{}.{}.7", n / 200, n % 200)) == 403 {
            refused_after = Some(n);
            break;
        }
    }
    println!("refused after {} requests", refused_after.expect("the flood is refused"));
    for n in 0..100 {
        assert_eq!(ask_with_tool(&node, &format!("10.99.{n}.7")), 403);
        assert_eq!(node.get_from(&format!("192.0.2.{}", n % 21), "/").status, 200);
    }
    assert_eq!(node.get_from("10.99.1.7", "/").status, 200, "others at the same address");
    let orders = about_software(&node);
    assert!(orders.len() == 1 && orders[0]["kind"] == "ban", "{orders:?}");
    let status = node.cli_json(&["status"])["learning"]["events"].as_u64().unwrap();
    until("all was learned from", || {
        node.cli_json(&["status"])["learning"]["events"].as_u64().unwrap() >= status
    });
    // Nothing comes for a minute.
    set(6 * 110 + 75);
    until("the order is gone", || about_software(&node).is_empty());
    assert_eq!(ask_with_tool(&node, "10.99.1.7"), 200);
}
