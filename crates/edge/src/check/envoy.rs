//! Envoy's `ext_authz`: the messages of `envoy.service.auth.v3.Authorization/Check`, as far as they say what was asked and what is
//! answered. Field numbers are those of Envoy's API, version 3.
//!
//! Nothing that a client can send makes an error of the call: a message that cannot be understood, or is too large, is answered with a
//! denial. An error would be for `failure_mode_allow` to judge, and a stranger could bring it about.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use phalanx_model::{FramingFault, HttpVersion};

use super::answer::Answer;
use super::protobuf::{Fields, Malformed, Value, once, put_content, put_number};
use super::question::{Body, HeadWriter, Question, last_address, settle};
use crate::http1::HeadLimits;

/// Reads a `CheckRequest`.
///
/// # Errors
/// It is no such message, or does not say what was asked, or by whom.
pub fn read(message: Bytes, limits: HeadLimits) -> Result<Question, FramingFault> {
    let attributes = Attributes::read(message).map_err(|Malformed| FramingFault::BadQuestion)?;
    attributes.question(limits).ok_or(FramingFault::BadQuestion)
}

/// The parts of an `AttributeContext` that are of use.
#[derive(Default)]
struct Attributes {
    source: Option<SocketAddr>,
    request: Described,
}

/// An `AttributeContext.HttpRequest`.
#[derive(Default)]
struct Described {
    method: Option<Bytes>,
    path: Option<Bytes>,
    host: Option<Bytes>,
    protocol: Option<Bytes>,
    /// What `body` and `raw_body` hold.
    text: Option<Bytes>,
    raw: Option<Bytes>,
    /// Fields in an order that says nothing, those of one name in one.
    by_name: Vec<(Bytes, Bytes)>,
    /// Fields as they came.
    in_order: Vec<(Bytes, Bytes)>,
}

impl Attributes {
    fn read(message: Bytes) -> Result<Self, Malformed> {
        let mut all = None;
        for field in Fields::of(message) {
            if let (1, value) = field? {
                once(&mut all, value.content()?)?;
            }
        }
        let (mut source, mut request) = (None, None);
        for field in Fields::of(all.ok_or(Malformed)?) {
            match field? {
                (1, value) => once(&mut source, value.content()?)?,
                (4, value) => once(&mut request, value.content()?)?,
                _ => {}
            }
        }
        let mut http = None;
        for field in Fields::of(request.ok_or(Malformed)?) {
            if let (2, value) = field? {
                once(&mut http, value.content()?)?;
            }
        }
        Ok(Self {
            source: source.map(peer).transpose()?.flatten(),
            request: Described::read(http.ok_or(Malformed)?)?,
        })
    }

    fn question(self, limits: HeadLimits) -> Option<Question> {
        let Described { method, path, host, protocol, text, raw, mut by_name, in_order } = self.request;
        let version = match protocol.as_deref() {
            Some(b"HTTP/1.0") => HttpVersion::Http10,
            Some(b"HTTP/1.1") | None => HttpVersion::Http11,
            Some(_) => HttpVersion::Http2,
        };
        // Envoy's tables give them out in any order: in this one a client is the same each time.
        by_name.sort_unstable();
        let fields = if in_order.is_empty() { by_name } else { in_order };
        let named = |name: &'static str| fields.iter().filter(move |(known, _)| is(known, name));
        let forwarded = named("x-forwarded-for").last().map(|(_, value)| value.clone());
        let last = forwarded.as_deref().and_then(last_address);
        // Envoy writes its own peer behind what came, where it is told to use that address.
        let peer = self.source.or_else(|| last.map(|(address, _)| address))?;
        let before = last.filter(|(address, _)| address.ip() == peer.ip()).map(|(_, before)| before);
        let parts = named(PARTIAL_BODY).fold(None, |partial, (_, value)| {
            Some(partial.unwrap_or_default() || !value.eq_ignore_ascii_case(b"false"))
        });
        let mut writer = HeadWriter::begin(&method?, &path?, version, limits);
        if let Some(host) = &host
            && !host.is_empty()
        {
            writer.field(b"host", host);
        }
        for (name, value) in &fields {
            let ours = name.starts_with(b":") || is(name, PARTIAL_BODY) || is(name, "x-forwarded-proto");
            match before {
                _ if ours => {}
                _ if is(name, "host") && host.as_ref() == Some(value) => {}
                Some(before) if is(name, "x-forwarded-for") && Some(value) == forwarded.as_ref() => {
                    if !before.is_empty() {
                        writer.field(name, before);
                    }
                }
                _ => writer.field(name, value),
            }
        }
        let mut head = writer.read()?;
        let shown = raw.filter(|raw| !raw.is_empty()).or(text).unwrap_or_default();
        // The field stands there where Envoy is told to send bodies, also if there is none.
        let body = match parts {
            None if shown.is_empty() => Body::unseen(),
            partial => Body::seen(shown, !partial.unwrap_or_default()),
        };
        settle(&mut head, &body);
        Some(Question { head, body, peer })
    }
}

