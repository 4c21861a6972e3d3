//! Playbooks: those that are shipped are sound, go out as CACAO and come back; a node runs them, each step once, whoever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use serde_json::Value;

use crate::support::*;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs/playbooks").join(name);
    path.display().to_string()
}

fn said(args: &[&str]) -> (bool, String, String) {
    let output = phalanx(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn playbooks_are_checked_and_carried_to_cacao_and_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["stuffing", "scraping", "flood", "exploit-attempt", "leaked-session", "critical-cve"] {
        let file = shipped(&format!("{name}.toml"));
        let (is_well, told, faults) = said(&["playbook", "check", &file]);
        assert!(is_well && told.starts_with(&format!("{name} version 1: ")), "{told}{faults}");
        let (is_well, document, faults) = said(&["playbook", "export", &file]);
        assert!(is_well && document.contains("\"spec_version\": \"cacao-2.0\""), "{document}{faults}");
        let json = folder.path().join("playbook.json");
        std::fs::write(&json, document).unwrap();
        let (is_well, text, faults) = said(&["playbook", "import", json.to_str().unwrap()]);
        assert!(is_well && faults.is_empty(), "{faults}");
        let back = folder.path().join("back.toml");
        std::fs::write(&back, text).unwrap();
        assert_eq!(said(&["playbook", "check", back.to_str().unwrap()]).1, told);
    }
}

#[test]
fn what_is_wrong_with_a_playbook_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    let text = "name = \"p\"\n[trigger]\ndetectors = [\"scaning\"]\n[[steps]]\nid = \"a\"\ndo = \"wait\"\nfor = \"5s\"\n";
    std::fs::write(&file, text).unwrap();
    let (is_well, _, faults) = said(&["playbook", "check", file.to_str().unwrap()]);
    let expected = "p.toml:3: there is no detector `scaning`\n  help: did you mean `scanning`?";
    assert!(!is_well && faults.contains(expected), "{faults}");
    let foreign = folder.path().join("f.json");
    std::fs::write(&foreign, "{\"type\":\"playbook\",\"spec_version\":\"1.0\"}").unwrap();
    let (is_well, told, faults) = said(&["playbook", "import", foreign.to_str().unwrap()]);
    assert!(!is_well && told.is_empty() && faults.contains("it is no playbook of cacao-2.0"), "{faults}");
}

const SECRET: &str = "a secret of some length";

/// A receiver of webhooks: what came, by its key, each with its signature verified.
struct Receiver {
    port: u16,
    came: Arc<Mutex<Vec<(String, Value)>>>,
    /// Nothing is answered while this stands: who tells waits.
    holds: Arc<AtomicBool>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (came, holds) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(false)));
        let (told, held) = (Arc::clone(&came), Arc::clone(&holds));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, held) = (Arc::clone(&told), Arc::clone(&held));
                std::thread::spawn(move || receive(stream, &told, &held));
            }
        });
        Self { port, came, holds }
    }

    /// Steps that were told, in the order in which they came, without the run's name.
    fn steps(&self) -> Vec<String> {
        let came = self.came.lock().unwrap();
        came.iter().map(|(key, _)| key.trim_matches('"').rsplit('/').next().unwrap().to_owned()).collect()
    }

    fn keys(&self) -> BTreeSet<String> {
        self.came.lock().unwrap().iter().map(|(key, _)| key.clone()).collect()
    }

    fn settings(&self) -> String {
        let of = |name: &str| {
            format!(
                "[webhooks.{name}]\nurl = \"http://127.0.0.1:{}/{name}\"\nsecret_file = \"hook.secret\"\nallow_private = true\n",
                self.port
            )
        };
        of("oncall") + &of("tickets")
    }
}

