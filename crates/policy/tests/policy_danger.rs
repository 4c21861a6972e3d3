//! Which changes of a policy wait for a second pair of eyes: each setting in both directions, the ways around that were found, and the
//! promise itself, over random policies and requests.

use std::collections::BTreeMap;

use phalanx_policy::diff::{diff, lasting_exclusions};
use phalanx_policy::route::{Does, When};
use phalanx_policy::{App, ChallengeUse, Everywhere, Mode, Policy, RateAction, parse_policy};
use proptest::prelude::*;

#[cfg(test)]
fn policy(text: &str) -> Policy {
    parse_policy("policy.toml", text).unwrap_or_else(|faults| panic!("{text}\n{faults:?}")).0
}

/// What a policy may name: rules that can only refuse, and rules that do more.
#[cfg(test)]
fn files() -> BTreeMap<String, Vec<u8>> {
    let deny = "SecRule ARGS \"@rx evil\" \"id:1,phase:2,deny\"\n";
    let off = "SecAction \"id:2,phase:1,pass,ctl:ruleEngine=Off\"\n";
    [("own.conf", deny), ("more.conf", deny), ("off.conf", off), ("crs/a.conf", deny)]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into()
}

/// Why a change from one text to another waits; empty: it does not.
#[cfg(test)]
fn dangers(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (policy(old), policy(new));
    assert_eq!(diff(&new, &new, &files()).dangers, [], "a policy differs from itself in nothing");
    diff(&old, &new, &files()).dangers.into_iter().map(|danger| danger.why).collect()
}

const APP: &str = "[[apps]]\nname = \"shop\"\nhosts = [\"shop.example\"]\nupstream = \"https://10.0.0.7\"\n";

/// Both texts are added to a policy. The first protects more: from it to the second waits, and back does not.
#[cfg(test)]
fn looser(more: &str, less: &str) {
    let with = |text: &str| match text.strip_prefix("^") {
        Some(top) => format!("{top}\n{APP}"),
        None => format!("{APP}{text}\n"),
    };
    let (more, less) = (with(more), with(less));
    assert!(!dangers(&more, &less).is_empty(), "nothing is said of\n{more}->\n{less}");
    assert_eq!(dangers(&less, &more), [""; 0], "\n{less}->\n{more}");
}

/// Neither way is harmless.
#[cfg(test)]
fn unclear(one: &str, other: &str) {
    let with = |text: &str| match text.strip_prefix("^") {
        Some(top) => format!("{top}\n{APP}"),
        None => format!("{APP}{text}\n"),
    };
    let (one, other) = (with(one), with(other));
    assert!(!dangers(&one, &other).is_empty() && !dangers(&other, &one).is_empty(), "{one}{other}");
}

/// Both ways are.
#[cfg(test)]
fn harmless(one: &str, other: &str) {
    let with = |text: &str| format!("{APP}{text}\n");
    let (one, other) = (with(one), with(other));
    assert_eq!((dangers(&one, &other), dangers(&other, &one)), (vec![], vec![]), "{one}{other}");
}

#[test]
fn each_setting_of_protection_has_a_direction() {
    for (more, less) in [
        ("", "mode = \"observe\""),
        ("mode = \"observe\"", "mode = \"off\""),
        ("", "classes = { detection = \"observe\" }"),
        ("", "classes = { policy = \"off\" }"),
        ("", "classes = { protocol = \"observe\" }"),
        ("", "classes = { min_confidence = \"medium\" }"),
        ("", "on_error = \"allow\""),
        ("challenge = \"always\"", ""),
        ("extra_rules = [\"own.conf\"]", ""),
        ("extra_rules = [\"own.conf\", \"more.conf\"]", "extra_rules = [\"more.conf\"]"),
        ("rules = [\"crs\"]\nparanoia = 2", "rules = [\"crs\"]"),
        ("rules = [\"crs\"]\nraise_paranoia = 4", "rules = [\"crs\"]"),
        ("allow_networks = [\"10.0.0.0/8\"]", ""),
        ("allow_networks = [\"10.0.0.0/9\"]", "allow_networks = [\"10.0.0.0/8\"]"),
        ("deny_networks = [\"10.0.0.0/8\"]", ""),
        ("deny_networks = [\"10.0.0.0/8\"]", "deny_networks = [\"10.0.0.0/9\"]"),
        ("", "limits = { body = \"2 GiB\" }"),
        ("", "limits = { body_held = \"64 KiB\" }"),
        ("", "limits = { response_held = \"4 KiB\" }"),
        ("limits = { upstream_total = \"60s\" }", ""),
        ("", "trust_forwarded = [\"192.0.2.0/24\"]"),
        ("^allow = []", "^allow = [\"192.0.2.0/24\"]"),
        ("^operator_networks = []", "^operator_networks = [\"192.0.2.0/24\"]"),
        ("^[strikes]\ncount = 5", "^[strikes]\ncount = 6"),
        ("^[strikes]\nwindow = \"10m\"", "^[strikes]\nwindow = \"5m\""),
        ("^[strikes]\nfirst_ban = \"10m\"", "^[strikes]\nfirst_ban = \"5m\""),
        ("^[challenge]\npass = \"1h\"", "^[challenge]\npass = \"2h\""),
        ("^[challenge]\nwithout_scripts = false", "^[challenge]\nwithout_scripts = true"),
        ("^[throttle]\nrate = \"5/min\"", "^[throttle]\nrate = \"50/min\""),
        ("^[detection]\nmode = \"act\"", "^[detection]\nmode = \"observe\""),
        ("accounts = { learn = true }", "accounts = { learn = false }"),
    ] {
        looser(more, less);
    }
}

