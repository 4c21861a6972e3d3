//! The command line: settings files, checks, reload, and errors that say what to do.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;

/// Writes a settings file and a policy for this upstream; returns the settings' path.
pub(crate) fn write_config(folder: &Path, upstream: &str, policy: &str) -> std::path::PathBuf {
    let settings = folder.join("phalanx.toml");
    let state = folder.join("state");
    let text = format!(
        "policy = \"policy.toml\"\n[node]\nname = \"a\"\nstate = {state:?}\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n"
    );
    fs::write(&settings, text).unwrap();
    fs::write(folder.join("policy.toml"), policy.replace("UPSTREAM", upstream)).unwrap();
    settings
}

const POLICY: &str = "version = 1\n[[apps]]\nname = \"shop\"\nupstream = \"UPSTREAM\"\n";

pub(crate) fn run(settings: &Path) -> Node {
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(settings);
    Node::start(command)
}

#[test]
fn run_serves_what_the_files_say() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let node = run(&write_config(folder.path(), &app.url, POLICY));
    assert_eq!(node.get("/").status, 200);
    assert_eq!(node.get(&attack(1)).status, 403);
}

#[test]
fn check_reports_every_fault_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let policy =
        "version = 1\n[[apps]]\nname = \"shop\"\nupstrem = \"http://127.0.0.1:1\"\nmode = \"blok\"\n";
    let settings = write_config(folder.path(), "", policy);
    fs::write(&settings, "policy = \"policy.toml\"\nwokers = 3\n[listen]\naddress = [\"nowhere\"]\n")
        .unwrap();
    let output = phalanx(&["check", "-c"]).arg(&settings).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for place in ["phalanx.toml:2", "phalanx.toml:4", "policy.toml:4", "policy.toml:5"] {
        assert!(told.contains(place), "{place} in:\n{told}");
    }
}

#[test]
fn check_accepts_a_good_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let settings = write_config(folder.path(), "http://127.0.0.1:9", POLICY);
    let output = phalanx(&["check", "-c"]).arg(&settings).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_unreadable_rule_file_stops_the_start_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.conf"),
        "# first\nSecRule ARGS \"@rx a\" \"id:1,phase:2,deny,t:lowercas\"\n",
    )
    .unwrap();
    let rules = folder.path().to_str().unwrap();
    let state = folder.path().join("state");
    let mut command =
        phalanx(&["up", "--to", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let output = command.args(["--rules", rules, "--state"]).arg(state).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("a.conf:2") && told.contains("lowercas"), "{told}");
}

#[test]
fn reload_swaps_the_policy_and_drops_nothing() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let settings = write_config(folder.path(), &app.url, POLICY);
    let node = run(&settings);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(node.get("/").status, 200);
                count += 1;
            }
            count
        });
        let policy = format!("{POLICY}mode = \"observe\"\n").replace("UPSTREAM", &app.url);
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        node.signal("HUP");
        until("the new policy is live", || node.get(&attack(1)).status == 200);
        stop.store(true, Ordering::SeqCst);
        assert!(load.join().unwrap() > 0);
    });

    // A policy that does not parse changes nothing.
    fs::write(folder.path().join("policy.toml"), "version = ").unwrap();
    let refused = node.cli(&["reload"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("policy.toml:1"), "{refused:?}");
    assert_eq!(node.get("/").status, 200);
}

#[test]
fn commands_say_what_to_do_when_no_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let output = phalanx(&["status", "--state"]).arg(folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains(folder.path().to_str().unwrap()), "{told}");
}

#[test]
fn strangers_text_cannot_steer_the_terminal() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let fields = [("User-Agent", "\u{1b}]0;owned\u{7}\u{202e}")];
    let reply = node.get_as(&format!("{}%1b%5b2J", attack(1)), &fields);
    assert!(reply.status == 403 || reply.status == 400);
    let id = reply.id().to_owned();
    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    for command in [vec!["explain", &id], vec!["events"]] {
        let shown = node.cli(&command).stdout;
        assert!(!shown.contains(&0x1b) && !shown.contains(&0x07), "{command:?}");
        assert!(!String::from_utf8_lossy(&shown).contains('\u{202e}'), "{command:?}");
    }
}
