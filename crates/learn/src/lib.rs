//! What becomes of events: signals about who does what, and incidents that belong together.
//!
//! ```text
//! Event -> profiles, evidence, what is usual -> detectors -> Signal -> Correlator -> Incident -> Responder -> Step
//!                   |  ^
//!           Summary v  |  of other nodes
//! ```
//!
//! A node counts what it sees in small windows, tells the others of what is notable, and judges by its own counts and a bounded part of
//! theirs (`docs/adr/0030`). Learning runs on the stream of events, beside requests: no request waits for it.
//!
//! Memory, with default sizes: profiles of actors 56 bytes each, 90 MB for a million, 16,384 series of evidence of some 300 bytes (at most 2 KiB, and
//! 1 KiB for each peer that told of one), 1,024 routes' sizes, 10 MB for
//! what is usual (`docs/adr/0033`). When something has no room, what was seen least lately makes it.
//!
//! INVARIANT: no input or output, no clock, no thread. Equal events in equal order give equal results.

pub mod sketch;

pub mod event;

mod evidence;
mod health;
pub mod link;
mod table;

pub mod detect;
pub mod share;

pub mod baseline;

pub mod learner;

pub mod correlate;
pub mod incident_id;
pub mod told;

pub mod docket;

pub mod respond;

pub use baseline::{Baselines, Familiarity};
pub use correlate::{Correlator, Incident};
pub use detect::{Detector, Detectors, Signal};
pub use docket::{Docket, Standing};
pub use event::{Event, Method, NameKey, Outcome, Place, Step, Subject};
pub use incident_id::IncidentId;
pub use learner::Learner;
pub use share::Summary;
pub use told::{IncidentsTold, Kept, Ruling, SignalsTold};
