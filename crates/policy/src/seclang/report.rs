//! Collects faults with the place they belong to.

use std::sync::Arc;

use super::ir::Location;
use crate::Diagnostic;

/// Where faults of one directive go. Parsing goes on after a fault, so that all are told at once.
pub(super) struct Report<'a> {
    file: Arc<str>,
    line: u32,
    found: &'a mut Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &Arc<str>, line: u32, found: &'a mut Vec<Diagnostic>) -> Self {
        Self { file: Arc::clone(file), line, found }
    }

    /// The place that new faults get.
    pub(super) fn at(&self) -> Location {
        Location { file: Arc::clone(&self.file), line: self.line }
    }

    /// Moves on to another line of the same directive.
    pub(super) fn set_line(&mut self, line: u32) {
        self.line = line;
    }

    pub(super) fn error(&mut self, message: impl Into<String>) {
        self.found.push(Diagnostic::error(Arc::clone(&self.file), self.line, message));
    }

    pub(super) fn error_help(&mut self, message: impl Into<String>, help: Option<String>) {
        let mut fault = Diagnostic::error(Arc::clone(&self.file), self.line, message);
        fault.help = help;
        self.found.push(fault);
    }

    pub(super) fn warning(&mut self, message: impl Into<String>) {
        self.found.push(Diagnostic::warning(Arc::clone(&self.file), self.line, message));
    }
}
