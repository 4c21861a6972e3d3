//! What may be done, what must not, and when it ends.

use std::net::{IpAddr, Ipv4Addr};

use phalanx_model::{Actor, Confidence, DecisionKind};
use proptest::prelude::*;

use super::*;
use crate::correlate::Gravity;
use crate::detect::Detector;
use crate::event::{Subject, SubjectKind};

const NOW: u64 = 1_767_571_200_000;

fn ip(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}

fn candidate(target: Target, actors: u32, share_ppm: u32) -> Candidate {
    Candidate { target, honest: Some(Honest { actors, share_ppm }), exempt: false }
}

/// An address that a detector named, with what it could be met by: the client there, the address, its /24.
fn suspect(host: u8, detector: Detector, last_ms: u64) -> Suspect {
    Suspect {
        subject: Subject::address(ip(host)),
        detector,
        confidence: Confidence::High,
        decisive: true,
        last_ms,
        candidates: vec![
            candidate(Target::Actor(Actor::client(ip(host), 7)), 0, 0),
            candidate(Target::Actor(Actor::ip(ip(host))), 0, 0),
            candidate(Target::Actor(Actor::prefix("192.0.2.0/24".parse().unwrap())), 1, 50),
            candidate(Target::Route(3), 900, 600_000),
        ],
    }
}

fn case(suspects: &[Suspect]) -> Case<'_> {
    Case { id: 1, gravity: Gravity::High, suspects }
}

/// What comes of one look, in words: `order ban client`.
fn look(responder: &mut Responder, case: &Case<'_>, now_ms: u64) -> Vec<String> {
    let mut steps = Vec::new();
    responder.consider(case, now_ms, &mut steps);
    words(&steps)
}

fn words(steps: &[Step]) -> Vec<String> {
    let of = |order: &Order| format!("{} {}", order.measure.name(), order.target.scope().name());
    let word = |step: &Step| match &step.act {
        Act::Order(order) => format!("order {}", of(order)),
        Act::Renew(order) => format!("renew {}", of(order)),
        Act::Withdraw(order) => format!("withdraw {}", of(order)),
        Act::Ended(order) => format!("ended {}", of(order)),
        Act::Nothing(_) => "nothing".to_owned(),
    };
    assert!(steps.iter().all(|step| !step.reason.is_empty()), "each step says why");
    steps.iter().map(word).collect()
}

#[test]
fn the_first_answer_follows_from_confidence_gravity_and_cost() {
    type Change = fn(&mut Suspect);
    let sure: Change = |_| {};
    let likely: Change = |one| one.confidence = Confidence::Medium;
    let hardly: Change = |one| one.confidence = Confidence::Low;
    let hearsay: Change = |one| one.decisive = false;
    let shared: Change = |one| {
        for (place, actors) in [(0, 9), (1, 40)] {
            one.candidates[place].honest = Some(Honest { actors, share_ppm: 300 });
        }
    };
    let unknown: Change = |one| one.candidates.iter_mut().for_each(|one| one.honest = None);
    let costly: Change = |one| {
        one.candidates
            .iter_mut()
            .for_each(|one| one.honest = Some(Honest { actors: 200, share_ppm: 200_000 }));
    };
    let exempt: Change = |one| one.candidates.iter_mut().for_each(|one| one.exempt = true);
    for (detector, gravity, change, expected) in [
        (Detector::Stuffing, Gravity::High, sure, "order ban client"),
        (Detector::Stuffing, Gravity::High, likely, "order challenge client"),
        (Detector::Stuffing, Gravity::Low, sure, "order challenge client"),
        (Detector::Stuffing, Gravity::High, hardly, ""),
        (Detector::Stuffing, Gravity::Critical, hearsay, ""),
        // Many are behind it: nobody is turned away.
        (Detector::Stuffing, Gravity::High, shared, "order challenge client"),
        (Detector::Scanning, Gravity::Medium, shared, "order challenge client"),
        // Of who is behind it nothing is known: the narrowest alone.
        (Detector::Stuffing, Gravity::High, unknown, "order ban client"),
        (Detector::Stuffing, Gravity::Medium, costly, "nothing"),
        (Detector::Stuffing, Gravity::Critical, exempt, "nothing"),
        (Detector::Scanning, Gravity::Medium, sure, "order ban client"),
        (Detector::Scraping, Gravity::High, likely, "order throttle client"),
        (Detector::Flood, Gravity::High, sure, "order ban client"),
        // No trouble of the server's is a visitor's fault.
        (Detector::Outage, Gravity::High, sure, ""),
        (Detector::ErrorStorm, Gravity::High, sure, ""),
    ] {
        let mut one = suspect(7, detector, NOW);
        change(&mut one);
        let mut responder = Responder::new(Limits::default());
        let all = [one];
        let told = look(&mut responder, &Case { gravity, ..case(&all) }, NOW);
        assert_eq!(told.join(", "), expected, "{detector:?} {gravity:?} {:?}", all[0]);
        // The same again is nothing new.
        assert_eq!(look(&mut responder, &Case { gravity, ..case(&all) }, NOW), [""; 0]);
    }
}

