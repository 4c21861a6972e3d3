//! Requests over time, searched and told, over a restart: what a node counted, found and wrote into its ledger.

use crate::state::files;
use crate::support::*;

#[test]
fn requests_are_counted_found_and_told_over_a_restart() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::up_in(folder.path(), &app.url, &[]);
    for _ in 0..3 {
        assert_eq!(node.get("/plain").status, 200);
    }
    let refused = node.get(&attack(1));
    assert_eq!(refused.status, 403);
    let id = refused.id().to_owned();
    let totals = |node: &Node| node.cli_json(&["traffic", "--last", "1h"])["totals"].clone();
    until("four requests are counted", || totals(&node)["requests"] == 4);
    // Counted a moment before it ends, and written when it does.
    assert_eq!(node.get("/last").status, 200);
    node.stop();

    let node = Node::up_in(folder.path(), &app.url, &[]);
    let counted = totals(&node);
    assert_eq!(
        (&counted["requests"], &counted["refused"], &counted["dropped"]),
        (&5.into(), &1.into(), &0.into())
    );
    let told = String::from_utf8(node.cli(&["traffic", "--by", "class"]).stdout).unwrap();
    assert!(told.contains("5 requests: 1 refused") && told.contains("detection_high"), "{told}");
    let told = String::from_utf8(node.cli(&["traffic", "--by", "actor"]).stdout).unwrap();
    assert!(told.contains("127.0.0.1"), "{told}");

    for command in [&["traffic", "--app", "nope"][..], &["report", "--app", "nope"]] {
        let doubted = String::from_utf8(node.cli(command).stderr).unwrap();
        assert!(doubted.contains("no request for app `nope` is kept; did you mean one of `"), "{doubted}");
    }
    let known = node.cli_json(&["events"])[0]["app"].as_str().unwrap().to_owned();
    assert_eq!(String::from_utf8(node.cli(&["traffic", "--app", &known]).stderr).unwrap(), "");

    let found = |args: &[&str]| node.cli_json(&[&["events"], args].concat());
    let rule = found(&[])[0]["rule_ids"][0].to_string();
    for args in [
        &["--status", "4xx", "--method", "GET"][..],
        &["--text", "union"],
        &["--rule", &rule, "--since", "1h"],
    ] {
        assert_eq!(found(args)[0]["id"], id.as_str(), "{args:?}");
    }
    for args in [&["--status", "500"][..], &["--text", "nowhere"], &["--app", "other"], &["--until", "1h"]] {
        assert_eq!(found(args).as_array().map(Vec::len), Some(0), "{args:?}");
    }

    until("both starts are in the ledger", || {
        let audit = node.cli_json(&["audit", "--kind", "node"]);
        let words: Vec<_> =
            audit["entries"].as_array().unwrap().iter().map(|one| one["words"].clone()).collect();
        words == ["the node started", "the node stopped", "the node started"] && audit["chain"]["ok"] == true
    });
    let status = String::from_utf8(node.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("\nto do\n") && status.contains("Give people accounts of their own"), "{status}");
}

#[test]
fn a_ledger_that_was_changed_is_told() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::up_in(folder.path(), &app.url, &[]);
    until("the start is in the ledger", || node.cli_json(&["audit"])["chain"]["length"] == 1);
    let order = node.cli(&["decision", "add", "--ip", "192.0.2.9", "--for", "60s", "--reason", "loud"]);
    assert!(order.status.success());
    until("the order is in the ledger", || {
        node.cli_json(&["audit", "--kind", "operator_action"])["entries"][0]["by"] == "local socket"
    });
    let ledger =
        files(folder.path()).into_iter().find(|file| file.extension().is_some_and(|e| e == "jsonl")).unwrap();
    let text = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, text.replacen("started", "painted", 1)).unwrap();
    let told = node.cli(&["audit"]);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("the chain is BROKEN at ledger-") && told.contains("does not follow"), "{told}");
}
