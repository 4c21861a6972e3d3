//! What becomes of events: signals about who does what, and incidents that belong together.
//!
//! INVARIANT: no input or output, no clock, no thread. Equal events in equal order give equal results.

pub mod sketch;
