//! Identifiers that sort by time and name the node that made them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A request's id: 48 bits of Unix milliseconds, 16 bits of the node's tag, 64 random bits. Written as 26 characters of
/// Crockford base 32, the form of a ULID, so that ids sort by time and any node can tell whose history holds one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u128);

/// A decision's id, of the same form as [`RequestId`].
pub type DecisionId = RequestId;

impl RequestId {
    /// Builds an id from its parts; bits of `at_ms` above the 48th are dropped.
    pub fn from_parts(at_ms: u64, node_tag: u16, random: u64) -> Self {
        let time = u128::from(at_ms & 0xffff_ffff_ffff);
        Self((time << 80) | (u128::from(node_tag) << 64) | u128::from(random))
    }

    /// The id of these 128 bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Its 128 bits.
    pub fn to_bits(self) -> u128 {
        self.0
    }

    /// When the id was made, in Unix milliseconds.
    pub fn at_ms(self) -> u64 {
        u64::try_from(self.0 >> 80).unwrap_or(u64::MAX)
    }

    /// The tag of the node that made it; see [`node_tag`].
    pub fn node_tag(self) -> u16 {
        u16::try_from((self.0 >> 64) & 0xffff).unwrap_or_default()
    }

    /// Writes the 26 characters without allocating.
    pub fn to_text(self) -> [u8; 26] {
        let mut text = [b'0'; 26];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            let digit = usize::try_from(rest & 31).unwrap_or_default();
            *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        text
    }
}

/// A short tag of a node's name (FNV-1a, 16 bits folded), the part of an id that says where its history lies.
pub fn node_tag(site: &str, node: &str) -> u16 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in site.bytes().chain([b'/']).chain(node.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    u16::try_from((hash >> 16) ^ (hash & 0xffff)).unwrap_or_default()
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_text()).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id has 26 characters of 0-9 and A-Z without I, L, O and U")]
pub struct IdError;

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 26 {
            return Err(IdError);
        }
        let mut value: u128 = 0;
        for (place, byte) in text.bytes().enumerate() {
            let upper = byte.to_ascii_uppercase();
            let digit = ALPHABET.iter().position(|&c| c == upper).ok_or(IdError)?;
            // The first character carries three bits only: 26 * 5 = 130.
            if place == 0 && digit > 7 {
                return Err(IdError);
            }
            value = (value << 5) | u128::try_from(digit).map_err(|_| IdError)?;
        }
        Ok(Self(value))
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RequestId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RequestId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
            "description": "26 characters of Crockford base 32; ids sort by time"
        })
    }
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_of_an_id_reads_back(at_ms in 0..1u64 << 48, tag: u16, random: u64) {
            let id = RequestId::from_parts(at_ms, tag, random);
            prop_assert_eq!(id.to_string().parse::<RequestId>(), Ok(id));
            prop_assert_eq!((id.at_ms(), id.node_tag()), (at_ms, tag));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".{0,40}") {
            let _ = text.parse::<RequestId>();
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let early = RequestId::from_parts(1, 9, u64::MAX).to_string();
        let late = RequestId::from_parts(2, 0, 0).to_string();
        assert!(early < late);
    }
}
