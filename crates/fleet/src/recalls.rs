//! Recalls: orders that end everything an author decided up to a version. One register per (author, target). No IO.
//!
//! INVARIANT: as in `registers`, the state depends on the set of recalls applied, not on their order or number.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::RECALLS_PER_AUTHOR_MAX;
use phalanx_model::{Author, Decision, DecisionId, Recall};

/// All recalls known and not expired, by whose decisions they end.
#[derive(Debug, Default)]
pub(crate) struct Recalls(HashMap<Author, Vec<Arc<Recall>>>);

impl Recalls {
    /// Whether one of them ends a decision.
    pub(crate) fn end(&self, decision: &Decision) -> bool {
        self.0.get(&decision.author).is_some_and(|of| of.iter().any(|recall| recall.ends(decision)))
    }

    /// Whether a recall would alter the state.
    pub(crate) fn is_news(&self, new: &Recall) -> bool {
        self.held(new).is_none_or(|old| rank(new) > rank(old))
    }

    /// Takes a recall that is news. Returns what it replaces, and what its author's quota has no more room for.
    pub(crate) fn put(&mut self, new: &Arc<Recall>) -> Vec<Arc<Recall>> {
        let of = self.0.entry(new.target.clone()).or_default();
        let old = of.iter().position(|old| old.author == new.author).map(|at| of.swap_remove(at));
        of.push(Arc::clone(new));
        let own = || self.iter().filter(|recall| recall.author == new.author);
        // The one that may be forgotten first was made first: what it ended has most likely expired.
        let crowded = match own().count() > RECALLS_PER_AUTHOR_MAX {
            true => own().min_by_key(|recall| (recall.expires_at_ms, rank(recall))).cloned(),
            false => None,
        };
        if let Some(crowded) = &crowded {
            self.take(crowded);
        }
        old.into_iter().chain(crowded).collect()
    }

    /// Forgets what has expired, and returns it.
    pub(crate) fn sweep(&mut self, now_ms: u64) -> Vec<Arc<Recall>> {
        let expired: Vec<_> = self.iter().filter(|recall| recall.expires_at_ms <= now_ms).cloned().collect();
        if !expired.is_empty() {
            self.retain(|recall| now_ms < recall.expires_at_ms);
        }
        expired
    }

    /// Takes a recall out.
    pub(crate) fn take(&mut self, gone: &Arc<Recall>) {
        self.retain(|recall| !Arc::ptr_eq(recall, gone));
    }

    /// Every recall, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Recall>> {
        self.0.values().flatten()
    }

    fn held(&self, new: &Recall) -> Option<&Arc<Recall>> {
        self.0.get(&new.target)?.iter().find(|old| old.author == new.author)
    }

    fn retain(&mut self, mut stays: impl FnMut(&Arc<Recall>) -> bool) {
        for of in self.0.values_mut() {
            of.retain(&mut stays);
        }
        self.0.retain(|_, of| !of.is_empty());
    }
}

/// Total order of the values of one register.
fn rank(recall: &Recall) -> (u64, DecisionId, u64, u64, &str) {
    (recall.up_to_version, recall.id, recall.expires_at_ms, recall.created_at_ms, &recall.reason)
}
