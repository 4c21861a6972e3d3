//! `phalanx check`: policies that say what hardly anybody means are told so, with line and help, and good ones are left alone.

mod faults;

use std::path::Path;

use phalanx_model::{Clock, SystemClock};
use serde_json::Value;

use crate::support::*;

use faults::{FAULTS, Fault, INNER, POLICY, RULES, SETTINGS};

/// What `check` says of a folder's settings.
fn checked(folder: &Path, args: &[&str]) -> (bool, Vec<Value>) {
    let settings = folder.join("phalanx.toml");
    let output =
        phalanx(&[&["check", "--json", "-c", settings.to_str().unwrap()], args].concat()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.success(), told["diagnostics"].as_array().unwrap().clone())
}

#[test]
fn good_settings_get_no_advice() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/blackbox/good");
    let mut folders: Vec<_> = std::fs::read_dir(good).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 18, "{folders:?}");
    let soon = in_100_days();
    for folder in folders {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap().replace("{soon}", &soon);
            std::fs::write(copy.path().join(file.file_name()), text).unwrap();
        }
        let (is_good, found) = checked(copy.path(), &["--strict"]);
        assert!(is_good && found.is_empty(), "{}: {found:?}", folder.display());
    }
}

#[test]
fn faults_that_are_no_mistakes_are_told_with_line_and_help() {
    let soon = in_100_days();
    std::thread::scope(|scope| {
        for some in FAULTS.chunks(FAULTS.len().div_ceil(4)) {
            scope.spawn(|| some.iter().for_each(|fault| is_told(fault, &soon)));
        }
    });
}

/// Whether a fault is told, and nothing beside it, as a warning that only `--strict` fails on.
fn is_told(Fault { file, at, says, told }: &Fault, soon: &str) {
    let folder = tempfile::tempdir().unwrap();
    let says = says.replace("{soon}", soon);
    let mut lines = 0..0;
    let inner = ("inner.inc", INNER);
    for (name, text) in [("phalanx.toml", SETTINGS), ("policy.toml", POLICY), ("own.conf", RULES), inner] {
        let place = text.lines().position(|line| name == *file && line.starts_with(at));
        let text: Vec<&str> = text
            .lines()
            .enumerate()
            .map(|(line, text)| if Some(line) == place { says.as_str() } else { text })
            .collect();
        std::fs::write(folder.path().join(name), text.join("\n") + "\n").unwrap();
        if let Some(place) = place {
            lines = place..place + says.lines().count();
        }
    }
    let (is_good, found) = checked(folder.path(), &["--strict"]);
    let [one] = found.as_slice() else { panic!("{says}: {found:?}") };
    assert!(!is_good && one["level"] == "warning" && one["help"].is_string(), "{says}: {one}");
    assert!(one["message"].as_str().unwrap().contains(told), "{says}: {one}");
    // What is included stands there.
    let file = if says.starts_with("Include") { "inner.inc" } else { file };
    assert!(one["file"].as_str().unwrap().ends_with(file), "{says}: {one}");
    let line = usize::try_from(one["line"].as_u64().unwrap()).unwrap();
    if file == "inner.inc" {
        assert_eq!(line, 2, "{says}: {one}");
        return;
    }
    // Where it stands, or the head of its table.
    let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
    let head = text.lines().take(lines.start).collect::<Vec<_>>();
    let head = head.iter().rposition(|line| line.starts_with('['));
    let is_there = line.checked_sub(1).is_some_and(|line| lines.contains(&line) || Some(line) == head);
    assert!(is_there, "{says}: {one}");
}

#[test]
fn a_host_without_a_certificate_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let settings = "policy = \"policy.toml\"\n[[listen.tls]]\naddress = \"127.0.0.1:8443\"\n[acme]\ndirectory = \"https://acme.example/directory\"\nchallenge = \"tls-alpn-01\"\nhosts = [\"shop.example\"]\nagree_to_terms = true\n";
    write("phalanx.toml", settings);
    write(
        "policy.toml",
        "[[apps]]\nname = \"shop\"\nhosts = [\"shop.example\", \"m.shop.example\"]\nupstream = \"http://127.0.0.1:3000\"\n",
    );
    let (is_good, found) = checked(folder.path(), &[]);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert!(is_good && one["line"] == 4, "{one}");
    assert!(one["message"].as_str().unwrap().starts_with("no certificate is for m.shop.example"), "{one}");
}

#[test]
fn a_text_that_is_no_utf8_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write("phalanx.toml", SETTINGS.as_bytes());
    write("own.conf", RULES.as_bytes());
    for (name, line) in [("policy.toml", 3), ("phalanx.toml", 3)] {
        write("policy.toml", POLICY.as_bytes());
        write(name, b"# one\n# two\nname = \"caf\xe9\"\n");
        let (is_good, found) = checked(folder.path(), &[]);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(!is_good && one["line"] == line && one["message"] == "this line is not UTF-8", "{one}");
        assert!(one["file"].as_str().unwrap().ends_with(name), "{one}");
    }
}

#[test]
fn a_file_that_is_missing_is_told_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("phalanx.toml", SETTINGS);
    write("policy.toml", &POLICY.replace("own.conf", "gone.conf"));
    let (is_good, found) = checked(folder.path(), &[]);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert!(
        !is_good && one["message"] == "there is no file or folder `gone.conf`" && one["line"] == 9,
        "{one}"
    );
    assert!(one["file"].as_str().unwrap().ends_with("policy.toml") && one["help"].is_string(), "{one}");
    write("phalanx.toml", &SETTINGS.replace("policy.toml", "gone.toml"));
    let (_, found) = checked(folder.path(), &[]);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert!(one["file"].as_str().unwrap().ends_with("phalanx.toml") && one["line"] == 1, "{one}");
}

/// A day as TOML has it.
fn in_100_days() -> String {
    let mut days = SystemClock.now_ms() / 86_400_000 + 100;
    let mut year = 1970;
    let length = |year: u64| {
        365 + u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
    };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    // Each month has 28 days at least.
    format!("{year}-{:02}-{:02}", (days / 31 + 1).min(12), days % 28 + 1)
}
