//! The values of one transaction: spans into its buffers, each distinct one interned once, with what was found out
//! about it (bytes that occur, transformed forms, patterns that can match, libinjection's answer).

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use phalanx_policy::seclang::ir::Transformation;
use std::hash::BuildHasher;

use crate::program::{NodeId, PatternId, Program, ROOT};
use crate::transform;

/// Where a span lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Bytes that the engine made.
    Arena,
    /// The request head as received.
    Head,
    /// The request body.
    Body,
    /// The response body.
    Response,
    /// Constants of the program.
    Program,
}

/// A span with the buffer it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) source: Source,
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Blob {
    /// The empty span.
    pub(crate) const EMPTY: Self = Self { source: Source::Arena, start: 0, len: 0 };

    /// A span of a buffer. Buffers are bounded far below 4 GiB; a span beyond is empty.
    pub(crate) fn new(source: Source, start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end.saturating_sub(start))) {
            (Ok(start), Ok(len)) => Self { source, start, len },
            _ => Self::EMPTY,
        }
    }

    /// A part of this span, by offsets from its start.
    pub(crate) fn part(self, start: usize, end: usize) -> Self {
        let base = self.start as usize;
        let end = end.min(self.len as usize);
        Self::new(self.source, base + start.min(end), base + end)
    }
}

/// An interned value. Equal bytes have equal ids within a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValueId(pub(crate) u32);

/// The buffers that spans point into.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) arena: Vec<u8>,
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
    pub(crate) response: Bytes,
    pub(crate) program: Bytes,
}

impl Buffers {
    /// The bytes of a span.
    #[inline]
    pub(crate) fn bytes(&self, blob: Blob) -> &[u8] {
        let buffer: &[u8] = match blob.source {
            Source::Arena => &self.arena,
            Source::Head => &self.head,
            Source::Body => &self.body,
            Source::Response => &self.response,
            Source::Program => &self.program,
        };
        let start = blob.start as usize;
        buffer.get(start..start + blob.len as usize).unwrap_or_default()
    }

    /// Copies bytes into the arena.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Blob {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Blob::new(Source::Arena, start, self.arena.len())
    }
}

/// What is known of one value.
#[derive(Debug, Clone, Copy)]
struct Value {
    blob: Blob,
    hash: u64,
    presence: [u64; 4],
    memo_row: u32,
    candidate_row: u32,
    /// A value that differs in nothing but case, and so has the same candidates.
    alike: Option<ValueId>,
    known: Known,
}

/// Answers that are worked out once per value.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    presence: bool,
    sqli: Option<bool>,
    xss: Option<bool>,
}

/// All values of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) buffers: Buffers,
    table: HashTable<u32>,
    list: Vec<Value>,
    memo: Vec<u32>,
    candidates: Vec<u64>,
    output: Vec<u8>,
    /// A value in lower case while it is scanned.
    lower: Vec<u8>,
    state: RandomState,
}

