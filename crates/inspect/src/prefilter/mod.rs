//! Which patterns can match a value at all, found in one pass over it.
//!
//! Every pattern contributes what it needs: literals of which one must occur, a least length, bytes of which one must
//! occur. The literals of all patterns make one automaton. INVARIANT: a pattern that is not a candidate does not match.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::pattern::Requirement;
use crate::transaction::values::{disjoint, presence_of};

/// The compiled filter.
#[derive(Debug)]
pub(crate) struct Prefilter {
    words: usize,
    enabled: bool,
    automaton: Option<AhoCorasick>,
    /// For each literal, which patterns want it: a range of `wanted`.
    hits: Vec<(u32, u32)>,
    wanted: Vec<u32>,
    /// Patterns without literals.
    loose: Vec<Loose>,
}

/// A pattern of which only length and bytes are known.
#[derive(Debug)]
struct Loose {
    pattern: u32,
    length_min: usize,
    byte_sets: Vec<[u64; 4]>,
}

impl Prefilter {
    /// Builds the filter over all patterns, in the order of their ids.
    pub(crate) fn build(needs: &[Requirement], enabled: bool) -> Result<Self, aho_corasick::BuildError> {
        let mut literals: Vec<(Vec<u8>, u32)> = Vec::new();
        let mut loose = Vec::new();
        for (id, need) in needs.iter().enumerate() {
            let pattern = u32::try_from(id).unwrap_or(u32::MAX);
            match usable(need) {
                Some(wanted) => {
                    literals.extend(wanted.iter().map(|l| (l.to_ascii_lowercase(), pattern)));
                }
                None => {
                    let mut byte_sets = need.byte_sets.clone();
                    byte_sets.extend(need.any_of.as_deref().map(starting_bytes));
                    loose.push(Loose { pattern, length_min: need.min_len, byte_sets });
                }
            }
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
        let automaton = if unique.is_empty() || !enabled {
            None
        } else {
            let mut builder = AhoCorasick::builder();
            builder.match_kind(MatchKind::Standard).ascii_case_insensitive(true);
            builder.kind(Some(AhoCorasickKind::ContiguousNFA));
            Some(builder.build(&unique)?)
        };
        Ok(Self { words: needs.len().div_ceil(64).max(1), enabled, automaton, hits, wanted, loose })
    }

    /// How many words a set of candidates takes.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Distinct literals in the automaton.
    pub(crate) fn literals_len(&self) -> usize {
        self.hits.len()
    }

    /// Patterns that no literal guards.
    pub(crate) fn loose_len(&self) -> usize {
        self.loose.len()
    }

    /// Bytes the automaton takes.
    pub(crate) fn memory(&self) -> usize {
        self.automaton.as_ref().map_or(0, AhoCorasick::memory_usage)
    }

    /// Sets the bit of every pattern that can match `bytes`; `row` is all zero before.
    pub(crate) fn scan(&self, bytes: &[u8], presence: &[u64; 4], row: &mut [u64]) {
        if !self.enabled {
            row.fill(u64::MAX);
            return;
        }
        for loose in &self.loose {
            if bytes.len() >= loose.length_min
                && loose.byte_sets.iter().all(|needed| !disjoint(needed, presence))
            {
                set(row, loose.pattern);
            }
        }
        let Some(automaton) = &self.automaton else {
            return;
        };
        for hit in automaton.find_overlapping_iter(bytes) {
            let (start, end) = self.hits.get(hit.pattern().as_usize()).copied().unwrap_or_default();
            for &pattern in self.wanted.get(start as usize..end as usize).unwrap_or_default() {
                set(row, pattern);
            }
        }
    }
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

/// The first bytes of the literals in both cases: one of them must occur.
fn starting_bytes(literals: &[Vec<u8>]) -> [u64; 4] {
    let mut bytes = Vec::with_capacity(literals.len() * 2);
    for literal in literals {
        match literal.first() {
            Some(first) => bytes.extend([first.to_ascii_lowercase(), first.to_ascii_uppercase()]),
            None => return [u64::MAX; 4],
        }
    }
    presence_of(&bytes)
}

const LITERAL_BYTES_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(needs: &[Requirement], value: &[u8]) -> u64 {
        let filter = Prefilter::build(needs, true).unwrap();
        let mut row = vec![0; filter.words()];
        filter.scan(value, &presence_of(value), &mut row);
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
