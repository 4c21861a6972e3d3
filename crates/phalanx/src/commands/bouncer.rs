//! `phalanx bouncer add|list|delete`: programs that read decisions as from a CrowdSec local API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use phalanx_control::api::{BouncerKey, Bouncers, NewBouncer};

use super::{print, status};
use crate::client::{AdminArgs, Client};

/// Arguments of `bouncer`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BouncerArgs {
    #[command(subcommand)]
    command: BouncerCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum BouncerCommand {
    /// Make a key for a bouncer; it is printed once
    Add(NameArgs),
    /// List bouncers, and when they were here
    List(ListArgs),
    /// End a bouncer's key; what it enforces by then runs out by itself
    Delete(NameArgs),
}

#[derive(Debug, Clone, Args)]
struct NameArgs {
    /// The bouncer's name: 1 to 63 characters of a-z, 0-9, - and _
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `bouncer`.
pub(crate) fn run(args: &BouncerArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        BouncerCommand::Add(args) => add(args),
        BouncerCommand::List(args) => list(args),
        BouncerCommand::Delete(args) => delete(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(args: &NameArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.admin)?;
    let new = NewBouncer { name: args.name.clone() };
    let answer = client.post("bouncers", Some(&serde_json::to_value(new)?))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let made: BouncerKey = serde_json::from_value(answer)?;
    let known: Bouncers = serde_json::from_value(client.get("bouncers")?)?;
    let url = match known.listen {
        Some(listen) => format!("http://{listen}/"),
        None => "none yet: write `[lapi]` with `listen` into the node's settings".to_owned(),
    };
    print::text(&format!("api_url: {url}\napi_key: {}\n\nThe key is not shown again.\n", made.key))
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.get("bouncers")?;
    if args.admin.json {
        return print::json(&answer);
    }
    let known: Bouncers = serde_json::from_value(answer)?;
    if known.bouncers.is_empty() {
        return print::text("there are no bouncers\n");
    }
    print::text(&status::bouncers(&known.bouncers, print::now_ms()))
}

fn delete(args: &NameArgs) -> anyhow::Result<()> {
    // Any other name would be another path.
    let name = args.name.as_str();
    if !phalanx_trust::valid_name(name) {
        anyhow::bail!("there is no bouncer of that name");
    }
    let answer = Client::new(&args.admin)?.delete(&format!("bouncers/{name}"))?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text(&format!("the key of {name} opens nothing from now on\n"))
}
