//! Events in OCSF's form: what they look like, that they are what the schema asks for, and where they go.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use phalanx_model::{
    AccessEvent, Action, Actor, Confidence, DecisionKind, Phases, Proposal, Reason, SecurityEvent, Signal,
    SpanId, Trace, TraceId, Verdict,
};
use phalanx_record::ocsf::{Change, Detection, Grade, IncidentReport};
use phalanx_record::{EventSettings, Part, RecordSettings, Report, SyslogTo};
use serde_json::Value;

use crate::support::*;

fn with_events(dir: &std::path::Path, events: EventSettings) -> RecordSettings {
    let mut settings = settings(dir);
    settings.events = events;
    settings
}

/// A request that was passed on, with all that can be known of one.
fn passed() -> AccessEvent {
    AccessEvent {
        verdict: Verdict::allow(Reason::Clean),
        status: 200,
        method: "POST".into(),
        target: "/cart?item=7".into(),
        host: "shop.example:8443".into(),
        route: Some("cart".into()),
        referer: "https://shop.example/".into(),
        peer: "192.0.2.10".parse().unwrap(),
        balancer: "192.0.2.11".parse().ok(),
        request_bytes: 12,
        duration_us: 45_600,
        upstream_us: 40_000,
        phases: Phases { inspect_us: 40, upstream_us: 40_000, ..Phases::default() },
        tls: Some("1.3".into()),
        tls_group: Some("X25519MLKEM768".into()),
        ja4: "t13d1516h2_8daaf6152771_02713d6af862".parse().ok(),
        http_print: Some("h2:1".into()),
        upstream: Some("10.0.0.1:3000".into()),
        forwarded_id: Some("cdn-1".into()),
        trace: Some(Trace {
            id: TraceId::from_bits(0xabc).unwrap(),
            span: SpanId::from_bits(0x101),
            parent: SpanId::from_bits(7),
            sampled: true,
        }),
        ..access(3)
    }
}

fn proposal() -> SecurityEvent {
    SecurityEvent::Proposal(Proposal {
        actor: Actor::ip("203.0.113.9".parse().unwrap()),
        kind: DecisionKind::Ban,
        reason: "3 attacks in 60 s".into(),
        evidence: id(1),
        confidence_percent: 90,
        at_ms: NOW + 2,
        for_ms: 300_000,
    })
}

fn detection() -> Detection {
    Detection {
        uid: "inc-7/credential-stuffing/software 00000000000000aa".into(),
        at_ms: NOW + 60_000,
        detector: "credential-stuffing".into(),
        title: "tries stolen passwords of many accounts".into(),
        reason: "12 failed logins of 9 accounts in 60 s, of which none got in".into(),
        subject: "software 00000000000000aa".into(),
        ip: None,
        app: Some("shop".into()),
        grade: Grade::High,
        confidence: Confidence::High,
        decisive: true,
        events: 12,
        first_ms: NOW,
        last_ms: NOW + 59_000,
        technique: Some("T1110.004".into()),
        nodes: vec!["fra/a".into(), "fra/b".into(), "sin/c".into()],
        evidence: vec![id(1).to_string()],
        incident: Some("inc-7".into()),
    }
}

fn incident(change: Change) -> IncidentReport {
    let scan = Detection {
        uid: "inc-7/scanning/address 203.0.113.9".into(),
        detector: "scanning".into(),
        title: "looks for what may be there".into(),
        subject: "address 203.0.113.9".into(),
        ip: "203.0.113.9".parse().ok(),
        technique: Some("T1595".into()),
        ..detection()
    };
    IncidentReport {
        uid: "inc-7".into(),
        change,
        at_ms: NOW + 61_000,
        opened_ms: NOW,
        changed_ms: NOW + 60_000,
        grade: Grade::High,
        confidence: Confidence::High,
        stage: "credential access".into(),
        summary: "one kind of software scans and tries stolen passwords".into(),
        findings: vec![scan, detection()],
        nodes: vec!["fra/a".into(), "fra/b".into()],
        countermeasures: vec!["challenge of software 00000000000000aa until 12:11".into()],
        comment: String::new(),
    }
}

