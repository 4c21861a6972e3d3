//! How a client begins HTTP/2, in the notation that is widely used for it: settings, window, priorities and the order of
//! pseudo-header fields, as `1:65536;4:6291456|15663105|0|m,a,s,p`. Read from the bytes themselves, of which the codec tells
//! nothing.
//!
//! Only frame headers and the first bytes of the first head are looked at. Nothing here panics on any input.

use std::fmt::Write;

use super::PREFACE;

/// What the first bytes of a connection tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The first head is not all there.
    Incomplete,
    /// How the client begins.
    Print(String),
    /// It begins in no way that has a print: without settings, without a head, or with too much before it.
    None,
}

/// Reads the opening of a connection.
pub fn read(bytes: &[u8]) -> Opening {
    let known = bytes.len().min(PREFACE.len());
    if bytes.get(..known) != PREFACE.get(..known) {
        return Opening::None;
    }
    let Some(mut rest) = bytes.get(PREFACE.len()..) else { return Opening::Incomplete };
    let mut seen = Seen::default();
    loop {
        let Some((frame, after)) = frame(rest) else {
            let more = bytes.len() < OPENING_BYTES_MAX;
            return if more { Opening::Incomplete } else { Opening::None };
        };
        rest = after;
        match seen.note(&frame) {
            None => return Opening::None,
            Some(false) => {}
            Some(true) => return Opening::Print(seen.print()),
        }
    }
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// The frame at the start of the bytes (RFC 9113 section 4.1), if it is all there.
fn frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (&[a, b, c, kind, flags, s0, s1, s2, s3], rest) = bytes.split_first_chunk::<9>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let stream = u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MASK;
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((Frame { kind, flags, stream, payload }, rest))
}

/// What was seen before the first head, and its pseudo-header fields.
#[derive(Default)]
struct Seen {
    settings: Option<String>,
    window: Option<u32>,
    priorities: Vec<String>,
    pseudo: String,
}

impl Seen {
    /// Takes note of a frame: true when it is the first head; `None` if the connection begins with something else.
    fn note(&mut self, frame: &Frame<'_>) -> Option<bool> {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 && self.settings.is_none() => {
                self.settings = Some(settings(frame.payload));
            }
            WINDOW_UPDATE if frame.stream == 0 && self.window.is_none() => {
                self.window = Some(u32::from_be_bytes(frame.payload.try_into().ok()?) & STREAM_MASK);
            }
            PRIORITY if self.priorities.len() < PRIORITIES_MAX => {
                let &[a, b, c, d, weight] = frame.payload.first_chunk::<5>()?;
                let depends_on = u32::from_be_bytes([a, b, c, d]);
                let (exclusive, depends_on) = (depends_on >> 31, depends_on & STREAM_MASK);
                let weight = u16::from(weight) + 1;
                self.priorities.push(format!("{}:{exclusive}:{depends_on}:{weight}", frame.stream));
            }
            HEADERS => {
                // Settings come first, or what follows is no HTTP/2.
                self.settings.as_ref()?;
                self.pseudo = pseudo_order(block(frame)?);
                return Some(true);
            }
            _ => {}
        }
        Some(false)
    }

    fn print(&self) -> String {
        let settings = self.settings.as_deref().unwrap_or_default();
        let window = self.window.map_or_else(|| "00".to_owned(), |window| window.to_string());
        let priorities = if self.priorities.is_empty() { "0".to_owned() } else { self.priorities.join(",") };
        format!("{settings}|{window}|{priorities}|{}", self.pseudo)
    }
}

fn settings(payload: &[u8]) -> String {
    let mut text = String::new();
    for setting in payload.chunks_exact(6).take(SETTINGS_MAX) {
        let &[id0, id1, a, b, c, d] = setting else { continue };
        let semicolon = if text.is_empty() { "" } else { ";" };
        let (id, value) = (u16::from_be_bytes([id0, id1]), u32::from_be_bytes([a, b, c, d]));
        // Writing to a string cannot fail.
        let _ = write!(text, "{semicolon}{id}:{value}");
    }
    text
}

/// The part of a head that its first frame carries, without padding and priority (RFC 9113 section 6.2).
fn block<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    let mut block = frame.payload;
    if frame.flags & PADDED != 0 {
        let (&padding, rest) = block.split_first()?;
        block = rest.get(..rest.len().checked_sub(usize::from(padding))?)?;
    }
    if frame.flags & PRIORITIZED != 0 {
        block = block.get(5..)?;
    }
    Some(block)
}

/// The pseudo-header fields at the start of a connection's first head, in order, by their first letters; `?` for one whose
/// name is written out. They come before all others (RFC 9113 section 8.3), and the table of what was sent before is empty, so that
/// nothing needs to be decoded but lengths and places in the static table (RFC 7541).
fn pseudo_order(block: &[u8]) -> String {
    let mut order = String::new();
    let mut block = Block(block);
    for _ in 0..PSEUDO_MAX {
        let Some(letter) = block.pseudo_header() else { break };
        if !order.is_empty() {
            order.push(',');
        }
        order.push(letter);
    }
    order
}

struct Block<'a>(&'a [u8]);

