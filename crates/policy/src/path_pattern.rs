//! Regular expressions over paths: read, compiled and measured when a policy is read.
//!
//! INVARIANT: matching takes one look-up in a table for each byte of the path. It neither allocates nor goes back, whatever the
//! expression and the path are, and the table has a limit.

use std::fmt;
use std::sync::Arc;

use phalanx_model::limits::{ROUTE_PATH_BYTES_MAX, ROUTE_PATTERN_TABLE_BYTES_MAX};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Anchored, Input};
use regex_syntax::ParserBuilder;
use serde::{Serialize, Serializer};

/// A regular expression that a path may match, anywhere unless it says `^` or `$`.
#[derive(Clone)]
pub struct PathPattern(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    ignore_case: bool,
    table: dense::DFA<Vec<u32>>,
}

impl PathPattern {
    /// Compiles an expression. It is one over bytes: of letters beyond ASCII each byte counts.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, and one that says what to do.
    pub fn new(text: &str, ignore_case: bool) -> Result<Self, (String, &'static str)> {
        if text.is_empty() || text.len() > ROUTE_PATH_BYTES_MAX {
            let message = format!("a pattern has 1 to {ROUTE_PATH_BYTES_MAX} bytes");
            return Err((message, "write several routes"));
        }
        let parsed = ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .case_insensitive(ignore_case)
            .nest_limit(NESTED_MAX)
            .build()
            .parse(text);
        let expression = parsed.map_err(|error| {
            let fault = match &error {
                regex_syntax::Error::Parse(error) => error.kind().to_string(),
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                _ => "it is no regular expression".to_owned(),
            };
            (format!("`{text}` cannot be a pattern: {fault}"), FORM)
        })?;
        let too_large = |_| (format!("`{text}` is too large as a pattern"), SMALLER);
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(ROUTE_PATTERN_TABLE_BYTES_MAX)),
            )
            .build_from_hir(&expression)
            .map_err(too_large)?;
        let table = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .dfa_size_limit(Some(ROUTE_PATTERN_TABLE_BYTES_MAX))
                    .determinize_size_limit(Some(WORK_BYTES_MAX)),
            )
            .build_from_nfa(&nfa)
            .map_err(|_| (format!("`{text}` is too large as a pattern"), SMALLER))?;
        Ok(Self(Arc::new(Compiled { text: text.into(), ignore_case, table })))
    }

    /// Whether a path matches.
    pub fn is_match(&self, path: &[u8]) -> bool {
        let asked = Input::new(path).anchored(Anchored::No).earliest(true);
        // No byte makes such a table give up: word boundaries are those of ASCII.
        self.0.table.try_search_fwd(&asked).is_ok_and(|found| found.is_some())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// How many bytes its table takes.
    pub fn memory(&self) -> usize {
        self.0.table.memory_usage()
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.text, self.0.ignore_case) == (&other.0.text, other.0.ignore_case)
    }
}

impl Eq for PathPattern {}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathPattern({:?})", self.as_str())
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

const FORM: &str =
    "it is matched in linear time: look-around and back references do not exist, and classes are of ASCII";
const SMALLER: &str = "begin it with `^`, count fewer repetitions, or write several routes";
/// Deeper ones are no expression that a person wrote.
const NESTED_MAX: u32 = 32;
/// Memory while a table is made, which bounds the time, too.
const WORK_BYTES_MAX: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_matches_anywhere_unless_the_pattern_is_anchored() {
        for (pattern, path, expected) in [
            (r"\.php$", "/a/b.php", true),
            (r"\.php$", "/a/b.php5", false),
            ("^/api/v[0-9]+/", "/api/v12/x", true),
            ("^/api/v[0-9]+/", "/x/api/v1/", false),
            ("(?i)/ADMIN", "/x/admin", true),
            ("/ADMIN", "/x/admin", false),
            (r"\bold\b", "/so/old/", true),
            ("^/(a|b)*c$", "/ababc", true),
            ("ü", "/fürth", true),
            ("^/.$", "/ü", false),
        ] {
            let compiled = PathPattern::new(pattern, false).unwrap();
            assert_eq!(compiled.is_match(path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(PathPattern::new("/ADMIN", true).unwrap().is_match(b"/admin"));
        assert!(!PathPattern::new("^/a$", false).unwrap().is_match(b"/a\xff"));
    }

    #[test]
    fn what_cannot_be_matched_in_linear_time_and_little_memory_is_refused() {
        for (pattern, fault) in [
            ("(?!/a)/b", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(a", "unclosed group"),
            ("", "1 to 1024 bytes"),
            ("[a-z]{1000}{1000}", "too large"),
            ("(a|b)*a(a|b){20}", "too large"),
        ] {
            let (message, help) = PathPattern::new(pattern, false).unwrap_err();
            assert!(message.contains(fault) && !help.is_empty(), "{pattern}: {message}");
        }
        let usual = r"^/(?:index|remote|public|cron|core/ajax/update|status|ocs/v[12])\.php(?:$|/)";
        assert!(PathPattern::new(usual, false).unwrap().memory() < 64 << 10);
    }
}
