//! What every matching value must have: least length, one of some literals, bytes of some sets.
//!
//! Computed on the tree, so that it holds for both engines. Each answer errs on the side of "nothing known".

use super::ast::{Node, Times};
use super::byte_set::ByteSet;

/// What every matching value must have. Each part holds by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    /// Fewest bytes.
    pub min_len: usize,
    /// At least one of these occurs, compared without ASCII case; all are lower case and not empty. `None`: nothing known.
    pub any_of: Option<Vec<Vec<u8>>>,
    /// From each of these sets (one bit per byte) at least one byte occurs; the smallest sets first, at most four.
    pub byte_sets: Vec<[u64; 4]>,
    /// Nothing matches.
    pub impossible: bool,
}

/// What is required of values of each kind: see [`ABSENT`].
pub type Requirements = [Requirement; KINDS];

/// Kinds of values that requirements tell apart.
pub const KINDS: usize = 3;

/// Bytes that do not occur in values of each kind, the widest set last. Ordinary names, numbers, words and paths have
/// no quotes, brackets or shell characters. Many patterns cannot match without one, and those that allow such bytes
/// between the letters of a word are plain words without them. No letters: kinds must not depend on case.
pub const ABSENT: [&[u8]; KINDS] = [
    b"",
    b"\"'`\\$|&<>[]{}^~",
    b"\"'`\\$|&<>[]{}^~()!*?;=%#@\0\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r",
];

/// What a pattern requires of values of each kind.
pub(super) fn of_kinds(node: &Node) -> Requirements {
    ABSENT.map(|absent| match node.without(ByteSet::of(absent)) {
        Some(node) => of(&node),
        None => Requirement { impossible: true, ..Requirement::default() },
    })
}

/// The requirement of a pattern.
fn of(node: &Node) -> Requirement {
    let facts = facts(node);
    let any_of = match facts.exact {
        Some(exact) => better(exact_as_literals(exact), facts.any_of),
        None => facts.any_of,
    };
    Requirement {
        min_len: facts.min_len,
        any_of: any_of.map(|literals| without_redundant(literals.texts)),
        byte_sets: facts.sets.iter().map(|set| set.0).collect(),
        impossible: false,
    }
}

/// Most strings in the complete list of what a piece can match.
const EXACT_MAX: usize = 96;
/// Longest such string: more bytes do not make a prefilter better.
const EXACT_BYTES_MAX: usize = 24;
/// Most literals of one requirement.
const LITERALS_MAX: usize = 2_000;
/// Most sets of bytes.
const SETS_MAX: usize = 4;
/// A set with more bytes than this says nothing.
const SET_BYTES_MAX: u32 = 160;

/// What is known of a piece.
struct Facts {
    min_len: usize,
    /// Everything the piece can match, in lower case.
    exact: Option<Vec<Vec<u8>>>,
    any_of: Option<Literals>,
    sets: Vec<ByteSet>,
    /// Of a repetition: what it starts and ends with, complete.
    edges: Option<Vec<Vec<u8>>>,
}

/// Literals, one of which occurs, with an estimate of how often one does by chance at a place.
struct Literals {
    texts: Vec<Vec<u8>>,
    chance: f64,
}

impl Facts {
    /// Of a piece that can match the empty string at any place.
    fn nothing() -> Self {
        Self { min_len: 0, exact: Some(vec![Vec::new()]), any_of: None, sets: Vec::new(), edges: None }
    }
}

fn facts(node: &Node) -> Facts {
    match node {
        // An assertion takes no bytes and only rules matches out.
        Node::Empty | Node::Place(_) | Node::Around { .. } => Facts::nothing(),
        Node::Byte(set) => byte(*set),
        Node::Sequence(nodes) => sequence(nodes),
        Node::Choice(nodes) => choice(nodes),
        Node::Group(_, node) | Node::Atomic(node) => facts(node),
        Node::Repeat(node, times) => repeat(node, *times),
        Node::Back { .. } => Facts { exact: None, ..Facts::nothing() },
    }
}

fn byte(set: ByteSet) -> Facts {
    let mut folded: Vec<u8> = set.iter().map(|byte| byte.to_ascii_lowercase()).collect();
    folded.sort_unstable();
    folded.dedup();
    Facts {
        min_len: 1,
        exact: (folded.len() <= 10).then(|| folded.into_iter().map(|byte| vec![byte]).collect()),
        any_of: None,
        sets: if set.len() <= SET_BYTES_MAX { vec![set] } else { Vec::new() },
        edges: None,
    }
}

fn sequence(nodes: &[Node]) -> Facts {
    let mut all = Facts::nothing();
    // What the pieces since the last inexact one can match together.
    let mut run: Vec<Vec<u8>> = vec![Vec::new()];
    for node in nodes {
        let piece = facts(node);
        all.min_len = all.min_len.saturating_add(piece.min_len);
        all.sets.extend(piece.sets);
        match piece.exact.as_deref().and_then(|exact| joined(&run, exact)) {
            Some(longer) => run = longer,
            None => {
                all.exact = None;
                let started = piece.edges.as_deref().and_then(|edges| joined(&run, edges));
                all.any_of = better(exact_as_literals(started.unwrap_or(run)), all.any_of);
                all.any_of = better(piece.any_of, all.any_of);
                run = piece.exact.or(piece.edges).unwrap_or_else(|| vec![Vec::new()]);
            }
        }
    }
    if all.exact.is_some() {
        all.exact = Some(run);
    } else {
        all.any_of = better(exact_as_literals(run), all.any_of);
    }
    keep_smallest(&mut all.sets);
    all
}

