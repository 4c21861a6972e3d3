//! An incident's id as people read and write it.

use std::fmt;
use std::str::FromStr;

use phalanx_model::{AuthorRole, Decision};

/// The id of an incident: 13 characters of Crockford base 32 that sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentId(pub u64);

impl IncidentId {
    /// The reason of a decision that is made because of this incident: it names the incident first.
    pub fn reason(self, why: &str) -> String {
        format!("{REASON}{self}: {why}")
    }

    /// The reason of an order about many that is given to all nodes because of this incident without a person.
    pub fn automatic_reason(self, why: &str) -> String {
        self.reason(&format!("{AUTOMATIC}{why}"))
    }

    /// The incident that such a reason names.
    pub fn of_automatic(reason: &str) -> Option<Self> {
        let (_, why) = reason.strip_prefix(REASON)?.split_once(": ")?;
        Self::of_reason(reason).filter(|_| why.starts_with(AUTOMATIC))
    }

    /// The incident because of which a decision was made without a person: a node says so by naming it, and what is ordered with an operator's key
    /// says besides that it was ordered by itself.
    pub fn of_decision(decision: &Decision) -> Option<Self> {
        match decision.author.role {
            AuthorRole::Node => Self::of_reason(&decision.reason),
            AuthorRole::Operator => Self::of_automatic(&decision.reason),
        }
    }

    /// The incident that a decision's reason names.
    pub fn of_reason(reason: &str) -> Option<Self> {
        reason.strip_prefix(REASON)?.split_once(": ")?.0.parse().ok()
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..LENGTH).rev().try_for_each(|place| {
            let digit = usize::try_from((self.0 >> (5 * place)) & 31).unwrap_or_default();
            write!(f, "{}", char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')))
        })
    }
}

/// Why a text is no id of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoIncidentId;

impl fmt::Display for NoIncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an incident's id has 13 characters of 0-9 and A-Z without I, L, O and U")
    }
}

impl std::error::Error for NoIncidentId {}

impl FromStr for IncidentId {
    type Err = NoIncidentId;

    fn from_str(text: &str) -> Result<Self, NoIncidentId> {
        if text.len() != LENGTH {
            return Err(NoIncidentId);
        }
        let mut id = 0_u64;
        for byte in text.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = ALPHABET.iter().position(|&letter| letter == upper).ok_or(NoIncidentId)?;
            // 13 * 5 bits are one more than there are.
            if id >> 59 != 0 {
                return Err(NoIncidentId);
            }
            id = id << 5 | u64::try_from(digit).unwrap_or_default();
        }
        Ok(Self(id))
    }
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 13;
const AUTOMATIC: &str = "by itself: ";
const REASON: &str = "incident ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for id in [0, 1, 1_767_571_200_000 << 22, u64::MAX].map(IncidentId) {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
            assert_eq!(IncidentId::of_reason(&id.reason("scanning: 20 pages")), Some(id));
        }
        for text in ["", "0000000000000I", "G000000000000", "000000000000O", "é00000000000"] {
            assert_eq!(text.parse::<IncidentId>(), Err(NoIncidentId), "{text}");
        }
        assert_eq!(IncidentId::of_reason("three strikes"), None);
    }
}
