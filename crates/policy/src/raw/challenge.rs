//! Challenges and throttles as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::toml_text::At;

/// What a challenge asks of a client.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawChallenge {
    /// Zero bits that an answer begins with where nothing speaks against the client, 8 to 20: each one more doubles the work. 16 if not given.
    pub bits: Option<At<u8>>,
    /// How long a client passes that has answered one, as in "1h", 1m to 24h. "1h" if not given.
    pub pass: Option<At<String>>,
    /// Clients without scripts may wait some seconds instead. `true` if not given.
    pub without_scripts: Option<bool>,
}

/// How often whoever is throttled may ask.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawThrottle {
    /// The rate that is admitted for long, as in "60/m". "60/m" if not given.
    pub rate: Option<At<String>>,
    /// How many requests may come at once. A tenth of the rate's count if not given, but 5 where there are as many; 30 of the default rate.
    pub burst: Option<At<u32>>,
}
