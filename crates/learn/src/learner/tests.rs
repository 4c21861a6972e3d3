//! Each detector meets its attack, and the honest traffic that looks most like it.

mod honest;

use std::net::IpAddr;

use super::*;
use crate::detect::Detector;
use crate::event::Place;

const BEGIN_MS: u64 = 1_767_571_200_000;
/// How long it takes until nodes know which software people have.
const QUIET_S: f64 = 660.0;
const TOOL: u64 = 0x7001;
const BROWSER: u64 = 0xb0b;

fn learner() -> Learner {
    Learner::new(Detectors::default(), Sizes { actors: 10_000, series: 4_096, routes: 64 }, 7)
}

fn at(second: f64) -> u64 {
    BEGIN_MS + u64::try_from(std::time::Duration::from_secs_f64(second).as_millis()).unwrap()
}

fn page(second: f64, host: u32, software: u64) -> Event {
    Event {
        at_ms: at(second),
        software: Some(software),
        ..crate::event::tests::plain(IpAddr::from((0x0a00_0000 + host).to_be_bytes()))
    }
}

fn login(second: f64, host: u32, software: u64, account: u64, outcome: Outcome) -> Event {
    let secret = Some(u16::try_from(mix(account) & 0xffff).unwrap());
    Event { account: Some(account), secret, step: Step::Login(outcome), ..page(second, host, software) }
}

fn of(learner: &mut Learner, events: impl IntoIterator<Item = Event>) -> Vec<Signal> {
    let mut signals = Vec::new();
    events.into_iter().for_each(|event| learner.observe(&event, &mut signals));
    signals
}

/// The detectors that spoke, each with whether it was decisive once.
fn spoke(events: impl IntoIterator<Item = Event>) -> Vec<(Detector, bool)> {
    let mut all: Vec<(Detector, bool)> = Vec::new();
    for signal in of(&mut learner(), events) {
        match all.iter_mut().find(|(detector, _)| *detector == signal.detector) {
            Some((_, decisive)) => *decisive |= signal.decisive,
            None => all.push((signal.detector, signal.decisive)),
        }
    }
    all
}

/// Four failures a minute on each of three nodes, each from another address. Says when each node knew, and who told of it.
fn thin(sharing: bool, nodes: u16, mut tamper: impl FnMut(u16, &mut Summary)) -> Vec<(f64, u16, Signal)> {
    let mut learners: Vec<Learner> = (0..nodes).map(|_| learner()).collect();
    // Before, people come with what everybody has.
    let people = |n: u32| page(f64::from(n) * 0.5, 1_000_000 + n % 300, BROWSER);
    let at = |second: f64| at(second + QUIET_S);
    for learner in &mut learners {
        let quiet = of(learner, (0..1_320).map(people));
        assert_eq!(quiet, []);
    }
    let mut found = Vec::new();
    let mut sent = 0_u32;
    for second in 0..180_u32 {
        let mut signals = Vec::new();
        for (node, learner) in learners.iter_mut().enumerate() {
            if second % 15 == 5 * u32::try_from(node % 3).unwrap() {
                sent += 1;
                let event =
                    login(f64::from(second) + QUIET_S, 256 * sent, TOOL, u64::from(sent), Outcome::Failed);
                learner.observe(&event, &mut signals);
            }
        }
        let told: Vec<Summary> =
            learners.iter_mut().map(|learner| learner.summary(at(f64::from(second) + 1.0))).collect();
        for (from, summary) in told.into_iter().enumerate().filter(|_| sharing) {
            let from = u16::try_from(from).unwrap();
            let mut summary = Summary::from_bytes(&summary.to_bytes()).unwrap();
            tamper(from, &mut summary);
            for (to, learner) in learners.iter_mut().enumerate().filter(|(to, _)| *to != usize::from(from)) {
                let mut heard = Vec::new();
                learner.merge(from, &summary, at(f64::from(second) + 1.0), &mut heard);
                let to = u16::try_from(to).unwrap();
                found.extend(heard.into_iter().map(|signal| (f64::from(second) + 1.0, to, signal)));
            }
        }
        found.extend(signals.into_iter().map(|signal| (f64::from(second), 0, signal)));
    }
    found.retain(|(_, _, signal)| signal.decisive);
    found
}

