//! The values of one transaction: spans into its buffers, each distinct one interned once, with what was found out
//! about it (bytes that occur, transformed forms, patterns that can match, libinjection's answer).

use bytes::Bytes;
use hashbrown::{HashMap, HashTable};
use phalanx_model::text::push_decimal;
use phalanx_policy::seclang::ir::Transformation;
use std::hash::BuildHasher as _;

use super::familiar::{Facts, Familiar, HASHER, NodeSet, PlaceId};
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
    known: Known,
    /// What is known of it from other transactions, too.
    place: PlaceId,
    reshaped: NodeSet,
    changed: NodeSet,
}

/// Answers that are worked out once per value.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    presence: bool,
    /// Another transaction had it, too, and it has no place yet.
    again: bool,
    sqli: Option<bool>,
    xss: Option<bool>,
}

impl Value {
    fn take_over(&mut self, place: PlaceId, facts: &Facts) {
        self.place = place;
        self.presence = facts.presence;
        self.known = Known { presence: true, again: false, sqli: facts.sqli, xss: facts.xss };
        (self.reshaped, self.changed) = (facts.reshaped, facts.changed);
    }
}

/// All values of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) buffers: Buffers,
    table: HashTable<u32>,
    list: Vec<Value>,
    memo: Vec<u32>,
    /// What single steps made of values that came out of other steps: few have any, so that rows would be mostly empty.
    made: HashMap<(ValueId, NodeId), ValueId>,
    candidates: Vec<u64>,
    output: Vec<u8>,
    /// A value in lower case while it is scanned.
    lower: Vec<u8>,
    /// What is known from other transactions; there while a stage runs.
    pub(crate) familiar: Option<Familiar>,
}

