//! What came of a run, as text and as JSON.

use std::collections::BTreeMap;

use phalanx_learn::Detector;
use phalanx_learn::respond::Measure;

use crate::world::Settings;

/// What came of a run. The guide explains each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) detected: bool,
    pub(crate) seconds_to_detect: Option<f64>,
    pub(crate) seconds_after_tenth: Option<f64>,
    pub(crate) nodes_named: usize,
    pub(crate) honest_banned: u64,
    pub(crate) honest_challenged_share: f64,
    /// Of them that have no session, and so nobody who could prove anything: those who were asked to.
    pub(crate) machines_stopped: u64,
    pub(crate) attack_refused_share: f64,
    /// The same of what came after the first order.
    pub(crate) refused_once_answered: f64,
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
    pub(crate) fabricated: u64,
    pub(crate) notices: u64,
    pub(crate) ordered: BTreeMap<Measure, u64>,
    pub(crate) withdrawn: u64,
    /// Orders that hold at the end.
    pub(crate) in_force: usize,
    /// From the attack's last request to the end of the last order, where none holds any more.
    pub(crate) over_seconds: Option<f64>,
    pub(crate) pain_ppm_most: u64,
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
        let ordered: Vec<String> =
            self.ordered.iter().map(|(of, number)| format!("\"{}\":{number}", of.name())).collect();
        vec![
            ("detected", self.detected.to_string()),
            ("seconds_to_detect", seconds(self.seconds_to_detect)),
            ("seconds_after_tenth", seconds(self.seconds_after_tenth)),
            ("nodes_named", self.nodes_named.to_string()),
            ("honest_banned", self.honest_banned.to_string()),
            ("honest_challenged_share", format!("{:.6}", self.honest_challenged_share)),
            ("machines_stopped", self.machines_stopped.to_string()),
            ("refused_once_answered", format!("{:.4}", self.refused_once_answered)),
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
            ("notices", self.notices.to_string()),
            ("hearsay", self.hearsay.to_string()),
            ("fabricated", self.fabricated.to_string()),
            ("ordered", format!("{{{}}}", ordered.join(","))),
            ("withdrawn", self.withdrawn.to_string()),
            ("in_force", self.in_force.to_string()),
            ("pain_ppm_most", self.pain_ppm_most.to_string()),
            ("over_seconds", seconds(self.over_seconds)),
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
