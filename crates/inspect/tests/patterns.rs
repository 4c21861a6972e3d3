//! The PCRE dialect: what matches where, what is refused, and that prefilters never hide a match.

#![cfg(test)]

mod suite;

use phalanx_inspect::pattern::{ABSENT, Captures, Flags, Pattern, Requirement};
use phalanx_policy::seclang::{LoadOptions, ir, load_dirs};
use proptest::prelude::*;

const PLAIN: Flags = Flags { case_insensitive: false, dot_all: false, multi_line: false };

fn find(pattern: &str, flags: Flags, value: &[u8]) -> Option<(usize, usize)> {
    let compiled = Pattern::compile(pattern, flags).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let found = compiled.find(value).expect("within the limit");
    assert_eq!(compiled.is_match(value), Ok(found.is_some()), "{pattern}");
    if found.is_some() {
        check_requirement(&compiled, pattern, value);
    }
    found
}

fn check_requirement(compiled: &Pattern, pattern: &str, value: &[u8]) {
    for (required, absent) in compiled.requirements().iter().zip(ABSENT) {
        if !value.iter().any(|byte| absent.contains(byte)) {
            assert!(!required.impossible, "{pattern} hides a match in {}", value.escape_ascii());
            check_one_requirement(required, pattern, value);
        }
    }
}

fn check_one_requirement(required: &Requirement, pattern: &str, value: &[u8]) {
    let lower = value.to_ascii_lowercase();
    assert!(value.len() >= required.min_len, "{pattern} needs {} bytes", required.min_len);
    if let Some(literals) = &required.any_of {
        let contains = |text: &Vec<u8>| lower.windows(text.len()).any(|window| window == text.as_slice());
        assert!(literals.iter().any(contains), "{pattern} hides a match in {}", value.escape_ascii());
    }
    for set in &required.byte_sets {
        let contains = value.iter().any(|byte| set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1);
        assert!(contains, "{pattern} hides a match in {}", value.escape_ascii());
    }
}

#[track_caller]
fn check(pattern: &str, value: &[u8], expected: Option<(usize, usize)>) {
    assert_eq!(find(pattern, Flags::MODSECURITY, value), expected, "{pattern} on {}", value.escape_ascii());
}

#[test]
fn escapes_stand_for_bytes() {
    check(r"\x41\x{42}\103\x0", b"xABC\0", Some((1, 5)));
    check(r"\x{e9}", b"caf\xe9", Some((3, 4)));
    check("\u{e9}", "caf\u{e9}".as_bytes(), Some((3, 5)));
    check("[\u{e9}]", "caf\u{e9}".as_bytes(), Some((3, 4)));
    check(r"\a\e\f\n\r\t\cA\0", b"\x07\x1b\x0c\n\r\t\x01\0", Some((0, 8)));
    check(r"\<\>\%\-\ ", b"<>%- ", Some((0, 5)));
    check(r"\Qa.b\E+c", b"a.bbc", Some((0, 5)));
    check(
        r"(?x) a b # comment
          [ ] c",
        b"ab c",
        Some((0, 4)),
    );
}

#[test]
fn shorthands_are_ascii_and_know_vertical_and_horizontal_space() {
    check(r"^\s+$", b"\t\n\x0b\x0c\r ", Some((0, 6)));
    check(r"\s", b"\x85\xa0", None);
    check(r"\h+", b"a\t \xa0\n", Some((1, 4)));
    check(r"\v+", b"a\n\x0b\x0c\r\x85", Some((1, 6)));
    check(r"\V\H\N", b"\nab\n", None);
    check(r"\w+", "é_9".as_bytes(), Some((2, 4)));
    check(r"[^\W_]+", b"__a1", Some((2, 4)));
    check(r"\Rx", b"\r\nx", Some((0, 3)));
    check(r"^\R\n", b"\r\n\n", Some((0, 3)));
    check(r"\R\n", b"\r\n", None);
}

