//! Header field names that the edge acts on, and the lexical rules of RFC 9110 section 5.6.

use phalanx_model::{HeaderField, RequestHead};

/// What a header field is to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the fields")]
pub enum FieldKind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Via,
    UserAgent,
    Referer,
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    ContentType,
    Cookie,
    Authorization,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XRequestId,
    Traceparent,
    Tracestate,
    /// Which transfer codings, and whether trailers, are taken; ends at this hop.
    Te,
    /// Other fields that speak in a forwarder's name of the client or of where its request goes: `Forwarded`, `X-Real-IP`,
    /// other `X-Forwarded-*`, the CDNs' own ones, `X-Original-URL`, `Client-Cert` (RFC 9440).
    OtherForwarded,
    /// Fields that end at this hop (RFC 9110 section 7.6.1).
    HopByHop,
    /// A framing field written with `_` for `-`, which CGI-like back ends cannot tell from the real one.
    Disguised,
    Other,
}

impl FieldKind {
    /// Classifies a name. Names that speak of forwarding compare with `_` equal to `-`, because many back ends map
    /// both to the same variable.
    pub fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let Some(first) = name.first() else {
            return Self::Other;
        };
        // Length and first letter leave at most one known name: this runs several times per field.
        match (name.len(), first | 0x20) {
            (2, b't') if is("te") => Self::Te,
            (3, b'v') if is("via") => Self::Via,
            (4, b'h') if is("host") => Self::Host,
            // A CGI-like back end would take it for its own outgoing proxy (CVE-2016-5385).
            (5, b'p') if is("proxy") => Self::HopByHop,
            (6, b'a') if is("accept") => Self::Accept,
            (6, b'c') if is("cookie") => Self::Cookie,
            (6, b'e') if is("expect") => Self::Expect,
            (7, b'r') if is("referer") => Self::Referer,
            (7, b'u') if is("upgrade") => Self::Upgrade,
            (7, b't') if is("trailer") => Self::HopByHop,
            (9, b'f') if is("forwarded") => Self::OtherForwarded,
            (10, b'c') if is("connection") => Self::Connection,
            (10, b'u') if is("user-agent") => Self::UserAgent,
            (10, b't') if is("tracestate") => Self::Tracestate,
            (11, b't') if is("traceparent") => Self::Traceparent,
            (10, b'k') if is("keep-alive") => Self::HopByHop,
            (12, b'c') if is("content-type") => Self::ContentType,
            (13, b'a') if is("authorization") => Self::Authorization,
            (14, b'c') if is("content-length") => Self::ContentLength,
            (14, b'h') if is("http2-settings") => Self::HopByHop,
            (15, b'a') if is("accept-encoding") => Self::AcceptEncoding,
            (15, b'a') if is("accept-language") => Self::AcceptLanguage,
            (16, b'p') if is("proxy-connection") => Self::HopByHop,
            (17, b't') if is("transfer-encoding") => Self::TransferEncoding,
            (19, b'p') if is("proxy-authorization") => Self::HopByHop,
            (14, b'c') if same_with_underscores(name, b"content-length") => Self::Disguised,
            (17, b't') if same_with_underscores(name, b"transfer-encoding") => Self::Disguised,
            (9, b'c') if same_with_underscores(name, b"client-ip") => Self::OtherForwarded,
            (11, b'c') if same_with_underscores(name, b"client-cert") => Self::OtherForwarded,
            (17, b'c') if same_with_underscores(name, b"client-cert-chain") => Self::OtherForwarded,
            (14, b't') if same_with_underscores(name, b"true-client-ip") => Self::OtherForwarded,
            (16, b'c') if same_with_underscores(name, b"cf-connecting-ip") => Self::OtherForwarded,
            (16, b'f') if same_with_underscores(name, b"fastly-client-ip") => Self::OtherForwarded,
            (9.., b'x') => Self::of_x_field(name),
            _ => Self::Other,
        }
    }

    fn of_x_field(name: &[u8]) -> Self {
        let is = |known: &str| same_with_underscores(name, known.as_bytes());
        match name.len() {
            9 if is("x-real-ip") => Self::OtherForwarded,
            11 if is("x-client-ip") || is("x-forwarded") => Self::OtherForwarded,
            12 if is("x-request-id") => Self::XRequestId,
            13 if is("x-rewrite-url") => Self::OtherForwarded,
            14 if is("x-original-url") => Self::OtherForwarded,
            15 if is("x-forwarded-for") => Self::XForwardedFor,
            16 if is("x-forwarded-host") => Self::XForwardedHost,
            17 if is("x-forwarded-proto") => Self::XForwardedProto,
            19 if is("x-cluster-client-ip") => Self::OtherForwarded,
            24 if is("x-original-forwarded-for") => Self::OtherForwarded,
            _ if name.get(..12).is_some_and(|start| same_with_underscores(start, b"x-forwarded-")) => {
                Self::OtherForwarded
            }
            _ => Self::Other,
        }
    }
}