#[test]
fn what_goes_on_is_met_harder_and_wider_and_never_more_than_it_is_worth() {
    let mut responder = Responder::new(Limits::default());
    let mut told = Vec::new();
    for round in 0..8 {
        let now_ms = NOW + round * 20_000;
        told.extend(look(&mut responder, &case(&[suspect(7, Detector::Stuffing, now_ms)]), now_ms));
    }
    let expected = [
        "order ban client",
        "order ban address",
        "withdraw ban client",
        "order challenge prefix",
        "order ban prefix",
        "withdraw ban address",
        "withdraw challenge prefix",
        // The route has 600,000 ppm of the good traffic: it stays open.
    ];
    assert_eq!(told, expected);
    assert_eq!(responder.orders().count(), 1);
    // Without new evidence nothing happens, until it ends.
    let quiet = [suspect(7, Detector::Stuffing, NOW + 7 * 20_000)];
    let (since_ms, until_ms) =
        responder.orders().map(|order| (order.since_ms, order.until_ms)).next().unwrap();
    assert_eq!(look(&mut responder, &case(&quiet), until_ms - 1), [""; 0]);
    let end_ms = responder.orders().next().unwrap().until_ms;
    let mut steps = Vec::new();
    responder.tick(end_ms, &mut steps);
    assert_eq!(words(&steps), ["ended ban prefix"]);
    // Back after that, it begins where it was, and for longer.
    let back_ms = end_ms + 60_000;
    let back = [suspect(7, Detector::Stuffing, back_ms)];
    assert_eq!(look(&mut responder, &case(&back), back_ms), ["order ban prefix"]);
    let again = responder.orders().next().unwrap();
    assert!(again.until_ms - back_ms > until_ms - since_ms, "{again:?}");
}

#[test]
fn a_provider_is_asked_only_where_nobody_good_comes_from_it() {
    let system = Target::Actor(Actor::Asn(64_500));
    for (honest, confidence, expected) in [
        (Some(0), Confidence::Medium, "order challenge prefix"),
        (Some(0), Confidence::High, "order challenge prefix"),
        (Some(1), Confidence::Medium, "nothing"),
        (None, Confidence::Medium, "nothing"),
    ] {
        let mut one = suspect(7, Detector::Stuffing, NOW);
        one.confidence = confidence;
        let honest = honest.map(|actors| Honest { actors, share_ppm: actors });
        one.candidates = vec![Candidate { target: system.clone(), honest, exempt: false }];
        let told = look(&mut Responder::new(Limits::default()), &case(&[one]), NOW);
        assert_eq!(told, [expected], "{honest:?} {confidence:?}");
    }
}