fn receive(mut stream: TcpStream, told: &Mutex<Vec<(String, Value)>>, held: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut fields = BTreeMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        if let Some((name, value)) = line.trim().split_once(": ") {
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let length = fields.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    // Whoever is killed while it writes has told nothing.
    if reader.read_exact(&mut body).is_err() || length == 0 {
        return;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = [fields["x-phalanx-timestamp"].as_bytes(), b".", &body].concat();
    let hex: String = hmac::sign(&key, &signed).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fields["x-phalanx-signature"], format!("v1={hex}"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(fields["idempotency-key"], format!("\"{}\"", body["key"].as_str().unwrap()));
    told.lock().unwrap().push((fields["idempotency-key"].clone(), body));
    while held.load(Ordering::SeqCst) {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

/// An app at which every login fails.
fn no_logins() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap_or(0) > 0 {
                    if line == "\r\n" {
                        let reply = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
                        if reader.get_mut().write_all(reply).is_err() {
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

/// As the one that is shipped, for addresses, faster, and with a question.
const STUFFING: &str = r#"
name = "stuffing"
version = 2
[trigger]
detectors = ["credential-stuffing"]
[[steps]]
id = "challenge"
do = "countermeasure"
measure = "challenge"
scope = "address"
for = "30m"
[[steps]]
id = "tell"
do = "notify"
to = "oncall"
text = "{incident} ({gravity}): {summary}. Seen by {nodes}."
[[steps]]
id = "pause"
do = "wait"
for = "1s"
[[steps]]
id = "sure"
do = "ask"
question = "End the sessions?"
within = "1h"
[[steps]]
id = "over"
do = "verify"
quiet = "1s"
within = "10m"
[[steps]]
id = "accounts"
do = "ticket"
to = "tickets"
text = "{incident}: end the sessions"
"#;

/// Settings and policy of a node in a folder of its own.
fn prepare(folder: &Path, site: &str, receiver: &Receiver, (mode, playbooks): (&str, &str), more: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("stuffing.toml"), STUFFING).unwrap();
    let secret = folder.join("hook.secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let policy = format!(
        "[detection]\nmode = \"{mode}\"\n[playbooks]\n{playbooks}\n[[apps]]\nname = \"shop\"\nupstream = \"{}\"\ntrust_forwarded = [\"127.0.0.1\"]\n",
        no_logins()
    );
    fs::write(folder.join("policy.toml"), policy).unwrap();
    let settings = format!(
        "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[node]\nstate = \"state\"\nsite = \"{site}\"\nname = \"a\"\n{}{more}",
        receiver.settings()
    );
    fs::write(folder.join("phalanx.toml"), settings).unwrap();
}

fn run(folder: &Path) -> Node {
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

const OWN: &str = "files = [\"stuffing.toml\"]";
const ATTACKER: &str = "192.0.2.66";

/// One address tries stolen passwords.
fn stuff(node: &Node) {
    for n in 0..12 {
        let fields = [("X-Forwarded-For", ATTACKER), ("Content-Type", "application/x-www-form-urlencoded")];
        let body = format!("username=user{n}&password=secret{n}");
        request(node.listen, "POST", "/login", &fields, body.as_bytes());
    }
}

/// The incident that a node knows of, once it has one.
fn incident(node: &Node) -> String {
    let mut id = String::new();
    until("there is an incident", || {
        let all = node.cli_json(&["incidents"]);
        id = all[0]["id"].as_str().unwrap_or_default().to_owned();
        !id.is_empty()
    });
    id
}

/// The steps of the run for an incident that have ended, as a node shows them, each with how; and the run's state.
fn steps(node: &Node, id: &str) -> (Vec<String>, String) {
    let shown = node.cli_json(&["incident", "show", id]);
    let run = &shown["playbooks"][0];
    let steps = run["steps"].as_array().cloned().unwrap_or_default();
    let ended = steps.iter().filter(|step| step["ended_at_ms"].is_u64());
    let word =
        |step: &Value| format!("{} {}", step["step"].as_str().unwrap(), step["state"].as_str().unwrap());
    (ended.map(word).collect(), run["state"].as_str().unwrap_or_default().to_owned())
}

fn asks(node: &Node, id: &str) -> bool {
    let shown = node.cli_json(&["incident", "show", id]);
    shown["playbooks"][0]["asks"]["step"] == "sure"
}

const DONE: [&str; 6] =
    ["challenge done", "tell done", "pause done", "sure done", "over done", "accounts done"];

#[test]
fn an_attack_starts_its_playbook_whose_steps_are_each_done_once_answered_and_undone() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), "fra", &receiver, ("act", OWN), "");
    let node = run(folder.path());
    let listed = node.cli_json(&["playbook", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["version"]), (&"stuffing".into(), &2.into()));
    stuff(&node);
    let id = incident(&node);
    until("it asks", || asks(&node, &id));
    assert_eq!(receiver.steps(), ["tell"]);
    let text = String::from_utf8(node.cli(&["incident", "show", &id]).stdout).unwrap();
    for part in [
        "playbook   stuffing version 2, running",
        "challenge (countermeasure) done: challenge of 192.0.2.66",
        "tell (notify) done: told oncall",
        "asks until ",
        &format!("`phalanx incident answer {id} sure yes|no`; without an answer no"),
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let kinds: Vec<Value> = node.cli_json(&["decision", "list"]).as_array().unwrap().clone();
    let by_playbook =
        |one: &&Value| one["reason"].as_str().unwrap().contains("playbook stuffing-2, step challenge");
    assert_eq!(kinds.iter().filter(by_playbook).count(), 1, "{kinds:?}");
    let wrong = node.cli(&["incident", "answer", &id, "other", "yes"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("sure asks"), "{wrong:?}");
    let twice = node.cli(&["playbook", "run", "stuffing", "--incident", &id]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("ran for this incident already"), "{twice:?}");

    assert!(node.cli(&["incident", "answer", &id, "sure", "yes"]).status.success());
    until("it is completed", || steps(&node, &id).1 == "completed");
    assert_eq!(steps(&node, &id).0, DONE);
    assert_eq!(receiver.steps(), ["tell", "accounts"]);
    let came = receiver.came.lock().unwrap().clone();
    assert_eq!(came[0].1["playbook"], "stuffing-2");
    assert!(came[0].1["text"].as_str().unwrap().starts_with(&format!("{id} (")), "{came:?}");

    assert!(node.cli(&["incident", "undo", &id]).status.success());
    until("nothing is ordered any more", || node.banned().is_empty());
}

#[test]
fn a_node_killed_at_any_step_goes_on_and_does_none_twice() {
    // When it is killed: before the answer to what it tells has come, in a pause, while a person is asked, while it watches.
    for moment in ["tell", "pause", "sure", "over"] {
        let receiver = Receiver::start();
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), "fra", &receiver, ("act", OWN), "");
        let node = run(folder.path());
        receiver.holds.store(moment == "tell", Ordering::SeqCst);
        stuff(&node);
        let id = incident(&node);
        match moment {
            "tell" => until("it is being told", || receiver.steps() == ["tell"]),
            "pause" => until("it pauses", || steps(&node, &id).0.len() == 2),
            _ => until("it asks", || asks(&node, &id)),
        }
        if moment == "over" {
            assert!(node.cli(&["incident", "answer", &id, "sure", "yes"]).status.success());
        }
        node.kill();
        receiver.holds.store(false, Ordering::SeqCst);

        let node = run(folder.path());
        // Its own journal knows the run, whatever it remembers of the incident.
        let journal = || fs::read_to_string(folder.path().join("state/playbooks.journal")).unwrap();
        let ended = |step: &str| {
            let is_it = |line: &&str| {
                let entry: Value = serde_json::from_str(line).unwrap();
                entry["entry"] == "ended" && entry["step"] == step
            };
            journal().lines().filter(is_it).count()
        };
        if moment != "over" {
            until("it asks", || ended("pause") == 1);
            until("the answer is heard", || {
                node.cli(&["incident", "answer", &id, "sure", "yes"]).status.success()
            });
        }
        until("it is completed", || journal().contains("\"completed\""));
        for step in DONE {
            assert_eq!(
                ended(step.split(' ').next().unwrap()),
                1,
                "killed at {moment}: {step}\n{}",
                journal()
            );
        }
        let began = journal().lines().filter(|line| line.contains("\"begun\"")).count();
        assert_eq!(began, 1, "{}", journal());
        // Who was being told when it died is told once more, under the same key.
        let expected: &[&str] =
            if moment == "tell" { &["tell", "tell", "accounts"] } else { &["tell", "accounts"] };
        assert_eq!(receiver.steps(), expected, "killed at {moment}");
        assert_eq!(receiver.keys().len(), 2);
        let list = node.cli_json(&["decision", "list"]);
        let by_playbook =
            |one: &&Value| one["reason"].as_str().unwrap().contains("playbook stuffing-2, step challenge");
        assert_eq!(list.as_array().unwrap().iter().filter(by_playbook).count(), 1, "{list}");
        node.kill();
    }
}

#[test]
fn another_node_goes_on_when_the_one_that_runs_a_playbook_is_killed() {
    let Some(nats) = Nats::start() else { return };
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let sites = ["fra", "iad", "syd"];
    let more = format!("[fleet]\nurl = \"{}\"\n", nats.url());
    let mut nodes: Vec<Node> = sites
        .iter()
        .map(|site| {
            let own = folder.path().join(site);
            prepare(&own, site, &receiver, ("act", OWN), &more);
            run(&own)
        })
        .collect();
    let named_by = |node: &Node| node.cli_json(&["status"])["learning"]["named_by"].clone();
    for node in &nodes {
        until("all members are heard", || {
            let status = node.cli_json(&["status"]);
            let online = |member: &Value| member["online"] == true;
            status["fleet"]["members"].as_array().is_some_and(|m| m.len() == 3 && m.iter().all(online))
        });
        until("somebody names incidents", || named_by(node).is_string());
    }
    stuff(&nodes[0]);
    let id = incident(&nodes[0]);
    for node in &nodes {
        until("all know that it asks", || asks(node, &id));
    }
    let names = named_by(&nodes[0]);
    let place = sites.iter().position(|site| names == format!("{site}/a")).unwrap();
    nodes.remove(place).kill();
    // Any node takes the answer, also before another has taken over.
    let answered = nodes[0].cli(&["incident", "answer", &id, "sure", "yes"]);
    assert!(answered.status.success(), "{answered:?}");
    for node in &nodes {
        until("another goes on", || steps(node, &id).1 == "completed");
        assert_eq!(steps(node, &id).0, DONE);
    }
    assert_eq!(receiver.steps(), ["tell", "accounts"]);
    assert!(nodes[1].cli(&["incident", "undo", &id]).status.success());
    for node in &nodes {
        until("nothing is ordered any more", || node.banned().is_empty());
    }
}

#[test]
fn an_undone_incident_ends_its_runs_and_takes_back_what_they_ordered() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), "fra", &receiver, ("act", OWN), "");
    let node = run(folder.path());
    stuff(&node);
    let id = incident(&node);
    until("it asks", || asks(&node, &id));
    assert!(!node.banned().is_empty());
    assert!(node.cli(&["incident", "undo", &id]).status.success());
    until("its run is over", || steps(&node, &id).1 == "reverted");
    assert!(node.banned().is_empty());
    assert_eq!(receiver.steps(), ["tell"]);
    let late = node.cli(&["incident", "answer", &id, "sure", "yes"]);
    assert!(String::from_utf8_lossy(&late.stderr).contains("asks anything now"), "{late:?}");
}

#[test]
fn where_detection_observes_nothing_is_ordered_and_receivers_are_told() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let notify = "[notify]\nto = [\"tickets\"]\nfrom = \"low\"\nevery = \"1s\"\n";
    let both = "files = [\"stuffing.toml\"]\nshipped = [\"critical-cve\"]";
    prepare(folder.path(), "fra", &receiver, ("observe", both), notify);
    let node = run(folder.path());
    stuff(&node);
    let id = incident(&node);
    until("it asks", || asks(&node, &id));
    let text = String::from_utf8(node.cli(&["incident", "show", &id]).stdout).unwrap();
    let would =
        "challenge (countermeasure) skipped: detection only observes: would order challenge of 192.0.2.66";
    assert!(text.contains(would), "{text}");
    assert!(node.banned().is_empty());
    // What an operator starts.
    assert!(node.cli(&["playbook", "run", "critical-cve", "--incident", &id]).status.success());
    until("it runs", || node.cli_json(&["playbook", "list"])[0]["running"] == 1);
    // Beside playbooks: that there is an incident, and later that it is closed.
    let notices = |change: &str| {
        let came = receiver.came.lock().unwrap();
        let told = came.iter().filter(|(_, body)| body["kind"] == "incidents");
        told.flat_map(|(_, body)| body["changes"].as_array().unwrap().clone())
            .filter(|one| one["change"] == change && one["incident"] == id.as_str())
            .count()
    };
    until("it is told", || notices("opened") == 1);
    assert!(node.cli(&["incident", "close", &id]).status.success());
    until("that it is closed is told", || notices("closed") == 1);
    assert_eq!(notices("opened"), 1);
}

#[test]
fn mistakes_in_settings_and_policy_are_told_with_file_line_and_help() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let check = |policy: &str, settings: &str, expected: &[&str]| {
        prepare(folder.path(), "fra", &receiver, ("act", policy), settings);
        let file = folder.path().join("phalanx.toml");
        let (_, told, faults) = said(&["check", "-c", file.to_str().unwrap()]);
        for part in expected {
            assert!(format!("{told}{faults}").contains(part), "{part} in: {told}{faults}");
        }
    };
    check(
        "shipped = [\"stufing\"]",
        "",
        &["policy.toml:4: no playbook `stufing`", "did you mean `stuffing`?"],
    );
    check("files = [\"none.toml\"]", "", &["none.toml"]);
    check(
        OWN,
        "[webhooks.x]\nurl = \"http://hooks.example/\"\nsecret_file = \"none.secret\"\n[notify]\nto = [\"y\"]\n",
        &["none.secret does not exist", "there is no receiver `y`", "add `[webhooks.y]`"],
    );
    check(
        OWN,
        "[webhooks.x]\nurl = \"http://hooks.example/\"\nsecret_file = \"hook.secret\"\n",
        &["would be told in the clear", "write `allow_private = true`"],
    );
    fs::write(folder.path().join("stuffing.toml"), STUFFING.replace("oncall", "nobody")).unwrap();
    let file = folder.path().join("phalanx.toml");
    let (_, told, faults) = said(&["check", "-c", file.to_str().unwrap()]);
    assert!(format!("{told}{faults}").contains("add `[webhooks.nobody]`"), "{told}{faults}");
}
