//! Nodes with their learners, and what becomes of their signals, in virtual time. What is done is what the product does: see `desk.rs`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use phalanx_learn::detect::Stage;
use phalanx_learn::event::SubjectKind;
use phalanx_learn::learner::Sizes;
use phalanx_learn::link::{Entity, Link};
use phalanx_learn::respond::{Measure, Without, actor};
use phalanx_learn::sketch::mix;
use phalanx_learn::{
    Correlator, Detector, Detectors, Event, Incident, IncidentsTold, Learner, Outcome, Signal, SignalsTold,
    Step, Subject, Summary,
};
use phalanx_model::Confidence;

use crate::attackers::Deed;
use crate::desk::{Desk, Met, is_attack};
use crate::dice::Dice;
use crate::people::{Calendar, People};
use crate::plans::{CAPACITY, Plan, plan};
use crate::report::{Report, Tally};
use crate::traffic::{BEGIN_MS, Request, is_popular};

/// What to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) sharing: bool,
    /// How many honest users there are, per cent.
    pub(crate) honest: u64,
    /// How much attackers do, per cent.
    pub(crate) attack: u64,
    /// Whether anything is done about what is found.
    pub(crate) answers: bool,
    /// Means that are left out.
    pub(crate) without: Without,
    /// How much longer it goes on without the attackers.
    pub(crate) after_s: u64,
    /// Thresholds of the nodes.
    pub(crate) detectors: Detectors,
    /// Tells each signal that may be acted on, and each order.
    pub(crate) tells: bool,
}

/// Plays a scenario; none if there is none of that name.
pub(crate) fn play(settings: &Settings) -> Option<Report> {
    let plan = plan(&settings.scenario, settings.seed, settings.nodes, settings.attack)?;
    let mut world = World::new(settings, plan);
    world.learn_history(settings);
    (0..world.plan.seconds + settings.after_s).for_each(|second| world.second(second));
    Some(world.end())
}

struct World {
    plan: Plan,
    tells: bool,
    sharing: bool,
    people: People,
    dice: Dice,
    learners: Vec<Learner>,
    /// One, or one for each node where they do not tell each other.
    desks: Vec<Desk>,
    /// What the hostile node makes up, and what it has seen to make it up of.
    liar: Learner,
    overheard: Vec<Event>,
    /// Whom it is right to name.
    guilty: HashSet<Subject>,
    attack: Vec<Deeds>,
    banned: BTreeSet<u64>,
    challenged: BTreeSet<u64>,
    /// Those without a session, who cannot prove anything and were asked to.
    stopped: BTreeSet<u64>,
    sessions: HashSet<u64>,
    honest_requests: u64,
    found: BTreeMap<Detector, u64>,
    tally: BTreeMap<Detector, Tally>,
    nodes_named: usize,
    /// What was told about trouble and new endpoints.
    notices: u64,
    /// Signals that hang on other nodes' word alone.
    hearsay: u64,
    /// How often a hostile node told of what it made up, and was heard.
    fabricated: u64,
}

/// A request of an attack.
struct Deeds {
    event: Event,
    campaign: usize,
    is_refused: bool,
    /// It came a second after the first order or later.
    is_late: bool,
}

impl World {
    fn new(settings: &Settings, plan: Plan) -> Self {
        let nodes = settings.nodes.clamp(1, 16);
        let sizes = Sizes { actors: 100_000, series: 16_384, routes: 64 };
        // A flood is more than a node's part of what the shop can answer.
        let flood_requests = 10 * CAPACITY / u64::try_from(nodes).unwrap_or(1);
        let learner = |node: u64| {
            let detectors = Detectors { flood_requests, ..settings.detectors.clone() };
            Learner::new(detectors, sizes, mix(settings.seed ^ node << 32))
        };
        let per_hour = match (plan.calendar.is_week, plan.history_h) {
            (true, _) => 140,
            (_, 1..) => HISTORY_PER_HOUR,
            _ => 3_600,
        } * settings.honest
            / 100;
        let acts = settings.answers && !plan.is_watched;
        let desk = |_| Desk::new(settings.seed, acts, settings.without, settings.tells);
        Self {
            sharing: settings.sharing,
            tells: settings.tells,
            people: People::new(settings.seed, per_hour, plan.calendar.clone()),
            dice: Dice::new(settings.seed ^ 0xd1ce),
            learners: (0..nodes).map(|node| learner(u64::try_from(node).unwrap_or(0))).collect(),
            desks: (0..if settings.sharing { 1 } else { nodes }).map(desk).collect(),
            liar: learner(99),
            overheard: Vec::new(),
            plan,
            guilty: HashSet::new(),
            attack: Vec::new(),
            banned: BTreeSet::new(),
            challenged: BTreeSet::new(),
            stopped: BTreeSet::new(),
            sessions: HashSet::new(),
            honest_requests: 0,
            found: BTreeMap::new(),
            tally: BTreeMap::new(),
            nodes_named: 0,
            notices: 0,
            hearsay: 0,
            fabricated: 0,
        }
    }

