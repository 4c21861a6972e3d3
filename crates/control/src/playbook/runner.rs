//! Does what runs say, and writes it down before and after.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use phalanx_policy::playbook::Playbook;

use super::journal::Journal;
use super::machine::{Effect, Entry, Facts, Next, Run, StepOutcome, run_id};

/// What can be said of an effect that was begun, and of which nobody wrote how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was done; what came of it.
    Done(String),
    /// It was not, or doing it again is the same as doing it once, or whoever keeps it tells by its key.
    Again,
}

/// Those who do what steps ask for: the fleet, webhooks. In tests others.
pub trait Effects {
    /// Does it. `Ok` is what came of it, in plain words, `Err` why it failed for good.
    fn perform(&mut self, effect: &Effect) -> impl Future<Output = Result<String, String>>;

    /// Says what is known of an effect that may have been done before a crash.
    fn known(&mut self, effect: &Effect) -> impl Future<Output = Known>;
}

/// All runs of a node that may run playbooks.
#[derive(Debug)]
pub struct Runner<E> {
    journal: Journal,
    runs: BTreeMap<String, Run>,
    effects: E,
}

impl<E: Effects> Runner<E> {
    /// With the runs of a journal.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn open(journal: &Path, effects: E) -> io::Result<Self> {
        let (journal, runs) = Journal::open(journal)?;
        Ok(Self { journal, runs, effects })
    }

    /// The runs, by name.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values()
    }

    /// Begins a run, unless this version of the playbook ran for the incident already, or too many are under way. Says whether it began.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn begin(&mut self, playbook: &Playbook, incident: &str, now_ms: u64) -> io::Result<bool> {
        let run = run_id(playbook, incident);
        let under_way = self.runs.values().filter(|run| run.outcome.is_none()).count();
        if self.runs.contains_key(&run) || under_way >= RUNS_MAX {
            return Ok(false);
        }
        let playbook = Box::new(playbook.clone());
        self.write(&Entry::Begun { run, at_ms: now_ms, incident: incident.to_owned(), playbook })?;
        Ok(true)
    }

    /// An operator's answer. Says whether anybody had asked.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn answer(&mut self, run: &str, step: &str, yes: bool, by: &str, now_ms: u64) -> io::Result<bool> {
        if !self.runs.get(run).is_some_and(|run| run.asks(step)) {
            return Ok(false);
        }
        let (run, step, by) = (run.to_owned(), step.to_owned(), by.to_owned());
        self.write(&Entry::Answered { run, at_ms: now_ms, step, yes, by })?;
        Ok(true)
    }

    /// Goes on with all runs as far as they go, for as long as `may_act` says so: only the singleton may. Hands out when to look again.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing more is done.
    pub async fn advance(
        &mut self,
        facts: impl Fn(&str) -> Option<Facts>,
        may_act: impl Fn() -> bool,
        now_ms: impl Fn() -> u64,
    ) -> io::Result<Option<u64>> {
        let mut again_ms: Option<u64> = None;
        let under_way = self.runs.values().filter(|run| run.outcome.is_none());
        let ids: Vec<String> = under_way.map(|run| run.id.clone()).collect();
        for id in ids {
            while let Some(run) = self.runs.get(&id) {
                // Of an incident that nobody knows any more nothing new is seen.
                let facts = facts(&run.incident).unwrap_or_else(|| forgotten(&run.incident));
                if !may_act() {
                    return Ok(again_ms);
                }
                match run.next(&facts, now_ms()) {
                    Next::Over(_) => break,
                    Next::Wait(until_ms) => {
                        again_ms = Some(again_ms.map_or(until_ms, |known| known.min(until_ms)));
                        break;
                    }
                    Next::Write(entry) => self.write(&entry)?,
                    Next::Do(effect) => {
                        let (run, step) = (effect.run.clone(), effect.step.clone());
                        self.write(&Entry::Started { run, at_ms: now_ms(), step })?;
                        self.perform(&effect, &now_ms).await?;
                    }
                    Next::Confirm(effect) => match self.effects.known(&effect).await {
                        Known::Done(note) => self.write(&ended(&effect, now_ms(), Ok(note)))?,
                        Known::Again => self.perform(&effect, &now_ms).await?,
                    },
                }
            }
        }
        Ok(again_ms)
    }

    async fn perform(&mut self, effect: &Effect, now_ms: &impl Fn() -> u64) -> io::Result<()> {
        let told = self.effects.perform(effect).await;
        self.write(&ended(effect, now_ms(), told))
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.journal.append(entry)?;
        match Run::begun(entry) {
            Some(run) => _ = self.runs.entry(run.id.clone()).or_insert(run),
            None => {
                if let Some(run) = self.runs.get_mut(entry.run()) {
                    run.apply(entry);
                }
            }
        }
        Ok(())
    }
}

fn ended(effect: &Effect, at_ms: u64, told: Result<String, String>) -> Entry {
    let (outcome, note) = match told {
        Ok(note) => (StepOutcome::Done, note),
        Err(note) => (StepOutcome::Failed, note),
    };
    let note = note.chars().take(NOTE_CHARS_MAX).collect();
    Entry::Ended { run: effect.run.clone(), at_ms, step: effect.step.clone(), outcome, note }
}

fn forgotten(incident: &str) -> Facts {
    Facts {
        detectors: Vec::new(),
        gravity: phalanx_policy::playbook::GravityWord::Low,
        confidence: phalanx_policy::playbook::ConfidenceWord::Low,
        summary: format!("{incident} is closed"),
        nodes: Vec::new(),
        last_ms: 0,
    }
}

/// Runs under way; a flood of incidents must not fill the journal.
const RUNS_MAX: usize = 256;
/// What an effect tells of itself may quote strangers, and is cut.
const NOTE_CHARS_MAX: usize = 512;
