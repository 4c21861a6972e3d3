//! Whole requests through the baseline pack and rules with all that the language has.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use phalanx_fuzz::{request, rule_set, run};
use phalanx_inspect::{Program, Scratch};

static RULES: LazyLock<Arc<Program>> = LazyLock::new(|| rule_set(true));

thread_local! {
    /// Lent from one transaction to the next, as a worker does.
    static SCRATCH: RefCell<Box<Scratch>> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let (head, body) = request(data);
    let (found, _) = run(&RULES, Box::default(), &head, &body);
    let (again, lent) = run(&RULES, SCRATCH.take(), &head, &body);
    SCRATCH.set(lent);
    // Collections of the first run are there in the second; all else is the same.
    let stateless = |ids: &[u64]| ids.iter().copied().filter(|id| *id != 31 && *id != 34).collect::<Vec<_>>();
    assert_eq!(
        stateless(&found.matched_rules),
        stateless(&again.matched_rules),
        "a reused scratch remembers"
    );
    for signal in &found.signals {
        assert!(
            signal.message.len() <= 8 * 1024 && signal.data.len() <= 8 * 1024 && signal.matches.len() <= 8
        );
    }
});
