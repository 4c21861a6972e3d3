//! JSON (RFC 8259), strict, in one pass and without recursion; and texts of many documents, one in a line.
//!
//! Names are those of ModSecurity v3: `json.a.b`, `json.list.array_0`, `json` for a document that is one scalar. The
//! documents of many lines are named as if they stood in one array. Unlike there, an object or array within another
//! that holds nothing is a value too, an empty one: its key may carry an attack.

use std::hash::BuildHasher as _;

use hashbrown::HashSet;

use super::{BodyLimits, BodyParts, Slice, arena_bytes_max};

/// Parses a document. Duplicate keys, bad UTF-8 and control characters are errors after which reading goes on; a
/// syntax error ends it.
pub fn json(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    json_named(body, b"json", limits, parts);
}

/// Parses a document whose values are named after `root`.
pub(super) fn json_named(body: &[u8], root: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    check_utf8(body, parts);
    let mut parser = Parser::new(body, limits, parts);
    parser.path.extend_from_slice(root);
    if let Err(stop) = parser.document() {
        parser.stopped(stop, body.len(), None);
    }
}

/// Parses newline-delimited JSON: each line that is not blank is a document. A faulty line is an error, and the others
/// are read all the same.
pub fn json_lines(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    many(body, b'\n', limits, parts);
}

/// Parses a sequence of JSON texts (RFC 7464): each begins with a record separator.
pub fn json_sequence(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    if body.first().is_some_and(|&first| first != RECORD_SEPARATOR) {
        parts.fail("JSON: the sequence does not begin with a record separator");
    }
    many(body, RECORD_SEPARATOR, limits, parts);
}

const RECORD_SEPARATOR: u8 = 0x1e;

fn many(body: &[u8], separator: u8, limits: &BodyLimits, parts: &mut BodyParts) {
    check_utf8(body, parts);
    let mut parser = Parser::new(body, limits, parts);
    let (mut start, mut index) = (0, 0);
    for end in memchr::memchr_iter(separator, body).chain(std::iter::once(body.len())) {
        let line = body.get(start..end).unwrap_or_default();
        if !line.trim_ascii().is_empty() {
            (parser.body, parser.pos) = (body.get(..end).unwrap_or_default(), start);
            parser.path.clear();
            parser.open.clear();
            parser.path.extend_from_slice(b"json");
            parser.enter_index(index);
            index += 1;
            if let Err(stop) = parser.document() {
                parser.stopped(stop, body.len(), Some(index));
            }
        }
        start = end + 1;
    }
}

fn check_utf8(body: &[u8], parts: &mut BodyParts) {
    match std::str::from_utf8(body) {
        Ok(_) => {}
        Err(error) if error.error_len().is_none() => parts.fail_at_end("JSON: not UTF-8"),
        Err(_) => parts.fail("JSON: not UTF-8"),
    }
}

/// What a backslash and this letter stand for in a string; GraphQL has the same escapes (specification, section 2.9.4).
pub(super) fn letter_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// Why reading ended early.
struct Stop(&'static str);

struct Parser<'a> {
    body: &'a [u8],
    pos: usize,
    limits: &'a BodyLimits,
    parts: &'a mut BodyParts,
    arena_bytes_max: usize,
    /// What was read of a string that is not closed.
    unclosed: Option<Slice>,
    /// Where we are, as it begins the names of the values here.
    path: Vec<u8>,
    /// Objects and arrays around us.
    open: Vec<Open>,
    /// Hashes of the keys seen, with the number of their object.
    keys: HashSet<u64>,
    hasher: foldhash::fast::RandomState,
    objects: u64,
}

struct Open {
    /// Length of the path outside of it.
    outer: usize,
    /// Length of the path that all its members share.
    inner: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Its number.
    Object(u64),
    /// How many values it has had.
    Array(usize),
}

impl<'a> Parser<'a> {
    fn new(body: &'a [u8], limits: &'a BodyLimits, parts: &'a mut BodyParts) -> Self {
        Self {
            body,
            pos: 0,
            limits,
            arena_bytes_max: arena_bytes_max(body),
            parts,
            unclosed: None,
            path: Vec::new(),
            open: Vec::new(),
            keys: HashSet::new(),
            hasher: foldhash::fast::RandomState::default(),
            objects: 0,
        }
    }

