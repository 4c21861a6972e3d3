//! Who is on a trail, who is not, and who speaks for whom.

use super::*;
use crate::correlate::Correlator;
use crate::event::tests::plain;
use crate::link::Link;
use crate::respond::{Act, Case, Limits, Measure, Responder, Scope};

const NOW: u64 = 1_767_571_200_000;
const MINUTE: u64 = 60_000;
const TOOL: u64 = 0x7001;
const BROWSER: u64 = 0xb0;
const HOSTER: u32 = 64_500;

/// A desk that answers: what a node has of all this.
struct Desk {
    correlator: Correlator,
    trails: Trails,
    known: Known,
    responder: Responder,
}

impl Desk {
    fn new() -> Self {
        let mut known = Known::new(7);
        // Somebody came before, from elsewhere.
        known.note(&Event { asn: Some(1), route: 77, ..person(NOW - 60 * MINUTE, 40_000, u64::MAX) });
        Self {
            correlator: Correlator::default(),
            trails: Trails::default(),
            known,
            responder: Responder::new(Limits::default()),
        }
    }

    fn see(&mut self, event: &Event) {
        self.trails.see(event, &self.known);
        self.known.note(event);
    }

    fn find(&mut self, signal: &Signal, event: &Event) {
        let id = self.correlator.add(signal);
        self.trails.note(self.correlator.find(id).unwrap(), signal, Some(event));
    }

    /// What is ordered now, in words.
    fn answer(&mut self, now_ms: u64) -> Vec<String> {
        let ground = Ground { known: &self.known, is_exempt: &|_| false };
        let mut steps = Vec::new();
        for incident in self.correlator.incidents() {
            let suspects = self.trails.suspects(incident, &ground, now_ms);
            let case = Case { id: incident.id, gravity: incident.own_gravity(), suspects: &suspects };
            self.responder.consider(&case, now_ms, &mut steps);
        }
        let of = |act: Act| match act {
            Act::Order(order) => Some(format!("{} {}", order.measure.name(), order.target)),
            _ => None,
        };
        steps.into_iter().filter_map(|step| of(step.act)).collect()
    }
}

fn ip(host: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0x2d00_0000 + 7_919 * host).into()
}

fn login(at_ms: u64, host: u32, software: u64, outcome: Outcome) -> Event {
    Event {
        at_ms,
        software: Some(software),
        agent: Some(software),
        asn: Some(HOSTER),
        account: Some(at_ms),
        step: Step::Login(outcome),
        status: 401,
        ..plain(ip(host))
    }
}

/// Somebody with a session, served well.
fn person(at_ms: u64, host: u32, number: u64) -> Event {
    Event {
        at_ms,
        session: Some(number),
        software: Some(BROWSER),
        agent: Some(BROWSER),
        asn: Some(HOSTER),
        ..plain(ip(host))
    }
}

fn stuffing(event: &Event, subject: Subject) -> Signal {
    Signal {
        at_ms: event.at_ms,
        detector: Detector::Stuffing,
        subject,
        confidence: Confidence::High,
        decisive: true,
        reason: "tries stolen passwords".into(),
        events: 10,
        nodes: vec![Signal::OWN],
        links: Link::of_event(event, subject, Detector::Stuffing, true),
    }
}

fn tool() -> Subject {
    Subject::new(SubjectKind::Software, TOOL)
}

#[test]
fn whoever_is_refused_and_comes_back_as_everybody_is_asked_at_his_first_request() {
    let mut desk = Desk::new();
    let first = login(NOW, 1, TOOL, Outcome::Failed);
    desk.find(&stuffing(&first, tool()), &first);
    let incident = desk.correlator.incidents().next().unwrap().id;
    assert_eq!(desk.answer(NOW), ["block-signature software 0000000000007001"]);
    // He is refused, from his next machine: that shows where his machines are.
    desk.trails.met(incident, Detector::Stuffing, &login(NOW + 5_000, 2, TOOL, Outcome::Unknown));
    assert_eq!(desk.answer(NOW + 6_000), ["challenge AS64500"]);
}

#[test]
fn a_provider_that_good_clients_come_from_is_not_asked_and_its_machines_are() {
    let mut desk = Desk::new();
    desk.see(&person(NOW - 20 * MINUTE, 900, 1));
    let first = login(NOW, 1, TOOL, Outcome::Failed);
    desk.find(&stuffing(&first, tool()), &first);
    desk.answer(NOW);
    // Not for what people there do, but for what his own machine does with other software.
    desk.see(&login(NOW + 10_000, 3, BROWSER, Outcome::Failed));
    assert_eq!(desk.answer(NOW + 11_000), [""; 0]);
    desk.see(&login(NOW + 20_000, 1, BROWSER, Outcome::Failed));
    assert_eq!(desk.answer(NOW + 21_000), [format!("challenge client {BROWSER:016x} at {}", ip(1))]);
}

