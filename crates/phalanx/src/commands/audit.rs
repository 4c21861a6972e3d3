//! `phalanx audit`: what was decided and done on a node, from its ledger.

use std::process::ExitCode;

use clap::Args;
use phalanx_record::escape::for_terminal;
use phalanx_record::ledger::{AuditChain, AuditPage, KINDS};
use phalanx_record::rfc3339;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `audit`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Only entries with a smaller number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Only this kind
    #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(KINDS))]
    kind: Option<String>,
    /// Only by this author, a part of the name
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints entries of the ledger, the newest first. The exit code is 1 if its chain is broken.
pub(crate) fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let query = print::query(&[
        ("limit", Some(args.limit.to_string())),
        ("before", args.before.map(|before| before.to_string())),
        ("kind", args.kind.clone()),
        ("by", args.by.clone()),
    ]);
    let answer = Client::new(&args.admin)?.get(&format!("audit{query}"))?;
    let page: AuditPage = serde_json::from_value(answer.clone())?;
    match args.admin.json {
        true => print::json(&answer)?,
        false => print::text(&words(&page))?,
    }
    Ok(if page.chain.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(page: &AuditPage) -> String {
    let rows: Vec<Vec<String>> = page
        .entries
        .iter()
        .map(|entry| {
            vec![
                entry.seq.to_string(),
                rfc3339(entry.at_ms),
                entry.by.clone().unwrap_or_else(|| String::from("-")),
                print::short(&entry.words, 160),
            ]
        })
        .collect();
    let mut out = match rows.is_empty() {
        true => String::from("no entries\n"),
        false => print::table(&["NUMBER", "TIME", "BY", "WHAT"], &rows),
    };
    if let Some(next) = page.next {
        out.push_str(&format!("older ones: --before {next}\n"));
    }
    out.push_str(&chain(&page.chain));
    out
}

fn chain(chain: &AuditChain) -> String {
    match &chain.fault {
        Some(fault) => format!("\nthe chain is BROKEN at {}\n", for_terminal(fault)),
        None if chain.whole => format!("\nthe chain holds: {} entries, head {}\n", chain.length, chain.head),
        None => format!("\nthe chain holds up to entry {}; ask again for more of it\n", chain.length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_their_chain_read_well() {
        let mut page: AuditPage = serde_json::from_value(serde_json::json!({
            "entries": [
                { "seq": 3, "at_ms": 1_785_585_600_000_u64, "hash": "ab", "kind": "operator_action", "by": "operator ann",
                  "words": "ban 192.0.2.9 for 60 s: loud\u{1b}[2J", "data": {} },
                { "seq": 2, "at_ms": 1_785_585_500_000_u64, "hash": "aa", "kind": "node", "words": "the node started", "data": {} },
            ],
            "next": 2,
            "chain": { "ok": true, "whole": true, "length": 3, "head": "ab" },
        }))
        .unwrap();
        insta::assert_snapshot!(words(&page));
        page.chain = AuditChain { ok: false, fault: Some("ledger-1.jsonl:2: changed".into()), ..page.chain };
        assert!(words(&page).ends_with("\nthe chain is BROKEN at ledger-1.jsonl:2: changed\n"));
    }
}
