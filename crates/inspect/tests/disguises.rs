//! Attacks in bodies that say they are something else: each is seen, or the body is refused.

mod support;

use std::io::Write as _;

use support::{head, program, run};

const RULES: &str = r#"
    SecRule ARGS|REQUEST_BODY|XML:/*|XML://@* "@rx (?i)union\s+select|or 1=1" "id:1,phase:2,deny,t:none,t:urlDecodeUni"
    SecRule REQUEST_HEADERS:Content-Type "@rx ^multipart/mixed" "id:2,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On"
"#;

fn refused(fields: &str, body: &[u8]) -> bool {
    let findings = run(&program(RULES), &head(&format!("POST / HTTP/1.1\nHost: h\n{fields}")), body);
    findings.interruption.is_some()
}

#[track_caller]
fn check(content_type: &str, body: &[u8]) {
    assert!(
        refused(&format!("Content-Type: {content_type}"), body),
        "{content_type} {}",
        body.escape_ascii()
    );
}

#[test]
fn json_that_only_lenient_parsers_read_is_seen() {
    let deep = format!("{{\"d\":{}{},\"q\":\"1 union select 2\"}}", "[".repeat(129), "]".repeat(129));
    for content_type in ["image/png", "application/octet-stream"] {
        check(content_type, deep.as_bytes());
        check(content_type, br#"{"d":NaN,"q":"1 union select 2"}"#);
        check(content_type, "\u{feff}{\"q\":\"1 union select 2\"}".as_bytes());
        check(content_type, br#"{/**/"q":"1 union select 2"}"#);
        check(content_type, br#"{"q":"1 \u0075nion select 2"}"#);
    }
}

#[test]
fn other_names_of_json_are_json() {
    for content_type in
        ["text/json", "text/x-json", "application/x-json", "application/jsonrequest; charset=utf-8"]
    {
        check(content_type, br#"{"q":"1 \u0075nion select 2"}"#);
        check(content_type, br#"{/**/"q":"harmless"}"#);
    }
}

#[test]
fn an_attack_anywhere_in_xml_is_seen_or_refused() {
    for document in [
        "<a><!-- 1 union select 2 --></a>",
        "<?x 1 union select 2?><a/>",
        "<a/><!-- 1 union select 2 -->",
        "<a><![CDATA[1 union sel]]>ect<!-- --> 2</a>",
        "<a b=\"1 un&#105;on select 2\"/>",
        "<a 1='union select'/>",
        "<a><!-- x -- union select --></a>",
        "<?xml version='1 union select 2'?><a/>",
    ] {
        check("application/xml", document.as_bytes());
        check("application/soap+xml", document.as_bytes());
    }
    let names = r#"
        SecRule XML:/*|XML://*/name() "@contains java.lang.runtime" "id:1,phase:2,deny,t:none,t:lowercase"
        SecRule XML:/*|!XML://comment() "@contains secret" "id:2,phase:2,deny,t:none"
        SecRule XML:/* "@contains word" "id:4,phase:2,deny,t:none"
        SecRule XML://processing-instruction() "@contains php" "id:3,phase:2,deny,t:none"
    "#;
    let found = |document: &str| {
        let head = head("POST / HTTP/1.1\nHost: h\nContent-Type: text/xml");
        run(&program(names), &head, document.as_bytes()).interruption.map(|stop| stop.rule)
    };
    assert_eq!(found("<java.lang.Runtime>x</java.lang.Runtime>"), Some(1));
    assert_eq!(found("<a java.lang.Runtime='x'/>"), Some(1));
    assert_eq!(found("<a><!-- secret --></a>"), None);
    assert_eq!(found("<a><?secret?></a>"), Some(2));
    assert_eq!(found("<a><?php?></a>"), Some(3));
    assert_eq!(found("<a><!-- php -->php</a>"), None);
    assert_eq!(found("<word word='x'/>"), None);
}

#[test]
fn a_form_in_a_multipart_body_of_another_kind_is_seen() {
    let body = b"--x\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n1 union select 2\r\n--x--\r\n";
    check("multipart/mixed; boundary=x", body);
}

#[test]
fn text_that_passes_for_protobuf_numbers_is_seen() {
    check("application/x-protobuf", b"\x0a\x0ey' OR 1=1-- \xff\xff");
    check("application/x-protobuf", b"\t{\"q\":\"x') OR 1=1-- \"}\n");
    assert!(!refused(
        "Content-Type: application/x-protobuf",
        b"\x0a\x05hello\x11\x00\x00\x00\x00\x00\x00\xf0\x3f"
    ));
}

#[test]
fn a_parameter_that_passes_for_graphql_is_seen_as_a_whole() {
    let found = |target: &str| {
        let head = head(&format!("GET {target} HTTP/1.1\nHost: h"));
        run(&program(RULES), &head, b"").interruption.is_some()
    };
    assert!(found("/?query=%7Bunion%20select%20password%7D"));
    assert!(!found("/?query=%7Buser(id:%201)%20%7Bname%7D%7D"));
}

#[test]
fn a_form_with_files_that_grows_beyond_what_is_held_is_refused() {
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coded.write_all(b"--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n").unwrap();
    let mut noise = 1u32;
    // Half noise, so that the ratio stays ordinary.
    for _ in 0..14 * 1024 {
        let block: Vec<u8> = (0..1024)
            .map(|place| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if place % 8 == 0 { noise.to_be_bytes()[0] } else { b'a' }
            })
            .collect();
        coded.write_all(&block).unwrap();
    }
    let body = coded.finish().unwrap();
    assert!(body.len() < 8 * 1024 * 1024);
    assert!(refused("Content-Type: multipart/form-data; boundary=x\nContent-Encoding: gzip", &body));
}