    /// Notes why a document ended early; `whole` is the length of everything, `line` the document's number from 1.
    fn stopped(&mut self, Stop(reason): Stop, whole: usize, line: Option<usize>) {
        let at = self.pos;
        let text = match line {
            Some(line) => format!("JSON: {reason} at byte {at}, document {line}"),
            None => format!("JSON: {reason} at byte {at}"),
        };
        if at >= whole { self.parts.fail_at_end(text) } else { self.parts.fail(text) }
    }

    fn document(&mut self) -> Result<(), Stop> {
        self.white();
        self.value()?;
        while !self.open.is_empty() {
            self.member()?;
        }
        self.white();
        if self.pos < self.body.len() { Err(Stop("something follows the document")) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.pos).copied()
    }

    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    /// After a value, or at the start, of the innermost object or array: its end, or its next value.
    fn member(&mut self) -> Result<(), Stop> {
        self.white();
        let Some(Open { inner, kind, .. }) = self.open.last() else { return Ok(()) };
        let (inner, kind) = (*inner, *kind);
        let first = match kind {
            Kind::Object(_) => self.path.len() == inner,
            Kind::Array(count) => count == 0,
        };
        let close = if matches!(kind, Kind::Object(_)) { b'}' } else { b']' };
        match self.peek() {
            Some(byte) if byte == close => {
                self.pos += 1;
                // Its name came from the client too, so rules see it although it holds nothing.
                if first && self.open.len() > 1 {
                    self.add(Slice::EMPTY)?;
                }
                self.close();
                return Ok(());
            }
            Some(b',') if !first => {
                self.pos += 1;
                self.white();
            }
            _ if first => {}
            _ => return Err(Stop("a comma or a closing bracket is missing")),
        }
        self.path.truncate(inner);
        match kind {
            Kind::Object(number) => self.key(number)?,
            Kind::Array(count) => {
                self.enter_index(count);
                if let Some(open) = self.open.last_mut() {
                    open.kind = Kind::Array(count + 1);
                }
            }
        }
        self.white();
        self.value()
    }

