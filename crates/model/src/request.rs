//! A request's head as the wire carried it: one buffer, and spans into it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A stretch of a buffer. 32 bits suffice: heads are bounded by [`crate::limits::HEAD_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span as a range of indices.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether the span is empty.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// One header field: exact bytes, order and case of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderField {
    /// The field's name.
    pub name: Span,
    /// The field's value without surrounding white space.
    pub value: Span,
}

/// The version in the request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HttpVersion {
    /// HTTP/1.0
    #[serde(rename = "HTTP/1.0")]
    Http10,
    /// HTTP/1.1
    #[serde(rename = "HTTP/1.1")]
    Http11,
    /// HTTP/2
    #[serde(rename = "HTTP/2.0")]
    Http2,
}

impl HttpVersion {
    /// The version as SecLang's `REQUEST_PROTOCOL` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How the body that follows a head is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFraming {
    /// No body.
    #[default]
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// A departure from RFC 9112 on which two parsers could disagree. It is recorded, then the request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FramingFault {
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.1).
    LengthAndTransferEncoding,
    /// Several or differing `Content-Length` values.
    RepeatedLength,
    /// A `Content-Length` that is no plain decimal number.
    BadLength,
    /// A `Transfer-Encoding` other than exactly `chunked`.
    BadTransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    TransferEncodingInHttp10,
    /// A line ended by LF without CR.
    BareLineFeed,
    /// A CR that no LF follows.
    BareCarriageReturn,
    /// A folded header line (RFC 9112 section 5.2).
    FoldedHeader,
    /// White space before the colon, or a line with no colon.
    BadHeaderLine,
    /// NUL or another control byte in the head.
    ControlByte,
    /// HTTP/1.1 without `Host`, HTTP/2 without `:authority` or `Host`.
    MissingHost,
    /// More than one `Host`.
    RepeatedHost,
    /// A `Host` that is no valid authority.
    BadHost,
    /// More than one `Content-Type`: the back end may read the body by another one than was inspected.
    RepeatedContentType,
    /// A request line that is not `method SP target SP version`.
    BadRequestLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    BadVersion,
    /// A chunk size that is no hexadecimal number, or too large.
    BadChunk,
    /// `CONNECT`, or an absolute-form target whose authority differs from `Host`.
    BadTarget,
    /// A path that servers read in two ways, which meet different routes of the app.
    AmbiguousPath,
    /// A head beyond the limits of size, fields or time.
    HeadTooLarge,
    /// A body beyond the limit.
    BodyTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// Another proxy's question does not say what was asked, or says it twice.
    BadQuestion,
    /// What HTTP/2 forbids: in a head that its codec refuses unseen, in the order of frames, or between a head and its body.
    BadStream,
}

impl fmt::Display for FramingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LengthAndTransferEncoding => "both Content-Length and Transfer-Encoding",
            Self::RepeatedLength => "more than one Content-Length",
            Self::BadLength => "Content-Length is not a number",
            Self::BadTransferEncoding => "Transfer-Encoding is not chunked",
            Self::TransferEncodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Self::BareLineFeed => "line ended without a carriage return",
            Self::BareCarriageReturn => "carriage return without a line feed",
            Self::FoldedHeader => "folded header line",
            Self::BadHeaderLine => "malformed header line",
            Self::ControlByte => "control byte in the head",
            Self::MissingHost => "Host is missing",
            Self::RepeatedHost => "more than one Host",
            Self::BadHost => "Host is not an authority",
            Self::RepeatedContentType => "more than one Content-Type",
            Self::BadRequestLine => "malformed request line",
            Self::BadVersion => "unsupported protocol version",
            Self::BadChunk => "malformed chunk",
            Self::BadTarget => "target form not served here",
            Self::AmbiguousPath => "path can be read in two ways",
            Self::HeadTooLarge => "head is too large",
            Self::BodyTooLarge => "body is too large",
            Self::HeadTimeout => "head did not arrive in time",
            Self::BadQuestion => "question of another proxy that does not say what was asked",
            Self::BadStream => "malformed HTTP/2",
        })
    }
}

/// A request head: the raw bytes and where its parts lie in them.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The head from the request line to the empty line, exactly as received.
    pub raw: Bytes,
    /// The method.
    pub method: Span,
    /// The request target, undecoded.
    pub target: Span,
    /// The protocol version.
    pub version: HttpVersion,
    /// The header fields in order.
    pub fields: Vec<HeaderField>,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// What was wrong with it; a head with faults is inspected, recorded and refused.
    pub faults: Vec<FramingFault>,
}

impl RequestHead {
    /// The bytes of a span; empty for a span that does not lie in this head.
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.raw.get(span.range()).unwrap_or_default()
    }

    /// The method's bytes.
    pub fn method(&self) -> &[u8] {
        self.bytes(self.method)
    }

    /// The target's bytes, undecoded.
    pub fn target(&self) -> &[u8] {
        self.bytes(self.target)
    }

    /// The target's path: up to the first `?`, undecoded.
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        target.split(|&b| b == b'?').next().unwrap_or(target)
    }

    /// Name and value of every field, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|f| (self.bytes(f.name), self.bytes(f.value)))
    }

    /// The first value of the named field; names compare without case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}