#[test]
fn each_setting_of_limits_and_exclusions_has_a_direction() {
    let limit = |more: &str| format!("[[apps.rate_limits]]\nname = \"login\"\nrate = \"5/min\"\n{more}");
    let exclusion = |more: &str| {
        format!("[[apps.exclusions]]\nrules = [942100]\nowner = \"ann\"\nreason = \"t\"\n{more}")
    };
    for (more, less) in [
        (limit("key = \"ip\""), String::new()),
        (limit("key = \"ip\""), limit("key = \"ip\"\naction = \"observe\"")),
        (limit("key = \"ip\"\nburst = 1"), limit("key = \"ip\"\nburst = 5")),
        (limit("key = \"ip\""), limit("key = \"ip\"\npaths = [\"/login\"]")),
        (limit("key = \"ip\""), limit("key = \"ip\"\nmethods = [\"POST\"]")),
        (limit("key = \"ip\"\nscope = \"fleet\""), limit("key = \"ip\"\nscope = \"node\"")),
        (String::new(), exclusion("until = \"never\"\ntarget = \"ARGS:q\"\npath = \"/a\"")),
        (String::new(), exclusion("until = 2030-01-01")),
        (String::new(), exclusion("until = 2030-01-01\ntarget = \"ARGS\"")),
        (
            exclusion("until = 2030-01-01\ntarget = \"ARGS:q\"\npath = \"/a\""),
            exclusion("until = 2031-01-01\ntarget = \"ARGS:q\"\npath = \"/a\""),
        ),
        (
            exclusion("until = 2030-01-01\ntarget = \"ARGS:q\"\npath = \"/a\""),
            exclusion("until = 2030-01-01\ntarget = \"ARGS:q\""),
        ),
    ] {
        looser(&more, &less);
    }
    harmless("", &exclusion("until = 2030-01-01\ntarget = \"ARGS:q\"\npath = \"/a\""));
    let by_tag = exclusion("").replace("rules = [942100]", "tags = [\"attack\"]");
    looser("", &format!("{by_tag}until = 2030-01-01\npath = \"/a\""));
    looser("", &format!("{by_tag}until = 2030-01-01\npath = \"/a\"\ntarget = \"ARGS\""));
    harmless("", &format!("{by_tag}until = 2030-01-01\npath = \"/a\"\ntarget = \"ARGS:q\""));
    let narrow = |ids: std::ops::Range<u64>, path: &str| {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        exclusion(&format!("until = 2030-01-01\ntarget = \"ARGS:q\"\npath = \"{path}\"\n"))
            .replace("942100", &ids.join(", "))
    };
    looser("", &narrow(942_100..942_111, "/a"));
    looser("", &narrow(949_110..949_111, "/a"));
    let two = |one: &str, other: &str| {
        format!("{}{}", narrow(942_100..942_106, one), narrow(941_100..941_106, other))
    };
    looser("", &two("/a", "/a/b"));
    harmless("", &two("/a", "/b"));
    unclear(&limit("key = \"ip\""), &limit("key = \"header:x-key\""));
    harmless(&limit("key = \"ip\"").replace("login", "signin"), &limit("key = \"ip\""));
}

