//! Reading response heads from upstreams. As strict as for requests where framing is concerned: a response whose end
//! is ambiguous would let one client's answer reach another.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use phalanx_model::{HeaderField, Span};

use super::fields::{FieldKind, list};
use super::head::{FIELDS_CAPACITY, span_in};
use super::semantics::decimal;

/// A response head as the upstream wrote it.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The bytes from the status line to the empty line.
    pub raw: Bytes,
    /// The status.
    pub status: u16,
    /// The reason phrase.
    pub reason: Span,
    /// The header fields in order.
    pub fields: Vec<HeaderField>,
    /// How the body is delimited.
    pub framing: ResponseFraming,
    /// Whether the connection can serve another request after this response.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// The bytes of a span; empty for a span that does not lie in this head.
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.raw.get(span.range()).unwrap_or_default()
    }

    /// Name and value of every field, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|f| (self.bytes(f.name), self.bytes(f.value)))
    }
}

/// How a response's body is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body, whatever the fields say.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

/// Why a response is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// No HTTP/1 response head.
    #[error("the upstream's response head is malformed")]
    Malformed,
    /// Larger than 64 KiB, or too many fields.
    #[error("the upstream's response head is too large")]
    TooLarge,
    /// Contradicting lengths, or a transfer coding that is not `chunked`.
    #[error("the upstream's response framing is ambiguous")]
    Framing,
}

/// Takes a response head off the front of `input`. `None`: more input is needed. `to_head`: it answers a HEAD request.
pub fn read_response_head(
    input: &mut BytesMut,
    to_head: bool,
) -> Result<Option<ResponseHead>, ResponseError> {
    let (end, mut head) = {
        let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_CAPACITY];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, input, &mut slots);
        let end = match parsed {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if input.len() > UPSTREAM_HEAD_BYTES_MAX => {
                return Err(ResponseError::TooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLarge),
            Err(_) => return Err(ResponseError::Malformed),
        };
        let fields = response.headers.iter().map(|header| HeaderField {
            name: span_in(input, header.name.as_bytes()),
            value: span_in(input, header.value.trim_ascii()),
        });
        let head = ResponseHead {
            raw: Bytes::new(),
            status: response.code.unwrap_or_default(),
            reason: response.reason.map(|reason| span_in(input, reason.as_bytes())).unwrap_or_default(),
            fields: fields.collect(),
            framing: ResponseFraming::None,
            keep_alive: response.version == Some(1),
        };
        (end, head)
    };
    if end > UPSTREAM_HEAD_BYTES_MAX {
        return Err(ResponseError::TooLarge);
    }
    head.raw = input.split_to(end).freeze();
    frame(&mut head, to_head)?;
    Ok(Some(head))
}

fn frame(head: &mut ResponseHead, to_head: bool) -> Result<(), ResponseError> {
    let (mut length, mut chunked, mut keep_alive) = (None, false, head.keep_alive);
    for (name, value) in head.headers() {
        match FieldKind::of(name) {
            FieldKind::ContentLength => {
                let bytes = decimal(value).ok_or(ResponseError::Framing)?;
                if length.replace(bytes).is_some() {
                    return Err(ResponseError::Framing);
                }
            }
            FieldKind::TransferEncoding => {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ResponseError::Framing);
                }
                chunked = true;
            }
            FieldKind::Connection => {
                for option in list(value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        keep_alive = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        keep_alive = true;
                    }
                }
            }
            _ => {}
        }
    }
    if !(100..=999).contains(&head.status) {
        return Err(ResponseError::Malformed);
    }
    if chunked && length.is_some() {
        return Err(ResponseError::Framing);
    }
    let bodiless = to_head || head.status < 200 || head.status == 204 || head.status == 304;
    head.framing = match (bodiless, chunked, length) {
        (true, ..) => ResponseFraming::None,
        (_, true, _) => ResponseFraming::Chunked,
        (_, _, Some(bytes)) => ResponseFraming::Length(bytes),
        _ => ResponseFraming::UntilClose,
    };
    // Some applications send the body all the same, a moment later: it would be taken for the next request's response.
    let body_may_come = to_head || (bodiless && (chunked || length.is_some_and(|bytes| bytes > 0)));
    head.keep_alive = keep_alive && !body_may_come && head.framing != ResponseFraming::UntilClose;
    Ok(())
}

/// Largest response head. Applications with many cookies and long policies reach 16 KiB.
pub(crate) const UPSTREAM_HEAD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(head: &str, expected: Result<ResponseFraming, ResponseError>) {
        let mut input = BytesMut::from(head.as_bytes());
        let got = read_response_head(&mut input, false).map(|head| head.unwrap().framing);
        assert_eq!(got, expected, "{head:?}");
    }

    #[test]
    fn framing_follows_the_fields() {
        use ResponseFraming::*;
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok(Length(5)));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Ok(Chunked));
        check("HTTP/1.1 200 OK\r\n\r\n", Ok(UntilClose));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok(None));
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok(None));
        check("HTTP/1.0 200\r\n\r\n", Ok(UntilClose));
    }

    #[test]
    fn a_connection_is_kept_where_no_body_may_follow() {
        let cases: [(&str, bool, bool); 7] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, false),
            ("HTTP/1.1 200 OK\r\n\r\n", true, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n", false, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, false),
            ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, false),
        ];
        for (head, to_head, kept) in cases {
            let read = read_response_head(&mut BytesMut::from(head), to_head).unwrap().unwrap();
            assert_eq!(read.keep_alive, kept, "{head:?} {to_head}");
        }
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let bad = Err(ResponseError::Framing);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", bad);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", bad);
        check("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", bad);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", bad);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", bad);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", bad);
        check("HTTP/2 200 OK\r\n\r\n", Err(ResponseError::Malformed));
        check("220 smtp.example ESMTP\r\n\r\n", Err(ResponseError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_an_error(bytes: Vec<u8>) {
            let _ = read_response_head(&mut BytesMut::from(&bytes[..]), false);
        }
    }
}
