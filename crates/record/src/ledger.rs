//! The ledger: an append-only chain of what was decided, withdrawn, changed and done by operators.
//!
//! One JSON object per line; each holds its sequence number and the SHA-256 of the line before it, so that a removed,
//! altered or inserted entry is found by [`verify`]. Entries are on the disk before they count as written.
//! Files are named by the first sequence number they hold; the chain runs on from file to file.

mod reader;

pub use reader::{AuditChain, AuditEntry, AuditPage, KINDS, LedgerFilter, LedgerReader};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use phalanx_model::{LedgerEntry, LedgerKind};
use serde::{Deserialize, Serialize};

use crate::escape::to_json_line;
use crate::outlet::{Outlet, set_aside, sync_dir};

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// Version of this form.
    pub schema: u32,
    /// Counts from 1, without gaps.
    pub sequence: u64,
    /// SHA-256 of the line before, in hexadecimal; zeros for the first.
    pub previous: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The site of the node that keeps the ledger.
    pub site: Arc<str>,
    /// The node that keeps the ledger.
    pub node: Arc<str>,
    /// What.
    pub what: LedgerKind,
}

/// The state of a whole ledger that was found in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries, over all files.
    pub entries: u64,
    /// SHA-256 of the last line, in hexadecimal.
    pub head: String,
}

/// Where a ledger departs from its chain.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {cause}")]
pub struct LedgerFault {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub cause: String,
}

/// Checks every entry of the ledger in this directory.
pub fn verify(dir: &Path) -> Result<Verified, LedgerFault> {
    let mut head = Head::default();
    for path in files(dir).map_err(|e| fault(dir, 0, &e))? {
        let bytes = fs::read(&path).map_err(|e| fault(&path, 0, &e))?;
        let first_file = head.sequence == 0;
        let walked = walk(&bytes, if first_file { None } else { Some(head.clone()) });
        if let Some((line, cause)) = walked.fault {
            return Err(fault(&path, line, &cause));
        }
        head = walked.head;
    }
    Ok(Verified { entries: head.sequence, head: head.hash })
}

