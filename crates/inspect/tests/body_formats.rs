//! JSON lines, GraphQL and Protocol Buffers: what becomes an argument, and what is refused.

#![cfg(test)]

use phalanx_inspect::body::{self, BodyLimits, BodyParts};
use proptest::prelude::*;

const LIMITS: BodyLimits = BodyLimits { arguments_max: 1000, depth_max: 32 };

type Parser = fn(&[u8], &BodyLimits, &mut BodyParts);

fn parse(parser: Parser, body: &[u8]) -> BodyParts {
    let mut parts = BodyParts::default();
    parser(body, &LIMITS, &mut parts);
    parts
}

fn args(parts: &BodyParts, body: &[u8]) -> Vec<(String, String)> {
    let text = |slice| parts.bytes(slice, body).escape_ascii().to_string();
    parts.args.iter().map(|arg| (text(arg.name), text(arg.value))).collect()
}

#[track_caller]
fn check(parser: Parser, body: &[u8], expected: &[(&str, &str)]) {
    let parts = parse(parser, body);
    assert_eq!(parts.error, None, "{}", body.escape_ascii());
    let expected: Vec<_> =
        expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(args(&parts, body), expected);
}

#[test]
fn each_line_is_a_document() {
    check(
        body::json_lines,
        b"{\"a\":\"x\",\"a2\":1}\r\n\n  \n[true]\n\"y\"\n{\"a\":\"z\"}\n",
        &[
            ("json.array_0.a", "x"),
            ("json.array_0.a2", "1"),
            ("json.array_1.array_0", "true"),
            ("json.array_2", "y"),
            ("json.array_3.a", "z"),
        ],
    );
    let many = "{\"a\":1}\n".repeat(12);
    assert_eq!(args(&parse(body::json_lines, many.as_bytes()), many.as_bytes())[11].0, "json.array_11.a");
    check(
        body::json_sequence,
        b"\x1e{\"a\":\n1}\n\x1e[2]\n",
        &[("json.array_0.a", "1"), ("json.array_1.array_0", "2")],
    );
}

#[test]
fn a_faulty_line_is_an_error_and_the_others_are_read() {
    for faulty in ["{\"b\":", "{\"b\":1}{\"c\":2}", "oops", "{\"b\":1,\"b\":2}", "{\"b\":1}\r{\"c\":2}", "]"]
    {
        let body = format!("{{\"a\":\"x\"}}\n{faulty}\n{{\"z\":\"y\"}}");
        let parts = parse(body::json_lines, body.as_bytes());
        assert!(parts.error.is_some() && !parts.ends_early, "{faulty}");
        let found = args(&parts, body.as_bytes());
        assert_eq!(found.first().unwrap().1, "x");
        assert_eq!(found.last().unwrap(), &("json.array_2.z".to_owned(), "y".to_owned()), "{faulty}");
    }
    let parts = parse(body::json_lines, b"{\"a\":1}\n{\"b\":\"ev");
    assert!(parts.ends_early);
    assert_eq!(args(&parts, b"{\"a\":1}\n{\"b\":\"ev")[1], ("json.array_1.b".to_owned(), "ev".to_owned()));
    assert!(parse(body::json_sequence, b"{}\x1e{}").error.is_some());
}

#[test]
fn documents_that_are_cut_off_are_told_from_faulty_ones() {
    let whole = r#"{"a":{"b":"x\n\u0041"},"list":[1,true,false,null,-2.5e3],"c":"é"}"#.as_bytes();
    for length in 1..whole.len() {
        let parts = parse(body::json, &whole[..length]);
        assert!(
            parts.error.is_some() && parts.ends_early,
            "{}: {:?}",
            whole[..length].escape_ascii(),
            parts.error
        );
    }
    for faulty in ["{\"a\":1]", "{\"a\" 1", "[01]", "[1,]", "{\"a\":\"\\x\"}"] {
        assert!(!parse(body::json, faulty.as_bytes()).ends_early, "{faulty}");
    }
    let whole = "<?xml version=\"1.0\"?><r a=\"1\"><!-- c --><b>t&amp;u</b><![CDATA[v]]></r>";
    for length in 1..whole.len() {
        let mut parts = BodyParts::default();
        body::xml(&whole.as_bytes()[..length], false, &LIMITS, &mut parts);
        if length > 30 {
            assert!(parts.ends_early, "{length}: {:?}", parts.error);
        } else {
            assert!(parts.error.is_some());
        }
    }
}