#[test]
fn brackets_hold_what_pcre_says() {
    check(r"[]a]+", b"x]a]", Some((1, 4)));
    check(r"[^]a]+", b"]xa", Some((1, 2)));
    check(r"[[a]+", b"x[a[", Some((1, 4)));
    check(r"[a[]b]", b"[b]", Some((0, 3)));
    check(r"[[:alpha:][:^word:]]+", b"12a-b", Some((2, 5)));
    check(r"[a\-z]+", b"b-za", Some((1, 4)));
    check(r"[\b]", b"a\x08", Some((1, 2)));
    check(r"[a-\d]+", b"5-a", Some((0, 3)));
    check(r"[\x00-\x1f&&x]+", b"&x\x01", Some((0, 3)));
    check(r"[+--]+", b"+,-.", Some((0, 3)));
    check(r"[\Q]-a\E]+", b"]-a", Some((0, 3)));
    check(r"(?i)[^a]", b"Aa", None);
    check(r"(?i)[k-l]+", "KLkl\u{212a}".as_bytes(), Some((0, 4)));
}

#[test]
fn line_ends_are_places_as_in_pcre() {
    check("^b$", b"a\nb\nc", Some((2, 3)));
    check("a$", b"a\n", Some((0, 1)));
    check("^$", b"a\n", None);
    check("^$", b"\n", Some((0, 0)));
    check("^$", b"a\n\n", Some((2, 2)));
    check("^", b"", Some((0, 0)));
    check("x*^", b"a\n", Some((0, 0)));
    check("(?:b|\\n)^", b"a\n", None);
    check("a.b", b"a\nb", Some((0, 3)));
    for (pattern, value, expected) in [
        ("a$", &b"a\n"[..], Some((0, 1))),
        ("a$", b"a\n\n", None),
        (r"a\Z", b"a\n", Some((0, 1))),
        (r"a\z", b"a\n", None),
        ("^b", b"a\nb", None),
        ("a.b", b"a\nb", None),
    ] {
        assert_eq!(find(pattern, PLAIN, value), expected, "{pattern}");
    }
}

#[test]
fn quantifiers_and_braces() {
    check("a{2}b{1,}c{0,2}", b"aabbbc", Some((0, 6)));
    check("a{,2}", b"aaa{,2}", Some((2, 7)));
    check("a{x}{", b"a{x}{", Some((0, 5)));
    check("a+?b*?", b"aab", Some((0, 1)));
    check("(?U)a+", b"aa", Some((0, 1)));
    check("[a-c]*+d", b"abcd", Some((0, 4)));
    check("[a-c]*+c", b"abc", None);
    check("(?>a|ab)c", b"abc", None);
    check("(?>[a-c]+)d", b"abcd", Some((0, 4)));
}

#[test]
fn flags_hold_until_their_group_ends() {
    check("(?i)aB", b"Ab", Some((0, 2)));
    check("(a(?i)b|c)d", b"Cd", Some((0, 2)));
    check("(a(?i)b|c)d", b"CD", None);
    check("(?i:a)b", b"AB", None);
    check("(?i:a(?-i)b)", b"Ab", Some((0, 2)));
    check("(?-s)a.", b"a\n", None);
    check("(?-m)^b", b"a\nb", None);
}

