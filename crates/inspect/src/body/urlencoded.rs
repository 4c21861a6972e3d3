//! `application/x-www-form-urlencoded`, query strings, and the `Cookie` field.

use super::{BodyLimits, BodyParts, Slice, narrow};

/// Parses pairs that the separator divides. A piece without `=` is a name; an empty piece is none. Escapes that are
/// not valid stay as they are and set the flag.
pub fn urlencoded(body: &[u8], separator: u8, limits: &BodyLimits, parts: &mut BodyParts) {
    for (start, end) in pieces(body, separator) {
        let (name, value) = pair(body, start, end);
        let name = decoded(body, name, parts);
        let value = value.map_or(Slice::EMPTY, |value| decoded(body, value, parts));
        if !parts.add(name, value, limits) {
            return;
        }
    }
}

/// Parses a `Cookie` field: nothing is decoded, white space before a name is left out.
pub fn cookies(field: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    for (start, end) in pieces(field, b';') {
        let text = field.get(start..end).unwrap_or_default();
        let start = end - text.trim_ascii_start().len();
        if start == end {
            continue;
        }
        let ((from, to), value) = pair(field, start, end);
        let value = value.map_or(Slice::EMPTY, |(from, to)| Slice::body(from, to));
        if !parts.add(Slice::body(from, to), value, limits) {
            return;
        }
    }
}

/// The ranges between separators that are not empty.
fn pieces(body: &[u8], separator: u8) -> impl Iterator<Item = (usize, usize)> {
    let ends = memchr::memchr_iter(separator, body).chain(std::iter::once(body.len()));
    let mut start = 0;
    ends.filter_map(move |end| {
        let piece = (start, end);
        start = end + 1;
        (piece.0 < piece.1).then_some(piece)
    })
}

/// Name and value, divided by the first equals sign.
fn pair(body: &[u8], start: usize, end: usize) -> ((usize, usize), Option<(usize, usize)>) {
    match memchr::memchr(b'=', body.get(start..end).unwrap_or_default()) {
        Some(length) => ((start, start + length), Some((start + length + 1, end))),
        None => ((start, end), None),
    }
}

/// Bytes without their `%HH` escapes; a plus sign stays.
pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&b| char::from(b).to_digit(16));
        if first == b'%'
            && let (Some(high), Some(low)) = (digit(0), digit(1))
        {
            out.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}

fn decoded(body: &[u8], (start, end): (usize, usize), parts: &mut BodyParts) -> Slice {
    let text = body.get(start..end).unwrap_or_default();
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Slice::body(start, end);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let from = parts.arena.len();
    let mut index = 0;
    while let Some(&byte) = text.get(index) {
        index += 1;
        parts.arena.push(match byte {
            b'+' => b' ',
            b'%' => match hex(text.get(index)).zip(hex(text.get(index + 1))) {
                Some((high, low)) => {
                    index += 2;
                    (high << 4 | low).to_le_bytes()[0]
                }
                None => {
                    parts.urlencoded_error = true;
                    byte
                }
            },
            _ => byte,
        });
    }
    Slice::Arena { start: narrow(from), end: narrow(parts.arena.len()) }
}