#[test]
fn thin_stuffing_is_found_together_and_never_alone() {
    let found = thin(true, 3, |_, _| {});
    let (second, _, signal) = &found[0];
    // The tenth failure comes after 45 seconds.
    assert!(*second <= 50.0 && signal.detector == Detector::Stuffing, "{second}: {signal:?}");
    assert_eq!((signal.subject, signal.nodes.len()), (Subject::new(SubjectKind::Software, TOOL), 3));
    assert!(thin(false, 3, |_, _| {}).is_empty());
}

#[test]
fn one_nodes_word_moves_no_decision() {
    // Two nodes see a thin attack that is no case; one of them claims a hundred times as much, of as many accounts as it likes.
    let lie = |from: u16, summary: &mut Summary| {
        if from != 1 {
            return;
        }
        let counts = |counts: &Counts, times| {
            let mut all = Counts::default();
            counts.since(0).for_each(|(bucket, count)| all.add(bucket, count * times));
            all
        };
        summary.served = counts(&summary.served, 1_000);
        for row in &mut summary.rows {
            let now = row.told.counts.since(0).map(|(bucket, _)| bucket).max().unwrap();
            row.told.counts = counts(&row.told.counts, 100);
            (0..32).for_each(|account| row.told.what.insert(account * 77, now));
        }
    };
    assert!(thin(true, 2, |_, _| {}).is_empty());
    assert!(
        thin(true, 2, lie).iter().all(|(_, to, _)| *to == 1),
        "what the liar itself concludes is its own affair"
    );
}

#[test]
fn more_than_was_served_is_refused() {
    let (mut one, mut other) = (learner(), learner());
    of(&mut one, (0..9).map(|n| login(f64::from(n), 1, TOOL, n as u64, Outcome::Failed)));
    let mut summary = one.summary(at(9.0));
    summary.served = Counts::default();
    other.merge(1, &summary, at(9.0), &mut Vec::new());
    assert!(other.impossible() > 0 && other.series.len() == 0);
    summary.served.add(bucket(at(9.0)), BUCKET_REQUESTS_MAX + 1);
    other.merge(1, &summary, at(9.0), &mut Vec::new());
    assert_eq!(other.series.len(), 0);
}

#[test]
fn no_other_nodes_word_is_in_what_is_usual() {
    let (mut one, mut other) = (learner(), learner());
    of(&mut one, (0..3_000).map(|n| page(f64::from(n) * 0.1, n % 50, BROWSER)));
    of(&mut other, (0..90).map(|n| Event { status: 404, ..page(300.0 + f64::from(n) * 0.1, 1, TOOL) }));
    let before = one.baselines().to_bytes();
    one.merge(1, &other.summary(at(309.0)), at(309.0), &mut Vec::new());
    assert_eq!(one.baselines().to_bytes(), before);
    // It is kept and taken up again.
    let again = learner().with_baselines(Baselines::from_bytes(&before).unwrap());
    assert_eq!(again.baselines().to_bytes(), before);
}

#[test]
fn nodes_together_know_what_one_would() {
    let events: Vec<Event> = (0..200_u32)
        .map(|n| {
            login(
                f64::from(n) * 0.2,
                256 * (n % 7),
                TOOL,
                u64::from(n % 50),
                if n % 9 == 0 { Outcome::Passed } else { Outcome::Failed },
            )
        })
        .collect();
    let mut whole = learner();
    of(&mut whole, events.clone());
    let mut parts = [learner(), learner(), learner()];
    for (n, event) in events.iter().enumerate() {
        parts[n % 3].observe(event, &mut Vec::new());
    }
    let told: Vec<Summary> = parts.iter_mut().map(|part| part.summary(at(40.0))).collect();
    let [first, ..] = &mut parts;
    // Twice, and in the wrong order.
    for from in [2_u16, 1, 2] {
        first.merge(from, &told[usize::from(from)], at(40.0), &mut Vec::new());
    }
    let all = crate::evidence::Share { count: u64::MAX, what: usize::MAX };
    for feature in [Feature::LoginFailed, Feature::LoginPassed] {
        let key = SeriesKey { subject: Subject::new(SubjectKind::Software, TOOL), feature };
        let of_whole = whole.series.peek(key.hash()).unwrap().totals(0, all);
        let of_parts = first.series.peek(key.hash()).unwrap().totals(0, all);
        assert_eq!((of_parts.count, of_parts.from), (of_whole.count, of_whole.from));
        // 32 hashes of each node are told.
        assert_eq!(of_parts.what.min(32), of_whole.what.min(32));
    }
}

