//! `[log]` of the node's settings: where the access log goes, and logs in other tools' formats.

use std::path::{Path, PathBuf};

use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_record::{AccessFormat, AccessLogTo, AuditFormat, EventSettings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::event_settings::{self, RawEvents};
use crate::state::StateFolder;

/// The access log, if it is not to be as it is by default, and logs in other tools' formats, if they are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogSettings {
    pub(crate) access: Option<AccessLogTo>,
    pub(crate) access_format: AccessFormat,
    pub(crate) modsecurity: Option<PathBuf>,
    pub(crate) audit: Option<(PathBuf, AuditFormat)>,
    pub(crate) events: EventSettings,
}

impl LogSettings {
    /// The access log, if it is a file of which the lines can be read back.
    pub(crate) fn history(&self, state: &StateFolder) -> Option<PathBuf> {
        match &self.access {
            _ if self.access_format != AccessFormat::Json => None,
            None => Some(state.record().join("access.log")),
            Some(AccessLogTo::File(file)) => Some(file.clone()),
            Some(AccessLogTo::StandardOutput | AccessLogTo::Nowhere) => None,
        }
    }
}

/// Where logs go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLog {
    /// A file for the access log, "stdout" or "off". `record/access.log` in the state folder if not given.
    access: Option<At<PathBuf>>,
    /// How its lines are written. "json" if not given.
    access_format: Option<At<AccessFormat>>,
    /// A file for signals in the format of ModSecurity's error log. None if not given.
    modsecurity: Option<At<PathBuf>>,
    /// A file for the rule engine's audit log. None if not given.
    audit: Option<At<PathBuf>>,
    /// How that is written. "json" if not given.
    audit_format: Option<At<AuditFormat>>,
    /// Events in the form of OCSF, for SIEMs.
    events: Option<At<RawEvents>>,
}

/// Checks the table.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &RawLog,
    folder: &Path,
    state: &Path,
    faults: &mut Vec<Diagnostic>,
) -> LogSettings {
    let mut path = |written: &At<PathBuf>| {
        let path = folder.join(&written.value);
        if path.is_dir() {
            let fault = text.error_at(&written.span, format!("`{}` is a folder", written.value.display()));
            faults.push(fault.with_help("name the file itself, as in `/var/log/phalanx/audit.log`"));
        } else if path.starts_with(state) {
            let fault = text.error_at(&written.span, "the state folder is for the node's own files");
            faults.push(fault.with_help("write the log to another folder, as in `/var/log/phalanx`"));
        }
        path
    };
    let access = raw.access.as_ref().map(|written| match access_log_to(&written.value) {
        AccessLogTo::File(_) => AccessLogTo::File(path(written)),
        other => other,
    });
    let modsecurity = raw.modsecurity.as_ref().map(&mut path);
    let audit = raw.audit.as_ref().map(&mut path);
    let raw_events = raw.events.as_ref().and_then(|events| events.value.file.as_ref());
    let events = raw_events.map(&mut path);
    let of_access = match &access {
        Some(AccessLogTo::File(file)) => Some(file),
        _ => None,
    };
    for (written, file, other, name) in [
        (raw.audit.as_ref(), audit.as_ref(), modsecurity.as_ref(), "modsecurity"),
        (raw.audit.as_ref(), audit.as_ref(), of_access, "access"),
        (raw.modsecurity.as_ref(), modsecurity.as_ref(), of_access, "access"),
        (raw_events, events.as_ref(), of_access, "access"),
        (raw_events, events.as_ref(), modsecurity.as_ref(), "modsecurity"),
        (raw_events, events.as_ref(), audit.as_ref(), "audit"),
    ] {
        if let (Some(written), true) = (written, file.is_some() && file == other) {
            let fault = text.error_at(&written.span, format!("`{name}` goes to the same file"));
            faults.push(fault.with_help("give each log a file of its own"));
        }
    }
    if let (Some(format), None) = (&raw.audit_format, &raw.audit) {
        let fault = text.error_at(&format.span, "`audit_format` is the format of a log that has no file");
        faults.push(fault.with_help("add `audit = \"/var/log/phalanx/audit.log\"`, or take it out"));
    }
    let events = raw.events.as_ref().map(|raw| event_settings::check(text, raw, events, faults));
    let format = raw.audit_format.as_ref().map(|format| format.value).unwrap_or_default();
    let access_format = raw.access_format.as_ref().map(|format| format.value).unwrap_or_default();
    LogSettings {
        access,
        access_format,
        modsecurity,
        audit: audit.map(|path| (path, format)),
        events: events.unwrap_or_default(),
    }
}

