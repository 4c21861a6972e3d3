//! `phalanx policy follow`: a branch of a git repository and the fleet's policy, kept in step both ways.
//!
//! Flow in names: [`Facts`] (the branch, the fleet's versions) -> [`next`] -> versions become commits (`write`), or the branch's newest
//! signed commit becomes a change, as `policy apply` makes it.
//!
//! It is a command and not a part of the node, which is confined and cannot run git. It keeps nothing: which commit is which version
//! stands in the commits (`Phalanx-Version`) and in the fleet's history (`commit ID`), so that it may end and begin at any moment.
//!
//! INVARIANT: the branch moves forward only, by a commit on its tip; where both moved, nothing is done until somebody says which counts.

mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use phalanx_control::api::{PolicyChange, PolicyChangeState, PolicyContent, PolicyVersionRow};
use phalanx_policy::FileSet;
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use super::repository::Git;
use super::{policy_git, print};
use crate::client::{AdminArgs, Client};

/// Arguments of `policy follow`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "phalanx policy follow [OPTIONS] --git <DIR> --branch <NAME>\n           --allowed-signers <FILE>"
)]
pub(crate) struct FollowArgs {
    /// The repository; one without a work tree, or whose work tree is on another branch
    #[arg(long, value_name = "DIR")]
    git: PathBuf,
    /// The branch
    #[arg(long, value_name = "NAME")]
    branch: String,
    /// The policy file in it
    #[arg(long, value_name = "PATH", default_value = "policy.toml")]
    file: String,
    /// Who may sign: lines of a name and an SSH key, as `ssh-keygen` and git read them
    #[arg(long, value_name = "FILE")]
    allowed_signers: PathBuf,
    /// Look once, do what is to be done, and end
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = print::parse_duration, conflicts_with = "once")]
    every: u64,
    /// With --once, where both moved: what counts. The other side's part stays in the history
    #[arg(long, value_name = "SIDE", requires = "once")]
    keep: Option<Keep>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Which side counts where both moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// What the fleet runs
    Fleet,
    /// What the branch says
    Git,
}

/// The commit that is a version of the fleet, nearest to the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    commit: String,
    version: u64,
}

/// How both stand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    anchor: Option<Anchor>,
    /// The tip has a policy.
    has_policy: bool,
    /// Its policy is another than that of the anchor.
    moved: bool,
    /// It is what all nodes are to run.
    same: bool,
    /// The version that all nodes are to run; 0: none.
    stable: u64,
    /// The newest, on trial or not; 0: none.
    newest: u64,
    /// Versions after the anchor that all nodes got.
    unwritten: Vec<u64>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Nothing,
    /// These versions become commits.
    Write(Vec<u64>),
    /// A commit that changes nothing says that the tip is this version.
    Mark(u64),
    /// The tip becomes a change, on this version.
    Apply(u64),
    /// Both moved.
    Conflict,
}

fn next(facts: &Facts, keep: Option<Keep>) -> Step {
    let begins = facts.anchor.is_none();
    let in_git = if begins { facts.has_policy } else { facts.moved };
    // Of what was before it began, only what runs is written.
    let unwritten = if begins && facts.stable > 0 { vec![facts.stable] } else { facts.unwritten.clone() };
    match (in_git, unwritten.is_empty()) {
        (false, true) => Step::Nothing,
        (false, false) => Step::Write(unwritten),
        (true, _) if facts.same => Step::Mark(facts.stable),
        (true, true) => Step::Apply(facts.newest),
        (true, false) => match keep {
            None => Step::Conflict,
            Some(Keep::Fleet) => Step::Write(unwritten),
            Some(Keep::Git) => Step::Apply(facts.newest),
        },
    }
}

