//! What is done because of a signal, beside showing it: the responder chooses (`phalanx_learn::respond`), and what it chooses is carried out.
//!
//! ```text
//! signal of this node's own learner -> candidates with who else is behind each -> Responder -> steps -> Move: a proposal, an order, an end
//! requests -> Followed (who is honest, who follows), Tolls (who is turned away), hits (what still goes on) -> Responder -> steps
//! ```
//!
//! About one subscriber the node proposes, and all nodes obey. About more (software, networks, routes) it orders itself alone, and the node that
//! names incidents, if it speaks for operators, orders all. Nothing here acts on what other nodes say: a signal is this node's own, and
//! decisive.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_fleet::NewDecision;
use phalanx_learn::correlate::Incident;
use phalanx_learn::event::{Subject, SubjectKind};
use phalanx_learn::respond::{
    Act, Candidate, Carried, Case, Limits, Measure, Order, OrderId, Responder, Step, Suspect, Target, carried,
};
use phalanx_learn::{Detector, IncidentId, Signal};
use phalanx_model::event::Proposal;
use phalanx_model::limits::{HERE_FOR_MAX_MS, REASON_BYTES_MAX};
use phalanx_model::{Actor, ActorKey, Confidence, Prefix, RequestId, Swap};
use phalanx_policy::DetectionMode;

use super::followed::Followed;
use super::latest::Trace;
use super::tee::{About, Seen, about};
use super::tolls::Tolls;

/// What is to be carried out.
#[derive(Debug, Clone)]
pub(super) enum Move {
    /// A decision about one subscriber, in the node's own name.
    Propose(Proposal),
    /// An order about many.
    Order(NewDecision),
    /// What was ordered about an actor because of an incident ends.
    End { actor: Actor, incident: IncidentId, reason: String },
}

/// What an answer is made with.
pub(super) struct Answers {
    pub(super) plan: Arc<Swap<EdgePlan>>,
    pub(super) tables: Arc<NodeTables>,
    responder: Responder,
    tolls: Tolls,
    followed: Followed,
    /// Orders in force by whom they are about.
    in_force: HashMap<About, InForce>,
    /// Proposals that may still be made in this minute, and orders about many.
    left: u32,
    wide_left: u32,
    minute: u64,
}

/// An order as it was carried out.
#[derive(Debug, Clone)]
struct InForce {
    id: OrderId,
    /// When the incident that it answers began.
    opened_ms: u64,
    /// How, where it is about many: given again before it ends.
    wide: Option<NewDecision>,
    /// When it ends where it is enforced.
    ends_ms: u64,
}

impl Answers {
    pub(super) fn new(plan: Arc<Swap<EdgePlan>>, tables: Arc<NodeTables>) -> Self {
        Self {
            plan,
            tables,
            responder: Responder::default(),
            tolls: Tolls::default(),
            followed: Followed::new(phalanx_trust::random_u64()),
            in_force: HashMap::new(),
            left: PROPOSALS_PER_MINUTE,
            wide_left: WIDE_PER_MINUTE,
            minute: 0,
        }
    }

    /// Learns from a request who is honest, and how orders fare.
    pub(super) fn see(&mut self, seen: &Seen) {
        let of = |about: About| self.in_force.get(&about).map(|order| (order.id, order.opened_ms));
        let by_key = |key| of((key, None));
        let event = &seen.event;
        if let Some(under) = seen.under
            && let Some((order, opened_ms)) = of(under.about)
        {
            // Who is refused still comes: what it is refused for is not over.
            self.responder.hit(order, event.at_ms);
            if let Some(who) = self.followed.regular(event, opened_ms) {
                self.tolls.note(order, who, under.refused);
            } else if !matches!(under.about.0, ActorKey::Route(_)) {
                // Strangers to a route are anybody; whom a narrower order meets in vain is of its incident.
                let of = self.responder.orders().find(|one| one.id == order);
                of.inspect(|of| self.followed.met(of.case, of.detector, event));
            }
            return;
        }
        if !self.in_force.is_empty()
            && let Some((order, opened_ms)) = event.software.and_then(|id| by_key(ActorKey::Software(id)))
            && let Some(who) = self.followed.regular(event, opened_ms)
        {
            self.tolls.note(order, who, false);
        }
        if let Some(is_refused) = seen.raised
            && let Some((order, opened_ms)) = by_key(ActorKey::Rules(seen.asked.app))
            && let Some(who) = self.followed.regular(event, opened_ms)
        {
            // What is surely an attack the usual rules would have refused as well.
            self.tolls.note(order, who, is_refused && event.attack != Some(Confidence::High));
        }
        if seen.under.is_none() {
            self.followed.see(event);
        }
    }

