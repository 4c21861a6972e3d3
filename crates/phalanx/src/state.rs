//! The state folder: one node's keys, records and sockets, for its owner alone.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
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
        let folder = Self(path.canonicalize()?);
        folder.close_to_others()?;
        let socket = folder.admin_socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            bail!(
                "the path {} is longer than the {SOCKET_PATH_BYTES_MAX} bytes a socket's path may have; choose a shorter --state",
                socket.display()
            );
        }
        Ok(folder)
    }

    /// Keys in a folder that somebody else owns, or could write to, may be somebody else's keys: such a folder is not
    /// used. And a folder with files that are not ours (`/tmp`, a home) is not taken away from its users.
    fn close_to_others(&self) -> anyhow::Result<()> {
        let path = self.0.display();
        let found = fs::metadata(&self.0)?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            bail!("the state folder {path} belongs to another user; choose another --state");
        }
        let mode = found.permissions().mode();
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let empty = fs::read_dir(&self.0)?.next().is_none();
        if !empty && mode & 0o022 != 0 {
            bail!(
                "others could write to the state folder {path}: its files are not to be trusted; choose an empty --state"
            );
        }
        if !empty && !self.sealing_key().exists() {
            bail!("the folder {path} holds other files and is open to other users; choose an empty --state");
        }
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("the state folder {path} is open to other users; run `chmod 700` on it"))
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

    /// Certificates that were ordered, with their keys, sealed.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.0.join("certificates.sealed")
    }

    /// The keys of bouncers, as hashes.
    pub(crate) fn bouncers(&self) -> PathBuf {
        self.0.join("bouncers.json")
    }

    /// Changes of policy that operators ordered, sealed.
    pub(crate) fn changes(&self) -> PathBuf {
        self.0.join("changes")
    }

    /// Accounts of operators, sealed.
    pub(crate) fn operators(&self) -> PathBuf {
        self.0.join("operators.sealed")
    }

    /// What other nodes of the site recorded, where the node may act for operators.
    pub(crate) fn copies(&self) -> PathBuf {
        self.record().join("copies.db")
    }

    /// The journal of playbooks.
    pub(crate) fn playbooks(&self) -> PathBuf {
        self.0.join("playbooks.journal")
    }

    /// What receivers were told of incidents.
    pub(crate) fn notices(&self) -> PathBuf {
        self.0.join("notices.json")
    }

    /// What was sent of reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.0.join("reports.json")
    }

    /// What the learner keeps over a restart.
    pub(crate) fn learned(&self) -> PathBuf {
        self.0.join("learned")
    }

    /// Requests kept for replay, sealed.
    pub(crate) fn recording(&self) -> PathBuf {
        self.record().join("requests")
    }

    /// History, ledger and access log.
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record")
    }
}

/// `sun_path` has 108 bytes on Linux, the last of them NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(mode: u32, files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "x").unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    fn mode(folder: &tempfile::TempDir) -> u32 {
        fs::metadata(folder.path()).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_folder_of_ones_own_is_closed_to_others() {
        for folder in [folder(0o755, &[]), folder(0o777, &[]), folder(0o750, &["sealing.key", "admin.token"])]
        {
            StateFolder::open(folder.path()).unwrap();
            assert_eq!(mode(&folder), 0o700);
        }
        let private = folder(0o700, &["something"]);
        StateFolder::open(private.path()).unwrap();
    }

    #[test]
    fn a_shared_folder_is_refused_and_left_as_it_is() {
        for (rights, file) in [(0o1777, "other"), (0o755, "other"), (0o777, "sealing.key")] {
            let folder = folder(rights, &[file]);
            let error = StateFolder::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("choose an empty --state"), "{error}");
            assert_eq!(mode(&folder), rights, "{error}");
        }
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        // Only root can give a folder away, and only root owns `/` in most containers and machines.
        let other = tempfile::tempdir().unwrap();
        let given = std::os::unix::fs::chown(other.path(), Some(65_534), None).is_ok();
        let path = if given { other.path() } else { Path::new("/") };
        let error = StateFolder::open(path).unwrap_err().to_string();
        assert!(error.contains("belongs to another user"), "{error}");
    }
}
