//! The header of the PROXY protocol, versions 1 and 2, read from the bytes before anything else of a connection, whom a load
//! balancer speaks for, and written before anything else to an upstream that wants it. After the description by HAProxy (proxy-protocol.txt).
//!
//! Strict: a listener demands it or knows nothing of it, so that whatever is no whole, well-formed header ends the connection.
//! Nothing here panics on any input, and how the input was cut into reads changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use phalanx_model::limits::PROXY_HEADER_BYTES_MAX;
use phalanx_policy::ProxyProtocol;

/// What a header says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Client and the address that it connected to; none where the balancer speaks for itself (`LOCAL`) or does not say
    /// (`UNKNOWN`, unspecified, Unix sockets).
    pub addresses: Option<Addresses>,
    /// How many bytes it takes.
    pub bytes: usize,
}

/// Both ends of the connection that a balancer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client's.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotProxy {
    /// They begin as none does, or break its rules.
    Malformed,
    /// It says to be larger than any balancer's: [`PROXY_HEADER_BYTES_MAX`].
    TooLarge,
    /// The checksum that it carries is not its own.
    Checksum,
}

/// Reads the header at the start of a connection; `None` while there is more to come.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, NotProxy> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => read_text(bytes),
        Some(_) => read_binary(bytes),
    }
}

/// The header that says whose connection an upstream gets; `None`: this node's own, as when it asks how the upstream is.
pub fn write(version: ProxyProtocol, addresses: Option<Addresses>) -> Vec<u8> {
    let ends = addresses.map(|Addresses { source, destination }| {
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let (from, to) = match (from, to) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (from, to),
            // A header has one family; a forwarder may name a client of another than its own.
            _ => (mapped(from).into(), mapped(to).into()),
        };
        (from, to, source.port(), destination.port())
    });
    match (version, ends) {
        (ProxyProtocol::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocol::V1, Some((from, to, from_port, to_port))) => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
        }
        (ProxyProtocol::V2, None) => [SIGNATURE, &[LOCAL, UNSPECIFIED, 0, 0]].concat(),
        (ProxyProtocol::V2, Some((from, to, from_port, to_port))) => {
            let ports = [from_port.to_be_bytes(), to_port.to_be_bytes()].concat();
            match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let start = [PROXY, FAMILY_INET << 4 | STREAM, 0, 12];
                    [SIGNATURE, &start, &from.octets(), &to.octets(), &ports].concat()
                }
                (from, to) => {
                    let start = [PROXY, FAMILY_INET6 << 4 | STREAM, 0, 36];
                    [SIGNATURE, &start, &mapped(from).octets(), &mapped(to).octets(), &ports].concat()
                }
            }
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Version 1: one line of text.
fn read_text(bytes: &[u8]) -> Result<Option<Header>, NotProxy> {
    let known = bytes.len().min(TEXT_START.len());
    if bytes.get(..known) != TEXT_START.get(..known) {
        return Err(NotProxy::Malformed);
    }
    let within = bytes.get(..bytes.len().min(TEXT_BYTES_MAX)).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < TEXT_BYTES_MAX { Ok(None) } else { Err(NotProxy::TooLarge) };
    };
    let line = within.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(NotProxy::Malformed)?;
    let line = line.get(TEXT_START.len()..).ok_or(NotProxy::Malformed)?;
    let addresses = if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // What follows is to be ignored, whatever it is.
        None
    } else {
        let text = std::str::from_utf8(line).ok();
        Some(text.and_then(text_addresses).ok_or(NotProxy::Malformed)?)
    };
    Ok(Some(Header { addresses, bytes: end + 1 }))
}

