//! Leaf tests of operators: bytes in, an answer out. "Violates" functions are true where the operator matches, which
//! is when the value is not valid.
//!
//! INVARIANT: pure, linear in the value, except [`verify`], which is linear in the value for each candidate.

use crate::pattern::{LimitExceeded, Pattern};

mod identity;
mod schema;

pub use identity::{is_cpf, is_credit_card, is_ssn, is_svnr};
pub use schema::JsonSchema;

/// `@beginsWith`
pub fn begins_with(input: &[u8], param: &[u8]) -> bool {
    input.starts_with(param)
}

/// `@endsWith`
pub fn ends_with(input: &[u8], param: &[u8]) -> bool {
    input.ends_with(param)
}

/// `@contains`, `@strmatch`
pub fn contains(input: &[u8], param: &[u8]) -> bool {
    position(input, param).is_some()
}

/// `@containsWord`: the parameter with no ASCII letter on either side of it.
pub fn contains_word(input: &[u8], param: &[u8]) -> bool {
    if param.is_empty() {
        return true;
    }
    let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
    let mut start = 0;
    while let Some(found) = input.get(start..).and_then(|rest| position(rest, param)) {
        let at = start + found;
        let before = at.checked_sub(1).and_then(|before| input.get(before));
        if !is_letter(before) && !is_letter(input.get(at + param.len())) {
            return true;
        }
        start = at + 1;
    }
    false
}

/// `@streq`
pub fn streq(input: &[u8], param: &[u8]) -> bool {
    input == param
}

/// `@within`: the value occurs in the parameter.
pub fn within(input: &[u8], param: &[u8]) -> bool {
    position(param, input).is_some()
}

/// Where a text occurs first. Preparing a fast search costs more than a plain one of a short text.
fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    if text.len() > SHORT_TEXT_BYTES {
        return memchr::memmem::find(text, part);
    }
    // In lists of words what divides them is everywhere (`|get|post|`), so a letter is looked for.
    let letter = part.iter().position(u8::is_ascii_alphanumeric).unwrap_or_default();
    let Some(byte) = part.get(letter) else { return Some(0) };
    memchr::memchr_iter(*byte, text.get(letter..)?)
        .find(|&at| text.get(at..).is_some_and(|tail| tail.starts_with(part)))
}

const SHORT_TEXT_BYTES: usize = 512;

/// The integer that `@eq`, `@lt` and their kind compare: what C's `strtol` reads, saturating; 0 where there is none.
pub fn number(input: &[u8]) -> i64 {
    // C's `isspace`: Rust's ASCII white space has no vertical tab.
    let spaces = input.iter().take_while(|byte| matches!(byte, b'\t'..=b'\r' | b' ')).count();
    let text = input.get(spaces..).unwrap_or_default();
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0i64, |value, digit| {
        let digit = i64::from(digit - b'0');
        let value = value.saturating_mul(10);
        if negative { value.saturating_sub(digit) } else { value.saturating_add(digit) }
    })
}

/// `@validateByteRange`: some byte is outside of `allowed` (one bit per byte).
pub fn violates_byte_range(input: &[u8], allowed: &[u64; 4]) -> bool {
    let is_allowed =
        |byte: u8| allowed.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1);
    !input.iter().all(|&byte| is_allowed(byte))
}

/// `@validateUrlEncoding`: some percent sign is not followed by two hexadecimal digits.
pub fn violates_url_encoding(input: &[u8]) -> bool {
    memchr::memchr_iter(b'%', input).any(|at| {
        let digits = input.get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// `@validateUtf8Encoding`: incomplete, overlong, surrogate or out of range.
pub fn violates_utf8(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_err()
}

/// `@verifyCC`, `@verifyCPF`, `@verifySSN`, `@verifySVNR`: the first match of the pattern that passes the check.
/// Matches may overlap: one is looked for from each place on.
pub fn verify(
    input: &[u8],
    candidates: &Pattern,
    check: fn(&[u8]) -> bool,
) -> Result<Option<(usize, usize)>, LimitExceeded> {
    let mut start = 0;
    while start < input.len() {
        let Some((from, to)) = candidates.find_at(input, start)? else { return Ok(None) };
        if input.get(from..to).is_some_and(check) {
            return Ok(Some((from, to)));
        }
        start = from + 1;
    }
    Ok(None)
}