impl Values {
    /// Forgets everything, keeps the memory up to a bound, and starts with the program's constants. A row of candidates
    /// has so many words; the first row is the empty one.
    pub(crate) fn reset(&mut self, constants: Bytes, words: usize) {
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
        self.made.clear();
        self.made.shrink_to(KEPT_VALUES_MAX);
        self.candidates.clear();
        self.candidates.resize(words, 0);
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
            + self.made.len() * 2 * size_of::<(ValueId, NodeId, ValueId)>()
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

    /// The length of a value.
    #[inline]
    pub(crate) fn len(&self, id: ValueId) -> usize {
        self.blob(id).len as usize
    }

    /// The id of the bytes that a span holds.
    pub(crate) fn intern(&mut self, blob: Blob) -> ValueId {
        let hash = HASHER.hash_one(self.buffers.bytes(blob));
        self.intern_hashed(blob, hash)
    }

    /// The id of these bytes; copies them unless they are known.
    pub(crate) fn intern_bytes(&mut self, bytes: &[u8]) -> ValueId {
        let hash = HASHER.hash_one(bytes);
        if let Some(id) = self.find(bytes, hash) {
            return id;
        }
        let blob = self.buffers.push(bytes);
        self.insert(blob, hash)
    }

    /// The id of a number's decimal text.
    pub(crate) fn intern_number(&mut self, number: i64) -> ValueId {
        let mut text = std::mem::take(&mut self.output);
        text.clear();
        push_number(&mut text, number);
        let id = self.intern_bytes(&text);
        self.output = text;
        id
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
            known: Known::default(),
            place: PlaceId::NONE,
            reshaped: NodeSet::ALL,
            changed: NodeSet::ALL,
        });
        let list = &self.list;
        let rehash = |&id: &u32| list.get(id as usize).map_or(0, |value| value.hash);
        self.table.insert_unique(hash, id, rehash);
        self.recognise(ValueId(id));
        ValueId(id)
    }

    /// Takes over what is known of a value from other transactions.
    fn recognise(&mut self, id: ValueId) {
        let Some(value) = self.list.get_mut(id.0 as usize) else { return };
        let bytes = self.buffers.bytes(value.blob);
        let Some(familiar) = &mut self.familiar else { return };
        let Some((place, facts)) = familiar.find(value.hash, bytes) else {
            value.known.again = familiar.comes_again(value.hash, bytes);
            return;
        };
        value.take_over(place, &facts);
        let Some(row) = self.familiar.as_ref().and_then(|familiar| familiar.row(place)) else { return };
        value.candidate_row = EMPTY_ROW;
        if row.iter().any(|word| *word != 0) {
            value.candidate_row = u32::try_from(self.candidates.len()).unwrap_or(NONE);
            self.candidates.extend_from_slice(row);
        }
    }

    /// Gives a value that comes again a place among the familiar ones, with its candidates.
    #[cold]
    fn make_familiar(&mut self, program: &Program, id: ValueId) {
        let Some(value) = self.list.get_mut(id.0 as usize) else { return };
        value.known.again = false;
        let (hash, blob) = (value.hash, value.blob);
        let Some(familiar) = &mut self.familiar else { return };
        let bytes = self.buffers.bytes(blob);
        let presence = presence_of(bytes);
        let Some((place, facts)) = familiar.add(program, hash, bytes, presence) else { return };
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.take_over(place, &facts);
        }
        let row = self.candidate_row(program, id);
        let words = match row {
            EMPTY_ROW => &[],
            row => self
                .candidates
                .get(row as usize..row as usize + program.prefilter.words())
                .unwrap_or_default(),
        };
        if let Some(familiar) = &mut self.familiar {
            familiar.keep_row(place, words);
        }
    }

    /// Whether a pattern was put to this value before, in vain.
    #[inline]
    pub(crate) fn is_in_vain(&self, id: ValueId, pattern: PatternId) -> bool {
        let place = self.list.get(id.0 as usize).map_or(PlaceId::NONE, |value| value.place);
        place != PlaceId::NONE
            && self.familiar.as_ref().is_some_and(|familiar| familiar.is_in_vain(place, pattern))
    }

    /// Notes that a pattern was put to this value in vain.
    pub(crate) fn keep_in_vain(&mut self, id: ValueId, pattern: PatternId) {
        if let (Some(value), Some(familiar)) = (self.list.get(id.0 as usize), &mut self.familiar) {
            familiar.keep_in_vain(value.place, pattern);
        }
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
        let value = self.list.get(id.0 as usize);
        if value.is_some_and(|value| !value.changed.has(node))
            || !step.always && disjoint(&self.presence(id), &step.triggers)
        {
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
        let result = if !always && disjoint(&self.presence(input), &triggers) {
            input
        } else if step.alone == node {
            self.apply(program, input, step.transformation)
        } else if self.list.get(input.0 as usize).is_some_and(|value| value.memo_row != NONE) {
            self.transformed(program, input, step.alone)
        } else if let Some(&made) = self.made.get(&(input, step.alone)) {
            made
        } else {
            let made = self.apply(program, input, step.transformation);
            self.made.insert((input, step.alone), made);
            made
        };
        if let Some(place) = self.memo.get_mut(slot) {
            *place = result.0;
        }
        if result == id {
            self.keep_unchanged(id, node);
        }
        result
    }

    /// Notes that a chain leaves a value as it is.
    fn keep_unchanged(&mut self, id: ValueId, node: NodeId) {
        let place = self.list.get(id.0 as usize).map_or(PlaceId::NONE, |value| value.place);
        if place != PlaceId::NONE
            && let Some(familiar) = &mut self.familiar
        {
            familiar.keep_facts(place, |facts| {
                facts.changed.remove(node);
                facts.reshaped.remove(node);
            });
        }
    }

    /// The nodes that may do more to a value than change its case, where they are known.
    #[inline]
    pub(crate) fn reshaped(&self, id: ValueId) -> Option<NodeSet> {
        self.list.get(id.0 as usize).filter(|value| value.place != PlaceId::NONE).map(|value| value.reshaped)
    }

    fn memo_row(&mut self, program: &Program, id: ValueId) -> usize {
        let nodes = program.trie.len();
        let row = self.list.get(id.0 as usize).map_or(NONE, |value| value.memo_row);
        if row != NONE {
            return row as usize * nodes;
        }
        let start = self.memo.len();
        // A copy is made many bytes at a time.
        self.memo.extend_from_slice(program.trie.unknown());
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.memo_row = u32::try_from(start / nodes.max(1)).unwrap_or(NONE);
        }
        start
    }

    fn apply(&mut self, program: &Program, input: ValueId, step: Transformation) -> ValueId {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        let changed = transform::apply(step, self.bytes(input), &program.unicode_map, &mut output);
        let result = if changed { self.intern_bytes(&output) } else { input };
        self.output = output;
        result
    }

    /// The value before the steps of a chain that change nothing but its case, as far as that is easily told. What can
    /// match it can match the transformed value, and the other way round.
    #[inline]
    pub(crate) fn form(&mut self, program: &Program, id: ValueId, node: NodeId) -> ValueId {
        let keeps = |value: &Value| !value.reshaped.has(node);
        if node == ROOT || self.list.get(id.0 as usize).is_some_and(keeps) {
            return id;
        }
        if program.trie.may_reshape(node, &self.presence(id)) {
            self.transformed(program, id, node)
        } else {
            id
        }
    }

    /// Where this value's candidate words start; pass it to [`Self::is_candidate`].
    pub(crate) fn candidate_row(&mut self, program: &Program, id: ValueId) -> u32 {
        let words = program.prefilter.words();
        if let Some(row) = self.known_row(id) {
            return row;
        }
        let presence = self.presence(id);
        let start = self.candidates.len();
        self.candidates.resize(start + words, 0);
        self.lower_of(id);
        let mut row = u32::try_from(start).unwrap_or(NONE);
        if let Some(words) = self.candidates.get_mut(start..) {
            program.prefilter.scan(&self.lower, &presence, words);
            if words.iter().all(|word| *word == 0) {
                self.candidates.truncate(start);
                row = EMPTY_ROW;
            }
        }
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.candidate_row = row;
        }
        row
    }

    /// The row of a value that a pass was made over, which is now for a value that comes again.
    #[inline]
    pub(crate) fn row_at_once(&mut self, program: &Program, id: ValueId) -> Option<u32> {
        if self.list.get(id.0 as usize).is_some_and(|value| value.known.again) {
            self.make_familiar(program, id);
        }
        self.known_row(id)
    }

    /// The row of a value that a pass was made over.
    #[inline]
    pub(crate) fn known_row(&self, id: ValueId) -> Option<u32> {
        self.list.get(id.0 as usize).map(|value| value.candidate_row).filter(|row| *row != NONE)
    }

    /// Whether a pattern can match a value, as far as that is known without a pass over it.
    #[inline]
    pub(crate) fn may_match(&mut self, program: &Program, id: ValueId, pattern: PatternId) -> bool {
        if let Some(row) = self.known_row(id) {
            return self.is_candidate(row, pattern);
        }
        let presence = self.presence(id);
        program.prefilter.glance(self.len(id), &presence).allows(pattern)
    }

    /// Which of a few patterns can match a value, a bit each: told without a pass for all patterns.
    pub(crate) fn few_candidates(&mut self, program: &Program, id: ValueId, few: &[PatternId]) -> u8 {
        let presence = self.presence(id);
        let glance = program.prefilter.glance(self.len(id), &presence);
        let mut bits = 0;
        let mut lowered = false;
        for (place, &pattern) in few.iter().enumerate().filter(|(_, pattern)| glance.allows(**pattern)) {
            if let Some(literals) = program.prefilter.literals_of(pattern) {
                if !lowered {
                    self.lower_of(id);
                    lowered = true;
                }
                if literals.find(&self.lower).is_none() {
                    continue;
                }
            }
            bits |= 1 << place;
        }
        bits
    }

    fn lower_of(&mut self, id: ValueId) {
        self.lower.clear();
        self.lower.extend_from_slice(self.buffers.bytes(self.blob(id)));
        self.lower.make_ascii_lowercase();
    }

    /// The candidate words of a row.
    pub(crate) fn candidate_words(&self, row: u32, words: usize) -> &[u64] {
        self.candidates.get(row as usize..row as usize + words).unwrap_or_default()
    }

    /// Whether a pattern can match the value whose row this is.
    #[inline]
    pub(crate) fn is_candidate(&self, row: u32, pattern: PatternId) -> bool {
        let word = self.candidates.get((row + pattern.0 / 64) as usize).copied().unwrap_or(u64::MAX);
        word >> (pattern.0 % 64) & 1 == 1
    }

    /// Whether libinjection calls the value an SQL injection.
    pub(crate) fn sqli(&mut self, id: ValueId) -> bool {
        let known = self.list.get(id.0 as usize).and_then(|value| value.known.sqli);
        known.unwrap_or_else(|| {
            let found = crate::libinjection::is_sqli(self.bytes(id)).is_some();
            if let Some(value) = self.list.get_mut(id.0 as usize) {
                value.known.sqli = Some(found);
                let place = value.place;
                self.familiar
                    .iter_mut()
                    .for_each(|familiar| familiar.keep_facts(place, |facts| facts.sqli = Some(found)));
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
                let place = value.place;
                self.familiar
                    .iter_mut()
                    .for_each(|familiar| familiar.keep_facts(place, |facts| facts.xss = Some(found)));
            }
            found
        })
    }
}

