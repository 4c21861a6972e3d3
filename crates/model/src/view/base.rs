//! The large part of a view: all decisions at one time, packed into a few allocations.
//!
//! `blob` holds groups, one per key: `key | count | records`. A record is what tells decisions apart, with author and
//! reason as numbers into lists of each, times relative to others: about 40 bytes, and 16 for evidence. `slots` finds a
//! group: an open table of 32 bits of the key's hash beside the group's place; the key in the group has the last word.
//!
//! The same bytes, without `slots`, are the node's packed file. Whatever they hold, reading them never panics.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};

use super::delta::Delta;
use super::key::{self, Kinds, Nearby};
use crate::{Actor, ActorKey, Author, AuthorRole, Decision, DecisionId, DecisionKind};

/// Packed decisions, immutable.
#[derive(Debug, Default)]
pub struct Base {
    /// Hash bits above, place in the blob plus one below; 0 is free. A power of two of them, at most 3/4 taken.
    slots: Box<[u64]>,
    pub(super) blob: Box<[u8]>,
    pub(super) authors: Box<[Author]>,
    pub(super) reasons: Texts,
    pub(super) kinds: Kinds,
    nearby: Nearby,
    keys_len: usize,
    decisions_len: usize,
    version_max: u64,
}

impl Base {
    /// How many decisions it holds, expired ones included.
    pub fn decisions_len(&self) -> usize {
        self.decisions_len
    }

    /// The highest version of a decision in it.
    pub fn version_max(&self) -> u64 {
        self.version_max
    }

    /// How many keys have decisions.
    pub(super) fn keys_len(&self) -> usize {
        self.keys_len
    }

    /// The bytes it takes in memory.
    pub fn bytes_len(&self) -> usize {
        let lists =
            self.authors.len() * size_of::<Author>() + self.reasons.bytes.len() + self.reasons.ends.len() * 4;
        self.slots.len() * 8 + self.blob.len() + self.nearby.bytes_len() + lists
    }

    /// The base of so many decisions, each group those about one key. `None`: they are too many, see [`Builder::finish`].
    pub(super) fn of<G: AsRef<[Arc<Decision>]>>(groups: impl Iterator<Item = G>, len: usize) -> Option<Self> {
        let mut builder = Builder::with_capacity(len * RECORD_BYTES_USUAL);
        for group in groups {
            if let Some(first) = group.as_ref().first() {
                builder.group(&first.actor.key(), group.as_ref());
            }
        }
        builder.finish()
    }

    /// This base with the changes of `delta`. `None`: it would be too large.
    pub(super) fn with(&self, delta: &Delta) -> Option<Self> {
        let mut builder = Builder::with_capacity(self.blob.len() + delta.len() * RECORD_BYTES_USUAL);
        let mut moved =
            Moved { authors: vec![None; self.authors.len()], reasons: vec![None; self.reasons.len()] };
        for group in self.groups() {
            if delta.get(key::hash(&group.key), &group.key).is_none() {
                builder.copy(self, &group, &mut moved);
            }
        }
        for (key, decisions) in delta.iter() {
            builder.group(key, decisions);
        }
        builder.finish()
    }

    /// The base of what a file holds. `None` if the blob is not made of whole groups with known authors and reasons.
    pub(super) fn index(blob: Box<[u8]>, authors: Box<[Author]>, reasons: Texts) -> Option<Self> {
        let mut base = Self {
            slots: Box::default(),
            blob,
            authors,
            reasons,
            kinds: Kinds::default(),
            nearby: Nearby::default(),
            keys_len: 0,
            decisions_len: 0,
            version_max: 0,
        };
        let (mut offset, mut version_max) = (0, 0);
        while offset < base.blob.len() {
            let group = base.group_at(offset)?;
            let mut left = group.records;
            let (key, count) = (group.key, group.count);
            for _ in 0..count {
                let (record, rest) = Record::split(left)?;
                let parts = record.parts()?;
                base.authors.get(parts.author)?;
                base.reasons.get(parts.reason)?;
                version_max = parts.version.max(version_max);
                left = rest;
            }
            offset = base.blob.len() - left.len();
            base.keys_len += 1;
            base.decisions_len += count;
            base.kinds.note(&key);
        }
        base.version_max = version_max;
        base.fill_slots()?;
        if base.keys_len > NEARBY_KEYS_MIN && base.kinds.widths() > 2 {
            let mut nearby = Nearby::with_places(1 << 16);
            base.groups().for_each(|group| nearby.note(&group.key));
            base.nearby = nearby;
        }
        Some(base)
    }

