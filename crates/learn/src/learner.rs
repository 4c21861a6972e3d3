//! One node's learner: events and other nodes' summaries in, signals and its own summaries out.

mod entered;
mod follow;
mod judge;
#[cfg(test)]
mod tests;

use crate::baseline::Baselines;
use crate::detect::{Detectors, Signal};
use crate::event::{Event, Outcome, Step, Subject, SubjectKind};
use crate::evidence::{Contribution, Epochs, Feature, Series, SeriesKey, bucket};
use crate::health::Health;
use crate::share::{ROWS_MAX, Row, SEEN_MAX, Seen, Summary};
use crate::sketch::{Counts, low32, mix};
use crate::table::Table;
use follow::{Profile, Route};

/// How many of what a learner keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Addresses, sessions and accounts; 56 bytes each. Some more than are alive at once, since they spread unevenly over sets.
    pub actors: usize,
    /// Series of evidence.
    pub series: usize,
    /// Routes.
    pub routes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { actors: 1_400_000, series: 16_384, routes: 1_024 }
    }
}

/// What one node learns of its events and of other nodes' summaries.
#[derive(Debug)]
pub struct Learner {
    detectors: Detectors,
    profiles: Table<Profile>,
    series: Table<Box<Series>>,
    routes: Table<Route>,
    health: Table<Health>,
    epochs: Epochs,
    baselines: Baselines,
    /// When an app failed everybody last, and when one let nobody in, by bucket.
    troubled: (u32, u32),
    served: Counts,
    news: Vec<SeriesKey>,
    seen: Vec<Seen>,
    /// Rows of other nodes that told of more than they served.
    impossible: u64,
}

impl Learner {
    /// With its settings; `seed` is random and the node's own, so that nobody can choose what is forgotten.
    pub fn new(detectors: Detectors, sizes: Sizes, seed: u64) -> Self {
        Self {
            detectors,
            profiles: Table::new(sizes.actors, seed),
            series: Table::new(sizes.series, mix(seed)),
            routes: Table::new(sizes.routes, mix(mix(seed))),
            health: Table::new(APPS_MAX, mix(mix(seed))),
            baselines: Baselines::default(),
            epochs: Epochs::default(),
            troubled: (0, 0),
            served: Counts::default(),
            news: Vec::new(),
            seen: Vec::new(),
            impossible: 0,
        }
    }

    /// With what was usual before, which [`Learner::baselines`] gave.
    #[must_use]
    pub fn with_baselines(mut self, baselines: Baselines) -> Self {
        self.baselines = baselines;
        self
    }

    /// Goes on with what history taught to be usual; what was usual so far is forgotten.
    pub fn recall(&mut self, baselines: Baselines) {
        self.baselines = baselines;
    }

    /// What is usual of apps and routes, to be kept over a restart.
    pub fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// Learns from history what is usual, in the order of its time; says nothing.
    pub fn learn(&mut self, event: &Event) {
        if !event.exempt && event.attack.is_none() {
            self.baselines.learn(event);
            self.weigh(event, &mut Vec::new());
        }
    }

    /// Goes on with other thresholds.
    pub fn tune(&mut self, detectors: Detectors) {
        self.detectors = detectors;
    }

    /// Learns from one request of this node; signals that it completes go to `out`.
    pub fn observe(&mut self, event: &Event, out: &mut Vec<Signal>) {
        self.served.add(bucket(event.at_ms), 1);
        if event.exempt {
            return;
        }
        self.count_requests(event, out);
        self.follow_health(event, out);
        if event.attack.is_none() {
            self.baselines.observe(event, out);
        }
        self.follow_session(event, out);
        let is_own_device = self.follow_account(event, out);
        self.follow_pages(event, out);
        self.follow_objects(event, out);
        self.weigh(event, out);
        let address = Subject::address(event.ip);
        match event.step {
            Step::Login(outcome) => self.login(event, outcome, is_own_device, out),
            Step::Lookup => {
                let account = event.account.unwrap_or(event.target);
                self.count_notable(event, Feature::LookedUp, account, &[address], out);
            }
            Step::Payment(Outcome::Failed) => {
                let card = event.secret.map_or(event.at_ms, u64::from);
                self.count_notable(event, Feature::PaymentFailed, card, &[address], out);
            }
            Step::Page if matches!(event.status, 403..=405) && event.attack.is_none() => {
                // What is missing for everybody is held against nobody, also afterwards.
                if self.fails_everybody(Some(event), event.at_ms).0 && !self.is_strange(event) {
                    return;
                }
                self.count_notable(event, Feature::Missing, event.target, &[address], out);
            }
            _ => {}
        }
        if event.status >= 500 {
            self.count_by(event, Feature::ServerFailed, event.target, &[address], out);
        }
        if event.attack == Some(phalanx_model::Confidence::High) {
            self.count_notable(event, Feature::Attacked, event.target, &[address], out);
        }
    }

    fn login(&mut self, event: &Event, outcome: Outcome, is_own_device: bool, out: &mut Vec<Signal>) {
        let Some(account) = event.account else { return };
        let places = [Subject::address(event.ip), Subject::prefix(event.ip)];
        match outcome {
            Outcome::Failed => {
                let all = [Subject::new(SubjectKind::App, 0)];
                self.count_by(event, Feature::LoginFailed, account, &all, out);
                self.count_notable(event, Feature::LoginFailed, account, &places, out);
                if let Some(password) = event.password() {
                    self.count_by(event, Feature::LoginFailed, account, &[password], out);
                }
            }
            Outcome::Passed => {
                self.count_by(event, Feature::LoginPassed, account, &places, out);
                self.count_software(event, Feature::LoginPassed, account, out);
                if !is_own_device {
                    self.entered(event, account, out);
                }
            }
            Outcome::Unknown => {}
        }
    }

