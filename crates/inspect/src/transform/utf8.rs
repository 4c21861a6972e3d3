//! UTF-8 to `%uHHHH`.

use super::{at, begin, from};

/// Every sequence of two to four bytes becomes `%u` and its code point; an overlong one and a surrogate keep their
/// first byte after it, so that rules can see them. NUL bytes before the last byte and lead bytes without their
/// continuation are dropped.
pub(super) fn to_unicode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = input.iter().position(|&byte| byte == 0 || byte >= 0x80) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        index += match byte {
            0 if index + 1 < input.len() => 1,
            0..=0x7f => {
                out.push(byte);
                1
            }
            0xc0..=0xdf => sequence(from(input, index), 2, 0x1f, 0x80, out),
            0xe0..=0xef => sequence(from(input, index), 3, 0x0f, 0x800, out),
            0xf0..=0xf7 => {
                if byte >= 0xf5 {
                    out.push(byte);
                }
                sequence(from(input, index), 4, 0x07, 0x10000, out)
            }
            _ => {
                out.push(byte);
                1
            }
        };
    }
    true
}

/// Decodes a sequence of `length` bytes; gives how many bytes were used.
fn sequence(input: &[u8], length: usize, mask: u8, least: u32, out: &mut Vec<u8>) -> usize {
    let Some((&lead, tail)) = input.get(..length).and_then(<[u8]>::split_first) else { return 1 };
    if tail.iter().any(|byte| byte & 0xc0 != 0x80) {
        return 1;
    }
    let code = tail.iter().fold(u32::from(lead & mask), |code, byte| code << 6 | u32::from(byte & 0x3f));
    out.extend_from_slice(b"%u");
    let digits = (32 - code.leading_zeros()).div_ceil(4).max(4);
    for place in (0..digits).rev() {
        let nibble = (code >> (place * 4)) & 15;
        out.extend(super::HEX_DIGITS.get(nibble as usize));
    }
    if (0xd800..=0xdfff).contains(&code) {
        out.push(lead);
    }
    if code < least {
        out.push(lead);
    }
    length
}