#[test]
fn an_exemption_waits_when_it_comes_widens_or_lasts_longer() {
    let exemption = |networks: &str, until: &str| {
        format!(
            "^[[exemptions]]\nnetworks = [{networks}]\nowner = \"ann\"\nreason = \"t\"\nuntil = {until}\n"
        )
    };
    let one = exemption("\"192.0.2.0/25\"", "2030-01-01");
    looser("^", &one);
    looser(&one, &exemption("\"192.0.2.0/24\"", "2030-01-01"));
    looser(&one, &exemption("\"192.0.2.0/25\"", "2030-01-02"));
    looser(&one, &exemption("\"192.0.2.0/25\"", "\"never\""));
    looser(&exemption("\"192.0.2.0/25\"", "\"never\""), "^allow = [\"192.0.2.0/24\"]");
    let with = |text: &str| format!("{}\n{APP}", text.trim_start_matches('^'));
    let two = format!("{one}{}", with(&exemption("\"192.0.2.128/25\"", "2031-01-01")));
    for (old, new) in [
        (with("allow = [\"192.0.2.0/24\"]"), with(&exemption("\"192.0.2.0/25\"", "\"never\""))),
        (with(&one), with(&one.replace("owner = \"ann\"", "owner = \"bob\""))),
        (with(&two).replace(APP, "") + APP, with(&exemption("\"192.0.2.0/24\"", "2030-01-01"))),
    ] {
        assert_eq!(dangers(&old, &new), [""; 0], "\n{old}->\n{new}");
    }
    assert_eq!(dangers(APP, &with(&one)), ["192.0.2.0/25 is never refused for what it asks"]);
}

#[test]
fn what_is_done_beyond_passing_on_waits_where_it_could_open_something() {
    for (one, other) in [
        ("", "upstream_host = \"upstream\""),
        ("", "request_headers = { set = { X-User = \"root\" } }"),
        ("", "request_headers = { remove = [\"X-Internal\"] }"),
        ("", "response_headers = { set = { Access-Control-Allow-Origin = \"*\" } }"),
        ("client_certificate = { ca_file = \"a.pem\" }", "client_certificate = { ca_file = \"b.pem\" }"),
        ("", "client_certificate = { ca_file = \"a.pem\" }"),
        ("accounts = { session_cookies = [\"a\"] }", "accounts = { session_cookies = [\"b\"] }"),
        ("^cdn_networks = \"a.toml\"", "^cdn_networks = \"b.toml\""),
        ("^crawlers = \"a.toml\"", "^crawlers = \"b.toml\""),
        ("rules = [\"crs\"]", ""),
    ] {
        unclear(one, other);
    }
    unclear("^[playbooks]\nfiles = []", "^[playbooks]\nfiles = [\"own.toml\"]");
    for (one, other) in [
        ("", "pages = { refused = \"no.html\" }"),
        ("", "maintenance = { retry_after = \"1m\" }"),
        ("", "balance = \"round_robin\""),
        ("", "compression = {}"),
    ] {
        harmless(one, other);
    }
    looser("response_headers = { remove = [\"server\"] }", "");
}

#[test]
fn the_usual_changes_do_not_wait() {
    let blog = "[[apps]]\nname = \"blog\"\nhosts = [\"blog.example\"]\nupstream = \"http://10.0.0.8\"\n";
    let rest = "[[apps]]\nname = \"rest\"\nupstream = \"http://10.0.0.9\"\n";
    for (old, new) in [
        (APP.to_owned(), format!("{APP}{blog}")),
        (format!("{APP}{blog}"), APP.to_owned()),
        (APP.to_owned(), format!("{APP}extra_rules = [\"own.conf\"]\n")),
        (
            APP.to_owned(),
            APP.replace("upstream = ", "upstream = [\"https://10.0.0.8\", ").replace("7\"", "7\"]"),
        ),
        (APP.to_owned(), APP.replace("10.0.0.7", "10.0.0.70")),
        (APP.to_owned(), APP.replace("\"shop.example\"", "\"shop.example\", \"www.shop.example\"")),
        (
            APP.to_owned(),
            format!("{APP}[[apps.routes]]\npath = \"/admin\"\nallow_networks = [\"10.0.0.0/8\"]\n"),
        ),
        (APP.to_owned(), format!("{APP}[[apps.routes]]\npath = \"/gone\"\nreply = {{ status = 410 }}\n")),
        (
            APP.to_owned(),
            format!("{APP}[[apps.routes]]\npath = \"/old\"\nredirect = {{ to = \"/new{{rest}}\" }}\n"),
        ),
        (APP.to_owned(), APP.replace("name = \"shop\"", "name = \"store\"")),
        (format!("{APP}{rest}"), format!("{APP}{rest}{blog}")),
    ] {
        assert_eq!(dangers(&old, &new), [""; 0], "\n{old}->\n{new}");
    }
}

