//! How large: quantiles of sizes and times.

use super::wire::{Reader, Writer};

/// Quantiles with a relative error of 2 % (Masson, Rim and Lee, "DDSketch", 2019), of whole numbers up to 2^48; greater ones count as
/// that. At most 833 bins, some 13 KiB; ordinary sizes of a route take 50 to 150.
///
/// Bins are never collapsed, so merging commutes and associates exactly. It adds: merging twice counts twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Bin and how many fell into it, sorted; none is empty.
    bins: Vec<(u16, u64)>,
    count: u64,
}

impl Quantiles {
    /// Counts a value.
    pub fn insert(&mut self, value: u64) {
        self.add(bin(value), 1);
    }

    /// Takes in what another counted.
    pub fn merge(&mut self, other: &Self) {
        other.bins.iter().for_each(|&(bin, count)| self.add(bin, count));
    }

    fn add(&mut self, bin: u16, count: u64) {
        self.count = self.count.saturating_add(count);
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => {
                if let Some((_, own)) = self.bins.get_mut(at) {
                    *own = own.saturating_add(count);
                }
            }
            Err(at) => self.bins.insert(at, (bin, count)),
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that `per_mille` of a thousand values are not greater than; none without values.
    pub fn per_mille(&self, per_mille: u16) -> Option<u64> {
        let rank = (u128::from(self.count.saturating_sub(1)) * u128::from(per_mille.min(1_000))) / 1_000;
        let mut before = 0_u128;
        self.bins.iter().find_map(|&(bin, count)| {
            before += u128::from(count);
            (before > rank).then(|| value(bin))
        })
    }

    /// The compact form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(KIND);
        out.length(self.bins.len());
        let mut last = 0;
        for &(bin, count) in &self.bins {
            out.number(u64::from(bin - last));
            out.number(count);
            last = bin;
        }
        out.finish()
    }

    /// Reads the compact form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(KIND, bytes)?;
        let mut all = Self::default();
        let mut last = 0_u16;
        for place in 0..input.length(usize::from(BIN_MAX) + 1)? {
            let step = u16::try_from(input.number()?).ok()?;
            if place > 0 && step == 0 {
                return None;
            }
            last = last.checked_add(step).filter(|bin| *bin <= BIN_MAX)?;
            let count = input.number().filter(|count| *count > 0)?;
            all.count = all.count.checked_add(count)?;
            all.bins.push((last, count));
        }
        input.end()?;
        Some(all)
    }
}

/// Bin 0 is of 0 and 1; bin n of what lies above gamma^(n-1), up to gamma^n.
fn bin(value: u64) -> u16 {
    let value = value.clamp(1, VALUE_MAX);
    // The error of the conversion lies far below that of the sketch.
    #[expect(clippy::cast_precision_loss, reason = "at most 2^48, which a float holds")]
    let bin = ((value as f64).ln() / GAMMA.ln()).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and BIN_MAX")]
    let bin = bin as u16;
    bin.min(BIN_MAX)
}

fn value(bin: u16) -> u64 {
    let middle = 2.0 * GAMMA.powi(i32::from(bin)) / (GAMMA + 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most about 2^48")]
    let value = middle.round() as u64;
    value.min(VALUE_MAX)
}

const KIND: u8 = 0x21;
const GAMMA: f64 = 1.02 / 0.98;
const VALUE_MAX: u64 = 1 << 48;
const BIN_MAX: u16 = 832;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Quantiles {
        let mut all = Quantiles::default();
        values.iter().for_each(|&value| all.insert(value));
        all
    }

    #[test]
    fn the_greatest_value_has_the_last_bin() {
        assert_eq!(bin(u64::MAX), BIN_MAX);
        assert!(value(BIN_MAX) as f64 > 0.97 * VALUE_MAX as f64);
    }

    proptest! {
        #[test]
        fn quantiles_are_two_per_cent_off_at_most(mut values in prop::collection::vec(0..1_000_000_000_u64, 1..300), rank in 0..=1_000_u16) {
            let sketch = of(&values);
            values.sort_unstable();
            let exact = values[(values.len() - 1) * usize::from(rank) / 1_000].max(1) as f64;
            let told = sketch.per_mille(rank).unwrap() as f64;
            prop_assert!((told - exact).abs() <= 0.0201 * exact + 0.5, "{told} for {exact}");
        }

        #[test]
        fn merging_adds(a in prop::collection::vec(any::<u64>(), 0..99), b in prop::collection::vec(any::<u64>(), 0..99), c in prop::collection::vec(any::<u64>(), 0..99)) {
            let whole = of(&[a.clone(), b.clone(), c.clone()].concat());
            let (mut left, mut right) = (of(&a), of(&c));
            left.merge(&of(&b));
            left.merge(&of(&c));
            right.merge(&of(&b));
            right.merge(&of(&a));
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&right, &whole);
            prop_assert_eq!(Quantiles::from_bytes(&whole.to_bytes()), Some(whole));
        }

        #[test]
        fn any_bytes_are_a_sketch_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = KIND; }
            if let Some(sketch) = Quantiles::from_bytes(&bytes) {
                prop_assert_eq!(sketch.to_bytes(), bytes);
            }
        }
    }
}
