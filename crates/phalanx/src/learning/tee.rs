//! Requests on their way from the recorder to the learner: small, without a name or a path, and dropped where the learner is behind.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use phalanx_edge::{EdgePlan, Places};
use phalanx_learn::correlate::Incident;
use phalanx_learn::event::Known;
use phalanx_learn::{Event, IncidentId, NameKey, Place, Step};
use phalanx_model::{
    AccessEvent, Action, Actor, ActorKey, ChallengeStep, Confidence, Reason, RequestId, Signal, Swap, names,
};
use phalanx_policy::DetectionMode;
use phalanx_record::Watch;

/// Between the recorder's thread and the learner's.
#[derive(Default)]
pub(crate) struct Tee {
    /// What is needed to read a request; not there until the node's parts are.
    means: OnceLock<Means>,
    queue: Mutex<Vec<Seen>>,
    names: RwLock<HashMap<u64, String>>,
    lately: Lately,
    dropped: AtomicU64,
}

/// A request, as it is learned from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) event: Event,
    pub(super) request: RequestId,
    /// The incident because of which it was refused or challenged.
    pub(super) met: Option<IncidentId>,
    /// What it asked for.
    pub(super) asked: Asked,
    /// The decision that it stood under, if it was refused or held up by one.
    pub(super) under: Option<Under>,
    /// Whether rules of a raised level refused it; none where the usual ones looked at it.
    pub(super) raised: Option<bool>,
}

/// A place, as decisions call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// See [`phalanx_model::Actor::App`].
    pub(super) app: u64,
    /// See [`phalanx_model::Actor::Route`].
    pub(super) route: u64,
}

/// Whom a decision is about; of an address and of each of its clients there may be one.
pub(super) type About = (ActorKey, Option<u64>);

pub(super) fn about(actor: &Actor) -> About {
    (actor.key(), actor.agent())
}

/// A decision that did something to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Under {
    pub(super) about: About,
    /// Whether the request was refused, and not asked for a proof or slowed.
    pub(super) refused: bool,
}

impl Under {
    fn of(access: &AccessEvent) -> Option<Self> {
        let Reason::Decision { decision } = &access.verdict.reason else { return None };
        let acts = !matches!(access.verdict.action, Action::Allow | Action::Observe);
        acts.then(|| Self { about: about(&decision.actor), refused: access.verdict.action == Action::Deny })
    }
}

#[derive(Clone)]
pub(super) struct Means {
    pub(super) key: NameKey,
    pub(super) plan: Arc<Swap<EdgePlan>>,
    pub(super) places: Arc<Swap<Places>>,
}

impl Tee {
    /// What the recorder shows requests to.
    pub(crate) fn watch(self: &Arc<Self>) -> Watch {
        let tee = Arc::clone(self);
        Arc::new(move |access, signals| tee.take(access, signals))
    }

    pub(super) fn begin(&self, means: Means) {
        let _ = self.means.set(means);
    }

    /// Requests that came since.
    pub(super) fn drain(&self, into: &mut Vec<Seen>) {
        into.clear();
        // Swapped, so that the recorder goes on with room that was there before.
        std::mem::swap(into, &mut self.queue.lock());
    }

    /// Requests that nothing was learned from.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What a hash stands for, as far as this node has met it.
    pub(super) fn name(&self, hash: u64) -> Option<String> {
        self.names.read().get(&hash).cloned()
    }

    /// What an incident is about, of what policy names: `app` or `app/route`, sorted.
    pub(super) fn targets(&self, incident: &Incident) -> Vec<String> {
        let Some(means) = self.means.get() else { return Vec::new() };
        let plan = means.plan.load();
        let about = |(app, route): &(&str, Option<&str>)| {
            incident.is_about_route(Event::place_of(&means.key, app, *route).1)
        };
        let name = |(app, route): (&str, Option<&str>)| match route {
            // A route that has no name of its own is called by its path.
            Some(route) => format!("{app}/{}", route.trim_start_matches('/')),
            None => app.to_owned(),
        };
        let mut targets: Vec<String> = plan.places().filter(about).map(name).collect();
        targets.sort();
        targets
    }

    /// The apps that an incident is about and for which policy has stricter rules ready, as decisions call them.
    pub(super) fn raisable(&self, incident: &Incident) -> Vec<u64> {
        let Some(means) = self.means.get() else { return Vec::new() };
        let plan = means.plan.load();
        let about = |(app, route): &(&str, Option<&str>)| {
            incident.is_about_route(Event::place_of(&means.key, app, *route).1)
        };
        let mut apps: Vec<u64> = plan.places().filter(about).map(|(app, _)| names::app(app)).collect();
        apps.retain(|app| plan.raises(*app).is_some());
        apps.sort_unstable();
        apps.dedup();
        apps
    }

