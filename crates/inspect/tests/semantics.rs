//! What rules mean, behaviour by behaviour.

mod support;

use phalanx_inspect::{CompileOptions, InterruptionKind};
use support::{head, ids, program, program_with, run, run_with};

#[test]
fn a_chain_matches_when_every_link_does() {
    let rules = r#"
        SecRule ARGS:a "@streq 1" "id:1,phase:1,pass,chain"
            SecRule ARGS:b "@streq 2"
    "#;
    assert_eq!(ids(rules, "/?a=1&b=2"), [1]);
    assert!(ids(rules, "/?a=1&b=3").is_empty());
    assert!(ids(rules, "/?b=2").is_empty());
}

#[test]
fn captures_belong_to_the_link_that_matched() {
    let rules = r#"
        SecRule ARGS:a "@rx ^(\w+)-(\w+)$" "id:1,phase:1,pass,capture,msg:'%{TX.0} %{TX.1} %{TX.2}',chain"
            SecRule TX:2 "@rx ^b(.)" "capture,setvar:'tx.seen=%{TX.1}'"
        SecRule TX:seen "@streq c" "id:2,phase:1,pass"
        SecRule &TX:2 "@eq 0" "id:3,phase:1,pass"
    "#;
    let findings = run(&program(rules), &head("GET /?a=x-bc HTTP/1.1\nHost: h"), b"");
    assert_eq!(findings.matched_rules, [1, 2, 3]);
    assert_eq!(findings.signals[0].message, "x-bc x bc");
}

#[test]
fn skip_after_goes_on_behind_the_marker() {
    let rules = r#"
        SecRule ARGS:level "@lt 2" "id:1,phase:1,pass,nolog,skipAfter:END"
        SecAction "id:2,phase:1,pass"
        SecMarker END
        SecAction "id:3,phase:1,pass"
    "#;
    assert_eq!(ids(rules, "/?level=1"), [3]);
    assert_eq!(ids(rules, "/?level=2"), [2, 3]);
}

#[test]
fn skip_passes_over_that_many_rules() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,skip:2"
        SecAction "id:2,phase:1,pass"
        SecAction "id:3,phase:1,pass"
        SecAction "id:4,phase:1,pass"
    "#;
    assert_eq!(ids(rules, "/"), [1, 4]);
}

#[test]
fn exclusions_take_members_away() {
    let rules = r#"
        SecRule ARGS|!ARGS:safe|!ARGS:/^x_/ "@contains evil" "id:1,phase:1,pass"
        SecRule REQUEST_HEADERS|!REQUEST_HEADERS:Host "@contains evil" "id:2,phase:1,pass"
    "#;
    assert!(ids(rules, "/?SAFE=evil&x_1=evil").is_empty());
    assert_eq!(ids(rules, "/?other=evil"), [1]);
}

#[test]
fn counts_are_of_members() {
    let rules = r#"
        SecRule &ARGS "@eq 3" "id:1,phase:1,pass"
        SecRule &ARGS:a "@eq 2" "id:2,phase:1,pass"
        SecRule &REQUEST_HEADERS:Nope "@eq 0" "id:3,phase:1,pass"
        SecRule &TX:nope "!@eq 0" "id:4,phase:1,pass"
    "#;
    assert_eq!(ids(rules, "/?a=1&a=2&b=3"), [1, 2, 3]);
}

#[test]
fn setvar_runs_for_every_value_that_matches() {
    let rules = r#"
        SecRule ARGS "@contains x" "id:1,phase:1,pass,nolog,setvar:tx.n=+5,setvar:'tx.last=%{MATCHED_VAR_NAME}'"
        SecRule TX:n "@eq 10" "id:2,phase:1,pass"
        SecRule TX:last "@streq ARGS:c" "id:3,phase:1,pass"
        SecRule TX:n "@gt %{ARGS.limit}" "id:4,phase:1,pass"
    "#;
    assert_eq!(ids(rules, "/?a=x&b=y&c=x&limit=9"), [2, 3, 4]);
}

