//! Routes and what is done with responses: what is read, and what is said about mistakes.

use phalanx_policy::route::Does;
use phalanx_policy::{Level, Policy, parse_policy};

use crate::told;

fn read(app: &str) -> Policy {
    let text = format!("[[apps]]\nname = 'shop'\nupstream = 'http://127.0.0.1:1'\n{app}");
    parse_policy("conf/p.toml", &text).unwrap_or_else(|faults| panic!("{}", told(&faults))).0
}

#[test]
fn everything_that_routes_can_say_is_read() {
    let policy = read(
        r#"
hosts = ["*.Shop.example", "Bücher.example"]
maintenance = { retry_after = "90s", allow = ["10.0.0.0/8"] }
upstream_host = "upstream"
request_headers = { remove = ["X-Debug"], set = { X-Client = "{client}" } }
response_headers = { add = { X-Served = "by {{phalanx}}" } }
responses = { headers = "standard", hsts = { max_age = "730d", subdomains = true, preload = true }, cookies = "standard", cookies_except = ["theme"] }
pages = { refused = "refused.html", error = "/srv/error.html" }
security_txt = { contact = ["mailto:security@shop.example"], expires = 2027-06-01T00:00:00Z, preferred_languages = ["en", "de"] }
[[apps.routes]]
name = "old"
path = "/old"
methods = ["GET"]
headers = { X-Canary = true, X-None = false, X-Kind = "one" }
scheme = "http"
redirect = { to = "https://{host}{path}{query}", status = 301 }
[[apps.routes]]
exact = "/robots.txt"
reply = { type = "text/plain", file = "robots.txt" }
[[apps.routes]]
path = "/api/"
suffix = ".php"
rewrite = "/v2/"
mode = "observe"
paranoia = 2
limits = { body = "1 MiB" }
allow_networks = ["10.0.0.0/8"]
deny_networks = ["10.0.0.1"]
request_headers = { set = { X-Api = "1" } }
upstreams = ["http://10.0.0.1", "http://10.0.0.2"]
balance = "round_robin"
[[apps.routes]]
path_pattern = '\.(php|cgi)$'
reply = { status = 404 }
"#,
    );
    insta::assert_debug_snapshot!(policy.apps[0].routes);
    insta::assert_debug_snapshot!((
        &policy.apps[0].hosts,
        &policy.apps[0].handling,
        policy.apps[0].security_txt
    ));
}

#[test]
fn a_route_that_says_nothing_of_its_own_shares_what_its_app_says() {
    let policy = read("responses = { headers = 'standard' }\n[[apps.routes]]\npath = '/a'\n");
    let app = &policy.apps[0];
    assert!(std::sync::Arc::ptr_eq(&app.handling, &app.routes[0].handling));
    assert_eq!((&app.routes[0].own, &app.routes[0].does), (&None, &Does::Forward { rewrite: None }));
}

#[test]
fn mistakes_in_routes_are_told_with_their_lines() {
    let text = r#"[[apps]]
name = "a"
upstream = "http://127.0.0.1:1"
hosts = ["a.example", "*.b.example", "bücher.example"]
upstream_host = "http://x"
maintenance = { retry_after = "0s" }
request_headers = { set = { Host = "x", Content-Type = "a/b", X_Forwarded_For = "1", "bad name" = "x", X-Ok = "{nobody}" }, remove = ["Transfer-Encoding"] }
response_headers = { add = { Strict-Transport-Security = "max-age=1", X-Bad = "a\nb" } }
responses = { headers = "strict", hsts = { subdomains = true }, cookies_except = ["a"] }
security_txt = { contact = ["security@a.example"] }
[[apps.routes]]
[[apps.routes]]
path = "x"
exact = "/a//b"
[[apps.routes]]
path = "/a%20b"
redirect = { to = "/x/{rest}", status = 200 }
reply = { status = 204, body = "x" }
[[apps.routes]]
path = "/loop"
redirect = { to = "https://{host}{path}" }
[[apps.routes]]
path = "/away"
redirect = { to = "//evil.example" }
rewrite = "/x"
[[apps.routes]]
path = "/same"
[[apps.routes]]
path = "/same"
methods = ["get"]
[[apps.routes]]
name = "q"
path = "/q"
redirect = { to = "/x?a=1{query}" }
health = { failures = 1 }
[[apps.routes]]
name = "q"
exact = "/two"
reply = { body = "a", file = "b", status = 99, type = "text" }
scheme = "ftp"
[[apps.routes]]
path = "/r"
reply = { bodi = "x" }
upstream = "http://10.0.0.1"
[[apps.routes]]
path = "/p"
path_pattern = '^/p/(?!x)'
[[apps.routes]]
path_pattern = '(a|b)*a(a|b){20}'
allow_networks = ["10.0.0.0/33"]

[[apps]]
name = "b"
upstream = "http://127.0.0.1:1"
hosts = ["A.example.", "*.B.example", "xn--bcher-kva.example", "*.*.example"]
"#;
    insta::assert_snapshot!(told(&parse_policy("policy.toml", text).unwrap_err()));
}

