//! `phalanx operator token ...`: API tokens, which let programs act for an operator.

use clap::{Args, Subcommand};
use phalanx_control::api::{ApiTokenMade, NewApiToken, OperatorRow};

use super::operator::{RoleArg, named};
use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `operator token`.
#[derive(Debug, Clone, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum TokenCommand {
    /// Make a token that acts for an operator and can do no more than he; printed once
    Add(AddArgs),
    /// List tokens: whose they are, what they may do, when they end
    List(ListArgs),
    /// End a token
    End(EndArgs),
}

#[derive(Debug, Clone, Args)]
struct AddArgs {
    /// Whose it is
    #[arg(value_name = "OPERATOR")]
    operator: String,
    /// Its name: 1 to 63 characters of a-z, 0-9, - and _
    #[arg(value_name = "TOKEN")]
    name: String,
    /// What it may do at most
    #[arg(long, value_enum, default_value = "viewer")]
    role: RoleArg,
    /// The only app that it may act on; may be given more than once [default: all of its owner's]
    #[arg(long = "app", value_name = "APP")]
    apps: Vec<String>,
    /// For how long: 12h, 30d; a year at most
    #[arg(long = "for", value_name = "DURATION", value_parser = print::parse_duration)]
    for_ms: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct EndArgs {
    /// Whose it is
    #[arg(value_name = "OPERATOR")]
    operator: String,
    /// Its name
    #[arg(value_name = "TOKEN")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    match &args.command {
        TokenCommand::Add(args) => add(args),
        TokenCommand::List(args) => list(args),
        TokenCommand::End(args) => end(args),
    }
}

fn add(args: &AddArgs) -> anyhow::Result<()> {
    let new = NewApiToken {
        name: args.name.clone(),
        role: args.role.into(),
        apps: args.apps.clone(),
        for_ms: args.for_ms,
    };
    let path = format!("operators/{}/tokens", named(&args.operator)?);
    let answer = Client::new(&args.admin)?.post(&path, Some(&serde_json::to_value(new)?))?;
    if args.admin.json {
        return print::json(&answer);
    }
    let made: ApiTokenMade = serde_json::from_value(answer)?;
    let left = print::duration(made.expires_at_ms.saturating_sub(print::now_ms()) + 999);
    print::text(&format!("{}\nshown once; it ends in {left}\n", made.token))
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.get("operators")?;
    let operators: Vec<OperatorRow> = serde_json::from_value(answer)?;
    if args.admin.json {
        let of = |one: &OperatorRow| {
            let tokens = one.tokens.iter();
            tokens
                .map(|token| serde_json::json!({ "operator": one.name, "token": token }))
                .collect::<Vec<_>>()
        };
        let all: Vec<_> = operators.iter().flat_map(of).collect();
        return print::json(&serde_json::Value::Array(all));
    }
    let now_ms = print::now_ms();
    let of = |one: &OperatorRow| {
        let row = |token: &phalanx_control::api::ApiTokenRow| {
            let role = format!("{:?}", token.role).to_lowercase();
            let apps = if token.apps.is_empty() { "all of his".to_owned() } else { token.apps.join(", ") };
            let ends = match token.expires_at_ms.checked_sub(now_ms) {
                Some(left) => format!("in {}", print::duration(left)),
                None => "has ended".to_owned(),
            };
            vec![one.name.clone(), token.name.clone(), role, print::short(&apps, 40), ends]
        };
        one.tokens.iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = operators.iter().flat_map(of).collect();
    if rows.is_empty() {
        return print::text("there are no API tokens; `phalanx operator token add` makes one\n");
    }
    print::text(&print::table(&["OPERATOR", "TOKEN", "ROLE", "APPS", "ENDS"], &rows))
}

fn end(args: &EndArgs) -> anyhow::Result<()> {
    let (operator, name) = (named(&args.operator)?, &args.name);
    if !phalanx_trust::valid_name(name) {
        anyhow::bail!("there is no token of that name");
    }
    let answer = Client::new(&args.admin)?.delete(&format!("operators/{operator}/tokens/{name}"))?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text(&format!("{name} of {operator} has ended\n"))
}
