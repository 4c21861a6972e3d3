//! Rate limits that a fleet counts together: between the tables of the edge and the fleet, off the path of requests.

use std::sync::Arc;
use std::time::Duration;

use phalanx_decide::rate::Reach;
use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_fleet::FleetHandle;
use phalanx_model::Swap;
use phalanx_model::limits::RATE_TELL_MS;
use phalanx_record::RateLimitCount;
use phalanx_trust::FleetSecret;
use tokio::sync::broadcast::error::RecvError;

/// Tells the others what this node admitted, and counts what they did, for as long as the node runs.
pub(crate) async fn share(tables: Arc<NodeTables>, plan: Arc<Swap<EdgePlan>>, fleet: FleetHandle) {
    let rates = &tables.rates;
    let mut heard = fleet.counts();
    let mut ticks = tokio::time::interval(Duration::from_millis(RATE_TELL_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            batch = heard.recv() => match batch {
                Ok(batch) => {
                    let plan = plan.load();
                    rates.table.hear(&batch, |tag| plan.rate(tag), rates.now_ns());
                }
                // Counts are cumulative: the next ones say what these did.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => {
                let reach = fleet.reach();
                let number = |nodes: usize| u16::try_from(nodes).unwrap_or(u16::MAX);
                rates.table.set_reach(Reach { known: number(reach.known), heard: number(reach.heard) });
                if reach.heard > 1 {
                    let counts = rates.table.tell(rates.now_ns());
                    if !counts.is_empty() {
                        fleet.tell_counts(&counts).await;
                    }
                }
            }
        }
    }
}

/// The key that all nodes of a fleet hash keys of limits with. Without a secret clients may come to know it, and then could aim at
/// each other's counts, if they can make hashes collide.
pub(crate) fn hash_key(fleet_id: &str, secret: Option<&FleetSecret>) -> [u8; 16] {
    let name = format!("phalanx rate limits of {fleet_id}");
    let digest = match secret {
        Some(secret) => secret.prove(name.as_bytes()),
        None => phalanx_trust::sha256(name.as_bytes()),
    };
    digest.first_chunk().copied().unwrap_or_default()
}

/// What the limits in force did, for metrics.
pub(crate) fn counts(plan: &EdgePlan) -> Vec<RateLimitCount> {
    let read = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    let of_app = |app: &phalanx_edge::AppPlan| -> Vec<RateLimitCount> {
        let counts = app.rates.iter().map(|rate| RateLimitCount {
            app: app.name.to_string(),
            limit: rate.name.to_string(),
            admitted: read(&rate.counts.admitted),
            refused: read(&rate.counts.refused),
            observed: read(&rate.counts.observed),
        });
        counts.collect()
    };
    plan.apps().iter().flat_map(of_app).collect()
}