impl Block<'_> {
    /// Takes one field off the front; `None` for an ordinary one, or what cannot be read.
    fn pseudo_header(&mut self) -> Option<char> {
        loop {
            let &first = self.0.first()?;
            // RFC 7541 section 6: how a field is written shows in its first bits.
            let (place, has_value) = match first {
                0x80.. => (self.number(7)?, false),
                0x40..=0x7f => (self.number(6)?, true),
                0x20..=0x3f => {
                    self.number(5)?;
                    continue;
                }
                _ => (self.number(4)?, true),
            };
            let letter = match place {
                0 => self.written_name()?,
                1 => 'a',
                2 | 3 => 'm',
                4 | 5 => 'p',
                6 | 7 => 's',
                _ => return None,
            };
            if has_value {
                self.string()?;
            }
            return Some(letter);
        }
    }

    fn written_name(&mut self) -> Option<char> {
        let (name, compressed) = self.string()?;
        // A colon is `:`, or 1011100 in Huffman's code.
        let colon = match name.first() {
            Some(byte) if compressed => byte >> 1 == 0b101_1100,
            Some(byte) => *byte == b':',
            None => false,
        };
        colon.then_some('?')
    }

    fn string(&mut self) -> Option<(&[u8], bool)> {
        let compressed = *self.0.first()? & 0x80 != 0;
        let length = self.number(7)?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((string, compressed))
    }

    /// A number whose first bits are in the rest of a byte (RFC 7541 section 5.1).
    fn number(&mut self, bits: u32) -> Option<usize> {
        let (&first, mut rest) = self.0.split_first()?;
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(first) & most;
        if number == most {
            // Two more bytes make numbers beyond any that are looked at here.
            for shift in [0, 7, 14] {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                number += usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    self.0 = rest;
                    return Some(number);
                }
            }
            return None;
        }
        self.0 = rest;
        Some(number)
    }
}

/// What is read of a connection for its print: browsers send some hundred bytes before their first head, and heads have a few thousand.
pub(super) const OPENING_BYTES_MAX: usize = 16 * 1024;
const SETTINGS_MAX: usize = 16;
const PRIORITIES_MAX: usize = 16;
const PSEUDO_MAX: usize = 8;

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const PRIORITIZED: u8 = 0x20;
const STREAM_MASK: u32 = 0x7fff_ffff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn setting(id: u16, value: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
    }

    fn print(frames: &[Vec<u8>]) -> Opening {
        let bytes = [PREFACE, &frames.concat()].concat();
        let last = frames.last().map_or(0, Vec::len);
        for end in 0..bytes.len() - last + 1 {
            assert_eq!(read(&bytes[..end]), Opening::Incomplete, "{end}");
        }
        read(&bytes)
    }

    #[test]
    fn a_browsers_opening_is_written_as_others_write_it() {
        let settings =
            [setting(1, 65_536), setting(2, 0), setting(4, 6_291_456), setting(6, 262_144)].concat();
        // :method GET, :authority with a value, :scheme https, :path with a value, a header field.
        let head =
            [&[0, 0, 0, 0, 255][..], &[0x82, 0x41, 0x01, b'a', 0x87, 0x04, 0x02, b'/', b'x', 0x90]].concat();
        let frames = [
            frame_of(SETTINGS, 0, 0, &settings),
            frame_of(WINDOW_UPDATE, 0, 0, &15_663_105_u32.to_be_bytes()),
            frame_of(HEADERS, 0x25, 1, &head),
        ];
        assert_eq!(
            print(&frames),
            Opening::Print("1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p".to_owned())
        );
    }

    #[test]
    fn priorities_and_other_orders_are_told() {
        let frames = [
            frame_of(SETTINGS, 0, 0, &setting(4, 131_072)),
            frame_of(PRIORITY, 0, 3, &[0, 0, 0, 0, 200]),
            frame_of(PRIORITY, 0, 5, &[0x80, 0, 0, 3, 0]),
            // Padded, with a change of the table's size, and a name that is written out.
            frame_of(
                HEADERS,
                0x0c,
                15,
                &[2, 0x3f, 0xe1, 0x1f, 0x82, 0x84, 0x00, 2, b':', b'x', 0, 0x86, 0, 0],
            ),
        ];
        let expected = "4:131072|00|3:0:0:201,5:1:3:1|m,p,?,s";
        assert_eq!(print(&frames), Opening::Print(expected.to_owned()));
    }

    #[test]
    fn what_is_no_opening_has_no_print() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Opening::None);
        let headers_first = [PREFACE, &frame_of(HEADERS, 4, 1, &[0x82])].concat();
        assert_eq!(read(&headers_first), Opening::None);
        let endless = [PREFACE, &frame_of(SETTINGS, 0, 0, &vec![0; OPENING_BYTES_MAX])].concat();
        assert_eq!(read(&endless), Opening::None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_print_or_none(bytes: Vec<u8>, kind in 0u8..9) {
            let settings = frame_of(SETTINGS, 0, 0, &setting(4, 1));
            let _ = read(&[PREFACE, &settings, &bytes].concat());
            let _ = read(&[PREFACE, &settings, &frame_of(kind, 0x2d, 1, &bytes)].concat());
        }
    }
}