/// Keeps both in step, until it is ended or both have moved.
pub(crate) fn run(args: &FollowArgs) -> anyhow::Result<ExitCode> {
    let follower = Follower::new(args)?;
    let mut last = String::new();
    loop {
        match follower.round() {
            Ok(done) => done.iter().try_for_each(|one| follower.tell(one, &mut last))?,
            Err(error) if args.once || error.is::<Conflict>() => return Err(error),
            // The node restarts, or somebody pushes: it is tried again. Once is enough to say so.
            Err(error) => {
                let words = format!("{error:#}");
                if words != last {
                    eprintln!("{}", for_terminal(&words));
                    last = words;
                }
            }
        }
        if args.once {
            return Ok(ExitCode::SUCCESS);
        }
        pause(Duration::from_millis(args.every.max(EVERY_LEAST_MS)));
    }
}

#[expect(clippy::disallowed_methods, reason = "neither git nor the node tells of a change: both are asked")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// What was done, or what hinders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "done", rename_all = "snake_case")]
enum Done {
    /// A version is a commit now.
    Written { version: u64, commit: String },
    /// The tip is known to be a version.
    Marked { version: u64, commit: String },
    /// The tip's policy is in force.
    Applied { commit: String, version: Option<u64> },
    /// It waits for a second operator.
    Waits { commit: String, change: String },
    /// It was rejected, or nobody approved it in time; another commit may follow.
    Refused { commit: String, change: String, why: String },
    /// Nothing is to be done.
    InStep { commit: String, version: u64 },
}

struct Follower<'a> {
    args: &'a FollowArgs,
    client: Client,
    reference: String,
}

impl<'a> Follower<'a> {
    fn new(args: &'a FollowArgs) -> anyhow::Result<Self> {
        let reference = format!("refs/heads/{}", args.branch);
        let follower = Self { args, client: Client::new(&args.admin)?, reference };
        let git = follower.git();
        git.text(&["check-ref-format", &follower.reference])
            .with_context(|| format!("{:?} is no name of a branch", args.branch))?;
        let out = git.text(&["worktree", "list", "--porcelain"])?;
        let named = format!("branch {}", follower.reference);
        let is_bare = git.text(&["rev-parse", "--is-bare-repository"])?.trim() == "true";
        if !is_bare && out.lines().any(|line| line == named) {
            bail!(
                "branch {} is checked out in {}: new commits would look like changes of the work tree. Give a clone without \
                 one (git clone --bare), or check out another branch there",
                args.branch,
                args.git.display()
            );
        }
        Ok(follower)
    }

    fn git(&self) -> Git {
        Git { dir: self.args.git.clone(), commit: String::new() }
    }

    fn tip(&self) -> anyhow::Result<Option<Git>> {
        let known = self.git().text(&["for-each-ref", "--format=%(objectname)", &self.reference])?;
        if known.trim().is_empty() {
            return Ok(None);
        }
        Git::open(&self.args.git, &self.reference).map(Some)
    }

    fn versions(&self) -> anyhow::Result<Vec<PolicyVersionRow>> {
        Ok(serde_json::from_value(self.client.get("policy/versions")?)?)
    }

