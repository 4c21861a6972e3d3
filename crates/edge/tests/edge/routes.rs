//! Routes over real sockets: what is answered here, what an upstream gets, and that all of it comes after protection.

use std::sync::Arc;

use phalanx_edge::EdgePlan;
use phalanx_model::{Action, FramingFault, Reason};
use phalanx_policy::parse_policy;
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// A node whose one app has this in its policy; `UPSTREAM` stands for its upstream.
pub(crate) async fn node(app: &str) -> Node {
    let node = Node::plain().await;
    set_policy(&node, app);
    node
}

/// The answer to a client that is banned. A worker that learns of the ban a moment later than the other cuts a connection that came
/// before it did.
pub(crate) async fn banned(node: &Node) -> Answer {
    node.ban("127.0.0.1");
    loop {
        let mut client = node.connect().await;
        let sent = client.stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        if sent.is_ok()
            && let Some(answer) = client.read_answer(false).await
        {
            return answer;
        }
    }
}

/// Gives the app other settings.
pub(crate) fn set_policy(node: &Node, app: &str) {
    let upstream = format!("http://{}", node.upstream.address);
    let text = format!(
        "operator_networks = []\n[[apps]]\nname = 'shop'\nupstream = '{upstream}'\n{}",
        app.replace("UPSTREAM", &upstream)
    );
    let (policy, _) = parse_policy("p.toml", &text).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut compiled = EdgePlan::compile(&policy, &Arc::default()).unwrap();
    compiled.plan.keep_upstreams(&node.plan.load());
    node.plan.store(Arc::new(compiled.plan));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_leads_where_policy_says_and_is_an_event() {
    let mut node = node(
        "mode = 'off'\n[[apps.routes]]\nname = 'old'\npath = '/old'\nredirect = { to = 'https://{host}/new{rest}{query}', status = 301 }\n",
    )
    .await;
    let mut client = node.connect().await;
    let answer = client.get("/old/a/../b%2f?q=1").await;
    assert_eq!(answer.head.status, 301);
    assert_eq!(answer.header("location").unwrap(), "https://shop.test/new/b%2F?q=1");
    assert_eq!(answer.header("content-length").unwrap(), "0");
    assert_eq!(answer.header("x-request-id").unwrap().len(), 26);
    let event = node.access().await;
    assert_eq!((event.status, event.route.as_deref(), event.upstream_us), (301, Some("old"), 0));
    assert_eq!((event.verdict.action, event.verdict.reason), (Action::Allow, Reason::Clean));
    // The connection goes on, and what meets no route goes to the upstream.
    assert_eq!(client.get("/older").await.text(), "hello");
    assert_eq!(node.access().await.route, None);
    // A body that nobody reads does not become the next request.
    client.send("POST /old HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /").await;
    assert_eq!(client.answer().await.header("connection").unwrap(), "close");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_policy_has_its_status_type_and_body() {
    let node = node(
        "mode = 'off'\n[[apps.routes]]\nexact = '/robots.txt'\nmethods = ['GET', 'HEAD']\nreply = { body = \"User-agent: *\\n\" }\n\
         [[apps.routes]]\npath = '/gone'\nreply = { status = 410, type = 'text/html', body = '<p>gone' }\n\
         [[apps.routes]]\npath = '/empty'\nreply = { status = 204 }\n",
    )
    .await;
    let mut client = node.connect().await;
    let answer = client.get("/robots.txt?x").await;
    assert_eq!((answer.head.status, answer.text().as_str()), (200, "User-agent: *\n"));
    assert_eq!(answer.header("content-type").unwrap(), "text/plain; charset=utf-8");
    client.send("HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer_to(true).await.header("content-length").unwrap(), "14");
    let answer = client.get("/gone/with").await;
    assert_eq!((answer.head.status, answer.text().as_str()), (410, "<p>gone"));
    let answer = client.get("/empty").await;
    assert_eq!((answer.head.status, answer.header("content-length")), (204, None));
    client.send("POST /robots.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "hello", "the route is for other methods");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_protected_like_a_page() {
    let mut node = node("[[apps.routes]]\npath = '/'\nredirect = { to = 'https://new.test{path}' }\n").await;
    let mut client = node.connect().await;
    let attack = "/?q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D1--%20";
    assert_eq!(client.get(attack).await.head.status, 403);
    let (event, signals, _) = node.security_request().await;
    assert!(event.verdict.refuses() && !signals.is_empty() && event.route.as_deref() == Some("/"));
    let answer = banned(&node).await;
    assert_eq!((answer.head.status, answer.header("location")), (403, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn during_maintenance_only_some_pass() {
    let page = "maintenance = { retry_after = '5m', allow = ['198.51.100.0/24'] }\ntrust_forwarded = ['127.0.0.0/8']\nmode = 'off'\n";
    let mut node = node(page).await;
    let mut client = node.connect().await;
    let answer = client.get("/").await;
    assert_eq!((answer.head.status, answer.header("retry-after").unwrap().as_str()), (503, "300"));
    assert_eq!(answer.header("cache-control").unwrap(), "no-store");
    assert!(answer.text().contains("maintenance"), "{}", answer.text());
    assert_eq!(node.access().await.status, 503);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "hello");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n").await;
    assert!(client.answer().await.text().starts_with("{\"error\":\"maintenance\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_gets_what_policy_makes_of_a_request() {
    let node = node(
        "mode = 'off'\nupstream_host = 'app.internal'\n\
         request_headers = { remove = ['X-Debug'], set = { X-Real = '{client} {scheme} {host}' } }\n\
         [[apps.routes]]\npath = '/api'\nrewrite = '/'\nrequest_headers = { add = { X-More = '{path}' } }\n\
         [[apps.routes]]\npath = '/v1'\nrewrite = '/head'\nupstream_host = 'upstream'\n",
    )
    .await;
    let mut client = node.connect().await;
    client.send("GET /api/head?q HTTP/1.1\r\nHost: Shop.test\r\nx_debug: 1\r\nX-REAL: spoofed\r\nX-Kept: 1\r\n\r\n").await;
    let seen = client.answer().await.text();
    assert!(seen.starts_with("GET /head?q HTTP/1.1\r\nHost: app.internal\r\nX-Kept: 1\r\n"), "{seen}");
    assert!(seen.contains("X-Real: 127.0.0.1 http shop.test\r\nX-More: /api/head\r\n"), "{seen}");
    assert!(seen.contains("X-Forwarded-Host: Shop.test\r\n") && !seen.contains("spoofed"), "{seen}");
    let seen = client.get("/v1").await.text();
    assert!(
        seen.starts_with(&format!("GET /head HTTP/1.1\r\nHost: {}\r\n", node.upstream.address)),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_its_own_protection_limits_and_upstreams() {
    let other = Upstream::start().await;
    let mut node = node(&format!(
        "[[apps.routes]]\npath = '/raw'\nmode = 'off'\nlimits = {{ body = '10 B' }}\n\
         [[apps.routes]]\npath = '/other'\nname = 'other'\nmode = 'observe'\nupstream = 'http://{}'\n",
        other.address
    ))
    .await;
    let mut client = node.connect().await;
    let attack = "?q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D1--%20";
    assert_eq!(client.get(&format!("/{attack}")).await.head.status, 403);
    assert_eq!(client.get(&format!("/raw{attack}")).await.head.status, 200);
    let before = node.upstream.state.requests.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(client.get(&format!("/other{attack}")).await.head.status, 200);
    assert_eq!(node.upstream.state.requests.load(std::sync::atomic::Ordering::Relaxed), before);
    let (_, observed) = (node.security_request().await, node.security_request().await);
    assert_eq!((observed.0.verdict.action, observed.0.route.as_deref()), (Action::Observe, Some("other")));
    client.send("POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 413);
    let plan = node.plan.load();
    let servers: Vec<(String, usize)> =
        plan.with_upstreams().map(|(app, route)| (route.to_owned(), app.upstreams.servers().len())).collect();
    assert_eq!(servers, [(String::new(), 1), ("other".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_could_be_read_past_a_route_is_refused_and_recorded() {
    let mut node = node(
        "mode = 'off'\n[[apps.routes]]\npath = '/admin'\nreply = { status = 404 }\n[[apps.routes]]\npath = '/public'\n",
    )
    .await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/public/%2e%2e/admin").await.head.status, 404);
    assert_eq!(client.get("/public/x%2fy").await.text(), "hello");
    let answer = client.get("/public/..%2fadmin").await;
    assert_eq!(answer.head.status, 400);
    let (event, _, faults) = node.security_request().await;
    assert_eq!(faults, [FramingFault::AmbiguousPath]);
    assert_eq!(event.verdict.reason, Reason::Framing { fault: FramingFault::AmbiguousPath });
    // Nothing is ambiguous where there is no route to miss.
    set_policy(&node, "mode = 'off'\n");
    assert_eq!(node.connect().await.get("/public/..%2fadmin").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_met_in_every_form() {
    let node = Node::plain().await;
    let upstream = format!("http://{}", node.upstream.address);
    let app = |name: &str, hosts: &str| {
        format!(
            "[[apps]]\nname = '{name}'\n{hosts}\nupstream = '{upstream}'\nmode = 'off'\nrequest_headers = {{ set = {{ X-App = '{name}' }} }}\n"
        )
    };
    let text = [
        app("exact", "hosts = ['www.shop.test', 'bücher.test', '[2001:db8::1]']"),
        app("below", "hosts = ['*.shop.test']"),
        app("deep", "hosts = ['*.eu.shop.test']"),
    ];
    let (policy, _) = parse_policy("p.toml", &text.concat()).unwrap();
    node.plan.store(Arc::new(EdgePlan::compile(&policy, &Arc::default()).unwrap().plan));
    let mut client = node.connect().await;
    for (host, expected) in [
        ("WWW.shop.test:8443", "exact"),
        ("www.shop.test.", "exact"),
        ("xn--bcher-kva.test", "exact"),
        ("[2001:DB8:0::1]:80", "exact"),
        ("a.shop.test", "below"),
        ("a.b.shop.test", "below"),
        ("x.eu.shop.test", "deep"),
        ("eu.shop.test", "below"),
    ] {
        client.send(format!("GET /head HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let seen = client.answer().await.text();
        assert!(seen.contains(&format!("X-App: {expected}\r\n")), "{host}: {seen}");
    }
    for host in ["shop.test", "other.test", "[2001:db8::2]", &format!("{}.shop.test", "a".repeat(300))] {
        client.send(format!("GET /head HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(client.answer().await.head.status, 421, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_of_apps_and_routes_outlive_a_change_of_policy() {
    let other = Upstream::start().await;
    let routes = format!(
        "mode = 'off'\n[[apps.routes]]\nname = 'other'\npath = '/other'\nupstream = 'http://{}'\n\
         [[apps.routes]]\npath = '/same'\nlimits = {{ body = '1 MiB' }}\n",
        other.address
    );
    let node = node(&routes).await;
    let mut client = node.connect().await;
    for path in ["/", "/other", "/same"] {
        assert_eq!(client.get(path).await.text(), "hello");
    }
    set_policy(&node, &routes);
    assert_eq!(client.get("/same").await.text(), "hello");
    let plan = node.plan.load();
    let requests: Vec<u64> =
        plan.with_upstreams().map(|(app, _)| app.upstreams.report().endpoints[0].requests).collect();
    assert_eq!(requests, [3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_by_pattern_is_met_before_the_app_and_its_reading_must_be_one() {
    let node = node(
        "mode = 'off'\n[[apps.routes]]\npath_pattern = '^/[^/]+[.]php$'\nreply = { status = 404 }\n\
         [[apps.routes]]\nname = 'users'\npath_pattern = '^/user/[0-9]+$'\nreply = { body = 'one' }\n",
    )
    .await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/index.php?a").await.head.status, 404);
    assert_eq!(client.get("/a/index.php").await.text(), "hello");
    assert_eq!(client.get("/user/12").await.text(), "one");
    assert_eq!(client.get("/user/x").await.text(), "hello");
    assert_eq!(client.get("/a%2findex.php").await.head.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_may_not_ask_are_refused_whatever_the_mode_is() {
    let mut node = node(
        "mode = 'observe'\ntrust_forwarded = ['127.0.0.0/8']\ndeny_networks = ['203.0.113.0/24']\n\
         [[apps.routes]]\npath = '/admin'\nallow_networks = ['198.51.100.0/24']\n\
         [[apps.routes]]\npath = '/open'\ndeny_networks = []\n",
    )
    .await;
    let mut client = node.connect().await;
    for (target, from, status) in [
        ("/", "198.51.100.1", 200),
        ("/", "203.0.113.9", 403),
        ("/admin/x", "198.51.100.1", 200),
        ("/admin/x", "192.0.2.1", 403),
        ("/admin", "203.0.113.9", 403),
        ("/open", "203.0.113.9", 200),
    ] {
        client
            .send(&format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: {from}\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.head.status, status, "{target} {from}");
    }
    let (event, _, _) = node.security_request().await;
    assert_eq!((event.verdict.action, event.verdict.reason), (Action::Deny, Reason::Network));
}
