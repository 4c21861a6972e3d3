//! `phalanx waf suggest ID`: the narrowest exclusion that would have let a request pass, and what else it would let pass; with `--apply`, put
//! into force. `phalanx waf exclusions`: those in force.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use phalanx_control::api::{ExclusionRow, ExclusionState, NewExclusion};
use phalanx_control::suggest::Suggestion;
use phalanx_model::RequestId;
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `waf suggest`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SuggestArgs {
    /// The request's id, as the blocked visitor saw it
    #[arg(value_name = "REQUEST_ID")]
    id: RequestId,
    /// Who answers for the exclusion
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Why it is there, e.g. "ticket 4711: comments quote SQL"
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// After how many days it ends
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Write it into this policy file, below its app; the rest of the file stays as it is
    #[arg(long, value_name = "FILE", conflicts_with = "apply")]
    write: Option<PathBuf>,
    /// Add it to the policy of all nodes, as `phalanx policy apply` would; needs --owner and --reason
    #[arg(long, requires = "owner", requires = "reason")]
    apply: bool,
    /// The hash of what you looked at, as `phalanx waf suggest` tells it; needed where it is of more than single values at single paths
    #[arg(long, value_name = "HASH", requires = "apply")]
    shown: Option<String>,
    /// Apply it although the request would still be refused, or nobody knows that it would not
    #[arg(long, requires = "apply")]
    although_not_enough: bool,
    /// The node that tries it first
    #[arg(long, value_name = "SITE/NODE", value_parser = super::fleet::parse_node, requires = "apply", conflicts_with = "canary_site")]
    canary: Option<(String, String)>,
    /// The site that tries it first
    #[arg(long, value_name = "NAME", value_parser = crate::args::parse_name, requires = "apply")]
    canary_site: Option<String>,
    /// How long it is tried before all nodes get it; without it, until `phalanx policy promote`
    #[arg(long, value_name = "DURATION", value_parser = print::parse_duration, requires = "apply")]
    bake: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Suggests what would have let a request pass.
pub(crate) fn run(args: &SuggestArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    if let (true, Some(owner), Some(reason)) = (args.apply, &args.owner, &args.reason) {
        let shown = match &args.shown {
            Some(shown) => shown.clone(),
            None => narrow_enough(client.get_patiently(&path_of(args))?)?,
        };
        let order = NewExclusion {
            request: args.id,
            shown,
            expires_ms: print::now_ms().saturating_add(u64::from(args.days) * DAY_MS),
            owner: owner.clone(),
            reason: reason.clone(),
            although_not_enough: args.although_not_enough,
            canary_site: args.canary.as_ref().map(|(site, _)| site.clone()).or(args.canary_site.clone()),
            canary_node: args.canary.as_ref().map(|(_, node)| node.clone()),
            bake_ms: args.bake,
        };
        let answer = client.post_patiently("exclusions", &serde_json::to_value(order)?)?;
        return super::policy_change::tell(&args.admin, answer);
    }
    let answer = client.get_patiently(&path_of(args))?;
    let suggestion: Suggestion = serde_json::from_value(answer.clone())?;
    if let Some(file) = &args.write {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let edited = phalanx_policy::edit::with_exclusions(&text, &suggestion.app, &suggestion.toml);
        let edited = edited.map_err(|fault| anyhow::anyhow!("{}: {fault}", file.display()))?;
        replace(file, &edited).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.admin.json {
        print::json(&answer)?;
    } else {
        print::text(&words(&suggestion, args.write.as_ref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the suggestion is asked for.
fn path_of(args: &SuggestArgs) -> String {
    let mut path = format!("events/{}/suggestion?days={}", args.id, args.days);
    for (key, value) in [("owner", &args.owner), ("reason", &args.reason)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", encoded(value)));
        }
    }
    path
}

/// The hash of a suggestion that may be applied unseen.
fn narrow_enough(answer: serde_json::Value) -> anyhow::Result<String> {
    let suggestion: Suggestion = serde_json::from_value(answer)?;
    if suggestion.is_of_single_values() {
        return Ok(suggestion.shown);
    }
    anyhow::bail!(
        "the exclusion is of more than single values at single paths, so it is not applied unseen. Look at it, and say what you saw:\n\n{}",
        words(&suggestion, None)
    )
}

/// Arguments of `waf exclusions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExclusionsArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Lists what rules do not look at.
pub(crate) fn exclusions(args: &ExclusionsArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get("exclusions")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<ExclusionRow> = serde_json::from_value(answer)?;
    if rows.is_empty() {
        print::text("the policy that this node runs has no exclusions\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(listed).collect();
    let head = ["APP", "PATH", "RULES", "TARGET", "OWNER", "ENDS", "STATE", "WHERE", "REASON"];
    print::text(&print::table(&head, &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn listed(row: ExclusionRow) -> Vec<String> {
    let ends = row.expires_ms.map_or_else(|| "never".to_owned(), phalanx_record::rfc3339);
    let state = match row.state {
        ExclusionState::InForce => "in force",
        ExclusionState::EndsSoon => "ends soon",
        ExclusionState::Expired => "EXPIRED",
    };
    vec![
        row.app,
        row.route.unwrap_or_else(|| "all".to_owned()),
        row.rules.join(" "),
        row.target.unwrap_or_else(|| "all".to_owned()),
        row.owner,
        ends,
        state.to_owned(),
        format!("{}:{}", row.file, row.line),
        row.reason,
    ]
}

const DAY_MS: u64 = 86_400_000;

/// What people read is comments, so that all of it can be pasted.
fn words(suggestion: &Suggestion, written: Option<&PathBuf>) -> String {
    let mut out = format!("# request {}, app {}\n", suggestion.id, for_terminal(&suggestion.app));
    let mut say = |line: &str| {
        out.push_str(&format!("# {}\n", for_terminal(line)));
    };
    say(match (suggestion.passes, &suggestion.recording) {
        (true, Some(_)) => "With this the request passes: it was judged again, as it is recorded.",
        (true, None) => "With this, nothing that is known of the request would refuse it.",
        (false, _) => "This is not enough: the request would still be refused.",
    });
    let pass = &suggestion.lets_pass;
    say(&format!(
        "Of {} other requests that these rules refused or flagged, not of its client's network, it lets {} pass.",
        pass.others, pass.passed
    ));
    for one in &pass.examples {
        say(&format!("  {} {} {} of {}", one.id, one.method, one.path, one.network));
    }
    if let Some(recorded) = &suggestion.recording {
        let of = if recorded.complete { "all" } else { "not all" };
        say(&format!(
            "Of {} recorded requests of the app, not of its client's network, {} that rules refuse now would pass ({of} of the recording was judged).",
            recorded.others, recorded.passed
        ));
        for one in &recorded.examples {
            say(&format!("  {} {}", one.id, one.request));
        }
    }
    suggestion.warnings.iter().for_each(|warning| say(&format!("warning: {warning}.")));
    if !suggestion.shown.is_empty() {
        out.push_str(&format!(
            "# to apply what is shown here: --apply --shown {}\n",
            for_terminal(&suggestion.shown)
        ));
    }
    out.push('\n');
    out.push_str(&suggestion.toml);
    if let Some(file) = written {
        let file = file.display().to_string();
        out.push_str(&format!(
            "\n# written to {}; next: phalanx check, then phalanx reload\n",
            for_terminal(&file)
        ));
    }
    out
}

/// A value of a query string.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// Replaces a file by one write and a rename: who reads it finds the old or the new text.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    // Through a link, so that the link stays.
    let file = file.canonicalize()?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.with_file_name(name);
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
    let written = out
        .set_permissions(std::fs::metadata(&file)?.permissions())
        .and_then(|()| out.write_all(text.as_bytes()))
        .and_then(|()| out.sync_all())
        .and_then(|()| std::fs::rename(&beside, &file));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
