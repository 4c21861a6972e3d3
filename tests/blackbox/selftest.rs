//! The node attacks itself: alarms when it is not refused, goes to no upstream, and gives others nothing.

use std::io::{BufReader, Write};
use std::path::Path;

use serde_json::Value;

use crate::support::*;
use crate::tls::certificate;

/// A rule set that knows none of the attacks.
const NARROW: &str = "SecRule ARGS:q \"@streq evil\" \"id:1,phase:2,deny\"\n";
/// One that takes what is harmless for an attack, too.
const WIDE: &str = "SecRule ARGS \"@rx .\" \"id:1,phase:2,deny\"\n";

const HTTP: &str = "[[listen.http]]\naddress = \"127.0.0.1:0\"\n";

fn write(folder: &Path, app: &App, more: &str) {
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\n{more}\n", app.url);
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
}

fn with_rules(folder: &Path, name: &str, rules: &str) -> String {
    std::fs::create_dir_all(folder.join(name)).unwrap();
    std::fs::write(folder.join(name).join("own.conf"), rules).unwrap();
    format!("rules = [\"{name}\"]")
}

fn run(folder: &Path, listeners: &str) -> Node {
    let settings = format!(
        "policy = \"policy.toml\"\n[listen]\nadmin = \"127.0.0.1:0\"\n{listeners}\n\
         [node]\nstate = \"state\"\n[selftest]\nevery = \"1s\"\n"
    );
    std::fs::write(folder.join("phalanx.toml"), settings).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    Node::start(command)
}

fn test(node: &Node) -> Value {
    let output = node.cli(&["selftest", "--json"]);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Waits until it stands so, and returns it.
fn stands(node: &Node, state: &str) -> Value {
    let mut last = Value::Null;
    until(&format!("the self-test is {state}"), || {
        last = test(node);
        last["state"] == state
    });
    last
}

/// What became of everything that was sent under this name.
fn came_to<'a>(test: &'a Value, name: &str) -> Vec<&'a str> {
    let cases = test["last"]["cases"].as_array().unwrap().iter();
    cases.filter(|case| case["name"] == name).map(|case| case["got"].as_str().unwrap()).collect()
}

const ATTACKS: [&str; 4] = ["sql_injection", "cross_site_scripting", "path_traversal", "command_injection"];

#[test]
fn an_attack_that_passes_alarms_and_reaches_nobody() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &app, "");
    let node = run(folder.path(), HTTP);

    let good = stands(&node, "ok");
    for attack in ATTACKS.iter().chain(&["framing_fault", "no_host"]) {
        assert_eq!(came_to(&good, attack), ["refused"], "{attack}: {good}");
    }
    assert_eq!((came_to(&good, "harmless"), &good["last"]["ok"]), (vec!["passed"], &true.into()));
    assert_eq!(
        (node.cli(&["selftest"]).status.code(), node.cli(&["selftest", "--now"]).status.code()),
        (Some(0), Some(0))
    );
    let metrics = || node.admin_get("/metrics").text();
    assert!(metrics().contains("phalanx_selftest_ok 1"));

    // Rules that know no attack: it alarms.
    write(folder.path(), &app, &with_rules(folder.path(), "narrow", NARROW));
    assert!(node.cli(&["reload"]).status.success());
    let bad = stands(&node, "failing");
    for attack in ATTACKS {
        assert_eq!(came_to(&bad, attack), ["passed"], "{bad}");
    }
    assert!(bad["failing_since_ms"].as_u64() > good["last"]["at_ms"].as_u64());
    assert_eq!(node.cli(&["selftest"]).status.code(), Some(1));
    let status = node.cli_json(&["status"]);
    let degraded = status["fleet"]["degraded"].to_string();
    assert!(degraded.contains("the self-test fails: sql_injection at 127.0.0.1:"), "{degraded}");
    assert_eq!(
        (&status["selftest"], &status["fleet"]["members"][0]["selftest"]),
        (&"failing".into(), &"failing".into())
    );
    assert!(metrics().contains("phalanx_selftest_ok 0"));
    let ledger = || {
        let files = std::fs::read_dir(node.state.join("record/ledger")).unwrap().flatten();
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect::<String>()
    };
    until("the ledger has it", || ledger().contains("its self-test fails"));

    // What is harmless is refused: so does that.
    write(folder.path(), &app, &with_rules(folder.path(), "wide", WIDE));
    assert!(node.cli(&["reload"]).status.success());
    until("the harmless one is refused", || came_to(&test(&node), "harmless") == ["refused"]);
    assert_eq!(test(&node)["state"], "failing");

    // What only observes is not protected, as it was ordered.
    write(folder.path(), &app, "mode = \"observe\"");
    assert!(node.cli(&["reload"]).status.success());
    let observed = stands(&node, "ok");
    assert_eq!(came_to(&observed, "sql_injection"), ["observed"]);
    assert!(String::from_utf8(node.cli(&["selftest"]).stdout).unwrap().contains("not protected"));
    write(folder.path(), &app, "mode = \"off\"");
    assert!(node.cli(&["reload"]).status.success());
    until("no rules look", || came_to(&test(&node), "sql_injection") == ["uninspected"]);
    until("the ledger has that, too", || ledger().contains("its self-test passes again"));

    assert_eq!(app.count(), 0, "nothing of it went to the application");
    let status = node.cli_json(&["status"]);
    assert_eq!((&status["counters"]["requests"], &status["counters"]["malformed"]), (&0.into(), &0.into()));
    assert_eq!(node.cli_json(&["events"]), Value::Array(Vec::new()));
    assert_eq!(node.banned(), Vec::<String>::new());
}