#[test]
fn an_exclusion_that_comes_lasts_for_a_year_at_most() {
    let app = |until: &str| {
        let text = format!(
            "{APP}[[apps.exclusions]]\nrules = [942100]\ntarget = \"ARGS:q\"\nowner = \"ann\"\nreason = \"t\"\nuntil = {until}\n"
        );
        Everywhere::from(policy(&text))
    };
    // 2029-12-01.
    let now_ms = 1_890_777_600_000;
    let none = Everywhere::from(policy(APP));
    for (old, new, waits) in [
        (&none, "2030-11-30", false),
        (&none, "2031-01-01", true),
        (&app("2999-12-31"), "2999-12-31", false),
        (&app("2999-12-31"), "2998-12-31", false),
        (&app("2031-01-01"), "2999-12-31", true),
    ] {
        assert_eq!(!lasting_exclusions(old, &app(new), now_ms).is_empty(), waits, "{new}");
    }
}

#[test]
fn redirects_stay_at_the_host_that_was_asked() {
    let route = |to: &str| {
        format!("{APP}[[apps.routes]]\npath = \"/old\"\nscheme = \"http\"\nredirect = {{ to = \"{to}\" }}\n")
    };
    for to in ["https://{host}{path}{query}", "https://{host}{query}", "https://{host}/new{rest}"] {
        assert_eq!(dangers(APP, &route(to)), [""; 0], "{to}");
    }
    for to in
        ["https://{host}{query}.evil.example/", "https://evil.example/", "https://{host}{rest}.evil.example/"]
    {
        assert!(!dangers(APP, &route(to)).is_empty(), "{to}");
    }
}

#[test]
fn what_a_route_does_leads_elsewhere_from_a_deeper_path() {
    let route = |path: &str, does: &str| format!("[[apps.routes]]\npath = \"{path}\"\n{does}\n");
    for (does, waits) in [
        ("rewrite = \"/public\"", true),
        ("redirect = { to = \"https://other.example{rest}\" }", true),
        ("redirect = { to = \"https://other.example/\" }", false),
        ("reply = { status = 410 }", false),
    ] {
        let old = format!("{APP}{}", route("/api", does));
        let new = format!("{old}{}", route("/api/v1", does));
        assert_eq!(!dangers(&old, &new).is_empty(), waits, "{does}: {:?}", dangers(&old, &new));
        assert_eq!(dangers(&old, &old), [""; 0]);
    }
}

#[test]
fn an_app_that_is_called_something_else_is_compared_by_its_hosts() {
    let renamed = APP.replace("name = \"shop\"", "name = \"store\"");
    let old = format!(
        "{APP}allow_networks = [\"10.0.0.0/8\"]\n[[apps.rate_limits]]\nname = \"a\"\nkey = \"ip\"\nrate = \"5/min\"\n"
    );
    let found = dangers(&old, &renamed);
    assert_eq!(
        found,
        ["the rate limit goes, other than in app shop", "every network may ask, other than in app shop"]
    );
    let split =
        format!("{APP}{}", renamed.replace("shop.example", "www.example")).replace("10.0.0.7", "10.0.0.7");
    let two =
        APP.replace("\"shop.example\"", "\"shop.example\", \"www.example\"") + "challenge = \"always\"\n";
    let found = dangers(&two, &split.replacen("upstream", "challenge = \"always\"\nupstream", 1));
    assert_eq!(found, ["clients are not challenged first, other than in app shop"]);
}

#[test]
fn an_app_that_takes_hosts_of_another_has_its_protection() {
    let rest =
        "[[apps]]\nname = \"rest\"\nupstream = \"http://10.0.0.9\"\nallow_networks = [\"10.0.0.0/8\"]\n";
    for (hosts, waits) in [("\"new.example\"", true), ("\"*.example\"", true)] {
        let new =
            format!("{rest}[[apps]]\nname = \"new\"\nhosts = [{hosts}]\nupstream = \"http://10.0.0.8\"\n");
        let found = dangers(rest, &new);
        assert_eq!(found == ["every network may ask, other than in app rest"], waits, "{found:?}");
        let protected = format!("{new}allow_networks = [\"10.1.0.0/16\"]\n");
        assert_eq!(dangers(rest, &protected), [""; 0]);
    }
    let below = "[[apps]]\nname = \"all\"\nhosts = [\"*.example\"]\nupstream = \"http://10.0.0.9\"\nchallenge = \"always\"\n";
    let one = format!(
        "{below}[[apps]]\nname = \"one\"\nhosts = [\"one.example\"]\nupstream = \"http://10.0.0.8\"\n"
    );
    assert_eq!(dangers(below, &one), ["clients are not challenged first, other than in app all"]);
    // TLS that is passed on goes before all that is opened.
    let passed = format!(
        "{below}[[apps]]\nname = \"tls\"\nhosts = [\"w.example\"]\nupstream = \"tcp://10.0.0.8:443\"\npassthrough = true\n"
    );
    assert!(dangers(below, &passed).iter().any(|why| why.starts_with("no request is seen")));
}

