//! A git repository on this machine, asked through `git` itself: commits, who signed them, and the policy in them.
//!
//! INVARIANT: what is read of a commit is in the commit: no link, no module, nothing of the work tree, nothing that replaces an object of it,
//! and no name that leads elsewhere. Nothing of the repository is run. Who may push need not be who may sign: all of it is bounded.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{Read, Write as _};
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
        self.write_to(&folder.0, &held)?;
        let (entry, files) = super::policy::collect(&folder.0.join(file))
            .with_context(|| format!("the policy {file} of commit {} cannot be read", self.commit))?;
        let base = Path::new(file).parent().unwrap_or(Path::new(""));
        for (name, _) in files.iter() {
            if !within(base, name).is_some_and(|path| held.contains_key(&path)) {
                bail!(
                    "the policy names {name:?}, which is not in commit {}: nothing beside it is applied",
                    self.commit
                );
            }
        }
        Ok((entry, files))
    }

    /// Its files, with the ids of their bytes. One with a link or a module in it is refused: what is behind that is not in the commit.
    pub(super) fn files(&self) -> anyhow::Result<BTreeMap<PathBuf, String>> {
        let mut list = self.command(&["ls-tree", "-r", "-l", "-z", "--full-tree", &self.commit]);
        let listed = bounded(&mut list, &[], LISTING_BYTES_MAX)
            .with_context(|| format!("the files of commit {} cannot be listed", self.commit))?;
        let listed = String::from_utf8(listed).context("git lists a file whose name is not UTF-8")?;
        let mut files = BTreeMap::new();
        let mut bytes = 0;
        for line in listed.split('\0').filter(|line| !line.is_empty()) {
            let (facts, name) = line.split_once('\t').context("git lists a file without a name")?;
            if !facts.starts_with("100") {
                bail!(
                    "commit {} holds {name:?}, which is a link or a module: what it leads to is not signed",
                    self.commit
                );
            }
            // Git keeps whatever names it is given; these would be written elsewhere, or be two files in one place.
            let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
            if !name.split('/').all(plain) || name.contains('\\') {
                bail!(
                    "commit {} holds a file with the name {name:?}, which no work tree could have",
                    self.commit
                );
            }
            let mut facts = facts.split_whitespace().skip(2);
            let id = facts.next().context("git lists a file without an id")?;
            let size = facts.next().and_then(|size| size.parse::<u64>().ok()).unwrap_or_default();
            bytes = size.saturating_add(bytes);
            files.insert(PathBuf::from(name), id.to_owned());
        }
        if bytes > TREE_BYTES_MAX {
            bail!(
                "commit {} holds {bytes} bytes, more than a policy's repository may: {TREE_BYTES_MAX}",
                self.commit
            );
        }
        Ok(files)
    }

    /// Writes files as they were committed: what filters, line endings and attributes would make of them is not signed.
    fn write_to(&self, folder: &Path, files: &BTreeMap<PathBuf, String>) -> anyhow::Result<()> {
        let ids: String = files.values().map(|id| format!("{id}\n")).collect();
        let told = finish(&mut self.command(&["cat-file", "--batch"]), ids.as_bytes())?;
        let mut rest = told.as_slice();
        for (name, id) in files {
            let found = next_blob(&mut rest, id)
                .with_context(|| format!("git has no bytes of {}", name.display()))?;
            let path = folder.join(name);
            let written = std::fs::create_dir_all(path.parent().unwrap_or(folder))
                .and_then(|()| std::fs::write(&path, found));
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&finish(&mut self.command(args), &[])?).into_owned())
    }

    /// A call of git on the repository, which runs nothing of the repository's own and asks nobody.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.dir).arg("-c").arg("core.hooksPath=/dev/null").args(args);
        // A signature is of objects by their ids: what `refs/replace` puts in their place is not signed.
        command.env("GIT_NO_REPLACE_OBJECTS", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        command
    }
}

/// Runs a call of git to its end.
pub(super) fn finish(command: &mut Command, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    bounded(command, input, TREE_BYTES_MAX + LISTING_BYTES_MAX)
}

/// The same, with an answer of so many bytes at most.
fn bounded(command: &mut Command, input: &[u8], most: u64) -> anyhow::Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run git; it must be installed")?;
    // On threads of their own: git may answer while it still reads. Should it end sooner, its own words say why.
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (told, said) = std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let said = scope.spawn(move || read_all(stderr, WORDS_BYTES_MAX));
        let told = read_all(stdout, most);
        if !matches!(&told, Ok(told) if len(told) <= most) {
            let _ = child.kill();
        }
        (told, said.join().ok().and_then(Result::ok).unwrap_or_default())
    });
    let status = child.wait().context("git went away")?;
    let told = told.context("git went away")?;
    if len(&told) > most {
        bail!("git answers with more than {most} bytes, more than a policy's repository may");
    }
    if !status.success() {
        bail!("git says: {}", for_terminal(String::from_utf8_lossy(&said).trim()));
    }
    Ok(told)
}

