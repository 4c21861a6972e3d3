//! `phalanx policy diff`: what changes between two policy files is told by what it means, and what takes protection away comes last.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::*;

const OLD: &str = r#"version = 4
allow = ["192.0.2.7"]
[detection]
mode = "act"
[[apps]]
name = "shop"
hosts = ["shop.example", "www.shop.example"]
upstream = ["http://10.0.0.7:3000", "http://10.0.0.8:3000"]
extra_rules = ["own.conf"]
deny_networks = ["203.0.113.0/24"]
[[apps.exclusions]]
rules = [942100]
target = "ARGS:q"
path = "/search"
owner = "ann"
reason = "people look for SQL books"
until = 2030-01-01
[[apps.rate_limits]]
name = "login"
key = "ip"
paths = ["/login"]
rate = "5/min"
[[apps.rate_limits]]
name = "api"
key = "header:x-api-key"
paths = ["/api/*"]
rate = "100/s"
[[apps.routes]]
name = "admin"
path = "/admin"
allow_networks = ["10.0.0.0/8"]
[[apps.routes]]
name = "canary"
path = "/api"
headers = { X-Canary = true }
upstream = "http://10.0.0.9:8080"
[[apps.routes]]
name = "api"
path = "/api"
methods = ["GET", "POST"]
[[apps]]
name = "wiki"
hosts = ["wiki.example"]
upstream = "http://10.0.0.20"
"#;

const NEW: &str = r#"# Written by somebody else, in another order.
version = 5
allow = ["192.0.2.7/32", "198.51.100.0/24"]

[detection]
mode = "observe"

[[apps]]
name = "blog"
hosts = ["blog.example"]
upstream = "http://10.0.0.30"
mode = "observe"

[[apps]]
name = "shop"
hosts = ["WWW.shop.example", "shop.example"]
upstream = ["http://10.0.0.8:3000", "http://10.0.0.10:3000"]
extra_rules = ["own.conf"]
trust_forwarded = ["10.0.0.0/24"]
limits = { body = "2 GiB", upstream_head = "30s" }

[[apps.exclusions]]
rules = [942100]
target = "ARGS:q"
owner = "bob"
reason = "people look for SQL books everywhere"
until = 2030-06-01

[[apps.rate_limits]]
name = "login"
key = "ip"
paths = ["/login"]
rate = "20/60s"

[[apps.routes]]
name = "api"
path = "/api"
methods = ["GET", "POST"]

[[apps.routes]]
name = "canary"
path = "/api"
headers = { X-Canary = true }
upstream = "http://10.0.0.9:8080"

[[apps.routes]]
name = "old"
path = "/old"
redirect = { to = "/new{rest}" }
"#;

const RULE: &str = "SecRule ARGS:q \"@streq forbidden\" \"id:1001,phase:2,deny,status:403,msg:'A word'\"\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "old", OLD, RULE);
    write(folder.path(), "new", NEW, &RULE.replace("forbidden", "else"));
    folder
}

fn write(folder: &Path, of: &str, policy: &str, rule: &str) {
    fs::create_dir_all(folder.join(of)).unwrap();
    fs::write(folder.join(of).join("policy.toml"), policy).unwrap();
    fs::write(folder.join(of).join("own.conf"), rule).unwrap();
}

/// Its exit code and what it prints, run in a folder.
fn compare(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = phalanx(&[&["policy", "diff"], args].concat()).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_changes_is_told_and_what_is_dangerous_comes_last() {
    let folder = folder();
    let (code, told, err) = compare(folder.path(), &["old/policy.toml", "new/policy.toml"]);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{told}");
    insta::assert_snapshot!(told);
    let (code, json, _) = compare(folder.path(), &["old/policy.toml", "new/policy.toml", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["same"]), (Some(1), &Value::Bool(false)));
    assert_eq!(json["files"][0]["file"], "own.conf");
    let rate = json["changes"].as_array().unwrap().iter().find(|change| change["setting"] == "rate").unwrap();
    assert_eq!((&rate["old"], &rate["new"]), (&"5/min".into(), &"20/min".into()), "{rate}");
    let dangers = json["dangers"].as_array().unwrap();
    let (_, last) = told.split_once("DANGEROUS").unwrap();
    let of_files = json["files"].as_array().unwrap().iter().filter(|file| file["danger"].is_string()).count();
    assert_eq!(last.lines().filter(|line| line.starts_with("! ")).count(), dangers.len() + of_files);
}

#[test]
fn how_the_files_are_written_does_not_show() {
    let folder = folder();
    let (head, apps) = OLD.split_once("[[apps]]\nname = \"shop\"").unwrap();
    let (shop, wiki) = apps.split_once("[[apps]]\nname = \"wiki\"").unwrap();
    let other =
        format!("# A comment\n{head}\n\n[[apps]]\nname   = \"wiki\"{wiki}[[apps]]\nname = \"shop\"{shop}");
    write(folder.path(), "same", &other, &format!("# Why\n\n{RULE}"));
    let settings = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:0\"]\n";
    fs::write(folder.path().join("old/phalanx.toml"), settings).unwrap();
    for args in
        [["old/policy.toml", "same/policy.toml"].as_slice(), &["-c", "old/phalanx.toml", "same/policy.toml"]]
    {
        let (code, told, err) = compare(folder.path(), args);
        assert_eq!(
            (code, told.as_str(), err.as_str()),
            (Some(0), "the policies mean the same\n", ""),
            "{args:?}"
        );
    }
}

#[test]
fn a_policy_with_faults_is_told_with_file_and_line() {
    let folder = folder();
    write(folder.path(), "bad", &NEW.replace("rate = \"20/60s\"", "rate = \"often\""), RULE);
    let (code, told, err) = compare(folder.path(), &["old/policy.toml", "bad/policy.toml"]);
    let line = 1 + NEW.lines().position(|line| line.contains("20/60s")).unwrap();
    assert_eq!((code, told.as_str()), (Some(2), ""));
    assert!(err.contains("bad/policy.toml cannot be compared"), "{err}");
    assert!(err.contains(&format!("policy.toml:{line}: `often`")), "{err}");
    let (code, told, _) = compare(folder.path(), &["old/policy.toml", "bad/policy.toml", "--json"]);
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &json["diagnostics"][0]["line"]), (Some(2), &line.into()));
    for (args, fault) in [
        (["old/policy.toml", "none.toml"].as_slice(), "none.toml: cannot be read"),
        (&["old/policy.toml"], "there is one policy only"),
        (&["-c", "none.toml", "new/policy.toml"], "none.toml: cannot be read"),
    ] {
        let (code, told, err) = compare(folder.path(), args);
        assert_eq!((code, told.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains(fault), "{args:?}: {err}");
    }
}
