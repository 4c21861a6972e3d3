//! The rule language as tables: rules, a request, the ids that match.

#![cfg(test)]

mod support;

use std::sync::Arc;

use phalanx_inspect::{CompileOptions, Findings, Program};
use phalanx_policy::seclang::{LoadOptions, load_texts};
use support::{connection, head, ids, program, program_with, run, run_with};

/// Compiles rules that refer to other files.
fn program_of(files: &[(&str, &str)]) -> Arc<Program> {
    let loaded = load_texts(files, &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap_or_else(|f| panic!("{f:#?}")))
}

#[track_caller]
fn check(rules: &str, cases: &[(&str, &[u64])]) {
    for (target, expected) in cases {
        assert_eq!(ids(rules, target), *expected, "{target}\n{rules}");
    }
}

const FIVE: &str = r#"
    SecRule ARGS "@contains evil" "id:11,phase:1,pass,msg:'first of five',tag:'a/one',tag:'OWASP_CRS'"
    SecRule ARGS "@contains evil" "id:12,phase:1,pass,msg:'second of five',tag:'a/two'"
    SecRule ARGS "@contains evil" "id:13,phase:1,pass,msg:'third of five',tag:'b/two'"
    SecRule ARGS|ARGS_NAMES "@contains evil" "id:14,phase:1,pass,msg:'fourth of five',tag:'b/one'"
    SecRule ARGS "@contains evil" "id:20,phase:1,pass,chain,msg:'last of five'"
        SecRule ARGS "@contains evil" "t:none"
"#;

#[test]
fn rules_are_removed_by_id_range_list_tag_and_message() {
    for (change, left) in [
        ("SecRuleRemoveById 12", &[11u64, 13, 14, 20] as &[u64]),
        ("SecRuleRemoveById 11-13 20", &[14]),
        ("SecRuleRemoveById \"11,13-14\"", &[12, 20]),
        ("SecRuleRemoveByTag a/", &[13, 14, 20]),
        ("SecRuleRemoveByTag ^b/one$", &[11, 12, 13, 20]),
        ("SecRuleRemoveByMsg \"of five$\"", &[]),
        ("SecRuleRemoveByMsg \"(first|last)\"", &[12, 13, 14]),
    ] {
        check(&format!("{FIVE}\n{change}"), &[("/?q=evil", left)]);
        // Changes reach every rule, wherever they stand.
        check(&format!("{change}\n{FIVE}"), &[("/?q=evil", left)]);
    }
}

#[test]
fn targets_are_changed_by_id_range_list_tag_and_message() {
    for (change, left) in [
        ("SecRuleUpdateTargetById 12 \"!ARGS:q\"", &[11u64, 13, 14, 20] as &[u64]),
        ("SecRuleUpdateTargetById 11-13 \"!ARGS:q\"", &[14, 20]),
        ("SecRuleUpdateTargetById \"11,20\" \"!ARGS:q\"", &[12, 13, 14]),
        ("SecRuleUpdateTargetById 11-20 \"!ARGS\"", &[]),
        ("SecRuleUpdateTargetById 11-20 \"!ARGS:/^[pq]$/,!ARGS_NAMES\"", &[]),
        ("SecRuleUpdateTargetByTag a/ \"!ARGS:q\"", &[13, 14, 20]),
        ("SecRuleUpdateTargetByMsg \"fourth\" \"!ARGS:q|!ARGS_NAMES\"", &[11, 12, 13, 20]),
    ] {
        check(&format!("{FIVE}\n{change}"), &[("/?q=evil", left)]);
    }
    let added = format!("{FIVE}\nSecRuleUpdateTargetById 12 \"!ARGS,REQUEST_HEADERS:X-Y\"");
    let request = head("GET /?q=evil HTTP/1.1\nHost: h\nX-Y: evil");
    assert!(run(&program(&added), &request, b"").matched_rules.contains(&12));
    assert!(!ids(&added, "/?q=evil").contains(&12));
}