    /// A signal of an incident leaves a trail.
    pub(super) fn follow(&mut self, incident: &Incident, signal: &Signal, trace: Trace) {
        self.followed.note(incident, signal, &trace);
    }

    /// Once a second: what is to be done about those who are of an open incident though no detector named them. They are asked for a proof at most.
    pub(super) fn kin<'a>(
        &mut self,
        incidents: impl Iterator<Item = &'a Incident>,
        now_ms: u64,
    ) -> Vec<Move> {
        self.followed.tick(now_ms);
        let plan = self.plan.load();
        let mut moves = Vec::new();
        for incident in incidents.filter(|_| plan.detection.mode == DetectionMode::Act) {
            let Some(request) = incident.evidence.last() else { continue };
            let trace = Trace::of_request(RequestId::from_bits(*request));
            for suspect in self.followed.kin(incident, &|actor| is_exempt(&plan, actor, now_ms), now_ms) {
                let because = Signal {
                    at_ms: suspect.last_ms,
                    detector: suspect.detector,
                    subject: suspect.subject,
                    confidence: suspect.confidence,
                    decisive: true,
                    reason: "does the same as those whom the incident is about, and has something in common with them".into(),
                    events: 1,
                    nodes: Vec::new(),
                    links: Vec::new(),
                };
                if !self.has_room(is_wide(&because), now_ms) {
                    continue;
                }
                let mut steps = Vec::new();
                let case = Case {
                    id: incident.id,
                    gravity: incident.own_gravity(),
                    suspects: std::slice::from_ref(&suspect),
                };
                self.responder.consider(&case, now_ms, &mut steps);
                moves.extend(self.carry(steps, Some((&because, incident, trace)), now_ms));
            }
        }
        moves
    }

    /// What is to be done about the subject of a decisive signal.
    pub(super) fn to(
        &mut self,
        signal: &Signal,
        incident: &Incident,
        trace: Trace,
        now_ms: u64,
    ) -> Vec<Move> {
        let plan = self.plan.load();
        if plan.detection.mode != DetectionMode::Act || !signal.decisive {
            return Vec::new();
        }
        let candidates = self.candidates(&plan, signal, incident, &trace, now_ms);
        if candidates.is_empty() || !self.has_room(is_wide(signal), now_ms) {
            return Vec::new();
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
        let case = |suspects| Case { id: incident.id, gravity: incident.own_gravity(), suspects };
        self.responder.consider(&case(&suspects), now_ms, &mut steps);
        let mut moves = self.carry(steps, Some((signal, incident, trace)), now_ms);
        if let Some(suspect) = self.app_under_attack(&plan, signal, (incident, &trace), now_ms)
            && self.has_room(true, now_ms)
        {
            let (mut steps, suspects) = (Vec::new(), [suspect]);
            self.responder.consider(&case(&suspects), now_ms, &mut steps);
            moves.extend(self.carry(steps, Some((signal, incident, trace)), now_ms));
        }
        moves
    }

    /// The app that attacks of one incident go on against from ever other addresses, where policy has stricter rules ready for it: they have
    /// nothing narrower in common that could be met.
    fn app_under_attack(
        &self,
        plan: &EdgePlan,
        signal: &Signal,
        (incident, trace): (&Incident, &Trace),
        now_ms: u64,
    ) -> Option<Suspect> {
        let tries_holes = matches!(signal.detector, Detector::Scanning | Detector::Exploiting);
        let app = trace.asked.app;
        plan.raises(app).filter(|_| tries_holes)?;
        let met = self.responder.orders().filter(|one| {
            one.case == incident.id
                && matches!(one.target, Target::Actor(Actor::Ip(_) | Actor::Client { .. }))
        });
        let addresses: BTreeSet<_> = met.filter_map(|one| actor_of(one).map(|actor| actor.key())).collect();
        if addresses.len() < ADDRESSES_LEAST {
            return None;
        }
        Some(Suspect {
            subject: Subject::new(SubjectKind::App, app),
            detector: signal.detector,
            confidence: signal.confidence,
            decisive: signal.decisive,
            last_ms: signal.at_ms,
            candidates: vec![self.followed.app(incident, trace, now_ms)],
        })
    }

    /// Once a second: what hurts or is over ends, and what goes on is given again in time. `undone`: whether an operator ended what was done
    /// because of an incident.
    pub(super) fn tick(&mut self, undone: impl Fn(u64) -> bool, now_ms: u64) -> Vec<Move> {
        let mut steps = Vec::new();
        for (order, toll) in self.tolls.news() {
            self.responder.toll(order, toll, now_ms, &mut steps);
        }
        let mut over: Vec<u64> = self.responder.orders().map(|order| order.case).collect();
        over.dedup();
        over.retain(|case| undone(*case));
        for case in over {
            self.responder.undo(case, "an operator undid the incident", now_ms, &mut steps);
        }
        self.responder.tick(now_ms, &mut steps);
        let mut moves = self.carry(steps, None, now_ms);
        moves.extend(self.again(now_ms));
        moves
    }

    /// Orders about many hold for a quarter of an hour at most: those that are to hold longer are given again.
    fn again(&mut self, now_ms: u64) -> Vec<Move> {
        let Self { responder, in_force, .. } = self;
        let mut moves = Vec::new();
        for order in responder.orders() {
            let Some(actor) = actor_of(order) else { continue };
            let Some(known) = in_force.get_mut(&about(&actor)).filter(|known| known.id == order.id) else {
                continue;
            };
            let is_soon =
                known.ends_ms.saturating_sub(now_ms) < AGAIN_BEFORE_MS && known.ends_ms < order.until_ms;
            let Some(wide) = known.wide.as_mut().filter(|_| is_soon) else { continue };
            wide.for_ms = order.until_ms.saturating_sub(now_ms).min(HERE_FOR_MAX_MS);
            known.ends_ms = now_ms.saturating_add(wide.for_ms);
            moves.push(Move::Order(wide.clone()));
        }
        moves
    }

    /// Turns what the responder decided into what nodes do.
    fn carry(
        &mut self,
        steps: Vec<Step>,
        because: Option<(&Signal, &Incident, Trace)>,
        now_ms: u64,
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        for Step { case, act, reason, .. } in steps {
            match act {
                Act::Order(order) | Act::Renew(order) => {
                    moves.extend(because.and_then(|because| self.begin(&order, &reason, because, now_ms)));
                }
                Act::Withdraw(order) | Act::Ended(order) => {
                    moves.extend(self.end(&order, IncidentId(case), reason));
                }
                Act::Nothing(_) => {}
            }
        }
        moves
    }

    fn begin(
        &mut self,
        order: &Order,
        why: &str,
        (signal, of, trace): (&Signal, &Incident, Trace),
        now_ms: u64,
    ) -> Option<Move> {
        let incident = IncidentId(order.case);
        let mut what = format!("{}: {}; {why}", signal.detector.name(), signal.reason);
        if let (Measure::RaiseParanoia, Target::App(app)) = (order.measure, &order.target)
            && let Some((name, level)) = self.plan.load().raises(*app)
        {
            what.insert_str(0, &format!("paranoia of app {name} raised to {level}; "));
        }
        let for_ms = order.until_ms.saturating_sub(now_ms);
        let (evidence, at_ms) = (trace.request, now_ms);
        let (of_order, key, wide) = match carried(order.measure, &order.target) {
            Carried::NotYet(_) => return None,
            Carried::ByNode(kind, actor) => {
                self.left = self.left.saturating_sub(1);
                let (reason, key) = (cut(incident.reason(&what)), about(&actor));
                let confidence_percent = if signal.confidence == Confidence::High { 90 } else { 60 };
                let made = Proposal { actor, kind, reason, evidence, confidence_percent, at_ms, for_ms };
                (Move::Propose(made), key, None)
            }
            Carried::ByOperator(kind, actor) => {
                self.wide_left = self.wide_left.checked_sub(1)?;
                let (key, evidence) = (about(&actor), Some(evidence));
                let reason = cut(incident.automatic_reason(&what));
                let for_ms = for_ms.min(HERE_FOR_MAX_MS);
                let made = NewDecision { actor, kind, for_ms, reason, evidence };
                (Move::Order(made.clone()), key, Some(made))
            }
        };
        let ends_ms = now_ms.saturating_add(wide.as_ref().map_or(for_ms, |wide| wide.for_ms));
        if self.in_force.len() < Limits::default().orders_max || self.in_force.contains_key(&key) {
            self.in_force.insert(key, InForce { id: order.id, opened_ms: of.opened_ms, wide, ends_ms });
        }
        Some(of_order)
    }

    /// Nothing, if another order about the same actor took the place of this one.
    fn end(&mut self, order: &Order, incident: IncidentId, reason: String) -> Option<Move> {
        self.tolls.forget(order.id);
        let actor = actor_of(order)?;
        let is_current = self.in_force.get(&about(&actor)).is_some_and(|known| known.id == order.id);
        is_current.then(|| {
            self.in_force.remove(&about(&actor));
            Move::End { actor, incident, reason: cut(incident.reason(&reason)) }
        })
    }

    /// Whom an order could be about to meet a signal's subject, narrowest first, and who else is there.
    fn candidates(
        &self,
        plan: &EdgePlan,
        signal: &Signal,
        incident: &Incident,
        trace: &Trace,
        now_ms: u64,
    ) -> Vec<Candidate> {
        // What few addresses do is met at these.
        if signal.subject.kind == SubjectKind::Software && !is_from_many(signal) {
            return Vec::new();
        }
        let is_exempt = |actor: &Actor| is_exempt(plan, actor, now_ms);
        let mut candidates = self.followed.named(incident, signal, trace, &is_exempt, now_ms);
        if !self.followed.is_informed(incident) {
            // The data plane may know more: it is told by the process before it.
            for candidate in &mut candidates {
                if let (Target::Actor(Actor::Ip(ip)), Some(honest)) =
                    (&candidate.target, &mut candidate.honest)
                {
                    honest.actors = honest.actors.max(self.tables.good.count(*ip, now_ms));
                }
            }
        }
        candidates
    }

    /// Incidents that turned out to be one share what was tried.
    pub(super) fn absorb(&mut self, incident: u64, absorbed: &[u64]) {
        absorbed
            .iter()
            .filter(|other| **other != incident)
            .for_each(|other| self.responder.merge(*other, incident));
    }

    fn has_room(&mut self, is_wide: bool, now_ms: u64) -> bool {
        let minute = now_ms / 60_000;
        if minute != self.minute {
            (self.minute, self.left, self.wide_left) = (minute, PROPOSALS_PER_MINUTE, WIDE_PER_MINUTE);
        }
        if is_wide { self.wide_left > 0 } else { self.left > 0 }
    }
}

