//! `phalanx status`: the node, its plan, its fleet, and what is degraded.

use std::process::ExitCode;

use clap::Args;
use phalanx_control::api::{
    App, Bouncer, Certificate, ClassCount, Counters, Import, Learning, Load, Member, MemberPolicy,
    PolicyFollower, RateLimit, SelfTestState, Status, Usual,
};
use phalanx_control::copies::HistoryCopies;
use phalanx_control::fixes::Fix;
use phalanx_record::CopyOf;
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the state of a running node.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.admin)?;
    let answer = client.get("status")?;
    if args.admin.json {
        print::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    print::text(&words(&serde_json::from_value(answer)?))?;
    // A node of an earlier version has no such list, and whoever is limited to some apps does not get it.
    if let Ok(fixes) = client.get("fixes") {
        print::text(&to_do(&serde_json::from_value::<Vec<Fix>>(fixes)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(status: &Status) -> String {
    let ready = match &status.not_ready {
        None => String::from("ready"),
        Some(why) => format!("not ready: {why}"),
    };
    let up = print::duration(status.now_ms.saturating_sub(status.started_at_ms));
    let mut out = format!(
        "node       {}/{}, version {}, up {up}, {}\n",
        status.site,
        status.node,
        status.version,
        for_terminal(&ready)
    );
    let of_fleet =
        status.plan.bundle.as_ref().map(|hash| format!(", the fleet's bundle {}", for_terminal(hash)));
    out.push_str(&format!("plan       version {}{}\n", status.plan.version, of_fleet.unwrap_or_default()));
    for app in &status.plan.apps {
        let line = format!(
            "  {} -> {}, mode {}, {} ({} rules, paranoia {}{})",
            app.name,
            app.upstream,
            app.mode,
            app.rules,
            app.rule_count,
            app.paranoia,
            app.raise_paranoia.map(|level| format!(", raised to {level} by order")).unwrap_or_default()
        );
        out.push_str(&for_terminal(&line));
        out.push('\n');
        if app.backtracking_patterns > 0 {
            out.push_str(&format!(
                "    {} patterns of these rules need backtracking, which is bounded\n",
                app.backtracking_patterns
            ));
        }
        out.push_str(&upstreams(app));
        app.rate_limits.iter().for_each(|limit| out.push_str(&rate_limit(limit)));
    }
    out.push_str(&counters(&status.counters));
    out.push_str(&load(&status.load));
    out.push_str(&classes(&status.classes));
    let held = match status.held {
        0 => String::new(),
        held => format!(", {held} HELD for an operator: `phalanx decision list --held`"),
    };
    out.push_str(&format!("decisions  {} in force{held}\n", status.decisions_live));
    out.push_str(match status.selftest {
        SelfTestState::Ok => "self-test  its attacks on itself are refused\n",
        SelfTestState::Failing => "self-test  FAILS: `phalanx selftest`\n",
        SelfTestState::Unknown => "",
    });
    let link = if status.fleet.connected { "connected" } else { "NOT connected" };
    out.push_str(&format!(
        "fleet      {}, {link}, {} nodes\n\n",
        status.fleet.kind,
        status.fleet.members.len()
    ));
    if let Some(ends_ms) = status.fleet.certificate_expires_at_ms {
        // The line above ends the paragraph; this one belongs to it.
        out.truncate(out.trim_end().len());
        out.push_str(&match ends_ms.checked_sub(status.now_ms) {
            Some(ms) => format!("\n           enrolled, certificate ends in {}\n\n", print::duration(ms)),
            None => String::from("\n           enrolled, certificate EXPIRED\n\n"),
        });
    }
    out.push_str(&members(&status.fleet.members, status.now_ms));
    out.push_str(&copies(&status.history));
    out.push_str(&following(&status.following, status.now_ms));
    out.push_str(&learning(&status.learning));
    out.push_str(&imports(&status.imports, status.now_ms));
    out.push_str(&certificates(&status.certificates, status.now_ms));
    // A node of an earlier version does not tell.
    if status.process.id != 0 {
        out.push_str(&format!("\nprocess    {}\n", status.process.id));
    }
    for line in &status.process.confinement {
        out.push_str(&format!("  {}\n", for_terminal(line)));
    }
    if !status.bouncers.is_empty() {
        out.push_str(&format!("\nbouncers\n{}", bouncers(&status.bouncers, status.now_ms)));
    }
    if !status.fleet.degraded.is_empty() {
        out.push_str("\ndegraded\n");
        for line in &status.fleet.degraded {
            out.push_str(&format!("  - {}\n", for_terminal(line)));
        }
    }
    out
}

/// How history is copied within the site; nothing where it is not.
fn copies(history: &HistoryCopies) -> String {
    let mut out = String::new();
    for one in &history.copied_by {
        let how = match (one.heard, one.waiting) {
            (true, 0) => String::from("has all of it"),
            (true, rows) => format!("lacks {rows} rows"),
            (false, rows) => format!("NOT heard, lacks {rows} rows"),
        };
        out.push_str(&format!("\nhistory    copied by {}: {how}", for_terminal(&one.node)));
    }
    if !history.copies_of.is_empty() {
        let sum = |of: fn(&CopyOf) -> u64| history.copies_of.iter().map(of).sum::<u64>();
        let (rows, counts) = (sum(|one| one.rows), sum(|one| one.counts));
        out.push_str(&format!(
            "\nhistory    copies of {} nodes, {rows} rows, counts of {counts} minutes and hours",
            history.copies_of.len()
        ));
    }
    for one in history.copies_of.iter().filter(|one| one.missed > 0) {
        let node = for_terminal(&one.node);
        out.push_str(&format!("\n           {node} had deleted {} rows before they were copied", one.missed));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// Who keeps a git branch and the policy in step; nothing where nobody does.
pub(super) fn following(followers: &[PolicyFollower], now_ms: u64) -> String {
    let mut out = String::new();
    for one in followers {
        let said = &one.said;
        let state = if one.silent { "NOT heard any more" } else { said.state.words() };
        let behind = match said.behind {
            0 => String::new(),
            behind => format!(", {behind} versions behind"),
        };
        let ago = print::duration(now_ms.saturating_sub(one.at_ms));
        let line = format!("git        {}: {state}, version {}{behind}, {ago} ago", said.name, said.version);
        out.push_str(&format!("\n{}", for_terminal(&line)));
        if !said.state.is_well() {
            let first = said.words.lines().next().unwrap_or_default();
            out.push_str(&format!("\n           {}", for_terminal(first)));
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// What is worth doing now; nothing when there is nothing.
fn to_do(fixes: &[Fix]) -> String {
    let mut out = String::new();
    for fix in fixes {
        let title = if out.is_empty() { "\nto do\n" } else { "" };
        out.push_str(&format!(
            "{title}  {:>3}  {}\n       {}\n       {}\n",
            fix.weight,
            for_terminal(&fix.title),
            for_terminal(&fix.why),
            for_terminal(&fix.command)
        ));
    }
    out
}

/// The upstreams of an app: each where there are several, else only one that does not work.
fn upstreams(app: &App) -> String {
    let mut out = String::new();
    for one in &app.upstreams {
        if app.upstreams.len() == 1 && one.state == "up" {
            continue;
        }
        let name = match one.server == one.address {
            true => one.address.clone(),
            false => format!("{} ({})", one.address, one.server),
        };
        let state = match one.state.as_str() {
            "up" => String::from("up"),
            "fails_checks" => String::from("FAILS ITS CHECKS"),
            other => other.to_uppercase(),
        };
        let backup = if one.backup { ", backup" } else { "" };
        let line = format!(
            "    upstream {name}: {state}{backup}; {} in flight, {} requests, {} failed",
            one.in_flight, one.requests, one.failures
        );
        out.push_str(&for_terminal(&line));
        out.push('\n');
    }
    if app.retries + app.retries_refused + app.queue_refused + app.waiting > 0 {
        out.push_str(&format!(
            "    {} sent again, {} not for want of budget; {} waiting, {} refused as busy\n",
            app.retries, app.retries_refused, app.waiting, app.queue_refused
        ));
    }
    out
}

fn rate_limit(limit: &RateLimit) -> String {
    let scope = if limit.fleet { ", counted by the fleet" } else { "" };
    let beyond = if limit.observes { (limit.observed, "observed") } else { (limit.refused, "refused") };
    let line = format!(
        "    rate limit {}: {} by {}{scope}; {} admitted, {} {}",
        limit.name, limit.rate, limit.key, limit.admitted, beyond.0, beyond.1
    );
    format!("{}\n", for_terminal(&line))
}

fn counters(counters: &Counters) -> String {
    format!(
        "requests   {} ({} passed, {} flagged, {} challenged, {} throttled, {} refused, {} malformed, {} without upstream)\n",
        counters.requests,
        counters.allowed,
        counters.observed,
        counters.challenged,
        counters.throttled,
        counters.denied,
        counters.malformed,
        counters.upstream_errors
    )
}

/// What the node uses of its limits, and which limits clients met.
fn load(load: &Load) -> String {
    if load.level.is_empty() {
        // Of an earlier version.
        return String::new();
    }
    let share = |used: u64, of: u64, unit: &str| match of {
        0 => format!("{used}{unit}"),
        of => format!("{used} of {of}{unit}"),
    };
    let mut out = format!(
        "load       {}; memory {}, files {}, connections {}\n",
        load.level,
        share(load.memory_bytes >> 20, load.memory_limit_bytes >> 20, " MiB"),
        share(load.files, load.files_limit, ""),
        share(load.connections, load.connections_limit, "")
    );
    let reached: Vec<String> =
        load.limits_reached.iter().map(|one| format!("{} {}", one.limit, one.count)).collect();
    if !reached.is_empty() {
        out.push_str(&format!("limits     {}\n", for_terminal(&reached.join(", "))));
    }
    out
}

/// Findings by class; nothing while there are none.
fn classes(classes: &[ClassCount]) -> String {
    let mut out = String::new();
    for one in classes.iter().filter(|one| one.signals > 0) {
        let label = if out.is_empty() { "findings" } else { "" };
        out.push_str(&format!("{label:<10} {}: {} ({} refused)\n", one.class, one.signals, one.refusals));
    }
    out
}

/// What visitors are shown, and until when.
fn certificates(certificates: &[Certificate], now_ms: u64) -> String {
    let mut out = String::new();
    for one in certificates {
        let term = match one.expires_at_ms.checked_sub(now_ms) {
            Some(ms) => format!("ends in {}", print::duration(ms)),
            None => String::from("EXPIRED"),
        };
        let title = if out.is_empty() { "\ncertificates\n" } else { "" };
        out.push_str(&format!(
            "{title}  {}\n",
            for_terminal(&format!("{} ({}), {term}", one.file, one.names.join(", ")))
        ));
    }
    out
}

fn members(members: &[Member], now_ms: u64) -> String {
    let rows: Vec<Vec<String>> = members
        .iter()
        .map(|member| {
            let seen = match member.last_seen_ms {
                _ if member.me => String::from("this node"),
                0 => String::from("never"),
                at_ms => format!("{} ago", print::duration(now_ms.saturating_sub(at_ms))),
            };
            vec![
                member.site.clone(),
                member.node.clone(),
                member.version.clone(),
                if member.online { "online".into() } else { "OFFLINE".into() },
                format!("{} ms", member.lag_ms),
                seen,
                match member.held {
                    0 => member.decisions.to_string(),
                    held => format!("{}, {held} held", member.decisions),
                },
                policy(member.policy.as_ref()),
            ]
        })
        .collect();
    print::table(&["SITE", "NODE", "VERSION", "STATE", "LAG", "SEEN", "DECISIONS", "POLICY"], &rows)
}

/// How the node learns; nothing of a node of an earlier version.
fn learning(learning: &Learning) -> String {
    if learning.mode.is_empty() {
        return String::new();
    }
    let named = learning.named_by.as_ref().map_or_else(
        || String::from("named by nobody that is heard"),
        |node| format!("named by {}", for_terminal(node)),
    );
    let mut out = format!(
        "\nlearning   {}; {} requests, {} actors in {} MiB, nodes heard: {}; open incidents: {}, {named}\n",
        learning.mode,
        learning.events,
        learning.actors,
        learning.bytes >> 20,
        learning.peers_heard,
        learning.incidents_open
    );
    out.push_str(&usual(&learning.usual));
    if learning.events_dropped + learning.refused > 0 {
        out.push_str(&format!(
            "           {} requests NOT learned from, {} refused of what nodes told\n",
            learning.events_dropped, learning.refused
        ));
    }
    out
}

/// How much is known of what is usual, and how long it takes until more is; nothing where nothing was seen.
fn usual(usual: &Usual) -> String {
    let Usual { all: 1.., known, .. } = usual else { return String::new() };
    let left = usual.minutes_left.map_or_else(String::new, |minutes| {
        format!("; the next in {minutes} minute{} with requests", if minutes == 1 { "" } else { "s" })
    });
    format!(
        "           usual: known of {known} of {} apps and routes, by hour of day of {}, of week of {}{left}\n",
        usual.all, usual.by_hour_of_day, usual.by_hour_of_week
    )
}

/// Which policy a node runs, and whether it refused one.
pub(super) fn policy(policy: Option<&MemberPolicy>) -> String {
    let Some(policy) = policy else { return String::from("-") };
    let own = if policy.hash.is_empty() { " (its own)" } else { "" };
    let refused = policy.refused_version.map(|version| format!(", REFUSED {version}")).unwrap_or_default();
    format!("{}{own}{refused}", policy.version)
}

/// The sources of decisions; nothing when there are none.
fn imports(imports: &[Import], now_ms: u64) -> String {
    if imports.is_empty() {
        return String::new();
    }
    let read = |at_ms: Option<u64>| match at_ms {
        Some(at_ms) => format!("{} ago", print::duration(now_ms.saturating_sub(at_ms))),
        None => String::from("not yet"),
    };
    let row = |import: &Import| {
        let skipped = import.skipped.clone().unwrap_or_default();
        vec![import.source.clone(), read(import.read_at_ms), import.decisions.to_string(), skipped]
    };
    let rows: Vec<Vec<String>> = imports.iter().map(row).collect();
    format!("\nimports\n{}", print::table(&["SOURCE", "READ", "DECISIONS", "NOT TAKEN OVER"], &rows))
}

/// The bouncers, with when each was here.
pub(super) fn bouncers(bouncers: &[Bouncer], now_ms: u64) -> String {
    let ago = |at_ms: Option<u64>| match at_ms {
        Some(at_ms) => format!("{} ago", print::duration(now_ms.saturating_sub(at_ms))),
        None => String::from("not since the start"),
    };
    let row = |bouncer: &Bouncer| {
        let agent = bouncer.agent.clone().unwrap_or_default();
        vec![
            bouncer.name.clone(),
            ago(bouncer.seen_at_ms),
            ago(bouncer.pulled_at_ms),
            print::short(&agent, 60),
        ]
    };
    let rows: Vec<Vec<String>> = bouncers.iter().map(row).collect();
    print::table(&["NAME", "SEEN", "PULLED", "AGENT"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_comes_with_why_and_how() {
        let fix = |weight, title: &str| Fix {
            id: "x".into(),
            weight,
            title: title.into(),
            why: "it ends\u{1b}[2J".into(),
            command: "phalanx status".into(),
            page: "#/".into(),
        };
        let told = to_do(&[fix(95, "Renew it"), fix(100, "Look")]);
        let expected =
            "\nto do\n   95  Renew it\n       it ends\\u{1b}[2J\n       phalanx status\n  100  Look\n";
        assert!(told.starts_with(expected), "{told}");
        assert_eq!(to_do(&[]), "");
    }

    #[test]
    fn a_status_reads_well() {
        let status: Status = serde_json::from_str(include_str!("../../testdata/status.json")).unwrap();
        assert_eq!(words(&status), include_str!("../../testdata/status.txt"));
    }
}
