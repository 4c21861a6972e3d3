//! Values that requests bring again and again: a browser sends the same fields with every request. What was found out about such a value is kept
//! from one transaction to the next, so that rules need not look at it anew.
//!
//! INVARIANT: it makes no difference to a verdict. All that is kept follows from a value's bytes and the program alone, and bytes are compared, not
//! only their hashes. What is spent of a request's allowance of work may be less.
//!
//! A worker is a thread, and has its own; so nothing waits for another. A value gets a place when it comes a second time while its first is
//! remembered: what comes once takes no room.

use std::cell::RefCell;
use std::sync::LazyLock;

use foldhash::fast::RandomState;

use super::values::disjoint;
use crate::program::{NodeId, PatternId, Program};

/// Makes the hashes of values, the same for all transactions of a process.
pub(crate) static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

thread_local! {
    static HERE: RefCell<Vec<Familiar>> = const { RefCell::new(Vec::new()) };
}

/// Takes this thread's for a program; who took it gives it back with [`give_back`], or another is begun.
pub(crate) fn borrow(program: &Program) -> Familiar {
    HERE.with_borrow_mut(|all| {
        let known = all.iter().position(|one| one.program == program.number);
        known.map(|place| all.swap_remove(place))
    })
    .unwrap_or_else(|| Familiar::new(program))
}

/// Puts it back. The one that was used longest ago makes room.
pub(crate) fn give_back(familiar: Familiar) {
    HERE.with_borrow_mut(|all| {
        if all.len() >= PROGRAMS_MAX {
            all.remove(0);
        }
        all.push(familiar);
    });
}

/// The familiar values of one program.
#[derive(Debug)]
pub(crate) struct Familiar {
    program: u64,
    words: usize,
    /// Sets of [`WAYS`], found by hash; none before the first value has a place.
    places: Vec<Place>,
    /// For each place the words of candidates, then those of patterns that were tried in vain.
    rows: Vec<u64>,
    /// A part of the hash of what came once.
    once: Vec<u32>,
    turn: u32,
}

/// A value's place. It belongs to another value when its generation is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceId {
    index: u32,
    generation: u32,
}

impl PlaceId {
    /// No place.
    pub(crate) const NONE: Self = Self { index: u32::MAX, generation: 0 };
}

/// What is kept of a value.
#[derive(Debug, Clone, Default)]
struct Place {
    hash: u64,
    bytes: Box<[u8]>,
    generation: u32,
    /// When it was last asked for, in turns.
    used: u32,
    facts: Facts,
    has_row: bool,
}

/// What follows from a value's bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    pub(crate) presence: [u64; 4],
    /// The nodes that may do more than change its case, a bit each.
    pub(crate) reshaped: NodeSet,
    /// The nodes that may change it.
    pub(crate) changed: NodeSet,
    pub(crate) sqli: Option<bool>,
    pub(crate) xss: Option<bool>,
}

/// A set of nodes of the trie. Nodes beyond its size are in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeSet([u64; 2]);

impl NodeSet {
    /// What is said of values of which nothing is known.
    pub(crate) const ALL: Self = Self([u64::MAX; 2]);

    /// Adds the nodes of another set.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, node: NodeId) {
        if let Some(word) = self.0.get_mut(usize::from(node.0) / 64) {
            *word &= !(1 << (node.0 % 64));
        }
    }

    #[inline]
    pub(crate) fn has(self, node: NodeId) -> bool {
        self.0.get(usize::from(node.0) / 64).is_none_or(|word| word >> (node.0 % 64) & 1 == 1)
    }

    fn of(program: &Program, is_in: impl Fn(NodeId) -> bool) -> Self {
        let mut set = Self::default();
        for node in (0..128).take(program.trie.len()).map(NodeId).filter(|node| is_in(*node)) {
            if let Some(word) = set.0.get_mut(usize::from(node.0) / 64) {
                *word |= 1 << (node.0 % 64);
            }
        }
        set
    }
}

impl Familiar {
    fn new(program: &Program) -> Self {
        Self {
            program: program.number,
            words: program.prefilter.words(),
            places: Vec::new(),
            rows: Vec::new(),
            once: Vec::new(),
            turn: 0,
        }
    }

    /// A value's place and what is known of it, if it has one.
    #[inline]
    pub(crate) fn find(&mut self, hash: u64, bytes: &[u8]) -> Option<(PlaceId, Facts)> {
        let set = set_of(hash);
        let ways = self.places.get_mut(set..set + WAYS)?;
        let way = ways
            .iter()
            .position(|place| place.hash == hash && *place.bytes == *bytes && place.generation > 0)?;
        let place = ways.get_mut(way)?;
        self.turn = self.turn.wrapping_add(1);
        place.used = self.turn;
        Some((PlaceId { index: u32::try_from(set + way).ok()?, generation: place.generation }, place.facts))
    }

