//! What is done at load changes no finding: gates, defaults and jumps, each with the fast path on and off.

mod support;

use phalanx_inspect::CompileOptions;
use support::{head, program_with, run};

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
