//! `"!@rx pattern"`: what a rule looks for.

use phalanx_model::Prefix;

use super::ir::{Macro, MacroPart, Operator, Test};
use super::macros::{self, Unknown};
use super::report::Report;
use super::source::Source;
use crate::suggest::did_you_mean;

/// What operators need to read other files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) source: Source<'a>,
    /// The file the rule stands in.
    pub(super) from: &'a str,
}

/// Reads an operator with its argument. `@rx` is meant where none is named.
pub(super) fn parse(text: &str, files: Files<'_>, report: &mut Report<'_>) -> Option<Operator> {
    let trimmed = text.trim_start();
    let (negated, rest) = match trimmed.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, trimmed),
    };
    let Some(named) = rest.strip_prefix('@') else {
        let pattern = if negated { rest } else { text };
        return Some(Operator { negated, test: Test::Rx(macros::parse(pattern, Unknown::Text, report)) });
    };
    let (name, argument) = match named.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((name, argument)) => (name, argument),
        None => (named, ""),
    };
    let test = test(&name.to_ascii_lowercase(), name, argument, files, report)?;
    Some(Operator { negated, test })
}

fn test(lower: &str, name: &str, argument: &str, files: Files<'_>, report: &mut Report<'_>) -> Option<Test> {
    if let Some((_, make)) = TEXT_TESTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Some(make(macros::parse(argument.trim_start(), Unknown::Fault, report)));
    }
    if let Some((_, make)) = NUMBER_TESTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return number(name, argument.trim(), report).map(make);
    }
    if let Some((_, make)) = PATTERN_TESTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Some(make(macros::parse(argument.trim_start(), Unknown::Text, report)));
    }
    if let Some((_, make)) = CANDIDATE_TESTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Some(make(argument.trim().to_owned()));
    }
    if let Some((_, test)) = PLAIN_TESTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        if !argument.trim().is_empty() {
            report.warning(format!("`@{name}` takes no argument; `{}` has no effect", argument.trim()));
        }
        return Some(test.clone());
    }
    match lower {
        "pm" => phrases(argument, report).map(Test::Pm),
        "pmfromfile" | "pmf" => phrases_from_files(name, argument, files, report).map(Test::Pm),
        "ipmatch" => prefixes(argument.split(','), report).map(Test::IpMatch),
        "ipmatchfromfile" | "ipmatchf" => {
            prefixes_from_files(name, argument, files, report).map(Test::IpMatch)
        }
        "validatebyterange" => byte_ranges(argument, report).map(Test::ValidateByteRange),
        "validateschema" => schema(argument.trim(), files, report).map(Test::ValidateSchema),
        _ if let Some((known, why)) = NEVER.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) => {
            report.warning(format!("`@{known}` never matches: {why}"));
            Some(Test::NoMatch)
        }
        _ => {
            unknown(lower, name, report);
            None
        }
    }
}

fn unknown(lower: &str, name: &str, report: &mut Report<'_>) {
    if let Some((_, why)) = REFUSED.iter().find(|(known, _)| known.eq_ignore_ascii_case(lower)) {
        report.error(format!("the operator `@{name}` is not supported: {why}"));
        return;
    }
    report.error_help(format!("unknown operator `@{name}`"), did_you_mean(name, names()));
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let texts = TEXT_TESTS.iter().map(|(name, _)| *name);
    let numbers = NUMBER_TESTS.iter().map(|(name, _)| *name);
    let patterns = PATTERN_TESTS.iter().map(|(name, _)| *name);
    let candidates = CANDIDATE_TESTS.iter().map(|(name, _)| *name);
    let plain = PLAIN_TESTS.iter().map(|(name, _)| *name);
    let others = [
        "pm",
        "pmFromFile",
        "pmf",
        "ipMatch",
        "ipMatchFromFile",
        "ipMatchF",
        "validateByteRange",
        "validateSchema",
    ];
    let never = NEVER.iter().map(|(name, _)| *name);
    let others = others.into_iter().chain(never);
    texts.chain(numbers).chain(patterns).chain(candidates).chain(plain).chain(others)
}

