//! Replies of our own. A refusal has the same bytes for every reason: who is refused learns an id to quote, nothing else.

use phalanx_model::text::push_decimal;
use phalanx_model::{FramingFault, RequestHead};

use crate::grpc;
use crate::http1::encode;
use crate::http1::fields::{KnownFields, is_token, list};
use crate::route::pages::Pages;

/// A reply that no upstream wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// A word for programs.
    code: &'static str,
    title: &'static str,
    text: &'static str,
    /// When the client may try again, in seconds; 0 says nothing of it.
    retry_after_s: u32,
}

impl Reply {
    /// The one reply to everything that is refused.
    pub(crate) const REFUSED: Self = Self {
        status: 403,
        code: "refused",
        title: "Request refused",
        text: "This request was refused. If you think that is a mistake, tell the site's owner this id:",
        retry_after_s: 0,
    };
    pub(crate) const UNAVAILABLE: Self = Self {
        status: 502,
        code: "upstream_unavailable",
        title: "Service unavailable",
        text: "The service behind this address did not answer properly. Please try again later. Request id:",
        retry_after_s: 0,
    };
    pub(crate) const TIMED_OUT: Self = Self {
        status: 504,
        code: "upstream_timeout",
        title: "Service timed out",
        text: "The service behind this address did not answer in time. Please try again later. Request id:",
        retry_after_s: 0,
    };
    pub(crate) const NO_APP: Self = Self {
        status: 421,
        code: "unknown_host",
        title: "Unknown host",
        text: "No site of this name is served here. Request id:",
        retry_after_s: 0,
    };
    /// The connection was opened for another site, whose clients are asked for other certificates (RFC 9110 section 15.5.20).
    pub(crate) const MISDIRECTED: Self = Self {
        status: 421,
        code: "misdirected_request",
        title: "Misdirected request",
        text: "This connection was opened for another site. Please come again on a new one, over TLS. Request id:",
        retry_after_s: 0,
    };
    pub(crate) const TOO_SLOW: Self = Self {
        status: 408,
        code: "request_timeout",
        title: "Request timed out",
        text: "The request did not arrive in time. Request id:",
        retry_after_s: 0,
    };
    pub(crate) const OVERLOADED: Self = Self {
        status: 503,
        code: "overloaded",
        title: "Too much at once",
        text: "There is no room for this request right now. Please try again later. Request id:",
        retry_after_s: 0,
    };
    /// The node runs short of something, and others go first.
    pub(crate) const SHED: Self = Self { retry_after_s: 10, ..Self::OVERLOADED };
    /// All upstreams have as many requests as they may get.
    pub(crate) const BUSY: Self = Self { code: "upstream_busy", retry_after_s: 1, ..Self::OVERLOADED };
    /// No upstream works, and policy says not to try.
    pub(crate) const DOWN: Self = Self { status: 503, retry_after_s: 5, ..Self::UNAVAILABLE };
    /// The request has come by here before.
    pub(crate) const LOOP: Self = Self {
        status: 508,
        code: "loop_detected",
        title: "Loop detected",
        text: "The request came back to where it had been. Request id:",
        retry_after_s: 0,
    };
    /// What a client that reads neither pages nor JSON is told of a challenge.
    pub(crate) const CHALLENGED: Self = Self {
        status: 403,
        code: "challenge",
        title: "Challenge",
        text: "Clients are challenged here first. Please open the site in a browser. Request id:",
        retry_after_s: 0,
    };
    /// Of what is reserved for the node itself, and where nothing is.
    pub(crate) const NOTHING_HERE: Self = Self {
        status: 404,
        code: "not_found",
        title: "Nothing here",
        text: "There is nothing at this address. Request id:",
        retry_after_s: 0,
    };
    pub(crate) const METHOD: Self = Self {
        status: 405,
        code: "method_not_allowed",
        title: "Method not allowed",
        text: "Only GET is taken at this address. Request id:",
        retry_after_s: 0,
    };
    pub(crate) const EXPECTATION: Self = Self {
        status: 417,
        code: "expectation_failed",
        title: "Expectation failed",
        text: "The request expects something that is not offered here. Request id:",
        retry_after_s: 0,
    };

    /// The status that tells a proxy that the request it asks about passes.
    pub(crate) const PASSED: u16 = 200;

    /// Appends that answer.
    pub(crate) fn write_passed(out: &mut Vec<u8>, request_id: &[u8], told: &[u8]) {
        encode::status_line(out, Self::PASSED, b"");
        encode::field(out, b"Content-Length", b"0");
        encode::field(out, b"X-Request-Id", request_id);
        out.extend_from_slice(told);
        out.extend_from_slice(b"\r\n");
    }

