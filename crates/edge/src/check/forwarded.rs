//! Forward-auth: the fields of one request describe another. Traefik, Caddy and nginx ask so.
//!
//! The proxy says what was asked in `X-Forwarded-Method`, `-Uri`, `-Host` and `-For`, and sends the other fields along as they came. Each
//! must stand there exactly once: a second one would be the client's own, that the proxy did not write over. The address that the
//! proxy wrote last into `X-Forwarded-For` is whoever sent it the request; what stands left of it counts as it would have counted here.

use std::net::SocketAddr;

use phalanx_model::{FramingFault, HttpVersion, RequestHead};

use super::question::{Body, HeadWriter, Question, last_address, settle};
use crate::http1::{FieldKind, HeadLimits};

/// Reads the question that a request is.
///
/// # Errors
/// It is malformed itself, or does not say what was asked.
pub fn read(asked: &RequestHead, body: Body, limits: HeadLimits) -> Result<Question, FramingFault> {
    if let Some(fault) = asked.faults.first() {
        return Err(*fault);
    }
    let only = |name: &str| only(asked, name);
    let method = only("x-forwarded-method")?.ok_or(FramingFault::BadQuestion)?;
    let target = only("x-forwarded-uri")?.ok_or(FramingFault::BadQuestion)?;
    let host = only("x-forwarded-host")?;
    let (peer, believed) = sender(asked).ok_or(FramingFault::BadQuestion)?;
    // Which version it had is not told.
    let mut writer = HeadWriter::begin(method, target, HttpVersion::Http11, limits);
    if let Some(host) = host {
        writer.field(b"Host", host);
    }
    for (place, (name, value)) in asked.headers().enumerate() {
        match FieldKind::of(name) {
            // The proxy's own: its connection's, and what it says of the request.
            FieldKind::Host | FieldKind::Connection => {}
            _ if DESCRIBES.iter().any(|known| is(name, known)) => {}
            _ if place != believed.place => writer.field(name, value),
            _ if believed.before.is_empty() => {}
            _ => writer.field(name, believed.before),
        }
    }
    let mut head = writer.read().ok_or(FramingFault::BadQuestion)?;
    settle(&mut head, &body);
    Ok(Question { head, body, peer })
}

/// The part of `X-Forwarded-For` that the proxy found there.
struct Believed<'a> {
    /// Which field it is of.
    place: usize,
    before: &'a [u8],
}

/// Who sent the request to the proxy.
fn sender(asked: &RequestHead) -> Option<(SocketAddr, Believed<'_>)> {
    let last = asked.headers().enumerate().filter(|(_, (name, _))| is(name, "x-forwarded-for")).last();
    let (place, (_, value)) = last?;
    let (peer, before) = last_address(value)?;
    Some((peer, Believed { place, before }))
}

/// The value of a field that stands there once at most.
fn only<'a>(asked: &'a RequestHead, name: &str) -> Result<Option<&'a [u8]>, FramingFault> {
    let mut values = asked.headers().filter(|(known, _)| is(known, name)).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(FramingFault::BadQuestion),
        (value, None) => Ok(value),
    }
}

fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

/// What a proxy says of a request. Written with `_` it is the client's, and stays.
const DESCRIBES: [&str; 7] = [
    "x-forwarded-method",
    "x-forwarded-uri",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse_head;

    const DESCRIBED: &str = "X-Forwarded-Method: POST\r\nX-Forwarded-Uri: /a?b=c\r\nX-Forwarded-Host: shop.test\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n";

    fn question(fields: &str) -> Result<Question, FramingFault> {
        let asked = format!("GET /whatever HTTP/1.1\r\nHost: phalanx:8085\r\n{fields}\r\n");
        read(&parse_head(asked.as_bytes()).unwrap(), Body::unseen(), HeadLimits::default())
    }

    #[track_caller]
    fn faults(fields: &str) -> Vec<FramingFault> {
        question(fields).map_or_else(|fault| vec![fault], |question| question.head.faults)
    }

    #[test]
    fn the_described_head_is_written_as_it_would_have_come() {
        let fields = format!("Connection: close\r\n{DESCRIBED}User-Agent: x\r\nX_Forwarded_Uri: /y\r\n");
        let question = question(&fields).unwrap();
        let expected =
            "POST /a?b=c HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\r\nX_Forwarded_Uri: /y\r\n\r\n";
        assert_eq!(std::str::from_utf8(&question.head.raw).unwrap(), expected);
        assert_eq!((question.head.faults, question.peer), (vec![], "192.0.2.1:0".parse().unwrap()));
    }

    #[test]
    fn what_stands_left_of_the_proxys_own_word_stays() {
        for (sent, peer, stays) in [
            ("X-Forwarded-For: 10.0.0.1, 192.0.2.1\r\n", "192.0.2.1:0", Some("10.0.0.1")),
            ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1:4711", None),
            ("X-Forwarded-For: [2001:db8::1]\r\n", "[2001:db8::1]:0", None),
            (
                "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: ::ffff:192.0.2.1\r\n",
                "192.0.2.1:0",
                Some("10.0.0.1"),
            ),
        ] {
            let fields = DESCRIBED.replace("X-Forwarded-For: 192.0.2.1\r\n", sent);
            let question = question(&fields).unwrap();
            assert_eq!(question.peer, peer.parse().unwrap(), "{sent}");
            let kept = question.head.header("x-forwarded-for").map(|value| String::from_utf8_lossy(value));
            assert_eq!(kept.as_deref(), stays, "{sent}");
        }
    }

    #[test]
    fn what_does_not_say_what_was_asked_is_refused() {
        let without = |name: &str| {
            let kept = DESCRIBED.split_inclusive('\n').filter(|line| !line.starts_with(name));
            kept.collect::<String>()
        };
        assert_eq!(faults(DESCRIBED), []);
        for name in ["X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-For"] {
            assert_eq!(faults(&without(name)), [FramingFault::BadQuestion], "{name}");
        }
        for name in ["Method: GET", "uri: /", "HOST: other.test"] {
            let doubled = format!("{DESCRIBED}x-forwarded-{name}\r\n");
            assert_eq!(faults(&doubled), [FramingFault::BadQuestion], "{name}");
        }
        let unknown = DESCRIBED.replace("192.0.2.1", "unknown");
        assert_eq!(faults(&unknown), [FramingFault::BadQuestion]);
    }

    #[test]
    fn what_would_be_refused_by_itself_is() {
        for (from, to, fault) in [
            ("/a?b=c", "/a HTTP/1.1 x", FramingFault::BadRequestLine),
            ("/a?b=c", "a#b", FramingFault::BadTarget),
            ("POST", "P OST", FramingFault::BadRequestLine),
            ("POST", "CONNECT", FramingFault::BadTarget),
            ("shop.test", "user@shop.test", FramingFault::BadHost),
            ("X-Forwarded-Host: shop.test\r\n", "", FramingFault::MissingHost),
        ] {
            let found = faults(&DESCRIBED.replacen(from, to, 1));
            assert!(found.contains(&fault), "{to}: {found:?}");
        }
        let twice = format!("{DESCRIBED}Content-Type: a/b\r\nContent-Type: c/d\r\n");
        assert_eq!(faults(&twice), [FramingFault::RepeatedContentType]);
    }
}
