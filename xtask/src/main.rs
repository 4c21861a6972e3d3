//! `cargo xtask`: the project's own tasks, so that a clone needs Rust, Node and Python and no other instruction.
//!
//! A task is a list of steps; a step runs one program and is timed. What is fetched goes into `target/tools`, with version and
//! hash pinned. INVARIANT: nothing outside the clone is written, but for the caches of cargo, npm and pip.

mod bench;
mod book;
mod dist;
mod mixed;
mod place;
mod rerun;
mod soak;
mod steps;
mod tasks;
mod tidy;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let task = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let done = match task.as_str() {
        "demo" => tasks::demo(&rest),
        "test" => tasks::test(),
        "check" => tasks::check(),
        "console" => tasks::console(),
        "fetch" => tasks::fetch(),
        "bench" => bench::bench(&rest),
        "dist" => dist::dist(&rest),
        "mixed" => mixed::mixed(&rest),
        "soak" => soak::soak(&rest),
        "sim" => tasks::sim(&rest),
        "book" => book::book(),
        "tidy" => tasks::tidy(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
usage: cargo xtask TASK

  demo [ARGS]  build the console and the release binary, fetch nats-server, run `phalanx demo ARGS`
  test         everything CI runs: check, console, black-box tests, the demo's scenario
  check        formatting, tidy, clippy, documentation, licences and bans, unit and integration tests
  console      check, test and build the console into console/dist
  fetch        nats-server, cargo-deny and mdbook into target/tools, version and hash pinned
  bench        `instructions [--bless]`: instructions per request against the committed figures; `waf`: beside libmodsecurity
  soak         every fuzz target: [--minutes N | --each SECONDS] [TARGET...]; or `--fleet-seeds N`: the simulated fleet
  mixed        fleets of two versions: tests with a binary of an earlier revision, the last tag's by default: [REVISION]
  sim          SCENARIO|all: simulated traffic before learners that tell each other [--seed S] [--sharing off] [--nodes N] [--json]
               SCENARIO --real: the same against three nodes in network namespaces (root)
  dist         .deb, folder for a container, bill of materials and checksums, in target/dist; `--trial`: tries a package
  book         the documents as a book with generated reference pages, links checked, in target/book/html
  tidy         dependency direction and file hygiene
";
