//! What could not be carried, and where it stands.

use std::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
}

/// One thing that was not carried, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) place: Place,
    /// What.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) help: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n  help: {}", self.place.file, self.place.line, self.what, self.help)
    }
}

/// All of them, in order, as many as anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: Vec<Note>,
    /// Those beyond.
    pub(crate) more: usize,
}

impl Notes {
    /// Adds one.
    pub(crate) fn add(&mut self, place: &Place, what: impl Into<String>, help: impl Into<String>) {
        if self.notes.len() >= NOTES_MAX {
            self.more += 1;
            return;
        }
        let note = Note { place: place.clone(), what: what.into(), help: help.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Those that were kept, by file and line.
    pub(crate) fn in_order(&self) -> Vec<&Note> {
        let mut notes: Vec<&Note> = self.notes.iter().collect();
        notes.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
        notes
    }
}

/// Whoever has more than this reads no list.
const NOTES_MAX: usize = 2_000;
