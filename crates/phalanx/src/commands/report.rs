//! `phalanx report`: what a time was like, for people who were not there; and the reports that are sent by themselves.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use phalanx_control::api::{ReportLast, ReportScheduleRow, ReportSent};
use phalanx_control::report::Report;
use phalanx_record::escape::for_terminal;
use phalanx_record::rfc3339;
use serde_json::Value;

use super::{apps, print};
use crate::client::{AdminArgs, Client};

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ReportArgs {
    #[command(subcommand)]
    command: Option<ReportCommand>,
    /// How far back, e.g. 24h or 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = print::parse_duration)]
    last: u64,
    /// Only requests for this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Of all nodes
    #[arg(long)]
    fleet: bool,
    /// How it is written
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    /// Write it into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What else there is about reports.
#[derive(Debug, Clone, Subcommand)]
enum ReportCommand {
    /// Reports of the node's settings that are sent by themselves
    #[command(subcommand)]
    Schedule(ScheduleCommand),
}

#[derive(Debug, Clone, Subcommand)]
enum ScheduleCommand {
    /// List them, with when each is due next and what became of the last one
    List(ListArgs),
    /// Send one now, of the latest time that is over; it is sent at its hour all the same
    Send(SendArgs),
}

/// Arguments of `report schedule list`.
#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `report schedule send`.
#[derive(Debug, Clone, Args)]
struct SendArgs {
    /// The report's name in the settings
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// A few lines for the terminal
    Text,
    /// A page to read, print or save as PDF; it loads nothing
    Html,
    /// One table for spreadsheets
    Csv,
    /// All of it for programs, as with --json
    Json,
}

/// Prints or writes a report.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(ReportCommand::Schedule(ScheduleCommand::List(args))) => return list(args),
        Some(ReportCommand::Schedule(ScheduleCommand::Send(args))) => return send(args),
        None => {}
    }
    let query = print::query(&[
        ("from_ms", Some(print::now_ms().saturating_sub(args.last).to_string())),
        ("app", args.app.clone()),
        ("fleet", args.fleet.then(|| "true".to_owned())),
    ]);
    let client = Client::new(&args.admin)?;
    let answer = client.get_patiently(&format!("report{query}"))?;
    apps::doubt(&client, &args.app);
    let report: Report = serde_json::from_value(answer.clone())?;
    let text = match (args.admin.json, args.format) {
        (true, FormatArg::Text | FormatArg::Json) | (false, FormatArg::Json) => {
            if args.to.is_none() {
                print::json(&answer)?;
                return Ok(ExitCode::SUCCESS);
            }
            format!("{answer}\n")
        }
        (true, _) => bail!("--json and --format html or csv are two forms; name one"),
        (false, FormatArg::Text) => report.text(),
        (false, FormatArg::Html) => report.html(),
        (false, FormatArg::Csv) => report.csv(),
    };
    match &args.to {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            print::text(&format!("{} written\n", file.display()))?;
        }
        None => print::text(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("reports")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<ReportScheduleRow> = serde_json::from_value(answer)?;
    if rows.is_empty() {
        print::text("no report is sent by itself: the settings have no `[reports.NAME]`\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let last = |last: &ReportLast| {
        let error = last.error.as_ref().map(|why| format!(": {}", for_terminal(why))).unwrap_or_default();
        format!("{} {}{error}", last.state, rfc3339(last.at_ms))
    };
    let row = |one: &ReportScheduleRow| {
        vec![
            one.name.clone(),
            one.when.clone(),
            for_terminal(one.app.as_deref().unwrap_or("all")).into_owned(),
            one.to.join(", "),
            rfc3339(one.next_ms),
            one.last.as_ref().map_or("none yet".to_owned(), last),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    print::text(&print::table(&["NAME", "WHEN", "APP", "TO", "NEXT", "LAST"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Exit code 1: somebody did not take it.
fn send(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let path = format!("reports/{}/send", args.name);
    let answer = Client::new(&args.admin)?.post_patiently(&path, &Value::Null)?;
    let sent: ReportSent = serde_json::from_value(answer.clone())?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        let mut text = format!("{} to {}\n", rfc3339(sent.from_ms), rfc3339(sent.to_ms));
        for told in &sent.told {
            match &told.error {
                None => text.push_str(&format!("{} took it\n", told.to)),
                Some(why) => text.push_str(&format!("{}: {}\n", told.to, for_terminal(why))),
            }
        }
        print::text(&text)?;
    }
    let all = sent.told.iter().all(|told| told.ok);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
