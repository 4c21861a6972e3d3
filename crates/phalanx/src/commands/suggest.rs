//! `phalanx waf suggest ID`: the narrowest exclusion that would have let a request pass, and what else it would let pass.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use phalanx_control::suggest::Suggestion;
use phalanx_model::RequestId;
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};
use crate::policy_edit;

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
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Suggests what would have let a request pass.
pub(crate) fn run(args: &SuggestArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    let mut path = format!("events/{}/suggestion?days={}", args.id, args.days);
    for (key, value) in [("owner", &args.owner), ("reason", &args.reason)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", encoded(value)));
        }
    }
    let answer = client.get_patiently(&path)?;
    let suggestion: Suggestion = serde_json::from_value(answer.clone())?;
    if let Some(file) = &args.write {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let edited = policy_edit::with_exclusions(&text, &suggestion.app, &suggestion.toml);
        let edited = edited.map_err(|fault| anyhow::anyhow!("{}: {fault}", file.display()))?;
        policy_edit::replace(file, &edited).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.admin.json {
        print::json(&answer)?;
    } else {
        print::text(&words(&suggestion, args.write.as_ref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

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
