//! All that a report counts: one question to each node, and the sum of what they say.
//!
//! INVARIANT: each part is what `Asked::Traffic` or `Asked::Actors` would be answered for the same time.

use phalanx_record::{By, History, RecordError, RefusedClient, Traffic, TrafficQuery};
use serde::{Deserialize, Serialize};

use super::{ACTORS_MAX, SERIES_TOLD_MAX};

/// Which time a report is about, and with which one it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportQuestion {
    /// From here on, in Unix milliseconds.
    pub(crate) from_ms: u64,
    /// Until here, exclusive.
    pub(crate) to_ms: u64,
    /// The time between two points of what is told over time.
    pub(crate) step_ms: u64,
    /// The time that it is compared with: from here on, and until here, exclusive. None before 1970.
    pub(crate) before: Option<(u64, u64)>,
    /// Only for these apps; all without it.
    pub(crate) apps: Option<Vec<String>>,
}

/// What a node counted, or several together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportCounts {
    /// All requests over time, by action.
    pub(crate) all: Traffic,
    /// Refused requests over time, by action.
    pub(crate) refused: Traffic,
    /// For each of [`PARTS`], all of the time at once.
    pub(crate) parts: Vec<Traffic>,
    /// The time before.
    pub(crate) before: Option<Traffic>,
    /// The clients refused most, without a course over time.
    pub(crate) clients: Vec<RefusedClient>,
}

/// By what requests are told apart, and whether only refused ones are.
pub(crate) const PARTS: [(By, bool); 4] =
    [(By::App, false), (By::Class, true), (By::Rule, true), (By::Country, true)];

impl ReportQuestion {
    /// What this node counted.
    pub(crate) fn counted(&self, history: &History) -> Result<ReportCounts, RecordError> {
        // A report draws no course of clients, and none is counted.
        let clients = TrafficQuery { step_ms: 0, ..self.over_time(true) };
        let counts = self.traffic(|query| history.traffic(query))?;
        Ok(ReportCounts { clients: history.refused_clients(&clients, ACTORS_MAX)?, ..counts })
    }

    /// What this node has of others' counts, without clients.
    pub(crate) fn copied(&self, copies: &History, told: &[u64]) -> Result<ReportCounts, RecordError> {
        self.traffic(|query| copies.copied_traffic(query, told))
    }

    /// Where what is asked for begins, with the time before.
    pub(crate) fn begins_ms(&self) -> u64 {
        self.before.map_or(self.from_ms, |(from_ms, _)| from_ms.min(self.from_ms))
    }

    fn traffic(
        &self,
        of: impl Fn(&TrafficQuery) -> Result<Traffic, RecordError>,
    ) -> Result<ReportCounts, RecordError> {
        let part = |(by, refused)| of(&self.query(by, refused, (self.from_ms, self.to_ms)));
        let before = self.before.map(|time| of(&self.query(By::Action, false, time)));
        Ok(ReportCounts {
            all: of(&self.over_time(false))?,
            refused: of(&self.over_time(true))?,
            parts: PARTS.into_iter().map(part).collect::<Result<_, _>>()?,
            before: before.transpose()?,
            clients: Vec::new(),
        })
    }

    fn over_time(&self, refused: bool) -> TrafficQuery {
        let query = self.query(By::Action, refused, (self.from_ms, self.to_ms));
        TrafficQuery { step_ms: self.step_ms, ..query }
    }

    /// All of a time in one point.
    fn query(&self, by: By, refused: bool, (from_ms, to_ms): (u64, u64)) -> TrafficQuery {
        let step_ms = to_ms.saturating_sub(from_ms);
        TrafficQuery {
            from_ms,
            to_ms,
            step_ms,
            by,
            refused,
            apps: self.apps.clone(),
            series_max: SERIES_TOLD_MAX,
        }
    }
}