    /// The reply to a request beyond a rate limit (RFC 6585 section 4).
    pub(crate) fn too_many(retry_after_s: u32) -> Self {
        Self {
            status: 429,
            code: "too_many_requests",
            title: "Too many requests",
            text: "You have asked too often. Please try again in a while. Request id:",
            retry_after_s,
        }
    }

    /// The reply to a request while its app is being worked on.
    pub(crate) fn maintenance(retry_after_s: u32) -> Self {
        Self {
            status: 503,
            code: MAINTENANCE,
            title: "Down for maintenance",
            text: "This site is being worked on. Please try again later. Request id:",
            retry_after_s,
        }
    }

    /// Whether it is [`Reply::maintenance`].
    pub(crate) fn is_maintenance(self) -> bool {
        self.code == MAINTENANCE
    }

    /// The reply to a request with this as its first fault.
    pub(crate) fn to_fault(head: &RequestHead, fault: FramingFault) -> Self {
        let (status, code, title) = match fault {
            FramingFault::HeadTooLarge => (431, "head_too_large", "Request header too large"),
            FramingFault::BodyTooLarge => (413, "body_too_large", "Request body too large"),
            FramingFault::HeadTimeout => return Self::TOO_SLOW,
            // HTTP/0.9 requests name no version: one that says it is of that time is malformed.
            FramingFault::BadVersion if !says_version_zero(head) => {
                (505, "version_not_supported", "HTTP version not supported")
            }
            FramingFault::BadTransferEncoding if has_unknown_coding(head) => {
                (501, "transfer_encoding_not_supported", "Transfer coding not supported")
            }
            _ => (400, "bad_request", "Bad request"),
        };
        Self {
            status,
            code,
            title,
            text: "The request could not be understood and was not passed on. Request id:",
            retry_after_s: 0,
        }
    }

    /// Appends head and body. `told`: further header fields, as they are sent.
    /// `pages`: those of the app.
    pub(crate) fn write(
        self,
        out: &mut Vec<u8>,
        request_id: &[u8],
        form: Form,
        close: bool,
        (told, pages): (&[u8], Option<&Pages>),
    ) {
        let id = String::from_utf8_lossy(request_id);
        if form.grpc {
            return self.write_status(out, &id, told);
        }
        let body = match form.json {
            true => format!("{{\"error\":\"{}\",\"request_id\":\"{id}\"}}\n", self.code),
            false => match pages.and_then(|pages| pages.of(self)) {
                Some(own) => own.write(self.status, self.title, self.text, &id),
                None => page(self.title, self.text, &id),
            },
        };
        encode::status_line(out, self.status, b"");
        let kind: &[u8] = if form.json { b"application/json" } else { b"text/html; charset=utf-8" };
        encode::field(out, b"Content-Type", kind);
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
        encode::field(out, b"Cache-Control", b"no-store");
        encode::field(out, b"X-Content-Type-Options", b"nosniff");
        encode::field(out, b"X-Request-Id", request_id);
        if self.retry_after_s > 0 {
            out.extend_from_slice(b"Retry-After: ");
            push_decimal(out, u64::from(self.retry_after_s));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(told);
        if close {
            encode::field(out, b"Connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        if !form.without_body {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

impl Reply {
    /// Appends a head that is all of a reply to a call of gRPC ("Trailers-Only").
    fn write_status(self, out: &mut Vec<u8>, id: &str, told: &[u8]) {
        encode::status_line(out, 200, b"");
        encode::field(out, b"Content-Type", b"application/grpc");
        encode::field(out, b"Grpc-Status", grpc::status_of(self.status));
        encode::field(out, b"Grpc-Message", format!("{}. Request id: {id}", self.title).as_bytes());
        encode::field(out, b"X-Request-Id", id.as_bytes());
        out.extend_from_slice(told);
        out.extend_from_slice(b"\r\n");
    }
}
/// The word for maintenance.
const MAINTENANCE: &str = "maintenance";

/// What form of reply the client takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// JSON instead of HTML.
    pub(crate) json: bool,
    /// The reply to a HEAD request, or to a call of gRPC.
    pub(crate) without_body: bool,
    /// The reply to a call of gRPC.
    pub(crate) grpc: bool,
}

impl Form {
    /// The form for a request.
    pub(crate) fn of(head: &RequestHead, known: &KnownFields) -> Self {
        let accept = known.accept.map(|field| head.bytes(field.value)).unwrap_or_default();
        let grpc = grpc::is_call(head, known);
        Self { json: prefers_json(accept), without_body: grpc || head.method() == b"HEAD", grpc }
    }
}

/// Whether an `Accept` value ranks JSON above HTML (RFC 9110 section 12.5.1). Wildcards mean HTML.
fn prefers_json(accept: &[u8]) -> bool {
    let (mut json, mut html) = (0, 0);
    for range in list(accept) {
        let mut parts = range.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix(b"q=")).map_or(1_000, per_mille);
        if media.eq_ignore_ascii_case(b"text/html") || media.eq_ignore_ascii_case(b"application/xhtml+xml") {
            html = html.max(quality);
        } else if media.eq_ignore_ascii_case(b"application/json")
            || media.to_ascii_lowercase().ends_with(b"+json")
        {
            json = json.max(quality);
        }
    }
    json > html
}

/// A quality value in thousandths; what is none counts as 0.
fn per_mille(text: &[u8]) -> u32 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let quality = text.parse::<f32>().unwrap_or_default().clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1 above")]
    let thousandths = (quality * 1_000.0) as u32;
    thousandths
}

/// Whether the request line ends in `HTTP/0.` and a digit.
fn says_version_zero(head: &RequestHead) -> bool {
    let line = head.raw.split(|&b| b == b'\n').next().unwrap_or_default();
    matches!(line.trim_ascii_end(), [.., b'/', b'0', b'.', _])
}

/// Whether the transfer coding is one that exists elsewhere, rather than a malformed field.
fn has_unknown_coding(head: &RequestHead) -> bool {
    let mut values = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"transfer-encoding"));
    let (Some((_, value)), None) = (values.next(), values.next()) else {
        return false;
    };
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let (mut codings, mut early_chunked) = (0, false);
    let mut last_chunked = false;
    for coding in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        if !is_token(coding) {
            return false;
        }
        early_chunked |= last_chunked;
        last_chunked = chunked(coding);
        codings += 1;
    }
    codings > 0 && !early_chunked
}

