//! Files of expectations: what is read, what is said about mistakes, and what counts as a miss.

use phalanx_model::Action;
use phalanx_policy::{Came, Diagnostic, Policy, parse_expectations, parse_policy};

#[cfg(test)]
fn policy() -> Policy {
    let text = r#"
[[apps]]
name = "shop"
upstream = "http://127.0.0.1:3000"
rate_limits = [{ name = "login", key = "ip", rate = "5/min" }]
[[apps.routes]]
name = "api"
path = "/api"
"#;
    parse_policy("policy.toml", text).unwrap().0
}

fn told(faults: &[Diagnostic]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = r#"now = 2026-01-01
[[requests]]
url = "shop.example/cart"
expect = {}

[[requests]]
url = "http://shop.example/a b"
metod = "GET"
expect = { action = "refuse" }

[[requests]]
url = "http://shop.example/"
headers = ["Accept", "Host: a", "content-length: 3", "X: a\r\nY: b"]
client = "203.0.113.300"
at = "5s"
times = 0
every = "1 week"
method = "GE T"
expect = { action = "deny", app = "shopp", route = "apy", limit = "logn", upstream = "127.0.0.1:3000" }

[[requests]]
sequence = "a"
url = "http://shop.example/"
times = 3
every = "1s"
expect = { status = 200 }

[[requests]]
sequence = "a"
at = "1s"
url = "http://shop.example/"
expect = { status = 200 }
"#;
    insta::assert_snapshot!(told(&parse_expectations("shop.test.toml", text, &policy()).unwrap_err()));
}

#[test]
fn a_file_that_expects_nothing_is_refused() {
    let faults = parse_expectations("shop.test.toml", "", &policy()).unwrap_err();
    assert!(told(&faults).contains("the file expects nothing"), "{}", told(&faults));
}

#[test]
fn only_what_is_expected_and_comes_otherwise_is_a_miss() {
    let came = Came {
        action: Action::Deny,
        status: Some(403),
        rules: vec![1, 2],
        app: "shop".into(),
        route: String::new(),
        upstreams: vec![],
        limit: String::new(),
    };
    let forwarded = Came {
        action: Action::Allow,
        status: None,
        rules: vec![],
        app: "shop".into(),
        route: "api".into(),
        upstreams: vec!["127.0.0.1:3000".into(), "127.0.0.1:3001".into()],
        limit: String::new(),
    };
    for (expect, came, missed) in [
        (
            "action = \"deny\", status = 403, rules = [2], without_rules = [3], route = \"\", limit = \"\"",
            &came,
            "",
        ),
        ("upstream = \"\"", &came, ""),
        ("action = \"allow\"", &came, "action"),
        ("rules = []", &came, "rules"),
        ("rules = [2, 3]", &came, "rules"),
        ("without_rules = [3, 1]", &came, "without_rules"),
        ("limit = \"login\"", &came, "limit"),
        ("upstream = \"http://127.0.0.1:3001\"", &forwarded, ""),
        ("rules = []", &forwarded, ""),
        ("status = 200", &forwarded, "status"),
        ("upstream = \"\"", &forwarded, "upstream"),
        ("upstream = \"http://127.0.0.1:3002\"", &forwarded, "upstream"),
        ("route = \"\"", &forwarded, "route"),
    ] {
        let text = format!("[[requests]]\nurl = \"http://shop.example\"\nexpect = {{ {expect} }}\n");
        let read =
            parse_expectations("t", &text, &policy()).unwrap_or_else(|faults| panic!("{}", told(&faults)));
        let misses = read.requests[0].expect.misses(came);
        let names: Vec<&str> = misses.iter().map(|miss| miss.what).collect();
        assert_eq!(names.join(" "), missed, "{expect}");
        assert!(misses.iter().all(|miss| miss.line == 3 && miss.expected != miss.came), "{misses:?}");
    }
}
