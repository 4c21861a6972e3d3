//! What is done about incidents: which countermeasure, against whom, for how long, when more, and when no longer.
//!
//! ```text
//! Case (an incident with its suspects), how honest traffic fares, time -> Responder -> Step: order, renew, withdraw, with its reason
//! ```
//!
//! Each detector has a ladder of countermeasures, from mild and narrow to harsh and wide. A suspect begins where the confidence in it allows, and goes one
//! rung up when it goes on in spite of what was ordered. No rung is taken that would hurt more honest traffic than the gravity of the incident is worth, no
//! matter how sure the detector is (`docs/adr/0035`).
//!
//! INVARIANT: no order without an end, none against the exempt, none wider than the limits, and the estimated pain of all orders together stays below its
//! bound. Equal inputs in equal order give equal steps.

mod ladder;
mod limits;
mod responder;

mod known;
mod trail;

#[cfg(test)]
mod tests;

pub use known::{Known, actor};
pub use ladder::{Carried, Measure, Scope, Target, carried, ladder};
pub use limits::Limits;
pub use responder::{Act, Candidate, Case, Honest, Order, OrderId, Responder, Step, Suspect, Toll};
pub use trail::{Ground, Trails, Without};
