//! A run of a playbook as a state machine: entries of the journal in, the next thing to do out. No input or output, no clock.

use phalanx_model::{Actor, DecisionKind};
use phalanx_policy::playbook::{
    ConfidenceWord, GravityWord, OnFailure, Playbook, PlaybookStep, StepAction, Trigger,
};
use serde::{Deserialize, Serialize};

/// What happened in a run, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// It began. The playbook is kept with it: a run ends as it began, whatever becomes of the file.
    Begun {
        /// Which.
        run: String,
        /// When, in Unix milliseconds.
        at_ms: u64,
        /// The incident.
        incident: String,
        /// What is done.
        playbook: Box<Playbook>,
    },
    /// A step is about to be done, or its time begins.
    Started {
        /// Of which run.
        run: String,
        /// When.
        at_ms: u64,
        /// Which step.
        step: String,
        /// What it is about to order: done again after a crash, it orders just that.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        orders: Vec<Planned>,
    },
    /// An operator undid the incident: what the run ordered is withdrawn, and it ends.
    Undone {
        /// Which run.
        run: String,
        /// When.
        at_ms: u64,
    },
    /// An operator answered.
    Answered {
        /// Of which run.
        run: String,
        /// When.
        at_ms: u64,
        /// Which step.
        step: String,
        /// What.
        yes: bool,
        /// Who.
        by: String,
    },
    /// A step has ended.
    Ended {
        /// Of which run.
        run: String,
        /// When.
        at_ms: u64,
        /// Which step.
        step: String,
        /// How.
        outcome: StepOutcome,
        /// What came of it, in plain words.
        note: String,
    },
    /// The run has ended.
    Finished {
        /// Which.
        run: String,
        /// When.
        at_ms: u64,
        /// How.
        outcome: RunOutcome,
    },
}

impl Entry {
    /// The run that it is about.
    pub fn run(&self) -> &str {
        match self {
            Self::Begun { run, .. }
            | Self::Started { run, .. }
            | Self::Undone { run, .. }
            | Self::Answered { run, .. }
            | Self::Ended { run, .. }
            | Self::Finished { run, .. } => run,
        }
    }
}

/// An order that a step gives, in the words of decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What is ordered.
    pub kind: DecisionKind,
    /// About whom.
    pub actor: Actor,
    /// It takes an operator's key; else a node may do it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_operator: bool,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are words")]
pub enum StepOutcome {
    Done,
    Skipped,
    Declined,
    Failed,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are words")]
pub enum RunOutcome {
    Completed,
    Declined,
    Failed,
    Reverted,
}

/// What is known of the incident when a step's turn comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Detectors that found something.
    pub detectors: Vec<String>,
    /// How bad it is.
    pub gravity: GravityWord,
    /// How sure the surest finding is.
    pub confidence: ConfidenceWord,
    /// What it is, what it is after and whom it comes from, in a few words.
    pub title: String,
    /// What happened, in a sentence; may quote strangers.
    pub summary: String,
    /// Nodes that saw it.
    pub nodes: Vec<String>,
    /// When something was seen of it last, in Unix milliseconds.
    pub last_ms: u64,
}

/// Something that changes the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The same for the same step of the same run, always.
    pub key: String,
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// The incident.
    pub incident: String,
    /// What, with its texts filled in.
    pub action: StepAction,
    /// Keys of the countermeasures that the run ordered: what a revert is about.
    pub ordered: Vec<String>,
    /// Of a countermeasure that was begun, what it orders; of a revert, what all of the run's did.
    pub orders: Vec<Planned>,
    /// When the step began, if it did.
    pub started_ms: Option<u64>,
}

/// What comes next in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Write that it started, do it, write how it ended.
    Do(Effect),
    /// It was started, and nobody wrote how it ended: find out by its key.
    Confirm(Effect),
    /// Write this.
    Write(Entry),
    /// Nothing before this time, or before an answer.
    Wait(u64),
    /// Nothing more.
    Over(RunOutcome),
}

/// What a run of this playbook for this incident is called.
pub fn run_id(playbook: &Playbook, incident: &str) -> String {
    format!("{}-{}/{incident}", playbook.name, playbook.version)
}

/// Whether an incident starts a playbook by itself.
pub fn starts(trigger: &Trigger, facts: &Facts) -> bool {
    !trigger.manual
        && (trigger.detectors.is_empty() || trigger.detectors.iter().any(|one| facts.detectors.contains(one)))
        && trigger.gravity.is_none_or(|least| facts.gravity >= least)
        && trigger.confidence.is_none_or(|least| facts.confidence >= least)
}

/// One run, as far as its entries tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What it is called.
    pub id: String,
    /// The incident.
    pub incident: String,
    /// What is done.
    pub playbook: Playbook,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    at: usize,
    started_ms: Option<u64>,
    answer: Option<(bool, String)>,
    /// A step that failed asked for all to be taken back.
    reverts: bool,
    ends_as: Option<RunOutcome>,
    ordered: Vec<(String, Vec<Planned>)>,
}

