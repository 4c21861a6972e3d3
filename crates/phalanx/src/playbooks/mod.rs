//! Playbooks on this node: begun for incidents, done step by step by the node that names incidents, and known to all others.
//!
//! ```text
//! learner -> cases -> Core (journal) -> effects -> Hands: fleet, webhooks
//!                      ^    |
//!          operators, other nodes
//! ```
//!
//! The node that holds the lease `incidents` runs them. What it writes into its journal it tells all others, which write it into theirs: whoever has the
//! lease next goes on where it stood, timers and all (`docs/adr/0038`).

mod core;
mod driver;
mod hands;
mod notices;
mod orders;
mod own;
mod policy;
pub(crate) mod receivers;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::Context;
use futures_util::FutureExt;
use parking_lot::Mutex;
use phalanx_control::reporting::Reporting;
use phalanx_control::{NotAsked, PlaybooksPort};
use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_fleet::{FleetHandle, Learned};
use phalanx_learn::IncidentId;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, Swap};
use tokio::sync::{mpsc, oneshot, watch};

use crate::learning::Learning;
use crate::state::StateFolder;
use driver::{Driver, Question, Shown};
use hands::Hands;
use notices::Notices;
use own::Own;

pub(crate) use policy::{read_all, untold};
pub(crate) use receivers::{RawMail, RawWebhook};
pub(crate) use settings::{RawNotify, TellSettings, check};

/// What playbooks are run with.
pub(crate) struct Parts<'a> {
    pub(crate) settings: &'a TellSettings,
    /// Where the console is for others; none where the settings give it no name.
    pub(crate) console: Option<String>,
    pub(crate) state: &'a StateFolder,
    pub(crate) learning: &'a Learning,
    pub(crate) reporting: &'a Arc<Reporting>,
    pub(crate) plan: Arc<Swap<EdgePlan>>,
    pub(crate) tables: Arc<NodeTables>,
    pub(crate) fleet: &'a FleetHandle,
    pub(crate) lanes: &'a Lanes,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// What other nodes tell of playbooks.
    pub(crate) told: mpsc::Receiver<Learned>,
}

/// Playbooks, for whoever asks about them.
#[derive(Clone)]
pub(crate) struct Playbooks {
    questions: mpsc::Sender<Question>,
    shown: Arc<Mutex<Shown>>,
    plan: Arc<Swap<EdgePlan>>,
    receivers: Arc<[String]>,
}

impl Playbooks {
    /// Starts the thread that runs them.
    pub(crate) fn start(parts: Parts<'_>) -> anyhow::Result<Self> {
        let (to_driver, questions) = mpsc::channel(QUESTIONS);
        let shown = Arc::<Mutex<Shown>>::default();
        let (author, _) = parts.fleet.node_author();
        let TellSettings { receivers, notify, .. } = parts.settings.clone();
        let names = receivers.keys().cloned().collect();
        let hands = Hands {
            fleet: parts.fleet.clone(),
            lanes: parts.lanes.clone(),
            clock: Arc::clone(parts.clock),
            plan: Arc::clone(&parts.plan),
            tables: parts.tables,
            receivers,
            own: Own { node: format!("{}/{}", author.site, author.node), console: parts.console },
        };
        let driver = Driver {
            journal: parts.state.playbooks(),
            learning: parts.learning.clone(),
            fleet: parts.fleet.clone(),
            clock: Arc::clone(parts.clock),
            plan: Arc::clone(&parts.plan),
            hands: Arc::new(hands),
            notify,
            notices: Notices::open(&parts.state.notices()),
            reporting: Arc::clone(parts.reporting),
            told: parts.told,
            questions,
            shown: Arc::clone(&shown),
            stopping: parts.stopping,
        };
        // Of its own: the disk is waited for before each step.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("phalanx-playbooks".into());
        let thread = thread.spawn(move || runtime.block_on(driver.run()));
        thread.context("cannot start the thread that runs playbooks")?;
        Ok(Self { questions: to_driver, shown, plan: parts.plan, receivers: names })
    }

    /// For operators.
    pub(crate) fn port(&self) -> PlaybooksPort {
        let (list, runs, ask) = (self.clone(), self.clone(), self.clone());
        PlaybooksPort {
            list: Box::new(move || driver::rows(&list.plan.load(), &list.shown.lock())),
            runs: Box::new(move |ids| {
                let is_of = |incident: &str| incident.parse().is_ok_and(|id: IncidentId| ids.contains(&id.0));
                runs.shown.lock().runs.iter().filter(|run| is_of(&run.incident)).cloned().collect()
            }),
            ask: Box::new(move |asked| {
                let questions = ask.questions.clone();
                async move {
                    let gone = || {
                        NotAsked::Unheard("no playbook runs on this node; `phalanx status` says why".into())
                    };
                    let (to, answer) = oneshot::channel();
                    questions.try_send((asked, to)).map_err(|_| gone())?;
                    answer.await.map_err(|_| gone())?
                }
                .boxed()
            }),
        }
    }

    /// What keeps playbooks from running as they say.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let plan = self.plan.load();
        let mut degraded: Vec<String> = self.shown.lock().fault.iter().cloned().collect();
        let untold = untold(&plan.playbooks, |name| self.receivers.iter().any(|known| known == name));
        let mut lines: Vec<String> = untold
            .map(|(playbook, to)| {
                format!("playbook {playbook} tells `{to}`, and this node has neither `[webhooks.{to}]` nor `[mail.{to}]`")
            })
            .collect();
        lines.dedup();
        degraded.extend(lines);
        degraded
    }
}

/// What operators ask at once.
const QUESTIONS: usize = 64;
