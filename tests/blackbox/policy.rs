//! The fleet's policy: pushed once, in force everywhere, tried by some first, and never lower than before. A real nats-server.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

fn member<'a>(nats: &'a str, site: &'a str, node: &'a str) -> Vec<&'a str> {
    vec!["--trust-forwarded", "127.0.0.1/32", "--fleet", nats, "--site", site, "--node", node]
}

fn see_each_other(nodes: &[&Node]) {
    for node in nodes {
        until("all members are seen", || {
            let status = node.cli_json(&["status"]);
            let members = status["fleet"]["members"].as_array().unwrap();
            members.iter().filter(|m| m["online"] == true).count() == nodes.len()
        });
    }
}

/// A policy for the app with rules of its own, and a word that these refuse.
pub(crate) fn write_policy(folder: &Path, app: &App, word: &str) -> String {
    std::fs::create_dir_all(folder.join("rules")).unwrap();
    let rule = format!("SecRule ARGS:q \"@streq {word}\" \"id:1,phase:2,deny\"\n");
    std::fs::write(folder.join("rules/own.conf"), rule).unwrap();
    let policy = format!(
        "[[apps]]\nname = \"shop\"\nupstream = \"{}\"\nrules = [\"rules\"]\ntrust_forwarded = [\"127.0.0.1/32\"]\n",
        app.url
    );
    let file = folder.join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    file.to_str().unwrap().to_owned()
}

