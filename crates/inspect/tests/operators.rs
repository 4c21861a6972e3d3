//! Operators against the SecLang language tests.

#![cfg(test)]

#[path = "suite/language.rs"]
mod language;
mod suite;

use std::net::IpAddr;

use phalanx_inspect::libinjection::{is_sqli, is_xss};
use phalanx_inspect::operator::{self, verify};
use phalanx_inspect::pattern::{Captures, Flags, Pattern};
use phalanx_policy::seclang::{LoadOptions, ir, load_texts};
use serde_json::Value;

const NAMES: [&str; 28] = [
    "beginsWith",
    "contains",
    "containsWord",
    "detectSQLi",
    "detectXSS",
    "endsWith",
    "eq",
    "ge",
    "gt",
    "ipMatch",
    "le",
    "lt",
    "noMatch",
    "pm",
    "pmFromFile",
    "rx",
    "rxGlobal",
    "streq",
    "strmatch",
    "unconditionalMatch",
    "validateByteRange",
    "validateUrlEncoding",
    "validateUtf8Encoding",
    "verifyCC",
    "verifycpf",
    "verifyssn",
    "verifysvnr",
    "within",
];

/// The operator as the policy language gives it; for arguments that are parsed there.
fn load(operator: &str, param: &str) -> Option<ir::Test> {
    let text = format!("SecRule ARGS \"@{operator} {param}\" \"id:1,phase:2,pass\"");
    let loaded = load_texts(&[("case.conf", &text)], &LoadOptions::default()).ok()?;
    loaded.rules.items.iter().find_map(|item| match item {
        ir::Item::Rule(rule) if rule.id == 1 => rule.links[0].operator.as_ref().map(|o| o.test.clone()),
        _ => None,
    })
}

fn matches(name: &str, folder: &std::path::Path, case: &Value) -> bool {
    let (input, param) = (language::bytes(case, "input"), language::bytes(case, "param"));
    let text = String::from_utf8_lossy(&param).into_owned();
    let pattern = || Pattern::compile(&text, Flags::MODSECURITY).expect("a pattern of the suite compiles");
    let checked = |check: fn(&[u8]) -> bool| verify(&input, &pattern(), check).unwrap().is_some();
    let order = operator::number(&input).cmp(&operator::number(&param));
    match name {
        "beginsWith" => operator::begins_with(&input, &param),
        "contains" | "strmatch" => operator::contains(&input, &param),
        "containsWord" => operator::contains_word(&input, &param),
        "detectSQLi" => is_sqli(&input).is_some(),
        "detectXSS" => is_xss(&input),
        "endsWith" => operator::ends_with(&input, &param),
        "eq" => order.is_eq(),
        "ge" => order.is_ge(),
        "gt" => order.is_gt(),
        "le" => order.is_le(),
        "lt" => order.is_lt(),
        "streq" => operator::streq(&input, &param),
        "within" => operator::within(&input, &param),
        "unconditionalMatch" => true,
        "noMatch" => false,
        "rx" | "rxGlobal" => {
            let mut captures = Captures::default();
            let found = pattern().captures_at(&input, 0, &mut captures).unwrap();
            if let Some(groups) = case.get("re_groups").and_then(Value::as_array).filter(|_| name == "rx") {
                let got = captures.groups[..captures.len]
                    .iter()
                    .map(|g| g.map_or("", |(a, b)| std::str::from_utf8(&input[a..b]).unwrap()));
                assert_eq!(
                    got.collect::<Vec<_>>(),
                    groups.iter().map(|g| g.as_str().unwrap()).collect::<Vec<_>>()
                );
            }
            found
        }
        "validateUrlEncoding" => operator::violates_url_encoding(&input),
        "validateUtf8Encoding" => operator::violates_utf8(&input),
        "verifyCC" => checked(operator::is_credit_card),
        "verifycpf" => checked(operator::is_cpf),
        "verifyssn" => checked(operator::is_ssn),
        "verifysvnr" => checked(operator::is_svnr),
        "validateByteRange" => match load(name, &text) {
            Some(ir::Test::ValidateByteRange(allowed)) => operator::violates_byte_range(&input, &allowed),
            // The suite has a range that is not one, and expects a match; here it is refused at load.
            None => true,
            Some(other) => panic!("{other:?}"),
        },
        "ipMatch" => {
            let Some(ir::Test::IpMatch(prefixes)) = load(name, &text) else { return false };
            let ip =
                String::from_utf8_lossy(&input).parse::<IpAddr>().ok().map(phalanx_model::net::canonical);
            ip.is_some_and(|ip| prefixes.iter().any(|prefix| prefix.contains(&ip)))
        }
        "pm" | "pmFromFile" => {
            let text = match text.rsplit_once("op/") {
                Some((_, file)) => {
                    std::fs::read_to_string(folder.join("op").join(file)).unwrap().replace('\n', "\u{1}")
                }
                None => text.replace(' ', "\u{1}"),
            };
            let phrases = text.split('\u{1}').filter(|phrase| !phrase.is_empty() && !phrase.starts_with('#'));
            phrases
                .into_iter()
                .any(|p| operator::contains(&input.to_ascii_lowercase(), p.to_ascii_lowercase().as_bytes()))
        }
        _ => panic!("{name}"),
    }
}

#[test]
fn language_tests_of_operators_pass() {
    let Some(folder) = suite::folder("conformance/operators") else { return };
    let (mut failures, mut passed) = (Vec::new(), 0);
    for name in NAMES {
        for case in language::cases(&folder, name) {
            let expected = case.get("ret").and_then(Value::as_i64) == Some(1);
            if matches(name, &folder, &case) == expected {
                passed += 1;
            } else {
                failures.push(case.to_string());
            }
        }
    }
    println!("{passed} cases");
    assert!(failures.is_empty(), "{} failed\n{}", failures.len(), failures.join("\n"));
    assert!(passed > 600);
}

#[test]
fn words_end_where_letters_end() {
    for (input, expected) in
        [("abc", true), ("abcabc", false), ("abcx abc", true), ("xabc1", false), ("1abc1", true), ("", false)]
    {
        assert_eq!(operator::contains_word(input.as_bytes(), b"abc"), expected, "{input}");
    }
}

#[test]
fn numbers_saturate_and_stop_at_the_first_other_byte() {
    for (text, expected) in [
        ("12x", 12),
        ("-7", -7),
        ("+7", 7),
        ("x", 0),
        ("", 0),
        (" 3", 3),
        ("\x0b\x0c\r 3", 3),
        ("99999999999999999999", i64::MAX),
    ] {
        assert_eq!(operator::number(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn numbers_that_people_make_up_are_no_identities() {
    for number in ["01234567890", "11111111111"] {
        assert!(!operator::is_cpf(number.as_bytes()));
    }
    assert!(!operator::is_svnr(b"1234567890"));
    assert!(!operator::is_ssn(b"666-12-3456"));
    assert!(operator::is_credit_card(b"4111 1111 1111 1111"));
}
