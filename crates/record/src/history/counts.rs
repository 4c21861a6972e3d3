//! Counts of a history as others read them: minutes, and hours that are over, whole, in the order in which they were last changed.
//!
//! Flow in names: rows of `traffic` -> [`Counted`] -> [`CountsBatch`] -> `Copies::take_counts`. A reader's mark is the *life* of the counts, which is
//! the database that counted, and the number of the last change that it has. What is added to a bucket gives it a new number: it is sent
//! again, and replaces what was there.
//!
//! INVARIANT: sums never change on the way; what does not fit into a batch is added up, as in a bucket that is over.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use phalanx_model::limits::TRAFFIC_VALUES_MAX;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::copies::NUMBERS_MAX;
use super::{History, Mark, name_context};
use crate::RecordError;
use crate::traffic::{Bucket, Dimension, MINUTE_MS, OTHERS, country_of, country_value};

/// Buckets after a mark, as they travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsBatch {
    /// Of which database.
    pub epoch: i64,
    /// The number after which it begins.
    pub after: i64,
    /// The number up to which it is complete.
    pub upto: i64,
    /// What it holds.
    pub(super) buckets: Vec<Counted>,
}

/// All requests of one minute or hour at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// The database that counted them.
    pub(super) life: i64,
    /// Of two that are about the same time the one with the greater number is right.
    pub(super) rev: i64,
    /// Whether minute or hour, as in the database.
    pub(super) step: i64,
    /// Its number since 1970.
    pub(super) at: i64,
    /// Names that rows speak of.
    pub(super) apps: Vec<String>,
    pub(super) rows: Vec<CountedRow>,
}

/// By what they are counted, a place in `apps`, the value, how many there were, and how many of them refused. A country is its two letters as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CountedRow(pub(super) u8, pub(super) i64, pub(super) i64, pub(super) u64, pub(super) u64);

impl CountsBatch {
    /// The form on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        // Numbers and text are always written.
        let _ = serde_json::to_writer(&mut bytes, self);
        bytes
    }

    /// Reads it; `None` if it is of another form, or holds what nothing can have counted.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        if *form != FORM || rest.len() > BATCH_BYTES_MAX {
            return None;
        }
        let batch: Self = serde_json::from_slice(rest).ok()?;
        let numbers = [0, batch.after, batch.upto, NUMBERS_MAX];
        let is_sane = numbers.is_sorted() && batch.buckets.iter().all(Counted::is_sane);
        is_sane.then_some(batch)
    }

    /// How many buckets it holds.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

impl Counted {
    /// The length of the bucket.
    pub(super) fn bucket(&self) -> Option<Bucket> {
        Bucket::ALL.into_iter().find(|bucket| bucket.code() == self.step)
    }

    /// Whether a node can have counted so. Sums of what is here stay far from the greatest number.
    fn is_sane(&self) -> bool {
        let within = |row: &CountedRow| {
            let CountedRow(dimension, app, value, n, refused) = *row;
            let is_named = usize::try_from(app).map_or((NO_APP..0).contains(&app), |at| at < self.apps.len());
            let is_known = match Dimension::ALL.get(usize::from(dimension)) {
                Some(Dimension::Country) if value > 0 => country_of(value.cast_unsigned()).is_some(),
                Some(_) => true,
                None => false,
            };
            is_named && is_known && n <= COUNT_MAX && refused <= n
        };
        let names = self.apps.iter().all(|name| name.len() <= APP_BYTES_MAX);
        let numbers = (0..=NUMBERS_MAX).contains(&self.rev) && (0..=MINUTES_MAX).contains(&self.at);
        self.bucket().is_some() && names && numbers && self.rows.iter().all(within)
    }

    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |json| json.len())
    }

    /// In so many bytes, with as many apps apart as fit: those with the most requests.
    fn fitted(mut self) -> Self {
        while self.bytes() > COUNTED_BYTES_MAX && !self.apps.is_empty() {
            let kept = self.apps.len() / 2;
            self.keep_apps(kept);
        }
        self
    }

    fn keep_apps(&mut self, kept: usize) {
        let mut sizes = vec![0_u64; self.apps.len()];
        for row in self.rows.iter().filter(|row| usize::from(row.0) == Dimension::Action as usize) {
            if let Some(size) = usize::try_from(row.1).ok().and_then(|app| sizes.get_mut(app)) {
                *size += row.3;
            }
        }
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|app| std::cmp::Reverse(sizes.get(*app).copied()));
        order.truncate(kept);
        let place = |app: i64| match usize::try_from(app) {
            Ok(app) => order.iter().position(|one| *one == app).map_or(OTHERS, |at| at as i64),
            Err(_) => app,
        };
        let mut rows = Rows::default();
        for CountedRow(dimension, app, value, n, refused) in &self.rows {
            rows.add((*dimension, place(*app), *value), (*n, *refused));
        }
        rows.fold_others();
        self.rows = rows.into();
        let names = order.iter().filter_map(|app| self.apps.get(*app).cloned()).collect();
        self.apps = names;
    }
}

