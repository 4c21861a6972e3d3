//! Published bypasses and denials of service of other engines and rule sets, each against this one.
//!
//! "Reads" means that a rule sees the value that an application would see; "refuses" means that the base settings,
//! which precede every rule set, turn the request down because two readers could understand it differently.

#![cfg(test)]

mod suite;
mod support;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use phalanx_inspect::{CompileOptions, Findings, Program};
use phalanx_policy::seclang::{LoadOptions, ir, load_dirs, load_texts};
use support::{head, ids, program, run};

/// Whether a variable has a member with exactly this value.
fn has(settings: &str, request: &str, body: &[u8], variable: &str, value: &[u8]) -> bool {
    let exact: String = value.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let rules = format!("{settings}\nSecRule {variable} \"@rx \\A{exact}\\z\" \"id:1,phase:2,pass,t:none\"");
    let rules = program(&format!("SecRuleEngine DetectionOnly\n{rules}"));
    run(&rules, &head(request), body).matched_rules.contains(&1)
}

#[track_caller]
fn reads(request: &str, body: &[u8], variable: &str, value: &[u8]) {
    assert!(
        has("", request, body, variable, value),
        "{variable} is not {:?} in {request:?}",
        value.escape_ascii().to_string()
    );
}

/// Whether the base settings alone refuse the request.
fn refused(request: &str, body: &[u8]) -> bool {
    let findings = run(&program(""), &head(request), body);
    findings.interruption.is_some() || findings.failure.is_some()
}

#[track_caller]
fn refuses(request: &str, body: &[u8]) {
    assert!(refused(request, body), "{request:?} {:?}", body.escape_ascii().to_string());
}

const FORM: &str = "POST / HTTP/1.1\nHost: h\nContent-Type: multipart/form-data; boundary=b1";
const URLENCODED: &str = "POST / HTTP/1.1\nHost: h\nContent-Type: application/x-www-form-urlencoded";
const JSON: &str = "POST / HTTP/1.1\nHost: h\nContent-Type: application/json";
const XML: &str = "POST / HTTP/1.1\nHost: h\nContent-Type: text/xml";

/// A multipart body of header lines and contents.
fn form(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut body = String::new();
    for (headers, content) in parts {
        body.push_str(&format!("--b1\r\n{}\r\n\r\n{content}\r\n", headers.replace('\n', "\r\n")));
    }
    body.push_str("--b1--\r\n");
    body.into_bytes()
}

/// The Core Rule Set at a paranoia level, detecting.
fn core_rule_set(level: u8) -> Option<Arc<Program>> {
    let folder = suite::folder("conformance/crs")?;
    let options = LoadOptions {
        paranoia: Some(level),
        rule_engine: Some(ir::RuleEngine::DetectionOnly),
        ..LoadOptions::default()
    };
    let loaded = load_dirs(&[folder], &options).expect("the rule set loads");
    Some(Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).expect("it compiles")))
}

static CORE_1: LazyLock<Option<Arc<Program>>> = LazyLock::new(|| core_rule_set(1));

#[track_caller]
fn core_rule_finds(rule: u64, request: &str, body: &[u8]) {
    let Some(program) = CORE_1.as_ref() else { return };
    let found = run(program, &head(request), body).matched_rules;
    assert!(found.contains(&rule), "{rule} is not in {found:?}");
}

fn baseline(request: &str, body: &[u8]) -> Findings {
    static BASELINE: LazyLock<Arc<Program>> = LazyLock::new(|| {
        let loaded = load_texts(phalanx_policy::baseline::baseline(), &LoadOptions::default())
            .expect("the pack loads");
        Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).expect("the pack compiles"))
    });
    run(&BASELINE, &head(request), body)
}

