//! One connection's TLS: records in, plaintext out, and back. It has no buffers of its own beyond what a peer or the
//! kernel makes wait; bytes are decrypted where the worker read them to, and encrypted into a buffer that it lends.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::Wire;

/// TLS on one side of a connection.
pub(crate) struct Session {
    side: Side,
    /// The beginning of a record, or of a message over several, whose end has not arrived.
    received: Vec<u8>,
    /// Records to be written; shortened when all of them are.
    sealed: Vec<u8>,
    written: usize,
    /// The peer said that nothing more comes.
    peer_closed: bool,
    /// We said it.
    closed: bool,
    /// What came before the session was processed.
    begun: bool,
    /// TLS failed; nothing of it may be asked again.
    broken: bool,
}

impl Session {
    /// The beginning of a handshake with a client; `received` is what came before TLS was asked for.
    pub(crate) fn new(config: Arc<ServerConfig>, received: Vec<u8>) -> Result<Self, rustls::Error> {
        Ok(Self::of(Side::Server(UnbufferedServerConnection::new(config)?), received))
    }

    /// The beginning of a handshake with an upstream of this name, for one of these protocols above TLS.
    pub(crate) fn to_upstream(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        protocols: Vec<Vec<u8>>,
    ) -> Result<Self, rustls::Error> {
        let connection = UnbufferedClientConnection::new_with_alpn(config, name, protocols)?;
        Ok(Self::of(Side::Client(Box::new(connection)), Vec::new()))
    }

    fn of(side: Side, received: Vec<u8>) -> Self {
        Self {
            side,
            received,
            sealed: Vec::new(),
            written: 0,
            peer_closed: false,
            closed: false,
            begun: false,
            broken: false,
        }
    }

