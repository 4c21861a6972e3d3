//! What metrics ask of the node's parts at each scrape.

use std::sync::Arc;

use phalanx_control::CopiesPort;
use phalanx_control::reporting::Reporting;
use phalanx_edge::EdgeHandle;
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_model::lanes::Lanes;
use phalanx_record::{Metrics, MetricsSources, NodeGauges, Recorder};

use super::Keepers;
use crate::learning::Learning;
use crate::selftest::SelfTester;

/// The metrics of a node made of these parts.
pub(super) fn metrics(
    edge: &EdgeHandle,
    lanes: &Lanes,
    recorder: &Recorder,
    keepers: &Keepers,
    (fleet, learning, tester, reporting, copies): (
        &FleetHandle,
        &Learning,
        &Arc<SelfTester>,
        &Arc<Reporting>,
        &CopiesPort,
    ),
    clock: &Arc<dyn Clock>,
) -> Metrics {
    let (plan, fleet, clock) = (keepers.policy.plan(), fleet.clone(), Arc::clone(clock));
    let material = Arc::clone(&keepers.material);
    let (tables, edge_load) = (Arc::clone(edge.tables()), edge.clone());
    let (learning, tester, copies) = (learning.clone(), Arc::clone(tester), copies.clone());
    let reporting = Arc::clone(reporting);
    let gauges = move || {
        let (overload_level, usage_percent) = crate::load::gauges(&edge_load);
        let view = fleet.view();
        let view = view.load();
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let history = copies.state();
        let (upstreams, tries) = crate::upstreams::counts(&plan.load());
        NodeGauges {
            apps: plan.load().slot_names().names().map(|(slot, name)| (slot, name.to_owned())).collect(),
            upstreams,
            tries,
            overload_level,
            usage_percent,
            decisions_live: count(view.live_len(clock.now_ms())),
            plan_version: plan.load().version,
            view_revision: view.revision,
            fleet_connected: fleet.status().connected,
            rate_limits: crate::rates::counts(&plan.load()),
            rate_untracked: tables.rates.table.untracked(),
            certificates: material
                .certificates()
                .into_iter()
                .map(|one| (one.file, one.expires_at_ms))
                .collect(),
            rate_keys: count(tables.rates.table.keys_len()),
            learning: learning.counts(),
            self_test: tester.is_ok(),
            reports: reporting.counts(),
            history_waiting: history.copied_by.iter().map(|one| one.waiting).max().unwrap_or_default(),
            history_missed: history.copies_of.iter().fold(0, |sum: u64, one| sum.saturating_add(one.missed)),
            nodes_online: count(fleet.members().iter().filter(|m| m.link == phalanx_fleet::Link::Up).count()),
        }
    };
    let sources = MetricsSources {
        counters: edge.counters().to_vec(),
        lanes: lanes.clone(),
        recorder: recorder.status(),
        gauges: Box::new(gauges),
    };
    Metrics::new(sources, env!("CARGO_PKG_VERSION"))
}
