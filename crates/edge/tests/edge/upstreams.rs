//! Several upstreams: which one gets a request, who is ejected and comes back, what is sent again, who waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use phalanx_decide::DecidePlan;
use phalanx_edge::{
    AppPlan, EdgePlan, EdgeSettings, EndpointReport, UpstreamGroup, UpstreamPlan, UpstreamState,
};
use phalanx_model::Reason;
use phalanx_policy::balance::{Balance, Check, Queue, WhenAllDown};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, Upstream, eventually};

/// An application that says its name, and fails as it is told.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) hits: Arc<AtomicU64>,
    does: Arc<AtomicU16>,
}

/// What an origin does with a request beside answering with this status.
const CLOSES: u16 = 1;
const BREAKS_OFF_HEAD: u16 = 2;
const IS_SILENT: u16 = 3;
const BREAKS_OFF_BODY: u16 = 4;

impl Origin {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), name)
    }

    pub(crate) fn at(listener: TcpListener, name: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let origin = Self { address, hits: Arc::default(), does: Arc::new(AtomicU16::new(200)) };
        let (hits, does) = (Arc::clone(&origin.hits), Arc::clone(&origin.does));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, name, Arc::clone(&hits), Arc::clone(&does)));
            }
        });
        origin
    }

    fn does(&self, what: u16) {
        self.does.store(what, Ordering::SeqCst);
    }

    fn plan(&self) -> UpstreamPlan {
        UpstreamPlan::new(&self.address.ip().to_string(), self.address.port(), "")
    }

    fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    name: &'static str,
    hits: Arc<AtomicU64>,
    does: Arc<AtomicU16>,
) {
    let mut input = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&input[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while input.len() < end + length {
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = String::from_utf8_lossy(&input[end..end + length]).into_owned();
        input.drain(..end + length);
        if !head.starts_with("GET /up ") {
            hits.fetch_add(1, Ordering::SeqCst);
        }
        let said = format!("{name}{body}");
        let reply = match does.load(Ordering::SeqCst) {
            CLOSES => return,
            BREAKS_OFF_HEAD => {
                let _ = stream.write_all(b"HTTP/1.1 200 O").await;
                return;
            }
            BREAKS_OFF_BODY => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
                return;
            }
            IS_SILENT => {
                let _ = stream.read_buf(&mut input).await;
                return;
            }
            status => format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{said}", said.len()),
        };
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An address that refuses connections until somebody listens there.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn group(origins: &[&Origin]) -> UpstreamGroup {
    let mut group = UpstreamGroup::new(origins.iter().map(|origin| origin.plan()).collect());
    // Tests look at one thing at a time.
    group.health.failures = 0;
    group.health.slow_start_ms = 0;
    group
}

async fn node(group: UpstreamGroup) -> Node {
    node_with(group, |_, _| ()).await
}

async fn node_with(group: UpstreamGroup, change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> Node {
    Node::start(|settings, app| {
        app.upstreams = group;
        change(settings, app);
    })
    .await
}

fn reports(node: &Node) -> Vec<EndpointReport> {
    node.plan.load().apps()[0].upstreams.report().endpoints
}

fn states(node: &Node) -> Vec<UpstreamState> {
    reports(node).iter().map(|report| report.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spread_over_all() {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    let node = node(group(&[&origins[0], &origins[1], &origins[2]])).await;
    let mut client = node.connect().await;
    for _ in 0..600 {
        assert_eq!(client.get("/").await.head.status, 200);
    }
    for origin in &origins {
        assert!((130..=270).contains(&origin.hits()), "{}", origin.hits());
    }
    eventually("every place is given back", || reports(&node).iter().all(|report| report.in_flight == 0))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_takes_turns_over_all_workers() {
    let origins = [Origin::start("a").await, Origin::start("b").await];
    let mut upstreams = group(&[&origins[0], &origins[1]]);
    upstreams.balance = Balance::RoundRobin;
    let node = node(upstreams).await;
    for _ in 0..10 {
        node.connect().await.get("/").await;
    }
    assert_eq!((origins[0].hits(), origins[1].hits()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_keeps_who_asks_at_one_upstream() {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    let mut by_client = group(&[&origins[0], &origins[1], &origins[2]]);
    let mut by_cookie = by_client.clone();
    by_client.balance = Balance::HashClient;
    by_cookie.balance = Balance::HashCookie("cart".into());
    let client_node = node(by_client).await;
    let first = client_node.connect().await.get("/").await.text();
    for _ in 0..20 {
        assert_eq!(client_node.connect().await.get("/").await.text(), first);
    }
    let cookie_node = node(by_cookie).await;
    let mut client = cookie_node.connect().await;
    let mut seen = std::collections::BTreeSet::new();
    for cart in 0..30 {
        let mut answers = Vec::new();
        for extra in ["", "a=b; "] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {extra}cart={cart}; xcart=1\r\n\r\n");
            client.send(head).await;
            answers.push(client.answer().await.text());
        }
        assert_eq!(answers[0], answers[1]);
        seen.extend(answers);
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_gone_fails_no_request_is_ejected_and_comes_back() {
    let alive = Origin::start("alive").await;
    let gone = nobody();
    let servers = vec![alive.plan(), UpstreamPlan::new("127.0.0.1", gone.port(), "")];
    let mut upstreams = UpstreamGroup::new(servers);
    upstreams.health.failures = 2;
    upstreams.health.eject_ms = 400;
    upstreams.health.slow_start_ms = 0;
    upstreams.retries.budget_least_per_s = 100;
    let mut node = node(upstreams).await;
    let mut client = node.connect().await;
    let mut asked = 0;
    while states(&node) != [UpstreamState::Up, UpstreamState::Ejected] {
        // Nothing of it was sent, so that this one may be sent elsewhere, too.
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").await;
        client.send("abc").await;
        assert_eq!(client.answer().await.text(), "aliveabc");
        asked += 1;
        assert!(asked < 100, "never ejected");
    }
    assert_eq!(node.access().await.status, 200);
    let back = Origin::at(TcpListener::bind(gone).await.unwrap(), "back");
    eventually("it is back", || states(&node) == [UpstreamState::Up, UpstreamState::Up]).await;
    while back.hits() == 0 {
        assert_eq!(client.get("/").await.head.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_in_a_row_eject_but_never_more_than_allowed() {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    let mut upstreams = group(&[&origins[0], &origins[1], &origins[2]]);
    upstreams.health.failures = 3;
    let node = node(upstreams).await;
    origins.iter().for_each(|origin| origin.does(503));
    let mut client = node.connect().await;
    for _ in 0..60 {
        assert_eq!(client.get("/").await.head.status, 503);
    }
    let ejected = states(&node).iter().filter(|state| **state == UpstreamState::Ejected).count();
    assert_eq!(ejected, 1, "half of three is one");
    // A status that is the request's own fault as well ejects nobody.
    let origins = [Origin::start("a").await, Origin::start("b").await];
    let mut upstreams = group(&[&origins[0], &origins[1]]);
    upstreams.health.failures = 1;
    let node = self::node(upstreams).await;
    origins[0].does(500);
    let mut client = node.connect().await;
    for _ in 0..20 {
        client.get("/").await;
    }
    assert_eq!(states(&node), [UpstreamState::Up; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_sent_again_only_where_that_is_safe() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const PUT: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    // Without rules a body is not held, so that it is gone once it was sent.
    const PUT_BODY: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    const GONE: u16 = 0;
    for (fails, request, expected) in [
        (GONE, GET, 200),
        (GONE, POST, 200),
        (GONE, PUT_BODY, 200),
        (CLOSES, GET, 200),
        (CLOSES, PUT, 200),
        (CLOSES, POST, 502),
        (CLOSES, PUT_BODY, 502),
        (BREAKS_OFF_HEAD, GET, 502),
        (IS_SILENT, GET, 504),
        (503, GET, 503),
    ] {
        let (bad, good) = (Origin::start("bad").await, Origin::start("good").await);
        bad.does(fails);
        let mut servers = vec![bad.plan(), good.plan()];
        if fails == GONE {
            servers[0] = UpstreamPlan::new("127.0.0.1", nobody().port(), "");
        }
        let mut upstreams = UpstreamGroup::new(servers);
        upstreams.health.failures = 0;
        // The first turn is the first one's.
        upstreams.balance = Balance::RoundRobin;
        let node = node_with(upstreams, |_, app| app.limits.upstream_head_ms = 200).await;
        let mut client = node.connect().await;
        client.send(request).await;
        let status = client.answer().await.head.status;
        assert_eq!(status, expected, "{fails} {request:?}");
        assert_eq!(good.hits(), u64::from(expected == 200), "{fails} {request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_may_name_more_reasons_to_send_again() {
    for (fails, expected) in [(503, 200), (502, 502), (IS_SILENT, 200)] {
        let (bad, good) = (Origin::start("bad").await, Origin::start("good").await);
        bad.does(fails);
        let mut upstreams = group(&[&bad, &good]);
        upstreams.balance = Balance::RoundRobin;
        upstreams.retries.on_statuses = vec![503];
        upstreams.retries.on_timeout = true;
        let node = node_with(upstreams, |_, app| app.limits.upstream_head_ms = 200).await;
        assert_eq!(node.connect().await.get("/").await.head.status, expected, "{fails}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_is_not_sent_again() {
    let (bad, good) = (Origin::start("bad").await, Origin::start("good").await);
    bad.does(BREAKS_OFF_BODY);
    let mut upstreams = group(&[&bad, &good]);
    upstreams.balance = Balance::RoundRobin;
    let node = node(upstreams).await;
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(timeout(PATIENCE, client.read_answer(false)).await.unwrap().is_none());
    assert_eq!(good.hits(), 0);
    assert_eq!(reports(&node)[0].failures, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_outage_is_not_multiplied() {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    origins.iter().for_each(|origin| origin.does(CLOSES));
    let mut upstreams = group(&[&origins[0], &origins[1], &origins[2]]);
    upstreams.retries.budget_least_per_s = 0;
    let node = node(upstreams).await;
    let mut client = node.connect().await;
    for _ in 0..300 {
        assert_eq!(client.get("/").await.head.status, 502);
    }
    let hits: u64 = origins.iter().map(Origin::hits).sum();
    assert!((330..=360).contains(&hits), "{hits}");
    let report = node.plan.load().apps()[0].upstreams.report();
    assert_eq!(report.retries, hits - 300);
    assert!(report.retries_refused > 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_are_busy_some_wait_and_others_are_told_when_to_come_back() {
    let upstream = Upstream::start().await;
    let state = Arc::clone(&upstream.state);
    let mut upstreams = UpstreamGroup::new(vec![UpstreamPlan { requests_max: 1, ..upstream.plan() }]);
    upstreams.queue = Queue { requests_max: 1, wait_max_ms: 60_000 };
    let mut node = node(upstreams).await;
    let mut first = node.connect().await;
    first.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is busy", || state.waiting.load(Ordering::SeqCst) == 1).await;
    let mut second = node.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let plan = node.plan.load_full();
    eventually("one waits", || plan.apps()[0].upstreams.report().waiting == 1).await;
    let third = node.connect().await.get("/").await;
    assert_eq!((third.head.status, third.header("retry-after").as_deref()), (503, Some("1")));
    let event = node.access().await;
    let Reason::Upstream { error } = event.verdict.reason else { panic!("{:?}", event.verdict) };
    assert_eq!(error, "all upstreams are busy, and the queue is full");
    state.gate.notify_one();
    assert_eq!(first.answer().await.text(), "through");
    assert_eq!(second.answer().await.text(), "hello");
    assert_eq!(plan.apps()[0].upstreams.report().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_policy_says() {
    let upstream = Upstream::start().await;
    let state = Arc::clone(&upstream.state);
    let mut upstreams = UpstreamGroup::new(vec![UpstreamPlan { requests_max: 1, ..upstream.plan() }]);
    upstreams.queue = Queue { requests_max: 10, wait_max_ms: 50 };
    let node = node(upstreams).await;
    let mut first = node.connect().await;
    first.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is busy", || state.waiting.load(Ordering::SeqCst) == 1).await;
    assert_eq!(node.connect().await.get("/").await.head.status, 503);
    state.gate.notify_one();
    assert_eq!(first.answer().await.text(), "through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plan_goes_on_with_what_is_known() {
    let upstream = Upstream::start().await;
    let other = Origin::start("other").await;
    let state = Arc::clone(&upstream.state);
    let servers = || vec![UpstreamPlan { requests_max: 1, ..upstream.plan() }];
    let mut group = UpstreamGroup::new(servers());
    group.queue.requests_max = 0;
    let node = node(group).await;
    let mut client = node.connect().await;
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is busy", || state.waiting.load(Ordering::SeqCst) == 1).await;

    let mut app = AppPlan::forwarding("shop", upstream.plan());
    app.upstreams =
        UpstreamGroup::new([servers(), vec![UpstreamPlan { backup: true, ..other.plan() }]].concat());
    app.upstreams.queue.requests_max = 0;
    let mut plan = EdgePlan::new(2, DecidePlan::default(), vec![app]);
    plan.keep_upstreams(&node.plan.load());
    node.plan.store(Arc::new(plan));
    assert_eq!(reports(&node).iter().map(|report| report.in_flight).collect::<Vec<_>>(), [1, 0]);
    // Still full, and a backup is for those that are down.
    assert_eq!(node.connect().await.get("/").await.head.status, 503);
    state.gate.notify_one();
    assert_eq!(client.answer().await.text(), "through");
    eventually("the place is given back", || reports(&node)[0].in_flight == 0).await;
    assert_eq!(node.connect().await.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_its_checks_gets_nothing_until_it_passes_them() {
    let origins = [Origin::start("a").await, Origin::start("b").await];
    let mut upstreams = group(&[&origins[0], &origins[1]]);
    upstreams.health.check = Some(Check {
        path: "/up".into(),
        host: Some("shop.test".into()),
        interval_ms: 100,
        timeout_ms: 2_000,
        status: (200, 299),
        down_after: 2,
        up_after: 2,
    });
    upstreams.health.when_all_down = WhenAllDown::Refuse;
    let mut node = node(upstreams).await;
    origins[0].does(404);
    eventually("one is down", || states(&node) == [UpstreamState::FailsChecks, UpstreamState::Up]).await;
    let mut client = node.connect().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "b");
    }
    origins[1].does(IS_SILENT);
    eventually("both are down", || states(&node) == [UpstreamState::FailsChecks; 2]).await;
    let refused = node.connect().await.get("/").await;
    assert_eq!((refused.head.status, refused.header("retry-after").as_deref()), (503, Some("5")));
    let mut last = node.access().await;
    while last.status == 200 {
        last = node.access().await;
    }
    assert!(matches!(last.verdict.reason, Reason::Upstream { error } if error == "no upstream works"));
    origins.iter().for_each(|origin| origin.does(200));
    eventually("both are up", || states(&node) == [UpstreamState::Up; 2]).await;
    assert_eq!(node.connect().await.get("/").await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_listen_at_a_unix_socket() {
    let folder = std::env::temp_dir().join(format!("phalanx-edge-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("app.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, "socket", Arc::default(), Arc::new(AtomicU16::new(200))));
        }
    });
    let node = node(UpstreamGroup::new(vec![UpstreamPlan::at_socket(&path)])).await;
    let mut client = node.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "socket");
    }
    assert_eq!(node.count(|counters| &counters.upstream_connects), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_of_a_request_has_a_limit() {
    let upstream = Upstream::start().await;
    let node = node_with(UpstreamGroup::new(vec![upstream.plan()]), |_, app| {
        app.limits.upstream_total_ms = 100;
    })
    .await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/silent").await.head.status, 504);
    // The next request has a limit of its own.
    assert_eq!(client.get("/").await.text(), "hello");
    let mut client = node.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(timeout(PATIENCE, client.read_answer(false)).await.unwrap().is_none(), "it is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_management_is_never_asked() {
    let admin = Origin::start("admin").await;
    let mut node =
        node_with(group(&[&admin]), |settings, _| settings.never_upstream = vec![admin.address]).await;
    assert_eq!(node.connect().await.get("/").await.head.status, 502);
    assert_eq!(admin.hits(), 0);
    let event = node.access().await;
    assert!(matches!(event.verdict.reason, Reason::Upstream { error } if error.contains("own management")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_keeps_a_client_with_its_upstream_across_plans_and_nodes() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let sticky = |origins: &[&Origin]| {
        let mut upstreams = group(origins);
        upstreams.sticky = Some("node".into());
        upstreams
    };
    let start = async |origins: &[&Origin]| {
        node_with(sticky(origins), |settings, _| settings.sticky_key = [7; 16]).await
    };
    let node = start(&[&a, &b]).await;
    let mut client = node.connect().await;
    let first = client.get("/").await;
    let field = first.header("set-cookie").unwrap();
    let (cookie, rest) = field.split_once("; ").unwrap();
    assert_eq!((cookie.len(), rest), ("node=".len() + 16, "Path=/; HttpOnly; SameSite=Lax"));
    let get = async |node: &Node, cookie: &str| {
        let mut client = node.connect().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=y; {cookie}\r\n\r\n")).await;
        client.answer().await
    };
    for _ in 0..20 {
        let answer = get(&node, cookie).await;
        assert_eq!((answer.text(), answer.header("set-cookie")), (first.text(), None));
    }
    // The order of upstreams is of no matter, nor which node it is.
    let other = start(&[&b, &a]).await;
    for _ in 0..10 {
        assert_eq!(get(&other, cookie).await.text(), first.text());
    }
    // What no upstream is called is as no cookie at all.
    for cookie in ["node=0123456789abcdef", "node=", "node=1"] {
        assert!(get(&node, cookie).await.header("set-cookie").is_some(), "{cookie}");
    }
    // An upstream that does not work keeps nobody.
    let (gone, left) = if first.text() == "a" { (&a, "b") } else { (&b, "a") };
    gone.does(CLOSES);
    let answer = get(&node, cookie).await;
    assert_eq!(answer.text(), left);
    assert!(answer.header("set-cookie").is_some_and(|field| !field.starts_with(cookie)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_put_goes_to_another_upstream_and_a_post_does_not() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let mut upstreams = group(&[&a, &b]);
    upstreams.balance = Balance::RoundRobin;
    let program = crate::rules::program(phalanx_policy::seclang::ir::RuleEngine::On);
    let node = node_with(upstreams, |_, app| app.program = Some(program)).await;
    a.does(CLOSES);
    let mut statuses = Vec::new();
    for method in ["PUT", "PUT", "POST", "POST"] {
        let mut client = node.connect().await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")).await;
        let answer = client.answer().await;
        statuses.push(answer.head.status);
        if answer.head.status == 200 {
            assert_eq!(answer.text(), "bbody");
        }
    }
    statuses[2..].sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 502]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_gets_its_weight() {
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    let server = |origin: &Origin, weight| UpstreamPlan { weight, ..origin.plan() };
    let mut upstreams = UpstreamGroup::new(vec![server(&old, 9), server(&new, 1)]);
    upstreams.health.failures = 0;
    let node = node(upstreams).await;
    let mut client = node.connect().await;
    for _ in 0..1_000 {
        assert_eq!(client.get("/").await.head.status, 200);
    }
    // Of 1,000 draws at a tenth: mean 100, deviation 9.5.
    assert!((55..=145).contains(&new.hits()), "{}", new.hits());
}
