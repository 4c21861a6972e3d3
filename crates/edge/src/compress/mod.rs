//! Compression of responses on their way to the client (RFC 9110 sections 8.4, 12.5.3).
//!
//! Flow in names: [`Choice::of`] (may it be, and with what) -> the head's fields -> [`Encoder`] (bytes) -> the client.
//!
//! Failure direction: whatever speaks against compression (a range, a digest of the content, `no-transform`, no room for one more
//! encoder) lets the response go as the upstream sent it.

mod choice;
mod encoder;

pub(crate) use choice::Choice;
pub(crate) use encoder::{Encoder, Encoders};
