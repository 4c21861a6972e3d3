//! The journal of runs: a file of lines, each on the disk before what it tells of goes on.
//!
//! A line that a crash cut off is cut off for good when the file is opened; whatever it would have told of had not been begun. One process has it at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::machine::Entry;

/// A journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Up to the last whole entry.
    length: u64,
    /// How long it was when it was last written anew.
    compact: u64,
    /// Held until the process ends.
    _lock: File,
}

impl Journal {
    /// Opens or creates it; hands out what it holds.
    ///
    /// # Errors
    /// When the file cannot be read or written, holds what is no journal, or another process has it ([`io::ErrorKind::WouldBlock`]): then nothing is run
    /// rather than something twice.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Entry>)> {
        let beside = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(beside)?;
        lock.try_lock()?;
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
        let (file, length) = (append_to(path)?, whole as u64);
        file.set_len(length)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok((Self { path: path.to_owned(), file, length, compact: 0, _lock: lock }, entries))
    }

    /// Appends an entry; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it is not; then what it tells of must not be done.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let line = line(entry)?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += line.len() as u64,
            // Half a line before a whole one would make both unreadable.
            Err(_) => self.file.set_len(self.length)?,
        }
        written
    }

    /// Whether it is worth writing anew without what is forgotten.
    pub fn has_grown(&self) -> bool {
        self.length > COMPACT_BYTES.max(2 * self.compact)
    }

    /// Writes it anew, with these entries alone.
    ///
    /// # Errors
    /// When it cannot; then it is as it was.
    pub fn compact<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        let mut length = 0;
        for entry in entries {
            let line = line(entry)?;
            file.write_all(&line)?;
            length += line.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        sync_folder(&self.path)?;
        self.file = append_to(&self.path)?;
        (self.length, self.compact) = (length, length);
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A journal beyond this is no journal of ours.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// From this size on it is written anew when runs that ended are forgotten.
const COMPACT_BYTES: u64 = 4 * 1024 * 1024;
