//! What the fields of a request head mean for its framing and its address, and where they contradict each other.

use phalanx_model::{BodyFraming, FramingFault, HttpVersion, RequestHead};

use super::fields::FieldKind;
use super::lenient::add_fault;

/// Finds the body's framing and the faults that only whole heads show (RFC 9112 sections 3.2, 6.1 to 6.3).
pub(crate) fn examine(head: &mut RequestHead) {
    let mut faults = Faults::default();
    let raw = head.raw.clone();
    let bytes = |span: phalanx_model::Span| raw.get(span.range()).unwrap_or_default();

    let (mut length, mut transfer, mut host, mut kind) = (None, None, None, None);
    for field in &head.fields {
        let value = bytes(field.value);
        let (seen, repeated) = match FieldKind::of(bytes(field.name)) {
            FieldKind::ContentLength => (&mut length, FramingFault::RepeatedLength),
            FieldKind::TransferEncoding => (&mut transfer, FramingFault::BadTransferEncoding),
            FieldKind::Host => (&mut host, FramingFault::RepeatedHost),
            FieldKind::ContentType => (&mut kind, FramingFault::RepeatedContentType),
            _ => continue,
        };
        if seen.replace(value).is_some() {
            faults.add(repeated);
        }
    }
    head.framing = framing(head.version, length, transfer, &mut faults);
    check_host(head.version, host, &mut faults);
    check_target(head.method(), head.target(), host, &mut faults);
    for fault in faults.0.into_iter().flatten() {
        add_fault(head, fault);
    }
}

/// The address part of an absolute-form target, with where its path begins; `None` for other forms.
pub(crate) fn absolute_form(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })?;
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    rest.split_at_checked(end)
}

/// The host of an authority, without its port; lower case is the caller's business.
pub(crate) fn without_port(authority: &[u8]) -> &[u8] {
    let colon = match authority.iter().rposition(|&b| b == b']') {
        Some(bracket) => authority
            .get(bracket..)
            .and_then(|rest| rest.iter().position(|&b| b == b':').map(|p| bracket + p)),
        None => authority.iter().position(|&b| b == b':'),
    };
    colon.and_then(|at| authority.get(..at)).unwrap_or(authority)
}

/// At most one fault per check, kept in the order found.
#[derive(Default)]
struct Faults([Option<FramingFault>; 8]);

impl Faults {
    fn add(&mut self, fault: FramingFault) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none_or(|known| known == fault)) {
            *free = Some(fault);
        }
    }
}

fn framing(
    version: HttpVersion,
    length: Option<&[u8]>,
    transfer: Option<&[u8]>,
    faults: &mut Faults,
) -> BodyFraming {
    if let Some(coding) = transfer {
        if length.is_some() {
            faults.add(FramingFault::LengthAndTransferEncoding);
        }
        if version == HttpVersion::Http10 {
            faults.add(FramingFault::TransferEncodingInHttp10);
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            faults.add(FramingFault::BadTransferEncoding);
        }
        return BodyFraming::Chunked;
    }
    let Some(length) = length else {
        return BodyFraming::None;
    };
    match decimal(length) {
        Some(0) => BodyFraming::Length(0),
        Some(bytes) => BodyFraming::Length(bytes),
        None => {
            let several = length.contains(&b',');
            faults.add(if several { FramingFault::RepeatedLength } else { FramingFault::BadLength });
            BodyFraming::None
        }
    }
}

/// `1*DIGIT` that fits 64 bits; no sign, no space.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn check_host(version: HttpVersion, host: Option<&[u8]>, faults: &mut Faults) {
    match host {
        None if version != HttpVersion::Http10 => faults.add(FramingFault::MissingHost),
        Some(host) if !is_authority(host) => faults.add(FramingFault::BadHost),
        _ => {}
    }
}

/// `host [":" port]`: a name of letters, digits, `.`, `-`, `_`, `~`, an IPv4 address, or an IPv6 address in brackets.
/// RFC 3986 allows more (percent-encoding, sub-delims); no name in use has it, and caches and routers differ over it.
fn is_authority(authority: &[u8]) -> bool {
    let host = without_port(authority);
    let port_ok = match authority.get(host.len()..) {
        None | Some([]) => true,
        Some([b':', port @ ..]) => port.is_empty() || decimal(port).is_some_and(|port| port <= 65_535),
        Some(_) => false,
    };
    let host_ok = match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        [] => false,
        name => name.iter().all(|&b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)),
    };
    host_ok && port_ok
}

fn check_target(method: &[u8], target: &[u8], host: Option<&[u8]>, faults: &mut Faults) {
    let served = match target {
        _ if method == b"CONNECT" => false,
        // A fragment never belongs into a request (RFC 9112 section 3.2); back ends differ on whether they cut it off.
        _ if target.contains(&b'#') => false,
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => match absolute_form(target) {
            Some((authority, _)) => {
                is_authority(authority) && host.is_none_or(|host| host.eq_ignore_ascii_case(authority))
            }
            None => false,
        },
    };
    if !served {
        faults.add(FramingFault::BadTarget);
    }
}
