//! Operators in the form that runs: patterns deduplicated, constants parsed.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use hashbrown::HashMap;
use phalanx_model::PrefixSet;
use phalanx_policy::seclang::ir;

use super::text::{Names, Text};
use crate::operator::JsonSchema;
use crate::pattern::{ABSENT, Flags, Pattern, Requirement, Requirements};
use crate::transaction::values::{disjoint, presence_of};

/// A distinct pattern or phrase list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PatternId(pub(crate) u32);

/// What a pattern id stands for.
#[derive(Debug)]
pub(crate) enum Matcher {
    Rx(Pattern),
    Phrases(AhoCorasick),
    Sqli,
    Xss,
    /// Matches a value with a byte that is not in the set.
    ByteRange([u64; 4]),
    UrlEncoding,
    Utf8,
}

impl Matcher {
    /// Bytes that the compiled form takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Rx(pattern) => pattern.memory_bytes(),
            Self::Phrases(automaton) => automaton.memory_usage(),
            Self::Sqli | Self::Xss | Self::ByteRange(_) | Self::UrlEncoding | Self::Utf8 => 0,
        }
    }
}

/// An operator.
#[derive(Debug)]
pub(crate) enum Test {
    Always,
    Never,
    Text(TextTest, Text),
    Number(Compare, Text),
    IpMatch(PrefixSet),
    /// `@rx`, `@pm` and all others that need certain bytes in a value.
    Pattern(PatternId),
    /// `@rxGlobal`: every occurrence is captured.
    PatternGlobal(PatternId),
    /// `@rx` with macros.
    PatternText(Text),
    Verify(Verify, Pattern),
    Schema(JsonSchema),
}

/// Comparisons of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    BeginsWith,
    Contains,
    ContainsWord,
    EndsWith,
    Equal,
    Within,
}

/// Comparisons of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ge,
    Gt,
    Le,
    Lt,
}

impl Compare {
    /// Whether `left` stands so to `right`.
    #[inline]
    pub(crate) fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Ge => left >= right,
            Self::Gt => left > right,
            Self::Le => left <= right,
            Self::Lt => left < right,
        }
    }
}

/// Numbers with check digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    CreditCard,
    Cpf,
    Ssn,
    Svnr,
}

/// All patterns of a program, with what each needs.
#[derive(Debug, Default)]
pub(crate) struct Matchers {
    pub(crate) list: Vec<Matcher>,
    pub(crate) needs: Vec<Requirements>,
    by_regex: HashMap<String, PatternId>,
    by_phrases: HashMap<Vec<Vec<u8>>, PatternId>,
}

impl Matchers {
    /// Compiles an operator's test; the error is for the rule's author.
    pub(crate) fn test(&mut self, test: &ir::Test, names: &mut Names) -> Result<Test, String> {
        use ir::Test as T;
        Ok(match test {
            T::BeginsWith(text) => Test::Text(TextTest::BeginsWith, names.text(text)),
            T::Contains(text) | T::Strmatch(text) => Test::Text(TextTest::Contains, names.text(text)),
            T::ContainsWord(text) => Test::Text(TextTest::ContainsWord, names.text(text)),
            T::EndsWith(text) => Test::Text(TextTest::EndsWith, names.text(text)),
            T::Streq(text) => Test::Text(TextTest::Equal, names.text(text)),
            T::Within(text) => Test::Text(TextTest::Within, names.text(text)),
            T::Eq(text) => Test::Number(Compare::Eq, names.text(text)),
            T::Ge(text) => Test::Number(Compare::Ge, names.text(text)),
            T::Gt(text) => Test::Number(Compare::Gt, names.text(text)),
            T::Le(text) => Test::Number(Compare::Le, names.text(text)),
            T::Lt(text) => Test::Number(Compare::Lt, names.text(text)),
            T::DetectSqli => Test::Pattern(self.push(Matcher::Sqli, needs_bytes(not(WORD_BYTES)))),
            T::DetectXss => Test::Pattern(self.push(Matcher::Xss, needs_bytes(presence_of(b"<=")))),
            T::IpMatch(prefixes) => Test::IpMatch(prefixes.iter().copied().collect()),
            T::Pm(phrases) => Test::Pattern(self.phrases(phrases)?),
            T::Rx(text) => match constant(text) {
                Some(regex) => Test::Pattern(self.regex(&regex)?),
                None => Test::PatternText(names.text(text)),
            },
            T::RxGlobal(text) => match constant(text) {
                Some(regex) => Test::PatternGlobal(self.regex(&regex)?),
                None => Test::PatternText(names.text(text)),
            },
            T::NoMatch => Test::Never,
            T::UnconditionalMatch => Test::Always,
            T::ValidateByteRange(allowed) => {
                Test::Pattern(self.push(Matcher::ByteRange(*allowed), needs_bytes(not(*allowed))))
            }
            T::ValidateUrlEncoding => {
                Test::Pattern(self.push(Matcher::UrlEncoding, needs_bytes(presence_of(b"%"))))
            }
            T::ValidateUtf8Encoding => Test::Pattern(self.push(Matcher::Utf8, needs_bytes(NOT_ASCII))),
            T::ValidateSchema(text) => Test::Schema(JsonSchema::compile(text)?),
            T::VerifyCc(regex) => Test::Verify(Verify::CreditCard, pattern(regex)?),
            T::VerifyCpf(regex) => Test::Verify(Verify::Cpf, pattern(regex)?),
            T::VerifySsn(regex) => Test::Verify(Verify::Ssn, pattern(regex)?),
            T::VerifySvnr(regex) => Test::Verify(Verify::Svnr, pattern(regex)?),
        })
    }