impl Described {
    fn read(message: Bytes) -> Result<Self, Malformed> {
        let mut it = Self::default();
        for field in Fields::of(message) {
            match field? {
                (2, value) => once(&mut it.method, value.content()?)?,
                (3, value) => it.by_name.push(pair(value, &[2])?),
                (4, value) => once(&mut it.path, value.content()?)?,
                (5, value) => once(&mut it.host, value.content()?)?,
                (10, value) => once(&mut it.protocol, value.content()?)?,
                (11, value) => once(&mut it.text, value.content()?)?,
                (12, value) => once(&mut it.raw, value.content()?)?,
                (13, value) => {
                    for header in Fields::of(value.content()?) {
                        if let (1, value) = header? {
                            it.in_order.push(pair(value, &[2, 3])?);
                        }
                    }
                }
                _ => {}
            }
            // The codec finds that it is too many; what is beyond need not be kept for that.
            if it.by_name.len().max(it.in_order.len()) > FIELDS_MAX {
                return Err(Malformed);
            }
        }
        Ok(it)
    }
}

/// A key with its value, which stands in one of the fields `at`.
fn pair(value: Value, at: &[u32]) -> Result<(Bytes, Bytes), Malformed> {
    let (mut key, mut found) = (None, None);
    for field in Fields::of(value.content()?) {
        match field? {
            (1, value) => once(&mut key, value.content()?)?,
            // `value` may be there and empty beside `raw_value`.
            (number, value) if at.contains(&number) => {
                let content = value.content()?;
                if !content.is_empty() {
                    once(&mut found, content)?;
                }
            }
            _ => {}
        }
    }
    Ok((key.ok_or(Malformed)?, found.unwrap_or_default()))
}

/// The address of an `AttributeContext.Peer`; none where it is no network's.
fn peer(message: Bytes) -> Result<Option<SocketAddr>, Malformed> {
    let mut address = None;
    for field in Fields::of(message) {
        if let (1, value) = field? {
            once(&mut address, value.content()?)?;
        }
    }
    let mut socket = None;
    for field in Fields::of(address.unwrap_or_default()) {
        if let (1, value) = field? {
            once(&mut socket, value.content()?)?;
        }
    }
    let Some(socket) = socket else { return Ok(None) };
    let (mut ip, mut port) = (None, None);
    for field in Fields::of(socket) {
        match field? {
            (2, value) => once(&mut ip, value.content()?)?,
            (3, value) => once(&mut port, value.number()?)?,
            _ => {}
        }
    }
    let ip = ip.ok_or(Malformed)?;
    let ip = std::str::from_utf8(&ip).ok().and_then(|text| text.parse::<IpAddr>().ok()).ok_or(Malformed)?;
    let port = u16::try_from(port.unwrap_or_default()).map_err(|_| Malformed)?;
    Ok(Some(SocketAddr::new(ip.to_canonical(), port)))
}

