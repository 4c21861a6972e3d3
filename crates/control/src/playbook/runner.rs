//! The runs of a node: what is to be done now, written down before it is handed out, and how it ended.
//!
//! It does nothing itself, so that one receiver that does not answer holds up its own run and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use phalanx_policy::playbook::{ConfidenceWord, GravityWord, Playbook};

use super::journal::Journal;
use super::machine::{Effect, Entry, Facts, Next, Planned, Run, StepOutcome, run_id};

/// All runs that a node knows of: its own, and those that another node told of.
#[derive(Debug)]
pub struct Runner {
    journal: Journal,
    runs: BTreeMap<String, Known>,
    /// Runs of which an effect is under way.
    busy: BTreeSet<String>,
    /// Runs of which something was written since they were asked for.
    changed: BTreeSet<String>,
}

/// A run with its entries.
#[derive(Debug)]
struct Known {
    run: Run,
    entries: Vec<Entry>,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Due {
    /// Effects to be begun, each with whether it may have been done already: then it is asked for by its key first.
    pub effects: Vec<(Effect, bool)>,
    /// When to look again, if nothing happens before.
    pub again_ms: Option<u64>,
}

impl Runner {
    /// With the runs of a journal.
    ///
    /// # Errors
    /// When the journal cannot be read or written, or another process has it.
    pub fn open(journal: &Path) -> io::Result<Self> {
        let (journal, entries) = Journal::open(journal)?;
        let mut runs = BTreeMap::new();
        entries.into_iter().for_each(|entry| note(&mut runs, entry));
        Ok(Self { journal, runs, busy: BTreeSet::new(), changed: BTreeSet::new() })
    }

    /// The runs, by name.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().map(|known| &known.run)
    }

    /// All that is known of the runs, by name.
    pub fn histories(&self) -> impl Iterator<Item = (&Run, &[Entry])> {
        self.runs.values().map(|known| (&known.run, known.entries.as_slice()))
    }

    /// All that was written of a run.
    pub fn entries(&self, run: &str) -> &[Entry] {
        self.runs.get(run).map_or(&[], |known| &known.entries)
    }

