//! Content codings (RFC 9110 section 8.4): what a compressed body holds, within limits.
//!
//! INVARIANT: no more is kept than asked for, whatever a stream promises; a window takes 16 MiB at most and is given
//! back before the body is parsed. A stream must end exactly where the body does: what follows it, one application
//! reads and another does not.

use std::io::Read as _;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use phalanx_model::limits::{DECODED_FREE_BYTES, DECODED_RATIO_MAX};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// A content coding that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952; also `x-gzip`.
    Gzip,
    /// RFC 1950, or as some clients have it, RFC 1951 without the wrapping.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// How much a coded body may hold.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// As many bytes are kept.
    pub bytes_max: usize,
    /// As many times its own size, beyond the first [`DECODED_FREE_BYTES`]; more is a bomb.
    pub ratio_max: usize,
}

impl Room {
    /// Room for this many bytes at the default ratio.
    pub fn of(bytes_max: usize) -> Self {
        Self { bytes_max, ratio_max: DECODED_RATIO_MAX }
    }
}

/// What became of a coded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What it holds, as far as it could be read.
    pub body: Vec<u8>,
    /// How reading it ended.
    pub end: End,
}

/// How reading a coded body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The stream was read to its end, and the body ends there.
    Whole,
    /// The body ends within the stream.
    Cut,
    /// It holds more than may be kept.
    TooLarge,
    /// It holds so much more than its own size that it was made to exhaust memory.
    Bomb,
    /// It is no such stream, or something follows it.
    Broken,
}

impl End {
    /// As a reason for refusing the body; `None` when it was read whole.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Cut => Some("the compressed body ends early"),
            Self::TooLarge => Some("the compressed body holds more than can be inspected"),
            Self::Bomb => Some("the compressed body expands beyond measure"),
            Self::Broken => Some("the compressed body cannot be decoded exactly"),
        }
    }
}

/// The codings that `Content-Encoding` fields name, in the order in which they were applied.
///
/// # Errors
/// A coding that is not known, or more than two of them.
pub fn codings<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Coding>, &'static str> {
    let mut found = Vec::new();
    for name in fields.flat_map(|field| field.split(|&byte| byte == b',')) {
        let name = name.trim_ascii().to_ascii_lowercase();
        let coding = match name.as_slice() {
            b"" | b"identity" => continue,
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            b"br" => Coding::Brotli,
            b"zstd" => Coding::Zstd,
            _ => return Err("a content coding that is not known"),
        };
        if found.len() >= CODINGS_MAX {
            return Err("too many content codings");
        }
        found.push(coding);
    }
    Ok(found)
}

/// Undoes the codings of a body, keeping no more than there is room for.
pub fn decode(body: &[u8], codings: &[Coding], Room { bytes_max, ratio_max }: Room) -> Decoded {
    let fair = body.len().saturating_mul(ratio_max).max(DECODED_FREE_BYTES);
    let room = bytes_max.min(fair);
    let mut decoded: Option<Decoded> = None;
    for &coding in codings.iter().rev() {
        let outer = decoded.take();
        let input = outer.as_ref().map_or(body, |outer| outer.body.as_slice());
        let mut inner = undo(coding, input, room);
        // What went wrong first says what was wrong; what could be read is read on.
        if let Some(Decoded { end: end @ (End::Cut | End::TooLarge | End::Broken), .. }) = outer {
            inner.end = end;
        }
        decoded = Some(inner);
    }
    let mut decoded = decoded.unwrap_or_else(|| Decoded { body: body.to_vec(), end: End::Whole });
    if decoded.end == End::TooLarge && fair < bytes_max {
        decoded.end = End::Bomb;
    }
    decoded
}

/// Most codings applied one after the other.
const CODINGS_MAX: usize = 2;
/// Largest window of a Zstandard stream (RFC 9659: a content coding uses no more).
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much is decoded at a time.
const STEP_BYTES: usize = 16 * 1024;

fn undo(coding: Coding, input: &[u8], room: usize) -> Decoded {
    let mut output = Output { body: Vec::new(), room };
    let end = match coding {
        Coding::Gzip => gunzip(input, &mut output),
        Coding::Deflate => inflate_either(input, &mut output),
        Coding::Brotli => unbrotli(input, &mut output),
        Coding::Zstd => unzstd(input, &mut output),
    };
    Decoded { body: output.body, end }
}

struct Output {
    body: Vec<u8>,
    room: usize,
}

impl Output {
    /// Takes bytes as far as there is room; false when there is not enough.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let left = self.room.saturating_sub(self.body.len());
        self.body.extend_from_slice(bytes.get(..left.min(bytes.len())).unwrap_or_default());
        bytes.len() <= left
    }
}

