//! Times as logs write them, all in UTC.

/// Unix milliseconds as `2026-08-01T12:00:00.000Z`.
pub fn rfc3339(at_ms: u64) -> String {
    let mut out = Vec::with_capacity(24);
    push_rfc3339(&mut out, at_ms);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the same: each line of the access log has one.
pub(crate) fn push_rfc3339(out: &mut Vec<u8>, at_ms: u64) {
    let t = Civil::at(at_ms);
    digits::<4>(out, t.year);
    for (mark, part) in [(b'-', t.month), (b'-', t.day), (b'T', t.hour), (b':', t.minute), (b':', t.second)] {
        out.push(mark);
        digits::<2>(out, part);
    }
    out.push(b'.');
    digits::<3>(out, t.millis);
    out.push(b'Z');
}

/// As ModSecurity v3 writes it: `Sat Aug  1 12:00:00 2026`.
pub(crate) fn asctime(at_ms: u64) -> String {
    let t = Civil::at(at_ms);
    let (weekday, month) = (t.weekday_name(), t.month_name());
    format!("{weekday} {month} {:>2} {:02}:{:02}:{:02} {:04}", t.day, t.hour, t.minute, t.second, t.year)
}

/// As Apache's error log writes it: `Sat Aug 01 12:00:00.000000 2026`.
pub(crate) fn error_log(at_ms: u64) -> String {
    let t = Civil::at(at_ms);
    let (weekday, month) = (t.weekday_name(), t.month_name());
    format!(
        "{weekday} {month} {:02} {:02}:{:02}:{:02}.{:03}000 {:04}",
        t.day, t.hour, t.minute, t.second, t.millis, t.year
    )
}

/// As nginx and Apache write it into access logs: `01/Aug/2026:12:00:00 +0000`.
pub(crate) fn push_clf(out: &mut Vec<u8>, at_ms: u64) {
    let t = Civil::at(at_ms);
    digits::<2>(out, t.day);
    out.push(b'/');
    out.extend_from_slice(t.month_name().as_bytes());
    out.push(b'/');
    digits::<4>(out, t.year);
    for part in [t.hour, t.minute, t.second] {
        out.push(b':');
        digits::<2>(out, part);
    }
    out.extend_from_slice(b" +0000");
}

/// As ModSecurity's native audit log writes it: `01/Aug/2026:12:00:00.000000 +0000`.
pub(crate) fn native(at_ms: u64) -> String {
    let t = Civil::at(at_ms);
    let month = t.month_name();
    format!(
        "{:02}/{month}/{:04}:{:02}:{:02}:{:02}.{:03}000 +0000",
        t.day, t.year, t.hour, t.minute, t.second, t.millis
    )
}

/// Appends the last digits of a number.
fn digits<const N: usize>(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; N];
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millis: u64,
}

impl Civil {
    /// Days to civil date after Howard Hinnant's algorithm.
    fn at(at_ms: u64) -> Self {
        let (days, of_day) = (at_ms / 86_400_000, at_ms % 86_400_000);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            // The first day of the epoch was a Thursday.
            weekday: (days + 4) % 7,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            millis,
        }
    }

    fn month_name(&self) -> &'static str {
        usize::try_from(self.month - 1).ok().and_then(|place| MONTHS.get(place)).copied().unwrap_or_default()
    }

    fn weekday_name(&self) -> &'static str {
        usize::try_from(self.weekday).ok().and_then(|place| WEEKDAYS.get(place)).copied().unwrap_or_default()
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        for (at_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_785_585_599_999, "2026-08-01T11:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(at_ms), expected);
        }
    }

    #[test]
    fn other_logs_have_their_own_forms() {
        let at_ms = 1_785_585_599_007;
        assert_eq!(asctime(at_ms), "Sat Aug  1 11:59:59 2026");
        assert_eq!(error_log(at_ms), "Sat Aug 01 11:59:59.007000 2026");
        let mut clf = Vec::new();
        push_clf(&mut clf, at_ms);
        assert_eq!(clf, b"01/Aug/2026:11:59:59 +0000");
        assert_eq!(native(at_ms), "01/Aug/2026:11:59:59.007000 +0000");
    }
}
