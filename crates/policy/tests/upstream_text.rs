//! Upstreams in policy files: what is read, and what is said about mistakes.

use phalanx_policy::{Balance, Diagnostic, OriginTls, Protocol, Upstreams, parse_policy};

fn told(faults: &[Diagnostic]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[cfg(test)]
fn read(app: &str) -> Upstreams {
    let text = format!("[[apps]]\nname = 'shop'\n{app}");
    let (mut policy, _) = parse_policy("p", &text).expect("a good policy");
    policy.apps.remove(0).upstreams
}

#[test]
fn one_url_is_one_server_with_the_defaults() {
    let upstreams = read("upstream = 'http://127.0.0.1:3000/base'");
    assert_eq!(upstreams.servers.len(), 1);
    insta::assert_debug_snapshot!(upstreams);
}

#[test]
fn a_list_of_urls_and_tables_is_read() {
    let list =
        read("upstreams = ['http://10.0.0.1', 'unix:/run/app.sock', { url = 'http://b.test', weight = 3 }]");
    let places: Vec<String> = list.servers.iter().map(|server| server.upstream.to_string()).collect();
    assert_eq!(places, ["http://10.0.0.1:80", "unix:/run/app.sock", "http://b.test:80"]);
    assert_eq!(list.servers.iter().map(|server| server.weight).collect::<Vec<_>>(), [1, 1, 3]);
    assert_eq!(list.to_string(), "http://10.0.0.1:80, unix:/run/app.sock, http://b.test:80");
}

#[test]
fn everything_that_can_be_said_is_read() {
    let text = r#"
balance = "hash_cookie:cart"
limits = { upstream_head = "20s", upstream_gap = "5s", upstream_total = "1m" }
health = { failures = 3, eject = "1s", max_eject = "1m", max_ejected = "30%", error_rate = "40%", slow_start = "20s", path = "/up?a=b",
    host = "shop.test:80", interval = "1s", timeout = "500ms", status = "204", down_after = 2, up_after = 5, when_all_down = "refuse" }
retries = { attempts = 1, budget = "10%", budget_least = 0, on = ["timeout", "503"] }
queue = { requests = 5, wait = "200ms" }
[[apps.upstream]]
url = "http://10.0.0.1:3000"
weight = 9
max_requests = 100
[[apps.upstream]]
url = "http://10.0.0.2:3000"
backup = true
"#;
    let upstreams = read(text);
    assert_eq!(upstreams.balance, Balance::HashCookie("cart".into()));
    insta::assert_debug_snapshot!(upstreams);
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let text = r#"[[apps]]
name = "a"
balance = "least"
health = { failures = 5000, eject = "1h", max_eject = "1m", max_ejected = "0%", path = "up", status = "2xx", host = "a b" }
retries = { attempts = 99, on = ["404", "often"] }
queue = { requests = 1000000 }
[[apps.upstream]]
url = "http://10.0.0.1:3000"
weight = 0
backup = true
[[apps.upstream]]
url = "http://10.0.0.1:3000/other"
wait = 5
backup = true
[[apps.upstream]]
weight = 5

[[apps]]
name = "b"
hosts = ["b.test"]
upstreams = [
  "http://10.0.0.1",
  "10.0.0.2",
  7,
]
health = { interval = "5s" }

[[apps]]
name = "c"
hosts = ["c.test"]
upstreams = []

[[apps]]
name = "d"
hosts = ["d.test"]
upstream = 5

[[apps]]
name = "e"
hosts = ["e.test"]
upstream = "http://10.0.0.1"
balance = "round_robin"
"#;
    insta::assert_snapshot!(told(&parse_policy("p", text).unwrap_err()));
}

#[test]
fn protocol_and_tls_are_the_apps_unless_an_upstream_has_its_own() {
    let pin = "ab".repeat(32);
    let text = format!(
        r#"
sticky_cookie = "node"
upstream_protocol = "auto"
upstream_tls = {{ ca_file = "ca.pem", server_name = "Shop.internal", client_certificate = "edge" }}
upstreams = [
  "https://10.0.0.1",
  {{ url = "https://10.0.0.2", tls = {{ pins = ["{pin}"] }} }},
  {{ url = "http://10.0.0.3", protocol = "http2" }},
]
"#
    );
    let upstreams = read(&text);
    assert_eq!(upstreams.sticky.as_deref(), Some("node"));
    let tls = |place: usize| upstreams.servers[place].tls.clone();
    let of_app = OriginTls {
        server_name: Some("shop.internal".into()),
        ca_file: Some("ca.pem".into()),
        client_certificate: Some("edge".into()),
        ..OriginTls::default()
    };
    assert_eq!(tls(0), Some(of_app));
    assert_eq!(tls(1), Some(OriginTls { pins: vec![[0xab; 32]], ..OriginTls::default() }));
    assert_eq!(tls(2), None);
    let protocols: Vec<Protocol> = upstreams.servers.iter().map(|server| server.protocol).collect();
    assert_eq!(protocols, [Protocol::Auto, Protocol::Auto, Protocol::Http2]);
}

#[test]
fn mistakes_about_tls_are_told_with_their_lines() {
    let text = r#"[[apps]]
name = "a"
sticky_cookie = "a b"
upstream_protocol = "http3"
[[apps.upstream]]
url = "http://10.0.0.1:3000"
tls = { server_name = "a.test" }
[[apps.upstream]]
url = "https://10.0.0.2:3000"
[apps.upstream.tls]
server_name = "a.test:443"
pins = ["sha256/abc"]
verify = false
"#;
    insta::assert_snapshot!(told(&parse_policy("p", text).unwrap_err()));
}
