//! The access log: formats, places, and text from strangers in it.

use phalanx_model::{AccessEvent, Phases, Reason, SpanId, Trace, TraceId, Verdict};
use phalanx_record::{AccessFormat, AccessLogTo};

use crate::support::*;

/// What the log says of these requests, with these settings.
fn logged(events: Vec<AccessEvent>, format: AccessFormat) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    let file = dir.path().join("elsewhere.log");
    settings.access_log = AccessLogTo::File(file.clone());
    settings.access_format = format;
    let (recorder, lanes) = start(settings);
    for event in events {
        lanes.access(Box::new(event));
    }
    recorder.stop();
    assert!(!dir.path().join("record/access.log").exists());
    std::fs::read_to_string(file).unwrap()
}

fn passed(n: u64) -> AccessEvent {
    AccessEvent { verdict: Verdict::allow(Reason::Clean), status: 200, ..access(n) }
}

#[test]
fn the_combined_format_is_nginxs() {
    let mut forged = passed(2);
    forged.target = "/a\"b\\c\n127.0.0.1 - - \u{202e}".into();
    forged.user_agent = "Mozilla/5.0 (ü)".into();
    forged.referer = "https://shop.example/".into();
    let text = logged(vec![passed(1), forged], AccessFormat::Combined);
    let expected = [
        "203.0.113.9 - - [01/Aug/2026:12:00:00 +0000] \"GET /search?q=1'%20or%20'1'='1 HTTP/1.1\" 200 120 \"-\" \"curl/8\"",
        "203.0.113.9 - - [01/Aug/2026:12:00:00 +0000] \"GET /a\\x22b\\x5Cc\\x0A127.0.0.1 - - \\xE2\\x80\\xAE HTTP/1.1\" \
         200 120 \"https://shop.example/\" \"Mozilla/5.0 (\\xC3\\xBC)\"",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_object_has_all_that_is_known_in_a_fixed_order() {
    let trace = Trace {
        id: TraceId::from_bits(0xab).unwrap(),
        span: SpanId::from_bits(1),
        parent: SpanId::from_bits(2),
        sampled: true,
    };
    let event = AccessEvent {
        client: "2001:db8::1".parse().unwrap(),
        route: Some("search".into()),
        crawler: true,
        balancer: Some("192.0.2.1".parse().unwrap()),
        host: "\u{202e}\"\\\n".into(),
        tls: Some("TLSv1.3".into()),
        ja4: Some("t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap()),
        check: Some(phalanx_model::CheckKind::ForwardAuth),
        http_print: Some("ge11_x".into()),
        upstream: Some("shop-1".into()),
        forwarded_id: Some("id-1".into()),
        trace: Some(trace),
        phases: Phases { head_us: 1, inspect_us: 2, queue_us: 3, connect_us: 4, upstream_us: 5 },
        verdict: Verdict { score: -1, ..Verdict::allow(Reason::Limit { limit: "x".into() }) },
        ..passed(1)
    };
    let expected = concat!(
        r#"{"log":"access","time":"2026-08-01T12:00:00.001Z","at_ms":1785585600001,"id":"ID","site":"fra","node":"a","app":"shop","route":"search","#,
        r#""client":"2001:db8::1","peer":"203.0.113.9","method":"GET","host":"\u202e\"\\\n","target":"/search?q=1'%20or%20'1'='1","#,
        r#""protocol":"HTTP/1.1","tls":"TLSv1.3","ja4":"t13d1516h2_8daaf6152771_02713d6af862","check":"forward-auth","#,
        r#""http_print":"ge11_x","balancer":"192.0.2.1","crawler":true,"user_agent":"curl/8","referer":"","status":200,"action":"allow","#,
        r#""reason":"limit","detail":"x","score":-1,"request_bytes":0,"response_bytes":120,"duration_us":300,"upstream_us":0,"#,
        r#""phases":{"head_us":1,"inspect_us":2,"queue_us":3,"connect_us":4,"upstream_us":5},"upstream":"shop-1","#,
        r#""trace_id":"000000000000000000000000000000ab","span_id":"0000000000000001","parent_id":"0000000000000002","sampled":true,"#,
        r#""forwarded_id":"id-1","plan_version":7,"view_revision":12}"#,
        "\n"
    );
    let expected = expected.replace("ID", &event.id.to_string());
    assert_eq!(logged(vec![event], AccessFormat::Json), expected);
}

#[test]
fn a_refused_request_has_a_line_in_each_format() {
    for format in [AccessFormat::Json, AccessFormat::Combined] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.access_format = format;
        let (recorder, lanes) = start(settings);
        lanes.security(refused(1));
        recorder.stop();
        let text = std::fs::read_to_string(dir.path().join("record/access.log")).unwrap();
        assert!(text.lines().count() == 1 && text.contains("403"), "{text}");
        assert_eq!(text.starts_with("203.0.113.9 - - ["), format == AccessFormat::Combined);
    }
}

#[test]
fn the_object_says_where_the_time_went_and_which_trace_it_belongs_to() {
    let mut event = passed(1);
    event.upstream = Some("10.0.0.1:3000".into());
    event.tls_group = Some("X25519MLKEM768".into());
    event.forwarded_id = Some("cdn-17".into());
    event.phases = Phases { head_us: 1, inspect_us: 2, queue_us: 3, connect_us: 4, upstream_us: 5 };
    event.trace = Some(Trace {
        id: TraceId::from_bits(0xabc).unwrap(),
        span: SpanId::from_bits(0xd),
        parent: None,
        sampled: true,
    });
    let text = logged(vec![event, passed(2)], AccessFormat::Json);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["upstream"], "10.0.0.1:3000");
    assert_eq!(lines[0]["tls_group"], "X25519MLKEM768");
    assert_eq!(lines[0]["forwarded_id"], "cdn-17");
    assert_eq!(lines[0]["phases"]["connect_us"], 4);
    assert_eq!(lines[0]["trace_id"], "00000000000000000000000000000abc");
    assert_eq!((&lines[0]["span_id"], &lines[0]["sampled"]), (&"000000000000000d".into(), &true.into()));
    assert!(lines[0].get("parent_id").is_none() && lines[1].get("trace_id").is_none());
}

#[test]
fn no_log_is_written_where_none_is_wanted_and_the_history_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.access_log = AccessLogTo::Nowhere;
    let (recorder, lanes) = start(settings);
    lanes.access(Box::new(passed(1)));
    lanes.security(refused(2));
    wait(&recorder.status(), "it is kept", |r| written(r, phalanx_record::Part::History) == 1);
    recorder.stop();
    assert!(!dir.path().join("record/access.log").exists());
}
