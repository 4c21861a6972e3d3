//! `phalanx policy apply` and `policy drift`: a commit of a git repository on this machine as the source of policy.
//!
//! Flow in names: commit -> `git verify-commit` against the allowed signers -> its files in a folder of their own -> compiled as `push` does
//! -> a change, with the commit's id as its source.
//!
//! INVARIANT: what is applied is in the signed commit, every file of it: no link, nothing beside the commit, whatever the work tree holds.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use phalanx_control::api::{NewPolicyChange, PolicyContent, PolicyVersionRow};
use phalanx_control::policy_words::{file_sentence, sentence};
use phalanx_policy::diff::compare_files;
use phalanx_policy::{Everywhere, FileSet, diff_everywhere};
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use super::{policy_change, policy_history, print};
use crate::client::{AdminArgs, Client};

/// Which commit.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommitArgs {
    /// The repository
    #[arg(long, value_name = "DIR")]
    git: PathBuf,
    /// The commit, branch or tag
    #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
    commit: String,
    /// The policy file in it
    #[arg(long, value_name = "PATH", default_value = "policy.toml")]
    file: String,
}

/// Arguments of `policy apply`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    commit: CommitArgs,
    /// Who may sign: lines of a name and an SSH key, as `ssh-keygen` and git read them
    #[arg(long, value_name = "FILE")]
    allowed_signers: PathBuf,
    /// Fail unless this is the newest version now
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy drift`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DriftArgs {
    #[command(flatten)]
    commit: CommitArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What differs between a commit and what runs.
#[derive(Debug, Serialize)]
struct Drift {
    same: bool,
    /// The commit that was asked for.
    commit: String,
    /// Of what the running version was made, as far as that is known.
    running: Option<String>,
    /// From what runs to the commit.
    changes: Vec<String>,
}

/// Gives all nodes the policy of a signed commit. What takes protection away waits for another operator.
pub(crate) fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let git = Git::open(&args.commit)?;
    let signer = git.signer(&args.allowed_signers)?;
    let (entry, files) = git.policy(&args.commit.file)?;
    let subject = git.text(&["log", "-1", "--format=%s", &git.commit])?;
    eprintln!("commit {} is signed by {}", git.commit, for_terminal(&signer));
    let order = NewPolicyChange {
        entry,
        files: files.iter().map(|(name, bytes)| (name.to_owned(), STANDARD.encode(bytes))).collect(),
        base: args.expect,
        reason: shortened(&format!("{} (signed by {signer})", subject.trim())),
        source: Some(format!("commit {}", git.commit)),
        ..NewPolicyChange::default()
    };
    let answer = Client::new(&args.admin)?.post_patiently("policy/changes", &serde_json::to_value(order)?)?;
    policy_change::tell(&args.admin, answer)
}

/// Says whether a node runs what a commit says. Exit code 0: it does; 1: something differs.
pub(crate) fn drift(args: &DriftArgs) -> anyhow::Result<ExitCode> {
    let git = Git::open(&args.commit)?;
    let (entry, files) = git.policy(&args.commit.file)?;
    let client = Client::new(&args.admin)?;
    let running: PolicyContent = serde_json::from_value(client.get_patiently("policy/versions/running")?)?;
    let versions: Vec<PolicyVersionRow> = serde_json::from_value(client.get("policy/versions")?)?;
    let source =
        versions.into_iter().find(|one| running.hash.as_ref() == Some(&one.hash)).map(|one| one.source);
    let faults = |faults: Vec<phalanx_policy::Diagnostic>| {
        anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let (old_entry, old, before) = policy_history::fetched("running", &args.admin).map_err(faults)?;
    let text = String::from_utf8_lossy(files.get(&entry).unwrap_or_default()).into_owned();
    let (after, _) = Everywhere::parse(&entry, &text).map_err(faults)?;
    let named = |files: &FileSet, entry: &str| {
        let named = files.iter().filter(|(name, _)| *name != entry);
        named.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
    };
    let (old, new) = (named(&old, &old_entry), named(&files, &entry));
    let changes = diff_everywhere(&before, &after, &new).changes;
    let of_files = compare_files(&old, &new);
    let changes: Vec<String> =
        changes.iter().map(sentence).chain(of_files.iter().map(file_sentence)).collect();
    let drift = Drift { same: changes.is_empty(), commit: git.commit.clone(), running: source, changes };
    if args.admin.json {
        print::json(&drift)?;
    } else {
        print::text(&words(&drift))?;
    }
    Ok(if drift.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(drift: &Drift) -> String {
    let made = drift.running.as_ref().map_or_else(String::new, |source| format!(", made of {source}"));
    let mut out = match drift.same {
        true => format!("the node runs what commit {} says{made}\n", drift.commit),
        false => format!(
            "the node does not run what commit {} says{made}; with it would change:\n\n",
            drift.commit
        ),
    };
    drift.changes.iter().for_each(|change| out.push_str(&format!("  {change}\n")));
    out.lines().map(|line| for_terminal(line) + "\n").collect()
}

/// A commit of a repository.
struct Git {
    dir: PathBuf,
    /// Its whole id.
    commit: String,
}

impl Git {
    fn open(args: &CommitArgs) -> anyhow::Result<Self> {
        let mut git = Self { dir: args.git.clone(), commit: String::new() };
        let named = format!("{}^{{commit}}", args.commit);
        let commit = git.text(&["rev-parse", "--verify", "--end-of-options", &named])?;
        commit.trim().clone_into(&mut git.commit);
        Ok(git)
    }

    /// Who signed it, if that is one of those who may. Only SSH signatures count: the allowed signers are a file that says all of it,
    /// where a key ring holds whatever was ever imported.
    fn signer(&self, allowed: &Path) -> anyhow::Result<String> {
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
    fn policy(&self, file: &str) -> anyhow::Result<(String, FileSet)> {
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

    fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run(args, None)
    }

    fn run(&self, args: &[&str], index: Option<&Path>) -> anyhow::Result<String> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.dir).arg("-c").arg("core.hooksPath=/dev/null").args(args);
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        let output = command.output().context("cannot run git; it must be installed")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("git says: {}", for_terminal(said.trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where a name in a policy leads, from the repository's top; nothing if that is outside.
fn within(base: &Path, name: &str) -> Option<PathBuf> {
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

fn shortened(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(REASON_CHARS_MAX).collect()
}

/// A folder for its maker alone, gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
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

/// Of four bytes at most each, so that it fits.
const REASON_CHARS_MAX: usize = 60;

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
