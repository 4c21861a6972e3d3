//! Case, white space, NUL bytes, length.

use phalanx_model::text::push_decimal;

use super::{before, begin, from, is_space, keep};

pub(super) fn lowercase(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = input.iter().position(u8::is_ascii_uppercase) else { return false };
    begin(input, first, out);
    out.extend(from(input, first).iter().map(u8::to_ascii_lowercase));
    true
}

pub(super) fn uppercase(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = input.iter().position(u8::is_ascii_lowercase) else { return false };
    begin(input, first, out);
    out.extend(from(input, first).iter().map(u8::to_ascii_uppercase));
    true
}

/// Runs of white space become one space.
pub(super) fn compress_whitespace(input: &[u8], out: &mut Vec<u8>) -> bool {
    let follows = |index: usize| input.get(index + 1).is_some_and(|&next| is_space(next));
    let Some(first) = input
        .iter()
        .enumerate()
        .position(|(index, &byte)| is_space(byte) && (byte != b' ' || follows(index)))
    else {
        return false;
    };
    begin(input, first, out);
    let mut in_space = false;
    keep(from(input, first), out, |byte| {
        let space = is_space(byte);
        let kept = !(space && in_space);
        in_space = space;
        (if space { b' ' } else { byte }, kept)
    });
    true
}

/// White space for `removeWhitespace`: also the two bytes of a UTF-8 no-break space, each by itself.
pub(super) fn is_removable_space(byte: u8) -> bool {
    is_space(byte) || byte == 0xa0 || byte == 0xc2
}

/// Removes the bytes that `unwanted` names.
pub(super) fn remove(input: &[u8], unwanted: impl Fn(u8) -> bool, out: &mut Vec<u8>) -> bool {
    let Some(first) = input.iter().position(|&byte| unwanted(byte)) else { return false };
    begin(input, first, out);
    keep(from(input, first), out, |byte| (byte, !unwanted(byte)));
    true
}

pub(super) fn replace_nulls(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr(0, input) else { return false };
    begin(input, first, out);
    out.extend(from(input, first).iter().map(|&byte| if byte == 0 { b' ' } else { byte }));
    true
}

pub(super) fn trim(input: &[u8], left: bool, right: bool, out: &mut Vec<u8>) -> bool {
    let mut kept = input;
    if left {
        let start = kept.iter().position(|&byte| !is_space(byte)).unwrap_or(kept.len());
        kept = from(kept, start);
    }
    if right {
        let end = kept.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
        kept = before(kept, end);
    }
    if kept.len() == input.len() {
        return false;
    }
    out.extend_from_slice(kept);
    true
}

/// The value's length in bytes, as decimal digits.
pub(super) fn length(input: &[u8], out: &mut Vec<u8>) -> bool {
    push_decimal(out, input.len() as u64);
    true
}
