//! Body parsers: what becomes an argument, what is flagged, what is an error; and any bytes at all.

#![cfg(test)]

use phalanx_inspect::body::{self, BodyLimits, BodyParts, Slice, XmlAside};
use proptest::prelude::*;

const LIMITS: BodyLimits = BodyLimits { arguments_max: 1000, depth_max: 64 };

fn text(parts: &BodyParts, body: &[u8], slice: Slice) -> String {
    parts.bytes(slice, body).escape_ascii().to_string()
}

fn args(parts: &BodyParts, body: &[u8]) -> Vec<(String, String)> {
    parts.args.iter().map(|arg| (text(parts, body, arg.name), text(parts, body, arg.value))).collect()
}

#[track_caller]
fn check(parts: &BodyParts, body: &[u8], expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(args(parts, body), expected);
}

fn urlencoded(body: &str) -> BodyParts {
    let mut parts = BodyParts::default();
    body::urlencoded(body.as_bytes(), b'&', &LIMITS, &mut parts);
    parts
}

fn json(body: &str) -> BodyParts {
    let mut parts = BodyParts::default();
    body::json(body.as_bytes(), &LIMITS, &mut parts);
    parts
}

fn xml(body: &str) -> BodyParts {
    let mut parts = BodyParts::default();
    body::xml(body.as_bytes(), false, &LIMITS, &mut parts);
    parts
}

fn multipart(content_type: &str, body: &str) -> BodyParts {
    let mut parts = BodyParts::default();
    body::multipart(body.as_bytes(), content_type.as_bytes(), &LIMITS, &mut parts);
    parts
}

const FORM: &str = "multipart/form-data; boundary=b1";

#[test]
fn pairs_are_decoded_and_plain_ones_stay_in_place() {
    let body = "a=1&b=%41+c&&d&=e&f=g=h&%3d=%zz";
    let parts = urlencoded(body);
    check(
        &parts,
        body.as_bytes(),
        &[("a", "1"), ("b", "A c"), ("d", ""), ("", "e"), ("f", "g=h"), ("=", "%zz")],
    );
    assert!(parts.urlencoded_error && parts.error.is_none());
    assert_eq!(parts.args[0].value, Slice::Body { start: 2, end: 3 });
    assert!(!urlencoded("a=%20").urlencoded_error);
}

#[test]
fn too_many_arguments_are_an_error_and_the_first_ones_stay() {
    let parts = urlencoded(&"a=1&".repeat(1001));
    assert_eq!(parts.args.len(), 1000);
    assert!(parts.error.is_some());
}

#[test]
fn cookies_are_not_decoded() {
    let field = b"a=1; b=%41=x;; c ;=d;  ";
    let mut parts = BodyParts::default();
    body::cookies(field, &LIMITS, &mut parts);
    check(&parts, field, &[("a", "1"), ("b", "%41=x"), ("c ", ""), ("", "d")]);
    assert!(parts.arena.is_empty());
}

#[test]
fn json_values_have_the_names_that_rules_expect() {
    let body =
        r#" {"a":{"b":"x\n\u0041\ud83d\ude00"},"list":[1,true,{"c":null},[2.5e3]],"":"e","d":[],"f":{}} "#;
    let parts = json(body);
    assert_eq!(parts.error, None);
    check(
        &parts,
        body.as_bytes(),
        &[
            ("json.a.b", "x\\nA\\xf0\\x9f\\x98\\x80"),
            ("json.list.array_0", "1"),
            ("json.list.array_1", "true"),
            ("json.list.array_2.c", ""),
            ("json.list.array_3.array_0", "2.5e3"),
            ("json.empty-key", "e"),
            ("json.d", ""),
            ("json.f", ""),
        ],
    );
    for (body, name, value) in
        [("\"x\"", "json", "x"), ("[7]", "json.array_0", "7"), ("-0.5", "json", "-0.5")]
    {
        check(&json(body), body.as_bytes(), &[(name, value)]);
        assert_eq!(json(body).error, None);
    }
}

