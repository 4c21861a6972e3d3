//! What an app does with classes of findings: rules of one program, judged in different scopes.

mod suite;
mod support;

use std::sync::Arc;

use bytes::Bytes;
use phalanx_inspect::{CompileOptions, Findings, Outcome, Program, Scratch, Transaction};
use phalanx_model::Confidence;
use phalanx_policy::seclang::{LoadOptions, load_dirs};
use phalanx_policy::{ClassUse, Classes};
use support::{connection, head, program};

use ClassUse::{Block, Observe, Off};

/// Rules in the manner of the Core Rule Set: detections and policy score, a rule of class policy refuses at the sum.
const SCORING: &str = r#"
    SecDefaultAction "phase:2,log,pass"
    SecAction "id:901100,phase:1,pass,nolog,tag:'OWASP_CRS',setvar:tx.threshold=5"
    SecRule REQUEST_METHOD "@streq PUT" "id:911100,phase:2,block,tag:'OWASP_CRS',tag:'paranoia-level/1',severity:CRITICAL,setvar:tx.inbound_anomaly_score_pl1=+5"
    SecRule &REQUEST_HEADERS:Accept "@eq 0" "id:920300,phase:2,block,tag:'OWASP_CRS',tag:'paranoia-level/1',severity:NOTICE,setvar:tx.inbound_anomaly_score_pl1=+2"
    SecRule ARGS "@contains high" "id:942100,phase:2,block,tag:'OWASP_CRS',tag:'paranoia-level/1',severity:CRITICAL,setvar:tx.inbound_anomaly_score_pl1=+5"
    SecRule ARGS "@contains mid" "id:942200,phase:2,block,tag:'OWASP_CRS',tag:'paranoia-level/2',severity:CRITICAL,setvar:tx.inbound_anomaly_score_pl1=+5"
    SecRule ARGS "@contains low" "id:942300,phase:2,block,tag:'OWASP_CRS',tag:'paranoia-level/3',severity:CRITICAL,setvar:tx.inbound_anomaly_score_pl1=+5"
    SecAction "id:949052,phase:2,pass,nolog,tag:'OWASP_CRS',setvar:tx.blocking_inbound_anomaly_score=+%{tx.inbound_anomaly_score_pl1}"
    SecRule TX:BLOCKING_INBOUND_ANOMALY_SCORE "@ge %{tx.threshold}" "id:949110,phase:2,deny,log,tag:'OWASP_CRS',msg:'sum'"
"#;

/// Rules that refuse by themselves, one of each class, and what other rules do.
const REFUSING: &str = r#"
    SecRule REQUEST_HEADERS:X-Type "@streq json" "id:1,phase:1,pass,nolog,tag:'phalanx/class/protocol',ctl:requestBodyProcessor=JSON"
    SecRule REMOTE_ADDR "@ipMatch 203.0.113.0/24" "id:2,phase:1,allow,log,tag:'phalanx/class/policy'"
    SecRule ARGS "@contains high" "id:10,phase:2,deny,log,tag:'phalanx/confidence/high'"
    SecRule ARGS "@contains mid" "id:11,phase:2,deny,log,tag:'phalanx/confidence/medium'"
    SecRule ARGS "@contains low" "id:12,phase:2,deny,log,tag:'phalanx/confidence/low'"
    SecRule REQUEST_METHOD "@streq PUT" "id:13,phase:2,deny,log,tag:'phalanx/class/policy'"
    SecRule &REQUEST_HEADERS:Accept "@eq 0" "id:14,phase:2,deny,log,tag:'phalanx/class/protocol'"
"#;

fn classes(detection: ClassUse, policy: ClassUse, protocol: ClassUse, min: Confidence) -> Classes {
    Classes { detection, policy, protocol, min_confidence: min }
}

