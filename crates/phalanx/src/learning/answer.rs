//! What is done because of a signal, beside showing it: the responder chooses (`phalanx_learn::respond`), and what a node may order by itself
//! is proposed.
//!
//! A proposal takes the way of every proposal: the node signs it, within what a node alone may order. What the responder would order beyond that
//! (networks, software, routes) is offered to it by no candidate here, so that it looks for something narrower.

use std::sync::Arc;

use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_learn::correlate::Gravity;
use phalanx_learn::respond::{
    Act, Candidate, Carried, Case, Honest, Limits, Order, Responder, Suspect, Target, carried,
};
use phalanx_learn::{IncidentId, Signal};
use phalanx_model::event::Proposal;
use phalanx_model::limits::REASON_BYTES_MAX;
use phalanx_model::{Actor, Confidence, RequestId, Swap};
use phalanx_policy::DetectionMode;

/// What an answer is made with.
pub(super) struct Answers {
    pub(super) plan: Arc<Swap<EdgePlan>>,
    pub(super) tables: Arc<NodeTables>,
    responder: Responder,
    /// Proposals that may still be made in this minute.
    left: u32,
    minute: u64,
}

impl Answers {
    pub(super) fn new(plan: Arc<Swap<EdgePlan>>, tables: Arc<NodeTables>) -> Self {
        Self { plan, tables, responder: Responder::default(), left: PROPOSALS_PER_MINUTE, minute: 0 }
    }

    /// What is proposed about the subject of a decisive signal: something narrow and short, or nothing.
    pub(super) fn to(
        &mut self,
        signal: &Signal,
        (incident, gravity): (IncidentId, Gravity),
        evidence: RequestId,
        now_ms: u64,
    ) -> Option<Proposal> {
        let plan = self.plan.load();
        if plan.detection.mode != DetectionMode::Act {
            return None;
        }
        let candidates = self.candidates(&plan, signal, now_ms);
        if candidates.is_empty() || !self.has_room(now_ms) {
            return None;
        }
        self.responder.tune(Limits { first_ms: plan.decide.strikes.first_ban_ms, ..Limits::default() });
        let suspects = [Suspect {
            subject: signal.subject,
            detector: signal.detector,
            confidence: signal.confidence,
            decisive: signal.decisive,
            last_ms: signal.at_ms,
            candidates,
        }];
        let mut steps = Vec::new();
        self.responder.consider(&Case { id: incident.0, gravity, suspects: &suspects }, now_ms, &mut steps);
        // What has ended, or is replaced, ends at the nodes by its own end: an order is never longer there than here.
        let (order, why) = steps.into_iter().find_map(|step| match step.act {
            Act::Order(order) | Act::Renew(order) => Some((order, step.reason)),
            _ => None,
        })?;
        let Order { measure, target, until_ms, .. } = order;
        let Carried::ByNode(kind, actor) = carried(measure, &target) else { return None };
        let confidence_percent = if signal.confidence == Confidence::High { 90 } else { 60 };
        let what = format!("{}: {}; {why}", signal.detector.name(), signal.reason);
        let mut reason = incident.reason(&what);
        // A longer one would be refused with its decision.
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        let for_ms = until_ms.saturating_sub(now_ms);
        self.left = self.left.saturating_sub(1);
        Some(Proposal { actor, kind, reason, evidence, confidence_percent, at_ms: now_ms, for_ms })
    }

    /// Whom a node alone may order about to meet a signal's subject, and who else is there.
    fn candidates(&self, plan: &EdgePlan, signal: &Signal, now_ms: u64) -> Vec<Candidate> {
        let Some(actor) = signal.subject.actor() else { return Vec::new() };
        let (honest, exempt) = match &actor {
            Actor::Ip(ip) => (self.honest(*ip, now_ms), plan.decide.is_exempt(*ip)),
            Actor::Session(_) | Actor::Account(_) => (Honest::default(), false),
            _ => return Vec::new(),
        };
        vec![Candidate { target: Target::Actor(actor), honest: Some(honest), exempt }]
    }

    fn honest(&self, ip: std::net::IpAddr, now_ms: u64) -> Honest {
        let actors = self.tables.good.count(ip, now_ms);
        let share = u64::from(actors) * 1_000_000 / CLIENTS_LEAST;
        Honest { actors, share_ppm: u32::try_from(share).unwrap_or(u32::MAX) }
    }

    /// Incidents that turned out to be one share what was tried.
    pub(super) fn absorb(&mut self, incident: u64, absorbed: &[u64]) {
        absorbed
            .iter()
            .filter(|other| **other != incident)
            .for_each(|other| self.responder.merge(*other, incident));
    }

    fn has_room(&mut self, now_ms: u64) -> bool {
        let minute = now_ms / 60_000;
        if minute != self.minute {
            (self.minute, self.left) = (minute, PROPOSALS_PER_MINUTE);
        }
        self.left > 0
    }
}

/// What one node's detectors may have banned or challenged in a minute: a detector that errs must not empty the house.
const PROPOSALS_PER_MINUTE: u32 = 60;
/// Of how many clients a share is reckoned: all are not counted for each signal, and of fewer a share says nothing.
const CLIENTS_LEAST: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_decide::DecidePlan;
    use phalanx_learn::Detector;
    use phalanx_learn::event::Subject;
    use phalanx_model::DecisionKind;

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
        let now_ms = signal.at_ms;
        answers.to(signal, (IncidentId(7), Gravity::Medium), RequestId::from_bits(9), now_ms)
    }

    #[test]
    fn what_is_decisive_about_an_address_is_a_short_ban_that_names_the_incident() {
        let mut answers = answers(DetectionMode::Act);
        let proposal = to(&mut answers, &signal("192.0.2.7")).unwrap();
        assert_eq!((proposal.kind, proposal.actor.to_string()), (DecisionKind::Ban, "192.0.2.7".into()));
        assert_eq!(proposal.for_ms, phalanx_model::limits::BAN_FIRST_MS);
        assert_eq!(proposal.evidence, RequestId::from_bits(9));
        assert_eq!(IncidentId::of_reason(&proposal.reason), Some(IncidentId(7)));
        let expected =
            "scanning: looks for what may be there; scanning 192.0.2.7/32: nobody else is known behind it";
        assert!(proposal.reason.ends_with(expected), "{}", proposal.reason);
        // The same again is nothing new; what goes on in spite of it is met for longer.
        assert_eq!(to(&mut answers, &signal("192.0.2.7")), None);
        let later = Signal { at_ms: NOW_MS + proposal.for_ms - 1_000, ..signal("192.0.2.7") };
        let again = to(&mut answers, &later).unwrap();
        assert!(again.kind == DecisionKind::Ban && again.for_ms > proposal.for_ms, "{again:?}");
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
