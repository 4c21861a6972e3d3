//! The thread that runs playbooks: while this node holds the lease it does what comes next; else it writes down what the node tells that does.
//!
//! INVARIANT: nothing is begun without the lease, whose token is asked for right before. Of each run one effect is under way at a time, and a receiver that
//! does not answer holds up its own run only.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_control::NotAsked;
use phalanx_control::api::{PlaybookRow, PlaybookRun};
use phalanx_control::playbook::told::{Asked, Told};
use phalanx_control::playbook::{Effect, StepOutcome};
use phalanx_control::receiver::NotTold;
use phalanx_control::reporting::Reporting;
use phalanx_control::reporting::deliveries::DELIVERIES_TOLD_MAX;
use phalanx_edge::EdgePlan;
use phalanx_fleet::{FleetHandle, Learned, LearnedKind};
use phalanx_model::{Clock, Swap};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::core::{Core, Seen};
use super::hands::Hands;
use super::notices::{Notice, Notices};
use super::settings::NotifySettings;
use crate::learning::{Case, Learning};

/// What an operator at this node asks, and where the answer goes.
pub(super) type Question = (Asked, oneshot::Sender<Result<(), NotAsked>>);

/// What is shown of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    pub(super) runs: Vec<PlaybookRun>,
    pub(super) fault: Option<String>,
}

pub(super) struct Driver {
    pub(super) journal: PathBuf,
    pub(super) learning: Learning,
    pub(super) fleet: FleetHandle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) plan: Arc<Swap<EdgePlan>>,
    pub(super) hands: Arc<Hands>,
    pub(super) notify: Option<NotifySettings>,
    pub(super) notices: Notices,
    /// Reports are sent by who runs playbooks, and told of with them.
    pub(super) reporting: Arc<Reporting>,
    pub(super) told: mpsc::Receiver<Learned>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) shown: Arc<Mutex<Shown>>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// What changes while it runs.
struct Work {
    core: Core,
    cases: Arc<Vec<Case>>,
    doing: JoinSet<Done>,
    /// The lease that work is done under.
    token: Option<u64>,
    /// What another node told of lately, and when.
    heard: (u64, u64),
    asked: Vec<Waiting>,
    told_all_ms: u64,
}

/// What came of something that was done beside.
enum Done {
    Effect(Box<Effect>, StepOutcome, String),
    Notice(Vec<String>),
}

/// What an operator asked here, and another node is to do.
struct Waiting {
    asked: Asked,
    answer: oneshot::Sender<Result<(), NotAsked>>,
    told_ms: u64,
    until_ms: u64,
}

