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

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_decide::DecidePlan;
    use phalanx_learn::event::Subject;

    const NOW_MS: u64 = 1_767_571_200_000;

    fn answers(mode: DetectionMode) -> Answers {
        let decide = DecidePlan {
            allow: ["198.51.100.0/24".parse().unwrap()].into_iter().collect(),
            ..DecidePlan::default()
        };
        let mut plan = EdgePlan::new(1, decide, Vec::new());
        plan.detection.mode = mode;
        Answers::new(Arc::new(Swap::new(plan)), Arc::default())
    }

    fn signal(ip: &str) -> Signal {
        Signal {
            at_ms: NOW_MS,
            detector: Detector::Scanning,
            subject: Subject::address(ip.parse().unwrap()),
            confidence: Confidence::High,
            decisive: true,
            reason: "looks for what may be there".into(),
            events: 20,
            nodes: vec![Signal::OWN],
            links: Vec::new(),
        }
    }

    fn to(answers: &mut Answers, signal: &Signal) -> Option<Proposal> {
        answers.to(signal, IncidentId(7), RequestId::from_bits(9), NOW_MS)
    }

    #[test]
    fn what_is_decisive_about_an_address_is_a_short_ban_that_names_the_incident() {
        let proposal = to(&mut answers(DetectionMode::Act), &signal("192.0.2.7")).unwrap();
        assert_eq!((proposal.kind, proposal.actor.to_string()), (DecisionKind::Ban, "192.0.2.7".into()));
        assert_eq!(proposal.for_ms, phalanx_model::limits::BAN_FIRST_MS);
        assert_eq!(proposal.evidence, RequestId::from_bits(9));
        assert_eq!(IncidentId::of_reason(&proposal.reason), Some(IncidentId(7)));
        assert!(proposal.reason.ends_with(": scanning: looks for what may be there"));
    }

    #[test]
    fn nothing_is_done_about_whom_it_could_hurt_or_what_is_not_sure() {
        let whole = signal("192.0.2.7");
        let network = Subject::prefix("192.0.2.7".parse().unwrap());
        for (what, signal) in [
            ("exempt", signal("198.51.100.7")),
            ("hearsay", Signal { decisive: false, ..whole.clone() }),
            ("trouble", Signal { detector: Detector::Outage, ..whole.clone() }),
            ("a network", Signal { subject: network, ..whole.clone() }),
            ("unsure", Signal { confidence: Confidence::Low, ..whole.clone() }),
        ] {
            assert_eq!(to(&mut answers(DetectionMode::Act), &signal), None, "{what}");
        }
        for mode in [DetectionMode::Off, DetectionMode::Observe] {
            assert_eq!(to(&mut answers(mode), &whole), None);
        }
    }

    #[test]
    fn who_shares_an_address_with_people_is_challenged() {
        let mut answers = answers(DetectionMode::Act);
        let ip = "192.0.2.7".parse().unwrap();
        (0..50).for_each(|session| answers.tables.good.note(ip, session, NOW_MS));
        assert_eq!(to(&mut answers, &signal("192.0.2.7")).unwrap().kind, DecisionKind::Challenge);
        let unsure = Signal { confidence: Confidence::Medium, ..signal("192.0.2.8") };
        assert_eq!(to(&mut answers, &unsure).unwrap().kind, DecisionKind::Challenge);
    }

    #[test]
    fn a_detector_that_errs_orders_only_so_much_in_a_minute() {
        let mut answers = answers(DetectionMode::Act);
        let made = (0..250).filter(|n| to(&mut answers, &signal(&format!("192.0.2.{n}"))).is_some()).count();
        assert_eq!(u32::try_from(made).unwrap(), PROPOSALS_PER_MINUTE);
    }
}
