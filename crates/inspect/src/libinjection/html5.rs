//! HTML 5 tokens, as browsers and their predecessors read them.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DataText,
    TagNameOpen,
    TagNameClose,
    TagNameSelfClose,
    TagClose,
    AttrName,
    AttrValue,
    TagComment,
    Doctype,
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Where in a document the value is pasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    Data,
    /// In a tag, where an attribute may start.
    Unquoted,
    /// In an attribute value behind this quote.
    Quoted(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    End,
    Data,
    TagOpen,
    TagNameClose,
    SelfClosing,
    AfterAttributeName,
    BeforeAttributeName,
    BeforeAttributeValue,
    QuotedValue(u8),
    AfterQuotedValue,
}

/// Reads tokens one by one.
pub(super) struct Tokenizer<'a> {
    input: &'a [u8],
    pos: usize,
    state: State,
    is_close: bool,
}

impl<'a> Tokenizer<'a> {
    pub(super) fn new(input: &'a [u8], context: Context) -> Self {
        let state = match context {
            Context::Data => State::Data,
            Context::Unquoted => State::BeforeAttributeName,
            Context::Quoted(quote) => State::QuotedValue(quote),
        };
        Self { input, pos: 0, state, is_close: false }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        match self.state {
            State::End => None,
            State::Data => self.data(),
            State::TagOpen => self.tag_open(),
            State::TagNameClose => Some(self.tag_name_close()),
            State::SelfClosing => self.self_closing(),
            State::AfterAttributeName => self.after_attribute_name(),
            State::BeforeAttributeName => self.before_attribute_name(),
            State::BeforeAttributeValue => self.before_attribute_value(),
            State::QuotedValue(quote) => Some(self.quoted_value(quote)),
            State::AfterQuotedValue => self.after_quoted_value(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.pos).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.pos..).unwrap_or_default()
    }

    /// A token from the current place to `end`, after which reading goes on at `next` in `state`.
    fn take(&mut self, kind: Kind, end: usize, next: usize, state: State) -> Token {
        let start = self.pos;
        self.pos = next;
        self.state = state;
        Token { kind, start, end }
    }

    /// A token of all that is left.
    fn take_rest(&mut self, kind: Kind) -> Token {
        let end = self.input.len();
        self.take(kind, end, end, State::End)
    }

    fn skip_white(&mut self) -> Option<u8> {
        self.pos += self.rest().iter().take_while(|&&byte| is_white(byte)).count();
        self.peek()
    }

    fn data(&mut self) -> Option<Token> {
        match memchr::memchr(b'<', self.rest()) {
            None => Some(self.take_rest(Kind::DataText)).filter(|token| token.start < token.end),
            Some(length) => {
                let end = self.pos + length;
                let token = self.take(Kind::DataText, end, end + 1, State::TagOpen);
                if length == 0 { self.tag_open() } else { Some(token) }
            }
        }
    }

    fn tag_open(&mut self) -> Option<Token> {
        let byte = self.peek()?;
        match byte {
            b'!' => {
                self.pos += 1;
                Some(self.markup_declaration())
            }
            b'/' => {
                self.pos += 1;
                self.is_close = true;
                self.end_tag_open()
            }
            b'?' => {
                self.pos += 1;
                Some(self.bogus_comment())
            }
            // The comments of old versions of IE and Safari.
            b'%' => {
                self.pos += 1;
                Some(self.comment_until(b"%>"))
            }
            b'a'..=b'z' | b'A'..=b'Z' | 0 => Some(self.tag_name()),
            _ => {
                // The sign before was text.
                self.pos -= 1;
                Some(self.take(Kind::DataText, self.pos + 1, self.pos + 1, State::Data))
            }
        }
    }

    fn end_tag_open(&mut self) -> Option<Token> {
        match self.peek()? {
            b'>' => self.data(),
            b'a'..=b'z' | b'A'..=b'Z' => Some(self.tag_name()),
            _ => {
                self.is_close = false;
                Some(self.bogus_comment())
            }
        }
    }

    fn tag_name_close(&mut self) -> Token {
        self.is_close = false;
        let end = self.pos + 1;
        let state = if end < self.input.len() { State::Data } else { State::End };
        self.take(Kind::TagNameClose, end, end, state)
    }

    fn tag_name(&mut self) -> Token {
        let ends = |byte: &u8| *byte == b'/' || *byte == b'>' || (*byte != 0 && is_white(*byte));
        let Some(length) = self.rest().iter().position(ends) else {
            return self.take_rest(Kind::TagNameOpen);
        };
        let end = self.pos + length;
        match self.input.get(end) {
            Some(b'/') => self.take(Kind::TagNameOpen, end, end + 1, State::SelfClosing),
            Some(b'>') if self.is_close => {
                self.is_close = false;
                self.take(Kind::TagClose, end, end + 1, State::Data)
            }
            Some(b'>') => self.take(Kind::TagNameOpen, end, end, State::TagNameClose),
            _ => self.take(Kind::TagNameOpen, end, end + 1, State::BeforeAttributeName),
        }
    }

    fn before_attribute_name(&mut self) -> Option<Token> {
        // Slashes between attributes are skipped in a loop: a value may consist of nothing else.
        loop {
            match self.skip_white()? {
                b'/' => {
                    self.pos += 1;
                    if self.peek()? == b'>' {
                        return self.self_closing();
                    }
                }
                b'>' => return Some(self.take(Kind::TagNameClose, self.pos + 1, self.pos + 1, State::Data)),
                _ => return Some(self.attribute_name()),
            }
        }
    }

