//! Work that one node of a fleet does at a time: a lease that is renewed for as long as the node wants the work and may have it.
//!
//! INVARIANT: the holder stops by its own clock, before anybody else can hold the lease. Whatever it still has under way then is refused
//! by who guards the resource, to whom every act shows the lease's token.

use std::sync::Arc;
use std::time::Duration;

use phalanx_model::{Clock, Swap};
use tokio::task::JoinHandle;

use crate::{FleetHandle, Lease};

/// A node's wish to do some work alone. Ends with the value.
pub struct Singleton {
    held: Arc<Swap<Option<Lease>>>,
    clock: Arc<dyn Clock>,
    keeping: JoinHandle<()>,
}

impl Singleton {
    /// The lease's token, if this node may act now. To be asked right before each act.
    pub fn token(&self) -> Option<u64> {
        let held = self.held.load();
        let lease = held.as_ref().as_ref()?;
        (self.clock.now_ms() < lease.until_ms).then_some(lease.token)
    }
}

impl Drop for Singleton {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl std::fmt::Debug for Singleton {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Singleton").field("token", &self.token()).finish_non_exhaustive()
    }
}

impl FleetHandle {
    /// Takes part in doing some work: of the nodes that call this, one holds the lease of that name; when it is lost, another has it
    /// within [`TAKEOVER_MAX`]. Not where an operator has ordered this node to take no work.
    pub fn singleton(&self, name: &str) -> Singleton {
        let held = Arc::new(Swap::new(None));
        let (fleet, name, keeps) = (self.clone(), name.to_owned(), Arc::clone(&held));
        let keeping = tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                // A failure is no reason to let go: the lease ends by itself.
                if let Ok(lease) = fleet.lease(&name, LEASE).await {
                    keeps.store(Arc::new(lease));
                }
            }
        });
        Singleton { held, clock: Arc::clone(&self.shared.clock), keeping }
    }
}

/// How long a lease is held without being renewed. Servers end messages by the second.
const LEASE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(400);
/// How long work may be nobody's.
pub const TAKEOVER_MAX: Duration = Duration::from_secs(3);
