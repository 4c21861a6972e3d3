//! What is known of blocklists: of each name, the record with the highest version, whoever wrote it. No IO.
//!
//! INVARIANT: as in `registers`, the state depends on the set of records applied, not on their order or number. A record is kept until
//! all of lower version have expired, removed and ended lists too, so that none comes back.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::BLOCKLIST_NAMES_MAX;
use phalanx_model::{Blocklist, DecisionId};

/// The newest record of each name.
#[derive(Debug, Default)]
pub(crate) struct Listed(HashMap<Arc<str>, Arc<Blocklist>>);

impl Listed {
    /// Whether a record would alter the state.
    pub(crate) fn is_news(&self, new: &Blocklist) -> bool {
        self.0.get(&new.name).is_none_or(|old| rank(new) > rank(old))
    }

    /// Takes a record that is news. Returns what is gone for it: the version before, or the name that was quiet for longest if there
    /// are too many. That may be the new one itself.
    pub(crate) fn put(&mut self, new: &Arc<Blocklist>) -> Option<Arc<Blocklist>> {
        let old = self.0.insert(Arc::clone(&new.name), Arc::clone(new));
        if self.0.len() <= BLOCKLIST_NAMES_MAX {
            return old;
        }
        let oldest = self.0.values().min_by_key(|list| (list.version, &list.name)).cloned()?;
        self.0.remove(&oldest.name)
    }

    /// Forgets what has expired, and returns it.
    pub(crate) fn sweep(&mut self, now_ms: u64) -> Vec<Arc<Blocklist>> {
        let expired: Vec<_> = self.0.values().filter(|list| list.expires_at_ms <= now_ms).cloned().collect();
        for list in &expired {
            self.0.remove(&list.name);
        }
        expired
    }

    /// Takes a record out.
    pub(crate) fn take(&mut self, gone: &Blocklist) {
        self.0.remove(&gone.name);
    }

    /// The newest record of each name, removed lists included, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Blocklist>> {
        self.0.values()
    }
}

/// Total order of the records of one name.
fn rank(list: &Blocklist) -> (u64, DecisionId, &phalanx_model::Author, u64, Option<&str>, &str, bool) {
    let hash = list.content.as_ref().map(|content| content.hash.as_str());
    (list.version, list.id, &list.author, list.until_ms, hash, &list.reason, list.approved)
}
