//! `phalanx fleet ...`: what an operator does about the nodes of a fleet.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use phalanx_model::Recall;

use super::print;
use crate::args::parse_name;
use crate::client::{AdminArgs, Client};

/// What to do about a node.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FleetCommand {
    /// Forget the keys of a node that lost its state, so that it may come back under its name
    ///
    /// Each node remembers by itself: run it on every node whose `status` reports another key.
    Forget(ForgetArgs),
    /// End everything that an author has decided so far, on all nodes: one that was broken into, or erred
    ///
    /// What it decides from now on counts; `fleet forget` and a node with other keys, or none, end that.
    Withdraw(WithdrawArgs),
}

/// Arguments of `fleet forget`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ForgetArgs {
    /// The site of the node to forget
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    site: String,
    /// The name of the node to forget
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    node: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `fleet withdraw`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WithdrawArgs {
    /// The author, as `decision list` shows it
    #[arg(long, value_name = "SITE/NODE", value_parser = parse_author)]
    author: (String, String),
    /// In what role it decided: on its own, or as an operator gave it the orders
    #[arg(long, value_enum, default_value = "node")]
    role: Role,
    /// Why; people on other nodes read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Node,
    Operator,
}

/// Carries it out.
pub(crate) fn run(command: &FleetCommand) -> anyhow::Result<ExitCode> {
    match command {
        FleetCommand::Forget(args) => forget(args),
        FleetCommand::Withdraw(args) => withdraw(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn withdraw(args: &WithdrawArgs) -> anyhow::Result<()> {
    let (site, node) = &args.author;
    let role = match args.role {
        Role::Node => "node",
        Role::Operator => "operator",
    };
    let query = print::query(&[("role", Some(role.to_owned())), ("reason", Some(args.reason.clone()))]);
    let answer = Client::new(&args.admin)?.delete(&format!("nodes/{site}/{node}/decisions{query}"))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let recall: Recall = serde_json::from_value(answer)?;
    print::text(&format!("{}\n", print::recall(&recall)))
}

fn parse_author(text: &str) -> Result<(String, String), String> {
    let (site, node) = text.split_once('/').ok_or("write SITE/NODE, as `decision list` shows authors")?;
    Ok((parse_name(site)?, parse_name(node)?))
}

fn forget(args: &ForgetArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.delete(&format!("nodes/{}/{}", args.site, args.node))?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        print::text(&format!(
            "forgot the keys of {}/{}; its next announcement counts\n",
            args.site, args.node
        ))?;
    }
    Ok(())
}
