//! The access log: one JSON object per line, rotated by size, mode 0600.
//!
//! Passed requests are written as `"log":"access"`, refused and flagged ones as `"log":"security"` with the rules that
//! matched, but without matched fragments: those stay in the sealed history, under the same id.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use phalanx_model::{AccessEvent, Action, Reason, RequestId, Signal};
use serde::Serialize;

use crate::escape::to_json_line;
use crate::outlet::Outlet;
use crate::request::RecordedRequest;

/// The rotating writer. A batch is encoded with [`Line::encode`] and written at once.
#[derive(Debug)]
pub(crate) struct AccessLog {
    outlet: Outlet,
    bytes_max: u64,
    files_max: usize,
}

impl AccessLog {
    pub(crate) fn new(outlet: Outlet, bytes_max: u64, files_max: usize) -> Self {
        Self { outlet, bytes_max, files_max }
    }

    /// Writes whole lines, rotating first when they do not fit any more.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.outlet.follow_path();
        let length = self.outlet.length()?;
        if length > 0 && length + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.outlet.append(lines, false)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = self.outlet.path().to_path_buf();
        let numbered = |n: usize| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.files_max == 0 {
            missing_is_fine(std::fs::remove_file(&path))?;
        } else {
            for n in (1..self.files_max).rev() {
                missing_is_fine(std::fs::rename(numbered(n), numbered(n + 1)))?;
            }
            missing_is_fine(std::fs::rename(&path, numbered(1)))?;
        }
        self.outlet.switch(path);
        Ok(())
    }
}

/// One line of the log.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    log: &'static str,
    time: String,
    at_ms: u64,
    id: RequestId,
    site: &'a str,
    node: &'a str,
    app: &'a str,
    client: IpAddr,
    peer: IpAddr,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    protocol: &'a str,
    user_agent: &'a str,
    referer: &'a str,
    status: u16,
    action: Action,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    score: i32,
    request_bytes: u64,
    response_bytes: u64,
    duration_us: u64,
    upstream_us: u64,
    plan_version: u64,
    view_revision: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RuleLine<'a>>,
}

#[derive(Debug, Serialize)]
struct RuleLine<'a> {
    id: u64,
    message: &'a str,
    variable: &'a str,
    score: i32,
}

impl<'a> Line<'a> {
    /// The line of a request that was passed on.
    pub(crate) fn access(site: &'a str, node: &'a str, access: &'a AccessEvent) -> Self {
        Self::new("access", site, node, access)
    }

    /// The line of a refused or flagged request.
    pub(crate) fn security(record: &'a RecordedRequest) -> Self {
        let rules = record.signals.iter().map(|signal: &Signal| RuleLine {
            id: signal.rule.id,
            message: &signal.message,
            variable: signal.matches.first().map_or("", |m| &m.variable),
            score: signal.score,
        });
        Self { rules: rules.collect(), ..Self::new("security", &record.site, &record.node, &record.access) }
    }

    /// Appends the line with its line break.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let start = out.len();
        match to_json_line(out, self) {
            Ok(()) => {
                out.push(b'\n');
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    fn new(log: &'static str, site: &'a str, node: &'a str, access: &'a AccessEvent) -> Self {
        let (reason, detail) = reason(&access.verdict.reason);
        Self {
            log,
            time: rfc3339(access.at_ms),
            at_ms: access.at_ms,
            id: access.id,
            site,
            node,
            app: &access.app,
            client: access.client,
            peer: access.peer,
            method: &access.method,
            host: &access.host,
            target: &access.target,
            protocol: &access.protocol,
            user_agent: &access.user_agent,
            referer: &access.referer,
            status: access.status,
            action: access.verdict.action,
            reason,
            detail,
            score: access.verdict.score,
            request_bytes: access.request_bytes,
            response_bytes: access.response_bytes,
            duration_us: access.duration_us,
            upstream_us: access.upstream_us,
            plan_version: access.plan_version,
            view_revision: access.view_revision,
            rules: Vec::new(),
        }
    }
}

/// A reason's name, and the one fact that names its cause.
fn reason(reason: &Reason) -> (&'static str, Option<String>) {
    match reason {
        Reason::Clean => ("clean", None),
        Reason::AllowListed => ("allow_listed", None),
        Reason::Rule { rule } => ("rule", Some(rule.to_string())),
        Reason::Decision { decision } => ("decision", Some(decision.id.to_string())),
        Reason::Framing { fault } => ("framing", Some(fault.to_string())),
        Reason::Limit { limit } => ("limit", Some(limit.clone())),
        Reason::Failure { stage } => ("failure", Some(stage.clone())),
        Reason::Upstream { error } => ("upstream", Some(error.clone())),
    }
}

/// Unix milliseconds as `2026-08-01T12:00:00.000Z` (days to civil date after Howard Hinnant's algorithm).
pub fn rfc3339(at_ms: u64) -> String {
    let (days, of_day) = (at_ms / 86_400_000, at_ms % 86_400_000);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &std::path::Path, bytes_max: u64, files_max: usize) -> AccessLog {
        AccessLog::new(Outlet::new(dir.join("access.log")), bytes_max, files_max)
    }

    fn names(dir: &std::path::Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_log_is_rotated_by_size_and_old_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 10, 2);
        for n in 0..6 {
            log.append(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(names(dir.path()), ["access.log", "access.log.1", "access.log.2"]);
        assert_eq!(std::fs::read(dir.path().join("access.log")).unwrap(), b"line 5\n");
        assert_eq!(std::fs::read(dir.path().join("access.log.2")).unwrap(), b"line 3\n");
    }

    #[test]
    fn a_reopened_log_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 14, 2).append(b"line 0\n").unwrap();
        let mut again = log(dir.path(), 14, 2);
        again.append(b"line 1\n").unwrap();
        assert_eq!(std::fs::read(dir.path().join("access.log")).unwrap(), b"line 0\nline 1\n");
        again.append(b"line 2\n").unwrap();
        assert_eq!(std::fs::read(dir.path().join("access.log")).unwrap(), b"line 2\n");
    }

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
}
