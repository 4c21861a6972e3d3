//! Persistent collections (`IP`, `GLOBAL`, `SESSION`, `USER`, `RESOURCE`): a bounded table that forgets the oldest.
//!
//! Records live in buckets by hash, a few per bucket; a new one in a full bucket replaces the one that was not
//! touched for longest. A transaction works on copies and adds its changes at its end, so that counters of requests
//! that run at the same time add up.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use phalanx_policy::seclang::ir::Variable;

/// The store.
#[derive(Debug)]
pub struct Collections {
    buckets: Box<[Mutex<Vec<Record>>]>,
    state: RandomState,
}

/// One collection's variables under one key.
#[derive(Debug)]
struct Record {
    collection: Variable,
    key: Box<[u8]>,
    variables: Vec<Stored>,
    touched_ms: u64,
    expires_ms: u64,
}

/// A variable of a record.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) name: Box<[u8]>,
    pub(crate) value: Vec<u8>,
    /// When it ends; `u64::MAX`: with its record.
    pub(crate) expires_ms: u64,
}

/// A collection as one transaction sees it, with what it changed.
#[derive(Debug)]
pub(crate) struct PersistentView {
    pub(crate) collection: Variable,
    pub(crate) key: Vec<u8>,
    pub(crate) variables: Vec<Stored>,
    pub(crate) changes: Vec<Change>,
}

/// A change to a stored variable.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Set(Box<[u8]>, Vec<u8>),
    Add(Box<[u8]>, i64),
    Unset(Box<[u8]>),
    Expire(Box<[u8]>, u64),
}

impl Default for Collections {
    fn default() -> Self {
        Self::with_records(RECORDS_MAX)
    }
}

impl Collections {
    /// A store of at most about this many records.
    pub fn with_records(records_max: usize) -> Self {
        let buckets = (records_max / BUCKET_RECORDS).max(1);
        Self { buckets: (0..buckets).map(|_| Mutex::default()).collect(), state: RandomState::default() }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.lock().is_empty())
    }

    fn bucket(&self, collection: Variable, key: &[u8]) -> Option<&Mutex<Vec<Record>>> {
        let hash = self.state.hash_one((collection, key));
        let place = usize::try_from(hash % u64::try_from(self.buckets.len()).unwrap_or(1)).unwrap_or(0);
        self.buckets.get(place)
    }

    /// A view of the record with this key, empty if there is none.
    pub(crate) fn open(&self, collection: Variable, key: &[u8], now_ms: u64) -> PersistentView {
        let key = key.get(..key.len().min(KEY_BYTES_MAX)).unwrap_or_default().to_vec();
        let mut variables = Vec::new();
        if let Some(bucket) = self.bucket(collection, &key) {
            let bucket = bucket.lock();
            let found = bucket.iter().find(|record| record.collection == collection && *record.key == *key);
            if let Some(record) = found.filter(|record| now_ms < record.expires_ms) {
                variables.extend(record.variables.iter().filter(|v| now_ms < v.expires_ms).cloned());
            }
        }
        PersistentView { collection, key, variables, changes: Vec::new() }
    }

    /// Adds a view's changes to the store.
    pub(crate) fn close(&self, view: &PersistentView, now_ms: u64, timeout_ms: u64) {
        if view.changes.is_empty() {
            return;
        }
        let Some(bucket) = self.bucket(view.collection, &view.key) else {
            return;
        };
        let mut bucket = bucket.lock();
        bucket.retain(|record| now_ms < record.expires_ms);
        let same = |record: &Record| record.collection == view.collection && *record.key == *view.key;
        let place = match bucket.iter().position(same) {
            Some(place) => place,
            None => {
                let record = Record {
                    collection: view.collection,
                    key: view.key.clone().into(),
                    variables: Vec::new(),
                    touched_ms: now_ms,
                    expires_ms: 0,
                };
                insert(&mut bucket, record)
            }
        };
        if let Some(record) = bucket.get_mut(place) {
            record.touched_ms = now_ms;
            record.expires_ms = now_ms.saturating_add(timeout_ms);
            record.variables.retain(|variable| now_ms < variable.expires_ms);
            for change in &view.changes {
                apply(&mut record.variables, change);
            }
        }
    }
}

