//! HAProxy's configuration as sections of lines of words.

use std::sync::Arc;

use super::super::BYTES_MAX;
use super::super::note::{Notes, Place};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) place: Place,
    pub(crate) words: Vec<String>,
}

impl Line {
    /// A word; empty if there are not so many.
    pub(crate) fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    /// The words from one on.
    pub(crate) fn from(&self, place: usize) -> &[String] {
        self.words.get(place..).unwrap_or_default()
    }

    /// The word after another one.
    pub(crate) fn after(&self, name: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == name)?;
        self.words.get(at + 1).map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word == name)
    }

    /// As it was written, more or less.
    pub(crate) fn text(&self) -> String {
        let text = self.words.join(" ");
        match text.char_indices().nth(TEXT_CHARS_MAX) {
            Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
            None => text,
        }
    }
}

/// One section: its first line, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) head: Line,
    pub(crate) lines: Vec<Line>,
}

impl Section {
    /// `frontend`, `backend` and the like.
    pub(crate) fn kind(&self) -> &str {
        self.head.word(0)
    }

    pub(crate) fn name(&self) -> &str {
        self.head.word(1)
    }

    /// Lines that begin with a word.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.word(0) == name)
    }
}

/// Reads a file.
pub(crate) fn read(name: &str, text: &str, notes: &mut Notes) -> Vec<Section> {
    let file: Arc<str> = name.into();
    let mut sections: Vec<Section> = Vec::new();
    if text.len() > BYTES_MAX {
        let place = Place { file, line: 1 };
        notes.add(&place, "the file is too large", "import parts of it apart from each other");
        return sections;
    }
    for (number, text) in text.lines().enumerate() {
        let line = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let line = Line { place: Place { file: Arc::clone(&file), line }, words: words(text) };
        if line.words.is_empty() {
            continue;
        }
        if SECTIONS.contains(&line.word(0)) {
            sections.push(Section { head: line, lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else {
            notes.add(
                &line.place,
                format!("`{}` stands in no section", line.text()),
                "see what `haproxy -c` says",
            );
        }
    }
    sections
}

/// The words of a line; quotes and backslashes as HAProxy reads them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut begun) = (Vec::new(), String::new(), false);
    let mut chars = text.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => {
                begun = true;
                word.extend(chars.next());
            }
            (Some(_), c) => word.push(c),
            (None, '#') => break,
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            (None, c) => {
                begun = true;
                word.push(c);
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "userlist",
    "resolvers",
    "cache",
    "mailers",
    "program",
    "ring",
    "http-errors",
    "fcgi-app",
    "crt-store",
    "log-forward",
];
const TEXT_CHARS_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_comments_are_read() {
        for (text, expected) in [
            ("  bind *:80 # all", &["bind", "*:80"][..]),
            ("a \"b c\" 'd \\e' f\\ g", &["a", "b c", "d \\e", "f g"]),
            ("a \"\"", &["a", ""]),
            ("\"open", &["open"]),
            ("\\", &[""]),
            ("#", &[]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_belong_to_the_section_above() {
        let mut notes = Notes::default();
        let sections = read("h", "x 1\nglobal\n  maxconn 5\nfrontend web\n  bind :80\n", &mut notes);
        assert_eq!((sections.len(), sections[1].name(), sections[1].lines.len()), (2, "web", 1));
        assert!(notes.in_order()[0].to_string().starts_with("h:1: `x 1` stands in no section"));
    }
}
