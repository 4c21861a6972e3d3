//! One request on an upstream's connection, as a socket: request out, response in.
//!
//! The request is taken from what was written down as HTTP/1; the response's head is written down as HTTP/1 and read by the same codec
//! as any other, so that what is refused there is refused here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::pool::Place;
use crate::http1::{FieldKind, trailers};

/// A request and its response.
pub(crate) struct Call {
    /// Until the request's head is sent.
    sender: Option<SendRequest<Bytes>>,
    place: Place,
    https: bool,
    response: Option<ResponseFuture>,
    /// Where the request's body goes.
    outgoing: Option<SendStream<Bytes>>,
    /// Where the response's body comes from.
    incoming: Option<RecvStream>,
    ends: bool,
    ended: bool,
    trailers_out: Vec<u8>,
    trailers_in: Vec<u8>,
    /// The upstream says that it did nothing about the request.
    refused: bool,
}

impl Call {
    pub(super) fn new(sender: SendRequest<Bytes>, place: Place, https: bool) -> Self {
        Self {
            sender: Some(sender),
            place,
            https,
            response: None,
            outgoing: None,
            incoming: None,
            ends: false,
            ended: false,
            trailers_out: Vec::new(),
            trailers_in: Vec::new(),
            refused: false,
        }
    }

    /// Sends the head that is written at the start of `output`, and takes it out. `ends`: no body follows. False: HTTP/2 has no way to
    /// say this.
    pub(crate) fn send_head(&mut self, output: &mut Vec<u8>, ends: bool) -> bool {
        let (Some((request, bytes)), Some(mut sender)) =
            (request_head(output, self.https), self.sender.take())
        else {
            return false;
        };
        output.drain(..bytes);
        match sender.send_request(request, ends) {
            Ok((response, outgoing)) => {
                (self.response, self.outgoing) = (Some(response), Some(outgoing));
                self.ended = ends;
            }
            // Reading the response tells.
            Err(error) => drop(self.note(error)),
        }
        true
    }

    /// Notes that what is in the output is the last of the request, but for these field lines.
    pub(crate) fn end(&mut self, trailers: Vec<u8>) {
        self.ends = true;
        self.trailers_out = trailers;
    }

    /// Whether the end is still to be sent.
    pub(crate) fn owes_end(&self) -> bool {
        self.ends && !self.ended
    }