/// Every text of one list followed by every text of the other; `None` when that is too much.
fn joined(left: &[Vec<u8>], right: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    if left.len().checked_mul(right.len())? > EXACT_MAX {
        return None;
    }
    let longest = |texts: &[Vec<u8>]| texts.iter().map(Vec::len).max().unwrap_or(0);
    if longest(left) + longest(right) > EXACT_BYTES_MAX {
        return None;
    }
    Some(
        left.iter().flat_map(|start| right.iter().map(move |end| [start.as_slice(), end].concat())).collect(),
    )
}

fn choice(nodes: &[Node]) -> Facts {
    let branches: Vec<Facts> = nodes.iter().map(facts).collect();
    let min_len = branches.iter().map(|branch| branch.min_len).min().unwrap_or(0);
    let mut sets = Some(ByteSet::default());
    for branch in &branches {
        sets = sets.zip(branch.sets.first()).map(|(union, set)| union.union(*set));
    }
    let exact_count: Option<usize> = branches.iter().map(|branch| branch.exact.as_ref().map(Vec::len)).sum();
    if exact_count.is_some_and(|count| count <= EXACT_MAX) {
        let mut exact: Vec<Vec<u8>> =
            branches.into_iter().filter_map(|branch| branch.exact).flatten().collect();
        exact.sort_unstable();
        exact.dedup();
        return Facts { min_len, exact: Some(exact), any_of: None, sets: usable(sets), edges: None };
    }
    let mut union = Literals { texts: Vec::new(), chance: 0.0 };
    let mut known = true;
    for branch in branches {
        let literals = match branch.exact {
            Some(exact) => better(exact_as_literals(exact), branch.any_of),
            None => branch.any_of,
        };
        match literals {
            Some(literals) => {
                union.chance += literals.chance;
                union.texts.extend(literals.texts);
            }
            None => known = false,
        }
    }
    known &= union.texts.len() <= LITERALS_MAX;
    Facts { min_len, exact: None, any_of: known.then_some(union), sets: usable(sets), edges: None }
}

fn usable(set: Option<ByteSet>) -> Vec<ByteSet> {
    set.filter(|set| set.len() <= SET_BYTES_MAX).into_iter().collect()
}

fn repeat(node: &Node, times: Times) -> Facts {
    let once = facts(node);
    if times.min == 0 {
        let exact =
            once.exact.filter(|exact| times.max == Some(1) && exact.len() < EXACT_MAX).map(|mut exact| {
                exact.push(Vec::new());
                exact.sort_unstable();
                exact.dedup();
                exact
            });
        return Facts { exact, ..Facts::nothing() };
    }
    let min_len = once.min_len.saturating_mul(times.min as usize);
    if times.max == Some(1) {
        return once;
    }
    let exactly = Some(times.min) == times.max && (times.min as usize) <= EXACT_BYTES_MAX;
    let mut exact = once.exact.clone().filter(|_| exactly);
    for _ in 1..times.min {
        exact = exact.as_deref().zip(once.exact.as_deref()).and_then(|(longer, once)| joined(longer, once));
        if exact.is_none() {
            break;
        }
    }
    let any_of = match once.exact.clone() {
        Some(texts) => better(exact_as_literals(texts), once.any_of),
        None => once.any_of,
    };
    Facts { min_len, exact, any_of, sets: once.sets, edges: once.exact }
}

/// A complete list as a requirement; none when the piece can match the empty string.
fn exact_as_literals(texts: Vec<Vec<u8>>) -> Option<Literals> {
    if texts.is_empty() || texts.iter().any(Vec::is_empty) {
        return None;
    }
    let chance = texts.iter().map(|text| text.iter().map(|&byte| chance(byte)).product::<f64>()).sum();
    Some(Literals { texts, chance })
}

/// How often a byte stands at a place of ordinary traffic, roughly.
pub(crate) fn chance(byte: u8) -> f64 {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' => 0.05,
        b' ' | b'/' | b'-' | b'.' | b'_' | b'=' | b'&' | b'%' | b':' | b',' => 0.02,
        0x21..=0x7e => 0.004,
        _ => 0.001,
    }
}

fn better(one: Option<Literals>, other: Option<Literals>) -> Option<Literals> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.chance <= other.chance { one } else { other }),
        (one, other) => one.or(other),
    }
}

fn keep_smallest(sets: &mut Vec<ByteSet>) {
    sets.sort_by_key(|set| (set.len(), set.0));
    sets.dedup();
    sets.truncate(SETS_MAX);
}

/// A text that contains another of the list is never needed to tell.
fn without_redundant(mut texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    texts.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    texts.dedup();
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(texts.len());
    for text in texts {
        if text.len() > 6 || !kept.iter().any(|short| memchr::memmem::find(&text, short).is_some()) {
            kept.push(text);
        }
    }
    kept
}
