//! What a node remembers of its fleet: records, pinned keys, blobs and leases in one redb file, sealed.
//!
//! One thread writes, in batches, so that a burst of bans costs one flush to disk; nothing on the request path waits for it.
//! What cannot be written is kept and tried again: a full disk is reported and changes nothing that is in force.
//!
//! INVARIANT: a file that cannot be read is set aside under another name and reported; the node starts.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use phalanx_model::limits::{FLEET_BLOB_BYTES_MAX, FLEET_BLOBS_MAX, FLEET_STORE_QUEUE};
use phalanx_trust::Sealer;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    TableDefinition,
};
use tokio::sync::{mpsc, oneshot};

use crate::FleetError;

/// The state file, shared by the engine and the handle.
pub struct Store {
    database: Slot,
    sealer: Arc<Sealer>,
    writes: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    health: Arc<Health>,
    set_aside: Option<PathBuf>,
}

/// A record at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its subject.
    pub subject: String,
    /// Its version.
    pub version: u64,
    /// When it may be forgotten, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// Whether this node wrote it.
    pub own: bool,
    /// The record as it travels.
    pub bytes: Vec<u8>,
}

/// Some records at rest.
pub(crate) struct Page {
    pub(crate) records: Vec<Kept>,
    /// How many could not be opened.
    pub(crate) unreadable: usize,
    /// The last subject looked at; `None` when there are no more.
    pub(crate) last: Option<String>,
}

impl Store {
    /// Opens or makes the file. One that is damaged is renamed to `<name>.corrupt-<now_ms>`.
    pub fn open(path: &Path, sealer: Arc<Sealer>, now_ms: u64) -> Result<Self, FleetError> {
        let (database, set_aside) = match open_database(path) {
            Ok(database) => (database, None),
            Err(Opening::Unusable(error)) => return Err(error),
            Err(Opening::Damaged(cause)) => {
                let aside = aside_name(path, now_ms);
                tracing::warn!(file = %path.display(), aside = %aside.display(), cause, "fleet state is damaged, set aside");
                std::fs::rename(path, &aside).map_err(|error| unusable(path, &error.to_string()))?;
                let database = open_database(path).map_err(|fault| fault.into_error(path))?;
                (database, Some(aside))
            }
        };
        let again = path.to_owned();
        let reopen = move || open_database(&again).map_err(|fault| fault.into_error(&again));
        let (mut store, writer) = Self::split(database, reopen, sealer);
        store.set_aside = set_aside;
        let thread = std::thread::Builder::new()
            .name("fleet-store".into())
            .spawn(move || writer.run())
            .map_err(|error| unusable(path, &error.to_string()))?;
        *store.writer.lock() = Some(thread);
        Ok(store)
    }

    /// A store on storage of the caller's, for simulations. Nothing is written but by the caller's own turns of the writer.
    pub fn on<B: StorageBackend>(
        storage: impl Fn() -> B + Send + 'static,
        sealer: Arc<Sealer>,
    ) -> Result<(Self, StoreWriter), FleetError> {
        let open = move || {
            let database = database_builder().create_with_backend(storage());
            let database = database.map_err(|error| unwritten(&error.to_string()))?;
            complete(&database).map_err(|error| unwritten(&error.to_string()))?;
            Ok(database)
        };
        Ok(Self::split(open()?, open, sealer))
    }

    fn split(
        database: Database,
        reopen: impl Fn() -> Result<Database, FleetError> + Send + 'static,
        sealer: Arc<Sealer>,
    ) -> (Self, StoreWriter) {
        let database: Slot = Arc::new(RwLock::new(Some(database)));
        let health = Arc::new(Health::default());
        let (writes, jobs) = mpsc::channel(FLEET_STORE_QUEUE);
        let writer = StoreWriter {
            jobs,
            reopen: Box::new(reopen),
            database: Arc::clone(&database),
            sealer: Arc::clone(&sealer),
            health: Arc::clone(&health),
            unwritten: VecDeque::new(),
        };
        let (writes, writer_thread) = (Mutex::new(Some(writes)), Mutex::new(None));
        (Self { database, sealer, writes, writer: writer_thread, health, set_aside: None }, writer)
    }