    /// Whether any of the request can have reached the upstream.
    pub(crate) fn was_sent(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Whether the upstream did nothing about the request, by its own word (RFC 9113 sections 6.8 and 8.7).
    pub(crate) fn was_refused(&self) -> bool {
        self.refused
    }

    /// Gets no more company on its connection, which may be dead.
    pub(crate) fn distrust(&self) {
        self.place.close();
    }

    /// Whether the response's head was all of it.
    pub(crate) fn is_over(&self) -> bool {
        self.incoming.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// The field lines behind the response's body.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers_in
    }

    /// Sends the output as far as the upstream takes it.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        output: &mut Vec<u8>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        let Some(outgoing) = &mut self.outgoing else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !output.is_empty() {
            outgoing.reserve_capacity(output.len());
            let room = match outgoing.capacity() {
                0 => match ready!(outgoing.poll_capacity(cx)) {
                    Some(room) => room.map_err(io::Error::other)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => room,
            };
            let data = match room >= output.len() {
                true => std::mem::take(output),
                false => output.drain(..room).collect(),
            };
            let last = self.ends && output.is_empty() && self.trailers_out.is_empty();
            outgoing.send_data(data.into(), last).map_err(io::Error::other)?;
            self.ended |= last;
            *progress = true;
        }
        if self.ends && !self.ended {
            self.ended = true;
            if self.trailers_out.is_empty() {
                outgoing.send_data(Bytes::new(), true).map_err(io::Error::other)?;
            } else {
                outgoing.send_trailers(trailers::map(&self.trailers_out)).map_err(io::Error::other)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what has come of the response, its heads as HTTP/1 has them; 0 at its end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let before = input.len();
        loop {
            if let Some(incoming) = &mut self.incoming {
                let Some(data) = ready!(incoming.poll_data(cx)) else {
                    let found = ready!(incoming.poll_trailers(cx)).map_err(|error| self.note(error))?;
                    self.trailers_in = found.map(|map| trailers::lines(&map)).unwrap_or_default();
                    return Poll::Ready(Ok(0));
                };
                let data = match data {
                    Ok(data) => data,
                    Err(error) => return Poll::Ready(Err(self.note(error))),
                };
                // Read only when there is room for it: the upstream may send as much again.
                incoming.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
                if !data.is_empty() {
                    input.extend_from_slice(&data);
                    return Poll::Ready(Ok(data.len()));
                }
                continue;
            }
            let Some(response) = &mut self.response else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                let interim = interim.map_err(|error| self.note(error))?;
                write_head(input, interim.status(), interim.headers());
                return Poll::Ready(Ok(input.len() - before));
            }
            let response = ready!(Pin::new(response).poll(cx)).map_err(|error| self.note(error))?;
            let (head, body) = response.into_parts();
            write_head(input, head.status, &head.headers);
            self.incoming = Some(body);
            return Poll::Ready(Ok(input.len() - before));
        }
    }

    fn note(&mut self, error: h2::Error) -> io::Error {
        // A stream that a GOAWAY is about is one that it says was not looked at: others go on.
        let unseen = error.is_go_away() && error.is_remote();
        self.refused |= unseen || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        if !error.is_reset() {
            self.place.close();
        }
        io::Error::other(error)
    }
}

/// The message whose head is at the start of `written`, and how many bytes of it that is. `None` for what HTTP/2 cannot say.
fn request_head(written: &[u8], https: bool) -> Option<(Request<()>, usize)> {
    let end = memchr::memmem::find(written, b"\r\n\r\n")?;
    let mut lines = written.get(..end)?.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let target = PathAndQuery::try_from(words.next()?).ok()?;
    let mut headers = HeaderMap::new();
    let mut authority = None;
    for line in lines {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
        match FieldKind::of(name) {
            FieldKind::Host => authority = Some(Authority::try_from(value).ok()?),
            // These speak of a connection, of which there is none (RFC 9113 section 8.2.2).
            FieldKind::Connection
            | FieldKind::TransferEncoding
            | FieldKind::Upgrade
            | FieldKind::HopByHop => {}
            _ => {
                let (name, value) =
                    (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
                headers.try_append(name, value).ok()?;
            }
        }
    }
    let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(authority?).path_and_query(target).build().ok()?;
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    Some((request, end + 4))
}

/// Appends a head as HTTP/1 has it.
fn write_head(input: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    input.extend_from_slice(b"HTTP/1.1 ");
    input.extend_from_slice(status.as_str().as_bytes());
    input.extend_from_slice(b" \r\n");
    for (name, value) in headers {
        input.extend_from_slice(name.as_str().as_bytes());
        input.extend_from_slice(b": ");
        input.extend_from_slice(value.as_bytes());
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"\r\n");
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("ended", &self.ended)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_sent_as_http2_has_it() {
        let written =
            b"POST /a?b=c HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\r\nTE: trailers\r\nConnection: TE\r\n\
              Transfer-Encoding: chunked\r\n\r\nbody";
        let (request, bytes) = request_head(written, true).unwrap();
        assert_eq!(&written[bytes..], b"body");
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::POST, "https://shop.test/a?b=c".into())
        );
        let fields: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-a", b"1".as_slice()), ("te", b"trailers")]);
    }

    #[test]
    fn what_http2_cannot_say_is_not_sent() {
        for head in [
            "GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
        ] {
            assert!(request_head(head.as_bytes(), false).is_none(), "{head:?}");
        }
    }
}