#[test]
fn stuffing_is_many_accounts_and_hardly_any_success() {
    let attack = (0..40).map(|n| {
        login(f64::from(n), 1, TOOL, n as u64, if n % 20 == 7 { Outcome::Passed } else { Outcome::Failed })
    });
    assert_eq!(spoke(attack), [(Detector::Stuffing, true)]);
    // An office behind one address in the morning: many accounts, some mistype, nearly all get in.
    let office = (0..120_u32).map(|n| {
        let outcome = if n % 4 == 0 { Outcome::Failed } else { Outcome::Passed };
        login(f64::from(n) * 0.5, 1, BROWSER, u64::from(n - u32::from(n % 4 == 1)), outcome)
    });
    assert_eq!(spoke(office), []);
    // Somebody forgot a password.
    assert_eq!(spoke((0..40).map(|n| login(f64::from(n), 1, BROWSER, 5, Outcome::Failed))), []);
}

#[test]
fn spraying_is_one_password_for_many_accounts() {
    let tried = |n: u32, secret: u16| Event {
        secret: Some(secret),
        ..login(f64::from(n) * 30.0, 256 * n, u64::from(n), u64::from(n), Outcome::Failed)
    };
    assert_eq!(spoke((0..16).map(|n| tried(n, 7))), [(Detector::Spraying, true)]);
    assert_eq!(spoke((0..16).map(|n| tried(n, u16::try_from(n).unwrap()))), []);
}

#[test]
fn enumeration_is_many_accounts_asked_about() {
    let asked = |n: u32, account: u64| Event {
        account: Some(account),
        step: Step::Lookup,
        ..page(f64::from(n), 1, TOOL)
    };
    assert_eq!(spoke((0..30).map(|n| asked(n, u64::from(n)))), [(Detector::Enumeration, true)]);
    assert_eq!(spoke((0..30).map(|n| asked(n, u64::from(n % 3)))), []);
}

#[test]
fn a_walk_is_through_what_belongs_to_others() {
    let order = |second: f64, session: u64, object: u64| Event {
        session: Some(session),
        account: Some(session),
        object: Some(object),
        ..page(second, u32::try_from(session).unwrap(), BROWSER)
    };
    // A hundred customers look at their own orders; one counts through those of others.
    let own = (0..200_u32).map(|n| order(f64::from(n) * 0.1, u64::from(n % 100), u64::from(n % 100) * 991));
    let walk = (0..40_u32).map(|n| order(30.0 + f64::from(n), 7_777, 40_000 + u64::from(n)));
    let mut watched = learner();
    assert_eq!(of(&mut watched, own), []);
    let signals = of(&mut watched, walk);
    assert!(signals.iter().all(|signal| signal.detector == Detector::ObjectWalk && signal.decisive));
    assert!(signals.iter().any(|signal| signal.subject == Subject::new(SubjectKind::Account, 7_777)));
    // Everybody reads the pages of a thread one after the other.
    let readers = (0..2_000_u32).map(|n| order(f64::from(n) * 0.1, u64::from(n % 20), u64::from(n / 20)));
    assert_eq!(spoke(readers), []);
}

#[test]
fn a_scan_is_many_missing_pages() {
    let missing = |n: u32, target: u64| Event { status: 404, target, ..page(f64::from(n), 1, TOOL) };
    assert_eq!(spoke((0..30).map(|n| missing(n, u64::from(n)))), [(Detector::Scanning, true)]);
    assert_eq!(spoke((0..200).map(|n| missing(n, u64::from(n % 4)))), []);
}

