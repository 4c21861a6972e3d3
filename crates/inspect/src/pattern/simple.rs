//! Patterns whose match needs no regular expression engine.

use super::ast::{Greed, Node, Place};
use super::byte_set::ByteSet;

/// Such a pattern. It has no groups.
#[derive(Debug)]
pub(super) enum Simple {
    /// `^.*$`, where the dot is any byte: all of every value.
    All,
    /// `^text`; the second form of each byte is its other case where case does not count.
    Start(Vec<ByteSet>),
}

/// The simple form of a pattern, if it has one.
pub(super) fn of(node: &Node) -> Option<Simple> {
    let Node::Sequence(nodes) = node else { return None };
    let (first, rest) = nodes.split_first()?;
    if !matches!(first, Node::Place(Place::Start | Place::LineStart)) {
        return None;
    }
    if let [Node::Repeat(body, times), Node::Place(Place::End | Place::LineEnd | Place::EndOrFinalLine)] =
        rest
        && **body == Node::Byte(ByteSet::ALL)
        && (times.min, times.max, times.greed) == (0, None, Greed::Greedy)
    {
        return Some(Simple::All);
    }
    let sets = rest.iter().map(|node| match node {
        Node::Byte(set) => Some(*set),
        _ => None,
    });
    sets.collect::<Option<Vec<_>>>().filter(|sets| !sets.is_empty()).map(Simple::Start)
}

impl Simple {
    /// The leftmost match in a value; `None`: not told here, as the start of another line may match.
    pub(super) fn find(&self, haystack: &[u8]) -> Option<Option<(usize, usize)>> {
        match self {
            Self::All => Some(Some((0, haystack.len()))),
            Self::Start(sets) => {
                let starts = haystack.len() >= sets.len()
                    && sets.iter().zip(haystack).all(|(set, &byte)| set.has(byte));
                if starts {
                    return Some(Some((0, sets.len())));
                }
                memchr::memchr(b'\n', haystack).is_none().then_some(None)
            }
        }
    }
}
