//! `phalanx blocklist import|list|show|remove`.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use phalanx_control::api::{Blocklist, BlocklistContent};
use phalanx_model::DecisionKind;
use phalanx_model::limits::BLOCKLIST_TEXT_BYTES_MAX;

use super::print;
use crate::args::parse_name;
use crate::client::{AdminArgs, Client};

/// What to do about blocklists.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BlocklistCommand {
    /// Put a list into force on all nodes, in place of its version before
    ///
    /// One address or prefix a line; comments after # or ;. A list with a line that is neither is refused whole.
    Import(ImportArgs),
    /// List the lists in force
    List(ListArgs),
    /// Show a list and its first prefixes
    Show(ShowArgs),
    /// End a list on all nodes
    Remove(RemoveArgs),
}

/// Arguments of `blocklist import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The list's name, one for the whole fleet
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// The file with the list; - reads standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// What to do with whom is on it
    #[arg(long, value_enum, default_value = "ban")]
    action: ListAction,
    /// For how long, e.g. 12h, 7d; import it again before that
    #[arg(long = "for", value_name = "DURATION", value_parser = print::parse_duration, default_value = "7d")]
    for_ms: u64,
    /// Why; people on other nodes read it [default: where it was read from]
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListAction {
    /// Refuse
    Ban,
    /// Ask for a proof first; nodes of this version do not ask yet
    Challenge,
}

/// Arguments of `blocklist list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `blocklist show`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    /// The list's name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// At most this many prefixes
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `blocklist remove`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoveArgs {
    /// The list's name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Carries it out.
pub(crate) fn run(command: &BlocklistCommand) -> anyhow::Result<ExitCode> {
    match command {
        BlocklistCommand::Import(args) => import(args),
        BlocklistCommand::List(args) => list(args),
        BlocklistCommand::Show(args) => show(args),
        BlocklistCommand::Remove(args) => remove(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let kind = match args.action {
        ListAction::Ban => "ban",
        ListAction::Challenge => "challenge",
    };
    let reason = args.reason.clone().unwrap_or_else(|| match args.file.as_str() {
        "-" => "imported from standard input".to_owned(),
        file => format!("imported from {file}"),
    });
    let query = print::query(&[
        ("kind", Some(kind.to_owned())),
        ("for_ms", Some(args.for_ms.to_string())),
        ("reason", Some(reason)),
    ]);
    let answer = Client::new(&args.admin)?.put_text(&format!("blocklists/{}{query}", args.name), text)?;
    if args.admin.json {
        return print::json(&answer);
    }
    let list: Blocklist = serde_json::from_value(answer)?;
    if let Some(share) = list.held {
        return print::text(&format!(
            "blocklist {name} is HELD on this node: it would refuse {share}; the version before stays in force.\n\
             Put it into force with `phalanx decision approve {id}`, or end it with `phalanx decision reject {id}`.\n",
            name = list.name,
            id = list.id
        ));
    }
    print::text(&format!(
        "blocklist {} is in force for {}: {} prefixes, version {}\n",
        list.name,
        print::duration(args.for_ms),
        list.prefixes,
        list.version
    ))
}

fn read(file: &str) -> anyhow::Result<String> {
    let limit = u64::try_from(BLOCKLIST_TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    let source = || format!("cannot read the list {file}");
    match file {
        "-" => std::io::stdin().lock().take(limit + 1).read_to_end(&mut text).with_context(source)?,
        _ => {
            let opened = std::fs::File::open(file).with_context(source)?;
            opened.take(limit + 1).read_to_end(&mut text).with_context(source)?
        }
    };
    if text.len() > BLOCKLIST_TEXT_BYTES_MAX {
        bail!(
            "the list {file} is longer than {BLOCKLIST_TEXT_BYTES_MAX} bytes; leave out what matters least"
        );
    }
    String::from_utf8(text).with_context(|| format!("the list {file} is no text in UTF-8"))
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.get("blocklists")?;
    if args.admin.json {
        return print::json(&answer);
    }
    let lists: Vec<Blocklist> = serde_json::from_value(answer)?;
    if lists.is_empty() {
        return print::text("no blocklists are in force\n");
    }
    let now_ms = print::now_ms();
    let rows: Vec<Vec<String>> = lists.iter().map(|list| row(list, now_ms)).collect();
    let headings = ["NAME", "KIND", "PREFIXES", "TIME LEFT", "HERE", "AUTHOR", "REASON"];
    print::text(&print::table(&headings, &rows))
}

fn row(list: &Blocklist, now_ms: u64) -> Vec<String> {
    let here = match list.version_in_force {
        _ if list.held.is_some() => "HELD",
        Some(version) if version == list.version => "in force",
        Some(_) => "version before",
        None => "not yet",
    };
    vec![
        list.name.clone(),
        kind(list.kind).into(),
        list.prefixes.to_string(),
        print::duration(list.until_ms.saturating_sub(now_ms)),
        here.into(),
        list.author.to_string(),
        print::short(&list.reason, 80),
    ]
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.get(&format!("blocklists/{}?limit={}", args.name, args.limit))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let shown: BlocklistContent = serde_json::from_value(answer)?;
    let list = &shown.list;
    let made = phalanx_record::rfc3339(list.created_at_ms);
    let mut out = format!("{}, version {} of {made}\n", kind(list.kind), list.version);
    out.push_str(&print::table(
        &["NAME", "KIND", "PREFIXES", "TIME LEFT", "HERE", "AUTHOR", "REASON"],
        &[row(list, print::now_ms())],
    ));
    for prefix in &shown.first {
        out.push_str(&format!("  {prefix}\n"));
    }
    let more = usize::try_from(list.prefixes).unwrap_or(usize::MAX).saturating_sub(shown.first.len());
    if more > 0 {
        out.push_str(&format!("  and {more} more\n"));
    }
    print::text(&out)
}

fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let query = print::query(&[("reason", args.reason.clone())]);
    let answer = Client::new(&args.admin)?.delete(&format!("blocklists/{}{query}", args.name))?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text(&format!("blocklist {} is ended on all nodes\n", args.name))
}

fn kind(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Challenge => "challenge",
        DecisionKind::Ban | DecisionKind::Throttle | DecisionKind::Allow | DecisionKind::RaiseParanoia => {
            "ban"
        }
    }
}