#[test]
fn tx_names_made_at_run_time_are_found_by_name_and_pattern() {
    let rules = r#"
        SecRule ARGS_NAMES "@unconditionalMatch" "id:1,phase:1,pass,nolog,setvar:'tx.seen_%{MATCHED_VAR}=+1'"
        SecRule TX:seen_a "@eq 2" "id:2,phase:1,pass"
        SecRule TX:/^seen_/ "@ge 2" "id:3,phase:1,pass,msg:'%{MATCHED_VAR_NAME}'"
        SecAction "id:4,phase:1,pass,nolog,setvar:!tx.seen_a"
        SecRule &TX:/^seen_/ "@eq 1" "id:5,phase:1,pass"
    "#;
    let findings = run(&program(rules), &head("GET /?a=1&a=2&b=3 HTTP/1.1\nHost: h"), b"");
    assert_eq!(findings.matched_rules, [2, 3, 5]);
    assert_eq!(findings.signals[1].message, "TX:seen_a");
}

#[test]
fn matched_vars_hold_the_matches_of_the_chain() {
    let rules = r#"
        SecRule ARGS "@contains /" "id:1,phase:1,pass,chain"
            SecRule MATCHED_VARS "@contains two"
        SecRule ARGS "@contains /" "id:2,phase:1,pass,chain"
            SecRule MATCHED_VARS "@contains three"
        SecRule ARGS "@contains /" "id:3,phase:1,pass,chain"
            SecRule MATCHED_VARS_NAMES "@streq ARGS:b"
    "#;
    assert_eq!(ids(rules, "/?a=/one&b=/two&c=three"), [1, 3]);
}

#[test]
fn multi_match_looks_at_every_step() {
    let rules = r#"
        SecRule ARGS "@contains %41" "id:1,phase:1,pass,t:urlDecode,multiMatch"
        SecRule ARGS "@contains %41" "id:2,phase:1,pass,t:urlDecode"
        SecRule ARGS "@rx ^A$" "id:3,phase:1,pass,t:urlDecode,multiMatch"
    "#;
    assert_eq!(ids(rules, "/?a=%2541"), [1, 3]);
}

#[test]
fn disruptive_actions_stop_and_are_only_recorded_when_detecting() {
    let rules = r#"SecRule ARGS:a "@streq 1" "id:1,phase:1,deny,status:418""#;
    let request = head("GET /?a=1 HTTP/1.1\nHost: h");
    let stop = run(&program(rules), &request, b"").interruption.unwrap();
    assert_eq!((stop.rule, stop.status, stop.phase), (1, 418, 1));
    let findings = run(&program(&format!("SecRuleEngine DetectionOnly\n{rules}")), &request, b"");
    assert!(findings.interruption.is_none());
    assert_eq!(findings.would_interrupt.unwrap().status, 418);
    let off = run(&program(&format!("SecRuleEngine Off\n{rules}")), &request, b"");
    assert!(off.matched_rules.is_empty());
}

#[test]
fn block_does_what_the_default_action_says() {
    let rule = r#"SecRule ARGS:a "@streq 1" "id:1,phase:1,block""#;
    let request = head("GET /?a=1 HTTP/1.1\nHost: h");
    let stop =
        run(&program(&format!("SecDefaultAction \"phase:1,log,deny,status:406\"\n{rule}")), &request, b"");
    assert_eq!(stop.interruption.unwrap().status, 406);
    let pass = run(&program(&format!("SecDefaultAction \"phase:1,log,pass\"\n{rule}")), &request, b"");
    assert!(pass.interruption.is_none());
    assert_eq!(pass.matched_rules, [1]);
}

#[test]
fn redirects_and_drops_say_so() {
    let rules = r#"
        SecRule ARGS:a "@streq 1" "id:1,phase:1,redirect:'https://example.org/%{ARGS.b}'"
        SecRule ARGS:a "@streq 2" "id:2,phase:1,drop"
    "#;
    let stop = |target: &str| {
        run(&program(rules), &head(&format!("GET {target} HTTP/1.1\nHost: h")), b"").interruption.unwrap()
    };
    let redirect = stop("/?a=1&b=x");
    assert_eq!(redirect.kind, InterruptionKind::Redirect("https://example.org/x".into()));
    assert_eq!(redirect.status, 302);
    assert_eq!(stop("/?a=2").kind, InterruptionKind::Drop);
}

