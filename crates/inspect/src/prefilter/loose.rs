//! Patterns of which only length and bytes are known, all tested at once: many need the same bytes, so that each set of
//! bytes is looked at once for 64 of them.

use crate::transaction::values::disjoint;

/// A pattern with the length and bytes that it needs.
#[derive(Debug, Clone)]
pub(super) struct Loose {
    pub(super) pattern: u32,
    pub(super) length_min: usize,
    /// From each set a byte must occur.
    pub(super) byte_sets: Vec<[u64; 4]>,
}

impl Loose {
    #[inline]
    pub(super) fn allows(&self, length: usize, presence: &[u64; 4]) -> bool {
        length >= self.length_min && self.byte_sets.iter().all(|needed| !disjoint(needed, presence))
    }
}

/// Such patterns.
#[derive(Debug, Default)]
pub(super) struct LooseSet {
    /// The pattern of each bit.
    patterns: Vec<u32>,
    blocks: Vec<Block>,
}

/// 64 of them.
#[derive(Debug)]
struct Block {
    /// Each set of bytes that a pattern has, and the patterns that have it.
    sets: Vec<([u64; 4], u64)>,
    /// For each length: the patterns that are content with it.
    by_length: [u64; LENGTHS],
}

impl LooseSet {
    pub(super) fn new(mut loose: Vec<Loose>) -> Self {
        // Patterns with the same needs side by side: a block then has few different sets.
        loose.sort_by(|a, b| a.byte_sets.cmp(&b.byte_sets));
        let blocks = loose.chunks(64).map(Block::new).collect();
        Self { patterns: loose.iter().map(|one| one.pattern).collect(), blocks }
    }

    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Calls `found` with every pattern that can match a value of this length, with these bytes.
    #[inline]
    pub(super) fn scan(&self, length: usize, presence: &[u64; 4], mut found: impl FnMut(u32)) {
        for (block, patterns) in self.blocks.iter().zip(self.patterns.chunks(64)) {
            let mut left = block.allowed(length, presence);
            while left != 0 {
                if let Some(&pattern) = patterns.get(left.trailing_zeros() as usize) {
                    found(pattern);
                }
                left &= left - 1;
            }
        }
    }
}

impl Block {
    fn new(loose: &[Loose]) -> Self {
        let mut block = Self { sets: Vec::new(), by_length: [0; LENGTHS] };
        for (bit, one) in loose.iter().enumerate() {
            let bit = 1 << bit;
            for &set in &one.byte_sets {
                match block.sets.iter_mut().find(|(known, _)| *known == set) {
                    Some((_, users)) => *users |= bit,
                    None => block.sets.push((set, bit)),
                }
            }
            for (length, allowed) in block.by_length.iter_mut().enumerate() {
                // The last stands for all greater lengths.
                if length >= one.length_min || length == LENGTHS - 1 {
                    *allowed |= bit;
                }
            }
        }
        block
    }

    #[inline]
    fn allowed(&self, length: usize, presence: &[u64; 4]) -> u64 {
        let unmet = |(set, users): &([u64; 4], u64)| if disjoint(set, presence) { *users } else { 0 };
        let failed = self.sets.iter().fold(0, |failed, set| failed | unmet(set));
        self.by_length.get(length.min(LENGTHS - 1)).copied().unwrap_or_default() & !failed
    }
}

/// Lengths from 0 that are told apart.
const LENGTHS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::values::presence_of;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_at_once_is_the_same_as_one_by_one(
            needs in proptest::collection::vec((0usize..15, proptest::collection::vec("[a-z0-9<]{1,4}", 0..4)), 1..90),
            value in "[a-z0-9<]{0,20}",
        ) {
            let loose: Vec<Loose> = (0u32..).zip(needs).map(|(pattern, (length_min, sets))| Loose {
                pattern,
                length_min,
                byte_sets: sets.iter().map(|set| presence_of(set.as_bytes())).collect(),
            }).collect();
            let presence = presence_of(value.as_bytes());
            let mut expected: Vec<u32> =
                loose.iter().filter(|one| one.allows(value.len(), &presence)).map(|one| one.pattern).collect();
            let mut found = Vec::new();
            LooseSet::new(loose).scan(value.len(), &presence, |pattern| found.push(pattern));
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