    /// Every record whose subject starts with `prefix`, and how many could not be opened.
    pub fn records(&self, prefix: &str) -> Result<(Vec<Kept>, usize), FleetError> {
        let database = self.database()?;
        let read = database.begin_read().map_err(storage)?;
        let table = read.open_table(RECORDS).map_err(storage)?;
        let (mut kept, mut unreadable) = (Vec::new(), 0);
        for entry in table.range(prefix..).map_err(storage)? {
            let (key, value) = entry.map_err(storage)?;
            let subject = key.value();
            if !subject.starts_with(prefix) {
                break;
            }
            match self.open_record(subject, value.value()) {
                Some(record) => kept.push(record),
                None => unreadable += 1,
            }
        }
        Ok((kept, unreadable))
    }

    /// The records of these subjects that are kept and can be opened.
    pub fn some(&self, subjects: &[String]) -> Result<Vec<Kept>, FleetError> {
        let database = self.database()?;
        let read = database.begin_read().map_err(storage)?;
        let table = read.open_table(RECORDS).map_err(storage)?;
        let mut kept = Vec::new();
        for subject in subjects {
            let value = table.get(subject.as_str()).map_err(storage)?;
            kept.extend(value.and_then(|value| self.open_record(subject, value.value())));
        }
        Ok(kept)
    }

    /// The records whose subject starts with `prefix`, at most `limit` of them, from the one after `after` on.
    pub(crate) fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, FleetError> {
        let database = self.database()?;
        let read = database.begin_read().map_err(storage)?;
        let table = read.open_table(RECORDS).map_err(storage)?;
        let mut page = Page { records: Vec::with_capacity(limit), unreadable: 0, last: None };
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        for entry in table.range::<&str>((from, Bound::Unbounded)).map_err(storage)?.take(limit) {
            let (key, value) = entry.map_err(storage)?;
            let subject = key.value();
            if !subject.starts_with(prefix) {
                page.last = None;
                break;
            }
            page.last = Some(subject.to_owned());
            match self.open_record(subject, value.value()) {
                Some(record) => page.records.push(record),
                None => page.unreadable += 1,
            }
        }
        Ok(page)
    }

    /// Keeps a record; resolves when it is on disk, or with an error when it is not yet: it is tried again. Waits for room when the
    /// disk is slow.
    pub async fn keep(&self, record: Kept) -> Result<(), FleetError> {
        let (done, written) = oneshot::channel();
        let writes = self.writes()?;
        writes
            .send(Job { write: Write::Keep(record), done: Some(done) })
            .await
            .map_err(|_| FleetError::Closed)?;
        written.await.map_err(|_| FleetError::Closed)?.map_err(|cause| unwritten(&cause))
    }

    /// Resolves when all that was given to keep before is on disk.
    pub(crate) async fn flush(&self) -> Result<(), FleetError> {
        let (done, written) = oneshot::channel();
        let job = Job { write: Write::Nothing, done: Some(done) };
        self.writes()?.send(job).await.map_err(|_| FleetError::Closed)?;
        written.await.map_err(|_| FleetError::Closed)?.map_err(|cause| unwritten(&cause))
    }

    /// Tries again to write what could not be written. Free when nothing waits.
    pub fn retry(&self) {
        if self.health.error.lock().is_some() {
            self.soon(Write::Nothing);
        }
    }

    /// Keeps a record some time soon. When there is no room it is counted as not kept; its author has it.
    pub fn keep_soon(&self, record: Kept) {
        self.soon(Write::Keep(record));
    }

    /// Forgets a record some time soon, unless a newer version than `version` has been kept.
    pub fn forget_soon(&self, subject: String, version: u64) {
        self.soon(Write::Forget { subject, version });
    }

    /// Pins something small under a name, sealed: node records.
    pub fn pin(&self, name: &str, bytes: &[u8]) {
        self.soon(Write::Pin { name: name.to_owned(), bytes: Some(bytes.to_vec()) });
    }

