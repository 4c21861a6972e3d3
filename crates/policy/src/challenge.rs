//! What challenges ask of clients, who is challenged without an order, and how often whoever is throttled may ask.

use phalanx_model::limits;
use serde::Serialize;

use crate::Rate;

/// Which clients of an app or route are challenged first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeUse {
    /// Those that a standing decision is about.
    #[default]
    Ordered,
    /// All of them.
    Always,
}

/// What a challenge asks of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Challenge {
    /// Zero bits that an answer begins with where nothing speaks against the client.
    pub bits: u8,
    /// How long whoever worked for it passes, in milliseconds.
    pub pass_ms: u64,
    /// Clients without scripts may wait instead.
    pub without_scripts: bool,
}

impl Default for Challenge {
    fn default() -> Self {
        Self { bits: limits::CHALLENGE_BITS, pass_ms: limits::CHALLENGE_PASS_MS, without_scripts: true }
    }
}

/// How often whoever is throttled may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Throttle {
    /// The rate that is admitted for long.
    pub rate: Rate,
    /// How many requests may come at once.
    pub burst: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        let rate = Rate { count: limits::THROTTLE_PER_MINUTE, period_ms: 60_000 };
        Self { rate, burst: limits::THROTTLE_BURST }
    }
}
