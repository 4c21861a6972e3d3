//! The `Content-Disposition` of a part of `multipart/form-data`.

/// A parameter's value: raw as it stands between its quotes, and whether it has escapes to take out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escaped: bool,
}

/// What was read of it; positions are in the text that was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Disposition {
    pub(super) name: Option<Parameter>,
    pub(super) filename: Option<Parameter>,
    /// `filename*`, which RFC 7578 does not allow here.
    pub(super) extended_filename: Option<Parameter>,
    /// Single quotes, no closing quote, or something after it.
    pub(super) invalid_quoting: bool,
    /// Why it is not as it must be; what was read before it stands.
    pub(super) error: Option<&'static str>,
}

/// Reads the field's value.
pub(super) fn parse(text: &[u8]) -> Disposition {
    let mut reader = Reader { text, pos: 0, found: Disposition::default() };
    reader.found.error = reader.read().err();
    reader.found
}

struct Reader<'a> {
    text: &'a [u8],
    pos: usize,
    found: Disposition,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    fn skip_white(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.pos += 1;
        }
        self.peek()
    }

    fn read(&mut self) -> Result<(), &'static str> {
        self.skip_white();
        let kind = self.token();
        if !self.range(kind).eq_ignore_ascii_case(b"form-data") {
            return Err("the disposition is not form-data");
        }
        loop {
            match self.skip_white() {
                None => return Ok(()),
                Some(b';') => self.pos += 1,
                Some(_) => return Err("a semicolon is missing in the disposition"),
            }
            if self.skip_white().is_none() {
                return Err("the disposition ends in a semicolon");
            }
            self.parameter()?;
        }
    }

    fn range(&self, (start, end): (usize, usize)) -> &[u8] {
        self.text.get(start..end).unwrap_or_default()
    }

    fn token(&mut self) -> (usize, usize) {
        let start = self.pos;
        while self.peek().is_some_and(is_token) {
            self.pos += 1;
        }
        (start, self.pos)
    }

    fn parameter(&mut self) -> Result<(), &'static str> {
        let name = self.token();
        if name.0 == name.1 || self.skip_white() != Some(b'=') {
            return Err("a parameter of the disposition has no value");
        }
        self.pos += 1;
        let value = match self.skip_white() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote)?,
            _ => {
                let (start, end) = self.token();
                Parameter { start, end, escaped: false }
            }
        };
        let name = self.range(name).to_ascii_lowercase();
        let place = match name.as_slice() {
            b"name" => &mut self.found.name,
            b"filename" => &mut self.found.filename,
            b"filename*" => &mut self.found.extended_filename,
            _ => return Err("an unknown parameter of the disposition"),
        };
        if place.is_some() {
            return Err("a parameter of the disposition is given twice");
        }
        *place = Some(value);
        if self.found.extended_filename.is_some() {
            return Err("filename* is not allowed in a form");
        }
        Ok(())
    }

    fn quoted(&mut self, quote: u8) -> Result<Parameter, &'static str> {
        self.found.invalid_quoting |= quote == b'\'';
        self.pos += 1;
        let start = self.pos;
        let mut escaped = false;
        while let Some(byte) = self.peek() {
            if byte == quote {
                let end = self.pos;
                self.pos += 1;
                if !matches!(self.skip_white(), None | Some(b';')) {
                    self.found.invalid_quoting = true;
                }
                return Ok(Parameter { start, end, escaped });
            }
            // Only the quote and the backslash can be escaped; IE sent paths with plain backslashes.
            let next = self.text.get(self.pos + 1).copied();
            if byte == b'\\' && (next == Some(quote) || next == Some(b'\\')) {
                escaped = true;
                self.pos += 1;
            }
            self.pos += 1;
        }
        self.found.invalid_quoting = true;
        Err("a quoted value of the disposition is not closed")
    }
}

/// The value without its escapes.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\\'
            && let Some(next) = bytes.next_if(|next| matches!(next, b'\\' | b'"' | b'\''))
        {
            out.push(next);
        } else {
            out.push(byte);
        }
    }
}

/// RFC 2045's token; bytes above 127 are let through, as browsers send names in UTF-8.
fn is_token(byte: u8) -> bool {
    !matches!(byte, 0..=32 | 127)
        && !matches!(
            byte,
            b'(' | b')'
                | b'<'
                | b'>'
                | b'@'
                | b','
                | b';'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'='
        )
}
