//! What honest people do together must not look like an attack, and must not hide one.

use super::*;

fn missing(second: f64, host: u32, software: u64, target: u64) -> Event {
    Event { status: 404, target, ..page(second, host, software) }
}

/// Somebody of a crowd, logged in.
fn member(second: f64, host: u32, session: u64) -> Event {
    Event { session: Some(session), account: Some(session), ..page(second, host, BROWSER) }
}

fn quiet(minutes: u32) -> impl Iterator<Item = Event> {
    (0..minutes * 600).map(|n| page(f64::from(n) * 0.1, 1_000 + n % 300, BROWSER))
}

#[test]
fn a_crowd_behind_one_address_may_do_more_and_a_stranger_among_them_may_not() {
    let crowd = |n: u32| member(700.0 + f64::from(n) * 0.1, 1, u64::from(n % 120));
    // Of 120 people each follows a link to something that is gone, within a minute.
    let lost = |n: u32| missing(712.0 + f64::from(n) * 0.5, 1, BROWSER, u64::from(n));
    let honest: Vec<Event> = quiet(11).chain((0..120).map(crowd)).chain((0..100).map(lost)).collect();
    let mut watched = learner();
    assert_eq!(of(&mut watched, honest), []);
    // One tool among them does as much as one may not.
    let scan = (0..60_u32).map(|n| missing(770.0 + f64::from(n) * 0.5, 1, TOOL, 1_000 + u64::from(n)));
    let signals = of(&mut watched, scan);
    assert!(
        signals.iter().any(|signal| signal.detector == Detector::Scanning
            && signal.decisive
            && signal.subject.kind == SubjectKind::Address),
        "{signals:?}"
    );
    // Without the crowd the same is a scan.
    let mut alone = learner();
    of(&mut alone, quiet(11));
    assert!(!of(&mut alone, (0..100).map(lost)).is_empty());
}

#[test]
fn a_broken_release_is_nobodys_scan() {
    let broken =
        (0..3_000_u32).map(|n| missing(660.0 + f64::from(n) * 0.05, 1_000 + n % 40, BROWSER, u64::from(n)));
    let mut watched = learner();
    of(&mut watched, quiet(11));
    let signals = of(&mut watched, broken);
    let detectors: Vec<Detector> = signals.iter().map(|signal| signal.detector).collect();
    assert_eq!(detectors, [Detector::Outage], "{signals:?}");
    assert!(signals[0].at_ms <= at(690.0), "{signals:?}");
}

#[test]
fn logins_that_fail_for_everybody_are_no_stuffing() {
    let people = |begin: f64| {
        (0..400_u32).map(move |n| Event {
            session: Some(u64::from(n)),
            ..login(begin + f64::from(n) * 0.2, 1 + n % 12, BROWSER, u64::from(n), Outcome::Failed)
        })
    };
    let mut watched = learner();
    of(&mut watched, quiet(11));
    let before =
        (0..60_u32).map(|n| login(661.0 + f64::from(n), 1 + n % 12, BROWSER, u64::from(n), Outcome::Passed));
    of(&mut watched, before);
    let signals = of(&mut watched, people(722.0));
    assert_eq!(signals, []);
    // A tool that tries stolen passwords meanwhile is one.
    let tool =
        (0..30_u32).map(|n| login(790.0 + f64::from(n), 77, TOOL, 9_000 + u64::from(n), Outcome::Failed));
    assert!(of(&mut watched, tool).iter().any(|signal| signal.detector == Detector::Stuffing));
}

#[test]
fn an_album_of_ones_own_is_no_walk() {
    // Everybody pages through pictures that nobody else sees, one after the other.
    let picture = |person: u32, n: u32| Event {
        session: Some(u64::from(person)),
        account: Some(u64::from(person)),
        object: Some(u64::from(person * 10_000 + n)),
        ..page(f64::from(person * 20) + f64::from(n), person * 256, BROWSER)
    };
    let album = |people: std::ops::Range<u32>| {
        people.flat_map(move |person| (0..15).map(move |n| picture(person, n)))
    };
    let mut watched = learner();
    // Until some have, it cannot be known.
    of(&mut watched, album(1..6));
    assert_eq!(of(&mut watched, album(6..60)), []);
}

#[test]
fn a_popular_password_that_is_mistyped_is_no_spraying() {
    // Three of a hundred wrong passwords are the same, for other accounts, on a large site.
    let wrong = (0..1_000_u32).map(|n| Event {
        secret: Some(if n % 33 == 0 { 7 } else { u16::try_from(1_000 + n).unwrap() }),
        ..login(f64::from(n) * 0.05, 256 * n, u64::from(n), u64::from(n), Outcome::Failed)
    });
    assert_eq!(spoke(wrong), []);
}

#[test]
fn a_crawler_with_an_old_list_is_no_scanner() {
    let crawl = |share: u32| {
        (0..400_u32).map(move |n| {
            let second = f64::from(n) * 0.6;
            if n * 37 % 100 < share { missing(second, 5, TOOL, u64::from(n)) } else { page(second, 5, TOOL) }
        })
    };
    assert_eq!(spoke(crawl(30)), []);
    assert_eq!(spoke(crawl(70)), [(Detector::Scanning, true)]);
}

#[test]
fn accounts_that_stolen_passwords_open_are_named() {
    let attempt = |n: u32| {
        let outcome = if n % 15 == 7 { Outcome::Passed } else { Outcome::Failed };
        login(f64::from(n), 1, TOOL, u64::from(n), outcome)
    };
    let signals = of(&mut learner(), (0..40).map(attempt));
    let mut named: Vec<u64> = signals
        .iter()
        .filter(|signal| signal.subject.kind == SubjectKind::Account && signal.decisive)
        .map(|signal| signal.subject.id)
        .collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, [7, 22, 37]);
    // Somebody with a browser at the same address is not.
    let mut watched = learner();
    of(&mut watched, quiet(11));
    of(
        &mut watched,
        (0..30_u32).map(|n| login(661.0 + f64::from(n), 1, TOOL, u64::from(n), Outcome::Failed)),
    );
    let own = of(&mut watched, [login(692.0, 1, BROWSER, 5_000, Outcome::Passed)]);
    assert!(own.iter().all(|signal| signal.subject != Subject::new(SubjectKind::Account, 5_000)), "{own:?}");
}
