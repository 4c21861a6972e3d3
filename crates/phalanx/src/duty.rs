//! What an operator's order about this node does to its data plane: drained connections, and back.

use std::time::Duration;

use phalanx_edge::EdgeHandle;
use phalanx_fleet::{Duty, FleetHandle};

/// Follows the orders about this node for as long as it runs.
pub(crate) async fn follow(fleet: FleetHandle, edge: EdgeHandle) {
    let mut orders = fleet.duty();
    loop {
        let drains = orders.borrow_and_update().as_ref().is_some_and(|one| one.order.duty == Duty::Drain);
        edge.retire(drains);
        fleet.report_drained(false);
        let emptied = async {
            if drains {
                empty(&edge).await;
                fleet.report_drained(true);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() {
                return;
            },
            () = emptied => {}
        }
    }
}

/// Resolves when nothing is left of what was open. The workers count connections and tell nobody: so this looks.
async fn empty(edge: &EdgeHandle) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if edge.open_connections() == 0 {
            return;
        }
    }
}

const LOOK: Duration = Duration::from_millis(100);
