//! A stream's head as the edge's own: read into an HTTP/1 head, and written from one.

use bytes::{BufMut, BytesMut};
use http::header::{COOKIE, HOST};
use http::{HeaderName, HeaderValue, Response, StatusCode, request};
use phalanx_model::{BodyFraming, FramingFault, HeaderField, HttpVersion, RequestHead, Span};

use crate::http1::semantics::examine;
use crate::http1::{FieldKind, HeadLimits};

/// The head of a stream. `ends`: no body follows.
///
/// `:authority` becomes `Host`; a `Host` beside it must say the same (RFC 9113 section 8.3.1). Crumbs of a cookie are put together again
/// (section 8.2.3).
pub(crate) fn request_head(parts: &request::Parts, ends: bool, limits: HeadLimits) -> RequestHead {
    let mut writer =
        Writer { raw: BytesMut::with_capacity(HEAD_AT_FIRST_BYTES), fields: Vec::new(), faults: Vec::new() };
    let method = writer.put(parts.method.as_str().as_bytes(), b" ");
    let target = match parts.uri.path_and_query() {
        Some(target) => target.as_str(),
        // CONNECT has an authority alone.
        None => parts.uri.authority().map_or("", |authority| authority.as_str()),
    };
    let target = writer.put(target.as_bytes(), b" HTTP/2.0\r\n");
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        writer.field(b"host", authority);
    }
    let mut cookies = Vec::new();
    for (name, value) in &parts.headers {
        match (name, authority) {
            (&COOKIE, _) => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            (&HOST, Some(authority)) if value.as_bytes().eq_ignore_ascii_case(authority) => {}
            _ => writer.field(name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        writer.field(b"cookie", &cookies);
    }
    writer.raw.put_slice(b"\r\n");
    writer.finish(method, target, ends, limits)
}

/// Writes a head as HTTP/1 has it, and notes where its parts lie.
struct Writer {
    raw: BytesMut,
    fields: Vec<HeaderField>,
    faults: Vec<FramingFault>,
}

impl Writer {
    fn put(&mut self, part: &[u8], end: &[u8]) -> Span {
        let start = bound(self.raw.len());
        self.raw.put_slice(part);
        let span = Span { start, end: bound(self.raw.len()) };
        self.raw.put_slice(end);
        span
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        // The codec refuses them already. Should it ever not: here they would begin a line of the head towards the upstream.
        if value.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
            self.faults.push(FramingFault::ControlByte);
        }
        let name = self.put(name, b": ");
        let value = self.put(value.trim_ascii(), b"\r\n");
        self.fields.push(HeaderField { name, value });
    }

    fn finish(self, method: Span, target: Span, ends: bool, limits: HeadLimits) -> RequestHead {
        let too_large = self.raw.len() > limits.bytes || self.fields.len() > limits.fields;
        let mut head = RequestHead {
            raw: self.raw.freeze(),
            method,
            target,
            version: HttpVersion::Http2,
            fields: self.fields,
            framing: BodyFraming::None,
            faults: self.faults,
        };
        if too_large {
            head.faults.insert(0, FramingFault::HeadTooLarge);
        }
        examine(&mut head);
        if head.framing == BodyFraming::None && !ends {
            // Its end is known when it is there.
            head.framing = BodyFraming::Chunked;
        }
        head
    }
}

/// The head that was written at the start of `written`, and how many bytes of it that is. `None` for what is no head.
pub(super) fn response_head(written: &[u8]) -> Option<(Response<()>, usize)> {
    let end = memchr::memmem::find(written, b"\r\n\r\n")?;
    let mut lines = written.get(..end)?.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = lines.next()?.split(|&byte| byte == b' ').nth(1)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_bytes(status).ok()?;
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
        // These speak of a connection, of which there is none (RFC 9113 section 8.2.2).
        let of_connection = matches!(
            FieldKind::of(name),
            FieldKind::Connection
                | FieldKind::TransferEncoding
                | FieldKind::Upgrade
                | FieldKind::HopByHop
                | FieldKind::Te
        );
        if of_connection {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // More fields than the codec can hold are no response.
            response.headers_mut().try_append(name, value).ok()?;
        }
    }
    Some((response, end + 4))
}

