//! Backslash escapes of C, JavaScript and CSS.

use super::{at, begin, fold_code_point, from, hex, hex_pair, hex_quad, is_space};

/// ANSI C escapes; an unknown one loses its backslash, a backslash at the end stays.
pub(super) fn ansi_c(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr(b'\\', input) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        index += 1;
        let Some(next) = at(input, index).filter(|_| byte == b'\\') else {
            out.push(byte);
            continue;
        };
        let (decoded, used) = match next {
            b'x' | b'X' => match hex_pair(input, index + 1) {
                Some(decoded) => (decoded, 3),
                None => (next, 1),
            },
            b'0'..=b'7' => octal(from(input, index), 3),
            _ => (control_letter(next), 1),
        };
        out.push(decoded);
        index += used;
    }
    true
}

/// JavaScript escapes: `\uHHHH` (low byte, full-width forms folded), `\xHH`, octal, letters.
pub(super) fn javascript(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr(b'\\', input) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        index += 1;
        let Some(next) = at(input, index).filter(|_| byte == b'\\') else {
            out.push(byte);
            continue;
        };
        let (decoded, used) = match next {
            b'u' => match hex_quad(input, index + 1) {
                Some(code) => (fold_code_point(code), 5),
                None => (next, 1),
            },
            b'x' => match hex_pair(input, index + 1) {
                Some(decoded) => (decoded, 3),
                None => (next, 1),
            },
            // A first digit above 3 leaves room for two digits only: the value must fit a byte.
            b'0'..=b'3' => octal(from(input, index), 3),
            b'4'..=b'7' => octal(from(input, index), 2),
            _ => (control_letter(next), 1),
        };
        out.push(decoded);
        index += used;
    }
    true
}

/// Up to `digits_max` octal digits: their value modulo 256 and how many there were.
fn octal(input: &[u8], digits_max: usize) -> (u8, usize) {
    let digits = input.iter().take(digits_max).take_while(|byte| matches!(byte, b'0'..=b'7'));
    digits
        .fold((0u8, 0), |(value, count), digit| (value.wrapping_mul(8).wrapping_add(digit - b'0'), count + 1))
}

fn control_letter(letter: u8) -> u8 {
    match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        other => other,
    }
}

/// CSS escapes: one to six hexadecimal digits and one white space after them, an escaped line feed, any other byte.
pub(super) fn css(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr::memchr(b'\\', input) else { return false };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        index += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        // A backslash at the very end is dropped.
        let Some(next) = at(input, index) else { break };
        let digits = from(input, index).iter().take(6).map_while(|&digit| hex(digit));
        let (code, count) =
            digits.fold((0u32, 0usize), |(code, n), digit| (code << 4 | u32::from(digit), n + 1));
        if count > 0 {
            // Fewer than four digits cannot name a full-width form; more than 16 bits are no such form either.
            let folded = u16::try_from(code).ok().map_or_else(|| code.to_be_bytes()[3], fold_code_point);
            out.push(folded);
            index += count;
            if at(input, index).is_some_and(is_space) {
                index += 1;
            }
        } else {
            if next != b'\n' {
                out.push(next);
            }
            index += 1;
        }
    }
    true
}
