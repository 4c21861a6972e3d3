//! Comments of SQL, C, HTML and shell.

use super::{at, begin, from};

/// Comments are removed; `--` and `#` end the value. As in ModSecurity the byte after the end of a comment is taken
/// unseen, and is a NUL byte when there is none.
pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) -> bool {
    let opens = |index: usize| {
        let rest = from(input, index);
        rest.starts_with(b"/*")
            || rest.starts_with(b"<!--")
            || rest.starts_with(b"--")
            || rest.starts_with(b"#")
    };
    let Some(first) = (0..input.len()).find(|&index| is_mark(input, index) && opens(index)) else {
        return false;
    };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        let rest = from(input, index);
        let skip = if rest.starts_with(b"/*") {
            2
        } else if rest.starts_with(b"<!--") {
            4
        } else if byte == b'#' || rest.starts_with(b"--") {
            return true;
        } else {
            out.push(byte);
            index += 1;
            continue;
        };
        match comment_end(input, index + skip) {
            Some(end) => {
                out.push(at(input, end).unwrap_or(0));
                index = end + 1;
            }
            None => {
                out.push(b' ');
                return true;
            }
        }
    }
    true
}

/// Where a comment whose text starts at `index` is over: either closing mark closes either kind.
fn comment_end(input: &[u8], mut index: usize) -> Option<usize> {
    loop {
        let rest = from(input, index);
        index += memchr::memchr2(b'*', b'-', rest)?;
        let rest = from(input, index);
        if rest.starts_with(b"*/") {
            return Some(index + 2);
        }
        if rest.starts_with(b"-->") {
            return Some(index + 3);
        }
        index += 1;
    }
}

fn is_mark(input: &[u8], index: usize) -> bool {
    matches!(at(input, index), Some(b'/' | b'<' | b'-' | b'#'))
}

/// The marks of comments are removed, their text stays.
pub(super) fn remove_marks(input: &[u8], out: &mut Vec<u8>) -> bool {
    const MARKS: [&[u8]; 6] = [b"/*", b"*/", b"<!--", b"-->", b"--", b"#"];
    let mark =
        |index: usize| MARKS.iter().find(|mark| from(input, index).starts_with(mark)).map(|mark| mark.len());
    let candidate = |byte: u8| matches!(byte, b'/' | b'*' | b'<' | b'-' | b'#');
    let Some(first) = (0..input.len()).find(|&i| at(input, i).is_some_and(candidate) && mark(i).is_some())
    else {
        return false;
    };
    begin(input, first, out);
    let mut index = first;
    while let Some(byte) = at(input, index) {
        match Some(byte).filter(|&byte| candidate(byte)).and_then(|_| mark(index)) {
            Some(length) => index += length,
            None => {
                out.push(byte);
                index += 1;
            }
        }
    }
    true
}

/// Each C comment becomes one space, also one that has no end.
pub(super) fn replace(input: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = input;
    let mut found = false;
    while let Some(start) = memchr::memmem::find(rest, b"/*") {
        if !found {
            out.reserve(input.len());
            found = true;
        }
        out.extend_from_slice(super::before(rest, start));
        out.push(b' ');
        let text = from(rest, start + 2);
        rest = memchr::memmem::find(text, b"*/").map_or(&[], |end| from(text, end + 2));
    }
    out.extend_from_slice(if found { rest } else { &[] });
    found
}