fn page(title: &str, text: &str, id: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark; font: 1.05rem/1.6 system-ui, sans-serif }}\n\
         main {{ max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem }}\n\
         code {{ font-size: 1.05em; overflow-wrap: anywhere }}\n</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n<p>{text}</p>\n<p><code>{id}</code></p>\n</main>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sent_only_to_those_who_prefer_it() {
        assert!(prefers_json(b"application/json"));
        assert!(prefers_json(b"application/problem+json, text/html;q=0.5"));
        assert!(!prefers_json(b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!prefers_json(b"text/html, application/json"));
        assert!(!prefers_json(b"*/*"));
        assert!(!prefers_json(b""));
        assert!(!prefers_json(b"application/json;q=nonsense"));
    }

    #[test]
    fn a_refusal_carries_its_id_and_is_not_cached() {
        let mut out = Vec::new();
        let form = Form { json: true, ..Form::default() };
        Reply::REFUSED.write(&mut out, b"01ABC", form, false, (&[], None));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        assert!(text.contains("\r\nX-Request-Id: 01ABC\r\n"));
        assert!(text.contains("\r\nCache-Control: no-store\r\n"));
        assert!(text.ends_with("\r\n\r\n{\"error\":\"refused\",\"request_id\":\"01ABC\"}\n"));
    }

    #[test]
    fn a_reply_to_head_has_no_body() {
        let mut out = Vec::new();
        let form = Form { without_body: true, ..Form::default() };
        Reply::UNAVAILABLE.write(&mut out, b"01ABC", form, true, (&[], None));
        assert!(out.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn a_call_is_told_in_its_own_words() {
        let mut out = Vec::new();
        let form = Form { grpc: true, without_body: true, ..Form::default() };
        Reply::REFUSED.write(&mut out, b"01ABC", form, false, (&[], None));
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 7\r\n\
             Grpc-Message: Request refused. Request id: 01ABC\r\nX-Request-Id: 01ABC\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn unknown_codings_are_told_from_malformed_ones() {
        let status = |value: &str| {
            let raw = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n");
            let head = crate::http1::parse_head(raw.as_bytes()).unwrap();
            Reply::to_fault(&head, head.faults[0]).status
        };
        assert_eq!(status("gzip"), 501);
        assert_eq!(status("gzip, chunked"), 501);
        assert_eq!(status("chunked, gzip"), 400);
        assert_eq!(status("chunked, chunked"), 400);
        assert_eq!(status("\"chunked\""), 400);
        assert_eq!(status("chunked;q=1"), 400);
    }
}
