//! Replies of our own. A refusal has the same bytes for every reason: who is refused learns an id to quote, nothing else.

use phalanx_model::text::push_decimal;
use phalanx_model::{FramingFault, RequestHead};

use crate::grpc;
use crate::http1::encode;
use crate::http1::fields::{KnownFields, is_token, list};
use crate::language::{Language, per_mille};
use crate::page;
use crate::page::words::Says;
use crate::route::pages::{Page, Pages, Told};

/// A reply that no upstream wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// A word for programs.
    code: &'static str,
    /// What happened in more words, for programs and operators.
    title: &'static str,
    /// What a person is told.
    says: Says,
    /// When the client may try again, in seconds; 0 says nothing of it.
    retry_after_s: u32,
}

impl Reply {
    /// The one reply to everything that is refused.
    pub(crate) const REFUSED: Self = Self {
        status: 403,
        code: "refused",
        title: "Request refused",
        says: Says::Refused,
        retry_after_s: 0,
    };
    pub(crate) const UNAVAILABLE: Self = Self {
        status: 502,
        code: "upstream_unavailable",
        title: "Service unavailable",
        says: Says::Unavailable,
        retry_after_s: 0,
    };
    pub(crate) const TIMED_OUT: Self = Self {
        status: 504,
        code: "upstream_timeout",
        title: "Service timed out",
        says: Says::Unavailable,
        retry_after_s: 0,
    };
    pub(crate) const NO_APP: Self = Self {
        status: 421,
        code: "unknown_host",
        title: "Unknown host",
        says: Says::NothingHere,
        retry_after_s: 0,
    };
    /// The connection was opened for another site, whose clients are asked for other certificates (RFC 9110 section 15.5.20).
    pub(crate) const MISDIRECTED: Self = Self {
        status: 421,
        code: "misdirected_request",
        title: "Misdirected request",
        says: Says::NotHandled,
        retry_after_s: 0,
    };
    pub(crate) const TOO_SLOW: Self = Self {
        status: 408,
        code: "request_timeout",
        title: "Request timed out",
        says: Says::NotHandled,
        retry_after_s: 0,
    };
    pub(crate) const OVERLOADED: Self = Self {
        status: 503,
        code: "overloaded",
        title: "Too much at once",
        says: Says::Unavailable,
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
        says: Says::NotHandled,
        retry_after_s: 0,
    };
    /// What a client that reads neither pages nor JSON is told of a challenge.
    pub(crate) const CHALLENGED: Self =
        Self { status: 403, code: "challenge", title: "Challenge", says: Says::Refused, retry_after_s: 0 };
    /// Of what is reserved for the node itself, and where nothing is.
    pub(crate) const NOTHING_HERE: Self = Self {
        status: 404,
        code: "not_found",
        title: "Nothing here",
        says: Says::NothingHere,
        retry_after_s: 0,
    };
    pub(crate) const METHOD: Self = Self {
        status: 405,
        code: "method_not_allowed",
        title: "Method not allowed",
        says: Says::NotHandled,
        retry_after_s: 0,
    };
    pub(crate) const EXPECTATION: Self = Self {
        status: 417,
        code: "expectation_failed",
        title: "Expectation failed",
        says: Says::NotHandled,
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
            says: Says::TooMany,
            retry_after_s,
        }
    }

    /// The reply to a request while its app is being worked on.
    pub(crate) fn maintenance(retry_after_s: u32) -> Self {
        Self {
            status: 503,
            code: MAINTENANCE,
            title: "Down for maintenance",
            says: Says::Maintenance,
            retry_after_s,
        }
    }

    /// Whether it is [`Reply::maintenance`].
    pub(crate) fn is_maintenance(self) -> bool {
        self.code == MAINTENANCE
    }

    /// The reply to a request with this as its first fault.
    pub(crate) fn to_fault(head: &RequestHead, fault: FramingFault) -> Self {
        use Says::{NotHandled, TooLarge};
        let (status, code, title, says) = match fault {
            FramingFault::HeadTooLarge => (431, "head_too_large", "Request header too large", TooLarge),
            FramingFault::BodyTooLarge => (413, "body_too_large", "Request body too large", TooLarge),
            FramingFault::HeadTimeout => return Self::TOO_SLOW,
            // HTTP/0.9 requests name no version: one that says it is of that time is malformed.
            FramingFault::BadVersion if !says_version_zero(head) => {
                (505, "version_not_supported", "HTTP version not supported", NotHandled)
            }
            FramingFault::BadTransferEncoding if has_unknown_coding(head) => {
                (501, "transfer_encoding_not_supported", "Transfer coding not supported", NotHandled)
            }
            _ => (400, "bad_request", "Bad request", NotHandled),
        };
        Self { status, code, title, says, retry_after_s: 0 }
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
        let status = digits(self.status);
        let status = std::str::from_utf8(&status).unwrap_or_default();
        let body = self.body(status, &id, form, pages);
        encode::status_line(out, self.status, b"");
        encode::field(out, b"Content-Type", body.kind());
        out.extend_from_slice(b"Content-Length: ");
        let mut length = 0;
        body.each(&mut |piece| length += piece.len());
        push_decimal(out, length as u64);
        out.extend_from_slice(b"\r\n");
        if let Some((language, policy)) = body.said() {
            // Browsers hold a page to all that it comes with: one that the app sets is to hold by itself.
            if !sets(told, POLICY) {
                encode::field(out, POLICY, policy.as_bytes());
            }
            if let Some(language) = language {
                encode::field(out, b"Content-Language", language.tag().as_bytes());
            }
        }
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
            body.each(&mut |piece| out.extend_from_slice(piece.as_bytes()));
        }
    }

    fn body<'a>(self, status: &'a str, id: &'a str, form: Form, pages: Option<&'a Pages>) -> Body<'a> {
        if form.json || pages.is_some_and(|pages| pages.problem) {
            let (code, title) = (self.code, self.title);
            return Body::Problem([
                "{\"error\":\"",
                code,
                "\",\"request_id\":\"",
                id,
                "\",\"type\":\"urn:phalanx:",
                code,
                "\",\"title\":\"",
                title,
                "\",\"status\":",
                status,
                "}\n",
            ]);
        }
        let (says, language) = (self.says, form.language);
        if let Some(page) = pages.and_then(|pages| pages.of(self)) {
            return Body::Own(page, Told { status, says, language, id });
        }
        let brand = pages.and_then(|pages| pages.brand.as_deref());
        let policy = brand.map_or(page::plain_policy(), |brand| &brand.policy);
        Body::Page { pieces: page::pieces(says, language, id, brand), language, policy }
    }

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

