//! The whole product from outside: real nodes, real sockets, a real nats-server; no knowledge of its insides.
//!
//! INVARIANT: every wait is on a condition, every port is free, every node has state of its own.

mod cli;
mod fleet;
mod proxy;
mod state;
mod support;
