//! What is to be done now: incidents and playbooks in, effects out. No input or output beside the journal, no clock.

use std::io;
use std::path::Path;
use std::sync::Arc;

use phalanx_control::NotAsked;
use phalanx_control::playbook::told::Asked;
use phalanx_control::playbook::{Due, Effect, Entry, Planned, Runner, StepOutcome, starts};
use phalanx_policy::playbook::Playbook;

use crate::learning::Case;

/// All runs, and what becomes of them.
pub(super) struct Core {
    pub(super) runner: Runner,
    /// The journal cannot be written: nothing more is run.
    fault: Option<String>,
    /// How far others were told of each run.
    told: std::collections::BTreeMap<String, usize>,
    told_all_ms: u64,
}

/// What the node knows at the moment.
pub(super) struct Seen<'a> {
    pub(super) cases: &'a [Case],
    pub(super) playbooks: &'a [Arc<Playbook>],
}

impl Core {
    pub(super) fn open(journal: &Path) -> io::Result<Self> {
        let runner = Runner::open(journal)?;
        Ok(Self { runner, fault: None, told: Default::default(), told_all_ms: 0 })
    }

    /// Why nothing is run any more.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Begins what is to be begun, ends what was undone, and hands out what is to be done. Only for the node that runs playbooks.
    pub(super) fn turn(
        &mut self,
        seen: &Seen<'_>,
        orders: impl FnMut(&Effect) -> Vec<Planned>,
        now_ms: u64,
    ) -> Due {
        let due = self.may_fail(|core| {
            let undone = core.of(seen, |case| case.is_undone);
            undone.iter().try_for_each(|run| core.runner.undo(run, now_ms))?;
            for case in seen.cases.iter().filter(|case| !case.is_closed && !case.is_undone) {
                for playbook in seen.playbooks.iter().filter(|one| starts(&one.trigger, &case.facts)) {
                    core.begin(playbook, case, now_ms)?;
                }
            }
            let facts = |id: &str| seen.cases.iter().find(|case| case.is(id)).map(|case| case.facts.clone());
            core.runner.due(facts, orders, now_ms)
        });
        due.unwrap_or_default()
    }

    /// An effect has ended.
    pub(super) fn ended(&mut self, effect: &Effect, outcome: StepOutcome, note: &str, now_ms: u64) {
        self.may_fail(|core| core.runner.ended(effect, outcome, note, now_ms));
    }

    /// Another node tells what it wrote.
    pub(super) fn adopt(&mut self, entries: Vec<Entry>) {
        self.may_fail(|core| core.runner.adopt(entries));
    }

    /// Does what an operator asked. Only for the node that runs playbooks.
    pub(super) fn asked(&mut self, asked: &Asked, seen: &Seen<'_>, now_ms: u64) -> Result<(), NotAsked> {
        if self.is_so(asked) {
            return Ok(());
        }
        let done = self.may_fail(|core| match asked {
            Asked::Answer { run, step, yes, by } => core.runner.answer(run, step, *yes, by, now_ms),
            Asked::Start { playbook, incident } => {
                let playbook = seen.playbooks.iter().find(|one| one.name == *playbook);
                let case = seen.cases.iter().find(|case| case.is(incident));
                let (Some(playbook), Some(case)) = (playbook, case) else { return Ok(false) };
                core.begin(playbook, case, now_ms)
            }
        });
        match (done, asked) {
            (None, _) => Err(NotAsked::Unheard(self.fault.clone().unwrap_or_default())),
            (Some(true), _) => Ok(()),
            (Some(false), Asked::Answer { step, .. }) => {
                Err(NotAsked::Unknown(format!("step `{step}` asks nothing now")))
            }
            (Some(false), Asked::Start { playbook, .. }) => Err(NotAsked::Conflict(format!(
                "`{playbook}` ran for this incident already, or too many run"
            ))),
        }
    }

    /// Whether what an operator asked for is done, as far as this node knows.
    pub(super) fn is_so(&self, asked: &Asked) -> bool {
        match asked {
            Asked::Answer { run, step, yes, .. } => self.runner.entries(run).iter().any(
                |entry| matches!(entry, Entry::Answered { step: of, yes: said, .. } if of == step && said == yes),
            ),
            // Asked once more it would be a second time, and is refused.
            Asked::Start { .. } => false,
        }
    }

    /// Whether a playbook ran for an incident.
    pub(super) fn ran(&self, playbook: &str, incident: &str) -> bool {
        self.runner.runs().any(|run| run.playbook.name == playbook && run.incident == incident)
    }

    /// What others are to be told of: what is new, and now and then all that lately changed.
    pub(super) fn take_news(&mut self, now_ms: u64) -> Vec<Entry> {
        let is_time = self.told_all_ms.saturating_add(AGAIN_MS) <= now_ms;
        let changed = self.runner.take_changed();
        let mut entries = Vec::new();
        if is_time {
            self.told_all_ms = now_ms;
            for (run, written) in self.runner.histories() {
                let last_ms = written.last().map_or(0, at_ms);
                if run.outcome.is_none() || last_ms.saturating_add(TOLD_FOR_MS) > now_ms {
                    entries.extend(written.iter().cloned());
                }
                self.told.insert(run.id.clone(), written.len());
            }
        } else {
            for run in changed {
                let written = self.runner.entries(&run);
                let from = self.told.insert(run.clone(), written.len()).unwrap_or(0);
                entries.extend(written.iter().skip(from).cloned());
            }
        }
        if self.told.len() > TOLD_MAX {
            self.told.clear();
        }
        entries
    }

    fn begin(&mut self, playbook: &Playbook, case: &Case, now_ms: u64) -> io::Result<bool> {
        // An incident that it ran for may have become part of this one.
        let ran = |run: &phalanx_control::playbook::Run| {
            run.playbook.name == playbook.name
                && run.playbook.version == playbook.version
                && case.is(&run.incident)
        };
        if self.runner.runs().any(ran) {
            return Ok(false);
        }
        self.runner.begin(playbook, &case.id.to_string(), now_ms)
    }

    fn of(&self, seen: &Seen<'_>, which: impl Fn(&Case) -> bool) -> Vec<String> {
        let cases: Vec<&Case> = seen.cases.iter().filter(|case| which(case)).collect();
        let of_case = |incident: &str| cases.iter().any(|case| case.is(incident));
        self.runner.runs().filter(|run| of_case(&run.incident)).map(|run| run.id.clone()).collect()
    }

    /// After a journal that cannot be written nothing more is run.
    fn may_fail<T>(&mut self, does: impl FnOnce(&mut Self) -> io::Result<T>) -> Option<T> {
        if self.fault.is_some() {
            return None;
        }
        let done = does(self);
        done.inspect_err(|error| {
            tracing::error!(%error, "the journal of playbooks cannot be written: none is run until the node starts again");
            self.fault = Some(format!("the journal of playbooks cannot be written: {error}"));
        })
        .ok()
    }
}

fn at_ms(entry: &Entry) -> u64 {
    match entry {
        Entry::Begun { at_ms, .. }
        | Entry::Started { at_ms, .. }
        | Entry::Undone { at_ms, .. }
        | Entry::Answered { at_ms, .. }
        | Entry::Ended { at_ms, .. }
        | Entry::Finished { at_ms, .. } => *at_ms,
    }
}

/// How often all that is known is told again: a message may be lost, and a node new.
const AGAIN_MS: u64 = 10_000;
/// For how long after its end a run is told of.
const TOLD_FOR_MS: u64 = 15 * 60_000;
/// More runs than are remembered.
const TOLD_MAX: usize = 4_096;
