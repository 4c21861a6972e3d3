//! The writing side: batches in, oldest out, damage set aside.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_model::limits::HISTORY_RECORD_BYTES_MAX;
use phalanx_model::{Action, Signal};
use phalanx_trust::Sealer;
use rusqlite::{Connection, params};

use super::rollup::Rollup;
use super::{Shared, body_context, consequence_context, is_damage, lookup_key, schema};
use crate::RecordError;
use crate::outlet::{Outlet, set_aside};
use crate::request::{Consequence, RecordedRequest};
use crate::traffic::{Locate, Located, Tally, action_value};

/// The history's writer. The connection is opened on first use and again after a failure.
pub(crate) struct Store {
    shared: Arc<Shared>,
    connection: Option<Connection>,
    rollup: Rollup,
    /// The rows were written under a key that is gone: they are set aside when the database is first opened.
    foreign: bool,
    rows: u64,
    /// The number of the last row.
    last: i64,
    rows_max: u64,
    bytes_max: u64,
}

/// One thing to keep, sealed already.
pub(crate) enum Item {
    /// A request.
    Request { id: String, facts: Facts, rules: Vec<u64>, body: Vec<u8> },
    /// What followed from one.
    Consequence { id: String, body: Vec<u8> },
}

/// By what a request is found; apart from numbers, keyed hashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) client: Vec<u8>,
    pub(crate) action: i64,
    pub(crate) app: i64,
    pub(crate) country: i64,
    pub(crate) method: i64,
    pub(crate) status: u16,
}

impl Facts {
    pub(super) fn of(record: &RecordedRequest, shared: &Shared) -> Self {
        let access = &record.access;
        let country = shared.located(access.client).country;
        Self {
            client: shared.client_key(access.client),
            action: action_code(access.verdict.action),
            app: shared.tag("app", &access.app),
            country: country.map_or(0, |country| shared.tag("country", &country.to_string())),
            method: shared.tag("method", &access.method),
            status: access.status,
        }
    }
}

