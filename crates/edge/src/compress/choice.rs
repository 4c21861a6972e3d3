//! Whether a response may be compressed, and with what; what its head says then.

use phalanx_model::RequestHead;
use phalanx_policy::{Compression, ContentCoding};

use crate::http1::fields::{FieldKind, list};
use crate::http1::{ResponseFraming, ResponseHead, encode};

/// What compression does to one response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Other clients may get it otherwise: `Vary` says so.
    varies: bool,
    /// Its validator is that of a representation of ours, equal to the upstream's in meaning only (RFC 9110 section 8.8.1).
    weakens: bool,
    /// What it is compressed with.
    pub(crate) coding: Option<ContentCoding>,
}

impl Choice {
    /// What an app's rules make of a response.
    pub(crate) fn of(rules: &Compression, request: &RequestHead, response: &ResponseHead) -> Self {
        // Of what a cache has already: its validator must be the one that it was given with the body.
        if response.status == 304 {
            let weakens = accepted(rules, request).is_some();
            return Self { varies: true, weakens, coding: None };
        }
        if !is_suitable(rules, response) {
            return Self::default();
        }
        let coding = accepted(rules, request);
        Self { varies: true, weakens: coding.is_some(), coding }
    }

    /// The same without compression.
    pub(crate) fn as_it_is(self) -> Self {
        Self { varies: self.varies, ..Self::default() }
    }

    /// Whether any of the upstream's fields goes otherwise than it came.
    pub(crate) fn changes_fields(self) -> bool {
        self.weakens || self.coding.is_some()
    }

    /// Appends one field of the upstream's response as it is now; false: leave it as it is.
    pub(crate) fn writes(&self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> bool {
        if self.weakens && name.eq_ignore_ascii_case(b"etag") && value.starts_with(b"\"") {
            encode::field(out, name, &[b"W/", value].concat());
            return true;
        }
        // Its length is another, a part of it could not be asked for, and `identity` is no more.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        self.coding.is_some() && (is("content-length") || is("accept-ranges") || is("content-encoding"))
    }

    /// Appends what the upstream's response does not say.
    pub(crate) fn write_own(&self, out: &mut Vec<u8>, response: &ResponseHead) {
        if let Some(coding) = self.coding {
            encode::field(out, b"Content-Encoding", coding.name().as_bytes());
        }
        let known = |value: &[u8]| {
            list(value).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
        };
        if self.varies && !values(response, b"vary").any(known) {
            encode::field(out, b"Vary", b"Accept-Encoding");
        }
    }
}

fn is_suitable(rules: &Compression, response: &ResponseHead) -> bool {
    // A part of a body, or an answer about a part, stays what the client asked for; other statuses have no content of note.
    let whole = matches!(response.status, 200 | 201 | 203 | 400..=403 | 404 | 409 | 410 | 422 | 500..=599);
    let long = match response.framing {
        ResponseFraming::Length(bytes) => bytes >= rules.bytes_least,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => true,
        // To a HEAD request: as its GET would be answered.
        ResponseFraming::None => announced(response).is_none_or(|bytes| bytes >= rules.bytes_least),
    };
    whole
        && long
        && is_of_type(rules, response)
        && response.headers().all(|(name, value)| permits(name, value))
}

fn announced(response: &ResponseHead) -> Option<u64> {
    let value = values(response, b"content-length").next()?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a field leaves the choice to us.
fn permits(name: &[u8], value: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("content-encoding") {
        return value.is_empty() || value.eq_ignore_ascii_case(b"identity");
    }
    if is("cache-control") {
        return !list(value).any(|directive| directive.eq_ignore_ascii_case(b"no-transform"));
    }
    // Digests of the bytes that would be others (RFC 9530, RFC 1864), and parts of them.
    !(is("content-digest") || is("digest") || is("content-md5") || is("content-range"))
}

fn is_of_type(rules: &Compression, response: &ResponseHead) -> bool {
    let Some(value) = values(response, b"content-type").next() else { return false };
    let media = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    // An encoder that waits for more would hold back what is to be there at once.
    if media.eq_ignore_ascii_case(b"text/event-stream") {
        return false;
    }
    rules.types.iter().any(|known| match known.strip_suffix('*') {
        Some(kind) => {
            media.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()))
        }
        None => media.eq_ignore_ascii_case(known.as_bytes()),
    })
}