fn gunzip(input: &[u8], output: &mut Output) -> End {
    let mut decoder = GzDecoder::new(input);
    let mut step = vec![0; STEP_BYTES];
    loop {
        match decoder.read(&mut step) {
            // A second member is not read by all applications.
            Ok(0) => return if decoder.get_ref().is_empty() { End::Whole } else { End::Broken },
            Ok(length) => {
                if !output.take(step.get(..length).unwrap_or_default()) {
                    return End::TooLarge;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return End::Cut,
            Err(_) => return End::Broken,
        }
    }
}

/// `deflate` is the zlib format; some clients leave its wrapping out, and some applications take both. What can be read
/// in both ways is refused.
fn inflate_either(input: &[u8], output: &mut Output) -> End {
    let wrapped = match input {
        [method, flags, ..] => {
            method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0 && flags & 0x20 == 0
        }
        _ => false,
    };
    if !wrapped {
        return inflate(input, false, output);
    }
    let end = inflate(input, true, output);
    let mut bare = Output { body: Vec::new(), room: output.room };
    match (end, inflate(input, false, &mut bare)) {
        (End::Whole, End::Whole) => End::Broken,
        (End::Broken, End::Whole) => {
            *output = bare;
            End::Whole
        }
        (end, _) => end,
    }
}

fn inflate(input: &[u8], wrapped: bool, output: &mut Output) -> End {
    let mut decoder = Decompress::new(wrapped);
    let mut step = vec![0; STEP_BYTES];
    let mut rest = input;
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(rest, &mut step, FlushDecompress::None);
        let consumed = usize::try_from(decoder.total_in() - read).unwrap_or(usize::MAX);
        let made = usize::try_from(decoder.total_out() - written).unwrap_or(usize::MAX);
        rest = rest.get(consumed..).unwrap_or_default();
        if !output.take(step.get(..made).unwrap_or_default()) {
            return End::TooLarge;
        }
        match status {
            Ok(Status::StreamEnd) => return if rest.is_empty() { End::Whole } else { End::Broken },
            Ok(_) if consumed == 0 && made == 0 => return End::Cut,
            Ok(_) => {}
            Err(_) => return End::Broken,
        }
    }
}

fn unbrotli(input: &[u8], output: &mut Output) -> End {
    let alloc = StandardAlloc::default;
    // Strict: without the windows of up to 1 GiB that are no part of the content coding.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut step = vec![0; STEP_BYTES];
    let (mut left, mut read, mut total) = (input.len(), 0, 0);
    loop {
        let (mut room, mut made) = (step.len(), 0);
        let result = BrotliDecompressStream(
            &mut left, &mut read, input, &mut room, &mut made, &mut step, &mut total, &mut state,
        );
        if !output.take(step.get(..made).unwrap_or_default()) {
            return End::TooLarge;
        }
        match result {
            BrotliResult::ResultSuccess => return if left == 0 { End::Whole } else { End::Broken },
            BrotliResult::NeedsMoreInput => return End::Cut,
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return End::Broken,
        }
    }
}

fn unzstd(input: &[u8], output: &mut Output) -> End {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    let mut rest = input;
    if decoder.init(&mut rest).is_err() {
        return if input.len() < ZSTD_HEADER_BYTES_MAX { End::Cut } else { End::Broken };
    }
    let end = loop {
        // A block header says how long the block is: a block that is not here in full is the end of the body.
        if block_is_cut(rest) {
            break End::Cut;
        }
        let done = decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1));
        let collected = decoder.collect().unwrap_or_default();
        if !output.take(&collected) {
            return End::TooLarge;
        }
        match done {
            Ok(true) if !rest.is_empty() => return End::Broken,
            Ok(true) => break End::Whole,
            Ok(false) => {}
            Err(_) if rest.is_empty() => break End::Cut,
            Err(_) => break End::Broken,
        }
    };
    if end != End::Whole {
        // The decoder keeps its window back until the frame ends: an empty last block ends it.
        let _ = decoder.decode_blocks(EMPTY_LAST_BLOCK, BlockDecodingStrategy::UptoBlocks(1));
        if !output.take(&decoder.collect().unwrap_or_default()) {
            return End::TooLarge;
        }
        return end;
    }
    let checksum = decoder.get_checksum_from_data();
    if checksum.is_some() && checksum != decoder.get_calculated_checksum() { End::Broken } else { End::Whole }
}

/// Longest frame header with its magic number (RFC 8878 section 3.1.1).
const ZSTD_HEADER_BYTES_MAX: usize = 18;
/// A raw block of no bytes that is the last one, and room for a checksum.
const EMPTY_LAST_BLOCK: &[u8] = &[1, 0, 0, 0, 0, 0, 0];

/// Whether a block (RFC 8878 section 3.1.1.2) is not here in full.
fn block_is_cut(rest: &[u8]) -> bool {
    let [first, second, third, content @ ..] = rest else { return true };
    let header = u32::from(*first) | u32::from(*second) << 8 | u32::from(*third) << 16;
    let size = if header >> 1 & 3 == 1 { 1 } else { (header >> 3) as usize };
    content.len() < size
}
