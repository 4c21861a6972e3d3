//! A connection whose peer must take what is written to it: one that reads nothing is ended, and its place is free for another.
//!
//! Without it a peer that asks and never reads holds a connection for ever, and an ended session's stream, which is looked at when the next
//! event is written, never ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream, and how long a write has waited.
pub(crate) struct Patient<S> {
    stream: S,
    most: Duration,
    /// Made with the first write that waits.
    until: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl<S> Patient<S> {
    /// Ends with an error when a write waits for longer than `most`.
    pub(crate) fn of(stream: S, most: Duration) -> Self {
        Self { stream, most, until: None, waits: false }
    }

    /// What a write came to: while it waits, the time runs.
    fn timed<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(self.most)));
        if !self.waits {
            until.as_mut().reset(Instant::now() + self.most);
            self.waits = true;
        }
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.timed(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.timed(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.timed(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const MOST: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_ended_and_who_is_slow_is_not() {
        let (near, mut far) = duplex(4);
        let mut near = Patient::of(near, MOST);
        let began = Instant::now();
        // Each byte takes nearly as long as all may wait.
        let reads = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(MOST - Duration::from_secs(1)).await;
                far.read_u8().await.unwrap();
            }
            far
        });
        near.write_all(b"12345678").await.unwrap();
        let _far = reads.await.unwrap();
        assert!(began.elapsed() > MOST * 3);
        let refused = near.write_all(b"9").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }
}