    /// Nodes learn what is usual from what was kept of the days before.
    fn learn_history(&mut self, settings: &Settings) {
        let hours = self.plan.history_h;
        let mut people =
            People::new(mix(settings.seed), HISTORY_PER_HOUR * settings.honest / 100, Calendar::default());
        let mut requests = Vec::new();
        for second in 0..hours * 3_600 {
            people.second(second, self.learners.len(), &mut requests);
            for Request { mut event, node, .. } in requests.drain(..) {
                event.at_ms -= hours * 3_600_000;
                if let Some(learner) = self.learners.get_mut(node) {
                    learner.learn(&event);
                }
            }
        }
    }

    fn second(&mut self, second: u64) {
        let nodes = self.learners.len();
        let mut requests = Vec::new();
        self.people.second(second, nodes, &mut requests);
        for (own, attacker) in self.plan.attackers.iter_mut().enumerate() {
            let begun = requests.len();
            attacker.second(second, own, nodes, &mut self.dice, &mut requests);
            for request in requests.iter_mut().skip(begun) {
                self.plan.calendar.befall(second, &mut request.event, &mut self.dice);
            }
        }
        requests.sort_by_key(|request| request.event.at_ms);
        let is_quiet = requests.is_empty();
        requests.into_iter().for_each(|request| self.request(request));
        let now_ms = BEGIN_MS + (second + 1) * 1_000;
        if self.sharing && !is_quiet {
            self.exchange(now_ms, second);
        }
        self.desks.iter_mut().for_each(|desk| desk.second(now_ms));
    }

    fn request(&mut self, request: Request) {
        let Request { mut event, node, attacker } = request;
        // What says how a client is written says which it is.
        event.agent = event.software;
        let at = if self.sharing { 0 } else { node };
        let Some(desk) = self.desks.get_mut(at) else { return };
        let met = desk.meets(&event);
        let is_refused = met.is_some_and(|(_, met)| met != Met::Asked || attacker.is_some());
        if let Some(own) = attacker {
            if let Some((id, _)) = met {
                desk.hit(id, &event);
            }
            let is_late = desk.first_order_ms.is_some_and(|first_ms| event.at_ms > first_ms + 1_000);
            self.note_attack(&event, own, is_refused, is_late);
        } else {
            let who = actor(&event);
            self.honest_requests += 1;
            self.sessions.insert(who);
            // The victim's session is ended with the thief's.
            let is_stolen =
                event.session.is_some_and(|id| self.guilty.contains(&Subject::new(SubjectKind::Session, id)));
            if let Some((id, met)) = met.filter(|_| !is_stolen) {
                desk.weigh(id, met, &event);
                match met {
                    Met::Refused => _ = self.banned.insert(who),
                    Met::Asked | Met::Slowed if event.session.is_none() => _ = self.stopped.insert(who),
                    Met::Asked | Met::Slowed => _ = self.challenged.insert(who),
                }
            }
            if self.plan.has_liar && event.session.is_some() {
                self.overheard.truncate(63);
                self.overheard.insert(0, event);
            }
        }
        if is_refused {
            // What was not served tells nothing but that it was asked.
            event.status = 403;
            event.attack = None;
            event.step = match event.step {
                Step::Login(_) => Step::Login(Outcome::Unknown),
                _ => Step::Asset,
            };
        } else if let Some(desk) = self.desks.get_mut(at) {
            desk.see(&event);
        }
        let mut signals = Vec::new();
        if let Some(learner) = self.learners.get_mut(node) {
            learner.observe(&event, &mut signals);
        }
        signals.into_iter().for_each(|signal| self.heed(signal, node, Some(&event)));
    }