    /// Removes a pin.
    pub fn unpin(&self, name: &str) {
        self.soon(Write::Pin { name: name.to_owned(), bytes: None });
    }

    /// All pins.
    pub fn pins(&self) -> Result<Vec<(String, Vec<u8>)>, FleetError> {
        let database = self.database()?;
        let read = database.begin_read().map_err(storage)?;
        let table = read.open_table(PINS).map_err(storage)?;
        let mut pins = Vec::new();
        for entry in table.iter().map_err(storage)? {
            let (key, value) = entry.map_err(storage)?;
            let name = key.value().to_owned();
            if let Ok(bytes) = self.sealer.open(&format!("fleet pin {name}"), value.value()) {
                pins.push((name, bytes));
            }
        }
        Ok(pins)
    }

    /// Stores a blob under its hash. Blocks on the disk.
    pub fn blob_put(&self, hash: &str, bytes: &[u8]) -> Result<(), FleetError> {
        if bytes.len() > FLEET_BLOB_BYTES_MAX {
            return Err(FleetError::Limit("a blob is too large"));
        }
        let sealed = self.sealer.seal(&format!("fleet blob {hash}"), bytes)?;
        let database = self.database()?;
        let write = database.begin_write().map_err(storage)?;
        {
            let mut table = write.open_table(BLOBS).map_err(storage)?;
            let full = table.len().map_err(storage)? >= FLEET_BLOBS_MAX;
            if full && table.get(hash).map_err(storage)?.is_none() {
                return Err(FleetError::Limit("too many blobs are kept"));
            }
            table.insert(hash, sealed.as_slice()).map_err(storage)?;
        }
        write.commit().map_err(storage)
    }

    /// The blob of this hash. Blocks on the disk.
    pub fn blob_get(&self, hash: &str) -> Result<Option<Vec<u8>>, FleetError> {
        let database = self.database()?;
        let read = database.begin_read().map_err(storage)?;
        let table = read.open_table(BLOBS).map_err(storage)?;
        let sealed = table.get(hash).map_err(storage)?;
        Ok(sealed.and_then(|sealed| self.sealer.open(&format!("fleet blob {hash}"), sealed.value()).ok()))
    }

    /// Forgets a blob. Blocks on the disk.
    pub fn blob_forget(&self, hash: &str) -> Result<(), FleetError> {
        let database = self.database()?;
        let write = database.begin_write().map_err(storage)?;
        write.open_table(BLOBS).map_err(storage)?.remove(hash).map_err(storage)?;
        write.commit().map_err(storage)
    }

    /// Takes or renews a lease within this node. Returns its fencing token, or `None` while another holder has it.
    pub fn lease(
        &self,
        name: &str,
        holder: &str,
        now_ms: u64,
        until_ms: u64,
    ) -> Result<Option<u64>, FleetError> {
        let database = self.database()?;
        let write = database.begin_write().map_err(storage)?;
        let token = {
            let mut table = write.open_table(LEASES).map_err(storage)?;
            let last = table.get(name).map_err(storage)?.map(|value| {
                let (token, end, by) = value.value();
                (token, end, by.to_owned())
            });
            if let Some((_, end, by)) = &last
                && *end > now_ms
                && by != holder
            {
                return Ok(None);
            }
            let token = last.map_or(0, |(token, _, _)| token) + 1;
            table.insert(name, (token, until_ms, holder)).map_err(storage)?;
            token
        };
        write.commit().map_err(storage)?;
        Ok(Some(token))
    }

    /// Whether the file was damaged when it was opened, so that what it held is not known any more.
    pub(crate) fn was_damaged(&self) -> bool {
        self.set_aside.is_some()
    }

