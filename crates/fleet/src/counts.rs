//! Counts of rate limits between nodes: signed once a batch, sent to who listens, kept nowhere.
//!
//! What they mean is for the limits themselves: a batch is as good as its author's signature, and whoever counts bounds what
//! one author can claim.

use std::sync::Arc;

use phalanx_model::{Author, AuthorRole, CountBatch, KeyCount};
use phalanx_trust::{Refusal, SignedRecord};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::{Delivery, Put, Topic, subject};

/// The nodes that count together, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountReach {
    /// Those that there are.
    pub known: usize,
    /// Those that this one hears.
    pub heard: usize,
}

/// Hands on what others tell, until the topic closes.
pub(crate) async fn run(shared: Arc<Shared>, mut told: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = told.recv().await {
        let Delivery::Put { subject, bytes } = delivery else { continue };
        // Our own come back; they cost no signature check.
        if *subject == *subject::of_counts(&shared.me.site, &shared.me.node) {
            continue;
        }
        match open(&shared, &subject, &bytes) {
            // Nobody listening is no failure.
            Ok(batch) => drop(shared.counts.send(Arc::new(batch))),
            // Its announcement is on its way, and the next batch says the same.
            Err(Refusal::UnknownAuthor(_)) => {}
            Err(refusal) => shared.refuse(&subject, &refusal),
        }
    }
}

/// Signs a batch and sends it.
pub(crate) async fn tell(shared: &Shared, counts: &[KeyCount]) {
    if let Some(put) = sign(shared, counts) {
        let _ = shared.engine.publish(put).await;
    }
}

/// Who counts together. Without a link nobody is heard, whatever was heard just before.
pub(crate) fn reach(shared: &Shared) -> CountReach {
    let now_ms = shared.clock.now_ms();
    let (known, heard) = shared.members.lock().heard_within(GONE_MS, now_ms);
    let heard = if shared.engine.link().borrow().connected { heard } else { 0 };
    CountReach { known: known + 1, heard: heard + 1 }
}

fn sign(shared: &Shared, counts: &[KeyCount]) -> Option<Put> {
    let subject = subject::of_counts(&shared.me.site, &shared.me.node);
    let body = CountBatch::to_bytes(shared.me.started_at_ms, counts);
    shared.sign_fast(Topic::Counts, subject, &body, OLD_MS).ok()
}

fn open(shared: &Shared, subject: &str, bytes: &[u8]) -> Result<CountBatch, Refusal> {
    let record = SignedRecord::from_bytes(bytes)?;
    let Author { site, node, role } = &record.author;
    if *role != AuthorRole::Node || subject::of_counts(site, node) != *subject {
        return Err(Refusal::WrongSubject);
    }
    shared.roots.read().verify(&record, subject, shared.clock.now_ms())?;
    CountBatch::from_bytes(record.author, &record.body)
        .ok_or_else(|| Refusal::Unreadable("counts in a form that is not known here".into()))
}

/// How long a batch counts: clocks may differ by as much as is reported, and far more. What is older is a replay.
const OLD_MS: u64 = 60_000;
/// A node that was not heard for this long has left, and no longer counts when the limit is shared out.
pub(crate) const GONE_MS: u64 = 15 * 60_000;
