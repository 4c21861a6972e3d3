//! Sends what this node wrote, in the order written, many at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::{Change, FleetError, Put, Receipt};

/// Publishes changes until the outbox closes.
pub(crate) async fn run(shared: Arc<Shared>, mut changes: mpsc::Receiver<Change>) {
    let mut in_flight = FuturesUnordered::new();
    let mut retries = tokio::time::interval(RETRY);
    loop {
        let room = in_flight.len() < IN_FLIGHT_MAX;
        tokio::select! {
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
            change = changes.recv(), if room => {
                let Some(change) = change else { break };
                in_flight.extend(send(&shared, &change));
                // The engine counts it from here on.
                shared.unsent.fetch_sub(1, Ordering::AcqRel);
            }
            _ = retries.tick() => {
                if changes.is_empty() && shared.outbox_overflowed.swap(false, Ordering::AcqRel) {
                    resend_all(&shared, &mut in_flight).await;
                }
            }
        }
    }
    // What was handed over before the end still goes to disk.
    while in_flight.next().await.is_some() {}
}

/// The outbox had no room for some changes; they are in force here, so the registers know them.
async fn resend_all(shared: &Arc<Shared>, in_flight: &mut FuturesUnordered<BoxFuture<'static, ()>>) {
    let own: Vec<Change> =
        shared.core.lock().registers.written_by(&shared.me.site, &shared.me.node).collect();
    for change in own {
        while in_flight.len() >= IN_FLIGHT_MAX {
            in_flight.next().await;
        }
        in_flight.extend(send(shared, &change));
    }
}

/// Signs a change and starts to publish it. What can be done at once is done before this returns, which keeps the order.
fn send(shared: &Arc<Shared>, change: &Change) -> Option<BoxFuture<'static, ()>> {
    let put = match shared.sign(change) {
        Ok(put) => put,
        Err(error) => {
            report(shared, change, Err(error));
            return None;
        }
    };
    let mut publishing = publish(Arc::clone(shared), change.clone(), put).boxed();
    match publishing.as_mut().now_or_never() {
        Some(()) => None,
        None => Some(publishing),
    }
}

async fn publish(shared: Arc<Shared>, change: Change, put: Put) {
    let (subject, version) = (put.subject.clone(), put.version);
    let result = shared.engine.publish(put).await;
    report(&shared, &change, result);
    // It may have been over before the engine knew of it, and what was to be forgotten then was not there yet. Asked only now,
    // every way out of the registers is either seen here, or tells the engine after it knows.
    if !shared.core.lock().registers.holds(&change) {
        shared.engine.forget(&subject, version);
    }
}

fn report(shared: &Shared, change: &Change, result: Result<Receipt, FleetError>) {
    match result {
        Ok(_) => shared.clear_fault(FAULT),
        Err(FleetError::Closed) => {}
        Err(error) => {
            tracing::warn!(subject = change.subject(), %error, "own record cannot be kept or sent");
            shared.outbox_overflowed.store(true, Ordering::Release);
            shared.fault(FAULT, format!("own records cannot be kept or sent: {error}"));
        }
    }
}

/// How soon changes that found no room, or could neither be kept nor sent, are tried again.
const RETRY: Duration = Duration::from_secs(2);
const FAULT: &str = "outbox";
/// Records whose commit is awaited at a time.
///
/// A stream without a leader confirms nothing for seconds, while listeners still hear at once: the limit is far above what a node
/// decides in that time.
const IN_FLIGHT_MAX: usize = 4096;
