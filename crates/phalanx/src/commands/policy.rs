//! `phalanx policy ...`: the policy of the whole fleet.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use phalanx_control::api::{Policy, PolicyHome, PolicyPush, PolicyRollback};
use phalanx_edge::EdgePlan;
use phalanx_policy::{Collector, Diagnostic, FileSet, Files};
use phalanx_record::escape::for_terminal;
use serde_json::Value;

use super::{print, status};
use crate::args::parse_name;
use crate::client::{AdminArgs, Client};

/// What to do about the fleet's policy.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Make a policy file, with all that it names, the policy of all nodes
    Push(PushArgs),
    /// Show the fleet's policy, what is on trial, and which node runs what
    Status(StatusArgs),
    /// Give all nodes the policy that is on trial
    Promote(PromoteArgs),
    /// Give all nodes the content of an earlier version, under a new version
    Rollback(RollbackArgs),
    /// Make a site the home of policy, when the one before is lost for good
    ///
    /// What is in force stays. What the home before writes from here on counts nowhere, should it ever come back.
    MoveHome(MoveHomeArgs),
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
    #[arg(long, value_name = "TEXT", default_value = "")]
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
    #[arg(long, value_name = "TEXT", default_value = "")]
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
    if admin.json {
        print::json(&answer)?;
    } else {
        print::text(&words(&serde_json::from_value(answer)?, print::now_ms()))?;
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
    };
    Client::new(&args.admin)?.post("policy/bundles", Some(&serde_json::to_value(order)?))
}

/// The policy file's name in the bundle, and all files that it needs: those that compiling it reads.
fn collect(file: &Path) -> anyhow::Result<(String, FileSet)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_name().context("the policy file has no name")?.to_string_lossy().into_owned();
    let folder = file.parent().unwrap_or(Path::new(""));
    let collector = Collector::new(folder.to_path_buf());
    let refused = |faults: Vec<Diagnostic>| {
        anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let (policy, warnings) = phalanx_policy::parse_policy(&name, &text).map_err(refused)?;
    let compiled =
        EdgePlan::compile_from(Files::Collected(&collector), &policy, &Arc::default()).map_err(refused)?;
    for warning in warnings.iter().chain(&compiled.warnings) {
        eprintln!("{warning}");
    }
    let read = collector.into_set();
    let own = (name.clone(), text.into_bytes());
    let files = read.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).chain([own]);
    Ok((name, FileSet::new(files)))
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