#[test]
fn a_new_app_has_what_all_begin_with() {
    let begins = "[[apps]]\nname = \"new\"\nhosts = [\"new.example\"]\nupstream = \"http://10.0.0.8\"\n";
    for (with, waits) in [
        ("", false),
        ("limits = { body = \"2 GiB\" }\n", false),
        ("request_headers = { set = { X-From = \"edge\" } }\n", false),
        ("upstream_host = \"upstream\"\n", false),
        ("mode = \"observe\"\n", true),
        ("on_error = \"allow\"\n", true),
        ("rules = [\"empty\"]\n", true),
        ("trust_forwarded = [\"192.0.2.0/24\"]\n", true),
        ("[[apps.routes]]\npath = \"/api\"\nmode = \"off\"\n", true),
        ("limits = { body_held = \"1 KiB\" }\n", true),
    ] {
        assert_eq!(!dangers(APP, &format!("{APP}{begins}{with}")).is_empty(), waits, "{with}");
    }
    let trusts = format!("{APP}trust_forwarded = [\"192.0.2.0/24\"]\n");
    let as_others = format!("{trusts}{begins}trust_forwarded = [\"192.0.2.0/25\"]\n");
    assert_eq!(dangers(&trusts, &as_others), [""; 0], "whom others believe it may believe");
}

#[test]
fn a_new_way_to_a_server_has_what_protects_it() {
    let inner = "[[apps]]\nname = \"inner\"\nhosts = [\"inner.example\"]\nupstream = \"http://10.0.0.5\"\nallow_networks = [\"10.0.0.0/8\"]\n";
    let door = "[[apps]]\nname = \"door\"\nhosts = [\"door.example\"]\nupstream = \"http://10.0.0.5\"\n";
    assert_eq!(dangers(inner, &format!("{inner}{door}")), ["every network may ask, other than in app inner"]);
    let here = inner.replace("10.0.0.5", "127.0.0.1:8080");
    for name in ["localhost:8080", "[::1]:8080"] {
        let door = door.replace("10.0.0.5", name);
        assert_eq!(
            dangers(&here, &format!("{here}{door}")),
            ["every network may ask, other than in app inner"]
        );
    }
    let route = format!("{APP}[[apps.routes]]\npath = \"/in\"\nupstream = \"http://10.0.0.5\"\n");
    let found = dangers(&format!("{inner}{APP}"), &format!("{inner}{route}"));
    assert!(found.contains(&"every network may ask, other than in app inner".to_owned()), "{found:?}");
    let two = "[[apps]]\nname = \"two\"\nhosts = [\"two.example\"]\nupstream = \"http://10.0.0.1\"\n[[apps.routes]]\nname = \"admin\"\npath = \"/admin\"\nupstream = \"http://10.0.0.2\"\nallow_networks = [\"10.0.0.0/8\"]\n";
    let side = format!("{two}[[apps.routes]]\npath = \"/side\"\nupstream = \"http://10.0.0.2\"\n");
    assert_eq!(dangers(two, &side), ["10.0.0.2:80 is protected more by other routes: every network may ask"]);
    let moved = two.replace("path = \"/admin\"", "path = \"/a\"");
    assert!(!dangers(two, &moved).is_empty());
    let prefix = APP.replace("10.0.0.7", "10.0.0.7/admin");
    assert_eq!(dangers(APP, &prefix), ["other paths of 10.0.0.7:443 are reached"]);
}

#[test]
fn a_route_is_compared_with_what_held_for_its_path() {
    let admin = |more: &str| {
        format!(
            "{APP}[[apps.routes]]\nname = \"admin\"\npath = \"/admin\"\nallow_networks = [\"10.0.0.0/8\"]\n{more}"
        )
    };
    let route = |text: &str| format!("[[apps.routes]]\nname = \"new\"\n{text}\n");
    for (more, expected) in [
        (route("path = \"/admin/public\""), Some("requests that met route admin: every network may ask")),
        (route("exact = \"/admin\""), Some("requests that met route admin: every network may ask")),
        (route("path = \"/admin/\""), Some("requests that met route admin: every network may ask")),
        (
            route("path = \"/admin/x\"\nmethods = [\"GET\"]"),
            Some("requests that met route admin: every network may ask"),
        ),
        (route("path = \"/admin/x\"\nallow_networks = [\"10.1.0.0/16\"]"), None),
        (route("path = \"/public\""), None),
        (route("path = \"/in\"\nrewrite = \"/admin\""), Some("other paths of the upstream are reached")),
    ] {
        let found = dangers(&admin(""), &admin(&more));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{more}");
    }
    let gone = "without this route every network may ask";
    assert_eq!(dangers(&admin(""), APP), [gone]);
    assert_eq!(dangers(&admin(""), &admin("methods = [\"GET\"]\n")), [gone]);
    assert_eq!(dangers(&admin("methods = [\"GET\"]\n"), &admin("")), [""; 0], "it holds for more");
    let case = admin("").replacen("upstream", "routes_ignore_case = true\nupstream", 1);
    assert!(dangers(&admin(""), &case)[0].contains("letters of paths compare in another way"));
}