    /// The files of a version, as paths of the repository.
    fn content(&self, version: u64) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let answer = self.client.get_patiently(&format!("policy/versions/{version}"))?;
        let content: PolicyContent = serde_json::from_value(answer)?;
        if let Some(name) = content.withheld.first() {
            bail!(
                "version {version} has the private key {name:?}, which is not given out, so it cannot become a commit. Name keys by \
                 a path of each node, outside of the policy's files"
            );
        }
        let decoded = content.files.iter().map(|(name, text)| Ok((name.clone(), STANDARD.decode(text)?)));
        let files: BTreeMap<String, Vec<u8>> = decoded.collect::<anyhow::Result<_>>()?;
        write::placed(&self.args.file, &content.entry, files)
    }

    /// The policy of a commit, likewise; nothing if it has no such file.
    fn committed(&self, git: &Git) -> anyhow::Result<Option<BTreeMap<PathBuf, Vec<u8>>>> {
        let listed =
            git.text(&["ls-tree", "--full-tree", "--name-only", &git.commit, "--", &self.args.file])?;
        if listed.trim().is_empty() {
            return Ok(None);
        }
        let (entry, files) = git.policy(&self.args.file)?;
        write::placed(&self.args.file, &entry, owned(&files)).map(Some)
    }

    fn round(&self) -> anyhow::Result<Vec<Done>> {
        let (tip, rows) = (self.tip()?, self.versions()?);
        let facts = self.facts(tip.as_ref(), &rows)?;
        let step = next(&facts, self.args.keep);
        let Some(tip) = tip else {
            return match step {
                Step::Write(versions) => self.write(None, &versions, &rows),
                _ => bail!(
                    "there is no branch {}, and the fleet has no policy that it could begin with",
                    self.args.branch
                ),
            };
        };
        match step {
            Step::Nothing => Ok(vec![Done::InStep { commit: tip.commit, version: facts.stable }]),
            Step::Write(versions) => self.write(Some(&tip), &versions, &rows),
            Step::Mark(version) => {
                let row = row(&rows, version)?;
                let commit = write::commit(&tip, Some(&tip.commit), &write::tree_of(&tip)?, row)?;
                self.moves(&tip, Some(&tip.commit), &commit)?;
                Ok(vec![Done::Marked { version, commit }])
            }
            Step::Apply(base) => self.apply(&tip, base).map(|done| vec![done]),
            Step::Conflict => Err(self.conflict(&tip, &facts, &rows)?.into()),
        }
    }

    fn facts(&self, tip: Option<&Git>, rows: &[PolicyVersionRow]) -> anyhow::Result<Facts> {
        let newest = rows.iter().map(|row| row.version).max().unwrap_or_default();
        let stable = rows.iter().find(|row| row.stable).map_or(0, |row| row.version);
        let anchor = tip.map(|tip| anchor(tip, rows, newest)).transpose()?.flatten();
        let held = tip.map(|tip| self.committed(tip)).transpose()?.flatten();
        let mut moved = false;
        if let (Some(anchor), Some(tip)) = (&anchor, tip) {
            let there = self.committed(&Git { commit: anchor.commit.clone(), ..tip.clone() })?;
            moved = there != held;
            if row(rows, anchor.version).is_ok() && there != Some(self.content(anchor.version)?) {
                bail!(
                    "commit {} says that it is version {} of the fleet, and holds another policy: somebody wrote that line into it. \
                     Take the commit back, or write one without the line on it",
                    anchor.commit,
                    anchor.version
                );
            }
        }
        let after = anchor.as_ref().map_or(0, |anchor| anchor.version);
        let reached = |row: &&PolicyVersionRow| {
            row.version > after
                && row.version <= stable
                && row.result != "rolled_back"
                && row.result != "on_trial"
        };
        let mut unwritten: Vec<u64> = rows.iter().filter(reached).map(|row| row.version).collect();
        unwritten.sort_unstable();
        let same = held.is_some() && stable > 0 && held == Some(self.content(stable)?);
        Ok(Facts { anchor, has_policy: held.is_some(), moved, same, stable, newest, unwritten })
    }

    fn write(
        &self,
        tip: Option<&Git>,
        versions: &[u64],
        rows: &[PolicyVersionRow],
    ) -> anyhow::Result<Vec<Done>> {
        let git = self.git();
        let mut parent = tip.map(|tip| tip.commit.clone());
        let mut before = tip.map(|tip| self.committed(tip)).transpose()?.flatten().unwrap_or_default();
        let mut done = Vec::new();
        for &version in versions {
            let files = self.content(version)?;
            let tree = write::tree(&git, parent.as_deref(), &before, &files)?;
            let commit = write::commit(&git, parent.as_deref(), &tree, row(rows, version)?)?;
            self.moves(&git, parent.as_deref(), &commit)?;
            done.push(Done::Written { version, commit: commit.clone() });
            (parent, before) = (Some(commit), files);
        }
        Ok(done)
    }

    /// Moves the branch from one commit to the next, unless somebody else moved it meanwhile.
    fn moves(&self, git: &Git, from: Option<&str>, to: &str) -> anyhow::Result<()> {
        let from = from.map_or_else(|| "0".repeat(to.len()), str::to_owned);
        git.text(&["update-ref", "-m", "phalanx policy follow", &self.reference, to, &from])
            .map(|_| ())
            .with_context(|| {
                format!("branch {} was moved meanwhile; nothing is lost, look again", self.args.branch)
            })
    }

    /// The tip as a change, unless it was asked for before.
    fn apply(&self, tip: &Git, base: u64) -> anyhow::Result<Done> {
        let changes: Vec<PolicyChange> = serde_json::from_value(self.client.get("policy/changes")?)?;
        let source = policy_git::source(&tip.commit);
        let commit = tip.commit.clone();
        if let Some(asked) = changes.into_iter().find(|change| change.source == source) {
            let change = asked.id;
            match asked.state {
                PolicyChangeState::Waiting => return Ok(Done::Waits { commit, change }),
                PolicyChangeState::Rejected => {
                    let why = format!("it was rejected: {}", asked.decided_reason);
                    return Ok(Done::Refused { commit, change, why });
                }
                // What waited too long may be asked for again; what was published and rolled back is no tip any more.
                PolicyChangeState::Expired | PolicyChangeState::Published => {}
            }
        }
        let signer = tip.signer(&self.args.allowed_signers)?;
        let order = policy_git::order(tip, &signer, tip.policy(&self.args.file)?, Some(base))?;
        let answer = self.client.post_patiently("policy/changes", &serde_json::to_value(order)?)?;
        let made: PolicyChange = serde_json::from_value(answer)?;
        Ok(match made.state {
            PolicyChangeState::Waiting => Done::Waits { commit, change: made.id },
            _ => Done::Applied { commit, version: made.version },
        })
    }

    fn conflict(&self, tip: &Git, facts: &Facts, rows: &[PolicyVersionRow]) -> anyhow::Result<Conflict> {
        let subject = tip.text(&["log", "-1", "--format=%s", &tip.commit])?;
        let version = facts.unwritten.last().copied().unwrap_or(facts.stable);
        let row = row(rows, version)?;
        let (branch, git) = (&self.args.branch, self.args.git.display());
        let whole = format!(
            "phalanx policy follow --git {git} --branch {branch} --file {} --allowed-signers {} --once --keep",
            self.args.file,
            self.args.allowed_signers.display()
        );
        Ok(Conflict(format!(
            "both moved, so that nothing was done: branch {branch} has commit {} ({:?}), and the fleet has version {version} of {} \
             ({:?}), which the branch has not.\n  to keep what the fleet runs: {whole} fleet\n  to keep what the branch says: {whole} \
             git\n  to keep both: `phalanx policy show {version} --to DIR`, put it together with yours in a signed commit, then keep \
             the branch's",
            tip.commit,
            subject.trim(),
            row.author.as_deref().unwrap_or("nobody known"),
            row.reason,
        )))
    }

    /// Prints what is new.
    fn tell(&self, done: &Done, last: &mut String) -> anyhow::Result<()> {
        let words = words(done, &self.args.branch);
        if *last == words {
            return Ok(());
        }
        if self.args.admin.json {
            print::json(&serde_json::to_value(done)?)?;
        } else {
            print::text(&format!("{}\n", for_terminal(&words)))?;
        }
        *last = words;
        Ok(())
    }
}

