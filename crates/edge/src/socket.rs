//! A TCP stream, with TLS or without, with what was read and not yet used, and what is to be written.
//!
//! Memory: input is read into the worker's scratch space and copied out in its exact size, output buffers go back to
//! the worker; so an idle connection holds no buffer at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::session::{Session, SessionError};

/// A connection to a client or an upstream.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// What is between the stream and `input` and `output`, where there is TLS.
    tls: Option<Box<Session>>,
    /// Read and not yet used.
    pub(crate) input: BytesMut,
    /// To be written. Shortened by [`Socket::poll_flush`] and [`Socket::take_output`] only, because `flushed` counts into it.
    pub(crate) output: Vec<u8>,
    flushed: usize,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Small writes are whole messages here; waiting for more (Nagle) only adds delay. Failing is harmless.
        let _ = stream.set_nodelay(true);
        Self { stream, tls: None, input: BytesMut::new(), output: Vec::new(), flushed: 0 }
    }

    /// Goes on with TLS: a handshake comes next.
    pub(crate) fn start_tls(&mut self, session: Session) {
        self.tls = Some(Box::new(session));
    }

    /// What was agreed on, where there is TLS.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// Goes on with the handshake; ready when it is over.
    pub(crate) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<(), SessionError>> {
        match &mut self.tls {
            Some(session) => session.poll_handshake(&mut self.stream, cx, scratch, &mut self.input),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Reads once and appends to `input`; 0 at the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(session) = &mut self.tls {
            return session.poll_fill(&mut self.stream, cx, scratch, &mut self.input);
        }
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
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
        if let Some(session) = &mut self.tls {
            let output = (self.output.as_slice(), &mut self.flushed);
            ready!(session.poll_flush(&mut self.stream, cx, output, progress))?;
        }
        while let Some(rest) = self.output.get(self.flushed..)
            && !rest.is_empty()
        {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.flushed += written;
        }
        self.output.clear();
        self.flushed = 0;
        Poll::Ready(Ok(()))
    }

    /// Takes the output buffer out, with whatever was not written; the socket starts afresh.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        self.flushed = 0;
        std::mem::take(&mut self.output)
    }

    /// Takes a buffer to encrypt into, where there is TLS and it has none.
    pub(crate) fn borrow_buffer(&mut self, lend: impl FnOnce() -> Vec<u8>) {
        if let Some(session) = &mut self.tls {
            session.borrow_buffer(lend);
        }
    }

    /// Gives that buffer back, if nothing in it waits.
    pub(crate) fn return_buffer(&mut self) -> Vec<u8> {
        self.tls.as_mut().map(|session| session.return_buffer()).unwrap_or_default()
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(session) => session.poll_shutdown(&mut self.stream, cx),
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }

    /// Whether an idle connection is still good: open, and nothing unasked for has arrived.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        if self.tls.is_some() {
            return false;
        }
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        self.input.is_empty() && Pin::new(&mut self.stream).poll_read(cx, &mut buffer).is_pending()
    }
}
