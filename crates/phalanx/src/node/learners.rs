//! What looks at requests after they are served: the learner, and who acts on what it finds.

use std::sync::Arc;

use phalanx_edge::EdgeHandle;
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_model::lanes::Lanes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Keepers;
use crate::learning::{self, Learning, Tee};
use crate::playbooks::{self, Playbooks};
use crate::settings::Settings;
use crate::state::StateFolder;

/// Starts the learner, and who runs playbooks for what it finds.
pub(super) fn start(
    (settings, state): (&Settings, &StateFolder),
    (tee, reports): (&Arc<Tee>, phalanx_record::Reports),
    (keepers, edge): (&Keepers, &EdgeHandle),
    (fleet, lanes, clock): (&FleetHandle, &Lanes, &Arc<dyn Clock>),
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Learning, Playbooks)> {
    let (plan, places) = (keepers.policy.plan(), keepers.places.places());
    let (tables, names) = (Arc::clone(edge.tables()), edge.names().clone());
    let stopping = stopping.clone();
    let actors = settings.learn_actors;
    let (of_playbooks, told) = mpsc::channel(OF_PLAYBOOKS);
    let parts = learning::Parts {
        tee,
        names,
        plan: Arc::clone(&plan),
        places,
        tables: Arc::clone(&tables),
        fleet,
        lanes,
        clock,
        stopping: stopping.clone(),
        reports,
        actors,
        of_playbooks,
    };
    let learning = Learning::start(parts, tasks)?;
    let settings = &settings.tell;
    let learner = &learning;
    let parts = playbooks::Parts {
        settings,
        state,
        learning: learner,
        plan,
        tables,
        fleet,
        lanes,
        clock,
        stopping,
        told,
    };
    let playbooks = Playbooks::start(parts)?;
    Ok((learning, playbooks))
}

/// Messages of other nodes about playbooks that wait to be written down; each is told again.
const OF_PLAYBOOKS: usize = 256;
