//! Protocol Buffers without their schema, and the frames of gRPC around them.
//!
//! The wire format does not tell a nested message from a text. Content that reads as a message exactly is taken for
//! one, and when it is text as well, it is a value of its own too: many a text happens to read as a message, and what
//! was looked at as numbers only would be hidden. Names are field numbers: `proto.1.2`. Numbers are no values.

use std::borrow::Cow;

use super::coding::{self, Coding, End, Room};
use super::{BodyLimits, BodyParts, Slice, arena_bytes_max};

/// Parses a body that is one message.
pub fn protobuf(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    let mut walk = Walk::new(body, limits, parts);
    if let Err(stop) = walk.message(0, body.len()) {
        walk.stopped(stop, true);
    }
}

/// Parses a body of gRPC frames that hold messages; see [`grpc_plain`] for compressed ones.
pub fn grpc(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    let mut walk = Walk::new(body, limits, parts);
    let mut pos = 0;
    while let Some(frame) = frame(body, pos) {
        if frame.flag != 0 {
            return walk.stopped(Stop::Malformed("a gRPC frame that is not read"), false);
        }
        let result = walk.message(frame.start, frame.end.min(body.len()));
        let is_last = frame.end >= body.len();
        if let Err(stop) = result {
            return walk.stopped(stop, is_last);
        }
        if frame.end > body.len() {
            return walk.stopped(Stop::Cut, true);
        }
        pos = frame.end;
    }
    if pos < body.len() {
        walk.stopped(Stop::Cut, true);
    }
}

/// The frames of a gRPC body with their content decompressed; borrowed where nothing was compressed.
///
/// # Errors
/// A frame cannot be decoded; with the frames before it, and what could be read of it.
pub fn grpc_plain(
    body: &[u8],
    coding: Option<Coding>,
    room: Room,
) -> Result<Cow<'_, [u8]>, (Vec<u8>, &'static str)> {
    let mut frames = std::iter::successors(frame(body, 0), |last| frame(body, last.end));
    if !frames.any(|frame| frame.flag == COMPRESSED) {
        return Ok(Cow::Borrowed(body));
    }
    let (mut out, mut pos) = (Vec::with_capacity(body.len()), 0);
    while let Some(frame) = frame(body, pos) {
        let content = body.get(frame.start..frame.end.min(body.len())).unwrap_or_default();
        let (flag, content, fault) = match (frame.flag, coding) {
            (COMPRESSED, Some(coding)) => {
                let room = Room { bytes_max: room.bytes_max.saturating_sub(out.len()), ..room };
                let decoded = coding::decode(content, &[coding], room);
                let fault =
                    decoded.end.reason().filter(|_| decoded.end != End::Cut || frame.end <= body.len());
                (0, Cow::Owned(decoded.body), fault)
            }
            (COMPRESSED, None) => (0, Cow::Borrowed(content), Some("a gRPC compression that is not read")),
            (flag, _) => (flag, Cow::Borrowed(content), None),
        };
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        out.push(flag);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&content);
        if let Some(fault) = fault {
            return Err((out, fault));
        }
        pos = frame.end;
    }
    // A head that is cut off stays, for the parser to find.
    out.extend_from_slice(body.get(pos..).unwrap_or_default());
    Ok(Cow::Owned(out))
}

/// From how many printable bytes in a row on tags and numbers are text. Numbers rarely have as many.
const TEXT_RUN_BYTES: usize = 6;
/// The flag of a frame whose content is compressed.
const COMPRESSED: u8 = 1;
/// How often the content of fields may be looked at, in multiples of the body: each level of nesting does once more.
const LOOKS_MAX: usize = 16;

/// A frame; its end may lie beyond the body.
struct Frame {
    flag: u8,
    start: usize,
    end: usize,
}

fn frame(body: &[u8], pos: usize) -> Option<Frame> {
    let (&[flag, a, b, c, d], _) = body.get(pos..)?.split_first_chunk()?;
    let start = pos + 5;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    Some(Frame { flag, start, end: start.checked_add(length)? })
}

enum Stop {
    Malformed(&'static str),
    /// A field goes on beyond the end.
    Cut,
}

struct Walk<'a> {
    body: &'a [u8],
    limits: &'a BodyLimits,
    parts: &'a mut BodyParts,
    path: Vec<u8>,
    /// Bytes of fields that may still be looked at.
    looks: usize,
}

impl<'a> Walk<'a> {
    fn new(body: &'a [u8], limits: &'a BodyLimits, parts: &'a mut BodyParts) -> Self {
        let looks = body.len().saturating_mul(LOOKS_MAX).saturating_add(64 * 1024);
        Self { body, limits, parts, path: b"proto".to_vec(), looks }
    }

    fn stopped(&mut self, stop: Stop, at_end: bool) {
        match stop {
            Stop::Cut if at_end => self.parts.fail_at_end("protobuf: the message ends early"),
            Stop::Cut => self.parts.fail("protobuf: a field goes on beyond its message"),
            Stop::Malformed(reason) => self.parts.fail(format!("protobuf: {reason}")),
        }
    }

