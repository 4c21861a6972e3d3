//! Policy for the whole fleet: signed bundles, in one order, each with the hash of the one before.
//!
//! Flow in names: operator -> `orders` makes a [`Bundle`], keeps it as a blob, and replaces the fleet's one [`PolicyRecord`] by
//! compare-and-swap -> the stream of the policy's home -> `follow` at each node: signature, rank, chain -> the bundle that is for this
//! node -> the binary checks, compiles and swaps, and says what runs -> heartbeats -> `judge`.
//!
//! The record says which bundle all nodes run (`stable`), which one a part of them tries (`trial`), and the last links of the chain. It
//! travels by the stream alone, never by the core path: a writer that loses the swap must not be heard.
//!
//! INVARIANT: of two records each node chooses the same one, whatever it saw first, or refuses the second and says so.

pub mod bundle;
pub mod judge;
pub mod origin;
pub mod record;

pub(crate) mod follow;
mod kept;
mod orders;

pub use bundle::{Bundle, Manifest};
pub use follow::{Offer, PolicyBeat, PolicyHealth, PolicyNews, PolicyRefused, Running};
pub use kept::{KeptPolicy, PolicyFile};
pub use orders::{NewBundle, PolicyState};
pub use origin::{Maker, Origin, PolicyResult};
pub use record::{BundleRef, PolicyRecord, Stage, Trial};
