//! From text to words: logical lines (continuations joined, comments left out), then words (quotes resolved).
//!
//! The rules are those that ModSecurity and Apache share: a backslash at the end of a line joins the next one; a word
//! may stand in double or single quotes, within which `\"` (or `\'`) is the quote itself and every other backslash
//! stays, because it belongs to a pattern.

use super::report::Report;

/// One directive: physical lines joined, and where each of them began.
#[derive(Debug)]
pub(super) struct Logical {
    /// The first physical line, from 1.
    pub(super) line: u32,
    text: String,
    /// Byte offsets in `text` where the second and later physical lines begin.
    breaks: Vec<usize>,
}

/// A word with what is needed to find its place again.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) text: String,
    start: usize,
    /// Offsets in `text` before which a backslash was taken out.
    dropped: Vec<usize>,
}

impl Logical {
    /// Splits the directive into words. A fault ends it.
    pub(super) fn words(&self, report: &mut Report<'_>) -> Option<Vec<Word>> {
        let mut words = Vec::new();
        let mut chars = self.text.char_indices().peekable();
        loop {
            while chars.next_if(|(_, c)| c.is_ascii_whitespace()).is_some() {}
            let Some(&(start, first)) = chars.peek() else {
                return Some(words);
            };
            let mut word = Word { text: String::new(), start, dropped: Vec::new() };
            if first == '"' || first == '\'' {
                chars.next();
                word.start += 1;
                if !quoted(&mut chars, first, &mut word) {
                    report.set_line(self.line_at(start));
                    report.error_help(
                        format!("the quote {first} that opens here is not closed"),
                        Some(
                            "close it, or end each line but the last with a backslash and nothing after it"
                                .into(),
                        ),
                    );
                    return None;
                }
                if let Some(&(at, next)) = chars.peek()
                    && !next.is_ascii_whitespace()
                {
                    report.set_line(self.line_at(at));
                    report.error_help(
                        format!("`{next}` stands right behind a closing quote"),
                        Some(format!("write \\{first} for a quote inside quotes")),
                    );
                    return None;
                }
            } else {
                while let Some((_, c)) = chars.next_if(|(_, c)| !c.is_ascii_whitespace()) {
                    word.text.push(c);
                }
            }
            words.push(word);
        }
    }

    /// The directive in one line: what indents its further lines is one space.
    pub(super) fn one_line(&self) -> String {
        let ends = self.breaks.iter().copied().chain(std::iter::once(self.text.len()));
        let mut start = 0;
        let mut line = String::with_capacity(self.text.len());
        for end in ends {
            let physical = self.text.get(start..end).unwrap_or_default();
            let text = physical.trim_start();
            if text.len() < physical.len() && !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
            line.push_str(text);
            start = end;
        }
        line.trim_end().to_owned()
    }

    /// The physical line of an offset within a word.
    pub(super) fn line_in(&self, word: &Word, offset: usize) -> u32 {
        let dropped = word.dropped.partition_point(|place| *place <= offset);
        self.line_at(word.start + offset + dropped)
    }

    fn line_at(&self, offset: usize) -> u32 {
        let passed = self.breaks.partition_point(|place| *place <= offset);
        self.line.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX))
    }
}

/// Reads up to the closing quote; `false` if there is none.
fn quoted(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>, quote: char, word: &mut Word) -> bool {
    while let Some((_, c)) = chars.next() {
        match c {
            c if c == quote => return true,
            '\\' => match chars.next() {
                Some((_, next)) if next == quote => {
                    word.dropped.push(word.text.len());
                    word.text.push(next);
                }
                Some((_, next)) => {
                    word.text.push('\\');
                    word.text.push(next);
                }
                None => return false,
            },
            c => word.text.push(c),
        }
    }
    false
}

/// Joins continued lines and leaves out comments and empty lines.
pub(super) fn logical_lines(text: &str, report: &mut Report<'_>) -> Vec<Logical> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut lines = (1u32..).zip(text.lines());
    while let Some((line, first)) = lines.next() {
        let comment = first.trim_start().starts_with('#');
        let mut logical = Logical { line, text: String::new(), breaks: Vec::new() };
        let mut physical = first;
        while let Some(continued) = physical.strip_suffix('\\') {
            logical.text.push_str(continued);
            let Some((next_line, next)) = lines.next() else {
                physical = "";
                report.set_line(line);
                report.error("the last line ends with a backslash, but no line follows");
                break;
            };
            if comment && !next.trim_start().starts_with('#') && !next.trim().is_empty() {
                report.set_line(next_line);
                report.warning("this line is part of the comment above it, which ends with a backslash");
            }
            logical.breaks.push(logical.text.len());
            physical = next;
        }
        logical.text.push_str(physical);
        if !comment && !logical.text.trim().is_empty() {
            found.push(logical);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn check(text: &str, expected: &[&[&str]]) {
        let mut found = Vec::new();
        let file = Arc::from("t.conf");
        let mut report = Report::new(&file, 1, &mut found);
        let lines: Vec<Vec<String>> = logical_lines(text, &mut report)
            .iter()
            .map(|line| line.words(&mut report).unwrap().into_iter().map(|word| word.text).collect())
            .collect();
        assert_eq!(lines, expected);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn continuations_join_and_comments_vanish() {
        check("# c \\\n# more\nA b \\\n   c\n\nD\r\n", &[&["A", "b", "c"], &["D"]]);
    }

    #[test]
    fn quotes_keep_every_backslash_but_their_own() {
        check(r#"R "a \"b\" \\ \d 'c'" 'it\'s "x"'"#, &[&["R", r#"a "b" \\ \d 'c'"#, r#"it's "x""#]]);
        check(r#"R "ends with \\" x"#, &[&["R", r"ends with \\", "x"]]);
    }

    #[test]
    fn places_within_a_word_are_found_again() {
        let mut found = Vec::new();
        let file = Arc::from("t.conf");
        let mut report = Report::new(&file, 1, &mut found);
        let lines = logical_lines("\nA \"x\\\"y,\\\n z,\\\n w\"", &mut report);
        let words = lines[0].words(&mut report).unwrap();
        let word = &words[1];
        assert_eq!(word.text, "x\"y, z, w");
        let line_of = |c: char| lines[0].line_in(word, word.text.find(c).unwrap());
        assert_eq!((line_of('x'), line_of('z'), line_of('w')), (2, 3, 4));
    }
}
