//! All decisions of the registers in little memory: 64 bytes each, found by key, and in the order in which an author loses them.
//!
//! Rows lie in chunks and are named by number. Those about one key are linked; an open table of 32-bit numbers finds the first.
//! Each author has a heap of numbers, the one that expires first on top. A million decisions take about 80 MB, a quarter of it at
//! worst for tables that have just grown. Places of what is gone are used again; all memory is given back when nothing is left.

mod reasons;
mod row;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use phalanx_model::{ActorKey, Author, Decision, DecisionId, DecisionKind};

use self::reasons::Reasons;
use self::row::Row;

/// Decisions, packed.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Rows,
    /// The first row of each key.
    first: HashTable<RowId>,
    hashes: RandomState,
    reasons: Reasons,
    authors: HashMap<Author, u16>,
    shelves: Vec<Option<Shelf>>,
    len: usize,
}

/// The number of a row. It means nothing any more once the row was removed.
pub(crate) type RowId = u32;

/// The order in which an author loses its decisions: by expiry, then by what makes one unique, so that every node evicts the same.
pub(crate) type Order = (u64, DecisionId, ActorKey, Option<u64>, DecisionKind);

/// Total order of the values of one register. An author that signs two values of one version loses nothing but its say in which
/// one holds: all nodes pick the same.
pub(crate) type Rank<'a> = (u64, DecisionId, u64, u64, u8, &'a str);

pub(crate) fn order_of(decision: &Decision) -> Order {
    let Decision { expires_at_ms, id, actor, kind, .. } = decision;
    (*expires_at_ms, *id, actor.key(), actor.agent(), *kind)
}

