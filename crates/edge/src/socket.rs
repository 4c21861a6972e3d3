//! A connection, with TLS or without, or a stream of one, with what was read and not yet used, and what is to be written.
//!
//! Memory: input is read into the worker's scratch space and copied out in its exact size, output buffers go back to
//! the worker; so an idle connection holds no buffer at all.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http2::{Call, Stream};
use crate::tls::session::{Session, SessionError};
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
    /// With TLS, where that was begun.
    Wire(Wire, Option<Box<Session>>),
    /// A client's request on a connection with others.
    Stream(Box<Stream>),
    /// Nothing: what is written stays in the output.
    Memory,
    /// Ours to an upstream.
    Call(Box<Call>),
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Small writes are whole messages here; waiting for more (Nagle) only adds delay. Failing is harmless.
        let _ = stream.set_nodelay(true);
        Self::of_wire(Wire::Tcp(stream))
    }

    /// A connection to an upstream.
    pub(crate) fn of_wire(wire: Wire) -> Self {
        Self::over(Transport::Wire(wire, None))
    }

    /// One stream of an HTTP/2 connection.
    pub(crate) fn of_stream(stream: Stream) -> Self {
        Self::over(Transport::Stream(Box::new(stream)))
    }

    /// No connection: nothing comes, and what is written stays in the output.
    pub(crate) fn of_memory() -> Self {
        Self::over(Transport::Memory)
    }

    /// One request on an upstream's HTTP/2 connection.
    pub(crate) fn of_call(call: Call) -> Self {
        Self::over(Transport::Call(Box::new(call)))
    }

    /// Takes it out; what is left in its place reads and writes nothing.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::of_wire(Wire::Gone))
    }

    fn over(transport: Transport) -> Self {
        Self { transport, input: BytesMut::new(), output: Vec::new(), flushed: 0, sent: false }
    }

    /// Goes on with TLS: a handshake comes next.
    pub(crate) fn start_tls(&mut self, session: Session) {
        if let Transport::Wire(_, tls) = &mut self.transport {
            *tls = Some(Box::new(session));
        }
    }

    /// What was agreed on, where there is TLS.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.transport {
            Transport::Wire(_, session) => session.as_deref(),
            Transport::Stream(_) | Transport::Call(_) | Transport::Memory => None,
        }
    }

    /// Takes a connection through a handshake on a runtime's thread that has no buffer at hand. The caller limits the time.
    pub(crate) async fn shake_hands(&mut self) -> Result<(), SessionError> {
        poll_fn(|cx| RECORDS.with_borrow_mut(|scratch| self.poll_handshake(cx, scratch))).await
    }

    /// Goes on with the handshake; ready when it is over.
    pub(crate) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<(), SessionError>> {
        match &mut self.transport {
            Transport::Wire(stream, Some(session)) => {
                session.poll_handshake(stream, cx, scratch, &mut self.input)
            }
            Transport::Wire(_, None) | Transport::Stream(_) | Transport::Call(_) | Transport::Memory => {
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Takes a buffer to encrypt into, where there is TLS and it has none.
    pub(crate) fn borrow_buffer(&mut self, lend: impl FnOnce() -> Vec<u8>) {
        if let Transport::Wire(_, Some(session)) = &mut self.transport {
            session.borrow_buffer(lend);
        }
    }

    /// Gives that buffer back, if nothing in it waits.
    pub(crate) fn return_buffer(&mut self) -> Vec<u8> {
        match &mut self.transport {
            Transport::Wire(_, Some(session)) => session.return_buffer(),
            Transport::Wire(_, None) | Transport::Stream(_) | Transport::Call(_) | Transport::Memory => {
                Vec::new()
            }
        }
    }

    /// Reads once and appends to `input`; 0 at the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let stream = match &mut self.transport {
            Transport::Wire(stream, None) => stream,
            Transport::Wire(stream, Some(session)) => {
                return session.poll_fill(stream, cx, scratch, &mut self.input);
            }
            Transport::Stream(stream) => return stream.poll_read(cx, &mut self.input),
            Transport::Memory => return Poll::Ready(Ok(0)),
            Transport::Call(call) => return call.poll_read(cx, &mut self.input),
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
        if self.input.is_empty() {
            // The next read brings its own memory; what waits for a slow reader should not keep this, too.
            self.input = BytesMut::new();
        }
    }

    /// Writes all of `output`. `progress` tells whether this call wrote anything.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, progress: &mut bool) -> Poll<io::Result<()>> {
        let stream = match &mut self.transport {
            Transport::Wire(stream, None) => stream,
            Transport::Wire(stream, Some(session)) => {
                let output = (self.output.as_slice(), &mut self.flushed);
                let mut wrote = false;
                let flushed = session.poll_flush(stream, cx, output, &mut wrote);
                *progress |= wrote;
                self.sent |= wrote;
                ready!(flushed)?;
                stream
            }
            Transport::Stream(stream) => return stream.poll_write(cx, &mut self.output, progress),
            Transport::Memory => return Poll::Ready(Ok(())),
            Transport::Call(call) => return call.poll_write(cx, &mut self.output, progress),
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

    /// How much of the output is not written yet.
    pub(crate) fn unwritten(&self) -> usize {
        self.output.len().saturating_sub(self.flushed)
    }

    /// Whether any bytes were written since this was asked for last.
    pub(crate) fn has_sent(&mut self) -> bool {
        let in_call = matches!(&self.transport, Transport::Call(call) if call.was_sent());
        std::mem::take(&mut self.sent) || in_call
    }

    /// Takes the output buffer out, with whatever was not written; the socket starts afresh.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        self.flushed = 0;
        std::mem::take(&mut self.output)
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Wire(stream, None) => Pin::new(stream).poll_shutdown(cx),
            Transport::Wire(stream, Some(session)) => session.poll_shutdown(stream, cx),
            Transport::Stream(_) | Transport::Call(_) | Transport::Memory => Poll::Ready(Ok(())),
        }
    }

    /// A head was written at `from` of the output; `ends` says that no body follows. Only a stream has it apart from bodies.
    pub(crate) fn head_written(&mut self, from: usize, ends: bool) -> io::Result<()> {
        match &mut self.transport {
            Transport::Wire(..) | Transport::Call(_) | Transport::Memory => Ok(()),
            Transport::Stream(stream) => stream.send_head(&mut self.output, from, ends),
        }
    }

    /// The head of a request to an upstream was written at the start of the output; `ends` says that no body follows. False: it
    /// cannot be sent so.
    pub(crate) fn request_written(&mut self, ends: bool) -> bool {
        match &mut self.transport {
            Transport::Call(call) => call.send_head(&mut self.output, ends),
            Transport::Wire(..) | Transport::Stream(_) | Transport::Memory => true,
        }
    }

    /// The output holds all that is left of a message but for these field lines, which HTTP/1 has in it already.
    pub(crate) fn end_written(&mut self, trailers: Vec<u8>) {
        match &mut self.transport {
            Transport::Wire(..) | Transport::Memory => {}
            Transport::Stream(stream) => stream.end(trailers),
            Transport::Call(call) => call.end(trailers),
        }
    }

    /// The field lines behind the body that was read, where its codec does not have them.
    pub(crate) fn trailers(&self) -> &[u8] {
        match &self.transport {
            Transport::Wire(..) | Transport::Memory => &[],
            Transport::Stream(stream) => stream.trailers(),
            Transport::Call(call) => call.trailers(),
        }
    }

    /// Whether there is something to flush.
    pub(crate) fn has_output(&self) -> bool {
        let owes_end = match &self.transport {
            Transport::Wire(..) | Transport::Memory => false,
            Transport::Stream(stream) => stream.owes_end(),
            Transport::Call(call) => call.owes_end(),
        };
        owes_end || !self.output.is_empty()
    }

    /// The request of ours that this is on an upstream's HTTP/2 connection, if it is one.
    pub(crate) fn call(&self) -> Option<&Call> {
        match &self.transport {
            Transport::Call(call) => Some(call),
            Transport::Wire(..) | Transport::Stream(_) | Transport::Memory => None,
        }
    }

    /// Whether this is one stream of a connection.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.transport, Transport::Stream(_))
    }

    /// Ready when the client has given its stream up.
    pub(crate) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.transport {
            Transport::Wire(..) | Transport::Call(_) | Transport::Memory => Poll::Pending,
            Transport::Stream(stream) => stream.poll_given_up(cx),
        }
    }

    /// Whether this is a stream whose body breaks the protocol.
    pub(crate) fn is_broken_stream(&self) -> bool {
        matches!(&self.transport, Transport::Stream(stream) if stream.is_broken())
    }

    /// Whether it was seen that the client has given its stream up.
    pub(crate) fn was_given_up(&self) -> bool {
        matches!(&self.transport, Transport::Stream(stream) if stream.was_given_up())
    }

    /// Whether an idle connection is still good: open, and nothing unasked for has arrived.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.transport {
            Transport::Wire(stream, None) => {
                let mut byte = [0; 1];
                let mut buffer = ReadBuf::new(&mut byte);
                self.input.is_empty() && Pin::new(stream).poll_read(cx, &mut buffer).is_pending()
            }
            // Tickets for later sessions may have arrived, which are read on the way.
            Transport::Wire(_, Some(_)) => {
                let filled = RECORDS.with_borrow_mut(|scratch| self.poll_fill(cx, scratch));
                filled.is_pending() && self.input.is_empty()
            }
            Transport::Stream(_) | Transport::Call(_) | Transport::Memory => false,
        }
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
            Transport::Wire(stream, None) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Wire(_, Some(_)) => {
                // The worker's buffer is not at hand here.
                let filled = RECORDS
                    .with_borrow_mut(|scratch| Socket::poll_fill(&mut self, cx, scratch.as_mut_slice()));
                let read = ready!(filled)?;
                let bytes = read.min(buffer.remaining());
                buffer.put_slice(self.input.get(..bytes).unwrap_or_default());
                self.consume(bytes);
                Poll::Ready(Ok(()))
            }
            Transport::Stream(_) | Transport::Call(_) | Transport::Memory => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Wire(stream, None) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Wire(stream, Some(session)) => {
                let mut taken = 0;
                let written = session.poll_flush(stream, cx, (bytes, &mut taken), &mut false);
                match written {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    // What is encrypted is taken: it goes out with the next write or flush.
                    _ if taken > 0 => Poll::Ready(Ok(taken)),
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(0)),
                    Poll::Pending => Poll::Pending,
                }
            }
            Transport::Stream(_) | Transport::Call(_) | Transport::Memory => {
                Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Wire(stream, None) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Wire(_, Some(_)) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                AsyncWrite::poll_write(self, cx, first.map_or(&[], |slice| slice))
            }
            Transport::Stream(_) | Transport::Call(_) | Transport::Memory => {
                Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(&self.transport, Transport::Wire(stream, None) if stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Wire(stream, Some(session)) => {
                session.poll_flush(stream, cx, (&[], &mut 0), &mut false)
            }
            Transport::Wire(_, None) | Transport::Stream(_) | Transport::Call(_) | Transport::Memory => {
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_shutdown(&mut self, cx)
    }
}

thread_local! {
    /// Where records are decrypted for a codec that reads by itself: room for two of them.
    static RECORDS: RefCell<Vec<u8>> = RefCell::new(vec![0; 36 * 1024]);
}
