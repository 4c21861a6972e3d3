//! Which of thousands of literals occur in a text: three probes of small bit maps per byte.
//!
//! Of each literal only its rarest four bytes in a row (or all, if it is shorter) are looked for: its gram. Bit maps of
//! grams rule out nearly every place of ordinary text; where they do not, the literals with that gram are compared. An
//! Aho-Corasick automaton of the same literals takes megabytes and misses the cache at most bytes.

/// The compiled set.
#[derive(Debug, Default)]
pub(super) struct Grams {
    /// A bit for each pair of bytes that is a gram.
    pairs: BitMap<PAIR_WORDS>,
    /// A bit for each hash of a gram of three bytes.
    triples: BitMap<TRIPLE_WORDS>,
    /// A bit for each hash of a gram of four bytes.
    quads: BitMap<QUAD_WORDS>,
    /// Where the entries of each bucket start; one more than there are buckets.
    starts: Vec<u32>,
    /// By bucket.
    entries: Vec<Entry>,
    texts: Vec<u8>,
}

/// A literal under its gram.
#[derive(Debug, Clone, Copy)]
struct Entry {
    gram: u32,
    literal: u32,
    /// Where its text lies in `texts`.
    start: u32,
    len: u16,
    /// How much of it comes before the end of its gram.
    before: u8,
    first: u8,
}

impl Grams {
    /// Builds the set. Literals are in lower case, have two bytes at least, and are numbered in their order.
    pub(super) fn new<'a>(literals: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut set = Self::default();
        let mut entries = Vec::new();
        for (number, text) in (0u32..).zip(literals) {
            let (gram, before) = rarest_gram(text);
            match text.len() {
                0..=2 => set.pairs.set(gram),
                3 => set.triples.set(hash(gram)),
                _ => set.quads.set(hash(gram)),
            }
            let start = narrow(set.texts.len());
            set.texts.extend_from_slice(text);
            let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
            let first = text.first().copied().unwrap_or_default();
            entries.push(Entry { gram, literal: number, start, len, before, first });
        }
        entries.sort_by_key(|entry| (bucket(entry.gram), entry.gram));
        set.starts = vec![0; BUCKETS + 1];
        for entry in &entries {
            if let Some(count) = set.starts.get_mut(bucket(entry.gram) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut set.starts {
            sum += *start;
            *start = sum;
        }
        set.entries = entries;
        set
    }

    /// Bytes the set takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + (PAIR_WORDS + TRIPLE_WORDS + QUAD_WORDS) * size_of::<u64>()
            + self.starts.len() * size_of::<u32>()
            + self.entries.len() * size_of::<Entry>()
            + self.texts.len()
    }

    /// Calls `found` with every literal that occurs in a text in lower case, at least once each.
    #[inline]
    pub(super) fn scan(&self, lower: &[u8], mut found: impl FnMut(u32)) {
        let mut last = 0u32;
        for (place, &byte) in lower.iter().enumerate() {
            last = last << 8 | u32::from(byte);
            // The first bytes stand behind zeros, which no literal's text confirms.
            let (pair, triple) = (last & 0xffff, last & 0x00ff_ffff);
            let is_pair = self.pairs.has(pair);
            let is_triple = self.triples.has(hash(triple));
            let is_quad = self.quads.has(hash(last));
            if is_pair | is_triple | is_quad {
                for (is_gram, gram) in [(is_pair, pair), (is_triple, triple), (is_quad, last)] {
                    if is_gram {
                        self.confirm(lower, place + 1, gram, &mut found);
                    }
                }
            }
        }
    }

    /// Compares the literals whose gram ends here.
    #[inline(never)]
    fn confirm(&self, lower: &[u8], end: usize, gram: u32, found: &mut impl FnMut(u32)) {
        let bucket = bucket(gram);
        let from = self.starts.get(bucket).copied().unwrap_or_default() as usize;
        let to = self.starts.get(bucket + 1).copied().unwrap_or_default() as usize;
        for entry in self.entries.get(from..to).unwrap_or_default().iter().filter(|entry| entry.gram == gram)
        {
            let Some(start) = end.checked_sub(usize::from(entry.before)) else {
                continue;
            };
            // Most literals that only share the gram differ at their start.
            if lower.get(start) != Some(&entry.first) {
                continue;
            }
            let text = entry.start as usize;
            let text = self.texts.get(text..text + usize::from(entry.len)).unwrap_or_default();
            if lower.get(start..start + text.len()) == Some(text) {
                found(entry.literal);
            }
        }
    }
}

/// A set of numbers below 64 times `WORDS`, which is a power of two; larger ones wrap.
#[derive(Debug)]
struct BitMap<const WORDS: usize>(Box<[u64; WORDS]>);

impl<const WORDS: usize> Default for BitMap<WORDS> {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl<const WORDS: usize> BitMap<WORDS> {
    fn set(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut((number / 64) as usize % WORDS) {
            *word |= 1 << (number % 64);
        }
    }

    #[inline]
    fn has(&self, number: u32) -> bool {
        self.0.get((number / 64) as usize % WORDS).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// The rarest gram of a literal, and where it ends.
fn rarest_gram(text: &[u8]) -> (u32, u8) {
    let size = text.len().clamp(2, QUAD);
    let windows = text.windows(size).enumerate().take(usize::from(u8::MAX) - QUAD);
    let chance = |gram: &[u8]| gram.iter().map(|&byte| crate::pattern::chance(byte)).product::<f64>();
    let rarest = windows.min_by(|(_, a), (_, b)| chance(a).total_cmp(&chance(b)));
    let (place, gram) = rarest.unwrap_or((0, text));
    let value = gram.iter().fold(0, |value, &byte| value << 8 | u32::from(byte));
    (value, u8::try_from(place + size).unwrap_or(u8::MAX))
}

/// Fibonacci hashing (Knuth, TAOCP 6.4): the high bits are well mixed.
#[inline]
fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1) >> (32 - (QUAD_WORDS * 64).trailing_zeros())
}

fn bucket(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - BUCKETS.trailing_zeros())) as usize
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

const QUAD: usize = 4;
const PAIR_WORDS: usize = 65_536 / 64;
const TRIPLE_WORDS: usize = 16_384 / 64;
/// Sixteen bits and more for each gram of the largest rule sets known: one place of sixteen is a false alarm.
const QUAD_WORDS: usize = 131_072 / 64;
const BUCKETS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn occurring(literals: &[Vec<u8>], text: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        Grams::new(literals.iter().map(Vec::as_slice)).scan(text, |literal| found.push(literal));
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        #[test]
        fn exactly_the_literals_that_occur_are_found(
            literals in proptest::collection::vec("[abc\\x00\u{ff}]{2,7}", 1..12),
            text in "[abc\\x00\u{ff}]{0,40}",
        ) {
            let literals: Vec<Vec<u8>> = literals.into_iter().map(String::into_bytes).collect();
            let text = text.into_bytes();
            let expected: Vec<u32> = (0u32..)
                .zip(&literals)
                .filter(|(_, literal)| memchr::memmem::find(&text, literal).is_some())
                .map(|(number, _)| number)
                .collect();
            prop_assert_eq!(occurring(&literals, &text), expected);
        }
    }

    #[test]
    fn a_literal_of_zeros_is_not_seen_before_the_text() {
        assert_eq!(occurring(&[vec![0, 0], vec![0, b'a']], b"a"), Vec::<u32>::new());
    }
}
