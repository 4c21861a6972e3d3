//! Requests kept for replay: sampled by the data plane, masked, sealed, and held in a ring on disk.
//!
//! Flow in names: the data plane's sample -> `RequestRecorder` (a thread; takes it every two seconds) -> [`mask()`] -> `Ring`;
//! [`RecordingReader`] -> `RecordedBatch`es -> replay.
//!
//! INVARIANT: nothing is written that was not masked, and the data plane never waits.
//!
//! Failure direction: what cannot be written is dropped, counted and named in the status; requests go on.

mod frame;
mod json;
mod mask;
mod pseudonym;
mod ring;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use phalanx_model::limits::{
    RECORDING_BYTES_MAX, RECORDING_KEPT_MS, RECORDING_SEGMENT_BYTES, RECORDING_WINDOW_MS,
};
use phalanx_model::{Clock, Recorded, RecordedBatch};
use phalanx_trust::Sealer;

pub use frame::{decode, encode};
pub use mask::mask;
pub use pseudonym::Pseudonyms;
pub use ring::read as read_folder;

use crate::RecordError;
use crate::status::{Part, RecorderStatus};
use ring::{Bounds, Ring};

/// Where and how much is kept.
#[derive(Clone)]
pub struct RecordingSettings {
    /// The folder; created with mode 0700.
    pub dir: PathBuf,
    /// Seals what is written.
    pub sealer: Arc<Sealer>,
    /// Ages are told by it.
    pub clock: Arc<dyn Clock>,
    /// Bytes that it takes at most.
    pub bytes_max: u64,
    /// How long requests are kept.
    pub kept_ms: u64,
    /// Size at which a segment ends.
    pub segment_bytes: u64,
}

impl RecordingSettings {
    /// Settings with the default limits.
    pub fn new(dir: &Path, sealer: Arc<Sealer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir: dir.to_owned(),
            sealer,
            clock,
            bytes_max: RECORDING_BYTES_MAX,
            kept_ms: RECORDING_KEPT_MS,
            segment_bytes: RECORDING_SEGMENT_BYTES,
        }
    }
}

impl std::fmt::Debug for RecordingSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingSettings").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What the data plane sampled: taken when asked, and how much found no room so far.
pub struct Source {
    /// Takes what was sampled since it was last asked.
    pub take: Box<dyn Fn() -> Vec<RecordedBatch> + Send>,
    /// Requests that were to be kept and found no room, since the start.
    pub dropped: Box<dyn Fn() -> u64 + Send>,
}

/// The thread that writes the recording. Dropping it ends the thread once all that was sampled is written.
pub struct RequestRecorder {
    reader: RecordingReader,
    thread: Option<JoinHandle<()>>,
}

impl RequestRecorder {
    /// Opens the folder and starts the thread.
    pub fn start(
        settings: RecordingSettings,
        source: Source,
        status: RecorderStatus,
    ) -> Result<Self, RecordError> {
        let bounds = Bounds {
            bytes_max: settings.bytes_max,
            kept_ms: settings.kept_ms,
            segment_bytes: settings.segment_bytes.min(settings.bytes_max / 8),
        };
        let ring = Ring::open(&settings.dir, Arc::clone(&settings.sealer), bounds)?;
        let pseudonyms = Pseudonyms::load_or_create(&settings.dir, &settings.sealer)?;
        status.include(Part::Recording);
        let (orders, to_thread) = sync_channel(ORDERS_MAX);
        let clock = Arc::clone(&settings.clock);
        let writer = Writer { ring, pseudonyms, source, status, clock, dropped: 0 };
        let thread = std::thread::Builder::new()
            .name("phalanx-samples".into())
            .spawn(move || writer.run(&to_thread))
            .map_err(|source| RecordError::Io { path: settings.dir.clone(), source })?;
        let reader = RecordingReader { dir: settings.dir, sealer: settings.sealer, orders };
        Ok(Self { reader, thread: Some(thread) })
    }

    /// Reads what was recorded.
    pub fn reader(&self) -> RecordingReader {
        self.reader.clone()
    }

