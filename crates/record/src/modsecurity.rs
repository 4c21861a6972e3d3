//! Signals as lines in ModSecurity's format, for tools that read its error log. Text from strangers is escaped.

use std::fmt::Write as _;

use phalanx_model::{Severity, Signal};

/// Where a request went, for its log lines.
#[derive(Debug, Clone, Copy)]
pub struct LogContext<'a> {
    /// The Host field.
    pub host: &'a str,
    /// The request target.
    pub uri: &'a str,
    /// The request's id.
    pub unique_id: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// Whether the request was refused, with which status.
    pub denied: Option<u16>,
}

/// One line for one signal.
pub fn modsecurity_line(signal: &Signal, context: &LogContext<'_>) -> String {
    let mut line = format!("[client {}] ModSecurity: ", escaped(context.client));
    let _ = match context.denied {
        Some(status) => write!(line, "Access denied with code {status} (phase {}). ", signal.phase),
        None => write!(line, "Warning. "),
    };
    if let Some(found) = signal.matches.last() {
        let _ = write!(line, "Matched \"{}\" at {}. ", escaped(&found.fragment), escaped(&found.variable));
    }
    let rule = &signal.rule;
    let _ = write!(line, "[file \"{}\"] [line \"{}\"] [id \"{}\"]", escaped(&rule.file), rule.line, rule.id);
    let _ = write!(line, " [msg \"{}\"] [data \"{}\"]", escaped(&signal.message), escaped(&signal.data));
    if let Some(severity) = rule.severity {
        let _ = write!(line, " [severity \"{}\"]", severity_name(severity));
    }
    for tag in &rule.tags {
        let _ = write!(line, " [tag \"{}\"]", escaped(tag));
    }
    let _ = write!(
        line,
        " [hostname \"{}\"] [uri \"{}\"] [unique_id \"{}\"]",
        escaped(context.host),
        escaped(context.uri),
        escaped(context.unique_id)
    );
    line
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Emergency => "EMERGENCY",
        Severity::Alert => "ALERT",
        Severity::Critical => "CRITICAL",
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
        Severity::Notice => "NOTICE",
        Severity::Info => "INFO",
        Severity::Debug => "DEBUG",
    }
}

/// Quotes, backslashes and everything that is not printable ASCII become `\xHH`, as Apache's log does.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..=0x7e => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_terminal_escapes_do_not_reach_the_log() {
        assert_eq!(escaped("a\"b\r\n\x1b[31m"), "a\\\"b\\x0d\\x0a\\x1b[31m");
    }
}