    fn fill_slots(&mut self) -> Option<()> {
        let wanted = (self.keys_len + self.keys_len / 3 + 1).next_power_of_two();
        let mut slots = vec![0u64; wanted].into_boxed_slice();
        for group in self.groups() {
            let hash = key::hash(&group.key);
            let place = u64::from(u32::try_from(group.offset).ok()?.checked_add(1)?);
            let mut at = slot_of(hash, slots.len());
            while *slots.get(at)? != 0 {
                at = (at + 1) & (slots.len() - 1);
            }
            *slots.get_mut(at)? = hash >> 32 << 32 | place;
        }
        self.slots = slots;
        Some(())
    }

    /// The kinds of keys that can be about an address, among those that occur.
    pub(super) fn kinds_near(&self, ip: IpAddr) -> Kinds {
        self.nearby.among(self.kinds, ip)
    }

    /// The records about a key whose hash this is.
    pub(super) fn find(&self, hash: u64, key: &ActorKey) -> Records<'_> {
        self.find_from(self.first_slot(hash), hash, key)
    }

    /// What is in the first slot in which a key of this hash may be. A look-up with many keys reads these all before it looks
    /// at one: memory answers many questions in the time of one, unless each waits for what became of the last.
    pub(super) fn first_slot(&self, hash: u64) -> u64 {
        self.slots.get(slot_of(hash, self.slots.len())).copied().unwrap_or_default()
    }

    /// As [`Base::find`], given the first slot.
    pub(super) fn find_from(&self, first: u64, hash: u64, key: &ActorKey) -> Records<'_> {
        let (mut slot, mut at) = (first, slot_of(hash, self.slots.len()));
        // There is always a free slot, which ends the search.
        while slot != 0 {
            if slot >> 32 == hash >> 32
                && let Some(place) =
                    usize::try_from(slot & 0xffff_ffff).ok().and_then(|place| place.checked_sub(1))
                && let Some(group) = self.group_at(place)
                && group.key == *key
            {
                return Records { base: self, key: group.key, count: group.count, left: group.records };
            }
            at = (at + 1) & (self.slots.len() - 1);
            slot = self.slots.get(at).copied().unwrap_or_default();
        }
        Records { base: self, key: *key, count: 0, left: &[] }
    }

    /// Every key with its records, in the order of the blob.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let group = self.group_at(offset)?;
            let mut left = group.records;
            for _ in 0..group.count {
                left = Record::split(left)?.1;
            }
            offset = self.blob.len() - left.len();
            Some(group)
        })
    }

    pub(super) fn records<'a>(&'a self, group: &Group<'a>) -> Records<'a> {
        Records { base: self, key: group.key, count: group.count, left: group.records }
    }

    fn group_at(&self, offset: usize) -> Option<Group<'_>> {
        let (key, rest) = key::decode(self.blob.get(offset..)?)?;
        let (count, records) = varint(rest)?;
        Some(Group { offset, key, count: usize::try_from(count).ok()?, records })
    }
}

/// The decisions about one key. `records` starts with them and goes on to the blob's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    offset: usize,
    pub(super) key: ActorKey,
    count: usize,
    records: &'a [u8],
}

/// The records of one key.
#[derive(Debug, Clone)]
pub(super) struct Records<'a> {
    base: &'a Base,
    key: ActorKey,
    count: usize,
    left: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Packed<'a>;

    fn next(&mut self) -> Option<Packed<'a>> {
        self.count = self.count.checked_sub(1)?;
        let (record, rest) = Record::split(self.left)?;
        self.left = rest;
        Some(Packed { base: self.base, key: self.key, record })
    }
}

