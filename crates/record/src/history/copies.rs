//! What the other nodes of the site recorded, as a control node keeps it.
//!
//! A batch and the mark up to which its node is read are written in one transaction, so that a row is there once however often it is sent.
//! What nodes may say is checked here: a node writes rows of its own requests and no others.
//!
//! INVARIANT: a node's rows are deleted for the room of another's only while it has more than that one: who floods or was stolen deletes his own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use phalanx_model::id::node_tag;
use phalanx_model::limits::{HISTORY_RECORD_BYTES_MAX, RECORD_FUTURE_MAX_MS, SIGNALS_KEPT_MAX};
use phalanx_model::{Clock, RequestId};
use phalanx_trust::Sealer;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::spool::{Kind, Row, Whose};
use super::store::{Facts, set_aside_database};
use super::{
    History, Mark, Shared, SpoolBatch, body_context, consequence_context, is_damage, lookup_key, schema,
};
use crate::RecordError;
use crate::outlet::Outlet;
use crate::request::{Consequence, RecordedRequest};
use crate::traffic::Locate;

/// Where copies are kept, and how much of them.
#[derive(Clone)]
pub struct CopySettings {
    /// The database; its key lies beside it.
    pub path: PathBuf,
    /// The site.
    pub site: Arc<str>,
    /// Seals what is kept.
    pub sealer: Arc<Sealer>,
    /// Says where clients are.
    pub locate: Option<Locate>,
    /// Requests of the future are not taken; names of files set aside carry its time.
    pub clock: Arc<dyn Clock>,
    /// How many bytes, of all nodes together.
    pub bytes_max: u64,
}

/// Copies of the histories of a site's other nodes. Its methods block: call them off the async threads.
pub struct Copies {
    pub(super) shared: Arc<Shared>,
    site: Arc<str>,
    clock: Arc<dyn Clock>,
    bytes_max: u64,
    connection: Mutex<Option<Connection>>,
}

/// What is kept of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CopyOf {
    /// Its name.
    pub node: String,
    /// Requests and what followed from them.
    pub rows: u64,
    /// Their size, about.
    pub bytes: u64,
    /// Rows that the node had deleted before they were read.
    pub missed: u64,
    /// Minutes and hours of which its counts of all requests are here.
    #[serde(default)]
    pub counts: u64,
}