/// Where the fields that the edge reads lie in a head: the first of each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownFields {
    pub(crate) host: Option<HeaderField>,
    pub(crate) user_agent: Option<HeaderField>,
    pub(crate) referer: Option<HeaderField>,
    pub(crate) accept: Option<HeaderField>,
    pub(crate) expect: Option<HeaderField>,
    pub(crate) cookie: Option<HeaderField>,
    pub(crate) authorization: Option<HeaderField>,
    pub(crate) upgrade: Option<HeaderField>,
    pub(crate) request_id: Option<HeaderField>,
    pub(crate) traceparent: Option<HeaderField>,
    /// Whether there are more of the last.
    pub(crate) traceparents: bool,
    pub(crate) via: Option<HeaderField>,
    pub(crate) te: Option<HeaderField>,
    pub(crate) content_type: Option<HeaderField>,
    /// Whether there is a `Connection` field.
    pub(crate) connection: bool,
    /// Whether a forwarder's field is there.
    pub(crate) forwarded: bool,
}

impl KnownFields {
    /// One pass over a head.
    pub(crate) fn of(head: &RequestHead) -> Self {
        let mut known = Self::default();
        for field in &head.fields {
            let slot = match FieldKind::of(head.bytes(field.name)) {
                FieldKind::Host => &mut known.host,
                FieldKind::UserAgent => &mut known.user_agent,
                FieldKind::Referer => &mut known.referer,
                FieldKind::Accept => &mut known.accept,
                FieldKind::Expect => &mut known.expect,
                FieldKind::Cookie => &mut known.cookie,
                FieldKind::Authorization => &mut known.authorization,
                FieldKind::Upgrade => &mut known.upgrade,
                FieldKind::XRequestId => &mut known.request_id,
                FieldKind::Traceparent => {
                    known.traceparents = known.traceparent.is_some();
                    &mut known.traceparent
                }
                FieldKind::Via => &mut known.via,
                FieldKind::Te => &mut known.te,
                FieldKind::ContentType => &mut known.content_type,
                FieldKind::Connection => {
                    known.connection = true;
                    continue;
                }
                FieldKind::XForwardedFor
                | FieldKind::XForwardedProto
                | FieldKind::XForwardedHost
                | FieldKind::OtherForwarded => {
                    known.forwarded = true;
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert(*field);
        }
        known
    }
}

impl KnownFields {
    /// Whether the client takes trailers (RFC 9110 section 10.1.4).
    pub(crate) fn takes_trailers(&self, head: &RequestHead) -> bool {
        let takes = |field: HeaderField| {
            list(head.bytes(field.value)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
        };
        self.te.is_some_and(takes)
    }
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1), empty ones left out.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether the bytes are a token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// Whether a name is a known one, in lower case, but for case and `_` in place of `-`.
pub(crate) fn same_with_underscores(name: &[u8], known: &[u8]) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == known.len() && name.iter().zip(known).all(|(&a, &b)| plain(a) == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case() {
        assert_eq!(FieldKind::of(b"HOST"), FieldKind::Host);
        assert_eq!(FieldKind::of(b"Transfer-encoding"), FieldKind::TransferEncoding);
        assert_eq!(FieldKind::of(b"TE"), FieldKind::Te);
        assert_eq!(FieldKind::of(b"x-other"), FieldKind::Other);
        assert_eq!(FieldKind::of(b""), FieldKind::Other);
    }

    #[test]
    fn a_forwarding_field_is_known_in_disguise() {
        assert_eq!(FieldKind::of(b"X_Forwarded_For"), FieldKind::XForwardedFor);
        assert_eq!(FieldKind::of(b"x-forwarded_host"), FieldKind::XForwardedHost);
        assert_eq!(FieldKind::of(b"X-Forwarded-Anything"), FieldKind::OtherForwarded);
        assert_eq!(FieldKind::of(b"Client_Cert"), FieldKind::OtherForwarded);
        assert_eq!(FieldKind::of(b"client-cert_chain"), FieldKind::OtherForwarded);
        assert_eq!(FieldKind::of(b"Content_Length"), FieldKind::Disguised);
        assert_eq!(FieldKind::of(b"Transfer_Encoding"), FieldKind::Disguised);
    }
}
