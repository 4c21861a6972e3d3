//! Once a second: a signed heartbeat, a sweep of what has expired, a look at the clocks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::LinkState;
use crate::members::Heartbeat;
use crate::shared::Shared;
use crate::{FleetError, Put, Speed, Topic, subject};

/// Once a second: heartbeat, sweep, clocks. The announcement goes out first, and anew with renewed certificates.
pub(crate) async fn run(shared: Arc<Shared>) {
    announce(&shared).await;
    let mut renewed = shared.membership.as_ref().map(|membership| membership.renewed());
    let mut link = shared.engine.link();
    let mut seconds = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for beat in 1u64.. {
        tokio::select! {
            _ = seconds.tick() => {}
            () = shared.news.notified() => {}
            // Who was cut off is heard at once.
            () = link_changed(&mut link) => {}
        }
        if let Some(renewed) = &mut renewed
            && renewed.has_changed().unwrap_or(false)
        {
            renewed.mark_unchanged();
            shared.admit_myself();
            announce(&shared).await;
        }
        // Before anything is dropped because its time is over.
        shared.compare_clocks();
        shared.sweep();
        shared.store.retry();
        if let Ok(put) = shared.sign_heartbeat(beat) {
            let _ = shared.engine.publish(put).await;
        }
    }
}

/// Resolves when the link came or went.
async fn link_changed(link: &mut watch::Receiver<LinkState>) {
    if link.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn announce(shared: &Shared) {
    let published = match shared.announcement(Speed::Both) {
        Ok(put) => shared.engine.publish(put).await.map(drop),
        Err(error) => Err(error),
    };
    match published {
        Ok(()) => shared.clear_fault("announcement"),
        Err(error) => shared.fault("announcement", format!("this node cannot announce itself: {error}")),
    }
}

impl Shared {
    pub(crate) fn heartbeat(&self, now_ms: u64) -> Heartbeat {
        let view = self.view.load();
        Heartbeat {
            version: self.me.version.clone(),
            revision: view.revision,
            decisions: self.core.lock().registers.decisions_len(),
            sent_at_ms: self.wall_ms(),
            correction_ms: self.correction_ms(),
            number: now_ms,
            digests: None,
            lacks: Vec::new(),
            drained: self.orders.is_drained(),
        }
    }

    /// The heartbeat of this beat. Each of some tells also what this node's records come to.
    fn sign_heartbeat(&self, beat: u64) -> Result<Put, FleetError> {
        let (subject, now_ms) = (subject::of_heartbeat(&self.me.site, &self.me.node), self.clock.now_ms());
        let mut heartbeat = self.heartbeat(now_ms);
        heartbeat.number = self.members.lock().number(now_ms);
        if beat.is_multiple_of(DIGESTS_EVERY) {
            heartbeat.digests = self.own_digests(now_ms);
            heartbeat.lacks = self.differences.lock().lasting();
        }
        let body = serde_json::to_vec(&heartbeat).unwrap_or_default();
        self.sign_fast(Topic::Heartbeats, subject, &body, HEARTBEAT_MS * 10)
    }
}

const HEARTBEAT_MS: u64 = 1_000;
/// Beats from one that tells digests to the next: what was lost is noticed twice, and read again, within a minute.
const DIGESTS_EVERY: u64 = 20;
