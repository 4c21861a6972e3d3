//! The three bounded lanes on which events leave the data plane.
//!
//! *access* may be dropped, and counts what it drops; *security* keeps room for strikes and proposals, so that a
//! flood cannot hide itself; *ledger* is never dropped: when it is full, the action that wants an entry is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::limits::{ACCESS_LANE_EVENTS, LEDGER_LANE_ENTRIES, SECURITY_LANE_EVENTS, SECURITY_LANE_RESERVED};
use crate::{AccessEvent, LedgerEntry, SecurityEvent};

/// The writing ends; cheap to clone, never blocks.
#[derive(Debug, Clone)]
pub struct Lanes {
    access: Sender<Box<AccessEvent>>,
    security: Sender<SecurityEvent>,
    ledger: Sender<LedgerEntry>,
    dropped: Arc<Dropped>,
}

/// The reading ends; one consumer each.
#[derive(Debug)]
pub struct LaneReaders {
    /// Every request that was passed on.
    pub access: Receiver<Box<AccessEvent>>,
    /// Refused and flagged requests, strikes, proposals.
    pub security: Receiver<SecurityEvent>,
    /// Entries of the ledger.
    pub ledger: Receiver<LedgerEntry>,
    /// Events that found no room.
    pub dropped: Arc<Dropped>,
}

/// Events that found no room, by lane.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Access events dropped.
    pub access: AtomicU64,
    /// Security events dropped, of whichever kind.
    pub security: AtomicU64,
    /// Of these, those that are requests: strikes and proposals follow from requests that are counted by themselves.
    pub security_requests: AtomicU64,
}

impl Dropped {
    /// Counts a security event that found no room.
    pub fn add_security(&self, is_request: bool) {
        self.security.fetch_add(1, Ordering::Relaxed);
        self.security_requests.fetch_add(u64::from(is_request), Ordering::Relaxed);
    }
}

/// The ledger has no room: the action must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger has no room; the action is refused")]
pub struct LedgerFull;

impl Lanes {
    /// The lanes with their default limits.
    pub fn new() -> (Self, LaneReaders) {
        let (access, access_reader) = channel(ACCESS_LANE_EVENTS);
        let (security, security_reader) = channel(SECURITY_LANE_EVENTS);
        let (ledger, ledger_reader) = channel(LEDGER_LANE_ENTRIES);
        let lanes = Self { access, security, ledger, dropped: Arc::default() };
        let dropped = Arc::clone(&lanes.dropped);
        (
            lanes,
            LaneReaders { access: access_reader, security: security_reader, ledger: ledger_reader, dropped },
        )
    }

    /// Records a request that was passed on; dropped and counted when there is no room.
    pub fn access(&self, event: Box<AccessEvent>) {
        if self.access.try_send(event).is_err() {
            self.dropped.access.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a security event. Requests leave [`SECURITY_LANE_RESERVED`] places to strikes and proposals.
    pub fn security(&self, event: SecurityEvent) {
        let reserved = matches!(event, SecurityEvent::Request { .. });
        let full = reserved && self.security.capacity() <= SECURITY_LANE_RESERVED;
        if full || self.security.try_send(event).is_err() {
            self.dropped.add_security(reserved);
        }
    }

    /// Records an entry of the ledger, or says that the action must be refused.
    pub fn ledger(&self, entry: LedgerEntry) -> Result<(), LedgerFull> {
        self.ledger.try_send(entry).map_err(|_| LedgerFull)
    }

    /// Resolves when the ledger has room for all that wait for it, or is no longer read. Who waits should not do so for ever: with a full
    /// disk there is no room.
    pub async fn ledger_room(&self) {
        // The places are given back at once: this is a look, not a claim.
        let _ = self.ledger.reserve_many(LEDGER_LANE_ENTRIES / 8).await;
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, RequestId, Strike};

    fn strike() -> SecurityEvent {
        let request = RequestId::from_parts(1, 1, 1);
        let actor = Actor::ip("192.0.2.1".parse().unwrap());
        SecurityEvent::Strike(Strike { request, at_ms: 1, actor, count: 1 })
    }

    fn request() -> SecurityEvent {
        let access = AccessEvent {
            id: RequestId::from_parts(1, 1, 1),
            at_ms: 1,
            app: "shop".into(),
            route: None,
            client: "192.0.2.1".parse().unwrap(),
            peer: "192.0.2.1".parse().unwrap(),
            method: "GET".into(),
            host: "shop".into(),
            target: "/".into(),
            protocol: "HTTP/1.1".into(),
            user_agent: String::new(),
            referer: String::new(),
            status: 403,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            upstream_us: 0,
            verdict: crate::Verdict::deny(crate::Reason::Rule { rule: 1 }, 403),
            plan_version: 1,
            view_revision: 1,
            tls: None,
            ja4: None,
            tls_group: None,
            upstream: None,
            trace: None,
            forwarded_id: None,
            phases: Default::default(),
            check: None,
            http_print: None,
            balancer: None,
            challenge: None,
            deed: None,
            crawler: false,
            agent: None,
            raised: None,
            audit: None,
        };
        SecurityEvent::Request { access: Box::new(access), signals: vec![], faults: vec![] }
    }

    #[test]
    fn a_flood_of_refusals_leaves_room_for_strikes() {
        let (lanes, _readers) = Lanes::new();
        for _ in 0..SECURITY_LANE_EVENTS * 2 {
            lanes.security(request());
        }
        let dropped = lanes.dropped().security.load(Ordering::Relaxed);
        assert!(dropped > 0);
        for _ in 0..SECURITY_LANE_RESERVED {
            lanes.security(strike());
        }
        assert_eq!(lanes.dropped().security.load(Ordering::Relaxed), dropped);
        for _ in 0..SECURITY_LANE_EVENTS {
            lanes.security(strike());
        }
        let of_requests = lanes.dropped().security_requests.load(Ordering::Relaxed);
        let all = lanes.dropped().security.load(Ordering::Relaxed);
        assert!(all > of_requests && of_requests == dropped, "strikes are no requests that nobody counted");
    }

    #[test]
    fn a_full_ledger_refuses_instead_of_dropping() {
        let (lanes, _readers) = Lanes::new();
        let entry = || LedgerEntry { at_ms: 1, kind: crate::LedgerKind::Node { state: "started".into() } };
        for _ in 0..LEDGER_LANE_ENTRIES {
            lanes.ledger(entry()).unwrap();
        }
        assert_eq!(lanes.ledger(entry()), Err(LedgerFull));
    }
}