    fn note_attack(&mut self, event: &Event, own: usize, is_refused: bool, is_late: bool) {
        let Some(attacker) = self.plan.attackers.get_mut(own) else { return };
        attacker.sees(is_refused);
        self.attack.push(Deeds { event: *event, campaign: attacker.campaign, is_refused, is_late });
        let of = |kind, id: Option<u64>| id.map(|id| Subject::new(kind, id));
        let deed = attacker.deed;
        let is_own_account =
            matches!(deed, Deed::Walk | Deed::LogInFarAway) || event.step == Step::Login(Outcome::Passed);
        self.guilty.extend(
            [
                Some(Subject::address(event.ip)),
                Some(Subject::prefix(event.ip)),
                of(SubjectKind::Session, event.session),
                of(
                    SubjectKind::Software,
                    event.software.filter(|software| deed == Deed::Stuff || !is_popular(*software)),
                ),
                (deed == Deed::Crash).then(|| Subject::new(SubjectKind::Route, event.route)),
                of(SubjectKind::Account, event.account).filter(|_| is_own_account),
                event.password().filter(|_| deed == Deed::Spray),
            ]
            .into_iter()
            .flatten(),
        );
    }

    /// A signal of a node; `event` completed it, or another node's word.
    fn heed(&mut self, mut signal: Signal, node: usize, event: Option<&Event>) {
        // What a hostile node concludes is its own affair.
        if self.plan.has_liar && node + 1 == self.learners.len() {
            return;
        }
        let own = u16::try_from(node).unwrap_or(0);
        signal.nodes.iter_mut().filter(|named| **named == Signal::OWN).for_each(|named| *named = own);
        if let Some(desk) = self.desks.get_mut(if self.sharing { 0 } else { node }) {
            desk.heed(&signal, event);
        }
        self.hearsay += u64::from(!signal.decisive);
        // The halves of these two are on different nodes, so that they are told and not acted on.
        let is_named = matches!(
            signal.detector,
            Detector::ImpossibleTravel | Detector::SessionTheft | Detector::NewEndpoint | Detector::Unusual
        );
        let in_trouble = if signal.detector == Detector::Unusual {
            self.plan.calendar.is_unusual(signal.at_ms)
        } else {
            is_trouble(signal.detector) && self.plan.calendar.is_trouble(signal.at_ms)
        };
        let is_right = self.guilty.contains(&signal.subject) || in_trouble;
        self.notices += u64::from(is_trouble(signal.detector) || signal.detector == Detector::NewEndpoint);
        let is_unsure = signal.confidence == Confidence::Low && signal.detector != Detector::Unusual;
        if is_unsure || !(signal.decisive || is_named) {
            return;
        }
        if self.tells {
            let second = (signal.at_ms - BEGIN_MS) as f64 / 1_000.0;
            let verdict = if is_right { "right" } else { "WRONG" };
            println!("{second:>10.1} node {node} {verdict} {:?} {}", signal.subject.kind, signal.reason);
        }
        if signal.decisive || matches!(signal.detector, Detector::NewEndpoint | Detector::Unusual) {
            self.tally.entry(signal.detector).or_default().count(is_right);
        }
        if is_right && self.plan.expects.contains(&signal.detector) {
            self.found.entry(signal.detector).or_insert(signal.at_ms);
            self.nodes_named = self.nodes_named.max(signal.nodes.len());
        }
    }

