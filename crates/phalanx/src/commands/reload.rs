//! `phalanx reload`: loads the policy of a running node again.

use std::process::ExitCode;

use clap::Args;
use phalanx_control::api::PolicyReloaded;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `reload`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Loads the policy again; a refused one changes nothing and its faults are printed.
pub(crate) fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let reloaded = Client::new(&args.admin).and_then(|client| client.post("policy/reload", None));
    let answer = print::or_told(args.admin.json, reloaded)?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        let reloaded: PolicyReloaded = serde_json::from_value(answer)?;
        print::text(&format!("policy in force: version {} (was {})\n", reloaded.to, reloaded.from))?;
    }
    Ok(ExitCode::SUCCESS)
}
