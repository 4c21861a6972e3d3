//! The view packed anew, away from requests and from whoever changes it, and kept as a file.
//!
//! INVARIANT: no request gives a base back to the allocator, which takes longer than a request may wait: old ones are dropped here.

use std::sync::Arc;
use std::time::Duration;

use phalanx_model::{Base, Retired, View};

use crate::local::blocking;
use crate::packed::PackedFile;
use crate::shared::Shared;

/// What packing needs, for one at a time.
pub(crate) struct Packing {
    pub(crate) file: PackedFile,
    /// Bases that a request may still read.
    pub(crate) retired: Retired<Base>,
    /// The revision of the view that the file holds.
    pub(crate) kept_revision: u64,
    kept_at_ms: u64,
    kept_bytes: u64,
}

impl Packing {
    pub(crate) fn new(file: PackedFile, now_ms: u64) -> Self {
        Self { file, retired: Retired::default(), kept_revision: 0, kept_at_ms: now_ms, kept_bytes: 0 }
    }

    /// A large file is written less often, so that the disk gets no more than [`BYTES_PER_INTERVAL`] of it in each interval.
    fn is_file_due(&self, revision: u64, now_ms: u64) -> bool {
        let intervals = 1 + self.kept_bytes / BYTES_PER_INTERVAL;
        let after_ms = intervals.saturating_mul(INTERVAL_MS);
        revision != self.kept_revision && now_ms.saturating_sub(self.kept_at_ms) >= after_ms
    }
}

/// Packs the view when much has changed, and keeps it when its time has come.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shared.crowded.notified() => {}
            _ = seconds.tick() => {}
        }
        let shared = Arc::clone(&shared);
        let _ = blocking(move || {
            shared.look_after_view(false);
            Ok(())
        })
        .await;
    }
}

impl Shared {
    /// Packs and keeps the view as far as that is due. `ending`: the file is written if it is not of this very view.
    pub(crate) fn look_after_view(&self, ending: bool) {
        let mut packing = self.packing.lock();
        let view = self.view.load_full();
        let file_due = match ending {
            true => view.revision != packing.kept_revision,
            false => packing.is_file_due(view.revision, self.clock.now_ms()),
        };
        let crowded = view.wants_compaction();
        drop(view);
        if crowded || file_due && self.view.load().changes_len() > 0 {
            self.compact(&mut packing);
        }
        if file_due {
            self.keep_view(&mut packing);
        }
        packing.retired.drop_unused();
    }

    fn compact(&self, packing: &mut Packing) {
        let before = self.view.load_full();
        let Some(base) = before.pack() else {
            self.fault(
                FAULT,
                "the decisions are too many to be packed; they stay in force, and lookups get slower",
            );
            return;
        };
        packing.retired.put(Arc::clone(before.base()));
        let whole = View::on(Arc::new(base));
        let mut core = self.core.lock();
        let view = self.view.load_full();
        let next = view.rebased(&whole, &before);
        self.show(&mut core, view, next);
    }

    fn keep_view(&self, packing: &mut Packing) {
        let view = self.view.load_full();
        match packing.file.write(view.base()) {
            Ok(bytes) => {
                (packing.kept_bytes, packing.kept_at_ms) = (bytes, self.clock.now_ms());
                // What changed while it was packed is not in it, and makes it due again.
                packing.kept_revision = view.revision.saturating_sub(u64::from(view.changes_len() > 0));
                self.clear_fault(FAULT);
            }
            Err(error) => {
                packing.kept_at_ms = self.clock.now_ms();
                self.fault(
                    FAULT,
                    format!("the packed view cannot be written, a restart takes longer: {error}"),
                );
            }
        }
    }
}

const FAULT: &str = "packed view";
/// How often a small file is written while decisions change.
const INTERVAL_MS: u64 = 60_000;
const BYTES_PER_INTERVAL: u64 = 8 * 1024 * 1024;
