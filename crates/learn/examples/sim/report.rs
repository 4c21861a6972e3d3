//! What came of a run, as text, as JSON, and as tables over many runs.

use std::collections::BTreeMap;

use phalanx_learn::Detector;

use crate::attackers::SCENARIOS;
use crate::world::{Settings, play};

/// What came of a run. The guide explains each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) detected: bool,
    pub(crate) seconds_to_detect: Option<f64>,
    pub(crate) seconds_after_tenth: Option<f64>,
    pub(crate) nodes_named: usize,
    pub(crate) honest_banned: u64,
    pub(crate) honest_challenged_share: f64,
    pub(crate) attack_refused_share: f64,
    pub(crate) incidents: usize,
    pub(crate) incident_share: f64,
    pub(crate) mixed_incidents: usize,
    pub(crate) false_incidents: usize,
    pub(crate) honest_sessions: u64,
    pub(crate) honest_requests: u64,
    pub(crate) attack_requests: u64,
    pub(crate) found: Vec<Detector>,
    pub(crate) missed: Vec<Detector>,
    pub(crate) signals: BTreeMap<Detector, Tally>,
    pub(crate) hearsay: u64,
}

/// Signals that named somebody who attacks, and others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) right: u64,
    pub(crate) wrong: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, is_right: bool) {
        self.right += u64::from(is_right);
        self.wrong += u64::from(!is_right);
    }
}

impl Report {
    /// Names and values, as JSON spells them.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let seconds = |of: Option<f64>| of.map_or_else(|| "null".into(), |of| format!("{of:.3}"));
        let names = |of: &[Detector]| {
            let names: Vec<String> = of.iter().map(|of| format!("\"{}\"", of.name())).collect();
            format!("[{}]", names.join(","))
        };
        let signals: Vec<String> = self
            .signals
            .iter()
            .map(|(of, tally)| {
                format!("\"{}\":{{\"right\":{},\"wrong\":{}}}", of.name(), tally.right, tally.wrong)
            })
            .collect();
        vec![
            ("detected", self.detected.to_string()),
            ("seconds_to_detect", seconds(self.seconds_to_detect)),
            ("seconds_after_tenth", seconds(self.seconds_after_tenth)),
            ("nodes_named", self.nodes_named.to_string()),
            ("honest_banned", self.honest_banned.to_string()),
            ("honest_challenged_share", format!("{:.6}", self.honest_challenged_share)),
            ("attack_refused_share", format!("{:.4}", self.attack_refused_share)),
            ("incidents", self.incidents.to_string()),
            ("incident_share", format!("{:.4}", self.incident_share)),
            ("mixed_incidents", self.mixed_incidents.to_string()),
            ("false_incidents", self.false_incidents.to_string()),
            ("honest_sessions", self.honest_sessions.to_string()),
            ("honest_requests", self.honest_requests.to_string()),
            ("attack_requests", self.attack_requests.to_string()),
            ("found", names(&self.found)),
            ("missed", names(&self.missed)),
            ("hearsay", self.hearsay.to_string()),
            ("signals", format!("{{{}}}", signals.join(","))),
        ]
    }

    pub(crate) fn json(&self, settings: &Settings) -> String {
        let head = format!(
            "\"scenario\":\"{}\",\"seed\":{},\"nodes\":{},\"sharing\":{}",
            settings.scenario, settings.seed, settings.nodes, settings.sharing
        );
        let fields: Vec<String> =
            self.fields().into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{head},{}}}", fields.join(","))
    }

    pub(crate) fn text(&self) -> String {
        self.fields().into_iter().map(|(name, value)| format!("{name:<24} {value}\n")).collect()
    }
}

/// Plays every scenario with seeds from 1 on, with and without sharing, and prints two tables.
pub(crate) fn table(settings: &Settings, seeds: u64) {
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
