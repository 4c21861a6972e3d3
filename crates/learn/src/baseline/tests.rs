//! What is usual is learned, is not taught by attackers, and deviations are named.

use super::*;
use crate::event::Method;
use crate::event::tests::plain;
use crate::sketch::mix;

/// Monday, midnight.
const BEGIN_MS: u64 = 1_767_571_200_000;

/// Minutes with so many requests of the same few hundred people; `change` makes of each what it wants.
fn play(
    all: &mut Baselines,
    minutes: std::ops::Range<u64>,
    requests: impl Fn(u64) -> u64,
    mut change: impl FnMut(u64, u64, &mut Event),
) -> Vec<Signal> {
    let mut out = Vec::new();
    for minute in minutes {
        let requests = requests(minute);
        for n in 0..requests {
            let chance = mix(minute << 20 | n);
            let host = u32::try_from(chance % 400).unwrap();
            let mut event = plain(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into());
            event.at_ms = BEGIN_MS + minute * 60_000 + n * 60_000 / requests;
            event.response_bytes = 4_000 + chance % 8_000;
            event.latency_us = 10_000 + chance % 30_000;
            event.status = if chance.is_multiple_of(50) { 404 } else { 200 };
            event.country = Country::from_bytes(if chance.is_multiple_of(5) { *b"DE" } else { *b"FR" }).ok();
            change(minute, n, &mut event);
            all.observe(&event, &mut out);
        }
    }
    out
}

/// Busy by day, quiet by night, half as much on the weekend.
fn week(minute: u64) -> u64 {
    let (hour, day) = (minute / 60 % 24, minute / 1_440 % 7);
    let busy = if (8..20).contains(&hour) { 90 } else { 40 };
    busy / if day < 5 { 1 } else { 2 } + mix(minute) % 15
}

fn of(signals: &[Signal], detector: Detector) -> Vec<&Signal> {
    signals.iter().filter(|signal| signal.detector == detector).collect()
}

#[test]
fn three_weeks_of_days_and_nights_are_usual() {
    let mut all = Baselines::default();
    let signals = play(&mut all, 0..3 * 7 * 1_440, week, |_, _, _| {});
    // Of the first days mornings are news.
    let late: Vec<&Signal> = signals.iter().filter(|of| of.at_ms > BEGIN_MS + 3 * 86_400_000).collect();
    assert!(late.is_empty() && signals.len() <= 16, "{} {late:#?}", signals.len());
}

#[test]
fn what_is_unusual_names_its_three_strongest_traits() {
    let mut all = Baselines::default();
    assert!(play(&mut all, 0..180, |_| 100, |_, _, _| {}).is_empty());
    let signals = play(
        &mut all,
        180..186,
        |_| 1_000,
        |_, n, event| {
            if n.is_multiple_of(2) {
                event.status = 503;
                event.latency_us = 5_000_000;
            }
        },
    );
    let unusual = of(&signals, Detector::Unusual);
    assert_eq!(unusual.len(), 2, "the app and its route, once: {unusual:?}");
    let reason = &unusual[0].reason;
    for part in ["50 % failed (usually 0 %)", "later than", "unusual"] {
        assert!(reason.contains(part) || part == "unusual", "{reason}");
    }
    assert_eq!(reason.matches("usually").count(), 3, "{reason}");
    assert!(!unusual[0].decisive);
}

#[test]
fn each_trait_is_compared() {
    let country = Country::from_bytes(*b"XZ").ok();
    type Change = fn(&mut Event);
    let changes: [(&str, Change); 6] = [
        ("missing or refused", |event| event.status = 404),
        ("change something", |event| event.method = Method::Post),
        ("rare methods", |event| event.method = Method::Delete),
        ("of the answers beyond", |event| event.response_bytes = 4 << 20),
        ("of the answers later", |event| event.latency_us = 3_000_000),
        ("failed", |event| event.status = 502),
    ];
    for (words, change) in changes {
        let mut all = Baselines::default();
        play(&mut all, 0..120, |_| 100, |_, _, _| {});
        let signals = play(&mut all, 120..124, |_| 100, |_, _, event| change(event));
        assert!(signals.iter().any(|signal| signal.reason.contains(words)), "{words}: {signals:?}");
    }
    let mut all = Baselines::default();
    play(&mut all, 0..120, |_| 100, |_, _, _| {});
    let signals = play(
        &mut all,
        120..124,
        |_| 100,
        |_, n, event| {
            if n.is_multiple_of(2) {
                event.country = country;
            }
        },
    );
    assert!(signals.iter().any(|signal| signal.reason.contains("from countries")), "{signals:?}");
}

#[test]
fn nobody_teaches_in_weeks_what_is_usual() {
    // Three weeks of what is usual; then each day one per cent more of all answers are refused logins, until it is a third.
    let mut all = Baselines::default();
    play(&mut all, 0..21 * 1_440, week, |_, _, _| {});
    let mut first = None;
    for day in 21..54_u64 {
        let percent = day - 20;
        let signals = play(&mut all, day * 1_440..(day + 1) * 1_440, week, |minute, n, event| {
            if mix(minute ^ n << 30) % 100 < percent {
                event.status = 401;
            }
        });
        if !signals.is_empty() && first.is_none() {
            first = Some((percent, signals[0].reason.clone()));
        }
    }
    let (percent, reason) = first.expect("it is told");
    println!("told at {percent} %: {reason}");
    assert!(percent <= 24 && reason.contains("refused"), "{percent} {reason}");
}

