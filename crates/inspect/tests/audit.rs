//! Which transactions are for the audit log, and with which parts.

mod support;

use phalanx_inspect::{CompileOptions, Program};
use phalanx_model::AuditParts;
use phalanx_policy::seclang::{LoadOptions, load_texts};
use support::{head, program, run};

/// The parts of the audit log entry that a request gets, if it gets one.
fn parts(rules: &str, target: &str) -> Option<AuditParts> {
    run(&program(rules), &head(&format!("GET {target} HTTP/1.1\nHost: h")), b"")
        .audit
        .map(|audit| audit.parts)
}

#[test]
fn the_engine_says_which_transactions_are_audited() {
    let found = r#"SecRule ARGS "@rx x" "id:1,phase:2,pass""#;
    for (settings, clean, matched) in [
        ("", false, true),
        ("SecAuditEngine RelevantOnly\n", false, true),
        ("SecAuditEngine Off\n", false, false),
        ("SecAuditEngine On\n", true, true),
        // The reply's status is 200.
        ("SecAuditLogRelevantStatus \"^2\"\n", true, true),
        ("SecAuditLogRelevantStatus \"^(?:5|4(?!04))\"\n", false, true),
        ("SecAuditEngine Off\nSecAuditLogRelevantStatus \"^2\"\n", false, false),
    ] {
        let rules = format!("{settings}{found}\n");
        let audited = (parts(&rules, "/?q=1").is_some(), parts(&rules, "/?q=x").is_some());
        assert_eq!(audited, (clean, matched), "{settings}");
    }
}

#[test]
fn a_match_is_audited_as_its_rule_says() {
    for (actions, audited) in [
        ("pass", true),
        ("pass,nolog", false),
        ("pass,noauditlog", false),
        ("pass,nolog,auditlog", true),
        ("pass,ctl:auditEngine=Off", false),
        ("pass,nolog,ctl:auditEngine=On", true),
    ] {
        let rules = format!("SecRule ARGS \"@rx x\" \"id:1,phase:2,{actions}\"\n");
        assert_eq!(parts(&rules, "/?q=x").is_some(), audited, "{actions}");
    }
}

#[test]
fn parts_are_those_of_the_rule_set_changed_by_its_rules() {
    let of = |letters| Some(AuditParts::parse(letters).unwrap());
    for (settings, control, expected) in [
        ("", "", of("ABFHKZ")),
        ("SecAuditLogParts ABZ\n", "", of("ABZ")),
        ("SecAuditLogParts ABZ\n", ",ctl:auditLogParts=+H", of("ABHZ")),
        ("SecAuditLogParts ABHZ\n", ",ctl:auditLogParts=-BH", of("AZ")),
        ("SecAuditLogParts ABHZ\n", ",ctl:auditLogParts=AFZ", of("AFZ")),
    ] {
        let rules = format!("{settings}SecAction \"id:1,phase:1,pass{control}\"\n");
        assert_eq!(parts(&rules, "/"), expected, "{settings}{control}");
    }
}

#[test]
fn a_signal_says_whether_it_is_for_the_audit_log_and_what_its_rule_is() {
    for (actions, unaudited) in
        [("pass", false), ("pass,noauditlog", true), ("pass,nolog,log", false), ("pass,log,noauditlog", true)]
    {
        let rules = format!(
            "SecRule ARGS \"@rx \\bx\" \\\n    \"id:1,\\\n    phase:2,{actions},chain\"\n\tSecRule ARGS \"@rx x\" \"t:none\"\n"
        );
        let findings = run(&program(&rules), &head("GET /?q=x HTTP/1.1\nHost: h"), b"");
        let rule = &findings.signals[0].rule;
        assert_eq!(rule.unaudited, unaudited, "{actions}");
        let expected = format!(
            "SecRule ARGS \"@rx \\bx\" \"id:1, phase:2,{actions},chain\"\nSecRule ARGS \"@rx x\" \"t:none\""
        );
        assert_eq!(&*rule.source, expected);
    }
}

#[test]
fn the_rule_set_and_its_mode_are_named() {
    let rules = "SecComponentSignature \"OWASP_CRS/4.0.0\"\nSecRuleEngine DetectionOnly\nSecAction \"id:1,phase:1,pass\"\n";
    let audit = run(&program(rules), &head("GET / HTTP/1.1\nHost: h"), b"").audit.unwrap();
    assert_eq!((audit.engine, &*audit.components), ("DetectionOnly", &["OWASP_CRS/4.0.0".to_owned()][..]));
}

#[test]
fn a_pattern_of_statuses_that_does_not_compile_is_told_with_its_line() {
    let rules = "SecRuleEngine On\nSecAuditLogRelevantStatus \"^(5\"\n";
    let loaded = load_texts(&[("a.conf", rules)], &LoadOptions::default()).unwrap();
    let faults = Program::compile(&loaded.rules, &CompileOptions::default()).unwrap_err();
    assert!(
        faults[0].to_string().starts_with("error: a.conf:2: SecAuditLogRelevantStatus:"),
        "{}",
        faults[0]
    );
}
