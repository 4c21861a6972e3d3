//! Events of requests that end at a process whose state another one has: they go to that one, which records them and decides about them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use phalanx_edge::NodeTables;
use phalanx_model::AccessEvent;
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_record::Released;
use tokio::sync::{oneshot, watch};

use super::channel::Channel;
use super::memory;
use super::takeover::ToSuccessor;

/// Takes a predecessor's events into the lanes, in a thread of its own that ends with the predecessor; resolves then.
pub(super) fn take_in(
    channel: Channel,
    lanes: Lanes,
    tables: Arc<NodeTables>,
) -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let take = move || {
        let (mut unread, mut buffer) = (0_u64, Channel::buffer());
        loop {
            match channel.receive_by(&mut buffer) {
                Ok(Some((ToSuccessor::Access(event), _))) => lanes.access(event),
                Ok(Some((ToSuccessor::Events(events), _))) => {
                    events.into_iter().for_each(|event| lanes.access(Box::new(event)));
                }
                Ok(Some((ToSuccessor::Security(event), _))) => lanes.security(event),
                Ok(Some((ToSuccessor::Ledger(entry), _))) => {
                    if lanes.ledger(entry).is_err() {
                        tracing::error!("an entry of the process before has no room in the ledger");
                    }
                }
                Ok(Some((ToSuccessor::Struck(struck), _))) => memory::strike(&tables, struck),
                Ok(Some((ToSuccessor::Good(good), _))) => memory::trust(&tables, good),
                Ok(Some((ToSuccessor::Owners(owners), _))) => {
                    owners.into_iter().for_each(|owner| tables.accounts.remember(owner));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                // An event that this version does not read; the channel goes on.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => unread += 1,
                Err(error) => {
                    tracing::warn!(%error, "events of the process before cannot be read any more");
                    break;
                }
            }
        }
        if unread > 0 {
            tracing::warn!(events = unread, "events of the process before could not be read");
        }
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("phalanx-relay".into()).spawn(take)?;
    Ok(end)
}

/// Hands on what the process remembers, then what the lanes get, until `over` and what is there then. In a thread of its own, since the other may be slow; resolves at the end.
pub(super) fn hand_on(
    channel: Channel,
    released: Released,
    remembered: impl Iterator<Item = ToSuccessor> + Send + 'static,
    over: watch::Receiver<bool>,
) -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let hand_on = move || {
        let mut outlet = Outlet { channel, lost: 0 };
        runtime.block_on(outlet.drain(released, remembered, over));
        if outlet.lost > 0 {
            tracing::warn!(events = outlet.lost, "events could not be handed on");
        }
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("phalanx-relay".into()).spawn(hand_on)?;
    Ok(end)
}

struct Outlet {
    channel: Channel,
    lost: u64,
}

impl Outlet {
    async fn drain(
        &mut self,
        released: Released,
        mut remembered: impl Iterator<Item = ToSuccessor>,
        mut over: watch::Receiver<bool>,
    ) {
        let Released { lanes: LaneReaders { mut access, mut security, mut ledger, .. }, ledger: kept } =
            released;
        kept.into_iter().for_each(|entry| self.send(&ToSuccessor::Ledger(entry)));
        let (mut events, mut next) = (Vec::new(), remembered.next());
        let mut turns = tokio::time::interval(GATHERING);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(entry) = ledger.recv() => self.send(&ToSuccessor::Ledger(entry)),
                Some(event) = security.recv() => self.send(&ToSuccessor::Security(event)),
                // A full table is some hundred messages, which cost both processes more than a moment.
                _ = turns.tick(), if next.is_some() => {
                    next.iter().for_each(|message| self.send(message));
                    next = remembered.next();
                }
                1.. = access.recv_many(&mut events, EVENTS_AT_ONCE) => {
                    let lull = events.len() < EVENTS_AT_ONCE;
                    self.send_events(events.drain(..).map(|event| *event).collect());
                    // Both processes wake for each message, beside the requests of both.
                    if lull {
                        tokio::time::sleep(GATHERING).await;
                    }
                }
                _ = over.wait_for(|over| *over) => break,
            }
        }
        next.into_iter().chain(remembered).for_each(|message| self.send(&message));
    }

    fn send_events(&mut self, events: Vec<AccessEvent>) {
        let together = ToSuccessor::Events(events);
        if self.channel.send(&together, &[]).is_ok() {
            return;
        }
        // Longer than the kernel takes, most likely for one of them.
        let ToSuccessor::Events(events) = together else { return };
        events.into_iter().for_each(|event| self.send(&ToSuccessor::Access(Box::new(event))));
    }

    fn send(&mut self, message: &ToSuccessor) {
        // One that is too long for the kernel is lost; so are all once the other is gone, which ends without being followed.
        if self.channel.send(message, &[]).is_err() {
            self.lost += 1;
        }
    }
}

/// Events in a message: with heads as long as they may be some of them do not fit, and go alone.
const EVENTS_AT_ONCE: usize = 32;
/// As the recorder gathers.
const GATHERING: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{LedgerEntry, LedgerKind};

    #[tokio::test]
    async fn what_ends_at_the_old_process_is_recorded_by_the_new_one() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (old, old_readers) = Lanes::new();
        let (new, mut new_readers) = Lanes::new();
        let entry = |n| LedgerEntry { at_ms: n, kind: LedgerKind::Node { state: "stopped".into() } };
        old.ledger(entry(2)).unwrap();
        let (over, is_over) = watch::channel(false);
        let released = Released { lanes: old_readers, ledger: vec![entry(1)] };
        let handed_on = hand_on(ours, released, std::iter::empty(), is_over).unwrap();
        let taken_in = take_in(Channel::of(theirs), new, Arc::default()).unwrap();
        old.ledger(entry(3)).unwrap();
        over.send_replace(true);
        handed_on.await.unwrap();
        taken_in.await.unwrap();
        let mut got = Vec::new();
        while let Ok(entry) = new_readers.ledger.try_recv() {
            got.push(entry.at_ms);
        }
        assert_eq!(got, [1, 2, 3]);
    }
}