#[test]
fn strangers_to_a_route_are_asked_where_it_is_worth_it_and_never_refused_for_it() {
    for (detector, gravity, share_ppm, expected) in [
        (Detector::Stuffing, Gravity::High, 400_000, "order challenge route"),
        (Detector::Stuffing, Gravity::High, 600_000, "nothing"),
        (Detector::Stuffing, Gravity::Medium, 40_000, "order challenge route"),
        (Detector::Stuffing, Gravity::Medium, 400_000, "nothing"),
        // Pages are everybody's.
        (Detector::Scraping, Gravity::High, 1_000, "nothing"),
        (Detector::Scanning, Gravity::High, 1_000, "nothing"),
    ] {
        let mut one = suspect(7, detector, NOW);
        one.confidence = Confidence::Medium;
        one.candidates = vec![candidate(Target::Route(3), 900, share_ppm)];
        let told = look(&mut Responder::new(Limits::default()), &Case { gravity, ..case(&[one]) }, NOW);
        assert_eq!(told, [expected], "{detector:?} {gravity:?} {share_ppm}");
    }
}

#[test]
fn whoever_goes_on_as_another_client_is_met_as_that() {
    let mut responder = Responder::new(Limits::default());
    let shared = |agent: u64, confidence, last_ms| {
        let mut one = suspect(7, Detector::Stuffing, last_ms);
        one.confidence = confidence;
        one.candidates = vec![
            candidate(Target::Actor(Actor::client(ip(7), agent)), 0, 0),
            candidate(Target::Actor(Actor::ip(ip(7))), 400, 90_000),
        ];
        [one]
    };
    let first = shared(7, Confidence::High, NOW);
    assert_eq!(look(&mut responder, &case(&first), NOW), ["order ban client"]);
    let next = shared(8, Confidence::Medium, NOW + 20_000);
    assert_eq!(look(&mut responder, &case(&next), NOW + 20_000), ["order challenge client"]);
    assert_eq!(responder.orders().count(), 2);
    let same = shared(8, Confidence::Medium, NOW + 40_000);
    let told = look(&mut responder, &case(&same), NOW + 40_000);
    assert!(told.iter().all(|told| told.starts_with("renew")), "both are met already: {told:?}");
}

#[test]
fn what_cannot_be_met_harder_holds_longer() {
    let mut responder = Responder::new(Limits::default());
    let only = |last_ms| {
        let mut one = suspect(7, Detector::SessionTheft, last_ms);
        one.subject = Subject::new(SubjectKind::Session, 5);
        one.candidates = vec![candidate(Target::Actor(Actor::Session(5)), 0, 0)];
        [one]
    };
    assert_eq!(look(&mut responder, &case(&only(NOW)), NOW), ["order ban session"]);
    let first_ms = responder.orders().next().unwrap().until_ms;
    assert_eq!(look(&mut responder, &case(&only(NOW + 10_000)), NOW + 10_000), [""; 0]);
    let late_ms = first_ms - 60_000;
    assert_eq!(look(&mut responder, &case(&only(late_ms)), late_ms), ["renew ban session"]);
    assert!(responder.orders().next().unwrap().until_ms > first_ms);
}

#[test]
fn a_floods_order_goes_a_minute_after_its_last_request() {
    let mut responder = Responder::new(Limits::default());
    let mut one = suspect(7, Detector::Flood, NOW);
    one.subject = Subject::new(SubjectKind::Software, 9);
    one.candidates = vec![candidate(Target::Software { id: 9, ja4: None }, 1, 40)];
    assert_eq!(look(&mut responder, &case(&[one]), NOW), ["order block-signature software"]);
    let id = responder.orders().next().unwrap().id;
    let mut steps = Vec::new();
    responder.tick(NOW + 59_999, &mut steps);
    // It is refused, and goes on.
    responder.hit(id, NOW + 90_000);
    responder.tick(NOW + 149_999, &mut steps);
    assert!(steps.is_empty());
    responder.tick(NOW + 150_000, &mut steps);
    assert_eq!(words(&steps), ["withdraw block-signature software"]);
    assert!(steps[0].reason.contains("the flood is over"), "{steps:?}");
}