#[test]
fn a_graphql_document_becomes_its_texts_comments_and_names() {
    check(
        body::graphql,
        b"# hello\nquery Q($id: [ID!]! = \"1\" @d) { user: account(id: $id, f: {a: \"x\\n\", b: [1, -2.5e3, \"y\"]}, e: ENUM) @include(if: true) \
          { ...F ... on T { name } ... @skip(if: false) { n } } }\nfragment F on User { bio(text: \"\"\"a \"q\" \\\"\"\" b\"\"\") }",
        &[
            ("graphql.comment", " hello"),
            ("graphql.name", "query"),
            ("graphql.name", "Q"),
            ("graphql.name", "id"),
            ("graphql.name", "ID"),
            ("graphql.id", "1"),
            ("graphql.name", "d"),
            ("graphql.name", "user"),
            ("graphql.name", "account"),
            ("graphql.name", "f"),
            ("graphql.name", "a"),
            ("graphql.a", "x\\n"),
            ("graphql.name", "b"),
            ("graphql.b", "y"),
            ("graphql.name", "e"),
            ("graphql.name", "ENUM"),
            ("graphql.name", "include"),
            ("graphql.name", "if"),
            ("graphql.name", "true"),
            ("graphql.name", "F"),
            ("graphql.name", "on"),
            ("graphql.name", "T"),
            ("graphql.name", "name"),
            ("graphql.name", "skip"),
            ("graphql.name", "false"),
            ("graphql.name", "n"),
            ("graphql.name", "fragment"),
            ("graphql.name", "User"),
            ("graphql.name", "bio"),
            ("graphql.name", "text"),
            ("graphql.text", "a \\\"q\\\" \\\"\\\"\\\" b"),
        ],
    );
    check(body::graphql, b"{a}", &[("graphql.name", "a")]);
    check(
        body::graphql,
        b"{a(b:\"\",c:\"\"\"\"\"\")}",
        &[
            ("graphql.name", "a"),
            ("graphql.name", "b"),
            ("graphql.b", ""),
            ("graphql.name", "c"),
            ("graphql.c", ""),
        ],
    );
    check(
        body::graphql,
        b"{a(b:\"\\u003cscript\\ud83d\\ude00\\u{3e}\")}",
        &[("graphql.name", "a"), ("graphql.name", "b"), ("graphql.b", "<script\\xf0\\x9f\\x98\\x80>")],
    );
}

