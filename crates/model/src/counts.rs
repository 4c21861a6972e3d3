//! What a node admitted under the limits that a fleet counts together, as nodes tell each other.
//!
//! Counts are cumulative: a message that is lost, repeated or overtaken by a later one changes nothing in the end.

use crate::Author;
use crate::limits::RATE_KEYS_TOLD_MAX;

/// What one node admitted of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCount {
    /// The limit: a hash of its app and name.
    pub limit: u32,
    /// The key: a keyed hash, the same on every node of the fleet.
    pub key: u64,
    /// Which of the node's counts of this key it is; it starts a new, higher one after the key was idle.
    pub since: u32,
    /// Requests admitted in this count.
    pub count: u32,
}

/// Whose counts a batch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountOf {
    /// Its author's.
    Node,
    /// Those of all nodes of the author's site, summed.
    Site,
}

/// What one node tells at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountBatch {
    /// Who tells it; proved by a signature before it gets here.
    pub author: Author,
    /// Whose counts they are.
    pub of: CountOf,
    /// When its process started, in Unix milliseconds: counts of an earlier one are over.
    pub epoch: u64,
    /// The counts, at most [`RATE_KEYS_TOLD_MAX`].
    pub counts: Vec<KeyCount>,
}

impl CountBatch {
    /// The form on the wire, without the author.
    pub fn to_bytes(of: CountOf, epoch: u64, counts: &[KeyCount]) -> Vec<u8> {
        let counts = counts.iter().take(RATE_KEYS_TOLD_MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + counts.len() * COUNT_BYTES);
        bytes.push(of.form());
        bytes.extend_from_slice(&epoch.to_le_bytes());
        for count in counts {
            bytes.extend_from_slice(&count.limit.to_le_bytes());
            bytes.extend_from_slice(&count.key.to_le_bytes());
            bytes.extend_from_slice(&count.since.to_le_bytes());
            bytes.extend_from_slice(&count.count.to_le_bytes());
        }
        bytes
    }

    /// Reads the form on the wire. `None`: it is of a form that this version does not know, or too long.
    pub fn from_bytes(author: Author, bytes: &[u8]) -> Option<Self> {
        let (&form, rest) = bytes.split_first()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (counts, []) = rest.as_chunks::<COUNT_BYTES>() else { return None };
        let of = [CountOf::Node, CountOf::Site].into_iter().find(|of| of.form() == form)?;
        if counts.len() > RATE_KEYS_TOLD_MAX {
            return None;
        }
        let counts = counts.iter().filter_map(|count| read(count)).collect();
        Some(Self { author, of, epoch: u64::from_le_bytes(*epoch), counts })
    }
}

impl CountOf {
    /// The first byte on the wire.
    fn form(self) -> u8 {
        match self {
            Self::Node => 1,
            Self::Site => 2,
        }
    }
}

fn read(bytes: &[u8]) -> Option<KeyCount> {
    let (limit, rest) = bytes.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (since, rest) = rest.split_first_chunk()?;
    let (count, _) = rest.split_first_chunk()?;
    Some(KeyCount {
        limit: u32::from_le_bytes(*limit),
        key: u64::from_le_bytes(*key),
        since: u32::from_le_bytes(*since),
        count: u32::from_le_bytes(*count),
    })
}

const HEAD_BYTES: usize = 9;
const COUNT_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn author() -> Author {
        Author { site: "fra".into(), node: "a".into(), role: crate::AuthorRole::Node }
    }

    proptest! {
        #[test]
        fn a_batch_reads_back(epoch: u64, counts in prop::collection::vec(any::<(u32, u64, u32, u32)>(), 0..300)) {
            let counts: Vec<KeyCount> = counts
                .into_iter()
                .map(|(limit, key, since, count)| KeyCount { limit, key, since, count })
                .collect();
            let read = CountBatch::from_bytes(author(), &CountBatch::to_bytes(CountOf::Site, epoch, &counts)).unwrap();
            prop_assert_eq!(read.of, CountOf::Site);
            prop_assert_eq!(read.epoch, epoch);
            prop_assert_eq!(&read.counts, &counts[..counts.len().min(RATE_KEYS_TOLD_MAX)]);
        }

        #[test]
        fn any_bytes_are_a_batch_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = CountBatch::from_bytes(author(), &bytes);
        }
    }

    #[test]
    fn a_batch_that_is_too_long_or_of_another_form_is_none() {
        let one = KeyCount { limit: 1, key: 2, since: 3, count: 4 };
        let mut long = CountBatch::to_bytes(CountOf::Node, 1, &[one; RATE_KEYS_TOLD_MAX]);
        assert!(CountBatch::from_bytes(author(), &long).is_some());
        long.extend_from_within(9..29);
        assert_eq!(CountBatch::from_bytes(author(), &long), None);
        let mut other = CountBatch::to_bytes(CountOf::Node, 1, &[one]);
        other[0] = 3;
        assert_eq!(CountBatch::from_bytes(author(), &other), None);
    }
}