/// Fails when the work is far from linear; an hour of quadratic work must not look like a hang of the test.
#[track_caller]
fn takes_seconds_at_most(work: impl FnOnce()) {
    let start = Instant::now();
    work();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn cve_2026_21876_the_charset_of_every_part_is_seen_not_only_of_the_last() {
    let body = form(&[
        (
            "Content-Disposition: form-data; name=\"a\"\nContent-Type: text/plain; charset=utf-7",
            "+ADw-script+AD4-",
        ),
        ("Content-Disposition: form-data; name=\"b\"\nContent-Type: text/plain; charset=utf-8", "x"),
    ]);
    for (part, line) in
        [("a", "Content-Type: text/plain; charset=utf-7"), ("b", "Content-Type: text/plain; charset=utf-8")]
    {
        reads(FORM, &body, &format!("MULTIPART_PART_HEADERS:{part}"), line.as_bytes());
    }
    core_rule_finds(922_110, FORM, &body);
}

#[test]
fn cve_2026_33691_white_space_in_a_file_name_does_not_hide_its_extension() {
    for name in ["photo. php", "photo.php ", "photo.p hp", "photo.php\t"] {
        let disposition = format!("Content-Disposition: form-data; name=\"f\"; filename=\"{name}\"");
        let body = form(&[(&disposition, "x")]);
        reads(FORM, &body, "FILES", name.as_bytes());
        core_rule_finds(933_110, FORM, &body);
    }
}

#[test]
fn cve_2025_29914_two_slashes_at_the_start_are_a_path_and_no_authority() {
    for (target, path, base) in [
        ("//host/admin/x.php?a=1", "//host/admin/x.php", "x.php"),
        ("//bar/uploads/foo.php?a=1", "//bar/uploads/foo.php", "foo.php"),
        ("///x?a=1", "///x", "x"),
        ("//user:pw@host:81/x?a=1", "//user:pw@host:81/x", "x"),
        ("/a://b/c?a=1", "/a://b/c", "c"),
    ] {
        let request = format!("GET {target} HTTP/1.1\nHost: h");
        reads(&request, b"", "REQUEST_FILENAME", path.as_bytes());
        reads(&request, b"", "REQUEST_BASENAME", base.as_bytes());
        reads(&request, b"", "REQUEST_URI", target.as_bytes());
        reads(&request, b"", "ARGS_GET:a", b"1");
    }
}

#[test]
fn cve_2025_27110_leading_zeros_in_a_character_reference_change_nothing() {
    let rules = r#"SecRule ARGS:q "@streq <script>" "id:1,phase:1,pass,t:none,t:htmlEntityDecode""#;
    for reference in
        ["%26%2360;", "%26%23000000060;", "%26%23x3c;", "%26%23x00000000003C;", "%26%23X3C;", "%26lt;"]
    {
        assert_eq!(ids(rules, &format!("/?q={reference}script>")), [1], "{reference}");
    }
    let many = format!("/?q=%26%23{}60;script>", "0".repeat(1000));
    assert_eq!(ids(rules, &many), [1]);
}

#[test]
fn cve_2024_1019_an_encoded_question_mark_belongs_to_the_path() {
    let request = "GET /login%3F/../../etc/passwd?x=1 HTTP/1.1\nHost: h";
    reads(request, b"", "REQUEST_FILENAME", b"/login?/../../etc/passwd");
    reads(request, b"", "REQUEST_BASENAME", b"passwd");
    reads(request, b"", "QUERY_STRING", b"x=1");
    let injected = "GET /%3F'union+select HTTP/1.1\nHost: h";
    reads(injected, b"", "REQUEST_FILENAME", b"/?'union+select");
    assert!(!has("", injected, b"", "ARGS_NAMES", b"'union select"));
}

#[test]
fn cve_2022_48279_a_part_header_that_parsers_read_differently_is_refused() {
    for header in [
        "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
        "Content-Disposition: form-data; filename=\"a\"; name=\"b\"; filename=\"c\"",
        "Content-Disposition: form-data; name=a;\r\n filename=\"x",
        "Content-Disposition: form-data name=\"a\"",
        "Content-Disposition: form-data; name='a",
        "Content-Disposition: attachment; name=\"a\"",
        "Content-Disposition: form-data",
        "X-Other: 1",
        "Content-Disposition: form-data; name=\"a\"\nContent-Disposition: form-data; name=\"b\"",
    ] {
        refuses(FORM, &form(&[(header, "payload")]));
    }
}

#[test]
fn cve_2022_39955_a_second_charset_is_not_ignored() {
    let request = "POST / HTTP/1.1\nHost: h\nContent-Type: text/xml; charset=utf-8; charset=utf-7";
    core_rule_finds(920_530, request, b"<a/>");
    core_rule_finds(920_480, &request.replace("charset=utf-8; ", ""), b"<a/>");
}

#[test]
fn cve_2022_39956_the_encoding_that_a_part_claims_is_seen() {
    let body = form(&[(
        "Content-Disposition: form-data; name=\"a\"\nContent-Transfer-Encoding: base64",
        "PHNjcmlwdD4=",
    )]);
    reads(FORM, &body, "MULTIPART_PART_HEADERS:a", b"Content-Transfer-Encoding: base64");
    core_rule_finds(922_120, FORM, &body);
    let body =
        form(&[("Content-Disposition: form-data; name=\"a\"\nContent-Type: text/html; charset=utf-7", "x")]);
    core_rule_finds(922_110, FORM, &body);
}

#[test]
fn cve_2022_39957_a_response_charset_that_is_not_inspected_cannot_be_asked_for() {
    core_rule_finds(920_600, "GET / HTTP/1.1\nHost: h\nAccept: text/html;charset=utf-7", b"");
    core_rule_finds(
        920_600,
        "GET / HTTP/1.1\nHost: h\nAccept: application/json, text/html; charset=ibm037",
        b"",
    );
}

#[test]
fn cve_2022_39958_every_byte_range_that_is_asked_for_is_seen() {
    let rules = r#"SecRule REQUEST_HEADERS:Range|REQUEST_HEADERS:Request-Range "@rx ^bytes=" "id:1,phase:1,pass,msg:'%{MATCHED_VAR}'""#;
    let request =
        head("GET / HTTP/1.1\nHost: h\nRange: bytes=0-1\nrange: bytes=2-3\nRequest-Range: bytes=4-5");
    let findings = run(&program(rules), &request, b"");
    assert_eq!(findings.signals[0].matches.len(), 3);
    core_rule_finds(920_190, "GET / HTTP/1.1\nHost: h\nRange: bytes=50-1", b"");
}

#[test]
fn cve_2025_47947_masking_matched_bytes_of_many_json_values_takes_linear_time() {
    let rules = program(
        "SecArgumentsLimit 100000\nSecRuleRemoveById 8500007\nSecRule ARGS \"@rx a\" \"id:1,phase:2,pass,log,sanitiseMatchedBytes,msg:'%{MATCHED_VAR}'\"",
    );
    let values: Vec<String> = (0..20_000).map(|n| format!("\"k{n}\":\"a{n}\"")).collect();
    let body = format!("{{{}}}", values.join(","));
    takes_seconds_at_most(|| {
        let findings = run(&rules, &head(JSON), body.as_bytes());
        assert!(findings.matched_rules.contains(&1));
        let shown = findings.signals.iter().find(|signal| signal.rule.id == 1).unwrap();
        assert!(shown.matches.iter().all(|found| found.fragment.starts_with("[masked")), "{shown:?}");
    });
}

#[test]
fn cve_2025_48866_masking_an_argument_that_comes_often_takes_linear_time() {
    let rules = program(
        "SecArgumentsLimit 100000\nSecRuleRemoveById 8500007\nSecAction \"id:1,phase:2,pass,nolog,sanitiseArg:a,sanitiseArg:b\"\n\
         SecRule ARGS \"@rx secret\" \"id:2,phase:2,pass,logdata:'%{MATCHED_VAR}',setvar:tx.n=+1\"",
    );
    let body = "a=secret&b=secret&".repeat(20_000);
    takes_seconds_at_most(|| {
        let findings = run(&rules, &head(URLENCODED), body.as_bytes());
        let shown = findings.signals.iter().find(|signal| signal.rule.id == 2).unwrap();
        assert!(shown.matches.iter().all(|found| !found.fragment.contains("secret")), "{shown:?}");
        assert!(!shown.data.contains("secret"));
    });
}

#[test]
fn cve_2025_52891_an_empty_element_is_an_argument_without_a_value() {
    let settings = "SecParseXmlIntoArgs On";
    for body in ["<a/>", "<a></a>", "<a><b/></a>", "<a><b></b><c>1</c></a>", "<a/ >", "<></>", ""] {
        let rules = program(&format!("SecRuleEngine DetectionOnly\n{settings}"));
        let findings = run(&rules, &head(XML), body.as_bytes());
        assert!(findings.failure.is_none(), "{body}");
    }
    assert!(has(settings, XML, b"<a><b></b><c>evil</c></a>", "ARGS", b"evil"));
}

#[test]
fn cve_2021_42717_deep_json_is_an_error_and_takes_linear_time() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = 100_000 / open.len();
        let body = format!("{}1{}", open.repeat(deep), close.repeat(deep));
        takes_seconds_at_most(|| refuses(JSON, body.as_bytes()));
    }
}