#[test]
fn what_is_no_graphql_document_stays_as_it_is() {
    for text in [
        "",
        "{",
        "}",
        "{}",
        "{ }",
        "query",
        "query {}",
        "{a",
        "{a}}",
        "{a(}",
        "{a()}",
        "{a(b)}",
        "{a(b:)}",
        "{a:}",
        "{a(b:$)}",
        "{a(b:\"x)}",
        "{a(b:\"\n\")}",
        "{a(b:\"\\x\")}",
        "{a(b:\"\\u12\")}",
        "{a(b:\"\\ud800\")}",
        "{a(b:\"\"\"x\"\")}",
        "{a(b:01)}",
        "{a(b:1x)}",
        "{a(b:1.)}",
        "{a(b:.5)}",
        "{a(b:')}",
        "{{7*7}}",
        "{{a}}",
        "${jndi:ldap://x}",
        "' or 1=1 --",
        "{a} or 1=1",
        "{a;b}",
        "{a\0b}",
        "# c",
        "{a(b:[1)}",
        "{a(b:{c})}",
        "fragment on on T {a}",
        "fragment F T {a}",
        "type A {b: C}",
        "query($a){b}",
        "query($a:[B){b}",
        "{a @}",
        "{....}",
        "{..a}",
        "{a<b}",
        "select(a){b}",
        "query Q R {a}",
        "{a(b:\"\"\"\"\"\"\")}",
        "{\u{e9}}",
    ] {
        let parts = parse(body::graphql, text.as_bytes());
        let expected = vec![("graphql".to_owned(), text.as_bytes().escape_ascii().to_string())];
        assert_eq!(args(&parts, text.as_bytes()), expected, "{text}");
    }
    let deep = format!("{}a{}", "{a".repeat(10_000), "}".repeat(10_000));
    assert_eq!(parse(body::graphql, deep.as_bytes()).args.len(), 1);
    let lists = format!("{{a(b:{}{})}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(parse(body::graphql, lists.as_bytes()).args.len(), 1);
}

fn over_http(parser: Parser, body: &str) -> Vec<(String, String)> {
    let mut parts = parse(parser, body.as_bytes());
    body::graphql_over_http(body.as_bytes(), &LIMITS, &mut parts);
    args(&parts, body.as_bytes())
}

fn form(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    body::urlencoded(body, b'&', limits, parts);
}

#[test]
fn a_json_request_of_graphql_is_taken_apart() {
    let owned = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(
        over_http(
            body::json,
            r#"{"operationName":"Q","query":"query Q($i: ID) { u(id: $i, n: \"x\") }","variables":{"i":"' or 1=1"}}"#
        ),
        owned(&[
            ("json.operationName", "Q"),
            ("json.query.name", "query"),
            ("json.query.name", "Q"),
            ("json.query.name", "i"),
            ("json.query.name", "ID"),
            ("json.query.name", "u"),
            ("json.query.name", "id"),
            ("json.query.name", "n"),
            ("json.query.n", "x"),
            ("json.variables.i", "\\' or 1=1"),
        ])
    );
    assert_eq!(
        over_http(body::json, r#"[{"query":"{a}"},{"query":"{b}","variables":null}]"#),
        owned(&[
            ("json.array_0.query.name", "a"),
            ("json.array_1.query.name", "b"),
            ("json.array_1.variables", "")
        ])
    );
    assert_eq!(
        over_http(form, "query=%7Ba(b:%22x%22)%7D&variables=%7B%22i%22:%22y%22%7D"),
        owned(&[
            ("query.name", "a"),
            ("query.name", "b"),
            ("query.b", "x"),
            ("query", "a b x"),
            ("variables.i", "y")
        ])
    );
}

#[test]
fn what_has_another_form_than_graphql_keeps_its_query() {
    for body in [
        r#"{"query":"{a}","more":1}"#,
        r#"{"query":"{a}","Variables":1}"#,
        r#"{"query":{"query":"{a}"}}"#,
        r#"{"a":{"query":"{a}"}}"#,
        r#"{"query":"shoes"}"#,
        r#"{"query":"{a} '"}"#,
        r#"{"query":"{a}","query":"{b}"}"#,
        r#"{"query":["{a}"]}"#,
    ] {
        let parts = parse(body::json, body.as_bytes());
        assert_eq!(over_http(body::json, body), args(&parts, body.as_bytes()), "{body}");
    }
    for body in ["query={a}&page=2", "q={a}", "query=shoes&variables={", "variables={}"] {
        let parts = parse(form, body.as_bytes());
        assert_eq!(over_http(form, body), args(&parts, body.as_bytes()), "{body}");
    }
}

/// A field with content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()][..], content].concat()
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[test]
fn a_message_gives_its_texts_under_their_numbers() {
    let inner = [field(1, b"\xe9\x01"), field(2, b"' or 1=1--"), vec![3 << 3, 0x96, 0x01]].concat();
    let body = [
        vec![1 << 3, 5],
        field(2, b"hello, world"),
        field(3, &inner),
        vec![4 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, 5 << 3 | 5, 1, 2, 3, 4],
        field(6, b""),
        field(6, b"second"),
    ]
    .concat();
    check(
        body::protobuf,
        &body,
        &[
            ("proto.2", "hello, world"),
            ("proto.3.1", "  "),
            ("proto.3.2", "\\' or 1=1--"),
            ("proto.6", ""),
            ("proto.6", "second"),
        ],
    );
}

#[test]
fn a_text_that_reads_as_a_message_is_not_hidden() {
    // `1` is field 6 with eight bytes: all of it reads as one number. `b'` takes what follows for a field's content.
    for text in [&b"1' or 1=1"[..], b"b\x08 or 1=1 ", b"b%' or 1=1 union select a, b, c from d "] {
        let body = field(1, text);
        let parts = parse(body::protobuf, &body);
        assert_eq!(parts.error, None);
        let readable = String::from_utf8_lossy(text).replace('\u{8}', " ");
        let found = args(&parts, &body);
        assert!(found.contains(&("proto.1".to_owned(), readable.escape_default().to_string())), "{found:?}");
    }
}

#[test]
fn messages_that_are_not_exact_are_errors_and_keep_what_was_read() {
    let good = field(1, b"evil");
    for bad in [
        &b"\x00\x01"[..],
        b"\x0b\x0c",
        b"\x0f",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\xff\xff\x01\x00",
    ] {
        let body = [&good[..], bad].concat();
        let parts = parse(body::protobuf, &body);
        assert!(parts.error.is_some() && !parts.ends_early, "{}", bad.escape_ascii());
        assert_eq!(args(&parts, &body)[0].1, "evil");
    }
    for cut in [&b"\x08"[..], b"\x09\x01", b"\x0a", b"\x0a\x05evi"] {
        let body = [&good[..], cut].concat();
        let parts = parse(body::protobuf, &body);
        assert!(parts.ends_early, "{}", cut.escape_ascii());
    }
    let body = [&good[..], b"\x12\x20second evil"].concat();
    assert_eq!(args(&parse(body::protobuf, &body), &body)[1].1, "second evil");
    let mut deep = Vec::new();
    for _ in 0..40 {
        deep = field(1, &deep);
    }
    assert!(parse(body::protobuf, &deep).error.unwrap().contains("deep"));
}

#[test]
fn frames_hold_messages() {
    let body = [framed(0, &field(1, b"one")), framed(0, b""), framed(0, &field(1, b"two"))].concat();
    check(body::grpc, &body, &[("proto.1", "one"), ("proto.1", "two")]);
    for (body, ends_early) in [
        (framed(1, &field(1, b"x")), false),
        (framed(0x80, b"grpc-status:0"), false),
        ([framed(0, &field(1, b"x")), vec![0, 0]].concat(), true),
        (framed(0, &field(1, b"x"))[..7].to_vec(), true),
        ([framed(0, b"\x0a\x05abc"), framed(0, b"")].concat(), false),
    ] {
        let parts = parse(body::grpc, &body);
        assert_eq!((parts.error.is_some(), parts.ends_early), (true, ends_early), "{}", body.escape_ascii());
    }
}

#[test]
fn compressed_frames_become_plain_ones() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&field(1, b"evil")).unwrap();
    let body = [framed(0, &field(1, b"plain")), framed(1, &encoder.finish().unwrap())].concat();
    let gzip = Some(body::coding::Coding::Gzip);
    let plain = body::grpc_plain(&body, gzip, body::coding::Room::of(10_000)).unwrap().into_owned();
    check(body::grpc, &plain, &[("proto.1", "plain"), ("proto.1", "evil")]);
    assert!(body::grpc_plain(&body, None, body::coding::Room::of(10_000)).is_err());
    assert!(body::grpc_plain(&body, gzip, body::coding::Room::of(15)).is_err());
    assert!(body::grpc_plain(&framed(1, b"nonsense"), gzip, body::coding::Room::of(10_000)).is_err());
}

