//! A tree to the syntax of the bounded backtracking engine: look-around, references, atomic groups.
//!
//! Only constructs that mean the same in both are written: bytes as hexadecimal classes, places as explicit
//! assertions, groups in order.

use std::fmt::Write as _;

use super::ast::{Greed, Node, Place, Times};
use super::byte_set::ByteSet;

/// The pattern in the other engine's words.
pub(super) fn translate(node: &Node) -> String {
    let mut text = String::new();
    write(node, &mut text);
    text
}

fn write(node: &Node, text: &mut String) {
    match node {
        Node::Empty => text.push_str("(?:)"),
        Node::Byte(set) => class(*set, text),
        Node::Place(place) => text.push_str(match place {
            Place::Start => r"\A",
            Place::LineStart => r"(?:\A|(?<=\n)(?!\z))",
            Place::End => r"\z",
            Place::EndOrFinalLine => r"(?=\n?\z)",
            Place::LineEnd => r"(?=\n|\z)",
            Place::WordEdge => r"\b",
            Place::NotWordEdge => r"\B",
        }),
        Node::Sequence(nodes) => nodes.iter().for_each(|node| match node {
            Node::Choice(_) => wrapped("(?:", node, text),
            _ => write(node, text),
        }),
        Node::Choice(nodes) => {
            for (index, node) in nodes.iter().enumerate() {
                if index > 0 {
                    text.push('|');
                }
                write(node, text);
            }
        }
        Node::Group(_, node) => wrapped("(", node, text),
        Node::Atomic(node) => wrapped("(?>", node, text),
        Node::Around { ahead, negated, node } => {
            let open = match (ahead, negated) {
                (true, false) => "(?=",
                (true, true) => "(?!",
                (false, false) => "(?<=",
                (false, true) => "(?<!",
            };
            wrapped(open, node, text);
        }
        Node::Back { group, fold_case } => {
            let open = if *fold_case { "(?i:" } else { "(?:" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{open}\\{group})");
        }
        Node::Repeat(node, times) => repeat(node, *times, text),
    }
}

fn wrapped(open: &str, node: &Node, text: &mut String) {
    text.push_str(open);
    write(node, text);
    text.push(')');
}

fn repeat(node: &Node, times: Times, text: &mut String) {
    // The other engine refuses to repeat what takes no bytes; once is the same.
    if is_zero_width(node) {
        let open = if times.greed == Greed::Possessive { "(?>" } else { "(?:" };
        match (times.min, times.greed) {
            (0, Greed::Lazy) => wrapped(&format!("{open}|"), node, text),
            (0, _) => {
                text.push_str(open);
                wrapped("(?:", node, text);
                text.push_str("|)");
            }
            _ => wrapped(open, node, text),
        }
        return;
    }
    if times.greed == Greed::Possessive {
        text.push_str("(?>");
    }
    match node {
        Node::Byte(_) | Node::Group(..) => write(node, text),
        _ => wrapped("(?:", node, text),
    }
    let _ = match (times.min, times.max) {
        (0, None) => write!(text, "*"),
        (1, None) => write!(text, "+"),
        (0, Some(1)) => write!(text, "?"),
        (min, None) => write!(text, "{{{min},}}"),
        (min, Some(max)) => write!(text, "{{{min},{max}}}"),
    };
    match times.greed {
        Greed::Greedy => {}
        Greed::Lazy => text.push('?'),
        Greed::Possessive => text.push(')'),
    }
}

fn is_zero_width(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Place(_) | Node::Around { .. } => true,
        Node::Byte(_) | Node::Back { .. } => false,
        Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().all(is_zero_width),
        Node::Group(_, node) | Node::Atomic(node) | Node::Repeat(node, _) => is_zero_width(node),
    }
}

fn class(set: ByteSet, text: &mut String) {
    let ranges = set.ranges();
    match ranges.as_slice() {
        [] => text.push_str("(?!)"),
        [(first, last)] if first == last && first.is_ascii_alphanumeric() => text.push(char::from(*first)),
        _ => {
            text.push('[');
            for (first, last) in ranges {
                let _ = if first == last {
                    write!(text, "\\x{first:02X}")
                } else {
                    write!(text, "\\x{first:02X}-\\x{last:02X}")
                };
            }
            text.push(']');
        }
    }
}
