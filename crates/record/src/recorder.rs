//! The recorder's thread: drains the lanes in batches and writes them.
//!
//! What fails when a disk is full or away: access lines are dropped and counted; history items wait in memory, the
//! newest [`HISTORY_PENDING_MAX`] of them; the ledger lane is not drained, so it fills and operators' actions are
//! refused. Each is tried again on its own, and nothing has to be restarted when room returns.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use phalanx_model::lanes::LaneReaders;
use phalanx_model::limits::{
    ACCESS_LOG_BYTES_MAX, ACCESS_LOG_FILES_MAX, HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX, HISTORY_PENDING_MAX,
    LEDGER_FILE_BYTES_MAX, LIVE_EVENTS,
};
use phalanx_model::{AccessEvent, Clock, LedgerEntry, LedgerKind, SecurityEvent, Signal, id};
use phalanx_trust::Sealer;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::RecordError;
use crate::access_log::{self, AccessFormat};
use crate::audit_log::{self, AuditFormat};
use crate::event_log::{EventLog, EventSettings, Report, Reports};
use crate::history::{History, Item, PassedLog, Store};
use crate::ledger::{Ledger, LedgerReader};
use crate::line_log::{LineLog, Sink};
use crate::modsecurity;
use crate::redact;
use crate::request::{Consequence, RecordedRequest};
use crate::standard_output::StandardOutput;
use crate::status::{Part, RecorderStatus};
use crate::traffic::{Locate, Tally};

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTo {
    /// To a file, rotated by size.
    File(PathBuf),
    /// To standard output; whoever reads it too slowly misses lines, which are counted.
    StandardOutput,
    /// Nowhere. Refused and flagged requests are still in the history.
    Nowhere,
}

/// Is shown a request with its findings, before secrets are masked: it keeps nothing of its texts.
pub type Watch = Arc<dyn Fn(&AccessEvent, &[Signal]) + Send + Sync>;

/// Where and how much is kept. [`RecordSettings::new`] has the limits of `model::limits`.
#[derive(Clone)]
pub struct RecordSettings {
    /// The directory of history, ledger and access log; created with mode 0700.
    pub dir: PathBuf,
    /// Where the access log goes, if not to `access.log` in `dir`.
    pub access_log: AccessLogTo,
    /// How its lines are written.
    pub access_format: AccessFormat,
    /// A log of signals in the format of ModSecurity's error log, if there is to be one.
    pub modsecurity_log: Option<PathBuf>,
    /// A log in ModSecurity's audit format, if there is to be one.
    pub audit_log: Option<(PathBuf, AuditFormat)>,
    /// Where events in OCSF's form go, if anywhere.
    pub events: EventSettings,
    /// Where spans go, if anywhere.
    #[cfg(feature = "otel")]
    pub spans: Option<crate::spans::SpanSettings>,
    /// This node's site.
    pub site: Arc<str>,
    /// This node's name.
    pub node: Arc<str>,
    /// Is shown each request as it is recorded; must not wait.
    pub watch: Option<Watch>,
    /// Says where clients are, for counts and searches by country.
    pub locate: Option<Locate>,
    /// How often counts of requests are written; what was counted since is lost with the process.
    pub traffic_every_ms: u64,
    /// Seals the history.
    pub sealer: Arc<Sealer>,
    /// Names of files set aside carry its time.
    pub clock: Arc<dyn Clock>,
    /// Size at which the access log is rotated.
    pub access_log_bytes_max: u64,
    /// Rotated access logs kept.
    pub access_log_files_max: usize,
    /// Requests kept in the history.
    pub history_rows_max: u64,
    /// Bytes the history may take.
    pub history_bytes_max: u64,
    /// Size at which the ledger continues in a new file.
    pub ledger_file_bytes_max: u64,
    /// How long after a failure the next attempt is made.
    pub retry_ms: u64,
}

