//! Tables over many runs.

use std::collections::BTreeMap;

use phalanx_learn::Detector;
use phalanx_learn::respond::Without;

use crate::plans::SCENARIOS;
use crate::report::{Report, Tally};
use crate::world::{Settings, play};

/// Plays every scenario with seeds from 1 on, with and without sharing, and prints two tables.
pub(crate) fn all(settings: &Settings, seeds: u64) -> Result<(), String> {
    println!(
        "| scenario | sharing | detected | seconds to detect | after the tenth event | nodes named | honest banned | challenged | attack refused | incidents | events in one | false incidents |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut signals: BTreeMap<Detector, (Tally, u64, u64)> = BTreeMap::new();
    for scenario in SCENARIOS {
        for sharing in [true, false] {
            let of = |seed| Settings { scenario: scenario.into(), seed, sharing, ..settings.clone() };
            let reports: Vec<Report> = (1..=seeds).filter_map(|seed| play(&of(seed))).collect();
            println!("{}", row(scenario, sharing, &reports));
            for report in reports.iter().filter(|_| sharing) {
                for (detector, tally) in &report.signals {
                    let all = signals.entry(*detector).or_default();
                    all.0.right += tally.right;
                    all.0.wrong += tally.wrong;
                }
                report.found.iter().for_each(|of| signals.entry(*of).or_default().1 += 1);
                report.missed.iter().for_each(|of| signals.entry(*of).or_default().2 += 1);
            }
        }
    }
    println!("\n| detector | signals right | wrong | precision | attacks found | missed | recall |");
    println!("|---|---|---|---|---|---|---|");
    for (detector, (Tally { right, wrong }, found, missed)) in signals {
        let part = |part: u64, rest: u64| match part + rest {
            0 => "-".into(),
            all => format!("{:.3}", part as f64 / all as f64),
        };
        println!(
            "| {} | {right} | {wrong} | {} | {found} | {missed} | {} |",
            detector.name(),
            part(right, wrong),
            part(found, missed)
        );
    }
    Ok(())
}

fn row(scenario: &str, sharing: bool, reports: &[Report]) -> String {
    let span = |of: fn(&Report) -> Option<f64>, digits: usize| {
        let values: Vec<f64> = reports.iter().filter_map(of).collect();
        let (least, most) =
            values.iter().fold((f64::MAX, f64::MIN), |(least, most), of| (least.min(*of), most.max(*of)));
        match values.len() {
            0 => "-".into(),
            _ if format!("{least:.digits$}") == format!("{most:.digits$}") => format!("{most:.digits$}"),
            _ => format!("{least:.digits$} to {most:.digits$}"),
        }
    };
    let whole = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let number = |of: fn(&Report) -> Option<f64>| span(of, 0);
    format!(
        "| {scenario} | {} | {} of {} | {} | {} | {} | {} | {} % | {} % | {} | {} % | {} |",
        if sharing { "on" } else { "off" },
        reports.iter().filter(|report| report.detected).count(),
        reports.len(),
        span(|report| report.seconds_to_detect, 1),
        span(|report| report.seconds_after_tenth, 1),
        number(|report| Some(report.nodes_named as f64)),
        whole(|report| report.honest_banned),
        span(|report| Some(100.0 * report.honest_challenged_share), 3),
        span(|report| Some(100.0 * report.attack_refused_share), 1),
        number(|report| Some(report.incidents as f64)),
        span(|report| (report.attack_requests > 0).then_some(100.0 * report.incident_share), 1),
        whole(|report| u64::try_from(report.false_incidents).unwrap_or(u64::MAX)),
    )
}

/// Precision and recall of each detector, with more and fewer honest users and attackers.
pub(crate) fn matrix(settings: &Settings, seeds: u64) -> Result<(), String> {
    println!(
        "| detector | honest users | attack's rate | found | missed | recall | seconds | signals right | wrong | precision | honest banned | challenged at most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut rows: BTreeMap<(Detector, u64, u64), Cell> = BTreeMap::new();
    for (honest, attack) in VARIED {
        for scenario in SCENARIOS.iter().filter(|name| !name.starts_with("honest-")) {
            for seed in 1..=seeds {
                let settings =
                    Settings { scenario: (*scenario).into(), seed, honest, attack, ..settings.clone() };
                let Some(report) = play(&settings) else { continue };
                for detector in report.found.iter().chain(&report.missed) {
                    let cell = rows.entry((*detector, honest, attack)).or_default();
                    cell.found += u64::from(report.found.contains(detector));
                    cell.missed += u64::from(report.missed.contains(detector));
                    cell.banned += report.honest_banned;
                    cell.challenged = cell.challenged.max(report.honest_challenged_share);
                    cell.seconds.extend(report.seconds_to_detect);
                }
                for (detector, tally) in &report.signals {
                    let cell = rows.entry((*detector, honest, attack)).or_default();
                    cell.tally.right += tally.right;
                    cell.tally.wrong += tally.wrong;
                }
            }
        }
    }
    for ((detector, honest, attack), cell) in rows {
        let Cell { found, missed, tally, banned, challenged, mut seconds } = cell;
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.get(seconds.len() / 2).map_or_else(|| "-".into(), |of| format!("{of:.1}"));
        println!(
            "| {} | {honest} % | {attack} % | {found} | {missed} | {} | {middle} | {} | {} | {} | {banned} | {:.3} % |",
            detector.name(),
            share(found, missed),
            tally.right,
            tally.wrong,
            share(tally.right, tally.wrong),
            100.0 * challenged
        );
    }
    Ok(())
}

/// The time until an attack is named on the right actor, by requests a minute: of all seeds the most.
pub(crate) fn rates(settings: &Settings, seeds: u64) -> Result<(), String> {
    let heads: Vec<String> = RATES.iter().map(|rate| format!("{rate} a minute")).collect();
    println!("| attack | {} |\n|---|{}", heads.join(" | "), "---|".repeat(RATES.len()));
    for (scenario, base) in RATED {
        let cells: Vec<String> = RATES
            .iter()
            .map(|rate| {
                let of = |seed| Settings {
                    scenario: scenario.into(),
                    seed,
                    attack: rate * 100 / base,
                    ..settings.clone()
                };
                let times: Vec<Option<f64>> = (1..=seeds)
                    .filter_map(|seed| play(&of(seed)))
                    .map(|report| report.seconds_to_detect)
                    .collect();
                let found = times.iter().flatten().count();
                let most = times.iter().flatten().copied().fold(0.0, f64::max);
                match found {
                    0 => "never".into(),
                    _ if found < times.len() => format!("{most:.1} ({found} of {})", times.len()),
                    _ => format!("{most:.1}"),
                }
            })
            .collect();
        println!("| {scenario} | {} |", cells.join(" | "));
    }
    Ok(())
}

#[derive(Default)]
struct Cell {
    found: u64,
    missed: u64,
    tally: Tally,
    banned: u64,
    challenged: f64,
    seconds: Vec<f64>,
}

fn share(part: u64, rest: u64) -> String {
    match part + rest {
        0 => "-".into(),
        all => format!("{:.3}", part as f64 / all as f64),
    }
}

/// Per cent of honest users and of the attack's rate.
const VARIED: [(u64, u64); 7] =
    [(100, 100), (30, 100), (300, 100), (100, 30), (100, 300), (300, 30), (30, 300)];
const RATES: [u64; 7] = [6, 12, 30, 45, 60, 120, 300];
/// Scenarios whose rate is varied, and what they make in a minute.
const RATED: [(&str, u64); 7] = [
    ("stuffing", 60),
    ("spraying", 60),
    ("enumeration", 60),
    ("idor", 60),
    ("scan", 90),
    ("scraping", 120),
    ("carding", 30),
];

/// What each means is worth: the attack that is refused and the honest sessions that are asked, with all of them and without each.
pub(crate) fn ablation(settings: &Settings, seeds: u64) -> Result<(), String> {
    let heads: Vec<&str> = ABLATED.iter().map(|(name, _)| *name).collect();
    println!("| scenario | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for scenario in ANSWERED {
        let cells = ABLATED.iter().map(|(_, change)| {
            let of = |seed| {
                let mut settings = Settings { scenario: scenario.into(), seed, ..settings.clone() };
                change(&mut settings);
                play(&settings)
            };
            let reports: Vec<Report> = (1..=seeds).filter_map(of).collect();
            let mean = |of: fn(&Report) -> f64| {
                100.0 * reports.iter().map(of).sum::<f64>() / reports.len().max(1) as f64
            };
            let refused = mean(|report| report.attack_refused_share);
            format!("{refused:.0} % ({:.2} %)", mean(|report| report.honest_challenged_share))
        });
        println!("| {scenario} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}

type Change = fn(&mut Settings);
const ABLATED: [(&str, Change); 5] = [
    ("all", |_| {}),
    ("without routes", |of| of.without = Without::Routes),
    ("without systems", |of| of.without = Without::Systems),
    ("without trails", |of| of.without = Without::Trails),
    ("without sharing", |of| of.sharing = false),
];
/// Attacks that go on as somebody else.
const ANSWERED: [&str; 12] = [
    "thin-stuffing",
    "stuffing",
    "proxied-stuffing",
    "spraying",
    "slow-spraying",
    "enumeration",
    "idor",
    "scan",
    "scraping",
    "carding",
    "exfiltration",
    "behind-nat",
];