/// One of everything that the log tells, in the order in which it is written: lanes, then reports.
fn all_lines() -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.json");
    let events = EventSettings { file: Some(file.clone()), all_requests: true, ..EventSettings::default() };
    let (recorder, lanes) = start(with_events(dir.path(), events));
    let status = recorder.status();
    lanes.access(Box::new(passed()));
    wait(&status, "the request", |r| written(r, Part::EventLog) == 1);
    lanes.security(refused(1));
    let mut seen = access(2);
    seen.verdict.action = Action::Observe;
    lanes.security(security(
        AccessEvent { host: "[::1]".into(), method: "PROPFIND".into(), status: 0, ..seen },
        vec![],
    ));
    lanes.security(proposal());
    wait(&status, "the lane", |r| written(r, Part::EventLog) == 4);
    recorder.reports().send(Report::Detection(detection()));
    recorder.reports().send(Report::Incident(incident(Change::Opened)));
    let nothing =
        IncidentReport { findings: vec![], comment: "closed by ann".into(), ..incident(Change::Closed) };
    recorder.reports().send(Report::Incident(nothing));
    recorder.stop();
    let text = std::fs::read_to_string(file).unwrap();
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    text.replace(&version, "\"version\":\"0.1.0\"").lines().map(str::to_owned).collect()
}

#[test]
fn events_are_written_as_the_golden_file_has_them() {
    let lines = all_lines();
    let shown: Vec<String> = lines
        .iter()
        .map(|line| serde_json::to_string_pretty(&serde_json::from_str::<Value>(line).unwrap()).unwrap())
        .collect();
    let shown = shown.join("\n") + "\n";
    if std::env::var_os("PHALANX_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorder/events.json"), &shown).unwrap();
    }
    assert_eq!(shown, include_str!("events.json"));
}

/// What OCSF 1.6.0 requires of a class or an object (`requirement: required`, and `at_least_one` constraints), by the place where our
/// events have one.
const REQUIRED: [(&str, &[&str], &[&str]); 17] = [
    ("", &["category_uid", "class_uid", "activity_id", "type_uid", "time", "severity_id", "metadata"], &[]),
    ("metadata", &["version", "product"], &[]),
    ("metadata.product", &[], &["name", "uid"]),
    ("metadata.loggers", &[], &["name", "uid"]),
    ("http_request.url", &[], &["url_string", "path"]),
    ("http_response", &["code"], &[]),
    ("firewall_rule", &[], &["name", "uid"]),
    ("policy", &[], &["name", "uid"]),
    ("src_endpoint", &[], &["ip", "hostname", "svc_name", "name", "uid"]),
    ("dst_endpoint", &[], &["ip", "hostname", "svc_name", "name", "uid"]),
    ("connection_info", &["direction_id"], &[]),
    ("tls", &["version"], &[]),
    ("ja4_fingerprint_list", &["type_id", "value"], &[]),
    ("trace", &["uid"], &[]),
    ("trace.span", &["uid", "start_time", "end_time"], &[]),
    ("observables", &["type_id"], &[]),
    ("finding_info", &["uid"], &[]),
];
const REQUIRED_OF_CLASS: [(u64, &[&str], &[&str]); 3] = [
    (4_002, &[], &["http_request", "http_response"]),
    (2_004, &["finding_info"], &[]),
    (2_005, &["finding_info_list", "status_id"], &["assignee", "assignee_group"]),
];

/// Everything at a path; members of lists each.
fn found<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut at = vec![value];
    for name in path.split('.').filter(|name| !name.is_empty()) {
        at = at.into_iter().filter_map(|value| value.get(name)).collect();
        at = at
            .into_iter()
            .flat_map(|one| one.as_array().map_or(vec![one], |all| all.iter().collect()))
            .collect();
    }
    at
}

