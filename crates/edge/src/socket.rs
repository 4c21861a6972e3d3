//! A connection, or a stream of one, with what was read and not yet used, and what is to be written.
//!
//! Memory: input is read into the worker's scratch space and copied out in its exact size, output buffers go back to
//! the worker; so an idle connection holds no buffer at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http2::Stream;
use crate::wire::Wire;

/// A connection to a client or an upstream.
#[derive(Debug)]
pub(crate) struct Socket {
    transport: Transport,
    /// Read and not yet used.
    pub(crate) input: BytesMut,
    /// To be written. Shortened by [`Socket::poll_flush`] and [`Socket::take_output`] only, because `flushed` counts into it.
    pub(crate) output: Vec<u8>,
    flushed: usize,
    /// Bytes were written.
    sent: bool,
}

/// What carries the bytes.
#[derive(Debug)]
enum Transport {
    Wire(Wire),
    Stream(Box<Stream>),
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Small writes are whole messages here; waiting for more (Nagle) only adds delay. Failing is harmless.
        let _ = stream.set_nodelay(true);
        Self::of_wire(Wire::Tcp(stream))
    }

    /// A connection to an upstream.
    pub(crate) fn of_wire(wire: Wire) -> Self {
        Self::over(Transport::Wire(wire))
    }

    /// One stream of an HTTP/2 connection.
    pub(crate) fn of_stream(stream: Stream) -> Self {
        Self::over(Transport::Stream(Box::new(stream)))
    }

    fn over(transport: Transport) -> Self {
        Self { transport, input: BytesMut::new(), output: Vec::new(), flushed: 0, sent: false }
    }

    /// Reads once and appends to `input`; 0 at the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let stream = match &mut self.transport {
            Transport::Wire(stream) => stream,
            Transport::Stream(stream) => return stream.poll_read(cx, &mut self.input),
        };
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled();
        if self.input.is_empty() {
            self.input = BytesMut::from(filled);
        } else {
            self.input.extend_from_slice(filled);
        }
        Poll::Ready(Ok(filled.len()))
    }

    /// Drops used bytes off the front of `input`.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.input.advance(bytes.min(self.input.len()));
    }

    /// Writes all of `output`. `progress` tells whether this call wrote anything.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, progress: &mut bool) -> Poll<io::Result<()>> {
        let stream = match &mut self.transport {
            Transport::Wire(stream) => stream,
            Transport::Stream(stream) => return stream.poll_write(cx, &mut self.output, progress),
        };
        while let Some(rest) = self.output.get(self.flushed..)
            && !rest.is_empty()
        {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.sent = true;
            self.flushed += written;
        }
        self.output.clear();
        self.flushed = 0;
        Poll::Ready(Ok(()))
    }

    /// Whether any bytes were written since this was asked for last.
    pub(crate) fn has_sent(&mut self) -> bool {
        std::mem::take(&mut self.sent)
    }

    /// Takes the output buffer out, with whatever was not written; the socket starts afresh.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        self.flushed = 0;
        std::mem::take(&mut self.output)
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Wire(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// A head was written at `from` of the output; `ends` says that no body follows. Only a stream has it apart from bodies.
    pub(crate) fn head_written(&mut self, from: usize, ends: bool) -> io::Result<()> {
        match &mut self.transport {
            Transport::Wire(_) => Ok(()),
            Transport::Stream(stream) => stream.send_head(&mut self.output, from, ends),
        }
    }

    /// The output holds all that is left of a response.
    pub(crate) fn response_written(&mut self) {
        if let Transport::Stream(stream) = &mut self.transport {
            stream.end();
        }
    }

    /// Whether there is something to flush.
    pub(crate) fn has_output(&self) -> bool {
        let owes_end = matches!(&self.transport, Transport::Stream(stream) if stream.owes_end());
        owes_end || !self.output.is_empty()
    }

    /// Whether this is one stream of a connection.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.transport, Transport::Stream(_))
    }

    /// Ready when the client has given its stream up.
    pub(crate) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.transport {
            Transport::Wire(_) => Poll::Pending,
            Transport::Stream(stream) => stream.poll_given_up(cx),
        }
    }

    /// Whether it was seen that the client has given its stream up.
    pub(crate) fn was_given_up(&self) -> bool {
        matches!(&self.transport, Transport::Stream(stream) if stream.was_given_up())
    }

    /// Whether an idle connection is still good: open, and nothing unasked for has arrived.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let Transport::Wire(stream) = &mut self.transport else { return false };
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        self.input.is_empty() && Pin::new(stream).poll_read(cx, &mut buffer).is_pending()
    }
}

/// As bytes, for a codec that frames them itself: first what was read already.
impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.input.is_empty() {
            let bytes = self.input.len().min(buffer.remaining());
            buffer.put_slice(&self.input.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Wire(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Stream(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Wire(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Stream(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Wire(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Stream(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(&self.transport, Transport::Wire(stream) if stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_shutdown(&mut self, cx)
    }
}
