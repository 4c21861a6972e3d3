//! Clocks of people: how far before UTC they are, and when that changes. Pure.
//!
//! A zone is a distance from UTC, or a rule as POSIX has it for `TZ` (RFC 9636, section 3.3.1): `CET-1CEST,M3.5.0,M10.5.0/3`.
//!
//! INVARIANT: what a zone says stands in the settings, all of it. No file of the machine is read, so that no two nodes disagree about an hour.

use std::fmt;

use phalanx_record::rfc3339;

/// How far a clock is before UTC, at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// As it is written; what [`Zone::parse`] reads.
    text: String,
    standard: Clock,
    summer: Option<Summer>,
}

/// One of the two clocks of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clock {
    name: String,
    /// Before UTC.
    offset_minutes: i64,
}

/// The other clock, and when it is looked at. It may be the slower one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Summer {
    clock: Clock,
    begins: Change,
    ends: Change,
}

/// When a clock changes, each year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: Day,
    /// After midnight of the clock that is left.
    minute: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// A weekday, 0 for Sunday, of a month: the first to the fourth, or, with 5, the last.
    Weekday { month: i64, week: i64, weekday: i64 },
    /// From 1 to 365; the 29th of February is never counted.
    Julian(i64),
    /// From 0 to 365, with the 29th of February.
    Counted(i64),
}

impl Zone {
    /// A clock that never changes.
    pub fn fixed(offset_minutes: i16) -> Self {
        let offset_minutes = i64::from(offset_minutes);
        let text = if offset_minutes == 0 { "UTC".to_owned() } else { distance(offset_minutes) };
        let name = if offset_minutes == 0 { text.clone() } else { format!("UTC{text}") };
        Self { text, standard: Clock { name, offset_minutes }, summer: None }
    }

