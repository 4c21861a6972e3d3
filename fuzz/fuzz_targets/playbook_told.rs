//! What another node tells of playbooks: read whole or not at all, told again as it was, and applied to runs that then say what comes next.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use phalanx_policy::playbook::{ConfidenceWord, GravityWord};

use machine::{Facts, Next, Run};
use told::Told;

// From their sources: the crate around them is all of the management plane, which would be built with coverage for these three.
#[allow(
    dead_code,
    unfulfilled_lint_expectations,
    reason = "only what is told is read, and nothing need be documented"
)]
#[path = "../../crates/control/src/playbook/machine.rs"]
mod machine;
#[allow(dead_code, reason = "only what is told is read")]
#[path = "../../crates/control/src/reporting/deliveries.rs"]
mod deliveries;
#[path = "../../crates/control/src/playbook/told.rs"]
mod told;
mod reporting {
    pub(crate) use crate::deliveries;
}

fuzz_target!(|data: &[u8]| {
    let Some(told) = Told::from_bytes(data) else { return };
    // Written without escapes that need not be, it may be shorter; longer than the limit it is not told.
    if let Some(bytes) = told.to_bytes() {
        assert_eq!(Told::from_bytes(&bytes), Some(told.clone()));
    }
    let Told::Entries { token, entries } = told else { return };
    for message in Told::entries_to_messages(token, &entries) {
        assert!(Told::from_bytes(&message).is_some());
    }
    let facts = Facts {
        detectors: Vec::new(),
        gravity: GravityWord::High,
        confidence: ConfidenceWord::High,
        title: "{incident}".into(),
        summary: "{incident}".into(),
        nodes: Vec::new(),
        last_ms: 1,
    };
    let mut runs: BTreeMap<String, Run> = BTreeMap::new();
    for entry in &entries {
        if let Some(run) = Run::begun(entry) {
            runs.entry(run.id.clone()).or_insert(run);
        } else if let Some(run) = runs.get_mut(entry.run()) {
            run.apply(entry);
            if let Next::Write(entry) = run.next(&facts, u64::MAX / 2) {
                run.apply(&entry);
            }
        }
    }
});