    /// Each node tells all others.
    fn exchange(&mut self, now_ms: u64, second: u64) {
        let last = self.learners.len().saturating_sub(1);
        let lies = self.plan.has_liar && second >= self.plan.quiet_s;
        let mut told: Vec<Vec<u8>> =
            self.learners.iter_mut().map(|learner| learner.summary(now_ms).to_bytes()).collect();
        if lies && let Some(own) = told.get_mut(last) {
            *own = self.lie(now_ms);
            self.fabricate(now_ms);
        }
        for (from, bytes) in told.iter().enumerate() {
            let Some(summary) = Summary::from_bytes(bytes).filter(|summary| !summary.is_empty()) else {
                continue;
            };
            let peer = u16::try_from(from).unwrap_or(0);
            let mut signals = Vec::new();
            for (to, learner) in self.learners.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                let mut heard = Vec::new();
                learner.merge(peer, &summary, now_ms, &mut heard);
                signals.extend(heard.into_iter().map(|signal| (signal, to)));
            }
            signals.into_iter().for_each(|(signal, to)| self.heed(signal, to, None));
        }
    }

    /// A hostile node's summary: for each attempt of the real attack a hundred, and of everybody whom it saw whatever is held against
    /// anybody.
    fn lie(&mut self, now_ms: u64) -> Vec<u8> {
        let at_ms = now_ms - 1;
        let mut claims = Vec::new();
        for event in self.overheard.iter().chain(self.attack.last().map(|deed| &deed.event)) {
            let event = Event { at_ms, ..*event };
            let invented = self.dice.next();
            claims.push(Event { step: Step::Page, status: 404, target: invented, ..event });
            claims.push(Event { step: Step::Lookup, account: Some(invented), ..event });
            claims.push(Event { status: 403, attack: Some(Confidence::High), ..event });
            claims.push(Event { asn: Some(7), software: Some(mix(invented)), ..event });
            let secret = event.secret.or(Some(7));
            let step = Step::Login(Outcome::Failed);
            claims.push(Event { account: Some(invented), step, secret, status: 401, ..event });
            let step = Step::Payment(Outcome::Failed);
            claims.push(Event { secret: Some(crate::traffic::tag(invented)), step, ..event });
        }
        let mut ignored = Vec::new();
        claims.iter().for_each(|claim| self.liar.observe(claim, &mut ignored));
        self.liar.summary(now_ms).to_bytes()
    }

    /// What a hostile node says that it found: everybody whom it saw is said to do all that is held against anybody, as surely as can be, also in incidents
    /// that it tells whole; all of them are said to be part of the real attack.
    fn fabricate(&mut self, now_ms: u64) {
        let mut invented = Correlator::default();
        let mut signals = Vec::new();
        let real = self.attack.last().map(|deed| deed.event);
        for event in self.overheard.iter().chain(&real) {
            for detector in Detector::ALL {
                let subjects = [
                    Subject::address(event.ip),
                    Subject::prefix(event.ip),
                    Subject::new(SubjectKind::Software, event.software.unwrap_or(0)),
                ];
                signals.extend(subjects.map(|subject| {
                    Signal {
                        at_ms: now_ms,
                        detector,
                        subject,
                        confidence: Confidence::High,
                        decisive: true,
                        reason: "it is said".into(),
                        events: 1_000_000,
                        nodes: Vec::new(),
                        links: real
                            .iter()
                            .chain([event])
                            .map(|of| Link { entity: Entity::of(Subject::address(of.ip)), weight: 1.0 })
                            .collect(),
                    }
                }));
            }
        }
        // As many as a message holds.
        signals.truncate(32);
        signals.iter().for_each(|signal| _ = invented.add(signal));
        let incidents = invented.incidents().cloned().collect();
        let incidents = IncidentsTold { token: u64::MAX, names: Vec::new(), incidents }.to_messages();
        let signals = signals.into_iter().map(|signal| (signal, None)).collect();
        let signals = SignalsTold { names: Vec::new(), signals }.to_bytes();
        for desk in &mut self.desks {
            self.fabricated += u64::from(desk.hear(&signals, &incidents, now_ms).is_some());
        }
    }

    fn end(mut self) -> Report {
        let all: Vec<Incident> = self
            .desks
            .iter_mut()
            .flat_map(|desk| {
                std::mem::take(&mut desk.closed).into_iter().chain(desk.correlator.incidents().cloned())
            })
            .collect();
        let incidents: Vec<&Incident> = all.iter().filter(|incident| is_attack(incident)).collect();
        let campaigns: BTreeSet<usize> = self.attack.iter().map(|deed| deed.campaign).collect();
        // Of each campaign's events, the part that each incident covers.
        let covered = |incident: &Incident, campaign: usize| {
            let of = self.attack.iter().filter(|deed| deed.campaign == campaign);
            let (all, part) = of.fold((0_u64, 0_u64), |(all, part), deed| {
                (all + 1, part + u64::from(incident.covers(&deed.event)))
            });
            ratio(part, all)
        };
        let shares: Vec<Vec<f64>> = incidents
            .iter()
            .map(|incident| campaigns.iter().map(|campaign| covered(incident, *campaign)).collect())
            .collect();
        if self.tells {
            incidents.iter().zip(&shares).for_each(|(incident, shares)| tell(incident, shares));
        }
        let best = |at: usize| shares.iter().filter_map(|of| of.get(at)).copied().fold(0.0, f64::max);
        let first_ms = self.attack.first().map(|deed| deed.event.at_ms);
        let tenth_ms = self.attack.get(9).map(|deed| deed.event.at_ms);
        let found_ms = self.found.values().min().copied();
        let since = |from: Option<u64>| Some((found_ms? as f64 - from? as f64) / 1_000.0);
        let refused = self.attack.iter().filter(|deed| deed.is_refused);
        let late = || self.attack.iter().filter(|deed| deed.is_late);
        let mut ordered: BTreeMap<Measure, u64> = BTreeMap::new();
        for (measure, number) in self.desks.iter().flat_map(|desk| &desk.ordered) {
            *ordered.entry(*measure).or_insert(0) += number;
        }
        let last_ms = self.attack.last().map(|deed| deed.event.at_ms);
        let over_ms = self.desks.iter().filter_map(|desk| desk.over_ms).max();
        Report {
            detected: found_ms.is_some(),
            seconds_to_detect: since(first_ms),
            seconds_after_tenth: since(tenth_ms),
            nodes_named: self.nodes_named,
            honest_banned: count(self.banned.len()),
            honest_challenged_share: ratio(count(self.challenged.len()), count(self.sessions.len())),
            machines_stopped: count(self.stopped.len()),
            attack_refused_share: ratio(count(refused.count()), count(self.attack.len())),
            refused_once_answered: ratio(
                count(late().filter(|deed| deed.is_refused).count()),
                count(late().count()),
            ),
            incidents: incidents.len(),
            incident_share: (0..campaigns.len()).map(best).fold(1.0, f64::min),
            mixed_incidents: shares
                .iter()
                .filter(|of| of.iter().filter(|share| **share > 0.05).count() > 1)
                .count(),
            false_incidents: shares.iter().filter(|of| of.iter().all(|share| *share == 0.0)).count(),
            honest_sessions: count(self.sessions.len()),
            honest_requests: self.honest_requests,
            attack_requests: count(self.attack.len()),
            missed: self.plan.expects.iter().filter(|of| !self.found.contains_key(of)).copied().collect(),
            found: self.found.keys().copied().collect(),
            signals: self.tally,
            hearsay: self.hearsay,
            fabricated: self.fabricated,
            notices: self.notices,
            ordered,
            withdrawn: self.desks.iter().map(|desk| desk.withdrawn).sum(),
            in_force: self.desks.iter().map(|desk| desk.responder.orders().count()).sum(),
            over_seconds: over_ms.zip(last_ms).map(|(over, last)| (over as f64 - last as f64) / 1_000.0),
            pain_ppm_most: self.desks.iter().map(|desk| desk.pain_ppm_most).max().unwrap_or(0),
        }
    }
}

fn tell(incident: &Incident, shares: &[f64]) {
    println!("incident {} covers {shares:.3?}", incident.id);
    for ((detector, subject), finding) in incident.findings.iter().take(20) {
        println!("  {} {subject:x?} {} events, {}", detector.name(), finding.events, finding.reason);
    }
}

fn is_trouble(detector: Detector) -> bool {
    detector.stage() == Stage::Trouble
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// Sessions in an hour where days of history are learned from before.
const HISTORY_PER_HOUR: u64 = 1_200;
