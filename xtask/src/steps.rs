//! Steps: programs that are run one after the other, timed, and summed up in a table at the end.
//!
//! Two lists of steps may run beside each other. What a step prints is then kept until it ends, in `target/steps`, and printed whole.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::place;

/// What ran so far. A step that fails does not keep the others from running: a broken format should not hide a broken test.
#[derive(Debug)]
pub(crate) struct Steps {
    done: Vec<Done>,
    started: Instant,
    /// Where the output of a step is kept until it ends; none if it is printed as it comes.
    kept: Option<PathBuf>,
}

thread_local! {
    /// Where what a step of this thread says goes, if not to the terminal.
    static KEPT: RefCell<Option<File>> = const { RefCell::new(None) };
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
        Self { done: Vec::new(), started: Instant::now(), kept: None }
    }

    /// Runs one step; prints why if it fails.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<()>) {
        let started = Instant::now();
        let result = match self.kept.clone() {
            None => told(name, step),
            Some(path) => kept(&path, || told(name, step)),
        };
        let end = if result.is_ok() { End::Passed } else { End::Failed };
        self.done.push(Done { name: name.to_owned(), took: started.elapsed(), end });
    }

    /// Runs two lists of steps at the same time; the table tells the first one's first.
    pub(crate) fn beside(&mut self, first: impl FnOnce(&mut Self), second: impl FnOnce(&mut Self) + Send) {
        let lane = |name: &str| Self { kept: Some(output_file(name)), ..Self::new() };
        let (mut one, mut other) = (lane("first"), lane("second"));
        std::thread::scope(|scope| {
            scope.spawn(|| second(&mut other));
            first(&mut one);
        });
        self.done.extend(one.done);
        self.done.extend(other.done);
    }

    /// Notes a step that cannot run here, and why.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        say(format_args!("\n=== skipped: {name}: {why}"));
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

/// Runs a step and says how it goes.
fn told(name: &str, step: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    say(format_args!("\n=== {name}"));
    step().inspect_err(|error| say(format_args!("=== {name} failed: {error:#}")))
}

/// Runs a step whose output goes into a file, and prints that whole at its end.
fn kept(path: &Path, step: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let result = keep_in(path).and_then(|()| step());
    KEPT.take();
    // Output of programs need not be text in UTF-8.
    let text = std::fs::read(path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&text).and_then(|()| out.flush());
    result
}

/// Of this process: tests of these tasks run while a task runs them.
fn output_file(list: &str) -> PathBuf {
    place::target().join("steps").join(format!("{list}-{}.log", std::process::id()))
}

fn keep_in(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    // Several processes write to it, each at its end.
    std::fs::create_dir_all(folder)
        .and_then(|()| File::create(path))
        .and_then(|_| File::options().append(true).open(path))
        .map(|file| KEPT.set(Some(file)))
        .with_context(|| path.display().to_string())
}

/// Prints a line, or keeps it with what else the step says.
pub(crate) fn say(line: impl Display) {
    KEPT.with_borrow_mut(|kept| match kept {
        Some(file) => _ = writeln!(file, "{line}"),
        None => println!("{line}"),
    });
}

/// Where a program's output goes.
fn output() -> Stdio {
    let file = KEPT.with_borrow(|kept| kept.as_ref().and_then(|file| file.try_clone().ok()));
    file.map_or_else(Stdio::inherit, Stdio::from)
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
    say(format_args!("$ {shown}"));
    let status = command
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
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
    fn steps_beside_each_other_are_one_table_and_each_keeps_its_output_together() {
        let (file, mut text) = (output_file("test"), String::new());
        let result = kept(&file, || {
            say("first");
            must(Command::new("sh").args(["-c", "echo out; echo err >&2"]))?;
            say("last");
            text = std::fs::read_to_string(&file)?;
            Ok(())
        });
        result.unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["first", "$ sh -c echo out; echo err >&2", "out", "err", "last"]
        );
        assert!(KEPT.take().is_none(), "the next step says to the terminal what it says");
        assert!(!file.exists());
        let mut steps = Steps::new();
        let (say, hear) = std::sync::mpsc::sync_channel::<&str>(1);
        steps.beside(
            // Would wait for ever were they run in turn.
            |first| first.run("wait", || bail!(hear.recv()?)),
            |second| second.run("tell", || Ok(say.send("go on")?)),
        );
        assert!(steps.table().ends_with("steps: 1 passed, 1 failed, 0 skipped\n"));
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