/// One decision in a base; see [`super::Found`].
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    base: &'a Base,
    key: ActorKey,
    pub(super) record: Record<'a>,
}

impl Packed<'_> {
    /// What it orders. About an app's rules there is one thing to order, which the two bits of a record's head have no room for.
    pub(super) fn kind(&self) -> DecisionKind {
        match self.key {
            ActorKey::Rules(_) => DecisionKind::RaiseParanoia,
            _ => kind_of(self.record.head()),
        }
    }

    /// The decision as it was before it was packed.
    pub(super) fn decision(&self) -> Option<Arc<Decision>> {
        let parts = self.record.parts()?;
        let actor = match self.key {
            ActorKey::Range(range) if parts.head & AS_PREFIX != 0 => Actor::Prefix(range),
            key => key.actor(parts.agent),
        };
        Some(Arc::new(Decision {
            id: DecisionId::from_bits(parts.id),
            actor,
            kind: self.kind(),
            author: self.base.authors.get(parts.author)?.clone(),
            reason: self.base.reasons.get(parts.reason)?.to_owned(),
            evidence: parts.evidence.map(DecisionId::from_bits),
            confidence_percent: parts.confidence_percent,
            created_at_ms: parts.created_at_ms,
            expires_at_ms: parts.expires_at_ms,
            version: parts.version,
        }))
    }
}

/// One record's bytes after its length: `head | expiry 8 | id 16 | agent 8? | evidence 16? | confidence | varints of
/// creation, version, author, reason`. What a look-up compares comes first, at fixed places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&len, rest) = bytes.split_first()?;
        let (record, rest) = rest.split_at_checked(usize::from(len))?;
        Some((Self(record), rest))
    }

    fn head(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    pub(super) fn role(&self) -> AuthorRole {
        if self.head() & OPERATOR != 0 { AuthorRole::Operator } else { AuthorRole::Node }
    }

    /// Expired since the beginning of time if it cannot be read.
    pub(super) fn expires_at_ms(&self) -> u64 {
        self.0.get(1..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    pub(super) fn id(&self) -> DecisionId {
        let bits = self
            .0
            .get(9..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |bytes| u128::from_le_bytes(*bytes));
        DecisionId::from_bits(bits)
    }

    /// 0 if it cannot be read.
    pub(super) fn created_at_ms(&self) -> u64 {
        self.parts().map_or(0, |parts| parts.created_at_ms)
    }

    /// Whether it is about the client with this hash, or about all that its key stands for.
    pub(super) fn covers_agent(&self, agent: Option<u64>) -> bool {
        if self.head() & HAS_AGENT == 0 {
            return true;
        }
        let own =
            self.0.get(25..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
        own.is_some() && own == agent
    }

    fn parts(&self) -> Option<Parts> {
        let (&head, rest) = self.0.split_first()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (id, mut rest) = rest.split_first_chunk()?;
        let (mut agent, mut evidence) = (None, None);
        if head & HAS_AGENT != 0 {
            let (bits, after) = rest.split_first_chunk()?;
            (agent, rest) = (Some(u64::from_le_bytes(*bits)), after);
        }
        if head & HAS_EVIDENCE != 0 {
            let (bits, after) = rest.split_first_chunk()?;
            (evidence, rest) = (Some(u128::from_le_bytes(*bits)), after);
        }
        let (&confidence_percent, rest) = rest.split_first()?;
        let id = u128::from_le_bytes(*id);
        let (after_id, rest) = varint(rest)?;
        let (after_created, rest) = varint(rest)?;
        let (author, rest) = varint(rest)?;
        let (reason, _) = varint(rest)?;
        let created_at_ms = DecisionId::from_bits(id).at_ms().wrapping_add(unfold(after_id));
        Some(Parts {
            head,
            expires_at_ms: u64::from_le_bytes(*expires),
            id,
            agent,
            evidence,
            confidence_percent,
            created_at_ms,
            version: version_near(created_at_ms).wrapping_add(unfold(after_created)),
            author: usize::try_from(author).ok()?,
            reason: usize::try_from(reason).ok()?,
        })
    }
}

/// A record taken apart; author and reason as numbers of one base.
#[derive(Debug, Clone)]
struct Parts {
    head: u8,
    expires_at_ms: u64,
    id: u128,
    agent: Option<u64>,
    evidence: Option<u128>,
    confidence_percent: u8,
    created_at_ms: u64,
    version: u64,
    author: usize,
    reason: usize,
}

impl Parts {
    fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(0);
        out.push(self.head);
        out.extend(self.expires_at_ms.to_le_bytes());
        out.extend(self.id.to_le_bytes());
        out.extend(self.agent.map(u64::to_le_bytes).into_iter().flatten());
        out.extend(self.evidence.map(u128::to_le_bytes).into_iter().flatten());
        out.push(self.confidence_percent);
        put_varint(out, fold(self.created_at_ms.wrapping_sub(DecisionId::from_bits(self.id).at_ms())));
        put_varint(out, fold(self.version.wrapping_sub(version_near(self.created_at_ms))));
        put_varint(out, self.author as u64);
        put_varint(out, self.reason as u64);
        // At most 91 bytes: every varint has ten at most.
        let len = u8::try_from(out.len() - start - 1).unwrap_or(u8::MAX);
        if let Some(place) = out.get_mut(start) {
            *place = len;
        }
    }
}

/// Texts in one allocation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<u32>,
}

impl Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, number: usize) -> Option<&str> {
        let start = match number.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        let range = usize::try_from(start).ok()?..usize::try_from(*self.ends.get(number)?).ok()?;
        std::str::from_utf8(self.bytes.get(range)?).ok()
    }

    fn push(&mut self, text: &str) {
        self.bytes.extend(text.as_bytes());
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }
}

