//! What changes between two policies, and which of it takes protection away.

use std::collections::BTreeMap;

use phalanx_policy::diff::{Change, Part, diff};
use phalanx_policy::{Policy, parse_policy};

#[cfg(test)]
fn policy(text: &str) -> Policy {
    parse_policy("policy.toml", text).unwrap().0
}

/// Files that policies name: one that refuses, and one that does more.
#[cfg(test)]
fn files() -> BTreeMap<String, Vec<u8>> {
    let deny = "SecRule ARGS \"@rx evil\" \"id:1,phase:2,deny\"\n";
    let off = "SecAction \"id:2,phase:1,pass,ctl:ruleEngine=Off\"\n";
    [("own.conf", deny), ("more.conf", deny), ("off.conf", off)]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into()
}

const OLD: &str = r#"
version = 3
allow = ["192.0.2.7", "192.0.2.8"]
[detection]
mode = "act"
[[apps]]
name = "shop"
hosts = ["a.example", "b.example"]
upstream = "http://127.0.0.1:3000"
rules = ["crs"]
paranoia = 2
raise_paranoia = 4
allow_networks = ["10.0.0.0/8"]
deny_networks = ["10.9.0.0/16"]
extra_rules = ["own.conf"]
[[apps.exclusions]]
rules = [942100]
target = "ARGS:q"
path = "/search"
owner = "ann"
reason = "ticket"
until = 2030-01-01
[[apps.rate_limits]]
name = "login"
key = "ip"
paths = ["/login"]
rate = "5/min"
[[apps.routes]]
name = "canary"
path = "/api"
headers = { X-Canary = true }
[[apps.routes]]
name = "api"
path = "/api"
methods = ["GET"]
[[apps.routes]]
name = "read"
path = "/files"
methods = ["GET"]
[[apps.routes]]
name = "write"
path = "/files"
methods = ["PUT"]
"#;

/// What differs from [`OLD`] when these texts stand in the place of others, with what is dangerous last.
fn changed(edits: &[(&str, &str)]) -> Vec<String> {
    compared(OLD, edits)
}

fn compared(old: &str, edits: &[(&str, &str)]) -> Vec<String> {
    let mut text = old.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let found = diff(&policy(old), &policy(&text), &files());
    let line = |change: &Change| {
        let value = |value: &Option<serde_json::Value>| match value {
            None => "-".to_owned(),
            Some(serde_json::Value::Object(_)) => "+".to_owned(),
            Some(value) => value.to_string(),
        };
        let (old, new) = (value(&change.old), value(&change.new));
        format!("{:?} {} {} {old} -> {new}", change.place.part, change.place.name, change.setting)
    };
    let dangers = found.dangers.iter().map(|danger| format!("! {}", danger.why));
    found.changes.iter().map(line).chain(dangers).collect()
}

#[test]
fn how_a_policy_is_written_is_no_change() {
    let again = [
        ("version = 3", "# a comment\nversion   = 3\n\n"),
        ("[\"192.0.2.7\", \"192.0.2.8\"]", "[\"192.0.2.8/32\", \"192.0.2.7\"]"),
        ("[\"a.example\", \"b.example\"]", "[\"B.example\", \"a.example\"]"),
        ("rate = \"5/min\"", "rate = \"5/60s\""),
    ];
    assert_eq!(changed(&again), Vec::<String>::new());
    let two = |first: &str, second: &str| {
        let app = |name: &str| {
            format!("[[apps]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\nupstream = \"http://{name}\"\n")
        };
        policy(&format!("{}{}", app(first), app(second)))
    };
    assert!(diff(&two("a", "b"), &two("b", "a"), &files()).changes.is_empty(), "the order of apps");
}

#[test]
fn each_change_is_told_with_both_values() {
    for (from, to, expected) in [
        ("version = 3", "version = 4", "Policy  version 3 -> 4"),
        (
            "owner = \"ann\"",
            "owner = \"bob\"",
            "Exclusion 942100 for ARGS:q at /search owner \"ann\" -> \"bob\"",
        ),
        (
            "\"b.example\"",
            "\"c.example\"",
            "App  hosts [\"a.example\",\"b.example\"] -> [\"a.example\",\"c.example\"]",
        ),
        ("rate = \"5/min\"", "rate = \"5/2min\"", "RateLimit login rate \"5/min\" -> \"5/2min\""),
        (
            "methods = [\"PUT\"]",
            "methods = [\"PUT\", \"POST\"]",
            "Route write when.methods [\"PUT\"] -> [\"POST\",\"PUT\"]",
        ),
        (
            "name = \"shop\"",
            "name = \"shop\"\nbalance = \"round_robin\"",
            "App  upstreams.balance \"least_requests\" -> \"round_robin\"",
        ),
    ] {
        let told = changed(&[(from, to)]);
        let changes: Vec<&String> = told.iter().filter(|line| !line.starts_with('!')).collect();
        assert_eq!(changes, [expected], "{to}");
    }
}