pub(crate) fn rank_of(decision: &Decision) -> Rank<'_> {
    let Decision { version, id, expires_at_ms, created_at_ms, confidence_percent, reason, .. } = decision;
    (*version, *id, *expires_at_ms, *created_at_ms, *confidence_percent, reason)
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every decision; those about one key follow each other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<Decision>> {
        (0..self.rows.made).filter_map(|id| self.group(id)).flat_map(|(_, decisions)| decisions)
    }

    /// The rows about a key.
    pub(crate) fn about<'a>(&'a self, key: &ActorKey) -> impl Iterator<Item = RowId> + use<'a> {
        let first = self.first.find(self.hash(key), |id| self.rows.is_about(*id, key)).copied();
        std::iter::successors(first, |id| self.rows.get(*id).map(|row| row.next).filter(|next| *next != NONE))
    }

    /// The keys among these rows with all that is about each, and where to go on; `None` at the end.
    pub(crate) fn keys(&self, from: RowId, limit: u32) -> Option<(Vec<Group>, RowId)> {
        if from >= self.rows.made {
            return None;
        }
        let end = from.saturating_add(limit).min(self.rows.made);
        Some(((from..end).filter_map(|id| self.group(id)).collect(), end))
    }

    /// The key that a row is the first of, with all that is about it.
    fn group(&self, id: RowId) -> Option<Group> {
        let key = self.rows.seen(id)?.key()?;
        let mut about = self.about(&key).peekable();
        about.peek().filter(|first| **first == id)?;
        Some((key, about.filter_map(|id| self.decision(id)).collect()))
    }

    /// The row of the register that a decision is a value of.
    pub(crate) fn register(&self, of: &Decision) -> Option<RowId> {
        let (author, agent) = (*self.authors.get(&of.author)?, of.actor.agent());
        self.about(&of.actor.key()).find(|id| {
            let same = |seen: Seen<'_>| seen.kind() == of.kind && seen.agent() == agent;
            self.rows.get(*id).is_some_and(|row| row.author == author)
                && self.rows.seen(*id).is_some_and(same)
        })
    }

    /// The rows about a key that are this author's.
    pub(crate) fn about_by<'a>(
        &'a self,
        key: &ActorKey,
        author: &Author,
    ) -> impl Iterator<Item = RowId> + use<'a> {
        let author = self.authors.get(author).copied();
        let rows = author.map(|_| self.about(key)).into_iter().flatten();
        rows.filter(move |id| self.rows.get(*id).map(|row| row.author) == author)
    }

    /// The rows of an author; the first is the one that comes first in [`Order`].
    pub(crate) fn of_author(&self, author: &Author) -> &[RowId] {
        let shelf =
            self.authors.get(author).and_then(|number| self.shelves.get(usize::from(*number))?.as_ref());
        shelf.map_or(&[], |shelf| &shelf.heap)
    }

    pub(crate) fn authors(&self) -> impl Iterator<Item = &Author> {
        self.authors.keys()
    }

    /// Whether there is a number left for this author.
    pub(crate) fn can_name(&self, author: &Author) -> bool {
        self.authors.len() <= usize::from(u16::MAX) || self.authors.contains_key(author)
    }

    pub(crate) fn order(&self, id: RowId) -> Option<Order> {
        self.rows.seen(id)?.order()
    }

    pub(crate) fn version(&self, id: RowId) -> Option<u64> {
        self.rows.seen(id).map(|seen| seen.version())
    }

    /// Kind, id, version and expiry.
    pub(crate) fn brief(&self, id: RowId) -> Option<(DecisionKind, DecisionId, u64, u64)> {
        let seen = self.rows.seen(id)?;
        let decision_id = match seen {
            Seen::Row(row, _) => row.id(),
            Seen::Whole(decision) => decision.id,
        };
        Some((seen.kind(), decision_id, seen.version(), seen.expires_at_ms()))
    }

    pub(crate) fn key(&self, id: RowId) -> Option<ActorKey> {
        self.rows.seen(id)?.key()
    }

    pub(crate) fn agent(&self, id: RowId) -> Option<u64> {
        self.rows.seen(id)?.agent()
    }

    pub(crate) fn author(&self, id: RowId) -> Option<&Author> {
        let number = self.rows.get(id).filter(|row| !row.is_free())?.author;
        self.shelves.get(usize::from(number))?.as_ref().map(|shelf| &shelf.author)
    }

    pub(crate) fn rank(&self, id: RowId) -> Option<Rank<'_>> {
        Some(match self.rows.seen(id)? {
            Seen::Row(row, _) => {
                let reason = self.reasons.get(row.reason);
                let (expires_at_ms, created_at_ms) = (row.expires_at_ms(), row.created_at_ms());
                (row.version(), row.id(), expires_at_ms, created_at_ms, row.confidence_percent(), reason)
            }
            Seen::Whole(decision) => rank_of(decision),
        })
    }

    /// The decision of a row, as it was put in.
    pub(crate) fn decision(&self, id: RowId) -> Option<Arc<Decision>> {
        Some(match self.rows.seen(id)? {
            Seen::Row(row, agent) => Arc::new(Decision {
                id: row.id(),
                actor: row.actor(agent)?,
                kind: row.kind(),
                author: self.author(id)?.clone(),
                reason: self.reasons.get(row.reason).to_owned(),
                evidence: row.evidence(),
                confidence_percent: row.confidence_percent(),
                created_at_ms: row.created_at_ms(),
                expires_at_ms: row.expires_at_ms(),
                version: row.version(),
            }),
            Seen::Whole(decision) => Arc::clone(decision),
        })
    }

    /// Puts a decision in. Its author must have a number or be given one; see [`Table::can_name`].
    pub(crate) fn insert(&mut self, decision: &Arc<Decision>) {
        let Some(author) = self.number_of(&decision.author) else { return };
        let key = decision.actor.key();
        let row = match Row::of(decision) {
            Some(mut row) => {
                row.reason = self.reasons.take(&decision.reason);
                row
            }
            None => Row::unusual(),
        };
        let row = row.of_author(author);
        let id = self.rows.add(row, decision);
        let hash = self.hash(&key);
        match self.first.find_mut(hash, |id| self.rows.is_about(*id, &key)) {
            Some(first) => {
                let next = std::mem::replace(first, id);
                self.rows.change(id, |row| row.next = next);
            }
            None => {
                let (rows, hashes) = (&self.rows, &self.hashes);
                self.first
                    .insert_unique(hash, id, |id| hashes.hash_one(rows.seen(*id).and_then(|of| of.key())));
            }
        }
        if let Some(Some(shelf)) = self.shelves.get_mut(usize::from(author)) {
            shelf.put(id, &mut self.rows);
        }
        self.len += 1;
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, id: RowId) -> Option<Arc<Decision>> {
        let decision = self.decision(id)?;
        let row = *self.rows.get(id)?;
        self.unlink(id, &decision.actor.key(), row.next);
        let shelf = self.shelves.get_mut(usize::from(row.author));
        if let Some(place) = shelf
            && let Some(shelf) = place
        {
            shelf.take(row.place, &mut self.rows);
            if shelf.heap.is_empty() {
                self.authors.remove(&shelf.author);
                *place = None;
            }
        }
        if !row.is_unusual() {
            self.reasons.give_back(row.reason);
        }
        self.rows.remove(id);
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        }
        Some(decision)
    }

    fn unlink(&mut self, id: RowId, key: &ActorKey, next: RowId) {
        let hash = self.hash(key);
        let first = self.first.find(hash, |first| self.rows.is_about(*first, key)).copied();
        if first != Some(id) {
            let before =
                self.about(key).find(|other| self.rows.get(*other).is_some_and(|row| row.next == id));
            if let Some(before) = before {
                self.rows.change(before, |row| row.next = next);
            }
            return;
        }
        if next == NONE {
            if let Ok(entry) = self.first.find_entry(hash, |first| *first == id) {
                entry.remove();
            }
        } else if let Some(first) = self.first.find_mut(hash, |first| *first == id) {
            *first = next;
        }
    }

    fn hash(&self, key: &ActorKey) -> u64 {
        self.hashes.hash_one(Some(*key))
    }

    fn number_of(&mut self, author: &Author) -> Option<u16> {
        if let Some(number) = self.authors.get(author) {
            return Some(*number);
        }
        let shelf = Some(Shelf { author: author.clone(), heap: Vec::new() });
        let free = self.shelves.iter().position(Option::is_none).unwrap_or(self.shelves.len());
        let number = u16::try_from(free).ok()?;
        match self.shelves.get_mut(free) {
            Some(place) => *place = shelf,
            None => self.shelves.push(shelf),
        }
        self.authors.insert(author.clone(), number);
        Some(number)
    }
}

