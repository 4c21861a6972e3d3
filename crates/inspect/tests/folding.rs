//! What is done at load changes no finding: gates, defaults and jumps, each with the fast path on and off.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use phalanx_inspect::{CompileOptions, Transaction};
use phalanx_policy::{ClassUse, Classes};
use support::{connection, head, program, program_with, run};

/// Runs each target through the rules with and without the fast path; gives the rules that matched.
#[track_caller]
fn check(rules: &str, target: &str, expected: &[u64]) {
    let matched = |prefilter| {
        let program = program_with(rules, &CompileOptions { prefilter, ..CompileOptions::default() });
        let findings = run(&program, &head(&format!("GET {target} HTTP/1.1\nHost: h")), b"");
        (findings.matched_rules, findings.interruption, findings.would_interrupt, findings.score)
    };
    let (fast, slow) = (matched(true), matched(false));
    assert_eq!(fast, slow, "{target}");
    assert_eq!(fast.0, expected, "{target}");
}

const GATED: &str = r#"
    SecAction "id:1,phase:1,pass,nolog,setvar:tx.level=1"
    SecRule &TX:limit "@eq 0" "id:2,phase:1,pass,nolog,setvar:tx.limit=5"
    SecRule TX:level "@lt 2" "id:3,phase:1,pass,nolog,skipAfter:LEVEL-2"
    SecRule ARGS "@contains a" "id:4,phase:1,pass"
    SecMarker LEVEL-2
    SecRule ARGS "@contains b" "id:5,phase:1,pass"
    SecRule TX:limit "@eq 5" "id:6,phase:1,pass"
    SecRule TX:level "@lt 2" "id:7,phase:2,pass,nolog,skipAfter:LEVEL-2-AGAIN"
    SecRule ARGS "@contains c" "id:8,phase:2,pass"
    SecMarker LEVEL-2-AGAIN
    SecRule ARGS "@contains d" "id:9,phase:2,pass"
"#;

#[test]
fn a_gate_that_is_known_skips_in_every_phase() {
    check(GATED, "/?x=abcd", &[5, 6, 9]);
    check(&GATED.replace("tx.level=1", "tx.level=2"), "/?x=abcd", &[4, 5, 6, 8, 9]);
}

#[test]
fn a_variable_that_a_request_can_change_is_not_known() {
    let rules =
        format!(r#"SecRule ARGS:deep "@streq 1" "id:10,phase:1,pass,nolog,setvar:tx.limit=7"{GATED}"#);
    check(&rules, "/?x=abcd", &[5, 6, 9]);
    check(&rules, "/?x=abcd&deep=1", &[5, 9]);
    let rules = GATED.replace(
        r#"SecRule TX:level "@lt 2" "id:3"#,
        "SecRule ARGS:deep \"@streq 1\" \"id:11,phase:1,pass,nolog,setvar:tx.level=3\"\nSecRule TX:level \"@lt 2\" \"id:3",
    );
    check(&rules, "/?x=abcd", &[5, 6, 9]);
    check(&rules, "/?x=abcd&deep=1", &[4, 5, 6, 8, 9]);
}

#[test]
fn a_name_made_at_run_time_may_be_any_that_starts_like_it() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.level_a=1,setvar:tx.other=1"
        SecRule ARGS:name "@rx .+" "id:2,phase:1,pass,nolog,setvar:'tx.level_%{MATCHED_VAR}=9'"
        SecRule TX:level_a "@eq 9" "id:3,phase:1,pass"
        SecRule TX:other "@eq 9" "id:4,phase:1,pass"
    "#;
    check(rules, "/?name=a", &[3]);
    check(rules, "/?name=b", &[]);
}

#[test]
fn a_rule_that_is_taken_out_does_not_skip() {
    let rules = |removed: &str| {
        GATED.replace(
            r#"SecRule TX:level "@lt 2" "id:3"#,
            &format!(
                "SecRule ARGS:off \"@streq 1\" \"id:12,phase:1,pass,nolog,ctl:ruleRemoveById={removed}\"\nSecRule TX:level \"@lt 2\" \"id:3"
            ),
        )
    };
    check(&rules("3"), "/?x=abcd", &[5, 6, 9]);
    check(&rules("3"), "/?x=abcd&off=1", &[4, 5, 6, 9]);
    // The gate goes with all that it skips.
    check(&rules("3-4"), "/?x=abcd&off=1", &[5, 6, 9]);
    check(&rules("6"), "/?x=abcd&off=1", &[5, 9]);
}

#[test]
fn a_target_that_is_taken_away_leaves_a_gate_without_a_member() {
    let rules = GATED.replace(
        r#"SecRule TX:level "@lt 2" "id:3"#,
        "SecRule ARGS:off \"@streq 1\" \"id:12,phase:1,pass,nolog,ctl:ruleRemoveTargetById=3;TX:level\"\nSecRule TX:level \"@lt 2\" \"id:3",
    );
    check(&rules, "/?x=abcd", &[5, 6, 9]);
    check(&rules, "/?x=abcd&off=1", &[4, 5, 6, 9]);
}

#[test]
fn assignments_behind_a_jump_are_made_only_where_it_leads() {
    let rules = r#"
        SecRule ARGS:jump "@streq 1" "id:1,phase:1,pass,nolog,skipAfter:HALF"
        SecAction "id:2,phase:1,pass,nolog,setvar:tx.a=1"
        SecMarker HALF
        SecAction "id:3,phase:1,pass,nolog,setvar:tx.b=1"
        SecRule TX:a "@eq 1" "id:4,phase:1,pass"
        SecRule TX:b "@eq 1" "id:5,phase:1,pass"
    "#;
    check(rules, "/", &[4, 5]);
    check(rules, "/?jump=1", &[5]);
}

