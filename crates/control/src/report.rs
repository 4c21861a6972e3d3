//! Reports: what a time was like, for people who were not there. Made where the counts are, with nothing from elsewhere.
//!
//! Flow in names: the API's answers -> [`Report`] -> [`Report::html`], [`Report::csv`], or JSON. Pure.
//!
//! INVARIANT: every figure is one that `GET /api/v1/traffic` gives for the same time, or a sum of such. Text from strangers, and from the
//! policy, is escaped for what it goes to: HTML, a spreadsheet, a terminal. Times say how far their clock is from UTC.

mod chart;
mod csv;
mod html;
mod text;

use std::collections::BTreeMap;

use phalanx_record::{By, RefusedClient, Traffic, TrafficTotals};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{IncidentRow, NodeName};
use crate::zone::Zone;

/// `GET /api/v1/report`: what a time was like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The fleet's nodes that counted, or this one alone.
    pub answered: Vec<NodeName>,
    /// Nodes that did not answer: without a copy their counts are missing.
    pub silent: Vec<NodeName>,
    /// Nodes whose counts a control node of their site told from its copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<NodeName>,
    /// The app that it is about; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Whose clock it is written by: `UTC`, a distance from it as `+01:00`, a name as `Europe/Berlin`, or a rule as POSIX has it for `TZ`.
    #[serde(default)]
    pub time_zone: String,
    /// From here on, in Unix milliseconds.
    pub from_ms: u64,
    /// Until here, exclusive.
    pub to_ms: u64,
    /// By how much it begins and ends before the time that was meant: counts of long ago are kept by the hour, and a zone's midnight may be at half past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounded_ms: Option<u64>,
    /// Since when there are counts at all, where that is later than where it begins: nothing is known of what was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_since_ms: Option<u64>,
    /// When it was made.
    pub made_at_ms: u64,
    /// What became of the requests.
    pub totals: TrafficTotals,
    /// The same of the time before: as long as this one, or as many days.
    pub before: TrafficTotals,
    /// From when on that is, in Unix milliseconds.
    #[serde(default)]
    pub before_from_ms: u64,
    /// Until when, exclusive.
    #[serde(default)]
    pub before_to_ms: u64,
    /// Requests over time.
    pub over_time: Vec<ReportStep>,
    /// The time between two steps, in milliseconds.
    pub step_ms: u64,
    /// Requests by app, class, rule and country; but for apps those that were refused.
    pub parts: Vec<ReportPart>,
    /// What the rules that are named here say when they match, by their ids, as the policy of the node that made it has it. Others are not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
    /// The clients refused most.
    pub clients: Vec<RefusedClient>,
    /// Incidents that were open in this time; of many the latest.
    pub incidents: Vec<IncidentRow>,
}

/// A piece of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportStep {
    /// Where it begins, in Unix milliseconds.
    pub at_ms: u64,
    /// All requests.
    pub requests: u64,
    /// Of these, refused ones.
    pub refused: u64,
}

/// Requests by one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportPart {
    /// By what: `app`, `class`, `rule`, `country`.
    pub by: String,
    /// How many of each, the largest first.
    pub rows: Vec<ReportRow>,
    /// All others together.
    pub others: u64,
}

/// Requests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportRow {
    /// Which kind.
    pub key: String,
    /// How many.
    pub requests: u64,
}

impl Report {
    /// Whose clock it is written by; of a zone that cannot be read, UTC.
    pub fn zone(&self) -> Zone {
        Zone::parse(&self.time_zone).unwrap_or_default()
    }

    /// Its time, for people: `2026-03-29 00:00 UTC+01:00 to 2026-03-30 00:00 UTC+02:00`.
    pub fn time_words(&self) -> String {
        from_to(&self.zone(), self.from_ms, self.to_ms)
    }

