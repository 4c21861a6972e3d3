//! Playbooks in motion: which incident starts one, what its next step is, what is written down before and after, and how others are told.
//!
//! ```text
//! Playbook, incident -> Run -> Next -> Runner: journal -> effect (the binary's) -> journal
//! ```
//!
//! [`machine`] says what comes next, [`runner`] keeps it and hands it out; whoever drives it does it. Each effect has a key, `PLAYBOOK-VERSION/INCIDENT/STEP`, that is the
//! same however often it is tried and wherever: who keeps the effect can tell a second attempt from a second wish.
//!
//! INVARIANT: an effect is in the journal before it is begun, and its outcome before the next step is. After a crash at most one effect is in doubt; it
//! is asked for by its key, and where nobody can answer it is asked to be done again under the same key.

pub mod cacao;
pub mod journal;
pub mod machine;
pub mod runner;
pub mod told;

use phalanx_learn::Detector;
use phalanx_learn::respond::{Measure, Scope};
use phalanx_policy::playbook::Known as Words;
use phalanx_policy::{Diagnostic, playbook::Playbook};

pub use journal::Journal;
pub use machine::{Effect, Entry, Facts, Next, Planned, Run, RunOutcome, StepOutcome, run_id, starts};
pub use runner::{Due, Runner};
pub use told::Told;

/// Reads a playbook in the words of this version's detectors and countermeasures.
///
/// # Errors
/// Every fault found, with its line.
pub fn read(file: &str, text: &str) -> Result<Playbook, Vec<Diagnostic>> {
    let words = Words {
        detectors: &Detector::ALL.map(Detector::name),
        measures: &Measure::ALL.map(Measure::name),
        scopes: &Scope::ALL.map(Scope::name),
    };
    phalanx_policy::playbook::read(file, text, &words)
}