#[test]
fn allow_reaches_as_far_as_it_says() {
    let rules = |scope: &str| {
        format!(
            r#"
            SecRule ARGS:a "@streq 1" "id:1,phase:1,nolog,{scope}"
            SecAction "id:2,phase:1,pass"
            SecAction "id:3,phase:2,pass"
            SecAction "id:4,phase:3,pass"
            SecAction "id:5,phase:5,pass"
            "#
        )
    };
    assert_eq!(ids(&rules("allow"), "/?a=1"), [5]);
    assert_eq!(ids(&rules("allow:request"), "/?a=1"), [4, 5]);
    assert_eq!(ids(&rules("allow:phase"), "/?a=1"), [3, 4, 5]);
    assert_eq!(ids(&rules("allow"), "/"), [2, 3, 4, 5]);
}

#[test]
fn ctl_removes_rules_and_targets() {
    let rules = r#"
        SecRule ARGS:off "@streq id" "id:1,phase:1,pass,nolog,ctl:ruleRemoveById=10-11"
        SecRule ARGS:off "@streq tag" "id:2,phase:1,pass,nolog,ctl:ruleRemoveByTag=attack-x"
        SecRule ARGS:off "@streq target" "id:3,phase:1,pass,nolog,ctl:ruleRemoveTargetById=10;ARGS:q"
        SecRule ARGS:off "@streq bytag" "id:4,phase:1,pass,nolog,ctl:ruleRemoveTargetByTag=attack-x;ARGS:q"
        SecRule ARGS:off "@streq engine" "id:5,phase:1,pass,nolog,ctl:ruleEngine=Off"
        SecRule ARGS|ARGS_NAMES "@contains evil" "id:10,phase:1,pass,tag:'attack-x'"
        SecRule ARGS "@rx evil" "id:11,phase:1,pass,tag:'other'"
    "#;
    assert_eq!(ids(rules, "/?q=evil"), [10, 11]);
    assert!(ids(rules, "/?q=evil&off=id").is_empty());
    assert_eq!(ids(rules, "/?q=evil&off=tag"), [11]);
    assert_eq!(ids(rules, "/?q=evil&off=target"), [11]);
    assert_eq!(ids(rules, "/?r=evil&off=target"), [10, 11]);
    assert_eq!(ids(rules, "/?q=evil&off=bytag"), [11]);
    assert!(ids(rules, "/?q=evil&off=engine").is_empty());
}

#[test]
fn updates_change_rules_at_load() {
    let rules = r#"
        SecRule ARGS "@contains evil" "id:1,phase:1,pass,msg:'one',tag:'t1'"
        SecRule ARGS "@contains evil" "id:2,phase:1,pass,msg:'two',tag:'t2'"
        SecRule ARGS "@contains evil" "id:3,phase:1,pass,msg:'three',tag:'t3'"
        SecRule ARGS "@contains evil" "id:4,phase:1,pass,msg:'four'"
        SecRuleRemoveById 1
        SecRuleUpdateTargetByTag t2 "!ARGS:q"
        SecRuleRemoveByMsg three
        SecRuleUpdateActionById 4 "deny,status:499"
    "#;
    let request = head("GET /?q=evil HTTP/1.1\nHost: h");
    let findings = run(&program(rules), &request, b"");
    assert_eq!(findings.matched_rules, [4]);
    assert_eq!(findings.interruption.unwrap().status, 499);
}

#[test]
fn persistent_collections_outlive_the_transaction() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.hits=+1,expirevar:ip.hits=60"
        SecRule IP:hits "@gt 2" "id:2,phase:1,pass"
    "#;
    let program = program_with(rules, &CompileOptions::default());
    let request = head("GET / HTTP/1.1\nHost: h");
    let mut scratch = Box::default();
    let mut seen = Vec::new();
    for at_ms in [0, 1, 2, 70_000] {
        let (findings, lent) = run_with(&program, scratch, &request, b"", 1_700_000_000_000 + at_ms);
        scratch = lent;
        seen.push(findings.matched_rules.contains(&2));
    }
    assert_eq!(seen, [false, false, true, false]);
}