    /// With what it is compared, and what else is to be known of its time: a sentence each.
    fn remarks(&self) -> Vec<String> {
        let zone = self.zone();
        let mut remarks = Vec::new();
        if self.before_to_ms > self.before_from_ms {
            let (now, before) =
                (self.to_ms - self.from_ms.min(self.to_ms), self.before_to_ms - self.before_from_ms);
            let hours = |ms: u64| format!("{} h", ms / HOUR_MS);
            let unlike = now.is_multiple_of(HOUR_MS) && before.is_multiple_of(HOUR_MS) && now != before;
            let lengths =
                unlike.then(|| format!(", which has {}, and this one {}", hours(before), hours(now)));
            let time = from_to(&zone, self.before_from_ms, self.before_to_ms);
            remarks.push(format!("compared with {time}{}", lengths.unwrap_or_default()));
        }
        if let Some(rounded_ms) = self.rounded_ms {
            let minutes = rounded_ms / 60_000;
            remarks.push(format!(
                "it begins and ends {minutes} minutes early: counts of that time are kept by the hour"
            ));
        }
        if let Some(since) = self.counted_since_ms {
            let since = format!("{} {}", zone.shown(since), zone.distance_at(since));
            remarks.push(format!("there are counts since {since}; nothing is known of what was before"));
        }
        remarks
    }

    /// The nodes whose counts are missing.
    fn lacking(&self) -> Vec<&NodeName> {
        crate::api::missing(&self.silent, &self.copied)
    }

    /// What a row of a part says in words.
    fn words(&self, part: &ReportPart, row: &ReportRow) -> Option<&str> {
        let words = self.rules.get(&row.key).filter(|_| part.by == "rule")?;
        Some(words)
    }
}

fn from_to(zone: &Zone, from_ms: u64, to_ms: u64) -> String {
    let (from, to) = (zone.distance_at(from_ms), zone.distance_at(to_ms));
    let begins = if from == to { String::new() } else { format!(" {from}") };
    format!("{}{begins} to {} {to}", zone.shown(from_ms), zone.shown(to_ms))
}

impl ReportPart {
    /// Of an answer about traffic.
    pub fn of(by: By, traffic: &Traffic) -> Self {
        let row = |series: &phalanx_record::TrafficSeries| ReportRow {
            key: series.key.clone(),
            requests: series.total,
        };
        Self {
            by: named(by).to_owned(),
            rows: traffic.series.iter().map(row).collect(),
            others: traffic.others.total,
        }
    }
}

fn named(by: By) -> &'static str {
    match by {
        By::Action => "action",
        By::App => "app",
        By::Rule => "rule",
        By::Class => "class",
        By::Country => "country",
        By::Status => "status",
        By::Node => "node",
        By::Site => "site",
    }
}

/// The steps of two answers about the same time: all requests, and the refused ones.
pub fn steps(all: &Traffic, refused: &Traffic) -> Vec<ReportStep> {
    let sum = |traffic: &Traffic, at: usize| -> u64 {
        let of = |points: &Vec<u64>| points.get(at).copied().unwrap_or_default();
        traffic.series.iter().map(|series| of(&series.points)).sum::<u64>() + of(&traffic.others.points)
    };
    let points = all.others.points.len();
    let at_ms = |at: usize| all.from_ms.saturating_add(all.step_ms.saturating_mul(at as u64));
    (0..points)
        .map(|at| ReportStep { at_ms: at_ms(at), requests: sum(all, at), refused: sum(refused, at) })
        .collect()
}

/// How one number compares with the one before, in words.
fn change(now: u64, before: u64) -> String {
    match (now, before) {
        (now, before) if now == before => "as before".to_owned(),
        (_, 0) => "none before".to_owned(),
        (now, before) => {
            // Hundredths are for those who look at the numbers themselves.
            let percent = (i128::from(now) - i128::from(before)) * 100 / i128::from(before);
            format!("{percent:+} %")
        }
    }
}

