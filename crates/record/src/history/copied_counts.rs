//! What the other nodes of the site counted, as a control node keeps it and answers from it.
//!
//! Each bucket is there once for the database that counted it, and the later one replaces the earlier: batches may come twice, late, and by way of
//! another control node. A node that lost its disk and came back counts in a new database; both are its requests and are added up.
//!
//! INVARIANT: buckets of a node are deleted for the room of another's only while it has more than that one.

use std::collections::{HashMap, HashSet};

use phalanx_model::limits::RECORD_FUTURE_MAX_MS;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::copies::{Copies, NotTaken};
use super::counts::{Counted, CountedRow, CountsBatch, NO_APP, told};
use super::traffic::begins;
use super::{History, Mark, schema};
use crate::RecordError;
use crate::traffic::{
    Bucket, By, Dimension, HOUR_MS, MINUTE_MS, OTHERS, Traffic, TrafficQuery, TrafficSeries, value_name,
};

/// Counts of another node that are kept, as others are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedCounts {
    /// Which: what the node tells as [`History::counts_told`].
    pub told: u64,
    /// The node.
    pub node: String,
    /// Of two copies that with the greater number has more.
    pub upto: i64,
}

impl Copies {
    /// Up to where a node's counts were read, directly or from another control node's copy.
    pub fn counts_mark(&self, node: &str, via: Option<&str>) -> Result<Mark, RecordError> {
        self.connected(|connection| mark(connection, node, via.unwrap_or_default()))
    }