#[test]
fn scraping_is_page_after_page_without_a_session() {
    let read = |n: u32, gap: f64| Event { target: u64::from(n), ..page(f64::from(n) * gap, 1, TOOL) };
    assert_eq!(spoke((0..600).map(|n| read(n, 0.5))), [(Detector::Scraping, true)]);
    assert_eq!(spoke((0..600).map(|n| read(n, 5.0))), []);
    // A crawler that is verified is exempt.
    assert_eq!(spoke((0..600).map(|n| Event { exempt: true, ..read(n, 0.5) })), []);
}

#[test]
fn carding_is_many_cards() {
    let paid = |n: u32, card: u16| Event {
        secret: Some(card),
        step: Step::Payment(Outcome::Failed),
        ..page(f64::from(n) * 20.0, 1, TOOL)
    };
    assert_eq!(spoke((0..12).map(|n| paid(n, u16::try_from(n).unwrap()))), [(Detector::Carding, true)]);
    assert_eq!(spoke((0..12).map(|n| paid(n, u16::try_from(n % 3).unwrap()))), []);
}

#[test]
fn nobody_travels_faster_than_an_airliner() {
    let (paris, tokyo) = (Place { latitude: 49, longitude: 2 }, Place { latitude: 36, longitude: 140 });
    let passed = |second: f64, place, software| Event {
        place: Some(place),
        ..login(second, 1, software, 5, Outcome::Passed)
    };
    assert_eq!(
        spoke(
            [0.0, 10_000.0, 20_000.0, 30_000.0, 50_000.0]
                .map(|second| passed(second, paris, BROWSER))
                .into_iter()
                .chain([passed(51_800.0, tokyo, TOOL)])
        ),
        [(Detector::ImpossibleTravel, true)]
    );
    // Of an account that was never seen before it is told, and not acted on.
    assert_eq!(
        spoke([passed(0.0, paris, BROWSER), passed(1_800.0, tokyo, TOOL)]),
        [(Detector::ImpossibleTravel, false)]
    );
    assert_eq!(spoke([passed(0.0, paris, BROWSER), passed(50_000.0, tokyo, TOOL)]), []);
    // One's own browser behind a VPN.
    assert_eq!(
        spoke([passed(0.0, paris, BROWSER), passed(60.0, tokyo, BROWSER)]),
        [(Detector::ImpossibleTravel, false)]
    );
}

#[test]
fn a_stolen_session_changes_software_and_network() {
    let seen = |second: f64, network: u32, software| Event {
        session: Some(5),
        asn: Some(network),
        ..page(second, network, software)
    };
    assert_eq!(spoke([seen(0.0, 1, BROWSER), seen(60.0, 2, TOOL)]), [(Detector::SessionTheft, true)]);
    // A telephone changes networks, a browser is updated.
    assert_eq!(spoke([seen(0.0, 1, BROWSER), seen(60.0, 2, BROWSER), seen(120.0, 2, TOOL)]), []);
    // Across nodes it is told, and not acted on: one of the halves is another's word.
    let (mut one, mut other) = (learner(), learner());
    of(&mut one, [seen(0.0, 1, BROWSER)]);
    other.merge(1, &one.summary(at(1.0)), at(1.0), &mut Vec::new());
    let signals = of(&mut other, [seen(60.0, 2, TOOL)]);
    assert_eq!(
        signals.iter().map(|signal| (signal.detector, signal.decisive)).collect::<Vec<_>>(),
        [(Detector::SessionTheft, false)]
    );
}

