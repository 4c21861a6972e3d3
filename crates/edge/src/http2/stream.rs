//! A stream as a socket: request body in, response out.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::head::response_head;
use crate::http1::trailers;

/// One stream of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    request: RecvStream,
    respond: SendResponse<Bytes>,
    /// Where the response's body goes, once its head was sent.
    response: Option<SendStream<Bytes>>,
    /// No more output follows what is there, but for these field lines.
    ends: bool,
    trailers_out: Vec<u8>,
    /// Field lines behind the request's body.
    trailers_in: Vec<u8>,
    /// The end was sent.
    ended: bool,
    /// The client has reset it.
    given_up: bool,
    /// Its body broke the protocol.
    broken: bool,
}

impl Stream {
    pub(super) fn new(request: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            request,
            respond,
            response: None,
            ends: false,
            trailers_out: Vec::new(),
            trailers_in: Vec::new(),
            ended: false,
            given_up: false,
            broken: false,
        }
    }

    /// Reads what has come of the request's body; 0 at its end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Some(data) = ready!(self.request.poll_data(cx)) else {
                let found = ready!(self.request.poll_trailers(cx)).map_err(io::Error::other)?;
                self.trailers_in = found.map(|map| trailers::lines(&map)).unwrap_or_default();
                return Poll::Ready(Ok(0));
            };
            // Nothing ends a request's body but its client or the codec, as long as we have not.
            let data = data
                .inspect_err(|error| {
                    self.broken = error.is_library();
                    self.given_up = !self.ended;
                })
                .map_err(io::Error::other)?;
            // Read only when there is room for it: the client may send as much again.
            self.request.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            if !data.is_empty() {
                input.extend_from_slice(&data);
                return Poll::Ready(Ok(data.len()));
            }
        }
    }

    /// Sends the head that was written at `from` of the output, and takes it out. `ends`: no body follows.
    pub(crate) fn send_head(&mut self, output: &mut Vec<u8>, from: usize, ends: bool) -> io::Result<()> {
        let written = output.get(from..).unwrap_or_default();
        let (response, bytes) = response_head(written).ok_or(io::ErrorKind::InvalidData)?;
        output.drain(from..from + bytes);
        if response.status().is_informational() {
            return self.respond.send_informational(response).map_err(io::Error::other);
        }
        self.response = Some(self.respond.send_response(response, ends).map_err(io::Error::other)?);
        self.ended = ends;
        Ok(())
    }

    /// Notes that what is in the output is the last of the response, but for these field lines.
    pub(crate) fn end(&mut self, trailers: Vec<u8>) {
        self.ends = true;
        self.trailers_out = trailers;
    }

    /// The field lines behind the request's body.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers_in
    }

    /// Whether the end is still to be sent.
    pub(crate) fn owes_end(&self) -> bool {
        self.ends && !self.ended
    }

    /// Sends the output as far as the client takes it.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        output: &mut Vec<u8>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !output.is_empty() {
            response.reserve_capacity(output.len());
            let room = match ready!(response.poll_capacity(cx)) {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
            let data = match room >= output.len() {
                true => std::mem::take(output),
                false => output.drain(..room).collect(),
            };
            let last = self.ends && output.is_empty() && self.trailers_out.is_empty();
            response.send_data(data.into(), last).map_err(io::Error::other)?;
            self.ended |= last;
            *progress = true;
        }
        if self.ends && !self.ended {
            if self.trailers_out.is_empty() {
                response.send_data(Bytes::new(), true).map_err(io::Error::other)?;
            } else {
                response.send_trailers(trailers::map(&self.trailers_out)).map_err(io::Error::other)?;
            }
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has given the stream up.
    pub(crate) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.response {
            Some(response) => response.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        self.given_up |= reset.is_ready() && !self.ended;
        // Most often by the codec: data without end is more than was announced.
        self.broken |= matches!(&reset, Poll::Ready(Ok(Reason::PROTOCOL_ERROR)));
        reset.map(drop)
    }

    /// Whether its body is not what its head announced, or ends in what may not stand there.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether it was seen that the client has given the stream up before it was answered.
    pub(crate) fn was_given_up(&self) -> bool {
        self.given_up
    }
}

/// What was not answered whole is reset, so that the client does not take it for whole.
impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}
