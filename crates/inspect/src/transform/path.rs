//! Path normalisation: multiple slashes, self references, back references.

use super::{at, from};

/// `normalisePath`, and with `windows` backslashes count as slashes.
///
/// A port of ModSecurity's state machine, with its treatment of `name..` as a back reference and of references above
/// a relative root, so that rules tuned to it see the same paths.
pub(super) fn normalise(input: &[u8], windows: bool, out: &mut Vec<u8>) -> bool {
    // Only a segment that ends in a dot, an empty segment or a backslash can change anything.
    let candidate = input.last() == Some(&b'.')
        || (windows && memchr::memchr(b'\\', input).is_some())
        || memchr::memchr_iter(b'/', input).any(|i| {
            at(input, i + 1) == Some(b'/') || i.checked_sub(1).and_then(|i| at(input, i)) == Some(b'.')
        });
    if !candidate {
        return false;
    }
    let slash = |byte: u8| if windows && byte == b'\\' { b'/' } else { byte };
    let source: &mut dyn Iterator<Item = u8> = &mut input.iter().map(|&byte| slash(byte));
    let bytes: Vec<u8> = if windows { source.collect() } else { Vec::new() };
    let source = if windows { bytes.as_slice() } else { input };
    out.reserve(source.len());
    Machine { source, out, index: 0, hit_root: false, relative: at(source, 0) != Some(b'/') }.run();
    if source.last() != Some(&b'/') && out.last() == Some(&b'/') {
        out.pop();
    }
    true
}

struct Machine<'a> {
    source: &'a [u8],
    out: &'a mut Vec<u8>,
    index: usize,
    /// The last segment was a reference above the root: the next one is kept too.
    hit_root: bool,
    relative: bool,
}

impl Machine<'_> {
    fn run(&mut self) {
        while let Some(byte) = at(self.source, self.index) {
            let next = at(self.source, self.index + 1);
            let segment_ends = next.is_none_or(|next| next == b'/');
            if segment_ends && !(next.is_some() && byte == b'/') && !self.end_segment(byte, next.is_none()) {
                return;
            }
            self.copy();
        }
    }

    /// At the last byte of a segment. False: that was the end of the path.
    fn end_segment(&mut self, byte: u8, last: bool) -> bool {
        if byte != b'.' {
            self.hit_root &= self.out.is_empty();
            return true;
        }
        match self.out.last() {
            Some(b'.') => {
                if self.relative && (self.hit_root || self.out.len() <= 2) {
                    self.hit_root = true;
                    return true;
                }
                self.remove_segment(last);
            }
            None => {}
            Some(b'/') if !last => {
                self.out.pop();
            }
            Some(b'/') => {}
            Some(_) => return true,
        }
        self.index += 1;
        !last
    }

    /// Takes back `name/.` from the output; the slash before it is written again by the copy that follows.
    fn remove_segment(&mut self, last: bool) {
        let cut = self.out.len().checked_sub(3);
        let parent = cut.and_then(|cut| self.out.get(..=cut)).and_then(|kept| memchr::memrchr(b'/', kept));
        let root = at(self.source, 0);
        self.out.truncate(parent.unwrap_or(0));
        if self.out.is_empty() {
            self.hit_root = true;
            if !self.relative && last {
                self.out.extend(root);
            }
        }
    }

    /// Copies one byte; of several slashes the last, and none to the front of a relative path.
    fn copy(&mut self) {
        if at(self.source, self.index) == Some(b'/') {
            let slashes = from(self.source, self.index).iter().take_while(|&&byte| byte == b'/').count();
            self.index += slashes - 1;
            if self.relative && self.out.is_empty() {
                self.index += 1;
                return;
            }
        }
        self.out.extend(at(self.source, self.index));
        self.index += 1;
    }
}
