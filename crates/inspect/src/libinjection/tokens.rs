//! A value to the tokens that some SQL dialect would see.
//!
//! One letter per type: `k` keyword, `U` union, `B` group by and its kind, `E` statement, `t` type, `f` function,
//! `n` bare word, `1` number, `v` variable, `s` string, `o` operator, `&` logical operator, `c` comment, `A` collate,
//! `T` Transact-SQL, `?` unknown, `X` not parseable with certainty, `\` backslash, and `(){}.,:;` themselves.

use super::tables::word_kind;

/// Room for a token's text and one more byte: longer tokens are cut.
pub(super) const WORD_BYTES_MAX: usize = 32;

/// What a value is tried as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    /// The quote that the value is pasted behind, or 0.
    pub(super) quote: u8,
    /// MySQL's comments instead of ANSI's.
    pub(super) mysql: bool,
    /// Leave out numbers whose exponent has no digit, as MySQL does.
    pub(super) skips_bare_exponents: bool,
}

/// A token; type 0 is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: u8,
    len: u8,
    text: [u8; WORD_BYTES_MAX],
    /// The quote that opened a string, 0 when it was opened before the value.
    pub(super) open: u8,
    /// The quote that closed it, 0 when none did.
    pub(super) close: u8,
    /// Signs before a variable's name.
    pub(super) signs: u8,
}

impl Token {
    pub(super) const NONE: Self =
        Self { kind: 0, len: 0, text: [0; WORD_BYTES_MAX], open: 0, close: 0, signs: 0 };

    pub(super) fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn assign(&mut self, kind: u8, text: &[u8]) {
        let text = text.get(..WORD_BYTES_MAX - 1).unwrap_or(text);
        self.kind = kind;
        self.text = [0; WORD_BYTES_MAX];
        if let Some(place) = self.text.get_mut(..text.len()) {
            place.copy_from_slice(text);
        }
        self.len = u8::try_from(text.len()).unwrap_or(0);
    }

    pub(super) fn is_text(&self, upper: &[u8]) -> bool {
        self.text().eq_ignore_ascii_case(upper)
    }

    pub(super) fn is_arithmetic(&self) -> bool {
        self.kind == b'o' && matches!(self.text(), [b'*' | b'/' | b'-' | b'+' | b'%'])
    }

    pub(super) fn is_unary(&self) -> bool {
        self.kind == b'o'
            && (matches!(self.text(), [b'+' | b'-' | b'!' | b'~'] | b"!!") || self.is_text(b"NOT"))
    }
}

/// Reads tokens one by one.
pub(super) struct Tokenizer<'a> {
    input: &'a [u8],
    pos: usize,
    context: Context,
    /// Tokens read, comments among them.
    pub(super) count: usize,
    /// Something was read that MySQL reads in another way.
    pub(super) mysql_differs: bool,
    token: Token,
}

impl<'a> Tokenizer<'a> {
    pub(super) fn new(input: &'a [u8], context: Context) -> Self {
        Self { input, pos: 0, context, count: 0, mysql_differs: false, token: Token::NONE }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        self.token = Token::NONE;
        if self.pos == 0 && self.context.quote != 0 && !self.input.is_empty() {
            self.pos = self.string(0, self.context.quote, 0);
            self.count += 1;
            return Some(self.token);
        }
        while let Some(byte) = self.at(self.pos) {
            self.pos = self.read(byte);
            if self.token.kind != 0 {
                self.count += 1;
                return Some(self.token);
            }
        }
        None
    }

    fn at(&self, index: usize) -> Option<u8> {
        self.input.get(index).copied()
    }

