//! `phalanx check`: policies that say what hardly anybody means are told so, with line and help, and good ones are left alone.

use std::path::Path;

use serde_json::Value;

use crate::support::*;

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
    assert!(folders.len() >= 10, "{folders:?}");
    for folder in folders {
        let (is_good, found) = checked(&folder, &["--strict"]);
        assert!(is_good && found.is_empty(), "{}: {found:?}", folder.display());
    }
}

/// A fault in otherwise good settings.
struct Fault {
    file: &'static str,
    /// The line in whose place it stands begins so.
    at: &'static str,
    says: &'static str,
    /// What is to be said of it.
    told: &'static str,
}

const SETTINGS: &str = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:8080\"]\n[fleet]\nid = \"shop\"\nurl = \"nats://10.0.0.5:4222\"\n";
const POLICY: &str = r#"version = 1
allow = []
operator_networks = ["127.0.0.0/8"]
[strikes]
[detection]
[[apps]]
name = "shop"
upstream = "http://127.0.0.1:3000"
extra_rules = ["own.conf"]
mode = "block"
[apps.classes]
[apps.limits]
[[apps.rate_limits]]
name = "all"
key = "ip"
paths = ["/search", "/shop"]
rate = "60/m"
[apps.response_headers.set]
[[apps.routes]]
path = "/shop"
"#;
const RULES: &str = "SecRule ARGS:note \"@contains forbidden\" \"id:1001,phase:2,deny\"\n";

const FAULTS: [Fault; 41] = [
    policy("allow", "allow = [\"198.0.0.0/7\"]", "33554432 addresses (198.0.0.0/7) are never refused"),
    policy("allow", "allow = [\"0.0.0.0/0\"]", "holds every address: nothing is refused any more"),
    policy("allow", "allow = [\"2001:db8::/20\"]", "all addresses of 2001::/20 are never refused"),
    policy("operator_networks", "operator_networks = [\"198.51.0.0/15\"]", "are never banned"),
    policy("[strikes]", "[strikes]\ncount = 5\nwindow = \"2s\"", "most scanners are slower"),
    policy("[detection]", "[detection]\nmode = \"off\"", "seen by nobody"),
    policy("mode", "mode = \"observe\"", "attacks on `shop` are recorded and passed on"),
    policy("mode", "mode = \"off\"", "no rule looks at requests to `shop`"),
    policy("mode", "on_error = \"allow\"", "is passed on uninspected"),
    policy(
        "[apps.classes]",
        "[apps.classes]\ndetection = \"observe\"",
        "rules that look for them do not block",
    ),
    policy("[apps.classes]", "[apps.classes]\ndetection = \"off\"", "rules that look for them do not block"),
    policy("[apps.limits]", "[apps.limits]\nbody_held = \"4 KiB\"", "behind the first 4 KiB of a body"),
    policy("mode", "trust_forwarded = [\"0.0.0.0/0\"]", "any client can claim any address"),
    policy("mode", "trust_forwarded = [\"192.0.0.0/4\"]", "bans and limits are theirs to avoid"),
    policy("mode", "allow_networks = [\"0.0.0.0/1\", \"203.0.113.0/24\"]", "keeps hardly anybody out"),
    policy("mode", "allow_networks = [\"10.1.0.0/16\"]\ndeny_networks = [\"10.0.0.0/8\"]", "nobody may ask"),
    policy("upstream", "upstream = \"http://203.0.113.9:80\"", "it is a public address, without TLS"),
    policy("upstream", "upstream = \"https://203.0.113.9\"", "past all that protects it here"),
    policy(
        "mode",
        "accounts = { logins = [{ path = \"/enter\" }] }",
        "tried at /enter as fast as it answers",
    ),
    policy("rate", "rate = \"60/m\"\naction = \"observe\"", "`all` refuses nobody"),
    policy("key", "key = \"header:x-key\"", "clients choose what they are counted by"),
    policy(
        "rate",
        "rate = \"60/m\"\n[[apps.rate_limits]]\nname = \"search\"\nkey = \"ip\"\npaths = [\"/search\"]\nrate = \"100/m\"",
        "`search` is never reached: `all` admits no more",
    ),
    policy(
        "[apps.response_headers.set]",
        "[apps.response_headers.set]\nAccess-Control-Allow-Origin = \"*\"\nAccess-Control-Allow-Credentials = \"true\"",
        "pages of any site may ask in the name of whoever is logged in",
    ),
    policy("path =", "path = \"/wp-admin\"", "/wp-admin is for those who run the app, and open to everybody"),
    policy(
        "path =",
        "path = \"/shop\"\nmode = \"off\"\nheaders = { X-Internal = true }",
        "chooses less protection (`mode`)",
    ),
    policy("path =", "path = \"/\"\nmode = \"observe\"", "the route takes all requests"),
    policy(
        "path =",
        "path = \"/shop\"\nredirect = { to = \"http://shop.example{path}\" }",
        "a place without TLS",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\nowner = \"ann\"\nreason = \"ticket\"\nuntil = \"never\"",
        "no request is looked at by these rules any more",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = \"never\"",
        "these rules look at no argument any more",
    ),
    policy(
        "upstream",
        "upstream = \"https://10.0.0.9\"\nupstream_tls = { verify = false }",
        "whoever is between the node and the upstream can read and change everything",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = 2024-01-31",
        "an exclusion of app `shop` has ended",
    ),
    rules("SecRuleEngine DetectionOnly", "rules refuse nothing any more"),
    rules("SecRequestBodyAccess Off", "no rule sees what is sent in a body"),
    rules("SecRuleRemoveById 8510000-8519999", "rules 8510000 to 8519999 are removed"),
    rules("SecRuleRemoveByTag \"phalanx/attack\"", "all rules with the tag `phalanx/attack` are removed"),
    rules("SecRuleUpdateTargetByTag \"phalanx/attack\" \"!ARGS\"", "blind for all of ARGS"),
    rules(
        "SecRule REQUEST_HEADERS:User-Agent \"@contains monitor\" \"id:1002,phase:1,pass,nolog,ctl:ruleEngine=Off\"",
        "all rules are off for whoever sends what the rule looks for",
    ),
    rules("SecAction \"id:1002,phase:1,nolog,allow\"", "no later rule looks for all requests"),
    settings("address", "address = [\"0.0.0.0:8080\"]", "there is no listener with TLS"),
    settings("url", "url = \"nats://203.0.113.5:4222\"", "over 203.0.113.5:4222 can be read on its way"),
    settings("[fleet]", "[sandbox]\nfiles = false\n[fleet]", "may touch all that its user may"),
];

