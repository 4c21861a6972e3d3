//! The queryable history of refused and flagged requests: SQLite, text from strangers sealed.
//!
//! Open to queries are the id (which is also the time), the action, the status, the rule ids, and keyed hashes of the client's
//! address, app, country and method. Everything else is one sealed body per request, bound to its id, so that a stolen disk tells times, rule
//! numbers and how often the same hash comes, not who asked for what. Strikes, proposals and decisions that followed from a request are kept
//! beside it, and counts of all requests, whose names are sealed.
//!
//! One writer (the recorder's thread); readers have connections of their own, WAL keeps them apart.
//!
//! The rows of a history have one order, in which control nodes of the site read it (`spool`), each into a database of its own (`copies`).
//! Counts of minutes and hours that are over go the same way (`counts`, `copied_counts`).
//!
//! INVARIANT: rows and bytes are bounded; the oldest requests go first.

mod actors;
mod copied_counts;
mod copies;
mod counts;
mod passed;
mod query;
mod rollup;
mod schema;
mod spool;
mod store;
mod traffic;

pub use actors::RefusedClient;
pub use copied_counts::CopiedCounts;
pub use copies::{Copies, CopyOf, CopySettings, NotTaken};
pub use counts::CountsBatch;
pub(crate) use passed::PassedLog;
pub use query::{Filter, Found, History, StatusRange};
pub use spool::{Mark, SpoolBatch};
pub(crate) use store::{Item, Store};

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use phalanx_trust::Sealer;
use rusqlite::ErrorCode;
use tokio::sync::watch;

use crate::RecordError;
use crate::outlet::Outlet;
use crate::traffic::{Locate, Located};

/// What writer and readers share.
pub(crate) struct Shared {
    pub(crate) path: std::path::PathBuf,
    pub(crate) sealer: Arc<Sealer>,
    lookup: hmac::Key,
    /// Where clients are, if a database says so.
    pub(crate) locate: Option<Locate>,
    /// Counts the databases that stood at `path`; a reader with an older one opens again.
    pub(crate) generation: AtomicU64,
    /// A reader found damage; the writer looks.
    pub(crate) suspect: AtomicBool,
    /// The number of the last row.
    written: watch::Sender<i64>,
    /// When it got a new epoch because of what a reader said.
    anew_at: Mutex<Option<Instant>>,
}

impl Shared {
    fn new(path: &Path, sealer: Arc<Sealer>, lookup_key: &[u8], locate: Option<Locate>) -> Self {
        Self {
            path: path.to_path_buf(),
            sealer,
            lookup: hmac::Key::new(hmac::HMAC_SHA256, lookup_key),
            locate,
            generation: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            written: watch::Sender::new(0),
            anew_at: Mutex::default(),
        }
    }

    /// Where an address is, if a database says so.
    fn located(&self, client: IpAddr) -> Located {
        self.locate.as_ref().map(|locate| locate(client)).unwrap_or_default()
    }

    /// The value under which requests of an address are found: nobody without the key can try all addresses.
    pub(crate) fn client_key(&self, client: IpAddr) -> Vec<u8> {
        let text = phalanx_model::net::canonical(client).to_string();
        let tag = hmac::sign(&self.lookup, text.as_bytes());
        tag.as_ref().get(..16).unwrap_or_default().to_vec()
    }

    /// The number under which an app, country or method is found.
    pub(crate) fn tag(&self, kind: &str, name: &str) -> i64 {
        let mut context = hmac::Context::with_key(&self.lookup);
        context.update(kind.as_bytes());
        context.update(&[0]);
        context.update(name.as_bytes());
        let tag = context.sign();
        tag.as_ref().first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
    }
}

/// The key of [`Shared::client_key`], sealed in a file of its own. The second value tells that a new one was made, so
/// that rows written under another key cannot be found by it.
fn lookup_key(path: &Path, sealer: &Sealer) -> Result<(Vec<u8>, bool), RecordError> {
    let known = match std::fs::read(path) {
        Ok(sealed) => sealer.open(LOOKUP_CONTEXT, &sealed).ok(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(RecordError::Io { path: path.to_path_buf(), source }),
    };
    if let Some(key) = known {
        return Ok((key, false));
    }
    let key: [u8; 32] = phalanx_trust::random_bytes();
    let sealed = sealer.seal(LOOKUP_CONTEXT, &key)?;
    let failed = |source| RecordError::Io { path: path.to_path_buf(), source };
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    Outlet::new(path.to_path_buf()).append(&sealed, true).map_err(failed)?;
    Ok((key.to_vec(), true))
}

/// Whether the database file itself is damaged, as opposed to a disk that is full or away.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn body_context(id: &str) -> String {
    format!("history/request/{id}")
}

fn consequence_context(id: &str) -> String {
    format!("history/consequence/{id}")
}

fn name_context(tag: i64) -> String {
    format!("history/name/{tag}")
}

const LOOKUP_CONTEXT: &str = "history/lookup-key";
