//! Compressed bodies and charsets: exact, bounded, or refused.

#![cfg(test)]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use phalanx_inspect::body::charset::{self, Charset, Invalid};
use phalanx_inspect::body::coding::{self, Coding, End, Room};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

const ROOM: usize = 1 << 20;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const TEXT: &[u8] = b"{\"a\":\"select\"}";
const TEXT_BROTLI: &str = "8b06807b2261223a2273656c656374227d03";
const TEXT_ZSTD_CHECKED: &str = "28b52ffd04587100007b2261223a2273656c656374227d68dc1bf2";
/// 300,000 times `a`.
const MANY_BROTLI: &str = "5bdf93845f222c1e0b0432170900";
const MANY_ZSTD: &str = "28b52ffd00585400001061610100fbff39c00202001061039f0461";

fn each_coding() -> Vec<(Coding, Vec<u8>)> {
    vec![
        (Coding::Gzip, gzip(TEXT)),
        (Coding::Deflate, zlib(TEXT)),
        (Coding::Deflate, raw_deflate(TEXT)),
        (Coding::Brotli, hex(TEXT_BROTLI)),
        (Coding::Zstd, hex(TEXT_ZSTD_CHECKED)),
        (Coding::Zstd, zstd(TEXT)),
    ]
}

#[test]
fn each_coding_is_undone() {
    for (coding, body) in each_coding() {
        let decoded = coding::decode(&body, &[coding], Room::of(ROOM));
        assert_eq!((decoded.body.as_slice(), decoded.end), (TEXT, End::Whole), "{coding:?}");
    }
}

#[test]
fn what_follows_a_stream_is_an_error() {
    for (coding, body) in each_coding() {
        for more in [&b"x"[..], b"\0", &body] {
            let decoded = coding::decode(&[&body, more].concat(), &[coding], Room::of(ROOM));
            assert_eq!(decoded.end, End::Broken, "{coding:?} {more:?}");
        }
    }
}

#[test]
fn a_stream_that_is_cut_off_is_told_from_a_broken_one() {
    for (coding, body) in each_coding() {
        for length in 1..body.len() {
            let decoded = coding::decode(&body[..length], &[coding], Room::of(ROOM));
            assert_eq!(decoded.end, End::Cut, "{coding:?} {length} of {}", body.len());
            assert!(TEXT.starts_with(&decoded.body));
        }
    }
    let mut state = 7u32;
    let text: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"abcdefgh"[(state >> 29) as usize]
    })
    .take(400_000)
    .collect();
    for (coding, body) in
        [(Coding::Gzip, gzip(&text)), (Coding::Deflate, zlib(&text)), (Coding::Zstd, zstd(&text))]
    {
        let decoded = coding::decode(&body[..body.len() / 2], &[coding], Room::of(ROOM));
        assert_eq!(decoded.end, End::Cut);
        assert!(decoded.body.len() > text.len() / 4 && text.starts_with(&decoded.body), "{coding:?}");
    }
}

#[test]
fn nonsense_is_broken() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli] {
        let decoded = coding::decode(
            b"{\"not\":\"compressed at all\", \"longer than a header\":1}",
            &[coding],
            Room::of(ROOM),
        );
        assert_eq!(decoded.end, End::Broken, "{coding:?}");
    }
    for (coding, mut body) in
        [(Coding::Gzip, gzip(TEXT)), (Coding::Deflate, zlib(TEXT)), (Coding::Zstd, hex(TEXT_ZSTD_CHECKED))]
    {
        *body.last_mut().unwrap() ^= 1;
        assert_eq!(
            coding::decode(&body, &[coding], Room::of(ROOM)).end,
            End::Broken,
            "a wrong checksum of {coding:?}"
        );
    }
}

#[test]
fn two_codings_are_undone_in_their_order() {
    let body = zlib(&gzip(TEXT));
    let decoded = coding::decode(&body, &[Coding::Gzip, Coding::Deflate], Room::of(ROOM));
    assert_eq!((decoded.body.as_slice(), decoded.end), (TEXT, End::Whole));
    assert_eq!(coding::decode(&body, &[Coding::Deflate, Coding::Gzip], Room::of(ROOM)).end, End::Broken);
}

