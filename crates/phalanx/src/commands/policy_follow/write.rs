//! Versions of policy as commits: trees by way of an index of their own, so that neither the repository's index nor a work tree is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use phalanx_control::api::PolicyVersionRow;

use crate::commands::repository::{Folder, Git, finish, within};

/// Files of a policy where a repository has them: the policy file at its path, what it names from there.
pub(super) fn placed(
    at: &str,
    entry: &str,
    files: BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let base = Path::new(at).parent().unwrap_or(Path::new(""));
    let place = |(name, bytes): (String, Vec<u8>)| {
        let path = if name == entry { Some(PathBuf::from(at)) } else { within(base, &name) };
        let path =
            path.with_context(|| format!("the policy names {name:?}, which lies outside of the repository"))?;
        if path.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
            bail!("the policy names {name:?}, which is git's own");
        }
        Ok((path, bytes))
    };
    files.into_iter().map(place).collect()
}

/// The tree of a commit.
pub(super) fn tree_of(git: &Git) -> anyhow::Result<String> {
    Ok(git.text(&["rev-parse", &format!("{}^{{tree}}", git.commit)])?.trim().to_owned())
}

/// The tree of a commit with another policy: files of the one before go, all else stays.
pub(super) fn tree(
    git: &Git,
    parent: Option<&str>,
    before: &BTreeSet<PathBuf>,
    files: &BTreeMap<PathBuf, Vec<u8>>,
) -> anyhow::Result<String> {
    let folder = Folder::new()?;
    let index = folder.0.join("index");
    let run = |args: &[&str], input: &[u8]| finish(git.command(args).env("GIT_INDEX_FILE", &index), input);
    run(&["read-tree", parent.unwrap_or("--empty")], &[])?;
    let mut entries = Vec::new();
    let none = "0".repeat(parent.map_or(40, str::len));
    for path in before.iter().filter(|path| !files.contains_key(*path)) {
        entries.extend_from_slice(format!("0 {none}\t{}\0", path.display()).as_bytes());
    }
    for (path, bytes) in files {
        let blob = run(&["hash-object", "-w", "--stdin", "--no-filters"], bytes)?;
        let blob = String::from_utf8_lossy(&blob).trim().to_owned();
        entries.extend_from_slice(format!("100644 {blob}\t{}\0", path.display()).as_bytes());
    }
    run(&["update-index", "-z", "--index-info"], &entries)?;
    Ok(String::from_utf8_lossy(&run(&["write-tree"], &[])?).trim().to_owned())
}

/// A commit of a version: of who ordered it, at its time. Signed where the repository has commits signed.
pub(super) fn commit(
    git: &Git,
    parent: Option<&str>,
    tree: &str,
    row: &PolicyVersionRow,
    skipped: &[u64],
) -> anyhow::Result<String> {
    let signs = git.text(&["config", "--type=bool", "--default=false", "--get", "commit.gpgSign"])?;
    let mut args = vec!["commit-tree", tree];
    args.extend(parent.iter().flat_map(|parent| ["-p", *parent]));
    args.extend((signs.trim() == "true").then_some("-S"));
    let mut command = git.command(&args);
    let author = row.author.as_deref().unwrap_or("unknown");
    command.env("GIT_AUTHOR_NAME", name(author)).env("GIT_AUTHOR_EMAIL", mail(author));
    if let Some(at_ms) = row.at_ms {
        command.env("GIT_AUTHOR_DATE", format!("@{} +0000", at_ms / 1_000));
    }
    // Who runs it, as git knows him; a service is often not known.
    let known = git.text(&["config", "--default=", "--get", "user.name"])?;
    if known.trim().is_empty() {
        command
            .env("GIT_COMMITTER_NAME", "phalanx policy follow")
            .env("GIT_COMMITTER_EMAIL", "policy@phalanx");
    }
    let made = finish(&mut command, message(row, skipped).as_bytes())?;
    Ok(String::from_utf8_lossy(&made).trim().to_owned())
}

/// Reason, then the trailers, which git looks for in the last paragraph alone.
fn message(row: &PolicyVersionRow, skipped: &[u64]) -> String {
    let line =
        |text: &str| text.chars().filter(|char| !char.is_control()).collect::<String>().trim().to_owned();
    let reason = line(&row.reason);
    let subject = if reason.is_empty() { format!("Policy version {}", row.version) } else { reason };
    let mut message = format!("{subject}\n\nPhalanx-Version: {}\n", row.version);
    if !skipped.is_empty() {
        message.push_str(&format!("Phalanx-Skipped: {}\n", listed(skipped)));
    }
    if let Some(second) = &row.approved_by {
        message.push_str(&format!("Phalanx-Approved-By: {}\n", line(second)));
    }
    message
}

/// Versions, as people read them.
pub(super) fn listed(versions: &[u64]) -> String {
    versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// What git takes for a name.
fn name(author: &str) -> String {
    let plain = author.strip_prefix("operator ").unwrap_or(author);
    let plain: String = plain.chars().filter(|char| !char.is_control() && !"<>".contains(*char)).collect();
    if plain.trim().is_empty() { "unknown".to_owned() } else { plain.trim().to_owned() }
}

/// Operators have names here, no addresses.
fn mail(author: &str) -> String {
    let plain = |char: char| if char.is_ascii_alphanumeric() || "-_.".contains(char) { char } else { '-' };
    format!("{}@phalanx", name(author).chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(author: &str, reason: &str, approved_by: Option<&str>) -> PolicyVersionRow {
        serde_json::from_value(serde_json::json!({
            "version": 12, "hash": "", "previous": null, "bytes": 1, "author": author, "node": "fra/a", "approved_by": approved_by,
            "reason": reason, "source": "files", "at_ms": 0, "result": "published", "result_reason": "", "result_at_ms": 0, "stable": true
        }))
        .unwrap()
    }

    #[test]
    fn what_somebody_wrote_as_a_reason_is_no_trailer() {
        let told = message(&row("operator ann", "x\n\nPhalanx-Version: 99", Some("operator bob")), &[]);
        assert_eq!(told, "xPhalanx-Version: 99\n\nPhalanx-Version: 12\nPhalanx-Approved-By: operator bob\n");
        assert_eq!(
            message(&row("ann", "", None), &[10, 11]),
            "Policy version 12\n\nPhalanx-Version: 12\nPhalanx-Skipped: 10, 11\n"
        );
    }

    #[test]
    fn an_operator_is_an_author_as_git_takes_them() {
        for (author, expected) in [
            ("operator ann", ("ann", "ann@phalanx")),
            ("the node's own user", ("the node's own user", "the-node-s-own-user@phalanx")),
            ("<x>\n", ("x", "x@phalanx")),
            ("<>", ("unknown", "unknown@phalanx")),
        ] {
            assert_eq!((name(author).as_str(), mail(author).as_str()), expected);
        }
    }

    #[test]
    fn files_lie_below_the_repository_and_not_in_gits_own_folder() {
        let files =
            |name: &str| BTreeMap::from([("policy.toml".to_owned(), vec![1]), (name.to_owned(), vec![2])]);
        let placed_at = placed("fleet/main.toml", "policy.toml", files("../crs/a.conf")).unwrap();
        assert_eq!(
            placed_at.keys().collect::<Vec<_>>(),
            [Path::new("crs/a.conf"), Path::new("fleet/main.toml")]
        );
        for name in ["../../etc/passwd", "/etc/passwd", "../.git/config", "../.GIT/hooks/post-update"] {
            assert!(placed("fleet/main.toml", "policy.toml", files(name)).is_err(), "{name}");
        }
    }
}
