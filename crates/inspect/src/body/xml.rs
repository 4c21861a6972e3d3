//! XML: all text, all attribute values, and what stands beside them; nothing expanded and nothing fetched.
//!
//! A document with a type declaration beyond a name, or that is not UTF-8 or not well formed, is an error; its text up to
//! there is kept. What a type declaration brings, entities and attributes from elsewhere, is nothing that we see.
//!
//! Comments and processing instructions are no part of an element's content (XPath 1.0, section 5.2), and few applications
//! read them; those that do (a stored document shown as HTML, a processor of instructions) read all of them, so they are
//! values of their own. Names are for rules that ask for them: they have no white space, quotes or brackets, and the Core
//! Rule Set's tests want its rules not to match them.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use hashbrown::HashSet;
use quick_xml::Reader;
use quick_xml::errors::{IllFormedError, SyntaxError};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::charset::Charset;
use super::{BodyLimits, BodyParts, Slice, XmlAside, arena_bytes_max};

/// Parses a document; with `into_args` each element that has only text becomes an argument `xml.root.name`.
pub fn xml(body: &[u8], into_args: bool, limits: &BodyLimits, parts: &mut BodyParts) {
    let mut walk = Walk {
        body,
        into_args,
        limits,
        parts,
        text: Vec::new(),
        path: b"xml".to_vec(),
        open: Vec::new(),
        names: HashSet::new(),
        hasher: foldhash::fast::RandomState::default(),
        comments: 0,
        begun: false,
        roots: 0,
    };
    let document = String::from_utf8_lossy(body);
    if matches!(document, Cow::Owned(_)) {
        walk.parts.fail("XML: not UTF-8");
    }
    match walk.run(&document) {
        Ok(()) => {}
        Err(Stop::Early) => walk.parts.fail_at_end("XML: the document ends early"),
        Err(Stop::Malformed(reason)) => walk.parts.fail(format!("XML: {reason}")),
    }
    let (text, roots) = (std::mem::take(&mut walk.text), walk.roots);
    if roots > 0 || !text.is_empty() {
        parts.xml_text = Some(parts.store(&text));
    }
}

/// Why reading ended.
enum Stop {
    Malformed(String),
    /// The document ends within itself.
    Early,
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Malformed(reason)
    }
}

impl Stop {
    /// Of an error of the reader, `rest` being what it could not read.
    fn of(error: &quick_xml::Error, rest: &str) -> Self {
        match error {
            quick_xml::Error::Syntax(SyntaxError::InvalidBangMarkup) if rest.len() > LONGEST_MARKUP => {}
            quick_xml::Error::Syntax(_) => return Self::Early,
            quick_xml::Error::IllFormed(IllFormedError::UnclosedReference) if !rest.contains(['<', ';']) => {
                return Self::Early;
            }
            _ => {}
        }
        Self::Malformed(error.to_string())
    }
}

/// Length of `<![CDATA[`, the longest beginning of a markup that can be told from others only when it is all there.
const LONGEST_MARKUP: usize = 9;

struct Walk<'a> {
    body: &'a [u8],
    into_args: bool,
    limits: &'a BodyLimits,
    parts: &'a mut BodyParts,
    /// All text so far.
    text: Vec<u8>,
    /// `xml.` and the names of the elements around us.
    path: Vec<u8>,
    open: Vec<Element>,
    /// Hashes of the names so far, as each is a value once.
    names: HashSet<u64>,
    hasher: foldhash::fast::RandomState,
    /// Comments and processing instructions so far.
    comments: usize,
    /// Something but white space was there.
    begun: bool,
    roots: usize,
}

/// An element that is open.
struct Element {
    /// Length of the path outside of it.
    path: usize,
    /// Length of the text before it.
    text: usize,
    has_elements: bool,
}