    /// Runs of which something was written since this was asked.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Begins a run, unless this version of the playbook ran for the incident already, or too many are under way. Says whether it began.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn begin(&mut self, playbook: &Playbook, incident: &str, now_ms: u64) -> io::Result<bool> {
        let run = run_id(playbook, incident);
        if self.runs.contains_key(&run) || self.under_way() >= RUNS_MAX {
            return Ok(false);
        }
        let playbook = Box::new(playbook.clone());
        self.write(Entry::Begun { run, at_ms: now_ms, incident: incident.to_owned(), playbook })?;
        Ok(true)
    }

    /// An operator's answer. Says whether anybody had asked.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn answer(&mut self, run: &str, step: &str, yes: bool, by: &str, now_ms: u64) -> io::Result<bool> {
        if !self.runs.get(run).is_some_and(|known| known.run.asks(step)) {
            return Ok(false);
        }
        let (run, step, by) = (run.to_owned(), step.to_owned(), by.to_owned());
        self.write(Entry::Answered { run, at_ms: now_ms, step, yes, by })?;
        Ok(true)
    }

    /// The incident was undone: once no effect of the run is under way, what it ordered is withdrawn, and it ends. A run that has ended stays as it
    /// ended; what it ordered is withdrawn with the incident.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn undo(&mut self, run: &str, now_ms: u64) -> io::Result<()> {
        let is_over = self.runs.get(run).is_none_or(|one| one.run.outcome.is_some() || one.run.is_reverted());
        if is_over || self.busy.contains(run) {
            return Ok(());
        }
        self.write(Entry::Undone { run: run.to_owned(), at_ms: now_ms })
    }

    /// Goes on with all runs as far as they go without an effect. What is handed out is in the journal as begun; of each run one at a time, until
    /// [`Self::ended`]. `orders` says what a countermeasure is about to order.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing more is to be done.
    pub fn due(
        &mut self,
        facts: impl Fn(&str) -> Option<Facts>,
        mut orders: impl FnMut(&Effect) -> Vec<Planned>,
        now_ms: u64,
    ) -> io::Result<Due> {
        let mut due = Due::default();
        let rests = self.runs.values().filter(|one| one.run.outcome.is_none());
        let ids: Vec<String> = rests.map(|one| one.run.id.clone()).collect();
        for id in ids.into_iter().filter(|id| !self.busy.contains(id)).collect::<Vec<_>>() {
            while let Some(Known { run, .. }) = self.runs.get(&id) {
                // Of an incident that nobody knows any more nothing new is seen.
                let facts = facts(&run.incident).unwrap_or_else(|| forgotten(&run.incident));
                match run.next(&facts, now_ms) {
                    Next::Over(_) => break,
                    Next::Wait(until_ms) => {
                        due.again_ms = Some(due.again_ms.map_or(until_ms, |known| known.min(until_ms)));
                        break;
                    }
                    Next::Write(entry) => self.write(entry)?,
                    Next::Do(mut effect) => {
                        if effect.orders.is_empty() {
                            effect.orders = orders(&effect);
                        }
                        let (run, step) = (effect.run.clone(), effect.step.clone());
                        let orders = effect.orders.clone();
                        self.write(Entry::Started { run, at_ms: now_ms, step, orders })?;
                        due.effects.push((effect, false));
                        self.busy.insert(id.clone());
                        break;
                    }
                    Next::Confirm(effect) => {
                        due.effects.push((effect, true));
                        self.busy.insert(id.clone());
                        break;
                    }
                }
            }
        }
        Ok(due)
    }

    /// How an effect ended that was handed out, and what came of it, in plain words.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing more is to be done.
    pub fn ended(
        &mut self,
        effect: &Effect,
        outcome: StepOutcome,
        note: &str,
        now_ms: u64,
    ) -> io::Result<()> {
        self.busy.remove(&effect.run);
        let (run, step) = (effect.run.clone(), effect.step.clone());
        let note = note.chars().take(NOTE_CHARS_MAX).collect();
        self.write(Entry::Ended { run, at_ms: now_ms, step, outcome, note })
    }

    /// Another node goes on: no effect is under way here any more, and how those ended that were is for that node to find out.
    pub fn let_go(&mut self) {
        self.busy.clear();
    }

    /// Takes over what the node wrote that runs playbooks. What does not fit where a run stands is left out. Says whether anything was new.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn adopt(&mut self, entries: Vec<Entry>) -> io::Result<bool> {
        let mut is_news = false;
        for entry in entries {
            let is_new = match self.runs.get(entry.run()) {
                None => Run::begun(&entry).is_some() && self.under_way() < RUNS_MAX,
                Some(Known { run, entries }) => {
                    let mut after = run.clone();
                    after.apply(&entry);
                    after != *run && entries.len() < ENTRIES_MAX
                }
            };
            if is_new {
                self.write(entry)?;
                is_news = true;
            }
        }
        Ok(is_news)
    }

    fn under_way(&self) -> usize {
        self.runs.values().filter(|known| known.run.outcome.is_none()).count()
    }

    fn write(&mut self, entry: Entry) -> io::Result<()> {
        self.journal.append(&entry)?;
        self.changed.insert(entry.run().to_owned());
        let is_last = matches!(entry, Entry::Finished { .. });
        note(&mut self.runs, entry);
        if is_last {
            self.forget_oldest();
            if self.journal.has_grown() {
                let entries = self.runs.values().flat_map(|known| &known.entries);
                self.journal.compact(entries)?;
            }
        }
        Ok(())
    }

    fn forget_oldest(&mut self) {
        let ended_ms = |known: &Known| match known.entries.last() {
            Some(Entry::Finished { at_ms, .. }) => Some(*at_ms),
            _ => None,
        };
        let mut ended: Vec<(u64, String)> =
            self.runs.iter().filter_map(|(id, known)| Some((ended_ms(known)?, id.clone()))).collect();
        ended.sort();
        for (_, id) in ended.iter().take(ended.len().saturating_sub(FINISHED_KEPT)) {
            self.runs.remove(id);
        }
    }
}

fn note(runs: &mut BTreeMap<String, Known>, entry: Entry) {
    if let Some(run) = Run::begun(&entry) {
        runs.entry(run.id.clone()).or_insert_with(|| Known { run, entries: vec![entry] });
    } else if let Some(known) = runs.get_mut(entry.run()) {
        known.run.apply(&entry);
        known.entries.push(entry);
    }
}

fn forgotten(incident: &str) -> Facts {
    Facts {
        detectors: Vec::new(),
        gravity: GravityWord::Low,
        confidence: ConfidenceWord::Low,
        title: incident.to_owned(),
        summary: format!("{incident} is closed"),
        nodes: Vec::new(),
        last_ms: 0,
    }
}

/// Runs under way; a flood of incidents must not fill the journal.
const RUNS_MAX: usize = 256;
/// Runs that have ended and are remembered, so that none is run again for an incident that lasts.
const FINISHED_KEPT: usize = 1_024;
/// Entries of a run: each of 64 steps begins, is answered and ends, some of them again after a crash.
const ENTRIES_MAX: usize = 1_024;
/// What an effect tells of itself may quote strangers, and is cut.
const NOTE_CHARS_MAX: usize = 512;
