//! What is wrong with a text an operator wrote: where, why, and how to mend it.

use std::fmt;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The text is loaded all the same.
    Warning,
    /// The text is refused whole.
    Error,
}

/// One fault, in the operator's terms.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the fault is the whole file's.
    pub line: u32,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What to do about it, when that is known.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(file: impl Into<Arc<str>>, line: u32, message: impl Into<String>) -> Self {
        Self { level: Level::Error, file: file.into(), line, message: message.into(), help: None }
    }

    /// A warning at a place.
    pub fn warning(file: impl Into<Arc<str>>, line: u32, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(file, line, message) }
    }

    /// Whether the text is refused for it.
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.level == Level::Error { "error" } else { "warning" };
        match self.line {
            0 => write!(f, "{level}: {}: {}", self.file, self.message)?,
            line => write!(f, "{level}: {}:{line}: {}", self.file, self.message)?,
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}
