//! How the record is doing: what fails, since when and why. Written by the recorder's thread, read by status,
//! metrics and readiness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// One of the recorder's outlets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The JSON-lines access log.
    AccessLog,
    /// The queryable history.
    History,
    /// The ledger.
    Ledger,
    /// Signals in the format of ModSecurity's error log, where the node has it.
    ModsecurityLog,
    /// The log in ModSecurity's audit format, where the node has it.
    AuditLog,
    /// Events in OCSF's form, to a file, where the node has it.
    EventLog,
    /// The same, to syslog.
    EventSyslog,
    /// The same, to a collector.
    EventOtlp,
    /// Requests kept for replay, where the node does.
    Recording,
}

impl Part {
    /// All parts, in the order of [`RecorderReport::parts`], which has only those that the node has.
    pub const ALL: [Self; 9] = [
        Self::AccessLog,
        Self::History,
        Self::Ledger,
        Self::ModsecurityLog,
        Self::AuditLog,
        Self::EventLog,
        Self::EventSyslog,
        Self::EventOtlp,
        Self::Recording,
    ];

    /// Whether every node has it.
    fn always(self) -> bool {
        matches!(self, Self::AccessLog | Self::History | Self::Ledger)
    }

    /// The part in plain words.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessLog => "access log",
            Self::History => "history",
            Self::Ledger => "ledger",
            Self::ModsecurityLog => "ModSecurity log",
            Self::AuditLog => "audit log",
            Self::EventLog => "event log",
            Self::EventSyslog => "syslog",
            Self::EventOtlp => "collector of events",
            Self::Recording => "recording",
        }
    }

    /// The part as a label and in programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::AccessLog => "access_log",
            Self::History => "history",
            Self::Ledger => "ledger",
            Self::ModsecurityLog => "modsecurity_log",
            Self::AuditLog => "audit_log",
            Self::EventLog => "event_log",
            Self::EventSyslog => "event_syslog",
            Self::EventOtlp => "event_otlp",
            Self::Recording => "recording",
        }
    }

    /// The name of its thread, where it has one; the kernel keeps 15 bytes of `phalanx-` and this.
    pub(crate) fn thread(self) -> &'static str {
        match self {
            Self::EventSyslog => "syslog",
            Self::EventOtlp => "events",
            _ => "record",
        }
    }

    fn consequence(self) -> &'static str {
        match self {
            Self::AccessLog
            | Self::ModsecurityLog
            | Self::AuditLog
            | Self::EventLog
            | Self::EventSyslog
            | Self::EventOtlp => "events are dropped and counted",
            Self::Recording => "new requests are not replayed",
            Self::History => "new requests may be missing from it",
            Self::Ledger => "operator actions will be refused when its queue is full",
        }
    }
}

/// The state of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PartReport {
    /// Which.
    pub part: Part,
    /// Why the last write failed; `None` when it succeeded.
    pub error: Option<String>,
    /// Since when writes fail, in Unix milliseconds.
    pub failing_since_ms: Option<u64>,
    /// Records written since the start.
    pub written: u64,
    /// Records lost since the start because they could not be written.
    pub dropped: u64,
}

/// The state of the recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecorderReport {
    /// Its parts.
    pub parts: Vec<PartReport>,
    /// Damaged files that were set aside, with the reason; the newest last.
    pub set_aside: Vec<String>,
}

impl RecorderReport {
    /// What is degraded, one plain sentence each; empty when all is well.
    pub fn degraded(&self) -> Vec<String> {
        let failing = self.parts.iter().filter_map(|part| {
            let error = part.error.as_ref()?;
            Some(format!("{} cannot be written ({error}); {}", part.part.name(), part.part.consequence()))
        });
        failing.chain(self.set_aside.iter().cloned()).collect()
    }
}

/// The recorder's state, shared.
#[derive(Debug, Clone, Default)]
pub struct RecorderStatus(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    spans_sent: AtomicU64,
    spans_lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    parts: [PartState; Part::ALL.len()],
    set_aside: Vec<String>,
}

#[derive(Debug, Default)]
struct PartState {
    included: bool,
    failing: Option<(String, u64)>,
    written: u64,
    dropped: u64,
}

impl RecorderStatus {
    /// The state now.
    pub fn report(&self) -> RecorderReport {
        let state = self.0.state.lock();
        let parts = Part::ALL.iter().zip(&state.parts);
        let parts = parts.filter(|(part, one)| part.always() || one.included).map(|(part, one)| PartReport {
            part: *part,
            error: one.failing.as_ref().map(|(error, _)| error.clone()),
            failing_since_ms: one.failing.as_ref().map(|(_, since)| *since),
            written: one.written,
            dropped: one.dropped,
        });
        RecorderReport { parts: parts.collect(), set_aside: state.set_aside.clone() }
    }

    /// A receiver that is told of each change, for whoever waits for one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Requests whose spans were sent to a collector, and those whose were lost.
    pub fn spans(&self) -> (u64, u64) {
        (self.0.spans_sent.load(Ordering::Relaxed), self.0.spans_lost.load(Ordering::Relaxed))
    }

    /// Counts such requests.
    #[cfg(feature = "otel")]
    pub(crate) fn count_spans(&self, sent: usize, lost: usize) {
        self.0.spans_sent.fetch_add(sent as u64, Ordering::Relaxed);
        self.0.spans_lost.fetch_add(lost as u64, Ordering::Relaxed);
    }

    /// Makes an optional part one that is reported on.
    pub(crate) fn include(&self, part: Part) {
        self.change(part, |one| one.included = true);
    }

    /// Counts records written; the part works (again).
    pub(crate) fn wrote(&self, part: Part, count: usize) {
        self.change(part, |one| {
            one.written += count as u64;
            if one.failing.take().is_some() {
                tracing::info!(part = part.name(), "writing again");
            }
        });
    }

    /// Notes why a part cannot be written.
    pub(crate) fn failed(&self, part: Part, error: &dyn std::fmt::Display, now_ms: u64) {
        self.change(part, |one| {
            let since = match &one.failing {
                Some((_, since)) => *since,
                None => {
                    tracing::error!(part = part.name(), %error, "cannot write");
                    now_ms
                }
            };
            one.failing = Some((error.to_string(), since));
        });
    }

    /// Counts records lost.
    pub(crate) fn dropped(&self, part: Part, count: usize) {
        self.change(part, |one| one.dropped += count as u64);
    }

    /// Names a damaged file that was set aside.
    pub(crate) fn set_aside(&self, text: String) {
        tracing::warn!("{text}");
        {
            let mut state = self.0.state.lock();
            if state.set_aside.len() >= SET_ASIDE_KEPT_MAX {
                state.set_aside.remove(0);
            }
            state.set_aside.push(text);
        }
        self.announce();
    }

    fn change(&self, part: Part, change: impl FnOnce(&mut PartState)) {
        {
            let mut state = self.0.state.lock();
            if let Some(one) = state.parts.get_mut(part as usize) {
                change(one);
            }
        }
        self.announce();
    }

    fn announce(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A disk that keeps destroying files must not fill memory with their names.
const SET_ASIDE_KEPT_MAX: usize = 16;