    fn from(&self, index: usize) -> &'a [u8] {
        self.input.get(index..).unwrap_or_default()
    }

    fn range(&self, start: usize, end: usize) -> &'a [u8] {
        self.input.get(start..end).unwrap_or_default()
    }

    /// Makes a token of a range and gives where it ends.
    fn take(&mut self, kind: u8, start: usize, end: usize) -> usize {
        self.token.assign(kind, self.range(start, end));
        end
    }

    /// Reads one token that starts with this byte at the current place; gives the place after it.
    fn read(&mut self, byte: u8) -> usize {
        let pos = self.pos;
        match byte {
            0..=0x20 | 0x7f | 0xa0 => pos + 1,
            b'!' | b'&' | b'*' | b':' | b'<' | b'=' | b'>' | b'|' => self.operator(),
            b'%' | b'+' | b'^' | b'~' => self.take(b'o', pos, pos + 1),
            b'"' | b'\'' => self.string(pos, byte, 1),
            b'#' => self.hash(),
            b'$' => self.money(),
            b'(' | b')' | b',' | b';' | b'{' | b'}' => self.take(byte, pos, pos + 1),
            b'-' => self.dash(),
            b'.' | b'0'..=b'9' => self.number(),
            b'/' => self.slash(),
            b'?' | b']' => self.take(b'?', pos, pos + 1),
            b'@' => self.variable(),
            b'B' | b'b' => self.digit_string(b"01"),
            b'X' | b'x' => self.digit_string(b"0123456789abcdefABCDEF"),
            b'E' | b'e' => self.prefixed_string(),
            b'N' | b'n' if self.is_quoted_with_room(pos) => self.prefixed_string(),
            b'N' | b'n' => self.oracle_string(1),
            b'Q' | b'q' => self.oracle_string(0),
            b'U' | b'u' => self.unicode_string(),
            b'[' => {
                let end =
                    memchr::memchr(b']', self.from(pos)).map_or(self.input.len(), |found| pos + found + 1);
                self.take(b'n', pos, end)
            }
            b'\\' => match self.at(pos + 1) {
                // MySQL's other name of NULL.
                Some(b'N') => self.take(b'1', pos, pos + 2),
                _ => self.take(b'\\', pos, pos + 1),
            },
            b'`' => self.tick(pos),
            _ => self.word(),
        }
    }

    fn is_quoted_with_room(&self, pos: usize) -> bool {
        pos + 2 < self.input.len() && self.at(pos + 1) == Some(b'\'')
    }

    fn line_comment(&mut self) -> usize {
        let end = memchr::memchr(b'\n', self.from(self.pos)).map(|found| self.pos + found);
        self.take(b'c', self.pos, end.unwrap_or(self.input.len()));
        end.map_or(self.input.len(), |end| end + 1)
    }

    /// An operator in ANSI SQL, a comment in MySQL.
    fn hash(&mut self) -> usize {
        self.mysql_differs = true;
        if self.context.mysql { self.line_comment() } else { self.take(b'o', self.pos, self.pos + 1) }
    }

    /// `--` with white space or nothing after it is a comment everywhere; with something else not in MySQL.
    fn dash(&mut self) -> usize {
        if self.at(self.pos + 1) == Some(b'-') {
            if self.at(self.pos + 2).is_none_or(is_white) {
                return self.line_comment();
            }
            if !self.context.mysql {
                self.mysql_differs = true;
                return self.line_comment();
            }
        }
        self.take(b'o', self.pos, self.pos + 1)
    }

    /// A comment inside a comment and MySQL's conditional comments cannot be read the same way everywhere.
    fn slash(&mut self) -> usize {
        let pos = self.pos;
        if self.at(pos + 1) != Some(b'*') {
            return self.take(b'o', pos, pos + 1);
        }
        let close = memchr::memmem::find(self.from(pos + 2), b"*/").map(|found| pos + 2 + found);
        let nested =
            close.is_some_and(|close| memchr::memmem::find(self.range(pos + 2, close + 1), b"/*").is_some());
        let kind = if nested || self.at(pos + 2) == Some(b'!') { b'X' } else { b'c' };
        self.take(kind, pos, close.map_or(self.input.len(), |close| close + 2))
    }

    fn operator(&mut self) -> usize {
        let pos = self.pos;
        if self.from(pos).starts_with(b"<=>") {
            return self.take(b'o', pos, pos + 3);
        }
        if pos + 1 < self.input.len() {
            let kind = word_kind(self.range(pos, pos + 2));
            if kind != 0 {
                return self.take(kind, pos, pos + 2);
            }
            if self.at(pos) == Some(b':') {
                return self.take(b':', pos, pos + 1);
            }
        }
        self.take(b'o', pos, pos + 1)
    }

    /// A string whose text starts `offset` bytes after `start`; 0 when the quote stands before the value.
    fn string(&mut self, start: usize, quote: u8, offset: usize) -> usize {
        let text = start + offset;
        self.token.open = if offset > 0 { quote } else { 0 };
        let mut from = text;
        while let Some(found) = memchr::memchr(quote, self.from(from)) {
            let end = from + found;
            let backslashes = self.range(text, end).iter().rev().take_while(|&&byte| byte == b'\\').count();
            if backslashes % 2 == 1 {
                from = end + 1;
            } else if self.at(end + 1) == Some(quote) {
                from = end + 2;
            } else {
                self.take(b's', text, end);
                self.token.close = quote;
                return end + 1;
            }
        }
        self.token.close = 0;
        self.take(b's', text, self.input.len())
    }

    /// `E'...'`, `N'...'`.
    fn prefixed_string(&mut self) -> usize {
        if self.is_quoted_with_room(self.pos) { self.string(self.pos, b'\'', 2) } else { self.word() }
    }

    /// `U&'...'`.
    fn unicode_string(&mut self) -> usize {
        if !self.from(self.pos + 1).starts_with(b"&'") {
            return self.word();
        }
        let end = self.string(self.pos + 2, b'\'', 1);
        self.token.open = b'u';
        if self.token.close == b'\'' {
            self.token.close = b'u';
        }
        end
    }

    /// Oracle's `q'(...)'`, and with `offset` 1 `nq'(...)'`.
    fn oracle_string(&mut self, offset: usize) -> usize {
        let pos = self.pos + offset;
        let opening = match self.range(pos, pos + 3) {
            // A byte above 127 is negative where `char` is signed, and so counts as a control character.
            &[b'q' | b'Q', b'\'', opening @ 33..=127] => opening,
            _ => return self.word(),
        };
        let closing = match opening {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b'<' => b'>',
            other => other,
        };
        let text = pos + 3;
        self.token.open = b'q';
        match memchr::memmem::find(self.from(text), &[closing, b'\'']) {
            Some(found) => {
                self.token.close = b'q';
                self.take(b's', text, text + found);
                text + found + 2
            }
            None => self.take(b's', text, self.input.len()),
        }
    }

    /// `b'01'`, `x'ff'`.
    fn digit_string(&mut self, digits: &[u8]) -> usize {
        let pos = self.pos;
        if !self.is_quoted_with_room(pos) {
            return self.word();
        }
        let end = pos + 2 + span(self.from(pos + 2), &set(digits));
        if self.at(end) == Some(b'\'') { self.take(b'1', pos, end + 1) } else { self.word() }
    }

    fn word(&mut self) -> usize {
        let pos = self.pos;
        let end = pos + until(self.from(pos), &WORD_END);
        self.take(b'n', pos, end);
        let word = self.token;
        // `SELECT.1` and `SELECT``a``` start with the keyword alone.
        for (index, _) in word.text().iter().enumerate().filter(|(_, byte)| matches!(byte, b'.' | b'`')) {
            let kind = word_kind(word.text().get(..index).unwrap_or_default());
            if kind != 0 && kind != b'n' {
                return self.take(kind, pos, pos + index);
            }
        }
        if end - pos < WORD_BYTES_MAX {
            let kind = word_kind(word.text());
            self.token.kind = if kind == 0 { b'n' } else { kind };
        }
        end
    }

    /// MySQL's quoted names: a bare word, or a function.
    fn tick(&mut self, pos: usize) -> usize {
        let end = self.string(pos, b'`', 1);
        self.token.kind = if word_kind(self.token.text()) == b'f' { b'f' } else { b'n' };
        end
    }

    fn variable(&mut self) -> usize {
        let mut pos = self.pos + 1;
        self.token.signs = 1;
        if self.at(pos) == Some(b'@') {
            pos += 1;
            self.token.signs = 2;
        }
        let end = match self.at(pos) {
            Some(b'`') => self.tick(pos),
            Some(quote @ (b'\'' | b'"')) => self.string(pos, quote, 1),
            _ => {
                let length = until(self.from(pos), &VARIABLE_END);
                self.take(b'v', pos, pos + length)
            }
        };
        self.token.kind = b'v';
        end
    }

    /// `$1,000.00`, `$$text$$`, `$tag$text$tag$`.
    fn money(&mut self) -> usize {
        let pos = self.pos;
        if pos + 1 == self.input.len() {
            return self.take(b'n', pos, pos + 1);
        }
        let length = span(self.from(pos + 1), &set(b"0123456789.,"));
        if length == 1 && self.at(pos + 1) == Some(b'.') {
            return self.word();
        }
        if length > 0 {
            return self.take(b'1', pos, pos + 1 + length);
        }
        if self.at(pos + 1) == Some(b'$') {
            return self.dollar_string(pos + 2, b"$$");
        }
        let letters = span(self.from(pos + 1), &LETTERS);
        if letters == 0 || self.at(pos + 1 + letters) != Some(b'$') {
            return self.take(b'n', pos, pos + 1);
        }
        self.dollar_string(pos + letters + 2, self.range(pos, pos + letters + 2))
    }

    fn dollar_string(&mut self, text: usize, tag: &[u8]) -> usize {
        self.token.open = b'$';
        match memchr::memmem::find(self.from(text), tag) {
            Some(found) => {
                self.token.close = b'$';
                self.take(b's', text, text + found);
                text + found + tag.len()
            }
            None => self.take(b's', text, self.input.len()),
        }
    }

    fn number(&mut self) -> usize {
        let start = self.pos;
        let digits: &[u8] = match self.range(start, start + 2) {
            [b'0', b'x' | b'X'] => b"0123456789abcdefABCDEF",
            [b'0', b'b' | b'B'] => b"01",
            _ => b"",
        };
        if !digits.is_empty() {
            let length = span(self.from(start + 2), &set(digits));
            return self.take(if length == 0 { b'n' } else { b'1' }, start, start + 2 + length);
        }
        let mut pos = self.after_digits(start);
        if self.at(pos) == Some(b'.') {
            pos = self.after_digits(pos + 1);
            if pos - start == 1 {
                return self.take(b'.', start, pos);
            }
        }
        let mut kind = b'1';
        if matches!(self.at(pos), Some(b'e' | b'E')) {
            pos += 1;
            pos += usize::from(matches!(self.at(pos), Some(b'+' | b'-')));
            let exponent = self.after_digits(pos);
            // `1.e` is a word, or nothing at all.
            if exponent == pos {
                kind = if self.context.skips_bare_exponents { 0 } else { b'n' };
            }
            pos = exponent;
        }
        // Oracle's suffixes; the `u` is for `1fUNION`.
        if matches!(self.at(pos), Some(b'd' | b'D' | b'f' | b'F'))
            && self.at(pos + 1).is_none_or(|next| is_white(next) || matches!(next, b';' | b'u' | b'U'))
        {
            pos += 1;
        }
        self.take(kind, start, pos)
    }

    fn after_digits(&self, start: usize) -> usize {
        start + self.from(start).iter().take_while(|byte| byte.is_ascii_digit()).count()
    }
}

fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0 | 0)
}

/// A bit for each byte value.
type Set = [u64; 4];

const fn set(bytes: &[u8]) -> Set {
    // NUL is of every set, as in C's `strchr`.
    let mut words = [1u64, 0, 0, 0];
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        let bit = 1 << (*byte & 63);
        let [a, b, c, d] = &mut words;
        let word = match *byte >> 6 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        *word |= bit;
        rest = after;
    }
    words
}

const WORD_END: Set = set(b" []{}<>:\\?=@!#~+-*/&|^%(),';\t\n\x0b\x0c\r\"\xa0");
const VARIABLE_END: Set = set(b" <>:\\?=@!#~+-*/&|^%(),';\t\n\x0b\x0c\r'`\"");
const LETTERS: Set = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

#[inline]
fn has(set: &Set, byte: u8) -> bool {
    set.get(usize::from(byte >> 6)).is_some_and(|word| word >> (byte & 63) & 1 == 1)
}

/// How many bytes at the start are of the set.
#[inline]
fn span(input: &[u8], set: &Set) -> usize {
    input.iter().take_while(|&&byte| has(set, byte)).count()
}

/// How many bytes at the start are not of the set.
#[inline]
fn until(input: &[u8], set: &Set) -> usize {
    input.iter().take_while(|&&byte| !has(set, byte)).count()
}
