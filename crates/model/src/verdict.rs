//! What was decided for one request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::RATE_EVIDENCE_KEPT;
use crate::{Decision, FramingFault};

/// What is done with a request, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Pass it on.
    Allow,
    /// Pass it on, and record that it would have been refused.
    Observe,
    /// Ask the client to prove itself first.
    Challenge,
    /// Slow it down or answer 429.
    Throttle,
    /// Answer slowly.
    Tarpit,
    /// Refuse it.
    Deny,
}

impl Action {
    /// Its name in logs, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Challenge => "challenge",
            Self::Throttle => "throttle",
            Self::Tarpit => "tarpit",
            Self::Deny => "deny",
        }
    }
}

/// Why. The visitor never learns which: every refusal has the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// Nothing spoke against it.
    Clean,
    /// The address is on the allow-list.
    AllowListed,
    /// Policy lets no client of its network ask there.
    Network,
    /// Every client there is challenged first, or this one answered a challenge too early.
    Challenge,
    /// A rule interrupted the transaction.
    Rule {
        /// The interrupting rule's id.
        rule: u64,
    },
    /// A standing decision about the actor.
    Decision {
        /// The decision as it stood.
        decision: Arc<Decision>,
    },
    /// The request's framing is not strict HTTP.
    Framing {
        /// The first fault found.
        fault: FramingFault,
    },
    /// The connection or request passed a limit.
    Limit {
        /// The limit's name.
        limit: String,
    },
    /// The client asked more often than a rate limit admits.
    RateLimit(Box<RateExcess>),
    /// A rule or parser failed; the stage fails closed.
    Failure {
        /// What failed.
        stage: String,
    },
    /// The upstream could not be reached or answered badly.
    Upstream {
        /// What happened, for the operator.
        error: String,
    },
}

/// A rate limit, and how it came to be exceeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateExcess {
    /// The limit's name.
    pub limit: Arc<str>,
    /// What is admitted, as policy says it: `100/10s, 10 at once`.
    pub rate: Arc<str>,
    /// Whose count it is: `ip 192.0.2.1`. Values of headers and cookies stand as a hash.
    pub key: String,
    /// Requests of this key that this node admitted since it was last idle.
    pub here: u32,
    /// Requests that other nodes admitted meanwhile, as far as they are heard.
    pub elsewhere: u32,
    /// Requests of this key beyond the limit since then, this one included.
    pub over: u32,
    /// When the next one is admitted, in seconds, rounded up.
    pub retry_after_s: u32,
}

impl RateExcess {
    /// Whether the request is kept as evidence: the first of its key, then each that doubles their number. The others are in the
    /// access log alone, so that a client who does not stop does not push all else out of the history.
    pub fn is_evidence(&self) -> bool {
        self.over <= RATE_EVIDENCE_KEPT || self.over.is_power_of_two()
    }
}

/// The outcome for one request, with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Status of the reply, when the action is to refuse.
    pub status: u16,
    /// Inbound anomaly score.
    pub score: i32,
}

impl Verdict {
    /// Pass the request on.
    pub fn allow(reason: Reason) -> Self {
        Self { action: Action::Allow, reason, status: 200, score: 0 }
    }

    /// Refuse with this status.
    pub fn deny(reason: Reason, status: u16) -> Self {
        Self { action: Action::Deny, reason, status, score: 0 }
    }

    /// Whether the request is refused.
    pub fn refuses(&self) -> bool {
        self.action == Action::Deny
    }
}