#[test]
fn cve_2023_38285_white_space_and_nul_bytes_in_bulk_take_linear_time() {
    let rules = program(
        r#"SecRule ARGS "@rx evil" "id:1,phase:2,pass,t:none,t:removeNulls,t:removeWhitespace,t:compressWhitespace,t:replaceNulls,t:trim,t:removeCommentsChar""#,
    );
    for unit in ["%00", "+", "%c2%a0", "/*", "--"] {
        let body = format!("q={}evil", unit.repeat(300_000 / unit.len()));
        takes_seconds_at_most(|| {
            assert_eq!(run(&rules, &head(URLENCODED), body.as_bytes()).matched_rules, [1], "{unit}");
        });
    }
}

#[test]
fn cve_2023_24021_a_nul_byte_does_not_end_a_file_or_its_name() {
    let body =
        form(&[("Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"", "x\0<?php system('id');")]);
    let rules = program(
        r#"SecRule FILES_TMP_CONTENT "@rx <\?php" "id:1,phase:2,pass"
           SecRule FILES "@contains .php" "id:2,phase:2,pass""#,
    );
    assert_eq!(run(&rules, &head(FORM), &body).matched_rules, [1]);
    let body = form(&[("Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\0.php\"", "x")]);
    let found = run(&rules, &head(FORM), &body);
    assert!(found.interruption.is_some() || found.matched_rules.contains(&2), "{found:?}");
}

#[test]
fn cve_2013_1915_external_entities_are_refused_and_never_fetched() {
    for doctype in [
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>",
        "<!DOCTYPE a [<!ENTITY % p SYSTEM \"http://192.0.2.9/e\"> %p;]>",
        "<!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]>",
    ] {
        refuses(XML, format!("<?xml version=\"1.0\"?>{doctype}<a>&x;&b;</a>").as_bytes());
    }
}

#[test]
fn cve_2012_4528_text_before_and_behind_the_form_is_refused() {
    let whole = form(&[("Content-Disposition: form-data; name=\"a\"", "1")]);
    let before =
        [b"--b2\r\nContent-Disposition: form-data; name=\"e\"\r\n\r\nevil\r\n".as_slice(), &whole].concat();
    refuses(FORM, &before);
    let after =
        [whole.as_slice(), b"--b1\r\nContent-Disposition: form-data; name=\"e\"\r\n\r\nevil\r\n--b1--\r\n"]
            .concat();
    refuses(FORM, &after);
}

#[test]
fn cve_2012_2751_single_quotes_do_not_hide_a_file() {
    for header in [
        "Content-Disposition: form-data; name='a'; filename='x.php'",
        "Content-Disposition: form-data; name=\"a\"; filename=';name=b;filename=x.php'",
        "Content-Disposition: form-data; name=a'b; filename=\"x.php\"",
    ] {
        let body = form(&[(header, "<?php")]);
        let rules = program(r#"SecRule FILES|MULTIPART_FILENAME "@contains x.php" "id:1,phase:2,pass""#);
        let found = run(&rules, &head(FORM), &body);
        assert!(found.interruption.is_some() || found.matched_rules.contains(&1), "{header}: {found:?}");
    }
}

#[test]
fn cve_2020_15598_patterns_that_backtrack_elsewhere_take_linear_time() {
    let rules = program(
        r#"SecRule ARGS "@rx ^(a+)+$" "id:1,phase:2,pass"
           SecRule ARGS "@rx (?:(?:x|y)*)*z" "id:2,phase:2,pass"
           SecRule ARGS "@rxGlobal (?:\w+\s?)+!" "id:3,phase:2,pass,capture""#,
    );
    let body = format!("q={}b&r={}&s={}", "a".repeat(50_000), "xy".repeat(25_000), "word+".repeat(10_000));
    takes_seconds_at_most(|| {
        assert!(run(&rules, &head(URLENCODED), body.as_bytes()).failure.is_none());
    });
}

#[test]
fn an_extended_file_name_is_seen_or_refused() {
    for header in [
        "Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''shell.php",
        "Content-Disposition: form-data; name=\"f\"; filename=\"ok.txt\"; filename*=UTF-8''shell.php",
        "Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''shell%2ephp",
        "Content-Disposition: form-data; name=\"f\"; filename*0=\"shell.\"; filename*1=\"php\"",
    ] {
        let body = form(&[(header, "x")]);
        let rules = program(
            r#"SecRule FILES|MULTIPART_FILENAME|MULTIPART_PART_HEADERS "@rx shell(?:\.|%2e)php" "id:1,phase:2,pass""#,
        );
        let found = run(&rules, &head(FORM), &body);
        assert!(found.interruption.is_some() || found.matched_rules.contains(&1), "{header}: {found:?}");
    }
}

#[test]
fn a_form_within_a_form_is_seen_whole() {
    let inner = "--b2\r\nContent-Disposition: form-data; name=\"e\"\r\n\r\n<script>\r\n--b2--";
    let body = form(&[(
        "Content-Disposition: form-data; name=\"a\"\nContent-Type: multipart/mixed; boundary=b2",
        inner,
    )]);
    let rules = program(r#"SecRule ARGS_POST "@contains <script>" "id:1,phase:2,pass""#);
    let found = run(&rules, &head(FORM), &body);
    assert!(found.interruption.is_some() || found.matched_rules == [1], "{found:?}");
}

#[test]
fn a_boundary_that_parsers_read_differently_is_refused_or_its_content_is_seen() {
    let rules =
        program(r#"SecRule ARGS_POST|REQUEST_BODY|FILES_TMP_CONTENT "@contains evil" "id:1,phase:2,pass""#);
    let body = "--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nevil\r\n--b1--\r\n";
    for parameters in [
        "boundary=b1; boundary=b2",
        "boundary=b2; boundary=b1",
        "boundary=\"b1",
        "boundary=",
        "",
        "boundary= b1",
        "boundary=b1 ",
        "boundary*=UTF-8''b1",
        "boundary*0=b; boundary*1=1",
        "boundary=b1,x",
        "BOUNDARY=b1",
        "xboundary=b2; boundary=b1",
        "boundary=\"b\\1\"",
        "charset=x;boundary=b1",
        "boundary=B1",
    ] {
        let request = format!("POST / HTTP/1.1\nHost: h\nContent-Type: multipart/form-data; {parameters}");
        let found = run(&rules, &head(&request), body.as_bytes());
        assert!(found.interruption.is_some() || found.matched_rules == [1], "{parameters}: {found:?}");
    }
}

#[test]
fn every_value_of_a_parameter_is_seen() {
    let request =
        "POST /?id=1&id=2&ID=3&id[]=4 HTTP/1.1\nHost: h\nContent-Type: application/x-www-form-urlencoded";
    for value in ["1", "2", "3", "5", "6"] {
        reads(request, b"id=5&Id=6", "ARGS:id", value.as_bytes());
    }
    reads(request, b"id=5", "ARGS:id[]", b"4");
    reads(JSON, br#"{"a":{"id":"1"},"b":[{"id":"2"}]}"#, "ARGS", b"2");
}

#[test]
fn overlong_utf_8_is_told_by_its_operator_and_unfolded_by_its_transformation() {
    let rules = r#"
        SecRule ARGS "@validateUtf8Encoding" "id:1,phase:1,pass"
        SecRule ARGS "@rx %u003c" "id:2,phase:1,pass,t:none,t:utf8toUnicode"
        SecRule ARGS "@contains <" "id:3,phase:1,pass,t:none,t:utf8toUnicode,t:urlDecodeUni"
    "#;
    for overlong in ["%c0%bc", "%e0%80%bc", "%f0%80%80%bc"] {
        assert_eq!(ids(rules, &format!("/?q={overlong}script")), [1, 2, 3], "{overlong}");
    }
    assert!(ids(rules, "/?q=%c3%bc").is_empty());
}

#[test]
fn path_parameters_stay_part_of_the_path() {
    for (target, path) in [
        ("/admin;x=y/users", "/admin;x=y/users"),
        ("/..;/manager/html", "/..;/manager/html"),
        ("/%2e%2e;a=b/x", "/..;a=b/x"),
        ("/a%3b/b", "/a;/b"),
    ] {
        reads(&format!("GET {target} HTTP/1.1\nHost: h"), b"", "REQUEST_FILENAME", path.as_bytes());
    }
}

#[test]
fn nul_bytes_cut_nothing_off() {
    let request = "GET /a%00b/c?q=x%00evil&n%00m=1 HTTP/1.1\nHost: h\nCookie: k=v\0w";
    reads(request, b"", "REQUEST_FILENAME", b"/a\0b/c");
    reads(request, b"", "ARGS:q", b"x\0evil");
    reads(request, b"", "ARGS_NAMES", b"n\0m");
    reads(request, b"", "REQUEST_COOKIES:k", b"v\0w");
    reads(URLENCODED, b"q=a\0b", "ARGS:q", b"a\0b");
    reads(JSON, br#"{"q":"a\u0000evil"}"#, "ARGS:json.q", b"a\0evil");
    assert!(baseline("GET /?q=a%00b HTTP/1.1\nHost: h", b"").interruption.is_some());
}

#[test]
fn dots_behind_two_slashes_or_a_host_climb_nowhere_unseen() {
    for target in [
        "//../../etc/passwd",
        "//host/../../../etc/passwd",
        "http://h/../../etc/passwd",
        "/.//..//..//etc/passwd",
    ] {
        let found = baseline(&format!("GET {target} HTTP/1.1\nHost: h"), b"");
        assert!(found.interruption.is_some(), "{target}: {found:?}");
    }
}

#[test]
fn what_is_encoded_twice_is_seen_by_rules_that_decode_twice() {
    let rules = r#"SecRule ARGS "@contains <script" "id:1,phase:1,pass,t:none,t:urlDecodeUni""#;
    for value in ["%253cscript", "%25u003cscript", "%u003cscript", "%25uff1cscript", "%uff1cscript"] {
        assert_eq!(ids(rules, &format!("/?q={value}")), [1], "{value}");
    }
}

#[test]
fn a_body_under_another_name_is_not_taken_for_nothing() {
    let json = br#"{"q":"<script>alert(1)</script>"}"#;
    for content_type in [
        "application/json",
        "application/problem+json",
        "application/JSON; charset=utf-8",
        "text/plain",
        "foo/bar",
    ] {
        let request = format!("POST / HTTP/1.1\nHost: h\nContent-Type: {content_type}");
        reads(&request, json, "ARGS:json.q", b"<script>alert(1)</script>");
    }
    reads("POST / HTTP/1.1\nHost: h", json, "ARGS:json.q", b"<script>alert(1)</script>");
}

#[test]
fn json_that_readers_understand_differently_is_refused() {
    for body in [
        r#"{"a":1,"a":"<script>"}"#,
        r#"{"a":1}{"a":2}"#,
        r#"{"a":1,}"#,
        r#"{'a':1}"#,
        r#"{"a":1 /* x */}"#,
        "{\"a\":\"\u{1}\"}",
        r#"{"a":NaN}"#,
        r#"{"a":01}"#,
        "\u{feff}{\"a\":1}",
    ] {
        refuses(JSON, body.as_bytes());
    }
}

#[test]
fn more_arguments_than_can_be_inspected_are_refused() {
    refuses(URLENCODED, "a=1&".repeat(1500).as_bytes());
    let target = format!("GET /?{} HTTP/1.1\nHost: h", "a=1&".repeat(1500));
    refuses(&target, b"");
    let values: Vec<String> = (0..1500).map(|n| format!("\"k{n}\":1")).collect();
    refuses(JSON, format!("{{{}}}", values.join(",")).as_bytes());
    let disposition = "Content-Disposition: form-data; name=\"a\"";
    refuses(FORM, &form(&[(disposition, "1"); 1500]));
}

#[test]
fn numbers_that_mysql_ignores_do_not_hide_an_injection() {
    // gosecure.ai, October 2021: to MySQL `1.e(2)` is `(2)`, and so behind every token.
    let rules = program(r#"SecRule ARGS "@detectSQLi" "id:1,phase:2,pass""#);
    for value in [
        "1.e(ascii 1.e(substring(1.e(select password from users limit 1 1.e,1 1.e) 1.e,1 1.e,1 1.e)1.e)1.e) = 70 or'1'='2",
        "foo - (2) UNION SELECT 1end",
        "1 = 1end OR 1",
    ] {
        assert_eq!(
            run(&rules, &head(URLENCODED), format!("q={value}").as_bytes()).matched_rules,
            [1],
            "{value}"
        );
    }
    for value in ["7eb3", "12eggs and 3 ham", "size 2e", "a 1.e notation", "1e5", "0e"] {
        assert!(
            run(&rules, &head(URLENCODED), format!("q={value}").as_bytes()).matched_rules.is_empty(),
            "{value}"
        );
    }
}

#[test]
fn work_without_end_refuses_the_request_and_says_why() {
    let rules: String = (1..=2200)
        .map(|id| format!("SecRule REQUEST_BODY \"@contains needle{id}\" \"id:{id},phase:2,pass,nolog\"\n"))
        .collect();
    let program = program(&rules);
    let body = vec![b'x'; 1024 * 1024];
    takes_seconds_at_most(|| {
        let found = run(&program, &head(URLENCODED), &body);
        let why = found.failure.unwrap();
        assert!(why.ends_with("the request takes more work than one may cause"), "{why}");
    });
    assert!(run(&program, &head(URLENCODED), &body[..1000]).failure.is_none());
}

#[test]
fn a_variable_that_doubles_with_each_match_ends_the_request() {
    let rules = program(
        r#"SecRule ARGS_NAMES "@unconditionalMatch" "id:1,phase:2,pass,nolog,setvar:'tx.a=%{tx.a}%{tx.a}x'""#,
    );
    let names: Vec<String> = (0..200).map(|n| format!("n{n}=1")).collect();
    takes_seconds_at_most(|| {
        let found = run(&rules, &head(URLENCODED), names.join("&").as_bytes());
        assert_eq!(found.failure.as_deref(), Some("a rule puts more text together than a request may cause"));
    });
}

#[test]
fn patterns_that_a_request_makes_are_compiled_a_limited_number_of_times() {
    let rules = program(r#"SecRule ARGS:/^v/ "@rx %{ARGS.p}" "id:1,phase:2,pass,nolog""#);
    let pattern = "(%3f:[a-z]{1,9}|x){1,9}".repeat(150);
    let values: Vec<String> = (0..200).map(|n| format!("v{n}=abc")).collect();
    takes_seconds_at_most(|| {
        let found = run(&rules, &head(URLENCODED), format!("p={pattern}&{}", values.join("&")).as_bytes());
        assert!(found.failure.is_some());
    });
    let found = run(&rules, &head(URLENCODED), format!("p=^[a-c]%2b$&{}", values.join("&")).as_bytes());
    assert!(found.failure.is_none(), "{:?}", found.failure);
}

#[test]
fn values_that_keep_a_pattern_backtracking_use_up_what_a_request_may_take_together() {
    let rules = program(r#"SecRule ARGS "@rx ^(?:(a|b|ab)(a|b|ab))+\1!" "id:1,phase:2,pass,nolog""#);
    // Each value stays below the limit of one; a thousand of them would take minutes.
    let hard = format!("{}c!", "ab".repeat(12));
    let found = run(&rules, &head(URLENCODED), format!("v={hard}").as_bytes());
    assert!(found.failure.is_none(), "{:?}", found.failure);
    let values: Vec<String> = (0..900).map(|n| format!("v{n}={hard}{n}")).collect();
    takes_seconds_at_most(|| {
        let found = run(&rules, &head(URLENCODED), values.join("&").as_bytes());
        assert!(found.failure.is_some());
    });
    let harmless: Vec<String> = (0..900).map(|n| format!("v{n}=abab{n}")).collect();
    let found = run(&rules, &head(URLENCODED), harmless.join("&").as_bytes());
    assert!(found.failure.is_none(), "{:?}", found.failure);
}

#[test]
fn many_texts_with_a_line_feed_at_the_end_are_no_reason_to_give_up() {
    let rules = program(r#"SecRule ARGS "@rx (?:union|select)[^a]*$" "id:1,phase:2,pass,nolog""#);
    let values: Vec<String> = (0..900).map(|n| format!("v{n}=a+select+few+words{n}%0a")).collect();
    let found = run(&rules, &head(URLENCODED), values.join("&").as_bytes());
    assert!(found.failure.is_none(), "{:?}", found.failure);
}

#[test]
fn a_look_ahead_over_a_long_value_is_given_up_in_time() {
    let rules = program(r#"SecRule ARGS "@rx (?=.*union)(?=.*select)" "id:1,phase:2,pass,nolog""#);
    for (length, answered) in [(20_000, true), (1_000_000, false)] {
        takes_seconds_at_most(|| {
            let found = run(&rules, &head(URLENCODED), format!("x={}", "a".repeat(length)).as_bytes());
            assert!(answered == found.failure.is_none(), "{length} {:?}", found.failure);
        });
    }
}

#[test]
fn after_one_pattern_gave_up_no_other_backtracks() {
    let rules = program(r#"SecRule ARGS "@rx ^(?:a|aa)+(?<!a)$" "id:1,phase:2,pass,nolog""#);
    let values: Vec<String> = (0..200).map(|n| format!("v{n}={}", "a".repeat(60 + n % 20))).collect();
    takes_seconds_at_most(|| {
        let found = run(&rules, &head(URLENCODED), values.join("&").as_bytes());
        assert!(found.failure.is_some());
    });
}

#[test]
fn large_harmless_texts_do_not_use_up_the_steps() {
    let rule = |id: u32| {
        format!("SecRule ARGS \"@rx (?i)<(?!p>|b>|i>{id})[a-z/]\" \"id:{id},phase:2,pass,nolog\"\n")
    };
    let rules = program(&(1..4).map(rule).collect::<String>());
    for (fields, length) in [(950, 1_060), (20, 66_000), (7, 262_000)] {
        let text = format!("<p>{}", "b".repeat(length));
        let fields: Vec<String> = (0..fields).map(|n| format!("v{n}={text}")).collect();
        let found = run(&rules, &head(URLENCODED), fields.join("&").as_bytes());
        assert!(found.failure.is_none(), "{length} {:?}", found.failure);
    }
}
