//! What is done about attacks that show over many requests, and from where on they are attacks.
//!
//! The defaults and their reasons are those of `phalanx_learn::Detectors`, which this crate does not know: what is not written is `None`.

use serde::Serialize;

/// Detection of attacks over many requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// What is done.
    pub mode: DetectionMode,
    /// Failed logins of many accounts.
    pub stuffing: DetectionThreshold,
    /// How many per cent of its logins fail then.
    pub stuffing_failed_percent: Option<u64>,
    /// One password for many accounts.
    pub spraying: DetectionThreshold,
    /// Questions whether accounts exist.
    pub enumeration: DetectionThreshold,
    /// Steps through objects of others.
    pub walk: DetectionThreshold,
    /// Pages that do not exist.
    pub scanning: DetectionThreshold,
    /// Page after page without a session.
    pub scraping: DetectionThreshold,
    /// Refused payments with many cards.
    pub carding: DetectionThreshold,
    /// Attacks that rules refused.
    pub exploiting: DetectionThreshold,
    /// Requests of one kind of software in ten seconds from which it can be a flood.
    pub flood_requests: Option<u64>,
    /// How many per cent of a threshold one other node's word counts.
    pub peer_percent: Option<u64>,
}

/// What is done about what is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectionMode {
    /// Nothing is learned.
    Off,
    /// Incidents are shown.
    #[default]
    Observe,
    /// What is decisive about an address or a session becomes a short order.
    Act,
}

/// How much of what, in which time; what is not written is the detector's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DetectionThreshold {
    /// The time, in milliseconds.
    pub window_ms: Option<u64>,
    /// So many events,
    pub events: Option<u64>,
    /// about so many different things.
    pub different: Option<u64>,
}
