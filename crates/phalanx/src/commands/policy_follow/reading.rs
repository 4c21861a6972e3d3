//! How the branch and the fleet stand: which commit is which version, and whether the tip says something else.
//!
//! Flow in names: ids of a commit's files, and the content of the version that it is said to be -> [`Anchor`] -> the tip's signature ->
//! its policy -> [`Facts`].
//!
//! INVARIANT: a commit is compiled and written to a folder only after its signature was found good. Of all others ids are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use phalanx_control::api::{PolicyContent, PolicyVersionRow};
use phalanx_policy::FileSet;
use phalanx_trust::git_blob_id;

use super::{Anchor, Facts, Follower, write};
use crate::client::is_refused;
use crate::commands::policy_git;
use crate::commands::repository::Git;

/// Files of a policy, by their paths in the repository.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;
/// Ids of a commit's files.
type Listing = BTreeMap<PathBuf, String>;

/// How both stand, and what that was read from.
pub(super) struct Seen {
    pub(super) facts: Facts,
    pub(super) said: Said,
    /// Files of the policy that the tip has, as far as they are known.
    pub(super) before: BTreeSet<PathBuf>,
}

/// What the tip says.
pub(super) enum Said {
    /// Nothing else than the version that it is, or it has no policy.
    Nothing,
    /// Nobody who may has signed it; why that is thought.
    Unsigned(String),
    /// It is signed, and cannot be used; why.
    Faulty(String),
    /// It is signed, and compiles.
    Good { signer: String, policy: (String, FileSet), files: Files },
}

impl Follower<'_> {
    pub(super) fn facts(&self, tip: Option<&Git>, rows: &[PolicyVersionRow]) -> anyhow::Result<Seen> {
        let newest = rows.iter().map(|row| row.version).max().unwrap_or_default();
        let stable = rows.iter().find(|row| row.stable).map_or(0, |row| row.version);
        let listing = tip.map(Git::files).transpose()?.unwrap_or_default();
        let (anchor, doubt) = match tip {
            Some(tip) => self.anchor(tip, rows, newest)?,
            None => (None, None),
        };
        let known = match &anchor {
            Some(anchor) => self.content(anchor.version)?,
            None => None,
        };
        let there = match (&anchor, tip) {
            (Some(anchor), Some(tip)) if anchor.commit != tip.commit => {
                Some(Git { commit: anchor.commit.clone(), ..tip.clone() }.files()?)
            }
            _ => None,
        };
        let differs = there.as_ref().map_or(anchor.is_none(), |there| *there != listing);
        let said = match tip {
            Some(tip) if differs => self.said(tip, &listing, doubt)?,
            _ => Said::Nothing,
        };
        let moved = differs && there.is_some_and(|there| moved(&there, &listing, known.as_ref(), &said));
        let has_policy = listing.contains_key(Path::new(&self.args.file));
        let mut same = false;
        if stable > 0 && has_policy && (moved || anchor.is_none()) {
            same = self.content(stable)?.is_some_and(|content| match &said {
                Said::Good { files, .. } => *files == content,
                _ => agrees(&listing, &content),
            });
        }
        let after = anchor.as_ref().map_or(0, |anchor| anchor.version);
        let mut before: BTreeSet<PathBuf> = known.into_iter().flat_map(BTreeMap::into_keys).collect();
        if let Said::Good { files, .. } = &said {
            before.extend(files.keys().cloned());
        }
        let unwritten = unwritten(rows, after, stable);
        let facts = Facts { anchor, has_policy, moved, same, stable, newest, unwritten };
        Ok(Seen { facts, said, before })
    }

    /// The files of a version, as paths of the repository; nothing if nobody has them any more, or this version of the product cannot read
    /// them.
    pub(super) fn content(&self, version: u64) -> anyhow::Result<Option<Files>> {
        let answer = match self.client.get_patiently(&format!("policy/versions/{version}")) {
            Err(error) if GONE.iter().any(|code| is_refused(&error, code)) => return Ok(None),
            answer => answer?,
        };
        let content: PolicyContent = serde_json::from_value(answer)?;
        if let Some(name) = content.withheld.first() {
            bail!(
                "version {version} has the private key {name:?}, which is not given out, so it cannot become a commit. Name keys by \
                 a path of each node, outside of the policy's files"
            );
        }
        let decoded = content.files.iter().map(|(name, text)| Ok((name.clone(), STANDARD.decode(text)?)));
        let files: BTreeMap<String, Vec<u8>> = decoded.collect::<anyhow::Result<_>>()?;
        write::placed(&self.args.file, &content.entry, files).map(Some)
    }

    fn said(&self, tip: &Git, listing: &Listing, doubt: Option<String>) -> anyhow::Result<Said> {
        if !listing.contains_key(Path::new(&self.args.file)) {
            return Ok(Said::Nothing);
        }
        let signer = match tip.signer(&self.args.allowed_signers) {
            Ok(signer) => signer,
            Err(error) => {
                let doubt = doubt.map(|doubt| format!(". {doubt}")).unwrap_or_default();
                return Ok(Said::Unsigned(format!("{error:#}{doubt}")));
            }
        };
        let (entry, set) = match tip.policy(&self.args.file) {
            Ok(policy) => policy,
            Err(error) => return Ok(Said::Faulty(format!("{error:#}"))),
        };
        let owned = set.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
        let files = write::placed(&self.args.file, &entry, owned)?;
        Ok(Said::Good { signer, policy: (entry, set), files })
    }

    /// The commit nearest to the tip that is a version: written by this command, or applied. What says so in a commit or in the history is
    /// somebody's word, and counts where the files agree, or cannot be compared any more. Also why a nearer one was not believed.
    fn anchor(
        &self,
        tip: &Git,
        rows: &[PolicyVersionRow],
        newest: u64,
    ) -> anyhow::Result<(Option<Anchor>, Option<String>)> {
        let most = format!("--max-count={COMMITS_MAX}");
        let format = "--format=%H %(trailers:key=Phalanx-Version,valueonly,unfold,separator=%x2C)";
        let told = tip.text(&["log", "--first-parent", &most, format, &tip.commit])?;
        let (mut doubt, mut doubts) = (None, 0);
        for (commit, versions) in told.lines().filter_map(|line| claims(line, rows, newest)) {
            for version in versions {
                let Some(content) = self.content(version)? else {
                    return Ok((Some(Anchor { commit, version }), doubt));
                };
                let listing = Git { commit: commit.clone(), ..tip.clone() }.files();
                if listing.is_ok_and(|listing| agrees(&listing, &content)) {
                    return Ok((Some(Anchor { commit, version }), doubt));
                }
                doubts += 1;
                doubt.get_or_insert_with(|| {
                    format!("It is not version {version} of the fleet, as is said of commit {commit}: that holds another policy")
                });
            }
            if doubts > DOUBTS_MAX {
                bail!(
                    "more than {DOUBTS_MAX} commits of the branch are said to be versions that they are not; begin a new branch"
                );
            }
        }
        Ok((None, doubt))
    }
}

