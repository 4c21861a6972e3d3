//! An upgraded connection, or one that is carried as it is: bytes both ways until both sides are done, each side closing on its own.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::client::Client;
use crate::socket::Socket;
use crate::stop::Stop;

/// Bytes that went through.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    /// From the client.
    pub(crate) up: u64,
    /// To the client.
    pub(crate) down: u64,
}

/// Carries bytes until both directions have ended. A ban, a drain or silence ends it at once.
pub(crate) async fn carry(client: &mut Client, upstream: &mut Socket) -> (Carried, Result<(), Stop>) {
    let mut tunnel = Tunnel { up: Direction::default(), down: Direction::default() };
    let control = Rc::clone(&client.control);
    tunnel.allow_silence(client);
    let result = control.run(|cx| tunnel.poll(client, upstream, cx)).await;
    (Carried { up: tunnel.up.bytes, down: tunnel.down.bytes }, result)
}

struct Tunnel {
    up: Direction,
    down: Direction,
}

/// One way of a tunnel.
#[derive(Debug, Default)]
struct Direction {
    bytes: u64,
    ended: bool,
    closed: bool,
}

impl Tunnel {
    fn poll(
        &mut self,
        client: &mut Client,
        upstream: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        let worker = Rc::clone(&client.worker);
        let before = self.up.bytes + self.down.bytes;
        let polled = worker.with_scratch(|scratch| {
            let up = self.up.poll(&mut client.socket, upstream, scratch, cx)?;
            let down = self.down.poll(upstream, &mut client.socket, scratch, cx)?;
            Ok::<_, Stop>(up.is_ready() && down.is_ready())
        });
        if self.up.bytes + self.down.bytes != before {
            self.allow_silence(client);
        }
        match polled {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(stop) => Poll::Ready(Err(stop)),
        }
    }

    fn allow_silence(&self, client: &Client) {
        client.control.set_deadline(client.worker.after_ms(client.silence_ms()));
    }
}

impl Direction {
    /// Moves what there is; ready when this direction is closed.
    fn poll(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Stop> {
        // Bounded, so that a fast sender leaves room for other connections of the worker.
        for _ in 0..ROUNDS_MAX {
            match self.poll_once(from, to, scratch, cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(stop)) => return Err(stop),
                Poll::Ready(Ok(())) if self.closed => return Ok(Poll::Ready(())),
                Poll::Ready(Ok(())) => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    fn poll_once(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        if !from.input.is_empty() {
            self.bytes += from.input.len() as u64;
            to.output.extend_from_slice(&from.input);
            from.input.clear();
        }
        if !to.output.is_empty() {
            let mut progress = false;
            ready!(to.poll_flush(cx, &mut progress))?;
        }
        if self.ended {
            ready!(to.poll_shutdown(cx))?;
            self.closed = true;
        } else {
            self.ended = ready!(from.poll_fill(cx, scratch))? == 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads of one direction before others get a turn.
const ROUNDS_MAX: usize = 16;