#[test]
fn a_flood_that_is_refused_is_not_met_harder_on_the_route_of_everybody() {
    let mut responder = Responder::new(Limits::default());
    let flood = |last_ms| {
        let mut one = suspect(7, Detector::Flood, last_ms);
        one.subject = Subject::new(SubjectKind::Software, 9);
        let software = candidate(Target::Software { id: 9, ja4: None }, 1, 40);
        one.candidates = vec![software, candidate(Target::Route(3), 900, 100)];
        [one]
    };
    assert_eq!(look(&mut responder, &case(&flood(NOW)), NOW), ["order block-signature software"]);
    for second in 1..240 {
        let now_ms = NOW + second * 1_000;
        let told = look(&mut responder, &case(&flood(now_ms)), now_ms);
        assert!(told.iter().all(|told| told == "renew block-signature software"), "{told:?}");
    }
}

#[test]
fn an_order_that_hurts_known_good_actors_is_withdrawn_and_not_tried_again() {
    let mut responder = Responder::new(Limits::default());
    look(&mut responder, &case(&[suspect(7, Detector::Stuffing, NOW)]), NOW);
    let id = responder.orders().next().unwrap().id;
    let mut steps = Vec::new();
    // Two are chance, and so are three of a thousand.
    responder.toll(id, Toll { came: 10, refused: 2 }, NOW + 1, &mut steps);
    responder.toll(id, Toll { came: 1_000, refused: 3 }, NOW + 1, &mut steps);
    assert!(steps.is_empty());
    responder.toll(id, Toll { came: 10, refused: 3 }, NOW + 1, &mut steps);
    responder.toll(id, Toll { came: 10, refused: 3 }, NOW + 1, &mut steps);
    assert_eq!(words(&steps), ["withdraw ban client"]);
    assert_eq!(steps[0].reason, "it hurts: 3 of 10 known-good actors were turned away");
    // It goes on: something milder, and nothing that is as hard or harder.
    let mut told = Vec::new();
    for round in 1..9 {
        let now_ms = NOW + round * 20_000;
        told.extend(look(&mut responder, &case(&[suspect(7, Detector::Stuffing, now_ms)]), now_ms));
    }
    assert_eq!(told, ["order challenge address"]);
    // After an hour it may be.
    let mut told = Vec::new();
    for round in 0..3 {
        let now_ms = NOW + 61 * 60_000 + round * 20_000;
        told.extend(look(&mut responder, &case(&[suspect(7, Detector::Stuffing, now_ms)]), now_ms));
    }
    assert!(told.contains(&"order ban client".to_owned()), "{told:?}");
}

#[test]
fn undoing_an_incident_ends_all_that_was_ordered_for_it_once() {
    let mut responder = Responder::new(Limits::default());
    let suspects = [suspect(7, Detector::Stuffing, NOW), suspect(8, Detector::Scanning, NOW)];
    look(&mut responder, &case(&suspects), NOW);
    look(&mut responder, &Case { id: 2, ..case(&[suspect(9, Detector::Stuffing, NOW)]) }, NOW);
    let mut steps = Vec::new();
    responder.undo(1, "ann: these are our testers", NOW + 1, &mut steps);
    assert_eq!(words(&steps), ["withdraw ban client", "withdraw ban client"]);
    assert!(steps.iter().all(|step| step.reason == "ann: these are our testers"));
    responder.undo(1, "again", NOW + 2, &mut steps);
    assert_eq!(steps.len(), 2);
    let worse = [suspect(7, Detector::Exfiltration, NOW + 60_000)];
    assert_eq!(look(&mut responder, &case(&worse), NOW + 60_000), [""; 0]);
    assert!(responder.orders().all(|order| order.case == 2) && responder.orders().count() == 1);
}

