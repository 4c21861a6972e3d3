//! What a node keeps: across restarts, when damaged, and what must never be in it.

use std::path::Path;

use crate::support::*;

const FORWARDED: &[&str] = &["--trust-forwarded", "127.0.0.1/32"];

#[test]
fn a_ban_survives_a_power_cut() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::up_in(folder.path(), &app.url, FORWARDED);
    for n in 0..3 {
        node.get_from("192.0.2.7", &attack(n));
    }
    until("the client is banned", || node.get_from("192.0.2.7", "/").status == 403);
    until("the ban is on disk", || node.cli_json(&["status"])["fleet"]["queue"] == 0);
    node.kill();
    let node = Node::up_in(folder.path(), &app.url, FORWARDED);
    assert_eq!(node.get_from("192.0.2.7", "/").status, 403);
}

#[test]
fn damaged_state_is_set_aside_and_named() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    Node::up_in(folder.path(), &app.url, &[]).stop();
    let mut damaged = 0;
    for file in files(folder.path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".redb") || name.ends_with(".db") {
            std::fs::write(&file, vec![0xa5; 8192]).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged >= 2, "node state and history are files of their own");
    let node = Node::up_in(folder.path(), &app.url, &[]);
    assert_eq!(node.get("/").status, 200);
    let status = node.cli_json(&["status"]).to_string();
    assert!(status.contains(".corrupt-"), "{status}");
}

#[test]
fn secrets_reach_no_file() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::up_in(folder.path(), &app.url, &[]);
    let marker = "s3cr3tmarker";
    let fields = [
        ("Authorization", "Bearer s3cr3tmarker-a"),
        ("Cookie", "session=s3cr3tmarker-b' UNION SELECT password FROM users-- "),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let path = format!("{}&password={marker}-c&access_token={marker}-d", attack(1));
    let reply = request(node.listen, "POST", &path, &fields, b"password=s3cr3tmarker-e%27+OR+1%3D1--+&a=1");
    assert_eq!(reply.status, 403);
    let id = reply.id().to_owned();
    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    let told = String::from_utf8_lossy(&node.cli(&["explain", &id, "--json"]).stdout).into_owned();
    assert!(!told.contains(marker), "{told}");
    node.stop();
    for file in files(folder.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(marker.len()).any(|w| w == marker.as_bytes());
        assert!(!found, "a secret is in {}", file.display());
    }
}

#[test]
fn keys_and_tokens_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let _node = Node::up_in(folder.path(), &app.url, &[]);
    for file in files(folder.path()) {
        let mode = std::fs::symlink_metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is readable by others: {mode:o}", file.display());
    }
}

pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
