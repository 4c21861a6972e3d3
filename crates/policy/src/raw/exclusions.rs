//! `[[apps.exclusions]]` and `[[exemptions]]` as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::toml_text::At;

/// What some rules do not look at, for some requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExclusion {
    /// Ids of rules, as `phalanx explain` names them.
    #[serde(default)]
    pub rules: Vec<At<u64>>,
    /// Tags of rules, as in "phalanx/attack/sql-injection".
    #[serde(default)]
    pub tags: Vec<At<String>>,
    /// What they do not look at, as in "ARGS:comment". They are not run at all if not given.
    pub target: Option<At<String>>,
    /// Requests to this path and below it. All if not given.
    pub path: Option<At<String>>,
    /// Requests with one of these methods. All if not given.
    #[serde(default)]
    pub methods: Vec<At<String>>,
    /// Who answers for it.
    pub owner: Option<At<String>>,
    /// Why it is there, as in "ticket 4711: comments quote SQL".
    pub reason: Option<At<String>>,
    /// The day after which it ends, as in 2027-06-01, or a time with an offset, or "never".
    #[schemars(with = "Option<String>")]
    pub until: Option<At<RawUntil>>,
}

/// Clients that are never refused for what they ask, for some time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExemption {
    /// Their addresses and ranges.
    #[serde(default)]
    pub networks: Vec<At<String>>,
    /// Who answers for it.
    pub owner: Option<At<String>>,
    /// Why it is there, as in "penetration test of December".
    pub reason: Option<At<String>>,
    /// The day after which it ends, as in 2027-06-01, or a time with an offset, or "never".
    #[schemars(with = "Option<String>")]
    pub until: Option<At<RawUntil>>,
}

/// When something ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a day as in 2027-06-01, a time as in 2027-06-01T12:00:00Z, or \"never\""
)]
pub enum RawUntil {
    /// Then.
    At(toml::value::Datetime),
    /// `never`.
    Word(String),
}
