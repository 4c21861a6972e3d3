//! Files that only their owner may read.
//!
//! INVARIANT: a secret is never written into a file that already exists and never read from one that others can read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::TrustError;

/// Reads a file that must be a regular one with no rights for group and others. `None` if there is no such file.
pub fn read(path: &Path, bytes_max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, TrustError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(TrustError::file(
                path,
                format!("cannot be opened: {error}"),
                "make it readable for the user that runs phalanx",
            ));
        }
    };
    check_owner_only(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max.min(4096) + 1));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| TrustError::file(path, format!("cannot be read: {error}"), "check the disk"))?;
    if bytes.len() > bytes_max {
        let cause = format!("is larger than {bytes_max} bytes");
        return Err(TrustError::file(
            path,
            cause,
            "restore the original file, or remove it to make a new one",
        ));
    }
    Ok(Some(bytes))
}

/// Creates a file with mode 0600 and these bytes. Fails if it exists; is on disk when it returns.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    let fix = "check that the folder exists and is writable";
    let fault = |error: std::io::Error| TrustError::file(path, format!("cannot be created: {error}"), fix);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is worse than none: the next start must not read it.
        let _ = std::fs::remove_file(path);
        return Err(fault(error));
    }
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        // Best effort: some file systems refuse to sync a folder.
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Replaces a file with mode 0600 and these bytes, or makes it. A crash leaves the old content or the new one, never half of it.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    // Left behind by a crash; nothing but this writes it.
    let _ = std::fs::remove_file(&fresh);
    create(&fresh, bytes)?;
    let fix = "check that the folder is writable";
    std::fs::rename(&fresh, path)
        .map_err(|error| TrustError::file(path, format!("cannot be replaced: {error}"), fix))?;
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn check_owner_only(path: &Path, file: &File) -> Result<(), TrustError> {
    let metadata = file
        .metadata()
        .map_err(|error| TrustError::file(path, format!("cannot be examined: {error}"), "check the disk"))?;
    if !metadata.is_file() {
        return Err(TrustError::file(path, "is not a regular file", "name a regular file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let cause = format!("can be read or written by others (mode {mode:04o})");
        return Err(TrustError::file(path, cause, format!("run: chmod 600 {}", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_read_is_refused_with_cause_and_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, b"secret").unwrap();
        assert_eq!(read(&path, 64).unwrap().unwrap().as_slice(), b"secret");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path, 64).unwrap_err().to_string();
        assert!(error.contains("key: can be read or written by others (mode 0640)"), "{error}");
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, b"first").unwrap();
        assert!(create(&path, b"second").is_err());
        assert_eq!(read(&path, 64).unwrap().unwrap().as_slice(), b"first");
    }

    #[test]
    fn a_replaced_file_is_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for content in [&b"first"[..], b"second, longer"] {
            replace(&path, content).unwrap();
            assert_eq!(read(&path, 64).unwrap().unwrap().as_slice(), content);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_none_and_a_huge_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none"), 64).unwrap().is_none());
        let path = folder.path().join("huge");
        create(&path, &[0; 65]).unwrap();
        assert!(read(&path, 64).unwrap_err().to_string().contains("larger than 64 bytes"));
    }
}
