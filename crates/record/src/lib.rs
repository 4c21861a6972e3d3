//! Events kept and shown: access log, sealed history, ledger, metrics, explanations.
//!
//! Flow in names: lanes -> `Recorder` -> access log | events in OCSF's form | `History` | ledger, and live to subscribers; `History` ->
//! `RecordedRequest` -> `Explanation` -> CLI and console; counters -> `Metrics`.
//!
//! The recorder has a thread of its own. It reads the lanes and nothing waits for it: the data plane drops and
//! counts access events when the lane is full, and an operator's action is refused when the ledger lane is.
//!
//! INVARIANT: no failure of a disk reaches the data plane, and secrets reach no disk.

pub mod escape;
pub mod redact;

pub mod request;
pub mod status;

pub mod traffic;

pub mod ocsf;

#[cfg(feature = "otel")]
mod spans;

mod outlet;
mod rotating;
mod standard_output;
mod time;

mod access_log;
pub mod modsecurity;

mod audit_log;
mod line_log;

mod courier;
mod syslog;

#[cfg(feature = "otel")]
mod otlp_logs;

mod event_log;

pub mod history;
pub mod ledger;

pub mod explain;
pub mod metrics;
pub mod recorder;

pub mod recording;

pub use access_log::AccessFormat;
pub use audit_log::AuditFormat;
pub use event_log::{EventSettings, Report, Reports};
pub use explain::{Explanation, NextStep};
pub use history::{
    CopiedCounts, Copies, CopyOf, CopySettings, CountsBatch, Filter, Found, History, Mark, NotTaken,
    RefusedClient, SpoolBatch, StatusRange,
};
pub use metrics::{
    LearningCounts, Metrics, MetricsSources, NodeGauges, RateLimitCount, TryCount, UpstreamCount,
};
#[cfg(feature = "otel")]
pub use otlp_logs::OtlpLogs;
pub use recorder::{AccessLogTo, RecordSettings, Recorder, Released, Watch};
pub use recording::{RecordedSince, RecordingReader, RecordingSettings, RequestRecorder};
pub use request::{Consequence, RecordedRequest};
pub use rotating::rotated;
#[cfg(feature = "otel")]
pub use spans::SpanSettings;
pub use status::{Part, PartReport, RecorderReport, RecorderStatus};
pub use syslog::SyslogTo;
pub use time::rfc3339;
pub use traffic::{By, Locate, Located, Traffic, TrafficOthers, TrafficQuery, TrafficSeries, TrafficTotals};

use std::path::PathBuf;

/// Why something could not be recorded or read. Always a fault of this node, never of a client.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The history's database.
    #[error("history: {0}")]
    History(#[from] rusqlite::Error),
    /// The history has not been opened yet; its disk may be failing.
    #[error("the history is not open; `phalanx status` says why")]
    HistoryNotReady,
    /// A sealed record or its key.
    #[error(transparent)]
    Seal(#[from] phalanx_trust::TrustError),
    /// A record that is no JSON of the expected form.
    #[error("record: {0}")]
    Form(#[from] serde_json::Error),
}
