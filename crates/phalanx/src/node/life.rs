//! A node's beginning and end as a process among others of the same node.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use phalanx_edge::EdgeHandle;
use phalanx_model::{Clock, LedgerEntry, LedgerKind, Swap, View};
use phalanx_record::Released;
use phalanx_trust::TicketKeys;
use tokio::sync::{mpsc, oneshot};

use super::Node;
use crate::life::sandbox::Confinement;
use crate::life::{HandedSocket, Sockets, Start, Tickets, Upgrade};

/// How the process came to be, and who may follow it.
pub(crate) struct Birth {
    pub(crate) start: Start,
    /// Where an upgrade is asked for.
    pub(crate) bell: mpsc::Sender<Upgrade>,
    pub(crate) confinement: Confinement,
}

/// What a node is until its last connection ends, once another process has its state.
pub(crate) struct Remains {
    pub(crate) edge: EdgeHandle,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) released: Option<Released>,
    pub(crate) before: Option<oneshot::Receiver<()>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) view: Arc<Swap<View>>,
    tickets: Arc<Swap<TicketKeys>>,
}

pub(super) type UpgradeFault = Arc<Mutex<Option<String>>>;

impl Node {
    /// Every listening socket, for a process that follows.
    pub(crate) fn sockets(&self) -> anyhow::Result<Vec<HandedSocket>> {
        Ok(self.sockets.for_successor(self.edge.sockets()?)?)
    }

    /// The keys of session tickets, for a process that follows.
    pub(crate) fn tickets(&self) -> Tickets {
        Tickets::of(&self.keepers.material.tickets().load())
    }

    /// How long connections may go on after another process has followed.
    pub(crate) fn handover(&self) -> Duration {
        self.drains.handover
    }

    /// How long connections may go on after a stop.
    pub(crate) fn drain(&self) -> Duration {
        self.drains.stop
    }

    /// Has the status tell why an upgrade failed, until one succeeds.
    pub(crate) fn upgrade_failed(&self, why: String) {
        *self.upgrade_fault.lock() = Some(why);
    }

    /// Whether all workers run.
    pub(crate) fn is_well(&self) -> bool {
        self.edge.all_workers_run()
    }

    /// Closes the state for another process. What is left enforces as before, with plan and view as they are, and records by way of that one.
    pub(crate) async fn release(mut self) -> Remains {
        let entry = LedgerKind::Node { state: "handed over".into() };
        let _ = self.lanes.ledger(LedgerEntry { at_ms: self.clock.now_ms(), kind: entry });
        self.stop.send_replace(true);
        let _ = self.control.await;
        let _ = self.lapi.await;
        self.membership.shutdown().await;
        let security = self.sharing.await;
        self.learned.await;
        self.fleet.shutdown().await;
        // What ends here from now on is not recorded for replay: the other process samples its own.
        let requests = self.requests.take();
        let _ = tokio::task::spawn_blocking(move || drop(requests)).await;
        let released = tokio::task::spawn_blocking(move || self.recorder.release()).await.ok().flatten();
        let released = released.map(|released| match security {
            Ok(security) => released.with_security(security),
            Err(_) => released,
        });
        let tickets = self.keepers.material.tickets();
        let view = self.fleet.view();
        let Self { edge, sockets, before, clock, .. } = self;
        Remains { edge, sockets, released, before, clock, view, tickets }
    }
}

impl Remains {
    /// Every listening socket, for the next attempt to be followed.
    pub(crate) fn sockets(&self) -> anyhow::Result<Vec<HandedSocket>> {
        Ok(self.sockets.for_successor(self.edge.sockets()?)?)
    }

    /// The keys of session tickets, as they are now.
    pub(crate) fn tickets(&self) -> Tickets {
        Tickets::of(&self.tickets.load())
    }
}

/// Rings the bell, and waits for what comes of it.
pub(super) fn upgrade_port(bell: mpsc::Sender<Upgrade>) -> phalanx_control::UpgradePort {
    Box::new(move || {
        let bell = bell.clone();
        async move {
            let (asked, outcome) = oneshot::channel();
            bell.try_send(asked).map_err(|_| "an upgrade is under way".to_owned())?;
            outcome.await.unwrap_or_else(|_| Err("the node stops".into()))
        }
        .boxed()
    })
}