/// What comes to its end, or one byte more than there may be.
fn read_all(from: Option<impl Read>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The next of what `cat-file --batch` tells: a line of id, kind and size, then the bytes and a line's end.
fn next_blob<'a>(told: &mut &'a [u8], id: &str) -> Option<&'a [u8]> {
    let (line, rest) = told.split_at_checked(told.iter().position(|&byte| byte == b'\n')?)?;
    let size = std::str::from_utf8(line).ok()?.strip_prefix(id)?.strip_prefix(" blob ")?.parse().ok()?;
    let (bytes, rest) = rest.get(1..)?.split_at_checked(size)?;
    *told = rest.get(1..)?;
    Some(bytes)
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

/// Of all files of a commit: they are held in memory for a moment.
const TREE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Of the list of them, a line of some hundred bytes each: a small repository can hold a tree of trees without end.
const LISTING_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Of what git complains about.
const WORDS_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were_committed() {
        let told = b"aa blob 3\na\n\0\nbb blob 0\n\ncc missing\n";
        let mut rest = told.as_slice();
        assert_eq!(next_blob(&mut rest, "aa"), Some(b"a\n\0".as_slice()));
        assert_eq!(next_blob(&mut rest, "bb"), Some(b"".as_slice()));
        assert_eq!(next_blob(&mut rest, "cc"), None);
        assert_eq!(next_blob(&mut b"aa blob 9\nshort\n".as_slice(), "aa"), None);
    }

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

    /// A repository with one commit of a tree that `git mktree` would not make.
    fn with_tree(dir: &Path, entries: &[(&str, &str, &[u8])]) -> Git {
        let git = Git { dir: dir.to_owned(), commit: String::new() };
        git.text(&["init", "-q", "."]).unwrap();
        let blob = finish(&mut git.command(&["hash-object", "-w", "--stdin"]), b"x").unwrap();
        let blob = String::from_utf8(blob).unwrap().trim().to_owned();
        let mut tree = Vec::new();
        for (mode, name, id) in entries {
            tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            let blob = data_encoding::HEXLOWER.decode(blob.as_bytes()).unwrap();
            tree.extend_from_slice(if id.is_empty() { &blob } else { id });
        }
        let made = ["hash-object", "-t", "tree", "-w", "--stdin", "--literally"];
        let tree = String::from_utf8(finish(&mut git.command(&made), &tree).unwrap()).unwrap();
        let mut commit = git.command(&["commit-tree", tree.trim()]);
        for who in ["AUTHOR", "COMMITTER"] {
            commit.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@example");
        }
        let commit = String::from_utf8(finish(&mut commit, b"m").unwrap()).unwrap().trim().to_owned();
        Git { commit, ..git }
    }

    #[test]
    fn a_name_that_leads_out_of_the_commit_is_refused_before_anything_is_written() {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("skipped: git is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        for (at, name) in [outside.to_str().unwrap(), "a/../../outside", "..", "a//b"].into_iter().enumerate()
        {
            let repository = dir.path().join(at.to_string());
            std::fs::create_dir(&repository).unwrap();
            let git = with_tree(&repository, &[("100644", name, b""), ("100644", "policy.toml", b"")]);
            let refused = git.policy("policy.toml").unwrap_err();
            assert!(format!("{refused:#}").contains("no work tree could have"), "{name}: {refused:#}");
            assert!(!outside.exists(), "{name}");
        }
    }

    #[test]
    fn what_is_signed_is_read_whatever_is_put_in_its_place() {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("skipped: git is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let git = with_tree(dir.path(), &[("100644", "policy.toml", b"")]);
        let [signed, other] = [&b"x"[..], b"mode = \"off\""].map(|bytes| {
            let told = finish(&mut git.command(&["hash-object", "-w", "--stdin"]), bytes).unwrap();
            String::from_utf8(told).unwrap().trim().to_owned()
        });
        git.text(&["replace", &signed, &other]).unwrap();
        let held = git.files().unwrap();
        let folder = Folder::new().unwrap();
        git.write_to(&folder.0, &held).unwrap();
        assert_eq!(std::fs::read(folder.0.join("policy.toml")).unwrap(), b"x");
    }

    #[test]
    fn an_answer_without_end_is_cut_off() {
        let mut endless = Command::new("sh");
        endless.args(["-c", "while :; do echo 0123456789; done"]);
        let error = bounded(&mut endless, &[], 1_000).unwrap_err();
        assert!(error.to_string().contains("more than 1000 bytes"), "{error}");
    }
}