const fn policy(at: &'static str, says: &'static str, told: &'static str) -> Fault {
    Fault { file: "policy.toml", at, says, told }
}

const fn rules(says: &'static str, told: &'static str) -> Fault {
    Fault { file: "own.conf", at: "SecRule", says, told }
}

const fn settings(at: &'static str, says: &'static str, told: &'static str) -> Fault {
    Fault { file: "phalanx.toml", at, says, told }
}

#[test]
fn faults_that_are_no_mistakes_are_told_with_line_and_help() {
    for Fault { file, at, says, told } in &FAULTS {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = 0..0;
        for (name, text) in [("phalanx.toml", SETTINGS), ("policy.toml", POLICY), ("own.conf", RULES)] {
            let place = text.lines().position(|line| name == *file && line.starts_with(at));
            let text: Vec<&str> = text
                .lines()
                .enumerate()
                .map(|(line, text)| if Some(line) == place { says } else { text })
                .collect();
            std::fs::write(folder.path().join(name), text.join("\n") + "\n").unwrap();
            if let Some(place) = place {
                lines = place..place + says.lines().count();
            }
        }
        let (is_good, found) = checked(folder.path(), &[]);
        assert!(is_good, "{says}: {found:?}");
        let [one] = found.as_slice() else { panic!("{says}: {found:?}") };
        let message = one["message"].as_str().unwrap();
        assert!(message.contains(told), "{says}: {one}");
        assert!(one["file"].as_str().unwrap().ends_with(file), "{says}: {one}");
        // Where it stands, or the head of its table.
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        let head = text.lines().take(lines.start).collect::<Vec<_>>();
        let head = head.iter().rposition(|line| line.starts_with('['));
        let line = usize::try_from(one["line"].as_u64().unwrap()).unwrap();
        let is_there = line.checked_sub(1).is_some_and(|line| lines.contains(&line) || Some(line) == head);
        assert!(is_there, "{says}: {one}");
        let (is_good, _) = checked(folder.path(), &["--strict"]);
        assert!(!is_good, "{says}");
    }
}
