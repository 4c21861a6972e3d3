//! A history as others read it: rows in the order of their numbers, from where a reader stopped.
//!
//! A reader's mark is the database's epoch, the number up to which it has all, and the id of the last row it got. A database that is not what the
//! reader has read of it (set aside, put back from a backup, cut short by a loss of power) gets a new epoch, and is read from its beginning:
//! what comes twice has the same id.

use std::time::{Duration, Instant};

use phalanx_model::RequestId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{History, body_context, consequence_context, schema};
use crate::RecordError;

/// Up to where a reader has a history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of which database; 0 of none.
    pub epoch: i64,
    /// The number up to which it has all.
    pub seq: i64,
    /// The request of the row of that number, if it got that row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RequestId>,
}

/// Rows after a mark, as they travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolBatch {
    /// Of which database.
    pub epoch: i64,
    /// The number after which it begins.
    pub after: i64,
    /// The number up to which it is complete: what has no row here is gone.
    pub upto: i64,
    /// The number of the last row there is.
    pub last: i64,
    /// What it holds.
    pub(super) rows: Vec<Row>,
}

/// One row, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    /// JSON.
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Consequence,
}

/// Whose rows are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    /// Those of the node with this tag, in its own history.
    Node(u16),
    /// Those of one of the nodes in copies.
    Origin(i64),
}

impl Whose {
    fn may_send(self, id: &str) -> bool {
        match self {
            Self::Node(tag) => id.parse::<RequestId>().is_ok_and(|id| id.node_tag() == tag),
            Self::Origin(_) => true,
        }
    }
}

impl SpoolBatch {
    /// The form on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        for number in [self.epoch, self.after, self.upto, self.last] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for row in &self.rows {
            bytes.extend_from_slice(&row.seq.to_be_bytes());
            bytes.push(match row.kind {
                Kind::Request => 0,
                Kind::Consequence => 1,
            });
            bytes.extend_from_slice(&u32::try_from(row.body.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(&row.body);
        }
        bytes
    }

    /// Reads it; `None` if it is of another form, or its numbers do not rise.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (form, mut rest) = bytes.split_first()?;
        if *form != FORM {
            return None;
        }
        let mut number = || {
            let (number, left) = rest.split_first_chunk()?;
            rest = left;
            Some(i64::from_be_bytes(*number))
        };
        let (epoch, after, upto, last) = (number()?, number()?, number()?, number()?);
        let mut rows: Vec<Row> = Vec::new();
        while !rest.is_empty() {
            let (seq, left) = rest.split_first_chunk()?;
            let (kind, left) = left.split_first()?;
            let (length, left) = left.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (body, left) = left.split_at_checked(length)?;
            rest = left;
            let kind = match kind {
                0 => Kind::Request,
                1 => Kind::Consequence,
                _ => return None,
            };
            rows.push(Row { seq: i64::from_be_bytes(*seq), kind, body: body.to_vec() });
        }
        let rises = rows.windows(2).all(|pair| matches!(pair, [a, b] if a.seq <= b.seq));
        let within = rows.iter().all(|row| after < row.seq && row.seq <= upto);
        (rises && within && 0 <= after && after <= upto && upto <= last).then_some(Self {
            epoch,
            after,
            upto,
            last,
            rows,
        })
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it only says that rows are gone.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl History {
    /// The number of the last row, and each later one.
    pub fn written(&self) -> watch::Receiver<i64> {
        self.shared.written.subscribe()
    }

    /// Rows after a reader's mark, of so many bytes at most but one row at least; `None` if it has all. Rows that the node wrote under another name
    /// than the one with this tag are left out: nobody would take them.
    pub fn batch_after(
        &self,
        mark: &Mark,
        node_tag: u16,
        bytes_max: usize,
    ) -> Result<Option<SpoolBatch>, RecordError> {
        self.batch(mark, Whose::Node(node_tag), bytes_max)
    }

    /// The same of one node's rows among others'.
    pub(super) fn batch(
        &self,
        mark: &Mark,
        whose: Whose,
        bytes_max: usize,
    ) -> Result<Option<SpoolBatch>, RecordError> {
        let read = self.with_connection(|connection| {
            // Of one moment, whatever is written or deleted meanwhile.
            let snapshot = connection.unchecked_transaction()?;
            let (epoch, last) = schema::spool(&snapshot)?;
            if mark.epoch == epoch && !is_as_read(&snapshot, mark, last)? {
                return Ok(None);
            }
            let after = if mark.epoch == epoch { mark.seq } else { 0 };
            let (rows, upto) = self.rows(&snapshot, (after, last), whose, bytes_max)?;
            Ok(Some(SpoolBatch { epoch, after, upto, last, rows }))
        })?;
        let Some(batch) = read else {
            // Who says too often what cannot be gets nothing, and the others read on.
            return match self.begin_anew()? {
                true => self.batch(&Mark::default(), whose, bytes_max),
                false => Ok(None),
            };
        };
        Ok((batch.upto > batch.after).then_some(batch))
    }

    /// Rows that open, and up to which number these are all.
    fn rows(
        &self,
        connection: &Connection,
        (after, last): (i64, i64),
        whose: Whose,
        bytes_max: usize,
    ) -> rusqlite::Result<(Vec<Row>, i64)> {
        let origin = match whose {
            Whose::Node(_) => None,
            Whose::Origin(origin) => Some(origin),
        };
        let of = if origin.is_some() { "AND origin = ?2" } else { "AND ?2 IS NULL" };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT * FROM (SELECT seq, 0, id, body FROM requests WHERE seq > ?1 {of} ORDER BY seq LIMIT {READ_MAX})
             UNION ALL
             SELECT * FROM (SELECT seq, 1, id, body FROM consequences WHERE seq > ?1 {of} ORDER BY seq LIMIT {READ_MAX})
             ORDER BY 1, 2"
        ))?;
        let mut found = statement.query(params![after, origin])?;
        let (mut rows, mut bytes, mut upto, mut read) = (Vec::<Row>::new(), 0, after, 0);
        while let Some(row) = found.next()? {
            let seq: i64 = row.get(0)?;
            let (is_consequence, id): (bool, String) = (row.get(1)?, row.get(2)?);
            let sealed = row.get_ref(3)?.as_blob()?;
            // Numbers of before may be those of a request and of a consequence: a batch ends between numbers.
            let ends = seq != upto && (bytes + sealed.len() > bytes_max && read > 0 || read >= ROWS_MAX);
            if ends {
                return Ok((rows, upto));
            }
            (upto, read, bytes) = (seq, read + 1, bytes + sealed.len() + ROW_HEAD_BYTES);
            let (kind, context) = match is_consequence {
                false => (Kind::Request, body_context(&id)),
                true => (Kind::Consequence, consequence_context(&id)),
            };
            // One that does not open, because its key is gone, is gone.
            let opened =
                whose.may_send(&id).then(|| self.shared.sealer.open(&context, sealed).ok()).flatten();
            rows.extend(opened.map(|body| Row { seq, kind, body }));
        }
        // Of one among others no more is said than up to its last row: what others have after it would never come to rest.
        Ok((rows, if origin.is_some() { upto } else { last }))
    }

    /// Gives the database a new epoch: it is not what somebody has read of it. False if it got one lately.
    fn begin_anew(&self) -> Result<bool, RecordError> {
        let mut at = self.shared.anew_at.lock();
        if at.is_some_and(|at| at.elapsed() < ANEW_EVERY) {
            return Ok(false);
        }
        tracing::warn!(
            history = %self.shared.path.display(),
            "the history is not what other nodes have read of it; they read it again"
        );
        let connection = Connection::open(&self.shared.path)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.execute("UPDATE spool SET epoch = ?1", [schema::new_epoch()])?;
        *at = Some(Instant::now());
        Ok(true)
    }
}