/// A reply's body: pieces that stand somewhere already, around the id.
enum Body<'a> {
    /// For programs (RFC 9457).
    Problem([&'a str; 11]),
    /// The app's own page.
    Own(&'a Page, Told<'a>),
    /// The node's page.
    Page { pieces: [&'a str; page::PIECES], language: Language, policy: &'a str },
}

impl Body<'_> {
    fn each(&self, take: &mut dyn FnMut(&str)) {
        match self {
            Self::Problem(pieces) => pieces.iter().for_each(|piece| take(piece)),
            Self::Own(page, told) => page.each(told, take),
            Self::Page { pieces, .. } => pieces.iter().for_each(|piece| take(piece)),
        }
    }

    fn kind(&self) -> &'static [u8] {
        match self {
            Self::Problem(_) => b"application/problem+json",
            Self::Own(..) | Self::Page { .. } => b"text/html; charset=utf-8",
        }
    }

    /// Language, where it is known, and policy of what a browser shows.
    fn said(&self) -> Option<(Option<Language>, &str)> {
        match self {
            Self::Problem(_) => None,
            Self::Own(page, told) => Some((page.follows_client.then_some(told.language), OWN_POLICY)),
            Self::Page { language, policy, .. } => Some((Some(*language), policy)),
        }
    }
}