    /// Walks a message and those within it, without recursion.
    fn message(&mut self, start: usize, end: usize) -> Result<(), Stop> {
        let root = self.path.len();
        self.outside_of_strings(start, end)?;
        let mut open = vec![(end, root)];
        let mut pos = start;
        while let Some(&(end, outer)) = open.last() {
            self.path.truncate(outer);
            if pos >= end {
                open.pop();
                continue;
            }
            let message = self.body.get(..end).unwrap_or_default();
            let field = read_field(message, &mut pos);
            let field = match field {
                // Nested messages were found to be exact: this is the outermost one, which ends early.
                Err(Stop::Cut) => {
                    self.path.truncate(root);
                    self.value(pos.min(end), end, true)?;
                    return Err(Stop::Cut);
                }
                other => other?,
            };
            let Some((number, from)) = field else { continue };
            self.enter(number);
            let content = self.body.get(from..pos).unwrap_or_default();
            self.looks = self.looks.checked_sub(content.len()).ok_or(Stop::Malformed("nested too much"))?;
            let nested = is_message(content);
            let is_text = std::str::from_utf8(content).is_ok();
            if is_text || !nested {
                self.value(from, pos, nested || !is_text || is_mostly_control(content))?;
            }
            if nested {
                if open.len() >= self.limits.depth_max {
                    return Err(Stop::Malformed("nested too deep"));
                }
                if !is_text {
                    self.outside_of_strings(from, pos)?;
                }
                open.push((pos, self.path.len()));
                pos = from;
            }
        }
        Ok(())
    }

    /// Adds what a message says outside of its strings and bytes, where that is text: it may pass for tags and numbers.
    fn outside_of_strings(&mut self, start: usize, end: usize) -> Result<(), Stop> {
        let message = self.body.get(start..end).unwrap_or_default();
        let (mut outside, mut pos) = (Vec::new(), 0);
        while pos < message.len() {
            let before = pos;
            let Ok(field) = read_field(message, &mut pos) else { break };
            let content = field.map_or(pos, |(_, from)| from);
            outside.extend_from_slice(message.get(before..content).unwrap_or_default());
        }
        let runs = outside.split(|byte| !matches!(byte, b' '..=b'~'));
        if !runs.into_iter().any(|run| run.len() >= TEXT_RUN_BYTES) {
            return Ok(());
        }
        let name = self.parts.store(&self.path);
        let stored = self.parts.arena.len();
        readable(&outside, &mut self.parts.arena);
        let value = self.parts.stored_since(stored);
        if self.parts.add(name, value, self.limits) {
            Ok(())
        } else {
            Err(Stop::Malformed("too many fields"))
        }
    }

    /// Appends a field's number to the path.
    fn enter(&mut self, number: u32) {
        use std::io::Write as _;
        // Writing to a vector cannot fail.
        let _ = write!(self.path, ".{number}");
    }

    /// Adds a value; of one that is `binary` only what is [`readable`].
    fn value(&mut self, from: usize, to: usize, binary: bool) -> Result<(), Stop> {
        let content = self.body.get(from..to).unwrap_or_default();
        if self.parts.arena.len() + self.path.len() > arena_bytes_max(self.body) {
            return Err(Stop::Malformed("the names of nested fields take too much room"));
        }
        let name = self.parts.store(&self.path);
        let value = if binary {
            let stored = self.parts.arena.len();
            readable(content, &mut self.parts.arena);
            self.parts.stored_since(stored)
        } else {
            Slice::body(from, to)
        };
        if self.parts.add(name, value, self.limits) {
            Ok(())
        } else {
            Err(Stop::Malformed("too many fields"))
        }
    }
}

/// Reads a field; gives the number of one with content, and where that starts. `pos` is behind the field then; when it
/// ends early, at what there is of its content.
fn read_field(message: &[u8], pos: &mut usize) -> Result<Option<(u32, usize)>, Stop> {
    let tag = varint(message, pos)?;
    let number = u32::try_from(tag >> 3).unwrap_or(u32::MAX);
    if number == 0 || number > FIELD_NUMBER_MAX {
        return Err(Stop::Malformed("not a field number"));
    }
    let length = match tag & 7 {
        0 => {
            varint(message, pos)?;
            return Ok(None);
        }
        1 => 8,
        5 => 4,
        2 => usize::try_from(varint(message, pos)?).unwrap_or(usize::MAX),
        // Groups have been deprecated since 2008.
        _ => return Err(Stop::Malformed("not a wire type that is read")),
    };
    let start = *pos;
    match start.checked_add(length).filter(|&end| end <= message.len()) {
        Some(end) => *pos = end,
        None => return Err(Stop::Cut),
    }
    Ok((tag & 7 == 2).then_some((number, start)))
}

/// Largest field number.
const FIELD_NUMBER_MAX: u32 = (1 << 29) - 1;

fn varint(message: &[u8], pos: &mut usize) -> Result<u64, Stop> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let &byte = message.get(*pos).ok_or(Stop::Cut)?;
        *pos += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Stop::Malformed("a number is too long"))
}

/// Whether content reads as a message exactly. What is within its fields does not matter: they may be anything.
fn is_message(content: &[u8]) -> bool {
    let mut pos = 0;
    while pos < content.len() {
        if read_field(content, &mut pos).is_err() {
            return false;
        }
    }
    !content.is_empty()
}

/// Binary content with spaces for control characters and for what is not UTF-8: lengths, numbers, hashes.
fn readable(content: &[u8], out: &mut Vec<u8>) {
    for chunk in content.utf8_chunks() {
        out.extend(chunk.valid().bytes().map(|byte| if is_control(byte) { b' ' } else { byte }));
        if !chunk.invalid().is_empty() {
            out.push(b' ');
        }
    }
}

fn is_mostly_control(content: &[u8]) -> bool {
    content.iter().filter(|&&byte| is_control(byte)).count() > content.len() / 4
}

/// Control characters other than white space.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}
