//! `phalanx playbook`: playbooks checked, and carried from and to CACAO, for which no node is asked; those of a node listed and run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use phalanx_control::api::PlaybookRow;
use phalanx_control::playbook::{cacao, read};
use phalanx_learn::IncidentId;
use phalanx_model::{Clock, SystemClock};
use phalanx_policy::Diagnostic;
use phalanx_policy::playbook::Playbook;
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};

#[derive(Debug, Subcommand)]
pub(crate) enum PlaybookCommand {
    /// Check playbooks, and say what they do
    Check(CheckArgs),
    /// Print a playbook as CACAO 2.0
    Export(FileArgs),
    /// Print a CACAO 2.0 playbook as one of Phalanx
    Import(FileArgs),
    /// List the playbooks that a node's policy uses
    List(ListArgs),
    /// Run a playbook for an incident, whatever its trigger says
    Run(StartArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StartArgs {
    /// The playbook's name; `phalanx playbook list` shows them
    #[arg(value_name = "NAME")]
    name: String,
    /// The incident's id; `phalanx incidents` shows them
    #[arg(long, value_name = "ID")]
    incident: IncidentId,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// The playbooks
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Machine-readable output: one object a file
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FileArgs {
    /// The playbook
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(command: &PlaybookCommand) -> anyhow::Result<ExitCode> {
    match command {
        PlaybookCommand::Check(args) => check(args),
        PlaybookCommand::Export(args) => {
            let Some(playbook) = load(&args.file)? else { return Ok(ExitCode::FAILURE) };
            let document = cacao::export(&playbook, SystemClock.now_ms());
            println!("{}", serde_json::to_string_pretty(&document)?);
            Ok(ExitCode::SUCCESS)
        }
        PlaybookCommand::Import(args) => import(&args.file),
        PlaybookCommand::List(args) => list(args),
        PlaybookCommand::Run(args) => start(args),
    }
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
        let playbook = read(&name, &text);
        if playbook.is_err() {
            code = ExitCode::FAILURE;
        }
        if args.json {
            let faults = playbook.as_ref().err();
            let playbook = playbook.as_ref().ok();
            print::json(
                &serde_json::json!({ "file": name, "ok": faults.is_none(), "playbook": playbook, "diagnostics": faults }),
            )?;
            continue;
        }
        match &playbook {
            Ok(playbook) => print_playbook(playbook),
            Err(faults) => tell(faults),
        }
    }
    Ok(code)
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("playbooks")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<PlaybookRow> = serde_json::from_value(answer)?;
    print::text(&listed(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn listed(rows: &[PlaybookRow]) -> String {
    if rows.is_empty() {
        return "no playbooks; name them in the policy: `[playbooks]` with `shipped = [\"stuffing\"]`\n"
            .into();
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let starts = match (row.manual, row.detectors.is_empty()) {
                (true, _) => "an operator".to_owned(),
                (false, true) => "any".to_owned(),
                (false, false) => row.detectors.join(", "),
            };
            let version = row.version.to_string();
            let (running, steps) = (row.running.to_string(), row.steps.len().to_string());
            vec![row.name.clone(), version, running, steps, starts, print::short(&row.about, 90)]
        })
        .collect();
    print::table(&["PLAYBOOK", "VERSION", "RUNNING", "STEPS", "STARTED BY", "WHAT"], &cells)
}

fn start(args: &StartArgs) -> anyhow::Result<ExitCode> {
    let (name, incident) = (&args.name, args.incident.to_string());
    if !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        anyhow::bail!("`{}` is no name of a playbook", for_terminal(name));
    }
    let body = serde_json::json!({ "incident": incident });
    Client::new(&args.admin)?.post(&format!("playbooks/{name}/run"), Some(&body))?;
    match args.admin.json {
        true => print::json(&serde_json::json!({ "playbook": name, "incident": incident }))?,
        false => print::text(&format!(
            "{name} runs for {incident}; `phalanx incident show {incident}` tells how far it is\n"
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a playbook; tells its faults.
fn load(file: &Path) -> anyhow::Result<Option<Playbook>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    match read(&name, &text) {
        Ok(playbook) => Ok(Some(playbook)),
        Err(faults) => {
            tell(&faults);
            Ok(None)
        }
    }
}

fn tell(faults: &[Diagnostic]) {
    faults.iter().for_each(|fault| eprintln!("{}", lines_for_terminal(&fault.to_string())));
}

fn import(file: &Path) -> anyhow::Result<ExitCode> {
    let name = file.display().to_string();
    let document = std::fs::read_to_string(file).with_context(|| name.clone())?;
    let taken = match cacao::import(&document) {
        Ok(taken) => taken,
        Err(faults) => {
            eprintln!("nothing was taken:");
            faults.iter().for_each(|fault| eprintln!("  {}", for_terminal(fault)));
            return Ok(ExitCode::FAILURE);
        }
    };
    // A quoted text of TOML holds no control character; what reorders text it may hold.
    print!("{}", lines_for_terminal(&taken.text));
    taken.notes.iter().for_each(|note| eprintln!("note: {}", for_terminal(note)));
    match read(&name, &taken.text) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(faults) => {
            eprintln!("mend these by hand (lines of what was printed):");
            faults.iter().for_each(|fault| eprintln!("{}", lines_for_terminal(&fault.to_string())));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print_playbook(playbook: &Playbook) {
    println!("{} version {}: {}", playbook.name, playbook.version, for_terminal(&playbook.about));
    for (place, step) in playbook.steps.iter().enumerate() {
        let only = step.only_from.map_or(String::new(), |gravity| format!(", from {} on", gravity.name()));
        println!("  {}. {} ({}{only})", place + 1, step.id, step.action.name());
    }
}

/// The same lines, each made harmless.
fn lines_for_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        out.push_str(&for_terminal(line));
        out.push_str(end);
    }
    out
}
