//! How a client writes HTTP, as text by which clients of one kind are told from others. Recorded with each request; the guide
//! (docs/guide/client-address.md) gives the definitions.
//!
//! Made once for a connection, of its first request: a program does not change its ways within one.

use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use phalanx_model::{HttpVersion, RequestHead};

use crate::http1::FieldKind;

/// Of an HTTP/1 head: version, number of fields, and a hash of their names in order and case.
pub(crate) fn of_head(head: &RequestHead) -> Option<Arc<str>> {
    let version = match head.version {
        HttpVersion::Http10 => "10",
        HttpVersion::Http11 => "11",
        HttpVersion::Http2 => return None,
    };
    let mut names = Context::new(&SHA256);
    let mut count = 0;
    for (name, _) in head.headers() {
        if comes_and_goes(name) {
            continue;
        }
        if count > 0 {
            names.update(b",");
        }
        names.update(name);
        count += 1;
    }
    let mut text = format!("h{version}_{:02}_", count.min(99));
    for byte in names.finish().as_ref().iter().take(6) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text.into())
}

/// Whether a field depends on what is asked for, or on who passed it on, rather than on who asks.
fn comes_and_goes(name: &[u8]) -> bool {
    match FieldKind::of(name) {
        FieldKind::Cookie
        | FieldKind::Authorization
        | FieldKind::Referer
        | FieldKind::ContentLength
        | FieldKind::ContentType
        | FieldKind::TransferEncoding
        | FieldKind::Expect
        | FieldKind::Via
        | FieldKind::XForwardedFor
        | FieldKind::XForwardedProto
        | FieldKind::XForwardedHost
        | FieldKind::XRequestId
        | FieldKind::OtherForwarded => true,
        FieldKind::Other => {
            let conditional = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
            conditional || OF_A_REQUEST.iter().any(|known| name.eq_ignore_ascii_case(known))
        }
        _ => false,
    }
}

const OF_A_REQUEST: &[&[u8]] = &[b"origin", b"range", b"cache-control", b"pragma"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse_head;

    fn print(version: &str, fields: &str) -> String {
        let raw = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        of_head(&parse_head(raw.as_bytes()).unwrap()).unwrap().to_string()
    }

    #[test]
    fn order_and_case_of_fields_tell_clients_apart() {
        let one = print("1.1", "User-Agent: x\r\nAccept: */*\r\n");
        assert_eq!(one, "h11_03_fe444ad14866");
        assert_eq!(
            one,
            print("1.1", "User-Agent: y\r\nCookie: a=b\r\nAccept: text/html\r\nIf-None-Match: x\r\n")
        );
        assert_ne!(one, print("1.1", "Accept: */*\r\nUser-Agent: x\r\n"));
        assert_ne!(one, print("1.1", "user-agent: x\r\nAccept: */*\r\n"));
        assert_eq!(print("1.0", ""), "h10_01_4a823118b9ba");
    }
}
