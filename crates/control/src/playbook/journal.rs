//! The journal of runs: a file of lines, each on the disk before what it tells of goes on.
//!
//! A line that a crash cut off is cut off for good when the file is opened; whatever it would have told of had not been begun.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::machine::{Entry, Run};

/// A journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Up to the last whole entry.
    length: u64,
}

impl Journal {
    /// Opens or creates it; hands out the runs that it tells of. Runs that ended long ago are forgotten when it has grown.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds what is no journal: then nothing is run rather than something twice.
    pub fn open(path: &Path) -> io::Result<(Self, BTreeMap<String, Run>)> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => _ = file.take(BYTES_MAX).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        let mut entries: Vec<Entry> = Vec::new();
        for (number, line) in
            bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
        {
            let entry = serde_json::from_slice(line)
                .map_err(|error| io::Error::other(format!("{}:{}: {error}", path.display(), number + 1)))?;
            entries.push(entry);
        }
        let mut runs = fold(&entries);
        if whole > COMPACT_BYTES {
            let finished: Vec<String> =
                runs.values().filter(|run| run.outcome.is_some()).map(|run| run.id.clone()).collect();
            let excess = finished.len().saturating_sub(FINISHED_KEPT);
            // The order in which they began is that of the file.
            let begun = entries.iter().filter(|entry| matches!(entry, Entry::Begun { .. })).map(Entry::run);
            let old: Vec<String> = begun
                .filter(|run| finished.iter().any(|one| one == run))
                .take(excess)
                .map(str::to_owned)
                .collect();
            entries.retain(|entry| !old.iter().any(|run| run == entry.run()));
            old.iter().for_each(|run| _ = runs.remove(run));
            rewrite(path, &entries)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let length = if whole > COMPACT_BYTES { file.metadata()?.len() } else { whole as u64 };
        file.set_len(length)?;
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok((Self { path: path.to_owned(), file, length }, runs))
    }

    /// Appends an entry; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it is not; then what it tells of must not be done.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += line.len() as u64,
            // Half a line before a whole one would make both unreadable.
            Err(_) => self.file.set_len(self.length)?,
        }
        written
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The runs that entries tell of.
fn fold(entries: &[Entry]) -> BTreeMap<String, Run> {
    let mut runs = BTreeMap::new();
    for entry in entries {
        if let Some(run) = Run::begun(entry) {
            runs.entry(run.id.clone()).or_insert(run);
        } else if let Some(run) = runs.get_mut(entry.run()) {
            run.apply(entry);
        }
    }
    runs
}

fn rewrite(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    for entry in entries {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
    }
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// A journal beyond this is no journal of ours.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// From this size on, runs that ended are forgotten at the next start,
const COMPACT_BYTES: usize = 4 * 1024 * 1024;
/// but for the newest.
const FINISHED_KEPT: usize = 256;
