//! `phalanx waf ...`: rule sets put to the test without a network, through the edge's own codec and the engine.

pub(crate) mod bench;
pub(crate) mod ftw;
pub(crate) mod replay;

mod backend;
mod exchange;
mod suite;

#[cfg(test)]
mod differential;