#[test]
fn values_of_variables_follow_the_reference() {
    let request = head(
        "GET /a%20b/c%2Bd+e.php?x=1%202&y=a+b HTTP/1.1\nHost: example.org:81\nCookie: k=v; other=1\nUser-Agent: ua",
    );
    for (variable, value) in [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_LINE", "GET /a%20b/c%2Bd+e.php?x=1%202&y=a+b HTTP/1.1"),
        ("REQUEST_URI", "/a%20b/c%2Bd+e.php?x=1%202&y=a+b"),
        ("REQUEST_URI_RAW", "/a%20b/c%2Bd+e.php?x=1%202&y=a+b"),
        ("REQUEST_FILENAME", "/a b/c+d+e.php"),
        ("REQUEST_BASENAME", "c+d+e.php"),
        ("QUERY_STRING", "x=1%202&y=a+b"),
        ("ARGS:x", "1 2"),
        ("ARGS_GET:y", "a b"),
        ("REQUEST_COOKIES:k", "v"),
        ("REQUEST_HEADERS:user-agent", "ua"),
        ("SERVER_NAME", "example.org"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("TIME_YEAR", "2023"),
        ("ARGS_COMBINED_SIZE", "8"),
    ] {
        let rules = format!("SecRule {variable} \"@streq {value}\" \"id:1,phase:1,pass\"");
        assert_eq!(run(&program(&rules), &request, b"").matched_rules, [1], "{variable}");
    }
}

#[test]
fn operators_take_macros() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:'tx.methods=GET POST',setvar:'tx.pattern=^/ad'"
        SecRule REQUEST_METHOD "!@within %{tx.methods}" "id:2,phase:1,pass"
        SecRule REQUEST_METHOD "@within %{tx.methods}" "id:3,phase:1,pass"
        SecRule REQUEST_URI "@rx %{tx.pattern}min" "id:4,phase:1,pass"
        SecRule ARGS:a "@streq %{ARGS.b}" "id:5,phase:1,pass"
    "#;
    assert_eq!(ids(rules, "/admin?a=1&b=1"), [3, 4, 5]);
}

#[test]
fn secrets_never_reach_the_findings() {
    let rules = r#"
        SecRule REQUEST_HEADERS|REQUEST_COOKIES|ARGS|QUERY_STRING|REQUEST_LINE "@contains hunter2" \
            "id:1,phase:1,pass,capture,msg:'m %{MATCHED_VAR}',logdata:'%{TX.0} in %{MATCHED_VAR_NAME}: %{MATCHED_VAR}'"
        SecRule REQUEST_HEADERS:Authorization "@rx (hunter.)" "id:2,phase:1,pass,capture,setvar:tx.copy=%{TX.1}"
        SecRule TX:copy "@rx hunter" "id:3,phase:1,pass,logdata:'%{MATCHED_VAR} %{TX.copy}'"
        SecRule RESPONSE_HEADERS:Set-Cookie "@contains secret" "id:4,phase:3,pass,logdata:'%{MATCHED_VAR}'"
        SecRule ARGS:note "@contains private" "id:5,phase:1,pass,logdata:'%{MATCHED_VAR}',chain"
            SecRule ARGS:note "@contains private" "sanitiseArg:note"
    "#;
    let request = head(
        "GET /?password=hunter2&x=hunter2-is-fine&note=private HTTP/1.1\nHost: h\nAuthorization: Bearer hunter2\nCookie: sid=hunter2",
    );
    let findings = run(&program(rules), &request, b"");
    assert_eq!(findings.matched_rules, [1, 2, 3, 5, 4]);
    for signal in &findings.signals {
        for found in &signal.matches {
            if !matches!(found.variable.as_str(), "ARGS:x" | "QUERY_STRING" | "REQUEST_LINE") {
                assert!(found.fragment.starts_with("[masked"), "{found:?}");
            }
            assert!(!found.fragment.contains("password=hunter2"), "{found:?}");
        }
        assert!(!signal.data.contains("private") && !signal.data.contains("secret"), "{signal:?}");
        assert!(!signal.message.contains("password=hunter2") && !signal.data.contains("password=hunter2"));
    }
}

