//! `multipart/form-data` (RFC 7578), strict, with the flags of ModSecurity.
//!
//! Parsers of applications differ wherever the form is bent: quotes and white space in the boundary, lines that end in
//! a bare line feed, folded fields, text before and after. Each sets its flag; what leaves doubt about where a part
//! ends or what it is called is an error.
//!
//! Two deviations from ModSecurity, both to refuse less that is harmless: an apostrophe inside a double-quoted name
//! does not count as bad quoting, and a line of a part that starts with two dashes counts as an unmatched boundary
//! only when the boundary follows them.

use super::charset::{self, Charset};
use super::content_disposition::{self, Disposition, Parameter};
use super::{Arg, BodyLimits, BodyParts, File, Slice};

/// Parses a body; the boundary comes from the `Content-Type` field.
pub fn multipart(body: &[u8], content_type: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    let result = match boundary(content_type, parts) {
        Ok(boundary) => {
            let delimiter = [b"--", boundary].concat();
            Parser { body, pos: 0, delimiter: &delimiter, limits, parts, saw_crlf: false, saw_lf: false }
                .run()
        }
        Err(reason) => Err(reason),
    };
    match result {
        Ok(()) => {}
        Err(reason @ (NO_FINAL_BOUNDARY | NO_HEADER_END)) => {
            parts.fail_at_end(format!("multipart: {reason}"))
        }
        Err(reason) => parts.fail(format!("multipart: {reason}")),
    }
    parts.multipart.strict_error = parts.error.is_some() || parts.multipart.is_strict_error();
}

/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// A body that was cut off ends so.
const NO_FINAL_BOUNDARY: &str = "the final boundary is missing";
/// The same.
const NO_HEADER_END: &str = "a part ends in its header";
/// Most header fields of one part.
const PART_FIELDS_MAX: usize = 32;
/// Longest header of one part, in bytes; applications allow 8 to 16 KiB.
const PART_HEADER_BYTES_MAX: usize = 16 * 1024;

/// The boundary that a `Content-Type` field names.
fn boundary<'a>(content_type: &'a [u8], parts: &mut BodyParts) -> Result<&'a [u8], &'static str> {
    const KIND: &[u8] = b"multipart/form-data";
    let text = content_type.trim_ascii();
    let kind = text.get(..KIND.len()).unwrap_or_default();
    if !kind.eq_ignore_ascii_case(KIND) {
        return Err("the content type is another one");
    }
    let rest = text.get(KIND.len()..).unwrap_or_default();
    let lower = rest.to_ascii_lowercase();
    let Some(at) = memchr::memmem::find(&lower, b"boundary") else { return Err("the boundary is not given") };
    let after = at + b"boundary".len();
    if memchr::memmem::find(lower.get(after..).unwrap_or_default(), b"boundary").is_some_and(|next| {
        // Another parameter, not part of the boundary itself.
        lower.get(after..after + next).is_some_and(|between| between.contains(&b';'))
    }) {
        return Err("the boundary is given twice");
    }
    let before = rest.get(..at).unwrap_or_default().trim_ascii_end();
    if before.last() != Some(&b';') {
        parts.multipart.missing_semicolon = true;
    }
    let mut value = rest.get(after..).unwrap_or_default();
    if value.first().is_some_and(u8::is_ascii_whitespace) {
        parts.multipart.boundary_whitespace = true;
        value = value.trim_ascii_start();
    }
    let Some(mut value) = value.strip_prefix(b"=") else { return Err("the boundary has no value") };
    if value.first().is_some_and(u8::is_ascii_whitespace) {
        parts.multipart.boundary_whitespace = true;
        value = value.trim_ascii_start();
    }
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => {
            parts.multipart.boundary_quoted = true;
            let Some(end) = memchr::memchr(b'"', quoted) else {
                return Err("the boundary's quote is not closed");
            };
            let after = quoted.get(end + 1..).unwrap_or_default().trim_ascii_start();
            if !after.is_empty() && after.first() != Some(&b';') {
                return Err("something follows the boundary");
            }
            quoted.get(..end).unwrap_or_default()
        }
        None => {
            let end = memchr::memchr(b';', value).unwrap_or(value.len());
            let unquoted = value.get(..end).unwrap_or_default();
            if unquoted.contains(&b',') {
                return Err("the boundary has a comma, where some parsers end it");
            }
            let trimmed = unquoted.trim_ascii_end();
            parts.multipart.boundary_whitespace |= trimmed.len() < unquoted.len();
            trimmed
        }
    };
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b" '()+_,-./:=?".contains(byte);
    if value.is_empty()
        || value.len() > BOUNDARY_BYTES_MAX
        || !value.iter().all(allowed)
        || value.ends_with(b" ")
    {
        return Err("the boundary is not valid");
    }
    parts.multipart.boundary_whitespace |= value.contains(&b' ');
    Ok(value)
}