impl Values {
    /// Forgets everything, keeps the memory up to a bound, and starts with the program's constants.
    pub(crate) fn reset(&mut self, constants: Bytes) {
        let buffers = &mut self.buffers;
        buffers.arena.clear();
        buffers.arena.shrink_to(KEPT_BYTES_MAX);
        buffers.head = Bytes::new();
        buffers.body = Bytes::new();
        buffers.response = Bytes::new();
        buffers.program = constants;
        if self.list.capacity() > KEPT_VALUES_MAX {
            self.list = Vec::new();
            self.memo = Vec::new();
            self.candidates = Vec::new();
            self.table = HashTable::new();
        }
        self.table.clear();
        self.list.clear();
        self.memo.clear();
        self.candidates.clear();
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES_MAX);
        self.lower.clear();
        self.lower.shrink_to(KEPT_BYTES_MAX);
    }

    /// Memory that the values of this transaction take, in bytes. What is kept from one to the next counts as far as
    /// this one uses it.
    pub(crate) fn memory(&self) -> usize {
        let buffers =
            [&self.output, &self.lower].map(|buffer| buffer.capacity().saturating_sub(KEPT_BYTES_MAX));
        self.buffers.arena.len()
            + buffers.iter().sum::<usize>()
            + self.list.len() * (size_of::<Value>() + size_of::<u32>())
            + size_of_val(self.memo.as_slice())
            + size_of_val(self.candidates.as_slice())
    }

    /// The bytes of a value.
    #[inline]
    pub(crate) fn bytes(&self, id: ValueId) -> &[u8] {
        self.buffers.bytes(self.blob(id))
    }

    /// Where a value lies.
    #[inline]
    pub(crate) fn blob(&self, id: ValueId) -> Blob {
        self.list.get(id.0 as usize).map_or(Blob::EMPTY, |value| value.blob)
    }

    /// The id of the bytes that a span holds.
    pub(crate) fn intern(&mut self, blob: Blob) -> ValueId {
        let hash = self.state.hash_one(self.buffers.bytes(blob));
        self.intern_hashed(blob, hash)
    }

    /// The id of these bytes; copies them unless they are known.
    pub(crate) fn intern_bytes(&mut self, bytes: &[u8]) -> ValueId {
        let hash = self.state.hash_one(bytes);
        if let Some(id) = self.find(bytes, hash) {
            return id;
        }
        let blob = self.buffers.push(bytes);
        self.insert(blob, hash)
    }

    fn intern_hashed(&mut self, blob: Blob, hash: u64) -> ValueId {
        match self.find(self.buffers.bytes(blob), hash) {
            Some(id) => id,
            None => self.insert(blob, hash),
        }
    }

    fn find(&self, bytes: &[u8], hash: u64) -> Option<ValueId> {
        let same = |&id: &u32| {
            self.list.get(id as usize).is_some_and(|v| v.hash == hash && self.buffers.bytes(v.blob) == bytes)
        };
        self.table.find(hash, same).map(|&id| ValueId(id))
    }

    fn insert(&mut self, blob: Blob, hash: u64) -> ValueId {
        let id = u32::try_from(self.list.len()).unwrap_or(NONE);
        self.list.push(Value {
            blob,
            hash,
            presence: [0; 4],
            memo_row: NONE,
            candidate_row: NONE,
            alike: None,
            known: Known::default(),
        });
        let list = &self.list;
        let rehash = |&id: &u32| list.get(id as usize).map_or(0, |value| value.hash);
        self.table.insert_unique(hash, id, rehash);
        ValueId(id)
    }

    /// Which byte values occur, a bit each.
    pub(crate) fn presence(&mut self, id: ValueId) -> [u64; 4] {
        let Some(value) = self.list.get(id.0 as usize) else {
            return [0; 4];
        };
        if value.known.presence {
            return value.presence;
        }
        let presence = presence_of(self.buffers.bytes(value.blob));
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.presence = presence;
            value.known.presence = true;
        }
        presence
    }

    /// The value after the transformations of a trie node; the same id when they change nothing.
    pub(crate) fn transformed(&mut self, program: &Program, id: ValueId, node: NodeId) -> ValueId {
        if node == ROOT {
            return id;
        }
        let Some(step) = program.trie.node(node) else {
            return id;
        };
        if !step.always && disjoint(&self.presence(id), &step.triggers) {
            return id;
        }
        let slot = self.memo_row(program, id) + usize::from(node.0);
        if let Some(&known) = self.memo.get(slot)
            && known != NONE
        {
            return ValueId(known);
        }
        let input = self.transformed(program, id, step.parent);
        let (triggers, always) = step.own;
        let result = if always || !disjoint(&self.presence(input), &triggers) {
            self.apply(program, input, step.transformation)
        } else {
            input
        };
        if let Some(place) = self.memo.get_mut(slot) {
            *place = result.0;
        }
        result
    }

    fn memo_row(&mut self, program: &Program, id: ValueId) -> usize {
        let nodes = program.trie.len();
        let row = self.list.get(id.0 as usize).map_or(NONE, |value| value.memo_row);
        if row != NONE {
            return row as usize * nodes;
        }
        let start = self.memo.len();
        self.memo.resize(start + nodes, NONE);
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.memo_row = u32::try_from(start / nodes.max(1)).unwrap_or(NONE);
        }
        start
    }

    fn apply(&mut self, program: &Program, input: ValueId, step: Transformation) -> ValueId {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        let changed = transform::apply(step, self.bytes(input), &program.unicode_map, &mut output);
        let known = self.list.len();
        let result = if changed { self.intern_bytes(&output) } else { input };
        if result.0 as usize == known
            && matches!(step, Transformation::Lowercase | Transformation::Uppercase)
            && let Some(value) = self.list.get_mut(known)
        {
            value.alike = Some(input);
        }
        self.output = output;
        result
    }

    /// Where this value's candidate words start; pass it to [`Self::is_candidate`].
    pub(crate) fn candidate_row(&mut self, program: &Program, id: ValueId) -> usize {
        let words = program.prefilter.words();
        let (row, alike) =
            self.list.get(id.0 as usize).map_or((NONE, None), |value| (value.candidate_row, value.alike));
        if row != NONE {
            return row as usize * words;
        }
        if let Some(alike) = alike {
            return self.candidate_row(program, alike);
        }
        let presence = self.presence(id);
        let start = self.candidates.len();
        self.candidates.resize(start + words, 0);
        self.lower.clear();
        self.lower.extend_from_slice(self.buffers.bytes(self.blob(id)));
        self.lower.make_ascii_lowercase();
        if let Some(row) = self.candidates.get_mut(start..) {
            program.prefilter.scan(&self.lower, &presence, row);
        }
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.candidate_row = u32::try_from(start / words.max(1)).unwrap_or(NONE);
        }
        start
    }

    /// As [`Self::candidate_row`] for a few patterns: what is known of all, or what can be told without a pass over the
    /// value. Only these patterns may be looked up in the row.
    pub(crate) fn row_of_few(&mut self, program: &Program, id: ValueId, patterns: &[PatternId]) -> usize {
        let words = program.prefilter.words();
        if let Some(row) = self.known_row(id) {
            return row * words;
        }
        let presence = self.presence(id);
        let length = self.blob(id).len as usize;
        let start = self.candidates.len();
        self.candidates.resize(start + words, 0);
        if let Some(row) = self.candidates.get_mut(start..) {
            program.prefilter.glance(length, &presence, patterns, row);
        }
        start
    }

    /// The row of a value that a pass was made over, or over one that differs in nothing but case.
    fn known_row(&self, id: ValueId) -> Option<usize> {
        let value = self.list.get(id.0 as usize)?;
        let row = match value.alike.filter(|_| value.candidate_row == NONE) {
            Some(alike) => self.list.get(alike.0 as usize)?.candidate_row,
            None => value.candidate_row,
        };
        (row != NONE).then_some(row as usize)
    }

    /// Whether a pattern can match a value, as far as that is known without a pass over it.
    pub(crate) fn may_match(&mut self, program: &Program, id: ValueId, pattern: PatternId) -> bool {
        if let Some(row) = self.known_row(id) {
            return self.is_candidate(row * program.prefilter.words(), pattern.0);
        }
        let presence = self.presence(id);
        program.prefilter.allows(self.blob(id).len as usize, &presence, pattern)
    }

    /// The candidate words of a row.
    pub(crate) fn candidate_words(&self, row: usize, words: usize) -> &[u64] {
        self.candidates.get(row..row + words).unwrap_or_default()
    }

    /// Whether a pattern can match the value whose row this is.
    pub(crate) fn is_candidate(&self, row: usize, pattern: u32) -> bool {
        let word = self.candidates.get(row + (pattern / 64) as usize).copied().unwrap_or(u64::MAX);
        word >> (pattern % 64) & 1 == 1
    }

    /// Whether libinjection calls the value an SQL injection.
    pub(crate) fn sqli(&mut self, id: ValueId) -> bool {
        let known = self.list.get(id.0 as usize).and_then(|value| value.known.sqli);
        known.unwrap_or_else(|| {
            let found = crate::libinjection::is_sqli(self.bytes(id)).is_some();
            if let Some(value) = self.list.get_mut(id.0 as usize) {
                value.known.sqli = Some(found);
            }
            found
        })
    }

    /// Whether libinjection calls the value a script injection.
    pub(crate) fn xss(&mut self, id: ValueId) -> bool {
        let known = self.list.get(id.0 as usize).and_then(|value| value.known.xss);
        known.unwrap_or_else(|| {
            let found = crate::libinjection::is_xss(self.bytes(id));
            if let Some(value) = self.list.get_mut(id.0 as usize) {
                value.known.xss = Some(found);
            }
            found
        })
    }
}

