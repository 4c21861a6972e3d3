//! Rules at work on real traffic: refusals, strikes, observing, failing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_decide::{DecidePlan, Mode};
use phalanx_edge::AppPlan;
use phalanx_inspect::{CompileOptions, Program};
use phalanx_model::{Action, Actor, FramingFault, Reason, SecurityEvent};
use phalanx_policy::seclang::ir::RuleEngine;
use phalanx_policy::seclang::{LoadOptions, load_texts};
use tokio::time::timeout;

use crate::support::{Client, Node, PATIENCE, Upstream, pattern};

/// An attack wherever it stands: in an argument, a body or an answer.
const RULES: &str = r#"
SecRequestBodyLimitAction ProcessPartial
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain
SecRule ARGS "@contains attack" "id:100,phase:1,deny,status:406,log,t:none,msg:'attack in an argument',severity:CRITICAL,tag:'phalanx/confidence/high'"
SecRule ARGS "@contains evil" "id:101,phase:2,deny,log,t:none,msg:'evil in the body',severity:CRITICAL,tag:'phalanx/confidence/high'"
SecRule REQUEST_HEADERS:X-Odd "@contains odd" "id:102,phase:1,pass,log,t:none,msg:'odd',severity:NOTICE"
SecRule RESPONSE_HEADERS:X-Leak "@contains leak" "id:103,phase:3,deny,log,t:none,msg:'leak',severity:CRITICAL"
SecRule RESPONSE_BODY "@contains secret" "id:104,phase:4,deny,log,t:none,msg:'leak',severity:CRITICAL"
"#;

pub(crate) fn program(engine: RuleEngine) -> Arc<Program> {
    let options = LoadOptions { rule_engine: Some(engine), ..LoadOptions::default() };
    let loaded = load_texts(&[("test.conf", RULES)], &options).unwrap();
    Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap())
}

async fn protected() -> Node {
    Node::start(|_, app| app.program = Some(program(RuleEngine::On))).await
}

