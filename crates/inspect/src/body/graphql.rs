//! GraphQL documents (specification of October 2021, section 2): what a client can say in one, value by value.
//!
//! A document has braces, colons and dollar signs, which rules take for attacks when they see it as one text. When it
//! is a document exactly, its texts, comments and names are arguments instead: all of it but numbers and punctuation,
//! which say nothing. Anything else stays the ordinary argument that it was.

use std::hash::BuildHasher as _;
use std::ops::Range;

use hashbrown::HashSet;

use super::json::{json_named, letter_escape};
use super::{BodyLimits, BodyParts, Slice, arena_bytes_max};

/// Parses a body that is one document; when it is none, all of it is the argument `graphql`.
pub fn graphql(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    let whole = Slice::body(0, body.len());
    match document(body, b"graphql", limits) {
        Some(found) => parts.absorb(&found, whole),
        None => {
            let name = parts.store(b"graphql");
            parts.add(name, whole, limits);
        }
    }
}

/// Takes documents apart where the arguments have the form of a GraphQL request: `query`, `variables`, `operationName`
/// and `extensions`, nothing else; as members of a JSON document or of a list of them, or as fields of a form or query
/// string, where variables are JSON within the field.
pub fn graphql_over_http(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    if parts.error.is_some() || parts.args.is_empty() {
        return;
    }
    let fits = |parts: &BodyParts| {
        parts.args.iter().all(|arg| place_of(parts.bytes(arg.name, body)).is_some_and(|place| place.fits()))
    };
    let asks = |parts: &BodyParts| {
        parts
            .args
            .iter()
            .any(|arg| place_of(parts.bytes(arg.name, body)).is_some_and(|p| p.member == b"query"))
    };
    if !fits(parts) || !asks(parts) {
        return;
    }
    for arg in std::mem::take(&mut parts.args) {
        let name = parts.bytes(arg.name, body).to_vec();
        let text = parts.bytes(arg.value, body);
        let found = match place_of(&name) {
            Some(Place { member: b"query", is_json, .. }) => {
                document(text, &name, limits).map(|mut found| {
                    if !is_json {
                        // A page may have a parameter of this name that is no GraphQL: words that are harmless one by one.
                        found.add_joined(text, &name);
                    }
                    found
                })
            }
            Some(Place { is_json: false, member: b"variables" | b"extensions", .. }) => {
                let mut inner = BodyParts::default();
                json_named(text, &name, limits, &mut inner);
                Some(inner).filter(|inner| inner.error.is_none() && !inner.args.is_empty())
            }
            _ => None,
        };
        match found.filter(|found| parts.args.len() + found.args.len() < limits.arguments_max) {
            Some(found) => parts.absorb(&found, arg.value),
            None => parts.args.push(arg),
        }
    }
}

impl BodyParts {
    /// Adds all values, joined by spaces, as one more.
    fn add_joined(&mut self, text: &[u8], name: &[u8]) {
        let values: Vec<&[u8]> = self.args.iter().map(|arg| self.bytes(arg.value, text)).collect();
        let joined = values.join(&b' ');
        let (name, value) = (self.store(name), self.store(&joined));
        self.args.push(super::Arg { name, value });
    }
}

/// Where an argument stands in a GraphQL request.
struct Place<'a> {
    /// In a JSON document, not in a form.
    is_json: bool,
    member: &'a [u8],
    /// It is within the member, not the member itself.
    is_within: bool,
}

impl Place<'_> {
    fn fits(&self) -> bool {
        match self.member {
            b"query" | b"operationName" => !self.is_within,
            b"variables" | b"extensions" => self.is_json || !self.is_within,
            _ => false,
        }
    }
}

fn place_of(name: &[u8]) -> Option<Place<'_>> {
    let (is_json, mut rest) = match name.strip_prefix(b"json.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    if let Some(index) = rest.strip_prefix(b"array_").filter(|_| is_json) {
        let digits = index.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = index.get(digits..)?.strip_prefix(b".")?;
    }
    let end = memchr::memchr(b'.', rest).filter(|_| is_json);
    let member = rest.get(..end.unwrap_or(rest.len()))?;
    Some(Place { is_json, member, is_within: end.is_some() })
}

