//! Whose request it was, and what it tried: as keyed hashes, never as names.

use serde::{Deserialize, Serialize};

/// What is known of a request's session and account, and of what it tried. All hashes are made under a [`crate::NameKey`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deed {
    /// The session, by its cookie or token; see [`crate::Actor::Session`]. 16 hexadecimal digits in JSON.
    #[serde(default, with = "hexadecimal", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub session: Option<u64>,
    /// The account that logs in, is asked about, or that the session belongs to; see [`crate::Actor::Account`]. 16 hexadecimal digits in JSON.
    #[serde(default, with = "hexadecimal", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub account: Option<u64>,
    /// The tag of the password or card that was tried; see [`crate::NameKey::tag`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<u16>,
    /// What it was about, and how that ended.
    #[serde(default, skip_serializing_if = "Step::is_page")]
    pub step: Step,
    /// The shape of what was sent; see [`crate::shape::shape`]. 0 where none was made. 16 hexadecimal digits in JSON.
    #[serde(default, with = "hexadecimal_or_0", skip_serializing_if = "is_0")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub shape: u64,
}

/// What a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A page or a call of an API.
    #[default]
    Page,
    /// What belongs to a page: styles, scripts, images.
    Asset,
    /// An attempt to log in.
    Login(Outcome),
    /// A question that tells whether an account exists: reset of a password, registration.
    Lookup,
    /// An attempt to pay.
    Payment(Outcome),
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went through.
    Passed,
    /// It was turned down.
    Failed,
    /// It cannot be told, as in an outage.
    #[default]
    Unknown,
}

impl Deed {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Step {
    /// Whether it was nothing in particular.
    pub fn is_page(&self) -> bool {
        *self == Self::Page
    }
}

fn is_0(bits: &u64) -> bool {
    *bits == 0
}

/// Numbers in JSON have 53 bits only in browsers.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde asks for this form")]
    pub(super) fn serialize<S: Serializer>(bits: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match bits {
            Some(bits) => serializer.collect_str(&format_args!("{bits:016x}")),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)).transpose()
    }
}

mod hexadecimal_or_0 {
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        super::hexadecimal::serialize(&Some(*bits), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        super::hexadecimal::deserialize(deserializer).map(Option::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_written_with_hexadecimal_hashes_and_read_back() {
        let deed = Deed {
            session: Some(0x5),
            account: Some(u64::MAX),
            secret: Some(7),
            step: Step::Login(Outcome::Failed),
            shape: 0xff,
        };
        let text = "{\"session\":\"0000000000000005\",\"account\":\"ffffffffffffffff\",\"secret\":7,\
                    \"step\":{\"login\":\"failed\"},\"shape\":\"00000000000000ff\"}";
        assert_eq!(serde_json::to_string(&deed).unwrap(), text);
        for (text, expected) in [
            (text, deed),
            ("{}", Deed::default()),
            ("{\"step\":\"lookup\"}", Deed { step: Step::Lookup, ..Deed::default() }),
        ] {
            assert_eq!(serde_json::from_str::<Deed>(text).unwrap(), expected);
        }
        assert_eq!(serde_json::to_string(&Deed::default()).unwrap(), "{}");
        assert!(serde_json::from_str::<Deed>("{\"session\":\"ann\"}").is_err());
        assert_eq!(size_of::<Option<Deed>>(), 48, "what an event without one pays for it");
    }
}