impl Run {
    /// A run that has just begun; none of an entry that begins none.
    pub fn begun(entry: &Entry) -> Option<Self> {
        let Entry::Begun { run, incident, playbook, .. } = entry else { return None };
        Some(Self {
            id: run.clone(),
            incident: incident.clone(),
            playbook: Playbook::clone(playbook),
            outcome: None,
            at: 0,
            started_ms: None,
            answer: None,
            reverts: false,
            ends_as: None,
            ordered: Vec::new(),
        })
    }

    /// Takes an entry over. One that does not fit where the run stands changes nothing: entries may be read twice.
    pub fn apply(&mut self, entry: &Entry) {
        if entry.run() != self.id || self.outcome.is_some() {
            return;
        }
        match entry {
            Entry::Begun { .. } => {}
            Entry::Undone { .. } if !self.reverts => {
                (self.reverts, self.ends_as) = (true, None);
                (self.started_ms, self.answer) = (None, None);
            }
            Entry::Started { step, at_ms, orders, .. } if self.stands_at(step) => {
                self.started_ms = Some(*at_ms);
                let is_order =
                    self.step().is_some_and(|step| matches!(step.action, StepAction::Countermeasure { .. }));
                // From now on it may be in force.
                if is_order && !self.reverts {
                    let key = self.key(step);
                    if self.ordered.iter().all(|(known, _)| *known != key) {
                        self.ordered.push((key, orders.clone()));
                    }
                }
            }
            Entry::Answered { step, yes, by, .. } if self.stands_at(step) && self.started_ms.is_some() => {
                self.answer.get_or_insert((*yes, by.clone()));
            }
            Entry::Ended { step, outcome, .. } if self.stands_at(step) => self.end(*outcome),
            Entry::Finished { outcome, .. } => self.outcome = Some(*outcome),
            _ => {}
        }
    }

    /// What comes next at `now_ms`.
    pub fn next(&self, facts: &Facts, now_ms: u64) -> Next {
        if let Some(outcome) = self.outcome {
            return Next::Over(outcome);
        }
        if self.reverts {
            return self.effect(REVERTING, &StepAction::Revert, facts);
        }
        if let Some(outcome) = self.ends_as {
            return Next::Write(Entry::Finished { run: self.id.clone(), at_ms: now_ms, outcome });
        }
        let Some(step) = self.step() else {
            let outcome = RunOutcome::Completed;
            return Next::Write(Entry::Finished { run: self.id.clone(), at_ms: now_ms, outcome });
        };
        if self.started_ms.is_none() && step.only_from.is_some_and(|least| facts.gravity < least) {
            let note = "the incident is not that bad".to_owned();
            return self.ended(step, now_ms, StepOutcome::Skipped, note);
        }
        match &step.action {
            StepAction::Wait { .. } | StepAction::Ask { .. } | StepAction::Verify { .. } => {
                self.in_time(step, facts, now_ms)
            }
            action => self.effect(&step.id, action, facts),
        }
    }

    /// Whether an operator may answer this step now.
    pub fn asks(&self, step: &str) -> bool {
        self.outcome.is_none()
            && !self.reverts
            && self.started_ms.is_some()
            && self.step().is_some_and(|one| one.id == step && matches!(one.action, StepAction::Ask { .. }))
    }

    /// What is asked now, if anything: the step, the question, until when, and what counts without an answer.
    pub fn question(&self) -> Option<(&str, &str, u64, bool)> {
        let step = self.step().filter(|step| self.asks(&step.id))?;
        let StepAction::Ask { question, within_ms, otherwise } = &step.action else { return None };
        let until_ms = self.started_ms?.saturating_add(*within_ms);
        Some((&step.id, question, until_ms, *otherwise))
    }

    /// Whether what it ordered is being withdrawn, or was.
    pub fn is_reverted(&self) -> bool {
        self.reverts
            || self.ends_as == Some(RunOutcome::Reverted)
            || self.outcome == Some(RunOutcome::Reverted)
    }

    /// The key of a step.
    pub fn key(&self, step: &str) -> String {
        format!("{}/{step}", self.id)
    }

    fn step(&self) -> Option<&PlaybookStep> {
        self.playbook.steps.get(self.at)
    }

    fn stands_at(&self, step: &str) -> bool {
        if self.reverts { step == REVERTING } else { self.step().is_some_and(|one| one.id == step) }
    }

