//! PCRE patterns on bytes.
//!
//! text -> `parse` (PCRE's dialect, a tree of byte sets) -> `linear` (regex-automata, time linear in the value) or,
//! for look-around, references and atomic groups that make a difference, `fallback` (fancy-regex, bounded steps).
//! `requirement` tells what every matching value must have, for prefilters.
//!
//! The meaning is that of PCRE2 without UTF: a pattern is bytes, `\w`, `\s` and case are ASCII, `$` matches before a
//! line feed at the end, and with `(?m)` `^` does not match after it. The last two are the places where the linear
//! engine differs; only values that end in a line feed are affected, and for them the backtracking engine confirms.
//!
//! INVARIANT: matching ends: linear time, or at the step limit with [`LimitExceeded`], never with a wrong answer.

use std::sync::{Arc, OnceLock};

use fancy_regex::{BytesMode, RegexBuilder, RegexInput};
use regex_automata::Input;
use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;
use regex_syntax::hir::Hir;

mod ast;
mod byte_set;
mod class;
mod fallback;
mod linear;
mod parse;
mod requirement;
mod simple;

pub(crate) use requirement::chance;
pub use requirement::{ABSENT, KINDS, Requirement, Requirements};

/// How a pattern is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `(?i)`, ASCII only.
    pub case_insensitive: bool,
    /// `(?s)`
    pub dot_all: bool,
    /// `(?m)`
    pub multi_line: bool,
}

impl Flags {
    /// What ModSecurity v3 compiles `@rx` with.
    pub const MODSECURITY: Self = Self { case_insensitive: false, dot_all: true, multi_line: true };
    /// The same without case: what it compiles selectors with.
    pub const MODSECURITY_CASELESS: Self = Self { case_insensitive: true, ..Self::MODSECURITY };
}

/// Why a pattern does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {offset} of the pattern)")]
pub struct PatternError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes from the start of the pattern.
    pub offset: usize,
}

/// The backtracking limit was reached: whether the pattern matches is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pattern reached its backtracking limit")]
pub struct LimitExceeded;

/// Most groups that are captured, the whole match included: `TX:0` to `TX:9`.
pub const GROUPS_MAX: usize = 10;

/// Groups of a match: the first is the whole match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Captures {
    /// Start and end; `None` where the group took no part. The first is always set after a match.
    pub groups: [Option<(usize, usize)>; GROUPS_MAX],
    /// Groups that the pattern has, the whole match included, at most [`GROUPS_MAX`].
    pub len: usize,
}

/// A compiled pattern. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pattern(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    /// `None`: only the backtracking engine can follow the pattern.
    linear: Option<(meta::Regex, linear::TailDoubts)>,
    /// For a pattern without a linear form: one that matches wherever it does. It tells in linear time that there is
    /// no match, and from where on to look.
    superset: Option<meta::Regex>,
    /// The pattern in the backtracking engine's syntax, compiled for each limit when it is first needed.
    fallback_text: String,
    fallback: [OnceLock<Option<fancy_regex::Regex>>; BACKTRACKS.len()],
    /// It has a repetition without an end.
    unbounded: bool,
    groups: usize,
    requirements: Requirements,
    simple: Option<simple::Simple>,
}

/// Most bytes that the compiled form of one pattern may take: a pattern like `(?:.{1,1000}){1000}` is refused.
const COMPILED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Steps back that the backtracking engine may take for one value; some ten million take a second. It takes up to two
/// for each place where a match could start: the first limit that allows four is tried, then the last.
const BACKTRACKS: [usize; 13] = {
    let k = 1024;
    let last = 3_000_000;
    [k, 2 * k, 4 * k, 8 * k, 16 * k, 32 * k, 64 * k, 128 * k, 256 * k, 512 * k, 1024 * k, 2048 * k, last]
};
/// What a byte stands for when the limit is chosen from the length of the value.
const BACKTRACKS_PER_BYTE: usize = 4;
/// Steps that all values of a request may take together.
const BACKTRACKS_PER_REQUEST: u64 = 60_000_000;
/// A repetition without an end may read the rest of the value from every place where a match could start, which takes no step
/// back: so many bytes read count as a step.
const BYTES_READ_PER_STEP: usize = 4096;

/// Steps back that are left to the patterns of one request. Each search takes the whole of its limit: how many steps it
/// did need is not known. After a search without an answer none are left: the request has failed.
#[derive(Debug, Clone, Copy)]
pub struct Steps(u64);

impl Default for Steps {
    fn default() -> Self {
        Self(BACKTRACKS_PER_REQUEST)
    }
}

impl Steps {
    fn take(&mut self, steps: usize) -> Result<(), LimitExceeded> {
        match self.0.checked_sub(u64::try_from(steps).unwrap_or(u64::MAX)) {
            Some(left) => self.0 = left,
            None => return Err(self.give_up()),
        }
        Ok(())
    }