fn judge(program: &Arc<Program>, classes: &Classes, request: &str, body: &'static [u8]) -> Findings {
    let scope = program.scope(classes);
    let scratch: Box<Scratch> = Box::default();
    let mut transaction = Transaction::new(Arc::clone(program), scratch, connection()).within(scope.as_ref());
    if transaction.request_head(&head(request)) == Outcome::Pass {
        let _ = transaction.request_body(Bytes::from_static(body), true);
    }
    transaction.finish(200).0
}

/// What refused, what would have, and which signals stand as observed.
fn told(found: &Findings) -> (Option<u64>, Option<u64>, Vec<u64>) {
    let observed = found.signals.iter().filter(|signal| signal.observed).map(|signal| signal.rule.id);
    (
        found.interruption.as_ref().map(|stop| stop.rule),
        found.would_interrupt.as_ref().map(|stop| stop.rule),
        observed.collect(),
    )
}

#[test]
fn a_class_that_is_observed_neither_refuses_nor_adds_to_a_sum() {
    use Confidence::{High, Low, Medium};
    let scoring = program(SCORING);
    let get = |value: &str| format!("GET /?q={value} HTTP/1.1\nHost: h\nAccept: */*");
    let put = "PUT / HTTP/1.1\nHost: h\nAccept: */*".to_owned();
    for (classes, request, refused, score, observed) in [
        (classes(Block, Block, Block, Low), get("high"), Some(949_110), 5, vec![]),
        (classes(Block, Block, Block, Low), put.clone(), Some(949_110), 5, vec![]),
        // The rule that adds up is of class policy itself; that class alone being observed must not disarm it.
        (classes(Block, Observe, Block, Low), get("high"), Some(949_110), 5, vec![]),
        (classes(Block, Off, Off, Low), get("high"), Some(949_110), 5, vec![]),
        (classes(Block, Observe, Block, Low), put.clone(), None, 0, vec![911_100]),
        (classes(Observe, Block, Block, Low), get("high"), None, 0, vec![942_100]),
        (classes(Observe, Block, Block, Low), put.clone(), Some(949_110), 5, vec![]),
        (classes(Block, Block, Block, High), get("low+mid"), None, 0, vec![942_200, 942_300]),
        (classes(Block, Block, Block, Medium), get("low+mid"), Some(949_110), 5, vec![942_300]),
        (classes(Block, Block, Block, High), get("high+mid"), Some(949_110), 5, vec![942_200]),
    ] {
        let found = judge(&scoring, &classes, &request, b"");
        let (stopped, _, seen) = told(&found);
        assert_eq!((stopped, found.score, seen), (refused, score, observed), "{classes:?} {request}");
    }
}

#[test]
fn a_class_that_is_off_finds_nothing() {
    let scoring = program(SCORING);
    let off = classes(Off, Block, Block, Confidence::Low);
    let found = judge(&scoring, &off, "GET /?q=high HTTP/1.1\nHost: h\nAccept: */*", b"");
    assert!(found.signals.is_empty() && found.interruption.is_none());
    let scope = scoring.scope(&off);
    assert_eq!(scoring.rules_in(None) - scoring.rules_in(scope.as_deref()), 3);
}

#[test]
fn each_class_and_confidence_has_its_own_switch() {
    use Confidence::{High, Low};
    let refusing = program(REFUSING);
    let requests = [
        ("GET /?q=high HTTP/1.1\nHost: h\nAccept: */*", 10),
        ("GET /?q=mid HTTP/1.1\nHost: h\nAccept: */*", 11),
        ("GET /?q=low HTTP/1.1\nHost: h\nAccept: */*", 12),
        ("PUT / HTTP/1.1\nHost: h\nAccept: */*", 13),
        ("GET / HTTP/1.1\nHost: h", 14),
    ];
    for (classes, refused, observed) in [
        (classes(Block, Block, Block, Low), vec![10, 11, 12, 13, 14], vec![]),
        (classes(Block, Block, Block, High), vec![10, 13, 14], vec![11, 12]),
        (classes(Observe, Block, Block, High), vec![13, 14], vec![10, 11, 12]),
        (classes(Block, Observe, Block, Low), vec![10, 11, 12, 14], vec![13]),
        (classes(Block, Block, Observe, Low), vec![10, 11, 12, 13], vec![14]),
        (classes(Off, Off, Off, Low), vec![], vec![]),
    ] {
        let found = requests.map(|(request, rule)| (told(&judge(&refusing, &classes, request, b"")), rule));
        let stopped: Vec<u64> = found.iter().filter_map(|((stop, _, _), _)| *stop).collect();
        let would: Vec<u64> = found.iter().filter_map(|((_, would, _), _)| *would).collect();
        assert_eq!((stopped, would), (refused, observed.clone()), "{classes:?}");
        let seen: Vec<u64> = found.iter().flat_map(|((_, _, seen), _)| seen.clone()).collect();
        assert_eq!(seen, observed, "{classes:?}");
    }
}