#[test]
fn actions_are_changed_by_id() {
    let rules = format!("{FIVE}\nSecRuleUpdateActionById 13 \"deny,status:451,nolog\"");
    let findings = run(&program(&rules), &head("GET /?q=evil HTTP/1.1\nHost: h"), b"");
    assert_eq!(findings.matched_rules, [11, 12]);
    assert_eq!(findings.interruption.unwrap().status, 451);
}

#[test]
fn captures_and_log_data_are_those_of_the_link_that_matched() {
    let rules = r#"
        SecRule ARGS:a "@rx ^(\w)(\w)$" "id:1,phase:1,pass,capture,logdata:'first %{TX.1}%{TX.2} %{MATCHED_VAR_NAME}',chain"
            SecRule ARGS:b "@rx ^(\w)$" "capture,logdata:'second %{TX.0}%{TX.1}[%{TX.2}] %{MATCHED_VAR}',chain"
            SecRule ARGS:c "@streq %{TX.1}" "setvar:'tx.kept=%{TX.1}'"
        SecRule TX:kept "@streq z" "id:2,phase:1,pass,logdata:'%{TX.0} %{RULE.id} %{MATCHED_VAR}'"
        SecRule ARGS "@pm xx zz z" "id:3,phase:1,pass,capture,logdata:'%{TX.0}'"
        SecRule ARGS:d "@rxGlobal \d(\d)" "id:4,phase:1,pass,capture,logdata:'%{TX.0}|%{TX.1}|%{TX.2}|%{TX.3}|%{TX.4}'"
        SecRule ARGS:a "@rx (x)|(q)" "id:5,phase:1,pass,capture,logdata:'%{TX.1}[%{TX.2}]'"
    "#;
    let request = head("GET /?a=xy&b=z&c=z&d=12a34 HTTP/1.1\nHost: h");
    let findings = run(&program(rules), &request, b"");
    let data: Vec<(u64, &str)> = findings.signals.iter().map(|s| (s.rule.id, s.data.as_str())).collect();
    assert_eq!(data[0], (1, "second zz[] z"));
    assert_eq!(data[1], (2, "z 2 z"));
    assert_eq!(data[2], (3, "z"));
    assert_eq!(data[3], (4, "12|2|34|4|"));
    assert_eq!(data[4], (5, "x[]"));
}

#[test]
fn a_link_that_does_not_match_leaves_what_the_first_did() {
    let rules = r#"
        SecRule ARGS:a "@rx (.)" "id:1,phase:1,deny,capture,setvar:tx.first=1,chain"
            SecRule ARGS:b "@streq no" "setvar:tx.second=1"
        SecRule &TX:first "@eq 1" "id:2,phase:1,pass"
        SecRule &TX:second "@eq 0" "id:3,phase:1,pass"
    "#;
    check(rules, &[("/?a=1&b=2", &[2, 3])]);
}

#[test]
fn defaults_are_inherited_and_replaced() {
    let rules = r#"
        SecDefaultAction "phase:1,log,pass,t:urlDecode,tag:'local'"
        SecRule ARGS:a "@streq A" "id:1"
        SecRule ARGS:a "@streq %41" "id:2,phase:1,t:none"
        SecRule ARGS:a "@streq a" "id:3,phase:1,t:lowercase"
        SecRule ARGS:a "@streq A" "id:4,phase:1,t:none,t:urlDecode"
    "#;
    let rules = &rules.replace("\"id:1\"", "\"id:1,phase:1\"");
    check(rules, &[("/?a=%2541", &[1, 2, 3, 4])]);
}

#[test]
fn multi_match_tests_every_step_and_counts_each_that_differs() {
    let rules = r#"
        SecRule ARGS:a "@contains x" "id:1,phase:1,pass,nolog,multiMatch,t:urlDecode,t:lowercase,t:trim,setvar:tx.n=+1"
        SecRule TX:n "@eq 1" "id:2,phase:1,pass"
        SecRule TX:n "@eq 4" "id:3,phase:1,pass"
    "#;
    check(rules, &[("/?a=x", &[2]), ("/?a=%2520Xx%2520", &[3])]);
}