#[test]
fn an_attack_that_lasts_does_not_become_usual_while_it_lasts() {
    let mut all = Baselines::default();
    play(&mut all, 0..21 * 1_440, week, |_, _, _| {});
    let attack = |_: u64, n: u64, event: &mut Event| {
        if n.is_multiple_of(2) {
            event.status = 404;
        }
    };
    let signals = play(&mut all, 21 * 1_440..24 * 1_440, week, attack);
    let last = signals.last().unwrap().at_ms;
    assert!(last > BEGIN_MS + (24 * 1_440 - 120) * 60_000, "still told on its third day");
}

#[test]
fn a_new_endpoint_of_one_is_told_and_a_release_is_not() {
    let delete = |n: u64, event: &mut Event| {
        if n == 5 {
            (event.method, event.endpoint, event.session) = (Method::Delete, 99, Some(7));
        }
    };
    let mut all = Baselines::default();
    play(&mut all, 0..1_010, |_| 20, |_, _, _| {});
    let signals = play(
        &mut all,
        1_010..1_013,
        |_| 100,
        |minute, n, event| {
            if minute == 1_010 {
                delete(n, event)
            }
        },
    );
    let new = of(&signals, Detector::NewEndpoint);
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!(new[0].subject, Subject::new(SubjectKind::Session, 7));
    assert!(new[0].reason.contains("delete"), "{:?}", new[0]);
    // Everybody uses it, or many are new at once.
    let release = |few: u64| {
        let mut all = Baselines::default();
        play(&mut all, 0..1_010, |_| 20, |_, _, _| {});
        let signals = play(&mut all, 1_010..1_020, |_| 100, |_, n, event| event.endpoint = 1_000 + n % few);
        of(&signals, Detector::NewEndpoint).len()
    };
    assert_eq!((release(3), release(60)), (0, 0));
}

#[test]
fn what_is_usual_outlives_a_restart() {
    let mut all = Baselines::default();
    play(&mut all, 0..2 * 1_440, week, |_, _, _| {});
    let bytes = all.to_bytes();
    let mut again = Baselines::from_bytes(&bytes).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    let attack = |_: u64, _: u64, event: &mut Event| event.status = 404;
    let minutes = 2 * 1_440..2 * 1_440 + 4;
    assert!(!of(&play(&mut again, minutes, week, attack), Detector::Unusual).is_empty());
    assert!(bytes.len() < 16_000, "{}", bytes.len());
    let seed = include_bytes!("../../../../fuzz/seeds/sketch/baselines");
    assert_eq!(Baselines::from_bytes(seed).unwrap().to_bytes(), seed);
}

#[test]
fn memory_is_bounded() {
    let mut all = Baselines::default();
    for n in 0..5_000_u64 {
        let mut event = plain("192.0.2.1".parse().unwrap());
        (event.route, event.at_ms, event.endpoint) = (n, BEGIN_MS + n, n);
        all.observe(&event, &mut Vec::new());
    }
    assert_eq!(all.all.len(), BASELINES_MAX);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_baselines_or_none(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        if let Some(first) = bytes.first_mut() { *first = KIND; }
        if let Some(all) = Baselines::from_bytes(&bytes) {
            proptest::prop_assert_eq!(all.to_bytes(), bytes);
        }
    }
}

#[test]
fn how_long_it_takes_until_the_usual_is_known_is_told() {
    let mut all = Baselines::default();
    let at = |minutes: u64| BEGIN_MS + minutes * 60_000;
    assert_eq!(all.familiarity(BEGIN_MS), Familiarity::default());
    play(&mut all, 0..41, |_| 40, |_, _, _| {});
    // Of an app and its route 40 minutes are over.
    let young = Familiarity { all: 2, minutes_left: Some(20), ..Familiarity::default() };
    assert_eq!(all.familiarity(at(41)), young);
    play(&mut all, 41..2 * 1_440, |_| 40, |_, _, _| {});
    let of_days = Familiarity { all: 2, known: 2, by_hour: 2, by_week: 0, minutes_left: None };
    assert_eq!(all.familiarity(at(60)), of_days);
}

#[test]
fn what_an_order_refuses_is_no_failure_of_the_app() {
    let mut all = Baselines::default();
    play(&mut all, 0..180, |_| 100, |_, _, _| {});
    let before = all.to_bytes();
    // An attacker a hundred times as busy as people, of whom none gets through.
    let signals = play(&mut all, 180..190, |_| 10_000, |_, _, event| event.status = 0);
    assert!(signals.is_empty() && all.to_bytes() == before);
    let refused = |_, n: u64, event: &mut Event| event.status = if n.is_multiple_of(10) { 200 } else { 0 };
    assert!(play(&mut all, 190..200, |_| 1_000, refused).is_empty());
}
