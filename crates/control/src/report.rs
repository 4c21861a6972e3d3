//! Reports: what a time was like, for people who were not there. Made where the counts are, with nothing from elsewhere.
//!
//! Flow in names: the API's answers -> [`Report`] -> [`Report::html`], [`Report::csv`], or JSON. Pure.
//!
//! INVARIANT: every figure is one that `GET /api/v1/traffic` gives for the same time, or a sum of such. Text from strangers is escaped for
//! what it goes to: HTML, a spreadsheet.

mod chart;
mod csv;
mod html;
mod text;

use phalanx_record::{RefusedClient, Traffic, TrafficTotals};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{IncidentRow, NodeName};

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
    /// From here on, in Unix milliseconds.
    pub from_ms: u64,
    /// Until here, exclusive.
    pub to_ms: u64,
    /// Since when there are counts at all, where that is later than where it begins: nothing is known of what was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_since_ms: Option<u64>,
    /// When it was made.
    pub made_at_ms: u64,
    /// What became of the requests.
    pub totals: TrafficTotals,
    /// The same of the time before, as long as this one.
    pub before: TrafficTotals,
    /// Requests over time.
    pub over_time: Vec<ReportStep>,
    /// The time between two steps, in milliseconds.
    pub step_ms: u64,
    /// Requests by app, class, rule and country; but for apps those that were refused.
    pub parts: Vec<ReportPart>,
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
    /// The nodes whose counts are missing.
    fn lacking(&self) -> Vec<&NodeName> {
        crate::api::missing(&self.silent, &self.copied)
    }
}

impl ReportPart {
    /// Of an answer about traffic.
    pub fn of(by: &str, traffic: &Traffic) -> Self {
        let row = |series: &phalanx_record::TrafficSeries| ReportRow {
            key: series.key.clone(),
            requests: series.total,
        };
        Self {
            by: by.to_owned(),
            rows: traffic.series.iter().map(row).collect(),
            others: traffic.others.total,
        }
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
            parts: vec![ReportPart {
                by: "app".into(),
                rows: vec![ReportRow { key: hostile.into(), requests: 1_150 }],
                others: 50,
            }],
            clients: vec![RefusedClient {
                client: "203.0.113.7".into(),
                country: Some("DE".into()),
                asn: Some(64_500),
                refused: 12,
                points: Vec::new(),
                last_ms: 1_767_650_000_000,
                rules: vec![8_511_000],
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