#[test]
fn a_visitor_gains_nothing_by_a_greeting_that_he_made_up() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &app, "");
    let node = run(folder.path(), HTTP);
    stands(&node, "ok");
    let mut stream = connect(node.listen);
    let mut ask = |path: &str| {
        let fields = format!("Host: a\r\nPhalanx-Selftest: {}", "0".repeat(96));
        stream.write_all(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).unwrap();
        read_reply(&mut BufReader::new(&stream))
    };
    assert_eq!(ask(&format!("/.phalanx/selftest/{}", "0".repeat(96))).status, 404);
    // He is a visitor like any other: what is harmless goes on, and an attack is refused and recorded.
    assert_eq!((ask("/?q=hello").status, app.count()), (200, 1));
    assert_eq!(ask("/?file=..%2F..%2F..%2F..%2Fetc%2Fpasswd").status, 403);
    until("it is recorded", || node.cli_json(&["events"]).as_array().unwrap().len() == 1);
}

#[test]
fn all_listeners_are_tried_as_far_as_they_can_be() {
    if absent("openssl") {
        return;
    }
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "shop", "shop.example", 90);
    write(folder.path(), &app, "hosts = [\"*.shop.example\"]");
    let listeners = "[[listen.http]]\naddress = \"[::]:0\"\n\
        [[listen.http]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = [\"192.0.2.0/24\"]\n\
        [[listen.http]]\naddress = \"127.0.0.2:0\"\nproxy_protocol = [\"127.0.0.0/8\"]\n\
        [[listen.tls]]\naddress = \"127.0.0.3:0\"\n\
        [[certificate]]\ncert = \"shop.pem\"\nkey = \"shop.key\"\n";
    let node = run(folder.path(), listeners);
    let test = stands(&node, "ok");
    let cases = test["last"]["cases"].as_array().unwrap();
    for (listener, outcome) in
        [("[::]:", "passed"), ("127.0.0.1:", "skipped"), ("127.0.0.2:", "passed"), ("127.0.0.3:", "passed")]
    {
        let here: Vec<_> =
            cases.iter().filter(|case| case["listener"].as_str().unwrap().starts_with(listener)).collect();
        assert_eq!(here.len(), 7, "{listener}: {test}");
        assert!(here.iter().all(|case| case["outcome"] == outcome), "{listener}: {test}");
    }
    assert_eq!(app.count(), 0);
}

/// Rules that count whoever asks, and refuse him from the fourth time on.
const COUNTING: &str = "SecAction \"id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.asked=+1\"\n\
    SecRule IP:asked \"@gt 3\" \"id:2,phase:1,deny,status:403\"\n";

#[test]
fn rules_that_count_who_asks_do_not_count_the_node() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("count.conf"), COUNTING).unwrap();
    write(folder.path(), &app, "extra_rules = [\"count.conf\"]");
    let node = run(folder.path(), HTTP);
    stands(&node, "ok");
    let mut runs = std::collections::BTreeSet::new();
    until("it has attacked itself a few times", || {
        let test = test(&node);
        assert!(came_to(&test, "harmless").iter().all(|got| *got == "passed"), "{test}");
        runs.extend(test["last"]["at_ms"].as_u64());
        runs.len() >= 3
    });
    // What a request adds is written once it is answered: the next one may come before.
    let asks = |_| get(node.listen, "/", &[]).status;
    let told: Vec<u16> = (0..20).map(asks).take_while(|status| *status != 403).collect();
    assert!((3..20).contains(&told.len()), "a visitor is counted from nothing, and is counted: {told:?}");
}

#[test]
fn runs_that_are_asked_for_at_once_share_one() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &app, "");
    let node = run(folder.path(), HTTP);
    let before = stands(&node, "ok")["last"]["at_ms"].as_u64().unwrap();
    let begun: std::collections::BTreeSet<u64> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| node.cli_json(&["selftest", "--now"])["last"]["at_ms"].as_u64().unwrap());
        let asked: Vec<_> = (0..6).map(|_| ask()).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(begun.iter().all(|at_ms| *at_ms > before), "each is one that came after: {begun:?}");
}
