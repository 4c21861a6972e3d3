//! What a match says of itself: the value on its way through the transformations, the scores around it, its edition.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod support;

use phalanx_model::limits::{FRAGMENT_BYTES_MAX, STEP_TEXT_BYTES_MAX};
use phalanx_model::{ScoreChange, Signal};
use support::{head, program, run};

fn signals(rules: &str, target: &str) -> Vec<Signal> {
    run(&program(rules), &head(&format!("GET {target} HTTP/1.1\nHost: h\nCookie: sid=abc")), b"").signals
}

/// Received value and steps, as `name=value` or `name` alone.
fn told(signal: &Signal) -> (String, Vec<String>) {
    let found = &signal.matches[0];
    let steps = found.steps.iter().map(|step| match &step.value {
        Some(value) => format!("{}={value}", step.name),
        None => format!("{}{}", step.name, if step.changed { " changed" } else { "" }),
    });
    (found.value.clone().unwrap(), steps.collect())
}

#[test]
fn every_step_shows_what_it_made_of_the_value() {
    let rules = r#"SecRule ARGS:q "@contains union select" "id:1,phase:2,deny,t:urlDecodeUni,t:htmlEntityDecode,t:lowercase,t:compressWhitespace""#;
    let (value, steps) = told(&signals(rules, "/?q=UNION%2520%2520SELECT")[0]);
    assert_eq!(value, "UNION%20%20SELECT");
    assert_eq!(
        steps,
        [
            "urlDecodeUni=UNION  SELECT",
            "htmlEntityDecode",
            "lowercase=union  select",
            "compressWhitespace=union select"
        ]
    );
}

#[test]
fn with_multi_match_the_steps_end_where_it_matched() {
    let rules = r#"SecRule ARGS:q "@streq ab" "id:1,phase:2,pass,multiMatch,t:lowercase,t:hexEncode""#;
    let (value, steps) = told(&signals(rules, "/?q=AB")[0]);
    assert_eq!((value.as_str(), steps), ("AB", vec!["lowercase=ab".to_owned()]));
}

#[test]
fn secrets_are_in_no_form_of_the_value() {
    let rules = r#"
        SecRule ARGS:password "@rx ." "id:1,phase:2,pass,t:base64Encode"
        SecRule REQUEST_COOKIES:sid "@rx ." "id:2,phase:2,pass,t:uppercase"
        SecRule QUERY_STRING "@rx ." "id:3,phase:2,pass,t:base64Encode,t:hexEncode"
        SecRule ARGS:later "@rx ." "id:4,phase:2,pass,t:uppercase"
        SecRule ARGS:later "@rx ." "id:5,phase:2,pass,nolog,sanitiseMatched"
    "#;
    let found = signals(rules, "/?password=hunter2&later=hunter2");
    assert_eq!(found.len(), 4);
    let text = format!("{found:?}").to_lowercase();
    let encoded = ["hunter2", "abc\"", "aHVudGVyMg", "cGFzc3dvcmQ9aHVudGVyMg"];
    assert!(encoded.iter().all(|secret| !text.contains(&secret.to_lowercase())), "{text}");
    // The encoded query holds the password too, though no mask can see it there.
    let (value, steps) = told(&found[2]);
    assert_eq!(value, "password=[masked, 7 bytes]&later=hunter2".replace("hunter2", "[masked, 7 bytes]"));
    assert!(steps.iter().all(|step| step.contains("=[masked, ")), "{steps:?}");
}

#[test]
fn long_values_and_many_matches_stay_bounded() {
    let rules: String = (1..=64)
        .map(|id| {
            format!(
                "SecRule ARGS \"@contains x\" \"id:{id},phase:2,pass,t:lowercase,t:uppercase,t:lowercase\"\n"
            )
        })
        .collect();
    let found = signals(
        &rules,
        &format!("/?{}", (0..8).map(|n| format!("a{n}={n}{}&", "xX".repeat(900))).collect::<String>()),
    );
    let texts = || {
        found
            .iter()
            .flat_map(|signal| &signal.matches)
            .flat_map(|one| one.value.iter().chain(one.steps.iter().filter_map(|step| step.value.as_ref())))
    };
    assert!(texts().all(|text| text.len() <= FRAGMENT_BYTES_MAX && text.ends_with('…')));
    assert!(texts().map(String::len).sum::<usize>() <= STEP_TEXT_BYTES_MAX);
    let last = &found.last().unwrap().matches[0];
    assert_eq!(last.steps.len(), 3, "names are kept");
    assert!(last.steps[0].changed && last.steps[0].value.is_none());
}

#[test]
fn scores_are_told_as_they_were_around_the_match() {
    let rules = r#"
        SecRule ARGS:a "@rx ." "id:1,phase:2,pass,setvar:tx.inbound_anomaly_score_pl1=+5"
        SecRule ARGS:b "@rx ." "id:2,phase:2,pass,setvar:tx.inbound_anomaly_score_pl2=+3,setvar:tx.other=+9"
        SecRule ARGS:b "@rx ." "id:3,phase:2,pass"
        SecRule RESPONSE_STATUS "@eq 200" "id:4,phase:3,pass,setvar:tx.outbound_anomaly_score_pl1=+4"
    "#;
    let found = signals(rules, "/?a=1&b=2");
    let changes: Vec<_> = found.iter().map(|signal| (signal.score, signal.inbound.unwrap())).collect();
    let change = |before, after| ScoreChange { before, after };
    assert_eq!(changes, [(5, change(0, 5)), (3, change(5, 8)), (0, change(8, 8)), (4, change(8, 8))]);
}

#[test]
fn the_edition_of_a_rule_is_kept() {
    let rules =
        r#"SecRule ARGS "@rx ." "id:1,phase:2,pass,ver:'OWASP_CRS/4.0.0',rev:'2',maturity:'9',accuracy:'8'""#;
    let edition = signals(rules, "/?a=1")[0].rule.edition.clone();
    let parts = [edition.ver, edition.rev, edition.maturity, edition.accuracy];
    assert_eq!(parts.map(|part| part.to_string()), ["OWASP_CRS/4.0.0", "2", "9", "8"]);
}
