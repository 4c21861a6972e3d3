//! What two processes of one node say to each other: whole messages in JSON, with descriptors attached, over a pair of connected sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One end. A message arrives whole or not at all; the end of the other process is the end of the channel.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The same end.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// An end that was received.
    #[cfg(test)]
    pub(super) fn of(end: OwnedFd) -> Self {
        Self(end)
    }

    /// The end that a process was given as its standard input, which reads as empty from then on.
    pub(super) fn of_stdin() -> io::Result<Self> {
        let ours = io::stdin().as_fd().try_clone_to_owned()?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Ok(Self(ours))
    }

    /// Waits no longer than this for a message, from now on; for ever without.
    pub(super) fn wait_at_most(&self, time: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, time)?)
    }

    /// Sends a message with up to [`DESCRIPTORS_MAX`] descriptors. Blocks while the other end does not keep up.
    pub(super) fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message and its descriptors; none at the end.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_by(&mut Self::buffer())
    }

    /// What messages are received by, for who receives many.
    pub(super) fn buffer() -> Vec<u8> {
        vec![0; MESSAGE_BYTES_MAX]
    }

    /// The next message, received by a [`Self::buffer`].
    pub(super) fn receive_by<T: DeserializeOwned>(
        &self,
        text: &mut [u8],
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut into = [IoSliceMut::new(&mut *text)];
            match recvmsg(&self.0, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                // The other process was killed with messages unread.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message was longer than messages are"));
        }
        let message = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
        Ok(Some((message, descriptors)))
    }
}

/// Descriptors that go with one message; the kernel allows 253.
pub(super) const DESCRIPTORS_MAX: usize = 64;
/// More than the kernel lets through by default (`net.core.wmem_default`), and than an event has.
const MESSAGE_BYTES_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_goes_with_a_message_and_serves_on_at_the_other_end() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ours.send(&"here", &[listener.as_fd()]).unwrap();
        drop((ours, listener));
        let (said, mut descriptors) = theirs.receive::<String>().unwrap().unwrap();
        assert_eq!((said.as_str(), descriptors.len()), ("here", 1));
        let listener = TcpListener::from(descriptors.remove(0));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        let mut got = [0];
        listener.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(got, *b"x");
        assert!(theirs.receive::<String>().unwrap().is_none(), "the other end is gone");
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_for_ever() {
        let (ours, _theirs) = Channel::pair().unwrap();
        ours.wait_at_most(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(ours.receive::<String>().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