fn number(name: &str, argument: &str, report: &mut Report<'_>) -> Option<Macro> {
    let parsed = macros::parse(argument, Unknown::Fault, report);
    if let Some(constant) = parsed.as_constant()
        && constant.trim().parse::<i64>().is_err()
    {
        report.error(format!("`@{name}` compares numbers, and `{constant}` is none"));
        return None;
    }
    Some(parsed)
}

/// `@pm` separates phrases by white space; `|41 42|` within a phrase are bytes in hexadecimal.
fn phrases(argument: &str, report: &mut Report<'_>) -> Option<Vec<Vec<u8>>> {
    let mut phrases = vec![Vec::new()];
    let mut inside = false;
    for piece in argument.split('|') {
        if inside {
            for pair in piece.split_ascii_whitespace() {
                let Ok(byte) = u8::from_str_radix(pair, 16) else {
                    report.error(format!("`|{piece}|` in `@pm` is not a run of hexadecimal bytes"));
                    return None;
                };
                if let Some(last) = phrases.last_mut() {
                    last.push(byte);
                }
            }
        } else {
            push_words(piece, &mut phrases);
        }
        inside = !inside;
    }
    if !inside {
        report.error("`@pm` has an odd number of `|`");
        return None;
    }
    phrases.retain(|phrase| !phrase.is_empty());
    if phrases.is_empty() {
        report.error("`@pm` has no phrase to look for");
        return None;
    }
    Some(phrases)
}

/// Adds text to the last phrase; white space begins a new one.
fn push_words(piece: &str, phrases: &mut Vec<Vec<u8>>) {
    for (index, word) in piece.split(|c: char| c.is_ascii_whitespace()).enumerate() {
        if index > 0 {
            phrases.push(Vec::new());
        }
        if let Some(last) = phrases.last_mut() {
            last.extend_from_slice(word.as_bytes());
        }
    }
}

fn phrases_from_files(
    name: &str,
    argument: &str,
    files: Files<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Vec<u8>>> {
    let mut phrases = Vec::new();
    for bytes in read_all(name, argument, files, report)? {
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        phrases.extend(lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec));
    }
    if phrases.is_empty() {
        report.error(format!("`@{name} {argument}` holds no phrase to look for"));
        return None;
    }
    Some(phrases)
}

fn prefixes_from_files(
    name: &str,
    argument: &str,
    files: Files<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Prefix>> {
    let mut found = Vec::new();
    for bytes in read_all(name, argument, files, report)? {
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        found.extend(prefixes(lines.filter(|line| !line.trim().is_empty()), report)?);
    }
    Some(found)
}

fn read_all(name: &str, argument: &str, files: Files<'_>, report: &mut Report<'_>) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for reference in argument.split_ascii_whitespace() {
        if reference.starts_with("http://") || reference.starts_with("https://") {
            report
                .error(format!("`@{name}` reads files, not URLs: download `{reference}` and name the file"));
            return None;
        }
        match files.source.read(&files.source.resolve(files.from, reference)) {
            Ok(bytes) => all.push(bytes),
            Err(message) => {
                report.error(message);
                return None;
            }
        }
    }
    if all.is_empty() {
        report.error(format!("`@{name}` needs the name of a file"));
        return None;
    }
    Some(all)
}

/// The text of a JSON Schema. Compiling it is the engine's task.
fn schema(argument: &str, files: Files<'_>, report: &mut Report<'_>) -> Option<String> {
    if !argument.to_ascii_lowercase().ends_with(".json") {
        report.error_help(
            format!("`@validateSchema {argument}` names no JSON Schema, a file that ends in `.json`"),
            Some("XML is not validated: the engine has no reader of XML Schema, and would have to fetch what it refers to".into()),
        );
        return None;
    }
    let bytes = read_all("validateSchema", argument, files, report)?;
    match String::from_utf8(bytes.concat()) {
        Ok(text) => Some(text),
        Err(_) => {
            report.error(format!("`{argument}` is not UTF-8"));
            None
        }
    }
}

