//! What is usual, learned from history where nothing of it was kept: from the node's own access log, as far as that goes back.
//!
//! It takes a thread of its own some seconds, beside requests; until it is done the learner begins with what comes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_learn::{Baselines, Event};
use phalanx_model::limits::ACCESS_LOG_FILES_MAX;
use phalanx_model::{AccessEvent, Clock, Deed, Ja4, Phases, Reason, RequestId, Verdict};
use phalanx_record::rotated;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::desk::Inbox;
use super::tee::Means;
use crate::life::at_leisure;

/// Reads the log in a thread of its own, and tells the learner what it came to.
pub(super) fn start(
    log: PathBuf,
    means: Means,
    clock: Arc<dyn Clock>,
    to: mpsc::Sender<Inbox>,
    stopping: watch::Receiver<bool>,
) {
    let work = move || {
        let goes_on = || !*stopping.borrow();
        let (usual, requests) = at_leisure(|| read(&log, &means, clock.now_ms(), goes_on));
        if requests > 0 && goes_on() {
            tracing::info!(requests, log = %log.display(), "what is usual was learned from the access log");
            let _ = to.blocking_send(Inbox::Usual(Box::new(usual), requests));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("phalanx-seed".into()).spawn(work) {
        tracing::warn!(%error, "what is usual cannot be learned from the access log");
    }
}

/// What a log teaches, with its rotated files, the oldest first; and how many requests did.
fn read(log: &Path, means: &Means, now_ms: u64, goes_on: impl Fn() -> bool) -> (Baselines, u64) {
    let (mut usual, mut requests) = (Baselines::default(), 0);
    let mut files = Vec::new();
    let mut room = BYTES_MAX;
    for number in 0..=ACCESS_LOG_FILES_MAX {
        let file = rotated(log, number);
        let Some(bytes) = std::fs::metadata(&file).ok().filter(|of| of.is_file()).map(|of| of.len()) else {
            continue;
        };
        room = match room.checked_sub(bytes) {
            Some(left) => left,
            None => break,
        };
        files.push(file);
    }
    for file in files.into_iter().rev() {
        let Ok(file) = File::open(&file) else { continue };
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        while goes_on() {
            line.clear();
            let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.unwrap_or(0) == 0 {
                break;
            }
            // What is no line of ours teaches nothing, and neither does one that its clock put into a time to come.
            let event = event(&line, means).filter(|event| event.at_ms <= now_ms);
            if let Some(event) = event {
                usual.learn(&event);
                requests += 1;
            }
        }
    }
    (usual, requests)
}

/// What the learner is told of a line; nothing of requests that it would not learn from.
fn event(line: &[u8], means: &Means) -> Option<Event> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let was_refused = !matches!(&*line.action, "allow" | "observe");
    if was_refused && line.reason == "rule" {
        return None;
    }
    let access = line.access(was_refused);
    let event = means.read(&access, &[]);
    (!event.exempt).then_some(event)
}

/// The members of a line that say what was usual.
#[derive(Deserialize)]
struct Line<'a> {
    at_ms: u64,
    #[serde(borrow)]
    app: Cow<'a, str>,
    #[serde(borrow)]
    route: Option<Cow<'a, str>>,
    client: IpAddr,
    method: String,
    target: String,
    ja4: Option<Ja4>,
    http_print: Option<String>,
    deed: Option<Deed>,
    status: u16,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    response_bytes: u64,
    duration_us: u64,
    #[serde(default)]
    crawler: bool,
}

impl Line<'_> {
    fn access(self, was_refused: bool) -> AccessEvent {
        // Who refused what is all that is asked of a verdict here.
        let verdict = match (was_refused, &*self.reason) {
            (false, _) => Verdict::allow(Reason::Clean),
            (true, "network") => Verdict::deny(Reason::Network, self.status),
            (true, _) => Verdict::deny(Reason::Challenge, self.status),
        };
        AccessEvent {
            id: RequestId::from_bits(0),
            at_ms: self.at_ms,
            app: self.app.as_ref().into(),
            route: self.route.map(|route| route.as_ref().into()),
            client: self.client,
            peer: self.client,
            method: self.method,
            host: String::new(),
            target: self.target,
            protocol: String::new(),
            user_agent: String::new(),
            referer: String::new(),
            status: self.status,
            request_bytes: 0,
            response_bytes: self.response_bytes,
            duration_us: self.duration_us,
            upstream_us: 0,
            verdict,
            plan_version: 0,
            view_revision: 0,
            tls: None,
            ja4: self.ja4,
            tls_group: None,
            upstream: None,
            trace: None,
            forwarded_id: None,
            phases: Phases::default(),
            check: None,
            http_print: self.http_print.map(Into::into),
            balancer: None,
            challenge: None,
            deed: self.deed,
            crawler: self.crawler,
            agent: None,
            raised: None,
            audit: None,
        }
    }
}