/// The writer.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    site: Arc<str>,
    node: Arc<str>,
    outlet: Outlet,
    head: Head,
    file_bytes_max: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`. The last file is verified; a damaged one is set aside and named in the second value,
    /// an unfinished last entry (the node died while writing it) is cut off and named there too.
    pub(crate) fn open(
        dir: &Path,
        site: &Arc<str>,
        node: &Arc<str>,
        file_bytes_max: u64,
        now_ms: u64,
    ) -> io::Result<(Self, Option<String>)> {
        let mut files = files(dir)?;
        let last = files.pop();
        let before = match files.last() {
            Some(path) => walk(&fs::read(path)?, None).head,
            None => Head::default(),
        };
        let (head, path, note) = match last {
            None => (before, None, None),
            Some(path) => resume(path, before, !files.is_empty(), now_ms)?,
        };
        let path = path.unwrap_or_else(|| file_path(dir, head.sequence + 1));
        let ledger = Self {
            dir: dir.to_path_buf(),
            site: Arc::clone(site),
            node: Arc::clone(node),
            outlet: Outlet::new(path),
            head,
            file_bytes_max,
        };
        Ok((ledger, note))
    }

    /// Appends entries; all of them are on the disk when it returns, or none.
    pub(crate) fn append(&mut self, entries: &[LedgerEntry]) -> io::Result<()> {
        if self.outlet.length()? >= self.file_bytes_max {
            self.outlet.switch(file_path(&self.dir, self.head.sequence + 1));
        }
        let new_file = self.outlet.length()? == 0;
        let mut lines = Vec::with_capacity(entries.len() * 512);
        let mut head = self.head.clone();
        for entry in entries {
            let start = lines.len();
            let line = LedgerLine {
                schema: SCHEMA,
                sequence: head.sequence + 1,
                previous: head.hash,
                at_ms: entry.at_ms,
                site: Arc::clone(&self.site),
                node: Arc::clone(&self.node),
                what: entry.kind.clone(),
            };
            to_json_line(&mut lines, &line).map_err(io::Error::other)?;
            head = Head { sequence: line.sequence, hash: hash(lines.get(start..).unwrap_or_default()) };
            lines.push(b'\n');
        }
        self.outlet.append(&lines, true)?;
        if new_file {
            sync_dir(&self.dir)?;
        }
        self.head = head;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn with_fault(mut self, fault: Arc<std::sync::atomic::AtomicBool>) -> Self {
        self.outlet = self.outlet.with_fault(fault);
        self
    }
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    sequence: u64,
    hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { sequence: 0, hash: "0".repeat(64) }
    }
}

/// What one file holds.
struct Walked {
    head: Head,
    /// Bytes of whole, good lines.
    good_bytes: usize,
    /// The first bad line, from 1, and its cause.
    fault: Option<(usize, String)>,
    /// The bad line is the last one and has no line break: the writer died.
    torn: bool,
}

/// Where to go on after the last file: the head, the file if it can be continued, and what to report.
fn resume(
    path: PathBuf,
    before: Head,
    chained: bool,
    now_ms: u64,
) -> io::Result<(Head, Option<PathBuf>, Option<String>)> {
    let bytes = fs::read(&path)?;
    let walked = walk(&bytes, chained.then_some(before));
    match walked.fault {
        None => Ok((walked.head, Some(path), None)),
        Some(_) if walked.torn => {
            let good = walked.good_bytes as u64;
            fs::OpenOptions::new().write(true).open(&path)?.set_len(good)?;
            let note = format!("{}: an unfinished last entry was cut off", path.display());
            Ok((walked.head, Some(path), Some(note)))
        }
        Some((line, cause)) => {
            let aside = set_aside(&path, now_ms)?;
            let note =
                format!("{}:{line}: {cause}; the file was set aside as {}", path.display(), aside.display());
            Ok((walked.head, None, Some(note)))
        }
    }
}

/// Follows the chain through one file. Without a head to follow, the first line is taken at its word.
fn walk(bytes: &[u8], before: Option<Head>) -> Walked {
    let mut walked =
        Walked { head: before.clone().unwrap_or_default(), good_bytes: 0, fault: None, torn: false };
    let mut expected = before;
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let text = line.strip_suffix(b"\n");
        let checked = match text {
            None => Err(String::from("the last entry is unfinished")),
            Some(text) => check(text, expected.as_ref()),
        };
        match checked {
            Ok(head) => {
                walked.good_bytes += line.len();
                walked.head = head.clone();
                expected = Some(head);
            }
            Err(cause) => {
                walked.fault = Some((index + 1, cause));
                walked.torn = text.is_none();
                break;
            }
        }
    }
    walked
}

fn check(text: &[u8], expected: Option<&Head>) -> Result<Head, String> {
    let line: LedgerLine = serde_json::from_slice(text).map_err(|e| format!("not a ledger entry: {e}"))?;
    if line.schema > SCHEMA {
        return Err(format!("written by a newer version (form {}, this one reads {SCHEMA})", line.schema));
    }
    if let Some(expected) = expected {
        if line.sequence != expected.sequence + 1 {
            return Err(format!("entry {} stands where {} belongs", line.sequence, expected.sequence + 1));
        }
        if line.previous != expected.hash {
            return Err(format!("entry {} does not follow the one before it", line.sequence));
        }
    }
    Ok(Head { sequence: line.sequence, hash: hash(text) })
}

fn hash(line: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, line);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ledger's files in order.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("ledger-") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("ledger-{first:020}.jsonl"))
}

/// The first sequence number that a file holds, by its name.
fn file_number(path: &Path) -> u64 {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("ledger-").and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn fault(path: &Path, line: usize, cause: &dyn std::fmt::Display) -> LedgerFault {
    LedgerFault { file: path.display().to_string(), line, cause: cause.to_string() }
}

const SCHEMA: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn entry(n: u64) -> LedgerEntry {
        LedgerEntry {
            at_ms: n,
            kind: LedgerKind::OperatorAction { action: format!("action {n}\u{202e}"), by: None },
        }
    }

    fn open(dir: &Path) -> (Ledger, Option<String>) {
        Ledger::open(dir, &"fra".into(), &"a".into(), 700, 99).unwrap()
    }

    fn filled(dir: &Path, entries: u64) {
        let (mut ledger, note) = open(dir);
        assert_eq!(note, None);
        for n in 0..entries {
            ledger.append(&[entry(n)]).unwrap();
        }
    }

    #[test]
    fn the_chain_runs_on_over_files_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 5);
        filled(dir.path(), 5);
        assert!(files(dir.path()).unwrap().len() > 2);
        assert_eq!(verify(dir.path()).unwrap().entries, 10);
    }

    #[test]
    fn a_changed_entry_is_found() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 6);
        let first = files(dir.path()).unwrap().remove(0);
        let text = fs::read_to_string(&first).unwrap().replace("action 0", "action 9");
        fs::write(&first, text).unwrap();
        let fault = verify(dir.path()).unwrap_err();
        assert_eq!((fault.line, fault.cause.as_str()), (2, "entry 2 does not follow the one before it"));
    }

    #[test]
    fn a_removed_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 9);
        fs::remove_file(&files(dir.path()).unwrap()[1]).unwrap();
        assert!(verify(dir.path()).is_err());
    }

    #[test]
    fn an_unfinished_last_entry_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 3);
        let last = files(dir.path()).unwrap().pop().unwrap();
        let mut bytes = fs::read(&last).unwrap();
        bytes.extend_from_slice(br#"{"schema":1,"seq"#);
        fs::write(&last, bytes).unwrap();
        let (mut ledger, note) = open(dir.path());
        assert!(note.unwrap().contains("unfinished"));
        ledger.append(&[entry(4)]).unwrap();
        assert_eq!(verify(dir.path()).unwrap().entries, 4);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_ledger_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 2);
        let last = files(dir.path()).unwrap().pop().unwrap();
        fs::write(&last, b"garbage\nmore\n").unwrap();
        let (mut ledger, note) = open(dir.path());
        assert!(note.unwrap().contains(".corrupt-99"));
        ledger.append(&[entry(1)]).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn after_a_full_disk_the_chain_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Arc::new(AtomicBool::new(false));
        let mut ledger = open(dir.path()).0.with_fault(Arc::clone(&fault));
        ledger.append(&[entry(1)]).unwrap();
        fault.store(true, Ordering::SeqCst);
        ledger.append(&[entry(2), entry(3)]).unwrap_err();
        fault.store(false, Ordering::SeqCst);
        ledger.append(&[entry(2), entry(3)]).unwrap();
        assert_eq!(verify(dir.path()).unwrap().entries, 3);
    }
}