/// The figures of all requests, in the order in which they are told.
fn figures(totals: &TrafficTotals) -> [(&'static str, u64); 6] {
    [
        ("requests", totals.requests),
        ("refused", totals.refused),
        ("challenged", totals.challenged),
        ("throttled", totals.throttled),
        ("would have been refused", totals.observed),
        ("errors of apps", totals.errors),
    ]
}

const HOUR_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn report() -> Report {
        let hostile = "=HYPERLINK(\"http://evil\")<script>alert(1)</script>";
        Report {
            answered: vec![NodeName { site: "fra".into(), node: "a".into() }],
            silent: ["b", "c"].map(|node| NodeName { site: "syd".into(), node: node.into() }).into(),
            copied: vec![NodeName { site: "syd".into(), node: "c".into() }],
            app: None,
            time_zone: "CET-1CEST,M3.5.0,M10.5.0/3".into(),
            rounded_ms: None,
            before_from_ms: 1_767_484_800_000,
            before_to_ms: 1_767_571_200_000,
            rules: BTreeMap::from([("942100".into(), hostile.into())]),
            from_ms: 1_767_571_200_000,
            to_ms: 1_767_657_600_000,
            counted_since_ms: Some(1_767_574_800_000),
            made_at_ms: 1_767_657_660_000,
            totals: TrafficTotals { requests: 1_200, refused: 30, ..TrafficTotals::default() },
            before: TrafficTotals { requests: 600, refused: 30, ..TrafficTotals::default() },
            over_time: (0..24)
                .map(|hour| ReportStep {
                    at_ms: 1_767_571_200_000 + hour * 3_600_000,
                    requests: 50,
                    refused: hour % 3,
                })
                .collect(),
            step_ms: 3_600_000,
            parts: vec![
                ReportPart {
                    by: "app".into(),
                    rows: vec![ReportRow { key: hostile.into(), requests: 1_150 }],
                    others: 50,
                },
                ReportPart {
                    by: "rule".into(),
                    rows: [("942100", 9), ("1", 3)]
                        .map(|(key, requests)| ReportRow { key: key.into(), requests })
                        .into(),
                    others: 0,
                },
            ],
            clients: vec![RefusedClient {
                client: "203.0.113.7".into(),
                country: Some("DE".into()),
                asn: Some(64_500),
                refused: 12,
                points: Vec::new(),
                last_ms: 1_767_650_000_000,
                rules: vec![8_511_000, 942_100],
            }],
            incidents: vec![IncidentRow {
                id: "1DQ6".into(),
                summary: hostile.into(),
                ..IncidentRow::default()
            }],
        }
    }

    #[test]
    fn figures_are_compared_in_words() {
        for (now, before, expected) in
            [(5, 5, "as before"), (5, 0, "none before"), (150, 100, "+50 %"), (0, 7, "-100 %")]
        {
            assert_eq!(change(now, before), expected);
        }
    }

    #[test]
    fn a_report_says_what_its_time_is_and_with_what_it_is_compared() {
        let of = |from_ms, to_ms, before_from_ms| Report {
            from_ms,
            to_ms,
            before_from_ms,
            before_to_ms: from_ms,
            counted_since_ms: None,
            ..report()
        };
        // The 29th of March 2026, of 23 hours in Berlin, and the day before.
        let summer = of(1_774_738_800_000, 1_774_821_600_000, 1_774_652_400_000);
        assert_eq!(summer.time_words(), "2026-03-29 00:00 UTC+01:00 to 2026-03-30 00:00 UTC+02:00");
        let expected =
            "compared with 2026-03-28 00:00 to 2026-03-29 00:00 UTC+01:00, which has 24 h, and this one 23 h";
        assert_eq!(summer.remarks(), [expected]);
        let rounded = Report { rounded_ms: Some(1_800_000), before_from_ms: 0, before_to_ms: 0, ..summer };
        assert_eq!(
            rounded.remarks(),
            ["it begins and ends 30 minutes early: counts of that time are kept by the hour"]
        );
        let unknown = Report { time_zone: "nonsense".into(), ..rounded };
        assert_eq!(unknown.time_words(), "2026-03-28 23:00 to 2026-03-29 22:00 UTC");
    }

    #[test]
    fn steps_add_up_to_what_was_counted() {
        let series = |key: &str, points: Vec<u64>| phalanx_record::TrafficSeries {
            words: None,
            key: key.into(),
            total: points.iter().sum(),
            points,
        };
        let mut all = Traffic { from_ms: 0, to_ms: 180_000, step_ms: 60_000, ..Traffic::default() };
        all.series = vec![series("allow", vec![3, 0, 4]), series("deny", vec![1, 1, 0])];
        all.others.points = vec![0, 2, 0];
        let mut refused = all.clone();
        refused.series.remove(0);
        refused.others.points = vec![0; 3];
        let steps = steps(&all, &refused);
        assert_eq!(
            steps.iter().map(|step| (step.at_ms, step.requests, step.refused)).collect::<Vec<_>>(),
            [(0, 4, 1), (60_000, 3, 1), (120_000, 4, 0)]
        );
    }
}
