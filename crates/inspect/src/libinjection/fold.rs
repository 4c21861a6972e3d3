//! Tokens folded together until five or fewer tell what the value is: `1+2*3` is a number, `a.b` a name.
//!
//! At any time the tokens before `left` are settled, those from `left` to `pos` are being looked at, two first, then
//! three. A rule that changes something usually starts again from the first token.

use super::tables::word_kind;
use super::tokens::{Token, Tokenizer, WORD_BYTES_MAX};

/// Tokens of a fingerprint.
const TOKENS_MAX: usize = 5;

/// What is left of a value.
pub(super) struct Folded {
    /// The tokens that count are the first `len`.
    pub(super) tokens: [Token; 8],
    pub(super) len: usize,
}

impl Folded {
    pub(super) fn tokens(&self) -> &[Token] {
        self.tokens.get(..self.len).unwrap_or(&self.tokens)
    }
}

/// Reads and folds the whole value.
pub(super) fn fold(tokenizer: &mut Tokenizer<'_>) -> Folded {
    let none = Folded { tokens: [Token::NONE; 8], len: 0 };
    // Comments, opening parentheses, types and unary operators at the start say nothing.
    let first = loop {
        match tokenizer.next() {
            None => return none,
            Some(token) if matches!(token.kind, b'c' | b'(' | b't') || token.is_unary() => {}
            Some(token) => break token,
        }
    };
    let mut folder =
        Folder { tokenizer, tokens: none.tokens, pos: 1, left: 0, more: true, last_comment: None };
    folder.put(0, first);
    let len = folder.run();
    Folded { tokens: folder.tokens, len }
}

struct Folder<'t, 'a> {
    tokenizer: &'t mut Tokenizer<'a>,
    tokens: [Token; 8],
    /// Where the next token goes.
    pos: usize,
    /// Tokens that are settled.
    left: usize,
    more: bool,
    last_comment: Option<Token>,
}

/// What a rule on two or three tokens did.
enum Step {
    /// Something changed: look again.
    Again,
    /// Nothing to fold here.
    Nothing,
    /// The value cannot be read with certainty; this many tokens count.
    Evil(usize),
}

impl Folder<'_, '_> {
    fn run(&mut self) -> usize {
        loop {
            if self.pos >= TOKENS_MAX {
                self.fold_five();
            }
            if !self.more || self.left >= TOKENS_MAX {
                self.left = self.pos;
                break;
            }
            if !self.fill(2) {
                continue;
            }
            match self.fold_two() {
                Step::Again => continue,
                Step::Evil(len) => return len,
                Step::Nothing => {}
            }
            if !self.fill(3) {
                continue;
            }
            if !self.fold_three() {
                self.left += 1;
            }
        }
        if let Some(comment) = self.last_comment.filter(|_| self.left < TOKENS_MAX) {
            self.put(self.left, comment);
            self.left += 1;
        }
        // A sixth token may have been read to tell what the fifth is.
        self.left.min(TOKENS_MAX)
    }

    /// Reads until `count` tokens are to be looked at. False: there are no more, all are settled.
    fn fill(&mut self, count: usize) -> bool {
        while self.more && self.pos <= TOKENS_MAX && self.pos - self.left < count {
            match self.tokenizer.next() {
                Some(token) if token.kind == b'c' => self.last_comment = Some(token),
                Some(token) => {
                    self.last_comment = None;
                    self.put(self.pos, token);
                    self.pos += 1;
                }
                None => self.more = false,
            }
        }
        let filled = self.pos - self.left >= count;
        if !filled {
            self.left = self.pos;
        }
        filled
    }

    fn token(&self, index: usize) -> &Token {
        self.tokens.get(index).unwrap_or(&Token::NONE)
    }

    fn kind(&self, index: usize) -> u8 {
        self.token(index).kind
    }

    fn put(&mut self, index: usize, token: Token) {
        if let Some(place) = self.tokens.get_mut(index) {
            *place = token;
        }
    }

    fn set_kind(&mut self, index: usize, kind: u8) {
        if let Some(token) = self.tokens.get_mut(index) {
            token.kind = kind;
        }
    }

    /// Forgets the last `count` tokens and starts again from the first.
    fn restart_without(&mut self, count: usize) -> Step {
        self.pos -= count;
        self.left = 0;
        Step::Again
    }

    /// Forgets the last token and goes one back.
    fn back_without_one(&mut self) -> Step {
        self.pos -= 1;
        self.left = self.left.saturating_sub(1);
        Step::Again
    }

    /// Arithmetic in parentheses that is as long as a fingerprint and says nothing.
    fn fold_five(&mut self) {
        let kinds = [self.kind(0), self.kind(1), self.kind(2), self.kind(3), self.kind(4)];
        let says_nothing = matches!(
            kinds,
            [b'1', b'o' | b',', b'(', b'1', b')']
                | [b'n', b'o', b'(', b'n' | b'1', b')']
                | [b'1', b')', b',', b'(', b'1']
                | [b'n', b')', b'o', b'(', b'n']
        );
        if !says_nothing {
            return;
        }
        self.left = 0;
        if self.pos > TOKENS_MAX {
            self.put(1, *self.token(TOKENS_MAX));
            self.pos = 2;
        } else {
            self.pos = 1;
        }
    }

    fn fold_two(&mut self) -> Step {
        let left = self.left;
        let (a, b) = (*self.token(left), *self.token(left + 1));
        match (a.kind, b.kind) {
            (b's', b's') | (b';', b';') => {
                self.pos -= 1;
                return Step::Again;
            }
            (b'o' | b'&', kind) if kind == b't' || b.is_unary() => return self.restart_without(1),
            (b'(', _) if b.is_unary() => return self.back_without_one(),
            _ => {}
        }
        if self.merge_words(&a, &b) {
            return self.back_without_one();
        }
        self.fold_names(&a, &b)
    }