#[test]
fn a_flood_is_one_software_beyond_its_share_and_a_rush_is_everybody() {
    let quiet = || (0..9_000_u32).map(|n| page(f64::from(n) * 0.1, n % 500, u64::from(n % 5)));
    for begin in [900.0, 903.0, 907.0, 909.9] {
        let flood = (0..4_000_u32).map(|n| page(begin + f64::from(n) * 0.002, 5_000 + n % 300, TOOL));
        let mut watched = learner();
        assert_eq!(of(&mut watched, quiet()), []);
        let signals = of(&mut watched, flood);
        let first = &signals[0];
        assert_eq!(
            (first.detector, first.subject),
            (Detector::Flood, Subject::new(SubjectKind::Software, TOOL))
        );
        assert!(first.at_ms <= at(begin + 4.7), "as soon as it asked for more than the app serves: {begin}");
    }
    let rush = (0..40_000_u32).map(|n| page(900.0 + f64::from(n) * 0.002, n % 3_000, u64::from(n % 5)));
    assert_eq!(spoke(quiet().chain(rush)), []);
}

#[test]
fn answers_far_beyond_the_usual_are_told() {
    let got = |n: u32, bytes: u64| Event { response_bytes: bytes, ..page(f64::from(n), n % 50, BROWSER) };
    let usual = || (0..400).map(|n| got(n, 20_000 + u64::from(n) * 10));
    let dump = (0..4).map(|n| Event { response_bytes: 40 << 20, ..page(401.0 + f64::from(n), 77, TOOL) });
    assert_eq!(spoke(usual().chain(dump)), [(Detector::Exfiltration, true)]);
    assert_eq!(spoke((0..600).map(|n| got(n, 40 << 20))), [], "where all answers are large, none is");
}

#[test]
fn an_outage_is_everybodys_and_a_storm_is_ones() {
    let failed = |n: u32, host: u32| Event { status: 503, ..page(f64::from(n) * 0.2, host, BROWSER) };
    assert_eq!(spoke((0..200).map(|n| failed(n, n % 40))), [(Detector::Outage, true)]);
    let served = |n: u32| page(f64::from(n) * 0.2, n % 40, BROWSER);
    let storm = (0..300).map(|n| if n % 2 == 0 { failed(n, 99) } else { served(n) });
    assert_eq!(spoke(storm), [(Detector::ErrorStorm, true)]);
    // Logins that an outage answers are no failures of passwords.
    let down =
        (0..40).map(|n| Event { status: 503, ..login(f64::from(n), 1, BROWSER, n as u64, Outcome::Unknown) });
    assert_eq!(spoke(down), [(Detector::ErrorStorm, true)]);
}

#[test]
fn a_million_actors_take_less_than_100_mb() {
    let mut all = Learner::new(Detectors::default(), Sizes::default(), 7);
    let mut signals = Vec::new();
    let begun = std::time::Instant::now();
    for n in 0..500_000_u32 {
        // An address and a session each.
        let event = Event { session: Some(u64::from(n)), ..page(f64::from(n) * 0.001, n, u64::from(n % 20)) };
        all.observe(&event, &mut signals);
    }
    let each = begun.elapsed() / 500_000;
    println!("{} actors, {} MB, {each:?} an event", all.actors(), all.bytes() / 1_000_000);
    assert!(all.actors() >= 980_000 && all.bytes() <= 100_000_000, "{} {}", all.actors(), all.bytes());
    assert_eq!(signals, []);
}

#[test]
fn signals_become_incidents_by_the_ten_thousand() {
    let mut all = crate::Correlator::default();
    let events = (0..50_000_u32)
        .map(|n| login(f64::from(n) * 0.01, n / 40 * 256, u64::from(n / 40), u64::from(n), Outcome::Failed));
    let signals: Vec<Signal> = of(&mut learner(), events);
    let (begun, rounds) = (std::time::Instant::now(), 20);
    (0..rounds).for_each(|_| signals.iter().for_each(|signal| _ = all.add(signal)));
    let count = signals.len() * rounds;
    println!("{count} signals, {:.0} a second", count as f64 / begun.elapsed().as_secs_f64());
    assert!(all.incidents().count() > 500, "{}", all.incidents().count());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_summary_or_none(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() { *first = 0x61; }
        if let Some(summary) = Summary::from_bytes(&bytes) {
            proptest::prop_assert_eq!(summary.to_bytes(), bytes);
        }
    }
}
