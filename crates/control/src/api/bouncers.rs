//! Programs that enforce decisions elsewhere, and sources whose decisions are taken over, as the API's JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/bouncers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bouncers {
    /// Where they ask; nowhere unless the settings have `[lapi]`.
    pub listen: Option<String>,
    /// Those that have a key, the oldest first.
    pub bouncers: Vec<Bouncer>,
}

/// A program that reads this node's decisions as from a CrowdSec local API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bouncer {
    /// Its name.
    pub name: String,
    /// When its key was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it last asked anything, in Unix milliseconds; `None`: not since the node started.
    pub seen_at_ms: Option<u64>,
    /// When it was last told all that is new, in Unix milliseconds.
    pub pulled_at_ms: Option<u64>,
    /// What it calls itself; its own words.
    pub agent: Option<String>,
}

/// A source whose decisions this node takes over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Import {
    /// Its host and port.
    pub source: String,
    /// When it was last read without a fault, in Unix milliseconds.
    pub read_at_ms: Option<u64>,
    /// Why it cannot be read now. What it ordered stays until its end.
    pub fault: Option<String>,
    /// Addresses that are banned on its word.
    pub decisions: u64,
    /// How many of its decisions are not taken over, and why.
    pub skipped: Option<String>,
}

/// `POST /api/v1/bouncers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBouncer {
    /// Its name: 1 to 63 characters of a-z, 0-9, - and _.
    pub name: String,
}

/// A bouncer's key; nobody can read it again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BouncerKey {
    /// Whose it is.
    pub name: String,
    /// What it sends as `X-Api-Key`.
    pub key: String,
}
