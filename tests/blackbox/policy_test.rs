//! `phalanx policy test`: what stands beside a policy is tried, and what came otherwise is told with its line.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::*;

const POLICY: &str = r#"version = 1
[[apps]]
name = "shop"
hosts = ["shop.example"]
upstream = "http://127.0.0.1:3000"
extra_rules = ["own.conf"]
[[apps.rate_limits]]
name = "login"
key = "ip"
paths = ["/login"]
rate = "2/min"
burst = 2
[[apps.routes]]
name = "old"
path = "/old"
redirect = { to = "/new" }
[[apps.routes]]
name = "api"
path = "/api"
upstream = "http://10.0.0.7:8080"
deny_networks = ["198.51.100.0/24"]
"#;

const GOOD: &str = r#"
[[requests]]
name = "a page is let through to the shop"
url = "https://shop.example/"
expect = { action = "allow", app = "shop", route = "", upstream = "http://127.0.0.1:3000", rules = [], limit = "" }

[[requests]]
name = "the own rule refuses a word in a form"
url = "http://shop.example/search"
headers = ["Content-Type: application/x-www-form-urlencoded"]
body = "q=forbidden"
expect = { action = "deny", status = 403, rules = [1001], without_rules = [1002], upstream = "" }

[[requests]]
url = "http://shop.example/old/x"
expect = { action = "allow", status = 308, route = "old", upstream = "" }

[[requests]]
name = "the API has its own upstream"
url = "http://shop.example/api/x"
expect = { route = "api", upstream = "http://10.0.0.7:8080" }

[[requests]]
name = "one network has no business there"
url = "http://shop.example/api/x"
client = "198.51.100.9"
expect = { action = "deny", status = 403 }

[[requests]]
name = "nobody answers to another host"
url = "http://other.example/"
expect = { status = 421, app = "" }

[[requests]]
name = "two logins are admitted"
sequence = "logins"
method = "POST"
url = "http://shop.example/login"
times = 2
every = "1s"
expect = { action = "allow" }

[[requests]]
name = "the third at once is not"
sequence = "logins"
method = "POST"
url = "http://shop.example/login"
expect = { action = "deny", status = 429, limit = "login" }

[[requests]]
name = "somebody else may"
sequence = "logins"
method = "POST"
url = "http://shop.example/login"
client = "192.0.2.1"
expect = { action = "allow" }

[[requests]]
name = "after a minute the first may again"
sequence = "logins"
method = "POST"
at = "2m"
url = "http://shop.example/login"
expect = { action = "allow" }
"#;

fn folder(expectations: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    let rule = "SecRule ARGS:q \"@streq forbidden\" \"id:1001,phase:2,deny,status:403,msg:'A word'\"\n";
    fs::write(folder.path().join("own.conf"), rule).unwrap();
    fs::write(folder.path().join("shop.test.toml"), expectations).unwrap();
    folder
}

/// What it prints, run in a folder, and whether it succeeded.
fn test(folder: &Path, args: &[&str]) -> (bool, String, String) {
    let output = phalanx(&[&["policy", "test"], args].concat()).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_comes_as_expected_passes_by_file_and_by_settings() {
    let folder = folder(GOOD);
    let (ok, told, err) = test(folder.path(), &["policy.toml"]);
    assert!(ok, "{told}{err}");
    assert!(told.contains("ok     shop.test.toml:2 a page is let through to the shop\n"), "{told}");
    assert!(told.ends_with("10 requests tried, 0 failed\n"), "{told}");
    let (again, told_again, _) = test(folder.path(), &["policy.toml"]);
    assert!(again && told == told_again, "the same comes each time");

    fs::create_dir(folder.path().join("tests")).unwrap();
    fs::rename(folder.path().join("shop.test.toml"), folder.path().join("tests/a.test.toml")).unwrap();
    let settings = super::cli::write_config(folder.path(), "", POLICY);
    let (ok, told, err) = test(folder.path(), &["--json", "-c", settings.to_str().unwrap()]);
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}{err}"));
    assert!(ok && told["ok"] == true && told["tried"] == 10 && told["failed"] == 0, "{told}");
}

#[test]
fn what_comes_otherwise_is_told_with_its_line() {
    let folder = folder(
        r#"[[requests]]
name = "the word is allowed"
url = "http://shop.example/?q=forbidden"
[requests.expect]
action = "allow"
rules = [1002]
upstream = "http://127.0.0.1:3000"

[[requests]]
name = "three logins are admitted"
url = "http://shop.example/login"
times = 3
expect = { action = "allow" }
"#,
    );
    let (ok, told, _) = test(folder.path(), &["policy.toml"]);
    assert!(!ok);
    let expected = "\
FAILED shop.test.toml:1 the word is allowed
       request  GET http://shop.example/?q=forbidden from 203.0.113.7
       expected action allow   (shop.test.toml:5)
       came     action deny
       expected rules 1002   (shop.test.toml:6)
       came     rules 1001
       expected upstream 127.0.0.1:3000   (shop.test.toml:7)
       came     upstream none
";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("       why      Rule 1001 (own.conf:1) decided: A word"), "{told}");
    assert!(
        told.contains("request  GET http://shop.example/login from 203.0.113.7 (time 3 of 3)\n"),
        "{told}"
    );
    assert!(told.contains("rate limit login"), "{told}");
    assert!(told.ends_with("2 requests tried, 2 failed\n"), "{told}");

    let (ok, told, _) = test(folder.path(), &["--json", "policy.toml"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(!ok && told["failed"] == 2, "{told}");
    let failed = &told["results"][0]["failed"];
    assert_eq!(failed["came"]["rules"], serde_json::json!([1001]), "{failed}");
    assert_eq!((&failed["misses"][0]["what"], &failed["misses"][0]["line"]), (&"action".into(), &5.into()));
}

#[test]
fn a_policy_without_expectations_is_told_where_they_would_stand() {
    let folder = folder(GOOD);
    fs::remove_file(folder.path().join("shop.test.toml")).unwrap();
    let (ok, _, err) = test(folder.path(), &["policy.toml"]);
    assert!(!ok && err.contains("no *.test.toml lies beside it or in `tests` beside it"), "{err}");
    fs::write(folder.path().join("shop.test.toml"), "[[requests]]\nurl = \"http://a/\"\nexpekt = {}\n")
        .unwrap();
    let (ok, _, err) = test(folder.path(), &["policy.toml"]);
    assert!(!ok && err.contains("shop.test.toml:3: unknown key `expekt`"), "{err}");
    assert!(err.contains("did you mean `expect`?"), "{err}");
}

#[test]
fn templates_do_what_is_expected_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs/templates/tests");
    let (passed, out, err) = test(&folder, &["policy.toml"]);
    assert!(passed, "{out}{err}");
}
