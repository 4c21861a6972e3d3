//! A bounded table of actors: buckets of a few entries behind striped locks, found by a keyed hash. A full bucket
//! gives up its stalest entry, so that the table never grows and no stranger can aim at another's entry.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::RandomState;
use parking_lot::Mutex;

/// An entry that knows how fresh it is.
pub(crate) trait Entry: Default {
    /// When it was last of use, in Unix milliseconds.
    fn touched_ms(&self) -> u64;
}

/// At most [`WAYS`] actors whose hashes agree.
type Bucket<E> = Mutex<Vec<(IpAddr, E)>>;

/// The table. Memory grows with use up to the capacity and no further.
#[derive(Debug)]
pub(crate) struct ActorTable<E> {
    buckets: Box<[Bucket<E>]>,
    hasher: RandomState,
}

impl<E: Entry> ActorTable<E> {
    /// A table for at most about `capacity` actors, rounded up to a power of two.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let buckets = (capacity / WAYS).next_power_of_two().max(1);
        Self { buckets: (0..buckets).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }

    /// Runs `change` on the actor's entry, a new one if there is none.
    pub(crate) fn update<R>(&self, actor: IpAddr, change: impl FnOnce(&mut E) -> R) -> Option<R> {
        let mut bucket = self.bucket(actor)?.lock();
        if let Some((_, entry)) = bucket.iter_mut().find(|(key, _)| *key == actor) {
            return Some(change(entry));
        }
        if bucket.len() >= WAYS {
            let stalest = bucket.iter().enumerate().min_by_key(|(_, (_, entry))| entry.touched_ms());
            if let Some((index, _)) = stalest {
                bucket.swap_remove(index);
            }
        }
        bucket.push((actor, E::default()));
        bucket.last_mut().map(|(_, entry)| change(entry))
    }

    /// Reads the actor's entry, if there is one.
    pub(crate) fn read<R>(&self, actor: IpAddr, look: impl FnOnce(&E) -> R) -> Option<R> {
        let bucket = self.bucket(actor)?.lock();
        bucket.iter().find(|(key, _)| *key == actor).map(|(_, entry)| look(entry))
    }

    /// Forgets the actor.
    pub(crate) fn remove(&self, actor: IpAddr) {
        if let Some(bucket) = self.bucket(actor) {
            bucket.lock().retain(|(key, _)| *key != actor);
        }
    }

    /// How many actors are in the table.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().len()).sum()
    }

    fn bucket(&self, actor: IpAddr) -> Option<&Bucket<E>> {
        let mask = self.buckets.len() - 1;
        let hash = usize::try_from(self.hasher.hash_one(actor) >> 32).unwrap_or_default();
        self.buckets.get(hash & mask)
    }
}

/// Entries per bucket.
const WAYS: usize = 8;
