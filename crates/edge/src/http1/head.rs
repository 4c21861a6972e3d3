//! Reading request heads: find the end, parse strictly, and where that fails parse leniently to say what was wrong.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use phalanx_model::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX};
use phalanx_model::{BodyFraming, FramingFault, HeaderField, HttpVersion, RequestHead, Span};

use super::fields::is_token_byte;
use super::lenient::parse_leniently;
use super::semantics::examine;

/// Limits of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes, the empty line included.
    pub bytes: usize,
    /// Most header fields, 256 at most.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: HEAD_BYTES_MAX, fields: HEAD_FIELDS_MAX }
    }
}

/// Reads heads from a connection's input, across however many reads they take.
#[derive(Debug, Default)]
pub struct HeadReader {
    line_start: usize,
    scanned: usize,
    blank_lines: usize,
    bare_line_feed: bool,
}

impl HeadReader {
    /// Takes the next head off the front of `input`. `None`: more input is needed.
    ///
    /// The head may carry faults; then nothing that follows it in `input` can be trusted.
    pub fn read(&mut self, input: &mut BytesMut, limits: HeadLimits) -> Option<RequestHead> {
        // A robust server skips empty lines before a request line (RFC 9112 section 2.2); a few, not a flood.
        while self.scanned == 0 && self.blank_lines < BLANK_LINES_MAX && input.starts_with(b"\r\n") {
            input.advance(2);
            self.blank_lines += 1;
        }
        if self.scanned == 0 {
            let fault = start_fault(input)?;
            if let Some(fault) = fault {
                return Some(unreadable(input, fault));
            }
        }
        let within = input.get(..limits.bytes.min(input.len())).unwrap_or_default();
        let head = match self.find_end(within) {
            Some(end) => parse(input.split_to(end).freeze(), self.bare_line_feed, limits),
            None if input.len() > limits.bytes => {
                let mut head = parse_leniently(input.split_to(limits.bytes).freeze(), limits);
                head.faults.insert(0, FramingFault::HeadTooLarge);
                head
            }
            None => return None,
        };
        *self = Self::default();
        Some(head)
    }

    /// Makes a head of what has arrived in time, with [`FramingFault::HeadTimeout`] as its first fault.
    pub fn give_up(&mut self, input: &mut BytesMut, limits: HeadLimits) -> RequestHead {
        let mut head = parse_leniently(input.split().freeze(), limits);
        head.faults.insert(0, FramingFault::HeadTimeout);
        *self = Self::default();
        head
    }

    fn find_end(&mut self, input: &[u8]) -> Option<usize> {
        loop {
            let rest = input.get(self.scanned..)?;
            let Some(offset) = memchr::memchr(b'\n', rest) else {
                self.scanned = input.len();
                return None;
            };
            let at = self.scanned + offset;
            let line = input.get(self.line_start..at).unwrap_or_default();
            self.bare_line_feed |= line.last() != Some(&b'\r');
            self.scanned = at + 1;
            self.line_start = at + 1;
            if line.is_empty() || line == b"\r" {
                return Some(at + 1);
            }
        }
    }
}

/// Why bytes held no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The empty line that ends a head is missing.
    #[error("the request head is incomplete")]
    Incomplete,
}

/// Parses the head at the start of a recorded request. What is wrong with it is in its `faults`; the body starts at
/// `head.raw.len()` after any skipped empty lines.
pub fn parse_head(raw: &[u8]) -> Result<RequestHead, HeadError> {
    let mut input = BytesMut::from(raw);
    HeadReader::default().read(&mut input, HeadLimits::default()).ok_or(HeadError::Incomplete)
}

/// The most fields any [`HeadLimits`] can allow.
pub(crate) const FIELDS_CAPACITY: usize = 256;

