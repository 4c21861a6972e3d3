//! A sample as lines of a width and number. Text of strangers is escaped, and no line is longer than the screen.

use std::collections::BTreeMap;

use phalanx_control::api::SelfTestState;
use phalanx_record::escape::for_terminal;

use super::Sample;
use crate::commands::{events, print};

/// The lines of a sample, for a screen of this width and height.
pub(super) fn lines(sample: &Sample, (width, height): (usize, usize)) -> Vec<String> {
    let mut lines = head(sample);
    lines.push(String::new());
    // What is left is shared: counts side by side, then attacks, then orders.
    let left = height.saturating_sub(lines.len());
    lines.extend(counts(sample, width, (left / 3).clamp(2, MOST_COUNTED + 1)));
    lines.push(String::new());
    let left = height.saturating_sub(lines.len());
    lines.extend(attacks(sample, (left / 2).max(2)));
    lines.push(String::new());
    let left = height.saturating_sub(lines.len());
    lines.extend(orders(sample, left.max(2)));
    lines.truncate(height);
    lines.into_iter().map(|line| fitted(&line, width)).collect()
}

/// What is shown of a node that does not answer.
pub(super) fn fault(fault: &str, (width, height): (usize, usize)) -> Vec<String> {
    let lines = ["phalanx top: the node is asked again", "", fault, "", "q quits"];
    lines.iter().take(height).map(|line| fitted(&for_terminal(line), width)).collect()
}

fn head(sample: &Sample) -> Vec<String> {
    let status = &sample.status;
    let up = print::duration(status.now_ms.saturating_sub(status.started_at_ms));
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let test = match status.selftest {
        SelfTestState::Ok => "attacks on itself are refused",
        SelfTestState::Failing => "ITS SELF-TEST FAILS",
        SelfTestState::Unknown => "not tested",
    };
    let online = status.fleet.members.iter().filter(|member| member.online).count();
    let mut lines = vec![
        format!("{}/{}  {}  up {up}  {ready}, {test}  (q quits)", status.site, status.node, status.version),
        format!(
            "requests {:.1}/s  refused {:.1}/s  connections {}  load {}",
            sample.requests_per_second,
            sample.refused_per_second,
            status.counters.connections_open,
            status.load.level
        ),
        format!(
            "decisions {}  open incidents {}  waiting for an operator {}  nodes {online}/{}",
            status.decisions_live,
            sample.incidents.len(),
            status.held,
            status.fleet.members.len()
        ),
    ];
    if let Some(first) = status.fleet.degraded.first() {
        let more = match status.fleet.degraded.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more: `phalanx status`)"),
        };
        lines.push(format!("DEGRADED: {}{more}", for_terminal(first)));
    }
    lines
}

/// Apps, rules and clients that refused and flagged requests have most, side by side.
fn counts(sample: &Sample, width: usize, rows: usize) -> Vec<String> {
    let events = &sample.events;
    let apps = top(events.iter().map(|event| event.app.to_string()));
    let rules = top(events.iter().flat_map(|event| &event.rule_ids).map(ToString::to_string));
    let clients = top(events.iter().map(|event| event.client.to_string()));
    let column = width.min(120) / 3;
    let row = |cells: [String; 3]| -> String {
        cells
            .iter()
            .map(|cell| format!("{:<column$}", fitted(cell, column.saturating_sub(2))))
            .collect::<String>()
    };
    let titles = ["APPS, 5 MIN", "RULES", "CLIENTS"].map(str::to_owned);
    let mut lines = vec![row(titles).trim_end().to_owned()];
    let cell = |of: &[(String, usize)], place: usize| {
        of.get(place).map(|(name, count)| format!("{count:>5} {}", for_terminal(name))).unwrap_or_default()
    };
    let most = apps.len().max(rules.len()).max(clients.len()).min(rows.saturating_sub(1));
    lines.extend((0..most).map(|place| {
        row([cell(&apps, place), cell(&rules, place), cell(&clients, place)]).trim_end().to_owned()
    }));
    if most == 0 {
        lines.push("  nothing was refused or flagged".to_owned());
    }
    lines
}

/// What there is most of, the most first.
fn top(names: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_insert(0) += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn attacks(sample: &Sample, rows: usize) -> Vec<String> {
    let mut lines = vec!["ATTACKS".to_owned()];
    let now_ms = sample.status.now_ms;
    lines.extend(sample.events.iter().take(rows.saturating_sub(1)).map(|event| {
        let ago = print::duration(now_ms.saturating_sub(event.at_ms));
        // Before the request, which may be as long as a client likes.
        let why = print::short(&for_terminal(&events::why(event)), WHY_MAX);
        let (method, target) = (for_terminal(&event.method), for_terminal(&event.target));
        let action = format!("{:?}", event.action).to_lowercase();
        format!("{ago:>12}  {action:<9} {:<15} {why}  {method} {target}", event.client)
    }));
    lines
}

fn orders(sample: &Sample, rows: usize) -> Vec<String> {
    let mut lines = vec!["DECISIONS".to_owned()];
    let now_ms = sample.status.now_ms;
    lines.extend(sample.decisions.iter().take(rows.saturating_sub(1)).map(|decision| {
        let left = print::duration(decision.expires_at_ms.saturating_sub(now_ms));
        let kind = format!("{:?}", decision.kind).to_lowercase();
        let (actor, reason) = (decision.actor.to_string(), for_terminal(&decision.reason));
        format!("{left:>12}  {kind:<9} {:<15} {reason}", for_terminal(&actor))
    }));
    lines
}

/// The beginning of a line, as much as has room. What is not ASCII may take two places.
fn fitted(line: &str, width: usize) -> String {
    let mut taken = 0;
    let fits = |letter: &char| {
        taken += if letter.is_ascii() { 1 } else { 2 };
        taken <= width
    };
    line.chars().take_while(fits).collect()
}

/// Of why a request was refused; the request begins within 80 places.
const WHY_MAX: usize = 30;
/// Rows of what is counted.
const MOST_COUNTED: usize = 6;
