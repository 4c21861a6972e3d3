//! `phalanx oidc ...`: identity providers by which operators log in.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use phalanx_control::api::ProviderRow;
use phalanx_record::escape::for_terminal;
use serde_json::Value;

use super::print;
use crate::client::{AdminArgs, Client};

/// What to do about identity providers.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OidcCommand {
    /// List the identity providers of a node's settings, and how each does
    List(ListArgs),
    /// Ask an identity provider for its description and its keys, and say what must be entered there
    Test(TestArgs),
}

/// Arguments of `oidc list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `oidc test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    /// The provider's name in the settings
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Carries it out. Exit code 1: nobody gets in by the provider as it is.
pub(crate) fn run(command: &OidcCommand) -> anyhow::Result<ExitCode> {
    match command {
        OidcCommand::List(args) => list(args),
        OidcCommand::Test(args) => test(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("oidc")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<ProviderRow> = serde_json::from_value(answer)?;
    if rows.is_empty() {
        print::text("nobody logs in by an identity provider: the settings have no `[oidc.NAME]`\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = |row: &ProviderRow| match (&row.fault, row.asked_at_ms) {
        (Some(why), _) => for_terminal(why).to_string(),
        (None, 0) => "not asked yet".to_owned(),
        (None, _) => "works".to_owned(),
    };
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.name.clone(), row.issuer.clone(), state(row)]).collect();
    print::text(&print::table(&["NAME", "ISSUER", "STATE"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let answer =
        Client::new(&args.admin)?.post_patiently(&format!("oidc/{}/test", args.name), &Value::Null)?;
    let row: ProviderRow = serde_json::from_value(answer.clone())?;
    let works = row.fault.is_none() && !is_far(&row);
    match args.admin.json {
        true => print::json(&answer)?,
        false => print::text(&words(&row))?,
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(row: &ProviderRow) -> String {
    let mut lines =
        vec![format!("{} is {}, and knows this console as {}", row.name, row.issuer, row.client_id)];
    match &row.fault {
        Some(why) => lines.push(format!("nobody gets in by it: {}", for_terminal(why))),
        None => lines.push(format!("its description holds, with {} keys that count", row.keys.unwrap_or(0))),
    }
    match row.ahead_ms {
        Some(ahead) if is_far(row) => lines.push(format!(
            "its clock and this node's are {} apart, and a minute is forgiven: set both by NTP",
            print::duration(ahead.unsigned_abs())
        )),
        Some(_) => lines.push("its clock and this node's agree".to_owned()),
        None => {}
    }
    lines.push(
        "accounts are bound to the issuer as it is written: with another spelling all are new, also who is kept out or was removed"
            .to_owned(),
    );
    lines.push("it must know these addresses to lead browsers back to, to the letter:".to_owned());
    lines.extend(row.redirects.iter().map(|redirect| format!("  {redirect}")));
    lines.join("\n") + "\n"
}

/// Whether tokens would be refused because the clocks differ. The provider tells its own in whole seconds.
fn is_far(row: &ProviderRow) -> bool {
    row.ahead_ms.is_some_and(|ahead| ahead.unsigned_abs() > phalanx_trust::oidc::LEEWAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_provider_says_what_to_do() {
        let row = ProviderRow {
            name: "corp".into(),
            title: "Corp".into(),
            issuer: "https://id.example".into(),
            client_id: "phalanx".into(),
            redirects: vec!["https://console.example/login/oidc/corp/callback".into()],
            asked_at_ms: 1,
            fault: None,
            keys: Some(2),
            ahead_ms: Some(900),
        };
        let good = words(&row);
        assert!(good.contains("with 2 keys that count") && good.contains("agree"), "{good}");
        assert!(good.contains("\n  https://console.example/login/oidc/corp/callback\n"), "{good}");
        let bad =
            words(&ProviderRow { fault: Some("TLS: \u{1b}[31m".into()), ahead_ms: Some(-3_600_000), ..row });
        assert!(bad.contains("nobody gets in by it: TLS: ") && !bad.contains('\u{1b}'), "{bad}");
        assert!(bad.contains("are 1 h 0 min apart") || bad.contains("apart"), "{bad}");
    }
}
