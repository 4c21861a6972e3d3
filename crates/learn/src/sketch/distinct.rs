//! How many different ones lately, for numbers that decisions hang on.

use super::wire::{Reader, Writer};

/// Counts the different values of a window that slides: for each of the 64 values with the least hashes it knows the bucket in which
/// it was last seen (the bottom-k sketch of Bar-Yossef and others, "Counting distinct elements in a data stream", 2002, with times).
/// 8 bytes for each.
///
/// Exact while no more than 64 different values are kept; above that its standard error is 13 %, and once values were pushed out
/// a window that became quieter is told too low, never too high. Merging commutes, associates and repeats without effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distinct {
    /// Hash and last bucket, sorted by hash.
    seen: Vec<(u32, u32)>,
}

impl Distinct {
    /// A value with this hash was seen.
    pub fn insert(&mut self, hash: u32, bucket: u32) {
        match self.seen.binary_search_by_key(&hash, |(hash, _)| *hash) {
            Ok(at) => {
                if let Some((_, last)) = self.seen.get_mut(at) {
                    *last = (*last).max(bucket);
                }
            }
            Err(at) if at < KEPT_MAX => {
                self.seen.insert(at, (hash, bucket));
                self.seen.truncate(KEPT_MAX);
            }
            Err(_) => {}
        }
    }

    /// Takes in what another saw.
    pub fn merge(&mut self, other: &Self) {
        other.seen.iter().for_each(|&(hash, bucket)| self.insert(hash, bucket));
    }

    /// How many different values were seen from a bucket on.
    pub fn since(&self, from: u32) -> u64 {
        let within = self.hashes(from).count();
        let exact = u64::try_from(within).unwrap_or(u64::MAX);
        match self.hashes(from).last() {
            Some(greatest) if within >= KEPT_MAX => {
                (exact - 1) * (u64::from(u32::MAX) + 1) / (u64::from(greatest) + 1)
            }
            _ => exact,
        }
    }

    /// Hashes seen from a bucket on, the least first.
    pub fn hashes(&self, from: u32) -> impl Iterator<Item = u32> {
        self.seen.iter().filter(move |(_, bucket)| *bucket >= from).map(|(hash, _)| *hash)
    }

    /// The least hashes seen from a bucket on, no more than `most`.
    pub(crate) fn newest(&self, from: u32, most: usize) -> Self {
        Self { seen: self.seen.iter().filter(|(_, bucket)| *bucket >= from).take(most).copied().collect() }
    }

    /// Whether a hash is among those that are kept.
    pub fn contains(&self, hash: u32) -> bool {
        self.seen.binary_search_by_key(&hash, |(hash, _)| *hash).is_ok()
    }

    /// Forgets what was not seen from a bucket on.
    pub fn forget(&mut self, from: u32) {
        self.seen.retain(|(_, bucket)| *bucket >= from);
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
        let distinct = Self::read(&mut input, KEPT_MAX)?;
        input.end()?;
        Some(distinct)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.length(self.seen.len());
        let mut last = 0;
        for &(hash, bucket) in &self.seen {
            out.number(u64::from(hash - last));
            out.number(u64::from(bucket));
            last = hash;
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>, most: usize) -> Option<Self> {
        let mut seen = Vec::new();
        let mut last = 0_u32;
        for place in 0..input.length(most)? {
            let step = input.number32()?;
            if place > 0 && step == 0 {
                return None;
            }
            last = last.checked_add(step)?;
            seen.push((last, input.number32()?));
        }
        Some(Self { seen })
    }
}

const KIND: u8 = 0x51;
const KEPT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sketch::{low32, mix};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of(events: &[(u64, u32)]) -> Distinct {
        let mut distinct = Distinct::default();
        events.iter().for_each(|&(value, bucket)| distinct.insert(low32(mix(value)), bucket));
        distinct
    }

    #[test]
    fn many_values_are_estimated() {
        for count in [100_u64, 1_000, 50_000] {
            let mean: f64 = (0..20_u64)
                .map(|round| {
                    of(&(0..count).map(|value| (round << 40 | value, 1)).collect::<Vec<_>>()).since(0) as f64
                })
                .sum::<f64>()
                / 20.0;
            assert!((mean / count as f64 - 1.0).abs() < 0.1, "{count}: {mean}");
        }
    }

    proptest! {
        #[test]
        fn few_values_are_counted_exactly(a in events(), b in events(), from in 0..50_u32) {
            let all = [a.clone(), b.clone()].concat();
            let mut last = BTreeMap::new();
            for &(value, bucket) in &all {
                let seen = last.entry(value).or_insert(bucket);
                *seen = bucket.max(*seen);
            }
            let whole = of(&all);
            prop_assert_eq!(whole.since(from), last.values().filter(|bucket| **bucket >= from).count() as u64);
            let (mut one, mut other) = (of(&a), of(&b));
            one.merge(&of(&b));
            one.merge(&of(&b));
            other.merge(&of(&a));
            prop_assert_eq!(&one, &whole);
            prop_assert_eq!(&other, &whole);
            prop_assert_eq!(Distinct::from_bytes(&whole.to_bytes()), Some(whole));
        }

        #[test]
        fn any_bytes_are_a_sketch_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = KIND; }
            if let Some(distinct) = Distinct::from_bytes(&bytes) {
                prop_assert_eq!(distinct.to_bytes(), bytes);
            }
        }
    }

    fn events() -> impl Strategy<Value = Vec<(u64, u32)>> {
        prop::collection::vec((0..60_u64, 0..50_u32), 0..150)
    }
}