#[test]
fn addresses_match_ranges_of_both_families_from_text_and_file() {
    let rules = "SecRule ARGS:ip \"@ipMatch 192.0.2.0/25,2001:db8::/33,198.51.100.7\" \"id:1,phase:1,pass\"\n\
        SecRule ARGS:ip \"@ipMatchFromFile ips.txt\" \"id:2,phase:1,pass\"\n\
        SecRule ARGS:ip \"!@ipMatchF ips.txt\" \"id:3,phase:1,pass\"\n";
    let list = "# our own\n203.0.113.0/24 # lab\n\n2001:db8:8000::/33\n";
    let program = program_of(&[("t.conf", rules), ("ips.txt", list)]);
    for (ip, expected) in [
        ("192.0.2.127", &[1u64, 3] as &[u64]),
        ("192.0.2.128", &[3]),
        ("::ffff:192.0.2.1", &[1, 3]),
        ("198.51.100.7", &[1, 3]),
        ("2001:db8:7fff::1", &[1, 3]),
        ("2001:db8:8000::1", &[2]),
        ("2001:DB8:FFFF:0:0:0:0:1", &[2]),
        ("203.0.113.255", &[2]),
        ("203.0.113.256", &[3]),
        ("x", &[3]),
    ] {
        let request = head(&format!("GET /?ip={ip} HTTP/1.1\nHost: h"));
        assert_eq!(run(&program, &request, b"").matched_rules, expected, "{ip}");
    }
}

#[test]
fn phrases_match_without_case_from_text_and_files() {
    let rules = "SecRule ARGS \"@pm one TWO a|20|b\" \"id:1,phase:1,pass\"\n\
        SecRule ARGS \"@pmFromFile words.data more.data\" \"id:2,phase:1,pass\"\n\
        SecRule ARGS \"@pmf lists/inner.data\" \"id:3,phase:1,pass\"\n";
    let files = [
        ("t.conf", rules),
        ("words.data", "# words\nred car\nBLUE\n"),
        ("more.data", "green\r\n"),
        ("lists/inner.data", "yellow\n"),
    ];
    let program = program_of(&files);
    for (value, expected) in [
        ("xONEx", &[1u64] as &[u64]),
        ("two", &[1]),
        ("a+b", &[1]),
        ("a+c", &[]),
        ("a+Red+Car", &[2]),
        ("red", &[]),
        ("blue", &[2]),
        ("green", &[2]),
        ("words", &[]),
        ("yellowish", &[3]),
    ] {
        let request = head(&format!("GET /?q={value} HTTP/1.1\nHost: h"));
        assert_eq!(run(&program, &request, b"").matched_rules, expected, "{value}");
    }
}

#[test]
fn files_are_included_by_pattern_in_name_order() {
    let rule = |id: u64, name: &str| format!("SecAction \"id:{id},phase:1,pass,msg:'{name}'\"");
    let (a, b, other) = (rule(2, "a"), rule(3, "b"), rule(9, "other"));
    let main =
        format!("{}\nInclude rules/*.conf\nIncludeOptional none/*.conf\n{}", rule(1, "main"), rule(4, "end"));
    // Texts are loaded in the order they are given; the ones that are included stand in folders that nothing else reads.
    let loaded = load_texts(&[("main.conf", &main)], &LoadOptions::default());
    assert!(loaded.is_err(), "Include without a file is an error");
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("rules")).unwrap();
    for (name, text) in
        [("main.conf", &main), ("rules/b.conf", &b), ("rules/a.conf", &a), ("rules/c.txt", &other)]
    {
        std::fs::write(root.path().join(name), text).unwrap();
    }
    let main = root.path().join("main.conf");
    let loaded = phalanx_policy::seclang::load_dirs(&[main], &LoadOptions::default()).unwrap();
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    assert_eq!(run(&program, &head("GET / HTTP/1.1\nHost: h"), b"").matched_rules, [1, 2, 3, 4]);
}

