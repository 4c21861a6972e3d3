//! Secrets taken out of a request that is to be recorded. Every masked byte is replaced in its place, so that lengths, names and structure
//! stay what rules saw.
//!
//! A secret field or cookie, by which limits may count, gets a stand-in of its own ([`super::pseudonym`]); nothing is left of any other.
//!
//! What is secret is told by names ([`phalanx_model::secret`], and what policy declares) and by shapes ([`crate::redact`]). A value of digits
//! alone becomes ones, any other `x`: how long it was, and whether it was a number, is all that is left of it.
//!
//! INVARIANT: a body of a form in which names are not known is left out as a whole, not kept unmasked.

use std::ops::Range;

use bytes::Bytes;
use phalanx_model::secret::is_secret_name;
use phalanx_model::{BodySeen, Recorded};

use super::json;
use super::pseudonym::Pseudonyms;
use crate::redact::{find, percent_decoded};

/// Masks all secrets of a request.
pub fn mask(request: &mut Recorded, pseudonyms: &Pseudonyms) {
    let declared = std::mem::take(&mut request.secret_names);
    let form = BodyForm::of(&request.head);
    let mut head = Masker::new(&request.head, &declared);
    head.head(pseudonyms);
    let mut any = head.any;
    request.head = head.bytes.into();
    if !request.body.is_empty() {
        let mut body = Masker::new(&request.body, &declared);
        if body.body(&form) {
            any |= body.any;
            request.body = body.bytes.into();
        } else {
            request.body = Bytes::new();
            request.facts.seen = BodySeen::Withheld;
        }
    }
    request.facts.masked = any;
}

/// Bytes in which secrets are overwritten.
pub(super) struct Masker<'a> {
    bytes: Vec<u8>,
    declared: &'a [String],
    any: bool,
}

impl<'a> Masker<'a> {
    fn new(bytes: &[u8], declared: &'a [String]) -> Self {
        Self { bytes: bytes.to_vec(), declared, any: false }
    }

    pub(super) fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn is_secret(&self, name: &[u8]) -> bool {
        if is_secret_name(name) {
            return true;
        }
        let mut name = percent_decoded(name).unwrap_or_else(|| name.to_vec());
        name.iter_mut().filter(|byte| **byte == b'+').for_each(|byte| *byte = b' ');
        let is_named = |one: &String| leaf(one.as_bytes()).eq_ignore_ascii_case(leaf(&name));
        self.declared.iter().any(is_named)
    }

    /// Overwrites a value.
    pub(super) fn hide(&mut self, range: Range<usize>) {
        let Some(value) = self.bytes.get_mut(range).filter(|value| !value.is_empty()) else { return };
        let mask = if value.iter().all(u8::is_ascii_digit) { b'1' } else { b'x' };
        value.fill(mask);
        self.any = true;
    }

    /// Overwrites a value by its stand-in.
    fn hide_as(&mut self, range: Range<usize>, pseudonyms: &Pseudonyms) {
        let value = self.bytes.get_mut(range.clone()).unwrap_or_default();
        if pseudonyms.overwrite(value) {
            self.any = true;
        } else {
            self.hide(range);
        }
    }

    /// Overwrites the digits of a number, so that it stays one.
    pub(super) fn hide_number(&mut self, range: Range<usize>) {
        for byte in self.bytes.get_mut(range).unwrap_or_default() {
            if byte.is_ascii_digit() {
                *byte = b'1';
                self.any = true;
            }
        }
    }

    /// Overwrites what is told by its shape or by a name within a text, encoded or not.
    pub(super) fn shapes(&mut self, range: Range<usize>) {
        // Of the same length, so that what is found is at the same places.
        let letter = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { '?' };
        let text: String = self.part(&range).iter().map(letter).collect();
        for (start, end) in find(&text) {
            self.hide(range.start + start..range.start + end);
        }
    }

    /// The pairs of a query or form.
    fn pairs(&mut self, range: Range<usize>) {
        for pair in split(self.part(&range), range.start, b'&') {
            match self.part(&pair).iter().position(|&byte| byte == b'=') {
                Some(at) if self.is_secret(self.part(&(pair.start..pair.start + at))) => {
                    self.hide(pair.start + at + 1..pair.end);
                }
                // With its name, for what one within it is called: `next=/reset?token=...`.
                _ => self.shapes(pair),
            }
        }
    }

