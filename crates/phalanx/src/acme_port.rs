//! Certificates that are ordered: for which hosts, and how they get to the edge.

use std::sync::Arc;

use phalanx_control::Acme;
use phalanx_edge::EdgePlan;
use phalanx_fleet::FleetHandle;
use phalanx_model::{Clock, Swap};

use crate::acme_settings::{AcmeTls, is_host};
use crate::material_port::MaterialKeeper;

/// Takes part in ordering, and shows what comes of it for as long as the task lives that is returned.
pub(crate) async fn start(
    settings: &AcmeTls,
    fleet: &FleetHandle,
    (plan, material): (Arc<Swap<EdgePlan>>, Arc<MaterialKeeper>),
    clock: Arc<dyn Clock>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static + use<>> {
    let hosts = hosts(settings.order.hosts.clone(), Arc::clone(&plan), &material);
    let acme = Acme::start(settings.order.clone(), hosts, fleet, clock).await;
    let acme = acme.map_err(|error| anyhow::anyhow!("no certificates can be ordered: {error}"))?;
    let mut changed = acme.changed();
    let mut plans = plan.subscribe();
    material.follow(acme);
    Ok(async move {
        loop {
            material.adopt();
            let more = tokio::select! {
                more = changed.changed() => more,
                more = plans.changed() => more,
            };
            if more.is_err() {
                return;
            }
        }
    })
}

/// The hosts of the settings, else all that the policy names and no certificate in a file is for.
fn hosts(
    fixed: Vec<String>,
    plan: Arc<Swap<EdgePlan>>,
    material: &Arc<MaterialKeeper>,
) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    let material = Arc::downgrade(material);
    Arc::new(move || {
        if !fixed.is_empty() {
            return fixed.clone();
        }
        let plan = plan.load_full();
        let hosts = plan.apps().iter().flat_map(|app| &app.hosts).map(|host| host.to_ascii_lowercase());
        let in_files = material.upgrade().map(|material| material.names_in_files()).unwrap_or_default();
        hosts.filter(|host| is_host(host) && !in_files.contains(host)).collect()
    })
}