#[track_caller]
fn done(node: &Node, args: &[&str]) -> Value {
    let output = node.cli(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(node: &Node, args: &[&str]) -> String {
    let output = node.cli(args);
    assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What each node runs, as this one sees it.
fn versions(node: &Node) -> Vec<u64> {
    let policy = done(node, &["policy", "status"]);
    let nodes = policy["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["policy"]["version"].as_u64().unwrap_or_default()).collect()
}

#[test]
fn a_pushed_policy_is_in_force_everywhere_and_survives_everything() {
    let Some(mut nats) = Nats::start() else { return };
    let (app, url) = (App::start(), nats.url());
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let sites = ["fra", "syd", "iad"];
    let start = |n: usize| Node::up_in(folders[n].path(), &app.url, &member(&url, sites[n], "a"));
    let mut nodes = vec![start(0), start(1), start(2)];
    see_each_other(&nodes.iter().collect::<Vec<_>>());
    let file = write_policy(folders[3].path(), &app, "first");

    let pushed = done(&nodes[0], &["policy", "push", &file, "--reason", "the beginning"]);
    let started = Instant::now();
    assert_eq!((&pushed["version"], &pushed["home"]), (&1.into(), &"fra".into()));
    for node in &nodes {
        until("it is in force", || node.get("/?q=first").status == 403);
        until("all see that all run it", || versions(node) == [1, 1, 1]);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(nodes[2].get("/?q=second").status, 200);
    let told = refused(&nodes[1], &["reload"]);
    assert!(told.contains("the fleet's policy bundle, version 1, is in force"), "{told}");

    // Whoever looked away is told.
    let second = write_policy(folders[3].path(), &app, "second");
    let told = refused(&nodes[1], &["policy", "push", &second, "--expect", "7", "--reason", "a test"]);
    assert!(told.contains("the newest policy is version 1, not 7"), "{told}");
    // Of several at once, one is first and the others are told.
    let outcomes: Vec<bool> = std::thread::scope(|scope| {
        let words = ["policy", "push", &second, "--expect", "1", "--reason", "a test"];
        let push = |node| scope.spawn(move || Node::cli(node, &words));
        let pushing: Vec<_> = nodes.iter().map(push).collect();
        let outputs = pushing.into_iter().map(|push| push.join().unwrap());
        let told = |output: std::process::Output| {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            let clear =
                ["changed the policy", "was changed meanwhile", "not 1;"].iter().any(|t| error.contains(t));
            assert!(output.status.success() || clear, "{error}");
            output.status.success()
        };
        outputs.map(told).collect()
    });
    assert_eq!(outcomes.iter().filter(|first| **first).count(), 1, "{outcomes:?}");
    for node in &nodes {
        until("version 2 is in force", || node.get("/?q=second").status == 403);
        assert_eq!(node.get("/?q=first").status, 200);
    }

    // A node that was away gets it when it is back.
    nodes.pop().unwrap().stop();
    let third = write_policy(folders[3].path(), &app, "third");
    assert_eq!(done(&nodes[1], &["policy", "push", &third, "--reason", "a test"])["version"], 3);
    nodes.push(start(2));
    until("it has caught up", || nodes[2].get("/?q=third").status == 403);

    // A faulty one is refused where it is pushed.
    std::fs::write(folders[3].path().join("rules/own.conf"), "SecRule ARGS \"@rx a(\" \"id:1,deny\"\n")
        .unwrap();
    let told = refused(&nodes[0], &["policy", "push", &third, "--reason", "a test"]);
    assert!(told.contains("rules/own.conf:1:"), "{told}");
    std::fs::write(folders[3].path().join("rules/own.conf"), "SecAction \"id:1,phase:1,deny\"\n").unwrap();
    let told = refused(&nodes[0], &["policy", "push", &third, "--reason", "a test"]);
    assert!(told.contains("refuse every request"), "{told}");

    // Back to an earlier content, under a higher version.
    let back = done(&nodes[0], &["policy", "rollback", "--to", "1", "--reason", "a test"]);
    assert_eq!(back["version"], 4);
    for node in &nodes {
        until("the first content is in force", || node.get("/?q=first").status == 403);
    }
    until("all run version 4", || versions(&nodes[0]) == [4, 4, 4]);

    // The home is lost for good: another site goes on, and nothing of the first counts any more.
    let moved = done(&nodes[1], &["policy", "move-home", "--site", "syd"]);
    assert_eq!((&moved["home"], &moved["epoch"], &moved["version"]), (&"syd".into(), &2.into(), &5.into()));
    until("all run version 5", || versions(&nodes[0]) == [5, 5, 5]);

    // Without anybody it runs what it ran.
    nats.stop();
    nodes.pop().unwrap().kill();
    nodes.push(start(2));
    assert_eq!(nodes[2].get("/?q=first").status, 403, "the last known good, from its own disk");
    let status = nodes[2].cli_json(&["status"]);
    assert_eq!((&status["plan"]["version"], &status["fleet"]["connected"]), (&5.into(), &false.into()));
    nats.restart();
    let text = String::from_utf8(nodes[0].cli(&["policy", "status"]).stdout).unwrap();
    assert!(text.contains("home       site syd, epoch 2"), "{text}");
}

#[test]
fn a_canary_is_judged_by_its_clients_and_not_by_a_flood() {
    let Some(nats) = Nats::start() else { return };
    let (app, url) = (App::start(), nats.url());
    let up = |node| Node::up(&app.url, &member(&url, "fra", node));
    let nodes = [up("a"), up("b"), up("c")];
    see_each_other(&nodes.iter().collect::<Vec<_>>());
    let folder = tempfile::tempdir().unwrap();
    let file = write_policy(folder.path(), &app, "first");
    done(&nodes[0], &["policy", "push", &file, "--reason", "a test"]);
    until("all run it", || versions(&nodes[0]) == [1, 1, 1]);

    let clients: Vec<String> = (1..=20).map(|n| format!("198.51.100.{n}")).collect();
    let visit = |path: &str| {
        for (client, node) in clients.iter().flat_map(|client| nodes.iter().map(move |node| (client, node))) {
            node.get_from(client, path);
        }
    };
    visit("/?q=ordinary");
    let trial_of = |node: &Node| done(node, &["policy", "status"])["trial"].clone();

    // It refuses what ordinary people ask for.
    let bad = write_policy(folder.path(), &app, "ordinary");
    let pushed = done(
        &nodes[0],
        &["policy", "push", &bad, "--canary", "fra/b", "--bake", "10m", "--reason", "a test"],
    );
    assert_eq!((&pushed["trial"]["version"], &pushed["trial"]["stage"]), (&2.into(), &"node fra/b".into()));
    until("the canary runs it", || versions(&nodes[1])[0] == 2);
    assert_eq!(nodes[2].get_from(&clients[0], "/?q=ordinary").status, 200, "the others do not");
    let told = refused(&nodes[0], &["policy", "push", &file, "--reason", "a test"]);
    assert!(told.contains("version 2 is on trial at node fra/b"), "{told}");
    let started = Instant::now();
    visit("/?q=ordinary");
    until("it is rolled back", || trial_of(&nodes[0]).is_null());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    until("all run the old content", || versions(&nodes[0]) == [3, 3, 3]);
    assert_eq!(nodes[1].get_from(&clients[0], "/?q=ordinary").status, 200);
    let note = done(&nodes[0], &["policy", "status"])["note"].as_str().unwrap().to_owned();
    assert!(
        note.contains("would not have been by the version before")
            && note.contains("version 3 has the content of version 1"),
        "{note}"
    );

    // An attacker with many addresses, all of them served well before, floods the canary with what both versions refuse.
    let harmless = write_policy(folder.path(), &app, "first");
    let more = "SecRule ARGS:q \"@streq first\" \"id:1,phase:2,deny\"\nSecRule ARGS:q \"@streq more\" \"id:2,phase:2,deny\"\n";
    std::fs::write(folder.path().join("rules/own.conf"), more).unwrap();
    done(
        &nodes[0],
        &["policy", "push", &harmless, "--canary", "fra/b", "--bake", "3s", "--reason", "a test"],
    );
    until("the canary runs it", || versions(&nodes[1])[0] == 4);
    for _ in 0..10 {
        for client in &clients {
            assert_eq!(nodes[1].get_from(client, "/?q=first").status, 403);
        }
    }
    until("it is promoted all the same", || trial_of(&nodes[0]).is_null());
    until("all run it", || versions(&nodes[0]) == [4, 4, 4]);
    for node in &nodes {
        until("everywhere", || node.get("/?q=more").status == 403);
    }
}