#[test]
fn scores_are_told_per_rule_and_in_total() {
    let rules = r#"
        SecRule ARGS "@contains evil" "id:1,phase:1,pass,setvar:tx.inbound_anomaly_score_pl1=+5"
        SecRule ARGS "@contains worse" "id:2,phase:1,pass,setvar:tx.inbound_anomaly_score_pl2=+3"
        SecAction "id:3,phase:2,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=%{tx.inbound_anomaly_score_pl1}"
    "#;
    let findings = run(&program(rules), &head("GET /?a=evil&b=evil-worse HTTP/1.1\nHost: h"), b"");
    assert_eq!(findings.signals.iter().map(|s| s.score).collect::<Vec<_>>(), [10, 3]);
    assert_eq!(findings.score, 10);
}

#[test]
fn a_reused_scratch_remembers_nothing() {
    let rules = r#"
        SecRule &TX:x "@gt 0" "id:1,phase:1,pass"
        SecRule &ARGS "@gt 1" "id:2,phase:1,pass"
        SecRule ARGS "@contains a" "id:3,phase:1,pass,setvar:tx.x=1,setvar:tx.y_%{ARGS.n}=1,ctl:ruleRemoveById=4"
        SecRule ARGS:n "@streq 1" "id:4,phase:1,pass"
        SecRule &TX:/^y_/ "@gt 1" "id:5,phase:1,pass"
    "#;
    let program = program(rules);
    let first = head("GET /?n=1&q=a HTTP/1.1\nHost: h");
    let second = head("GET /?n=1 HTTP/1.1\nHost: h");
    let (findings, scratch) = run_with(&program, Box::default(), &first, b"", 1);
    assert_eq!(findings.matched_rules, [2, 3]);
    let (findings, _) = run_with(&program, scratch, &second, b"", 2);
    assert_eq!(findings.matched_rules, [4]);
}

#[test]
fn the_body_is_read_as_its_type_says() {
    let rules = r#"SecRule ARGS_POST:a "@streq x y" "id:1,phase:2,pass"
        SecRule REQBODY_PROCESSOR "@streq URLENCODED" "id:2,phase:1,pass"
        SecRule REQUEST_BODY "@contains a=x+y" "id:3,phase:2,pass""#;
    let request = head("POST / HTTP/1.1\nHost: h\nContent-Type: application/x-www-form-urlencoded");
    assert_eq!(run(&program(rules), &request, b"a=x+y").matched_rules, [2, 1, 3]);
    let other = head("POST / HTTP/1.1\nHost: h\nContent-Type: text/plain");
    assert!(run(&program(rules), &other, b"a=x+y").matched_rules.is_empty());
}

#[test]
fn no_cookie_hides_behind_many() {
    let rules = r#"SecRule REQUEST_COOKIES "@contains evil" "id:1,phase:1,pass""#;
    let many = "a=b; ".repeat(3000);
    let request = head(&format!("GET / HTTP/1.1\nHost: h\nCookie: {many}x=evil"));
    assert_eq!(run(&program(rules), &request, b"").matched_rules, [1]);
}

#[test]
fn an_exclusion_takes_away_what_it_names_and_no_more() {
    let rules = r#"
        SecRule XML:/*|XML://@* "@rx evil" "id:1,phase:2,pass"
        SecRuleUpdateTargetById 1 "!XML://@*"
        SecAction "id:2,phase:1,pass,nolog,setvar:tx.bar=evil,setvar:tx.foo=evil"
        SecRule TX:/^(?:bar|foo)$/|!TX:foo "@streq evil" "id:3,phase:2,pass"
        SecRule TX:/^foo$/|!TX:foo "@streq evil" "id:4,phase:2,pass"
    "#;
    let xml = "POST / HTTP/1.1\nHost: h\nContent-Type: text/xml";
    assert_eq!(run(&program(rules), &head(xml), b"<a>evil</a>").matched_rules, [1, 3]);
    assert_eq!(run(&program(rules), &head(xml), b"<a b='evil'/>").matched_rules, [3]);
}