/// A key and what was decided about it.
pub(crate) type Group = (ActorKey, Vec<Arc<Decision>>);

/// Rows by number, with what has no place in them.
#[derive(Debug, Default)]
struct Rows {
    /// Of [`CHUNK`] rows each: growing moves nothing.
    chunks: Vec<Box<[Row]>>,
    /// Numbers given out so far.
    made: RowId,
    /// Numbers that came back.
    free: Option<RowId>,
    /// The kinds of clients that rows are about.
    agents: HashMap<RowId, u64>,
    unusual: HashMap<RowId, Arc<Decision>>,
}

impl Rows {
    fn get(&self, id: RowId) -> Option<&Row> {
        self.chunks.get(chunk_of(id))?.get(place_of(id))
    }

    fn change(&mut self, id: RowId, change: impl FnOnce(&mut Row)) {
        let row = self.chunks.get_mut(chunk_of(id)).and_then(|chunk| chunk.get_mut(place_of(id)));
        if let Some(row) = row {
            change(row);
        }
    }

    /// What is in a row; nothing in a free one.
    fn seen(&self, id: RowId) -> Option<Seen<'_>> {
        let row = self.get(id)?;
        match row.is_unusual() {
            true => self.unusual.get(&id).map(Seen::Whole),
            false if row.is_free() => None,
            false if row.is_client() => Some(Seen::Row(row, *self.agents.get(&id)?)),
            false => Some(Seen::Row(row, 0)),
        }
    }

    fn is_about(&self, id: RowId, key: &ActorKey) -> bool {
        self.seen(id).and_then(|seen| seen.key()).as_ref() == Some(key)
    }

    fn add(&mut self, row: Row, decision: &Arc<Decision>) -> RowId {
        let id = match self.free {
            Some(id) => {
                self.free = self.get(id).map(|row| row.next).filter(|next| *next != NONE);
                id
            }
            None => {
                let id = self.made;
                if chunk_of(id) >= self.chunks.len() {
                    self.chunks.push(vec![Row::default(); CHUNK].into_boxed_slice());
                }
                self.made += 1;
                id
            }
        };
        self.change(id, |place| *place = row);
        if row.is_unusual() {
            self.unusual.insert(id, Arc::clone(decision));
        } else if let Some(agent) = decision.actor.agent() {
            self.agents.insert(id, agent);
        }
        id
    }

    fn remove(&mut self, id: RowId) {
        self.agents.remove(&id);
        self.unusual.remove(&id);
        let next = self.free.replace(id).unwrap_or(NONE);
        self.change(id, |row| *row = Row::free(next));
    }

    /// Whether one row comes before another in [`Order`].
    fn is_before(&self, one: RowId, other: RowId) -> bool {
        let (Some(one), Some(other)) = (self.seen(one), self.seen(other)) else { return false };
        match one.expires_at_ms() == other.expires_at_ms() {
            true => one.order() < other.order(),
            false => one.expires_at_ms() < other.expires_at_ms(),
        }
    }
}

