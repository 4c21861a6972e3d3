//! Which patterns can match a value at all, found in one pass over it.
//!
//! Every pattern contributes what it needs of values of each kind: literals of which one must occur, a least length,
//! bytes of which one must occur. INVARIANT: a pattern that is not a candidate does not match.

mod grams;
mod loose;

use crate::pattern::{ABSENT, KINDS, Requirement, Requirements};
use crate::program::PatternId;
use crate::transaction::values::{disjoint, presence_of};
use grams::Grams;
use loose::{Loose, LooseSet};

/// The compiled filter.
#[derive(Debug)]
pub(crate) struct Prefilter {
    words: usize,
    enabled: bool,
    kinds: [Kind; KINDS],
}

/// The filter of one kind of values.
#[derive(Debug)]
struct Kind {
    /// Bytes that do not occur in such values.
    absent: [u64; 4],
    literals: Grams,
    /// For each literal, which patterns want it: a range of `wanted`.
    hits: Vec<(u32, u32)>,
    wanted: Vec<u32>,
    /// Length and bytes that each pattern needs, by its id.
    also: Vec<Loose>,
    /// Patterns without literals.
    loose: LooseSet,
}

impl Prefilter {
    /// Builds the filter over all patterns, in the order of their ids.
    pub(crate) fn build(needs: &[Requirements], enabled: bool) -> Self {
        let mut number = 0..;
        let kinds = ABSENT.map(|absent| {
            let kind = number.next().unwrap_or(0);
            let needs = needs.iter().map(|kinds| kinds.get(kind));
            Kind::build(absent, if enabled { needs.collect() } else { Vec::new() })
        });
        Self { words: needs.len().div_ceil(64).max(1), enabled, kinds }
    }

    /// How many words a set of candidates takes.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Distinct literals of the kind that has the most.
    pub(crate) fn literals_len(&self) -> usize {
        self.kinds.iter().map(|kind| kind.hits.len()).max().unwrap_or(0)
    }

    /// Patterns that no literal guards, whatever the kind of value.
    pub(crate) fn loose_len(&self) -> usize {
        self.kinds.first().map_or(0, |kind| kind.loose.len())
    }

    /// Bytes the literals take.
    pub(crate) fn memory(&self) -> usize {
        self.kinds.iter().map(|kind| kind.literals.memory()).sum()
    }

    /// Sets the bit of every pattern that can match a value; `row` is all zero before. `lower` is the value in lower
    /// case, `presence` the bytes in it: case makes no difference here, so values that differ in nothing else have the
    /// same candidates.
    pub(crate) fn scan(&self, lower: &[u8], presence: &[u64; 4], row: &mut [u64]) {
        if !self.enabled {
            row.fill(u64::MAX);
            return;
        }
        let presence = folded(presence);
        if let Some(kind) = self.kind(&presence) {
            kind.scan(lower, &presence, row);
        }
    }

    /// Sets the bit of each of these patterns that [`Self::allows`] a value.
    pub(crate) fn glance(&self, length: usize, presence: &[u64; 4], patterns: &[PatternId], row: &mut [u64]) {
        for &pattern in patterns.iter().filter(|pattern| self.allows(length, presence, **pattern)) {
            set(row, pattern.0);
        }
    }

    /// Whether a pattern can match a value of this length and with these bytes.
    #[inline]
    pub(crate) fn allows(&self, length: usize, presence: &[u64; 4], pattern: PatternId) -> bool {
        let presence = folded(presence);
        let also = self.kind(&presence).and_then(|kind| kind.also.get(pattern.0 as usize));
        !self.enabled || also.is_some_and(|also| also.allows(length, &presence))
    }

    fn kind(&self, folded: &[u64; 4]) -> Option<&Kind> {
        self.kinds.iter().rfind(|kind| disjoint(&kind.absent, folded))
    }
}

