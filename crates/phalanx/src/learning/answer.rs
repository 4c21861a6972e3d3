//! What is done because of a signal, beside showing it.
//!
//! This is the seam for an engine that chooses among countermeasures: signal and incident in, at most one proposal out. What it
//! proposes takes the way of every proposal: the node signs it, within what a node alone may order.

use std::sync::Arc;

use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_learn::event::SubjectKind;
use phalanx_learn::{Detector, IncidentId, Signal};
use phalanx_model::event::Proposal;
use phalanx_model::{Actor, Confidence, DecisionKind, RequestId, Swap};
use phalanx_policy::DetectionMode;

/// What an answer is made with.
pub(super) struct Answers {
    pub(super) plan: Arc<Swap<EdgePlan>>,
    pub(super) tables: Arc<NodeTables>,
    /// Proposals that may still be made in this minute.
    left: u32,
    minute: u64,
}

impl Answers {
    pub(super) fn new(plan: Arc<Swap<EdgePlan>>, tables: Arc<NodeTables>) -> Self {
        Self { plan, tables, left: PROPOSALS_PER_MINUTE, minute: 0 }
    }

    /// What is proposed about the subject of a decisive signal: something narrow and short, or nothing.
    ///
    /// An address behind which several people were served well lately is challenged and not banned, and so is whoever a detector is not sure of.
    pub(super) fn to(
        &mut self,
        signal: &Signal,
        incident: IncidentId,
        evidence: RequestId,
        now_ms: u64,
    ) -> Option<Proposal> {
        if self.plan.load().detection.mode != DetectionMode::Act {
            return None;
        }
        let is_trouble = matches!(signal.detector, Detector::Outage | Detector::ErrorStorm);
        if !signal.decisive || is_trouble || signal.confidence == Confidence::Low {
            return None;
        }
        if !matches!(signal.subject.kind, SubjectKind::Address | SubjectKind::Session) {
            return None;
        }
        let actor = signal.subject.actor()?;
        let plan = self.plan.load();
        let ip = match &actor {
            Actor::Ip(ip) => Some(*ip),
            _ => None,
        };
        if ip.is_some_and(|ip| plan.decide.is_exempt(ip)) || !self.may_propose(now_ms) {
            return None;
        }
        let is_shared = ip.is_some_and(|ip| self.tables.good.is_shared(ip, now_ms));
        let kind = match signal.confidence {
            Confidence::High if !is_shared => DecisionKind::Ban,
            _ => DecisionKind::Challenge,
        };
        let confidence_percent = if signal.confidence == Confidence::High { 90 } else { 60 };
        let reason = incident.reason(&format!("{}: {}", signal.detector.name(), signal.reason));
        let for_ms = plan.decide.strikes.first_ban_ms;
        Some(Proposal { actor, kind, reason, evidence, confidence_percent, at_ms: now_ms, for_ms })
    }

    fn may_propose(&mut self, now_ms: u64) -> bool {
        let minute = now_ms / 60_000;
        if minute != self.minute {
            (self.minute, self.left) = (minute, PROPOSALS_PER_MINUTE);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// What one node's detectors may have banned or challenged in a minute: a detector that errs must not empty the house.
const PROPOSALS_PER_MINUTE: u32 = 60;
