//! Persistent collections (`IP`, `GLOBAL`, `SESSION`, `USER`, `RESOURCE`): a bounded table that forgets the oldest.
//!
//! Records live in buckets by hash, a few per bucket; a new one in a full bucket replaces the one that was not
//! touched for longest, and so does one that grows beyond the bucket's bytes. INVARIANT: there are never more records,
//! and never more bytes in them, than the limits say, whatever keys clients make up. A transaction works on copies and adds its changes at its end, so that counters of requests
//! that run at the same time add up.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use phalanx_model::limits::{COLLECTION_BYTES_MAX, COLLECTION_RECORDS_MAX};
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
    /// Up to when `deprecatevar` has taken away.
    decayed_ms: u64,
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
    /// `deprecatevar`: the amount for each period that is over, down to 0.
    Decay {
        name: Box<[u8]>,
        amount: i64,
        period_ms: u64,
    },
}

impl Default for Collections {
    fn default() -> Self {
        Self::with_records(COLLECTION_RECORDS_MAX)
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

    /// How many bytes their keys, names and values take, with what each costs beside that.
    pub fn bytes(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().iter().map(Record::bytes).sum::<usize>()).sum()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.lock().clear());
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
        let place = match bucket.iter().position(&same) {
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
                apply(&mut record.variables, change, now_ms);
            }
        }
        evict(&mut bucket, same);
    }
}

impl Record {
    fn bytes(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.key.len() + variables_bytes(&self.variables)
    }
}

fn variables_bytes(variables: &[Stored]) -> usize {
    variables
        .iter()
        .map(|variable| VARIABLE_OVERHEAD_BYTES + variable.name.len() + variable.value.len())
        .sum()
}