impl Kind {
    fn build(absent: &[u8], needs: Vec<Option<&Requirement>>) -> Self {
        let mut literals: Vec<(&[u8], u32)> = Vec::new();
        let mut loose = Vec::new();
        let mut of_patterns = Vec::new();
        for (pattern, need) in (0u32..).zip(needs) {
            let Some(need) = need.filter(|need| !need.impossible) else {
                of_patterns.push(None);
                continue;
            };
            let mut byte_sets: Vec<_> = need.byte_sets.iter().map(folded).collect();
            let wanted = usable(need);
            match wanted {
                Some(wanted) => literals.extend(wanted.iter().map(|text| (text.as_slice(), pattern))),
                None => byte_sets.extend(need.any_of.as_deref().map(starting_bytes)),
            }
            let needed = Loose { pattern, length_min: need.min_len, byte_sets };
            if wanted.is_none() {
                loose.push(needed.clone());
            }
            of_patterns.push(Some(needed));
        }
        literals.sort_unstable();
        literals.dedup();
        let (mut unique, mut hits, mut wanted) = (Vec::new(), Vec::<(u32, u32)>::new(), Vec::new());
        for (literal, pattern) in literals {
            let next = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
            if unique.last() != Some(&literal) {
                unique.push(literal);
                hits.push((next, next));
            }
            wanted.push(pattern);
            if let Some(last) = hits.last_mut() {
                last.1 = next + 1;
            }
        }
        let none = || Loose { pattern: u32::MAX, length_min: usize::MAX, byte_sets: Vec::new() };
        let also = of_patterns.into_iter().map(|one| one.unwrap_or_else(none)).collect();
        Self {
            absent: presence_of(absent),
            literals: Grams::new(unique.into_iter()),
            hits,
            wanted,
            also,
            loose: LooseSet::new(loose),
        }
    }

    fn scan(&self, lower: &[u8], presence: &[u64; 4], row: &mut [u64]) {
        self.loose.scan(lower.len(), presence, |pattern| set(row, pattern));
        self.literals.scan(lower, |literal| {
            let (start, end) = self.hits.get(literal as usize).copied().unwrap_or_default();
            for &pattern in self.wanted.get(start as usize..end as usize).unwrap_or_default() {
                if self.also.get(pattern as usize).is_some_and(|also| also.allows(lower.len(), presence)) {
                    set(row, pattern);
                }
            }
        });
    }
}

/// A set of bytes as values in lower case have them: a capital letter stands for the small one.
#[inline]
fn folded(set: &[u64; 4]) -> [u64; 4] {
    let [a, b, c, d] = *set;
    let capitals = ((1u64 << 26) - 1) << 1;
    [a, (b & !capitals) | (b & capitals) << 32, c, d]
}

#[inline]
fn set(row: &mut [u64], pattern: u32) {
    if let Some(word) = row.get_mut((pattern / 64) as usize) {
        *word |= 1 << (pattern % 64);
    }
}

/// The literals of a pattern if they are worth a place in the automaton: a single byte says too little there.
fn usable(need: &Requirement) -> Option<&[Vec<u8>]> {
    let literals = need.any_of.as_deref()?;
    let long = literals.iter().all(|literal| literal.len() >= LITERAL_BYTES_MIN);
    (long && !literals.is_empty()).then_some(literals)
}

/// The first bytes of the literals: one of them must occur.
fn starting_bytes(literals: &[Vec<u8>]) -> [u64; 4] {
    let first: Option<Vec<u8>> = literals.iter().map(|literal| literal.first().copied()).collect();
    first.map_or([u64::MAX; 4], |bytes| presence_of(&bytes))
}

const LITERAL_BYTES_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(needs: &[Requirement], value: &[u8]) -> u64 {
        let needs: Vec<Requirements> =
            needs.iter().map(|need| std::array::from_fn(|_| need.clone())).collect();
        let filter = Prefilter::build(&needs, true);
        let mut row = vec![0; filter.words()];
        filter.scan(&value.to_ascii_lowercase(), &presence_of(value), &mut row);
        row[0]
    }

    #[test]
    fn literals_lengths_and_bytes_select() {
        let needs = [
            Requirement {
                any_of: Some(vec![b"union".to_vec(), b"select".to_vec()]),
                ..Requirement::default()
            },
            Requirement { min_len: 4, ..Requirement::default() },
            Requirement { byte_sets: vec![presence_of(b"<>")], ..Requirement::default() },
            Requirement { any_of: Some(vec![b"'".to_vec()]), ..Requirement::default() },
            Requirement { any_of: Some(vec![b"ion".to_vec()]), ..Requirement::default() },
        ];
        assert_eq!(candidates(&needs, b"UNION"), 0b10011);
        assert_eq!(candidates(&needs, b"<"), 0b00100);
        assert_eq!(candidates(&needs, b"it's"), 0b01010);
        assert_eq!(candidates(&needs, b""), 0);
    }
}
