//! One log of the recorder: entries gathered, written in batches, counted when they are lost.

use std::path::PathBuf;

use crate::outlet::Outlet;
use crate::rotating::RotatingLog;
use crate::standard_output::StandardOutput;
use crate::status::{Part, RecorderStatus};

/// Where a log goes.
#[derive(Debug)]
pub(crate) enum Sink {
    /// To a file that is rotated.
    File(RotatingLog),
    /// To standard output.
    StandardOutput(StandardOutput),
    /// Nowhere.
    Nowhere,
}

impl Sink {
    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        match self {
            Self::File(log) => log.append(lines),
            Self::StandardOutput(out) => out.append(lines),
            Self::Nowhere => Ok(()),
        }
    }
}

/// A log and its next batch.
#[derive(Debug)]
pub(crate) struct LineLog {
    part: Part,
    log: Sink,
    batch: Vec<u8>,
    entries: usize,
    /// Entries lost since the log failed; 0 while it works.
    pub(crate) lost: usize,
}

impl LineLog {
    pub(crate) fn new(part: Part, path: PathBuf, bytes_max: u64, files_max: usize) -> Self {
        Self::to(part, Sink::File(RotatingLog::new(Outlet::new(path), bytes_max, files_max)))
    }

    pub(crate) fn to(part: Part, log: Sink) -> Self {
        Self { part, log, batch: Vec::new(), entries: 0, lost: 0 }
    }

    /// Opens the file now, so that a path that cannot be written is told at the start.
    pub(crate) fn open(&mut self, status: &RecorderStatus, now_ms: u64) {
        if let Err(error) = self.log.append(&[]) {
            status.failed(self.part, &error, now_ms);
        }
    }

    /// Whether nobody will see what is added.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self.log, Sink::Nowhere)
    }

    /// Adds a line to the batch.
    pub(crate) fn add_line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.batch);
        self.entries += 1;
    }

    /// Adds whole entries to the batch; one that fails to be encoded is left out.
    pub(crate) fn add<E: std::fmt::Display>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) {
        let start = self.batch.len();
        match encode(&mut self.batch) {
            Ok(()) => self.entries += usize::from(self.batch.len() > start),
            Err(error) => {
                self.batch.truncate(start);
                tracing::error!(part = self.part.name(), %error, "an entry could not be encoded");
            }
        }
    }

    /// Whether the batch has grown so large that it should not wait for more.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES_MAX
    }

    /// Writes the batch. What cannot be written is dropped and counted.
    pub(crate) fn write(&mut self, status: &RecorderStatus, now_ms: u64) {
        if self.batch.is_empty() {
            return;
        }
        match self.log.append(&self.batch) {
            Ok(()) => {
                self.lost = 0;
                status.wrote(self.part, self.entries);
            }
            Err(error) => {
                self.lost += self.entries;
                status.failed(self.part, &error, now_ms);
                status.dropped(self.part, self.entries);
            }
        }
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES_MAX);
        self.entries = 0;
    }

    /// Writes a line that stands for no entry.
    pub(crate) fn write_note(&mut self, note: &str, status: &RecorderStatus, now_ms: u64) {
        self.batch.extend_from_slice(note.as_bytes());
        self.write(status, now_ms);
    }
}

/// A batch beyond this is written at once: entries of the audit log can be large.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
