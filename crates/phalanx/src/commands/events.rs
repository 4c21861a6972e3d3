//! `phalanx events`: the latest refused and flagged requests.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use phalanx_control::api::EventRow;
use phalanx_control::inquiry::FleetEvents;
use phalanx_model::{Action, Reason, RequestId};
use phalanx_record::escape::for_terminal;
use phalanx_record::rfc3339;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `events`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Only older ones than this request id
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Only those of the last time, e.g. 1h
    #[arg(long, value_name = "DURATION", value_parser = print::parse_duration)]
    since: Option<u64>,
    /// Only those before the last time, e.g. 1h
    #[arg(long, value_name = "DURATION", value_parser = print::parse_duration)]
    until: Option<u64>,
    /// Only those of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Only those with this action
    #[arg(long, value_enum)]
    action: Option<ActionArg>,
    /// Only those that this rule matched
    #[arg(long, value_name = "RULE")]
    rule: Option<u64>,
    /// Only those for this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Only those answered so: 404, or 4xx
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only those from this country, e.g. NL
    #[arg(long, value_name = "COUNTRY")]
    country: Option<String>,
    /// Only those with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only those with this text in host, target or user agent
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only those that are evidence of this incident
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    /// Those of all other nodes, redacted by each: at most 50 of a node
    #[arg(long)]
    fleet: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ActionArg {
    /// Refused
    Deny,
    /// Passed on, but would have been refused
    Observe,
    /// Asked for a proof
    Challenge,
    /// Slowed down
    Throttle,
    /// Answered slowly
    Tarpit,
    /// Passed on with findings
    Allow,
}

/// Prints the latest refused and flagged requests, the newest first.
pub(crate) fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let action = args.action.and_then(|action| action.to_possible_value());
    let query = print::query(&[
        ("limit", Some(args.limit.to_string())),
        ("before", args.before.clone()),
        ("since_ms", args.since.map(|ms| print::now_ms().saturating_sub(ms).to_string())),
        ("until_ms", args.until.map(|ms| print::now_ms().saturating_sub(ms).to_string())),
        ("client", args.client.map(|client| client.to_string())),
        ("action", action.map(|action| action.get_name().to_owned())),
        ("rule", args.rule.map(|rule| rule.to_string())),
        ("app", args.app.clone()),
        ("status", args.status.clone()),
        ("country", args.country.clone()),
        ("method", args.method.clone()),
        ("q", args.text.clone()),
        ("incident", args.incident.clone()),
    ]);
    let client = Client::new(&args.admin)?;
    if args.fleet {
        let answer = client.get(&format!("fleet/events{query}"))?;
        match args.admin.json {
            true => print::json(&answer)?,
            false => print::text(&fleet_words(&serde_json::from_value(answer)?))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (answer, next) = client.get_page(&format!("events{query}"))?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        let rows: Vec<EventRow> = serde_json::from_value(answer)?;
        print::text(&words(&rows))?;
        let searched = next.filter(|_| rows.len() < args.limit as usize);
        print::text(&searched.map(|next| searched_so_far(&next)).unwrap_or_default())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(rows: &[EventRow]) -> String {
    if rows.is_empty() {
        return String::from("no refused or flagged requests\n");
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                rfc3339(row.at_ms),
                row.client.to_string(),
                format!("{} {}", action(row.action), row.status),
                print::short(&why(row), 60),
                print::short(&format!("{} {}{}", row.method, row.host, row.target), 90),
            ]
        })
        .collect();
    print::table(&["ID", "TIME", "CLIENT", "ACTION", "WHY", "REQUEST"], &rows)
}

/// A search in texts stops before it has seen all.
fn searched_so_far(next: &str) -> String {
    let until = next.parse::<RequestId>().map(|id| rfc3339(id.at_ms())).unwrap_or_default();
    format!("looked back until {until}; older ones: --before {}\n", for_terminal(next))
}

fn fleet_words(found: &FleetEvents) -> String {
    let rows: Vec<Vec<String>> = found
        .requests
        .iter()
        .map(|request| {
            vec![
                request.id.to_string(),
                rfc3339(request.at_ms),
                format!("{}/{}", request.site, request.node),
                request.network.clone(),
                format!("{} {}", action(request.action), request.status),
                print::short(&request.reason, 60),
                print::short(&format!("{} {}", request.method, request.path), 90),
            ]
        })
        .collect();
    let mut out = match rows.is_empty() {
        true => String::from("no refused or flagged requests\n"),
        false => print::table(&["ID", "TIME", "NODE", "CLIENT", "ACTION", "WHY", "REQUEST"], &rows),
    };
    if let Some(next) = &found.next {
        out.push_str(&searched_so_far(&next.to_string()));
    }
    if !found.silent.is_empty() {
        out.push_str(&format!("did not answer: {}\n", found.silent.join(", ")));
    }
    if !found.copied.is_empty() {
        out.push_str(&format!(
            "told by a control node of its site, of its copy: {}\n",
            found.copied.join(", ")
        ));
    }
    out
}

/// Why it was refused or flagged, in a few words.
pub(super) fn why(row: &EventRow) -> String {
    match (&row.reason, &row.top) {
        (Reason::Rule { .. } | Reason::Clean, Some(top)) => format!("{} {}", top.rule, top.message),
        (Reason::Rule { rule }, None) => format!("rule {rule}"),
        (Reason::Decision { decision }, _) => format!("decision {}", decision.reason),
        (Reason::Framing { fault }, _) => fault.to_string(),
        (Reason::Limit { limit }, _) => format!("limit {limit}"),
        (Reason::RateLimit(excess), _) => format!("rate limit {}, {}", excess.limit, excess.key),
        (Reason::Failure { stage }, _) => format!("failed: {stage}"),
        (Reason::Upstream { error }, _) => format!("upstream: {error}"),
        (Reason::AllowListed, _) => String::from("allow-listed"),
        (Reason::Network, _) => String::from("network"),
        (Reason::Challenge, _) => String::from("challenge"),
        (Reason::Clean, None) => String::from("-"),
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "passed",
        Action::Observe => "observed",
        Action::Challenge => "challenged",
        Action::Throttle => "throttled",
        Action::Tarpit => "tarpitted",
        Action::Deny => "refused",
    }
}
