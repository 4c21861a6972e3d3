//! Base64, hexadecimal, parity and digests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

use super::{at, begin, from, hex_pair, push_hex};

/// Standard base64. Line ends are skipped; what precedes the first other foreign byte is decoded. A value that starts with
/// no base64 stays as it is, so that rules can still see it.
pub(super) fn base64_decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let value = |byte: u8| match byte {
        b'-' | b'_' => None,
        _ => base64_value(byte),
    };
    let digits = input.iter().filter(|&&byte| byte != b'\r' && byte != b'\n').map_while(|&byte| value(byte));
    base64_groups(digits, out);
    !out.is_empty()
}

/// Base64 of either alphabet; foreign bytes are skipped. Padding after the first digit of a group spoils all.
pub(super) fn base64_decode_forgiving(input: &[u8], out: &mut Vec<u8>) -> bool {
    let mut digits = 0usize;
    for (index, &byte) in input.iter().enumerate() {
        if byte == b'=' && digits % 4 == 1 && at(input, index + 1) != Some(b'=') {
            return true;
        }
        digits += usize::from(base64_value(byte).is_some());
    }
    base64_groups(input.iter().filter_map(|&byte| base64_value(byte)), out);
    !input.is_empty()
}

fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Whole bytes of six-bit digits; bits left over are dropped.
fn base64_groups(digits: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0u16, 0u32);
    for digit in digits {
        held = held << 6 | u16::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits).to_le_bytes()[0]);
            held &= (1 << bits) - 1;
        }
    }
}

pub(super) fn base64_encode(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(STANDARD.encode(input).as_bytes());
    true
}

/// Pairs of digits to bytes. Foreign bytes are not refused but give what C arithmetic gives; an odd last one is lost.
pub(super) fn hex_decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let digit = |byte: u8| match byte {
        b'A'.. => (byte & 0xdf).wrapping_sub(b'A').wrapping_add(10),
        _ => byte.wrapping_sub(b'0'),
    };
    let (pairs, _) = input.as_chunks::<2>();
    out.extend(pairs.iter().map(|&[high, low]| digit(high).wrapping_mul(16).wrapping_add(digit(low))));
    true
}

pub(super) fn hex_encode(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(input.len() * 2);
    for &byte in input {
        push_hex(byte, out);
    }
    true
}

/// SQL's `0x4142` literals to their bytes.
pub(super) fn sql_hex_decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let literal = |index: usize| {
        at(input, index) == Some(b'0')
            && matches!(at(input, index + 1), Some(b'x' | b'X'))
            && hex_pair(input, index + 2).is_some()
    };
    let Some(first) = memchr::memchr_iter(b'0', input).find(|&index| literal(index)) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        if !literal(index) {
            out.push(byte);
            index += 1;
            continue;
        }
        index += 2;
        while let Some(decoded) = hex_pair(input, index) {
            out.push(decoded);
            index += 2;
        }
    }
    true
}

/// What the eighth bit is set to.
#[derive(Clone, Copy)]
pub(super) enum Parity {
    Even,
    Odd,
    Zero,
}

pub(super) fn parity(input: &[u8], parity: Parity, out: &mut Vec<u8>) -> bool {
    let change = |&byte: &u8| {
        // ModSecurity counts all eight bits, not seven.
        let odd = byte.count_ones() % 2 == 1;
        let set = match parity {
            Parity::Even => odd,
            Parity::Odd => !odd,
            Parity::Zero => false,
        };
        if set { byte | 0x80 } else { byte & 0x7f }
    };
    let Some(first) = input.iter().position(|byte| change(byte) != *byte) else { return false };
    begin(input, first, out);
    out.extend(from(input, first).iter().map(change));
    true
}

/// The digest's 16 bytes.
pub(super) fn md5(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&md5::Md5::digest(input));
    true
}

/// The digest's 20 bytes.
pub(super) fn sha1(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&sha1::Sha1::digest(input));
    true
}