impl Walk<'_> {
    fn run(&mut self, document: &str) -> Result<(), Stop> {
        let mut reader = Reader::from_str(document);
        let config = reader.config_mut();
        config.check_end_names = true;
        config.allow_dangling_amp = false;
        config.expand_empty_elements = true;
        loop {
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
                    let rest = document.get(at..).unwrap_or_default();
                    // What cannot be taken apart is text, so that it is seen.
                    self.text.extend_from_slice(rest.as_bytes());
                    return Err(Stop::of(&error, rest));
                }
            };
            let is_blank = matches!(&event, Event::Text(text) if text.trim_ascii().is_empty());
            let begun = self.begun;
            self.begun |= !is_blank;
            match event {
                Event::Start(element) => self.start(&element)?,
                Event::End(_) => self.end()?,
                Event::Text(text) => {
                    let text = text.into_inner();
                    if self.open.is_empty() && !text.trim().is_empty() {
                        return Err("text outside of the document's element".to_owned().into());
                    }
                    if !self.open.is_empty() {
                        self.text.extend_from_slice(text.as_bytes());
                    }
                }
                Event::CData(text) => self.text.extend_from_slice(text.into_inner().as_bytes()),
                Event::GeneralRef(reference) => self.reference(&reference)?,
                Event::DocType(text) => self.document_type(&text.into_inner())?,
                Event::Decl(declaration) => self.declaration(&declaration, begun)?,
                Event::Comment(comment) => {
                    let comment = comment.into_inner();
                    // XML 1.0 section 2.5. Where a comment ends is what parsers that allow it differ on.
                    if comment.contains("--") || comment.ends_with('-') {
                        self.parts.fail("XML: a comment with two hyphens");
                    }
                    self.aside(XmlAside::Comment, comment.as_bytes())?;
                }
                Event::PI(instruction) => {
                    if instruction.target().eq_ignore_ascii_case("xml") {
                        self.parts.fail("XML: a declaration within the document");
                    }
                    self.name(instruction.target())?;
                    self.aside(XmlAside::Instruction, instruction.as_ref().as_bytes())?;
                }
                Event::Empty(_) => {}
                Event::Eof => break,
            }
        }
        match (self.open.is_empty(), self.roots) {
            (true, 1) => Ok(()),
            (true, 0) => Err("the document has no element".to_owned().into()),
            (true, _) => Err("the document has more than one outermost element".to_owned().into()),
            (false, _) => Err(Stop::Early),
        }
    }

    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        match self.open.last_mut() {
            Some(parent) => parent.has_elements = true,
            None => self.roots += 1,
        }
        if self.open.len() >= self.limits.depth_max {
            return Err("nested too deep".to_owned());
        }
        self.name(element.name().into_inner())?;
        self.open.push(Element { path: self.path.len(), text: self.text.len(), has_elements: false });
        if self.into_args {
            self.path.push(b'.');
            self.path.extend_from_slice(element.name().into_inner().as_bytes());
        }
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if self.parts.xml_attributes.len() >= self.limits.arguments_max.saturating_mul(16) {
                return Err("too many attributes".to_owned());
            }
            self.name(attribute.key.into_inner())?;
            let value = self.attribute(attribute.value.as_bytes())?;
            self.parts.xml_attributes.push(value);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(element) = self.open.pop() else { return Ok(()) };
        if self.into_args && !element.has_elements {
            let text = self.text.get(element.text..).unwrap_or_default();
            if self.parts.arena.len() + self.path.len() + text.len() > arena_bytes_max(self.body) {
                return Err("the names of nested elements take too much room".to_owned());
            }
            let name = self.parts.store(&self.path);
            let value = self.parts.store(text);
            if !self.parts.add(name, value, self.limits) {
                return Err("too many elements".to_owned());
            }
        }
        self.path.truncate(element.path);
        Ok(())
    }

    /// `&lt;` and `&#60;` in text. What a document would have to declare is not expanded.
    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), String> {
        match resolve(reference) {
            Some(text) => self.text.extend_from_slice(text.as_bytes()),
            None => {
                self.text.push(b'&');
                self.text.extend_from_slice(reference.as_bytes());
                self.text.push(b';');
                self.parts.fail("XML: a reference to an entity");
            }
        }
        if self.open.is_empty() { Err("text outside of the document's element".to_owned()) } else { Ok(()) }
    }

    /// An attribute's value with references resolved; a span of the body when it has none.
    fn attribute(&mut self, value: &[u8]) -> Result<Slice, String> {
        let mut rest = value;
        if memchr::memchr(b'&', value).is_none() {
            return Ok(self.slice(value));
        }
        let stored = self.parts.arena.len();
        while let Some(ampersand) = memchr::memchr(b'&', rest) {
            let (text, reference) = rest.split_at_checked(ampersand).unwrap_or((rest, &[]));
            self.parts.arena.extend_from_slice(text);
            let end = memchr::memchr(b';', reference).ok_or("a reference in an attribute is not closed")?;
            let name = std::str::from_utf8(reference.get(1..end).unwrap_or_default()).unwrap_or_default();
            match resolve(&BytesRef::new(name)) {
                Some(text) => self.parts.arena.extend_from_slice(text.as_bytes()),
                None => {
                    self.parts.arena.extend_from_slice(reference.get(..=end).unwrap_or_default());
                    self.parts.fail("XML: a reference to an entity");
                }
            }
            rest = reference.get(end + 1..).unwrap_or_default();
        }
        self.parts.arena.extend_from_slice(rest);
        Ok(self.parts.stored_since(stored))
    }

    /// A document type: a name alone, as in `<!DOCTYPE html>`, brings nothing.
    fn document_type(&mut self, text: &str) -> Result<(), String> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        if text.contains('[') || words.next().is_some() {
            self.parts.fail("XML: a document type declaration");
        } else {
            self.name(name)?;
        }
        Ok(())
    }

    /// `<?xml ...?>` says a version, an encoding and whether the document stands alone (XML 1.0 section 2.8), and stands
    /// before all else. White space before it is a common mistake and hides nothing.
    fn declaration(&mut self, declaration: &BytesDecl<'_>, begun: bool) -> Result<(), String> {
        if begun {
            self.parts.fail("XML: a declaration within the document");
        }
        let encoding = declaration.encoding().and_then(Result::ok);
        if encoding.is_some_and(|name| Charset::from_name(name.as_bytes()).is_none()) {
            self.parts.fail("XML: an encoding that is not supported");
        }
        let text: &str = declaration;
        let known = BytesStart::from_content(text, "xml".len()).attributes().all(|attribute| {
            attribute.is_ok_and(|attribute| match attribute.key.into_inner() {
                "version" => attribute.value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
                "standalone" => matches!(&*attribute.value, "yes" | "no"),
                name => name == "encoding",
            })
        });
        if known {
            return Ok(());
        }
        self.parts.fail("XML: a declaration that says more than it may");
        self.aside(XmlAside::Instruction, text.as_bytes())
    }

    /// Notes a comment or a processing instruction.
    fn aside(&mut self, kind: XmlAside, text: &[u8]) -> Result<(), String> {
        if self.comments >= self.limits.arguments_max {
            return Err("too many comments and processing instructions".to_owned());
        }
        self.comments += 1;
        let text = self.slice(text);
        self.parts.xml_asides.push((kind, text));
        Ok(())
    }

    /// Checks and notes a name (XML 1.0 section 2.3).
    fn name(&mut self, name: &str) -> Result<(), String> {
        if !self.names.insert(self.hasher.hash_one(name)) {
            return Ok(());
        }
        let mut characters = name.chars();
        if !characters.next().is_some_and(starts_name) || !characters.all(continues_name) {
            self.parts.fail("XML: a name with characters that names do not have");
        }
        if self.names.len() > self.limits.arguments_max.saturating_mul(16) {
            return Err("too many names".to_owned());
        }
        let name = self.slice(name.as_bytes());
        self.parts.xml_asides.push((XmlAside::Name, name));
        Ok(())
    }

    /// A span of the body where the bytes lie in it, else a copy.
    fn slice(&mut self, bytes: &[u8]) -> Slice {
        let start = (bytes.as_ptr() as usize).wrapping_sub(self.body.as_ptr() as usize);
        if self.body.get(start..).is_some_and(|body| body.starts_with(bytes)) {
            return Slice::body(start, start + bytes.len());
        }
        self.parts.store(bytes)
    }
}

/// XML 1.0 production 4.
fn starts_name(c: char) -> bool {
    matches!(c,
        ':' | '_' | 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

/// XML 1.0 production 4a.
fn continues_name(c: char) -> bool {
    let more =
        matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}');
    more || starts_name(c)
}

fn resolve(reference: &BytesRef<'_>) -> Option<String> {
    if reference.is_char_ref() {
        return reference.resolve_char_ref().ok().flatten().map(String::from);
    }
    resolve_predefined_entity(reference).map(str::to_owned)
}