impl RecordSettings {
    /// Settings with the default limits.
    pub fn new(dir: &Path, site: &str, node: &str, sealer: Arc<Sealer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir: dir.to_path_buf(),
            access_log: AccessLogTo::File(dir.join("access.log")),
            access_format: AccessFormat::Json,
            modsecurity_log: None,
            audit_log: None,
            events: EventSettings::default(),
            #[cfg(feature = "otel")]
            spans: None,
            site: site.into(),
            node: node.into(),
            watch: None,
            locate: None,
            traffic_every_ms: 5_000,
            sealer,
            clock,
            access_log_bytes_max: ACCESS_LOG_BYTES_MAX,
            access_log_files_max: ACCESS_LOG_FILES_MAX,
            history_rows_max: HISTORY_EVENTS_MAX as u64,
            history_bytes_max: HISTORY_BYTES_MAX,
            ledger_file_bytes_max: LEDGER_FILE_BYTES_MAX,
            retry_ms: 1_000,
        }
    }
}

/// What a recorder gives back that hands its files over.
#[derive(Debug)]
pub struct Released {
    /// Events that arrive from now on.
    pub lanes: LaneReaders,
    /// Entries that could not be written, oldest first.
    pub ledger: Vec<LedgerEntry>,
}

impl Released {
    /// The same, with the security lane as it is before others have read it.
    pub fn with_security(mut self, security: tokio::sync::mpsc::Receiver<SecurityEvent>) -> Self {
        self.lanes.security = security;
        self
    }
}

/// A running recorder. Dropping it ends the thread once the lanes are drained; [`Recorder::stop`] also waits for that.
pub struct Recorder {
    status: RecorderStatus,
    history: History,
    ledger: LedgerReader,
    live: broadcast::Sender<Arc<RecordedRequest>>,
    reports: Reports,
    stop: Arc<Notify>,
    releases: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Released>>>,
}

