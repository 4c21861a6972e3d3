//! What is done about what is found: the product's correlator, trails and responder, and their orders in force. One for all nodes that tell each other,
//! else one for each.

use std::collections::{BTreeMap, HashMap, HashSet};

use phalanx_learn::correlate::Gravity;
use phalanx_learn::detect::Stage;
use phalanx_learn::respond::{
    Act, Case, Ground, Known, Limits, Measure, Order, OrderId, Responder, Step as Answer, Suspect, Target,
    Toll, Trails, Without, actor,
};
use phalanx_learn::{Correlator, Event, Incident, IncidentsTold, Signal, SignalsTold, Subject};
use phalanx_model::Actor;

/// What an order does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It is refused.
    Refused,
    /// It is asked for a proof, which people give and tools do not.
    Asked,
    /// It came too often under a throttle.
    Slowed,
}

pub(crate) struct Desk {
    pub(crate) correlator: Correlator,
    pub(crate) closed: Vec<Incident>,
    pub(crate) responder: Responder,
    trails: Trails,
    known: Known,
    orders: HashMap<Target, InForce>,
    /// When each session, or client without one, was served well first.
    good: HashMap<u64, u64>,
    tolls: BTreeMap<OrderId, (HashSet<u64>, HashSet<u64>)>,
    acts: bool,
    tells: bool,
    /// How many orders were given, by measure.
    pub(crate) ordered: BTreeMap<Measure, u64>,
    pub(crate) withdrawn: u64,
    pub(crate) first_order_ms: Option<u64>,
    /// When the last order in force ended.
    pub(crate) over_ms: Option<u64>,
    pub(crate) pain_ppm_most: u64,
}

#[derive(Debug, Clone)]
struct InForce {
    order: Order,
    /// When the incident that it answers began.
    opened_ms: u64,
    /// Under a throttle: requests that may still pass, in thousandths, and when that was reckoned.
    left: (u64, u64),
}

impl Desk {
    pub(crate) fn new(seed: u64, acts: bool, without: Without, tells: bool) -> Self {
        Self {
            correlator: Correlator::default(),
            closed: Vec::new(),
            responder: Responder::new(Limits::default()),
            trails: Trails::default().without(without),
            known: Known::new(seed),
            orders: HashMap::new(),
            good: HashMap::new(),
            tolls: BTreeMap::new(),
            acts,
            tells,
            ordered: BTreeMap::new(),
            withdrawn: 0,
            first_order_ms: None,
            over_ms: None,
            pain_ppm_most: 0,
        }
    }

    /// What is ordered about who asks, the harshest first.
    pub(crate) fn meets(&mut self, event: &Event) -> Option<(OrderId, Met)> {
        if event.exempt || self.orders.is_empty() {
            return None;
        }
        let ip = Actor::ip(event.ip);
        let mut met: Option<(OrderId, Met)> = None;
        let targets = [
            event.agent.map(|agent| Target::Actor(Actor::client(event.ip, agent))),
            Some(Target::Actor(ip)),
            Subject::prefix(event.ip).actor().map(Target::Actor),
            event.asn.map(|asn| Target::Actor(Actor::Asn(asn))),
            event.software.map(|id| Target::Software { id, ja4: None }),
            event.session.map(|id| Target::Actor(Actor::Session(id))),
            event.account.map(|id| Target::Actor(Actor::Account(id))),
            Some(Target::Route(event.route)),
        ];
        let first_ms = self.good.get(&actor(event)).copied().unwrap_or(u64::MAX);
        for target in targets.into_iter().flatten() {
            let Some(in_force) = self.orders.get_mut(&target) else { continue };
            let (id, is_route) = (in_force.order.id, matches!(target, Target::Route(_)));
            // A route asks strangers: who was served well before it did is none.
            let is_known = is_route && first_ms < in_force.order.since_ms;
            let new = match in_force.order.measure {
                Measure::Observe | Measure::RaiseParanoia => None,
                Measure::Throttle => in_force.is_spent(event.at_ms).then_some(Met::Slowed),
                Measure::Challenge => Some(Met::Asked).filter(|_| !is_known),
                Measure::LockRoute => Some(Met::Refused).filter(|_| !is_known),
                Measure::Ban | Measure::BlockSignature => Some(Met::Refused),
            };
            let Some(new) = new else { continue };
            if met.is_none_or(|(_, old)| new == Met::Refused && old != Met::Refused) {
                met = Some((id, new));
            }
        }
        met
    }

    /// An attacker's request that an order met. His incident goes on, though he gets nowhere.
    pub(crate) fn hit(&mut self, id: OrderId, event: &Event) {
        self.responder.hit(id, event.at_ms);
        let order = self.responder.orders().find(|order| order.id == id);
        let Some((case, detector)) = order.map(|order| (order.case, order.detector)) else { return };
        self.trails.met(case, detector, event);
        self.correlator.met(case, event);
    }

    /// An order met somebody honest; it counts if he comes regularly.
    pub(crate) fn weigh(&mut self, id: OrderId, met: Met, event: &Event) {
        self.responder.hit(id, event.at_ms);
        let order = self.orders.values().find(|one| one.order.id == id);
        let Some(who) = order.and_then(|one| self.known.regular(event, one.opened_ms)) else { return };
        let (came, refused) = self.tolls.entry(id).or_default();
        came.insert(who);
        // Machines give no proof.
        if met == Met::Refused || event.session.is_none() {
            refused.insert(who);
        }
    }

    /// A request as a node answered it.
    pub(crate) fn see(&mut self, event: &Event) {
        self.trails.see(event, &self.known);
        self.known.note(event);
        if (200..400).contains(&event.status) && event.attack.is_none() {
            self.good.entry(actor(event)).or_insert(event.at_ms);
        }
    }

