//! Which patterns can match a value at all, found in one pass over it.
//!
//! Every pattern contributes what it needs of values of each kind: literals of which one must occur, a least length,
//! bytes of which one must occur. INVARIANT: a pattern that is not a candidate does not match.

mod grams;
mod loose;

use crate::pattern::{ABSENT, KINDS, Requirement, Requirements};
use crate::program::PatternId;
use crate::transaction::values::{disjoint, presence_of};
use aho_corasick::packed::Searcher;
use grams::Grams;
use loose::{Loose, LooseSet};

/// The compiled filter.
#[derive(Debug)]
pub(crate) struct Prefilter {
    words: usize,
    enabled: bool,
    kinds: [Kind; KINDS],
    /// The literals of patterns that are asked one by one, where they are few.
    alone: Vec<Option<Box<Searcher>>>,
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
    ///
    /// `few` are patterns that are also asked one by one.
    pub(crate) fn build(needs: &[Requirements], few: &[PatternId], enabled: bool) -> Self {
        let mut number = 0..;
        let kinds = ABSENT.map(|absent| {
            let kind = number.next().unwrap_or(0);
            let needs = needs.iter().map(|kinds| kinds.get(kind));
            Kind::build(absent, if enabled { needs.collect() } else { Vec::new() })
        });
        let mut alone: Vec<_> = needs.iter().map(|_| None).collect();
        for pattern in few.iter().filter(|_| enabled) {
            let need = needs.get(pattern.0 as usize).and_then(|kinds| kinds.first());
            if let (Some(place), Some(need)) = (alone.get_mut(pattern.0 as usize), need) {
                *place = searcher(need).map(Box::new);
            }
        }
        Self { words: needs.len().div_ceil(64).max(1), enabled, kinds, alone }
    }

    /// Whether anything is left out because of it.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
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

    /// How the patterns look at a value of this length, with these bytes.
    #[inline]
    pub(crate) fn glance(&self, length: usize, presence: &[u64; 4]) -> Glance<'_> {
        let presence = folded(presence);
        let kind = if self.enabled { self.kind(&presence) } else { None };
        Glance { also: kind.map(|kind| kind.also.as_slice()), length, presence }
    }

    /// The literals of which a value in lower case must hold one if this pattern is to match it, where asking pays.
    #[inline]
    pub(crate) fn literals_of(&self, pattern: PatternId) -> Option<&Searcher> {
        self.alone.get(pattern.0 as usize)?.as_deref()
    }

    fn kind(&self, folded: &[u64; 4]) -> Option<&Kind> {
        self.kinds.iter().rfind(|kind| disjoint(&kind.absent, folded))
    }
}

/// What length and bytes of a value, or of several together, say without a pass over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance<'p> {
    /// What each pattern needs; `None` if the filter is off.
    also: Option<&'p [Loose]>,
    length: usize,
    presence: [u64; 4],
}

impl Glance<'_> {
    /// Whether a pattern can match such a value.
    #[inline]
    pub(crate) fn allows(&self, pattern: PatternId) -> bool {
        self.also.is_none_or(|also| {
            also.get(pattern.0 as usize).is_some_and(|also| also.allows(self.length, &self.presence))
        })
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
                let allows = |also: &Loose| also.allows(lower.len(), presence);
                if !has(row, pattern) && self.also.get(pattern as usize).is_some_and(allows) {
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

#[inline]
fn has(row: &[u64], pattern: u32) -> bool {
    row.get((pattern / 64) as usize).is_some_and(|word| word >> (pattern % 64) & 1 == 1)
}

/// The literals of a pattern if they are worth a place in the automaton: a single byte says too little there.
fn usable(need: &Requirement) -> Option<&[Vec<u8>]> {
    let literals = need.any_of.as_deref()?;
    let long = literals.iter().all(|literal| literal.len() >= LITERAL_BYTES_MIN);
    (long && !literals.is_empty()).then_some(literals)
}

/// A search for the literals of one pattern, many bytes at once. Such searches take few literals: where there are more,
/// their beginnings will do.
fn searcher(need: &Requirement) -> Option<Searcher> {
    let literals = usable(need)?;
    let beginnings = |bytes: usize| {
        let mut short: Vec<&[u8]> = literals.iter().map(|text| text.get(..bytes).unwrap_or(text)).collect();
        short.sort_unstable();
        short.dedup();
        short
    };
    let few =
        SEARCHED_BYTES.into_iter().map(beginnings).find(|short| short.len() <= SEARCHED_LITERALS_MAX)?;
    Searcher::new(few)
}

/// The first bytes of the literals: one of them must occur.
fn starting_bytes(literals: &[Vec<u8>]) -> [u64; 4] {
    let first: Option<Vec<u8>> = literals.iter().map(|literal| literal.first().copied()).collect();
    first.map_or([u64::MAX; 4], |bytes| presence_of(&bytes))
}

const LITERAL_BYTES_MIN: usize = 2;
/// More make such a search stop too often.
const SEARCHED_LITERALS_MAX: usize = 64;
/// Lengths to which literals are cut.
const SEARCHED_BYTES: [usize; 4] = [24, 8, 6, 4];

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(needs: &[Requirement], value: &[u8]) -> u64 {
        let needs: Vec<Requirements> =
            needs.iter().map(|need| std::array::from_fn(|_| need.clone())).collect();
        let filter = Prefilter::build(&needs, &[], true);
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
