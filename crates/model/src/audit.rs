//! What the audit log of the rule engine shows of a request beyond its access event. Never kept in the history.

use std::net::IpAddr;
use std::sync::Arc;

/// Parts of an audit log entry, as `SecAuditLogParts` chooses them: a letter from A to Z each. A and Z are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditParts(u32);

impl AuditParts {
    /// Reads letters, in any case.
    ///
    /// # Errors
    /// The first character that names no part.
    pub fn parse(letters: &str) -> Result<Self, char> {
        letters.chars().try_fold(Self::NONE, |parts, letter| {
            let upper = letter.to_ascii_uppercase();
            if KNOWN.contains(upper) { Ok(parts.with(Self(bit(upper)))) } else { Err(letter) }
        })
    }

    /// Whether a part is chosen; the letter in upper case.
    pub fn has(self, letter: char) -> bool {
        self.0 & bit(letter) != 0
    }

    /// These and those.
    #[must_use]
    pub fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// These without those.
    #[must_use]
    pub fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }

    const NONE: Self = Self(0);
}

impl Default for AuditParts {
    /// Head, reply head, messages, matched rules: `ABFHKZ`.
    fn default() -> Self {
        DEFAULT.chars().fold(Self::NONE, |parts, letter| parts.with(Self(bit(letter))))
    }
}

fn bit(letter: char) -> u32 {
    u32::from(letter).checked_sub(u32::from('A')).and_then(|place| 1u32.checked_shl(place)).unwrap_or(0)
}

/// One request for the audit log. Secret fields are masked before they get here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDetail {
    /// The parts to show.
    pub parts: AuditParts,
    /// The peer's port.
    pub client_port: u16,
    /// Our address.
    pub host: IpAddr,
    /// Our port.
    pub host_port: u16,
    /// The request's header fields in order; lossy UTF-8, from a stranger.
    pub request_fields: Vec<(String, String)>,
    /// The reply's header fields in order.
    pub response_fields: Vec<(String, String)>,
    /// What the rule engine did: `Enabled`, `DetectionOnly` or `Disabled`.
    pub engine: &'static str,
    /// `SecComponentSignature` of the rule set.
    pub components: Arc<[String]>,
}

/// The letters that name a part.
const KNOWN: &str = "ABCDEFGHIJKZ";
const DEFAULT: &str = "ABFHKZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_changed() {
        let parts = AuditParts::parse("abZ").unwrap();
        assert!(parts.has('A') && parts.has('B') && !parts.has('H'));
        assert!(parts.with(AuditParts::parse("H").unwrap()).has('H'));
        assert!(!parts.without(AuditParts::parse("B").unwrap()).has('B'));
        assert_eq!(AuditParts::parse("ABX"), Err('X'));
        assert_eq!(AuditParts::parse("A-"), Err('-'));
        assert_eq!(Ok(AuditParts::default()), AuditParts::parse("ABFHKZ"));
    }
}
