//! `phalanx policy ...`: the policy of the whole fleet.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use phalanx_control::api::{Policy, PolicyHome, PolicyPush, PolicyRollback};
use phalanx_edge::EdgePlan;
use phalanx_model::{Clock, SystemClock};
use phalanx_policy::{Collector, Diagnostic, Everywhere, FileSet, Files, Level};
use phalanx_record::escape::for_terminal;
use serde_json::Value;

use super::replay::ReplayArgs;
use super::{policy_in_force, print, status};
use crate::args::parse_name;
use crate::client::{AdminArgs, Client};

/// What to do about the fleet's policy.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Try what is expected of a policy file, without network or clock: *.test.toml beside it
    Test(super::policy_test::TestArgs),
    /// Show what changes from one policy to another, by what it means
    ///
    /// How the files are written does not show. What takes protection away is told last. Exit code 0: nothing differs; 1: something does; 2: a
    /// policy cannot be read.
    Diff(super::policy_diff::DiffArgs),
    /// List the templates of apps, or print one
    Template(TemplateArgs),
    /// Make a policy file, with all that it names, the policy of all nodes
    ///
    /// An operator's API token pushes nothing that takes protection away: `phalanx policy apply` has it wait for another operator.
    Push(PushArgs),
    /// Show what applying a policy file would do: what changes, and for which recorded requests
    ///
    /// Nothing is put into force. Exit code 0: nothing would change; 1: something would; 2: the file cannot be applied.
    Plan(super::policy_plan::PlanArgs),
    /// As push, but what takes protection away waits until another operator approves; also the content of an earlier version, or of a signed
    /// commit of a git repository on this machine
    #[command(visible_alias = "propose")]
    Apply(super::policy_apply::ApplyArgs),
    /// Say whether a node runs what a commit says
    Drift(super::policy_git::DriftArgs),
    /// Keep a branch of a git repository on this machine and the fleet's policy in step: what is published elsewhere becomes commits,
    /// signed commits are applied
    Follow(super::policy_follow::FollowArgs),
    /// List changes that were asked for at a node
    Changes(super::policy_change::ChangesArgs),
    /// Show what a change does, and how it stands
    Change(super::policy_change::ChangeArgs),
    /// Publish a change that somebody else asked for, after a look at it
    Approve(super::policy_change::ApproveArgs),
    /// Say no to a change
    Reject(super::policy_change::RejectArgs),
    /// List the versions of the fleet's policy: who made each, when, why, of what, and what became of it
    History(super::policy_history::HistoryArgs),
    /// Print a version of the policy, or what a node runs
    Show(super::policy_history::ShowArgs),
    /// Show the fleet's policy, what is on trial, and which node runs what
    Status(StatusArgs),
    /// Give all nodes the policy that is on trial
    Promote(PromoteArgs),
    /// Give all nodes the content of an earlier version, under a new version
    Rollback(RollbackArgs),
    /// Show what another policy would have decided about requests that the node recorded
    ///
    /// Both that policy and the one in force judge each recorded request, and what differs is listed. Nothing is put into force. Exit code 1:
    /// requests that pass now would be refused.
    Replay(ReplayArgs),
    /// Make a site the home of policy, when the one before is lost for good
    ///
    /// What is in force stays. What the home before writes from here on counts nowhere, should it ever come back.
    MoveHome(MoveHomeArgs),
}

