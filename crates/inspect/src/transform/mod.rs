//! Transformations: one function per SecLang name, bytes in, bytes out, as ModSecurity v3 defines them.
//!
//! Every function first looks for the first byte that it could change; most values have none, and then nothing is
//! copied. Each is linear in its input and never makes more than six bytes of one.
//!
//! INVARIANT: pure; no state between calls; any bytes are accepted.

use phalanx_policy::seclang::ir::Transformation;

mod codec;
mod command;
mod comments;
mod entity;
mod escapes;
mod path;
mod php;
mod text;
mod unicode_map;
mod url;
mod utf8;

pub use unicode_map::UnicodeMap;

/// Applies one transformation. `true`: `out` holds the new value, which differs from `input`; what it held before is
/// gone. `false`: the value stays as it is and `out` has no meaning.
pub fn apply(t: Transformation, input: &[u8], unicode_map: &UnicodeMap, out: &mut Vec<u8>) -> bool {
    out.clear();
    let written = match t {
        Transformation::Base64Decode => codec::base64_decode(input, out),
        Transformation::Base64DecodeExt => codec::base64_decode_forgiving(input, out),
        Transformation::Base64Encode => codec::base64_encode(input, out),
        Transformation::CmdLine => command::command_line(input, out),
        Transformation::CompressWhitespace => text::compress_whitespace(input, out),
        Transformation::CssDecode => escapes::css(input, out),
        Transformation::EscapeSeqDecode => escapes::ansi_c(input, out),
        Transformation::HexDecode => codec::hex_decode(input, out),
        Transformation::HexEncode => codec::hex_encode(input, out),
        Transformation::HtmlEntityDecode => entity::html(input, out),
        Transformation::JsDecode => escapes::javascript(input, out),
        Transformation::Length => text::length(input, out),
        Transformation::Lowercase => text::lowercase(input, out),
        Transformation::Md5 => codec::md5(input, out),
        Transformation::NormalisePath => path::normalise(input, false, out),
        Transformation::NormalisePathWin => path::normalise(input, true, out),
        Transformation::ParityEven7bit => codec::parity(input, codec::Parity::Even, out),
        Transformation::ParityOdd7bit => codec::parity(input, codec::Parity::Odd, out),
        Transformation::ParityZero7bit => codec::parity(input, codec::Parity::Zero, out),
        Transformation::PhpArgsNames => php::args_names(input, out),
        Transformation::RemoveComments => comments::remove(input, out),
        Transformation::RemoveCommentsChar => comments::remove_marks(input, out),
        Transformation::RemoveNulls => text::remove(input, |byte| byte == 0, out),
        Transformation::RemoveWhitespace => text::remove(input, text::is_removable_space, out),
        Transformation::ReplaceComments => comments::replace(input, out),
        Transformation::ReplaceNulls => text::replace_nulls(input, out),
        Transformation::Sha1 => codec::sha1(input, out),
        Transformation::SqlHexDecode => codec::sql_hex_decode(input, out),
        Transformation::Trim => text::trim(input, true, true, out),
        Transformation::TrimLeft => text::trim(input, true, false, out),
        Transformation::TrimRight => text::trim(input, false, true, out),
        Transformation::Uppercase => text::uppercase(input, out),
        Transformation::UrlDecode => url::decode(input, out),
        Transformation::UrlDecodeUni => url::decode_unicode(input, unicode_map, out),
        Transformation::UrlEncode => url::encode(input, out),
        Transformation::Utf8ToUnicode => utf8::to_unicode(input, out),
    };
    written && out.as_slice() != input
}

/// The byte at `index`.
fn at(input: &[u8], index: usize) -> Option<u8> {
    input.get(index).copied()
}

/// What follows from `index` on; nothing when that is past the end.
fn from(input: &[u8], index: usize) -> &[u8] {
    input.get(index..).unwrap_or_default()
}

/// What stands before `index`; all when that is past the end.
fn before(input: &[u8], index: usize) -> &[u8] {
    input.get(..index).unwrap_or(input)
}

/// Starts the output with what stands before `index`, with room for the rest.
fn begin(input: &[u8], index: usize, out: &mut Vec<u8>) {
    out.reserve(input.len());
    out.extend_from_slice(before(input, index));
}

/// Appends what `step` makes of each byte, where it says that the byte is kept. Room is made once, not for each byte.
#[inline]
fn keep(input: &[u8], out: &mut Vec<u8>, mut step: impl FnMut(u8) -> (u8, bool)) {
    let start = out.len();
    out.resize(start + input.len(), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let mut end = 0;
    for &byte in input {
        let (byte, kept) = step(byte);
        if let Some(place) = room.get_mut(end) {
            *place = byte;
        }
        end += usize::from(kept);
    }
    out.truncate(start + end);
}

/// The value of a hexadecimal digit.
fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The byte that two hexadecimal digits at `index` stand for.
fn hex_pair(input: &[u8], index: usize) -> Option<u8> {
    Some(hex(at(input, index)?)? << 4 | hex(at(input, index + 1)?)?)
}

/// The number that four hexadecimal digits at `index` stand for.
fn hex_quad(input: &[u8], index: usize) -> Option<u16> {
    Some(u16::from_be_bytes([hex_pair(input, index)?, hex_pair(input, index + 2)?]))
}

/// The low byte of a code point, with full-width forms (U+FF01 to U+FF5E) folded to ASCII.
fn fold_code_point(code: u16) -> u8 {
    let [high, low] = code.to_be_bytes();
    if high == 0xff && low > 0 && low < 0x5f { low + 0x20 } else { low }
}

/// C's `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two lower-case hexadecimal digits.
fn push_hex(byte: u8, out: &mut Vec<u8>) {
    for nibble in [byte >> 4, byte & 15] {
        out.extend(HEX_DIGITS.get(usize::from(nibble)));
    }
}
