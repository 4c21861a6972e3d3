//! Escapes that stand for bytes, and `[...]`.

use super::PatternError;
use super::byte_set::ByteSet;

/// `\d` and its kind.
pub(super) fn shorthand(letter: u8) -> Option<ByteSet> {
    let set = match letter.to_ascii_lowercase() {
        b'd' => ByteSet::range(b'0', b'9'),
        b'w' => word(),
        b's' => ByteSet::of(b"\t\n\x0b\x0c\r "),
        b'h' => ByteSet::of(b"\t \xa0"),
        b'v' => ByteSet::of(b"\n\x0b\x0c\r\x85"),
        b'n' if letter == b'N' => ByteSet::single(b'\n'),
        _ => return None,
    };
    Some(if letter.is_ascii_uppercase() { set.complement() } else { set })
}

fn word() -> ByteSet {
    ByteSet::of(b"_")
        .union(ByteSet::range(b'0', b'9'))
        .union(ByteSet::range(b'a', b'z'))
        .union(ByteSet::range(b'A', b'Z'))
}

/// The byte that an escape stands for; `index` is at the byte after the backslash. An escaped byte without a meaning
/// stands for itself.
pub(super) fn escaped_byte(pattern: &[u8], index: &mut usize) -> Result<u8, PatternError> {
    let fail = |offset: usize, message: &str| Err(PatternError { message: message.to_owned(), offset });
    let Some(&letter) = pattern.get(*index) else {
        return fail(*index, "backslash at the end of the pattern");
    };
    *index += 1;
    let rest = pattern.get(*index..).unwrap_or_default();
    let digits = |radix: u32, most: usize| {
        rest.iter().take(most).take_while(|d| char::from(**d).is_digit(radix)).count()
    };
    let (value, used) = match letter {
        b'a' => (0x07, 0),
        b'e' => (0x1b, 0),
        b'f' => (0x0c, 0),
        b'n' => (0x0a, 0),
        b'r' => (0x0d, 0),
        b't' => (0x09, 0),
        b'c' => match rest.first() {
            Some(control) if control.is_ascii() => (u32::from(control.to_ascii_uppercase() ^ 0x40), 1),
            _ => return fail(*index, "\\c must be followed by an ASCII character"),
        },
        b'x' | b'o' if rest.first() == Some(&b'{') => {
            let Some(end) = memchr::memchr(b'}', rest) else { return fail(*index, "missing closing brace") };
            let text = rest.get(1..end).unwrap_or_default();
            let radix = if letter == b'x' { 16 } else { 8 };
            match value_of(text, radix) {
                Some(value) => (value, end + 1),
                None => return fail(*index, "not a number in braces"),
            }
        }
        b'x' => {
            let count = digits(16, 2);
            (value_of(rest.get(..count).unwrap_or_default(), 16).unwrap_or(0), count)
        }
        b'0'..=b'7' => {
            let more = digits(8, 2);
            let text = pattern.get(*index - 1..*index + more).unwrap_or_default();
            (value_of(text, 8).unwrap_or(0) & 0xff, more)
        }
        other => (u32::from(other), 0),
    };
    *index += used;
    u8::try_from(value).or_else(|_| fail(*index, "a character above \\xff cannot occur in bytes"))
}

fn value_of(text: &[u8], radix: u32) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// Reads a class; `index` is at the byte after the bracket and is moved past the closing one.
pub(super) fn parse(pattern: &[u8], index: &mut usize, fold_case: bool) -> Result<ByteSet, PatternError> {
    let mut class = Class { pattern, index: *index, start: *index, quoted: false };
    let set = class.members()?;
    *index = class.index;
    let (set, negated) = set;
    let set = if fold_case { set.fold_case() } else { set };
    Ok(if negated { set.complement() } else { set })
}

struct Class<'a> {
    pattern: &'a [u8],
    index: usize,
    start: usize,
    /// Between `\Q` and `\E`.
    quoted: bool,
}

/// A member of a class.
enum Member {
    Byte(u8),
    Set(ByteSet),
}