/// Which byte values occur, a bit each.
pub(crate) fn presence_of(bytes: &[u8]) -> [u64; 4] {
    if bytes.len() >= LONG_BYTES {
        return presence_of_long(bytes);
    }
    let [mut a, mut b, mut c, mut d] = [0u64; 4];
    // Four accumulators in registers: an indexed one would wait for its own store at each byte.
    for &byte in bytes {
        let bit = 1u64 << (byte & 63);
        let in_word = |word: u8| if byte >> 6 == word { bit } else { 0 };
        a |= in_word(0);
        b |= in_word(1);
        c |= in_word(2);
        d |= in_word(3);
    }
    [a, b, c, d]
}

/// For long values: a mark for each byte value, which does not wait for the one before it.
fn presence_of_long(bytes: &[u8]) -> [u64; 4] {
    let mut marks = [0u8; 256];
    for &byte in bytes {
        if let Some(mark) = marks.get_mut(usize::from(byte)) {
            *mark = 1;
        }
    }
    let (words, _) = marks.as_chunks::<64>();
    let mut presence = [0u64; 4];
    for (word, marks) in presence.iter_mut().zip(words) {
        *word = marks.iter().rev().fold(0, |word, &mark| word << 1 | u64::from(mark));
    }
    presence
}

/// Whether two byte sets have no byte in common.
#[inline]
pub(crate) fn disjoint(a: &[u64; 4], b: &[u64; 4]) -> bool {
    a.iter().zip(b).all(|(a, b)| a & b == 0)
}

const NONE: u32 = u32::MAX;
/// From this length on, marks are faster.
const LONG_BYTES: usize = 256;
/// Memory a worker keeps between requests; one large request must not keep it for ever.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
const KEPT_VALUES_MAX: usize = 16 * 1024;
