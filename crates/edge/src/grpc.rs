//! What is particular about gRPC: a reply of ours is one that its clients read, and a call may wait for its answer before it has said all.

use phalanx_model::{HttpVersion, RequestHead};

use crate::http1::fields::KnownFields;

/// Whether a request is a call. The form for browsers (gRPC-Web) is none: its clients read HTTP's status.
pub(crate) fn is_call(head: &RequestHead, known: &KnownFields) -> bool {
    let media = known.content_type.map(|field| head.bytes(field.value)).unwrap_or_default();
    let rest = media
        .split_at_checked(MEDIA_TYPE.len())
        .and_then(|(start, rest)| start.eq_ignore_ascii_case(MEDIA_TYPE).then_some(rest));
    head.version == HttpVersion::Http2
        && rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
}

/// The status that stands for one of HTTP (grpc/doc/http-grpc-status-mapping.md).
pub(crate) fn status_of(http: u16) -> &'static [u8] {
    match http {
        // INTERNAL, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, UNAVAILABLE, UNKNOWN.
        400 => b"13",
        401 => b"16",
        403 => b"7",
        404 => b"12",
        429 | 502..=504 => b"14",
        _ => b"2",
    }
}

/// Whether bytes of a body are messages, and none begun.
pub(crate) fn are_whole(mut body: &[u8]) -> bool {
    while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
        let [_, length @ ..] = prefix;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some(rest) = rest.get(length..) else { return false };
        body = rest;
    }
    body.is_empty()
}

const MEDIA_TYPE: &[u8] = b"application/grpc";

/// How long a call that has sent whole messages only may pause before it counts as one that waits for an answer.
pub(crate) const PAUSE_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let raw = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n\r\n");
            let mut head = crate::http1::parse_head(raw.as_bytes()).unwrap();
            let known = KnownFields::of(&head);
            assert!(!is_call(&head, &known));
            head.version = HttpVersion::Http2;
            assert_eq!(is_call(&head, &known), expected, "{kind}");
        }
    }

    #[test]
    fn messages_are_whole_or_begun() {
        for (body, expected) in [
            (&b""[..], true),
            (b"\0\0\0\0\0", true),
            (b"\0\0\0\0\x02ab\0\0\0\0\x01c", true),
            (b"\0\0\0\0\x02a", false),
            (b"\0\0\0", false),
            (b"\0\xff\xff\xff\xffa", false),
        ] {
            assert_eq!(are_whole(body), expected, "{body:?}");
        }
    }
}