    fn give_up(&mut self) -> LimitExceeded {
        self.0 = 0;
        LimitExceeded
    }
}

impl Pattern {
    /// Compiles a pattern; its text is taken as bytes.
    pub fn compile(pcre: &str, flags: Flags) -> Result<Self, PatternError> {
        let parsed = parse::parse(pcre.as_bytes(), flags)?;
        let too_large = |text: String| PatternError { message: text, offset: 0 };
        let linear = match linear::translate(&parsed.node) {
            Some((hir, doubts)) => {
                let regex =
                    linear_regex(&hir).map_err(|error| too_large(format!("does not compile: {error}")))?;
                Some((regex, doubts))
            }
            None => None,
        };
        let superset = if linear.is_none() { linear::superset(&parsed.node) } else { None };
        let linear_suffices =
            linear.as_ref().is_some_and(|(_, doubts)| *doubts == linear::TailDoubts::default());
        let compiled = Compiled {
            fallback_text: if linear_suffices { String::new() } else { fallback::translate(&parsed.node) },
            fallback: Default::default(),
            groups: (parsed.groups as usize + 1).min(GROUPS_MAX),
            unbounded: parsed.node.is_unbounded(),
            requirements: requirement::of_kinds(&parsed.node),
            simple: simple::of(&parsed.node),
            superset: superset.and_then(|hir| linear_regex(&hir).ok()),
            linear,
        };
        if compiled.linear.is_none() {
            let [least, ..] = BACKTRACKS;
            let regex = compiled
                .build_fallback(least)
                .map_err(|error| too_large(format!("does not compile: {error}")))?;
            // A new cell is empty, so this cannot fail.
            let [first, ..] = &compiled.fallback;
            let _ = first.set(Some(regex));
        }
        Ok(Self(Arc::new(compiled)))
    }

    /// Whether it matches anywhere.
    pub fn is_match(&self, haystack: &[u8]) -> Result<bool, LimitExceeded> {
        if let Some(found) = self.0.simple.as_ref().and_then(|simple| simple.find(haystack)) {
            return Ok(found.is_some());
        }
        match &self.0.linear {
            Some((regex, doubts)) if !doubts.apply_to(haystack) => Ok(regex.is_match(haystack)),
            _ => self.find_at(haystack, 0).map(|found| found.is_some()),
        }
    }

    /// The leftmost match.
    pub fn find(&self, haystack: &[u8]) -> Result<Option<(usize, usize)>, LimitExceeded> {
        self.find_at(haystack, 0)
    }

    /// The leftmost match that starts at or after `start`; what is before it still counts for `^` and `\b`.
    pub fn find_at(&self, haystack: &[u8], start: usize) -> Result<Option<(usize, usize)>, LimitExceeded> {
        self.find_within(haystack, start, &mut Steps::default())
    }

    /// As [`Pattern::find_at`], with the steps that are left to a request.
    pub fn find_within(
        &self,
        haystack: &[u8],
        start: usize,
        steps: &mut Steps,
    ) -> Result<Option<(usize, usize)>, LimitExceeded> {
        if start > haystack.len() {
            return Ok(None);
        }
        if start == 0
            && let Some(found) = self.0.simple.as_ref().and_then(|simple| simple.find(haystack))
        {
            return Ok(found);
        }
        if let Some((regex, doubts)) = &self.0.linear {
            let doubtful = doubts.apply_to(haystack);
            if !(doubtful && doubts.final_line) {
                let found =
                    regex.find(Input::new(haystack).range(start..)).map(|found| (found.start(), found.end()));
                if !doubtful || found.is_none_or(|(_, end)| end < haystack.len()) {
                    return Ok(found);
                }
            }
        }
        let mut captures = Captures::default();
        let found = self.0.backtrack(haystack, start, &mut captures, steps)?;
        Ok(captures.groups.first().copied().flatten().filter(|_| found))
    }

    /// As [`Pattern::find_at`], with groups.
    pub fn captures_at(
        &self,
        haystack: &[u8],
        start: usize,
        captures: &mut Captures,
    ) -> Result<bool, LimitExceeded> {
        self.captures_within(haystack, start, captures, &mut Steps::default())
    }