    /// Takes counts of a node, all of it or nothing, and deletes what is too old or too much.
    pub fn take_counts(&self, node: &str, via: Option<&str>, batch: &CountsBatch) -> Result<Mark, NotTaken> {
        if via.is_none() && batch.buckets.iter().any(|one| one.life != batch.epoch) {
            return Err(NotTaken::Refused("counts of another database"));
        }
        let now_ms = self.now_ms();
        let via = via.unwrap_or_default();
        self.changed(|transaction| {
            let before = mark(transaction, node, via)?;
            let at = if before.epoch == batch.epoch { before.seq } else { 0 };
            if batch.after != at {
                return Ok(Err(NotTaken::OutOfOrder));
            }
            if !via.is_empty() && nodes_but(transaction, node)? >= super::copies::RELAYED_NODES_MAX {
                return Ok(Err(NotTaken::Refused("counts of one node too many")));
            }
            // Of the future, since its node's clock was wrong, or older than is kept: what follows on it is wanted.
            for counted in batch.buckets.iter().filter(|one| is_kept(one, now_ms)) {
                self.put(transaction, node, counted)?;
            }
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO counts_marks (node, via, epoch, seq) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![node, via, batch.epoch, batch.upto])?;
            forget_lives(transaction, node)?;
            delete_old(transaction, now_ms)?;
            self.fit_counts(transaction)?;
            transaction.execute("DELETE FROM counts_lives WHERE buckets <= 0", [])?;
            Ok(Ok(Mark { epoch: batch.epoch, seq: batch.upto, last: None }))
        })?
    }

    /// Keeps a bucket, if what is there is not later.
    fn put(&self, to: &Transaction<'_>, node: &str, counted: &Counted) -> Result<(), RecordError> {
        let Counted { life, rev, step, at, .. } = *counted;
        to.prepare_cached("INSERT OR IGNORE INTO counts_lives (node, life, told) VALUES (?1, ?2, ?3)")?
            .execute(params![node, life, told(life).cast_signed()])?;
        let copy: i64 = to
            .prepare_cached("SELECT copy FROM counts_lives WHERE node = ?1 AND life = ?2")?
            .query_row(params![node, life], |row| row.get(0))?;
        let known: Option<(i64, i64)> = to
            .prepare_cached("SELECT rev, length(body) FROM counts WHERE copy = ?1 AND step = ?2 AND at = ?3")?
            .query_row([copy, step, at], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if known.is_some_and(|(known, _)| known >= rev) {
            return Ok(());
        }
        let body = self.shared.sealer.seal(&counts_context(copy, step, at), &serde_json::to_vec(counted)?)?;
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        let (new, more) = match known {
            Some((_, before)) => (0, size - before),
            None => (1, size + ROW_BYTES),
        };
        to.prepare_cached(
            "INSERT OR REPLACE INTO counts (copy, step, at, rev, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![copy, step, at, rev, body])?;
        let until_ms = counted.bucket().map_or(0, |bucket| bucket.begins_ms(at) + bucket.length_ms());
        to.prepare_cached(
            "UPDATE counts_lives SET upto = max(upto, ?2), until_ms = max(until_ms, ?3), buckets = buckets + ?4, bytes = bytes + ?5
             WHERE copy = ?1",
        )?
        .execute(params![copy, rev, until_ms.cast_signed(), new, more])?;
        Ok(())
    }

    /// Deletes the oldest of the node that has most, until counts have no more than their part of the room.
    fn fit_counts(&self, of: &Transaction<'_>) -> rusqlite::Result<()> {
        let room = self.bytes_max().saturating_div(COUNTS_PART);
        loop {
            let all: Option<i64> =
                of.prepare_cached("SELECT sum(bytes) FROM counts_lives")?.query_row([], |row| row.get(0))?;
            if all.unwrap_or_default() <= room {
                return Ok(());
            }
            let oldest: Vec<i64> = of
                .prepare_cached(
                    "SELECT seq FROM counts WHERE copy IN (SELECT copy FROM counts_lives WHERE node =
                       (SELECT node FROM counts_lives GROUP BY node ORDER BY sum(bytes) DESC LIMIT 1))
                     ORDER BY at * iif(step = 0, 1, 60) LIMIT ?1",
                )?
                .query_map([DELETED_FOR_ROOM], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            if oldest.is_empty() {
                return Ok(());
            }
            delete(of, &oldest)?;
        }
    }

    /// What is kept of a node's counts, for another control node that has it up to a mark.
    pub fn copied_counts_after(
        &self,
        node: &str,
        mark: &Mark,
        bytes_max: usize,
    ) -> Result<Option<CountsBatch>, RecordError> {
        let sealer = &self.shared.sealer;
        self.connected(|connection| {
            let (epoch, _) = schema::spool(connection)?;
            let after = if mark.epoch == epoch { mark.seq } else { 0 };
            let mut batch = CountsBatch { epoch, after, upto: after, buckets: Vec::new() };
            let mut statement = connection.prepare_cached(
                "SELECT seq, copy, step, at, body FROM counts WHERE seq > ?1 AND copy IN (SELECT copy FROM counts_lives WHERE node = ?2)
                 ORDER BY seq LIMIT ?3",
            )?;
            let mut found = statement.query(params![after, node, BUCKETS_AT_ONCE])?;
            let mut bytes = 0;
            while let Some(row) = found.next()? {
                let sealed = row.get_ref(4)?.as_blob()?;
                bytes += sealed.len();
                if bytes > bytes_max && batch.upto > after {
                    break;
                }
                batch.upto = row.get(0)?;
                let context = counts_context(row.get(1)?, row.get(2)?, row.get(3)?);
                // One that does not open, because its key is gone, is gone.
                let counted = sealer.open(&context, sealed).ok().and_then(|plain| serde_json::from_slice(&plain).ok());
                batch.buckets.extend(counted);
            }
            Ok((batch.upto > after).then_some(batch))
        })
    }

    /// Whether there may be counts of a node here that a reader of this mark did not get from the node itself.
    pub fn counts_are_ahead(&self, node: &str, theirs: &Mark) -> Result<bool, RecordError> {
        self.connected(|connection| {
            let own = mark(connection, node, "")?;
            let others: i64 = connection
                .prepare_cached(
                    "SELECT (SELECT count(*) FROM counts_marks WHERE node = ?1 AND via <> '')
                     + (SELECT count(*) FROM counts_lives WHERE node = ?1 AND life <> ?2)",
                )?
                .query_row(params![node, own.epoch], |row| row.get(0))?;
            Ok(others > 0 || own.epoch != theirs.epoch || own.seq > theirs.seq)
        })
    }
}

impl History {
    /// In copies: whose counts there are of a time, those that were changed last at the end; so many at most.
    pub fn copied_counts(&self, from_ms: u64, count_max: usize) -> Result<Vec<CopiedCounts>, RecordError> {
        let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT told, node, upto FROM counts_lives WHERE until_ms > ?1 ORDER BY upto LIMIT ?2",
            )?;
            let found = statement.query_map([from_ms.cast_signed(), count_max], |row| {
                Ok(CopiedCounts {
                    told: row.get::<_, i64>(0)?.unsigned_abs(),
                    node: row.get(1)?,
                    upto: row.get(2)?,
                })
            })?;
            found.collect()
        })
    }

    /// In copies: requests over time of these counts, as [`History::traffic`] of the nodes would tell. By node and by site they are told apart by the
    /// node's name.
    pub fn copied_traffic(&self, query: &TrafficQuery, told: &[u64]) -> Result<Traffic, RecordError> {
        let mut answer = Answer { query, traffic: Traffic::none(query), series: HashMap::new() };
        if query.points() == 0 {
            return Ok(answer.traffic);
        }
        self.with_connection(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let (mut minute, mut hour) = (None, None);
            for (copy, node) in chosen(&snapshot, told)? {
                for (bucket, oldest) in [(Bucket::Minute, &mut minute), (Bucket::Hour, &mut hour)] {
                    let mut statement = snapshot
                        .prepare_cached("SELECT min(at) FROM counts WHERE copy = ?1 AND step = ?2")?;
                    let first: Option<i64> = statement.query_row([copy, bucket.code()], |row| row.get(0))?;
                    *oldest = [*oldest, first].into_iter().flatten().min();
                }
                self.add_copy(&snapshot, copy, &node, &mut answer)?;
            }
            answer.traffic.begins_ms = begins(minute, hour);
            Ok(())
        })?;
        let Answer { mut traffic, series, .. } = answer;
        traffic.series = series.into_values().collect();
        traffic.keep_largest(query.series_max);
        Ok(traffic)
    }

    /// Adds the buckets of one database. Hours that were not over when its node was lost are told by their minutes.
    fn add_copy(
        &self,
        of: &Connection,
        copy: i64,
        node: &str,
        answer: &mut Answer<'_>,
    ) -> rusqlite::Result<()> {
        let mut hours = HashSet::new();
        if answer.query.bucket() == Bucket::Hour {
            self.each(of, (copy, Bucket::Hour), answer.query, |at, counted| {
                hours.insert(at);
                answer.add(Bucket::Hour.begins_ms(at), counted, node);
            })?;
        }
        let covered = |at: i64| hours.contains(&(at / MINUTES_OF_HOUR));
        let is_whole = answer.query.bucket() == Bucket::Hour
            && hours.len() as u64 * HOUR_MS >= answer.query.to_ms - answer.query.from_ms;
        if is_whole {
            return Ok(());
        }
        self.each(of, (copy, Bucket::Minute), answer.query, |at, counted| {
            if !covered(at) {
                answer.add(Bucket::Minute.begins_ms(at), counted, node);
            }
        })
    }

    fn each(
        &self,
        of: &Connection,
        (copy, bucket): (i64, Bucket),
        query: &TrafficQuery,
        mut take: impl FnMut(i64, &Counted),
    ) -> rusqlite::Result<()> {
        let at = |ms: u64| (ms / bucket.length_ms()).cast_signed();
        let mut statement = of.prepare_cached(
            "SELECT at, body FROM counts WHERE copy = ?1 AND step = ?2 AND at >= ?3 AND at < ?4",
        )?;
        let mut found = statement.query([copy, bucket.code(), at(query.from_ms), at(query.to_ms)])?;
        while let Some(row) = found.next()? {
            let at = row.get(0)?;
            let sealed = row.get_ref(1)?.as_blob()?;
            let Ok(plain) = self.shared.sealer.open(&counts_context(copy, bucket.code(), at), sealed) else {
                continue;
            };
            if let Ok(counted) = serde_json::from_slice(&plain) {
                take(at, &counted);
            }
        }
        Ok(())
    }
}