    /// What is wrong with the state file, for `status`.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(aside) = &self.set_aside {
            faults.push(format!("fleet state was damaged and set aside as {}", aside.display()));
        }
        if let Some(error) = self.health.error.lock().as_ref() {
            faults.push(format!("fleet state cannot be written: {error}"));
        }
        let dropped = self.health.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            faults.push(format!("{dropped} changes to fleet state found no room and were not kept"));
        }
        faults
    }

    /// Writes what waits and closes the file, for which whoever still reads or writes is waited for: the next to open it, in this
    /// process or another, would find it in use. Blocks on the disk.
    pub fn close(&self) {
        self.writes.lock().take();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        self.database.write().take();
    }

    fn soon(&self, write: Write) {
        let Ok(writes) = self.writes() else { return };
        // What was not forgotten is on disk for nothing; the next start forgets it.
        let matters = !matches!(write, Write::Forget { .. });
        if writes.try_send(Job { write, done: None }).is_err() && matters {
            self.health.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn writes(&self) -> Result<mpsc::Sender<Job>, FleetError> {
        self.writes.lock().clone().ok_or(FleetError::Closed)
    }

    /// The database, which stays open as long as the answer is held. To be held longer than any transaction of it.
    fn database(&self) -> Result<MappedRwLockReadGuard<'_, Database>, FleetError> {
        opened(&self.database).ok_or_else(|| unwritten("it is being opened again"))
    }

    fn open_record(&self, subject: &str, value: Value<'_>) -> Option<Kept> {
        let (version, expires_at_ms, own, sealed) = value;
        let bytes = self.sealer.open(&record_context(subject, version), sealed).ok()?;
        Some(Kept { subject: subject.to_owned(), version, expires_at_ms, own, bytes })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("set_aside", &self.set_aside).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Health {
    error: Mutex<Option<String>>,
    dropped: AtomicUsize,
}

struct Job {
    write: Write,
    done: Option<oneshot::Sender<Result<(), String>>>,
}

enum Write {
    Nothing,
    Keep(Kept),
    Forget { subject: String, version: u64 },
    Pin { name: String, bytes: Option<Vec<u8>> },
}

/// The open database. Empty after an error of the disk, until the writer has opened it again: redb refuses everything then.
type Slot = Arc<RwLock<Option<Database>>>;

fn opened(slot: &RwLock<Option<Database>>) -> Option<MappedRwLockReadGuard<'_, Database>> {
    RwLockReadGuard::try_map(slot.read(), Option::as_ref).ok()
}

/// The writing half of a store: takes what waits and writes it, a batch at a time.
pub struct StoreWriter {
    jobs: mpsc::Receiver<Job>,
    reopen: Box<dyn Fn() -> Result<Database, FleetError> + Send>,
    database: Slot,
    sealer: Arc<Sealer>,
    health: Arc<Health>,
    unwritten: VecDeque<Job>,
}

impl StoreWriter {
    fn run(mut self) {
        while let Some(job) = self.jobs.blocking_recv() {
            self.write_batch_from(job);
        }
        self.write_waiting();
    }

    /// One turn for simulations: waits for something to write, lets the disk take `pause` for it, and writes what waits by then.
    /// False when the store is closed and has written everything.
    pub async fn turn(&mut self, pause: impl Future<Output = ()>) -> bool {
        let Some(job) = self.jobs.recv().await else {
            self.write_waiting();
            return false;
        };
        pause.await;
        self.write_batch_from(job);
        true
    }

    fn write_batch_from(&mut self, first: Job) {
        self.unwritten.push_back(first);
        while self.unwritten.len() < BATCH_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            self.unwritten.push_back(job);
        }
        self.write_waiting();
    }

    /// Writes everything that waits in one transaction. What fails waits for the next job; the oldest are given up beyond the limit.
    fn write_waiting(&mut self) {
        let result = self.write_batch();
        let mut error = self.health.error.lock();
        match result {
            Ok(()) => {
                *error = None;
                for job in self.unwritten.drain(..) {
                    if let Some(done) = job.done {
                        let _ = done.send(Ok(()));
                    }
                }
            }
            Err(fault) => {
                tracing::warn!(error = %fault, waiting = self.unwritten.len(), "fleet state cannot be written");
                for job in &mut self.unwritten {
                    if let Some(done) = job.done.take() {
                        let _ = done.send(Err(fault.to_string()));
                    }
                }
                self.unwritten.retain(|job| !matches!(job.write, Write::Nothing));
                *error = Some(fault.to_string());
                while self.unwritten.len() > FLEET_STORE_QUEUE {
                    self.unwritten.pop_front();
                    self.health.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn write_batch(&self) -> Result<(), FleetError> {
        let result = self.open_again().and_then(|database| self.write_to(&database));
        if result.is_err() {
            self.database.write().take();
        }
        result
    }

    fn open_again(&self) -> Result<MappedRwLockReadGuard<'_, Database>, FleetError> {
        if let Some(database) = opened(&self.database) {
            return Ok(database);
        }
        let database = (self.reopen)()?;
        *self.database.write() = Some(database);
        opened(&self.database).ok_or(FleetError::Closed)
    }

    fn write_to(&self, database: &Database) -> Result<(), FleetError> {
        let write = database.begin_write().map_err(storage)?;
        {
            let mut records = write.open_table(RECORDS).map_err(storage)?;
            let mut pins = write.open_table(PINS).map_err(storage)?;
            for job in &self.unwritten {
                match &job.write {
                    Write::Nothing => {}
                    Write::Keep(record) => {
                        let context = record_context(&record.subject, record.version);
                        let sealed = self.sealer.seal(&context, &record.bytes)?;
                        let value = (record.version, record.expires_at_ms, record.own, sealed.as_slice());
                        records.insert(record.subject.as_str(), value).map_err(storage)?;
                    }
                    Write::Forget { subject, version } => {
                        let kept =
                            records.get(subject.as_str()).map_err(storage)?.map(|value| value.value().0);
                        if kept.is_some_and(|kept| kept <= *version) {
                            records.remove(subject.as_str()).map_err(storage)?;
                        }
                    }
                    Write::Pin { name, bytes: Some(bytes) } => {
                        let sealed = self.sealer.seal(&format!("fleet pin {name}"), bytes)?;
                        pins.insert(name.as_str(), sealed.as_slice()).map_err(storage)?;
                    }
                    Write::Pin { name, bytes: None } => {
                        pins.remove(name.as_str()).map_err(storage)?;
                    }
                }
            }
        }
        write.commit().map_err(storage)
    }
}

/// Why a file did not open.
enum Opening {
    /// Its content is no database: set it aside.
    Damaged(String),
    /// It may be fine, but we cannot have it: in use, no rights, no space.
    Unusable(FleetError),
}

impl Opening {
    fn into_error(self, path: &Path) -> FleetError {
        match self {
            Self::Damaged(cause) => unusable(path, &cause),
            Self::Unusable(error) => error,
        }
    }
}

/// Opens, checks and completes a database. redb checks every page against its checksum here; a damaged page found later would
/// be an error in the middle of work.
fn open_database(path: &Path) -> Result<Database, Opening> {
    // Made by us, not by redb, so that its mode is right from the first moment.
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Opening::Unusable(unusable(path, &error.to_string())))?;
    // redb reports damage as an error, and in places by a panic; neither may stop the node.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let database = database_builder().create(path)?;
        complete(&database).map_err(DatabaseError::Storage)?;
        Ok(database)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            Err(Opening::Unusable(unusable(path, "another process has it open")))
        }
        Ok(Err(DatabaseError::Storage(redb::StorageError::Io(error)))) if !is_damage(&error) => {
            Err(Opening::Unusable(unusable(path, &error.to_string())))
        }
        Ok(Err(error)) => Err(Opening::Damaged(error.to_string())),
        Err(_) => Err(Opening::Damaged("redb gave up on it".into())),
    }
}

