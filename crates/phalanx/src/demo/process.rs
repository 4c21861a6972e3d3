//! A child process: started in a group of its own, so that Ctrl-C reaches us and we end it; never left behind.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// A running program. Dropped, it is killed; [`Process::end`] is the friendly way.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts a program; what it says on stderr goes to the file `log`.
    pub(super) fn start(name: &str, mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).process_group(0).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {name} ({program})"))?;
        let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { name: name.to_owned(), child, log, lines })
    }

    /// The first line it prints; the rest is read and dropped, so that it never blocks on a full pipe.
    pub(super) async fn first_line(&mut self) -> anyhow::Result<String> {
        let Some(mut lines) = self.lines.take() else {
            bail!("the first line of {} was read before", self.name);
        };
        let line = timeout(START_WITHIN, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            bail!("{} did not start; it says:\n{}", self.name, self.log_tail());
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(line)
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Resolves when the program has ended, with what it said last.
    pub(super) async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        format!("{} ended with {status}; it says:\n{}", self.name, self.log_tail())
    }

    /// Asks it to end (SIGTERM), waits, and kills it if it does not.
    pub(super) async fn end(&mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended a moment ago; then there is nobody to tell.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(END_WITHIN, self.child.wait()).await.is_err() {
            eprintln!("{} does not end when asked to; it is killed", self.name);
            self.kill().await;
        }
    }

    /// Kills it, as a power cut would.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        tail.iter().map(|line| format!("    {line}\n")).collect()
    }
}

const START_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(10);
const LOG_LINES_SHOWN: usize = 12;
