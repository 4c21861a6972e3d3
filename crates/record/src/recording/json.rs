//! Secrets within JSON: members whose names tell, with all that they hold, and texts within texts.

use std::ops::Range;

use super::mask::Masker;
use crate::redact::find;

/// Masks the members with secret names. False if the bytes are no JSON, as far as that is looked at; some of them may be masked then.
pub(super) fn mask(masker: &mut Masker<'_>, range: Range<usize>) -> bool {
    let mut open: Vec<Level> = Vec::new();
    // Whether the value to come belongs to a secret.
    let mut secret = false;
    let mut at = range.start + if masker.part(&range).starts_with(BOM) { BOM.len() } else { 0 };
    while let Some(&byte) = masker.part(&(at..range.end)).first() {
        let length = match byte {
            b'"' => {
                let Some(length) = string_length(masker.part(&(at..range.end))) else {
                    return false;
                };
                let content = at + 1..at + length - 1;
                match open.last_mut() {
                    Some(level) if level.awaits_name => {
                        level.awaits_name = false;
                        let name = unescaped(masker.part(&content));
                        secret = level.secret || masker.is_secret(&name);
                    }
                    _ if secret => masker.hide(content),
                    _ => text(masker, content),
                }
                length
            }
            b'{' | b'[' => {
                if open.len() >= DEPTH_MAX {
                    return false;
                }
                open.push(Level { secret, is_object: byte == b'{', awaits_name: byte == b'{' });
                1
            }
            b'}' | b']' => {
                let Some(closed) = open.pop() else { return false };
                if closed.is_object != (byte == b'}') {
                    return false;
                }
                1
            }
            b',' => {
                if let Some(level) = open.last_mut() {
                    level.awaits_name = level.is_object;
                    secret = level.secret;
                }
                1
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => 1,
            _ => {
                let rest = masker.part(&(at..range.end));
                let length =
                    rest.iter().position(|byte| b",}] \t\r\n\":{[".contains(byte)).unwrap_or(rest.len());
                if length == 0 || !is_literal(rest.get(..length).unwrap_or_default()) {
                    return false;
                }
                if secret {
                    masker.hide_number(at..at + length);
                }
                length
            }
        };
        at += length;
    }
    open.is_empty()
}

/// An object or array that is open.
struct Level {
    secret: bool,
    is_object: bool,
    awaits_name: bool,
}

/// A text that no name makes secret. If a secret shows in it only once it is unescaped, all of it goes.
fn text(masker: &mut Masker<'_>, content: Range<usize>) {
    if masker.part(&content).contains(&b'\\') {
        let plain = unescaped(masker.part(&content));
        let letters: String = plain.iter().map(|&b| if b.is_ascii() { char::from(b) } else { '?' }).collect();
        if !find(&letters).is_empty() {
            masker.hide(content);
        }
        return;
    }
    masker.shapes(content);
}

/// The length of the string at the start, with its quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, next)) = rest.split_first() {
        rest = next;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&kind, next)) = rest.split_first() else { break };
        rest = next;
        let code = (kind == b'u').then(|| rest.split_first_chunk::<4>()).flatten();
        let code = code.and_then(|(hex, after)| {
            let hex = std::str::from_utf8(hex).ok()?;
            Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?).unwrap_or('?'), after))
        });
        match code {
            Some((letter, after)) => {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            None => out.push(match kind {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => other,
            }),
        }
    }
    out
}

fn is_literal(text: &[u8]) -> bool {
    matches!(text, b"true" | b"false" | b"null")
        || text.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte))
}

/// A byte order mark in UTF-8, which some programs begin texts with.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";
/// Deeper is refused by the parsers of most rules, too.
const DEPTH_MAX: usize = 512;
