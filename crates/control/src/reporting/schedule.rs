//! When a report is due, and which time it is about. Pure.
//!
//! A day goes from midnight to midnight of the schedule's clock. Where that changes twice a year a day has 23 or 25 hours, a week 167 or
//! 169. An hour that does not exist on a day is over when it would begin; one that is there twice is the first of the two.
//!
//! INVARIANT: the times of a schedule follow each other without gap or overlap, and each is due once.

use crate::zone::Zone;

/// A report that is sent by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// How often.
    pub every: Every,
    /// At which hour, 0 to 23.
    pub hour: u8,
    /// Whose clock and calendar that is.
    pub zone: Zone,
    /// Only this app; all without it.
    pub app: Option<String>,
    /// Receivers, by name.
    pub to: Vec<String>,
    /// What is enclosed in mail.
    pub attach: Vec<Form>,
}

/// How often a report is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Each day, about the day before.
    Day,
    /// On this day of the week, 0 for Monday, about the seven days before.
    Week(u8),
}

/// A form in which a report is enclosed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A table.
    Csv,
    /// All of it for programs.
    Json,
}

/// A report that is due, or was: when, and which time it is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub due_ms: u64,
    /// From here on,
    pub from_ms: u64,
    /// until here, exclusive.
    pub to_ms: u64,
}

impl Schedule {
    /// What was due last, at this time or before.
    pub fn due_before(&self, now_ms: u64) -> Due {
        // A day that has begun somewhere may be due; the others are past.
        let today = self.zone.day_at(now_ms).saturating_add(1);
        let days = (0..=LOOKED_AT_DAYS).map(|back| today - back).filter(|day| self.is_on(*day));
        days.map(|day| self.due_on(day)).find(|due| due.due_ms <= now_ms).unwrap_or_default()
    }

    /// When it is due next, after this time.
    pub fn due_after(&self, now_ms: u64) -> u64 {
        let today = self.zone.day_at(now_ms).saturating_sub(1);
        let days = (0..=LOOKED_AT_DAYS).map(|ahead| today + ahead).filter(|day| self.is_on(*day));
        days.map(|day| self.due_on(day).due_ms).find(|due_ms| *due_ms > now_ms).unwrap_or(u64::MAX)
    }

    /// The time that a report is about that is due at some time of that day: whole days of its calendar, until the last midnight.
    pub fn time_before(&self, due_ms: u64) -> (u64, u64) {
        let Due { from_ms, to_ms, .. } = self.due_on(self.zone.day_at(due_ms));
        (from_ms, to_ms)
    }

    /// Where the time before begins that a report is compared with, which ends where it begins: as many days, if not as many hours.
    pub fn compared_from(&self, from_ms: u64) -> u64 {
        // Its beginning is a midnight, or follows one that does not exist.
        self.zone.first_at(self.zone.day_at(from_ms) - self.days(), 0)
    }

    fn due_on(&self, day: i64) -> Due {
        Due {
            due_ms: self.zone.first_at(day, i64::from(self.hour) * 60),
            from_ms: self.zone.first_at(day - self.days(), 0),
            to_ms: self.zone.first_at(day, 0),
        }
    }

    fn is_on(&self, day: i64) -> bool {
        match self.every {
            Every::Day => true,
            // 1970 began on a Thursday.
            Every::Week(weekday) => (day + 3).rem_euclid(7) == i64::from(weekday),
        }
    }

    fn days(&self) -> i64 {
        match self.every {
            Every::Day => 1,
            Every::Week(_) => 7,
        }
    }

    /// When it is sent, for people.
    pub fn words(&self) -> String {
        let every = match self.every {
            Every::Day => "each day".to_owned(),
            Every::Week(day) => {
                format!("each {}", WEEKDAYS.get(usize::from(day)).copied().unwrap_or_default())
            }
        };
        format!("{every} at {:02}:00 {}", self.hour, self.zone.name())
    }
}

/// The days of the week in their order.
pub const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// From the day after today on, a week back or ahead and the days around it.
const LOOKED_AT_DAYS: i64 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(every: Every, hour: u8, offset_minutes: i16) -> Schedule {
        Schedule { every, hour, offset_minutes, app: None, to: Vec::new(), attach: Vec::new() }
    }

    /// Unix milliseconds of a time in UTC, by another way than the schedule's.
    fn at(year: u64, month: usize, day: u64, hour: u64, minute: u64) -> u64 {
        let leap =
            |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
        let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let months: u64 = lengths.iter().take(month - 1).sum();
        ((years + months + day - 1) * 24 + hour) * 3_600_000 + minute * 60_000
    }

    #[test]
    fn days_are_due_at_their_hour_over_the_ends_of_months_and_years() {
        for (hour, offset, now, due, next) in [
            (7, 0, at(2026, 1, 1, 6, 59), at(2025, 12, 31, 7, 0), at(2026, 1, 1, 7, 0)),
            (7, 0, at(2026, 1, 1, 7, 0), at(2026, 1, 1, 7, 0), at(2026, 1, 2, 7, 0)),
            (7, 60, at(2028, 2, 29, 5, 59), at(2028, 2, 28, 6, 0), at(2028, 2, 29, 6, 0)),
            (0, 60, at(2026, 3, 1, 0, 0), at(2026, 2, 28, 23, 0), at(2026, 3, 1, 23, 0)),
            (23, -570, at(2026, 12, 31, 8, 0), at(2026, 12, 30, 8, 30), at(2026, 12, 31, 8, 30)),
        ] {
            let daily = schedule(Every::Day, hour, offset);
            assert_eq!((daily.due_before(now), daily.due_after(now)), (due, next), "{}", daily.words());
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
            let weekly = schedule(Every::Week(day), 7, 0);
            assert_eq!((weekly.due_before(now), weekly.due_after(now)), (due, next), "{}", weekly.words());
        }
    }

    #[test]
    fn a_report_is_about_whole_days_of_its_clock() {
        let daily = schedule(Every::Day, 7, 120);
        let due = daily.due_before(at(2026, 1, 1, 6, 0));
        assert_eq!(daily.time_before(due), (at(2025, 12, 30, 22, 0), at(2025, 12, 31, 22, 0)));
        let (from, to) = daily.time_before(due);
        assert_eq!(daily.time_words(from, to), "2025-12-31 00:00 to 2026-01-01 00:00 UTC+02:00");
        let weekly = schedule(Every::Week(0), 0, 0);
        let due = weekly.due_before(at(2026, 1, 5, 0, 0));
        assert_eq!(weekly.time_before(due), (at(2025, 12, 29, 0, 0), at(2026, 1, 5, 0, 0)));
        assert_eq!(weekly.words(), "each monday at 00:00 UTC");
    }

    #[test]
    fn what_is_due_next_is_due_before_once_it_has_come() {
        for offset in [-840, -1, 0, 330, 840] {
            for every in [Every::Day, Every::Week(0), Every::Week(6)] {
                let one = schedule(every, 5, offset);
                let mut now = at(2027, 12, 1, 0, 0);
                for _ in 0..60 {
                    let next = one.due_after(now);
                    assert!(next > now && one.due_before(next) == next && one.due_before(next - 1) <= now);
                    let days = if every == Every::Day { 1 } else { 7 };
                    let (from, to) = one.time_before(next);
                    assert_eq!((to - from, next - to), (days * DAY_MS, 5 * HOUR_MS));
                    now = next;
                }
            }
        }
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
}