impl Driver {
    /// Until the node stops.
    pub(super) async fn run(mut self) {
        let Some(core) = self.open().await else { return };
        let mut stopping = self.stopping.clone();
        let (cases, doing) = (Arc::default(), JoinSet::new());
        let mut work =
            Work { core, cases, doing, token: None, heard: (0, 0), asked: Vec::new(), told_all_ms: 0 };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stops| *stops) => return,
                _ = looks.tick() => {
                    let is_needed = self.learning.token().is_some();
                    if let Some(cases) = if is_needed { self.learning.cases().await } else { None } {
                        work.cases = Arc::new(cases);
                    }
                }
                Some(told) = self.told.recv() => self.hear(&mut work, &told),
                Some((asked, answer)) = self.questions.recv() => self.ask(&mut work, asked, answer),
                Some(done) = work.doing.join_next() => match done {
                    Ok(done) => self.note(&mut work, done),
                    // A bug in one effect: its run rests until the node starts again, the others go on.
                    Err(error) => tracing::error!(%error, "a step of a playbook broke off"),
                },
            }
            self.turn(&mut work).await;
        }
    }

    /// Another process of this node may have the journal still: one that is followed by this one.
    async fn open(&mut self) -> Option<Core> {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = self.stopping.wait_for(|stops| *stops) => return None,
                _ = looks.tick() => {}
            }
            match Core::open(&self.journal) {
                Ok(core) => {
                    self.shown.lock().fault = None;
                    return Some(core);
                }
                Err(error) => {
                    let fault = format!("no playbook runs here: {}: {error}", self.journal.display());
                    if self.shown.lock().fault.replace(fault).is_none()
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        tracing::error!(%error, journal = %self.journal.display(), "the journal of playbooks cannot be opened: none is run");
                    }
                }
            }
        }
    }

    async fn turn(&mut self, work: &mut Work) {
        let token = self.learning.token();
        if token != work.token {
            if token.is_none() {
                // What is under way is for the next to find out, by its key.
                work.doing.shutdown().await;
                work.core.runner.let_go();
                self.notices.let_go();
            }
            work.token = token;
            work.cases = Arc::new(self.learning.cases().await.unwrap_or_default());
        }
        let now_ms = self.clock.now_ms();
        if let Some(token) = token {
            self.act(work, now_ms);
            self.tell(work, token, now_ms).await;
        }
        self.ask_again(work, now_ms).await;
        let runs = work.core.runner.histories().map(|(run, entries)| PlaybookRun::of(run, entries)).collect();
        *self.shown.lock() = Shown { runs, fault: work.core.fault().map(str::to_owned) };
    }

    /// Begins what is to be done now.
    fn act(&mut self, work: &mut Work, now_ms: u64) {
        let plan = self.plan.load();
        let (cases, hands) = (Arc::clone(&work.cases), Arc::clone(&self.hands));
        let seen = Seen { cases: &cases, playbooks: &plan.playbooks };
        let case_of = |id: &str| cases.iter().find(|case| case.is(id));
        let orders = |effect: &Effect| hands.orders(case_of(&effect.incident), effect).orders;
        let due = work.core.turn(&seen, orders, now_ms);
        for (effect, is_doubtful) in due.effects {
            let (hands, learning) = (Arc::clone(&self.hands), self.learning.clone());
            let case = case_of(&effect.incident).cloned();
            work.doing.spawn(async move {
                if learning.token().is_none() {
                    std::future::pending::<()>().await;
                }
                let (outcome, note) = hands.perform(&effect, case.as_ref(), is_doubtful).await;
                Done::Effect(Box::new(effect), outcome, note)
            });
        }
        if let Some(settings) = &self.notify
            && let Some(notice) = self.notices.due((settings, &self.hands.own), &cases, now_ms)
        {
            let hands = Arc::clone(&self.hands);
            work.doing.spawn(async move { Done::Notice(notify(&hands, &notice).await) });
        }
    }

    fn note(&mut self, work: &mut Work, done: Done) {
        match done {
            Done::Effect(effect, outcome, note) => {
                work.core.ended(&effect, outcome, &note, self.clock.now_ms());
            }
            Done::Notice(heard) => {
                if let Err(error) = self.notices.told(&heard) {
                    tracing::warn!(%error, "what was told of incidents could not be kept, and may be told again");
                }
            }
        }
    }

    fn hear(&mut self, work: &mut Work, told: &Learned) {
        let (may, now_ms) = (told.may_lead, self.clock.now_ms());
        match Told::from_bytes(&told.bytes).filter(|_| may) {
            Some(Told::Entries { token, entries }) if is_newest(work, token, now_ms) => {
                work.core.adopt(entries)
            }
            Some(Told::Heard { token, heard }) if is_newest(work, token, now_ms) => {
                if let Err(error) = self.notices.adopt(heard) {
                    tracing::warn!(%error, "what another node told of incidents could not be kept");
                }
            }
            Some(Told::Sent { token, deliveries }) if is_newest(work, token, now_ms) => {
                self.reporting.adopt(deliveries, now_ms);
            }
            Some(Told::Asked(asked)) if self.learning.token().is_some() => {
                let plan = self.plan.load();
                let cases = Arc::clone(&work.cases);
                let seen = Seen { cases: &cases, playbooks: &plan.playbooks };
                // What comes of it is told with all else.
                let _ = work.core.asked(&asked, &seen, now_ms);
            }
            _ => {}
        }
    }

    fn ask(&mut self, work: &mut Work, asked: Asked, answer: oneshot::Sender<Result<(), NotAsked>>) {
        let now_ms = self.clock.now_ms();
        if self.learning.token().is_some() {
            let plan = self.plan.load();
            let cases = Arc::clone(&work.cases);
            let seen = Seen { cases: &cases, playbooks: &plan.playbooks };
            let _ = answer.send(work.core.asked(&asked, &seen, now_ms));
            return;
        }
        if let Asked::Start { playbook, incident } = &asked
            && work.core.ran(playbook, incident)
        {
            let why = format!("`{playbook}` ran for this incident already");
            let _ = answer.send(Err(NotAsked::Conflict(why)));
            return;
        }
        if work.asked.len() >= ASKED_MAX {
            let _ = answer.send(Err(NotAsked::Unheard("too many wait to be heard".into())));
            return;
        }
        work.asked.push(Waiting { asked, answer, told_ms: 0, until_ms: now_ms.saturating_add(ASKED_MS) });
    }

    /// Tells the node that runs playbooks what operators ask here, until it shows that it has heard.
    async fn ask_again(&mut self, work: &mut Work, now_ms: u64) {
        let mut messages = Vec::new();
        let waiting = std::mem::take(&mut work.asked);
        if work.token.is_some() {
            // Since it was asked it has become this one.
            return waiting.into_iter().for_each(|one| self.ask(work, one.asked, one.answer));
        }
        for mut waiting in waiting {
            let is_done = match &waiting.asked {
                Asked::Start { playbook, incident } => work.core.ran(playbook, incident),
                answered => work.core.is_so(answered),
            };
            if is_done {
                let _ = waiting.answer.send(Ok(()));
                continue;
            }
            if waiting.until_ms <= now_ms {
                let why = "the node that runs playbooks did not hear it, or refused; `phalanx status` says which it is";
                let _ = waiting.answer.send(Err(NotAsked::Unheard(why.into())));
                continue;
            }
            if waiting.told_ms.saturating_add(ASK_AGAIN_MS) <= now_ms {
                waiting.told_ms = now_ms;
                messages.extend(Told::Asked(waiting.asked.clone()).to_bytes());
            }
            work.asked.push(waiting);
        }
        self.send(messages).await;
    }

    async fn tell(&mut self, work: &mut Work, token: u64, now_ms: u64) {
        let reach = self.fleet.reach();
        if !reach.linked || reach.known <= 1 {
            return;
        }
        let entries = work.core.take_news(now_ms);
        let mut messages = Told::entries_to_messages(token, &entries);
        let all = work.told_all_ms.saturating_add(TELL_ALL_MS) <= now_ms;
        if all {
            work.told_all_ms = now_ms;
        }
        let heard = self.notices.take_news(all);
        messages.extend(heard.and_then(|heard| Told::Heard { token, heard }.to_bytes()));
        let deliveries = self.reporting.take_news(all);
        let parts = deliveries.iter().flat_map(|deliveries| deliveries.chunks(DELIVERIES_TOLD_MAX));
        messages.extend(parts.filter_map(|part| Told::Sent { token, deliveries: part.to_vec() }.to_bytes()));
        self.send(messages).await;
    }

    async fn send(&self, messages: Vec<Vec<u8>>) {
        for message in messages {
            if let Err(error) = self.fleet.tell_learned(LearnedKind::Playbooks, &message).await {
                tracing::debug!(%error, "what playbooks do could not be told");
            }
        }
    }
}

