//! A git repository on this machine, asked through `git` itself: commits, who signed them, and the policy in them.
//!
//! INVARIANT: what is read of a commit is in the commit: no link, no module, nothing of the work tree. Nothing of the repository is run.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use phalanx_policy::FileSet;
use phalanx_record::escape::for_terminal;

/// A commit of a repository.
#[derive(Debug, Clone)]
pub(super) struct Git {
    pub(super) dir: PathBuf,
    /// Its whole id.
    pub(super) commit: String,
}

impl Git {
    pub(super) fn open(dir: &Path, commit: &str) -> anyhow::Result<Self> {
        let mut git = Self { dir: dir.to_owned(), commit: String::new() };
        let named = format!("{commit}^{{commit}}");
        let commit = git.text(&["rev-parse", "--verify", "--end-of-options", &named])?;
        commit.trim().clone_into(&mut git.commit);
        Ok(git)
    }

    /// Who signed it, if that is one of those who may. Only SSH signatures count: the allowed signers are a file that says all of it,
    /// where a key ring holds whatever was ever imported.
    pub(super) fn signer(&self, allowed: &Path) -> anyhow::Result<String> {
        let allowed = allowed.canonicalize().with_context(|| format!("cannot read {}", allowed.display()))?;
        let allowed = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
        let only = ["-c", &allowed, "-c", "gpg.program=false", "-c", "gpg.x509.program=false"];
        let ssh = ["-c", "gpg.ssh.program=ssh-keygen", "-c", "gpg.minTrustLevel=fully"];
        let verify = [&only[..], &ssh, &["verify-commit", &self.commit]].concat();
        self.text(&verify).with_context(|| {
            format!("commit {} has no good signature of an allowed signer, so it is not applied", self.commit)
        })?;
        let told = [&only[..], &ssh, &["log", "-1", "--format=%G?%n%GS", &self.commit]].concat();
        let told = self.text(&told)?;
        match told.trim().split_once('\n') {
            Some(("G", signer)) => Ok(signer.to_owned()),
            _ => bail!(
                "commit {} has no good signature of an allowed signer, so it is not applied",
                self.commit
            ),
        }
    }

    /// The policy file of the commit, with all that it names.
    pub(super) fn policy(&self, file: &str) -> anyhow::Result<(String, FileSet)> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if file.is_empty() || !Path::new(file).components().all(plain) {
            bail!(
                "{file:?} is no path in a commit; write it from the repository's top, as in fleet/policy.toml"
            );
        }
        let held = self.files()?;
        let folder = Folder::new()?;
        self.write_to(&folder.0)?;
        let (entry, files) = super::policy::collect(&folder.0.join(file))
            .with_context(|| format!("the policy {file} of commit {} cannot be read", self.commit))?;
        let base = Path::new(file).parent().unwrap_or(Path::new(""));
        for (name, _) in files.iter() {
            if !within(base, name).is_some_and(|path| held.contains(&path)) {
                bail!(
                    "the policy names {name:?}, which is not in commit {}: nothing beside it is applied",
                    self.commit
                );
            }
        }
        Ok((entry, files))
    }

    /// The names of its files. One with a link or a module in it is refused: what is behind that is not in the commit.
    fn files(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let listed = self.text(&["ls-tree", "-r", "-z", "--full-tree", &self.commit])?;
        let mut files = BTreeSet::new();
        for line in listed.split('\0').filter(|line| !line.is_empty()) {
            let (facts, name) = line.split_once('\t').context("git lists a file without a name")?;
            if !facts.starts_with("100") {
                bail!(
                    "commit {} holds {name:?}, which is a link or a module: what it leads to is not signed",
                    self.commit
                );
            }
            files.insert(PathBuf::from(name));
        }
        Ok(files)
    }

    /// Writes its files, through an index of their own: neither the repository's index nor its work tree is touched.
    fn write_to(&self, folder: &Path) -> anyhow::Result<()> {
        let index = folder.with_extension("index");
        let run = |args: &[&str]| self.run(args, Some(&index));
        let prefix = format!("--prefix={}/", folder.display());
        let done = run(&["read-tree", &self.commit]).and_then(|_| run(&["checkout-index", "--all", &prefix]));
        let _ = std::fs::remove_file(&index);
        done.map(|_| ())
    }

    pub(super) fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run(args, None)
    }

    fn run(&self, args: &[&str], index: Option<&Path>) -> anyhow::Result<String> {
        let mut command = self.command(args);
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        let said = finish(&mut command, &[])?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// A call of git on the repository, which runs nothing of the repository's own and asks nobody.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.dir).arg("-c").arg("core.hooksPath=/dev/null").args(args);
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        command
    }
}

/// Runs a call of git to its end.
pub(super) fn finish(command: &mut Command, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run git; it must be installed")?;
    // Git reads all of it before it answers; should it end sooner, its own words say why.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().context("git went away")?;
    if !output.status.success() {
        bail!("git says: {}", for_terminal(String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(output.stdout)
}

/// Where a name in a policy leads, from the repository's top; nothing if that is outside.
pub(super) fn within(base: &Path, name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in base.join(name).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    Some(path)
}

/// A folder for its maker alone, gone with this.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> anyhow::Result<Self> {
        let number = u64::from_be_bytes(phalanx_trust::random_bytes());
        let path = std::env::temp_dir().join(format!("phalanx-commit-{number:016x}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_files_of_the_commit_and_nowhere_else() {
        for (base, name, expected) in [
            ("", "policy.toml", Some("policy.toml")),
            ("fleet", "../crs/a.conf", Some("crs/a.conf")),
            ("fleet", "./own.conf", Some("fleet/own.conf")),
            ("fleet", "../../etc/passwd", None),
            ("fleet", "/etc/passwd", None),
        ] {
            assert_eq!(within(Path::new(base), name), expected.map(PathBuf::from), "{base} {name}");
        }
    }
}
