//! `soak`: every fuzz target for a while, with libFuzzer linked in. It builds with the project's own toolchain: coverage is
//! a pass of LLVM that stable Rust can turn on. Crashes stay in `target/fuzz/crashes`, what was found to be new in
//! `target/fuzz/corpus`, so that the next run goes on from there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::place;
use crate::steps::{Steps, cargo, must, say};

/// `soak [--minutes N | --each SECONDS] [TARGET...]`; ten minutes in all by default. `soak --fleet-seeds N` plays seeds of the
/// simulated fleet instead.
pub(crate) fn soak(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut targets = Vec::new();
    let mut time = Time::Minutes(10);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).context("a number is missing");
        match word.as_str() {
            "--minutes" => time = Time::Minutes(number()?),
            "--each" => time = Time::SecondsEach(number()?),
            "--fleet-seeds" => return fleet(number()?),
            target => targets.push(target.to_owned()),
        }
    }
    let all = all_targets()?;
    if let Some(unknown) = targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no target `{unknown}`; there are {}", all.join(", "));
    }
    let targets = if targets.is_empty() { all } else { targets };
    let mut steps = Steps::new();
    fuzz(&mut steps, &targets, time, RANDOM);
    Ok(steps.finish())
}

/// Plays seeds of the simulated fleet, with the workspace's own code optimised: that makes it some three times faster.
fn fleet(seeds: u64) -> anyhow::Result<ExitCode> {
    let mut steps = Steps::new();
    steps.run(&format!("{seeds} seeds of the simulated fleet"), || {
        let mut test = cargo(["test", "--locked", "-p", "phalanx-fleet", "--test", "fleet"]);
        test.args(["--config", "profile.dev.opt-level=2", "--config", "profile.test.opt-level=2"]);
        test.args(["--", "--nocapture", "--exact", SIMULATION]).env("PHALANX_SEEDS", seeds.to_string());
        must(&mut test).context("PHALANX_SEED=N plays one seed and prints what happened")
    });
    Ok(steps.finish())
}

/// A few seconds of each target, as CI runs it: always the same inputs, for what a change broke and not for what luck
/// finds. New inputs come from `soak`.
pub(crate) fn steps(steps: &mut Steps) {
    match all_targets() {
        Ok(targets) => fuzz(steps, &targets, Time::SecondsEach(CI_SECONDS_EACH), CI_SEED),
        Err(error) => steps.run("fuzz targets", || Err(error)),
    }
}

/// How long to fuzz.
#[derive(Debug, Clone, Copy)]
enum Time {
    /// All targets together.
    Minutes(u64),
    /// Each of them.
    SecondsEach(u64),
}

fn fuzz(steps: &mut Steps, targets: &[String], time: Time, seed: u32) {
    let each = match time {
        // Two are played at once.
        Time::Minutes(minutes) => minutes * 60 / u64::try_from(targets.len().div_ceil(2)).unwrap_or(1).max(1),
        Time::SecondsEach(seconds) => seconds,
    }
    .max(1);
    let mut built = false;
    steps.run("build fuzz targets", || {
        build(targets)?;
        built = true;
        Ok(())
    });
    if built {
        play(steps, targets, Duration::from_secs(each), seed);
    }
}

/// Two targets at once: each has one thread.
fn play(steps: &mut Steps, targets: &[String], each: Duration, seed: u32) {
    let (first, second) = targets.split_at(targets.len().div_ceil(2));
    let all_of = |steps: &mut Steps, targets: &[String]| {
        for target in targets {
            steps.run(&format!("fuzz {target}"), || run(target, each, seed));
        }
    };
    steps.beside(|steps| all_of(steps, first), |steps| all_of(steps, second));
}

/// The binaries that `fuzz/Cargo.toml` names.
fn all_targets() -> anyhow::Result<Vec<String>> {
    let path = place::root().join("fuzz/Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(&path)?.parse().context("fuzz/Cargo.toml")?;
    let bins = manifest.get("bin").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = bins.iter().filter_map(|bin| bin.get("name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

fn build(targets: &[String]) -> anyhow::Result<()> {
    let mut build = cargo(["build", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    // Naming the target keeps the flags away from build scripts and macros.
    build
        .args(["--target", &triple()])
        .env("CARGO_TARGET_DIR", folder())
        .env("RUSTFLAGS", COVERAGE.join(" "));
    for target in targets {
        build.args(["--bin", target]);
    }
    must(&mut build).context("libFuzzer needs a C++ compiler (Debian: apt-get install build-essential)")
}

/// Runs one target from its seeds and from what earlier runs found.
fn run(target: &str, time: Duration, seed: u32) -> anyhow::Result<()> {
    let (corpus, crashes) = (folder().join("corpus").join(target), folder().join("crashes"));
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&crashes)?;
    let started = Instant::now();
    let mut fuzz = Command::new(folder().join(triple()).join("release").join(target));
    fuzz.arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-seed={seed}"))
        .arg(format!("-artifact_prefix={}/{target}-", crashes.display()))
        .args(["-timeout=25", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1", "-verbosity=0"])
        .arg(&corpus)
        .arg(place::root().join("fuzz/seeds").join(target));
    must(&mut fuzz).with_context(|| {
        format!("the input is in {}; it becomes a file in fuzz/seeds and a named test", crashes.display())
    })?;
    say(format_args!("{target}: {} s, {} inputs kept", started.elapsed().as_secs(), files_in(&corpus)));
    Ok(())
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn folder() -> PathBuf {
    place::target().join("fuzz")
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// What cargo-fuzz passes, without a sanitizer: the project has no unsafe code, and sanitizers need an unstable compiler.
const COVERAGE: [&str; 7] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// The test that plays seeds.
const SIMULATION: &str = "sim::whatever_fails_nothing_is_lost_and_nothing_rises_again";
const CI_SECONDS_EACH: u64 = 3;
const CI_SEED: u32 = 1;
/// libFuzzer's word for a seed of its own choice.
const RANDOM: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulation_has_its_name() {
        let (_, name) = SIMULATION.split_once("::").unwrap();
        let source = std::fs::read_to_string(place::root().join("crates/fleet/tests/fleet/sim/mod.rs"));
        assert!(source.unwrap().contains(&format!("fn {name}()")));
    }

    #[test]
    fn every_target_has_its_source_and_seeds() {
        let fuzz = place::root().join("fuzz");
        let targets = all_targets().unwrap();
        assert!(targets.len() > 10);
        for target in &targets {
            assert!(fuzz.join("fuzz_targets").join(format!("{target}.rs")).is_file(), "{target}");
            assert!(files_in(&fuzz.join("seeds").join(target)) > 0, "{target} has no seeds");
        }
        assert_eq!(files_in(&fuzz.join("fuzz_targets")), targets.len());
    }
}
