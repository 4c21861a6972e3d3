//! `[detection]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::detection::DetectionMode;
use crate::toml_text::At;

/// Attacks that show over many requests: what is done about them, and from where on they are attacks.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDetection {
    /// `observe`, the default: incidents are shown; `act`: what is decisive becomes a short order; `off`: nothing is learned.
    pub mode: Option<At<DetectionMode>>,
    /// Field scenarios that bring thresholds of their own, as `packs/scenarios` has them: `wordpress-login`. What is written here goes before what they say,
    /// and what the first one says before others.
    #[serde(default)]
    pub scenarios: Vec<At<String>>,
    /// Failed logins of many accounts.
    #[serde(default)]
    pub stuffing: RawStuffing,
    /// One password for many accounts.
    #[serde(default)]
    pub spraying: RawThreshold,
    /// Questions whether accounts exist.
    #[serde(default)]
    pub enumeration: RawThreshold,
    /// Steps through objects of others.
    #[serde(default)]
    pub walk: RawThreshold,
    /// Pages that do not exist.
    #[serde(default)]
    pub scanning: RawThreshold,
    /// Page after page without a session.
    #[serde(default)]
    pub scraping: RawThreshold,
    /// Refused payments with many cards.
    #[serde(default)]
    pub carding: RawThreshold,
    /// Attacks that rules refused.
    #[serde(default)]
    pub exploiting: RawThreshold,
    /// Requests of one kind of software in ten seconds from which it can be a flood: what the app can serve.
    pub flood_requests: Option<At<u64>>,
    /// How many per cent of a threshold one other node's word counts: 0 to 49.
    pub peer_percent: Option<At<u64>>,
}

/// How much of what, in which time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawThreshold {
    /// The time, as in "60s"; ten minutes at most.
    pub window: Option<At<String>>,
    /// So many events,
    pub events: Option<At<u64>>,
    /// about so many different things.
    pub different: Option<At<u64>>,
}

/// The same of logins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStuffing {
    /// The time, as in "60s"; ten minutes at most.
    pub window: Option<At<String>>,
    /// So many failed logins,
    pub events: Option<At<u64>>,
    /// of so many accounts.
    pub different: Option<At<u64>>,
    /// How many per cent of its logins fail then.
    pub failed_percent: Option<At<u64>>,
}
