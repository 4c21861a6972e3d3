//! The request head as the upstream gets it: what the client wrote, in its order and case, without what ends at this
//! hop, and with what we know about the client.

use std::net::IpAddr;

use phalanx_model::text::{push_decimal, push_ip};
use phalanx_model::{BodyFraming, HttpVersion, RequestHead};

use crate::client_address::{AddressField, AddressSource};
use crate::client_certificate::{AskedOfClients, Shown};
use crate::http1::FieldKind;
use crate::http1::encode::field;
use crate::http1::fields::{KnownFields, list};
use crate::http1::semantics::absolute_form;
use crate::route::act::Treatment;
use crate::trace::TraceContext;

/// What the head is written from.
pub(crate) struct Forwarded<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) known: &'a KnownFields,
    /// What policy changes of it.
    pub(crate) treatment: Option<&'a Treatment<'a>>,
    /// How the body goes to the upstream.
    pub(crate) framing: BodyFraming,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The connection is one with TLS.
    pub(crate) tls: bool,
    /// Whether the peer's forwarding fields are believed.
    pub(crate) peer_trusted: bool,
    /// In which of them the app's clients are named.
    pub(crate) source: &'a AddressSource,
    /// What the app asks of its clients' certificates.
    pub(crate) asked: Option<&'a AskedOfClients>,
    /// What this one has shown.
    pub(crate) shown: Option<&'a Shown>,
    /// Whom the forwarding fields name.
    pub(crate) client: IpAddr,
    pub(crate) request_id: &'a [u8],
    pub(crate) trace: &'a TraceContext,
    pub(crate) path_prefix: &'a str,
    /// What `Host` says when the client did not say it.
    pub(crate) upstream_host: &'a [u8],
    /// What the node calls itself.
    pub(crate) pseudonym: &'a str,
    /// The protocol to upgrade to, if the upgrade is passed on.
    pub(crate) upgrade: Option<&'a [u8]>,
}

/// Appends the head of the upstream request.
pub(crate) fn write_request_head(out: &mut Vec<u8>, request: &Forwarded<'_>) {
    let head = request.head;
    out.extend_from_slice(head.method());
    out.push(b' ');
    let rewritten = request.treatment.and_then(|treatment| treatment.target.as_deref());
    write_target(out, rewritten.unwrap_or(head.target()), request.path_prefix);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if request.known.host.is_none() {
        // HTTP/1.0 may leave it out, HTTP/1.1 may not (RFC 9112 section 3.2).
        let host = request.treatment.and_then(|treatment| treatment.host);
        field(out, b"Host", host.unwrap_or(request.upstream_host));
    }
    write_fields(out, request);
    write_forwarding(out, request);
    if let Some(asked) = request.asked {
        asked.write(out, request.shown);
    }
    if let Some(treatment) = request.treatment {
        out.extend_from_slice(&treatment.lines);
    }
    field(out, b"X-Request-Id", request.request_id);
    request.trace.write(out);
    let version: &[u8] = match head.version {
        HttpVersion::Http10 => b"Via: 1.0 ",
        HttpVersion::Http11 => b"Via: 1.1 ",
        HttpVersion::Http2 => b"Via: 2.0 ",
    };
    out.extend_from_slice(version);
    out.extend_from_slice(request.pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
    match request.framing {
        BodyFraming::None => {}
        BodyFraming::Length(bytes) => {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, bytes);
            out.extend_from_slice(b"\r\n");
        }
        BodyFraming::Chunked => field(out, b"Transfer-Encoding", b"chunked"),
    }
    if let Some(protocol) = request.upgrade {
        field(out, b"Connection", b"Upgrade");
        field(out, b"Upgrade", protocol);
    } else if request.known.takes_trailers(head) {
        field(out, b"TE", b"trailers");
        field(out, b"Connection", b"TE");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a request has come by this node before (RFC 9110 section 7.6.3).
pub(crate) fn went_in_a_circle(head: &RequestHead, known: &KnownFields, pseudonym: &str) -> bool {
    let is_own = |element: &[u8]| {
        let by = element.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).nth(1);
        by.is_some_and(|by| by.eq_ignore_ascii_case(pseudonym.as_bytes()))
    };
    let values = || head.headers().filter(|(name, _)| FieldKind::of(name) == FieldKind::Via);
    known.via.is_some() && values().any(|(_, value)| list(value).any(is_own))
}

/// The protocol a request asks to upgrade to, if it is one that is passed on. Only WebSocket is: `h2c` would hide
/// requests from inspection, and nothing else is in use between clients and sites.
pub(crate) fn requested_upgrade<'a>(head: &'a RequestHead, known: &KnownFields) -> Option<&'a [u8]> {
    let protocol = head.bytes(known.upgrade?.value);
    let asked = known.connection
        && head
            .headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
            .flat_map(|(_, value)| list(value))
            .any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let plain = head.method() == b"GET" && matches!(head.framing, BodyFraming::None | BodyFraming::Length(0));
    (asked && plain && protocol.eq_ignore_ascii_case(b"websocket")).then_some(protocol)
}