#[test]
fn look_around_and_references_run_on_the_bounded_engine() {
    for (pattern, value, expected) in [
        (r"<\?(?!xml)", &b"<?xml <?php"[..], Some((6, 8))),
        (r"(?<=a)b", b"bab", Some((2, 3))),
        (r"(?<!\x{e9})b", b"\xe9bb", Some((2, 3))),
        (r#"(['"]).*?\1"#, b"a'b\"'c", Some((1, 5))),
        (r"(?i)(ab)\1", b"aBAb", Some((0, 4))),
        (r"(?<q>x)y\k<q>", b"xyx", Some((0, 3))),
        (r"(?P<q>x)y(?P=q)", b"xyx", Some((0, 3))),
        (r"(a)\g{-1}", b"aa", Some((0, 2))),
    ] {
        let compiled = Pattern::compile(pattern, Flags::MODSECURITY).unwrap();
        assert!(compiled.is_fallback(), "{pattern}");
        check(pattern, value, expected);
    }
}

#[test]
fn backtracking_beyond_the_limit_is_an_error_not_an_answer() {
    let compiled = Pattern::compile(r"^(?:(a|b|ab)(a|b|ab))+\1!", Flags::MODSECURITY).unwrap();
    assert!(compiled.is_match(format!("{}c!", "ab".repeat(40)).as_bytes()).is_err());
}

#[test]
fn bounded_engine_searches_a_large_value_within_its_limit() {
    let compiled = Pattern::compile(r"<\?(?!xml)", Flags::MODSECURITY).unwrap();
    let mut value = b"lorem <ipsum> ".repeat(100_000);
    assert_eq!(compiled.is_match(&value), Ok(false));
    value.extend_from_slice(b"<?php");
    assert_eq!(compiled.is_match(&value), Ok(true));
}

#[test]
fn what_has_no_bounded_meaning_is_refused_with_its_place() {
    for pattern in [
        "(",
        ")",
        "a)",
        "[a",
        "*",
        "a**b)",
        r"\",
        r"\x{100}",
        "(?R)",
        "(?1)",
        r"\K",
        r"\pL",
        r"\X",
        "(*ACCEPT)",
        "(?(1)a|b)",
        "(?|a|b)",
        r"(a)\2",
        r"\k<n>",
        "a{70000}",
        "a{2,1}",
        "[z-a]",
        "[[:foo:]]",
        r"\u0041",
        "(?:.{1,1000}){1,1000}",
    ] {
        let error = Pattern::compile(pattern, Flags::MODSECURITY).err();
        assert!(error.is_some_and(|error| error.offset <= pattern.len()), "{pattern} compiles");
    }
    let deep = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Pattern::compile(&deep, Flags::MODSECURITY).is_err());
}

#[test]
fn captures_have_the_place_of_each_group() {
    let compiled = Pattern::compile("(a)(x)?(b*)", Flags::MODSECURITY).unwrap();
    let mut captures = Captures::default();
    assert_eq!(compiled.captures_at(b"-abb", 0, &mut captures), Ok(true));
    assert_eq!(captures.len, 4);
    assert_eq!(captures.groups[..4], [Some((1, 4)), Some((1, 2)), None, Some((2, 4))]);
    let many = Pattern::compile(&"(a)".repeat(20), Flags::MODSECURITY).unwrap();
    assert_eq!(many.captures_at(&[b'a'; 20], 0, &mut captures), Ok(true));
    assert_eq!((captures.len, captures.groups[0], captures.groups[9]), (10, Some((0, 20)), Some((8, 9))));
}

#[test]
fn requirements_name_what_must_occur() {
    let required =
        |pattern: &str| Pattern::compile(pattern, Flags::MODSECURITY).unwrap().requirements()[0].clone();
    let literals = |pattern: &str| required(pattern).any_of;
    assert_eq!(literals("(?i)union.*?select"), Some(vec![b"select".to_vec()]));
    assert_eq!(literals("(?i)On(?:C|L)x+"), Some(vec![b"oncx".to_vec(), b"onlx".to_vec()]));
    assert_eq!(literals("(?:ab|<.*[^c]+)x+"), Some(vec![b"<".to_vec(), b"ab".to_vec()]));
    assert_eq!(literals("(?:foo)?"), None);
    assert_eq!(literals(r"\w+|foo"), None);
    assert_eq!(required("a{3,}b").min_len, 4);
    assert_eq!(required("(?:a|bc)+").min_len, 1);
}