const SCHEMA: &str =
    r#"{"type":"object","required":["qty"],"properties":{"qty":{"type":"integer","maximum":9}}}"#;

#[test]
fn json_that_does_not_conform_to_a_schema_matches() {
    let rules = "SecRuleEngine DetectionOnly\n\
        SecRule REQUEST_BODY \"@validateSchema order.json\" \"id:1,phase:2,pass\"\n\
        SecRule REQUEST_BODY \"!@validateSchema order.json\" \"id:2,phase:2,pass\"\n";
    let program = program_of(&[("t.conf", rules), ("order.json", SCHEMA)]);
    let request = head("POST / HTTP/1.1\nHost: h\nContent-Type: application/json");
    for (body, expected) in [
        (r#"{"qty":1}"#, 2),
        (r#"{"qty":10}"#, 1),
        (r#"{"qty":"1"}"#, 1),
        (r#"{"quantity":1}"#, 1),
        ("[]", 1),
        ("{", 1),
    ] {
        let found = run(&program, &request, body.as_bytes()).matched_rules;
        assert!(found.contains(&expected) && !found.contains(&(3 - expected)), "{body}: {found:?}");
    }
    let faults =
        load_texts(&[("t.conf", rules), ("order.json", r#"{"type":"objekt"}"#)], &LoadOptions::default());
    let faults = Program::compile(&faults.unwrap().rules, &CompileOptions::default()).unwrap_err();
    assert!(
        faults[0].to_string().starts_with("error: t.conf:2: rule 1: the schema does not compile"),
        "{faults:?}"
    );
}

#[test]
fn xml_is_seen_as_text_and_as_attribute_values() {
    let rules = r#"
        SecRule XML:/* "@contains evil" "id:1,phase:2,pass"
        SecRule XML://@* "@contains evil" "id:2,phase:2,pass"
        SecRule XML:/* "@rx \x26lt;" "id:3,phase:2,pass"
    "#;
    let request = head("POST / HTTP/1.1\nHost: h\nContent-Type: text/xml");
    for (body, expected) in [
        ("<a>evil</a>", &[1u64] as &[u64]),
        ("<a><b>e</b><b>vil</b></a>", &[1]),
        ("<a b='evil'/>", &[2]),
        ("<a><![CDATA[evil]]></a>", &[1]),
        ("<evil/>", &[]),
        ("<a x:b=\"an &#101;vil one\" xmlns:x='u'>x</a>", &[2]),
        ("<a>e&#118;il</a>", &[1]),
    ] {
        assert_eq!(run(&program(rules), &request, body.as_bytes()).matched_rules, expected, "{body}");
    }
}

/// Requests one after the other, at these seconds; the findings of each.
fn sequence(rules: &str, requests: &[(u64, &str)]) -> Vec<Findings> {
    let program = program_with(rules, &CompileOptions::default());
    let mut scratch = Box::default();
    let mut found = Vec::new();
    for (second, target) in requests {
        let now_ms = connection().now_ms + second * 1000;
        let request = head(&format!("GET {target} HTTP/1.1\nHost: h\nUser-Agent: ua-{}", target.len()));
        let (findings, lent) = run_with(&program, scratch, &request, b"", now_ms);
        scratch = lent;
        found.push(findings);
    }
    found
}

#[test]
fn every_persistent_collection_counts_under_its_key() {
    for (open, name) in [
        ("initcol:ip=%{REMOTE_ADDR}", "ip"),
        ("initcol:global=all", "global"),
        ("initcol:resource=%{REQUEST_FILENAME}", "resource"),
        ("setsid:%{ARGS.sid}", "session"),
        ("setuid:%{ARGS.sid}", "user"),
        ("setrsc:%{REQUEST_FILENAME}", "resource"),
    ] {
        let rules = format!(
            "SecAction \"id:1,phase:1,pass,nolog,{open},setvar:{name}.n=+1\"\n\
             SecRule {name}:n \"@ge 3\" \"id:2,phase:1,pass,msg:'%{{{name}.n}}'\""
        );
        let found = sequence(&rules, &[(0, "/a?sid=1"), (1, "/a?sid=1"), (2, "/a?sid=1"), (3, "/b?sid=2")]);
        let seen: Vec<bool> = found.iter().map(|findings| findings.matched_rules.contains(&2)).collect();
        let shared = matches!(name, "ip" | "global");
        assert_eq!(seen, [false, false, true, shared], "{open}");
        assert_eq!(found[2].signals[0].message, "3");
    }
}

#[test]
fn variables_expire_decay_and_are_unset() {
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},deprecatevar:ip.score=5/60"
        SecRule ARGS:hit "@rx ." "id:2,phase:1,pass,nolog,setvar:ip.score=+10,setvar:ip.flag=1,expirevar:ip.flag=30"
        SecRule ARGS:clear "@rx ." "id:3,phase:1,pass,nolog,setvar:!ip.score"
        SecRule IP:flag "@eq 1" "id:4,phase:1,pass"
        SecRule IP:score "@ge 10" "id:5,phase:1,pass"
        SecRule IP:score "@eq 5" "id:6,phase:1,pass"
        SecRule &IP:score "@eq 0" "id:7,phase:1,pass"
    "#;
    let found = sequence(
        rules,
        &[(0, "/?hit=1"), (29, "/"), (31, "/"), (61, "/"), (121, "/"), (122, "/?clear=1"), (123, "/")],
    );
    let seen: Vec<&[u64]> = found.iter().map(|findings| findings.matched_rules.as_slice()).collect();
    assert_eq!(seen, [&[4u64, 5] as &[u64], &[4, 5], &[5], &[6], &[], &[7], &[7]]);
}

#[test]
fn bodies_beyond_their_limit_are_refused_or_read_in_part() {
    let rules = |action: &str| {
        program(&format!(
            "SecRequestBodyLimit 20\nSecRequestBodyNoFilesLimit 20\nSecRequestBodyLimitAction {action}\n\
             SecRule ARGS:a \"@contains x\" \"id:1,phase:2,pass\"\n\
             SecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:2,phase:2,pass\""
        ))
    };
    let request = head("POST / HTTP/1.1\nHost: h\nContent-Type: application/x-www-form-urlencoded");
    for (action, status, matched) in [("Reject", Some(413), &[] as &[u64]), ("ProcessPartial", None, &[1, 2])]
    {
        let program = rules(action);
        let mut transaction =
            phalanx_inspect::Transaction::new(Arc::clone(&program), Box::default(), connection());
        transaction.request_head(&request);
        assert_eq!(transaction.request_body_limit(), 20);
        transaction.request_body(bytes::Bytes::from_static(b"a=x&b=yyyyyyyyyyyyyy"), false);
        let (findings, _) = transaction.finish(200);
        assert_eq!(findings.interruption.map(|stop| stop.status), status, "{action}");
        assert_eq!(findings.matched_rules, matched, "{action}");
    }
}

#[test]
fn skip_counts_rules_of_the_same_phase_and_chains_as_one() {
    let rules = r#"
        SecRule ARGS:skip "@streq 1" "id:1,phase:1,pass,nolog,skip:2"
        SecAction "id:2,phase:2,pass"
        SecRule ARGS "@rx ." "id:3,phase:1,pass,chain"
            SecRule ARGS "@rx ." "t:none"
        SecAction "id:4,phase:1,pass"
        SecAction "id:5,phase:1,pass"
        SecMarker END
    "#;
    check(rules, &[("/?skip=1", &[5, 2]), ("/?skip=0", &[3, 4, 5, 2])]);
}