    fn end(&mut self, outcome: StepOutcome) {
        self.started_ms = None;
        self.answer = None;
        if self.reverts {
            self.reverts = false;
            let is_reverted = outcome == StepOutcome::Done;
            self.ends_as = Some(if is_reverted { RunOutcome::Reverted } else { RunOutcome::Failed });
            return;
        }
        let on_failure = self.step().map_or(OnFailure::Stop, |step| step.on_failure);
        match (outcome, on_failure) {
            (StepOutcome::Done | StepOutcome::Skipped, _) | (StepOutcome::Failed, OnFailure::Continue) => {
                self.at += 1;
            }
            (StepOutcome::Declined, _) => self.ends_as = Some(RunOutcome::Declined),
            (StepOutcome::Failed, OnFailure::Stop) => self.ends_as = Some(RunOutcome::Failed),
            (StepOutcome::Failed, OnFailure::Revert) => self.reverts = true,
        }
    }

    fn effect(&self, step: &str, action: &StepAction, facts: &Facts) -> Next {
        let key = self.key(step);
        let is_revert = matches!(action, StepAction::Revert);
        let orders = self.ordered.iter().filter(|(of, _)| is_revert || *of == key);
        let effect = Effect {
            orders: orders.flat_map(|(_, orders)| orders).cloned().collect(),
            ordered: self.ordered.iter().map(|(key, _)| key.clone()).collect(),
            started_ms: self.started_ms,
            key,
            run: self.id.clone(),
            step: step.to_owned(),
            incident: self.incident.clone(),
            action: self.filled(action, facts),
        };
        if self.started_ms.is_some() { Next::Confirm(effect) } else { Next::Do(effect) }
    }

    /// A step that takes time: its beginning is written down, so that a crash does not begin it anew.
    fn in_time(&self, step: &PlaybookStep, facts: &Facts, now_ms: u64) -> Next {
        let Some(started_ms) = self.started_ms else {
            let (run, step) = (self.id.clone(), step.id.clone());
            return Next::Write(Entry::Started { run, at_ms: now_ms, step, orders: Vec::new() });
        };
        let after = |ms: &u64| started_ms.saturating_add(*ms);
        match (&step.action, &self.answer) {
            (StepAction::Wait { for_ms }, _) if now_ms < after(for_ms) => Next::Wait(after(for_ms)),
            (StepAction::Ask { .. }, Some((true, by))) => {
                self.ended(step, now_ms, StepOutcome::Done, format!("{by} said yes"))
            }
            (StepAction::Ask { .. }, Some((false, by))) => {
                self.ended(step, now_ms, StepOutcome::Declined, format!("{by} said no"))
            }
            (StepAction::Ask { within_ms, .. }, None) if now_ms < after(within_ms) => {
                Next::Wait(after(within_ms))
            }
            (StepAction::Ask { otherwise: true, .. }, None) => {
                self.ended(step, now_ms, StepOutcome::Done, "nobody answered, which counts as yes".into())
            }
            (StepAction::Ask { .. }, None) => {
                self.ended(step, now_ms, StepOutcome::Declined, "nobody answered, which counts as no".into())
            }
            (StepAction::Verify { quiet_ms, within_ms }, _) => {
                // What was seen before the step began says nothing of what the steps before it did.
                let quiet_from = facts.last_ms.max(started_ms).saturating_add(*quiet_ms);
                if now_ms >= quiet_from {
                    let note = format!("nothing was seen for {} s", quiet_ms / 1_000);
                    self.ended(step, now_ms, StepOutcome::Done, note)
                } else if now_ms >= after(within_ms) {
                    self.ended(step, now_ms, StepOutcome::Failed, "it still goes on".into())
                } else {
                    Next::Wait(quiet_from.min(after(within_ms)))
                }
            }
            _ => self.ended(step, now_ms, StepOutcome::Done, "the time is over".into()),
        }
    }

    fn ended(&self, step: &PlaybookStep, now_ms: u64, outcome: StepOutcome, note: String) -> Next {
        let (run, step) = (self.id.clone(), step.id.clone());
        Next::Write(Entry::Ended { run, at_ms: now_ms, step, outcome, note })
    }

    fn filled(&self, action: &StepAction, facts: &Facts) -> StepAction {
        let fill = |text: &str| self.fill(text, facts);
        match action {
            StepAction::Notify { to, text } => StepAction::Notify { to: to.clone(), text: fill(text) },
            StepAction::Ticket { to, text } => StepAction::Ticket { to: to.clone(), text: fill(text) },
            other => other.clone(),
        }
    }

    /// Gaps are looked for in the playbook's text only, never in what was filled in.
    fn fill(&self, text: &str, facts: &Facts) -> String {
        let mut parts = text.split('{');
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let Some((gap, rest)) = part.split_once('}') else {
                out.push('{');
                out.push_str(part);
                continue;
            };
            match gap {
                "incident" => out.push_str(&self.incident),
                "summary" => out.push_str(&facts.summary),
                "playbook" => out.push_str(&self.playbook.name),
                "nodes" => out.push_str(&facts.nodes.join(", ")),
                "gravity" => out.push_str(facts.gravity.name()),
                _ => {}
            }
            out.push_str(rest);
        }
        out
    }
}

/// The step that stands for what a failed step asked for. No step in text can have this name.
const REVERTING: &str = "(revert)";