struct Parser<'a> {
    body: &'a [u8],
    pos: usize,
    /// Two dashes and the boundary.
    delimiter: &'a [u8],
    limits: &'a BodyLimits,
    parts: &'a mut BodyParts,
    saw_crlf: bool,
    saw_lf: bool,
}

/// What follows a delimiter.
enum After {
    Part,
    End,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        let result = self.all_parts();
        self.parts.multipart.lf_line = self.saw_lf;
        self.parts.multipart.crlf_lf_lines = self.saw_lf && self.saw_crlf;
        result
    }

    fn all_parts(&mut self) -> Result<(), &'static str> {
        let Some((before, mut after)) = self.next_delimiter()? else {
            return Err("the body has no boundary");
        };
        self.parts.multipart.data_before = before > 0;
        while matches!(after, After::Part) {
            let disposition = self.fields()?;
            let content = self.pos;
            let Some((end, next)) = self.next_delimiter()? else {
                self.part(&disposition, content, self.body.len())?;
                return Err(NO_FINAL_BOUNDARY);
            };
            self.part(&disposition, content, end)?;
            after = next;
        }
        let rest = self.body.get(self.pos..).unwrap_or_default();
        self.parts.multipart.data_after = !rest.is_empty();
        Ok(())
    }

    /// Looks for a delimiter that starts a line; gives where the text before it ends, its line end left out, and what
    /// follows. Reading goes on after the delimiter's line.
    fn next_delimiter(&mut self) -> Result<Option<(usize, After)>, &'static str> {
        let start = self.pos;
        let mut from = start;
        let finder = memchr::memmem::Finder::new(self.delimiter);
        while let Some(found) = finder.find(self.body.get(from..).unwrap_or_default()) {
            let at = from + found;
            from = at + 1;
            let starts_line = at == start || self.body.get(at.wrapping_sub(1)) == Some(&b'\n');
            if !starts_line {
                continue;
            }
            let after = at + self.delimiter.len();
            let rest = self.body.get(after..).unwrap_or_default();
            let (end, length) = match rest.strip_prefix(b"--") {
                Some(rest) => (After::End, 2 + self.line_end(rest, true).unwrap_or(usize::MAX - 2)),
                None => (After::Part, self.line_end(rest, false).unwrap_or(usize::MAX)),
            };
            if length == usize::MAX {
                // It starts like a boundary and goes on: some parsers take it for one.
                self.parts.multipart.unmatched_boundary = true;
                continue;
            }
            self.pos = after + length;
            return Ok(Some((self.without_line_end(start, at), end)));
        }
        Ok(None)
    }

    /// How many bytes the line end at the start takes; at the end of the body none is needed after the last boundary.
    fn line_end(&mut self, rest: &[u8], last: bool) -> Option<usize> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.saw_crlf = true;
                Some(2)
            }
            [b'\n', ..] => {
                self.saw_lf = true;
                Some(1)
            }
            [] if last => Some(0),
            _ => None,
        }
    }

    /// The line end before a delimiter belongs to the delimiter.
    fn without_line_end(&mut self, start: usize, at: usize) -> usize {
        let text = self.body.get(start..at).unwrap_or_default();
        if text.ends_with(b"\r\n") {
            at - 2
        } else if text.ends_with(b"\n") {
            self.saw_lf = true;
            at - 1
        } else {
            at
        }
    }

    /// Reads the header fields of a part up to the empty line.
    fn fields(&mut self) -> Result<PartFields, &'static str> {
        let mut fields = PartFields::default();
        let header = self.pos;
        loop {
            let start = self.pos;
            let rest = self.body.get(start..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'\n', rest) else { return Err(NO_HEADER_END) };
            self.pos = start + length + 1;
            if self.pos - header > PART_HEADER_BYTES_MAX {
                return Err("the header of a part is too long");
            }
            let line = rest.get(..length).unwrap_or_default();
            let line = match line.strip_suffix(b"\r") {
                Some(line) => {
                    self.saw_crlf = true;
                    line
                }
                None => {
                    self.saw_lf = true;
                    line
                }
            };
            if line.is_empty() {
                return Ok(fields);
            }
            if line.contains(&0) {
                return Err("a NUL byte in a part's header");
            }
            if line.first().is_some_and(|&byte| matches!(byte, b' ' | b'\t'..=b'\r')) {
                self.fold(&mut fields, start, line)?;
            } else {
                fields.push(start, line)?;
            }
        }
    }

    /// A line that continues the field before it.
    fn fold(&mut self, fields: &mut PartFields, start: usize, line: &[u8]) -> Result<(), &'static str> {
        let flags = &mut self.parts.multipart;
        flags.header_folding = true;
        flags.invalid_header_folding |= !matches!(line.first(), Some(b' ' | b'\t'));
        let Some((_, end)) = fields.lines.last_mut() else { return Err("a part starts with a folded line") };
        *end = start + line.len();
        Ok(())
    }

    /// Takes a part whose content is known.
    fn part(&mut self, fields: &PartFields, start: usize, end: usize) -> Result<(), &'static str> {
        let Some(found) = fields.disposition(self.body) else {
            self.parts.multipart.invalid_part = true;
            self.keep_headers(fields, Slice::EMPTY);
            self.parts.add(Slice::EMPTY, Slice::body(start, end), self.limits);
            return Err("a part has no Content-Disposition");
        };
        let (offset, disposition) = found;
        self.parts.multipart.invalid_quoting |= disposition.invalid_quoting;
        let name = self.parameter(offset, disposition.name);
        let filename = self.parameter(offset, disposition.filename);
        let extended = self.parameter(offset, disposition.extended_filename);
        self.keep_headers(fields, name.unwrap_or(Slice::EMPTY));
        self.parts.part_names.extend(name);
        let (field, content) = (name.unwrap_or(Slice::EMPTY), Slice::body(start, end));
        // A form without a chosen file sends an empty file name; its content is an argument like any other.
        let is_file = filename.or(extended).filter(|filename| !filename.is_empty());
        let counted = match is_file {
            Some(filename) => {
                self.file(field, filename, content);
                if let Some(extended) = extended {
                    self.extended_filename(field, extended, extended != filename);
                }
                self.parts.files.len() <= self.limits.arguments_max
            }
            None => self.parts.add(field, content, self.limits),
        };
        self.check_charset(fields, field, content);
        if !counted {
            return Err("too many parts");
        }
        if name.is_none_or(Slice::is_empty) {
            self.parts.multipart.invalid_part = true;
        }
        if fields.values(self.body, b"content-type").nth(1).is_some() {
            return Err("a part has two content types");
        }
        if fields.is_nested(self.body) {
            return Err("a part is itself multipart");
        }
        match disposition.error {
            Some(reason) => Err(reason),
            None if name.is_none() => Err("a part has no name"),
            None => Ok(()),
        }
    }

    /// A file under the name that was given, and where white space surrounds it, also under the one that is left when
    /// the application trims it.
    fn file(&mut self, field: Slice, filename: Slice, content: Slice) {
        self.parts.files.push(File { field, filename, content });
        self.parts.part_filenames.push(filename);
        let name = self.parts.bytes(filename, self.body);
        let start = name.len() - name.trim_ascii_start().len();
        let end = start + name.trim_ascii().len();
        if start < end && end - start < name.len() {
            let trimmed = filename.part(start, end);
            self.parts.files.push(File { field, filename: trimmed, content: Slice::EMPTY });
            self.parts.part_filenames.push(trimmed);
        }
    }

    /// The name of `filename*` without charset, language and escapes (RFC 8187), and what stands there if that `is_new`.
    fn extended_filename(&mut self, field: Slice, extended: Slice, is_new: bool) {
        let text = self.parts.bytes(extended, self.body);
        let value = text.splitn(3, |&byte| byte == b'\'').nth(2).unwrap_or(text);
        let decoded = super::urlencoded::percent_decoded(value);
        let decoded = self.parts.store(&decoded);
        for filename in is_new.then_some(extended).into_iter().chain([decoded]) {
            self.parts.files.push(File { field, filename, content: Slice::EMPTY });
            self.parts.part_filenames.push(filename);
        }
    }

    /// Each part may name a charset, and the field `_charset_` one for all (RFC 7578 sections 4.5 and 4.6); a transfer
    /// encoding is deprecated and not read.
    fn check_charset(&mut self, fields: &PartFields, field: Slice, content: Slice) {
        let of_form = self.parts.bytes(field, self.body) == b"_charset_";
        let named = of_form.then(|| Charset::from_name(self.parts.bytes(content, self.body)));
        let fault = fields
            .values(self.body, b"content-type")
            .map(|(_, value)| charset::of_media_type(value))
            .find_map(|found| match found {
                Err(reason) => Some(reason),
                Ok(found) => found.is_some_and(|found| !found.extends_ascii()).then_some(OTHER_CHARSET),
            });
        let of_form = named.filter(|named| !named.is_some_and(Charset::extends_ascii));
        if let Some(reason) = fault.or(of_form.map(|_| OTHER_CHARSET)) {
            self.parts.fail(format!("multipart: {reason}"));
        }
        let is_plain = |value: &[u8]| {
            [&b"7bit"[..], b"8bit", b"binary"].iter().any(|known| value.eq_ignore_ascii_case(known))
        };
        let mut encodings = fields.values(self.body, b"content-transfer-encoding");
        if encodings.any(|(_, value)| !is_plain(value.trim_ascii())) {
            self.parts.fail("multipart: a transfer encoding that is not read");
        }
    }

    fn keep_headers(&mut self, fields: &PartFields, name: Slice) {
        let lines = fields.lines.iter().map(|&(start, end)| Arg { name, value: Slice::body(start, end) });
        self.parts.part_headers.extend(lines);
    }

    fn parameter(&mut self, offset: usize, parameter: Option<Parameter>) -> Option<Slice> {
        let Parameter { start, end, escaped } = parameter?;
        let (start, end) = (offset + start, offset + end);
        if !escaped {
            return Some(Slice::body(start, end));
        }
        let stored = self.parts.arena.len();
        content_disposition::unescape(self.body.get(start..end).unwrap_or_default(), &mut self.parts.arena);
        Some(self.parts.stored_since(stored))
    }
}