#[test]
fn an_incident_that_is_another_takes_its_orders_along() {
    let mut responder = Responder::new(Limits::default());
    look(&mut responder, &Case { id: 2, ..case(&[suspect(7, Detector::Stuffing, NOW)]) }, NOW);
    responder.merge(2, 1);
    let later = [suspect(7, Detector::Stuffing, NOW + 20_000)];
    let told = look(&mut responder, &case(&later), NOW + 20_000);
    assert_eq!(told, ["order ban address", "withdraw ban client"], "it goes on where it was");
    let mut steps = Vec::new();
    responder.undo(1, "over", NOW + 30_000, &mut steps);
    assert_eq!(responder.orders().count(), 0);
}

#[test]
fn who_can_carry_an_order_out_is_said() {
    let ja4 = "t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap();
    let node = |kind, actor: &Actor| Carried::ByNode(kind, actor.clone());
    let address = Actor::ip(ip(1));
    assert_eq!(carried(Measure::Ban, &Target::Actor(address.clone())), node(DecisionKind::Ban, &address));
    let client = Actor::client(ip(1), 1);
    let told = carried(Measure::Challenge, &Target::Actor(client.clone()));
    assert_eq!(told, node(DecisionKind::Challenge, &client));
    let range = Actor::prefix("192.0.2.0/24".parse().unwrap());
    let told = carried(Measure::Throttle, &Target::Actor(range.clone()));
    assert_eq!(told, Carried::ByOperator(DecisionKind::Throttle, range));
    let told = carried(Measure::BlockSignature, &Target::Software { id: 1, ja4: Some(ja4) });
    assert_eq!(told, Carried::ByOperator(DecisionKind::Ban, Actor::Software(1)));
    let told = carried(Measure::LockRoute, &Target::Route(1));
    assert_eq!(told, Carried::ByOperator(DecisionKind::Ban, Actor::Route(1)));
    let told = carried(Measure::Challenge, &Target::Route(1));
    assert_eq!(told, Carried::ByOperator(DecisionKind::Challenge, Actor::Route(1)));
    let told = carried(Measure::RaiseParanoia, &Target::App(1));
    assert_eq!(told, Carried::ByOperator(DecisionKind::RaiseParanoia, Actor::Rules(1)));
    for (measure, target) in
        [(Measure::RaiseParanoia, Target::Route(1)), (Measure::Observe, Target::Actor(address))]
    {
        assert!(matches!(carried(measure, &target), Carried::NotYet(_)), "{measure:?} {target}");
    }
}

#[test]
fn paranoia_is_raised_where_nothing_narrower_is_in_common_and_lowered_where_it_hurts() {
    let honest = |actors, share_ppm| Some(Honest { actors, share_ppm });
    let of = |candidates, gravity| {
        let suspect = Suspect { candidates, ..suspect(7, Detector::Exploiting, NOW) };
        let mut responder = Responder::new(Limits::default());
        let told = look(&mut responder, &Case { gravity, ..case(&[suspect]) }, NOW);
        (responder, told)
    };
    let app = |honest| Candidate { target: Target::App(1), honest, exempt: false };
    let address = Candidate { target: Target::Actor(Actor::ip(ip(7))), honest: honest(0, 0), exempt: false };
    // All visitors come to this app: they are looked at more closely, and nobody is turned away for what he is.
    let (mut responder, told) = of(vec![app(honest(500, 1_000_000))], Gravity::Medium);
    assert_eq!(told, ["order raise-paranoia app"]);
    assert_eq!(of(vec![address, app(honest(500, 1_000_000))], Gravity::Medium).1, ["order ban address"]);
    assert_eq!(of(vec![app(honest(500, 1_000_000))], Gravity::Low).1, ["nothing"], "it is not worth it");
    assert_eq!(of(vec![app(None)], Gravity::High).1, ["nothing"], "nobody knows who comes");
    let id = responder.orders().next().unwrap().id;
    let mut steps = Vec::new();
    responder.toll(id, Toll { came: 100, refused: 2 }, NOW + 1, &mut steps);
    assert_eq!(words(&steps), [""; 0]);
    responder.toll(id, Toll { came: 100, refused: 3 }, NOW + 2, &mut steps);
    assert_eq!(words(&steps), ["withdraw raise-paranoia app"]);
}

