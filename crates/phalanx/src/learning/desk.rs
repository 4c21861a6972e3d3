//! The learner's thread: events and other nodes' words in, signals, incidents and proposals out.
//!
//! It turns twenty times a second, whatever comes in between waits in bounded queues. Nothing waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_control::api::{Incident, IncidentRow};
use phalanx_fleet::{FleetError, FleetHandle, Learned, LearnedKind, NewDecision, Singleton};
use phalanx_learn::{
    Baselines, Docket, Familiarity, IncidentId, IncidentsTold, Learner, Ruling, Signal, SignalsTold, Summary,
};
use phalanx_model::lanes::Lanes;
use phalanx_model::{Actor, Clock, Decision, RequestId, SecurityEvent};
use phalanx_policy::{Detection, DetectionMode};
use tokio::sync::{mpsc, oneshot, watch};

use super::answer::{Answers, Move};
use super::cases::Case;
use super::kept::Keeping;
use super::latest::{Latest, Trace};
use super::peers::{Naming, Peers};
use super::reports::Told;
use super::shown;
use super::tee::{Seen, Tee};

/// What comes to the thread.
pub(super) enum Inbox {
    /// Another node tells.
    Told(Learned),
    /// An operator asks for all incidents, each with the ids that it is known by.
    List(oneshot::Sender<Vec<(IncidentRow, Vec<u64>)>>),
    /// For one.
    Show(u64, oneshot::Sender<Option<(Incident, Vec<u64>)>>),
    /// Whoever runs playbooks asks for all that something could be done about.
    Cases(oneshot::Sender<Vec<Case>>),
    /// What is usual, as history taught it; and how many requests did.
    Usual(Box<Baselines>, u64),
    /// An operator at this node rules.
    Rule(Ruling, oneshot::Sender<()>),
}

/// A signal of this node's learner, and by which request it is known.
type Found = (Signal, Option<Trace>);

/// What is told to others.
pub(super) type Outbox = mpsc::Sender<(LearnedKind, Vec<u8>)>;

/// What the thread counts, for status and metrics; `api::Learning` tells what each is.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) events: AtomicU64,
    pub(super) actors: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) peers_heard: AtomicU64,
    pub(super) impossible: AtomicU64,
    /// Messages of others that could not be read, or were too many.
    pub(super) unheard: AtomicU64,
    pub(super) signals: AtomicU64,
    pub(super) proposals: AtomicU64,
    pub(super) incidents_open: AtomicU64,
    pub(super) named_by: Mutex<Option<String>>,
    /// How much is known of what is usual.
    pub(super) usual: Mutex<Familiarity>,
    /// Requests of the access log that taught it.
    pub(super) history: AtomicU64,
    /// Why what was learned cannot be kept.
    pub(super) kept_fault: Mutex<Option<String>>,
}

pub(super) struct Desk {
    pub(super) learner: Learner,
    pub(super) docket: Docket,
    pub(super) peers: Peers,
    pub(super) answers: Answers,
    pub(super) reports: Told,
    pub(super) tee: Arc<Tee>,
    pub(super) fleet: FleetHandle,
    pub(super) lanes: Lanes,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) names: Option<Arc<Singleton>>,
    pub(super) inbox: mpsc::Receiver<Inbox>,
    pub(super) outbox: Outbox,
    pub(super) stats: Arc<Stats>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) latest: Latest,
    pub(super) keeping: Keeping,
    /// What the thresholds were made of.
    pub(super) tuned: Detection,
    /// When what is done once a second was done.
    pub(super) second: u64,
    /// Whether there are others that can be told.
    pub(super) has_others: bool,
}

impl Desk {
    /// Until the node stops.
    pub(super) fn run(mut self) {
        let mut seen = Vec::new();
        while !*self.stopping.borrow() {
            self.turn(&mut seen, self.clock.now_ms());
            std::thread::park_timeout(TURN);
        }
        let Self { learner, docket, peers, tee, keeping, clock, .. } = self;
        keeping.end(&learner, &docket, (&peers, &tee), clock.now_ms());
    }