#[test]
fn bombs_and_large_bodies_end_at_their_limits() {
    let zeros = vec![0; 10 << 20];
    let twice = gzip(&gzip(&zeros));
    for (codings, body) in [
        (&[Coding::Gzip][..], gzip(&zeros)),
        (&[Coding::Deflate], zlib(&zeros)),
        (&[Coding::Deflate], raw_deflate(&zeros)),
        (&[Coding::Brotli], hex(MANY_BROTLI)),
        (&[Coding::Zstd], hex(MANY_ZSTD)),
        (&[Coding::Gzip, Coding::Gzip], twice),
    ] {
        let decoded = coding::decode(&body, codings, Room::of(64 << 20));
        assert_eq!(decoded.end, End::Bomb, "{codings:?}");
        assert_eq!(decoded.body.len(), (body.len() * 100).max(64 * 1024), "{codings:?}");
        let decoded = coding::decode(&body, codings, Room::of(1_000));
        assert_eq!((decoded.end, decoded.body.len()), (End::TooLarge, 1_000), "{codings:?}");
    }
    // Within the first 64 KiB any ratio is fine.
    assert_eq!(coding::decode(&gzip(&zeros[..65_536]), &[Coding::Gzip], Room::of(ROOM)).end, End::Whole);
}

#[test]
fn deflate_that_reads_in_both_ways_is_refused() {
    // As zlib: a stored block of 65,534 bytes and an empty last one. Without the wrapping, the zlib header begins a stored
    // block of one byte, another one takes all that follows but the last two bytes, and these, the lower half of the
    // checksum, are an empty last block.
    let mut content = vec![0; 65_534];
    content[..6].copy_from_slice(&[0xfe, 0xff, 0x01, 0x00, 0xff, 0x02]);
    let (mut low, mut high) = (1u32, 0u32);
    for &byte in &content {
        low = (low + u32::from(byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    let checksum = (high << 16 | low).to_be_bytes();
    assert_eq!(checksum[2..], [0x03, 0x00]);
    let both = [&[0x78, 0x01, 0x00, 0xfe, 0xff, 0x01, 0x00], &content[..], &[0x03, 0x00], &checksum].concat();
    let decoded = coding::decode(&both, &[Coding::Deflate], Room::of(ROOM));
    assert_eq!(decoded.end, End::Broken);
    // One byte less of doubt, and it is zlib alone.
    content[4] = 0xfe;
    let low = low - 1;
    let high = (high + 65_521 - (65_530 % 65_521)) % 65_521;
    let checksum = (high << 16 | low).to_be_bytes();
    let body = [&[0x78, 0x01, 0x00, 0xfe, 0xff, 0x01, 0x00], &content[..], &[0x03, 0x00], &checksum].concat();
    let decoded = coding::decode(&body, &[Coding::Deflate], Room::of(ROOM));
    assert_eq!((decoded.end, decoded.body.len()), (End::Whole, 65_534));
}

#[test]
fn codings_are_read_from_their_fields() {
    let read = |fields: &[&'static [u8]]| coding::codings(fields.iter().copied());
    assert_eq!(read(&[]), Ok(vec![]));
    assert_eq!(read(&[b"identity, ", b""]), Ok(vec![]));
    assert_eq!(read(&[b"X-GZip"]), Ok(vec![Coding::Gzip]));
    assert_eq!(read(&[b"gzip , br"]), Ok(vec![Coding::Gzip, Coding::Brotli]));
    assert_eq!(read(&[b"gzip", b"zstd"]), Ok(vec![Coding::Gzip, Coding::Zstd]));
    for unread in [&b"compress"[..], b"gzip;q=1", b"aws-chunked", b"gzip,gzip,gzip", b"gz ip"] {
        assert!(read(&[unread]).is_err(), "{unread:?}");
    }
}

#[test]
fn charsets_are_read_wherever_a_parser_may_find_them() {
    for (media_type, expected) in [
        (&b"application/json"[..], Ok(None)),
        (b"application/json; charset=utf-8", Ok(Some(Charset::Utf8))),
        (b"application/json;CHARSET = \"UTF-16LE\"", Ok(Some(Charset::Utf16Le))),
        (b"application/json; x-charset=utf-7", Ok(None)),
        (b"text/xml; charset=latin1", Ok(Some(Charset::Latin1))),
    ] {
        assert_eq!(charset::of_media_type(media_type), expected, "{}", media_type.escape_ascii());
    }
    for refused in [
        &b"a/b; charset=utf-7"[..],
        b"a/b; charset=ibm037",
        b"a/b; charset=utf-32",
        b"a/b; charset=shift_jis",
        b"a/b; charset=",
        b"a/b; charset=utf-8; charset=utf-7",
        b"a/b; charset=utf-8; Charset=utf-8",
        b"a/b; charset=utf-8; boundary=\"charset=utf-7",
        b"a/b; charset*=utf-8''utf-7",
        b"a/b charset=utf-7",
        b"a/b; x=\"; charset=utf-7\"",
    ] {
        assert!(charset::of_media_type(refused).is_err(), "{}", refused.escape_ascii());
    }
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

#[test]
fn texts_are_decoded_exactly_or_not_at_all() {
    let text = "<é€😀>";
    let big = utf16(text, u16::to_be_bytes);
    let little = utf16(text, u16::to_le_bytes);
    for (body, charset) in [
        (big.clone(), Charset::Utf16Be),
        (little.clone(), Charset::Utf16Le),
        ([&[0xfe, 0xff][..], &big].concat(), Charset::Utf16),
        ([&[0xff, 0xfe][..], &little].concat(), Charset::Utf16),
    ] {
        assert_eq!(charset::decode(&body, charset).unwrap(), text.as_bytes(), "{charset:?}");
    }
    assert_eq!(charset::decode(b"\xe9\x80", Charset::Windows1252).unwrap(), "é€".as_bytes());
    assert_eq!(charset::decode(b"\xe9\xa4", Charset::Latin9).unwrap(), "é€".as_bytes());
    assert_eq!(charset::decode(b"\xe9\x80", Charset::Latin1).unwrap(), "é\u{80}".as_bytes());
    for (body, charset, invalid) in [
        (big.clone(), Charset::Utf16, Invalid::NoByteOrder),
        (big[..3].to_vec(), Charset::Utf16Be, Invalid::Cut),
        (vec![0xd8, 0, 0, b'a'], Charset::Utf16Be, Invalid::Surrogate),
    ] {
        assert_eq!(charset::decode(&body, charset).unwrap_err().1, invalid);
    }
    assert_eq!(charset::of_xml(b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>"), Some(Charset::Latin1));
    assert_eq!(charset::of_xml(b"\xff\xfe<\0a\0"), Some(Charset::Utf16));
    assert_eq!(charset::of_xml(b"<a/>"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_decoded_within_the_limit_or_refused(
        body in proptest::collection::vec(any::<u8>(), 1..200),
        first in proptest::sample::select(vec![Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd]),
        second in proptest::option::of(proptest::sample::select(vec![Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd])),
        damage in proptest::option::of((0usize..200, any::<u8>())),
    ) {
        let mut coded = match first {
            Coding::Gzip => gzip(&body),
            Coding::Deflate => zlib(&body),
            Coding::Brotli => body.clone(),
            Coding::Zstd => zstd(&body),
        };
        if let Some((at, byte)) = damage {
            let at = at % coded.len();
            coded[at] = byte;
        }
        let codings: Vec<Coding> = std::iter::once(first).chain(second).collect();
        for input in [&coded, &body] {
            let decoded = coding::decode(input, &codings, Room::of(1_000));
            prop_assert!(decoded.body.len() <= 1_000);
        }
        if damage.is_none() && second.is_none() && first != Coding::Brotli {
            let decoded = coding::decode(&coded, &codings, Room::of(1_000));
            prop_assert_eq!((decoded.body, decoded.end), (body, End::Whole));
        }
    }

    #[test]
    fn decoding_a_charset_never_gives_invalid_utf8(
        text in proptest::collection::vec(any::<u8>(), 0..64),
        charset in proptest::sample::select(vec![
            Charset::Latin1, Charset::Latin9, Charset::Windows1252, Charset::Utf16, Charset::Utf16Be, Charset::Utf16Le,
            Charset::Utf32Be, Charset::Utf32Le,
        ]),
    ) {
        let decoded = match charset::decode(&text, charset) {
            Ok(decoded) => decoded.into_owned(),
            Err((decoded, _)) => decoded,
        };
        prop_assert!(std::str::from_utf8(&decoded).is_ok());
        prop_assert!(decoded.is_empty() == text.is_empty() || charset == Charset::Utf16 || text.len() <= 4);
    }
}
