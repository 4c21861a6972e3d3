//! Times in buckets, and counts by app, for metrics.
//!
//! Written by one worker each, without a lock or a locked instruction; a reader sees each number whole, and numbers that
//! belong together within one request of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ChallengeStep;
use crate::limits::METRICS_APPS_MAX;

/// Upper ends of the buckets, in microseconds: 100 us to a minute, some three to a decade. What takes longer is beyond all.
pub const BUCKETS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How many times fell into each bucket, and their sum.
#[derive(Debug, Default)]
pub struct Latencies {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latencies {
    /// Counts one time.
    pub fn count(&self, us: u64) {
        let place = BUCKETS_US.iter().position(|&end| us <= end).unwrap_or(BUCKETS_US.len());
        self.buckets.get(place).into_iter().for_each(|bucket| add(bucket, 1));
        add(&self.sum_us, us);
    }

    /// Adds these counts to `total`.
    pub fn add_to(&self, total: &mut LatencyTotal) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum_us += self.sum_us.load(Ordering::Relaxed);
    }
}

/// The same, summed over workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencyTotal {
    /// By the place in [`BUCKETS_US`], and what is beyond them.
    pub buckets: [u64; BUCKETS_US.len() + 1],
    /// The sum, in microseconds.
    pub sum_us: u64,
}

/// What is counted of one app.
#[derive(Debug, Default)]
pub struct AppCount {
    /// Replies by the first digit of their status; place 0 has requests that got none.
    pub replies: [AtomicU64; 6],
    /// From the first byte of a request to the last of its reply.
    pub times: Latencies,
    /// Requests that had to do with a challenge, by the place in [`ChallengeStep::ALL`].
    pub challenges: [AtomicU64; ChallengeStep::ALL.len()],
}

/// What is counted of all apps, by slot.
#[derive(Debug)]
pub struct AppCounters(Box<[AppCount]>);

impl Default for AppCounters {
    fn default() -> Self {
        Self((0..=AppSlots::NONE).map(|_| AppCount::default()).collect())
    }
}

impl AppCounters {
    /// Counts a request that is over. A tunnel's time says nothing about the app's and is left out.
    pub fn count(&self, slot: usize, status: u16, us: u64) {
        let Some(app) = self.0.get(slot) else { return };
        let class = usize::from(status / 100);
        app.replies.get(class).into_iter().for_each(|count| add(count, 1));
        if status != 101 {
            app.times.count(us);
        }
    }

    /// Counts what a request had to do with a challenge.
    pub fn count_challenge(&self, slot: usize, step: ChallengeStep) {
        let count = self.0.get(slot).and_then(|app| app.challenges.get(step as usize));
        count.into_iter().for_each(|count| add(count, 1));
    }

    /// The counts of a slot.
    pub fn of(&self, slot: usize) -> Option<&AppCount> {
        self.0.get(slot)
    }
}

/// Which app has which place among the counts. A place once given keeps its name until the process ends, so that no series
/// goes on under another's; apps beyond [`METRICS_APPS_MAX`] share a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppSlots(Vec<Arc<str>>);

impl AppSlots {
    /// The place of all apps that have none of their own.
    pub const OTHER: usize = METRICS_APPS_MAX;
    /// The place of requests for a host that no app answers to.
    pub const NONE: usize = METRICS_APPS_MAX + 1;

    /// The place of an app, which it is given now if it has none yet.
    pub fn take(&mut self, name: &Arc<str>) -> usize {
        if let Some(slot) = self.0.iter().position(|known| known == name) {
            return slot;
        }
        // Their names are labels of the places above.
        if self.0.len() >= METRICS_APPS_MAX || [OTHER_NAME, NONE_NAME].contains(&name.as_ref()) {
            return Self::OTHER;
        }
        self.0.push(Arc::clone(name));
        self.0.len() - 1
    }

    /// All places with the names that metrics show.
    pub fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        let own = self.0.iter().map(|name| name.as_ref()).enumerate();
        own.chain([(Self::OTHER, OTHER_NAME), (Self::NONE, NONE_NAME)])
    }
}

/// One writer: a plain addition is enough.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

const OTHER_NAME: &str = "_other";
const NONE_NAME: &str = "_none";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let latencies = Latencies::default();
        for us in [0, 100, 101, 60_000_000, 60_000_001] {
            latencies.count(us);
        }
        let mut total = LatencyTotal::default();
        latencies.add_to(&mut total);
        latencies.add_to(&mut total);
        assert_eq!((total.buckets[0], total.buckets[1]), (4, 2));
        assert_eq!((total.buckets[17], total.buckets[18]), (2, 2));
        assert_eq!(total.sum_us, 2 * 120_000_202);
        assert!(BUCKETS_US.is_sorted());
    }

    #[test]
    fn apps_keep_their_places_and_the_last_ones_share_one() {
        let mut slots = AppSlots::default();
        let name = |n: usize| Arc::from(format!("app-{n}"));
        let given: Vec<_> = (0..METRICS_APPS_MAX + 2).map(|n| slots.take(&name(n))).collect();
        assert_eq!(given[..3], [0, 1, 2]);
        assert_eq!(given[METRICS_APPS_MAX..], [AppSlots::OTHER; 2]);
        assert_eq!(slots.take(&name(1)), 1);
        let names: Vec<_> = slots.names().map(|(_, name)| name).collect();
        assert_eq!((names.len(), names[1]), (METRICS_APPS_MAX + 2, "app-1"));
    }

    #[test]
    fn an_app_cannot_take_the_label_of_all_others() {
        let mut slots = AppSlots::default();
        assert_eq!(slots.take(&Arc::from("_other")), AppSlots::OTHER);
        assert_eq!(slots.names().filter(|(_, name)| *name == "_other").count(), 1);
    }

    #[test]
    fn replies_are_counted_by_their_class() {
        let counters = AppCounters::default();
        for status in [200, 204, 503, 0, 101, 999] {
            counters.count(3, status, 5);
        }
        let app = counters.of(3).unwrap();
        let replies = app.replies.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(replies, [1, 1, 2, 0, 0, 1]);
        let mut total = LatencyTotal::default();
        app.times.add_to(&mut total);
        assert_eq!(total.buckets[0], 5);
    }
}
