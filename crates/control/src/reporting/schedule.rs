//! When a report is due, and which time it is about. Pure.
//!
//! A day goes from midnight to midnight of the schedule's clock. Where that changes twice a year a day has 23 or 25 hours, a week 167 or
//! 169. An hour that does not exist on a day is over when it would begin; one that is there twice is the first of the two.
//!
//! INVARIANT: the times of a schedule follow each other without gap or overlap, and each is due once.

use super::deliveries::Due;
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
#[path = "schedule_tests.rs"]
mod tests;