    /// Reads a distance from UTC, or a rule.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_distance = text == "UTC" || text == "Z" || text.starts_with(['+', '-']);
        if is_distance { parse_offset(text).map(Self::fixed) } else { Self::parse_rule(text) }
    }

    /// Reads a rule.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse_rule(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(TEXT_BYTES_MAX).flat_map(char::escape_debug).collect();
        let wrong = |why: &str| format!("`{shown}` is no rule of a clock: {why}");
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let (standard, rest) =
            clock(text).ok_or_else(|| wrong("it does not begin with a name and a distance, as `CET-1`"))?;
        let Some(offset_minutes) = standard.1 else {
            return Err(wrong("after the name it has no distance from UTC"));
        };
        let standard = Clock { name: standard.0.to_owned(), offset_minutes };
        if ["UTC", "GMT"].contains(&&*standard.name) && offset_minutes != 0 {
            return Err(wrong(
                "in a rule the sign is turned round, west is +; write `utc_offset` for a distance from UTC",
            ));
        }
        let mut zone = Self { text: text.to_owned(), standard, summer: None };
        if !rest.is_empty() {
            zone.summer = Some(summer(rest, offset_minutes).map_err(wrong)?);
        }
        if zone.extremes().any(|minutes| minutes.abs() > OFFSET_MINUTES_MAX) {
            return Err(wrong("no clock is more than 14 hours from UTC"));
        }
        if !zone.changes_apart() {
            return Err(wrong("its clock goes by more than 3 hours at once, or twice within a week"));
        }
        Ok(zone)
    }

    /// Its name, for people.
    pub fn name(&self) -> String {
        match &self.summer {
            Some(summer) => format!("{}/{}", self.standard.name, summer.clock.name),
            None => self.standard.name.clone(),
        }
    }

    /// How far its clock is before UTC at that time, for people: `UTC+01:00`.
    pub fn distance_at(&self, at_ms: u64) -> String {
        match self.offset_ms(signed(at_ms)) / MINUTE_MS {
            0 => "UTC".to_owned(),
            minutes => format!("UTC{}", distance(minutes)),
        }
    }

    /// What its clock shows then, without seconds.
    pub fn shown(&self, at_ms: u64) -> String {
        self.local(at_ms).chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
    }

    /// The day that its calendar shows then: `2026-01-31`.
    pub fn date(&self, at_ms: u64) -> String {
        self.local(at_ms).chars().take(10).collect()
    }

    /// That time for programs, with the distance from UTC (RFC 3339).
    pub fn rfc3339(&self, at_ms: u64) -> String {
        match self.offset_ms(signed(at_ms)) / MINUTE_MS {
            0 => rfc3339(at_ms),
            minutes => format!("{}{}", self.local(at_ms).trim_end_matches('Z'), distance(minutes)),
        }
    }

    /// The number of the day, from 1970 on, that its calendar shows then.
    pub(crate) fn day_at(&self, at_ms: u64) -> i64 {
        let at_ms = signed(at_ms);
        (at_ms + self.offset_ms(at_ms)).div_euclid(DAY_MS)
    }

    /// When its clock first shows that minute of the day, or has gone beyond it: an hour that does not exist is over when it would
    /// begin, and of one that is there twice it is the first. Never decreases with day and minute.
    pub(crate) fn first_at(&self, day: i64, minute: i64) -> u64 {
        let local = day * DAY_MS + minute * MINUTE_MS;
        let (most, least) = self
            .extremes()
            .fold((i64::MIN, i64::MAX), |(most, least), minutes| (most.max(minutes), least.min(minutes)));
        // Before `begins` no clock of the zone shows it, from `ends` on each does. Between them only a change can make it shown.
        let (begins, ends) = (local - most * MINUTE_MS, local - least * MINUTE_MS);
        let changes =
            self.changes_near(begins).map(|(at_ms, _)| at_ms).filter(|at_ms| (begins..ends).contains(at_ms));
        let candidates = changes.chain([begins, ends]);
        let shows = |at_ms: &i64| at_ms + self.offset_ms(*at_ms) >= local;
        u64::try_from(candidates.filter(shows).min().unwrap_or(ends)).unwrap_or_default()
    }

    fn local(&self, at_ms: u64) -> String {
        let at_ms = signed(at_ms);
        rfc3339(u64::try_from(at_ms + self.offset_ms(at_ms)).unwrap_or_default())
    }

    fn offset_ms(&self, at_ms: i64) -> i64 {
        let latest = self
            .changes_near(at_ms)
            .filter(|(change_ms, _)| *change_ms <= at_ms)
            .max_by_key(|(change_ms, _)| *change_ms);
        latest.map_or(self.standard.offset_minutes, |(_, minutes)| minutes) * MINUTE_MS
    }

    /// Changes of that year, the one before and the one after, and the minutes before UTC from then on.
    fn changes_near(&self, at_ms: i64) -> impl Iterator<Item = (i64, i64)> {
        let year = year_of(at_ms.div_euclid(DAY_MS));
        self.summer
            .iter()
            .flat_map(move |summer| (year - 1..=year + 1).flat_map(|year| self.changes(summer, year)))
    }

    fn changes(&self, summer: &Summer, year: i64) -> [(i64, i64); 2] {
        let (standard, other) = (self.standard.offset_minutes, summer.clock.offset_minutes);
        let at_ms =
            |change: Change, left: i64| change.day.of(year) * DAY_MS + (change.minute - left) * MINUTE_MS;
        [(at_ms(summer.begins, standard), other), (at_ms(summer.ends, other), standard)]
    }

    fn extremes(&self) -> impl Iterator<Item = i64> {
        [Some(&self.standard), self.summer.as_ref().map(|summer| &summer.clock)]
            .into_iter()
            .flatten()
            .map(|clock| clock.offset_minutes)
    }

    /// Whether days stay days: the clock goes by a few hours at most, and not again at once. All years are looked at, as their weekdays differ.
    fn changes_apart(&self) -> bool {
        let Some(summer) = &self.summer else { return true };
        let step = (summer.clock.offset_minutes - self.standard.offset_minutes).abs();
        let mut changes: Vec<i64> =
            (1970..2370).flat_map(|year| self.changes(summer, year)).map(|(at_ms, _)| at_ms).collect();
        changes.sort_unstable();
        step <= STEP_MINUTES_MAX
            && changes.iter().zip(changes.iter().skip(1)).all(|(one, next)| next - one >= 7 * DAY_MS)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::fixed(0)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Day {
    /// Its number from 1970 on.
    fn of(self, year: i64) -> i64 {
        match self {
            Self::Weekday { month, week, weekday } => {
                let first = day_number(year, month, 1);
                // 1970 began on a Thursday.
                let day = first + (weekday - (first + 4)).rem_euclid(7) + (week - 1) * 7;
                let next_month =
                    if month == 12 { day_number(year + 1, 1, 1) } else { day_number(year, month + 1, 1) };
                if day < next_month { day } else { day - 7 }
            }
            Self::Julian(day) => {
                let after_february = is_leap(year) && day >= 60;
                day_number(year, 1, 1) + day - 1 + i64::from(after_february)
            }
            Self::Counted(day) => day_number(year, 1, 1) + day,
        }
    }
}

/// Reads `UTC`, `+01:00`, `-03:30`: minutes before UTC, up to 14 hours.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_offset(text: &str) -> Result<i16, String> {
    let wrong = || {
        let shown: String = text.chars().take(TEXT_BYTES_MAX).flat_map(char::escape_debug).collect();
        format!("`{shown}` is no distance from UTC; write it as in \"UTC\", \"+01:00\" or \"-03:30\"")
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

/// A name, the minutes before UTC if they are said, and what follows.
fn clock(text: &str) -> Option<((&str, Option<i64>), &str)> {
    let (name, rest) = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?,
        None => text.split_at(text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len())),
    };
    let is_name =
        name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-".contains(&byte));
    if !is_name {
        return None;
    }
    if rest.is_empty()
        || rest.starts_with(',')
        || rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '<')
    {
        return Some(((name, None), rest));
    }
    let (minutes, rest) = minutes(rest, 24)?;
    // POSIX counts what is added to the clock to get UTC.
    Some(((name, Some(-minutes)), rest))
}

