//! When reports are due, over clocks that change.

use proptest::prelude::*;

use super::*;
use crate::zone::tests::ZONES;

fn schedule(every: Every, hour: u8, zone: &str) -> Schedule {
    let zone = Zone::parse(zone).unwrap();
    Schedule { every, hour, zone, app: None, to: Vec::new(), attach: Vec::new() }
}

/// Unix milliseconds of a time in UTC, by another way than the schedule's.
fn at(year: u64, month: usize, day: u64, hour: u64, minute: u64) -> u64 {
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: u64 = lengths.iter().take(month - 1).sum();
    ((years + months + day - 1) * 24 + hour) * HOUR_MS + minute * 60_000
}

#[test]
fn days_are_due_at_their_hour_over_the_ends_of_months_and_years() {
    for (hour, zone, now, due, next) in [
        (7, "UTC", at(2026, 1, 1, 6, 59), at(2025, 12, 31, 7, 0), at(2026, 1, 1, 7, 0)),
        (7, "UTC", at(2026, 1, 1, 7, 0), at(2026, 1, 1, 7, 0), at(2026, 1, 2, 7, 0)),
        (7, "+01:00", at(2028, 2, 29, 5, 59), at(2028, 2, 28, 6, 0), at(2028, 2, 29, 6, 0)),
        (0, "+01:00", at(2026, 3, 1, 0, 0), at(2026, 2, 28, 23, 0), at(2026, 3, 1, 23, 0)),
        (23, "-09:30", at(2026, 12, 31, 8, 0), at(2026, 12, 30, 8, 30), at(2026, 12, 31, 8, 30)),
        // Berlin: seven o'clock stays seven o'clock.
        (7, BERLIN, at(2026, 3, 29, 4, 59), at(2026, 3, 28, 6, 0), at(2026, 3, 29, 5, 0)),
        (7, BERLIN, at(2026, 10, 25, 5, 59), at(2026, 10, 24, 5, 0), at(2026, 10, 25, 6, 0)),
        // Half past two does not exist, nor does two: it is over at three.
        (2, BERLIN, at(2026, 3, 29, 0, 59), at(2026, 3, 28, 1, 0), at(2026, 3, 29, 1, 0)),
        // Two o'clock comes twice: the first counts, and the second is nothing.
        (2, BERLIN, at(2026, 10, 25, 1, 30), at(2026, 10, 25, 0, 0), at(2026, 10, 26, 1, 0)),
    ] {
        let daily = schedule(Every::Day, hour, zone);
        assert_eq!((daily.due_before(now).due_ms, daily.due_after(now)), (due, next), "{}", daily.words());
    }
}

#[test]
fn weeks_are_due_on_their_day() {
    // The 4th of January 2026 was a Sunday.
    for (day, now, due, next) in [
        (0, at(2026, 1, 4, 12, 0), at(2025, 12, 29, 7, 0), at(2026, 1, 5, 7, 0)),
        (6, at(2026, 1, 4, 7, 0), at(2026, 1, 4, 7, 0), at(2026, 1, 11, 7, 0)),
        (3, at(2024, 2, 29, 7, 0), at(2024, 2, 29, 7, 0), at(2024, 3, 7, 7, 0)),
    ] {
        let weekly = schedule(Every::Week(day), 7, "UTC");
        let found = (weekly.due_before(now).due_ms, weekly.due_after(now));
        assert_eq!(found, (due, next), "{}", weekly.words());
    }
}

