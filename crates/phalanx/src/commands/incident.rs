//! `phalanx incidents`, `phalanx incident show|close|undo|answer`.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use phalanx_control::api::{
    Affected, Finding, Incident, IncidentRow, PlaybookAnswer, PlaybookRun, PlaybookStepRun, Undone,
};
use phalanx_learn::IncidentId;
use phalanx_model::{Clock, Decision, SystemClock};
use phalanx_record::escape::for_terminal;
use phalanx_record::rfc3339;

use super::decision::Levels;
use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `incidents`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// Also those that are closed
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What to do about one incident.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum IncidentCommand {
    /// Tell what was seen, where, by which detector, who is affected, what is done and until when
    Show(OneArgs),
    /// Close it on all nodes; what is done because of it goes on until it expires
    Close(OneArgs),
    /// End all decisions made because of it, on all nodes, and make no further ones
    Undo(OneArgs),
    /// Answer what a playbook asks about it
    Answer(AnswerArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AnswerArgs {
    /// The incident's id; `phalanx incident show ID` shows what is asked
    #[arg(value_name = "ID")]
    id: IncidentId,
    /// The step that asks
    #[arg(value_name = "STEP")]
    step: String,
    /// The answer
    #[arg(value_name = "ANSWER", value_enum)]
    answer: Answer,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Answer {
    /// The playbook goes on
    Yes,
    /// The playbook ends
    No,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OneArgs {
    /// The incident's id; `phalanx incidents` shows them
    #[arg(value_name = "ID")]
    id: IncidentId,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Lists incidents.
pub(crate) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("incidents")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<IncidentRow> = serde_json::from_value(answer)?;
    print::text(&listed(&rows, args.all, SystemClock.now_ms()))?;
    Ok(ExitCode::SUCCESS)
}

/// Does something about one incident.
pub(crate) fn run(command: &IncidentCommand) -> anyhow::Result<ExitCode> {
    match command {
        IncidentCommand::Show(args) => {
            let client = Client::new(&args.admin)?;
            let answer = client.get(&format!("incidents/{}", args.id))?;
            if args.admin.json {
                print::json(&answer)?;
                return Ok(ExitCode::SUCCESS);
            }
            let incident: Incident = serde_json::from_value(answer)?;
            let levels = Levels::about(incident.decisions.iter().map(|one| &**one), &client)?;
            print::text(&shown(&incident, &levels, SystemClock.now_ms()))?;
        }
        IncidentCommand::Close(args) => {
            Client::new(&args.admin)?.post(&format!("incidents/{}/close", args.id), None)?;
            match args.admin.json {
                true => print::json(&serde_json::json!({ "id": args.id.to_string() }))?,
                false => print::text(&format!("closed {}\n", args.id))?,
            }
        }
        IncidentCommand::Undo(args) => {
            let answer = Client::new(&args.admin)?.post(&format!("incidents/{}/undo", args.id), None)?;
            match args.admin.json {
                true => print::json(&answer)?,
                false => print::text(&undone(&serde_json::from_value(answer)?))?,
            }
        }
        IncidentCommand::Answer(args) => {
            let yes = args.answer == Answer::Yes;
            let body = serde_json::to_value(PlaybookAnswer { step: args.step.clone(), yes })?;
            Client::new(&args.admin)?.post(&format!("incidents/{}/answer", args.id), Some(&body))?;
            match args.admin.json {
                true => print::json(
                    &serde_json::json!({ "id": args.id.to_string(), "step": args.step, "yes": yes }),
                )?,
                false => {
                    let word = if yes { "yes" } else { "no" };
                    print::text(&format!("answered {word} to {}\n", for_terminal(&args.step)))?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(rows: &[IncidentRow], all: bool, now_ms: u64) -> String {
    let shown: Vec<&IncidentRow> = rows.iter().filter(|row| all || row.state == "open").collect();
    if shown.is_empty() {
        let closed = rows.len();
        return match closed {
            0 => String::from("no incidents\n"),
            _ => format!("no open incidents; {closed} closed: `phalanx incidents --all`\n"),
        };
    }
    let cells: Vec<Vec<String>> = shown
        .iter()
        .map(|row| {
            vec![
                row.id.clone(),
                row.severity.clone(),
                state(row),
                row.detectors.join(", "),
                row.nodes.len().to_string(),
                match row.decisions_live {
                    0 => String::from("-"),
                    live => live.to_string(),
                },
                print::left(row.changed_at_ms, now_ms),
                print::short(&row.told(), 90),
            ]
        })
        .collect();
    let headings = ["INCIDENT", "SEVERITY", "STATE", "DETECTORS", "NODES", "ORDERS", "LAST SEEN", "WHAT"];
    print::table(&headings, &cells)
}

fn shown(incident: &Incident, levels: &Levels, now_ms: u64) -> String {
    let row = &incident.row;
    let mut out = format!("incident   {}, {}, severity {}\n", row.id, state(row), row.severity);
    if !row.title.is_empty() {
        out.push_str(&line("what", &for_terminal(&row.title)));
    }
    out.push_str(&line("stage", &stage(row)));
    out.push_str(&line(
        "when",
        &format!(
            "{} to {} ({})",
            rfc3339(row.opened_at_ms),
            rfc3339(row.changed_at_ms),
            print::left(row.changed_at_ms, now_ms)
        ),
    ));
    if !incident.targets.is_empty() {
        out.push_str(&line("targets", &incident.targets.join(", ")));
    }
    out.push_str(&line("seen by", &row.nodes.join(", ")));
    if !incident.parts.is_empty() {
        out.push_str(&line("also", &format!("was {}", incident.parts.join(", "))));
    }
    out.push_str("\nfindings\n");
    for finding in incident.findings.iter().take(FINDINGS_SHOWN) {
        out.push_str(&found(finding, row.opened_at_ms));
    }
    if incident.findings.len() > FINDINGS_SHOWN {
        out.push_str(&format!("  and {} more: --json\n", incident.findings.len() - FINDINGS_SHOWN));
    }
    out.push_str("\naffected\n");
    let mut affected: Vec<String> =
        incident.findings.iter().map(|finding| subject(&finding.subject)).collect();
    affected.sort();
    affected.dedup();
    for one in affected.iter().take(FINDINGS_SHOWN) {
        out.push_str(&format!("  {}\n", for_terminal(one)));
    }
    if !incident.evidence.is_empty() {
        out.push_str("\nevidence   `phalanx explain ID` tells of each\n");
        incident.evidence.iter().for_each(|id| out.push_str(&format!("  {id}\n")));
    }
    out.push_str("\ndone\n");
    if incident.decisions.is_empty() {
        out.push_str(match row.undone_at_ms {
            Some(_) => "  nothing any more: it was undone\n",
            None => "  nothing\n",
        });
    }
    incident.decisions.iter().for_each(|decision| out.push_str(&done(decision, levels, now_ms)));
    if !incident.decisions.is_empty() {
        out.push_str(&format!("  `phalanx incident undo {}` ends all of it, everywhere\n", row.id));
    }
    incident.playbooks.iter().for_each(|run| out.push_str(&ran(run, &row.id)));
    out
}

/// A playbook's run, step by step.
fn ran(run: &PlaybookRun, incident: &str) -> String {
    let head = format!("playbook   {} version {}, {}", run.playbook, run.version, run.state);
    let mut out = format!("\n{}\n", for_terminal(&head));
    for step in &run.steps {
        out.push_str(&stepped(step));
    }
    if let Some(asks) = &run.asks {
        let question = format!("  asks until {}: {}", rfc3339(asks.until_ms), asks.question);
        let how = format!(
            "  `phalanx incident answer {incident} {} yes|no`; without an answer {}",
            asks.step, asks.otherwise
        );
        out.push_str(&format!("{}\n{}\n", for_terminal(&question), for_terminal(&how)));
    }
    out
}

fn stepped(step: &PlaybookStepRun) -> String {
    let at_ms = step.ended_at_ms.or(step.began_at_ms).unwrap_or(0);
    let note = if step.note.is_empty() { String::new() } else { format!(": {}", step.note) };
    let text = format!("  {} {} ({}) {}{note}", rfc3339(at_ms), step.step, step.does, step.state);
    format!("{}\n", for_terminal(&text))
}

fn found(finding: &Finding, opened_ms: u64) -> String {
    let after = print::duration(finding.first_at_ms.saturating_sub(opened_ms));
    let weight = if finding.decisive { "" } else { ", hearsay: nothing is done because of it" };
    let technique = finding.technique.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
    let head = format!(
        "  +{after:<9} {}{technique}, {} confidence, {} events{weight}",
        finding.detector,
        finding.confidence.name(),
        finding.events
    );
    let why = format!("             {}", finding.reason);
    let whom = format!("             by {}", subject(&finding.subject));
    [head, why, whom].map(|line| format!("{}\n", for_terminal(&line))).concat()
}

fn subject(subject: &Affected) -> String {
    match &subject.name {
        Some(name) => format!("{} {} ({})", subject.kind, subject.value, name),
        None => format!("{} {}", subject.kind, subject.value),
    }
}

fn done(decision: &Decision, levels: &Levels, now_ms: u64) -> String {
    let text = format!(
        "  {} of {}, by {}/{}, ends {} at {}",
        decision.kind.name(),
        levels.of(&decision.actor).map_or_else(|| decision.actor.to_string(), str::to_owned),
        decision.author.site,
        decision.author.node,
        print::left(decision.expires_at_ms, now_ms),
        rfc3339(decision.expires_at_ms)
    );
    format!("{}\n", for_terminal(&text))
}

fn undone(undone: &Undone) -> String {
    let mut out = format!(
        "undid {}: {} ended on all nodes\n",
        for_terminal(&undone.id),
        match undone.withdrawn.len() {
            1 => String::from("what was ordered about 1 actor"),
            count => format!("what was ordered about {count} actors"),
        }
    );
    for actor in &undone.withdrawn {
        out.push_str(&format!("  {}\n", for_terminal(&actor.to_string())));
    }
    for actor in &undone.left {
        let text = format!("  {actor} is left: an operator ordered something about it");
        out.push_str(&format!("{}\n", for_terminal(&text)));
    }
    out
}

fn state(row: &IncidentRow) -> String {
    let by = row.closed_at_ms.map(|_| " by an operator").unwrap_or_default();
    let undone = row.undone_at_ms.map(|_| ", undone").unwrap_or_default();
    format!("{}{by}{undone}", row.state)
}

fn stage(row: &IncidentRow) -> String {
    match row.techniques.is_empty() {
        true => row.stage.clone(),
        false => format!("{} ({})", row.stage, row.techniques.join(", ")),
    }
}

fn line(name: &str, text: &str) -> String {
    format!("{name:<10} {}\n", for_terminal(text))
}

/// A screenful; the rest is in the JSON.
const FINDINGS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_reads_well() {
        let incident: Incident = serde_json::from_str(include_str!("../../testdata/incident.json")).unwrap();
        let text = shown(&incident, &Levels::default(), 1_767_571_320_000);
        assert_eq!(text, include_str!("../../testdata/incident.txt"));
        let rows = [incident.row];
        let list = listed(&rows, false, 1_767_571_320_000);
        assert!(list.lines().count() == 2 && list.contains("high") && list.contains("2 min"), "{list}");
        assert!(!list.contains('\u{1b}') && !text.contains('\u{1b}'));
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(listed(&[], false, 0), "no incidents\n");
        let closed = IncidentRow { state: "closed".into(), ..IncidentRow::default() };
        assert!(listed(&[closed], false, 0).contains("--all"));
    }
}
