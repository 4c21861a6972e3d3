//! HTTP/1 on the wire: one strict codec for both directions, without IO.
//!
//! Flow in names: bytes -> `HeadReader` -> `RequestHead` (with its faults) -> `BodyDecoder`; towards upstreams and
//! clients `encode` writes what was read, byte for byte where HTTP allows it.
//!
//! INVARIANT: a head on which two parsers could disagree (RFC 9112 section 11) carries at least one fault, and a head
//! with a fault is never passed on. Nothing here panics on any input, and how the input was cut into reads changes
//! nothing.

pub(crate) mod encode;

pub(crate) mod head;
mod lenient;
pub(crate) mod semantics;

pub(crate) mod response;

pub(crate) mod body;

pub(crate) mod fields;
pub(crate) mod trailers;

pub use body::{BodyDecoder, Step};
pub use fields::FieldKind;
pub use phalanx_model::RequestHead;

pub use head::{HeadError, HeadLimits, HeadReader, parse_head};
pub use response::{ResponseError, ResponseFraming, ResponseHead, read_response_head};
