//! `phalanx policy drift`, and commits as what `policy apply` and `follow` apply: a commit of a git repository on this machine as the source of policy.
//!
//! Flow in names: commit -> `git verify-commit` against the allowed signers -> its files in a folder of their own -> compiled as `push` does
//! -> a change, with the commit's id as its source.
//!
//! INVARIANT: what is applied is in the signed commit, every file of it: no link, nothing beside the commit, whatever the work tree holds.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use phalanx_control::api::{NewPolicyChange, PolicyContent, PolicyVersionRow};
use phalanx_control::policy_words::{file_sentence, sentence};
use phalanx_policy::diff::compare_files;
use phalanx_policy::{Everywhere, FileSet, diff_everywhere};
use phalanx_record::escape::{for_terminal, is_hidden};
use serde::Serialize;

use super::repository::Git;
use super::{policy_history, print, status};
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

/// The change that a signed commit is.
pub(super) fn order(
    git: &Git,
    signer: &str,
    (entry, files): (String, FileSet),
    base: Option<u64>,
) -> anyhow::Result<NewPolicyChange> {
    let subject = git.text(&["log", "-1", "--format=%s", &git.commit])?;
    Ok(NewPolicyChange {
        entry,
        files: files.iter().map(|(name, bytes)| (name.to_owned(), STANDARD.encode(bytes))).collect(),
        base,
        reason: shortened(&format!("{} (signed by {signer})", subject.trim())),
        source: Some(source(&git.commit)),
        ..NewPolicyChange::default()
    })
}

/// Where a commit's policy comes from, as we say it.
pub(super) fn source(commit: &str) -> String {
    format!("commit {commit}")
}

/// Whether that is what somebody said of a version or change; nodes of earlier versions do not tell a claim apart.
pub(super) fn is_source(told: &str, commit: &str) -> bool {
    told.strip_suffix(PolicyVersionRow::CLAIMED).unwrap_or(told) == source(commit)
}

/// Says whether a node runs what a commit says. Exit code 0: it does; 1: something differs.
pub(crate) fn drift(args: &DriftArgs) -> anyhow::Result<ExitCode> {
    let git = Git::open(&args.commit.git, &args.commit.commit)?;
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
    let of_files = compare_files((&before, &old), (&after, &new));
    let changes: Vec<String> =
        changes.iter().map(sentence).chain(of_files.iter().map(file_sentence)).collect();
    let drift = Drift { same: changes.is_empty(), commit: git.commit.clone(), running: source, changes };
    if args.admin.json {
        print::json(&drift)?;
    } else {
        print::text(&words(&drift))?;
        // A node of an earlier version has no such list.
        if let Ok(followers) = client.get("policy/followers") {
            print::text(&status::following(&serde_json::from_value::<Vec<_>>(followers)?, print::now_ms()))?;
        }
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

/// Without what no reason may have.
fn shortened(text: &str) -> String {
    text.chars().filter(|char| !is_hidden(*char)).take(REASON_CHARS_MAX).collect()
}

/// Of four bytes at most each, so that it fits.
const REASON_CHARS_MAX: usize = 60;
