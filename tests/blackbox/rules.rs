//! The Core Rule Set behind a real node: its regression tests over the wire, and Debian's package as it is installed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::*;

/// The conformance folder, if this run has one.
fn conformance() -> Option<PathBuf> {
    let Some(shared) = std::env::var_os("PHALANX_SHARED") else {
        assert!(std::env::var_os("CI").is_none(), "CI has no PHALANX_SHARED");
        eprintln!("skipped: PHALANX_SHARED is not set");
        return None;
    };
    Some(Path::new(&shared).join("conformance"))
}

/// `phalanx waf backend` on a free port.
struct Backend {
    child: Child,
    listen: SocketAddr,
}

impl Backend {
    fn start() -> Self {
        let mut command = phalanx(&["waf", "backend", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, listen: ready["listen"].as_str().unwrap().parse().unwrap() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listen)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node with the Core Rule Set as its tests want it.
fn node_for_tests(rules: &Path, backend: &Backend, folder: &Path) -> Node {
    let settings = folder.join("ftw-before.conf");
    let printed = phalanx(&["waf", "ftw", "--print-settings"]).output().unwrap();
    fs::write(&settings, printed.stdout).unwrap();
    let words = ["--mode", "observe", "--paranoia", "4", "--rules"];
    let paths = [rules.to_str().unwrap(), "--extra-rules", settings.to_str().unwrap()];
    Node::up(&backend.url(), &[&words[..], &paths[..]].concat())
}

fn ftw(node: &Node, tests: &Path) -> Command {
    let mut command = phalanx(&["waf", "ftw", "--wire", &node.listen.to_string(), "--tests"]);
    command.arg(tests);
    command
}

#[test]
fn the_core_rule_sets_regression_tests_pass_over_the_wire() {
    let Some(data) = conformance() else { return };
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    let node = node_for_tests(&data.join("crs"), &backend, folder.path());

    // By TCP with the token, as from elsewhere.
    let mut command = ftw(&node, &data.join("crs-tests"));
    command.args(["--explain", "--admin", &format!("http://{}", node.admin), "--token-file"]);
    let output = command.arg(node.state.join("admin.token")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let summary = told.lines().last().unwrap();
    println!("{summary}");
    assert_eq!(told.lines().filter(|line| line.starts_with("deviates ")).count(), 4, "{told}");
    assert!(summary.ends_with(" failed 0 skipped 0 deviates 4"), "{told}");
}

#[test]
fn a_test_that_fails_over_the_wire_is_named_and_fails_the_run() {
    let Some(data) = conformance() else { return };
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    let node = node_for_tests(&data.join("crs"), &backend, folder.path());
    let stage = |method: &str, output: &str| {
        format!(
            "      - input: {{method: {method}, headers: {{Host: localhost, Accept: '*/*', User-Agent: tests}}}}\n        output: {output}\n"
        )
    };
    let tests = [
        stage("GET", "{status: 200, log: {no_expect_ids: [911100]}}"),
        stage("GET", "{log: {expect_ids: [911100]}}"),
        // Both of its stages must hold.
        stage("BREW", "{log: {expect_ids: [911100]}}") + &stage("GET", "{status: 418}"),
    ];
    let mut file = String::from("rule_id: 911100\ntests:\n");
    for (id, stages) in (1..).zip(tests) {
        file += &format!("  - test_id: {id}\n    stages:\n{stages}");
    }
    let suite = folder.path().join("tests");
    fs::create_dir(&suite).unwrap();
    fs::write(suite.join("911100.yaml"), file).unwrap();
    let output = ftw(&node, &suite).arg("--state").arg(&node.state).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told, "failed 911100-2\nfailed 911100-3\npassed 1 failed 2 skipped 0 deviates 0\n");
}

#[test]
fn a_node_without_the_tests_settings_is_told_apart() {
    let backend = Backend::start();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs/baseline/tests");
    for (args, told) in [(vec![], "--mode observe"), (vec!["--mode", "observe"], "--print-settings")] {
        let node = Node::up(&backend.url(), &args);
        let output = ftw(&node, &tests).arg("--state").arg(&node.state).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(told), "{errors}");
    }
}

#[test]
fn the_tests_backend_reflects_what_it_is_told() {
    let backend = Backend::start();
    let body = br#"{"status":202,"headers":{"X-Told":"yes"},"body":"<p>hello</p>"}"#;
    let reply = request(backend.listen, "POST", "/reflect", &[("Content-Type", "application/json")], body);
    assert_eq!((reply.status, reply.text().as_str()), (202, "<p>hello</p>"));
    assert_eq!(reply.fields.get("x-told").map(String::as_str), Some("yes"));
    assert_eq!(get(backend.listen, "/anything?a=<b>", &[]).status, 200);
    assert!(get(backend.listen, "/capabilities", &[]).text().contains("/reflect"));
}

/// Runs `phalanx waf replay` on these lines.
fn replay(args: &[&str], lines: &str) -> Output {
    let mut command = phalanx(&[&["waf", "replay"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn replay_judges_each_line_in_order() {
    // GET /, the same with ?q=' OR '1'='1 in it, the same without Host, and what is no request.
    let lines = r#"{"id":"harmless","raw_request_b64":"R0VUIC8gSFRUUC8xLjENCkhvc3Q6IGENClVzZXItQWdlbnQ6IGIvMS4wDQpBY2NlcHQ6ICovKg0KDQo="}
{"id":2,"raw_request_b64":"R0VUIC8/cT0lMjclMjBPUiUyMCUyNzElMjc9JTI3MSBIVFRQLzEuMQ0KSG9zdDogYQ0KVXNlci1BZ2VudDogYi8xLjANCkFjY2VwdDogKi8qDQoNCg=="}

{"id":null,"raw_request_b64":"R0VUIC8gSFRUUC8xLjENCg0K"}
{"id":{"a":1},"raw_request_b64":"eA=="}
"#;
    let output = replay(&["--paranoia", "1"], lines);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<String> = answers.iter().map(|answer| answer["id"].to_string()).collect();
    assert_eq!(ids, ["\"harmless\"", "2", "null", "{\"a\":1}"]);
    let blocked: Vec<_> = answers.iter().map(|answer| answer["blocked"].as_bool().unwrap()).collect();
    assert_eq!(blocked, [false, true, true, true]);
    assert_eq!(answers[0]["rules"], serde_json::json!([]));
    assert!(!answers[1]["rules"].as_array().unwrap().is_empty());
    assert_eq!(answers[2]["faults"], serde_json::json!(["missing_host"]));
}

#[test]
fn replay_names_the_line_that_it_cannot_read() {
    let good = r#"{"id":1,"raw_request_b64":"R0VUIC8gSFRUUC8xLjENCkhvc3Q6IGENCg0K"}"#;
    for bad in ["{\"id\":3}", "nonsense", "{\"id\":3,\"raw_request_b64\":\"*\"}"] {
        let output = replay(&[], &format!("{good}\n{good}\n{bad}\n{good}\n"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("line 3: "), "{told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    }
}

/// Where Debian's package modsecurity-crs keeps its rules, if it is installed.
fn debian() -> Option<&'static str> {
    let folder = "/usr/share/modsecurity-crs";
    if Path::new(folder).join("rules").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "CI has no modsecurity-crs");
    eprintln!("skipped: modsecurity-crs is not installed");
    None
}

#[test]
fn debians_core_rule_set_protects_as_it_is_installed() {
    let Some(rules) = debian() else { return };
    let app = App::start();
    for paranoia in ["1", "4"] {
        let node = Node::up(&app.url, &["--rules", rules, "--paranoia", paranoia]);
        let ask = |path: &str| {
            // A host that is an address would be a finding of its own.
            let fields =
                "Host: shop.example\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nConnection: close\r\n";
            raw(node.listen, format!("GET {path} HTTP/1.1\r\n{fields}\r\n").as_bytes()).status
        };
        assert_eq!(ask("/products"), 200, "paranoia {paranoia}");
        assert_eq!(
            ask("/?q=%27%20UNION%20SELECT%20password%20FROM%20users--%20"),
            403,
            "paranoia {paranoia}"
        );
        assert_eq!(ask("/?q=%3Cscript%3Ealert(1)%3C/script%3E"), 403, "paranoia {paranoia}");
        let status = node.cli_json(&["status"]);
        let app = &status["plan"]["apps"][0];
        assert!(app["rule_count"].as_u64() > Some(500), "{app}");
        assert_eq!(app["backtracking_patterns"], 5, "{app}");
    }
}
