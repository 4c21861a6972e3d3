//! Streaming encoders: bytes in, coded bytes out, flushed when the upstream pauses.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use flate2::write::GzEncoder;
use phalanx_model::limits::COMPRESSED_RESPONSES_MAX;
use phalanx_policy::ContentCoding;

/// How many responses a worker compresses at the moment. Each costs some hundred KiB.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encoders(Rc<Cell<usize>>);

impl Encoders {
    /// An encoder, while there is room for one.
    pub(crate) fn take(&self, coding: ContentCoding) -> Option<Encoder> {
        if self.0.get() >= COMPRESSED_RESPONSES_MAX {
            return None;
        }
        let kind = Kind::new(coding)?;
        self.0.set(self.0.get() + 1);
        Some(Encoder { kind: Some(kind), unflushed: false, failed: false, count: Rc::clone(&self.0) })
    }
}

/// One response's encoder.
pub(crate) struct Encoder {
    /// Gone after the end.
    kind: Option<Kind>,
    /// Something was put in after the last flush.
    unflushed: bool,
    failed: bool,
    count: Rc<Cell<usize>>,
}

enum Kind {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Kind {
    fn new(coding: ContentCoding) -> Option<Self> {
        Some(match coding {
            ContentCoding::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
            ContentCoding::Br => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_QUALITY,
                WINDOW_BITS,
            ))),
            ContentCoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                encoder.window_log(WINDOW_BITS).ok()?;
                Self::Zstd(encoder)
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    fn coded(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Encoder {
    /// Puts in some of the response; gives to `take` what comes out of it.
    pub(crate) fn write(&mut self, data: &[u8], take: impl FnOnce(&[u8])) {
        let Some(kind) = &mut self.kind else { return };
        self.failed |= kind.writer().write_all(data).is_err();
        self.unflushed |= !data.is_empty();
        give(kind.coded(), take);
    }

    /// Gives all that was put in; nothing if that was done already.
    pub(crate) fn flush(&mut self, take: impl FnOnce(&[u8])) {
        let Some(kind) = &mut self.kind else { return };
        if std::mem::take(&mut self.unflushed) {
            self.failed |= kind.writer().flush().is_err();
            give(kind.coded(), take);
        }
    }

    /// Gives the end.
    pub(crate) fn finish(&mut self, take: impl FnOnce(&[u8])) {
        match self.kind.take().map(Kind::finish) {
            Some(Ok(mut last)) => give(&mut last, take),
            Some(Err(_)) => self.failed = true,
            None => {}
        }
    }

    /// Whether what was given is not the whole. Encoders into memory do not fail; a client must not take it for whole if one did.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }
}

fn give(coded: &mut Vec<u8>, take: impl FnOnce(&[u8])) {
    if !coded.is_empty() {
        take(coded);
        coded.clear();
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.count.set(self.count.get().saturating_sub(1));
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

/// What a worker has time for on the way: near the smallest size per microsecond of each. nginx takes gzip at 1.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// 128 KiB: larger windows cost memory for each response, and clients may refuse more than 8 MiB (RFC 9659).
const WINDOW_BITS: u32 = 17;
const BROTLI_BUFFER_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn decoded(coding: ContentCoding, coded: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            ContentCoding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut out).unwrap(),
            ContentCoding::Br => brotli::Decompressor::new(coded, 4096).read_to_end(&mut out).unwrap(),
            ContentCoding::Zstd => {
                zstd::stream::read::Decoder::new(coded).unwrap().read_to_end(&mut out).unwrap()
            }
        };
        out
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(parts in prop::collection::vec((prop::collection::vec(0u8..4, 0..5000), any::<bool>()), 0..12)) {
            for coding in ContentCoding::ALL {
                let mut encoder = Encoders::default().take(coding).unwrap();
                let (mut whole, mut coded) = (Vec::new(), Vec::new());
                for (part, flush) in &parts {
                    whole.extend_from_slice(part);
                    encoder.write(part, |bytes| coded.extend_from_slice(bytes));
                    if *flush {
                        encoder.flush(|bytes| coded.extend_from_slice(bytes));
                    }
                }
                encoder.finish(|bytes| coded.extend_from_slice(bytes));
                prop_assert!(!encoder.has_failed());
                prop_assert_eq!(&decoded(coding, &coded), &whole);
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for coding in ContentCoding::ALL {
            let mut encoder = Encoders::default().take(coding).unwrap();
            let mut coded = Vec::new();
            encoder.write(b"the first part", |bytes| coded.extend_from_slice(bytes));
            encoder.flush(|bytes| coded.extend_from_slice(bytes));
            let mut read = [0; 14];
            let mut reader: Box<dyn Read> = match coding {
                ContentCoding::Gzip => Box::new(flate2::read::GzDecoder::new(coded.as_slice())),
                ContentCoding::Br => Box::new(brotli::Decompressor::new(coded.as_slice(), 4096)),
                ContentCoding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded.as_slice()).unwrap()),
            };
            reader.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"the first part", "{coding:?}");
            drop(reader);
            let before = coded.len();
            encoder.flush(|bytes| coded.extend_from_slice(bytes));
            assert_eq!(coded.len(), before, "nothing new to flush");
        }
    }

    #[test]
    fn a_worker_compresses_only_so_many_at_once() {
        let encoders = Encoders::default();
        let mut taken: Vec<Encoder> =
            (0..COMPRESSED_RESPONSES_MAX).map(|_| encoders.take(ContentCoding::Gzip).unwrap()).collect();
        assert!(encoders.take(ContentCoding::Gzip).is_none());
        taken.pop();
        assert!(encoders.take(ContentCoding::Gzip).is_some());
    }
}