impl Store {
    /// Prepares the history at `path`. A key file is read or made; the database is opened by the first write.
    pub(crate) fn new(
        path: &Path,
        sealer: Arc<Sealer>,
        locate: Option<Locate>,
        (rows_max, bytes_max): (u64, u64),
    ) -> Result<Self, RecordError> {
        let (key, fresh) = lookup_key(&path.with_extension("key"), &sealer)?;
        let shared = Arc::new(Shared::new(path, sealer, &key, locate));
        let foreign = fresh && path.exists();
        let rollup = Rollup::default();
        Ok(Self { shared, connection: None, rollup, foreign, rows: 0, last: 0, rows_max, bytes_max })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Where an address is, if a database says so.
    pub(crate) fn locate(&self, client: IpAddr) -> Located {
        self.shared.located(client)
    }

    /// Seals a request for keeping.
    pub(crate) fn request_item(&self, record: &RecordedRequest) -> Result<Item, RecordError> {
        let id = record.id().to_string();
        let mut plain = serde_json::to_vec(record)?;
        if plain.len() > HISTORY_RECORD_BYTES_MAX {
            plain = serde_json::to_vec(&fitting(record))?;
        }
        Ok(Item::Request {
            facts: Facts::of(record, &self.shared),
            rules: record.rule_ids(),
            body: self.shared.sealer.seal(&body_context(&id), &plain)?,
            id,
        })
    }

    /// Seals a consequence for keeping; `None` if it followed from no request.
    pub(crate) fn consequence_item(&self, consequence: &Consequence) -> Result<Option<Item>, RecordError> {
        let Some(id) = consequence.request() else { return Ok(None) };
        let id = id.to_string();
        let plain = serde_json::to_vec(consequence)?;
        let body = self.shared.sealer.seal(&consequence_context(&id), &plain)?;
        Ok(Some(Item::Consequence { id, body }))
    }

    /// Opens the database if it is not open. A damaged one is set aside, and named in the value.
    pub(crate) fn open(&mut self, now_ms: u64) -> Result<Option<String>, RecordError> {
        if self.connection.is_some() {
            return Ok(None);
        }
        // Creates the file with mode 0600; SQLite gives its side files the same.
        Outlet::new(self.shared.path.clone())
            .length()
            .map_err(|source| RecordError::Io { path: self.shared.path.clone(), source })?;
        let mut note = None;
        if self.foreign {
            note = Some(self.set_aside(&"its sealing key is gone", now_ms)?);
            self.foreign = false;
        }
        let note = match self.connect() {
            Ok(()) => note,
            Err(error) if is_damage(&error) => {
                let note = self.set_aside(&error, now_ms)?;
                self.connect()?;
                Some(note)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(note)
    }

    /// Writes a batch in one transaction: all of it, or nothing. Damage found on the way is set aside, named in the
    /// value, and the batch written to a new database.
    pub(crate) fn write(&mut self, items: &[Item], now_ms: u64) -> Result<Option<String>, RecordError> {
        let mut note = self.open(now_ms)?;
        if self.shared.suspect.swap(false, Ordering::AcqRel)
            && let Some(found) = self.check()
        {
            note = Some(self.set_aside(&found, now_ms)?);
            self.connect()?;
        }
        match self.insert(items) {
            Ok(()) => {}
            Err(error) if is_damage(&error) => {
                note = Some(self.set_aside(&error, now_ms)?);
                self.connect()?;
                self.insert(items)?;
            }
            Err(error) => {
                // A fresh connection after a disk error: SQLite may hold on to a WAL index that does not match.
                self.connection = None;
                return Err(error.into());
            }
        }
        Ok(note)
    }

    /// Adds what was counted to the counts, all of it or nothing. Damage found on the way is set aside and named, as in [`Store::write`].
    pub(crate) fn write_traffic(
        &mut self,
        tally: &Tally,
        now_ms: u64,
    ) -> Result<Option<String>, RecordError> {
        let mut note = self.open(now_ms)?;
        match self.add_traffic(tally, now_ms) {
            Ok(()) => {}
            Err(RecordError::History(error)) if is_damage(&error) => {
                note = Some(self.set_aside(&error, now_ms)?);
                self.connect()?;
                self.add_traffic(tally, now_ms)?;
            }
            Err(error) => {
                self.connection = None;
                return Err(error);
            }
        }
        Ok(note)
    }

    fn add_traffic(&mut self, tally: &Tally, now_ms: u64) -> Result<(), RecordError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        self.rollup.write(connection, &self.shared, tally, now_ms)
    }

    /// Deletes the oldest requests beyond the limits of rows and bytes.
    pub(crate) fn prune(&mut self) -> Result<(), RecordError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut excess = 0;
        if self.rows > self.rows_max {
            // Some more than needed, so that not every batch deletes.
            excess = self.rows - self.rows_max + self.rows_max / 64;
        }
        let used = used_bytes(connection)?;
        if used > self.bytes_max {
            let of_each_1024 = (used - self.bytes_max).saturating_mul(1_024) / used;
            excess = excess.max(self.rows * (of_each_1024 + 16) / 1_024 + 1);
        }
        if excess == 0 {
            return Ok(());
        }
        let transaction = connection.transaction()?;
        transaction.execute(
            "DELETE FROM requests WHERE seq IN (SELECT seq FROM requests ORDER BY id LIMIT ?1)",
            params![i64::try_from(excess).unwrap_or(i64::MAX)],
        )?;
        let oldest: Option<String> =
            transaction.query_row("SELECT min(id) FROM requests", [], |row| row.get(0))?;
        if let Some(oldest) = &oldest {
            transaction.execute("DELETE FROM rules WHERE id < ?1", [oldest])?;
            transaction.execute("DELETE FROM consequences WHERE id < ?1", [oldest])?;
        } else {
            transaction.execute_batch("DELETE FROM rules; DELETE FROM consequences;")?;
        }
        transaction.commit()?;
        self.rows = count(connection)?;
        Ok(())
    }

    fn connect(&mut self) -> rusqlite::Result<()> {
        let connection = schema::open_writer(&self.shared.path)?;
        if schema::version(&connection)? > schema::VERSION {
            // Treated like damage: set aside with its name, never written over.
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
                Some(String::from("written by a newer version")),
            ));
        }
        self.rows = count(&connection)?;
        self.last = schema::spool(&connection)?.1;
        self.shared.written.send_replace(self.last);
        self.rollup = Rollup::of(&connection)?;
        self.connection = Some(connection);
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// A damage report of SQLite's own check, after a reader stumbled.
    fn check(&self) -> Option<String> {
        let connection = self.connection.as_ref()?;
        match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
            Ok(found) if found == "ok" => None,
            Ok(found) => Some(found),
            Err(error) => is_damage(&error).then(|| error.to_string()),
        }
    }

    fn set_aside(&mut self, cause: &dyn std::fmt::Display, now_ms: u64) -> Result<String, RecordError> {
        self.connection = None;
        set_aside_database(&self.shared.path, cause, now_ms)
    }

    fn insert(&mut self, items: &[Item]) -> rusqlite::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let transaction = connection.transaction()?;
        let (mut added, mut last) = (0, self.last);
        {
            let mut request = transaction.prepare_cached(
                "INSERT OR IGNORE INTO requests (seq, id, client, action, app, country, method, status, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let mut rule =
                transaction.prepare_cached("INSERT OR IGNORE INTO rules (rule, id) VALUES (?1, ?2)")?;
            let mut consequence =
                transaction.prepare_cached("INSERT INTO consequences (seq, id, body) VALUES (?1, ?2, ?3)")?;
            for item in items {
                match item {
                    Item::Request { id, facts: f, rules, body } => {
                        let seq = last + 1;
                        let row =
                            params![seq, id, f.client, f.action, f.app, f.country, f.method, f.status, body];
                        let new = request.execute(row)?;
                        added += new;
                        last += i64::from(new > 0);
                        for number in rules {
                            rule.execute(params![number.cast_signed(), id])?;
                        }
                    }
                    Item::Consequence { id, body } => {
                        last += 1;
                        consequence.execute(params![last, id, body])?;
                    }
                }
            }
            transaction.prepare_cached("UPDATE spool SET last = ?1")?.execute([last])?;
        }
        transaction.commit()?;
        self.rows += added as u64;
        self.last = last;
        self.shared.written.send_replace(last);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages: i64) {
        if let Some(connection) = &self.connection {
            connection.pragma_update(None, "max_page_count", pages).unwrap();
        }
    }
}

