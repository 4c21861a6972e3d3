//! Text from strangers, made harmless for the place where it is shown: terminal, HTML, CSV, log line.
//!
//! INVARIANT: what comes out holds no control character, no bidirectional control and no invisible character;
//! each is written as `\u{hex}`, so that the reader sees that it was there.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// For a terminal: no escape sequence, no line break, no reordering of what is shown.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_visible(&mut out, c);
    }
    Cow::Owned(out)
}

/// For HTML text and for attribute values in either kind of quotes.
pub fn for_html(text: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'' | '`');
    if !text.chars().any(|c| special(c) || is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '`' => out.push_str("&#96;"),
            _ => push_visible(&mut out, c),
        }
    }
    Cow::Owned(out)
}

/// For one CSV cell: always quoted, and a cell that a spreadsheet would take for a formula starts with an apostrophe. So does what follows a semicolon,
/// where spreadsheets of many countries begin a new cell whatever the quotes say.
pub fn for_csv(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    out.push('"');
    if begins_formula(text) {
        out.push('\'');
    }
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '"' {
            out.push('"');
        }
        push_visible(&mut out, c);
        if c == ';' && begins_formula(rest.as_str()) {
            out.push('\'');
        }
    }
    out.push('"');
    out
}

/// Whether a spreadsheet would calculate a cell that begins so, also within quotes of its own.
fn begins_formula(text: &str) -> bool {
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
    start.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
}

/// For a field of nginx's log formats: quotes, backslashes and all bytes beyond printable ASCII as `\xHH`.
pub fn for_nginx(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
    Cow::Owned(out)
}

/// For a line of a JSON log: the text as a quoted JSON string on one line, hidden characters as `\uXXXX`.
pub fn for_json_log(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_json_log(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the same.
pub(crate) fn push_json_log(out: &mut Vec<u8>, text: &str) {
    // Looks at all bytes whatever it finds, because that is done many at a time; and nearly all texts are plain.
    let special = text
        .bytes()
        .fold(false, |any, byte| any | !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\'));
    let start = out.len();
    if special {
        if to_json_line(out, text).is_err() {
            out.truncate(start);
            out.extend_from_slice(b"\"\"");
        }
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Writes a value as one line of JSON (without the line break) in which hidden characters are `\uXXXX`.
pub fn to_json_line<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), serde_json::Error> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, LogFormatter))
}

/// Whether a character is invisible, moves the cursor or changes the order of what is shown.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn push_visible(out: &mut String, c: char) {
    if is_hidden(c) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
    } else {
        out.push(c);
    }
}

/// serde_json's compact form, with hidden characters beyond ASCII escaped too.
struct LogFormatter;

impl Formatter for LogFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // serde_json has cut out what it escapes itself (C0 controls, quote, backslash).
        let plain = fragment.bytes().all(|b| (0x20..0x7f).contains(&b));
        if plain || !fragment.chars().any(is_hidden) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            let mut units = [0u16; 2];
            if is_hidden(c) {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminal_sequences_become_visible() {
        assert_eq!(
            for_terminal("a\x1b[31mb\r\n\u{9b}2J\u{202e}x"),
            "a\\u{1b}[31mb\\u{d}\\u{a}\\u{9b}2J\\u{202e}x"
        );
        assert!(matches!(for_terminal("plain text, ümlaut, 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn html_has_no_markup_left() {
        assert_eq!(
            for_html("<img src=x onerror='alert(\"1\")'>&\u{202e}"),
            "&lt;img src=x onerror=&#39;alert(&quot;1&quot;)&#39;&gt;&amp;\\u{202e}"
        );
    }

    #[test]
    fn csv_formulas_are_neutralised() {
        assert_eq!(for_csv("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\"");
        assert_eq!(for_csv(" @SUM(1)"), "\"' @SUM(1)\"");
        assert_eq!(for_csv("say \"hi\"\n"), "\"say \"\"hi\"\"\\u{a}\"");
        assert_eq!(for_csv("GET"), "\"GET\"");
        assert_eq!(for_csv("a;=1+1;b; \"@x"), "\"a;'=1+1;b;' \"\"@x\"");
        for start in ["=", "+", "-", "@", "\t=", "\r=", "\"=", "＝", "＋", "－", "＠"] {
            assert!(for_csv(&format!("{start}1")).starts_with("\"'"), "{start:?}");
        }
    }

    #[test]
    fn a_field_of_nginx_is_printable_ascii_without_quotes() {
        assert_eq!(for_nginx("/a?b=\"\\\n\u{202e}\u{7f}"), "/a?b=\\x22\\x5C\\x0A\\xE2\\x80\\xAE\\x7F");
        assert!(matches!(for_nginx("Mozilla/5.0 (X11; [a])"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_log_string_stays_on_its_line() {
        assert_eq!(for_json_log("a\n\"b\"\u{2028}\u{7f}\u{e0041}"), r#""a\n\"b\"\u2028\u007f\udb40\udc41""#);
    }

    proptest! {
        #[test]
        fn nothing_hidden_survives(text in any::<String>()) {
            for shown in [for_terminal(&text).into_owned(), for_html(&text).into_owned(), for_csv(&text), for_json_log(&text)] {
                prop_assert!(!shown.chars().any(is_hidden));
            }
            prop_assert!(for_nginx(&text).bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'));
            prop_assert!(!for_html(&text).contains(['<', '>', '"', '\'']));
        }

        #[test]
        fn a_log_string_reads_back(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&for_json_log(&text)).unwrap(), text);
        }
    }
}
