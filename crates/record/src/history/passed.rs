//! Requests that are in the access log only, and found there by their id: those that were passed on, and most of many that were
//! stopped alike.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use phalanx_model::{AccessEvent, Reason, RequestId};
use serde_json::{Map, Value, json};

use crate::RecordError;
use crate::request::RecordedRequest;
use crate::rotating::rotated;

/// The access log and what was rotated out of it.
#[derive(Debug, Clone)]
pub(crate) struct PassedLog {
    path: PathBuf,
    files_max: usize,
    /// The node's, which ids of its requests have.
    node_tag: u16,
}

/// A request of the log, and what stopped it, as far as the log names it.
#[derive(Debug, PartialEq)]
pub(crate) struct Logged {
    pub(crate) record: RecordedRequest,
    pub(crate) cause: Option<Cause>,
}

/// What the log names by no more than this: the whole of it is with another request that it stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The decision with this id.
    Decision(String),
    /// The rate limit of this name.
    RateLimit(String),
}

impl Cause {
    /// Whether this is the whole of it.
    pub(crate) fn is(&self, reason: &Reason) -> bool {
        match (self, reason) {
            (Self::Decision(id), Reason::Decision { decision }) => decision.id.to_string() == *id,
            (Self::RateLimit(name), Reason::RateLimit(excess)) => *excess.limit == **name,
            _ => false,
        }
    }
}

impl PassedLog {
    pub(crate) fn new(path: PathBuf, files_max: usize, node_tag: u16) -> Self {
        Self { path, files_max, node_tag }
    }

    /// The request with this id. Reads the log from its newest file back to where it was written last before the request came; lines that
    /// are no JSON, as in other formats, are passed over.
    pub(crate) fn request(&self, id: RequestId) -> Result<Option<Logged>, RecordError> {
        if id.node_tag() != self.node_tag {
            return Ok(None);
        }
        let asked = format!(r#","id":"{id}""#);
        let came = UNIX_EPOCH + Duration::from_millis(id.at_ms());
        for number in 0..=self.files_max {
            let path = rotated(&self.path, number);
            let line = match File::open(&path) {
                Ok(file) if is_older(&file, came) => return Ok(None),
                Ok(file) => line_with(file, asked.as_bytes()),
                // The newest may just have been moved away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(error),
            };
            if let Some(line) = line.map_err(|source| RecordError::Io { path, source })? {
                return Ok(read(&line));
            }
        }
        Ok(None)
    }
}

/// Whether nothing was written to it since. Clocks of files are coarse, and a second is plenty.
fn is_older(file: &File, came: SystemTime) -> bool {
    let written = file.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written + Duration::from_secs(1) < came)
}

fn line_with(file: File, asked: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let find = memchr::memmem::Finder::new(asked);
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A longer line is no request's: what follows of it is looked at as lines of its own.
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if find.find(&line).is_some() {
            return Ok(Some(line));
        }
    }
}

/// A line of the access log, as the request that it was written of.
fn read(line: &[u8]) -> Option<Logged> {
    let Value::Object(mut line) = serde_json::from_slice(line).ok()? else { return None };
    if line.get("log")? != "access" {
        return None;
    }
    let (site, node) = (text(&line, "site")?, text(&line, "node")?);
    let cause = cause(&line);
    let verdict = json!({
        "action": line.remove("action")?,
        "reason": reason(&line),
        "status": line.get("status")?,
        "score": line.remove("score")?,
    });
    line.insert("verdict".into(), verdict);
    if let Some(trace) = trace(&line) {
        line.insert("trace".into(), trace);
    }
    let access: AccessEvent = serde_json::from_value(Value::Object(line)).ok()?;
    let record = RecordedRequest { site, node, access, signals: Vec::new(), faults: Vec::new(), like: None };
    Some(Logged { record, cause })
}

fn cause(line: &Map<String, Value>) -> Option<Cause> {
    let detail = line.get("detail")?.as_str()?.to_owned();
    match line.get("reason")?.as_str()? {
        "decision" => Some(Cause::Decision(detail)),
        "rate_limit" => Some(Cause::RateLimit(detail)),
        _ => None,
    }
}

fn text(line: &Map<String, Value>, key: &str) -> Option<Arc<str>> {
    line.get(key)?.as_str().map(Arc::from)
}

