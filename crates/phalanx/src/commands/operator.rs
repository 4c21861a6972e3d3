//! `phalanx operator ...`: people with accounts, and their sessions.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use phalanx_control::api::{
    NewOperator, OperatorEdit, OperatorInvited, OperatorRole, OperatorRow, SessionRow,
};

use super::operator_token::{self, TokenArgs};
use super::{apps, print};
use crate::client::{AdminArgs, Client};

/// Arguments of `operator`.
#[derive(Debug, Clone, Args)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum OperatorCommand {
    /// Add an operator; prints the link by which he gives his account a passkey, or a password with an app for codes
    Add(AddArgs),
    /// List operators, and how each can log in
    List(ListArgs),
    /// Change an operator's role or apps; his sessions end
    Change(ChangeArgs),
    /// Keep an operator out; his sessions end
    Disable(NameArgs),
    /// Let an operator in again
    Enable(NameArgs),
    /// Take all credentials and API tokens of an operator, or of all; prints a link to give new ones
    Reset(ResetArgs),
    /// Remove an operator; his sessions end
    Remove(NameArgs),
    /// API tokens of operators, for programs
    Token(TokenArgs),
    /// List open console sessions
    Sessions(ListArgs),
    /// End a console session
    End(EndArgs),
}

/// What an operator may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleArg {
    /// Look
    Viewer,
    /// Order and undo decisions, answer incidents
    Responder,
    /// Change policy, blocklists and bouncers
    Editor,
    /// Change operators, keys and nodes
    Owner,
}

impl From<RoleArg> for OperatorRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Responder => Self::Responder,
            RoleArg::Editor => Self::Editor,
            RoleArg::Owner => Self::Owner,
        }
    }
}

