//! TLS towards clients and upstreams. Towards clients: what a greeting says, which certificate answers it, the handshake, and records in both directions.
//!
//! Flow in names: raw bytes -> [`hello`] ([`ja4`]) -> [`Material`] -> `handshake` -> `Session`, which the socket reads and
//! writes through. rustls is driven without buffers of its own, on bytes that the worker lends (ADR 0016), and no
//! connection has any state of it before its whole greeting is here.

pub mod challenges;
pub mod hello;
pub mod ja4;
pub mod material;
pub mod origin;

pub(crate) mod handshake;
pub(crate) mod session;
mod tickets;

pub use challenges::Challenges;
pub use material::{Material, Served, TlsListener};
pub use origin::{Identities, OriginPlan};
