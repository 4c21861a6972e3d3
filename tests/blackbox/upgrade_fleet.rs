//! A node of an enrolled fleet is followed by another process under load: the rest of the fleet, its clients and those that it bans notice nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_rustls::rustls::version;

use crate::acme::self_signed;
use crate::enrol::Fleet;
use crate::support::*;
use crate::tickets::{client, resumes};
use crate::upgrade::{Load, end_of, states};

/// Ends what took over, which is no child of ours.
struct Successor<'a>(&'a Path);

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        end_of(self.0);
    }
}

/// Has another process take over; how long it took until that one was there, which is longer than nobody spoke for the node.
fn upgrade(node: &Node) -> Duration {
    let process = || node.cli_json(&["status"])["process"]["id"].as_u64();
    let (before, began) = (process(), Instant::now());
    let output = node.cli(&["upgrade"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!(process(), before);
    began.elapsed()
}

/// How a node of the fleet is seen by another, for as long as the test runs, and how long that one took at most to say so.
fn watch_presence(
    by: &Node,
    name: &'static str,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<(BTreeSet<String>, Duration)> {
    let state = by.state.clone();
    std::thread::spawn(move || {
        let (mut seen, mut slowest) = (BTreeSet::new(), Duration::ZERO);
        while !stop.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let output = phalanx(&["status", "--json", "--state"]).arg(&state).output().unwrap();
            slowest = slowest.max(asked.elapsed());
            let status: Value = serde_json::from_slice(&output.stdout).unwrap();
            let members = status["fleet"]["members"].as_array().unwrap();
            let member = members.iter().find(|one| one["node"] == name);
            let told = member.map(|one| format!("online: {}, {}", one["online"], one["duty"]));
            seen.insert(told.unwrap_or_else(|| "absent".into()));
        }
        (seen, slowest)
    })
}

/// Asks all the time in the name of clients that are banned; how often, and what else than a refusal they got.
fn banned_ask(
    node: &Node,
    clients: &'static [&'static str],
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Vec<u16>> {
    let listen = node.listen;
    std::thread::spawn(move || {
        let mut others = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            for client in clients {
                let status = get(listen, "/", &[("X-Forwarded-For", client)]).status;
                if status != 403 {
                    others.push(status);
                }
            }
        }
        others
    })
}