/// `TCP4 source destination source-port destination-port`, with one space between.
fn text_addresses(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut ip = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            // A zone, which Rust does not take either, says nothing beyond its own machine.
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (ip()?, ip()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let plain = word.bytes().all(|b| b.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
        plain.then(|| word.parse().ok())?
    };
    let (source_port, destination_port) = (port()?, port()?);
    words.next().is_none().then_some(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Version 2: a signature, command, family and length, then addresses and what else the balancer tells.
fn read_binary(bytes: &[u8]) -> Result<Option<Header>, NotProxy> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        return Err(NotProxy::Malformed);
    }
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..BINARY_START_BYTES) else {
        return Ok(None);
    };
    let length = BINARY_START_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, LOCAL | PROXY) || family >> 4 > FAMILY_UNIX || family & 0xf > STREAM {
        return Err(NotProxy::Malformed);
    }
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(NotProxy::TooLarge);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    let header = |addresses| Ok(Some(Header { addresses, bytes: length }));
    if command == LOCAL {
        // The balancer's own connection, for checks of health: whatever follows is to be ignored.
        return header(None);
    }
    let (address_bytes, addresses) = binary_addresses(family, whole)?;
    check_extras(whole, BINARY_START_BYTES + address_bytes)?;
    header(addresses)
}

/// The addresses of a whole header, and how many bytes they take.
fn binary_addresses(family: u8, whole: &[u8]) -> Result<(usize, Option<Addresses>), NotProxy> {
    // This listener is one for TCP: datagrams do not come here.
    if family & 0xf != STREAM && family != UNSPECIFIED {
        return Err(NotProxy::Malformed);
    }
    let body = whole.get(BINARY_START_BYTES..).unwrap_or_default();
    let addresses = match family >> 4 {
        FAMILY_INET => {
            let parts: &[u8; 12] = body.first_chunk().ok_or(NotProxy::Malformed)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *parts;
            ends(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), ports)
        }
        FAMILY_INET6 => {
            let parts: &[u8; 36] = body.first_chunk().ok_or(NotProxy::Malformed)?;
            let (source, rest) = parts.split_first_chunk::<16>().ok_or(NotProxy::Malformed)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(NotProxy::Malformed)?;
            let ports = rest.first_chunk::<4>().ok_or(NotProxy::Malformed)?;
            ends(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), *ports)
        }
        FAMILY_UNIX if body.len() >= UNIX_BYTES => return Ok((UNIX_BYTES, None)),
        FAMILY_UNIX => return Err(NotProxy::Malformed),
        // With no family nobody knows where addresses would end: all of it is to be ignored.
        _ => return Ok((body.len(), None)),
    };
    let bytes = if family >> 4 == FAMILY_INET { 12 } else { 36 };
    Ok((bytes, Some(addresses)))
}