#[test]
fn a_security_txt_is_told_of_before_it_expires_and_after() {
    let policy = read(
        "\n\nsecurity_txt = { contact = ['https://shop.example/report'], expires = 2027-06-01T00:00:00Z }\n",
    );
    let at = |days: i64| {
        let expires_s = 1_811_808_000_i64;
        let found = policy.due("p.toml", u64::try_from((expires_s - days * 86_400) * 1_000).unwrap());
        found.first().map(|found| (found.level, found.line))
    };
    assert_eq!(at(365), None);
    assert_eq!(at(30), None);
    assert_eq!(at(29), Some((Level::Warning, 6)));
    assert_eq!(at(0), Some((Level::Error, 6)));
    let Does::Reply(reply) = &policy.apps[0].routes[0].does else { panic!("a reply") };
    insta::assert_debug_snapshot!(reply);
}

#[test]
fn ten_thousand_routes_are_read_in_no_time() {
    let routes: String = (0..10_000)
        .map(|n| format!("[[apps.routes]]\nname = 'r{n}'\npath = '/p{n}'\nmode = 'off'\n"))
        .collect();
    assert_eq!(read(&routes).apps[0].routes.len(), 10_000);
}

#[test]
fn a_level_to_raise_to_is_above_what_holds_and_of_rules_that_have_levels() {
    let raised = |app: &str| {
        let policy = read(app);
        let app = &policy.apps[0];
        let of_routes = app.routes.iter().map(|route| route.own.as_ref().map(|own| own.raise_paranoia));
        (app.raise_paranoia, of_routes.collect::<Vec<_>>())
    };
    let crs = "rules = [\"crs\"]\n";
    assert_eq!(raised(crs), (None, vec![]));
    assert_eq!(raised(&format!("{crs}paranoia = 2\nraise_paranoia = 3")), (Some(3), vec![]));
    // A route has what its app has, unless it says otherwise or is as strict already.
    let routes = "[[apps.routes]]\npath = \"/a\"\n[[apps.routes]]\npath = \"/b\"\nparanoia = 3\n[[apps.routes]]\npath = \"/c\"\nraise_paranoia = 4\n\
                  [[apps.routes]]\npath = \"/d\"\nmode = \"off\"\n";
    let of_routes = vec![None, Some(None), Some(Some(4)), Some(None)];
    assert_eq!(raised(&format!("{crs}raise_paranoia = 3\n{routes}")), (Some(3), of_routes));
    let app = "[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\n";
    for (text, message, help) in [
        ("rules = [\"crs\"]\nraise_paranoia = 5", "`raise_paranoia` goes from 1 to 4, not 5", ""),
        ("rules = [\"crs\"]\nraise_paranoia = 1", "is 1, which is not above `paranoia`, 1", "from 2 to 4"),
        (
            "rules = [\"crs\"]\nparanoia = 4\nraise_paranoia = 4",
            "not above `paranoia`, 4",
            "lower `paranoia`",
        ),
        ("raise_paranoia = 3", "the baseline pack has no paranoia levels", "name the folder"),
        (
            "rules = [\"crs\"]\nmode = \"off\"\nraise_paranoia = 3",
            "no rules look at these requests",
            "`mode = ",
        ),
    ] {
        let told = told(&parse_policy("policy.toml", &format!("{app}{text}\n")).unwrap_err());
        let line = 3 + text.lines().count();
        assert!(told.contains(message) && told.contains(help), "{told}");
        assert!(told.contains(&format!("policy.toml:{line}")), "{told}");
    }
}