/// The second clock of a rule, and its two changes.
fn summer(text: &str, standard_minutes: i64) -> Result<Summer, &'static str> {
    let ((name, offset_minutes), rest) = clock(text)
        .ok_or("the name of its second clock has less than three letters, or its distance is wrong")?;
    let offset_minutes = offset_minutes.unwrap_or(standard_minutes + 60);
    let clock = Clock { name: name.to_owned(), offset_minutes };
    let changes = rest.strip_prefix(',').and_then(|changes| changes.split_once(','));
    let (begins, ends) =
        changes.ok_or("it does not say when its clock changes, as `,M3.5.0,M10.5.0/3` does")?;
    let read =
        |text| change(text).ok_or("a day on which its clock changes is wrong; write it as in `M3.5.0/2`");
    Ok(Summer { clock, begins: read(begins)?, ends: read(ends)? })
}

fn change(text: &str) -> Option<Change> {
    let (day, time) = text.split_once('/').map_or((text, None), |(day, time)| (day, Some(time)));
    let minute = match time {
        None => 2 * 60,
        Some(time) => minutes(time, 167).filter(|(_, rest)| rest.is_empty())?.0,
    };
    let within = |text: &str, least: i64, most: i64| {
        let number =
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
        number.filter(|number| (least..=most).contains(number))
    };
    let day = if let Some(of_month) = day.strip_prefix('M') {
        let (month, rest) = of_month.split_once('.')?;
        let (week, weekday) = rest.split_once('.')?;
        Day::Weekday {
            month: within(month, 1, 12)?,
            week: within(week, 1, 5)?,
            weekday: within(weekday, 0, 6)?,
        }
    } else if let Some(day) = day.strip_prefix('J') {
        Day::Julian(within(day, 1, 365)?)
    } else {
        Day::Counted(within(day, 0, 365)?)
    };
    Some(Change { day, minute })
}

/// `[+-]hh[:mm]` as minutes, and what follows. Seconds are none that a clock of today has.
fn minutes(text: &str, hours_max: i64) -> Option<(i64, &str)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = |text: &str, digits_max: usize, most: i64| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()).min(digits_max);
        let (digits, _) = text.split_at_checked(end)?;
        Some((digits.parse::<i64>().ok().filter(|number| *number <= most)?, end))
    };
    let (hours, end) = number(text, 3, hours_max)?;
    let (_, mut rest) = text.split_at_checked(end)?;
    let mut minutes = 0;
    if let Some(after) = rest.strip_prefix(':') {
        let (read, end) = number(after, 2, 59)?;
        (minutes, rest) = (read, after.split_at_checked(end)?.1);
    }
    Some((sign * (hours * 60 + minutes), rest))
}

/// `+01:00`.
fn distance(minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The number of a day from 1970 on, by the Gregorian calendar.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the day that is sometimes there is the last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 719_469
}

fn year_of(day: i64) -> i64 {
    // 400 years are 146,097 days. Off by one at the ends of years.
    let mut year = 1970 + (day * 400).div_euclid(146_097);
    while day_number(year, 1, 1) > day {
        year -= 1;
    }
    while day_number(year + 1, 1, 1) <= day {
        year += 1;
    }
    year
}

fn is_leap(year: i64) -> bool {
    day_number(year, 3, 1) - day_number(year, 2, 28) == 2
}

/// Times of this program are within 2^48.
fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms.min(AT_MS_MAX)).unwrap_or_default()
}

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// Far beyond all times that are asked for.
const AT_MS_MAX: u64 = 1 << 48;
const TEXT_BYTES_MAX: usize = 64;
const OFFSET_MINUTES_MAX: i64 = 14 * 60;
/// Troll in Antarctica goes by two hours.
const STEP_MINUTES_MAX: i64 = 3 * 60;

#[cfg(test)]
#[path = "zone_tests.rs"]
pub(crate) mod tests;
