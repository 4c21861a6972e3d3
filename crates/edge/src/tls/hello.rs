//! The ClientHello, read from the bytes as they came (RFC 8446 section 4.1.2): what the client offers, before TLS knows of it.
//!
//! Only its form is checked. What it asks for is for TLS to grant or refuse.

use phalanx_model::limits::TLS_HELLO_BYTES_MAX;

/// What a client offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The version field, which since TLS 1.3 says 1.2.
    pub version: u16,
    /// Cipher suites, in the client's order.
    pub cipher_suites: Vec<u16>,
    /// Types of extensions, in the client's order.
    pub extensions: Vec<u16>,
    /// `supported_versions`.
    pub versions: Vec<u16>,
    /// `supported_groups`.
    pub groups: Vec<u16>,
    /// `signature_algorithms`.
    pub signature_algorithms: Vec<u16>,
    /// The first protocol of `application_layer_protocol_negotiation`; empty if there is none.
    pub first_protocol: Vec<u8>,
    /// The host of `server_name`; empty if there is none.
    pub server_name: Vec<u8>,
}

/// Why bytes are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHello {
    /// They begin as a request in plain HTTP does.
    PlainHttp,
    /// They are another message, or none of TLS at all.
    Malformed,
    /// The message is larger than any client's: [`TLS_HELLO_BYTES_MAX`].
    TooLarge,
}

/// Reads a ClientHello, over as many records and segments as it takes; `None` while there is more to come.
pub fn read(bytes: &[u8]) -> Result<Option<ClientHello>, NotHello> {
    let Some(message) = message(bytes)? else { return Ok(None) };
    parse(&message).map(Some).ok_or(NotHello::Malformed)
}

/// The handshake message that the records carry, without its header.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, NotHello> {
    match bytes.first() {
        None => return Ok(None),
        Some(&HANDSHAKE) => {}
        Some(first) if first.is_ascii_alphabetic() => return Err(NotHello::PlainHttp),
        Some(_) => return Err(NotHello::Malformed),
    }
    let mut message = Vec::new();
    let mut records = Reader(bytes);
    loop {
        if let [kind, high, middle, low, rest @ ..] = message.as_slice() {
            let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            match *kind {
                CLIENT_HELLO if length > TLS_HELLO_BYTES_MAX => return Err(NotHello::TooLarge),
                CLIENT_HELLO if rest.len() > length => return Err(NotHello::Malformed),
                CLIENT_HELLO if rest.len() == length => return Ok(Some(rest.to_vec())),
                CLIENT_HELLO => {}
                _ => return Err(NotHello::Malformed),
            }
        }
        match records.record() {
            Ok(Some(fragment)) => message.extend_from_slice(fragment),
            // Records of one byte each would be six times as long as what they carry.
            Ok(None) if bytes.len() > RECORDS_BYTES_MAX => return Err(NotHello::TooLarge),
            Ok(None) => return Ok(None),
            Err(fault) => return Err(fault),
        }
    }
}

fn parse(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(message);
    let mut hello = ClientHello { version: reader.u16()?, ..ClientHello::default() };
    reader.take(RANDOM_BYTES)?;
    reader.vector8()?;
    hello.cipher_suites = numbers(reader.vector16()?);
    reader.vector8()?;
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.vector16()?);
    if !reader.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        hello.extensions.push(kind);
        note(&mut hello, kind, content);
    }
    Some(hello)
}

/// Notes what an extension says. One that is malformed says nothing here, and TLS refuses it.
fn note(hello: &mut ClientHello, kind: u16, content: &[u8]) {
    let mut content = Reader(content);
    match kind {
        SUPPORTED_GROUPS => hello.groups = content.vector16().map(numbers).unwrap_or_default(),
        SIGNATURE_ALGORITHMS => {
            hello.signature_algorithms = content.vector16().map(numbers).unwrap_or_default();
        }
        SUPPORTED_VERSIONS => hello.versions = content.vector8().map(numbers).unwrap_or_default(),
        PROTOCOLS => {
            let first = content.vector16().and_then(|list| Reader(list).vector8());
            hello.first_protocol = first.unwrap_or_default().to_vec();
        }
        SERVER_NAME => {
            let mut names = Reader(content.vector16().unwrap_or_default());
            // One kind of name has ever been defined (RFC 6066 section 3).
            let host = names.take(1).filter(|kind| *kind == [HOST_NAME]).and_then(|_| names.vector16());
            hello.server_name = host.unwrap_or_default().to_vec();
        }
        _ => {}
    }
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?))).collect()
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// The content of the next record (RFC 8446 section 5.1); `None` if it is not all there.
    fn record(&mut self) -> Result<Option<&'a [u8]>, NotHello> {
        let Some((header, _)) = self.0.split_first_chunk::<5>() else {
            return if self.0.first().is_none_or(|&kind| kind == HANDSHAKE) {
                Ok(None)
            } else {
                Err(NotHello::Malformed)
            };
        };
        let [kind, major, _, high, low] = *header;
        let length = usize::from(high) << 8 | usize::from(low);
        if kind != HANDSHAKE || major != 3 || length == 0 || length > RECORD_BYTES_MAX {
            return Err(NotHello::Malformed);
        }
        if self.0.len() < header.len() + length {
            return Ok(None);
        }
        self.take(header.len());
        Ok(self.take(length))
    }
}

