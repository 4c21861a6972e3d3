//! The state folder: one node's keys, records and sockets, for its owner alone.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Paths in a state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder(PathBuf);

impl StateFolder {
    /// Opens the folder, or makes it with mode 0700.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the state folder {}", path.display()))?;
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700)).with_context(|| {
                format!("the state folder {} is open to other users; run `chmod 700` on it", path.display())
            })?;
        }
        let path = path.canonicalize()?;
        let folder = Self(path);
        let socket = folder.admin_socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            bail!(
                "the path {} is longer than the {SOCKET_PATH_BYTES_MAX} bytes a socket's path may have; choose a shorter --state",
                socket.display()
            );
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Seals everything else.
    pub(crate) fn sealing_key(&self) -> PathBuf {
        self.0.join("sealing.key")
    }

    pub(crate) fn admin_token(&self) -> PathBuf {
        self.0.join("admin.token")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    /// History, ledger and access log.
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record")
    }
}

/// `sun_path` has 108 bytes on Linux, the last of them NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;
