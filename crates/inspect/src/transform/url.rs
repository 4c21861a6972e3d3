//! Percent encoding.

use super::{UnicodeMap, at, begin, fold_code_point, from, hex_pair, hex_quad, push_hex};

/// `%HH` and `+`. What is not a valid escape stays.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr2(b'%', b'+', input) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        index += 1;
        out.push(match byte {
            b'+' => b' ',
            b'%' => match hex_pair(input, index) {
                Some(decoded) => {
                    index += 2;
                    decoded
                }
                None => byte,
            },
            _ => byte,
        });
    }
    true
}

/// As [`decode`], and IIS's `%uHHHH`: by the map where it knows the code point, else the low byte.
pub(super) fn decode_unicode(input: &[u8], map: &UnicodeMap, out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr2(b'%', b'+', input) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        index += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => index += percent(from(input, index), map, out),
            _ => out.push(byte),
        }
    }
    true
}

/// Decodes what follows a percent sign; gives how many bytes of it were used.
fn percent(rest: &[u8], map: &UnicodeMap, out: &mut Vec<u8>) -> usize {
    if let Some(mark @ (b'u' | b'U')) = at(rest, 0) {
        if let Some(code) = hex_quad(rest, 1) {
            out.push(map.lookup(code).unwrap_or_else(|| fold_code_point(code)));
            return 5;
        }
        out.extend_from_slice(&[b'%', mark]);
        return 1;
    }
    match hex_pair(rest, 0) {
        Some(decoded) => {
            out.push(decoded);
            2
        }
        None => {
            out.push(b'%');
            0
        }
    }
}

/// Everything but letters, digits and `*` becomes `%hh`, space becomes `+`.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'*';
    let Some(first) = input.iter().position(|&byte| !plain(byte)) else { return false };
    begin(input, first, out);
    for &byte in from(input, first) {
        if plain(byte) {
            out.push(byte);
        } else if byte == b' ' {
            out.push(b'+');
        } else {
            out.push(b'%');
            push_hex(byte, out);
        }
    }
    true
}
