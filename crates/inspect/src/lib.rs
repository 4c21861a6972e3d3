//! Bytes of a request and its response in, [`Signal`](phalanx_model::Signal)s out: a SecLang engine.
//!
//! `RuleSet` (policy) -> [`Program`] (compiled once, shared) -> [`Transaction`] (one request) -> [`Findings`].
//!
//! A transaction owns its buffers and keeps values as spans into them. Every distinct value is interned once; each
//! transformation runs at most once per value; one multi-literal automaton tells which patterns can match a value
//! at all, so that on harmless traffic almost no rule looks at any byte.
//!
//! Sketch of a harmless request, 13 header fields: about 60 distinct values of 20 bytes, one hash and one automaton
//! pass over each and over each changed transformation of it (some 4 KB in all), then one bit test per rule.
//!
//! INVARIANT: synchronous, no clock, no IO, no panic on any bytes.

pub mod body;
pub mod libinjection;
pub mod operator;
pub mod pattern;
pub mod transform;

pub mod collections;
pub mod findings;

mod prefilter;
mod program;

mod actions;
mod run;
mod transaction;
mod variables;

pub use collections::Collections;
pub use findings::Findings;
pub use program::{CompileOptions, Program, Scope, Stats};
pub use transaction::audit::Audit;
pub use transaction::{Connection, Interruption, InterruptionKind, Outcome, Scratch, Transaction};