/// The coding that the client likes best of those there are; among equals the first of the rules'.
fn accepted(rules: &Compression, request: &RequestHead) -> Option<ContentCoding> {
    let mut best: Option<(u16, ContentCoding)> = None;
    for &coding in &rules.codings {
        let quality = quality(request, coding);
        if quality > 0 && best.is_none_or(|(known, _)| quality > known) {
            best = Some((quality, coding));
        }
    }
    // Who would rather have it as it is gets it so.
    let (liked, coding) = best?;
    (liked >= quality_of(request, b"identity").unwrap_or(0)).then_some(coding)
}

fn quality(request: &RequestHead, coding: ContentCoding) -> u16 {
    let named = quality_of(request, coding.name().as_bytes());
    // RFC 9110 section 8.4.1.3: an old name of it.
    let old = || if coding == ContentCoding::Gzip { quality_of(request, b"x-gzip") } else { None };
    // `*` stands for what is not named. Few clients that write it mean codings they know nothing of: for them there is gzip.
    let any = || if coding == ContentCoding::Gzip { quality_of(request, b"*") } else { None };
    named.or_else(old).or_else(any).unwrap_or(0)
}

/// What `Accept-Encoding` says of a coding, in thousandths; `None` if it does not name it.
fn quality_of(request: &RequestHead, coding: &[u8]) -> Option<u16> {
    let fields = request
        .fields
        .iter()
        .filter(|field| FieldKind::of(request.bytes(field.name)) == FieldKind::AcceptEncoding);
    for field in fields {
        for element in list(request.bytes(field.value)) {
            let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            if parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding)) {
                return Some(parts.find_map(weight).unwrap_or(1_000));
            }
        }
    }
    None
}

/// A `q` of 0 to 1 with three digits at most (RFC 9110 section 12.4.2), in thousandths; one that is none counts as 0.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let text =
        std::str::from_utf8(value).ok().filter(|text| text.len() <= 5 && !text.starts_with(['+', '-']));
    let number = text.and_then(|text| text.parse::<f32>().ok()).filter(|number| (0.0..=1.0).contains(number));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
    Some(number.map_or(0, |number| (number * 1_000.0).round() as u16))
}