impl Class<'_> {
    fn error(&self, message: &str) -> PatternError {
        PatternError { message: message.to_owned(), offset: self.index.min(self.pattern.len()) }
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.index..).unwrap_or_default()
    }

    fn eat(&mut self, text: &[u8]) -> bool {
        let eaten = self.rest().starts_with(text);
        if eaten {
            self.index += text.len();
        }
        eaten
    }

    fn members(&mut self) -> Result<(ByteSet, bool), PatternError> {
        let negated = self.eat(b"^");
        let mut set = ByteSet::default();
        // A closing bracket in the first place is a member.
        let mut first = true;
        loop {
            if !self.quoted && !first && self.eat(b"]") {
                return Ok((set, negated));
            }
            match self.member()? {
                None => {}
                Some(Member::Set(more)) => {
                    set = set.union(more);
                    first = false;
                }
                Some(Member::Byte(low)) => {
                    first = false;
                    set = set.union(self.range_from(low)?);
                }
            }
        }
    }

    /// `low-high`, or only `low` when no range follows. A hyphen before a shorthand or the end is a member.
    fn range_from(&mut self, low: u8) -> Result<ByteSet, PatternError> {
        let hyphen = self.index;
        if self.quoted || !self.eat(b"-") || self.rest().starts_with(b"]") {
            self.index = hyphen;
            return Ok(ByteSet::single(low));
        }
        match self.member()? {
            Some(Member::Byte(high)) if low <= high => Ok(ByteSet::range(low, high)),
            Some(Member::Byte(_)) => {
                self.index = hyphen;
                Err(self.error("a range is out of order"))
            }
            _ => {
                self.index = hyphen;
                Ok(ByteSet::single(low))
            }
        }
    }

    /// The next member; `None` for `\Q` and `\E`.
    fn member(&mut self) -> Result<Option<Member>, PatternError> {
        let Some(&byte) = self.rest().first() else {
            self.index = self.start;
            return Err(self.error("a class is not closed"));
        };
        if self.eat(b"\\E") {
            self.quoted = false;
            return Ok(None);
        }
        if self.quoted {
            self.index += 1;
            return Ok(Some(Member::Byte(byte)));
        }
        if self.eat(b"\\Q") {
            self.quoted = true;
            return Ok(None);
        }
        if byte == b'['
            && let Some(set) = self.posix()?
        {
            return Ok(Some(Member::Set(set)));
        }
        self.index += 1;
        if byte == b'\\' {
            return self.escape().map(Some);
        }
        Ok(Some(Member::Byte(byte)))
    }

    fn escape(&mut self) -> Result<Member, PatternError> {
        match self.rest().first() {
            Some(b'b') => {
                self.index += 1;
                Ok(Member::Byte(0x08))
            }
            Some(letter @ (b'B' | b'R' | b'X' | b'N' | b'p' | b'P' | b'L' | b'l' | b'U' | b'u')) => {
                Err(self.error(&format!("\\{} is not supported in a class", char::from(*letter))))
            }
            Some(&letter) => match shorthand(letter) {
                Some(set) => {
                    self.index += 1;
                    Ok(Member::Set(set))
                }
                None => escaped_byte(self.pattern, &mut self.index).map(Member::Byte),
            },
            None => Err(self.error("a class is not closed")),
        }
    }

    /// `[:alpha:]`; a bracket that does not start one is a member.
    fn posix(&mut self) -> Result<Option<ByteSet>, PatternError> {
        let rest = self.rest();
        let Some(mark @ (b':' | b'.' | b'=')) = rest.get(1).copied() else { return Ok(None) };
        let Some(end) = memchr::memmem::find(rest, &[mark, b']']).filter(|&end| end >= 2) else {
            return Ok(None);
        };
        let name = rest.get(2..end).unwrap_or_default();
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'^') {
            return Ok(None);
        }
        if mark != b':' {
            return Err(self.error("POSIX collating elements are not supported"));
        }
        let (name, negated) = name.strip_prefix(b"^").map_or((name, false), |name| (name, true));
        let test: fn(&u8) -> bool = match name {
            b"alpha" => u8::is_ascii_alphabetic,
            b"digit" => u8::is_ascii_digit,
            b"alnum" => u8::is_ascii_alphanumeric,
            b"upper" => u8::is_ascii_uppercase,
            b"lower" => u8::is_ascii_lowercase,
            b"space" => |byte| matches!(byte, b'\t'..=b'\r' | b' '),
            b"blank" => |byte| matches!(byte, b'\t' | b' '),
            b"punct" => u8::is_ascii_punctuation,
            b"cntrl" => u8::is_ascii_control,
            b"graph" => u8::is_ascii_graphic,
            b"print" => |byte| matches!(byte, b' '..=b'~'),
            b"xdigit" => u8::is_ascii_hexdigit,
            b"word" => |byte| byte.is_ascii_alphanumeric() || *byte == b'_',
            b"ascii" => u8::is_ascii,
            _ => return Err(self.error("unknown POSIX class")),
        };
        self.index += end + 2;
        let mut set = ByteSet::default();
        (0..=u8::MAX).filter(|byte| test(byte) != negated).for_each(|byte| set.add(byte));
        Ok(Some(set))
    }
}
