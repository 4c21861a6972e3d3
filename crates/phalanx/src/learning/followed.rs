//! Whom an order could be about: trails of incidents that this node found itself, and who came with good traffic before (`phalanx_learn::respond`). The
//! simulator chooses by the same.
//!
//! Nobody is refused here for what others did: who follows a trail is asked for a proof at most.

use std::collections::HashMap;

use phalanx_learn::correlate::Incident;
use phalanx_learn::event::SubjectKind;
use phalanx_learn::respond::{Candidate, Ground, Known, Suspect, Target, Trails};
use phalanx_learn::{Detector, Event, Signal};
use phalanx_model::Actor;

use super::latest::Trace;

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

    /// Who sent a request, if he came regularly before an incident began.
    pub(super) fn regular(&self, event: &Event, opened_ms: u64) -> Option<u64> {
        self.known.regular(event, opened_ms)
    }

    /// Whether it was known who comes when an incident began.
    pub(super) fn is_informed(&self, incident: &Incident) -> bool {
        self.known.is_informed(incident.opened_ms)
    }

    /// A signal of this node, and the request that completed it.
    pub(super) fn note(&mut self, incident: &Incident, signal: &Signal, trace: &Trace) {
        incident.absorbed.iter().for_each(|other| self.trails.merge(*other, incident.id));
        self.trails.note(incident, signal, trace.event.as_ref());
        if let Some(event) = &trace.event
            && (self.routes.len() < ROUTES_MAX || self.routes.contains_key(&event.route))
        {
            self.routes.insert(event.route, trace.asked.route);
        }
    }

    /// Whom an order could be about to meet a signal's subject, narrowest first. Who tries a password has no name; where it is tried has one.
    pub(super) fn named(
        &self,
        incident: &Incident,
        signal: &Signal,
        trace: &Trace,
        is_exempt: &dyn Fn(&Actor) -> bool,
        now_ms: u64,
    ) -> Vec<Candidate> {
        let ground = Ground { known: &self.known, is_exempt };
        let named = (signal.detector, signal.subject);
        let mut candidates = self.trails.candidates(incident, named, &ground, now_ms);
        if let (SubjectKind::Software | SubjectKind::Secret | SubjectKind::Route, Some(event)) =
            (signal.subject.kind, &trace.event)
        {
            let honest = self.known.honest(&Target::Route(event.route), incident.opened_ms, now_ms);
            candidates.push(Candidate { target: Target::Route(trace.asked.route), honest, exempt: false });
        }
        candidates
    }

    /// The app that a request asked for, and who comes to it.
    pub(super) fn app(&self, incident: &Incident, trace: &Trace, now_ms: u64) -> Candidate {
        let came = |event: &Event| self.known.honest(&Target::App(event.app), incident.opened_ms, now_ms);
        let honest = trace.event.as_ref().and_then(came);
        Candidate { target: Target::App(trace.asked.app), honest, exempt: false }
    }

    /// Those whom no detector named and who are of an incident.
    pub(super) fn kin(
        &self,
        incident: &Incident,
        is_exempt: &dyn Fn(&Actor) -> bool,
        now_ms: u64,
    ) -> Vec<Suspect> {
        let ground = Ground { known: &self.known, is_exempt };
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