/// What is being added up.
struct Answer<'q> {
    query: &'q TrafficQuery,
    traffic: Traffic,
    series: HashMap<(i64, String), TrafficSeries>,
}

impl Answer<'_> {
    fn add(&mut self, at_ms: u64, counted: &Counted, node: &str) {
        let query = self.query;
        let point = at_ms.saturating_sub(query.from_ms) / query.step_ms;
        let Ok(point) = usize::try_from(point) else { return };
        for CountedRow(dimension, app, value, n, refused) in &counted.rows {
            let Some(dimension) = Dimension::ALL.get(usize::from(*dimension)).copied() else { continue };
            let name = usize::try_from(*app).ok().and_then(|at| counted.apps.get(at));
            let is_asked = |apps: &Vec<String>| name.is_some_and(|name| apps.contains(name));
            if !query.apps.as_ref().is_none_or(is_asked) {
                continue;
            }
            self.traffic.totals.count(dimension, *value, *n, *refused);
            let n = if query.refused { *refused } else { *n };
            if dimension != Dimension::of(query.by) || n == 0 {
                continue;
            }
            let key = match query.by {
                By::App if *app == OTHERS => None,
                By::App if *app == NO_APP => Some((0, String::new())),
                By::App => Some((1, name.cloned().unwrap_or_default())),
                By::Node | By::Site => Some((0, node.to_owned())),
                _ if *value == OTHERS => None,
                _ => Some((*value, String::new())),
            };
            self.count(key, point, n);
        }
    }

    fn count(&mut self, key: Option<(i64, String)>, point: usize, n: u64) {
        let (total, points) = match key {
            None => (&mut self.traffic.others.total, &mut self.traffic.others.points),
            Some(key) => {
                let (by, points) = (self.query.by, self.traffic.others.points.len());
                let one = self.series.entry(key).or_insert_with_key(|(value, name)| TrafficSeries {
                    key: if name.is_empty() { value_name(by, *value) } else { name.clone() },
                    words: None,
                    total: 0,
                    points: vec![0; points],
                });
                (&mut one.total, &mut one.points)
            }
        };
        if let Some(point) = points.get_mut(point) {
            *point = point.saturating_add(n);
            *total = total.saturating_add(n);
        }
    }
}