/// `server_name` (RFC 6066 section 3).
pub const SERVER_NAME: u16 = 0;
/// `application_layer_protocol_negotiation` (RFC 7301).
pub const PROTOCOLS: u16 = 16;
/// The group X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem).
pub const X25519MLKEM768: u16 = 0x11ec;
/// `host_name` of `server_name`.
const HOST_NAME: u8 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const SUPPORTED_VERSIONS: u16 = 43;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RANDOM_BYTES: usize = 32;
/// Largest plain record.
const RECORD_BYTES_MAX: usize = 1 << 14;
/// A message of the largest size in records of reasonable ones.
const RECORDS_BYTES_MAX: usize = TLS_HELLO_BYTES_MAX + 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with these extensions.
    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 4, 0x13, 0x01, 0xc0, 0x2b, 1, 0]);
        let mut list = Vec::new();
        for (kind, content) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            list.extend(*content);
        }
        body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        body.extend(list);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()], part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_read_over_records_and_segments() {
        let extensions: &[(u16, &[u8])] = &[
            (10, &[0, 4, 0x11, 0xec, 0, 29]),
            (43, &[4, 3, 4, 3, 3]),
            (13, &[0, 2, 4, 3]),
            (16, &[0, 12, 2, b'h', b'2', 8, b'h', b't', b't', b'p', b'/', b'1', b'.', b'1']),
        ];
        for size in [3, 50, 255] {
            let bytes = records(&hello(extensions), size);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "{end} of {} bytes", bytes.len());
            }
            let read = read(&bytes).unwrap().unwrap();
            assert_eq!(read.cipher_suites, [0x1301, 0xc02b]);
            assert_eq!(read.extensions, [10, 43, 13, 16]);
            assert_eq!(read.groups, [X25519MLKEM768, 29]);
            assert_eq!(read.versions, [0x0304, 0x0303]);
            assert_eq!(read.signature_algorithms, [0x0403]);
            assert_eq!(read.first_protocol, b"h2");
        }
    }

    #[test]
    fn what_is_no_hello_is_told_at_once() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(NotHello::PlainHttp));
        assert_eq!(read(b"p"), Err(NotHello::PlainHttp));
        for bytes in [
            &[0x80, 0x2e, 1, 3, 1][..],
            &[21, 3, 1, 0, 2, 1, 0],
            &[22, 2, 0, 0, 5],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3],
            &[22, 3, 1, 0, 5, 1, 0, 0, 0, 9],
        ] {
            assert_eq!(read(bytes), Err(NotHello::Malformed), "{bytes:x?}");
        }
        assert_eq!(read(&[22, 3, 1, 0, 4, 1, 0xff, 0, 0]), Err(NotHello::TooLarge));
        let trickle = records(&[&[1, 0, 0x3f, 0xff][..], &[0; 4_000]].concat(), 1);
        assert_eq!(read(&trickle), Err(NotHello::TooLarge));
    }

    #[test]
    fn a_hello_cut_anywhere_within_is_malformed() {
        let whole = hello(&[(10, &[0, 2, 0, 29])]);
        for end in 6..whole.len() {
            let length = u32::try_from(end - 4).unwrap().to_be_bytes();
            let cut = [&[1], &length[1..], &whole[4..end]].concat();
            let read = read(&records(&cut, 255));
            // Without extensions it is one of old times.
            let old = end == 4 + 2 + 32 + 1 + 2 + 4 + 2;
            assert_eq!(read.is_ok_and(|hello| hello.is_some()), old, "{end}");
        }
    }
}
