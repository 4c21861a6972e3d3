//! A refused or flagged request in the form in which it is kept, shown and explained.

use std::sync::Arc;

use phalanx_model::{
    AccessEvent, Action, Decision, FramingFault, Proposal, RequestId, RuleClass, SecurityEvent, Signal,
    Strike,
};
use serde::{Deserialize, Serialize};

use crate::redact;

/// One request with its evidence. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordedRequest {
    /// The site of the node that served it.
    pub site: Arc<str>,
    /// The node that served it.
    pub node: Arc<str>,
    /// The request and what became of it.
    pub access: AccessEvent,
    /// Findings, at most [`phalanx_model::limits::SIGNALS_KEPT_MAX`].
    pub signals: Vec<Signal>,
    /// Framing faults.
    pub faults: Vec<FramingFault>,
    /// The request with which the reason was kept, where that was another: of many alike only some are kept whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<RequestId>,
}

impl RecordedRequest {
    /// The record of a refused or flagged request, secrets masked.
    pub fn new(
        site: &Arc<str>,
        node: &Arc<str>,
        mut access: AccessEvent,
        mut signals: Vec<Signal>,
        faults: Vec<FramingFault>,
    ) -> Self {
        signals.truncate(phalanx_model::limits::SIGNALS_KEPT_MAX);
        redact::request(&mut access, &mut signals);
        Self { site: Arc::clone(site), node: Arc::clone(node), access, signals, faults, like: None }
    }

    /// The request's id.
    pub fn id(&self) -> RequestId {
        self.access.id
    }

    /// Whether it did not simply get what it asked for.
    pub fn is_stopped(&self) -> bool {
        !matches!(self.access.verdict.action, Action::Allow | Action::Observe)
    }

    /// The ids of the rules that matched, each once, in order.
    pub fn rule_ids(&self) -> Vec<u64> {
        let mut ids = Vec::with_capacity(self.signals.len());
        for signal in &self.signals {
            if signal.rule.id != 0 && !ids.contains(&signal.rule.id) {
                ids.push(signal.rule.id);
            }
        }
        ids
    }

    /// The signal that says most: an interrupting rule's scores are sums, so detections come before bookkeeping,
    /// then the higher score, then the more severe.
    pub fn top_signal(&self) -> Option<&Signal> {
        let rank = |signal: &Signal| {
            let detection = match signal.rule.class {
                RuleClass::Detection(confidence) => 1 + confidence as i32,
                RuleClass::Policy | RuleClass::Protocol => 0,
            };
            let evident =
                signal.matches.iter().any(|m| !m.fragment.is_empty() && !m.variable.starts_with("TX:"));
            let severity = signal.rule.severity.map_or(9, |s| s as i32);
            (!signal.observed, evident, signal.score > 0, detection, signal.score, -severity)
        };
        // `max_by_key` keeps the last of equals; the first finding is the better explanation.
        self.signals.iter().rev().max_by_key(|signal| rank(signal))
    }
}

/// What followed from a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "consequence")]
pub enum Consequence {
    /// It counted against its actor.
    Strike {
        /// The strike.
        strike: Strike,
    },
    /// The node proposed an order because of it.
    Proposal {
        /// The proposal.
        proposal: Proposal,
    },
    /// A decision that names it as its evidence came into force.
    Decision {
        /// The decision.
        decision: Arc<Decision>,
    },
}

impl Consequence {
    /// The request that it followed from.
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Strike { strike } => Some(strike.request),
            Self::Proposal { proposal } => Some(proposal.evidence),
            Self::Decision { decision } => decision.evidence,
        }
    }

    /// What of the security lane is a consequence.
    pub fn of(event: &SecurityEvent) -> Option<Self> {
        match event {
            SecurityEvent::Request { .. } => None,
            SecurityEvent::Strike(strike) => Some(Self::Strike { strike: strike.clone() }),
            SecurityEvent::Proposal(proposal) => Some(Self::Proposal { proposal: proposal.clone() }),
        }
    }
}
