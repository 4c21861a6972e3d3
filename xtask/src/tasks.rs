//! What each task consists of.
//!
//! One target folder and as few profiles as possible: `check` and `test` use the dev profile throughout, also for the programs
//! that the black-box tests and the scenario start; only `demo` builds for release.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::steps::{Steps, cargo, must};
use crate::tools::{CARGO_DENY, MDBOOK, NATS_SERVER};
use crate::{bench, book, dist, place, rerun, soak, tidy as tidiness};

/// Builds all that a newcomer needs and runs `phalanx demo`.
pub(crate) fn demo(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let nats_server = NATS_SERVER.path()?;
    build_console()?;
    must(&mut cargo(["build", "--release", "--package", "phalanx", "--package", "phalanx-demo-shop"]))?;
    // Not through `must`: Ctrl-C goes to the demo, which ends its children and then itself.
    let status = Command::new(place::built("release", "phalanx"))
        .arg("demo")
        .arg("--nats-server")
        .arg(nats_server)
        .args(arguments)
        .status()
        .context("cannot start the demo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything CI runs.
pub(crate) fn test() -> anyhow::Result<ExitCode> {
    let mut steps = Steps::new();
    steps.run("console", console_steps);
    check_steps(&mut steps);
    steps.run("the book, with every link in it", book::build);
    steps.run("demo --once", || {
        must(
            Command::new(place::built("debug", "phalanx"))
                .args(["demo", "--once", "--nats-server"])
                .arg(NATS_SERVER.path()?),
        )
    });
    soak::steps(&mut steps);
    match bench::is_program("valgrind") {
        true => steps.run("instructions per request", bench::check),
        false if std::env::var_os("CI").is_some() => {
            steps.run("instructions per request", || bail!("CI has no valgrind"))
        }
        false => steps.skip("instructions per request", "valgrind is not installed"),
    }
    steps.run("the baseline pack's own tests", || rule_tests(Path::new("packs/baseline"), "rules", "tests"));
    match std::env::var_os("PHALANX_SHARED") {
        Some(shared) => steps.run("the Core Rule Set's regression tests", || {
            rule_tests(&Path::new(&shared).join("conformance"), "crs", "crs-tests")
        }),
        None if std::env::var_os("CI").is_some() => {
            steps.run("the Core Rule Set's regression tests", || bail!("CI has no PHALANX_SHARED"));
        }
        None => steps.skip("the Core Rule Set's regression tests", "PHALANX_SHARED is not set"),
    }
    match dist::trial_needs() {
        None => steps.run("package: installed, started, upgraded, removed", dist::trial),
        Some(missing) if std::env::var_os("CI").is_some() => {
            steps.run("package: installed, started, upgraded, removed", || bail!("CI has no {missing}"));
        }
        Some(missing) => {
            steps.skip("package: installed, started, upgraded, removed", &format!("needs {missing}"))
        }
    }
    match dist::root_and(&["ip", "ss", "openssl", "python3"]) {
        None => steps.run("scenarios against three nodes in namespaces", || must(&mut field(["short"])?)),
        Some(missing) if std::env::var_os("CI").is_some() => {
            steps.run("scenarios against three nodes in namespaces", || bail!("CI has no {missing}"));
        }
        Some(missing) => {
            steps.skip("scenarios against three nodes in namespaces", &format!("needs {missing}"))
        }
    }
    browser_step(&mut steps, "console in Chromium", &[CHROMIUM], || must(&mut npm(["run", "e2e"])));
    browser_step(&mut steps, "console of a real node, in Chromium", &[CHROMIUM], || {
        let (phalanx, shop) = (place::built("debug", "phalanx"), place::built("debug", "phalanx-demo-shop"));
        must(node("tests/browser/console.mjs").arg(phalanx).arg(shop))
    });
    browser_step(&mut steps, "operators sign in, in Chromium", &[CHROMIUM], || {
        must(node("tests/browser/operators.mjs").arg(place::built("debug", "phalanx")))
    });
    steps.run("operators sign in by a provider", || {
        provider_ci()?;
        must(node("tests/oidc/login.mjs").arg(place::built("debug", "phalanx")))
    });
    browser_step(&mut steps, "operators sign in by a provider, in Chromium", &[CHROMIUM], || {
        must(node("tests/browser/oidc.mjs").arg(place::built("debug", "phalanx")))
    });
    browser_step(&mut steps, "a ticket and a ban through three nodes, in Chromium", &[CHROMIUM], || {
        let (phalanx, shop) = (place::built("debug", "phalanx"), place::built("debug", "phalanx-demo-shop"));
        must(node("tests/browser/fleet.mjs").arg(phalanx).arg(shop).arg(NATS_SERVER.path()?))
    });
    browser_step(&mut steps, "nodes invited, drained, revoked, in Chromium", &[CHROMIUM], || {
        must(node("tests/browser/nodes.mjs").arg(place::built("debug", "phalanx")).arg(NATS_SERVER.path()?))
    });
    browser_step(&mut steps, "images on a page elsewhere, in Chromium", &[CHROMIUM], || {
        must(node("tests/browser/crosssite.mjs").arg(place::built("debug", "phalanx")))
    });
    browser_step(&mut steps, "HTTPS and compressed pages, in Chromium", &[CHROMIUM], || {
        must(node("tests/browser/tls.mjs").arg(place::built("debug", "phalanx")))
    });
    browser_step(&mut steps, "a challenge and its page, in Chromium", &[CHROMIUM], || {
        must(node("tests/browser/challenge.mjs").arg(place::built("debug", "phalanx")))
    });
    steps.run("requests on which two servers could disagree", || {
        let run = Path::new("tests/framing/run.py");
        must(
            Command::new("python3").current_dir(place::root()).arg(run).arg(place::built("debug", "phalanx")),
        )
    });
    Ok(steps.finish())
}

/// What can be checked without the console and the whole system.
pub(crate) fn check() -> anyhow::Result<ExitCode> {
    let mut steps = Steps::new();
    check_steps(&mut steps);
    Ok(steps.finish())
}

/// Checks, tests and builds the console.
pub(crate) fn console() -> anyhow::Result<ExitCode> {
    console_steps()?;
    Ok(ExitCode::SUCCESS)
}

/// Fetches what tests and demo need.
pub(crate) fn fetch() -> anyhow::Result<ExitCode> {
    for tool in [NATS_SERVER, CARGO_DENY, MDBOOK] {
        println!("{}", tool.path()?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Plays simulated traffic; the simulator says itself what it takes. With `--real` against three nodes, whose program says what that takes.
pub(crate) fn sim(arguments: &[String]) -> anyhow::Result<ExitCode> {
    if arguments.iter().any(|word| word == "--real") {
        must(&mut cargo(["build", "--quiet", "--package", "phalanx-learn", "--example", "sim"]))?;
        if !arguments.iter().any(|word| word == "--phalanx") {
            must(&mut cargo(["build", "--quiet", "--package", "phalanx"]))?;
        }
        let status = field(arguments)?.status().context("cannot start python3")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut run = cargo(["run", "--quiet", "--package", "phalanx-learn", "--example", "sim", "--"]);
    let status = run.args(arguments).status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The simulator's scenarios against real nodes, of what has been built.
fn field(arguments: impl IntoIterator<Item = impl AsRef<str>>) -> anyhow::Result<Command> {
    let mut run = Command::new("python3");
    run.current_dir(place::root()).arg("tests/seeing/run.py").arg("--nats-server").arg(NATS_SERVER.path()?);
    run.arg("--phalanx").arg(place::built("debug", "phalanx"));
    run.arg("--sim").arg(place::built("debug", "examples/sim"));
    arguments
        .into_iter()
        .filter(|word| word.as_ref() != "--real")
        .for_each(|word| _ = run.arg(word.as_ref()));
    Ok(run)
}

/// Runs the tidy checks alone.
pub(crate) fn tidy() -> anyhow::Result<ExitCode> {
    let failed = tidy_faults()?;
    println!("\ntidy: {} passed, {failed} failed", tidiness::CHECKS.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many checks found something.
fn tidy_faults() -> anyhow::Result<usize> {
    let mut failed = 0;
    for check in tidiness::CHECKS {
        let faults = (check.run)(&place::root())?;
        println!("{} {}", if faults.is_empty() { "ok    " } else { "FAILED" }, check.name);
        for fault in &faults {
            println!("         {fault}");
        }
        failed += usize::from(!faults.is_empty());
    }
    Ok(failed)
}

fn check_steps(steps: &mut Steps) {
    steps.run("fetch tools", || fetch().map(|_| ()));
    // Its checks are tests, too; here they are told before anything is built.
    steps.run("tidy", || match tidy_faults()? {
        0 => Ok(()),
        failed => bail!("{failed} checks found something"),
    });
    steps.run("format", || must(&mut cargo(["fmt", "--all", "--check"])));
    steps.run("licences, bans, sources", || {
        let mut deny = Command::new(CARGO_DENY.path()?);
        deny.current_dir(place::root()).args(["--all-features", "--locked", "--log-level", "error", "check"]);
        must(deny.args(["bans", "licenses", "sources"]))
    });
    steps.skip(
        "advisories",
        "needs the RustSec database from the network; `cargo deny check advisories` runs it",
    );
    steps.run("clippy", || {
        must(&mut cargo(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    // The record alone, beside what the workspace has: features of the record's own choice would build all below it a second time.
    steps.run("traces for a collector", || {
        let of_record =
            ["--locked", "--workspace", "--features", "phalanx-record/otel", "--test", "recorder"];
        must(cargo(["clippy"]).args(of_record).args(["--", "-D", "warnings"]))?;
        must(cargo(["test"]).args(of_record).arg("spans"))
    });
    steps.run("documentation", || {
        must(
            cargo(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"])
                // Private items are documented here too, so links to them lead somewhere.
                .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"),
        )
    });
    // All targets in one go: black-box tests start the programs, and building those apart would choose other features.
    steps.run("build", || must(&mut cargo(["build", "--locked", "--workspace", "--all-targets"])));
    steps.run("unit, integration and black-box tests", || {
        rerun::tests(|names| {
            let mut test = cargo(["test", "--locked", "--workspace", "--no-fail-fast"]);
            if !names.is_empty() {
                test.args(["--", "--exact"]).args(names);
            }
            test.env("PHALANX_NATS_SERVER", NATS_SERVER.path()?)
                .env("PHALANX_BIN", place::built("debug", "phalanx"))
                .env("PHALANX_DEMO_SHOP", place::built("debug", "phalanx-demo-shop"));
            Ok(test)
        })
    });
}

/// Runs a rule set's go-ftw tests through the engine; any failure fails the step.
fn rule_tests(folder: &Path, rules: &str, tests: &str) -> anyhow::Result<()> {
    let mut ftw = Command::new(place::built("debug", "phalanx"));
    ftw.current_dir(place::root()).args(["waf", "ftw", "--rules"]).arg(folder.join(rules));
    must(ftw.arg("--tests").arg(folder.join(tests)))
}

/// Runs a step that needs Debian packages; without them it is skipped, but in CI, which has them, it fails.
fn browser_step(
    steps: &mut Steps,
    name: &str,
    needs: &[(&str, &str)],
    step: impl FnOnce() -> anyhow::Result<()>,
) {
    match needs.iter().find(|(path, _)| !Path::new(path).exists()) {
        None => steps.run(name, step),
        Some((_, package)) if std::env::var_os("CI").is_none() => {
            steps.skip(name, &format!("{package} not installed"));
        }
        Some((_, package)) => steps.run(name, || bail!("CI has no {package}")),
    }
}

/// What a browser step needs: a path, and the Debian package that brings it.
const CHROMIUM: (&str, &str) = ("/usr/bin/chromium", "chromium");

fn console_steps() -> anyhow::Result<()> {
    npm_ci()?;
    must(&mut npm(["run", "check"]))?;
    must(&mut npm(["test"]))?;
    must(&mut npm(["run", "build"]))
}

pub(crate) fn build_console() -> anyhow::Result<()> {
    npm_ci()?;
    must(&mut npm(["run", "build"]))
}

/// Installs exactly what the lock file says, unless that was done for this very lock file.
fn npm_ci() -> anyhow::Result<()> {
    install("console")
}

/// The same for the identity provider of tests.
fn provider_ci() -> anyhow::Result<()> {
    install("tests/oidc")
}

fn install(folder: &str) -> anyhow::Result<()> {
    let folder = place::root().join(folder);
    if is_newer(&folder.join("node_modules/.package-lock.json"), &folder.join("package-lock.json")) {
        return Ok(());
    }
    let mut ci = Command::new("npm");
    must(ci.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))
        .context("needs node and npm (Debian: apt-get install npm)")
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    matches!((modified(file), modified(than)), (Some(file), Some(than)) if file >= than)
}

fn npm<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(place::root().join("console"));
    command
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script).current_dir(place::root());
    command
}