/// Writes a base, group by group.
struct Builder {
    blob: Vec<u8>,
    authors: Vec<Author>,
    author_numbers: HashMap<Author, usize, foldhash::fast::RandomState>,
    reasons: Texts,
    reason_numbers: HashTable<usize>,
}

/// Numbers of authors and reasons of an old base in the new one. What nothing refers to any more stays behind.
struct Moved {
    authors: Vec<Option<usize>>,
    reasons: Vec<Option<usize>>,
}

impl Builder {
    fn with_capacity(blob_bytes: usize) -> Self {
        Self {
            blob: Vec::with_capacity(blob_bytes),
            authors: Vec::new(),
            author_numbers: HashMap::default(),
            reasons: Texts::default(),
            reason_numbers: HashTable::new(),
        }
    }

    /// Adds a key. One without decisions is left out.
    fn group(&mut self, key: &ActorKey, decisions: &[Arc<Decision>]) {
        if decisions.is_empty() {
            return;
        }
        key::encode(key, &mut self.blob);
        put_varint(&mut self.blob, decisions.len() as u64);
        for decision in decisions {
            let (author, reason) = (self.author(&decision.author), self.reason(&decision.reason));
            parts_of(decision, author, reason).put(&mut self.blob);
        }
    }

    /// Adds a key of another base.
    fn copy(&mut self, from: &Base, group: &Group<'_>, moved: &mut Moved) {
        key::encode(&group.key, &mut self.blob);
        put_varint(&mut self.blob, group.count as u64);
        for packed in from.records(group) {
            let Some(mut parts) = packed.record.parts() else { continue };
            parts.author = moved_to(&mut moved.authors, parts.author, || {
                from.authors.get(parts.author).map_or(usize::MAX, |author| self.author(author))
            });
            parts.reason = moved_to(&mut moved.reasons, parts.reason, || {
                from.reasons.get(parts.reason).map_or(usize::MAX, |reason| self.reason(reason))
            });
            parts.put(&mut self.blob);
        }
    }

    fn author(&mut self, author: &Author) -> usize {
        if let Some(number) = self.author_numbers.get(author) {
            return *number;
        }
        self.authors.push(author.clone());
        self.author_numbers.insert(author.clone(), self.authors.len() - 1);
        self.authors.len() - 1
    }

