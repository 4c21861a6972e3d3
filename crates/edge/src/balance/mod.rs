//! Several upstreams of one app: which of them gets a request, which of them work, and when a request is sent again.
//!
//! Flow in names: [`group::UpstreamGroup`] (in the plan) -> [`slot::choose`] ([`pick`], else a place in the queue) -> `Exchange` ->
//! outcomes ([`health`]) -> [`retry::Tries`]. Beside the workers one thread, the [`keeper`], ends ejections, asks servers how they
//! are ([`check`]) and names where they are ([`names`]).
//!
//! What changes is in atomics of an endpoint, which workers share and which outlive a plan: a request adds to three of them in one cache
//! line, allocates nothing and takes no lock. Locks are taken when something fails, or has to wait.
//!
//! Failure directions: what says that a server is down may be wrong, so that when all are said to be down all are tried, unless policy
//! says otherwise. Retries and ejections are bounded by parts of the whole, so that neither can make an outage worse.

pub(crate) mod keeper;

mod check;
pub(crate) mod names;

pub(crate) mod retry;
pub(crate) mod slot;
pub(crate) mod sticky;

pub(crate) mod health;
mod pick;

pub mod group;
