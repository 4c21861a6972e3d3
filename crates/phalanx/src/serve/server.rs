//! The nats-server process: found, started, its log passed on, reloaded, stopped.
//!
//! It must not outlive who started it. Between the two stands a moment of our own binary (`fleet nats-child`) that asks the kernel
//! to be told when its parent is gone, and becomes nats-server; the wish survives that.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use phalanx_record::escape::for_terminal;
use phalanx_trust::nats_config::{CONFIG, PID};
use rustix::process::{
    Pid, Signal, getppid, kill_process, set_parent_process_death_signal, test_kill_process,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, sleep, timeout};

/// Arguments of `fleet nats-child`, which `fleet serve` runs itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChildArgs {
    /// Who must live for it to live
    #[arg(long)]
    parent: i32,
    /// What to become
    binary: PathBuf,
    /// Its configuration
    config: PathBuf,
}

/// Becomes nats-server. Returns only if that fails.
pub(crate) fn child(args: &ChildArgs) -> anyhow::Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have gone before the wish was made.
    if getppid().map(Pid::as_raw_nonzero).map(std::num::NonZeroI32::get) != Some(args.parent) {
        bail!("who started nats-server is gone");
    }
    let error = std::process::Command::new(&args.binary).arg("-c").arg(&args.config).exec();
    Err(error).with_context(|| format!("cannot run {}", args.binary.display()))
}

/// Why a server is no more.
pub(super) struct Ended {
    /// As a sentence goes on after "nats-server".
    pub(super) how: String,
    /// Whether it served before.
    pub(super) was_ready: bool,
}

/// A running nats-server. It ends when this is dropped.
pub(super) struct Server {
    child: Child,
}

impl Server {
    pub(super) fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let myself = std::env::current_exe().context("cannot find this very binary")?;
        let mut command = Command::new(myself);
        command.args(["fleet", "nats-child", "--parent", &std::process::id().to_string()]);
        command.arg(binary).arg(folder.join(CONFIG));
        // A terminal's Ctrl-C is for who supervises.
        command.process_group(0).kill_on_drop(true);
        let piped = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = piped.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        if let Some(log) = child.stderr.take() {
            tokio::spawn(pass_on(log));
        }
        Ok(Self { child })
    }

    /// Resolves when it ends.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("cannot be waited for ({error})"),
        }
    }

    /// Has it read its configuration again.
    pub(super) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Ends it: what is acknowledged is on disk already, so that it need not be asked twice for long.
    pub(super) async fn stop(mut self) {
        self.signal(Signal::TERM);
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process(id, signal);
        }
    }
}

/// The server's log, line by line, into this process' own.
async fn pass_on(log: ChildStderr) {
    let mut lines = BufReader::new(log);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let (level, said) = told(text.trim_end());
        let said = for_terminal(said);
        match level {
            Level::Error => tracing::error!("nats-server: {said}"),
            Level::Warning => tracing::warn!("nats-server: {said}"),
            Level::Information => tracing::info!("nats-server: {said}"),
            Level::Detail => tracing::debug!("nats-server: {said}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warning,
    Information,
    Detail,
}

/// `[71] 2026/08/01 12:00:00.000000 [INF] text`: the level and the text.
fn told(line: &str) -> (Level, &str) {
    let marks = [
        ("[ERR] ", Level::Error),
        ("[FTL] ", Level::Error),
        ("[WRN] ", Level::Warning),
        ("[INF] ", Level::Information),
        ("[DBG] ", Level::Detail),
        ("[TRC] ", Level::Detail),
    ];
    let found = marks.iter().filter_map(|(mark, level)| {
        let (head, said) = line.split_once(mark)?;
        // A mark further on is somebody's text.
        (head.len() <= HEAD_BYTES_MAX).then_some((*level, said))
    });
    // What is no line of its log is what it says when it cannot start.
    found.min_by_key(|(_, said)| std::cmp::Reverse(said.len())).unwrap_or((Level::Warning, line))
}

/// The binary to run.
pub(super) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return named.canonicalize().with_context(|| format!("--nats-server {}", named.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    found
        .context("there is no nats-server in PATH; install it (2.15 or later), or name it with --nats-server")
}

/// Ends a nats-server that an earlier `serve` left behind. The kernel tells it when its parent is gone, so it should be on its way.
pub(super) async fn end_left_over(folder: &Path) -> anyhow::Result<()> {
    let Some(left) = left_over(folder) else { return Ok(()) };
    tracing::info!(pid = left.as_raw_nonzero(), "a nats-server of an earlier run still runs; ending it");
    for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
        if let Some(signal) = signal {
            let _ = kill_process(left, signal);
        }
        let until = Instant::now() + if signal.is_none() { GOING } else { STOP_MAX };
        while Instant::now() < until {
            if test_kill_process(left).is_err() || left_over(folder) != Some(left) {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }
    bail!(
        "process {} is a nats-server with this configuration and does not end; end it",
        left.as_raw_nonzero()
    )
}

/// The process that the folder's pid file names, if it is a server with the folder's configuration.
fn left_over(folder: &Path) -> Option<Pid> {
    let id: i32 = std::fs::read_to_string(folder.join(PID)).ok()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let config = folder.join(CONFIG);
    let config = config.as_os_str().as_encoded_bytes();
    command.split(|byte| *byte == 0).any(|word| word == config).then(|| Pid::from_raw(id)).flatten()
}

const STOP_MAX: Duration = Duration::from_secs(10);
const GOING: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LINE_BYTES_MAX: u64 = 4096;
/// Process id and time.
const HEAD_BYTES_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_line_is_where_the_server_writes_it() {
        for (line, level, said) in [
            ("[71] 2026/08/01 12:00:00.000000 [INF] Server is ready", Level::Information, "Server is ready"),
            ("[71] 2026/08/01 12:00:00.000000 [ERR] no [INF] here", Level::Error, "no [INF] here"),
            ("nats-server: conf.txt:1: parse error", Level::Warning, "nats-server: conf.txt:1: parse error"),
            ("", Level::Warning, ""),
        ] {
            assert_eq!(told(line), (level, said));
        }
    }
}
