//! How far long work is: one line on standard error, rewritten, and nothing where that is no terminal.
//!
//! INVARIANT: standard output is never touched, so that what a command prints can be read by programs; whatever happens, the line is gone
//! when the work ends.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Work that is under way, perhaps on several threads.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    /// How much there is to do, where that is known.
    total: Option<u64>,
    done: AtomicU64,
    began: Instant,
    /// When the line was last written; `None`: there is no terminal.
    shown: Option<Mutex<Instant>>,
}

impl Progress {
    /// Work of this kind begins.
    pub(crate) fn new(what: &'static str, total: Option<usize>) -> Self {
        let began = Instant::now();
        let shown = std::io::stderr().is_terminal().then(|| Mutex::new(began));
        let total = total.and_then(|total| u64::try_from(total).ok());
        Self { what, total, done: AtomicU64::new(0), began, shown }
    }

    /// One more piece is done.
    pub(crate) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.show();
    }

    /// Time goes by.
    pub(crate) fn show(&self) {
        let Some(shown) = &self.shown else { return };
        let Some(mut last) = shown.try_lock() else { return };
        if last.elapsed() < BETWEEN {
            return;
        }
        *last = Instant::now();
        let line = line(self.what, self.done.load(Ordering::Relaxed), self.total, self.began.elapsed());
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.as_ref().is_some_and(|shown| *shown.lock() != self.began) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let seconds = took.as_secs();
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let filled = usize::try_from(done.min(total) * BAR / total).unwrap_or_default();
            let bar = "#".repeat(filled) + &"-".repeat(usize::try_from(BAR).unwrap_or_default() - filled);
            format!("{what} [{bar}] {done} of {total}, {seconds} s")
        }
        None if done > 0 => format!("{what}: {done}, {seconds} s"),
        None => format!("{what}: {seconds} s"),
    }
}

/// Fast enough for an eye; what is quicker shows nothing.
const BETWEEN: Duration = Duration::from_millis(250);
/// Characters of a bar.
const BAR: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_work_is() {
        let took = Duration::from_secs(7);
        assert_eq!(line("tests", 15, Some(30), took), "tests [###############---------------] 15 of 30, 7 s");
        assert_eq!(line("tests", 31, Some(30), took), "tests [##############################] 31 of 30, 7 s");
        assert_eq!(line("requests", 9, None, took), "requests: 9, 7 s");
        assert_eq!(line("waiting for the node", 0, None, took), "waiting for the node: 7 s");
    }

    #[test]
    fn nothing_is_shown_where_there_is_no_terminal() {
        // Tests have none: their standard error is caught or piped.
        let mut progress = Progress::new("tests", Some(3));
        progress.shown = None;
        progress.step();
        assert_eq!(progress.done.load(Ordering::Relaxed), 1);
    }
}