/// Of two that both think that they hold the lease the later one does. What was heard long ago is no rival: a store of leases may have begun anew.
fn is_newest(work: &mut Work, token: u64, now_ms: u64) -> bool {
    let (rival, at_ms) = work.heard;
    let is_newest = (token >= rival || at_ms.saturating_add(RIVAL_MS) <= now_ms)
        && work.token.is_none_or(|own| own < token);
    if is_newest {
        work.heard = (token, now_ms);
    }
    is_newest
}

/// Who heard it, or does not want it.
async fn notify(hands: &Hands, notice: &Notice) -> Vec<String> {
    let mut heard = Vec::new();
    for name in &notice.to {
        let Some(receiver) = hands.receivers.get(name) else { continue };
        match receiver.tell(&notice.key, &notice.body, || hands.clock.now_ms()).await {
            Ok(()) => heard.push(name.clone()),
            Err(NotTold::Refused(why)) => {
                tracing::warn!(receiver = name, %why, "a receiver does not want to hear of incidents");
                heard.push(name.clone());
            }
            Err(error) => tracing::warn!(receiver = name, %error, "incidents could not be told"),
        }
    }
    heard
}

/// What the policy uses, with how many run.
pub(super) fn rows(plan: &EdgePlan, shown: &Shown) -> Vec<PlaybookRow> {
    let running = |name: &str| {
        let count = shown.runs.iter().filter(|run| run.playbook == name && run.state == "running").count();
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    plan.playbooks
        .iter()
        .map(|playbook| PlaybookRow {
            name: playbook.name.clone(),
            version: playbook.version,
            about: playbook.about.clone(),
            manual: playbook.trigger.manual,
            detectors: playbook.trigger.detectors.clone(),
            steps: playbook.steps.iter().map(|step| step.id.clone()).collect(),
            running: running(&playbook.name),
        })
        .collect()
}

/// How often incidents and timers are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long the node that runs playbooks has to show that it heard what was asked: as long as another needs to take over.
const ASKED_MS: u64 = 8_000;
const ASK_AGAIN_MS: u64 = 1_000;
const ASKED_MAX: usize = 64;
/// How often others are told all that receivers heard.
const TELL_ALL_MS: u64 = 10_000;
/// Nobody who runs playbooks is silent for so long while they run.
const RIVAL_MS: u64 = 25_000;