/// Puts a record into a bucket, in the place of the one that was not touched for longest if it is full.
fn insert(bucket: &mut Vec<Record>, record: Record) -> usize {
    if bucket.len() < BUCKET_RECORDS {
        bucket.push(record);
        return bucket.len() - 1;
    }
    let oldest =
        bucket.iter().enumerate().min_by_key(|(_, record)| record.touched_ms).map_or(0, |(at, _)| at);
    if let Some(place) = bucket.get_mut(oldest) {
        *place = record;
    }
    oldest
}

/// Performs one change on a record's variables; names beyond the limit are not kept.
pub(crate) fn apply(variables: &mut Vec<Stored>, change: &Change) {
    let name = match change {
        Change::Set(name, _) | Change::Add(name, _) | Change::Unset(name) | Change::Expire(name, _) => name,
    };
    let place = variables.iter().position(|variable| variable.name == *name);
    match (change, place) {
        (Change::Unset(_), Some(at)) => {
            variables.swap_remove(at);
        }
        (Change::Unset(_) | Change::Expire(..), None) => {}
        (Change::Expire(_, at_ms), Some(at)) => {
            if let Some(variable) = variables.get_mut(at) {
                variable.expires_ms = *at_ms;
            }
        }
        (Change::Set(_, value), place) => {
            let value = value.get(..value.len().min(VALUE_BYTES_MAX)).unwrap_or_default().to_vec();
            store(variables, place, name, value);
        }
        (Change::Add(_, by), place) => {
            let before =
                place.and_then(|at| variables.get(at)).map_or(0, |v| crate::operator::number(&v.value));
            store(variables, place, name, before.saturating_add(*by).to_string().into_bytes());
        }
    }
}

fn store(variables: &mut Vec<Stored>, place: Option<usize>, name: &[u8], value: Vec<u8>) {
    if let Some(variable) = place.and_then(|at| variables.get_mut(at)) {
        variable.value = value;
    } else if variables.len() < VARIABLES_MAX {
        variables.push(Stored { name: name.into(), value, expires_ms: u64::MAX });
    }
}

/// Records of all collections together. At a few hundred bytes each they stay near 20 MiB.
const RECORDS_MAX: usize = 65_536;
const BUCKET_RECORDS: usize = 8;
/// Longest key; keys are addresses, hashes and session ids.
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 256;
const VARIABLES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn count(store: &Collections, key: &str, now_ms: u64) {
        let mut view = store.open(Variable::Ip, key.as_bytes(), now_ms);
        view.changes.push(Change::Add((*b"n").into(), 1));
        store.close(&view, now_ms, 1000);
    }

    #[test]
    fn changes_of_overlapping_transactions_add_up() {
        let store = Collections::default();
        let mut a = store.open(Variable::Ip, b"k", 0);
        let mut b = store.open(Variable::Ip, b"k", 0);
        a.changes.push(Change::Add((*b"n").into(), 2));
        b.changes.push(Change::Add((*b"n").into(), 3));
        store.close(&a, 0, 1000);
        store.close(&b, 0, 1000);
        assert_eq!(store.open(Variable::Ip, b"k", 1).variables[0].value, b"5");
    }

    #[test]
    fn records_end_after_their_timeout_and_variables_at_their_expiry() {
        let store = Collections::default();
        count(&store, "k", 0);
        assert_eq!(store.open(Variable::Ip, b"k", 999).variables.len(), 1);
        assert!(store.open(Variable::Ip, b"k", 1000).variables.is_empty());
        let mut view = store.open(Variable::Ip, b"k", 0);
        view.changes.push(Change::Expire((*b"n").into(), 5));
        store.close(&view, 0, 1000);
        assert!(store.open(Variable::Ip, b"k", 5).variables.is_empty());
    }

    #[test]
    fn distinct_keys_cost_bounded_memory() {
        let store = Collections::with_records(64);
        for n in 0..10_000u64 {
            count(&store, &n.to_string(), n);
        }
        assert!(store.len() <= 64, "{}", store.len());
        count(&store, "last", 10_000);
        assert_eq!(store.open(Variable::Ip, b"last", 10_000).variables.len(), 1);
    }
}