/// Whether what software does comes from so many addresses that orders about these would come too late each time. Of software that many people
/// have, addresses are not named, and it is not met unless it floods.
fn is_from_many(signal: &Signal) -> bool {
    let addresses = signal.links.iter().map(|link| link.entity).filter(|entity| entity.is_address());
    signal.detector == Detector::Flood || addresses.collect::<BTreeSet<_>>().len() >= ADDRESSES_LEAST
}

/// Whether what is ordered because of a signal is about many.
fn is_wide(signal: &Signal) -> bool {
    use SubjectKind::{Prefix, Route, Secret, Software};
    matches!(signal.subject.kind, Prefix | Route | Secret | Software)
}

/// Whom an order is about, as nodes know it.
fn actor_of(order: &Order) -> Option<Actor> {
    match carried(order.measure, &order.target) {
        Carried::ByNode(_, actor) | Carried::ByOperator(_, actor) => Some(actor),
        Carried::NotYet(_) => None,
    }
}

/// Whether an actor is, or a network has in it, somebody about whom nothing is ever ordered.
fn is_exempt(plan: &EdgePlan, actor: &Actor, now_ms: u64) -> bool {
    let network = match actor {
        Actor::Ip(ip) | Actor::Client { ip, .. } => return plan.decide.is_exempt(*ip, now_ms),
        Actor::Prefix(network) => network,
        _ => return false,
    };
    let touches = |one: Prefix| one.contains(&network.addr()) || network.contains(&one.addr());
    plan.decide.exempt(now_ms).any(touches)
}