/// The copies of these counts with their nodes. A node that was given another name brought its counts under both: the later copy has all of it.
fn chosen(of: &Connection, told: &[u64]) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = of.prepare_cached(
        "SELECT copy, node FROM counts_lives WHERE told = ?1 ORDER BY upto DESC, node LIMIT 1",
    )?;
    let mut chosen = Vec::new();
    let asked: HashSet<u64> = told.iter().copied().collect();
    for one in asked {
        let found = statement.query_row([one.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)));
        chosen.extend(found.optional()?);
    }
    Ok(chosen)
}

fn mark(connection: &Connection, node: &str, via: &str) -> rusqlite::Result<Mark> {
    let mut statement =
        connection.prepare_cached("SELECT epoch, seq FROM counts_marks WHERE node = ?1 AND via = ?2")?;
    let found =
        statement.query_row([node, via], |row| Ok(Mark { epoch: row.get(0)?, seq: row.get(1)?, last: None }));
    Ok(found.optional()?.unwrap_or_default())
}

/// Of how many other nodes there are counts.
fn nodes_but(connection: &Connection, node: &str) -> rusqlite::Result<i64> {
    let mut statement =
        connection.prepare_cached("SELECT count(DISTINCT node) FROM counts_lives WHERE node <> ?1")?;
    statement.query_row([node], |row| row.get(0))
}