#[test]
fn events_have_what_the_schema_requires() {
    let mut classes = BTreeMap::new();
    for line in all_lines() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let class = event["class_uid"].as_u64().unwrap();
        *classes.entry(class).or_insert(0) += 1;
        assert_eq!(event["type_uid"].as_u64().unwrap(), class * 100 + event["activity_id"].as_u64().unwrap());
        assert_eq!(event["category_uid"].as_u64().unwrap(), class / 1_000);
        assert_eq!(event["metadata"]["version"], "1.6.0");
        let of_class = REQUIRED_OF_CLASS.iter().filter(|row| row.0 == class).map(|row| ("", row.1, row.2));
        for (path, all, one) in REQUIRED.iter().copied().chain(of_class) {
            for object in found(&event, path) {
                for name in all {
                    assert!(!object[name].is_null(), "{path}.{name} is missing in {line}");
                }
                let any = one.is_empty() || one.iter().any(|name| !object[name].is_null());
                assert!(any, "{path} has none of {one:?} in {line}");
            }
        }
    }
    assert_eq!(classes, BTreeMap::from([(2_004, 2), (2_005, 2), (4_002, 3)]));
}

/// The schema itself, as Python's `ocsf-json-schema` has it. `PHALANX_OCSF` may name the folder that it is installed in.
#[test]
fn events_are_valid_by_the_published_schema() {
    const CHECK: &str = "
import json, sys
from jsonschema import Draft202012Validator
from ocsf_json_schema.embedded import OcsfJsonSchemaEmbedded
from ocsf_json_schema.loader import get_ocsf_schema
schema, count = OcsfJsonSchemaEmbedded(get_ocsf_schema('1.6.0')), 0
for line in sys.stdin:
    event = json.loads(line)
    name = schema.lookup_class_name_from_uid(event['class_uid'])
    rules = schema.get_class_schema(name, event['metadata'].get('profiles', []))
    for fault in Draft202012Validator(rules).iter_errors(event):
        sys.exit(f'{name} at {list(fault.path)}: {fault.message[:300]}')
    count += 1
print('valid', count)
";
    let python = |code: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(std::env::var_os("PHALANX_OCSF").map(|folder| ("PYTHONPATH", folder)));
        command
    };
    let known = python("import ocsf_json_schema, jsonschema").output();
    if !known.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("CI").is_err(), "CI has no ocsf-json-schema");
        eprintln!("skipped: Python's ocsf-json-schema not installed");
        return;
    }
    let lines = all_lines();
    let mut child = python(CHECK).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), (lines.join("\n") + "\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.trim(), format!("valid {}", lines.len()));
}

#[test]
fn only_what_is_notable_is_told_unless_all_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.json");
    let events = EventSettings { file: Some(file.clone()), ..EventSettings::default() };
    let (recorder, lanes) = start(with_events(dir.path(), events));
    lanes.access(Box::new(passed()));
    lanes.security(refused(1));
    recorder.stop();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.lines().count() == 1 && text.contains("\"uid\":\"942100\""), "{text}");
}

#[test]
fn events_are_told_without_an_access_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.json");
    let events = EventSettings { file: Some(file.clone()), all_requests: true, ..EventSettings::default() };
    let mut settings = with_events(dir.path(), events);
    settings.access_log = phalanx_record::AccessLogTo::Nowhere;
    let (recorder, lanes) = start(settings);
    lanes.access(Box::new(passed()));
    recorder.stop();
    assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 1);
}

#[test]
fn strangers_and_secrets_cannot_write_into_events() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.json");
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let events = EventSettings {
        file: Some(file.clone()),
        syslog: Some(SyslogTo::Udp(receiver.local_addr().unwrap().to_string())),
        all_requests: true,
        #[cfg(feature = "otel")]
        otlp: None,
    };
    let (recorder, lanes) = start(with_events(dir.path(), events));
    let evil = "x\r\n<13>1 - - - - - \"}\u{1b}[2J\u{202e}\u{2028}{\"class_uid\":1}";
    let mut event = passed();
    for text in [&mut event.method, &mut event.host, &mut event.user_agent, &mut event.referer] {
        *text = evil.into();
    }
    event.target = format!("/login?password=topsecret&x={evil}");
    lanes.access(Box::new(event.clone()));
    let mut hostile: Signal = signal(942_100, "ARGS:password", "topsecret");
    hostile.message = evil.into();
    lanes.security(security(event, vec![hostile]));
    recorder.stop();
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        !text.contains("topsecret")
            && !text.chars().any(|c| c != '\n' && phalanx_record::escape::is_hidden(c))
    );
    let mut buffer = vec![0; 65_536];
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["http_request"]["http_method"].is_null());
        assert_eq!(event["activity_name"], evil);
        assert_eq!(event["type_name"], "HTTP Activity: Other");
        let length = receiver.recv(&mut buffer).unwrap();
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        let head = format!("phalanx {} http_activity - ", std::process::id());
        assert_eq!(message.split_once(&head).unwrap().1, line);
    }
}

