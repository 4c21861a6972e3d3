//! The suite that comes with the tables, and the promises on any bytes.

use std::path::PathBuf;

use proptest::prelude::*;

use super::fold::fold;
use super::tokens::{Context, Token, Tokenizer};
use super::{html5, is_sqli, is_xss};

const PLAIN: Context = Context { quote: 0, mysql: false, skips_bare_exponents: false };

fn print(token: &Token, out: &mut Vec<u8>) {
    out.extend([token.kind, b' ']);
    if token.kind == b'v' {
        out.extend(std::iter::repeat_n(b'@', usize::from(token.signs)));
    }
    let quoted = matches!(token.kind, b's' | b'v');
    out.extend(Some(token.open).filter(|&open| quoted && open != 0));
    out.extend(token.text());
    out.extend(Some(token.close).filter(|&close| quoted && close != 0));
    out.push(b'\n');
}

fn print_html5(input: &[u8], out: &mut Vec<u8>) {
    let mut tokenizer = html5::Tokenizer::new(input, html5::Context::Data);
    while let Some(token) = tokenizer.next() {
        let name = match token.kind {
            html5::Kind::DataText => "DATA_TEXT",
            html5::Kind::TagNameOpen => "TAG_NAME_OPEN",
            html5::Kind::TagNameClose => "TAG_NAME_CLOSE",
            html5::Kind::TagNameSelfClose => "TAG_NAME_SELFCLOSE",
            html5::Kind::TagClose => "TAG_CLOSE",
            html5::Kind::AttrName => "ATTR_NAME",
            html5::Kind::AttrValue => "ATTR_VALUE",
            html5::Kind::TagComment => "TAG_COMMENT",
            html5::Kind::Doctype => "DOCTYPE",
        };
        out.extend(format!("{name},{},", token.end - token.start).as_bytes());
        out.extend(&input[token.start..token.end]);
        out.push(b'\n');
    }
}

fn answer(file: &str, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if file.starts_with("test-tokens") {
        let mut tokenizer = Tokenizer::new(input, PLAIN);
        while let Some(token) = tokenizer.next() {
            print(&token, &mut out);
        }
    } else if file.starts_with("test-folding") {
        fold(&mut Tokenizer::new(input, PLAIN)).tokens().iter().for_each(|token| print(token, &mut out));
    } else if file.starts_with("test-sqli") {
        out.extend(is_sqli(input).map(|found| found.as_str().to_owned()).unwrap_or_default().bytes());
    } else if file.starts_with("test-html5") {
        print_html5(input, &mut out);
    } else {
        out.extend(if is_xss(input) { b"1" } else { b"0" });
    }
    out
}

fn between<'a>(text: &'a [u8], start: &[u8], end: &[u8]) -> &'a [u8] {
    let from = memchr::memmem::find(text, start).unwrap() + start.len();
    let rest = &text[from..];
    if end.is_empty() { rest } else { &rest[..memchr::memmem::find(rest, end).unwrap()] }
}

#[test]
fn suite_of_tokens_folding_html5_and_verdicts_passes() {
    let Some(shared) = std::env::var_os("PHALANX_SHARED") else {
        assert!(std::env::var_os("CI").is_none(), "PHALANX_SHARED must be set in CI");
        println!("skipped: libinjection's suite needs PHALANX_SHARED");
        return;
    };
    let (mut failures, mut passed) = (String::new(), 0);
    for entry in std::fs::read_dir(PathBuf::from(shared).join("conformance/libinjection")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !file.starts_with("test-") {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        // The suite's runner keeps texts in C strings and trims their ends.
        let input = between(&text, b"--INPUT--\n", b"--EXPECTED--\n").trim_ascii_end();
        let input = input.split(|&byte| byte == 0).next().unwrap();
        let expected = between(&text, b"--EXPECTED--\n", b"").trim_ascii_end();
        let got = answer(&file, input);
        if got.trim_ascii_end() == expected {
            passed += 1;
        } else {
            let [input, expected, got] = [input, expected, &got].map(|b| b.escape_ascii().to_string());
            failures += &format!("{file}\n  input    {input}\n  expected {expected}\n  got      {got}\n");
        }
    }
    println!("{passed} files");
    assert!(failures.is_empty() && passed > 300, "{passed} passed\n{failures}");
}

#[test]
fn injections_are_found_in_every_context() {
    for value in [
        "1 UNION SELECT 1,2",
        "1' OR '1'='1",
        "x\" or 1=1 #",
        "1;DROP TABLE users",
        "1 /*!or*/ 1",
        "' or ''='",
    ] {
        assert!(is_sqli(value.as_bytes()).is_some(), "{value}");
    }
    for value in [
        "<script>alert(1)</script>",
        "\" onerror=alert(1) x=\"",
        "<a href=java&#115;cript:alert(1)>",
        "<svg/onload=alert(1)>",
        "<img src=x onpointerrawupdate=1 onwebkittransitionend=alert(1)>",
        "' style='x",
    ] {
        assert!(is_xss(value.as_bytes()), "{value}");
    }
}

#[test]
fn ordinary_text_is_no_injection() {
    for value in [
        "O'Brien and sons",
        "select a colour",
        "1-2 weeks",
        "rock & roll",
        "a < b and c > d",
        "user@example.org",
        "x = y",
        "",
    ] {
        assert_eq!(is_sqli(value.as_bytes()), None, "{value}");
        assert!(!is_xss(value.as_bytes()), "{value}");
    }
}

#[test]
fn long_hostile_values_take_linear_time() {
    for unit in [
        "'", "\"", "\\'", "/*", "`", "$a$", "$$", "b'", "q'(", "1+", "<", "</", "<!--", "- ", "x/", "=/",
        "on", "&#", "{a ", "((", "-- ",
    ] {
        let value = unit.repeat(300_000 / unit.len());
        is_sqli(value.as_bytes());
        is_xss(value.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_give_an_answer(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..48),
            proptest::collection::vec(
                proptest::sample::select(vec![
                    "'", "\"", "`", "\\", "/*", "*/", "--", "#", "1", "a", "or", " ", "union", "select", "(", ")", ",", ";", "@",
                    "$", "0x", "q'", "n'", "u&'", "<", ">", "/", "=", "on", "\0", "!", "-", "script", "&#", "{", "}", "[", "]", ".",
                    "in", "like", "collate", "_", "::", "int", "if", "\u{a0}", "%", "?"
                ]), 0..24
            ).prop_map(|parts| parts.concat().into_bytes()),
        ]
    ) {
        if let Some(found) = is_sqli(&input) {
            prop_assert!((1..=5).contains(&found.as_str().len()));
        }
        is_xss(&input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    // What the program's filter of values relies on.
    #[test]
    fn one_word_is_no_sql_injection(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "1", "0x", "0b1", "1e", "1e1", "e", "x", "b", "n", "q", "u", "d", "f", "union", "UNION", "select", "or", "and",
                "sp_password", "null", "A", "_", "9", "in", "not", "having", "waitfor", "exec",
            ]),
            1..6,
        ),
    ) {
        let word = parts.concat();
        prop_assert!(is_sqli(word.as_bytes()).is_none(), "{word}");
    }

    #[test]
    fn without_a_tag_or_an_equals_sign_nothing_runs_script(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "onload", "onerror", " ", "/", ">", "'", "\"", "`", "!--", "javascript:", "style", "src", "x", "\0", "?", "%", "xmlns",
                "&lt;", "DOCTYPE", "--", "svg",
            ]),
            1..8,
        ),
    ) {
        let value = parts.concat();
        prop_assert!(!is_xss(value.as_bytes()), "{value}");
    }
}