/// Why a batch was not taken. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It does not follow on what is there: it came twice, or something before it is on its way.
    #[error("it does not follow on what is there")]
    OutOfOrder,
    /// It is not what a node may say, or of a newer form.
    #[error("it is not what the node may say: {0}")]
    Refused(&'static str),
    /// It cannot be written now.
    #[error(transparent)]
    Failed(#[from] RecordError),
}

impl From<rusqlite::Error> for NotTaken {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A row that was checked.
enum Checked {
    Request(Box<RecordedRequest>),
    Consequence(Consequence, RequestId),
}

impl Checked {
    fn id(&self) -> RequestId {
        match self {
            Self::Request(record) => record.id(),
            Self::Consequence(_, id) => *id,
        }
    }
}

impl Copies {
    /// Opens the database, or makes it. A damaged one is set aside: nodes are read again.
    pub fn open(settings: CopySettings) -> Result<Self, RecordError> {
        let CopySettings { path, site, sealer, locate, clock, bytes_max } = settings;
        let (key, fresh) = lookup_key(&path.with_extension("key"), &sealer)?;
        let shared = Arc::new(Shared::new(&path, sealer, &key, locate));
        let copies = Self { shared, site, clock, bytes_max, connection: Mutex::default() };
        if fresh && path.exists() {
            copies.set_aside(&"its sealing key is gone")?;
        }
        // A full disk is no reason not to start: each call tries again. A damaged database is out of the way then.
        if let Err(error) = copies.connected(|_| Ok(())) {
            tracing::error!(%error, "copies of other nodes' history cannot be opened");
        }
        Ok(copies)
    }

    /// Answers questions about what is kept.
    pub fn history(&self) -> History {
        History::new(Arc::clone(&self.shared), None)
    }

    /// Up to where a node was read, directly or from another control node's copy of it.
    pub fn mark(&self, node: &str, via: Option<&str>) -> Result<Mark, RecordError> {
        self.connected(|connection| mark(connection, node, via.unwrap_or_default()))
    }

    /// The nodes of which something is kept.
    pub fn nodes(&self) -> Result<Vec<CopyOf>, RecordError> {
        self.connected(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT node, ifnull(rows, 0), ifnull(bytes, 0), CAST(min(ifnull(missed, 0), ?1) AS INTEGER),
                   (SELECT ifnull(sum(buckets), 0) FROM counts_lives l WHERE l.node = names.node)
                 FROM (SELECT node FROM origins UNION SELECT node FROM counts_lives) names LEFT JOIN origins USING (node) ORDER BY node",
            )?;
            let of = |row: &rusqlite::Row<'_>| {
                let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
                let (rows, bytes, missed, counts) = (number(1)?, number(2)?, number(3)?, number(4)?);
                Ok(CopyOf { node: row.get(0)?, rows, bytes, missed, counts })
            };
            statement.query_map([NUMBERS_MAX], of)?.collect()
        })
    }

    /// Forgets nodes of which no row is left, but for those that are known. Who comes back is read from its beginning.
    pub fn forget_empty(&self, known: &[String]) -> Result<(), RecordError> {
        self.changed(|transaction| {
            let empty: Vec<(i64, String)> = transaction
                .prepare_cached("SELECT origin, node FROM origins WHERE rows = 0")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            for (origin, _) in empty.iter().filter(|(_, node)| !known.contains(node)) {
                for table in ["marks", "floors", "origins"] {
                    transaction
                        .prepare_cached(&format!("DELETE FROM {table} WHERE origin = ?1"))?
                        .execute([origin])?;
                }
            }
            // Of counts what is left without a row is how far they were read.
            let unread: Vec<String> = transaction
                .prepare_cached(
                    "SELECT DISTINCT node FROM counts_marks WHERE node NOT IN (SELECT node FROM counts_lives)",
                )?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for node in unread.iter().filter(|node| !known.contains(node)) {
                transaction.prepare_cached("DELETE FROM counts_marks WHERE node = ?1")?.execute([node])?;
            }
            Ok(())
        })
    }

    /// What is kept of a node, for another control node that has it up to a mark.
    pub fn batch_after(
        &self,
        node: &str,
        mark: &Mark,
        bytes_max: usize,
    ) -> Result<Option<SpoolBatch>, RecordError> {
        let origin = self.connected(|connection| {
            let mut statement = connection.prepare_cached("SELECT origin FROM origins WHERE node = ?1")?;
            statement.query_row([node], |row| row.get::<_, i64>(0)).optional()
        })?;
        match origin {
            Some(origin) => self.history().batch(mark, Whose::Origin(origin), bytes_max),
            None => Ok(None),
        }
    }

    /// Whether there may be rows of a node here that a reader of this mark did not get from the node itself: it was read further here, or some came
    /// from another's copy or from a history of the node that is no more.
    pub fn is_ahead(&self, node: &str, theirs: &Mark) -> Result<bool, RecordError> {
        self.connected(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT (SELECT count(*) FROM marks m WHERE m.origin = o.origin AND m.via <> '') FROM origins o WHERE node = ?1 AND rows > 0",
            )?;
            let others: Option<i64> = statement.query_row([node], |row| row.get(0)).optional()?;
            let Some(others) = others else { return Ok(false) };
            let own = mark(connection, node, "")?;
            Ok(others > 0 || own.epoch != theirs.epoch || own.seq > theirs.seq)
        })
    }

    /// Takes a batch of a node's history, all of it or nothing, and deletes what is too much.
    pub fn take(&self, node: &str, via: Option<&str>, batch: &SpoolBatch) -> Result<Mark, NotTaken> {
        // Before anything is read of it: it may come often.
        if !follows(&self.mark(node, via)?, batch) {
            return Err(NotTaken::OutOfOrder);
        }
        let now_ms = self.clock.now_ms();
        let rows: Vec<Option<Checked>> =
            batch.rows.iter().map(|row| self.check(node, row, now_ms)).collect::<Result<_, _>>()?;
        let mut slot = self.connection.lock();
        let taken = self.write(&mut slot, (node, via.unwrap_or_default()), batch, &rows);
        if let Err(NotTaken::Failed(error)) = &taken {
            self.mend(&mut slot, error);
        }
        taken
    }

    fn write(
        &self,
        slot: &mut Option<Connection>,
        (node, via): (&str, &str),
        batch: &SpoolBatch,
        rows: &[Option<Checked>],
    ) -> Result<Mark, NotTaken> {
        if batch.last > NUMBERS_MAX {
            return Err(NotTaken::Refused("more rows than a node can have written"));
        }
        let connection = self.open_in(slot)?;
        let transaction = connection.transaction()?;
        let before = mark(&transaction, node, via)?;
        if !follows(&before, batch) {
            return Err(NotTaken::OutOfOrder);
        }
        if !via.is_empty() && (batch.is_empty() || origins_but(&transaction, node)? >= RELAYED_NODES_MAX) {
            return Err(NotTaken::Refused("nothing, or of one node too many"));
        }
        transaction.prepare_cached("INSERT OR IGNORE INTO origins (node) VALUES (?1)")?.execute([node])?;
        let origin: i64 = transaction
            .prepare_cached("SELECT origin FROM origins WHERE node = ?1")?
            .query_row([node], |row| row.get(0))?;
        let (added, bytes) = self.insert(&transaction, origin, rows)?;
        // In another's copy the rows of others lie between; and what was deleted before the first reading is not missed.
        let missed = if via.is_empty() && batch.after > 0 { missing(batch) } else { 0 };
        let left_out = i64::try_from(rows.iter().filter(|row| row.is_none()).count()).unwrap_or(i64::MAX);
        let missed = missed.saturating_add(left_out);
        transaction
            .prepare_cached(
                "UPDATE origins SET rows = rows + ?2, bytes = bytes + ?3, missed = CAST(min(missed + ?4, ?5) AS INTEGER) WHERE origin = ?1",
            )?
            .execute(params![origin, added, bytes, missed, NUMBERS_MAX])?;
        if via.is_empty() && before.epoch != batch.epoch && before.epoch != 0 {
            // The node has no more what it had then, and others may not have it.
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO marks (origin, via, epoch, seq) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![origin, BEFORE, before.epoch, before.seq])?;
        }
        let ends = batch.rows.last().is_some_and(|row| row.seq == batch.upto);
        let last = rows.last().and_then(Option::as_ref).filter(|_| ends).map(Checked::id);
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO marks (origin, via, epoch, seq, last) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![origin, via, batch.epoch, batch.upto, last.map(|id| id.to_string())])?;
        self.prune(&transaction)?;
        let newest = schema::spool(&transaction)?.1;
        transaction.commit()?;
        self.shared.written.send_replace(newest);
        Ok(Mark { epoch: batch.epoch, seq: batch.upto, last })
    }

    /// Adds rows that are new; how many, and their size.
    fn insert(
        &self,
        to: &Transaction<'_>,
        origin: i64,
        rows: &[Option<Checked>],
    ) -> Result<(i64, i64), NotTaken> {
        let mut last = schema::spool(to)?.1;
        let (mut added, mut bytes) = (0, 0);
        let floor: Option<String> = to
            .prepare_cached("SELECT id FROM floors WHERE origin = ?1")?
            .query_row([origin], |row| row.get(0))
            .optional()?;
        for row in rows.iter().flatten() {
            let id = row.id().to_string();
            // Read again from its beginning, a history would push out its own end.
            if floor.as_ref().is_some_and(|floor| id <= *floor) {
                continue;
            }
            let (new, size) = match row {
                Checked::Request(record) => self.insert_request(to, (origin, last + 1), &id, record)?,
                Checked::Consequence(one, _) => self.insert_consequence(to, (origin, last + 1), &id, one)?,
            };
            if new {
                (added, bytes, last) = (added + 1, bytes + size, last + 1);
            }
        }
        to.prepare_cached("UPDATE spool SET last = ?1")?.execute([last])?;
        Ok((added, bytes))
    }

    fn insert_request(
        &self,
        to: &Transaction<'_>,
        (origin, seq): (i64, i64),
        id: &str,
        record: &RecordedRequest,
    ) -> Result<(bool, i64), NotTaken> {
        let plain = serde_json::to_vec(record).map_err(RecordError::from)?;
        let body = self.shared.sealer.seal(&body_context(id), &plain).map_err(RecordError::from)?;
        let f = Facts::of(record, &self.shared);
        let new = to
            .prepare_cached(
                "INSERT OR IGNORE INTO requests (seq, origin, id, client, action, app, country, method, status, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                seq, origin, id, f.client, f.action, f.app, f.country, f.method, f.status, body
            ])?;
        if new > 0 {
            let mut rule = to.prepare_cached("INSERT OR IGNORE INTO rules (rule, id) VALUES (?1, ?2)")?;
            for number in record.rule_ids() {
                rule.execute(params![number.cast_signed(), id])?;
            }
        }
        Ok((new > 0, size(&body)))
    }

    fn insert_consequence(
        &self,
        to: &Transaction<'_>,
        (origin, seq): (i64, i64),
        id: &str,
        consequence: &Consequence,
    ) -> Result<(bool, i64), NotTaken> {
        let plain = serde_json::to_vec(consequence).map_err(RecordError::from)?;
        let digest = self.shared.tag("consequence", &String::from_utf8_lossy(&plain));
        let body = self.shared.sealer.seal(&consequence_context(id), &plain).map_err(RecordError::from)?;
        let new = to
            .prepare_cached(
                "INSERT OR IGNORE INTO consequences (seq, origin, id, digest, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![seq, origin, id, digest, body])?;
        Ok((new > 0, size(&body)))
    }

    /// What a node says, if it may say it. `None`: it is left out, because an honest node may have such a row, and what follows on it is wanted:
    /// one that is too large, or of the future, since its clock was wrong.
    fn check(&self, node: &str, row: &Row, now_ms: u64) -> Result<Option<Checked>, NotTaken> {
        if row.body.len() > HISTORY_RECORD_BYTES_MAX {
            return Ok(None);
        }
        let unreadable = |_| NotTaken::Refused("a record cannot be read; is that node of a newer version?");
        let checked = match row.kind {
            Kind::Request => {
                let record: RecordedRequest = serde_json::from_slice(&row.body).map_err(unreadable)?;
                if *record.site != *self.site || *record.node != *node {
                    return Err(NotTaken::Refused("a request that another node served"));
                }
                if record.signals.len() > SIGNALS_KEPT_MAX {
                    return Err(NotTaken::Refused("a request with too many findings"));
                }
                Checked::Request(Box::new(record))
            }
            Kind::Consequence => {
                let consequence: Consequence = serde_json::from_slice(&row.body).map_err(unreadable)?;
                let id = consequence
                    .request()
                    .ok_or(NotTaken::Refused("something that followed from no request"))?;
                Checked::Consequence(consequence, id)
            }
        };
        if checked.id().node_tag() != node_tag(&self.site, node) {
            return Err(NotTaken::Refused("an id that another node made"));
        }
        if checked.id().at_ms() > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Ok(None);
        }
        Ok(Some(checked))
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The room of all that is kept.
    pub(super) fn bytes_max(&self) -> i64 {
        i64::try_from(self.bytes_max).unwrap_or(i64::MAX)
    }

    /// Deletes the oldest of the node that has most, until all fits.
    fn prune(&self, of: &Transaction<'_>) -> rusqlite::Result<()> {
        let bytes_max = self.bytes_max();
        loop {
            let bytes: i64 = of
                .prepare_cached(
                    "SELECT (SELECT ifnull(sum(bytes), 0) FROM origins) + (SELECT ifnull(sum(bytes), 0) FROM counts_lives)",
                )?
                .query_row([], |row| row.get(0))?;
            if bytes <= bytes_max {
                return Ok(());
            }
            let (origin, rows): (i64, i64) = of
                .prepare_cached("SELECT origin, rows FROM origins ORDER BY bytes DESC LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            // Some more than needed, so that not every batch deletes.
            if delete_oldest(of, origin, rows / 64 + 1)? == 0 {
                return Ok(());
            }
        }
    }

    /// Changes all of it, or nothing.
    pub(super) fn changed<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let mut slot = self.connection.lock();
        let changed = self.open_in(&mut slot).and_then(|connection| {
            let transaction = connection.transaction()?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        if let Err(error) = &changed {
            self.mend(&mut slot, error);
        }
        changed
    }

    pub(super) fn connected<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, RecordError> {
        let mut slot = self.connection.lock();
        let asked = self.open_in(&mut slot).and_then(|connection| Ok(ask(connection)?));
        if let Err(error) = &asked {
            self.mend(&mut slot, error);
        }
        asked
    }

    /// After a failure: the next call begins with a fresh connection, of a new database if this one is damaged.
    fn mend(&self, slot: &mut Option<Connection>, error: &RecordError) {
        // A connection after a disk error may hold on to what does not match.
        *slot = None;
        if let RecordError::History(cause) = error
            && is_damage(cause)
            && let Err(error) = self.set_aside(cause)
        {
            tracing::error!(%error, "copies of other nodes' history are damaged and cannot be set aside");
        }
    }

    fn set_aside(&self, cause: &dyn std::fmt::Display) -> Result<(), RecordError> {
        let note = set_aside_database(&self.shared.path, cause, self.clock.now_ms())?;
        tracing::error!(note, "copies of other nodes' history are read again from the nodes");
        Ok(())
    }

    fn open_in<'a>(&self, slot: &'a mut Option<Connection>) -> Result<&'a mut Connection, RecordError> {
        if slot.is_none() {
            let path = &self.shared.path;
            // Creates the file with mode 0600; SQLite gives its side files the same.
            Outlet::new(path.clone())
                .length()
                .map_err(|source| RecordError::Io { path: path.clone(), source })?;
            let connection = schema::open_copies(path)?;
            if schema::version(&connection)? > schema::COPIES_VERSION {
                let why = Some(String::from("written by a newer version"));
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
                return Err(rusqlite::Error::SqliteFailure(code, why).into());
            }
            self.shared.written.send_replace(schema::spool(&connection)?.1);
            self.shared.generation.fetch_add(1, Ordering::AcqRel);
            *slot = Some(connection);
        }
        slot.as_mut().ok_or(RecordError::HistoryNotReady)
    }
}