    fn turn(&mut self, seen: &mut Vec<Seen>, now_ms: u64) {
        let mut signals: Vec<Found> = Vec::new();
        for _ in 0..MESSAGES_PER_TURN {
            let Ok(message) = self.inbox.try_recv() else { break };
            self.read(message, &mut signals, now_ms);
        }
        self.tee.drain(seen);
        let mut found = Vec::new();
        let acts = self.tuned.mode == DetectionMode::Act;
        for one in seen.iter() {
            self.latest.note(one);
            if acts {
                self.answers.see(one);
            }
            one.met.inspect(|id| self.docket.met(id.0, &one.event, now_ms));
            self.learner.observe(&one.event, &mut found);
            signals.extend(found.drain(..).map(|signal| (signal, Some(Trace::of(one)))));
        }
        for (signal, trace) in &mut signals {
            // Where others' words completed it, a request of the same subject stands for it.
            *trace = trace.or_else(|| self.latest.of(signal.subject));
        }
        let of_accounts = signals.iter().filter_map(|(signal, trace)| {
            Some((super::owners::of_account(signal, &self.answers.tables)?, *trace))
        });
        signals.extend(of_accounts.collect::<Vec<_>>());
        self.stats.events.fetch_add(seen.len() as u64, Ordering::Relaxed);
        self.stats.signals.fetch_add(signals.len() as u64, Ordering::Relaxed);
        signals.iter().for_each(|(signal, trace)| self.heed(signal, *trace, now_ms));
        if self.has_others {
            self.tell_signals(&signals);
        }
        if now_ms / 1_000 != self.second {
            self.second = now_ms / 1_000;
            self.each_second(now_ms);
        }
        self.tell_incidents(now_ms);
    }

    /// A signal of this node's own learner: it belongs to an incident, and perhaps something is done about it.
    fn heed(&mut self, signal: &Signal, trace: Option<Trace>, now_ms: u64) {
        let request = trace.map(|trace| trace.request);
        let id = self.docket.add(signal, request.map(RequestId::to_bits), now_ms);
        let Some((incident, standing)) = self.docket.find(id) else { return };
        self.reports.signal(signal, incident, request, (&self.peers, &self.tee));
        let latest = || incident.evidence.last().map(|bits| Trace::of_request(RequestId::from_bits(*bits)));
        let Some(trace) = trace.or_else(latest).filter(|_| standing.undone_ms.is_none()) else { return };
        self.answers.absorb(incident.id, &incident.absorbed);
        self.answers.follow(incident, signal, trace);
        let moves = self.answers.to(signal, incident, trace, now_ms);
        moves.into_iter().for_each(|one| self.act(one, now_ms));
    }

