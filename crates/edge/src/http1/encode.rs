//! Writing HTTP/1: field lines, chunks, status lines.

use phalanx_model::text::push_decimal;

/// Appends `name: value CRLF`.
pub(crate) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk (RFC 9112 section 7.1); nothing for no data, because an empty chunk ends the body.
pub(crate) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let mut left = 16 - data.len().leading_zeros() / 4;
    while left > 0 {
        left -= 1;
        let digit = data.len() >> (left * 4) & 15;
        out.push(b"0123456789abcdef".get(digit).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with field lines behind it.
pub(crate) fn last_chunk_with(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// Appends a status line. `reason` is what an upstream wrote; empty takes the standard phrase.
pub(crate) fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(if reason.is_empty() { reason_phrase(status).as_bytes() } else { reason });
    out.extend_from_slice(b"\r\n");
}

/// The standard phrase of a status.
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for number in [0, 1, 9, 10, 255, 65_535, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for len in [1, 15, 16, 255, 256, 4096, 70_000] {
            let mut out = Vec::new();
            chunk(&mut out, &vec![b'x'; len]);
            assert!(out.starts_with(format!("{len:x}\r\nx").as_bytes()), "{len}");
        }
    }
}
