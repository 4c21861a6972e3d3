//! What an app or one of its routes does beyond passing requests on and responses back.

use std::path::PathBuf;

use phalanx_model::Prefix;
use serde::Serialize;

/// What is done beyond passing on; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Handling {
    /// Requests are answered with 503, but for some.
    pub maintenance: Option<Maintenance>,
    /// What `Host` says to the upstream.
    pub upstream_host: UpstreamHost,
    /// Changes of the fields that the upstream gets, in this order, after inspection.
    pub request_headers: Vec<HeaderEdit>,
    /// Changes of the fields that the client gets, in this order, after everything else.
    pub response_headers: Vec<HeaderEdit>,
    /// What responses are hardened with.
    pub responses: Responses,
    /// Pages for the replies that no upstream wrote.
    pub pages: Pages,
}

/// A time in which requests are answered with 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maintenance {
    /// What clients are told to wait, in seconds.
    pub retry_after_s: u32,
    /// Who passes all the same.
    pub allow: Vec<Prefix>,
}

/// What `Host` says to the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamHost {
    /// What the client said.
    #[default]
    Client,
    /// The upstream's own host, as policy names it.
    Upstream,
    /// This.
    Name(String),
}

/// One change of header fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderEdit {
    /// The field's name; names compare without case.
    pub name: String,
    /// What becomes of it.
    pub does: EditKind,
}

/// What becomes of a header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EditKind {
    /// All fields of this name go; none comes.
    Remove,
    /// All fields of this name go; this one comes.
    Set(Template),
    /// This one comes.
    Add(Template),
}

/// What responses are hardened with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Responses {
    /// Fields that make browsers careful are added where the app sends none of its own, and those that name software are taken out.
    pub standard: bool,
    /// The value of `Strict-Transport-Security`, sent over TLS only; `None` sends none.
    pub hsts: Option<String>,
    /// Cookies get `Secure` (over TLS), `HttpOnly` and `SameSite=Lax` where they lack them; `None` leaves them alone.
    pub cookies: Option<Cookies>,
}

/// Cookies that are hardened, and those that are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cookies {
    /// Left as they are.
    pub except: Vec<String>,
}

/// Template files of pages that the node writes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// For all that is refused.
    pub refused: Option<PathBuf>,
    /// For every other reply of the node's own.
    pub error: Option<PathBuf>,
    /// For maintenance; `error` if there is none.
    pub maintenance: Option<PathBuf>,
    /// What is put on the product's own, where there is no template.
    pub brand: Brand,
    /// Everybody gets problem+json (RFC 9457) instead of a page.
    pub problem: bool,
}

/// What an app puts on the product's own pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Brand {
    /// The site's name.
    pub name: Option<String>,
    /// Whom to tell: a mail address, an address on the web, or words.
    pub contact: Option<String>,
    /// A colour, as in `#0a6`.
    pub accent: Option<String>,
    /// A picture's file.
    pub logo: Option<PathBuf>,
}

/// When something ends: a security.txt (RFC 9116 section 2.5.5), an exclusion, an exemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Expiry {
    /// In seconds of Unix time.
    pub at_s: i64,
    /// The line of the policy file that says so.
    pub line: u32,
}

impl Expiry {
    /// Whole days that are left, 0 on the last; negative once it is over, which it is at its second.
    pub(crate) fn days_left(self, now_s: i64) -> i64 {
        self.at_s.saturating_sub(now_s).saturating_sub(1).div_euclid(86_400)
    }
}

/// A text with placeholders, as in `https://{host}{path}{query}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Text(String),
    /// Stands for something of the request.
    Of(Of),
}

/// Something of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// `http` or `https`.
    Scheme,
    /// The host, without port.
    Host,
    /// The path in its normal form, percent-encoded.
    Path,
    /// What is left of it below the route's path: empty, or begins with `/`.
    Rest,
    /// `?` and the query; empty where there is none.
    Query,
    /// The client's address.
    Client,
    /// The request's id.
    RequestId,
}

impl Of {
    /// All, with the words for them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("scheme", Self::Scheme),
        ("host", Self::Host),
        ("path", Self::Path),
        ("rest", Self::Rest),
        ("query", Self::Query),
        ("client", Self::Client),
        ("request_id", Self::RequestId),
    ];
}

impl Template {
    /// Reads a text; `{{` and `}}` stand for single braces.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.extend(from.chars().next());
                rest = after;
                continue;
            }
            let inside = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((word, after)) = inside else {
                return Err(format!("`{text}`: a brace stands alone; write it twice to mean itself"));
            };
            let Some((_, of)) = Of::ALL.iter().find(|(known, _)| *known == word) else {
                let known: Vec<&str> = Of::ALL.iter().map(|(known, _)| *known).collect();
                return Err(format!("there is no placeholder `{word}`; known are {}", known.join(", ")));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Of(*of));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Whether it names this.
    pub fn has(&self, of: Of) -> bool {
        self.0.contains(&Part::Of(of))
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Part::Of(of) => {
                    let word = Of::ALL.iter().find(|(_, known)| known == of).map_or("", |(word, _)| word);
                    write!(f, "{{{word}}}")?;
                }
            }
        }
        Ok(())
    }
}

impl Serialize for Template {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a header field is the node's business alone: those that frame messages, end at a hop, or say what was inspected or who asks.
/// Names compare without case, and `_` is as good as `-`.
pub fn is_reserved_field(name: &str, of_request: bool) -> bool {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let of_side = if of_request { RESERVED_IN_REQUESTS } else { RESERVED_IN_RESPONSES };
    RESERVED.contains(&lower.as_str())
        || of_side.contains(&lower.as_str())
        || of_request && lower.starts_with("x-forwarded-")
}

/// Not to be changed either way, with `_` as `-`.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "host",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];
/// Rules have judged the request by these, or they say who asks.
const RESERVED_IN_REQUESTS: &[&str] = &[
    "content-type",
    "expect",
    "forwarded",
    "http2-settings",
    "x-forwarded",
    "x-original-url",
    "x-rewrite-url",
];
const RESERVED_IN_RESPONSES: &[&str] = &["strict-transport-security"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_and_written_back() {
        for text in ["https://{host}{path}{query}", "a{{b}}c", "", "{client}", "{rest}/x"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
        for text in ["{", "a}", "{nobody}", "{host", "{}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