    fn regex(&mut self, regex: &str) -> Result<PatternId, String> {
        if let Some(&id) = self.by_regex.get(regex) {
            return Ok(id);
        }
        let pattern = pattern(regex)?;
        let needs = pattern.requirements().clone();
        let id = self.push(Matcher::Rx(pattern), needs);
        self.by_regex.insert(regex.to_owned(), id);
        Ok(id)
    }

    fn phrases(&mut self, phrases: &[Vec<u8>]) -> Result<PatternId, String> {
        if let Some(&id) = self.by_phrases.get(phrases) {
            return Ok(id);
        }
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::ContiguousNFA));
        let automaton = builder.build(phrases).map_err(|error| error.to_string())?;
        let needs = ABSENT.map(|absent| {
            let possible = phrases.iter().filter(|phrase| !phrase.iter().any(|byte| absent.contains(byte)));
            let texts: Vec<_> = possible.map(|phrase| phrase.to_ascii_lowercase()).collect();
            Requirement {
                min_len: texts.iter().map(Vec::len).min().unwrap_or(0),
                impossible: texts.is_empty(),
                any_of: Some(texts),
                byte_sets: Vec::new(),
            }
        });
        let id = self.push(Matcher::Phrases(automaton), needs);
        self.by_phrases.insert(phrases.to_vec(), id);
        Ok(id)
    }

    fn push(&mut self, matcher: Matcher, needs: Requirements) -> PatternId {
        let id = PatternId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(matcher);
        self.needs.push(needs);
        id
    }
}

fn pattern(regex: &str) -> Result<Pattern, String> {
    Pattern::compile(regex, Flags::MODSECURITY)
        .map_err(|error| format!("the pattern does not compile: {error}"))
}

/// What a test needs that only matches values with one of these bytes.
fn needs_bytes(bytes: [u64; 4]) -> Requirements {
    ABSENT.map(|absent| {
        let absent = presence_of(absent);
        let mut left = bytes;
        left.iter_mut().zip(absent).for_each(|(left, absent)| *left &= !absent);
        Requirement {
            min_len: 1,
            impossible: disjoint(&left, &[u64::MAX; 4]),
            byte_sets: vec![left],
            ..Requirement::default()
        }
    })
}

fn not(bytes: [u64; 4]) -> [u64; 4] {
    bytes.map(|word| !word)
}

const NOT_ASCII: [u64; 4] = [0, 0, u64::MAX, u64::MAX];
/// Letters, digits and `_`: without any other byte a value is one word or number, which no SQL injection is.
const WORD_BYTES: [u64; 4] = [0x03ff_0000_0000_0000, 0x07ff_fffe_87ff_fffe, 0, 0];

/// The text of a macro that has no variables.
fn constant(text: &ir::Macro) -> Option<String> {
    text.0
        .iter()
        .map(|part| match part {
            ir::MacroPart::Text(text) => Some(text.as_ref()),
            ir::MacroPart::Variable(..) => None,
        })
        .collect()
}
