//! Bounded summaries of what was seen: how many, how many different ones, how large, how alike.
//!
//! What each promises on merging stands at its type. All are written in the compact form of `wire`, with a version in front, and
//! read with limits: bytes from another node make a sketch or nothing.
//!
//! They are our own because equal input must give equal bytes in whatever order it came, and because there are many of them: the
//! Apache `datasketches` crate keeps estimators that depend on the order of insertion, and `sketches-ddsketch` collapses bins
//! depending on it.

mod counts;
mod distinct;
mod hll;
mod quantiles;
pub(crate) mod wire;

pub use counts::Counts;
pub use distinct::Distinct;
pub use hll::Hll;
pub use phalanx_model::shape::{alike, mix, shape};
pub use quantiles::Quantiles;

/// The lower half of a hash.
pub(crate) fn low32(bits: u64) -> u32 {
    u32::try_from(bits & 0xffff_ffff).unwrap_or_default()
}
