//! Logs in other tools' formats: what they look like, and that no stranger can write into them.

use phalanx_model::{AccessEvent, AuditDetail, AuditParts, Reason, Verdict};
use phalanx_record::{AuditFormat, Part, RecordSettings};

use crate::support::*;

fn with_logs(dir: &std::path::Path, format: AuditFormat) -> RecordSettings {
    let mut settings = settings(dir);
    settings.modsecurity_log = Some(dir.join("modsecurity.log"));
    settings.audit_log = Some((dir.join("audit.log"), format));
    settings
}

fn detail(parts: &str) -> AuditDetail {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    AuditDetail {
        parts: AuditParts::parse(parts).unwrap(),
        client_port: 40_000,
        host: "192.0.2.1".parse().unwrap(),
        host_port: 443,
        request_fields: vec![
            field("Host", "shop.example"),
            field("Accept", "text/html"),
            field("Accept", "*/*"),
            field("Cookie", "sid=topsecret"),
        ],
        response_fields: vec![field("Content-Type", "text/html"), field("Set-Cookie", "sid=topsecret")],
        engine: "Enabled",
        components: vec!["OWASP_CRS/4.0.0".to_owned()].into(),
    }
}

/// An audited request, refused by the second of its two findings.
fn audited(parts: &str) -> phalanx_model::SecurityEvent {
    let access = AccessEvent { audit: Some(Box::new(detail(parts))), ..access(1) };
    let warning = signal(920_300, "REQUEST_HEADERS:Accept", "a\"b");
    security(access, vec![warning, signal(942_100, "ARGS:q", "1' or '1'='1")])
}

/// What the logs hold after one event: signals, then audit entries, without what differs from run to run.
fn logged(format: AuditFormat, event: phalanx_model::SecurityEvent) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(with_logs(dir.path(), format));
    lanes.security(event);
    recorder.stop();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let process = std::process::id().to_string();
    let signals = read("modsecurity.log").replace(&format!("[pid {process}:tid {process}]"), "[pid 1:tid 1]");
    let mut audit =
        read("audit.log").replace(concat!("Phalanx v", env!("CARGO_PKG_VERSION")), "Phalanx v0.1.0");
    if format == AuditFormat::Native {
        let boundary = audit.get(2..10).unwrap().to_owned();
        assert!(boundary.bytes().all(|b| b.is_ascii_hexdigit()), "{boundary}");
        audit = audit.replace(&format!("--{boundary}-"), "--00000000-");
    }
    (signals, audit)
}

#[test]
fn the_logs_have_the_forms_of_modsecurity() {
    let (signals, native) = logged(AuditFormat::Native, audited("ABFHKZ"));
    assert_eq!(signals, include_str!("modsecurity.txt"));
    assert_eq!(native, include_str!("audit-native.txt"));
    let (_, json) = logged(AuditFormat::Json, audited("ABFHKZ"));
    assert_eq!(json, include_str!("audit-json.txt"));
}

#[test]
fn an_entry_has_the_parts_that_were_chosen() {
    let (_, native) = logged(AuditFormat::Native, audited("AFZ"));
    let sections: Vec<&str> = native.lines().filter(|line| line.starts_with("--")).collect();
    assert_eq!(sections, ["--00000000-A--", "--00000000-F--", "--00000000-Z--"]);
    let (_, json) = logged(AuditFormat::Json, audited("AZ"));
    let entry: serde_json::Value = serde_json::from_str(&json).unwrap();
    let transaction = &entry["transaction"];
    assert!(
        transaction["request"].get("headers").is_none() && transaction["response"].get("headers").is_none()
    );
    assert!(transaction.get("messages").is_none() && transaction.get("producer").is_none());
    assert_eq!(transaction["request"]["method"], "GET");
}

#[test]
fn a_rule_that_asks_to_be_left_out_of_the_audit_log_is_in_no_part_of_an_entry() {
    let access = AccessEvent { audit: Some(Box::new(detail("ABFHKZ"))), ..access(1) };
    let mut quiet = signal(920_300, "REQUEST_HEADERS:Accept", "x");
    let mut rule = phalanx_model::RuleInfo::clone(&quiet.rule);
    rule.unaudited = true;
    quiet.rule = rule.into();
    let found = vec![quiet, signal(942_100, "ARGS:q", "y")];
    for format in [AuditFormat::Json, AuditFormat::Native] {
        let (signals, audit) = logged(format, security(access.clone(), found.clone()));
        assert!(!audit.contains("920300") && audit.contains("942100"), "{audit}");
        assert!(signals.contains("920300"), "the other log has it: {signals}");
    }
}

