//! What becomes of a question, as the proxy is told: the reply that the client would have got here, or that it may go on.

use phalanx_model::{Action, HttpVersion, RequestHead};

use crate::http1::{FieldKind, encode};
use crate::request::Request;

/// The answer to a question.
pub(crate) struct Answer {
    /// A reply as the pipeline wrote it.
    written: Vec<u8>,
    body_from: usize,
    status: u16,
    action: Action,
    id: [u8; 26],
}

/// In what form a proxy gets an answer over HTTP.
pub(crate) struct Form<'a> {
    /// The status of every refusal, for proxies that take no other.
    pub(super) refuse_with: Option<u16>,
    pub(super) keep_alive: bool,
    /// The question.
    pub(super) to: &'a RequestHead,
}

impl Answer {
    /// Of what the pipeline wrote.
    pub(super) fn of(written: Vec<u8>, request: &Request) -> Self {
        let body_from = memchr::memmem::find(&written, b"\r\n\r\n").map_or(written.len(), |end| end + 4);
        Self {
            written,
            body_from,
            status: request.status,
            action: request.verdict.action,
            id: request.id.to_text(),
        }
    }

    /// Whether the proxy may go on.
    pub(super) fn passes(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What the client is told, or 200.
    pub(super) fn status(&self) -> u16 {
        if self.status == 0 { 503 } else { self.status }
    }

    pub(super) fn id(&self) -> [u8; 26] {
        self.id
    }

    /// What was decided.
    pub(super) fn action(&self) -> &'static str {
        match self.action {
            Action::Allow => "allow",
            Action::Observe => "observe",
            Action::Challenge => "challenge",
            Action::Throttle => "throttle",
            Action::Tarpit => "tarpit",
            Action::Deny => "deny",
        }
    }

    /// The reply's fields, without those that are about a connection or a length.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().filter(|(name, _)| FieldKind::of(name) != FieldKind::ContentLength)
    }

    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let head = self.written.get(..self.body_from).unwrap_or_default();
        let lines = head.split(|&byte| byte == b'\n').skip(1).map(<[u8]>::trim_ascii_end);
        lines.filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
            (FieldKind::of(name) != FieldKind::Connection).then_some((name, value))
        })
    }

    /// The reply's body.
    pub(super) fn body(&self) -> &[u8] {
        self.written.get(self.body_from..).unwrap_or_default()
    }

    /// Whether no body follows the head.
    pub(super) fn is_bare(&self, form: &Form<'_>) -> bool {
        self.body().is_empty() || form.to.method() == b"HEAD"
    }

    /// Appends it as a reply to the proxy.
    pub(super) fn write(&self, out: &mut Vec<u8>, form: &Form<'_>) {
        let status = form.refuse_with.filter(|_| !self.passes()).unwrap_or_else(|| self.status());
        encode::status_line(out, status, b"");
        let mut measured = false;
        for (name, value) in self.lines() {
            if FieldKind::of(name) == FieldKind::ContentLength {
                measured = true;
                content_length(out, self.body().len());
            } else {
                encode::field(out, name, value);
            }
        }
        if !measured {
            content_length(out, self.body().len());
        }
        if status != self.status() {
            encode::field(out, b"X-Phalanx-Status", self.status().to_string().as_bytes());
        }
        if !form.keep_alive {
            encode::field(out, b"Connection", b"close");
        } else if form.to.version == HttpVersion::Http10 {
            encode::field(out, b"Connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n");
        if !self.is_bare(form) {
            out.extend_from_slice(self.body());
        }
    }
}

fn content_length(out: &mut Vec<u8>, bytes: usize) {
    encode::field(out, b"Content-Length", bytes.to_string().as_bytes());
}