/// Takes records out, the one not touched for longest first, until the bucket's bytes fit; `keep` stays to the last.
fn evict(bucket: &mut Vec<Record>, keep: impl Fn(&Record) -> bool) {
    while bucket.len() > 1 && bucket.iter().map(Record::bytes).sum::<usize>() > BUCKET_BYTES_MAX {
        let others = bucket.iter().enumerate().filter(|(_, record)| !keep(record));
        match others.min_by_key(|(_, record)| record.touched_ms).map(|(at, _)| at) {
            Some(oldest) => bucket.swap_remove(oldest),
            None => return,
        };
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

/// Performs one change on a record's variables; what goes beyond the record's limits is not kept.
pub(crate) fn apply(variables: &mut Vec<Stored>, change: &Change, now_ms: u64) {
    let name = match change {
        Change::Set(name, _)
        | Change::Add(name, _)
        | Change::Unset(name)
        | Change::Expire(name, _)
        | Change::Decay { name, .. } => name,
    };
    let place = variables.iter().position(|variable| variable.name == *name);
    match (change, place) {
        (Change::Unset(_), Some(at)) => {
            variables.swap_remove(at);
        }
        (Change::Unset(_) | Change::Expire(..) | Change::Decay { .. }, None) => {}
        (Change::Decay { amount, period_ms, .. }, Some(at)) => {
            if let Some(variable) = variables.get_mut(at) {
                decay(variable, *amount, *period_ms, now_ms);
            }
        }
        (Change::Expire(_, at_ms), Some(at)) => {
            if let Some(variable) = variables.get_mut(at) {
                variable.expires_ms = *at_ms;
            }
        }
        (Change::Set(_, value), place) => {
            let value = value.get(..value.len().min(VALUE_BYTES_MAX)).unwrap_or_default().to_vec();
            store(variables, place, name, value, now_ms);
        }
        (Change::Add(_, by), place) => {
            let before =
                place.and_then(|at| variables.get(at)).map_or(0, |v| crate::operator::number(&v.value));
            let sum = before.saturating_add(*by).to_string().into_bytes();
            store(variables, place, name, sum, now_ms);
        }
    }
}

/// Takes the amount away for each whole period since the last time.
fn decay(variable: &mut Stored, amount: i64, period_ms: u64, now_ms: u64) {
    let periods = now_ms.saturating_sub(variable.decayed_ms) / period_ms.max(1);
    if periods == 0 {
        return;
    }
    variable.decayed_ms = variable.decayed_ms.saturating_add(periods.saturating_mul(period_ms));
    let lost = amount.saturating_mul(i64::try_from(periods).unwrap_or(i64::MAX));
    let left = crate::operator::number(&variable.value).saturating_sub(lost).max(0);
    variable.value = left.to_string().into_bytes();
}

fn store(variables: &mut Vec<Stored>, place: Option<usize>, name: &[u8], value: Vec<u8>, now_ms: u64) {
    let used = variables_bytes(variables);
    if let Some(variable) = place.and_then(|at| variables.get_mut(at)) {
        if used - variable.value.len() + value.len() <= VARIABLES_BYTES_MAX {
            variable.value = value;
        }
        return;
    }
    let more = VARIABLE_OVERHEAD_BYTES + name.len() + value.len();
    if variables.len() < VARIABLES_MAX && name.len() <= NAME_BYTES_MAX && used + more <= VARIABLES_BYTES_MAX {
        variables.push(Stored { name: name.into(), value, expires_ms: u64::MAX, decayed_ms: now_ms });
    }
}

const BUCKET_RECORDS: usize = 8;
/// Bytes of the records of one bucket: room for two of the largest.
const BUCKET_BYTES_MAX: usize = COLLECTION_BYTES_MAX / (COLLECTION_RECORDS_MAX / BUCKET_RECORDS);
/// Longest key; keys are addresses, hashes and session ids.
const KEY_BYTES_MAX: usize = 256;
/// Longest name of a variable; names made from what clients send could be longer.
const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 256;
const VARIABLES_MAX: usize = 32;
/// Bytes of the variables of one record.
const VARIABLES_BYTES_MAX: usize = BUCKET_BYTES_MAX / 2 - KEY_BYTES_MAX - RECORD_OVERHEAD_BYTES;
/// What a record and a variable cost beside their bytes: the structure, and two or three allocations' own bytes.
const RECORD_OVERHEAD_BYTES: usize = 128;
const VARIABLE_OVERHEAD_BYTES: usize = 96;

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
    fn what_decays_loses_whole_periods_and_never_more_than_it_has() {
        let store = Collections::default();
        let change = |change: Change, now_ms: u64| {
            let mut view = store.open(Variable::Ip, b"k", now_ms);
            view.changes.push(change);
            store.close(&view, now_ms, 100_000);
        };
        let decay = || Change::Decay { name: (*b"n").into(), amount: 3, period_ms: 10 };
        let value = |now_ms: u64| store.open(Variable::Ip, b"k", now_ms).variables[0].value.clone();
        change(Change::Add((*b"n").into(), 10), 0);
        for (now_ms, expected) in [(9, "10"), (10, "7"), (19, "7"), (35, "1"), (1000, "0")] {
            change(decay(), now_ms);
            assert_eq!(value(now_ms), expected.as_bytes(), "{now_ms}");
        }
        change(Change::Add((*b"n").into(), 5), 1001);
        change(decay(), 1009);
        assert_eq!(value(1009), b"5");
    }

    #[test]
    fn a_record_keeps_what_fits_and_a_bucket_lets_the_oldest_go() {
        let store = Collections::with_records(8);
        for n in 0..100u32 {
            let mut view = store.open(Variable::Ip, &n.to_le_bytes(), u64::from(n));
            view.changes.extend((0..100u8).map(|name| Change::Set(vec![name; 100].into(), vec![b'v'; 5000])));
            view.changes.push(Change::Set(vec![b'x'; NAME_BYTES_MAX + 1].into(), Vec::new()));
            store.close(&view, u64::from(n), 1_000_000);
            let kept = store.open(Variable::Ip, &n.to_le_bytes(), u64::from(n)).variables;
            assert!(!kept.is_empty() && variables_bytes(&kept) <= VARIABLES_BYTES_MAX);
            assert!(store.bytes() <= BUCKET_BYTES_MAX && store.len() <= 8, "{}", store.bytes());
        }
        assert_eq!(store.len(), 2);
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