/// What an executable document holds, with names that begin with `root`; `None` when it is no such document.
fn document(text: &[u8], root: &[u8], limits: &BodyLimits) -> Option<BodyParts> {
    let begins = text.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
    // Most values are no documents, and one look tells.
    if !matches!(text.get(begins)?, b'{' | b'#' | b'q' | b'm' | b's' | b'f' | 0xef) {
        return None;
    }
    std::str::from_utf8(text).ok()?;
    let mut parser = Parser {
        text,
        pos: 0,
        token: Token::End,
        root,
        limits,
        found: BodyParts::default(),
        label: None,
        names: HashSet::new(),
        hasher: foldhash::fast::RandomState::default(),
        want: vec![Want::Definitions { first: true }],
    };
    parser.bump()?;
    while let Some(want) = parser.want.pop() {
        parser.fulfil(want)?;
        if parser.want.len() > limits.depth_max.saturating_mul(4) {
            return None;
        }
    }
    Some(parser.found)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    End,
    Punctuator(u8),
    /// `...`
    Spread,
    Name(Range<usize>),
    Number,
    Text(Slice),
}

/// What the grammar wants next; the innermost last.
#[derive(Debug, Clone, Copy)]
enum Want {
    Definitions { first: bool },
    MaybeVariables,
    Variables { first: bool },
    Type,
    TypeEnd,
    MaybeDefault,
    Directives,
    MaybeArguments,
    Arguments { first: bool },
    Value,
    List,
    Object,
    SelectionSet,
    Selections { first: bool },
    MaybeSelectionSet,
}

struct Parser<'a> {
    text: &'a [u8],
    pos: usize,
    token: Token,
    root: &'a [u8],
    limits: &'a BodyLimits,
    /// Values; their slices are of `text`.
    found: BodyParts,
    /// The argument, input field or variable that we are at, as the name of its values once that is stored.
    label: Option<(Range<usize>, Option<Slice>)>,
    /// Hashes of the names seen.
    names: HashSet<u64>,
    hasher: foldhash::fast::RandomState,
    want: Vec<Want>,
}