/// Parses a complete head.
fn parse(raw: Bytes, bare_line_feed: bool, limits: HeadLimits) -> RequestHead {
    let strict = if bare_line_feed { Err(httparse::Error::NewLine) } else { parse_strictly(&raw, limits) };
    let mut head = match strict {
        Ok(head) => head,
        Err(error) => {
            let mut head = parse_leniently(raw, limits);
            // INVARIANT: what the strict parser refuses has a fault, whatever the lenient one made of it.
            if head.faults.is_empty() {
                head.faults.push(fault_of(error));
            }
            head
        }
    };
    examine(&mut head);
    head
}

fn parse_strictly(raw: &Bytes, limits: HeadLimits) -> Result<RequestHead, httparse::Error> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_CAPACITY];
    let slots = slots.get_mut(..limits.fields).ok_or(httparse::Error::TooManyHeaders)?;
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(raw, slots)? {
        httparse::Status::Complete(end) if end == raw.len() => {}
        _ => return Err(httparse::Error::NewLine),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(httparse::Error::Token);
    };
    let fields = request.headers.iter().map(|header| HeaderField {
        name: span_in(raw, header.name.as_bytes()),
        value: span_in(raw, header.value.trim_ascii()),
    });
    Ok(RequestHead {
        method: span_in(raw, method.as_bytes()),
        target: span_in(raw, target.as_bytes()),
        version: if version == 0 { HttpVersion::Http10 } else { HttpVersion::Http11 },
        fields: fields.collect(),
        framing: BodyFraming::None,
        faults: Vec::new(),
        raw: raw.clone(),
    })
}

/// The span of a slice that lies in `raw`.
pub(super) fn span_in(raw: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
    if start > raw.len() {
        return Span::default();
    }
    let bound = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { start: bound(start), end: bound(start + part.len()) }
}

fn fault_of(error: httparse::Error) -> FramingFault {
    match error {
        httparse::Error::TooManyHeaders => FramingFault::HeadTooLarge,
        httparse::Error::Version => FramingFault::BadVersion,
        httparse::Error::HeaderName => FramingFault::BadHeaderLine,
        httparse::Error::HeaderValue => FramingFault::ControlByte,
        httparse::Error::NewLine => FramingFault::BareLineFeed,
        httparse::Error::Status | httparse::Error::Token => FramingFault::BadRequestLine,
    }
}

/// Looks at the first bytes: a TLS hello or other protocol is told apart at once, not after the head's time limit.
/// Outer `None`: more input is needed. Inner `None`: it may be a request line.
fn start_fault(input: &[u8]) -> Option<Option<FramingFault>> {
    let (first, second) = (input.first()?, input.get(1));
    Some(match (first, second) {
        (b'\r', None) => return None,
        (b'\n', _) => Some(FramingFault::BareLineFeed),
        (b'\r', Some(b'\n')) => Some(FramingFault::BadRequestLine),
        (b'\r', _) => Some(FramingFault::BareCarriageReturn),
        (first, _) if is_token_byte(*first) => None,
        (first, _) if first.is_ascii_control() => Some(FramingFault::ControlByte),
        _ => Some(FramingFault::BadRequestLine),
    })
}

/// A head of which nothing but the first byte is kept.
fn unreadable(input: &mut BytesMut, fault: FramingFault) -> RequestHead {
    let mut raw = input.split().freeze();
    raw.truncate(1);
    RequestHead {
        raw,
        method: Span::default(),
        target: Span::default(),
        version: HttpVersion::Http11,
        fields: Vec::new(),
        framing: BodyFraming::None,
        faults: vec![fault],
    }
}