async fn form(client: &mut Client, body: &str) -> u16 {
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    client.answer().await.head.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_looks_the_same_for_every_reason() {
    let mut node = protected().await;
    let mut client = node.connect().await;
    let by_head = client.get("/?q=attack").await;
    let by_body_status = form(&mut client, "q=evil").await;
    assert_eq!((by_head.head.status, by_body_status), (403, 403));
    let (first, signals, _) = node.security_request().await;
    assert_eq!(Some(first.id.to_string()), by_head.header("x-request-id"));
    assert_eq!(first.verdict.reason, Reason::Rule { rule: 100 });
    assert_eq!((first.verdict.action, first.status, signals[0].rule.id), (Action::Deny, 403, 100));

    let mut late = node.connect().await;
    node.ban("127.0.0.1");
    assert!(late.is_closed().await);
    // A worker that has not swept yet cuts a connection that came before its sweep; the next one is told.
    let by_ban = loop {
        let mut banned = node.connect().await;
        banned.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        let answer = tokio::time::timeout(crate::support::PATIENCE, banned.read_answer(false)).await;
        if let Some(answer) = answer.expect("no answer in time") {
            break answer;
        }
    };
    let same = |answer: &crate::support::Answer| {
        answer.text().replace(&answer.header("x-request-id").unwrap(), "ID")
    };
    assert_eq!(same(&by_ban), same(&by_head));
    assert_eq!(node.upstream.state.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_on_after_a_refusal() {
    let node = protected().await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/?q=attack").await.head.status, 403);
    assert_eq!(client.get("/?q=peace").await.text(), "hello");
    assert_eq!(form(&mut client, "q=evil").await, 403);
    assert_eq!(form(&mut client, "q=good").await, 200);
    client.send("HEAD /?q=attack HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer_to(true).await.head.status, 403);
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_refused_early_still_gets_its_reply() {
    let node = protected().await;
    let mut client = node.connect().await;
    client.send("POST /?q=attack HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n").await;
    client.send(pattern(4_000_000)).await;
    let answer = client.answer().await;
    assert_eq!((answer.head.status, answer.header("connection").as_deref()), (403, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_is_not_told_to_continue() {
    let node = protected().await;
    let mut client = node.connect().await;
    client
        .send("POST /?q=attack HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.head.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_what_is_held_streams_on() {
    let node = Node::start(|_, app| {
        app.program = Some(program(RuleEngine::On));
        app.limits.body_held_bytes = 1_000;
    })
    .await;
    let mut client = node.connect().await;
    let body = pattern(3 << 20);
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n";
    client.send(format!("{head}Content-Length: {}\r\n\r\n", body.len())).await;
    client.send(&body).await;
    assert!(client.answer().await.body == body);
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    for part in body.chunks(50_000) {
        client.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()).await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.answer().await.body == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_leaks_is_replaced() {
    let mut node = protected().await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/leak-head").await.head.status, 403);
    assert_eq!(client.get("/leak-body").await.head.status, 403);
    assert_eq!(client.get("/plain-text").await.text(), "nothing to hide");
    let (event, ..) = node.security_request().await;
    assert_eq!(event.verdict.reason, Reason::Rule { rule: 103 });
    // Who sees a leak is no attacker for it.
    assert_eq!(node.count(|counters| &counters.strikes), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_passes_on_and_records() {
    let mut node = Node::start(|_, app| {
        app.program = Some(program(RuleEngine::DetectionOnly));
        app.mode = Mode::Observe;
    })
    .await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/?q=attack").await.text(), "hello");
    let (event, signals, _) = node.security_request().await;
    assert_eq!((event.verdict.action, event.status), (Action::Observe, 200));
    assert_eq!((event.verdict.reason, signals[0].rule.id), (Reason::Rule { rule: 100 }, 100));
    assert_eq!(node.count(|counters| &counters.requests_observed), 1);
    node.ban("127.0.0.1");
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flagged_request_passes_and_is_kept_with_its_signals() {
    let mut node = protected().await;
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Odd: odd\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 200);
    let (event, signals, _) = node.security_request().await;
    assert_eq!((event.verdict.action, signals[0].rule.id), (Action::Allow, 102));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_attack_is_recorded_with_its_signals() {
    let mut node = protected().await;
    let mut client = node.connect().await;
    client.send("GET /?q=attack HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 400);
    let (event, signals, faults) = node.security_request().await;
    assert_eq!((event.status, faults, signals[0].rule.id), (400, vec![FramingFault::RepeatedHost], 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_attacks_lead_to_a_proposal() {
    let mut node = protected().await;
    for n in 0..3 {
        assert_eq!(node.connect().await.get(&format!("/?q=attack{n}")).await.head.status, 403);
    }
    let proposal = loop {
        match timeout(PATIENCE, node.readers.security.recv()).await.unwrap().unwrap() {
            SecurityEvent::Proposal(proposal) => break proposal,
            SecurityEvent::Strike(strike) => assert!(strike.count <= 3),
            SecurityEvent::Request { .. } => {}
        }
    };
    assert_eq!(proposal.actor, Actor::ip("127.0.0.1".parse().unwrap()));
    assert_eq!(node.count(|counters| &counters.strikes), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_site_makes_a_browser_send_does_not_strike() {
    let node = protected().await;
    let mut client = node.connect().await;
    for n in 0..3 {
        let head = format!("GET /?q=attack{n} HTTP/1.1\r\nHost: a\r\n");
        client.send(format!("{head}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n\r\n")).await;
        assert_eq!(client.answer().await.head.status, 403);
    }
    assert_eq!(node.count(|counters| &counters.strikes), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_listed_client_is_recorded_and_not_refused() {
    let upstream = Upstream::start().await;
    let decide = DecidePlan {
        allow: ["127.0.0.1/32".parse().unwrap()].into_iter().collect(),
        ..DecidePlan::default()
    };
    let change = |_: &mut _, app: &mut AppPlan| app.program = Some(program(RuleEngine::On));
    let mut node = Node::before(upstream, change, decide);
    node.ban("127.0.0.1");
    let mut client = node.connect().await;
    assert_eq!(client.get("/?q=attack").await.text(), "hello");
    let (event, ..) = node.security_request().await;
    assert_eq!(event.verdict.action, Action::Observe);
    assert_eq!(node.count(|counters| &counters.strikes), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_the_audit_log_carry_their_fields_without_secrets() {
    let mut node = Node::start(|settings, app| {
        settings.audit = true;
        app.program = Some(program(RuleEngine::On));
    })
    .await;
    let mut client = node.connect().await;
    let fields = "X-Odd: odd\r\nCookie: sid=topsecret\r\nReferer: http://a/?token=topsecret\r\n";
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    assert_eq!(client.answer().await.head.status, 200);
    let (passed, _, _) = node.security_request().await;
    let audit = passed.audit.expect("a rule matched");
    let names: Vec<&str> = audit.request_fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Host", "X-Odd", "Cookie", "Referer"]);
    assert!(audit.response_fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")));
    assert!(!format!("{audit:?}").contains("topsecret"), "{audit:?}");
    assert_eq!((audit.engine, audit.host_port), ("Enabled", node.address().port()));

    assert_eq!(client.get("/?q=attack").await.head.status, 403);
    let (refused, _, _) = node.security_request().await;
    let ours = refused.audit.expect("a rule refused").response_fields;
    assert!(ours.contains(&("Cache-Control".to_owned(), "no-store".to_owned())), "{ours:?}");

    assert_eq!(client.get("/").await.head.status, 200);
    assert!(node.access().await.audit.is_none(), "nothing matched");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_audit_log_no_event_carries_fields() {
    let mut node = protected().await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/?q=attack").await.head.status, 403);
    assert!(node.security_request().await.0.audit.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_only_observes_passes_is_counted_and_never_strikes() {
    use phalanx_policy::{ClassUse, Classes};
    let rules = r#"
SecRule ARGS "@contains attack" "id:100,phase:1,deny,log,severity:CRITICAL,tag:'phalanx/confidence/high'"
SecRule ARGS "@contains form" "id:101,phase:2,deny,log,tag:'phalanx/class/protocol'"
"#;
    let loaded = load_texts(&[("test.conf", rules)], &LoadOptions::default()).unwrap();
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    let classes = Classes { detection: ClassUse::Observe, ..Classes::default() };
    let decide = DecidePlan::default();
    let upstream = Upstream::start().await;
    let scoped = |_: &mut phalanx_edge::EdgeSettings, app: &mut AppPlan| {
        app.scope = program.scope(&classes);
        app.program = Some(Arc::clone(&program));
    };
    let mut node = Node::before(upstream, scoped, decide);
    let mut client = node.connect().await;
    assert_eq!(client.get("/?q=attack").await.head.status, 200);
    let (observed, signals, _) = node.security_request().await;
    assert_eq!(observed.verdict.action, Action::Observe);
    assert_eq!(observed.verdict.reason, Reason::Rule { rule: 100 });
    assert!(signals[0].observed);
    // Refused by a rule of another class: the detection that was only observed still does not strike.
    assert_eq!(client.get("/?q=attack+form").await.head.status, 403);
    let (refused, signals, _) = node.security_request().await;
    assert_eq!((refused.verdict.reason, signals.len()), (Reason::Rule { rule: 101 }, 2));
    assert_eq!(node.count(|c| &c.strikes), 0);
    assert_eq!(node.count(|c| &c.class_signals[0]), 2);
    assert_eq!((node.count(|c| &c.class_refusals[0]), node.count(|c| &c.class_refusals[3])), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_a_sum_counts_for_what_was_found() {
    let rules = r#"
SecRule ARGS "@contains attack" "id:942100,phase:2,pass,log,severity:CRITICAL,tag:'OWASP_CRS',tag:'paranoia-level/1',setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule TX:inbound_anomaly_score_pl1 "@ge 5" "id:949110,phase:2,deny,log,tag:'OWASP_CRS'"
"#;
    let loaded = load_texts(&[("test.conf", rules)], &LoadOptions::default()).unwrap();
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    let mut node = Node::start(|_, app| app.program = Some(program)).await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/?q=attack").await.head.status, 403);
    assert_eq!(node.security_request().await.1.len(), 2);
    let counts =
        |place: usize| (node.count(|c| &c.class_signals[place]), node.count(|c| &c.class_refusals[place]));
    assert_eq!([counts(0), counts(3), counts(4)], [(1, 1), (0, 0), (0, 0)]);
}