impl Parser<'_> {
    fn fulfil(&mut self, want: Want) -> Option<()> {
        match want {
            Want::Definitions { first } => {
                if self.token != Token::End {
                    self.want.push(Want::Definitions { first: false });
                    return self.definition();
                }
                (!first).then_some(())
            }
            Want::SelectionSet => {
                self.expect(b'{')?;
                self.push(Want::Selections { first: true })
            }
            Want::Selections { first } => {
                if !first && self.accept(b'}')? {
                    return Some(());
                }
                self.push(Want::Selections { first: false });
                self.selection()
            }
            Want::MaybeSelectionSet => {
                if self.token == Token::Punctuator(b'{') {
                    self.push(Want::SelectionSet)
                } else {
                    Some(())
                }
            }
            want => self.fulfil_input(want),
        }
    }

    /// The same for variables, arguments and values.
    fn fulfil_input(&mut self, want: Want) -> Option<()> {
        match want {
            Want::MaybeVariables => self.maybe(b'(', Want::Variables { first: true }),
            Want::Variables { first } => {
                if !first && self.accept(b')')? {
                    return Some(());
                }
                self.expect(b'$')?;
                self.labelled()?;
                self.want.extend([Want::Variables { first: false }, Want::Directives, Want::MaybeDefault]);
                self.push(Want::Type)
            }
            Want::Type => {
                if self.accept(b'[')? {
                    self.want.extend([Want::TypeEnd, Want::Type]);
                    return Some(());
                }
                self.name()?;
                self.accept(b'!').map(drop)
            }
            Want::TypeEnd => {
                self.expect(b']')?;
                self.accept(b'!').map(drop)
            }
            Want::MaybeDefault => self.maybe(b'=', Want::Value),
            Want::Directives => {
                if self.accept(b'@')? {
                    self.name()?;
                    self.want.extend([Want::Directives, Want::MaybeArguments]);
                }
                Some(())
            }
            Want::MaybeArguments => self.maybe(b'(', Want::Arguments { first: true }),
            Want::Arguments { first } => {
                if !first && self.accept(b')')? {
                    return Some(());
                }
                self.labelled()?;
                self.want.extend([Want::Arguments { first: false }, Want::Value]);
                Some(())
            }
            Want::Value => self.value(),
            Want::List => {
                if !self.accept(b']')? {
                    self.want.extend([Want::List, Want::Value]);
                }
                Some(())
            }
            Want::Object => {
                if !self.accept(b'}')? {
                    self.labelled()?;
                    self.want.extend([Want::Object, Want::Value]);
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Where this token stands, something is to follow.
    fn maybe(&mut self, punctuator: u8, want: Want) -> Option<()> {
        if self.accept(punctuator)? { self.push(want) } else { Some(()) }
    }

    fn push(&mut self, want: Want) -> Option<()> {
        self.want.push(want);
        Some(())
    }

    fn definition(&mut self) -> Option<()> {
        if self.token == Token::Punctuator(b'{') {
            return self.push(Want::SelectionSet);
        }
        let keyword = self.name()?;
        match self.text.get(keyword)? {
            b"query" | b"mutation" | b"subscription" => {
                if matches!(self.token, Token::Name(_)) {
                    self.name()?;
                }
                self.want.extend([Want::SelectionSet, Want::Directives, Want::MaybeVariables]);
            }
            b"fragment" => {
                let name = self.name()?;
                let on = self.name()?;
                if self.text.get(name)? == b"on" || self.text.get(on)? != b"on" {
                    return None;
                }
                self.name()?;
                self.want.extend([Want::SelectionSet, Want::Directives]);
            }
            _ => return None,
        }
        Some(())
    }

    fn selection(&mut self) -> Option<()> {
        if self.token == Token::Spread {
            self.bump()?;
            if !matches!(self.token, Token::Name(_)) {
                self.want.extend([Want::SelectionSet, Want::Directives]);
                return Some(());
            }
            let name = self.name()?;
            if self.text.get(name)? == b"on" {
                self.name()?;
                self.want.push(Want::SelectionSet);
            }
            return self.push(Want::Directives);
        }
        self.name()?;
        if self.accept(b':')? {
            self.name()?;
        }
        self.want.extend([Want::MaybeSelectionSet, Want::Directives, Want::MaybeArguments]);
        Some(())
    }

    fn value(&mut self) -> Option<()> {
        match self.token {
            Token::Punctuator(b'$') => {
                self.bump()?;
                self.name().map(drop)
            }
            Token::Punctuator(b'[') => {
                self.want.push(Want::List);
                self.bump()
            }
            Token::Punctuator(b'{') => {
                self.want.push(Want::Object);
                self.bump()
            }
            Token::Name(_) => self.name().map(drop),
            Token::Number => self.bump(),
            Token::Text(text) => {
                let name = self.label_name()?;
                self.found.add(name, text, self.limits).then_some(())?;
                self.bump()
            }
            _ => None,
        }
    }

    /// Reads a name and a colon; values from here on are of that name.
    fn labelled(&mut self) -> Option<()> {
        let name = self.name()?;
        self.label = Some((name, None));
        self.expect(b':')
    }

    /// The argument name of texts where we are, stored once.
    fn label_name(&mut self) -> Option<Slice> {
        let (range, stored) = self.label.clone()?;
        if let Some(stored) = stored {
            return Some(stored);
        }
        let name = self.text.get(range.clone())?;
        let stored = store_name(&mut self.found, self.root, name, self.text)?;
        self.label = Some((range, Some(stored)));
        Some(stored)
    }

    /// Takes a name; one that was not there before is an argument.
    fn name(&mut self) -> Option<Range<usize>> {
        let Token::Name(range) = self.token.clone() else { return None };
        let bytes = self.text.get(range.clone())?;
        if self.names.insert(self.hasher.hash_one(bytes)) {
            let name = store_name(&mut self.found, self.root, b"name", self.text)?;
            let value = Slice::body(range.start, range.end);
            self.found.add(name, value, self.limits).then_some(())?;
        }
        self.bump()?;
        Some(range)
    }

    fn expect(&mut self, punctuator: u8) -> Option<()> {
        self.accept(punctuator)?.then_some(())
    }

    fn accept(&mut self, punctuator: u8) -> Option<bool> {
        let is_it = self.token == Token::Punctuator(punctuator);
        if is_it {
            self.bump()?;
        }
        Some(is_it)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    /// Reads the next token; `None` when there is none that the language knows.
    fn bump(&mut self) -> Option<()> {
        self.skip_ignored()?;
        let start = self.pos;
        let Some(byte) = self.peek() else {
            self.token = Token::End;
            return Some(());
        };
        self.pos += 1;
        self.token = match byte {
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                Token::Punctuator(byte)
            }
            b'.' => {
                self.text.get(start..)?.starts_with(b"...").then_some(())?;
                self.pos = start + 3;
                Token::Spread
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                while self.peek().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                    self.pos += 1;
                }
                Token::Name(start..self.pos)
            }
            b'-' | b'0'..=b'9' => self.number(start)?,
            b'"' if self.text.get(start..)?.starts_with(QUOTES) => self.block_text(start)?,
            b'"' => self.quoted_text()?,
            _ => return None,
        };
        Some(())
    }

    /// White space, commas, byte order marks and comments; a comment is an argument.
    fn skip_ignored(&mut self) -> Option<()> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => self.pos += 1,
                0xef if self.text.get(self.pos..)?.starts_with(b"\xef\xbb\xbf") => self.pos += 3,
                b'#' => {
                    let rest = self.text.get(self.pos + 1..)?;
                    let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    rest.get(..length)?.iter().all(|&byte| is_source(byte)).then_some(())?;
                    if length > 0 {
                        let name = store_name(&mut self.found, self.root, b"comment", self.text)?;
                        let value = Slice::body(self.pos + 1, self.pos + 1 + length);
                        self.found.add(name, value, self.limits).then_some(())?;
                    }
                    self.pos += 1 + length;
                }
                _ => break,
            }
        }
        Some(())
    }

    /// An integer or a fraction (sections 2.9.1 and 2.9.2); a name must not follow at once.
    fn number(&mut self, start: usize) -> Option<Token> {
        self.pos = start + usize::from(self.text.get(start) == Some(&b'-'));
        let zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            (self.digits() > 0).then_some(())?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pos += 1;
            self.pos += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            (self.digits() > 0).then_some(())?;
        }
        let ends = !self.peek().is_some_and(|b| b == b'.' || b == b'_' || b.is_ascii_alphanumeric());
        ends.then_some(Token::Number)
    }

    fn digits(&mut self) -> usize {
        let start = self.pos;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.pos += 1;
        }
        self.pos - start
    }

    /// The text of a block, its indentation left in.
    fn block_text(&mut self, start: usize) -> Option<Token> {
        self.pos = start + QUOTES.len();
        let (content, stored) = (self.pos, self.found.arena.len());
        let (mut copied, mut escaped) = (content, false);
        loop {
            let found = memchr::memmem::find(self.text.get(self.pos..)?, QUOTES)? + self.pos;
            self.pos = found + QUOTES.len();
            let before = self.text.get(copied..found)?;
            before.iter().all(|&byte| is_source(byte)).then_some(())?;
            if let Some(before) = before.strip_suffix(b"\\") {
                escaped = true;
                self.found.arena.extend_from_slice(before);
                self.found.arena.extend_from_slice(QUOTES);
                copied = self.pos;
            } else if escaped {
                self.found.arena.extend_from_slice(before);
                return Some(Token::Text(self.found.stored_since(stored)));
            } else {
                return Some(Token::Text(Slice::body(content, found)));
            }
        }
    }

    fn quoted_text(&mut self) -> Option<Token> {
        let (start, stored) = (self.pos, self.found.arena.len());
        let (mut copied, mut escaped) = (start, false);
        loop {
            let length = memchr::memchr2(b'"', b'\\', self.text.get(self.pos..)?)?;
            let end = self.pos + length;
            let text = self.text.get(self.pos..end)?;
            let allowed = |byte: u8| is_source(byte) && !matches!(byte, b'\n' | b'\r');
            text.iter().all(|&byte| allowed(byte)).then_some(())?;
            self.pos = end + 1;
            let closes = self.text.get(end) == Some(&b'"');
            if closes && !escaped {
                return Some(Token::Text(Slice::body(start, end)));
            }
            self.found.arena.extend_from_slice(self.text.get(copied..end)?);
            if closes {
                return Some(Token::Text(self.found.stored_since(stored)));
            }
            escaped = true;
            self.escape()?;
            copied = self.pos;
        }
    }

    fn escape(&mut self) -> Option<()> {
        let letter = self.peek()?;
        self.pos += 1;
        if letter != b'u' {
            self.found.arena.push(letter_escape(letter)?);
            return Some(());
        }
        let mut code = self.unit()?;
        if (0xd800..0xdc00).contains(&code) {
            self.text.get(self.pos..)?.starts_with(b"\\u").then_some(())?;
            self.pos += 2;
            let low = self.unit().filter(|low| (0xdc00..0xe000).contains(low))?;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        let character = char::from_u32(code)?;
        self.found.arena.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }

    /// Four hexadecimal digits, or as later drafts have it, up to eight in braces.
    fn unit(&mut self) -> Option<u32> {
        let rest = self.text.get(self.pos..)?;
        let (digits, length) = match rest.strip_prefix(b"{") {
            Some(braced) => {
                let end = memchr::memchr(b'}', braced.get(..braced.len().min(9))?)?;
                (braced.get(..end)?, end + 2)
            }
            None => (rest.get(..4)?, 4),
        };
        self.pos += length;
        if digits.is_empty() {
            return None;
        }
        digits.iter().try_fold(0u32, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
    }
}

/// Around a block of text.
const QUOTES: &[u8] = b"\"\"\"";

/// Stores `root.name`; `None` when names take too much room.
fn store_name(found: &mut BodyParts, root: &[u8], name: &[u8], text: &[u8]) -> Option<Slice> {
    if found.arena.len() + root.len() + name.len() > arena_bytes_max(text) {
        return None;
    }
    let stored = found.arena.len();
    found.arena.extend_from_slice(root);
    found.arena.push(b'.');
    found.arena.extend_from_slice(name);
    Some(found.stored_since(stored))
}

/// Characters that a document may have anywhere (section 2.1).
fn is_source(byte: u8) -> bool {
    byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r')
}
