//! W3C Trace Context: which trace a request belongs to, and which part of it this hop is.
//!
//! What comes in `traceparent` is a stranger's claim: it is read strictly (<https://www.w3.org/TR/trace-context/>), kept as
//! numbers, and never decides anything about the request.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A trace's id; written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The id of one part of a trace; written as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// This hop's part of it; none where the context was only passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanId>,
    /// The part that asked, as the client said; none where the trace begins here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SpanId>,
    /// Whether whoever began it wants it recorded.
    #[serde(default)]
    pub sampled: bool,
}

/// What a `traceparent` field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The part that asks.
    pub parent: SpanId,
    /// The flags that are known: sampled, random id.
    flags: u8,
}

impl TraceParent {
    /// A context of our own making.
    pub fn new(trace: TraceId, parent: SpanId, sampled: bool) -> Self {
        Self { trace, parent, flags: u8::from(sampled) }
    }

    /// Reads the field's value; what departs from the standard in anything is no context.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, tail) = value.split_at_checked(TRACEPARENT_BYTES)?;
        let version = u8::try_from(hex(head.get(..2)?)?).ok()?;
        // Later versions may go on after the flags, this one may not.
        let whole = tail.is_empty() || version > 0 && tail.starts_with(b"-");
        let separated = [2, 35, 52].iter().all(|&at| head.get(at) == Some(&b'-'));
        if version == 0xff || !whole || !separated {
            return None;
        }
        let trace = hex(head.get(3..35)?)?;
        let parent = u64::try_from(hex(head.get(36..52)?)?).ok()?;
        let flags = u8::try_from(hex(head.get(53..)?)?).ok()?;
        Some(Self {
            trace: TraceId(NonZeroU128::new(trace)?),
            parent: SpanId(NonZeroU64::new(parent)?),
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// The same trace, asked on by another part of it.
    #[must_use]
    pub fn from_span(self, span: SpanId) -> Self {
        Self { parent: span, ..self }
    }

    /// Whether it is to be recorded.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The field's value, in version 00.
    pub fn to_text(self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [_, _, _, rest @ ..] = &mut text;
        let (trace, rest) = rest.split_at_mut(32);
        write_hex(trace, self.trace.0.get());
        let (parent, flags) = rest.split_at_mut(18);
        if let [_, parent @ .., _] = parent {
            write_hex(parent, self.parent.0.get().into());
        }
        write_hex(flags, self.flags.into());
        text
    }
}

impl TraceId {
    /// The id of these bits; none for zero, which names no trace.
    pub fn from_bits(bits: u128) -> Option<Self> {
        NonZeroU128::new(bits).map(Self)
    }

    /// Its 128 bits.
    pub fn to_bits(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// The id of these bits; none for zero, which names no span.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// Its 64 bits.
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }
}

/// Why a text is no id of a trace or span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected lower-case hex digits, 32 for a trace and 16 for a span, not all of them 0")]
pub struct TraceIdError;

impl FromStr for TraceId {
    type Err = TraceIdError;

    fn from_str(text: &str) -> Result<Self, TraceIdError> {
        let bits = (text.len() == 32).then(|| hex(text.as_bytes())).flatten();
        bits.and_then(Self::from_bits).ok_or(TraceIdError)
    }
}

impl FromStr for SpanId {
    type Err = TraceIdError;

    fn from_str(text: &str) -> Result<Self, TraceIdError> {
        let bits = (text.len() == 16).then(|| hex(text.as_bytes())).flatten();
        bits.and_then(|bits| Self::from_bits(u64::try_from(bits).ok()?)).ok_or(TraceIdError)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

macro_rules! as_text {
    ($($type:ident, $pattern:literal;)+) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )+};
}

as_text! {
    TraceId, "^[0-9a-f]{32}$";
    SpanId, "^[0-9a-f]{16}$";
}

/// Lower-case hex digits, at most 32, as a number.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Fills `text` with the lowest digits of a number.
fn write_hex(text: &mut [u8], mut number: u128) {
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(number & 15).unwrap_or_default();
        *place = b"0123456789abcdef".get(digit).copied().unwrap_or(b'0');
        number >>= 4;
    }
}

/// The length of the field's value in version 00.
pub const TRACEPARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;
/// Of level 2: sampled, and that the trace's id is random. Others are not passed on.
const KNOWN_FLAGS: u8 = SAMPLED | 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_of_the_standard_is_read_and_written() {
        let read = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(read.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((read.parent.to_string().as_str(), read.is_sampled()), ("00f067aa0ba902b7", true));
        assert_eq!(read.to_text(), VALID.as_bytes());
        let next = read.from_span(SpanId::from_bits(10).unwrap()).to_text();
        assert_eq!(&next, b"00-4bf92f3577b34da6a3ce929d0e0e4736-000000000000000a-01");
    }

    #[test]
    fn what_departs_from_the_standard_is_none() {
        for (value, is_read) in [
            (VALID, true),
            // Of a later version: what is known of it counts.
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-holds", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", false),
            ("", false),
        ] {
            assert_eq!(TraceParent::parse(value.as_bytes()).is_some(), is_read, "{value}");
        }
    }

    #[test]
    fn flags_that_nobody_knows_are_not_passed_on() {
        let read = TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff").unwrap();
        assert!(read.to_text().ends_with(b"-03"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_context_that_reads_back_or_none(value in "[0-9a-f-]{50,60}|.{0,60}") {
            if let Some(read) = TraceParent::parse(value.as_bytes()) {
                prop_assert_eq!(TraceParent::parse(&read.to_text()), Some(read));
            }
        }

        #[test]
        fn ids_read_back(trace in 1u128.., span in 1u64.., sampled: bool) {
            let (trace, span) = (TraceId::from_bits(trace).unwrap(), SpanId::from_bits(span).unwrap());
            prop_assert_eq!(trace.to_string().parse::<TraceId>(), Ok(trace));
            prop_assert_eq!(span.to_string().parse::<SpanId>(), Ok(span));
            let written = TraceParent::new(trace, span, sampled);
            prop_assert_eq!(TraceParent::parse(&written.to_text()), Some(written));
        }
    }
}