fn words(done: &Done, branch: &str) -> String {
    match done {
        Done::Written { version, commit } => format!("version {version} is commit {commit} of {branch}"),
        Done::Marked { version, commit } => {
            format!("{branch} says what version {version} says; commit {commit} marks that")
        }
        Done::Applied { commit, version } => match version {
            Some(version) => format!("commit {commit} of {branch} is version {version}"),
            None => format!("commit {commit} of {branch} is published"),
        },
        Done::Waits { commit, change } => format!(
            "commit {commit} of {branch} takes protection away: change {change} waits for a second operator"
        ),
        Done::Refused { commit, change, why } => {
            format!("commit {commit} of {branch}, change {change}: {why}. Write another commit on it")
        }
        Done::InStep { version: 0, .. } => format!("neither {branch} nor the fleet has a policy yet"),
        Done::InStep { commit, version } => {
            format!("{branch} and the fleet are in step at commit {commit}, version {version}")
        }
    }
}

/// Both moved.
#[derive(Debug)]
struct Conflict(String);

impl std::fmt::Display for Conflict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Conflict {}

/// The commit nearest to the tip that is a version: written by this command, or applied.
fn anchor(tip: &Git, rows: &[PolicyVersionRow], newest: u64) -> anyhow::Result<Option<Anchor>> {
    let most = format!("--max-count={COMMITS_MAX}");
    let format = "--format=%H %(trailers:key=Phalanx-Version,valueonly,unfold,separator=%x2C)";
    let told = tip.text(&["log", "--first-parent", &most, format, &tip.commit])?;
    Ok(told.lines().find_map(|line| anchored(line, rows, newest)))
}