/// Writes a `CheckResponse`.
pub(super) fn write(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    let mut status = Vec::new();
    if !answer.passes() {
        put_number(&mut status, 1, PERMISSION_DENIED);
    }
    put_content(&mut out, 1, &status);
    let mut response = Vec::new();
    if answer.passes() {
        for (name, value) in answer.fields() {
            // To the upstream goes the id, as it does where we are in between; to the client all that it would be told.
            if name.eq_ignore_ascii_case(b"x-request-id") {
                put_content(&mut response, 2, &option(name, value));
            }
            put_content(&mut response, 6, &option(name, value));
        }
        put_content(&mut out, 3, &response);
    } else {
        let mut status = Vec::new();
        put_number(&mut status, 1, u64::from(answer.status()));
        put_content(&mut response, 1, &status);
        for (name, value) in answer.fields() {
            put_content(&mut response, 2, &option(name, value));
        }
        put_content(&mut response, 3, answer.body());
        put_content(&mut out, 2, &response);
    }
    put_content(&mut out, 4, &metadata(answer));
    out
}

/// A `HeaderValueOption` that replaces what there is.
fn option(name: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut header, mut option) = (Vec::new(), Vec::new());
    put_content(&mut header, 1, &name.to_ascii_lowercase());
    put_content(&mut header, 2, value);
    put_content(&mut option, 1, &header);
    put_number(&mut option, 3, OVERWRITE_OR_ADD);
    option
}

/// What Envoy's own log may show, as a `google.protobuf.Struct`.
fn metadata(answer: &Answer) -> Vec<u8> {
    let mut all = Vec::new();
    let id = answer.id();
    for (key, text) in [(&b"request_id"[..], id.as_slice()), (b"action", answer.action().as_bytes())] {
        let (mut value, mut entry) = (Vec::new(), Vec::new());
        put_content(&mut value, 3, text);
        put_content(&mut entry, 1, key);
        put_content(&mut entry, 2, &value);
        put_content(&mut all, 1, &entry);
    }
    all
}

fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

