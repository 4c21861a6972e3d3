//! Steps: programs that are run one after the other, timed, and summed up in a table at the end.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::place;

/// What ran so far. A step that fails does not keep the others from running: a broken format should not hide a broken test.
#[derive(Debug)]
pub(crate) struct Steps {
    done: Vec<Done>,
    started: Instant,
}

#[derive(Debug)]
struct Done {
    name: String,
    took: Duration,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    Skipped,
}

impl Steps {
    /// No step yet.
    pub(crate) fn new() -> Self {
        Self { done: Vec::new(), started: Instant::now() }
    }

    /// Runs one step; prints why if it fails.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<()>) {
        println!("\n=== {name}");
        let started = Instant::now();
        let result = step();
        if let Err(error) = &result {
            println!("=== {name} failed: {error:#}");
        }
        let end = if result.is_ok() { End::Passed } else { End::Failed };
        self.done.push(Done { name: name.to_owned(), took: started.elapsed(), end });
    }

    /// Notes a step that cannot run here, and why.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("\n=== skipped: {name}: {why}");
        self.done.push(Done { name: name.to_owned(), took: Duration::ZERO, end: End::Skipped });
    }

    /// Prints the table, and the count in the form that test runners close with.
    pub(crate) fn finish(self) -> ExitCode {
        print!("\n{}", self.table());
        if self.count(&End::Failed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn table(&self) -> String {
        let mut table = format!("{:<40} {:>9}  result\n", "step", "time");
        for done in &self.done {
            let took = format!("{:.1} s", done.took.as_secs_f64());
            let end = match done.end {
                End::Passed => "ok",
                End::Failed => "FAILED",
                End::Skipped => "skipped",
            };
            let _ = writeln!(table, "{:<40} {took:>9}  {end}", done.name);
        }
        let all = format!("{:.1} s", self.started.elapsed().as_secs_f64());
        let _ = writeln!(table, "{:<40} {all:>9}", "all");
        let _ = writeln!(
            table,
            "\nsteps: {} passed, {} failed, {} skipped",
            self.count(&End::Passed),
            self.count(&End::Failed),
            self.count(&End::Skipped)
        );
        table
    }

    fn count(&self, end: &End) -> usize {
        self.done.iter().filter(|done| done.end == *end).count()
    }
}

/// `cargo` with these arguments, in the clone's top folder.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(place::root());
    command
}

/// Runs a program to its end; an error unless it exits with 0.
pub(crate) fn must(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{}`", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// The command as one would type it, without its environment.
fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_task_and_the_others_still_run() {
        let mut steps = Steps::new();
        steps.run("first", || bail!("broken"));
        steps.run("second", || Ok(()));
        steps.skip("third", "not here");
        assert!(steps.table().ends_with("steps: 1 passed, 1 failed, 1 skipped\n"));
        assert_eq!(steps.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn a_program_that_fails_is_named() {
        let error = must(&mut Command::new("false")).unwrap_err();
        assert!(error.to_string().starts_with("`false` ended with"), "{error}");
        let error = must(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("cannot start `no-such-program-here`"), "{error}");
    }
}