    fn head(&mut self, pseudonyms: &Pseudonyms) {
        let mut secret = false;
        for (number, line) in split(&self.bytes, 0, b'\n').into_iter().enumerate() {
            let end = line.end - usize::from(self.part(&line).ends_with(b"\r"));
            let line = line.start..end;
            let text = self.part(&line);
            if number == 0 {
                let target = text.iter().position(|&byte| byte == b' ').map_or(0, |at| at + 1);
                self.target(line.start + target..line.end);
            } else if text.first().is_some_and(|&byte| byte == b' ' || byte == b'\t') {
                // A folded line goes on with what was before.
                if secret { self.hide(line) } else { self.shapes(line) }
            } else if let Some(colon) = text.iter().position(|&byte| byte == b':') {
                let name = text.get(..colon).unwrap_or_default().trim_ascii();
                secret = self.is_secret(name);
                let (is_cookie, value) =
                    (name.eq_ignore_ascii_case(b"cookie"), line.start + colon + 1..line.end);
                self.field((is_cookie, secret), value, pseudonyms);
            } else {
                self.shapes(line);
            }
        }
    }

    fn field(&mut self, (is_cookie, secret): (bool, bool), value: Range<usize>, pseudonyms: &Pseudonyms) {
        let text = self.part(&value);
        let blank = text.len() - text.trim_ascii_start().len();
        let value = value.start + blank..value.end;
        let text = self.part(&value);
        if is_cookie {
            for pair in split(text, value.start, b';') {
                let at = self.part(&pair).iter().position(|&byte| byte == b'=').map_or(0, |at| at + 1);
                self.hide_as(pair.start + at..pair.end, pseudonyms);
            }
        } else if secret {
            let scheme = text.iter().position(|&byte| byte == b' ').filter(|&at| {
                SCHEMES.iter().any(|scheme| text.get(..at).is_some_and(|s| s.eq_ignore_ascii_case(scheme)))
            });
            let credentials = value.start + scheme.map_or(0, |at| at + 1)..value.end;
            // A person's password is in it, which could be guessed.
            if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic")) {
                self.hide(credentials);
            } else {
                self.hide_as(credentials, pseudonyms);
            }
        } else {
            self.target(value);
        }
    }

    /// A target or another text with a query in it, perhaps.
    fn target(&mut self, range: Range<usize>) {
        let query = self.part(&range).iter().position(|&byte| byte == b'?').map(|at| range.start + at + 1);
        match query {
            None => self.shapes(range),
            Some(query) => {
                self.shapes(range.start..query);
                // The request line goes on after it.
                let end = self.part(&(query..range.end)).iter().rposition(|&byte| byte == b' ');
                self.pairs(query..end.map_or(range.end, |at| query + at));
                if let Some(at) = end {
                    self.shapes(query + at..range.end);
                }
            }
        }
    }

    /// False for a body in which secrets cannot be told.
    fn body(&mut self, form: &BodyForm) -> bool {
        let all = 0..self.bytes.len();
        if *form != BodyForm::Other && !matches!(form, BodyForm::Multipart(_)) && self.bytes.contains(&0) {
            // UTF-16, or no text.
            return false;
        }
        match form {
            BodyForm::Pairs => self.pairs(all),
            // Of what is no JSON nobody knows what is the name of what.
            BodyForm::Json => return json::mask(self, all),
            BodyForm::Multipart(boundary) => return self.parts(boundary),
            BodyForm::Xml => {
                self.elements();
                self.shapes(all);
            }
            BodyForm::Text => self.text(all),
            BodyForm::Other => return false,
        }
        true
    }

    /// The parts of a form with files.
    fn parts(&mut self, boundary: &[u8]) -> bool {
        let delimiter = [b"--", boundary].concat();
        let starts: Vec<usize> = memchr::memmem::find_iter(&self.bytes, &delimiter).collect();
        if starts.first() != Some(&0) {
            return false;
        }
        for (place, start) in starts.iter().enumerate() {
            let end = starts.get(place + 1).copied().unwrap_or(self.bytes.len());
            let part = start + delimiter.len()..end;
            let Some(blank) = memchr::memmem::find(self.part(&part), b"\r\n\r\n") else {
                // After the last delimiter comes nothing; a part without a head has no name.
                let rest = part.start + 2.min(part.len())..part.end;
                if !self.part(&rest).trim_ascii().is_empty() {
                    self.hide(rest);
                }
                continue;
            };
            let (head, content) = (part.start..part.start + blank, part.start + blank + 4..part.end);
            let content = content.start..content.end.saturating_sub(2).max(content.start);
            let name = part_name(self.part(&head));
            if name.is_none_or(|name| self.is_secret(&name)) {
                self.hide(content);
            } else {
                self.text(content);
            }
        }
        true
    }

    /// A text: as JSON if it is some, else by shapes.
    fn text(&mut self, range: Range<usize>) {
        let text = self.part(&range);
        let begin = text.strip_prefix(json::BOM).unwrap_or(text).trim_ascii_start().first();
        let may_be_json = begin.is_some_and(|byte| b"{[".contains(byte));
        if !may_be_json || !json::mask(self, range.clone()) {
            self.shapes(range);
        }
    }

    /// What elements with secret names hold, down to their end tags.
    fn elements(&mut self) {
        // The name of a secret element, and how many of that name are open: others within it need not be well formed.
        let mut secret: Option<(Range<usize>, usize)> = None;
        let (mut at, all) = (0, self.bytes.len());
        while let Some(open) = memchr::memchr(b'<', self.part(&(at..all))).map(|found| at + found) {
            if secret.is_some() {
                self.hide(at..open);
            }
            let inner = open + 1;
            let tag = self.part(&(inner..all));
            if let Some((begin, end)) = LITERALS.iter().find(|(begin, _)| tag.starts_with(begin)) {
                let length = memchr::memmem::find(tag, end).unwrap_or(tag.len());
                if secret.is_some() {
                    self.hide(inner + begin.len()..inner + length);
                }
                at = (inner + length + end.len()).min(all);
                continue;
            }
            let length = memchr::memchr(b'>', tag).unwrap_or(tag.len());
            let tag = tag.get(..length).unwrap_or_default();
            let (is_end, is_empty) = (tag.starts_with(b"/"), tag.ends_with(b"/"));
            let name = tag.get(usize::from(is_end)..).unwrap_or_default();
            let name_bytes = name.iter().position(|byte| b" \t\r\n/".contains(byte)).unwrap_or(name.len());
            let name = inner + usize::from(is_end)..inner + usize::from(is_end) + name_bytes;
            secret = match secret {
                Some((of, count)) if self.part(&of) == self.part(&name) => match (is_end, is_empty) {
                    (true, _) => (count > 1).then(|| (of, count - 1)),
                    (false, true) => Some((of, count)),
                    (false, false) => Some((of, count + 1)),
                },
                None if !is_end && !is_empty && self.is_secret(self.part(&name)) => Some((name, 1)),
                other => other,
            };
            at = (inner + length + 1).min(all);
        }
        if secret.is_some() {
            self.hide(at..all);
        }
    }
}