/// Whether a field is among some that are written already.
fn sets(fields: &[u8], name: &[u8]) -> bool {
    fields.split(|&byte| byte == b'\n').any(|line| {
        line.split_at_checked(name.len())
            .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(name) && rest.starts_with(b":"))
    })
}

/// A status in digits.
fn digits(status: u16) -> [u8; 3] {
    [100, 10, 1].map(|place| b'0' + u8::try_from(status / place % 10).unwrap_or_default())
}

const POLICY: &[u8] = b"Content-Security-Policy";
/// The policy of a page that an app brings: it may be written as it likes and show pictures of the app; nothing runs.
const OWN_POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
/// The word for maintenance.
const MAINTENANCE: &str = "maintenance";

/// What form of reply the client takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// JSON instead of HTML.
    pub(crate) json: bool,
    /// The language of a page.
    pub(crate) language: Language,
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
        let kind = head.header("content-type").unwrap_or_default();
        Self {
            json: prefers_json(accept, kind),
            language: Language::of(head.header("accept-language").unwrap_or_default()),
            without_body: grpc || head.method() == b"HEAD",
            grpc,
        }
    }
}

/// Whether an `Accept` value ranks JSON above HTML (RFC 9110 section 12.5.1). Who names neither gets what he sent: JSON for JSON.
fn prefers_json(accept: &[u8], sent: &[u8]) -> bool {
    let (mut json, mut html) = (None, None);
    for range in list(accept) {
        let mut parts = range.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix(b"q=")).map_or(1_000, per_mille);
        if media.eq_ignore_ascii_case(b"text/html") || media.eq_ignore_ascii_case(b"application/xhtml+xml") {
            html = html.max(Some(quality));
        } else if is_json(media) {
            json = json.max(Some(quality));
        }
    }
    match (json, html) {
        (None, None) => is_json(sent.split(|&b| b == b';').next().unwrap_or_default().trim_ascii()),
        _ => json.unwrap_or_default() > html.unwrap_or_default(),
    }
}

fn is_json(media: &[u8]) -> bool {
    let ends = media.len().checked_sub(b"+json".len()).and_then(|at| media.get(at..));
    media.eq_ignore_ascii_case(b"application/json")
        || ends.is_some_and(|end| end.eq_ignore_ascii_case(b"+json"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sent_to_those_who_prefer_it_or_speak_it() {
        for (accept, sent, expected) in [
            ("application/json", "", true),
            ("application/problem+JSON, text/html;q=0.5", "", true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", false),
            ("text/html, application/json", "", false),
            ("*/*", "", false),
            ("", "", false),
            ("application/json;q=nonsense", "", false),
            ("*/*", "application/json; charset=utf-8", true),
            ("", "application/vnd.api+json", true),
            ("*/*", "text/plain", false),
        ] {
            let found = prefers_json(accept.as_bytes(), sent.as_bytes());
            assert_eq!(found, expected, "{accept} | {sent}");
        }
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
        assert!(text.ends_with(
            "\r\n\r\n{\"error\":\"refused\",\"request_id\":\"01ABC\",\"type\":\"urn:phalanx:refused\",\
             \"title\":\"Request refused\",\"status\":403}\n"
        ));
    }

    #[test]
    fn a_page_has_one_security_policy_and_the_apps_comes_before_ours() {
        let policies = |told: &[u8]| {
            let mut out = Vec::new();
            Reply::REFUSED.write(&mut out, b"01ABC", Form::default(), false, (told, None));
            let text = String::from_utf8(out).unwrap();
            let named =
                text.lines().filter(|line| line.to_ascii_lowercase().starts_with("content-security-policy:"));
            named.map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = policies(b"Content-Security-Policy-Report-Only: default-src *\r\n");
        assert!(matches!(&ours[..], [one] if one.contains("default-src 'none'")), "{ours:?}");
        let theirs = "content-security-policy: default-src 'self'";
        assert_eq!(policies(format!("X-A: b\r\n{theirs}\r\n").as_bytes()), [theirs]);
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
