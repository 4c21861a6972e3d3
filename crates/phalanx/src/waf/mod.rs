//! `phalanx waf ...`: rule sets put to the test, in process through the edge's own codec and the engine, or at a running node.

pub(crate) mod backend;
pub(crate) mod bench;
pub(crate) mod ftw;
pub(crate) mod replay;

mod wire;

mod deviation;
pub(crate) mod exchange;
mod judge;

mod bytes;
mod suite;

#[cfg(test)]
mod differential;
