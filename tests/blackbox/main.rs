//! The whole product from outside: real nodes, real sockets, a real nats-server; no knowledge of its insides.
//!
//! INVARIANT: every wait is on a condition, every port is free, every node has state of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test ends at its first surprise"
)]

mod abuse;
#[cfg(test)]
mod accounts;
#[cfg(test)]
mod acme;
#[cfg(test)]
mod acme_again;
#[cfg(test)]
mod advice;
mod api;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod beside;
#[cfg(test)]
mod beside_cases;
#[cfg(test)]
mod book;
#[cfg(test)]
mod challenges;
mod cli;
#[cfg(test)]
mod client_certificates;
mod clocks;
mod crowdsec;
mod delegate;
mod destroyed;
mod enrol;
mod exclusions;
mod explain;
mod fleet;
mod held;
mod import;
#[cfg(test)]
mod incidents;
#[cfg(test)]
mod learned;
#[cfg(test)]
#[path = "../../crates/edge/tests/edge/mmdb.rs"]
mod mmdb;
mod observability;
mod operations;
mod operators;
mod origins;
mod paranoia;
mod playbooks;
mod policy;
mod policy_diff;
mod policy_follow;
mod policy_life;
mod policy_test;
mod probe;
mod proxied;
mod proxy;
mod rates;
mod receivers;
mod recording;
#[cfg(test)]
mod relay;
mod routes;
mod rules;
mod selftest;
mod serve;
#[cfg(test)]
mod signatures;
mod state;
mod support;
mod tcp;
#[cfg(test)]
mod tickets;
mod tls;
mod top;
#[cfg(test)]
mod traffic;
mod upgrade;
#[cfg(test)]
mod upgrade_fleet;
#[cfg(test)]
mod upgrade_protocols;
#[cfg(test)]
mod upstreams;
