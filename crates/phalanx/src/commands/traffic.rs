//! `phalanx traffic`: requests over time, as bars in the terminal.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use phalanx_control::api::{ActorsSeen, NodeName, TrafficSeen};
use phalanx_record::escape::for_terminal;
use phalanx_record::rfc3339;

use super::{apps, print};
use crate::client::{AdminArgs, Client};

/// Arguments of `traffic`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TrafficArgs {
    /// How far back, e.g. 1h or 7d: by minute for two days, by hour for ninety
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = print::parse_duration)]
    last: u64,
    /// What is counted apart
    #[arg(long, value_enum, default_value = "action")]
    by: ByArg,
    /// Count refused requests only
    #[arg(long)]
    refused: bool,
    /// Only requests for this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Of all nodes
    #[arg(long)]
    fleet: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ByArg {
    /// What was done with them
    Action,
    /// The app
    App,
    /// The rule that says most
    Rule,
    /// The class of that rule
    Class,
    /// The country of the client
    Country,
    /// The class of the status
    Status,
    /// The node
    Node,
    /// The site
    Site,
    /// The client: those refused most
    Actor,
}

/// Prints requests over time.
pub(crate) fn run(args: &TrafficArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    let by = args.by.to_possible_value().map(|by| by.get_name().to_owned());
    let of_actors = args.by == ByArg::Actor;
    let only_series = |text: &str| (!of_actors).then(|| text.to_owned());
    let query = print::query(&[
        ("from_ms", Some(print::now_ms().saturating_sub(args.last).to_string())),
        ("by", by.and_then(|by| only_series(&by))),
        ("count", if args.refused { only_series("refused") } else { None }),
        ("app", args.app.clone()),
        ("points", Some(BARS.to_string())),
        ("fleet", args.fleet.then(|| "true".to_owned())),
    ]);
    let path = if of_actors { "traffic/actors" } else { "traffic" };
    let answer = client.get(&format!("{path}{query}"))?;
    apps::doubt(&client, &args.app);
    match args.admin.json {
        true => print::json(&answer)?,
        false if of_actors => print::text(&actors(&serde_json::from_value(answer)?))?,
        false => print::text(&words(&serde_json::from_value(answer)?, args.refused))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn words(seen: &TrafficSeen, refused: bool) -> String {
    let traffic = &seen.traffic;
    let totals = &traffic.totals;
    let mut out = format!(
        "{} to {}, a bar for each {}\n{} requests: {} refused, {} challenged, {} throttled, {} observed; {} errors\n",
        rfc3339(traffic.from_ms),
        rfc3339(traffic.to_ms),
        print::duration(traffic.step_ms),
        totals.requests,
        totals.refused,
        totals.challenged,
        totals.throttled,
        totals.observed,
        totals.errors
    );
    if let Some(begins_ms) = traffic.begins_ms.filter(|begins_ms| *begins_ms > traffic.from_ms) {
        out.push_str(&format!("counted since {} only\n", rfc3339(begins_ms)));
    }
    if totals.dropped > 0 {
        out.push_str(&format!("{} more were served and NOT counted, for want of room\n", totals.dropped));
    }
    let others =
        (traffic.others.total > 0).then_some(("others", traffic.others.total, &traffic.others.points));
    let series = traffic.series.iter().map(|one| (one.key.as_str(), one.total, &one.points)).chain(others);
    let said = traffic.series.iter().map(|one| one.words.as_deref().unwrap_or_default());
    let with_words = said.clone().any(|words| !words.is_empty());
    let rows: Vec<Vec<String>> = series
        .zip(said.chain([""]))
        .map(|((key, total, points), words)| {
            let mut row = vec![key.to_owned(), total.to_string(), bars(points)];
            row.extend(with_words.then(|| print::short(words, 60)));
            row
        })
        .collect();
    let all = if refused { "REFUSED" } else { "REQUESTS" };
    out.push('\n');
    match rows.is_empty() {
        true => out.push_str("none\n"),
        false if with_words => out.push_str(&print::table(&["", all, "OVER TIME", "IT SAID"], &rows)),
        false => out.push_str(&print::table(&["", all, "OVER TIME"], &rows)),
    }
    if !seen.copied.is_empty() {
        let copied: Vec<&NodeName> = seen.copied.iter().collect();
        out.push_str(&format!("\ntold by a control node of its site, of its copy: {}\n", names(&copied)));
    }
    out.push_str(&missing(&seen.missing()));
    out
}

fn actors(seen: &ActorsSeen) -> String {
    let rows: Vec<Vec<String>> = seen
        .clients
        .iter()
        .map(|one| {
            let rules: Vec<String> = one.rules.iter().map(u64::to_string).collect();
            vec![
                one.client.clone(),
                one.country.clone().unwrap_or_else(|| String::from("-")),
                one.asn.map_or_else(|| String::from("-"), |asn| format!("AS{asn}")),
                one.refused.to_string(),
                bars(&one.points),
                rfc3339(one.last_ms),
                print::short(&rules.join(" "), 60),
            ]
        })
        .collect();
    let mut out = match rows.is_empty() {
        true => String::from("nobody was refused\n"),
        false => print::table(&["CLIENT", "COUNTRY", "AS", "REFUSED", "OVER TIME", "LAST", "RULES"], &rows),
    };
    out.push_str(&missing(&seen.silent.iter().collect::<Vec<_>>()));
    out
}

/// Bars in proportion to the highest. What is not nothing is seen.
fn bars(points: &[u64]) -> String {
    let highest = points.iter().copied().max().unwrap_or_default().max(1);
    let bar = |n: u64| match n {
        0 => ' ',
        n => {
            let level =
                (u128::from(n) * HEIGHTS.len() as u128).div_ceil(u128::from(highest)).saturating_sub(1);
            usize::try_from(level).ok().and_then(|level| HEIGHTS.get(level)).copied().unwrap_or('█')
        }
    };
    points.iter().copied().map(bar).collect::<String>().trim_end().to_owned()
}

fn missing(nodes: &[&NodeName]) -> String {
    match nodes {
        [] => String::new(),
        nodes => format!("\nNOT in it, did not answer: {}\n", names(nodes)),
    }
}

fn names(nodes: &[&NodeName]) -> String {
    let names: Vec<String> = nodes.iter().map(|one| for_terminal(&one.to_string()).into_owned()).collect();
    names.join(", ")
}

/// As many as fit into a line beside a name and a number.
const BARS: usize = 48;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_in_proportion_and_one_request_is_seen() {
        assert_eq!(bars(&[0, 1, 400, 800, 0]), " ▁▄█");
        assert_eq!(bars(&[1, 1]), "██");
        assert_eq!(bars(&[0, 0]), "");
        assert_eq!(bars(&[u64::MAX, 1]), "█▁");
    }

    #[test]
    fn traffic_reads_well() {
        let seen: TrafficSeen = serde_json::from_value(serde_json::json!({
            "from_ms": 1_785_585_600_000_u64, "to_ms": 1_785_589_200_000_u64, "step_ms": 900_000,
            "totals": { "requests": 1_230, "refused": 30, "challenged": 0, "throttled": 4, "observed": 2, "errors": 1, "dropped": 7 },
            "series": [
                { "key": "942100", "words": "SQL injection\u{1b}[2J", "total": 1_200, "points": [300, 300, 300, 300] },
                { "key": "deny\u{1b}[2J", "total": 24, "points": [0, 0, 24, 0] },
            ],
            "others": { "total": 6, "points": [1, 2, 3, 0] },
            "begins_ms": 1_785_586_500_000_u64, "answered": [{ "site": "fra", "node": "a" }], "silent": [{ "site": "fra", "node": "b" }, { "site": "fra", "node": "c" }], "copied": [{ "site": "fra", "node": "c" }],
        }))
        .unwrap();
        insta::assert_snapshot!(words(&seen, false));
    }
}
