//! A tree to the linear-time engine's intermediate form, when it has the same meaning there.

use regex_syntax::hir::{Capture, Class, ClassBytes, ClassBytesRange, Hir, Look, Repetition};

use super::ast::{Greed, Node, Place, Times};
use super::byte_set::ByteSet;

/// What the linear engine cannot tell by itself when the value ends in a line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TailDoubts {
    /// A multi-line `^` may match there, which PCRE's does not: a match that reaches the end must be confirmed.
    pub(super) line_start: bool,
    /// `$` without `(?m)` also matches before it: the linear engine must not be asked.
    pub(super) final_line: bool,
}

/// Translates; `None` when only a backtracking engine can follow the pattern.
pub(super) fn translate(node: &Node) -> Option<(Hir, TailDoubts)> {
    let mut doubts = TailDoubts::default();
    let hir = hir(node, ByteSet::default(), &mut doubts)?;
    Some((hir, doubts))
}

/// A pattern for the linear engine that matches wherever this one does, and perhaps elsewhere: assertions are taken as
/// true, references as any text. Where it finds nothing, nothing is to be found.
pub(super) fn superset(node: &Node) -> Option<Hir> {
    hir(&relaxed(node), ByteSet::default(), &mut TailDoubts::default())
}

fn relaxed(node: &Node) -> Node {
    match node {
        Node::Empty | Node::Byte(_) => node.clone(),
        Node::Place(Place::EndOrFinalLine) => Node::Place(Place::LineEnd),
        Node::Place(_) => node.clone(),
        Node::Sequence(nodes) => Node::Sequence(nodes.iter().map(relaxed).collect()),
        Node::Choice(nodes) => Node::Choice(nodes.iter().map(relaxed).collect()),
        Node::Group(_, node) | Node::Atomic(node) => relaxed(node),
        Node::Repeat(node, times) => {
            Node::Repeat(Box::new(relaxed(node)), Times { greed: Greed::Greedy, ..*times })
        }
        Node::Around { .. } => Node::Empty,
        Node::Back { .. } => {
            let any = Times { min: 0, max: None, greed: Greed::Greedy };
            Node::Repeat(Box::new(Node::Byte(ByteSet::ALL)), any)
        }
    }
}

/// `follow`: the bytes that can come next after this node.
fn hir(node: &Node, follow: ByteSet, doubts: &mut TailDoubts) -> Option<Hir> {
    Some(match node {
        Node::Empty => Hir::empty(),
        Node::Byte(set) => class(*set),
        Node::Place(place) => Hir::look(look(*place, doubts)),
        Node::Sequence(nodes) => {
            let mut parts = Vec::with_capacity(nodes.len());
            let mut follow = follow;
            for node in nodes.iter().rev() {
                parts.push(hir(node, follow, doubts)?);
                follow = first(node, follow);
            }
            parts.reverse();
            Hir::concat(parts)
        }
        Node::Choice(nodes) => {
            Hir::alternation(nodes.iter().map(|node| hir(node, follow, doubts)).collect::<Option<Vec<_>>>()?)
        }
        Node::Group(number, node) => {
            Hir::capture(Capture { index: *number, name: None, sub: Box::new(hir(node, follow, doubts)?) })
        }
        Node::Repeat(body, times) => return repeat(body, *times, follow, doubts),
        // Line ends: after `\r\n` nothing that starts with `\n` may be tried with `\r` alone.
        Node::Atomic(inner) if is_line_end(inner) && !follow.overlaps(ByteSet::single(b'\n')) => {
            return hir(inner, follow, doubts);
        }
        Node::Atomic(inner) if is_single_way(inner) => return hir(inner, follow, doubts),
        Node::Atomic(inner) => match inner.as_ref() {
            // An atomic repetition is a possessive one.
            Node::Repeat(body, times) if times.greed == Greed::Greedy => {
                return repeat(body, Times { greed: Greed::Possessive, ..*times }, follow, doubts);
            }
            _ => return None,
        },
        Node::Around { .. } | Node::Back { .. } => return None,
    })
}

fn repeat(body: &Node, times: Times, follow: ByteSet, doubts: &mut TailDoubts) -> Option<Hir> {
    if times.greed == Greed::Possessive {
        // Giving nothing back makes no difference when what is repeated is one byte of a set and nothing that follows
        // can start with such a byte: every other place to go on from fails at once.
        let Node::Byte(set) = body else { return None };
        if set.overlaps(follow) || times.max.is_some() {
            return None;
        }
    }
    let inner_follow = if times.max == Some(1) { follow } else { follow.union(first(body, follow)) };
    Some(Hir::repetition(Repetition {
        min: times.min,
        max: times.max,
        greedy: times.greed != Greed::Lazy,
        sub: Box::new(hir(body, inner_follow, doubts)?),
    }))
}

fn class(set: ByteSet) -> Hir {
    let ranges = set.ranges().into_iter().map(|(first, last)| ClassBytesRange::new(first, last));
    Hir::class(Class::Bytes(ClassBytes::new(ranges)))
}

fn look(place: Place, doubts: &mut TailDoubts) -> Look {
    match place {
        Place::Start => Look::Start,
        Place::LineStart => {
            doubts.line_start = true;
            Look::StartLF
        }
        Place::End => Look::End,
        Place::EndOrFinalLine => {
            doubts.final_line = true;
            Look::End
        }
        Place::LineEnd => Look::EndLF,
        Place::WordEdge => Look::WordAscii,
        Place::NotWordEdge => Look::WordAsciiNegate,
    }
}

/// What `\R` is.
fn is_line_end(node: &Node) -> bool {
    matches!(node, Node::Choice(branches)
        if matches!(branches.as_slice(), [Node::Sequence(_), Node::Byte(set)] if *set == ByteSet::of(b"\n\x0b\x0c\r\x85")))
}

/// Whether there is only one way to match at a place, so that nothing is lost by keeping to it.
fn is_single_way(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Byte(_) | Node::Place(_) => true,
        Node::Sequence(nodes) => nodes.iter().all(is_single_way),
        Node::Choice(nodes) => nodes.iter().all(|node| matches!(node, Node::Byte(_))),
        Node::Group(_, node) | Node::Atomic(node) => is_single_way(node),
        Node::Repeat(node, times) => Some(times.min) == times.max && is_single_way(node),
        Node::Around { .. } | Node::Back { .. } => false,
    }
}

/// The bytes that can come next where this node starts, if it is followed by `follow`. An assertion that does not
/// tell makes it all bytes.
fn first(node: &Node, follow: ByteSet) -> ByteSet {
    match node {
        Node::Empty => follow,
        Node::Byte(set) => *set,
        Node::Place(Place::End) => ByteSet::default(),
        Node::Place(Place::EndOrFinalLine | Place::LineEnd) => ByteSet::single(b'\n'),
        Node::Place(_) | Node::Around { .. } | Node::Back { .. } => ByteSet::ALL,
        Node::Sequence(nodes) => nodes.iter().rev().fold(follow, |follow, node| first(node, follow)),
        Node::Choice(nodes) => {
            nodes.iter().fold(ByteSet::default(), |set, node| set.union(first(node, follow)))
        }
        Node::Group(_, node) | Node::Atomic(node) => first(node, follow),
        Node::Repeat(node, times) => {
            let once = first(node, follow);
            if times.min == 0 { once.union(follow) } else { once }
        }
    }
}
