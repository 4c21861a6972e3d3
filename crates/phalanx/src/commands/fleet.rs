//! `phalanx fleet ...`: what an operator does about the nodes of a fleet.

use std::process::ExitCode;

use clap::{Args, Subcommand};

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

/// Carries it out.
pub(crate) fn run(command: &FleetCommand) -> anyhow::Result<ExitCode> {
    let FleetCommand::Forget(args) = command;
    let answer = Client::new(&args.admin)?.delete(&format!("nodes/{}/{}", args.site, args.node))?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        print::text(&format!(
            "forgot the keys of {}/{}; its next announcement counts\n",
            args.site, args.node
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