    /// Counts something that is held against somebody: of `places`, and of the software.
    fn count_notable(
        &mut self,
        event: &Event,
        feature: Feature,
        what: u64,
        places: &[Subject],
        out: &mut Vec<Signal>,
    ) {
        // The same thing again, like a password that is out of date, is not held against anybody twice.
        let is_known = places.first().is_some_and(|&subject| {
            let series = self.series.peek(SeriesKey { subject, feature }.hash());
            series.is_some_and(|series| series.own.what.contains(low32(mix(what))))
        });
        if !is_known {
            self.note(event);
        }
        self.count_by(event, feature, what, places, out);
        self.count_software(event, feature, what, out);
    }

    fn count_software(&mut self, event: &Event, feature: Feature, what: u64, out: &mut Vec<Signal>) {
        if let Some(software) = event.software {
            self.count_by(event, feature, what, &[Subject::new(SubjectKind::Software, software)], out);
        }
    }

    fn count_by(
        &mut self,
        event: &Event,
        feature: Feature,
        what: u64,
        by: &[Subject],
        out: &mut Vec<Signal>,
    ) {
        by.iter().for_each(|&subject| self.count(event, SeriesKey { subject, feature }, 1, what, out));
    }

    fn count(&mut self, event: &Event, key: SeriesKey, more: u32, what: u64, out: &mut Vec<Signal>) {
        let Some(entry) = self.series.entry(key.hash(), seconds(event.at_ms)) else { return };
        let series = entry.value;
        series.add(bucket(event.at_ms), more, low32(mix(what)), address_hash(event));
        series.last = (event.route, event.network());
        if key.feature == Feature::LoginFailed {
            series.tool = event.software.map_or(0, |software| low32(mix(software)));
        }
        if key.feature.is_shared() && !series.is_news && self.news.len() < NEWS_MAX {
            series.is_news = true;
            self.news.push(key);
        }
        if let Some(signal) = self.judge(key, event.at_ms, Some(event)) {
            let is_sure = signal.decisive;
            out.push(signal);
            if is_sure && key.feature == Feature::LoginFailed {
                self.tell_entered(key, event.at_ms, out);
            }
        }
    }

    /// What is new since the last summary, for all other nodes.
    pub fn summary(&mut self, now_ms: u64) -> Summary {
        let from = bucket(now_ms).saturating_sub(TOLD_BUCKETS);
        let mut summary = Summary::default();
        self.served.since(from).for_each(|(bucket, count)| summary.served.add(bucket, count));
        for key in self.news.drain(..self.news.len().min(ROWS_MAX)) {
            let Some(series) = self.series.peek_mut(key.hash()) else { continue };
            series.is_news = false;
            let mut told = Contribution::default();
            series.own.counts.since(from).for_each(|(bucket, count)| told.counts.add(bucket, count));
            if told.counts.since(from).next().is_none() {
                continue;
            }
            told.what = series.own.what.newest(from, HASHES_TOLD);
            told.from = series.own.from.newest(from, HASHES_TOLD);
            summary.rows.push(Row { key, told });
        }
        summary.seen.extend(self.seen.drain(..self.seen.len().min(SEEN_MAX)));
        summary
    }

    /// Takes in what another node told; `peer` is its number, which whoever checked its signature gives.
    pub fn merge(&mut self, peer: u16, summary: &Summary, now_ms: u64, out: &mut Vec<Signal>) {
        let now = bucket(now_ms);
        let near = |bucket: u32| bucket <= now.saturating_add(1) && bucket.saturating_add(60) >= now;
        if summary.served.since(0).any(|(bucket, count)| count > BUCKET_REQUESTS_MAX || !near(bucket)) {
            self.impossible += 1;
            return;
        }
        for row in &summary.rows {
            if !row.is_possible(&summary.served) {
                self.impossible += 1;
                continue;
            }
            if let Some(entry) = self.series.entry(row.key.hash(), seconds(now_ms)) {
                entry.value.merge(peer, &row.told, now);
                out.extend(self.judge(row.key, now_ms, None));
            }
        }
        summary.seen.iter().for_each(|seen| self.hear(seen, seconds(now_ms)));
    }

    /// Memory in bytes, as far as it grows with what is seen.
    pub fn bytes(&self) -> usize {
        self.profiles.bytes() + self.series.bytes() + self.routes.bytes()
    }

    /// Actors that are known.
    pub fn actors(&self) -> usize {
        self.profiles.len()
    }

    /// Rows and summaries of other nodes that were refused, because they told of more than can have been.
    pub fn impossible(&self) -> u64 {
        self.impossible
    }
}

pub(crate) fn seconds(at_ms: u64) -> u32 {
    u32::try_from(at_ms / 1_000).unwrap_or(u32::MAX)
}

fn address_hash(event: &Event) -> u32 {
    low32(mix(Subject::address(event.ip).id))
}

/// Apps whose clients' fare is known; of others nothing is put down to an outage.
const APPS_MAX: usize = 64;
/// Series that wait to be told of; what does not fit is told with its next event.
const NEWS_MAX: usize = 4 * ROWS_MAX;
/// Buckets that are told again and again, a minute: what was lost in between arrives with the next event.
const TOLD_BUCKETS: u32 = 6;
/// Hashes that are told of one series.
const HASHES_TOLD: usize = 32;
/// What no node serves in ten seconds.
const BUCKET_REQUESTS_MAX: u32 = 2_000_000;
