//! Clients that are challenged, and such that are slowed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_decide::{ChallengeRules, DecidePlan, Mode, ThrottleRules};
use phalanx_edge::challenge::sealed::{Bound, Pass, Task};
use phalanx_edge::{AppPlan, EdgePlan};
use phalanx_model::limits::{CHALLENGE_OPEN_MS, PASS_REQUESTS_BURST};
use phalanx_model::{Action, Actor, ChallengeStep, Clock, DecisionKind, Reason, SystemClock};
use phalanx_trust::PassKeys;

use crate::http2::Http2;
use crate::support::{Answer, Node, Upstream};

const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0";
const BOUND: Bound<'_> = Bound { app: b"shop", agent: AGENT.as_bytes(), ciphers: b"" };
/// Little work, for tests.
const BITS: u8 = 8;

fn keys() -> PassKeys {
    PassKeys::of_secret(&[7; 32])
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// A node that knows the keys and asks for little, whose clients stand behind a trusted forwarder.
async fn node(change: impl FnOnce(&mut AppPlan)) -> Node {
    let decide = DecidePlan {
        challenge: ChallengeRules { bits: BITS, ..ChallengeRules::default() },
        throttle: ThrottleRules::new(2, 60_000, 2),
        ..DecidePlan::default()
    };
    let change = |settings: &mut phalanx_edge::EdgeSettings, app: &mut AppPlan| {
        settings.pass_keys = keys();
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        change(app);
    };
    Node::before(Upstream::start().await, change, decide)
}

fn ip(text: &str) -> Actor {
    Actor::ip(text.parse().unwrap())
}

/// One request of a client on a connection of its own; `fields` end with CRLF each.
async fn ask(node: &Node, client: &str, request: &str, fields: &str) -> Answer {
    let mut connection = node.connect().await;
    let head = format!(
        "{request} HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: {client}\r\nUser-Agent: {AGENT}\r\n{fields}\r\n"
    );
    connection.send(head).await;
    connection.answer_to(request.starts_with("HEAD")).await
}

/// What a page says of its task.
fn said(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("data-{name}=\"")).unwrap_or_else(|| panic!("{page}"));
    rest.split('"').next().unwrap().to_owned()
}

fn solve(text: &str) -> String {
    let task = Task::open(text.as_bytes(), &keys(), &BOUND).unwrap();
    (0u64..).map(|n| n.to_string()).find(|n| task.is_solved_by(text.as_bytes(), n.as_bytes())).unwrap()
}

/// The pass that an answer brings, as a cookie field.
fn cookie(answer: &Answer) -> Option<String> {
    let set = answer.header("set-cookie")?;
    Some(format!("Cookie: a=b; {}\r\n", set.split(';').next().unwrap()))
}

