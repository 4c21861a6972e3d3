//! Attacks on a node, and HTTP/2 as others see it. What sends wrong bytes is written in Python, beside this folder; see
//! `docs/guide/abuse.md`.

use std::process::{Command, Stdio};

use crate::support::*;

/// Runs a script of `tests/` against the binary; its output is shown if it fails.
fn script(file: &str, args: &[&str]) {
    if absent(&["python3", "openssl"]) {
        return;
    }
    let path = format!("{}/../../tests/{file}", env!("CARGO_MANIFEST_DIR"));
    let output =
        Command::new("python3").arg(path).arg(binary()).args(args).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&text));
}

/// Whether a program is missing that the test needs.
fn absent(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| Command::new(name).arg("--version").output().is_err());
    missing.inspect(|name| eprintln!("skipped: {name} not installed")).is_some()
}

#[test]
fn http2_is_spoken_as_rfc_9113_and_rfc_7541_ask() {
    script("h2/conformance.py", &[]);
}

#[test]
fn no_attack_keeps_visitors_or_the_operator_from_being_served() {
    script("abuse/run.py", &["--quick"]);
}

#[test]
fn a_node_that_runs_short_of_files_serves_who_it_knows_and_its_operator() {
    script("abuse/overload.py", &[]);
}

#[test]
fn clients_of_nghttp2_and_curl_are_served() {
    if absent(&["nghttp", "h2load", "curl"]) {
        return;
    }
    let app = App::start();
    let node = Node::up(&app.url, &["--h2c"]);
    let url = format!("http://{}/a", node.listen);
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(&url).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program}: {text}");
        text
    };
    assert!(run("nghttp", &["-v", "-n"]).contains(":status: 200"));
    assert!(run("nghttp", &["-v", "-n", "-p", "1", "--window-bits=10", "-m", "20"]).contains(":status: 200"));
    let loaded = run("h2load", &["-n", "2000", "-c", "4", "-m", "50"]);
    assert!(loaded.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{loaded}");
    let words = ["-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--http2-prior-knowledge"];
    assert_eq!(run("curl", &words), "2 200");
}