/// Whether the policy is another at the tip than at the anchor.
fn moved(there: &Listing, listing: &Listing, known: Option<&Files>, said: &Said) -> bool {
    match (said, known) {
        (Said::Good { files, .. }, Some(known)) => files != known,
        // A file that a folder of rules would have besides is not applied: nobody signed it, and who signs on it signs it.
        (_, Some(known)) => known.keys().any(|path| there.get(path) != listing.get(path)),
        // Which files are the policy's is not known any more.
        (_, None) => true,
    }
}

/// Whether a commit has these files.
fn agrees(listing: &Listing, files: &Files) -> bool {
    let has = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        listing.get(path).is_some_and(|id| *id == git_blob_id(bytes, id.len()))
    };
    files.iter().all(has)
}

fn unwritten(rows: &[PolicyVersionRow], after: u64, stable: u64) -> Vec<u64> {
    let reached = |row: &&PolicyVersionRow| {
        row.version > after
            && row.version <= stable
            && row.result != "rolled_back"
            && row.result != "on_trial"
    };
    let mut unwritten: Vec<u64> = rows.iter().filter(reached).map(|row| row.version).collect();
    unwritten.sort_unstable();
    unwritten
}

/// The versions that a commit is said to be, by the history first.
fn claims(line: &str, rows: &[PolicyVersionRow], newest: u64) -> Option<(String, Vec<u64>)> {
    // What somebody wrote over two lines is none.
    let is_id =
        |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (commit, trailer) = line.split_once(' ').filter(|(commit, _)| is_id(commit))?;
    let told = rows.iter().filter(|row| policy_git::is_source(&row.source, commit));
    let mut versions: Vec<u64> = told.map(|row| row.version).collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.extend(trailer.trim().parse::<u64>().ok().filter(|version| (1..=newest).contains(version)));
    (!versions.is_empty()).then(|| (commit.to_owned(), versions))
}

/// A commit that is further from the tip than this is not looked for: who let so many come has both sides compared anew.
const COMMITS_MAX: usize = 1_000;
/// Each costs a look at a commit's files.
const DOUBTS_MAX: usize = 16;
/// What a node answers of a version that is not remembered, whose content is gone, or that it cannot read.
const GONE: [&str; 3] = ["impossible", "refused", "policy_refused"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_the_version_that_the_history_or_else_its_trailer_says() {
        let rows: Vec<PolicyVersionRow> = serde_json::from_value(serde_json::json!([{
            "version": 4, "hash": "", "previous": null, "bytes": 1, "author": null, "node": null, "approved_by": null, "reason": "",
            "source": format!("commit {}", "a".repeat(40)), "at_ms": null, "result": "published", "result_reason": "", "result_at_ms": null, "stable": true
        }]))
        .unwrap();
        for (commit, trailer, expected) in [
            ("a", "", Some(4)),
            ("a", "2", Some(4)),
            ("d", "3", Some(3)),
            ("d", "", None),
            ("d", "5", None),
            ("d", "0", None),
            ("d", "3,4", None),
            ("", "3", None),
        ] {
            let line = &format!("{} {trailer}", commit.repeat(40));
            assert_eq!(
                claims(line, &rows, 4).map(|(_, versions)| versions.first().copied()).unwrap_or_default(),
                expected,
                "{line}"
            );
        }
    }
}
