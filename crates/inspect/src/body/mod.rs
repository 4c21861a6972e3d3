//! Request bodies, query strings and cookies to arguments.
//!
//! Each parser appends to [`BodyParts`]. A value that stands in the body unchanged is a span of it; what had to be
//! decoded is in the arena. What cannot be parsed exactly sets `error` (or a flag), and what was found up to there
//! stays, so that it is inspected all the same: never silently nothing.
//!
//! INVARIANT: linear in the body; no recursion; the arena stays within [`ARENA_FACTOR`] times the body, or what it is in
//! UTF-8, and a little.

pub mod charset;
pub mod coding;
mod content_disposition;
mod graphql;
mod json;
mod multipart;
mod protobuf;
pub(crate) mod urlencoded;
mod xml;

pub use graphql::{graphql, graphql_over_http};
pub use json::{json, json_lines, json_sequence};
pub use multipart::multipart;
pub use protobuf::{grpc, grpc_plain, protobuf};
pub use urlencoded::{cookies, urlencoded};
pub use xml::xml;

/// Bytes of a parsed value: a range of the body where nothing changed, else of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// `body[start..end]`
    Body {
        /// First byte.
        start: u32,
        /// One past the last.
        end: u32,
    },
    /// `parts.arena[start..end]`
    Arena {
        /// First byte.
        start: u32,
        /// One past the last.
        end: u32,
    },
}

impl Slice {
    /// The empty slice.
    pub const EMPTY: Self = Self::Body { start: 0, end: 0 };

    /// A range of the body.
    pub(crate) fn body(start: usize, end: usize) -> Self {
        Self::Body { start: narrow(start), end: narrow(end) }
    }

    /// A part of it, by offsets from its start.
    fn part(self, from: usize, to: usize) -> Self {
        let to = narrow(to.min(self.len()));
        let from = narrow(from).min(to);
        match self {
            Self::Body { start, .. } => Self::Body { start: start + from, end: start + to },
            Self::Arena { start, .. } => Self::Arena { start: start + from, end: start + to },
        }
    }

    /// How many bytes it has.
    pub fn len(self) -> usize {
        let (Self::Body { start, end } | Self::Arena { start, end }) = self;
        end.saturating_sub(start) as usize
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A name with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: Slice,
    /// Its value.
    pub value: Slice,
}

/// A file of a multipart body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// The form field's name (`FILES` selector).
    pub field: Slice,
    /// The file name that the client gave.
    pub filename: Slice,
    /// Its content.
    pub content: Slice,
}

/// The `MULTIPART_*` flags of ModSecurity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the SecLang variables")]
pub struct MultipartFlags {
    pub boundary_quoted: bool,
    pub boundary_whitespace: bool,
    pub crlf_lf_lines: bool,
    pub data_after: bool,
    pub data_before: bool,
    pub file_limit_exceeded: bool,
    pub header_folding: bool,
    pub invalid_header_folding: bool,
    pub invalid_part: bool,
    pub invalid_quoting: bool,
    pub lf_line: bool,
    pub missing_semicolon: bool,
    pub strict_error: bool,
    pub unmatched_boundary: bool,
}

impl MultipartFlags {
    /// Whether the form is bent in a way that parsers read differently.
    fn is_strict_error(self) -> bool {
        self.boundary_quoted
            || self.boundary_whitespace
            || self.data_before
            || self.data_after
            || self.header_folding
            || self.lf_line
            || self.missing_semicolon
            || self.invalid_quoting
            || self.invalid_part
            || self.invalid_header_folding
            || self.file_limit_exceeded
    }
}

/// What an XML document has beside text and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XmlAside {
    /// A comment, without its marks.
    Comment,
    /// A processing instruction, target and all, without its marks.
    Instruction,
    /// The name of an element, attribute or processing instruction.
    Name,
}

impl XmlAside {
    /// The XPath expression by which rules name such a member of `XML`.
    pub fn xpath(self) -> &'static [u8] {
        match self {
            Self::Comment => b"//comment()",
            Self::Instruction => b"//processing-instruction()",
            Self::Name => b"//*/name()",
        }
    }
}

