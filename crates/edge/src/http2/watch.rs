//! Looks at the bytes that pass between an HTTP/2 connection and its codec: how the client begins, and which streams the codec
//! refuses by itself. It tells nobody of either.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Metered;
use super::print::{self, OPENING_BYTES_MAX, Opening};

/// What was seen of a connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// How it begins, once that is known.
    print: RefCell<Option<Arc<str>>>,
    /// Nothing more is to be learnt from what the client sends.
    opened: Cell<bool>,
    opening: RefCell<Vec<u8>>,
    written: RefCell<Frames>,
    refused: RefCell<Vec<Refused>>,
}

/// A stream that was reset because it broke the protocol, or that was answered by a head alone. If nobody has served it, the codec has
/// refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) stream: u32,
    /// By a head: the codec's own answer to one that is too large.
    pub(super) answered: bool,
}

impl Watch {
    pub(super) fn print(&self) -> Option<Arc<str>> {
        self.print.borrow().clone()
    }

    /// The streams that may have been refused, since this was asked for last.
    pub(super) fn take_refused(&self) -> Vec<Refused> {
        match self.refused.try_borrow_mut() {
            Ok(mut refused) if !refused.is_empty() => std::mem::take(&mut refused),
            _ => Vec::new(),
        }
    }

    fn read(&self, bytes: &[u8]) {
        if self.opened.get() {
            return;
        }
        let mut opening = self.opening.borrow_mut();
        let room = OPENING_BYTES_MAX.saturating_sub(opening.len());
        opening.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        match print::read(&opening) {
            Opening::Incomplete => return,
            Opening::Print(print) => *self.print.borrow_mut() = Some(print.into()),
            Opening::None => {}
        }
        self.opened.set(true);
        *opening = Vec::new();
    }

    fn wrote(&self, bytes: &[u8]) {
        self.written.borrow_mut().follow(bytes, &mut self.refused.borrow_mut());
    }
}

/// Where the codec's output stands within its frames.
#[derive(Debug, Default)]
struct Frames {
    /// A frame's header, and for a reset its reason, as far as it has come.
    start: [u8; RESET_BYTES],
    have: usize,
    /// What is left of a payload that is not looked at.
    skip: usize,
}

impl Frames {
    fn follow(&mut self, mut bytes: &[u8], refused: &mut Vec<Refused>) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = if self.is_reset() { RESET_BYTES } else { HEADER_BYTES };
            for (place, byte) in self.start.iter_mut().take(wanted).skip(self.have).zip(bytes) {
                *place = *byte;
            }
            let taken = (wanted - self.have).min(bytes.len());
            bytes = bytes.get(taken..).unwrap_or_default();
            self.have += taken;
            if self.have == wanted && (wanted == RESET_BYTES || !self.is_reset()) {
                self.end_frame(refused);
            }
        }
    }

    /// Whether the frame under way is a reset, of which the reason is wanted too.
    fn is_reset(&self) -> bool {
        let [a, b, c, kind, ..] = self.start;
        self.have >= HEADER_BYTES && kind == RST_STREAM && [a, b, c] == [0, 0, 4]
    }

    fn end_frame(&mut self, refused: &mut Vec<Refused>) {
        let [a, b, c, kind, flags, s0, s1, s2, s3, reason @ ..] = self.start;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let reset = self.have == RESET_BYTES;
        if reset && u32::from_be_bytes(reason) == PROTOCOL_ERROR {
            refused.push(Refused { stream, answered: false });
        }
        if kind == HEADERS && flags & END_STREAM != 0 {
            refused.push(Refused { stream, answered: true });
        }
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or_default();
        self.skip = if reset { 0 } else { length };
        self.have = 0;
    }
}

/// A connection's bytes, with a watch on them.
pub(super) struct Watched<'a> {
    socket: Metered<'a>,
    watch: Rc<Watch>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(socket: Metered<'a>, watch: &Rc<Watch>) -> Self {
        Self { socket, watch: Rc::clone(watch) }
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(AsyncRead::poll_read(Pin::new(&mut self.socket), cx, buffer))?;
        self.watch.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.socket), cx, bytes))?;
        self.watch.wrote(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write_vectored(Pin::new(&mut self.socket), cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            self.watch.wrote(slice.get(..part).unwrap_or_default());
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.socket), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.socket), cx)
    }
}

const HEADER_BYTES: usize = 9;
/// With the reason.
const RESET_BYTES: usize = 13;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn resets_and_bare_answers_are_seen_however_they_are_cut() {
        let output = [
            frame(4, 0, 0, &[0; 12]),
            frame(0, 1, 1, &[3; 40]),
            frame(3, 0, 3, &[0, 0, 0, 8]),
            frame(3, 0, 5, &[0, 0, 0, 1]),
            frame(1, 4, 7, b"head"),
            frame(1, 5, 9, b"head"),
            frame(6, 0, 0, &[0; 8]),
        ]
        .concat();
        for piece in 1..=output.len() {
            let (mut frames, mut refused) = (Frames::default(), Vec::new());
            output.chunks(piece).for_each(|bytes| frames.follow(bytes, &mut refused));
            let expected = [Refused { stream: 5, answered: false }, Refused { stream: 9, answered: true }];
            assert_eq!(refused, expected, "in pieces of {piece}");
        }
    }
}
