//! The learner of a node, with all that it works with.

use std::sync::Arc;

use phalanx_edge::EdgeHandle;
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_model::lanes::Lanes;
use phalanx_trust::Sealer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Keepers;
use crate::learning::{self, Learning, Tee};
use crate::settings::Settings;
use crate::state::StateFolder;

/// Starts it; nothing waits for it but the end of the node.
pub(super) fn start(
    (settings, state, sealer): (&Settings, &StateFolder, Arc<Sealer>),
    (tee, reports): (&Arc<Tee>, phalanx_record::Reports),
    (keepers, edge): (&Keepers, &EdgeHandle),
    (fleet, lanes, clock): (&FleetHandle, &Lanes, &Arc<dyn Clock>),
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Learning> {
    let (plan, places) = (keepers.policy.plan(), keepers.places.places());
    let (tables, names) = (Arc::clone(edge.tables()), edge.names().clone());
    let parts = learning::Parts {
        shelf: learning::Shelf::new(state.learned(), sealer, &names),
        history: settings.logs.history(state),
        actors: settings.learn_actors,
        stopping: stopping.clone(),
        tee,
        names,
        plan,
        places,
        tables,
        fleet,
        lanes,
        clock,
        reports,
    };
    Learning::start(parts, tasks)
}