#[test]
fn long_hostile_bodies_take_linear_time() {
    for unit in [
        "{\"a\":1}\n",
        "\n",
        "[\n",
        "{a ",
        "{a(b:[",
        "#\n",
        "\"\"\"",
        "...",
        "{a(b:\"x\"",
        "\x1e1",
        "\x0a\x7f",
        "\x0a\x02\x0a\x00",
        "\0\0\0\0\0",
        "\x0a\u{ff}\x03",
    ] {
        let body = unit.repeat(500_000 / unit.len());
        for parser in [body::json_lines, body::json_sequence, body::graphql, body::protobuf, body::grpc] {
            parse(parser, body.as_bytes());
        }
        parse(body::graphql, format!("{{a(b:\"\"\"{body}").as_bytes());
        over_http(body::json, &format!("{{\"query\":\"{{a(b:[{}", body.replace('"', "\\\"")));
    }
    // Each level of nesting is a text, too.
    let mut nested = vec![b'x'; 200_000];
    for _ in 0..30 {
        let septet = |shift: usize| u8::try_from(nested.len() >> shift & 0x7f).unwrap();
        let length = [septet(0) | 0x80, septet(7) | 0x80, septet(14)];
        nested = [&[0x0a][..], &length, &nested].concat();
    }
    assert!(parse(body::protobuf, &nested).error.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_bytes_are_parsed_or_refused(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..64).boxed(),
            proptest::collection::vec(
                proptest::sample::select(vec![
                    "{", "}", "[", "]", "(", ")", "\"", ":", ",", "a", "1", "$", "query ", "\\u0041", " ", "...", "#", "\"\"\"", "\n", "@", "!", "=",
                    "\x0a", "\x12", "\x03", "\0", "\x1e", "on", "fragment", "\u{e9}", "\\"
                ]), 1..24
            ).prop_map(|parts| parts.concat().into_bytes()).boxed(),
        ]
    ) {
        for parser in [body::json_lines as Parser, body::json_sequence, body::graphql, body::protobuf, body::grpc, form] {
            let mut parts = parse(parser, &body);
            body::graphql_over_http(&body, &LIMITS, &mut parts);
            for arg in &parts.args {
                prop_assert_eq!(parts.bytes(arg.name, &body).len(), arg.name.len());
                prop_assert_eq!(parts.bytes(arg.value, &body).len(), arg.value.len());
            }
        }
        prop_assert!(!parse(body::graphql, &body).args.is_empty());
        for parser in [body::json_lines as Parser, body::json_sequence] {
            let parts = parse(parser, &body);
            let structure = body.iter().all(|byte| byte.is_ascii_whitespace() || b"[]{},\x1e".contains(byte));
            prop_assert!(parts.error.is_some() || !parts.args.is_empty() || structure);
        }
        // Numbers are no values; whatever has content gives some.
        let parts = parse(body::protobuf, &body);
        let has_content = body.iter().any(|byte| byte & 7 == 2);
        prop_assert!(parts.error.is_some() || !parts.args.is_empty() || !has_content || body.len() > 1);
    }

    #[test]
    fn every_text_of_a_message_is_seen(texts in proptest::collection::vec("[ -~]{1,40}", 1..8)) {
        let body: Vec<u8> = texts.iter().flat_map(|text| field(1, &field(2, text.as_bytes()))).collect();
        let parts = parse(body::protobuf, &body);
        prop_assert_eq!(&parts.error, &None);
        let values: Vec<&[u8]> = parts.args.iter().map(|arg| parts.bytes(arg.value, &body)).collect();
        for text in &texts {
            prop_assert!(values.contains(&text.as_bytes()), "{text:?} in {values:?}");
        }
    }

    #[test]
    fn every_text_of_a_document_is_seen(texts in proptest::collection::vec("[^\\p{C}]{0,20}", 1..6)) {
        let quoted: Vec<String> = texts.iter().map(|text| serde_json::to_string(text).unwrap()).collect();
        let body = format!("{{a(b:[{}])}}", quoted.join(" "));
        let parts = parse(body::graphql, body.as_bytes());
        let values: Vec<&[u8]> = parts.args.iter().skip(2).map(|arg| parts.bytes(arg.value, body.as_bytes())).collect();
        let expected: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        prop_assert_eq!(values, expected);
    }
}
