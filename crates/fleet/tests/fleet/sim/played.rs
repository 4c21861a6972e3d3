//! What happened in a run that is no fault: so that properties are not true for want of anything that they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts of what was played, by name.
#[derive(Clone, Default)]
pub(crate) struct Played(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    counts: BTreeMap<&'static str, u64>,
    seen: BTreeSet<String>,
}

/// What must all have happened in a hundred runs.
pub(crate) const PLAYED: [&str; 15] = [
    "push",
    "trial",
    "roll-back",
    "move home",
    "push from a stale head",
    "promoted by the judge",
    "rolled back by the judge",
    "list imported",
    "list held",
    "list imported again for its content was lost",
    "decision held",
    "held over a restart",
    "decision approved",
    "recall",
    "recall ends what is held",
];

/// What must all have happened in a thousand.
pub(crate) const RARELY_PLAYED: [&str; 6] =
    ["promote", "fork ended", "list removed", "list approved", "list rejected", "decision rejected"];

impl Played {
    pub(crate) fn count(&self, what: &'static str) {
        assert!(PLAYED.contains(&what) || RARELY_PLAYED.contains(&what), "{what}");
        *self.0.lock().counts.entry(what).or_default() += 1;
    }

    /// Counts something that may be seen again.
    pub(crate) fn once(&self, what: &'static str, which: impl std::fmt::Debug) {
        if self.0.lock().seen.insert(format!("{what} {which:?}")) {
            self.count(what);
        }
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().counts.clone()
    }
}