    /// A signal of a node; `event` completed it, or another node's word.
    pub(crate) fn heed(&mut self, signal: &Signal, event: Option<&Event>) {
        let id = self.correlator.add(signal);
        let Some(incident) = self.correlator.find(id) else { return };
        incident.absorbed.iter().for_each(|other| self.trails.merge(*other, incident.id));
        self.trails.note(incident, signal, event);
    }

    /// What a node tells of what it says it found; none if it is not what is told.
    pub(crate) fn hear(&mut self, signals: &[u8], incidents: &[Vec<u8>], now_ms: u64) -> Option<()> {
        for (mut signal, _) in SignalsTold::from_bytes(signals)?.signals {
            signal.nodes.clear();
            self.correlator.add_told(&signal);
        }
        for message in incidents {
            for mut told in IncidentsTold::from_bytes(message)?.incidents {
                if !Correlator::is_idle(&told, now_ms) {
                    // As of a node that may not lead.
                    told.absorbed.clear();
                    self.correlator.merge(&told);
                }
            }
        }
        Some(())
    }

    /// What is done each second.
    pub(crate) fn second(&mut self, now_ms: u64) {
        self.closed.extend(self.correlator.tick(now_ms));
        self.trails.tick(now_ms);
        if !self.acts {
            return;
        }
        let ground = Ground { known: &self.known, is_exempt: &|_| false };
        type Read = (u64, Gravity, Vec<u64>, Vec<Suspect>);
        let read = |incident: &Incident| -> Read {
            let suspects = self.trails.suspects(incident, &ground, now_ms);
            (incident.id, incident.own_gravity(), incident.absorbed.clone(), suspects)
        };
        let cases: Vec<Read> = self.correlator.incidents().filter(|of| is_attack(of)).map(read).collect();
        let mut answers = Vec::new();
        for (id, gravity, absorbed, suspects) in &cases {
            absorbed.iter().for_each(|other| self.responder.merge(*other, *id));
            let case = Case { id: *id, gravity: *gravity, suspects };
            self.responder.consider(&case, now_ms, &mut answers);
        }
        self.responder.tick(now_ms, &mut answers);
        for (id, (came, refused)) in &self.tolls {
            let count = |of: &HashSet<u64>| u32::try_from(of.len()).unwrap_or(u32::MAX);
            self.responder.toll(
                *id,
                Toll { came: count(came), refused: count(refused) },
                now_ms,
                &mut answers,
            );
        }
        answers.into_iter().for_each(|answer| self.carry_out(answer, now_ms));
        let pain = self.responder.orders().map(|order| order.pain_ppm).sum();
        self.pain_ppm_most = self.pain_ppm_most.max(pain);
    }

    fn carry_out(&mut self, answer: Answer, now_ms: u64) {
        let Answer { act, reason, .. } = answer;
        let of = |order: &Order| format!("{} {}", order.measure.name(), order.target);
        let told = match act {
            Act::Order(order) => {
                self.first_order_ms.get_or_insert(now_ms);
                *self.ordered.entry(order.measure).or_insert(0) += 1;
                let told = format!("orders {}", of(&order));
                self.put(order, now_ms);
                told
            }
            Act::Renew(order) => {
                let told = format!("renews {}", of(&order));
                self.put(order, now_ms);
                told
            }
            Act::Withdraw(order) => {
                self.withdrawn += 1;
                self.end(&order, now_ms);
                format!("withdraws {}", of(&order))
            }
            Act::Ended(order) => {
                self.end(&order, now_ms);
                format!("ends {}", of(&order))
            }
            Act::Nothing(subject) => format!("does nothing about {:?}", subject.kind),
        };
        if self.tells {
            println!("{:>10.1} {told}: {reason}", (now_ms - crate::traffic::BEGIN_MS) as f64 / 1_000.0);
        }
    }

    /// The harsher of two about one target holds; the other comes back by itself if it is still needed.
    fn put(&mut self, order: Order, now_ms: u64) {
        let known = self.orders.get(&order.target);
        if known.is_some_and(|old| old.order.measure > order.measure && old.order.until_ms > now_ms) {
            return;
        }
        let left = known.map_or((THROTTLE_BURST, now_ms), |old| old.left);
        let incident = self.correlator.find(order.case);
        let opened_ms = incident.map_or(order.since_ms, |incident| incident.opened_ms);
        self.orders.insert(order.target.clone(), InForce { order, opened_ms, left });
    }

    fn end(&mut self, order: &Order, now_ms: u64) {
        self.tolls.remove(&order.id);
        if self.orders.get(&order.target).is_some_and(|old| old.order.id == order.id) {
            self.orders.remove(&order.target);
        }
        if self.orders.is_empty() {
            self.over_ms = Some(now_ms);
        }
    }
}

impl InForce {
    /// Whether no more may pass now; one that passes is counted.
    fn is_spent(&mut self, at_ms: u64) -> bool {
        let (left, since_ms) = self.left;
        // A request a second.
        let left = (left + at_ms.saturating_sub(since_ms)).min(THROTTLE_BURST);
        let passes = left >= 1_000;
        self.left = (if passes { left - 1_000 } else { left }, at_ms);
        !passes
    }
}

/// Whether an incident has a finding of an attack that may be acted on.
pub(crate) fn is_attack(incident: &Incident) -> bool {
    let mut sure = incident.own.iter().filter(|(_, finding)| finding.decisive);
    sure.any(|((detector, _), _)| detector.stage() > Stage::Trouble)
}

/// As the product's, in thousandths of a request.
const THROTTLE_BURST: u64 = 30_000;
