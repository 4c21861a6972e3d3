//! What can go wrong with keys and records, told apart by whose fault it is.

use std::path::{Path, PathBuf};

/// A fault of this node: its files, its keys or its memory.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key file cannot be used. Names the file, the cause and the fix.
    #[error("{}: {cause}; {fix}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What the operator can do.
        fix: String,
    },
    /// Sealed bytes do not open: another key, another context, or altered.
    #[error("sealed data for {context} does not open: it was altered or sealed under another key")]
    Sealed {
        /// What the data was for.
        context: String,
    },
    /// A cryptographic operation failed, which healthy memory and entropy do not allow.
    #[error("{0} failed")]
    Crypto(&'static str),
    /// What the authority granted cannot be used.
    #[error("the fleet's authority granted what cannot be used: {0}; compare the clocks, then join again")]
    Grant(String),
    /// There is no room for more.
    #[error("{0}")]
    Limit(&'static str),
    /// A record is larger than any reader accepts.
    #[error("a record of {bytes} bytes is over the limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl TrustError {
    pub(crate) fn file(path: &Path, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), cause: cause.into(), fix: fix.into() }
    }
}

/// Why a record from somebody else does not count. The peer's fault, or an attack; never ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no record.
    #[error("unreadable record: {0}")]
    Unreadable(String),
    /// It belongs to another fleet.
    #[error("record of another fleet")]
    WrongFleet,
    /// It was sent under a name that it was not signed for.
    #[error("record signed for another subject")]
    WrongSubject,
    /// Nobody of that name has announced a key for that role.
    #[error("unknown author {0}")]
    UnknownAuthor(String),
    /// It names a key that is not the author's.
    #[error("{0} has another key than the one pinned")]
    WrongKey(String),
    /// The signature does not match.
    #[error("bad signature")]
    BadSignature,
    /// Its time is over.
    #[error("expired record")]
    Expired,
    /// It claims a time that has not come.
    #[error("record from the future")]
    FromTheFuture,
    /// It does not fit with what is known here. Why.
    #[error("{0}")]
    Unusable(String),
    /// Its author may not say that.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// The announcement does not prove knowledge of the fleet's secret.
    #[error("announcement without proof of the fleet secret")]
    NoProof,
    /// Its certificate does not prove the author's name.
    #[error("no valid certificate: {0}")]
    Certificate(String),
    /// The author's certificate has expired.
    #[error("the certificate of {0} has expired")]
    CertificateExpired(String),
    /// An operator has revoked the author.
    #[error("{0} is revoked")]
    Revoked(String),
    /// The fleet is full.
    #[error("more than {0} nodes")]
    TooManyNodes(usize),
}
