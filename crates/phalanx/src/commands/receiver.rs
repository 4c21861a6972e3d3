//! `phalanx receiver ...`: who can be told of incidents.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use phalanx_control::api::{ReceiverRow, ReceiverTested};
use phalanx_record::escape::for_terminal;
use serde_json::Value;

use super::print;
use crate::client::{AdminArgs, Client};

/// What to do about receivers.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReceiverCommand {
    /// List the webhooks, chats, pagers and mail of a node's settings
    List(ListArgs),
    /// Tell a receiver that this is a test
    Test(TestArgs),
}

/// Arguments of `receiver list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `receiver test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    /// The receiver's name in the settings
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Carries it out. Exit code 1: the receiver did not take the message.
pub(crate) fn run(command: &ReceiverCommand) -> anyhow::Result<ExitCode> {
    match command {
        ReceiverCommand::List(args) => list(args),
        ReceiverCommand::Test(args) => test(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("receivers")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<ReceiverRow> = serde_json::from_value(answer)?;
    let rows: Vec<Vec<String>> = rows.into_iter().map(|one| vec![one.name, one.kind]).collect();
    match rows.is_empty() {
        true => print::text(
            "nobody can be told: the settings have neither `[webhooks.NAME]` nor `[mail.NAME]`\n",
        )?,
        false => print::text(&print::table(&["NAME", "KIND"], &rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let answer =
        Client::new(&args.admin)?.post_patiently(&format!("receivers/{}/test", args.name), &Value::Null)?;
    let tested: ReceiverTested = serde_json::from_value(answer.clone())?;
    match (args.admin.json, &tested.error) {
        (true, _) => print::json(&answer)?,
        (false, None) => print::text(&format!("{} took the message\n", args.name))?,
        (false, Some(why)) => print::text(&format!("{}: {}\n", args.name, for_terminal(why)))?,
    }
    Ok(if tested.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