#[test]
fn on_each_ladder_what_is_harsher_comes_later_for_the_same_target() {
    for detector in Detector::ALL {
        let rungs = ladder(detector);
        for (place, (measure, scope)) in rungs.iter().enumerate() {
            let mut later = rungs.iter().skip(place + 1).filter(|(_, other)| other == scope);
            assert!(later.all(|(other, _)| other > measure), "{detector:?} {measure:?} {scope:?}");
        }
    }
}

/// Something that happens to a responder.
#[derive(Debug, Clone)]
enum Op {
    See { case: u64, gravity: Gravity, suspect: Suspect },
    Wait(u64),
    Hit(u64),
    Toll(u64, Toll),
    Undo(u64),
    Merge(u64, u64),
}

fn any_target() -> impl Strategy<Value = Target> {
    let prefix = |bits| Target::Actor(Actor::prefix(format!("192.0.2.0/{bits}").parse().unwrap()));
    prop_oneof![
        (0u8..8).prop_map(|host| Target::Actor(Actor::ip(ip(host)))),
        (0u8..8, 0u64..3).prop_map(|(host, agent)| Target::Actor(Actor::client(ip(host), agent))),
        (8u8..=32).prop_map(prefix),
        (0u64..4).prop_map(|id| Target::Actor(Actor::Session(id))),
        (0u64..4).prop_map(|id| Target::Actor(Actor::Account(id))),
        Just(Target::Actor(Actor::Asn(64_500))),
        (0u64..4).prop_map(|id| Target::Software { id, ja4: None }),
        (0u64..2).prop_map(Target::Route),
        Just(Target::App(1)),
    ]
}

