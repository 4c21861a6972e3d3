//! Printing: tables, times and durations, JSON.

use std::io::{self, Write};

pub(crate) use phalanx_control::policy_words::duration;
use phalanx_model::{Actor, Clock, Recall, SystemClock};
use phalanx_record::escape::{for_terminal, to_json_line};
use serde::Serialize;

/// Prints text. A reader that has gone (`| head`) is no error.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    is_read(text).map(|_| ())
}

/// Prints text; false if its reader has gone.
pub(crate) fn is_read(text: &str) -> anyhow::Result<bool> {
    let written = io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().lock().flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Prints a value as one line of JSON without a character that could steer a terminal.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    text(&json_line(value)?)
}

/// A value as one line of JSON without a character that could steer a terminal.
pub(crate) fn json_line<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut line = Vec::new();
    to_json_line(&mut line, value)?;
    line.push(b'\n');
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Lays out rows under their headings, columns as wide as they need to be. Cells are escaped here.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let head = headings.iter().map(|h| (*h).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(rows.iter().map(|row| row.iter().map(|cell| for_terminal(cell).into_owned()).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The first characters of a text, with an ellipsis when there are more.
pub(super) fn short(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// How far a time is off, in words.
pub(super) fn left(at_ms: u64, now_ms: u64) -> String {
    match at_ms.checked_sub(now_ms) {
        Some(ms) => format!("in {}", duration(ms)),
        None => format!("{} ago", duration(now_ms.saturating_sub(at_ms))),
    }
}

/// Reads `60s`, `5m`, `1h30m`, `7d`; the value in milliseconds.
pub(super) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration; write 60s, 5m, 1h30m or 7d");
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit_ms).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
        rest = tail;
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

/// A query string of those parameters that have a value.
pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

/// The actor as one writes it on the command line.
pub(super) fn actor(actor: &Actor) -> String {
    actor.to_string()
}

/// What a recall did, in one line.
pub(super) fn recall(recall: &Recall) -> String {
    let made = phalanx_record::rfc3339(recall.created_at_ms);
    format!(
        "everything that {} decided until {made} is ended: {} ({})",
        for_terminal(&recall.target.to_string()),
        for_terminal(&recall.reason),
        for_terminal(&recall.author.to_string())
    )
}

/// This machine's clock.
pub(super) fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// What failed, as an object on stdout too where JSON is asked for: who reads that finds more than nothing.
pub(super) fn or_told<T>(is_json: bool, done: anyhow::Result<T>) -> anyhow::Result<T> {
    if let (true, Err(error)) = (is_json, &done) {
        json(&serde_json::json!({ "ok": false, "error": format!("{error:#}") }))?;
    }
    done
}

/// Why something is done: at least a word.
pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why: it stands in the history, and others read it".to_owned()),
        reason => Ok(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, ms) in
            [("60s", 60_000), ("5m", 300_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("250ms", 250)]
        {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in ["", "60", "s", "0s", "1x", "-1s", "1h-3m", "99999999999999999999s", "300000000000000d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(5_400_000), "1 h 30 min");
        assert_eq!(duration(90_000_000), "1 d 1 h");
    }

    #[test]
    fn cells_cannot_steer_the_terminal() {
        let shown = table(&["A", "B"], &[vec!["x\x1b[2J\n".into(), "y\u{202e}".into()]]);
        assert_eq!(shown, "A                B\nx\\u{1b}[2J\\u{a}  y\\u{202e}\n");
    }

    #[test]
    fn query_values_are_encoded() {
        let pairs = [("a", Some("x y&z".to_owned())), ("b", None), ("c", Some("2001:db8::".to_owned()))];
        assert_eq!(query(&pairs), "?a=x%20y%26z&c=2001%3Adb8%3A%3A");
    }
}