#[test]
fn routes_of_one_path_are_compared_in_their_order() {
    let open = "[[apps.routes]]\nname = \"open\"\npath = \"/a\"\nmethods = [\"GET\"]\n";
    let strict = "[[apps.routes]]\nname = \"strict\"\npath = \"/a\"\nsuffix = \".php\"\nallow_networks = [\"10.0.0.0/8\"]\n";
    let put = strict.replace("suffix = \".php\"", "methods = [\"PUT\"]");
    let before = format!("{APP}{strict}{open}");
    assert_eq!(
        dangers(&before, &format!("{APP}{open}{strict}")),
        ["requests that met route strict: every network may ask"]
    );
    let (apart, turned) = (format!("{APP}{put}{open}"), format!("{APP}{open}{put}"));
    assert_eq!(dangers(&apart, &turned), [""; 0], "no request fits both");
}

#[test]
fn rules_of_another_app_are_read_for_what_they_do_here() {
    let with = |shop: &str| {
        format!(
            "{APP}{shop}[[apps]]\nname = \"b\"\nhosts = [\"b.example\"]\nupstream = \"http://10.0.0.8\"\nextra_rules = [\"off.conf\", \"own.conf\"]\n"
        )
    };
    assert_eq!(dangers(&with(""), &with("extra_rules = [\"own.conf\"]\n")), [""; 0]);
    for file in ["off.conf", "unknown.conf"] {
        let found = dangers(&with(""), &with(&format!("extra_rules = [\"{file}\"]\n")));
        assert_eq!(found, [format!("the rules of {file} may do more than refuse")]);
    }
    let two = |order: &str| format!("{APP}extra_rules = [{order}]\n");
    let turned = dangers(&two("\"own.conf\", \"more.conf\""), &two("\"more.conf\", \"own.conf\""));
    assert_eq!(turned, ["rules stand in another order"]);
}

/// What a policy does with a request, as far as its settings tell, found by the rules of the guide and not by those of the diff.
#[derive(Debug, PartialEq)]
struct Fate {
    /// An application may see it.
    passes: bool,
    mode: u8,
    challenged: bool,
    body_held: usize,
    /// Requests in an hour, by the strictest limit.
    rate: u64,
    /// The server, and the path that it is asked for.
    server: String,
    reached: String,
    /// Own rules that are read, in order.
    rules: Vec<String>,
    /// Whether a rule is run nowhere. One that does not run below a path is narrow.
    excluded: bool,
    /// What is done to header fields on the way.
    edits: String,
}

struct Asked {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    client: &'static str,
}

