//! Clocks of people: how far before UTC they are, and when that changes. Pure.
//!
//! A zone is a distance from UTC, a name of the time zone database (`Europe/Berlin`), or a rule as POSIX has it for `TZ` (RFC 9636, section
//! 3.3.1): `CET-1CEST,M3.5.0,M10.5.0/3`.
//!
//! INVARIANT: no file of the machine is read. Names are those of the database that the program brings, so that no two nodes of one version
//! disagree about an hour.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneOffsetInfo, TimeZoneTransition};
use phalanx_policy::suggest::nearest;
use phalanx_record::rfc3339;

/// How far a clock is before UTC, at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// As it is written; what [`Zone::parse`] reads.
    text: String,
    clock: TimeZone,
}

impl Zone {
    /// A clock that never changes.
    pub fn fixed(offset_minutes: i16) -> Self {
        let minutes = i32::from(offset_minutes);
        let text = if minutes == 0 { "UTC".to_owned() } else { distance(minutes) };
        let offset = Offset::from_seconds(minutes * 60).unwrap_or(Offset::UTC);
        Self { text, clock: TimeZone::fixed(offset) }
    }

    /// Reads a distance from UTC, a name or a rule.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_distance = text == "UTC" || text == "Z" || text.starts_with(['+', '-']);
        if is_distance { parse_offset(text).map(Self::fixed) } else { Self::parse_place(text) }
    }

    /// Reads a name or a rule.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and which name may be meant.
    pub fn parse_place(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(TEXT_BYTES_MAX).flat_map(char::escape_debug).collect();
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("`{shown}` is no time zone: it is too long"));
        }
        if let Ok(clock) = TimeZone::get(text) {
            let name = clock.iana_name().unwrap_or(text).to_owned();
            return Ok(Self { text: name, clock });
        }
        let wrong = |why: &str| format!("`{shown}` is no rule of a clock: {why}");
        let Ok(clock) = TimeZone::posix(text) else {
            let meant = meant(text).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            return Err(format!(
                "`{shown}` is neither the name of a time zone nor the rule of a clock{meant}"
            ));
        };
        let zone = Self { text: text.to_owned(), clock };
        let offsets = zone.clocks().map(|clock| clock.offset().seconds());
        if ["UTC", "GMT"].iter().any(|name| text.starts_with(name)) && offsets.first() != Some(&0) {
            return Err(wrong(
                "the sign is turned round there, west is +; write `utc_offset` for a distance from UTC",
            ));
        }
        if offsets.iter().any(|seconds| seconds.abs() > OFFSET_S_MAX || seconds % 60 != 0) {
            return Err(wrong("no clock is more than 14 hours from UTC, or by part of a minute"));
        }
        if !zone.changes_apart() {
            return Err(wrong("its clock goes by more than 3 hours at once, or twice within a week"));
        }
        Ok(zone)
    }

    /// Its name, for people.
    pub fn name(&self) -> String {
        if self.clock.iana_name().is_some() {
            return self.text.clone();
        }
        if self.clock.to_fixed_offset().is_ok() {
            return self.distance_at(0);
        }
        let [standard, summer] = self.clocks().map(|clock| clock.abbreviation().to_owned());
        if standard == summer { standard } else { format!("{standard}/{summer}") }
    }

    /// How far its clock is before UTC at that time, for people: `UTC+01:00`.
    pub fn distance_at(&self, at_ms: u64) -> String {
        match self.offset_ms(signed(at_ms)) / MINUTE_MS {
            0 => "UTC".to_owned(),
            minutes => format!("UTC{}", distance(i32::try_from(minutes).unwrap_or_default())),
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
            minutes => {
                let distance = distance(i32::try_from(minutes).unwrap_or_default());
                format!("{}{distance}", self.local(at_ms).trim_end_matches('Z'))
            }
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
        let local_ms = day * DAY_MS + minute * MINUTE_MS;
        let at_ms = match self.clock.to_ambiguous_timestamp(civil(local_ms)).offset() {
            AmbiguousOffset::Unambiguous { offset } => local_ms - offset_ms(offset),
            AmbiguousOffset::Fold { before, .. } => local_ms - offset_ms(before),
            // Read by the clock of before it is after the change.
            AmbiguousOffset::Gap { before, .. } => {
                let after = timestamp(local_ms - offset_ms(before) + 1);
                let change = self.clock.preceding(after).next();
                change.map_or(after, |change| change.timestamp()).as_millisecond()
            }
        };
        u64::try_from(at_ms).unwrap_or_default()
    }

    fn local(&self, at_ms: u64) -> String {
        let at_ms = signed(at_ms);
        rfc3339(u64::try_from(at_ms + self.offset_ms(at_ms)).unwrap_or_default())
    }

    fn offset_ms(&self, at_ms: i64) -> i64 {
        offset_ms(self.clock.to_offset(timestamp(at_ms)))
    }

    /// The clocks that it has within a year, first that of the standard time.
    fn clocks(&self) -> [TimeZoneOffsetInfo<'_>; 2] {
        let mut clocks =
            [SOME_JANUARY_S, SOME_JULY_S].map(|at_s| self.clock.to_offset_info(timestamp(at_s * 1_000)));
        clocks.sort_by_key(|clock| clock.dst().is_dst());
        clocks
    }

    /// Whether days stay days: the clock goes by a few hours at most, and not again at once. All years are looked at, as their weekdays differ.
    fn changes_apart(&self) -> bool {
        let until = timestamp(AT_MS_MAX_RULES);
        let changes: Vec<TimeZoneTransition<'_>> =
            self.clock.following(timestamp(0)).take_while(|change| change.timestamp() < until).collect();
        changes.iter().zip(changes.iter().skip(1)).all(|(one, next)| {
            let apart_ms = next.timestamp().as_millisecond() - one.timestamp().as_millisecond();
            let step_s = next.offset().seconds() - one.offset().seconds();
            apart_ms >= 7 * DAY_MS && step_s.abs() <= STEP_S_MAX
        })
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

/// The name that somebody meant: of a place alone, or with a slip of the fingers.
fn meant(text: &str) -> Option<String> {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let city = |name: &&String| {
        name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&text.replace(' ', "_")))
    };
    let by_city = names.iter().find(city).map(String::as_str);
    by_city.or_else(|| nearest(text, names.iter().map(String::as_str))).map(str::to_owned)
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

/// `+01:00`.
fn distance(minutes: i32) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.unsigned_abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

fn offset_ms(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * 1_000
}

/// Times beyond those of the program are its last.
fn timestamp(at_ms: i64) -> Timestamp {
    let last = i64::try_from(AT_MS_MAX).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(at_ms.clamp(-last, last)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The calendar's time that is so many milliseconds after 1970 began.
fn civil(local_ms: i64) -> DateTime {
    let begin = date(1970, 1, 1).to_datetime(Time::midnight());
    begin.checked_add(jiff::SignedDuration::from_millis(local_ms)).unwrap_or(begin)
}

/// Times of this program are within 2^47, some 4,400 years.
fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms.min(AT_MS_MAX)).unwrap_or_default()
}

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// Far beyond all times that are asked for.
const AT_MS_MAX: u64 = 1 << 47;
/// All weekdays of all days are within 400 years.
const AT_MS_MAX_RULES: i64 = 400 * 366 * DAY_MS;
const SOME_JANUARY_S: i64 = 1_768_435_200;
const SOME_JULY_S: i64 = 1_784_073_600;
const TEXT_BYTES_MAX: usize = 64;
const OFFSET_S_MAX: i32 = 14 * 3_600;
/// Troll in Antarctica goes by two hours.
const STEP_S_MAX: i32 = 3 * 3_600;

#[cfg(test)]
#[path = "zone_tests.rs"]
pub(crate) mod tests;