/// What is read of the newest files: they are smaller unless another tool rotates them.
const BYTES_MAX: u64 = 1 << 30;
/// Longer lines are nobody's.
const LINE_BYTES_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_decide::DecidePlan;
    use phalanx_edge::{EdgePlan, Places};
    use phalanx_model::{NameKey, Swap};

    const BEGIN_MS: u64 = 1_767_571_200_000;

    fn means() -> Means {
        let plan = Arc::new(Swap::new(EdgePlan::new(1, DecidePlan::default(), Vec::new())));
        Means { key: NameKey::new([7; 16]), plan, places: Arc::new(Swap::new(Places::default())) }
    }

    fn line(at_ms: u64, more: &str) -> String {
        format!(
            "{{\"log\":\"access\",\"time\":\"-\",\"at_ms\":{at_ms},\"id\":\"x\",\"site\":\"fra\",\"node\":\"a\",\"app\":\"shop\",\"route\":\"orders\",\
             \"client\":\"192.0.2.7\",\"peer\":\"192.0.2.7\",\"method\":\"GET\",\"host\":\"a\",\"target\":\"/orders/\\u00fc\",\"protocol\":\"HTTP/1.1\",\
             \"user_agent\":\"\",\"referer\":\"\",\"status\":200,\"score\":0,\"request_bytes\":0,\"response_bytes\":4000,\"duration_us\":9,\"upstream_us\":0,\
             {more}}}\n"
        )
    }

    const PASSED: &str = "\"action\":\"allow\",\"reason\":\"clean\"";

    #[test]
    fn rotated_files_teach_before_newer_ones_and_what_is_no_line_teaches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let minutes = |range: std::ops::Range<u64>| -> String {
            range
                .flat_map(|minute| (0..40).map(move |n| line(BEGIN_MS + minute * 60_000 + n, PASSED)))
                .collect()
        };
        std::fs::write(rotated(&log, 2), minutes(0..30)).unwrap();
        std::fs::write(rotated(&log, 1), minutes(30..60)).unwrap();
        let late = line(BEGIN_MS + 365 * 86_400_000, PASSED);
        std::fs::write(&log, minutes(60..80) + "rubbish\n" + &late + "{\"at_ms\":1}\n{\"half\":").unwrap();
        let now_ms = BEGIN_MS + 80 * 60_000;
        let (usual, requests) = read(&log, &means(), now_ms, || true);
        assert_eq!(requests, 80 * 40);
        let known = usual.familiarity(now_ms);
        assert_eq!((known.all, known.known), (2, 2), "the app and its route");
        assert_eq!(read(&log, &means(), now_ms, || false).1, 0, "a node that ends does not wait");
        assert_eq!(read(&folder.path().join("none"), &means(), now_ms, || true).1, 0);
    }

    #[test]
    fn a_line_is_what_the_learner_was_told_and_attacks_teach_nothing() {
        let of = |more: &str| event(line(BEGIN_MS, more).as_bytes(), &means());
        let passed = of(PASSED).unwrap();
        assert_eq!((passed.at_ms, passed.status, passed.response_bytes), (BEGIN_MS, 200, 4_000));
        assert_eq!(passed.app, means().key.hash("app", b"shop"));
        // What an order refused says nothing of the page.
        let refused = of("\"action\":\"deny\",\"reason\":\"decision\"").unwrap();
        assert_eq!(refused.status, 0);
        assert!(of("\"action\":\"deny\",\"reason\":\"rule\"").is_none());
        assert!(of(&format!("{PASSED},\"crawler\":true")).is_none());
    }
}