/// Whether a field named `name` ends at this hop because a `Connection` field of `fields` names it.
pub(crate) fn is_named_by_connection<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    name: &[u8],
) -> bool {
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| list(value))
        .any(|option| option.eq_ignore_ascii_case(name))
}

fn write_target(out: &mut Vec<u8>, target: &[u8], path_prefix: &str) {
    let target = match absolute_form(target) {
        Some((_, path)) => path,
        None => target,
    };
    if target == b"*" {
        return out.extend_from_slice(target);
    }
    out.extend_from_slice(path_prefix.as_bytes());
    // An absolute form may have no path (RFC 9112 section 3.2.1: send "/").
    if !target.starts_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(target);
}

fn write_fields(out: &mut Vec<u8>, request: &Forwarded<'_>) {
    let head = request.head;
    // `keep-alive` and `close` name no field; anything longer is looked at field by field.
    let named = request.known.connection
        && head.headers().any(|(name, value)| {
            name.eq_ignore_ascii_case(b"connection")
                && !value.eq_ignore_ascii_case(b"keep-alive")
                && !value.eq_ignore_ascii_case(b"close")
        });
    for (name, value) in head.headers() {
        match FieldKind::of(name) {
            FieldKind::Connection
            | FieldKind::Upgrade
            | FieldKind::HopByHop
            | FieldKind::Te
            | FieldKind::Expect
            | FieldKind::ContentLength
            | FieldKind::TransferEncoding
            | FieldKind::Disguised
            | FieldKind::XForwardedFor
            | FieldKind::XRequestId => {}
            _ if request.asked.is_some_and(|asked| asked.takes(name)) => {}
            FieldKind::XForwardedProto | FieldKind::XForwardedHost | FieldKind::OtherForwarded => {
                if request.peer_trusted && !name.contains(&b'_') {
                    field(out, name, value);
                }
            }
            FieldKind::Traceparent if !request.trace.keeps_parent => {}
            FieldKind::Tracestate if !request.trace.keeps_state => {}
            FieldKind::Host if let Some(host) = request.treatment.and_then(|treatment| treatment.host) => {
                field(out, name, host);
            }
            _ if request.treatment.is_some_and(|treatment| treatment.edits.takes(name)) => {}
            _ if !request.peer_trusted && request.source.is_named(name) => {}
            // A client may not take these away from the upstream by naming them in `Connection`.
            FieldKind::Host | FieldKind::Via => field(out, name, value),
            _ if named && is_named_by_connection(head.headers(), name) => {}
            _ => field(out, name, value),
        }
    }
}

