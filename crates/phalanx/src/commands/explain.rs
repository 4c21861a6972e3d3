//! `phalanx explain ID`: why a request was refused; words first, then the facts.

use std::process::ExitCode;

use clap::Args;
use phalanx_model::{RequestId, Signal};
use phalanx_record::Explanation;
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The request's id, as the blocked visitor saw it
    #[arg(value_name = "REQUEST_ID")]
    id: RequestId,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Tells why a request was refused.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.admin)?.get(&format!("events/{}", args.id))?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        print::text(&words(&serde_json::from_value(answer)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(explanation: &Explanation) -> String {
    let mut out = format!("request {}\n\n", explanation.id);
    for line in &explanation.summary {
        out.push_str(&format!("  {}\n", for_terminal(line)));
    }
    let access = &explanation.access;
    let facts = [
        ("node", format!("{}/{}", explanation.site, explanation.node)),
        ("plan", format!("version {}", explanation.plan_version)),
        ("view", format!("revision {}", access.view_revision)),
        ("app", access.app.to_string()),
        ("peer", access.peer.to_string()),
        ("protocol", access.protocol.clone()),
        ("user agent", access.user_agent.clone()),
        ("referer", access.referer.clone()),
        ("bytes", format!("{} in, {} out", access.request_bytes, access.response_bytes)),
        ("time", format!("{} us, of which upstream {} us", access.duration_us, access.upstream_us)),
        ("score", access.verdict.score.to_string()),
    ];
    out.push_str("\nfacts\n");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        out.push_str(&format!("  {name:<11} {}\n", for_terminal(value)));
    }
    for signal in &explanation.signals {
        out.push_str(&finding(signal));
    }
    out
}

fn finding(signal: &Signal) -> String {
    let rule = &signal.rule;
    let severity = rule.severity.map(|severity| format!(", {severity:?}").to_lowercase()).unwrap_or_default();
    let mut out = format!(
        "\nrule {} at {}:{}, phase {}, score {}{severity}\n",
        rule.id,
        for_terminal(&rule.file),
        rule.line,
        signal.phase,
        signal.score
    );
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("  {name:<11} {}\n", for_terminal(value)));
        }
    };
    fact("message", &signal.message);
    fact("data", &signal.data);
    for one in &signal.matches {
        fact("variable", &one.variable);
        fact("matched", &one.fragment);
        fact("transformed", &one.transformations.join(", "));
    }
    fact("tags", &rule.tags.join(", "));
    out
}
