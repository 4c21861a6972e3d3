//! What a proxy asks: another request's head, written down as HTTP/1 and read by the codec, with as much of its body as was shown.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use phalanx_model::limits::QUESTION_BYTES_MAX;
use phalanx_model::{BodyFraming, FramingFault, HttpVersion, RequestHead};

use crate::http1::fields::is_token;
use crate::http1::{HeadLimits, HeadReader};

/// A described request.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its head, as the codec reads it.
    pub head: RequestHead,
    /// Its body.
    pub body: Body,
    /// Who sent it to the proxy.
    pub peer: SocketAddr,
}

/// What was shown of a described request's body.
#[derive(Debug, Clone)]
pub struct Body {
    /// The part that was shown.
    pub(crate) shown: Bytes,
    /// Nothing of it is missing.
    pub(crate) complete: bool,
    /// Nothing at all was shown, whether there is a body or not.
    pub(crate) unseen: bool,
    /// The limit that left no memory for it.
    pub(crate) no_memory: Option<&'static str>,
}

impl Body {
    /// None was shown, which does not say that there is none.
    pub fn unseen() -> Self {
        Self { shown: Bytes::new(), complete: true, unseen: true, no_memory: None }
    }

    /// The body, or its first part.
    pub fn seen(shown: Bytes, complete: bool) -> Self {
        Self { shown, complete, unseen: false, no_memory: None }
    }

    /// There was no memory to read it, because of this limit.
    pub(crate) fn unheld(limit: &'static str) -> Self {
        Self { no_memory: Some(limit), ..Self::unseen() }
    }
}

impl Question {
    /// What stands in the place of a question that cannot be understood: the one who asked, and why it is refused.
    pub(crate) fn refused(mut head: RequestHead, fault: FramingFault, asker: SocketAddr) -> Self {
        // What was wrong with the question comes first, and once.
        head.faults.retain(|known| *known != fault);
        head.faults.insert(0, fault);
        Self { head, body: Body::unseen(), peer: asker }
    }
}

/// Writes the head of a described request, and has the codec read it.
pub(super) struct HeadWriter {
    written: Vec<u8>,
    version: HttpVersion,
    fault: Option<FramingFault>,
    limits: HeadLimits,
    fields: usize,
}

impl HeadWriter {
    pub(super) fn begin(method: &[u8], target: &[u8], version: HttpVersion, limits: HeadLimits) -> Self {
        let written = Vec::with_capacity(HEAD_AT_FIRST_BYTES);
        let mut writer = Self { written, version, fault: None, limits, fields: 0 };
        writer.part(method, b" ");
        writer.part(target, b" ");
        let version: &[u8] = if version == HttpVersion::Http10 { b"HTTP/1.0" } else { b"HTTP/1.1" };
        writer.part(version, b"\r\n");
        writer
    }

    /// Adds a field. What cannot be one as it is is a fault.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.fields += 1;
        // Enough for the codec to see that it is too much.
        if self.written.len() > self.limits.bytes || self.fields > self.limits.fields.saturating_add(1) {
            return;
        }
        if !is_token(name) {
            self.fault.get_or_insert(FramingFault::BadHeaderLine);
            return;
        }
        self.part(name, b": ");
        self.part(value, b"\r\n");
    }

    /// Adds a part of a line. A line end within it would begin another line here, and not at the proxy.
    fn part(&mut self, part: &[u8], end: &[u8]) {
        if part.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
            self.fault.get_or_insert(FramingFault::ControlByte);
        }
        let plain = part.iter().map(|&byte| if byte.is_ascii_control() { b' ' } else { byte });
        self.written.extend(plain);
        self.written.extend_from_slice(end);
    }

    /// The head as the codec reads it; `None` if it reads none, or another one beside it.
    pub(super) fn read(mut self) -> Option<RequestHead> {
        self.written.extend_from_slice(b"\r\n");
        let mut input = BytesMut::from(self.written.as_slice());
        let mut head = HeadReader::default().read(&mut input, self.limits)?;
        if !input.is_empty() && head.faults.is_empty() {
            return None;
        }
        if let Some(fault) = self.fault {
            head.faults.insert(0, fault);
        }
        if self.version == HttpVersion::Http2 && head.faults.is_empty() {
            // The codec reads no other version than its own: it is written in where it stands, which is as long.
            let at = head.target.range().end + 1;
            if let Some(place) = self.written.get_mut(at..at + HTTP2.len()) {
                place.copy_from_slice(HTTP2);
                head.raw = self.written.into();
                head.version = HttpVersion::Http2;
            }
        }
        Some(head)
    }
}

/// Settles how long the body of a described request is, and whether that is what the head says of it.
pub(super) fn settle(head: &mut RequestHead, body: &Body) {
    if body.unseen {
        return;
    }
    let bytes = body.shown.len() as u64;
    match head.framing {
        BodyFraming::Length(announced) if body.complete && announced != bytes => {
            head.faults.push(FramingFault::BadLength);
        }
        // HTTP/2 needs to announce nothing.
        BodyFraming::None if bytes > 0 => head.framing = BodyFraming::Length(bytes),
        _ => {}
    }
}

/// The last address of the `X-Forwarded-For` values, which the proxy itself wrote, and what stands before it in the last value.
pub(super) fn last_address(value: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (before, last) = match value.iter().rposition(|&byte| byte == b',') {
        Some(comma) => (value.get(..comma)?, value.get(comma + 1..)?),
        None => (&[][..], value),
    };
    let text = std::str::from_utf8(last.trim_ascii()).ok()?;
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 0),
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) => SocketAddr::new(text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?, 0),
        },
    };
    Some((SocketAddr::new(address.ip().to_canonical(), address.port()), before.trim_ascii()))
}

/// Most of a body that a question may carry.
pub(super) const BODY_BYTES_MAX: usize = QUESTION_BYTES_MAX;
const HTTP2: &[u8] = b"HTTP/2.0";
const HEAD_AT_FIRST_BYTES: usize = 1024;