/// Rows by what they are about.
#[derive(Default)]
struct Rows(BTreeMap<(u8, i64, i64), (u64, u64)>);

impl Rows {
    fn add(&mut self, about: (u8, i64, i64), (n, refused): (u64, u64)) {
        let sum = self.0.entry(about).or_default();
        *sum = (sum.0.saturating_add(n), sum.1.saturating_add(refused));
    }

    /// Of all other apps together the largest values stay apart, as of one app.
    fn fold_others(&mut self) {
        for dimension in Dimension::ALL.into_iter().filter(|dimension| dimension.is_wide()) {
            let code = dimension as u8;
            let mut values: Vec<_> = self
                .0
                .iter()
                .filter(|((of, app, value), _)| *of == code && *app == OTHERS && *value != OTHERS)
                .map(|(about, sum)| (*about, *sum))
                .collect();
            values.sort_by_key(|(about, (n, refused))| (std::cmp::Reverse((*refused, *n)), *about));
            for (about, sum) in values.into_iter().skip(TRAFFIC_VALUES_MAX) {
                self.0.remove(&about);
                self.add((code, OTHERS, OTHERS), sum);
            }
        }
    }
}

impl From<Rows> for Vec<CountedRow> {
    fn from(rows: Rows) -> Self {
        rows.0
            .into_iter()
            .map(|((of, app, value), (n, refused))| CountedRow(of, app, value, n, refused))
            .collect()
    }
}

impl History {
    /// Which counts these are, as others are told: the name itself is known to readers only, so that nobody writes under it.
    pub fn counts_told(&self) -> Result<u64, RecordError> {
        let (life, _) = self.with_connection(spool)?;
        Ok(told(life))
    }

    /// Counts after a reader's mark, of so many bytes at most but of one bucket at least; `None` if it has all.
    pub fn counts_after(&self, mark: &Mark, bytes_max: usize) -> Result<Option<CountsBatch>, RecordError> {
        self.with_connection(|connection| {
            // Of one moment, whatever is written or deleted meanwhile.
            let snapshot = connection.unchecked_transaction()?;
            let (life, _) = spool(&snapshot)?;
            let after = if mark.epoch == life { mark.seq } else { 0 };
            let changes: Vec<(i64, i64, i64)> = snapshot
                .prepare_cached(
                    "SELECT step, at, rev FROM counts_changes WHERE rev > ?1 AND (step, at) IN (SELECT step, at FROM traffic_buckets)
                     ORDER BY rev LIMIT ?2",
                )?
                .query_map([after, BUCKETS_MAX], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let mut names = Names { history: self, known: HashMap::new() };
            let mut batch = CountsBatch { epoch: life, after, upto: after, buckets: Vec::new() };
            let mut bytes = 0;
            for (step, at, rev) in changes {
                let counted = names.counted(&snapshot, life, (step, at, rev))?.fitted();
                bytes += counted.bytes();
                if bytes > bytes_max && !batch.is_empty() {
                    break;
                }
                batch.upto = rev;
                batch.buckets.push(counted);
            }
            Ok((!batch.is_empty()).then_some(batch))
        })
    }
}

/// Names under their tags, each opened once.
struct Names<'h> {
    history: &'h History,
    known: HashMap<i64, Option<String>>,
}

