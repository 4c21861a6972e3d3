//! What a pattern says, on bytes: flags, case and escapes are already resolved.

use super::byte_set::ByteSet;

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Matches the empty string.
    Empty,
    /// One byte of a set; a literal byte is a set of one (or of two, without case). An empty set never matches.
    Byte(ByteSet),
    /// A condition on the place.
    Place(Place),
    /// One after the other.
    Sequence(Vec<Node>),
    /// The first that leads to a match.
    Choice(Vec<Node>),
    /// A capturing group, numbered from 1.
    Group(u32, Box<Node>),
    /// Repetition.
    Repeat(Box<Node>, Times),
    /// `(?>...)`: once it has matched, it is not tried another way.
    Atomic(Box<Node>),
    /// `(?=...)` and its kind.
    Around { ahead: bool, negated: bool, node: Box<Node> },
    /// What a group matched.
    Back { group: u32, fold_case: bool },
}

impl Node {
    /// Whether some repetition in it has no end.
    pub(super) fn is_unbounded(&self) -> bool {
        match self {
            Self::Repeat(node, times) => times.max.is_none() || node.is_unbounded(),
            Self::Sequence(nodes) | Self::Choice(nodes) => nodes.iter().any(Self::is_unbounded),
            Self::Group(_, node) | Self::Atomic(node) | Self::Around { node, .. } => node.is_unbounded(),
            Self::Empty | Self::Byte(_) | Self::Place(_) | Self::Back { .. } => false,
        }
    }

    /// The pattern as it stands for values in which none of these bytes occurs; `None` when it cannot match such a value.
    /// Exact on those values: only ways that need an absent byte are left out.
    pub(super) fn without(&self, absent: ByteSet) -> Option<Self> {
        Some(match self {
            Self::Byte(set) => {
                let left = set.intersection(absent.complement());
                if left.is_empty() {
                    return None;
                }
                Self::Byte(left)
            }
            Self::Sequence(nodes) => {
                Self::Sequence(nodes.iter().map(|node| node.without(absent)).collect::<Option<_>>()?)
            }
            Self::Choice(nodes) => {
                let mut left: Vec<_> = nodes.iter().filter_map(|node| node.without(absent)).collect();
                match (left.pop(), left.is_empty()) {
                    (Some(only), true) => only,
                    (Some(last), false) => {
                        left.push(last);
                        Self::Choice(left)
                    }
                    (None, _) => return None,
                }
            }
            Self::Group(number, node) => Self::Group(*number, Box::new(node.without(absent)?)),
            Self::Atomic(node) => Self::Atomic(Box::new(node.without(absent)?)),
            Self::Repeat(node, times) => match node.without(absent) {
                Some(node) => Self::Repeat(Box::new(node), *times),
                None if times.min == 0 => Self::Empty,
                None => return None,
            },
            Self::Around { ahead, negated, node } => match (node.without(absent), negated) {
                (Some(node), _) => Self::Around { ahead: *ahead, negated: *negated, node: Box::new(node) },
                (None, true) => Self::Empty,
                (None, false) => return None,
            },
            Self::Empty | Self::Place(_) | Self::Back { .. } => self.clone(),
        })
    }
}

/// How often, and what is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) min: u32,
    pub(super) max: Option<u32>,
    pub(super) greed: Greed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greed {
    Greedy,
    Lazy,
    Possessive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `\A`, and `^` without `(?m)`.
    Start,
    /// `^` with `(?m)`: at the start and after every line feed but one that ends the value.
    LineStart,
    /// `\z`
    End,
    /// `\Z`, and `$` without `(?m)`: at the end and before a line feed that ends the value.
    EndOrFinalLine,
    /// `$` with `(?m)`: at the end and before every line feed.
    LineEnd,
    /// `\b`
    WordEdge,
    /// `\B`
    NotWordEdge,
}
