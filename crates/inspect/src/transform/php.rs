//! How PHP reads the names of arguments.

use super::{at, from};

/// Leading spaces go, spaces and dots become `_`, and so does a `[` that is never closed; what follows the last index
/// of an array is cut off. A name that starts with `[` or `=` is no name at all.
pub(super) fn args_names(input: &[u8], out: &mut Vec<u8>) -> bool {
    if memchr::memchr3(b' ', b'.', b'[', input).is_none() && at(input, 0) != Some(b'=') {
        return false;
    }
    if matches!(at(input, 0), Some(b'[' | b'=')) {
        return true;
    }
    let mut index = input.iter().take_while(|&&byte| byte == b' ').count();
    let mut unclosed = false;
    while let Some(byte) = at(input, index) {
        match byte {
            b'[' if !unclosed => {
                if memchr::memchr(b']', from(input, index)).is_some() {
                    indices(from(input, index), out);
                    return true;
                }
                out.push(b'_');
                unclosed = true;
            }
            b' ' | b'.' if !unclosed => out.push(b'_'),
            _ => out.push(byte),
        }
        index += 1;
    }
    true
}

/// `[a][b]`: as long as one index follows another; an index of one space is empty.
fn indices(mut rest: &[u8], out: &mut Vec<u8>) {
    while let Some(close) =
        Some(rest).filter(|rest| rest.starts_with(b"[")).and_then(|r| memchr::memchr(b']', r))
    {
        let (index, after) = rest.split_at_checked(close + 1).unwrap_or((rest, &[]));
        out.extend_from_slice(if index == b"[ ]" { b"[]" } else { index });
        rest = after;
    }
}
