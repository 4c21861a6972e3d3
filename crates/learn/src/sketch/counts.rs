//! How many, and when.

use super::wire::{Reader, Writer};

/// Counts of one node in buckets of equal width: the newest 64 buckets that are not empty, 8 bytes each. With 10 s a bucket they reach
/// back ten minutes, with 30 minutes more than a day.
///
/// A bucket only grows, and only where it is counted. Two states of one node's counts merge by the greater of each bucket: that
/// commutes, associates and repeats without effect, so a message that is lost, late or doubled does no harm. Different nodes' counts
/// are added when they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of the bucket since the epoch, and its count, sorted.
    buckets: Vec<(u32, u32)>,
}

impl Counts {
    /// Counts `more` in a bucket.
    pub fn add(&mut self, bucket: u32, more: u32) {
        self.change(bucket, |count| count.saturating_add(more));
    }

    /// A bucket reached at least `count`.
    pub fn reach(&mut self, bucket: u32, count: u32) {
        self.change(bucket, |own| own.max(count));
    }

    fn change(&mut self, bucket: u32, change: impl FnOnce(u32) -> u32) {
        // Nearly always it is the newest.
        if let Some((last, count)) = self.buckets.last_mut()
            && *last == bucket
        {
            *count = change(*count);
            return;
        }
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, count)) = self.buckets.get_mut(at) {
                    *count = change(*count);
                }
            }
            Err(at) => {
                let count = change(0);
                let full = self.buckets.len() >= BUCKETS_MAX;
                if count == 0 || (full && at == 0) {
                    return;
                }
                self.buckets.insert(at, (bucket, count));
                if full {
                    self.buckets.remove(0);
                }
            }
        }
    }

    /// Takes in another state of the same node's counts.
    pub fn merge(&mut self, other: &Self) {
        other.buckets.iter().for_each(|&(bucket, count)| self.reach(bucket, count));
    }

    /// How many in the buckets `from..=to`.
    pub fn within(&self, from: u32, to: u32) -> u64 {
        let newest_first = self.buckets.iter().rev().skip_while(|(bucket, _)| *bucket > to);
        newest_first.take_while(|(bucket, _)| *bucket >= from).map(|(_, count)| u64::from(*count)).sum()
    }

    /// The buckets from `from` on that are not empty.
    pub fn since(&self, from: u32) -> impl Iterator<Item = (u32, u32)> {
        self.buckets.iter().copied().filter(move |(bucket, _)| *bucket >= from)
    }

    /// Forgets what lies before `from`.
    pub fn forget(&mut self, from: u32) {
        self.buckets.retain(|(bucket, _)| *bucket >= from);
    }

    /// The compact form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(KIND);
        self.write(&mut out);
        out.finish()
    }

    /// Reads the compact form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(KIND, bytes)?;
        let counts = Self::read(&mut input)?;
        input.end()?;
        Some(counts)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.length(self.buckets.len());
        let mut last = 0;
        for &(bucket, count) in &self.buckets {
            out.number(u64::from(bucket - last));
            out.number(u64::from(count));
            last = bucket;
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Option<Self> {
        let mut buckets = Vec::new();
        let mut last = 0_u32;
        for place in 0..input.length(BUCKETS_MAX)? {
            let step = input.number32()?;
            if place > 0 && step == 0 {
                return None;
            }
            last = last.checked_add(step)?;
            buckets.push((last, input.number32().filter(|count| *count > 0)?));
        }
        Some(Self { buckets })
    }
}

const KIND: u8 = 0x41;
const BUCKETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(events: &[u32]) -> Counts {
        let mut counts = Counts::default();
        events.iter().for_each(|&bucket| counts.add(bucket, 1));
        counts
    }

    #[test]
    fn the_oldest_bucket_makes_room() {
        let counts = of(&(0..70).collect::<Vec<_>>());
        assert_eq!((counts.within(0, 5), counts.within(6, 100)), (0, 64));
        let mut late = counts.clone();
        late.add(2, 1);
        assert_eq!(late, counts);
    }

    proptest! {
        #[test]
        fn states_of_one_node_merge_to_the_latest(events in prop::collection::vec(0..60_u32, 0..200), cut in 0..200_usize, from in 0..60_u32) {
            let early = of(&events[..cut.min(events.len())]);
            let late = of(&events);
            let (mut one, mut other) = (early.clone(), late.clone());
            one.merge(&late);
            one.merge(&late);
            other.merge(&early);
            prop_assert_eq!(&one, &late);
            prop_assert_eq!(&other, &late);
            prop_assert_eq!(late.within(from, 60), events.iter().filter(|bucket| **bucket >= from).count() as u64);
            prop_assert_eq!(Counts::from_bytes(&late.to_bytes()), Some(late));
        }

        #[test]
        fn any_bytes_are_counts_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = KIND; }
            if let Some(counts) = Counts::from_bytes(&bytes) {
                prop_assert_eq!(counts.to_bytes(), bytes);
            }
        }
    }
}
