//! A whole fleet in virtual time, on a broker that fails as a seed says: real handles and real stores, and `SimFleet` between them.
//!
//! `PHALANX_SEED=n` plays one seed and prints what happened; `PHALANX_SEEDS=n` plays that many.

mod dice;
pub(crate) mod disk;
pub(crate) mod engine;
mod holding;
mod lists;
mod oracle;
mod played;
mod policy;
mod run;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::Bug;
use parking_lot::Mutex;
use played::{PLAYED, RARELY_PLAYED};
use run::{Run, play};
use world::Fault;

#[test]
fn whatever_fails_nothing_is_lost_and_nothing_rises_again() {
    if let Some(seed) = number("PHALANX_SEED") {
        let run = play(seed, Bug::None);
        run.trace.iter().for_each(|line| println!("{line}"));
        assert!(run.violations.is_empty(), "seed {seed}:\n{}", run.violations.join("\n"));
        return;
    }
    let seeds = number("PHALANX_SEEDS").unwrap_or(SEEDS_IN_CI);
    let started = Instant::now();
    let soak = soak(seeds, Bug::None, "");
    if let Some((seed, run)) = soak.failed {
        run.trace.iter().rev().take(TRACE_LINES).rev().for_each(|line| println!("{line}"));
        panic!("replay with PHALANX_SEED={seed}; what is wrong:\n{}", run.violations.join("\n"));
    }
    let Totals { said, checked, doubtful, faults, played } = soak.totals;
    println!(
        "{seeds} seeds in {:.1} s: {said} changes, {doubtful} died unsent or unkept with their author, {checked} decisions \
         checked on every node at the end; faults: {faults:?}; played: {played:?}",
        started.elapsed().as_secs_f64()
    );
    for fault in Fault::ALL {
        assert!(faults.contains_key(&fault), "{fault:?} never happened");
    }
    let rarely = if seeds >= 1_000 { &RARELY_PLAYED[..] } else { &[] };
    for what in PLAYED.iter().chain(rarely) {
        assert!(played.contains_key(what), "never played: {what}");
    }
    assert!(checked >= seeds, "hardly anything was left to check");
}

#[test]
fn a_mistake_planted_in_the_engine_is_found() {
    // With what must be said of it, where another property might find it, too.
    let planted = [
        (Bug::ConfirmedIsNotKept, 40, ""),
        (Bug::WithdrawalsAreForgotten, 40, ""),
        (Bug::NoAudit, 10, ""),
        (Bug::ReadOnce, 300, ""),
        (Bug::SwapsAreNotCompared, 200, "policy"),
        (Bug::PolicyIsBelievedByHearsay, 200, "policy"),
        (Bug::PolicyIsNotKept, 40, "it runs version"),
        (Bug::BlobsAreAskedForOnce, 150, "nobody has its content"),
        (Bug::ListsAreMixed, 40, "half of number"),
        (Bug::RecallsAreForgotten, 150, ""),
        (Bug::NobodyIsServedWell, 40, "clients served well"),
        (Bug::HeldIsForgotten, 150, "held before the restart and in force after it"),
    ];
    for (bug, seeds, about) in planted {
        let found = soak(seeds, bug, about).failed;
        let (seed, run) = found.unwrap_or_else(|| panic!("{bug:?} was not found in {seeds} seeds"));
        println!("{bug:?}: seed {seed}: {}", run.objection(about).unwrap());
    }
}

/// Within a millisecond, tasks and the threads that wait for files may run in another order, and a message more may be sent. So what
/// comes after the faults, the newcomer `z` above all, comes when everything has been sent.
#[test]
fn a_seed_brings_the_same_failures_at_the_same_times_again() {
    let broken = |run: Run| -> Vec<String> {
        let kinds =
            [" starts", " crashes", " restarts", "cut off", "clock of", "disk of", "broker down", "wiped"];
        let is_fault =
            |line: &String| kinds.iter().any(|kind| line.contains(kind)) && !line.ends_with("/z starts");
        run.trace.into_iter().filter(is_fault).collect()
    };
    for seed in 0..10 {
        let (one, other) = (broken(play(seed, Bug::None)), broken(play(seed, Bug::None)));
        assert!(one.len() > 3);
        assert_eq!(one, other, "seed {seed}");
    }
}

/// What many seeds came to.
struct Soak {
    totals: Totals,
    /// The first seed of those played that went wrong.
    failed: Option<(u64, Run)>,
}

#[derive(Default)]
struct Totals {
    said: usize,
    checked: u64,
    doubtful: usize,
    faults: BTreeMap<Fault, u64>,
    played: BTreeMap<&'static str, u64>,
}

/// Plays seeds on all processors until one goes wrong in the way that is asked about.
fn soak(seeds: u64, bug: Bug, about: &str) -> Soak {
    let next = AtomicU64::new(0);
    let soak = Mutex::new(Soak { totals: Totals::default(), failed: None });
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || soak.lock().failed.is_some() {
                return;
            }
            let run = play(seed, bug);
            let mut soak = soak.lock();
            soak.totals.add(&run);
            let first = soak.failed.as_ref().is_none_or(|(earlier, _)| seed < *earlier);
            if run.objection(about).is_some() && first {
                soak.failed = Some((seed, run));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    soak.into_inner()
}

impl Run {
    /// The first of what is wrong that says this.
    fn objection(&self, about: &str) -> Option<&String> {
        self.violations.iter().find(|what| what.contains(about))
    }
}

impl Totals {
    fn add(&mut self, run: &Run) {
        self.said += run.said;
        self.checked += run.checked;
        self.doubtful += run.doubtful;
        for (fault, count) in &run.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (what, count) in &run.played {
            *self.played.entry(what).or_default() += count;
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// A few seconds.
const SEEDS_IN_CI: u64 = 150;
const TRACE_LINES: usize = 80;
