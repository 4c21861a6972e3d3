//! Signals as lines in the format of ModSecurity's error log, for tools that read it. Text from strangers is escaped.

use std::convert::Infallible;
use std::fmt::Write as _;

use phalanx_model::{AccessEvent, Reason, Severity, Signal};

use crate::time;

/// Where a request went, for its log lines.
#[derive(Debug, Clone, Copy)]
pub struct LogContext<'a> {
    /// The Host field.
    pub host: &'a str,
    /// The request's path.
    pub uri: &'a str,
    /// The request's id.
    pub unique_id: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// Whether the rule refused the request, with which status.
    pub denied: Option<u16>,
}

/// One line for one signal.
pub fn modsecurity_line(signal: &Signal, context: &LogContext<'_>) -> String {
    format!("[client {}] ModSecurity: {}", escaped(context.client), message(signal, context))
}

/// The lines of one request, as Apache's error log has them: with time, module and process in front.
pub(crate) fn lines(out: &mut Vec<u8>, access: &AccessEvent, signals: &[Signal]) -> Result<(), Infallible> {
    let (unique_id, client) = (access.id.to_string(), access.client.to_string());
    let time = time::error_log(access.at_ms);
    let process = std::process::id();
    for signal in signals {
        let context = context(access, signal, &unique_id, &client);
        let line = modsecurity_line(signal, &context);
        out.extend_from_slice(
            format!("[{time}] [security2:error] [pid {process}:tid {process}] {line}\n").as_bytes(),
        );
    }
    Ok(())
}

/// What the lines of a request's signals say of the request.
pub(crate) fn context<'a>(
    access: &'a AccessEvent,
    signal: &Signal,
    unique_id: &'a str,
    client: &'a str,
) -> LogContext<'a> {
    let refused = access.verdict.refuses()
        && !signal.observed
        && matches!(access.verdict.reason, Reason::Rule { rule } if rule == signal.rule.id);
    LogContext {
        host: &access.host,
        uri: access.target.split(['?', '#']).next().unwrap_or_default(),
        unique_id,
        client,
        denied: refused.then_some(access.status),
    }
}

/// The line without what stands in front of it.
pub(crate) fn message(signal: &Signal, context: &LogContext<'_>) -> String {
    let mut line = match context.denied {
        Some(status) => format!("Access denied with code {status} (phase {}). ", signal.phase),
        None => String::from("Warning. "),
    };
    line.push_str(&matched(signal).map(|text| text + " ").unwrap_or_default());
    let rule = &signal.rule;
    let mut tag = |name: &str, value: &str| {
        let _ = write!(line, "[{name} \"{}\"] ", escaped(value));
    };
    tag("file", &rule.file);
    tag("line", &rule.line.to_string());
    tag("id", &rule.id.to_string());
    if !rule.edition.rev.is_empty() {
        tag("rev", &rule.edition.rev);
    }
    tag("msg", &signal.message);
    tag("data", &signal.data);
    if let Some(severity) = rule.severity {
        tag("severity", severity_name(severity));
    }
    for (name, value) in [
        ("ver", &rule.edition.ver),
        ("maturity", &rule.edition.maturity),
        ("accuracy", &rule.edition.accuracy),
    ] {
        if !value.is_empty() {
            tag(name, value);
        }
    }
    for text in &rule.tags {
        tag("tag", text);
    }
    tag("hostname", context.host);
    tag("uri", context.uri);
    tag("unique_id", context.unique_id);
    line.pop();
    line
}

/// What matched where, escaped.
pub(crate) fn matched(signal: &Signal) -> Option<String> {
    let found = signal.matches.last()?;
    Some(format!("Matched \"{}\" at {}.", escaped(&found.fragment), bare(&found.variable)))
}

/// For text that the format has no quotes for. A variable's selector may be any text, also one that looks like a field
/// (`ARGS:x [id "1"]`): without spaces and quotes it is none.
fn bare(text: &str) -> String {
    escaped(text).replace("\\\"", "\\x22").replace(' ', "\\x20")
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

/// Quotes, backslashes and everything that is not printable ASCII become `\xHH`, as Apache's log does. A quote in a
/// value is never a bare one, so that no value can end its field.
pub(crate) fn escaped(text: &str) -> String {
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