#[test]
fn what_takes_protection_away_is_marked() {
    let limit =
        "[[apps.rate_limits]]\nname = \"login\"\nkey = \"ip\"\npaths = [\"/login\"]\nrate = \"5/min\"\n";
    let app = |setting: &'static str| ("name = \"shop\"", format!("name = \"shop\"\n{setting}"));
    let to = |from: &'static str, to: &str| (from, to.to_owned());
    for ((from, to), expected) in [
        (app("mode = \"observe\""), "its rules refuse nothing"),
        (to("raise_paranoia = 4", "mode = \"off\""), "no rules look at requests"),
        (app("classes = { detection = \"observe\" }"), "rules of the class detection refuse nothing"),
        (app("classes = { min_confidence = \"high\" }"), "detections that are less sure refuse nothing"),
        (app("on_error = \"allow\""), "what cannot be inspected is let through"),
        (app("trust_forwarded = [\"10.0.0.0/8\"]"), "10.0.0.0/8 may claim any client address"),
        (app("limits = { body = \"2 GiB\" }"), "larger bodies are taken"),
        (app("limits = { body_held = \"64 KiB\" }"), "less of a body is inspected"),
        (to("paranoia = 2\n", ""), "fewer rules look at requests"),
        (to("raise_paranoia = 4\n", ""), "fewer rules are ready for an attack"),
        (
            to("mode = \"act\"", "mode = \"off\""),
            "attacks that show over many requests are not answered any more",
        ),
        (to("\"192.0.2.8\"]", "\"192.0.2.0/24\"]"), "192.0.2.0/24 is never refused for what it asks"),
        (to("allow_networks = [\"10.0.0.0/8\"]\n", ""), "every network may ask"),
        (to("\"10.0.0.0/8\"]", "\"10.0.0.0/8\", \"198.51.100.0/24\"]"), "198.51.100.0/24 may ask, too"),
        (to("deny_networks = [\"10.9.0.0/16\"]\n", ""), "10.9.0.0/16 is not kept out"),
        (
            to("deny_networks = [\"10.9.0.0/16\"]", "deny_networks = [\"10.9.0.0/17\"]"),
            "10.9.0.0/16 is not kept out",
        ),
        (to("extra_rules = [\"own.conf\"]\n", ""), "the rules of own.conf go"),
        (to("rate = \"5/min\"", "rate = \"5/min\"\naction = \"observe\""), "the rate limit refuses nothing"),
        (to("rate = \"5/min\"", "rate = \"5/30s\""), "clients may ask more often"),
        (to("paths = [\"/login\"]", "paths = [\"/signin\"]"), "/login is not counted"),
        (
            to("key = \"ip\"\npaths", "key = \"ip\"\nmethods = [\"POST\"]\npaths"),
            "it counts some requests only",
        ),
        (to(limit, ""), "the rate limit goes"),
        (to("until = 2030-01-01", "until = \"never\""), "the exclusion never ends"),
        (
            to("http://127.0.0.1:3000", "https://127.0.0.1:3000\"\nupstream_tls = { verify = false }\n#\""),
            "127.0.0.1:3000: the upstream's certificate is not looked at",
        ),
    ] {
        let told = changed(&[(from, &to)]);
        let dangers: Vec<&String> = told.iter().filter(|line| line.starts_with('!')).collect();
        assert_eq!(dangers, [&format!("! {expected}")], "{to}: {told:?}");
    }
}

#[test]
fn the_other_way_round_nothing_is_marked() {
    for (from, to) in [
        ("allow = [\"192.0.2.7\", \"192.0.2.8\"]\n", ""),
        ("\"10.0.0.0/8\"]", "\"10.0.0.0/9\", \"10.128.0.0/10\", \"10.192.0.0/10\"]"),
        ("deny_networks = [\"10.9.0.0/16\"]", "deny_networks = [\"10.9.0.0/17\", \"10.9.128.0/17\"]"),
        ("rate = \"5/min\"", "rate = \"50/h\""),
        ("paths = [\"/login\"]", "paths = [\"/login\", \"/signin\"]"),
        ("paranoia = 2", "paranoia = 3\n#"),
        ("until = 2030-01-01", "until = 2029-01-01"),
    ] {
        let told = changed(&[(from, to)]);
        assert!(!told.is_empty() && told.iter().all(|line| !line.starts_with('!')), "{to}: {told:?}");
    }
}

#[test]
fn a_wider_exclusion_is_told_from_a_narrower_one() {
    let wider = changed(&[("path = \"/search\"\n", "")]);
    assert_eq!(
        wider,
        [
            "Exclusion 942100 for ARGS:q  - -> +",
            "Exclusion 942100 for ARGS:q at /search  + -> -",
            "! it is wider than the one that goes: 942100 for ARGS:q at /search",
        ]
    );
    let member = changed(&[("target = \"ARGS:q\"", "target = \"ARGS\"")]);
    assert!(member.iter().any(|line| line.starts_with("! it is wider")), "{member:?}");
    let narrower = changed(&[("path = \"/search\"", "path = \"/search/all\"")]);
    assert!(narrower.iter().all(|line| !line.contains('!')) && narrower.len() == 2, "{narrower:?}");
    let whole = changed(&[("target = \"ARGS:q\"\npath = \"/search\"\n", "")]);
    assert!(whole.contains(&"! its rules look at nothing in the whole app".to_owned()), "{whole:?}");
}