fn rules(dirs: &[std::path::PathBuf]) -> Vec<(String, String)> {
    let loaded = load_dirs(dirs, &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults:?}"));
    let mut patterns = Vec::new();
    for item in &loaded.rules.items {
        let ir::Item::Rule(rule) = item else { continue };
        for link in &rule.links {
            let Some(ir::Test::Rx(text) | ir::Test::RxGlobal(text)) = link.operator.as_ref().map(|o| &o.test)
            else {
                continue;
            };
            if let [ir::MacroPart::Text(text)] = text.0.as_slice() {
                patterns.push((rule.id.to_string(), text.to_string()));
            }
        }
    }
    patterns
}

#[test]
fn every_pattern_of_the_core_rule_sets_compiles() {
    let Some(current) = suite::folder("conformance/crs") else { return };
    let mut dirs = vec![(current, 0)];
    let debian = std::path::PathBuf::from("/usr/share/modsecurity-crs");
    if debian.join("rules").exists() {
        dirs.push((debian, 12));
    } else {
        println!("skipped: modsecurity-crs 3.3 is not installed");
    }
    for (dir, fallbacks_max) in dirs {
        let patterns = rules(std::slice::from_ref(&dir));
        let (mut fallbacks, mut bytes, mut unknown) = (Vec::new(), 0, Vec::new());
        for (id, pattern) in &patterns {
            let compiled = Pattern::compile(pattern, Flags::MODSECURITY)
                .unwrap_or_else(|e| panic!("{id}: {e}\n{pattern}"));
            if compiled.is_fallback() {
                fallbacks.push(id.as_str());
            }
            if compiled.requirements()[0].any_of.is_none() {
                unknown.push(id.as_str());
            }
            bytes += compiled.memory_bytes();
        }
        println!("{}: {} patterns, {bytes} bytes, fallbacks {fallbacks:?}", dir.display(), patterns.len());
        println!("without literals: {unknown:?}");
        assert!(patterns.len() > 150);
        assert!(fallbacks.len() <= fallbacks_max, "{fallbacks:?}");
    }
}

fn pattern_text() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "a", "b", "ab", "A", ".", "\\s", "\\w", "\\d", "[ab]", "[^a]", "[a-c1]", "^", "$", "\\b", "\\B",
        "\\n", "\\x61", "(?i)", "1", "<", "\\R", "\\Z",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            4 => proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
            1 => inner.clone().prop_map(|a| format!("({a})")),
            2 => (inner.clone(), proptest::sample::select(vec!["*", "+", "?", "{2}", "{1,3}", "*?", "+?"]))
                .prop_map(|(a, times)| format!("(?:{a}){times}")),
            1 => inner.clone().prop_map(|a| format!("(?:{a}x|y)")),
            1 => inner.prop_map(|a| format!("(?={a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_prefilter_hides_a_match(
        pattern in pattern_text(),
        value in proptest::collection::vec(proptest::sample::select(b"aabBc1 \n<xy".to_vec()), 0..12)
    ) {
        if let Ok(compiled) = Pattern::compile(&pattern, Flags::MODSECURITY)
            && let Ok(Some((start, end))) = compiled.find(&value)
        {
            prop_assert!(start <= end && end <= value.len());
            check_requirement(&compiled, &pattern, &value);
            let mut captures = Captures::default();
            prop_assert_eq!(compiled.captures_at(&value, 0, &mut captures), Ok(true));
            prop_assert_eq!(captures.groups[0], Some((start, end)));
        }
    }

    #[test]
    fn any_text_compiles_or_is_refused(pattern in "[(?<>!=:|)\\[\\]^$.*+{},0-9a-zQE\\\\#-]{0,24}", value in ".{0,16}") {
        if let Ok(compiled) = Pattern::compile(&pattern, Flags::MODSECURITY) {
            let _ = compiled.find(value.as_bytes());
        }
    }
}
