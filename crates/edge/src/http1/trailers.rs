//! Fields behind a body (RFC 9110 section 6.5): which of them pass, and their two forms, lines of HTTP/1 and maps of HTTP/2.
//!
//! Inspection has judged the message before they are here. So what could change how a message is read, routed, cached or believed does not
//! pass; what the receiver has to keep apart from the head's fields anyway does.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::encode;
use super::fields::FieldKind;

/// The lines that pass, in their order, but for fields that `drops` names.
pub(crate) fn passed(lines: &[u8], drops: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields(lines).filter(|(name, _)| passes(name) && !drops(name)) {
        encode::field(&mut out, name, value);
    }
    out
}

/// The lines for a map.
pub(crate) fn lines(map: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in map {
        encode::field(&mut out, name.as_str().as_bytes(), value.as_bytes().trim_ascii());
    }
    out
}

/// The map for lines; what no map holds is left out.
pub(crate) fn map(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields(lines) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // More than it can hold are none.
            let _ = map.try_append(name, value);
        }
    }
    map
}

fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((line.get(..colon)?, line.get(colon + 1..)?.trim_ascii()))
    })
}

/// Whether a field may stand behind a body (RFC 9110 section 6.5.1).
fn passes(name: &[u8]) -> bool {
    let begins = |start: &str| {
        name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
    };
    let is_one_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    FieldKind::of(name) == FieldKind::Other
        && !is_one_of(REFUSED)
        && !["if-", "content-", "proxy-", "access-control-", "sec-"].into_iter().any(begins)
}

/// Fields that say how a message is to be read, authorised, cached or answered. Those of framing, routing and forwarding are of other
/// kinds than [`FieldKind::Other`].
const REFUSED: &[&str] = &[
    "age",
    "alt-svc",
    "cache-control",
    "clear-site-data",
    "cookie2",
    "date",
    "expires",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "warning",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_change_the_message_does_not_pass() {
        let lines = b"grpc-status: 0\r\nTransfer-Encoding: chunked\r\nX-Checksum:1 \r\nHost: b\r\nSet-Cookie: a=b\r\n\
              Authorization: x\r\nX_Forwarded_For: 1.2.3.4\r\nContent-Type: a/b\r\nIf-Match: x\r\nTE: trailers\r\nX-Request-Id: 1\r\n";
        assert_eq!(passed(lines, |_| false), b"grpc-status: 0\r\nX-Checksum: 1\r\n");
        assert_eq!(passed(lines, |name| name == b"X-Checksum"), b"grpc-status: 0\r\n");
    }

    #[test]
    fn both_forms_say_the_same() {
        let text = b"grpc-status: 5\r\ngrpc-message: not%20here\r\nx: 1\r\nx: 2\r\n";
        assert_eq!(lines(&map(text)), text);
        assert!(map(b"no field\r\n: x\r\n\r\n").is_empty());
    }
}
