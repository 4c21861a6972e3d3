//! Compression of responses as written: a switch, or a table.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};

use crate::compression::ContentCoding;
use crate::toml_text::At;

/// Whether responses are compressed, and which.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum RawCompression {
    /// As is usual, or not at all.
    Switch(bool),
    /// As said.
    Told(RawCompressionTable),
}

/// Which responses are compressed, and with what.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCompressionTable {
    /// "zstd", "br", "gzip": of those that a client likes equally well, the first. All three if not given.
    pub codings: Option<Vec<ContentCoding>>,
    /// Media types, as in "application/json"; "text/*" stands for all of a kind. Texts if not given.
    pub types: Option<Vec<At<String>>>,
    /// Shorter responses go as they are, as in "1 KiB".
    pub min: Option<At<String>>,
}

// By hand, and not `untagged`: that would lose where in the file each entry stands.
impl<'de> Deserialize<'de> for RawCompression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Told;

        impl<'de> Visitor<'de> for Told {
            type Value = RawCompression;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a table with `codings`, `types` and `min`")
            }

            fn visit_bool<E>(self, switch: bool) -> Result<RawCompression, E> {
                Ok(RawCompression::Switch(switch))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCompression, A::Error> {
                RawCompressionTable::deserialize(MapAccessDeserializer::new(map)).map(RawCompression::Told)
            }
        }

        deserializer.deserialize_any(Told)
    }
}