#[test]
fn rules_that_steer_the_engine_work_in_every_scope() {
    let refusing = program(REFUSING);
    let json = "POST / HTTP/1.1\nHost: h\nAccept: */*\nX-Type: json";
    let blocks = classes(Block, Off, Off, Confidence::Low);
    // The rule that chooses the JSON reader carries the class protocol, which is off.
    assert_eq!(told(&judge(&refusing, &blocks, json, br#"{"q":"high"}"#)).0, Some(10));
}

#[test]
fn an_observed_match_shows_in_no_severity_and_no_counter() {
    let rules = r#"
        SecRule ARGS "@contains x" "id:1,phase:2,pass,log,severity:CRITICAL,tag:'phalanx/confidence/low',setvar:tx.own=+1,setvar:tx.seen=1"
        SecRule TX:OWN "@ge 1" "id:2,phase:2,deny,nolog"
        SecRule HIGHEST_SEVERITY "@le 2" "id:3,phase:2,deny,log,tag:'phalanx/class/policy'"
        SecRule TX:SEEN "@eq 1" "id:4,phase:2,pass,nolog,setvar:tx.went=1"
    "#;
    let program = program(rules);
    let request = "GET /?q=x HTTP/1.1\nHost: h";
    assert_eq!(told(&judge(&program, &Classes::default(), request, b"")).0, Some(2));
    let observe = classes(Observe, Block, Block, Confidence::Low);
    assert_eq!(told(&judge(&program, &observe, request, b"")), (None, None, vec![1]));
}

#[test]
fn the_core_rule_set_refuses_at_sums_of_what_still_blocks() {
    use Confidence::{High, Low, Medium};
    let Some(rules) = suite::folder("conformance/crs") else {
        return;
    };
    let options = LoadOptions { paranoia: Some(2), ..LoadOptions::default() };
    let loaded = load_dirs(&[rules], &options).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let crs = Program::compile(&loaded.rules, &CompileOptions::default());
    let crs = Arc::new(crs.unwrap_or_else(|faults| panic!("{faults:#?}")));
    let fields = "Host: shop.example\nUser-Agent: Mozilla/5.0\nAccept: */*";
    let attack = format!("GET /?q=1%20UNION%20SELECT%20password%20FROM%20users HTTP/1.1\n{fields}");
    let method = format!("PUT / HTTP/1.1\n{fields}\nContent-Length: 0");
    for (classes, attack_refused, method_refused) in [
        (classes(Block, Block, Block, Low), true, true),
        (classes(Block, Observe, Observe, High), true, false),
        (classes(Block, Off, Off, Medium), true, false),
        (classes(Observe, Block, Block, Low), false, true),
        (classes(Off, Block, Block, Low), false, true),
        (classes(Observe, Observe, Observe, Low), false, false),
    ] {
        let refused = |request: &str| told(&judge(&crs, &classes, request, b"")).0;
        let expected = |refused: bool| refused.then_some(949_110);
        assert_eq!(refused(&attack), expected(attack_refused), "{classes:?}");
        assert_eq!(refused(&method), expected(method_refused), "{classes:?}");
    }
}
