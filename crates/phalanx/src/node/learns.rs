//! The learner of a node, with all that it works with, and who runs playbooks for what it finds.

use std::net::SocketAddr;
use std::sync::Arc;

use phalanx_control::reporting::Reporting;
use phalanx_edge::EdgeHandle;
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_model::lanes::Lanes;
use phalanx_trust::Sealer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Keepers;
use crate::learning::{self, Learning, Tee};
use crate::playbooks::{self, Playbooks};
use crate::settings::Settings;
use crate::state::StateFolder;

/// Starts them; nothing waits for them but the end of the node.
pub(super) fn start(
    (settings, state, sealer): (&Settings, &StateFolder, Arc<Sealer>),
    (tee, reports): (&Arc<Tee>, phalanx_record::Reports),
    (keepers, edge, admin): (&Keepers, &EdgeHandle, SocketAddr),
    (fleet, lanes, clock): (&FleetHandle, &Lanes, &Arc<dyn Clock>),
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Learning, Playbooks, Arc<Reporting>)> {
    let (plan, places) = (keepers.policy.plan(), keepers.places.places());
    let (tables, names) = (Arc::clone(edge.tables()), edge.names().clone());
    let (of_playbooks, told) = mpsc::channel(OF_PLAYBOOKS);
    let parts = learning::Parts {
        shelf: learning::Shelf::new(state.learned(), sealer, &names),
        history: settings.logs.history(state),
        actors: settings.learn_actors,
        stopping: stopping.clone(),
        tee,
        names,
        plan: Arc::clone(&plan),
        places,
        tables: Arc::clone(&tables),
        fleet,
        lanes,
        clock,
        reports,
        of_playbooks,
    };
    let learning = Learning::start(parts, tasks)?;
    let leads = learning.clone();
    let reporting = Arc::new(Reporting::open(
        settings.reports.schedules.clone(),
        &state.reports(),
        Box::new(move || leads.token().is_some()),
    ));
    let console =
        phalanx_control::console_url(admin, &settings.console_names, settings.tls.console.is_some());
    let playbooks = Playbooks::start(playbooks::Parts {
        settings: &settings.tell,
        console,
        learning: &learning,
        reporting: &reporting,
        stopping: stopping.clone(),
        state,
        plan,
        tables,
        fleet,
        lanes,
        clock,
        told,
    })?;
    Ok((learning, playbooks, reporting))
}

/// Messages of other nodes about playbooks that wait to be written down; each is told again.
const OF_PLAYBOOKS: usize = 256;
