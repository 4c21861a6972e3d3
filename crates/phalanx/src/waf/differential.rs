//! The prefilter, and what is kept of values from one request to the next, change nothing: every request of the Core Rule Set's regression tests, with them
//! and without.

use std::path::{Path, PathBuf};

use phalanx_inspect::Findings;

use super::exchange::{Request, connection, inspect};
use super::{backend, ftw, suite};

/// The conformance folder, if this run has one.
fn conformance() -> Option<PathBuf> {
    match std::env::var_os("PHALANX_SHARED") {
        Some(shared) => Some(Path::new(&shared).join("conformance")),
        None => {
            assert!(std::env::var_os("CI").is_none(), "PHALANX_SHARED is not set in CI");
            println!("skipped: PHALANX_SHARED is not set");
            None
        }
    }
}

#[test]
fn verdicts_are_the_same_with_and_without_the_prefilter() {
    let Some(folder) = conformance() else {
        return;
    };
    let rules = [folder.join("crs")];
    for paranoia in [1, 4] {
        let on = ftw::program(&rules, paranoia, true).unwrap();
        let off = ftw::program(&rules, paranoia, false).unwrap();
        let mut inputs = 0;
        for case in suite::cases(&folder.join("crs-tests")).unwrap() {
            let stages = case.stages.iter();
            for request in stages.filter_map(|stage| Request::read(&stage.input.raw().ok()?).ok()) {
                inputs += 1;
                let run = |program| {
                    inspect(program, Box::default(), connection(1, 1_700_000_000_000), &request, || {
                        backend::reply(&request)
                    })
                    .0
                };
                let plain = comparable(run(&off));
                // Its values are strange at first, get a place when they come again, and are familiar then.
                for _ in 0..3 {
                    assert_eq!(comparable(run(&on)), plain, "{}", case.id);
                }
            }
        }
        assert!(inputs > 4_000, "{inputs}");
    }
}

/// All that a reader of findings can see.
fn comparable(findings: Findings) -> impl PartialEq + std::fmt::Debug {
    (
        findings.matched_rules,
        findings.signals,
        findings.interruption,
        findings.would_interrupt,
        findings.score,
        findings.failure,
    )
}