/// A longer reason would be refused with its decision.
fn cut(mut reason: String) -> String {
    while reason.len() > REASON_BYTES_MAX {
        reason.pop();
    }
    reason
}

/// Addresses from which on it is the software that is met: more than a person or an office has.
const ADDRESSES_LEAST: usize = 5;
/// Orders about many that one node gives in a minute.
const WIDE_PER_MINUTE: u32 = 6;
/// An order that is to go on is given again so long before it ends.
const AGAIN_BEFORE_MS: u64 = 30_000;

/// What one node's detectors may have banned or challenged in a minute: a detector that errs must not empty the house.
const PROPOSALS_PER_MINUTE: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_decide::DecidePlan;
    use phalanx_learn::event::{self, Outcome};
    use phalanx_learn::link::{Entity, Link};
    use phalanx_learn::{Correlator, Docket};
    use phalanx_model::DecisionKind;

    use super::super::tee::Under;
    use super::super::tee::tests::seen;

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

    fn incident(signal: &Signal) -> Incident {
        let mut correlator = Correlator::default();
        correlator.add(&Signal { at_ms: NOW_MS, links: Vec::new(), ..signal.clone() });
        let mut incident = correlator.incidents().next().unwrap().clone();
        incident.id = 7;
        incident
    }

    fn moves(answers: &mut Answers, signal: &Signal) -> Vec<Move> {
        answers.to(signal, &incident(signal), Trace::of(&seen("192.0.2.1", 1)), signal.at_ms)
    }

    fn to(answers: &mut Answers, signal: &Signal) -> Option<Proposal> {
        moves(answers, signal).into_iter().find_map(|one| match one {
            Move::Propose(proposal) => Some(proposal),
            Move::Order(_) | Move::End { .. } => None,
        })
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
            ("a network of which nobody knows who is there", Signal { subject: network, ..whole.clone() }),
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
        // Also if only the data plane knows it, from the process before this one.
        (0..50).for_each(|session| answers.tables.good.note(ip, session, NOW_MS));
        assert_eq!(to(&mut answers, &signal("192.0.2.7")).unwrap().kind, DecisionKind::Challenge);
        let unsure = Signal { confidence: Confidence::Medium, ..signal("192.0.2.8") };
        assert_eq!(to(&mut answers, &unsure).unwrap().kind, DecisionKind::Challenge);
    }

    const FLOOD: u64 = 77;

    fn flood(at_ms: u64) -> Signal {
        let subject = Subject::new(SubjectKind::Software, FLOOD);
        Signal { at_ms, detector: Detector::Flood, subject, ..signal("192.0.2.1") }
    }

    /// A visitor who comes for two minutes before anything happens.
    fn regular(answers: &mut Answers, ip: &str, software: u64) {
        for before_ms in [120_000, 60_000, 1_000] {
            let mut one = seen(ip, software);
            one.event.at_ms = NOW_MS - before_ms;
            answers.see(&one);
        }
    }

    /// The same, who asks for one of the learner's routes.
    fn regular_at(answers: &mut Answers, ip: &str, route: u64) {
        for before_ms in [120_000, 60_000, 1_000] {
            let mut one = seen(ip, 1);
            (one.event.at_ms, one.event.route) = (NOW_MS - before_ms, route);
            answers.see(&one);
        }
    }

    fn ordered(moves: Vec<Move>) -> Option<(DecisionKind, Actor, u64)> {
        moves.into_iter().find_map(|one| match one {
            Move::Order(order) => Some((order.kind, order.actor, order.for_ms)),
            Move::Propose(_) | Move::End { .. } => None,
        })
    }

    /// A request of somebody with the flood's software, refused under what is ordered about it.
    fn refused(answers: &mut Answers, ip: &str, at_ms: u64) {
        let mut one = seen(ip, FLOOD);
        one.event.at_ms = at_ms;
        one.event.status = 0;
        one.under = Some(Under { about: (ActorKey::Software(FLOOD), None), refused: true });
        answers.see(&one);
    }

    #[test]
    fn a_floods_software_is_refused_until_a_minute_after_its_last_request() {
        let mut answers = answers(DetectionMode::Act);
        (0..60).for_each(|n| regular(&mut answers, &format!("192.0.2.{n}"), 1));
        let (kind, actor, for_ms) = ordered(moves(&mut answers, &flood(NOW_MS))).unwrap();
        assert_eq!((kind, actor.clone()), (DecisionKind::Ban, Actor::Software(FLOOD)));
        assert!(for_ms <= HERE_FOR_MAX_MS);
        for second in 1..=90 {
            refused(&mut answers, "198.51.100.9", NOW_MS + second * 1_000);
            assert!(answers.tick(|_| false, NOW_MS + second * 1_000).is_empty(), "it goes on");
        }
        assert!(answers.tick(|_| false, NOW_MS + 149_000).is_empty());
        let over = answers.tick(|_| false, NOW_MS + 150_000);
        assert!(matches!(&over[..], [Move::End { actor: ended, .. }] if *ended == actor), "{over:?}");
    }

    #[test]
    fn software_that_honest_visitors_have_is_challenged_and_accounts_do_not_count() {
        let mut shared = answers(DetectionMode::Act);
        (0..60).for_each(|n| regular(&mut shared, &format!("192.0.2.{n}"), FLOOD));
        let (kind, ..) = ordered(moves(&mut shared, &flood(NOW_MS))).unwrap();
        assert_eq!(kind, DecisionKind::Challenge);

        let mut known = answers(DetectionMode::Act);
        for n in 0..60_u64 {
            for before_ms in [120_000, 1_000] {
                let mut one = seen("192.0.2.1", FLOOD);
                one.event.at_ms = NOW_MS - before_ms;
                (one.event.session, one.event.account) = (Some(n), Some(n));
                known.see(&one);
            }
        }
        let (kind, ..) = ordered(moves(&mut known, &flood(NOW_MS))).unwrap();
        assert_eq!(kind, DecisionKind::Ban, "orders about many spare them");
    }

    #[test]
    fn an_order_that_turns_known_visitors_away_ends_and_something_milder_follows() {
        let mut answers = answers(DetectionMode::Act);
        (0..60).for_each(|n| regular(&mut answers, &format!("192.0.2.{n}"), 1));
        assert_eq!(ordered(moves(&mut answers, &flood(NOW_MS))).unwrap().0, DecisionKind::Ban);
        // They update their browsers to what the flood has.
        for n in 0..3 {
            assert!(answers.tick(|_| false, NOW_MS + 1_000).is_empty());
            refused(&mut answers, &format!("192.0.2.{n}"), NOW_MS + 1_000);
        }
        let hurts = answers.tick(|_| false, NOW_MS + 2_000);
        let [Move::End { reason, .. }] = &hurts[..] else { panic!("{hurts:?}") };
        assert!(reason.contains("it hurts: 3 of 3 known-good"), "{reason}");
        let (kind, ..) = ordered(moves(&mut answers, &flood(NOW_MS + 10_000))).unwrap();
        assert_eq!(kind, DecisionKind::Challenge);
    }

    #[test]
    fn software_is_met_where_it_comes_from_many_addresses_and_not_for_what_one_does() {
        let mut answers = answers(DetectionMode::Act);
        let subject = Subject::new(SubjectKind::Software, FLOOD);
        let from = |count: u8| Signal {
            subject,
            detector: Detector::Stuffing,
            links: (0..count)
                .map(|n| Link { entity: Entity::of(Subject::address([192, 0, 2, n].into())), weight: 0.6 })
                .collect(),
            ..signal("192.0.2.1")
        };
        assert!(moves(&mut answers, &from(4)).is_empty());
        assert_eq!(ordered(moves(&mut answers, &from(5))).unwrap().1, Actor::Software(FLOOD));
    }

    #[test]
    fn what_an_operator_undid_ends_and_does_not_come_again() {
        let mut answers = answers(DetectionMode::Act);
        assert!(ordered(moves(&mut answers, &flood(NOW_MS))).is_some());
        let undone = answers.tick(|case| case == 7, NOW_MS + 1_000);
        assert!(matches!(&undone[..], [Move::End { .. }]), "{undone:?}");
        assert!(moves(&mut answers, &flood(NOW_MS + 20_000)).is_empty());
    }

    #[test]
    fn a_sprayed_password_has_the_place_challenged_where_it_is_tried() {
        let mut answers = answers(DetectionMode::Act);
        let subject = Subject::new(SubjectKind::Secret, 5);
        let spraying = Signal { detector: Detector::Spraying, subject, ..signal("192.0.2.1") };
        assert!(moves(&mut answers, &spraying).is_empty(), "nobody knows who comes there");
        // Of twenty people one logs in.
        (0..20).for_each(|n| regular_at(&mut answers, &format!("192.0.2.{n}"), if n == 0 { 2 } else { 9 }));
        let spraying = Signal { at_ms: NOW_MS + 10_000, ..spraying };
        let (kind, actor, _) = ordered(moves(&mut answers, &spraying)).unwrap();
        assert_eq!((kind, actor), (DecisionKind::Challenge, Actor::Route(2)));
    }

    /// A failed login from a machine of a hoster.
    fn attempt(ip: &str, software: u64, at_ms: u64) -> Seen {
        let mut one = seen(ip, software);
        one.event.at_ms = at_ms;
        one.event.asn = Some(64_500);
        (one.event.step, one.event.status) = (event::Step::Login(Outcome::Failed), 401);
        one
    }

    /// Stuffing with a tool, completed by an attempt; what its kin are met by a second later.
    fn stuffed(answers: &mut Answers, docket: &mut Docket) -> Vec<Move> {
        regular(answers, "192.0.2.1", 1);
        let first = attempt("198.51.100.1", FLOOD, NOW_MS);
        let subject = Subject::new(SubjectKind::Software, FLOOD);
        let signal = Signal { detector: Detector::Stuffing, subject, ..signal("198.51.100.1") };
        let id = docket.add(&signal, Some(9), NOW_MS);
        answers.follow(docket.find(id).unwrap().0, &signal, Trace::of(&first));
        // He goes on with the browser that everybody has, from another machine there.
        answers.see(&attempt("203.0.113.7", 1, NOW_MS + 500));
        let open: Vec<_> = docket.incidents().map(|(incident, _)| incident).collect();
        answers.kin(open.into_iter(), NOW_MS + 1_000)
    }

    #[test]
    fn who_comes_back_as_somebody_else_is_asked_and_so_is_his_provider() {
        let mut answers = answers(DetectionMode::Act);
        let made = stuffed(&mut answers, &mut Docket::default());
        let (kind, actor, _) = ordered(made.clone()).unwrap();
        assert_eq!((kind, actor), (DecisionKind::Challenge, Actor::Asn(64_500)), "{made:?}");
        let narrow = made.into_iter().find_map(|one| match one {
            Move::Propose(proposal) => Some((proposal.kind, proposal.actor)),
            Move::Order(_) | Move::End { .. } => None,
        });
        // Only what he came with there, and not who else is behind the address.
        let follower = Actor::client("203.0.113.7".parse().unwrap(), 1);
        assert_eq!(narrow, Some((DecisionKind::Challenge, follower)));
        // Where nothing is to be done nothing is.
        let mut watching = self::answers(DetectionMode::Observe);
        assert!(stuffed(&mut watching, &mut Docket::default()).is_empty());
    }

    /// A node whose one app has stricter rules ready.
    fn with_raised_level() -> (Answers, u64) {
        let text = "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:1\"\nextra_rules = [\"own.conf\"]\nraise_paranoia = 2\n";
        let (policy, _) = phalanx_policy::parse_policy("policy.toml", text).unwrap();
        let own = ("own.conf".to_owned(), b"SecAction \"id:1,phase:1,pass,nolog\"".to_vec());
        let files = phalanx_policy::FileSet::new([own]);
        let compiled = EdgePlan::compile_from(phalanx_policy::Files::Set(&files), &policy, &Arc::default());
        let mut plan = compiled.unwrap().plan;
        plan.detection.mode = DetectionMode::Act;
        let app = phalanx_model::names::app("shop");
        assert_eq!(plan.raises(app), Some(("shop", 2)));
        (Answers::new(Arc::new(Swap::new(plan)), Arc::default()), app)
    }

    #[test]
    fn an_app_that_is_tried_from_ever_other_addresses_has_its_paranoia_raised_until_that_hurts() {
        let (mut answers, app) = with_raised_level();
        let known = |ip: &str, before_ms: u64| {
            let mut one = seen(ip, 1);
            one.event.at_ms = NOW_MS - before_ms;
            one.asked.app = app;
            one
        };
        for n in 0..60 {
            [120_000, 60_000, 1_000]
                .into_iter()
                .for_each(|ms| answers.see(&known(&format!("192.0.2.{n}"), ms)));
        }
        let tried = |answers: &mut Answers, n: u8| {
            let exploiting = Signal { detector: Detector::Exploiting, ..signal(&format!("203.0.113.{n}")) };
            let mut trace = Trace::of(&seen("203.0.113.1", 1));
            trace.asked.app = app;
            answers.to(&exploiting, &incident(&exploiting), trace, NOW_MS)
        };
        (1..5).for_each(|n| assert_eq!(ordered(tried(&mut answers, n)), None, "each address is met"));
        let made = tried(&mut answers, 5);
        let reason = made.iter().find_map(|one| match one {
            Move::Order(order) => Some(order.reason.clone()),
            Move::Propose(_) | Move::End { .. } => None,
        });
        assert!(reason.unwrap().contains("paranoia of app shop raised to 2; exploit-attempts"));
        let (kind, actor, _) = ordered(made).unwrap();
        assert_eq!((kind, actor.clone()), (DecisionKind::RaiseParanoia, Actor::Rules(app)));
        // Regular visitors are refused by the stricter rules; what is surely an attack does not count for them.
        let mut refused = |n: u8, attack| {
            let mut one = known(&format!("192.0.2.{n}"), 0);
            (one.raised, one.event.attack) = (Some(true), attack);
            answers.see(&one);
            answers.tick(|_| false, NOW_MS + 1_000 * u64::from(n))
        };
        assert!((1..5).all(|n| refused(n, Some(Confidence::High)).is_empty()));
        assert!((5..7).all(|n| refused(n, Some(Confidence::Medium)).is_empty()));
        let hurts = refused(7, Some(Confidence::Medium));
        assert!(matches!(&hurts[..], [Move::End { actor: ended, .. }] if *ended == actor), "{hurts:?}");
    }

    #[test]
    fn orders_about_many_are_few() {
        let mut answers = answers(DetectionMode::Act);
        let made = (0..50).filter(|n| {
            let subject = Subject::new(SubjectKind::Software, *n);
            ordered(moves(&mut answers, &Signal { subject, ..flood(NOW_MS) })).is_some()
        });
        assert_eq!(u32::try_from(made.count()).unwrap(), WIDE_PER_MINUTE);
    }

    #[test]
    fn a_detector_that_errs_orders_only_so_much_in_a_minute() {
        let mut answers = answers(DetectionMode::Act);
        let made = (0..250).filter(|n| to(&mut answers, &signal(&format!("192.0.2.{n}"))).is_some()).count();
        assert_eq!(u32::try_from(made).unwrap(), PROPOSALS_PER_MINUTE);
    }
}
