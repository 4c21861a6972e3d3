//! HTML character references.

use super::{at, begin, from, hex};

/// `&#xHH;`, `&#DD;` and the five names that matter; the semicolon may be missing. Others stay.
pub(super) fn html(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr(b'&', input) else { return false };
    begin(input, first, out);
    let mut rest = from(input, first);
    loop {
        let next = memchr::memchr(b'&', rest).unwrap_or(rest.len());
        let (plain, reference) = rest.split_at_checked(next).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some(after) = reference.get(1..) else { return true };
        let (decoded, used) = match at(after, 0) {
            Some(b'#') => match at(after, 1) {
                Some(b'x' | b'X') => number(after, 2, 16),
                _ => number(after, 1, 10),
            },
            _ => name(after),
        };
        out.push(decoded.unwrap_or(b'&'));
        let semicolon = usize::from(decoded.is_some() && at(after, used) == Some(b';'));
        rest = from(after, used + semicolon);
    }
}

/// A number of any length, its low byte, and where it ends. Beyond 63 bits C's `strtol` saturates.
fn number(after: &[u8], start: usize, radix: u8) -> (Option<u8>, usize) {
    let mut value = 0i64;
    let mut end = start;
    while let Some(digit) = at(after, end).and_then(hex).filter(|&digit| digit < radix) {
        value = value
            .checked_mul(i64::from(radix))
            .and_then(|v| v.checked_add(i64::from(digit)))
            .unwrap_or(i64::MAX);
        end += 1;
    }
    if end == start { (None, 0) } else { (Some(value.to_le_bytes()[0]), end) }
}

/// One of the names that browsers also know without a semicolon, whatever letters follow it: `&ltscript` is `<script`.
fn name(after: &[u8]) -> (Option<u8>, usize) {
    const NAMES: [(&[u8], u8); 5] =
        [(b"quot", b'"'), (b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"nbsp", 0xa0)];
    let starts = |name: &[u8]| after.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
    match NAMES.iter().find(|(name, _)| starts(name)) {
        Some(&(name, decoded)) => (Some(decoded), name.len()),
        None => (None, 0),
    }
}
