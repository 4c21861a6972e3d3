//! Nodes with wrong clocks, by libfaketime: each is named, and what any of them decides ends on time on all, by the true time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;

/// How early or late a decision may end. A clock is corrected to within what a heartbeat travels; the rest is the machine's.
const TOLERANCE: Duration = Duration::from_millis(1_500);

pub(crate) fn library() -> Option<PathBuf> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found =
        folders.iter().map(|folder| Path::new(folder).join("libfaketimeMT.so.1")).find(|file| file.exists());
    if found.is_none() {
        assert!(std::env::var("CI").is_err(), "CI has no libfaketime");
        eprintln!("skipped: Debian's faketime not installed");
    }
    found
}

/// A node of the fleet, whose command is told what time it is.
fn start(folder: &Path, app: &App, nats: &str, site: &str, clock: impl FnOnce(&mut Command)) -> Node {
    let mut command =
        phalanx(&["up", "--to", &app.url, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json"]);
    command.args([
        "--trust-forwarded",
        "127.0.0.1/32",
        "--fleet",
        nats,
        "--site",
        site,
        "--node",
        "a",
        "--state",
    ]);
    command.arg(folder.join(site));
    clock(&mut command);
    Node::start(command)
}

pub(crate) fn faked(library: &Path) -> impl Fn(&mut Command) {
    let library = library.to_owned();
    move |command| {
        // The time that passes is as it is; only the wall clock is wrong.
        command.env("LD_PRELOAD", &library).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

fn degraded(node: &Node) -> String {
    node.cli_json(&["status"])["fleet"]["degraded"].to_string()
}

#[track_caller]
fn until_named(node: &Node, words: &[&str]) {
    until(&format!("a status says {words:?}"), || {
        let degraded = degraded(node);
        words.iter().all(|word| degraded.contains(word))
    });
}

/// Bans a client by hand for some seconds. When it was ordered, by the true time.
fn ban(node: &Node, client: &str, seconds: u64) -> Instant {
    let ordered = Instant::now();
    let length = format!("{seconds}s");
    let done = node.cli(&["decision", "add", "--ip", client, "--for", &length, "--reason", "test"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    ordered
}

/// Every node refuses the client until the ban's end, and no longer. Returns how late each was; negative for too early.
fn ends_on_time(nodes: &[&Node], client: &str, ordered: Instant, seconds: u64) -> Vec<f64> {
    for node in nodes {
        until("all refuse the client", || node.get_from(client, "/").status == 403);
    }
    let mut ended: Vec<Option<Instant>> = vec![None; nodes.len()];
    until("all let the client in again", || {
        for (node, ended) in nodes.iter().zip(&mut ended) {
            if ended.is_none() && node.get_from(client, "/").status == 200 {
                *ended = Some(Instant::now());
            }
        }
        ended.iter().all(Option::is_some)
    });
    let length = Duration::from_secs(seconds).as_secs_f64();
    ended.into_iter().flatten().map(|at| at.duration_since(ordered).as_secs_f64() - length).collect()
}

#[test]
fn of_three_nodes_one_is_fast_and_one_slow_and_all_bans_end_on_time_everywhere() {
    let (Some(nats), Some(library)) = (Nats::start(), library()) else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let url = nats.url();
    let with = |site: &str, offset: &str| {
        start(folder.path(), &app, &url, site, |command| {
            faked(&library)(command);
            command.env("FAKETIME", offset);
        })
    };
    let right = start(folder.path(), &app, &url, "fra", |_| {});
    let (fast, slow) = (with("syd", "+300"), with("iad", "-300"));
    until_named(
        &right,
        &["the clock of syd/a is 300 s ahead of the others", "the clock of iad/a is 300 s behind the others"],
    );
    until_named(
        &fast,
        &["this node's clock is 300 s ahead of", "the clock of iad/a is 300 s behind the others"],
    );
    until_named(
        &slow,
        &["this node's clock is 300 s behind", "the clock of syd/a is 300 s ahead of the others"],
    );
    assert!(!degraded(&right).contains("this node's clock"));

    let nodes = [&right, &fast, &slow];
    for (n, by) in nodes.iter().enumerate() {
        let client = format!("192.0.2.{}", n + 1);
        let ordered = ban(by, &client, 6);
        let late = ends_on_time(&nodes, &client, ordered, 6);
        println!(
            "a ban of 6 s by {} ended at fra, syd (+300 s), iad (-300 s), in s after its time: {late:.2?}",
            ["fra", "syd", "iad"][n]
        );
        assert!(late.iter().all(|late| late.abs() < TOLERANCE.as_secs_f64()), "{late:?}");
    }
}

#[test]
fn a_clock_that_jumps_while_the_node_runs_ends_nothing_early_and_nothing_late() {
    let (Some(nats), Some(library)) = (Nats::start(), library()) else { return };
    let (app, folder) = (App::start(), tempfile::tempdir().unwrap());
    let url = nats.url();
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0\n").unwrap();
    let jumping = start(folder.path(), &app, &url, "syd", |command| {
        faked(&library)(command);
        command.env("FAKETIME_TIMESTAMP_FILE", &offset).env("FAKETIME_CACHE_DURATION", "1");
        // The file that its clock is read from is none of a node's.
        command.args(["--sandbox", "off"]);
    });
    let fra = start(folder.path(), &app, &url, "fra", |_| {});
    let iad = start(folder.path(), &app, &url, "iad", |_| {});
    let nodes = [&jumping, &fra, &iad];
    for node in nodes {
        until("all members are online", || {
            let status = node.cli_json(&["status"]);
            let online = |member: &serde_json::Value| member["online"] == true;
            status["fleet"]["members"].as_array().is_some_and(|m| m.len() == 3 && m.iter().all(online))
        });
    }
    // Once it was compared with the others, a clock is trusted to go on; nodes compare each second.
    let now_ms = || jumping.cli_json(&["status"])["now_ms"].as_u64().unwrap();
    let online_ms = now_ms();
    until("the clocks were compared", || now_ms() > online_ms + 2_000);
    for (to, named) in [("+300\n", "300 s ahead of"), ("-300\n", "300 s behind"), ("+0\n", "")] {
        let (theirs, own) = (ban(&fra, "192.0.2.1", 8), ban(&jumping, "192.0.2.2", 8));
        for (node, client) in nodes.iter().flat_map(|node| [(node, "192.0.2.1"), (node, "192.0.2.2")]) {
            until("all refuse both", || node.get_from(client, "/").status == 403);
        }
        std::fs::write(&offset, to).unwrap();
        let watched = [("192.0.2.1", theirs), ("192.0.2.2", own)];
        let late = std::thread::scope(|scope| {
            let watch = watched
                .map(|(client, ordered)| scope.spawn(move || ends_on_time(&nodes, client, ordered, 8)));
            match named {
                "" => until("its clock is right again", || !degraded(&fra).contains("the clock of syd/a")),
                named => {
                    until_named(&fra, &[&format!("the clock of syd/a is {named}")]);
                    until_named(&jumping, &[&format!("this node's clock is {named}")]);
                }
            }
            watch.map(|watch| watch.join().unwrap()).concat()
        });
        println!("clock set to {}: bans of 8 s ended, in s after their time: {late:.2?}", to.trim());
        assert!(late.iter().all(|late| late.abs() < TOLERANCE.as_secs_f64()), "{late:?}");
    }
}