/// What a body consists of.
#[derive(Debug, Clone, Default)]
pub struct BodyParts {
    /// Arguments in order (`ARGS_POST`).
    pub args: Vec<Arg>,
    /// Files in order.
    pub files: Vec<File>,
    /// `MULTIPART_PART_HEADERS`: part name and whole header line.
    pub part_headers: Vec<Arg>,
    /// `MULTIPART_NAME`s in order.
    pub part_names: Vec<Slice>,
    /// `MULTIPART_FILENAME`s in order, one per file.
    pub part_filenames: Vec<Slice>,
    /// `MULTIPART_*`
    pub multipart: MultipartFlags,
    /// `URLENCODED_ERROR`
    pub urlencoded_error: bool,
    /// An object of a JSON document has the same key twice; also an error.
    pub json_duplicate_key: bool,
    /// `XML:/*`: all text of the document, joined, as libxml2 gives a root element's content.
    pub xml_text: Option<Slice>,
    /// `XML://@*`: attribute values in order.
    pub xml_attributes: Vec<Slice>,
    /// What stands beside text and attributes of an XML document, in order; each name once.
    pub xml_asides: Vec<(XmlAside, Slice)>,
    /// Owned bytes.
    pub arena: Vec<u8>,
    /// Why the body could not be parsed exactly (`REQBODY_ERROR`); the first reason.
    pub error: Option<String>,
    /// The error is only that the body ends before what it holds does, as the first part of a body would.
    pub ends_early: bool,
}

impl BodyParts {
    /// The bytes of a slice.
    pub fn bytes<'a>(&'a self, slice: Slice, body: &'a [u8]) -> &'a [u8] {
        let (from, start, end) = match slice {
            Slice::Body { start, end } => (body, start, end),
            Slice::Arena { start, end } => (self.arena.as_slice(), start, end),
        };
        from.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Notes a reason; the first one is kept, unless it was only that the body ends early.
    pub(crate) fn fail(&mut self, reason: impl Into<String>) {
        if self.error.is_none() || self.ends_early {
            self.error = Some(reason.into());
            self.ends_early = false;
        }
    }

    /// Notes that the body ends before what it holds does.
    fn fail_at_end(&mut self, reason: impl Into<String>) {
        if self.error.is_none() {
            self.error = Some(reason.into());
            self.ends_early = true;
        }
    }

    /// Of a body that was cut off here, not by its sender: that it ends early is no error.
    pub(crate) fn forgive_end(&mut self) {
        if self.ends_early {
            self.error = None;
            self.ends_early = false;
            self.multipart.strict_error = self.multipart.is_strict_error();
        }
    }

    /// Takes over what was found in `text`, which is no part of the body.
    pub(crate) fn absorb_text(&mut self, inner: &Self, text: &[u8]) {
        let at = self.store(text);
        self.absorb(inner, at);
    }

    /// Takes over what was found in `text`, a copy of the slice `at`.
    fn absorb(&mut self, inner: &Self, at: Slice) {
        let base = self.arena.len();
        self.arena.extend_from_slice(&inner.arena);
        let place = |slice: Slice| match slice {
            Slice::Body { start, end } => at.part(start as usize, end as usize),
            Slice::Arena { start, end } => {
                Slice::Arena { start: narrow(base + start as usize), end: narrow(base + end as usize) }
            }
        };
        self.args.extend(inner.args.iter().map(|arg| Arg { name: place(arg.name), value: place(arg.value) }));
    }

    /// Copies bytes to the arena.
    fn store(&mut self, bytes: &[u8]) -> Slice {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.stored_since(start)
    }

    /// What was added to the arena since it had this length.
    fn stored_since(&self, start: usize) -> Slice {
        Slice::Arena { start: narrow(start), end: narrow(self.arena.len()) }
    }

    /// Adds all of a body as one argument, `body`, beyond any limit of their number.
    pub(crate) fn add_whole(&mut self, body: &[u8]) {
        let name = self.store(b"body");
        self.args.push(Arg { name, value: Slice::body(0, body.len()) });
    }

    /// Adds an argument; false when there are too many, which is noted.
    fn add(&mut self, name: Slice, value: Slice, limits: &BodyLimits) -> bool {
        if self.args.len() >= limits.arguments_max {
            self.fail(format!("more than {} arguments", limits.arguments_max));
            return false;
        }
        self.args.push(Arg { name, value });
        true
    }
}

/// Limits of a parse.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most arguments; more is an error.
    pub arguments_max: usize,
    /// Deepest nesting of JSON and XML; more is an error.
    pub depth_max: usize,
}

/// How much larger than the body the arena may become: names of nested JSON values repeat those around them.
const ARENA_FACTOR: usize = 8;

fn arena_bytes_max(body: &[u8]) -> usize {
    body.len().saturating_mul(ARENA_FACTOR).saturating_add(64 * 1024)
}

/// Positions are kept in 32 bits; bodies held for inspection are far smaller.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