impl Names<'_> {
    fn counted(
        &mut self,
        of: &Connection,
        life: i64,
        (step, at, rev): (i64, i64, i64),
    ) -> rusqlite::Result<Counted> {
        let mut apps: Vec<String> = Vec::new();
        let mut rows = Rows::default();
        for dimension in Dimension::ALL {
            let mut statement = of.prepare_cached(
                "SELECT app, value, n, refused FROM traffic WHERE step = ?1 AND dimension = ?2 AND at = ?3",
            )?;
            let mut found = statement.query([step, dimension.code(), at])?;
            while let Some(row) = found.next()? {
                let (app, value): (i64, i64) = (row.get(0)?, row.get(1)?);
                let app = match (app, self.name(of, app)?) {
                    (0, _) => NO_APP,
                    (_, Some(name)) => apps.iter().position(|one| *one == name).unwrap_or_else(|| {
                        apps.push(name);
                        apps.len() - 1
                    }) as i64,
                    // One that does not open, because its key is gone, is one of the others.
                    (_, None) => OTHERS,
                };
                let value = match dimension {
                    Dimension::Country if value != 0 => self.country(of, value)?,
                    _ => value,
                };
                let (n, refused): (i64, i64) = (row.get(2)?, row.get(3)?);
                rows.add((dimension as u8, app, value), (n.unsigned_abs(), refused.unsigned_abs()));
            }
        }
        Ok(Counted { life, rev, step, at, apps, rows: rows.into() })
    }

    fn country(&mut self, of: &Connection, tag: i64) -> rusqlite::Result<i64> {
        let country = self.name(of, tag)?.and_then(|name| name.parse().ok());
        Ok(country.map_or(OTHERS, |country| country_value(country).cast_signed()))
    }

    fn name(&mut self, of: &Connection, tag: i64) -> rusqlite::Result<Option<String>> {
        if tag == OTHERS || tag == 0 {
            return Ok(None);
        }
        if let Some(known) = self.known.get(&tag) {
            return Ok(known.clone());
        }
        let mut statement = of.prepare_cached("SELECT name FROM names WHERE tag = ?1")?;
        let sealed: Option<Vec<u8>> = statement.query_row([tag], |row| row.get(0)).optional()?;
        let opened = sealed.and_then(|sealed| {
            let name = self.history.shared.sealer.open(&name_context(tag), &sealed).ok()?;
            String::from_utf8(name).ok().filter(|name| name.len() <= APP_BYTES_MAX)
        });
        self.known.insert(tag, opened.clone());
        Ok(opened)
    }
}

/// The name of the counts, and the number of the last change.
fn spool(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.query_row("SELECT life, last FROM counts_spool", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// What others are told of the name of counts.
pub(super) fn told(life: i64) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"phalanx counts");
    context.update(&life.to_be_bytes());
    let digest = context.finish();
    // One bit less: the database's numbers have a sign.
    digest.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes) >> 1)
}

/// The form of a batch. Forms of other rows have other numbers.
const FORM: u8 = 2;
/// Longer than any that is sent.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Of one batch, however small they are.
const BUCKETS_MAX: i64 = 256;
/// A minute of some twenty busy apps, each apart; with more the smallest are added up.
const COUNTED_BYTES_MAX: usize = 32 * 1024;
/// Twice what an app's name may have.
const APP_BYTES_MAX: usize = 128;
/// In place of an app: events that found no room have none.
pub(super) const NO_APP: i64 = -2;
/// The greatest count that is believed: more than a node serves in an hour, and sums over all that is kept do not overflow.
const COUNT_MAX: u64 = 1 << 40;
/// Far beyond any clock; times in milliseconds do not overflow.
const MINUTES_MAX: i64 = i64::MAX / (1_000 * MINUTE_MS.cast_signed());

#[cfg(test)]
#[path = "counts_tests.rs"]
mod tests;