/// How a body is to be read.
#[derive(Debug, PartialEq, Eq)]
enum BodyForm {
    Pairs,
    Json,
    Multipart(Vec<u8>),
    Xml,
    Text,
    /// Encoded, or of a form in which names are not known.
    Other,
}

impl BodyForm {
    fn of(head: &[u8]) -> Self {
        let (mut form, mut types) = (Self::Other, 0);
        for line in head.split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
                return Self::Other;
            }
            if name.eq_ignore_ascii_case(b"content-type") {
                types += 1;
                form = Self::of_type(value);
            }
        }
        if types == 1 { form } else { Self::Other }
    }

    fn of_type(value: &[u8]) -> Self {
        let lower = value.to_ascii_lowercase();
        let kind = lower.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let has = |word: &[u8]| memchr::memmem::find(kind, word).is_some();
        match kind {
            b"application/x-www-form-urlencoded" => Self::Pairs,
            b"multipart/form-data" => match parameter(value, b"boundary") {
                Some(boundary) if !boundary.is_empty() => Self::Multipart(boundary),
                _ => Self::Other,
            },
            b"text/plain" | b"application/graphql" => Self::Text,
            _ if has(b"json") => Self::Json,
            _ if has(b"xml") => Self::Xml,
            _ => Self::Other,
        }
    }
}

/// The name of a part; `None` if it cannot be told.
fn part_name(head: &[u8]) -> Option<Vec<u8>> {
    let lines = head.split(|&byte| byte == b'\n');
    let line = lines.map(<[u8]>::trim_ascii).find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case(b"content-disposition:"))
    })?;
    parameter(line, b"name")
}

/// The value of a parameter, as in `; name="value"`.
fn parameter(text: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    text.split(|&byte| byte == b';')
        .find_map(|one| {
            let (key, value) = one.split_at(one.iter().position(|&byte| byte == b'=')?);
            let is_it = key.trim_ascii().eq_ignore_ascii_case(name);
            is_it.then(|| value.get(1..).unwrap_or_default().trim_ascii().to_vec())
        })
        .map(|value| match value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) {
            Some(bare) => bare.to_vec(),
            None => value,
        })
}

/// The last part of a name: `password` of `user.password`, `user[password]`, `user[password][]` and `w:password`.
fn leaf(name: &[u8]) -> &[u8] {
    let mut parts = name.rsplit(|byte| b".[]:".contains(byte));
    parts.find(|part| !part.is_empty()).unwrap_or(name)
}

/// The places of what stands between separators, where `text` begins at `start`.
fn split(text: &[u8], start: usize, separator: u8) -> Vec<Range<usize>> {
    let mut at = start;
    text.split(|&byte| byte == separator)
        .map(|part| {
            let range = at..at + part.len();
            at = range.end + 1;
            range
        })
        .collect()
}

/// What has no tags in it, and how it ends.
const LITERALS: &[(&[u8], &[u8])] = &[(b"![CDATA[", b"]]>"), (b"!--", b"-->")];
const SCHEMES: &[&[u8]] = &[b"basic", b"bearer", b"digest", b"negotiate"];
