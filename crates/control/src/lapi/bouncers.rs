//! The bouncers that may ask: their keys, when they were here, and how far each has read.

use std::collections::HashMap;

use parking_lot::Mutex;
use phalanx_trust::ApiKeys;

use crate::api::Bouncer;

/// The bouncers of this node. What they were told is kept in memory only: after a restart each is told everything.
#[derive(Debug)]
pub struct Bouncers {
    pub(crate) keys: ApiKeys,
    /// As many as there are keys.
    visits: Mutex<HashMap<String, Visit>>,
}

/// How far a bouncer has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The position of the fleet's trail.
    pub(crate) position: u64,
    /// The version of the shields that its decisions were sent under.
    pub(crate) shields: u64,
}

#[derive(Debug, Clone, Default)]
struct Visit {
    seen_at_ms: u64,
    pulled_at_ms: Option<u64>,
    agent: String,
    cursor: Option<Cursor>,
}

impl Bouncers {
    /// The bouncers with these keys; none was here yet.
    pub fn new(keys: ApiKeys) -> Self {
        Self { keys, visits: Mutex::default() }
    }

    /// Whose key this is; notes the visit.
    pub(crate) fn admit(&self, key: &[u8], agent: &str, now_ms: u64) -> Option<String> {
        let name = self.keys.owner(key)?;
        let mut visits = self.visits.lock();
        let visit = visits.entry(name.clone()).or_default();
        visit.seen_at_ms = now_ms;
        visit.agent = agent.chars().take(AGENT_CHARS_MAX).collect();
        Some(name)
    }

    /// How far a bouncer has read; `None` if it was told nothing yet.
    pub(crate) fn cursor(&self, name: &str) -> Option<Cursor> {
        self.visits.lock().get(name)?.cursor
    }

    /// Notes that a bouncer was told everything up to here.
    pub(crate) fn advance(&self, name: &str, cursor: Cursor, now_ms: u64) {
        if let Some(visit) = self.visits.lock().get_mut(name) {
            visit.cursor = Some(cursor);
            visit.pulled_at_ms = Some(now_ms);
        }
    }

    /// Forgets what a deleted bouncer did.
    pub(crate) fn forget(&self, name: &str) {
        self.visits.lock().remove(name);
    }

    /// All of them, as the API shows them.
    pub(crate) fn list(&self) -> Vec<Bouncer> {
        let visits = self.visits.lock();
        let keys = self.keys.list().into_iter();
        keys.map(|key| {
            let visit = visits.get(&key.name);
            Bouncer {
                created_at_ms: key.created_at_ms,
                seen_at_ms: visit.map(|visit| visit.seen_at_ms),
                pulled_at_ms: visit.and_then(|visit| visit.pulled_at_ms),
                agent: visit.map(|visit| visit.agent.clone()),
                name: key.name,
            }
        })
        .collect()
    }
}

/// What is kept of a bouncer's User-Agent.
const AGENT_CHARS_MAX: usize = 100;
