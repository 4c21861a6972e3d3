//! `phalanx policy plan`: what applying a policy file would do, before anybody applies it.
//!
//! Flow in names: a file and what a node runs -> [`Differs`]; the file and recorded requests -> [`Replayed`]; the fleet's newest version ->
//! the command that applies the file to just that.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use phalanx_control::api::{Policy, Replayed};
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use super::policy_diff::{self, Differs};
use super::{policy, print, replay};
use crate::client::{AdminArgs, Client};

/// Arguments of `policy plan`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanArgs {
    /// The policy file; the rules and data that it names are read from here too
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Of how long the recorded requests are replayed
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = print::parse_duration)]
    last: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What would happen.
#[derive(Debug, Serialize)]
struct Plan {
    #[serde(flatten)]
    differs: Differs,
    /// An operator's change waits until another one approves it.
    needs_approval: bool,
    /// The fleet's newest version, which `--expect` names; `None` while each node runs its own policy.
    newest: Option<u64>,
    /// What would change for the requests that the node recorded; `None` if nothing differs, or if they cannot be replayed.
    replayed: Option<Replayed>,
    /// Why they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_replayed: Option<String>,
}

/// Carries it out. Exit code 0: nothing would change; 1: something would; 2: there is nothing to compare, or what has expired is in the file.
pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let differs = match Differs::between(Path::new(RUNNING), &args.file, &args.admin) {
        Ok(differs) => differs,
        Err(refused) => return refused.tell(args.admin.json),
    };
    // Warns of what the file says, and refuses what no fleet would be given.
    let collected = match policy::collect(&args.file) {
        Ok(collected) => collected,
        Err(fault) => {
            eprintln!("phalanx: {fault:#}");
            return Ok(ExitCode::from(policy_diff::FAULTS));
        }
    };
    let told: Policy = serde_json::from_value(Client::new(&args.admin)?.get("policy")?)?;
    let mut plan = Plan {
        needs_approval: differs.is_dangerous(),
        newest: told.trial.map(|trial| trial.version).or(told.stable).map(|one| one.version),
        replayed: None,
        not_replayed: None,
        differs,
    };
    if !plan.differs.same {
        match replay::replayed(collected, args.last, &args.admin) {
            Ok(replayed) => plan.replayed = Some(replayed),
            Err(why) => plan.not_replayed = Some(format!("{why:#}")),
        }
    }
    if args.admin.json {
        print::json(&plan)?;
    } else {
        print::text(&words(&plan, args))?;
    }
    Ok(if plan.differs.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(plan: &Plan, args: &PlanArgs) -> String {
    if plan.differs.same {
        return "nothing would change: the node runs what the file means\n".to_owned();
    }
    let mut out = policy_diff::words(&plan.differs);
    out.push('\n');
    if let Some(replayed) = &plan.replayed {
        out.push_str(&replay::words(replayed, args.last));
    }
    if let Some(why) = &plan.not_replayed {
        out.push_str(&format!("no request is replayed: {}\n", for_terminal(why)));
    }
    let expect = plan.newest.map(|version| format!(" --expect {version}")).unwrap_or_default();
    let file = args.file.display().to_string();
    out.push_str(&format!("\nphalanx policy apply {}{expect} --reason TEXT\n", for_terminal(&file)));
    if plan.needs_approval {
        out.push_str("an operator's change of this kind waits until another operator approves it\n");
    }
    out
}

const RUNNING: &str = "running";
