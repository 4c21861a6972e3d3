//! Which clients may ask at all, by their network.

use phalanx_model::Prefix;
use serde::Serialize;

/// Networks whose clients may ask, and networks whose clients may not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Networks {
    /// Only these may; none means all.
    pub allow: Vec<Prefix>,
    /// These may not, whatever `allow` says.
    pub deny: Vec<Prefix>,
}

impl Networks {
    /// Whether everybody may ask.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}