fn database_builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true).set_cache_size(CACHE_BYTES);
    builder
}

/// Makes the tables, so that readers find them, and reads through them once.
fn complete(database: &Database) -> Result<(), redb::StorageError> {
    let damaged = |error: redb::Error| redb::StorageError::Corrupted(error.to_string());
    let write = database.begin_write().map_err(|error| damaged(error.into()))?;
    {
        let records = write.open_table(RECORDS).map_err(|error| damaged(error.into()))?;
        for entry in records.iter()? {
            entry?;
        }
        write.open_table(PINS).map_err(|error| damaged(error.into()))?;
        write.open_table(BLOBS).map_err(|error| damaged(error.into()))?;
        write.open_table(LEASES).map_err(|error| damaged(error.into()))?;
    }
    write.commit().map_err(|error| damaged(error.into()))
}

/// redb reports a file that is no database as invalid data, and one that is cut short as an unexpected end.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

/// Pages of the database that stay in memory. Records are read once, at the start, and written in order of arrival.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

fn aside_name(path: &Path, now_ms: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".corrupt-{now_ms}"));
    path.with_file_name(name)
}

fn unusable(path: &Path, cause: &str) -> FleetError {
    let fix = "stop the other process, or make the folder writable and free some space";
    FleetError::State { path: path.display().to_string(), cause: cause.to_owned(), fix }
}

