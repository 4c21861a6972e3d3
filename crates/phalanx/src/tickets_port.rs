//! Keys of session tickets: the site's, where there is one that shares them, else the node's own.

use std::sync::Arc;
use std::time::Duration;

use phalanx_fleet::{FleetHandle, Keeps};
use phalanx_model::{Clock, Swap};
use phalanx_trust::TicketKeys;

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
        let mut shared = shelf.get(NAME).and_then(|bytes| TicketKeys::from_bytes(&bytes));
        if shelf.may_write() {
            // Where there are none, this node's become the site's: what was begun with them goes on.
            let base = shared.as_ref().unwrap_or(&own);
            let next =
                base.rotated(now_ms, revoked_up_to_ms).or_else(|| shared.is_none().then(|| own.clone()));
            if let Some(next) = next
                && shelf.put(NAME, &next.to_bytes(), u64::MAX).await.is_ok()
            {
                shared = Some(next);
            }
        }
        let in_force = shared.map(|shared| shared.in_force(now_ms, revoked_up_to_ms));
        let in_force = in_force.filter(|keys| !keys.is_empty());
        let in_force = in_force.unwrap_or_else(|| own.in_force(now_ms, revoked_up_to_ms));
        if in_force.to_bytes() != keys.load().to_bytes() {
            keys.store(Arc::new(in_force));
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
