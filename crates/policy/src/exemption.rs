//! Exemptions: clients that are never refused for what they ask, in somebody's name and until some day.
//!
//! They are what `allow` is to addresses of one's own: for a penetration test, a partner's import, a monitor that goes. The day is compared with
//! the clock at each request, as of exclusions.

use phalanx_model::Prefix;
use serde::Serialize;

use crate::Diagnostic;
use crate::handling::Expiry;

/// Some clients, for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exemption {
    /// Their addresses; at least one.
    pub networks: Vec<Prefix>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends; `None`: never.
    pub until: Option<Expiry>,
    /// Where it begins in its file. It says nothing about what it means.
    #[serde(skip)]
    pub line: u32,
}

impl Exemption {
    /// When it ends, in seconds of Unix time.
    pub(crate) fn ends_at_s(&self) -> i64 {
        self.until.map_or(i64::MAX, |until| until.at_s)
    }

    /// Whom it is about, as its name.
    pub(crate) fn name(&self) -> String {
        let mut networks: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        networks.sort();
        networks.join(", ")
    }

    /// What is to be said of its end at a time, by its line.
    pub(crate) fn due(&self, file: &str, now_s: i64) -> Option<Diagnostic> {
        let until = self.until?;
        let who = self.name();
        let message = match until.days_left(now_s) {
            ..0 => format!("the exemption of {who} has ended: they are refused as others are"),
            days @ 0..DAYS_LEAST => format!("the exemption of {who} ends in {days} days"),
            _ => return None,
        };
        let help = format!(
            "take it out, or ask {} whether it is still needed and write a later `until`",
            self.owner
        );
        Some(Diagnostic::warning(file, until.line, message).with_help(help))
    }
}

/// Most of a policy.
pub const EXEMPTIONS_MAX: usize = 64;
/// Most networks of one.
pub const EXEMPTION_NETWORKS_MAX: usize = 256;
/// Days before its end from which on one is warned about.
const DAYS_LEAST: i64 = 7;