fn write_forwarding(out: &mut Vec<u8>, request: &Forwarded<'_>) {
    let head = request.head;
    out.extend_from_slice(b"X-Forwarded-For: ");
    let (mut has_proto, mut has_host) = (false, false);
    // A forwarder that names clients elsewhere passes this one on as it came, maybe from the client itself.
    let keeps_list = request.source.field == AddressField::XForwardedFor;
    if request.peer_trusted {
        if !keeps_list && request.client != request.peer.to_canonical() {
            push_ip(out, request.client);
            out.extend_from_slice(b", ");
        }
        for (name, value) in head.headers() {
            match FieldKind::of(name) {
                FieldKind::XForwardedFor if keeps_list && !name.contains(&b'_') => {
                    out.extend_from_slice(value);
                    out.extend_from_slice(b", ");
                }
                FieldKind::XForwardedProto => has_proto |= !name.contains(&b'_'),
                FieldKind::XForwardedHost => has_host |= !name.contains(&b'_'),
                _ => {}
            }
        }
    }
    push_ip(out, request.peer.to_canonical());
    out.extend_from_slice(b"\r\n");
    if !has_proto {
        field(out, b"X-Forwarded-Proto", if request.tls { b"https" } else { b"http" });
    }
    if !has_host && let Some(host) = request.known.host {
        field(out, b"X-Forwarded-Host", head.bytes(host.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse_head;

    fn head(fields: &str) -> (RequestHead, KnownFields) {
        let head =
            parse_head(format!("GET /a?b=c HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n").as_bytes()).unwrap();
        let known = KnownFields::of(&head);
        (head, known)
    }

    fn forwarded(fields: &str, peer_trusted: bool) -> String {
        forwarded_over(fields, peer_trusted, false)
    }

    fn forwarded_over(fields: &str, peer_trusted: bool, tls: bool) -> String {
        forwarded_from(fields, peer_trusted, tls, &AddressSource::default())
    }

    fn forwarded_from(fields: &str, peer_trusted: bool, tls: bool, source: &AddressSource) -> String {
        let (head, known) = head(fields);
        let mut out = Vec::new();
        let upgrade = requested_upgrade(&head, &known);
        let request = Forwarded {
            head: &head,
            known: &known,
            treatment: None,
            framing: head.framing,
            peer: "192.0.2.1".parse().unwrap(),
            tls,
            peer_trusted,
            source,
            asked: None,
            shown: None,
            client: "203.0.113.9".parse().unwrap(),
            request_id: b"ID",
            trace: &TraceContext::default(),
            path_prefix: "/base",
            upstream_host: b"127.0.0.1:1",
            pseudonym: "phalanx-1",
            upgrade,
        };
        write_request_head(&mut out, &request);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_head_is_passed_in_its_own_order_and_case() {
        let text = forwarded("ACCEPT: */*\r\nx-custom: 1\r\nCookie: a=b\r\n", false);
        assert!(text.starts_with(
            "GET /base/a?b=c HTTP/1.1\r\nHost: shop.test\r\nACCEPT: */*\r\nx-custom: 1\r\nCookie: a=b\r\n"
        ));
        assert!(text.contains(
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.test\r\n"
        ));
        assert!(text.contains("X-Request-Id: ID\r\n"));
    }

    #[test]
    fn the_scheme_is_that_of_the_connection_unless_a_trusted_forwarder_says_another() {
        let said = |fields, trusted, tls| {
            let text = forwarded_over(fields, trusted, tls);
            let protos: Vec<_> = text.lines().filter(|line| line.starts_with("X-Forwarded-Proto")).collect();
            protos.join("|")
        };
        assert_eq!(said("", false, true), "X-Forwarded-Proto: https");
        assert_eq!(said("X-Forwarded-Proto: http\r\n", false, true), "X-Forwarded-Proto: https");
        assert_eq!(said("X-Forwarded-Proto: http\r\n", true, true), "X-Forwarded-Proto: http");
        assert_eq!(said("X-Forwarded-Proto: https\r\n", true, false), "X-Forwarded-Proto: https");
    }

    #[test]
    fn fields_of_this_hop_end_here() {
        let text = forwarded(
            "Connection: keep-alive, X-Secret, Host, Upgrade\r\nKeep-Alive: 5\r\nTE: gzip\r\nX-Secret: 1\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nProxy-Authorization: x\r\nX-Request-Id: forged\r\n",
            false,
        );
        for gone in
            ["Connection", "Keep-Alive", "TE:", "X-Secret", "Upgrade", "HTTP2", "Proxy-Auth", "forged"]
        {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert!(text.contains("Host: shop.test\r\n"));
    }

    #[test]
    fn a_client_that_takes_trailers_has_its_upstream_know() {
        let text = forwarded("TE: gzip, Trailers\r\nConnection: TE\r\n", false);
        assert!(text.ends_with("TE: trailers\r\nConnection: TE\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_circle_is_seen_in_any_via() {
        for (fields, expected) in [
            ("", false),
            ("Via: 1.1 phalanx-2\r\n", false),
            ("Via: 1.1 phalanx-11\r\n", false),
            ("Via: 1.1 x phalanx-1\r\n", false),
            ("Via: 1.1 phalanx-1\r\n", true),
            ("Via: 1.0 a, HTTP/2.0  PHALANX-1 (comment)\r\n", true),
            ("Via: 1.0 a\r\nVIA: 1.1 phalanx-1\r\n", true),
        ] {
            let (head, known) = head(fields);
            assert_eq!(went_in_a_circle(&head, &known, "phalanx-1"), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_websocket_upgrade_is_passed_on() {
        let text = forwarded(
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
            false,
        );
        assert!(text.ends_with("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
        assert!(text.contains("Sec-WebSocket-Key: x\r\n"));
    }

    #[test]
    fn a_strangers_forwarding_fields_are_replaced() {
        let fields = "X-Forwarded-For: 1.2.3.4\r\nx_forwarded_for: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
             X-Real-IP: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nContent_Length: 7\r\n";
        let text = forwarded(fields, false);
        assert!(!text.contains("1.2.3.4") && !text.contains("https") && !text.contains("443"), "{text}");
        assert!(!text.contains("Content_Length"));
        let trusted = forwarded(fields, true);
        assert!(trusted.contains("X-Forwarded-For: 1.2.3.4, 192.0.2.1\r\n"), "{trusted}");
        assert!(
            trusted.contains("X-Forwarded-Proto: https\r\n")
                && trusted.contains("Forwarded: for=1.2.3.4\r\n")
        );
        assert!(!trusted.contains("x_forwarded_for"));
    }

    #[test]
    fn a_forwarder_that_names_clients_elsewhere_has_its_list_replaced() {
        let source =
            AddressSource { field: AddressField::Named("my-client".into()), ..AddressSource::default() };
        let fields = "X-Forwarded-For: 1.2.3.4\r\nMy-Client: 203.0.113.9\r\n";
        let text = forwarded_from(fields, true, false, &source);
        assert!(text.contains("X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n"), "{text}");
        assert!(text.contains("My-Client: 203.0.113.9\r\n") && !text.contains("1.2.3.4"), "{text}");
        let text = forwarded_from(fields, false, false, &source);
        assert!(text.contains("X-Forwarded-For: 192.0.2.1\r\n") && !text.contains("My-Client"), "{text}");
    }
}