#[test]
fn keys_of_json_objects_that_hold_nothing_are_inspected() {
    let body = "{\"<script>\":\t{ }}";
    check(&json(body), body.as_bytes(), &[("json.<script>", "")]);
    assert!(json("{}").args.is_empty() && json("[]").args.is_empty());
}

#[test]
fn json_that_is_not_exact_is_an_error_and_keeps_what_was_read() {
    for body in [
        "",
        " ",
        "{",
        "{\"a\":1",
        "{\"a\":1,}",
        "[1,]",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "01",
        "1.",
        "-",
        "+1",
        "1e",
        "nul",
        "tru",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "{}{}",
        "[1]x",
        "// c\n1",
        "NaN",
        "\u{feff}1",
        "\"a\tb\"",
        "[,1]",
        "{,}",
        "]",
        "[}",
    ] {
        assert!(json(body).error.is_some(), "{body:?}");
    }
    let body = "{\"a\":\"x\",\"b\":oops";
    check(&json(body), body.as_bytes(), &[("json.a", "x")]);
    let mut parts = BodyParts::default();
    body::json(b"{\"a\":\"\xff\"}", &LIMITS, &mut parts);
    assert!(parts.error.is_some() && parts.args.len() == 1);
}

#[test]
fn json_duplicate_keys_are_flagged_and_both_are_inspected() {
    let body = r#"{"a":1,"\u0061":2,"o":{"a":3},"p":{"a":4}}"#;
    let parts = json(body);
    assert!(parts.json_duplicate_key && parts.error.is_some());
    check(&parts, body.as_bytes(), &[("json.a", "1"), ("json.a", "2"), ("json.o.a", "3"), ("json.p.a", "4")]);
    assert!(!json(r#"[{"a":1},{"a":2}]"#).json_duplicate_key);
}

#[test]
fn json_depth_and_names_are_bounded() {
    assert!(json(&"[".repeat(100_000)).error.unwrap().contains("deep"));
    let wide = format!("{{\"{}\":[{}1]}}", "k".repeat(100_000), "1,".repeat(900));
    let parts = json(&wide);
    assert!(parts.error.unwrap().contains("room") && parts.arena.len() < wide.len() * 10);
}

#[test]
fn multipart_gives_fields_files_and_headers() {
    let body = "--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\ny\r\n--b1\r\ncontent-disposition: form-data; \
                name=\"f\"; filename=\"p \\\"q\\\".txt\"\r\nContent-Type: text/plain\r\n\r\n--data--\r\n--b1--\r\n";
    let parts = multipart(FORM, body);
    assert_eq!(parts.error, None);
    assert_eq!(parts.multipart, body::MultipartFlags::default());
    check(&parts, body.as_bytes(), &[("a", "x\\r\\ny")]);
    let file = parts.files[0];
    let shown = [file.field, file.filename, file.content].map(|slice| text(&parts, body.as_bytes(), slice));
    assert_eq!(shown, ["f", "p \\\"q\\\".txt", "--data--"]);
    assert_eq!((parts.part_names.len(), parts.part_filenames.len(), parts.part_headers.len()), (2, 1, 3));
    let header = parts.part_headers[2];
    assert_eq!(text(&parts, body.as_bytes(), header.name), "f");
    assert_eq!(text(&parts, body.as_bytes(), header.value), "Content-Type: text/plain");
}

/// A body with one field.
fn one(header: &str, content: &str) -> String {
    format!("--b1\r\n{header}\r\n\r\n{content}\r\n--b1--\r\n")
}

#[test]
fn multipart_forms_that_parsers_read_differently_set_their_flags() {
    let plain = one("Content-Disposition: form-data; name=\"a\"", "x");
    let flags = |content_type: &str, body: &str| {
        let parts = multipart(content_type, body);
        (parts.multipart, parts.error)
    };
    for (content_type, set) in [
        ("multipart/form-data; boundary=\"b1\"", "boundary_quoted"),
        ("multipart/form-data; boundary= b1", "boundary_whitespace"),
        ("multipart/form-data; boundary =b1", "boundary_whitespace"),
        ("multipart/form-data boundary=b1", "missing_semicolon"),
        ("multipart/form-data; boundary=b1; charset=utf-8", ""),
        ("Multipart/Form-Data; charset=utf-8; Boundary=b1", ""),
    ] {
        let (found, error) = flags(content_type, &plain);
        assert_eq!(error, None, "{content_type}");
        let shown = format!("{found:?}");
        assert_eq!(found.strict_error, !set.is_empty(), "{content_type}: {shown}");
        assert!(set.is_empty() || shown.contains(&format!("{set}: true")), "{content_type}: {shown}");
    }
    for (body, set) in [
        (format!("before{plain}"), "error"),
        (format!("before\r\n{plain}"), "data_before"),
        (format!("{plain}after"), "data_after"),
        (plain.replace("\r\n", "\n"), "lf_line"),
        (plain.replacen("\r\n", "\n", 1), "crlf_lf_lines"),
        (one("Content-Disposition: form-data;\r\n name=\"a\"", "x"), "header_folding"),
        (one("Content-Disposition: form-data;\r\n\u{b}name=\"a\"", "x"), "invalid_header_folding"),
        (one("Content-Disposition: form-data; name='a'", "x"), "invalid_quoting"),
        (one("Content-Disposition: form-data; name=\"a\"b", "x"), "invalid_quoting"),
        (one("Content-Disposition: form-data", "x"), "invalid_part"),
        (one("Content-Disposition: form-data; name=\"a\"", "x\r\n--b1z\r\ny"), "unmatched_boundary"),
    ] {
        let (found, error) = flags(FORM, &body);
        let shown = format!("{found:?} error: {}", error.is_some());
        assert!(shown.contains(&format!("{set}: true")), "{body:?}: {shown}");
    }
}

#[test]
fn multipart_that_leaves_doubt_is_an_error_and_content_stays_visible() {
    let disposition = "Content-Disposition: form-data; name=\"a\"";
    for (content_type, body) in [
        (FORM, String::new()),
        (FORM, "no boundary at all".to_owned()),
        (FORM, format!("--b1\r\n{disposition}\r\n\r\nx")),
        (FORM, format!("--b1\r\n{disposition}\r\n\r\nx\r\n--b1--garbage")),
        (FORM, one("Content-Type: text/plain", "x")),
        (FORM, one(&format!("{disposition}; name=\"b\""), "x")),
        (FORM, one(&format!("{disposition}; filename*=UTF-8''x.php"), "x")),
        (FORM, one(&format!("{disposition}; FileName *= \"x.php\""), "x")),
        (FORM, one(&format!("{disposition}; filename*0*=UTF-8''x"), "x")),
        (FORM, one("Content-Disposition: form-data; name*=UTF-8''a", "x")),
        (FORM, one(&format!("{disposition}\r\nContent-Type: multipart/mixed; boundary=i"), "x")),
        (FORM, one(&format!("{disposition}\r\n{disposition}"), "x")),
        (FORM, one(&format!("{disposition}\r\nnocolon"), "x")),
        (FORM, one("Content-Disposition: attachment; name=\"a\"", "x")),
        (FORM, one("Content-Disposition: form-data; name=\"a", "x")),
        (FORM, one("Content-Disposition: form-data; name=\"a\"\0", "x")),
        ("multipart/form-data", one(disposition, "x")),
        ("multipart/form-data; boundary=", one(disposition, "x")),
        ("multipart/form-data; boundary=b1; boundary=b2", one(disposition, "x")),
        ("multipart/form-data; boundary=\"b1", one(disposition, "x")),
        ("multipart/mixed; boundary=b1", one(disposition, "x")),
    ] {
        let parts = multipart(content_type, &body);
        assert!(parts.error.is_some() && parts.multipart.strict_error, "{content_type} {body:?}");
    }
    let body = format!("--b1\r\n{disposition}\r\n\r\nevil");
    check(&multipart(FORM, &body), body.as_bytes(), &[("a", "evil")]);
    let body = one(&format!("{disposition}; filename=\"\""), "evil");
    check(&multipart(FORM, &body), body.as_bytes(), &[("a", "evil")]);
}

#[test]
fn xml_text_is_joined_and_attributes_are_listed() {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><r a=\"1\" b='x&lt;&#65;'>t<c d=\"2\"/>&amp;<![CDATA[<u>]]><!-- no --></r>";
    let parts = xml(body);
    assert_eq!(parts.error, None);
    assert_eq!(text(&parts, body.as_bytes(), parts.xml_text.unwrap()), "t&<u>");
    let attributes: Vec<_> =
        parts.xml_attributes.iter().map(|&value| text(&parts, body.as_bytes(), value)).collect();
    assert_eq!(attributes, ["1", "x<A", "2"]);
    assert!(matches!(parts.xml_attributes[0], Slice::Body { .. }));
    let mut parts = BodyParts::default();
    let body = b"<r><a><b>1</b><b>2</b></a><c/></r>";
    body::xml(body, true, &LIMITS, &mut parts);
    check(&parts, body, &[("xml.r.a.b", "1"), ("xml.r.a.b", "2"), ("xml.r.c", "")]);
}

#[test]
fn what_stands_beside_the_text_of_xml_is_kept_apart_from_it() {
    let body = "<?xml version=\"1.0\" standalone='yes'?><!-- a --><?php b ?><r><c.d x\u{ff07}=\"1\">un<!--e-->ion<?f?></c.d><c.d/><soap:g-1/></r>";
    let parts = xml(body);
    assert_eq!(parts.error, None);
    assert_eq!(text(&parts, body.as_bytes(), parts.xml_text.unwrap()), "union");
    let asides: Vec<_> =
        parts.xml_asides.iter().map(|&(kind, value)| (kind, text(&parts, body.as_bytes(), value))).collect();
    let expected = [
        (XmlAside::Comment, " a "),
        (XmlAside::Name, "php"),
        (XmlAside::Instruction, "php b "),
        (XmlAside::Name, "r"),
        (XmlAside::Name, "c.d"),
        (XmlAside::Name, "x\\xef\\xbc\\x87"),
        (XmlAside::Comment, "e"),
        (XmlAside::Name, "f"),
        (XmlAside::Instruction, "f"),
        (XmlAside::Name, "soap:g-1"),
    ];
    assert_eq!(asides, expected.map(|(kind, value)| (kind, value.to_owned())));
    let many = format!("<r>{}</r>", "<!---->".repeat(LIMITS.arguments_max + 1));
    assert!(xml(&many).error.unwrap().contains("too many"));
}

#[test]
fn xml_that_is_not_well_formed_or_declares_entities_is_an_error() {
    for body in [
        "",
        "x",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "<a b=1/>",
        "<a b='1' b='2'/>",
        "<a>&x;</a>",
        "<a b='&x;'/>",
        "<a>&</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
        "<!DOCTYPE a [<!entity x \"y\">]><a/>",
        "<?xml version='1.0' encoding='utf-7'?><a/>",
        "<a><![CDATA[x</a>",
        "<a",
        "<a'or'1/>",
        "<a><script></a>",
        "<1a/>",
        "<a b'c='1'/>",
        "<a\0/>",
        "<a><?'x?></a>",
        "<a><!-- -- --></a>",
        "<a><!-- ---></a>",
        "<a/><?xml version='1.0'?>",
        "<a><?XML x?></a>",
        "<?xml version='1.0' x='union select'?><a/>",
        "<?xml version='evil'?><a/>",
        "<?xml version='1.0'?><?xml version='1.0'?><a/>",
        "<!DOCTYPE a'or'1><a/>",
    ] {
        assert!(xml(body).error.is_some(), "{body:?}");
    }
    let mut parts = BodyParts::default();
    body::xml(b"<a b=\"\xff\">evil</a>", false, &LIMITS, &mut parts);
    assert!(parts.error.is_some());
    assert_eq!(parts.bytes(parts.xml_text.unwrap(), b""), b"evil");
    assert!(xml(&"<a>".repeat(100_000)).error.unwrap().contains("deep"));
}

#[test]
fn long_hostile_bodies_take_linear_time() {
    for unit in [
        "--b1",
        "\r\n--b1\r\n",
        "\n",
        "a:",
        "[",
        "{\"a\":",
        "\"\\u0041",
        "<a ",
        "<a>",
        "&a=",
        "%",
        "&amp;",
        ";",
        "--b1--",
    ] {
        let body = unit.repeat(500_000 / unit.len());
        let mut parts = BodyParts::default();
        body::urlencoded(body.as_bytes(), b'&', &LIMITS, &mut parts);
        body::cookies(body.as_bytes(), &LIMITS, &mut parts);
        json(&body);
        xml(&format!("<r>{body}"));
        xml(&format!("<r a='{body}"));
        multipart(FORM, &format!("--b1\r\n{body}"));
        multipart(FORM, &format!("--b1\r\nContent-Disposition: form-data; name=\"{body}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_bytes_are_parsed_or_refused(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64).boxed(),
            proptest::collection::vec(
                proptest::sample::select(vec![
                    "{", "}", "[", "]", "\"", ":", ",", "a", "1", "true", "null", "\\", "\\u0041", " ", "--b1", "--", "\r\n", "\n",
                    "Content-Disposition: form-data", "; name=", "; filename=", "x", "<", ">", "/", "=", "'", "&", ";", "&lt;", "<a>",
                    "</a>", "<!DOCTYPE", "<![CDATA[", "]]>", "%41", "+", "\0", "\u{e9}"
                ]), 0..24
            ).prop_map(|parts| parts.concat().into_bytes()).boxed(),
        ]
    ) {
        let mut all = BodyParts::default();
        body::urlencoded(&body, b'&', &LIMITS, &mut all);
        body::cookies(&body, &LIMITS, &mut all);
        body::json(&body, &LIMITS, &mut all);
        body::xml(&body, true, &LIMITS, &mut all);
        body::multipart(&body, FORM.as_bytes(), &LIMITS, &mut all);
        body::multipart(FORM.as_bytes(), &body, &LIMITS, &mut all);
        let slices = all.args.iter().flat_map(|arg| [arg.name, arg.value]).chain(all.xml_attributes.iter().copied());
        let slices = slices.chain(all.xml_asides.iter().map(|&(_, slice)| slice));
        for slice in slices.chain(all.files.iter().flat_map(|file| [file.field, file.filename, file.content])) {
            // Slices of the last call are of another body; none is longer than what it points into.
            prop_assert!(slice.len() <= body.len().max(FORM.len()).max(all.arena.len()));
        }
        let mut alone = BodyParts::default();
        body::json(&body, &LIMITS, &mut alone);
        let nested = body.iter().any(|byte| matches!(byte, b'[' | b'{'));
        prop_assert!(alone.error.is_some() || !alone.args.is_empty() || nested, "a document gave nothing");
    }

    #[test]
    fn decoding_what_was_encoded_gives_it_back(value in proptest::collection::vec(any::<u8>(), 0..32)) {
        let encoded: String = value.iter().map(|byte| format!("%{byte:02x}")).collect();
        let body = format!("k={encoded}");
        let parts = urlencoded(&body);
        prop_assert_eq!(parts.bytes(parts.args[0].value, body.as_bytes()), value.as_slice());
        let text = String::from_utf8_lossy(&value).into_owned();
        let document = serde_json::to_string(&text).unwrap();
        let parts = json(&document);
        prop_assert_eq!(parts.error.as_ref(), None);
        prop_assert_eq!(parts.bytes(parts.args[0].value, document.as_bytes()), text.as_bytes());
    }
}
