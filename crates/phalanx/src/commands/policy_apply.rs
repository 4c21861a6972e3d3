//! `phalanx policy apply`: asks a node for a change of the fleet's policy.
//!
//! Flow in names: a file, an earlier version or a signed commit -> all files that it needs -> `NewPolicyChange` -> published at once, or
//! waiting for a second operator.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use phalanx_control::api::NewPolicyChange;
use phalanx_record::escape::for_terminal;

use super::repository::Git;
use super::{policy, policy_change, policy_git, print};
use crate::args::parse_name;
use crate::client::{AdminArgs, Client};

/// Arguments of `policy apply`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The commit, branch or tag
    #[arg(long, value_name = "COMMIT", default_value = "HEAD", requires = "git")]
    commit: String,
    /// The policy file in it
    #[arg(long = "file", value_name = "PATH", default_value = "policy.toml", requires = "git")]
    path: String,
    /// Who may sign: lines of a name and an SSH key, as `ssh-keygen` and git read them
    #[arg(long, value_name = "FILE", requires = "git")]
    allowed_signers: Option<PathBuf>,
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
    /// Why; whoever approves it reads it, and people on other nodes. Of a commit it is the subject
    #[arg(long, value_name = "TEXT", value_parser = print::parse_reason, required_unless_present = "git", conflicts_with = "git")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What is applied: one of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// The policy file; the rules and data that it names are read from here too
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Instead of a file: the content of this version again
    #[arg(long, value_name = "VERSION")]
    content_of: Option<u64>,
    /// Instead of a file: a signed commit of the repository in this folder
    #[arg(long, value_name = "DIR", requires = "allowed_signers")]
    git: Option<PathBuf>,
}

/// Orders a change. What takes protection away waits for another operator.
pub(crate) fn run(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    if args.bake.is_some() && args.canary.is_none() && args.canary_site.is_none() {
        bail!("--bake is for a trial: add --canary SITE/NODE or --canary-site NAME");
    }
    let (canary_site, canary_node) = match &args.canary {
        Some((site, node)) => (Some(site.clone()), Some(node.clone())),
        None => (args.canary_site.clone(), None),
    };
    let order =
        NewPolicyChange { base: args.expect, canary_site, canary_node, bake_ms: args.bake, ..wanted(args)? };
    let answer = Client::new(&args.admin)?.post_patiently("policy/changes", &serde_json::to_value(order)?)?;
    policy_change::tell(&args.admin, answer)
}

/// The content, and why.
fn wanted(args: &ApplyArgs) -> anyhow::Result<NewPolicyChange> {
    if let Some(repository) = &args.source.git {
        let git = Git::open(repository, &args.commit)?;
        let signers = args.allowed_signers.as_deref().context("--git needs --allowed-signers")?;
        let signer = git.signer(signers)?;
        let files = git.policy(&args.path)?;
        eprintln!("commit {} is signed by {}", git.commit, for_terminal(&signer));
        return policy_git::order(&git, &signer, files, None);
    }
    let reason = args.reason.clone().unwrap_or_default();
    let Some(file) = &args.source.file else {
        return Ok(NewPolicyChange {
            content_of: args.source.content_of,
            reason,
            ..NewPolicyChange::default()
        });
    };
    let (entry, files) = policy::collect(file)?;
    let files = files.iter().map(|(name, bytes)| (name.to_owned(), STANDARD.encode(bytes))).collect();
    Ok(NewPolicyChange { entry, files, reason, ..NewPolicyChange::default() })
}