#[test]
fn strangers_cannot_write_into_the_logs() {
    let evil = "x\r\n--00000000-Z--\n\"] [id \"1\"] \x1b[2J\u{9b}\u{202e}\u{2028}\\\" {\"transaction\":{}}";
    for format in [AuditFormat::Json, AuditFormat::Native] {
        let mut access = access(1);
        for text in [&mut access.method, &mut access.host, &mut access.target, &mut access.user_agent] {
            *text = evil.into();
        }
        access.method = format!("--00000000-B--\n{evil}");
        let mut detail = detail("ABFHKZ");
        detail.request_fields =
            vec![(format!("--00000000-H--{evil}"), evil.into()), (evil.into(), evil.into())];
        detail.response_fields = vec![("--00000000-Z--".into(), evil.into())];
        access.audit = Some(Box::new(detail));
        let mut hostile = signal(942_100, evil, evil);
        hostile.message = evil.into();
        let (signals, audit) = logged(format, security(access, vec![hostile]));
        assert_eq!(signals.lines().count(), 1, "{signals}");
        assert!(
            !(signals.clone() + &audit).chars().any(|c| c != '\n' && phalanx_record::escape::is_hidden(c))
        );
        // Outside of the quotes of fields there is one id, the rule's own.
        assert_eq!(outside_quotes(&signals).matches("[id ").count(), 1, "{signals}");
        if format == AuditFormat::Json {
            assert_eq!(audit.lines().count(), 1, "{audit}");
            let entry: serde_json::Value = serde_json::from_str(&audit).unwrap();
            assert_eq!(entry["transaction"]["messages"][0]["message"], evil);
        } else {
            let sections: String = audit
                .lines()
                .filter(|line| line.starts_with("--"))
                .filter_map(|line| line.get(11..12))
                .collect();
            assert_eq!(sections, "ABFHKZ", "{audit}");
        }
    }
}

/// The line without what stands between quotes.
fn outside_quotes(line: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            _ if !quoted => out.push(c),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    out
}

#[test]
fn secrets_are_in_no_log() {
    for format in [AuditFormat::Json, AuditFormat::Native] {
        let mut access = access(1);
        access.target = "/login?password=topsecret".into();
        let mut detail = detail("ABFHKZ");
        detail.request_fields.push(("Authorization".into(), "Basic topsecret".into()));
        detail.request_fields.push(("X-Forwarded-Uri".into(), "/?token=topsecret".into()));
        access.audit = Some(Box::new(detail));
        let found = vec![signal(942_100, "ARGS:password", "topsecret")];
        let (signals, audit) = logged(format, security(access, found));
        assert!(!signals.contains("topsecret") && !audit.contains("topsecret"), "{signals}{audit}");
        assert!(audit.contains("[masked]"));
    }
}

#[test]
fn a_passed_request_is_audited_where_the_rules_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(with_logs(dir.path(), AuditFormat::Json));
    let clean =
        |n, audit| AccessEvent { verdict: Verdict::allow(Reason::Clean), status: 200, audit, ..access(n) };
    lanes.access(Box::new(clean(1, None)));
    lanes.access(Box::new(clean(2, Some(Box::new(detail("ABFHZ"))))));
    recorder.stop();
    let audit = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    assert_eq!(audit.lines().count(), 1);
    assert!(audit.contains(&id(2).to_string()) && audit.contains("\"messages\":[]"));
    assert_eq!(std::fs::read_to_string(dir.path().join("modsecurity.log")).unwrap(), "");
}

#[test]
fn a_log_that_was_moved_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(with_logs(dir.path(), AuditFormat::Json));
    let status = recorder.status();
    lanes.security(audited("AZ"));
    wait(&status, "the first entry", |r| written(r, Part::AuditLog) == 1);
    std::fs::rename(dir.path().join("audit.log"), dir.path().join("audit.log.old")).unwrap();
    lanes.security(audited("AZ"));
    wait(&status, "the second entry", |r| written(r, Part::AuditLog) == 2);
    recorder.stop();
    for name in ["audit.log", "audit.log.old"] {
        assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap().lines().count(), 1, "{name}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_reported_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = with_logs(dir.path(), AuditFormat::Json);
    settings.audit_log = Some((dir.path().join("missing/audit.log"), AuditFormat::Json));
    settings.modsecurity_log = Some(dir.path().to_path_buf());
    let (recorder, lanes) = start(settings);
    let status = recorder.status();
    let degraded = status.report().degraded().join("\n");
    assert!(degraded.contains("audit log cannot be written (No such file"), "told at the start: {degraded}");
    assert!(degraded.contains("ModSecurity log cannot be written (not a regular file)"), "{degraded}");
    lanes.security(audited("AZ"));
    let report = wait(&status, "the history is written", |r| written(r, Part::History) == 1);
    let dropped = report.parts.iter().find(|part| part.part == Part::AuditLog).unwrap().dropped;
    assert_eq!(dropped, 1);
    std::fs::create_dir(dir.path().join("missing")).unwrap();
    lanes.security(audited("AZ"));
    wait(&status, "the audit log is written again", |r| {
        written(r, Part::AuditLog) == 1 && !failing(r, Part::AuditLog)
    });
    recorder.stop();
}

#[test]
fn a_node_without_these_logs_does_not_report_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, _lanes) = start(settings(dir.path()));
    assert_eq!(recorder.status().report().parts.len(), 3);
    recorder.stop();
}