#[test]
fn the_last_phase_knows_only_what_holds_wherever_the_request_ended() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.stage=1"
        SecRule ARGS:bad "@streq 1" "id:2,phase:1,deny"
        SecAction "id:3,phase:1,pass,nolog,setvar:tx.stage=2"
        SecAction "id:4,phase:2,pass,nolog,setvar:tx.stage=3"
        SecRule TX:stage "@eq 1" "id:5,phase:5,pass"
        SecRule TX:stage "@eq 3" "id:6,phase:5,pass"
    "#;
    check(rules, "/", &[6]);
    check(rules, "/?bad=1", &[2, 5]);
}

#[test]
fn an_allowed_phase_leaves_its_later_settings_unset() {
    let rules = r#"
        SecRule ARGS:ok "@streq 1" "id:1,phase:1,allow:phase,nolog"
        SecAction "id:2,phase:1,pass,nolog,setvar:tx.level=4"
        SecRule TX:level "@eq 4" "id:3,phase:2,pass"
        SecRule &TX:level "@eq 0" "id:4,phase:2,pass"
    "#;
    check(rules, "/", &[3]);
    check(rules, "/?ok=1", &[4]);
}

#[test]
fn a_counter_of_several_matches_is_not_known() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.n=0"
        SecRule ARGS "@contains x" "id:2,phase:1,pass,nolog,setvar:tx.n=+1"
        SecAction "id:3,phase:1,pass,nolog,setvar:tx.m=0,setvar:tx.m=+2"
        SecRule TX:n "@ge 2" "id:4,phase:1,pass"
        SecRule TX:m "@eq 2" "id:5,phase:1,pass"
    "#;
    check(rules, "/?a=x&b=x", &[4, 5]);
    check(rules, "/?a=x", &[5]);
}

#[test]
fn a_copy_that_is_made_twice_is_not_known() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=0,setvar:tx.b=0"
        SecRule ARGS "@rx ." "id:2,phase:1,pass,nolog,setvar:tx.a=%{tx.b},setvar:tx.b=5"
        SecRule TX:a "@eq 5" "id:3,phase:1,deny"
    "#;
    check(rules, "/?x=1", &[]);
    check(rules, "/?x=1&y=2", &[3]);
}

#[test]
fn an_allowed_request_comes_to_its_response_without_the_second_phase() {
    let rules = r#"
        SecRule ARGS:ok "@streq 1" "id:1,phase:1,nolog,allow:request"
        SecAction "id:2,phase:2,pass,nolog,setvar:tx.c=1"
        SecRule TX:c "@eq 1" "id:3,phase:3,pass,nolog,skipAfter:E"
        SecRule RESPONSE_STATUS "@rx ." "id:4,phase:3,deny"
        SecMarker E
    "#;
    check(rules, "/", &[]);
    check(rules, "/?ok=1", &[4]);
}

#[test]
fn a_gate_that_sets_something_counts_only_where_it_runs() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.l=1"
        SecRule ARGS:off "@streq 1" "id:2,phase:1,pass,nolog,ctl:ruleRemoveById=10-11"
        SecRule TX:l "@lt 2" "id:10,phase:1,pass,nolog,setvar:tx.s=1,skipAfter:M"
        SecRule ARGS "@rx a" "id:11,phase:1,pass"
        SecMarker M
        SecRule &TX:s "@eq 0" "id:12,phase:1,deny"
    "#;
    check(rules, "/", &[]);
    check(rules, "/?off=1", &[12]);
}

#[test]
fn a_match_that_a_later_rule_reads_is_not_left_out() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.l=1"
        SecRule TX:l "@eq 1" "id:2,phase:1,pass,nolog,setvar:tx.b=1"
        SecRule ARGS:x "@streq %{MATCHED_VAR}" "id:3,phase:1,deny"
    "#;
    check(rules, "/?x=1", &[3]);
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.l=1"
        SecRule TX:l "@eq 1" "id:2,phase:1,pass,nolog,setvar:tx.b=1"
        SecAction "id:3,phase:1,pass,nolog,setvar:'tx.seen_%{MATCHED_VAR}=1'"
        SecRule TX:seen_1 "@eq 1" "id:4,phase:1,deny"
    "#;
    check(rules, "/", &[4]);
}

#[test]
fn a_gate_that_an_app_leaves_out_skips_nothing_there() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,setvar:tx.l=1"
        SecRule TX:l "@eq 1" "id:2,phase:2,pass,tag:'phalanx/class/policy',skipAfter:E"
        SecRule ARGS "@contains evil" "id:3,phase:2,deny,tag:'phalanx/class/detection'"
        SecMarker E
    "#;
    check(rules, "/?x=evil", &[2]);
    let program = program(rules);
    let classes = Classes { policy: ClassUse::Off, ..Classes::default() };
    let transaction = Transaction::new(Arc::clone(&program), Box::default(), connection());
    let mut transaction = transaction.within(program.scope(&classes).as_ref());
    transaction.request_head(&head("GET /?x=evil HTTP/1.1\nHost: h"));
    transaction.request_body(Bytes::new(), true);
    assert_eq!(transaction.finish(200).0.matched_rules, [3]);
}