fn bound(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

const HEAD_AT_FIRST_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn head(uri: &str, fields: &[(&str, &str)], ends: bool) -> RequestHead {
        let mut request = http::Request::builder().method("GET").uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        request_head(&parts, ends, HeadLimits::default())
    }

    #[test]
    fn a_head_is_written_as_http1_has_it() {
        let head = head("http://shop.test/a?b=c", &[("accept", "*/*"), ("x", " y ")], true);
        assert_eq!(&head.raw[..], b"GET /a?b=c HTTP/2.0\r\nhost: shop.test\r\naccept: */*\r\nx: y\r\n\r\n");
        assert_eq!((head.method(), head.target(), head.faults.len()), (&b"GET"[..], &b"/a?b=c"[..], 0));
        assert_eq!(head.framing, BodyFraming::None);
    }

    #[test]
    fn crumbs_of_a_cookie_are_one_field() {
        let head = head("http://a/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], true);
        assert_eq!(head.header("cookie"), Some(&b"a=1; b=2"[..]));
        assert_eq!(head.headers().filter(|(name, _)| *name == b"cookie").count(), 1);
    }

    #[test]
    fn bodies_end_by_length_or_with_their_stream() {
        assert_eq!(head("http://a/", &[("content-length", "3")], false).framing, BodyFraming::Length(3));
        assert_eq!(head("http://a/", &[], false).framing, BodyFraming::Chunked);
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_a_fault() {
        for (uri, fields, fault) in [
            ("/", vec![], FramingFault::MissingHost),
            ("http://a/", vec![("host", "b")], FramingFault::RepeatedHost),
            ("http://u@a/", vec![], FramingFault::BadHost),
            (
                "http://a/",
                vec![("content-length", "1"), ("content-length", "1")],
                FramingFault::RepeatedLength,
            ),
            ("http://a/", vec![("content-length", "+1")], FramingFault::BadLength),
            (
                "http://a/",
                vec![("content-type", "a/b"), ("content-type", "c/d")],
                FramingFault::RepeatedContentType,
            ),
        ] {
            let head = head(uri, &fields, false);
            assert!(head.faults.contains(&fault), "{uri} {fields:?}: {:?}", head.faults);
        }
        assert_eq!(head("http://a/", &[("host", "A")], true).faults, []);
    }

    proptest! {
        /// A parser of HTTP/1 reads the same request from what is written down: nothing in a stream's head begins a line or a request.
        #[test]
        fn what_is_written_down_is_read_again_as_the_same(
            method in "[A-Za-z!#$%&'*+.^_`|~-]{1,9}",
            target in "/[!-~]{0,20}",
            fields in vec(("[a-z!#$%&'*+.^_`|~0-9-]{1,12}", vec(any::<u8>(), 0..12)), 0..8),
        ) {
            let mut request = http::Request::builder().method(method.as_str());
            request = request.uri(format!("http://shop.test{target}"));
            for (name, value) in &fields {
                request = request.header(name.as_str(), value.as_slice());
            }
            let Ok(request) = request.body(()) else { return Ok(()) };
            let head = request_head(&request.into_parts().0, true, HeadLimits::default());
            let version = head.raw.iter().position(|&byte| byte == b'\r').unwrap() - 3;
            let mut raw = head.raw.to_vec();
            raw[version..version + 3].copy_from_slice(b"1.1");
            let read = crate::http1::parse_head(&raw).unwrap();
            prop_assert_eq!(read.raw.len(), raw.len(), "it ends where it ends");
            prop_assert_eq!(read.headers().collect::<Vec<_>>(), head.headers().collect::<Vec<_>>());
            prop_assert_eq!((read.method(), read.target()), (head.method(), head.target()));
            prop_assert_eq!(&read.faults, &head.faults);
        }
    }

    #[test]
    fn fields_of_a_connection_stay_behind() {
        let written = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
            Set-Cookie: a\r\nSet-Cookie: b\r\nKeep-Alive: timeout=5\r\n\r\nbody";
        let (response, bytes) = response_head(written).unwrap();
        assert_eq!(response.status(), 404);
        let names: Vec<_> = response.headers().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "set-cookie", "set-cookie"]);
        assert_eq!(&written[bytes..], b"body");
        assert!(response_head(b"HTTP/1.1 200 OK\r\n").is_none());
    }
}
