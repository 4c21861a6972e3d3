//! A file that is only appended to, whole records at a time.
//!
//! INVARIANT: after a failed append the file ends where it ended before, or is cut back to there before the next
//! append succeeds. A reader never sees half a record followed by another one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An append-only file, opened on first use and again after a failure.
#[derive(Debug)]
pub(crate) struct Outlet {
    path: PathBuf,
    file: Option<File>,
    /// The length up to the last whole record, once known.
    length: Option<u64>,
    #[cfg(test)]
    fault: Option<std::sync::Arc<std::sync::atomic::AtomicBool>>,
}

impl Outlet {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            length: None,
            #[cfg(test)]
            fault: None,
        }
    }

    /// While `fault` is set, appends write half of their bytes and then find the disk full.
    #[cfg(test)]
    pub(crate) fn with_fault(mut self, fault: std::sync::Arc<std::sync::atomic::AtomicBool>) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file; opens it.
    pub(crate) fn length(&mut self) -> io::Result<u64> {
        self.open()?;
        Ok(self.length.unwrap_or_default())
    }

    /// Appends whole records; with `sync`, returns when they are on the disk.
    pub(crate) fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        self.open()?;
        let length = self.length.unwrap_or_default();
        let written = self.write(bytes, sync);
        match written {
            Ok(()) => self.length = Some(length + bytes.len() as u64),
            Err(_) => {
                // If this fails too, `open` cuts before the next append.
                if let Some(file) = self.file.take() {
                    let _ = file.set_len(length);
                }
            }
        }
        written
    }

    /// Goes on in another file.
    pub(crate) fn switch(&mut self, path: PathBuf) {
        self.path = path;
        self.file = None;
        self.length = None;
    }

    /// Closes the file if something else now stands at its path (moved or deleted by a log tool), so that the next
    /// append creates it anew.
    pub(crate) fn follow_path(&mut self) {
        let Some(file) = &self.file else { return };
        let here = file.metadata().map(|m| (m.dev(), m.ino())).ok();
        let there = std::fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino())).ok();
        if here.is_none() || here != there {
            self.file = None;
            self.length = None;
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        // A pipe would hold the recorder until somebody reads it.
        if std::fs::metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        let found = metadata.len();
        let length = self.length.map_or(found, |known| known.min(found));
        if found > length {
            file.set_len(length)?;
        }
        self.length = Some(length);
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("file is not open")) };
        #[cfg(test)]
        if self.fault.as_ref().is_some_and(|fault| fault.load(std::sync::atomic::Ordering::SeqCst)) {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all(bytes)?;
        if sync {
            file.sync_data()?;
        }
        Ok(())
    }
}

/// Makes a directory's new and renamed entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Renames a damaged file to `<name>.corrupt-<ms>` and returns the new path.
pub(crate) fn set_aside(path: &Path, now_ms: u64) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".corrupt-{now_ms}"));
    let aside = path.with_file_name(name);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_full_disk_leaves_no_half_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let fault = Arc::new(AtomicBool::new(false));
        let mut outlet = Outlet::new(path.clone()).with_fault(Arc::clone(&fault));
        outlet.append(b"one\n", false).unwrap();
        fault.store(true, Ordering::SeqCst);
        assert_eq!(outlet.append(b"two\n", false).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        fault.store(false, Ordering::SeqCst);
        outlet.append(b"three\n", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\nthree\n");
    }

    #[test]
    fn a_moved_file_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut outlet = Outlet::new(path.clone());
        outlet.append(b"one\n", false).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        outlet.follow_path();
        outlet.append(b"two\n", false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    }

    #[test]
    fn files_are_readable_by_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Outlet::new(path.clone()).append(b"one\n", false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