    /// Appends `.array_N` to the path.
    fn enter_index(&mut self, index: usize) {
        self.path.extend_from_slice(b".array_");
        let start = self.path.len();
        let mut left = index;
        loop {
            self.path.push(b'0' + u8::try_from(left % 10).unwrap_or_default());
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if let Some(digits) = self.path.get_mut(start..) {
            digits.reverse();
        }
    }

    fn key(&mut self, object: u64) -> Result<(), Stop> {
        if self.peek() != Some(b'"') {
            return Err(Stop("a key is missing"));
        }
        let before = self.parts.arena.len();
        let key = self.string()?;
        let bytes = self.parts.bytes(key, self.body);
        if !self.keys.insert(self.hasher.hash_one((object, bytes))) {
            self.parts.json_duplicate_key = true;
        }
        self.path.push(b'.');
        let bytes = self.parts.bytes(key, self.body);
        self.path.extend_from_slice(if bytes.is_empty() { b"empty-key" } else { bytes });
        self.parts.arena.truncate(before);
        if self.parts.json_duplicate_key {
            self.parts.fail("JSON: an object has the same key twice");
        }
        self.white();
        if self.peek() != Some(b':') {
            return Err(Stop("a colon is missing"));
        }
        self.pos += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<(), Stop> {
        let start = self.pos;
        let value = match self.peek() {
            Some(b'{') => {
                self.objects += 1;
                return self.begin(Kind::Object(self.objects));
            }
            Some(b'[') => return self.begin(Kind::Array(0)),
            Some(b'"') => match self.string() {
                Ok(value) => value,
                Err(stop) => {
                    // What there is of it is inspected all the same.
                    if let Some(value) = self.unclosed.take() {
                        let name = self.parts.store(&self.path);
                        self.parts.add(name, value, self.limits);
                    }
                    return Err(stop);
                }
            },
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => {
                self.word(b"null")?;
                Slice::EMPTY
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => return Err(Stop("not a value")),
            None => return Err(Stop("the document ends early")),
        };
        debug_assert!(self.pos > start, "a value takes bytes");
        self.add(value)
    }

    /// Adds a value under the name of where we are.
    fn add(&mut self, value: Slice) -> Result<(), Stop> {
        if self.parts.arena.len() + self.path.len() > self.arena_bytes_max {
            return Err(Stop("the names of nested values take too much room"));
        }
        let name = self.parts.store(&self.path);
        if self.parts.add(name, value, self.limits) { Ok(()) } else { Err(Stop("too many values")) }
    }

    fn begin(&mut self, kind: Kind) -> Result<(), Stop> {
        if self.open.len() >= self.limits.depth_max {
            return Err(Stop("nested too deep"));
        }
        self.pos += 1;
        let length = self.path.len();
        self.open.push(Open { outer: length, inner: length, kind });
        Ok(())
    }

    fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.path.truncate(open.outer);
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<Slice, Stop> {
        let start = self.pos;
        let rest = self.body.get(start..).unwrap_or_default();
        if !rest.starts_with(word) {
            if word.starts_with(rest) {
                self.pos = self.body.len();
            }
            return Err(Stop("not a value"));
        }
        self.pos += word.len();
        Ok(Slice::body(start, self.pos))
    }

    fn digits(&mut self) -> usize {
        let start = self.pos;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
        self.pos - start
    }

    fn number(&mut self) -> Result<Slice, Stop> {
        let start = self.pos;
        self.pos += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(Stop("not a number"));
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            if self.digits() == 0 {
                return Err(Stop("not a number"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pos += 1;
            self.pos += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(Stop("not a number"));
            }
        }
        Ok(Slice::body(start, self.pos))
    }

    /// A string; in the arena when it has escapes.
    fn string(&mut self) -> Result<Slice, Stop> {
        self.pos += 1;
        let start = self.pos;
        let stored = self.parts.arena.len();
        let mut copied = start;
        let mut escaped = false;
        loop {
            let rest = self.body.get(self.pos..).unwrap_or_default();
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(self.not_closed(start, stored, copied, escaped));
            };
            // Without an early exit, so that it is done many bytes at a time.
            let text = rest.get(..length).unwrap_or_default();
            if text.iter().fold(false, |found, &byte| found | (byte < 0x20)) {
                self.parts.fail("JSON: a control character in a string");
            }
            let end = self.pos + length;
            self.pos = end + 1;
            let quote = self.body.get(end) == Some(&b'"');
            if quote && !escaped {
                return Ok(Slice::body(start, end));
            }
            self.parts.arena.extend_from_slice(self.body.get(copied..end).unwrap_or_default());
            if quote {
                return Ok(self.parts.stored_since(stored));
            }
            escaped = true;
            if let Err(stop) = self.escape() {
                self.unclosed = Some(self.parts.stored_since(stored));
                return Err(stop);
            }
            copied = self.pos;
        }
    }

    /// The document ends within a string: keeps what there is of it.
    fn not_closed(&mut self, start: usize, stored: usize, copied: usize, escaped: bool) -> Stop {
        self.pos = self.body.len();
        self.unclosed = Some(if escaped {
            self.parts.arena.extend_from_slice(self.body.get(copied..).unwrap_or_default());
            self.parts.stored_since(stored)
        } else {
            Slice::body(start, self.pos)
        });
        Stop("a string is not closed")
    }

    fn escape(&mut self) -> Result<(), Stop> {
        let Some(letter) = self.peek() else { return Err(Stop("a string is not closed")) };
        self.pos += 1;
        if letter == b'u' {
            return self.unicode_escape();
        }
        self.parts.arena.push(letter_escape(letter).ok_or(Stop("not an escape"))?);
        Ok(())
    }

    /// `\uHHHH`, two for a character beyond U+FFFF. Half of such a pair is U+FFFD, as most parsers have it.
    fn unicode_escape(&mut self) -> Result<(), Stop> {
        let first = self.unit().ok_or(Stop("not an escape"))?;
        let mut code = u32::from(first);
        if (0xd800..0xdc00).contains(&first)
            && self.body.get(self.pos..).is_some_and(|rest| rest.starts_with(b"\\u"))
        {
            let before = self.pos;
            self.pos += 2;
            match self.unit() {
                Some(second @ 0xdc00..=0xdfff) => {
                    code = 0x10000 + ((u32::from(first) - 0xd800) << 10) + (u32::from(second) - 0xdc00);
                }
                _ => self.pos = before,
            }
        }
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.parts.arena.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn unit(&mut self) -> Option<u16> {
        let Some(digits) = self.body.get(self.pos..self.pos + 4) else {
            self.pos = self.body.len();
            return None;
        };
        let mut value = 0;
        for &digit in digits {
            value = value << 4 | u16::try_from(char::from(digit).to_digit(16)?).ok()?;
        }
        self.pos += 4;
        Some(value)
    }
}