    fn attribute_name(&mut self) -> Token {
        let ends = |byte: &u8| matches!(byte, b'/' | b'=' | b'>' | 0) || is_white(*byte);
        // Its first byte belongs to the name whatever it is.
        let length = self.rest().iter().skip(1).position(ends).map(|length| length + 1);
        let Some(length) = length else { return self.take_rest(Kind::AttrName) };
        let end = self.pos + length;
        match self.input.get(end) {
            Some(b'/') => self.take(Kind::AttrName, end, end + 1, State::SelfClosing),
            Some(b'=') => self.take(Kind::AttrName, end, end + 1, State::BeforeAttributeValue),
            Some(b'>') => self.take(Kind::AttrName, end, end, State::TagNameClose),
            _ => self.take(Kind::AttrName, end, end + 1, State::AfterAttributeName),
        }
    }

    fn after_attribute_name(&mut self) -> Option<Token> {
        match self.skip_white()? {
            b'/' => {
                self.pos += 1;
                self.self_closing()
            }
            b'=' => {
                self.pos += 1;
                self.before_attribute_value()
            }
            b'>' => Some(self.tag_name_close()),
            _ => Some(self.attribute_name()),
        }
    }

    fn before_attribute_value(&mut self) -> Option<Token> {
        match self.skip_white() {
            None => {
                self.state = State::End;
                None
            }
            Some(quote @ (b'"' | b'\'' | b'`')) => Some(self.quoted_value(quote)),
            Some(_) => Some(self.unquoted_value()),
        }
    }

    fn quoted_value(&mut self, quote: u8) -> Token {
        // At the very start the quote stands before the value.
        if self.pos > 0 {
            self.pos += 1;
        }
        match memchr::memchr(quote, self.rest()) {
            None => self.take_rest(Kind::AttrValue),
            Some(length) => {
                let end = self.pos + length;
                self.take(Kind::AttrValue, end, end + 1, State::AfterQuotedValue)
            }
        }
    }

    fn unquoted_value(&mut self) -> Token {
        let ends = |byte: &u8| *byte == b'>' || is_white(*byte);
        let Some(length) = self.rest().iter().position(ends) else { return self.take_rest(Kind::AttrValue) };
        let end = self.pos + length;
        match self.input.get(end) {
            Some(b'>') => self.take(Kind::AttrValue, end, end, State::TagNameClose),
            _ => self.take(Kind::AttrValue, end, end + 1, State::BeforeAttributeName),
        }
    }

    fn after_quoted_value(&mut self) -> Option<Token> {
        match self.peek()? {
            b'/' => {
                self.pos += 1;
                self.self_closing()
            }
            b'>' => Some(self.take(Kind::TagNameClose, self.pos + 1, self.pos + 1, State::Data)),
            _ => self.before_attribute_name(),
        }
    }

    /// After a slash in a tag.
    fn self_closing(&mut self) -> Option<Token> {
        if self.peek()? == b'>' {
            let end = self.pos + 1;
            self.pos -= 1;
            return Some(self.take(Kind::TagNameSelfClose, end, end, State::Data));
        }
        self.before_attribute_name()
    }

    fn bogus_comment(&mut self) -> Token {
        self.comment_until(b">")
    }

    fn comment_until(&mut self, mark: &[u8]) -> Token {
        match memchr::memmem::find(self.rest(), mark) {
            None => self.take_rest(Kind::TagComment),
            Some(length) => {
                let end = self.pos + length;
                self.take(Kind::TagComment, end, end + mark.len(), State::Data)
            }
        }
    }

    fn markup_declaration(&mut self) -> Token {
        let rest = self.rest();
        if rest.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"DOCTYPE")) {
            return match memchr::memchr(b'>', rest) {
                None => self.take_rest(Kind::Doctype),
                Some(length) => {
                    let end = self.pos + length;
                    self.take(Kind::Doctype, end, end + 1, State::Data)
                }
            };
        }
        if rest.starts_with(b"[CDATA[") {
            self.pos += 7;
            return match memchr::memmem::find(self.rest(), b"]]>") {
                None => self.take_rest(Kind::DataText),
                Some(length) => {
                    let end = self.pos + length;
                    self.take(Kind::DataText, end, end + 3, State::Data)
                }
            };
        }
        if rest.starts_with(b"--") {
            self.pos += 2;
            return self.comment();
        }
        self.bogus_comment()
    }

    /// A comment ends with `-->` or `-!>`, with any NUL bytes after the first dash, or with the value.
    fn comment(&mut self) -> Token {
        for dash in memchr::memchr_iter(b'-', self.rest()) {
            let dash = self.pos + dash;
            if dash + 3 > self.input.len() {
                break;
            }
            let nulls = self.input.iter().skip(dash + 1).take_while(|&&byte| byte == 0).count();
            let mark = dash + 1 + nulls;
            match (self.input.get(mark), self.input.get(mark + 1)) {
                (None, _) => break,
                (Some(b'-' | b'!'), None) => break,
                (Some(b'-' | b'!'), Some(b'>')) => {
                    return self.take(Kind::TagComment, dash, mark + 2, State::Data);
                }
                _ => {}
            }
        }
        self.take_rest(Kind::TagComment)
    }
}

/// White space, and NUL bytes as old browsers have it.
fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}
