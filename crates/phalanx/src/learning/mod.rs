//! The learner on this node: a thread of its own between the recorder, the fleet and the API.
//!
//! ```text
//! recorder -> Tee -> Desk (thread) -> proposals -> security lane -> fleet -> View
//!                     ^  |
//!    other nodes -> Inbox Outbox -> other nodes
//! ```
//!
//! What it learned outlives it in two files; see [`kept`].
//!
//! INVARIANT: nothing here is waited for. Events that find no room are dropped and counted, and so are messages.

mod answer;
mod cases;
mod desk;
mod followed;
mod kept;
mod latest;
mod owners;
mod peers;
mod reports;
mod seed;
mod shown;
mod tee;
mod tolls;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;

use anyhow::Context;
use futures_util::FutureExt;
use phalanx_control::IncidentsPort;
use phalanx_control::api::{Learning as LearningStatus, Usual};
use phalanx_edge::{EdgePlan, NodeTables, Places};
use phalanx_fleet::{FleetHandle, Learned, LearnedKind, Singleton};
use phalanx_learn::detect::Threshold;
use phalanx_learn::learner::Sizes;
use phalanx_learn::{Detectors, Docket, Learner, NameKey};
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, Swap};
use phalanx_policy::{Detection, DetectionMode, DetectionThreshold};
use phalanx_record::LearningCounts;
use phalanx_trust::random_u64;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use answer::Answers;
pub(crate) use cases::{Case, CaseSuspect};
use desk::{Desk, Inbox, Stats};
use kept::Keeping;
pub(crate) use kept::Shelf;
use latest::Latest;
use peers::Peers;
pub(crate) use tee::Tee;

/// What the learner works with.
pub(crate) struct Parts<'a> {
    pub(crate) tee: &'a Arc<Tee>,
    /// What the edge hashes names of accounts and sessions with.
    pub(crate) names: NameKey,
    pub(crate) plan: Arc<Swap<EdgePlan>>,
    pub(crate) places: Arc<Swap<Places>>,
    pub(crate) tables: Arc<NodeTables>,
    pub(crate) fleet: &'a FleetHandle,
    pub(crate) lanes: &'a Lanes,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// Where the log of events hears of what is found.
    pub(crate) reports: phalanx_record::Reports,
    /// How many it may know.
    pub(crate) actors: usize,
    /// Where what other nodes tell of playbooks goes.
    pub(crate) of_playbooks: mpsc::Sender<Learned>,
    /// What it keeps over a restart.
    pub(crate) shelf: Shelf,
    /// The access log, where lines of it can be read back.
    pub(crate) history: Option<PathBuf>,
}

/// The learner, for whoever asks about it.
#[derive(Clone)]
pub(crate) struct Learning {
    inbox: mpsc::Sender<Inbox>,
    stats: Arc<Stats>,
    tee: Arc<Tee>,
    plan: Arc<Swap<EdgePlan>>,
    thread: Thread,
    names: Option<Arc<Singleton>>,
    ended: watch::Receiver<()>,
}