/// A decision as it lies in the table.
#[derive(Debug, Clone, Copy)]
enum Seen<'a> {
    /// With the kind of client, where it is about one.
    Row(&'a Row, u64),
    Whole(&'a Arc<Decision>),
}

impl Seen<'_> {
    fn kind(&self) -> DecisionKind {
        match self {
            Self::Row(row, _) => row.kind(),
            Self::Whole(decision) => decision.kind,
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Row(row, _) => row.version(),
            Self::Whole(decision) => decision.version,
        }
    }

    fn expires_at_ms(&self) -> u64 {
        match self {
            Self::Row(row, _) => row.expires_at_ms(),
            Self::Whole(decision) => decision.expires_at_ms,
        }
    }

    fn key(&self) -> Option<ActorKey> {
        match self {
            Self::Row(row, _) => row.key(),
            Self::Whole(decision) => Some(decision.actor.key()),
        }
    }

    fn agent(&self) -> Option<u64> {
        match self {
            Self::Row(row, agent) => row.is_client().then_some(*agent),
            Self::Whole(decision) => decision.actor.agent(),
        }
    }

    fn order(&self) -> Option<Order> {
        match self {
            Self::Row(row, _) => Some((row.expires_at_ms(), row.id(), row.key()?, self.agent(), row.kind())),
            Self::Whole(decision) => Some(order_of(decision)),
        }
    }
}

/// An author's rows: a binary heap by [`Order`], whose rows know their places.
#[derive(Debug)]
struct Shelf {
    author: Author,
    heap: Vec<RowId>,
}

impl Shelf {
    fn put(&mut self, id: RowId, rows: &mut Rows) {
        self.heap.push(id);
        self.rise(self.heap.len() - 1, rows);
    }

    fn take(&mut self, place: u32, rows: &mut Rows) {
        let Ok(place) = usize::try_from(place) else { return };
        if place < self.heap.len() {
            self.heap.swap_remove(place);
            self.rise(place, rows);
            self.sink(place, rows);
        }
    }

    fn rise(&mut self, mut at: usize, rows: &mut Rows) {
        let Some(&id) = self.heap.get(at) else { return };
        while at > 0 {
            let above = (at - 1) / 2;
            let Some(&other) = self.heap.get(above).filter(|other| rows.is_before(id, **other)) else {
                break;
            };
            self.set(at, other, rows);
            at = above;
        }
        self.set(at, id, rows);
    }

    fn sink(&mut self, mut at: usize, rows: &mut Rows) {
        let Some(&id) = self.heap.get(at) else { return };
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let Some(&on_left) = self.heap.get(left) else { break };
            let (below, other) = match self.heap.get(right) {
                Some(&on_right) if rows.is_before(on_right, on_left) => (right, on_right),
                _ => (left, on_left),
            };
            if !rows.is_before(other, id) {
                break;
            }
            self.set(at, other, rows);
            at = below;
        }
        self.set(at, id, rows);
    }

    fn set(&mut self, at: usize, id: RowId, rows: &mut Rows) {
        if let Some(place) = self.heap.get_mut(at) {
            *place = id;
        }
        // A shelf has no more rows than the table, which 32 bits count.
        rows.change(id, |row| row.place = u32::try_from(at).unwrap_or(NONE));
    }
}

fn chunk_of(id: RowId) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX) / CHUNK
}

fn place_of(id: RowId) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX) % CHUNK
}

const NONE: RowId = RowId::MAX;
/// 64 KiB: little for a node with few decisions, and few chunks for one with many.
const CHUNK: usize = 1024;

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
