//! Playbooks and their runs, as the API's JSON.

use phalanx_policy::playbook::StepAction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::playbook::{Entry, Run, RunOutcome, StepOutcome};

/// `GET /api/v1/playbooks`: a playbook that the node's policy uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookRow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// What it is for.
    pub about: String,
    /// Only an operator starts it.
    pub manual: bool,
    /// Detectors of which one has to have found something; none: any.
    pub detectors: Vec<String>,
    /// Names of its steps.
    pub steps: Vec<String>,
    /// Runs under way, as this node knows.
    pub running: u64,
}

/// A run of a playbook for an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookRun {
    /// What it is called: `PLAYBOOK-VERSION/INCIDENT`.
    pub run: String,
    /// The playbook.
    pub playbook: String,
    /// Its version.
    pub version: u64,
    /// The incident.
    pub incident: String,
    /// `running`, `completed`, `declined`, `failed` or `reverted`.
    pub state: String,
    /// When it began, in Unix milliseconds.
    pub began_at_ms: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// What it asks now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<PlaybookQuestion>,
    /// Its steps, as they came; a step that was begun again after a crash stands here once.
    pub steps: Vec<PlaybookStepRun>,
}

/// What a run asks a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookQuestion {
    /// The step.
    pub step: String,
    /// What.
    pub question: String,
    /// Until when, in Unix milliseconds.
    pub until_ms: u64,
    /// What counts if nobody answers: `yes` or `no`.
    pub otherwise: String,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaybookStepRun {
    /// The step.
    pub step: String,
    /// What it does: `countermeasure`, `notify`, `ticket`, `wait`, `ask`, `verify` or `revert`.
    pub does: String,
    /// `begun`, `done`, `skipped`, `declined` or `failed`.
    pub state: String,
    /// When it was begun, in Unix milliseconds; none where it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// What came of it, in plain words.
    pub note: String,
}

/// The body of `POST /api/v1/incidents/{id}/answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookAnswer {
    /// The step that asks.
    pub step: String,
    /// `true`: yes.
    pub yes: bool,
}

/// The body of `POST /api/v1/playbooks/{name}/run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookStart {
    /// The incident.
    pub incident: String,
}

impl PlaybookRun {
    /// Of a run and what was written of it.
    pub fn of(run: &Run, entries: &[Entry]) -> Self {
        let mut steps: Vec<PlaybookStepRun> = Vec::new();
        let (mut began_at_ms, mut ended_at_ms) = (0, None);
        for entry in entries {
            match entry {
                Entry::Begun { at_ms, .. } => began_at_ms = *at_ms,
                Entry::Started { at_ms, step, .. } => {
                    note(&mut steps, run, step, |of| of.began_at_ms = of.began_at_ms.or(Some(*at_ms)));
                }
                Entry::Ended { at_ms, step, outcome, note: why, .. } => {
                    note(&mut steps, run, step, |of| {
                        of.ended_at_ms = Some(*at_ms);
                        of.state = outcome_word(*outcome).to_owned();
                        of.note.clone_from(why);
                    });
                }
                Entry::Finished { at_ms, .. } => ended_at_ms = Some(*at_ms),
                Entry::Answered { .. } | Entry::Undone { .. } => {}
            }
        }
        let asks = run.question().map(|(step, question, until_ms, otherwise)| PlaybookQuestion {
            step: step.to_owned(),
            question: question.to_owned(),
            until_ms,
            otherwise: if otherwise { "yes" } else { "no" }.to_owned(),
        });
        Self {
            run: run.id.clone(),
            playbook: run.playbook.name.clone(),
            version: run.playbook.version,
            incident: run.incident.clone(),
            state: run.outcome.map_or("running", run_word).to_owned(),
            began_at_ms,
            ended_at_ms,
            asks,
            steps,
        }
    }
}

/// Changes what is shown of a step, which is there from then on.
fn note(steps: &mut Vec<PlaybookStepRun>, run: &Run, step: &str, change: impl FnOnce(&mut PlaybookStepRun)) {
    if let Some(known) = steps.iter_mut().find(|known| known.step == step) {
        return change(known);
    }
    let found = run.playbook.steps.iter().find(|one| one.id == step);
    let does = found.map_or(StepAction::Revert.name(), |one| one.action.name()).to_owned();
    let (step, state, note) = (step.to_owned(), "begun".to_owned(), String::new());
    let mut new = PlaybookStepRun { step, does, state, began_at_ms: None, ended_at_ms: None, note };
    change(&mut new);
    steps.push(new);
}

fn outcome_word(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done => "done",
        StepOutcome::Skipped => "skipped",
        StepOutcome::Declined => "declined",
        StepOutcome::Failed => "failed",
    }
}

fn run_word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Completed => "completed",
        RunOutcome::Declined => "declined",
        RunOutcome::Failed => "failed",
        RunOutcome::Reverted => "reverted",
    }
}