    /// Whether a value without a place has come before, and is worth one. Notes that it came.
    pub(crate) fn comes_again(&mut self, hash: u64, bytes: &[u8]) -> bool {
        if bytes.is_empty() || bytes.len() > BYTES_MAX {
            return false;
        }
        if self.once.is_empty() {
            self.once.resize(ONCE, 0);
        }
        let Some(mark) = self.once.get_mut(low(hash) % ONCE) else { return false };
        let own = u32::try_from(hash >> 32).unwrap_or_default() | 1;
        std::mem::replace(mark, own) == own
    }

    /// Gives a value a place, for which the one used longest ago makes room.
    pub(crate) fn add(
        &mut self,
        program: &Program,
        hash: u64,
        bytes: &[u8],
        presence: [u64; 4],
    ) -> Option<(PlaceId, Facts)> {
        if self.places.is_empty() {
            self.places.resize(SETS * WAYS, Place::default());
            self.rows.resize(SETS * WAYS * 2 * self.words, 0);
        }
        let set = set_of(hash);
        let turn = self.turn;
        let ways = self.places.get_mut(set..set + WAYS)?;
        let way =
            (0..WAYS).max_by_key(|way| ways.get(*way).map_or(0, |place| turn.wrapping_sub(place.used)))?;
        let place = ways.get_mut(way)?;
        let facts = Facts {
            presence,
            reshaped: NodeSet::of(program, |node| program.trie.may_reshape(node, &presence)),
            changed: NodeSet::of(program, |node| {
                program
                    .trie
                    .node(node)
                    .is_some_and(|step| step.always || !disjoint(&presence, &step.triggers))
            }),
            sqli: None,
            xss: None,
        };
        let generation = place.generation.wrapping_add(1).max(1);
        *place = Place { hash, bytes: bytes.into(), generation, used: turn, facts, has_row: false };
        let index = set + way;
        self.rows.get_mut(index * 2 * self.words..(index + 1) * 2 * self.words)?.fill(0);
        Some((PlaceId { index: u32::try_from(index).ok()?, generation }, facts))
    }

    /// The candidates of a value, once they were kept.
    #[inline]
    pub(crate) fn row(&self, id: PlaceId) -> Option<&[u64]> {
        self.place(id).filter(|place| place.has_row)?;
        let start = id.index as usize * 2 * self.words;
        self.rows.get(start..start + self.words)
    }

    /// Keeps the candidates of a value; none of them are no words.
    pub(crate) fn keep_row(&mut self, id: PlaceId, row: &[u64]) {
        let Some(place) = self.place_mut(id) else { return };
        place.has_row = true;
        let start = id.index as usize * 2 * self.words;
        let kept = self.rows.get_mut(start..start + self.words).unwrap_or_default();
        kept.iter_mut().zip(row).for_each(|(kept, word)| *kept = *word);
    }

    /// Whether a pattern is known not to match a value.
    #[inline]
    pub(crate) fn is_in_vain(&self, id: PlaceId, pattern: PatternId) -> bool {
        self.place(id).is_some()
            && self
                .rows
                .get(self.vain_word(id, pattern))
                .is_some_and(|word| word >> (pattern.0 % 64) & 1 == 1)
    }

    /// Keeps that a pattern does not match a value.
    pub(crate) fn keep_in_vain(&mut self, id: PlaceId, pattern: PatternId) {
        let word = self.vain_word(id, pattern);
        if self.place(id).is_some()
            && let Some(word) = self.rows.get_mut(word)
        {
            *word |= 1 << (pattern.0 % 64);
        }
    }

    /// Keeps what libinjection said of a value.
    pub(crate) fn keep_facts(&mut self, id: PlaceId, change: impl FnOnce(&mut Facts)) {
        if let Some(place) = self.place_mut(id) {
            change(&mut place.facts);
        }
    }

    #[inline]
    fn vain_word(&self, id: PlaceId, pattern: PatternId) -> usize {
        (id.index as usize * 2 + 1) * self.words + (pattern.0 / 64) as usize
    }

    #[inline]
    fn place(&self, id: PlaceId) -> Option<&Place> {
        self.places.get(id.index as usize).filter(|place| place.generation == id.generation)
    }

    fn place_mut(&mut self, id: PlaceId) -> Option<&mut Place> {
        self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)
    }
}

#[inline]
fn set_of(hash: u64) -> usize {
    low(hash) % SETS * WAYS
}

#[inline]
fn low(hash: u64) -> usize {
    usize::try_from(hash & 0xffff_ffff).unwrap_or_default()
}

/// Values that have a place: sets times ways. With the rules of the CRS some 350 KiB a worker and program, and the values' bytes.
const SETS: usize = 256;
const WAYS: usize = 4;
/// Values that came once and are remembered by a part of their hash.
const ONCE: usize = 4096;
/// Longer values are looked at each time: few come again.
const BYTES_MAX: usize = 512;
/// Programs of which a thread keeps familiar values.
const PROGRAMS_MAX: usize = 4;
