//! `phalanx probe`: an upstream that can be reached around the node is found, and one that cannot is not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;

use serde_json::Value;

use crate::support::*;

/// Settings and a policy with this upstream.
fn write(folder: &Path, upstream: &str) -> String {
    let settings = folder.join("phalanx.toml");
    std::fs::write(&settings, "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:8080\"]\n")
        .unwrap();
    let policy =
        format!("[[apps]]\nname = \"shop\"\nhosts = [\"shop.example\"]\nupstream = \"{upstream}\"\n");
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    settings.display().to_string()
}

/// What `probe` says of an upstream at another address of this machine.
fn probed(upstream: &str) -> (bool, Value) {
    let folder = tempfile::tempdir().unwrap();
    let settings = write(folder.path(), upstream);
    let args = ["probe", "-c", &settings, "--address", "127.0.0.2", "--timeout", "1s", "--json"];
    let output = phalanx(&args).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.success(), told)
}

/// What is said of that address; the machine's own others, whatever they are, are as open.
fn at_other(told: &Value) -> &Value {
    let is_other = |tried: &&Value| tried["address"].as_str().unwrap().starts_with("127.0.0.2:");
    told["tried"].as_array().unwrap().iter().find(is_other).unwrap()
}

#[test]
fn an_app_that_listens_on_all_addresses_is_reached_around_the_node() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, asked) = mpsc::sync_channel(512);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let _ = heads.send(head);
            let _ = reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let (is_good, told) = probed(&format!("http://127.0.0.1:{port}"));
    assert!(!is_good && told["ok"] == false, "{told}");
    let tried = at_other(&told);
    assert_eq!((&tried["result"], &tried["status"]), (&"answers".into(), &204.into()), "{told}");
    assert_eq!((&tried["app"], &tried["around"]), (&"shop".into(), &true.into()));
    // Nothing that could be taken for an attack.
    let heads: Vec<String> = asked.try_iter().collect();
    assert!(!heads.is_empty());
    for head in heads {
        assert_eq!(
            head,
            "HEAD / HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: phalanx-probe\r\nConnection: close\r\n\r\n"
        );
    }
}

#[test]
fn an_app_that_listens_for_the_node_alone_is_not() {
    let app = App::start();
    let (is_good, told) = probed(&app.url);
    assert!(is_good && told["ok"] == true, "{told}");
    assert_eq!(at_other(&told)["result"], "refused");
    assert_eq!(app.count(), 0);
}

#[test]
fn a_port_that_takes_connections_and_says_nothing_is_a_way_around() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let (is_good, told) = probed(&format!("{scheme}://127.0.0.1:{port}"));
        assert!(!is_good, "{told}");
        assert_eq!(at_other(&told)["result"], "takes_connections", "{told}");
    }
}

#[test]
fn from_outside_each_upstream_is_tried_where_it_is() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let settings = write(folder.path(), &format!("https://127.0.0.1:{port}"));
    // This machine's loopback is nobody's upstream from outside.
    let output = phalanx(&["probe", "-c", &settings, "--outside"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("nothing was tried"), "{output:?}");
    let output =
        phalanx(&["probe", "-c", &settings, "--outside", "--address", "127.0.0.3"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("REACHABLE") && told.contains("help: let the app listen on 127.0.0.1"), "{told}");
}

#[test]
fn an_app_that_does_not_run_is_not_taken_for_one_that_is_closed() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (is_good, told) = probed(&format!("http://127.0.0.1:{port}"));
    assert!(is_good, "{told}");
    assert!(told["notes"][0].as_str().unwrap().contains("nothing answers there now"), "{told}");
    let (is_good, told) = probed("http://no-such-name.invalid");
    assert!(!is_good && told["ok"] == false && told["tried"].as_array().unwrap().is_empty(), "{told}");
    assert!(told["notes"][0].as_str().unwrap().contains("its name leads nowhere"), "{told}");
}

#[test]
fn an_app_on_all_addresses_is_found_by_either_family_and_not_where_the_node_reaches_it() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let settings = write(folder.path(), &format!("https://[::1]:{port}"));
    let args = ["probe", "-c", &settings, "--address", "::1", "--timeout", "1s", "--json"];
    let output = phalanx(&args).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert!(output.status.success() && told["notes"].as_array().unwrap().is_empty(), "{told}");
    drop(listener);
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (is_good, told) = probed(&format!("https://[::1]:{port}"));
    assert!(!is_good && at_other(&told)["result"] == "takes_connections", "{told}");
}

#[test]
fn settings_that_cannot_be_read_are_told_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let settings = write(folder.path(), "ftp://127.0.0.1");
    let output = phalanx(&["probe", "-c", &settings]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("policy.toml:4: `ftp` is no scheme"), "{told}");
}