    fn take(&self, access: &AccessEvent, signals: &[Signal]) {
        let Some(means) = self.means.get() else { return };
        if means.plan.load().detection.mode == DetectionMode::Off {
            return;
        }
        let event = means.read(access, signals);
        {
            let mut queue = self.queue.lock();
            if queue.len() >= QUEUE_MAX {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let route = access.route.as_deref().unwrap_or_default();
            let asked = Asked { app: names::app(&access.app), route: names::route(&access.app, route) };
            let (met, under) = (met(access), Under::of(access));
            let by_rule = access.verdict.refuses() && matches!(access.verdict.reason, Reason::Rule { .. });
            let raised = access.raised.map(|_| by_rule);
            queue.push(Seen { event, request: access.id, met, asked, under, raised });
        }
        self.remember(&event, access);
    }

    /// Names of routes are policy's, and those of software have the form of a JA4: nothing here is a stranger's text.
    fn remember(&self, event: &Event, access: &AccessEvent) {
        if !self.lately.has(event.route) {
            let route = access.route.as_deref().map(|route| format!("/{route}")).unwrap_or_default();
            self.put_name(event.route, || format!("{}{route}", access.app));
        }
        if let (Some(software), Some(ja4)) = (event.software, &access.ja4)
            && !self.lately.has(software)
        {
            self.put_name(software, || ja4.to_string());
        }
    }

    fn put_name(&self, hash: u64, name: impl FnOnce() -> String) {
        if self.names.read().contains_key(&hash) {
            return;
        }
        let mut names = self.names.write();
        if names.len() < NAMES_MAX {
            names.insert(hash, name());
        }
    }

    /// What a hash stood for before a restart.
    pub(super) fn recall(&self, hash: u64, name: String) {
        self.put_name(hash, || name);
    }
}

/// Hashes of which the name was put down lately, so that hardly any request asks for the lock on them.
struct Lately([AtomicU64; 256]);

impl Default for Lately {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 256])
    }
}

impl Lately {
    /// Whether a hash is among them; it is from now on. Of two in one place the later one is.
    fn has(&self, hash: u64) -> bool {
        let place = usize::from(hash.to_le_bytes()[0]);
        self.0.get(place).is_some_and(|known| known.swap(hash, Ordering::Relaxed) == hash)
    }
}

impl Means {
    pub(super) fn read(&self, access: &AccessEvent, signals: &[Signal]) -> Event {
        let places = self.places.load();
        let place = places.of(access.client);
        // Where an account is, only its logins tell.
        let logs_in = access.deed.is_some_and(|deed| matches!(deed.step, Step::Login(_)));
        let spot = logs_in.then(|| places.spot_of(access.client)).flatten();
        let known = Known {
            place: spot.map(|spot| Place { latitude: spot.latitude, longitude: spot.longitude }),
            asn: place.asn,
            country: place.country,
            attack: attack(access, signals),
            exempt: access.crawler || self.is_exempt(access.client, access.at_ms),
        };
        let mut event = Event::of(access, &known, &self.key);
        if is_own_refusal(access) {
            // What we refuse because of an order, a limit or a fault says nothing about what is there.
            event.status = 0;
        }
        event
    }

    fn is_exempt(&self, ip: IpAddr, at_ms: u64) -> bool {
        self.plan.load().decide.is_exempt(ip, at_ms)
    }
}

/// The incident because of which a node had a request refused, or challenged without success.
fn met(access: &AccessEvent) -> Option<IncidentId> {
    let Reason::Decision { decision } = &access.verdict.reason else { return None };
    let failed = [ChallengeStep::Given, ChallengeStep::Failed, ChallengeStep::Refused].map(Some);
    let is_in_vain = access.verdict.refuses() || failed.contains(&access.challenge);
    IncidentId::of_decision(decision).filter(|_| is_in_vain)
}

/// How sure it is that a refused request was an attack.
fn attack(access: &AccessEvent, signals: &[Signal]) -> Option<Confidence> {
    let by_rule = matches!(access.verdict.reason, Reason::Rule { .. });
    let confidences = signals.iter().filter_map(|signal| signal.rule.class.confidence());
    confidences.max().filter(|_| by_rule && access.verdict.action == Action::Deny)
}

fn is_own_refusal(access: &AccessEvent) -> bool {
    let refused = access.verdict.action != Action::Allow && access.verdict.action != Action::Observe;
    let by_us = !matches!(access.verdict.reason, Reason::Rule { .. } | Reason::Network);
    refused && by_us
}

/// Requests that wait for the learner, some 200 bytes each: a twentieth of a second of more than a node serves.
const QUEUE_MAX: usize = 16_384;
/// Names that are remembered for those who read incidents.
const NAMES_MAX: usize = 2_048;

#[cfg(test)]
pub(super) mod tests {
    use phalanx_learn::Method;
    use phalanx_learn::event::Step;

    use super::*;

    /// A page that was served to a client.
    pub(in super::super) fn seen(ip: &str, software: u64) -> Seen {
        let event = Event {
            at_ms: 1_767_571_200_000,
            ip: ip.parse().unwrap(),
            app: 1,
            route: 2,
            target: 3,
            object: None,
            software: Some(software),
            agent: Some(software),
            session: None,
            account: None,
            secret: None,
            place: None,
            asn: None,
            step: Step::Page,
            status: 200,
            response_bytes: 0,
            method: Method::Get,
            endpoint: 4,
            latency_us: 0,
            country: None,
            shape: 0,
            attack: None,
            exempt: false,
        };
        let asked = Asked { app: 1, route: 2 };
        Seen { event, request: RequestId::from_bits(9), met: None, asked, under: None, raised: None }
    }
}
