//! What the broker keeps beside streams that are followed: records that writers swap, blobs, and leases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Fault, State, Stored, World, site_of, stream_of};
use crate::sim::dice::Dice;

/// The blobs of the fleet. As in the product they lie in a stream of their own, which fails by itself.
#[derive(Default)]
pub(super) struct Blobs {
    by_name: HashMap<String, Bytes>,
    /// In the order in which they were put.
    order: Vec<String>,
    /// While this lasts the store answers that it has none.
    hidden: bool,
}

impl Blobs {
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
        self.order.clear();
    }
}

impl World {
    /// The last record of a subject, and its number. `None` when the stream does not answer.
    pub(crate) fn last(&self, seat: usize, subject: &str) -> Option<(u64, Option<Bytes>)> {
        let state = self.state.lock();
        let name = stream_of(subject);
        if !state.reaches_broker(seat) || !state.sees(seat, site_of(&name)) {
            return None;
        }
        let last = state.streams.get(&name)?.last_of(subject);
        Some(last.map_or((0, None), |(number, bytes)| (number, Some(bytes))))
    }

    /// Puts a record in the place of the one with this number; with `None`, of whatever is there. Resolves to whether it was still
    /// there, if the stream answers.
    pub(crate) fn swap(
        self: &Arc<Self>,
        seat: usize,
        subject: &str,
        bytes: Bytes,
        expected: Option<u64>,
    ) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state.lock();
        let mut dice = state.dice(self.seed, "swap", seat, subject);
        if !state.reaches_broker(seat) {
            return answered;
        }
        if dice.chance(state.weather.lose) {
            state.count(Fault::SwapLost, || format!("swap of {subject} by {seat} is lost"));
            return answered;
        }
        let delay = state.delay(&mut dice);
        drop(state);
        let (world, subject) = (Arc::clone(self), Arc::<str>::from(subject));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Some((taken, delay)) = world.swap_arrives(seat, subject, bytes, expected, &mut dice) else {
                return;
            };
            tokio::time::sleep(delay).await;
            if world.state.lock().reaches_broker(seat) {
                let _ = answer.send(taken);
            }
        });
        answered
    }

    fn swap_arrives(
        &self,
        seat: usize,
        subject: Arc<str>,
        bytes: Bytes,
        expected: Option<u64>,
        dice: &mut Dice,
    ) -> Option<(bool, Duration)> {
        let mut state = self.state.lock();
        if !state.reaches_broker(seat) {
            return None;
        }
        // Whoever listens hears it before the stream has said whether it takes it.
        self.fan_out(&mut state, Some(seat), &subject, &bytes);
        let name = stream_of(&subject);
        if !state.sees(seat, site_of(&name)) {
            return None;
        }
        let stream = state.streams.get_mut(&name)?;
        let number = stream.last_of(&subject).map_or(0, |(number, _)| number);
        let taken = expected.is_none_or(|expected| expected == number);
        if taken {
            let number = stream.store(Stored { subject: Arc::clone(&subject), bytes, gone_at: None });
            state.tell(&format!("{name} {number} = {subject}, swapped by {seat}"));
        } else {
            state.count(Fault::SwapRefused, || format!("swap of {subject} by {seat} comes too late"));
        }
        let lost = dice.chance(state.weather.lose_ack);
        if lost {
            state.count(Fault::SwapLost, || format!("answer to the swap of {subject} by {seat} is lost"));
        }
        let delay = state.delay(dice);
        drop(state);
        self.announce_change();
        (!lost).then_some((taken, delay))
    }

    pub(crate) fn blob_put(&self, seat: usize, name: &str, bytes: Bytes) -> bool {
        let mut state = self.state.lock();
        let reached = state.reaches_broker(seat);
        if reached {
            state.blobs.order.push(name.to_owned());
            state.blobs.by_name.insert(name.to_owned(), bytes);
        }
        reached
    }

    pub(crate) fn blob_forget(&self, seat: usize, name: &str) -> bool {
        let mut state = self.state.lock();
        let reached = state.reaches_broker(seat);
        if reached {
            state.blobs.by_name.remove(name);
        }
        reached
    }

    pub(crate) fn blob_get(&self, seat: usize, name: &str) -> Option<Option<Bytes>> {
        let mut state = self.state.lock();
        if !state.reaches_broker(seat) {
            return None;
        }
        let found = state.blobs.by_name.get(name).cloned();
        if found.is_some() && state.blobs.hidden {
            state.count(Fault::BlobHidden, || format!("{seat} is told that there is no blob {name}"));
            return Some(None);
        }
        Some(found)
    }

    /// The store of blobs answers that it has none, or again what it has.
    pub(crate) fn hide_blobs(&self, hidden: bool) {
        self.state.lock().blobs.hidden = hidden;
    }

    /// The store of blobs forgets the last that it took.
    pub(crate) fn lose_blob(&self) {
        let mut state = self.state.lock();
        let last = loop {
            match state.blobs.order.pop() {
                Some(name) if state.blobs.by_name.contains_key(&name) => break Some(name),
                Some(_) => {}
                None => break None,
            }
        };
        if let Some(name) = last {
            state.blobs.by_name.remove(&name);
            state.count(Fault::BlobLost, || format!("blob {name} is lost"));
        }
    }

    /// Takes a lease as the stream does it: by compare-and-set on the last message, which its time-to-live ends.
    pub(crate) fn lease(&self, seat: usize, name: &str, holder: &str, ttl: Duration) -> Option<Option<u64>> {
        let mut state = self.state.lock();
        if !state.reaches_broker(seat) {
            return None;
        }
        let now = Instant::now();
        if state.leases.get(name).is_some_and(|held| held.until > now && held.holder != holder) {
            return Some(None);
        }
        state.lease_sequence += 1;
        state.leases.insert(name.to_owned(), Held { holder: holder.to_owned(), until: now + ttl });
        Some(Some(state.lease_sequence))
    }
}

/// Who holds a lease.
pub(super) struct Held {
    holder: String,
    until: Instant,
}

impl State {
    /// Whether the streams have lost something that they had confirmed.
    pub(super) fn has_lost(&self) -> bool {
        let losses =
            [Fault::StreamsWiped, Fault::BackupRestored, Fault::SuffixTruncated, Fault::LeaderRolledBack];
        losses.iter().any(|fault| self.faults.contains_key(fault))
    }
}