/// Why, as far as the log says it whole. What it names only is the [`cause`].
fn reason(line: &Map<String, Value>) -> Value {
    let detail = || line.get("detail").cloned().unwrap_or_default();
    match line.get("reason").and_then(Value::as_str) {
        Some("allow_listed") => json!({ "kind": "allow_listed" }),
        Some("upstream") => json!({ "kind": "upstream", "error": detail() }),
        Some("limit") => json!({ "kind": "limit", "limit": detail() }),
        Some("failure") => json!({ "kind": "failure", "stage": detail() }),
        Some("challenge") => json!({ "kind": "challenge" }),
        Some("network") => json!({ "kind": "network" }),
        _ => json!({ "kind": "clean" }),
    }
}

fn trace(line: &Map<String, Value>) -> Option<Value> {
    let id = line.get("trace_id")?;
    let (span, parent) = (line.get("span_id"), line.get("parent_id"));
    let sampled = line.get("sampled").and_then(Value::as_bool).unwrap_or_default();
    Some(json!({ "id": id, "span": span, "parent": parent, "sampled": sampled }))
}

const READ_BYTES: usize = 256 * 1024;
/// More than the longest line: a head of 64 KiB with every byte escaped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::access_log;
    use phalanx_model::Verdict;

    fn event(n: u64) -> AccessEvent {
        let id = RequestId::from_parts(1_767_571_200_000 + n, 7, n);
        let mut event: AccessEvent = serde_json::from_value(json!({
            "id": id, "at_ms": id.at_ms(), "app": "shop", "route": "login", "client": "192.0.2.7", "peer": "10.0.0.1",
            "method": "POST", "host": "shop.example", "target": "/login?q=\u{202e}\",\"id\":\"x", "protocol": "HTTP/1.1",
            "user_agent": "a \"quoted\" one", "referer": "", "status": 401, "request_bytes": 12, "response_bytes": 34,
            "duration_us": 56, "upstream_us": 50, "plan_version": 3, "view_revision": 4,
            "verdict": Verdict::allow(Reason::Clean), "http_print": "h11_04_177aea7101ae",
            "tls": "TLSv1.3", "tls_group": "X25519MLKEM768", "upstream": "127.0.0.1:3000", "check": "forward-auth",
            "phases": { "head_us": 0, "inspect_us": 4, "queue_us": 0, "connect_us": 0, "upstream_us": 50 },
            "deed": { "account": "53a1c9a40fd2e7b6", "secret": 18734, "step": { "login": "failed" }, "shape": "9d2c44e0717e0ab5" },
            "trace": { "id": "4bf92f3577b34da6a3ce929d0e0e4736", "span": "00f067aa0ba902b7", "sampled": true },
        }))
        .unwrap();
        // The log has one status, the one that was answered.
        event.verdict.status = 401;
        event
    }

    fn write(path: &Path, events: &[AccessEvent]) {
        let mut out = b"192.0.2.1 - - a line of another format\n".to_vec();
        events.iter().for_each(|event| access_log::access(&mut out, "fra", "edge-1", event));
        std::fs::write(path, out).unwrap();
    }

    #[test]
    fn a_passed_request_is_read_back_whole_from_the_file_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        write(&path, &[event(5), event(6)]);
        write(&dir.path().join("access.log.1"), &[event(1), event(2)]);
        let log = PassedLog::new(path, 5, 7);
        for n in [6, 2] {
            let found = log.request(event(n).id).unwrap().unwrap();
            assert_eq!((found.record.access, found.cause), (event(n), None));
            assert_eq!((&*found.record.site, &*found.record.node), ("fra", "edge-1"));
        }
        assert_eq!(log.request(event(9).id).unwrap(), None);
    }

    #[test]
    fn files_from_before_the_request_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        write(&path, &[event(1)]);
        let before = UNIX_EPOCH + Duration::from_millis(event(1).at_ms - 60_000);
        File::options().append(true).open(&path).unwrap().set_modified(before).unwrap();
        assert_eq!(PassedLog::new(path, 5, 7).request(event(1).id).unwrap(), None);
    }

    #[test]
    fn a_log_that_is_gone_or_damaged_has_nothing_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = PassedLog::new(path.clone(), 5, 7);
        assert_eq!(log.request(event(1).id).unwrap(), None);
        write(&path, &[event(1)]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert_eq!(log.request(event(1).id).unwrap(), None);
    }
}