/// With it Envoy says that it sends the body, and whether that is only a part. It takes away what a client sends under this name.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";
/// Of gRPC's statuses.
const PERMISSION_DENIED: u64 = 7;
/// `OVERWRITE_IF_EXISTS_OR_ADD`
const OVERWRITE_OR_ADD: u64 = 2;
/// More than any limit of ours allows.
const FIELDS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use phalanx_model::BodyFraming;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A `CheckRequest` from 192.0.2.1 with these fields of its `HttpRequest`.
    fn message(http: &[u8]) -> Bytes {
        let wrap = |field: u32, content: &[u8]| {
            let mut out = Vec::new();
            put_content(&mut out, field, content);
            out
        };
        let mut socket = wrap(2, b"192.0.2.1");
        put_number(&mut socket, 3, 4711);
        let source = wrap(1, &wrap(1, &wrap(1, &socket)));
        let request = wrap(4, &wrap(2, http));
        wrap(1, &[source, request].concat()).into()
    }

    fn http(method: &str, path: &str, host: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        put_content(&mut out, 2, method.as_bytes());
        put_content(&mut out, 4, path.as_bytes());
        put_content(&mut out, 5, host.as_bytes());
        let mut map = Vec::new();
        for (name, value) in fields {
            let mut header = Vec::new();
            put_content(&mut header, 1, name.as_bytes());
            put_content(&mut header, 3, value.as_bytes());
            put_content(&mut map, 1, &header);
        }
        put_content(&mut out, 13, &map);
        out
    }

    fn with_body(mut http: Vec<u8>, body: &[u8]) -> Question {
        put_content(&mut http, 12, body);
        read(message(&http), HeadLimits::default()).unwrap()
    }

    fn question(http: &[u8]) -> Question {
        read(message(http), HeadLimits::default()).unwrap()
    }

    #[test]
    fn a_request_is_written_as_it_would_have_come() {
        let fields =
            [(":path", "/a"), ("host", "shop.test"), ("accept", "*/*"), ("x-forwarded-for", "192.0.2.1")];
        let mut http = http("GET", "/a?b=c", "shop.test", &fields);
        let question = question(&http);
        let expected = "GET /a?b=c HTTP/1.1\r\nhost: shop.test\r\naccept: */*\r\n\r\n";
        assert_eq!(std::str::from_utf8(&question.head.raw).unwrap(), expected);
        assert_eq!((question.head.faults.len(), question.peer), (0, "192.0.2.1:4711".parse().unwrap()));
        assert!(question.body.unseen);
        put_content(&mut http, 10, b"HTTP/2");
        let head = super::read(message(&http), HeadLimits::default()).unwrap().head;
        assert!(head.raw.starts_with(b"GET /a?b=c HTTP/2.0\r\n"));
        assert_eq!((head.version, head.target()), (HttpVersion::Http2, &b"/a?b=c"[..]));
    }

    #[test]
    fn addresses_left_of_envoys_own_word_stay() {
        for (sent, stays) in [
            ("10.0.0.1,192.0.2.1", Some("10.0.0.1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("192.0.2.1", None),
            ("nonsense", Some("nonsense")),
        ] {
            let question = question(&http("GET", "/", "a", &[("x-forwarded-for", sent)]));
            let kept = question.head.header("x-forwarded-for").map(|value| String::from_utf8_lossy(value));
            assert_eq!(kept.as_deref(), stays, "{sent}");
        }
    }

    #[test]
    fn the_table_of_fields_gives_the_same_head_in_any_order() {
        let raw = |names: [&str; 2]| {
            let mut http = http("GET", "/", "a", &[]);
            for name in names {
                let mut entry = Vec::new();
                put_content(&mut entry, 1, name.as_bytes());
                put_content(&mut entry, 2, b"x");
                put_content(&mut http, 3, &entry);
            }
            question(&http).head.raw
        };
        assert_eq!(raw(["accept", "user-agent"]), raw(["user-agent", "accept"]));
    }

    #[test]
    fn bodies_are_whole_or_say_that_they_are_not() {
        let told = |partial| http("POST", "/", "a", &[("content-length", "9"), (PARTIAL_BODY, partial)]);
        let question = with_body(told("true"), b"a=b");
        assert!(!question.body.complete && question.head.faults.is_empty());
        assert_eq!(question.head.header(PARTIAL_BODY), None);
        let question = with_body(told("false"), b"a=b");
        assert_eq!(question.head.faults, [FramingFault::BadLength]);
        let question = with_body(http("POST", "/", "a", &[(PARTIAL_BODY, "false")]), b"a=b");
        assert_eq!((question.head.faults.len(), question.head.framing), (0, BodyFraming::Length(3)));
    }

    #[test]
    fn line_ends_within_a_part_begin_no_line() {
        for http in [
            http("GET", "/ HTTP/1.1\r\nx: y\r\nz: ", "a", &[]),
            http("GET", "/", "a\r\nx: y", &[]),
            http("GET", "/", "a", &[("b", "c\nx: y")]),
            http("GET", "/", "a", &[("b: c\r\nx", "y")]),
        ] {
            let head = question(&http).head;
            assert!(!head.faults.is_empty() && head.header("x").is_none(), "{head:?}");
        }
        let head = question(&http("GET", "/", "a", &[("b:c", "d")])).head;
        assert_eq!((head.faults.as_slice(), head.header("b")), (&[FramingFault::BadHeaderLine][..], None));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let refused = |message: Bytes| read(message, HeadLimits::default()).err();
        let bad = Some(FramingFault::BadQuestion);
        assert_eq!(refused(Bytes::new()), bad);
        assert_eq!(refused(Bytes::from_static(b"\x0a\x7f")), bad);
        let mut twice = http("GET", "/", "a", &[]);
        put_content(&mut twice, 4, b"/other");
        assert_eq!(refused(message(&twice)), bad);
    }

    proptest! {
        #[test]
        fn what_is_asked_is_what_is_examined(
            method in "[A-Z]{1,8}",
            path in "/[!-\"$-~]{0,20}",
            fields in vec(("x-[a-z]{1,8}", "[!-~]([ -~]{0,10}[!-~])?"), 0..8),
        ) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let head = question(&http(&method, &path, "shop.test", &fields)).head;
            prop_assert_eq!(&head.faults, &[]);
            prop_assert_eq!((head.method(), head.target()), (method.as_bytes(), path.as_bytes()));
            let read: Vec<_> = head.headers().skip(1).collect();
            let sent: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(read, sent);
        }
    }
}
