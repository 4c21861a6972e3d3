//! Which most.

use super::wire::{Reader, Writer};

/// The values that came most often (Metwally, Agrawal and El Abbadi, "SpaceSaving", 2005), merged after Agarwal and others
/// ("Mergeable summaries", 2012): up to 64 of them, 24 bytes each.
///
/// Of `n` values, a value told lies within its `error` of the truth, and whatever came more than `n / capacity` times is among them.
/// Merging commutes exactly; it associates in these promises, not to the byte. It adds: merging twice counts twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    capacity: u8,
    /// Sorted by key.
    heavy: Vec<Heavy>,
}

/// One of those that came most often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heavy {
    /// Which.
    pub key: u64,
    /// It came no more often than this,
    pub count: u64,
    /// and at most so much less often.
    pub error: u64,
}

impl Top {
    /// Keeps the `capacity` most frequent ones, 1 to 64.
    pub fn new(capacity: u8) -> Self {
        Self { capacity: capacity.clamp(1, CAPACITY_MAX), heavy: Vec::new() }
    }

    /// Counts a value.
    pub fn insert(&mut self, key: u64) {
        match self.heavy.binary_search_by_key(&key, |heavy| heavy.key) {
            Ok(at) => {
                if let Some(heavy) = self.heavy.get_mut(at) {
                    heavy.count = heavy.count.saturating_add(1);
                }
            }
            Err(at) if !self.is_full() => self.heavy.insert(at, Heavy { key, count: 1, error: 0 }),
            Err(_) => {
                let least = self.heavy.iter().enumerate().min_by_key(|(_, heavy)| (heavy.count, heavy.key));
                let Some((place, count)) = least.map(|(place, heavy)| (place, heavy.count)) else { return };
                self.heavy.remove(place);
                let at = self.heavy.partition_point(|heavy| heavy.key < key);
                self.heavy.insert(at, Heavy { key, count: count.saturating_add(1), error: count });
            }
        }
    }

    /// Takes in what another counted.
    pub fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (self.unseen(), other.unseen());
        let mut all: Vec<Heavy> = self
            .heavy
            .iter()
            .map(|heavy| heavy.plus(other.find(heavy.key).unwrap_or(Heavy::unseen(theirs))))
            .collect();
        let new = other.heavy.iter().filter(|heavy| self.find(heavy.key).is_none());
        all.extend(new.map(|heavy| heavy.plus(Heavy::unseen(mine))));
        all.sort_unstable_by_key(|heavy| (std::cmp::Reverse(heavy.count), heavy.key));
        self.capacity = self.capacity.min(other.capacity);
        all.truncate(usize::from(self.capacity));
        all.sort_unstable_by_key(|heavy| heavy.key);
        self.heavy = all;
    }

    /// The most frequent ones, the most frequent first.
    pub fn heaviest(&self) -> Vec<Heavy> {
        let mut all = self.heavy.clone();
        all.sort_unstable_by_key(|heavy| (std::cmp::Reverse(heavy.count), heavy.key));
        all
    }

    /// The compact form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(KIND);
        out.byte(self.capacity);
        out.length(self.heavy.len());
        let mut last = 0;
        for heavy in &self.heavy {
            out.number(heavy.key.wrapping_sub(last));
            out.number(heavy.count);
            out.number(heavy.error);
            last = heavy.key;
        }
        out.finish()
    }

    /// Reads the compact form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(KIND, bytes)?;
        let capacity = input.byte().filter(|capacity| (1..=CAPACITY_MAX).contains(capacity))?;
        let mut heavy = Vec::new();
        let mut last = 0_u64;
        for place in 0..input.length(usize::from(capacity))? {
            let step = input.number()?;
            if place > 0 && step == 0 {
                return None;
            }
            last = last.checked_add(step)?;
            let count = input.number().filter(|count| *count > 0)?;
            let error = input.number().filter(|error| *error <= count)?;
            heavy.push(Heavy { key: last, count, error });
        }
        input.end()?;
        Some(Self { capacity, heavy })
    }

    fn find(&self, key: u64) -> Option<Heavy> {
        let at = self.heavy.binary_search_by_key(&key, |heavy| heavy.key).ok()?;
        self.heavy.get(at).copied()
    }

    /// How often one that is not kept may have come.
    fn unseen(&self) -> u64 {
        let least = self.heavy.iter().map(|heavy| heavy.count).min();
        least.filter(|_| self.is_full()).unwrap_or(0)
    }

    fn is_full(&self) -> bool {
        self.heavy.len() >= usize::from(self.capacity)
    }
}

impl Heavy {
    fn unseen(count: u64) -> Self {
        Self { key: 0, count, error: count }
    }

    fn plus(self, other: Self) -> Self {
        let count = self.count.saturating_add(other.count);
        Self { key: self.key, count, error: self.error.saturating_add(other.error) }
    }
}

const KIND: u8 = 0x31;
const CAPACITY_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Top {
        let mut all = Top::new(8);
        values.iter().for_each(|&value| all.insert(value));
        all
    }

    fn keeps_its_promises(top: &Top, values: &[u64]) -> Result<(), TestCaseError> {
        for value in 0..40 {
            let exact = values.iter().filter(|other| **other == value).count() as u64;
            match top.find(value) {
                Some(heavy) => prop_assert!(heavy.count - heavy.error <= exact && exact <= heavy.count),
                None => prop_assert!(exact <= values.len() as u64 / 8),
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn frequent_values_are_told(a in values(), b in values(), c in values()) {
            keeps_its_promises(&of(&a), &a)?;
            let (mut left, mut right) = (of(&a), of(&b));
            left.merge(&of(&b));
            right.merge(&of(&a));
            prop_assert_eq!(&left, &right);
            let mut last = of(&c);
            last.merge(&left);
            left.merge(&of(&c));
            prop_assert_eq!(&left, &last);
            keeps_its_promises(&left, &[a, b, c].concat())?;
            prop_assert_eq!(Top::from_bytes(&left.to_bytes()), Some(left));
        }

        #[test]
        fn any_bytes_are_a_sketch_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = KIND; }
            if let Some(sketch) = Top::from_bytes(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }
    }

    /// Small values are frequent.
    fn values() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((0..40_u64, 0..40_u64).prop_map(|(a, b)| a.min(b) * a / 40), 0..300)
    }
}