fn pass(pass: &Pass, keys: &PassKeys, bound: &Bound<'_>) -> String {
    format!("Cookie: phalanx_pass={}\r\n", pass.seal(keys, bound).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_under_a_challenge_works_and_gets_what_it_asked_for() {
    let mut node = node(|_| ()).await;
    node.order(DecisionKind::Challenge, ip("192.0.2.1"));
    let page = ask(&node, "192.0.2.1", "GET /head?q=%3C", "Accept-Language: de\r\n").await;
    assert_eq!(page.head.status, 403);
    assert_eq!(page.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(page.header("content-language").as_deref(), Some("de"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert_eq!(said(&page.text(), "to"), "/head?q=%3C");
    let (event, ..) = node.security_request().await;
    assert_eq!((event.challenge, event.verdict.action), (Some(ChallengeStep::Given), Action::Challenge));
    assert!(matches!(event.verdict.reason, Reason::Decision { .. }));

    let task = said(&page.text(), "task");
    let answer =
        format!("GET /.phalanx/challenge?task={task}&answer={}&to=%2Fhead%3Fq%3D%253C", solve(&task));
    let back = ask(&node, "192.0.2.1", &answer, "").await;
    assert_eq!((back.head.status, back.header("location").as_deref()), (303, Some("/head?q=%3C")));
    let set = back.header("set-cookie").unwrap();
    assert!(set.ends_with("; Path=/; Max-Age=3599; HttpOnly; SameSite=Lax") || set.contains("Max-Age=3600"));
    assert_eq!(node.access().await.challenge, Some(ChallengeStep::Solved));

    let passed = ask(&node, "192.0.2.1", "GET /head?q=%3C", &cookie(&back).unwrap()).await;
    assert_eq!(passed.head.status, 200);
    assert_eq!(node.access().await.challenge, Some(ChallengeStep::Passed));
    assert_eq!(node.upstream.state.requests.load(Ordering::Relaxed), 1);
    let apps =
        |step: ChallengeStep| node.count(|counters| &counters.apps.of(0).unwrap().challenges[step as usize]);
    assert_eq!(ChallengeStep::ALL.map(apps), [1, 1, 0, 0, 1, 0, 0]);
    assert_eq!(ask(&node, "192.0.2.2", "GET /", "").await.head.status, 200, "others are not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_are_refused_that_are_forged_or_over_or_anothers() {
    let mut node = node(|_| ()).await;
    node.order(DecisionKind::Challenge, ip("192.0.2.1"));
    let good = Pass { id: 1, until_ms: now_ms() + 60_000 };
    let over = Pass { id: 2, until_ms: now_ms() };
    let task = Task::new(now_ms(), BITS, 5).seal(&keys(), &BOUND).unwrap();
    let altered = pass(&good, &keys(), &BOUND);
    let (head, tail) = altered.split_at(altered.len() - 9);
    let altered =
        if tail.starts_with('A') { tail.replacen('A', "B", 1) } else { format!("A{}", tail.split_at(1).1) };
    let altered = format!("{head}{altered}");
    for (what, cookie) in [
        ("signed with another key", pass(&good, &PassKeys::random(), &BOUND)),
        ("of another app", pass(&good, &keys(), &Bound { app: b"forum", ..BOUND })),
        ("of another client", pass(&good, &keys(), &Bound { agent: b"curl", ..BOUND })),
        ("of a client with TLS", pass(&good, &keys(), &Bound { ciphers: b"8daaf6152771", ..BOUND })),
        ("over", pass(&over, &keys(), &BOUND)),
        ("altered", altered),
        ("a task", format!("Cookie: phalanx_pass={task}\r\n")),
        ("nothing like it", "Cookie: phalanx_pass=1\r\n".to_owned()),
    ] {
        let answer = ask(&node, "192.0.2.1", "GET /", &cookie).await;
        assert_eq!(answer.head.status, 403, "{what}");
        let (event, ..) = node.security_request().await;
        assert_eq!(event.challenge, Some(ChallengeStep::Refused), "{what}");
    }
    assert_eq!(ask(&node, "192.0.2.1", "GET /", &pass(&good, &keys(), &BOUND)).await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_refused_that_are_wrong_or_late_or_anothers_or_a_second_one() {
    let mut node = node(|_| ()).await;
    let of = |issued_ms: u64, keys: &PassKeys, bound: &Bound<'_>| {
        Task::new(issued_ms, BITS, 5).seal(keys, bound).unwrap()
    };
    let (fresh, now) = (of(now_ms(), &keys(), &BOUND), now_ms());
    let late = of(now - CHALLENGE_OPEN_MS, &keys(), &BOUND);
    let hard = Task::new(now, 60, 5).seal(&keys(), &BOUND).unwrap();
    for (what, task, answer) in [
        ("no task", "", "1".to_owned()),
        ("late", &late, solve(&late)),
        ("of the future", &of(now + 60_000, &keys(), &BOUND), "1".to_owned()),
        ("of another key", &of(now, &PassKeys::random(), &BOUND), "1".to_owned()),
        ("of another client", &of(now, &keys(), &Bound { agent: b"curl", ..BOUND }), "1".to_owned()),
        ("too little work", &hard, "1".to_owned()),
        ("too much", &fresh, "0".repeat(1_000)),
    ] {
        let asked = format!("GET /.phalanx/challenge?task={task}&answer={answer}&to=/x");
        let back = ask(&node, "192.0.2.1", &asked, "").await;
        assert_eq!((back.head.status, back.header("location").as_deref()), (303, Some("/x")), "{what}");
        assert_eq!(cookie(&back), None, "{what}");
        assert_eq!(node.access().await.challenge, Some(ChallengeStep::Failed), "{what}");
    }
    let asked = format!("GET /.phalanx/challenge?task={fresh}&answer={}&to=//evil.test", solve(&fresh));
    let first = ask(&node, "192.0.2.1", &asked, "").await;
    assert!(cookie(&first).is_some() && first.header("location").as_deref() == Some("/"));
    assert_eq!(cookie(&ask(&node, "192.0.2.1", &asked, "").await), None, "spent");
    assert_eq!(node.upstream.state.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_feeds_no_botnet() {
    let node = node(|app| app.challenges = true).await;
    let borrowed = pass(&Pass { id: 1, until_ms: now_ms() + 60_000 }, &keys(), &BOUND);
    for n in 1..=8 {
        assert_eq!(ask(&node, &format!("192.0.{n}.1"), "GET /", &borrowed).await.head.status, 200);
    }
    for client in ["192.0.9.1", "2001:db8::1", "192.0.1.1"] {
        assert_eq!(ask(&node, client, "GET /", &borrowed).await.head.status, 403, "{client}");
    }
    let fast = pass(&Pass { id: 2, until_ms: now_ms() + 60_000 }, &keys(), &BOUND);
    let mut connection = node.connect().await;
    let mut slowed = None;
    for _ in 0..PASS_REQUESTS_BURST * 4 {
        connection
            .send(format!("GET / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 192.0.2.1\r\nUser-Agent: {AGENT}\r\n{fast}\r\n"))
            .await;
        let answer = connection.answer().await;
        if answer.head.status != 200 {
            slowed = Some(answer);
            break;
        }
    }
    let slowed = slowed.expect("it is never too fast");
    assert_eq!((slowed.head.status, slowed.header("retry-after").as_deref()), (429, Some("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_wins_over_a_pass_and_an_allow_over_a_challenge() {
    let node = node(|app| app.challenges = true).await;
    let good = pass(&Pass { id: 1, until_ms: now_ms() + 60_000 }, &keys(), &BOUND);
    assert_eq!(ask(&node, "192.0.2.1", "GET /", &good).await.head.status, 200);
    node.ban("192.0.2.1");
    let refused = ask(&node, "192.0.2.1", "GET /", &good).await;
    assert!(refused.head.status == 403 && refused.header("x-phalanx-challenge").is_none());
    let task = Task::new(now_ms(), BITS, 5).seal(&keys(), &BOUND).unwrap();
    let asked = format!("GET /.phalanx/challenge?task={task}&answer={}", solve(&task));
    assert_eq!(ask(&node, "192.0.2.1", &asked, "").await.head.status, 403, "who is banned answers nothing");
    node.order(DecisionKind::Allow, ip("192.0.2.1"));
    assert_eq!(ask(&node, "192.0.2.1", "GET /", "").await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_request_is_told_in_its_own_way() {
    let node = node(|app| app.challenges = true).await;
    for (what, request, fields, kind) in [
        ("a person", "GET /", "Accept: text/html\r\nSec-Fetch-Dest: document\r\n", "text/html"),
        ("anything", "GET /", "Accept: */*\r\n", "text/html"),
        ("a form", "POST /buy", "Content-Length: 0\r\nReferer: http://shop.test/cart\r\n", "text/html"),
        ("a program", "GET /", "Accept: application/json\r\n", "application/problem+json"),
        (
            "a script of the page",
            "GET /api",
            "Accept: */*\r\nSec-Fetch-Dest: empty\r\n",
            "application/problem+json",
        ),
        (
            "an image",
            "GET /a.png",
            "Accept: image/*\r\nSec-Fetch-Dest: image\r\n",
            "application/problem+json",
        ),
        (
            "a WebSocket",
            "GET /ws",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "application/problem+json",
        ),
        ("only the head", "HEAD /", "", "text/html"),
    ] {
        let answer = ask(&node, "192.0.2.1", request, fields).await;
        assert_eq!(answer.head.status, 403, "{what}");
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{what}");
        assert_eq!(answer.header("x-phalanx-challenge").as_deref(), Some("required"), "{what}");
        match what {
            "a form" => {
                assert!(answer.text().contains("was not passed on"));
                assert_eq!(said(&answer.text(), "to"), "/cart");
            }
            "only the head" => assert!(answer.body.is_empty()),
            "a program" => {
                assert!(answer.text().contains(r#""status":403"#) && answer.text().contains(r#""bits":8"#))
            }
            _ => {}
        }
    }
    let body = "x".repeat(100_000);
    let sent = format!("Content-Length: 100000\r\nConnection: close\r\n\r\n{body}");
    let answer = ask(&node, "192.0.2.1", "POST /upload", &sent).await;
    assert_eq!(answer.head.status, 403, "a body is not waited for");
    assert_eq!(node.upstream.state.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_it_is_the_same() {
    let node = Node::start(|settings, app| {
        settings.pass_keys = keys();
        settings.h2c = true;
        app.challenges = true;
    })
    .await;
    let mut client = Http2::to(&node).await;
    let page = client.get_with("/", "user-agent", AGENT).await;
    assert_eq!(page.status, 403);
    assert!(page.text().contains("data-task="));
    let good =
        Pass { id: 1, until_ms: now_ms() + 60_000 }.seal(&keys(), &Bound { agent: b"", ..BOUND }).unwrap();
    let good: &'static str = format!("phalanx_pass={good}").leak();
    assert_eq!(client.get_with("/", "cookie", good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_scripts_waits() {
    let node = node(|app| app.challenges = true).await;
    let waited = |issued_ms: u64| {
        let task = Task::new(issued_ms, BITS, 5).seal(&keys(), &BOUND).unwrap();
        format!("GET /.phalanx/challenge?task={task}&to=%2Fa")
    };
    let early = ask(&node, "192.0.2.1", &waited(now_ms()), "").await;
    assert_eq!(early.head.status, 403);
    assert!(early.text().contains("a little early") && said(&early.text(), "to") == "/a");
    for n in 0..6 {
        let back = ask(&node, "192.0.2.1", &waited(now_ms() - 5_000), "").await;
        assert_eq!(cookie(&back).is_some(), n < 5, "an address waits for a few only");
        if n == 0 {
            let set = back.header("set-cookie").unwrap();
            assert!(set.contains("Max-Age=89") || set.contains("Max-Age=900"), "{set}");
            let passed = ask(&node, "192.0.2.1", "GET /", &cookie(&back).unwrap()).await;
            assert_eq!(passed.head.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_never_reaches_an_upstream() {
    let node = node(|_| ()).await;
    for (request, status) in [
        ("GET /.phalanx/challenge", 303),
        ("HEAD /.phalanx/challenge", 303),
        ("GET http://shop.test/.phalanx/challenge?task=1", 303),
        ("POST /.phalanx/challenge", 405),
        ("GET /.phalanx/", 404),
        ("GET /.phalanx/other", 404),
    ] {
        let answer = ask(&node, "192.0.2.1", request, "Content-Length: 0\r\n").await;
        assert_eq!(answer.head.status, status, "{request}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{request}");
    }
    assert_eq!(node.upstream.state.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_observes_challenges_nobody_and_says_so() {
    let mut node = node(|app| (app.challenges, app.mode) = (true, Mode::Observe)).await;
    node.order(DecisionKind::Throttle, ip("192.0.2.2"));
    assert_eq!(ask(&node, "192.0.2.1", "GET /", "").await.head.status, 200);
    let (event, ..) = node.security_request().await;
    assert_eq!((event.verdict.action, event.verdict.reason), (Action::Observe, Reason::Challenge));
    for _ in 0..4 {
        assert_eq!(ask(&node, "192.0.2.2", "GET /", "").await.head.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_harder_for_who_fails() {
    let node = node(|app| app.challenges = true).await;
    let bits = async |client: &str| -> u8 {
        said(&ask(&node, client, "GET /", "").await.text(), "bits").parse().unwrap()
    };
    assert_eq!(bits("192.0.2.1").await, BITS);
    for _ in 0..8 {
        ask(&node, "192.0.2.1", "GET /.phalanx/challenge?answer=1", "").await;
    }
    assert_eq!((bits("192.0.2.1").await, bits("192.0.2.2").await), (BITS + 2, BITS));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_throttled_is_served_at_a_rate_and_told_when_to_come_back() {
    let mut node = node(|_| ()).await;
    node.order(DecisionKind::Throttle, ip("192.0.2.1"));
    for expected in [200, 200, 429, 429] {
        let answer = ask(&node, "192.0.2.1", "GET /", "").await;
        assert_eq!(answer.head.status, expected);
        assert_eq!(answer.header("retry-after").as_deref(), (expected == 429).then_some("30"));
    }
    let (event, ..) = node.security_request().await;
    assert_eq!((event.verdict.action, event.status), (Action::Throttle, 429));
    assert!(matches!(event.verdict.reason, Reason::Decision { .. }));
    assert_eq!(ask(&node, "192.0.2.2", "GET /", "").await.head.status, 200);
    // A reload keeps what was counted.
    let plan = node.plan.load();
    let (decide, apps) = (plan.decide.clone(), plan.apps().to_vec());
    node.plan.store(Arc::new(EdgePlan::new(2, decide, apps)));
    assert_eq!(ask(&node, "192.0.2.1", "GET /", "").await.head.status, 429);
}
