//! Decisions that are made after another process has followed go to the one before: what lasts there, a WebSocket or a download, ends with a ban as it would
//! at the one that serves.
//!
//! Decisions about addresses, clients and the like only: blocklists and the end of all that an author said come with the next connection. Failure
//! direction: open; a process before that does not listen enforces what it knew.

use std::io;
use std::sync::Arc;

use phalanx_fleet::Change;
use phalanx_model::{Actor, Swap, View};
use tokio::sync::broadcast;

use super::channel::Channel;
use super::takeover::ToPredecessor;

/// Tells of each change, in a thread of its own that ends with the predecessor or the node: one that does not listen holds up nobody.
pub(super) fn tell(
    channel: Channel,
    mut changes: broadcast::Receiver<Change>,
    view: Arc<Swap<View>>,
) -> io::Result<()> {
    let tell = move || {
        loop {
            let actor = match changes.blocking_recv() {
                Ok(Change::Decided(decision)) => decision.actor.clone(),
                Ok(Change::Withdrawn(withdrawal)) => withdrawal.actor.clone(),
                Ok(Change::Recalled(_) | Change::Listed(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    continue;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            let decisions = view.load().decisions_of(&actor.key());
            match channel.send(&ToPredecessor::InForce { actor, decisions }, &[]) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
                // One actor has few decisions; more than the kernel takes is nothing to wait for.
                Ok(()) | Err(_) => {}
            }
        }
    };
    std::thread::Builder::new().name("phalanx-orders".into()).spawn(tell).map(drop)
}

/// Puts into force what the successor tells, in a thread of its own, as long as both run.
pub(super) fn obey(channel: Channel, view: Arc<Swap<View>>) -> io::Result<()> {
    channel.wait_at_most(None)?;
    let obey = move || {
        let mut buffer = Channel::buffer();
        loop {
            match channel.receive_by(&mut buffer) {
                Ok(Some((ToPredecessor::InForce { actor, decisions }, _))) => {
                    view.store(Arc::new(view.load().with_key(Actor::key(&actor), decisions)));
                }
                Ok(Some(_)) => {}
                // What a later version says.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) => return,
            }
        }
    };
    std::thread::Builder::new().name("phalanx-orders".into()).spawn(obey).map(drop)
}
