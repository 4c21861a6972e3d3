//! Durations and sizes as people write them: `5m`, `90 s`, `1 MiB`.

/// Reads a duration into milliseconds.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    scaled(text, DURATIONS, "a duration is a number with ms, s, m, h or d, as in `5m`")
}

/// Reads a size into bytes.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    scaled(text, SIZES, "a size is a number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, as in `1 MiB`")
}

/// Reads a part of a whole, 1 to 100 per cent.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<u8>().ok());
    match number {
        Some(percent @ 1..=100) => Ok(percent),
        _ => Err(format!("`{text}`: a share goes from `1%` to `100%`")),
    }
}

fn scaled(text: &str, units: &[(&str, u64)], form: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => {
            number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
        }
        _ => Err(format!("`{text}`: {form}")),
    }
}

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_scale() {
        for (text, expected) in [("5m", 300_000), ("90 s", 90_000), ("250ms", 250), ("1d", 86_400_000)] {
            assert_eq!(duration_ms(text), Ok(expected), "{text}");
        }
        for (text, expected) in
            [("1 MiB", 1 << 20), ("64KiB", 1 << 16), ("2 MB", 2_000_000), ("7B", 7), ("1 TiB", 1 << 40)]
        {
            assert_eq!(size_bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_share_is_at_least_one_per_cent_and_at_most_all() {
        assert_eq!((percent("1%"), percent("50 %"), percent("100%")), (Ok(1), Ok(50), Ok(100)));
        for text in ["0%", "101%", "50", "half", "-1%", "%", "0.5%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["5", "", "m", "-5m", "5 weeks", "99999999999999999999s", "9999999999999999d"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }
}