impl std::fmt::Debug for Copies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copies").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl History {
    /// In copies: the nodes of which there are rows.
    pub fn copied_nodes(&self) -> Result<Vec<String>, RecordError> {
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached("SELECT node FROM origins WHERE rows > 0")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }
}

fn mark(connection: &Connection, node: &str, via: &str) -> rusqlite::Result<Mark> {
    let mut statement = connection.prepare_cached(
        "SELECT epoch, seq, last FROM marks JOIN origins USING (origin) WHERE node = ?1 AND via = ?2",
    )?;
    let found = statement.query_row([node, via], |row| {
        let last: Option<String> = row.get(2)?;
        Ok(Mark { epoch: row.get(0)?, seq: row.get(1)?, last: last.and_then(|id| id.parse().ok()) })
    });
    Ok(found.optional()?.unwrap_or_default())
}

/// Of how many other nodes something is known.
fn origins_but(connection: &Connection, node: &str) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM origins WHERE node <> ?1")?;
    statement.query_row([node], |row| row.get(0))
}

/// Whether a batch begins where its reader stopped, or at the beginning of another database.
fn follows(before: &Mark, batch: &SpoolBatch) -> bool {
    let at = if before.epoch == batch.epoch { before.seq } else { 0 };
    batch.after == at
}