fn ends(source: IpAddr, destination: IpAddr, ports: [u8; 4]) -> Addresses {
    let [a, b, c, d] = ports;
    Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

/// What a balancer tells beyond addresses (TLVs) is skipped, but must be well-formed, and a checksum must be right.
fn check_extras(whole: &[u8], from: usize) -> Result<(), NotProxy> {
    let mut at = from;
    while let Some(&kind) = whole.get(at) {
        let Some(&[high, low]) = whole.get(at + 1..at + 3) else { return Err(NotProxy::Malformed) };
        let end = at + 3 + usize::from(u16::from_be_bytes([high, low]));
        let value = whole.get(at + 3..end).ok_or(NotProxy::Malformed)?;
        if kind == TYPE_CRC32C {
            let said: [u8; 4] = value.try_into().map_err(|_| NotProxy::Malformed)?;
            if crc32c(whole, at + 3..end) != u32::from_be_bytes(said) {
                return Err(NotProxy::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

/// CRC-32C (Castagnoli, RFC 9260 appendix A), with the bytes of `zeroed` taken as zero.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let mut crc = u32::MAX;
    for (at, &byte) in bytes.iter().enumerate() {
        crc ^= u32::from(if zeroed.contains(&at) { 0 } else { byte });
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

const TEXT_START: &[u8] = b"PROXY ";
/// The longest line there can be, as the description says.
const TEXT_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const BINARY_START_BYTES: usize = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0;
const FAMILY_INET: u8 = 1;
const FAMILY_INET6: u8 = 2;
const FAMILY_UNIX: u8 = 3;
const STREAM: u8 = 1;
/// Two paths of 108 bytes.
const UNIX_BYTES: usize = 216;
const TYPE_CRC32C: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    fn v4() -> Vec<u8> {
        vec![203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x34, 0x1f, 0x90]
    }

    fn v6() -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&ip("2001:db8::9")[..], &ip("2001:db8::1"), &[0x12, 0x34, 0x1f, 0x90]].concat()
    }

    fn with_checksum(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = binary(command, family, &[addresses, &[TYPE_CRC32C, 0, 4, 0, 0, 0, 0]].concat());
        let at = header.len() - 4;
        let sum = crc32c(&header, 0..0).to_be_bytes();
        header[at..].copy_from_slice(&sum);
        header
    }

    /// What is read of the bytes with a request behind them, however they are cut.
    #[track_caller]
    fn check(header: &[u8], expected: Result<Option<(&str, &str)>, NotProxy>) {
        let bytes = [header, b"GET / HTTP/1.1\r\n"].concat();
        let read_whole = read(&bytes).map(|header| header.expect("it is whole"));
        for end in 0..header.len() {
            match read(&bytes[..end]) {
                Ok(None) => {}
                early => {
                    assert!(expected.is_err() && early.map(Option::unwrap) == read_whole, "cut at {end}")
                }
            }
        }
        let got = read_whole.map(|read| {
            assert_eq!(read.bytes, header.len());
            read.addresses.map(|both| (both.source.to_string(), both.destination.to_string()))
        });
        let expected = expected.map(|both| both.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(got, expected, "{:?}", String::from_utf8_lossy(header));
    }

    #[test]
    fn lines_of_text_are_read() {
        let both = Some(("203.0.113.9:4660", "192.0.2.1:8080"));
        check(b"PROXY TCP4 203.0.113.9 192.0.2.1 4660 8080\r\n", Ok(both));
        check(b"PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n", Ok(Some(("1.1.1.1:0", "2.2.2.2:65535"))));
        let both = Some(("[2001:db8::9]:4660", "[2001:db8::1]:8080"));
        check(b"PROXY TCP6 2001:db8::9 2001:db8::1 4660 8080\r\n", Ok(both));
        check(b"PROXY UNKNOWN\r\n", Ok(None));
        check(b"PROXY UNKNOWN ffff::1 whatever it says 1 2\r\n", Ok(None));
    }

    #[test]
    fn a_line_that_breaks_a_rule_is_none() {
        for line in [
            "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
            "PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2\r\n",
            "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
            "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "POST / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(read(line.as_bytes()), Err(NotProxy::Malformed), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX));
        assert_eq!(read(long.as_bytes()), Err(NotProxy::TooLarge));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX - 16));
        assert_eq!(longest.len(), TEXT_BYTES_MAX);
        check(longest.as_bytes(), Ok(None));
    }

    #[test]
    fn binary_headers_are_read() {
        let both = Some(("203.0.113.9:4660", "192.0.2.1:8080"));
        check(&binary(PROXY, 0x11, &v4()), Ok(both));
        check(&binary(PROXY, 0x21, &v6()), Ok(Some(("[2001:db8::9]:4660", "[2001:db8::1]:8080"))));
        // A unique id, an authority and padding are skipped.
        let extras = [&v4()[..], &[5, 0, 2, 7, 7], &[2, 0, 1, b'a'], &[4, 0, 3, 0, 0, 0], &[0xea, 0, 0]];
        check(&binary(PROXY, 0x11, &extras.concat()), Ok(both));
        check(&with_checksum(PROXY, 0x11, &v4()), Ok(both));
        check(&binary(LOCAL, 0, &[]), Ok(None));
        // Whatever a balancer's own connection says of addresses does not count.
        check(&binary(LOCAL, 0x11, &v4()), Ok(None));
        check(&binary(LOCAL, 0x21, &[1, 2, 3]), Ok(None));
        check(&binary(PROXY, 0, &[]), Ok(None));
        check(&binary(PROXY, 0, &[9; 40]), Ok(None));
        check(&binary(PROXY, 0x31, &[0; UNIX_BYTES]), Ok(None));
    }

    #[test]
    fn a_binary_header_that_breaks_a_rule_is_none() {
        for (command, family, body) in [
            (0x11, 0x11, v4()),
            (0x31, 0x11, v4()),
            (0x22, 0x11, v4()),
            (PROXY, 0x41, v4()),
            (PROXY, 0x12, v4()),
            (PROXY, 0x10, v4()),
            (PROXY, 0x13, v4()),
            (PROXY, 0x11, v4()[..11].to_vec()),
            (PROXY, 0x21, v6()[..35].to_vec()),
            (PROXY, 0x31, vec![0; UNIX_BYTES - 1]),
            (PROXY, 0x11, [&v4()[..], &[5]].concat()),
            (PROXY, 0x11, [&v4()[..], &[5, 0]].concat()),
            (PROXY, 0x11, [&v4()[..], &[5, 0, 2, 7]].concat()),
            (PROXY, 0x11, [&v4()[..], &[TYPE_CRC32C, 0, 3, 1, 2, 3]].concat()),
        ] {
            let header = binary(command, family, &body);
            assert_eq!(read(&header), Err(NotProxy::Malformed), "{header:x?}");
        }
        let mut wrong = with_checksum(PROXY, 0x11, &v4());
        wrong[20] ^= 1;
        assert_eq!(read(&wrong), Err(NotProxy::Checksum));
        let large = [SIGNATURE, &[PROXY, 0x11, 0xff, 0xff]].concat();
        assert_eq!(read(&large), Err(NotProxy::TooLarge));
        assert_eq!(read(b"\r\n\r\n\0\r\nQUIX"), Err(NotProxy::Malformed));
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value that catalogues of such sums give.
        assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
    }

    #[test]
    fn what_is_written_is_what_others_write() {
        let both = Addresses {
            source: "203.0.113.9:4660".parse().unwrap(),
            destination: "[::ffff:192.0.2.1]:8080".parse().unwrap(),
        };
        assert_eq!(write(ProxyProtocol::V1, Some(both)), b"PROXY TCP4 203.0.113.9 192.0.2.1 4660 8080\r\n");
        assert_eq!(write(ProxyProtocol::V2, Some(both)), binary(PROXY, 0x11, &v4()));
        assert_eq!(write(ProxyProtocol::V1, None), b"PROXY UNKNOWN\r\n");
        assert_eq!(write(ProxyProtocol::V2, None), binary(LOCAL, 0, &[]));
        let mixed = Addresses { source: "[2001:db8::9]:1".parse().unwrap(), ..both };
        assert_eq!(
            write(ProxyProtocol::V1, Some(mixed)),
            b"PROXY TCP6 2001:db8::9 ::ffff:192.0.2.1 1 8080\r\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(from: IpAddr, to: IpAddr, ports: (u16, u16)) {
            let both = Addresses {
                source: SocketAddr::new(from, ports.0),
                destination: SocketAddr::new(to, ports.1),
            };
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let header = write(version, Some(both));
                let read = read(&header).unwrap().unwrap();
                prop_assert_eq!(read.bytes, header.len());
                let got = read.addresses.unwrap();
                let ends = |one: Addresses| {
                    let end = |end: SocketAddr| (end.ip().to_canonical(), end.port());
                    (end(one.source), end(one.destination))
                };
                prop_assert_eq!(ends(got), ends(both));
            }
        }

        #[test]
        fn any_bytes_and_any_cut_say_the_same(bytes: Vec<u8>, text: bool, cut in 0usize..300) {
            let bytes = [if text { TEXT_START } else { SIGNATURE }, &bytes].concat();
            let early = read(&bytes[..cut.min(bytes.len())]);
            prop_assert!(early == Ok(None) || early == read(&bytes));
        }
    }
}