/// Arguments of `policy template`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TemplateArgs {
    /// The template, as `template = "NAME"` in an app names it
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// Arguments of `policy push`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PushArgs {
    /// The policy file; the rules and data that it names are read from here too
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The node that tries it first
    #[arg(long, value_name = "SITE/NODE", value_parser = super::fleet::parse_node, conflicts_with = "canary_site")]
    canary: Option<(String, String)>,
    /// The site that tries it first
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    canary_site: Option<String>,
    /// How long it is tried before all nodes get it; without it, until `phalanx policy promote`
    #[arg(long, value_name = "DURATION", value_parser = print::parse_duration)]
    bake: Option<u64>,
    /// Fail unless this is the newest version now
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT", value_parser = print::parse_reason)]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy promote`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy rollback`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    /// The version whose content is wanted [default: the one before]
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT", value_parser = print::parse_reason)]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy move-home`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MoveHomeArgs {
    /// The site
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    site: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Carries it out.
pub(crate) fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    let (admin, answer) = match command {
        PolicyCommand::Template(args) => return show_template(args),
        PolicyCommand::Test(args) => return super::policy_test::run(args),
        PolicyCommand::Diff(args) => return super::policy_diff::run(args),
        PolicyCommand::Replay(args) => return super::replay::run(args),
        PolicyCommand::Plan(args) => return super::policy_plan::run(args),
        PolicyCommand::Apply(args) => return super::policy_apply::run(args),
        PolicyCommand::Drift(args) => return super::policy_git::drift(args),
        PolicyCommand::Follow(args) => return super::policy_follow::run(args),
        PolicyCommand::Changes(args) => return super::policy_change::list(args),
        PolicyCommand::Change(args) => return super::policy_change::show(args),
        PolicyCommand::Approve(args) => return super::policy_change::approve(args),
        PolicyCommand::Reject(args) => return super::policy_change::reject(args),
        PolicyCommand::History(args) => return super::policy_history::history(args),
        PolicyCommand::Show(args) => return super::policy_history::show(args),
        PolicyCommand::Push(args) => (&args.admin, push(args)?),
        PolicyCommand::Status(args) => (&args.admin, Client::new(&args.admin)?.get("policy")?),
        PolicyCommand::Promote(args) => {
            (&args.admin, Client::new(&args.admin)?.post("policy/promote", None)?)
        }
        PolicyCommand::Rollback(args) => {
            let order = PolicyRollback { to: args.to, reason: args.reason.clone() };
            let order = serde_json::to_value(order)?;
            (&args.admin, Client::new(&args.admin)?.post("policy/rollback", Some(&order))?)
        }
        PolicyCommand::MoveHome(args) => {
            let order = serde_json::to_value(PolicyHome { site: args.site.clone() })?;
            (&args.admin, Client::new(&args.admin)?.post("policy/home", Some(&order))?)
        }
    };
    let is_published =
        matches!(command, PolicyCommand::Push(_) | PolicyCommand::Promote(_) | PolicyCommand::Rollback(_));
    let answer = if is_published { policy_in_force::awaited(admin, answer)? } else { answer };
    if admin.json {
        print::json(&answer)?;
    } else {
        let policy: Policy = serde_json::from_value(answer)?;
        print::text(&words(&policy, print::now_ms()))?;
        if is_published {
            print::text(&format!("\n{}\n", for_terminal(&policy_in_force::said(&policy))))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_template(args: &TemplateArgs) -> anyhow::Result<ExitCode> {
    use phalanx_policy::template;
    let about = |name: &str| {
        let first = template::text(name).and_then(|text| text.lines().next()).unwrap_or_default();
        first.trim_start_matches("# ").to_owned()
    };
    match &args.name {
        Some(name) => {
            let Some(text) = template::text(name) else {
                bail!(
                    "there is no template {name:?}; there are {}",
                    template::names().collect::<Vec<_>>().join(", ")
                );
            };
            match args.json {
                true => print::json(&serde_json::json!({ "name": name, "text": text }))?,
                false => print::text(text)?,
            }
        }
        None if args.json => {
            let all: Vec<Value> = template::names()
                .map(|name| serde_json::json!({ "name": name, "about": about(name) }))
                .collect();
            print::json(&all)?;
        }
        None => {
            let lines: Vec<String> =
                template::names().map(|name| format!("{name:<12}{}\n", about(name))).collect();
            print::text(&lines.concat())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn push(args: &PushArgs) -> anyhow::Result<Value> {
    if args.bake.is_some() && args.canary.is_none() && args.canary_site.is_none() {
        bail!("--bake is for a trial: add --canary SITE/NODE or --canary-site NAME");
    }
    let (entry, files) = collect(&args.file)?;
    let (canary_site, canary_node) = match &args.canary {
        Some((site, node)) => (Some(site.clone()), Some(node.clone())),
        None => (args.canary_site.clone(), None),
    };
    let order = PolicyPush {
        entry,
        files: files.iter().map(|(name, bytes)| (name.to_owned(), STANDARD.encode(bytes))).collect(),
        expect: args.expect,
        canary_site,
        canary_node,
        bake_ms: args.bake,
        reason: args.reason.clone(),
        source: None,
    };
    Client::new(&args.admin)?.post("policy/bundles", Some(&serde_json::to_value(order)?))
}

/// A policy file with all that it needs.
pub(super) struct Packed {
    /// The policy file's name in the bundle.
    pub(super) entry: String,
    /// All files: that one, and those that compiling it reads.
    pub(super) files: FileSet,
    /// What it says.
    pub(super) policy: Everywhere,
    warnings: Vec<Diagnostic>,
}

/// The policy file's name in the bundle, and all files that it needs, for nodes: what it warns of is printed, and what has expired is refused.
pub(super) fn collect(file: &Path) -> anyhow::Result<(String, FileSet)> {
    let Packed { entry, files, policy, warnings } = pack(file).map_err(|faults| {
        anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let due = policy.due(&entry, SystemClock.now_ms());
    for warning in warnings.iter().chain(&due) {
        eprintln!("{warning}");
    }
    if due.iter().any(|due| due.level == Level::Error) {
        bail!("what has expired is given to no fleet");
    }
    Ok((entry, files))
}

/// Reads a policy file and all that compiling it reads. Nothing is printed, and no clock is asked.
pub(super) fn pack(file: &Path) -> Result<Packed, Vec<Diagnostic>> {
    let fault = |message: String| vec![Diagnostic::error(file.display().to_string(), 0, message)];
    let text = std::fs::read_to_string(file).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let name = file.file_name().ok_or_else(|| fault("the policy file has no name".to_owned()))?;
    let entry = name.to_string_lossy().into_owned();
    let collector = Collector::new(file.parent().unwrap_or(Path::new("")).to_path_buf());
    let (policy, mut warnings) = Everywhere::parse(&entry, &text)?;
    for (_, policy) in policy.distinct() {
        let compiled = EdgePlan::compile_from(Files::Collected(&collector), policy, &Arc::default())?;
        crate::playbooks::read_all(Files::Collected(&collector), &policy.playbooks)?;
        warnings.extend(compiled.warnings);
    }
    warnings.dedup();
    let read = collector.into_set();
    let own = (entry.clone(), text.into_bytes());
    let files = FileSet::new(read.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).chain([own]));
    Ok(Packed { entry, files, policy, warnings })
}

fn words(policy: &Policy, now_ms: u64) -> String {
    let mut out = String::new();
    match &policy.stable {
        None => out.push_str(
            "policy     each node runs its own; `phalanx policy push FILE` gives all of them one\n",
        ),
        Some(stable) => {
            let hash: String = stable.hash.chars().take(12).collect();
            out.push_str(&format!("policy     version {}, {hash}, {} bytes\n", stable.version, stable.bytes));
        }
    }
    if let Some(trial) = &policy.trial {
        let since = print::duration(now_ms.saturating_sub(trial.started_at_ms));
        out.push_str(&format!(
            "trial      version {} at {}, for {since}; {}\n",
            trial.version.version,
            for_terminal(&trial.stage),
            for_terminal(&trial.judgement)
        ));
    }
    if policy.stable.is_some() {
        let ago = print::duration(now_ms.saturating_sub(policy.changed_at_ms));
        out.push_str(&format!("last       {}, {ago} ago\n", for_terminal(&policy.note)));
        out.push_str(&format!("home       site {}, epoch {}\n", for_terminal(&policy.home), policy.epoch));
    }
    out.push('\n');
    let rows: Vec<Vec<String>> = policy
        .nodes
        .iter()
        .map(|node| {
            let state = if node.online { "online" } else { "OFFLINE" };
            let hash = node.policy.as_ref().map(|policy| policy.hash.clone()).unwrap_or_default();
            let version = status::policy(node.policy.as_ref());
            vec![node.site.clone(), node.node.clone(), state.to_owned(), version, hash]
        })
        .collect();
    out.push_str(&print::table(&["SITE", "NODE", "STATE", "POLICY", "BUNDLE"], &rows));
    for node in &policy.nodes {
        if let Some((version, why)) =
            node.policy.as_ref().and_then(|p| Some((p.refused_version?, p.refused.clone()?)))
        {
            let line = format!("{}/{} refused version {version}: {why}", node.site, node.node);
            out.push_str(&format!("\n{}\n", for_terminal(&line)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use phalanx_control::api::{MemberPolicy, PolicyNode, PolicyTrial, PolicyVersion};

    use super::*;

    #[test]
    fn the_policy_of_a_fleet_reads_well() {
        let version = |version: u64| PolicyVersion {
            version,
            hash: format!("{version:x}").repeat(64),
            previous: None,
            bytes: 1_000 * version,
        };
        let node =
            |node: &str, policy| PolicyNode { site: "fra".into(), node: node.into(), online: true, policy };
        let runs =
            |version: u64| MemberPolicy { version, hash: "444444444444".into(), ..MemberPolicy::default() };
        let refused =
            MemberPolicy { refused_version: Some(5), refused: Some("bad\u{1b}[2J".into()), ..runs(4) };
        let policy = Policy {
            version: 5,
            stable: Some(version(4)),
            trial: Some(PolicyTrial {
                version: version(5),
                stage: "node fra/b".into(),
                started_at_ms: 60_000,
                bake_ms: Some(600_000),
                judgement: "waits for 540 s more".into(),
            }),
            chain: vec![],
            home: "fra".into(),
            epoch: 1,
            serial: 5,
            note: "version 5 was pushed by fra/a".into(),
            changed_at_ms: 60_000,
            nodes: vec![node("a", Some(runs(4))), node("b", Some(refused)), node("c", None)],
            unchanged: false,
            has_file: true,
        };
        let expected = "\
policy     version 4, 444444444444, 4000 bytes
trial      version 5 at node fra/b, for 1 min 0 s; waits for 540 s more
last       version 5 was pushed by fra/a, 1 min 0 s ago
home       site fra, epoch 1

SITE  NODE  STATE   POLICY        BUNDLE
fra   a     online  4             444444444444
fra   b     online  4, REFUSED 5  444444444444
fra   c     online  -

fra/b refused version 5: bad\\u{1b}[2J
";
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&words(&policy, 120_000)), trimmed(expected));
    }

    /// What is packed by reading the disk gives the same rules when it is read out of the bundle, and nothing else is read.
    #[test]
    fn a_bundle_compiles_to_what_its_files_on_disk_do() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "fleet/policy.toml",
            "[[apps]]\nname = \"a\"\nupstream = \"http://h\"\nrules = [\"../crs\"]\nextra_rules = [\"own.conf\"]\n\
             pages = { refused = \"pages/no.html\" }\n\
             [[apps.routes]]\npath = \"/r\"\nrules = [\"../crs\"]\nextra_rules = [\"route.conf\"]\nreply = { file = \"robots.txt\" }\n",
        );
        write(
            "fleet/own.conf",
            "Include more/*.conf\nSecRule ARGS \"@pmFromFile words.data\" \"id:3,deny\"\n",
        );
        write("fleet/more/one.conf", "SecAction \"id:4,pass\"\n");
        write("fleet/words.data", "evil\n");
        write("fleet/route.conf", "SecAction \"id:6,pass\"\n");
        write("fleet/pages/no.html", "{request_id}");
        write("fleet/robots.txt", "User-agent: *\n");
        write("fleet/unused.data", "secret\n");
        write("crs/crs-setup.conf.example", "SecAction \"id:1,pass\"\n");
        write("crs/rules/10.conf", "SecRule ARGS \"@rx a\" \"id:2,deny\"\n");
        write("crs/plugins/x-after.conf", "SecAction \"id:5,pass\"\n");
        let file = folder.path().join("fleet/policy.toml");
        let (entry, files) = collect(&file).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "../crs/crs-setup.conf.example",
                "../crs/plugins/x-after.conf",
                "../crs/rules/10.conf",
                "more/one.conf",
                "own.conf",
                "pages/no.html",
                "policy.toml",
                "robots.txt",
                "route.conf",
                "words.data",
            ]
        );
        let (policy, _) =
            phalanx_policy::parse_policy(&entry, &std::fs::read_to_string(&file).unwrap()).unwrap();
        drop(folder);
        let compiled = EdgePlan::compile_from(Files::Set(&files), &policy, &Arc::default()).unwrap();
        let rules = compiled.plan.apps()[0].program.as_ref().unwrap().stats().rules;
        let (own, _) = phalanx_policy::parse_policy(
            "p",
            "[[apps]]\nname = \"a\"\nupstream = \"http://h\"\nrules = [\"none\"]\n",
        )
        .unwrap();
        assert!(
            EdgePlan::compile_from(Files::Set(&files), &own, &Arc::default()).is_err(),
            "nothing is read from disk"
        );
        assert_eq!(rules, 5 + BASE_RULES);
    }

    /// Rules that come before every rule set.
    const BASE_RULES: usize = 8;
}
