//! The transformations against the SecLang language tests, and their own promises on any bytes.

#![cfg(test)]

#[path = "suite/language.rs"]
mod language;
mod suite;

use phalanx_inspect::transform::{self, UnicodeMap};
use phalanx_policy::seclang::ir::Transformation;
use proptest::prelude::*;

const ALL: [(&str, Transformation); 36] = [
    ("base64Decode", Transformation::Base64Decode),
    ("base64DecodeExt", Transformation::Base64DecodeExt),
    ("base64Encode", Transformation::Base64Encode),
    ("cmdLine", Transformation::CmdLine),
    ("compressWhitespace", Transformation::CompressWhitespace),
    ("cssDecode", Transformation::CssDecode),
    ("escapeSeqDecode", Transformation::EscapeSeqDecode),
    ("hexDecode", Transformation::HexDecode),
    ("hexEncode", Transformation::HexEncode),
    ("htmlEntityDecode", Transformation::HtmlEntityDecode),
    ("jsDecode", Transformation::JsDecode),
    ("length", Transformation::Length),
    ("lowercase", Transformation::Lowercase),
    ("md5", Transformation::Md5),
    ("normalisePath", Transformation::NormalisePath),
    ("normalisePathWin", Transformation::NormalisePathWin),
    ("parityEven7bit", Transformation::ParityEven7bit),
    ("parityOdd7bit", Transformation::ParityOdd7bit),
    ("parityZero7bit", Transformation::ParityZero7bit),
    ("phpArgsNames", Transformation::PhpArgsNames),
    ("removeComments", Transformation::RemoveComments),
    ("removeCommentsChar", Transformation::RemoveCommentsChar),
    ("removeNulls", Transformation::RemoveNulls),
    ("removeWhitespace", Transformation::RemoveWhitespace),
    ("replaceComments", Transformation::ReplaceComments),
    ("replaceNulls", Transformation::ReplaceNulls),
    ("sha1", Transformation::Sha1),
    ("sqlHexDecode", Transformation::SqlHexDecode),
    ("trim", Transformation::Trim),
    ("trimLeft", Transformation::TrimLeft),
    ("trimRight", Transformation::TrimRight),
    ("uppercase", Transformation::Uppercase),
    ("urlDecode", Transformation::UrlDecode),
    ("urlDecodeUni", Transformation::UrlDecodeUni),
    ("urlEncode", Transformation::UrlEncode),
    ("utf8toUnicode", Transformation::Utf8ToUnicode),
];

fn run(t: Transformation, input: &[u8]) -> Vec<u8> {
    let mut out = b"left from before".to_vec();
    if transform::apply(t, input, &UnicodeMap::default(), &mut out) { out } else { input.to_vec() }
}

/// The suite's runner keeps texts in C strings, which end at the first NUL.
fn c_string(case: &serde_json::Value, field: &str) -> Vec<u8> {
    let text = case.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
    language::unescaped(text.split('\0').next().unwrap_or_default())
}

#[test]
fn language_tests_of_transformations_pass() {
    let Some(folder) = suite::folder("conformance/transformations") else { return };
    let mut failures = Vec::new();
    let mut passed = 0;
    for (name, t) in ALL {
        for (number, case) in language::cases(&folder, name).into_iter().enumerate() {
            let (input, expected) = (language::bytes(&case, "input"), language::bytes(&case, "output"));
            let output = run(t, &input);
            let as_c_strings = run(t, &c_string(&case, "input")) == c_string(&case, "output");
            if output == expected || as_c_strings {
                passed += 1;
            } else {
                let [i, e, o] = [&input, &expected, &output].map(|bytes| bytes.escape_ascii().to_string());
                failures.push(format!("{name} {number}: {i:?}\n  expected {e:?}\n  got      {o:?}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} failed\n{}",
        failures.len(),
        passed + failures.len(),
        failures.join("\n")
    );
    println!("{passed} cases");
    assert!(passed > 300);
}

#[test]
fn sql_hex_literals_are_decoded_and_other_digits_stay() {
    assert_eq!(
        run(Transformation::SqlHexDecode, b"SELECT 0x41424 FROM 0xg 00x6a1"),
        b"SELECT AB4 FROM 0xg 0j1"
    );
}

#[test]
fn values_that_only_look_like_what_is_decoded_stay_visible() {
    use Transformation as T;
    for (t, input, expected) in [
        (T::Base64Decode, "<script>", "<script>"),
        (T::Base64Decode, "=VGVz", "=VGVz"),
        (T::Base64Decode, "PHNjcmlwdD4!x", "<script>"),
        (T::Base64Decode, "VGVzdENhc2U", "TestCase"),
        (T::HtmlEntityDecode, "&ltscript&gtx&QUOTy&nbspz&lift;&l", "<script>x\"y\u{a0}z&lift;&l"),
        (T::HtmlEntityDecode, "&#0000060;&#x000000000000000000000003c;", "<<"),
        (T::Utf8ToUnicode, "a\0b\0", "ab\0"),
        (T::Utf8ToUnicode, "\0\0", "\0"),
    ] {
        let expected: Vec<u8> = expected.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        assert_eq!(run(t, input.as_bytes()), expected, "{t:?} {input:?}");
    }
}

#[test]
fn unicode_map_decides_before_the_low_byte_does() {
    let map = UnicodeMap::new(&[(0x0107u32, b'c')].into());
    let mut out = Vec::new();
    assert!(transform::apply(Transformation::UrlDecodeUni, b"%u0107%u0108", &map, &mut out));
    assert_eq!(out, b"c\x08");
}

#[test]
fn long_hostile_inputs_take_linear_time() {
    for unit in
        ["/*", "<!--", "-", "&#", "&", "%u", "\\", "\\x", "../", "a/../", "[", "[ ]", "\u{e9}", " ", "0x"]
    {
        let input = unit.repeat(200_000 / unit.len());
        for (_, t) in ALL {
            run(t, input.as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2_000 }))]

    #[test]
    fn any_bytes_give_bounded_output_that_differs_when_it_says_so(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            proptest::collection::vec(proptest::sample::select(b"%uxX0aFf9&#;\\/.*-<!>[] \n\0=+lt\xc2\xa0".to_vec()), 0..64),
        ]
    ) {
        for (name, t) in ALL {
            let mut out = Vec::new();
            let changed = transform::apply(t, &input, &UnicodeMap::default(), &mut out);
            prop_assert_eq!(changed && out == input, false, "{}", name);
            prop_assert!(!changed || out.len() <= input.len() * 6 + 64, "{}", name);
        }
    }
}