/// Puts a database out of the way, named in the value, with what SQLite keeps beside it.
pub(super) fn set_aside_database(
    path: &Path,
    cause: &dyn std::fmt::Display,
    now_ms: u64,
) -> Result<String, RecordError> {
    let failed = |source| RecordError::Io { path: path.to_path_buf(), source };
    let aside = set_aside(path, now_ms).map_err(failed)?;
    for suffix in ["-wal", "-shm"] {
        let side = with_suffix(path, suffix);
        match std::fs::rename(&side, with_suffix(&aside, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Outlet::new(path.to_path_buf()).length().map_err(failed)?;
    Ok(format!("history {} is damaged ({cause}); it was set aside as {}", path.display(), aside.display()))
}

/// The number that stands for an action in the database.
pub(super) fn action_code(action: Action) -> i64 {
    action_value(action).cast_signed()
}

/// The record in a form that fits: with less evidence for each finding, then without tags, then without evidence, then
/// without the last findings.
fn fitting(record: &RecordedRequest) -> RecordedRequest {
    let mut short = record.clone();
    for text in [&mut short.access.target, &mut short.access.user_agent, &mut short.access.referer] {
        cut(text, 8 * 1024);
    }
    // What steps made of values goes first, of the last findings first: a finding without it still explains.
    for kept in SIGNALS_WITH_STEPS {
        short.signals.iter_mut().skip(kept).for_each(without_steps);
        if json_bytes(&short) <= HISTORY_RECORD_BYTES_MAX {
            return short;
        }
    }
    let steps: [fn(&mut Signal); 3] = [
        |signal| {
            cut(&mut signal.data, FITTED_TEXT_BYTES);
            signal.matches.truncate(1);
            signal.matches.iter_mut().for_each(|found| cut(&mut found.fragment, FITTED_TEXT_BYTES));
        },
        |signal| Arc::make_mut(&mut signal.rule).tags.clear(),
        |signal| {
            signal.data.clear();
            signal.matches.clear();
        },
    ];
    for step in steps {
        short.signals.iter_mut().for_each(step);
        if json_bytes(&short) <= HISTORY_RECORD_BYTES_MAX {
            return short;
        }
    }
    let whole = json_bytes(&short);
    let mut room = HISTORY_RECORD_BYTES_MAX.saturating_sub(whole.saturating_sub(json_bytes(&short.signals)));
    let keep = short.signals.iter().take_while(|signal| {
        // And a comma.
        let size = json_bytes(signal) + 1;
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    });
    let keep = keep.count();
    short.signals.truncate(keep);
    short
}

fn without_steps(signal: &mut Signal) {
    for one in &mut signal.matches {
        one.value = None;
        one.steps.iter_mut().for_each(|step| step.value = None);
    }
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

/// How many findings keep their step values in a record that is too large: the most that fit.
const SIGNALS_WITH_STEPS: [usize; 4] = [8, 4, 1, 0];

fn cut(text: &mut String, bytes_max: usize) {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let rows: i64 = connection.query_row("SELECT count(*) FROM requests", [], |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}

/// Bytes of the database that are in use; deleted rows leave pages that are used again.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(pages.unsigned_abs() * pragma("page_size")?.unsigned_abs())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Of a text of a record that would be too large.
const FITTED_TEXT_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: usize) -> Item {
        Item::Request {
            id: format!("{n:026}"),
            facts: Facts { client: vec![0; 16], action: 5, ..Facts::default() },
            rules: vec![1, 2],
            body: vec![0; 4096],
        }
    }

    #[test]
    fn a_batch_that_finds_no_room_is_written_later_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut store = Store::new(&dir.path().join("history.db"), sealer, None, (1_000, 1 << 30)).unwrap();
        assert_eq!(store.open(1).unwrap(), None);
        store.limit_pages(20);
        let batch: Vec<Item> = (0..40).map(item).collect();
        assert!(store.write(&batch, 1).is_err());
        // The next attempt opens the database anew, without the limit.
        store.write(&batch, 1).unwrap();
        assert_eq!(store.rows, 40);
    }

    #[test]
    fn the_history_stays_below_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let bytes_max = 400 * 1024;
        let mut store = Store::new(&dir.path().join("history.db"), sealer, None, (1_000, bytes_max)).unwrap();
        for batch in 0..20 {
            let items: Vec<Item> = (0..20).map(|n| item(batch * 20 + n)).collect();
            store.write(&items, 1).unwrap();
            store.prune().unwrap();
        }
        let connection = store.connection.as_ref().unwrap();
        assert!(used_bytes(connection).unwrap() < bytes_max + 200 * 1024);
        assert!(store.rows > 20);
    }
}
