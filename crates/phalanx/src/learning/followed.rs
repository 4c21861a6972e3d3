//! Who comes back as somebody else: trails of incidents that this node found itself, and who came with good traffic before (`phalanx_learn::respond`).
//!
//! Nothing here refuses anybody: who follows a trail is asked for a proof at most.

use std::collections::HashMap;
use std::net::IpAddr;

use phalanx_learn::correlate::Incident;
use phalanx_learn::respond::{Candidate, Ground, Known, Suspect, Target, Trails};
use phalanx_learn::{Detector, Event, Signal};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Followed {
    trails: Trails,
    known: Known,
    /// Routes, as decisions call them, by what the learner calls them.
    routes: HashMap<u64, u64>,
}

impl Followed {
    /// `seed` is random and the node's own.
    pub(super) fn new(seed: u64) -> Self {
        Self { trails: Trails::default(), known: Known::new(seed), routes: HashMap::new() }
    }

    /// A request that no order met.
    pub(super) fn see(&mut self, event: &Event) {
        self.trails.see(event, &self.known);
        self.known.note(event);
    }

    /// A request that an order because of an incident met, in vain for whoever sent it.
    pub(super) fn met(&mut self, incident: u64, detector: Detector, event: &Event) {
        self.trails.met(incident, detector, event);
    }

    /// A signal of this node, and the request that completed it, with the route as decisions call it.
    pub(super) fn note(&mut self, incident: &Incident, signal: &Signal, seen: Option<(&Event, u64)>) {
        incident.absorbed.iter().for_each(|other| self.trails.merge(*other, incident.id));
        self.trails.note(incident, signal, seen.map(|(event, _)| event));
        if let Some((event, route)) = seen
            && (self.routes.len() < ROUTES_MAX || self.routes.contains_key(&event.route))
        {
            self.routes.insert(event.route, route);
        }
    }

    /// Those whom no detector named and who are of an incident.
    pub(super) fn kin(
        &self,
        incident: &Incident,
        is_exempt: &dyn Fn(IpAddr) -> bool,
        now_ms: u64,
    ) -> Vec<Suspect> {
        // By what a decision names a client is not in what the learner sees: the address is the narrowest.
        let ground = Ground { known: &self.known, is_exempt, agent: &|_| None };
        let mut kin = self.trails.kin(incident, &ground, now_ms);
        let as_decided = |candidate: &mut Candidate| match &mut candidate.target {
            Target::Route(route) => self.routes.get(route).map(|decided| *route = *decided).is_some(),
            _ => true,
        };
        kin.iter_mut().for_each(|suspect| suspect.candidates.retain_mut(as_decided));
        kin
    }

    /// Forgets what is long over.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.trails.tick(now_ms);
    }
}

/// As many as policy has, or nearly so; of further ones none is asked about as a whole.
const ROUTES_MAX: usize = 4_096;