/// Reads where the access log goes: two words, else a file.
pub(crate) fn access_log_to(written: &Path) -> AccessLogTo {
    match written.to_str() {
        Some("stdout") => AccessLogTo::StandardOutput,
        Some("off") => AccessLogTo::Nowhere,
        _ => AccessLogTo::File(written.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read_with;

    fn told(log: &str) -> (Option<LogSettings>, Vec<String>) {
        let (settings, faults) = read_with(&format!("[log]\n{log}"));
        (settings.map(|settings| settings.logs), faults)
    }

    #[test]
    fn the_access_log_goes_where_it_is_said() {
        let (logs, faults) = told("");
        assert!(logs.unwrap().access.is_none() && faults.is_empty());
        for (log, expected) in [("stdout", AccessLogTo::StandardOutput), ("off", AccessLogTo::Nowhere)] {
            assert_eq!(told(&format!("access = \"{log}\"\n")).0.unwrap().access, Some(expected));
        }
        let (logs, faults) =
            told("access = \"/tmp/a.log\"\naccess_format = \"combined\"\naudit = \"/tmp/a.log\"\n");
        assert_eq!(logs.unwrap().access_format, AccessFormat::Combined);
        assert!(faults.len() == 1 && faults[0].contains("7: `access` goes to the same file"), "{faults:?}");
    }

    #[test]
    fn there_are_no_other_logs_unless_they_are_asked_for() {
        let (logs, faults) = told("");
        let logs = logs.unwrap();
        assert!(faults.is_empty() && logs.modsecurity.is_none() && logs.audit.is_none());
        let (logs, faults) = told("modsecurity = \"m.log\"\naudit = \"a.log\"\naudit_format = \"native\"\n");
        let (path, format) = logs.unwrap().audit.unwrap();
        assert!(faults.is_empty() && path.ends_with("a.log"));
        assert_eq!(format, AuditFormat::Native);
    }

    #[test]
    fn mistakes_about_logs_are_told_with_line_and_help() {
        for (log, expected) in [
            (
                "audit_format = \"native\"\n",
                "error: 5: `audit_format` is the format of a log that has no file\n  help: add `audit = \"/var/log/phalanx/audit.log\"`, or take it out",
            ),
            (
                "audit = \"a.log\"\naudit_format = \"natve\"\n",
                "error: 6: unknown value `natve`\n  help: did you mean `native`?",
            ),
            (
                "modsecurity = \"a.log\"\naudit = \"a.log\"\n",
                "error: 6: `modsecurity` goes to the same file\n  help: give each log a file of its own",
            ),
            (
                "audit = \"state/record/access.log\"\n",
                "error: 5: the state folder is for the node's own files\n  help: write the log to another folder, as in `/var/log/phalanx`",
            ),
            (
                "audit = \"/tmp\"\n",
                "error: 5: `/tmp` is a folder\n  help: name the file itself, as in `/var/log/phalanx/audit.log`",
            ),
            ("audi = \"a.log\"\n", "error: 5: unknown key `audi`\n  help: did you mean `audit`?"),
        ] {
            assert_eq!(told(log).1, [expected], "{log}");
        }
    }
}
