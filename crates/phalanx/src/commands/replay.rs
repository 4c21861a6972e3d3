//! `phalanx policy replay`: recorded requests through another policy, and what would change.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use phalanx_control::api::{PolicyReplay, ReplayChange, ReplayExample, Replayed};
use phalanx_policy::FileSet;
use phalanx_record::escape::for_terminal;

use super::{policy, print};
use crate::client::{AdminArgs, Client};

/// Arguments of `policy replay`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayArgs {
    /// The settings file that names the policy to try
    #[arg(short, long, value_name = "FILE", default_value = "phalanx.toml")]
    config: PathBuf,
    /// The policy file to try, instead of the one that the settings name
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    policy: Option<PathBuf>,
    /// How far back
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = print::parse_duration)]
    last: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Carries it out. Exit code 1: requests would newly be refused.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let file = match &args.policy {
        Some(file) => file.clone(),
        None => named(&args.config)?,
    };
    let replayed = replayed(policy::collect(&file)?, args.last, &args.admin)?;
    if args.admin.json {
        print::json(&replayed)?;
    } else {
        print::text(&words(&replayed, args.last))?;
    }
    Ok(if replayed.newly_refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a policy would change of the requests that a node recorded.
pub(super) fn replayed(
    (entry, files): (String, FileSet),
    last_ms: u64,
    admin: &AdminArgs,
) -> anyhow::Result<Replayed> {
    let files = files.iter().map(|(name, bytes)| (name.to_owned(), STANDARD.encode(bytes))).collect();
    let order = serde_json::to_value(PolicyReplay { entry, files, last_ms })?;
    let answer = Client::new(admin)?.post_patiently("policy/replay", &order)?;
    serde_json::from_value(answer).context("the answer is no replay")
}

/// The policy file that a settings file names.
fn named(config: &std::path::Path) -> anyhow::Result<PathBuf> {
    match crate::settings::read(config) {
        (Some((_, policy)), _) => Ok(policy),
        (None, faults) => {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            bail!("{}\nname the policy with --policy FILE, or its settings with -c FILE", faults.join("\n"))
        }
    }
}

pub(super) fn words(replayed: &Replayed, last_ms: u64) -> String {
    let mut out = format!(
        "replayed   {} of {} requests of the last {}\n",
        replayed.requests,
        replayed.seen,
        print::duration(last_ms)
    );
    out.push_str(&format!("refused    {} that pass now would newly be refused\n", replayed.newly_refused));
    out.push_str(&format!("passed     {} that are refused now would newly pass\n", replayed.newly_passed));
    for group in &replayed.groups {
        let change = match group.change {
            ReplayChange::Refused => "would be refused by",
            ReplayChange::Passed => "would pass, no longer refused by",
        };
        let place = match &group.route {
            Some(route) => format!("{}, route {route}", group.app),
            None => group.app.clone(),
        };
        let line = format!(
            "{place}: {} {change} {}, from {}",
            counted(group.requests),
            group.why,
            match group.clients {
                1 => "1 address".to_owned(),
                clients => format!("{clients} addresses"),
            }
        );
        out.push_str(&format!("\n{}\n", for_terminal(&line)));
        if !group.rules.is_empty() {
            let rules: Vec<_> = group.rules.iter().map(ToString::to_string).collect();
            out.push_str(&format!("  rules that matched in all of them: {}\n", rules.join(", ")));
        }
        group.examples.iter().for_each(|one| out.push_str(&example(one)));
    }
    out.push_str(&notes(replayed));
    out
}

/// What the figures do not tell by themselves.
fn notes(replayed: &Replayed) -> String {
    let mut notes = Vec::new();
    if replayed.groups_left_out > 0 {
        notes.push("there are more groups than these".to_owned());
    }
    if !replayed.complete {
        notes.push("not all recorded requests were replayed; ask for a shorter time".to_owned());
    }
    if replayed.lacks_body > 0 {
        let of = counted(replayed.lacks_body);
        notes.push(format!("of {of} rules would read more of the body than is recorded"));
    }
    if replayed.damaged > 0 {
        notes.push(format!("{} parts of the recording cannot be read to their end", replayed.damaged));
    }
    if replayed.not_reproduced > 0 {
        let were = counted(replayed.not_reproduced);
        notes.push(format!(
            "{were} refused by a rule when they came, and by neither policy as recorded: masked, or not recorded"
        ));
    }
    let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
    let examples: String = replayed.not_reproduced_examples.iter().map(example).collect();
    if notes.is_empty() { notes } else { format!("\n{notes}{examples}") }
}

fn counted(requests: u64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") }
}

fn example(one: &ReplayExample) -> String {
    format!("  {}  {}\n", one.id, for_terminal(&one.request))
}

#[cfg(test)]
mod tests {
    use phalanx_control::api::ReplayGroup;
    use phalanx_model::RequestId;

    use super::*;

    #[test]
    fn a_replay_reads_well() {
        let id = RequestId::from_parts(1, 1, 1);
        let group = ReplayGroup {
            change: ReplayChange::Refused,
            app: "shop".into(),
            route: Some("search".into()),
            why: "rule 7".into(),
            rules: vec![7],
            requests: 2,
            clients: 1,
            examples: vec![ReplayExample { id, request: "GET /s?q=a\u{1b}[2J".into() }],
        };
        let replayed = Replayed {
            requests: 40,
            seen: 90,
            complete: true,
            newly_refused: 2,
            groups: vec![group],
            lacks_body: 1,
            ..Replayed::default()
        };
        let expected = format!(
            "replayed   40 of 90 requests of the last 1 h 0 min\n\
             refused    2 that pass now would newly be refused\n\
             passed     0 that are refused now would newly pass\n\
             \n\
             shop, route search: 2 requests would be refused by rule 7, from 1 address\n\
             \x20 rules that matched in all of them: 7\n\
             \x20 {id}  GET /s?q=a\\u{{1b}}[2J\n\
             \n\
             note: of 1 request rules would read more of the body than is recorded\n"
        );
        assert_eq!(words(&replayed, 3_600_000), expected);
    }
}