const OTHER_CHARSET: &str = "a charset that is not read in forms";

/// The header fields of a part, as ranges of the body.
#[derive(Default)]
struct PartFields {
    lines: Vec<(usize, usize)>,
}

impl PartFields {
    fn push(&mut self, start: usize, line: &[u8]) -> Result<(), &'static str> {
        let Some(colon) = memchr::memchr(b':', line) else {
            return Err("a part's header field has no colon");
        };
        let name = line.get(..colon).unwrap_or_default();
        // The line is kept whatever its name looks like, so that rules see it.
        self.lines.push((start, start + line.len()));
        if name.trim_ascii().is_empty() {
            return Err("a part's header field has no name");
        }
        if self.lines.len() > PART_FIELDS_MAX { Err("a part has too many header fields") } else { Ok(()) }
    }

    /// The values of the fields of this name, with their places.
    fn values<'a>(&'a self, body: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = (usize, &'a [u8])> {
        self.lines.iter().filter_map(move |&(start, end)| {
            let line = body.get(start..end)?;
            let colon = memchr::memchr(b':', line)?;
            let matches = line.get(..colon)?.trim_ascii().eq_ignore_ascii_case(name);
            matches.then_some((start + colon + 1, line.get(colon + 1..)?))
        })
    }

    fn disposition(&self, body: &[u8]) -> Option<(usize, Disposition)> {
        let mut found = self.values(body, b"content-disposition");
        let (offset, text) = found.next()?;
        let mut disposition = content_disposition::parse(text);
        if found.next().is_some() {
            disposition.error = Some("a part has two dispositions");
        }
        Some((offset, disposition))
    }

    fn is_nested(&self, body: &[u8]) -> bool {
        let starts =
            |text: &[u8]| text.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"));
        self.values(body, b"content-type").any(|(_, value)| starts(value.trim_ascii_start()))
    }
}
