//! `phalanx login`: a one-time link to the console.

use std::process::ExitCode;

use clap::Args;
use phalanx_control::api::LoginLink;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `login`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints a link that logs one browser in, once.
pub(crate) fn run(args: &LoginArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.post("login-links", None)?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        let link: LoginLink = serde_json::from_value(answer)?;
        let left = print::duration(link.expires_at_ms.saturating_sub(print::now_ms()) + 999);
        print::text(&format!("{}\ngood once, for {left}\n", link.url))?;
    }
    Ok(ExitCode::SUCCESS)
}
