//! A bounded table of actors, or of other keys: buckets of a few entries behind striped locks, found by a keyed hash. A full bucket
//! gives up its stalest entry, first of those that only remember, so that the table never grows and no stranger can aim at another's entry.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;

use foldhash::quality::RandomState;
use parking_lot::Mutex;

/// An entry that knows how fresh it is.
pub(crate) trait Entry: Default {
    /// When it was last of use, in Unix milliseconds.
    fn touched_ms(&self) -> u64;

    /// Whether nothing is under way about the actor, and the entry only remembers. Such entries give way first.
    fn only_remembers(&self) -> bool {
        false
    }
}

/// What an entry is found by.
pub(crate) trait Key: Copy + Eq + Hash {
    /// The network that it is one of many addresses of, all of which one customer has.
    fn network(self) -> Option<u128> {
        None
    }
}

impl Key for IpAddr {
    fn network(self) -> Option<u128> {
        match self {
            Self::V4(_) => None,
            Self::V6(ip) => Some(ip.to_bits() >> 80),
        }
    }
}

impl Key for u128 {}
impl Key for (u128, IpAddr) {}

/// At most [`WAYS`] actors whose hashes agree.
type Bucket<K, E> = Mutex<Vec<(K, E)>>;

/// The table. Memory grows with use up to the capacity and no further.
#[derive(Debug)]
pub(crate) struct ActorTable<E, K = IpAddr> {
    buckets: Box<[Bucket<K, E>]>,
    hasher: RandomState,
    bounds_networks: bool,
}

impl<E: Entry, K: Key> ActorTable<E, K> {
    /// A table for at most about `capacity` actors, rounded up to a power of two.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let buckets = (capacity / WAYS).next_power_of_two().max(1);
        let buckets = (0..buckets).map(|_| Mutex::default()).collect();
        Self { buckets, hasher: RandomState::default(), bounds_networks: false }
    }

    /// A table in which the actors of one IPv6 /48, which is what one customer gets, share [`BUCKETS_PER_NETWORK`] buckets: whoever has 65,536
    /// actors for the price of one can neither fill the table nor push others out of it.
    pub(crate) fn bounding_networks(capacity: usize) -> Self {
        Self { bounds_networks: true, ..Self::with_capacity(capacity) }
    }

    /// Runs `change` on the actor's entry, a new one if there is none.
    pub(crate) fn update<R>(&self, actor: K, change: impl FnOnce(&mut E) -> R) -> Option<R> {
        let mut bucket = self.bucket(actor)?.lock();
        if let Some((_, entry)) = bucket.iter_mut().find(|(key, _)| *key == actor) {
            return Some(change(entry));
        }
        if bucket.len() >= WAYS {
            let stalest = bucket
                .iter()
                .enumerate()
                .min_by_key(|(_, (_, entry))| (!entry.only_remembers(), entry.touched_ms()));
            if let Some((index, _)) = stalest {
                bucket.swap_remove(index);
            }
        }
        // Once for each bucket: after that no newcomer waits for memory.
        let room = WAYS - bucket.len();
        bucket.reserve_exact(room);
        bucket.push((actor, E::default()));
        bucket.last_mut().map(|(_, entry)| change(entry))
    }

    /// Reads the actor's entry, if there is one.
    pub(crate) fn read<R>(&self, actor: K, look: impl FnOnce(&E) -> R) -> Option<R> {
        let bucket = self.bucket(actor)?.lock();
        bucket.iter().find(|(key, _)| *key == actor).map(|(_, entry)| look(entry))
    }

    /// Forgets the actor.
    pub(crate) fn remove(&self, actor: K) {
        if let Some(bucket) = self.bucket(actor) {
            bucket.lock().retain(|(key, _)| *key != actor);
        }
    }

    /// How many actors are in the table.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().len()).sum()
    }

    /// Looks at every entry, a bucket at a time.
    pub(crate) fn for_each(&self, mut look: impl FnMut(K, &E)) {
        for bucket in &self.buckets {
            bucket.lock().iter().for_each(|(actor, entry)| look(*actor, entry));
        }
    }

    fn bucket(&self, actor: K) -> Option<&Bucket<K, E>> {
        let mask = self.buckets.len() - 1;
        let hash = usize::try_from(self.hash(actor) >> 32).unwrap_or_default();
        self.buckets.get(hash & mask)
    }

    fn hash(&self, actor: K) -> u64 {
        match actor.network().filter(|_| self.bounds_networks) {
            Some(network) => {
                let place = (self.hasher.hash_one(actor) >> 32) % BUCKETS_PER_NETWORK;
                self.hasher.hash_one(network).wrapping_add(place << 32)
            }
            None => self.hasher.hash_one(actor),
        }
    }
}

/// With [`WAYS`] entries in each, 32 actors of one network.
const BUCKETS_PER_NETWORK: u64 = 4;
/// Entries per bucket.
const WAYS: usize = 8;
