//! When a report is due, and which time it is about. Pure.
//!
//! Hours are those of a fixed distance from UTC: names of zones, and clocks that change twice a year, are not known. A day is 24 hours.

use phalanx_record::rfc3339;

/// A report that is sent by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// How often.
    pub every: Every,
    /// At which hour, 0 to 23.
    pub hour: u8,
    /// How far that clock is before UTC, in minutes.
    pub offset_minutes: i16,
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

impl Schedule {
    /// When it was due last, at this time or before.
    pub fn due_before(&self, now_ms: u64) -> u64 {
        let (period, phase) = self.period();
        let since = (i128::from(now_ms) - phase).rem_euclid(period);
        u64::try_from(i128::from(now_ms) - since).unwrap_or_default()
    }

    /// When it is due next, after this time.
    pub fn due_after(&self, now_ms: u64) -> u64 {
        let (period, phase) = self.period();
        let since = (i128::from(now_ms) - phase).rem_euclid(period);
        u64::try_from(i128::from(now_ms) - since + period).unwrap_or(u64::MAX)
    }

    /// The time that a report is about that is due then: whole days of its clock, until the last midnight.
    pub fn time_before(&self, due_ms: u64) -> (u64, u64) {
        let midnight_ms = due_ms.saturating_sub(u64::from(self.hour) * HOUR_MS);
        let days = match self.every {
            Every::Day => 1,
            Every::Week(_) => 7,
        };
        (midnight_ms.saturating_sub(days * DAY_MS), midnight_ms)
    }

    /// Its length, and when it is due some time around 1970, in milliseconds.
    fn period(&self) -> (i128, i128) {
        let at_ms = i128::from(self.hour) * i128::from(HOUR_MS) - i128::from(self.offset_minutes) * 60_000;
        match self.every {
            Every::Day => (i128::from(DAY_MS), at_ms),
            // 1970 began on a Thursday.
            Every::Week(day) => (i128::from(DAY_MS) * 7, (i128::from(day) - 3) * i128::from(DAY_MS) + at_ms),
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
        format!("{every} at {:02}:00 {}", self.hour, self.zone())
    }

    /// A time in whole days of its clock, for people.
    pub fn time_words(&self, from_ms: u64, to_ms: u64) -> String {
        let local = |ms: u64| {
            let ms = i128::from(ms) + i128::from(self.offset_minutes) * 60_000;
            rfc3339(u64::try_from(ms).unwrap_or_default())
                .chars()
                .take(16)
                .collect::<String>()
                .replace('T', " ")
        };
        format!("{} to {} {}", local(from_ms), local(to_ms), self.zone())
    }

    fn zone(&self) -> String {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        match minutes {
            0 => "UTC".to_owned(),
            _ => format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60),
        }
    }
}

/// Reads `UTC`, `+01:00`, `-03:30`: minutes before UTC, up to 14 hours.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_offset(text: &str) -> Result<i16, String> {
    let wrong = || {
        format!(
            "`{}` is no distance from UTC; write it as in \"UTC\", \"+01:00\" or \"-03:30\"",
            text.escape_debug()
        )
    };
    if text == "UTC" || text == "Z" {
        return Ok(0);
    }
    let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| {
        let is_two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_two.then(|| text.parse::<i16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours).ok_or_else(wrong)?, number(minutes).ok_or_else(wrong)?);
    if hours > 14 || minutes > 59 || hours * 60 + minutes > 14 * 60 {
        return Err(wrong());
    }
    Ok(sign * (hours * 60 + minutes))
}

/// The days of the week in their order.
pub const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

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