#[cfg(test)]
fn fate(policy: &Policy, asked: &Asked) -> Option<Fate> {
    let app = app_of(policy, asked.host)?;
    let mut routes: Vec<_> = app.routes.iter().filter(|route| fits(&route.when, asked)).collect();
    // The longest path; there, an exact one; then the order written.
    routes.sort_by_key(|route| (std::cmp::Reverse(route.when.segments().count()), !route.when.exact));
    let route = routes.first();
    let own = route.and_then(|route| route.own.as_deref());
    let networks = own.map_or(&app.networks, |own| &own.networks);
    let client: std::net::IpAddr = asked.client.parse().unwrap();
    let within = |list: &[phalanx_model::Prefix]| list.iter().any(|network| network.contains(&client));
    let may = (networks.allow.is_empty() || within(&networks.allow)) && !within(&networks.deny);
    let forwards = route.is_none_or(|route| matches!(route.does, Does::Forward { .. }));
    let limits = app.rate_limits.iter().filter(|limit| {
        limit.action == RateAction::Deny
            && (limit.methods.is_empty() || limit.methods.iter().any(|method| method == asked.method))
    });
    let rewrite = route.and_then(|route| match &route.does {
        Does::Forward { rewrite: Some(with) } => {
            let rest = asked.path.strip_prefix(route.when.path.trim_end_matches('/'));
            Some(format!("{}{}", with.trim_end_matches('/'), rest.unwrap_or_default()))
        }
        _ => None,
    });
    let upstreams = own.and_then(|own| own.upstreams.as_ref()).unwrap_or(&app.upstreams);
    let rules = own.map_or(&app.extra_rules, |own| &own.extra_rules);
    let handling = route.map_or(&app.handling, |route| &route.handling);
    Some(Fate {
        passes: may && forwards,
        server: format!("{upstreams:?}"),
        reached: rewrite.unwrap_or_else(|| asked.path.to_owned()),
        rules: rules.iter().map(|rule| rule.display().to_string()).collect(),
        excluded: app.exclusions.iter().any(|one| one.target.is_none() && one.path.is_none()),
        edits: format!("{:?}", handling.request_headers),
        mode: match own.map_or(app.mode, |own| own.mode) {
            Mode::Off => 0,
            Mode::Observe => 1,
            Mode::Block => 2,
        },
        challenged: own.map_or(app.challenge, |own| own.challenge) == ChallengeUse::Always,
        body_held: own.map_or(app.limits, |own| own.limits).body_held_bytes_max,
        rate: limits
            .map(|limit| u64::from(limit.rate.count) * 3_600_000 / limit.rate.period_ms)
            .min()
            .unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
fn app_of<'a>(policy: &'a Policy, host: &str) -> Option<&'a App> {
    let named = |name: &str| policy.apps.iter().find(|app| app.hosts.iter().any(|host| host == name));
    let below = || {
        let domains = std::iter::successors(host.split_once('.'), |(_, domain)| domain.split_once('.'));
        domains.into_iter().find_map(|(_, domain)| named(&format!("*.{domain}")))
    };
    named(host).or_else(below).or_else(|| policy.apps.iter().find(|app| app.hosts.is_empty()))
}

#[cfg(test)]
fn fits(when: &When, asked: &Asked) -> bool {
    let below = asked.path.strip_prefix(when.path.trim_end_matches('/'));
    let path = match when.exact {
        true => asked.path == when.path,
        false => below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    };
    let suffix = when.suffix.as_ref().is_none_or(|suffix| asked.path.ends_with(suffix.as_str()));
    path && suffix && (when.methods.is_empty() || when.methods.iter().any(|method| method == asked.method))
}

/// Settings that an app or a route may have.
#[cfg(test)]
fn settings() -> impl Strategy<Value = String> {
    let mode = prop_oneof![4 => Just(""), 1 => Just("mode = \"observe\"\n"), 1 => Just("mode = \"off\"\n")];
    let networks = prop_oneof![
        3 => Just(""),
        1 => Just("allow_networks = [\"10.0.0.0/8\"]\n"),
        1 => Just("allow_networks = [\"10.0.0.0/8\", \"192.0.2.0/24\"]\n"),
        1 => Just("deny_networks = [\"192.0.2.0/24\"]\n"),
    ];
    let challenge = prop_oneof![3 => Just(""), 1 => Just("challenge = \"always\"\n")];
    let held = prop_oneof![3 => Just(""), 1 => Just("limits = { body_held = \"16 KiB\" }\n")];
    let files = prop_oneof![
        5 => Just(""),
        1 => Just("extra_rules = [\"own.conf\"]\n"),
        1 => Just("extra_rules = [\"own.conf\", \"more.conf\"]\n"),
        1 => Just("extra_rules = [\"own.conf\", \"off.conf\"]\n"),
    ];
    let edits = prop_oneof![6 => Just(""), 1 => Just("request_headers = { set = { X-User = \"root\" } }\n")];
    (mode, networks, challenge, held, files, edits)
        .prop_map(|(a, b, c, d, e, f)| format!("{a}{b}{c}{d}{e}{f}"))
}

#[cfg(test)]
fn route() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        Just("path = \"/\""),
        Just("path = \"/a\""),
        Just("exact = \"/a\""),
        Just("path = \"/a/b\""),
        Just("path = \"/c\""),
    ];
    let more = prop_oneof![
        3 => Just(""),
        1 => Just("methods = [\"GET\"]\n"),
        1 => Just("methods = [\"POST\", \"GET\"]\n"),
        1 => Just("suffix = \".php\"\n"),
    ];
    let does = prop_oneof![
        5 => Just(""),
        1 => Just("reply = { status = 410 }\n"),
        1 => Just("rewrite = \"/b\"\n"),
        1 => Just("rewrite = \"/a\"\n"),
    ];
    (path, more, does, settings()).prop_map(|(path, more, does, settings)| {
        let settings = if does.starts_with("reply") { String::new() } else { settings };
        format!("[[apps.routes]]\n{path}\n{more}{does}{settings}")
    })
}

