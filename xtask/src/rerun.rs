//! Tests that start real servers on a busy machine fail at times for what is not the code's fault. A few that fail are run once more, by
//! themselves, and told as unsteady if they pass: seen by everybody, and no reason to throw a landing away.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// More than this many failing at once are no accident.
const AGAIN_MAX: usize = 3;

/// Runs tests made by `command` (given the names to run, or none for all) to their end. An error names those that failed, twice where
/// they were few.
pub(crate) fn tests(command: impl Fn(&[String]) -> anyhow::Result<Command>) -> anyhow::Result<()> {
    let first = run(&mut command(&[])?)?;
    if first.success {
        return Ok(());
    }
    if !first.is_whole() {
        bail!("tests were not built, or did not run to their end");
    }
    let names = first.failed.join(", ");
    if first.failed.len() > AGAIN_MAX {
        bail!("failed: {names}");
    }
    println!("=== once more, by themselves: {names}");
    let again = run(&mut command(&first.failed)?)?;
    if !again.success {
        bail!("failed twice: {names}");
    }
    println!("=== unsteady, failed once and passed when run again: {names}");
    Ok(())
}

/// What a run of several test programs printed.
#[derive(Debug, Default)]
struct Ran {
    success: bool,
    failed: Vec<String>,
    /// Programs that began, that came to their end, and what these counted as failed.
    began: usize,
    ended: usize,
    counted: usize,
}

impl Ran {
    /// Every program came to its end, and each failure has a name.
    fn is_whole(&self) -> bool {
        !self.failed.is_empty() && self.began == self.ended && self.counted == self.failed.len()
    }

    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["running", _, "test" | "tests"] => self.began += 1,
            ["test", "result:", "ok.", ..] => self.ended += 1,
            ["test", "result:", "FAILED.", _, "passed;", failed, ..] => {
                self.ended += 1;
                self.counted += failed.parse::<usize>().unwrap_or_default();
            }
            ["test", name @ .., "...", "FAILED"] => self.failed.push(name.join(" ")),
            _ => {}
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<Ran> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("the output of cargo cannot be read")?;
    let mut ran = Ran::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("the output of cargo cannot be read")?;
        println!("{line}");
        ran.read(&line);
    }
    ran.success = child.wait()?.success();
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(text: &str) -> Ran {
        let mut ran = Ran::default();
        text.lines().for_each(|line| ran.read(line));
        ran
    }

    /// A command that prints one text when all are asked for and another for some, and fails as this says.
    fn printing(all: (&'static str, i32), some: (&'static str, i32)) -> anyhow::Result<()> {
        tests(move |names| {
            let (text, code) = if names.is_empty() { all } else { some };
            let mut command = Command::new("sh");
            command.args(["-c", &format!("printf '{text}'; exit {code}")]);
            Ok(command)
        })
    }

    const ONE: &str = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n";

    #[test]
    fn a_test_that_passes_the_second_time_fails_nothing() {
        let good = "running 1 test\ntest a::c ... ok\ntest result: ok. 1 passed; 0 failed\n";
        printing((ONE, 101), (good, 0)).unwrap();
        let error = printing((ONE, 101), (ONE, 101)).unwrap_err();
        assert_eq!(error.to_string(), "failed twice: a::c");
    }

    #[test]
    fn many_failures_a_crash_and_what_was_not_built_are_no_accident() {
        let crashed = format!("{ONE}running 3 tests\ntest d ... ok\n");
        assert!(
            !ran(&crashed).is_whole() && ran(ONE).is_whole() && !ran("error: could not compile").is_whole()
        );
        let many = "running 4 tests\ntest a ... FAILED\ntest b ... FAILED\ntest c ... FAILED\ntest d ... FAILED\ntest result: FAILED. 0 passed; 4 failed; 0 ignored\n";
        let error = printing((many, 101), ("", 0)).unwrap_err();
        assert_eq!(error.to_string(), "failed: a, b, c, d");
    }
}