impl Recorder {
    /// Opens the files and starts the thread. Damaged files are set aside and named in the status; a full disk is
    /// reported there; only what an operator must mend (a directory or key file without access) is an error.
    pub fn open(settings: RecordSettings, lanes: LaneReaders) -> Result<Self, RecordError> {
        let passed = match (&settings.access_log, settings.access_format) {
            (AccessLogTo::File(path), AccessFormat::Json) => {
                let tag = id::node_tag(&settings.site, &settings.node);
                Some(PassedLog::new(path.clone(), settings.access_log_files_max, tag))
            }
            _ => None,
        };
        let worker = Worker::new(settings, lanes)?;
        let status = worker.status.clone();
        let history = History::new(worker.store.shared(), passed);
        let ledger = LedgerReader::new(worker.dir.join("ledger"));
        let live = worker.live.clone();
        let reports = worker.reports.0.clone();
        let (stop, releases) = (Arc::clone(&worker.stop), Arc::clone(&worker.releases));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| RecordError::Io { path: worker.dir.clone(), source })?;
        let dir = worker.dir.clone();
        let thread = std::thread::Builder::new()
            .name("phalanx-record".into())
            .spawn(move || runtime.block_on(worker.run()))
            .map_err(|source| RecordError::Io { path: dir, source })?;
        Ok(Self { status, history, ledger, live, reports, stop, releases, thread: Some(thread) })
    }

    /// How the record is doing.
    pub fn status(&self) -> RecorderStatus {
        self.status.clone()
    }

    /// Answers questions about what was recorded.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// Tells what was decided and done.
    pub fn ledger(&self) -> LedgerReader {
        self.ledger.clone()
    }

    /// Refused and flagged requests as they are recorded. A subscriber that lags more than
    /// [`LIVE_EVENTS`] loses the oldest.
    pub fn live(&self) -> broadcast::Sender<Arc<RecordedRequest>> {
        self.live.clone()
    }

    /// The way of detections and incidents to the log of events.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// Drains the lanes, writes what is left and ends the thread. Blocks until that is done.
    pub fn stop(mut self) {
        self.end();
    }

    /// Writes what is there, closes the files, and gives the lanes back with what arrives from then on: for who hands the files over to another
    /// process while requests still end here. None if the recorder had failed. Blocks until that is done.
    pub fn release(mut self) -> Option<Released> {
        self.releases.store(true, Ordering::Release);
        self.end()
    }

    fn end(&mut self) -> Option<Released> {
        self.stop.notify_one();
        let ended = self.thread.take()?.join();
        ended.unwrap_or_else(|_| {
            tracing::error!("the recorder's thread had failed");
            None
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("status", &self.status.report()).finish_non_exhaustive()
    }
}

struct Worker {
    dir: PathBuf,
    site: Arc<str>,
    node: Arc<str>,
    node_tag: u16,
    clock: Arc<dyn Clock>,
    watch: Option<Watch>,
    lanes: LaneReaders,
    status: RecorderStatus,
    live: broadcast::Sender<Arc<RecordedRequest>>,
    stop: Arc<Notify>,
    /// Whether the lanes go on elsewhere after the stop.
    releases: Arc<AtomicBool>,
    retry: Duration,
    access_log: LineLog,
    access_format: AccessFormat,
    modsecurity_log: Option<LineLog>,
    audit_log: Option<(LineLog, AuditFormat)>,
    events: EventLog,
    /// The way of reports to this thread, and its end here.
    reports: (Reports, tokio::sync::mpsc::Receiver<Report>),
    #[cfg(feature = "otel")]
    spans: Option<crate::spans::Spans>,
    store: Store,
    tally: Tally,
    traffic_every: Duration,
    /// Events that had found no room when it was last looked: of the access lane and of the security lane.
    dropped: (u64, u64),
    pending: VecDeque<Item>,
    history_fails: bool,
    ledger: Ledger,
    ledger_pending: Vec<LedgerEntry>,
}

impl Worker {
    fn new(settings: RecordSettings, lanes: LaneReaders) -> Result<Self, RecordError> {
        let s = settings;
        let ledger_dir = s.dir.join("ledger");
        for dir in [&s.dir, &ledger_dir] {
            create_private_dir(dir).map_err(|source| RecordError::Io { path: dir.clone(), source })?;
        }
        let now_ms = s.clock.now_ms();
        let status = RecorderStatus::default();
        let (ledger, note) = Ledger::open(&ledger_dir, &s.site, &s.node, s.ledger_file_bytes_max, now_ms)
            .map_err(|source| RecordError::Io { path: ledger_dir, source })?;
        let mut store = Store::new(
            &s.dir.join("history.db"),
            s.sealer,
            s.locate,
            (s.history_rows_max, s.history_bytes_max),
        )?;
        let log = |part, path| LineLog::new(part, path, s.access_log_bytes_max, s.access_log_files_max);
        let asked = |part, path| {
            let mut log = log(part, path);
            status.include(part);
            log.open(&status, now_ms);
            log
        };
        let access_log = match s.access_log {
            AccessLogTo::File(path) => log(Part::AccessLog, path),
            AccessLogTo::StandardOutput => {
                let out = StandardOutput::start()
                    .map_err(|source| RecordError::Io { path: "standard output".into(), source })?;
                LineLog::to(Part::AccessLog, Sink::StandardOutput(out))
            }
            AccessLogTo::Nowhere => LineLog::to(Part::AccessLog, Sink::Nowhere),
        };
        let modsecurity_log = s.modsecurity_log.map(|path| asked(Part::ModsecurityLog, path));
        let audit_log = s.audit_log.map(|(path, format)| (asked(Part::AuditLog, path), format));
        let events = EventLog::start(s.events, (&s.site, &s.node), &status, &s.clock, asked)
            .map_err(|source| RecordError::Io { path: "the way of events".into(), source })?;
        #[cfg(feature = "otel")]
        let spans = start_spans(s.spans.as_ref(), (&s.site, &s.node), &status)?;
        let mut history_fails = false;
        let opened = store.open(now_ms).unwrap_or_else(|error| {
            status.failed(Part::History, &error, now_ms);
            history_fails = true;
            None
        });
        for note in [note, opened].into_iter().flatten() {
            status.set_aside(note);
        }
        let reported = status.clone();
        Ok(Self {
            dir: s.dir,
            node_tag: id::node_tag(&s.site, &s.node),
            site: s.site,
            node: s.node,
            clock: s.clock,
            watch: s.watch,
            lanes,
            status,
            live: broadcast::channel(LIVE_EVENTS).0,
            stop: Arc::new(Notify::new()),
            releases: Arc::default(),
            retry: Duration::from_millis(s.retry_ms.max(1)),
            access_log,
            access_format: s.access_format,
            modsecurity_log,
            audit_log,
            events,
            reports: Reports::new(reported),
            #[cfg(feature = "otel")]
            spans,
            store,
            tally: Tally::default(),
            traffic_every: Duration::from_millis(s.traffic_every_ms.max(1)),
            dropped: (0, 0),
            pending: VecDeque::new(),
            history_fails,
            ledger,
            ledger_pending: Vec::new(),
        })
    }

    async fn run(mut self) -> Option<Released> {
        let stop = Arc::clone(&self.stop);
        let mut retry = tokio::time::interval(self.retry);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut traffic = tokio::time::interval(self.traffic_every);
        traffic.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut access = Vec::with_capacity(ACCESS_BATCH);
        let mut security = Vec::with_capacity(SECURITY_BATCH);
        let (mut access_open, mut security_open, mut ledger_open) = (true, true, true);
        let mut gathers_until: Option<Instant> = None;
        while access_open || security_open || ledger_open {
            let ledger_free = self.ledger_pending.is_empty();
            let unwell = self.history_fails || self.access_log.lost > 0 || !ledger_free;
            tokio::select! {
                () = stop.notified() => break,
                n = self.lanes.ledger.recv_many(&mut self.ledger_pending, LEDGER_BATCH), if ledger_open && ledger_free => {
                    ledger_open = n > 0;
                    self.write_ledger();
                }
                n = self.lanes.security.recv_many(&mut security, SECURITY_BATCH), if security_open => {
                    security_open = n > 0;
                    self.keep_security(&mut security);
                }
                n = self.lanes.access.recv_many(&mut access, ACCESS_BATCH), if access_open && gathers_until.is_none() => {
                    access_open = n > 0;
                    self.keep_access(&mut access);
                    gathers_until = (n < ACCESS_BATCH).then(|| Instant::now() + ACCESS_GATHERS);
                }
                Some(report) = self.reports.1.recv() => self.keep_report(&report),
                () = sleep_until(gathers_until.unwrap_or_else(Instant::now)), if gathers_until.is_some() => gathers_until = None,
                _ = retry.tick(), if unwell => self.try_again(),
                _ = traffic.tick() => self.write_traffic(),
            }
        }
        self.finish(access, security)
    }

    /// Takes what is still in the lanes, and writes it once more.
    fn finish(mut self, mut access: AccessBatch, mut security: Vec<SecurityEvent>) -> Option<Released> {
        let releases = self.releases.load(Ordering::Acquire);
        if !releases {
            self.lanes.access.close();
            self.lanes.security.close();
            self.lanes.ledger.close();
        }
        self.try_again();
        // No more than was there: what comes meanwhile is for the next reader, if there is one.
        let mut left = self.lanes.access.len();
        while left > 0 {
            let batch = left.min(ACCESS_BATCH);
            access.extend((0..batch).map_while(|_| self.lanes.access.try_recv().ok()));
            self.keep_access(&mut access);
            left -= batch;
        }
        let mut left = self.lanes.security.len();
        while left > 0 {
            let batch = left.min(SECURITY_BATCH);
            security.extend((0..batch).map_while(|_| self.lanes.security.try_recv().ok()));
            self.keep_security(&mut security);
            left -= batch;
        }
        while let Ok(report) = self.reports.1.try_recv() {
            self.keep_report(&report);
        }
        while let Ok(entry) = self.lanes.ledger.try_recv() {
            self.ledger_pending.push(entry);
        }
        self.write_ledger();
        self.write_history();
        self.write_traffic();
        if !self.ledger_pending.is_empty() {
            tracing::error!(entries = self.ledger_pending.len(), "ledger entries could not be written");
        }
        releases.then_some(Released { lanes: self.lanes, ledger: self.ledger_pending })
    }

    fn keep_access(&mut self, events: &mut AccessBatch) {
        for event in events.iter() {
            self.show(event, &[]);
            self.count(event, None);
        }
        let has_readers = self.audit_log.is_some() || self.has_spans() || self.events.takes_passed();
        if self.access_log.is_off() && !has_readers {
            events.clear();
            return;
        }
        for mut event in events.drain(..) {
            redact::request(&mut event, &mut []);
            self.log(&event, |out, site, node| access_log::access(out, site, node, &event));
            self.keep_audit(&event, &[]);
            self.events.passed(&event);
            self.keep_spans(&event);
        }
        self.write_logs();
    }

    fn keep_security(&mut self, events: &mut Vec<SecurityEvent>) {
        for event in events.drain(..) {
            let item = match event {
                SecurityEvent::Request { access, signals, faults } => {
                    self.show(&access, &signals);
                    let mut record = RecordedRequest::new(&self.site, &self.node, *access, signals, faults);
                    self.count(&record.access, record.top_signal());
                    self.log(&record.access, |out, _, _| access_log::security(out, &record));
                    if let Some(log) = &mut self.modsecurity_log {
                        log.add(|out| modsecurity::lines(out, &record.access, &record.signals));
                    }
                    self.keep_audit(&record.access, &record.signals);
                    self.events.notable(&record.access, &record.signals);
                    self.keep_spans(&record.access);
                    record.access.audit = None;
                    let item = self.store.request_item(&record).map(Some);
                    // Nobody listening is no fault.
                    let _ = self.live.send(Arc::new(record));
                    item
                }
                other => {
                    if let SecurityEvent::Proposal(proposal) = &other {
                        self.events.proposal(proposal);
                    }
                    Consequence::of(&other).map_or(Ok(None), |c| self.store.consequence_item(&c))
                }
            };
            self.enqueue(item);
        }
        self.write_logs();
        if !self.history_fails {
            self.write_history();
        }
    }

    fn count(&mut self, access: &AccessEvent, top: Option<&Signal>) {
        let country = self.store.locate(access.client).country;
        self.tally.add(access, top, country);
    }

    fn write_traffic(&mut self) {
        let now_ms = self.clock.now_ms();
        let dropped = &self.lanes.dropped;
        let seen =
            (dropped.access.load(Ordering::Relaxed), dropped.security_requests.load(Ordering::Relaxed));
        let new = seen.0.saturating_sub(self.dropped.0) + seen.1.saturating_sub(self.dropped.1);
        self.tally.add_dropped(new, now_ms);
        self.dropped = seen;
        if self.tally.is_empty() {
            return;
        }
        match self.store.write_traffic(&self.tally, now_ms) {
            Ok(note) => {
                self.tally.clear();
                note.into_iter().for_each(|note| self.status.set_aside(note));
            }
            Err(error) => {
                self.history_fails = true;
                self.status.failed(Part::History, &error, now_ms);
            }
        }
    }

    fn keep_report(&mut self, report: &Report) {
        self.events.report(report);
        self.events.write(&self.status, self.clock.now_ms());
    }

    fn show(&self, access: &AccessEvent, signals: &[Signal]) {
        if let Some(watch) = &self.watch {
            watch(access, signals);
        }
    }

    /// Adds a request's line to the access log; `object` writes it as an object.
    fn log(&mut self, access: &AccessEvent, object: impl FnOnce(&mut Vec<u8>, &str, &str)) {
        if self.access_log.is_off() {
            return;
        }
        match self.access_format {
            AccessFormat::Json => self.access_log.add_line(|out| object(out, &self.site, &self.node)),
            AccessFormat::Combined => self.access_log.add_line(|out| access_log::combined(out, access)),
        }
    }

    fn keep_audit(&mut self, access: &AccessEvent, signals: &[Signal]) {
        let (Some((log, format)), Some(detail)) = (&mut self.audit_log, &access.audit) else { return };
        let server = format!("{}/{}", self.site, self.node);
        log.add(|out| audit_log::entry(out, *format, &server, access, detail, signals));
        if log.is_full() {
            log.write(&self.status, self.clock.now_ms());
        }
    }

    #[cfg(feature = "otel")]
    fn keep_spans(&self, access: &AccessEvent) {
        self.spans.iter().for_each(|spans| spans.add(access));
    }

    #[cfg(feature = "otel")]
    fn has_spans(&self) -> bool {
        self.spans.is_some()
    }

    #[cfg(not(feature = "otel"))]
    #[expect(clippy::unused_self, reason = "a build without the exporter has none")]
    fn has_spans(&self) -> bool {
        false
    }

    #[cfg(not(feature = "otel"))]
    #[expect(clippy::unused_self, reason = "a build without the exporter has nothing to keep them in")]
    fn keep_spans(&self, _: &AccessEvent) {}

    fn enqueue(&mut self, item: Result<Option<Item>, RecordError>) {
        match item {
            Ok(Some(item)) => self.pending.push_back(item),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a record could not be sealed");
                self.status.dropped(Part::History, 1);
            }
        }
        if self.pending.len() > HISTORY_PENDING_MAX {
            self.pending.pop_front();
            self.status.dropped(Part::History, 1);
        }
    }

    fn write_logs(&mut self) {
        let now_ms = self.clock.now_ms();
        self.access_log.write(&self.status, now_ms);
        let others = self.modsecurity_log.iter_mut().chain(self.audit_log.iter_mut().map(|(log, _)| log));
        others.for_each(|log| log.write(&self.status, now_ms));
        self.events.write(&self.status, now_ms);
    }

    fn write_history(&mut self) {
        let now_ms = self.clock.now_ms();
        let items = self.pending.make_contiguous();
        let count = items.len();
        let written = match self.store.write(items, now_ms) {
            Err(error) => Err(error),
            Ok(note) => {
                let pruned = self.store.prune();
                // What is written is not written again, whatever becomes of what is old.
                self.status.wrote(Part::History, count);
                self.pending.clear();
                pruned.map(|()| note)
            }
        };
        match written {
            Ok(note) => {
                self.history_fails = false;
                if let Some(note) = note {
                    self.status.set_aside(note);
                }
            }
            Err(error) => {
                self.history_fails = true;
                self.status.failed(Part::History, &error, now_ms);
            }
        }
    }

    fn write_ledger(&mut self) {
        if self.ledger_pending.is_empty() {
            return;
        }
        match self.ledger.append(&self.ledger_pending) {
            Ok(()) => {
                self.status.wrote(Part::Ledger, self.ledger_pending.len());
                self.note_decisions();
                self.ledger_pending.clear();
            }
            Err(error) => self.status.failed(Part::Ledger, &error, self.clock.now_ms()),
        }
    }

    /// Keeps decisions beside the request that led to them, if that request was served here.
    fn note_decisions(&mut self) {
        let decisions = self.ledger_pending.iter().filter_map(|entry| match &entry.kind {
            LedgerKind::Decided { decision } => {
                Some(Consequence::Decision { decision: Arc::clone(decision) })
            }
            _ => None,
        });
        let ours = |c: &Consequence| c.request().is_some_and(|id| id.node_tag() == self.node_tag);
        let items: Vec<_> = decisions.filter(ours).map(|c| self.store.consequence_item(&c)).collect();
        let any = !items.is_empty();
        for item in items {
            self.enqueue(item);
        }
        if any && !self.history_fails {
            self.write_history();
        }
    }

    fn try_again(&mut self) {
        self.write_ledger();
        if self.history_fails || !self.pending.is_empty() {
            self.write_history();
        }
        if self.access_log.lost > 0 {
            let now_ms = self.clock.now_ms();
            let time = crate::rfc3339(now_ms);
            let lost = self.access_log.lost;
            // The other format has no line that is no request.
            let note = match self.access_format {
                AccessFormat::Json => {
                    format!("{{\"log\":\"gap\",\"time\":\"{time}\",\"dropped\":{lost}}}\n")
                }
                AccessFormat::Combined => String::new(),
            };
            self.access_log.write_note(&note, &self.status, now_ms);
        }
    }
}

#[cfg(feature = "otel")]
fn start_spans(
    settings: Option<&crate::spans::SpanSettings>,
    node: (&str, &str),
    status: &RecorderStatus,
) -> Result<Option<crate::spans::Spans>, RecordError> {
    let started = settings.map(|spans| crate::spans::Spans::start(spans, node, status.clone()));
    started.transpose().map_err(|source| RecordError::Io { path: "the way to the collector".into(), source })
}

pub(crate) fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What the access lane gives out.
type AccessBatch = Vec<Box<AccessEvent>>;

/// Batches bound the time one write takes, and so how long the other lanes wait.
const ACCESS_BATCH: usize = 1_024;
const SECURITY_BATCH: usize = 256;
const LEDGER_BATCH: usize = 64;
/// After a batch with room to spare, what comes next gathers for a moment: waking this thread for each request costs its worker a system
/// call, and a write for each line costs more than the line.
const ACCESS_GATHERS: Duration = Duration::from_millis(2);
