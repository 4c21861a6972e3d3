//! Rate limits that a fleet counts together: between the tables of the edge and the fleet, off the path of requests.

use std::sync::Arc;
use std::time::Duration;

use phalanx_decide::rate::{Reach, SUM_FROM_NODES, Sharing, Tell};
use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_fleet::{CountsToSum, CountsTold, FleetHandle, Singleton};
use phalanx_model::limits::RATE_TELL_MS;
use phalanx_model::{CountBatch, Swap};
use phalanx_record::RateLimitCount;
use phalanx_trust::FleetSecret;
use tokio::sync::broadcast::error::RecvError;

/// Tells the others what this node admitted, and counts what they did, for as long as the node runs. In a site of many nodes one sums for all.
pub(crate) async fn share(tables: Arc<NodeTables>, plan: Arc<Swap<EdgePlan>>, fleet: FleetHandle) {
    let rates = &tables.rates;
    let (author, epoch) = fleet.node_author();
    let mut sharing = Sharing::new(author, epoch);
    let mut heard = fleet.counts();
    let mut leads: Option<Singleton> = None;
    let mut to_sum: Option<CountsToSum> = None;
    let (mut nodes, mut reach) = (1, fleet.reach());
    let mut ticks = tokio::time::interval(Duration::from_millis(RATE_TELL_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            batch = heard.recv() => match batch {
                Ok(batch) => {
                    let plan = plan.load();
                    sharing.hear(&rates.table, &batch, nodes, |tag| plan.rate(tag), rates.now_ns());
                    continue;
                }
                // Counts are cumulative: the next ones say what these did.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            batch = next(&mut to_sum) => {
                let plan = plan.load();
                sharing.hear_for_sum(&rates.table, &batch, |tag| plan.rate(tag), rates.now_ns());
                continue;
            }
            () = fleet.tell_counts_again() => sharing.tell_again(&rates.table),
            _ = ticks.tick() => {}
        }
        let before = std::mem::replace(&mut reach, fleet.reach());
        if reach != before {
            tracing::info!(
                known = reach.known,
                heard = reach.heard,
                "rate limits of the fleet are counted together"
            );
        }
        let number = |nodes: usize| u16::try_from(nodes).unwrap_or(u16::MAX);
        nodes = number(reach.known);
        rates.table.set_reach(Reach { known: nodes, heard: number(reach.heard) });
        match fleet.site_heard() >= SUM_FROM_NODES {
            true if leads.is_none() => leads = fleet.sums_for_site(),
            true => {}
            false => leads = None,
        }
        let token = leads.as_ref().and_then(Singleton::token);
        match token {
            Some(_) if to_sum.is_none() => to_sum = Some(fleet.counts_to_sum()),
            Some(_) => {}
            None => to_sum = None,
        }
        // Also where nobody is heard: a node of another site may hear this one again before this one hears it.
        if reach.linked && reach.known > 1 {
            let told = {
                let plan = plan.load();
                sharing.tell(&rates.table, token, |tag| plan.rate(tag), rates.now_ns())
            };
            tell(&fleet, told).await;
        }
    }
}

async fn tell(fleet: &FleetHandle, told: Tell) {
    match told {
        Tell::All(counts) if !counts.is_empty() => fleet.tell_counts(CountsTold::ToAll, &counts).await,
        Tell::Summer(counts) if !counts.is_empty() => fleet.tell_counts(CountsTold::ToSummer, &counts).await,
        Tell::All(_) | Tell::Summer(_) => {}
        // Also an empty one: it says that somebody sums.
        Tell::Sums(token, counts) => fleet.tell_counts(CountsTold::Sums(token), &counts).await,
    }
}

/// What the node that sums is told next; never, where this one does not.
async fn next(to_sum: &mut Option<CountsToSum>) -> CountBatch {
    match to_sum {
        Some(to_sum) => to_sum.next().await,
        None => std::future::pending().await,
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