    /// What was agreed on.
    pub(crate) fn connection(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Goes on with the handshake; ready when it is over. A failure leaves an alert to be written.
    pub(crate) fn poll_handshake(
        &mut self,
        stream: &mut Wire,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        input: &mut BytesMut,
    ) -> Poll<Result<(), SessionError>> {
        if !self.begun {
            self.begun = true;
            let mut received = std::mem::take(&mut self.received);
            let used = self.process(&mut received, input)?;
            received.drain(..used.min(received.len()));
            self.received = received;
        }
        loop {
            ready!(self.poll_write(stream, cx, &mut false))?;
            if !self.connection().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.peer_closed || ready!(self.poll_records(stream, cx, scratch, input))? == 0 {
                return Poll::Ready(Err(SessionError::Io(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    /// Reads until there is plaintext and appends it to `input`; 0 at its end. An end that the peer did not announce is an error.
    pub(crate) fn poll_fill(
        &mut self,
        stream: &mut Wire,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let before = input.len();
        loop {
            if self.peer_closed {
                return Poll::Ready(Ok(0));
            }
            let read = match ready!(self.poll_records(stream, cx, scratch, input)) {
                Ok(read) => read,
                Err(SessionError::Io(error)) => return Poll::Ready(Err(error)),
                Err(SessionError::Tls(error)) => {
                    self.try_write(stream, cx);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            };
            // Answers to what is not for us but for TLS, as an update of keys. What the kernel does not take now goes
            // out before the next reply.
            self.try_write(stream, cx);
            if input.len() > before {
                return Poll::Ready(Ok(input.len() - before));
            }
            if read == 0 && !self.peer_closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Encrypts and writes `output` from `flushed` on, which is moved.
    pub(crate) fn poll_flush(
        &mut self,
        stream: &mut Wire,
        cx: &mut Context<'_>,
        (output, flushed): (&[u8], &mut usize),
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(stream, cx, progress))?;
            let rest = output.get(*flushed..).unwrap_or_default();
            let next = rest.get(..SEALED_AT_ONCE_BYTES).unwrap_or(rest);
            if next.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.seal(next)?;
            *flushed += next.len();
        }
    }

    /// Tells the peer that nothing more comes (RFC 8446 section 6.1), then closes the sending side of the stream.
    pub(crate) fn poll_shutdown(&mut self, stream: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            self.seal(b"")?;
        }
        ready!(self.poll_write(stream, cx, &mut false))?;
        Pin::new(stream).poll_shutdown(cx)
    }

    /// Takes a buffer to encrypt into, unless it has one.
    pub(crate) fn borrow_buffer(&mut self, lend: impl FnOnce() -> Vec<u8>) {
        if self.sealed.capacity() == 0 {
            self.sealed = lend();
        }
    }

    /// Gives the buffer back, if nothing in it waits.
    pub(crate) fn return_buffer(&mut self) -> Vec<u8> {
        if self.sealed.is_empty() { std::mem::take(&mut self.sealed) } else { Vec::new() }
    }

    /// Reads once and processes all records that are complete. Returns the bytes read.
    fn poll_records(
        &mut self,
        stream: &mut Wire,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        input: &mut BytesMut,
    ) -> Poll<Result<usize, SessionError>> {
        let kept = self.received.len();
        let Some((front, room)) = scratch.split_at_mut_checked(kept).filter(|(_, room)| !room.is_empty())
        else {
            // No message of ours is so long, and no record is.
            return Poll::Ready(Err(SessionError::Io(io::ErrorKind::InvalidData.into())));
        };
        let mut buffer = ReadBuf::new(room);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        front.copy_from_slice(&self.received);
        let bytes = scratch.get_mut(..kept + read).unwrap_or_default();
        let used = self.process(bytes, input)?;
        let rest = bytes.get(used..).unwrap_or_default();
        // Most often nothing is left, and then nothing is kept.
        self.received = rest.to_vec();
        Poll::Ready(Ok(read))
    }

    /// Processes what is complete of `incoming`; returns how much of it is done with. A failure leaves an alert to be written.
    fn process(&mut self, incoming: &mut [u8], input: &mut BytesMut) -> Result<usize, rustls::Error> {
        let Self { side, sealed, peer_closed, broken, .. } = self;
        let out = Outcome { sealed, peer_closed, broken };
        match side {
            Side::Server(connection) => process(connection, incoming, input, out),
            Side::Client(connection) => process(&mut **connection, incoming, input, out),
        }
    }

    /// Encrypts `plain` behind what is sealed already; nothing at all stands for the end of it.
    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Self { side, sealed, received, peer_closed, broken, .. } = self;
        let out = Outcome { sealed, peer_closed, broken };
        match side {
            Side::Server(connection) => seal(connection, plain, received, out),
            Side::Client(connection) => seal(&mut **connection, plain, received, out),
        }
    }

    /// Writes what the kernel takes at once.
    pub(crate) fn try_write(&mut self, stream: &mut Wire, cx: &mut Context<'_>) {
        // A failure shows with the next read.
        let _ = self.poll_write(stream, cx, &mut false);
    }

    /// Writes what is sealed.
    fn poll_write(
        &mut self,
        stream: &mut Wire,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.sealed.get(self.written..)
            && !rest.is_empty()
        {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.written += written;
        }
        self.sealed.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// Which side of a connection this is.
#[expect(
    clippy::large_enum_variant,
    reason = "there are many sessions with clients, in a box each; of the others a pool"
)]
enum Side {
    /// That of the server: a client is at the other end.
    Server(UnbufferedServerConnection),
    /// That of the client: an upstream is.
    Client(Box<UnbufferedClientConnection>),
}

/// Both sides are driven alike.
trait Driven {
    type Data;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Driven for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Driven for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// What comes of driving a connection beside plaintext.
struct Outcome<'a> {
    sealed: &'a mut Vec<u8>,
    peer_closed: &'a mut bool,
    broken: &'a mut bool,
}

fn process<C: Driven>(
    connection: &mut C,
    incoming: &mut [u8],
    input: &mut BytesMut,
    out: Outcome<'_>,
) -> Result<usize, rustls::Error> {
    let mut used = 0;
    let mut failure = None;
    loop {
        let rest = incoming.get_mut(used..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = connection.records(rest);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    input.extend_from_slice(record.payload);
                    discard += record.discard;
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                if append(out.sealed, MESSAGE_BYTES, |room| message.encode(room)).is_err() {
                    return Err(rustls::Error::EncryptError);
                }
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed) => *out.peer_closed = true,
            // The first failure is the one to tell; after it only its alert is waited for.
            Err(error) if failure.is_none() => {
                *out.broken = true;
                failure = Some(error);
            }
            Ok(_) | Err(_) => {
                used += discard;
                return failure.map_or(Ok(used), Err);
            }
        }
        used += discard;
    }
}

fn seal<C: Driven>(
    connection: &mut C,
    plain: &[u8],
    received: &mut Vec<u8>,
    out: Outcome<'_>,
) -> io::Result<()> {
    loop {
        // What stands in `received` was processed as far as it goes. It is shown again, because TLS counts from its start.
        let UnbufferedStatus { discard, state } = connection.records(received);
        match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                return append(out.sealed, sealed_bytes_max(plain.len()), |room| match plain {
                    b"" => traffic.queue_close_notify(room),
                    plain => traffic.encrypt(plain, room),
                });
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append(out.sealed, MESSAGE_BYTES, |room| message.encode(room))?;
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed) => *out.peer_closed = true,
            Ok(_) | Err(_) => {
                *out.broken = true;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        received.drain(..discard.min(received.len()));
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// What ends a session.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// Its connection failed or ended.
    Io(io::Error),
    /// The peer does not speak TLS as it should, or as we do.
    Tls(rustls::Error),
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for SessionError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// Appends what `fill` writes, in a room of about `bytes`, or of what it says it needs.
fn append<E: TooSmall>(
    to: &mut Vec<u8>,
    bytes: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> io::Result<()> {
    let start = to.len();
    let mut room = bytes;
    // Twice: the second time with the room that it said it needs.
    for _ in 0..2 {
        to.resize(start + room, 0);
        match fill(to.get_mut(start..).unwrap_or_default()) {
            Ok(filled) => {
                to.truncate(start + filled);
                return Ok(());
            }
            Err(error) => room = error.needed().unwrap_or_default(),
        }
    }
    to.truncate(start);
    Err(io::ErrorKind::BrokenPipe.into())
}

/// An error that may be about room.
trait TooSmall {
    /// The room it takes.
    fn needed(&self) -> Option<usize>;
}

impl TooSmall for EncodeError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl TooSmall for EncryptError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Most bytes that the records of so much plaintext take.
fn sealed_bytes_max(plain: usize) -> usize {
    plain + (plain / RECORD_BYTES_MAX + 1) * RECORD_OVERHEAD_BYTES
}

/// Plaintext of one record at most.
const RECORD_BYTES_MAX: usize = 1 << 14;
/// Header, nonce or type, and tag; TLS 1.2 needs most. An alert fits, too.
const RECORD_OVERHEAD_BYTES: usize = 40;
/// Plaintext encrypted before it is written: two records, so that the buffer is one that the worker keeps.
const SEALED_AT_ONCE_BYTES: usize = 2 * RECORD_BYTES_MAX;
/// A message of a handshake, most often; one with a long chain says what it needs.
const MESSAGE_BYTES: usize = 512;
