//! What one node learns protects all: decisions shared between nodes and merged into the one `View` that the data plane reads.
//!
//! Flow in names: `Proposal` or operator -> `FleetHandle` signs a `Change` -> `Registers` (merged at once) -> `View` swapped ->
//! `Fleet` engine (redb, then NATS) -> other nodes' `ingest` -> `Registers` -> `View`.
//!
//! `registers` is a pure core: input and `now` in, effects out. `LocalFleet` and `NatsFleet` only carry and keep bytes;
//! what a record may do is decided by its signature and `trust::authority`, on every receipt, whatever carried it.
//! `compact` packs the view anew behind everything else and keeps it as a file; with that file and the records `restore` starts.
//! A node that knows nothing begins with what a control node packed (`primer`). `digests` tells nodes whether they hold the same.
//! `blocklists` keeps the content of lists in force, whose records are changes as all others.
//! `policy` distributes signed bundles, one record for all, replaced by compare-and-swap.
//! `held` keeps back from the view what would refuse too many clients served well, until an operator answers through `settle`.
//! `learned` carries what nodes learn of requests: counts, signals, incidents.
//! `shelf` shares secrets among the nodes of a site, each sealed to one of them.
//! `history` carries what the nodes of a site recorded to its control nodes.
//! `operators` shares the accounts of operators among the control nodes of the fleet, each sealed to one of them.
//! Members are counted above the engine, because only a signed heartbeat counts.
//!
//! INVARIANT: a change takes effect here before it is sent anywhere, and no failure of disk or network undoes it.
//! INVARIANT: a decision is never enforced past `expires_at_ms`; time-to-live in an engine is only garbage collection.
//! INVARIANT: the ledger holds each change once in the fleet: at the node that wrote it, before it took effect.

pub mod error;

pub mod change;
mod held;
mod here;
pub mod hybrid_clock;
mod listed;
mod ranges;
mod recalls;
pub mod registers;
pub mod subject;
mod table;
mod turns;

pub mod store;

pub mod engine;
pub mod local;
pub mod nats;

mod blocklists;
mod clocks;
mod compact;
mod counts;
mod digests;
mod history;
mod ingest;
mod inherit;
mod inquiry;
mod learned;
mod members;
mod operators;
mod orders;
mod outbox;
mod packed;
mod primer;
mod pulse;
mod restore;
mod revoke;
mod settle;
mod shared;
mod shelf;
mod singleton;
mod snapshot;
mod trail;

pub mod handle;
pub mod list_text;
pub mod policy;

pub use blocklists::{BlocklistState, NewBlocklist};
pub use change::Change;
pub use counts::{CountReach, CountsToSum, CountsTold};
pub use engine::{BlobHash, Delivery, Fleet, Lease, Put, Receipt, Speed, Topic};
pub use error::FleetError;
pub use handle::{FleetHandle, FleetKeys, FleetSettings, NewDecision, Parts, Remembered};
pub use history::{HISTORY_BROUGHT_MAX, HistoryCarrier, HistoryParcel};
pub use inquiry::{Answer, Question};
pub use learned::{Learned, LearnedKind, LearnedReader};
pub use local::LocalFleet;
pub use members::{Link, Member, SILENCE_MAX_MS};
pub use nats::{NatsFleet, NatsSettings, Sites};
pub use orders::{Duty, NodeOrder, Standing};
pub use policy::{
    Bundle, BundleRef, KeptPolicy, NewBundle, PolicyFile, PolicyHealth, PolicyRecord, Running, Stage,
};
pub use ranges::RangeProposal;
pub use settle::{GoodPort, HeldKind, HeldOrder, LocateFn, Settled};
pub use shared::FleetStatus;
pub use shelf::{Keeps, Shelf};
pub use singleton::{Singleton, TAKEOVER_MAX};
pub use snapshot::{Restored, SNAPSHOT_BYTES_MAX, Tally};
pub use trail::{Trace, TrailReading, whole_key};
pub use turns::Turns;
