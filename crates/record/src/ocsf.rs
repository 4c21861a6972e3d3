//! Events in the form of the Open Cybersecurity Schema Framework, for tools that know no other: requests as HTTP Activity (4002), what a
//! detector found as Detection Finding (2004), incidents as Incident Finding (2005).
//!
//! The names and numbers are those of OCSF 1.6.0 (`https://schema.ocsf.io/1.6.0`, `ocsf/ocsf-schema` at `1.6.0`); [`SCHEMA`] stands in each event as
//! `metadata.version`, and [`MAPPING`] as `metadata.log_version`. A mapping with a higher number may add attributes; one that gives an attribute
//! another meaning gets a higher number, and a line in the changelog. What OCSF has no name for is in `unmapped`.
//!
//! INVARIANT: an event is one line, and no text from a stranger ends it. What is written has been masked before.

mod finding;
mod http;
mod parts;

pub use finding::{Change, Detection, Grade, IncidentReport};

use std::io;

use phalanx_model::{AccessEvent, Proposal, Signal};

use crate::escape::to_json_line;

/// The version of OCSF that events keep to.
pub const SCHEMA: &str = "1.6.0";
/// The version of the mapping of our events to it.
pub const MAPPING: &str = "1";

/// Who writes events.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The node's site.
    pub site: &'a str,
    /// The node.
    pub node: &'a str,
}

/// Classes of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub enum Class {
    HttpActivity,
    DetectionFinding,
    IncidentFinding,
}

/// One event as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its class.
    pub class: Class,
    /// When it happened, in Unix milliseconds.
    pub at_ms: u64,
    /// OCSF's `severity_id`, 1 (informational) to 6 (fatal).
    pub severity: u8,
    /// The trace and span that it belongs to.
    pub trace: Option<(u128, u64)>,
    /// One JSON object, without a line break.
    pub json: String,
}

impl Class {
    /// OCSF's `class_uid`.
    pub fn uid(self) -> u32 {
        match self {
            Self::HttpActivity => 4_002,
            Self::DetectionFinding => 2_004,
            Self::IncidentFinding => 2_005,
        }
    }

    /// OCSF's name of the class, as programs write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::HttpActivity => "http_activity",
            Self::DetectionFinding => "detection_finding",
            Self::IncidentFinding => "incident_finding",
        }
    }
}

/// A request with the findings about it, masked as the record has it.
pub fn request(writer: Writer<'_>, access: &AccessEvent, signals: &[Signal]) -> io::Result<Line> {
    let event = http::event(writer, access, signals);
    let trace = access.trace.map(|trace| (trace.id.to_bits(), trace.span.map_or(0, |span| span.to_bits())));
    line(Class::HttpActivity, access.at_ms, event.severity(), trace, &event)
}

/// What a node concludes should be ordered about an actor.
pub fn proposal(writer: Writer<'_>, proposal: &Proposal) -> io::Result<Line> {
    detection(writer, &Detection::of_proposal(proposal))
}

/// What a detector found.
pub fn detection(writer: Writer<'_>, found: &Detection) -> io::Result<Line> {
    let event = finding::detection(writer, found);
    line(Class::DetectionFinding, found.at_ms, event.severity(), None, &event)
}

/// An incident that was opened, changed or closed.
pub fn incident(writer: Writer<'_>, report: &IncidentReport) -> io::Result<Line> {
    let event = finding::incident(writer, report);
    line(Class::IncidentFinding, report.at_ms, event.severity(), None, &event)
}

fn line<T: serde::Serialize>(
    class: Class,
    at_ms: u64,
    severity: u8,
    trace: Option<(u128, u64)>,
    event: &T,
) -> io::Result<Line> {
    let mut json = Vec::with_capacity(LINE_BYTES_USUAL);
    to_json_line(&mut json, event)?;
    let json = String::from_utf8(json).map_err(io::Error::other)?;
    Ok(Line { class, at_ms, severity, trace, json })
}

/// What an event of a request takes, without many rules.
const LINE_BYTES_USUAL: usize = 2_048;