impl Learning {
    /// Starts the thread, and what carries its words.
    pub(crate) fn start(parts: Parts<'_>, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let Parts {
            tee, names, plan, places, tables, fleet, lanes, clock, stopping, reports, actors, ..
        } = parts;
        let leads = fleet.names_incidents().map(Arc::new);
        let (shelf, now_ms) = (Arc::new(parts.shelf), clock.now_ms());
        let sizes = Sizes { actors, ..SIZES };
        let means = tee::Means { key: names, plan: Arc::clone(&plan), places };
        tee.begin(means.clone());
        let (to_thread, inbox) = mpsc::channel(INBOX);
        let (outbox, to_tell) = mpsc::channel(OUTBOX);
        let stats = Arc::new(Stats::default());
        let (author, _) = fleet.node_author();
        let (mut docket, mut reports) = (Docket::default(), reports::Told::new(reports));
        let mut peers = Peers::new(format!("{}/{}", author.site, author.node));
        if let Some(incidents) = shelf.incidents() {
            kept::recall(incidents, &mut docket, (&mut peers, tee), now_ms);
            reports.recall(docket.incidents(), now_ms);
        }
        let usual = shelf.usual().unwrap_or_default();
        // Also where a node was stopped before it had learned anything.
        let is_new = usual.familiarity(now_ms).all == 0;
        let (at_end, ended) = watch::channel(());
        let desk = Desk {
            learner: Learner::new(Detectors::default(), sizes, random_u64()).with_baselines(usual),
            docket,
            peers,
            answers: Answers::new(Arc::clone(&plan), tables),
            reports,
            tee: Arc::clone(tee),
            fleet: fleet.clone(),
            lanes: lanes.clone(),
            clock: Arc::clone(clock),
            names: leads.clone(),
            inbox,
            outbox,
            stats: Arc::clone(&stats),
            stopping: stopping.clone(),
            latest: Latest::default(),
            keeping: Keeping::start(shelf, Arc::clone(&stats), at_end, now_ms)?,
            tuned: Detection::default(),
            second: 0,
            has_others: false,
        };
        let thread = std::thread::Builder::new().name("phalanx-learn".into()).spawn(move || desk.run());
        let thread = thread.context("cannot start the learner's thread")?.thread().clone();
        let receivers = (to_thread.clone(), parts.of_playbooks);
        tasks.spawn(hear(fleet.clone(), receivers, Arc::clone(&stats)));
        tasks.spawn(tell(fleet.clone(), to_tell));
        let learns = plan.load().detection.mode != DetectionMode::Off;
        if let Some(log) = parts.history.filter(|_| is_new && learns) {
            seed::start(log, means, Arc::clone(clock), to_thread.clone(), stopping);
        }
        Ok(Self { inbox: to_thread, stats, tee: Arc::clone(tee), plan, thread, names: leads, ended })
    }

    /// Resolves when the thread has ended and all that it keeps is on the disk, or the disk takes too long.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        async move {
            let all = async { while ended.changed().await.is_ok() {} };
            if tokio::time::timeout(ENDS_WITHIN, all).await.is_err() {
                tracing::warn!("the disk takes too long: some of what was learned is not kept");
            }
        }
    }

    /// What an operator should know.
    pub(crate) fn degraded(&self) -> Option<String> {
        let fault = self.stats.kept_fault.lock().clone();
        fault.map(|fault| format!("what was learned cannot be kept over a restart: {fault}"))
    }

    /// The lease's token, if this node names incidents now, and so runs playbooks. To be asked right before each act.
    pub(crate) fn token(&self) -> Option<u64> {
        self.names.as_ref().and_then(|names| names.token())
    }

    /// All incidents that are known, as whoever runs playbooks sees them; none while the learner does not run.
    pub(crate) async fn cases(&self) -> Option<Vec<Case>> {
        self.clone().ask(Inbox::Cases).await
    }

    /// How it is doing.
    pub(crate) fn status(&self) -> LearningStatus {
        let stats = &self.stats;
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        LearningStatus {
            mode: mode(self.plan.load().detection.mode).to_owned(),
            events: read(&stats.events),
            events_dropped: self.tee.dropped(),
            actors: read(&stats.actors),
            bytes: read(&stats.bytes),
            peers_heard: read(&stats.peers_heard),
            refused: read(&stats.impossible) + read(&stats.unheard),
            signals: read(&stats.signals),
            incidents_open: read(&stats.incidents_open),
            named_by: stats.named_by.lock().clone(),
            usual: self.usual(),
        }
    }

    fn usual(&self) -> Usual {
        let usual = *self.stats.usual.lock();
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        Usual {
            all: count(usual.all),
            known: count(usual.known),
            by_hour_of_day: count(usual.by_hour),
            by_hour_of_week: count(usual.by_week),
            minutes_left: usual.minutes_left.map(u64::from),
            from_history: self.stats.history.load(Ordering::Relaxed),
        }
    }

    /// The same for metrics.
    pub(crate) fn counts(&self) -> LearningCounts {
        let status = self.status();
        LearningCounts {
            events: status.events,
            events_dropped: status.events_dropped,
            refused: status.refused,
            signals: status.signals,
            proposals: self.stats.proposals.load(Ordering::Relaxed),
            actors: status.actors,
            peers_heard: status.peers_heard,
            incidents_open: status.incidents_open,
            usual: status.usual.all,
            usual_known: status.usual.known,
        }
    }

    /// For operators.
    pub(crate) fn port(&self) -> IncidentsPort {
        let (list, show, rule) = (self.clone(), self.clone(), self.clone());
        IncidentsPort {
            list: Box::new(move |()| list.clone().ask(Inbox::List).boxed()),
            show: Box::new(move |id| {
                let asked = show.clone().ask(move |to| Inbox::Show(id, to));
                asked.map(Option::flatten).boxed()
            }),
            rule: Box::new(move |ruling| {
                let asked = rule.clone().ask(move |to| Inbox::Rule(ruling, to));
                asked.map(|heard| heard.is_some()).boxed()
            }),
        }
    }

    async fn ask<A>(self, question: impl FnOnce(oneshot::Sender<A>) -> Inbox) -> Option<A> {
        let (to, answer) = oneshot::channel();
        self.inbox.send(question(to)).await.ok()?;
        self.thread.unpark();
        answer.await.ok()
    }
}