#[cfg(test)]
fn random_policy() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    let limit = prop_oneof![
        2 => Just(""),
        1 => Just("[[apps.rate_limits]]\nname = \"l\"\nkey = \"ip\"\nrate = \"5/min\"\n"),
        1 => Just("[[apps.rate_limits]]\nname = \"l\"\nkey = \"ip\"\nrate = \"9/min\"\nmethods = [\"POST\"]\n"),
    ];
    let hosts = prop::sample::select(vec![
        ("a", "hosts = [\"x.example\"]\n"),
        ("b", "hosts = [\"*.example\"]\n"),
        ("c", "hosts = [\"y.x.example\", \"z.test\"]\n"),
        ("d", ""),
    ]);
    let exclusion = prop_oneof![
        1 => Just(""),
        1 => Just("path = \"/a\"\n"),
        1 => Just("target = \"ARGS:q\"\n"),
        1 => Just("target = \"ARGS:q\"\npath = \"/a\"\n"),
    ]
    .prop_flat_map(|more| {
        let text = format!(
            "[[apps.exclusions]]\nrules = [942100]\nowner = \"ann\"\nreason = \"t\"\nuntil = 2030-01-01\n{more}"
        );
        prop_oneof![2 => Just(String::new()), 1 => Just(text)]
    });
    let after = (limit, exclusion).prop_map(|(limit, exclusion)| format!("{limit}{exclusion}"));
    let app = (hosts, 7_u8..9, settings(), after, prop::collection::vec(route(), 0..3));
    prop::collection::vec(app, 1..4).prop_map(|apps| {
        let mut texts = BTreeMap::new();
        for ((name, hosts), server, settings, limit, routes) in apps {
            let routes: String = routes.concat();
            let app = format!("[[apps]]\nname = \"{name}\"\n{hosts}upstream = \"http://10.0.0.{server}\"\n{settings}{limit}{routes}");
            texts.insert(name, app);
        }
        texts
    })
}

/// A policy, and one in which some of its apps are another's: of what has nothing in common hardly anything would be harmless.
#[cfg(test)]
fn two_policies() -> impl Strategy<Value = (String, String)> {
    (random_policy(), random_policy(), any::<u8>()).prop_map(|(old, mut other, which)| {
        for (at, (name, app)) in old.iter().enumerate() {
            if which & (1 << at) == 0 {
                other.insert(name, app.clone());
            }
        }
        let text = |apps: BTreeMap<_, String>| apps.into_values().collect::<String>();
        (text(old), text(other))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn what_is_said_to_be_harmless_lets_nobody_through_who_was_stopped((old, new) in two_policies()) {
        let (Ok((old, _)), Ok((new, _))) = (parse_policy("p.toml", &old), parse_policy("p.toml", &new)) else {
            return Ok(());
        };
        prop_assert_eq!(diff(&old, &old, &files()).dangers, vec![]);
        if !diff(&old, &new, &files()).dangers.is_empty() {
            return Ok(());
        }
        for host in ["x.example", "y.x.example", "w.example", "z.test", "other.test"] {
            for path in ["/", "/a", "/a/", "/a/b", "/a/b/c.php", "/a/x", "/c/d.php", "/e"] {
                for (method, client) in [("GET", "192.0.2.1"), ("POST", "10.0.0.1"), ("PUT", "198.51.100.1")] {
                    let asked = Asked { host, path, method, client };
                    let (Some(was), Some(is)) = (fate(&old, &asked), fate(&new, &asked)) else { continue };
                    if !is.passes {
                        continue;
                    }
                    prop_assert!(was.passes, "{} {} {} {}", host, path, method, client);
                    prop_assert!(is.mode >= was.mode && is.challenged >= was.challenged);
                    prop_assert!(is.body_held >= was.body_held && is.rate <= was.rate, "{:?} {:?}", was, is);
                    prop_assert!(was.excluded || !is.excluded, "{} {}", host, path);
                    // Where nothing is inspected, nothing is lost with a rule.
                    if was.mode > 0 {
                        let mut read = is.rules.iter();
                        prop_assert!(was.rules.iter().all(|rule| read.any(|other| other == rule)), "{:?} {:?}", was, is);
                        let more = is.rules.iter().any(|rule| rule == "off.conf" && !was.rules.contains(rule));
                        prop_assert!(!more, "{:?} {:?}", was, is);
                    }
                    if is.server == was.server {
                        prop_assert_eq!((&is.reached, &is.edits), (&was.reached, &was.edits), "{} {}", host, path);
                    }
                }
            }
        }
    }
}
