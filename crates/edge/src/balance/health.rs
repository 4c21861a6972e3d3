//! What requests tell about upstreams: who fails too often in a row is ejected for a while, that grows with each time.
//!
//! Failures in a row count those that a server did not answer, and 502, 503 and 504; other errors may well be the request's, and
//! whoever finds one such request must not be able to take servers away from all others. Those count in the [rate of
//! errors](super::keeper), which is compared with what the other servers do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{EJECTED, Endpoint, UpstreamGroup};
use super::slot::Slot;
use crate::plan::AppPlan;

impl Slot {
    /// The upstream answered.
    pub(crate) fn answered(&self, app: &AppPlan, status: u16) {
        let state = &self.endpoint.state;
        match status {
            502..=504 => self.failed(app, "it answers with errors"),
            500.. => {
                state.errors.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                if state.failures_in_row.load(Ordering::Relaxed) != 0 {
                    state.failures_in_row.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// The upstream did not answer as it should.
    pub(crate) fn failed(&self, app: &AppPlan, why: &str) {
        let state = &self.endpoint.state;
        state.failures.fetch_add(1, Ordering::Relaxed);
        state.errors.fetch_add(1, Ordering::Relaxed);
        let in_row = state.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
        let group = &app.upstreams;
        if group.health.failures != 0 && in_row >= group.health.failures {
            eject(&app.name, group, &self.endpoint, why);
        }
    }
}

/// Ejects an endpoint, unless it is or so many are already. The only one never is: there is no other.
pub(crate) fn eject(app: &str, group: &UpstreamGroup, endpoint: &Arc<Endpoint>, why: &str) {
    let state = &endpoint.state;
    let health = &group.health;
    let _one_by_one = group.shared().ejecting.lock();
    if state.down.load(Ordering::Relaxed) & EJECTED != 0 {
        return;
    }
    let (all, ejected) = group.with_endpoints(|endpoints| {
        let is_ejected = |e: &&Arc<Endpoint>| e.state.down.load(Ordering::Relaxed) & EJECTED != 0;
        (endpoints.len(), endpoints.iter().filter(is_ejected).count())
    });
    let most = (all * usize::from(health.ejected_max_percent) / 100).max(1);
    if all < 2 || ejected >= most {
        return;
    }
    let times = state.ejections.fetch_add(1, Ordering::Relaxed) + 1;
    let lasts_ms = health.eject_ms.saturating_mul(u64::from(times)).min(health.eject_max_ms);
    state.ejected_until_ms.store(group.shared().now_ms().saturating_add(lasts_ms), Ordering::Relaxed);
    state.down.fetch_or(EJECTED, Ordering::Relaxed);
    tracing::warn!(app, upstream = %endpoint.key, why, lasts_ms, "an upstream is ejected");
}
