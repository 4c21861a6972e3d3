//! From signals, plan and view to a verdict, and from verdicts to proposals of decisions.
//!
//! Flow in names: `DecidePlan` + `View` + address -> [`standing`] -> (inspection) -> [`on_findings`] -> `Verdict`;
//! how often it asks -> [`rate::judge`] -> `Over`; a refusal -> [`strike`] -> `Strike`, and `Proposal` on the last one.
//!
//! INVARIANT: no IO and no clock. An address on the allow-list, an operator's network or a trusted forwarder is
//! never struck and never banned, whatever the view says.
//!
//! Failure direction: a rule or parser that fails refuses the request (`on_error` of the app decides otherwise).

pub mod plan;

pub mod arrivals;
pub mod good;
pub mod strikes;
mod table;

pub mod rate;

pub mod challenge;
pub mod crawler;
pub mod throttle;

pub mod provenance;
pub mod verdict;

pub use arrivals::{Arrival, Arrivals};
pub use challenge::{ChallengeRules, Challenges, Hardship, PassUsed};
pub use crawler::{Claimed, Claims, Crawler, Looked};
pub use good::{GoodActor, GoodTraffic};
pub use plan::{DecidePlan, Exempted, Mode, OnError, StrikeRules};
pub use provenance::Provenance;
pub use strikes::{Denial, StrikeOutcome, StrikeTable, StruckActor, strike};
pub use throttle::{Slowed, ThrottleRules, Throttled};
pub use verdict::{Finding, on_findings, standing, standing_wide};