    /// Carries out what was chosen. What cannot be, for want of room or of a disk, is not done, and chosen again when the attack goes on.
    fn act(&self, chosen: Move, now_ms: u64) {
        let done = match chosen {
            Move::Propose(proposal) => {
                self.stats.proposals.fetch_add(1, Ordering::Relaxed);
                self.lanes.security(SecurityEvent::Proposal(proposal));
                Ok(())
            }
            Move::Order(order) => {
                self.stats.proposals.fetch_add(1, Ordering::Relaxed);
                self.order(order)
            }
            Move::End { actor, incident, reason } => self.end(&actor, incident, &reason, now_ms),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "what a detector found was not answered");
        }
    }

    /// An order about many: for all, of the one node that names incidents and speaks for operators; else for this node alone.
    fn order(&self, order: NewDecision) -> Result<(), FleetError> {
        let may_order_all = self.has_others && self.token().is_some() && self.fleet.acts_for_operators();
        if may_order_all && self.fleet.add(order.clone()).is_ok() {
            return Ok(());
        }
        self.fleet.order_here(order).map(|_| ())
    }

    /// Ends what this node ordered because of incidents, and nothing else.
    fn end(&self, actor: &Actor, incident: IncidentId, reason: &str, now_ms: u64) -> Result<(), FleetError> {
        let key = actor.key();
        let is_wide = key.is_wide() || matches!(actor, Actor::Prefix(_) | Actor::Asn(_));
        if is_wide {
            self.fleet.lift_here(actor, reason)?;
        }
        let own: Vec<_> = self.fleet.own_about(&key).into_iter().filter(|one| one.is_live(now_ms)).collect();
        let named = |one: &Arc<Decision>| match is_wide {
            true => IncidentId::of_automatic(&one.reason).is_some(),
            false => IncidentId::of_reason(&one.reason).is_some(),
        };
        if own.is_empty() || !own.iter().all(named) {
            return Ok(());
        }
        tracing::info!(%actor, %incident, reason, "what was ordered ends");
        match is_wide {
            true => self.fleet.withdraw(actor.clone(), reason),
            false => self.fleet.retract(actor.clone(), reason),
        }
        .map(|_| ())
    }

    fn read(&mut self, message: Inbox, signals: &mut Vec<Found>, now_ms: u64) {
        match message {
            Inbox::Told(told) => {
                if self.hear(&told, signals, now_ms).is_none() {
                    self.stats.unheard.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Whoever asked may have gone.
            Inbox::List(to) => {
                let known = (&self.peers, &*self.tee);
                let rows = self.docket.incidents().map(|(one, standing)| shown::row(one, standing, known));
                drop(to.send(rows.collect()));
            }
            Inbox::Show(id, to) => {
                let found = self.docket.find(id);
                let shown =
                    found.map(|(one, standing)| shown::whole(one, standing, (&self.peers, &self.tee)));
                drop(to.send(shown));
            }
            Inbox::Cases(to) => drop(to.send(super::cases::all(&self.docket, (&self.peers, &self.tee)))),
            Inbox::Usual(usual, requests) => {
                self.learner.recall(*usual);
                self.stats.history.store(requests, Ordering::Relaxed);
            }
            Inbox::Rule(ruling, to) => {
                self.docket.rule(&ruling, now_ms);
                self.tell(LearnedKind::Rulings, Ruling::to_bytes(&[ruling]));
                let _ = to.send(());
            }
        }
    }

    /// None: it is nothing that is read here, or too much.
    fn hear(&mut self, told: &Learned, signals: &mut Vec<Found>, now_ms: u64) -> Option<()> {
        let name = format!("{}/{}", told.author.site, told.author.node);
        let node = self.peers.admit(&name)?;
        if !self.peers.may_speak(node, now_ms) {
            return None;
        }
        match told.kind {
            LearnedKind::Counts => {
                let summary = Summary::from_bytes(&told.bytes)?;
                let mut found = Vec::new();
                self.learner.merge(node, &summary, now_ms, &mut found);
                signals.extend(found.into_iter().map(|signal| (signal, None)));
            }
            LearnedKind::Signals => {
                let SignalsTold { names, signals } = SignalsTold::from_bytes(&told.bytes)?;
                for (mut signal, evidence) in signals {
                    if signal.at_ms.abs_diff(now_ms) > SIGNAL_AGE_MAX_MS {
                        return None;
                    }
                    signal.nodes = self.numbers(&names, signal.nodes.iter().copied(), node);
                    self.docket.add_told(&signal, evidence, now_ms);
                }
            }
            LearnedKind::Incidents => {
                let IncidentsTold { token, names, mut incidents } = IncidentsTold::from_bytes(&told.bytes)?;
                for incident in &mut incidents {
                    let nodes = incident.nodes.iter().copied();
                    // Who passes it on need not have seen it.
                    incident.nodes = nodes.filter_map(|place| self.number(&names, place)).collect();
                }
                self.docket.hear(node, told.may_lead, token, incidents, now_ms);
            }
            // They go to the driver of playbooks.
            LearnedKind::Playbooks => return None,
            LearnedKind::Rulings => {
                for mut ruling in Ruling::from_bytes(&told.bytes)? {
                    // By the clock of another node; a time to come would never end.
                    let past = |at_ms: Option<u64>| at_ms.map(|at_ms| at_ms.min(now_ms));
                    (ruling.closed_ms, ruling.undone_ms) = (past(ruling.closed_ms), past(ruling.undone_ms));
                    self.docket.rule(&ruling, now_ms);
                }
            }
        }
        Some(())
    }

    fn number(&self, names: &[String], place: u16) -> Option<u16> {
        self.peers.number(names.get(usize::from(place))?)
    }

    fn numbers(&self, names: &[String], places: impl Iterator<Item = u16>, author: u16) -> Vec<u16> {
        let mut nodes: Vec<u16> = places.filter_map(|place| self.number(names, place)).collect();
        nodes.push(author);
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn each_second(&mut self, now_ms: u64) {
        let detection = self.answers.plan.load().detection.clone();
        if detection != self.tuned {
            self.learner.tune(super::thresholds(&detection));
            self.tuned = detection;
        }
        let reach = self.fleet.reach();
        self.has_others = reach.linked && reach.known > 1;
        for member in self.fleet.members().iter().filter(|member| !member.me) {
            self.peers.admit(&format!("{}/{}", member.site, member.node));
        }
        let summary = self.learner.summary(now_ms);
        if self.has_others {
            summary.to_messages().into_iter().for_each(|message| self.tell(LearnedKind::Counts, message));
            if (now_ms / 1_000).is_multiple_of(RULINGS_EVERY_S) && self.fleet.acts_for_operators() {
                let rulings = self.docket.rulings(now_ms.saturating_sub(RULINGS_FOR_MS));
                if !rulings.is_empty() {
                    self.tell(LearnedKind::Rulings, Ruling::to_bytes(&rulings));
                }
            }
        }
        let undone = |case| self.docket.find(case).is_some_and(|(_, standing)| standing.undone_ms.is_some());
        let mut moves = self.answers.tick(undone, now_ms);
        let open = self.docket.incidents().filter(|(_, of)| !of.is_closed && of.undone_ms.is_none());
        moves.extend(self.answers.kin(open.map(|(incident, _)| incident), now_ms));
        moves.into_iter().for_each(|one| self.act(one, now_ms));
        // One node tells of each incident: the one that names them.
        if self.token().is_some() {
            self.reports.incidents(self.docket.incidents(), (&self.peers, &self.tee), now_ms);
        }
        self.count(now_ms);
        let Self { learner, docket, peers, tee, keeping, .. } = self;
        keeping.turn(learner, docket, (peers, tee), now_ms);
    }

    fn count(&self, now_ms: u64) {
        let stats = &self.stats;
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        stats.actors.store(count(self.learner.actors()), Ordering::Relaxed);
        stats.bytes.store(count(self.learner.bytes()), Ordering::Relaxed);
        stats.impossible.store(self.learner.impossible(), Ordering::Relaxed);
        stats
            .peers_heard
            .store(count(self.peers.heard_since(now_ms.saturating_sub(60_000))), Ordering::Relaxed);
        stats.incidents_open.store(count(self.docket.open_len()), Ordering::Relaxed);
        let namer = match self.token() {
            Some(_) => Some(Signal::OWN),
            None => self.docket.namer(now_ms).map(|namer| namer.node),
        };
        *stats.usual.lock() = self.learner.baselines().familiarity(now_ms);
        *stats.named_by.lock() = namer.and_then(|node| self.peers.name(node)).map(str::to_owned);
    }

    fn token(&self) -> Option<u64> {
        self.names.as_ref().and_then(|names| names.token())
    }

    fn tell_signals(&self, signals: &[Found]) {
        for some in signals.chunks(SIGNALS_AT_ONCE) {
            let mut naming = Naming::new(&self.peers);
            let mut told = Vec::with_capacity(some.len());
            for (signal, trace) in some {
                let nodes = signal.nodes.iter().filter_map(|node| naming.place(*node)).collect();
                told.push((Signal { nodes, ..signal.clone() }, trace.map(|trace| trace.request.to_bits())));
            }
            let told = SignalsTold { names: naming.names, signals: told };
            self.tell(LearnedKind::Signals, told.to_bytes());
        }
    }

    fn tell_incidents(&mut self, now_ms: u64) {
        let token = self.token();
        let mut incidents = self.docket.tick(token.is_some(), now_ms);
        let is_time = token.is_some() && self.docket.says_it_names(now_ms);
        if !self.has_others || (incidents.is_empty() && !is_time) {
            return;
        }
        let mut naming = Naming::new(&self.peers);
        for incident in &mut incidents {
            incident.nodes = incident.nodes.iter().filter_map(|node| naming.place(*node)).collect();
        }
        let told = IncidentsTold { token: token.unwrap_or(0), names: naming.names, incidents };
        told.to_messages().into_iter().for_each(|message| self.tell(LearnedKind::Incidents, message));
    }

    /// What finds no room is not told: the next one says more.
    fn tell(&self, kind: LearnedKind, message: Vec<u8>) {
        let _ = self.outbox.try_send((kind, message));
    }
}

/// How long a request waits for the learner at most, where that keeps up.
const TURN: Duration = Duration::from_millis(50);
const MESSAGES_PER_TURN: usize = 512;
/// As many as a message holds.
const SIGNALS_AT_ONCE: usize = 32;
/// What is older, or further to come, is no news of an attack.
const SIGNAL_AGE_MAX_MS: u64 = 120_000;
/// Rulings are told again, for nodes that were away.
const RULINGS_EVERY_S: u64 = 10;
const RULINGS_FOR_MS: u64 = 15 * 60_000;