    /// Rules on the meaning of words by what follows them, and on brackets.
    fn fold_names(&mut self, a: &Token, b: &Token) -> Step {
        let left = self.left;
        match (a.kind, b.kind) {
            // After a semicolon `IF` is Transact-SQL's statement.
            (b';', b'f') if matches!(b.text(), [b'i' | b'I', b'f' | b'F', ..]) => {
                self.set_kind(left + 1, b'T');
                Step::Again
            }
            (b'n' | b'v', b'(') if NAMES_OF_FUNCTIONS.iter().any(|name| a.is_text(name)) => {
                self.set_kind(left, b'f');
                Step::Again
            }
            (b'k', _) if a.is_text(b"IN") || a.is_text(b"NOT IN") => {
                self.set_kind(left, if b.kind == b'(' { b'o' } else { b'n' });
                Step::Again
            }
            (b'o', _) if a.is_text(b"LIKE") || a.is_text(b"NOT LIKE") => {
                if b.kind == b'(' {
                    self.set_kind(left, b'f');
                }
                Step::Nothing
            }
            (b't', b'n' | b'1' | b't' | b'(' | b'f' | b'v' | b's') => {
                self.put(left, *b);
                self.restart_without(1)
            }
            // There are too many collations to list; they have an underscore.
            (b'A', b'n') => {
                if b.text().contains(&b'_') {
                    self.set_kind(left + 1, b't');
                    self.left = 0;
                }
                Step::Nothing
            }
            (b'\\', _) if b.is_arithmetic() => {
                self.set_kind(left, b'1');
                self.restart_without(0)
            }
            (b'\\', _) => {
                self.put(left, *b);
                self.restart_without(1)
            }
            (b'(', b'(') | (b')', b')') => self.restart_without(1),
            // MySQL reads {``.``.id} in a way of its own.
            (b'{', b'n') if b.text().is_empty() => {
                self.set_kind(left + 1, b'X');
                Step::Evil(left + 2)
            }
            (b'{', b'n') => self.restart_without(2),
            (_, b'}') => self.restart_without(1),
            _ => Step::Nothing,
        }
    }

    /// `UNION` and `ALL` make `UNION ALL`, when the words have a meaning together.
    fn merge_words(&mut self, a: &Token, b: &Token) -> bool {
        let word = |kind: u8| matches!(kind, b'k' | b'n' | b'o' | b'U' | b'f' | b'E' | b'T' | b't');
        if !word(a.kind) || !(word(b.kind) || b.kind == b'&') {
            return false;
        }
        let mut phrase = [0; WORD_BYTES_MAX];
        let length = a.text().len() + b.text().len() + 1;
        if length >= WORD_BYTES_MAX {
            return false;
        }
        let bytes = a.text().iter().chain(b" ").chain(b.text());
        phrase.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        let phrase = phrase.get(..length).unwrap_or_default();
        let kind = word_kind(phrase);
        if kind == 0 {
            return false;
        }
        if let Some(token) = self.tokens.get_mut(self.left) {
            token.assign(kind, phrase);
        }
        true
    }

    /// Rules on three tokens; true when something was folded.
    fn fold_three(&mut self) -> bool {
        let left = self.left;
        let (a, b, c) = (*self.token(left), *self.token(left + 1), *self.token(left + 2));
        let cast = b.text() == b"::";
        let unary = b.is_unary();
        let step = match (a.kind, b.kind, c.kind) {
            (b'1', b'o', b'1')
            | (b'&', _, b'&')
            | (b'v', b'o', b'v' | b'1' | b'n')
            | (b'n' | b'1', b'o', b'1' | b'n')
            | (b'n' | b'1' | b's' | b'v', b',', b'1' | b'n' | b's' | b'v')
            | (b'n', b'.', b'n') => self.restart_without(2),
            (b'o', kind, b'o') if kind != b'(' => self.restart_without(2),
            (b'n' | b'1' | b'v' | b's', b'o', b't') if cast => self.restart_without(2),
            (b'E' | b'B' | b',', _, b'(') if unary => self.drop_middle(c),
            (b'k' | b'E' | b'B', _, b'1' | b'n' | b'v' | b's' | b'f') if unary => self.drop_middle(c),
            // `1,-1` is `1`.
            (b',', _, b'1' | b'n' | b'v' | b's') if unary => {
                self.put(left + 1, c);
                self.restart_without(3)
            }
            (b',', _, b'f') if unary => self.drop_middle(c),
            (b'E', b'.', b'n') => self.drop_middle(c),
            // `USER()` is a function, `user(a)` a name.
            (b'f', b'(', kind) if kind != b')' && a.is_text(b"USER") => {
                self.set_kind(left, b'n');
                Step::Nothing
            }
            _ => Step::Nothing,
        };
        matches!(step, Step::Again)
    }

    fn drop_middle(&mut self, last: Token) -> Step {
        self.put(self.left + 1, last);
        self.restart_without(1)
    }
}

/// Functions whose names are as often those of columns.
const NAMES_OF_FUNCTIONS: [&[u8]; 11] = [
    b"USER_ID",
    b"USER_NAME",
    b"DATABASE",
    b"PASSWORD",
    b"USER",
    b"CURRENT_USER",
    b"CURRENT_DATE",
    b"CURRENT_TIME",
    b"CURRENT_TIMESTAMP",
    b"LOCALTIME",
    b"LOCALTIMESTAMP",
];
