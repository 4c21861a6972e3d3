//! `phalanx report`: what a time was like, for people who were not there.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use phalanx_control::report::Report;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportArgs {
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
    let query = print::query(&[
        ("from_ms", Some(print::now_ms().saturating_sub(args.last).to_string())),
        ("app", args.app.clone()),
        ("fleet", args.fleet.then(|| "true".to_owned())),
    ]);
    let answer = Client::new(&args.admin)?.get_patiently(&format!("report{query}"))?;
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
