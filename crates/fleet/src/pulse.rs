//! Once a second: a signed heartbeat, a sweep of what has expired, a look at the clocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::engine::LinkState;
use crate::members::Heartbeat;
use crate::shared::Shared;
use crate::{FleetError, Put, Speed, Topic, subject};

/// Once a second: heartbeat, sweep, clocks. The announcement goes out first, and anew with renewed certificates.
pub(crate) async fn run(shared: Arc<Shared>) {
    announce(&shared).await;
    let mut renewed = shared.membership.as_ref().map(|membership| membership.renewed());
    let mut seconds = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    let mut away = Away::new(shared.engine.link(), shared.clock.now_ms());
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for beat in 1u64.. {
        tokio::select! {
            _ = seconds.tick() => {}
            () = shared.news.notified() => {}
            // Who runs which policy is known everywhere at once.
            () = shared.policies.beat.notified() => {}
            // Who was cut off is heard at once.
            () = away.changed() => {}
        }
        let away_ms = away.tell(shared.clock.now_ms(), shared.members.lock().last_heard_ms());
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
        if let Ok(put) = shared.sign_heartbeat(beat, away_ms) {
            let sent = shared.engine.publish(put).await;
            shared.listen_for_own(sent.is_ok());
        }
    }
}

/// For how long the link was down, to be told when it is up again: what was said meanwhile did not get here.
struct Away {
    link: watch::Receiver<LinkState>,
    since_ms: Option<u64>,
    for_ms: u64,
    left_to_tell: u8,
}

impl Away {
    fn new(link: watch::Receiver<LinkState>, now_ms: u64) -> Self {
        let since_ms = (!link.borrow().connected).then_some(now_ms);
        Self { link, since_ms, for_ms: 0, left_to_tell: 0 }
    }

    /// Resolves when the link came or went.
    async fn changed(&mut self) {
        if self.link.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// What the next heartbeat says. `heard_ms` is when another was heard last: where packets are dropped the link is down before that
    /// is noticed, and what was said in between did not get here either.
    fn tell(&mut self, now_ms: u64, heard_ms: Option<u64>) -> u64 {
        let connected = self.link.borrow_and_update().connected;
        match (connected, self.since_ms) {
            (false, None) => self.since_ms = Some(heard_ms.map_or(now_ms, |heard_ms| heard_ms.min(now_ms))),
            (true, Some(since_ms)) => {
                self.since_ms = None;
                self.for_ms = now_ms.saturating_sub(since_ms).max(1);
                self.left_to_tell = TELL_AWAY;
            }
            _ => {}
        }
        let tells = connected && self.left_to_tell > 0;
        self.left_to_tell = self.left_to_tell.saturating_sub(u8::from(connected));
        if tells { self.for_ms } else { 0 }
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
        let (decisions, held) = {
            let core = self.core.lock();
            let in_force = core.registers.decisions_len().saturating_sub(core.holding.decisions_len());
            (in_force, core.holding.len())
        };
        Heartbeat {
            version: self.me.version.clone(),
            revision: view.revision,
            decisions,
            sent_at_ms: self.wall_ms(),
            policy: Some(self.policies.told()),
            held,
            correction_ms: self.correction_ms(),
            number: now_ms,
            digests: None,
            lacks: Vec::new(),
            drained: self.orders.is_drained(),
            away_ms: 0,
            self_test: *self.self_test.lock(),
        }
    }

    /// The server brings a node its own heartbeats, too. When it does not any more, what this node sends goes nowhere, while what others
    /// say may still come: after a cut TCP sends again what was lost only when its timer ends, and that was doubled all the time.
    fn listen_for_own(&self, sent: bool) {
        let mut unheard = self.unheard.lock();
        let (since, beats) = unheard.unwrap_or_else(|| (Instant::now(), 0));
        let is_deaf = beats >= UNHEARD_MAX && since.elapsed() >= UNHEARD_TIME_MAX;
        *unheard = (sent && !is_deaf).then_some((since, beats + 1));
        if sent && is_deaf {
            tracing::warn!("what this node sends does not get through, linking anew");
            self.engine.link_anew();
        }
    }

    /// The heartbeat of this beat. Each of some tells also what this node's records come to.
    fn sign_heartbeat(&self, beat: u64, away_ms: u64) -> Result<Put, FleetError> {
        let (subject, now_ms) = (subject::of_heartbeat(&self.me.site, &self.me.node), self.clock.now_ms());
        let mut heartbeat = Heartbeat { away_ms, ..self.heartbeat(now_ms) };
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
/// Heartbeats that may be on their way to the server and back, and for how long; one takes a millisecond. Both must be so: several
/// may be sent at once, and a process that stood still has one on its way for long.
const UNHEARD_MAX: u32 = 3;
const UNHEARD_TIME_MAX: Duration = Duration::from_millis(2_500);
/// Heartbeats that say how long the node was away: one may be sent before the subscriptions of a new link are all there.
const TELL_AWAY: u8 = 2;
/// Beats from one that tells digests to the next: what was lost is noticed twice, and read again, within a minute.
const DIGESTS_EVERY: u64 = 20;