impl ReportCounts {
    /// Adds what another node counted. False, and nothing is added, where a part of it is about another time or has too much.
    pub(crate) fn add(&mut self, theirs: Self) -> bool {
        let mut sum = self.clone();
        let has_parts =
            sum.parts.len() == theirs.parts.len() && sum.before.is_some() == theirs.before.is_some();
        let other = theirs.traffics();
        let fits =
            |(own, their): (&mut Traffic, &Traffic)| their.series.len() <= SERIES_TOLD_MAX && own.add(their);
        if !has_parts || !sum.traffics_mut().zip(other).all(fits) {
            return false;
        }
        add_clients(&mut sum.clients, theirs.clients, 0);
        *self = sum;
        true
    }

    /// The largest of each part, and no more than are shown.
    pub(crate) fn keep_largest(&mut self, series_max: usize) {
        self.traffics_mut().for_each(|traffic| traffic.keep_largest(series_max));
        most_refused(&mut self.clients);
    }

    fn traffics(&self) -> impl Iterator<Item = &Traffic> {
        [&self.all, &self.refused].into_iter().chain(&self.parts).chain(&self.before)
    }

    fn traffics_mut(&mut self) -> impl Iterator<Item = &mut Traffic> {
        [&mut self.all, &mut self.refused].into_iter().chain(&mut self.parts).chain(&mut self.before)
    }
}

/// Adds another node's clients, each with so many points.
pub(crate) fn add_clients(clients: &mut Vec<RefusedClient>, theirs: Vec<RefusedClient>, points: usize) {
    for mut one in theirs.into_iter().take(ACTORS_MAX) {
        // Nodes of earlier versions tell none.
        one.points.resize(points, 0);
        add(clients, one);
    }
}

/// The clients refused most first, and no more than are shown.
pub(crate) fn most_refused(clients: &mut Vec<RefusedClient>) {
    clients.sort_by(|a, b| b.refused.cmp(&a.refused).then_with(|| b.last_ms.cmp(&a.last_ms)));
    clients.truncate(ACTORS_MAX);
}

fn add(clients: &mut Vec<RefusedClient>, one: RefusedClient) {
    let Some(known) = clients.iter_mut().find(|known| known.client == one.client) else {
        clients.push(one);
        return;
    };
    known.refused = known.refused.saturating_add(one.refused);
    known.last_ms = known.last_ms.max(one.last_ms);
    known.points.iter_mut().zip(&one.points).for_each(|(own, more)| *own = own.saturating_add(*more));
    known.rules.extend(one.rules);
    known.rules.sort_unstable();
    known.rules.dedup();
    known.rules.truncate(RULES_MAX);
}

const RULES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64, before: bool) -> ReportCounts {
        let mut all = Traffic { to_ms: 60_000, step_ms: 60_000, ..Traffic::default() };
        all.totals.requests = requests;
        let client = RefusedClient {
            client: "192.0.2.0/24".into(),
            country: None,
            asn: None,
            refused: requests,
            points: Vec::new(),
            last_ms: 1,
            rules: vec![942_100],
        };
        ReportCounts {
            refused: all.clone(),
            parts: vec![all.clone(); PARTS.len()],
            before: before.then(|| all.clone()),
            all,
            clients: vec![client],
        }
    }

    #[test]
    fn a_node_counts_with_all_parts_or_not_at_all() {
        let mut sum = counts(3, true);
        assert!(sum.add(counts(4, true)));
        assert_eq!((sum.all.totals.requests, sum.clients.len(), sum.clients[0].refused), (7, 1, 7));
        let mut of_another_time = counts(9, true);
        of_another_time.parts[3].from_ms = 1;
        let told = sum.clone();
        for other in
            [of_another_time, counts(9, false), ReportCounts { parts: Vec::new(), ..counts(9, true) }]
        {
            assert!(!sum.add(other));
            assert_eq!(sum, told, "nothing of it is in the sums");
        }
    }

    #[test]
    fn the_question_fits_into_a_message() {
        let apps = Some(vec!["a".repeat(64); 8]);
        let time = u64::from(u32::MAX) << 16;
        let asked =
            ReportQuestion { from_ms: time, to_ms: time, step_ms: time, before: Some((time, time)), apps };
        let bytes = serde_json::to_vec(&crate::inquiry::Asked::Report(asked)).unwrap();
        assert!(bytes.len() < 1024, "{}", bytes.len());
    }
}
