//! Keys of session tickets: the site's, where there is one that shares them, else the node's own.
//!
//! INVARIANT: what a revoked node knew makes and opens no ticket from the moment on at which this node knows of the revocation, whatever telling others
//! takes.

use std::sync::Arc;
use std::time::Duration;

use phalanx_fleet::{FleetHandle, Keeps};
use phalanx_model::{Clock, Swap};
use phalanx_trust::TicketKeys;

/// Drops of the keys that a process before gave those that are in force no more.
pub(crate) fn begin(fleet: &FleetHandle, keys: &Swap<TicketKeys>, now_ms: u64) {
    let revoked_up_to_ms = fleet.site_revoked_up_to_ms();
    let known = keys.load();
    let in_force = known.rotated(now_ms, revoked_up_to_ms);
    if let Some(in_force) = in_force {
        keys.store(Arc::new(in_force));
    }
}

/// Keeps the keys that the listeners use the same as the site's, rotates them where this node holds them, and drops at once what a
/// revoked node knew.
pub(crate) async fn follow(fleet: FleetHandle, keys: Arc<Swap<TicketKeys>>, clock: Arc<dyn Clock>) {
    // In memory only: with a key on a disk, recorded sessions could be read later.
    let shelf = match fleet.shelf("tickets", Keeps::InMemory, true).await {
        Ok(shelf) => shelf,
        Err(error) => return tracing::error!(%error, "keys of session tickets are not shared"),
    };
    let (mut changed, mut revocations) = (shelf.changed(), fleet.revocations());
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut own = TicketKeys::clone(&keys.load());
    loop {
        let (now_ms, revoked_up_to_ms) = (clock.now_ms(), fleet.site_revoked_up_to_ms());
        own = own.rotated(now_ms, revoked_up_to_ms).unwrap_or(own);
        let shared = shelf.get(NAME).and_then(|bytes| TicketKeys::from_bytes(&bytes));
        let next = shelf.may_write().then(|| {
            // Where there are none, this node's become the site's: what was begun with them goes on.
            let base = shared.as_ref().unwrap_or(&own);
            base.rotated(now_ms, revoked_up_to_ms).or_else(|| shared.is_none().then(|| own.clone()))
        });
        let next = next.flatten();
        // First: the others are told over a link that may be slow or gone.
        let of_site = next.as_ref().or(shared.as_ref());
        let in_force = of_site.map(|keys| keys.in_force(now_ms, revoked_up_to_ms));
        let in_force = in_force.filter(|keys| !keys.is_empty());
        let in_force = in_force.unwrap_or_else(|| own.in_force(now_ms, revoked_up_to_ms));
        if in_force.to_bytes() != keys.load().to_bytes() {
            keys.store(Arc::new(in_force));
        }
        if let Some(next) = next {
            // Where the lease is gone meanwhile, its next holder makes others.
            let _ = shelf.put(NAME, &next.to_bytes(), u64::MAX).await;
        }
        tokio::select! {
            _ = looks.tick() => {}
            Ok(()) = changed.changed() => {}
            Ok(()) = revocations.changed() => {}
        }
    }
}

const NAME: &str = "keys";
const LOOK: Duration = Duration::from_secs(1);
