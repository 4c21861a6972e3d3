//! The prefilter hides no match, and neither does what is kept of values that come again: with them and without a request has the same findings.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use phalanx_fuzz::{request, rule_set, run};
use phalanx_inspect::{Findings, Program};

static FILTERED: LazyLock<Arc<Program>> = LazyLock::new(|| rule_set(true));
static PLAIN: LazyLock<Arc<Program>> = LazyLock::new(|| rule_set(false));

fn told(found: &Findings) -> String {
    let signals: Vec<String> = found
        .signals
        .iter()
        .map(|one| format!("{} {} {} {:?}", one.rule.id, one.message, one.data, one.matches))
        .collect();
    format!("{:?} {} {:?} {signals:#?}", found.matched_rules, found.score, found.failure)
}

fuzz_target!(|data: &[u8]| {
    let (head, body) = request(data);
    // Both as often: rules count requests.
    for _ in 0..3 {
        let (with, _) = run(&FILTERED, Box::default(), &head, &body);
        let (without, _) = run(&PLAIN, Box::default(), &head, &body);
        assert_eq!(told(&with), told(&without));
    }
});