/// Hands on what other nodes tell, until the node stops.
async fn hear(
    fleet: FleetHandle,
    (to, of_playbooks): (mpsc::Sender<Inbox>, mpsc::Sender<Learned>),
    stats: Arc<Stats>,
) {
    let mut told = fleet.learned();
    loop {
        let message = told.next().await;
        if message.kind == LearnedKind::Playbooks {
            // What finds no room is told again.
            let _ = of_playbooks.try_send(message);
            continue;
        }
        match to.try_send(Inbox::Told(message)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => _ = stats.unheard.fetch_add(1, Ordering::Relaxed),
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

async fn tell(fleet: FleetHandle, mut to_tell: mpsc::Receiver<(LearnedKind, Vec<u8>)>) {
    while let Some((kind, message)) = to_tell.recv().await {
        if let Err(error) = fleet.tell_learned(kind, &message).await {
            tracing::debug!(%error, "what was learned could not be told");
        }
    }
}

/// The detectors' thresholds, where policy says others than they have.
fn thresholds(policy: &Detection) -> Detectors {
    let mut of = Detectors::default();
    for (threshold, written) in [
        (&mut of.stuffing, &policy.stuffing),
        (&mut of.spraying, &policy.spraying),
        (&mut of.enumeration, &policy.enumeration),
        (&mut of.walk, &policy.walk),
        (&mut of.scanning, &policy.scanning),
        (&mut of.scraping, &policy.scraping),
        (&mut of.carding, &policy.carding),
        (&mut of.exploiting, &policy.exploiting),
    ] {
        *threshold = changed(*threshold, written);
    }
    // Whoever says from where on something is an attack means it for what goes fast, too.
    for (fast, written, of) in [
        (&mut of.spraying_fast, &policy.spraying, of.spraying),
        (&mut of.enumeration_fast, &policy.enumeration, of.enumeration),
        (&mut of.walk_fast, &policy.walk, of.walk),
        (&mut of.scanning_slow, &policy.scanning, of.scanning),
        (&mut of.scraping_fast, &policy.scraping, of.scraping),
        (&mut of.stuffing_slow, &policy.stuffing, of.stuffing),
    ] {
        if *written != DetectionThreshold::default() {
            *fast = of;
        }
    }
    of.stuffing_failed_percent = policy.stuffing_failed_percent.unwrap_or(of.stuffing_failed_percent);
    of.flood_requests = policy.flood_requests.unwrap_or(of.flood_requests);
    of.peer_percent = policy.peer_percent.unwrap_or(of.peer_percent);
    of
}

fn changed(own: Threshold, written: &DetectionThreshold) -> Threshold {
    let window_s = written.window_ms.and_then(|ms| u32::try_from(ms / 1_000).ok());
    let events = written.events.unwrap_or(own.events);
    Threshold {
        window_s: window_s.unwrap_or(own.window_s),
        events,
        // Fewer events than the detector's own cannot be about as many things as it asks for.
        different: written.different.unwrap_or(own.different).min(events),
    }
}

fn mode(mode: DetectionMode) -> &'static str {
    match mode {
        DetectionMode::Off => "off",
        DetectionMode::Observe => "observe",
        DetectionMode::Act => "act",
    }
}

/// What a node remembers, some 22 MB of actors when all places are taken; they are made as they are needed.
const SIZES: Sizes = Sizes { actors: ACTORS, series: 16_384, routes: 1_024 };
/// As many as a node of ordinary size meets in an hour.
pub(crate) const ACTORS: usize = 350_000;
/// How long the end of a node waits for what was learned to be on the disk.
const ENDS_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
/// Messages that wait for the thread.
const INBOX: usize = 1_024;
const OUTBOX: usize = 256;