/// Empty lines skipped before a request line: one is what old clients send after a body.
const BLANK_LINES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::FramingFault as F;
    use super::*;
    use proptest::prelude::*;

    /// The faults of a head, however it is cut into reads.
    fn faults(raw: &[u8]) -> Vec<FramingFault> {
        let whole = parse_head(raw).map(|head| (head.faults.clone(), head));
        for piece in [1, 3] {
            let (mut reader, mut input, mut cut) = (HeadReader::default(), BytesMut::new(), None);
            for bytes in raw.chunks(piece) {
                input.extend_from_slice(bytes);
                cut = reader.read(&mut input, HeadLimits::default());
                if cut.is_some() {
                    break;
                }
            }
            let whole = whole.as_ref().ok().map(|(faults, head)| (faults, &head.raw));
            assert_eq!(
                cut.as_ref().map(|head| (&head.faults, &head.raw)),
                whole,
                "{raw:?} in pieces of {piece}"
            );
        }
        whole.unwrap().0
    }

    #[track_caller]
    fn check(raw: &str, expected: &[FramingFault]) {
        assert_eq!(faults(raw.as_bytes()), expected, "{raw:?}");
    }

    /// Checks a GET with these header lines after a good Host.
    #[track_caller]
    fn check_lines(lines: &str, expected: &[FramingFault]) {
        check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), expected);
    }

    #[test]
    fn a_head_keeps_its_bytes_order_and_case() {
        let raw =
            b"POST /a%20b?c=d HTTP/1.1\r\nhOst: shop.test:80\r\nX-A:  1 \r\nContent-Length: 3\r\n\r\nabc";
        let head = parse_head(raw).unwrap();
        assert_eq!((head.method(), head.target()), (&b"POST"[..], &b"/a%20b?c=d"[..]));
        let fields: Vec<_> = head.headers().collect();
        let expected: Vec<(&[u8], &[u8])> =
            vec![(b"hOst", b"shop.test:80"), (b"X-A", b"1"), (b"Content-Length", b"3")];
        assert_eq!(fields, expected);
        assert_eq!(head.framing, BodyFraming::Length(3));
        assert_eq!(head.raw.len(), raw.len() - 3);
        assert!(head.faults.is_empty());
    }

    #[test]
    fn well_formed_heads_have_no_fault() {
        check_lines("", &[]);
        check_lines("X: \t a b \t\r\n", &[]);
        check_lines("X:\r\n", &[]);
        check_lines("X: \u{fc}\u{20ac}\r\n", &[]);
        check_lines("Content-Length: 0\r\n", &[]);
        check_lines("Transfer-Encoding: Chunked\r\n", &[]);
        check("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
        check("GET / HTTP/1.0\r\n\r\n", &[]);
        check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
        check("GET /<>\"{}|\\^` HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
        check("get / HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
    }

    #[test]
    fn ambiguous_lengths_are_faults() {
        check_lines("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", &[F::LengthAndTransferEncoding]);
        check_lines("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", &[F::LengthAndTransferEncoding]);
        check_lines("Content-Length: 1\r\nContent-Length: 1\r\n", &[F::RepeatedLength]);
        check_lines("Content-Length: 1\r\ncontent-length: 2\r\n", &[F::RepeatedLength]);
        check_lines("Content-Length: 1, 1\r\n", &[F::RepeatedLength]);
        for bad in ["", "+1", "-1", "1 1", "0x1", "1.0", "1a", "18446744073709551616", "\u{661}"] {
            check_lines(&format!("Content-Length: {bad}\r\n"), &[F::BadLength]);
        }
    }

    #[test]
    fn transfer_codings_other_than_chunked_are_faults() {
        for bad in [
            "",
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked;a=b",
            "\"chunked\"",
            "xchunked",
            "chunked x",
            "identity",
        ] {
            check_lines(&format!("Transfer-Encoding: {bad}\r\n"), &[F::BadTransferEncoding]);
        }
        check_lines(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            &[F::BadTransferEncoding],
        );
        check_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", &[F::BadTransferEncoding]);
        let in_http10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(in_http10, &[F::TransferEncodingInHttp10]);
    }

    #[test]
    fn line_ends_other_than_crlf_are_faults() {
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", &[F::BareLineFeed]);
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", &[F::BareLineFeed]);
        check("GET / HTTP/1.1\r\nHost: a\r\n\n", &[F::BareLineFeed]);
        check("GET / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 5\r\n\r\n", &[F::BareLineFeed]);
        check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[F::BareLineFeed]);
        check("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[F::BareCarriageReturn]);
        check_lines("X: a\rb\r\n", &[F::BareCarriageReturn]);
        check_lines("X: a\r\r\n", &[F::BareCarriageReturn]);
        check_lines("X\r: a\r\n", &[F::BareCarriageReturn, F::BadHeaderLine]);
    }

    #[test]
    fn malformed_header_lines_are_faults() {
        check_lines("Content-Length : 5\r\n", &[F::BadHeaderLine]);
        check_lines("X\t: 5\r\n", &[F::BadHeaderLine]);
        check_lines("no colon\r\n", &[F::BadHeaderLine]);
        check_lines(": no name\r\n", &[F::BadHeaderLine]);
        check_lines("X(y): 1\r\n", &[F::BadHeaderLine]);
        check_lines("X\u{fc}: 1\r\n", &[F::BadHeaderLine]);
        check_lines("X: a\r\n folded\r\n", &[F::FoldedHeader]);
        check_lines("X: a\r\n\tfolded\r\n", &[F::FoldedHeader]);
        let first_folded = "GET / HTTP/1.1\r\n X: a\r\nHost: b\r\n\r\n";
        check(first_folded, &[F::FoldedHeader, F::BadHeaderLine]);
        check_lines("X: a\0b\r\n", &[F::ControlByte]);
        check_lines("X: a\u{1}\r\n", &[F::ControlByte]);
        check_lines("X: a\u{7f}\r\n", &[F::ControlByte]);
        check_lines("X\0: a\r\n", &[F::ControlByte, F::BadHeaderLine]);
    }

    #[test]
    fn hosts_must_be_there_once_and_be_authorities() {
        check("GET / HTTP/1.1\r\n\r\n", &[F::MissingHost]);
        check_lines("Host: a\r\n", &[F::RepeatedHost]);
        check_lines("host: b\r\n", &[F::RepeatedHost]);
        for good in ["a.b", "a:80", "a:", "127.0.0.1:1", "[::1]", "[::1]:80", "a_b", "xn--a"] {
            check(&format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n"), &[]);
        }
        for bad in [
            "", "a b", "a,b", "a@b", "a/b", "a:b", "a:80:80", "a:99999", "[::1", "::1", "[zz]", "a?b", "a#b",
            "\u{fc}", "http://a", "a\\b", "[::1]x",
        ] {
            check(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"), &[F::BadHost]);
        }
    }

    #[test]
    fn targets_must_have_a_form_that_is_served() {
        let check =
            |line: &str, expected: &[FramingFault]| check(&format!("{line}\r\nHost: a\r\n\r\n"), expected);
        check("GET http://a/x HTTP/1.1", &[]);
        check("GET HTTP://A/x HTTP/1.1", &[]);
        check("GET http://a HTTP/1.1", &[]);
        check("GET http://b/x HTTP/1.1", &[F::BadTarget]);
        check("GET http://u@a/x HTTP/1.1", &[F::BadTarget]);
        check("GET ftp://a/x HTTP/1.1", &[F::BadTarget]);
        check("CONNECT a:443 HTTP/1.1", &[F::BadTarget]);
        check("CONNECT / HTTP/1.1", &[F::BadTarget]);
        check("GET * HTTP/1.1", &[F::BadTarget]);
        check("GET x HTTP/1.1", &[F::BadTarget]);
        check("GET ?x HTTP/1.1", &[F::BadTarget]);
        check("GET /a#b HTTP/1.1", &[F::BadTarget]);
    }

    #[test]
    fn request_lines_have_three_parts_and_a_known_version() {
        let check = |line: &str, expected: &[FramingFault]| {
            let raw = format!("{line}\r\nHost: a\r\n\r\n");
            let faults = faults(raw.as_bytes());
            assert_eq!(faults.first(), expected.first(), "{line:?}: {faults:?}");
        };
        check("GET /", &[F::BadRequestLine]);
        check("GET", &[F::BadRequestLine]);
        check("GET  / HTTP/1.1", &[F::BadRequestLine]);
        check("GET /  HTTP/1.1", &[F::BadRequestLine]);
        check("GET / HTTP/1.1 ", &[F::BadRequestLine]);
        check(" GET / HTTP/1.1", &[F::BadRequestLine]);
        check("GET /a b HTTP/1.1", &[F::BadRequestLine]);
        check("GET\t/\tHTTP/1.1", &[F::BadRequestLine]);
        check("G(T / HTTP/1.1", &[F::BadRequestLine]);
        check("GET / http/1.1", &[F::BadRequestLine]);
        check("GET / HTTP/1.1x", &[F::BadRequestLine]);
        check("GET / HTTP/11", &[F::BadRequestLine]);
        check("GET / HTTP/1.2", &[F::BadVersion]);
        check("GET / HTTP/2.0", &[F::BadVersion]);
        check("PRI * HTTP/2.0", &[F::BadVersion]);
        check("GET /\0 HTTP/1.1", &[F::ControlByte]);
        check("\u{16}\u{3}\u{1}", &[F::ControlByte]);
        check("\u{80}", &[F::BadRequestLine]);
    }

    #[test]
    fn large_heads_are_faults() {
        let long = "a".repeat(HEAD_BYTES_MAX);
        assert_eq!(faults(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())[0], F::HeadTooLarge);
        let endless = faults(format!("GET /{long}").as_bytes());
        assert_eq!(endless[0], F::HeadTooLarge);
        let many = "X: 1\r\n".repeat(HEAD_FIELDS_MAX);
        check_lines(&many, &[F::HeadTooLarge]);
        check_lines(&"X: 1\r\n".repeat(HEAD_FIELDS_MAX - 1), &[]);
    }

    #[test]
    fn an_unfinished_head_waits() {
        for raw in ["", "\r", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
            assert_eq!(parse_head(raw.as_bytes()).unwrap_err(), HeadError::Incomplete, "{raw:?}");
        }
    }

    #[test]
    fn pipelined_heads_are_read_one_by_one() {
        let mut input =
            BytesMut::from("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET");
        let mut reader = HeadReader::default();
        let mut next = || reader.read(&mut input, HeadLimits::default());
        assert_eq!(next().unwrap().target(), b"/1");
        assert_eq!(next().unwrap().target(), b"/2");
        assert!(next().is_none());
    }

    /// Bytes that look enough like heads to reach deep.
    fn headlike() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"Host: a\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"Content-Length: 5\r\n".to_vec()),
            Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b" ".to_vec()),
            Just(b":".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_split_give_the_same_head(raw in headlike(), piece in 1usize..9) {
            let (mut reader, mut input, mut cut) = (HeadReader::default(), BytesMut::new(), None);
            for bytes in raw.chunks(piece) {
                input.extend_from_slice(bytes);
                cut = reader.read(&mut input, HeadLimits::default());
                if cut.is_some() {
                    break;
                }
            }
            let whole = parse_head(&raw).ok();
            let parts = |head: &RequestHead| (head.raw.clone(), head.fields.clone(), head.framing, head.faults.clone());
            prop_assert_eq!(cut.as_ref().map(parts), whole.as_ref().map(parts));
        }

        #[test]
        fn a_head_without_fault_is_read_alike_by_the_strict_parser(raw in headlike()) {
            if let Ok(head) = parse_head(&raw) && head.faults.is_empty() {
                prop_assert!(parse_strictly(&head.raw, HeadLimits::default()).is_ok());
                prop_assert!(!head.raw.windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r'));
            }
        }
    }
}
