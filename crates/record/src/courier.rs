//! Events to other machines, by a thread for each way: a receiver that is slow or away must not hold up the recorder, and with it the ledger.
//!
//! Failure direction: what finds no room in the queue, or what the receiver does not take, is lost and counted.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use phalanx_model::Clock;

use crate::ocsf::Line;
use crate::status::{Part, RecorderStatus};

/// Lines that go together.
pub(crate) type Batch = Vec<Arc<Line>>;

/// The queue to the thread. Dropping it waits a moment for what is in it.
#[derive(Debug)]
pub(crate) struct Courier {
    part: Part,
    status: RecorderStatus,
    queue: Option<SyncSender<Batch>>,
    over: Receiver<()>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// Lines that were not taken.
    pub(crate) lost: usize,
    /// Why the last of them was not.
    pub(crate) error: Option<io::Error>,
}

impl Courier {
    /// Starts the thread, which hands each batch to `deliver`.
    pub(crate) fn start(
        part: Part,
        status: &RecorderStatus,
        clock: &Arc<dyn Clock>,
        mut deliver: impl FnMut(&[Arc<Line>]) -> Delivered + Send + 'static,
    ) -> io::Result<Self> {
        status.include(part);
        let (queue, batches) = sync_channel::<Batch>(BATCHES_MAX);
        let (ended, over) = sync_channel(1);
        let (counts, clock) = (status.clone(), Arc::clone(clock));
        std::thread::Builder::new().name(format!("phalanx-{}", part.thread())).spawn(move || {
            while let Ok(batch) = batches.recv() {
                let Delivered { lost, error } = deliver(&batch);
                if lost < batch.len() {
                    counts.wrote(part, batch.len() - lost);
                }
                if lost > 0 {
                    counts.dropped(part, lost);
                }
                if let Some(error) = error {
                    counts.failed(part, &error, clock.now_ms());
                }
            }
            let _ = ended.try_send(());
        })?;
        Ok(Self { part, status: status.clone(), queue: Some(queue), over })
    }

    /// Hands a batch on, if there is room.
    pub(crate) fn send(&self, batch: Batch, now_ms: u64) {
        let (Some(queue), count) = (&self.queue, batch.len()) else { return };
        let why = match queue.try_send(batch) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "the receiver is too slow",
            Err(TrySendError::Disconnected(_)) => "the thread has ended",
        };
        self.status.dropped(self.part, count);
        self.status.failed(self.part, &why, now_ms);
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.queue = None;
        let _ = self.over.recv_timeout(END_MAX);
    }
}

/// Batches that wait; each has up to [`crate::event_log::BATCH_LINES_MAX`] lines of some 2 KiB.
const BATCHES_MAX: usize = 16;
/// How long the end of the node waits for a slow receiver.
const END_MAX: Duration = Duration::from_secs(2);
