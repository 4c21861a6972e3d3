//! `phalanx upgrade`: a process of the installed binary takes over from the running one.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use phalanx_control::api::{Status, UpgradeBegun};
use phalanx_record::escape::for_terminal;
use serde_json::json;

use super::print;
use crate::client::{AdminArgs, Client};
use crate::node::UPGRADE_FAILED;

/// Arguments of `upgrade`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Begins an upgrade and waits until another process answers, which need not be one of the new version.
pub(crate) fn run(args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    let before: Status = serde_json::from_value(client.get("status")?)?;
    let begun: UpgradeBegun = serde_json::from_value(client.post("upgrade", None)?)?;
    let started = Instant::now();
    let after = loop {
        // The node answers nobody while its state changes hands; what connects then waits for the next process.
        let answer = client.get("status").and_then(|answer| Ok(serde_json::from_value::<Status>(answer)?));
        match answer {
            Ok(status) if status.process.id != begun.from => break status,
            other if started.elapsed() > LONGEST => {
                let last = other.map(|_| "the old process still answers".to_owned());
                bail!(
                    "no other process took over within {} s: {}",
                    LONGEST.as_secs(),
                    last.unwrap_or_else(|e| format!("{e:#}"))
                );
            }
            _ => std::thread::park_timeout(LOOK_AGAIN),
        }
    };
    if let Some(fault) = after.fleet.degraded.iter().find(|line| line.starts_with(UPGRADE_FAILED)) {
        bail!("{}; a process of version {} serves", for_terminal(fault), after.version);
    }
    if args.admin.json {
        print::json(&json!({
            "from": { "process": begun.from, "version": before.version },
            "to": { "process": after.process.id, "version": after.version },
        }))?;
    } else {
        print::text(&format!(
            "process {} of version {} took over from process {} of version {}\n",
            after.process.id,
            for_terminal(&after.version),
            begun.from,
            for_terminal(&before.version),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

const LONGEST: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
