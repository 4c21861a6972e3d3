//! Zones are read, and say what clocks show.

use super::*;

/// Names, and rules of each kind that there is: north and south, by less than an hour, by two, the other way round, at midnight, before it, by day of the year, none.
pub(crate) const ZONES: &[&str] = &[
    "UTC",
    "+05:45",
    "-03:30",
    "+14:00",
    "-12:00",
    "IST-5:30",
    "<+0545>-5:45",
    "GMT0BST,M3.5.0/1,M10.5.0",
    "IST-1GMT0,M10.5.0,M3.5.0/1",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "EST5EDT,M3.2.0,M11.1.0",
    "NST3:30NDT,M3.2.0,M11.1.0",
    "AEST-10AEDT,M10.1.0,M4.1.0/3",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "<+00>0<+02>-2,M3.5.0/1,M10.5.0/3",
    "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
    "CST5CDT,M3.2.0/0,M11.1.0/1",
    "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
    "<-03>3<-02>,M10.3.0/0,M2.3.0/0",
    "EET-2EEST,M4.5.5/0,M10.5.4/24",
    "IST-2IDT,M3.4.4/26,M10.5.0",
    "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
    "AAA-3BBB,J60/0,J300/0",
    "AAA-3BBB,59/0,299/0",
    "Europe/Berlin",
    "Africa/Casablanca",
    "Asia/Kathmandu",
];

#[test]
fn rules_say_when_a_clock_changes() {
    // The last second before a change, and the change.
    for (rule, change_ms, before, after) in [
        (
            "CET-1CEST,M3.5.0,M10.5.0/3",
            1_774_746_000_000,
            "2026-03-29 01:59 UTC+01:00",
            "2026-03-29 03:00 UTC+02:00",
        ),
        (
            "CET-1CEST,M3.5.0,M10.5.0/3",
            1_792_890_000_000,
            "2026-10-25 02:59 UTC+02:00",
            "2026-10-25 02:00 UTC+01:00",
        ),
        (
            "EST5EDT,M3.2.0,M11.1.0",
            1_772_953_200_000,
            "2026-03-08 01:59 UTC-05:00",
            "2026-03-08 03:00 UTC-04:00",
        ),
        (
            "AEST-10AEDT,M10.1.0,M4.1.0/3",
            1_775_318_400_000,
            "2026-04-05 02:59 UTC+11:00",
            "2026-04-05 02:00 UTC+10:00",
        ),
        (
            "IST-1GMT0,M10.5.0,M3.5.0/1",
            1_774_746_000_000,
            "2026-03-29 00:59 UTC",
            "2026-03-29 02:00 UTC+01:00",
        ),
    ] {
        let zone = Zone::parse(rule).unwrap();
        let shown = |at_ms| format!("{} {}", zone.shown(at_ms), zone.distance_at(at_ms));
        assert_eq!([shown(change_ms - 1), shown(change_ms)], [before, after], "{rule}");
    }
    let zone = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    assert_eq!(zone.rfc3339(1_774_746_000_000), "2026-03-29T03:00:00.000+02:00");
    assert_eq!((zone.date(1_774_738_800_000), zone.name()), ("2026-03-29".into(), "CET/CEST".into()));
    assert_eq!(Zone::default().rfc3339(0), "1970-01-01T00:00:00.000Z");
}

#[test]
fn a_clock_shows_each_minute_first_when_it_has_not_shown_it_before() {
    for text in ZONES {
        let zone = Zone::parse(text).unwrap();
        assert_eq!((zone.to_string().as_str(), Zone::parse(&zone.to_string())), (*text, Ok(zone.clone())));
        let mut before = 0;
        for day in 20_400..20_800 {
            for minute in [0, 30, 90, 120, 150, 23 * 60] {
                let first = zone.first_at(day, minute);
                let local = |at_ms: u64| signed(at_ms) + zone.offset_ms(signed(at_ms));
                let wanted = day * DAY_MS + minute * MINUTE_MS;
                assert!(local(first) >= wanted && local(first - 1) < wanted, "{text}: {day} {minute}");
                assert!(first >= before, "{text}: {day} {minute}");
                before = first;
            }
        }
    }
}

#[test]
fn what_is_no_zone_is_told_with_why() {
    for (text, why) in [
        ("Berlin", "did you mean `Europe/Berlin`?"),
        ("new york", "did you mean `America/New_York`?"),
        ("Europe/Brelin", "did you mean `Europe/Berlin`?"),
        ("Nowhere/At_All", "is neither the name of a time zone nor the rule of a clock"),
        ("", "is neither"),
        ("../../etc/passwd", "is neither"),
        ("UTC+1", "the sign is turned round"),
        ("CET-1CEST,M3.5.0", "is neither"),
        ("CET-1CEST,M13.5.0,M10.5.0", "is neither"),
        ("CET-1:00:30", "part of a minute"),
        ("AAA-15", "14 hours"),
        ("AAA-1BBB-5,M3.5.0,M10.5.0", "more than 3 hours"),
        ("AAA-1BBB,M3.5.0,M3.6.0", "is neither"),
        ("AAA-1BBB,J1,J365", "twice within a week"),
        ("<\u{1b}[0m>1", "is neither"),
        ("AAA-999999999999999999999", "is neither"),
    ] {
        let told = Zone::parse_place(text).unwrap_err();
        assert!(told.contains(why) && !told.contains('\u{1b}'), "{text}: {told}");
    }
    assert!(Zone::parse_place(&"é".repeat(4_000)).unwrap_err().len() < 300);
}

#[test]
fn names_are_known_without_a_file_of_the_machine_and_however_they_are_written() {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    assert!(names.len() > 400, "{}", names.len());
    assert_eq!(Zone::parse("europe/BERLIN").unwrap().to_string(), "Europe/Berlin");
    let berlin = Zone::parse("Europe/Berlin").unwrap();
    assert_eq!(berlin.name(), "Europe/Berlin");
    let rule = Zone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    for day in 20_400..20_800 {
        assert_eq!(berlin.first_at(day, 120), rule.first_at(day, 120), "{day}");
    }
    // The hour of Ramadan follows no rule of the calendar.
    let casablanca = Zone::parse("Africa/Casablanca").unwrap();
    let told = [1_770_000_000_000, 1_772_000_000_000].map(|at_ms| casablanca.distance_at(at_ms));
    assert_eq!(told, ["UTC+01:00", "UTC"]);
}

#[test]
fn distances_from_utc_are_read() {
    for (text, minutes) in [("UTC", 0), ("+01:00", 60), ("-03:30", -210), ("+14:00", 840)] {
        assert_eq!(parse_offset(text), Ok(minutes));
    }
    for text in ["", "Europe/Berlin", "+1", "+15:00", "+01:60", "01:00", "+-1:00", "+14:30"] {
        assert!(parse_offset(text).is_err(), "{text}");
    }
}
