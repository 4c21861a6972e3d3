//! One module per group of endpoints. Each handler: read the arguments, record what changes something, act, answer.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod blocklists;
pub(crate) mod bouncers;
pub(crate) mod bundles;
pub(crate) mod changes;
pub(crate) mod copied_traffic;
pub(crate) mod decisions;
pub(crate) mod delegation;
pub(crate) mod events;
pub(crate) mod exclusions;
pub(crate) mod fixes;
pub(crate) mod fleet;
pub(crate) mod followers;
pub(crate) mod health;
pub(crate) mod held;
pub(crate) mod incidents;
pub(crate) mod inquiry;
pub(crate) mod login;
pub(crate) mod oidc;
pub(crate) mod operations;
pub(crate) mod operators;
pub(crate) mod playbooks;
pub(crate) mod policy;
pub(crate) mod policy_base;
pub(crate) mod receivers;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod reports;
pub(crate) mod selftest;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod suggestion;
pub(crate) mod traffic;
pub(crate) mod upgrade;
pub(crate) mod versions;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// Works on a thread that may block. The place that it takes is free when the work ends: when whoever asked hangs up, it goes on.
fn blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_hangs_up_frees_no_place_while_his_work_goes_on() {
        let places = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&places).acquire_owned().await.unwrap();
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (end, ends) = mpsc::sync_channel::<()>(1);
        let asks = tokio::spawn(blocking(permit, move || {
            started.send(()).unwrap();
            ends.recv().unwrap_err()
        }));
        is_started.await.unwrap();
        asks.abort();
        assert!(asks.await.unwrap_err().is_cancelled());
        assert_eq!(places.available_permits(), 0);
        drop(end);
        drop(places.acquire().await.unwrap());
    }
}