    /// Writes what is left and ends the thread. Blocks until that is done.
    pub fn stop(self) {}
}

impl Drop for RequestRecorder {
    fn drop(&mut self) {
        let _ = self.reader.orders.send(Order::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the recording's thread had failed");
        }
    }
}

impl std::fmt::Debug for RequestRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestRecorder").field("dir", &self.reader.dir).finish_non_exhaustive()
    }
}

/// Reads the recording, also while it is written.
#[derive(Clone)]
pub struct RecordingReader {
    dir: PathBuf,
    sealer: Arc<Sealer>,
    orders: SyncSender<Order>,
}

/// What a reader was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordedSince {
    /// Requests that there were, recorded or not, in the batches that were shown.
    pub seen: u64,
    /// Segments that end in bytes that are no batch: the process ended while it wrote, or somebody else wrote there.
    pub damaged: usize,
}

impl RecordingReader {
    /// Shows the requests since a moment, those of an app in the order in which they came, up to this one. `visit` says whether to go on. Blocks.
    pub fn read(
        &self,
        since_ms: u64,
        mut visit: impl FnMut(Recorded) -> bool,
    ) -> Result<RecordedSince, RecordError> {
        self.flush();
        let mut shown = RecordedSince::default();
        shown.damaged = ring::read(&self.dir, &self.sealer, since_ms, |batch| {
            let newest = batch.requests.last().map_or(0, |request| request.facts.at_ms);
            if newest < since_ms {
                return true;
            }
            shown.seen += batch.seen;
            batch.requests.into_iter().filter(|request| request.facts.at_ms >= since_ms).all(&mut visit)
        })?;
        Ok(shown)
    }

    /// Has what was sampled so far written.
    fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.orders.send(Order::Write(done)).is_ok() {
            let _ = written.recv();
        }
    }
}

impl std::fmt::Debug for RecordingReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingReader").field("dir", &self.dir).finish_non_exhaustive()
    }
}

enum Order {
    /// Write now, and say when that is done.
    Write(SyncSender<()>),
    Stop,
}

struct Writer {
    ring: Ring,
    pseudonyms: Pseudonyms,
    source: Source,
    status: RecorderStatus,
    clock: Arc<dyn Clock>,
    /// What the source had dropped when it was last asked.
    dropped: u64,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = orders.recv_timeout(WINDOW);
            self.write();
            match order {
                Ok(Order::Write(done)) => _ = done.send(()),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self) {
        let now_ms = self.clock.now_ms();
        for mut batch in (self.source.take)() {
            let withheld = mask_all(&mut batch, |request| mask(request, &self.pseudonyms));
            if withheld > 0 {
                tracing::error!(withheld, "requests could not be masked and are not recorded");
                self.status.dropped(Part::Recording, withheld);
            }
            let count = batch.requests.len();
            match self.ring.write(&batch, now_ms) {
                Ok(()) => self.status.wrote(Part::Recording, count),
                Err(error) => {
                    self.status.failed(Part::Recording, &error, now_ms);
                    self.status.dropped(Part::Recording, count);
                }
            }
        }
        let dropped = (self.source.dropped)();
        let new = usize::try_from(dropped.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        if new > 0 {
            self.status.dropped(Part::Recording, new);
            self.dropped = dropped;
        }
        if let Err(error) = self.ring.prune(now_ms) {
            self.status.failed(Part::Recording, &error, now_ms);
        }
    }
}

/// Masks all requests of a batch, and says how many could not be: these are taken out of it. A request that the mask fails at must not end the
/// recording of the others.
fn mask_all(batch: &mut RecordedBatch, mask: impl Fn(&mut Recorded)) -> usize {
    let before = batch.requests.len();
    batch.requests.retain_mut(|request| catch_unwind(AssertUnwindSafe(|| mask(request))).is_ok());
    before - batch.requests.len()
}

const WINDOW: Duration = Duration::from_millis(RECORDING_WINDOW_MS);
/// Who asks for a write waits for it; replays run one at a time.
const ORDERS_MAX: usize = 8;