/// Numbers within a batch that have no row: the node had deleted them.
fn missing(batch: &SpoolBatch) -> i64 {
    let mut seqs: Vec<i64> = batch.rows.iter().map(|row| row.seq).collect();
    seqs.dedup();
    batch.upto.saturating_sub(batch.after).saturating_sub(i64::try_from(seqs.len()).unwrap_or(i64::MAX))
}

/// Deletes about so many rows of a node, the oldest, and notes up to which id; how many there were.
fn delete_oldest(of: &Transaction<'_>, origin: i64, count: i64) -> rusqlite::Result<i64> {
    let upto: Option<String> = of
        .prepare_cached(
            "SELECT max(id) FROM (SELECT id FROM (SELECT id FROM requests INDEXED BY requests_oldest WHERE origin = ?1 ORDER BY id LIMIT ?2)
             UNION ALL SELECT id FROM (SELECT id FROM consequences INDEXED BY consequences_oldest WHERE origin = ?1 ORDER BY id LIMIT ?2)
             ORDER BY 1 LIMIT ?2)",
        )?
        .query_row([origin, count], |row| row.get(0))?;
    let Some(upto) = upto else { return Ok(0) };
    of.prepare_cached(
        "DELETE FROM rules WHERE id IN (SELECT id FROM requests INDEXED BY requests_oldest WHERE origin = ?1 AND id <= ?2)",
    )?
    .execute(params![origin, upto])?;
    let (mut rows, mut bytes) = (0, 0);
    for table in ["requests", "consequences"] {
        let from = format!("FROM {table} INDEXED BY {table}_oldest WHERE origin = ?1 AND id <= ?2");
        let sum = format!("SELECT count(*), ifnull(sum(length(body) + {ROW_BYTES}), 0) {from}");
        let (n, size): (i64, i64) = of
            .prepare_cached(&sum)?
            .query_row(params![origin, upto], |row| Ok((row.get(0)?, row.get(1)?)))?;
        (rows, bytes) = (rows + n, bytes + size);
        of.prepare_cached(&format!("DELETE {from}"))?.execute(params![origin, upto])?;
    }
    of.prepare_cached("UPDATE origins SET rows = rows - ?2, bytes = bytes - ?3 WHERE origin = ?1")?
        .execute([origin, rows, bytes])?;
    of.prepare_cached("INSERT OR REPLACE INTO floors (origin, id) VALUES (?1, ?2)")?
        .execute(params![origin, upto])?;
    Ok(rows)
}

fn size(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap_or(i64::MAX).saturating_add(ROW_BYTES)
}

/// In place of a control node's name: the node's history before the present one. No node has such a name.
const BEFORE: &str = "<before>";
/// The greatest number of a row that is believed, and the greatest count: JSON's numbers are exact up to here, and sums of them do not overflow.
pub(super) const NUMBERS_MAX: i64 = 1 << 53;
/// Nodes of which another control node's copy is taken; the site's own are believed members and always taken.
pub(super) const RELAYED_NODES_MAX: i64 = 1_024;
/// What a row takes beside its body: its hashes, and its places in indexes.
const ROW_BYTES: i64 = 400;

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