#[test]
fn what_looks_good_just_before_or_during_an_attack_shields_nobody() {
    let mut desk = Desk::new();
    // From the same provider and with the same route, in the minutes before, and while it goes on.
    for n in 0..40 {
        desk.see(&person(NOW - 4 * MINUTE + u64::from(n) * 10_000, 500 + n, 100 + u64::from(n)));
    }
    for host in [1, 2] {
        let event = login(NOW, host, TOOL, Outcome::Failed);
        desk.find(&stuffing(&event, tool()), &event);
    }
    assert_eq!(desk.answer(NOW), ["block-signature software 0000000000007001", "challenge AS64500"]);
}

#[test]
fn prior_good_behaviour_of_an_address_does_not_shield_a_new_fingerprint_behind_it() {
    let mut desk = Desk::new();
    (0..20).for_each(|number| desk.see(&person(NOW - 30 * MINUTE, 1, number)));
    (20..4_000).for_each(|number| desk.see(&person(NOW - 30 * MINUTE, 100 + low32(number), number)));
    let event = login(NOW, 1, TOOL, Outcome::Failed);
    desk.find(&stuffing(&event, Subject::address(ip(1))), &event);
    // The stranger is refused there. With the software that people have there he is asked, as they are.
    assert_eq!(desk.answer(NOW), [format!("ban client {TOOL:016x} at {}", ip(1))]);
    desk.see(&login(NOW + 20_000, 1, BROWSER, Outcome::Failed));
    assert_eq!(desk.answer(NOW + 21_000), [format!("challenge client {BROWSER:016x} at {}", ip(1))]);
    assert!(desk.responder.orders().all(|order| order.target.scope() == Scope::Client));
}

#[test]
fn strangers_to_a_route_are_asked_when_others_attempts_fail_there_and_not_before() {
    let play = |failed: u32, passed: u32| {
        let mut desk = Desk::new();
        // Of four people one logs in.
        for number in 0..400 {
            let event = Event { route: 9, ..person(NOW - 30 * MINUTE, number, u64::from(number)) };
            desk.see(&Event { route: if number % 4 == 0 { 2 } else { 9 }, ..event });
        }
        let event = login(NOW, 1, TOOL, Outcome::Failed);
        desk.find(&stuffing(&event, tool()), &event);
        desk.answer(NOW);
        let at = |n: u32| NOW + 1_000 + u64::from(n) * 500;
        for n in 0..failed {
            let event = login(at(n), 100 + n, BROWSER, Outcome::Failed);
            desk.see(&Event { asn: Some(3_000 + n), ..event });
        }
        for n in 0..passed {
            let event = login(at(n), 1_000 + n, BROWSER, Outcome::Passed);
            desk.see(&Event { asn: Some(9_000), account: Some(u64::from(n)), status: 302, ..event });
        }
        desk.answer(NOW + 60_000)
    };
    assert_eq!(play(12, 10), ["challenge route 0000000000000002"]);
    // Some of many mistype.
    assert_eq!(play(12, 60), [""; 0]);
    assert_eq!(play(8, 0), [""; 0]);
}

#[test]
fn what_other_nodes_tell_is_on_no_trail_and_ordered_about_by_nobody() {
    let mut desk = Desk::new();
    let event = login(NOW, 1, TOOL, Outcome::Failed);
    let id = desk.correlator.add_told(&stuffing(&event, tool()));
    let told = desk.correlator.find(id).unwrap();
    assert_eq!((told.findings.len(), told.own.len()), (1, 0));
    assert_eq!(desk.answer(NOW), [""; 0]);
    // Of what it finds itself as well it does what its own word is worth.
    let mut likely = stuffing(&event, tool());
    likely.confidence = Confidence::Medium;
    desk.find(&likely, &event);
    assert_eq!(desk.answer(NOW), ["challenge software 0000000000007001"]);
    assert!(desk.responder.orders().all(|order| order.measure == Measure::Challenge));
}

#[test]
fn memory_is_bounded() {
    let mut trails = Trails::default();
    let known = Known::new(7);
    let mut correlator = Correlator::default();
    for n in 0..2_000_u32 {
        let event = login(NOW + u64::from(n), n, TOOL + u64::from(n), Outcome::Failed);
        let event = Event { asn: Some(n), route: u64::from(n), ..event };
        let signal = stuffing(&event, Subject::new(SubjectKind::Software, TOOL + u64::from(n)));
        let id = correlator.add(&signal);
        trails.note(correlator.find(id).unwrap(), &signal, Some(&event));
        trails.see(&Event { asn: Some(3), ..event }, &known);
        trails.met(id, Detector::Stuffing, &event);
    }
    assert!(trails.of.len() <= TRAILS_MAX);
    for trail in trails.of.values() {
        assert!(trail.members.len() <= MEMBERS_MAX && trail.addresses.len() <= MEMBERS_MAX);
        assert!(trail.systems.len() <= SYSTEMS_MAX && trail.routes.len() <= ROUTES_MAX);
        assert!(trail.tools.len() <= TOOLS_MAX);
    }
    trails.tick(NOW + 2 * KEPT_MS);
    assert!(trails.of.is_empty());
}