/// Appends a number in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_decimal(out, number.unsigned_abs());
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
    let mut all = 0;
    for &byte in bytes {
        all |= byte;
        if let Some(mark) = marks.get_mut(usize::from(byte)) {
            *mark = 1;
        }
    }
    let word = |from: usize| {
        let (eights, _) = marks.get(from..from + 64).unwrap_or_default().as_chunks::<8>();
        // Moves the lowest bit of each of eight bytes into the highest byte.
        let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        eights.iter().rev().fold(0, |word, eight| word << 8 | bits(eight))
    };
    let [c, d] = if all.is_ascii() { [0; 2] } else { [word(128), word(192)] };
    [word(0), word(64), c, d]
}

/// Adds the bytes of one set to another.
#[inline]
pub(crate) fn unite(all: &mut [u64; 4], more: &[u64; 4]) {
    all.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
}

/// Whether two byte sets have no byte in common.
#[inline]
pub(crate) fn disjoint(a: &[u64; 4], b: &[u64; 4]) -> bool {
    // Without branches: four words are two instructions of a vector unit.
    a.iter().zip(b).fold(0, |common, (a, b)| common | a & b) == 0
}

/// The row of values that nothing can match.
pub(crate) const EMPTY_ROW: u32 = 0;
const NONE: u32 = u32::MAX;
/// From this length on, marks are faster.
const LONG_BYTES: usize = 24;
/// Memory a worker keeps between requests; one large request must not keep it for ever.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
const KEPT_VALUES_MAX: usize = 16 * 1024;
