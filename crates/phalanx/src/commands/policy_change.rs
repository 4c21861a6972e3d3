//! `phalanx policy changes`, `change`, `approve` and `reject`: changes of policy, and the second operator.

use std::process::ExitCode;

use clap::Args;
use phalanx_control::api::{PolicyApproval, PolicyChange, PolicyChangeState, PolicyRejection};
use phalanx_record::escape::for_terminal;
use serde_json::Value;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `policy changes`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangesArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy change`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArgs {
    /// The change's id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy approve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApproveArgs {
    /// The change's id
    #[arg(value_name = "ID")]
    id: String,
    /// The hash of what you looked at, as `phalanx policy change ID` tells it
    #[arg(long, value_name = "HASH")]
    hash: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy reject`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RejectArgs {
    /// The change's id
    #[arg(value_name = "ID")]
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Lists the changes of a node.
pub(crate) fn list(args: &ChangesArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("policy/changes")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let changes: Vec<PolicyChange> = serde_json::from_value(answer)?;
    if changes.is_empty() {
        print::text("nobody asked this node for a change of policy yet\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = changes.iter().map(|change| {
        vec![
            change.id.clone(),
            phalanx_record::rfc3339(change.at_ms),
            state(change),
            change.author.clone(),
            change.dangers.len().to_string(),
            change.reason.clone(),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    print::text(&print::table(&["ID", "TIME", "STATE", "AUTHOR", "DANGERS", "REASON"], &rows))?;
    print::text("\nof this node; a change waits at the node where it was made\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Shows a change.
pub(crate) fn show(args: &ChangeArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get(&format!("policy/changes/{}", args.id))?;
    tell(&args.admin, answer)
}

/// Publishes a change of somebody else.
pub(crate) fn approve(args: &ApproveArgs) -> anyhow::Result<ExitCode> {
    let order = PolicyApproval { hash: args.hash.clone(), reason: args.reason.clone() };
    let path = format!("policy/changes/{}/approve", args.id);
    let answer = Client::new(&args.admin)?.post_patiently(&path, &serde_json::to_value(order)?)?;
    tell(&args.admin, answer)
}

/// Says no to a change.
pub(crate) fn reject(args: &RejectArgs) -> anyhow::Result<ExitCode> {
    let order = serde_json::to_value(PolicyRejection { reason: args.reason.clone() })?;
    let path = format!("policy/changes/{}/reject", args.id);
    let answer = Client::new(&args.admin)?.post(&path, Some(&order))?;
    tell(&args.admin, answer)
}

/// Prints a change as the node told it.
pub(super) fn tell(admin: &AdminArgs, answer: Value) -> anyhow::Result<ExitCode> {
    if admin.json {
        print::json(&answer)?;
    } else {
        print::text(&words(&serde_json::from_value(answer)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn state(change: &PolicyChange) -> String {
    match (change.state, change.version) {
        (PolicyChangeState::Waiting, _) => "waits".into(),
        (PolicyChangeState::Published, Some(version)) => format!("version {version}"),
        (PolicyChangeState::Published, None) => "published".into(),
        (PolicyChangeState::Rejected, _) => "rejected".into(),
        (PolicyChangeState::Expired, _) => "expired".into(),
    }
}

fn words(change: &PolicyChange) -> String {
    let mut lines = vec![
        format!("change     {}, {}", change.id, state(change)),
        format!(
            "asked by   {}, at {}: {}",
            change.author,
            phalanx_record::rfc3339(change.at_ms),
            change.reason
        ),
        format!("made of    {}, after version {}", change.source, change.base),
    ];
    if let Some(stage) = &change.stage {
        lines.push(format!("trial      {stage} tries it first"));
    }
    if let Some(second) = &change.approved_by {
        lines.push(format!("approved   by {second}"));
    }
    if !change.decided_reason.is_empty() {
        lines.push(format!("because    {}", change.decided_reason));
    }
    lines.push(String::new());
    lines.extend(change.diff.iter().map(|one| format!("  {}", one.words)));
    if change.diff_left_out > 0 {
        lines.push(format!("  and {} more", change.diff_left_out));
    }
    if !change.dangers.is_empty() {
        lines.push(String::new());
        lines.push("DANGEROUS, for it takes protection away:".into());
        lines.extend(change.dangers.iter().map(|one| format!("! {}", one.words)));
    }
    if change.state == PolicyChangeState::Waiting {
        lines.push(String::new());
        lines.push("another operator must approve it, after a look at the above:".into());
        lines.push(format!("  phalanx policy approve {} --hash {}", change.id, change.hash));
        lines.push(format!("it waits until {}", phalanx_record::rfc3339(change.expires_at_ms)));
    }
    lines.iter().map(|line| for_terminal(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use phalanx_control::api::PolicyDifference;

    use super::*;

    #[test]
    fn a_change_that_waits_says_what_it_does_and_what_is_to_be_done() {
        let one = |words: &str| PolicyDifference { words: words.into(), app: None, route: None };
        let change = PolicyChange {
            id: "01".into(),
            state: PolicyChangeState::Waiting,
            author: "ann".into(),
            reason: "a test\u{1b}[2J".into(),
            source: "files".into(),
            at_ms: 0,
            expires_at_ms: 86_400_000,
            hash: "abc".into(),
            base: 3,
            stage: None,
            needs_second: true,
            dangers: vec![one("app shop: its rules refuse nothing")],
            diff: vec![one("app shop: mode: block -> observe")],
            diff_left_out: 0,
            approved_by: None,
            decided_reason: String::new(),
            decided_at_ms: None,
            version: None,
        };
        let expected = "\
change     01, waits
asked by   ann, at 1970-01-01T00:00:00.000Z: a test\\u{1b}[2J
made of    files, after version 3

  app shop: mode: block -> observe

DANGEROUS, for it takes protection away:
! app shop: its rules refuse nothing

another operator must approve it, after a look at the above:
  phalanx policy approve 01 --hash abc
it waits until 1970-01-02T00:00:00.000Z
";
        assert_eq!(words(&change), expected);
    }
}
