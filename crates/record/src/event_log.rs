//! The log of events in OCSF's form, and the ways that it goes: a file, syslog, a collector. Each event is written once, for all of them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use phalanx_model::{AccessEvent, Clock, Signal};

use crate::courier::Courier;
use crate::line_log::LineLog;
use crate::ocsf::{self, Detection, IncidentReport, Line, Writer};
use crate::status::{Part, RecorderStatus};
use crate::syslog::{Syslog, SyslogTo};

/// Where events go, if anywhere.
#[derive(Debug, Clone, Default)]
pub struct EventSettings {
    /// To a file, one JSON object a line.
    pub file: Option<PathBuf>,
    /// To a receiver of syslog.
    pub syslog: Option<SyslogTo>,
    /// To an OpenTelemetry collector.
    #[cfg(feature = "otel")]
    pub otlp: Option<crate::otlp_logs::OtlpLogs>,
    /// Also requests that were passed on and of which nothing was found.
    pub all_requests: bool,
}

/// What those report who look at more than one request; the log writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A detector found something.
    Detection(Detection),
    /// An incident was opened, changed or closed.
    Incident(IncidentReport),
}

/// The way of reports to the recorder. Reports that find no room are dropped and counted.
#[derive(Debug, Clone)]
pub struct Reports {
    queue: tokio::sync::mpsc::Sender<Report>,
    status: RecorderStatus,
}

impl Reports {
    /// The way, and its end in the recorder.
    pub(crate) fn new(status: RecorderStatus) -> (Self, tokio::sync::mpsc::Receiver<Report>) {
        let (queue, reports) = tokio::sync::mpsc::channel(REPORTS_MAX);
        (Self { queue, status }, reports)
    }

    /// Hands a report on. Never waits.
    pub fn send(&self, report: Report) {
        if self.queue.try_send(report).is_err() {
            self.status.dropped(Part::EventLog, 1);
        }
    }
}

/// The log.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    site: Arc<str>,
    node: Arc<str>,
    all_requests: bool,
    file: Option<LineLog>,
    couriers: Vec<Courier>,
    gathered: Vec<Arc<Line>>,
}

impl EventLog {
    /// Opens the ways; `log` makes a file of the recorder.
    pub(crate) fn start(
        settings: EventSettings,
        (site, node): (&Arc<str>, &Arc<str>),
        status: &RecorderStatus,
        clock: &Arc<dyn Clock>,
        log: impl Fn(Part, PathBuf) -> LineLog,
    ) -> io::Result<Self> {
        let mut couriers = Vec::new();
        if let Some(to) = settings.syslog {
            let mut syslog = Syslog::new(to, node);
            couriers
                .push(Courier::start(Part::EventSyslog, status, clock, move |batch| syslog.deliver(batch))?);
        }
        #[cfg(feature = "otel")]
        if let Some(to) = settings.otlp {
            let mut sender = crate::otlp_logs::Sender::new(to, site, node)?;
            couriers
                .push(Courier::start(Part::EventOtlp, status, clock, move |batch| sender.deliver(batch))?);
        }
        Ok(Self {
            site: Arc::clone(site),
            node: Arc::clone(node),
            all_requests: settings.all_requests,
            file: settings.file.map(|path| log(Part::EventLog, path)),
            couriers,
            gathered: Vec::new(),
        })
    }

    /// Whether it is for requests of the access lane too.
    pub(crate) fn takes_passed(&self) -> bool {
        self.all_requests && self.is_on()
    }

    /// Adds a request of the access lane.
    pub(crate) fn passed(&mut self, access: &AccessEvent) {
        if self.all_requests {
            self.add(|writer| ocsf::request(writer, access, &[]));
        }
    }

    /// Adds a request that was refused or flagged.
    pub(crate) fn notable(&mut self, access: &AccessEvent, signals: &[Signal]) {
        self.add(|writer| ocsf::request(writer, access, signals));
    }

    /// Adds what a node concludes.
    pub(crate) fn proposal(&mut self, proposal: &phalanx_model::Proposal) {
        self.add(|writer| ocsf::proposal(writer, proposal));
    }

    /// Adds what detectors and the correlator report.
    pub(crate) fn report(&mut self, report: &Report) {
        self.add(|writer| match report {
            Report::Detection(found) => ocsf::detection(writer, found),
            Report::Incident(incident) => ocsf::incident(writer, incident),
        });
    }

    /// Writes the batch.
    pub(crate) fn write(&mut self, status: &RecorderStatus, now_ms: u64) {
        if let Some(log) = &mut self.file {
            log.write(status, now_ms);
        }
        self.hand_on(now_ms);
    }

    fn add(&mut self, encode: impl FnOnce(Writer<'_>) -> io::Result<Line>) {
        if !self.is_on() {
            return;
        }
        let line = match encode(Writer { site: &self.site, node: &self.node }) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "an event could not be encoded");
                return;
            }
        };
        if let Some(log) = &mut self.file {
            log.add(|out| {
                out.extend_from_slice(line.json.as_bytes());
                out.push(b'\n');
                Ok::<(), io::Error>(())
            });
        }
        if !self.couriers.is_empty() {
            let at_ms = line.at_ms;
            self.gathered.push(Arc::new(line));
            if self.gathered.len() >= BATCH_LINES_MAX {
                self.hand_on(at_ms);
            }
        }
    }

    fn is_on(&self) -> bool {
        self.file.is_some() || !self.couriers.is_empty()
    }

    fn hand_on(&mut self, now_ms: u64) {
        if self.gathered.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.gathered);
        self.couriers.iter().for_each(|courier| courier.send(batch.clone(), now_ms));
    }
}

/// Lines that are handed on together.
pub(crate) const BATCH_LINES_MAX: usize = 256;
/// Reports that wait for the recorder.
const REPORTS_MAX: usize = 1_024;
