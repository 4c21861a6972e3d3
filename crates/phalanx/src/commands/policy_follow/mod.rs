//! `phalanx policy follow`: a branch of a git repository and the fleet's policy, kept in step both ways.
//!
//! Flow in names: [`Facts`] (the branch, the fleet's versions) -> [`next`] -> versions become commits (`write`), or the branch's newest
//! signed commit becomes a change, as `policy apply` makes it.
//!
//! It is a command and not a part of the node, which is confined and cannot run git. It keeps nothing: which commit is which version
//! stands in the commits (`Phalanx-Version`) and in the fleet's history (`commit ID`), so that it may end and begin at any moment.
//!
//! INVARIANT: of a commit that nobody who may signed, nothing is compiled or written anywhere: ids of its files are compared.
//! INVARIANT: the branch moves forward only, by a commit on its tip; where both moved, nothing is done until somebody says which counts.

mod reading;
mod write;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use phalanx_control::api::{
    PolicyChange, PolicyChangeState, PolicyFollowState, PolicyFollowing, PolicyVersionRow,
};
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use reading::{Said, Seen};

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

/// Keeps both in step, until it is ended.
pub(crate) fn run(args: &FollowArgs) -> anyhow::Result<ExitCode> {
    let follower = Follower::new(args)?;
    let mut last = String::new();
    loop {
        let looked = follower.round();
        match &looked {
            Ok(done) => done.iter().try_for_each(|one| follower.tell(one, &mut last))?,
            Err(_) if args.once => {}
            // The node restarts, somebody pushes, a person has to decide: it looks again. Once is enough to say so.
            Err(error) => {
                let words = format!("{error:#}");
                if words != last {
                    eprintln!("{}", lines_for_terminal(&words));
                    last = words;
                }
            }
        }
        follower.report(&looked);
        if args.once {
            return looked.map(|_| ExitCode::SUCCESS);
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
    /// Versions whose content the fleet does not keep any more have no commit.
    Skipped { versions: Vec<u64> },
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
    /// As versions and changes name who runs this; empty at a node of an earlier version.
    author: String,
    /// The tip and the versions that were in step.
    idle: RefCell<Option<(String, Vec<PolicyVersionRow>)>>,
    /// The tip, its version and the versions that it lacks, when it was last looked at.
    seen: RefCell<(Option<String>, u64, u64)>,
}

impl<'a> Follower<'a> {
    fn new(args: &'a FollowArgs) -> anyhow::Result<Self> {
        let reference = format!("refs/heads/{}", args.branch);
        let mut follower = Self {
            args,
            client: Client::new(&args.admin)?,
            reference,
            author: String::new(),
            idle: RefCell::default(),
            seen: RefCell::default(),
        };
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
        follower.author = follower.who();
        Ok(follower)
    }

    /// Whoever a node takes us for. If it cannot be asked now, it is asked again where that counts.
    fn who(&self) -> String {
        let me = self.client.get("me").ok();
        me.and_then(|me| Some(me.get("author")?.as_str()?.to_owned())).unwrap_or_default()
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

    fn round(&self) -> anyhow::Result<Vec<Done>> {
        let (tip, rows) = (self.tip()?, self.versions()?);
        let now = tip.as_ref().map(|tip| (tip.commit.clone(), rows.clone()));
        if let (Some((commit, _)), true) = (&now, now == *self.idle.borrow()) {
            let version = rows.iter().find(|row| row.stable).map_or(0, |row| row.version);
            return Ok(vec![Done::InStep { commit: commit.clone(), version }]);
        }
        let Seen { facts, said, before } = self.facts(tip.as_ref(), &rows)?;
        let behind = u64::try_from(facts.unwritten.len()).unwrap_or(u64::MAX);
        let version = facts.anchor.as_ref().map_or(0, |anchor| anchor.version);
        *self.seen.borrow_mut() = (tip.as_ref().map(|tip| tip.commit.clone()), version, behind);
        let step = next(&facts, self.args.keep);
        let Some(tip) = tip else {
            return match step {
                Step::Write(versions) => self.write(None, before, &versions, &rows),
                _ => bail!(
                    "there is no branch {}, and the fleet has no policy that it could begin with",
                    self.args.branch
                ),
            };
        };
        match step {
            Step::Nothing => {
                *self.idle.borrow_mut() = now;
                Ok(vec![Done::InStep { commit: tip.commit, version: facts.stable }])
            }
            Step::Write(versions) => self.write(Some(&tip), before, &versions, &rows),
            Step::Mark(version) => {
                let row = row(&rows, version)?;
                let commit = write::commit(&tip, Some(&tip.commit), &write::tree_of(&tip)?, row, &[])?;
                self.moves(&tip, Some(&tip.commit), &commit)?;
                Ok(vec![Done::Marked { version, commit }])
            }
            Step::Apply(base) => self.apply(&tip, said, base).map(|done| vec![done]),
            Step::Conflict => Err(self.conflict(&tip, &facts, &rows)?.into()),
        }
    }

    /// Versions as commits on the tip; `before`: the files of the policy that it has.
    fn write(
        &self,
        tip: Option<&Git>,
        mut before: BTreeSet<PathBuf>,
        versions: &[u64],
        rows: &[PolicyVersionRow],
    ) -> anyhow::Result<Vec<Done>> {
        let git = self.git();
        let mut parent = tip.map(|tip| tip.commit.clone());
        let (mut done, mut skipped) = (Vec::new(), Vec::new());
        for &version in versions {
            let Some(files) = self.content(version)? else {
                skipped.push(version);
                continue;
            };
            let tree = write::tree(&git, parent.as_deref(), &before, &files)?;
            let commit = write::commit(&git, parent.as_deref(), &tree, row(rows, version)?, &skipped)?;
            self.moves(&git, parent.as_deref(), &commit)?;
            if !skipped.is_empty() {
                done.push(Done::Skipped { versions: std::mem::take(&mut skipped) });
            }
            done.push(Done::Written { version, commit: commit.clone() });
            *self.seen.borrow_mut() = (Some(commit.clone()), version, 0);
            (parent, before) = (Some(commit), files.into_keys().collect());
        }
        match skipped.last() {
            None => Ok(done),
            Some(last) => bail!(
                "the fleet has version {last} and cannot give its content, so it cannot become a commit; `phalanx policy show {last}` \
                 says why"
            ),
        }
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
    fn apply(&self, tip: &Git, said: Said, base: u64) -> anyhow::Result<Done> {
        let (signer, policy) = match said {
            Said::Good { signer, policy, .. } => (signer, policy),
            Said::Unsigned(words) => return Err(Fault { state: PolicyFollowState::Unsigned, words }.into()),
            Said::Faulty(why) => bail!("{why}\nnothing was applied: write another commit on it"),
            Said::Nothing => bail!(
                "commit {} has no file {:?} any more, and without a policy there is nothing to apply: write another commit on it, or \
                 give --file where it is now",
                tip.commit,
                self.args.file
            ),
        };
        let changes: Vec<PolicyChange> = serde_json::from_value(self.client.get("policy/changes")?)?;
        let me = if self.author.is_empty() { self.who() } else { self.author.clone() };
        // What others say that their change is made of is their word; only ours counts for what was asked.
        let ours = |change: &PolicyChange| {
            policy_git::is_source(&change.source, &tip.commit) && (me.is_empty() || change.author == me)
        };
        let commit = tip.commit.clone();
        if let Some(asked) = changes.into_iter().find(ours) {
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
        let order = policy_git::order(tip, &signer, policy, Some(base))?;
        let answer = self.client.post_patiently("policy/changes", &serde_json::to_value(order)?)?;
        let made: PolicyChange = serde_json::from_value(answer)?;
        Ok(match made.state {
            PolicyChangeState::Waiting => Done::Waits { commit, change: made.id },
            _ => Done::Applied { commit, version: made.version },
        })
    }

    fn conflict(&self, tip: &Git, facts: &Facts, rows: &[PolicyVersionRow]) -> anyhow::Result<Fault> {
        let subject = tip.text(&["log", "-1", "--format=%s", &tip.commit])?;
        let version = facts.unwritten.last().copied().unwrap_or(facts.stable);
        let row = row(rows, version)?;
        let (branch, git) = (&self.args.branch, self.args.git.display());
        let whole = format!(
            "phalanx policy follow --git {git} --branch {branch} --file {} --allowed-signers {} --once --keep",
            self.args.file,
            self.args.allowed_signers.display()
        );
        let words = format!(
            "both moved, so that nothing was done: branch {branch} has commit {} ({:?}), and the fleet has version {version} of {} \
             ({:?}), which the branch has not.\n  to keep what the fleet runs: {whole} fleet\n  to keep what the branch says: {whole} \
             git\n  to keep both: `phalanx policy show {version} --to DIR`, put it together with yours in a signed commit, then keep \
             the branch's",
            tip.commit,
            subject.trim(),
            row.author.as_deref().unwrap_or("nobody known"),
            row.reason,
        );
        Ok(Fault { state: PolicyFollowState::Conflict, words })
    }

    /// Tells the node how it went, for people to see. Whether it hears is not what counts.
    fn report(&self, looked: &anyhow::Result<Vec<Done>>) {
        let (commit, version, behind) = self.seen.borrow().clone();
        let (state, words) = match looked {
            Err(error) => {
                let state = error.downcast_ref::<Fault>().map_or(PolicyFollowState::Failed, |it| it.state);
                (state, format!("{error:#}"))
            }
            Ok(done) => {
                let state = match done.last() {
                    Some(Done::InStep { .. }) | None => PolicyFollowState::InStep,
                    Some(Done::Waits { .. }) => PolicyFollowState::Waiting,
                    Some(Done::Refused { .. }) => PolicyFollowState::Refused,
                    Some(_) => PolicyFollowState::Moved,
                };
                let told: Vec<String> = done.iter().map(|one| words(one, &self.args.branch)).collect();
                (state, told.join("\n"))
            }
        };
        let dir = self.args.git.canonicalize().unwrap_or_else(|_| self.args.git.clone());
        let cut = |text: String, most: usize| text.chars().take(most).collect::<String>();
        let said = PolicyFollowing {
            name: cut(format!("{} of {}", self.args.branch, dir.display()), NAME_CHARS_MAX),
            every_ms: (!self.args.once).then_some(self.args.every),
            state,
            words: cut(words, WORDS_CHARS_MAX),
            commit,
            version,
            behind,
        };
        if let Ok(said) = serde_json::to_value(said) {
            let _ = self.client.post("policy/followers", Some(&said));
        }
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
        Done::Skipped { versions } => format!(
            "the fleet does not keep the content of version {} any more, which has no commit",
            write::listed(versions)
        ),
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

/// What a person has to decide.
#[derive(Debug)]
struct Fault {
    state: PolicyFollowState,
    words: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.words)
    }
}

impl std::error::Error for Fault {}

/// Escapes each line, and keeps the line breaks, which are ours.
fn lines_for_terminal(text: &str) -> String {
    text.lines().map(for_terminal).collect::<Vec<_>>().join("\n")
}

fn row(rows: &[PolicyVersionRow], version: u64) -> anyhow::Result<&PolicyVersionRow> {
    let found = rows.iter().find(|row| row.version == version);
    found.with_context(|| format!("the fleet does not remember version {version} any more"))
}

const EVERY_LEAST_MS: u64 = 1_000;
/// Of four bytes at most each, so that the node takes them.
const NAME_CHARS_MAX: usize = 128;
const WORDS_CHARS_MAX: usize = 1_024;

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
}