    fn reason(&mut self, reason: &str) -> usize {
        let hash = key::hash_text(reason);
        if let Some(number) =
            self.reason_numbers.find(hash, |number| self.reasons.get(*number) == Some(reason))
        {
            return *number;
        }
        self.reasons.push(reason);
        let (number, reasons) = (self.reasons.len() - 1, &self.reasons);
        let again = |number: &usize| key::hash_text(reasons.get(*number).unwrap_or_default());
        self.reason_numbers.insert_unique(hash, number, again);
        number
    }

    /// `None` if the blob is too large for places of 32 bits: 4 GiB, more decisions than all authors of a fleet may write.
    fn finish(mut self) -> Option<Base> {
        self.reasons.bytes.shrink_to_fit();
        self.reasons.ends.shrink_to_fit();
        Base::index(self.blob.into(), self.authors.into(), self.reasons)
    }
}

fn moved_to(numbers: &mut [Option<usize>], old: usize, number: impl FnOnce() -> usize) -> usize {
    match numbers.get_mut(old) {
        Some(Some(number)) => *number,
        Some(unknown) => *unknown.insert(number()),
        None => usize::MAX,
    }
}

fn parts_of(decision: &Decision, author: usize, reason: usize) -> Parts {
    let mut head = match decision.kind {
        // Its key says it.
        DecisionKind::RaiseParanoia | DecisionKind::Throttle => 0,
        DecisionKind::Challenge => 1,
        DecisionKind::Ban => 2,
        DecisionKind::Allow => 3,
    };
    let agent = decision.actor.agent();
    for (bit, is_set) in [
        (OPERATOR, decision.author.role == AuthorRole::Operator),
        (HAS_AGENT, agent.is_some()),
        (HAS_EVIDENCE, decision.evidence.is_some()),
        (AS_PREFIX, matches!(decision.actor, Actor::Prefix(_))),
    ] {
        head |= if is_set { bit } else { 0 };
    }
    Parts {
        head,
        expires_at_ms: decision.expires_at_ms,
        id: decision.id.to_bits(),
        agent,
        evidence: decision.evidence.map(DecisionId::to_bits),
        confidence_percent: decision.confidence_percent,
        created_at_ms: decision.created_at_ms,
        version: decision.version,
        author,
        reason,
    }
}

fn kind_of(head: u8) -> DecisionKind {
    match head & 3 {
        0 => DecisionKind::Throttle,
        1 => DecisionKind::Challenge,
        2 => DecisionKind::Ban,
        _ => DecisionKind::Allow,
    }
}

fn slot_of(hash: u64, slots: usize) -> usize {
    usize::try_from(hash & 0xffff_ffff).unwrap_or_default() & slots.wrapping_sub(1)
}

/// The version that a decision made at this time most likely has; only the size of records depends on it.
fn version_near(created_at_ms: u64) -> u64 {
    created_at_ms << 16
}

/// Small differences either way become small numbers.
fn fold(difference: u64) -> u64 {
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    (difference << 1) ^ sign
}

fn unfold(folded: u64) -> u64 {
    (folded >> 1) ^ (folded & 1).wrapping_neg()
}

/// Appends a number, seven bits to a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (place * 7);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(place + 1..)?));
        }
    }
    None
}

/// Bits of a record's head above the kind.
const OPERATOR: u8 = 1 << 2;
const HAS_AGENT: u8 = 1 << 3;
const HAS_EVIDENCE: u8 = 1 << 4;
/// The actor was written as a range, even if it is one address.
const AS_PREFIX: u8 = 1 << 5;
/// A table below this lies in the processor's caches; asking it for every length costs little, and half a megabyte of memory
/// would be more than the table.
const NEARBY_KEYS_MIN: usize = if cfg!(test) { 0 } else { 16_384 };
/// A record of a node's ban with its key, for the first size of a blob.
const RECORD_BYTES_USUAL: usize = 64;
