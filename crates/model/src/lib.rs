//! The vocabulary that every other crate speaks: what a request, a signal, a verdict, a decision and an
//! event are, and the immutable snapshots that the data plane reads.
//!
//! Flow in names: `RequestHead` -> `Signal`s -> `Verdict` -> `Event` -> (shared) -> `Decision` -> `View`.
//!
//! INVARIANT: data and pure functions only. No IO, no global state; time arrives as an argument or as a [`Clock`].

pub mod clock;
pub mod limits;

pub mod id;
pub mod net;

pub mod request;
pub mod signal;
pub mod verdict;

pub mod actor;
pub mod blocklist;
pub mod decision;
pub mod good_clients;
pub mod view;

pub mod audit;
pub mod check;
pub mod counters;
pub mod counts;
pub mod deed;
pub mod event;
pub mod lanes;
pub mod latency;
pub mod names;
pub mod recording;
pub mod secret;
pub mod shape;
pub mod swap;
pub mod text;
pub mod trace;

pub use actor::{Actor, ActorKey, Country, Identities, Ja4};
pub use audit::{AuditDetail, AuditParts};
pub use blocklist::{Blocklist, ListContent, ListPrefixes};
pub use check::CheckKind;
pub use clock::{Clock, CorrectedClock, ManualClock, SystemClock};
pub use counts::{CountBatch, CountOf, KeyCount};
pub use decision::{Author, AuthorRole, Decision, DecisionKind, Recall, Withdrawal};
pub use deed::{Deed, Outcome};
pub use event::{
    AccessEvent, ChallengeStep, Event, LedgerEntry, LedgerKind, Phases, Proposal, Raised, SecurityEvent,
    Strike,
};
pub use good_clients::{GoodClients, GoodShare, HoldLimits};
pub use id::{DecisionId, RequestId};
pub use names::NameKey;
pub use net::{Prefix, PrefixSet};
pub use recording::{BodySeen, Recorded, RecordedBatch, RecordedFacts};
pub use request::{BodyFraming, FramingFault, HeaderField, HttpVersion, RequestHead, Span};
pub use signal::{Confidence, Edition, RuleClass, RuleInfo, RuleMatch, ScoreChange, Severity, Signal, Step};
pub use swap::{Retired, Swap};
pub use trace::{SpanId, Trace, TraceId, TraceParent};
pub use verdict::{Action, RateExcess, Reason, Verdict};
pub use view::{Base, Found, Lists, View};
