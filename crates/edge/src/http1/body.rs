//! Where a body ends: by length, by chunks (RFC 9112 section 7.1), or with its connection. Strict: what another parser
//! might read differently is a fault.

use std::ops::Range;

use phalanx_model::FramingFault;

/// Follows a body through its bytes without keeping any.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    overhead: usize,
    /// Field lines behind the last chunk, each with its end.
    trailers: Vec<u8>,
}

/// What one look at the input found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How many bytes of the input are done with.
    pub consumed: usize,
    /// Which of them are body.
    pub data: Range<usize>,
}

impl BodyDecoder {
    /// A body of exactly this many bytes.
    pub fn length(bytes: u64) -> Self {
        Self::of(if bytes == 0 { State::Done } else { State::Length(bytes) })
    }

    /// A chunked body.
    pub fn chunked() -> Self {
        Self::of(State::Size { value: 0, digits: 0 })
    }

    /// A body that ends with its connection.
    pub fn until_close() -> Self {
        Self::of(State::UntilClose)
    }

    fn of(state: State) -> Self {
        Self { state, overhead: 0, trailers: Vec::new() }
    }

    /// The field lines that came behind the last chunk, each with its end; complete when the body is.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection completes the body.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Bytes still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Looks at the input: skips framing up to the next stretch of body, and returns that stretch. Call again with
    /// what was not consumed; a step that consumes nothing means that more input is needed.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, FramingFault> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            let available = input.len() - at;
            match self.state {
                State::Done => break,
                State::UntilClose => return Ok(Step { consumed: input.len(), data: at..input.len() }),
                State::Length(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Step { consumed: at + taken, data: at..at + taken });
                }
                State::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    return Ok(Step { consumed: at + taken, data: at..at + taken });
                }
                _ => {
                    self.state = self.framing_byte(byte)?;
                    at += 1;
                }
            }
        }
        Ok(Step { consumed: at, data: at..at })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<State, FramingFault> {
        let next = match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits >= SIZE_DIGITS_MAX {
                    return Err(FramingFault::BadChunk);
                }
                State::Size { value: value << 4 | u64::from(hex_digit(byte)), digits: digits + 1 }
            }
            (State::Size { value, digits: 1.. }, b'\r') => State::SizeLf { value },
            (State::Size { value, digits: 1.. }, b';') => self.spend(State::Extension { value })?,
            (State::Extension { value }, b'\r') => State::SizeLf { value },
            (State::Extension { value }, b'\t' | b' '..=b'~') => self.spend(State::Extension { value })?,
            (State::SizeLf { value: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { value }, b'\n') => State::Data(value),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (State::TrailerStart | State::TrailerName, _) if super::fields::is_token_byte(byte) => {
                self.spend_trailer(byte, State::TrailerName)?
            }
            (State::TrailerName, b':') => self.spend_trailer(byte, State::TrailerValue)?,
            (State::TrailerValue, b'\r') => self.spend_trailer(byte, State::TrailerLf)?,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.spend_trailer(byte, State::TrailerValue)?
            }
            (State::TrailerLf, b'\n') => self.spend_trailer(byte, State::TrailerStart)?,
            _ => return Err(FramingFault::BadChunk),
        };
        Ok(next)
    }

    /// Keeps a byte of a trailer.
    fn spend_trailer(&mut self, byte: u8, next: State) -> Result<State, FramingFault> {
        let next = self.spend(next)?;
        self.trailers.push(byte);
        Ok(next)
    }

    /// Counts a byte of extension, which is dropped, or of a trailer.
    fn spend(&mut self, next: State) -> Result<State, FramingFault> {
        self.overhead += 1;
        if self.overhead > OVERHEAD_BYTES_MAX { Err(FramingFault::BadChunk) } else { Ok(next) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

/// Hexadecimal digits of a chunk size: 15 cannot overflow 64 bits.
const SIZE_DIGITS_MAX: u8 = 15;
/// Extension and trailer bytes in one body. Few send any; long ones hide bytes from other parsers and burn time
/// (CVE-2023-39326).
const OVERHEAD_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes the whole input, cut into pieces of `piece` bytes; returns body and rest.
    fn decode(
        mut decoder: BodyDecoder,
        input: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, usize, bool), FramingFault> {
        let (mut body, mut start, mut end) = (Vec::new(), 0, 0);
        loop {
            let step = decoder.step(&input[start..end])?;
            body.extend_from_slice(&input[start..end][step.data.clone()]);
            start += step.consumed;
            if decoder.is_done() {
                return Ok((body, input.len() - start, true));
            }
            if step.consumed == 0 || start == end {
                if end == input.len() {
                    return Ok((body, input.len() - start, false));
                }
                end = (end + piece).min(input.len());
            }
        }
    }

    #[track_caller]
    fn check(input: &str, expected: Result<&str, FramingFault>) {
        for piece in [1, 2, 7, usize::MAX / 2] {
            let got = decode(BodyDecoder::chunked(), input.as_bytes(), piece);
            match (&got, expected) {
                (Ok((body, 0, true)), Ok(text)) => assert_eq!(body, text.as_bytes(), "{input:?}"),
                (Err(fault), Err(expected)) => assert_eq!(*fault, expected, "{input:?}"),
                _ => panic!("{input:?} gave {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn chunked_bodies_are_read() {
        check("0\r\n\r\n", Ok(""));
        check("5\r\nhello\r\n0\r\n\r\n", Ok("hello"));
        check("1\r\na\r\n00002\r\nbc\r\n0\r\n\r\n", Ok("abc"));
        check("A\r\n0123456789\r\n0\r\n\r\n", Ok("0123456789"));
        check("5;name=value\r\nhello\r\n0;last\r\n\r\n", Ok("hello"));
        check("5;q=\"a b\"\r\nhello\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n", Ok("hello"));
    }

    #[test]
    fn ambiguous_chunks_are_faults() {
        let bad = Err(FramingFault::BadChunk);
        for input in [
            "\r\n",
            "x\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-1\r\n",
            "+5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "5\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\r\r\n",
            "5\rhello",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5;\0\r\nhello\r\n",
            "0000000000000005\r\nhello\r\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: no name\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nName : value\r\n\r\n",
            "0\r\nName: a\nb\r\n\r\n",
            "0\r\nName: a\0b\r\n\r\n",
            "0\r\n\n",
            "0\n\r\n",
        ] {
            check(input, bad);
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = "a".repeat(OVERHEAD_BYTES_MAX);
        check(&format!("5;{long}\r\nhello\r\n0\r\n\r\n"), Err(FramingFault::BadChunk));
        check(&format!("0\r\nName: {long}\r\n\r\n"), Err(FramingFault::BadChunk));
        let many: String = std::iter::repeat_n("1;extension\r\na\r\n", OVERHEAD_BYTES_MAX / 8).collect();
        check(&format!("{many}0\r\n\r\n"), Err(FramingFault::BadChunk));
    }

    #[test]
    fn a_length_ends_before_what_follows() {
        let got = decode(BodyDecoder::length(5), b"helloGET / HTTP/1.1", 3).unwrap();
        assert_eq!(got, (b"hello".to_vec(), 14, true));
        assert_eq!(decode(BodyDecoder::length(0), b"GET", 3).unwrap().1, 3);
    }

    proptest! {
        #[test]
        fn any_bytes_and_any_split_give_the_same_body(input: Vec<u8>, piece in 1usize..9) {
            let whole = decode(BodyDecoder::chunked(), &input, usize::MAX / 2);
            prop_assert_eq!(decode(BodyDecoder::chunked(), &input, piece), whole);
        }

        #[test]
        fn what_is_encoded_is_decoded(chunks: Vec<Vec<u8>>, piece in 1usize..50) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                crate::http1::encode::chunk(&mut wire, chunk);
            }
            crate::http1::encode::last_chunk_with(&mut wire, &[]);
            let got = decode(BodyDecoder::chunked(), &wire, piece);
            prop_assert_eq!(got, Ok((chunks.concat(), 0, true)));
        }
    }
}