/// Whether the database still has what a reader got last, or nothing more of it.
fn is_as_read(connection: &Connection, mark: &Mark, last: i64) -> rusqlite::Result<bool> {
    if mark.seq > last || mark.seq < 0 {
        return Ok(false);
    }
    let Some(id) = mark.last else { return Ok(true) };
    let mut is_there = false;
    for table in ["requests", "consequences"] {
        let statement = format!("SELECT id FROM {table} WHERE seq = ?1");
        let mut statement = connection.prepare_cached(&statement)?;
        let found: Option<String> = statement.query_row([mark.seq], |row| row.get(0)).optional()?;
        match found {
            Some(found) if found.parse() == Ok(id) => return Ok(true),
            found => is_there |= found.is_some(),
        }
    }
    Ok(!is_there)
}

/// How often a reader may bring about that all read a history from its beginning.
const ANEW_EVERY: Duration = Duration::from_secs(3_600);
/// The form of a batch.
const FORM: u8 = 1;
/// Of a batch, however small its rows are: a transaction takes so long.
const ROWS_MAX: usize = 512;
/// Of each table: one more than goes into a batch, and a request and its consequence of one number.
const READ_MAX: usize = ROWS_MAX + 2;
/// Number, kind and length.
const ROW_HEAD_BYTES: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_reads_back(epoch: i64, after in 0..1_000i64, steps in prop::collection::vec((0..3i64, any::<bool>(), any::<Vec<u8>>()), 0..20), more in 0..9i64) {
            let mut seq = after;
            let rows: Vec<Row> = steps.into_iter().map(|(step, request, body)| {
                seq += if seq == after { step.max(1) } else { step };
                Row { seq, kind: if request { Kind::Request } else { Kind::Consequence }, body }
            }).collect();
            let batch = SpoolBatch { epoch, after, upto: seq, last: seq + more, rows };
            prop_assert_eq!(SpoolBatch::from_bytes(&batch.to_bytes()), Some(batch.clone()));
            let bytes = batch.to_bytes();
            prop_assert_eq!(SpoolBatch::from_bytes(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = SpoolBatch::from_bytes(&bytes);
            let _ = SpoolBatch::from_bytes(&[&[FORM][..], &bytes].concat());
        }
    }
}
