//! A set of bytes, one bit each.

/// Which of the 256 bytes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ByteSet(pub(super) [u64; 4]);

impl ByteSet {
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) fn single(byte: u8) -> Self {
        let mut set = Self::default();
        set.add(byte);
        set
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut set = Self::default();
        bytes.iter().for_each(|&byte| set.add(byte));
        set
    }

    pub(super) fn range(first: u8, last: u8) -> Self {
        let mut set = Self::default();
        (first..=last).for_each(|byte| set.add(byte));
        set
    }

    pub(super) fn add(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }

    pub(super) fn union(self, other: Self) -> Self {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        Self([a | e, b | f, c | g, d | h])
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        Self([a & e, b & f, c & g, d & h])
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(mine, theirs)| mine & theirs != 0)
    }

    pub(super) fn complement(self) -> Self {
        Self(self.0.map(|word| !word))
    }

    pub(super) fn len(self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (0u8..4).zip(self.0).flat_map(|(high, mut word)| {
            std::iter::from_fn(move || {
                let low = u8::try_from(word.trailing_zeros()).ok().filter(|&low| low < 64)?;
                word &= word - 1;
                Some(high << 6 | low)
            })
        })
    }

    /// With the other case of every ASCII letter in it.
    pub(super) fn fold_case(self) -> Self {
        let mut folded = self;
        self.iter().filter(u8::is_ascii_alphabetic).for_each(|byte| folded.add(byte ^ 0x20));
        folded
    }

    /// Runs of neighbouring bytes, in order.
    pub(super) fn ranges(self) -> Vec<(u8, u8)> {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for byte in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(byte) => *last = byte,
                _ => ranges.push((byte, byte)),
            }
        }
        ranges
    }
}