fn any_suspect() -> impl Strategy<Value = Suspect> {
    let honest = prop_oneof![
        Just(None),
        (0u32..6, 0u32..20_000).prop_map(|(actors, share_ppm)| Some(Honest { actors, share_ppm })),
    ];
    let candidate = (any_target(), honest, prop::bool::weighted(0.1))
        .prop_map(|(target, honest, exempt)| Candidate { target, honest, exempt });
    let confidence = prop::sample::select(vec![Confidence::Low, Confidence::Medium, Confidence::High]);
    let detector = prop::sample::select(Detector::ALL.to_vec());
    let candidates = prop::collection::vec(candidate, 0..6);
    (0u64..6, detector, confidence, prop::bool::weighted(0.9), candidates).prop_map(
        |(id, detector, confidence, decisive, candidates)| Suspect {
            subject: Subject::new(SubjectKind::Address, id),
            detector,
            confidence,
            decisive,
            last_ms: 0,
            candidates,
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    let gravity = prop::sample::select(vec![Gravity::Low, Gravity::Medium, Gravity::High, Gravity::Critical]);
    prop_oneof![
        8 => (1u64..4, gravity, any_suspect())
            .prop_map(|(case, gravity, suspect)| Op::See { case, gravity, suspect }),
        4 => (0u64..900_000).prop_map(Op::Wait),
        1 => (1u64..40).prop_map(Op::Hit),
        1 => (1u64..40, 0u32..20, 0u32..20)
            .prop_map(|(id, came, refused)| Op::Toll(id, Toll { came, refused })),
        1 => (1u64..4).prop_map(Op::Undo),
        1 => (1u64..4, 1u64..4).prop_map(|(from, into)| Op::Merge(from, into)),
    ]
}

/// Plays a history, and checks after each step what must hold always.
fn play(ops: &[Op], limits: &Limits) -> Vec<Step> {
    let mut responder = Responder::new(limits.clone());
    let (mut now_ms, mut all) = (NOW, Vec::new());
    for op in ops {
        let before = all.len();
        match op {
            Op::See { case, gravity, suspect } => {
                let suspects = [Suspect { last_ms: now_ms, ..suspect.clone() }];
                let case = Case { id: *case, gravity: *gravity, suspects: &suspects };
                responder.consider(&case, now_ms, &mut all);
                for step in &all[before..] {
                    let Act::Order(order) = &step.act else { continue };
                    let meant = |one: &Candidate| one.target == order.target && !one.exempt;
                    assert!(suspect.candidates.iter().any(meant), "exempt, or named by nobody: {order:?}");
                    assert!(suspect.decisive && suspect.confidence > Confidence::Low);
                    let is_small = !order.measure.refuses() && order.target.scope() <= Scope::Address;
                    let rung = (order.measure, order.target.scope());
                    let (most, _) = limits.pain_of(*gravity, order.detector, rung);
                    assert!(is_small || order.pain_ppm <= most, "{order:?}");
                    assert!(!order.measure.refuses() || suspect.confidence == Confidence::High);
                }
                let again = all.len();
                responder.consider(&case, now_ms, &mut all);
                assert_eq!(all.len(), again, "the same evidence again is nothing new");
            }
            Op::Wait(ms) => {
                now_ms += ms;
                responder.tick(now_ms, &mut all);
            }
            Op::Hit(id) => responder.hit(OrderId(*id), now_ms),
            Op::Toll(id, toll) => responder.toll(OrderId(*id), *toll, now_ms, &mut all),
            Op::Undo(case) => {
                responder.undo(*case, "undone", now_ms, &mut all);
                assert!(responder.orders().all(|order| order.case != *case));
            }
            Op::Merge(from, into) => responder.merge(*from, *into),
        }
        check(&responder, limits, now_ms);
    }
    // Everything that began ends, each once.
    responder.tick(now_ms + limits.longest_ms, &mut all);
    assert_eq!(responder.orders().count(), 0);
    let count = |is: fn(&Act) -> bool| all.iter().filter(|step| is(&step.act)).count();
    let ended = count(|act| matches!(act, Act::Withdraw(_) | Act::Ended(_)));
    assert_eq!(count(|act| matches!(act, Act::Order(_))), ended);
    all
}

fn check(responder: &Responder, limits: &Limits, now_ms: u64) {
    let orders: Vec<&Order> = responder.orders().collect();
    let total: u64 = orders.iter().map(|order| order.pain_ppm).sum();
    let total_max = limits.total_pain_ppm.max(limits.flood_pain_ppm);
    assert!(total <= total_max && orders.len() <= limits.orders_max, "{total} {}", orders.len());
    let wide = orders.iter().filter(|order| order.target.scope() > Scope::Address).count();
    assert!(wide <= limits.wide_orders_max);
    for order in orders {
        assert!(order.until_ms > now_ms && order.until_ms - now_ms <= limits.longest_ms, "{order:?}");
        if let Target::Actor(Actor::Prefix(range)) = &order.target {
            assert!(range.prefix_len() >= limits.prefix_bits_min.0);
        }
        let is_system = matches!(order.target, Target::Actor(Actor::Asn(_)));
        assert!(!is_system || !order.measure.refuses(), "a provider is asked at most: {order:?}");
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_limits_hold_everything_ends_and_equal_inputs_give_equal_steps(
        ops in prop::collection::vec(any_op(), 0..60),
    ) {
        let limits =
            Limits { orders_max: 6, wide_orders_max: 2, total_pain_ppm: 9_000, flood_pain_ppm: 15_000, ..Limits::default() };
        prop_assert_eq!(play(&ops, &limits), play(&ops, &limits));
    }
}

#[test]
fn memory_is_bounded() {
    let mut responder = Responder::new(Limits::default());
    let mut steps = Vec::new();
    for id in 0..20_000 {
        let subject = Subject::new(SubjectKind::Session, id);
        let one = Suspect { subject, ..suspect(7, Detector::Stuffing, NOW + id) };
        responder.consider(&Case { id, ..case(&[one]) }, NOW + id, &mut steps);
        responder.undo(id, "over", NOW + id, &mut steps);
        steps.clear();
    }
    assert!(responder.remembered() <= 3 * 8_192, "{}", responder.remembered());
}