fn access_log(state: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(state.join("record/access.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Decisions in the ledger, by what they are about, whose chain must hold.
fn decided(state: &Path, actor: &str) -> usize {
    let folder = state.join("record/ledger");
    phalanx_record::ledger::verify(&folder).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().filter(|line| line.contains(actor) && line.contains("\"decided\"")).count()
}

#[test]
fn a_fleet_and_those_it_bans_notice_nothing_of_an_upgrade() {
    if Command::new("openssl").arg("version").output().is_err() {
        return eprintln!("skipped: openssl not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    self_signed(folder.path(), "shop", "DNS:shop.test");
    let file = |ending: &str| folder.path().join(format!("shop.{ending}")).display().to_string();
    let tls = ["--tls-listen", "127.0.0.1:0", "--cert", &file("pem"), "--key", &file("key")];
    let Some(fleet) = Fleet::start_with(&tls) else { return };
    let states_of = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let edge = fleet.joins(states_of[0].path(), "fra", "e", &tls);
    let far = fleet.joins(states_of[1].path(), "syd", "s", &[]);
    let a = &fleet.a;
    let _successor = Successor(&a.state);
    let (at_a, at_e) = (a.tls_listen.unwrap(), edge.tls_listen.unwrap());
    until("sessions go on in the site", || {
        let client = client(folder.path(), &version::TLS13);
        !resumes(at_a, &client) && resumes(at_e, &client) && resumes(at_a, &client)
    });

    // One ban of another node's, one by an operator here, and one attacker that is a strike short of its own.
    for n in 0..3 {
        far.get_from("192.0.2.7", &attack(n));
    }
    let order = ["decision", "add", "--ip", "192.0.2.99", "--for", "1h", "--reason", "test"];
    assert!(a.cli(&order).status.success());
    for client in ["192.0.2.7", "192.0.2.99"] {
        for node in [a, &edge, &far] {
            until("a ban is in force everywhere", || node.get_from(client, "/").status == 403);
        }
    }
    for n in 0..2 {
        assert_eq!(a.get_from("192.0.2.50", &attack(n)).status, 403);
    }
    assert_eq!(a.get_from("192.0.2.50", "/").status, 200);

    let stop = Arc::new(AtomicBool::new(false));
    let seen = [&edge, &far].map(|by| watch_presence(by, "a", Arc::clone(&stop)));
    let refused = banned_ask(a, &["192.0.2.7", "192.0.2.99"], Arc::clone(&stop));
    let load = Load::start(a.listen, at_a);
    load.more(100);
    let session = client(folder.path(), &version::TLS13);
    assert!(!resumes(at_a, &session));
    let first = upgrade(a);
    load.more(100);
    assert!(resumes(at_a, &session), "a session goes on at the process that follows");
    assert!(resumes(at_e, &session) && resumes(at_a, &session), "and at the site's other node");
    until("strikes count on", || {
        a.get_from("192.0.2.50", &attack(7));
        a.get_from("192.0.2.50", "/").status == 403
    });
    for n in 0..3 {
        far.get_from("192.0.2.8", &attack(n));
    }
    until("what others decide is heard of", || a.get_from("192.0.2.8", "/").status == 403);
    let order = ["decision", "add", "--ip", "192.0.2.98", "--for", "1h", "--reason", "test"];
    until("operators are obeyed", || a.cli(&order).status.success());
    for node in [&edge, &far] {
        until("its word counts elsewhere", || node.get_from("192.0.2.98", "/").status == 403);
    }
    // Longer than a lease of the process before could last.
    let second = upgrade(a);
    load.more(200);
    until("keys of tickets are the site's for good", || {
        let client = client(folder.path(), &version::TLS13);
        !resumes(at_e, &client) && resumes(at_a, &client) && resumes(at_e, &session)
    });
    stop.store(true, Ordering::SeqCst);
    let served = load.end();
    assert_eq!(refused.join().unwrap(), [] as [u16; 0], "a ban had a gap");
    // Who is silent for so long is away, and was heard a heartbeat before nobody spoke for it: a machine on which an upgrade takes all of
    // the rest, or a mere question as long as a heartbeat, shows that of itself.
    let longest = first.max(second);
    for seen in seen {
        let (seen, slowest) = seen.join().unwrap();
        let flaps = seen != BTreeSet::from(["online: true, \"serving\"".to_owned()]);
        let is_slow = longest + HEARTBEAT > SILENCE || slowest > HEARTBEAT;
        assert!(!flaps || is_slow, "its presence flaps: {seen:?}, in {longest:?}");
    }
    println!("2 upgrades in a fleet, {longest:?} at most: 0 of {served} requests failed");

    // What ended at processes before is recorded by the last, once each.
    let count = |log: &[Value]| log.iter().filter(|line| line["target"] == "/some?page=1").count();
    until("every request is recorded", || count(&access_log(&a.state)) as u64 >= served);
    let log = access_log(&a.state);
    let ids: BTreeSet<_> = log.iter().map(|line| line["id"].to_string()).collect();
    assert_eq!((ids.len(), count(&log) as u64), (log.len(), served), "none twice");
    let expected = ["started", "handed over", "started", "handed over", "started"];
    assert_eq!(states(&a.state), expected);
    for actor in ["192.0.2.99", "192.0.2.98", "192.0.2.50"] {
        assert_eq!(decided(&a.state, actor), 1, "{actor}");
    }
}

/// How often a node is heard.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After how long it is away.
const SILENCE: Duration = Duration::from_millis(3_500);