fn is_kept(counted: &Counted, now_ms: u64) -> bool {
    counted.bucket().is_some_and(|bucket| {
        let begins_ms = bucket.begins_ms(counted.at);
        // Also minutes, of an hour that its node did not live to close.
        let oldest_ms = now_ms.saturating_sub(Bucket::Hour.kept() * HOUR_MS);
        begins_ms <= now_ms.saturating_add(RECORD_FUTURE_MAX_MS) && begins_ms >= oldest_ms
    })
}

/// Keeps so many databases of one node, those that were changed last.
fn forget_lives(of: &Transaction<'_>, node: &str) -> rusqlite::Result<()> {
    let beyond: Vec<i64> = of
        .prepare_cached(
            "SELECT copy FROM counts_lives WHERE node = ?1 ORDER BY upto DESC LIMIT -1 OFFSET ?2",
        )?
        .query_map(params![node, LIVES_MAX], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for copy in beyond {
        of.prepare_cached("DELETE FROM counts WHERE copy = ?1")?.execute([copy])?;
        of.prepare_cached("DELETE FROM counts_lives WHERE copy = ?1")?.execute([copy])?;
    }
    Ok(())
}

/// Deletes buckets that are too old, a few at a time, as nodes do. Minutes of an hour that its node did not live to close stay as long as hours do.
fn delete_old(of: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<()> {
    let first = |bucket: Bucket| {
        let first = (now_ms / bucket.length_ms()).saturating_sub(bucket.kept());
        first.cast_signed()
    };
    let (minute, hour) = (first(Bucket::Minute), first(Bucket::Hour));
    let old: Vec<i64> = of
        .prepare_cached(
            "SELECT seq FROM counts c WHERE (step = 1 AND at < ?2)
             OR (step = 0 AND at < ?1 AND (at < ?2 * 60 OR EXISTS
               (SELECT 1 FROM counts h WHERE h.copy = c.copy AND h.step = 1 AND h.at = c.at / 60)))
             LIMIT ?3",
        )?
        .query_map([minute, hour, DELETED_AS_OLD], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    delete(of, &old)
}

fn delete(of: &Transaction<'_>, seqs: &[i64]) -> rusqlite::Result<()> {
    for seq in seqs {
        of.prepare_cached(
            "UPDATE counts_lives SET buckets = buckets - 1, bytes = bytes - (SELECT length(body) + ?2 FROM counts WHERE seq = ?1)
             WHERE copy = (SELECT copy FROM counts WHERE seq = ?1)",
        )?
        .execute([*seq, ROW_BYTES])?;
        of.prepare_cached("DELETE FROM counts WHERE seq = ?1")?.execute([*seq])?;
    }
    Ok(())
}

fn counts_context(copy: i64, step: i64, at: i64) -> String {
    format!("history/counts/{copy}/{step}/{at}")
}

const MINUTES_OF_HOUR: i64 = (HOUR_MS / MINUTE_MS).cast_signed();
/// Of the room for copies counts may take so small a part: some ten megabytes are ninety days of a busy app.
const COUNTS_PART: i64 = 4;
/// Databases of one node: it lost its disk so often in the time that is kept, or says so.
const LIVES_MAX: i64 = 16;
/// More than become too old between two batches of all nodes.
const DELETED_AS_OLD: i64 = 4;
const DELETED_FOR_ROOM: i64 = 64;
const BUCKETS_AT_ONCE: i64 = 256;
/// What a bucket takes beside its body.
const ROW_BYTES: i64 = 100;