#[test]
fn two_exclusions_about_the_same_are_both_compared() {
    let one = "[[apps.exclusions]]\nrules = [942100]\ntarget = \"ARGS:q\"\npath = \"/search\"\nowner = \"bob\"\nreason = \"other\"\nuntil = 2031-01-01\n";
    let both = OLD.replacen("[[apps.rate_limits]]", &format!("{one}[[apps.rate_limits]]"), 1);
    let told = compared(&both, &[("until = 2030-01-01", "until = 2029-12-01")]);
    assert_eq!(told.len(), 1, "{told:?}");
    let told = compared(&both, &[(one, "")]);
    assert_eq!(told, ["Exclusion 942100 for ARGS:q at /search (2)  + -> -"]);
}

#[test]
fn upstreams_are_told_one_by_one() {
    let told = changed(&[("http://127.0.0.1:3000", "http://127.0.0.1:3001")]);
    assert_eq!(told, ["Upstream http://127.0.0.1:3000  + -> -", "Upstream http://127.0.0.1:3001  - -> +"]);
}

#[test]
fn what_changes_for_a_route_with_its_app_is_said_of_the_app() {
    let of_app = changed(&[("name = \"shop\"", "name = \"shop\"\nmode = \"observe\"")]);
    assert_eq!(of_app, ["App  mode \"block\" -> \"observe\"", "! its rules refuse nothing"]);
    let own = "name = \"read\"\npath = \"/files\"\n";
    let of_route = changed(&[(own, &format!("{own}mode = \"off\"\n"))]);
    assert_eq!(
        of_route,
        [
            "Route read mode \"block\" -> \"off\"",
            "Route read raise_paranoia 4 -> -",
            "! no rules look at requests"
        ]
    );
    let moved = changed(&[(own, &format!("{own}upstream = \"http://10.0.0.7\"\n"))]);
    assert_eq!(moved, ["Upstream http://10.0.0.7:80  - -> +"]);
}

#[test]
fn a_route_that_protects_more_than_its_app_is_missed_when_it_goes() {
    let admin = "[[apps.routes]]\nname = \"admin\"\npath = \"/admin\"\nallow_networks = [\"10.1.0.0/16\"]\n";
    let told = compared(&format!("{OLD}{admin}"), &[(admin, "")]);
    assert_eq!(told, ["Route admin  + -> -", "! without this route 10.0.0.0/8 may ask, too"]);
    let open =
        "[[apps.routes]]\nname = \"open\"\npath = \"/open\"\nallow_networks = []\nmode = \"observe\"\n";
    let told = compared(OLD, &[("methods = [\"PUT\"]\n", &format!("methods = [\"PUT\"]\n{open}"))]);
    assert_eq!(told, ["Route open  - -> +", "! its rules refuse nothing", "! every network may ask"]);
}

#[test]
fn the_order_of_routes_counts_where_a_request_fits_both() {
    let (canary, api) = (
        "[[apps.routes]]\nname = \"canary\"\npath = \"/api\"\nheaders = { X-Canary = true }\n",
        "[[apps.routes]]\nname = \"api\"\npath = \"/api\"\nmethods = [\"GET\"]\n",
    );
    let swapped = changed(&[(&format!("{canary}{api}"), &format!("{api}{canary}"))]);
    assert_eq!(
        swapped,
        ["RouteOrder /api order [\"canary\",\"api\"] -> [\"api\",\"canary\"]"],
        "both protect alike"
    );
    let (read, write) = (
        "[[apps.routes]]\nname = \"read\"\npath = \"/files\"\nmethods = [\"GET\"]\n",
        "[[apps.routes]]\nname = \"write\"\npath = \"/files\"\nmethods = [\"PUT\"]\n",
    );
    let apart = changed(&[(&format!("{read}{write}"), &format!("{write}{read}"))]);
    assert_eq!(apart, Vec::<String>::new(), "no request fits both");
    let moved = changed(&[(api, ""), (read, &format!("{read}{api}"))]);
    assert_eq!(moved, Vec::<String>::new(), "longer paths go first wherever they stand");
}

#[test]
fn an_app_that_comes_or_goes_is_one_change() {
    let other = "[[apps]]\nname = \"blog\"\nhosts = [\"blog.example\"]\nupstream = \"http://h\"\nmode = \"off\"\n[[apps.routes]]\npath = \"/x\"\n";
    let both = policy(&format!("{OLD}{other}"));
    let comes = diff(&policy(OLD), &both, &files());
    assert_eq!(comes.changes.len(), 1, "{:?}", comes.changes);
    assert_eq!((comes.changes[0].place.part, comes.changes[0].old.is_none()), (Part::App, true));
    assert_eq!(comes.dangers[0].why, "no rules look at requests");
    let goes = diff(&both, &policy(OLD), &files());
    assert_eq!((goes.changes.len(), goes.changes[0].new.is_none()), (1, true));
}
