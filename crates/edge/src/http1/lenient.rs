//! The second look at a head that strict parsing refused: makes the best of it for inspection, and names what is wrong.
//! Whatever comes out of here is refused; only its record differs.

use bytes::Bytes;
use phalanx_model::{BodyFraming, FramingFault, HeaderField, HttpVersion, RequestHead, Span};

use super::fields::is_token;
use super::head::{HeadLimits, span_in};

/// Parses line by line, recording every fault.
pub(super) fn parse_leniently(raw: Bytes, limits: HeadLimits) -> RequestHead {
    let mut head = RequestHead {
        raw: raw.clone(),
        method: Span::default(),
        target: Span::default(),
        version: HttpVersion::Http11,
        fields: Vec::new(),
        framing: BodyFraming::None,
        faults: Vec::new(),
    };
    for (number, line) in raw.split_inclusive(|&b| b == b'\n').enumerate() {
        let line = strip_line_end(&mut head, line);
        check_bytes(&mut head, line);
        if number == 0 {
            request_line(&mut head, &raw, line);
        } else if !line.is_empty() {
            field_line(&mut head, &raw, line, limits);
        }
    }
    head
}

/// Adds a fault once.
pub(super) fn add_fault(head: &mut RequestHead, fault: FramingFault) {
    if !head.faults.contains(&fault) {
        head.faults.push(fault);
    }
}

fn strip_line_end<'a>(head: &mut RequestHead, line: &'a [u8]) -> &'a [u8] {
    match (line.strip_suffix(b"\r\n"), line.strip_suffix(b"\n")) {
        (Some(line), _) => line,
        (None, Some(line)) => {
            add_fault(head, FramingFault::BareLineFeed);
            line
        }
        // The last line of a head that was cut at its limit.
        (None, None) => line,
    }
}

fn check_bytes(head: &mut RequestHead, line: &[u8]) {
    if line.contains(&b'\r') {
        add_fault(head, FramingFault::BareCarriageReturn);
    }
    if line.iter().any(|&b| b.is_ascii_control() && b != b'\t' && b != b'\r') {
        add_fault(head, FramingFault::ControlByte);
    }
}

fn request_line(head: &mut RequestHead, raw: &[u8], line: &[u8]) {
    let first = line.iter().position(|&b| b == b' ');
    let last = line.iter().rposition(|&b| b == b' ');
    let (method, target, version) = match (first, last) {
        (Some(first), Some(last)) if first < last => (
            line.get(..first).unwrap_or_default(),
            line.get(first + 1..last).unwrap_or_default(),
            line.get(last + 1..).unwrap_or_default(),
        ),
        (Some(only), _) => {
            (line.get(..only).unwrap_or_default(), line.get(only + 1..).unwrap_or_default(), &[][..])
        }
        _ => (line, &[][..], &[][..]),
    };
    head.method = span_in(raw, method);
    head.target = span_in(raw, target);
    match version {
        b"HTTP/1.1" => {}
        b"HTTP/1.0" => head.version = HttpVersion::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            add_fault(head, FramingFault::BadVersion);
        }
        _ => add_fault(head, FramingFault::BadRequestLine),
    }
    let blank = target.is_empty() || target.iter().any(|b| matches!(b, b' ' | b'\t'));
    if !is_token(method) || blank {
        add_fault(head, FramingFault::BadRequestLine);
    }
}

fn field_line(head: &mut RequestHead, raw: &[u8], line: &[u8], limits: HeadLimits) {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        add_fault(head, FramingFault::FoldedHeader);
        // Inspect the value as a parser that unfolds would see it.
        if let Some(field) = head.fields.last_mut() {
            field.value.end = span_in(raw, line).end;
            return;
        }
    }
    if head.fields.len() >= limits.fields {
        return add_fault(head, FramingFault::HeadTooLarge);
    }
    let colon = line.iter().position(|&b| b == b':');
    let name = line.get(..colon.unwrap_or(line.len())).unwrap_or_default();
    let value = colon.and_then(|colon| line.get(colon + 1..)).unwrap_or_default();
    if colon.is_none() || !is_token(name) {
        add_fault(head, FramingFault::BadHeaderLine);
    }
    let name = span_in(raw, name.trim_ascii());
    head.fields.push(HeaderField { name, value: span_in(raw, value.trim_ascii()) });
}
