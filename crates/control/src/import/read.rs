//! Decisions as CrowdSec's local API sends them.

use std::net::IpAddr;

use phalanx_model::Prefix;
use serde::Deserialize;

/// A decision as another's API wrote it. What we do not use is not read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Read {
    pub(crate) id: i64,
    #[serde(default)]
    pub(crate) origin: String,
    #[serde(default)]
    pub(crate) scenario: String,
    #[serde(default)]
    pub(crate) scope: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) duration: String,
    #[serde(default)]
    pub(crate) simulated: Option<bool>,
}

/// The answer of a stream. An empty list is `null` there.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ReadStream {
    #[serde(default, deserialize_with = "some_of")]
    pub(crate) new: Option<Vec<Read>>,
    #[serde(default, deserialize_with = "some_of")]
    pub(crate) deleted: Option<Vec<Read>>,
}

/// A list of limited length: what is small in JSON is large in memory.
fn some_of<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Read>>, D::Error> {
    struct Limited;
    impl<'de> serde::de::Visitor<'de> for Limited {
        type Value = Option<Vec<Read>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {READ_MAX} decisions, or null")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(self)
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut read = Vec::new();
            while let Some(one) = list.next_element()? {
                if read.len() >= READ_MAX {
                    return Err(serde::de::Error::custom(format!("it lists more than {READ_MAX} decisions")));
                }
                read.push(one);
            }
            Ok(Some(read))
        }
    }
    deserializer.deserialize_option(Limited)
}

/// Decisions that are read of one list, three times what is taken over at most.
const READ_MAX: usize = 150_000;

/// The range that a scope and value there stand for.
pub(crate) fn range_of(scope: &str, value: &str) -> Option<Prefix> {
    let range = match scope.to_ascii_lowercase().as_str() {
        "ip" => value.parse::<IpAddr>().ok().map(Prefix::from),
        "range" => value.parse::<Prefix>().ok(),
        _ => None,
    };
    range.map(phalanx_model::net::canonical_prefix)
}

/// Milliseconds of a duration as Go prints it; a negative one is 0. `None` if it is none.
pub(crate) fn read_go_duration(text: &str) -> Option<u64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut total_ns = 0u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let unit_ns = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            "" if number == "0" => 0,
            _ => return None,
        };
        total_ns = total_ns.checked_add(nanoseconds(number, unit_ns)?)?;
        rest = tail;
    }
    if negative { Some(0) } else { u64::try_from(total_ns / 1_000_000).ok() }
}

/// A decimal number of units. Floating point would lose a millisecond here and there.
fn nanoseconds(number: &str, unit_ns: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let fraction = fraction.get(..9).unwrap_or(fraction);
    let tenth = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = whole.parse::<u64>().ok()?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * unit_ns / tenth;
    u128::from(whole).checked_mul(unit_ns)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_prints_them() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1m1.02s", 61_020),
            ("3h59m59.251859166s", 14_399_251),
            ("72h0m0.001s", 86_400_000 * 3 + 1),
            ("-1.017926118s", 0),
            ("15µs", 0),
        ] {
            assert_eq!(read_go_duration(text), Some(ms), "{text}");
        }
        let mut ms = 1;
        while ms < 366 * 86_400_000 {
            assert_eq!(read_go_duration(&crate::lapi::wire::go_duration(ms)), Some(ms));
            ms = ms * 3 / 2 + 7;
        }
        for text in ["", "-", "s", "1", "1x", "1.2.3s", "h1", "é", "99999999999999999999999999h"] {
            assert_eq!(read_go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn values_of_others_are_ranges_or_nothing() {
        for (scope, value, expected) in [
            ("Ip", "192.0.2.1", Some("192.0.2.1/32")),
            ("ip", "::ffff:192.0.2.1", Some("192.0.2.1/32")),
            ("Range", "192.0.2.7/24", Some("192.0.2.0/24")),
            ("Ip", "192.0.2.1/24", None),
            ("Country", "FR", None),
            ("AS", "64496", None),
        ] {
            assert_eq!(range_of(scope, value).map(|r| r.to_string()).as_deref(), expected, "{scope} {value}");
        }
    }
}