fn unwritten(cause: &str) -> FleetError {
    let fix = "check the disk; what is in force stays in force";
    FleetError::State { path: "fleet state".into(), cause: cause.to_owned(), fix }
}

fn storage<E: Into<redb::Error>>(error: E) -> FleetError {
    unwritten(&error.into().to_string())
}

fn record_context(subject: &str, version: u64) -> String {
    format!("fleet record {subject} {version}")
}

/// Version, expiry, whether it is our own, sealed record.
type Value<'a> = (u64, u64, bool, &'a [u8]);

const RECORDS: TableDefinition<'_, &str, (u64, u64, bool, &[u8])> = TableDefinition::new("records");
const PINS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pins");
const BLOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("blobs");
/// Token, end, holder.
const LEASES: TableDefinition<'_, &str, (u64, u64, &str)> = TableDefinition::new("leases");
/// Writes in one transaction: enough to spread one flush over, few enough to hold in memory twice.
const BATCH_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(subject: &str, version: u64, own: bool) -> Kept {
        Kept { subject: subject.into(), version, expires_at_ms: 9, own, bytes: b"secret body".to_vec() }
    }

    fn open(path: &Path, sealer: &Arc<Sealer>) -> Store {
        Store::open(path, Arc::clone(sealer), 77).unwrap()
    }

    #[tokio::test]
    async fn records_and_pins_survive_a_restart_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sealer) = (folder.path().join("fleet.redb"), Arc::new(Sealer::ephemeral().unwrap()));
        let store = open(&path, &sealer);
        store.keep_soon(kept("phx.dec.a", 1, false));
        store.keep_soon(kept("phx.node.a", 1, false));
        store.pin("fra/a", b"key");
        store.keep(kept("phx.dec.b", 2, true)).await.unwrap();
        store.close();
        let store = open(&path, &sealer);
        let (records, unreadable) = store.records("phx.dec.").unwrap();
        assert_eq!((records, unreadable), (vec![kept("phx.dec.a", 1, false), kept("phx.dec.b", 2, true)], 0));
        assert_eq!(store.pins().unwrap(), [("fra/a".to_owned(), b"key".to_vec())]);
        assert!(store.faults().is_empty());
        store.close();
        let raw = std::fs::read(&path).unwrap();
        assert!(!raw.windows(6).any(|window| window == b"secret"));
        let strange = open(&path, &Arc::new(Sealer::ephemeral().unwrap()));
        assert_eq!(strange.records("phx.dec.").unwrap(), (vec![], 2));
    }

    #[test]
    fn a_closed_file_can_be_opened_although_somebody_was_reading() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sealer) = (folder.path().join("s"), Arc::new(Sealer::ephemeral().unwrap()));
        let store = open(&path, &sealer);
        std::thread::scope(|scope| {
            let reader = store.database().unwrap();
            scope.spawn(|| {
                store.close();
                open(&path, &sealer);
            });
            // Who closes is at the door.
            while store.database.try_read().is_some() {
                std::thread::yield_now();
            }
            drop(reader);
        });
    }

    #[tokio::test]
    async fn a_newer_version_is_not_forgotten_with_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("s"), &Arc::new(Sealer::ephemeral().unwrap()));
        store.keep_soon(kept("phx.dec.a", 5, false));
        store.forget_soon("phx.dec.a".into(), 4);
        store.keep(kept("phx.dec.b", 1, false)).await.unwrap();
        store.forget_soon("phx.dec.b".into(), 1);
        store.keep(kept("phx.dec.c", 1, false)).await.unwrap();
        let subjects: Vec<String> =
            store.records("phx.").unwrap().0.into_iter().map(|kept| kept.subject).collect();
        assert_eq!(subjects, ["phx.dec.a", "phx.dec.c"]);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_named() {
        for damage in [&b"this is no database, whatever it once was"[..], &[0u8; 8192], &[0xff; 4096]] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("fleet.redb");
            std::fs::write(&path, damage).unwrap();
            let store = open(&path, &Arc::new(Sealer::ephemeral().unwrap()));
            assert_eq!(store.records("phx.").unwrap().0, []);
            let faults = store.faults().join("");
            assert!(faults.contains("fleet.redb.corrupt-77"), "{faults}");
            assert_eq!(std::fs::read(folder.path().join("fleet.redb.corrupt-77")).unwrap(), damage);
        }
    }

    #[tokio::test]
    async fn a_file_with_damaged_pages_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sealer) = (folder.path().join("fleet.redb"), Arc::new(Sealer::ephemeral().unwrap()));
        let store = open(&path, &sealer);
        for n in 0..2_000 {
            store.keep(kept(&format!("phx.dec.{n}"), 1, true)).await.unwrap();
            if n >= 20 {
                break;
            }
        }
        store.close();
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in bytes.iter_mut().skip(4096) {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, &bytes).unwrap();
        let store = open(&path, &sealer);
        assert!(store.faults().join("").contains("corrupt-77"), "{:?}", store.faults());
    }

    #[test]
    fn a_file_in_use_stops_the_start_and_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sealer) = (folder.path().join("fleet.redb"), Arc::new(Sealer::ephemeral().unwrap()));
        let _first = open(&path, &sealer);
        let error = Store::open(&path, sealer, 1).unwrap_err().to_string();
        assert!(error.contains("another process has it open"), "{error}");
    }

    /// A file system of one megabyte, if this machine lets us mount one.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let mut mount = std::process::Command::new("mount");
            let mounted = mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path()).output();
            if mounted.is_ok_and(|output| output.status.success()) {
                return Some(Self(folder));
            }
            println!("skipped: no rights to mount a small file system");
            None
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_and_what_waited_is_written_when_there_is_room() {
        let Some(disk) = SmallDisk::mount() else { return };
        let path = disk.0.path().join("fleet.redb");
        let store = open(&path, &Arc::new(Sealer::ephemeral().unwrap()));
        store.keep(kept("phx.dec.before", 1, true)).await.unwrap();
        let ballast = disk.0.path().join("ballast");
        let _ = std::fs::write(&ballast, vec![1u8; 3 << 20]);
        let mut number = 0;
        let error = loop {
            number += 1;
            let large = Kept { bytes: vec![7; 60_000], ..kept(&format!("phx.dec.{number}"), 1, true) };
            if let Err(error) = store.keep(large).await {
                break error.to_string();
            }
            assert!(number < 1_000, "the disk never filled");
        };
        assert!(error.contains("fleet state"), "{error}");
        assert!(store.faults().join("").contains("cannot be written"), "{:?}", store.faults());
        std::fs::remove_file(&ballast).unwrap();
        store.retry();
        store.keep(kept("phx.dec.after", 1, true)).await.unwrap();
        assert_eq!(store.faults(), Vec::<String>::new());
        let (records, unreadable) = store.records("phx.dec.").unwrap();
        assert_eq!((records.len(), unreadable), (number + 2, 0), "nothing was lost");
    }

    #[test]
    fn a_lease_has_one_holder_at_a_time_and_rising_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("s"), &Arc::new(Sealer::ephemeral().unwrap()));
        assert_eq!(store.lease("job", "a", 0, 10).unwrap(), Some(1));
        assert_eq!(store.lease("job", "b", 9, 20).unwrap(), None);
        assert_eq!(store.lease("job", "a", 9, 20).unwrap(), Some(2));
        assert_eq!(store.lease("job", "b", 20, 30).unwrap(), Some(3));
    }
}
