//! A log file: rotated by size, opened again when a log tool has moved it, mode 0600.

use std::io;
use std::path::{Path, PathBuf};

use crate::outlet::Outlet;

/// A log file that is rotated when it is full. A batch is written at once.
#[derive(Debug)]
pub(crate) struct RotatingLog {
    outlet: Outlet,
    bytes_max: u64,
    files_max: usize,
}

impl RotatingLog {
    pub(crate) fn new(outlet: Outlet, bytes_max: u64, files_max: usize) -> Self {
        Self { outlet, bytes_max, files_max }
    }

    /// Writes whole lines, rotating first when they do not fit any more.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.outlet.follow_path();
        let length = self.outlet.length()?;
        if length > 0 && length + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.outlet.append(lines, false)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = self.outlet.path().to_path_buf();
        let numbered = |n| rotated(&path, n);
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.files_max == 0 {
            missing_is_fine(std::fs::remove_file(&path))?;
        } else {
            for n in (1..self.files_max).rev() {
                missing_is_fine(std::fs::rename(numbered(n), numbered(n + 1)))?;
            }
            missing_is_fine(std::fs::rename(&path, numbered(1)))?;
        }
        self.outlet.switch(path);
        Ok(())
    }
}

/// What a log is called once it was rotated so often: `access.log.2`; not rotated yet, it has its own name.
pub fn rotated(log: &Path, times: usize) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    if times > 0 {
        name.push(format!(".{times}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &std::path::Path, bytes_max: u64, files_max: usize) -> RotatingLog {
        RotatingLog::new(Outlet::new(dir.join("access.log")), bytes_max, files_max)
    }

    fn names(dir: &std::path::Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_log_is_rotated_by_size_and_old_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 10, 2);
        for n in 0..6 {
            log.append(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(names(dir.path()), ["access.log", "access.log.1", "access.log.2"]);
        assert_eq!(std::fs::read(dir.path().join("access.log")).unwrap(), b"line 5\n");
        assert_eq!(std::fs::read(dir.path().join("access.log.2")).unwrap(), b"line 3\n");
    }

    #[test]
    fn a_reopened_log_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 14, 2).append(b"line 0\n").unwrap();
        let mut again = log(dir.path(), 14, 2);
        again.append(b"line 1\n").unwrap();
        assert_eq!(std::fs::read(dir.path().join("access.log")).unwrap(), b"line 0\nline 1\n");
        again.append(b"line 2\n").unwrap();
        assert_eq!(std::fs::read(dir.path().join("access.log")).unwrap(), b"line 2\n");
    }
}