#[test]
fn a_receiver_that_is_away_is_told_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.sock");
    let events = EventSettings { syslog: Some(SyslogTo::Unix(path.clone())), ..EventSettings::default() };
    let (recorder, lanes) = start(with_events(dir.path(), events));
    let status = recorder.status();
    lanes.security(refused(1));
    let report = wait(&status, "the failure is told", |r| failing(r, Part::EventSyslog));
    assert!(report.degraded().join("\n").contains("syslog cannot be written (No such file"), "{report:?}");
    assert!(report.parts.iter().all(|part| part.part != Part::EventLog), "only what the node has");
    let receiver = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    lanes.security(refused(2));
    wait(&status, "it is sent again", |r| {
        written(r, Part::EventSyslog) == 1 && !failing(r, Part::EventSyslog)
    });
    let mut buffer = vec![0; 65_536];
    let length = receiver.recv(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"<132>1 2026-08-01T12:00:00.002Z a phalanx "));
    recorder.stop();
}

#[cfg(feature = "otel")]
#[test]
fn a_collector_gets_events_as_log_records_with_their_structure() {
    let dir = tempfile::tempdir().unwrap();
    let (url, received) = crate::spans::collector("200 OK");
    let events = EventSettings {
        otlp: Some(phalanx_record::OtlpLogs { endpoint: url, service: "edge".into() }),
        all_requests: true,
        ..EventSettings::default()
    };
    let (recorder, lanes) = start(with_events(dir.path(), events));
    lanes.access(Box::new(passed()));
    let status = recorder.status();
    recorder.stop();
    assert_eq!(written(&status.report(), Part::EventOtlp), 1);
    let (head, body) = received.recv().unwrap();
    assert!(head.starts_with("POST /v1/logs HTTP/1.1\r\n") && head.contains("application/json"), "{head}");
    let body: Value = serde_json::from_slice(&body).unwrap();
    let shown = serde_json::to_string_pretty(&body).unwrap() + "\n";
    let version = format!("\"stringValue\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let shown = shown
        .replace(&version, "\"stringValue\": \"0.1.0\"")
        .replace(&format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"version\": \"0.1.0\"");
    if std::env::var_os("PHALANX_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorder/events-otlp.json"), &shown)
            .unwrap();
    }
    assert_eq!(shown, include_str!("events-otlp.json"));
}

#[cfg(feature = "otel")]
#[test]
fn what_a_collector_refuses_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _received) = crate::spans::collector("503 Service Unavailable");
    let events = EventSettings {
        otlp: Some(phalanx_record::OtlpLogs { endpoint: url, service: "edge".into() }),
        ..EventSettings::default()
    };
    let (recorder, lanes) = start(with_events(dir.path(), events));
    lanes.security(refused(1));
    lanes.security(refused(2));
    let status = recorder.status();
    recorder.stop();
    let report = status.report();
    let part = report.parts.iter().find(|part| part.part == Part::EventOtlp).unwrap();
    assert_eq!((part.written, part.dropped), (0, 2));
    assert!(part.error.as_ref().unwrap().contains("503"), "{part:?}");
}

/// Reports come from others; the recorder may be gone.
#[test]
fn a_report_that_nobody_takes_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let events = EventSettings { file: Some(dir.path().join("events.json")), ..EventSettings::default() };
    let (recorder, _lanes) = start(with_events(dir.path(), events));
    let (status, reports) = (recorder.status(), recorder.reports());
    recorder.stop();
    reports.send(Report::Detection(detection()));
    let dropped = status.report().parts.iter().find(|part| part.part == Part::EventLog).unwrap().dropped;
    assert_eq!(dropped, 1);
}