#[test]
fn a_report_is_about_whole_days_of_its_clock_and_so_is_what_it_is_compared_with() {
    let daily = schedule(Every::Day, 7, "+02:00");
    let due = daily.due_before(at(2026, 1, 1, 6, 0));
    assert_eq!((due.from_ms, due.to_ms), (at(2025, 12, 30, 22, 0), at(2025, 12, 31, 22, 0)));
    assert_eq!(daily.time_before(due.due_ms), (due.from_ms, due.to_ms));
    let weekly = schedule(Every::Week(0), 0, "UTC");
    let due = weekly.due_before(at(2026, 1, 5, 0, 0));
    assert_eq!((due.from_ms, due.to_ms), (at(2025, 12, 29, 0, 0), at(2026, 1, 5, 0, 0)));
    assert_eq!(weekly.words(), "each monday at 00:00 UTC");
    // A day of 23 hours, compared with one of 24; a week of 169, compared with one of 168.
    let daily = schedule(Every::Day, 7, BERLIN);
    let due = daily.due_before(at(2026, 3, 30, 5, 0));
    let before = due.from_ms - daily.compared_from(due.from_ms);
    assert_eq!(((due.to_ms - due.from_ms) / HOUR_MS, before / HOUR_MS), (23, 24));
    let weekly = schedule(Every::Week(0), 7, BERLIN);
    let due = weekly.due_before(at(2026, 10, 26, 6, 0));
    let before = due.from_ms - weekly.compared_from(due.from_ms);
    assert_eq!(((due.to_ms - due.from_ms) / HOUR_MS, before / HOUR_MS), (169, 168));
    assert_eq!(weekly.words(), "each monday at 07:00 CET/CEST");
}

/// Follows a schedule for some years.
fn follows_without_gap(one: &Schedule, from_ms: u64, years: u64) -> Result<(), TestCaseError> {
    let mut due = one.due_before(from_ms);
    while due.due_ms < from_ms + years * 366 * 24 * HOUR_MS {
        let next_ms = one.due_after(due.due_ms);
        let next = one.due_before(next_ms);
        let shown = format!("{} of {}: {due:?}, {next:?}", one.words(), one.zone);
        prop_assert!(next_ms > due.due_ms && next.due_ms == next_ms, "{}", shown);
        prop_assert_eq!(one.due_before(next_ms - 1), due, "nothing is due between two: {}", shown);
        prop_assert_eq!(due.to_ms, next.from_ms, "no gap and no overlap: {}", shown);
        prop_assert!(due.from_ms < due.to_ms && due.to_ms <= due.due_ms, "{}", shown);
        prop_assert!(one.compared_from(next.from_ms) == due.from_ms, "it is compared with that: {}", shown);
        let days = if one.every == Every::Day { 1 } else { 7 };
        let length = (due.to_ms - due.from_ms).abs_diff(days * 24 * HOUR_MS);
        prop_assert!(length <= 3 * HOUR_MS, "{}", shown);
        due = next;
    }
    Ok(())
}

#[test]
fn times_of_all_zones_follow_each_other_and_each_is_due_once() {
    for zone in ZONES {
        for (every, hour) in
            [(Every::Day, 0), (Every::Day, 2), (Every::Day, 23), (Every::Week(0), 0), (Every::Week(6), 3)]
        {
            follows_without_gap(&schedule(every, hour, zone), at(2023, 12, 30, 0, 0), 3).unwrap();
        }
    }
}

#[test]
fn times_of_all_places_follow_each_other_too() {
    for name in jiff::tz::db().available() {
        follows_without_gap(&schedule(Every::Day, 2, name.as_str()), at(2026, 1, 1, 0, 0), 1).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn times_of_made_up_rules_follow_each_other_too(
        (west, step) in (-11 * 60i64..11 * 60, -60i64..=120),
        begins in (1..=6u8, 1..=5u8, 0..=6u8, -24..=48i8),
        ends in (8..=11u8, 1..=5u8, 0..=6u8, -24..=48i8),
        (hour, week) in (0..24u8, proptest::option::of(0..7u8)),
        year in 1975..2090u64,
    ) {
        let time = |minutes: i64| {
            let sign = if minutes < 0 { "-" } else { "" };
            format!("{sign}{}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
        };
        let change = |(month, week, day, hour): (u8, u8, u8, i8)| format!("M{month}.{week}.{day}/{hour}");
        let rule = format!("<STD>{}<OTH>{},{},{}", time(west), time(west - step), change(begins), change(ends));
        let every = week.map_or(Every::Day, Every::Week);
        follows_without_gap(&schedule(every, hour, &rule), at(year, 1, 1, 0, 0), 2)?;
    }
}

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const HOUR_MS: u64 = 3_600_000;
