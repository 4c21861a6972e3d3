//! What changed since the base was built: a small persistent map. A change copies one bucket and the two nodes above it
//! and shares all else with the view before, so that it costs the same with ten changes and with ten thousand.

use std::net::IpAddr;
use std::sync::Arc;

use super::key::{Kinds, Nearby};
use crate::{ActorKey, Decision, Prefix};

/// Keys with all decisions about them, instead of those in the base; none hides what the base has.
#[derive(Debug, Clone, Default)]
pub(super) struct Delta {
    branches: Vec<Arc<Branch>>,
    kinds: Kinds,
    /// Empty until there is a range.
    nearby: Option<Arc<Nearby>>,
    /// Two bits for each hash that may be here (Bloom, 1970): most look-ups end at them. With [`super::CHANGES_MAX`] keys one in seventy
    /// goes on in vain.
    marks: Arc<Marks>,
    len: usize,
}

#[derive(Debug, Clone, Default)]
struct Branch(Vec<Arc<Vec<Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    hash: u64,
    key: ActorKey,
    decisions: Arc<[Arc<Decision>]>,
}

impl Delta {
    /// How many keys have changed.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The kinds of keys that can be about an address, among those that have changed.
    pub(super) fn kinds_near(&self, ip: IpAddr) -> Kinds {
        self.nearby.as_ref().map_or(self.kinds, |nearby| nearby.among(self.kinds, ip))
    }

    /// The kinds of keys that have changed.
    pub(super) fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// The decisions about a key whose hash this is, if they have changed.
    pub(super) fn get(&self, hash: u64, key: &ActorKey) -> Option<&[Arc<Decision>]> {
        if !self.marks.has(hash) {
            return None;
        }
        let (branch, bucket) = places(hash);
        self.branches
            .get(branch)?
            .0
            .get(bucket)?
            .iter()
            .find(|e| e.hash == hash && e.key == *key)
            .map(|e| &*e.decisions)
    }

    /// Sets the decisions about a key.
    pub(super) fn set(&mut self, hash: u64, key: ActorKey, decisions: Arc<[Arc<Decision>]>) {
        self.kinds.note(&key);
        if is_range(&key) {
            let nearby = self.nearby.get_or_insert_with(|| Arc::new(Nearby::with_places(NEARBY_PLACES)));
            Arc::make_mut(nearby).note(&key);
        }
        Arc::make_mut(&mut self.marks).set(hash);
        let (branch, bucket) = places(hash);
        if self.branches.is_empty() {
            self.branches = vec![Arc::default(); FANOUT];
        }
        let Some(branch) = self.branches.get_mut(branch).map(Arc::make_mut) else { return };
        if branch.0.is_empty() {
            branch.0 = vec![Arc::default(); FANOUT];
        }
        let Some(bucket) = branch.0.get_mut(bucket).map(Arc::make_mut) else { return };
        match bucket.iter_mut().find(|entry| entry.hash == hash && entry.key == key) {
            Some(entry) => entry.decisions = decisions,
            None => {
                bucket.push(Entry { hash, key, decisions });
                self.len += 1;
            }
        }
    }

    /// Every key with its decisions, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ActorKey, &Arc<[Arc<Decision>]>)> {
        let buckets = self.branches.iter().flat_map(|branch| &branch.0);
        buckets.flat_map(|bucket| bucket.iter()).map(|entry| (&entry.key, &entry.decisions))
    }

    /// What this has that `before` had not, or otherwise. What the two share is passed over unseen.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut changed = Self::default();
        let none = Arc::new(Branch::default());
        for (place, branch) in self.branches.iter().enumerate() {
            let old = before.branches.get(place).unwrap_or(&none);
            if Arc::ptr_eq(branch, old) {
                continue;
            }
            for (place, bucket) in branch.0.iter().enumerate() {
                let old = old.0.get(place);
                if old.is_some_and(|old| Arc::ptr_eq(bucket, old)) {
                    continue;
                }
                for entry in bucket.iter() {
                    let known =
                        |old: &Entry| old.key == entry.key && Arc::ptr_eq(&old.decisions, &entry.decisions);
                    if !old.is_some_and(|old| old.iter().any(known)) {
                        changed.set(entry.hash, entry.key, Arc::clone(&entry.decisions));
                    }
                }
            }
        }
        changed
    }
}

#[derive(Debug, Clone, Default)]
struct Marks(Vec<u64>);

impl Marks {
    fn has(&self, hash: u64) -> bool {
        Self::places(hash)
            .iter()
            .all(|(word, bit)| self.0.get(*word).is_some_and(|word| word >> bit & 1 == 1))
    }

    fn set(&mut self, hash: u64) {
        self.0.resize(MARKS_WORDS, 0);
        for (word, bit) in Self::places(hash) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= 1 << bit;
            }
        }
    }

    /// Two bits, from different parts of the hash.
    fn places(hash: u64) -> [(usize, u64); 2] {
        let place = |bits: u64| (usize::try_from(bits >> 6).unwrap_or_default() % MARKS_WORDS, bits & 63);
        [place(hash & 0xffff_ffff), place(hash >> 32)]
    }
}

/// Branch and bucket of a hash. The lowest bits choose slots of the base, so these are others.
fn places(hash: u64) -> (usize, usize) {
    let bits = |shift: u32| usize::try_from(hash >> shift & (FANOUT as u64 - 1)).unwrap_or_default();
    (bits(58), bits(52))
}

/// Whether a key is a range that [`Nearby`] is about; single addresses, which change most, leave it alone.
fn is_range(key: &ActorKey) -> bool {
    match key {
        ActorKey::Range(Prefix::V4(range)) => range.prefix_len() < 32,
        ActorKey::Range(Prefix::V6(range)) => range.prefix_len() != 64,
        _ => false,
    }
}

/// 4 KiB, copied with each change of a range.
const NEARBY_PLACES: usize = 512;
/// Branches, and buckets of a branch: 4,096 buckets in all.
const FANOUT: usize = 64;
/// 16 KiB of marks.
const MARKS_WORDS: usize = 2_048;