fn values<'a>(response: &'a ResponseHead, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    response.headers().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use crate::http1::HeadLimits;
    use bytes::BytesMut;

    use super::*;
    use crate::http1::{HeadReader, read_response_head};

    fn request(accept: &str) -> RequestHead {
        let mut input = BytesMut::from(format!("GET / HTTP/1.1\r\nHost: a\r\n{accept}\r\n").as_bytes());
        HeadReader::default().read(&mut input, HeadLimits::default()).unwrap()
    }

    fn response(status: u16, fields: &str) -> ResponseHead {
        let mut input = BytesMut::from(format!("HTTP/1.1 {status} X\r\n{fields}\r\n").as_bytes());
        read_response_head(&mut input, false).unwrap().unwrap()
    }

    fn chosen(accept: &str, status: u16, fields: &str) -> Option<ContentCoding> {
        Choice::of(&Compression::default(), &request(accept), &response(status, fields)).coding
    }

    const HTML: &str = "Content-Type: text/html; charset=utf-8\r\nContent-Length: 5000\r\n";

    #[test]
    fn the_client_says_what_it_likes() {
        use ContentCoding::{Br, Gzip, Zstd};
        for (accept, expected) in [
            ("", None),
            ("Accept-Encoding: gzip, deflate, br, zstd\r\n", Some(Zstd)),
            ("Accept-Encoding: gzip, br\r\n", Some(Br)),
            ("Accept-Encoding: gzip;q=1.0, br;q=0.5\r\n", Some(Gzip)),
            ("Accept-Encoding: GZIP\r\n", Some(Gzip)),
            ("Accept-Encoding: x-gzip\r\n", Some(Gzip)),
            ("Accept-Encoding: *\r\n", Some(Gzip)),
            ("Accept-Encoding: *;q=0\r\n", None),
            ("Accept-Encoding: gzip;q=0, *\r\n", None),
            ("Accept-Encoding: br;q=0, gzip\r\n", Some(Gzip)),
            ("Accept-Encoding: identity, gzip;q=0.5\r\n", None),
            ("Accept-Encoding: identity;q=0.5, gzip\r\n", Some(Gzip)),
            ("Accept-Encoding: gzip;q=2\r\n", None),
            ("Accept-Encoding: gzip;q=-0\r\n", None),
            ("Accept-Encoding: deflate\r\nAccept-Encoding: br\r\n", Some(Br)),
            ("Accept-Encoding: \r\n", None),
        ] {
            assert_eq!(chosen(accept, 200, HTML), expected, "{accept}");
        }
    }

    #[test]
    fn what_must_stay_as_it_is_stays() {
        let accept = "Accept-Encoding: gzip\r\n";
        for (status, fields) in [
            (206, HTML.to_owned()),
            (204, "Content-Type: text/html\r\n".to_owned()),
            (416, HTML.to_owned()),
            (200, "Content-Type: text/html\r\nContent-Length: 1023\r\n".to_owned()),
            (200, "Content-Length: 5000\r\n".to_owned()),
            (200, "Content-Type: image/png\r\nContent-Length: 5000\r\n".to_owned()),
            (200, "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n".to_owned()),
            (200, format!("{HTML}Content-Encoding: br\r\n")),
            (200, format!("{HTML}Cache-Control: public, no-transform\r\n")),
            (200, format!("{HTML}Content-Digest: sha-256=:x:\r\n")),
            (200, format!("{HTML}Content-MD5: x\r\n")),
        ] {
            assert_eq!(chosen(accept, status, &fields), None, "{status} {fields}");
        }
        assert!(chosen(accept, 200, &format!("{HTML}Content-Encoding: identity\r\n")).is_some());
        assert!(chosen(accept, 404, "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n").is_some());
    }

    fn head(accept: &str, response: &ResponseHead) -> String {
        let choice = Choice::of(&Compression::default(), &request(accept), response);
        let mut out = Vec::new();
        for (name, value) in response.headers() {
            if !choice.writes(&mut out, name, value) {
                encode::field(&mut out, name, value);
            }
        }
        choice.write_own(&mut out, response);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_head_says_what_was_done() {
        let fields = format!("{HTML}ETag: \"v1\"\r\nAccept-Ranges: bytes\r\nVary: Cookie\r\n");
        let compressed = head("Accept-Encoding: br\r\n", &response(200, &fields));
        assert_eq!(
            compressed,
            "Content-Type: text/html; charset=utf-8\r\nETag: W/\"v1\"\r\nVary: Cookie\r\nContent-Encoding: br\r\n\
             Vary: Accept-Encoding\r\n"
        );
        let plain = head("", &response(200, &fields));
        assert!(
            plain.contains("ETag: \"v1\"")
                && plain.contains("Accept-Ranges")
                && plain.contains("Content-Length")
        );
        assert!(plain.ends_with("Vary: Accept-Encoding\r\n"));
        for vary in ["*", "cookie, ACCEPT-ENCODING"] {
            let said = head("", &response(200, &format!("{HTML}Vary: {vary}\r\n")));
            assert_eq!(said.matches("Vary").count(), 1, "{said}");
        }
    }

    #[test]
    fn a_cache_is_told_the_validator_it_knows() {
        let unchanged = response(304, "ETag: \"v1\"\r\n");
        assert_eq!(
            head("Accept-Encoding: gzip\r\n", &unchanged),
            "ETag: W/\"v1\"\r\nVary: Accept-Encoding\r\n"
        );
        assert_eq!(head("", &unchanged), "ETag: \"v1\"\r\nVary: Accept-Encoding\r\n");
        let weak = response(304, "ETag: W/\"v1\"\r\n");
        assert_eq!(head("Accept-Encoding: gzip\r\n", &weak), "ETag: W/\"v1\"\r\nVary: Accept-Encoding\r\n");
    }
}
