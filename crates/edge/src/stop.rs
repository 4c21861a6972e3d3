//! Why a request ends before its response.

use std::io;

use crate::control::Cut;
use crate::reply::Reply;

/// What ends a request early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is refused; the request's verdict says why.
    Refused,
    /// It is answered by ourselves; the request's verdict says why.
    Answered(Reply),
    /// Its route answers it.
    Routed,
    /// It is answered with a challenge, or is the answer to one; the request's outcome says which.
    Challenged,
    /// The client is gone.
    ClientGone,
    /// The worker ended a wait.
    Cut(Cut),
}

impl From<Cut> for Stop {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

/// Errors on the client's connection mean that it is gone.
impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::ClientGone
    }
}