fn anchored(line: &str, rows: &[PolicyVersionRow], newest: u64) -> Option<Anchor> {
    // What somebody wrote over two lines is none.
    let is_id =
        |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (commit, trailer) = line.split_once(' ').filter(|(commit, _)| is_id(commit))?;
    let source = policy_git::source(commit);
    let applied = rows.iter().filter(|row| row.source == source).map(|row| row.version).max();
    let written = trailer.trim().parse().ok().filter(|version| (1..=newest).contains(version));
    applied.or(written).map(|version| Anchor { commit: commit.to_owned(), version })
}

fn row(rows: &[PolicyVersionRow], version: u64) -> anyhow::Result<&PolicyVersionRow> {
    let found = rows.iter().find(|row| row.version == version);
    found.with_context(|| format!("the fleet does not remember version {version} any more"))
}

fn owned(files: &FileSet) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

/// A commit that is further from the tip than this is not looked for: who let so many come has both sides compared anew.
const COMMITS_MAX: usize = 1_000;
const EVERY_LEAST_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(anchor: Option<u64>, moved: bool, unwritten: &[u64]) -> Facts {
        let stable = unwritten.last().copied().or(anchor).unwrap_or_default();
        let anchor = anchor.map(|version| Anchor { commit: "c".into(), version });
        Facts {
            anchor,
            has_policy: true,
            moved,
            same: false,
            stable,
            newest: stable,
            unwritten: unwritten.to_vec(),
        }
    }

    #[test]
    fn what_to_do_follows_from_who_moved() {
        let none = Facts { has_policy: false, ..facts(None, false, &[]) };
        let cases = [
            ("neither has a policy", none.clone(), Step::Nothing),
            ("the first policy is the branch's", facts(None, false, &[]), Step::Apply(0)),
            (
                "the first policy is the fleet's",
                Facts { stable: 7, unwritten: vec![5, 7], ..none },
                Step::Write(vec![7]),
            ),
            ("both have one, and the same", Facts { same: true, ..facts(None, false, &[3]) }, Step::Mark(3)),
            ("both have one", facts(None, false, &[3]), Step::Conflict),
            ("in step", facts(Some(3), false, &[]), Step::Nothing),
            ("the fleet moved", facts(Some(3), false, &[4, 5]), Step::Write(vec![4, 5])),
            ("the branch moved", facts(Some(3), true, &[]), Step::Apply(3)),
            ("both moved", facts(Some(3), true, &[4]), Step::Conflict),
            ("both moved to the same", Facts { same: true, ..facts(Some(3), true, &[4]) }, Step::Mark(4)),
        ];
        for (case, facts, expected) in cases {
            assert_eq!(next(&facts, None), expected, "{case}");
        }
        assert_eq!(next(&facts(Some(3), true, &[4]), Some(Keep::Fleet)), Step::Write(vec![4]));
        assert_eq!(next(&facts(Some(3), true, &[4]), Some(Keep::Git)), Step::Apply(4));
    }

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
            assert_eq!(anchored(line, &rows, 4).map(|anchor| anchor.version), expected, "{line}");
        }
    }
}
