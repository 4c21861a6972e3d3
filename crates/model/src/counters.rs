//! Counts that the data plane adds to and metrics read. One per worker, so that no two cores share a cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Action;

/// A worker's counts since it started. All are totals but `connections_open`.
#[derive(Debug, Default)]
#[repr(align(128))]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct WorkerCounters {
    pub connections_accepted: AtomicU64,
    pub connections_refused: AtomicU64,
    pub connections_closed: AtomicU64,
    pub requests: AtomicU64,
    pub requests_allowed: AtomicU64,
    pub requests_observed: AtomicU64,
    pub requests_denied: AtomicU64,
    pub requests_malformed: AtomicU64,
    pub upstream_errors: AtomicU64,
    pub upstream_connects: AtomicU64,
    pub upstream_reuses: AtomicU64,
    pub request_body_bytes: AtomicU64,
    pub response_body_bytes: AtomicU64,
    pub strikes: AtomicU64,
    pub inspect_failures: AtomicU64,
    /// Time spent in inspection, in nanoseconds.
    pub inspect_ns: AtomicU64,
    /// Signals, by [`RuleClass::index`](crate::RuleClass::index).
    pub class_signals: [AtomicU64; 5],
    /// Refusals by rules, by the class of the finding that speaks most for an attack.
    pub class_refusals: [AtomicU64; 5],
}

impl WorkerCounters {
    /// Adds one to a count.
    pub fn add_one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was done with a request.
    pub fn count_action(&self, action: Action) {
        Self::add_one(match action {
            Action::Allow => &self.requests_allowed,
            Action::Observe => &self.requests_observed,
            Action::Challenge | Action::Throttle | Action::Tarpit | Action::Deny => &self.requests_denied,
        });
    }
}