    /// As [`Pattern::captures_at`], with the steps that are left to a request.
    pub fn captures_within(
        &self,
        haystack: &[u8],
        start: usize,
        captures: &mut Captures,
        steps: &mut Steps,
    ) -> Result<bool, LimitExceeded> {
        *captures = Captures { len: self.0.groups, ..Captures::default() };
        if start > haystack.len() {
            return Ok(false);
        }
        if start == 0
            && let Some(found) = self.0.simple.as_ref().and_then(|simple| simple.find(haystack))
        {
            captures.groups[0] = found;
            return Ok(found.is_some());
        }
        let Some((regex, doubts)) = &self.0.linear else {
            return self.0.backtrack(haystack, start, captures, steps);
        };
        let doubtful = doubts.apply_to(haystack);
        if doubtful && doubts.final_line {
            return self.0.backtrack(haystack, start, captures, steps);
        }
        let mut slots: [Option<NonMaxUsize>; GROUPS_MAX * 2] = [None; GROUPS_MAX * 2];
        let wanted = slots.get_mut(..self.0.groups * 2).unwrap_or_default();
        if regex.search_slots(&Input::new(haystack).range(start..), wanted).is_none() {
            return Ok(false);
        }
        let (pairs, _) = slots.as_chunks::<2>();
        for (group, &[from, to]) in captures.groups.iter_mut().zip(pairs) {
            *group = from.zip(to).map(|(from, to)| (from.get(), to.get()));
        }
        if doubtful
            && captures.groups.first().copied().flatten().is_some_and(|(_, end)| end == haystack.len())
        {
            return self.0.backtrack(haystack, start, captures, steps);
        }
        Ok(true)
    }

    /// Whether it always runs on the backtracking engine.
    pub fn is_fallback(&self) -> bool {
        self.0.linear.is_none()
    }

    /// What every matching value of each kind must have, for prefilters.
    pub fn requirements(&self) -> &Requirements {
        &self.0.requirements
    }

    /// Groups that the pattern has, the whole match included, at most [`GROUPS_MAX`].
    pub fn group_count(&self) -> usize {
        self.0.groups
    }

    /// Bytes that the compiled form takes, without caches.
    pub fn memory_bytes(&self) -> usize {
        self.0.linear.as_ref().map_or(0, |(regex, _)| regex.memory_usage()) + self.0.fallback_text.len()
    }
}

fn linear_regex(hir: &Hir) -> Result<meta::Regex, PatternError> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(COMPILED_BYTES_MAX))
        .hybrid_cache_capacity(1024 * 1024);
    let built = meta::Builder::new().configure(config).build_from_hir(hir);
    built.map_err(|error| PatternError { message: format!("does not compile: {error}"), offset: 0 })
}

impl linear::TailDoubts {
    fn apply_to(self, haystack: &[u8]) -> bool {
        (self.line_start || self.final_line) && haystack.last() == Some(&b'\n')
    }
}

impl Compiled {
    fn build_fallback(&self, backtracks: usize) -> Result<fancy_regex::Regex, fancy_regex::Error> {
        RegexBuilder::new(&self.fallback_text)
            .bytes_mode(BytesMode::Ascii)
            .backtrack_limit(backtracks)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .max_prog_size(200_000)
            .build()
    }

    /// Searches with the backtracking engine: with the least limit that should do, then with the greatest.
    fn backtrack(
        &self,
        haystack: &[u8],
        start: usize,
        captures: &mut Captures,
        steps: &mut Steps,
    ) -> Result<bool, LimitExceeded> {
        *captures = Captures { len: self.groups, ..Captures::default() };
        let start = match &self.superset {
            Some(superset) => match superset.find(Input::new(haystack).range(start..)) {
                Some(found) => found.start(),
                None => return Ok(false),
            },
            None => start,
        };
        let rest = haystack.len().saturating_sub(start);
        if self.unbounded {
            steps.take(rest.saturating_mul(rest) / BYTES_READ_PER_STEP)?;
        }
        let likely = rest.saturating_mul(BACKTRACKS_PER_BYTE);
        let last = BACKTRACKS.len() - 1;
        let first = BACKTRACKS.iter().position(|limit| likely <= *limit).unwrap_or(last);
        let mut found = self.backtrack_up_to(first, haystack, start, captures, steps);
        if found.is_err() && first < last {
            found = self.backtrack_up_to(last, haystack, start, captures, steps);
        }
        found.map_err(|LimitExceeded| steps.give_up())
    }

    fn backtrack_up_to(
        &self,
        limit: usize,
        haystack: &[u8],
        start: usize,
        captures: &mut Captures,
        steps: &mut Steps,
    ) -> Result<bool, LimitExceeded> {
        let (Some(cell), Some(&backtracks)) = (self.fallback.get(limit), BACKTRACKS.get(limit)) else {
            return Err(LimitExceeded);
        };
        steps.take(backtracks)?;
        let regex =
            cell.get_or_init(|| self.build_fallback(backtracks).ok()).as_ref().ok_or(LimitExceeded)?;
        let input = RegexInput::new(haystack).from_pos(start);
        let Some(found) = regex.captures_input(input).map_err(|_| LimitExceeded)? else { return Ok(false) };
        for (number, group) in captures.groups.iter_mut().enumerate().take(self.groups) {
            *group = found.get(number).map(|group| (group.start(), group.end()));
        }
        Ok(true)
    }
}
