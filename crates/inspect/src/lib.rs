//! Bytes of a request and its response in, [`Signal`](phalanx_model::Signal)s out: a SecLang engine.
//!
//! `RuleSet` (policy) -> [`Program`] (compiled once, shared) -> [`Transaction`] (one request) -> [`Findings`].
//!
//! A transaction owns its buffers and keeps values as spans into them. Every distinct value is interned once; each
//! transformation runs at most once per value. Of every value it is known, after one pass, which patterns can match it at
//! all; rules look at nothing else. What is known at load (gates, defaults) is done then.
//!
//! Sketch of a harmless request, 13 header fields: about 80 distinct values of 20 bytes, transformed ones among them; for
//! each one hash, a row of bits, and three probes of small bit maps per byte; then one bit test per rule. See
//! `docs/adr/0007-kinds-of-values-and-folding.md`.
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