#[derive(Debug, Clone, Args)]
struct AddArgs {
    /// His name: 1 to 63 characters of a-z, 0-9, - and _
    #[arg(value_name = "NAME")]
    name: String,
    /// What he may do
    #[arg(long, value_enum)]
    role: RoleArg,
    /// The only app that he may see and act on; may be given more than once [default: all apps]
    #[arg(long = "app", value_name = "APP")]
    apps: Vec<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct ChangeArgs {
    /// His name
    #[arg(value_name = "NAME")]
    name: String,
    /// What he may do
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    /// The only app that he may see and act on; may be given more than once
    #[arg(long = "app", value_name = "APP", conflicts_with = "all_apps")]
    apps: Vec<String>,
    /// He may see and act on all apps
    #[arg(long)]
    all_apps: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct NameArgs {
    /// His name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct ResetArgs {
    /// His name
    #[arg(value_name = "NAME", required_unless_present = "all")]
    name: Option<String>,
    /// All operators, as after a control node was stolen
    #[arg(long, conflicts_with = "name")]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct EndArgs {
    /// The session's id, as `phalanx operator sessions` prints it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `operator`.
pub(crate) fn run(args: &OperatorArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        OperatorCommand::Add(args) => add(args),
        OperatorCommand::List(args) => list(args),
        OperatorCommand::Change(args) => change(args),
        OperatorCommand::Disable(args) => keep_out(args, true),
        OperatorCommand::Enable(args) => keep_out(args, false),
        OperatorCommand::Reset(args) => reset(args),
        OperatorCommand::Remove(args) => remove(args),
        OperatorCommand::Token(args) => operator_token::run(args),
        OperatorCommand::Sessions(args) => sessions(args),
        OperatorCommand::End(args) => end(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(args: &AddArgs) -> anyhow::Result<()> {
    let new = NewOperator { name: args.name.clone(), role: args.role.into(), apps: args.apps.clone() };
    let client = Client::new(&args.admin)?;
    let answer = client.post("operators", Some(&serde_json::to_value(new)?))?;
    apps::doubt(&client, &args.apps);
    invited(&args.admin, &answer)
}

fn reset(args: &ResetArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.admin)?;
    let Some(name) = &args.name else { return reset_all(&args.admin, &client) };
    let answer = client.post(&format!("operators/{}/reset", named(name)?), None)?;
    invited(&args.admin, &answer)
}

fn reset_all(admin: &AdminArgs, client: &Client) -> anyhow::Result<()> {
    let answer = client.post("operator-resets", None)?;
    if admin.json {
        return print::json(&answer);
    }
    let all: Vec<OperatorInvited> = serde_json::from_value(answer)?;
    let Some(first) = all.first() else { return print::text("there are no operators\n") };
    let row = |one: &OperatorInvited| {
        let link = match (&one.url, one.operator.disabled) {
            (_, true) => "kept out; see `phalanx operator enable`".to_owned(),
            (Some(url), false) => url.clone(),
            (None, false) => "none: this node has no console".to_owned(),
        };
        vec![one.operator.name.clone(), link]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let left = print::duration(first.expires_at_ms.saturating_sub(print::now_ms()) + 999);
    let links = print::table(&["NAME", "LINK"], &rows);
    print::text(&format!("{links}each for its operator alone: good once, for {left}\n"))
}

fn invited(admin: &AdminArgs, answer: &serde_json::Value) -> anyhow::Result<()> {
    if admin.json {
        return print::json(answer);
    }
    let made: OperatorInvited = serde_json::from_value(answer.clone())?;
    if let Some(provider) = &made.operator.provider {
        return print::text(&format!(
            "{} has no passkeys any more, and logs in by {provider} as before\n",
            made.operator.name
        ));
    }
    let Some(url) = made.url else {
        anyhow::bail!("{} has an account, but this node has no console to open it with", made.operator.name);
    };
    let left = print::duration(made.expires_at_ms.saturating_sub(print::now_ms()) + 999);
    print::text(&format!("{url}\nfor {} alone: good once, for {left}\n", made.operator.name))
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.get("operators")?;
    if args.admin.json {
        return print::json(&answer);
    }
    let operators: Vec<OperatorRow> = serde_json::from_value(answer)?;
    if operators.is_empty() {
        return print::text(
            "there are no operators; `phalanx operator add NAME --role owner` adds the first\n",
        );
    }
    print::text(&table(&operators))
}

fn table(operators: &[OperatorRow]) -> String {
    let row = |one: &OperatorRow| {
        let apps =
            if one.apps.is_empty() { "all".to_owned() } else { print::short(&one.apps.join(", "), 40) };
        let mut ways = Vec::new();
        ways.extend(one.provider.as_ref().map(|provider| format!("by {provider}")));
        ways.extend((!one.passkeys.is_empty()).then(|| format!("{} passkeys", one.passkeys.len())));
        ways.extend(one.password.then(|| format!("password, {} recovery codes", one.recovery_codes)));
        ways.extend((!one.tokens.is_empty()).then(|| format!("{} tokens", one.tokens.len())));
        let state = match (one.disabled, ways.is_empty()) {
            (true, _) => "disabled".to_owned(),
            (false, true) => "nothing yet".to_owned(),
            (false, false) => ways.join(", "),
        };
        let role = format!("{:?}", one.role).to_lowercase();
        vec![one.name.clone(), role, apps, state, one.via.clone(), one.made_on.clone()]
    };
    let rows: Vec<Vec<String>> = operators.iter().map(row).collect();
    print::table(&["NAME", "ROLE", "APPS", "LOGS IN WITH", "CAME BY", "ON"], &rows)
}

fn change(args: &ChangeArgs) -> anyhow::Result<()> {
    let apps = (args.all_apps || !args.apps.is_empty()).then(|| args.apps.clone());
    let edit = OperatorEdit { role: args.role.map(Into::into), apps, disabled: None };
    if edit == OperatorEdit::default() {
        anyhow::bail!("say what to change: --role, --app or --all-apps");
    }
    edited(&args.admin, &args.name, &edit)
}

fn keep_out(args: &NameArgs, disabled: bool) -> anyhow::Result<()> {
    let edit = OperatorEdit { disabled: Some(disabled), ..OperatorEdit::default() };
    edited(&args.admin, &args.name, &edit)
}

fn edited(admin: &AdminArgs, name: &str, edit: &OperatorEdit) -> anyhow::Result<()> {
    let path = format!("operators/{}", named(name)?);
    let answer = Client::new(admin)?.patch(&path, &serde_json::to_value(edit)?)?;
    if admin.json {
        return print::json(&answer);
    }
    print::text(&table(&[serde_json::from_value(answer)?]))
}

fn remove(args: &NameArgs) -> anyhow::Result<()> {
    let name = named(&args.name)?;
    let answer = Client::new(&args.admin)?.delete(&format!("operators/{name}"))?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text(&format!("{name} has no account any more\n"))
}

fn sessions(args: &ListArgs) -> anyhow::Result<()> {
    let answer = Client::new(&args.admin)?.get("sessions")?;
    if args.admin.json {
        return print::json(&answer);
    }
    let sessions: Vec<SessionRow> = serde_json::from_value(answer)?;
    if sessions.is_empty() {
        return print::text("there are no open sessions\n");
    }
    let now_ms = print::now_ms();
    let ago = |at_ms: u64| format!("{} ago", print::duration(now_ms.saturating_sub(at_ms)));
    let row = |one: &SessionRow| {
        let whose = one.operator.clone().unwrap_or_else(|| "a login link".to_owned());
        vec![one.id.clone(), whose, ago(one.opened_at_ms), ago(one.seen_at_ms)]
    };
    let rows: Vec<Vec<String>> = sessions.iter().map(row).collect();
    print::text(&print::table(&["ID", "OF", "OPENED", "USED"], &rows))
}

fn end(args: &EndArgs) -> anyhow::Result<()> {
    if !args.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        anyhow::bail!("there is no such session");
    }
    let answer = Client::new(&args.admin)?.delete(&format!("sessions/{}", args.id))?;
    if args.admin.json {
        return print::json(&answer);
    }
    print::text("the session has ended\n")
}

/// A name that can be one; any other would be another path.
pub(super) fn named(name: &str) -> anyhow::Result<&str> {
    if !phalanx_trust::valid_name(name) {
        anyhow::bail!("there is no operator of that name");
    }
    Ok(name)
}