fn prefixes<'t>(texts: impl Iterator<Item = &'t str>, report: &mut Report<'_>) -> Option<Vec<Prefix>> {
    let mut found = Vec::new();
    for text in texts {
        match crate::prefix::parse(text) {
            Some(prefix) => found.push(prefix),
            None => {
                report.error(format!("`{}` is no IP address or range", text.trim()));
                return None;
            }
        }
    }
    Some(found)
}

fn byte_ranges(argument: &str, report: &mut Report<'_>) -> Option<[u64; 4]> {
    let mut allowed = [0u64; 4];
    for range in argument.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (Ok(from), Ok(to)) = (from.trim().parse::<u8>(), to.trim().parse::<u8>()) else {
            report.error(format!("`{range}` is no byte range; write numbers from 0 to 255, as in `32-126`"));
            return None;
        };
        for byte in from..=to {
            if let Some(word) = allowed.get_mut(usize::from(byte >> 6)) {
                *word |= 1 << (byte & 63);
            }
        }
    }
    if allowed == [0; 4] {
        report.error("`@validateByteRange` allows no byte at all");
        return None;
    }
    Some(allowed)
}

impl Operator {
    /// The pattern of a `@rx` without macros.
    pub fn constant_pattern(&self) -> Option<&str> {
        match &self.test {
            Test::Rx(pattern) | Test::RxGlobal(pattern) => pattern.as_constant(),
            _ => None,
        }
    }
}

impl Macro {
    /// Whether any part has to be filled in per request.
    pub fn has_variables(&self) -> bool {
        self.0.iter().any(|part| matches!(part, MacroPart::Variable(..)))
    }
}

type FromMacro = fn(Macro) -> Test;

const TEXT_TESTS: &[(&str, FromMacro)] = &[
    ("beginsWith", Test::BeginsWith),
    ("contains", Test::Contains),
    ("containsWord", Test::ContainsWord),
    ("endsWith", Test::EndsWith),
    ("streq", Test::Streq),
    ("strmatch", Test::Strmatch),
    ("within", Test::Within),
];

const NUMBER_TESTS: &[(&str, FromMacro)] =
    &[("eq", Test::Eq), ("ge", Test::Ge), ("gt", Test::Gt), ("le", Test::Le), ("lt", Test::Lt)];

const PATTERN_TESTS: &[(&str, FromMacro)] = &[("rx", Test::Rx), ("rxGlobal", Test::RxGlobal)];

type FromText = fn(String) -> Test;

const CANDIDATE_TESTS: &[(&str, FromText)] = &[
    ("verifyCC", Test::VerifyCc),
    ("verifyCPF", Test::VerifyCpf),
    ("verifySSN", Test::VerifySsn),
    ("verifySVNR", Test::VerifySvnr),
];

const PLAIN_TESTS: &[(&str, Test)] = &[
    ("detectSQLi", Test::DetectSqli),
    ("detectXSS", Test::DetectXss),
    ("noMatch", Test::NoMatch),
    ("unconditionalMatch", Test::UnconditionalMatch),
    ("validateUrlEncoding", Test::ValidateUrlEncoding),
    ("validateUtf8Encoding", Test::ValidateUtf8Encoding),
];

/// Operators that are read and never match, each with the reason.
pub(super) const NEVER: &[(&str, &str)] = &[
    ("geoLookup", "no location database is loaded"),
    ("rbl", "a request does not wait for DNS here; ban addresses with decisions instead"),
];

/// Operators of the references of ModSecurity and Coraza that this engine refuses, each with the reason.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("fuzzyHash", "there is no ssdeep database"),
    ("gsbLookup", "a request does not wait for a lookup elsewhere"),
    ("inspectFile", "the engine runs no programs and no scripts"),
    ("ipMatchFromDataset", "put the lines into a file and use `@ipMatchFromFile`"),
    ("pmFromDataset", "put the lines into a file and use `@pmFromFile`"),
    ("restpath", "write the path as a pattern, `@rx ^/users/([^/]+)$`"),
    ("rsub", "the engine does not rewrite bodies"),
    ("validateDTD", "XML is not validated against a DTD"),
    ("validateHash", "the engine does not sign links"),
    ("validateNid", "use `@verifySSN`, `@verifyCPF` or `@verifySVNR`"),
];
